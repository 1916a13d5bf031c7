"""How the clips of a store become batches: in which order, on which process, from which batch on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, SequentialSampler

from skelcl.clips import Clips
from skelcl.data.store import SkeletonStore
from skelcl.seeding import generator


class ClipDataset(Dataset[Clips | Tensor]):
    """Batches of a store by the positions of their clips: the loader's "sample" is a whole batch.

    Position n of a store of S clips is asked for as n + r · S where the batch shows the clip as repeat r.

    Args:
        store: The store.
        num_persons: Bodies to keep of each clip.
        index_only: Yield what was asked for, (N,) int64, instead of the clips.
    """

    def __init__(self, store: SkeletonStore, num_persons: int, index_only: bool = False) -> None:
        self.store = store
        self.num_persons = num_persons
        self.index_only = index_only

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, positions: int | Sequence[int] | np.ndarray) -> Clips | Tensor:
        where = np.atleast_1d(np.asarray(positions, np.int64))
        if self.index_only:
            return torch.from_numpy(where)
        repeat, position = np.divmod(where, len(self.store))
        return replace(self.store.clips(position, self.num_persons), repeat=torch.from_numpy(repeat))


class ShuffledBatches(DistributedSampler[np.ndarray]):
    """Batches of positions in an order that depends on the run's seed and the epoch alone.

    The permutation is cut into global batches of ``batch_size · ranks`` clips, and each of these into one block per
    rank, so R ranks see together exactly what one process with an R times larger batch sees, in rank order. With
    several ranks the last batch is filled up from the start of the permutation until it divides evenly.

    Being a DistributedSampler it is left in place by Lightning, which also tells it the epoch.

    Args:
        positions: Clips to shuffle, (N,).
        batch_size: Clips per batch and rank.
        ranks: Number of processes.
        rank: Number of this process.
        drop_last: Leave out the last batch when it is not full.

    Attributes:
        seen: Tells how many batches of its epoch a resumed run has seen already; asked once, by the first iteration.
    """

    def __init__(
        self, positions: np.ndarray, batch_size: int, ranks: int = 1, rank: int = 0, drop_last: bool = False
    ) -> None:
        super().__init__(ClipPositions(positions), num_replicas=ranks, rank=rank)
        self.positions = np.asarray(positions, np.int64)
        self.batch_size = batch_size
        self.drop_last = drop_last
        self.seen: Callable[[], int] | None = None

    def __len__(self) -> int:
        whole, rest = divmod(len(self.positions), self.batch_size * self.num_replicas)
        return whole + (rest > 0 and not self.drop_last)

    def order(self) -> np.ndarray:
        """The positions in the order of this epoch, (N,)."""
        return self.positions[torch.randperm(len(self.positions), generator=generator("shuffle", self.epoch)).numpy()]

    def __iter__(self) -> Iterator[np.ndarray]:
        shuffled = self.order()
        step = self.batch_size * self.num_replicas
        seen, self.seen = self.seen, None
        for first in range(seen() * step if seen is not None else 0, len(self) * step, step):
            batch = shuffled[first : first + step]
            block = -(-len(batch) // self.num_replicas)
            batch = np.concatenate([batch, np.resize(shuffled, block * self.num_replicas - len(batch))])
            yield batch[self.rank * block : (self.rank + 1) * block]


class BalancedBatches(ShuffledBatches):
    """The batches of :class:`ShuffledBatches`, of as many clips, but of each class equally many, or in given shares.

    Of N showings a class of weight w gets ⌊N · w / Σw⌋, and those that remain go to classes drawn anew in every epoch,
    one to each; those of a class are whole shuffles of its clips, one after the other, so that none comes twice before
    all came once.

    Args:
        positions: Clips to shuffle, (N,).
        label: Their classes, or whatever else they are to be shared out among, (N,) int64.
        weights: How many showings each label gets, relative to the others; None is equally many.
        batches: Further arguments of :class:`ShuffledBatches`.
    """

    def __init__(
        self, positions: np.ndarray, *batches: Any, label: np.ndarray, weights: Sequence[float] | None = None
    ) -> None:
        super().__init__(positions, *batches)
        found = np.unique(label)
        self.members = [self.positions[label == one] for one in found]
        self.weights = np.ones(len(found)) if weights is None else np.asarray(weights, np.float64)[found]

    def order(self) -> np.ndarray:
        """The showings of this epoch, (N,)."""
        random = generator("shuffle", self.epoch)
        n, k = len(self.positions), len(self.members)
        counts = np.floor(n * self.weights / self.weights.sum()).astype(np.int64)
        counts[torch.randperm(k, generator=random)[: n - int(counts.sum())].numpy()] += 1
        showings = []
        for some, count in zip(self.members, counts.tolist(), strict=True):
            rounds = [torch.randperm(len(some), generator=random).numpy() for _ in range(-(-count // len(some)))]
            showings.append(some[np.concatenate(rounds)[:count]] if rounds else some[:0])
        return np.concatenate(showings)[torch.randperm(n, generator=random).numpy()]


class FirstBatches(ShuffledBatches, SequentialSampler):  # type: ignore[misc]  # both iterate, of int the second
    """The batches of :class:`ShuffledBatches` unshuffled, the same in every epoch.

    Being a SequentialSampler it is left in place by Lightning's ``overfit_batches``, which puts single clips of the
    whole store in the place of others.
    """

    def order(self) -> np.ndarray:
        """The positions as they were given, (N,)."""
        return self.positions


class OrderedBatches(DistributedSampler[np.ndarray], SequentialSampler):
    """Batches of positions in their given order, each clip exactly once over all ranks.

    Every rank owns one contiguous part; parts differ by one clip at most, and a part may be empty. Being a
    SequentialSampler it is left in place by Lightning's ``overfit_batches``, too.

    Args:
        positions: Clips in order, (N,).
        batch_size: Clips per batch and rank.
        ranks: Number of processes.
        rank: Number of this process.
    """

    def __init__(self, positions: np.ndarray, batch_size: int, ranks: int = 1, rank: int = 0) -> None:
        super().__init__(ClipPositions(positions), num_replicas=ranks, rank=rank, shuffle=False)
        self.part = np.array_split(np.asarray(positions, np.int64), ranks)[rank]
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.part) // self.batch_size)

    def __iter__(self) -> Iterator[np.ndarray]:  # type: ignore[override]  # of int in a SequentialSampler
        for first in range(0, len(self.part), self.batch_size):
            yield self.part[first : first + self.batch_size]


class ClipPositions(Dataset[int]):
    """Gives a sampler the number of its clips.

    Args:
        positions: Clips, (N,).
    """

    def __init__(self, positions: np.ndarray) -> None:
        self.positions = positions

    def __len__(self) -> int:
        return len(self.positions)


class ClipLoader(DataLoader[Clips | Tensor]):
    """Asks the sampler for its batches when the first is wanted, not when the iterator is made.

    Lightning makes the iterator of a resumed run before it tells the sampler the epoch, and workers ask at once.
    """

    def __iter__(self) -> Iterator[Clips | Tensor]:  # type: ignore[override]  # PyTorch names a class of its own
        """One epoch of batches."""
        yield from super().__iter__()
