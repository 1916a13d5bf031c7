"""Poses in tables: CSV files, long or wide."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from pathlib import Path

import numpy as np

from skelcl.data.formats.containers import bounded, decode, read_bytes, reading, short_repr
from skelcl.data.poses.contents import MOST_BODIES, Poses, positions
from skelcl.data.recording import ReadError
from skelcl.skeleton import Skeleton


def read(file: Path, channels: int | None, layout: Skeleton) -> Poses:
    """Reads a clip.

    Args:
        file: CSV file with a row for each joint (long) or each frame of a person (wide).
        channels: Coordinates per joint, 2 or 3; None takes what there is.
        layout: Layout of the joints, which gives the columns or rows their order.

    Raises:
        ReadError: A column is missing, or a row is wrong.
    """
    header, rows = table(file)
    if not rows:
        raise ReadError("empty", f"{file}: holds no rows")
    wanted = channels or (3 if any(re.fullmatch(r"z|.*[_ ]z", name) for name in header) else 2)
    axes = ("x", "y", "z")[:wanted]
    names = {name: joint for joint, name in enumerate(layout.joints)}
    long = "joint" in header
    where = {name.replace("_", " "): name for name in header}
    columns: list[list[str]] = [list(axes)] if long else [[f"{joint} {axis}" for axis in axes] for joint in names]
    needed = [*(["frame", "joint"] if long else []), *(name for group in columns for name in group)]
    if lacking := [name for name in needed if name not in where]:
        remedy = "" if long else f" for the layout {layout.name}; --layout names another"
        raise ReadError("columns", f"{file}: the column {lacking[0].replace(' ', '_')!r} is missing{remedy}", 1)
    scores = ["confidence"] if long else [f"{joint} confidence" for joint in names]
    sure = any(name in where for name in scores)
    frame = positions(
        [_whole(row.get("frame", str(n)), file, line, "frame") for n, (line, row) in enumerate(rows)], file
    )
    persons = [row.get("person", "") for _, row in rows]
    kept = {person for person, _ in Counter(persons).most_common(MOST_BODIES)}
    people = {person: m for m, person in enumerate(sorted(kept, key=lambda text: (len(text), text)))}
    shape = (len(people), max(frame) + 1, layout.num_joints, wanted + 1)
    bounded(4 * math.prod(shape), file)
    out = np.full(shape, np.nan, np.float32)
    seen: set[tuple[int, int, int]] = set()
    for t, person, (line, row) in zip(frame, persons, rows, strict=True):
        joints = [_joint(row["joint"], names, layout, file, line)] if long else range(layout.num_joints)
        for joint, group, score in zip(joints, columns, scores, strict=True):
            if person not in people:
                continue
            cell = (people[person], t, joint)
            if cell in seen:
                raise ReadError("twice", f"{file}: frame {row.get('frame')} has {layout.joints[joint]!r} twice", line)
            seen.add(cell)
            values = [_real(row[where[name]], file, line, name) for name in group]
            values.append(_real(row[where[score]], file, line, score) if score in where else 1.0)
            with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is infinite, hence missing
                out[cell] = values
    confidence = out[..., wanted] if sure else None
    return Poses(out[..., :wanted], confidence, others=len(set(persons)) - len(kept))


def _joint(text: str, names: dict[str, int], layout: Skeleton, file: Path, line: int) -> int:
    name = text.lower().replace("_", " ")
    if name in names:
        return names[name]
    # Python refuses to convert thousands of digits; a joint has three.
    if re.fullmatch(r"\d{1,3}", text) and int(text) < len(names):
        return int(text)
    raise ReadError(
        "joint", f"{file}: the layout {layout.name} has no joint {short_repr(text)}; --layout names another", line
    )


def _real(text: str, file: Path, line: int, column: str) -> float:
    try:
        return float(text) if text else np.nan
    except ValueError:
        raise ReadError("number", f"{file}: {column} holds {short_repr(text)}, which is no number", line) from None


def _whole(text: str, file: Path, line: int, column: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise ReadError("number", f"{file}: {column} holds {short_repr(text)}, which is no whole number", line)
    return int(text)


def table(file: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Header and (line, row) of a CSV file with as many cells in each row as in the header.

    Raises:
        ReadError: It has not, or cannot be read.
    """
    reader = csv.reader(io.StringIO(decode(read_bytes(file), file), newline=""))
    with reading(file):
        header = [name.strip().lower() for name in next(reader, [])]
        rows = []
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(header):
                raise ReadError("csv", f"{file}: {len(cells)} cells under a header of {len(header)}", reader.line_num)
            row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
            rows.append((reader.line_num, row))
    if not header or len(set(header)) != len(header):
        raise ReadError("csv", f"{file}: {'a column name occurs twice' if header else 'the file is empty'}", 1)
    return header, rows
