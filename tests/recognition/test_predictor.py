"""Clips of your own: the way of the clips of the store, labels three ways, windows, live frames, the cached gallery."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import skelcl as package
from skelcl import Predictor
from skelcl.cli import run
from skelcl.commands.predict import _print_summary, guess_format
from skelcl.data.convert import convert
from skelcl.data.poses.in_memory import batch_clips, clean_clip
from skelcl.data.poses.layouts import map_layout
from skelcl.data.recording import DatasetInfo, Recording, Source
from skelcl.data.synthetic.poses import write_mediapipe
from skelcl.errors import InputError
from skelcl.evaluation import PRESETS, knn_predict, linear_probe
from skelcl.evaluation.gallery import Gallery
from skelcl.evaluation.knn import rank_classes
from skelcl.recognition.prediction import Candidate, Neighbour, Prediction, Recognition, cut, timeline
from skelcl.recognition.training_clips import TrainingClips
from skelcl.runs.loading import load
from skelcl.skeleton import COCO17, MEDIAPIPE33, NTU25

RUNS = {
    "as_cal": ["pretrain/as_cal-nw_ucla.yaml", "--model.encoder.hidden=8", "--model.queue_size=32"],
    "ctr_gcn": ["supervised/ctr_gcn-ntu.yaml", "--model.encoder.widths=[8, 16]", "--model.encoder.strides=[1, 2]"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, drawn_checkpoint):
    """Checkpoints of a self-supervised and a supervised method, on people who come one or two at a time.

    Beside them what ``skelcl predict`` wrote of the one and ``skelcl test`` of the other.
    """
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        paths = {name: drawn_checkpoint(folder / f"{name}.ckpt", *words) for name, words in RUNS.items()}
        run(["predict", "--ckpt_path", str(paths["as_cal"]), "--data.predict_split=all", "--features.path=all.npz"])
        run(["test", "--ckpt_path", str(paths["ctr_gcn"]), "--supervised.figures=false"])
    (scores,) = folder.glob("runs/**/scores.npz")
    return paths | {"features": dict(np.load(folder / "all.npz")), "scores": dict(np.load(scores))}


@pytest.fixture(scope="module")
def as_cal(runs):
    return Predictor(runs["as_cal"])


@pytest.fixture(scope="module")
def ctr_gcn(runs):
    return Predictor(runs["ctr_gcn"], window=20, stride=8)


def clip(predictor, position):
    """A clip as its store holds it."""
    return np.array(predictor.data.store.recording(position))


def assert_same_classes(found, expected):
    """The same classes in the same order, as likely but for the rounding of another batch."""
    assert [one.label for one in found] == [one.label for one in expected]
    np.testing.assert_allclose([one.probability for one in found], [one.probability for one in expected], rtol=1e-5)


def places(predictor, count=12):
    """Test clips, those with gaps and repairs first."""
    test = predictor.data.parts["test"]
    return test[np.argsort(-predictor.data.store.index["flags"][test], kind="stable")][:count]


# --- the way of the store ---------------------------------------------------------------------------------------------


def test_loose_clips_are_those_of_a_store_made_of_them(tmp_path):
    """One body or two, lost joints, lost frames, a body that never comes, frames before the first body."""
    random = np.random.default_rng(0)
    joints = [random.normal(size=(m, 9 + m, 25, 3)).astype(np.float32) for m in (1, 2, 3, 2, 1)]
    joints[0][0, 2:5, 7] = np.nan
    joints[1][1, :4] = np.nan
    joints[1][0, 6, 3] = np.nan
    joints[2][1] = np.nan
    joints[3][0, :3] = np.nan
    recordings = [Recording(f"clip {n}", each, n % 2, zeros=False) for n, each in enumerate(joints)]
    info = DatasetInfo("loose", NTU25, ("a", "b"), 1, "as given")
    sources = [Source(recording.id, n, "") for n, recording in enumerate(recordings)]
    store = convert(tmp_path, info, sources, lambda n: [recordings[n]], kind="test", parameters={}, jobs=1)
    for persons in (1, 2, 3):
        expected = store.clips(np.arange(5), persons)
        cleaned = [clean_clip(recording, NTU25, 3, persons) for recording in recordings]
        found, notices = batch_clips(cleaned, NTU25, persons), [notice for one in cleaned for notice in one.notices]
        for name in ("joints", "offsets", "frames", "bodies", "first", "label", "index"):
            torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0, equal_nan=True)
        assert found.gaps
        assert expected.gaps
        assert {notice["reason"] for notice in notices} == {"missing_joint", "missing_frame"}


def test_clips_of_the_store_get_the_features_and_labels_of_the_run(as_cal, runs):
    """Frozen encoder: the nearest training clip, among the features that `skelcl predict` wrote."""
    features, label = torch.from_numpy(runs["features"]["features"]), torch.from_numpy(runs["features"]["label"])
    train = as_cal.data.parts["train"]
    expected = knn_predict(features[train], label[train], features, 1)
    for position in places(as_cal):
        found = as_cal.predict(clip(as_cal, position))
        np.testing.assert_allclose(found.windows[0].features, features[position], rtol=1e-4, atol=1e-5)
        assert found.label == as_cal.class_names[int(expected[position])]
        assert found.windows[0].top == ((found.label, None, None),)  # one neighbour is no share of anything
        assert found.windows[0].neighbours[0].label == found.label
    assert as_cal.labels_by == "the nearest training clip"


def test_clips_of_the_store_get_the_scores_of_the_test(runs):
    predictor = Predictor(runs["ctr_gcn"], neighbours=0)
    scores = runs["scores"]
    for position in places(predictor):
        found = predictor.predict(clip(predictor, position)).windows[0]
        (row,) = np.flatnonzero(scores["id"] == predictor.data.ids[position])
        expected = torch.from_numpy(scores["logits"][row]).softmax(0)
        order = expected.argsort(descending=True)
        assert [one.label for one in found.top] == [predictor.class_names[c] for c in order]
        np.testing.assert_allclose(
            [one.probability for one in found.top], sorted(expected.tolist(), reverse=True), atol=1e-4
        )
        assert found.neighbours == ()
    assert predictor.labels_by == "the classifier of Supervised"
    assert not predictor.path.with_suffix(".gallery.npz").exists()


@pytest.mark.parametrize("form", ["npz", "npy", "json"])
def test_the_command_reads_a_clip_of_the_store_from_a_file(form, as_cal, runs, skelcl, tmp_path, capfd):
    for position in places(as_cal, 1):
        joints, file = clip(as_cal, position), tmp_path / f"clip{position}.{form}"
        if form == "npy":
            np.save(file, joints)
        elif form == "npz":
            np.savez(file, keypoints=joints, layout=as_cal.skeleton.name, label="a class of my own")
        else:
            file.write_text(json.dumps({"keypoints": np.where(np.isnan(joints), None, joints).tolist()}))
        skelcl("predict", "--ckpt_path", runs["as_cal"], "--input", file, "--output", f"{position}.json")
        found = json.loads((tmp_path / f"{position}.json").read_text())
        (own,) = found["clips"]
        expected = runs["features"]["features"][position]
        np.testing.assert_allclose(own["windows"][0]["features"], expected, rtol=1e-4, atol=1e-5)
        assert own["label"] == as_cal.predict(joints).label
        assert found["labels_by"] == "the nearest training clip"
        assert found["classes"] == as_cal.class_names
    assert "labels by the nearest training clip" in capfd.readouterr().out


# --- labels -----------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000), k=st.integers(1, 9))
def test_votes_prefer_the_class_of_the_nearest_neighbour_classifier(seed, k):
    random = torch.Generator().manual_seed(seed)
    # Few directions: many ties of votes and of similarities.
    features = torch.randint(0, 2, (9, 3), generator=random) + 0.5
    label = torch.randint(0, 4, (9,), generator=random)
    query = torch.randint(0, 2, (5, 3), generator=random) + 0.5
    similarity, place = Gallery(features, label, np.array(list("abcdefghi")), 4).nearest(query, k)
    votes, order = rank_classes(similarity, label[place], 4)
    assert torch.equal(order[:, 0], knn_predict(features, label, query, k, 4))
    assert torch.equal(order.sort(1).values, torch.arange(4).expand(5, 4))
    assert votes.sum(1).tolist() == [k] * 5
    ranked = votes.gather(1, order)
    assert (ranked[:, 1:] <= ranked[:, :-1]).all()


@pytest.mark.parametrize("preset", ["as_cal", "mae_no_augmentation", "sds_cl"])
def test_a_head_gives_the_logits_of_the_evaluation(preset):
    train = (torch.randn(80, 6), torch.randint(0, 3, (80,)))
    test = (torch.randn(20, 6), torch.randint(0, 3, (20,)))
    result = linear_probe(train, test, 3, PRESETS[preset])
    torch.testing.assert_close(result.head(test[0]), result.logits)


def test_labels_by_the_probe_of_the_test(runs):
    predictor = Predictor(runs["as_cal"], labels="probe", neighbours=0)
    features, label = torch.from_numpy(runs["features"]["features"]), torch.from_numpy(runs["features"]["label"])
    train = predictor.data.parts["train"]
    logits = linear_probe((features[train], label[train]), (features, label), 3, PRESETS["as_cal"]).logits
    for position in places(predictor, 4):
        found = predictor.predict(clip(predictor, position))
        expected = (logits[position] / found.calibration.temperature).softmax(0)
        for one in found.windows[0].top:
            assert one.probability == pytest.approx(float(expected[predictor.class_names.index(one.label)]), abs=1e-2)
    assert predictor.labels_by == "a linear probe (as_cal) on the features of the training clips"
    again = Predictor(runs["as_cal"], labels="probe", neighbours=0)
    again.training_clips._encode = None  # neither encoded nor trained again
    heads = [each.training_clips.head("as_cal", 0).weight for each in (predictor, again)]
    assert torch.equal(*heads)


def test_a_training_clip_is_its_own_neighbour(as_cal):
    position = as_cal.data.parts["train"][5]
    window = as_cal.predict(clip(as_cal, position)).windows[0]
    near = window.neighbours[0]
    assert near.id == as_cal.data.ids[position]
    assert near.similarity == pytest.approx(1, abs=1e-5)
    assert [n.similarity for n in window.neighbours] == sorted((n.similarity for n in window.neighbours), reverse=True)


def test_no_labels_need_no_training_clips(runs, monkeypatch):
    predictor = Predictor(runs["as_cal"], labels="none", neighbours=0)
    monkeypatch.setattr(Predictor, "gallery", None)
    found = predictor.predict(clip(predictor, 0))
    assert found.label is None
    assert found.windows[0].top == ()
    assert found.windows[0].features.shape == (8,)


# --- the cached gallery -----------------------------------------------------------------------------------------------


def test_features_of_the_training_clips_are_kept_until_the_checkpoint_changes(runs, tmp_path, monkeypatch):
    path = tmp_path / "net.ckpt"
    path.write_bytes(runs["as_cal"].read_bytes())
    encoded = []
    encode = TrainingClips._encode
    monkeypatch.setattr(TrainingClips, "_encode", lambda self, rows: encoded.append(len(rows)) or encode(self, rows))
    first = Predictor(path).gallery
    again = Predictor(path).gallery
    assert encoded == [18]
    assert torch.equal(again.features, first.features)
    assert again.ids.tolist() == first.ids.tolist()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.ckpt", "net.gallery.npz"]

    (tmp_path / "net.gallery.npz").write_bytes(b"half a file")
    assert torch.equal(Predictor(path).gallery.features, first.features)
    assert len(encoded) == 2

    content = torch.load(path, weights_only=True)
    content["state_dict"] = {name: 1.5 * value for name, value in content["state_dict"].items()}
    torch.save(content, path)
    assert not torch.equal(Predictor(path).gallery.features, first.features)
    assert len(encoded) == 3


# --- windows ----------------------------------------------------------------------------------------------------------


@given(frames=st.integers(1, 90), window=st.integers(1, 30), stride=st.integers(1, 40))
def test_windows_start_at_every_stride_and_reach_the_end(frames, window, stride):
    found = cut(frames, window, stride)
    assert found[0][0] == 0
    assert found[-1][1] == frames
    assert {stop - start for start, stop in found} == {min(frames, window)}
    assert [start for start, _ in found[:-1]] == [n * stride for n in range(len(found) - 1)]
    assert len(found) == 1 + -(-max(0, frames - window) // stride)


def test_every_frame_belongs_to_the_window_whose_middle_is_nearest():
    nothing = np.empty(0, np.float32)
    labels = ["a", "a", "b", None, None, "b"]
    windows = [
        Prediction(8 * n, 8 * n + 20, (Candidate(label, 0.5 + n / 10),) if label else (), nothing)
        for n, label in enumerate(labels)
    ]
    found = timeline(windows)
    assert [(s.start, s.stop, s.label) for s in found] == [(0, 22, "a"), (22, 30, "b"), (30, 46, None), (46, 60, "b")]
    assert [s.probability for s in found] == [pytest.approx(0.55), pytest.approx(0.7), None, pytest.approx(1)]
    for segment in found:
        for frame in range(segment.start, segment.stop):
            distance = [abs(frame + 0.5 - (w.start + w.stop) / 2) for w in windows]
            assert segment.label in [labels[n] for n in range(6) if distance[n] == min(distance)]
    assert Recognition("", tuple(windows)).label == "a"
    assert timeline(()) == ()


def test_a_window_is_judged_as_the_same_clip_alone(ctr_gcn, runs):
    whole = Predictor(runs["ctr_gcn"])
    joints = clip(ctr_gcn, places(ctr_gcn, 1)[0])
    found = ctr_gcn.predict(joints)
    assert len(found.windows) > 2
    for window in found.windows:
        alone = whole.predict(joints[:, window.start : window.stop]).windows[0]
        np.testing.assert_allclose(window.features, alone.features, rtol=1e-4, atol=1e-5)
        assert [one.label for one in window.top] == [one.label for one in alone.top]
        assert [n.id for n in window.neighbours] == [n.id for n in alone.neighbours]
    assert found.segments[0].start == 0
    assert found.segments[-1].stop == joints.shape[1]


def test_live_frames_give_what_predict_gives_for_the_same_window(ctr_gcn, runs):
    joints = clip(ctr_gcn, places(ctr_gcn, 1)[0])
    ctr_gcn.reset()
    for _ in range(2):
        live = [(n + 1, ctr_gcn.push(joints[:, n])) for n in range(joints.shape[1])]
        assert [n for n, found in live if found] == list(range(20, joints.shape[1] + 1, 8))
        for found in (found for _, found in live if found):
            (same,) = ctr_gcn.predict(joints[:, found.start : found.stop]).windows
            assert np.array_equal(found.features, same.features)
            assert_same_classes(found.top, same.top)
            assert found.neighbours == same.neighbours
        ctr_gcn.reset()


def test_a_buffer_may_be_filled_again_for_every_frame(ctr_gcn):
    joints = clip(ctr_gcn, places(ctr_gcn, 1)[0])[:, :20].astype(np.float32)
    ctr_gcn.reset()
    buffer = np.empty_like(joints[:, 0])
    for n in range(20):
        buffer[...] = joints[:, n]
        found = ctr_gcn.push(buffer)
    ctr_gcn.reset()
    (same,) = ctr_gcn.predict(joints).windows
    assert np.array_equal(found.features, same.features)


def test_an_encoder_is_not_blamed_for_coordinates_that_no_body_has(as_cal, monkeypatch):
    joints = np.random.default_rng(0).normal(size=(20, 25, 3)).clip(-1, 1) * 3e38
    with pytest.raises(InputError, match=r"^coordinates up to 3\.0e\+38, larger than any body"):
        as_cal.predict(joints)
    # Large weights overflow at any coordinates.
    with monkeypatch.context() as patch:
        patch.setattr(type(as_cal.method), "forward", lambda self, clips: torch.full((len(clips), 8), torch.nan))
        with pytest.raises(InputError, match="not finite: the weights are too large"):
            as_cal.predict(joints / 3e38)
    weight = as_cal.method.encoder.lstm.weight_ih_l0
    monkeypatch.setattr(weight, "data", weight.data * torch.nan)
    with pytest.raises(InputError, match="weights: the encoder has diverged"):
        as_cal.predict(clip(as_cal, 0))


def test_frames_without_anybody_have_no_label(ctr_gcn):
    joints = clip(ctr_gcn, places(ctr_gcn, 1)[0])[:1]
    joints = np.concatenate([joints, np.full((1, 60, *joints.shape[2:]), np.nan, np.float32)], 1)
    found = ctr_gcn.predict(joints)
    assert found.windows[-1].label is None
    assert "no frame shows a body" in found.windows[-1].problem
    assert found.segments[-1].label is None
    assert found.label in ctr_gcn.class_names
    ctr_gcn.reset()
    assert [ctr_gcn.push(joints[0, 0] * np.nan) for _ in range(20)][-1].label is None
    ctr_gcn.reset()


# --- other layouts ----------------------------------------------------------------------------------------------------


def test_joints_of_another_layout_are_mapped_and_what_is_made_up_is_told(as_cal):
    joints = np.random.default_rng(0).normal(size=(1, 30, 33, 3)).astype(np.float32)
    change = map_layout(MEDIAPIPE33, NTU25)
    same = as_cal.predict(change(joints)).windows[0]
    for layout in ("mediapipe33", MEDIAPIPE33):
        found = as_cal.predict(joints, layout=layout)
        assert np.array_equal(found.windows[0].features, same.features)
        assert "mid spine = +0.25·left shoulder" in found.warnings[0]
    way_out = "was trained on the joints of ntu25; coco17 cannot become .* as --data.layout of its training"
    with pytest.raises(InputError, match=way_out):
        as_cal.predict(np.ones((4, 17, 3)), layout=COCO17)


# --- other frames per second ------------------------------------------------------------------------------------------


def faster(joints, factor):
    """The clip (M, T, V, C) with ``factor`` times the frames, linear in between."""
    frames = np.arange((joints.shape[1] - 1) * factor + 1) / factor
    low = np.floor(frames).astype(int)
    high = np.minimum(low + 1, joints.shape[1] - 1)
    share = (frames - low).astype(np.float32)[:, None, None]
    return (1 - share) * joints[:, low] + share * joints[:, high]


def test_a_recording_of_another_rate_is_resampled_and_told(as_cal):
    joints = np.random.default_rng(0).normal(size=(1, 30, 25, 3)).astype(np.float32)
    expected = as_cal.predict(joints, fps=as_cal.facts.fps)
    assert not any("resampled" in warning for warning in expected.warnings)
    found = as_cal.predict(faster(joints, 4), fps=120)
    assert found.warnings[-1] == "the recording: 120 frames per second resampled to 30, those of the run's data"
    np.testing.assert_allclose(found.windows[0].features, expected.windows[0].features, atol=1e-5)
    assert (found.windows[0].start, found.windows[0].stop) == (0, 117)


@pytest.mark.parametrize("fps", [0, -30, float("nan"), float("inf"), 1e-9, 1e9])
def test_a_rate_that_cannot_be_is_refused_before_frames_are_made(as_cal, fps):
    with pytest.raises(InputError, match=r"fps must be above 0|the recording: .* cannot become 30: one is over 1000"):
        as_cal.predict(np.ones((4, 25, 3)), fps=fps)


def test_a_rate_that_the_network_has_nothing_to_compare_with_is_told(as_cal, monkeypatch):
    joints = np.random.default_rng(0).normal(size=(1, 30, 25, 3)).astype(np.float32)
    own = as_cal.predict(joints)
    monkeypatch.setattr(as_cal, "facts", replace(as_cal.facts, fps=None))
    found = as_cal.predict(joints, fps=120)
    assert found.warnings[-1].startswith("the recording: 120 frames per second taken as they are")
    assert np.array_equal(found.windows[0].features, own.windows[0].features)
    assert as_cal.predict(joints).warnings == own.warnings


def test_joints_that_are_made_up_are_told_once_for_all_clips(as_cal, runs, skelcl, tmp_path, capfd):
    (tmp_path / "clips").mkdir()
    for name in ("a", "b"):
        joints = np.random.default_rng(0).normal(size=(9, 33, 3))
        joints -= joints[:, [23, 24]].mean(1, keepdims=True)  # world landmarks begin between the hips
        np.save(tmp_path / "clips" / f"{name}.npy", joints)
    command = ["predict", "--ckpt_path", runs["as_cal"], "--input", "clips", "--layout", "mediapipe33"]
    skelcl(*command, "--output", "out.json")
    assert capfd.readouterr().out.count("mid spine = ") == 1
    clips = json.loads((tmp_path / "out.json").read_text())["clips"]
    assert all("mid spine = " in clip["warnings"][0] for clip in clips)


def test_windows_last_as_long_as_the_network_is_used_to(ctr_gcn):
    joints = np.random.default_rng(1).normal(size=(1, 45, 25, 3)).astype(np.float32)
    expected, found = ctr_gcn.predict(joints), ctr_gcn.predict(faster(joints, 4), fps=120)
    assert [(one.start, one.stop) for one in found.windows] == [
        (4 * one.start, 4 * one.stop - 3) for one in expected.windows
    ]
    for one, two in zip(found.windows, expected.windows, strict=True):
        np.testing.assert_allclose(one.features, two.features, atol=1e-5)


def test_the_rate_of_files_is_what_they_say_or_what_is_said(as_cal, runs, skelcl, tmp_path, capfd):
    joints = np.random.default_rng(2).normal(size=(1, 30, 25, 3)).astype(np.float32)
    np.savez(tmp_path / "clip.npz", keypoints=faster(joints, 4), fps=120)
    own = as_cal.predict(joints).windows[0].features
    for words, same in (([], True), (["--fps", 120], True), (["--fps", 30], False)):
        command = ["predict", "--ckpt_path", runs["as_cal"], "--input", "clip.npz", "--layout", "ntu25"]
        skelcl(*command, "--output", "out.json", "--overwrite", "true", *words)
        features = json.loads((tmp_path / "out.json").read_text())["clips"][0]["windows"][0]["features"]
        assert np.allclose(features, own, atol=1e-4) == same
        assert ("120 frames per second resampled to 30" in capfd.readouterr().out) == same


# --- the command ------------------------------------------------------------------------------------------------------


def test_a_recording_of_a_pose_estimator_from_file_to_labels_and_picture(runs, skelcl, tmp_path, capfd):
    from PIL import Image

    write_mediapipe(tmp_path / "raw", subjects=1)
    file = sorted((tmp_path / "raw").rglob("*.json"))[0]
    words = ["--output", "out.json", "--window", 16, "--stride", 8, "--neighbours", 2]
    skelcl("predict", "--ckpt_path", runs["ctr_gcn"], "--input", file, *words, "--neighbours_picture", "near.gif")
    told = capfd.readouterr().out
    assert "mediapipe33 → ntu25" in told
    assert "synthesised: spine base" in told
    assert "labels by the classifier of Supervised" in told
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["layout"] == "mediapipe33"
    assert len(found["synthesised"]) > 3
    (clip_,) = found["clips"]
    assert clip_["segments"][-1]["stop"] == clip_["windows"][-1]["stop"]
    assert {len(window["neighbours"]) for window in clip_["windows"]} == {2}
    with Image.open("near.gif") as image:
        assert image.n_frames >= 16
        width = image.width
    small = ["--window=16", "--neighbours=1", "--neighbours_picture=a.gif"]
    skelcl("predict", "--ckpt_path", runs["ctr_gcn"], "--input", file, *small)
    with Image.open("a.gif") as image:
        assert image.width == pytest.approx(2 / 3 * width, rel=0.01)
    assert not [path for path in tmp_path.iterdir() if "part" in path.name]


def test_what_files_look_like(tmp_path):
    def told(name, content):
        file = tmp_path / name / f"clip{Path(name).suffix or '.json'}"
        file.parent.mkdir()
        file.write_text(json.dumps(content))
        return guess_format(file), guess_format(file.parent)

    person = {"image_id": 1, "keypoints": [0] * 51}
    assert told("a.csv", 0) == ("csv", "csv")
    assert told("b.npz", 0) == ("npz", "npz")
    assert told("c", {"keypoints": []}) == ("json", "json")
    assert told("d", [person]) == ("coco", "coco")
    assert told("e", [person | {"idx": 1}]) == ("alphapose", "alphapose")
    assert told("f", [{"landmarks": []}]) == ("mediapipe", "mediapipe")
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "clip_000_keypoints.json").write_text("{}")
    assert guess_format(tmp_path / "g") == "openpose"
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "._hidden.json").write_text("no JSON")
    for place, message in (("h", "looks like no clip"), ("i", "does not exist")):
        with pytest.raises(InputError, match=message):
            guess_format(tmp_path / place)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--input", "x.npy"], 2, "--ckpt_path is missing"),
        (["--input", "x.npy", "--ckpt_path", "x.ckpt", "--output", "old.json"], 1, "old.json exists"),
        (
            ["--input", "x.npy", "--ckpt_path", "x.ckpt", "--neighbours_picture", "a.png"],
            1,
            "must end in .gif, .mp4 or .html",
        ),
        (["--input", "x.npy", "--ckpt_path", "x.ckpt"], 1, "x.npy does not exist"),
        (["--input", "bad.json", "--ckpt_path", "x.ckpt"], 1, "bad.json: not valid JSON"),
        (["--input", "old.json", "--ckpt_path", "x.ckpt"], 1, "x.ckpt: no such checkpoint"),
    ],
)
def test_a_wrong_command_is_one_line(skelcl, tmp_path, capfd, words, code, message):
    (tmp_path / "old.json").write_text("[]")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(SystemExit) as stop:
        skelcl("predict", *words)
    assert stop.value.code == code
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("skelcl: error: ")]
    assert message in line


def test_help_tells_both_kinds_of_prediction(skelcl, capfd):
    for words, text in ((["--input", "x"], "--neighbours_picture"), ([], "skelcl predict --input CLIP --help")):
        with pytest.raises(SystemExit) as stop:
            skelcl("predict", *words, "--help")
        assert stop.value.code == 0
        assert text in capfd.readouterr().out


# --- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "classifier"}, "ASCAL has no classifier: use labels knn or probe, or fine-tune"),
        ({"stride": 3}, "give a window too"),
        ({"window": 0}, "must be at least 1"),
        ({"neighbours": -1}, "neighbours must be at least 0"),
    ],
)
def test_wrong_options(runs, options, message):
    with pytest.raises(InputError, match=message):
        Predictor(runs["as_cal"], **options)


def test_wrong_arrays(as_cal):
    v = as_cal.skeleton.num_joints
    with pytest.raises(InputError, match=r"must be \(T, V, C\) or \(M, T, V, C\), not \(25, 3\)"):
        as_cal.predict(np.ones((25, 3)))
    with pytest.raises(InputError, match=r"holds joints \(7, 3\), not"):
        as_cal.predict(np.ones((4, 7, 3)))
    with pytest.raises(InputError, match="no frame shows a body"):
        as_cal.predict(np.zeros((4, v, 3)))
    with pytest.raises(InputError, match="does not fit"):
        as_cal.predict(np.ones((4, v, 3)), confidence=np.ones((3, v)))
    with pytest.raises(InputError, match="push needs windows"):
        as_cal.push(np.ones((v, 3)))


def test_a_frame_of_other_joints(ctr_gcn):
    v = ctr_gcn.skeleton.num_joints
    ctr_gcn.reset()
    for frame in ("a frame", [[1.0, 2.0, 3.0], [1.0]], {"x": 1}):
        with pytest.raises(InputError, match="a frame must be numbers"):
            ctr_gcn.push(frame)
    ctr_gcn.push(np.ones((v, 3)))
    told = r"a frame must be \(25, 3\) or \(M, 25, 3\) as the frames before, not \(2, 24, 3\)"
    with pytest.raises(InputError, match=told):
        ctr_gcn.push(np.ones((2, v - 1, 3)))
    ctr_gcn.reset()


@pytest.mark.parametrize("windows", [1, 2])
def test_names_of_others_are_shown_as_text(capsys, windows):
    name, features = "a\x1b[2J\nb", np.zeros(1, np.float32)
    near = (Neighbour(name, name, 0.5),)
    shown = tuple(Prediction(n, n + 1, (Candidate(f"{name}{n}", 1.0),), features, near) for n in range(windows))
    _print_summary(name, Recognition("knn", shown), [f"{name} is odd"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + windows  # the clip, its neighbour or its segments, a remark
    assert lines[0].startswith("a [2J b: ")
    assert all(line.isprintable() for line in lines)


def test_people_come_and_go_between_live_frames(ctr_gcn):
    joints = clip(ctr_gcn, places(ctr_gcn, 1)[0])[:, :20].astype(np.float32)
    second = joints[:1] + np.float32([1, 0, 0])
    people = np.concatenate([joints[:1], np.full_like(second, np.nan)])
    people[1, 5:9] = second[0, 5:9]
    people[0, 15] = np.nan
    ctr_gcn.reset()
    for n in range(20):
        there = 2 if 5 <= n < 9 else 0 if n == 15 else 1
        found = ctr_gcn.push(people[0, n] if n == 0 else people[:there, n])
    ctr_gcn.reset()
    (same,) = ctr_gcn.predict(people).windows
    assert found is not None
    assert np.array_equal(found.features, same.features)
    assert_same_classes(found.top, same.top)
    for _ in range(19):
        assert ctr_gcn.push(np.empty((0, *joints.shape[2:]))) is None
    assert "no frame shows a body" in ctr_gcn.push(np.empty((0, *joints.shape[2:]))).problem
    ctr_gcn.reset()


def test_a_joint_that_is_hidden_for_a_whole_window_hangs_on_its_parent(ctr_gcn):
    joints = clip(ctr_gcn, places(ctr_gcn, 1)[0])[:1, :20].astype(np.float32)
    skeleton = ctr_gcn.skeleton
    hand = next(
        joint for joint in range(skeleton.num_joints) if joint not in skeleton.parents and joint != skeleton.root
    )
    hidden, placed = joints.copy(), joints.copy()
    hidden[:, :, hand] = np.nan
    placed[:, :, hand] = joints[:, :, skeleton.parents[hand]]
    ctr_gcn.reset()
    for n in range(20):
        found = ctr_gcn.push(hidden[:, n])
    ctr_gcn.reset()
    assert found is not None
    assert not found.problem
    (same,) = ctr_gcn.predict(placed).windows
    assert np.array_equal(found.features, same.features)
    assert_same_classes(found.top, same.top)


def test_the_package_has_a_predictor_and_nothing_else_new():
    assert package.Predictor is Predictor
    with pytest.raises(AttributeError, match="no attribute 'Predicter'"):
        package.Predicter  # noqa: B018


def test_load_leaves_the_run_as_it_is(runs):
    before = runs["as_cal"].read_bytes()
    Predictor(runs["as_cal"], neighbours=0, labels="none")
    load(runs["as_cal"])
    assert runs["as_cal"].read_bytes() == before
