"""How two forms of a training step are driven and measured: ours as Lightning drives it, and a plain one.

A form has a `network` (what the saved activations are counted of), its `mode`, a whole `step(batch_idx)` that gives the
loss, and `parts(batch_idx)`, the same work that gives the name of each part when it is done.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Literal

import torch
from encoders import Machine, cast, megabytes, saved_bytes
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from skelcl.clips import Clips
from skelcl.methods.base import Method

Mode = Literal["fp32", "bf16"]


class Ours:
    """The library's step.

    Args:
        method: On its device, in training mode; what it logs is computed and dropped.
        batches: That it is given in turns.
    """

    def __init__(self, method: Method, batches: Sequence[Clips]) -> None:
        method.log = method.log_dict = lambda *args, **options: None
        self.method, self.batches, self.mode = method, batches, "fp32"
        self.network: nn.Module = method
        made = method.configure_optimizers()
        self.optimizer = made["optimizer"] if isinstance(made, Mapping) else made

    def clips(self, batch_idx: int) -> Clips:
        return self.batches[batch_idx % len(self.batches)]

    def step(self, batch_idx: int) -> Tensor:
        clips, outputs = self.clips(batch_idx), {}

        def closure() -> Tensor:
            with cast(self.method.device, self.mode):
                outputs.update(self.method.training_step(clips, batch_idx))
            self.optimizer.zero_grad()
            outputs["loss"].backward()
            self.method.on_after_backward()
            return outputs["loss"]

        self.method.optimizer_step(0, batch_idx, self.optimizer, closure)
        return outputs["loss"].detach()

    def parts(self, batch_idx: int) -> Iterator[str]:
        self.step(batch_idx)
        yield "all"


class Plain(ABC):
    """A released step; a subclass has the parts and leaves the loss."""

    network: nn.Module
    mode: Mode = "fp32"
    loss: Tensor

    def step(self, batch_idx: int) -> Tensor:
        for _ in self.parts(batch_idx):
            pass
        return self.loss

    @abstractmethod
    def parts(self, batch_idx: int) -> Iterator[str]:
        """Does the step and gives the name of each part when it is done."""


def timed(parts: Iterator[str], machine: Machine) -> dict[str, float]:
    """Seconds per part; a part may come in several pieces."""
    took: dict[str, float] = defaultdict(float)
    name: list[str | None] = []
    while True:
        seconds = machine.seconds(lambda: name.append(next(parts, None)))
        if name[-1] is None:
            return took
        took[name[-1]] += seconds


def medians(laps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {part: median(lap[part] for lap in laps) for part in laps[0]}


def row(name: str, base: float, slow: float, fast: float, note: str = "") -> None:
    print(f"{name:<24}{slow * 1e3:>11,.1f}{fast * 1e3:>11,.1f}{base / fast:>8.2f}x{note}", flush=True)


def compare_steps(
    title: str,
    forms: tuple[Plain, Ours],
    x: Tensor,
    machine: Machine,
    modes: Sequence[Mode],
    wanted: Mapping[Mode, float],
    memory: float,
) -> list[str]:
    """Print a table for each mode; give the targets that are missed.

    Args:
        title: What is done in a step.
        forms: Plain and ours.
        x: What a network takes, for its saved activations.
        machine: Where it is measured.
        modes: Precisions; the first one of the plain form is what all ratios are to.
        wanted: Ratios of the whole step.
        memory: Share of the plain memory.
    """
    plain, ours = forms
    missed: list[str] = []
    base: dict[str, float] = {}
    n = len(ours.clips(0))
    with FlopCounterMode(display=False) as counter:
        ours.step(0)
    for mode in modes:
        plain.mode = ours.mode = mode
        slow, fast, pieces = [], [], []
        for batch_idx in range(machine.repeat + 1):
            slow.append(timed(plain.parts(batch_idx), machine))
            fast.append(machine.seconds(lambda batch_idx=batch_idx: ours.step(batch_idx)))
            pieces.append(timed(ours.parts(batch_idx), machine))
        # The first turn does not count.
        whole, mine = median(sum(lap.values()) for lap in slow[1:]), median(fast[1:])
        theirs, parts = medians(slow[1:]), medians(pieces[1:])
        base = base or {"step": whole, **theirs}
        saved = [saved_bytes(form.network, x, mode) for form in forms]
        peaks = [machine.peak(lambda form=form: form.step(0)) for form in forms]
        share = counter.get_total_flops() / mine / machine.ceiling(torch.bfloat16 if mode == "bf16" else torch.float32)
        print(f"\n{title}, {mode}, batch {n}\n{'':<24}{'plain ms':>11}{'skelcl ms':>11}{'ratio':>9}{'of ours':>9}")
        row("whole step", base["step"], whole, mine)
        if "views" in theirs:
            row("without views", base["step"] - base["views"], whole - theirs["views"], mine - parts["views"])
        for part, took in parts.items():
            if part in theirs:
                row(f"  {part}", base[part], theirs[part], took, f"{took / sum(parts.values()):>8.0%}")
        print(
            f"{n / whole:.1f} clips/s plain, {n / mine:.1f} ours, {share:.0%} of the ceiling; saved MB "
            f"{megabytes(saved[0])} and {megabytes(saved[1])}, peak MB {megabytes(peaks[0])} and {megabytes(peaks[1])}",
            flush=True,
        )
        if base["step"] / mine < wanted[mode]:
            missed.append(f"{title}, {mode}: {base['step'] / mine:.2f}x, wanted {wanted[mode]}x")
        for what, (before, after) in (("saved activations", saved), ("peak memory", peaks)):
            if after > memory * before:
                missed.append(f"{title}, {mode}: {what} {after / before:.0%} of plain, wanted {memory:.0%}")
    return missed
