"""What STD-CL's own code saves beside the network that it trained (arXiv 2312.15144)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

HEADS = tuple(f"std.{layer}.{part}" for layer in ("conv1", "conv2", "convs", "convt") for part in ("weight", "bias"))
"""Its decoupling heads, which have no part in a test."""


def network(state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The network of a file, without STD-CL's projection heads, where it holds all of them."""
    if not all(name in state_dict for name in HEADS):
        return state_dict
    return {name: value for name, value in state_dict.items() if name not in HEADS}
