"""Bandai-Namco's motion capture: contents in several styles (Kobayashi et al., arXiv 2306.08861)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skelcl.bounds import bounded
from skelcl.data.datamodule import SkeletonDataModule
from skelcl.data.formats.bandai_namco import HELD_OUT, INFO, STYLES, Label, Part, train_part
from skelcl.data.recording import DatasetInfo


@bounded
class BandaiNamco(SkeletonDataModule):
    """Bandai-Namco Research Motiondataset, part 1 or 2: what is done across styles, or in which style across contents.

    Part 2 has 2,902 clips of 10 contents in 7 styles, part 1 175 of 17 in 15, of which ten contents come in every
    style. No file names its actor, and styles were probably recorded with one actor each: leaving out a style leaves
    out an actor, and what tells styles apart may tell actors apart. A random split would put takes of one recording on
    both sides, and is not offered.

    Six of the ten contents of part 2 are mirror images of each other: an augmentation that mirrors, or swaps left and
    right joints, changes their class. The first frame tells turns apart by the way a body faces unless a recipe turns
    bodies to face one way.

    Args:
        root: Folder of the stores that ``skelcl data prepare bandai-namco`` wrote.
        part: Part of the data set.
        label: What the classes are: ``content`` or ``style``.
        held_out: Styles (of ``content``), or contents (of ``style``), that are the test part. None takes feminine and
            youthful, or the two turns, of part 2; five styles, or three ways of walking, of part 1.
        loader: Further arguments of :class:`SkeletonDataModule`.

    Raises:
        StoreError: There is no usable store, a name is unknown, or a part of the split is empty.
    """

    def __init__(
        self,
        root: str | Path = "data",
        part: Part = 2,
        label: Label = "content",
        held_out: list[str] | None = None,
        **loader: Any,
    ) -> None:
        self.part = part
        self.label = label
        self.held_out = list(HELD_OUT[part, label]) if held_out is None else held_out
        self.dataset = INFO[part].name
        super().__init__(root, **loader)

    def _classes(self) -> tuple[list[str], np.ndarray]:
        # The store holds contents as the label, and styles as the setup.
        if self.label == "content":
            return super()._classes()
        return list(STYLES[self.part]), self.store.index["setup"]

    @classmethod
    def published(cls, arguments: Mapping[str, Any]) -> DatasetInfo:
        """The data set as it was published."""
        part = arguments.get("part", 2)
        return replace(INFO[part], classes=STYLES[part]) if arguments.get("label") == "style" else INFO[part]

    def train_mask(self, index: dict[str, np.ndarray]) -> np.ndarray:
        """Clips of the styles, or contents, that are not held out, (N,) bool."""
        return train_part(index, self.part, self.label, self.held_out)
