"""Mean ± standard deviation: one formula and one way to write it."""

import re
import statistics
from pathlib import Path

import pytest

import skelcl
from skelcl.evaluation.spread import mean_sd, plus_minus

PACKAGE = Path(skelcl.__file__).parent
EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.mark.parametrize("values", [[0.5, 0.75], [0.1, 0.1, 0.1], [-0.02, 0.01, 0.4, 0.33]])
def test_mean_and_standard_deviation_of_the_sample(values):
    mean, sd = mean_sd(values)
    assert mean == pytest.approx(statistics.mean(values), abs=1e-15)
    assert sd == pytest.approx(statistics.stdev(values), abs=1e-15)


def test_one_value_has_no_spread():
    assert mean_sd([0.25]) == (0.25, None)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mean": 0.7534, "spread": 0.0126}, "75.3 ± 1.3"),
        ({"mean": 0.7534, "spread": None}, "75.3"),
        ({"mean": 0.0312, "spread": 0.004, "signed": True}, "+3.1 ± 0.4"),
        ({"mean": -0.0312, "spread": None, "signed": True}, "-3.1"),
        ({"mean": 0.98765, "spread": 0.01234, "scale": 1, "digits": 3}, "0.988 ± 0.012"),
    ],
)
def test_text(options, text):
    assert plus_minus(**options) == text


def test_nobody_else_writes_a_spread():
    written = re.compile(r"± \{|ddof=1")
    files = [*PACKAGE.rglob("*.py"), *EXPERIMENTS.rglob("*.py"), *EXPERIMENTS.rglob("*.ipynb")]
    assert [path.name for path in files if written.search(path.read_text("utf-8"))] == ["spread.py"]
