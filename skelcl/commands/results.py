"""``skelcl results``: tested runs in one table, a row for each family of runs that differ in nothing but the seed."""

from __future__ import annotations

from pathlib import Path

from skelcl.errors import InputError
from skelcl.evaluation.comparison import csv_text, markdown
from skelcl.evaluation.families import families
from skelcl.evaluation.tested_runs import read_results, record_text
from skelcl.files import atomic_write


def results(places: list[Path], output: Path | None = None) -> None:
    """Collect what `skelcl test` and `skelcl evaluate` found: a row for each run, seeds of the same run as mean ± sd.

    Runs are the same if their configs are, but for the seed. Accuracies in percent; different protocols never share a
    column, the random encoder that a test judges beside the learned one has a row of its own, and rows that were not
    tested on the same clips, with the same labels or the same choice of the epoch have different letters.

    A record holds all that the tables need of every run, a few kilobytes each and no folder of the machine. It gives
    the same tables as the runs themselves, wherever they are.

    Args:
        places: Folders in which results.json are looked for, at any depth, and records.
        output: File for the table, .md as shown, .csv with all accuracies (0…1) and all that is known of each run; or
            .json for the record.

    Raises:
        InputError: If a place holds no results, or a file cannot be used.
    """
    if output is not None and output.suffix not in (".csv", ".json", ".md"):
        raise InputError(f"{output}: the name of a table ends in .csv or .md, that of a record in .json")
    found = {record_text([result]): result for place in places for result in read_results(Path(place))}
    rows, older = families(list(found.values()))
    text = markdown(rows)
    if older:
        text += f"\n{older} older results of the same run, seed and epoch are left out.\n"
    print(text, end="")
    if output is not None:
        contents = {".md": lambda: text, ".csv": lambda: csv_text(rows), ".json": lambda: record_text(found.values())}
        with atomic_write(output) as part:
            part.write_text(contents[output.suffix](), encoding="utf-8", newline="")
        print(f"wrote {output}")
