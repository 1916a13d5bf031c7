"""A network as one file for other programs: torch.export, ONNX or safetensors, each checked before it is kept."""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from skelcl.errors import InputError
from skelcl.files import atomic_write
from skelcl.nn.heads import Classifier

Format = Literal["torch-export", "onnx", "safetensors"]

METADATA = "skelcl"
"""Key under which a file tells as JSON what it is; in torch.export files it is ``skelcl.json``."""
TOLERANCE = 1e-4
"""Largest difference from eager mode, as a share of the largest output (at least 1)."""
BATCHES = (1, 2, 5)
"""Batch sizes of the check; none is the one that was traced."""


class FeaturesAndLogits(Classifier):
    """A classifier that gives its features too."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Features (N, dim) and logits (N, classes) of clips ``x`` (N, C, T, V, M)."""
        features = self.encoder(x)
        return features, self.head(features)


def export(network: nn.Module, clips: Tensor, format: Format, output: Path, metadata: Mapping[str, Any]) -> float:
    """Write a network to one file that takes any number of clips, unless what the file computes is something else.

    The file is read back and compared with the network on batches of 1, 2 and 5 clips, as given and with nobody in
    the last body slot.

    Args:
        network: In eval mode and on the CPU: an encoder, or :class:`FeaturesAndLogits`.
        clips: Some clips x (N, C, T, V, M) to trace with and to compare on.
        format: torch-export: an ``ExportedProgram``, for ``torch.export.load``. onnx: for ONNX Runtime and others;
            takes ``x``, gives ``features`` and, of a classifier, ``logits``. safetensors: the state dict of the
            network.
        output: File to write.
        metadata: What to tell about the network, kept as JSON in the file.

    Returns:
        The largest difference found, as a share of the largest output (at least 1).

    Raises:
        InputError: What the network gives is not finite, the file disagrees with it and was not kept, or a package is
            missing.
    """
    write, read = _WRITERS[format], _READERS[format]
    # Repeated up to the largest batch, and one more size for the trace.
    x = clips[torch.arange(max(BATCHES)) % clips.shape[0]]
    with torch.no_grad():
        if not all(given.isfinite().all() for given in _outputs(network(x))):
            raise InputError(f"{output}: not written: the network gives numbers that are not finite, it has diverged")
    with atomic_write(output) as part:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporters warn of their own future
            write(network, x[:3], part, json.dumps(metadata, ensure_ascii=False))
            difference = _difference(network, read(network, part), x)
        if not difference <= TOLERANCE:
            raise InputError(
                f"{output}: not written, because the {format} file computes something else than the network: "
                f"outputs differ by {difference:.1e} of the largest, more than {TOLERANCE:.0e}"
            )
    return difference


def _difference(network: nn.Module, other: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor) -> float:
    worst = 0.0
    alone = x.clone()
    alone[..., -1] = 0
    for batch in (given[:size] for size in BATCHES for given in (x, alone)):
        for expected, found in zip(_outputs(network(batch)), other(batch), strict=True):
            if found.shape != expected.shape:
                return float("inf")
            scale = max(1.0, float(expected.abs().max()))
            # Not a maximum of floats, which would lose a NaN.
            worst = float(torch.tensor([worst, float((found - expected).abs().max()) / scale]).max())
    return worst


def _outputs(given: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (given,) if isinstance(given, Tensor) else tuple(given)


def _names(network: nn.Module) -> list[str]:
    return ["features", "logits"] if isinstance(network, FeaturesAndLogits) else ["features"]


# --- torch.export ----------------------------------------------------------------------------------------------------


def _program(network: nn.Module, x: Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(network, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},))


def _write_program(network: nn.Module, x: Tensor, path: Path, metadata: str) -> None:
    buffer = io.BytesIO()
    torch.export.save(_program(network, x), buffer, extra_files={f"{METADATA}.json": metadata})
    path.write_bytes(buffer.getvalue())


def _read_program(network: nn.Module, path: Path) -> Callable[[Tensor], tuple[Tensor, ...]]:
    program = torch.export.load(io.BytesIO(path.read_bytes())).module()
    return lambda x: _outputs(program(x))


# --- ONNX ------------------------------------------------------------------------------------------------------------


def _write_onnx(network: nn.Module, x: Tensor, path: Path, metadata: str) -> None:
    _need("onnx", "onnxscript", "onnxruntime")
    names = _names(network)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it would tell of operators of torchvision
    try:
        program = torch.onnx.export(
            _program(network, x), input_names=["x"], output_names=names, dynamo=True, verbose=False, optimize=True
        )
    finally:
        logger.setLevel(level)
    assert program is not None
    program.model.metadata_props[METADATA] = metadata
    program.save(str(path), external_data=False)


def _read_onnx(network: nn.Module, path: Path) -> Callable[[Tensor], tuple[Tensor, ...]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: tuple(map(torch.from_numpy, session.run(_names(network), {"x": x.numpy()})))


# --- safetensors -----------------------------------------------------------------------------------------------------


def _write_tensors(network: nn.Module, x: Tensor, path: Path, metadata: str) -> None:
    _need("safetensors")
    from safetensors.torch import save_file

    # Copies, because parts of one tensor under two names cannot be saved.
    state = {name: value.clone().contiguous() for name, value in network.state_dict().items()}
    save_file(state, path, {METADATA: metadata})


def _read_tensors(network: nn.Module, path: Path) -> Callable[[Tensor], tuple[Tensor, ...]]:
    from safetensors.torch import load_file

    other = copy.deepcopy(network)
    for value in other.state_dict().values():
        value.zero_()
    other.load_state_dict(load_file(path), strict=True)
    return lambda x: _outputs(other(x))


def _need(*packages: str) -> None:
    for package in packages:
        try:
            __import__(package)
        except ImportError as error:
            raise InputError(f"this format needs {package}: pip install 'skelcl[export]'") from error


_WRITERS: dict[Format, Callable[[nn.Module, Tensor, Path, str], None]] = {
    "torch-export": _write_program,
    "onnx": _write_onnx,
    "safetensors": _write_tensors,
}
_READERS: dict[Format, Callable[[nn.Module, Path], Callable[[Tensor], tuple[Tensor, ...]]]] = {
    "torch-export": _read_program,
    "onnx": _read_onnx,
    "safetensors": _read_tensors,
}
