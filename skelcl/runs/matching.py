"""Data of one kind for a network that was trained on another: the joints, the rate and the bodies that it knows."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError
from lightning.pytorch.cli import LightningArgumentParser

from skelcl.data import SkeletonDataModule
from skelcl.data.adapted import AdaptedStore
from skelcl.data.facts import DataFacts
from skelcl.data.poses.layouts import layout_keys
from skelcl.data.union import UnionStore
from skelcl.errors import InputError
from skelcl.runs.loading import read_data_facts
from skelcl.runs.mixtures import share_root
from skelcl.runs.trainer_options import lightning_silenced
from skelcl.runs.trust import stored_config
from skelcl.seeding import untouched
from skelcl.skeleton import LAYOUTS


def matching_options(
    block: Mapping[str, Any], path: Path, chosen: Collection[str] = (), trust: str | Sequence[str] | None = None
) -> tuple[dict[str, Any], str]:
    """Options of a data module with which a network sees what it was trained on.

    Layout, frames per second and bodies are those of the checkpoint's data, where nobody chose them and what is known
    of both differs. A block chooses what it sets to something else than the default.

    Args:
        block: ``class_path`` and ``init_args`` of the data module.
        path: Checkpoint of the network.
        chosen: Options that were chosen, whatever their values; see :func:`chosen_options`.
        trust: As of :func:`~skelcl.runs.trust.stored_config`.

    Returns:
        Arguments to lay over those of the block, and one line that tells of them; empty where there are none, or where
        the facts of the checkpoint's data are not known.

    Raises:
        InputError: The joints of the network cannot be made of those of the data, or coordinates are of another
            number.
    """
    facts = _trained_on(path, trust)
    data = None if facts is None else _opened(block)
    if facts is None or data is None:
        return {}, ""
    given = block.get("init_args") or {}
    changed = {name for name, value in given.items() if value not in (None, _default(type(data), name))}
    chosen = changed | set(chosen)
    if data.channels != facts.channels:
        raise InputError(
            f"{path} was trained on {facts.channels} coordinates per joint, and {data.store.path} has {data.channels}: "
            f"it needs data of {facts.channels} (skelcl data import poses --channels {facts.channels})"
        )
    options: dict[str, Any] = {}
    done = []
    own, target = data.skeleton, facts.skeleton
    if own != target and "layout" not in chosen:
        known = LAYOUTS.get(target.name) == target
        options["layout"] = target.name if known else layout_keys(target)
        try:
            stores = data.store.stores.values() if isinstance(data.store, UnionStore) else [data.store]
            changes = [change for one in stores if (change := AdaptedStore(one.path, layout=options["layout"]).change)]
        except InputError as error:
            raise InputError(
                f"{path} was trained on the joints of {target.name}; {error}, as --data.layout of its training"
            ) from error
        made, unused = (
            max((len(getattr(one, kind)) for one in changes), default=0) for kind in ("synthesised", "unused")
        )
        done.append(f"{own.name} mapped to {target.name}, {made} joints made of others, {unused} left out")
    fps = data.store.meta["fps"]
    if None not in (fps, facts.fps) and fps != facts.fps and "fps" not in chosen:
        options["fps"] = facts.fps
        done.append(f"{fps:g} frames per second resampled to {facts.fps:g}")
    if data.num_persons != facts.num_persons:
        if "num_persons" not in chosen:
            options["num_persons"] = facts.num_persons
        done.append(
            f"{options.get('num_persons', data.num_persons)} bodies of a clip shown"
            + f", the training had {facts.num_persons}" * ("num_persons" in chosen)
        )
    return options, f"{data.dataset} for {path}: {'; '.join(done)}" if done else ""


def chosen_options(args: Sequence[str]) -> set[str]:
    """Names of the options of the data module that the words of a command line choose: of ``--data.fps 30``, fps."""
    found = (re.match(r"--data\.(?:init_args\.)?(\w+)(?:=|$)", word) for word in args)
    return {match[1] for match in found if match}


def _trained_on(path: Path, trust: str | Sequence[str] | None) -> DataFacts | None:
    """What a checkpoint says of its data, or, where it was written before it did, what its store says; else None."""
    facts = read_data_facts(path)
    if facts is None:
        try:
            data = _opened(stored_config(path, trust)["data"])
        except (InputError, KeyError):
            return None
        return None if data is None else data.facts
    return facts


def _opened(block: Mapping[str, Any]) -> SkeletonDataModule | None:
    """The data module of a block; None for one that cannot be made, of which the run itself tells."""
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(SkeletonDataModule, "data")
    try:
        with untouched(), lightning_silenced():
            config = parser.parse_object({"data": deepcopy(dict(block))})
            share_root(config["data"])
            data = parser.instantiate_classes(config)["data"]
    except (ArgumentError, TypeError, ValueError, KeyError, AttributeError):
        return None
    return data if isinstance(data, SkeletonDataModule) else None


def _default(kind: type, name: str) -> object:
    """The default of an argument, which a class may hand on to its base."""
    signatures = (inspect.signature(one.__init__).parameters for one in kind.__mro__)  # type: ignore[misc]  # of a class
    return next((parameters[name].default for parameters in signatures if name in parameters), None)
