"""Sweep files: read, refused, and what is shipped, against W&B's own schema and agent."""

import csv
import itertools
import warnings
from pathlib import Path

import pytest
import yaml

from skelcl.cli import run
from skelcl.errors import InputError
from skelcl.files import from_cell
from skelcl.sweeps.definition import check_options, from_agent, read_sweep
from skelcl.sweeps.local import Result
from skelcl.sweeps.ranking import write_tables

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it was written for an older pydantic
    from sweeps.config import SweepConfig
    from sweeps.config.schema import validator

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "experiments" / "sweeps").glob("*.yaml"))
GOOD = {
    "method": "grid",
    "metric": {"name": "val/knn_top1", "goal": "maximize"},
    "parameters": {"model.temperature": {"values": [0.1, 0.5]}},
    "command": ["${env}", "skelcl", "fit", "--config", "experiments/pretrain/as_cal-nw_ucla.yaml", "${args}"],
}


def written(folder, **changes):
    """A sweep file with changes; a key set to None is left out."""
    content = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_shipped_sweep_is_valid_for_wandb(path):
    content = yaml.safe_load(path.read_text())
    assert [error.message for error in validator.iter_errors(content)] == []
    SweepConfig(content)  # raises where its own further checks fail
    sweep = read_sweep(path)
    assert sweep.metric in ("val/knn_top1", "val/top1")
    assert content["command"][:3] == ["${env}", "skelcl", "fit"]
    assert content["command"][-1] == "${args}"
    assert "experiments/overlays/wandb.yaml" in content["command"], "or W&B would see no objective"
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("Here", "W&B", "Objective", "Duration"):
        assert any(line.startswith(f"# {word} ") for line in header), word
    here = next(line for line in header if line.startswith("# Here"))
    assert f"skelcl sweep experiments/sweeps/{path.name} --local" in here
    assert ("--count" in here) == (sweep.method != "grid")


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_options_of_a_shipped_sweep_exist(monkeypatch, path):
    monkeypatch.chdir(ROOT)
    check_options(read_sweep(path))


def test_every_method_is_shipped():
    content = [yaml.safe_load(path.read_text()) for path in SWEEPS]
    assert {one["method"] for one in content} == {"grid", "random", "bayes"}
    assert any(one["method"] == "bayes" and "early_terminate" in one for one in content)


def test_words_are_those_of_wandbs_agent_in_the_words_of_yaml(tmp_path):
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    values = {"a.b": 0.1, "c": [1.0, 2], "d": [{"class_path": "Shear"}], "e": True, "f": None, "g": 1e-7, "h": "x y",
              "i": 512.0, "j": {"k": [None, 1.5]}, "l": "2.0.1", "m": -3.0}  # fmt: skip
    parameters = {key: {"value": value} for key, value in values.items()}
    sweep = read_sweep(written(tmp_path, parameters=parameters))
    theirs = create_sweep_command_args({"args": parameters})["args"]
    assert sweep.arguments(values) == [
        "fit",
        "--config",
        "experiments/pretrain/as_cal-nw_ucla.yaml",
        *from_agent(theirs),
    ]
    read = dict(word.removeprefix("--").split("=", 1) for word in from_agent(theirs))
    assert {key: yaml.safe_load(value) for key, value in read.items()} == {**values, "g": "1e-07"}  # as YAML 1.1 has it
    assert [read[key] for key in "fim"] == ["null", "512", "-3"]


def test_fit_takes_what_wandbs_agent_writes(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["fit", "--config", str(ROOT / "experiments" / "pretrain" / "as_cal-nw_ucla.yaml"), "--print_config"]
    words += ["--model.queue_size=512.0", "--model.scheduler=None", "--model.temperature=0.5"]
    with pytest.raises(SystemExit) as stop:
        run(words)
    assert stop.value.code == 2
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(words)
    assert stop.value.code == 0
    model = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    assert (model["queue_size"], model["scheduler"], model["temperature"]) == (512, None, 0.5)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"metric": {"name": "test/knn_top1"}}, "metric test/knn_top1: nothing is selected on test data"),
        ({"metric": {"name": "test_clean/top1"}}, "nothing is selected on test data"),
        ({"metric": "val/knn_top1"}, "metric: must be a mapping"),
        ({"metric": {"name": "val/knn_top1", "goal": "best"}}, "minimize or maximize, not 'best'"),
        ({"metric": None}, "metric is missing"),
        ({"method": "custom"}, "must be one of grid, random, bayes, not 'custom'"),
        ({"parameters": {"x": {"min": 0.0, "max": 1.0}}}, "parameters.x: a grid needs values, not uniform"),
        ({"parameters": {}}, "parameters: must be a mapping"),
        ({"parameters": {"x": {"distribution": "beta"}}}, "parameters.x: distribution 'beta' is not supported"),
        ({"command": None}, "command is missing"),
        ({"command": ["${env}", "python", "train.py", "${args}"]}, "command: must be"),
        ({"command": ["skelcl", "fit", "--config", "x.yaml"]}, "command: must be"),
        ({"command": ["skelcl", "fit", "${program}", "${args}"]}, "${program} means nothing here"),
        (
            {"command": ["skelcl", "fit", "${args_no_boolean_flags}"]},
            "drops the values of booleans",
        ),
        ({"early_terminate": {"type": "hyperband"}}, "needs min_iter"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 2, "eta": 1.5}}, "whole numbers, eta ≥ 2"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 9, "s": 2, "eta": 0}}, "eta ≥ 2"),
        ({"early_terminate": {"type": "hyperband", "max_iter": 9, "s": "two"}}, "needs min_iter"),
        ({"early_terminate": {"type": "envelope"}}, "type: hyperband"),
        ({"run_cap": 0}, "run_cap"),
        ({"paramters": {}}, "unknown key 'paramters'"),
    ],
)
def test_what_is_refused(tmp_path, changes, told):
    path = written(tmp_path, **changes)
    with pytest.raises(InputError) as error:
        read_sweep(path)
    assert str(error.value).startswith(f"{path}: ")
    assert told in str(error.value)


def test_files_that_are_none(tmp_path):
    (tmp_path / "broken.yaml").write_text("method: [")
    (tmp_path / "list.yaml").write_text("- 1")
    for name, told in {"missing.yaml": "no such", "broken.yaml": "not YAML", "list.yaml": "is a mapping"}.items():
        with pytest.raises(InputError, match=told):
            read_sweep(tmp_path / name)


@pytest.mark.parametrize("options", [{"max_iter": 27, "s": 2}, {"max_iter": 5, "s": 9, "eta": 2}, {"min_iter": 4}])
def test_first_band_of_hyperband_is_wandbs(tmp_path, options):
    sweep = read_sweep(written(tmp_path, early_terminate={"type": "hyperband", **options}))
    eta, most = options.get("eta", 3), options.get("s", 0)
    bands = [options["max_iter"] / eta**k for k in range(1, most + 1)] if most else [options["min_iter"]]
    assert sweep.early == (int(min(band for band in bands if band >= 1)), eta)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"parameters": {"model.temprature": {"values": [0.1]}}}, "temprature"),
        ({"parameters": {"model.temperature": {"values": [0.1, "hot"]}}}, "hot"),
        ({"command": [*GOOD["command"], "--data.validation=none"]}, "is not measured without validation"),
        ({"metric": {"name": "val/top1", "goal": "maximize"}}, "take --data.validation=held-out"),
    ],
)
def test_a_command_line_that_cannot_be_is_one_line_before_anything_starts(tmp_path, monkeypatch, capsys, changes, told):
    path = written(tmp_path, **changes)
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as stop:
        run(["sweep", str(path), "--local", "--folder", str(tmp_path / "out")])
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"skelcl: error: {path}: ")
    assert told in lines[0]
    assert not (tmp_path / "out").exists()


def test_a_grid_is_the_full_product(tmp_path):
    from skelcl.sweeps.local import LocalSweep

    values = {"a": [1, 2, 3], "b": [{"x": 1}, [2]], "c": [0.5, 0.25]}
    parameters = {**{key: {"values": one} for key, one in values.items()}, "d": {"value": 7}}
    local = LocalSweep(read_sweep(written(tmp_path, parameters=parameters)), tmp_path / "out")
    found = []
    while (trial := local._next(local._total(None), dict.fromkeys(range(len(found))))) is not None:
        found.append(local._values(local._draw(trial)))
    local.close()
    assert found == [dict(zip("abcd", (*one, 7), strict=True)) for one in itertools.product(*values.values())]


def test_without_local_the_commands_of_wandb_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    path = written(tmp_path)
    run(["sweep", str(path), "--count", "5"])
    told = capsys.readouterr().out
    assert f"wandb sweep --project skelcl {path}" in told
    assert "wandb agent --count 5 ENTITY/skelcl/ID" in told


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_help(capsys, words):
    with pytest.raises(SystemExit) as stop:
        run(["sweep", *words])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    assert "--local" in told
    assert "--trainer.strategy=ddp" in told


def test_values_of_any_text_are_cells_and_rows(tmp_path):
    sweep = read_sweep(written(tmp_path))
    key = sweep.parameters[0].key
    texts = ["=1+1", "a\nb|c", "<b>\x1b[2J", "x" * 500]
    results = [Result(n, "complete", {key: text}, 0.5, 1, tmp_path / str(n)) for n, text in enumerate(texts)]
    write_tables(tmp_path, sweep, results)
    with (tmp_path / "table.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [from_cell(row[key]) for row in rows] == texts
    assert not [one for row in rows for one in row.values() if one[:1] in tuple("=+-@")]
    head, blank, *lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert (head.startswith(sweep.path.name), blank, len(lines)) == (True, "", 2 + len(texts))
    assert r"a b\|c" in lines[3]
    assert r"\<b> [2J" in lines[4]
    assert len({len(line) for line in lines}) == 1
