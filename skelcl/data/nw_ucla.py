"""NW-UCLA: ten actions of ten performers before three Kinect v1 cameras (Wang et al., CVPR 2014)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from skelcl.data.datamodule import SkeletonDataModule
from skelcl.data.formats.nw_ucla import INFO, splits


class NWUCLA(SkeletonDataModule):
    """NW-UCLA, cross-view.

    The copy of this data set that everybody uses holds 95 view 3 sequences twice, number for number, as view 2. The
    metrics of the sequences that are not copies (``test_clean``) are therefore always reported as well.

    Args:
        root: Folder of the stores that ``skelcl data prepare nw-ucla`` wrote.
        test_view: View whose clips are the test part; the literature holds out view 3.
        batch_size: Clips per batch and process.
        num_workers: Processes that assemble batches. A batch is a copy of memory slices, so 0 is usually fastest.
        preload: ``none`` maps the store, ``memory`` reads it into main memory, ``device`` keeps it whole on the
            accelerator and sends only clip numbers, without workers.
        num_persons: Bodies of a view; NW-UCLA has one.
        validation: ``none``, or a part of the training performers as queries of a nearest-neighbour check, the other
            training clips being the gallery: ``seen`` trains on both, ``held-out`` on the gallery alone.
        validation_share: Share of the training performers that become queries.
        drop_last: Whether an epoch leaves out its last, smaller batch.
        predict_split: Part that ``predict`` encodes.

    Raises:
        StoreError: There is no usable store.
    """

    dataset = INFO.name
    always_clean = True

    def __init__(
        self,
        root: str | Path = "data",
        test_view: Literal[1, 2, 3] = 3,
        batch_size: int = 64,
        num_workers: int = 0,
        preload: Literal["none", "memory", "device"] = "none",
        num_persons: int = 1,
        validation: Literal["none", "seen", "held-out"] = "none",
        validation_share: float = 0.2,
        drop_last: bool = False,
        predict_split: Literal["train", "test", "all"] = "test",
    ) -> None:
        self.test_view = test_view
        super().__init__(
            root=root,
            batch_size=batch_size,
            num_workers=num_workers,
            preload=preload,
            num_persons=num_persons,
            validation=validation,
            validation_share=validation_share,
            drop_last=drop_last,
            predict_split=predict_split,
        )

    def train_mask(self, index: dict[str, np.ndarray]) -> np.ndarray:
        """Clips of the views that are not held out, (N,) bool."""
        return splits(index)[f"test_view {self.test_view}"]
