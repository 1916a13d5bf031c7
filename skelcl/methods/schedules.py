"""Learning rates over epochs that PyTorch has no single class for."""

from __future__ import annotations

import math
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from skelcl.bounds import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, bounded
from skelcl.errors import OptionError


class FactorLR(LRScheduler):
    """A schedule that multiplies the learning rates of all parameter groups by one number."""

    @abstractmethod
    def factor(self) -> float:
        """The number, after ``last_epoch`` calls of ``step``."""

    def get_lr(self) -> list[float]:  # type: ignore[override]  # torch 2.8 and 2.13 disagree on the type
        """Current learning rates, one for each parameter group."""
        factor = self.factor()
        return [float(rate) * factor for rate in self.base_lrs]


class StepSchedule(FactorLR):
    """A schedule whose ``step`` is called with every step of the optimiser, not once an epoch.

    Attributes:
        steps_per_epoch: Steps of the optimiser in an epoch; a method counts them when training starts.
    """

    steps_per_epoch: int = 1

    def count(self, steps_per_epoch: int) -> None:
        """Take the number of steps of an epoch, and set the learning rates that follow from it."""
        self.steps_per_epoch = steps_per_epoch
        rates = self.get_lr()
        self._last_lr = [*rates]
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    @property
    def epoch(self) -> float:
        """How many epochs are done, parts of one included."""
        return self.last_epoch / self.steps_per_epoch


@bounded
class WarmupCosineLR(StepSchedule):
    """A linear warm-up from zero, then half a cosine, step by step: the schedule of MAE and MAMP.

    After e epochs, parts of one included, the rate is lr · e/W during the W warm-up epochs, then, with m = min_lr/lr,
    lr · (m + (1 − m) · (1 + cos(π(e − W)/(E − W)))/2). So the very first step is none. Groups with a rate of their own
    have a smallest rate in the same proportion.

    Args:
        optimizer: Its learning rates are those after the warm-up.
        epochs: E, usually ``trainer.max_epochs``; from then on the rate stays.
        warmup_epochs: W; 0 starts at the full rate.
        min_lr: Where the rate of the optimiser ends.
        last_epoch: Number of the last step of a run that goes on; −1 starts anew.

    Raises:
        OptionError: The warm-up does not end before the last epoch, or the smallest rate is above the optimiser's.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        epochs: PositiveInt,
        warmup_epochs: NonNegativeInt = 0,
        min_lr: NonNegativeFloat = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if warmup_epochs >= epochs:
            raise OptionError(f"scheduler: warmup_epochs={warmup_epochs} leave nothing of epochs={epochs}")
        rate = float(optimizer.defaults["lr"])
        if min_lr > rate:
            raise OptionError(f"scheduler: min_lr={min_lr:g} is above the optimizer's lr={rate:g}")
        self.epochs = epochs
        self.warmup_epochs = warmup_epochs
        self.smallest = min_lr / rate
        super().__init__(optimizer, last_epoch)

    def factor(self) -> float:
        """The factor of the current step."""
        if self.epoch < self.warmup_epochs:
            return self.epoch / self.warmup_epochs
        share = min(1.0, (self.epoch - self.warmup_epochs) / (self.epochs - self.warmup_epochs))
        return self.smallest + (1 - self.smallest) * (1 + math.cos(math.pi * share)) / 2


@bounded
class WarmupMultiStepLR(FactorLR):
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

    def factor(self) -> float:
        """The factor of the current epoch."""
        if self.last_epoch < self.warmup_epochs:
            return (self.last_epoch + 1) / self.warmup_epochs
        return float(self.gamma ** bisect_right(self.milestones, self.last_epoch))
