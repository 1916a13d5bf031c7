"""``skelcl sweep``: a sweep file checked, and run here or handed to W&B."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path

from skelcl.bounds import PositiveInt, bounded
from skelcl.commands.parsing import OptionParser
from skelcl.errors import InputError
from skelcl.runs.interruption import PROGRAM
from skelcl.sweeps.definition import Sweep, check_options, read_sweep

EPILOG = """\
Every option and candidate value is checked before anything starts. The local sweep keeps its record in the folder:
called again after Ctrl-C, a kill or a crash, or with a larger --count, it goes on; what is finished stays, what was
interrupted is trained on from its last epoch, what failed is tried again. It writes table.csv, table.md and sweep.png
there. The objective is the value after the last epoch, measured inside the training part; metrics of the test part
are refused. early_terminate is Optuna's successive halving, with W&B's min_iter and eta; bayes is Optuna's TPE.

Several processes: add --trainer.devices=2 and --trainer.strategy=ddp to the command in the file. Each trial is one
program that starts its own ranks, here and under `wandb agent`; rank 0 alone logs, and options reach every rank as
flags, so nothing has to be shared."""


def main(argv: Sequence[str]) -> None:
    """``skelcl sweep``.

    Args:
        argv: Options of the command.
    """
    parser = OptionParser(
        prog="skelcl sweep",
        description="Search options of `skelcl fit` as a W&B sweep file says: on this machine (--local), or with W&B.",
        epilog=EPILOG,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="sweep file, of experiments/sweeps/ for example")
    parser.add_argument("--local", action="store_true", help="run it here, without an account")
    parser.add_argument("--jobs", type=_positive, default=1, metavar="N", help="trials at a time (default: 1)")
    parser.add_argument(
        "--count", type=_positive, metavar="N", help="trials in all, earlier calls included (default: the whole grid)"
    )
    parser.add_argument("--folder", type=Path, metavar="DIR", help="of the sweep (default: runs/sweeps/ + FILE's name)")
    own = parser.parse_args(list(argv) or ["--help"])
    sweep = read_sweep(own.file)
    check_options(sweep)
    if own.local:
        run_local(sweep, own.folder or Path("runs") / "sweeps" / own.file.stem, own.count, own.jobs)
    else:
        print(commands_of_wandb(sweep, own.count))


@bounded
@PROGRAM.resumable(lambda: "the same command goes on from here")
def run_local(sweep: Sweep, folder: Path, count: PositiveInt | None = None, jobs: PositiveInt = 1) -> None:
    """Run a sweep in a folder, to its end, and say which trial was the best.

    Args:
        sweep: What to run.
        folder: A new one, or that of the same sweep.
        count: Trials in all; None for the whole grid, or the ``run_cap`` of the file.
        jobs: Trials at a time.

    Raises:
        InputError: If the folder cannot be used, or no trial succeeded.
    """
    from skelcl.sweeps.local import LocalSweep
    from skelcl.sweeps.ranking import draw, table_text, write_tables

    local = LocalSweep(sweep, folder, lambda line: print(line, flush=True))
    try:
        local.run(count, jobs)
    finally:
        results = local.results()
        write_tables(folder, sweep, results)
        local.close()
    if not results or results[0].state != "complete":
        reason = next(iter(local.failed.values()), "every trial was stopped early")
        raise InputError(f"{folder}: no trial came to its end: {reason}")
    picture = draw(folder, sweep, results)
    best = results[0]
    print(f"\n{table_text(sweep, results)}")
    print(f"best: trial {best.number}, {sweep.metric} {best.objective:.4g}, {best.folder}")
    print(f"      skelcl {shlex.join(sweep.arguments(best.values))}")
    print(f"files: {folder}/table.csv, table.md{'' if picture is None else ', sweep.png'}")


@bounded
def commands_of_wandb(sweep: Sweep, count: PositiveInt | None = None) -> str:
    """What to type for the same sweep with W&B."""
    project = sweep.content.get("project", "skelcl")
    limit = "" if count is None else f" --count {count}"
    return (
        f"{sweep.path}: every option and value is accepted by skelcl fit. With a W&B account (wandb login):\n"
        f"  wandb sweep --project {project} {shlex.quote(str(sweep.path))}    # prints the sweep's ID\n"
        f"  wandb agent{limit} ENTITY/{project}/ID                # on each machine that helps\n"
        f"Without one: skelcl sweep {shlex.quote(str(sweep.path))} --local"
    )


def _positive(word: str) -> int:
    number = int(word) if word.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {word}")
    return number
