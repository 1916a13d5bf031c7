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


def in_own_places(joints: np.ndarray) -> tuple[np.ndarray, int]:
    """Puts people that stand in the order of a detector into places that follow them.

    Two places of a frame change what they hold where people go on less than half as far that way, from where they were
    last seen; an empty place counts as one. Who already stands in a place of their own stays there.

    Args:
        joints: Coordinates, (M, T, V, C), NaN where nothing was seen.

    Returns:
        The same persons, and in how many frames two of them changed their places.
    """
    if len(joints) < 2 or not _restless(joints):
        return joints, 0
    out, changed = joints.copy(), 0
    before = np.full((len(joints), *joints.shape[2:]), np.nan, joints.dtype)
    for t in range(joints.shape[1]):
        frame = out[:, t]
        order = np.arange(len(frame))
        way = _way(before[:, None], frame[None])  # (place, person)
        for _ in range(len(frame)):
            stay = np.diagonal(way[:, order])
            now = way[:, order]
            both, cross = stay[:, None] + stay[None], now + now.T
            gain = np.where(cross < 0.5 * both, both - cross, 0.0)
            np.fill_diagonal(gain, 0.0)
            if not gain.any():
                break
            a, b = np.unravel_index(gain.argmax(), gain.shape)
            order[[a, b]] = order[[b, a]]
        if (order != np.arange(len(order))).any():
            changed += 1
            out[:, t] = frame = frame[order]
        seen = ~np.isnan(frame[..., 0])
        there = seen.any(1)
        before[there] = frame[there]
    return out, changed


def _restless(joints: np.ndarray) -> bool:
    """Whether two places of any frame would change what they hold: the rule of all frames at once."""
    there = ~np.isnan(joints[..., 0]).all(-1)
    last = np.maximum.accumulate(np.where(there, np.arange(joints.shape[1]), -1), 1)[:, :-1]
    ways = []
    for body, seen in zip(joints, last, strict=True):  # a place at a time: memory does not grow with its square
        before = body[np.maximum(seen, 0)]
        before[seen < 0] = np.nan
        ways.append(_way(before, joints[:, 1:]))
    way = np.stack(ways)  # (place, person, frame)
    stay = np.diagonal(way).T
    return bool((way + way.transpose(1, 0, 2) < 0.5 * (stay[:, None] + stay[None])).any())


def _way(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Mean way of the joints from (…, V, C) to (…, V, C): 0 to nowhere, the person's size from where nobody was."""
    with np.errstate(over="ignore", invalid="ignore"):
        apart = np.linalg.norm(after - before, axis=-1)
        both = ~np.isnan(apart)
        mean = np.where(both, apart, 0).sum(-1) / np.maximum(both.sum(-1), 1)
        box = np.fmax.reduce(after, -2) - np.fmin.reduce(after, -2)
        size = np.linalg.norm(box, axis=-1)
    nobody, nowhere = np.isnan(after[..., 0]).all(-1), np.isnan(before[..., 0]).all(-1)
    shape = np.broadcast_shapes(nobody.shape, nowhere.shape)
    way = np.where(both.any(-1), mean, np.broadcast_to(np.nan_to_num(size), shape))
    return np.where(np.broadcast_to(nobody, shape), 0.0, way)
