"""Temperature scaling: probabilities that are right as often as they say, by one number (Guo et al., ICML 2017)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from skelcl.bounds import PositiveFloat, PositiveInt, bounded

BOUNDS = (0.01, 100.0)
"""Between these a temperature is looked for."""
_HALVINGS = 50


class BeforeAfter(NamedTuple):
    """A measure of probabilities at temperature 1, and at the one that was found."""

    before: float
    after: float


@bounded
@dataclass(frozen=True)
class Calibration:
    """What logits are divided by, and how good the probabilities were without it and are with it.

    Args:
        temperature: Above 1 where the classifier was surer than it was right.
        clips: Clips that it was fitted on, none of which the classifier learned from.
        nll: Their mean negative log-likelihood, in nats.
        ece: Their expected calibration error (0…1), see :func:`expected_calibration_error`.
    """

    temperature: PositiveFloat
    clips: PositiveInt
    nll: BeforeAfter
    ece: BeforeAfter

    def __str__(self) -> str:
        return (
            f"temperature {self.temperature:.3g}, fitted on {self.clips} training clips held out, calibration error "
            f"{self.ece.before:.3f} → {self.ece.after:.3f}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "temperature": self.temperature,
            "clips": self.clips,
            "nll": self.nll._asdict(),
            "ece": self.ece._asdict(),
        }


@torch.no_grad()
def calibrate(logits: Tensor, label: Tensor) -> Calibration:
    """The temperature within :data:`BOUNDS` at which the negative log-likelihood is least.

    That is convex in β = 1/temperature, so its slope, the mean of Σₖ pₖzₖ − z of the true class, has one zero.

    Args:
        logits: Of clips that the classifier did not learn from, (N, K).
        label: Their classes, (N,) int64.
    """
    z = logits.double()
    true = z.gather(1, label[:, None]).mean()
    cold, hot = map(math.log, BOUNDS)
    for _ in range(_HALVINGS):
        middle = (cold + hot) / 2
        slope = ((z / math.exp(middle)).softmax(1) * z).sum(1).mean() - true
        cold, hot = (middle, hot) if slope > 0 else (cold, middle)
    temperature = math.exp((cold + hot) / 2)
    scaled = (z, z / temperature)
    return Calibration(
        temperature,
        len(z),
        BeforeAfter(*(float(F.cross_entropy(one, label)) for one in scaled)),
        BeforeAfter(*(expected_calibration_error(one.softmax(1), label) for one in scaled)),
    )


def expected_calibration_error(probability: Tensor, label: Tensor, bins: int = 15) -> float:
    """How far the probability of the likeliest class is from its accuracy, on average over clips in bins of it.

    Args:
        probability: (N, K).
        label: (N,) int64.
        bins: Equal parts of (0, 1], each with its upper end (Guo et al. take 15).
    """
    sure, found = probability.double().max(1)
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=sure.device)[1:-1]
    gap = torch.zeros(bins, dtype=torch.float64, device=sure.device)
    gap.index_add_(0, torch.bucketize(sure, edges), sure - (found == label).double())
    return float(gap.abs().sum() / len(label))
