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


def fail(message: str, code: int) -> NoReturn:
    """Print one line on stderr and leave with an exit code."""
    print(f"skelcl: error: {printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(code)
