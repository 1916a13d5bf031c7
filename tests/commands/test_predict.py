"""`skelcl predict` on folders: every clip as it is alone, broken files, what the output holds, and memory."""

import json

import numpy as np
import pytest
from memory import memory_below

from skelcl import Predictor
from skelcl.data.bodies import BodyFrames
from skelcl.data.formats.ntu_skeleton import write_skeleton
from skelcl.data.formats.pku_text import write_skeleton as write_pku
from skelcl.data.poses.contents import Poses
from skelcl.errors import InputError
from skelcl.recognition import predictor as batching

RUNS = {
    "as_cal": ["pretrain/as_cal-nw_ucla.yaml", "--model.encoder.hidden=8", "--model.queue_size=32"],
    "ctr_gcn": ["supervised/ctr_gcn-ntu.yaml", "--model.encoder.widths=[8, 16]", "--model.encoder.strides=[1, 2]"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, drawn_checkpoint):
    folder = tmp_path_factory.mktemp("runs")
    return {name: drawn_checkpoint(folder / f"{name}.ckpt", *words) for name, words in RUNS.items()}


@pytest.fixture
def command(skelcl, runs, tmp_path):
    """Runs ``skelcl predict`` on the folder ``clips`` with the features of AS-CAL alone; gives what it wrote."""

    def predict(*words, output="out.json", run="as_cal"):
        own = ["--ckpt_path", runs[run], "--input", "clips", "--layout", "ntu25", "--output", output]
        skelcl("predict", *own, *([] if run == "ctr_gcn" else ["--labels", "none"]), "--neighbours", 0, *words)
        text = (tmp_path / output).read_text()
        return [json.loads(line) for line in text.splitlines()] if output.endswith("l") else json.loads(text)

    (tmp_path / "clips").mkdir()
    return predict


def people(frames, bodies=1, seed=0):
    """(M, T, 25, 3) of bodies that move."""
    random = np.random.default_rng(seed)
    return (random.normal(size=(bodies, 1, 25, 3)) + 0.02 * random.normal(size=(bodies, frames, 25, 3))).astype("f4")


def various():
    """Clips of other lengths, bodies and rates; some with joints or frames that nobody saw, one that shows nobody."""
    clips = [Poses(people(20 + 7 * n, 1 + n % 2, n)) for n in range(9)]
    clips[1].joints[0, 3:6, 4] = np.nan
    clips[2].joints[0, :4] = np.nan
    clips[4].joints[:] = np.nan
    clips[5] = Poses(people(80, 1, 5), fps=60.0)
    clips[6] = Poses(people(90, 2, 6), fps=60.0)
    clips[7].joints[1, 30:] = np.nan
    return clips


@pytest.mark.parametrize("window", [None, 20])
@pytest.mark.parametrize("run", RUNS)
def test_each_clip_of_many_is_seen_as_when_it_is_alone(runs, run, window, monkeypatch):
    """The oracle: one after the other. Batches of 4 windows and of 150 rows take all of them differently apart."""
    monkeypatch.setattr(batching, "BATCH", 4)
    predictor = Predictor(runs[run], labels="auto" if run == "ctr_gcn" else "none", neighbours=0, window=window)
    reader, clips = predictor.reader("ntu25"), various()
    for rows in (1 << 16, 150):
        monkeypatch.setattr(batching, "ROWS", rows)
        found = list(predictor.recognise_all((clip, reader, f"clip {n}") for n, clip in enumerate(clips)))
        for n, (clip, seen) in enumerate(zip(clips, found, strict=True)):
            if n == 4 and window is None:
                assert isinstance(seen, InputError)
                assert str(seen) == "clip 4: no frame shows a body"
                continue
            alone = predictor.recognise(clip, reader, f"clip {n}")
            assert seen.warnings == alone.warnings
            assert seen.segments[-1].stop == clip.joints.shape[1]
            assert [(one.start, one.stop, one.label) for one in seen.windows] == [
                (one.start, one.stop, one.label) for one in alone.windows
            ]
            for one, other in zip(seen.windows, alone.windows, strict=True):
                np.testing.assert_allclose(one.features, other.features, rtol=1e-5, atol=1e-5)


def test_no_more_is_read_than_a_batch_needs(runs, monkeypatch):
    monkeypatch.setattr(batching, "BATCH", 4)
    predictor = Predictor(runs["as_cal"], labels="none", neighbours=0)
    reader, taken = predictor.reader("ntu25"), []

    def recordings():
        for n in range(20):
            taken.append(n)
            yield Poses(people(20, 1, n)), reader, str(n)

    for done, found in enumerate(predictor.recognise_all(recordings())):
        assert len(taken) - done <= 5
        assert found.windows[0].stop == 20


def test_a_broken_file_is_listed_and_the_others_are_done(command, tmp_path, capfd):
    for n in range(4):
        np.save(tmp_path / "clips" / f"{n}.npy", people(20, 1, n))
    (tmp_path / "clips" / "0.npy").write_bytes(b"\x93NUMPY nothing")  # the first: others tell the layout
    np.save(tmp_path / "clips" / "nobody.npy", np.full((1, 20, 25, 3), np.nan))
    found = command()
    printed = capfd.readouterr()
    assert [clip["id"] for clip in found["clips"]] == ["1", "2", "3"]
    assert [(clip["id"], clip["file"]) for clip in found["failed"]] == [
        ("0", "clips/0.npy"),
        ("nobody", "clips/nobody.npy"),
    ]
    assert found["failed"][0]["error"].startswith("clips/0.npy: cannot be read")
    assert "0: failed: clips/0.npy: cannot be read" in printed.out
    assert "2 of 5 clips failed" in printed.out
    assert "clip/s" not in printed.err, "a bar is for terminals"
    for share in (0, 0.39):
        with pytest.raises(SystemExit) as stop:
            command("--max_failed", share, output="none.json")
        assert stop.value.code == 1
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith(
            f"skelcl: error: more than {share} of the 5 clips failed, the first: clips/0.npy: cannot"
        )
        assert "--max_failed" in line
    assert {path.name for path in tmp_path.iterdir()} >= {"out.json", "clips"}
    assert not list(tmp_path.glob("none*"))
    command("--max_failed", 0.4, "--overwrite", "true")


def test_where_every_clip_fails_nothing_is_written(command, tmp_path, capfd):
    for n in range(2):
        (tmp_path / "clips" / f"{n}.npy").write_bytes(b"nothing")
    with pytest.raises(SystemExit) as stop:
        command("--max_failed", 1)
    assert stop.value.code == 1
    assert "none of the 2 clips can be used, the first: clips/0.npy" in capfd.readouterr().err
    assert not list(tmp_path.glob("out*"))


def test_json_lines_seconds_and_no_features(command, tmp_path):
    for n, rate in enumerate((30, None)):
        np.savez(tmp_path / "clips" / f"{n}.npz", keypoints=people(50, 1, n), **({} if rate is None else {"fps": rate}))
    (tmp_path / "clips" / "bad.npz").write_bytes(b"nothing")
    words = ["--window", 20, "--stride", 10]
    whole, lines = command(*words), command(*words, output="out.jsonl")
    assert whole["schema"] == 1
    assert lines == [{"schema": 1, **clip} for clip in (*whole["clips"], *whole["failed"])]
    timed, untimed, failed = lines
    assert set(failed) == {"schema", "id", "file", "error"}
    for window, start in zip(timed["windows"], (0, 10, 20, 30), strict=True):
        assert (window["start"], window["stop"]) == (start, start + 20)
        assert window["seconds"] == [start / 30, (start + 20) / 30]
        assert len(window["features"]) == 8
    assert timed["segments"][-1]["seconds"][1] == 50 / 30
    assert all("seconds" not in one for one in (*untimed["windows"], *untimed["segments"]))
    spared = command(*words, "--features", "false", output="small.json")
    for clip in whole["clips"]:
        for window in clip["windows"]:
            del window["features"]
    assert spared["clips"] == whole["clips"]


def test_what_ends_it_leaves_nothing_half_written(command, tmp_path, monkeypatch):
    for n in range(3):
        np.save(tmp_path / "clips" / f"{n}.npy", people(20, 1, n))
    monkeypatch.setattr(batching, "BATCH", 1)
    whole = Predictor.recognise_all

    def ends(self, recordings):
        for n, found in enumerate(whole(self, recordings)):
            if n == 2:
                assert (tmp_path / "out.part.json").exists()
                raise KeyboardInterrupt
            yield found

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "recognise_all", ends)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            command()
    assert not list(tmp_path.glob("out*"))
    (tmp_path / "out.part.json").write_text("what a killed process leaves")
    assert len(command()["clips"]) == 3
    assert not list(tmp_path.glob("*part*"))


@pytest.mark.parametrize("name", ["out.txt", "out"])
def test_the_output_is_json(command, capfd, name):
    with pytest.raises(SystemExit) as stop:
        command(output=name)
    assert stop.value.code == 2
    assert capfd.readouterr().err == f"skelcl: error: {name}: predictions are written to .json or .jsonl\n"


def test_memory_does_not_grow_with_the_folder(command, tmp_path, monkeypatch):
    """80 clips of 0.6 MB; a few of them at a time."""
    monkeypatch.setattr(batching, "BATCH", 4)
    for n in range(80):
        np.save(tmp_path / "clips" / f"{n}.npy", people(2000, 1, n))
    command("--features", "false", output="first.json")  # imports and the like
    with memory_below(16e6):
        command("--features", "false")


@pytest.mark.parametrize("told", [(), ("--axes", "TMVC")])
def test_axes_of_an_array_are_told_or_concluded(command, tmp_path, told):
    array = people(30, 2)
    np.save(tmp_path / "clips" / "a.npy", array)
    (expected,) = command(output="own.json")["clips"]
    np.save(tmp_path / "clips" / "a.npy", array.swapaxes(0, 1))
    (found,) = command(*told)["clips"]
    assert found["windows"] == expected["windows"]
    concluded = "clips/a.npy: keypoints are taken as TMVC, by their sizes and numbers"
    assert [line for line in found["warnings"] if line not in expected["warnings"]] == [concluded] * (not told)


@pytest.mark.parametrize("kind", ["ntu", "pku-mmd"])
def test_raw_files_of_data_sets_are_recognised_by_their_content(skelcl, runs, tmp_path, kind):
    values = people(12)[0].astype(np.float32)
    if kind == "ntu":
        file = tmp_path / "mine.skeleton"
        zeros = np.zeros(12, int)
        write_skeleton(file, BodyFrames(values, np.arange(12), zeros, zeros, 12), [7])
    else:
        file = tmp_path / "mine.txt"
        write_pku(file, np.stack([values, np.zeros_like(values)]))
    words = ["--ckpt_path", runs["as_cal"], "--input", file, "--output", "out.json", "--labels", "none"]
    skelcl("predict", *words, "--neighbours", 0)
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["layout"] == "ntu25"
    assert np.isfinite(told["clips"][0]["windows"][0]["features"]).all()
