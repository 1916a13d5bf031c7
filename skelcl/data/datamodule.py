"""SkeletonDataModule: splits of a store, and loaders that yield ragged batches of clips."""

from __future__ import annotations

import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from skelcl.bounds import NonNegativeInt, PositiveFloat, PositiveInt, PositiveShare, ProperShare, bounded
from skelcl.clips import Clips
from skelcl.data.adapted import open_store
from skelcl.data.batches import BalancedBatches, ClipDataset, ClipLoader, FirstBatches, OrderedBatches, ShuffledBatches
from skelcl.data.facts import DataFacts
from skelcl.data.poses.layouts import LayoutKeys
from skelcl.data.recording import DatasetInfo
from skelcl.data.store import SkeletonStore, StoreError, train_duplicates
from skelcl.data.subsets import LabelSubset, choose_classes, digest, validation_queries, write_labels
from skelcl.errors import InputError, OptionError
from skelcl.skeleton import Skeleton

CLIPS = {
    "train": "training clip",
    "train_all": "training clip",
    "test": "test clip",
    "gallery": "clip of the validation gallery",
    "query": "validation query",
}
"""What the clips of a part are called."""


@bounded
class SkeletonDataModule(pl.LightningDataModule, ABC):
    """Loaders over one store. A data set is a subclass that names its store and its split rule.

    Loaders yield :class:`~skelcl.clips.Clips`. Training batches are shuffled by (seed, epoch). Evaluation loaders are
    ordered, without padding and without duplicates, on any number of processes. ``test`` and ``val`` are pairs:
    gallery first, queries second. The gallery of ``test`` is the whole training part, queries of ``validation``
    included.

    Clips without a label train methods that need none, and ``predict`` encodes them. Wherever a label is needed they
    are left out, and counted in the line that tells the sizes.

    Args:
        root: Folder of the stores.
        batch_size: Clips per batch and process.
        num_workers: Processes that assemble batches. A batch is a copy of memory slices, so 0 is usually fastest.
        preload: ``none`` maps the store, ``memory`` reads it into main memory, ``device`` keeps it whole on the
            accelerator and sends only clip numbers, without workers; outside a Trainer, pass such a batch through
            :meth:`on_after_batch_transfer`.
        num_persons: M, bodies of a view.
        validation: ``none``, or a part of the training performers as queries of a nearest-neighbour check, the other
            training clips being the gallery: ``seen`` trains on both (without labels), ``held-out`` on the gallery
            alone.
        validation_share: Share of the training performers that become queries; of each class when there are fewer than
            three performers. The choice depends on their numbers alone, never on the seed.
        drop_last: Whether an epoch leaves out its last, smaller batch.
        predict_split: Part that ``predict`` encodes.
        repeat: Times that an epoch shows each training clip, in one shuffled order of all the repeats (CTR-GCN's recipe
            for NW-UCLA: 5).
        subset: How the labelled clips are chosen once ``fraction`` or ``per_class`` says how many: ``stratified``,
            ``uniform``, ``shared-ranks`` or ``first`` (see :class:`~skelcl.data.subsets.LabelSubset`); or the
            ``labels.txt`` of another run. Training and the gallery of ``test`` then consist of these clips alone. They
            are chosen from what training may see, so no held-out query is among them. The queries of ``validation``
            stay those of the whole training part, its gallery are the labelled clips that do not ask.
        fraction: Share of the training clips that have labels.
        per_class: Labelled training clips of each class, instead of a share.
        subset_seed: Seed of the choice, independent of the run's seed.
        classes: Names of the classes to keep, in any order; clips of others, and those of unknown class, are in no
            part, and the labels are those of the classes that are left.
        sampling: ``shuffled`` shows every training clip once (``repeat`` times) in an epoch; ``balanced`` shows as many
            clips, but of each class equally many: clips of small classes come several times. Weights of the classes in
            the loss would favour these a second time.
        accept_changed: Use a checkpoint with a store that has changed since it was trained on it, or whose classes have
            other names.
        accept_seen: Judge by clips that the network was trained on; every record and table then says how many.
        layout: Layout that the joints of the store are mapped to, by name or file, or the keys of such a file:
            ``mediapipe33``, for example (:func:`~skelcl.data.poses.layouts.find_layout`). None leaves them.
        fps: Frames per second that the clips are resampled to, linearly in time. None leaves them.

    Attributes:
        store: The open store.
        skeleton: Layout of its joints.
        channels: C, the coordinates per joint.
        class_names: Names of the classes by label.
        num_classes: Their number.
        ids: Names of the clips by position.
        parts: ``train`` (what training sees), and the labelled clips of ``gallery`` and ``query`` (validation),
            ``train_all`` and ``test``; positions in the store, (N,) int64.
        unlabelled: How many clips of the training and the test part have no label: ``train`` and ``test``.
        label_subset: Rule of the labelled clips, None when all are.
        subsets: Named parts of the test clips whose metrics are reported beside the whole: ``test_clean``, those whose
            coordinates do not occur in the whole training part; positions in the store, (N,) int64. Empty when no clip
            does.

    Raises:
        StoreError: There is no usable store, or a part of the split is empty.
        InputError: An argument lies outside its range.
    """

    dataset: str
    """Name of the store below ``root``."""
    always_clean: bool = False
    """Whether ``test_clean`` is a subset even when no test clip is a copy."""

    def __init__(
        self,
        root: str | Path = "data",
        batch_size: PositiveInt = 64,
        num_workers: NonNegativeInt = 0,
        preload: Literal["none", "memory", "device"] = "none",
        num_persons: PositiveInt = 1,
        validation: Literal["none", "seen", "held-out"] = "none",
        validation_share: ProperShare = 0.2,
        drop_last: bool = False,
        predict_split: Literal["train", "test", "all"] = "test",
        repeat: PositiveInt = 1,
        subset: str | Path = "stratified",
        fraction: PositiveShare | None = None,
        per_class: PositiveInt | None = None,
        subset_seed: NonNegativeInt = 0,
        classes: list[str] | None = None,
        sampling: Literal["shuffled", "balanced"] = "shuffled",
        accept_changed: bool = False,
        accept_seen: bool = False,
        layout: LayoutKeys | str | Path | None = None,
        fps: PositiveFloat | None = None,
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.preload = preload
        self.num_persons = num_persons
        self.validation = validation
        self.validation_share = validation_share
        self.drop_last = drop_last
        self.predict_split = predict_split
        self.repeat = repeat
        self.sampling = sampling
        self.accept_changed = accept_changed
        self.accept_seen = accept_seen
        chosen = (subset, fraction, per_class) != ("stratified", None, None)
        self.label_subset = LabelSubset(subset, fraction, per_class, subset_seed) if chosen else None
        self.store = self._open(root, layout, fps)
        self.skeleton: Skeleton = self.store.skeleton
        self.channels = self.store.channels
        self.classes = classes
        self.class_names, label = self._classes()
        self._kept = self._offered()
        if classes is not None:
            self.class_names, label = choose_classes(self.class_names, label, classes)
            self._kept = label >= 0
        self.store.index["label"] = label
        self.num_classes = len(self.class_names)
        self.ids: np.ndarray = self.store.ids
        self._labels = ""
        self._whole_parts = self._split()
        self.parts = {name: self._labelled(part) for name, part in self._whole_parts.items()}
        self.unlabelled = {
            name: len(self._whole_parts[part]) - len(self.parts[part])
            for name, part in (("train", "train_all"), ("test", "test"))
        }
        self.subsets = self._subsets()
        self._whole: dict[torch.device, Clips] = {}
        self._train_on(self._whole_parts["train"])
        self._reported = False
        # With fewer clips than processes some have none; padding would count clips twice.
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def _open(self, root: str | Path, layout: LayoutKeys | str | Path | None, fps: float | None) -> SkeletonStore:
        """The store; called once, before anything else is asked of it."""
        return open_store(Path(root) / self.dataset, self.preload == "memory", layout, fps)

    def _offered(self) -> np.ndarray:
        """Which clips of the store may be chosen from, (N,) bool."""
        return np.ones(len(self.store), bool)

    @abstractmethod
    def train_mask(self, index: dict[str, np.ndarray]) -> np.ndarray:
        """Which clips are the training part; all others are the test part.

        Args:
            index: Columns of the store, each (N,).

        Returns:
            (N,) bool.
        """

    @classmethod
    def published(cls, arguments: Mapping[str, Any]) -> DatasetInfo | None:
        """What is known of the data without their store; None for data that nobody published.

        Args:
            arguments: Of the constructor, as far as they were given.
        """
        return None

    @classmethod
    def describe_split(cls, arguments: Mapping[str, Any]) -> str:
        """How a store is divided: the arguments that a subclass adds to those of all data modules, and classes.

        Args:
            arguments: Of the constructor, as far as they are known.
        """
        own = [name for name in inspect.signature(cls.__init__).parameters if name not in ("self", "root")]
        told = {name: arguments.get(name) for name in (*own, "classes")}
        return ", ".join(f"{name} {value}" for name, value in told.items() if value is not None)

    @property
    def split_description(self) -> str:
        """How this store is divided, in words."""
        return self.describe_split(vars(self))

    @property
    def facts(self) -> DataFacts:
        """What a network must know of these data; its checkpoints carry it."""
        meta = self.store.meta
        return DataFacts(
            dataset=self.dataset,
            split=self.split_description,
            skeleton=self.skeleton,
            channels=self.channels,
            num_persons=self.num_persons,
            class_names=tuple(self.class_names),
            recipe=self.store.recipe,
            counts={name: len(part) for name, part in (self.parts | self.subsets).items()},
            digest=self.store.digest,
            **{name: meta[name] for name in ("units", "axes", "fps", "source", "parameters")},
        )

    def _classes(self) -> tuple[list[str], np.ndarray]:
        """Names of the classes, and the label of each clip of the store, (N,), −1 where unknown."""
        return list(self.store.meta["classes"]), self.store.index["label"]

    def _divide(self) -> dict[str, np.ndarray]:
        """Training and test part, and those of validation, as if every clip was labelled."""
        mask = self.train_mask(self.store.index)
        train = np.flatnonzero(mask & self._kept)
        parts = {"train": train, "train_all": train, "test": np.flatnonzero(~mask & self._kept)}
        for name, part in parts.items():
            if not len(part):
                raise StoreError(f"{self.store.path}: the {name} part is empty under this split")
        if self.validation != "none":
            query = validation_queries(self.store.index, train, self.validation_share)
            parts["query"] = train[query]
            parts["gallery"] = train[~query]
            if not len(parts["query"]) or not len(parts["gallery"]):
                raise StoreError(f"{self.store.path}: too few training clips for a validation part")
            if self.validation == "held-out":
                parts["train"] = parts["gallery"]
        return parts

    def _draw(self, rule: LabelSubset, choice: np.ndarray) -> np.ndarray:
        """Which of the clips that may be labelled a rule chooses, (N,) bool."""
        return rule.draw(self.ids[choice], self.store.index["label"][choice])

    def _split(self) -> dict[str, np.ndarray]:
        parts = self._divide()
        if self.label_subset is not None:
            choice = self._labelled(parts["train"])
            labelled = choice[self._draw(self.label_subset, choice)]
            self._labels = f"{self.label_subset}: {len(labelled)} of {len(choice)} clips"
            parts["train"] = parts["train_all"] = labelled
            if self.validation != "none":
                parts["gallery"] = np.intersect1d(parts["gallery"], labelled)
                if not len(parts["gallery"]):
                    raise StoreError(f"{self.store.path}: every labelled clip is a validation query; take held-out")
        return parts

    def _labelled(self, positions: np.ndarray) -> np.ndarray:
        return positions[self.store.index["label"][positions] >= 0]

    def _train_on(self, positions: np.ndarray) -> None:
        """Makes these clips the training part, each with its slot."""
        self.parts["train"] = positions
        self._place = torch.full((len(self.store),), -1)
        self._place[positions] = torch.arange(len(positions))

    def require_labels(self, *parts: str) -> None:
        """Refuses parts in which no clip has a label.

        Args:
            parts: Keys of ``parts``.

        Raises:
            InputError: If there is one.
        """
        for part in parts:
            if not len(self._labelled(self.parts[part])):
                remedy = "; use --data.validation none" if part in ("gallery", "query") else ""
                raise InputError(f"{self.store.path}: no {CLIPS[part]} has a label, which is needed here{remedy}")

    def _subsets(self) -> dict[str, np.ndarray]:
        mask = self._kept.copy()
        mask[self._whole_parts["test"]] = False
        clean = self._labelled(
            np.flatnonzero(self._kept & ~mask & ~train_duplicates(self.store.index["content"], mask))
        )
        return {"test_clean": clean} if self.always_clean or len(clean) < len(self.parts["test"]) else {}

    def setup(self, stage: str) -> None:
        """Tells the sizes of the split, once, and notes which clips are labelled in ``labels.txt`` of the run's folder.

        Args:
            stage: ``fit`` and ``test`` write the file. The training part loses its clips without a label where the
                method needs them; everything else is ready after construction.

        Raises:
            InputError: If labels are needed and no clip of a part has one.
            OptionError: If the trainer's limit leaves nothing to train on.
        """
        if stage == "fit" and self.trainer is not None and not self.trainer.limit_train_batches:
            self._check_epoch(self.batches_per_epoch)
        self._check_labels(stage)
        if self.label_subset is not None and self.trainer is not None and stage in ("fit", "test"):
            # Lightning asks all processes for the folder, though one of them writes.
            folder = self.trainer.log_dir if self.trainer.loggers else None
            if folder is not None and self.trainer.is_global_zero:
                labelled = self.ids[self.parts["train"]].tolist()
                write_labels(Path(folder) / "labels.txt", labelled, f"{self.dataset}, {self._labels}")
        if self._reported:
            return
        self._reported = True
        sizes = {"train": len(self.parts["train"]), "test": len(self.parts["test"])}
        sizes |= {name: len(part) for name, part in self.subsets.items()}
        if self.validation != "none":
            sizes |= {f"validation {name}": len(self.parts[name]) for name in ("gallery", "query")}
        listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
        line = f"{self.dataset}: {listed} clips, {self.num_classes} classes"
        if self.repeat > 1:
            line += f"; an epoch shows the training part {self.repeat} times"
        if any(self.unlabelled.values()):
            without = " and ".join(f"{count} {name}" for name, count in self.unlabelled.items() if count)
            line += f"; left out where a label is needed, for want of one: {without} clips"
        if self.label_subset is not None:
            line += f"; labels: {self._labels}, sha {digest(self.ids[self.parts['train']].tolist())[:6]}"
        rank_zero_info("\n".join([line, *self.store.changes]))

    def _check_labels(self, stage: str) -> None:
        if self.trainer is None:
            return
        supervised = getattr(self.trainer.lightning_module, "needs_labels", False)
        whole = self._whole_parts["train"]
        self._train_on(self._labelled(whole) if supervised or self.sampling == "balanced" else whole)
        if stage == "fit" and (supervised or self.sampling == "balanced"):
            self.require_labels("train")
        pair = {"fit": ("gallery", "query"), "validate": ("gallery", "query"), "test": ("train_all", "test")}
        if stage in pair and (stage == "test" or self.validation != "none"):
            # A supervised method has a classifier of its own, and asks no gallery.
            self.require_labels(*pair[stage][supervised:])

    def train_dataloader(self) -> ClipLoader:
        """The training part, ``repeat`` times, shuffled anew in every epoch.

        Under the trainer's ``overfit_batches`` the same batches in every epoch, in the order of the ids.

        Raises:
            OptionError: If an epoch would have no batch.
        """
        batches = self._training_batches()
        self._check_epoch(len(batches))
        if self.trainer is not None and self.trainer.fit_loop.restarting:
            # Lightning wants a loader that remembers where it was; this one asks.
            warnings.filterwarnings("ignore", "You're resuming from a checkpoint that ended before the epoch ended")
            progress = self.trainer.fit_loop.epoch_loop.batch_progress
            batches.seen = lambda: progress.current.ready
        return self._loader(batches)

    @property
    def batches_per_epoch(self) -> int:
        """Training batches of an epoch on each process."""
        return len(self._training_batches())

    def _training_batches(self) -> ShuffledBatches:
        asked = np.arange(self.repeat)[:, None] * len(self.store) + self.parts["train"]
        order = FirstBatches if self._overfits else self._order()
        return order(asked.ravel(), self.batch_size, *self._ranks, self.drop_last)

    def _order(self) -> Callable[..., ShuffledBatches]:
        """What shuffles the showings of an epoch."""
        balanced = self.sampling == "balanced"
        return partial(BalancedBatches, label=self.slot_labels().numpy()) if balanced else ShuffledBatches

    def _check_epoch(self, batches: int) -> None:
        """Refuses what would train nothing and say nothing of it."""
        clips, ranks = len(self.parts["train"]) * self.repeat, self._ranks[0]
        whole = f"{self.batch_size}" if ranks == 1 else f"{self.batch_size} on each of {ranks} processes"
        if not batches:
            raise OptionError(
                f"{clips} training clips fill no batch of batch_size {whole}, and drop_last leaves an incomplete one "
                "out: use a smaller --data.batch_size, or --data.drop_last false"
            )
        limit = 1.0 if self.trainer is None else self.trainer.limit_train_batches
        if not (limit if isinstance(limit, int) else int(limit * batches)):
            name = "overfit_batches" if self._overfits else "limit_train_batches"
            raise OptionError(
                f"--trainer.{name} {limit:g} leaves none of the {batches} batches of an epoch: {clips} training clips, "
                f"batch_size {whole}"
            )

    def val_dataloader(self) -> list[ClipLoader]:
        """Gallery and queries of the validation part; empty without one."""
        if self.validation == "none":
            # An empty list is how Lightning is told that there is no validation; it still asks whether that was meant.
            warnings.filterwarnings("ignore", "Total length of `list` across ranks is zero")
            return []
        return [self._ordered(self.parts["gallery"]), self._ordered(self.parts["query"])]

    def test_dataloader(self) -> list[ClipLoader]:
        """The training part as gallery and the test part as queries."""
        return [self._ordered(self.parts["train_all"]), self._ordered(self.parts["test"])]

    def predict_dataloader(self) -> ClipLoader:
        """The part named by ``predict_split``, with labels or without, in the order of the ids."""
        name = {"train": "train_all", "test": "test", "all": "all"}[self.predict_split]
        return self._ordered(np.flatnonzero(self._kept) if name == "all" else self._whole_parts[name])

    @property
    def _overfits(self) -> bool:
        return bool(getattr(self.trainer, "overfit_batches", 0))

    @property
    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.world_size, self.trainer.global_rank) if self.trainer is not None else (1, 0)

    def _ordered(self, positions: np.ndarray) -> ClipLoader:
        ranks, rank = self._ranks
        if 0 < len(positions) < ranks:
            raise InputError(
                f"{len(positions)} clips to evaluate on {ranks} processes: each needs one, use fewer --trainer.devices"
            )
        return self._loader(OrderedBatches(positions, self.batch_size, ranks, rank))

    def _loader(self, batches: ShuffledBatches | OrderedBatches) -> ClipLoader:
        self.store.check_unchanged()  # here, and not by each of the workers, whose errors come with their tracebacks
        on_device = self.preload == "device"
        on_cuda = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        workers = 0 if on_device else self.num_workers
        return ClipLoader(
            ClipDataset(self.store, self.num_persons, index_only=on_device),
            sampler=batches,
            batch_size=None,  # the sampler yields whole batches
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=on_cuda and not on_device,
        )

    def transfer_batch_to_device(
        self, batch: Clips | Tensor, device: torch.device, dataloader_idx: int
    ) -> Clips | Tensor:
        """The batch on its device, from page-locked memory without a wait; Lightning does so with tensors alone."""
        return batch.to(device, non_blocking=device.type == "cuda")

    def on_after_batch_transfer(self, batch: Clips | Tensor, dataloader_idx: int) -> Clips:
        """Turns clip numbers into clips on their device, under ``preload="device"``; other batches pass.

        Args:
            batch: Clips, or what :class:`ClipDataset` was asked for, (N,) int64.
            dataloader_idx: Ignored.

        Returns:
            The clips.
        """
        if not isinstance(batch, Tensor):
            return batch
        if batch.device not in self._whole:
            self._whole = {batch.device: self.store.preload(self.num_persons).to(batch.device)}
        clips = self._whole[batch.device]
        return replace(clips[batch % len(clips)], repeat=batch // len(clips))

    @property
    def num_slots(self) -> int:
        """B = ``repeat`` · n, the showings of an epoch of n training clips: a memory bank has a slot for each."""
        return self.repeat * len(self.parts["train"])

    def slots(self, clips: Clips) -> Tensor:
        """Finds the slots of the clips of a batch in a memory bank.

        Args:
            clips: N clips.

        Returns:
            (N,) int64 on their device: r · n + the place in ``parts["train"]`` for repeat r; −1 for clips of another
            part.
        """
        if self._place.device != clips.index.device:
            self._place = self._place.to(clips.index.device)
        place = self._place[clips.index]
        return torch.where(place < 0, place, place + clips.repeat * len(self.parts["train"]))

    def slot_labels(self) -> Tensor:
        """Class of the clip of each slot, −1 when unknown, (B,) int64 in main memory."""
        return torch.from_numpy(np.tile(self.store.index["label"][self.parts["train"]].astype(np.int64), self.repeat))
