"""Synthetic people in the raw files of NW-UCLA."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

from skelcl.data.formats import nw_ucla
from skelcl.data.formats.folders import write_folder
from skelcl.data.recording import Recording
from skelcl.data.synthetic.performance import AZIMUTHS, record
from skelcl.errors import InputError
from skelcl.skeleton import KINECT20


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
