"""What ``torch.save`` wrote: read without running anything in it, and its weights loaded where they fit."""

from __future__ import annotations

import errno
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.serialization import safe_globals

from skelcl.errors import InputError

KINDS = {
    "pytorch-lightning_version": str,
    "loops": dict,
    "callbacks": dict,
    "optimizer_states": list,
    "lr_schedulers": list,
    "skelcl_run": dict,
    "skelcl_recipes": dict,
    "skelcl_data": dict,
    "skelcl_facts": dict,
}
"""What else a checkpoint holds where it does."""


class Unread:
    """Stands in a file for a value that nobody needs: options, and numbers of NumPy's types."""

    def __init__(self, *args: object) -> None:
        """Takes what such a value is made of, and forgets it."""

    def __setstate__(self, state: object) -> None:
        """As the constructor."""


HARMLESS = [
    "argparse.Namespace",
    "numpy.dtype",
    *(f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")),
    *(f"numpy.dtypes.{kind}DType" for kind in ("Float64", "Float32", "Int64", "Int32", "Bool")),
]
"""Classes in files of published programs that are read as :class:`Unread`."""


def read_file(path: Path) -> Any:
    """What ``torch.save`` wrote, tensors on the CPU; files of PyTorch before 1.6 too. Nothing in it is run.

    Raises:
        InputError: There is no such file, it is damaged, or it holds more than tensors, plain values and what is
            :data:`HARMLESS`.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if not path.stat().st_size:
        raise InputError(f"{path}: not a checkpoint: it is empty")
    try:
        with safe_globals([(Unread, name) for name in HARMLESS]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols and TorchScript, where the outcome says enough
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError as error:
        if error.errno == errno.EINVAL:  # looking for the end of a file that was cut off, torch goes before its start
            raise InputError(f"{path}: not a checkpoint, or a damaged one") from error
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # a damaged file may raise anything
        forbidden = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if forbidden is None:
            raise InputError(f"{path}: not a checkpoint, or a damaged one") from error
        raise InputError(
            f"{path}: refused, and nothing in it was run: beside tensors and plain values it holds {forbidden[1]}, and "
            "unpacking that runs code; if you trust the file, save its state dict alone"
        ) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint, tensors on the CPU; never runs code from the file.

    Raises:
        InputError: If there is no such file or it is not a checkpoint.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    content = read_file(path)
    if not isinstance(content, dict) or "state_dict" not in content:
        raise InputError(f"{path}: not a checkpoint written by `skelcl fit` (it has no state_dict)")
    state = content["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise InputError(f"{path}: a damaged checkpoint: its state_dict is a {type(state).__name__}, not named weights")
    for name, kind in KINDS.items():
        if name in content and not isinstance(content[name], kind):
            raise InputError(f"{path}: a damaged checkpoint: its {name} is a {type(content[name]).__name__}")
    return content


def check_run(path: Path, going_on: bool) -> None:
    """Sees that a checkpoint holds what Lightning reads of it.

    Args:
        path: The checkpoint.
        going_on: Its run is to be continued.

    Raises:
        InputError: It does not.
    """
    content = read_checkpoint(path)
    if not re.match(r"\d+\.\d+", content.get("pytorch-lightning_version", "")):
        raise InputError(f"{path}: not a checkpoint of Lightning's: it has no pytorch-lightning_version")
    if going_on and not (
        {"optimizer_states", "lr_schedulers"} <= content.keys() and "fit_loop" in content.get("loops", {})
    ):
        raise InputError(f"{path}: holds weights alone, no run that could be continued; use test")


def load_weights(module: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    """Load a state that a file holds, all of it.

    Raises:
        InputError: It is of another module, or of one of other sizes; the message names the first tensors.
    """
    try:
        # It decides by itself what it leaves out: of STD-CL, heads and banks serve training alone.
        module.load_state_dict(state)
    except RuntimeError as error:
        own, name = module.state_dict(), type(module).__name__
        problem = mismatch(own, state)
        if own.keys() != state.keys():
            raise InputError(f"{path}: holds something else than the weights of this {name}: {problem}") from error
        sizes = "skeletons, persons, channels or classes"
        raise InputError(f"{path}: its {name} was trained on other {sizes} than this data has: {problem}") from error


def mismatch(own: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """What keeps a state from being loaded, on one line; None if nothing does.

    Args:
        own: State of the module.
        found: State in a file.
    """
    parts = []
    for kind, these, others in (("missing", own, found), ("unexpected", found, own)):
        if names := [name for name in these if name not in others]:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            parts.append(f"{kind} {', '.join(names[:3])}{more}")
    for name, value in own.items():
        if isinstance(value, Tensor) and name in found:
            there = found[name]
            if not isinstance(there, Tensor):
                parts.append(f"{name} is a {type(there).__name__} there and no tensor")
                break
            if there.shape != value.shape:
                parts.append(f"{name} is {tuple(there.shape)} there and {tuple(value.shape)} here")
                break
    return "; ".join(parts) or None
