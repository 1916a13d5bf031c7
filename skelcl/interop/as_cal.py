"""AS-CAL's encoder as a plain ``torch.nn.LSTM`` saves it (Rao et al. 2021, arXiv 2008.00188)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from skelcl.encoders import LSTM
from skelcl.errors import InputError
from skelcl.interop.detection import Origin
from skelcl.interop.key_mapping import KeyMapping, Pieces
from skelcl.skeleton import Skeleton

LSTM_KEY = "weight_ih_l0"
"""The tensor by which an LSTM is found."""
LSTM_PREFIX = "bi_lstm."
"""What the authors' names start with, though the LSTM runs in one direction."""
MOMENTUM_PREFIX, QUEUE_KEY = "model_ema.", "contrast.memory"
"""Where :func:`~skelcl.interop.detection.find_state` leaves the rest of their pre-training."""
QUEUE = 500
"""Rows of the queue of a file that holds none."""


def build(
    skeleton: Skeleton, num_classes: int, num_frames: int, num_persons: int, hidden: int = 256, layers: int = 1
) -> tuple[nn.Module, KeyMapping]:
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
    return module, KeyMapping({name: Pieces((name.removeprefix("lstm."),)) for name in module.state_dict()})


def lstm_state(state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The LSTM of a state dict, under the names of ``torch.nn.LSTM``; of several LSTMs, the authors' ``bi_lstm``.

    Raises:
        InputError: There is none, or there are several.
    """
    found = [name.removesuffix(LSTM_KEY) for name in state_dict if name.endswith(LSTM_KEY)]
    found = [LSTM_PREFIX] if LSTM_PREFIX in found else found
    if len(found) != 1:
        problem = "no LSTM" if not found else f"several LSTMs ({', '.join(found)}): pass one of them"
        raise InputError(f"this is no state dict of AS-CAL's encoder: it holds {problem}")
    (prefix,) = found
    return {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}


def method_state(state_dict: Mapping[str, Tensor], origin: Origin, skeleton: Skeleton) -> dict[str, Tensor]:
    """A file of the authors as the state of the method that it is a run of.

    Args:
        state_dict: Of pre-training, for :class:`~skelcl.methods.ASCAL`, or with a classifier beside the LSTM, as the
            authors' supervised and semi-supervised training saves it, for :class:`~skelcl.methods.Supervised`.
        origin: Its sizes.
        skeleton: Layout of the V joints.

    Raises:
        InputError: Names or shapes are not exactly those of one of the two.
    """
    lstm = lstm_state(state_dict)
    twin = {
        name.removeprefix(MOMENTUM_PREFIX): value
        for name, value in state_dict.items()
        if name.startswith(MOMENTUM_PREFIX)
    }
    rest = {name: value for name, value in state_dict.items() if not name.startswith((MOMENTUM_PREFIX, "contrast."))}
    classifier = {name: rest[name] for name in ("classifier.weight", "classifier.bias") if name in rest}
    if strange := [name for name in rest if name.rpartition(".")[2] not in lstm and name not in classifier]:
        raise InputError(
            f"this is no state dict of AS-CAL: {', '.join(strange[:3])} ({len(strange)} in all) unexpected"
        )
    state: dict[str, Tensor] = {}
    copies = [("encoder.", lstm)] if classifier else [("encoder.", lstm), ("key.module.0.", lstm_state(twin or lstm))]
    for prefix, weights in copies:
        module, layout = build(skeleton, 0, 0, origin.num_persons or 1, **sizes(weights))
        layout.load(module, weights)
        state |= {f"{prefix}{name}": value for name, value in module.state_dict().items()}
    if classifier:
        return state | classifier
    keys = state_dict.get(QUEUE_KEY)
    # Which clips the keys show is not saved, nor where the next goes: a queue counts as filled once.
    state["queue.keys"] = torch.zeros(QUEUE, lstm[LSTM_KEY].shape[0] // 4) if keys is None else keys
    state["queue.index"] = torch.full((len(state["queue.keys"]),), -1)
    state["queue.pushed"] = torch.tensor(0 if keys is None else len(keys))
    return state


def sizes(lstm: Mapping[str, Tensor]) -> dict[str, int]:
    """Width and number of layers that the tensors of an LSTM tell."""
    layers = [int(match[1]) for name in lstm if (match := re.fullmatch(r"weight_ih_l(\d+)", name))]
    return {"hidden": lstm[LSTM_KEY].shape[0] // 4, "layers": max(layers) + 1}
