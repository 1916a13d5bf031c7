"""What training on a CPU gains from keeping freed memory, as skelcl's commands do, in one process and one run.

    python experiments/benchmarks/kept_memory.py [--batch_size 16] [--repeat 5] [--threads 1]

Each encoder makes steps, forwards and backwards, under the rules of the C library, then all of them do so again with
freed memory kept: there is no way back, so the two do not take turns. With one thread processor time is measured, and
that includes the pages which the system clears for the process; otherwise elapsed time.
"""

from __future__ import annotations

from statistics import median

import torch
from encoders import Machine, Mode, step
from jsonargparse import auto_cli
from torch import nn

from skelcl.encoders import AGCN, CTRGCN, DSTA, Hyperformer
from skelcl.nn.memory import keep_freed_memory
from skelcl.skeleton import NTU25

ENCODERS = {"ctr-gcn": CTRGCN, "2s-agcn": AGCN, "hyperformer": Hyperformer, "dsta": DSTA}
MODES: tuple[Mode, ...] = ("fp32", "bf16")
CLASSES = 60


def main(batch_size: int = 16, repeat: int = 5, threads: int | None = None, quick: bool = False) -> None:
    """Print the table.

    Args:
        batch_size: Clips of two bodies, 64 frames and 25 joints.
        repeat: Steps that count, after two that do not.
        threads: Threads of torch; by default its own choice.
        quick: Only see that everything runs, with the smallest sizes.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    frames = 64
    if quick:
        batch_size, frames, repeat = 1, 4, 1
    machine = Machine(torch.device("cpu"), repeat, 64)
    torch.manual_seed(0)
    x, label = torch.randn(batch_size, 3, frames, 25, 2), torch.arange(batch_size) % CLASSES
    networks = {name: classified(make(NTU25, 2)) for name, make in ENCODERS.items()}

    def seconds(name: str, mode: Mode) -> float:
        laps = [machine.seconds(lambda: step(networks[name], x, label, mode)) for _ in range(repeat + 2)]
        return median(laps[2:])

    rows = [(name, mode) for name in networks for mode in MODES]
    given = {row: seconds(*row) for row in rows}
    keep_freed_memory()
    kept = {row: seconds(*row) for row in rows}
    print(f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}, batch {batch_size}, {frames} frames")
    print(f"{'':<20}{'given back, ms':>16}{'kept, ms':>12}{'ratio':>8}")
    for name, mode in rows:
        before, after = given[name, mode], kept[name, mode]
        print(f"{name:<14}{mode:<6}{before * 1e3:>16,.0f}{after * 1e3:>12,.0f}{before / after:>7.2f}x")


def classified(encoder: nn.Module) -> nn.Module:
    """The encoder with a linear layer behind it, in training mode."""
    return nn.Sequential(encoder, nn.Linear(encoder.dim, CLASSES)).train()


if __name__ == "__main__":
    auto_cli(main)
