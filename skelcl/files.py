"""Files that appear when they are complete."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def named(path: Path) -> Iterator[None]:
    """A block that writes to a file or folder: an error that does not tell where, as of a full disk, names it."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise OSError(f"{path}: {error}") from error
        error.filename = error.filename or os.fspath(path)
        raise


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place beside a file that takes its name once all is written, and is removed where that fails.

    Args:
        path: The file. Its folder is made.

    Raises:
        OSError: If it cannot be written; names the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.part{path.suffix}")  # writers look at the suffix
    try:
        with named(path):
            yield part
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
