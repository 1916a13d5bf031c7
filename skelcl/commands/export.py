"""The function behind ``skelcl export``; its signature and docstring are the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from skelcl import __version__
from skelcl.data.examples import example_clips
from skelcl.data.facts import DataFacts
from skelcl.errors import InputError
from skelcl.evaluation.features import file_digest
from skelcl.interop.deployment import FeaturesAndLogits, Format, export
from skelcl.methods import Method, Supervised
from skelcl.runs.loading import load_method
from skelcl.runs.trust import stored_config


def export_checkpoint(
    ckpt_path: Path | None = None,
    format: Format | None = None,
    output: Path | None = None,
    overwrite: bool = False,
    trust: str | None = None,
) -> None:
    """Write the encoder of a run, and its classifier if it has one, as one file for other programs.

    The network takes what the deterministic view of the run gives, x (N, C, T, V, M) float32 with any N, and gives
    ``features`` (N, dim) and, with a classifier, ``logits`` (N, classes). Classes, joints, sizes and view are told as
    JSON under ``skelcl`` in the metadata of the file. A file that does not compute what the network does is not kept.

    Args:
        ckpt_path: Checkpoint of the run. It needs neither its data set nor another file.
        format: torch-export: for torch.export.load, without skelcl. onnx: for ONNX Runtime and others. safetensors: the
            weights alone, as the state dict of the encoder or, with a classifier, of skelcl.nn.Classifier.
        output: File to write.
        overwrite: Replace OUTPUT.
        trust: Modules, with commas between, whose classes the checkpoint may name beside skelcl's and torch.optim's.

    Raises:
        InputError: The checkpoint cannot be used, OUTPUT exists, or the file disagrees with the network.
    """
    if ckpt_path is None or format is None or output is None:
        lacking = "ckpt_path" if ckpt_path is None else "format" if format is None else "output"
        example = "skelcl export --ckpt_path FILE.ckpt --format onnx --output FILE.onnx"
        raise InputError(f"--{lacking} is missing: {example}")
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists; --overwrite true replaces it")
    method, data = load_method(ckpt_path, trust=trust)
    network, x, note = exported(method, data)
    facts = {**_facts(ckpt_path, method, data, trust), "input": {"x": ["N", *x.shape[1:]]}}
    facts["outputs"] = ["features", "logits"] if isinstance(network, FeaturesAndLogits) else ["features"]
    if note:
        facts["note"] = note
        print(note)
    difference = export(network, x, format, output, facts)
    print(f"wrote {output}: x {tuple(x.shape[1:])} of any number of clips to {' and '.join(facts['outputs'])}")
    print(f"checked against the network on {x.shape[0]} clips: outputs differ by {difference:.1e} at most")


@torch.no_grad()
def exported(method: Method, data: DataFacts) -> tuple[nn.Module, torch.Tensor, str]:
    """What of a method is exported: its encoder, with the classifier if the method classifies what the encoder gives.

    Args:
        method: In eval mode.
        data: Facts of its data.

    Returns:
        The network, what it is to be traced with (N, C, T, V, M), and a remark on what was left out.
    """
    clips = example_clips(data)
    x = method.eval_view(clips)
    alone, whole = method.encoder(x), method(clips)
    if alone.shape != whole.shape or not torch.allclose(alone, whole, 1e-4, 1e-5, equal_nan=True):
        note = "this method's features are more than those of one pass of the encoder; the encoder alone is exported"
        return method.encoder, x, note
    if isinstance(method, Supervised):
        return FeaturesAndLogits(method.encoder, method.classifier).eval(), x, ""
    return method.encoder, x, ""


def _facts(path: Path, method: Method, data: DataFacts, trust: str | None) -> dict[str, Any]:
    config = stored_config(path, trust)
    model = config["model"]["init_args"]
    return {
        "skelcl": __version__,
        "checkpoint": {"name": path.name, "sha256": file_digest(path)},
        "method": config["model"]["class_path"],
        "encoder": model["encoder"],
        "classes": list(data.class_names),
        "layout": data.skeleton.to_dict(),
        "frames": method.eval_view.frames,
        "persons": data.num_persons,
        "recipe": data.recipe,
        "units": data.units,
        "axes": data.axes,
        "fps": data.fps,
        "view": model["eval_view"],
        "stream": config["stream"],
    }
