"""What a file of poses holds, as a recording for the store: missing joints marked, y upwards, joints of one layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skelcl.data.cleaning import absent_frames
from skelcl.data.formats.containers import short_repr
from skelcl.data.poses.contents import MOST_BODIES, Poses
from skelcl.data.poses.formats import FORMATS, Format, MinConfidence
from skelcl.data.poses.layouts import LayoutMap
from skelcl.data.recording import ReadError
from skelcl.data.store import StoreError, fill_joints
from skelcl.skeleton import LAYOUTS, Skeleton

_BY_SIZE = {21: "hand21", 17: "coco17", 18: "openpose18", 25: "openpose25", 26: "halpe26"}


@dataclass(frozen=True, eq=False)
class PoseReader:
    """How poses become the coordinates of a recording.

    Args:
        layout: Layout of the poses.
        change: Way to the layout of the store; None where it is the same.
        channels: Coordinates per joint.
        min_confidence: Joints of a smaller confidence are missing, and so are those of confidence 0; ``ignore``: as if
            there were no confidence.
        max_bodies: Bodies to keep: those that are seen in most frames.
        max_persons: Bodies that may be judged one by one, likewise.
        y_down: Whether y points down.
        fill_unseen: Place a joint that is never seen on the joint that it hangs on, else on the nearest one seen.
        zero_missing: Whether a joint at exactly zero was not seen, where there is no confidence.
        sort: Whether bodies are put in the order of how long they are seen even when all of them are kept.
    """

    layout: Skeleton
    change: LayoutMap | None
    channels: int
    min_confidence: MinConfidence = 0.0
    max_bodies: int = 2
    y_down: bool = False
    fill_unseen: bool = False
    zero_missing: bool = True
    sort: bool = True
    max_persons: int = MOST_BODIES

    @property
    def target(self) -> Skeleton:
        """Layout of the recordings."""
        return self.layout if self.change is None else self.change.target

    def __call__(self, poses: Poses, place: Path | str) -> tuple[np.ndarray, list[str]]:
        """Coordinates (M, T, V, C) float32, NaN where nothing was seen, and remarks.

        Args:
            poses: The clip.
            place: What to name in a message.

        Raises:
            ReadError: The clip has joints of another layout.
        """
        return self.keep(self.bodies(poses, place), poses.others)

    def bodies(self, poses: Poses, place: Path | str) -> np.ndarray:
        """Coordinates of all bodies in the order of the clip, (M, T, V, C) float32, NaN where nothing was seen.

        Args:
            poses: The clip.
            place: What to name in a message.

        Raises:
            ReadError: The clip has joints of another layout.
        """
        joints = poses.joints.copy()
        if poses.skeleton is not None and poses.skeleton.joints != self.layout.joints:
            lacking = [name for name in self.layout.joints if name not in poses.skeleton.joints]
            what = f"it has no {short_repr(lacking[0])}" if lacking else "it has more, or in another order"
            raise ReadError("layout", f"{place}: its joints are not those of {self.layout.name}: {what}")
        if joints.shape[2:] != (self.layout.num_joints, self.channels):
            expected = f"{self.layout.num_joints} joints of {self.layout.name} with {self.channels} coordinates"
            raise ReadError("joints", f"{place}: holds joints {joints.shape[2:]}, not {expected}")
        if poses.layout not in (None, self.layout.name):
            raise ReadError("layout", f"{place}: its layout is {poses.layout!r}, not {self.layout.name!r}")
        zero = (joints == 0).all(-1)
        missing = ~np.isfinite(joints).all(-1) | zero.all(-1, keepdims=True)
        if poses.confidence is None or self.min_confidence == "ignore":
            missing |= zero & self.zero_missing
        else:
            missing |= ~(poses.confidence > 0) | (poses.confidence < self.min_confidence)
        if self.y_down:  # half a turn about the optical axis: y points up and nothing is mirrored
            joints[..., :2] *= -1
        joints[missing] = np.nan
        return joints if self.change is None else self.change(joints)

    def keep(self, joints: np.ndarray, others: int = 0) -> tuple[np.ndarray, list[str]]:
        """The bodies to keep of some frames, their joints filled in, and remarks.

        Args:
            joints: From :meth:`bodies`.
            others: Bodies that were left out before.
        """
        warnings = []
        found = len(joints) + others
        if self.sort or found > self.max_bodies:
            joints = joints[np.argsort(-seen(joints).sum(1), kind="stable")[: self.max_bodies]]
        if found > self.max_bodies:
            warnings.append(f"{found} bodies; the {self.max_bodies} that are seen longest are kept")
        if self.fill_unseen:
            # What is filled in is no more reason to count somebody as seen than what is missing.
            joints = np.where(seen(joints)[..., None, None], joints, np.float32(np.nan))
            if filled := fill_unseen(joints, self.target):
                warnings.append(f"never seen, placed on a joint that is: {', '.join(filled)}")
        return joints, warnings


def seen(joints: np.ndarray) -> np.ndarray:
    """In which frames at least half of the joints were seen that any frame shows, (M, T) bool, of (M, T, V, C)."""
    return ~absent_frames(np.isnan(joints[..., 0]))


def guess_layout(first: Poses, format: Format) -> Skeleton:
    """The layout that a clip describes or says it has, or that its format or its number of joints tells.

    Raises:
        StoreError: Nothing tells it.
    """
    if first.skeleton is not None:
        return first.skeleton
    joints = first.joints.shape[2]
    usual = FORMATS[format].layout
    name = first.layout or (usual if usual and LAYOUTS[usual].num_joints == joints else None)
    if name is None and FORMATS[format].y_down:
        name = _BY_SIZE.get(joints)
    if name not in LAYOUTS:
        found = f"{joints} joints per body" if name is None else f"the layout {name!r}"
        raise StoreError(f"--layout is missing: the clips have {found}; name a layout ({', '.join(LAYOUTS)}) or a file")
    return LAYOUTS[name]


def fill_unseen(joints: np.ndarray, layout: Skeleton) -> list[str]:
    """Places joints that a body never shows, in place: on the joint that each hangs on, or what that one hangs on.

    Where nothing up to the root is seen, as of a body without hips, it is the seen joint that the fewest bones lead to.

    Args:
        joints: Coordinates, (M, T, V, C), NaN where missing.
        layout: Their layout.

    Returns:
        Names of the joints that were placed.
    """
    never = np.isnan(joints[..., 0]).all(1)
    bones = layout.hops().numpy()
    filled: set[int] = set()
    for body, lost in zip(joints, never, strict=True):
        if lost.all():
            continue
        seen = np.flatnonzero(~lost)
        shown = body[None, :, seen]
        fill_joints(shown)  # as it is when clips are loaded: gaps of one joint are not to be those of all on it
        for joint in np.flatnonzero(lost).tolist():
            above = joint
            while lost[above] and above != layout.root:
                above = layout.parents[above]
            source = int(seen[np.argmin(bones[joint, seen])]) if lost[above] else above
            body[:, joint] = shown[0, :, np.searchsorted(seen, source)]
            filled.add(joint)
    return [layout.joints[joint] for joint in sorted(filled, key=lambda joint: (int(bones[layout.root, joint]), joint))]
