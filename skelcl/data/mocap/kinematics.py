"""Forward kinematics: from the channels of a hierarchy to places of its joints, all frames of a level at once."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

Positions = Literal["replace", "add"]
"""What position channels do to the OFFSET of their joint."""
_FRAMES_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """Joints of one or more trees, parents before children.

    Args:
        joints: J names.
        parents: Parent of each joint, −1 of a root.
        offsets: Place of each joint in its parent, where no channel says it, (J, 3).
        channels: For each joint its channels in the order of the file: ``position`` or ``rotation``, axis (0, 1, 2 are
            x, y, z) and column among the numbers of a frame.
        ends: Whether a joint only ends a bone.
    """

    joints: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    channels: tuple[tuple[tuple[str, int, int], ...], ...]
    ends: tuple[bool, ...]

    @property
    def num_channels(self) -> int:
        """Numbers of a frame."""
        return sum(map(len, self.channels))

    @cached_property
    def depth(self) -> tuple[int, ...]:
        """Steps from each joint to its root."""
        depth: list[int] = []
        for parent in self.parents:
            depth.append(0 if parent < 0 else depth[parent] + 1)
        return tuple(depth)

    def trees(self) -> list[list[int]]:
        """The joints of each root."""
        root: list[int] = []
        for joint, parent in enumerate(self.parents):
            root.append(joint if parent < 0 else root[parent])
        return [[j for j, own in enumerate(root) if own == top] for top in dict.fromkeys(root)]


def forward_kinematics(hierarchy: Hierarchy, values: np.ndarray, positions: Positions = "replace") -> np.ndarray:
    """Places of all joints in the space of the file.

    The rotation of a joint is the product of those of its channels from left to right in the order of the file,
    ``R = R₁·R₂·R₃``, in degrees, for right-handed column vectors. With its place t in its parent, from the position
    channels or OFFSET, a joint has the rotation ``G = G_parent·R`` and the place ``p = p_parent + G_parent·t``.

    Args:
        hierarchy: J joints.
        values: The numbers of each frame, (T, channels).
        positions: Whether position channels replace OFFSET or are added to it.

    Returns:
        (T, J, 3) float32, computed in float64.
    """
    out = np.empty((len(values), len(hierarchy.joints), 3), np.float32)
    for start in range(0, len(values), _FRAMES_AT_ONCE):
        part = values[start : start + _FRAMES_AT_ONCE]
        with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float32 is not seen
            out[start : start + len(part)] = _places(hierarchy, part, positions)
    return out


def _places(hierarchy: Hierarchy, values: np.ndarray, positions: Positions) -> np.ndarray:
    frames, joints = len(values), len(hierarchy.joints)
    local = _translations(hierarchy, values, positions)
    rotation = _rotations(hierarchy, values)
    levels: dict[int, list[int]] = defaultdict(list)
    for joint, depth in enumerate(hierarchy.depth):
        levels[depth].append(joint)
    place = np.empty((frames, joints, 3))
    place[:, levels[0]] = local[:, levels[0]]
    for depth in range(1, len(levels)):
        below = levels[depth]
        above = [hierarchy.parents[joint] for joint in below]
        turned = rotation[:, above]
        place[:, below] = place[:, above] + (turned @ local[:, below, :, None])[..., 0]
        rotation[:, below] = turned @ rotation[:, below]
    return place


def _translations(hierarchy: Hierarchy, values: np.ndarray, positions: Positions) -> np.ndarray:
    """Place of each joint in its parent, (T, J, 3)."""
    local = np.broadcast_to(hierarchy.offsets, (len(values), *hierarchy.offsets.shape)).copy()
    given = [
        (joint, axis, column)
        for joint, channels in enumerate(hierarchy.channels)
        for kind, axis, column in channels
        if kind == "position"
    ]
    if given:
        joint, axis, column = np.array(given).T
        local[:, joint, axis] = values[:, column] + (local[:, joint, axis] if positions == "add" else 0)
    return local


def _rotations(hierarchy: Hierarchy, values: np.ndarray) -> np.ndarray:
    """Rotation of each joint in its parent, (T, J, 3, 3); joints that turn about the same axes go together."""
    groups: dict[tuple[int, ...], list[tuple[int, list[int]]]] = defaultdict(list)
    for joint, channels in enumerate(hierarchy.channels):
        turns = [(axis, column) for kind, axis, column in channels if kind == "rotation"]
        groups[tuple(axis for axis, _ in turns)].append((joint, [column for _, column in turns]))
    out = np.empty((len(values), len(hierarchy.joints), 3, 3))
    for axes, members in groups.items():
        # Columns of the product so far: images of the three axes.
        images = [np.broadcast_to(unit, (len(values), len(members), 3)) for unit in np.eye(3)]
        for n, axis in enumerate(axes):
            angle = np.deg2rad(values[:, [columns[n] for _, columns in members]])[..., None]
            cos, sin = np.cos(angle), np.sin(angle)
            i, j = (axis + 1) % 3, (axis + 2) % 3
            images[i], images[j] = cos * images[i] + sin * images[j], cos * images[j] - sin * images[i]
        out[:, [joint for joint, _ in members]] = np.stack(images, -1)
    return out
