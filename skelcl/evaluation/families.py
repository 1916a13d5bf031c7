"""Families of tested runs: those that differ in nothing but their seeds are one row of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from skelcl.evaluation.spread import mean_sd
from skelcl.evaluation.tested_runs import Result

MUST_AGREE = {
    "data": "data set",
    "split": "split",
    "test": "test clips",
    "labels": "labels",
    "selection": "choice of the epoch",
}
"""Facts that must agree for two rows to be comparable at all, and how a table calls them."""


@dataclass(frozen=True, eq=False)
class Family:
    """Runs that differ in nothing but their seeds.

    Args:
        results: One for each seed.
        group: Rows of one number agree in :data:`MUST_AGREE`.
    """

    results: Sequence[Result]
    group: int

    def values(self, metric: str) -> list[float]:
        """A metric of each run; empty if one lacks it."""
        found = [result.metrics[metric] for result in self.results if metric in result.metrics]
        return found if len(found) == len(self.results) else []

    def spread(self, metric: str) -> tuple[float, float | None] | None:
        """Mean and standard deviation (None for one seed) of a metric; None if a run lacks it."""
        values = self.values(metric)
        return mean_sd(values) if values else None

    def shared(self, fact: str) -> Any:
        """A fact of the row; of several, all of them, separated by ``|``."""
        values = list(dict.fromkeys(result.facts.get(fact) for result in self.results))
        return values[0] if len(values) == 1 else " | ".join(map(str, values))

    @property
    def title(self) -> str:
        """Name of the row."""
        return self.results[0].name

    @property
    def seeds(self) -> str:
        """Seeds of the runs, and of their labels where that is another; empty for fused streams of several."""
        pairs = [result.replicate[:2] for result in self.results if result.replicate[0] is not None]
        return ",".join(f"{a}" if b in (None, a) else f"{a}/{b}" for a, b in pairs)


def families(found: Sequence[Result]) -> tuple[list[Family], int]:
    """Put runs together that differ in nothing but their seeds.

    Args:
        found: All results.

    Returns:
        The families in the order of their first results, and the number of results that a newer one of the same
        family and seed replaces.
    """
    rows: dict[Any, dict[Any, int]] = {}
    for i in sorted(range(len(found)), key=lambda i: found[i].run["tested"]):
        facts, options = found[i].facts, found[i].options
        same = ["method", "epochs", "encoder", "knn", "probe", "probe seed", *MUST_AGREE]
        # Without a config, of a run in Python, nothing tells which runs are the same.
        key = (facts["config"] or i, *(facts[name] for name in same), *sorted(options.items()))
        rows.setdefault(key, {})[found[i].replicate] = i
    groups: dict[Any, int] = {}
    members = sorted(sorted(row.values()) for row in rows.values())
    return [
        Family(
            [found[i] for i in places],
            groups.setdefault(tuple(found[places[0]].facts[name] for name in MUST_AGREE), len(groups)),
        )
        for places in members
    ], len(found) - sum(map(len, members))
