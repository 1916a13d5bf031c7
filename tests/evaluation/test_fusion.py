"""Fusion of scores against sums over dictionaries by id."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.metrics import recall_score, top_k_accuracy_score

from skelcl.commands.fuse import fuse
from skelcl.errors import InputError
from skelcl.evaluation.fusion import WEIGHTS, chosen_weights, fuse_scores, read_scores

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
STREAMS = ("joint", "bone", "motion", "bone_motion")


@pytest.fixture
def write(tmp_path):
    """Writes scores of 40 clips of 7 classes, each stream in an order of its own, as ``skelcl test`` does."""

    def write(stream, seed=None, name=None, **changes):
        random = np.random.default_rng(STREAMS.index(stream) if seed is None else seed)
        label = np.random.default_rng(99).integers(0, 7, 40)
        logits = random.normal(0, 2, (40, 7)).astype(np.float32)
        logits[np.arange(40), label] += 1.5
        ids = np.array([f"clip{i:02}" for i in range(40)])
        order = random.permutation(40)
        arrays = {"id": ids, "label": label, "logits": logits, "test_clean": label % 2 == 0}
        arrays = {key: value[order] for key, value in (arrays | changes).items() if value is not None}
        names = np.array([f"action {k}" for k in range(7)])
        path = tmp_path / (name or f"{stream}/version_0/scores.npz")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, class_names=names, stream=np.asarray(stream), checkpoint=np.asarray("last.ckpt"), **arrays)
        return path

    return write


def by_id(path):
    content = np.load(path)
    return {str(i): row.astype(np.float64) for i, row in zip(content["id"], content["logits"], strict=True)}


@pytest.mark.parametrize("space", ["logits", "softmax", "log_softmax"])
def test_the_sum_equals_a_sum_by_name(write, space):
    function = {
        "logits": lambda row: row,
        "softmax": lambda row: np.exp(row) / np.exp(row).sum(),
        "log_softmax": lambda row: row - np.log(np.exp(row).sum()),
    }[space]
    files, weights = [write(stream) for stream in STREAMS], [0.6, 0.5, 0.0, 0.4]
    fused = fuse_scores([read_scores(file) for file in files], weights, space)
    assert fused.id.tolist() == np.load(files[0])["id"].tolist()
    parts = [by_id(file) for file in files]
    for clip, row in zip(fused.id, fused.logits, strict=True):
        expected = sum(weight * function(part[str(clip)]) for weight, part in zip(weights, parts, strict=True))
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-6)
    assert fused.stream == "joint+bone+motion+bone_motion"


def test_fusion_does_not_depend_on_the_order_of_the_clips(write):
    scores = [read_scores(write(stream)) for stream in STREAMS]
    shuffled = [one[np.random.default_rng(5).permutation(40)] for one in scores]
    first, second = (fuse_scores(some, [1, 2, 3, 4]) for some in (scores, shuffled))
    order = np.argsort(first.id), np.argsort(second.id)
    assert np.array_equal(first.logits[order[0]], second.logits[order[1]])
    assert first.accuracies() == pytest.approx(second.accuracies())


def test_accuracies_are_those_of_scikit_learn(write):
    scores = fuse_scores([read_scores(write(stream)) for stream in STREAMS], [1, 1, 1, 1])
    found = scores.accuracies()
    assert set(found) == {f"{part}/{key}" for part in ("test", "test_clean") for key in ("top1", "top5", "mean_class")}
    for part, which in {"test": slice(None), "test_clean": scores.label % 2 == 0}.items():
        label, logits = scores.label[which], scores.logits[which]
        assert found[f"{part}/top1"] == pytest.approx((logits.argmax(1) == label).mean())
        assert found[f"{part}/top5"] == pytest.approx(top_k_accuracy_score(label, logits, k=5, labels=range(7)))
        recall = recall_score(label, logits.argmax(1), labels=np.unique(label), average="macro")
        assert found[f"{part}/mean_class"] == pytest.approx(recall)


def test_one_stream_is_itself_and_equal_files_stay_what_they_are(write):
    one = read_scores(write("joint"))
    assert np.array_equal(fuse_scores([one], [1.0]).logits, one.logits)
    np.testing.assert_allclose(fuse_scores([one, one], [0.25, 0.75]).logits, one.logits, rtol=1e-6)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("equal", [1, 1, 1, 1]),
        ("ctr-gcn", [0.6, 0.6, 0.4, 0.4]),
        ("hyperformer-ntu", [0.4, 0.6, 0.2, 0.2]),
        ("hyperformer-ucla", [0.4, 0.4, 0.3, 0.2]),
        ("csre-ntu", [0.6, 0.7, 0.35, 0.2]),
        ("csre-ucla", [0.7, 0.5, 0.6, 0.2]),
        ("pyskl", [2, 2, 1, 1]),
        ("1,0.5,0.25,0", [1, 0.5, 0.25, 0]),
    ],
)
def test_published_weights_go_by_stream(write, choice, expected):
    scores = [read_scores(write(stream)) for stream in STREAMS]
    assert chosen_weights(choice, scores) == expected
    if choice in WEIGHTS:
        assert chosen_weights(choice, scores[::-1]) == expected[::-1]
        assert chosen_weights(choice, scores[:2]) == expected[:2]


def test_weights_of_two_and_three_streams(write):
    scores = [read_scores(write(stream)) for stream in STREAMS]
    assert chosen_weights("agcn", scores[:2]) == [1, 1]
    assert chosen_weights("aimclr", scores[:3]) == [0.6, 0.6, 0.4]
    with pytest.raises(InputError, match="'agcn' are for joint, bone, not for 'motion'"):
        chosen_weights("agcn", scores)


@pytest.mark.parametrize("choice", ["best", "1;2", "0.5,"])
def test_unknown_weights_are_one_line(write, choice):
    with pytest.raises(InputError, match=r"--weights must be one of equal, ctr-gcn.*or numbers"):
        chosen_weights(choice, [read_scores(write("joint"))])


@pytest.mark.parametrize("weights", [[1], [1, 2, 3], [0, 0], [1, -1], [1, float("nan")]])
def test_numbers_that_are_no_weights_are_refused(write, weights):
    with pytest.raises(InputError, match="weight"):
        fuse_scores([read_scores(write("joint")), read_scores(write("bone"))], weights)


def test_the_same_stream_twice_needs_numbers(write):
    scores = [read_scores(write("joint", 0)), read_scores(write("joint", 1, name="again.npz"))]
    assert chosen_weights("equal", scores) == [1, 1]
    with pytest.raises(InputError, match=r"version_0.scores\.npz and .*again\.npz are both joint"):
        chosen_weights("ctr-gcn", scores)


def test_other_clips_labels_or_subsets_are_refused_with_the_first_that_differs(write):
    ids = np.array([f"clip{i:02}" for i in range(40)])
    label = np.random.default_rng(99).integers(0, 7, 40)
    renamed, moved, unclean = ids.copy(), label.copy(), label % 2 == 0
    renamed[7], moved[9], unclean[11] = "other", (moved[9] + 1) % 7, not unclean[11]
    first = read_scores(write("joint"))
    for changes, match in (
        ({"id": renamed}, "not of the same clips: only one of them holds 'clip07'"),
        ({"label": moved}, "differ in the label of clip 'clip09'"),
        ({"test_clean": unclean}, "differ in whether clip 'clip11' belongs to test_clean"),
    ):
        other = read_scores(write("bone", name="bone.npz", **changes))
        with pytest.raises(InputError, match=match) as error:
            fuse_scores([first, other], [1, 1])
        assert first.source in str(error.value)
        assert other.source in str(error.value)
    more = first[np.arange(39)]
    with pytest.raises(InputError, match=f"only one of them holds '{first.id[39]}'"):
        fuse_scores([more, first], [1, 1])


def test_other_classes_are_refused(write):
    wide = np.zeros((40, 8), np.float32)
    with pytest.raises(InputError, match=r"not of the same classes \(7 and 8"):
        fuse_scores([read_scores(write("joint")), read_scores(write("bone", logits=wide))], [1, 1])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"logits": None}, "has no logits"),
        ({"id": np.array(["a"] * 40)}, "clip 'a' occurs more than once"),
        ({"logits": np.full((40, 7), np.nan, np.float32)}, "not finite"),
        ({"label": np.full(40, 7)}, r"labels must lie in 0…6"),
        ({"logits": np.zeros(40, np.float32)}, "do not belong together"),
    ],
)
def test_bad_files_are_named(write, changes, match):
    file = write("joint", **changes)
    with pytest.raises(InputError, match=match) as error:
        read_scores(file)
    assert str(file) in str(error.value)


def test_places_without_scores_are_named(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "text.npz").write_text("no")
    for place, match in (("run", "holds no scores.npz"), ("text.npz", "not a .npz file"), ("none", "no such run")):
        with pytest.raises(InputError, match=match):
            read_scores(tmp_path / place)


def test_a_run_is_its_last_tested_version(write, tmp_path):
    write("joint", 0, "run/version_2/scores.npz")
    last = write("joint", 1, "run/version_10/scores.npz")
    (tmp_path / "run" / "version_11").mkdir()
    assert read_scores(tmp_path / "run").source == str(last)


def test_the_command_prints_every_stream_and_writes_the_sum(write, skelcl, capsys, tmp_path):
    files = [write(stream) for stream in STREAMS]
    folders = [file.parents[1] for file in files]
    skelcl("fuse", "--weights=ctr-gcn", *folders, "--space", "softmax", "--output", "sum.npz")
    printed = capsys.readouterr().out.splitlines()
    expected = fuse_scores([read_scores(file) for file in files], [0.6, 0.6, 0.4, 0.4], "softmax")
    rows = {line[:19].strip(): line[19:].split() for line in printed}
    columns = [
        "test/top1",
        "test/top5",
        "test/mean_class",
        "test_clean/top1",
        "test_clean/top5",
        "test_clean/mean_class",
    ]
    names = ["joint × 0.6", "bone × 0.6", "motion × 0.4", "bone_motion × 0.4", "fused"]
    for name, one in zip(names, [*map(read_scores, files), expected], strict=True):
        accuracies = one.accuracies()
        assert rows[name] == [f"{100 * accuracies[column]:.1f}" for column in columns]
    assert printed[1].split("   ")[-1].strip() == "mean class clean"
    assert printed[-1] == "wrote sum.npz"
    again = read_scores(tmp_path / "sum.npz")
    assert np.array_equal(again.logits, expected.logits)
    assert np.array_equal(again.subsets["test_clean"], expected.subsets["test_clean"])
    assert again.class_names == tuple(f"action {k}" for k in range(7))
    skelcl("fuse", "sum.npz")
    assert f"{100 * expected.accuracies()['test/top1']:.1f}" in capsys.readouterr().out


def test_options_come_from_a_file_as_well(write, skelcl, capsys, tmp_path):
    folders = [write(stream).parents[1] for stream in STREAMS]
    skelcl("fuse", "--config", EXPERIMENTS / "evaluate" / "fusion.yaml", *folders)
    from_file = capsys.readouterr().out
    skelcl("fuse", *folders)
    assert capsys.readouterr().out == from_file
    (tmp_path / "mine.yaml").write_text(f"runs: [{', '.join(map(str, folders))}]\nweights: ctr-gcn\n")
    skelcl("fuse", "--config", "mine.yaml", "--weights", "pyskl")
    assert "joint × 2" in capsys.readouterr().out
    skelcl("fuse", "--config", "mine.yaml")
    assert "joint × 0.6" in capsys.readouterr().out


def test_the_shipped_file_has_the_defaults_and_says_how_it_is_run():
    file = EXPERIMENTS / "evaluate" / "fusion.yaml"
    text = file.read_text()
    assert yaml.safe_load(text) == {"weights": "equal", "space": "logits"}
    assert f"skelcl fuse --config experiments/evaluate/{file.name} FOLDER" in text
    assert all(name in text for name in WEIGHTS)


def test_without_clean_clips_in_every_file_they_are_left_out(write, skelcl, capsys):
    first, second = write("joint"), write("bone", test_clean=None)
    skelcl("fuse", second, first)
    heads = capsys.readouterr().out.splitlines()[1]
    assert heads.split("   ")[-1] == "mean class"


def test_the_order_of_softmax_is_that_of_the_logits(write):
    one = read_scores(write("joint"))
    ranked = torch.from_numpy(one.logits).argsort(1)
    for space in ("softmax", "log_softmax"):
        assert torch.equal(torch.from_numpy(fuse_scores([one], [1.0], space).logits).argsort(1), ranked)


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["nowhere"], "nowhere: no such run or file"),
        (
            ["joint", "--output=sum.txt"],
            "sum.txt: the name of a file of scores ends in .npz, that of a record in .json",
        ),
        (["joint", "--weights=fit"], "--weights must be one of equal"),
        (["joint", "--space=probabilities"], "space"),
        (["--weights=equal"], "runs"),
        (["joint", "--fit"], "fit"),
    ],
)
def test_mistakes_are_one_line(write, skelcl, capsys, words, match):
    write("joint")
    with pytest.raises(SystemExit) as stop:
        skelcl("fuse", *words)
    told = capsys.readouterr().err
    assert stop.value.code in (1, 2)
    assert told.count("\n") == 1
    assert match in told


def test_help_names_every_option_and_weight(skelcl, capsys):
    with pytest.raises(SystemExit) as stop:
        skelcl("fuse", "--help")
    told = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    for word in ("RUN_OR_FILE [RUN_OR_FILE ...]", "--weights", "--space", "--output", "equal", *WEIGHTS):
        assert word in told


def test_text_of_a_file_of_scores_is_shown_as_text(tmp_path, capsys):
    content = {"id": np.array(["a"]), "label": np.array([0]), "logits": np.ones((1, 2), np.float32)}
    np.savez(tmp_path / "scores.npz", **content, stream="joint\x1b[2J", remarks=np.array(["one\x1b[31m\ntwo"]))
    fuse([tmp_path / "scores.npz"])
    out = capsys.readouterr().out
    assert "! one [31m two" in out
    assert not [one for one in out if not one.isprintable() and one != "\n"]
