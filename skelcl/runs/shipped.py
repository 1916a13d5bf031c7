"""The run files that come with skelcl, found by name from any folder."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from skelcl.errors import InputError, OptionError

_PACKAGE = Path(__file__).parents[1]
# A wheel holds them inside the package; in a checkout they lie beside it.
EXPERIMENTS = next(
    (path for path in (_PACKAGE / "experiments", _PACKAGE.parent / "experiments") if path.is_dir()), _PACKAGE
)
"""Folder of the run files and of the blocks that they name."""


def run_files() -> list[str]:
    """Names of all of them, ``pretrain/as_cal-nw_ucla.yaml`` for example, sorted."""
    return sorted(path.relative_to(EXPERIMENTS).as_posix() for path in EXPERIMENTS.glob("*/*.yaml"))


def run_file(path: str | Path) -> Path:
    """A path that exists, as it is; else the run file of that name, with or without ``experiments/`` before it.

    Raises:
        InputError: If there is neither.
    """
    if os.path.exists(path):
        return Path(path)
    name = Path(path).as_posix().removeprefix("./").removeprefix("experiments/")
    names = run_files()
    if name in names:
        return EXPERIMENTS / name
    close = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {close[0]}?" if close else "and `skelcl experiments` lists none of that name"
    raise InputError(f"{path}: no such file; {hint}")


def with_run_files(words: Sequence[str]) -> list[str]:
    """A command line in which the names of run files have become paths.

    Args:
        words: The verb and its options.

    Raises:
        OptionError: There is no such config.
        InputError: There is no such block.
    """
    found = list(words)
    for position, word in enumerate(words):
        name, equals, value = word.partition("=")
        if not equals:
            value = next(iter(words[position + 1 :]), "")
        try:
            if _takes_file(name) and _is_name(value, config=name in CONFIGS):
                found[position if equals else position + 1] = f"{name}{equals}" * bool(equals) + str(run_file(value))
        except InputError as error:
            raise (OptionError if name in CONFIGS else InputError)(f"{name} {error}") from None
    return found


CONFIGS = ("--config", "-c")


def _takes_file(option: str) -> bool:
    """Whether an option takes a run file or a block: ``--model.encoder FILE``."""
    return option in (*CONFIGS, "--run", "--data") or option.startswith(("--model", "--trainer", "--stream"))


def _is_name(value: str, config: bool) -> bool:
    """Whether a value is the name of a file, not YAML text or a class."""
    return "\n" not in value and (
        value.endswith((".yaml", ".yml")) or (config and bool(value) and not set(value) & set(":{"))
    )
