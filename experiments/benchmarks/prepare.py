"""From NTU's raw text to normalised clips on one core: skelcl against the usual parsers, and how much memory it takes.

    python experiments/benchmarks/prepare.py [--files 150] [--memory_files 200] [--raw DIR]

Without --raw, files of the size of NTU's are generated; 3,000 of them take about a minute to write. Expected: reading
at least 3 times as fast as a parser that makes a dictionary of every line, reading + choice of bodies + normalisation
at least 8 times as fast as the same with loops over joints, and memory that ten times the files do not change.
"""

import contextlib
import io
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from jsonargparse import auto_cli

from skelcl.clips import Clips
from skelcl.data.bodies import BodyFrames
from skelcl.data.formats.ntu import prepare, read
from skelcl.data.formats.ntu_release import fields
from skelcl.data.formats.ntu_skeleton import parse, write_skeleton
from skelcl.skeleton import NTU25
from skelcl.transforms.normalize import Normalize
from skelcl.transforms.resample import Truncate

FRAMES = 300
BODY_FRAMES_OF_NTU120 = 9.7e6
HEADER = ("id", "edges", "left_c", "left", "right_c", "right", "restricted", "lean_x", "lean_y", "state")
JOINT = ("x", "y", "z", "depth_x", "depth_y", "color_x", "color_y", "w", "qx", "qy", "qz", "state")


def names():
    """Names of NTU-60."""
    for setup, performer, replication, action, camera in product(
        range(1, 18), range(1, 41), (1, 2), range(1, 61), (1, 2, 3)
    ):
        yield f"S{setup:03d}C{camera:03d}P{performer:03d}R{replication:03d}A{action:03d}"


def generate(folder: Path, count: int) -> None:
    """People who stand and sway, 15 to 300 frames, median 70; every fifth file has a second one."""
    rng = np.random.default_rng(0)
    rest = rng.normal(size=(25, 3)) * [0.2, 0.5, 0.1]
    for n, name in zip(range(count), names(), strict=False):
        frames, people = int(np.clip(np.exp(rng.normal(np.log(70), 0.5)), 15, 300)), 1 + (n % 5 == 0)
        sway = rng.normal(size=(frames, people, 25, 3)).cumsum(0) * 0.01
        joints = (rest + sway + [0, 0, 3] + np.arange(people)[:, None, None] * np.array([0.8, 0, 0])).astype(np.float32)
        frame, slot = np.divmod(np.arange(frames * people), people)
        bodies = BodyFrames(joints.reshape(-1, 25, 3), frame, slot, slot, frames)
        write_skeleton(folder / f"{name}.skeleton", bodies, [72057594037900000 + 2 * m for m in range(people)])


def dictionaries(path):
    """The parser that most repositories use: a dictionary for every line."""
    frames = []
    with open(path) as stream:
        for _ in range(int(stream.readline())):
            bodies = []
            for _ in range(int(stream.readline())):
                body = dict(zip(HEADER, map(float, stream.readline().split()), strict=True))
                body["joints"] = [
                    dict(zip(JOINT, map(float, stream.readline().split()), strict=True))
                    for _ in range(int(stream.readline()))
                ]
                bodies.append(body)
            frames.append(bodies)
    return frames


def rotation(vector, target):
    """Matrix that turns a vector to a unit target."""
    length = math.sqrt(sum(float(c) ** 2 for c in vector))
    axis = np.cross(vector / length, target)
    sin, cos = float(np.linalg.norm(axis)), float(np.dot(vector / length, target))
    if sin < 1e-6:
        return np.eye(3)
    x, y, z = axis / sin
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + sin * cross + (1 - cos) * cross @ cross


def loops(path):
    """Dictionaries, then bodies and normalisation of 2s-AGCN, joint by joint."""
    content = dictionaries(path)
    data = np.zeros((4, FRAMES, 25, 3), np.float64)
    for t, bodies in enumerate(content[:FRAMES]):
        for slot, body in enumerate(bodies[:4]):
            for v, joint in enumerate(body["joints"]):
                data[slot, t, v] = joint["x"], joint["y"], joint["z"]
    energy = []
    for body in data:
        shown = body[body.any((1, 2))]
        energy.append(sum(shown[..., c].std() for c in range(3)) if len(shown) else 0.0)
    data = data[sorted(range(4), key=lambda slot: -energy[slot])[:2]]
    main = data[0, :, 1].copy()
    for body in data:
        for t in range(FRAMES):
            if body[t].any():
                for v in range(25):
                    body[t, v] -= main[t]
    for low, high, target in ((0, 1, np.array([0.0, 0, 1])), (4, 8, np.array([1.0, 0, 0]))):
        matrix = rotation(data[0, 0, high] - data[0, 0, low], target)
        for body in data:
            for t in range(FRAMES):
                if body[t].any():
                    for v in range(25):
                        body[t, v] = np.dot(matrix, body[t, v])
    return data


def batched(paths):
    """The same by skelcl: (N, 3, T, 25, 2), zeros after the end of the shorter clips."""
    recordings = [read(str(path), "agcn")[0].joints for path in paths]
    sizes = torch.tensor([joints.shape[:2] for joints in recordings])
    rows = sizes.prod(1)
    clips = Clips(
        joints=torch.from_numpy(np.concatenate([joints.reshape(-1, 25, 3) for joints in recordings])),
        offsets=rows.cumsum(0) - rows,
        frames=sizes[:, 1],
        bodies=sizes[:, 0],
        first=torch.zeros(len(paths), dtype=torch.int64),
        label=torch.tensor([fields(path.stem)[4] - 1 for path in paths]),
        index=torch.arange(len(paths)),
        skeleton=NTU25,
        num_persons=2,
    )
    return Normalize("agcn")(Truncate(int(sizes[:, 1].max()))(clips), clips)


def seconds(function) -> float:
    """Processor seconds, the best of two."""
    best = math.inf
    for _ in range(2):
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return best


def resident(raw: Path, root: Path) -> str:
    """What `prepare` needs at most in a process of its own."""
    here = Path(__file__)
    words = f"{str(raw)!r}, {str(root)!r}"
    code = f"import sys; sys.path.insert(0, {str(here.parent)!r}); from {here.stem} import peak; peak({words})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return shown.splitlines()[-1]


def high_water() -> float:
    """Largest resident memory of this process so far, MB; Linux's ru_maxrss would begin with that of the parent."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def peak(raw: str, root: str) -> None:
    """Convert in this process and print its memory before and at the peak."""
    before = high_water()
    start = time.perf_counter()
    store = prepare([raw], root, jobs=1)
    took = time.perf_counter() - start
    after = high_water()
    print(
        f"{len(store):>6} files: {before:.0f} MB after imports, {after:.0f} MB at most, {len(store) / took:.0f} files/s"
    )


def main(files: int = 150, memory_files: int = 200, raw: Path | None = None) -> None:
    """Print the tables.

    Args:
        files: Number of files to generate and to read.
        memory_files: Number of files of the smaller conversion whose memory is measured; 0 leaves this out.
        raw: Folder of .skeleton files to read instead of generated ones.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "raw"
        folder.mkdir()
        if raw is None:
            generate(folder, files)
        paths = sorted((raw or folder).rglob("*.skeleton"))[:files]
        contents = [parse(path.read_bytes(), path.name) for path in paths]  # and the files are in the page cache
        body_frames = sum(len(content.bodies.joints) for content in contents)
        frames = sum(content.bodies.num_frames for content in contents)
        size = sum(path.stat().st_size for path in paths)
        print(f"{len(paths)} files, {frames} frames, {body_frames} body-frames, {size / 1e6:.0f} MB; one core")
        if raw is None:
            ours = batched(paths[:3]).permute(0, 4, 2, 3, 1).numpy()
            error = abs(ours - np.array([loops(path) for path in paths[:3]])[:, :, : ours.shape[2]])
            assert error.max() < 1e-4, "both ways give the same coordinates"
        work = {
            "read: a dictionary per line": lambda: [dictionaries(path) for path in paths],
            "read: skelcl": lambda: [parse(path.read_bytes(), path.name) for path in paths],
            "read, choose, normalise: loops": lambda: [loops(path) for path in paths],
            "read, choose, normalise: skelcl": lambda: [batched(paths[n : n + 32]) for n in range(0, len(paths), 32)],
        }
        print(f"{'':<34}{'files/s':>10}{'µs/body-frame':>16}{'ratio':>9}")
        slow = took = 0.0
        for name, function in work.items():
            took = seconds(function)
            slow = slow if name.endswith("skelcl") else took
            per = took / body_frames
            print(f"{name:<34}{len(paths) / took:>10.0f}{per * 1e6:>16.1f}{slow / took:>8.1f}x")
            if name == "read: skelcl":
                estimate = per * BODY_FRAMES_OF_NTU120 / 60
        print(f"reading all of NTU-120 (9.7 million body-frames): {estimate:.1f} min on one core, from memory")
        for count in (memory_files, 10 * memory_files) if memory_files else ():
            many = Path(scratch) / f"many{count}"
            many.mkdir()
            for n, name in zip(range(count), names(), strict=False):
                (many / f"{name}.skeleton").symlink_to(paths[n % len(paths)].resolve())
            print("prepare", resident(many, Path(scratch) / f"stores{count}"))
        single = 0.0
        for jobs in range(1, 1 + (os.cpu_count() or 1)):
            start = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                prepare([raw or folder], Path(scratch) / f"jobs{jobs}", jobs=jobs)
            took = time.perf_counter() - start
            single = single or took
            print(f"prepare, {jobs} processes: {len(paths) / took:.0f} files/s, {single / took:.2f}x of one")


if __name__ == "__main__":
    auto_cli(main)
