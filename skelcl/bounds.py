"""Types of bounded numbers for signatures: the command line reads them, and calls from Python are checked."""

from __future__ import annotations

import functools
import inspect
import math
import operator
import types
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from jsonargparse.typing import extend_base_type

from skelcl.errors import OptionError

Checked = TypeVar("Checked", bound=Callable[..., Any])

SMALLEST_TEMPERATURE = 1e-6
"""Cosines of float32 near 1 are 6e-8 apart: divided by less than this, their rounding is what a softmax would see."""

_PHRASES = {
    operator.ge: "at least {:g}",
    operator.gt: "above {:g}",
    operator.le: "at most {:g}",
    operator.lt: "below {:g}",
}


def _number(base: type, *limits: tuple[Callable[[Any, Any], bool], float], text: str | None = None) -> Any:
    """A type of numbers within limits, whose name says which: the help shows it."""
    text = text or " and ".join(_PHRASES[compare].format(limit) for compare, limit in limits)

    def validate(cls: type, value: Any) -> None:
        number = _plain(base, value)
        if number is None:
            raise ValueError(f"must be a {'whole number' if base is int else 'number'} {text}, got {value}")
        if not math.isfinite(number) or not all(compare(number, limit) for compare, limit in limits):
            raise ValueError(f"must be {text}, got {value}")

    return extend_base_type(f"{base.__name__} {text}", base, validate, extra_attrs={"_bounds_text": text})


def _plain(base: type, value: Any) -> Any:
    """The number as an int or a float of Python; None for what is none, or no whole one."""
    try:
        number = base(value)
        return None if isinstance(value, bool) or (base is int and number != float(value)) else number
    except (TypeError, ValueError, OverflowError):
        return None


if TYPE_CHECKING:  # to the eye of a type checker they are plain numbers
    PositiveInt: TypeAlias = int
    NonNegativeInt: TypeAlias = int
    Percent: TypeAlias = int
    PositiveFloat: TypeAlias = float
    NonNegativeFloat: TypeAlias = float
    Share: TypeAlias = float
    PositiveShare: TypeAlias = float
    ProperShare: TypeAlias = float
    PartialShare: TypeAlias = float
    Temperature: TypeAlias = float
else:
    PositiveInt = _number(int, (operator.ge, 1))
    NonNegativeInt = _number(int, (operator.ge, 0))
    Percent = _number(int, (operator.ge, 1), (operator.le, 100), text="in 1…100")
    PositiveFloat = _number(float, (operator.gt, 0))
    NonNegativeFloat = _number(float, (operator.ge, 0))
    Share = _number(float, (operator.ge, 0), (operator.le, 1), text="in [0, 1]")
    PositiveShare = _number(float, (operator.gt, 0), (operator.le, 1), text="in (0, 1]")
    ProperShare = _number(float, (operator.gt, 0), (operator.lt, 1), text="in (0, 1)")
    PartialShare = _number(float, (operator.ge, 0), (operator.lt, 1), text="in [0, 1)")
    Temperature = _number(float, (operator.ge, SMALLEST_TEMPERATURE))


def bounded(checked: Checked) -> Checked:
    """Decorates a function, or a class with an ``__init__``, whose arguments then lie within the types of this module.

    Python passes annotations by; with this, a notebook gets the error of the command line. Values arrive as plain
    numbers.

    Raises:
        OptionError: In a call, if an argument lies outside.
    """
    if isinstance(checked, type):
        checked.__init__ = _bounded(checked.__init__, checked)  # type: ignore[misc]  # of this class, by intent
        return checked
    return _bounded(checked)


def _bounded(function: Any, owner: type | None = None) -> Any:
    signature = inspect.signature(function)

    @functools.cache
    def hints() -> Mapping[str, Any]:  # when it is called, all that its annotations name is there
        found = get_type_hints(function if owner is None or "__dataclass_fields__" not in vars(owner) else owner)
        return {name: hint for name, hint in found.items() if name in signature.parameters and _bounds(hint)}

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        for name, hint in hints().items():
            if name in given.arguments:
                try:
                    given.arguments[name] = _within(hint, given.arguments[name])
                except ValueError as error:
                    who = function.__name__ if owner is None else type(args[0]).__name__
                    raise OptionError(f"{who}: {name} {error}") from error
        return function(*given.args, **given.kwargs)

    return call


def _bounds(hint: Any) -> bool:
    """Whether a type is one of this module, or holds one."""
    return hasattr(hint, "_bounds_text") or any(_bounds(part) for part in get_args(hint))


def _within(hint: Any, value: Any) -> Any:
    """The value as plain numbers; a ValueError where it lies outside."""
    if hasattr(hint, "_bounds_text"):
        return hint._type(hint(value))
    parts, origin = get_args(hint), get_origin(hint)
    if origin in (Union, types.UnionType):
        choices = [part for part in parts if _bounds(part)]
        return value if value is None or isinstance(value, str) else _within(choices[0], value)
    if isinstance(value, Mapping):
        return {key: _within(parts[1], one) if _bounds(parts[1]) else one for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        wanted = parts[:1] * len(value) if len(parts) == 1 or parts[-1] is ... else parts
        if len(wanted) != len(value):
            raise ValueError(f"must be {len(wanted)} values, got {len(value)}")
        items = [_within(one, item) if _bounds(one) else item for one, item in zip(wanted, value, strict=True)]
        return tuple(items) if isinstance(value, tuple) else items
    return value
