"""``skelcl results``: tested runs in one table, a row for each family of runs that differ in nothing but the seed."""

from __future__ import annotations

from pathlib import Path

from skelcl.errors import InputError
from skelcl.evaluation.results import csv_text, families, read_results, table
from skelcl.files import atomic_write


def results(folders: list[Path], output: Path | None = None) -> None:
    """Collect what `skelcl test` and `skelcl evaluate` found: a row for each run, seeds of the same run as mean ± sd.

    Runs are the same if their configs are, but for the seed. Accuracies in percent; different protocols never share a
    column, the random encoder that a test judges beside the learned one has a row of its own, and rows that were not
    tested on the same clips, with the same labels or the same choice of the epoch have different letters.

    Args:
        folders: Folders in which results.json are looked for, at any depth.
        output: File for the table, .md as shown, .csv with all accuracies (0…1) and all that is known of each run.

    Raises:
        InputError: If a folder holds no results, or a file cannot be used.
    """
    if output is not None and output.suffix not in (".csv", ".md"):
        raise InputError(f"{output}: the name of a table ends in .csv or .md")
    found = {result.file: result for folder in folders for result in read_results(Path(folder))}
    rows, older = families(list(found.values()))
    text = table(rows)
    if older:
        text += f"\n{older} older results of the same run, seed and epoch are left out.\n"
    print(text, end="")
    if output is not None:
        with atomic_write(output) as part:
            part.write_text(text if output.suffix == ".md" else csv_text(rows), encoding="utf-8", newline="")
        print(f"wrote {output}")
