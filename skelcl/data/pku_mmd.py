"""PKU-MMD: 51 actions before three Kinect v2 cameras, clips of untrimmed videos (Liu et al., arXiv 1703.07475)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from skelcl.bounds import PositiveInt, bounded
from skelcl.data.datamodule import SkeletonDataModule
from skelcl.data.formats.pku_release import ACTIONS, INFO, splits
from skelcl.data.recording import DatasetInfo


@bounded
class PKUMMD(SkeletonDataModule):
    """PKU-MMD, part 1 or 2, cross-subject or cross-view.

    Part 1 has 1,076 videos of 66 performers and 51 classes, part 2 1,009 shorter and harder videos of 13 performers and
    41 of these classes. The official lists call the test part validation. They hold out the middle view in part 1 and
    the left one in part 2. The names of part 1 do not tell performers apart; a validation part of it is made of whole
    recordings, all views together.

    Args:
        root: Folder of the stores that ``skelcl data prepare pku-mmd`` wrote.
        part: Part of the data set, also called phase.
        split: ``xsub`` (cross-subject) or ``xview`` (cross-view).
        labels: ``dense`` numbers the classes that the part contains, 51 or 41, without gaps; ``original`` keeps the 51
            classes of part 1 in both, for transfer from one to the other.
        num_persons: Bodies of a view.
        loader: Further arguments of :class:`SkeletonDataModule`.

    Raises:
        StoreError: There is no usable store, or a part of the split is empty.
    """

    def __init__(
        self,
        root: str | Path = "data",
        part: Literal[1, 2] = 1,
        split: Literal["xsub", "xview"] = "xsub",
        labels: Literal["dense", "original"] = "dense",
        num_persons: PositiveInt = 2,
        **loader: Any,
    ) -> None:
        self.part = part
        self.split = split
        self.dataset = INFO[part].name
        self._original = labels == "original"
        super().__init__(root, num_persons=num_persons, **loader)

    def _classes(self) -> tuple[list[str], np.ndarray]:
        # The store holds both numberings, the dense one as the label.
        return (list(ACTIONS), self.store.index["label_original"]) if self._original else super()._classes()

    @classmethod
    def published(cls, arguments: Mapping[str, Any]) -> DatasetInfo:
        """The data set as it was published."""
        info = INFO[arguments.get("part", 1)]
        return replace(info, classes=tuple(ACTIONS)) if arguments.get("labels") == "original" else info

    def train_mask(self, index: dict[str, np.ndarray]) -> np.ndarray:
        """Clips of the videos that the official list trains on, (N,) bool."""
        return splits(index, self.part)[self.split]
