"""Performances of articulated people, recorded by three cameras.

Aimed at the difficulty of NW-UCLA (ten actions, cross-view): where somebody faces, the view, body size, start pose,
speed, handedness, a chair, a few steps before the action and the sensor's errors move the coordinates more than the
action does, so distances between raw clips and features of untrained networks tell little, while the pattern of motion
can be learnt. Pairs of actions that differ in one arm or in the direction of time keep a trained network below 100 %.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skelcl.data.synthetic.actions import ACTIONS, DUO, SOLO, Script, start_pose
from skelcl.data.synthetic.motion import (
    ANGLES,
    AT,
    JOINTS,
    LEGS,
    SPREAD,
    Array,
    Camera,
    Draw,
    Subject,
    forward_kinematics,
    interpolate,
    mirrored,
    subject,
    turned,
)
from skelcl.skeleton import Skeleton

FPS = 30
MIN_FRAMES, MAX_FRAMES = 15, 120
AZIMUTHS = {1: -45.0, 2: 0.0, 3: 45.0}
"""Number of a camera → degrees around the scene."""
# What Kinect 1 calls shoulder centre lies where Kinect 2 reports the spine at shoulder height.
_NAMES = {"hip center": "spine base", "spine": "mid spine", "shoulder center": "spine shoulder"}
_LIMBS = np.array([name.split(" ")[-1] in {"wrist", "hand", "tip", "thumb", "ankle", "foot"} for name in JOINTS])


def _angles(
    script: Script, actor: Subject, draw: Draw, habit: Array, wait: float, tempo: float, at: Array, seated: bool
) -> Array:
    """Angles (T, D) of a right-handed script as this person does it this time, read at seconds (T,)."""
    start = start_pose(draw, seated)
    keys = np.array([start, *(angles for _, angles in script)])
    keys = np.where(np.isnan(keys), start, keys)
    if script[0][0] == 0.0:
        keys[0] = keys[1]
    keys[1:] = keys[0] + actor.amplitude * draw(0.88, 1.1) * (keys[1:] - keys[0])
    keys += actor.posture + habit
    keys[1:] += 0.5 * SPREAD * draw.normal(*keys[1:].shape)
    times = np.cumsum([0.0, wait, *(max(tempo * seconds, 1e-3) for seconds, _ in script)])
    angles = interpolate(times, np.concatenate([keys[:1], keys]), at)
    knots = np.arange(0.0, at[-1] + 1.0, 0.5)
    angles += interpolate(knots, 0.3 * SPREAD * draw.normal(len(knots), len(ANGLES)), at)
    for side in ("right", "left"):
        for joint in ("elbow", "knee"):
            angles[:, AT[f"{side} {joint}"]] = np.clip(angles[:, AT[f"{side} {joint}"]], 0.0, 150.0)
    return angles


def perform(action: str, actor: int, *, seed: int = 0, setup: int = 1, replication: int = 1) -> Array:
    """What happens before the cameras, exactly.

    Args:
        action: One of :data:`~skelcl.data.synthetic.actions.ACTIONS`.
        actor: Number of the person who acts.
        seed: Seed of the world.
        setup: Camera setup of the recording; it names the performance and does not change the motion otherwise.
        replication: Which time this person does it.

    Returns:
        World coordinates, (M, T, 25, 3) metres in the order of :data:`~skelcl.data.synthetic.motion.JOINTS`; the actor
        first.
    """
    key = (seed, 3, ACTIONS.index(action), actor, setup, replication)
    draw = Draw(*key)
    people = [subject(seed, actor)]
    if action in DUO:
        one, two, distance = DUO[action](draw)
        scripts = [one, two]
        people.append(subject(seed, 1000 + draw.integers(1000)))
    else:
        scripts, distance = [SOLO[action](draw)], 0.0
    left_handed = people[0].left_handed != draw.bernoulli(0.1)
    tempo, wait, tail = people[0].tempo * draw(0.6, 1.15), draw(0.05, 0.7), draw(0.0, 0.6)
    end = wait + tail + tempo * max(sum(seconds for seconds, _ in script) for script in scripts)
    frames = min(max(round(end * FPS), 3 * MIN_FRAMES // 2), MAX_FRAMES)
    at = end * (np.arange(frames) / (frames - 1))
    # What needs no legs is also done on a chair.
    seated = action in SOLO and draw.bernoulli(0.3) and all(np.isnan(angles[LEGS]).all() for _, angles in scripts[0])
    bodies = []
    for number, (person, script) in enumerate(zip(people, scripts, strict=True)):
        own = Draw(*key, number)
        habit = 0.5 * SPREAD * Draw(seed, 2, actor, ACTIONS.index(action), number).normal(len(ANGLES))
        angles = _angles(script, person, own, habit, wait, tempo, at, seated)
        bodies.append(forward_kinematics(person.bones, mirrored(angles) if left_handed else angles))
    if len(bodies) == 2:
        bodies[1] = turned(bodies[1], 180.0)
        gap = bodies[1][:, 0, 2] - bodies[0][:, 0, 2]
        bodies[1][..., 2] += distance - gap.min()
        facing = 90.0 + 180.0 * draw.integers(2) + draw(-40, 40)
    else:
        facing = 180.0 + draw(-100, 100)
    points = np.stack(bodies)
    middle = (points[:, :, 0].max(axis=(0, 1)) + points[:, :, 0].min(axis=(0, 1))) / 2.0
    points[..., [0, 2]] -= middle[[0, 2]] + np.array([draw(-0.4, 0.4), draw(-0.4, 0.4)])
    return turned(points, facing)


def cameras(seed: int, setup: int) -> dict[int, Camera]:
    """The three cameras of a setup: about −45°, 0° and +45°, 2.7–3.8 m away, 0.7–1.9 m high.

    Args:
        seed: Seed of the world.
        setup: Number of the setup.

    Returns:
        Number of the camera → camera.
    """
    draw, out = Draw(seed, 4, setup), {}
    for number, azimuth in AZIMUTHS.items():
        distance, height = draw(2.7, 3.8), draw(0.7, 1.9)
        aim = (height - 1.0) / distance * (180.0 / np.pi)  # about at the hips
        out[number] = Camera(azimuth + draw(-8, 8), distance, height, aim + draw(-5, 5))
    return out


def film(points: Array, camera: Camera, skeleton: Skeleton, draw: Draw) -> NDArray[np.float32]:
    """What a depth camera reports of a performance.

    It starts late and stops early. Joints err by about a centimetre, for some frames in the same direction; more at the
    ends of the limbs and where the trunk hides them; in places one jumps, frames are lost, a second body is not found,
    or found first.

    Args:
        points: World coordinates, (M, T, 25, 3).
        camera: Where the camera stands.
        skeleton: Layout to report.
        draw: Source of randomness, its own for every camera.

    Returns:
        Camera coordinates, (M', T', V, 3), NaN where nothing was seen; M' ≥ 1, T' ≥ 15.
    """
    total = points.shape[1]
    share = min(0.25, (total - MIN_FRAMES) / (2 * total))
    late, early = int(draw(0.0, share) * total), int(draw(0.0, share) * total)
    seen = camera(points[:, late : total - early])
    bodies, frames = seen.shape[:2]
    hidden = seen[..., 2] - seen[:, :, JOINTS.index("mid spine"), None, 2] > 0.08
    sigma = 0.010 * np.where(_LIMBS, 1.6, 1.0) * np.where(hidden, 2.5, 1.0)
    error = draw.normal(frames, bodies, len(JOINTS), 3)
    for t in range(1, frames):
        error[t] = 0.7 * error[t - 1] + np.sqrt(1.0 - 0.7 * 0.7) * error[t]
    error += draw.normal(bodies, len(JOINTS), 3)  # a sensor misjudges this body in this place all the time
    seen = seen + sigma[..., None] * error.swapaxes(0, 1)
    for body in range(bodies):
        if draw.bernoulli(0.35):
            joint, first, length = draw.integers(int(_LIMBS.sum())), draw.integers(frames), 1 + draw.integers(3)
            seen[body, first : first + length, np.flatnonzero(_LIMBS)[joint]] += 0.25 * draw.normal(3)
        if draw.bernoulli(0.01):
            broken = [JOINTS.index(name) for name in ("spine base", "mid spine", "left hip", "right hip")]
            seen[body, draw.integers(frames), broken] = np.nan
    if draw.bernoulli(0.12):
        first, length = draw.integers(frames - 6), 1 + draw.integers(5)
        seen[:, first : first + length] = np.nan
    if bodies == 2:
        if draw.bernoulli(0.1):
            seen = seen[:1]
        elif draw.bernoulli(0.15):
            seen[1, 1 + draw.integers(frames - 1) :] = np.nan
        if draw.bernoulli(0.35):
            seen = seen[::-1]
    return seen[:, :, [JOINTS.index(_NAMES.get(name, name)) for name in skeleton.joints]].astype(np.float32)


def record(
    action: str, actor: int, *, skeleton: Skeleton, seed: int = 0, setup: int = 1, replication: int = 1
) -> dict[int, NDArray[np.float32]]:
    """One performance as all cameras of its setup recorded it.

    It depends on these arguments alone: a clip is the same in a data set of any size and order.

    Args:
        action: One of :data:`~skelcl.data.synthetic.actions.ACTIONS`.
        actor: Number of the person who acts.
        skeleton: Layout to report.
        seed: Seed of the world.
        setup: Camera setup.
        replication: Which time this person does it.

    Returns:
        Number of the camera → coordinates (M, T, V, 3), NaN where nothing was seen.
    """
    points = perform(action, actor, seed=seed, setup=setup, replication=replication)
    key = (seed, 5, ACTIONS.index(action), actor, setup, replication)
    return {
        number: film(points, camera, skeleton, Draw(*key, number)) for number, camera in cameras(seed, setup).items()
    }
