"""NTU RGB+D 60 and 120: from folders of ``.skeleton`` files to a store."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from tqdm import tqdm

from skelcl.data.bodies import Selection, select
from skelcl.data.convert import convert
from skelcl.data.formats.containers import decode, read_bytes
from skelcl.data.formats.folders import files_below, fingerprint
from skelcl.data.formats.ntu_release import NAME, Release, belongs, fields, info, missing_skeletons, summary
from skelcl.data.formats.ntu_skeleton import parse
from skelcl.data.recording import Notice, ReadError, Recording, Source
from skelcl.data.store import SkeletonStore, StoreError

MAX_BYTES = 1 << 26
"""Larger files are refused unread; 300 frames of two bodies have 1.5 MB."""


def prepare(
    raw: Sequence[str | Path],
    root: str | Path = "data",
    release: Release = "ntu60",
    *,
    bodies: Selection = "sgn",
    compact_gaps: bool = False,
    missing: str = "default",
    salvage: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    max_failed: float = 0.01,
    jobs: int | None = None,
) -> SkeletonStore:
    """Converts ``.skeleton`` files to the store ``<root>/ntu60`` or ``<root>/ntu120`` and prints its splits.

    Args:
        raw: Folders that hold the files at any depth.
        root: Folder of the stores.
        release: ``ntu60`` takes setups 1–17 alone, ``ntu120`` all.
        bodies: Which two bodies are kept, see :func:`skelcl.data.bodies.select`.
        compact_gaps: Whether ``sgn`` or ``agcn`` closes gaps in time, as published.
        missing: Files to leave out: ``default`` for the list of the data set's authors, ``none``, or a file of names.
        salvage: Keep the complete frames of files that end too early.
        overwrite: Replace a complete store that was made from other files or with other options.
        strict: Stop at the first file that cannot be read.
        max_failed: Share of the files that may fail; above it no store is written.
        jobs: Processes that read; by default one, and up to 16 when there are many files.

    Returns:
        The store.

    Raises:
        StoreError: There are no such files, too many of them are damaged, or two of one name differ.
    """
    skip, described = _missing_ids(missing)
    sources, notices = find([Path(path) for path in raw], release, skip)
    store = convert(
        root,
        info(release),
        sources,
        partial(read, bodies=bodies, compact_gaps=compact_gaps, salvage=salvage),
        kind="folder",
        parameters={"bodies": bodies, "compact_gaps": compact_gaps, "missing": described, "salvage": salvage},
        notices=notices,
        jobs=jobs,
        overwrite=overwrite,
        strict=strict,
        max_failed=max_failed,
    )
    print(summary(store))
    return store


def _missing_ids(missing: str) -> tuple[frozenset[str], str]:
    """Names to leave out and how ``meta.json`` describes them."""
    if missing in ("default", "none"):
        return missing_skeletons() if missing == "default" else frozenset(), missing
    try:
        text = decode(read_bytes(Path(missing)), missing)
    except ReadError as error:
        raise StoreError(f"{missing}: not a list of names; --missing takes default, none or a text file") from error
    # The official lists begin with prose, copies of them do not.
    names = frozenset(line.strip().removesuffix(".skeleton") for line in text.splitlines())
    names = frozenset(name for name in names if NAME.fullmatch(name))
    if not names:
        raise StoreError(f"{missing}: holds no name like S001C002P003R002A013, one per line")
    return names, hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def find(raw: Sequence[Path], release: Release, skip: frozenset[str]) -> tuple[list[Source], list[Notice]]:
    """Finds the files of a release below some folders.

    Args:
        raw: Folders, searched at any depth, or single files.
        release: ``ntu60`` or ``ntu120``.
        skip: Names to leave out.

    Returns:
        The sources; notices on files that were skipped, on other names, and on identical copies.

    Raises:
        StoreError: A folder is missing, nothing was found, or two files of one name differ.
    """
    found: dict[str, list[Path]] = {}
    others: list[str] = []
    outside: list[str] = []
    for place in raw:
        if not place.exists():
            raise StoreError(f"{place} does not exist: --raw takes the folders with the unpacked .skeleton files")
        for file in files_below(place):
            if file.suffix != ".skeleton" or not NAME.fullmatch(file.stem):
                others.append(str(file))
            elif not belongs(file.stem, release):
                outside.append(str(file))
            else:
                found.setdefault(file.stem, []).append(file)
    notices = [
        Notice(id="", outcome="skipped", reason=reason, message=f"{len(paths)} {what} {min(paths)}", line=None)
        for reason, what, paths in (
            ("other_name", "files of other names were ignored, for example", others),
            ("other_release", f"files are no part of {release} and were ignored, for example", outside),
        )
        if paths
    ]
    for name in sorted(skip & found.keys()):
        del found[name]
        message = "listed among the missing skeletons"
        notices.append(Notice(id=name, outcome="skipped", reason="missing_list", message=message, line=None))
    if not found:
        places = ", ".join(map(str, raw))
        hint = "; unpack the archives first" if any(name.endswith(".zip") for name in others) else ""
        raise StoreError(f"no {release} files (S001C001P001R001A001.skeleton, …) to read in {places}{hint}")
    paths = [file for places in found.values() for file in places]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        # Tens of gigabytes are read here, so a person at a terminal is shown how far it is.
        bar = tqdm(pool.map(fingerprint, paths), f"{release} checksums", len(paths), disable=None, unit="file")
        checksums = iter(list(bar))
    sources = []
    for name, (first, *copies) in found.items():
        checksum = next(checksums)
        sources.append(Source(name, str(first), checksum))
        for copy in copies:
            if next(checksums) != checksum:
                raise StoreError(f"{name} occurs twice with different content: {first} and {copy}")
            if not os.path.samefile(first, copy):
                message = f"{copy} is an identical copy"
                notices.append(Notice(id=name, outcome="skipped", reason="copy", message=message, line=None))
    return sources, notices


def read(where: str, bodies: Selection = "sgn", compact_gaps: bool = False, salvage: bool = False) -> list[Recording]:
    """Reads one file and chooses its bodies.

    Args:
        where: The file; its name is trusted for everything but the coordinates.
        bodies: See :func:`skelcl.data.bodies.select`.
        compact_gaps: See :func:`skelcl.data.bodies.select`.
        salvage: Keep the complete frames of a file that ends too early.

    Returns:
        One recording.

    Raises:
        ReadError: The file is empty, damaged, not in the format, or shows nobody.
    """
    path = Path(where)
    setup, camera, performer, replication, action = fields(path.stem)  # type: ignore[misc]
    content = parse(read_bytes(path, MAX_BYTES), where, salvage)
    joints, remarks = select(content.bodies, bodies, compact_gaps)
    if not len(joints):
        raise ReadError("no_skeleton", f"{where}: no frame shows a body")
    return [
        Recording(
            path.stem,
            joints,
            action - 1,
            performer,
            camera,
            setup,
            replication,
            n_frames_declared=content.n_frames_declared,
            warnings=content.warnings + remarks,
        )
    ]
