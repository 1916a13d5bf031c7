"""What a trained network costs in use, today's build beside an older one: frame by frame, and on a folder of clips.

    python experiments/benchmarks/live.py [--old c1be8aa] [--clips 1000] [--frames 300] [--repeat 3] [--long 100000]

The older build is taken out of git's history; each build draws the same weights and works in processes of its own,
which take turns. Expected: processor time of `Predictor.push`, a decision for each frame, a tenth for an LSTM and half
for other networks; `skelcl predict` on a folder at least 3 times as many clips per second, in memory that ten times the
clips do not change. Both builds must see the same in the same clips.
"""

import contextlib
import io
import json
import math
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from jsonargparse import auto_cli

NETWORKS = {
    "as_cal": ["pretrain/as_cal-nw_ucla.yaml"],
    "ctr_gcn": ["supervised/ctr_gcn-nw_ucla.yaml"],
    # The recipe of the file turns bodies otherwise in builds that are older than its second version.
    "scd_net": ["pretrain/scd_net-nw_ucla-small.yaml", "--model.eval_view.init_args.normalize.init_args.recipe=root"],
}
WINDOW = 60
SMALL = 10
"""The larger folder has so many times the clips of the smaller one."""


# --- in a process of either build: nothing of skelcl is imported above, and only what both have below -----------------


def draw(path: str, file: str, *options: str) -> None:
    """Save what a run on generated people would save whose weights are drawn."""
    import lightning

    try:
        from skelcl.data.facts import FACTS_KEY
        from skelcl.methods.base import RECIPES_KEY
        from skelcl.runs.config import resolved_config
        from skelcl.runs.loading import load
        from skelcl.runs.trust import CONFIG_KEY
        from skelcl.transforms.normalize import versions

        content = {RECIPES_KEY: versions()}
    except ModuleNotFoundError:
        from skelcl.lightning_cli import CONFIG_KEY, load, resolved_config

        FACTS_KEY, content = None, {}
    words = [
        "--config",
        f"experiments/{file}",
        f"--data.root={Path(path).parent / 'data'}",
        "--trainer.accelerator=cpu",
    ]
    content |= {CONFIG_KEY: resolved_config([*words, *options]), "epoch": 0, "global_step": 0}
    content["pytorch-lightning_version"] = lightning.__version__
    torch.save(content | {"state_dict": {}}, path)
    method, data = load(Path(path), weights=False)
    if FACTS_KEY is not None:
        content[FACTS_KEY] = data.facts.to_plain()
    state = method.state_dict()
    random = torch.Generator().manual_seed(0)
    for name in sorted(name for name, _ in method.named_parameters()):
        shape = state[name].shape
        state[name] = torch.randn(shape, generator=random) / math.sqrt(math.prod(shape[1:]))
    torch.save(content | {"state_dict": state}, path)


def answer() -> None:
    """Do what is asked for on the standard input, a line of JSON each."""
    from skelcl import Predictor

    torch.set_num_threads(1)
    answers, sys.stdout = sys.stdout, sys.stderr
    predictor, frames = None, iter(())
    for line in sys.stdin:
        asked = json.loads(line)
        if "path" in asked:
            predictor = Predictor(asked.pop("path"), device="cpu", neighbours=0, window=WINDOW, stride=1, **asked)
            frames = iter(walk(10**9))
            told = [
                found for frame, _ in zip(frames, range(WINDOW + 2), strict=False) if (found := predictor.push(frame))
            ]
            reply = {"features": told[-1].features.tolist(), "label": told[-1].label}
        else:
            some = [next(frames) for _ in range(asked["frames"])]
            start = time.process_time()
            for frame in some:
                predictor.push(frame)
            reply = {"seconds": time.process_time() - start, "memory": memory("VmRSS")}
        print(json.dumps(reply), file=answers, flush=True)


def command(*words: str) -> None:
    """Run ``skelcl`` and print what it took: seconds of the processor, and megabytes at most."""
    from skelcl.cli import run

    torch.set_num_threads(1)
    with contextlib.redirect_stdout(io.StringIO()):
        run(list(words))
    print(json.dumps({"seconds": time.process_time(), "memory": memory("VmHWM")}))


def memory(key: str) -> float:
    """Resident memory of this process, MB; the largest so far is that of VmHWM."""
    return int(re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


def walk(count: int, seed: int = 0):
    """Frames (20, 3) of somebody who sways."""
    rng = np.random.default_rng(seed)
    rest, place = rng.normal(size=(20, 3)) * [0.2, 0.5, 0.1] + [0, 0, 3], np.zeros((20, 3))
    for _ in range(count):
        place = 0.98 * place + 0.01 * rng.normal(size=(20, 3))
        yield (rest + place).astype(np.float32)


# --- the process that compares them -----------------------------------------------------------------------------------


class Build:
    """A source tree whose code runs in processes of its own."""

    def __init__(self, source: Path, place: Path) -> None:
        self.source, self.place = source, place
        place.mkdir()
        self.run("data", "generate", "nw-ucla", "--output", place / "raw", "--subjects", 4, "--episodes", 2)
        self.run("data", "prepare", "nw-ucla", "--raw", place / "raw", "--root", place / "data")

    def start(self, code: str, **options: object) -> subprocess.Popen:
        path = os.pathsep.join([str(self.source), str(Path(__file__).parent)])
        environment = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
        words = [sys.executable, "-W", "ignore", "-c", f"import live; {code}"]
        return subprocess.Popen(words, cwd=self.source, env=environment, text=True, stdout=subprocess.PIPE, **options)

    def call(self, code: str) -> str:
        process = self.start(code, stderr=subprocess.PIPE)
        printed, errors = process.communicate()
        assert process.returncode == 0, errors[-2000:]
        return printed

    def run(self, *words: object) -> dict[str, float]:
        return json.loads(self.call(f"live.command(*{[str(word) for word in words]!r})").splitlines()[-1])

    def checkpoint(self, network: str) -> Path:
        path = self.place / f"{network}.ckpt"
        self.call(f"live.draw(*{[str(path), *NETWORKS[network]]!r})")
        return path


def taken_out(old: str, place: Path) -> Path:
    """Source tree of a commit; a folder itself."""
    if Path(old).is_dir():
        return Path(old).resolve()
    packed = subprocess.run(["git", "archive", old], cwd=Path(__file__).parent, capture_output=True)
    if packed.returncode:
        sys.exit(f"no build {old}: {packed.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as tar:
        tar.extractall(place, filter="data")
    return place


def agree(one, other, what: str) -> None:
    worst = float(np.abs(np.subtract(one, other)).max() / np.abs(other).max())
    assert worst < 1e-4, f"{what}: the builds differ by {worst:.1e}"


def push(builds: list[Build], paths: list[Path], labels: str, frames: int, repeat: int, long: int, slack: int) -> None:
    """Print processor milliseconds of a frame; slack is one of the newer build alone, which then sees other frames."""
    processes = [build.start("live.answer()", stdin=subprocess.PIPE) for build in builds]

    def ask(process: subprocess.Popen, **what: object) -> dict:
        process.stdin.write(json.dumps(what) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    own = [{}, {"slack": slack} if slack else {}]
    shown = [
        ask(one, path=str(path), labels=labels, **more) for one, path, more in zip(processes, paths, own, strict=True)
    ]
    if not slack:
        agree(shown[1]["features"], shown[0]["features"], paths[0].stem)
        assert shown[0]["label"] == shown[1]["label"]
    taken = [[], []]
    for _ in range(repeat):
        for process, times in zip(processes, taken, strict=True):
            times.append(ask(process, frames=frames)["seconds"] / frames * 1000)
    (old, new), name = (min(times) for times in taken), f"{paths[0].stem}, labels {labels}, slack {slack}"
    print(f"push, {name:<36}{old:>8.2f} → {new:.2f} ms a frame{old / new:>8.1f}x")
    if long:
        sizes = [ask(processes[1], frames=long // 10)["memory"] for _ in range(10)]
        told = ", ".join(f"{size:.1f}" for size in sizes)
        print(f"push, {paths[0].stem}: resident memory after each tenth of {long} frames: {told} MB")
    for process in processes:
        process.stdin.close()
        process.wait()


def folder(builds: list[Build], paths: list[Path], clips: dict[int, Path], words: list[str], name: str) -> None:
    """Print clips per second and memory."""
    few, many = clips
    found: list[dict[int, dict]] = [{}, {}]
    for count, place in clips.items():
        for build, path, results in zip(builds, paths, found, strict=True):
            output = build.place / f"{path.stem}-{count}-{place.name}.json"
            own = ["--ckpt_path", path, "--input", place, "--output", output, "--neighbours", 0]
            results[count] = build.run("predict", *own, *words)
            results[count]["clips"] = json.loads(output.read_text())["clips"]
    for one, other in zip(found[0][many]["clips"], found[1][many]["clips"], strict=True):
        assert (one["id"], one["label"]) == (other["id"], other["label"])
        agree(other["windows"][0]["features"], one["windows"][0]["features"], f"{name}, {one['id']}")
    rates = [(many - few) / (results[many]["seconds"] - results[few]["seconds"]) for results in found]
    held = [" and ".join(f"{results[count]['memory']:.0f}" for count in clips) for results in found]
    whole = [results[many]["seconds"] for results in found]
    print(
        f"predict, {name:<25}{rates[0]:>8.0f} → {rates[1]:.0f} clips/s{rates[1] / rates[0]:>8.1f}x; with the start "
        f"{whole[0]:.1f} → {whole[1]:.1f} s for {many}; {held[0]} → {held[1]} MB for {few} and {many}"
    )


def recordings(place: Path, count: int, format: str) -> Path:
    """Clips of 40 to 80 frames, as arrays or as MediaPipe writes them."""
    place = place / f"{format}{count}"
    place.mkdir()
    for n in range(count):
        joints = np.stack(list(walk(40 + n % 41, n)))
        if format == "arrays":
            np.savez(place / f"{n:05d}.npz", keypoints=joints[None])
            continue
        joints = np.concatenate([joints, joints[:, :13] + np.float32(0.05)], 1)  # 33
        frames = [
            [dict(zip(("x", "y", "z", "visibility"), [*map(float, joint), 0.9], strict=True)) for joint in frame]
            for frame in joints
        ]
        text = json.dumps([{"landmarks": [frame], "world_landmarks": [frame]} for frame in frames])
        (place / f"{n:05d}.json").write_text(text)
    return place


def main(
    old: str = "c1be8aa",
    networks: tuple[str, ...] = tuple(NETWORKS),
    frames: int = 300,
    repeat: int = 3,
    clips: int = 1000,
    formats: tuple[str, ...] = ("arrays", "mediapipe"),
    long: int = 0,
) -> None:
    """Print the table.

    Args:
        old: Commit of the older build, or a folder that holds its sources.
        networks: as_cal (an LSTM), ctr_gcn and scd_net (the small one).
        frames: Frames that are pushed before the other build's turn.
        repeat: Turns; the least time counts.
        clips: Clips of the larger folder; the smaller has a tenth of them. 0 leaves folders out.
        formats: What the clips are: arrays or mediapipe.
        long: Further frames, after whose tenths memory is looked at.
    """
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        sources = [taken_out(old, place / "source"), Path(__file__).resolve().parents[2]]
        builds = [Build(source, place / name) for source, name in zip(sources, ("old", "new"), strict=True)]
        paths = {network: [build.checkpoint(network) for build in builds] for network in networks}
        for network, both in paths.items():
            labels = ["classifier"] if network == "ctr_gcn" else ["none", "knn"]
            for kind in labels:
                for slack in (0, 5, 9) if network == "as_cal" else (0,):
                    push(builds, both, kind, frames, repeat, long * (kind == labels[-1] and not slack), slack)
        for format in formats if clips else ():
            folders = {count: recordings(place, count, format) for count in (clips // SMALL, clips)}
            words = ["--layout", "kinect20"] if format == "arrays" else ["--format", "mediapipe"]
            for network, both in paths.items():
                folder(builds, both, folders, words, f"{network}, {format}")


if __name__ == "__main__":
    auto_cli(main)
