"""A study of fine-tuning on disk: one folder for the same options and checkpoint, in it one for each seed and variant.

A run that is finished is read, one that was interrupted goes on; of several processes the first makes the folder.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.utilities import rank_zero_only

from skelcl.data.formats.containers import read_json
from skelcl.data.subsets import digest, read_labels
from skelcl.errors import InputError, OptionError
from skelcl.evaluation.gain import PRETRAINED, SCRATCH, Run
from skelcl.evaluation.record import remarks
from skelcl.files import atomic_write
from skelcl.methods import FineTune, Method
from skelcl.runs.trainer_options import WANDB
from skelcl.runs.versions import newest_file, next_version, versions

FINISHED = "finished"
"""File of a seed and variant that names the part of its run whose test came to an end; later tests change nothing."""
PATIENCE = 60
"""Seconds that the other processes wait for the first."""


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
    kind = method_class(model["class_path"])
    if issubclass(kind, FineTune):
        kept["method"] = args["method"]
    elif kind.encode is not Method.encode or kind.head is not Method.head:
        kept["method"] = {"class_path": model["class_path"], "init_args": args}
    recipe = ("validation", "subset", "fraction", "per_class", "subset_seed", "repeat", "drop_last")
    data["init_args"] = {key: value for key, value in data.get("init_args", {}).items() if key not in recipe}
    start = {"data": data, "model": {"class_path": "skelcl.methods.FineTune", "init_args": kept}}
    return start | ({"stream": stored["stream"]} if "stream" in stored else {})


def method_class(path: str) -> type[Method]:
    """The class of a method by its path, or by its name alone."""
    module, _, name = path.rpartition(".")
    found: type[Method] = getattr(importlib.import_module(module or "skelcl.methods"), name)
    return found


def study_folder(config: Mapping[str, Any], ckpt_path: Path) -> Path:
    """The folder of a study: an old one of the same config and checkpoint if there is one, else the next version.

    Args:
        config: That the runs share; the folder lies below that of its CSV logger.
        ckpt_path: Checkpoint of the pre-training.

    Raises:
        InputError: If the runs have no CSV logger, or the first of several processes makes no folder.
    """
    logger = _csv_logger(config)
    base = Path(logger["save_dir"]) / logger["name"]
    shared = {key: value for key, value in config.items() if key not in ("seed_everything", "data", "trainer")}
    data = {key: value for key, value in config["data"]["init_args"].items() if key != "subset_seed"}
    trainer = {key: value for key, value in config["trainer"].items() if key != "logger"}
    with ckpt_path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    chosen = {**shared, "data": {**config["data"], "init_args": data}, "trainer": trainer}
    plan = json.dumps({"checkpoint": str(ckpt_path), "sha256": sha256, "config": chosen}, indent=2) + "\n"
    found, deadline = _planned(base, plan), time.monotonic() + PATIENCE
    # Where torchrun or srun started several processes, the first makes the folder for all.
    while found is None and getattr(rank_zero_only, "rank", 0) != 0:
        if time.monotonic() > deadline:
            raise InputError(f"{base}: the first process made no folder for this study within {PATIENCE} seconds")
        time.sleep(0.1)
        found = _planned(base, plan)
    if found is not None:
        return found
    folder = next_version(base)
    folder.mkdir(parents=True)
    with atomic_write(folder / "study.json") as part:
        part.write_text(plan, encoding="utf-8")
    return folder


def run_config(config: Mapping[str, Any], folder: Path, seed: int, ckpt_path: Path | None) -> dict[str, Any]:
    """The config of one seed and variant.

    Args:
        config: Of the study.
        folder: Of this seed and variant.
        seed: Of the run and of the choice of labelled clips.
        ckpt_path: Checkpoint of the pre-training; None trains from scratch.
    """
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
            logger["init_args"]["name"] = str(folder.relative_to(save_dir))
        if logger["class_path"].rpartition(".")[2] == WANDB:
            variant = PRETRAINED if ckpt_path is not None else SCRATCH
            # Of wandb.init, which the logger hands them to.
            logger["dict_kwargs"] = {
                "group": str(folder.parent.relative_to(save_dir)), "job_type": variant, **logger.get("dict_kwargs", {})
            }  # fmt: skip
    _csv_logger(own)["version"] = None  # each part of an interrupted run has a number
    return own


def finish(folder: Path) -> None:
    """Mark the run in a folder, which has just been tested, as finished."""
    results = newest_file(folder, "results.json")
    assert results is not None
    with atomic_write(folder / FINISHED) as part:
        part.write_text(f"{results.parent.name}\n", encoding="utf-8")


def finished(folder: Path, variant: str, seed: int) -> Run | None:
    """The run in a folder; None when its test has not ended yet.

    Raises:
        InputError: If what its test wrote is damaged.
    """
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


def _planned(base: Path, plan: str) -> Path | None:
    """The folder below ``base`` that was made for this plan."""
    for version in versions(base):
        study = version / "study.json"
        if study.is_file() and study.read_text("utf-8", "replace") == plan:
            return version
    return None


def _csv_logger(config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the logger that has the folder of a run: the first, as everywhere."""
    if config["trainer"].get("fast_dev_run"):
        raise OptionError("trainer.fast_dev_run keeps nothing: try fine-tune with --trainer.limit_train_batches 2")
    for logger in _loggers(config)[:1]:
        if logger["class_path"].rpartition(".")[2] == "CSVLogger":
            args: dict[str, Any] = logger["init_args"]
            return args
    raise InputError("fine-tune keeps its runs in the folder of trainer.logger: the first of them must be a CSVLogger")


def _loggers(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    loggers = config["trainer"]["logger"]
    return [one for one in (loggers if isinstance(loggers, list) else [loggers]) if isinstance(one, dict)]
