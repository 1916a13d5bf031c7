"""Training clips as an encoder sees them: what a new clip is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from skelcl.errors import InputError
from skelcl.evaluation.features import check_features, write_npz
from skelcl.evaluation.knn import nearest
from skelcl.evaluation.probe import PRESETS, LinearHead, ProbeName, linear_probe
from skelcl.evaluation.temperature import BeforeAfter, Calibration
from skelcl.files import one_line


@dataclass(frozen=True, eq=False)
class Gallery:
    """Features of labelled clips.

    Args:
        features: (G, D) float32.
        label: Class of each, (G,) int64.
        ids: Name of each, (G,) str.
        num_classes: K.
        subject: Performer of each, −1 where unknown, (G,) int64; None where a file does not say.
        content: Digest of the coordinates of each, as in the index of its store, (G,) str; None as above.
    """

    features: Tensor
    label: Tensor
    ids: NDArray[np.str_]
    num_classes: int
    subject: Tensor | None = None
    content: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        check_features("training", self.features, self.label, self.num_classes)

    def __len__(self) -> int:
        return len(self.features)

    def nearest(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k most similar clips of each query.

        Args:
            query: Features, (Q, D).
            k: Number of clips; all when there are fewer.

        Returns:
            Cosine similarities and places in the gallery, (Q, k) each, the most similar first.
        """
        unit, place = self._unit
        return nearest(unit, place, F.normalize(query.float(), dim=1), min(k, len(self)))

    @cached_property
    def _unit(self) -> tuple[Tensor, Tensor]:
        """Features of length 1, (G, D), and the place of each, (G,)."""
        with torch.inference_mode(False):  # what is kept may be trained on
            return F.normalize(self.features, dim=1), torch.arange(len(self))

    def probe(self, name: ProbeName, seed: int = 0) -> LinearHead:
        """A linear classifier trained on these features, as ``skelcl test`` trains it."""
        train = (self.features, self.label)
        return linear_probe(train, (self.features[:1], self.label[:1]), self.num_classes, PRESETS[name], seed).head


@dataclass(frozen=True, eq=False)
class GalleryFile:
    """A gallery as it travels beside its checkpoint: what the clips are of, and probes trained on them.

    Args:
        gallery: Features of the labelled clips.
        class_names: Names of the classes by label.
        checkpoint: Hexadecimal SHA-256 of the checkpoint file whose encoder and deterministic view made them; empty
            where they are of another view or of no checkpoint.
        store: Hexadecimal SHA-256 of the store, see :attr:`~skelcl.data.SkeletonStore.digest`.
        split: Part of the split that the clips are: ``train``, ``test`` or ``all``.
        heads: Probes by ``<preset>-<seed>``.
        calibrations: Of the probabilities of the probes, by the same names.
    """

    gallery: Gallery
    class_names: tuple[str, ...]
    checkpoint: str
    store: str
    split: str
    heads: Mapping[str, LinearHead] = field(default_factory=dict)
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)

    def misfit(self, checkpoint: str, class_names: Sequence[str]) -> str | None:
        """Why these cannot be the training clips of a checkpoint, in words; None when they can.

        Args:
            checkpoint: SHA-256 of its file.
            class_names: Its classes.
        """
        if self.split != "train":
            return f"holds clips of the split {one_line(self.split) or '?'}, not the training clips"
        if self.checkpoint != checkpoint:
            return "was made with another checkpoint, or another view of it"
        if self.class_names != tuple(class_names):
            return "has other classes"
        return None if len(self.gallery) else "holds no clip with a label"

    def save(self, path: Path) -> None:
        """Write an ``.npz`` file: the whole file or none of it."""
        arrays = {}
        for name, head in self.heads.items():
            arrays[f"probe/{name}"] = head.weight.numpy()
            if head.statistics is not None:
                arrays[f"statistics/{name}"] = head.statistics.numpy()
        for name, one in self.calibrations.items():
            arrays[f"calibration/{name}"] = np.array([one.temperature, one.clips, *one.nll, *one.ece])
        columns = {"subject": self.gallery.subject, "content": self.gallery.content}
        write_npz(
            path,
            features=self.gallery.features.numpy(),
            label=self.gallery.label.numpy(),
            id=self.gallery.ids,
            class_names=np.asarray(self.class_names, dtype=str),
            checkpoint_sha256=np.asarray(self.checkpoint),
            store_sha256=np.asarray(self.store),
            split=np.asarray(self.split),
            **{name: np.asarray(column) for name, column in columns.items() if column is not None},
            **arrays,
        )


def read_gallery(path: Path) -> GalleryFile:
    """What :meth:`GalleryFile.save` or ``skelcl predict --features.path`` wrote; clips without a label are left out.

    Raises:
        InputError: There is no such file, it is damaged, or says not what its features are of.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such gallery")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = dict(content)
        told = {name: str(arrays[name][()]) for name in ("checkpoint_sha256", "store_sha256", "split")}
        label = torch.from_numpy(arrays["label"]).long()
        labelled = label >= 0
        names = tuple(str(name) for name in arrays["class_names"].tolist())
        features, ids = torch.from_numpy(arrays["features"]), arrays["id"][labelled.numpy()]
        subject = torch.from_numpy(arrays["subject"]).long()[labelled] if "subject" in arrays else None
        content = arrays["content"][labelled.numpy()].astype(str) if "content" in arrays else None
        gallery = Gallery(features[labelled], label[labelled], ids, len(names), subject, content)
        heads, calibrations = {}, {}
        for full, weight in arrays.items():
            group, _, name = full.partition("/")
            preset = PRESETS.get(name.rpartition("-")[0])
            if group == "probe" and preset is not None:
                heads[name] = LinearHead(torch.from_numpy(weight), preset)
                if f"statistics/{name}" in arrays:
                    heads[name] = replace(heads[name], statistics=torch.from_numpy(arrays[f"statistics/{name}"]))
            if group == "calibration" and preset is not None:
                temperature, clips, *measures = weight.tolist()
                nll, ece = BeforeAfter(*measures[:2]), BeforeAfter(*measures[2:])
                calibrations[name] = Calibration(temperature, int(clips), nll, ece)
    except Exception as error:  # whatever a damaged file makes zipfile, numpy and torch raise
        raise InputError(f"{path}: no gallery, which skelcl predict --features.path writes, or damaged") from error
    return GalleryFile(
        gallery, names, told["checkpoint_sha256"], told["store_sha256"], told["split"], heads, calibrations
    )
