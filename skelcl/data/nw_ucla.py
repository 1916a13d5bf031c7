"""NW-UCLA: ten actions of ten performers before three Kinect v1 cameras (Wang et al., CVPR 2014)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from skelcl.data.datamodule import SkeletonDataModule
from skelcl.data.formats.nw_ucla import INFO, splits
from skelcl.data.recording import DatasetInfo


class NWUCLA(SkeletonDataModule):
    """NW-UCLA, cross-view.

    The copy of this data set that everybody uses holds 95 view 3 sequences twice, number for number, as view 2. The
    metrics of the sequences that are not copies (``test_clean``) are therefore always reported as well.

    Args:
        root: Folder of the stores that ``skelcl data prepare nw-ucla`` wrote.
        test_view: View whose clips are the test part; the literature holds out view 3.
        loader: Further arguments of :class:`SkeletonDataModule`.

    Raises:
        StoreError: There is no usable store.
    """

    dataset = INFO.name
    always_clean = True

    def __init__(
        self,
        root: str | Path = "data",
        test_view: Literal[1, 2, 3] = 3,
        **loader: Any,
    ) -> None:
        self.test_view = test_view
        super().__init__(root, **loader)

    @classmethod
    def published(cls, arguments: Mapping[str, Any]) -> DatasetInfo:
        """The data set as it was published."""
        return INFO

    def train_mask(self, index: dict[str, np.ndarray]) -> np.ndarray:
        """Clips of the views that are not held out, (N,) bool."""
        return splits(index)[f"test_view {self.test_view}"]
