"""Poses in tables: CSV files, long or wide."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skelcl.data.formats.containers import bounded, decode, read_bytes, reading, short_repr
from skelcl.data.poses.contents import MOST_BODIES, Poses, Wanted
from skelcl.data.poses.frames import positions
from skelcl.data.recording import ReadError
from skelcl.skeleton import Skeleton

FRAME = (
    "frame", "frame idx", "frame id", "frame index", "frame number", "frame num", "frame no", "frame nr", "frames",
    "fnum",
)  # fmt: skip
TIME = ("time", "timestamp", "time s", "time ms", "time (s)", "time (ms)", "timestamp ms", "timestamp (ms)")
PERSON = (
    "person", "person id", "person idx", "track", "track id", "track idx", "tracking id", "body", "body id", "pid",
    "individual", "individuals", "instance", "instance id",
)  # fmt: skip
JOINT = (
    "joint", "joint id", "joint idx", "joint name", "landmark", "landmark id", "landmarkid", "landmark idx",
    "landmark index", "landmark name", "keypoint", "keypoint id", "keypoint idx", "keypoint name", "bodypart",
    "bodyparts", "body part", "marker", "node",
)  # fmt: skip
CONFIDENCE = ("confidence", "conf", "score", "likelihood", "visibility", "probability", "prob", "v")
"""What a column is called, as :func:`plain` spells it."""
_LARGE = 1e15
"""Numbers of frames, and times, beyond this are no longer exact."""


def plain(name: str) -> str:
    """A name without regard to capitals, and with one space for underscores, dots and hyphens."""
    return re.sub(r"[\s_.-]+", " ", name.lower()).strip()


@dataclass(frozen=True)
class _Columns:
    """Places of the columns in a row; −1 where there is none.

    Args:
        frame: Number of the frame, or time.
        person: Person.
        joint: Joint, of a long table.
        axes: Coordinates, (1 or V, C).
        confidence: How sure they are, (1 or V).
        notes: What had to be concluded.
    """

    frame: int
    person: int
    joint: int
    axes: np.ndarray
    confidence: np.ndarray
    notes: dict[str, str]


def read(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads a clip.

    Args:
        files: CSV file with a row for each joint (long) or each frame of a person (wide).
        wanted: Channels to read, 2 or 3, None for what there is, and the layout, which gives the joints their order.

    Raises:
        ReadError: A column is missing, or a row is wrong.
    """
    (file,), layout = files, wanted.layout
    if layout is None:
        raise ValueError("a table cannot be read without its layout")
    header, lines, rows = table(file)
    if not rows:
        raise ReadError("empty", f"{file}: holds no rows")
    columns = _understand(header, wanted.channels, layout, file)
    notes = columns.notes
    cells = list(zip(*rows, strict=True))
    channels = columns.axes.shape[1]
    persons = cells[columns.person] if columns.person >= 0 else ("",) * len(rows)
    if columns.frame < 0:
        if len(set(persons)) > 1:
            found = f"several persons, but no column that tells the frame ({', '.join(FRAME[:4])}, …)"
            raise ReadError("columns", f"{file}: has {found}", 1)
        frame, note = list(range(len(rows))), ""
    else:
        frame, note = positions(_order(cells[columns.frame], file, lines, header[columns.frame]).tolist(), file)
    if note:
        notes["frames"] = f"{file}: frames are {note}"
    kept = {person for person, _ in Counter(persons).most_common(MOST_BODIES)}
    people = {person: m for m, person in enumerate(sorted(kept, key=lambda text: (len(text), text)))}
    shape = (len(people), max(frame) + 1, layout.num_joints, channels + 1)
    bounded(4 * math.prod(shape), file)
    body = np.array([people.get(person, -1) for person in persons])
    rows_of = body * shape[1] + np.array(frame)
    values = np.ones((len(rows), *columns.axes.shape[:1], channels + 1))
    for place, column in np.ndenumerate(columns.axes):
        values[:, place[0], place[1]] = _numbers(cells[column], file, lines, header[column])
    for v, column in enumerate(columns.confidence.tolist()):
        if column >= 0:
            values[:, v, channels] = _numbers(cells[column], file, lines, header[column])
    if columns.joint >= 0:
        joint = _joints(cells[columns.joint], layout, file, lines)
        rows_of = rows_of * layout.num_joints + joint
    used = np.flatnonzero(body >= 0)
    _, first = np.unique(rows_of[used], return_index=True)
    if len(first) < len(used):
        n = int(np.setdiff1d(used, used[first])[0])
        which = "a person" if columns.joint < 0 else repr(layout.joints[joint[n]])
        frame_text = cells[columns.frame][n] if columns.frame >= 0 else n
        hint = "" if columns.person >= 0 else f"; no column tells persons apart ({', '.join(PERSON[:5])}, …)"
        raise ReadError("twice", f"{file}: frame {frame_text} has {which} twice{hint}", lines[n])
    out = np.full(shape, np.nan, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold is infinite, hence missing
        if columns.joint >= 0:
            out.reshape(-1, channels + 1)[rows_of[used]] = values[used, 0]
        else:
            out.reshape(-1, *shape[2:])[rows_of[used]] = values[used]
    sure = out[..., channels] if (columns.confidence >= 0).any() else None
    tracks = tuple(people) if columns.person >= 0 else ()
    return Poses(out[..., :channels], sure, others=len(set(persons)) - len(kept), notes=notes, tracks=tracks)


def _understand(header: Sequence[str], channels: int | None, layout: Skeleton, file: Path) -> _Columns:
    """What each column of a table is."""
    where = {plain(name): n for n, name in enumerate(header)}
    if len(where) < len(header):
        twice = next(name for n, name in enumerate(header) if where[plain(name)] != n)
        raise ReadError("csv", f"{file}: the column {short_repr(twice)} occurs twice", 1)
    joints = [plain(joint) for joint in layout.joints]
    channels = channels or (3 if any(re.fullmatch(r"z|.* z|z\d+", name) for name in where) else 2)

    def first(*names: str) -> int:
        return next((where[name] for name in names if name in where), -1)

    time = first(*TIME)
    frame, person, joint = first(*FRAME), first(*PERSON), first(*JOINT)
    if joint >= 0:
        axes = [[first(axis, f"landmark {axis}", f"keypoint {axis}", f"joint {axis}") for axis in "xyz"[:channels]]]
        sure = [first(*CONFIDENCE)]
    else:
        start = 0 if "x0" in where else 1  # columns x1, y1, z1, v1 count the joints in the order of the layout
        axes = [[first(f"{name} {a}", f"{a}{v}") for a in "xyz"[:channels]] for v, name in enumerate(joints, start)]
        sure = [
            first(*(f"{name} {word}" for word in CONFIDENCE), f"v{v}", f"visibility{v}", f"c{v}")
            for v, name in enumerate(joints, start)
        ]
    for v, group in enumerate(axes):
        if -1 in group:
            axis = "xyz"[group.index(-1)]
            name = axis if joint >= 0 else f"{joints[v]} {axis}".replace(" ", "_")
            remedy = "" if joint >= 0 else f" for the layout {layout.name}; --layout names another"
            found = ", ".join(header[:6]) + ", …" * (len(header) > 6)
            raise ReadError("columns", f"{file}: the column {name!r} is missing{remedy} (the columns are {found})", 1)
    notes = {}
    if frame < 0:
        told = f"no column tells the frame ({', '.join(FRAME[:4])}, …)"
        if joint >= 0 and time < 0:
            raise ReadError("columns", f"{file}: {told}", 1)
        notes["frames"] = f"{file}: {told}: {'successive times' if time >= 0 else 'successive rows'} are frames"
    understood = {time, frame, person, joint, *sure, *(column for group in axes for column in group)}
    if unknown := [name for n, name in enumerate(header) if n not in understood]:
        listed = ", ".join(map(short_repr, unknown[:8])) + (f" and {len(unknown) - 8} more" if len(unknown) > 8 else "")
        notes["columns"] = f"{file}: columns that are not understood were left out: {listed}"
    return _Columns(time if frame < 0 else frame, person, joint, np.array(axes), np.array(sure), notes)


def _joints(cells: Sequence[str], layout: Skeleton, file: Path, lines: Sequence[int]) -> np.ndarray:
    """Places of joints that are given by name or place."""
    names = {plain(name): joint for joint, name in enumerate(layout.joints)}
    known: dict[str, int] = {}
    for text, line in zip(cells, lines, strict=True):
        if text in known:
            continue
        joint = names.get(plain(text), -1)
        # Python refuses to convert thousands of digits; a joint has three.
        if joint < 0 and re.fullmatch(r"\d{1,3}", text) and int(text) < len(names):
            joint = int(text)
        if joint < 0:
            missing = f"the layout {layout.name} has no joint {short_repr(text)}; --layout names another"
            raise ReadError("joint", f"{file}: {missing}", line)
        known[text] = joint
    return np.array([known[text] for text in cells])


def _numbers(cells: Sequence[str], file: Path, lines: Sequence[int], column: str) -> np.ndarray:
    """A column, (n,) float64, NaN for empty cells."""
    try:
        return np.array([float(text) if text else math.nan for text in cells])
    except ValueError:
        n = next(n for n, text in enumerate(cells) if text and not _is_number(text))
        found = f"{column} holds {short_repr(cells[n])}, which is no number"
        raise ReadError("number", f"{file}: {found}", lines[n]) from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _order(cells: Sequence[str], file: Path, lines: Sequence[int], column: str) -> np.ndarray:
    """Numbers of frames, or times."""
    values = _numbers(cells, file, lines, column)
    wrong = ~(np.abs(values) < _LARGE)
    if plain(column) in FRAME:
        wrong |= (values < 0) | (values != np.floor(values))
    if wrong.any():
        n = int(np.argmax(wrong))
        kind = "whole number" if plain(column) in FRAME else "number"
        raise ReadError("number", f"{file}: {column} holds {short_repr(cells[n])}, which is no {kind}", lines[n])
    return values


def table(file: Path) -> tuple[list[str], list[int], list[list[str]]]:
    """Header, lines and cells of a CSV file with as many cells in each row as in the header.

    Raises:
        ReadError: It has not, or cannot be read.
    """
    reader = csv.reader(io.StringIO(decode(read_bytes(file), file), newline=""))
    with reading(file):
        header = [name.strip().lower() for name in next(reader, [])]
        lines, rows = [], []
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) > len(header) and (repeated := _repeated(header, cells)):
                lines += [reader.line_num] * len(repeated)
                rows += repeated
                continue
            if len(cells) != len(header):
                raise ReadError("csv", f"{file}: {len(cells)} cells under a header of {len(header)}", reader.line_num)
            lines.append(reader.line_num)
            rows.append([cell.strip() for cell in cells])
    if not header or len(set(header)) != len(header):
        raise ReadError("csv", f"{file}: {'a column name occurs twice' if header else 'the file is empty'}", 1)
    return header, lines, rows


def _repeated(header: Sequence[str], cells: Sequence[str]) -> list[list[str]]:
    """Rows of a long table whose joints stand side by side: the columns from the joint on, again and again."""
    start = next((n for n, name in enumerate(header) if plain(name) in JOINT), len(header))
    width = len(header) - start
    if not width or (len(cells) - start) % width:
        return []
    shared = [cell.strip() for cell in cells[:start]]
    return [[*shared, *(cell.strip() for cell in cells[at : at + width])] for at in range(start, len(cells), width)]
