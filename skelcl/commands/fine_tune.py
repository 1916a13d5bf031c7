"""Fine-tuning as a protocol: several seeds, each beside its twin from scratch, in one command and one table."""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_only

from skelcl.commands.lightning import run_lightning
from skelcl.commands.parsing import OptionParser
from skelcl.data.formats.containers import read_json
from skelcl.data.subsets import digest, read_labels
from skelcl.errors import InputError
from skelcl.evaluation.record import remarks
from skelcl.evaluation.report import short
from skelcl.evaluation.spread import mean_sd, plus_minus
from skelcl.files import atomic_write
from skelcl.methods import FineTune, Method
from skelcl.runs.config import resolved_config
from skelcl.runs.interruption import PROGRAM
from skelcl.runs.trust import stored_config

PRETRAINED, SCRATCH = "pretrained", "scratch"
FINISHED = "finished"
"""File of a seed and variant that names the part of its run whose test came to an end; later tests change nothing."""
PATIENCE = 60
"""Seconds that the other processes wait for the first."""
TITLES = {PRETRAINED: "pre-trained", SCRATCH: "from scratch", "gain": "gain"}
METRICS = {"top1": "top-1", "top5": "top-5", "mean_class": "mean class"}
EPILOG = """\
All other options are those of `skelcl fit`, --config experiments/evaluate/semi.yaml for example. Encoder, views, stream
and data are those of the checkpoint's run; --config files and flags win over them. Call it again after an interruption,
or with more seeds: what is finished stays."""


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        variant: ``pretrained`` or ``scratch``.
        seed: Of the run and of the choice of labelled clips.
        folder: With ``results.json`` and all else that a test writes.
        metrics: Accuracies (0…1) after the last epoch, by name.
        labels: Labelled clips; None when all are.
        labels_sha256: Of their names.
        remarks: What a table of these accuracies must say.
    """

    variant: str
    seed: int
    folder: Path
    metrics: Mapping[str, float]
    labels: int | None
    labels_sha256: str | None
    remarks: tuple[str, ...] = ()


def main(words: Sequence[str]) -> None:
    """``skelcl fine-tune``.

    Args:
        words: Options of the command.
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
    own, rest = parser.parse_known_args(list(words) or ["--help"])
    fine_tune(own.ckpt_path, rest, own.seeds, own.scratch == "true", ",".join(own.trust or []))


@PROGRAM.resumable(lambda: "the same command goes on from here")
def fine_tune(
    ckpt_path: Path, words: Sequence[str], seeds: Sequence[int] = (0, 1, 2), scratch: bool = True, trust: str = ""
) -> dict[str, Any]:
    """Train and test every seed and variant that is not finished yet, and write the table of all of them.

    The folder is ``version_k`` below that of the config's CSV logger. The same checkpoint and options find it again:
    finished runs are read, an interrupted one goes on with its last epoch. It holds a folder for each run and
    ``table.json``, ``table.csv`` and ``table.txt``.

    Args:
        ckpt_path: Checkpoint of the pre-training, of any method.
        words: ``--config FILE`` and options as of ``skelcl fit``; they win over the config in the checkpoint.
        seeds: Seeds of the runs; each also chooses the labelled clips, the same for both variants.
        scratch: Train every seed from scratch as well, with the same head, views, schedule and labelled clips.
        trust: Modules, with commas between, whose classes the checkpoint may name beside skelcl's and torch.optim's.

    Returns:
        What ``table.json`` holds.

    Raises:
        InputError: If the checkpoint or the config cannot be used.
    """
    start = starting_point(stored_config(ckpt_path, trust, words))
    config = yaml.safe_load(resolved_config(["--config", yaml.safe_dump(start), *words]))
    if not issubclass(_class(config["model"]["class_path"]), FineTune):
        raise InputError(f"model {config['model']['class_path']}: this command trains FineTune; leave the class out")
    logger = _csv_logger(config)
    folder = _folder(Path(logger["save_dir"]) / logger["name"], config, ckpt_path)
    variants = [PRETRAINED, SCRATCH] if scratch else [PRETRAINED]
    rank_zero_only(print)(
        f"fine-tuning {ckpt_path}: {' and '.join(TITLES[variant] for variant in variants)}, "
        f"seeds {', '.join(map(str, seeds))}, in {folder}"
    )
    runs = []
    for seed in seeds:
        for variant in variants:
            name = f"{variant}-seed_{seed}"
            done = _finished(folder / name, variant, seed)
            if done is None:
                train = _run_config(config, folder, name, seed, ckpt_path if variant == PRETRAINED else None)
                _train(train, folder / name)
                done = _finished(folder / name, variant, seed)
            if done is not None:  # but on a process that writes nothing
                runs.append(done)
    table: dict[str, Any] = {}
    if getattr(rank_zero_only, "rank", 0) == 0:
        table = summary(runs, ckpt_path, config)
        text = table_text(table)
        _write(folder, table, runs, text)
        print(f"\n{text}\nfiles: {folder}/table.json, table.csv, table.txt")
    return table


def starting_point(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What a run of fine-tuning takes over from the config of the run that it goes on with.

    Args:
        stored: Config of the run of any method.

    Returns:
        A config: its data without validation, label subset, repeats and dropped batches, its stream, its encoder and
        views under ``FineTune``.
    """
    model, data = stored["model"], dict(stored["data"])
    args = dict(model["init_args"])
    kept = {name: args.pop(name) for name in ("encoder", "eval_view")}
    kept["view"] = args.pop("view", None) or kept["eval_view"]
    kind = _class(model["class_path"])
    if issubclass(kind, FineTune):
        kept["method"] = args["method"]
    elif kind.encode is not Method.encode or kind.head is not Method.head:
        kept["method"] = {"class_path": model["class_path"], "init_args": args}
    recipe = ("validation", "subset", "fraction", "per_class", "subset_seed", "repeat", "drop_last")
    data["init_args"] = {key: value for key, value in data.get("init_args", {}).items() if key not in recipe}
    start = {"data": data, "model": {"class_path": "skelcl.methods.FineTune", "init_args": kept}}
    return start | ({"stream": stored["stream"]} if "stream" in stored else {})


def summary(runs: Sequence[Run], ckpt_path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds of every metric, of each variant and of the difference between them.

    Args:
        runs: Finished runs.
        ckpt_path: Checkpoint of the pre-training.
        config: Config that all of them share.

    Returns:
        Plain values: ``mean`` and ``sd`` (of the sample, None for a single seed) under ``summary``, by variant and
        metric; ``gain`` is of the differences of runs with the same seed.
    """
    found = {
        variant: {run.seed: run.metrics for run in runs if run.variant == variant} for variant in (PRETRAINED, SCRATCH)
    }
    both = [seed for seed in found[PRETRAINED] if seed in found[SCRATCH]]
    names = list(runs[0].metrics)
    found["gain"] = {
        seed: {name: found[PRETRAINED][seed][name] - found[SCRATCH][seed][name] for name in names} for seed in both
    }
    return {
        "checkpoint": str(ckpt_path),
        "data": config["data"],
        "selection": "last epoch",
        "seeds": list(found[PRETRAINED]),
        "remarks": list(dict.fromkeys(f"{TITLES[run.variant]}: {remark}" for run in runs for remark in run.remarks)),
        "summary": {
            variant: {
                name: dict(zip(("mean", "sd"), mean_sd([metrics[name] for metrics in seeds.values()]), strict=True))
                for name in names
            }
            for variant, seeds in found.items()
            if seeds
        },
        "runs": [
            {
                "variant": run.variant,
                "seed": run.seed,
                "folder": str(run.folder),
                "labels": run.labels,
                "labels_sha256": run.labels_sha256,
                "metrics": dict(run.metrics),
            }
            for run in runs
        ],
    }


def table_text(table: Mapping[str, Any]) -> str:
    """The table of :func:`summary` for people, in percent."""
    rows = table["summary"]
    names = [name for name in rows[PRETRAINED] if name.split("/")[1] in METRICS]
    heads = [f"{METRICS[kind]} {short(part)}".strip() for part, kind in (name.split("/") for name in names)]
    amounts = sorted({run["labels"] for run in table["runs"] if run["labels"] is not None})
    labels = f"{'–'.join(map(str, amounts))} labelled clips" if amounts else "all training clips labelled"
    spread = "mean ± sd of" if len(table["seeds"]) > 1 else "of"
    lines = [f"accuracies in %, {spread} seeds {', '.join(map(str, table['seeds']))}, last epoch, {labels}"]
    lines.append(" " * 14 + "".join(f"{head:>18}" for head in heads))
    for variant, metrics in rows.items():
        cells = [plus_minus(metrics[name]["mean"], metrics[name]["sd"], signed=variant == "gain") for name in names]
        lines.append(f"{TITLES[variant]:<14}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join([*lines, *(f"! {remark}" for remark in table["remarks"])])


def _seeds(word: str) -> list[int]:
    try:
        seeds = [int(part) for part in word.strip("[]").split(",")]
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise argparse.ArgumentTypeError(f"seeds are different numbers from 0 on, like 0,1,2, not {word}")
    return seeds


def _class(path: str) -> type[Method]:
    module, _, name = path.rpartition(".")
    found: type[Method] = getattr(importlib.import_module(module or "skelcl.methods"), name)
    return found


def _csv_logger(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the logger that has the folder of a run: the first, as everywhere."""
    if config["trainer"].get("fast_dev_run"):
        raise InputError("trainer.fast_dev_run keeps nothing: try fine-tune with --trainer.limit_train_batches 2")
    for logger in _loggers(config)[:1]:
        if logger["class_path"].rpartition(".")[2] == "CSVLogger":
            args: dict[str, Any] = logger["init_args"]
            return args
    raise InputError("fine-tune keeps its runs in the folder of trainer.logger: the first of them must be a CSVLogger")


def _loggers(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    loggers = config["trainer"]["logger"]
    return [one for one in (loggers if isinstance(loggers, list) else [loggers]) if isinstance(one, dict)]


def _folder(base: Path, config: Mapping[str, Any], ckpt_path: Path) -> Path:
    """The folder of these options and this checkpoint below ``base``: an old one if there is one, else the next."""
    shared = {key: value for key, value in config.items() if key not in ("seed_everything", "data", "trainer")}
    data = {key: value for key, value in config["data"]["init_args"].items() if key != "subset_seed"}
    trainer = {key: value for key, value in config["trainer"].items() if key != "logger"}
    with ckpt_path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    chosen = {**shared, "data": {**config["data"], "init_args": data}, "trainer": trainer}
    plan = json.dumps({"checkpoint": str(ckpt_path), "sha256": sha256, "config": chosen}, indent=2) + "\n"
    found, late = _planned(base, plan), time.monotonic() + PATIENCE
    # Where torchrun or srun started several processes, the first makes the folder for all.
    while found is None and getattr(rank_zero_only, "rank", 0) != 0:
        if time.monotonic() > late:
            raise InputError(f"{base}: the first process made no folder for this study within {PATIENCE} seconds")
        time.sleep(0.1)
        found = _planned(base, plan)
    if found is not None:
        return found
    versions = _versions(base)
    folder = base / f"version_{_number(versions[-1]) + 1 if versions else 0}"
    folder.mkdir(parents=True)
    _replace(folder / "study.json", plan)
    return folder


def _planned(base: Path, plan: str) -> Path | None:
    """The folder below ``base`` that was made for this plan."""
    for version in _versions(base):
        study = version / "study.json"
        if study.is_file() and study.read_text("utf-8", "replace") == plan:
            return version
    return None


def _run_config(
    config: Mapping[str, Any], folder: Path, name: str, seed: int, ckpt_path: Path | None
) -> dict[str, Any]:
    """The config of one seed and variant."""
    own: dict[str, Any] = yaml.safe_load(yaml.safe_dump(config))
    own["seed_everything"] = seed
    if "subset_seed" in own["data"]["init_args"]:
        own["data"]["init_args"]["subset_seed"] = seed
    args = own["model"]["init_args"]
    args["checkpoint"] = None if ckpt_path is None else str(ckpt_path)
    if ckpt_path is None:
        args["bn"] = "train"  # there are no statistics yet that could be kept
    save_dir = _csv_logger(own)["save_dir"]
    for logger in _loggers(own):
        if "name" in logger["init_args"]:
            logger["init_args"]["name"] = str(folder.relative_to(save_dir) / name)
    _csv_logger(own)["version"] = None  # each part of an interrupted run has a number
    return own


def _train(config: Mapping[str, Any], folder: Path) -> None:
    """Train one run to its end, from where it stopped, and test its last epoch."""
    words = ["fit", "--config", yaml.safe_dump(config)]
    last = _last(folder)
    cli = run_lightning(words if last is None else [*words, f"--ckpt_path={last}"])
    last = _last(folder)
    weights = None if last is None else str(last)
    cli.trainer.test(cli.model, datamodule=cli.datamodule, ckpt_path=weights, verbose=False, weights_only=True)
    if cli.trainer.is_global_zero:
        tested = next(version for version in reversed(_versions(folder)) if (version / "results.json").is_file())
        _replace(folder / FINISHED, f"{tested.name}\n")


def _finished(folder: Path, variant: str, seed: int) -> Run | None:
    """The run in a folder; None when its test has not ended yet."""
    mark = folder / FINISHED
    version = folder / mark.read_text("utf-8", "replace").strip() if mark.is_file() else None
    if version is None or not (version / "results.json").is_file():
        return None
    labels = version / "labels.txt"
    names = read_labels(labels) if labels.is_file() else None
    results = _results(version / "results.json", mark)
    amount, sha256 = (None, None) if names is None else (len(names), digest(names))
    return Run(variant, seed, version, results["metrics"], amount, sha256, tuple(remarks(results["run"])))


def _results(file: Path, mark: Path) -> dict[str, Any]:
    """What a test wrote that ended, as its mark says.

    Raises:
        InputError: It is damaged.
    """
    again = f"remove {mark}, and the same command tests that run again"
    try:
        results = read_json(file)
    except InputError as error:
        raise InputError(f"{error}: {again}") from error
    kinds = isinstance(results, dict) and [type(results.get(name)) for name in ("metrics", "run")]
    if kinds != [dict, dict] or not all(type(value) in (int, float) for value in results["metrics"].values()):
        raise InputError(f"{file}: damaged, not what `skelcl test` writes: {again}")
    found: dict[str, Any] = results
    return found


def _last(folder: Path) -> Path | None:
    """The checkpoint of the last epoch that a run got to."""
    found = [version / "checkpoints" / "last.ckpt" for version in _versions(folder)]
    return next((path for path in reversed(found) if path.is_file()), None)


def _versions(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("version_*") if re.fullmatch(r"version_\d+", path.name)), key=_number)


def _number(version: Path) -> int:
    return int(version.name.removeprefix("version_"))


def _write(folder: Path, table: Mapping[str, Any], runs: Sequence[Run], text: str) -> None:
    """Write the table as JSON, as CSV (runs, then mean and sd of each variant) and as text."""
    _replace(folder / "table.json", json.dumps(table, indent=2) + "\n")
    _replace(folder / "table.txt", text + "\n")
    names = list(runs[0].metrics)
    with atomic_write(folder / "table.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["variant", "seed", *names])
        rows.writerows([run.variant, run.seed, *(run.metrics[name] for name in names)] for run in runs)
        for variant, metrics in table["summary"].items():
            rows.writerows([variant, kind, *(metrics[name][kind] for name in names)] for kind in ("mean", "sd"))


def _replace(path: Path, text: str) -> None:
    with atomic_write(path) as part:
        part.write_text(text, encoding="utf-8")
