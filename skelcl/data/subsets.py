"""Parts of a data set: clips that keep scarce labels, chosen classes, clips that ask in validation."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from skelcl.bounds import NonNegativeInt, PositiveInt, PositiveShare, bounded
from skelcl.errors import InputError, OptionError
from skelcl.files import atomic_write

RULES = ("stratified", "uniform", "shared-ranks", "first")


@bounded
@dataclass(frozen=True)
class LabelSubset:
    """A rule that chooses some of the labelled clips.

    Every choice follows from the names of the clips and the seed alone, by SHA-256: neither the order of the files nor
    a library's generator matters, and a smaller subset of a rule and seed is part of every larger one. Clips of unknown
    class are never chosen. n_c clips are of class c, N of all K classes.

    ============== ============================================ ================== =================================
    rule           chooses                                      ``per_class``      stands for
    ============== ============================================ ================== =================================
    stratified     max(1, round(fraction · n_c)) of each class  of each class      AimCLR, PSTL, HiCLR
    uniform        ⌊fraction · N⌋ of all clips, not balanced    not possible       CMD, HaLP, MAMP, USDRL
    shared-ranks   ⌊fraction · N / K⌋ of each class, at the     of each class      X-CAR, SDS-CL: per_class 33, 66, 132,
                   same places in the sorted names of each one                     264 of NTU 60 xsub, 31 … 248 of xview
    first          ⌊fraction · N / K⌋ of each class, the        of each class      AS-CAL; balanced but not random:
                   first by name, whatever the seed                                the earliest setups and performers
    a file         the ids that it lists                        not possible       an earlier run
    ============== ============================================ ================== =================================

    The published codes draw from generators that are mostly unseeded, so their very clips cannot be had. The places of
    ``shared-ranks`` lie below the size of the smallest class; X-CAR's below 550, and below 96 in NW-UCLA.

    Args:
        rule: One of the rules, or a list written by :func:`write_labels`.
        fraction: Share of the clips, in (0, 1].
        per_class: Clips of each class, instead of a share.
        seed: Another seed, another subset.

    Raises:
        InputError: Not exactly one amount is given, or one beside a file, or it lies outside its range.
    """

    rule: str | Path = "stratified"
    fraction: PositiveShare | None = None
    per_class: PositiveInt | None = None
    seed: NonNegativeInt = 0

    def __post_init__(self) -> None:
        given = [amount for amount in (self.fraction, self.per_class) if amount is not None]
        if self.rule not in RULES:
            if given:
                raise InputError(
                    f"subset {self.rule}: a file says which clips by itself; set fraction and per_class to null"
                )
        elif self.rule == "uniform" and self.per_class is not None:
            raise InputError("subset uniform draws from all classes at once: give fraction instead of per_class")
        elif len(given) != 1:
            raise InputError(f"subset {self.rule}: give either fraction or per_class")

    def __str__(self) -> str:
        if self.rule not in RULES:
            return f"from {self.rule}"
        amount = f"{self.per_class} per class" if self.fraction is None else f"{100 * self.fraction:g} %"
        return f"{amount} {self.rule}" + ("" if self.rule == "first" else f", seed {self.seed}")

    def draw(self, ids: np.ndarray, label: np.ndarray) -> np.ndarray:
        """Chooses clips.

        Args:
            ids: Names of the clips that may be chosen, (N,) str.
            label: Their classes, −1 when unknown, (N,) int.

        Returns:
            (N,) bool.

        Raises:
            InputError: If that leaves no clip, a class has too few, or a listed clip is not among them.
        """
        if self.rule not in RULES:
            return self._from_file(ids, label)
        known = np.flatnonzero(label >= 0)
        if not len(known):
            raise InputError(f"labels: {self}, but no clip has a label")
        classes = {int(value): known[label[known] == value] for value in np.unique(label[known])}
        if self.rule == "uniform":
            parts = [self._shuffled(ids, known)[: self._share(len(known))]]
        elif self.rule == "stratified":
            parts = [
                self._shuffled(ids, members)[: self._of_class(value, len(members))]
                for value, members in classes.items()
            ]
        else:
            ranks = self._ranks({value: len(members) for value, members in classes.items()})
            parts = [members[np.argsort(ids[members])][ranks] for members in classes.values()]
        chosen = np.zeros(len(ids), bool)
        chosen[np.concatenate(parts)] = True
        if not chosen.any():
            raise InputError(f"labels: {self} of {len(known)} clips is less than one clip")
        return chosen

    def _from_file(self, ids: np.ndarray, label: np.ndarray) -> np.ndarray:
        listed = read_labels(Path(self.rule))
        if lacking := sorted(set(listed) - set(ids[label >= 0].tolist())):
            raise InputError(
                f"{self.rule}: clip {lacking[0]!r} cannot be labelled here: unknown, of unknown class, a test clip, or "
                f"a held-out validation query ({len(lacking)} of {len(listed)} listed clips)"
            )
        return np.isin(ids, listed)

    def _share(self, size: int) -> int:
        return int((self.fraction or 0) * size)

    def _of_class(self, value: int, size: int) -> int:
        if self.per_class is None:
            return max(1, round((self.fraction or 0) * size))
        return self._within(self.per_class, value, size)

    def _within(self, count: int, value: int, size: int) -> int:
        if count > size:
            raise InputError(f"labels: {self}: label {value} has only {size} clips, not {count}")
        return count

    def _ranks(self, sizes: dict[int, int]) -> list[int]:
        """Places in the sorted names that are chosen in every class."""
        total = sum(sizes.values())
        count = self.per_class or self._share(total) // len(sizes)
        if count < 1:
            raise InputError(f"labels: {self} of {total} clips is less than one for each of {len(sizes)} classes")
        smallest = min(sizes, key=lambda value: sizes[value])
        self._within(count, smallest, sizes[smallest])
        ranks = range(sizes[smallest])
        return list(ranks[:count]) if self.rule == "first" else sorted(ranks, key=self._hash)[:count]

    def _shuffled(self, ids: np.ndarray, members: np.ndarray) -> np.ndarray:
        return members[np.argsort(np.array([self._hash(name) for name in ids[members].tolist()]))]

    def _hash(self, name: object) -> str:
        return hashlib.sha256(f"{self.seed} {name}".encode()).hexdigest()


def choose_classes(names: Sequence[str], label: np.ndarray, chosen: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Names and labels of some classes alone, in the order of ``names``.

    Args:
        names: Names of all K classes.
        label: Class of each clip, (N,), −1 where unknown.
        chosen: The names to keep.

    Returns:
        Their names, and the label of each clip among them, (N,), −1 for clips of other classes.

    Raises:
        OptionError: If a name is unknown or given twice, or there is none.
    """
    for name in chosen:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            raise OptionError(f"classes: no class {name!r}: {f'did you mean {close[0]!r}?' if close else list(names)}")
    if not chosen or len(set(chosen)) < len(chosen):
        raise OptionError(f"classes: names of different classes are wanted, at least one, not {list(chosen)}")
    kept = [place for place, name in enumerate(names) if name in chosen]
    number = np.full(len(names) + 1, -1, label.dtype)  # the last stands for the label −1
    number[kept] = np.arange(len(kept))
    return [names[place] for place in kept], number[label]


def validation_queries(index: dict[str, np.ndarray], train: np.ndarray, share: float) -> np.ndarray:
    """Chooses the training clips that ask in validation.

    Whole performers are chosen, by a hash of their numbers, or whole setups where the files do not tell who acts;
    clips of each class, by a hash of their ids, when there are fewer than three of them. At least one performer,
    setup, or clip of a class, stays in the gallery.

    Args:
        index: Columns of the store.
        train: Positions of the training part, (N,).
        share: Share of the performers, or of the clips of a class, that ask.

    Returns:
        (N,) bool.
    """

    def chosen(names: Sequence[str]) -> set[str]:
        count = min(max(1, round(share * len(names))), len(names) - 1)
        return set(sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:count])

    known = (index["subject"][train] >= 0).any()
    groups = index["subject" if known else "setup"][train].astype(str)
    if len(names := np.unique(groups)) >= 3:
        return np.isin(groups, list(chosen(names.tolist())))
    ids, labels = index["id"][train], index["label"][train]
    return np.isin(ids, [name for label in np.unique(labels) for name in chosen(ids[labels == label].tolist())])


def digest(ids: Iterable[str]) -> str:
    """Hexadecimal SHA-256 of the sorted ids, one per line: ``tail -n +3 labels.txt | sha256sum``."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(ids)).encode()).hexdigest()


_SUM = re.compile(r"# sha256 of the ids: (\w+)")


def write_labels(path: Path, ids: Iterable[str], comment: str) -> None:
    """Writes which clips are labelled: two lines of comment, then one id per line, sorted.

    Args:
        path: File to write.
        ids: Names of the clips.
        comment: How they were chosen; one line.
    """
    names = sorted(ids)
    head = f"# {comment}\n# sha256 of the ids: {digest(names)}\n"
    with atomic_write(path) as part:
        part.write_text(head + "".join(f"{name}\n" for name in names), encoding="utf-8")


def read_labels(path: Path) -> list[str]:
    """Reads a list of ids, one per line, below any number of comments: lines that start with ``#``.

    The last comment is the line with the SHA-256 that :func:`write_labels` writes, or stands above an empty line or an
    id that starts otherwise; lines below it are ids, also those that start with ``#``.

    Args:
        path: File written by :func:`write_labels`, or by hand.

    Returns:
        The ids.

    Raises:
        InputError: If there is no such file, it lists nothing, or its ids do not have the SHA-256 that it names.
    """
    try:
        lines = path.read_text("utf-8").split("\n")  # and at no other character, which an id may hold
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else "cannot be read as text"
        raise InputError(f"subset {path}: {reason}; a rule is one of {', '.join(RULES)}") from error
    size = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    sums = [_SUM.fullmatch(line) for line in lines[:size]]
    size = next((n + 1 for n, noted in enumerate(sums) if noted), size)
    names = [line for line in lines[size:] if line]
    if not names:
        raise InputError(f"{path}: lists no clip")
    noted = next((noted for noted in sums if noted), None)
    if noted and noted[1] != digest(names):
        raise InputError(f"{path}: its ids are not those that were written; delete the line with the sha256 if meant")
    return names
