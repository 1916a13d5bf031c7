"""The text of PKU-MMD's skeleton, label and split files: readers and writers.

The readers take nothing for granted: a row that is not what the format says is an error with its number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from skelcl.data.formats.pku_release import ACTIONS, PRESENT, Part
from skelcl.data.recording import ReadError
from skelcl.skeleton import NTU25

BOM = b"\xef\xbb\xbf"
"""Byte order mark of UTF-8, which editors put before a text."""

_ANY_NAME = re.compile(r"(?<![0-9A-Za-z])(?:\d{4}|A\d{2}N\d{2})-[LMR](?![0-9A-Za-z])")
_NUMBERS = 2 * NTU25.num_joints * 3  # of a row
_MAX_ROWS = 999  # of a label file: ids have three digits, so that they sort like the rows
# What C and Microsoft runtimes print for numbers that are none, beyond what Python understands.
_NOT_A_NUMBER = re.compile(rb"[-+]?(1\.#(QNAN|SNAN|IND|INF)\d*|nan\((ind|snan)\))", re.IGNORECASE)
_INTEGER = re.compile(r"[-+]?\d{1,9}")


class Interval(NamedTuple):
    """One row of a label file, as written.

    Args:
        label: Class, counted from 0.
        start: First frame.
        end: Last frame, or the one after it; the files do not say.
        line: Line of the file, counted from 1.
    """

    label: int
    start: int
    end: int
    line: int


def parse_skeleton(data: bytes, place: str) -> tuple[np.ndarray, int | None]:
    """Reads a skeleton file: a row per frame, 150 numbers separated by blanks, body 1 then body 2, x y z per joint.

    Args:
        data: Content of the file; CRLF, tabs, a byte order mark and empty lines at the end are harmless.
        place: Name of the file in error messages.

    Returns:
        Coordinates (2, T, 25, 3) float32, zeros or not finite where nothing was seen; then the line of a last row that
        is cut off and was left out, or None.

    Raises:
        ReadError: The file is empty, a row has more or fewer numbers, or something is no number.
    """
    lines = data.removeprefix(BOM).rstrip().splitlines()
    if not lines:
        raise ReadError("empty", f"{place}: the file is empty")
    unended = data.rstrip(b" \t")[-1:] not in (b"\n", b"\r")
    # No more rows than the bytes can hold, so that a file of short lines reserves nothing.
    rows = np.empty((min(len(lines), len(data) // (2 * _NUMBERS - 1) + 1), _NUMBERS), np.float64)
    truncated = None
    for t, line in enumerate(lines):
        last = t == len(lines) - 1
        words = line.split()
        if len(words) < _NUMBERS and last and t:
            truncated = t + 1
            break
        if len(words) != _NUMBERS:
            raise ReadError("columns", f"{place}: row {t + 1} has {len(words)} instead of {_NUMBERS} numbers", t + 1)
        try:
            rows[t] = list(map(float, words))
            plain = b"_" not in line  # which Python allows between digits
        except ValueError:
            plain = False
        if not plain:
            column = _parse_words(words, rows[t])
            if column == _NUMBERS - 1 and last and unended and t:
                truncated = t + 1
                break
            if column is not None:
                word = words[column].decode("ascii", "backslashreplace")
                raise ReadError(
                    "number", f"{place}: row {t + 1}, column {column + 1}: {word!r:.40} is no number", t + 1
                )
    rows = rows[: len(lines) - (truncated is not None)]
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes infinite, hence missing
        joints = rows.astype(np.float32)
    return joints.reshape(len(rows), 2, NTU25.num_joints, 3).swapaxes(0, 1), truncated


def _parse_words(words: Sequence[bytes], row: np.ndarray) -> int | None:
    """Fills a row word by word, NaN for the spellings of none; returns the column of the first that is no number."""
    for column, word in enumerate(words):
        if _NOT_A_NUMBER.fullmatch(word):
            row[column] = np.nan
            continue
        try:
            row[column] = float(word)
        except ValueError:
            return column
        if b"_" in word:
            return column
    return None


def parse_labels(data: bytes, place: str, part: Part) -> list[Interval]:
    """Reads a label file: ``label,start,end,confidence`` per row, in any order, overlapping or not.

    Args:
        data: Content of the file; empty lines and commas at the end of a line are harmless. The confidence may be
            absent and is not used.
        place: Name of the file in error messages.
        part: Part of the data set; it decides which labels there are.

    Returns:
        The rows in the order of the file, as they are written.

    Raises:
        ReadError: The file is empty, a row has another form, or a label is none of this part.
    """
    intervals: list[Interval] = []
    for number, raw in enumerate(data.removeprefix(BOM).splitlines(), start=1):
        text = raw.decode("utf-8", "backslashreplace").strip()
        if not text:
            continue
        fields = [field.strip() for field in text.rstrip(", \t").split(",")]
        if len(fields) not in (3, 4) or not all(map(_INTEGER.fullmatch, fields)):
            message = f"{place}: expected 'label,start,end,confidence' in whole numbers, found {text!r:.60}"
            raise ReadError("label_row", message, number)
        label, start, end = map(int, fields[:3])
        if not 1 <= label <= len(ACTIONS):
            raise ReadError("label", f"{place}: label {label} is outside 1…{len(ACTIONS)}", number)
        if label - 1 not in PRESENT[part]:
            raise ReadError("label", f"{place}: part {part} has no label {label} ({ACTIONS[label - 1]})", number)
        if len(intervals) == _MAX_ROWS:
            raise ReadError("label_row", f"{place}: more than {_MAX_ROWS} rows", number)
        intervals.append(Interval(label - 1, start, end, number))
    if not intervals:
        raise ReadError("empty", f"{place}: the file is empty")
    return intervals


def parse_split(data: bytes, place: str) -> dict[str, list[str]]:
    """Reads a split file: a heading and a line of names, twice.

    The headings begin with ``Train`` and ``Valid``, whatever follows (the distributed ones are misspelt); names are
    separated by commas or blanks, and lines may end in a comma.

    Args:
        data: Content of the file.
        place: Name of the file in error messages.

    Returns:
        ``train`` and ``test`` → names of videos in the order of the file.

    Raises:
        ReadError: It is no split file, or holds something else than names.
    """
    lists: dict[str, list[str]] = {}
    part: list[str] | None = None
    for number, raw in enumerate(data.removeprefix(BOM).splitlines(), start=1):
        line = raw.decode("utf-8", "replace").strip()
        heading = re.match(r"(train|valid)", line, re.IGNORECASE)
        if heading:
            key = "train" if heading[1].lower() == "train" else "test"
            if key in lists:
                raise ReadError("split", f"{place}: a second heading {line!r:.40}", number)
            part = lists[key] = []
            continue
        words = [word for word in re.split(r"[,\s]+", line) if word]
        if words and part is None:
            raise ReadError("split", f"{place}: expected the heading 'Training videos:', found {line!r:.40}", number)
        wrong = [word for word in words if not _ANY_NAME.fullmatch(word)]
        if wrong:
            raise ReadError("split", f"{place}: {wrong[0]!r:.40} is no name of a video, such as 0002-L", number)
        if part is not None:
            part += words
    if set(lists) != {"train", "test"} or not all(lists.values()):
        raise ReadError("split", f"{place}: expected names under 'Training videos:' and under 'Validation videos:'")
    return lists


def write_skeleton(file: str | Path, joints: np.ndarray) -> None:
    """Writes a skeleton file as the data set does: six decimals, all rows but the first with a leading blank.

    Args:
        file: File to write.
        joints: At most two bodies, (M, T, 25, 3); what is not finite, and an absent body, becomes zeros.

    Raises:
        ValueError: The array has another shape, or no frame.
    """
    if joints.ndim != 4 or joints.shape[0] > 2 or not joints.shape[1] or joints.shape[2:] != (NTU25.num_joints, 3):
        raise ValueError(f"joints are {joints.shape}, not (at most 2, T, {NTU25.num_joints}, 3)")
    rows = np.zeros((joints.shape[1], 2, NTU25.num_joints, 3))
    rows[:, : len(joints)] = np.nan_to_num(joints, nan=0.0, posinf=0.0, neginf=0.0).swapaxes(0, 1)
    form = " ".join(["%.6f"] * _NUMBERS)
    text = "\n ".join(form % tuple(row) for row in rows.reshape(len(rows), -1).tolist())
    Path(file).write_text(f"{text}\n", "utf-8", newline="\n")


def write_labels(file: str | Path, intervals: Sequence[Interval]) -> None:
    """Writes a label file: a row per interval in the given order, confidence 1; the line numbers are not used."""
    rows = (f"{interval.label + 1},{interval.start},{interval.end},1\n" for interval in intervals)
    Path(file).write_text("".join(rows), "utf-8", newline="\n")


def write_split(file: str | Path, train: Sequence[str], test: Sequence[str]) -> None:
    """Writes a split file as the data set spells it, trailing commas and misspelt heading included."""
    lists = f"Training videos: \n{', '.join(train)}, \nValidataion videos:\n{', '.join(test)},\n"
    Path(file).write_text(lists, "utf-8", newline="\n")
