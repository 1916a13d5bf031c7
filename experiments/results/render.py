"""Renders the tables of results.md and README.md from the records beside this script: no number is typed.

    python experiments/results/render.py

A record is what `skelcl results FOLDER … --output experiments/results/X.json` writes. A table stands between

    <!-- results: RECORD … | FACT … | ACCURACY … -->
    <!-- /results -->

with a row for each run of the records (names of files here, * for any), columns of facts (as `skelcl results --output
FILE.csv` calls them), and of accuracies (knn_top1, linear_top1, top1, …) on all test clips and on the clean ones;
early_knn_top1_30 is the accuracy when 30 % of a clip were seen.
"""

import re
from pathlib import Path

from skelcl.evaluation.comparison import KINDS, MAY_DIFFER, Kind
from skelcl.evaluation.families import MUST_AGREE, Family, families
from skelcl.evaluation.record import remarks
from skelcl.evaluation.report import subset_suffix
from skelcl.evaluation.spread import mean_sd, plus_minus
from skelcl.evaluation.tested_runs import read_results
from skelcl.files import markdown_table

RECORDS = Path(__file__).parent
PAGES = (RECORDS.parents[1] / "README.md", RECORDS.parent / "results.md")
TABLE = re.compile(r"(<!-- results: ([^|>]+)\|([^|>]+)\|([^|>]+) -->\n).*?(<!-- /results -->)", re.DOTALL)
EMPTY = "No run of this table has a record yet.\n"
TITLES = {**MUST_AGREE, **MAY_DIFFER, "knn": "kNN", "probe": "linear probe", "early": "early recognition"}
TITLES |= {"unknown": "unknown classes"}


def render(text: str) -> str:
    """A page with its tables made again from the records."""
    return TABLE.sub(lambda found: found[1] + table(*(found[i].split() for i in (2, 3, 4))) + found[5], text)


def files(patterns: list[str]) -> list[Path]:
    """The records that match, each once, in the order of the patterns."""
    found = [file for one in patterns for file in sorted(RECORDS.glob(f"{one}.json"), key=lambda file: file.stem)]
    return list(dict.fromkeys(found))


def table(patterns: list[str], facts: list[str], accuracies: list[str]) -> str:
    """The table of a marker, and what is true of all its rows.

    Raises:
        ValueError: If rows cannot be compared without a further column, or a run is there twice.
    """
    rows, older = families([result for file in files(patterns) for result in read_results(file)])
    if older:
        raise ValueError(f"{' '.join(patterns)}: {older} results are older ones of the same run and seed")
    kinds = [_kind(name) for name in accuracies]
    needed = [*MUST_AGREE, "precision", "hardware", *(kind.setting for kind in kinds if kind.setting)]
    shared = {}
    for fact in (fact for fact in needed if fact not in facts):
        shared[fact] = list({str(row.shared(fact)) for row in rows})
        if len(shared[fact]) > 1:
            raise ValueError(f"{' '.join(patterns)}: rows differ in {fact}, so it wants a column: {shared[fact]}")
    parts = [(kind, part) for part in ("test", "test_clean") for kind in kinds]
    columns = {f"{kind.title} {subset_suffix(part)}".strip(): f"{part}/{kind.metric}" for kind, part in parts}
    lines = [["run", *facts, "seeds", *columns]]
    for row in rows:
        known = [*(_cell(row, fact) for fact in facts), row.seeds.replace(",", ", ")]
        lines.append([f"`{row.title}`", *known, *(_spread(row.values(one)) for one in columns.values())])
        random = [_spread(row.values(one.replace("/", "/random_"))) for one in columns.values()]
        if any(random):
            untrained = ["0" if fact == "epochs" else cell for fact, cell in zip([*facts, "seeds"], known, strict=True)]
            lines.append(["its encoder, random weights", *untrained, *random])
        for twin in (other for other in rows if _is_twin(row, other)):
            pairs = [zip(row.values(one), twin.values(one), strict=True) for one in columns.values()]
            lines.append(["gain by pre-training", *known, *(_spread([a - b for a, b in pair], True) for pair in pairs)])
    notes = "; ".join(f"{TITLES[fact]} {value}" for fact, values in shared.items() for value in values)
    told = dict.fromkeys(
        f"**{row.title}: {one}.**\n" for row in rows for run in row.results for one in remarks(run.run)
    )
    return "\n".join([*markdown_table(lines), "", f"All rows: {notes}.", *told, ""]) if rows else EMPTY


def _kind(name: str) -> Kind:
    """The kind of an accuracy, or of early recognition the one when a share of the clips was seen.

    Raises:
        ValueError: If there is no such kind.
    """
    known = {kind.metric: kind for kind in KINDS}
    whole, _, percent = name.rpartition("_")
    if whole in known and whole.startswith("early") and percent.isdecimal():
        title = known[whole].title.removeprefix("early ")
        return known[whole]._replace(metric=name, title=f"{title} {percent} %")
    if name not in known:
        raise ValueError(f"{name}: no kind of accuracy")
    return known[name]


def _cell(row: Family, fact: str) -> str:
    value = row.shared(fact)
    if fact == "start":
        return "from scratch" if value == "scratch" else "pre-trained"
    return "" if value is None else str(value)


def _is_twin(row: Family, other: Family) -> bool:
    """Whether the other row is the same fine-tuning from scratch: same seeds and labelled clips."""
    same = all(row.shared(fact) == other.shared(fact) for fact in ("method", "labels", "label seed"))
    return same and row.shared("start") != other.shared("start") == "scratch"


def _spread(values: list[float], signed: bool = False) -> str:
    return plus_minus(*mean_sd(values), signed=signed) if values else ""


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(render(page.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
