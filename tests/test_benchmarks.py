"""Benchmarks run; each checks by itself that the forms which it compares agree."""

import re
import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "experiments" / "benchmarks"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_encoders(monkeypatch, capsys):
    monkeypatch.syspath_prepend(BENCHMARKS)
    runpy.run_path(str(BENCHMARKS / "encoders.py"), run_name="benchmark")["main"](quick=True, devices=["cpu"])
    table = capsys.readouterr().out
    for network in ("ctr-gcn", "2s-agcn", "hyperformer", "hcn"):
        for mode in ("fp32", "bf16"):
            (row,) = re.findall(rf"^{network} +{mode} .*$", table, re.MULTILINE)
            plain, ours = map(float, row.split()[8:10])
            assert mode == "bf16" or ours < plain, "fewer activations are kept for the backward pass"
    assert table.count("of ours with both bodies") == 3
    assert "bank loss, 4 anchors" in table


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("name", "options", "rows"),
    [
        ("views", ["--clips", "4", "--repeat", "1"], ["AS-CAL  ", "AS-CAL, all seven", "crop, resize, rotate"]),
        ("as_cal", ["--batch", "4", "--repeat", "1"], ["NTU-like", "NW-UCLA-like"]),
        (
            "store",
            ["--large", "50", "--seconds", "0.01"],
            ["parse JSON", "store, memory map", "256 random clips of 50"],
        ),
        (
            "prepare",
            ["--files", "6", "--memory_files", "1"],
            ["read: skelcl", "read, choose, normalise: skelcl", "prepare, 1 processes"],
        ),
        pytest.param(
            "bvh",
            ["--files", "2", "--frames", "3"],
            ["numbers alone", "places of all joints"],
            marks=pytest.mark.skipif(find_spec("bvhio") is None, reason="bvhio is not installed: pip install bvhio"),
        ),
        pytest.param(
            "live",
            f"--old={BENCHMARKS.parents[1]} --networks=[as_cal] --frames=3 --repeat=1 --clips=20 --long=20".split(),
            [
                "push, as_cal, labels none, slack 0",
                "push, as_cal, labels none, slack 5",
                "push, as_cal, labels knn, slack 9",
                "push, as_cal: resident",
                "predict, as_cal, arrays",
            ],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_others(monkeypatch, capfd, name, options, rows):
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setattr(sys, "argv", [name, *options])
    runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
    printed = capfd.readouterr().out
    for row in rows:
        ((rest),) = re.findall(rf"^{re.escape(row)}(.*)$", printed, re.MULTILINE)
        assert re.search(r"\d", rest), f"a figure stands behind {row!r}"


def test_builds_that_differ_are_not_compared(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(BENCHMARKS)
    live = runpy.run_path(str(BENCHMARKS / "live.py"), run_name="benchmark")
    live["agree"]([1.0, 2.0], [1.0, 2.00001], "as_cal")
    with pytest.raises(AssertionError, match="as_cal: the builds differ by 5"):
        live["agree"]([1.0, 2.0], [1.0, 2.001], "as_cal")
    assert live["taken_out"](str(tmp_path), tmp_path) == tmp_path.resolve()
    with pytest.raises(SystemExit, match="no build nothing-such: "):
        live["taken_out"]("nothing-such", tmp_path)
