"""AdaptedStore: the clips of a store with the joints and the frames per second that a network wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skelcl.clips import Clips
from skelcl.data.frame_rate import frame_step, num_frames, resample
from skelcl.data.poses.layouts import LayoutMap, find_layout, map_layout
from skelcl.data.store import SkeletonStore, bodies_of, fill_joints
from skelcl.errors import InputError
from skelcl.skeleton import Skeleton

_JOINTS: dict[str, tuple[str, ...]] = {
    "root": ("origin",),
    "sgn": ("origin",),
    "hcn": ("origin",),
    "agcn": ("origin", "up", "across"),
    "stgcn50": ("center", "across"),
    "sds": ("up", "center"),
}
"""Recipe → the fields of a layout that name the joints by which it moves a body; others look at all joints."""


class AdaptedStore(SkeletonStore):
    """A store whose clips are mapped to another layout and resampled to another rate on their way into a batch.

    Joints are mapped as ``skelcl data import poses --to`` maps them, before anything missing is filled in: what is
    made of a missing joint is missing. A body that an import would leave out, because a joint of it could then be made
    in no frame, is filled in first instead.

    Args:
        path: Folder of the store.
        in_memory: As :class:`SkeletonStore`.
        layout: Layout of the clips, by name, file or the content of a file; None is that of the store.
        fps: Frames per second of the clips; None is what the store has.

    Attributes:
        changes: What is done to the clips, one text each; empty when nothing is.

    Raises:
        StoreError: As :class:`SkeletonStore`.
        InputError: The layout is unknown, a joint of it cannot be made, the clips were normalised by joints that it has
            elsewhere, or the frames per second of the store are not known, or too far from those wanted.
    """

    def __init__(
        self,
        path: str | Path,
        in_memory: bool = False,
        layout: str | Path | Mapping[str, Any] | None = None,
        fps: float | None = None,
    ) -> None:
        super().__init__(path, in_memory)
        self.change: LayoutMap | None = None
        self.step: Fraction | None = None
        changes: list[str] = []
        target = self.skeleton if layout is None else find_layout(layout)
        if target != self.skeleton:
            self.change = self._map_to(target)
            self.skeleton = target
            changes.append(self.change.summary)
        own = self.meta["fps"]
        if fps is not None and fps != own:
            if own is None:
                raise InputError(
                    f"{self.path}: how many frames per second it has is not known: import it anew with --fps, or leave "
                    "--data.fps out"
                )
            try:
                self.step = frame_step(own, fps)
            except InputError as error:
                raise InputError(f"{self.path}: {error}") from error
            frames = num_frames(torch.from_numpy(self._frames), self.step)
            self.index["n_frames"] = frames.numpy().astype(self.index["n_frames"].dtype)
            changes.append(f"{own:g} → {fps:g} frames per second, linearly interpolated")
        self.changes = changes
        self.meta = {**self.meta, "skeleton": target.to_dict(), "fps": own if fps is None else fps}

    def _map_to(self, target: Skeleton) -> LayoutMap:
        try:
            change = map_layout(self.skeleton, target)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error
        moved = self.recipe not in ("none", *_JOINTS) and bool(change.synthesised or change.unused)
        for field in _JOINTS.get(self.recipe, ()):
            before, after = (np.atleast_1d(getattr(layout, field)).tolist() for layout in (self.skeleton, target))
            moved = moved or not all(map(change.copies, before, after))
        if moved:
            raise InputError(
                f"{self.path}: its clips went through the recipe {self.recipe!r} by joints of {self.skeleton.name} "
                f"that {target.name} has not or elsewhere: map a store of raw files, or keep to the store's layout"
            )
        return change

    def recording(self, position: int) -> np.ndarray:
        """The coordinates of one clip, adapted, (M, T, V, C) float32, NaN where a body was not seen."""
        return bodies_of(self.clips([position], int(self._bodies[position])), 0)

    def _complete(self, clips: Clips, repaired: np.ndarray) -> Clips:
        if self.change is not None:
            clips = map_joints(clips, self.change, repaired)
        clips = super()._complete(clips, repaired)
        return clips if self.step is None else resample(clips, self.step)


def open_store(
    path: str | Path,
    in_memory: bool = False,
    layout: str | Path | Mapping[str, Any] | None = None,
    fps: float | None = None,
) -> SkeletonStore:
    """A store as it is, or an :class:`AdaptedStore` where a layout or a rate is asked for; arguments as of that."""
    asked = layout is not None or fps is not None
    return AdaptedStore(path, in_memory, layout, fps) if asked else SkeletonStore(path, in_memory)


def map_joints(clips: Clips, change: LayoutMap, incomplete: np.ndarray) -> Clips:
    """The same clips in another layout, all rows at once; missing joints as an import would have them.

    A frame in which more than half of the joints are missing then shows nobody.

    Args:
        clips: N clips in main memory, as they are stored.
        change: The map.
        incomplete: Places of the clips in which single joints are missing.
    """
    mapped = replace(
        clips, joints=torch.from_numpy(change(clips.joints.numpy())), first=clips.first.clone(), skeleton=change.target
    )
    gaps = clips.gaps
    for n in incomplete:
        joints = bodies_of(mapped, n)
        missing = np.isnan(joints[..., 0])
        absent = 2 * missing.sum(-1) > missing.shape[-1]
        lost = absent.all(1) | (missing | absent[..., None]).all(1).any(1)
        if lost.any():
            source = bodies_of(clips, n)[lost]
            fill_joints(source)
            joints[lost] = change(source)
            absent[lost] = np.isnan(joints[lost][..., 0]).any(-1)
        joints[absent] = np.nan
        mapped.first[n] = int(np.argmin(absent[0]))
        gaps = gaps or bool(absent.any())
    return replace(mapped, gaps=gaps)
