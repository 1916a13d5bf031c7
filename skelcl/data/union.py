"""UnionStore: the clips of several stores, one store after the other."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skelcl.clips import Clips
from skelcl.data.store import SkeletonStore
from skelcl.errors import InputError


class UnionStore(SkeletonStore):
    """Several stores of one layout as one: clip n of a store that begins at b has the position b + n.

    It is in no folder of its own: whatever is read is read from the stores.

    Args:
        stores: By the names of their parts. Clips are called ``<part>/<id>``.

    Attributes:
        begins: Position of the first clip of each part, and the number of all clips behind them, (P + 1,).

    Raises:
        InputError: They differ in joints, in coordinates per joint or in normalisation.
    """

    def __init__(self, stores: Mapping[str, SkeletonStore]) -> None:  # it opens no folder
        self.stores = dict(stores)
        self.path = Path(", ".join(str(store.path) for store in stores.values()))
        self.begins = np.cumsum([0, *(len(store) for store in stores.values())])
        some = next(iter(stores.values()))
        self.skeleton = some.skeleton
        self._check()
        self.index = {
            name: np.concatenate([store.index[name] for store in stores.values()])
            for name in some.index.keys() - {"id"}
        }
        self.index["id"] = np.concatenate(
            [np.char.add(f"{name}/", store.ids.astype(str)) for name, store in stores.items()]
        )
        self.changes = [f"{name}: {change}" for name, store in stores.items() for change in store.changes]
        rates = {store.meta["fps"] for store in stores.values()}
        self.meta = {
            "skeleton": some.skeleton.to_dict(),
            "channels": some.channels,
            "recipe": some.recipe,
            "fps": rates.pop() if len(rates) == 1 else None,
            "source": "several stores",
            "parameters": {},
            "sha256": {name: store.digest for name, store in stores.items()},
        }
        for name in ("units", "axes"):
            self.meta[name] = " or ".join(dict.fromkeys(store.meta[name] for store in stores.values()))

    def _check(self) -> None:
        first, *others = self.stores.items()
        for name, store in others:
            two = f"the parts {first[0]} and {name}"
            if store.skeleton != first[1].skeleton:
                raise InputError(
                    f"{two} have different joints, {first[1].skeleton.name} and {store.skeleton.name}: add the layout "
                    f"of the mixture, --data.layout {first[1].skeleton.name} for example"
                )
            if store.channels != first[1].channels:
                raise InputError(
                    f"{two} have {first[1].channels} and {store.channels} coordinates per joint: import one of them "
                    "anew, with --channels 2"
                )
            if store.recipe != first[1].recipe:
                raise InputError(
                    f"{two} were normalised differently before they were stored, {first[1].recipe} and {store.recipe}: "
                    "take stores of one recipe, as of raw files"
                )

    def __len__(self) -> int:
        return int(self.begins[-1])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of the digests of the stores."""
        told = "".join(f"{name} {digest}\n" for name, digest in self.meta["sha256"].items())
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def joints(self) -> np.ndarray:
        """There is no array of all rows; each store has its own.

        Raises:
            TypeError: Always.
        """
        raise TypeError("a UnionStore has no array of its own: ask its stores")

    def check_unchanged(self) -> None:
        """Refuses stores that have changed, as :meth:`SkeletonStore.check_unchanged`."""
        for store in self.stores.values():
            store.check_unchanged()

    def recording(self, position: int) -> np.ndarray:
        """The coordinates of one clip, (M, T, V, C) float32, NaN where nothing was seen."""
        place = int(np.searchsorted(self.begins, position, "right")) - 1
        return list(self.stores.values())[place].recording(int(position - self.begins[place]))

    def clips(self, positions: Sequence[int] | np.ndarray, num_persons: int = 1) -> Clips:
        """Copies clips out of the stores; in each of them those that are asked for come at once.

        Args:
            positions: Places in the index, (N,).
            num_persons: Bodies to keep of each clip.

        Returns:
            N clips in main memory.
        """
        where = np.atleast_1d(np.asarray(positions, np.int64))
        place = np.searchsorted(self.begins, where, "right") - 1
        found = [
            store.clips(where[place == number] - self.begins[number], num_persons)
            for number, store in enumerate(self.stores.values())
            if (place == number).any()
        ] or [next(iter(self.stores.values())).clips(where, num_persons)]
        order = torch.from_numpy(np.argsort(np.argsort(place, kind="stable"), kind="stable"))
        clips = concatenate(found)[order]
        label = torch.from_numpy(self.index["label"][where].astype(np.int64))
        return replace(clips, label=label, index=torch.from_numpy(where.copy()))

    def damage(self) -> list[str]:
        """What differs from the checksums of the stores, one line each."""
        return [line for store in self.stores.values() for line in store.damage()]


def concatenate(batches: Sequence[Clips]) -> Clips:
    """The clips of several batches as one, in order.

    Args:
        batches: At least one, of the same joints, bodies and normalisation.
    """
    rows = np.cumsum([0, *(len(clips.joints) for clips in batches)]).tolist()
    per_clip = ("frames", "bodies", "first", "label", "index", "repeat")
    joined: dict[str, Any] = {name: torch.cat([getattr(clips, name) for clips in batches]) for name in per_clip}
    return replace(
        batches[0],
        joints=torch.cat([clips.joints for clips in batches]),
        offsets=torch.cat([clips.offsets + row for clips, row in zip(batches, rows, strict=False)]),
        gaps=any(clips.gaps for clips in batches),
        **joined,
    )
