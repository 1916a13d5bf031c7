"""A store to the files that other code bases read: normalised as their format promises, written clip block by block."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch

from skelcl.data.formats import agcn, ctr_gcn, ntu_npy, ntu_release, pyskl, sgn
from skelcl.data.formats.arrays import TEST, TRAIN, is_ntu
from skelcl.data.official_splits import official_splits
from skelcl.data.store import SkeletonStore
from skelcl.errors import InputError
from skelcl.skeleton import NTU25
from skelcl.transforms.normalize import Normalize
from skelcl.transforms.resample import Resize, Sampler, Truncate

Target = Literal["ctr-gcn", "agcn", "aimclr", "pyskl", "sgn", "ntu-npy"]

FRAMES = 300
"""Frames of the padded formats."""
RESIZED = 50
"""Frames of AimCLR's format."""
_BLOCK = 256
_CAMERA_SPACE = ("pyskl", "sgn", "ntu-npy")


def export(store: SkeletonStore, format: Target, output: Path, splits: list[str] | None = None) -> list[str]:
    """Writes a store in a format of another code base.

    The folder appears by renaming once it is complete.

    Args:
        store: The store, of 25 joints in 3D; ``pyskl`` takes some others.
        format: ``ctr-gcn`` (also MAMP): an npz for each protocol, normalised with ``sgn``. ``agcn`` (2s-AGCN and its
            forks): a folder for each protocol, normalised with ``agcn``, short clips repeated to fill 300 frames, their
            lengths in ``num_frame``; empty frames stay where they are. ``aimclr``: a folder for each protocol, resized
            to 50 frames and normalised with ``stgcn50``. ``pyskl``, ``sgn`` and ``ntu-npy``: camera space.
        output: Folder to write; absent or empty.
        splits: Protocols to write; by default all that the data set has.

    Returns:
        What was written and what the format cannot hold, line by line.

    Raises:
        InputError: The folder holds something, the store does not fit the format, or there is no such protocol.
    """
    if format not in get_args(Target):
        raise InputError(f"--format {format!r}: must be one of {', '.join(get_args(Target))}")
    fits = store.channels == 3 and store.skeleton.num_joints == NTU25.num_joints
    if format not in _CAMERA_SPACE and not fits:
        found = f"{store.skeleton.num_joints} joints with {store.channels} coordinates"
        raise InputError(f"{store.path}: {format} files have {NTU25.num_joints} joints in 3D, the store has {found}")
    if (store.index["label"] < 0).any():
        raise InputError(f"{store.path}: {int((store.index['label'] < 0).sum())} clips have no label")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output} exists and is not an empty folder: choose another --output")
    if format in _CAMERA_SPACE and store.recipe != "none":
        raise InputError(
            f"{store.path}: {format} files hold camera space, the store went through the recipe {store.recipe!r}"
        )
    chosen = _chosen(store, splits)
    work = output.parent / f".{output.name}.partial"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        lines = _WRITERS[format](store, work, chosen)
        if output.exists():
            output.rmdir()
        os.rename(work, output)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return lines


def _chosen(store: SkeletonStore, splits: list[str] | None) -> dict[str, np.ndarray]:
    known = official_splits(store)
    for split in splits or []:
        if split not in known:
            there = ", ".join(known) or "none, so --split must be left out"
            raise InputError(f"--split {split!r}: the protocols of {store.path} are {there}")
    chosen = {split: known[split] for split in splits or known}
    return chosen or {"all": np.ones(len(store), bool)}


def _parts(train: np.ndarray, names: tuple[str, str]) -> dict[str, np.ndarray]:
    """Positions of the two parts by the format's name for them; an empty part is left out."""
    parts = zip(names, (np.flatnonzero(train), np.flatnonzero(~train)), strict=True)
    return {name: part for name, part in parts if len(part)}


def _name(id: str) -> str:
    """The name of a clip without the part that its place in the files tells."""
    return id.removeprefix(TRAIN).removeprefix(TEST)


def blocks(
    store: SkeletonStore, positions: np.ndarray, sample: Sampler, normalize: Normalize, fill: bool = False
) -> Iterator[np.ndarray]:
    """Normalised views of some clips, (B, C, T, V, 2) float32 each.

    Args:
        store: The store.
        positions: The clips, (N,).
        sample: Chooses the frames.
        normalize: Normalises them.
        fill: Repeat clips that are shorter than the view until they fill it, instead of zeros.
    """
    for first in range(0, len(positions), _BLOCK):
        clips = store.clips(positions[first : first + _BLOCK], ctr_gcn.BODIES)
        x = normalize(sample(clips), clips)
        if fill:
            frame = torch.arange(sample.frames) % clips.frames[:, None]
            x = torch.stack([clip[:, order] for clip, order in zip(x, frame, strict=True)])
        yield x.numpy()


def losses(store: SkeletonStore, frames: int | None = None) -> list[str]:
    """What padded arrays of two bodies do not hold of a store, a line for each kind of loss.

    Args:
        store: The store.
        frames: Frames that fit.
    """
    index = store.index
    long = int((index["n_frames"] > frames).sum()) if frames else 0
    more = int((index["n_bodies"] > ctr_gcn.BODIES).sum())
    gaps = sum(bool(np.isnan(store.recording(n)[..., 0]).any()) for n in np.flatnonzero(index["flags"]).tolist())
    lost = {
        f"clips were cut at {frames} frames": long,
        f"clips have more than {ctr_gcn.BODIES} bodies, of which the first {ctr_gcn.BODIES} were written": more,
        "clips have missing frames or joints: frames were written as zeros, joints interpolated": gaps,
    }
    return [f"lost: {count} {what}" for what, count in lost.items() if count]


# --- formats ----------------------------------------------------------------------------------------------------------


def _write_ctr_gcn(store: SkeletonStore, folder: Path, splits: Mapping[str, np.ndarray]) -> list[str]:
    lines = []
    for split, train in splits.items():
        parts = _parts(train, ("train", "test"))
        position = {name: n for n, name in enumerate(store.ids.tolist())}
        dataset = store.meta["dataset"]
        name = ctr_gcn.FILES.get((dataset, split), f"{dataset}_{split}")
        if dataset in ntu_release.PUBLISHED and is_ntu(list(position)):
            ordered = ctr_gcn.replay(dataset, split, position)
            parts = {
                part: np.array([position[id] for id in ids])
                for part, ids in zip(("train", "test"), ordered, strict=True)
                if ids
            }

        def write(positions: np.ndarray) -> Callable[[], Iterator[np.ndarray]]:
            return lambda: blocks(store, positions, Truncate(FRAMES), Normalize("sgn"))

        label = store.index["label"]
        ctr_gcn.write_npz(
            folder / f"{name}.npz",
            {part: (label[positions], write(positions)) for part, positions in parts.items()},
            len(store.meta["classes"]),
        )
        names = [store.ids[n] for positions in parts.values() for n in positions]
        (folder / f"{name}_names.txt").write_text("".join(f"{name}\n" for name in names), "utf-8")
        sizes = " + ".join(f"{len(positions)} {part}" for part, positions in parts.items())
        lines.append(f"{name}.npz: {sizes} clips, recipe sgn; their names are in {name}_names.txt")
    return lines + losses(store, FRAMES)


def _write_agcn(store: SkeletonStore, folder: Path, splits: Mapping[str, np.ndarray]) -> list[str]:
    views = {"data_joint": (FRAMES, Truncate(FRAMES), Normalize("agcn"), True)}
    return _write_npy(store, folder, splits, views) + losses(store, FRAMES)


def _write_aimclr(store: SkeletonStore, folder: Path, splits: Mapping[str, np.ndarray]) -> list[str]:
    views = {"position": (RESIZED, Resize(RESIZED), Normalize("stgcn50"), False)}
    return [*_write_npy(store, folder, splits, views), f"lost: all lengths are {RESIZED} frames now", *losses(store)]


def _write_npy(
    store: SkeletonStore,
    folder: Path,
    splits: Mapping[str, np.ndarray],
    views: Mapping[str, tuple[int, Sampler, Normalize, bool]],
) -> list[str]:
    lines = []
    for split, train in splits.items():
        (folder / split).mkdir()
        parts = _parts(train, ("train", "val"))
        for part, positions in parts.items():
            labels = store.index["label"][positions].astype(np.int64)
            for name, (frames, sample, normalize, fill) in views.items():
                shape = (len(positions), 3, frames, NTU25.num_joints, ctr_gcn.BODIES)
                views_of = blocks(store, positions, sample, normalize, fill)
                agcn.write_array(folder / split / f"{part}_{name}.npy", shape, views_of)
                if fill:
                    lengths = np.minimum(store.index["n_frames"][positions], frames).astype(np.int64)
                    np.save(folder / split / f"{part}_num_frame.npy", lengths)
                else:
                    np.save(folder / split / f"{part}_label.npy", labels[:, None])
            names = [_name(name) for name in store.ids[positions]]
            agcn.write_names(folder / split / f"{part}_label.pkl", names, labels.tolist())
        recipe = next(iter(views.values()))[2].recipe
        sizes = " + ".join(f"{len(positions)} {part}" for part, positions in parts.items())
        lines.append(f"{split}: {sizes} clips, recipe {recipe}")
    return lines


_WRITERS: dict[str, Callable[[SkeletonStore, Path, dict[str, np.ndarray]], list[str]]] = {
    "ctr-gcn": _write_ctr_gcn,
    "agcn": _write_agcn,
    "aimclr": _write_aimclr,
    "pyskl": pyskl.write_pyskl,
    "sgn": sgn.write_sgn,
    "ntu-npy": ntu_npy.write_ntu_npy,
}
