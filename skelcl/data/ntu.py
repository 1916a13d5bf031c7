"""NTU RGB+D 60 and 120: daily and two-person actions before three Kinect v2 cameras, in many setups."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from skelcl.bounds import PositiveInt, bounded
from skelcl.data.datamodule import SkeletonDataModule
from skelcl.data.formats.ntu_release import Release, difference, info, one_shot, splits
from skelcl.data.recording import DatasetInfo
from skelcl.data.store import SkeletonStore, StoreError, train_duplicates


@bounded
class NTU60(SkeletonDataModule):
    """NTU RGB+D 60: 60 actions, 40 performers, 17 setups (Shahroudy et al., CVPR 2016).

    Args:
        root: Folder of the stores that ``skelcl data prepare ntu60`` wrote.
        split: ``xsub`` trains on 20 of the 40 performers, ``xview`` on cameras 2 and 3.
        num_persons: Bodies of a view; clips hold one or two.
        loader: Further arguments of :class:`SkeletonDataModule`.

    Raises:
        StoreError: There is no usable store, or a part of the split is empty.
    """

    dataset = "ntu60"

    def __init__(
        self,
        root: str | Path = "data",
        split: Literal["xsub", "xview"] = "xsub",
        num_persons: PositiveInt = 2,
        **loader: Any,
    ) -> None:
        self.split = split
        super().__init__(root, num_persons=num_persons, **loader)

    @classmethod
    def published(cls, arguments: Mapping[str, Any]) -> DatasetInfo:
        """The data set as it was published."""
        return info("ntu60")

    def train_mask(self, index: dict[str, np.ndarray]) -> np.ndarray:
        """Clips of the training performers, or of cameras 2 and 3, (N,) bool."""
        return splits("ntu60", index)[self.split]

    def setup(self, stage: str) -> None:
        """Tells the sizes of the split and whether clips of the published data set are missing, once.

        Args:
            stage: As of SkeletonDataModule.
        """
        if not self._reported:
            _tell_difference("ntu60", self.store)
        super().setup(stage)


@bounded
class NTU120(SkeletonDataModule):
    """NTU RGB+D 120: 120 actions, 106 performers, 32 setups (Liu et al., TPAMI 2019).

    ``one-shot`` trains on the 100 auxiliary actions. Its test has one exemplar of each of the 20 novel actions as the
    gallery and all their other clips as queries, so ``test/knn_top1`` is the accuracy of the protocol. Pretraining on
    another split of this data set would show the novel actions to the encoder.

    Args:
        root: Folder of the stores that ``skelcl data prepare ntu120`` wrote.
        split: ``xsub`` trains on 53 of the 106 performers, ``xset`` on the setups of even number, ``one-shot`` on the
            auxiliary actions.
        num_persons: Bodies of a view; clips hold one or two.
        loader: Further arguments of :class:`SkeletonDataModule`.

    Raises:
        StoreError: There is no usable store, or a part of the split is empty.
    """

    dataset = "ntu120"

    def __init__(
        self,
        root: str | Path = "data",
        split: Literal["xsub", "xset", "one-shot"] = "xsub",
        num_persons: PositiveInt = 2,
        **loader: Any,
    ) -> None:
        self.split = split
        super().__init__(root, num_persons=num_persons, **loader)

    @classmethod
    def published(cls, arguments: Mapping[str, Any]) -> DatasetInfo:
        """The data set as it was published."""
        return info("ntu120")

    def train_mask(self, index: dict[str, np.ndarray]) -> np.ndarray:
        """Clips of the training performers, of the even setups or of the auxiliary actions, (N,) bool."""
        return ~one_shot(index)[0] if self.split == "one-shot" else splits("ntu120", index)[self.split]

    def _split(self) -> dict[str, np.ndarray]:
        parts = super()._split()
        if self.split == "one-shot":
            novel, exemplar = one_shot(self.store.index)
            parts["train_all"], parts["test"] = (
                np.flatnonzero(which & self._kept) for which in (exemplar, novel & ~exemplar)
            )
            label = self.store.index["label"]
            lacking = np.setdiff1d(label[parts["test"]], label[parts["train_all"]]) + 1
            if len(lacking) or not len(parts["test"]):
                raise StoreError(
                    f"{self.store.path}: one-shot needs queries of novel actions and the exemplar of each of them"
                    + "".join(f", A{action:03d} has none" for action in lacking[:1])
                )
        return parts

    def _subsets(self) -> dict[str, np.ndarray]:
        if self.split != "one-shot":
            return super()._subsets()
        content = self.store.index["content"]
        test = self.parts["test"]
        exemplar = np.zeros(len(self.store), bool)
        exemplar[self.parts["train_all"]] = True
        clean = test[~train_duplicates(content, exemplar)[test]]
        return {"test_clean": clean} if len(clean) < len(test) else {}

    def setup(self, stage: str) -> None:
        """Tells the sizes of the split and whether clips of the published data set are missing, once.

        Args:
            stage: As of SkeletonDataModule.
        """
        if not self._reported:
            _tell_difference("ntu120", self.store)
        super().setup(stage)


def _tell_difference(release: Release, store: SkeletonStore) -> None:
    if missing := difference(release, store.index):
        rank_zero_info(f"{release}: warning: not the complete published data set: {missing}")
