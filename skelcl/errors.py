"""Errors that a user can mend, and how they are told."""

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
