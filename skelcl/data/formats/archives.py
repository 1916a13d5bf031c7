"""Raw files wherever they lie: in folders at any depth, and in zip archives there."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path

from skelcl.data.formats.containers import members, open_zip, read_bytes, read_member
from skelcl.data.formats.folders import files_below, fingerprint
from skelcl.data.recording import Notice, ReadError, Source
from skelcl.data.store import StoreError

Member = tuple[Path, int, str]
"""Zip archive, its time stamp and the name in it; the name of a file that lies in a folder is empty."""


def find_members(
    raw: Iterable[Path], suffix: str, wanted: Callable[[str], bool | None], takes: str
) -> tuple[list[Source], str, list[Notice]]:
    """Finds the files of a data set.

    Args:
        raw: Zip archives, folders that are searched at any depth, archives in them too, or single files.
        suffix: How files of the data set end, with the dot.
        wanted: Whether a file of a name is to be read; None for one that belongs to the data set and is not read.
        takes: What ``--raw`` takes, for messages.

    Returns:
        The sources, called by the stems of the files; ``zip``, ``folder`` or ``folder+zip``; notices on files of other
        names and on identical copies.

    Raises:
        StoreError: A path is missing, an archive is damaged, or two files of one name differ.
    """
    sources: dict[str, Source] = {}
    kinds: set[str] = set()
    others: list[str] = []
    notices: list[Notice] = []
    for where, checksum in chain.from_iterable(_list(path, suffix, takes) for path in raw):
        file, _, member = where
        name = (Path(member) if member else file).name
        fits = wanted(name)
        if not fits:
            others += [show(where)] * (fits is not None)
            continue
        stem = name.removesuffix(suffix)
        kinds.add("zip" if member else "folder")
        checksum = checksum or fingerprint(file)
        known = sources.setdefault(stem, Source(stem, where, checksum))
        if known.where == where:
            continue
        if known.fingerprint != checksum:
            raise StoreError(f"{stem} occurs twice with different content: {show(known.where)} and {show(where)}")
        message = f"{show(where)} is an identical copy"
        notices.append(Notice(id=stem, outcome="skipped", reason="copy", message=message, line=None))
    if others:
        message = f"{len(others)} files of other names were ignored, for example {min(others)}"
        notices.append(Notice(id="", outcome="skipped", reason="other_name", message=message, line=None))
    return list(sources.values()), "+".join(sorted(kinds)), notices


def _list(path: Path, suffix: str, takes: str) -> Iterator[tuple[Member, str]]:
    """Files below a path; the fingerprint is empty where it must be computed from the file."""
    if path.is_dir():
        for file in files_below(path):
            yield from _list(file, suffix, takes) if file.suffix.lower() == ".zip" else [((file, 0, ""), "")]
    elif not path.exists():
        raise StoreError(f"{path} does not exist: --raw takes {takes}")
    elif path.suffix.lower() == suffix:
        yield (path, 0, ""), ""
    else:
        stamp = path.stat().st_mtime_ns
        try:
            found = members(open_archive(path, stamp))
        except ReadError as error:
            raise StoreError(f"{error}: download it again") from error
        for name, member in found.items():
            yield (path, stamp, name), f"{member.file_size}:{member.CRC:08x}"


@lru_cache(maxsize=8)
def open_archive(path: Path, stamp: int) -> zipfile.ZipFile:
    """An open archive; kept, since reading its table of contents takes longer than reading a member."""
    return open_zip(path)


def show(where: Member) -> str:
    """A file for messages."""
    return f"{where[0]}/{where[2]}" if where[2] else str(where[0])


def read(where: Member, limit: int) -> bytes:
    """The content of a file.

    Args:
        where: The file.
        limit: Bytes that are accepted.

    Raises:
        ReadError: It is damaged or too large.
    """
    path, stamp, member = where
    return read_member(open_archive(path, stamp), member, show(where), limit) if member else read_bytes(path, limit)
