"""Synthetic people in the raw files of NTU RGB+D 60 and 120."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skelcl.data.bodies import BodyFrames
from skelcl.data.formats import ntu_release, ntu_skeleton
from skelcl.data.formats.folders import write_folder
from skelcl.data.synthetic.actions import DUO, SOLO
from skelcl.data.synthetic.motion import Draw
from skelcl.data.synthetic.performance import AZIMUTHS, record
from skelcl.errors import InputError
from skelcl.skeleton import NTU25

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
        if draw.bernoulli(0.3):
            lost, gap = frames // 3 + draw.integers(frames // 3), draw.integers(3)
            bodies[number] = bodies[number].copy()
            bodies[number][lost : lost + gap] = np.nan
            tracks[number][lost:] = people + number
    if draw.bernoulli(0.3):
        still = joints[0, int(np.argmin(np.isnan(joints[0]).all((1, 2))))]
        other = np.full_like(joints[0], np.nan)
        if draw.bernoulli(0.5):
            other[:] = np.nan_to_num(still) * np.array([3.0, 0.5, 1.0], np.float32)  # wide and low: a chair
        else:
            first, length = draw.integers(frames - 11), 3 + draw.integers(9)
            other[first : first + length] = np.nan_to_num(still) + np.array([1.0, 0.0, 1.0], np.float32)
        bodies.append(other)
        tracks.append(np.full(frames, 2 * people))
    swap = draw.integers(frames) if draw.bernoulli(0.3) else frames
    rows = []
    for t in range(frames):
        there = [n for n, body in enumerate(bodies) if not np.isnan(body[t]).all()]
        rows += [(t, slot, n) for slot, n in enumerate(there[::-1] if t >= swap else there)]
    # Numbers of tracks follow their first appearance, as in a file.
    order = {number: n for n, number in enumerate(dict.fromkeys(int(tracks[n][t]) for t, _, n in rows))}
    first_id = _FIRST_ID + 16 * draw.integers(1000)
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
