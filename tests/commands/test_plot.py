"""``skelcl plot``: each verb reads what other verbs wrote, writes one picture, and says in one line what is wrong."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from PIL import Image

import skelcl.plotting
from skelcl.commands.lightning import SkelCLI
from skelcl.data.store import SkeletonStore
from skelcl.encoders import LSTM
from skelcl.plotting.maps import by_part
from skelcl.plotting.run_files import read_confusion, read_per_class, run_names
from skelcl.runs.loading import load
from skelcl.runs.trust import CONFIG_KEY
from skelcl.skeleton import MEDIAPIPE33

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RUN = EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml"
CLIP = "a01_s01_e00_v01"


@pytest.fixture
def store(ucla):
    return ucla / "nw-ucla"


@pytest.fixture
def drawing(monkeypatch):
    """What was handed over to be saved: ``figure`` or ``animation``; it is saved, too."""
    seen = {}

    def keep(name, function):
        def save(picture, path):
            seen[name] = picture
            function(picture, path)

        monkeypatch.setattr(skelcl.plotting, f"save_{name}", save)

    keep("figure", skelcl.plotting.save_figure)
    keep("animation", skelcl.plotting.save_animation)
    return seen


@pytest.fixture
def checkpoint(ucla, tmp_path):
    """Writes a checkpoint of an untrained run with some encoder."""

    def write(*encoder):
        words = ["--config", str(RUN), f"--data.root={ucla}", "--trainer.logger=false", *encoder]
        cli = SkelCLI(save_config_callback=None, run=False, args=words)
        for parameter in cli.model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        text = cli.parser.dump(cli.config, skip_none=False)
        torch.save({"state_dict": cli.model.state_dict(), CONFIG_KEY: text}, tmp_path / "run.ckpt")
        return tmp_path / "run.ckpt"

    return write


def frames(file):
    with Image.open(file) as picture:
        return picture.n_frames


def fails(capfd, skelcl, *words, code=1):
    """The one line that a command leaves on stderr."""
    with pytest.raises(SystemExit) as stop:
        skelcl("plot", *words)
    assert stop.value.code == code
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("skelcl: error: ")]
    return line


def test_skeleton_of_a_store(skelcl, store, drawing, capfd):
    content = SkeletonStore(store)
    skelcl("plot", "skeleton", "--store", store, "--clip", CLIP)
    joints = content.recording(list(content.ids).index(CLIP))
    assert frames("skeleton.gif") == joints.shape[1]
    np.testing.assert_allclose(drawing["animation"].clips[0], joints)
    assert drawing["animation"].titles == [CLIP]
    assert drawing["animation"].fps == (content.meta["fps"] or 20)
    assert capfd.readouterr().out == "wrote skeleton.gif\n"
    skelcl("plot", "skeleton", "--store", store, "--output", "longest.html", "--fps", "7")
    assert drawing["animation"].frames == content.index["n_frames"].max()
    assert '"fps":7.0' in Path("longest.html").read_text()
    line = fails(capfd, skelcl, "skeleton", "--store", store, "--clip", "a1")
    assert "holds no clip 'a1'; its ids look like 'a01_s01_e00_v01'" in line
    assert "no store at nowhere" in fails(capfd, skelcl, "skeleton", "--store", "nowhere")
    assert "either --store or --input" in fails(capfd, skelcl, "skeleton", code=2)
    assert "must end in .gif, .mp4 or .html" in fails(capfd, skelcl, "skeleton", "--store", store, "--output", "a.png")
    assert sorted(os.listdir()) == ["longest.html", "skeleton.gif"]


def test_skeletons_side_by_side(skelcl, store, drawing, capfd):
    content = SkeletonStore(store)
    chosen = [CLIP, "a03_s02_e00_v01"]
    skelcl("plot", "skeleton", "--store", store, "--clip", f"[{', '.join(chosen)}]", "--output", "two.gif")
    for clip, name in zip(drawing["animation"].clips, chosen, strict=True):
        np.testing.assert_allclose(clip, content.recording(content.position(name)))
    assert drawing["animation"].titles == [content.meta["classes"][n] for n in (0, 2)]
    assert frames("two.gif") == max(clip.shape[1] for clip in drawing["animation"].clips)
    assert "holds no clip 'a9'" in fails(capfd, skelcl, "skeleton", "--store", store, "--clip", f"[{CLIP}, a9]")


def test_skeleton_of_a_file(skelcl, drawing, capfd):
    random = np.random.default_rng(0)
    people = random.normal(size=(3, 4, 33, 3)).astype(np.float32)
    people[2, :3] = 0  # seen in a single frame: the other two are shown
    np.savez("clip.npz", keypoints=people, fps=15)
    skelcl("plot", "skeleton", "--input", "clip.npz", "--layout", "mediapipe33", "--output", "clip.gif")
    animation = drawing["animation"]
    np.testing.assert_allclose(animation.clips[0], people[:2])
    assert (animation.skeleton, animation.fps, frames("clip.gif")) == (MEDIAPIPE33, 15, 4)
    segments = [c for c in animation.figure.axes[0].collections if isinstance(c, LineCollection)]
    assert len(segments) == 2

    point = {"x": 0.5, "y": 0.25, "z": 0.0, "visibility": 0.9}
    Path("landmarks.json").write_text(json.dumps([{"landmarks": [point] * 33}] * 2))
    skelcl("plot", "skeleton", "--input", "landmarks.json", "--format", "mediapipe", "--output", "clip.html")
    np.testing.assert_allclose(drawing["animation"].clips[0][..., 1], -0.25)  # upwards
    told = drawing["animation"].clips[0]
    skelcl("plot", "skeleton", "--input", "landmarks.json", "--output", "guessed.html")
    np.testing.assert_array_equal(drawing["animation"].clips[0], told)
    assert "--layout is missing" in fails(capfd, skelcl, "skeleton", "--input", "clip.npz")
    assert "not 25 joints of ntu25" in fails(capfd, skelcl, "skeleton", "--input", "clip.npz", "--layout", "ntu25")
    assert "no layout 'kinect'" in fails(capfd, skelcl, "skeleton", "--input", "clip.npz", "--layout", "kinect", code=2)
    Path("clip.bin").write_bytes(b"")
    assert "looks like no clip; say what it is with --format" in fails(capfd, skelcl, "skeleton", "--input", "clip.bin")
    assert "none.npz does not exist" in fails(capfd, skelcl, "skeleton", "--input", "none.npz")
    capfd.readouterr()
    skelcl("plot", "skeleton", "--input", "landmarks.json", "--output", "wide.html", "--aspect", "2/1")
    np.testing.assert_array_equal(drawing["animation"].clips[0], told * np.array([2, 1], np.float32))
    assert "note" not in capfd.readouterr().out
    np.save("few.npy", people[:2].swapaxes(0, 1))
    chosen = ["--input", "few.npy", "--layout", "mediapipe33", "--output", "few.html"]
    assert "--axes" in fails(capfd, skelcl, "skeleton", *chosen)
    skelcl("plot", "skeleton", *chosen, "--axes", "TMVC")
    np.testing.assert_allclose(drawing["animation"].clips[0], people[:2])
    for option, value in (("--axes", "TVM"), ("--aspect", "wide")):
        assert f"{option} {value}: must" in fails(capfd, skelcl, "skeleton", *chosen, option, value, code=2)
    told = fails(capfd, skelcl, "skeleton", "--input", "clip.npz", "--format", "excel", code=2)
    assert "--format must be one of " in told
    assert "csv, npy, npz, json" in told
    (Path("two") / "a").mkdir(parents=True)
    for name in ("two/a.npz", "two/a/b.npz"):
        np.savez(name, keypoints=people)
    assert "holds 2 clips; name one" in fails(capfd, skelcl, "skeleton", "--input", "two", "--format", "npz")


def test_views_as_a_page(skelcl, checkpoint):
    skelcl(
        "plot", "views", "--ckpt_path", checkpoint("--model.encoder.hidden=4"), "--output", "views.html", "--views=1"
    )
    page = Path("views.html").read_text()
    assert '"title":"deterministic view"' in page
    assert '"title":"random view 1"' in page


def test_maps_of_a_checkpoint(skelcl, checkpoint, drawing, capfd, monkeypatch):
    file = checkpoint("--model.encoder=CTRGCN", "--model.encoder.widths=[8,8]", "--model.encoder.strides=[1,1]")
    skelcl("plot", "maps", "--ckpt_path", file, "--clip", CLIP)
    model, data = load(file)
    monkeypatch.setattr("skelcl.runs.loading.load_method", lambda path, trust: (model, data.facts))  # once is enough
    monkeypatch.setattr("skelcl.runs.loading.load_data", lambda path, facts, trust: data)
    maps = model.encoder.maps(model.eval_view(data.store.clips([data.store.position(CLIP)], 1)))
    order = by_part(data.skeleton)
    wanted = torch.cat([values[0, 0].mean(1) for values in maps.values()])[:, order][:, :, order]
    shown = [axes.images[0].get_array() for axes in drawing["figure"].axes if axes.images]
    np.testing.assert_allclose(np.stack(shown), wanted.numpy(), rtol=1e-5, atol=1e-6)
    assert [text.get_text() for text in drawing["figure"].texts][2] == f"CTRGCN on {CLIP}"
    skelcl("plot", "maps", "--ckpt_path", file, "--layer", "blocks.1.spatial", "--output", "maps.pdf")
    assert Path("maps.pdf").read_bytes().startswith(b"%PDF")
    line = fails(capfd, skelcl, "maps", "--ckpt_path", file, "--layer", "blocks.2.spatial", code=2)
    assert line.endswith(
        "--layer blocks.2.spatial: the layers with maps of CTRGCN are blocks.0.spatial, blocks.1.spatial"
    )
    assert "CTRGCN has no maps between frames" in fails(capfd, skelcl, "maps", "--ckpt_path", file, "--over", "frames")
    assert "--body 2: the encoder sees 1 bodies" in fails(
        capfd, skelcl, "maps", "--ckpt_path", file, "--body", "2", code=2
    )
    assert "holds no clip 'x'" in fails(capfd, skelcl, "maps", "--ckpt_path", file, "--clip", "x")
    assert "--ckpt_path is missing" in fails(capfd, skelcl, "maps", "--output", "a.png", code=2)
    model.encoder = LSTM(data.skeleton)
    line = fails(capfd, skelcl, "maps", "--ckpt_path", file)
    assert line.endswith("run.ckpt: LSTM has no maps between joints, there is nothing to show")


def features(file="features.npz", **changes):
    random = np.random.default_rng(0)
    content = {
        "features": random.normal(size=(30, 4)).astype(np.float32),
        "label": np.arange(30) % 3,
        "class_names": np.array(["a", "b", "c"]),
    }
    np.savez(file, **{key: value for key, value in {**content, **changes}.items() if value is not None})


def test_embedding(skelcl, drawing, capfd):
    features()
    skelcl("plot", "embedding", "--input", "features.npz")
    axes = drawing["figure"].axes[0]
    assert len(axes.collections[0].get_offsets()) == 30
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "c"]
    with Image.open("embedding.png") as picture:
        assert picture.size == (1290, 930)
    features(class_names=np.array([], str))
    skelcl("plot", "embedding", "--input", "features.npz", "--method", "tsne")
    assert drawing["figure"].axes[0].get_xlabel() == "t-SNE 1"
    assert [text.get_text() for text in drawing["figure"].axes[0].get_legend().get_texts()] == ["0", "1", "2"]
    for changes, told in (
        ({"label": None}, "not what `skelcl predict` writes"),
        ({"features": np.zeros(3)}, "not what `skelcl predict` writes"),
        ({"label": np.arange(30)}, "needs a label in 0…2"),
        ({"features": np.full((30, 4), np.nan)}, "finite features"),
    ):
        features("bad.npz", **changes)
        line = fails(capfd, skelcl, "embedding", "--input", "bad.npz")
        assert "bad.npz" in line
        assert told in line
    assert "`skelcl predict` writes it" in fails(capfd, skelcl, "embedding", "--input", "none.npz")
    assert "umap" in fails(capfd, skelcl, "embedding", "--input", "features.npz", "--method", "umap", code=2)


def write(file, rows):
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def test_confusion(skelcl, drawing, capfd):
    write("confusion.csv", [["true \\ predicted", "a,b", "c"], ["a,b", 3, 1], ["c", 0, 4]])
    skelcl("plot", "confusion", "--input", "confusion.csv", "--output", "deep/confusion.svg")
    np.testing.assert_allclose(drawing["figure"].axes[0].images[0].get_array(), [[75, 25], [0, 100]])
    assert Path("deep/confusion.svg").read_text().startswith("<?xml")
    for rows, told in (
        ([["", "a", "b"], ["a", 1, 2], ["c", 1, 2]], "its rows and its columns must be the same classes"),
        ([["", "a", "b"], ["a", 1, 2], ["b", 1]], "line 3: 2 cells, but the header has 3"),
        ([["", "a", "b"], ["a", 1, "x"], ["b", 1, 2]], "line 2: b is 'x', not a number"),
        ([["", "a"], ["a", -1]], "counts are missing or negative"),
        ([["", "a"]], "a header and rows are needed"),
    ):
        write("bad.csv", rows)
        assert told in fails(capfd, skelcl, "confusion", "--input", "bad.csv")
    Path("bad.csv").write_bytes(b"\xff\xfe")
    assert "bad.csv: no table" in fails(capfd, skelcl, "confusion", "--input", "bad.csv")
    assert "none.csv: cannot be read" in fails(capfd, skelcl, "confusion", "--input", "none.csv")


def per_class(run, *accuracies, support=(4, 2, 0), names=("sit", "stand", "never")):
    head = [
        "class",
        "test/support",
        "test/knn_top1",
        "test/linear_top1",
        "test_clean/support",
        "test_clean/linear_top1",
    ]
    rows = [[name, n, 0.5, a, n, 0.1] for name, n, a in zip(names, support, accuracies, strict=True)]
    write(f"{run}/per_class.csv", [head, *rows])


def test_change(skelcl, drawing, capfd):
    per_class("runs/a/version_1", 0.25, 0.5, "")
    per_class("runs/b/version_1", 0.75, 0.0, "")
    skelcl("plot", "change", "runs/a/version_1", "runs/b/version_1/per_class.csv")
    axes = drawing["figure"].axes[0]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], [-50, 50])
    assert axes.get_title(loc="left").startswith("test/linear_top1: a/version_1 → b/version_1\n")
    assert Path("change.png").exists()
    skelcl("plot", "change", "runs/a/version_1", "runs/b/version_1", "--metric", "test/knn_top1")
    assert [bar.get_width() for bar in drawing["figure"].axes[0].patches] == [0, 0, 0]
    two = ("change", "runs/a/version_1", "runs/c")
    for arguments, options, told in (
        ((0, 0, 0), {"support": (4, 3, 0)}, "not tested on the same clips: they have 2 and 3 clips of 'stand'"),
        ((0, 0, 0), {"names": ("sit", "stand", "wave")}, "the classes differ"),
        ((0, "x", 0), {}, "line 3: test/linear_top1 is 'x', not a number"),
        ((0, 0, 0), {"support": (4, "1" * 5000, 0)}, "not a number of clips"),
        ((0, 0, 0), {"support": (4, "", 0)}, "line 3: test/support is '', not a number of clips"),
    ):
        per_class("runs/c", *arguments, **options)
        assert told in fails(capfd, skelcl, *two)
    assert "did you mean 'test/linear_top1'" in fails(capfd, skelcl, *two, "--metric", "test/linear_top")
    assert "runs/a/version_1 is given twice" in fails(capfd, skelcl, "change", "runs/a/version_1", "runs/a/version_1")
    assert "none: no such file; `skelcl test` writes it" in fails(capfd, skelcl, "change", "none", "runs/c")
    assert "run_b" in fails(capfd, skelcl, "change", "runs/c", code=2)


def robust(run, **accuracies):
    """What ``skelcl evaluate`` writes of the robustness of a learned and a random encoder."""
    who = [(encoder, judge, subset) for encoder in ("learned", "random") for judge in ("knn", "linear")
           for subset in ("test", "test_clean")]  # fmt: skip

    def row(encoder, judge, subset, top1):
        seen = top1 / (1 if judge == "knn" else 2) if (encoder, subset) == ("learned", "test") else 0.0
        return {"encoder": encoder, "judge": judge, "subset": subset, "top1": seen}

    damaged = [
        {"corruption": name, "severity": float(severity), **row(*one, value)}
        for name, values in accuracies.items()
        for severity, value in enumerate(values, 1)
        for one in who
    ]
    content = {"metrics": {}, "robustness": damaged, "robustness_clean": [row(*one, 0.9) for one in who]}
    Path(run).mkdir(parents=True)
    (Path(run) / "results.json").write_text(json.dumps(content))


def test_robustness(skelcl, drawing, capfd):
    robust("runs/a", jitter=[0.8, 0.5], view=[0.7, 0.6])
    robust("runs/b", jitter=[0.6, 0.1])
    skelcl("plot", "robustness", "runs/a/results.json", "runs/b", "--output", "robust.png")
    noise, speed = drawing["figure"].axes
    assert (noise.get_title(loc="left"), speed.get_title(loc="left")) == ("jitter", "view")
    assert (noise.get_xlabel(), speed.get_xlabel()) == ("noise in cm", "turn in degrees")
    lines = {line.get_label(): line.get_xydata() for line in noise.lines}
    np.testing.assert_allclose(lines["a"], [[0, 90], [1, 80], [2, 50]])
    np.testing.assert_allclose(lines["b"], [[0, 90], [1, 60], [2, 10]])
    skelcl("plot", "robustness", "runs/a", "--judge", "linear")
    np.testing.assert_allclose(drawing["figure"].axes[0].lines[0].get_xydata(), [[0, 45], [1, 40], [2, 25]])
    assert Path("robustness.png").exists()
    assert "did you mean 'linear'?" in fails(capfd, skelcl, "robustness", "runs/a", "--judge", "lineal")
    Path("plain.json").write_text('{"metrics": {"test/knn_top1": 0.5}}')
    assert "holds no accuracies on damaged clips" in fails(capfd, skelcl, "robustness", "plain.json")
    Path("plain.json").write_text('{"robustness": [{"encoder": "learned"}]}')
    assert "plain.json: not the results of an evaluation" in fails(capfd, skelcl, "robustness", "plain.json")
    Path("plain.json").write_text("{")
    assert "plain.json: not the results of an evaluation" in fails(capfd, skelcl, "robustness", "plain.json")


def test_early(skelcl, drawing, capfd):
    for run, share in (("a", 1.0), ("b", 0.5)):
        shares = {f"{percent}": share * percent / 100 for percent in (10, 50, 100)}
        metrics = {f"test/early_{judge}_top1_{one}": value / (1 if judge == "knn" else 2)
                   for judge in ("linear", "knn") for one, value in shares.items()}  # fmt: skip
        Path("runs", run).mkdir(parents=True)
        Path("runs", run, "results.json").write_text(json.dumps({"metrics": {**metrics, "test/early_knn_top1": 0.5}}))
    skelcl("plot", "early", "runs/a/results.json", "runs/b")
    assert Path("early.png").stat().st_size > 1000
    (axes,) = drawing["figure"].axes
    lines = {line.get_label(): line.get_xydata() for line in axes.lines}
    np.testing.assert_allclose(lines["a"], [[10, 10], [50, 50], [100, 100]])
    np.testing.assert_allclose(lines["b"], [[10, 5], [50, 25], [100, 50]])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("% of the clip seen", "top-1 (knn) in %")
    skelcl("plot", "early", "runs/a", "--judge", "linear", "--output", "linear.png")
    np.testing.assert_allclose(drawing["figure"].axes[0].lines[0].get_ydata(), [5, 25, 50])
    assert "has no judge own" in fails(capfd, skelcl, "early", "runs/a", "--judge", "own")
    Path("plain.json").write_text('{"metrics": {"test/knn_top1": 0.5}}')
    assert "holds no accuracies on beginnings of clips" in fails(capfd, skelcl, "early", "plain.json")
    for damaged in ("{", "[]", '{"metrics": {"test/early_knn_top1_x": 0.5}}', '{"metrics": {"a": null}}'):
        Path("plain.json").write_text(damaged)
        assert "plain.json: not the results of an evaluation" in fails(capfd, skelcl, "early", "plain.json")


def test_curves(skelcl, drawing, capfd):
    """Lightning writes a row for each moment of logging; a metric fills some of them."""
    head = ["epoch", "step", "train/loss", "val/knn_top1"]
    write("runs/a/metrics.csv", [head, [0, 9, "", 0.5], [0, 9, 3.5, ""], [1, 19, "", 0.6], [1, 19, 2.5, ""]])
    write("runs/b/metrics.csv", [head, [0, 4, 4.0, ""]])
    skelcl("plot", "curves", "runs/a", "runs/b/metrics.csv")
    one, two = drawing["figure"].axes[0].lines
    assert (one.get_label(), two.get_label()) == ("a", "b")
    np.testing.assert_allclose(one.get_xydata(), [[0, 3.5], [1, 2.5]])
    np.testing.assert_allclose(two.get_xydata(), [[0, 4]])
    skelcl("plot", "curves", "--metric=val/knn_top1", "--x", "step", "runs/a", "--output", "knn.png")
    np.testing.assert_allclose(drawing["figure"].axes[0].lines[0].get_xydata(), [[9, 0.5], [19, 0.6]])
    assert Path("knn.png").exists()
    assert "did you mean 'train/loss'" in fails(capfd, skelcl, "curves", "runs/a", "--metric", "train/los")
    assert "holds no value of val/knn_top1" in fails(capfd, skelcl, "curves", "runs/b", "--metric", "val/knn_top1")
    assert "none: no such file; `skelcl fit` writes it" in fails(capfd, skelcl, "curves", "none")


def test_names_of_runs_are_what_their_paths_do_not_share():
    assert run_names([Path("runs/a/version_0")]) == ["a/version_0"]
    assert run_names([Path("runs/a/version_0/metrics.csv"), Path("runs/b/version_0")]) == ["a/version_0", "b/version_0"]
    assert run_names([Path("runs/a"), Path("runs/a/version_0")]) == ["a", "a/version_0"]


def test_tables_are_those_that_a_test_writes(tmp_path):
    from skelcl.evaluation.report import write_confusion, write_per_class

    label, predicted, names = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1]), ["a", "b", "never"]
    counts = write_confusion(tmp_path / "confusion.csv", label, predicted, names)
    found, found_names = read_confusion(tmp_path / "confusion.csv")
    np.testing.assert_array_equal(found, counts.numpy())
    assert found_names == names
    subsets = {"test": torch.ones(4, dtype=torch.bool), "test_clean": torch.arange(4) > 0}
    write_per_class(tmp_path / "per_class.csv", label, {"top1": predicted}, subsets, names)
    found_names, clips, accuracy, metric = read_per_class(tmp_path)
    assert (found_names, clips, metric) == (names, {"a": 2, "b": 2, "never": 0}, "test/top1")
    np.testing.assert_array_equal(accuracy, [0.5, 1, np.nan])


@pytest.mark.parametrize("verb", ["skeleton", "maps", "change", "robustness", "early", "curves"])
def test_help_names_the_options(skelcl, verb, capfd):
    with pytest.raises(SystemExit) as stop:
        skelcl("plot", verb, "--help")
    assert stop.value.code == 0
    text = capfd.readouterr().out
    assert f"skelcl plot {'' if verb in ('robustness', 'early', 'curves') else '[options] '}{verb}" in text
    assert "--output" in text
