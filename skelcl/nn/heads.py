"""Heads on top of an encoder: projections, dropped after pre-training, and the classifier."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from skelcl.bounds import PositiveInt, bounded


@bounded
class Projector(nn.Module):
    """Maps features to the space in which they are contrasted.

    Weights start N(0, 0.01²), biases as PyTorch draws them (AS-CAL's released head).

    Args:
        in_dim: Width of the features.
        kind: ``none`` is the identity, ``linear`` one layer, ``mlp`` a hidden layer of ``in_dim`` and ReLU before it.
        out_dim: Width of the projection; ignored by ``none``.
    """

    def __init__(
        self, in_dim: PositiveInt, kind: Literal["none", "linear", "mlp"] = "none", out_dim: PositiveInt = 512
    ) -> None:
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


class Classifier(nn.Module):
    """An encoder and a head, as one network from clips to logits.

    Args:
        encoder: Clips (N, C, T, V, M) to features (N, dim).
        head: Features to logits (N, classes).
    """

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of clips ``x`` (N, C, T, V, M)."""
        return self.head(self.encoder(x))


@bounded
class SCDHeads(nn.Module):
    """The three projections of SCD-Net: of the temporal clue, of the spatial clue, and of both, the global anchor.

    Linear, ReLU, Linear each, without batch norm; the hidden width is that of a clue. Weights start Xavier-uniform,
    biases as PyTorch draws them.

    Args:
        dim: D, width of a clue.
        projection: P, width of a projection.
    """

    def __init__(self, dim: PositiveInt, projection: PositiveInt = 128) -> None:
        super().__init__()
        self.temporal, self.spatial, self.anchor = (
            nn.Sequential(nn.Linear(width, dim), nn.ReLU(), nn.Linear(dim, projection)) for width in (dim, dim, 2 * dim)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Redraw the matrices; the biases are drawn by their layers."""
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter)

    def forward(self, v_t: Tensor, v_s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Clues (N, D) each to z_t, z_s and z_i, (N, P) each and of any length."""
        return self.temporal(v_t), self.spatial(v_s), self.anchor(torch.cat([v_t, v_s], 1))


@bounded
class SDSCLHeads(nn.Module):
    """The two projections of SDS-CL: of tokens (frames and joints, of both streams), and of whole clips.

    Linear, ReLU, Linear each, as wide inside as their input. Weights start Xavier-normal, biases at zero.

    Args:
        dim: C, width of a token; a clip has 4·C, one for each way of attention.
        projection: Width of a projected token, a quarter of that of a projected clip; None for C.
    """

    def __init__(self, dim: PositiveInt = 256, projection: PositiveInt | None = None) -> None:
        super().__init__()
        projection = projection or dim
        self.token, self.clip = (
            nn.Sequential(nn.Linear(ways * dim, ways * dim), nn.ReLU(), nn.Linear(ways * dim, ways * projection))
            for ways in (1, 4)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Redraw the matrices and set the biases to zero."""
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.xavier_normal_(parameter)
            else:
                nn.init.zeros_(parameter)


class TwoStreamHead(nn.Module):
    """One linear classifier for two streams, whose logits are added, so its bias counts twice (SDS-CL).

    Args:
        linear: Features (N, dim) of one stream to logits (N, K).
    """

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, 2·dim), those of one stream beside those of the other, to logits (N, K)."""
        one, other = features.chunk(2, 1)
        logits: Tensor = self.linear(one) + self.linear(other)
        return logits


@bounded
class JointClassifier(nn.Module):
    """The MLP that MAMP fine-tunes on features of all joints: linear, batch norm, ReLU, linear (arXiv 2308.07092).

    Linear layers start Xavier-uniform with biases 0.

    Args:
        in_dim: V·D, width of the features.
        num_classes: K.
        hidden: Width inside.
    """

    def __init__(self, in_dim: PositiveInt, num_classes: PositiveInt, hidden: PositiveInt = 2048) -> None:
        super().__init__()
        self.fc1 = nn.Linear(in_dim, hidden)
        self.bn = nn.BatchNorm1d(hidden)
        self.fc2 = nn.Linear(hidden, num_classes)
        for layer in (self.fc1, self.fc2):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, V·D) to logits (N, K)."""
        return self.fc2(torch.relu(self.bn(self.fc1(features))))
