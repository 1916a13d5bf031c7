"""The distributions of W&B's sweep files, each as its quantile function."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist
from typing import Any

from skelcl.errors import InputError

Quantile = Callable[[float], float]


@dataclass(frozen=True)
class Parameter:
    """One option of a sweep and the values that it may have.

    Args:
        key: Option of ``skelcl fit`` with its dots, ``model.temperature``.
        distribution: Its name in W&B.
        values: All values, one after the other; None for a continuous distribution.
        quantile: Value at each point of 0…1; a uniform point gives a draw. None where every value is as likely.
    """

    key: str
    distribution: str
    values: tuple[Any, ...] | None = None
    quantile: Callable[[float], Any] | None = None

    @property
    def candidates(self) -> tuple[Any, ...]:
        """All values, or the median of a continuous distribution."""
        if self.values is not None:
            return self.values
        assert self.quantile is not None
        return (self.quantile(0.5),)

    @property
    def logarithmic(self) -> bool:
        """Whether its values spread over magnitudes."""
        return self.distribution.startswith(("log_", "q_log_", "inv_log_"))


def parameter(key: str, options: object) -> Parameter:
    """What a sweep file says of one parameter.

    Args:
        key: Option of ``skelcl fit``.
        options: Mapping below the key: ``value``, ``values``, ``min`` and ``max``, or ``distribution`` and its numbers.

    Raises:
        InputError: If it is no distribution of W&B, or its numbers make no sense.
    """
    if not isinstance(options, Mapping):
        raise InputError(f"parameters.{key}: must be a mapping like {{values: [0.1, 0.2]}}, not {options!r}")
    given = dict(options)
    if "parameters" in given:
        raise InputError(f"parameters.{key}: nested parameters are no options; write dotted keys like {key}.NAME")
    name = given.pop("distribution", None) or _implied(given)
    if name not in ALLOWED:
        raise InputError(f"parameters.{key}: distribution {name!r} is not supported; there are {', '.join(ALLOWED)}")
    needed, optional = ALLOWED[name]
    missing, unknown = [n for n in needed if n not in given], [n for n in given if n not in (*needed, *optional)]
    if missing or unknown:
        what = f"{missing[0]} is missing" if missing else f"{unknown[0]!r} is not one of {', '.join(needed + optional)}"
        raise InputError(f"parameters.{key}: {what} ({name})")
    if name == "constant":
        return Parameter(key, name, (given["value"],))
    if name.startswith("categorical"):
        return _choice(key, name, given)
    numbers = {"mu": 0.0, "sigma": 1.0, "q": 1, **given}
    for what, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            hint = "; YAML reads 1e-3 as text, write 1.0e-3" if isinstance(number, str) else ""
            raise InputError(f"parameters.{key}: {what} must be a number, not {number!r}{hint}")
    if "min" in given and not given["min"] <= given["max"]:
        raise InputError(f"parameters.{key}: min {given['min']} is above max {given['max']}")
    if "min" in given and name.endswith("_values") and given["min"] <= 0:
        raise InputError(f"parameters.{key}: min of {name} must be above 0, not {given['min']}")
    if name == "int_uniform" and not all(isinstance(given[end], int) for end in ("min", "max")):
        raise InputError(f"parameters.{key}: min and max of int_uniform must be whole numbers")
    if numbers["q"] <= 0 or numbers["sigma"] <= 0:
        raise InputError(f"parameters.{key}: q and sigma must be above 0")
    quantile = _quantile(name.removeprefix("q_"), numbers)
    return Parameter(key, name, None, _stepped(quantile, numbers["q"]) if name.startswith("q_") else quantile)


_SPAN, _BELL = (("min", "max"), ()), ((), ("mu", "sigma"))
ALLOWED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "constant": (("value",), ()),
    "categorical": (("values",), ()),
    "categorical_w_probabilities": (("values", "probabilities"), ()),
    "int_uniform": _SPAN,
    "uniform": _SPAN,
    "log_uniform": _SPAN,
    "log_uniform_values": _SPAN,
    "inv_log_uniform": _SPAN,
    "inv_log_uniform_values": _SPAN,
    "normal": _BELL,
    "log_normal": _BELL,
    "q_uniform": (("min", "max"), ("q",)),
    "q_log_uniform": (("min", "max"), ("q",)),
    "q_log_uniform_values": (("min", "max"), ("q",)),
    "q_normal": ((), ("mu", "sigma", "q")),
    "q_log_normal": ((), ("mu", "sigma", "q")),
}
"""Distribution → the keys that it needs and those that it may have."""


def _implied(given: Mapping[str, Any]) -> str | None:
    """The distribution that W&B takes when none is named."""
    if "value" in given:
        return "constant"
    if "values" in given:
        return "categorical_w_probabilities" if "probabilities" in given else "categorical"
    if {"min", "max"} <= set(given):
        whole = all(isinstance(given[end], int) for end in ("min", "max"))
        return "int_uniform" if whole else "uniform"
    return None


def _choice(key: str, name: str, given: Mapping[str, Any]) -> Parameter:
    values = given["values"]
    if not isinstance(values, list) or not values:
        raise InputError(f"parameters.{key}: values must be a list of at least one, not {values!r}")
    if name == "categorical":
        return Parameter(key, name, tuple(values))
    weights = given["probabilities"]
    if not isinstance(weights, list) or len(weights) != len(values):
        raise InputError(f"parameters.{key}: {len(values)} values need a list of {len(values)} probabilities")
    if not all(isinstance(w, int | float) and w >= 0 for w in weights) or abs(sum(weights) - 1) > 1e-6:
        raise InputError(f"parameters.{key}: probabilities must be ≥ 0 and add up to 1, not {weights}")
    edges = list(accumulate(weights))
    return Parameter(key, name, tuple(values), lambda u: values[min(bisect_left(edges, u), len(values) - 1)])


def _quantile(name: str, numbers: Mapping[str, float]) -> Quantile:
    if name.endswith("normal"):
        bell = NormalDist(numbers["mu"], numbers["sigma"])

        def normal(u: float) -> float:
            return bell.inv_cdf(min(max(u, 1e-12), 1 - 1e-12))

        return normal if name == "normal" else lambda u: math.exp(normal(u))
    low, high = numbers["min"], numbers["max"]
    if name == "uniform":
        return lambda u: low + u * (high - low)
    if name == "int_uniform":
        return lambda u: max(low, low - 1 + math.ceil(u * (high - low + 1)))
    if name.endswith("_values"):
        low, high = math.log(low), math.log(high)
        if name.startswith("inv_"):
            low, high = -high, -low
    if name.startswith("inv_"):
        return lambda u: math.exp(-(low + (1 - u) * (high - low)))
    return lambda u: math.exp(low + u * (high - low))


def _stepped(quantile: Quantile, q: float) -> Quantile:
    """The nearest multiple of q, which may lie half a step outside of the bounds, as in W&B."""
    # Through its own digits: 3 * 0.1 would be 0.30000000000000004 on the command line.
    digits = max(0, 12 - math.floor(math.log10(q)))
    return lambda u: round(round(quantile(u) / q) * q, digits)
