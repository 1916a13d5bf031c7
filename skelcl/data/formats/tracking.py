"""Persons that estimators list frame by frame, followed from one frame to the next."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_REMEMBERED = 30  # frames


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
