"""Skeleton layouts: the joints of a body and everything that follows from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NoReturn

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

    @property
    def root(self) -> int:
        """The joint that is its own parent."""
        return next(j for j, parent in enumerate(self.parents) if j == parent)

    @property
    def bones(self) -> tuple[tuple[int, int], ...]:
        """(child, parent) of the V − 1 bones, in the order of the children."""
        return tuple((child, parent) for child, parent in enumerate(self.parents) if child != parent)

    @property
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

    def subset(
        self,
        names: Sequence[str],
        name: str | None = None,
        *,
        center: str | None = None,
        origin: str | None = None,
        up: tuple[str, str] | None = None,
        across: tuple[str, str] | None = None,
    ) -> Skeleton:
        """The layout of some of the joints, for example of the upper body.

        A joint hangs on its nearest ancestor that is kept. When the root goes, the kept joint nearest to it becomes the
        root, and joints without a kept ancestor hang on that. Pairs and parts lose what is left out. ``center`` and
        ``origin`` move to their nearest kept ancestor, else to the root; ``up`` and ``across`` are never guessed.

        Args:
            names: The joints to keep, in the order of the new layout.
            name: Name of the new layout; by default ``<name>-<V>``.
            center: Joint to take instead of the old one; so are the next three.
            origin: Joint that normalisation moves to the origin.
            up: (lower, upper) joint of the trunk.
            across: (right, left) shoulder.

        Raises:
            ValueError: A name is unknown or given twice, or ``up`` or ``across`` lost a joint and is not given anew.
        """
        where = f"subset of skeleton {self.name!r}:"
        if unknown := [joint for joint in names if joint not in self.joints]:
            raise ValueError(f"{where} there is no joint {unknown[0]!r}; the joints are {', '.join(self.joints)}")
        if not names or len(set(names)) < len(names):
            raise ValueError(f"{where} the names must be some joints, each once")
        old = [self.joints.index(joint) for joint in names]
        new = {joint: place for place, joint in enumerate(old)}
        top = min(old, key=lambda joint: (self._depth(joint) or 0, new[joint]))

        def ancestor(joint: int) -> int:
            while joint not in new:
                if joint == self.root:
                    return top
                joint = self.parents[joint]
            return joint

        def role(key: str, joint: int, given: str | None) -> int:
            if given is not None and given not in names:
                raise ValueError(f"{where} {key} names {given!r}, which is not among the kept joints")
            return new[ancestor(joint)] if given is None else names.index(given)

        def direction(key: str, joints: tuple[int, int], given: tuple[str, str] | None, what: str) -> tuple[int, int]:
            lost = [self.joints[joint] for joint in joints if joint not in new]
            if given is None and lost:
                raise ValueError(f"{where} {key} lost its joint {lost[0]!r}: pass {key}, the {what} to use instead")
            first, second = given or (None, None)
            return role(key, joints[0], first), role(key, joints[1], second)

        parents = {joint: top if joint in (top, self.root) else ancestor(self.parents[joint]) for joint in old}
        parts = {part: tuple(new[joint] for joint in joints if joint in new) for part, joints in self.parts.items()}
        return Skeleton(
            name=name or f"{self.name}-{len(old)}",
            joints=tuple(names),
            parents=tuple(new[parents[joint]] for joint in old),
            pairs=tuple((new[left], new[right]) for left, right in self.pairs if left in new and right in new),
            parts={part: joints for part, joints in parts.items() if joints},
            center=role("center", self.center, center),
            origin=role("origin", self.origin, origin),
            up=direction("up", self.up, up, "(lower, upper) joint of the trunk"),
            across=direction("across", self.across, across, "(right, left) shoulder"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON or YAML."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Skeleton:
        """The inverse of :meth:`to_dict`; accepts lists where JSON turned tuples into lists.

        Raises:
            ValueError: A value is missing, of another type, or no layout follows from them.
        """

        def fail(key: str, what: str) -> NoReturn:
            raise ValueError(f"skeleton: {key} must be {what}")

        def name(value: Any, key: str) -> str:
            return value if type(value) is str else fail(key, "text")

        def joint(value: Any, key: str) -> int:
            return value if type(value) is int else fail(key, "places of joints")

        def items(value: Any, key: str, count: int | None = None) -> Sequence[Any]:
            fits = isinstance(value, (list, tuple)) and count in (None, len(value))
            return value if fits else fail(key, f"a list{'' if count is None else f' of {count}'}")

        def joints(value: Any, key: str) -> tuple[int, ...]:
            return tuple(joint(item, key) for item in items(value, key))

        def two(value: Any, key: str) -> tuple[int, int]:
            first, second = items(value, key, 2)
            return joint(first, key), joint(second, key)

        if missing := [field.name for field in fields(cls) if field.name not in values]:
            raise ValueError(f"skeleton: {missing[0]} is missing")
        parts = values["parts"]
        if not isinstance(parts, Mapping):
            fail("parts", "names with lists of joints")
        return cls(
            name=name(values["name"], "name"),
            joints=tuple(name(item, "joints") for item in items(values["joints"], "joints")),
            parents=joints(values["parents"], "parents"),
            pairs=tuple(two(pair, "pairs") for pair in items(values["pairs"], "pairs")),
            parts={name(part, "parts"): joints(listed, "parts") for part, listed in parts.items()},
            center=joint(values["center"], "center"),
            origin=joint(values["origin"], "origin"),
            up=two(values["up"], "up"),
            across=two(values["across"], "across"),
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

COCO17 = Skeleton(
    name="coco17",
    joints=(
        "nose", "left eye", "right eye", "left ear", "right ear",
        "left shoulder", "right shoulder", "left elbow", "right elbow", "left wrist", "right wrist",
        "left hip", "right hip", "left knee", "right knee", "left ankle", "right ankle",
    ),
    # As in PYSKL: everything hangs on the nose, and legs on the shoulders, for there is neither neck nor spine.
    parents=(0, 0, 0, 1, 2, 0, 0, 5, 6, 7, 8, 5, 6, 11, 12, 13, 14),
    pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    parts={
        "head": (0, 1, 2, 3, 4),
        "left arm": (5, 7, 9),
        "right arm": (6, 8, 10),
        "left leg": (11, 13, 15),
        "right leg": (12, 14, 16),
    },
    center=0,
    origin=11,
    up=(11, 5),
    across=(6, 5),
)  # fmt: skip
"""COCO keypoints, 17 joints: most 2D pose estimators. The left hip stands in for the missing trunk."""

HALPE26 = Skeleton(
    name="halpe26",
    joints=(
        "nose", "left eye", "right eye", "left ear", "right ear",
        "left shoulder", "right shoulder", "left elbow", "right elbow", "left wrist", "right wrist",
        "left hip", "right hip", "left knee", "right knee", "left ankle", "right ankle",
        "head", "neck", "hip",
        "left big toe", "right big toe", "left small toe", "right small toe", "left heel", "right heel",
    ),
    parents=(18, 0, 0, 1, 2, 18, 18, 5, 6, 7, 8, 19, 19, 11, 12, 13, 14, 18, 19, 19, 24, 25, 24, 25, 15, 16),
    pairs=(
        (1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16), (20, 21), (22, 23), (24, 25),
    ),
    parts={
        "trunk": (0, 1, 2, 3, 4, 17, 18, 19),
        "left arm": (5, 7, 9),
        "right arm": (6, 8, 10),
        "left leg": (11, 13, 15, 20, 22, 24),
        "right leg": (12, 14, 16, 21, 23, 25),
    },
    center=18,
    origin=19,
    up=(19, 18),
    across=(6, 5),
)  # fmt: skip
"""Halpe, 26 joints: AlphaPose. ``head`` is its top, ``hip`` the middle between the hips."""

OPENPOSE18 = Skeleton(
    name="openpose18",
    joints=(
        "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow", "left wrist",
        "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle",
        "right eye", "left eye", "right ear", "left ear",
    ),
    # As in ST-GCN: the legs hang on the shoulders.
    parents=(1, 1, 1, 2, 3, 1, 5, 6, 2, 8, 9, 5, 11, 12, 0, 0, 14, 15),
    pairs=((5, 2), (6, 3), (7, 4), (11, 8), (12, 9), (13, 10), (15, 14), (17, 16)),
    parts={
        "trunk": (0, 1, 14, 15, 16, 17),
        "left arm": (5, 6, 7),
        "right arm": (2, 3, 4),
        "left leg": (11, 12, 13),
        "right leg": (8, 9, 10),
    },
    center=1,
    origin=11,
    up=(11, 5),
    across=(2, 5),
)  # fmt: skip
"""OpenPose's COCO model, 18 joints. The neck lies between the shoulders; the left hip stands in for the spine."""

OPENPOSE25 = Skeleton(
    name="openpose25",
    joints=(
        "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow", "left wrist",
        "mid hip", "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle",
        "right eye", "left eye", "right ear", "left ear",
        "left big toe", "left small toe", "left heel", "right big toe", "right small toe", "right heel",
    ),
    parents=(1, 8, 1, 2, 3, 1, 5, 6, 8, 8, 9, 10, 8, 12, 13, 0, 0, 15, 16, 14, 19, 14, 11, 22, 11),
    pairs=((5, 2), (6, 3), (7, 4), (12, 9), (13, 10), (14, 11), (16, 15), (18, 17), (19, 22), (20, 23), (21, 24)),
    parts={
        "trunk": (0, 1, 8, 15, 16, 17, 18),
        "left arm": (5, 6, 7),
        "right arm": (2, 3, 4),
        "left leg": (12, 13, 14, 19, 20, 21),
        "right leg": (9, 10, 11, 22, 23, 24),
    },
    center=1,
    origin=8,
    up=(8, 1),
    across=(2, 5),
)  # fmt: skip
"""OpenPose's BODY_25. The neck lies between the shoulders."""

MEDIAPIPE33 = Skeleton(
    name="mediapipe33",
    joints=(
        "nose", "left eye inner", "left eye", "left eye outer", "right eye inner", "right eye", "right eye outer",
        "left ear", "right ear", "mouth left", "mouth right",
        "left shoulder", "right shoulder", "left elbow", "right elbow", "left wrist", "right wrist",
        "left pinky", "right pinky", "left index", "right index", "left thumb", "right thumb",
        "left hip", "right hip", "left knee", "right knee", "left ankle", "right ankle",
        "left heel", "right heel", "left foot index", "right foot index",
    ),
    # The drawing of MediaPipe is three loops apart; here shoulders and mouth hang on the nose, hips on the shoulders.
    parents=(
        0, 0, 1, 2, 0, 4, 5, 3, 6, 0, 0, 0, 0, 11, 12, 13, 14, 15, 16, 15, 16, 15, 16, 11, 12, 23, 24, 25, 26, 27, 28,
        27, 28,
    ),
    pairs=(
        (1, 4), (2, 5), (3, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16), (17, 18), (19, 20), (21, 22), (23, 24),
        (25, 26), (27, 28), (29, 30), (31, 32),
    ),
    parts={
        "head": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
        "left arm": (11, 13, 15, 17, 19, 21),
        "right arm": (12, 14, 16, 18, 20, 22),
        "left leg": (23, 25, 27, 29, 31),
        "right leg": (24, 26, 28, 30, 32),
    },
    center=0,
    origin=23,
    up=(23, 11),
    across=(12, 11),
)  # fmt: skip
"""MediaPipe Pose, 33 landmarks. The left hip stands in for the missing trunk."""

H36M17 = Skeleton(
    name="h36m17",
    joints=(
        "pelvis", "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle",
        "spine", "thorax", "neck", "head",
        "left shoulder", "left elbow", "left wrist", "right shoulder", "right elbow", "right wrist",
    ),
    parents=(0, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15),
    pairs=((4, 1), (5, 2), (6, 3), (11, 14), (12, 15), (13, 16)),
    parts={
        "trunk": (0, 7, 8, 9, 10),
        "left arm": (11, 12, 13),
        "right arm": (14, 15, 16),
        "left leg": (4, 5, 6),
        "right leg": (1, 2, 3),
    },
    center=8,
    origin=7,
    up=(0, 7),
    across=(14, 11),
)  # fmt: skip
"""Human3.6M in the 17 joints of 3D pose lifting. The thorax lies between the shoulders, the neck above it."""

BANDAI21 = Skeleton(
    name="bandai21",
    joints=(
        "hips", "spine", "chest", "neck", "head",
        "left clavicle", "left shoulder", "left elbow", "left wrist",
        "right clavicle", "right shoulder", "right elbow", "right wrist",
        "left hip", "left knee", "left ankle", "left toes",
        "right hip", "right knee", "right ankle", "right toes",
    ),
    parents=(0, 0, 1, 2, 3, 2, 5, 6, 7, 2, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19),
    pairs=((5, 9), (6, 10), (7, 11), (8, 12), (13, 17), (14, 18), (15, 19), (16, 20)),
    parts={
        "trunk": (0, 1, 2, 3, 4),
        "left arm": (5, 6, 7, 8),
        "right arm": (9, 10, 11, 12),
        "left leg": (13, 14, 15, 16),
        "right leg": (17, 18, 19, 20),
    },
    center=2,
    origin=1,
    up=(0, 2),
    across=(10, 6),
)  # fmt: skip
"""Motion capture of Bandai-Namco, 21 joints. ``head`` is the base of the skull, as in most hierarchies."""

KINECT32 = Skeleton(
    name="kinect32",
    joints=(
        "pelvis", "spine navel", "spine chest", "neck",
        "left clavicle", "left shoulder", "left elbow", "left wrist", "left hand", "left hand tip", "left thumb",
        "right clavicle", "right shoulder", "right elbow", "right wrist", "right hand", "right hand tip", "right thumb",
        "left hip", "left knee", "left ankle", "left foot",
        "right hip", "right knee", "right ankle", "right foot",
        "head", "nose", "left eye", "left ear", "right eye", "right ear",
    ),
    parents=(
        0, 0, 1, 2, 2, 4, 5, 6, 7, 8, 7, 2, 11, 12, 13, 14, 15, 14, 0, 18, 19, 20, 0, 22, 23, 24, 3, 26, 26, 26, 26, 26,
    ),
    pairs=(
        (4, 11), (5, 12), (6, 13), (7, 14), (8, 15), (9, 16), (10, 17), (18, 22), (19, 23), (20, 24), (21, 25),
        (28, 30), (29, 31),
    ),
    parts={
        "trunk": (0, 1, 2, 3, 26, 27, 28, 29, 30, 31),
        "left arm": (4, 5, 6, 7, 8, 9, 10),
        "right arm": (11, 12, 13, 14, 15, 16, 17),
        "left leg": (18, 19, 20, 21),
        "right leg": (22, 23, 24, 25),
    },
    center=2,
    origin=1,
    up=(0, 3),
    across=(12, 5),
)  # fmt: skip
"""Azure Kinect, 32 joints."""

_FINGERS = ("thumb", "index", "middle", "ring", "pinky")


def _hand(name: str, palm: tuple[str, ...], phalanges: tuple[str, ...]) -> Skeleton:
    """A hand: the joints of the palm, each on the one before, then five fingers from base to tip."""
    joints = (*palm, *(f"{finger} {phalanx}" for finger in _FINGERS for phalanx in phalanges))
    first = range(len(palm), len(joints), len(phalanges))
    base = dict.fromkeys(first, len(palm) - 1)
    fingers = {finger: tuple(range(start, start + 4)) for finger, start in zip(_FINGERS, first, strict=True)}
    return Skeleton(
        name=name,
        joints=joints,
        parents=tuple(base.get(joint, max(joint - 1, 0)) for joint in range(len(joints))),
        pairs=(),
        parts={"palm": tuple(range(len(palm))), **fingers},
        center=fingers["middle"][0],
        origin=0,
        up=(0, fingers["middle"][0]),
        across=(fingers["index"][0], fingers["pinky"][0]),
    )


HAND21 = _hand("hand21", ("wrist",), ("base", "proximal", "distal", "tip"))
"""A hand of MediaPipe, OpenPose or COCO-WholeBody, 21 joints. Knuckles stand in for the trunk and the shoulders."""

HAND22 = _hand("hand22", ("wrist", "palm"), ("base", "proximal", "distal", "tip"))
"""A hand of DHG-14/28 and SHREC'17, 22 joints."""

LAYOUTS: dict[str, Skeleton] = {
    layout.name: layout
    for layout in (
        NTU25, KINECT20, COCO17, HALPE26, OPENPOSE18, OPENPOSE25, MEDIAPIPE33, H36M17, BANDAI21, KINECT32,
        HAND21, HAND22,
    )
}  # fmt: skip
"""The layouts that are known by name."""
