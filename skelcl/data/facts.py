"""DataFacts: what a network must know of the data that it was trained on, where they are not at hand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skelcl.data.schema import DATA, Entries, check_entries, checked_skeleton, is_count, is_text
from skelcl.data.store import how_to_make
from skelcl.skeleton import Skeleton

FACTS_KEY = "skelcl_facts"
"""Where a checkpoint carries the facts of its data."""
BETWEEN = " + "
"""Stands between the names of the data sets of a mixture."""
_MOST_PERSONS = 1000
_DEEPEST = 5


@dataclass(frozen=True)
class DataFacts:
    """Facts of a data set under a split: all that is asked of it but for its clips. They travel in checkpoints.

    Args:
        dataset: Name of the store.
        split: How it was divided, in words; empty where that is not known.
        skeleton: Layout of the joints.
        channels: C, the coordinates per joint.
        num_persons: M, bodies of a view.
        class_names: Names of the classes by label.
        recipe: Normalisation that the coordinates went through before they were stored; ``none``: camera space.
        units: Unit of the coordinates.
        axes: Directions of x, y and z.
        fps: Frames per second; None where the data set does not say.
        counts: Clips of each part of the split, ``train`` and ``test`` among them; empty where that is not known.
        digest: Hexadecimal SHA-256 of the clips of the store; empty where that is not known.
        source: What the store was made of, as its ``meta.json`` says it.
        parameters: Options that it was made with, as its ``meta.json`` says them.
    """

    dataset: str
    split: str
    skeleton: Skeleton
    channels: int
    num_persons: int
    class_names: tuple[str, ...]
    recipe: str
    units: str
    axes: str
    fps: float | None
    counts: Mapping[str, int]
    digest: str
    source: str
    parameters: Mapping[str, Any]

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.class_names)

    @property
    def datasets(self) -> list[str]:
        """Names of the stores: of those of a mixture, else the one."""
        return self.dataset.split(BETWEEN)

    @property
    def import_options(self) -> Mapping[str, Any]:
        """Options of ``skelcl data import poses`` that read the clips, where they are poses of one's own; else none."""
        return self.parameters if {"format", "max_bodies"} <= self.parameters.keys() else {}

    def __str__(self) -> str:
        kinds = {"train": "training", "test": "test"}
        sizes = " and ".join(f"{self.counts[part]:,} {kind}" for part, kind in kinds.items() if part in self.counts)
        digest = f"sha256 {self.digest[:6]}" if self.digest else ""
        told = [self.split, f"{sizes} clips" if sizes else "", digest]
        return f"{self.dataset} ({'; '.join(part for part in told if part)})"

    def how_to_make(self, path: Path) -> str:
        """The command that makes the store of these data in a folder where there is none."""
        return how_to_make(path, {"parameters": self.parameters, "source": self.source}, there=False)

    def to_plain(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        told = asdict(self) | {"skeleton": self.skeleton.to_dict(), "classes": list(self.class_names)}
        del told["class_names"]
        return told

    @classmethod
    def from_plain(cls, values: Any) -> DataFacts:
        """The inverse of :meth:`to_plain`, of values that somebody else may have written.

        Raises:
            ValueError: They are no facts; the message says which entry is wrong, and how.
        """
        if not isinstance(values, dict):
            raise ValueError("they are no entries by name")
        check_entries(values, _ENTRIES)
        told = {name: values[name] for name in _ENTRIES} | {
            "skeleton": checked_skeleton(values["skeleton"]),
            "class_names": tuple(values["classes"]),
        }
        del told["classes"]
        return cls(**told)


def _are_parameters(value: Any) -> bool:
    """Options by name: plain values, or lists and mappings of them, such as the layout that poses had."""

    def plain(one: Any, depth: int = 0) -> bool:
        if isinstance(one, dict) and depth < _DEEPEST:
            return all(is_text(name) and plain(part, depth + 1) for name, part in one.items())
        if isinstance(one, (list, tuple)) and depth < _DEEPEST:
            return all(plain(part, depth + 1) for part in one)
        return one is None or type(one) in (str, int, float, bool)

    return isinstance(value, dict) and plain(value)


_ENTRIES: Entries = {
    **DATA,
    "split": (is_text, "a text"),
    "channels": (lambda value: type(value) is int and value in (2, 3), "2 or 3"),
    "num_persons": (lambda value: is_count(value) and 1 <= value <= _MOST_PERSONS, f"a number of 1 to {_MOST_PERSONS}"),
    "counts": (
        lambda value: isinstance(value, dict) and all(is_text(name) and is_count(one) for name, one in value.items()),
        "numbers of clips by part",
    ),
    "digest": (lambda value: is_text(value) and re.fullmatch(r"([0-9a-f]{64})?", value), "a checksum or empty"),
    "parameters": (_are_parameters, "options by name"),
}
"""Entry of the plain values → what it must be."""
