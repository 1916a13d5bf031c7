"""Joints of motion capture by the names that programs give them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from skelcl.data.formats.containers import short_repr
from skelcl.data.mocap.kinematics import Hierarchy
from skelcl.data.recording import ReadError
from skelcl.skeleton import BANDAI21, LAYOUTS, Skeleton

_SEGMENTS = {
    "upperarm": "shoulder",
    "uparm": "shoulder",
    "arm": "shoulder",
    "shldr": "shoulder",
    "forearm": "elbow",
    "lowerarm": "elbow",
    "lowarm": "elbow",
    "hand": "wrist",
    "upleg": "hip",
    "upperleg": "hip",
    "thigh": "hip",
    "leg": "knee",
    "lowerleg": "knee",
    "lowleg": "knee",
    "shin": "knee",
    "calf": "knee",
    "foot": "ankle",
    "toebase": "toes",
    "toe": "toes",
    "ball": "toes",
    "collar": "clavicle",
}
"""Segment → the joint at its beginning, which a hierarchy calls after it."""
_UPPER_ARMS = {segment for segment, joint in _SEGMENTS.items() if joint == "shoulder"}


@cache
def spelled(name: str) -> str:
    """A name in small words, the side first: ``UpperArm_L`` and ``mixamorig:LeftUpperArm`` are ``left upper arm``."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name.rpartition(":")[2])
    words = [word.lower() for word in words]
    if words and re.fullmatch(r"bip", words[0]):  # Bip01 L UpperArm, of 3ds Max
        words = words[1 + words[1:2][0].isdigit() :] if len(words) > 1 else words
    sides = {"l": "left", "r": "right", "left": "left", "right": "right"}
    side = [sides[word] for word in words if word in sides][:1]
    return " ".join([*side, *(word for word in words if word not in sides)]) or name.lower().strip()


def segment_joints(names: Sequence[str]) -> list[str]:
    """Names of joints for those of a hierarchy, which are of the segments that begin there.

    Where a hierarchy names joints instead (``LeftShoulder, LeftElbow, LeftWrist``), they keep their names.

    Args:
        names: As the file has them.

    Returns:
        As many names; those that are not known, or would be given twice, are only spelled alike.
    """
    words = [spelled(name) for name in names]
    sides: dict[str, set[str]] = {"left": set(), "right": set()}
    for own in words:
        side, _, rest = own.partition(" ")
        sides.get(side, set()).add(rest.replace(" ", ""))
    collars = {side for side, segments in sides.items() if segments & _UPPER_ARMS and "shoulder" in segments}
    out: list[str] = []
    for name, own in zip(names, words, strict=True):
        side, _, rest = own.partition(" ")
        joint = _SEGMENTS.get(rest.replace(" ", ""), "")
        new = own
        if side in collars and rest == "shoulder":
            new = f"{side} clavicle"
        elif side in sides and joint and (joint not in sides[side] or (joint == "shoulder" and side in collars)):
            new = f"{side} {joint}"
        elif own in ("hip", "pelvis"):
            new = "hips"
        out.append(next(one for one in (new, own, name, f"{name} {len(out)}", f"joint {len(out)}") if one not in out))
    return out


def of_segments(
    hierarchy: Hierarchy, tree: Sequence[int], wanted: Skeleton | None, place: Path
) -> tuple[Skeleton, list[int]]:
    """The layout of a tree of joints.

    Args:
        hierarchy: Joints of a file.
        tree: Those of one body.
        wanted: Layout that is taken where the body has all of its joints, under these names or those of
            :func:`segment_joints`.
        place: Name of the file in messages.

    Returns:
        Layout, and the joint of the hierarchy for each of its joints.

    Raises:
        ReadError: Nothing tells where hips and shoulders are.
    """
    names = dict(zip(tree, segment_joints([hierarchy.joints[joint] for joint in tree]), strict=True))
    known = {name: joint for joint, name in names.items()}
    found = _found(wanted, known | {hierarchy.joints[joint]: joint for joint in tree})
    if wanted is not None and found:
        return wanted, found
    return _own_layout(hierarchy, names, place)


def _found(wanted: Skeleton | None, known: dict[str, int]) -> list[int]:
    """The places of all joints of a layout among names, however they are written; none where one is not there."""
    known = {spelled(name): place for name, place in known.items()} | known
    places = [known.get(name, known.get(spelled(name), -1)) for name in (wanted.joints if wanted else ())]
    return places if min(places, default=-1) >= 0 else []


def _own_layout(hierarchy: Hierarchy, names: dict[int, str], place: Path) -> tuple[Skeleton, list[int]]:
    """The layout that a hierarchy itself describes, from the hips on."""
    of = {name: joint for joint, name in names.items()}
    ways: dict[int, list[int]] = {}
    for joint in names:
        ways[joint] = [*ways.get(hierarchy.parents[joint], []), joint]

    def branch(first: str, second: str) -> int:
        """The last joint on the way to both."""
        common = [a for a, b in zip(ways[of[first]], ways[of[second]], strict=False) if a == b]
        return common[-1]

    sides = [f"{side} {joint}" for joint in ("hip", "shoulder") for side in ("left", "right")]
    if missing := [name for name in sides if name not in of]:
        listed = ", ".join(hierarchy.joints[joint] for joint in list(names)[:12])
        raise ReadError(
            "layout", f"{place}: none of its joints is the {missing[0]} ({listed}, …): name them in a --layout file"
        )
    hips = of.get("hips", branch("left hip", "right hip"))
    kept = [joint for joint, way in ways.items() if hips in way and not hierarchy.ends[joint]]
    chest = branch("left shoulder", "right shoulder")
    if chest not in kept or chest == hips:
        raise ReadError("layout", f"{place}: no trunk between hips and shoulders: name the joints in a --layout file")
    at = {joint: place for place, joint in enumerate(kept)}
    joints = tuple("hips" if joint == hips else names[joint] for joint in kept)
    if joints == BANDAI21.joints:
        return BANDAI21, kept
    trunk = [joint for joint in ways[chest] if joint in at]
    limbs = {
        way[len(ways[top])]: limb
        for top, limb, name in (
            (part, f"{side} {limb}", f"{side} {joint}")
            for side in ("left", "right")
            for part, limb, joint in ((chest, "arm", "shoulder"), (branch("left hip", "right hip"), "leg", "hip"))
        )
        for way in (ways[of[name]],)
    }
    parts: dict[str, list[int]] = {}
    for joint in kept:
        part = next((limbs[one] for one in ways[joint] if one in limbs), "trunk")
        parts.setdefault(part, []).append(at[joint])
    other = [name.replace("left", "right", 1) for name in joints]
    skeleton = Skeleton(
        name=f"bvh{len(joints)}",
        joints=joints,
        parents=tuple(at.get(hierarchy.parents[joint], at[joint]) for joint in kept),
        pairs=tuple((n, joints.index(other[n])) for n, name in enumerate(joints)
                    if name.startswith("left ") and other[n] in joints),
        parts={part: tuple(listed) for part, listed in parts.items()},
        center=at[chest],
        origin=at[trunk[1]] if len(trunk) > 2 else at[hips],
        up=(at[hips], at[chest]),
        across=(at[of["right shoulder"]], at[of["left shoulder"]]),
    )  # fmt: skip
    return skeleton, kept


def of_points(labels: Sequence[str], wanted: Skeleton | None, place: Path) -> tuple[Skeleton, list[int]]:
    """The layout of labelled points, which may be joints or markers on the skin.

    Args:
        labels: As the file has them.
        wanted: Layout that is taken where all of its joints are among the labels.
        place: Name of the file in messages.

    Returns:
        Layout, and the place among the labels for each of its joints: the wanted one, else those joints of a known
        layout that are there.

    Raises:
        ReadError: The labels are those of no layout.
    """
    known = {spelled(label): n for n, label in enumerate(labels)}
    chosen = _found(wanted, known | {label: n for n, label in enumerate(labels)})
    if wanted is not None and chosen:
        return wanted, chosen
    found: list[Skeleton] = []
    for layout in LAYOUTS.values():
        names = [joint for joint in layout.joints if joint in known]
        if all(layout.joints[joint] in names for joint in (*layout.up, *layout.across)):
            whole = len(names) == layout.num_joints
            found.append(layout if whole else layout.subset(names, f"{layout.name}-{len(names)}"))
    if not found:
        listed = ", ".join(short_repr(label) for label in labels[:12])
        raise ReadError(
            "layout",
            f"{place}: its points ({listed}{', …' if len(labels) > 12 else ''}) are not named as the joints of a "
            "layout; markers on the skin are no joints: name those that serve as joints in a --layout file",
        )
    best = max(found, key=lambda layout: layout.num_joints)
    return best, [known[joint] for joint in best.joints]
