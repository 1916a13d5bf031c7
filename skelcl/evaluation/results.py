"""``skelcl results``: tested runs in one table, a row for each family of runs that differ in nothing but the seed."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skelcl.errors import InputError, printable
from skelcl.evaluation.probe import PRESETS
from skelcl.evaluation.record import remarks, seen_words
from skelcl.evaluation.report import short
from skelcl.evaluation.spread import mean_sd, plus_minus
from skelcl.files import cell, markdown_table, one_line

PROBES = {f"linear_{preset}_top1": preset for preset in PRESETS}
KINDS: dict[str, tuple[str, str | None]] = {
    "knn_top1": ("kNN", "knn"),
    "linear_top1": ("linear", "probe"),
    **{kind: (f"linear {preset}", "linear") for kind, preset in PROBES.items()},
    "top1": ("top-1", None),
    "retrieval_map": ("mAP", "retrieval"),
    "clustering_acc": ("cluster ACC", "clustering"),
    "few_shot_1shot": ("1-shot", "few_shot"),
    "few_shot_5shot": ("5-shot", "few_shot"),
    "one_shot_top1": ("one exemplar", None),
    "robustness_knn_top1": ("damaged kNN", "robustness"),
    "robustness_linear_top1": ("damaged linear", "robustness"),
    "robustness_top1": ("damaged top-1", "robustness"),
}
"""Accuracies that the table shows, their title and what sets their protocol; the CSV has all."""
PROTOCOLS = ("linear", "retrieval", "clustering", "collapse", "few_shot", "robustness")
"""Protocols of `skelcl evaluate` that have options; their numbers share a column under the same options only."""
GROUND = {
    "data": "data set",
    "split": "split",
    "test": "test clips",
    "labels": "labels",
    "selection": "choice of the epoch",
}
"""What must be the same for two accuracies to be comparable at all."""
CONDITIONS = {
    "stream": "stream",
    "view": "input",
    "epochs": "epochs",
    "precision": "precision",
    "hardware": "hardware",
    "versions": "versions",
}
"""What may differ between comparable rows, and is then told."""


@dataclass(frozen=True, eq=False)
class Result:
    """What one test wrote.

    Args:
        file: Its ``results.json``.
        name: Name of the run, by its folder.
        content: What is in the file.
    """

    file: Path
    name: str
    content: Mapping[str, Any]

    @property
    def run(self) -> Mapping[str, Any]:
        """What the file says of the run."""
        found: Mapping[str, Any] = self.content["run"]
        return found

    @property
    def metrics(self) -> dict[str, float]:
        """Accuracies (0…1) by name."""
        return {str(name): float(value) for name, value in self.content["metrics"].items()}

    @property
    def replicate(self) -> tuple[Any, ...]:
        """What tells the runs of a family apart: seed, seed of the labels, checkpoint that fine-tuning began with."""
        return self.run["seed"], self.facts()["label seed"], self.run["start"]

    def facts(self) -> dict[str, Any]:
        """All that a row must carry, as text or numbers."""
        content, run = self.content, self.run
        data = run["data"] or {"name": None, "split": None, "test_clips": None, "test_sha256": None, "labels": {}}
        labels, trained = data["labels"], run["trained_on"] or {}
        sha256 = str(labels.get("sha256"))[:6]
        rule = labels.get("rule")
        gallery, seen = data.get("gallery"), seen_words(data)
        trained_on_test = seen not in ("none", "not known")
        probe, knn = content.get("probe", {}), content.get("knn", {})
        return {
            "method": content["method"],
            "start": "scratch" if content["method"] == "FineTune" and run["start"] is None else run["start"],
            "encoder": run["encoder"],
            "width": run["feature_width"],
            "parameters": run["parameters"],
            "data": data["name"],
            "split": data["split"],
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
            **{name: _options(content, name) for name in PROTOCOLS},
            "stream": run["stream"],
            "view": run["view"],
            "epochs": run["epochs"],
            "planned epochs": run["planned_epochs"],
            "steps": run["steps"],
            "seconds": trained.get("seconds"),
            "precision": run["precision"],
            "hardware": trained.get("hardware", run["tested_on"]["hardware"]),
            "versions": _listed(trained.get("versions", run["tested_on"]["versions"])),
            "checkpoint": content["checkpoint"],
            "config": run["config_sha256"],
        }


@dataclass(frozen=True, eq=False)
class Family:
    """Runs that differ in nothing but their seeds.

    Args:
        results: One for each seed.
        ground: Which rows it may be compared with; see :data:`GROUND`.
    """

    results: Sequence[Result]
    ground: int

    def spread(self, metric: str) -> tuple[float, float | None] | None:
        """Mean and standard deviation (of the sample; None for one seed) of a metric; None if a run lacks it."""
        values = [result.metrics.get(metric) for result in self.results]
        found = [value for value in values if value is not None]
        if not found or len(found) < len(values):
            return None
        return mean_sd(found)

    def shared(self, fact: str) -> Any:
        """A fact of the row; of several, all of them, separated by ``|``."""
        values = list(dict.fromkeys(result.facts()[fact] for result in self.results))
        return values[0] if len(values) == 1 else " | ".join(map(str, values))

    @property
    def title(self) -> str:
        """Name of the row."""
        return self.results[0].name

    @property
    def seeds(self) -> str:
        """Seeds of the runs, and of their labels where that is another one."""
        pairs = [(result.replicate[0], result.replicate[1]) for result in self.results]
        return ",".join(f"{a}" if b in (None, a) else f"{a}/{b}" for a, b in pairs)


@dataclass(frozen=True)
class Column:
    """An accuracy under one setting of its protocol.

    Args:
        title: Head of the column.
        metric: Name of the accuracy.
        fact: The fact of a row that sets the protocol, if any.
        setting: What that fact must be.
    """

    title: str
    metric: str
    fact: str | None
    setting: object

    def cell(self, row: Family, prefix: str = "") -> str:
        """Mean ± sd in percent; nothing for a row of another protocol. ``random_`` is for the random encoder."""
        if self.fact is not None and row.shared(self.fact) != self.setting:
            return ""
        return _percent(row.spread(self.metric.replace("/", f"/{prefix}")))


def read_results(folder: Path) -> list[Result]:
    """The results in a folder and below it, sorted by path, numbers as numbers.

    Raises:
        InputError: If there is no such folder, it holds none, or a file is damaged or of an older form.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    files = sorted(folder.rglob("results.json"), key=_natural)
    if not files:
        raise InputError(f"{folder}: holds no results.json; `skelcl test --ckpt_path …` writes it")
    return [_read(file, folder) for file in files]


def families(found: Sequence[Result]) -> tuple[list[Family], int]:
    """Put runs together that differ in nothing but their seeds.

    Args:
        found: All results.

    Returns:
        The families in the order of their first results, and the number of results that a newer one of the same
        family and seed replaces.
    """
    groups: dict[Any, dict[Any, Result]] = {}
    grounds: dict[Any, int] = {}
    for result in sorted(found, key=lambda result: result.run["tested"]):
        facts = result.facts()
        same = ["method", "epochs", "encoder", "knn", "probe", "probe seed", *PROTOCOLS, *GROUND]
        # Without a config, of a run in Python, only the folder tells.
        key = (facts["config"] or str(result.file.parent), *(facts[name] for name in same))
        groups.setdefault(key, {})[result.replicate] = result
    place = {id(result): i for i, result in enumerate(found)}
    members = [sorted(group.values(), key=lambda result: place[id(result)]) for group in groups.values()]
    members.sort(key=lambda group: place[id(group[0])])
    rows = []
    for group in members:
        ground = tuple(group[0].facts()[name] for name in GROUND)
        rows.append(Family(group, grounds.setdefault(ground, len(grounds))))
    return rows, len(found) - sum(map(len, members))


def table(rows: Sequence[Family]) -> str:
    """Markdown: the rows, what they have in common, and what forbids or limits comparing them."""
    columns = _columns(rows)
    several = len({row.ground for row in rows}) > 1
    head = ["run", "method", "encoder", "epochs", "seeds", *(column.title for column in columns)]
    lines = []
    for row in rows:
        method, encoder, epochs = (str(row.shared(name)) for name in ("method", "encoder", "epochs"))
        random = [column.cell(row, "random_") for column in columns]
        if any(random):
            lines.append([row.title, "random weights", encoder, "0", row.seeds, *random])
        lines.append([row.title, method, encoder, epochs, row.seeds, *(column.cell(row) for column in columns)])
        if several:
            for line in lines[-1 - any(random) :]:
                line.append(_letter(row.ground))
    head += ["letter"] if several else []
    return "\n".join([*markdown_table([head, *lines]), _notes(rows)])


def csv_text(rows: Sequence[Family]) -> str:
    """One line for each row with all that is known of it: facts, then mean and sd (0…1) of every accuracy."""
    names = list(dict.fromkeys(name for row in rows for result in row.results for name in result.metrics))
    facts = list(rows[0].results[0].facts())
    text = io.StringIO()
    file = csv.writer(text, lineterminator="\n")
    spreads = [f"{name} {kind}" for name in names for kind in ("mean", "sd")]
    file.writerow(["run", "letter", "runs", "seeds", *facts, *map(cell, spreads)])
    for row in rows:
        numbers = [value for name in names for value in (row.spread(name) or (None, None))]
        known = [row.shared(fact) for fact in facts]
        line = [row.title, _letter(row.ground), len(row.results), row.seeds, *known, *numbers]
        file.writerow([cell(one_line(one, 1000)) if isinstance(one, str) else one for one in line])
    return text.getvalue()


def _read(file: Path, folder: Path) -> Result:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: damaged, not what `skelcl test` writes; test the run again") from error
    if not isinstance(content, dict) or "metrics" not in content:
        raise InputError(f"{file}: not a file of results of `skelcl test`: it has no metrics")
    if "run" not in content:
        raise InputError(f"{file}: of an older version, which did not tell data and config; test the run again")
    result = Result(file, printable(_name(file, folder)), _shown(content))
    try:
        told = {
            **result.facts(),
            "tested": result.run["tested"],
            "start": result.run["start"],
            "seed": result.run["seed"],
        }
        numbers = result.metrics
    except KeyError as error:
        raise InputError(f"{file}: damaged, it has no entry {printable(str(error))}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{file}: damaged, an entry is of another kind") from error
    plain = {"tested": str, "epochs": int | None, "planned epochs": int | None}
    for name, value in told.items():
        if not isinstance(value, plain.get(name, str | int | float | None)):
            raise InputError(f"{file}: damaged, {name} is of another kind: {printable(str(value))[:60]}")
    if strange := [name for name in numbers if name.count("/") != 1]:
        raise InputError(f"{file}: damaged, {strange[0]!r} is no metric of a part of the data")
    return result


def _shown(value: Any) -> Any:
    """Values of a file with texts that can be shown."""
    if isinstance(value, dict):
        return {printable(name): _shown(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_shown(part) for part in value]
    return printable(value).replace("\n", "\\n") if isinstance(value, str) else value


def _name(file: Path, folder: Path) -> str:
    """The folder of a run without what numbers its versions and seeds."""
    parts = file.parent.relative_to(folder).parts or file.parent.resolve().parts[-2:]
    plain = [re.sub(r"[-_]?seed[-_]?\d+$", "", part) for part in parts if not re.fullmatch(r"version_\d+", part)]
    return "/".join(part for part in plain if part) or folder.resolve().name


def _columns(rows: Sequence[Family]) -> list[Column]:
    """A column for each subset, the clean one first, kind of accuracy, and setting of its protocol that occurs."""
    names = {name for row in rows for result in row.results for name in result.metrics}
    subsets = {name.split("/")[0] for name in names}
    columns = []
    for subset in sorted(subsets, key=lambda name: (name != "test_clean", name == "test", name)):
        for kind, (title, setting) in KINDS.items():
            metric = f"{subset}/{kind}"
            having = [row for row in rows if row.spread(metric) is not None]
            settings = list(dict.fromkeys(row.shared(setting) if setting else None for row in having))
            for one in settings:
                words = [title, str(one) if len(settings) > 1 else "", short(subset)]
                columns.append(Column(" ".join(filter(None, words)), metric, setting, one))
    return columns


def _notes(rows: Sequence[Family]) -> str:
    """What the numbers are, what rows have in common, what forbids comparing them and what to know when doing so."""
    lines = ["Accuracies in %" + (", mean ± sd over seeds" if any(len(row.results) > 1 for row in rows) else "") + "."]
    names = {name.split("/")[1] for row in rows for result in row.results for name in result.metrics}
    told = {
        "knn_top1": "kNN: nearest neighbours among frozen features, {knn}.",
        "linear_top1": "linear: a classifier on frozen features, probe {probe}.",
        **dict.fromkeys(PROBES, "linear PRESET: a classifier on frozen features, mean over seeds ({linear})."),
        "top1": "top-1: the network's own classes, all of it trained with labels.",
        "retrieval_map": "mAP: training clips ranked by the cosine similarity of frozen features.",
        "clustering_acc": "cluster ACC: k-means without labels, matched to classes with them ({clustering}).",
        "few_shot_1shot": "1-shot, 5-shot: nearest prototype in episodes ({few_shot}).",
        "one_shot_top1": "one exemplar: nearest of one clip of each class.",
        "robustness_knn_top1": "damaged: clean training, mean over damages of the test clips ({robustness}).",
    }
    for kind, text in told.items():
        if kind in names:
            settings = {key: ", ".join(_several(rows, key)) for key in ("knn", "probe", *PROTOCOLS)}
            lines.append(text.format(**settings))
    lines = list(dict.fromkeys(lines))
    if len(names & set(told)) > 1:
        lines.append("**Different columns are different protocols: compare within a column only.**")
    grounds = {row.ground: row for row in reversed(rows)}
    for ground in sorted(grounds):
        facts = "; ".join(f"{title}: {grounds[ground].shared(name)}" for name, title in GROUND.items())
        lines.append(f"{_letter(ground)} — {facts}." if len(grounds) > 1 else f"{facts[0].upper()}{facts[1:]}.")
    if len(grounds) > 1:
        differ = [
            title for name, title in GROUND.items() if len({str(row.shared(name)) for row in grounds.values()}) > 1
        ]
        lines.append(f"**Rows with different letters are not comparable: they differ in {', '.join(differ)}.**")
    for row in rows:
        epochs, planned = row.shared("epochs"), row.shared("planned epochs")
        for remark in dict.fromkeys(remark for result in row.results for remark in remarks(result.run)):
            lines.append(f"**{row.title}: {remark}.**")
        if row.results[0].content["checkpoint"] and planned is not None and epochs != planned:
            lines.append(f"**{row.title} was tested after {epochs} epochs, but meant to train for {planned}.**")
    for name, title in CONDITIONS.items():
        told_rows: dict[str, list[str]] = {}
        for row in rows:
            told_rows.setdefault(str(row.shared(name)), []).append(row.title)
        if len(told_rows) > 1:
            lines.append(
                f"Rows differ in {title}: " + "; ".join(f"{what} ({', '.join(who)})" for what, who in told_rows.items())
            )
        mixed = [row.title for row in rows if " | " in str(row.shared(name))]
        if mixed:
            lines.append(f"**Seeds of one row differ in {title}: {', '.join(mixed)}.**")
    return "".join(f"\n{line}\n" for line in lines)


def _several(rows: Sequence[Family], fact: str) -> list[str]:
    return list(dict.fromkeys(str(row.shared(fact)) for row in rows if row.shared(fact) is not None))


def _percent(spread: tuple[float, float | None] | None) -> str:
    return "" if spread is None else plus_minus(*spread)


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"A{number}"


def _options(content: Mapping[str, Any], protocol: str) -> str | None:
    """Version and options of a protocol of `skelcl evaluate` in a few words; presets have columns of their own."""
    options = content.get("protocols", {}).get(protocol)
    if options is None:
        return None
    told = {name: value for name, value in options.items() if name not in ("version", "presets") and value is not None}
    if "corruptions" in told:
        digest = hashlib.sha256(json.dumps(told.pop("corruptions"), sort_keys=True).encode()).hexdigest()
        told["suite"] = digest[:6]
    told |= {"seeds": ",".join(map(str, content["judge_seeds"]))} if protocol in ("linear", "clustering") else {}
    return ", ".join([f"v{options['version']}", *(f"{name} {value}" for name, value in told.items())])


def _listed(versions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", str(path))]
