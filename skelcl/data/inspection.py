"""What a store holds, behind ``skelcl data check`` and ``skelcl data list``."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np

from skelcl.data.official_splits import official_splits
from skelcl.data.plausibility import HEIGHTS, MAX_SIZE_RATIO, Defects, find_defects, limits
from skelcl.data.schema import Flag
from skelcl.data.store import SkeletonStore, StoreError, train_duplicates
from skelcl.errors import printable
from skelcl.files import one_line

_CLIPS_AT_ONCE = 1024


def check(store: str, root: Path = Path("data")) -> int:
    """Verify a store and print what it holds.

    Args:
        store: Name of a data set below ROOT, or, where there is none, the folder of a store.
        root: Folder of the stores.

    Returns:
        Exit code: 0 when whole, 1 when a checksum differs.

    Raises:
        StoreError: The folder is missing, foreign, incomplete or truncated.
    """
    below = root / store
    opened = SkeletonStore(store if Path(store).is_dir() and not below.is_dir() else below)
    damage, found = opened.damage(), _defects(opened)
    rows = statistics(opened, found)
    rows["checksums"] = "as written" if not damage else "differ"
    width = max(map(len, rows))
    print(printable(str(opened.path)))
    for name, value in rows.items():
        print(f"  {name:<{width}}  {value}")
    for line in damage:
        print(printable(f"{line}: {opened.rebuild_hint}"))
    for line in doubts(opened, found):
        print(printable(f"warning: {line}"))
    return 1 if damage else 0


def list_stores(root: Path = Path("data")) -> int:
    """List the stores below a folder.

    Args:
        root: Folder of the stores.

    Returns:
        Exit code: 0, or 1 when one of them cannot be opened.
    """
    folders = sorted(file.parent for file in root.glob("*/meta.json") if file.parent.name[0] != ".")
    if not folders:
        print(f"no stores in {root}: make one with `skelcl data prepare`")
        return 0
    lines: list[tuple[str, ...]] = [("store", "sequences", "frames", "classes", "joints", "MB")]
    broken = 0
    for folder in folders:
        try:
            store = SkeletonStore(folder)
        except StoreError as error:
            print(printable(str(error)))
            broken = 1
            continue
        counts, size = store.meta["counts"], (folder / "joints.npy").stat().st_size / 1e6
        numbers = (counts["sequences"], counts["frames"], len(store.meta["classes"]), store.skeleton.num_joints)
        lines.append((printable(str(folder)), *map(str, numbers), f"{size:.1f}"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        print(f"{first:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)))
    return broken


def statistics(store: SkeletonStore, found: Defects | None = None) -> dict[str, str]:
    """What a store holds, ready to print.

    Args:
        store: An open store.
        found: What is odd in its clips, where that is known already.

    Returns:
        Name of the quantity → its value.
    """
    index, classes = store.index, store.meta["classes"]
    frames, bodies, flags = index["n_frames"], index["n_bodies"], index["flags"]
    per_class = np.bincount(index["label"][index["label"] >= 0], minlength=len(classes))
    used = per_class[per_class > 0]
    spread = f", {used.min()} to {used.max()} sequences each" if len(used) else ""
    lengths = f"min {frames.min()} / median {np.median(frames):g} / max {frames.max()}"
    people = ", ".join(f"{int((bodies == n).sum())} with {n}" for n in np.unique(bodies))
    meta, limit = store.meta, limits(store.meta["units"])
    found = _defects(store) if found is None else found
    holes, gaps = int(found.holes.sum()), int(found.gaps.sum())
    # Of the frames that show a body at all.
    places = max(1, (len(store.joints) - gaps) * store.skeleton.num_joints)
    unit = f" {meta['units']}" * (meta["units"] != "as given")
    rate = "unknown" if meta["fps"] is None else f"{meta['fps']:g} frames per second"
    rows = {
        "coordinates": f"{store.channels}; units {meta['units']}; axes {meta['axes']}; recipe {meta['recipe']}",
        "rate": rate,
        "typical height": f"{_typical(found.height):.3g}{unit} along y",
        "sequences": f"{len(store)}, of which {int((flags & Flag.SINGLE_FRAME > 0).sum())} have a single frame",
        "classes": f"{len(used)} of {len(classes)}{spread}",
        "performers, cameras, setups": ", ".join(_distinct(index[name]) for name in ("subject", "camera", "setup")),
        "frames": f"{frames.sum()}; per sequence {lengths}",
        "bodies": people,
        "missing joints": f"{holes}, {holes / places:.1%}, in {int((flags & Flag.REPAIRED > 0).sum())} sequences "
        "(interpolated when loaded)",
        "missing frames of a body": f"{gaps} in {int((flags & Flag.GAP > 0).sum())} sequences",
    }
    with np.errstate(invalid="ignore"):
        share = found.size / _typical(found.size)
    where = f"> {limit.far:g} m" if limit.unit == "m" else f"> {limit.far:g} {limit.unit} from their body"
    rows |= {
        f"jumps of a joint > {limit.jump:g} {limit.unit}": _count(found.jumps, store.ids),
        f"coordinates {where}": _count(found.far, store.ids),
        f"bones > {limit.long:g} {limit.unit}": _count(found.long, store.ids),
        f"bodies {MAX_SIZE_RATIO:g} times larger or smaller than most": _count(
            (share > MAX_SIZE_RATIO) | (share < 1 / MAX_SIZE_RATIO), store.ids
        ),
        "bodies that swap between two frames": _count(found.swaps, store.ids),
        "joints that never move": _count(_frozen(store, found).sum(1) > 0, store.ids),
    }
    divided = official_splits(store)
    for name, train in divided.items():
        content = index["content"]
        repeated = int(train.sum()) - len(np.unique(content[train]))
        rows[name] = (
            f"train {int(train.sum())} / test {int((~train).sum())}; copies: "
            f"{int(train_duplicates(content, train).sum())} of the test part in training, {repeated} within training"
        )
    if not divided:
        rows["copies"] = str(len(store) - len(np.unique(index["content"])))
    return rows


def doubts(store: SkeletonStore, found: Defects) -> list[str]:
    """What about a whole store looks wrong, a line each: what to look at before training on it.

    Args:
        store: An open store.
        found: What is odd in its clips.
    """
    raw, deep, lines = store.meta["recipe"] == "none", store.channels == 3, []
    height = _typical(found.height)
    if raw and deep and not HEIGHTS[0] <= height <= HEIGHTS[1]:
        lines.append(
            f"a typical height of {height:.3g}: people have {HEIGHTS[0]:g} to {HEIGHTS[1]:g} m; noise and recipes that "
            "do not scale count on metres, so scale the files, or look whether y is the axis that points up"
        )
    down = int((found.upright < 0).sum())
    if raw and down > 3 * (found.upright > 0).sum():  # people lie down, too
        lower, upper = (store.skeleton.joints[joint] for joint in store.skeleton.up)
        lines.append(
            f"the {upper} lies below the {lower} in {down} of {len(store)} sequences: "
            "where y points down in the files, import them with --y_down true"
        )
    if found.flat.mean() > 0.5:
        lines.append(
            f"z is zero throughout in {int(found.flat.sum())} of {len(store)} sequences: poses in a plane are imported "
            "with --channels 2"
        )
    often = _frozen(store, found).mean(0) > 0.5
    if often.any():
        names = ", ".join(np.array(store.skeleton.joints)[often])
        lines.append(f"never moving in most sequences: {names}; joints that nobody saw may stand at a fixed place")
    return lines


def _typical(value: np.ndarray) -> float:
    return float(np.nanmedian(value)) if np.isfinite(value).any() else float("nan")


def _frozen(store: SkeletonStore, found: Defects) -> np.ndarray:
    """Joints that never move, (n, V) bool; none after a recipe that holds one at the origin."""
    return found.frozen & (store.meta["recipe"] == "none")


def _distinct(column: np.ndarray) -> str:
    known = len(np.unique(column[column >= 0]))
    return str(known) if known else "unknown"


def _count(clips: np.ndarray, ids: np.ndarray) -> str:
    """How many clips are odd, and which is the first."""
    (which,) = np.nonzero(clips)
    return f"in {len(which)} sequences" + (f", the first is {one_line(str(ids[which[0]]))}" if len(which) else "")


def _defects(store: SkeletonStore) -> Defects:
    """What is odd in each clip, found in blocks, so that memory is flat."""
    lengths, bodies = store.index["n_frames"].astype(np.int64), store.index["n_bodies"].astype(np.int64)
    parts = []
    for start in range(0, len(store), _CLIPS_AT_ONCE):
        chosen = slice(start, start + _CLIPS_AT_ONCE)
        row = int(store.index["row"][start])
        joints = store.joints[row : row + int((lengths[chosen] * bodies[chosen]).sum())]
        limit = limits(store.meta["units"])
        parts.append(find_defects(joints, lengths[chosen], bodies[chosen], store.skeleton, limit))
    names = [each.name for each in fields(Defects)]
    return Defects(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})
