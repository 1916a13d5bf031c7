"""Learning rates over epochs that PyTorch has no single class for."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from skelcl.bounds import NonNegativeInt, PositiveFloat, bounded


@bounded
class WarmupMultiStepLR(LRScheduler):
    """A linear warm-up, then a drop at each milestone: the schedule of CTR-GCN, Hyperformer and SkeletonGCL.

    Epoch e, counted from 0, runs at lr · (e + 1)/W during the W warm-up epochs, then at lr · γ^(milestones ≤ e).

    Args:
        optimizer: Its learning rates are those after the warm-up.
        milestones: Epochs from which on the rate is γ times smaller.
        gamma: γ.
        warmup_epochs: W; 0 starts at the full rate.
        last_epoch: Number of the last epoch of a run that goes on; −1 starts anew.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Sequence[NonNegativeInt],
        gamma: PositiveFloat = 0.1,
        warmup_epochs: NonNegativeInt = 5,
        last_epoch: int = -1,
    ) -> None:
        self.milestones = sorted(milestones)
        self.gamma = gamma
        self.warmup_epochs = warmup_epochs
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:  # type: ignore[override]  # torch 2.8 and 2.13 disagree on the type
        """Learning rates of the current epoch, one for each parameter group."""
        epoch = self.last_epoch
        warm = epoch < self.warmup_epochs
        factor = (epoch + 1) / self.warmup_epochs if warm else self.gamma ** bisect_right(self.milestones, epoch)
        return [float(rate) * factor for rate in self.base_lrs]
