"""Configs of runs as evaluation meets them: of the command that runs, and in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import lightning.pytorch as pl

from skelcl.runs.trust import plain_yaml


@runtime_checkable
class Configured(Protocol):
    """A callback that knows the resolved config of the command, as text."""

    text: str


def config_of(trainer: pl.Trainer) -> dict[str, Any]:
    """The config of the command that runs; empty in a notebook."""
    callbacks: list[object] = list(trainer.callbacks)  # type: ignore[attr-defined]  # missing from its annotations
    return next((parsed_config(one.text) for one in callbacks if isinstance(one, Configured)), {})


def parsed_config(text: object) -> dict[str, Any]:
    """The values in a text of YAML; nothing for what is no config."""
    try:
        config = plain_yaml(text)
    except Exception:  # it says nothing, whatever PyYAML raises
        return {}
    return config if isinstance(config, dict) else {}


def agree(stored: Any, now: Any) -> bool:
    """Whether all that an older config says holds in one of today, which may say more."""
    if isinstance(stored, Mapping) and isinstance(now, Mapping):
        return all(agree(value, now[name]) for name, value in stored.items() if name in now)
    return bool(stored == now)
