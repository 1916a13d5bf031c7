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
        pairs: list[tuple[float, int, int]] = []
        known = np.array(list(last))
        before = np.stack([joints for _, joints in last.values()]) if last else np.empty((0, 0, 1))
        for place, person in enumerate(persons if last else ()):
            there = person[:, -1] > 0
            both = (before[:, :, -1] > 0) & there
            count = both.sum(1)
            with np.errstate(over="ignore", invalid="ignore"):  # what is that far away is nobody's
                apart = np.linalg.norm(before[..., :-1] - person[:, :-1], axis=-1)
                distance = np.where(both, apart, 0).sum(1) / np.maximum(count, 1)
                large = float(np.linalg.norm(np.ptp(person[there, :-1], axis=0))) if there.any() else 0.0
            near = (count > 0) & (distance < large)
            pairs += zip(distance[near].tolist(), known[near].tolist(), [place] * int(near.sum()), strict=True)
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
