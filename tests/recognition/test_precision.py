"""Clips of your own by an encoder that multiplies in bfloat16: near the features of float32, and the same labels."""

import json

import numpy as np
import pytest
import torch

from skelcl import Predictor
from skelcl.cli import run

RUNS = {
    "as_cal": ["pretrain/as_cal-nw_ucla.yaml", "--model.encoder.hidden=16"],
    "ctr_gcn": ["supervised/ctr_gcn-ntu.yaml", "--model.encoder.widths=[8, 16]", "--model.encoder.strides=[1, 2]"],
}
TOLERANCE = 1e-3
"""Cosine distance: bfloat16 has steps of 2⁻⁸, and errors of several layers hardly add up."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory, drawn_checkpoint):
    folder = tmp_path_factory.mktemp("precision")
    paths = {name: folder / f"{name}.ckpt" for name in RUNS}
    for name, words in RUNS.items():
        drawn_checkpoint(paths[name], *words)
    return paths


def distance(one, other):
    return 1 - float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("name", RUNS)
def test_features_are_near_those_of_float32_and_labels_are_the_same(runs, name):
    exact, mixed = (Predictor(runs[name], "cpu", precision=one) for one in ("32-true", "bf16-mixed"))
    store = exact.data.store
    equal = []
    for position in exact.data.parts["test"]:
        one, other = (predictor.predict(np.array(store.recording(position))) for predictor in (exact, mixed))
        a, b = one.windows[0].features, other.windows[0].features
        assert b.dtype == np.float32
        assert not np.array_equal(a, b)
        assert distance(a, b) < TOLERANCE
        equal.append(one.label == other.label)
    assert np.mean(equal) >= 0.9  # drawn weights: classes may be as good as equal


def test_training_clips_are_kept_in_float32_for_any_precision(runs, tmp_path):
    path = tmp_path / "net.ckpt"
    path.write_bytes(runs["as_cal"].read_bytes())
    torch.testing.assert_close(
        Predictor(path, "cpu", precision="bf16-mixed").gallery.features,
        Predictor(runs["as_cal"], "cpu").gallery.features,
        rtol=0,
        atol=0,
    )


def test_live_frames_of_a_network_go_the_same_way(runs):
    live = Predictor(runs["ctr_gcn"], "cpu", neighbours=0, window=12, precision="bf16-mixed")
    frames = np.random.default_rng(0).normal(size=(12, 25, 3)).astype(np.float32)
    found = [live.push(frame) for frame in frames][-1]
    np.testing.assert_allclose(found.features, live.predict(frames).windows[0].features, rtol=0, atol=1e-6)


def test_predict_takes_it(runs, tmp_path):
    clip = tmp_path / "clip.npy"
    np.save(clip, np.random.default_rng(0).normal(size=(30, 25, 3)).astype(np.float32))
    found = []
    for precision in ("32-true", "bf16-mixed"):
        output = tmp_path / f"{precision}.json"
        words = ["--ckpt_path", runs["ctr_gcn"], "--input", clip, "--output", output, "--precision", precision]
        run(["predict", *map(str, words), "--device=cpu", "--neighbours=0"])
        content = json.loads(output.read_text())
        assert content["precision"] == precision
        found.append(np.array(content["clips"][0]["windows"][0]["features"]))
    assert 0 < distance(*found) < TOLERANCE
