"""Robustness: encoder and judges as they are after clean training, test clips damaged in many ways and degrees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np

from skelcl.bounds import NonNegativeInt, PositiveFloat, bounded
from skelcl.errors import OptionError
from skelcl.evaluation.corruptions import SHARES, Corruption, Fill, largest_severities
from skelcl.evaluation.probe import ProbeName
from skelcl.skeleton import Skeleton

SUITE: dict[Corruption, tuple[float, ...]] = {
    "spatial_part": (1, 2, 3),
    "spatial_joint": (3, 5, 8, 12),
    "temporal_block": (0.1, 0.2, 0.3, 0.5),
    "temporal_drop": (0.1, 0.2, 0.3, 0.4, 0.5),
    "jitter": (1, 2, 5),
    "view": (15, 30, 60, 90),
    "person_drop": (1,),
    "id_switch": (1,),
}
"""Corruption → severities: parts, joints, shares of the frames, centimetres, degrees; of people there is one."""


@bounded
@dataclass(frozen=True)
class RobustnessOptions:
    """Options of robustness.

    Args:
        corruptions: Severities of each corruption; see :func:`skelcl.evaluation.corruptions.corrupt`. Those that a
            skeleton or a data set has no room for (more parts than there are, a second person where one is shown) are
            left out, and this is told.
        fill: What stands in the place of lost joints and frames.
        seed: Of the damage, the same for every encoder.
        probe: Preset of the linear probe; None is that of the checkpoint's run.
    """

    corruptions: Mapping[Corruption, tuple[PositiveFloat, ...]] = field(default_factory=lambda: dict(SUITE))
    fill: Fill = "root"
    seed: NonNegativeInt = 0
    probe: ProbeName | None = None


@dataclass(frozen=True)
class Reading:
    """Top-1 accuracy under one damage.

    Args:
        corruption: Its name.
        severity: Its degree.
        encoder: ``learned`` or ``random``.
        judge: ``knn``, ``linear``, or ``own`` for the network's own classifier.
        subset: ``test``, or a named part of it.
        top1: Accuracy (0…1), mean over the seeds of the judge.
    """

    corruption: Corruption
    severity: float
    encoder: str
    judge: str
    subset: str
    top1: float


def suite(
    options: RobustnessOptions, skeleton: Skeleton, num_persons: int, channels: int
) -> tuple[list[tuple[Corruption, float]], list[str]]:
    """Corruptions and severities that these data have room for.

    Args:
        options: What is asked for.
        skeleton: Layout of the joints.
        num_persons: M.
        channels: C.

    Returns:
        Pairs of corruption and severity, and what was left out, in words.

    Raises:
        InputError: If a corruption is unknown, or a share of the frames above one.
    """
    room = largest_severities(skeleton)
    if num_persons < 2:
        room |= {"person_drop": 0, "id_switch": 0}
    if channels != 3:
        room["view"] = 0
    kept: list[tuple[Corruption, float]] = []
    left = []
    for corruption, severities in options.corruptions.items():
        if corruption not in get_args(Corruption):
            raise OptionError(f"robustness: no corruption {corruption!r}, they are {', '.join(get_args(Corruption))}")
        for severity in severities:
            if corruption in SHARES and severity > room[corruption]:
                raise OptionError(f"robustness: {corruption} {severity:g}, a share of the frames is at most 1")
            if severity <= room.get(corruption, np.inf):
                kept.append((corruption, severity))
            else:
                left.append(f"{corruption} {severity:g}")
    return kept, left


def robustness_scores(readings: Sequence[Reading], clean: Mapping[tuple[str, str, str], float]) -> dict[str, float]:
    """Means over severities, then over corruptions: every corruption counts the same, however many degrees it has.

    Args:
        readings: Of all encoders, judges, subsets, corruptions and severities.
        clean: Accuracy without damage by (encoder, judge, subset).

    Returns:
        By ``<subset>/<kind>``: ``robustness_knn_top1``, ``robustness_linear_top1`` and ``robustness_top1`` (its own
        classifier); ``…_drop``, what is lost against clean clips; ``…_mce``, the mean corruption error: the errors of a
        corruption, added over severities, relative to those of the random encoder under the same judge. Below 1 is
        better than random weights. Names of the random encoder's have ``random_`` before the kind.
    """
    scores = {}
    for (encoder, judge, subset), undamaged in clean.items():
        found = _by_corruption(readings, encoder, judge, subset)
        if not found:
            continue
        prefix = f"{subset}/{'' if encoder == 'learned' else f'{encoder}_'}robustness"
        name = prefix if judge == "own" else f"{prefix}_{judge}"
        mean = float(np.mean([np.mean(values) for values in found.values()]))
        scores[f"{name}_top1"] = mean
        scores[f"{name}_drop"] = undamaged - mean
        reference = _by_corruption(readings, "random", judge, subset)
        if encoder == "learned" and reference:
            errors = [
                np.sum(1 - np.array(values)) / max(np.sum(1 - np.array(reference[corruption])), 1e-12)
                for corruption, values in found.items()
            ]
            scores[f"{name}_mce"] = float(np.mean(errors))
    return scores


def severity_curves(
    readings: Sequence[Reading], clean: Mapping[tuple[str, str, str], float], judge: str, subset: str = "test"
) -> Iterator[tuple[Corruption, dict[str, tuple[list[float], list[float]]]]]:
    """For each corruption, severities from 0 (clean) on and accuracies (0…1), by encoder."""
    for corruption in dict.fromkeys(reading.corruption for reading in readings):
        series = {}
        for (encoder, one, part), undamaged in clean.items():
            if (one, part) == (judge, subset):
                points = [
                    (reading.severity, reading.top1)
                    for reading in readings
                    if (reading.corruption, reading.encoder, reading.judge, reading.subset)
                    == (corruption, encoder, judge, subset)
                ]
                series[encoder] = ([0.0, *(x for x, _ in points)], [undamaged, *(y for _, y in points)])
        yield corruption, series


def _by_corruption(readings: Sequence[Reading], encoder: str, judge: str, subset: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for reading in readings:
        if (reading.encoder, reading.judge, reading.subset) == (encoder, judge, subset):
            found.setdefault(reading.corruption, []).append(reading.top1)
    return found
