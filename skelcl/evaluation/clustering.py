"""Unsupervised clustering of frozen test features; needs scikit-learn and SciPy (``pip install skelcl[evaluate]``)."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from skelcl.bounds import PositiveInt, bounded
from skelcl.errors import InputError
from skelcl.evaluation.features import check_features


@bounded
@dataclass(frozen=True)
class ClusteringOptions:
    """Options of clustering.

    Args:
        clusters: K; None is the number of classes that occur among the clips.
        restarts: Runs of k-means++ of which the one with the least spread within clusters is kept. Labels have no say.
    """

    clusters: PositiveInt | None = None
    restarts: PositiveInt = 10


def require_clustering() -> None:
    """Refuse early where the packages are not installed.

    Raises:
        InputError: If scikit-learn or SciPy is missing.
    """
    for package in ("sklearn", "scipy"):
        if importlib.util.find_spec(package) is None:
            raise InputError(f"clustering needs {package}, which is not installed: pip install 'skelcl[evaluate]'")


def cluster(features: Tensor, clusters: int, restarts: int = 10, seed: int = 0) -> NDArray[np.int64]:
    """k-means++ on unit features.

    Args:
        features: (N, D).
        clusters: K.
        restarts: Runs of which the tightest is kept.
        seed: Of all runs.

    Returns:
        Cluster of each clip, (N,).

    Raises:
        InputError: If there are fewer clips than clusters, a feature is not finite or scikit-learn is missing.
    """
    require_clustering()
    from sklearn.cluster import KMeans

    check_features("test", features)
    if not 1 <= clusters <= len(features):
        raise InputError(f"{clusters} clusters need 1 ≤ K ≤ {len(features)}, the number of clips")
    unit = F.normalize(features.float(), dim=1).cpu().numpy()
    found: NDArray[np.int64] = KMeans(clusters, n_init=restarts, random_state=seed).fit_predict(unit).astype(np.int64)
    return found


def clustering_scores(label: NDArray[np.int64], found: NDArray[np.int64]) -> dict[str, float]:
    """Agreement of clusters with classes.

    Args:
        label: Class of each clip, (N,).
        found: Cluster of each clip, (N,).

    Returns:
        ``clustering_acc``: accuracy (0…1) under the best one-to-one matching of clusters to classes, which is found
        with the labels; ``clustering_nmi``: mutual information over the mean of the entropies; ``clustering_ari``: Rand
        index, adjusted for chance.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    table = np.zeros((int(found.max()) + 1, int(label.max()) + 1), np.int64)
    np.add.at(table, (found, label), 1)
    row, column = linear_sum_assignment(table, maximize=True)
    return {
        "clustering_acc": float(table[row, column].sum() / len(label)),
        "clustering_nmi": float(normalized_mutual_info_score(label, found)),
        "clustering_ari": float(adjusted_rand_score(label, found)),
    }
