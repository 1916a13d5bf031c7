"""The config that a checkpoint carries, believed only where it can do no harm.

It is text, whose class paths say what is imported and built. Whoever opens a file chooses what it may name: classes of
skelcl, PyTorch's optimisers and schedules, and what is named on purpose.
"""

from __future__ import annotations

import enum
import importlib
import inspect
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path, PurePath
from typing import Any

import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from skelcl.errors import InputError, yaml_problem
from skelcl.runs.checkpoints import read_checkpoint

CONFIG_KEY = "skelcl_config"
"""Where a checkpoint carries the config of its run, as text."""
ALLOWED = ("skelcl", "torch.optim", "lightning.pytorch.cli.ReduceLROnPlateau")
"""Packages and classes that the config of any checkpoint may name."""
ALLOWED_ON_RESUME = tuple(f"lightning.pytorch.{part}" for part in ("callbacks", "loggers", "profilers", "strategies"))
"""What it may name besides where a run goes on."""
KEPT_TRAINER_KEYS = (
    "accelerator", "precision", "limit_val_batches", "limit_test_batches", "limit_predict_batches", "deterministic",
    "benchmark", "enable_progress_bar", "enable_model_summary",
)  # fmt: skip
"""What is taken of the trainer where a run does not go on: how much, how precisely, how loudly."""
SECTIONS = ("model", "data", "stream", "trainer", "knn", "evaluation", "supervised", "checkpoint", "features")
"""Parts of a config that hold options by name."""
GENERATED_DATA = (
    "skelcl.data.Synthetic",
    "skelcl.data.synthetic.Synthetic",
    "skelcl.data.synthetic.datamodule.Synthetic",
)
"""Data whose ``root`` is not only read: a store that is missing there is made."""
MOVED = {"skelcl.artifacts.CheckpointArtifacts": "skelcl.runs.callbacks.CheckpointArtifacts"}
"""Class paths that stored configs name, and where these classes are."""
MAX_CHARACTERS = 1 << 20
"""Most characters of a stored config; those of real runs have some ten thousand."""
MAX_VALUES = 50_000
"""Most values of a stored config; those of real runs have a few hundred."""
_GROUPS = {"trainer": Trainer, "checkpoint": ModelCheckpoint}
_PLAIN_TYPES = (str, int, float, bool, type(None), Path, timedelta)


def stored_config(
    path: Path, trust: str | Sequence[str] | None = None, args: Sequence[str] = (), training: bool = False
) -> dict[str, Any]:
    """The resolved config that a checkpoint carries, without what belongs to the verb that wrote it.

    Args:
        path: The checkpoint.
        trust: Modules, packages or classes that it may name beside those of skelcl and torch.optim; a text separates
            them by commas.
        args: Words of a command line, which may be named too, and whose options need no second look.
        training: Its run goes on: it may name Lightning's callbacks, loggers, profilers and strategies, which write
            where it says, but not outside the working folder and the folder that the checkpoint lies in.

    Raises:
        InputError: The file cannot be read, carries no config, or one that names what it may not.
    """
    text = read_checkpoint(path).get(CONFIG_KEY)
    if text is None:
        raise InputError(f"{path}: carries no config, since `skelcl fit` did not write it; add --config FILE")
    config = parsed(path, text)
    callbacks = config["trainer"].get("callbacks")
    for one in callbacks if isinstance(callbacks, list) else ():
        if isinstance(one, dict) and isinstance(one.get("class_path"), str):
            one["class_path"] = MOVED.get(one["class_path"], one["class_path"])
    for key in ("config", "ckpt_path", "weights_only", "verbose", "return_predictions", "features"):
        config.pop(key, None)
    for key in ("accept_changed", "accept_seen"):  # what one command accepted, the next is asked again
        config["data"]["init_args"].pop(key, None)
    if not training:
        config["trainer"] = {name: config["trainer"][name] for name in KEPT_TRAINER_KEYS if name in config["trainer"]}
        config.pop("checkpoint", None)
    values = [word.partition("=")[2] if word.startswith("--") else word for word in args]
    given = {name for value in values for name in re.findall(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+", value)}
    trusted = {name.strip() for name in (trust.split(",") if isinstance(trust, str) else trust or ())} | given
    _Check(path, trusted - {""}, training).group(config, "", None)
    options = {word.lstrip("-").partition("=")[0] for word in args if word.startswith("--")}
    for place, value in _written(config):
        # The root of a mixture is that of its parts.
        shared = "data.root" in options and re.fullmatch(r"data\.parts\.[^.]+\.root", place)
        if place not in options and not shared and _outside(value, path):
            raise InputError(
                f"{path}: its config writes to {value} ({place}), outside of the working folder; choose another "
                f"--{place}, or give the run's own file with --config"
            )
    return config


def parsed(path: Path, text: object) -> dict[str, Any]:
    """A config in the text that a checkpoint carries; nothing is imported.

    Raises:
        InputError: The text is no YAML, or not that of a run.
    """
    try:
        config = plain_yaml(text)
    except Exception as error:  # of values, PyYAML raises what Python does
        problem, line = yaml_problem(error)
        where = "" if line is None else f", line {line}"
        raise InputError(f"{path}: the config in it is no plain YAML ({problem}{where})") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: the config in it is damaged: no mapping of options")
    config.setdefault("trainer", {})
    for name, value in config.items():
        if name in SECTIONS and not isinstance(value, dict):
            raise InputError(f"{path}: the config in it is damaged: {name} is no mapping of options")
    for name in ("model", "data"):
        chosen = config.get(name, {})
        if not isinstance(chosen.get("class_path"), str) or not isinstance(chosen.get("init_args", {}), dict):
            raise InputError(f"{path}: the config in it is damaged: {name} names no class with its options")
        chosen.setdefault("init_args", {})
    encoder = config["model"]["init_args"].get("encoder")
    if not isinstance(encoder, dict) or not isinstance(encoder.get("class_path"), str):
        raise InputError(f"{path}: the config in it is damaged: model names no encoder")
    return config


class _PlainLoader(yaml.SafeLoader):
    """Without merge keys, by which a short text can ask for more values than there is memory."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leaves a merge key as it is, which no constructor takes."""


def plain_yaml(text: object) -> Any:
    """The values in a text of YAML; None for what is no text, or longer than the configs of runs by far.

    Raises:
        Exception: It is no YAML, or not of plain values; :func:`~skelcl.errors.yaml_problem` says why.
    """
    if not isinstance(text, str) or len(text) > MAX_CHARACTERS:
        return None
    return yaml.load(text, _PlainLoader)


class _Check:
    """Goes through a config and refuses what would import or build something else than is allowed.

    A class is named by ``class_path``. The parser also takes a text where something is built: the path of a class or
    function, a file, YAML of its own. So such a text must be a plain word, unless what it is for takes texts only.
    """

    def __init__(self, path: Path, trusted: Iterable[str], training: bool) -> None:
        self.path = path
        self.trusted = tuple(trusted)
        self.allowed = (*ALLOWED, *(ALLOWED_ON_RESUME if training else ()), *self.trusted)
        self.count = 0

    def group(self, value: Mapping[Any, Any], place: str, hints: Mapping[str, Any] | None) -> None:
        """Options by name; ``hints`` are their types, None where these are not known."""
        for name, part in value.items():
            at = f"{place}.{name}" if place else str(name)
            if not place and name in _GROUPS:
                self.group(part, at, _hints(_GROUPS[name]))
            else:
                self.value(part, at, (hints or {}).get(name, Any))

    def value(self, value: object, place: str, hint: Any) -> None:
        """Any value of an option of the type ``hint``."""
        self.count += 1
        if self.count > MAX_VALUES:
            raise InputError(f"{self.path}: the config in it holds more than {MAX_VALUES} values")
        if isinstance(value, Mapping):
            if "class_path" in value:
                made = self.named(value["class_path"], place)
                inner = value.get("init_args") or {}
                if not isinstance(inner, Mapping):
                    raise InputError(f"{self.path}: the config in it is damaged: {place}.init_args is no mapping")
                self.group(inner, f"{place}.init_args", _hints(made))
                self.group({k: v for k, v in value.items() if k not in ("class_path", "init_args")}, place, None)
            else:
                hints = dict.fromkeys(value, hint) if _is_plain(hint) else None
                self.group(value, place, hints)
        elif isinstance(value, (list, tuple, set)):
            for number, part in enumerate(value):
                self.value(part, f"{place}[{number}]", hint)
        elif isinstance(value, str) and not _is_plain(hint) and not _plain(value):
            self.named(value, place)

    def named(self, name: object, place: str) -> object:
        """The class that a path names.

        Raises:
            InputError: It is not allowed, and was not imported, or there is none.
        """
        parts = name.split(".") if isinstance(name, str) else []
        if len(parts) < 2 or not all(part.isidentifier() for part in parts):
            raise InputError(f"{self.path}: its config names no class at {place}: {str(name)[:80]!r}")
        assert isinstance(name, str)
        module = name.rpartition(".")[0]
        refusal = InputError(
            f"{self.path}: its config names {name[:80]} ({place}), which is no class of skelcl or torch.optim and was "
            f"not imported; if you trust that module, add --trust {module[:80]}, in Python trust={module[:80]!r}"
        )
        if not _within(name, self.allowed):
            raise refusal
        try:
            found: object = getattr(importlib.import_module(module), parts[-1])
        except (ImportError, AttributeError) as error:
            hint = "" if _within(name, ALLOWED) else "; is the folder of that module in PYTHONPATH?"
            raise InputError(f"{self.path}: its config names {name[:80]} ({place}), which is not here{hint}") from error
        if _within(name, self.trusted):
            return found
        # What a module imports is reached through it too, and is not its own.
        if not isinstance(found, type) or not _within(f"{found.__module__}.{found.__qualname__}", self.allowed):
            raise refusal
        return found


def _plain(text: str) -> bool:
    """Whether a text is a word that names neither an object nor a file."""
    return re.fullmatch(r"[\w:+ -]*", text) is not None and not Path(text).is_file()


def _within(name: str, prefixes: Iterable[str]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def _hints(made: object) -> dict[str, Any]:
    """Types of the options of a class or function, as far as they are told."""
    kinds: list[Any] = (
        [vars(kind).get("__init__") for kind in reversed(made.__mro__)] if isinstance(made, type) else [made]
    )
    found: dict[str, Any] = {}
    for function in kinds:
        try:
            found |= typing.get_type_hints(inspect.unwrap(function))
        except Exception:  # a name that only a type checker knows, or no function
            continue
    return found


def _is_plain(hint: Any) -> bool:
    """Whether a text that is given for this type stays a text or becomes a plain value."""
    if hint in _PLAIN_TYPES or typing.get_origin(hint) is typing.Literal:
        return True
    if isinstance(hint, type) and issubclass(hint, (enum.Enum, int, float)):
        return True
    parts = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType) or (isinstance(origin, type) and issubclass(origin, Iterable)):
        return bool(parts) and all(part is Ellipsis or _is_plain(part) for part in parts)
    return False


# --- where it writes --------------------------------------------------------------------------------------------------


def _written(config: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Options that may say where a run writes, and their values."""
    for name in _GROUPS:
        yield from _texts(config.get(name), name)
    yield from _generated(config["data"], "data")


def _generated(value: object, place: str, shared: tuple[str, object] | None = None) -> Iterable[tuple[str, str]]:
    """Folders in which data, or parts of a mixture with the ``shared`` root, make a store that is missing."""
    if not isinstance(value, Mapping):
        return
    inner = value.get("init_args")
    own = inner.get("root") if isinstance(inner, Mapping) else None
    found = shared if shared or own is None else (f"{place}.root", own)
    if (
        value.get("class_path") in GENERATED_DATA
        and found
        and isinstance(found[1], str)
        and not Path(found[1]).is_dir()
    ):
        yield found[0], found[1]
    for name, part in value.items():
        yield from _generated(part, place if name == "init_args" else f"{place}.{name}", found)


def _texts(value: object, place: str) -> Iterable[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _texts(part, f"{place}.{name}")
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            yield from _texts(part, f"{place}[{number}]")


def _outside(value: str, path: Path) -> bool:
    """Whether a value names a place that is neither in the working folder nor where the checkpoint's run lies."""
    if "://" in value or value.startswith(("~", "file:")):
        return True
    if not PurePath(value).is_absolute() and ".." not in PurePath(value).parts:
        return False
    place, around = Path(value).resolve(), path.resolve().parents
    # A run is NAME/version_k/checkpoints/FILE in the folder of its logger.
    own = around[:4] if around[0].name == "checkpoints" else ()
    return place not in own and not any(place.is_relative_to(folder) for folder in (Path.cwd().resolve(), around[0]))
