"""Clips that are like nothing in training: distances of clips held out, p-values, and what a prediction says."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import betabinom
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_distances

from skelcl import Predictor
from skelcl.errors import InputError
from skelcl.evaluation.gallery import Gallery, GalleryFile, read_gallery
from skelcl.recognition.calibration import FOLDS, folds, held_out_distances, p_values


def gallery(subject=None, count=30, seed=0):
    random = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 4, generator=random)
    label = torch.arange(count) % 3
    return Gallery(features, label, np.arange(count).astype(str), 3, None if subject is None else torch.tensor(subject))


def test_performers_are_held_out_whole():
    """The oracle: for each clip the nearest of scikit-learn's distances among clips of performers of other folds."""
    subject = [(7 * n) % 8 for n in range(30)]
    clips = gallery(subject)
    distance = cosine_distances(clips.features.double().numpy())
    expected = []
    for n in range(30):
        others = [j for j in range(30) if subject[j] % FOLDS != subject[n] % FOLDS]
        expected.append(distance[n, others].min())
    np.testing.assert_allclose(held_out_distances(clips).numpy(), np.sort(expected), atol=1e-6)


@pytest.mark.parametrize("subject", [None, [4] * 30, [-1, *[3] * 29]])
def test_clips_are_held_out_where_performers_do_not_tell(subject):
    found = folds(gallery(subject))
    assert found.bincount().tolist() == [6] * FOLDS
    assert torch.equal(found, folds(gallery(subject)))


def test_one_clip_is_too_few():
    with pytest.raises(InputError, match="at least two"):
        held_out_distances(gallery(count=1))


def test_a_p_value_counts_the_clips_held_out_that_are_as_far():
    held_out = torch.tensor([0.1, 0.2, 0.2, 0.5])
    found = p_values(torch.tensor([0.0, 0.1, 0.2, 0.3, 0.5, 0.6]), held_out)
    torch.testing.assert_close(found, torch.tensor([5, 5, 4, 2, 2, 1]) / 5)


def lost(share, held_out, clips):
    """Distribution of how many of some clips have a p-value of at most ``share``.

    Where they are like those held out, ⌊share · (G + 1)⌋ = k of G + 1 ranks are lost: the chance to be lost is
    Beta(k, G + 1 − k) distributed (Vovk 2012), and the number of those that are is beta-binomial.
    """
    k = int(share * (held_out + 1))
    return betabinom(clips, k, held_out + 1 - k)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.7])
def test_p_values_of_clips_that_are_alike_are_even(share):
    draws = torch.rand(400, 2, 300, generator=torch.Generator().manual_seed(0))
    counts = np.array([int((p_values(new, old.sort().values) <= share).sum()) for new, old in draws])
    expected = lost(share, 300, 300)
    assert counts.mean() == pytest.approx(expected.mean(), abs=4 * expected.std() / len(draws) ** 0.5)
    assert counts.std() == pytest.approx(expected.std(), rel=0.2)


def test_not_more_known_clips_are_lost_than_may_be_and_strangers_are_found():
    random = torch.Generator().manual_seed(1)
    middles = 4 * torch.eye(5)[:3]
    known = middles.repeat(400, 1) + torch.randn(1200, 5, generator=random)
    train, test = known[:600], known[600:]
    strangers = 8 * torch.eye(5)[4] + torch.randn(200, 5, generator=random)
    clips = Gallery(train, torch.arange(600) % 3, np.arange(600).astype(str), 3)
    held_out = held_out_distances(clips)
    p = [p_values(1 - clips.nearest(some, 1)[0][:, 0], held_out) for some in (test, strangers)]
    for share in (0.05, 0.2):
        # Clips held out are compared with four fifths of the training clips and lie farther, so fewer may be lost.
        assert 0 < int((p[0] <= share).sum()) <= lost(share, 600, 600).ppf(0.999)
    assert roc_auc_score([1] * 600 + [0] * 200, torch.cat(p)) > 0.95


def test_a_gallery_file_keeps_the_performers(tmp_path):
    clips = gallery([n % 4 for n in range(30)])
    GalleryFile(clips, ("a", "b", "c"), "", "", "train").save(tmp_path / "g.npz")
    assert torch.equal(read_gallery(tmp_path / "g.npz").gallery.subject, clips.subject)


def test_what_is_unknown_is_told_by_predictor_and_command(tmp_path, drawn_checkpoint, skelcl, capfd):
    path = tmp_path / "net.ckpt"
    drawn_checkpoint(path, "pretrain/as_cal-nw_ucla.yaml", "--model.encoder.hidden=8", "--model.queue_size=32")
    predictor = Predictor(path, unknown=0.5, window=20, stride=1)
    joints = np.array(predictor.data.store.recording(int(predictor.data.parts["train"][0])))
    (window, *_) = predictor.predict(joints[:, :20]).windows
    held_out = held_out_distances(predictor.gallery)
    distance = 1 - predictor.gallery.nearest(torch.from_numpy(window.features)[None], 1)[0][:, 0]
    assert window.p_value == pytest.approx(float(p_values(distance, held_out)[0]))
    assert window.unknown == (window.p_value <= 0.5)
    for frame in joints[:, :20].swapaxes(0, 1):
        live = predictor.push(frame)
    assert live.p_value == pytest.approx(window.p_value)
    np.save(tmp_path / "clip.npy", joints)
    for share, unknown in (("1", True), ("0.01", False)):  # all are lost; of 18 clips none can be among so few
        file = tmp_path / f"{share}.json"
        skelcl("predict", "--ckpt_path", path, "--input", tmp_path / "clip.npy", "--unknown", share, "--output", file)
        (clip,) = json.loads(file.read_text())["clips"]
        assert clip["unknown"] is unknown
        assert clip["windows"][0]["unknown"] is unknown
        assert ("like nothing in training" in capfd.readouterr().out) is unknown
    assert Predictor(path).predict(joints).unknown is None
