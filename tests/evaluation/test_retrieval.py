"""Retrieval against scikit-learn's average precision and a slow loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import normalize

from skelcl.errors import InputError
from skelcl.evaluation.retrieval import RetrievalOptions, retrieve


def features(n: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    label = random.integers(0, classes, n)
    centre = np.random.default_rng(0).normal(size=(classes, 6))
    return torch.from_numpy(centre[label] + 1.5 * random.normal(size=(n, 6))).float(), torch.from_numpy(label)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("chunk", [7, 1000])
def test_average_precision_is_that_of_scikit_learn(tied: bool, chunk: int) -> None:
    (gallery, gallery_label), (query, label) = features(80, 5, 1), features(30, 5, 2)
    if tied:  # copies of one clip under several labels, and one-hot features: many equal similarities
        gallery = torch.eye(6)[gallery.argmax(1)]
        query = torch.eye(6)[query.argmax(1)]
    found = retrieve(gallery, gallery_label, query, label, chunk)
    similarity = normalize(query.numpy()) @ normalize(gallery.numpy()).T
    wanted = [
        average_precision_score(gallery_label.numpy() == one, row)
        for one, row in zip(label.numpy(), similarity, strict=True)
    ]
    np.testing.assert_allclose(found.average_precision.numpy(), wanted, atol=1e-6)
    assert 0.1 < np.mean(wanted) < 0.9


def test_recall_is_the_share_with_a_clip_of_the_class_among_the_first() -> None:
    (gallery, gallery_label), (query, label) = features(60, 8, 3), features(41, 8, 4)
    found = retrieve(gallery, gallery_label, query, label)
    which = torch.arange(41) % 3 > 0
    order = np.argsort(-(normalize(query.numpy()) @ normalize(gallery.numpy()).T), 1)
    scores = found.scores(which, RetrievalOptions((1, 5, 10, 1000)))
    for k in (1, 5, 10, 1000):
        hits = (gallery_label.numpy()[order[:, :k]] == label.numpy()[:, None]).any(1)
        assert scores[f"retrieval_recall{k}"] == pytest.approx(hits[which.numpy()].mean())
    assert scores["retrieval_recall1"] < scores["retrieval_recall5"] < scores["retrieval_recall1000"]
    assert scores["retrieval_map"] == pytest.approx(found.average_precision[which].mean().item())


def test_a_class_that_the_gallery_lacks_is_never_found() -> None:
    (gallery, gallery_label), (query, label) = features(20, 3, 5), features(4, 3, 6)
    found = retrieve(gallery, gallery_label, query, label * 0 + 7)
    assert found.average_precision.tolist() == [0.0] * 4
    assert found.best_rank.tolist() == [21] * 4
    with pytest.raises(InputError, match="no training clips"):
        retrieve(gallery[:0], gallery_label[:0], query, label)
    with pytest.raises(InputError, match="1 of 4 query features are not finite"):
        retrieve(gallery, gallery_label, torch.cat([query[:3], query[:1] / 0]), label)
