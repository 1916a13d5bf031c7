"""Corruptions of raw clips: lost joints and frames, noise, other cameras, confused people.

What happens to a clip follows from a hash of its name, the corruption, its severity and a seed, so every encoder is
shown the same damage, on every machine, whatever the batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelcl.clips import Clips
from skelcl.errors import InputError
from skelcl.skeleton import Skeleton

Corruption = Literal[
    "spatial_part", "spatial_joint", "temporal_block", "temporal_drop", "jitter", "view", "person_drop", "id_switch"
]
Fill = Literal["zero", "root", "hold_last", "interpolate"]

SHARES: tuple[Corruption, ...] = ("temporal_block", "temporal_drop")
"""Corruptions whose severity is a share of the frames."""

UNITS: dict[str, str] = {
    "spatial_part": "parts lost",
    "spatial_joint": "joints lost",
    "temporal_block": "share of the frames lost",
    "temporal_drop": "share of the frames lost",
    "jitter": "noise in cm",
    "view": "turn in degrees",
}
"""Corruption → what its severity counts; the others have none."""


def corrupt(
    clips: Clips,
    ids: Sequence[str],
    corruption: Corruption,
    severity: float,
    fill: Fill = "root",
    seed: int = 0,
) -> Clips:
    """Damage clips before sampling and normalisation, so that bones and motion are derived from damaged joints.

    Args:
        clips: N clips in main memory, of any length and number of bodies.
        ids: Their N names.
        corruption: ``spatial_part``: all joints of ``severity`` random parts of the skeleton are lost throughout the
            clip. ``spatial_joint``: ``severity`` random joints are. ``temporal_block``: one block of the share
            ``severity`` of the frames is lost. ``temporal_drop``: each frame is, with probability ``severity``.
            ``jitter``: normal noise of ``severity`` centimetres on every coordinate, where the store is in metres.
            ``view``: the clip is turned by ``severity`` degrees about the vertical through body 0, to a random side.
            ``person_drop``: all bodies but the first are lost. ``id_switch``: the first two bodies change places in the
            middle of the clip. The last two ignore ``severity`` and leave clips of one body as they are.
        severity: See there.
        fill: What stands where something was lost. ``root``: the origin joint of the body in that frame, taken as
            known; that is what zeros after centring are. ``zero``: the zero of the coordinates, which is the camera.
            ``hold_last`` and ``interpolate``: the last value before, or the straight line to the next value, in that
            body; a joint that is lost throughout has none and falls back to ``root``. A whole frame that is lost under
            ``zero`` or ``root`` is missing like one that the sensor did not see, which views show as zeros.
        seed: Another seed, other damage.

    Returns:
        New clips; at least one frame of body 0 stays.

    Raises:
        InputError: If corruption, fill or severity make no sense for these clips.
    """
    if corruption not in get_args(Corruption) or fill not in get_args(Fill):
        raise InputError(
            f"corruption {corruption!r} with fill {fill!r}: corruptions are {', '.join(get_args(Corruption))}, "
            f"fills {', '.join(get_args(Fill))}"
        )
    if len(ids) != len(clips):
        raise InputError(f"{len(clips)} clips need as many names, not {len(ids)}")
    if corruption == "person_drop":
        return replace(clips, bodies=clips.bodies.clamp(max=1))
    rows = _Rows.of(clips)
    if corruption == "id_switch":
        return _switched(clips, rows)
    check_severity(clips, corruption, severity)

    def draw(counts: Sequence[int]) -> list[NDArray[np.float64]]:
        return [
            uniform(f"{name}|{corruption}|{severity:g}|{seed}", count) for name, count in zip(ids, counts, strict=True)
        ]

    joints = clips.joints[rows.row]
    if corruption in ("spatial_part", "spatial_joint"):
        lost = _lost_joints(clips, corruption, int(severity), draw)[rows.clip] & ~joints[:, :1, 0].isnan()
        origin = clips.skeleton.origin
        value = torch.zeros_like(joints) if fill == "zero" else joints[:, origin : origin + 1]
        return _made(clips, rows, torch.where(lost[..., None], value, joints))
    if corruption in SHARES:
        lost_rows = _lost_frames(clips, rows, joints, corruption, severity, draw)
        return _made(clips, rows, _filled(joints, rows, lost_rows, fill))
    if corruption == "jitter":
        sizes = (rows.sizes * joints[0].numel()).tolist()
        drawn = np.concatenate([_normal(u) for u in draw([size + size % 2 for size in sizes])] or [np.empty(0)])
        # An odd number of coordinates leaves the last normal variate of the clip unused.
        used = np.concatenate([np.arange(size + size % 2) < size for size in sizes] or [np.empty(0, bool)])
        noise = torch.from_numpy(drawn[used]).to(joints).view_as(joints)
        return _made(clips, rows, joints + severity / 100 * noise)
    side = torch.tensor([1.0 if u[0] < 0.5 else -1.0 for u in draw([1] * len(clips))])
    return _made(clips, rows, _turned(clips, rows, joints, side * severity))


def largest_severities(skeleton: Skeleton) -> dict[Corruption, float]:
    """Up to where a severity has a meaning: a part or joint stays, and no more frames are lost than there are."""
    return {
        "spatial_part": len(skeleton.parts) - 1,
        "spatial_joint": skeleton.num_joints - 1,
        **dict.fromkeys(SHARES, 1.0),
    }


def check_severity(clips: Clips, corruption: Corruption, severity: float) -> None:
    """Refuse a severity, or data, for which a corruption has no meaning.

    Raises:
        InputError: With the bounds.
    """
    most = largest_severities(clips.skeleton).get(corruption, float("inf"))
    whole = corruption not in ("spatial_part", "spatial_joint") or float(severity).is_integer()
    if not 0 < severity <= most or not whole:
        kind = "" if whole else ", a whole number"
        raise InputError(f"{corruption} {severity:g}: its severity must lie above 0 and up to {most:g}{kind}")
    if corruption == "view" and clips.joints.shape[2] != 3:
        raise InputError("corruption 'view' turns 3D clips, these have two coordinates")


def uniform(key: str, count: int) -> NDArray[np.float64]:
    """``count`` numbers in [0, 1) that follow from a text, the same everywhere and with every version of NumPy."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:16])
    raw: NDArray[np.uint64] = np.random.PCG64(seed).random_raw(count)
    return np.asarray((raw >> np.uint64(11)) * 2.0**-53, np.float64)


def _normal(u: NDArray[np.float64]) -> NDArray[np.float64]:
    """As many normal variates as uniform ones, an even number (Box and Muller)."""
    first, second = u.reshape(2, -1)
    radius, angle = np.sqrt(-2 * np.log1p(-first)), 2 * np.pi * second
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])


@dataclass(frozen=True, eq=False)
class _Rows:
    """The R rows that clips own, in their order: clip by clip, body by body, frame by frame.

    Args:
        clip: Clip of each row, (R,).
        body: Its body.
        frame: Its frame.
        row: Where it is in ``joints``.
        start: First row of each clip in this order, (N,).
        sizes: Rows of each clip, (N,).
    """

    clip: Tensor
    body: Tensor
    frame: Tensor
    row: Tensor
    start: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, clips: Clips) -> _Rows:
        sizes = clips.frames * clips.bodies
        start = sizes.cumsum(0) - sizes
        clip = torch.repeat_interleave(sizes)
        place = torch.arange(len(clip), device=clip.device) - start[clip]
        frames = clips.frames[clip]
        return cls(clip, place // frames, place % frames, clips.offsets[clip] + place, start, sizes)


def _made(clips: Clips, rows: _Rows, joints: Tensor) -> Clips:
    """The clips with other joints (R, V, C); the reference frame is the first in which body 0 is seen."""
    seen = ~joints[:, 0, 0].isnan()
    frame = torch.where(seen & (rows.body == 0), rows.frame, joints.shape[0])
    first = torch.full_like(clips.frames, joints.shape[0]).scatter_reduce(0, rows.clip, frame, "amin")
    return replace(clips, joints=joints, offsets=rows.start, first=first, gaps=bool((~seen).any()))


def _lost_joints(clips: Clips, corruption: str, count: int, draw: _Draw) -> Tensor:
    """(N, V) bool."""
    v = clips.skeleton.num_joints
    parts = [[joint] for joint in range(v)]
    if corruption == "spatial_part":
        parts = [list(part) for part in clips.skeleton.parts.values()]
    lost = torch.zeros(len(clips), v, dtype=torch.bool)
    for n, u in enumerate(draw([len(parts)] * len(clips))):
        lost[n, [joint for part in u.argsort(kind="stable")[:count] for joint in parts[part]]] = True
    return lost


def _lost_frames(clips: Clips, rows: _Rows, joints: Tensor, corruption: str, share: float, draw: _Draw) -> Tensor:
    """(R,) bool; all bodies lose the same frames, and at least one frame of body 0 stays."""
    lengths = clips.frames.tolist()
    masks = []
    if corruption == "temporal_block":
        for length, u in zip(lengths, draw([1] * len(clips)), strict=True):
            size = min(max(1, round(share * length)), length - 1)
            start = int(u[0] * (length - size + 1))
            frame = np.arange(length)
            masks.append((start <= frame) & (frame < start + size))
    else:
        masks = [u < share for u in draw(lengths)]
    first = clips.frames.cumsum(0) - clips.frames
    lost = torch.from_numpy(np.concatenate(masks or [np.empty(0, bool)]))[first[rows.clip] + rows.frame]
    seen = ~joints[:, 0, 0].isnan() & (rows.body == 0)
    left = torch.zeros(len(clips), dtype=torch.int64).index_add(0, rows.clip, (seen & ~lost).long())
    return lost & ~((left[rows.clip] == 0) & (rows.frame == clips.first[rows.clip]))


def _filled(joints: Tensor, rows: _Rows, lost: Tensor, fill: Fill) -> Tensor:
    """Joints (R, V, C) with something in the place of lost rows (R,), from other frames of the same body."""
    seen = ~joints[:, 0, 0].isnan()
    known = seen & ~lost
    missing = torch.where(lost[:, None, None], torch.nan, joints)
    if fill in ("zero", "root"):
        return missing
    count = len(lost)
    here = torch.arange(count)
    track = here - rows.frame  # first row of this body of this clip
    before = torch.where(known, here, -1).cummax(0).values if count else here
    after = torch.where(known, here, count).flip(0).cummin(0).values.flip(0) if count else here
    has_before = before >= track
    has_after = torch.zeros_like(lost)
    has_after[after < count] = track[after[after < count]] == track[after < count]
    low = torch.where(has_before, before, after)
    high = torch.where(has_after, after, low) if fill == "interpolate" else low
    usable = seen & lost & (has_before | has_after)
    low, high = low.where(usable, 0), high.where(usable, 0)
    weight = ((here - low) / (high - low).clamp(min=1)).clamp(0, 1).to(joints)[:, None, None]
    return torch.where(usable[:, None, None], torch.lerp(joints[low], joints[high], weight), missing)


def _switched(clips: Clips, rows: _Rows) -> Clips:
    """Clips whose first two bodies change places from the middle on."""
    switch = (clips.bodies >= 2)[rows.clip] & (rows.body < 2) & (rows.frame >= clips.frames[rows.clip] // 2)
    length = clips.frames[rows.clip]
    other = rows.row + torch.where(rows.body == 0, length, -length)
    switched = torch.where(switch, other, rows.row)
    # A body 0 that would never be seen has no reference frame: such a clip stays as it is.
    seen = ~clips.joints[switched, 0, 0].isnan() & (rows.body == 0)
    left = torch.zeros(len(clips), dtype=torch.int64).index_add(0, rows.clip, seen.long())
    return _made(clips, rows, clips.joints[torch.where(left[rows.clip] > 0, switched, rows.row)])


def _turned(clips: Clips, rows: _Rows, joints: Tensor, degrees: Tensor) -> Tensor:
    """Joints (R, 3) turned about the vertical through the origin joint of body 0 by an angle for each clip, (N,)."""
    # Two recipes turn the trunk to z; in camera space, and under all others, y is vertical.
    across, ahead = (0, 1) if clips.recipe in ("agcn", "sds") else (2, 0)
    angle = degrees.to(joints).deg2rad()[rows.clip, None]
    centre = clips.reference[:, clips.skeleton.origin][rows.clip, None]
    a, b = joints[..., across] - centre[..., across], joints[..., ahead] - centre[..., ahead]
    turned = joints.clone()
    turned[..., across] = a * angle.cos() - b * angle.sin() + centre[..., across]
    turned[..., ahead] = a * angle.sin() + b * angle.cos() + centre[..., ahead]
    return turned


_Draw = Callable[[Sequence[int]], list[NDArray[np.float64]]]
