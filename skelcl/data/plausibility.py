"""Coordinates that no body has, found by their size in metres, or relative to the body where nobody knows the unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skelcl.skeleton import Skeleton

MAX_SIZE_RATIO = 20.0
"""How often larger or smaller than the median body of a store no body is."""
MAX_COORDINATE = 1e6
"""Coordinates that no unit explains."""
HEIGHTS = (0.1, 3.0)
"""Metres between which everything is that people record, from a hand to a person who stretches."""
_LONG_ENOUGH = 10
"""Frames in which every joint that is seen moves a little."""
_MAX_COMMON_MOTION = 0.1
"""Body sizes that all joints together hardly move between two frames."""


@dataclass(frozen=True)
class Limits:
    """What a joint hardly moves between two frames, where none is, and what no bone measures.

    Args:
        jump: Way of a joint between two frames.
        far: Coordinate, in metres; in body sizes the distance from the middle of the body.
        long: Length of a bone.
        unit: ``m`` or ``body sizes``.
    """

    jump: float
    far: float
    long: float
    unit: str


METRES = Limits(0.5, 10.0, 2.0, "m")
BODIES = Limits(0.4, 3.0, 1.2, "body sizes")
"""A body size is the median, over the frames of a body, of the diagonal of the box around its joints."""


def limits(units: str) -> Limits:
    """Those in metres where coordinates are in metres, else those relative to the body."""
    return METRES if units == "m" else BODIES


@dataclass(frozen=True, eq=False)
class Defects:
    """What is odd in each of n clips.

    Args:
        holes: Single joints that are missing, (n,) int.
        gaps: Frames in which a stored body is missing, (n,) int.
        jumps: Whether a joint jumps, (n,) bool.
        far: Whether a joint is far away.
        long: Whether a bone is too long.
        swaps: Whether two bodies change their places from one frame to the next.
        size: Size of the first body, (n,), NaN where it is a point.
        height: Its extent along y, the median over its frames, (n,), NaN where it is not seen.
        upright: How far above the lower end of its trunk the upper one lies along y, median over its frames, (n,).
        flat: Whether z is zero throughout, (n,) bool; False for two coordinates.
        frozen: Joints of the first body that never move while others do, in clips of some length, (n, V) bool.
    """

    holes: np.ndarray
    gaps: np.ndarray
    jumps: np.ndarray
    far: np.ndarray
    long: np.ndarray
    swaps: np.ndarray
    size: np.ndarray
    height: np.ndarray
    upright: np.ndarray
    flat: np.ndarray
    frozen: np.ndarray


def find_defects(
    joints: np.ndarray, frames: np.ndarray, bodies: np.ndarray, skeleton: Skeleton, limits: Limits
) -> Defects:
    """Looks at clips as they are stored.

    Args:
        joints: Their rows, body after body, frame after frame, (R, V, C), NaN where nothing was seen.
        frames: Frames of each clip, (n,).
        bodies: Bodies of each clip, (n,).
        skeleton: Layout of the joints.
        limits: What is told.
    """
    lengths = np.repeat(frames, bodies)  # of each body, as the next two
    track = np.repeat(np.arange(len(lengths)), lengths)
    clip = np.repeat(np.repeat(np.arange(len(frames)), bodies), lengths)
    missing = np.isnan(joints[..., 0])
    absent = missing.all(1)
    with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float32 is far
        sizes = _sizes(joints, absent, track, len(lengths))
        unit = np.ones(len(joints), np.float32) if limits.unit == "m" else sizes[track].astype(np.float32)
        step = np.linalg.norm(np.diff(joints, axis=0), axis=-1)  # NaN is larger than nothing
        # No motion is counted from one body to the next.
        jumps = (step > limits.jump * unit[1:, None]).any(1) & (track[1:] == track[:-1])
        far = _far(joints, missing, unit, limits)
        bones = np.linalg.norm(joints - joints[:, skeleton.parents], axis=-1)
        long = (bones > limits.long * unit[:, None]).any(1)
        swaps = np.zeros(len(frames), bool)
        starts = np.concatenate([[0], np.cumsum(frames * bodies)])
        first = np.cumsum(bodies) - bodies
        mine = np.isin(track, first)  # rows of the first body of each clip
        body, owner = joints[mine], clip[mine]
        tall = np.fmax.reduce(body[..., 1], 1) - np.fmin.reduce(body[..., 1], 1)
        lower, upper = skeleton.up
        height = _medians(tall, owner, len(frames))
        upright = _medians(body[:, upper, 1] - body[:, lower, 1], owner, len(frames))
        begin = np.cumsum(frames) - frames
        span = np.fmax.reduceat(body, begin) - np.fmin.reduceat(body, begin)  # (n, V, C)
        still = (span == 0).all(2)
        depth = np.fmax.reduceat(np.abs(joints[..., 2:]).max(1), starts[:-1])
        for n in np.flatnonzero(bodies > 1).tolist():
            tracks = joints[starts[n] : starts[n + 1]].reshape(bodies[n], frames[n], *joints.shape[1:])
            swaps[n] = _swap(tracks, sizes[first[n] : first[n] + bodies[n]])

    def any_of(rows: np.ndarray, owners: np.ndarray) -> np.ndarray:
        return np.bincount(owners[rows], minlength=len(frames)) > 0

    return Defects(
        holes=np.bincount(clip, (missing & ~absent[:, None]).sum(1), len(frames)).astype(np.int64),
        gaps=np.bincount(clip[absent], minlength=len(frames)),
        jumps=any_of(jumps, clip[1:]),
        far=any_of(far, clip),
        long=any_of(long, clip),
        swaps=swaps,
        size=sizes[first],
        height=height,
        upright=upright,
        flat=(depth == 0).any(1),
        frozen=still & (~still).any(1, keepdims=True) & (frames >= _LONG_ENOUGH)[:, None],
    )


def are_far(joints: np.ndarray, limits: Limits) -> bool:
    """Whether a clip (M, T, V, C) has coordinates that no body has, NaN where nothing was seen."""
    if limits.unit == "m":  # of clips by the ten thousands
        return bool((np.abs(joints) > limits.far).any())
    rows = joints.reshape(-1, *joints.shape[2:])
    missing = np.isnan(rows[..., 0])
    track = np.repeat(np.arange(len(joints)), joints.shape[1])
    with np.errstate(over="ignore", invalid="ignore"):
        unit = _sizes(rows, missing.all(1), track, len(joints))[track]
        return bool(_far(rows, missing, unit, limits).any())


def _far(joints: np.ndarray, missing: np.ndarray, unit: np.ndarray, limits: Limits) -> np.ndarray:
    """Rows with a joint that is far from the origin, (R,); without a known unit, from the middle of its body."""
    if limits.unit == "m":
        return np.asarray((np.abs(joints) > limits.far).any((1, 2)))
    middle = np.nan_to_num(joints).sum(1, keepdims=True) / np.maximum((~missing).sum(1), 1)[:, None, None]
    apart = np.linalg.norm(joints - middle, axis=-1) > limits.far * unit[:, None]
    return np.asarray((apart & ~missing).any(1) | (np.abs(joints) > MAX_COORDINATE).any((1, 2)))


def _sizes(joints: np.ndarray, absent: np.ndarray, track: np.ndarray, count: int) -> np.ndarray:
    """Size of each body, (count,); NaN where all its joints are one point."""
    by_joint = joints.swapaxes(0, 1).copy()  # along the first axis numpy is several times as fast
    box = np.fmax.reduce(by_joint) - np.fmin.reduce(by_joint)  # which pass over NaN
    diagonal = np.where(absent, np.nan, np.linalg.norm(box, axis=-1))
    median = _medians(diagonal, track, count)
    return np.where(median > 0, median, np.nan)


def _medians(value: np.ndarray, owner: np.ndarray, count: int) -> np.ndarray:
    """The lower median of the values (R,) of each owner that are no NaN, (count,); owners (R,) ascend."""
    order = np.lexsort((value, owner))  # NaN last
    seen = np.bincount(owner[~np.isnan(value)], minlength=count)
    first = np.searchsorted(owner, np.arange(count))
    median = value[order][first + np.maximum(seen - 1, 0) // 2].astype(np.float64)
    return np.where(seen > 0, median, np.nan)


def _swap(tracks: np.ndarray, sizes: np.ndarray) -> bool:
    """Whether two bodies of (M, T, V, C) go on better as one another, and not at all as themselves."""
    own = [_displacement(track, track) for track in tracks]
    for a in range(len(tracks)):
        for b in range(a + 1, len(tracks)):
            stay = own[a] + own[b]
            leap = stay > _MAX_COMMON_MOTION * (sizes[a] + sizes[b])
            if leap.any():
                cross = _displacement(tracks[a], tracks[b]) + _displacement(tracks[b], tracks[a])
                if (leap & (cross < 0.5 * stay)).any():
                    return True
    return False


def _displacement(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Mean way of the joints of (T, V, C) to those of the next frame, (T − 1,); NaN where a body is missing."""
    apart = np.linalg.norm(after[1:] - before[:-1], axis=-1)
    both = ~np.isnan(apart)
    count = both.sum(1)
    return np.where(count > 0, np.where(both, apart, 0).sum(1) / np.maximum(count, 1), np.nan)
