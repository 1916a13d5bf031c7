"""What pre-training gains: accuracies over seeds, fine-tuned and from scratch, and their difference."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skelcl.evaluation.report import CLASSIFICATION, column_heads
from skelcl.evaluation.spread import mean_sd, plus_minus
from skelcl.files import atomic_write

PRETRAINED, SCRATCH = "pretrained", "scratch"
TITLES = {PRETRAINED: "pre-trained", SCRATCH: "from scratch", "gain": "gain"}


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        variant: ``pretrained`` or ``scratch``.
        seed: Of the run and of the choice of labelled clips.
        folder: With ``results.json`` and all else that a test writes.
        metrics: Accuracies (0…1) after the last epoch, by name.
        labels: Labelled clips; None when all are.
        labels_sha256: Of their names.
        remarks: What a table of these accuracies must say.
    """

    variant: str
    seed: int
    folder: Path
    metrics: Mapping[str, float]
    labels: int | None
    labels_sha256: str | None
    remarks: tuple[str, ...] = ()


def gain_table(runs: Sequence[Run], ckpt_path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds of every metric, of each variant and of the difference between them.

    Args:
        runs: Finished runs.
        ckpt_path: Checkpoint of the pre-training.
        config: Config that all of them share.

    Returns:
        Plain values: ``mean`` and ``sd`` (of the sample, None for a single seed) under ``summary``, by variant and
        metric; ``gain`` is of the differences of runs with the same seed.
    """
    found = {
        variant: {run.seed: run.metrics for run in runs if run.variant == variant} for variant in (PRETRAINED, SCRATCH)
    }
    both = [seed for seed in found[PRETRAINED] if seed in found[SCRATCH]]
    names = list(runs[0].metrics)
    found["gain"] = {
        seed: {name: found[PRETRAINED][seed][name] - found[SCRATCH][seed][name] for name in names} for seed in both
    }
    return {
        "checkpoint": str(ckpt_path),
        "data": config["data"],
        "selection": "last epoch",
        "seeds": list(found[PRETRAINED]),
        "remarks": list(dict.fromkeys(f"{TITLES[run.variant]}: {remark}" for run in runs for remark in run.remarks)),
        "summary": {
            variant: {
                name: dict(zip(("mean", "sd"), mean_sd([metrics[name] for metrics in seeds.values()]), strict=True))
                for name in names
            }
            for variant, seeds in found.items()
            if seeds
        },
        "runs": [
            {
                "variant": run.variant,
                "seed": run.seed,
                "folder": str(run.folder),
                "labels": run.labels,
                "labels_sha256": run.labels_sha256,
                "metrics": dict(run.metrics),
            }
            for run in runs
        ],
    }


def gain_text(table: Mapping[str, Any]) -> str:
    """The table of :func:`gain_table` for people, in percent."""
    rows = table["summary"]
    names = [name for name in rows[PRETRAINED] if name.split("/")[1] in CLASSIFICATION]
    heads = column_heads(names)
    amounts = sorted({run["labels"] for run in table["runs"] if run["labels"] is not None})
    labels = f"{'–'.join(map(str, amounts))} labelled clips" if amounts else "all training clips labelled"
    spread = "mean ± sd of" if len(table["seeds"]) > 1 else "of"
    lines = [f"accuracies in %, {spread} seeds {', '.join(map(str, table['seeds']))}, last epoch, {labels}"]
    lines.append(" " * 14 + "".join(f"{head:>18}" for head in heads))
    for variant, metrics in rows.items():
        cells = [plus_minus(metrics[name]["mean"], metrics[name]["sd"], signed=variant == "gain") for name in names]
        lines.append(f"{TITLES[variant]:<14}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join([*lines, *(f"! {remark}" for remark in table["remarks"])])


def write_gain(folder: Path, table: Mapping[str, Any]) -> None:
    """Write the table as ``table.json``, ``table.csv`` (runs, then mean and sd of each variant) and ``table.txt``."""
    with atomic_write(folder / "table.json") as part:
        part.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    with atomic_write(folder / "table.txt") as part:
        part.write_text(gain_text(table) + "\n", encoding="utf-8")
    names = list(table["runs"][0]["metrics"])
    with atomic_write(folder / "table.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["variant", "seed", *names])
        for run in table["runs"]:
            rows.writerow([run["variant"], run["seed"], *(run["metrics"][name] for name in names)])
        for variant, metrics in table["summary"].items():
            rows.writerows([variant, kind, *(metrics[name][kind] for name in names)] for kind in ("mean", "sd"))
