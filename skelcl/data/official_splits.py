"""Which official protocols divide a store, whoever asks."""

from __future__ import annotations

import re

import numpy as np

from skelcl.data.formats import bandai_namco, ntu_release, nw_ucla, pku_release
from skelcl.data.formats.arrays import TEST, TRAIN
from skelcl.data.store import SkeletonStore
from skelcl.errors import InputError

_OFFICIAL = (
    nw_ucla.INFO.name,
    *ntu_release.PUBLISHED,
    *(info.name for info in pku_release.INFO.values()),
    *(info.name for info in bandai_namco.INFO.values()),
)
"""Stores whose data modules split by columns or ids of the data set."""


def check_store_name(name: str, split_by_ids: tuple[str, ...] = ()) -> None:
    """Refuses names of stores that are no names of folders, or that belong to a data set with splits of its own.

    Args:
        name: Name of a store to be imported.
        split_by_ids: Official data sets whose splits the imported ids tell.

    Raises:
        InputError: It is one.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise InputError(f"--name {name!r}: letters, digits, dots, dashes and underscores only")
    if name in _OFFICIAL and name not in split_by_ids:
        raise InputError(
            f"--name {name}: the splits of this data set need what these files do not tell: choose another --name and "
            "the data module Custom"
        )


def official_splits(store: SkeletonStore) -> dict[str, np.ndarray]:
    """Training parts of the protocols of a store's data set.

    Args:
        store: The store.

    Returns:
        Name of the protocol → (N,) bool; all other clips are its test part. A store whose ids all begin with ``train/``
        or ``test/`` has the one called ``imported``. Empty for data of your own.
    """
    name, index = store.meta["dataset"], store.index
    if name == nw_ucla.INFO.name:
        return nw_ucla.splits(index)
    if name in ntu_release.PUBLISHED:
        return ntu_release.splits(name, index)
    for part in pku_release.PARTS:
        if name == pku_release.INFO[part].name:
            return pku_release.splits(index, part)
    for number in (1, 2):
        if name == bandai_namco.INFO[number].name:
            return bandai_namco.splits(index, 1 if number == 1 else 2)
    train = np.char.startswith(store.ids, TRAIN)
    return {"imported": train} if (train | np.char.startswith(store.ids, TEST)).all() else {}
