"""Command lines of plain typed functions, with errors of one line."""

from __future__ import annotations

import argparse
import inspect
import itertools
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentParser, auto_cli  # type: ignore[attr-defined]  # a star exports it

from skelcl.errors import OneLineErrors


class CommandParser(OneLineErrors, ArgumentParser):
    """Parser of a plain function."""


class OptionParser(OneLineErrors, argparse.ArgumentParser):
    """Parser of a verb that reads some options itself; its last words keep their lines.

    Args:
        prog: The words of the command line before the options.
        description: What the verb does.
        epilog: What to know beside the options.
    """

    def __init__(self, prog: str, description: str, epilog: str) -> None:
        layout = argparse.RawDescriptionHelpFormatter
        super().__init__(prog, None, description, epilog, formatter_class=layout, allow_abbrev=False)


SEVERAL = ("--raw", "--ckpt_path")
"""Options that name places."""
Commands = dict[str, Any]
"""Verb → typed function, or verb → further such verbs with a ``_help`` of their own."""


def call(prog: str, commands: Commands | Callable[..., Any], args: Sequence[str]) -> Any:
    """Run a function, or one of several, with options read from ``args``; signatures and docstrings are the manual.

    ``--raw`` and ``--ckpt_path`` may be followed by several places, as the shell's wildcards write them, or be given
    several times. So may a function be whose first argument is a list of places.
    """
    argv = list(args) or ["--help"]
    function: Any = commands
    depth = 0
    while isinstance(function, dict) and depth < len(argv) and argv[depth] in function:
        function, depth = function[argv[depth]], depth + 1
    if callable(function) and (several := _several(function)):
        return call_on(" ".join([prog, *argv[:depth]]), function, several, argv[depth:])
    places: dict[str, list[str]] = {}
    others: list[str] = []
    while argv:
        word = argv.pop(0)
        name, equals, value = word.partition("=")
        if name in SEVERAL and equals:
            places.setdefault(name, []).append(value)
        elif name in SEVERAL and argv and not argv[0].startswith("-"):
            values = list(itertools.takewhile(lambda word: not word.startswith("-"), argv))
            places.setdefault(name, []).extend(values)
            del argv[: len(values)]
        else:
            others.append(word)
    for name, values in places.items():
        others.append(f"{name}={values[0] if len(values) == 1 else json.dumps(values)}")
    return auto_cli(commands, args=others, prog=prog, parser_class=CommandParser)


def _several(function: Callable[..., Any]) -> str | None:
    """What the help calls the places in a function's first argument; None where that is no list of places."""
    first = next(iter(inspect.signature(function).parameters.values()), None)
    if first is None or first.default is not first.empty or "list[Path]" not in str(first.annotation):
        return None
    return first.name.removesuffix("s").upper()


def call_on(prog: str, function: Callable[..., Any], places: str, args: Sequence[str]) -> Any:
    """Run one function whose first argument is a list of files or folders; its signature and docstring are the manual.

    Args:
        prog: The words of the command line before ``args``.
        function: Typed function; all but its first argument are options.
        places: What the help calls the places in its first argument.
        args: Words of the command line.
    """
    first = next(iter(inspect.signature(function).parameters))
    text = inspect.cleandoc(function.__doc__ or "")
    described = re.search(rf"^ +{first}: (.+)$", text, re.MULTILINE)
    parser = CommandParser(prog=prog, description=text.partition("\n\nArgs:")[0])
    parser.add_argument("--config", action=ActionConfigFile, help="YAML file of these options")
    parser.add_argument(first, nargs="+", type=str, metavar=places, help=described[1] if described else None)
    parser.add_function_arguments(function, skip={first})
    values = parser.parse_args(list(args) or ["--help"]).as_dict()
    del values["config"]
    return function([Path(place) for place in values.pop(first)], **values)
