"""Skeleton layouts: the joints of a body and everything that follows from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Skeleton:
    """A layout of V joints. Graphs, bones, mirror and masks are derived from it, never listed again.

    All joints are 0-based indices into ``joints``.

    Args:
        name: Short name of the layout, for example ``ntu25``.
        joints: The V joint names in storage order.
        parents: Parent of each joint; the root is its own parent. The tree is the bone set of the GCN literature.
        pairs: (left, right) joints that a mirror image exchanges.
        parts: Body parts, a name to its joints; together they hold each joint once.
        center: Joint from which hop distances to the centre of the body are counted.
        origin: Joint that normalisation moves to the origin (mid spine).
        up: (lower, upper) joint of the trunk; the vector between them points upwards in a standing body.
        across: (right, left) shoulder.
    """

    name: str
    joints: tuple[str, ...]
    parents: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]
    parts: Mapping[str, tuple[int, ...]]
    center: int
    origin: int
    up: tuple[int, int]
    across: tuple[int, int]

    def __post_init__(self) -> None:
        v = len(self.joints)
        where = f"skeleton {self.name!r}:"
        named = [self.center, self.origin, *self.up, *self.across, *(j for pair in self.pairs for j in pair)]
        if len(set(self.joints)) != v:
            raise ValueError(f"{where} joint names must be unique")
        if len(self.parents) != v:
            raise ValueError(f"{where} {v} joints but {len(self.parents)} parents")
        if not all(0 <= j < v for j in (*self.parents, *named)):
            raise ValueError(f"{where} a joint index lies outside 0…{v - 1}")
        if sorted(j for part in self.parts.values() for j in part) != list(range(v)):
            raise ValueError(f"{where} the parts must hold every joint exactly once")
        roots = [j for j, parent in enumerate(self.parents) if j == parent]
        if len(roots) != 1:
            raise ValueError(f"{where} exactly one joint must be its own parent, found {len(roots)}")
        if any(self._depth(j) is None for j in range(v)):
            raise ValueError(f"{where} the parents contain a cycle")

    def __hash__(self) -> int:
        return hash((self.name, self.joints, self.parents))

    def _depth(self, joint: int) -> int | None:
        """Bones between a joint and the root; None when the root is never reached."""
        for depth in range(len(self.joints)):
            if self.parents[joint] == joint:
                return depth
            joint = self.parents[joint]
        return None

    @property
    def num_joints(self) -> int:
        """V, the number of joints."""
        return len(self.joints)

    @cached_property
    def root(self) -> int:
        """The joint that is its own parent."""
        return next(j for j, parent in enumerate(self.parents) if j == parent)

    @cached_property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(child, parent) of the V − 1 bones, in the order of the children."""
        return tuple((child, parent) for child, parent in enumerate(self.parents) if child != parent)

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """Permutation of the joints that exchanges left and right."""
        order = list(range(self.num_joints))
        for left, right in self.pairs:
            order[left], order[right] = right, left
        return tuple(order)

    def adjacency(self) -> Tensor:
        """Undirected bone graph without self-links, (V, V) float32 of 0 and 1."""
        adjacency = torch.zeros(self.num_joints, self.num_joints)
        for child, parent in self.bones:
            adjacency[child, parent] = adjacency[parent, child] = 1.0
        return adjacency

    def hops(self) -> Tensor:
        """Number of bones on the shortest path between two joints, (V, V) int64."""
        distance = torch.where(self.adjacency() > 0, 1, self.num_joints)
        distance.fill_diagonal_(0)
        for middle in range(self.num_joints):
            distance = torch.minimum(distance, distance[:, middle, None] + distance[None, middle])
        return distance

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON or YAML."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Skeleton:
        """The inverse of :meth:`to_dict`; accepts lists where JSON turned tuples into lists."""
        return cls(
            name=str(values["name"]),
            joints=tuple(values["joints"]),
            parents=tuple(values["parents"]),
            pairs=tuple((left, right) for left, right in values["pairs"]),
            parts={name: tuple(joints) for name, joints in values["parts"].items()},
            center=values["center"],
            origin=values["origin"],
            up=(values["up"][0], values["up"][1]),
            across=(values["across"][0], values["across"][1]),
        )


NTU25 = Skeleton(
    name="ntu25",
    joints=(
        "spine base", "mid spine", "neck", "head",
        "left shoulder", "left elbow", "left wrist", "left hand",
        "right shoulder", "right elbow", "right wrist", "right hand",
        "left hip", "left knee", "left ankle", "left foot",
        "right hip", "right knee", "right ankle", "right foot",
        "spine shoulder", "left hand tip", "left thumb", "right hand tip", "right thumb",
    ),
    # The hand tips hang on the thumbs: the learning literature chains them so, the data set's own viewer does not.
    parents=(1, 20, 20, 2, 20, 4, 5, 6, 20, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18, 20, 22, 7, 24, 11),
    pairs=((4, 8), (5, 9), (6, 10), (7, 11), (12, 16), (13, 17), (14, 18), (15, 19), (21, 23), (22, 24)),
    parts={
        "trunk": (0, 1, 2, 3, 20),
        "left arm": (4, 5, 6, 7, 21, 22),
        "right arm": (8, 9, 10, 11, 23, 24),
        "left leg": (12, 13, 14, 15),
        "right leg": (16, 17, 18, 19),
    },
    center=20,
    origin=1,
    up=(0, 1),
    across=(8, 4),
)  # fmt: skip
"""Kinect v2, 25 joints: NTU RGB+D 60/120 and PKU-MMD."""

KINECT20 = Skeleton(
    name="kinect20",
    joints=(
        "hip center", "spine", "shoulder center", "head",
        "left shoulder", "left elbow", "left wrist", "left hand",
        "right shoulder", "right elbow", "right wrist", "right hand",
        "left hip", "left knee", "left ankle", "left foot",
        "right hip", "right knee", "right ankle", "right foot",
    ),
    parents=(1, 2, 2, 2, 2, 4, 5, 6, 2, 8, 9, 10, 0, 12, 13, 14, 0, 16, 17, 18),
    pairs=((4, 8), (5, 9), (6, 10), (7, 11), (12, 16), (13, 17), (14, 18), (15, 19)),
    parts={
        "trunk": (0, 1, 2, 3),
        "left arm": (4, 5, 6, 7),
        "right arm": (8, 9, 10, 11),
        "left leg": (12, 13, 14, 15),
        "right leg": (16, 17, 18, 19),
    },
    center=2,
    origin=1,
    up=(0, 1),
    across=(8, 4),
)  # fmt: skip
"""Kinect v1, 20 joints: NW-UCLA."""
