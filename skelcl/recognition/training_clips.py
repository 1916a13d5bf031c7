"""The training clips of a checkpoint as its encoder sees them: out of a file beside it, else from its store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from shlex import quote

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from skelcl.clips import Clips
from skelcl.data import SkeletonDataModule
from skelcl.data.facts import DataFacts
from skelcl.errors import InputError
from skelcl.evaluation.features import file_digest
from skelcl.evaluation.gallery import Gallery, GalleryFile, read_gallery
from skelcl.evaluation.probe import LinearHead, ProbeName
from skelcl.evaluation.provenance import labels_unread, read_facts
from skelcl.evaluation.temperature import Calibration, calibrate
from skelcl.recognition.calibration import held_out_logits
from skelcl.runs.loading import load_data

BATCH = 64
"""Clips that are encoded at once."""


class TrainingClips:
    """Features of the labelled training clips, probes trained on them, and what makes their probabilities right.

    They are read from a file that fits the checkpoint; without one they are computed from the store and kept beside the
    checkpoint in ``<name>.gallery.npz``.

    Args:
        path: The checkpoint.
        facts: What it says of its data.
        features: Features (N, D) of N clips, on the CPU.
        supervised: Whether its method reads labels.
        file: A file that ``skelcl predict --features.path`` wrote, which is never changed; None is
            ``<name>.gallery.npz`` beside the checkpoint.
        trust: Modules whose classes the checkpoint may name.
    """

    def __init__(
        self,
        path: Path,
        facts: DataFacts,
        features: Callable[[Clips], Tensor],
        supervised: bool,
        file: Path | None = None,
        trust: str | Sequence[str] | None = None,
    ) -> None:
        self.path, self.facts = path, facts
        self.file = path.with_suffix(".gallery.npz") if file is None else file
        self.given = file is not None
        self._features, self._supervised = features, supervised
        self._trust = trust
        self._kept: GalleryFile | None = None

    @cached_property
    def data(self) -> SkeletonDataModule:
        """The data module of the run.

        Raises:
            InputError: Its store is not there, or one of other joints or classes.
        """
        return load_data(self.path, self.facts, self._trust)

    @property
    def gallery(self) -> Gallery:
        """Features of the labelled training clips.

        Raises:
            InputError: Neither file nor store can be used.
        """
        self.find()
        if self._kept is None:
            gallery = self._encode(self._labelled)
            self._keep(GalleryFile(gallery, self.facts.class_names, self._checkpoint, self.data.store.digest, "train"))
        assert self._kept is not None
        return self._kept.gallery

    def head(self, preset: ProbeName, seed: int) -> LinearHead:
        """A linear probe; trained, or read from the file."""
        gallery = self.gallery
        assert self._kept is not None
        name = f"{preset}-{seed}"
        if name not in self._kept.heads:
            self._keep(replace(self._kept, heads={**self._kept.heads, name: gallery.probe(preset, seed)}))
        return self._kept.heads[name]

    def probe_calibration(self, preset: ProbeName, seed: int) -> Calibration | None:
        """How a probe's logits become probabilities, fitted on :attr:`unread` clips; computed, or read from the file.

        Every clip is judged by a probe that was trained on others, see
        :func:`~skelcl.recognition.calibration.held_out_logits`. None where there are no such clips.
        """
        gallery, unread = self.gallery, self.unread
        assert self._kept is not None
        name = f"{preset}-{seed}"
        if name not in self._kept.calibrations and len(gallery) > 1 and unread.any():
            found = calibrate(held_out_logits(gallery, preset, seed)[unread], gallery.label[unread])
            self._keep(replace(self._kept, calibrations={**self._kept.calibrations, name: found}))
        return self._kept.calibrations.get(name)

    @cached_property
    def unread(self) -> Tensor:
        """Which clips of the gallery no training of the checkpoint read the labels of, (G,) bool.

        All of them where nothing is known of the training, but that its method reads none.
        """
        facts, gallery = read_facts(self.path), self.gallery
        if not facts and not self._supervised:
            return torch.ones(len(gallery), dtype=torch.bool)
        return torch.from_numpy(labels_unread(facts, gallery.ids, gallery.content))

    def read(self) -> bool:
        """Whether the file has the features, of the very data that the checkpoint was trained on."""
        if self._kept is None:
            kept, problem = self._read()
            if kept is not None and problem is None and self.facts.digest in (kept.store, ""):
                self._kept = kept
        return self._kept is not None

    def find(self) -> None:
        """See that the features are in the file, or the store is there to compute them.

        Raises:
            InputError: Neither can be used; the message says which data they are of, and how to get them.
        """
        if self.read():
            return
        kept, problem = self._read()
        if self.given:
            raise InputError(f"{self.file} {problem or 'was made of other data'}")
        try:
            store = self.data.store  # which may have changed since the training
        except InputError as error:
            command = f"skelcl predict --ckpt_path {quote(str(self.path))} --data.predict_split train"
            there = f" ({self.file} {problem or 'was made of other data'})" if self.file.is_file() else ""
            raise InputError(
                f"{error}; or bring the features of its training clips{there}: `{command} --features.path "
                f"{quote(str(self.file))}` writes them where the data are; labels none without neighbours need neither"
            ) from error
        if not len(self._labelled):
            raise InputError(f"{self.path}: no training clip has a label: use labels none, without neighbours")
        if kept is not None and problem is None and kept.store == store.digest:
            self._kept = kept

    def _read(self) -> tuple[GalleryFile | None, str | None]:
        """What the file holds, and why it cannot be used, whatever the store; both None without one."""
        if not self.given and not self.file.is_file():
            return None, None
        try:
            kept = read_gallery(self.file)
        except InputError as error:
            if self.given:
                raise
            return None, str(error).removeprefix(f"{self.file}: ")
        return kept, kept.misfit(self._checkpoint, self.facts.class_names)

    def _keep(self, kept: GalleryFile) -> None:
        self._kept = kept
        if self.given:
            return
        try:
            kept.save(self.file)
        except OSError as error:  # of a read-only folder: slower, not wrong
            print(f"features of the training clips are not kept: {error}")

    @property
    def _labelled(self) -> NDArray[np.int64]:
        """Positions in the store."""
        train = self.data.parts["train_all"]
        return np.asarray(train[self.data.store.index["label"][train] >= 0])

    def _encode(self, positions: NDArray[np.int64]) -> Gallery:
        store, persons = self.data.store, self.facts.num_persons
        parts = []
        for first in tqdm(range(0, len(positions), BATCH), desc="training clips", unit="batch", disable=None):
            parts.append(self._features(store.clips(positions[first : first + BATCH], persons)))
        label = torch.from_numpy(store.index["label"][positions].astype(np.int64))
        subject = torch.from_numpy(store.index["subject"][positions].astype(np.int64))
        ids = np.asarray(self.data.ids, str)[positions]
        content = np.asarray(store.index["content"], str)[positions]
        return Gallery(torch.cat(parts), label, ids, self.facts.num_classes, subject, content)

    @cached_property
    def _checkpoint(self) -> str:
        """Digest of the checkpoint, which the features depend on."""
        return file_digest(self.path)
