"""The recurrent encoder of AS-CAL."""

from __future__ import annotations

from typing import Literal

from einops import rearrange
from torch import Tensor, nn

from skelcl.bounds import PositiveInt, bounded
from skelcl.encoders.base import Encoder
from skelcl.skeleton import Skeleton


@bounded
class LSTM(Encoder):
    """A plain LSTM over flattened frames, pooled over time: the Contrastive Action Encoding (CAE) of AS-CAL.

    All bodies of a frame are one input vector of C·V·M numbers, ordered ``(c v m)``. No embedding, no dropout, no
    normalisation; PyTorch's initialisation. Source: Rao et al. 2021, arXiv 2008.00188.

    Options that depart from the reference, off by default: ``pool`` as ``masked_mean``.

    Args:
        skeleton: Layout of the V joints.
        num_persons: M, the bodies per clip.
        channels: C, the coordinates per joint.
        hidden: Width of the state and of the features.
        layers: Stacked LSTM layers; the features are those of the last one.
        pool: How T states become one vector. ``mean`` averages all frames, padding included, as the paper's temporal
            average pooling does; ``masked_mean`` averages only frames in which somebody is present; ``last`` and
            ``sum`` are the reference's ablations.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        num_persons: PositiveInt = 1,
        channels: PositiveInt = 3,
        hidden: PositiveInt = 256,
        layers: PositiveInt = 1,
        pool: Literal["mean", "masked_mean", "last", "sum"] = "mean",
    ) -> None:
        super().__init__()
        self.dim = hidden
        self.pool = pool
        self.lstm = nn.LSTM(channels * skeleton.num_joints * num_persons, hidden, layers, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """CAE (N, dim) of clips ``x`` (N, C, T, V, M)."""
        frames = rearrange(x, "n c t v m -> n t (c v m)")
        states, _ = self.lstm(frames)
        if self.pool == "mean":
            return states.mean(1)
        if self.pool == "masked_mean":
            seen = frames.any(-1, keepdim=True)
            return (states * seen).sum(1) / seen.sum(1).clamp(min=1)
        return states[:, -1] if self.pool == "last" else states.sum(1)
