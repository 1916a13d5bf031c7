"""The shapes in which people keep MediaPipe's landmarks: one way to frames, persons and landmarks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skelcl.data.formats.containers import short_repr
from skelcl.data.poses.aspect import aspect_of
from skelcl.data.recording import ReadError
from skelcl.skeleton import HAND21, MEDIAPIPE33, Skeleton

WORLD, IMAGE = "world_landmarks", "landmarks"
"""As people know them; Python, JavaScript and older versions spell them in their own ways."""
_EITHER = "either"
"""Landmarks of which the file does not say whether they are in space or in the image."""
_KEYS = {
    "worldlandmarks": WORLD,
    "keypoints3d": WORLD,
    "landmarks3d": WORLD,
    "landmarks": IMAGE,
    "keypoints2d": IMAGE,
    "landmarks2d": IMAGE,
    "keypoints": _EITHER,
}
"""A key without what stands before it, underscores and capitals → what it holds."""
_FRAMES = ("frames", "data", "results", "sequence")
_AT_HIPS = 0.03
"""Metres from the origin, at most, where the hips of world landmarks lie in the middle."""

Persons = dict[str, list[Any]]
"""What landmarks are → those of each person, a list of objects with x, y, z, visibility."""


class Frames(NamedTuple):
    """A clip of landmarks.

    Args:
        frames: The persons of each frame.
        sides: For each frame which hand each person is, 0 left and 1 right; None where nothing tells.
        aspect: Width by height of the picture, where the file says it.
        note: What had to be concluded, or nothing.
        keys: Keys that frames have, for messages.
    """

    frames: list[Persons]
    sides: list[list[int]] | None
    aspect: float | None
    note: str
    keys: tuple[str, ...]


def understand(content: Any, file: Path, layout: Skeleton | None = None) -> Frames:
    """Frames, persons and landmarks of a JSON file.

    Args:
        content: A list of frames, alone, under ``frames``, ``data`` or ``results``, or by number. A frame holds
            landmarks under a name or alone, of one person or of a list of persons; landmarks are a list or stand by
            name or place, each an object, a list ``x, y, z, visibility``, or all in one row of numbers.
        file: File in error messages.
        layout: Layout that is wanted; of a hand, hands are looked for.

    Raises:
        ReadError: It holds no frames, or something else where landmarks belong.
    """
    listed, aspect = _frames(content, file)
    hands = layout is not None and layout.num_joints == HAND21.num_joints
    found, sides = [], []
    keys: dict[str, None] = {}
    for t, frame in enumerate(listed):
        if isinstance(frame, Mapping):
            keys.update(dict.fromkeys(map(str, list(frame)[:40])))
            aspect = aspect or aspect_of(frame)
        persons, which = _persons(frame, hands, f"{file}: frame {t}")
        found.append(persons)
        sides.append(which)
    note = _settle(found, file)
    told = sides if hands and any(sides) else None
    return Frames(found, told, aspect, note, tuple(keys))


def _frames(content: Any, file: Path) -> tuple[list[Any], float | None]:
    aspect = None
    if isinstance(content, dict):
        aspect = aspect_of(content)
        inside = next((content[key] for key in _FRAMES if isinstance(content.get(key), list | dict)), None)
        if inside is not None:
            content = inside
        elif len(content) == 1 and _plain(next(iter(content))) in _KEYS:
            (content,) = content.values()
    if isinstance(content, dict):
        if content and all(key.isdecimal() for key in content) and not _is_landmark(next(iter(content.values()))):
            content = [content[key] for key in sorted(content, key=lambda key: (len(key.lstrip("0")), key))]
        else:
            content = [content]
    elif isinstance(content, list) and content and _is_landmark(content[0]):
        content = [content]
    if not isinstance(content, list) or not content:
        raise ReadError("frames", f"{file}: holds no list of frames")
    return content, aspect


def _is_landmark(value: Any) -> bool:
    """Whether it is one landmark: an object with x, or a few numbers."""
    if isinstance(value, Mapping):
        return "x" in value
    return isinstance(value, list) and 2 <= len(value) <= 5 and not isinstance(value[0], list | dict | None)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _key(name: str, hands: bool) -> tuple[str | None, int]:
    """What a key of a frame holds, and which hand it is of: −1 where it does not say."""
    plain = _plain(name)
    if hands:
        side = 0 if "left" in plain else 1 if "right" in plain else -1
        plain = re.sub(r"^(multi)?(left|right)?hands?|^(left|right)", "", plain)
        return _KEYS.get(plain), side
    return _KEYS.get(plain.removeprefix("pose")), -1


_PLACES = {
    layout.num_joints: {_plain(name): place for place, name in enumerate(layout.joints)}
    for layout in (MEDIAPIPE33, HAND21)
}
_HAND = [
    "wrist",
    "thumbcmc",
    "thumbmcp",
    "thumbip",
    "thumbtip",
    "indexfingermcp",
    "indexfingerpip",
    "indexfingerdip",
    "indexfingertip",
    "middlefingermcp",
    "middlefingerpip",
    "middlefingerdip",
    "middlefingertip",
    "ringfingermcp",
    "ringfingerpip",
    "ringfingerdip",
    "ringfingertip",
    "pinkymcp",
    "pinkypip",
    "pinkydip",
    "pinkytip",
]
_PLACES[HAND21.num_joints] |= {name: place for place, name in enumerate(_HAND)}


def _persons(frame: Any, hands: bool, place: str) -> tuple[Persons, list[int]]:
    """The persons of a frame by what their landmarks are, only what is there; which hands they are."""
    out: Persons = {}
    sides: list[int] = []
    if not frame:
        return out, sides
    if isinstance(frame, list):
        if all(isinstance(one, dict) and any(_key(name, hands)[0] for name in one) for one in frame):
            for one in frame:  # a list of persons with keys of their own
                for key, persons in _persons(one, hands, place)[0].items():
                    out.setdefault(key, []).extend(persons)
            return out, sides
        return {_EITHER: _people(frame, place)}, sides
    if not isinstance(frame, dict):
        raise ReadError("frames", f"{place} is a {type(frame).__name__}, not an object with landmarks")
    for name, value in frame.items():
        what, side = _key(name, hands)
        if what is None or not value:
            continue
        if not isinstance(value, list | dict):
            raise ReadError("landmarks", f"{place}: {name} is {short_repr(value)}, no list")
        persons = _people(value, f"{place}: {name}")
        out.setdefault(what, []).extend(persons)
        sides += [side] * len(persons) if side >= 0 else []
    if not out and (person := _by_name(frame, place)) is not None:
        out[_EITHER] = [person]
    return out, sides


def _people(value: Any, place: str) -> list[list[Any]]:
    """The landmarks of each person of a value."""
    if isinstance(value, dict):
        if isinstance(inside := next((value[key] for key in ("landmark", "landmarks") if key in value), None), list):
            return _people(inside, place)
        person = _by_name(value, place)
        if person is None:
            wanted = "names or places of landmarks"
            raise ReadError(
                "landmarks", f"{place}: its keys are {', '.join(map(short_repr, list(value)[:6]))}, no {wanted}"
            )
        return [person]
    if not isinstance(value, list):
        raise ReadError("landmarks", f"{place} is {short_repr(value)}, no list")
    if not value:
        return []
    if all(isinstance(one, dict) and "x" in one for one in value):
        return [value]
    if not isinstance(value[0], list | dict | None):
        return [_row(value, place)]
    if _is_landmark(value[0]):
        return [[_landmark(one) for one in value]]
    return [person for one in value if one for person in _people(one, place)]


def _row(values: Sequence[Any], place: str) -> list[Any]:
    """Landmarks in one row of numbers."""
    for width in (4, 3, 2):
        count, rest = divmod(len(values), width)
        if not rest and count in (*_PLACES, 17):
            return [_landmark(values[start : start + width]) for start in range(0, len(values), width)]
    raise ReadError("landmarks", f"{place}: a row of {len(values)} numbers is not 33 landmarks of 2, 3 or 4")


def _by_name(values: Mapping[str, Any], place: str) -> list[Any] | None:
    """Landmarks by name or place, in their order; None where the keys are neither."""
    plain = [_plain(str(name)) for name in values]
    for count, places in _PLACES.items():
        known = {places.get(name, -1) for name in plain} if not all(map(str.isdecimal, plain)) else set(map(int, plain))
        known.discard(-1)
        if 2 * len(known) < min(len(plain), count) or max(known, default=count) >= count:
            continue
        nothing = {"x": None, "y": None, "z": None, "visibility": 0.0}
        person: list[Any] = [nothing] * count
        for name, value in zip(plain, values.values(), strict=True):
            where = places.get(name, int(name) if name.isdecimal() else -1)
            if where >= 0 and value is not None:
                person[where] = _landmark(value)
        return person
    return None


def _landmark(value: Any) -> Any:
    """One landmark as an object; what is none stays as it is, for whoever makes numbers of it to tell."""
    if isinstance(value, list) and 2 <= len(value) <= 5:
        return dict(zip(("x", "y", "z", "visibility", "presence"), value, strict=False))
    return value


def _settle(frames: Sequence[Persons], file: Path) -> str:
    """Decides what landmarks are that do not say it: in space where the origin lies between the hips."""
    either = [person for frame in frames for person in frame.get(_EITHER, ())]
    if not either:
        return ""
    middles = []
    for person in either:
        try:
            if len(person) == MEDIAPIPE33.num_joints:
                left, right = (np.array([float(person[joint][axis]) for axis in "xyz"]) for joint in (23, 24))
                middles.append(min(1.0, float(np.abs(left / 2 + right / 2).max())))
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
    space = bool(middles) and float(np.median(middles)) < _AT_HIPS
    for frame in frames:
        if persons := frame.pop(_EITHER, None):
            frame.setdefault(WORLD if space else IMAGE, []).extend(persons)
    what = (
        "in space, since the origin lies between the hips" if space else "in the image: the origin is not at the hips"
    )
    return f"{file}: does not say what its landmarks are; taken as those {what}"
