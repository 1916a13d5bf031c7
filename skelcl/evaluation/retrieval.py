"""Action retrieval: training clips ranked for each test clip by the similarity of their frozen features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from skelcl.bounds import PositiveInt, bounded
from skelcl.errors import InputError
from skelcl.evaluation.features import check_features


@bounded
@dataclass(frozen=True)
class RetrievalOptions:
    """Options of retrieval.

    Args:
        recalls: Ranks k of Recall@k, the share of test clips with a clip of their class among the first k. Recall@1 is
            the top-1 accuracy of retrieval.
    """

    recalls: tuple[PositiveInt, ...] = (1, 5, 10)


@dataclass(frozen=True, eq=False)
class Retrieved:
    """How well the gallery was ranked for each of Q queries.

    Args:
        average_precision: (Q,) float32 in 0…1; 0 for a query whose class the gallery lacks.
        best_rank: Rank of the first clip of the right class, from 1 on, (Q,) int64; G + 1 where there is none.
    """

    average_precision: Tensor
    best_rank: Tensor

    def scores(self, which: Tensor, options: RetrievalOptions) -> dict[str, float]:
        """The mAP over the whole gallery and Recall@k (0…1) of the queries in ``which``, (Q,) bool."""
        rank = self.best_rank[which]
        recall = {f"retrieval_recall{k}": float((rank <= k).double().mean()) for k in options.recalls}
        return {"retrieval_map": float(self.average_precision[which].double().mean()), **recall}


def retrieve(gallery: Tensor, gallery_label: Tensor, query: Tensor, query_label: Tensor, chunk: int = 256) -> Retrieved:
    """Rank the gallery for each query by cosine similarity.

    Clips of exactly the same similarity count as retrieved together, as in scikit-learn's ``average_precision_score``.

    Args:
        gallery: Features, (G, D).
        gallery_label: Their classes, (G,) int64.
        query: Features, (Q, D).
        query_label: Their classes, (Q,) int64.
        chunk: Queries ranked at once; bounds the memory to ``chunk`` × G similarities.

    Raises:
        InputError: If there is no gallery or a feature is not finite.
    """
    if not len(gallery):
        raise InputError("retrieval needs a gallery: there are no training clips")
    check_features("gallery", gallery)
    check_features("query", query)
    found = []
    with torch.no_grad(), torch.autocast(gallery.device.type, enabled=False):
        gallery = F.normalize(gallery.float(), dim=1)
        query = F.normalize(query.float(), dim=1)
        for some, label in zip(torch.split(query, chunk), torch.split(query_label, chunk), strict=True):
            similarity, order = (some @ gallery.T).sort(dim=1, descending=True)
            found.append(_judge(similarity, gallery_label[order] == label[:, None]))
    precision, rank = zip(*found, strict=True) if found else ((query.new_empty(0),), (gallery_label.new_empty(0),))
    return Retrieved(torch.cat(precision), torch.cat(rank))


def _judge(similarity: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Average precision and best rank, (Q,) each, of sorted similarities (Q, G) and what is of the right class."""
    count = similarity.shape[1]
    rank = torch.arange(1, count + 1, device=right.device)
    tied = F.pad(similarity[:, 1:] == similarity[:, :-1], (0, 1))
    # The last rank of each group of equals: the smallest untied rank from here on.
    last = torch.where(tied, count, rank).flip(1).cummin(1).values.flip(1)
    hits = right.cumsum(1).gather(1, last - 1)
    total = right.sum(1)
    precision = (right * hits / last).sum(1) / total.clamp(min=1)
    first = torch.where(right, rank, count + 1).amin(1)
    return precision, first
