"""AS-CAL's encoder as a plain ``torch.nn.LSTM`` saves it (Rao et al. 2021, arXiv 2008.00188)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from skelcl.encoders import LSTM
from skelcl.errors import InputError
from skelcl.interop.layout import Layout, Pieces
from skelcl.skeleton import Skeleton

FIRST = "weight_ih_l0"
"""The tensor by which an LSTM is found."""


def build(
    skeleton: Skeleton, num_classes: int, num_frames: int, num_persons: int, hidden: int = 256, layers: int = 1
) -> tuple[nn.Module, Layout]:
    """The encoder, freshly initialised, and its layout; clips (N, C, T, V, M) to their encoding (N, H).

    Args:
        skeleton: Layout of the V joints.
        num_classes: Plays no role: the classifier of the linear evaluation is trained anew.
        num_frames: Plays no role: clips may have any length.
        num_persons: M, the bodies per clip.
        hidden: H.
        layers: Stacked layers.
    """
    module = LSTM(skeleton, num_persons, hidden=hidden, layers=layers)
    return module, Layout({name: Pieces((name.removeprefix("lstm."),)) for name in module.state_dict()})


def recurrent(state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The LSTM of a state dict under the names of ``torch.nn.LSTM``, whatever stands before them.

    Raises:
        InputError: There is none, or there are several.
    """
    found = [name.removesuffix(FIRST) for name in state_dict if name.endswith(FIRST)]
    if len(found) != 1:
        told = "no LSTM" if not found else f"several LSTMs ({', '.join(found)}): pass one of them"
        raise InputError(f"this is no state dict of AS-CAL's encoder: it holds {told}")
    (prefix,) = found
    return {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}


def sizes(lstm: Mapping[str, Tensor]) -> dict[str, int]:
    """Width and number of layers that the tensors of an LSTM tell."""
    layers = [int(match[1]) for name in lstm if (match := re.fullmatch(r"weight_ih_l(\d+)", name))]
    return {"hidden": lstm[FIRST].shape[0] // 4, "layers": max(layers) + 1}
