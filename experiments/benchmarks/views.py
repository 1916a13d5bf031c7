"""Views of skelcl against a plain per-sample NumPy pipeline, both on one core in one run.

The twin is what the field's data loaders do: one clip at a time, float64, loops over joints, then collate and cast.
Both sides end in the batch x (N, C, T, V, M), are given the same random parameters and are checked to agree. Ours
draws its parameters while the clock runs; those of the twin are drawn beforehand, which favours it.

    python experiments/benchmarks/views.py --clips 256
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import Tensor

from skelcl.clips import Clips
from skelcl.skeleton import NTU25
from skelcl.transforms import (
    ChannelMask,
    CropResize,
    GaussianBlur,
    GaussianNoise,
    JointMask,
    Normalize,
    Reverse,
    Rotate,
    Sampler,
    Shear,
    Step,
    Truncate,
    View,
)

BODIES, JOINTS, LONGEST = 2, NTU25.num_joints, 300


def random_clips(count: int, seed: int = 0) -> Clips:
    """Ragged clips with the lengths and the share of two-person clips of NTU RGB+D."""
    rng = np.random.default_rng(seed)
    frames = torch.from_numpy(np.clip(rng.lognormal(4.3, 0.45, count), 15, LONGEST).astype(np.int64))
    bodies = torch.from_numpy(1 + (rng.random(count) < 0.22).astype(np.int64))
    rows = frames * bodies
    steps = rng.normal(0, 0.01, (int(rows.sum()), JOINTS, 3)).astype(np.float32)
    joints = torch.from_numpy(steps + rng.normal(0, 0.5, (JOINTS, 3)).astype(np.float32))
    none = torch.zeros(count, dtype=torch.int64)
    return Clips(joints, rows.cumsum(0) - rows, frames, bodies, none, none, torch.arange(count), NTU25, BODIES)


def padded(clips: Clips) -> np.ndarray:
    """The same clips as the field stores them: (N, C, 300, V, M) float32 with zeros behind."""
    x = np.zeros((len(clips), 3, LONGEST, JOINTS, BODIES), np.float32)
    for n, (start, frames, bodies) in enumerate(
        zip(clips.offsets.tolist(), clips.frames.tolist(), clips.bodies.tolist(), strict=True)
    ):
        rows = clips.joints[start : start + frames * bodies].view(bodies, frames, JOINTS, 3)
        x[n, :, :frames, :, :bodies] = rows.permute(3, 1, 2, 0).numpy()
    return x


# The twin: one function per operation, (C, T, V, M) float64 of one clip in and out.


def center(x: np.ndarray) -> np.ndarray:
    for body in range(x.shape[3]):
        root = x[:, :, 1, body].copy()
        for joint in range(x.shape[2]):
            x[:, :, joint, body] -= root
    return x


def reverse(x: np.ndarray, order: np.ndarray) -> np.ndarray:
    return x[:, order]


def linear(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return np.dot(x.transpose(1, 2, 3, 0), matrix.T).transpose(3, 0, 1, 2)


def noise(x: np.ndarray, added: np.ndarray) -> np.ndarray:
    seen = (x != 0).any(axis=(0, 2), keepdims=True)
    return x + added * seen


def blur(x: np.ndarray, sigma: float) -> np.ndarray:
    if sigma == 0:
        return x
    offset = np.arange(-7, 8)
    kernel = np.exp(-(offset**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    seen = (x != 0).any(axis=(0, 2), keepdims=True)
    frames = x.shape[1]
    wide = np.pad(x, ((0, 0), (7, 7), (0, 0), (0, 0)))
    return sum(weight * wide[:, i : i + frames] for i, weight in enumerate(kernel)) * seen


def mask_joints(x: np.ndarray, masked: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    joints, frames = masked
    x = x.copy()
    for frame in np.flatnonzero(frames):
        x[:, frame, joints] = 0
    return x


def mask_channel(x: np.ndarray, axis: int) -> np.ndarray:
    x = x.copy()
    x[axis] = 0
    return x


def crop_resize(x: np.ndarray, start: int, length: int, frames: int) -> np.ndarray:
    flat = x[:, start : start + length].transpose(0, 2, 3, 1).reshape(-1, length)
    # The data loaders of the field call torch for this one; it is fast, and given to them here.
    flat = torch.nn.functional.interpolate(torch.from_numpy(flat)[None], frames, mode="linear", align_corners=False)
    return flat[0].numpy().reshape(3, JOINTS, BODIES, frames).transpose(0, 3, 1, 2)


def subtract_first(x: np.ndarray) -> np.ndarray:
    seen = (x != 0).any(axis=(0, 2), keepdims=True)
    return (x - x[:, :1, 1:2, :1]) * seen


STEPS: dict[type[Step], Callable[..., np.ndarray]] = {
    Reverse: reverse,
    Shear: linear,
    Rotate: linear,
    GaussianNoise: noise,
    GaussianBlur: blur,
    JointMask: mask_joints,
    ChannelMask: mask_channel,
}


class Pipeline:
    """One preset: the batched view, and its twin fed with the parameters that the view drew."""

    def __init__(self, name: str, sample: Sampler, normalize: Normalize, steps: list[Step], views: int) -> None:
        self.name = name
        self.view = View(sample, normalize, steps)
        self.views = views

    def batched(self, clips: Clips, generator: torch.Generator) -> list[Tensor]:
        return [self.view(clips, generator) for _ in range(self.views)]

    def draw(self, clips: Clips, generator: torch.Generator) -> list[object]:
        """The parameters of one view in per-sample form."""
        sample, params = self.view.sample, []
        if isinstance(sample, CropResize):
            state = generator.get_state()
            params.append([tuple(pair) for pair in torch.stack(sample.draw(clips, generator), 1).tolist()])
            generator.set_state(state)
        x = self.view.normalize(sample(clips, generator), clips)
        for step in self.view.steps:
            drawn = step.draw(x, generator)
            x = step.augment(x, drawn)
            if isinstance(step, JointMask):
                params.append(list(zip(*(part.numpy() for part in drawn), strict=True)))
            else:
                values = drawn.double() if drawn.is_floating_point() else drawn
                params.append(list(values.numpy()))
        return params

    def twin(self, store: np.ndarray, draws: list[list[object]]) -> list[Tensor]:
        """Per-sample loops, then the collation and the cast of a data loader."""
        items = []
        for n in range(len(store)):
            item = []
            for params in draws:
                x = store[n].astype(np.float64)
                steps = iter(params)
                if isinstance(self.view.sample, Truncate):
                    x = center(x[:, : self.view.frames])
                else:
                    x = crop_resize(subtract_first(x), *next(steps)[n], self.view.frames)
                for step in self.view.steps:
                    x = STEPS[type(step)](x, next(steps)[n])
                item.append(x)
            items.append(item)
        return [torch.from_numpy(np.stack(view)).float() for view in zip(*items, strict=True)]


def pipelines() -> list[Pipeline]:
    seven: list[Step] = [Reverse(), Shear(), Rotate(), GaussianNoise(), GaussianBlur(), JointMask(), ChannelMask()]
    ctr = Rotate(17.188734, 17.188734, symmetric=True)
    return [
        Pipeline("AS-CAL", Truncate(150), Normalize("root"), [Reverse(), Shear()], 2),
        Pipeline("AS-CAL, all seven", Truncate(150), Normalize("root"), seven, 2),
        Pipeline("crop, resize, rotate", CropResize(64), Normalize("sgn"), [ctr], 1),
    ]


def keep_freed_memory() -> None:
    """Stops the C library from returning freed memory to the system after every call, for both sides.

    What it returns depends on all that a process did before; a loop that allocates little else measures page faults.
    """
    trim_threshold, mmap_threshold = -1, -3
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)


def seconds(function: Callable[[], object]) -> float:
    """Processor time, which other programs on the core do not lengthen by waiting."""
    start = time.process_time()
    function()
    return time.process_time() - start


def compare(pipeline: Pipeline, clips: Clips, store: np.ndarray, repeat: int) -> tuple[float, float]:
    """Clips per second of the batched view and of its twin, after a check that they agree."""
    generator = torch.Generator().manual_seed(0)
    draws = [pipeline.draw(clips, generator) for _ in range(pipeline.views)]
    again = pipeline.batched(clips, torch.Generator().manual_seed(0))
    for view, twin in zip(again, pipeline.twin(store, draws), strict=True):
        torch.testing.assert_close(view, twin, rtol=1e-5, atol=1e-5)
    fast, slow = [], []
    for _ in range(repeat):
        # Our side is short: the mean of several runs keeps the scheduler out of the measurement.
        fast.append(seconds(lambda: [pipeline.batched(clips, generator) for _ in range(5)]) / 5)
        slow.append(seconds(lambda: pipeline.twin(store, draws)))
    return len(clips) / median(fast), len(clips) / median(slow)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[32, 256], help="batch sizes (default: 32 256)")
    parser.add_argument("--repeat", type=int, default=9, help="interleaved runs of each side (default: 9)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    print(f"{'pipeline':<22}{'batch':>6}{'views':>6}{'skelcl clips/s':>16}{'NumPy clips/s':>15}{'ratio':>8}")
    for count in args.clips:
        clips = random_clips(count)
        store = padded(clips)
        for pipeline in pipelines():
            fast, slow = compare(pipeline, clips, store, args.repeat)
            print(f"{pipeline.name:<22}{count:>6}{pipeline.views:>6}{fast:>16,.0f}{slow:>15,.0f}{fast / slow:>7.1f}x")


if __name__ == "__main__":
    main()
