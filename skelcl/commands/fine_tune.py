"""Fine-tuning as a protocol: several seeds, each beside its twin from scratch, in one command and one table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from skelcl.commands.lightning import run_lightning
from skelcl.commands.parsing import OptionParser
from skelcl.errors import InputError, printable
from skelcl.evaluation.gain import PRETRAINED, SCRATCH, TITLES, gain_table, gain_text, write_gain
from skelcl.methods import FineTune
from skelcl.runs.config import resolved_config
from skelcl.runs.interruption import PROGRAM
from skelcl.runs.loading import needed_data
from skelcl.runs.matching import chosen_options, matching_options
from skelcl.runs.study import finish, finished, method_class, run_config, starting_point, study_folder
from skelcl.runs.trust import stored_config
from skelcl.runs.versions import LAST_CHECKPOINT, newest_file

EPILOG = """\
All other options are those of `skelcl fit`, --config experiments/evaluate/semi.yaml for example. Encoder, views, stream
and data are those of the checkpoint's run; --config files and flags win over them. Call it again after an interruption,
or with more seeds: what is finished stays."""


def main(args: Sequence[str]) -> None:
    """``skelcl fine-tune``.

    Args:
        args: Options of the command.
    """
    parser = OptionParser(
        prog="skelcl fine-tune",
        description="Fine-tune encoder and classifier, with several seeds, beside the same from scratch.",
        epilog=EPILOG,
    )
    parser.add_argument("--ckpt_path", type=Path, required=True, metavar="FILE", help="checkpoint of the pre-training")
    parser.add_argument(
        "--seeds", type=_seeds, default=[0, 1, 2], help="of weights, views and labelled clips (default: 0,1,2)"
    )
    parser.add_argument(
        "--scratch", choices=["true", "false"], default="true", help="train the twins from scratch (default: true)"
    )
    parser.add_argument(
        "--trust", action="append", metavar="MODULE", help="its classes may be named by the checkpoint (several times)"
    )
    own, rest = parser.parse_known_args(list(args) or ["--help"])
    fine_tune(own.ckpt_path, rest, own.seeds, own.scratch == "true", ",".join(own.trust or []))


@PROGRAM.resumable(lambda: "the same command goes on from here")
def fine_tune(
    ckpt_path: Path, args: Sequence[str], seeds: Sequence[int] = (0, 1, 2), scratch: bool = True, trust: str = ""
) -> dict[str, Any]:
    """Train and test every seed and variant that is not finished yet, and write the table of all of them.

    The folder is ``version_k`` below that of the config's CSV logger. The same checkpoint and options find it again:
    finished runs are read, an interrupted one goes on with its last epoch. It holds a folder for each run and
    ``table.json``, ``table.csv`` and ``table.txt``.

    Args:
        ckpt_path: Checkpoint of the pre-training, of any method.
        args: ``--config FILE`` and options as of ``skelcl fit``; they win over the config in the checkpoint.
        seeds: Seeds of the runs; each also chooses the labelled clips, the same for both variants.
        scratch: Train every seed from scratch as well, with the same head, views, schedule and labelled clips.
        trust: Modules, with commas between, whose classes the checkpoint may name beside skelcl's and torch.optim's.

    Returns:
        What ``table.json`` holds.

    Raises:
        InputError: If the checkpoint or the config cannot be used.
    """
    start = starting_point(stored_config(ckpt_path, trust, args))
    config = yaml.safe_load(resolved_config(["--config", yaml.safe_dump(start), *args]))
    if not issubclass(method_class(config["model"]["class_path"]), FineTune):
        raise InputError(f"model {config['model']['class_path']}: this command trains FineTune; leave the class out")
    options, line = matching_options(config["data"], ckpt_path, chosen_options(args), trust)
    config["data"]["init_args"] |= options  # of the twins from scratch as well
    folder = study_folder(config, ckpt_path)
    variants = [PRETRAINED, SCRATCH] if scratch else [PRETRAINED]
    rank_zero_only(print)(
        f"fine-tuning {ckpt_path}: {' and '.join(TITLES[variant] for variant in variants)}, "
        f"seeds {', '.join(map(str, seeds))}, in {folder}"
    )
    if line:
        rank_zero_only(print)(printable(line))
    runs = []
    for seed in seeds:
        for variant in variants:
            place = folder / f"{variant}-seed_{seed}"
            run = finished(place, variant, seed)
            if run is None:
                with needed_data(ckpt_path):
                    _train(run_config(config, place, seed, ckpt_path if variant == PRETRAINED else None), place)
                run = finished(place, variant, seed)
            if run is not None:  # but on a process that writes nothing
                runs.append(run)
    table: dict[str, Any] = {}
    if getattr(rank_zero_only, "rank", 0) == 0:
        table = gain_table(runs, ckpt_path, config)
        write_gain(folder, table)
        print(f"\n{gain_text(table)}\nfiles: {folder}/table.json, table.csv, table.txt")
    return table


def _train(config: Mapping[str, Any], folder: Path) -> None:
    """Train one run to its end, from where it stopped, and test its last epoch."""
    args = ["fit", "--config", yaml.safe_dump(config)]
    last = newest_file(folder, LAST_CHECKPOINT)
    cli = run_lightning(args if last is None else [*args, f"--ckpt_path={last}"], match=False)
    last = newest_file(folder, LAST_CHECKPOINT)
    weights = None if last is None else str(last)
    cli.trainer.test(cli.model, datamodule=cli.datamodule, ckpt_path=weights, verbose=False, weights_only=True)
    if cli.trainer.is_global_zero:
        finish(folder)
        for logger in cli.trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish()  # else the next training would go on in this run


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.strip("[]").split(",")]
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise argparse.ArgumentTypeError(f"seeds are different numbers from 0 on, like 0,1,2, not {text}")
    return seeds
