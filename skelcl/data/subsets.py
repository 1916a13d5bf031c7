"""Label subsets: which training clips keep their labels when labels are scarce."""

from __future__ import annotations

import hashlib

import numpy as np

from skelcl.errors import InputError


def stratified(ids: np.ndarray, label: np.ndarray, fraction: float, seed: int = 0) -> np.ndarray:
    """The same share of every class, at least one clip of each, chosen by a hash of id and seed.

    The choice depends neither on the order of the clips nor on a library's generator, and a smaller fraction is part
    of a larger one.

    Args:
        ids: Names of the clips, (N,) str.
        label: Their classes, (N,) int.
        fraction: Share of each class, in (0, 1].
        seed: Another seed, another subset.

    Returns:
        (N,) bool: max(1, round(fraction · n)) clips of a class of n.

    Raises:
        InputError: If the fraction lies outside (0, 1].
    """
    _check(fraction)
    rank = np.array([hashlib.sha256(f"{seed} {name}".encode()).hexdigest() for name in ids.tolist()])
    chosen = np.zeros(len(ids), bool)
    for value in np.unique(label):
        members = np.flatnonzero(label == value)
        chosen[members[np.argsort(rank[members])[: max(1, round(fraction * len(members)))]]] = True
    return chosen


def first_per_class(ids: np.ndarray, label: np.ndarray, fraction: float) -> np.ndarray:
    """AS-CAL's own rule: the first ⌊fraction · N / K⌋ clips of each of K classes, by name instead of directory order.

    Balanced but not random: the earliest set-ups and performers of every class.

    Args:
        ids: Names of the clips, (N,) str.
        label: Their classes, (N,) int.
        fraction: Share of the clips, in (0, 1].

    Returns:
        (N,) bool.

    Raises:
        InputError: If the fraction lies outside (0, 1] or leaves no clip per class.
    """
    _check(fraction)
    classes = np.unique(label)
    count = int(fraction * len(ids) / len(classes))
    if count < 1:
        raise InputError(f"{fraction:g} of {len(ids)} clips is less than one for each of {len(classes)} classes")
    chosen = np.zeros(len(ids), bool)
    for value in classes:
        members = np.flatnonzero(label == value)
        chosen[members[np.argsort(ids[members])[:count]]] = True
    return chosen


def _check(fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise InputError(f"a fraction of labels lies in (0, 1], not at {fraction}")
