"""Local sweeps: every trial once, the best found, early stopping, kills; real runs at the end, elsewhere a stand-in."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from skelcl.commands.sweep import run_local
from skelcl.errors import InputError
from skelcl.sweeps.definition import read_sweep
from skelcl.sweeps.local import LocalSweep
from skelcl.sweeps.trial import objective

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
FAKE = (sys.executable, str(Path(__file__).with_name("fake_fit.py")))
EPOCHS = 4  # of fake_fit.py, which logs x · (epoch + 1) / EPOCHS


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Makes a sweep over ``x`` whose trials are ``fake_fit.py``; takes changes of the file."""
    monkeypatch.setattr("skelcl.sweeps.trial.PROGRAM", FAKE)
    monkeypatch.setenv("PYTHONPATH", str(EXPERIMENTS.parent))

    def make(**changes):
        content = {
            "method": "grid",
            "metric": {"name": "val/knn_top1", "goal": "maximize"},
            "parameters": {"x": {"values": [0.3, 0.9, 0.1, 0.7]}},
            "command": ["${env}", "skelcl", "fit", "${args}"],
            **changes,
        }
        path = tmp_path / "sweep.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        return read_sweep(path)

    return make


def table(folder):
    with (folder / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def last_of(folder, metric="val/knn_top1"):
    """The last value in the files of a trial, read in the plainest way."""
    rows = []
    for path in sorted(folder.glob("version_*/metrics.csv")):
        with path.open(newline="") as file:
            rows += [float(row[metric]) for row in csv.DictReader(file) if row.get(metric)]
    return rows[-1]


def test_a_grid_runs_every_trial_once_and_finds_the_best(fake, tmp_path, capsys):
    folder = tmp_path / "out"
    run_local(fake(), folder, jobs=2)
    rows = table(folder)
    assert [float(row["x"]) for row in rows] == [0.9, 0.7, 0.3, 0.1]
    assert {row["state"] for row in rows} == {"complete"}
    assert [row["measured"] for row in rows] == [str(EPOCHS)] * 4
    assert [row["best"] for row in rows] == ["1", "0", "0", "0"]
    oracle = {trial: last_of(trial) for trial in folder.glob("trial_*")}
    assert {Path(row["folder"]): float(row["val/knn_top1"]) for row in rows} == oracle
    assert Path(rows[0]["folder"]) == max(oracle, key=oracle.get)
    told = capsys.readouterr().out
    assert "best: trial 1, val/knn_top1 0.9" in told
    assert "\n      skelcl fit --x=0.9\n" in told
    assert "| **1** | **0.9**" in (folder / "table.md").read_text()
    assert (folder / "sweep.png").stat().st_size > 0
    logs = {path: path.stat().st_mtime_ns for path in folder.glob("trial_*/version_*/metrics.csv")}
    run_local(fake(), folder)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("trial_*/version_*/metrics.csv")} == logs


def test_less_is_better_where_the_file_says_so(fake, tmp_path):
    run_local(fake(metric={"name": "val/knn_top1", "goal": "minimize"}), tmp_path / "out", jobs=2)
    assert [float(row["x"]) for row in table(tmp_path / "out")] == [0.1, 0.3, 0.7, 0.9]


SPACE = {
    "x": {"min": 0.2, "max": 0.8},
    "kind": {"values": ["a", [1, 2]]},
    "size": {"distribution": "int_uniform", "min": 2, "max": 4},
    "rate": {"distribution": "log_uniform_values", "min": 0.001, "max": 1.0},
    "rare": {"values": ["often", "never"], "probabilities": [1.0, 0.0]},
}


def drawn(sweep, folder, number):
    """Values of the first trials, without running them."""
    local = LocalSweep(sweep, folder)
    found = []
    while (trial := local._next(number, dict.fromkeys(range(len(found))))) is not None:
        found.append(local._values(local._draw(trial)))
    local.close()
    return found


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_draws_lie_where_the_file_says_and_are_the_same_again(fake, tmp_path, method):
    sweep = fake(method=method, parameters=SPACE)
    found = drawn(sweep, tmp_path / "one", 12)
    assert found == drawn(sweep, tmp_path / "two", 12)
    assert all(0.2 <= one["x"] <= 0.8 and 0.001 <= one["rate"] <= 1.0 for one in found)
    assert {str(one["kind"]) for one in found} == {"a", "[1, 2]"}
    assert {one["size"] for one in found} == {2, 3, 4}
    assert {one["rare"] for one in found} == {"often"}
    assert len({one["x"] for one in found}) == 12
    if method == "random":
        assert 2 < sum(one["rate"] < 0.0316 for one in found) < 10, "half of the draws lie below the geometric middle"
        assert drawn(sweep, tmp_path / "three", 3) == found[:3], "a trial depends on its number alone"


def test_bayes_learns_where_the_best_lies(fake, tmp_path):
    """Told that more x is better, the trials after the random start lie higher than that start."""
    local = LocalSweep(fake(method="bayes", parameters={"x": {"min": 0.0, "max": 1.0}}), tmp_path / "out")
    found = []
    for number in range(30):
        trial = local._next(30, {})
        found.append(local._values(local._draw(trial))["x"])
        local._study.tell(trial, found[-1])
        assert trial.number == number
    local.close()
    assert sum(found[20:]) / 10 > 0.8 > sum(found[:10]) / 10


def test_hyperband_stops_what_wandb_would_stop(fake, tmp_path):
    """One after the other: a trial below the best third of those before it at the first band ends there."""
    values = [0.9, 0.1, 0.5, 1.0]
    sweep = fake(
        parameters={"x": {"values": values}, "seconds": {"value": 0.5}},
        early_terminate={"type": "hyperband", "min_iter": 2, "eta": 3},
    )
    run_local(sweep, tmp_path / "out")
    rows = {float(row["x"]): row for row in table(tmp_path / "out")}
    assert {x: row["state"] for x, row in rows.items()} == {
        0.9: "complete",
        0.1: "stopped",
        0.5: "stopped",
        1.0: "complete",
    }
    assert rows[1.0]["best"] == "1"
    for x in (0.1, 0.5):
        assert 2 <= int(rows[x]["measured"]) < EPOCHS
        assert float(rows[x]["val/knn_top1"]) == pytest.approx(x * int(rows[x]["measured"]) / EPOCHS)


def test_a_random_search_ends_at_its_count_and_goes_on_with_a_larger_one(fake, tmp_path):
    sweep, folder = fake(method="random", parameters=SPACE), tmp_path / "out"
    with pytest.raises(InputError, match="no end of its own; say --count"):
        run_local(sweep, folder)
    run_local(sweep, folder, count=2, jobs=2)
    first = {row["trial"]: row["x"] for row in table(folder)}
    run_local(sweep, folder, count=3)
    assert {row["trial"]: row["x"] for row in table(folder)}.items() > first.items()
    assert len(list(folder.glob("trial_*/version_*"))) == 3


def test_a_failed_trial_is_told_and_tried_again_by_the_next_call(fake, tmp_path, capsys):
    sweep, folder = fake(parameters={"x": {"values": [-1, 0.5]}}), tmp_path / "out"
    for _ in range(2):
        run_local(sweep, folder)
        assert "trial 0: failed: x must not be -1" in capsys.readouterr().out
    assert [row["state"] for row in table(folder)] == ["complete", "failed"]
    assert len(list((folder / "trial_000").glob("version_*"))) == 2
    assert len(list((folder / "trial_001").glob("version_*"))) == 1


def test_the_reason_of_a_failure_is_that_of_the_last_attempt(fake, tmp_path, monkeypatch, capsys):
    sweep, folder = fake(parameters={"x": {"values": [-1, 0.5]}}), tmp_path / "out"
    run_local(sweep, folder)
    assert "x must not be -1" in capsys.readouterr().out
    monkeypatch.setattr("skelcl.sweeps.trial.PROGRAM", (sys.executable, "-c", "raise SystemExit('out of memory')"))
    run_local(sweep, folder)
    told = capsys.readouterr().out
    assert "trial 0: failed: out of memory" in told
    assert "must not be" not in told


def test_nothing_but_failures_end_the_sweep_soon(fake, tmp_path):
    with pytest.raises(InputError, match="no trial came to its end: x must not be -1"):
        run_local(fake(parameters={"x": {"value": -1}, "y": {"values": list(range(9))}}), tmp_path / "out")
    assert len(list((tmp_path / "out").glob("trial_*"))) == 3


def test_an_objective_that_is_not_logged_is_named(fake, tmp_path):
    sweep = fake(metric={"name": "val/top1"}, parameters={"x": {"value": 1}})
    with pytest.raises(InputError, match="val/top1 was not measured; the run logs train/loss, val/knn_top1"):
        run_local(sweep, tmp_path / "out")


def test_a_folder_belongs_to_one_sweep_and_one_process(fake, tmp_path):
    folder = tmp_path / "out"
    held = LocalSweep(fake(), folder)
    with pytest.raises(InputError, match="another `skelcl sweep` is at work here"):
        LocalSweep(fake(), folder)
    held.close()
    with pytest.raises(InputError, match="holds another sweep than"):
        LocalSweep(fake(method="random"), folder)


def test_half_a_line_is_not_read(tmp_path):
    for version, text in enumerate(["epoch,val/x\n0,0.5\n1,0.6\n", "epoch,val/x\n1,0.7\n2,\n2,0.8\n3,0.9"]):
        (tmp_path / f"version_{version}").mkdir()
        (tmp_path / f"version_{version}" / "metrics.csv").write_text(text)
    assert objective(tmp_path, "val/x") == [0.5, 0.7, 0.8], "a part that goes on counts more than the part before"


SWEEP_IN_A_PROCESS = """
import sys
from pathlib import Path
import skelcl.sweeps.trial
from skelcl.runs.interruption import PROGRAM
from skelcl.commands.sweep import run_local
from skelcl.sweeps.definition import read_sweep
skelcl.sweeps.trial.PROGRAM = tuple(sys.argv[3:])
PROGRAM.run(lambda: run_local(read_sweep(Path(sys.argv[1])), Path(sys.argv[2]), jobs=2))
"""


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)


def processes_of(folder):
    """Ids of the processes whose command line names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if str(folder).encode() in words and int(path.parent.name) != os.getpid():
            found.append(int(path.parent.name))
    return found


@pytest.mark.linux("looks at /proc")
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_killed_sweep_goes_on_to_the_same_end(fake, tmp_path, kind):
    sweep = fake(parameters={"x": {"values": [0.3, 0.9, 0.1, 0.7]}, "seconds": {"value": 0.4}})
    folder = tmp_path / "out"
    command = [sys.executable, "-c", SWEEP_IN_A_PROCESS, str(sweep.path), str(folder), *FAKE]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    second = folder / "trial_002" / "version_0" / "checkpoints" / "last.ckpt"
    wait_for(second.is_file)
    process.send_signal(kind)
    _, told = process.communicate(timeout=60)
    assert process.returncode == (-kind if kind == signal.SIGKILL else 128 + kind)
    line = f"interrupted by {kind.name}: the same command goes on from here"
    assert kind == signal.SIGKILL or told.splitlines()[-1].endswith(line)
    wait_for(lambda: not processes_of(folder))  # no trial survives the sweep
    finished = [f for f in folder.glob("trial_*") if len(objective(f, "val/knn_top1")) == EPOCHS]
    before = {path: path.stat().st_mtime_ns for f in finished for path in f.glob("version_*/metrics.csv")}
    assert len(finished) < 4
    run_local(sweep, folder, jobs=2)
    rows = table(folder)
    assert [float(row["x"]) for row in rows] == [0.9, 0.7, 0.3, 0.1]
    assert {row["measured"] for row in rows} == {str(EPOCHS)}
    for path, time_ns in before.items():
        assert path.stat().st_mtime_ns == time_ns, "what is finished is not repeated"
    resumed = (folder / "trial_002" / "version_1" / "metrics.csv").read_text()
    assert not re.search(r"^0,", resumed, re.MULTILINE), "it went on after the epoch that was saved"


REAL = {
    "command": [
        *["${env}", "skelcl", "fit", "--config", str(EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml")],
        *["--model.encoder.hidden=8", "--model.queue_size=32", "--data.batch_size=16", "--trainer.max_epochs=2"],
        *["--trainer.accelerator=cpu", "--trainer.enable_model_summary=false", "${args}"],
    ],
    "parameters": {"model.temperature": {"values": [0.1, 0.5]}},
}


@pytest.fixture
def real(fake, monkeypatch, ucla):
    """A sweep of two runs of AS-CAL on miniature data; takes changes of the file."""

    def make(*words, **changes):
        command = [*REAL["command"][:-1], f"--data.root={ucla}", *words, "${args}"]
        sweep = fake(**{**REAL, "command": command, **changes})
        monkeypatch.setattr("skelcl.sweeps.trial.PROGRAM", (sys.executable, "-m", "skelcl.sweeps.child"))
        return sweep

    return make


@pytest.mark.slow
def test_a_sweep_of_real_runs(real, skelcl, tmp_path, capsys):
    sweep = real()
    skelcl("sweep", sweep.path, "--local", "--jobs=2", "--folder", tmp_path / "out")
    rows = table(tmp_path / "out")
    oracle = {trial: last_of(trial) for trial in (tmp_path / "out").glob("trial_*")}
    assert {Path(row["folder"]): float(row["val/knn_top1"]) for row in rows} == oracle
    assert float(rows[0]["val/knn_top1"]) == max(oracle.values())
    assert len(oracle) == 2
    assert "best: trial " in capsys.readouterr().out
    config = (Path(rows[0]["folder"]) / "version_0" / "config.yaml").read_text()
    assert re.search(rf"^    temperature: {rows[0]['model.temperature']}$", config, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.linux("looks at /proc")
def test_a_killed_sweep_of_real_runs_ends_in_the_same_values(real, tmp_path):
    """Resumed in the middle of its training, a trial logs bit for bit what an uninterrupted one logs."""
    sweep = real("--trainer.max_epochs=20")
    for name in ("whole", "killed"):
        command = [sys.executable, "-c", SWEEP_IN_A_PROCESS, str(sweep.path), str(tmp_path / name)]
        process = subprocess.Popen([*command, sys.executable, "-m", "skelcl.sweeps.child"], cwd=tmp_path)
        if name == "killed":
            saved = tmp_path / name / "trial_000" / "version_0" / "checkpoints" / "last.ckpt"
            wait_for(saved.is_file, 200)
            process.kill()
        process.wait()
    wait_for(lambda: not processes_of(tmp_path / "killed"))
    assert any(len(objective(f, "val/knn_top1")) < 20 for f in (tmp_path / "killed").glob("trial_*"))
    run_local(sweep, tmp_path / "killed", jobs=2)
    for trial in ("trial_000", "trial_001"):
        whole, killed = (objective(tmp_path / name / trial, "val/knn_top1") for name in ("whole", "killed"))
        assert len(whole) == 20
        assert killed == whole
    assert (tmp_path / "killed" / "trial_000" / "version_1").is_dir()


@pytest.mark.linux("ddp_fork is reported to fail elsewhere")
@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "ddp_fork"])
def test_a_trial_of_two_processes_logs_once(real, tmp_path, strategy):
    sweep = real(
        "--trainer.devices=2", f"--trainer.strategy={strategy}", parameters={"model.temperature": {"value": 0.1}}
    )
    folder = tmp_path / "out"
    run_local(sweep, folder)
    (row,) = table(folder)
    assert row["measured"] == "2"
    (version,) = (folder / "trial_000").glob("version_*")
    assert [path.name for path in sorted(version.iterdir())] == ["checkpoints", "config.yaml", "metrics.csv"]
    with (version / "metrics.csv").open(newline="") as file:
        values = [float(line["val/knn_top1"]) for line in csv.DictReader(file) if line["val/knn_top1"]]
    assert len(values) == 2
    assert float(row["val/knn_top1"]) == values[-1]
    assert "MEMBER: 2/2" in (folder / "trial_000" / "log.txt").read_text()
