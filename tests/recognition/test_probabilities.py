"""Probabilities that are told are calibrated, on clips that nobody learned from, or said not to be; votes are votes."""

import json
import shutil

import numpy as np
import pytest
import torch

from skelcl import Predictor
from skelcl.cli import run
from skelcl.errors import InputError
from skelcl.evaluation import PRESETS, linear_probe
from skelcl.evaluation.gallery import Gallery, GalleryFile, read_gallery
from skelcl.evaluation.provenance import DATA_KEY, labels_unread, short_digests, training_facts
from skelcl.evaluation.temperature import BeforeAfter, Calibration, calibrate
from skelcl.recognition.calibration import held_out_logits
from skelcl.recognition.training_clips import TrainingClips
from skelcl.runs.loading import load

AS_CAL = ["pretrain/as_cal-nw_ucla.yaml", "--model.encoder.hidden=8", "--model.queue_size=32"]
CTR_GCN = ["supervised/ctr_gcn-ntu.yaml", "--model.encoder.widths=[8, 16]", "--model.encoder.strides=[1, 2]"]


def trained_on(path, **changes):
    """Notes in a checkpoint that its run was trained on the training part of its data."""
    content = torch.load(path, weights_only=True)
    method, data = load(path, weights=False)
    content[DATA_KEY] = training_facts(data, method.needs_labels) | {"steps": 1, "epochs": 1} | changes
    torch.save(content, path)
    return data


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, drawn_checkpoint):
    """Checkpoints that say what they were trained on: of AS-CAL, of a classifier without and with held-out clips."""
    folder = tmp_path_factory.mktemp("drawn")
    words = {"as_cal": AS_CAL, "all": CTR_GCN, "held_out": [*CTR_GCN, "--data.validation=held-out"]}
    paths = {}
    for name, some in words.items():
        (folder / name).mkdir()
        paths[name] = drawn_checkpoint(folder / name / "net.ckpt", *some)
        trained_on(paths[name])
    return paths


def clip_of(predictor):
    return np.array(predictor.data.store.recording(int(predictor.data.parts["test"][0])))


# --- the probe --------------------------------------------------------------------------------------------------------


def features(count=60, classes=3, dim=40):
    """Clips whose labels have nothing to do with their features: only who learned them knows them."""
    random = torch.Generator().manual_seed(5)
    drawn = 3 * torch.randn(count, dim, generator=random)
    label = torch.randint(classes, (count,), generator=random)
    return Gallery(drawn, label, np.arange(count).astype(str), classes, torch.arange(count) % 7)


def test_a_probe_is_judged_by_clips_of_performers_that_it_did_not_learn_from():
    gallery = features()
    found = held_out_logits(gallery, "as_cal", 3)
    for n in range(5):
        others, own = (gallery.subject % 5 != n), (gallery.subject % 5 == n)
        train = (gallery.features[others], gallery.label[others])
        expected = linear_probe(train, (gallery.features[own], gallery.label[own]), 3, PRESETS["as_cal"], 3).logits
        torch.testing.assert_close(found[own], expected)
    learned = calibrate(gallery.probe("as_cal", 3)(gallery.features), gallery.label)
    held_out = calibrate(found, gallery.label)
    assert learned.nll.after < 0.1  # a probe knows what it learned,
    assert held_out.nll.before > 2 > held_out.nll.after > 1.05  # and of the others as much as chance, log 3 = 1.10
    assert held_out.temperature > 5


def test_a_gallery_file_keeps_calibrations_and_digests(tmp_path):
    content = np.array([f"{n:016x}" for n in range(60)])
    gallery = Gallery(
        *(getattr(features(), name) for name in ("features", "label", "ids", "num_classes")), None, content
    )
    kept = {"as_cal-0": Calibration(1.7, 60, BeforeAfter(2.0, 1.1), BeforeAfter(0.4, 0.03))}
    GalleryFile(gallery, ("a", "b", "c"), "", "", "train", {}, kept).save(tmp_path / "g.npz")
    found = read_gallery(tmp_path / "g.npz")
    assert found.calibrations == kept
    assert found.gallery.content.tolist() == content.tolist()
    arrays = dict(np.load(tmp_path / "g.npz"))
    for wrong in ([0.0, 60, 1, 1, 1, 1], [1.0, 60, 1], [np.nan, 60, 1, 1, 1, 1]):
        np.savez(tmp_path / "g.npz", **(arrays | {"calibration/as_cal-0": np.array(wrong)}))
        with pytest.raises(InputError, match=r"g\.npz: no gallery"):
            read_gallery(tmp_path / "g.npz")


def test_probabilities_of_the_probe(drawn, monkeypatch):
    predictor = Predictor(drawn["as_cal"], labels="probe", neighbours=0)
    found = predictor.predict(clip_of(predictor))
    logits = held_out_logits(predictor.gallery, "as_cal", 0)
    assert found.calibration == calibrate(logits, predictor.gallery.label)
    assert found.calibration.clips == len(predictor.gallery) == 18
    own = predictor.training_clips.head("as_cal", 0)(torch.from_numpy(found.windows[0].features)[None])[0]
    expected = (own / found.calibration.temperature).softmax(0)
    order = own.argsort(descending=True).tolist()
    assert [one.label for one in found.windows[0].top] == [predictor.class_names[c] for c in order]
    assert [one.probability for one in found.windows[0].top] == pytest.approx(expected[order].tolist(), rel=1e-5)
    assert {one.votes for one in found.windows[0].top} == {None}
    assert found.segments[0].probability == found.windows[0].top[0].probability
    # It is in the file beside the checkpoint, and not computed again.
    monkeypatch.setattr("skelcl.recognition.training_clips.held_out_logits", None)
    assert Predictor(drawn["as_cal"], labels="probe", neighbours=0).labeller.calibration == found.calibration


def test_a_probe_on_an_encoder_that_learned_the_labels_is_not_calibrated_on_them(drawn):
    assert Predictor(drawn["all"], labels="probe", neighbours=0).labeller.calibration is None
    predictor = Predictor(drawn["held_out"], labels="probe", neighbours=0)
    own = np.isin(predictor.gallery.ids, predictor.data.ids[predictor.data.parts["query"]])
    expected = calibrate(held_out_logits(predictor.gallery, "as_cal", 0)[own], predictor.gallery.label[own])
    assert predictor.labeller.calibration == expected


# --- the classifier of a run ------------------------------------------------------------------------------------------


def test_a_classifier_is_calibrated_on_the_clips_that_its_run_held_out(drawn):
    predictor = Predictor(drawn["held_out"])
    query = predictor.data.parts["query"]
    assert set(query) < set(predictor.data.parts["train_all"])
    assert not set(query) & set(predictor.data.parts["train"])
    clips = predictor.data.store.clips(query, 2)
    logits = predictor.method.classify(predictor.method(clips)).detach()
    expected = calibrate(logits, clips.label)
    found = predictor.predict(clip_of(predictor))
    assert found.calibration.clips == len(query) > 0
    assert found.calibration.temperature == pytest.approx(expected.temperature, rel=1e-3)
    (window,) = found.windows
    own = predictor.method.classify(torch.from_numpy(window.features)[None]).detach()[0]
    order = own.argsort(descending=True).tolist()
    assert [one.label for one in window.top] == [predictor.class_names[c] for c in order]
    expected = (own / found.calibration.temperature).softmax(0)[order].tolist()
    assert [one.probability for one in window.top] == pytest.approx(expected, rel=1e-5)


def test_a_classifier_that_learned_from_all_clips_is_not_calibrated_and_says_so(drawn, skelcl, tmp_path, capfd):
    predictor = Predictor(drawn["all"])
    found = predictor.predict(clip_of(predictor))
    assert found.calibration is None
    own = predictor.method.classify(torch.from_numpy(found.windows[0].features)[None]).detach()[0]
    assert found.windows[0].top[0].probability == pytest.approx(float(own.softmax(0).max()), rel=1e-5)
    np.save(tmp_path / "clip.npy", clip_of(predictor))
    skelcl("predict", "--ckpt_path", drawn["all"], "--input", "clip.npy", "--output", "out.json")
    assert "probabilities: not calibrated: no training clip is at hand" in capfd.readouterr().out
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["calibration"] is written["clips"][0]["calibration"] is None


def test_no_clip_is_held_out_where_the_training_before_is_not_known(drawn, tmp_path):
    path = tmp_path / "net.ckpt"
    shutil.copy(drawn["held_out"], path)
    trained_on(path, before=[{}])
    assert Predictor(path).labeller.calibration is None
    content = torch.load(path, weights_only=True)
    del content[DATA_KEY]
    torch.save(content, path)
    assert Predictor(path).labeller.calibration is None


def test_a_checkpoint_alone_is_calibrated_by_the_gallery_that_travels_with_it(drawn, skelcl, tmp_path, capfd):
    home = Predictor(drawn["held_out"])
    expected, clip = home.labeller.calibration, clip_of(home)
    words = ["--data.predict_split=train", "--features.path=net.gallery.npz", "--trainer.enable_progress_bar=false"]
    run(["predict", f"--ckpt_path={drawn['held_out']}", *words])
    content = torch.load(drawn["held_out"], weights_only=True)
    shutil.copy(drawn["held_out"], tmp_path)
    np.save("clip.npy", clip)
    home.data.store.path.rename(tmp_path / "away")
    try:
        for options in ({}, {"neighbours": 0}):
            found = Predictor("net.ckpt", **options).labeller.calibration
            assert found.to_dict()["clips"] == expected.clips
            assert found.temperature == pytest.approx(expected.temperature, rel=1e-3)
        capfd.readouterr()
        run(["predict", "--ckpt_path=net.ckpt", "--input=clip.npy", "--output=out.json"])
        assert f"probabilities: temperature {found.temperature:.3g}, fitted on {found.clips} " in capfd.readouterr().out
        written = json.loads((tmp_path / "out.json").read_text())
        assert written["calibration"] == written["clips"][0]["calibration"] == found.to_dict()
    finally:
        (tmp_path / "away").rename(home.data.store.path)
    assert torch.load(drawn["held_out"], weights_only=True)[DATA_KEY]["clips"] == content[DATA_KEY]["clips"]


def test_without_training_clips_at_hand_there_is_no_calibration_and_none_are_encoded(drawn, monkeypatch, tmp_path):
    shutil.copy(drawn["held_out"], tmp_path / "net.ckpt")
    monkeypatch.setattr(TrainingClips, "_encode", lambda *words: pytest.fail("the training clips were encoded"))
    predictor = Predictor(tmp_path / "net.ckpt", neighbours=0)
    assert predictor.predict(clip_of(predictor)).calibration is None


@pytest.mark.parametrize("names", ["same", "other"])
def test_clips_whose_labels_were_read_are_known_by_name_or_coordinates(names):
    ids, content = ["a", "b", "c", "d"], ["0", "1", "2", "3"]
    learned = {"ids": short_digests(["b"] if names == "same" else ["x"]), "content": short_digests(["2"])}
    phase = {"steps": 3, "supervised": True, "before": [], **learned}
    by_name = [names == "other", True]
    assert labels_unread(phase, ids, content).tolist() == [True, by_name[0], False, True]
    assert labels_unread(phase, ids, None).tolist() == [True, by_name[0], True, True]
    assert labels_unread({**phase, "supervised": False}, ids, content).all()
    assert labels_unread({**phase, "steps": 0}, ids, content).all()
    later = {**phase, "ids": short_digests([]), "content": short_digests([]), "before": [phase]}
    assert labels_unread(later, ids, content).tolist() == [True, by_name[0], False, True]
    origins = {**later, "before": [], "origins": {"part": short_digests(["d"])}}
    assert labels_unread(origins, ids, content).tolist() == [True, True, True, False]
    assert not labels_unread({}, ids, content).any()
    assert not labels_unread({**phase, "before": [{}]}, ids, content).any()


# --- neighbours -------------------------------------------------------------------------------------------------------


def test_votes_are_told_as_votes_and_one_neighbour_tells_no_number(drawn, skelcl, tmp_path, capfd):
    predictor = Predictor(drawn["as_cal"], k=5)
    found = predictor.predict(clip_of(predictor))
    (window,) = found.windows
    _, place = predictor.gallery.nearest(torch.from_numpy(window.features)[None], 5)
    count = predictor.gallery.label[place[0]].bincount(minlength=3)
    assert {one.label: one.votes for one in window.top} == {
        predictor.class_names[c]: int(count[c]) for c in range(3) if count[c]
    }
    assert {one.probability for one in window.top} == {None}
    assert found.calibration is None
    np.save(tmp_path / "clip.npy", clip_of(predictor))
    for k in (1, 5):
        words = ["--k", k, "--output", f"{k}.json", "--neighbours", 0]
        skelcl("predict", "--ckpt_path", drawn["as_cal"], "--input", "clip.npy", *words)
        told = capfd.readouterr().out
        (clip,) = json.loads((tmp_path / f"{k}.json").read_text())["clips"]
        best, segment = clip["windows"][0]["top"][0], clip["segments"][0]
        assert best["probability"] is segment["probability"] is clip["calibration"] is None
        assert "probabilities" not in told
        (line,) = [line for line in told.splitlines() if line.startswith("clip: ")]
        if k == 1:
            assert line == f"clip: {best['label']}"
            assert best.keys() == {"label", "probability"}
            assert segment.keys() == {"start", "stop", "label", "probability"}
        else:
            assert best["votes"] == segment["votes"] == window.top[0].votes
            assert line.startswith(f"clip: {best['label']} ({best['votes']} vote")
