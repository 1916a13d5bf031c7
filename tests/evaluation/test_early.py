"""Beginnings of clips against a slow twin, and names of accuracies that are read back."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch

from skelcl.clips import Clips
from skelcl.errors import InputError, OptionError
from skelcl.evaluation.early import EarlyOptions, beginning, early_curve, early_name
from skelcl.skeleton import KINECT20
from skelcl.transforms import Normalize, Resize, View

LENGTHS, BODIES = (1, 9, 10, 25, 100, 137), (1, 2, 1, 2, 3, 1)


@pytest.fixture
def clips() -> Clips:
    """Clips among rows of others, not in their order; bodies that are missing now and then, body 0 late in two."""
    sizes = [length * bodies for length, bodies in zip(LENGTHS, BODIES, strict=True)]
    offsets = torch.tensor([7 + sum(sizes[n + 1 :]) for n in range(len(sizes))])
    joints = torch.randn(sum(sizes) + 12, 20, 3, generator=torch.Generator().manual_seed(0))
    joints[offsets[3] : offsets[3] + 4] = torch.nan  # body 0 of a clip of two
    joints[offsets[5] : offsets[5] + 50] = torch.nan
    joints[offsets[4] + 130 : offsets[4] + 140] = torch.nan
    first = torch.tensor([0, 0, 0, 4, 0, 50])
    number = torch.arange(6)
    return Clips(joints, offsets, torch.tensor(LENGTHS), torch.tensor(BODIES), first, number, number, KINECT20, 2, True)


@pytest.mark.parametrize("percent", [1, 7, 10, 28, 30, 55, 70, 99, 100])
def test_a_beginning_is_what_slices_of_every_body_give(clips: Clips, percent: int) -> None:
    found = beginning(clips, percent)
    assert int(found.offsets[-1] + found.frames[-1] * found.bodies[-1]) == len(found.joints), "no row more than is seen"
    for n, (length, bodies) in enumerate(zip(LENGTHS, BODIES, strict=True)):
        start = int(clips.offsets[n])
        body = clips.joints[start : start + length * bodies].view(bodies, length, 20, 3)
        frames = max(math.ceil(Fraction(percent, 100) * length), int(clips.first[n]) + 1)
        assert found.frames[n] == frames
        start = int(found.offsets[n])
        rows = found.joints[start : start + frames * bodies].view(bodies, frames, 20, 3)
        assert torch.equal(rows.nan_to_num(77), body[:, :frames].nan_to_num(77))
    for name in ("bodies", "first", "label", "index"):
        assert torch.equal(getattr(found, name), getattr(clips, name))
    assert not found.reference.isnan().any()


def test_what_comes_later_changes_nothing(clips: Clips) -> None:
    """No view of a beginning depends on a later frame: coordinates there may be anything."""
    view = View(Resize(16), Normalize("agcn"))
    later = clips.joints.clone()
    for n, (length, bodies) in enumerate(zip(LENGTHS, BODIES, strict=True)):
        start = int(clips.offsets[n])
        rows = later[start : start + length * bodies].view(bodies, length, 20, 3)
        rows[:, max(math.ceil(0.3 * length), int(clips.first[n]) + 1) :] = 1e6
    changed = replace(clips, joints=later)
    assert not torch.equal(view(clips), view(changed))
    assert torch.equal(view(beginning(clips, 30)), view(beginning(changed, 30)))


def test_a_whole_clip_is_seen_as_ever(clips: Clips) -> None:
    view = View(Resize(16), Normalize("agcn"))
    assert torch.equal(view(beginning(clips, 100)), view(clips))


def test_curves_are_read_from_the_names_of_accuracies() -> None:
    names = [(judge, percent) for judge in ("knn", "linear", "own") for percent in (100, 10, 50)]
    metrics = {f"test/{early_name(*one)}": number / 10 for number, one in enumerate(names)}
    metrics |= {
        f"test/{early_name('own')}": 0.95,
        "test/random_early_knn_top1_10": 0.96,
        "test_clean/early_top1_10": 0.97,
    }
    assert {"test/early_knn_top1_10", "test/early_linear_top1_100", "test/early_top1_50"} <= set(metrics)
    assert early_curve(metrics, "knn") == {10: 0.1, 50: 0.2, 100: 0.0}
    assert early_curve(metrics, "own") == {10: 0.7, 50: 0.8, 100: 0.6}
    assert list(early_curve(metrics, "linear")) == [10, 50, 100]
    assert early_curve(metrics, "knn", prefix="random_") == {10: 0.96}
    assert early_curve(metrics, "own", "test_clean") == {10: 0.97}
    assert early_curve(metrics, "knn", "test_clean") == {}


@pytest.mark.parametrize(
    ("percents", "told"),
    [
        ((), r"different shares, like \[10,50,100\], not \[\]"),
        ((10, 10), r"not \[10, 10\]"),
        ((0, 10), r"percents must be in 1…100, got 0"),
        ((101,), r"percents must be in 1…100, got 101"),
        ((0.5,), r"percents must be a whole number in 1…100, got 0.5"),
    ],
)
def test_shares_without_a_meaning_are_refused(percents: tuple[int, ...], told: str) -> None:
    with pytest.raises((InputError, OptionError), match=told):
        EarlyOptions(percents)
