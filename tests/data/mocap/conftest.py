"""Motion capture in miniature: files written by code that shares nothing with the readers."""

from dataclasses import dataclass

import numpy as np
import pytest

BANDAI = (
    ("joint_Root", -1), ("Hips", 0), ("Spine", 1), ("Chest", 2), ("Neck", 3), ("Head", 4),
    ("Shoulder_L", 3), ("UpperArm_L", 6), ("LowerArm_L", 7), ("Hand_L", 8),
    ("Shoulder_R", 3), ("UpperArm_R", 10), ("LowerArm_R", 11), ("Hand_R", 12),
    ("UpperLeg_L", 1), ("LowerLeg_L", 14), ("Foot_L", 15), ("Toes_L", 16),
    ("UpperLeg_R", 1), ("LowerLeg_R", 18), ("Foot_R", 19), ("Toes_R", 20),
)  # fmt: skip
"""Joints of a hierarchy with their parents."""
OFFSETS = {
    "Hips": (0, 90, 0), "Spine": (0, 16, 0), "Chest": (0, 9, 0), "Neck": (0, 16, 0), "Head": (0, 7, 1),
    "Shoulder": (14, 10, 0), "UpperArm": (6, 0, 0), "LowerArm": (24, 0, 0), "Hand": (22.292, 0, 0),
    "UpperLeg": (7, -4, 0), "LowerLeg": (0, -39, 1), "Foot": (0, -40, -1), "Toes": (0, -5, 12),
}  # fmt: skip
"""Centimetres of a person in a T-pose who looks along z; those of the right side are mirrored in x."""


def offset_of(name):
    x, y, z = OFFSETS.get(name.partition("_")[0], (0, 0, 0))
    return (-x if name.endswith("_R") else x, y, z)


@dataclass
class Body:
    """A hierarchy with numbers: ``channels`` holds for each joint names such as Xposition, ``values`` (T, channels)."""

    joints: list
    offsets: list
    channels: list
    values: np.ndarray
    ends: dict

    def text(self, frame_time="0.0333333", newline="\n", indent="\t", number="%.6f"):
        lines = ["HIERARCHY"]
        lines += [line for root, (_, parent) in enumerate(self.joints) if parent < 0
                  for line in self._lines(root, 0, indent)]  # fmt: skip
        lines += ["MOTION", f"Frames:\t{len(self.values)}", f"Frame Time: {frame_time}"]
        lines += [" ".join(number % value for value in row) for row in self.values]
        return newline.join([*lines, ""])

    def _lines(self, joint, depth, indent):
        name, parent = self.joints[joint]
        pad = indent * depth
        yield f"{pad}{'ROOT' if parent < 0 else 'JOINT'} {name}"
        yield f"{pad}{{"
        yield f"{pad}{indent}OFFSET {' '.join(map(str, self.offsets[joint]))}"
        yield f"{pad}{indent}CHANNELS {len(self.channels[joint])} {' '.join(self.channels[joint])} "
        children = [n for n, (_, above) in enumerate(self.joints) if above == joint]
        for child in children:
            yield from self._lines(child, depth + 1, indent)
        if not children:
            end = " ".join(map(str, self.ends.get(name, (0.0, 0.0, 0.0))))
            yield from (
                f"{pad}{indent}End Site",
                f"{pad}{indent}{{",
                f"{pad}{indent * 2}OFFSET {end}",
                f"{pad}{indent}}}",
            )
        yield f"{pad}}}"

    def places(self, positions="replace"):
        """Places of the joints, (T, J, 3): frame by frame, joint by joint, channel by channel."""
        return np.array([self._frame(row, positions) for row in self.values])

    def _frame(self, row, positions):
        column, world = 0, []
        for (_, parent), offset, channels in zip(self.joints, self.offsets, self.channels, strict=True):
            matrix, translation = np.eye(4), np.array(offset, float)
            for name in channels:
                axis, value = "XYZ".index(name[0]), row[column]
                if name.endswith("position"):
                    translation[axis] = value + (offset[axis] if positions == "add" else 0)
                else:
                    matrix = matrix @ turn(axis, value)
                column += 1
            matrix[:3, 3] = translation
            world.append(matrix if parent < 0 else world[parent] @ matrix)
        return [matrix[:3, 3] for matrix in world]


def turn(axis, degrees):
    """Rotation about an axis, (4, 4), right-handed, for columns."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    upper = {0: [[1, 0, 0], [0, cos, -sin], [0, sin, cos]], 1: [[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]],
             2: [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]}[axis]  # fmt: skip
    out = np.eye(4)
    out[:3, :3] = upper
    return out


POSITIONS = ["Xposition", "Yposition", "Zposition"]


def person(frames=3, seed=0, order="ZXY", positions="all", scale=1.0, bend=40.0, joints=BANDAI, root=(0, 0, 0)):
    """The person above, every joint bent by up to ``bend`` degrees.

    ``positions``: ``all`` gives each joint position channels that repeat OFFSET, ``root`` the first two, ``added``
    gives displacements to all.
    """
    rng = np.random.default_rng(seed)
    offsets = [tuple(round(scale * value, 6) for value in offset_of(name)) for name, _ in joints]
    channels, columns = [], []
    for (name, parent), offset in zip(joints, offsets, strict=True):
        places = positions != "root" or parent < 1
        channels.append([*(POSITIONS if places else []), *(f"{axis}rotation" for axis in order)])
        if places:
            base = np.zeros(3) if positions == "added" else np.array(offset, float)
            moved = scale * rng.normal(0, 0.5, (frames, 3)) if name in ("Hips", "joint_Root") else np.zeros((frames, 3))
            columns.append(base + moved + (np.array(root) if parent < 0 else 0))
        columns.append(rng.uniform(-bend, bend, (frames, len(order))) * (0.2 if parent < 1 else 1))
    values = np.concatenate(columns, 1).round(6)
    return Body(list(joints), offsets, channels, values, {})


@pytest.fixture
def captured():
    """Makes a :class:`Body`."""
    return person
