"""Custom: your own data, from any store that ``skelcl data import`` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from skelcl.bounds import NonNegativeInt, ProperShare, bounded
from skelcl.data.datamodule import SkeletonDataModule
from skelcl.data.subsets import validation_queries
from skelcl.errors import InputError


@bounded
class Custom(SkeletonDataModule):
    """Any store, with the test part of your choice.

    Exactly one of ``test_subjects``, ``test_cameras``, ``test_share`` and ``test_prefix`` says which clips are the test
    part.

    Args:
        name: Name of the store below ``root``.
        root: Folder of the stores.
        test_subjects: Performers whose clips are the test part.
        test_cameras: Cameras whose clips are the test part.
        test_share: Share of the performers that are the test part, chosen by a hash of their numbers; of the clips of
            each class, by a hash of their ids, when fewer than three performers are known.
        test_prefix: Beginning of the ids of the test part: ``test/`` for processed data sets that
            ``skelcl data import arrays`` read.
        loader: Further arguments of :class:`SkeletonDataModule`.

    Raises:
        StoreError: There is no such store, or a part of the split is empty.
        InputError: None or several of the four rules are given, or a performer or camera does not occur.
    """

    def __init__(
        self,
        name: str = "my-data",
        root: str | Path = "data",
        test_subjects: list[NonNegativeInt] | None = None,
        test_cameras: list[NonNegativeInt] | None = None,
        test_share: ProperShare | None = None,
        test_prefix: str | None = None,
        **loader: Any,
    ) -> None:
        if [test_subjects, test_cameras, test_share, test_prefix].count(None) != 3:
            raise InputError("Custom: give exactly one of test_subjects, test_cameras, test_share and test_prefix")
        self.dataset = name
        self.test_subjects = test_subjects
        self.test_cameras = test_cameras
        self.test_share = test_share
        self.test_prefix = test_prefix
        super().__init__(root, **loader)

    def train_mask(self, index: dict[str, np.ndarray]) -> np.ndarray:
        """Clips outside of the test part, (N,) bool."""
        if self.test_prefix is not None:
            test = np.char.startswith(index["id"], self.test_prefix)
            if not test.any():
                first = str(index["id"][0])
                raise InputError(
                    f"{self.dataset}: no id begins with {self.test_prefix!r}, the test_prefix; one is {first!r}"
                )
            return np.asarray(~test)
        if self.test_share is not None:
            return ~validation_queries(index, np.arange(len(index["id"])), self.test_share)
        column = "camera" if self.test_subjects is None else "subject"
        chosen = (self.test_cameras if self.test_subjects is None else self.test_subjects) or []
        known = np.unique(index[column])
        if lacking := sorted(set(chosen) - set(known.tolist())):
            found = ", ".join(map(str, known[known >= 0])) or f"none: import with a table of labels that has a {column}"
            raise InputError(f"{self.dataset}: no clip is of {column} {lacking[0]}; there are {found}")
        return np.asarray(~np.isin(index[column], chosen))
