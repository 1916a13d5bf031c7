"""Clustering: the matching against all permutations, k-means against the classes that it must find."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from skelcl.errors import InputError
from skelcl.evaluation import clustering
from skelcl.evaluation.clustering import cluster, clustering_scores


def test_accuracy_is_that_of_the_best_of_all_matchings() -> None:
    random = np.random.default_rng(0)
    label = random.integers(0, 4, 60)
    found = np.where(random.random(60) < 0.5, (label + 1) % 4, random.integers(0, 4, 60))
    best = max(np.mean(np.array(order)[found] == label) for order in permutations(range(4)))
    scores = clustering_scores(label, found)
    assert scores["clustering_acc"] == pytest.approx(best)
    assert 0 < scores["clustering_ari"] < scores["clustering_acc"] < 1
    # NMI and ARI by hand: entropies, and pairs of clips.
    table = np.array([[np.sum((found == c) & (label == k)) for k in range(4)] for c in range(4)]) / 60
    row, column = table.sum(1), table.sum(0)
    mutual = np.nansum(table * np.log(np.where(table > 0, table, 1) / np.outer(row, column)))
    entropy = [-(p * np.log(p)).sum() for p in (row, column)]
    assert scores["clustering_nmi"] == pytest.approx(mutual / np.mean(entropy))


def test_more_or_fewer_clusters_than_classes_are_matched_too() -> None:
    label = np.array([0, 0, 1, 1, 2, 2])
    assert clustering_scores(label, np.array([0, 1, 2, 2, 3, 3]))["clustering_acc"] == pytest.approx(5 / 6)
    assert clustering_scores(label, np.zeros(6, np.int64))["clustering_acc"] == pytest.approx(1 / 3)


def test_clusters_are_those_of_unit_features() -> None:
    random = np.random.default_rng(1)
    label = np.repeat(np.arange(3), 20)
    direction = np.eye(3)[label] + 0.05 * random.normal(size=(60, 3))
    features = torch.from_numpy(direction * random.uniform(0.1, 50, (60, 1)))
    found = cluster(features, 3, restarts=3)
    assert clustering_scores(label, found) == pytest.approx(
        {"clustering_acc": 1.0, "clustering_nmi": 1.0, "clustering_ari": 1.0}
    )
    raw = KMeans(3, n_init=3, random_state=0).fit_predict(features.numpy())
    assert clustering_scores(label, raw)["clustering_acc"] < 0.9, "lengths would decide otherwise"
    assert (cluster(features, 3, restarts=3) == found).all()


def test_what_cannot_be_clustered_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="5 clusters need 1 ≤ K ≤ 4"):
        cluster(torch.randn(4, 2), 5)
    monkeypatch.setattr(clustering.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs sklearn, which is not installed: pip install 'skelcl\[evaluate\]'"):
        cluster(torch.randn(4, 2), 2)
