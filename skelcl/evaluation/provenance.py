"""What a checkpoint was trained on, and which of the clips that judge it are among that."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from numpy.typing import NDArray
from torch import Tensor

from skelcl.errors import InputError
from skelcl.evaluation.features import NamedClips, named_clips
from skelcl.evaluation.mixed import mixed_parts
from skelcl.files import one_line
from skelcl.runs.checkpoints import read_file
from skelcl.skeleton import Skeleton

DATA_KEY = "skelcl_data"
"""Where a checkpoint carries the facts of :func:`training_facts`."""
TENSORS = ("ids", "content")
LENGTHY = (*TENSORS, "classes", "origins")
"""Facts that no record repeats."""
KINDS = {
    **dict.fromkeys(("name", "class", "split", "validation", "store"), str),
    **dict.fromkeys(("clips", "epochs", "steps"), int),
    **dict.fromkeys(TENSORS, Tensor),
    "supervised": bool,
    "labels": dict,
    "before": list,
}
"""What every one of the facts is."""


class Store(Protocol):
    """What is read off a store."""

    @property
    def path(self) -> Path:
        """Its folder."""

    @property
    def index(self) -> Mapping[str, NDArray[Any]]:
        """Its columns, (N,) each."""

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of its data."""

    @property
    def skeleton(self) -> Skeleton:
        """Layout of the joints of its clips."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """What is known of all clips, ``fps`` among it."""

    @property
    def changes(self) -> Sequence[str]:
        """What is done to the clips on their way into a batch, one text each."""


@runtime_checkable
class SplitClips(NamedClips, Protocol):
    """What is read off a data module beside the names of its clips."""

    @property
    def dataset(self) -> str:
        """Name of the data set."""

    @property
    def parts(self) -> Mapping[str, NDArray[Any]]:
        """Positions in the store of ``train``, ``test``, with validation ``query``, and others."""

    @property
    def split_description(self) -> str:
        """How the store is divided, in words."""

    @property
    def label_subset(self) -> object | None:
        """Rule of the labelled clips, None when all are."""

    @property
    def validation(self) -> str:
        """``none``, ``seen`` or ``held-out``."""

    @property
    def accept_changed(self) -> bool:
        """Whether another store than that of the training will do."""

    @property
    def accept_seen(self) -> bool:
        """Whether clips of the training may judge."""

    @property
    def store(self) -> Store:
        """The open store."""


@dataclass(frozen=True)
class TrainOverlap:
    """How many of some clips a network was trained on.

    Args:
        clips: Their number.
        labelled: Those whose labels training read.
        unlabelled: Those that it saw without labels.
        complete: Whether all is known that the network was trained on.
    """

    clips: int
    labelled: int
    unlabelled: int
    complete: bool

    def __str__(self) -> str:
        kinds = {"with labels": self.labelled, "without labels": self.unlabelled}
        text = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
        return text or ("none" if self.complete else "not known")


def label_facts(data: SplitClips, positions: Sequence[int] | NDArray[Any]) -> dict[str, Any]:
    """Which clips are labelled: their number, rule, seed and the SHA-256 of their names."""
    subset = data.label_subset
    return {
        "clips": len(positions),
        "rule": "all" if subset is None else re.sub(r", seed \d+$", "", str(subset)),
        "seed": getattr(subset, "seed", None),
        "sha256": ids_digest(str(data.ids[i]) for i in positions),
    }


def training_facts(data: SplitClips, supervised: bool, before: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """What a run trains on, as plain values and tensors, for its checkpoints.

    ``ids`` and ``content`` are (N,) int64: eight bytes of the SHA-256 of the name, and of the digest of the
    coordinates, of every training clip. Names tell clips of one data set under any split, coordinates tell copies in
    another data set. Of a mixture ``origins`` has the names that its clips have in each data set, by its name.

    The callback :class:`TrainedOn` adds ``epochs`` and ``steps``, which are 0 before.

    Args:
        data: Data module of the run.
        supervised: Whether training reads labels.
        before: Facts of what the weights were trained on before; an empty one where that is not known.
    """
    train = data.parts["train"]
    origins = {name: short_digests(ids[np.isin(positions, train)]) for name, positions, ids in _origins(data)}
    return {
        "name": data.dataset,
        "class": type(data).__name__,
        "split": data.split_description,
        "validation": data.validation,
        "store": data.store.digest,
        "supervised": supervised,
        "classes": list(data.class_names) if supervised else [],
        "clips": len(train),
        "labels": label_facts(data, train),
        "epochs": 0,
        "steps": 0,
        "ids": short_digests(np.asarray(data.ids)[train]),
        "content": short_digests(data.store.index["content"][train]),
        "before": list(before),
        **({"origins": origins} if mixed_parts(data) else {}),
    }


def read_facts(path: str | Path | None, content: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The facts that a checkpoint carries; empty where other software wrote it, or a version that noted none.

    Args:
        path: The file.
        content: What is in it, where that has been read.

    Raises:
        InputError: They are damaged.
    """
    facts = (read_content(path) if content is None else content).get(DATA_KEY, {})
    if not _sound(facts):
        raise InputError(f"{path}: damaged: what it says of its training ({DATA_KEY}) is incomplete or of another kind")
    return dict(facts)


def read_content(path: str | Path | None) -> dict[str, Any]:
    """A checkpoint, as far as it can be read without running code; else nothing."""
    if path is None or not Path(path).is_file():
        return {}
    try:
        content = read_file(Path(path))
    except (InputError, OSError):
        return {}
    return content if isinstance(content, dict) else {}


def without_tensors(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """Facts without their tensors, as a record holds them; None for unknown ones."""
    if not facts:
        return None
    plain = {name: value for name, value in facts.items() if name not in LENGTHY}
    return plain | {"before": [without_tensors(one) for one in facts["before"]]}


def train_overlap(facts: Mapping[str, Any], data: SplitClips, positions: NDArray[Any]) -> TrainOverlap:
    """Count the clips among some that a network was trained on.

    A clip is known by its name in the same data set and by its coordinates in any. Copies that the data set itself has
    outside of these clips are left to its subset ``test_clean``.

    Args:
        facts: Of the network's checkpoint; empty when unknown.
        data: Data module of the clips.
        positions: Their positions in the store, (N,).
    """
    content = data.store.index["content"]
    elsewhere = np.ones(len(content), bool)
    elsewhere[positions] = False
    copied = np.isin(content[positions], content[elsewhere])
    named = [(name, np.isin(positions, some), some, ids) for name, some, ids in _origins(data)]
    coordinates = short_digests(content[positions]).numpy()
    labelled, unlabelled, complete = np.zeros(len(positions), bool), np.zeros(len(positions), bool), True
    for one in _phases(facts):
        if not one:
            complete = False
        elif one["steps"]:
            found = np.isin(coordinates, one["content"].numpy()) & ~copied
            for name, which, some, ids in named:
                known = one.get("origins", {one["name"]: one["ids"]}).get(name)
                if known is not None:
                    place = np.searchsorted(some, positions[which])
                    found[which] |= np.isin(short_digests(ids[place]).numpy(), known.numpy())
            (labelled if one["supervised"] else unlabelled)[found] = True
    return TrainOverlap(len(positions), int(labelled.sum()), int((unlabelled & ~labelled).sum()), complete)


def labels_unread(facts: Mapping[str, Any], ids: Iterable[str], content: Iterable[str] | None) -> NDArray[np.bool_]:
    """Which of some clips no training of a network read the labels of, (N,) bool.

    A clip is known by its name, in whatever data set, and by its coordinates. Where it is not known what the weights
    were trained on, every label may have been read.

    Args:
        facts: Of the network's checkpoint; empty when unknown.
        ids: Names of the clips.
        content: Digests of their coordinates; None where these are not known.
    """
    names = short_digests(ids).numpy()
    coordinates = None if content is None else short_digests(content).numpy()
    unread = np.ones(len(names), bool)
    for one in _phases(facts):
        if not one:
            unread[:] = False
        elif one["steps"] and one["supervised"]:
            for known in (one["ids"], *one.get("origins", {}).values()):
                unread &= ~np.isin(names, known.numpy())
            if coordinates is not None:
                unread &= ~np.isin(coordinates, one["content"].numpy())
    return unread


def changed(facts: Mapping[str, Any], data: SplitClips) -> bool:
    """Whether a store is of the name, but not of the content that a network was trained on last."""
    return bool(facts) and facts["name"] == data.dataset and facts["store"] != data.store.digest


def refuse_changed(facts: Mapping[str, Any], data: SplitClips, path: object, resumed: bool = False) -> None:
    """Refuse a store that is not the one that a checkpoint was trained on, unless the data module accepts it.

    Args:
        facts: Of the checkpoint.
        data: Data module that is to be used with it.
        path: The checkpoint, for the message.
        resumed: Training goes on, for which a store of any other name is another one as well.

    Raises:
        InputError: It is another one.
    """
    other = changed(facts, data) or bool(resumed and facts and facts["name"] != data.dataset)
    if other and not data.accept_changed:
        raise InputError(
            f"{data.store.path}: not the store that {path} was trained on ({facts['name']}, sha256 "
            f"{facts['store'][:6]}, here {data.store.digest[:6]}); --data.accept_changed true goes on with it"
        )


def refuse_seen(facts: Mapping[str, Any], data: SplitClips, path: object, part: str = "test") -> None:
    """Refuse to judge a network by clips that it was trained on, unless the data module accepts it.

    Queries of ``validation`` may have been seen without labels where the data module says ``seen``, and by what a
    supervised network started from.

    Args:
        facts: Of its checkpoint; empty when unknown, which is not refused.
        data: Data module of the clips.
        path: The checkpoint, for the message.
        part: ``test`` or ``query``.

    Raises:
        InputError: Some of them were trained on.
    """
    if part not in data.parts:
        return
    seen = train_overlap(facts, data, data.parts[part])
    labels_only = part == "query" and (data.validation == "seen" or facts.get("supervised", False))
    if (seen.labelled or (seen.unlabelled and not labels_only)) and not data.accept_seen:
        what = "test clips" if part == "test" else "validation queries"
        trained = [one for one in _phases(facts) if one.get("steps")]
        splits = "; ".join(dict.fromkeys(f"{one['name']}, {one['split']}" for one in trained))
        raise InputError(
            f"{path} was trained on clips among the {seen.clips} {what} of {data.dataset} ({seen}; its training: "
            f"{splits}): take its own split, or --data.accept_seen true, which marks every record and table"
        )


def refuse_classes(facts: Mapping[str, Any], data: SplitClips, path: object) -> None:
    """Refuse a classifier on classes other than those that it was trained on, unless the data module accepts them.

    Args:
        facts: Of its checkpoint.
        data: Data module that is to be used with it.
        path: The checkpoint, for the message.

    Raises:
        InputError: A label stands for another class.
    """
    pairs = zip_longest(facts.get("classes", []), data.class_names) if facts.get("classes") else ()
    other = next(((label, one, two) for label, (one, two) in enumerate(pairs) if one != two), None)
    if other is not None and not data.accept_changed:
        label, one, two = other
        raise InputError(
            f"{path}: its classifier was trained on other classes: label {label} is {_named(one)} there and "
            f"{_named(two)} here; "
            "give the same --data.classes, or --data.accept_changed true where the names alone differ"
        )


def _named(name: str | None) -> str:
    return "no class" if name is None else repr(one_line(str(name), 60))


class TrainedOn(pl.Callback):
    """Gives every checkpoint the facts of what it was trained on, and compares data with those of a checkpoint.

    Attributes:
        facts: Of the run that trains; empty before.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note what is trained on.

        Raises:
            InputError: The run goes on with another store, or was trained before on clips that will be test clips, and
                neither was asked for.
        """
        if (data := _split_clips(trainer)) is not None:
            self.facts = _started(pl_module, data, trainer.ckpt_path)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare before ``validate`` judges.

        Raises:
            InputError: The store has changed, or queries were trained on, and neither was asked for.
        """
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._compare(trainer, "query")

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare before ``test`` judges.

        Raises:
            InputError: The store has changed, or test clips were trained on, and neither was asked for.
        """
        self._compare(trainer, "test")

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say when what is to be written are features of random weights."""
        path = trainer.ckpt_path
        facts = self.so_far(trainer) if path is None else read_facts(path)
        if (path is None or facts) and not any(one.get("steps") for one in _phases(facts)):
            of = "there is no --ckpt_path" if path is None else f"{path} was not trained"
            pl_module.print(f"! {of}: the weights are random")

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the facts, with the epochs and steps so far."""
        if self.facts:
            checkpoint[DATA_KEY] = self.so_far(trainer)

    def so_far(self, trainer: pl.Trainer) -> dict[str, Any]:
        """The facts with the epochs and steps so far; empty where nothing was trained here."""
        if not self.facts:
            return {}
        progress: Any = trainer.fit_loop.epoch_progress.current  # as the record reads it off a checkpoint
        return self.facts | {"epochs": progress.processed, "steps": trainer.global_step}

    def _compare(self, trainer: pl.Trainer, part: str) -> None:
        data, path = _split_clips(trainer), trainer.ckpt_path
        if data is not None:
            facts = self.so_far(trainer) if path is None else read_facts(path)
            refuse_changed(facts, data, path)
            refuse_classes(facts, data, path)
            refuse_seen(facts, data, path, part)


def _origins(data: SplitClips) -> list[tuple[str, NDArray[Any], NDArray[Any]]]:
    """Data sets of the clips: name, positions of its clips, ascending, and their names there."""
    parts = mixed_parts(data).values()
    whole = (data.dataset, np.arange(len(data.ids)), np.asarray(data.ids))
    return [(part.dataset, part.positions, part.ids) for part in parts] or [whole]


def ids_digest(ids: Iterable[str]) -> str:
    """Hexadecimal SHA-256 of the sorted names, one per line, as ``labels.txt`` notes it."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(ids)).encode()).hexdigest()


def short_digests(names: Iterable[str]) -> Tensor:
    """The first eight bytes of the SHA-256 of each of N names, (N,) int64."""
    joined = b"".join(hashlib.sha256(str(name).encode()).digest()[:8] for name in names)
    return torch.from_numpy(np.frombuffer(joined, "<i8").astype(np.int64))


def _split_clips(trainer: pl.Trainer) -> SplitClips | None:
    data = named_clips(trainer)
    return data if isinstance(data, SplitClips) else None


def _started(pl_module: pl.LightningModule, data: SplitClips, path: str | Path | None) -> dict[str, Any]:
    """The facts of a run that starts, or goes on with a checkpoint."""
    supervised = bool(getattr(pl_module, "needs_labels", False))
    if path is None:
        start = getattr(pl_module, "checkpoint", None)
        before = [] if start is None else [read_facts(start)]
        for one in before:
            refuse_changed(one, data, start)
    else:
        start, old = path, read_facts(path)
        refuse_changed(old, data, path, resumed=True)
        refuse_classes(old, data, path)
        now = training_facts(data, supervised)
        if old and all(old[name] == now[name] for name in ("name", "store", "labels", "supervised")):
            return now | {"before": old["before"]}
        before = [old]
    facts = training_facts(data, supervised, before)
    refuse_seen(facts, data, start)
    return facts


def _sound(facts: object) -> bool:
    """Whether facts are complete and of their kinds; empty ones, of an unknown training, are."""
    if not isinstance(facts, dict):
        return False
    whole = all(isinstance(facts.get(name), kind) for name, kind in KINDS.items())
    whole &= isinstance(facts.get("classes", []), list)  # which the first version did not note
    origins = facts.get("origins", {})
    whole &= isinstance(origins, dict) and all(map(_are_digests, origins.values()))
    return not facts or (
        whole and all(_are_digests(facts[name]) for name in TENSORS) and all(map(_sound, facts["before"]))
    )


def _are_digests(value: object) -> bool:
    return isinstance(value, Tensor) and value.dtype == torch.int64


def _phases(facts: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The facts of a training and of all before it; an unknown one is empty."""
    yield facts
    for one in facts.get("before", ()):
        yield from _phases(one)
