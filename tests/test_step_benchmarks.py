"""Benchmarks of whole training steps run; each checks by itself that the forms which it compares agree."""

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
