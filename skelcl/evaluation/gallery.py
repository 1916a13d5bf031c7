"""Training clips as an encoder sees them: what a new clip is compared with."""

from __future__ import annotations

from dataclasses import dataclass, replace
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


@dataclass(frozen=True, eq=False)
class Gallery:
    """Features of labelled clips.

    Args:
        features: (G, D) float32.
        label: Class of each, (G,) int64.
        ids: Name of each, (G,) str.
        num_classes: K.
    """

    features: Tensor
    label: Tensor
    ids: NDArray[np.str_]
    num_classes: int

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
        unit = F.normalize(self.features, dim=1)
        place = torch.arange(len(self))
        return nearest(unit, place, F.normalize(query.float(), dim=1), min(k, len(self)))

    def votes(self, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Votes of the k nearest clips, as :func:`~skelcl.evaluation.knn_predict` counts them.

        Args:
            query: Features, (Q, D).
            k: Number of neighbours that vote.

        Returns:
            Share of the votes of each class, (Q, K), and the classes in the order of preference, (Q, K): more votes
            first, then the larger summed similarity, then the smaller class.

        Raises:
            InputError: If k is not in 1…G.
        """
        if not 1 <= k <= len(self):
            raise InputError(f"k={k} nearest neighbours need 1 ≤ k ≤ {len(self)}, the number of training clips")
        similarity, place = self.nearest(query, k)
        ballot = F.one_hot(self.label[place], self.num_classes)
        count, total = ballot.sum(1), (ballot * similarity[..., None]).sum(1)
        order = total.argsort(dim=1, descending=True, stable=True)
        order = order.gather(1, count.gather(1, order).argsort(dim=1, descending=True, stable=True))
        return count / k, order

    def probe(self, name: ProbeName, seed: int = 0) -> LinearHead:
        """A linear classifier trained on these features, as ``skelcl test`` trains it."""
        train = (self.features, self.label)
        return linear_probe(train, (self.features[:1], self.label[:1]), self.num_classes, PRESETS[name], seed).head


def save_gallery(path: Path, key: str, gallery: Gallery, heads: dict[str, LinearHead]) -> None:
    """Write a gallery and probes trained on it: the whole file or none of it.

    Args:
        path: ``.npz`` file.
        key: What the features depend on; :func:`load_gallery` compares it.
        gallery: The features.
        heads: Probes by ``<preset>-<seed>``.
    """
    arrays = {}
    for name, head in heads.items():
        arrays[f"probe/{name}"] = head.weight.numpy()
        if head.statistics is not None:
            arrays[f"statistics/{name}"] = head.statistics.numpy()
    features, label = gallery.features.numpy(), gallery.label.numpy()
    write_npz(path, key=np.asarray(key), features=features, label=label, id=gallery.ids, **arrays)


def load_gallery(path: Path, key: str, num_classes: int) -> tuple[Gallery, dict[str, LinearHead]] | None:
    """What :func:`save_gallery` wrote; None when it is missing, damaged, or of another checkpoint or data."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            if str(content["key"]) != key:
                return None
            arrays = dict(content)
        gallery = Gallery(
            torch.from_numpy(arrays["features"]), torch.from_numpy(arrays["label"]), arrays["id"], num_classes
        )
    except Exception:  # whatever a damaged file makes zipfile and numpy raise: it is made anew
        return None
    heads = {}
    for full, weight in arrays.items():
        group, _, name = full.partition("/")
        preset = PRESETS.get(name.rpartition("-")[0])
        if group == "probe" and preset is not None:
            heads[name] = LinearHead(torch.from_numpy(weight), preset)
            if f"statistics/{name}" in arrays:
                heads[name] = replace(heads[name], statistics=torch.from_numpy(arrays[f"statistics/{name}"]))
    return gallery, heads
