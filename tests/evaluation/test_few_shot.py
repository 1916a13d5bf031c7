"""Few-shot episodes against scikit-learn's nearest centroid; exemplars and novel classes against hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid

from skelcl.errors import InputError
from skelcl.evaluation.few_shot import draw_episodes, episode_accuracies, interval, novel_predict, one_shot

GOLDEN = ([[[39], [24], [12]]], [[[41, 43], [25, 29], [15, 21]]])


@pytest.fixture
def label() -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat(np.arange(8), [12, 12, 12, 12, 12, 12, 12, 3]))


def test_episodes_are_classes_apart_and_clips_once(label: np.ndarray) -> None:
    episodes = draw_episodes(label, ways=5, shots=2, queries=7, episodes=60, seed=4)
    assert (episodes.support.shape, episodes.query.shape) == ((60, 5, 2), (60, 5, 7))
    for support, query in zip(episodes.support, episodes.query, strict=True):
        together = np.concatenate([support, query], 1)
        assert len(np.unique(together)) == 45
        classes = label[together]
        assert (classes == classes[:, :1]).all()
        assert len(np.unique(classes[:, 0])) == 5
    seen = np.unique(label[episodes.support])
    assert seen.tolist() == list(range(7)), "a class with too few clips is never drawn, every other one is"
    again = draw_episodes(label, 5, 2, 7, 60, seed=4)
    other = draw_episodes(label, 5, 2, 7, 60, seed=5)
    assert (again.query == episodes.query).all()
    assert (other.query != episodes.query).any()


def test_the_first_episode_is_what_it_always_was(label: np.ndarray) -> None:
    episodes = draw_episodes(np.sort(label), 3, 1, 2, 1, seed=0)
    assert episodes.support.tolist() == GOLDEN[0]
    assert episodes.query.tolist() == GOLDEN[1]


def test_accuracy_is_that_of_the_nearest_centroid(label: np.ndarray) -> None:
    random = np.random.default_rng(1)
    features = np.random.default_rng(2).normal(size=(8, 6))[label] + 1.2 * random.normal(size=(len(label), 6))
    episodes = draw_episodes(label, 4, 3, 6, 55)
    found = episode_accuracies(torch.from_numpy(features), episodes)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    wanted = []
    for support, query in zip(episodes.support, episodes.query, strict=True):
        judge = NearestCentroid().fit(unit[support].reshape(12, 6), np.repeat(np.arange(4), 3))
        wanted.append(np.mean(judge.predict(unit[query].reshape(24, 6)) == np.repeat(np.arange(4), 6)))
    np.testing.assert_allclose(found.numpy(), wanted)
    mean, half = interval(found)
    assert mean == pytest.approx(np.mean(wanted))
    assert half == pytest.approx(1.96 * np.std(wanted, ddof=1) / np.sqrt(55))
    assert 0.4 < mean < 0.95


def test_too_few_clips_are_one_line(label: np.ndarray) -> None:
    with pytest.raises(InputError, match="needs 8 classes of at least 12 test clips, there are 7"):
        draw_episodes(label, 8, 5, 7, 3)
    with pytest.raises(InputError, match="at least 1"):
        draw_episodes(label, 8, 0, 7, 3)


def test_the_nearest_exemplar_decides() -> None:
    exemplar = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    query = torch.tensor([[9.0, 1.0], [0.1, 0.2], [1.0, -5.0]])
    assert one_shot(exemplar, torch.tensor([6, 12]), query).tolist() == [6, 12, 6]
    with pytest.raises(InputError, match="one exemplar of each class"):
        one_shot(exemplar, torch.tensor([6, 6]), query)


def test_known_classes_are_neither_asked_nor_asked_for() -> None:
    gallery = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    query = torch.tensor([[1.0, 0.02], [1.0, 0.0], [0.0, 1.0]])
    asked, found = novel_predict(gallery, torch.tensor([0, 2, 3, 1]), query, torch.tensor([2, 0, 3]), 2, 1)
    assert asked.tolist() == [True, False, True]
    assert found.tolist() == [2, 3], "the nearest clip of all is of a known class"
    with pytest.raises(InputError, match="novel_from 9: too few"):
        novel_predict(gallery, torch.tensor([0, 2, 3, 1]), query, torch.tensor([2, 0, 3]), 9, 1)
