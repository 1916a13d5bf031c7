"""Performances of articulated people, recorded by three cameras, and their raw files.

Aimed at the difficulty of NW-UCLA (ten actions, cross-view): where somebody faces, the view, body size, start pose,
speed, handedness, a chair, a few steps before the action and the sensor's errors move the coordinates more than the
action does, so distances between raw clips and features of untrained networks tell little, while the pattern of motion
can be learnt. Pairs of actions that differ in one arm or in the direction of time keep a trained network below 100 %.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skelcl.data.actions import ACTIONS, DUO, SOLO, Script, start_pose
from skelcl.data.bodies import BodyFrames
from skelcl.data.convert import Recording
from skelcl.data.formats import ntu_release, ntu_skeleton, nw_ucla, pku_mmd
from skelcl.data.motion import (
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
from skelcl.errors import InputError
from skelcl.skeleton import KINECT20, NTU25, Skeleton

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
    keys[1:] += 0.5 * SPREAD * draw.bell(*keys[1:].shape)
    times = np.cumsum([0.0, wait, *(max(tempo * seconds, 1e-3) for seconds, _ in script)])
    angles = interpolate(times, np.concatenate([keys[:1], keys]), at)
    knots = np.arange(0.0, at[-1] + 1.0, 0.5)
    angles += interpolate(knots, 0.3 * SPREAD * draw.bell(len(knots), len(ANGLES)), at)
    for side in ("right", "left"):
        for joint in ("elbow", "knee"):
            angles[:, AT[f"{side} {joint}"]] = np.clip(angles[:, AT[f"{side} {joint}"]], 0.0, 150.0)
    return angles


def perform(action: str, actor: int, *, seed: int = 0, setup: int = 1, replication: int = 1) -> Array:
    """What happens before the cameras, exactly.

    Args:
        action: One of :data:`~skelcl.data.actions.ACTIONS`.
        actor: Number of the person who acts.
        seed: Seed of the world.
        setup: Camera setup of the recording; it names the performance and does not change the motion otherwise.
        replication: Which time this person does it.

    Returns:
        World coordinates, (M, T, 25, 3) metres in the order of :data:`~skelcl.data.motion.JOINTS`; the actor first.
    """
    key = (seed, 3, ACTIONS.index(action), actor, setup, replication)
    draw = Draw(*key)
    people = [subject(seed, actor)]
    if action in DUO:
        one, two, distance = DUO[action](draw)
        scripts = [one, two]
        people.append(subject(seed, 1000 + draw.below(1000)))
    else:
        scripts, distance = [SOLO[action](draw)], 0.0
    left_handed = people[0].left_handed != draw.chance(0.1)
    tempo, wait, tail = people[0].tempo * draw(0.6, 1.15), draw(0.05, 0.7), draw(0.0, 0.6)
    end = wait + tail + tempo * max(sum(seconds for seconds, _ in script) for script in scripts)
    frames = min(max(round(end * FPS), 3 * MIN_FRAMES // 2), MAX_FRAMES)
    at = end * (np.arange(frames) / (frames - 1))
    # What needs no legs is also done on a chair.
    seated = action in SOLO and draw.chance(0.3) and all(np.isnan(angles[LEGS]).all() for _, angles in scripts[0])
    bodies = []
    for number, (person, script) in enumerate(zip(people, scripts, strict=True)):
        own = Draw(*key, number)
        habit = 0.5 * SPREAD * Draw(seed, 2, actor, ACTIONS.index(action), number).bell(len(ANGLES))
        angles = _angles(script, person, own, habit, wait, tempo, at, seated)
        bodies.append(forward_kinematics(person.bones, mirrored(angles) if left_handed else angles))
    if len(bodies) == 2:
        bodies[1] = turned(bodies[1], 180.0)
        gap = bodies[1][:, 0, 2] - bodies[0][:, 0, 2]
        bodies[1][..., 2] += distance - gap.min()
        facing = 90.0 + 180.0 * draw.below(2) + draw(-40, 40)
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
    error = draw.bell(frames, bodies, len(JOINTS), 3)
    for t in range(1, frames):
        error[t] = 0.7 * error[t - 1] + np.sqrt(1.0 - 0.7 * 0.7) * error[t]
    error += draw.bell(bodies, len(JOINTS), 3)  # a sensor misjudges this body in this place all the time
    seen = seen + sigma[..., None] * error.swapaxes(0, 1)
    for body in range(bodies):
        if draw.chance(0.35):
            joint, first, length = draw.below(int(_LIMBS.sum())), draw.below(frames), 1 + draw.below(3)
            seen[body, first : first + length, np.flatnonzero(_LIMBS)[joint]] += 0.25 * draw.bell(3)
        if draw.chance(0.01):
            broken = [JOINTS.index(name) for name in ("spine base", "mid spine", "left hip", "right hip")]
            seen[body, draw.below(frames), broken] = np.nan
    if draw.chance(0.12):
        first, length = draw.below(frames - 6), 1 + draw.below(5)
        seen[:, first : first + length] = np.nan
    if bodies == 2:
        if draw.chance(0.1):
            seen = seen[:1]
        elif draw.chance(0.15):
            seen[1, 1 + draw.below(frames - 1) :] = np.nan
        if draw.chance(0.35):
            seen = seen[::-1]
    return seen[:, :, [JOINTS.index(_NAMES.get(name, name)) for name in skeleton.joints]].astype(np.float32)


def record(
    action: str, actor: int, *, skeleton: Skeleton, seed: int = 0, setup: int = 1, replication: int = 1
) -> dict[int, NDArray[np.float32]]:
    """One performance as all cameras of its setup recorded it.

    It depends on these arguments alone: a clip is the same in a data set of any size and order.

    Args:
        action: One of :data:`~skelcl.data.actions.ACTIONS`.
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


# --- raw files --------------------------------------------------------------------------------------------------------


def nw_ucla_recordings(subjects: int, episodes: int, seed: int) -> Iterator[Recording]:
    """The ten actions of NW-UCLA by their first subjects, each episode seen by all three views at once.

    The format knows no missing frames, so lost frames are cut out.

    Args:
        subjects: Number of subjects, 1–99.
        episodes: Times that each of them does each action, 1–100.
        seed: Seed of the world.

    Yields:
        Recordings for :func:`skelcl.data.formats.nw_ucla.write_json`.
    """
    for (label, action), actor, episode in product(
        enumerate(nw_ucla.ACTIONS.values()), range(1, subjects + 1), range(episodes)
    ):
        views = record(action, actor, skeleton=KINECT20, seed=seed, setup=1 + episode % 3, replication=episode)
        for view, joints in views.items():
            name = nw_ucla.sequence_id(label, actor, episode, view)
            kept = joints[:, ~np.isnan(joints[0]).all((1, 2))]
            yield Recording(name, kept, label, actor, camera=view, replication=episode)


def write_nw_ucla(output: str | Path, subjects: int = 10, episodes: int = 5, seed: int = 0) -> int:
    """Writes a folder of JSON files as NW-UCLA is distributed.

    The folder appears when it is complete; a run that was stopped is simply repeated.

    Args:
        output: Folder to write; it must not hold anything but the files of an equal run.
        subjects: Number of subjects, 1–99.
        episodes: Times that each of them does each of the ten actions, 1–100; three files (views) each.
        seed: Seed; equal arguments give equal bytes.

    Returns:
        Number of files.

    Raises:
        InputError: An argument lies outside its range, or the folder holds something else.
    """
    output = Path(output)
    if not 1 <= subjects <= 99 or not 1 <= episodes <= 100 or seed < 0:
        raise InputError("subjects must lie in 1–99, episodes in 1–100 and seed must not be negative")
    names = {
        f"{nw_ucla.sequence_id(label, actor, episode, view)}.json"
        for label, actor, episode, view in product(range(10), range(1, subjects + 1), range(episodes), AZIMUTHS)
    }

    def write(work: Path) -> None:
        for recording in nw_ucla_recordings(subjects, episodes, seed):
            nw_ucla.write_json(work, recording)

    write_folder(output, names, write)
    return len(names)


def write_folder(output: Path, names: set[str], write: Callable[[Path], None]) -> None:
    """Makes a folder appear when it is complete; one that an equal run made is left as it is.

    Args:
        output: The folder.
        names: Its files, as paths below it.
        write: Writes them into the folder that it is given.

    Raises:
        InputError: The folder holds something else.
    """
    foreign = InputError(f"{output} holds other files: move it away or choose another --output")
    found = {file.relative_to(output).as_posix() for file in output.rglob("*") if not file.is_dir()}
    if output.exists() and (not output.is_dir() or found not in (set(), names)):
        raise foreign
    work = output.parent / f".{output.name}.partial"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    write(work)
    if output.exists() and any(output.iterdir()):
        same = all((work / name).read_bytes() == (output / name).read_bytes() for name in names)
        shutil.rmtree(work)
        if not same:
            raise foreign
    else:
        if output.exists():
            output.rmdir()
        os.rename(work, output)


# Chosen so that ids of one file are equal as float64.
_FIRST_ID = 72057594037900000


def sensor_log(joints: NDArray[np.float32], draw: Draw) -> tuple[BodyFrames, list[int]]:
    """A clip as a Kinect v2 lists it: bodies by frame, under ids that it sometimes changes.

    Somebody who was lost for a moment may return under another id, bodies may trade places in the record, and now and
    then a chair or a passer-by counts as a body.

    Args:
        joints: Coordinates of the people, (M, T, 25, 3), NaN where nothing was seen.
        draw: Source of randomness.

    Returns:
        All bodies of all frames, and the id of each track.
    """
    people, frames = joints.shape[:2]
    bodies = [*joints]
    tracks = [np.full(frames, number) for number in range(people)]
    for number in range(people):
        if draw.chance(0.3):
            lost, gap = frames // 3 + draw.below(frames // 3), draw.below(3)
            bodies[number] = bodies[number].copy()
            bodies[number][lost : lost + gap] = np.nan
            tracks[number][lost:] = people + number
    if draw.chance(0.3):
        still = joints[0, int(np.argmin(np.isnan(joints[0]).all((1, 2))))]
        other = np.full_like(joints[0], np.nan)
        if draw.chance(0.5):
            other[:] = np.nan_to_num(still) * np.array([3.0, 0.5, 1.0], np.float32)  # wide and low: a chair
        else:
            first, length = draw.below(frames - 11), 3 + draw.below(9)
            other[first : first + length] = np.nan_to_num(still) + np.array([1.0, 0.0, 1.0], np.float32)
        bodies.append(other)
        tracks.append(np.full(frames, 2 * people))
    swap = draw.below(frames) if draw.chance(0.3) else frames
    rows = []
    for t in range(frames):
        there = [n for n, body in enumerate(bodies) if not np.isnan(body[t]).all()]
        rows += [(t, slot, n) for slot, n in enumerate(there[::-1] if t >= swap else there)]
    # Numbers of tracks follow their first appearance, as in a file.
    order = {number: n for n, number in enumerate(dict.fromkeys(int(tracks[n][t]) for t, _, n in rows))}
    first_id = _FIRST_ID + 16 * draw.below(1000)
    log = BodyFrames(
        joints=np.array([bodies[n][t] for t, _, n in rows], np.float32).reshape(-1, NTU25.num_joints, 3),
        frame=np.array([t for t, _, _ in rows], np.int64),
        slot=np.array([slot for _, slot, _ in rows], np.int64),
        track=np.array([order[int(tracks[n][t])] for t, _, n in rows], np.int64),
        num_frames=frames,
    )
    return log, [first_id + 2 * number for number in order]


def ntu_classes(release: ntu_release.Release, actions: int) -> dict[int, str]:
    """Actions of NTU RGB+D that are written and what the people do for each.

    Two thirds of each half of the data set are actions of one person, the others of two.

    Args:
        release: ``ntu60`` or ``ntu120``.
        actions: Number of actions of each half.

    Returns:
        Action of the data set, counted from 1 → action of ours.
    """
    alone = -(-2 * actions // 3)
    chosen: dict[int, str] = {}
    for half in range(1 if release == "ntu60" else 2):
        solo, duo = (1, 50) if half == 0 else (61, 106)
        for names, first, count in ((list(SOLO), solo, alone), (list(DUO), duo, actions - alone)):
            chosen |= {first + n: names[(half * count + n) % len(names)] for n in range(count)}
    return chosen


def write_ntu(
    output: str | Path,
    release: ntu_release.Release = "ntu60",
    subjects: int = 8,
    actions: int = 10,
    replications: int = 1,
    setups: int = 2,
    seed: int = 0,
) -> int:
    """Writes a folder of ``.skeleton`` files as NTU RGB+D is distributed, with the oddities of the sensor.

    Files that the data set's authors list as missing skeletons have frames but no bodies.

    Args:
        output: Folder to write; it must not hold anything but the files of an equal run.
        release: ``ntu60`` or ``ntu120``, whose second half has other setups and actions.
        subjects: Number of performers, 1–40.
        actions: Actions of each half, 1–15.
        replications: Times that each performer does each action, 1 or 2; three files (cameras) each.
        setups: Setups of each half, 1–15.
        seed: Seed; equal arguments give equal bytes.

    Returns:
        Number of files.

    Raises:
        InputError: An argument lies outside its range, or the folder holds something else.
    """
    if not (1 <= subjects <= 40 and 1 <= actions <= 15 and 1 <= setups <= 15 and replications in (1, 2)) or seed < 0:
        raise InputError(
            "subjects must lie in 1–40, actions and setups in 1–15, replications be 1 or 2 and seed not negative"
        )
    performances = []
    for (action, name), actor, replication in product(
        ntu_classes(release, actions).items(), range(1, subjects + 1), range(1, replications + 1)
    ):
        setup = (1 if action <= 60 else 18) + (actor + replication - 1) % setups
        performances.append((action, name, actor, replication, setup))
    stems = {
        (action, actor, replication, camera): f"S{setup:03d}C{camera:03d}P{actor:03d}R{replication:03d}A{action:03d}"
        for action, _, actor, replication, setup in performances
        for camera in AZIMUTHS
    }
    missing = ntu_release.missing_skeletons()

    def write(work: Path) -> None:
        for action, name, actor, replication, setup in performances:
            views = record(name, actor, skeleton=NTU25, seed=seed, setup=setup, replication=replication)
            for camera, joints in views.items():
                stem = stems[action, actor, replication, camera]
                shown = joints[:0] if stem in missing else joints
                log, ids = sensor_log(shown, Draw(seed, 6, action, actor, replication, camera))
                ntu_skeleton.write_skeleton(work / f"{stem}.skeleton", log, ids)

    write_folder(Path(output), {f"{stem}.skeleton" for stem in stems.values()}, write)
    return len(stems)


PKU_MMD_ACTIONS = {
    "pickup": "pick up with one hand",
    "drop": "drop trash",
    "sitting down": "sit down",
    "standing up": "stand up",
    "wear jacket": "donning",
    "take off jacket": "doffing",
    "throw": "throw",
    "hand waving": "wave",
    "drink water": "drink",
    "make a phone call/answer phone": "phone call",
    "clapping": "clap",
    "kicking something": "kick",
    "handshaking": "handshake",
    "hugging other person": "hug",
    "pushing other person": "push",
    "kicking other person": "kick other",
    "point finger at the other person": "point at other",
}
"""Class of PKU-MMD → action of ours; part 2 has none of the last five."""
_FOLDERS = {1: ("PKU_Skeleton_Renew", "Train_Label_PKU_final"), 2: ("skeleton", "label")}
_SPLITS = {1: ("cross-subject.txt", "cross-view.txt"), 2: ("cross_subject_v2.txt", "cross_view_v2.txt")}


def untrimmed(
    actions: list[tuple[int, NDArray[np.float32]]], part: pku_mmd.Part, passer_by: NDArray[np.float32], draw: Draw
) -> tuple[NDArray[np.float32], list[pku_mmd.Interval]]:
    """Strings clips together as one camera's video, with pauses between and labels beside.

    In the pauses people drift from one pose to the next. In part 2 the pauses are a few frames, the labels reach into
    them and may overlap, and rows are not always sorted. Now and then somebody walks past, the actor is in the second
    place, or nobody is seen during an action.

    Args:
        actions: Label, counted from 0, and coordinates (M, T, 25, 3), M ≤ 2, of each action.
        part: Part of PKU-MMD.
        passer_by: Somebody who may walk past, (1, T', 25, 3).
        draw: Source of randomness.

    Returns:
        Coordinates (2, F, 25, 3), NaN where nothing was seen, and the labels; start inclusive, end exclusive.
    """
    scenes = []
    for _, joints in actions:
        scene = np.full((2, *joints.shape[1:]), np.nan, np.float32)
        scene[: len(joints)] = joints
        if len(joints) == 1 and draw.chance(0.2):
            length = min(scene.shape[1], passer_by.shape[1])
            scene[1, :length] = passer_by[0, :length] + np.array([1.0, 0.0, 1.0], np.float32)
        if draw.chance(0.06):
            scene = scene[::-1]
        elif draw.chance(0.03):
            scene = np.full_like(scene, np.nan)
        scenes.append(scene)
    pieces: list[NDArray[np.float32]] = []
    spans: list[tuple[int, int]] = []
    total = 0
    for scene, following in zip(scenes, [*scenes[1:], scenes[-1]], strict=True):
        pause = 10 + draw.below(40) if part == 1 else draw.below(5)
        weight = np.linspace(0.0, 1.0, pause, dtype=np.float32)[None, :, None, None]
        drift = (1 - weight) * scene[:, -1:] + weight * (following[:, :1] if following is not scene else scene[:, -1:])
        pieces += [scene, drift]
        spans.append((total, total + scene.shape[1]))
        total += scene.shape[1] + pause
    margin = 0 if part == 1 else 3
    intervals = [
        pku_mmd.Interval(label, max(start - margin, 0), min(end + margin, total), 0)
        for (label, _), (start, end) in zip(actions, spans, strict=True)
    ]
    if part == 2 and draw.chance(0.3):
        intervals.reverse()
    return np.concatenate(pieces, 1), intervals


def write_pku_mmd(
    output: str | Path, part: pku_mmd.Part = 1, recordings: int = 12, actions: int = 8, seed: int = 0
) -> int:
    """Writes folders of skeleton, label and split files as PKU-MMD is distributed.

    A third of the recordings lie in the test part of the cross-subject split. Videos that the data set lacks are
    lacking here too.

    Args:
        output: Folder to write; it must not hold anything but the files of an equal run.
        part: Part of PKU-MMD; part 2 has short pauses, overlapping labels and no actions of two people.
        recordings: Number of recordings, 3–99; three videos (views) each.
        actions: Actions in each of them, 1–99.
        seed: Seed; equal arguments give equal bytes.

    Returns:
        Number of videos.

    Raises:
        InputError: An argument lies outside its range, or the folder holds something else.
    """
    if not 3 <= recordings <= 99 or not 1 <= actions <= 99 or seed < 0:
        raise InputError("recordings must lie in 3–99, actions in 1–99 and seed must not be negative")
    classes = [name for name in PKU_MMD_ACTIONS if pku_mmd.ACTIONS.index(name) in pku_mmd.PRESENT[part]]
    existing = set(pku_mmd.videos(part))
    stems: dict[tuple[int, str], str] = {}
    for number in range(recordings):
        group, place = divmod(number, 3)
        if part == 1:
            name = f"{(2 + 2 * group, 3 + 2 * group, 291 + group)[place]:04d}"
        else:
            name = f"A{1 + group // 2:02d}N{((1, 4, 2), (5, 6, 3))[group % 2][place]:02d}"
        stems |= {(number, view): f"{name}-{view}" for view in pku_mmd.VIEWS if f"{name}-{view}" in existing}
    skeletons, labels = _FOLDERS[part]

    def write(work: Path) -> None:
        (work / skeletons).mkdir()
        (work / labels).mkdir()
        for number in range(recordings):
            # In part 1 everybody comes once; in part 2 the names tell who acts.
            actor = number + 1 if part == 1 else int(stems[number, "L"][4:6])
            views = []
            for place in range(actions):
                name = classes[(number * actions + place) % len(classes)]
                filmed = record(
                    PKU_MMD_ACTIONS[name], actor, skeleton=NTU25, seed=seed, setup=1 + number, replication=place
                )
                views.append((pku_mmd.ACTIONS.index(name), filmed))
            passing = record("walk around", 500 + number, skeleton=NTU25, seed=seed, setup=1 + number)
            for view, camera in pku_mmd.VIEWS.items():
                if (number, view) not in stems:
                    continue
                draw = Draw(seed, 7, part, number, camera)
                clips = [(label, filmed[camera]) for label, filmed in views]
                joints, intervals = untrimmed(clips, part, passing[camera], draw)
                file = f"{stems[number, view]}.txt"
                pku_mmd.write_skeleton(work / skeletons / file, joints)
                pku_mmd.write_labels(work / labels / file, intervals)
        for split, file in zip(pku_mmd.SPLITS, _SPLITS[part], strict=True):
            test = [stem for stem in stems.values() if pku_mmd.is_test(stem, part, split)]
            pku_mmd.write_split(work / file, [stem for stem in stems.values() if stem not in test], test)

    files = {f"{folder}/{stem}.txt" for folder in (skeletons, labels) for stem in stems.values()}
    write_folder(Path(output), files | set(_SPLITS[part]), write)
    return len(stems)
