"""From BVH files to the places of all joints, on one core: skelcl against bvhio.

    python experiments/benchmarks/bvh.py [--files 10] [--frames 120] [--raw DIR]

Without --raw, files of a body of 22 joints are generated, six channels each. Needs bvhio (`pip install bvhio`).
Expected of reading to the places of all joints: at least 5 times.
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from jsonargparse import auto_cli

from skelcl.data.mocap.bvh import parse
from skelcl.data.mocap.kinematics import forward_kinematics
from skelcl.skeleton import BANDAI21

END = "End Site\n{\nOFFSET 0 0 0\n}\n"
CHANNELS = "Xposition Yposition Zposition Zrotation Xrotation Yrotation"


def generate(folder: Path, files: int, frames: int) -> None:
    """Bodies whose joints turn at random, on bones of 10 to 40 cm."""
    rng = np.random.default_rng(0)
    names = ["root", *(name.replace(" ", "_") for name in BANDAI21.joints)]
    parents = [-1, 0, *(parent + 1 for parent in BANDAI21.parents[1:])]
    offsets = rng.uniform(10, 40, (len(names), 3)).round(4)

    def lines(joint: int) -> str:
        below = "".join(lines(n) for n, parent in enumerate(parents) if parent == joint)
        own = f"{'JOINT' if joint else 'ROOT'} {names[joint]}\n{{\nOFFSET {' '.join(map(str, offsets[joint]))}\n"
        return f"{own}CHANNELS 6 {CHANNELS}\n{below or END}}}\n"

    for n in range(files):
        values = rng.uniform(-90, 90, (frames, len(names), 6))
        values[..., :3] = offsets
        head = f"HIERARCHY\n{lines(0)}MOTION\nFrames: {frames}\nFrame Time: 0.0333333\n"
        rows = "\n".join(" ".join(f"{value:.6f}" for value in row) for row in values.reshape(frames, -1))
        (folder / f"{n}.bvh").write_text(head + rows + "\n")


def ours(file: Path) -> np.ndarray:
    """Places of the joints, ends left out, (T, J, 3)."""
    content = parse(file.read_bytes(), file)
    places = forward_kinematics(content.hierarchy, content.values)
    return places[:, [not end for end in content.hierarchy.ends]]


def theirs(file: Path) -> np.ndarray:
    """The same by bvhio, which sets a pose for each frame."""
    import bvhio

    root = bvhio.readAsHierarchy(str(file))
    joints = [joint for joint, _, _ in root.layout()]
    out = np.empty((len(root.Keyframes), len(joints), 3))
    for t in range(len(out)):
        root.loadPose(t)
        out[t] = [tuple(joint.PositionWorld) for joint in joints]
    return out


def read_by_bvhio(file: Path) -> object:
    """The numbers alone."""
    import bvhio

    return bvhio.readAsBvh(str(file))


def seconds(function: Callable[[Path], object], paths: list[Path]) -> float:
    """Processor seconds for all files, the best of two."""
    best = float("inf")
    for _ in range(2):
        start = time.process_time()
        for path in paths:
            function(path)
        best = min(best, time.process_time() - start)
    return best


def main(files: int = 10, frames: int = 120, raw: Path | None = None) -> None:
    """Print the table.

    Args:
        files: Number of files to generate or to read.
        frames: Frames of a generated file.
        raw: Folder of BVH files to read instead of generated ones.
    """
    with tempfile.TemporaryDirectory() as scratch:
        if raw is None:
            generate(Path(scratch), files, frames)
        paths = sorted((raw or Path(scratch)).rglob("*.bvh"))[:files]
        error = np.abs(ours(paths[0]) - theirs(paths[0])).max()
        assert error < 1e-3 * np.abs(ours(paths[0])).max(), "both ways give the same places"
        print(f"{len(paths)} files, places of all joints differ by {error:.1e} at most; one core")
        work = {
            "numbers alone": (lambda path: parse(path.read_bytes(), path), read_by_bvhio),
            "places of all joints": (ours, theirs),
        }
        print(f"{'':<30}{'skelcl, files/s':>18}{'bvhio, files/s':>18}{'ratio':>9}")
        for name, (one, other) in work.items():
            fast, slow = seconds(one, paths), seconds(other, paths)
            print(f"{name:<30}{len(paths) / fast:>18.1f}{len(paths) / slow:>18.1f}{slow / fast:>8.1f}x")


if __name__ == "__main__":
    auto_cli(main)
