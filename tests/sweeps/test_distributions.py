"""Every distribution against W&B's own implementation of it, and what is refused."""

import warnings

import numpy as np
import pytest

from skelcl.errors import InputError
from skelcl.sweeps.distributions import ALLOWED, parameter

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it was written for an older pydantic
    from sweeps.params import HyperParameter

EXAMPLES = {
    "int_uniform": {"min": -3, "max": 11},
    "uniform": {"min": -0.5, "max": 2.0},
    "log_uniform": {"min": -7.0, "max": 1.0},
    "log_uniform_values": {"min": 0.0001, "max": 0.5},
    "inv_log_uniform": {"min": -2.0, "max": 3.0},
    "inv_log_uniform_values": {"min": 0.01, "max": 5.0},
    "normal": {"mu": 2.0, "sigma": 0.3},
    "log_normal": {"mu": -1.0, "sigma": 0.5},
    "q_uniform": {"min": 0.0, "max": 3.0, "q": 0.25},
    "q_log_uniform": {"min": 0.0, "max": 7.0, "q": 16},
    "q_log_uniform_values": {"min": 64, "max": 1024, "q": 32},
    "q_normal": {"mu": 0.0, "sigma": 5.0, "q": 0.5},
    "q_log_normal": {"mu": 2.0, "sigma": 1.0, "q": 2},
}
POINTS = np.linspace(0.001, 0.999, 271)  # no multiple of a step is hit: rounding there is a matter of the last bit


def test_every_supported_distribution_has_an_example():
    assert {*EXAMPLES, "constant", "categorical", "categorical_w_probabilities"} == set(ALLOWED)


@pytest.mark.parametrize("name", EXAMPLES)
def test_quantiles_are_those_of_wandb(name):
    ours = parameter("x", {"distribution": name, **EXAMPLES[name]})
    theirs = HyperParameter("x", {"distribution": name, **EXAMPLES[name]})
    found = [ours.quantile(u) for u in POINTS]
    np.testing.assert_allclose(found, [theirs.ppf(u) for u in POINTS], rtol=1e-9, atol=1e-9)
    assert ours.candidates[0] == pytest.approx(theirs.ppf(0.5))
    assert ours.logarithmic == ("log" in name)
    if isinstance(EXAMPLES[name].get("q", 1), int) and name.startswith(("q_", "int_")):
        assert all(isinstance(value, int) for value in found), "an option that takes whole numbers must get them"
    if {"min", "max"} <= EXAMPLES[name].keys() and (name.endswith("_values") or "log" not in name):
        half = EXAMPLES[name].get("q", 0) / 2
        assert EXAMPLES[name]["min"] - half <= min(found)
        assert max(found) <= EXAMPLES[name]["max"] + half


def test_steps_are_written_as_a_person_would():
    tenths = parameter("x", {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.1})
    assert {str(tenths.quantile(u)) for u in POINTS} == {f"{k / 10}" for k in range(11)}


def test_choices():
    assert parameter("x", {"value": 3}).values == (3,)
    assert parameter("x", {"values": [[1, 2], {"a": 1}, None]}).values == ([1, 2], {"a": 1}, None)
    options = {"values": ["a", "b", "c"], "probabilities": [0.2, 0.0, 0.8]}
    ours, theirs = parameter("x", options), HyperParameter("x", options)
    assert [ours.quantile(u) for u in POINTS] == [theirs.ppf(u) for u in POINTS]  # its form for arrays is another
    assert parameter("x", {"min": 1, "max": 2}).distribution == "int_uniform"
    assert parameter("x", {"min": 1, "max": 2.5}).distribution == "uniform"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"distribution": "beta", "a": 1, "b": 2}, "distribution 'beta' is not supported; there are constant"),
        ({"distribution": "gauss"}, "'gauss' is not supported"),
        ({}, "None is not supported"),
        (3, "must be a mapping"),
        ({"parameters": {"lr": {"value": 1}}}, "nested parameters are no options; write dotted keys like x.NAME"),
        ({"distribution": "uniform", "min": 0.1}, "max is missing (uniform)"),
        ({"distribution": "uniform", "min": 0.1, "max": 1, "q": 2}, "'q' is not one of min, max (uniform)"),
        ({"distribution": "uniform", "min": "1e-3", "max": 1.0}, "YAML reads 1e-3 as text, write 1.0e-3"),
        ({"min": 2.0, "max": 1.0}, "min 2.0 is above max 1.0"),
        ({"distribution": "log_uniform_values", "min": 0.0, "max": 1.0}, "must be above 0"),
        ({"distribution": "int_uniform", "min": 0.5, "max": 1.0}, "whole numbers"),
        ({"distribution": "normal", "sigma": 0}, "sigma must be above 0"),
        ({"values": []}, "at least one"),
        ({"values": [1, 2], "probabilities": [1.0]}, "2 values need a list of 2 probabilities"),
        ({"values": [1, 2], "probabilities": [0.5, 0.6]}, "add up to 1"),
    ],
)
def test_what_is_refused(options, told):
    with pytest.raises(InputError) as error:
        parameter("x", options)
    assert told in str(error.value)
    assert str(error.value).startswith("parameters.x: ")
