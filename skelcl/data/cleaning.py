"""One recording on its way into a store: what is missing is marked, what was never seen dropped, the rest described."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from skelcl.data.plausibility import are_far, limits
from skelcl.data.recording import Notice, ReadError, Recording
from skelcl.data.schema import COLUMNS, Flag
from skelcl.skeleton import Skeleton


def clean(
    recording: Recording, skeleton: Skeleton, channels: int, units: str = "as given"
) -> tuple[dict[str, Any], np.ndarray, list[Notice]]:
    """Marks what is missing with NaN, drops bodies that were never seen and fills in the row of the index.

    Args:
        recording: A clip as its reader gives it.
        skeleton: Layout of the joints.
        channels: Coordinates per joint.
        units: Unit of the coordinates.

    Returns:
        Row of the index, without its place in the store; coordinates (M, T, V, C) float32, NaN where missing; notices
        on what was repaired, lost or odd.

    Raises:
        ReadError: The clip has another shape, shows no body, or only bodies of which a joint was never seen.
    """
    joints = np.array(recording.joints, np.float32)
    if joints.ndim != 4 or joints.shape[2:] != (skeleton.num_joints, channels):
        expected = f"(M, T, {skeleton.num_joints}, {channels})"
        raise ReadError("shape", f"{recording.id}: joints are {joints.shape}, not {expected}")
    zero = (joints == 0).all(-1) & recording.zeros
    missing = zero | ~np.isfinite(joints).all(-1)
    absent = absent_frames(missing)
    missing |= absent[..., None]
    joints[missing] = np.nan
    seen = np.asarray(~absent.all(1))
    if not seen.any():
        raise ReadError("no_skeleton", f"{recording.id}: no frame shows a body")
    never = missing.all(1) & seen[:, None]
    usable = seen & ~never.any(1)
    if not usable.any():
        raise never_seen(
            recording.id, [joint for joint, lost in zip(skeleton.joints, never[seen][0], strict=True) if lost]
        )
    notices: list[Notice] = []

    def note(outcome: Literal["repaired", "warning"], reason: str, message: str) -> None:
        notices.append(Notice(id=recording.id, outcome=outcome, reason=reason, message=message, line=None))

    for message in recording.warnings:
        note("warning", "reader", message)
    for reason, message in recording.notes.items():
        note("warning", reason, message)
    if (~usable & seen).any():
        note("warning", "body_dropped", f"{int((~usable & seen).sum())} bodies of which a joint was never seen")
    joints, missing, absent = joints[usable], missing[usable], absent[usable]
    holes = missing & ~absent[..., None]
    flags = Flag(0)
    if holes.any():
        flags |= Flag.REPAIRED
        frames = np.flatnonzero(holes.any((0, 2)))
        message = f"{int(holes.sum())} joints in {len(frames)} frames, first in frame {frames[0]}"
        note("repaired", "missing_joint", message)
    if absent.any():
        flags |= Flag.GAP
        frames = np.flatnonzero(absent.any(0))
        note("warning", "missing_frame", f"a body is missing in {len(frames)} frames, first in frame {frames[0]}")
    if are_far(joints, limits(units)):
        most = float(np.nanmax(np.abs(joints)))
        note("warning", "coordinates", f"coordinates where no body is, the largest {most:g} {units}")
    if joints.shape[1] == 1:
        flags |= Flag.SINGLE_FRAME
    row = {name: getattr(recording, name, None) for name in COLUMNS}
    row |= {
        "n_bodies": joints.shape[0],
        "n_frames": joints.shape[1],
        "n_frames_declared": joints.shape[1] if recording.n_frames_declared is None else recording.n_frames_declared,
        "first": int(np.argmin(absent[0])),
        "label_original": recording.label if recording.label_original is None else recording.label_original,
        "flags": int(flags),
        "content": content_digest(joints),
    }
    return row, joints, notices


def absent_frames(missing: np.ndarray) -> np.ndarray:
    """Where a body counts as absent: more than half of the joints are missing, of those that any frame shows.

    Args:
        missing: Whether a joint is missing, (M, T, V) bool.

    Returns:
        (M, T) bool.
    """
    shown = ~missing.all((0, 1))
    return np.asarray((2 * missing[..., shown].sum(-1) > shown.sum()) | missing.all(-1))


def never_seen(id: str, joints: Sequence[str], remedy: str = "") -> ReadError:
    """A clip that cannot be used as no frame shows some joints.

    Args:
        id: Its name.
        joints: Names of the joints.
        remedy: What helps.
    """
    listed = ", ".join(map(repr, joints[:3])) + (f" and {len(joints) - 3} more" if len(joints) > 3 else "")
    what = f"joint {listed} is" if len(joints) == 1 else f"joints {listed} are"
    return ReadError("joint_never_seen", f"{id}: {what} missing in every frame{remedy}")


def content_digest(joints: np.ndarray) -> str:
    """First 16 hexadecimal digits of the SHA-256 of a clip's coordinates, (M, T, V, C) float32, and their shape."""
    data = np.ascontiguousarray(joints, "<f4")
    return hashlib.sha256(f"{data.shape}".encode() + data.tobytes()).hexdigest()[:16]
