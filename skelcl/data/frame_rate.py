"""Clips at another number of frames per second."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from skelcl.clips import Clips
from skelcl.errors import InputError

_FINEST = 1_000_000
"""Largest denominator of a step: frame numbers times it are whole numbers of 64 bits."""
_MOST = 1000
"""Largest ratio of two rates: a rate far from the other is a slip, and would fill any memory with frames."""


def frame_step(fps: float, target: float) -> Fraction:
    """Frames of a clip from one frame to the next of the same clip at another rate, as a fraction of whole numbers.

    Args:
        fps: Frames per second of the clip.
        target: Frames per second that are wanted.

    Raises:
        InputError: One is more than a thousand times the other.
    """
    step = Fraction(str(fps)) / Fraction(str(target))
    if not Fraction(1, _MOST) <= step <= _MOST:
        raise InputError(f"{fps:g} frames per second cannot become {target:g}: one is over {_MOST} times the other")
    return step.limit_denominator(_FINEST)


def num_frames(frames: Tensor, step: Fraction) -> Tensor:
    """T' = ⌊(T − 1)/step⌋ + 1, the frames that clips of T frames have at another rate; all lie within the clips."""
    return (frames - 1) * step.denominator // step.numerator + 1


def resample(clips: Clips, step: Fraction) -> Clips:
    """The same clips at another rate, linearly interpolated: frame i is what frame i · step was.

    The first frame stays as it is, and the constants that normalisation takes from it with it. Missing frames do not
    bleed, as in :func:`~skelcl.transforms.resample.blend`: the nearer source frame decides whether a frame shows a
    body, and a missing neighbour is ignored. A body that no frame would show is shown where it was seen first.

    Args:
        clips: N clips, whose bodies are missing as a whole or not at all.
        step: From :func:`frame_step`.

    Returns:
        N clips in memory of their own.
    """
    p, q = step.numerator, step.denominator
    clip = torch.repeat_interleave(clips.bodies)  # of each of B bodies
    number = torch.arange(len(clip), device=clip.device) - (clips.bodies.cumsum(0) - clips.bodies)[clip]
    old, frames = clips.frames[clip], num_frames(clips.frames, step)
    start = clips.offsets[clip] + number * old
    body, i = _rows(frames[clip])
    low = i * p // q
    weight = ((i * p - low * q).to(clips.joints.dtype) / q)[:, None, None]
    before = start[body] + low
    after = start[body] + (low + 1).minimum(old[body] - 1)
    first = torch.zeros_like(clips.first)
    gaps = clips.gaps
    if gaps:
        seen = ~clips.joints[:, 0, 0].isnan()
        shown = seen[torch.where(weight[:, 0, 0] > 0.5, after, before)]
        before, after = torch.where(seen[before], before, after), torch.where(seen[after], after, before)
    joints = clips.joints[before] * (1 - weight) + clips.joints[after] * weight
    if gaps:
        joints[~shown] = torch.nan
        met, when = _first_seen(body, i, shown, len(clip))
        if not bool(met.all()):
            source, j = _rows(old)
            _, earliest = _first_seen(source, j, seen[start[source] + j], len(clip))
            nearest = ((2 * earliest * q + p) // (2 * p)).minimum(frames[clip] - 1)
            when = torch.where(met, when, nearest)
            place = frames[clip].cumsum(0) - frames[clip] + when
            joints[place[~met]] = clips.joints[(start + earliest)[~met]]
        first = when[number == 0]
        gaps = bool(joints[:, 0, 0].isnan().any())
    sizes = frames * clips.bodies
    offsets = sizes.cumsum(0) - sizes
    return replace(clips, joints=joints, frames=frames, offsets=offsets, first=first, gaps=gaps)


def _rows(counts: Tensor) -> tuple[Tensor, Tensor]:
    """For runs of so many rows, one after the other: the run of each row, and its place in the run."""
    run = torch.repeat_interleave(counts)
    return run, torch.arange(len(run), device=run.device) - (counts.cumsum(0) - counts)[run]


def _first_seen(body: Tensor, frame: Tensor, seen: Tensor, bodies: int) -> tuple[Tensor, Tensor]:
    """Whether each of the bodies is seen in any of these rows, (B,) bool, and its first such frame, (B,) int64."""
    never = torch.iinfo(torch.int64).max
    first = frame.new_full((bodies,), never).scatter_reduce(0, body, torch.where(seen, frame, never), "amin")
    return first < never, torch.where(first < never, first, 0)
