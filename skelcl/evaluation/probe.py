"""Linear evaluation on cached features: the published settings, and one fast loop for all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from skelcl.bounds import PositiveFloat, PositiveInt, Share, bounded
from skelcl.errors import InputError
from skelcl.evaluation.features import check_features

ProbeName = Literal["as_cal", "moco_linear", "scd", "torchlight", "pstl", "mae_no_augmentation", "sds_cl"]


@bounded
@dataclass(frozen=True)
class ProbePreset:
    """How a linear classifier is trained on frozen features; no weight decay, cross-entropy.

    Args:
        lr: Learning rate of the first epoch.
        batch_size: Features per step; the last batch of an epoch may be smaller.
        epochs: Passes over the training features.
        optimiser: ``sgd`` with ``momentum``, or ``adam``.
        momentum: Momentum of SGD.
        nesterov: Nesterov momentum.
        schedule: ``steps`` multiplies the rate by ``gamma`` after each milestone; ``cosine`` falls to zero along half
            a cosine, step by step.
        milestones: Epochs, counted from 1, after which the rate drops.
        gamma: Factor at a milestone.
        head_bn: Normalise features by batch statistics, without scale and shift, in front of the classifier.
        l2_normalise: Scale every feature vector to length 1.
        streams: Features are those of so many streams side by side, and one head serves all: their logits are added,
            so the bias counts as often.
    """

    lr: PositiveFloat
    batch_size: PositiveInt
    epochs: PositiveInt
    optimiser: Literal["sgd", "adam"] = "sgd"
    momentum: Share = 0.9
    nesterov: bool = False
    schedule: Literal["steps", "cosine"] = "steps"
    milestones: tuple[PositiveInt, ...] = ()
    gamma: PositiveFloat = 0.1
    head_bn: bool = False
    l2_normalise: bool = False
    streams: PositiveInt = 1

    def rate(self, epoch: int, progress: float = 0.0) -> float:
        """Learning rate ``progress`` (0…1) of the way through an epoch, epochs counted from 1."""
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * (epoch - 1 + progress) / self.epochs))
        return self.lr * self.gamma ** sum(epoch > milestone for milestone in self.milestones)


PRESETS: dict[ProbeName, ProbePreset] = {
    "as_cal": ProbePreset(1.0, 32, 90, nesterov=True, milestones=(15, 35, 60, 75), gamma=0.5),
    "moco_linear": ProbePreset(0.1, 64, 80, milestones=(50, 70)),
    "scd": ProbePreset(2.0, 1024, 80, milestones=(50, 70)),
    "torchlight": ProbePreset(3.0, 128, 100, milestones=(80,)),
    "pstl": ProbePreset(0.01, 128, 150, optimiser="adam", schedule="cosine"),
    "mae_no_augmentation": ProbePreset(0.1, 256, 100, schedule="cosine", head_bn=True),
    "sds_cl": ProbePreset(0.1, 128, 100, nesterov=True, milestones=(80,), streams=2),
}
"""Published settings, each clip under one fixed view: AS-CAL; ISC, CMD and MoCo-style code, less their random crops;
SCD-Net and HiCo; CrosSCLR, AimCLR and kin; PSTL; ``mae_no_augmentation`` is MAMP's less its random crops and rotations.
SDS-CL published no linear evaluation: ``sds_cl`` has optimiser, rate and shared head of its fine-tuning, the rest is
ours."""


@dataclass(frozen=True)
class LinearOptions:
    """Options of linear evaluation.

    Args:
        presets: Published settings of the probe; None is all that take features of one stream, and the one that the
            checkpoint's run names.
    """

    presets: tuple[ProbeName, ...] | None = None


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A trained probe.

    Args:
        weight: Weights of the K classes with the bias in the last column, (K, D + 1).
        preset: How it was trained; tells how features are prepared.
        statistics: Mean and variance of the batch norm in front of it, (2, D); None without one.
    """

    weight: Tensor
    preset: ProbePreset
    statistics: Tensor | None = None

    def __call__(self, features: Tensor) -> Tensor:
        """Logits (N, K) of features (N, D · streams)."""
        running = None if self.statistics is None else (self.statistics[0], self.statistics[1])
        with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
            return _head_bn(_inputs(features, self.preset), running, training=False) @ self.weight.T

    def cpu(self) -> LinearHead:
        """The same in main memory."""
        statistics = None if self.statistics is None else self.statistics.cpu()
        return LinearHead(self.weight.cpu(), self.preset, statistics)


@dataclass(frozen=True, eq=False)
class ProbeResult:
    """A trained probe, judged on the test features.

    Args:
        logits: Test logits after the last epoch, (N, K).
        train_loss: Mean loss of each epoch, (E,).
        test_top1: Test accuracy (0…1) after each epoch, (E,).
        head: The probe after the last epoch.
    """

    logits: Tensor
    train_loss: Tensor
    test_top1: Tensor
    head: LinearHead

    def cpu(self) -> ProbeResult:
        """The same in main memory."""
        return ProbeResult(self.logits.cpu(), self.train_loss.cpu(), self.test_top1.cpu(), self.head.cpu())

    @property
    def last(self) -> float:
        """Test accuracy after the last epoch: the headline."""
        return float(self.test_top1[-1])

    @property
    def best_on_test(self) -> float:
        """Best test accuracy of all epochs: chosen on the test set, as most papers do. Never a headline."""
        return float(self.test_top1.max())


def linear_probe(
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    num_classes: int,
    preset: ProbePreset = PRESETS["as_cal"],
    seed: int = 0,
) -> ProbeResult:
    """Train a linear classifier on cached features and judge it after every epoch.

    Runs on the features' device in float32. The head starts at N(0, 0.01²) with zero bias. Head and shuffling come
    from a CPU generator, so a seed means the same on every device; global random state is neither read nor changed.

    Args:
        train: Features (N, D) and classes (N,) to learn from.
        test: Features and classes to judge by.
        num_classes: K, the number of classes.
        preset: Settings; see ``PRESETS``.
        seed: Seed of head and shuffling.

    Raises:
        InputError: If there is nothing to learn from, a feature is not finite or a label outside 0…K − 1, or features
            do not divide into the streams of the preset.
    """
    if not len(train[0]) or not len(test[0]):
        raise InputError(f"a linear probe needs clips: {len(train[0])} for training, {len(test[0])} for testing")
    check_features("training", *train, num_classes)
    check_features("test", *test, num_classes)
    if train[0].shape[1] % preset.streams:
        raise InputError(
            f"a linear probe of {preset.streams} streams needs their features side by side, equally many of each, "
            f"not {train[0].shape[1]}"
        )
    device = train[0].device
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        x, y = _inputs(train[0], preset), train[1]
        x_test, y_test = _inputs(test[0], preset), test[1]
        target = F.one_hot(y, num_classes).float()
        random = torch.Generator().manual_seed(seed)
        head = F.pad(0.01 * torch.randn(num_classes, x.shape[1] - 1, generator=random), (0, 1)).to(device)
        optimiser = _optimiser(head, preset)
        running = (x.new_zeros(x.shape[1] - 1), x.new_ones(x.shape[1] - 1)) if preset.head_bn else None

        train_loss, test_top1 = x.new_zeros(preset.epochs), x.new_zeros(preset.epochs)
        logits = x_test.new_zeros(len(x_test), num_classes)
        for epoch in range(preset.epochs):
            order = torch.randperm(len(x), generator=random).to(device)
            shuffled = (torch.split(tensor[order], preset.batch_size) for tensor in (x, target))
            batches = list(zip(*shuffled, strict=True))
            if preset.head_bn and len(batches) > 1 and len(batches[-1][0]) < preset.batch_size:
                batches.pop()  # batch statistics of a remainder of one or two clips mean nothing
            loss = x.new_zeros(())
            for step, (some, wanted) in enumerate(batches):
                optimiser.param_groups[0]["lr"] = preset.rate(epoch + 1, step / len(batches))
                some = _head_bn(some, running, training=len(some) > 1)  # a single clip has no variance
                log_p = F.log_softmax(some @ head.T, dim=1)
                # The gradient of softmax regression in closed form: half the time of autograd, and inference mode,
                # in which Lightning tests, has no autograd.
                head.grad = (log_p.exp() - wanted).T @ some / len(some)
                optimiser.step()
                loss -= (log_p * wanted).sum()
            train_loss[epoch] = loss / sum(len(some) for some, _ in batches)
            logits = _head_bn(x_test, running, training=False) @ head.T
            test_top1[epoch] = (logits.argmax(1) == y_test).float().mean()
    statistics = None if running is None else torch.stack(running)
    return ProbeResult(logits, train_loss, test_top1, LinearHead(head, preset, statistics))


def _inputs(features: Tensor, preset: ProbePreset) -> Tensor:
    """Features (N, D · streams) as the head takes them, (N, D + 1)."""
    x = F.normalize(features.float(), dim=1) if preset.l2_normalise else features.float()
    # The logits of all streams, added, are those of the added features. The last column of the head is the bias; a
    # constant goes with it, how often it counts.
    n = preset.streams
    return F.pad(x.view(len(x), n, -1).sum(1), (0, 1), value=float(n))


def _optimiser(head: Tensor, preset: ProbePreset) -> torch.optim.Optimizer:
    if preset.optimiser == "adam":
        return torch.optim.Adam([head], lr=preset.lr)
    return torch.optim.SGD([head], lr=preset.lr, momentum=preset.momentum, nesterov=preset.nesterov)


def _head_bn(x: Tensor, running: tuple[Tensor, Tensor] | None, training: bool) -> Tensor:
    """Batch normalisation of all columns but the ones at the end, where there are running statistics."""
    if running is None:
        return x
    features = F.batch_norm(x[:, :-1], *running, training=training, momentum=0.1, eps=1e-6)
    return torch.cat([features, x[:, -1:]], 1)
