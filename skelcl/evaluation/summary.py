"""What the evaluation of a checkpoint shows people: tables of all protocols, as Markdown and as parts of a page."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from skelcl.clips import Clips
from skelcl.evaluation.corruptions import UNITS
from skelcl.evaluation.early import early_curve
from skelcl.evaluation.judge import Scores
from skelcl.evaluation.page import Confusion, Curves, Map, Table
from skelcl.evaluation.probe import ProbeName, ProbeResult
from skelcl.evaluation.projection import project
from skelcl.evaluation.record import describe_overlap, remarks
from skelcl.evaluation.report import CLASSIFICATION
from skelcl.evaluation.robustness import Reading, severity_curves
from skelcl.evaluation.spread import mean_sd, plus_minus
from skelcl.files import markdown_table, one_line
from skelcl.transforms import Normalize, Resize, View

MAP_CLIPS, MAP_FRAMES = 500, 32
JUDGES = {"knn": "1-NN", "linear": "linear probe", "own": "own classifier"}
TITLES = {
    "knn": "kNN",
    **CLASSIFICATION,
    "map": "mAP",
    "acc": "ACC",
    "nmi": "NMI",
    "ari": "ARI",
    "mce": "mean corruption error",
    "drop": "drop",
}
NOTES = {
    "own": "The network's own classifier, trained with labels together with the encoder.",
    "linear": "A classifier on frozen features under published settings of optimiser and schedule; last epoch.",
    "knn": "Vote of the k nearest training clips by cosine similarity.",
    "retrieval": "All training clips ranked by cosine similarity to a test clip; Recall@1 is top-1.",
    "clustering": "k-means on unit test features, without labels; ACC matches clusters to classes with the labels.",
    "collapse": "Rank: dimensions in use (RankMe). Std: 1 is even, 0 is one point. Alignment of two random views and "
    "uniformity: smaller is better.",
    "few_shot": "Nearest prototype of unit features of test clips; ± is the 95 % interval over episodes of this one "
    "encoder, not over trainings.",
    "early": "Only the beginning of a test clip is seen, training clips whole; mean over shares, then each.",
    "robustness": "Clean training, damaged test clips; mean over severities, then over corruptions. Mean corruption "
    "error is relative to the random encoder, whose is 100.",
}


def table_parts(scores: Mapping[str, Scores], subsets: Sequence[str], names: Mapping[str, str]) -> list[Table]:
    """A table for each protocol: a row for each kind of number, a column for each encoder and subset.

    Args:
        scores: By encoder.
        subsets: ``test`` and named subsets.
        names: What the encoders are called.
    """
    means = {encoder: one.mean() for encoder, one in scores.items()}
    kinds = dict.fromkeys(name.split("/")[1] for one in means.values() for name in one)
    grouped: dict[str, list[str]] = {}
    for kind in kinds:
        grouped.setdefault(_protocol(kind), []).append(kind)
    parts = []
    for protocol, members in grouped.items():
        columns = [
            (encoder, subset)
            for subset in subsets
            for encoder in names
            if any(f"{subset}/{kind}" in means[encoder] for kind in members)
        ]
        heads = [" ".join(filter(None, [names[encoder], subset.replace("_", " ")])) for encoder, subset in columns]
        rows = [
            [title(kind), *(_cell(scores[encoder], f"{subset}/{kind}") for encoder, subset in columns)]
            for kind in members
        ]
        parts.append(Table(_head(protocol), ["", *heads], rows, NOTES[protocol]))
    return parts


def damage_table(readings: Sequence[Reading], judge: str, subsets: Sequence[str], names: Mapping[str, str]) -> Table:
    """Accuracies under every damage for one judge."""
    found = {(r.corruption, r.severity, r.encoder, r.subset): r.top1 for r in readings if r.judge == judge}
    columns = [(e, s) for s in subsets for e in names if any(key[2:] == (e, s) for key in found)]
    rows: list[list[str | float]] = [
        [f"{corruption} {severity:g}", *(round(100 * found[corruption, severity, e, s], 1) for e, s in columns)]
        for corruption, severity in dict.fromkeys(key[:2] for key in found)
    ]
    heads = [f"{names[e]} {s.replace('_', ' ')}" for e, s in columns]
    return Table(f"Damaged clips, {JUDGES[judge]}, top-1 in %", ["", *heads], rows)


def markdown(title: str, facts: Mapping[str, str], tables: Sequence[Table], notes: Sequence[str]) -> str:
    """All tables as one text."""
    lines = [f"# {title}", ""]
    lines += [f"* {name}: {one_line(value, 1000)}" for name, value in facts.items()]
    for table in tables:
        lines += ["", f"## {table.title}", ""]
        lines += markdown_table([list(map(str, row)) for row in (table.columns, *table.rows)])
        lines += ["", table.note] if table.note else []
    lines += ["", *(f"Left out: {note}" for note in notes)] if notes else []
    return "\n".join(lines) + "\n"


def damage_parts(
    readings: Sequence[Reading],
    clean: Mapping[tuple[str, str, str], float],
    subsets: Sequence[str],
    names: Mapping[str, str],
) -> list[Table | Curves]:
    """Tables and severity curves of all judges."""
    parts: list[Table | Curves] = []
    for judge in dict.fromkeys(reading.judge for reading in readings):
        parts.append(damage_table(readings, judge, subsets, names))
        for corruption, series in severity_curves(readings, clean, judge):
            shown = {names[name]: (x, [100 * value for value in y]) for name, (x, y) in series.items()}
            if max(len(x) for x, _ in shown.values()) > 2:
                parts.append(Curves(f"{corruption}, {judge}", UNITS[corruption], "test top-1 in %", shown))
    return parts


def facts(path: Path, run: Mapping[str, Any], results: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    """What must be known of the numbers, in words."""
    data = run["data"] or {}
    labels = [data.get("labels", {}), *([data["gallery"]] if "gallery" in data else [])]
    rules = [f"{one.get('rule')}, {str(one.get('sha256'))[:6]}" for one in labels]
    clips = ", ".join(f"{count} {subset}" for subset, count in results["query_clips"].items())
    protocols = ", ".join(f"{name} v{one['version']}" for name, one in results["protocols"].items())
    seeds = ", ".join(map(str, results["judge_seeds"]))
    return {
        "checkpoint": str(path),
        "method": f"{names['learned']}, {run['encoder']}, {results['feature_width']} features",
        "data": f"{data.get('name')}, {data.get('split')}",
        "clips": f"{results['gallery_clips']} training, {clips}, {results['classes']} classes",
        "labels": "; of the clips that probes learn from: ".join(rules),
        "input": f"{run['view']}, stream {run['stream']}",
        "pre-training": f"{run['epochs']} epochs, seed {run['seed']}",
        "trained on": trained_on(run.get("training_data")),
        "test clips trained on": describe_overlap(data),
        **({"mind": "; ".join(lines)} if (lines := remarks(run)) else {}),
        "selection": run["selection"] + "; nothing is chosen on test clips" * (run["selection"] != "not known"),
        "protocols": protocols,
        "seeds of probes and k-means": f"{seeds}; ± is their standard deviation, not that of trainings",
        "random encoder": f"the same network with weights redrawn from seed {results['random_encoder_seed']}",
        "judged on": str(run["tested_on"]["hardware"]),
    }


def probe_curves(probes: Mapping[str, Sequence[ProbeResult]], preset: ProbeName) -> Curves:
    """Test accuracy of the probe after each of its epochs, mean over seeds, by encoder."""
    series = {}
    for name, results in probes.items():
        top1 = 100 * torch.stack([one.test_top1.cpu().double() for one in results]).mean(0)
        series[name] = (list(range(1, len(top1) + 1)), top1.tolist())
    note = "Seen on the test clips and not used for any choice: the last epoch is reported."
    return Curves(f"Linear probe {preset}", "epoch of the probe", "test top-1 in %", series, note)


def early_curves(scores: Mapping[str, Scores], subsets: Sequence[str], names: Mapping[str, str]) -> Iterator[Curves]:
    """Accuracy against how much of a test clip was seen, for each judge."""
    for judge, called in JUDGES.items():
        series = {}
        for subset in subsets:
            for encoder, one in scores.items():
                curve = early_curve(one.mean(), judge, subset)
                if len(curve) > 1:
                    name = f"{names[encoder]} {subset.replace('_', ' ')}"
                    series[name] = (list(curve), [100 * top1 for top1 in curve.values()])
        if series:
            yield Curves(f"Early recognition, {called}", "% of the test clip seen", "top-1 in %", series)


def learning_curves(metrics: Path) -> Iterator[Curves]:
    """Loss and accuracies by epoch out of the ``metrics.csv`` of a run; none where there is no such file."""
    if not metrics.is_file():
        return
    with metrics.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("epoch")]
    series: dict[str, tuple[list[float], list[float]]] = {}
    for row in rows:
        for name, value in row.items():
            if value and (name == "train/loss" or _is_accuracy(name)):
                xs, ys = series.setdefault(name, ([], []))
                xs.append(float(row["epoch"] or 0) + 1)
                ys.append(float(value))
    scored = {name: (x, [100 * value for value in y]) for name, (x, y) in series.items() if _is_accuracy(name)}
    if "train/loss" in series:
        yield Curves("Training", "epoch", "loss", {"train/loss": series["train/loss"]})
    if scored:
        yield Curves("Accuracies while training", "epoch", "top-1 in %", scored)


def confusion(label: Tensor, predicted: Tensor, class_names: Sequence[str], judge: str) -> Confusion:
    """Counts (K, K) of labels and predictions, (N,) each."""
    k = len(class_names)
    counts = torch.bincount(label * k + predicted, minlength=k * k).view(k, k).numpy()
    return Confusion(f"Confusion, {judge}", counts, class_names)


def feature_map(
    features: Tensor,
    label: Tensor,
    predicted: Tensor,
    clips: Clips,
    ids: Sequence[str],
    class_names: Sequence[str],
    judge: str,
    of: int,
    method: Literal["pca", "tsne"] = "pca",
) -> Map:
    """Some test clips in the plane.

    Args:
        features: (N, D).
        label: Classes, (N,).
        predicted: Predicted classes, (N,).
        clips: The N clips.
        ids: Their names.
        class_names: Names of the classes.
        judge: Who predicted.
        of: Number of test clips that these were chosen from.
        method: How the plane is made.
    """
    where, _ = project(features, method)
    # As the sensor saw them, but for the place in the room.
    normalize = Normalize("sgn") if clips.recipe == "none" else None
    shown = View(Resize(MAP_FRAMES), normalize)(clips).permute(0, 4, 2, 3, 1).numpy()
    bodies = clips.bodies.clamp(max=clips.num_persons).tolist()
    some = f"{len(ids)} of {of} test clips, evenly chosen by name" if len(ids) < of else "all test clips"
    return Map(
        f"Test features, {'PCA' if method == 'pca' else 't-SNE'}",
        where,
        label.numpy(),
        predicted.numpy(),
        list(ids),
        class_names,
        [np.round(one[:m], 3) for one, m in zip(shown, bodies, strict=True)],
        clips.skeleton,
        f"{some}. Prediction: {judge}. Each clip is shown in {MAP_FRAMES} frames.",
    )


def trained_on(facts: Mapping[str, Any] | None) -> str:
    """Data, split and labels that a network was trained on, and those before it."""
    if facts is None:
        return "not known"
    labels = f"labels {facts['labels']['rule']}" if facts["supervised"] else "no labels"
    now = f"{facts['clips']} clips of {facts['name']}, {facts['split']}, {labels}"
    return "; before it ".join([now, *map(trained_on, facts["before"])])


def title(kind: str) -> str:
    """What a kind of number is called in a table."""
    if kind in ("top1", "top5", "mean_class"):
        return TITLES[kind]
    if match := re.fullmatch(r"(novel_)?knn(\d*)_(\w+)", kind):
        return f"{'novel classes, ' if match[1] else ''}k = {match[2] or 1}, {TITLES[match[3]]}"
    if match := re.fullmatch(r"linear_(\w+?)_(top1|top5|mean_class)", kind):
        return f"{match[1]}, {TITLES[match[2]]}"
    if match := re.fullmatch(r"few_shot_(\d+)shot", kind):
        return f"{match[1]}-shot"
    if kind == "one_shot_top1":
        return "one exemplar of each class, top-1"
    if match := re.fullmatch(r"robustness_(?:(knn|linear)_)?(\w+)", kind):
        return f"{JUDGES[match[1] or 'own']}, {TITLES[match[2]]}"
    if match := re.fullmatch(r"early_(?:(knn|linear)_)?top1(?:_(\d+))?", kind):
        return f"{JUDGES[match[1] or 'own']}, {f'{match[2]} % seen' if match[2] else 'mean'}"
    rest = kind.partition("_")[2]
    return TITLES.get(rest, re.sub(r"^recall(\d+)$", r"Recall@\1", rest).replace("_", " "))


def _protocol(kind: str) -> str:
    if kind in ("top1", "top5", "mean_class"):
        return "own"
    if kind.startswith(("few_shot", "one_shot", "novel")):
        return "few_shot"
    return re.match(r"[a-z]+", kind)[0]  # type: ignore[index]  # every kind begins with the name of its protocol


def _head(protocol: str) -> str:
    heads = {"own": "Own classifier, in %", "collapse": "Collapse", "few_shot": "Few-shot, in %", "knn": "kNN, in %"}
    heads |= {"early": "Early recognition, top-1 in %"}
    return heads.get(protocol, f"{protocol.capitalize()}, in %")


def _cell(scores: Scores, name: str) -> str:
    if name not in scores.values:
        return ""
    plain = name.split("/")[1].startswith("collapse") and not name.endswith("dead")
    scale, digits = (1, 3) if plain else (100, 1)
    mean, sd = mean_sd(scores.values[name])
    return plus_minus(mean, scores.interval.get(name) if sd is None else sd, scale, digits)


def _is_accuracy(name: str) -> bool:
    return name.endswith(("top1", "top5", "mean_class"))
