"""Synthetic: articulated people before three cameras, one or two at a time, generated on demand."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np

from skelcl.bounds import NonNegativeInt, PositiveInt, bounded
from skelcl.data.convert import convert
from skelcl.data.datamodule import SkeletonDataModule
from skelcl.data.poses.layouts import LayoutKeys
from skelcl.data.recording import DatasetInfo, Recording, Source
from skelcl.data.store import SkeletonStore, StoreError
from skelcl.data.synthetic.actions import ACTIONS
from skelcl.data.synthetic.performance import FPS, record
from skelcl.errors import InputError
from skelcl.skeleton import KINECT20, NTU25, Skeleton

SKELETONS: dict[str, Skeleton] = {"ntu25": NTU25, "kinect20": KINECT20}
SETUPS = 4
VERSION = 1
_Performance = tuple[str, int, int, int]  # action, actor, setup, replication


@bounded
class Synthetic(SkeletonDataModule):
    """People who act before three cameras, as one store per choice of sizes, seed and skeleton.

    The store is generated below ``root`` when it is not there yet, at several hundred clips per second. Clips are named
    as in NTU RGB+D; each performance is seen by three cameras. Bodies are one or two; frames, joints and second bodies
    get lost as with a real sensor. The same arguments give the same bytes everywhere, and a clip does not depend on
    how many others there are.

    Args:
        root: Folder of the stores.
        split: ``xsub`` trains on the odd subjects, ``xview`` on cameras 2 and 3, ``xset`` on the even setups.
        subjects: Number of people who act.
        replications: Times that each of them does each action; three clips each.
        actions: Names of the actions in the order of their labels; all by default.
        seed: Seed of the generated world, independent of the run's seed.
        layout: Joints that the cameras report: ``ntu25`` as Kinect v2, or ``kinect20`` as Kinect v1. Any other layout,
            as of :class:`SkeletonDataModule`, is mapped from ``ntu25``.
        num_persons: Bodies of a view.
        loader: Further arguments of :class:`SkeletonDataModule`.

    Raises:
        InputError: An argument lies outside its range, or an action is unknown.
        StoreError: A part of the split is empty, or the place of the store is taken.
    """

    dataset = "synthetic"

    def __init__(
        self,
        root: str | Path = "data",
        split: Literal["xsub", "xview", "xset"] = "xsub",
        subjects: PositiveInt = 10,
        replications: PositiveInt = 2,
        actions: list[str] | None = None,
        seed: NonNegativeInt = 0,
        layout: LayoutKeys | str | Path | None = "ntu25",
        num_persons: PositiveInt = 2,
        **loader: Any,
    ) -> None:
        self.split = split
        seen = layout if isinstance(layout, str) and layout in SKELETONS else "ntu25"
        self.dataset = generate(root, subjects, replications, actions, seed, seen)
        super().__init__(root, num_persons=num_persons, layout=None if layout == seen else layout, **loader)

    def train_mask(self, index: dict[str, np.ndarray]) -> np.ndarray:
        """Clips of the odd subjects, of cameras 2 and 3, or of the even setups, (N,) bool."""
        if self.split == "xsub":
            return np.asarray(index["subject"] % 2 == 1)
        return np.asarray(index["camera"] != 1 if self.split == "xview" else index["setup"] % 2 == 0)


def generate(
    root: str | Path, subjects: int, replications: int, actions: list[str] | None, seed: int, layout: str
) -> str:
    """Makes the store of these arguments unless it is there.

    Args:
        root: Folder of the stores.
        subjects: Number of people who act, 1–999.
        replications: Times that each of them does each action, 1–127.
        actions: Names of the actions; all when None.
        seed: Seed of the world.
        layout: Name of the skeleton.

    Returns:
        Name of the store below ``root``; it differs for different arguments.

    Raises:
        InputError: An argument lies outside its range, or an action is unknown.
    """
    names = list(ACTIONS) if actions is None else actions
    if not 1 <= subjects <= 999 or not 1 <= replications <= 127 or seed < 0 or not names:
        raise InputError("subjects must lie in 1–999, replications in 1–127, seed must be ≥ 0, actions not empty")
    if unknown := [name for name in names if name not in ACTIONS]:
        raise InputError(f"unknown action {unknown[0]!r}; there are: {', '.join(ACTIONS)}")
    if len(set(names)) < len(names):
        raise InputError("actions holds a name twice")
    parameters = {"subjects": subjects, "replications": replications, "actions": names, "seed": seed, "layout": layout}
    digest = hashlib.sha256(json.dumps([VERSION, parameters], sort_keys=True).encode()).hexdigest()
    info = DatasetInfo(
        name=f"synthetic-{layout}-{digest[:8]}",
        skeleton=SKELETONS[layout],
        classes=tuple(names),
        reader=VERSION,
        axes="camera: y up, z away from the camera",
        fps=float(FPS),
    )
    sources = []
    for name, actor, replication in product(names, range(1, subjects + 1), range(1, replications + 1)):
        setup = 1 + (actor + replication) % SETUPS
        where = (name, actor, setup, replication)
        sources.append(Source(f"{name} {actor:03d} {replication:03d}", where, ""))
    read = partial(_read, names=names, seed=seed, skeleton=info.skeleton)
    root = Path(root)
    target = root / info.name
    with suppress(StoreError):
        SkeletonStore(target)
        return info.name
    make = partial(convert, info=info, sources=sources, read=read, kind="generated", parameters=parameters, jobs=1)
    if target.exists():  # damaged
        make(root)
        return info.name
    # Processes of one run may all arrive here: each makes its own, the first one wins.
    root.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{info.name}.", dir=root) as work:
        make(work)
        with suppress(OSError):
            os.rename(Path(work) / info.name, target)
    return info.name


def _read(where: _Performance, names: list[str], seed: int, skeleton: Skeleton) -> list[Recording]:
    """All camera views of a performance."""
    action, actor, setup, replication = where
    label = names.index(action)
    views = record(action, actor, skeleton=skeleton, seed=seed, setup=setup, replication=replication)
    return [
        Recording(
            f"S{setup:03d}C{camera:03d}P{actor:03d}R{replication:03d}A{label + 1:03d}",
            joints,
            label,
            actor,
            camera,
            setup,
            replication,
            label_original=ACTIONS.index(action),
        )
        for camera, joints in views.items()
    ]
