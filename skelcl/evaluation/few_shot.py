"""Few-shot protocols on frozen features: N-way K-shot episodes, NTU-120's one exemplar of each class, novel classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from skelcl.bounds import NonNegativeInt, PositiveInt, bounded
from skelcl.errors import InputError
from skelcl.evaluation.features import check_features
from skelcl.evaluation.knn import knn_predict


@bounded
@dataclass(frozen=True)
class FewShotOptions:
    """Options of the few-shot protocols.

    Args:
        ways: N, classes of an episode.
        shots: K, labelled clips of each of them; a table column for each value.
        queries: Clips of each class that are classified.
        episodes: Number of episodes.
        seed: Of the choice of the episodes, the same for every encoder.
        novel_from: First class that pre-training has not seen, 60 for NTU-60 before NTU-120: also classify the test
            clips of this class and all later ones by their nearest training clips among them.
        neighbours: k of that nearest-neighbour vote.
    """

    ways: PositiveInt = 5
    shots: tuple[PositiveInt, ...] = (1, 5)
    queries: PositiveInt = 15
    episodes: PositiveInt = 600
    seed: NonNegativeInt = 0
    novel_from: NonNegativeInt | None = None
    neighbours: tuple[PositiveInt, ...] = (1, 2, 5, 10)


@dataclass(frozen=True, eq=False)
class Episodes:
    """Chosen clips of E episodes, as positions among the clips that were chosen from.

    Args:
        support: (E, N, K) int64.
        query: (E, N, Q) int64.
    """

    support: NDArray[np.int64]
    query: NDArray[np.int64]


@bounded
def draw_episodes(
    label: NDArray[np.int64],
    ways: PositiveInt,
    shots: PositiveInt,
    queries: PositiveInt,
    episodes: PositiveInt,
    seed: NonNegativeInt = 0,
) -> Episodes:
    """Choose episodes; they depend on nothing but the arguments.

    Args:
        label: Class of each clip, (N,).
        ways: Classes of an episode, from those with enough clips.
        shots: Labelled clips of each class.
        queries: Clips of each class to classify.
        episodes: Number of episodes.
        seed: Of the choice.

    Raises:
        InputError: If too few classes have enough clips.
    """
    need = shots + queries
    members = [np.flatnonzero(label == one) for one in np.unique(label)]
    members = [some for some in members if len(some) >= need]
    if len(members) < ways:
        raise InputError(
            f"few_shot: {ways}-way {shots}-shot with {queries} queries needs {ways} classes of at least {need} test "
            f"clips, there are {len(members)}: set fewer few_shot.ways or few_shot.queries"
        )
    random = np.random.default_rng(seed)
    chosen = np.empty((episodes, ways, need), np.int64)
    for episode in chosen:
        for row, one in zip(episode, random.random(len(members)).argsort()[:ways], strict=True):
            row[:] = members[one][random.random(len(members[one])).argsort()[:need]]
    return Episodes(chosen[..., :shots], chosen[..., shots:])


def episode_accuracies(features: Tensor, episodes: Episodes) -> Tensor:
    """Share (0…1) of the queries whose nearest prototype, the mean of unit support features, is that of their class.

    Args:
        features: Features of the clips that the episodes were chosen from, (N, D).
        episodes: E episodes.

    Returns:
        (E,) float64 on the CPU.
    """
    check_features("test", features)
    unit = F.normalize(features.float(), dim=1)
    place = torch.arange(episodes.support.shape[1], device=unit.device)[:, None]
    support, query = (torch.from_numpy(some).to(unit.device) for some in (episodes.support, episodes.query))
    right = []
    for s, q in zip(torch.split(support, 50), torch.split(query, 50), strict=True):
        distance = torch.cdist(unit[q].flatten(1, 2), unit[s].mean(2), compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distance.argmin(2).view(q.shape)
        right.append((nearest == place).double().mean((1, 2)).cpu())
    return torch.cat(right)


def interval(accuracies: Tensor) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval over episodes, (E,): the error of measuring one encoder.

    What another training would give is the business of seeds of the training.
    """
    if len(accuracies) < 2:
        return float(accuracies.mean()), 0.0
    return float(accuracies.mean()), float(1.96 * accuracies.std() / len(accuracies) ** 0.5)


def one_shot(exemplar: Tensor, exemplar_label: Tensor, query: Tensor) -> Tensor:
    """Class of the nearest exemplar under cosine similarity, (Q,): the official protocol of NTU RGB+D 120.

    Args:
        exemplar: Features of one clip of each novel class, (N, D).
        exemplar_label: Their classes, (N,) int64.
        query: Features of other clips of these classes, (Q, D).

    Raises:
        InputError: If a class has several exemplars.
    """
    if int(exemplar_label.bincount().max()) > 1:
        raise InputError("one-shot needs one exemplar of each class, not several")
    return knn_predict(exemplar, exemplar_label, query, 1)


def novel_predict(
    gallery: Tensor, gallery_label: Tensor, query: Tensor, query_label: Tensor, novel_from: int, k: int
) -> tuple[Tensor, Tensor]:
    """Vote of the k nearest clips among those of the classes from ``novel_from`` on, for queries of these classes.

    Args:
        gallery: Features, (G, D).
        gallery_label: Their classes, (G,) int64.
        query: Features, (Q, D).
        query_label: Their classes, (Q,) int64.
        novel_from: First novel class.
        k: Number of neighbours.

    Returns:
        Which queries are of a novel class, (Q,) bool, and the predicted classes of these.

    Raises:
        InputError: If there are too few clips of novel classes.
    """
    known, asked = gallery_label >= novel_from, query_label >= novel_from
    if not asked.any() or int(known.sum()) < k:
        raise InputError(f"few_shot.novel_from {novel_from}: too few clips of this and later classes")
    return asked, knn_predict(gallery[known], gallery_label[known], query[asked], k)
