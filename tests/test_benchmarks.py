"""Benchmarks run; each checks by itself that the forms which it compares agree."""

import re
import runpy
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
