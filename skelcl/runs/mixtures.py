"""Blocks of mixtures in configs, where their parts are not made yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace

from skelcl.errors import OptionError

OF_THE_WHOLE = ("parts", "weights", "join_classes")
"""Options of a mixture that say nothing of a part alone."""


def share_root(data: Namespace) -> None:
    """Hands the root of a mixture to its parts, which open their stores before there is a mixture.

    Args:
        data: Parsed block of a data module, changed in place.
    """
    options = data.get("init_args") or {}
    for part in (options.get("parts") or {}).values() if options.get("root") is not None else ():
        part["init_args"]["root"] = options["root"]


def part_alone(block: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The block of one part of a mixture, with what the mixture says of all of them.

    Args:
        block: ``class_path`` and ``init_args`` of the mixture.
        name: The part.

    Raises:
        OptionError: There is none of this name.
    """
    options = block.get("init_args") or {}
    parts = options.get("parts") or {}
    if name not in parts:
        there = f"the parts are {', '.join(parts)}" if parts else "the data are no mixture"
        raise OptionError(f"--part {name}: {there}")
    shared = {key: value for key, value in options.items() if key not in OF_THE_WHOLE and value is not None}
    return {**parts[name], "init_args": {**(parts[name].get("init_args") or {}), **shared}}
