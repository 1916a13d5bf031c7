"""Which of the bodies that a sensor listed are people: the selections of the literature, as pure functions.

A Kinect also reports chairs and bystanders, loses people and finds them again under new ids. Published pipelines agree
on two bodies per clip and differ in which two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Selection = Literal["sgn", "agcn", "first-two"]

MIN_FRAMES = 12
"""Frames that a track needs when there are several (``sgn``)."""
WIDE, WIDE_SHARE = 0.8, 0.69754
"""A body wider than this part of its height is noise in that frame; a track with this share of such frames is none."""
SLOTS = 4
"""Bodies of a frame record that ``agcn`` looks at."""


@dataclass(frozen=True)
class BodyFrames:
    """Every body of every frame of one recording: K rows, in the order of frames and of the bodies within a frame.

    Args:
        joints: Coordinates, (K, V, 3) float32.
        frame: Frame of each row, counted from 0, (K,) int.
        slot: Place of the body in the record of its frame, (K,) int.
        track: Number of the track, in the order of first appearance, (K,) int; at most one row per frame and track.
        num_frames: T, frames of the recording, those without a body included.
    """

    joints: NDArray[np.float32]
    frame: NDArray[np.int64]
    slot: NDArray[np.int64]
    track: NDArray[np.int64]
    num_frames: int


def select(bodies: BodyFrames, selection: Selection, compact_gaps: bool = False) -> tuple[np.ndarray, list[str]]:
    """Chooses at most two bodies of a recording.

    Args:
        bodies: The recording.
        selection: ``sgn``, ``agcn`` or ``first-two``, the function of that name.
        compact_gaps: Close gaps in time as the published code does, see :func:`sgn` and :func:`agcn`; ``first-two``
            keeps every frame in its place.

    Returns:
        (M, T, V, 3) float32 with M ≤ 2, NaN where a body was not seen; M = 0 when nobody ever was. Then remarks on what
        was left out.
    """
    seen = _seen(bodies)
    if selection == "sgn":
        return sgn(seen, compact_gaps)
    chosen = agcn(seen) if selection == "agcn" else first_two(seen)
    kept = int((~np.isnan(chosen).all((2, 3))).sum())
    lost = len(seen.joints) - kept
    if selection == "agcn" and compact_gaps:
        chosen = _continuous(chosen)
    return chosen, [f"{lost} of {len(seen.joints)} bodies in single frames were left out ({selection})"] if lost else []


def _seen(bodies: BodyFrames) -> BodyFrames:
    """Missing joints (zeros, or not finite) become NaN; bodies with more than half of them missing go."""
    joints = bodies.joints.copy()
    missing = (joints == 0).all(-1) | ~np.isfinite(joints).all(-1)
    joints[missing] = np.nan
    keep = 2 * missing.sum(-1) <= joints.shape[1]
    return BodyFrames(joints[keep], bodies.frame[keep], bodies.slot[keep], bodies.track[keep], bodies.num_frames)


# --- sgn: by track ----------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Track:
    joints: np.ndarray  # (n, V, 3)
    at: np.ndarray  # (n,) frames, ascending
    motion: float = 0.0


def sgn(bodies: BodyFrames, compact_gaps: bool = False) -> tuple[np.ndarray, list[str]]:
    """Selection of SGN (Zhang et al., CVPR 2020), which CTR-GCN, MAMP and PYSKL build on.

    Among several tracks those of at most 11 frames and those that are mostly wider than 0.8 of their height go. The
    others are sorted by the variance of their coordinates. The first takes slot A; each further one is written into A
    when it shares no more than a frame with what is there, else into B on the same terms, else it goes: so people whose
    id changed are joined again. As published, slot B counts as taken from frame 0 on. The reference breaks down when
    every track is short; here the longest is kept.

    Args:
        bodies: The recording, NaN where a joint is missing.
        compact_gaps: As published: frames without a body are cut out, a track that was lost for a while closes its gap,
            and of a single remaining track only its own frames are kept. False leaves all frames in their places.

    Returns:
        (M, T, V, 3) float32 with M ≤ 2, NaN where a body was not seen, and remarks on what was left out.
    """
    frame, length = bodies.frame, bodies.num_frames
    if compact_gaps:
        nonempty, frame = np.unique(frame, return_inverse=True)
        length = len(nonempty)
    order = np.argsort(bodies.track, kind="stable")
    everybody = []
    for rows in np.split(order, np.flatnonzero(np.diff(bodies.track[order])) + 1) if len(order) else []:
        at = frame[rows]
        everybody.append(_Track(bodies.joints[rows], at[0] + np.arange(len(at)) if compact_gaps else at))
    tracks, remarks = everybody, []
    if len(tracks) > 1:
        tracks = [track for track in everybody if len(track.at) >= MIN_FRAMES]
        if not tracks:
            tracks = [max(everybody, key=lambda track: len(track.at))]
            remarks.append(f"no body is seen in {MIN_FRAMES} frames: the longest track was kept")
        tracks = _without_noise(tracks)
        if len(tracks) == 1 and compact_gaps:
            length = len(tracks[0].at)
            tracks[0].at = np.arange(length)
    slots = np.full((2, length, *bodies.joints.shape[1:]), np.nan, np.float32)
    taken: list[tuple[int, int]] = []
    used = 0
    for track in sorted(tracks, key=lambda track: -track.motion):
        first, last = int(track.at[0]), int(track.at[-1])
        if not taken:
            taken = [(first, last), (0, 0)]
            free: int | None = 0
        else:
            free = next((n for n, (start, end) in enumerate(taken) if min(end, last) - max(start, first) <= 0), None)
        if free is None:
            continue
        slots[free, track.at] = track.joints
        taken[free] = (min(taken[free][0], first), max(taken[free][1], last))
        used += 1
    seen = np.asarray(~np.isnan(slots).all((2, 3)))
    if compact_gaps:
        slots = slots[:, seen.any(0)]
    if used < len(everybody):
        remarks.append(f"{len(everybody) - used} of {len(everybody)} body tracks were left out (sgn)")
    return slots[seen.any(1)], remarks


def _without_noise(tracks: list[_Track]) -> list[_Track]:
    """Scores the tracks by their motion and drops those that are too wide for a person; one is always left."""
    for track in tracks:
        track.motion = _variance(track.joints)
    left = list(tracks)
    for track in tracks:
        if len(left) == 1:
            break
        extent = np.nanmax(track.joints, 1).astype(np.float64) - np.nanmin(track.joints, 1)
        wide = extent[:, 0] > WIDE * extent[:, 1]
        if wide.mean() >= WIDE_SHARE:
            left.remove(track)
        elif wide.any():
            track.motion = min(track.motion, _variance(track.joints[~wide]))
    return left


def _variance(joints: np.ndarray) -> float:
    """Variance of x, y and z over all points of (n, V, 3), summed."""
    return float(_points(joints).var(0).sum())


def _points(joints: np.ndarray) -> np.ndarray:
    """The joints of (n, V, 3) that were seen, (P, 3) float64; a missing joint is NaN in all coordinates."""
    points = joints.reshape(-1, 3)
    return points[~np.isnan(points[:, 0])].astype(np.float64)


# --- agcn, first two: by place in the frame ---------------------------------------------------------------------------


def agcn(bodies: BodyFrames) -> np.ndarray:
    """Selection of 2s-AGCN (Shi et al., CVPR 2019), which most contrastive methods use.

    Of the first four places of the frame records, the two whose coordinates spread most, the larger spread first;
    identities play no part. With ``compact_gaps`` of :func:`select`, as published: of a body that is not there at the
    start the frames without it are cut out, and a body that ends before the clip starts again from its first frame, as
    often as it takes. So two bodies may show different moments, and none is ever gone again.

    Args:
        bodies: The recording, NaN where a joint is missing.

    Returns:
        (M, T, V, 3) float32 with M ≤ 2, NaN where a body was not seen.
    """
    slots = _by_slot(bodies, SLOTS)
    energy = [float(_points(slot).std(0).sum()) for slot in slots]
    order = sorted(range(len(slots)), key=lambda n: -energy[n])
    return slots[order[:2]]


def _continuous(chosen: np.ndarray) -> np.ndarray:
    """Bodies (M, T, V, 3) from the first frame to the last, see :func:`agcn`; gaps in between stay NaN."""
    filled = chosen.copy()
    for body in filled:
        there = np.flatnonzero(~np.isnan(body).all((1, 2)))
        content = body[: there[-1] + 1] if there[0] == 0 else body[there]
        body[:] = content[np.arange(len(body)) % len(content)]
    return filled


def first_two(bodies: BodyFrames) -> np.ndarray:
    """The first two bodies of each frame record, as ST-GCN's raw arrays hold them (Yan et al., AAAI 2018).

    Args:
        bodies: The recording, NaN where a joint is missing.

    Returns:
        (M, T, V, 3) float32 with M ≤ 2, NaN where a body was not seen.
    """
    return _by_slot(bodies, 2)


def _by_slot(bodies: BodyFrames, count: int) -> np.ndarray:
    """The first places of the frame records, (M, T, V, 3); those that are never taken are left out."""
    rows = bodies.slot < count
    slots = np.full((count, bodies.num_frames, *bodies.joints.shape[1:]), np.nan, np.float32)
    slots[bodies.slot[rows], bodies.frame[rows]] = bodies.joints[rows]
    return slots[np.unique(bodies.slot[rows])]
