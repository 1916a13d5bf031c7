"""Folders of files: all that lie below one, what tells whether a file changed, folders that appear when complete."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from skelcl.errors import InputError


def files_below(place: Path) -> list[Path]:
    """All files below a folder at any depth; a file itself.

    Links to other folders are followed, once each. Links that lead nowhere and files that cannot be reached are listed
    as well, so that reading them tells of them.

    Args:
        place: Folder or file.

    Returns:
        The files in ascending order.

    Raises:
        InputError: A folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: this folder cannot be read ({error.strerror})") from error

    if not place.is_dir():
        return [place]
    found: list[Path] = []
    known: set[str] = set()
    tops = [str(place)]
    for top in tops:  # grows by the links, so that what lies here keeps its own path
        for folder, below, names in os.walk(top, onerror=refuse):
            if (real := os.path.realpath(folder)) in known:
                below.clear()
                continue
            known.add(real)
            paths = [os.path.join(folder, name) for name in sorted(below)]
            tops += [path for path in paths if os.path.islink(path)]
            files = (os.path.join(folder, name) for name in names)
            found += [Path(file) for file in files if os.path.isfile(file) or not os.path.exists(file)]
    return sorted(found)


def crc32(file: Path) -> str:
    """Size and CRC-32 of a file, read once in blocks with a bar when it is large.

    Raises:
        OSError: It cannot be read.
    """
    checksum, size = 0, file.stat().st_size
    hidden = None if size > 1 << 28 else True
    with file.open("rb") as stream, tqdm(desc=f"checksum of {file.name}", total=size, unit="B", unit_scale=True,
                                         disable=hidden) as bar:  # fmt: skip
        while block := stream.read(1 << 22):
            checksum = zlib.crc32(block, checksum)
            bar.update(len(block))
    return f"{size}:{checksum:08x}"


def fingerprint(file: Path) -> str:
    """:func:`crc32`, or that the file cannot be read, which its reader then tells."""
    try:
        return crc32(file)
    except OSError as error:
        return f"unreadable: {file} ({error.strerror})"


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
