"""Errors that a user can mend, and how they are told."""

from __future__ import annotations

import re
import sys
from typing import NoReturn


class InputError(ValueError):
    """A file, folder or option that cannot be used; its message is one line that names the place and the fix."""


class OptionError(InputError):
    """An option that makes no sense, alone or beside the others; told with the exit code of a wrong command line."""


def printable(text: str) -> str:
    """A text of somebody else for a terminal: what would steer it, or turn the reading direction, as an escape."""
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text)


def yaml_problem(error: Exception) -> tuple[str, int | None]:
    """What reading a text of YAML failed of, and its line, counted from 1, where known."""
    if isinstance(error, RecursionError):
        return "nested too deeply", None
    mark = getattr(error, "problem_mark", None)
    # Of values, PyYAML raises what Python does.
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "a date or number that cannot be"
    return " ".join(problem.split())[:120], None if mark is None else mark.line + 1


def fail(message: str, code: int) -> NoReturn:
    """Print one line on stderr and leave with an exit code."""
    print(f"skelcl: error: {printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(code)


class OneLineErrors:
    """Mixin for parsers: an error is one line on stderr, with exit code 2, not a page of usage."""

    exit_on_error: bool

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Tell the innermost reason, which is the one that the user can mend."""
        if not self.exit_on_error:
            super().error(message, ex)  # type: ignore[misc]
        fail(reason(message), 2)


def reason(message: str) -> str:
    """A parser's nested message as one line: the path to the key, then what is wrong with it.

    Alternatives that only say "or leave it out", type dumps and repeated values are left away.
    """
    path: list[str] = []
    detail: list[str] = []
    wanted: dict[str, None] = {}
    value = ""
    for line in (line.strip().removeprefix("- ") for line in message.splitlines()):
        if match := _STEP.match(line):
            path.append(match["key"] or match["name"])
            line = match["rest"]
        line = re.sub(r"^Not of type .*?: (?=must be )", "", line)
        if line.startswith("Given value: "):
            given = line.removeprefix("Given value: ")
            value = value if re.match(r"NestedArg|Namespace|\{", given) else given
        elif _NOISE.match(line):
            continue
        elif match := _EXPECTED.fullmatch(line):
            value = match["value"] or match["name"] or value
            if match["words"]:
                wanted["one of " + match["words"].replace("'", "")] = None
            elif match["type"]:
                wanted[_TYPES.get(match["type"], match["type"].rpartition(".")[2])] = None
            elif match["name"]:
                wanted["a class that is known"] = None
        elif line:
            detail.append(line)
    if wanted and not detail:
        detail.append(f"must be {' or '.join(wanted)}" + (f", got {value}" if value else ""))
    elif value and value not in " ".join(detail):
        detail.append(f"(given: {value})")
    return ": ".join([*path, " ".join(detail)])


_STEP = re.compile(
    r"""(Parser key "(?P<key>[^"]+)"|Problem with given class_path '([\w.]+\.)?(?P<name>\w+)'):\s*(?P<rest>.*)"""
)
_EXPECTED = re.compile(
    r"Expected a (?:<class '(?P<type>[\w.]+)'>|typing\.Literal\[(?P<words>.*)\]|path but .*|"
    r"dot import path string: (?P<name>.*?))(?:\. Got value: (?P<value>.*))?"
)
_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "list": "a list",
    "collections.abc.Iterable": "a list",
    "dict": "options by name",
}
_NOISE = re.compile(
    r"Does not validate against|Subtypes: |Errors:$|Expected a <class 'NoneType'>|Given value type: |"
    r"Subclass types expect one of:|a class path \(str\)|a dict with"
)
