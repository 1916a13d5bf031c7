"""Articulated bodies: people of different build, poses in joint angles, forward kinematics, cameras; NumPy alone.

World space: metres, y up, the floor at y = 0. A person who faces +z has the left hand at +x. Angles are degrees.

Nothing but ``+ − × ÷ √`` on float64 touches a coordinate, and nothing but uniform draws is taken from a generator:
``sin``, normal draws and matrix products differ in the last bit from one processor or library to the next.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Draw:
    """Random numbers that depend on a key alone, never on what was drawn for another key.

    Args:
        key: Non-negative integers that name the stream.
    """

    def __init__(self, *key: int) -> None:
        self._rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))

    def __call__(self, low: float, high: float) -> float:
        """One number from U(low, high)."""
        return low + (high - low) * float(self._rng.random())

    def bernoulli(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self._rng.random() < probability)

    def integers(self, count: int) -> int:
        """One integer from 0 … count − 1."""
        return min(int(self._rng.random() * count), count - 1)

    def normal(self, *shape: int) -> Array:
        """Bell-shaped numbers of mean 0 and variance 1 (sums of four uniform ones), within ±3.5."""
        u = self._rng.random((4, *shape))
        total: Array = u[0] + u[1] + u[2] + u[3]
        return (total - 2.0) * float(np.sqrt(3.0))


# --- the body ---------------------------------------------------------------------------------------------------------

# joint: (parent, segment that carries the bone, bone in the segment's frame of a 1.70 m tall person, proportion group)
_LEFT = {
    "shoulder": ("spine shoulder", "chest", (0.17, -0.03, 0.0), "width"),
    "elbow": ("shoulder", "upper arm", (0.0, -0.27, 0.0), "arm"),
    "wrist": ("elbow", "forearm", (0.0, -0.25, 0.0), "arm"),
    "hand": ("wrist", "hand", (0.0, -0.08, 0.0), "arm"),
    "hand tip": ("hand", "hand", (0.0, -0.08, 0.0), "arm"),
    "thumb": ("hand", "hand", (-0.03, -0.03, 0.04), "arm"),
    "hip": ("spine base", "pelvis", (0.09, -0.06, 0.0), "width"),
    "knee": ("hip", "thigh", (0.0, -0.43, 0.0), "leg"),
    "ankle": ("knee", "shank", (0.0, -0.40, 0.0), "leg"),
    "foot": ("ankle", "foot", (0.01, -0.06, 0.12), "leg"),
}
_BONES: dict[str, tuple[str, str, tuple[float, float, float], str]] = {
    "mid spine": ("spine base", "pelvis", (0.0, 0.24, 0.0), "trunk"),
    "spine shoulder": ("mid spine", "chest", (0.0, 0.27, 0.0), "trunk"),
    "neck": ("spine shoulder", "head", (0.0, 0.08, 0.0), "trunk"),
    "head": ("neck", "head", (0.0, 0.14, 0.02), "trunk"),
}
for _side, _sign in (("left ", 1.0), ("right ", -1.0)):
    for _joint, (_parent, _segment, (_x, _y, _z), _group) in _LEFT.items():
        _trunk = _parent.startswith("spine")
        _BONES[_side + _joint] = (
            _parent if _trunk else _side + _parent,
            _segment if _trunk else _side + _segment,
            (_sign * _x, _y, _z),
            _group,
        )
JOINTS = ("spine base", *_BONES)
"""Names of the 25 joints of the model, in the order of :func:`perform`."""
_GROUPS = ("trunk", "width", "arm", "leg")
_ANKLE_HEIGHT = 0.08


@dataclass(frozen=True)
class Subject:
    """What one person brings to every action.

    Args:
        bones: Bone of each joint of ``JOINTS`` in the frame of its segment, metres, (25, 3); zero for the root.
        left_handed: Whether this person does with the left hand what others do with the right.
        tempo: Factor on durations.
        amplitude: Factor on the departure from the resting pose.
        posture: Offset to every angle, (D,) degrees.
    """

    bones: Array
    left_handed: bool
    tempo: float
    amplitude: float
    posture: Array


def subject(seed: int, number: int) -> Subject:
    """The person with this number: height 1.50–1.95 m, limb proportions ±8 %, one in five left-handed."""
    draw = Draw(seed, 1, number)
    scale = draw(1.50, 1.95) / 1.70
    share = {group: scale * draw(0.92, 1.08) for group in _GROUPS}
    bones = np.zeros((len(JOINTS), 3))
    for j, joint in enumerate(JOINTS[1:], start=1):
        _, _, bone, group = _BONES[joint]
        bones[j] = np.array(bone) * share[group]
    return Subject(
        bones=bones,
        left_handed=draw.bernoulli(0.2),
        tempo=draw(0.8, 1.25),
        amplitude=draw(0.85, 1.12),
        posture=draw.normal(len(ANGLES)) * SPREAD * 0.8,
    )


# --- angles -----------------------------------------------------------------------------------------------------------

# The arm is described as in biomechanics: it is raised in a plane (0 forwards, 90 outwards) and rolled about its axis
# (positive inwards). Thighs are measured from the vertical, so a bow leaves the feet on the floor.
_TRUNK = ("turn", "bow", "side", "twist", "nod", "look", "tilt")
_ARM = ("raise", "plane", "roll", "elbow", "wrist")
_LEG = ("thigh", "knee", "splay")
ANGLES = (*_TRUNK, *(f"{side} {a}" for side in ("right", "left") for a in (*_ARM, *_LEG)))
"""Names of the D angles of a pose."""
AT = {name: d for d, name in enumerate(ANGLES)}
LEGS = [AT[f"{side} {a}"] for side in ("right", "left") for a in _LEG]
"""Places of the leg angles in a pose."""
# How far people differ in each angle when they mean the same pose: trunk, then arms and legs.
SPREAD = np.array([0, 3, 2, 4, 5, 7, 3, *(7, 8, 10, 8, 8, 2, 3, 2) * 2], dtype=np.float64)

Arm = tuple[float, ...]
Leg = tuple[float, ...]


def pose(
    right: Arm = (),
    left: Arm = (),
    both: Arm = (),
    legs: Leg = (),
    right_leg: Leg = (),
    left_leg: Leg = (),
    **trunk: float,
) -> Array:
    """A pose of a right-handed person, (D,) degrees.

    Args:
        right: Right arm: raise, plane, roll, elbow, wrist. What is left out stays as it was at the start.
        left: Left arm.
        both: Both arms.
        legs: Both legs: thigh, knee, splay.
        right_leg: Right leg.
        left_leg: Left leg.
        trunk: Any of ``turn``, ``bow``, ``side``, ``twist``, ``nod``, ``look``, ``tilt``.
    """
    angles = np.full(len(ANGLES), np.nan)
    for start, arm, leg in ((7, both or right, legs or right_leg), (15, both or left, legs or left_leg)):
        angles[start : start + len(arm)] = arm
        angles[start + 5 : start + 5 + len(leg)] = leg
    for name, value in trunk.items():
        angles[AT[name]] = value
    return angles


def mirrored(angles: Array) -> Array:
    """The same poses of a left-handed person, (…, D)."""
    order = [*range(7), *range(15, 23), *range(7, 15)]
    sign = np.ones(len(ANGLES))
    sign[[AT[name] for name in ("turn", "side", "twist", "look", "tilt")]] = -1.0
    return angles[..., order] * sign


def interpolate(times: Array, values: Array, at: Array) -> Array:
    """Monotone cubic Hermite interpolation: values (K, D) at times (K,), read at (T,), gives (T, D).

    Tangents are harmonic means of neighbouring slopes (Fritsch and Butland, 1984): it rests at turning points and in
    holds, and passes through other keys without a stop, as limbs do.
    """
    step = np.diff(times)[:, None]
    slope = np.diff(values, axis=0) / step
    same = slope[:-1] * slope[1:] > 0
    total = np.where(same, slope[:-1] + slope[1:], 1.0)
    tangent = np.zeros_like(values)
    tangent[1:-1] = np.where(same, 2.0 * slope[:-1] * slope[1:] / total, 0.0)
    k = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    s = np.clip((at - times[k]) / (times[k + 1] - times[k]), 0.0, 1.0)[:, None]
    h, rest = step[k], 1.0 - s
    return (
        (1.0 + 2.0 * s) * rest * rest * values[k]
        + s * rest * rest * h * tangent[k]
        + s * s * (3.0 - 2.0 * s) * values[k + 1]
        - s * s * rest * h * tangent[k + 1]
    )


def _sin_cos(degrees: Array) -> tuple[Array, Array]:
    """Sine and cosine from their series, to 1e-15, with the same bits everywhere."""
    quarter = np.rint(degrees / 90.0)
    x = (degrees - 90.0 * quarter) * (np.pi / 180.0)
    square = x * x
    sin, cos = np.ones_like(x), np.ones_like(x)
    for n in range(16, 1, -2):
        sin = 1.0 - square / (n * (n + 1)) * sin
        cos = 1.0 - square / (n * (n - 1)) * cos
    sin, turns = sin * x, quarter.astype(np.int64) % 4
    return np.choose(turns, [sin, cos, -sin, -cos]), np.choose(turns, [cos, -sin, -cos, sin])


# --- forward kinematics -----------------------------------------------------------------------------------------------

Frame = tuple[Array, Array, Array]  # where the segment's x, y and z axes point, each (T, 3)


class _Turner:
    """Rotates segment frames by named angles; sines and cosines of all angles are taken once."""

    def __init__(self, angles: Array) -> None:
        self._sin, self._cos = _sin_cos(angles)

    def __call__(self, frame: Frame, axis: int, name: str, sign: float = 1.0) -> Frame:
        d = AT[name]
        sin, cos = sign * self._sin[:, d, None], self._cos[:, d, None]
        j, k = (axis + 1) % 3, (axis + 2) % 3
        out = list(frame)
        out[j], out[k] = cos * frame[j] + sin * frame[k], cos * frame[k] - sin * frame[j]
        return out[0], out[1], out[2]


def _segments(angles: Array) -> dict[str, Frame]:
    """Orientation of every segment from angles (T, D), down the tree."""
    turn = _Turner(angles)
    half = _Turner(angles / 2.0)
    one = np.ones((len(angles), 1))
    world: Frame = (one * [1.0, 0.0, 0.0], one * [0.0, 1.0, 0.0], one * [0.0, 0.0, 1.0])
    x, y, z = 0, 1, 2
    feet = turn(world, y, "turn")
    pelvis = half(half(half(feet, y, "twist"), x, "bow"), z, "side", -1)
    chest = half(half(half(pelvis, y, "twist"), x, "bow"), z, "side", -1)
    out = {"pelvis": pelvis, "chest": chest}
    out["head"] = turn(turn(turn(chest, y, "look"), x, "nod"), z, "tilt", -1)
    for side, s in (("left ", 1.0), ("right ", -1.0)):
        raised = turn(turn(chest, y, side + "plane", s), x, side + "raise", -1)
        out[side + "upper arm"] = turn(turn(raised, y, side + "plane", -s), y, side + "roll", -s)
        out[side + "forearm"] = turn(out[side + "upper arm"], x, side + "elbow", -1)
        out[side + "hand"] = turn(out[side + "forearm"], x, side + "wrist", -1)
        out[side + "thigh"] = turn(turn(feet, z, side + "splay", s), x, side + "thigh", -1)
        out[side + "shank"] = turn(out[side + "thigh"], x, side + "knee")
        # A foot follows its shank half-way: flat when planted, toes down when it swings.
        out[side + "foot"] = half(half(feet, x, side + "thigh", -1), x, side + "knee")
    return out


def forward_kinematics(bones: Array, angles: Array) -> Array:
    """Positions of all joints for a body that stands or walks on the floor.

    The foot that bears the weight (the lower one) does not slide: the body moves instead. So stepping legs carry it
    forwards and a squat lowers it.

    Args:
        bones: Bones of a :class:`Subject`, (25, 3) metres.
        angles: Trajectory, (T, D) degrees.

    Returns:
        (T, 25, 3) metres, starting above the origin of the floor.
    """
    segments = _segments(angles)
    points = np.zeros((len(angles), len(JOINTS), 3))
    for j, joint in enumerate(JOINTS[1:], start=1):
        parent, segment, _, _ = _BONES[joint]
        x, y, z = segments[segment]
        points[:, j] = points[:, JOINTS.index(parent)] + (bones[j, 0] * x + bones[j, 1] * y + bones[j, 2] * z)
    left, right = points[:, JOINTS.index("left ankle")], points[:, JOINTS.index("right ankle")]
    above = left[:, 1] - right[:, 1]
    # 4 cm of height hand the weight over from one foot to the other.
    weight = 0.5 - 0.5 * np.clip(above / 0.04, -1.0, 1.0)[:, None]
    weight = (weight[1:] + weight[:-1]) / 2.0
    slide = weight * np.diff(left, axis=0) + (1.0 - weight) * np.diff(right, axis=0)
    root = np.zeros((len(angles), 3))
    root[1:] = -np.cumsum(slide, axis=0)
    root[:, 1] = _ANKLE_HEIGHT - np.minimum(left[:, 1], right[:, 1])
    return points + root[:, None]


# --- cameras ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Camera:
    """A camera that is turned towards the vertical axis through the origin.

    Args:
        azimuth: Where it stands, degrees around the origin; 0 sees the front of a person who faces −z.
        distance: Metres from the origin, along the floor.
        height: Metres above the floor.
        pitch: Degrees by which it looks down.
    """

    azimuth: float
    distance: float
    height: float
    pitch: float

    def __call__(self, points: Array) -> Array:
        """World points (…, 3) in camera space: y up, z away from the camera, metres."""
        sin, cos = _sin_cos(np.array([self.azimuth, self.pitch]))
        x = cos[0] * points[..., 0] - sin[0] * points[..., 2]
        z = sin[0] * points[..., 0] + cos[0] * points[..., 2] + self.distance
        y = points[..., 1] - self.height
        return np.stack([x, cos[1] * y + sin[1] * z, cos[1] * z - sin[1] * y], axis=-1)


def turned(points: Array, degrees: float) -> Array:
    """World points (…, 3) turned about the vertical axis through the origin."""
    sin, cos = _sin_cos(np.array([degrees]))
    x, z = points[..., 0], points[..., 2]
    return np.stack([cos[0] * x + sin[0] * z, points[..., 1], cos[0] * z - sin[0] * x], axis=-1)
