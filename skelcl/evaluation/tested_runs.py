"""Tested runs as a table needs them: read from ``results.json`` in folders, or from a record that holds several."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from skelcl.errors import InputError, printable
from skelcl.evaluation.record import describe_overlap
from skelcl.runs.versions import natural

KEPT = ("method", "checkpoint", "selection", "knn", "probe", "protocols", "judge_seeds", "metrics", "run")
"""What a table needs of a ``results.json``."""
NO_RECORD = "damaged, or not a record that `skelcl results --output FILE.json` writes"


@dataclass(frozen=True, eq=False)
class Result:
    """What one test found.

    Args:
        name: Name of the run.
        content: What is in its ``results.json``, as far as a table needs it, and without folders.
    """

    name: str
    content: Mapping[str, Any]

    @property
    def run(self) -> Mapping[str, Any]:
        """What the file says of the run."""
        found: Mapping[str, Any] = self.content["run"]
        return found

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Accuracies (0…1) by name."""
        return {str(name): float(value) for name, value in self.content["metrics"].items()}

    @property
    def replicate(self) -> tuple[Any, ...]:
        """What tells the runs of a family apart: seed, seed of the labels, checkpoint that fine-tuning began with."""
        return self.run["seed"], self.facts["label seed"], self.run.get("start_sha256")

    @cached_property
    def options(self) -> dict[str, str]:
        """Version and options of each protocol of `skelcl evaluate` but kNN, whose k are columns of their own."""
        protocols = self.content.get("protocols", {})
        judge_seeds = self.content.get("judge_seeds", [])
        return {name: _in_words(name, given, judge_seeds) for name, given in protocols.items() if name != "knn"}

    @cached_property
    def facts(self) -> dict[str, Any]:
        """All that a row must carry, as text or numbers."""
        content, run = self.content, self.run
        data = run["data"] or {"name": None, "split": None, "test_clips": None, "test_sha256": None, "labels": {}}
        labels, trained = data["labels"], run["trained_on"] or {}
        sha256 = str(labels.get("sha256"))[:6]
        rule = labels.get("rule")
        gallery, seen = data.get("gallery"), describe_overlap(data)
        trained_on_test = seen not in ("none", "not known")
        probe, knn = content.get("probe", {}), content.get("knn", {})
        versions = trained.get("versions", run["tested_on"]["versions"])
        return {
            **self.options,
            "method": content["method"],
            "start": "scratch" if content["method"] == "FineTune" and run["start"] is None else run["start"],
            "start sha256": run.get("start_sha256"),
            "encoder": run["encoder"],
            "width": run["feature_width"],
            "parameters": run["parameters"],
            "data": data["name"],
            "split": data["split"],
            "layout": data.get("layout"),
            "fps": data.get("fps"),
            "test": f"{data['test_clips']} ({str(data['test_sha256'])[:6]})" + trained_on_test * f", {seen} trained on",
            # Each seed draws clips of its own by the rule; a list of clips, or all of them, is always the same.
            "labels": f"{rule}: {labels.get('clips')}"
            + (f" ({sha256})" if str(rule).startswith(("all", "from")) else "")
            + (f"; gallery {gallery['rule']}: {gallery['clips']}" if gallery else ""),
            "label seed": labels.get("seed"),
            "seen": seen,
            "selection": content["selection"],
            "knn": f"k={knn['k']} {knn['metric']}" if knn else None,
            "probe": probe.get("preset"),
            "probe seed": probe.get("seed"),
            "stream": run["stream"],
            "view": run["view"],
            "epochs": run["epochs"],
            "planned epochs": run["planned_epochs"],
            "steps": run["steps"],
            "seconds": trained.get("seconds"),
            "precision": run["precision"],
            "hardware": trained.get("hardware", run["tested_on"]["hardware"]),
            "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
            "checkpoint": content["checkpoint"],
            "checkpoint sha256": run.get("checkpoint_sha256"),
            "config": run["config_sha256"],
        }


def read_results(place: Path) -> list[Result]:
    """The results in a folder and below it, sorted by path, numbers as numbers; or those of a record.

    Raises:
        InputError: If there is no such place, it holds none, or a file is damaged or of an older form.
    """
    if place.is_file():
        content = _json(place, NO_RECORD)
        entries = content.get("results") if isinstance(content, dict) else None
        if not isinstance(entries, list) or not entries:
            raise InputError(f"{place}: {NO_RECORD}: it has no results")
        return [_result(entry, None, f"{place}: result {i}") for i, entry in enumerate(entries, 1)]
    if not place.is_dir():
        raise InputError(f"{place}: no such folder or file")
    files = sorted(place.rglob("results.json"), key=natural)
    if not files:
        raise InputError(f"{place}: holds no results.json; `skelcl test --ckpt_path …` writes it")
    return [read_result(file, place) for file in files]


def read_result(file: Path, folder: Path) -> Result:
    """What one test wrote.

    Args:
        file: Its ``results.json``.
        folder: A folder above it; the run is named by those between.

    Raises:
        InputError: If the file is damaged or of an older form.
    """
    content = _json(file, "damaged, not what `skelcl test` writes; test the run again")
    return _result(content, _name(file, folder), str(file))


def record_text(results: Iterable[Result]) -> str:
    """The record of results: what :func:`read_results` reads, the same text whenever it is written."""
    entries = [{"name": result.name, **result.content} for result in results]
    return json.dumps({"results": entries}, indent=1, ensure_ascii=False) + "\n"


def _json(file: Path, problem: str) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: {problem}") from error


def _result(content: Any, name: str | None, place: str) -> Result:
    """A result that every table can show; ``name`` is None where the content has it."""
    if not isinstance(content, dict) or "metrics" not in content:
        raise InputError(f"{place}: not results of `skelcl test`: it has no metrics")
    if "run" not in content:
        raise InputError(f"{place}: of an older version, which did not tell data and config; test the run again")
    if name is None and not (isinstance(name := content.get("name"), str) and name):
        raise InputError(f"{place}: damaged, it has no name")
    result = Result(_shown(name), _shown(_without_folders({key: content[key] for key in KEPT if key in content})))
    try:
        used = {
            **result.facts,
            "tested": result.run["tested"],
            "start": result.run["start"],
            "seed": result.run["seed"],
        }
        numbers = result.metrics
    except KeyError as error:
        raise InputError(f"{place}: damaged, it has no entry {printable(str(error))}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{place}: damaged, an entry is of another kind") from error
    plain = {"tested": str, "epochs": int | None, "planned epochs": int | None}
    for fact, value in used.items():
        if not isinstance(value, plain.get(fact, str | int | float | None)):
            raise InputError(f"{place}: damaged, {fact} is of another kind: {printable(str(value))[:60]}")
    if strange := [metric for metric in numbers if metric.count("/") != 1]:
        raise InputError(f"{place}: damaged, {strange[0]!r} is no metric of a part of the data")
    return result


def _without_folders(content: dict[str, Any]) -> dict[str, Any]:
    """The content with names of files instead of their paths, which say nothing on another machine."""
    if isinstance(run := content["run"], dict):
        run = content["run"] = {name: value for name, value in run.items() if name != "training_data"}
        if isinstance(path := run.get("start"), str):
            # Without the digest of the file, its path tells apart what began with different ones.
            run.setdefault("start_sha256", f"path {hashlib.sha256(path.encode(errors='replace')).hexdigest()}")
            run["start"] = _file_name(path)
        for part in ("labels", "gallery"):
            chosen = run["data"].get(part) if isinstance(run.get("data"), dict) else None
            if isinstance(chosen, dict) and str(chosen.get("rule")).startswith("from "):
                run["data"] |= {part: chosen | {"rule": f"from {_file_name(chosen['rule'])}"}}
    if isinstance(path := content.get("checkpoint"), str):
        content["checkpoint"] = _file_name(path)
    return content


def _file_name(path: str) -> str:
    """The last part of a path of any system; after ``from``, without that word."""
    return re.split(r"[/\\]", path.removeprefix("from "))[-1]


def _shown(value: Any) -> Any:
    """Values of a file with texts that can be shown."""
    if isinstance(value, dict):
        return {_shown(name): _shown(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_shown(part) for part in value]
    return printable(value).replace("\n", "\\n") if isinstance(value, str) else value


def _name(file: Path, folder: Path) -> str:
    """The folder of a run without what numbers its versions and seeds."""
    parts = file.parent.relative_to(folder).parts or file.parent.resolve().parts[-2:]
    plain = [re.sub(r"[-_]?seed[-_]?\d+$", "", part) for part in parts if not re.fullmatch(r"version_\d+", part)]
    return "/".join(part for part in plain if part) or folder.resolve().name


def _in_words(protocol: str, given: Mapping[str, Any], judge_seeds: Iterable[int]) -> str:
    """Version and options of a protocol; presets have columns of their own."""
    options = {name: value for name, value in given.items() if name not in ("version", "presets") and value is not None}
    if "corruptions" in options:
        digest = hashlib.sha256(json.dumps(options.pop("corruptions"), sort_keys=True).encode()).hexdigest()
        options["suite"] = digest[:6]
    options |= {"seeds": ",".join(map(str, judge_seeds))} if protocol in ("linear", "clustering") else {}
    return ", ".join([f"v{given['version']}", *(f"{name} {value}" for name, value in options.items())])
