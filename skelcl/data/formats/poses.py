"""Poses of your own: tables, arrays and the output of pose estimators, each read into one kind of clip.

=========== ======================================================= ==================================================
format      one clip                                                content
=========== ======================================================= ==================================================
csv         a file                                                  long: columns ``frame``, ``joint`` (name or place),
                                                                    ``x``, ``y`` and, where known, ``z``,
                                                                    ``confidence``, ``person``; wide: ``frame``,
                                                                    ``person`` and ``<joint>_x``, ``<joint>_y``,
                                                                    ``<joint>_z``, ``<joint>_confidence``
npy         a file                                                  (T, V, C) or (M, T, V, C)
npz, json   a file                                                  ``keypoints`` of such a shape and, where known,
                                                                    ``confidence`` (M, T, V), ``label``, ``id``,
                                                                    ``fps``, ``layout``, ``subject``, ``camera``
mediapipe   a file, a list of frames                                ``world_landmarks`` and/or ``landmarks`` with x, y,
                                                                    z, visibility; of one person or a list of persons
openpose    a folder of ``*_keypoints.json``                        ``people`` with ``pose_keypoints_2d`` / ``_3d``
coco        a file, a list of persons                               ``image_id`` (frame number), ``keypoints``
alphapose   a file, a list of persons                               ``image_id``, ``keypoints``, ``idx`` (person)
=========== ======================================================= ==================================================
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from skelcl.data.convert import ReadError
from skelcl.skeleton import Skeleton

Format = Literal["csv", "json", "npy", "npz", "mediapipe", "openpose", "coco", "alphapose"]

MOST_BODIES = 16
"""Persons that are kept of a clip, those seen in most frames: an estimator that loses track finds hundreds."""

_REMEMBERED = 30  # frames

OPENPOSE = re.compile(r"(.*?)_?(\d+)_keypoints\.json")
"""Name of a file of OpenPose: clip, frame number."""

_KEYS = ("keypoints", "confidence", "label", "id", "fps", "layout", "subject", "camera")


@dataclass(frozen=True, eq=False)
class Poses:
    """One clip as a file holds it.

    Args:
        joints: Coordinates, (M, T, V, C) float32, NaN where nothing was seen.
        confidence: (M, T, V) float32, None when the file has none.
        label: Name of the class; None, as the next four, when the file does not say.
        id: Name of the clip.
        fps: Frames per second.
        layout: Name of the layout.
        subject: Performer.
        camera: Camera.
        others: Persons that were left out because they were seen less often than the others.
    """

    joints: np.ndarray
    confidence: np.ndarray | None = None
    label: str | None = None
    id: str | None = None
    fps: float | None = None
    layout: str | None = None
    subject: int = -1
    camera: int = -1
    others: int = 0


def load(format: Format, files: Sequence[Path], channels: int | None = None, layout: Skeleton | None = None) -> Poses:
    """Reads one clip.

    Args:
        format: What the files are.
        files: The file, or the frames of an OpenPose clip.
        channels: Coordinates per joint, 2 or 3; None takes what there is.
        layout: Layout of the joints; only tables need it.

    Raises:
        ReadError: The clip is damaged or not in the format.
    """
    if format not in get_args(Format):
        raise ValueError(f"format must be one of {', '.join(get_args(Format))}, not {format!r}")
    if format == "openpose":
        return _openpose(files, channels)
    (file,) = files
    if format == "csv":
        if layout is None:
            raise ValueError("a table cannot be read without its layout")
        return _csv(file, channels, layout)
    if format in ("npy", "npz", "json"):
        return _container(file, format, channels)
    if format == "mediapipe":
        return _mediapipe(file, channels)
    return _persons(file, channels, tracked=format == "alphapose")


def peek(file: Path, format: Format) -> tuple[str | None, str | None]:
    """Id and label of a container, without its coordinates.

    Raises:
        ReadError: It cannot be read.
    """
    known = _members(file, format, ("id", "label"))
    return _scalar(known, "id", str, file), _scalar(known, "label", str, file)


def _container(file: Path, format: Format, channels: int | None) -> Poses:
    known = _members(file, format, _KEYS)
    if "keypoints" not in known:
        raise ReadError("keys", f"{file}: the key 'keypoints' is missing")
    joints = _numbers(known["keypoints"], file, "keypoints")
    confidence = None if known.get("confidence") is None else _numbers(known["confidence"], file, "confidence")
    if joints.ndim == 3:
        joints = joints[None]
        confidence = confidence[None] if confidence is not None and confidence.ndim == 2 else confidence
    if joints.ndim != 4 or 0 in joints.shape:
        raise ReadError("shape", f"{file}: keypoints are {joints.shape}, not (M, T, V, C) or (T, V, C)")
    width = joints.shape[3]
    wanted = channels or min(width, 3)
    if confidence is None and width == wanted + 1:
        joints, confidence = joints[..., :wanted], joints[..., wanted]
    if joints.shape[3] != wanted or wanted not in (2, 3):
        raise ReadError("shape", f"{file}: keypoints have {width} coordinates, not {channels or '2 or 3'}")
    if confidence is not None and confidence.shape != joints.shape[:3]:
        raise ReadError("shape", f"{file}: confidence is {confidence.shape}, not {joints.shape[:3]}")
    return Poses(
        joints,
        confidence,
        label=_scalar(known, "label", str, file),
        id=_scalar(known, "id", str, file),
        fps=_scalar(known, "fps", float, file),
        layout=_scalar(known, "layout", str, file),
        subject=_small(known, "subject", 999, file),
        camera=_small(known, "camera", 127, file),
    )


def _members(file: Path, format: Format, keys: Sequence[str]) -> dict[str, Any]:
    """Some entries of a container; a bare array counts as its keypoints."""
    if format == "json":
        content = _json(file)
        if isinstance(content, list):
            content = {"keypoints": content}
        if not isinstance(content, dict):
            raise ReadError("keys", f"{file}: holds a {type(content).__name__}, not keypoints")
        if unknown := sorted(content.keys() - set(_KEYS)):
            raise ReadError("keys", f"{file}: unknown key {unknown[0]!r}; the keys are {', '.join(_KEYS)}")
        return {key: content[key] for key in keys if key in content}
    try:
        with file.open("rb") as stream:
            content = np.load(stream, allow_pickle=False)
            if isinstance(content, np.ndarray):
                return {"keypoints": content}
            if unknown := sorted(set(content.files) - set(_KEYS)):
                raise ReadError("keys", f"{file}: unknown key {unknown[0]!r}; the keys are {', '.join(_KEYS)}")
            return {key: content[key] for key in keys if key in content.files}
    except ReadError:
        raise
    except Exception as error:  # whatever a damaged zip or header makes numpy raise
        raise ReadError("damaged", f"{file}: cannot be read ({' '.join(str(error).split())})") from error


def _scalar(known: dict[str, Any], key: str, kind: Callable[[Any], Any], file: Path) -> Any:
    value = known.get(key)
    if value is None:
        return None
    plain = np.asarray(value)
    if plain.ndim or plain.dtype.kind not in "Uiuf" or (kind is float and plain.dtype.kind == "U"):
        raise ReadError(
            "keys", f"{file}: {key} holds {str(value)[:60]!r}, not one {'number' if kind is float else 'name'}"
        )
    return kind(plain.item())


def _small(known: dict[str, Any], key: str, largest: int, file: Path) -> int:
    value = _scalar(known, key, float, file)
    if value is None:
        return -1
    if value != int(value) or not 0 <= value <= largest:
        raise ReadError("keys", f"{file}: {key} {value:g} is no whole number of 0–{largest}")
    return int(value)


def _csv(file: Path, channels: int | None, layout: Skeleton) -> Poses:
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
        raise ReadError("columns", f"{file}: the column {lacking[0].replace(' ', '_')!r} is missing", 1)
    scores = ["confidence"] if long else [f"{joint} confidence" for joint in names]
    sure = any(name in where for name in scores)
    frame = _positions(
        [_whole(row.get("frame", str(n)), file, line, "frame") for n, (line, row) in enumerate(rows)], file
    )
    persons = [row.get("person", "") for _, row in rows]
    kept = {person for person, _ in Counter(persons).most_common(MOST_BODIES)}
    people = {person: m for m, person in enumerate(sorted(kept, key=lambda text: (len(text), text)))}
    out = np.full((len(people), max(frame) + 1, layout.num_joints, wanted + 1), np.nan, np.float32)
    seen: set[tuple[int, int, int]] = set()
    for t, person, (line, row) in zip(frame, persons, rows, strict=True):
        joints = [_joint(row["joint"], names, file, line)] if long else range(layout.num_joints)
        for joint, group, score in zip(joints, columns, scores, strict=True):
            if person not in people:
                continue
            cell = (people[person], t, joint)
            if cell in seen:
                raise ReadError("twice", f"{file}: frame {row.get('frame')} has {layout.joints[joint]!r} twice", line)
            seen.add(cell)
            out[cell] = [
                *(_real(row[where[name]], file, line, name) for name in group),
                _real(row[where[score]], file, line, score) if score in where else 1.0,
            ]
    confidence = out[..., wanted] if sure else None
    return Poses(out[..., :wanted], confidence, others=len(set(persons)) - len(kept))


def _joint(text: str, names: dict[str, int], file: Path, line: int) -> int:
    name = text.lower().replace("_", " ")
    if name in names:
        return names[name]
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    raise ReadError("joint", f"{file}: the layout has no joint {text!r}", line)


def _real(text: str, file: Path, line: int, column: str) -> float:
    try:
        return float(text) if text else np.nan
    except ValueError:
        raise ReadError("number", f"{file}: {column} holds {text[:40]!r}, which is no number", line) from None


def _whole(text: str, file: Path, line: int, column: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise ReadError("number", f"{file}: {column} holds {text[:40]!r}, which is no whole number", line)
    return int(text)


def _mediapipe(file: Path, channels: int | None) -> Poses:
    frames = _json(file)
    if isinstance(frames, dict) and set(frames) >= {"frames"}:
        frames = frames["frames"]
    if not isinstance(frames, list) or not frames:
        raise ReadError("frames", f"{file}: holds no list of frames")
    found: list[dict[str, Any]] = []
    for t, frame in enumerate(frames):
        if frame is not None and not isinstance(frame, dict):
            raise ReadError("frames", f"{file}: frame {t} is a {type(frame).__name__}, not an object with landmarks")
        found.append(frame or {})

    def listed(frame: dict[str, Any], key: str) -> list[Any]:
        persons = frame.get(f"pose_{key}") or frame.get(key) or []
        return [persons] if persons and isinstance(persons, list) and isinstance(persons[0], dict) else persons

    wanted = channels or (3 if any(listed(frame, "world_landmarks") for frame in found) else 2)
    key = "world_landmarks" if wanted == 3 else "landmarks"
    if not any(listed(frame, key) for frame in found):
        other = "; for flat poses pass --channels 2" if wanted == 3 else ""
        raise ReadError("no_skeleton", f"{file}: no frame has {key}{other}")
    people: list[list[np.ndarray]] = []
    for t, frame in enumerate(found):
        persons = listed(frame, key)
        if not isinstance(persons, list):
            raise ReadError("landmarks", f"{file}: {key} of frame {t} is no list")
        people.append([_landmarks(person, wanted, f"{file}: frame {t}") for person in persons])
    if len({len(person) for persons in people for person in persons}) > 1:
        raise ReadError("landmarks", f"{file}: the number of landmarks changes")
    # World landmarks are relative to the hips, so they cannot tell people apart: their order must.
    return _assembled(people, [list(range(len(persons))) for persons in people], file)


def _landmarks(person: Any, channels: int, place: str) -> np.ndarray:
    """(V, C + 1): coordinates and visibility of one person."""
    out = []
    for landmark in person if isinstance(person, list) else [None]:
        if not isinstance(landmark, dict) or not set("xyz"[:channels]) <= landmark.keys():
            raise ReadError("landmarks", f"{place}: a landmark is {str(landmark)[:40]!r}, not x, y, z, visibility")
        out.append([*(landmark[axis] for axis in "xyz"[:channels]), landmark.get("visibility", 1.0)])
    return _numbers(out, place, "landmarks")


def _openpose(files: Sequence[Path], channels: int | None) -> Poses:
    numbered = []
    for file in files:
        match = OPENPOSE.fullmatch(file.name)
        numbered.append((int(match[2]) if match else 0, file))
    numbered.sort()
    folder = files[0].parent
    if len({number for number, _ in numbered}) != len(numbered):
        raise ReadError("frames", f"{folder}: two files have the same frame number; one folder per clip")
    frame = _positions([number for number, _ in numbered], folder)
    people: list[list[np.ndarray]] = [[] for _ in range(max(frame) + 1)]
    names: list[list[int]] = [[] for _ in people]
    wanted = channels
    for t, (_, file) in zip(frame, numbered, strict=True):
        content = _json(file)
        persons = content.get("people") if isinstance(content, dict) else None
        if not isinstance(persons, list) or not all(isinstance(person, dict) for person in persons):
            raise ReadError("keys", f"{file}: the key 'people' is missing or no list of people")
        for person in persons:
            wanted = wanted or (3 if person.get("pose_keypoints_3d") else 2)
            key = f"pose_keypoints_{wanted}d"
            people[t].append(_flat(person.get(key), wanted + 1, f"{file}: {key}"))
            own = person.get("person_id")
            own = own[0] if isinstance(own, list) and len(own) == 1 else own
            names[t].append(own if type(own) is int else -1)
    tracked = all(name >= 0 for listed in names for name in listed)
    return _assembled(people, names if tracked else None, folder)


def _persons(file: Path, channels: int | None, tracked: bool) -> Poses:
    found = _json(file)
    if not isinstance(found, list) or not all(isinstance(person, dict) for person in found):
        raise ReadError("keys", f"{file}: holds no list of persons")
    if not found:
        raise ReadError("no_skeleton", f"{file}: nobody was found")
    if channels == 3:
        raise ReadError("shape", f"{file}: these keypoints are flat: pass --channels 2")
    numbers = []
    for n, person in enumerate(found):
        digits = re.findall(r"\d+", str(person.get("image_id", "")))
        if not digits:
            raise ReadError(
                "keys", f"{file}: image_id of person {n} is {person.get('image_id')!r}, which has no number"
            )
        numbers.append(int(digits[-1]))
    frame = _positions(numbers, file)
    people: list[list[np.ndarray]] = [[] for _ in range(max(frame) + 1)]
    names: list[list[int]] = [[] for _ in people]
    for n, (t, person) in enumerate(zip(frame, found, strict=True)):
        people[t].append(_flat(person.get("keypoints"), 3, f"{file}: keypoints of person {n}"))
        own = person.get("idx") if tracked else None
        while isinstance(own, list) and len(own) == 1:
            own = own[0]
        names[t].append(int(own) if isinstance(own, int | float) and own == int(own) else -1)
    known = tracked and all(name >= 0 for listed in names for name in listed)
    return _assembled(people, names if known else None, file)


def _flat(values: Any, width: int, place: str) -> np.ndarray:
    """(V, width) of a flat list."""
    if not isinstance(values, list) or not values or len(values) % width:
        found = f"{len(values)} numbers" if isinstance(values, list) else f"{values!r}"[:40]
        raise ReadError("keypoints", f"{place}: holds {found}, not a multiple of {width}")
    return _numbers(values, place, "keypoints").reshape(-1, width)


def _assembled(people: Sequence[Sequence[np.ndarray]], names: Sequence[Sequence[int]] | None, place: Path) -> Poses:
    """Persons (V, C + 1) of each frame as bodies (M, T, V, C) with their confidence."""
    sizes = {person.shape for persons in people for person in persons}
    if len(sizes) != 1:
        raise ReadError("joints", f"{place}: {'persons differ in their joints' if sizes else 'nobody was found'}")
    if names is None:
        names = track(people)
    count = Counter(name for listed in names for name in listed)
    known = sorted(name for name, _ in count.most_common(MOST_BODIES))
    out = np.full((len(known), len(people), *sizes.pop()), np.nan, np.float32)
    for t, (persons, listed) in enumerate(zip(people, names, strict=True)):
        if len(set(listed)) != len(listed):
            raise ReadError("twice", f"{place}: frame {t} has person {max(listed, key=listed.count)} twice")
        for person, name in zip(persons, listed, strict=True):
            if name in known:
                out[known.index(name), t] = person
    return Poses(out[..., :-1], out[..., -1], others=len(count) - len(known))


def track(people: Sequence[Sequence[np.ndarray]]) -> list[list[int]]:
    """Gives persons of successive frames a number that follows them.

    Nearest pairs of a person and somebody seen in the last second (30 frames) are joined first, if they are closer to
    each other than the person is large; the others are new. Distances are means over the joints that both show.

    Args:
        people: For each frame the persons, (V, C + 1) with the confidence last.

    Returns:
        For each frame the numbers of its persons, counted from 0.
    """
    last: dict[int, tuple[int, np.ndarray]] = {}  # person → frame and joints
    out: list[list[int]] = []
    new = 0
    for t, persons in enumerate(people):
        last = {number: seen for number, seen in last.items() if t - seen[0] <= _REMEMBERED}
        pairs = []
        for number, (_, before) in last.items():
            for place, person in enumerate(persons):
                both = (before[:, -1] > 0) & (person[:, -1] > 0)
                seen = person[person[:, -1] > 0, :-1]
                if both.any():
                    distance = float(np.linalg.norm(before[both, :-1] - person[both, :-1], axis=1).mean())
                    if distance < float(np.linalg.norm(np.ptp(seen, axis=0))):
                        pairs.append((distance, number, place))
        numbers = [-1] * len(persons)
        for _, number, place in sorted(pairs):
            if numbers[place] < 0 and number not in numbers:
                numbers[place] = number
        for place, person in enumerate(persons):
            if numbers[place] < 0:
                numbers[place] = new
                new += 1
            last[numbers[place]] = (t, person)
        out.append(numbers)
    return out


def table(file: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Header and (line, row) of a CSV file with as many cells in each row as in the header.

    Raises:
        ReadError: It has not, or cannot be read.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            header = [name.strip().lower() for name in next(reader, [])]
            rows = []
            for cells in reader:
                if not any(cells):
                    continue
                if len(cells) != len(header):
                    message = f"{file}: {len(cells)} cells under a header of {len(header)}"
                    raise ReadError("csv", message, reader.line_num)
                row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
                rows.append((reader.line_num, row))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReadError("csv", f"{file}: cannot be read ({error})") from error
    if not header or len(set(header)) != len(header):
        raise ReadError("csv", f"{file}: {'a column name occurs twice' if header else 'the file is empty'}", 1)
    return header, rows


def _positions(numbers: Sequence[int], place: Path) -> list[int]:
    """Frame numbers counted from the first; frames that are not named are frames in which nobody was seen."""
    first, count = min(numbers), len(set(numbers))
    if max(numbers) - first >= 10 * count + 100:
        raise ReadError(
            "frames", f"{place}: {count} frames are numbered {first} to {max(numbers)}: too many are missing"
        )
    return [number - first for number in numbers]


def _numbers(values: Any, place: Path | str, what: str) -> np.ndarray:
    try:
        wide = np.asarray(values)
        if wide.dtype.kind in "OiufUb":
            if wide.dtype.kind in "Ub":
                raise ValueError("text or truth values")
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, hence missing
                return np.asarray(values, np.float64).astype(np.float32)
        raise ValueError(f"{wide.dtype}")
    except (ValueError, TypeError, OverflowError) as error:
        raise ReadError("numbers", f"{place}: {what} is no regular array of numbers ({str(error)[:80]})") from error


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ReadError("json", f"{file}: not valid JSON ({error.msg}), column {error.colno}", error.lineno) from error
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise ReadError("json", f"{file}: cannot be read ({str(error)[:80]})") from error
