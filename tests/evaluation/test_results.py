"""The table of results against NumPy and a reading by hand; what the record says against the run that it is of."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import string
from pathlib import Path

import numpy as np
import pytest
import torch

from skelcl.commands.results import results
from skelcl.data.subsets import digest, read_labels
from skelcl.errors import InputError
from skelcl.evaluation.comparison import KINDS
from skelcl.evaluation.families import families
from skelcl.evaluation.record import config_digest, file_digest
from skelcl.evaluation.tested_runs import read_results

TOP = Path(__file__).parents[2]
SSL = {"test/knn_top1": 0.5, "test/linear_top1": 0.6, "test_clean/knn_top1": 0.4, "test_clean/linear_top1": 0.45}


def record(metrics, seed=0, config="a" * 64, **changes):
    """What a test of AS-CAL may write; ``changes`` by dotted place."""
    content = {
        "method": "ASCAL",
        "checkpoint": "last.ckpt",
        "selection": "last epoch",
        "knn": {"k": 1, "metric": "cosine"},
        "probe": {"preset": "as_cal", "seed": 0},
        "metrics": metrics,
        "run": {
            "tested": "2026-01-01T00:00:00+00:00",
            "data": {
                "name": "nw-ucla",
                "split": "test_view 3",
                "test_clips": 464,
                "test_sha256": "b" * 64,
                "labels": {"clips": 1020, "rule": "all", "seed": None, "sha256": "c" * 64},
            },
            "encoder": "LSTM",
            "feature_width": 256,
            "parameters": 300_000,
            "stream": "joint",
            "view": "Resize(frames=60)",
            "epochs": 60,
            "planned_epochs": 60,
            "steps": 1920,
            "seed": seed,
            "start": None,
            "config_sha256": config,
            "precision": "32-true",
            "trained_on": {"seconds": 170.0, "hardware": "cpu, X", "versions": {"torch": "2.13.0"}},
            "tested_on": {"hardware": "cpu, Y", "versions": {"torch": "2.13.0"}},
        },
    }
    for place, value in changes.items():
        *folders, name = place.split("__")
        inner = content
        for folder in folders:
            inner = inner[folder]
        inner[name] = value
    return content


def supervised(seed=0, **changes):
    changes = {"method": "STDCL", "config": "e" * 64, **changes}
    content = record({"test/top1": 0.9, "test_clean/top1": 0.8}, seed, **changes)
    del content["knn"], content["probe"]
    return content


@pytest.fixture
def write(tmp_path):
    """Writes a record as the results of a version of a run."""

    def write(name, content, version=0):
        file = tmp_path / "runs" / name / f"version_{version}" / "results.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content))
        return file

    return write


def cells(markdown):
    """Lines of a Markdown table as dictionaries."""
    lines = [[c.strip() for c in line.strip("|").split(" | ")] for line in markdown.splitlines() if line[:1] == "|"]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


@pytest.fixture
def collect(tmp_path, capsys):
    """Runs the command on the written runs: lines of its table, and all that it printed."""

    def collect(**options):
        results([tmp_path / "runs"], **options)
        out = capsys.readouterr().out
        return cells(out), out

    return collect


def test_seeds_are_one_row_with_mean_and_sd_as_numpy_computes_them(write, collect, tmp_path):
    random = np.random.default_rng(0).uniform(size=(4, 4))
    for seed, row in enumerate(random):
        write("as_cal", record(dict(zip(SSL, row.tolist(), strict=True)), seed), version=seed)
    ((line,), _) = collect(output=tmp_path / "table.csv")
    mean, sd = 100 * random.mean(0), 100 * random.std(0, ddof=1)
    titles = ["kNN", "linear", "kNN clean", "linear clean"]
    assert [line[title] for title in titles] == [f"{m:.1f} ± {s:.1f}" for m, s in zip(mean, sd, strict=True)]
    assert list(line)[-4:] == ["kNN clean", "linear clean", "kNN", "linear"]
    assert (line["run"], line["method"], line["seeds"]) == ("as_cal", "ASCAL", "0,1,2,3")
    with (tmp_path / "table.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    for name, m, s in zip(SSL, mean, sd, strict=True):
        assert float(row[f"{name} mean"]) == pytest.approx(m / 100, rel=1e-12)
        assert float(row[f"{name} sd"]) == pytest.approx(s / 100, rel=1e-12)
    told = ["runs", "data", "split", "encoder", "width", "stream", "view", "epochs", "probe", "selection", "hardware"]
    values = ["4", "nw-ucla", "test_view 3", "LSTM", "256", "joint", "Resize(frames=60)", "60", "as_cal", "last epoch"]
    assert [row[name] for name in told] == [*values, "cpu, X"]


def test_a_single_seed_has_no_sd_and_the_markdown_file_is_what_is_shown(write, collect, tmp_path):
    write("as_cal", record(SSL))
    (line,), out = collect(output=tmp_path / "new" / "table.md")
    assert [line[title] for title in ("kNN", "linear", "kNN clean", "linear clean")] == ["50.0", "60.0", "40.0", "45.0"]
    assert "±" not in out
    assert out == (tmp_path / "new" / "table.md").read_text() + f"wrote {tmp_path}/new/table.md\n"


def test_rows_are_families_of_the_same_config_and_training(write, collect):
    write("as_cal-seed_0", record(SSL, 0))
    write("as_cal-seed_1", record(SSL, 1))
    write("other", record(SSL, 0, config="d" * 64))
    write("longer", record(SSL, 0, run__epochs=90, run__planned_epochs=90))
    write("probed", record(SSL, 0, probe={"preset": "scd", "seed": 0}))
    write("std_cl", supervised())
    rows, out = collect()
    assert [(row["run"], row["seeds"], row["epochs"]) for row in rows] == [
        ("as_cal", "0,1", "60"),
        ("longer", "0", "90"),
        ("other", "0", "60"),
        ("probed", "0", "60"),
        ("std_cl", "0", "60"),
    ]
    assert "Rows differ in epochs: 60 (as_cal, other, probed, std_cl); 90 (longer)" in out


def test_a_newer_test_of_the_same_run_replaces_an_older_one(write, collect):
    write("as_cal", record(SSL | {"test/knn_top1": 0.7}, run__tested="2026-02-01T00:00:00+00:00"), version=1)
    write("as_cal", record(SSL | {"test/knn_top1": 0.1}, run__tested="2026-01-01T00:00:00+00:00"), version=2)
    (line,), out = collect()
    assert (line["kNN"], line["seeds"]) == ("70.0", "0")
    assert "1 older results" in out


def test_versions_are_sorted_as_numbers(write, collect):
    for version in (10, 9, 2):
        write("as_cal", record(SSL, seed=version), version=version)
    (line,), _ = collect()
    assert line["seeds"] == "2,9,10"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"run__data__name": "ntu60"}, "data set"),
        ({"run__data__split": "test_view 2"}, "split"),
        ({"run__data__test_clips": 369}, "test clips"),
        ({"run__data__test_sha256": "f" * 64}, "test clips"),
        ({"run__data__labels": {"clips": 51, "rule": "5 % stratified", "seed": 0, "sha256": "0" * 64}}, "labels"),
        ({"selection": "best epoch on test"}, "choice of the epoch"),
    ],
)
def test_rows_that_are_not_comparable_have_letters_of_their_own(write, collect, change, reason):
    write("a", record(SSL))
    write("b", record(SSL, config="d" * 64, **change))
    write("c", record(SSL, config="f" * 64))
    rows, out = collect()
    assert [row["letter"] for row in rows] == ["A", "B", "A"]
    assert f"**Rows with different letters are not comparable: they differ in {reason}.**" in out
    write("b", record(SSL, config="d" * 64))
    rows, out = collect()
    assert all("letter" not in row for row in rows)
    assert "not comparable" not in out


def test_the_labels_that_a_seed_draws_do_not_part_a_family(write, collect):
    for seed in (0, 1):
        labels = {"clips": 51, "rule": "5 % stratified", "seed": seed, "sha256": str(seed) * 64}
        write("semi", record(SSL, run__data__labels=labels), version=seed)
    (line,), _ = collect()
    assert line["seeds"] == "0,0/1"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"run__stream": "bone"}, "Rows differ in stream: joint (a); bone (b)"),
        ({"run__view": "Resize(frames=64)"}, "Rows differ in input: Resize(frames=60) (a); Resize(frames=64) (b)"),
        ({"run__precision": "bf16-mixed"}, "Rows differ in precision: 32-true (a); bf16-mixed (b)"),
    ],
)
def test_other_conditions_are_told(write, collect, change, told):
    write("a", record(SSL))
    write("b", record(SSL, config="d" * 64, **change))
    assert told in collect()[1].splitlines()


def test_seeds_that_ran_on_different_machines_are_told(write, collect):
    write("a", record(SSL))
    write("a", record(SSL, 1, run__trained_on=None), version=1)
    assert "**Seeds of one row differ in hardware: a.**" in collect()[1]


def test_an_unfinished_training_is_told(write, collect):
    write("a", record(SSL, run__epochs=31))
    assert "a was tested after 31 epochs, but meant to train for 60" in collect()[1]


def test_different_protocols_have_columns_of_their_own(write, collect):
    write("as_cal", record(SSL))
    write("scd_net", record(SSL, config="d" * 64, probe={"preset": "scd", "seed": 0}))
    write("std_cl", supervised())
    rows, out = collect()
    wanted = ["kNN clean", "linear as_cal clean", "linear scd clean", "top-1 clean"]
    assert list(rows[0])[5:9] == wanted
    values = [[row[title] for title in wanted] for row in rows]
    assert values == [["40.0", "45.0", "", ""], ["40.0", "", "45.0", ""], ["", "", "", "80.0"]]
    assert "**Different columns are different protocols: compare within a column only.**" in out


def test_the_random_encoder_has_a_row_of_its_own(write, collect):
    chance = [0.2, 0.3, 0.4]
    for seed, value in enumerate(chance):
        write("as_cal", record(SSL | {"test/random_knn_top1": value}, seed), version=seed)
    (random, learned), _ = collect()
    assert (random["method"], random["epochs"], random["linear"]) == ("random weights", "0", "")
    assert random["kNN"] == f"{100 * np.mean(chance):.1f} ± {100 * np.std(chance, ddof=1):.1f}"
    assert learned["kNN"] == "50.0 ± 0.0"


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        '{"metrics": {}}',
        json.dumps(record([0.5])),
        json.dumps(record(SSL, run__data=3)),
        "\udcff",
    ],
)
def test_a_damaged_file_is_one_line(write, tmp_path, content):
    write("good", record(SSL))
    file = write("bad", {})
    file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=re.escape(str(file))) as error:
        read_results(tmp_path)
    assert "\n" not in str(error.value)


def places(content, at=()):
    """All places in a record, as tuples of names."""
    yield at
    for name in content if isinstance(content, dict) else ():
        yield from places(content[name], (*at, name))


@pytest.mark.parametrize("value", [None, 3, -1.5, "text", [], [1, [2]], {}, {"a": {"b": 1}}, True], ids=repr)
def test_an_entry_of_another_kind_is_a_row_or_one_line(tmp_path, capsys, value):
    """Every entry of a record is replaced by a value of each kind: a table, or one line that names the file."""
    good = record(SSL, protocols={"linear": {"version": 1, "presets": ["as_cal"], "lr": 0.1}}, judge_seeds=[0])
    file = tmp_path / "runs" / "a" / "results.json"
    file.parent.mkdir(parents=True)
    refused = []
    for place in places(good):
        content = json.loads(json.dumps(good))
        inner = content
        for name in place[:-1]:
            inner = inner[name]
        if place:
            inner[place[-1]] = value
        file.write_text(json.dumps(content if place else value))
        for output in (None, tmp_path / "x.md", tmp_path / "x.csv"):
            try:
                results([tmp_path], output)
            except InputError as error:
                refused.append(str(error))
    assert refused
    for line in refused:
        assert line.startswith(f"{file}: ")
        assert "\n" not in line


@pytest.mark.parametrize("name", ["test", "a/b/c"])
def test_a_metric_of_no_part_is_one_line(write, tmp_path, name):
    file = write("bad", record({name: 0.5}))
    with pytest.raises(InputError, match=re.escape(f"{file}: damaged, {name!r} is no metric")):
        read_results(tmp_path)


STEERING = "\x1b[2J\x1b]0;title\x07\r\x9b31m\u202e\x00"


def test_what_would_steer_a_terminal_is_shown_as_text(tmp_path, capsys, skelcl):
    """In every text of a record, in names of folders, and in the line of an error."""
    good = record({**SSL, f"test/{STEERING}": 0.1}, method=f"AS{STEERING}", checkpoint=STEERING, selection=STEERING)
    for place in ("encoder", "stream", "view", "precision", "config_sha256", "tested"):
        good["run"][place] = f"{place}{STEERING}"
    for place in ("name", "split", "test_sha256"):
        good["run"]["data"][place] = f"{place}{STEERING}"
    good["run"]["trained_on"]["hardware"] = STEERING
    folder = tmp_path / "runs" / "x\x1b[31m"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(good))
    skelcl("results", "runs", "--output", "table.csv")
    with pytest.raises(SystemExit):
        skelcl("results", "no\x1b[31mwhere")
    told = capsys.readouterr()
    for text in (told.out, told.err, Path("table.csv").read_text()):
        assert all(one.isprintable() or one == "\n" for one in text)
    assert "AS\\x1b[2J" in told.out
    assert "no\\x1b[31mwhere: no such folder or file" in told.err


def test_names_of_formulas_and_tags_are_text_in_both_tables(tmp_path, skelcl, capsys):
    folder = tmp_path / "runs" / "=1+1"
    folder.mkdir(parents=True)
    content = record({**SSL, "=2+2/x": 0.5}, method="<b>|@bold", checkpoint="-1", selection="+1")
    (folder / "results.json").write_text(json.dumps(content))
    skelcl("results", "runs", "--output", "table.csv")
    with Path("table.csv").open(newline="") as file:
        head, row = csv.reader(file)
    assert not [one for one in (*head, *row) if one[:1] in tuple("=+@") or (one[:1] == "-" and one != "-")]
    assert {"'=2+2/x mean", "'=1+1", "'-1", "'+1"} <= {*head, *row}
    assert r"\<b>\|@bold" in capsys.readouterr().out


def test_nothing_to_collect_is_one_line(tmp_path, skelcl, capsys):
    (tmp_path / "empty").mkdir()
    for words, told in (
        (["empty"], "empty: holds no results.json; `skelcl test --ckpt_path …` writes it"),
        (["absent"], "absent: no such folder or file"),
        (
            ["empty", "--output", "table.xlsx"],
            "the name of a table ends in .csv or .md, that of a record in .json",
        ),
    ):
        with pytest.raises(SystemExit) as stop:
            skelcl("results", *words)
        assert stop.value.code == 1
        assert capsys.readouterr().err.strip().endswith(told)


MIXED = {
    "as_cal/version_0": record(SSL, 0),
    "as_cal/version_10": record(SSL | {"test/knn_top1": 0.7, "test/random_knn_top1": 0.25}, 1),
    "as_cal/version_9": record(SSL, 2, run__trained_on=None),
    "older/version_0": record(SSL | {"test/knn_top1": 1 / 3}, 0, run__tested="2025-01-01T00:00:00+00:00"),
    "python": record(SSL, run__config_sha256=None),
    "python-too": record(SSL, run__config_sha256=None),
    "tuned/scratch-seed_0": supervised(method="FineTune"),
    "tuned/pretrained-seed_0": supervised(method="FineTune", config="1" * 64, run__start="/home/me/runs/a/last.ckpt"),
    "tuned/pretrained-seed_1": supervised(method="FineTune", config="1" * 64, run__start="/home/me/runs/b/last.ckpt"),
    "evaluated": record(
        {"test/retrieval_map": 0.4, "test/linear_scd_top1": 0.5, "test/few_shot_5shot": 0.6, "test/collapse_rank": 7.5},
        run__data__labels={"clips": 9, "rule": "from C:\\Users\\me\\labels.txt", "seed": None, "sha256": "c" * 64},
        config="f" * 64,
        judge_seeds=[0, 1],
        protocols={
            "linear": {"version": 1, "presets": ["scd"], "lr": None},
            "few_shot": {"version": 1, "way": 5},
            "collapse": {"version": 2},
            "robustness": {"version": 1, "corruptions": [{"name": "jitter", "severity": 3}]},
        },
    ),
}
"""What tests of all kinds wrote, by folder."""


@pytest.fixture
def mixed(tmp_path, monkeypatch):
    """The working folder, with these tests in ``runs``."""
    monkeypatch.chdir(tmp_path)
    for name, content in MIXED.items():
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        content = content | {"checkpoint": f"/home/me/runs/{name}/checkpoints/last.ckpt"}
        (folder / "results.json").write_text(json.dumps(content | {"sd_over_judge_seeds": [0.1] * 500}))
    return tmp_path


def written(places, name):
    results([Path(place) for place in places], Path(name))
    return Path(name).read_bytes()


def test_a_record_gives_the_tables_of_its_folders_byte_for_byte(mixed, capsys):
    record = written(["runs"], "all.json")
    tables = {kind: written(["runs"], f"folders.{kind}") for kind in ("md", "csv")}
    assert b"older results of the same run" in tables["md"]
    assert b"collapse" in tables["csv"].splitlines()[0]
    shutil.move("runs", "elsewhere")
    for kind, table in tables.items():
        assert written(["all.json"], f"record.{kind}") == table, kind
    assert written(["all.json"], "again.json") == record, "stable, and complete: nothing is lost on the way"


@pytest.mark.parametrize("places", [["part.json", "runs"], ["runs", "part.json"], ["runs", "runs"]])
def test_records_and_folders_may_be_mixed_and_overlap(mixed, capsys, places):
    whole = written(["runs"], "whole.csv")
    Path("other").mkdir()
    written(["runs"], "part.json")
    lines = sorted(whole.decode().splitlines())
    assert sorted(written(places, "mixed.csv").decode().splitlines()) == lines


def test_a_record_is_small_and_says_nothing_of_the_machines_folders(mixed, capsys):
    text = written(["runs"], "all.json").decode()
    assert not re.search(r"/home|me[/\\]|checkpoints|Users", text)
    assert len(text) < 3000 * len(MIXED)
    found = {result.name: result for result in read_results(Path("all.json"))}
    assert list(found) == ["as_cal", "evaluated", "older", "python-too", "python", "tuned/pretrained", "tuned/scratch"]
    assert found["evaluated"].facts["labels"] == "from labels.txt: 9 (cccccc)"
    assert found["as_cal"].facts["checkpoint"] == "last.ckpt"


def test_pre_trainings_are_told_apart_without_their_folders(mixed, capsys):
    """By the digests of their files, where those are noted, else by that of the path."""
    rows, older = families(read_results(Path("runs/tuned")))
    assert [(row.title, row.seeds, older) for row in rows] == [("pretrained", "0,0", 0), ("scratch", "0", 0)]
    for folder in Path("runs/tuned").glob("pretrained*"):
        content = json.loads((folder / "results.json").read_text())
        content["run"]["start_sha256"] = "9" * 64
        (folder / "results.json").write_text(json.dumps(content))
    assert families(read_results(Path("runs/tuned")))[1] == 1


def test_a_checkpoint_is_noted_by_the_digest_of_its_file(tmp_path):
    file = tmp_path / "last.ckpt"
    file.write_bytes(b"weights")
    assert file_digest(str(file)) == hashlib.sha256(b"weights").hexdigest()
    assert file_digest(str(tmp_path / "gone.ckpt")) is None
    assert file_digest(None) is None


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", "{}", "3", '{"results": []}', '{"results": {}}', '{"results": [3]}', '{"results": [[]]}',
        '{"results": [{"metrics": {}}]}', '{"metrics": {}, "run": {}}', "[" * 100_000, "7" * 5000, "\ud800",
    ],
)  # fmt: skip
def test_a_damaged_record_is_one_line(tmp_path, text):
    file = tmp_path / "record.json"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(InputError, match=re.escape(f"{file}: ")) as error:
        read_results(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [None, 3, "a\nb\x1b[2J", [], [1, [2]], {}, {"a": {"b": 1}}, True], ids=repr)
def test_an_entry_of_a_record_of_another_kind_is_a_row_or_one_line(tmp_path, mixed, capsys, value):
    """Every place in the second result is replaced by values of all kinds; what is refused tells which one it is."""
    entries = json.loads(written(["runs/evaluated", "runs/tuned"], "all.json"))["results"][:2]
    refused = []
    for place in places(entries[1]):
        content = json.loads(json.dumps(entries))
        inner = content[1]
        for name in place[:-1]:
            inner = inner[name]
        if place:
            inner[place[-1]] = value
        else:
            content[1] = value
        Path("bad.json").write_text(json.dumps({"results": content}))
        try:
            for output in ("x.md", "x.csv", "x.json"):
                assert all(one.isprintable() or one == "\n" for one in written(["bad.json"], output).decode())
        except InputError as error:
            refused.append(str(error))
    assert refused
    for line in refused:
        assert re.fullmatch(r"bad\.json: result 2: .+", line)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.metric)
def test_every_column_has_its_note(write, collect, kind):
    """Alone as well, and a note names no fact but the one that parts its columns."""
    fields = {field for _, field, _, _ in string.Formatter().parse(kind.note) if field}
    assert fields <= {kind.setting}
    protocols = {kind.setting: {"version": 3, "shots": 7}} if kind.setting not in (None, "knn", "probe") else {}
    write("a", record({f"test/{kind.metric}": 0.5}, protocols=protocols, judge_seeds=[0]))
    (row,), out = collect()
    assert row[kind.title] == "50.0"
    setting = {"knn": "k=1 cosine", "probe": "as_cal", "linear": "v3, shots 7, seeds 0"}
    setting["clustering"] = setting["linear"]
    assert kind.note.format(**{kind.setting or "": setting.get(kind.setting, "v3, shots 7")}) in out.splitlines()


@pytest.fixture
def streams(tmp_path, monkeypatch):
    """Runs of two streams in the working folder, their scores drawn: writes one with a change of its results."""
    monkeypatch.chdir(tmp_path)

    def write(stream, content, **changes):
        draw = np.random.default_rng(["joint", "bone"].index(stream))
        folder = tmp_path / stream / "version_1"
        folder.mkdir(parents=True, exist_ok=True)
        label = np.arange(12) % 3
        logits = (draw.normal(size=(12, 3)) + np.eye(3)[label]).astype(np.float32)
        clips = {"id": np.arange(12).astype(str), "label": label, "test_clean": label > 0}
        np.savez(folder / "scores.npz", logits=logits, stream=np.asarray(stream), **clips)
        for place, value in {"run__stream": stream, **changes}.items():
            inner = content
            *parts, name = place.split("__")
            for part in parts:
                inner = inner[part]
            inner[name] = value
        (folder / "results.json").write_text(json.dumps(content))
        return label, logits

    return write


@pytest.mark.parametrize("judge", ["linear_", ""])
def test_a_fusion_is_a_row_beside_its_streams(streams, skelcl, judge, capsys):
    """With what its streams share, and accuracies under the names of theirs, by argmax of a sum by hand."""
    label, joint = streams("joint", record(SSL) if judge else supervised(), run__steps=100)
    _, bone = streams("bone", record(SSL, 1, config="d" * 64) if judge else supervised(1, config="d" * 64))
    skelcl("fuse", "joint", "bone", "--weights=0.6,0.4", "--output=both.json")
    (fused,) = read_results(Path("both.json"))
    right = (0.6 * joint + 0.4 * bone).argmax(1) == label
    kinds = ("top1", "top5", "mean_class")
    assert set(fused.metrics) == {f"{part}/{judge}{kind}" for part in ("test", "test_clean") for kind in kinds}
    assert fused.metrics[f"test/{judge}top1"] == pytest.approx(right.mean(), rel=1e-12)
    assert fused.metrics[f"test_clean/{judge}top1"] == pytest.approx(right[label > 0].mean(), rel=1e-12)
    facts = fused.facts
    assert (fused.name, facts["stream"], facts["epochs"], facts["steps"]) == ("both", "joint+bone", 60, None)
    assert facts["fusion"] == "v1, weights 0.6, 0.4, space logits"
    skelcl("results", "joint", "bone", "both.json", "--output=all.json")
    table = cells(capsys.readouterr().out)
    method = "ASCAL" if judge else "STDCL"
    assert [row["method"] for row in table] == [method, method, f"fusion of {method}"]
    assert [row["seeds"] for row in table] == ["0", "1", ""]
    assert all(row["linear" if judge else "top-1"] for row in table)
    assert len(read_results(Path("all.json"))) == 3


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"run__data__name": "ntu60"}, "another data"),
        ({"run__data__labels": {"clips": 51, "rule": "5 % stratified", "seed": 0, "sha256": "0"}}, "another data"),
        ({"selection": "best val/knn_top1"}, "another choice of the epoch"),
    ],
)
def test_streams_that_are_not_comparable_are_no_record(streams, skelcl, capsys, change, what):
    streams("joint", record(SSL))
    streams("bone", record(SSL), **change)
    skelcl("fuse", "joint", "bone")
    with pytest.raises(SystemExit) as stop:
        skelcl("fuse", "joint", "bone", "--output=both.json")
    assert stop.value.code == 1
    assert (
        f"bone/version_1/results.json: not a stream of joint/version_1/results.json: {what}" in capsys.readouterr().err
    )
    Path("bone/version_1/results.json").unlink()
    with pytest.raises(SystemExit):
        skelcl("fuse", "joint", "bone", "--output=both.json")
    assert "bone/version_1/results.json: not there, and a record of a fusion needs" in capsys.readouterr().err
    assert not Path("both.json").exists()


def test_a_config_is_the_same_but_for_seeds_and_folders():
    config = {
        "seed_everything": 0,
        "data": {"class_path": "NWUCLA", "init_args": {"root": "data", "batch_size": 8, "subset_seed": 0}},
        "model": {"init_args": {"temperature": 0.1}},
        "trainer": {"max_epochs": 2, "logger": {"init_args": {"name": "a"}}, "accelerator": "cpu"},
    }
    plain = config_digest(config)

    def changed(place, value):
        copy = json.loads(json.dumps(config))
        *folders, name = place.split(".")
        inner = copy
        for folder in folders:
            inner = inner[folder]
        inner[name] = value
        return config_digest(copy)

    for place in ("seed_everything", "data.init_args.root", "data.init_args.subset_seed", "trainer.accelerator"):
        assert changed(place, "other") == plain, place
    for place in ("data.init_args.batch_size", "model.init_args.temperature", "trainer.max_epochs", "data.class_path"):
        assert changed(place, "other") != plain, place
    part = {"class_path": "NWUCLA", "init_args": {"root": "data", "test_view": 3}}
    config["data"] = {"class_path": "Mixture", "init_args": {"parts": {"ucla": part}}}
    plain, place = config_digest(config), "data.init_args.parts.ucla.init_args"
    assert changed(f"{place}.root", "other") == plain != changed(f"{place}.test_view", 2)


def test_the_record_is_of_the_run(skelcl, ucla, capsys):
    """From training to the table: two seeds, and one of them tested with few labels, too."""
    run = TOP / "experiments" / "pretrain" / "as_cal-nw_ucla.yaml"
    quick = [f"--data.root={ucla}", "--data.batch_size=8", "--model.encoder.hidden=8", "--model.queue_size=16"]
    quick += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.limit_train_batches=2"]
    quick += ["--trainer.limit_val_batches=0", "--evaluation.figures=false", "--trainer.enable_model_summary=false"]
    folder = Path("runs/as_cal-nw_ucla")
    for seed in (0, 1):
        skelcl("fit", "--config", run, *quick, f"--seed_everything={seed}", "--trainer.max_epochs=2")
        last = folder / f"version_{2 * seed}" / "checkpoints" / "last.ckpt"
        cli = skelcl("test", "--ckpt_path", last)
    skelcl("test", "--ckpt_path", last, "--data.fraction=0.5", "--data.subset_seed=3")
    found = read_results(Path("runs"))
    assert [result.run["seed"] for result in found] == [0, 1, 1]
    for result in found:
        facts = result.run
        assert (facts["epochs"], facts["planned_epochs"], facts["steps"], facts["stream"]) == (2, 2, 4, "joint")
        assert facts["parameters"] == sum(p.numel() for p in cli.model.encoder.parameters())
        assert facts["trained_on"]["versions"]["torch"] == torch.__version__
        assert facts["trained_on"]["seconds"] > 0
        checkpoint = folder / f"version_{2 * facts['seed']}" / "checkpoints" / "last.ckpt"
        assert facts["checkpoint_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
        data = facts["data"]
        assert (data["name"], data["split"], data["test_clips"]) == ("nw-ucla", "test_view 3", 30)
        assert data["test_sha256"] == digest(cli.datamodule.ids[cli.datamodule.parts["test"]].tolist())
    assert [result.run["data"]["labels"]["clips"] for result in found] == [60, 60, 30]
    labels = found[2].run["data"]["labels"]
    assert labels["sha256"] == digest(read_labels(folder / "version_4" / "labels.txt"))
    assert (labels["rule"], labels["seed"]) == ("50 % stratified", 3)
    rows, _ = families(found)
    assert [(row.seeds, row.group) for row in rows] == [("0,1", 0), ("1/3", 1)]
    capsys.readouterr()
    skelcl("results", "runs")
    table = cells(capsys.readouterr().out)
    assert [(row["method"], row["letter"]) for row in table] == [
        ("random weights", "A"), ("ASCAL", "A"), ("random weights", "B"), ("ASCAL", "B"),
    ]  # fmt: skip
