"""A sweep file: read, refused where it makes no sense, and checked key by key against the command line."""

from __future__ import annotations

import ast
import contextlib
import io
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from skelcl.data.formats.containers import read_yaml
from skelcl.errors import InputError, fail
from skelcl.runs.shipped import CONFIGS, run_file, with_run_files
from skelcl.sweeps.distributions import Parameter, parameter

KEYS = ("method", "metric", "parameters", "command", "early_terminate", "run_cap")
LABELS = ("name", "description", "project", "entity", "program")
LOGITS = ("val/top1", "val/top5", "val/mean_class")
"""Objectives that judge what was learnt from labels."""
METHODS = ("grid", "random", "bayes")


@dataclass(frozen=True)
class Sweep:
    """What a sweep file says.

    Args:
        path: The file.
        method: ``grid``, ``random`` or ``bayes``.
        metric: Logged name of the objective.
        maximize: Whether more is better.
        parameters: Options and their values, in the order of the file.
        command: Words after ``skelcl``, with ``${args}`` where the options of a trial go.
        early: Values of the objective before a trial can be stopped, and the share (one in so many) that goes on.
        run_cap: Most trials.
        content: All of the file.
    """

    path: Path
    method: str
    metric: str
    maximize: bool
    parameters: tuple[Parameter, ...]
    command: tuple[str, ...]
    early: tuple[int, int] | None
    run_cap: int | None
    content: Mapping[str, Any]

    def arguments(self, values: Mapping[str, Any]) -> list[str]:
        """The command line of a trial after ``skelcl``, of the words of W&B's agent."""
        options = from_agent([f"--{key}={value}" for key, value in values.items()])
        return [word for one in self.command for word in (options if one == "${args}" else [one])]


def from_agent(words: Sequence[str]) -> list[str]:
    """Options as W&B's agent writes them, in Python's words, as the command line takes them.

    YAML's null is None there, and what a ``q_`` distribution draws is a float, which no whole number takes.
    """
    return [re.sub(r"^(--[^=]+=)(.*)$", lambda found: found[1] + _plain(found[2]), word) for word in words]


def _plain(value: str) -> str:
    if value == "None":
        return "null"
    if re.fullmatch(r"-?[0-9]{1,15}\.0", value):
        return value[:-2]
    if value[:1] in "[{" and "None" in value:
        with contextlib.suppress(ValueError, SyntaxError):
            return json.dumps(ast.literal_eval(value))
    return value


def read_sweep(path: Path) -> Sweep:
    """Read a sweep file.

    Raises:
        InputError: If there is none, or it cannot be run; a metric of the test part is refused.
    """
    path = run_file(path)
    content = read_yaml(path)
    try:
        return _sweep(path, content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _sweep(path: Path, content: Any) -> Sweep:
    if not isinstance(content, dict):
        raise InputError("a sweep file is a mapping with method, metric, parameters and command")
    for key in ("method", "metric", "parameters", "command"):
        if key not in content:
            raise InputError(f"{key} is missing")
    if unknown := [key for key in content if key not in KEYS + LABELS]:
        raise InputError(f"unknown key {unknown[0]!r}; there are {', '.join(KEYS + LABELS)}")
    method = content["method"]
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    metric, maximize = _metric(content["metric"])
    if not isinstance(content["parameters"], dict) or not content["parameters"]:
        raise InputError("parameters: must be a mapping of options and their values")
    parameters = tuple(parameter(str(key), options) for key, options in content["parameters"].items())
    if method == "grid" and (endless := [one for one in parameters if one.values is None]):
        raise InputError(f"parameters.{endless[0].key}: a grid needs values, not {endless[0].distribution}")
    cap = content.get("run_cap")
    if cap is not None and (not isinstance(cap, int) or cap < 1):
        raise InputError(f"run_cap: must be a whole number from 1 on, not {cap!r}")
    early = _early(content["early_terminate"]) if "early_terminate" in content else None
    return Sweep(path, method, metric, maximize, parameters, _command(content["command"]), early, cap, content)


def _metric(metric: Any) -> tuple[str, bool]:
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise InputError("metric: must be a mapping with name and goal")
    name, goal = metric["name"], metric.get("goal", "minimize")
    if name.startswith("test"):
        raise InputError(
            f"metric {name}: nothing is selected on test data; take val/knn_top1 or val/top1, "
            "which are measured inside the training part (--data.validation)"
        )
    if goal not in ("minimize", "maximize"):
        raise InputError(f"metric.goal must be minimize or maximize, not {goal!r}")
    return name, goal == "maximize"


def _command(command: Any) -> tuple[str, ...]:
    words = [str(word) for word in command] if isinstance(command, list) else []
    if words[:1] == ["${env}"]:
        del words[0]
    if "${args_no_boolean_flags}" in words:
        raise InputError(
            "command: ${args_no_boolean_flags} drops the values of booleans, which options need: take ${args}"
        )
    if words[:2] != ["skelcl", "fit"] or words.count("${args}") != 1:
        raise InputError(
            'command: must be ["${env}", skelcl, fit, --config, FILE, "${args}"], with more options or not'
        )
    if strange := [word for word in words if word.startswith("${") and word != "${args}"]:
        raise InputError(f"command: {strange[0]} means nothing here; only ${{env}} and ${{args}} do")
    return tuple(words[1:])


def _early(early: Any) -> tuple[int, int]:
    if not isinstance(early, dict) or early.get("type") != "hyperband":
        raise InputError("early_terminate: must be a mapping with type: hyperband and min_iter, or max_iter and s")
    eta = early.get("eta", 3)
    first, most, bands = (early.get(key) for key in ("min_iter", "max_iter", "s"))
    if first is None and isinstance(eta, int) and eta >= 2 and isinstance(most, int) and isinstance(bands, int):
        first = min((most // eta**k for k in range(1, bands + 1) if most >= eta**k), default=None)
    if not isinstance(eta, int) or eta < 2 or not isinstance(first, int) or first < 1:
        raise InputError("early_terminate: needs min_iter ≥ 1, or max_iter and s, and whole numbers, eta ≥ 2")
    return first, eta


def check_options(sweep: Sweep) -> None:
    """Parse the command line with every candidate value, as a run would, before anything starts.

    Leaves the program with code 2 and one line when an option does not exist or does not take a value, or when the run
    would not measure the objective.

    Raises:
        InputError: A config that the command names is no YAML.
    """
    try:
        command = with_run_files(sweep.command)
    except InputError as error:
        raise InputError(f"{sweep.path}: command: {error}") from error
    for option, word in itertools.pairwise(command):
        if option in CONFIGS and Path(word).is_file():
            read_yaml(Path(word))  # the parser would not name the file
    first = {one.key: one.candidates[0] for one in sweep.parameters}
    config = _resolved(sweep, first)
    for one in sweep.parameters:
        for value in one.candidates[1:]:
            _resolved(sweep, {**first, one.key: value})
    validation = config["data"].get("init_args", {}).get("validation")
    if sweep.metric.startswith("val/") and validation == "none":
        fail(f"{sweep.path}: {sweep.metric} is not measured without validation; add --data.validation=held-out", 2)
    if sweep.metric in LOGITS and validation == "seen":
        fail(
            f"{sweep.path}: {sweep.metric} of clips that were trained on with labels; take --data.validation=held-out",
            2,
        )


def _resolved(sweep: Sweep, values: Mapping[str, Any]) -> dict[str, Any]:
    from skelcl.runs.config import resolved_config

    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            text = resolved_config(with_run_files(sweep.arguments(values)[1:]))
    except SystemExit:
        lines = stderr.getvalue().splitlines() or ["cannot be parsed"]
        fail(f"{sweep.path}: {lines[-1].removeprefix('skelcl: error: ')}", 2)
    config: dict[str, Any] = yaml.safe_load(text)
    return config
