"""One AS-CAL training step of skelcl against a plain reading of the published one, in one process and one run.

    python experiments/benchmarks/as_cal.py [--batch 32] [--threads 1]

The plain step augments one clip after the other in NumPy, collates float64 and casts it; it clones the whole queue
because it enqueues before the backward pass, concatenates all logits for a cross-entropy, and moves the key encoder
parameter by parameter. Its random numbers are drawn beforehand and its clips are already cut to T frames, which
favours it. Ours is the library's own code: `training_step`, `optimizer_step` and `on_after_backward` called as
Lightning calls them. Both start from the same weights, see the same views and must give the same losses before
anything is timed. The two take turns, and every number is a median.

How to read the output, one table per setting:

- `whole step` is the comparison. `without views` is what remains of it when worker processes on other cores hide all
  augmentation.
- Our parts are timed in a second loop that cuts the backward pass in two at the features, so their sum may miss the
  whole by a few percent. `LSTM` is both forward passes and the backward pass, the same work in both forms: its ratio
  is 1 but for noise and tells how far to trust the others. `metrics` is what is computed for the log.
- The line below gives the share of our step that is LSTM, and the bound: the ratio of a step that is nothing else.
- The last rows run our step through a `pl.Trainer` without logger, checkpoints and progress bar; the ratio is to the
  same step in the bare loop. The difference is Lightning's own work per step, first without and then with the calls
  of `self.log`.

With one thread processor time is measured, which other programs on the core do not lengthen; otherwise elapsed time.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from statistics import median

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import SGD
from torch.utils.data import DataLoader
from views import Pipeline, keep_freed_memory, random_clips

from skelcl import losses
from skelcl.clips import Clips
from skelcl.encoders import LSTM
from skelcl.methods import ASCAL
from skelcl.skeleton import KINECT20
from skelcl.transforms import Normalize, Reverse, Shear, Truncate, View

BATCHES, TEMPERATURE, MOMENTUM = 4, 0.06, 0.999


@dataclass(frozen=True)
class Setting:
    """A data set in memory, and the sizes that AS-CAL takes for it."""

    name: str
    clips: Clips
    frames: int
    queue_size: int
    batch: int

    def __getitem__(self, batch_idx: int) -> Clips:
        first = batch_idx % BATCHES * self.batch
        return self.clips[torch.arange(first, first + self.batch)]


def settings(batch: int) -> list[Setting]:
    ntu = random_clips(BATCHES * batch)
    # Kinect v1 has one body of 20 joints, and the actions of NW-UCLA are about half as long.
    ucla = replace(
        ntu,
        joints=ntu.joints[:, : KINECT20.num_joints].contiguous(),
        frames=ntu.frames // 2,
        bodies=torch.ones_like(ntu.bodies),
        skeleton=KINECT20,
        num_persons=1,
    )
    return [Setting("NTU-like", ntu, 150, 16384, batch), Setting("NW-UCLA-like", ucla, 60, 500, batch)]


class Silent(ASCAL):
    """Computes what it would log, and keeps it to itself."""

    def log(self, *args: object, **options: object) -> None: ...

    def log_dict(self, *args: object, **options: object) -> None: ...

    def on_train_epoch_end(self) -> None: ...


def make(method: type[ASCAL], setting: Setting) -> ASCAL:
    torch.manual_seed(0)
    sample, root = Truncate(setting.frames), Normalize("root")
    encoder = LSTM(setting.clips.skeleton, setting.clips.num_persons)
    return method(
        encoder,
        View(sample, root, [Reverse(), Shear()]),
        View(sample, root),
        queue_size=setting.queue_size,
        temperature=TEMPERATURE,
        momentum=MOMENTUM,
        warmup_epochs=0,
    )


class Ours:
    """The library's step, whole and in parts."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.method = make(Silent, setting)
        self.optimizer = self.method.configure_optimizers()["optimizer"]

    def step(self, batch_idx: int) -> Tensor:
        clips = self.setting[batch_idx]
        outputs = {}

        def closure() -> Tensor:
            outputs.update(self.method.training_step(clips, batch_idx))
            self.optimizer.zero_grad()
            outputs["loss"].backward()
            self.method.on_after_backward()
            return outputs["loss"]

        self.method.optimizer_step(0, batch_idx, self.optimizer, closure)
        return outputs["loss"].detach()

    def parts(self, batch_idx: int) -> Iterator[str]:
        """The same work; gives the name of each part when it is done."""
        method = self.method
        clips = self.setting[batch_idx]
        random = method.step_generator(batch_idx)
        views = [method.view(clips, random) for _ in range(2)]
        yield "views"
        features, key = method.query(views[0]), method.key(views[1])
        self.optimizer.zero_grad()
        yield "LSTM"
        query = features.detach().requires_grad_()
        positive, negative = losses.contrast(query, key, method.queue.keys, method.temperature)
        loss = method.loss(positive, negative)
        loss.backward()
        method.queue.push(key, clips.index)
        yield "loss and queue"
        method._log(loss, positive, negative, query)
        yield "metrics"
        features.backward(query.grad)
        yield "LSTM"
        self.optimizer.step()
        yield "optimiser"
        method.key.update(method.query)
        yield "momentum"


class Plain:
    """The published step, read plainly, from the weights and the random numbers of ours."""

    def __init__(self, setting: Setting, ours: ASCAL) -> None:
        pipeline = Pipeline(setting.name, ours.view.sample, ours.view.normalize, list(ours.view.steps), 2)
        self.augmented = pipeline.twin
        self.draws = []
        for batch_idx in range(BATCHES):
            clips, random = setting[batch_idx], ours.step_generator(batch_idx)
            self.draws.append([pipeline.draw(clips, random) for _ in range(2)])
        self.store = ours.view.sample(setting.clips).contiguous().numpy()
        self.batch = setting.batch
        self.query, self.key = deepcopy(ours.encoder.lstm), deepcopy(ours.encoder.lstm)
        self.memory, self.pointer = ours.queue.keys.clone(), 0
        self.optimizer = SGD(self.query.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)

    def step(self, batch_idx: int) -> Tensor:
        for _ in self.parts(batch_idx):
            pass
        return self.loss

    def parts(self, batch_idx: int) -> Iterator[str]:
        batch = batch_idx % BATCHES
        first = batch * self.batch
        views = self.augmented(self.store[first : first + self.batch], self.draws[batch])
        yield "views"
        views = [x.permute(0, 2, 1, 3, 4).flatten(2) for x in views]
        features = self.query(views[0])[0].mean(1)
        with torch.no_grad():
            key = self.key(views[1])[0].mean(1)
        self.optimizer.zero_grad()
        yield "LSTM"
        query = features.detach().requires_grad_()
        logits = torch.cat([(query * key).sum(1, keepdim=True), query @ self.memory.clone().T], 1) / TEMPERATURE
        rows = (self.pointer + torch.arange(len(key))) % len(self.memory)
        self.memory.index_copy_(0, rows, key)
        self.pointer = (self.pointer + len(key)) % len(self.memory)
        loss = F.cross_entropy(logits, torch.zeros(len(key), dtype=torch.int64))
        loss.backward()
        yield "loss and queue"
        self.loss = loss.detach()
        logits[:, 0].mean().item(), loss.item()
        yield "metrics"
        features.backward(query.grad)
        yield "LSTM"
        self.optimizer.step()
        yield "optimiser"
        for slow, fast in zip(self.key.parameters(), self.query.parameters(), strict=True):
            slow.data.mul_(MOMENTUM).add_(fast.data, alpha=1 - MOMENTUM)
        yield "momentum"


class Laps(pl.Callback):
    """The time from the end of one step to the end of the next."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.ends: list[float] = []

    def on_train_batch_end(self, *args: object) -> None:
        self.ends.append(self.clock())


def fit(method: ASCAL, setting: Setting, steps: int, clock: Callable[[], float]) -> list[float]:
    """Seconds per step in Lightning's loop; what it does once per run is left out."""
    laps = Laps(clock)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[laps],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(method, DataLoader(range(steps + 1), batch_size=None, collate_fn=setting.__getitem__))
    return list(np.diff(laps.ends))


def timed(parts: Iterator[str], clock: Callable[[], float]) -> dict[str, float]:
    """Seconds per part; a part may come in several pieces."""
    took: dict[str, float] = defaultdict(float)
    start = clock()
    for part in parts:
        took[part] += clock() - start
        start = clock()
    return took


def medians(laps: list[dict[str, float]]) -> dict[str, float]:
    return {part: median(lap[part] for lap in laps) for part in laps[0]}


def agree(plain: Plain, ours: Ours) -> None:
    """Three steps, so that gradients, optimiser, twin and queue take part in the comparison.

    Raises:
        SystemExit: If a loss or the queue differs.
    """
    for batch_idx in range(3):
        expected, loss = plain.step(batch_idx).item(), ours.step(batch_idx).item()
        if abs(loss - expected) > 1e-4 * abs(expected) + 1e-6:
            raise SystemExit(f"the two forms disagree in step {batch_idx}: loss {loss} and {expected}")
    # A key in the wrong row would hardly show in a loss.
    if not torch.allclose(ours.method.queue.keys, plain.memory, rtol=1e-4, atol=1e-5):
        raise SystemExit("the two forms disagree about the queue")


def row(name: str, slow: float, fast: float, note: str = "") -> None:
    print(f"{name:<28}{slow * 1e3:>10.2f}{fast * 1e3:>12.2f}{slow / fast:>8.2f}x{note}")


def compare(setting: Setting, repeat: int, clock: Callable[[], float]) -> None:
    """Measure one setting and print its table."""
    ours = Ours(setting)
    plain = Plain(setting, ours.method)
    agree(plain, ours)
    slow, fast, pieces = [], [], []
    for batch_idx in range(repeat):
        slow.append(timed(plain.parts(batch_idx), clock))
        start = clock()
        ours.step(batch_idx)
        fast.append(clock() - start)
        pieces.append(timed(ours.parts(batch_idx), clock))
    quiet, loud = make(Silent, setting), make(ASCAL, setting)
    bare, trainer, logged = [], [], []
    steps = max(repeat // 3, 1)
    for _ in range(3):
        trainer += fit(quiet, setting, steps, clock)
        logged += fit(loud, setting, steps, clock)
        for batch_idx in range(steps):
            start = clock()
            ours.step(batch_idx)
            bare.append(clock() - start)

    whole, mine = median(sum(lap.values()) for lap in slow), median(fast)
    plain_parts, our_parts = medians(slow), medians(pieces)
    total = sum(our_parts.values())
    skeleton, bodies = setting.clips.skeleton, setting.clips.num_persons
    print(
        f"\n{setting.name}: batch {setting.batch}, {skeleton.num_joints} joints, {bodies} "
        f"{'body' if bodies == 1 else 'bodies'}, {setting.frames} frames, K = {setting.queue_size}"
    )
    print(f"{'':<28}{'plain ms':>10}{'skelcl ms':>12}{'ratio':>9}{'of ours':>9}")
    row("whole step", whole, mine)
    row("without views", whole - plain_parts["views"], mine - our_parts["views"])
    for part, took in our_parts.items():
        row(f"  {part}", plain_parts[part], took, f"{took / total:>8.0%}")
    print(
        f"LSTM is {our_parts['LSTM'] / total:.0%} of our step; "
        f"were all else free, the ratio would be {whole / our_parts['LSTM']:.2f}x"
    )
    print(f"{'':<28}{'bare ms':>10}{'Trainer ms':>12}{'ratio':>9}{'adds ms':>9}")
    for name, laps in (("Trainer, nothing logged", trainer), ("Trainer", logged)):
        low, high = median(bare), median(laps)
        print(f"{name:<28}{low * 1e3:>10.2f}{high * 1e3:>12.2f}{high / low:>8.2f}x{(high - low) * 1e3:>9.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32, help="clips per step (default: 32)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    parser.add_argument("--repeat", type=int, default=30, help="interleaved steps of each form (default: 30)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    warnings.filterwarnings("ignore", module="lightning|torch")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for setting in settings(args.batch):
        compare(setting, args.repeat, time.process_time if args.threads == 1 else time.perf_counter)


if __name__ == "__main__":
    main()
