"""Which official protocols divide a store, whoever asks."""

from __future__ import annotations

import numpy as np

from skelcl.data.formats import ntu_release, nw_ucla, pku_release
from skelcl.data.formats.arrays import TEST, TRAIN
from skelcl.data.store import SkeletonStore


def protocols(store: SkeletonStore) -> dict[str, np.ndarray]:
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
    train = np.char.startswith(store.ids, TRAIN)
    return {"imported": train} if (train | np.char.startswith(store.ids, TEST)).all() else {}
