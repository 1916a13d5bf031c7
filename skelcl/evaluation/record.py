"""``results.json``: what a test found, and all that one must know of its run to compare it with another."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

from skelcl.evaluation.configs import config_of, parsed_config
from skelcl.evaluation.features import named_clips
from skelcl.evaluation.provenance import (
    SplitClips,
    TrainedOn,
    TrainOverlap,
    changed,
    ids_digest,
    label_facts,
    read_content,
    read_facts,
    train_overlap,
    without_tensors,
)
from skelcl.files import atomic_write
from skelcl.runs.trust import CONFIG_KEY
from skelcl.seeding import run_seed
from skelcl.transforms.normalize import versions
from skelcl.transforms.streams import Stream

REFERENCE_KEY = "skelcl_reference"
"""Where a checkpoint says which network of others its weights are."""
RUN_KEY = "skelcl_run"
"""Where a checkpoint carries how long and on what it was trained."""
UNTRAINED = "not trained"
"""How the choice of an epoch begins where there was none to choose."""
PACKAGES = ("torch", "lightning", "numpy")
"""Packages on whose versions numbers may depend."""
IRRELEVANT = {
    "": (
        "seed_everything", "config", "ckpt_path", "weights_only", "verbose", "return_predictions",
        "checkpoint", "features",
    ),
    "data.init_args": (
        "root", "num_workers", "preload", "predict_split", "subset_seed", "accept_changed", "accept_seen",
    ),
    "evaluation": ("figures",),
    "supervised": ("figures",),
}  # fmt: skip
"""Keys of a config, by the place that holds them, without a say in what a run is but its seed or its folders."""
TRAINER = (
    "max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "limit_train_batches", "limit_test_batches",
    "overfit_batches", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "precision",
    "devices", "num_nodes", "sync_batchnorm", "fast_dev_run",
)  # fmt: skip
"""Keys of the trainer that have such a say."""


def write_results(
    directory: Path | None,
    trainer: pl.Trainer,
    pl_module: pl.LightningModule,
    results: Mapping[str, Any],
    tested: Tensor,
    labelled: Tensor | None = None,
) -> list[str]:
    """Write ``results.json``.

    Args:
        directory: Folder of the run; None writes nothing.
        trainer: Knows checkpoint, data and config.
        pl_module: The method that was tested.
        results: What the protocol found, and its settings.
        tested: Store positions of the tested clips, (N,).
        labelled: Store positions of the clips with labels, (L,); None for the training part.

    Returns:
        The :func:`remarks` that belong to every table of these results.
    """
    path = str(trainer.ckpt_path) if trainer.ckpt_path else None
    config = config_of(trainer)
    callbacks: list[object] = list(trainer.callbacks)  # type: ignore[attr-defined]  # missing from its annotations
    facts = next((one.so_far(trainer) for one in callbacks if isinstance(one, TrainedOn)), {})
    run = run_record(
        pl_module,
        named_clips(trainer),
        path,
        tested.tolist(),
        None if labelled is None else labelled.tolist(),
        config=config,
        precision=str(trainer.precision),
        facts=facts if path is None else None,
    )
    if path is None:
        run |= {"epochs": trainer.current_epoch, "steps": trainer.global_step}
        if not trainer.global_step:
            # Python may have loaded weights by itself.
            run["selection"] = f"{UNTRAINED} (as initialised)" if config else "not known"
    if directory is not None:
        save_record(directory / "results.json", pl_module, path, results, run)
    return remarks(run)


def remarks(run: Mapping[str, Any]) -> list[str]:
    """What a table must say beside its numbers: a network that was never trained, clips that it was trained on.

    Args:
        run: What :func:`run_record` gives.
    """
    data = run["data"] or {}
    lines = []
    if str(run.get("selection")).startswith(UNTRAINED):
        lines.append(f"{run['selection']}: the weights are random")
    if (seen := describe_overlap(data)) not in ("none", "not known"):
        lines.append(f"of the {data['test_clips']} test clips {seen} were among those that the network was trained on")
    if changes := data.get("changes"):
        lines.append(f"clips of {data['name']} are not seen as they are stored: {'; '.join(changes)}")
    if data.get("changed"):
        lines.append(f"the store {data['name']} is not the one that the network was trained on")
    return lines


def describe_overlap(data: Mapping[str, Any]) -> str:
    """How many test clips were trained on, by what a record says of its data: ``none``, or ``not known``."""
    seen = data.get("seen")
    return "not known" if not seen else str(TrainOverlap(int(data["test_clips"]), **seen))


def save_record(
    file: Path, pl_module: pl.LightningModule, path: str | None, results: Mapping[str, Any], run: Mapping[str, Any]
) -> None:
    """Write a file of results: the whole or nothing.

    Args:
        file: Its name.
        pl_module: The method that was tested.
        path: Checkpoint.
        results: What the protocols found, and their settings.
        run: What :func:`run_record` gives.
    """
    record = {
        "method": type(pl_module).__name__,
        "checkpoint": path,
        "selection": run["selection"],
        **results,
        "run": run,
    }
    with atomic_write(file) as part:
        part.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def with_protocols(
    run: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]
) -> dict[str, Any]:
    """A run as some protocols judged it: other options are other numbers, which share no row of ``skelcl results``.

    Args:
        run: What :func:`run_record` gives.
        settings: Version and options of each protocol.
        seeds: Of the judges.
    """
    told = json.dumps([run["config_sha256"], settings, seeds], sort_keys=True, default=list)
    return {**run, "config_sha256": hashlib.sha256(told.encode()).hexdigest()}


def run_facts(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of the machine and the time of its training; empty where that is no plain text."""
    try:
        stored = json.loads(json.dumps(checkpoint.get(RUN_KEY)))
    except (TypeError, ValueError, RecursionError):
        return {}
    return stored if isinstance(stored, dict) else {}


def environment(device: torch.device) -> dict[str, Any]:
    """Hardware and package versions that a run meets."""
    versions = {"python": platform.python_version(), "skelcl": _version("skelcl")}
    versions |= {name: _version(name) for name in PACKAGES}
    if device.type != "cuda":
        return {"hardware": f"{device.type}, {_processor()}", "versions": versions}
    # Convolutions of "32-true" have ten bits of mantissa where TF32 is allowed, as PyTorch does.
    tf32 = {"convolutions": torch.backends.cudnn.allow_tf32, "products": torch.backends.cuda.matmul.allow_tf32}
    return {"hardware": torch.cuda.get_device_name(device), "tf32": tf32, "versions": versions}


def stream_name(pl_module: pl.LightningModule) -> str:
    """The stream that a method looks at: ``joint``, unless its deterministic view derives another one."""
    steps = getattr(getattr(pl_module, "eval_view", None), "steps", ())
    return "_".join(step.kind for step in steps if isinstance(step, Stream) and step.kind != "joint") or "joint"


def config_digest(config: Mapping[str, Any]) -> str:
    """SHA-256 of a resolved config without seeds, folders and what else does not change what is trained.

    The checkpoint from which fine-tuning starts stands for the config that it was trained with, where it can be read.
    """
    kept: dict[str, Any] = json.loads(json.dumps(config, default=str))
    for place, names in IRRELEVANT.items():
        found = _at(kept, place)
        for name in names:
            found.pop(name, None)
    for part in _at(kept, "data.init_args.parts").values():  # of a mixture
        for name in IRRELEVANT["data.init_args"] if isinstance(part, dict) else ():
            _at(part, "init_args").pop(name, None)
    if isinstance(kept.get("trainer"), dict):
        kept["trainer"] = {name: value for name, value in kept["trainer"].items() if name in TRAINER}
    start = _at(kept, "model.init_args")
    if isinstance(start.get("checkpoint"), str):
        start["checkpoint"] = _start_digest(start["checkpoint"])
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def run_record(
    pl_module: pl.LightningModule,
    data: object,
    path: str | None,
    tested: Sequence[int],
    labelled: Sequence[int] | None = None,
    *,
    config: Mapping[str, Any],
    precision: str = "32-true",
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """All that one must know of a run and its test to compare it with another.

    Args:
        pl_module: The method that was tested.
        data: Its data module.
        path: Checkpoint, None for a method that comes from none.
        tested: Store positions of the tested clips.
        labelled: Store positions of the clips with labels; None for the training part.
        config: Resolved config of the test.
        precision: Of the test.
        facts: What the network was trained on; None for what the checkpoint says.
    """
    content = read_content(path)
    trained_on = read_facts(path, content) if facts is None else facts
    trained = parsed_config(content.get(CONFIG_KEY))
    origin = trained or config
    start = _at(origin, "model.init_args").get("checkpoint")
    loops = content.get("loops", {}).get("fit_loop", {}).get("epoch_progress", {}).get("current", {})
    encoder = getattr(pl_module, "encoder", None)
    view = _view(_at(config or origin, "model.init_args").get("eval_view"))
    digests = [config_digest(one) for one in (trained, _tested_only(config)) if one]
    if digests and "version=" in (view or ""):
        digests.append(str(view))  # the same config was another run before
    return {
        "tested": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": _data(data, tested, labelled, trained_on),
        "training_data": without_tensors(trained_on),
        "encoder": type(encoder).__name__,
        "feature_width": getattr(encoder, "dim", None),
        "parameters": sum(p.numel() for p in encoder.parameters()) if isinstance(encoder, nn.Module) else None,
        "stream": stream_name(pl_module),
        "view": view,
        "selection": _selection(path, content, loops.get("processed"), _at(origin, "trainer").get("max_epochs")),
        "epochs": loops.get("processed"),
        "planned_epochs": _at(origin, "trainer").get("max_epochs"),
        "steps": content.get("global_step"),
        "seed": origin.get("seed_everything", run_seed()),
        "checkpoint_sha256": file_digest(path),
        "start": start if isinstance(start, str) else None,
        "start_sha256": file_digest(start),
        "config_sha256": hashlib.sha256("".join(digests).encode()).hexdigest() if digests else None,
        "precision": precision,
        "trained_on": run_facts(content) or None,
        "tested_on": environment(pl_module.device),
    }


def _selection(path: str | None, content: Mapping[str, Any], epochs: int | None, planned: int | None) -> str:
    """How the epoch of a checkpoint was chosen: as the last, by what one of its callbacks watches, or by others."""
    name = Path(str(path)).name
    if REFERENCE_KEY in content:
        return "not known"
    if epochs == 0 and content.get("global_step") == 0:
        return f"{UNTRAINED} (0 epochs)"
    for state in content.get("callbacks", {}).values():
        if isinstance(state, dict) and state.get("monitor"):
            best = {Path(kept).name for kept in (state.get("best_model_path"), *state.get("best_k_models", {})) if kept}
            if name in best:
                return f"best {state['monitor']}"
    return "last epoch" if name == "last.ckpt" or None in (epochs, planned) or epochs == planned else f"epoch {epochs}"


def _data(
    data: object, tested: Sequence[int], labelled: Sequence[int] | None, facts: Mapping[str, Any]
) -> dict[str, Any] | None:
    if not isinstance(data, SplitClips):
        return None
    labels = gallery = label_facts(data, data.parts["train"] if labelled is None else labelled)
    # Its own classifier knows the labels of training alone; a gallery of another data set has labels of its own.
    if facts.get("supervised") and facts["steps"] and (labelled is None or facts["name"] == data.dataset):
        labels = facts["labels"]
    seen = train_overlap(facts, data, np.asarray(tested))
    return {
        "name": data.dataset,
        "class": type(data).__name__,
        "split": data.split_description,
        "classes": len(data.class_names),
        "test_clips": len(tested),
        "test_sha256": ids_digest(str(data.ids[i]) for i in tested),
        "seen": {name: getattr(seen, name) for name in ("labelled", "unlabelled", "complete")},
        "changed": changed(facts, data),
        "labels": labels,
        **({} if labelled is None or gallery == labels else {"gallery": gallery}),
        **_adapted(data),
    }


def _adapted(data: SplitClips) -> dict[str, Any]:
    """The joints and the rate that the clips of a store were given, and how; nothing where they are as stored."""
    if not (changes := [change.partition("\n")[0] for change in data.store.changes]):
        return {}
    return {"layout": data.store.skeleton.name, "fps": data.store.meta["fps"], "changes": changes}


def _tested_only(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a test without what tells of training alone: a test of two machines is the same test."""
    trainer = config.get("trainer") or {}
    kept = {name: trainer[name] for name in ("precision", "limit_test_batches") if name in trainer}
    return {**config, "trainer": kept} if config else {}


def file_digest(path: object) -> str | None:
    """SHA-256 of a file, which identifies it on every machine; None where there is no file."""
    if not isinstance(path, str) or not Path(path).is_file():
        return None
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _start_digest(path: str) -> str:
    config = parsed_config(read_content(path).get(CONFIG_KEY))
    return config_digest(config) if config else path


def _view(config: object) -> str | None:
    """A view in a few words, after its parts in the config: the family of inputs that the encoder sees."""
    if not isinstance(config, Mapping):
        return None
    parts = config.get("init_args", {})
    steps = [parts.get("sample"), parts.get("normalize"), *(parts.get("steps") or [])]
    return " → ".join(_call(step) for step in steps if isinstance(step, Mapping)) or None


def _call(part: Mapping[str, Any]) -> str:
    name = str(part.get("class_path", "")).rpartition(".")[2]
    given = part.get("init_args") or {}
    version = versions().get(str(given.get("recipe")), 1) if name == "Normalize" else 1
    given = given if version == 1 else given | {"version": version}
    return f"{name}({', '.join(f'{key}={value}' for key, value in given.items() if value is not None)})"


def _at(config: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The mapping at a dotted place of a config; an empty one where there is none."""
    found: Any = config
    for name in place.split(".") if place else ():
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, dict) else {}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    if sys.platform == "linux":
        named = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        if named:
            return named[1]
    return platform.processor() or platform.machine()
