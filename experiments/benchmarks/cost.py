"""What runs cost on this machine: a few steps of each are measured, and all of them foretold.

    python experiments/benchmarks/cost.py experiments/pretrain/*nw_ucla*.yaml --threads 1

Steps are those of `skelcl fit`, with data loading, views, loss, optimiser and twin, on generated people of the same
skeleton and number of persons; how many there are of them is known from the data sets. Evaluation is not counted, and
memory is that of one device. A bank over all training clips (STD-CL) has the size of the generated data here, so what
it costs on NTU RGB+D is underrated.
"""

from __future__ import annotations

import logging
import math
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from encoders import resident

from skelcl.commands.lightning import SkelCLI
from skelcl.commands.parsing import call_on
from skelcl.runs.config import resolved_config

TRAINING_CLIPS = {
    ("NWUCLA", None): 1_020,
    ("NTU60", "xsub"): 40_091,
    ("NTU60", "xview"): 37_646,
    ("NTU120", "xsub"): 63_026,
    ("NTU120", "xset"): 54_468,
    ("PKUMMD", "xsub"): 18_841,  # of part 1
    ("PKUMMD", "xview"): 14_357,
}
"""Training clips of the complete data sets, by class and split."""


@dataclass(frozen=True)
class Recipe:
    """What a run file asks for.

    Args:
        name: Of the run.
        clips: Training clips of an epoch, repetitions counted.
        batch_size: Of one process.
        drop_last: Whether the last, smaller batch of an epoch is left out.
        epochs: Of the training.
    """

    name: str
    clips: int
    batch_size: int
    drop_last: bool
    epochs: int

    @property
    def steps(self) -> int:
        """Training steps of the whole run, in one process."""
        rounding = math.floor if self.drop_last else math.ceil
        return self.epochs * rounding(self.clips / self.batch_size)


@dataclass(frozen=True)
class Measured:
    """What a step takes.

    Args:
        seconds: Of one step.
        memory: Bytes at most, with weights and optimiser; on a CPU those of the process, imports included.
    """

    seconds: float
    memory: float


def recipe(run: Path) -> Recipe:
    """Reads a run file.

    Raises:
        SystemExit: It trains on something whose size is not known.
    """
    config = yaml.safe_load(resolved_config(["--config", str(run)]))
    kind, data = config["data"]["class_path"].rsplit(".", 1)[-1], config["data"]["init_args"]
    clips = TRAINING_CLIPS.get((kind, data.get("split")))
    if clips is None or data.get("part") == 2:
        raise SystemExit(f"{run}: trains on a part of {kind} whose number of clips is not known")
    repeat, epochs = data.get("repeat", 1), config["trainer"]["max_epochs"]
    return Recipe(run.stem, clips * repeat, data["batch_size"], data.get("drop_last", False), epochs)


class Clock(pl.Callback):
    """Notes when steps begin. On one thread of a CPU it is the processor's time, which other jobs do not stretch."""

    def __init__(self) -> None:
        self.began: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, method: Any, *batch: Any) -> None:
        on_cpu = method.device.type == "cpu"
        if not on_cpu:
            torch.cuda.synchronize()
        alone = on_cpu and torch.get_num_threads() == 1
        self.began.append(time.process_time() if alone else time.perf_counter())

    @property
    def seconds(self) -> float:
        """Median of the steps but the first two."""
        return median(later - earlier for earlier, later in zip(self.began[2:], self.began[3:], strict=False))


def measure(run: Path, steps: int, root: Path, threads: int | None = None, words: Sequence[str] = ()) -> Measured:
    """Trains a run for some steps on generated people.

    Args:
        run: Run file.
        steps: Steps that count; three more do not.
        root: Folder for the generated data.
        threads: Of torch on a CPU; by default its own choice.
        words: Further options of ``skelcl fit``.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    config = yaml.safe_load(resolved_config(["--config", str(run)]))
    kind, data = config["data"]["class_path"].rsplit(".", 1)[-1], config["data"]["init_args"]
    people = {"root": str(root), "batch_size": data["batch_size"], "num_persons": data.get("num_persons") or 1}
    people |= {"layout": "kinect20" if kind == "NWUCLA" else "ntu25", "validation": "none"}
    # A bank wants so many positives of every class; each person gives three training clips of it.
    positives = config["model"]["init_args"].get("positives", 0)
    people["subjects"] = max(6, math.ceil(positives / (3 * data.get("repeat", 1))))
    clock = Clock()
    args = ["--config", str(run), "--data", yaml.safe_dump({"class_path": "Synthetic", "init_args": people})]
    args += ["--trainer.logger=false", "--trainer.enable_progress_bar=false"]
    args += ["--trainer.enable_model_summary=false", f"--trainer.max_steps={steps + 3}", "--trainer.max_epochs=-1"]
    cli = SkelCLI(save_config_callback=None, run=False, args=[*args, *words])
    cli.trainer.callbacks = [clock]
    cli.trainer.fit(cli.model, cli.datamodule)
    on_gpu = cli.trainer.strategy.root_device.type == "cuda"
    return Measured(clock.seconds, torch.cuda.max_memory_allocated() if on_gpu else resident())


def measure_apart(run: Path, steps: int, root: Path, threads: int | None, words: Sequence[str]) -> Measured:
    """The same in a process of its own, so that memory is that of this run alone."""
    code = (
        f"from cost import *; m = measure(Path({str(run)!r}), {steps}, Path({str(root)!r}), {threads}, {list(words)})"
    )
    command = [sys.executable, "-c", f"{code}; print(m.seconds, m.memory)"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{run}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
    seconds, memory = map(float, done.stdout.split()[-2:])
    return Measured(seconds, memory)


def duration(seconds: float) -> str:
    """Two significant digits in the unit that people use."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{float(f'{seconds / size:.2g}'):g} {unit}"
    return f"{float(f'{seconds:.2g}'):g} s"


def table(costs: Sequence[tuple[Recipe, Measured]]) -> str:
    """Markdown: a row for each run."""
    rows = ["| run | batch | epochs | steps | clips/s | memory | whole training |", "|---|---|---|---|---|---|---|"]
    for plan, cost in costs:
        rate = f"{float(f'{plan.batch_size / cost.seconds:.3g}'):,g}"
        rows.append(
            f"| `{plan.name}` | {plan.batch_size} | {plan.epochs} | {plan.steps:,} | {rate} "
            f"| {cost.memory / 1e9:.1f} GB | {duration(plan.steps * cost.seconds)} |"
        )
    return "\n".join(rows)


def where(threads: int | None, words: Sequence[str]) -> str:
    """The machine, in a line."""
    if torch.cuda.is_available() and "--trainer.accelerator=cpu" not in words:
        machine = torch.cuda.get_device_name()
    else:
        machine = f"CPU, {threads or torch.get_num_threads()} threads"
    return f"{machine}, torch {torch.__version__}{''.join(f', {word}' for word in words)}"


def main(
    runs: Sequence[Path],
    steps: int = 5,
    threads: int | None = None,
    options: list[str] | None = None,
    output: Path | None = None,
) -> None:
    """Print, and write, the table.

    Args:
        runs: Run files.
        steps: Steps of each that are measured; three more are not.
        threads: Threads of torch on a CPU; by default its own choice.
        options: Further options of skelcl fit for all runs, --trainer.precision=bf16-mixed for example.
        output: File for the table.
    """
    words = options or []
    costs = []
    with TemporaryDirectory() as root:
        for run in runs:
            costs.append((recipe(run), measure_apart(run.resolve(), steps, Path(root), threads, words)))
            print(table(costs[-1:]).splitlines()[-1], flush=True)
    text = f"{where(threads, words)}\n\n{table(costs)}\n"
    print(f"\n{text}", end="")
    if output is not None:
        output.write_text(text)


if __name__ == "__main__":
    call_on("python cost.py", main, "RUN", sys.argv[1:])
