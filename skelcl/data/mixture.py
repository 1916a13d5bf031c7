"""Mixture: several data sets at once, in one layout."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from skelcl.bounds import PositiveFloat, PositiveInt, bounded
from skelcl.data.adapted import open_store
from skelcl.data.batches import BalancedBatches, ShuffledBatches
from skelcl.data.datamodule import SkeletonDataModule
from skelcl.data.facts import BETWEEN
from skelcl.data.poses.layouts import LayoutKeys, layout_keys
from skelcl.data.store import SkeletonStore
from skelcl.data.subsets import RULES, LabelSubset
from skelcl.data.union import UnionStore
from skelcl.errors import InputError, OptionError

PARTS_OWN = ("root", "classes", "num_persons", "layout", "fps", "subset", "fraction", "per_class", "subset_seed")
"""Options of all data modules that a part may set, or whose values are looked at in another way."""


class Part(NamedTuple):
    """Clips of a mixture that come from one data set.

    Args:
        dataset: Name of the data set.
        ids: Names that its clips have there, (N,) str.
        positions: Positions of its clips in the mixture, (N,) int64.
        labels: Labels that its classes have; empty where nothing is labelled. Parts with the same ones share them.
    """

    dataset: str
    ids: np.ndarray
    positions: np.ndarray
    labels: range


@bounded
class Mixture(SkeletonDataModule):
    """Named parts, each of them any data module, whose clips train one encoder together.

    The training set is the union of those of the parts, the test part likewise. A part says which clips it has and how
    they are divided; whatever else a data module says is said once, of the mixture.

    The label spaces of the parts are kept apart: classes are called ``<part>/<class>``, and a query is compared with
    clips of its own part alone. ``val/knn_top1/<part>`` is the accuracy of a part, which a checkpoint can monitor,
    ``val/knn_top1`` their mean; ``test`` reports ``test_<part>/…``, the numbers of the part alone. Supervised methods
    want one label space: no more than one part with labels, or ``join_classes``. Clips of parts without labels train
    self-supervised methods.

    Args:
        parts: Data modules by names of letters, digits, ``-`` and ``_``.
        layout: Joints of all clips, by name or file, instead of those of each part. None leaves them as they are, and
            then all parts must have the same ones.
        fps: Frames per second of all clips; None leaves those of each part.
        weights: How many showings of an epoch each part gets, relative to the others: ``{nw_ucla: 2, people: 1}``;
            ``equal`` is as many for each. An epoch has as many showings as the union has clips. None shows each clip
            once.
        join_classes: Clips of the same class are so whatever part they come from. All parts with labels must then have
            classes of the same names.
        num_persons: M, bodies of a view; None is the most of any part.
        root: Folder of the stores of all parts. In a config it stands in the place of theirs; parts that were made
            before must have it.
        loader: Further arguments of :class:`SkeletonDataModule`. ``validation`` and the labels of a ``fraction`` are
            chosen in each part as in that part alone; ``sampling: balanced`` is over the classes of all parts.

    Attributes:
        mixed: The parts by name.

    Raises:
        StoreError: A part has no usable store, or a part of its split is empty.
        InputError: The parts do not fit together, or an argument lies outside its range.
    """

    def __init__(
        self,
        parts: dict[str, SkeletonDataModule],
        layout: LayoutKeys | str | Path | None = None,
        fps: PositiveFloat | None = None,
        weights: Literal["equal"] | dict[str, PositiveFloat] | None = None,
        join_classes: bool = False,
        num_persons: PositiveInt | None = None,
        root: str | Path | None = None,
        **loader: Any,
    ) -> None:
        _check(parts, root)
        self.sources = parts
        self.join_classes = join_classes
        self.weights = _shares(weights, list(parts))
        self.dataset = BETWEEN.join(part.dataset for part in parts.values())
        self.always_clean = any(part.always_clean for part in parts.values())
        if num_persons is None:
            num_persons = max(part.num_persons for part in parts.values())
        super().__init__("", num_persons=num_persons, classes=None, layout=layout, fps=fps, **loader)
        if self.weights is not None and self.sampling == "balanced":
            raise OptionError("weights share out the parts, and sampling balanced the classes: take one of the two")

    def _open(self, root: str | Path, layout: LayoutKeys | str | Path | None, fps: float | None) -> SkeletonStore:
        # What the mixture says stands in the place of what a part says, so that no clip is changed twice.
        stores = {}
        for name, part in self.sources.items():
            joints = layout_keys(part.store.skeleton) if layout is None else layout
            rate = part.store.meta["fps"] if fps is None else fps
            stores[name] = open_store(part.store.path, self.preload == "memory", joints, rate)
        self._union = UnionStore(stores)
        begins = self._union.begins
        self._names, labels = self._named_classes()
        self.mixed = {
            name: Part(part.dataset, part.ids, np.arange(begin, end), labels.get(name, range(0)))
            for (name, part), begin, end in zip(self.sources.items(), begins, begins[1:], strict=False)
        }
        return self._union

    def _offered(self) -> np.ndarray:
        return np.concatenate([part._kept for part in self.sources.values()])

    def _named_classes(self) -> tuple[list[str], dict[str, range]]:
        """Names of all classes, and the labels of each part with labels.

        Raises:
            OptionError: They are to be joined, and the classes differ.
        """
        labelled = {name: part for name, part in self.sources.items() if (part.store.index["label"] >= 0).any()}
        if self.join_classes or len(labelled) < 2:
            first, *others = labelled or self.sources
            names = self.sources[first].class_names
            for other in others if labelled else ():
                if differing := sorted(set(names) ^ set(self.sources[other].class_names)):
                    raise OptionError(
                        f"join_classes: the parts {first} and {other} have different classes, {differing[0]!r} for "
                        "example: choose the same ones with the option classes of each part, or leave join_classes out"
                    )
            return list(names), dict.fromkeys(labelled, range(len(names)))
        names, labels = [], {}
        for name, part in labelled.items():
            labels[name] = range(len(names), len(names) + part.num_classes)
            names += [f"{name}/{one}" for one in part.class_names]
        return names, labels

    def _classes(self) -> tuple[list[str], np.ndarray]:
        found = []
        for name, part in self.sources.items():
            number = np.full(part.num_classes + 1, -1, np.int16)  # the last stands for the label −1
            if labels := self.mixed[name].labels:
                joined = self.join_classes and [self._names.index(one) for one in part.class_names]
                number[:-1] = joined or labels
            found.append(number[part.store.index["label"]])
        return self._names, np.concatenate(found)

    def train_mask(self, index: dict[str, np.ndarray]) -> np.ndarray:
        """Clips of the training parts, (N,) bool."""
        mask = np.zeros(len(index["id"]), bool)
        mask[self._joined({name: part._whole_parts for name, part in self.sources.items()})["train"]] = True
        return mask

    def _divide(self) -> dict[str, np.ndarray]:
        found = {}
        for name, part in self.sources.items():
            asked = copy.copy(part)
            asked.validation = self.validation if self.mixed[name].labels else "none"
            asked.validation_share = self.validation_share
            found[name] = asked._split()
        if self.validation != "none" and not any("query" in one for one in found.values()):
            raise InputError("no part of the mixture has labels for a validation: use --data.validation none")
        return self._joined(found)

    def _joined(self, found: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Parts of the splits of all parts, by their positions in the mixture."""
        return {
            kind: np.concatenate([self.mixed[name].positions[one[kind]] for name, one in found.items() if kind in one])
            for kind in dict.fromkeys(kind for one in found.values() for kind in one)
        }

    def _draw(self, rule: LabelSubset, choice: np.ndarray) -> np.ndarray:
        if rule.rule not in RULES:  # a file lists clips of all parts
            return super()._draw(rule, choice)
        chosen = np.zeros(len(self.store), bool)
        for part in self.mixed.values():
            mine = np.intersect1d(choice, part.positions)
            if len(mine):
                chosen[mine] = rule.draw(part.ids[mine - part.positions[0]], self.store.index["label"][mine])
        return chosen[choice]

    def _subsets(self) -> dict[str, np.ndarray]:
        subsets = super()._subsets()
        for name, part in self.mixed.items():
            test = np.intersect1d(self.parts["test"], part.positions)
            clean = np.intersect1d(test, subsets.get("test_clean", test))
            if len(test):
                subsets[f"test_{name}"] = test
            if self.sources[name].always_clean or len(clean) < len(test):
                subsets[f"test_{name}_clean"] = clean
        return subsets

    @property
    def split_description(self) -> str:
        """How each part is divided, and how the parts are drawn."""
        told = [f"{name}: {part.split_description or part.dataset}" for name, part in self.sources.items()]
        if self.weights is not None:
            told.append("weights " + ":".join(f"{weight:g}" for weight in self.weights))
        return "; ".join([*told, "classes joined"] if self.join_classes else told)

    def setup(self, stage: str) -> None:
        """Tells the sizes of the mixture and of each part, once.

        Args:
            stage: As of SkeletonDataModule.

        Raises:
            InputError: The method needs labels, and there are several label spaces; or as SkeletonDataModule.
        """
        told = self._reported
        super().setup(stage)
        if not told:
            rank_zero_info("\n".join(map(self._sizes, self.mixed)))

    def _sizes(self, name: str) -> str:
        part = self.mixed[name]
        train, test = (len(np.intersect1d(self._whole_parts[kind], part.positions)) for kind in ("train", "test"))
        labels = f"{len(part.labels)} classes" if part.labels else "no labels"
        return f"  {name}: {part.dataset}, train {train}, test {test} clips, {labels}"

    def _check_labels(self, stage: str) -> None:
        method = None if self.trainer is None else self.trainer.lightning_module
        spaces = {part.labels: name for name, part in self.mixed.items() if part.labels}
        if getattr(method, "needs_labels", False) and len(spaces) > 1:
            one, other, *_ = (f"{name} ({len(labels)} classes)" for labels, name in spaces.items())
            raise InputError(
                f"{type(method).__name__} learns the classes of one label space, and {one} and {other} have their own: "
                "train on one of them, or with --data.join_classes true where their classes have the same names"
            )
        super()._check_labels(stage)

    def _order(self) -> Callable[..., ShuffledBatches]:
        if self.weights is None:
            return super()._order()
        begins = self._union.begins
        place = np.searchsorted(begins, np.tile(self.parts["train"], self.repeat), "right") - 1
        return partial(BalancedBatches, label=place, weights=self.weights)


def _check(parts: Mapping[str, SkeletonDataModule], root: str | Path | None) -> None:
    """Refuses parts that say what the mixture says, or come from elsewhere.

    Raises:
        OptionError: One does, or it has an impossible name, or there is none.
    """
    if not parts:
        raise OptionError("Mixture: parts is empty: name at least one data module")
    said_once = inspect.signature(SkeletonDataModule).parameters
    for name, part in parts.items():
        if not re.fullmatch(r"[\w-]+", name) or name == "clean":
            raise OptionError(f"parts: a name of letters, digits, - and _ is wanted, other than clean, not {name!r}")
        for option, known in said_once.items():
            if option not in PARTS_OWN and getattr(part, option) != known.default:
                raise OptionError(f"parts: {name} sets {option}, which is said of the whole mixture: move it there")
        if part.label_subset is not None:
            raise OptionError(f"parts: {name} chooses labels, which is said of the whole mixture: move it there")
        if root is not None and part.store.path.parent != Path(root):
            raise OptionError(f"root: the part {name} is open already, from {part.store.path.parent}, not from {root}")


def _shares(weights: Literal["equal"] | Mapping[str, float] | None, names: list[str]) -> list[float] | None:
    """Weights in the order of the parts.

    Raises:
        OptionError: A part has none, or there is one of no part.
    """
    if weights is None:
        return None
    given = dict.fromkeys(names, 1.0) if isinstance(weights, str) else weights
    if wrong := sorted(set(given) ^ set(names)):
        raise OptionError(
            f"weights: one for each part is wanted, for {', '.join(names)}; {wrong[0]!r} is the difference"
        )
    return [given[name] for name in names]
