"""Benchmarks of whole training steps run; each checks by itself that the forms which it compares agree."""

import importlib
import re
import runpy
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "experiments" / "benchmarks"


@pytest.fixture
def tables(monkeypatch, capsys):
    """Runs a benchmark in its smallest size and gives what it prints."""

    def run(name):
        monkeypatch.syspath_prepend(BENCHMARKS)
        runpy.run_path(str(BENCHMARKS / name), run_name="benchmark")["main"](quick=True, device="cpu")
        return capsys.readouterr().out

    return run


def saved(table):
    """What the forward passes keep for the backward pass in each step table: plain, ours."""
    return [tuple(map(float, pair)) for pair in re.findall(r"saved MB (\d+) and (\d+)", table)]


@pytest.mark.filterwarnings("default")
def test_scd_net(tables):
    table = tables("scd_net.py")
    for part in ("views", "forward and backward", "loss and queues", "optimiser", "momentum"):
        assert len(re.findall(rf"^  {part} +[\d.]+ +[\d.]+ +[\d.]+x +\d+%$", table, re.MULTILINE)) == 2
    assert len(saved(table)) == 2
    assert all(ours <= 0.7 * plain for plain, ours in saved(table))
    assert "features, one person" in table
    assert "encoding every time" in table


@pytest.mark.filterwarnings("default")
def test_sds_cl(tables):
    table = tables("sds_cl.py")
    for stage in ("pre-training", "fine-tuning"):
        for mode in ("fp32", "bf16"):
            assert f"{stage}, {mode}, batch 4" in table
    assert len(saved(table)) == 4
    assert all(ours <= 0.8 * plain for plain, ours in saved(table)[2:])


@pytest.fixture
def cost(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("cost")


def test_what_a_run_costs_is_steps_times_seconds(cost, monkeypatch, tmp_path, capsys):
    asked = []

    def stub(run, steps, root, threads, words):
        asked.append((run.stem, steps, threads, words))
        return cost.Measured(0.25, 3.21e9)

    monkeypatch.setattr(cost, "measure_apart", stub)
    runs = [BENCHMARKS.parent / "pretrain" / f"{name}.yaml" for name in ("as_cal-nw_ucla", "skeleton_clr-ntu60")]
    runs.append(BENCHMARKS.parent / "supervised" / "hcn-nw_ucla.yaml")
    cost.main(runs, steps=7, threads=1, options=["--trainer.accelerator=cpu"], output=tmp_path / "cost.md")
    text = (tmp_path / "cost.md").read_text()
    assert text in capsys.readouterr().out
    assert text.startswith("CPU, 1 threads, torch ")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[4:]]
    # 1,020 / 32 rounded up; 40,091 / 128 rounded down, whole batches only; 5 · 1,020 / 64 rounded up
    assert rows == [
        ["`as_cal-nw_ucla`", "32", "60", "1,920", "128", "3.2 GB", "8 min"],
        ["`skeleton_clr-ntu60`", "128", "300", "93,900", "512", "3.2 GB", "6.5 h"],
        ["`hcn-nw_ucla`", "64", "400", "32,000", "256", "3.2 GB", "2.2 h"],
    ]
    assert asked[0] == ("as_cal-nw_ucla", 7, 1, ["--trainer.accelerator=cpu"])


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.123, "0.12 s"), (119, "120 s"), (121, "2 min"), (7300, "2 h"), (1e6, "12 days")]
)
def test_durations(cost, seconds, told):
    assert cost.duration(seconds) == told


@pytest.mark.slow
def test_every_run_of_pretraining_has_a_number_of_clips(cost):
    for run in sorted((BENCHMARKS.parent / "pretrain").glob("*.yaml")):
        assert cost.recipe(run).steps > 0


def test_the_clock_leaves_out_the_first_steps(cost):
    clock = cost.Clock()
    clock.began = [0.0, 50.0, 60.0, 61.0, 63.0, 68.0]
    assert clock.seconds == 2


@pytest.mark.slow
def test_a_run_is_measured(cost, tmp_path):
    run = BENCHMARKS.parent / "pretrain" / "as_cal-nw_ucla.yaml"
    words = ["--model.encoder.hidden=8", "--trainer.accelerator=cpu"]
    measured = cost.measure_apart(run, 2, tmp_path, 1, words)
    assert 1e-3 < measured.seconds < 5
    assert 5e7 < measured.memory < 4e9
