"""The text of NTU RGB+D's ``.skeleton`` files: reader and writer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skelcl.data.bodies import BodyFrames
from skelcl.data.recording import ReadError
from skelcl.skeleton import NTU25

MAX_COUNT = 100_000
"""A higher count is damage, 300 frames the most that a recording has."""

_LINES = 2 + NTU25.num_joints
"""Lines of a body: header, number of joints, joints."""
_PLAIN = b"0123456789+-.eE \n"
# What C and Microsoft runtimes print for numbers that are none.
_NOT_A_NUMBER = re.compile(
    rb"[-+]?(1\.#(QNAN|SNAN|IND|INF)\d*|nan(\((ind|snan)\))?|inf(inity)?)", re.IGNORECASE
)  # fmt: skip


@dataclass(frozen=True)
class SkeletonFile:
    """What a ``.skeleton`` file holds.

    Args:
        bodies: All bodies of all frames; slots and frames are those of the file.
        ids: Body id of each track; two tracks have one id when a frame names it twice.
        n_frames_declared: Frames that the first line claims.
        warnings: Oddities that were accepted.
    """

    bodies: BodyFrames
    ids: tuple[int, ...]
    n_frames_declared: int
    warnings: list[str]


def parse(data: bytes, place: str, salvage: bool = False) -> SkeletonFile:
    """Turns the bytes of one file into body tracks; any deviation from the format is an error, nothing is guessed.

    Only x, y and z are kept; the other nine values of a joint, and of a header all but the id, are counted. Ids remain
    integers: they lie above 2^56, where neighbouring float64 are 16 apart and people would merge. Values that are not
    finite are NaN. CRLF, tabs, repeated and trailing blanks and a UTF-8 byte order mark are allowed.

    Args:
        data: Content of the file.
        place: Name of the file in error messages.
        salvage: Keep the complete frames of a file that ends too early.

    Returns:
        The tracks.

    Raises:
        ReadError: The content is not in the format.
    """
    text = _Text(data, place)
    declared = num_frames = text.count(0, "number of frames")
    line = 1
    heads: list[int] = []  # per body of a frame, as the three lists below
    frames: list[int] = []
    slots: list[int] = []
    keys: list[tuple[int, int]] = []  # id, and how often the frame had it before
    warnings: list[str] = []
    whole = frame = 0
    try:
        for frame in range(declared):
            whole = len(heads)
            named: dict[int, int] = {}
            size = text.count(line, "number of bodies")
            line += 1
            for slot in range(size):
                body = text.body(line)
                heads.append(line)
                frames.append(frame)
                slots.append(slot)
                keys.append((body, named.get(body, 0)))
                named[body] = keys[-1][1] + 1
                line += _LINES
    except ReadError as error:
        if not salvage or error.reason != "truncated" or frame == 0:
            raise
        for values in (heads, frames, slots, keys):
            del values[whole:]
        num_frames = frame
        warnings.append(f"the file ends in line {error.line}: {frame} of {declared} frames were kept")
    else:
        if line < len(text):
            raise text.error("leftover", line, f"{text.shown(line)} follows the last of {declared} frames")
    joints = text.joints(heads)
    tracks: dict[tuple[int, int], int] = {}
    track = [tracks.setdefault(key, len(tracks)) for key in keys]
    for body in sorted({body for body, before in tracks if before}):
        warnings.append(f"body id {body} occurs several times in one frame: they became tracks of their own")
    bodies = BodyFrames(
        joints, np.array(frames, np.int64), np.array(slots, np.int64), np.array(track, np.int64), num_frames
    )
    return SkeletonFile(bodies, tuple(body for body, _ in tracks), declared, warnings)


class _Text:
    """Lines and words of a file as places in its bytes; words are found and converted for the whole file at once."""

    def __init__(self, data: bytes, place: str) -> None:
        self.place = place
        # Dropping every CR takes a fifth of the time of replacing CRLF; one inside a line can only make it illegal.
        data = data.removeprefix(b"\xef\xbb\xbf").translate(None, b"\r")
        if not data.strip():
            raise ReadError("empty", f"{place}: the file is empty")
        # Whoever cuts a file rarely hits the end of a line: a broken last line without one is a sign of that.
        self.unfinished = not data.rstrip(b" \t").endswith(b"\n")
        data = data.rstrip() + b"\n"
        if data.translate(None, _PLAIN):
            data = self._spelled(data)
        self._split(data)
        if (self.end == self.start).any():
            self._split(b"\n".join(b" ".join(row.split()) for row in data.split(b"\n")))

    def _split(self, data: bytes) -> None:
        self.data = data
        self.bytes = np.frombuffer(data, np.uint8)
        self.end = np.flatnonzero(self.bytes <= 32)
        self.start = np.concatenate([[0], self.end[:-1] + 1])
        last = np.flatnonzero(self.bytes[self.end] == 10)
        self.first = np.concatenate([[0], last[:-1] + 1])
        self.widths = (last + 1 - self.first).tolist()  # words of each line
        self.starts, self.ends = self.start[self.first].tolist(), self.end[last].tolist()

    def _spelled(self, data: bytes) -> bytes:
        """The same lines with single blanks and one spelling for what is no number."""
        rows = []
        for number, row in enumerate(data.split(b"\n")):
            words = row.split()
            if row.translate(None, _PLAIN):
                for n, word in enumerate(words):
                    if not word.translate(None, _PLAIN):
                        continue
                    if not _NOT_A_NUMBER.fullmatch(word):
                        why = "has a decimal comma" if b"," in word else "is no number"
                        raise ReadError("number", f"{self.place}: {_quoted(word)} {why}", number + 1)
                    words[n] = b"nan"
            rows.append(b" ".join(words))
        return b"\n".join(rows)

    def __len__(self) -> int:
        return len(self.widths)

    def shown(self, line: int) -> str:
        return _quoted(self.data[self.starts[line] : self.ends[line]])

    def error(self, reason: str, line: int, message: str) -> ReadError:
        if self.unfinished and line >= len(self) - 1:
            reason, message = "truncated", "the file ends within a line"
        return ReadError(reason, f"{self.place}: {message}", line + 1)

    def need(self, line: int) -> None:
        if line >= len(self):
            raise ReadError("truncated", f"{self.place}: the file ends too early", len(self))

    def count(self, line: int, what: str) -> int:
        self.need(line)
        word = self.data[self.starts[line] : self.ends[line]]
        if not word.isdigit() or len(word) > 20 or (number := int(word)) > MAX_COUNT:
            raise self.error("count", line, f"{self.shown(line)} is not a {what}, 0 to {MAX_COUNT}")
        return number

    def body(self, line: int) -> int:
        """Checks the lines of a body and returns its id."""
        self.need(line)
        if self.widths[line] != 10:
            raise self.error("header", line, f"not an NTU file, {self.shown(line)} is not a body header of 10 values")
        word = self.data[self.starts[line] : self.end[self.first[line]]]
        if not word.isdigit() or len(word) > 20:
            raise self.error("header", line, f"body id {_quoted(word)} is not a whole number")
        if (joints := self.count(line + 1, "number of joints")) != NTU25.num_joints:
            raise self.error("joint_count", line + 1, f"not an NTU file, {joints} joints instead of 25")
        if self.widths[line + 2 : line + _LINES] != _JOINT_WIDTHS:
            for n in range(line + 2, line + _LINES):
                self.need(n)
                if self.widths[n] != 12:
                    raise self.error("joint", n, f"not an NTU file, {self.shown(n)} is not a joint of 12 values")
        return int(word)

    def joints(self, heads: Sequence[int]) -> np.ndarray:
        """Coordinates of the bodies whose headers are in these lines, (K, 25, 3) float32."""
        lines = np.array(heads, np.int64)[:, None] + np.arange(2, _LINES)
        words = (self.first[lines][..., None] + np.arange(3)).ravel()
        values, exact = decimals(self.bytes, self.start[words], self.end[words])
        for n in np.flatnonzero(~exact).tolist():
            word = self.data[self.start[words[n]] : self.end[words[n]]]
            try:
                values[n] = float(word)
            except ValueError:
                line = int(lines.flat[n // 3])
                raise self.error("number", line, f"{_quoted(word)} is no number") from None
        with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes infinite, hence missing
            joints = values.astype(np.float32).reshape(-1, NTU25.num_joints, 3)
        joints[~np.isfinite(joints)] = np.nan
        return joints


_JOINT_WIDTHS = [12] * NTU25.num_joints


def decimals(text: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Converts plain decimal numbers such as ``-0.2181153``, all at once.

    Up to 2^53 the digits are a float64 without error, and so are powers of ten up to 10^22; their quotient is then
    the nearest float64, as from ``float`` (Clinger, PLDI 1990).

    Args:
        text: Bytes, (L,) uint8.
        start: Place of the first character of each number, (n,).
        end: Place after its last one, (n,).

    Returns:
        The values, (n,) float64, and whether each could be converted, (n,) bool; others (exponents, many digits, NaN)
        are left to ``float``.
    """
    length = end - start
    width = min(int(length.max(initial=1)), 18)
    padded = np.concatenate([text, np.zeros(width, np.uint8)])
    characters = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(padded, width)[start].T)
    characters *= np.arange(width)[:, None] < length
    digit = characters - np.uint8(ord("0"))  # wraps around below "0"
    number, point = digit < 10, characters == ord(".")
    digit *= number
    factor = 1 + 9 * number.astype(np.uint8)
    value = np.zeros(len(start), np.int64)
    decimal_places, after_point = np.zeros(len(start), np.uint8), np.zeros(len(start), bool)
    for n in range(width):
        value *= factor[n]
        value += digit[n]
        after_point |= point[n]
        decimal_places += number[n] & after_point
    negative = text[start] == ord("-")
    digits, points = number.sum(0, np.uint8), point.sum(0, np.uint8)
    exact = (digits > 0) & (points <= 1) & (digits + points + negative == length) & (value <= 1 << 53)
    values = value / (10.0 ** np.arange(width + 1))[decimal_places]
    return np.where(negative, -values, values), exact


def _quoted(text: bytes) -> str:
    shown = text.decode("ascii", "replace")
    return repr(shown if len(shown) <= 60 else f"{shown[:57]}...")


def write_skeleton(file: str | Path, bodies: BodyFrames, ids: Sequence[int], newline: str = "\r\n") -> Path:
    """Writes a recording as the data set does; float32 coordinates come back bit by bit.

    Pixels are those of ideal cameras, orientations turn +y to the bone; neither is ever read.

    Args:
        file: The file, named like ``S001C002P003R002A013.skeleton``.
        bodies: All bodies of all frames, in the order of frames and slots.
        ids: Body id of each track.
        newline: End of a line, CRLF as in the original distribution.

    Returns:
        The file.
    """
    joints = np.asarray(bodies.joints, np.float64)
    away = np.where(joints[..., 2:] > 0.1, joints[..., 2:], np.nan)  # nothing behind the camera has a pixel
    plane = joints[..., :2] / away * [1.0, -1.0]
    bone = joints - joints[:, list(NTU25.parents)]
    length = np.sqrt((bone * bone).sum(-1, keepdims=True))
    x, y, z = np.moveaxis(bone / np.where(length > 0, length, 1.0), -1, 0)
    turn = np.stack([1.0 + y, z, np.zeros_like(x), -x], -1)
    norm = np.sqrt((turn * turn).sum(-1, keepdims=True))
    turn /= np.where(norm > 0, norm, 1.0)
    turn[:, _LEAVES] = 0.0
    tracked = np.full((*joints.shape[:2], 1), 2.0)
    rows = np.concatenate([joints, 365.0 * plane + [256, 212], 1081.0 * plane + [960, 540], turn, tracked], -1)
    row = " ".join(["%.9g"] * 3 + ["%.7g"] * 8 + ["%d"])
    pattern = newline.join([str(NTU25.num_joints), *[row] * NTU25.num_joints])
    per_frame = np.bincount(bodies.frame, minlength=bodies.num_frames).tolist()
    out, k = [str(bodies.num_frames)], 0
    for size in per_frame:
        out.append(str(size))
        for _ in range(size):
            out.append(f"{ids[int(bodies.track[k])]} 0 1 1 1 1 0 0.01119184 -0.256052 2")
            out.append(pattern % tuple(rows[k].ravel().tolist()))
            k += 1
    path = Path(file)
    path.write_bytes((newline.join(out) + newline).encode("ascii"))
    return path


_LEAVES = [3, 15, 19, 21, 22, 23, 24]
