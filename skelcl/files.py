"""What is written: files that appear when they are complete, and names that others chose, fit for a line or a cell."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a cell that a spreadsheet would work out."""

JOINERS = "\u200c\u200d"
"""What stands between letters of some scripts and parts of some pictures, and is no control."""


@contextmanager
def path_in_errors(path: Path) -> Iterator[None]:
    """A block that writes to a file or folder: an error that does not tell where, as of a full disk, names it."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise OSError(f"{path}: {error}") from error
        error.filename = error.filename or os.fspath(path)
        raise


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A place beside a file that takes its name once all is written, and is removed where that fails.

    Args:
        path: The file. Its folder is made.

    Raises:
        OSError: If it cannot be written; names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.part{path.suffix}")  # writers look at the suffix
    try:
        with path_in_errors(path):
            yield part
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def one_line(text: str, width: int = 120) -> str:
    """The text on one line: breaks and controls become spaces, and of more than ``width`` signs the middle is cut."""
    line = " ".join("".join(sign if sign.isprintable() or sign in JOINERS else " " for sign in text).split())
    half = (width - 1) // 2
    return line if len(line) <= width else f"{line[: width - 1 - half]}…{line[-half:]}"


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table in Markdown, whose first row is the head; every cell is text on one line, never a tag."""
    cells = [[re.sub(r"(\\*)([|<])", r"\1\1\\\2", one_line(one)) for one in row] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["| " + " | ".join(one.ljust(w) for one, w in zip(row, widths, strict=True)) + " |" for row in cells]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def cell(text: str) -> str:
    """The text as a spreadsheet shows it, rather than a formula that it works out: behind an apostrophe."""
    return f"'{text}" if text.startswith((*FORMULA, "'")) else text


def from_cell(text: str) -> str:
    """What :func:`cell` was given."""
    return text[1:] if text.startswith("'") and text[1:].startswith((*FORMULA, "'")) else text
