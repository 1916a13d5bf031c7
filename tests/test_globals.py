"""What a library must not do: change what is global in the process that calls it."""

import logging
import os
import random
import subprocess
import sys
import warnings
from pathlib import Path

import jsonargparse
import numpy as np
import pytest
import torch

from skelcl.commands.evaluate import evaluate
from skelcl.commands.export import export_checkpoint
from skelcl.recognition.predictor import Predictor
from skelcl.runs.config import resolved_config
from skelcl.runs.loading import load

RUN = Path(__file__).parents[1] / "experiments" / "pretrain" / "as_cal-nw_ucla.yaml"


def snapshot():
    """All that is global and that a run sets."""
    loggers = [
        "",
        "lightning",
        "lightning.pytorch",
        "lightning.pytorch.utilities.rank_zero",
        "torch.onnx",
        "py.warnings",
    ]
    parsing = jsonargparse._common.parsing_settings
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002 (other libraries draw from it)
        "torch": torch.get_rng_state().tolist(),
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "show": warnings.showwarning,
        "loggers": {
            name: (one.level, one.disabled, one.propagate, list(one.filters), list(one.handlers))
            for name in loggers
            for one in [logging.getLogger(name)]
        },
        "dtype": torch.get_default_dtype(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "grad": torch.is_grad_enabled(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark),
        "products": torch.get_float32_matmul_precision(),
        "parsing": {name: str(value) for name, value in parsing.items()},
        "errors": np.geterr(),
        "arguments": list(sys.argv),
        "folder": os.getcwd(),
        "excepthook": sys.excepthook,
        "safe globals": set(torch.serialization.get_safe_globals()),
    }


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, drawn_checkpoint):
    folder = tmp_path_factory.mktemp("globals")
    return drawn_checkpoint(
        folder / "own.ckpt", "pretrain/as_cal-nw_ucla.yaml", "--model.encoder.hidden=8", "--model.queue_size=32"
    )


def predict(path):
    Predictor(path, neighbours=1).predict(np.random.default_rng(0).normal(size=(20, 25, 3)))


def fail(path):
    with pytest.raises(ValueError, match="other skeletons, persons"):
        load(path, changes={"data": {"class_path": "Synthetic", "init_args": {**PEOPLE, "root": str(path.parent)}}})


PEOPLE = {"subjects": 4, "replications": 1, "actions": ["walk around", "throw", "handshake"], "num_persons": 1}
ENTRIES = {
    "Predictor": predict,
    "load": load,
    "load without weights": lambda path: load(path, weights=False),
    "load that fails": fail,
    "evaluate": lambda path: evaluate(path, ["collapse"], seeds="0", output=path.parent / "out"),
    "export": lambda path: export_checkpoint(path, "onnx", path.parent / "x.onnx", overwrite=True),
    "resolved_config": lambda path: resolved_config(["--config", str(RUN)]),
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("seeded", [False, True])
def test_nothing_global_changes(checkpoint, monkeypatch, entry, seeded):
    if seeded:
        monkeypatch.setenv("PL_GLOBAL_SEED", "77")
        monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(5)
    try:
        before = snapshot()
        ENTRIES[entry](checkpoint)
        after = snapshot()
    finally:
        torch.use_deterministic_algorithms(False)
    for name, value in before.items():
        assert after[name] == value, name


def test_load_reference_draws_nothing_from_the_caller():
    from skelcl.interop import load_reference
    from skelcl.interop.reference import NETWORKS
    from skelcl.skeleton import NTU25

    torch.manual_seed(3)
    module, layout = NETWORKS["ctr-gcn"](NTU25, 3, 64, 2)
    state = layout.dump(module)
    before = snapshot()
    load_reference("ctr-gcn", state, num_classes=3)
    after = snapshot()
    for name, value in before.items():
        assert after[name] == value, name


def test_what_is_loaded_does_not_depend_on_the_caller(checkpoint):
    """Initial weights are those of the run's own seed, whatever the caller has drawn or set."""
    torch.manual_seed(1)
    first, _ = load(checkpoint, weights=False)
    torch.manual_seed(2)
    second, _ = load(checkpoint, weights=False)
    for (name, one), (_, other) in zip(first.state_dict().items(), second.state_dict().items(), strict=True):
        assert torch.equal(one, other), name


SCRIPT = """
import logging, os, random, sys, warnings
import numpy as np
import torch
import jsonargparse, lightning.pytorch, lightning.pytorch.cli
state = lambda: (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), dict(os.environ),
    list(warnings.filters), logging.getLogger().level, logging.getLogger().handlers,
    logging.getLogger("lightning.pytorch.utilities.rank_zero").filters, torch.get_default_dtype(),
    torch.get_num_threads(), sys.excepthook, np.geterr())
before = state()
import importlib, pkgutil
import skelcl
for module in pkgutil.walk_packages(skelcl.__path__, "skelcl."):
    if module.name not in ("skelcl.__main__",):
        importlib.import_module(module.name)
after = state()
print([place for place, (one, other) in enumerate(zip(before, after)) if one != other])
"""


@pytest.mark.slow
def test_importing_changes_nothing():
    """Of what skelcl itself does: libraries that it imports are imported before."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
