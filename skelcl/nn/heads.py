"""Projection heads, used during pre-training and dropped afterwards."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn


class Projector(nn.Module):
    """Maps features to the space in which they are contrasted.

    Weights start N(0, 0.01²), biases as PyTorch draws them (AS-CAL's released head).

    Args:
        in_dim: Width of the features.
        kind: ``none`` is the identity, ``linear`` one layer, ``mlp`` a hidden layer of ``in_dim`` and ReLU before it.
        out_dim: Width of the projection; ignored by ``none``.
    """

    def __init__(self, in_dim: int, kind: Literal["none", "linear", "mlp"] = "none", out_dim: int = 512) -> None:
        super().__init__()
        hidden = [nn.Linear(in_dim, in_dim), nn.ReLU()] if kind == "mlp" else []
        self.layers = nn.Sequential(*hidden, *([] if kind == "none" else [nn.Linear(in_dim, out_dim)]))
        self.dim = in_dim if kind == "none" else out_dim
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01)

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_dim) to (N, dim)."""
        return self.layers(features)
