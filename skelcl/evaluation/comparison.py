"""Rows of tested runs beside each other: columns, what must be known when comparing them, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from skelcl.evaluation.families import MUST_AGREE, Family
from skelcl.evaluation.probe import PRESETS
from skelcl.evaluation.record import remarks
from skelcl.evaluation.report import subset_suffix
from skelcl.evaluation.spread import plus_minus
from skelcl.files import cell, markdown_table, one_line


class Kind(NamedTuple):
    """A kind of accuracy that the table shows; the CSV has all.

    Args:
        metric: Its name behind that of the subset.
        title: Head of its column.
        setting: The fact of a row that sets its protocol; rows that differ in it share no column.
        note: What it is; names of facts in braces stand for their values.
    """

    metric: str
    title: str
    setting: str | None
    note: str


PRESET_NOTE = "linear PRESET: a classifier on frozen features, mean over seeds ({linear})."
SHOTS_NOTE = "1-shot, 5-shot: nearest prototype in episodes ({few_shot})."
EARLY_NOTE = "early: only the beginning of a test clip is seen, mean over shares of its frames ({early})."
DAMAGED_NOTE = "damaged: clean training, mean over damages of the test clips ({robustness})."
UNKNOWN_NOTE = (
    "AUROC unknown: clips of classes that training never saw, told from others by how near training clips are; "
    "known lost, unknown found: those that are told where a share of the known clips may be ({unknown})."
)
KINDS = (
    Kind("knn_top1", "kNN", "knn", "kNN: nearest neighbours among frozen features, {knn}."),
    Kind("linear_top1", "linear", "probe", "linear: a classifier on frozen features, probe {probe}."),
    *(Kind(f"linear_{preset}_top1", f"linear {preset}", "linear", PRESET_NOTE) for preset in PRESETS),
    Kind("top1", "top-1", None, "top-1: the network's own classes, all of it trained with labels."),
    Kind(
        "retrieval_map", "mAP", "retrieval", "mAP: training clips ranked by the cosine similarity of frozen features."
    ),
    Kind(
        "clustering_acc",
        "cluster ACC",
        "clustering",
        "cluster ACC: k-means without labels, matched to classes with them ({clustering}).",
    ),
    Kind("few_shot_1shot", "1-shot", "few_shot", SHOTS_NOTE),
    Kind("few_shot_5shot", "5-shot", "few_shot", SHOTS_NOTE),
    Kind("one_shot_top1", "one exemplar", None, "one exemplar: nearest of one clip of each class."),
    Kind("early_knn_top1", "early kNN", "early", EARLY_NOTE),
    Kind("early_linear_top1", "early linear", "early", EARLY_NOTE),
    Kind("early_top1", "early top-1", "early", EARLY_NOTE),
    Kind("unknown_auroc", "AUROC unknown", "unknown", UNKNOWN_NOTE),
    Kind("unknown_lost", "known lost", "unknown", UNKNOWN_NOTE),
    Kind("unknown_found", "unknown found", "unknown", UNKNOWN_NOTE),
    Kind("robustness_knn_top1", "damaged kNN", "robustness", DAMAGED_NOTE),
    Kind("robustness_linear_top1", "damaged linear", "robustness", DAMAGED_NOTE),
    Kind("robustness_top1", "damaged top-1", "robustness", DAMAGED_NOTE),
)
"""In the order of their columns."""
MAY_DIFFER = {
    "stream": "stream",
    "view": "input",
    "epochs": "epochs",
    "precision": "precision",
    "hardware": "hardware",
    "versions": "versions",
}
"""Facts that may differ between comparable rows, which the table then says, and how it calls them."""


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
        spread = row.spread(self.metric.replace("/", f"/{prefix}"))
        return "" if spread is None else plus_minus(*spread)


def markdown(rows: Sequence[Family]) -> str:
    """Markdown: the rows, what they have in common, and what forbids or limits comparing them."""
    columns = _columns(rows)
    several = len({row.group for row in rows}) > 1
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
                line.append(_letter(row.group))
    head += ["letter"] if several else []
    return "\n".join([*markdown_table([head, *lines]), _notes(rows)])


def csv_text(rows: Sequence[Family]) -> str:
    """One line for each row with all that is known of it: facts, then mean and sd (0…1) of every accuracy."""
    names = list(dict.fromkeys(name for row in rows for result in row.results for name in result.metrics))
    facts = list(dict.fromkeys(fact for row in rows for result in row.results for fact in result.facts))
    text = io.StringIO()
    file = csv.writer(text, lineterminator="\n")
    spreads = [f"{name} {kind}" for name in names for kind in ("mean", "sd")]
    file.writerow(["run", "letter", "runs", "seeds", *map(cell, [*facts, *spreads])])
    for row in rows:
        numbers = [value for name in names for value in (row.spread(name) or (None, None))]
        known = [row.shared(fact) for fact in facts]
        line = [row.title, _letter(row.group), len(row.results), row.seeds, *known, *numbers]
        file.writerow([cell(one_line(one, 1000)) if isinstance(one, str) else one for one in line])
    return text.getvalue()


def _columns(rows: Sequence[Family]) -> list[Column]:
    """A column for each subset, the clean one first, kind of accuracy, and setting of its protocol that occurs."""
    names = {name for row in rows for result in row.results for name in result.metrics}
    subsets = {name.split("/")[0] for name in names}
    columns = []
    for subset in sorted(subsets, key=lambda name: (name != "test_clean", name == "test", name)):
        for kind in KINDS:
            metric = f"{subset}/{kind.metric}"
            having = [row for row in rows if row.values(metric)]
            settings = list(dict.fromkeys(row.shared(kind.setting) if kind.setting else None for row in having))
            for one in settings:
                title = [kind.title, str(one) if len(settings) > 1 else "", subset_suffix(subset)]
                columns.append(Column(" ".join(filter(None, title)), metric, kind.setting, one))
    return columns


def _notes(rows: Sequence[Family]) -> str:
    """What the numbers are, what rows have in common, what forbids comparing them and what to know when doing so."""
    lines = ["Accuracies in %" + (", mean ± sd over seeds" if any(len(row.results) > 1 for row in rows) else "") + "."]
    names = {name.split("/")[1] for row in rows for result in row.results for name in result.metrics}
    shown = [kind for kind in KINDS if kind.metric in names]
    settings = {kind.setting: ", ".join(_several(rows, kind.setting)) for kind in shown if kind.setting}
    lines += dict.fromkeys(kind.note.format_map(settings) for kind in shown)
    if len(shown) > 1:
        lines.append("**Different columns are different protocols: compare within a column only.**")
    groups = {row.group: row for row in reversed(rows)}
    for group in sorted(groups):
        told = "; ".join(f"{title}: {groups[group].shared(fact)}" for fact, title in MUST_AGREE.items())
        lines.append(f"{_letter(group)} — {told}." if len(groups) > 1 else f"{told[0].upper()}{told[1:]}.")
    if len(groups) > 1:
        differ = [
            title for fact, title in MUST_AGREE.items() if len({str(row.shared(fact)) for row in groups.values()}) > 1
        ]
        lines.append(f"**Rows with different letters are not comparable: they differ in {', '.join(differ)}.**")
    for row in rows:
        epochs, planned = row.shared("epochs"), row.shared("planned epochs")
        for remark in dict.fromkeys(remark for result in row.results for remark in remarks(result.run)):
            lines.append(f"**{row.title}: {remark}.**")
        if row.results[0].content["checkpoint"] and planned is not None and epochs != planned:
            lines.append(f"**{row.title} was tested after {epochs} epochs, but meant to train for {planned}.**")
    for name, title in MAY_DIFFER.items():
        titles: dict[str, list[str]] = {}
        for row in rows:
            titles.setdefault(str(row.shared(name)), []).append(row.title)
        if len(titles) > 1:
            differing = "; ".join(f"{value} ({', '.join(of)})" for value, of in titles.items())
            lines.append(f"Rows differ in {title}: {differing}")
        mixed = [row.title for row in rows if " | " in str(row.shared(name))]
        if mixed:
            lines.append(f"**Seeds of one row differ in {title}: {', '.join(mixed)}.**")
    return "".join(f"\n{line}\n" for line in lines)


def _several(rows: Sequence[Family], fact: str) -> list[str]:
    return list(dict.fromkeys(str(row.shared(fact)) for row in rows if row.shared(fact) is not None))


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"A{number}"
