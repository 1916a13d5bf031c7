"""Nearest-neighbour classification of frozen features, as a function, a metric and a monitor during pre-training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.pytorch.trainer.states import TrainerFn
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from skelcl.bounds import PositiveInt, bounded
from skelcl.errors import InputError
from skelcl.evaluation.features import check_features, self_supervised_features
from skelcl.evaluation.mixed import among, label_spaces, mixed_parts

GALLERY_CHUNK = 65536


@bounded
@dataclass(frozen=True)
class KNNOptions:
    """Options of nearest-neighbour classification.

    Args:
        k: Numbers of neighbours that vote; the protocol of the literature is 1.
    """

    k: tuple[PositiveInt, ...] = (1, 5, 20)


def knn_predict(
    gallery: Tensor,
    gallery_label: Tensor,
    query: Tensor,
    k: int = 1,
    num_classes: int | None = None,
    chunk: int = 1024,
) -> Tensor:
    """Class of each query by majority vote of its k nearest gallery features under cosine similarity.

    Computed in float32 whatever the features' type and autocast say. A tie goes to the class with the larger summed
    similarity, then to the smallest class id; which of several equally near neighbours has the k-th vote is the choice
    of ``torch.topk``.

    Args:
        gallery: Labelled features, (G, D).
        gallery_label: Their classes, (G,) int64.
        query: Features to classify, (Q, D).
        k: Number of neighbours that vote.
        num_classes: Number of classes; the largest gallery label + 1 when None.
        chunk: Queries compared at once; bounds the memory to ``chunk`` × 65,536 similarities.

    Returns:
        Predicted classes, (Q,) int64.

    Raises:
        InputError: If k is not in 1…G, a label is outside 0…num_classes − 1 or a feature is not finite.
    """
    if not 1 <= k <= len(gallery):
        raise InputError(f"k={k} nearest neighbours need 1 ≤ k ≤ {len(gallery)}, the number of gallery clips")
    if num_classes is None:
        num_classes = int(gallery_label.max()) + 1
    check_features("gallery", gallery, gallery_label, num_classes)
    check_features("query", query)
    with torch.autocast(gallery.device.type, enabled=False):
        gallery = F.normalize(gallery.float(), dim=1)
        query = F.normalize(query.float(), dim=1)
        votes = [_vote(*nearest(gallery, gallery_label, some, k), num_classes) for some in torch.split(query, chunk)]
    return torch.cat(votes) if votes else gallery_label.new_empty(0)


def nearest(gallery: Tensor, gallery_label: Tensor, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Similarity and class of the k nearest gallery features, both (Q, k), the nearest first.

    Args:
        gallery: Features of length 1, (G, D).
        gallery_label: Their classes, or whatever else is known of each, (G,) int64.
        query: Features of length 1, (Q, D).
        k: Number of neighbours.
    """
    best = query.new_empty(len(query), 0)
    label = gallery_label.new_empty(len(query), 0)
    parts = zip(torch.split(gallery, GALLERY_CHUNK), torch.split(gallery_label, GALLERY_CHUNK), strict=True)
    for part, part_label in parts:
        similarity, where = (query @ part.T).topk(min(k, len(part)), dim=1)
        if not best.shape[1]:
            best, label = similarity, part_label[where]
            continue
        best, order = torch.cat([best, similarity], 1).topk(min(k, best.shape[1] + similarity.shape[1]), dim=1)
        label = torch.cat([label, part_label[where]], 1).gather(1, order)
    return best, label


def _vote(similarity: Tensor, label: Tensor, num_classes: int) -> Tensor:
    count, total = _count_votes(similarity, label, num_classes)
    return total.masked_fill(count < count.amax(1, keepdim=True), -torch.inf).argmax(1)


def rank_classes(similarity: Tensor, label: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """All classes by the votes of the nearest neighbours; ties as :func:`knn_predict`, whose class is the first.

    Args:
        similarity: Of each query with its k nearest, (Q, k).
        label: Their classes, (Q, k) int64.
        num_classes: K.

    Returns:
        Votes of each class, (Q, K) int64, and the classes in the order of preference, (Q, K).
    """
    count, total = _count_votes(similarity, label, num_classes)
    order = total.argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, count.gather(1, order).argsort(dim=1, descending=True, stable=True))
    return count, order


def _count_votes(similarity: Tensor, label: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    ballot = F.one_hot(label, num_classes)
    return ballot.sum(1), (ballot * similarity[..., None]).sum(1)


@bounded
class KNN(Metric):
    """Top-1 accuracy (0…1) of :func:`knn_predict`; shards of several processes are gathered, however uneven.

    Args:
        k: Number of neighbours that vote.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    gallery: list[Tensor]
    gallery_label: list[Tensor]
    query: list[Tensor]
    query_label: list[Tensor]

    def __init__(self, k: PositiveInt = 1) -> None:
        super().__init__()
        self.k = k
        for state in ("gallery", "gallery_label", "query", "query_label"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, features: Tensor, label: Tensor, gallery: bool) -> None:
        """Add features (N, D) with their labels (N,) to the gallery, or to the queries."""
        features, label = features.detach().float(), label.long()
        # The other side gets an empty batch: gathering needs its width even on a process that never sees a clip of it.
        self.gallery.append(features if gallery else features[:0])
        self.gallery_label.append(label if gallery else label[:0])
        self.query.append(features[:0] if gallery else features)
        self.query_label.append(label[:0] if gallery else label)

    def compute(self) -> Tensor:
        """Share of queries whose predicted class is right.

        Raises:
            InputError: If no query was given, or as :func:`knn_predict` does.
        """
        query, label = dim_zero_cat(self.query), dim_zero_cat(self.query_label)
        if not len(query):
            raise InputError("no query clips: the second validation loader must give them, the first the gallery")
        predicted = knn_predict(dim_zero_cat(self.gallery), dim_zero_cat(self.gallery_label), query, self.k)
        return (predicted == label).float().mean()


class _JudgedPart(NamedTuple):
    """Queries that are judged together, and who answers: positions in the store, None for all of the loader."""

    suffix: str
    metric: KNN
    queries: NDArray[Any] | None = None
    gallery: NDArray[Any] | None = None


@bounded
class OnlineKNN(pl.Callback):
    """Logs ``val/knn_top1`` after validation: loader 0 is the gallery, loader 1 the queries.

    Of a :class:`~skelcl.data.Mixture` it logs ``val/knn_top1/<part>`` for each part with labels, whose queries are
    compared with clips of its own label space, and their mean as ``val/knn_top1``. A part of which the trainer's limits
    leave no clip is left out.

    Silent without validation loaders and for methods that give no features. It selects nothing by itself.

    Args:
        k: Number of neighbours that vote.
        every_n_epochs: Evaluate in every n-th training epoch only. Whatever monitors ``val/knn_top1`` meanwhile sees
            the last value, or none at first: then set the trainer's ``check_val_every_n_epoch`` instead.
    """

    def __init__(self, k: PositiveInt = 1, every_n_epochs: PositiveInt = 1) -> None:
        self.every_n_epochs = every_n_epochs
        self.k = k
        self._judged: list[_JudgedPart] = []
        self._active = False

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the features of the last epoch."""
        data: object = trainer.datamodule  # type: ignore[attr-defined]  # missing from its annotations
        self._judged = [
            _JudgedPart(f"/{name}", KNN(self.k), part.positions, space.positions)
            for name, part in mixed_parts(data).items()
            for space in label_spaces(data)
            if space.labels == part.labels
        ] or [_JudgedPart("", KNN(self.k))]
        due = trainer.state.fn == TrainerFn.VALIDATING or (trainer.current_epoch + 1) % self.every_n_epochs == 0
        self._active = due and not trainer.sanity_checking

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the features of a batch."""
        given = self_supervised_features(outputs)
        if self._active and given is not None:
            for part in self._judged:
                chosen = part.queries if dataloader_idx else part.gallery
                which = slice(None) if chosen is None else among(given["index"], chosen)
                part.metric.update(given["features"][which], given["label"][which], gallery=dataloader_idx == 0)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare and log."""
        judged, self._judged = [part for part in self._judged if part.metric.update_called], []
        if (
            len(judged) > 1
        ):  # the trainer's limits may leave some of them without clips, but all processes agree on which
            sizes = [[sum(map(len, side)) for side in (one.metric.gallery, one.metric.query)] for one in judged]
            clips = trainer.strategy.reduce(torch.tensor(sizes, device=pl_module.device), reduce_op="sum")
            judged = [one for one, some in zip(judged, clips.tolist(), strict=True) if all(some)] or judged
        found = {part.suffix: part.metric.compute() for part in judged}
        if found:
            metrics = {f"val/knn_top1{suffix}": value for suffix, value in found.items()}
            metrics["val/knn_top1"] = torch.stack(list(found.values())).mean()
            pl_module.log_dict(metrics, prog_bar=True, batch_size=1, sync_dist=True)
