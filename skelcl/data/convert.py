"""From raw files to a store: read in resumable shards, laid out in the order of ids, renamed into place."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
from filelock import FileLock, Timeout
from tqdm import tqdm

from skelcl.bounds import PositiveInt, Share, bounded
from skelcl.data.cleaning import clean
from skelcl.data.formats.containers import npz_names, read_npz
from skelcl.data.recording import DatasetInfo, Notice, Reader, ReadError, Recording, Source
from skelcl.data.schema import CHECKED, COLUMNS, FILES, SCHEMA
from skelcl.data.store import SkeletonStore, StoreError, npy_header, sha256
from skelcl.files import atomic_write, path_in_errors
from skelcl.runs.interruption import PROGRAM, end_with

FILES_PER_SHARD = 128


@PROGRAM.resumable(lambda: "the same command goes on from here")
@bounded
def convert(
    root: str | Path,
    info: DatasetInfo,
    sources: Sequence[Source],
    read: Reader,
    *,
    kind: str,
    parameters: Mapping[str, Any] | None = None,
    notices: Sequence[Notice] = (),
    jobs: PositiveInt | None = None,
    overwrite: bool = False,
    strict: bool = False,
    max_failed: Share = 0.01,
    files_per_shard: PositiveInt | None = None,
) -> SkeletonStore:
    """Converts raw files into the store ``<root>/<info.name>``.

    The files are read in shards that are kept in ``<root>/.<info.name>.partial`` until the store is complete, so a run
    that was interrupted continues where it stopped and ends in the same bytes. The finished folder appears by renaming;
    an older store stays whole until then. Of several processes that make one store the others wait for the first; the
    empty file ``<root>/.<info.name>.lock``, which they lock, stays.

    Args:
        root: Folder that holds the stores.
        info: Description of the data set.
        sources: The raw files.
        read: Turns ``Source.where`` into recordings, and notices on clips that it left out or repaired, or raises
            :class:`~skelcl.data.recording.ReadError`; picklable when ``jobs`` > 1.
        kind: What the sources are, for example ``zip``; kept in ``meta.json``.
        parameters: Options of the reader that change its output; kept in ``meta.json``.
        notices: Lines for ``report.json`` on files that are not among the sources.
        jobs: Processes; default 1 for small data sets, else the number of processors.
        overwrite: Replace a complete store that was made from other files.
        strict: Stop at the first file that cannot be read.
        max_failed: Share of the files that may fail; above it no store is written.
        files_per_shard: Files that a process reads at a time and keeps in memory; fewer when they are long.

    Returns:
        The store; an existing one that was made from the same files in the same way is left as it is.

    Raises:
        StoreError: Too many files failed, an id occurs twice, or the target holds something else.
        OptionError: ``max_failed``, ``jobs`` or ``files_per_shard`` lies outside its range.
    """
    root = Path(root)
    target, work, old = root / info.name, root / f".{info.name}.partial", root / f".{info.name}.old"
    header = {
        "schema": SCHEMA,
        "dataset": info.name,
        "reader": info.reader,
        "skeleton": info.skeleton.to_dict(),
        "classes": list(info.classes),
        "units": info.units,
        "axes": info.axes,
        "fps": info.fps,
        "recipe": info.recipe,
        "parameters": dict(parameters or {}),
    }
    if info.channels != 3:  # 3 goes without saying, so that stores of 3D data keep their bytes
        header["channels"] = info.channels
    sources = sorted(sources, key=lambda source: source.name)
    identity = _digest(header, sources)
    with _alone(root / f".{info.name}.lock", target):
        if old.exists():  # an earlier run was stopped between its two last renames, or just after them
            shutil.rmtree(old) if target.exists() else os.rename(old, target)
        existing = _existing(target)
        if existing is not None and existing.meta["sources"] == identity and not overwrite:
            shutil.rmtree(work, ignore_errors=True)
            print(f"{target} was already made from these files (--overwrite true makes it anew)")
            return existing
        if existing is not None and not overwrite:
            raise StoreError(
                f"{target} already holds a store made from other files: pass --overwrite true to replace it"
            )
        work.mkdir(parents=True, exist_ok=True)
        size = files_per_shard or FILES_PER_SHARD
        shards = [sources[i : i + size] for i in range(0, len(sources), size)]
        files = [work / f"{_digest(header, shard)[:32]}.npz" for shard in shards]
        found = list(notices)
        columns: dict[Path, dict[str, np.ndarray]] = {}
        for file in _read_shards(shards, files, read, info, jobs):
            columns[file] = _read_shard(file, [name for name in COLUMNS if name != "row"])
            news: list[Notice] = json.loads(_read_shard(file, ["notices"])["notices"].tobytes())
            failed = [notice for notice in news if notice["outcome"] == "failed"]
            if strict and failed:
                raise StoreError(_describe(failed[0]))
            found += news
        found.sort(key=lambda notice: (notice["id"], notice["reason"], notice["message"]))
        report = _report(found, len(sources))
        failed = [notice for notice in found if notice["outcome"] == "failed"]
        if len(failed) > max_failed * len(sources) or not any(len(part["id"]) for part in columns.values()):
            _write_json(work / "report.json", report)
            example = f", the first: {_describe(failed[0])}" if failed else ""
            raise StoreError(
                f"{len(failed)} of {len(sources)} files could not be used{example}; no store was written, "
                f"all of them are listed in {work / 'report.json'} (--max_failed sets the share that is accepted)"
            )
        staged = work / "store"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        shape = (info.skeleton.num_joints, info.channels)
        _lay_out(staged, files, columns, shape, {**header, "source": kind, "sources": identity}, report)
        if target.exists():
            os.rename(target, old)
        os.rename(staged, target)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(work)
        return SkeletonStore(target)


@contextmanager
def _alone(file: Path, target: Path) -> Iterator[None]:
    """A block that no two processes are in at a time, on any machine that sees the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        print(f"{target} is being made by another process: waiting for it", flush=True)
        lock.acquire(poll_interval=0.2)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        # Where nothing can be written a store that is there can still be found.
    try:
        yield
    finally:
        lock.release()


def _existing(target: Path) -> SkeletonStore | None:
    """The complete store at the target; None when there is none or a damaged one that may be replaced."""
    if not target.exists():
        return None
    foreign = (
        []
        if not target.is_dir()
        else [file.name for file in target.iterdir() if file.name not in FILES and file.name[0] != "."]
    )
    if foreign or not target.is_dir():
        what = f"holds {sorted(foreign)[0]!r}" if foreign else "is a file"
        raise StoreError(f"{target} is no skelcl store ({what}): move it away or choose another --root")
    try:
        return SkeletonStore(target)
    except StoreError:
        return None


def _read_shards(
    shards: Sequence[Sequence[Source]],
    files: Sequence[Path],
    read: Reader,
    info: DatasetInfo,
    jobs: int | None,
) -> Iterator[Path]:
    """Reads the shards that are not there yet; yields the file of each shard once it is."""
    total = sum(map(len, shards))
    done = {file for file in files if _complete(file)}
    todo = [(list(shard), file) for shard, file in zip(shards, files, strict=True) if file not in done]
    jobs = jobs or (1 if total < 5000 else min(os.cpu_count() or 1, 16))
    initial = total - sum(len(shard) for shard, _ in todo)
    seconds = 0.1 if sys.stderr.isatty() else 30  # a log file needs few lines
    with tqdm(desc=info.name, total=total, initial=initial, unit="file", mininterval=seconds) as bar:
        yield from done
        if jobs == 1 or len(todo) <= 1:
            for shard, file in todo:
                _write_shard(shard, file, read, info)
                bar.update(len(shard))
                yield file
            return
        context = get_context("spawn")
        alive, ours = context.Pipe(duplex=False)
        with alive, ours, ProcessPoolExecutor(jobs, context, initializer=end_with, initargs=(alive,)) as pool:
            try:
                tasks = {pool.submit(_write_shard, shard, file, read, info): (shard, file) for shard, file in todo}
                for task in as_completed(tasks):
                    task.result()
                    shard, file = tasks[task]
                    bar.update(len(shard))
                    yield file
            except BaseException:
                ours.close()  # whatever ended the reading, nobody waits for the shards that are under way
                raise


def _complete(file: Path) -> bool:
    """Whether a shard of an earlier run can be used; a power cut may leave one whose content never reached the disk."""
    try:
        return {*COLUMNS, "joints"} - {"row"} <= set(npz_names(file)) and bool(
            _read_shard(file, ["notices"])["notices"].size
        )
    except (ReadError, KeyError):
        return False


def _read_shard(file: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    return read_npz(file, dict.fromkeys(names, file.stat().st_size))  # its arrays are not packed


def _write_shard(sources: Sequence[Source], file: Path, read: Reader, info: DatasetInfo) -> None:
    rows: list[dict[str, Any]] = []
    shape = (info.skeleton.num_joints, info.channels)
    joints: list[np.ndarray] = [np.empty((0, *shape), np.float32)]
    notices: list[Notice] = []
    for source in sources:
        try:
            items = list(read(source.where))
        except ReadError as error:
            notices.append(_failure(source.name, error))
            continue
        for item in items:
            if not isinstance(item, Recording):
                notices.append(item)
                continue
            try:
                row, tracks, news = clean(item, info.skeleton, info.channels, info.units)
            except ReadError as error:  # the other clips of the file may be sound
                notices.append(_failure(item.id, error))
                continue
            rows.append(row)
            joints.append(tracks.reshape(-1, *shape))
            notices += news
    columns: dict[str, Any] = {}
    for name, kind in COLUMNS.items():
        if name != "row":
            columns[name] = np.array([row[name] for row in rows], kind)
    text = np.frombuffer(json.dumps(notices).encode(), np.uint8)
    with atomic_write(file) as part:
        np.savez(part, joints=np.concatenate(joints), notices=text, **columns)


def _failure(name: str, error: ReadError) -> Notice:
    outcome: Literal["skipped", "failed"] = "skipped" if error.expected else "failed"
    return Notice(id=name, outcome=outcome, reason=error.reason, message=error.message, line=error.line)


def _lay_out(
    folder: Path,
    files: Sequence[Path],
    columns: Mapping[Path, Mapping[str, np.ndarray]],
    shape: tuple[int, int],
    header: dict[str, Any],
    report: dict[str, Any],
) -> None:
    """Writes the four files of a store from its shards, clips in the order of their ids."""
    index = {name: np.concatenate([columns[file][name] for file in files]) for name in COLUMNS if name != "row"}
    order = np.argsort(index["id"], kind="stable")
    ids = index["id"][order]
    twice = ids[1:][ids[1:] == ids[:-1]]
    if len(twice):
        raise StoreError(f"two different recordings are called {str(twice[0])!r}")
    sizes = index["n_frames"].astype(np.int64) * index["n_bodies"]
    row = np.empty_like(sizes)
    row[order] = np.cumsum(sizes[order]) - sizes[order]
    rows = int(sizes.sum())
    start = npy_header(rows, *shape)
    bytes_per_row = shape[0] * shape[1] * 4
    clip = 0
    target = folder / "joints.npy"
    with path_in_errors(target), target.open("wb") as stream:
        stream.write(start)
        for file in files:
            joints = _read_shard(file, ["joints"])["joints"]
            first = 0
            for _ in columns[file]["id"]:
                stream.seek(len(start) + int(row[clip]) * bytes_per_row)
                stream.write(joints[first : first + int(sizes[clip])].tobytes())
                first += int(sizes[clip])
                clip += 1
    index["row"] = row
    ordered: dict[str, Any] = {name: index[name][order] for name in COLUMNS}
    with atomic_write(folder / "index.npz") as part:
        np.savez(part, **ordered)
    _write_json(folder / "report.json", report)
    counts = {"sequences": len(ids), "rows": rows, "frames": int(index["n_frames"].sum()), "files": report["files"]}
    checksums = {name: sha256(folder / name) for name in CHECKED}
    _write_json(folder / "meta.json", {**header, "counts": counts, "sha256": checksums})


def _report(notices: Sequence[Notice], files: int) -> dict[str, Any]:
    counts = Counter((notice["outcome"], notice["reason"]) for notice in notices)
    summary = [{"outcome": outcome, "reason": reason, "count": n} for (outcome, reason), n in sorted(counts.items())]
    return {"files": files, "summary": summary, "notices": list(notices)}


def _describe(notice: Notice) -> str:
    return notice["message"] + ("" if notice["line"] is None else f", line {notice['line']}")


def _digest(header: Mapping[str, Any], sources: Sequence[Source]) -> str:
    described = [header, [[source.name, source.fingerprint] for source in sources]]
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(file) as part:
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
