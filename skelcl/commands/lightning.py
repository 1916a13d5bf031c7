"""``skelcl fit``, ``validate``, ``test`` and ``predict``: runs, and the config that travels in their checkpoints."""

from __future__ import annotations

import errno
import itertools
import os
import re
import shlex
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import yaml
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from skelcl.data import SkeletonDataModule
from skelcl.data.facts import FACTS_KEY
from skelcl.data.poses.layouts import find_layout, layout_keys
from skelcl.errors import InputError, OptionError, fail, printable
from skelcl.evaluation.provenance import TrainedOn
from skelcl.evaluation.record import RUN_KEY, environment, run_facts
from skelcl.runs.callbacks import AtomicCheckpointIO, forked_processes, newest_checkpoint
from skelcl.runs.checkpoints import check_run, mismatch, read_checkpoint
from skelcl.runs.config import ConfigCLI
from skelcl.runs.interruption import PROGRAM, RERUN_HINT
from skelcl.runs.loading import needed_data
from skelcl.runs.matching import chosen_options, matching_options
from skelcl.runs.trainer_options import (
    WANDB,
    check_options,
    check_trainer,
    lightning_option_errors,
    silence_lightning,
)
from skelcl.runs.trust import CONFIG_KEY, stored_config
from skelcl.skeleton import LAYOUTS
from skelcl.sweeps.definition import from_agent


class SaveConfig(SaveConfigCallback):
    """Writes the resolved config to the run folder, loggers and checkpoints; these also get the training time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.text = self.parser.dump(self.config, skip_none=False)
        self._seconds, self._since = 0.0, time.monotonic()

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Hand the config to the loggers, so that W&B knows what a run was."""
        for logger in trainer.loggers:
            if not isinstance(logger, CSVLogger):  # which has config.yaml beside it
                logger.log_hyperparams(yaml.safe_load(self.text))

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Store config and facts of the data: the checkpoint then needs no other file and holds but plain values."""
        checkpoint[CONFIG_KEY] = self.text
        data: object = trainer.datamodule  # type: ignore[attr-defined]  # missing from its annotations
        if isinstance(data, SkeletonDataModule):
            checkpoint[FACTS_KEY] = data.facts.to_plain()
        seconds = round(self._seconds + time.monotonic() - self._since, 3)
        wandb = [str(logger.version) for logger in trainer.loggers if type(logger).__name__ == WANDB and logger.version]
        checkpoint[RUN_KEY] = {
            "seconds": seconds,
            **environment(pl_module.device),
            **({"wandb": wandb[0]} if wandb else {}),
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take over the training time of the run that is resumed."""
        seconds = run_facts(checkpoint).get("seconds")
        self._seconds = float(seconds) if isinstance(seconds, (int, float)) else 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock: what went before is no training."""
        self._since = time.monotonic()


class SkelCLI(ConfigCLI):
    """``LightningCLI`` in subclass mode, with the links and callbacks that every run has.

    Args:
        stored: Config that came out of a checkpoint; what the command line changes in it is reported.
        match: Makes data those that the checkpoint's network knows, from their block and its file: arguments to lay
            over those of the block, and a line that tells of them. None leaves them.
        kwargs: Passed to ``LightningCLI``.
    """

    def __init__(
        self,
        stored: Mapping[str, Any] | None = None,
        match: Callable[[Mapping[str, Any], Path], tuple[dict[str, Any], str]] | None = None,
        **kwargs: Any,
    ) -> None:
        self.stored = stored
        self.match = match
        super().__init__(**kwargs)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Lightning reads tensors and plain values alone out of a checkpoint, unless asked for more."""
        given = super()._prepare_subcommand_kwargs(subcommand)
        return {**given, "weights_only": True if given.get("weights_only") is None else given["weights_only"]}

    def before_instantiate_classes(self) -> None:
        """Say which options of the command line win over the checkpoint's config; a W&B run goes on with its own id."""
        if self.subcommand is not None:
            _prepare_wandb(self.config[self.subcommand])
        if self.stored is not None:
            parser, config = self._parser(self.subcommand), self.config[self.subcommand]
            chosen = dict(_flat(yaml.safe_load(parser.dump(config, skip_none=False))))
            for key, value in _flat(self.stored):
                if key in chosen and chosen[key] != value:
                    message = f"{key}: {value} in the checkpoint, {chosen[key]} on the command line"
                    rank_zero_only(print)(printable(message))
        if self.subcommand is not None:
            config = self.config[self.subcommand]
            for block in (config.data, *(config.data.init_args.get("parts") or {}).values()):  # of a mixture
                layout = block.init_args.get("layout")
                if isinstance(layout, (str, Path)) and str(layout) not in LAYOUTS:
                    block.init_args["layout"] = layout_keys(find_layout(layout))  # a checkpoint goes without the file
            self._match_data(config)

    def _match_data(self, config: Any) -> None:
        """Read other data as the network knows its own: joints, frames per second, bodies."""
        fits = self.subcommand == "fit"
        path = config.model.init_args.get("checkpoint") if fits else config.get("ckpt_path")
        block = yaml.safe_load(self._parser(self.subcommand).dump(config, skip_none=False))["data"]
        stored = block | {"class_path": None} if self.stored is None else self.stored["data"]
        own = {**block, **stored, "init_args": block["init_args"] | stored["init_args"]} == block
        if self.match is None or path is None or own or not Path(path).is_file():
            return
        options, line = self.match(block, Path(path))
        for name, value in options.items():
            config.data.init_args[name] = value
        if line:
            rank_zero_only(print)(printable(line))

    def instantiate_classes(self) -> None:
        """Build all that the config names.

        Raises:
            InputError: If torchrun started several processes for a run on one device: each would do all of it.
        """
        super().instantiate_classes()
        if self.subcommand is None:
            return
        if type(self.trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            self.trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        for logger in self.trainer.loggers:
            if isinstance(logger, CSVLogger):
                _take_own_folder(logger)
        processes = int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1
        if self.trainer.world_size < processes:
            raise InputError(
                f"torchrun started {processes} processes, but the run takes {self.trainer.world_size}: "
                "add --trainer.devices, --trainer.num_nodes and --trainer.strategy ddp, see experiments/guides/scale.md"
            )

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> pl.Trainer:
        """Refuse what cannot be; without checkpoints there is no callback that writes them."""
        check_options(config)
        if config.get("enable_checkpointing") is False:
            callbacks = [one for one in callbacks if not isinstance(one, Checkpoint)]
        trainer = super()._instantiate_trainer(config, callbacks)
        check_trainer(trainer, self.model, bool(config.get("sync_batchnorm")))
        trainer.callbacks.insert(0, TrainedOn())  # type: ignore[attr-defined]  # missing from its annotations
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the verb; who interrupts it is told how to go on, whose disk is full where; no unused folder is left."""
        folders = [logger.log_dir for logger in self.trainer.loggers if isinstance(logger, CSVLogger)]
        try:
            with PROGRAM.resumable(self._how_to_go_on), forked_processes(), self._explained():
                super()._run_subcommand(subcommand)
        except BaseException as error:
            full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            if isinstance(error, OSError) and error.errno in full and folders:
                error.filename = error.filename or folders[0]  # of metrics.csv, which Lightning writes
            for folder in folders if self.trainer.is_global_zero else ():
                _remove_unused(Path(folder))
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """A checkpoint whose weights do not fit, or which is no run that could go on, is told in one line."""
        try:
            yield
        except (KeyError, RuntimeError) as error:
            path = self.trainer.ckpt_path
            if "contains only the model" in str(error):
                raise InputError(f"{path}: holds weights alone, no run that could be continued; use test") from error
            if "Error(s) in loading state_dict" not in str(error):
                raise
            problem = mismatch(self.model.state_dict(), read_checkpoint(Path(str(path)))["state_dict"])
            raise InputError(f"{path}: not a checkpoint of this model: {problem}") from error

    def _how_to_go_on(self) -> str:
        last = newest_checkpoint(self.trainer) if self.subcommand == "fit" else None
        return RERUN_HINT if last is None else f"go on with skelcl fit --ckpt_path {shlex.quote(str(last))}"

    def before_test(self) -> None:
        """Evaluation prints a table of its own; Lightning's would repeat it for each loader."""
        self.config_init["test"]["verbose"] = False


def _prepare_wandb(config: Any) -> None:
    """Settles what Lightning leaves to W&B's loggers: project and folder by the environment, and the run to go on with.

    A logger without an id gets that of the run in the checkpoint: a resumed training goes on there, and what a test
    finds stands beside what the training logged.
    """
    loggers = config["trainer"]["logger"]
    loggers = [one for one in (loggers if isinstance(loggers, list) else [loggers]) if hasattr(one, "class_path")]
    ours = [one["init_args"] for one in loggers if one["class_path"].rpartition(".")[2] == WANDB]
    for one in ours:
        one["project"] = one.get("project") or os.environ.get("WANDB_PROJECT") or "skelcl"
        if one.get("save_dir", ".") == ".":  # Lightning's default, which would win over the environment
            one["save_dir"] = os.environ.get("WANDB_DIR") or "."
    path = config.get("ckpt_path")
    if not ours or path is None or not Path(path).is_file() or os.environ.get("WANDB_RUN_ID"):  # as W&B's agent sets it
        return
    kept = run_facts(read_checkpoint(Path(path))).get("wandb")
    if isinstance(kept, str) and re.fullmatch(r"[\w-]{1,64}", kept) and not ours[0].get("id"):
        ours[0]["id"] = ours[0].get("version") or kept
        rank_zero_only(print)(f"W&B: going on with run {ours[0]['id']}; for a new one add an id to its logger")


def run_lightning(argv: Sequence[str], match: bool = True) -> SkelCLI:
    """Run ``fit``, ``validate``, ``test`` or ``predict``.

    Args:
        argv: The verb and its options. With ``--ckpt_path`` and without ``--config``, the config in the checkpoint is
            taken, as far as it is :func:`~skelcl.runs.trust.stored_config`; options on the command line win over it.
            All verbs but ``fit`` leave out its trainer, but for how much and how precisely it computes, and use one
            device.
        match: Read other data as the network of the checkpoint knows its own; False where the options do so already.

    Raises:
        InputError: If the checkpoint cannot be read or belongs to another model.
        OptionError: If an option of Lightning's cannot be used, alone or beside the others.
    """
    if os.environ.get("WANDB_SWEEP_ID"):  # set by W&B's agent, beside the options that it writes
        argv = from_agent(argv)
    args, trust = _pop_option(argv, "--trust")
    path = _option(args, "--ckpt_path")
    stored = None
    if args[0] != "fit" and path in ("best", "last", "hpc"):
        raise OptionError(f"--ckpt_path {path}: {args[0]} wants a file, since each run has a folder of its own")
    if path is not None and _option(args, "--config", "-c") is None:
        stored = stored_config(Path(path), trust, args[1:], training=args[0] == "fit")
        if args[0] != "fit":
            # Where a run was trained says nothing of where it is looked at; who kept away from the GPU still does.
            here = "cpu" if stored["trainer"].get("accelerator") == "cpu" else "auto"
            stored["trainer"] |= {"accelerator": here, "devices": 1, "num_nodes": 1, "strategy": "auto"}
            args[1:1] = ["--config", yaml.safe_dump({"trainer": {"logger": [_logger_beside(Path(path))]}})]
            # Those that the run was trained with are left out on purpose.
            warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`, callbacks")
        args[1:1] = ["--config", yaml.safe_dump(stored)]
    if path is not None and Path(path).is_file():
        check_run(Path(path), args[0] == "fit")
    silence_lightning()
    if torch.cuda.is_available():
        # The bar reads the loss, for which the GPU has to be waited for: not in every step.
        os.environ.setdefault("TQDM_MINITERS", "10")
    with lightning_option_errors(), needed_data(None if path is None else Path(path)):
        matched = partial(matching_options, chosen=chosen_options(argv), trust=trust) if match else None
        return SkelCLI(stored=stored, match=matched, save_config_callback=SaveConfig, args=args)


def _take_own_folder(logger: CSVLogger) -> None:
    """Give a run whose folder was named the next free one where another run has it: Lightning deletes its metrics."""
    taken = Path(logger.log_dir)
    if not taken.is_dir() or not any(taken.iterdir()):
        return
    numbers = itertools.count(1)
    # A number stands for version_NUMBER, of which Lightning finds the next.
    logger._version = None
    if not taken.name.startswith("version_"):
        free = next(name for n in numbers if not taken.with_name(name := f"{taken.name}_{n}").exists())
        logger._version = free
    rank_zero_only(print)(f"{taken} belongs to another run; this one has {logger.log_dir}")


def _remove_unused(folder: Path) -> None:
    """Remove the folder of a run that holds nothing but what its options were: the next run has its place."""
    if folder.is_dir() and {path.name for path in folder.iterdir()} <= {"config.yaml", "labels.txt"}:
        shutil.rmtree(folder)


def _option(args: Sequence[str], *names: str) -> str | None:
    """The value of the last of some options on a command line, None when absent."""
    value = None
    for position, word in enumerate(args):
        name, equals, rest = word.partition("=")
        if name in names:
            value = rest if equals else next(iter(args[position + 1 :]), None)
    return value


def _pop_option(argv: Sequence[str], name: str) -> tuple[list[str], list[str]]:
    """A command line without an option that may be given several times, and the values of that option."""
    kept: list[str] = []
    values: list[str] = []
    rest = iter(argv)
    for word in rest:
        own, equals, value = word.partition("=")
        if own != name:
            kept.append(word)
        elif equals or (value := next(rest, "")):
            values += value.split(",")
        else:
            fail(f"{name} needs a value: the module whose classes the checkpoint may name", 2)
    return kept, values


def _logger_beside(path: Path) -> dict[str, Any]:
    """The logger of a look at a checkpoint: in the folder of its run, whatever its config says."""
    run = path.absolute().parent.parent
    place, name = Path("runs"), path.stem
    if path.absolute().parent.name == "checkpoints" and (run / "config.yaml").is_file():
        place, name = run.parent.parent, run.parent.name
        if place.is_relative_to(Path.cwd()):
            place = place.relative_to(Path.cwd())
    return {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(place), "name": name}}


def _flat(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of a nested config."""
    if not isinstance(config, Mapping):
        yield prefix, config
        return
    for key, value in config.items():
        yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
