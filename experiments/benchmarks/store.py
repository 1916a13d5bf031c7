"""Assembling batches: the store against parsing the raw JSON files, in one run, and from a store of NTU's size.

    python experiments/benchmarks/store.py [--raw all_sqe.zip] [--batch_size 64] [--large 40000] [--seconds 3]

Without --raw, files of the size of NW-UCLA's are generated. Expected: at least 50 times, and less than 5 ms for 256
random clips of the large store.
"""

import contextlib
import io
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli

from skelcl.data.convert import convert
from skelcl.data.formats.nw_ucla import ACTIONS, find, prepare, read, sequence_id, write_json
from skelcl.data.recording import DatasetInfo, Recording, Source
from skelcl.data.store import SkeletonStore
from skelcl.skeleton import NTU25


def generate(folder: Path, count: int = 500) -> None:
    """Random walks with the lengths of NW-UCLA: median 31 frames, mean 39."""
    rng = np.random.default_rng(0)
    for n in range(count):
        label, (subject, rest) = n % len(ACTIONS), divmod(n // len(ACTIONS), 30)
        episode, view = divmod(rest, 3)
        frames = int(np.clip(np.exp(rng.normal(np.log(31), 0.7)), 5, 200))
        joints = (
            rng.normal(size=(1, 1, 20, 3)) * 0.4 + rng.normal(size=(1, frames, 20, 3)).cumsum(1) * 0.01 + [0, 0, 2.7]
        )
        name = sequence_id(label, subject + 1, episode, view + 1)
        write_json(folder, Recording(name, joints, label, subject + 1, camera=view + 1, replication=episode))


def plain(text: bytes) -> np.ndarray:
    """The least that a feeder must do with a file."""
    return np.array(json.loads(text)["skeletons"], np.float32)


def clock(function, count: int, batch_size: int, seconds: float) -> float:
    """Seconds per batch of random clips."""
    rng = np.random.default_rng(1)
    function(rng.integers(count, size=batch_size))  # warm: page cache, lazily opened files
    batches, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        function(rng.integers(count, size=batch_size))
        batches += 1
    return (time.perf_counter() - start) / batches


def walk(number: int) -> list[Recording]:
    """A clip as long as NTU's: median 70 frames of 25 joints, every fifth with two bodies."""
    rng = np.random.default_rng(number)
    frames = int(np.clip(np.exp(rng.normal(np.log(70), 0.5)), 15, 300))
    joints = rng.normal(size=(1 + (number % 5 == 0), 1, 25, 3)) + 0.01 * np.arange(frames)[:, None, None] + 1
    return [Recording(f"{number:06d}", joints, number % 60)]


def large_store(root: Path, count: int) -> SkeletonStore:
    """A store of ``count`` clips, made without raw files."""
    info = DatasetInfo("large", NTU25, tuple(map(str, range(60))), reader=1, axes="")
    return convert(root, info, [Source(f"{n:06d}", n, "") for n in range(count)], walk, kind="generated", jobs=1)


def main(raw: Path | None = None, batch_size: int = 64, large: int = 40_000, seconds: float = 3.0) -> None:
    """Print the table.

    Args:
        raw: NW-UCLA's all_sqe.zip or a folder of its files; generated when not given.
        batch_size: Clips per batch.
        large: Clips of the store of NTU's size; 0 leaves it out.
        seconds: Time spent on each row.
    """
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        if raw is None:
            raw = root / "raw"
            raw.mkdir()
            generate(raw)
        with contextlib.redirect_stdout(io.StringIO()):
            store = prepare([raw], root)
        sources = sorted(find([raw])[0], key=lambda source: source.name)
        # From memory, so that neither disk nor decompression is held against JSON.
        folder = root / "unpacked"
        folder.mkdir()
        for source in sources:
            write_json(folder, read(source.where)[0])
        texts = [(folder / f"{source.name}.json").read_bytes() for source in sources]
        rows = {
            "parse JSON (text in memory)": lambda batch: np.concatenate([plain(texts[n]) for n in batch]),
            "store, memory map": store.clips,
            "whole store loaded, choose clips": store.preload().__getitem__,
        }
        print(f"batches of {batch_size} of {len(store)} clips, {store.meta['counts']['frames']} frames")
        print(f"{'':<34}{'ms/batch':>10}{'clips/s':>12}{'ratio':>9}")
        slowest = None
        for name, function in rows.items():
            took = clock(function, len(store), batch_size, seconds)
            slowest = slowest or took
            print(f"{name:<34}{took * 1e3:>10.3f}{batch_size / took:>12,.0f}{slowest / took:>8.0f}x")
        if large:
            store = large_store(root, large)
            size = (store.path / "joints.npy").stat().st_size / 1e9
            took = clock(lambda batch: store.clips(batch, num_persons=2), len(store), 256, seconds)
            print(f"256 random clips of {len(store)} in {size:.1f} GB, two bodies each: {took * 1e3:.2f} ms")


if __name__ == "__main__":
    auto_cli(main)
