"""What runs wrote, read back for pictures: every damaged file is one line that names the place."""

from __future__ import annotations

import csv
import difflib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skelcl.errors import InputError
from skelcl.files import from_cell

Numbers = NDArray[np.float64]


def read_confusion(file: Path) -> tuple[Numbers, list[str]]:
    """Counts (K, K) and class names of a ``confusion.csv``.

    Raises:
        InputError: There is no such file, or it is no confusion matrix.
    """
    header, rows = _table(file)
    names = header[1:]
    if [row[0] for _, row in rows] != names:
        raise InputError(f"{file}: no confusion matrix: its rows and its columns must be the same classes")
    counts = np.array([[_number(cell, file, line, name) for cell, name in _cells(row, names)] for line, row in rows])
    if not (np.isfinite(counts) & (counts >= 0)).all():
        raise InputError(f"{file}: no confusion matrix: counts are missing or negative")
    return counts, names


def read_features(file: Path) -> tuple[Numbers, NDArray[np.int64], list[str]]:
    """Features (N, D), labels (N,) and class names of a file that ``skelcl predict`` wrote.

    Raises:
        InputError: There is no such file, or it holds something else.
    """
    try:
        # numpy leaves a file open when it cannot read it, hence the stream of our own
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            features, label, names = (content[key] for key in ("features", "label", "class_names"))
    except FileNotFoundError as error:
        raise InputError(f"{file}: no such file; `skelcl predict` writes it") from error
    except Exception as error:  # whatever a damaged zip makes numpy raise
        raise InputError(f"{file}: not what `skelcl predict` writes, or damaged") from error
    if features.ndim != 2 or label.ndim != 1 or label.dtype.kind != "i" or features.dtype.kind != "f":
        raise InputError(f"{file}: not what `skelcl predict` writes (features {features.shape}, label {label.shape})")
    # Without a data module there are no names.
    return features, label, [str(name) for name in names] or [str(c) for c in range(int(label.max(initial=-1)) + 1)]


def read_per_class(run: Path, metric: str | None = None) -> tuple[list[str], dict[str, int], Numbers, str]:
    """One accuracy of each class from a ``per_class.csv``.

    Args:
        run: Folder of a test, or the file.
        metric: Column of the accuracy, for example ``test/top1``; by default the last of the whole test part.

    Returns:
        Class names; the number of test clips of each; accuracies (K,), NaN for classes without clips; the column.

    Raises:
        InputError: There is no such file or column, or a row is damaged.
    """
    file = _file(run, "per_class.csv", "`skelcl test` writes it")
    header, rows = _table(file)
    accuracies = [name for name in header[1:] if not name.endswith("/support")]
    whole = [name for name in accuracies if name.startswith("test/")] or accuracies
    if not whole:
        raise InputError(f"{file}: holds no accuracies of classes")
    metric = whole[-1] if metric is None else metric
    if metric not in accuracies:
        raise InputError(f"{file}: has no {metric}{_hint(metric, accuracies)}")
    column, support = header.index(metric), f"{metric.rpartition('/')[0]}/support"
    if support not in header:
        raise InputError(f"{file}: the column {support} is missing")
    clips = {}
    for line, row in rows:
        count = row[header.index(support)]
        if not count.isdecimal() or len(count) > 18:  # Python refuses to convert thousands of digits
            raise InputError(f"{file}, line {line}: {support} is {count[:40]!r}, not a number of clips")
        clips[row[0]] = int(count)
    values = np.array([_number(row[column], file, line, metric) for line, row in rows])
    return [row[0] for _, row in rows], clips, values, metric


def read_metric(run: Path, metric: str, x: str = "epoch") -> tuple[Numbers, Numbers]:
    """Steps or epochs (n,) and values (n,) of one metric of a run.

    Args:
        run: Folder of a run, or its ``metrics.csv``.
        metric: Name of the metric.
        x: Column that counts the course, ``epoch`` or ``step``.

    Raises:
        InputError: There is no such file or metric, or a row is damaged.
    """
    file = _file(run, "metrics.csv", "`skelcl fit` writes it")
    header, rows = _table(file)
    known = [name for name in header if name not in ("epoch", "step")]
    if metric not in known or x not in header:
        raise InputError(f"{file}: has no {metric if x in header else x}{_hint(metric, known)}")
    at, where = header.index(metric), header.index(x)
    filled = [(line, row) for line, row in rows if row[at]]
    found = [(_number(row[where], file, line, x), _number(row[at], file, line, metric)) for line, row in filled]
    if not found:
        raise InputError(f"{file}: holds no value of {metric}")
    places, values = np.array(found).T
    return places, values


def read_robustness(run: Path, judge: str | None = None) -> tuple[dict[str, tuple[Numbers, Numbers]], str]:
    """Accuracies of the learned encoder on damaged test clips from a ``results.json`` of ``skelcl evaluate``.

    Args:
        run: Folder of an evaluation, or the file.
        judge: ``knn``, ``linear`` or ``own``; by default the first that there is.

    Returns:
        Severities (n,) and accuracies (n,) of each corruption, in the order of the file, severity 0 being clean clips;
        and the judge.

    Raises:
        InputError: There is no such file, or it holds no such accuracies.
    """
    file = _file(run, "results.json", "`skelcl evaluate --protocols robustness` writes it")
    try:
        content = json.loads(file.read_text("utf-8"))
        rows = [row for row in content.get("robustness", []) if (row["encoder"], row["subset"]) == ("learned", "test")]
        points = [(row["judge"], row["corruption"], float(row["severity"]), float(row["top1"])) for row in rows]
        clean = {
            row["judge"]: float(row["top1"])
            for row in content.get("robustness_clean", [])
            if (row["encoder"], row["subset"]) == ("learned", "test")
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{file}: not the results of an evaluation, or damaged ones") from error
    judges = list(dict.fromkeys(name for name, *_ in points))
    if not judges:
        raise InputError(f"{file}: holds no accuracies on damaged clips; skelcl evaluate --protocols robustness")
    judge = judges[0] if judge is None else judge
    if judge not in judges:
        raise InputError(f"{file}: has no judge {judge}{_hint(judge, judges)}")
    start = [(0.0, clean[judge])] if judge in clean else []
    curves: dict[str, list[tuple[float, float]]] = {}
    for name, corruption, severity, top1 in points:
        if name == judge:
            curves.setdefault(corruption, [*start]).append((severity, top1))
    out = {}
    for corruption, curve in curves.items():
        severities, accuracies = np.array(sorted(curve)).T
        out[corruption] = (severities, accuracies)
    return out, judge


def read_early(run: Path, judge: str | None = None) -> tuple[Numbers, Numbers, str]:
    """Accuracies of the learned encoder on beginnings of the test clips, as ``skelcl evaluate`` wrote them.

    Args:
        run: Folder of an evaluation, or its ``results.json``.
        judge: ``knn``, ``linear`` or ``own``; by default the first that there is, the network's own classifier first.

    Returns:
        Percent of the clips seen (n,), rising, accuracies (n,), and the judge.

    Raises:
        InputError: There is no such file, or it holds no such accuracies.
    """
    from skelcl.evaluation.early import early_curve  # its room takes Lightning along, which no other file needs

    file = _file(run, "results.json", "`skelcl evaluate --protocols early` writes it")
    try:
        metrics = {str(name): float(value) for name, value in json.loads(file.read_text("utf-8"))["metrics"].items()}
        found = {name: early_curve(metrics, name) for name in ("own", "knn", "linear")}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{file}: not the results of an evaluation, or damaged ones") from error
    judges = [name for name, curve in found.items() if curve]
    if not judges:
        raise InputError(f"{file}: holds no accuracies on beginnings of clips; skelcl evaluate --protocols early")
    judge = judges[0] if judge is None else judge
    if judge not in judges:
        raise InputError(f"{file}: has no judge {judge}{_hint(judge, judges)}")
    percent, top1 = np.array(list(found[judge].items())).T
    return percent, top1, judge


def run_names(runs: Sequence[Path]) -> list[str]:
    """Short names of runs: what their paths do not share, but at least the folder.

    Raises:
        InputError: A run is given twice.
    """
    paths = [run.resolve().parent if run.suffix in (".csv", ".json") else run.resolve() for run in runs]
    if len(set(paths)) < len(paths):
        twice = next(run for run, path in zip(runs, paths, strict=True) if paths.count(path) > 1)
        raise InputError(f"{twice} is given twice")
    if len(paths) == 1:
        return ["/".join(paths[0].parts[-2:])]
    shared, shortest = 0, min(len(path.parts) for path in paths)
    while shared + 1 < shortest and len({path.parts[shared] for path in paths}) == 1:
        shared += 1
    return ["/".join(path.parts[shared:]) for path in paths]


def _file(run: Path, name: str, origin: str) -> Path:
    """The file of a run that was given by its folder or by the file itself."""
    file = run / name if run.is_dir() else run
    if not file.is_file():
        raise InputError(f"{file}: no such file; {origin} into the folder of the run")
    return file


def _table(file: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header, and number and cells of each further line."""
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            reader = csv.reader(stream)
            lines = [(reader.line_num, [from_cell(one) for one in row]) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: no table, such as `skelcl` writes") from error
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    if len(lines) < 2:
        raise InputError(f"{file}: no table: it has {len(lines)} lines, a header and rows are needed")
    (_, header), *rows = lines
    for line, row in rows:
        if len(row) != len(header):
            raise InputError(f"{file}, line {line}: {len(row)} cells, but the header has {len(header)}")
    return header, rows


def _cells(row: Sequence[str], names: Sequence[str]) -> Iterable[tuple[str, str]]:
    return zip(row[1:], names, strict=True)


def _number(text: str, file: Path, line: int | None, name: str) -> float:
    """A cell as a number, NaN when empty."""
    place = f"{file}: {name}" if line is None else f"{file}, line {line}: {name}"
    try:
        value = float(text) if text else math.nan
    except ValueError:
        raise InputError(f"{place} is {text!r}, not a number") from None
    return value


def _hint(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f": did you mean {close[0]!r}?" if close else f"; there are {', '.join(known) or 'none'}"
