"""Results are shown from records: tables are made again, neither sentences nor run files repeat a number of ours."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_distances

from skelcl.evaluation.tested_runs import read_results, record_text
from skelcl.runs.loading import load

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
PAGE = (EXPERIMENTS / "results.md").read_text("utf-8")
RECORDS = sorted((EXPERIMENTS / "results").glob("*.json"))
RUN_FILES = [
    file for folder in ("pretrain", "supervised", "evaluate") for file in sorted((EXPERIMENTS / folder).glob("*.yaml"))
]
OTHERS = re.compile("published|users get|public listing|released")
"""How a header tells numbers of others."""


@pytest.fixture
def script():
    """The module of ``render.py``."""
    spec = importlib.util.spec_from_file_location("render", EXPERIMENTS / "results" / "render.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stem(path):
    return path.stem


def test_the_tables_are_those_of_the_records(script):
    for page in script.PAGES:
        text = page.read_text("utf-8")
        assert script.TABLE.search(text), page
        assert script.render(text) == text, f"{page.name}: python experiments/results/render.py"


def test_rows_are_told_apart_by_what_they_show():
    """Seeds in rows of their own would be runs whose configs differ where no column says it."""
    for lines in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line.strip("|\n ").split("|")] for line in lines.splitlines()]
        shown = [tuple(row[: head.index("seeds")]) for row in rows if row[0].startswith("`")]
        assert len(set(shown)) == len(shown), shown


def test_every_record_is_in_a_table(script):
    markers = script.TABLE.findall(PAGE)
    assert {file for marker in markers for file in script.files(marker[1].split())} == set(RECORDS)
    assert PAGE.count("<!--") == 2 * len(markers), "no marker is misspelt"


@pytest.mark.parametrize("record", RECORDS, ids=stem)
def test_a_record_is_what_the_command_writes(record):
    """Of runs that are named after run files, a few kilobytes each."""
    results = read_results(record)
    assert record.read_text("utf-8") == record_text(results)
    assert record.stat().st_size < sum(3000 + 80 * len(result.metrics) for result in results)
    for result in results:
        assert result.name.rpartition("/")[2] in {file.stem for file in RUN_FILES}
        assert result.facts["checkpoint sha256"]
        assert result.facts["selection"] == "last epoch"
        assert result.facts["epochs"] == result.facts["planned epochs"]


def prose(text):
    """What stands between headings, without tables, markers, code and what the script writes."""
    text = re.sub(r"<!-- results.*?<!-- /results -->|```.*?```", "", text, flags=re.DOTALL)
    return [re.sub(r"`[^`]*`", "CODE", section) for section in re.split(r"^#+ .*$", text, flags=re.MULTILINE)]


def test_sentences_are_few_and_hold_no_numbers():
    sections = prose(PAGE)
    assert len(sections) > 4
    for section in sections:
        assert not re.search(r"\d", section), section
    for section in sections[2:]:
        assert 1 <= len(re.findall(r"[.!?](?=\s|$)", section)) <= 3, section


def test_the_index_is_short():
    assert len((EXPERIMENTS / "README.md").read_text("utf-8").splitlines()) <= 40


@pytest.mark.parametrize("run", RUN_FILES, ids=stem)
def test_a_run_file_expects_no_number_of_ours(run):
    """Numbers were published, or stand in the table of results: a header that repeats them would be wrong one day."""
    header = " ".join(line.lstrip("# ") for line in run.read_text("utf-8").splitlines() if line.startswith("#"))
    (expected,) = re.findall(r"Expect +(.*?) (?=Duration)", header) or [""]
    for clause in re.split(r";", expected):
        assert OTHERS.search(clause) or not re.search(r"\d\.\d", clause), clause
    if (EXPERIMENTS / "results" / f"{run.stem}.json").exists():
        assert "experiments/results.md" in expected


def written(name, metrics, **changes):
    """A record of one run after an existing one, with other metrics, and facts by dotted place."""
    content = json.loads((EXPERIMENTS / "results" / "as_cal-nw_ucla.json").read_text("utf-8"))["results"][0]
    content |= {"name": name, "metrics": metrics}
    for place, value in changes.items():
        inner = content
        *parts, last = place.split("__")
        for part in parts:
            inner = inner[part]
        inner[last] = value
    return content


def store(folder, name, *results):
    (folder / f"{name}.json").write_text(json.dumps({"results": results}), encoding="utf-8")


FACTS = ["labels", "start", "precision"]


def test_gains_are_those_of_pairs_of_seeds(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "RECORDS", tmp_path)
    tuned, scratch = np.random.default_rng(0).uniform(size=(2, 3))
    tested = [
        written(
            "semi", {"test/top1": value},
            method="FineTune", run__seed=seed, run__start=start, run__start_sha256=start, run__config_sha256=str(start),
        )
        for values, start in ((tuned, "last.ckpt"), (scratch, None))
        for seed, value in enumerate(values.tolist())
    ]  # fmt: skip
    store(tmp_path, "semi", *tested)
    rows = script.table(["semi"], ["labels", "start", "precision"], ["top1"]).splitlines()[2:5]
    lines = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    differences = 100 * (tuned - scratch)
    expected = [f"{100 * tuned.mean():.1f} ± {100 * tuned.std(ddof=1):.1f}"]
    expected += [f"{differences.mean():+.1f} ± {differences.std(ddof=1):.1f}"]
    expected += [f"{100 * scratch.mean():.1f} ± {100 * scratch.std(ddof=1):.1f}"]
    assert [line[-2] for line in lines] == expected
    assert [line[2] for line in lines] == ["pre-trained", "pre-trained", "from scratch"]


@pytest.mark.parametrize(
    ("place", "value", "column"),
    [
        ("run__data__test_clips", 400, "test"),
        ("selection", "best val/knn_top1", "selection"),
        ("run__precision", "bf16-mixed", "precision"),
        ("probe", {"preset": "scd", "seed": 0}, "probe"),
    ],
)
def test_rows_that_differ_want_a_column_that_says_so(script, tmp_path, monkeypatch, place, value, column):
    monkeypatch.setattr(script, "RECORDS", tmp_path)
    metrics = {"test/linear_top1": 0.5}
    store(tmp_path, "a", written("a", metrics))
    store(tmp_path, "b", written("b", metrics, run__config_sha256="b", **{place: value}))
    with pytest.raises(ValueError, match="so it wants a column"):
        script.table(["*"], [], ["linear_top1"])
    assert script.table(["*"], [column], ["linear_top1"]).count("50.0") == 2


def test_a_share_of_the_clips_is_a_column(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "RECORDS", tmp_path)
    metrics = {"test/early_knn_top1": 0.4, "test/early_knn_top1_30": 0.5, "test/random_early_knn_top1_30": 0.25}
    protocol = {"early": {"version": 1, "percents": [30, 100]}}
    store(tmp_path, "a", written("a", metrics, protocols=protocol))
    table = script.table(["a"], [], ["early_knn_top1_30", "early_knn_top1"])
    head, _, learned, random = ([cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[:4])
    assert head[2:4] == ["kNN 30 %", "early kNN"]
    assert (learned[2:4], random[2:4]) == (["50.0", "40.0"], ["25.0", ""])
    assert "early recognition v1, percents [30, 100]" in table
    for name in ("early_knn_top1_x", "knn_top1_30", "top2"):
        with pytest.raises(ValueError, match=f"{name}: no kind of accuracy"):
            script.table(["a"], [], [name])


def test_unknown_classes_are_a_table_of_their_own(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "RECORDS", tmp_path)
    metrics = {"test/unknown_auroc": 0.7, "test/unknown_lost": 0.03, "test/random_unknown_auroc": 0.6}
    protocol = {"unknown": {"version": 1, "share": 0.05, "left_out": ["throw"]}}
    store(tmp_path, "a", written("a", metrics, protocols=protocol))
    table = script.table(["a"], [], ["unknown_auroc", "unknown_lost"])
    head, _, learned, random = ([cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()[:4])
    assert head[2:4] == ["AUROC unknown", "known lost"]
    assert (learned[2:4], random[2:4]) == (["70.0", "3.0"], ["60.0", ""])
    assert "unknown classes v1, share 0.05, left_out ['throw']" in table


def test_the_script_on_unknown_classes_writes_a_record(tmp_path, drawn_checkpoint, monkeypatch, capsys):
    """Its AUROC is scikit-learn's, of scikit-learn's distances."""
    path = tmp_path / "run-seed_0" / "version_0" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    small = ["--model.encoder.hidden=8", "--model.queue_size=32"]
    drawn_checkpoint(path, "pretrain/as_cal-nw_ucla.yaml", *small, "--data.classes=['walk around', handshake]")
    spec = importlib.util.spec_from_file_location("unknown", EXPERIMENTS / "evaluate" / "unknown.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(tmp_path / "record.json", [path])
    (result,) = read_results(tmp_path / "record.json")
    assert (result.name, result.facts["unknown"]) == ("run", "v1, share 0.05, left_out ['throw']")
    assert "AUROC unknown" in capsys.readouterr().out
    method, data = load(path)
    test = np.flatnonzero(~data.train_mask(data.store.index))
    known = np.isin(test, data.parts["test"])
    clips = [module.features(method, data, some).numpy() for some in (test, data.parts["train_all"])]
    distance = cosine_distances(*clips).min(1)
    assert result.metrics["test/unknown_auroc"] == pytest.approx(roc_auc_score(~known, distance), abs=1e-6)
    assert 0 < known.sum() < len(test)
    for kind in ("lost", "found"):
        assert 0 <= result.metrics[f"test/random_unknown_{kind}"] <= 1


def test_a_run_that_is_there_twice_is_refused(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "RECORDS", tmp_path)
    store(tmp_path, "a", written("a", {"test/linear_top1": 0.5}))
    store(tmp_path, "b", written("a", {"test/linear_top1": 0.6}))
    with pytest.raises(ValueError, match="older ones of the same run"):
        script.table(["a", "b"], [], ["linear_top1"])
    assert script.EMPTY in script.table(["none"], [], ["linear_top1"])
