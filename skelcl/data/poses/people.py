"""Persons that a file lists frame by frame, put together to bodies."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skelcl.data.formats.containers import bounded
from skelcl.data.poses.contents import MOST_BODIES, Poses
from skelcl.data.poses.tracking import track
from skelcl.data.recording import ReadError

_MOST_IN_FRAME = 256
"""Persons of one frame: following them takes time that grows with the square of their number."""


def whole(value: Any) -> int:
    """The number by which a file knows a person, −1 when it is none: ``3``, ``3.0``, ``[3]`` or ``[[3.0], [3.0]]``."""
    while isinstance(value, list) and value and all(one == value[0] for one in value[1:]):
        value = value[0]
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return int(value) if known and value == int(value) else -1


def assemble(
    people: Sequence[Sequence[np.ndarray]],
    place: Path,
    *,
    numbers: Sequence[Sequence[int]] | None = None,
    seen: Sequence[Sequence[np.ndarray]] | None = None,
    by: str = "joints",
    notes: Mapping[str, str] | None = None,
) -> Poses:
    """Puts the persons of each frame together to bodies.

    Args:
        people: For each frame the persons, (V, C + 1) with the confidence last.
        place: File or folder in error messages.
        numbers: The numbers by which the file knows them. Where one is negative, or two persons of a frame have the
            same, they say nothing; then, and without them, persons are followed from frame to frame.
        seen: The same persons as they are to be followed; by default ``people``.
        by: What they are followed by, in the note that says so.
        notes: What else is to be noted of the clip.

    Returns:
        Bodies in the order of their numbers.

    Raises:
        ReadError: Nobody is there, too many are, or they differ in their joints.
    """
    sizes = {person.shape for persons in people for person in persons}
    if len(sizes) != 1:
        raise ReadError("joints", f"{place}: {'persons differ in their joints' if sizes else 'nobody was found'}")
    if (most := max(map(len, people))) > _MOST_IN_FRAME:
        raise ReadError("people", f"{place}: a frame has {most} persons, of which {_MOST_IN_FRAME} are accepted")
    notes = dict(notes or {})
    why = "has no ids of persons"
    if numbers is not None and any(number < 0 for frame in numbers for number in frame):
        numbers = None
    elif numbers is not None and (repeated := [n for n, frame in enumerate(numbers) if len(set(frame)) < len(frame)]):
        why, numbers = f"repeats an id of a person within frame {repeated[0]}", None
    if numbers is None:
        numbers = track(people if seen is None else seen)
        if most > 1:
            notes["tracking"] = f"{place}: {why}, so people are followed from frame to frame by their {by}"
    count = Counter(number for listed in numbers for number in listed)
    known = {number: m for m, number in enumerate(sorted(number for number, _ in count.most_common(MOST_BODIES)))}
    shape = (len(known), len(people), *sizes.pop())
    bounded(4 * math.prod(shape), place)
    out = np.full(shape, np.nan, np.float32)
    for t, (persons, listed) in enumerate(zip(people, numbers, strict=True)):
        for person, number in zip(persons, listed, strict=True):
            if number in known:
                out[known[number], t] = person
    return Poses(
        out[..., :-1], out[..., -1], others=len(count) - len(known), notes=notes, tracks=tuple(map(str, known))
    )
