"""Folders of files that appear when they are complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from skelcl.errors import InputError


def write_folder(output: Path, names: set[str], write: Callable[[Path], None]) -> None:
    """Makes a folder appear when it is complete; one that an equal run made is left as it is.

    Args:
        output: The folder.
        names: Its files, as paths below it.
        write: Writes them into the folder that it is given.

    Raises:
        InputError: The folder holds something else.
    """
    foreign = InputError(f"{output} holds other files: move it away or choose another --output")
    found = {file.relative_to(output).as_posix() for file in output.rglob("*") if not file.is_dir()}
    if output.exists() and (not output.is_dir() or found not in (set(), names)):
        raise foreign
    work = output.parent / f".{output.name}.partial"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    write(work)
    if output.exists() and any(output.iterdir()):
        same = all((work / name).read_bytes() == (output / name).read_bytes() for name in names)
        shutil.rmtree(work)
        if not same:
            raise foreign
    else:
        if output.exists():
            output.rmdir()
        os.rename(work, output)
