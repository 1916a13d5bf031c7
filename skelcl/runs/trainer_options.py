"""Lightning's own options: which cannot be used here, and how its word on the others is told, or silenced."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from functools import reduce
from importlib.util import find_spec
from operator import or_
from typing import Any, get_args

import lightning.pytorch as pl
import yaml
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.cli import LightningArgumentParser
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from skelcl.errors import InputError, OptionError
from skelcl.files import one_line

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
"""What clips, which stay in float32, can be trained in."""
COUNTS = ("accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval")
"""What Lightning divides by."""
WANDB = "WandbLogger"
"""Class of Lightning's logger to W&B, whatever its path in a config."""
LIBRARIES = {"lightning", "lightning_utilities", "pytorch_lightning", "torch", "jsonargparse"}
CALLERS = {"skelcl.commands.lightning", "skelcl.runs.config", __name__}
"""Where Lightning is called: what fails below of no other code of ours, fails of the options."""


def prefer_int_to_float(parser: LightningArgumentParser) -> None:
    """Reads whole numbers as int in options of the Trainer that take int or float: 1 is one batch, 1.0 all of them.

    The parser tries the types of a union one after the other, and Python may hand it a union of an integer and a float
    in the order in which some other module wrote it first.
    """
    for action in parser._actions:
        kinds = get_args(getattr(action, "_typehint", None))
        if action.dest.startswith("trainer.") and {int, float} <= set(kinds):
            others = (kind for kind in kinds if kind is not int)
            action._typehint = reduce(or_, others, int)  # type: ignore[attr-defined]  # jsonargparse's own


def check_options(config: Mapping[str, Any]) -> None:
    """Refuses options that Lightning accepts and fails on later, and those under which a run would save nothing.

    Args:
        config: Arguments of the Trainer.

    Raises:
        OptionError: If there is such an option.
    """
    for name in COUNTS:
        value = config.get(name)
        if isinstance(value, int | float) and value <= 0:
            raise OptionError(f"--trainer.{name} {value} must be more than 0")
    if config.get("profiler") == "xla" and find_spec("torch_xla") is None:
        raise OptionError("--trainer.profiler xla needs a TPU and torch_xla, which is not here; use simple or advanced")
    if config.get("barebones"):
        raise OptionError("--trainer.barebones: a run logs, evaluates and saves; experiments/benchmarks measure speed")


def check_trainer(trainer: pl.Trainer, model: nn.Module, sync_batchnorm: bool) -> None:
    """Refuses a precision in which a clip would have to be, and what PyTorch or Lightning cannot do with the model.

    Args:
        trainer: Of the run.
        model: What it is to train.
        sync_batchnorm: Whether batch norms are to see the batches of all processes.

    Raises:
        OptionError: If the trainer has such options.
    """
    precision = trainer.precision
    if precision not in PRECISIONS:
        raise OptionError(
            f"--trainer.precision {precision}: clips and what is compared stay in float32, use one of "
            f"{', '.join(PRECISIONS)}"
        )
    norms = any(isinstance(module, _BatchNorm) for module in model.modules())
    if sync_batchnorm and norms and trainer.world_size > 1 and isinstance(trainer.accelerator, CPUAccelerator):
        raise OptionError(
            "--trainer.sync_batchnorm true: PyTorch does so on GPUs only; with false, each of the "
            f"{trainer.world_size} processes has the batch norms of its own clips"
        )
    callbacks: list[object] = list(trainer.callbacks)  # type: ignore[attr-defined]  # missing from its annotations
    if not norms and any(isinstance(one, StochasticWeightAveraging) for one in callbacks):
        # With batch norms Lightning adds an epoch for them, at whose end the averages are saved.
        raise OptionError(
            "StochasticWeightAveraging takes its averages over when the last checkpoint of a model without batch norms "
            "is written, and nothing holds them: use WeightAveraging"
        )


@contextmanager
def lightning_option_errors() -> Iterator[None]:
    """What Lightning itself says of an option is told in one line; an error of other code is a bug, and stays one.

    Raises:
        OptionError: In the place of an error of Lightning's.
        InputError: In the place of one of W&B's, to which nobody is logged in, for example.
    """
    try:
        yield
    except Exception as error:
        if type(error).__module__.startswith("wandb.errors"):
            raise InputError(
                f"W&B: {one_line(str(error), 1000)} Or WANDB_MODE=offline keeps files for `wandb sync`, "
                "WANDB_MODE=disabled logs nothing"
            ) from error
        message = None if isinstance(error, InputError) else _lightning_message(error)
        if message is None:
            raise
        raise OptionError(message) from error


def _lightning_message(error: Exception) -> str | None:
    """What an error says that Lightning raised, or PyTorch under one of its callbacks; None if other code was on."""
    callback = ""
    module = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = str(frame.f_globals.get("__name__"))
        package = name.partition(".")[0]
        if package not in LIBRARIES | sys.stdlib_module_names and name not in CALLERS:
            return None
        if package not in sys.stdlib_module_names and package != "torch":
            module = name
            of_callback = name.startswith("lightning.pytorch.callbacks.") and "self" in frame.f_locals
            callback = type(frame.f_locals["self"]).__name__ if of_callback else ""
        innermost = name
    if not module.startswith("lightning") or (innermost != module and not callback):
        return None
    text = str(error) or type(error).__name__
    if callback:
        return text if callback in text else f"{callback}: {text}"
    if isinstance(error, LookupError | TypeError | AttributeError):
        return f"Lightning fails of these options ({type(error).__name__}: {text})"
    return text


class ConfigDumper(yaml.SafeDumper):
    """Writes the members of an enumeration that are defaults of Lightning's classes as their values."""


ConfigDumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))


def dump(config: Any) -> str:
    """A config as YAML, as jsonargparse writes it."""
    text: str = yaml.dump(config, Dumper=ConfigDumper, default_flow_style=False, allow_unicode=True, sort_keys=False)
    return text


@contextmanager
def lightning_silenced() -> Iterator[None]:
    """A block in which Lightning is silent."""
    with warnings.catch_warnings():
        logger = logging.getLogger(_ADVERTISER)
        before = list(logger.filters)
        silence_lightning()
        try:
            yield
        finally:
            logger.filters[:] = before


def silence_lightning() -> None:
    """Silence what Lightning says of every run here and no user can or should act on."""
    for message in (
        "LightningCLI's args parameter is intended",  # they are those of the command line, completed
        ".*isinstance.treespec, LeafSpec",  # Lightning 2.6 on newer torch
        "The dirpath has changed from",  # a resumed or tested run has a folder of its own
        ".*does not have many workers",  # a batch is a copy of memory slices: workers would not pay
        ".*smaller than the logging interval",  # metrics are logged by epoch
        "GPU available but not used",  # asked for, or a look at a run that needs none
    ):
        warnings.filterwarnings("ignore", message)
    logging.getLogger(_ADVERTISER).addFilter(_no_advertisement)


_ADVERTISER = "lightning.pytorch.utilities.rank_zero"


def _no_advertisement(record: logging.LogRecord) -> bool:
    return "litlogger" not in record.getMessage()
