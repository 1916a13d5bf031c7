"""Lightning's own options: which of them cannot be used here, and how Lightning's word on the others is told."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Any

import lightning.pytorch as pl
import yaml

from skelcl.errors import InputError, OptionError

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
"""What clips, which stay in float32, can be trained in."""
COUNTS = ("accumulate_grad_batches", "check_val_every_n_epoch", "val_check_interval")
"""What Lightning divides by."""
LIBRARIES = {"lightning", "lightning_utilities", "pytorch_lightning", "torch", "jsonargparse"}


def check_options(config: Mapping[str, Any]) -> None:
    """Refuses what Lightning takes from the command line and fails of later, or what leaves nothing of a run.

    Args:
        config: Arguments of the Trainer.

    Raises:
        OptionError: If there is such an option.
    """
    for name in COUNTS:
        value = config.get(name)
        if isinstance(value, int | float) and value <= 0:
            raise OptionError(f"--trainer.{name} {value} must be more than 0")
    if config.get("barebones"):
        raise OptionError("--trainer.barebones: a run logs, evaluates and saves; experiments/benchmarks measure speed")


def check_precision(trainer: pl.Trainer) -> None:
    """Refuses a precision in which a clip would have to be.

    Raises:
        OptionError: If the trainer has such a precision.
    """
    precision = trainer.precision
    if precision not in PRECISIONS:
        raise OptionError(
            f"--trainer.precision {precision}: clips and what is compared stay in float32, use one of "
            f"{', '.join(PRECISIONS)}"
        )


@contextmanager
def lightning_explained() -> Iterator[None]:
    """What Lightning itself says of an option is told in one line; an error of other code is a bug, and stays one.

    Raises:
        OptionError: In the place of an error of Lightning's.
    """
    try:
        yield
    except Exception as error:
        told = None if isinstance(error, InputError) else _lightnings_word(error)
        if told is None:
            raise
        raise OptionError(told) from error


def _lightnings_word(error: Exception) -> str | None:
    """What an error says that Lightning raised, or PyTorch under one of its callbacks; None if other code was on."""
    callback = ""
    module = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = str(frame.f_globals.get("__name__"))
        package = name.partition(".")[0]
        if package not in LIBRARIES | sys.stdlib_module_names and name not in (__name__, "skelcl.lightning_cli"):
            return None
        if package not in sys.stdlib_module_names and package != "torch":
            module = name
            of_callback = name.startswith("lightning.pytorch.callbacks.") and "self" in frame.f_locals
            callback = type(frame.f_locals["self"]).__name__ if of_callback else ""
        innermost = name
    if not module.startswith("lightning") or (innermost != module and not callback):
        return None
    text = str(error) or type(error).__name__
    return text if not callback or callback in text else f"{callback}: {text}"


class ConfigDumper(yaml.SafeDumper):
    """Writes the members of an enumeration that are defaults of Lightning's classes as their values."""


ConfigDumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))


def dump(config: Any) -> str:
    """A config as YAML, as jsonargparse writes it."""
    text: str = yaml.dump(config, Dumper=ConfigDumper, default_flow_style=False, allow_unicode=True, sort_keys=False)
    return text
