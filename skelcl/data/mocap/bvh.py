"""BVH files: a hierarchy of joints, and numbers that move them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import numpy as np

from skelcl.data.formats.containers import bounded, decode, read_bytes, short_repr
from skelcl.data.mocap.kinematics import Hierarchy, Positions, forward_kinematics
from skelcl.data.mocap.naming import of_segments
from skelcl.data.mocap.space import in_metres
from skelcl.data.poses.contents import MOST_BODIES, Poses, Wanted
from skelcl.data.recording import ReadError
from skelcl.skeleton import Skeleton

_MOST_JOINTS = 1000
_CHANNEL = re.compile(r"([XYZ])(position|rotation)", re.IGNORECASE)
_MOTION = re.compile(rb"^[ \t]*MOTION[ \t]*\r?$", re.MULTILINE)
_COUNTS = re.compile(rb"\s*Frames:\s*(\d{1,9})\s*\n\s*Frame Time:[ \t]*(\S{1,40})[ \t]*\r?(\n|$)")


@dataclass(frozen=True, eq=False)
class Bvh:
    """What a BVH file holds.

    Args:
        hierarchy: Its joints, parents before children.
        values: A number for each channel in each frame, (T, channels) float64.
        fps: Frames per second.
    """

    hierarchy: Hierarchy
    values: np.ndarray
    fps: float


def read(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads a clip: each root that has all joints is a body.

    Position channels replace the OFFSET of their joint, unless those below the roots lie around zero: then they are
    added to it. Joints above the hips, and ends, are left out unless the wanted layout has them.

    Args:
        files: One BVH file.
        wanted: Layout whose joints are looked for by name, unit and axis where they are known.

    Raises:
        ReadError: The file is damaged, or unit or layout cannot be told.
    """
    (file,) = files
    content = parse(read_bytes(file), file)
    hierarchy = content.hierarchy
    bounded(4 * len(content.values) * len(hierarchy.joints) * 3, file)
    positions = guess_positions(content)
    places = forward_kinematics(hierarchy, content.values, positions)
    trees = hierarchy.trees()
    notes: dict[str, str] = {}
    problem: ReadError | None = None
    bodies: list[tuple[Skeleton, list[int]]] = []
    for tree in trees:
        try:
            bodies.append(of_segments(hierarchy, tree, wanted.layout, file))
        except ReadError as error:  # a sword, or a camera
            problem = problem or error
    if not bodies:
        raise problem or ReadError("layout", f"{file}: has no roots")
    skeleton = bodies[0][0]
    kept = [chosen for layout, chosen in bodies if layout.joints == skeleton.joints][:MOST_BODIES]
    if len(kept) < len(trees):
        notes["roots"] = f"{file}: {len(trees) - len(kept)} of {len(trees)} roots have other joints and are left out"
    if positions == "add":
        notes["positions"] = f"{file}: positions of joints lie around zero, so they are added to OFFSET"
    joints = np.stack([places[:, chosen] for chosen in kept])
    whole = places[:, next(tree for tree in trees if kept[0][0] in tree)]
    return in_metres(joints, skeleton, file, wanted, whole, fps=content.fps, notes=notes)


def guess_positions(content: Bvh) -> Positions:
    """Whether the position channels below the roots are places (``replace``) or displacements (``add``).

    They are displacements where most of them lie nearer to zero than to OFFSET.
    """
    hierarchy, votes = content.hierarchy, 0
    for joint, columns in enumerate(hierarchy.channels):
        offset = hierarchy.offsets[joint]
        place = {axis: content.values[:, column] for kind, axis, column in columns if kind == "position"}
        if hierarchy.parents[joint] < 0 or len(place) < 3 or not np.abs(offset).max() > 1e-3:
            continue
        mean = np.array([place[axis].mean() for axis in range(3)])
        votes += 1 if np.linalg.norm(mean - offset) <= np.linalg.norm(mean) else -1
    return "replace" if votes >= 0 else "add"


def parse(data: bytes, place: Path | str) -> Bvh:
    """Reads the content of a BVH file.

    Args:
        data: UTF-8 text, a byte order mark is allowed.
        place: Name of the file in messages.

    Raises:
        ReadError: It is no BVH file, or its numbers are not those that it announces; the message names the line.
    """
    motion = _MOTION.search(data)
    head = decode(data[: motion.start()] if motion else data[: 1 << 20], place)
    hierarchy = _Header(str(place)).parse(head)
    line = head.count("\n") + 1
    if motion is None:
        raise ReadError("motion", f"{place}: has no MOTION", line)
    counts = _COUNTS.match(data, motion.end())
    if counts is None:
        raise ReadError("motion", f"{place}: MOTION is not followed by 'Frames: N' and 'Frame Time: S'", line + 1)
    first = line + data.count(b"\n", motion.start(), counts.end())
    frames, width = int(counts[1]), hierarchy.num_channels
    try:
        seconds = float(counts[2])
    except ValueError:
        seconds = 0.0
    if not 1e-5 < seconds < 1e5:
        found = short_repr(counts[2].decode("latin-1"))
        raise ReadError("motion", f"{place}: Frame Time is {found}, not the seconds of a frame", first - 1)
    if frames == 0 or width == 0:
        raise ReadError("empty", f"{place}: has no {'frames' if frames == 0 else 'channels'}", first - 1)
    bounded(8 * frames * width, place)
    return Bvh(hierarchy, _numbers(data[counts.end() :], frames, width, place, first), round(1 / seconds, 2))


def _numbers(text: bytes, frames: int, width: int, place: Path | str, first: int) -> np.ndarray:
    """The numbers of the frames, (frames, width); each line is checked for as many as there are channels."""
    letters = np.frombuffer(text.rstrip() + b"\n", np.uint8)
    blank = letters <= 32
    begins = ~blank
    begins[1:] &= blank[:-1]
    starts = np.append(0, np.flatnonzero(letters == 10)[:-1] + 1)
    counts = np.add.reduceat(begins, starts, dtype=np.int32)
    lines = np.flatnonzero(counts)
    wrong = lines[counts[lines] != width]
    if not len(wrong) and len(lines) == frames:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what stops at a word that is no number only warns
            try:
                values = np.fromstring(text, np.float64, sep=" ")
            except (ValueError, DeprecationWarning):
                values = np.empty(0)
        if len(values) == frames * width and np.isfinite(values).all():
            return values.reshape(frames, width)
    _complain(text, frames, width, place, first)


def _complain(text: bytes, frames: int, width: int, place: Path | str, first: int) -> NoReturn:
    """Tells of the first line that is wrong."""
    found = 0
    for line, row in enumerate(text.split(b"\n"), first):
        words = row.decode("latin-1").split()
        for word in words:
            try:
                finite = abs(float(word)) < np.inf and "_" not in word
            except ValueError:
                finite = False
            if not finite:
                hint = ": write a point, not a comma" if re.fullmatch(r"-?\d+,\d+", word) else ""
                what = "several motions in one file" if word.upper() in ("HIERARCHY", "MOTION") else "no number"
                raise ReadError("number", f"{place}: {short_repr(word)} is {what}{hint}", line)
        if words and len(words) != width:
            raise ReadError("number", f"{place}: a frame has {len(words)} numbers for {width} channels", line)
        found += bool(words)
    raise ReadError("frames", f"{place}: {frames} frames are announced, and {found} follow", first - 2)


@dataclass
class _Header:
    """Reads a hierarchy line by line."""

    place: str
    joints: list[str] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    offsets: list[tuple[float, ...]] = field(default_factory=list)
    channels: list[list[tuple[str, int, int]]] = field(default_factory=list)
    ends: list[bool] = field(default_factory=list)

    def parse(self, text: str) -> Hierarchy:
        width, awaited, line = 0, False, 1
        stack: list[int] = []
        for line, words in self._statements(text):
            key = words[0].upper()
            if awaited != (key == "{"):
                self._refuse(f"{short_repr(words[0])} where {'an opening brace' if awaited else 'none'} belongs", line)
            awaited = False
            if key == "HIERARCHY":
                continue
            if key in ("ROOT", "JOINT", "END"):
                if (key == "ROOT") == bool(stack) or (stack and self.ends[stack[-1]]):
                    self._refuse(f"{key} stands where it does not belong", line)
                self._begin(" ".join(words[1:]), key == "END", stack[-1] if stack else -1, line)
                stack.append(len(self.joints) - 1)
                awaited = True
            elif key == "{":
                continue
            elif not stack:
                self._refuse(f"{short_repr(words[0])} outside of a joint", line)
            elif key == "}":
                stack.pop()
            elif key == "OFFSET":
                self.offsets[stack[-1]] = self._offset(words[1:], line)
            elif key == "CHANNELS":
                width = self._channels(stack[-1], words[1:], width, line)
            else:
                self._refuse(f"{short_repr(words[0])} is no word of BVH", line)
        if stack or awaited or not self.joints:
            self._refuse("the hierarchy has no joints" if not self.joints else "a closing brace is missing", line)
        return Hierarchy(
            tuple(self.joints),
            tuple(self.parents),
            np.array(self.offsets),
            tuple(map(tuple, self.channels)),
            tuple(self.ends),
        )

    @staticmethod
    def _statements(text: str) -> Iterator[tuple[int, list[str]]]:
        """Number and words of each line; braces may stand on a line of their own or at the end of another."""
        for number, line in enumerate(text.split("\n"), 1):
            words = line.split()
            braces: list[str] = []
            while words and words[-1] in ("{", "}"):
                braces.insert(0, words.pop())
            if words:
                yield number, words
            for brace in braces:
                yield number, [brace]

    def _begin(self, name: str, end: bool, parent: int, line: int) -> None:
        name = f"{self.joints[parent]} end" if end else name
        if not name or not name.isprintable() or len(name) > 200:
            self._refuse("a joint has no name", line)
        if len(self.joints) >= _MOST_JOINTS:
            self._refuse(f"more than {_MOST_JOINTS} joints", line)
        self.joints.append(name)
        self.parents.append(parent)
        self.offsets.append((0.0, 0.0, 0.0))
        self.channels.append([])
        self.ends.append(end)

    def _offset(self, words: Sequence[str], line: int) -> tuple[float, ...]:
        try:
            values = tuple(map(float, words))
        except ValueError:
            values = ()
        if len(values) != 3 or not np.isfinite(values).all():
            self._refuse(f"OFFSET holds {short_repr(' '.join(words))}, not three numbers", line)
        return values

    def _channels(self, joint: int, words: Sequence[str], width: int, line: int) -> int:
        found = [_CHANNEL.fullmatch(word) for word in words[1:]]
        if not words or words[0] != str(len(found)) or self.channels[joint] or self.ends[joint] or len(found) > 9:
            self._refuse("CHANNELS is not followed by their number and as many names", line)
        for match, word in zip(found, words[1:], strict=True):
            if match is None:
                self._refuse(f"{short_repr(word)} is no channel", line)
            self.channels[joint].append((match[2].lower(), "XYZ".index(match[1].upper()), width))
            width += 1
        return width

    def _refuse(self, message: str, line: int) -> NoReturn:
        raise ReadError("hierarchy", f"{self.place}: {message}", line)
