"""The functions behind ``skelcl data``; their signatures and docstrings are the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from skelcl.data.formats import ntu, nw_ucla, pku_mmd, synthetic, synthetic_poses
from skelcl.data.formats.poses import Format
from skelcl.data.import_poses import convert_poses
from skelcl.data.store import Flag, SkeletonStore, StoreError, data_set, leaked
from skelcl.parsing import Commands

JUMP, FAR = 0.5, 10.0  # metres: what a joint hardly moves between two frames; what the sensor does not reach
_CLIPS_AT_ONCE = 1024


def prepare_nw_ucla(
    raw: Path | list[Path] | None = None,
    root: Path = Path("data"),
    overwrite: bool = False,
    strict: bool = False,
    max_failed: float = 0.01,
    jobs: int | None = None,
) -> None:
    """NW-UCLA: JSON files to a store. A run that was interrupted continues where it stopped.

    Args:
        raw: ``all_sqe.zip``, or folders that hold it or its unpacked files.
        root: Folder of the stores; the store becomes ROOT/nw-ucla.
        overwrite: Replace a store that was made from other files.
        strict: Stop at the first file that cannot be read.
        max_failed: Share of the files that may fail; above it no store is written.
        jobs: Processes that read; chosen by the size of the data set when not given.

    Raises:
        StoreError: The files cannot be used, or the target holds something else.
    """
    if not raw:
        raise StoreError(f"--raw is missing: skelcl data prepare nw-ucla --raw all_sqe.zip --root {root}")
    files = raw if isinstance(raw, list) else [raw]
    store = nw_ucla.prepare(files, root, overwrite=overwrite, strict=strict, max_failed=max_failed, jobs=jobs)
    _tell(store)


def prepare_ntu60(
    raw: Path | list[Path] | None = None,
    root: Path = Path("data"),
    bodies: Literal["sgn", "agcn", "first-two"] = "sgn",
    compact_gaps: bool = False,
    missing: str = "default",
    salvage: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    max_failed: float = 0.01,
    jobs: int | None = None,
) -> None:
    """NTU RGB+D 60: .skeleton files to a store. A run that was interrupted continues where it stopped.

    Args:
        raw: Folders that hold the unpacked files at any depth, setups 1 to 17; other files are ignored.
        root: Folder of the stores; the store becomes ROOT/ntu60.
        bodies: Which two bodies of a clip are kept. sgn: by track, without short and wide ones, ids that changed joined
            again. agcn: the two places of the frame records whose coordinates spread most. first-two: the first two
            places.
        compact_gaps: Close gaps in time as the published code of sgn does: frames without a body are cut out, and a
            body that was lost for a while is shifted. By default every frame stays in its place.
        missing: Names to leave out: default for the 302 names that the data set's authors list as missing skeletons,
            none, or a text file with a name per line.
        salvage: Keep the complete frames of files that end too early.
        overwrite: Replace a store that was made from other files or with other options.
        strict: Stop at the first file that cannot be read.
        max_failed: Share of the files that may fail, listed ones not counted; above it no store is written.
        jobs: Processes that read; by default all processors when there are many files.

    Raises:
        StoreError: The files cannot be used, or the target holds something else.
    """
    _prepare_ntu("ntu60", raw, root, bodies, compact_gaps, missing, salvage, overwrite, strict, max_failed, jobs)


def prepare_ntu120(
    raw: Path | list[Path] | None = None,
    root: Path = Path("data"),
    bodies: Literal["sgn", "agcn", "first-two"] = "sgn",
    compact_gaps: bool = False,
    missing: str = "default",
    salvage: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    max_failed: float = 0.01,
    jobs: int | None = None,
) -> None:
    """NTU RGB+D 120: .skeleton files to a store. A run that was interrupted continues where it stopped.

    Args:
        raw: Folders that hold the unpacked files at any depth, setups 1 to 32.
        root: Folder of the stores; the store becomes ROOT/ntu120.
        bodies: Which two bodies of a clip are kept. sgn: by track, without short and wide ones, ids that changed joined
            again. agcn: the two places of the frame records whose coordinates spread most. first-two: the first two
            places.
        compact_gaps: Close gaps in time as the published code of sgn does: frames without a body are cut out, and a
            body that was lost for a while is shifted. By default every frame stays in its place.
        missing: Names to leave out: default for the 535 names that the data set's authors list as missing skeletons,
            none, or a text file with a name per line.
        salvage: Keep the complete frames of files that end too early.
        overwrite: Replace a store that was made from other files or with other options.
        strict: Stop at the first file that cannot be read.
        max_failed: Share of the files that may fail, listed ones not counted; above it no store is written.
        jobs: Processes that read; by default all processors when there are many files.

    Raises:
        StoreError: The files cannot be used, or the target holds something else.
    """
    _prepare_ntu("ntu120", raw, root, bodies, compact_gaps, missing, salvage, overwrite, strict, max_failed, jobs)


def _prepare_ntu(
    release: ntu.Release,
    raw: Path | list[Path] | None,
    root: Path,
    bodies: Literal["sgn", "agcn", "first-two"],
    compact_gaps: bool,
    missing: str,
    salvage: bool,
    overwrite: bool,
    strict: bool,
    max_failed: float,
    jobs: int | None,
) -> None:
    if not raw:
        raise StoreError(f"--raw is missing: skelcl data prepare {release} --raw DIR --root {root}")
    store = ntu.prepare(
        raw if isinstance(raw, list) else [raw],
        root,
        release,
        bodies=bodies,
        compact_gaps=compact_gaps,
        missing=missing,
        salvage=salvage,
        overwrite=overwrite,
        strict=strict,
        max_failed=max_failed,
        jobs=jobs,
    )
    _tell(store)


def import_poses(
    format: Format | None = None,
    input: Path | None = None,
    name: str | None = None,
    root: Path = Path("data"),
    layout: str | None = None,
    to: str | None = None,
    labels: Path | None = None,
    fps: float | None = None,
    channels: Literal[2, 3] | None = None,
    min_confidence: float = 0.0,
    max_bodies: int = 2,
    y_down: bool | None = None,
    fill_unseen: bool = False,
    zero_missing: bool = True,
    overwrite: bool = False,
    strict: bool = False,
    max_failed: float = 0.01,
    jobs: int | None = None,
) -> None:
    """Poses of your own to a store: tables, arrays, or what a pose estimator wrote.

    Args:
        format: What the files are; ``skelcl/data/formats/poses.py`` describes each format.
        input: A clip, or a folder of clips at any depth; the folder that holds a clip is its class.
        name: Name of the store; it becomes ROOT/NAME.
        root: Folder of the stores.
        layout: Layout of the joints: ntu25, kinect20, coco17, halpe26, openpose18, openpose25, mediapipe33, h36m17, or
            a YAML or JSON file. Needed where neither the format nor the files tell.
        to: Layout of the store, by default the same; joints that have to be made up are listed.
        labels: CSV table with the columns id, label and, where known, subject and camera; by default labels.csv in the
            input folder, if there is one.
        fps: Frames per second; by default what the first clip says.
        channels: Coordinates per joint; by default 3 where the first clip has them. Arrays may hold the confidence in
            one column more.
        min_confidence: Joints of a smaller confidence are missing; those of confidence 0 always are.
        max_bodies: Bodies to keep of each clip: those that are seen in most frames.
        y_down: Whether y points down, as in images; by default so for pose estimators. Stores have it upwards.
        fill_unseen: Place a joint that a clip never shows on the joint that it hangs on; else such a clip fails.
        zero_missing: Whether a joint at exactly zero was not seen, where there is no confidence; false where
            coordinates are relative to a joint.
        overwrite: Replace a store that was made from other files.
        strict: Stop at the first clip that cannot be read.
        max_failed: Share of the clips that may fail; above it no store is written.
        jobs: Processes that read; chosen by the number of clips when not given.

    Raises:
        StoreError: The clips cannot be used, or the target holds something else.
        InputError: A layout or the table of labels is wrong, or a joint of the layout cannot be made.
    """
    if format is None or input is None or name is None:
        lacking = "format" if format is None else "input" if input is None else "name"
        example = f"skelcl data import poses --format mediapipe --input FOLDER --name NAME --root {root}"
        raise StoreError(f"--{lacking} is missing: {example}")
    store = convert_poses(
        input,
        name,
        root,
        format,
        layout=layout,
        to=to,
        labels=labels,
        fps=fps,
        channels=channels,
        min_confidence=min_confidence,
        max_bodies=max_bodies,
        y_down=y_down,
        fill_unseen=fill_unseen,
        zero_missing=zero_missing,
        jobs=jobs,
        overwrite=overwrite,
        strict=strict,
        max_failed=max_failed,
    )
    _tell(store)


def prepare_pku_mmd(
    raw: Path | list[Path] | None = None,
    root: Path = Path("data"),
    part: Literal[1, 2] = 1,
    cut: Literal["half_open", "one_based_inclusive", "zero_based_inclusive"] = "half_open",
    bodies: Literal["stored", "energy"] = "stored",
    overwrite: bool = False,
    strict: bool = False,
    max_failed: float = 0.01,
    jobs: int | None = None,
) -> None:
    """PKU-MMD: skeleton and label text files to a store. A run that was interrupted continues where it stopped.

    Args:
        raw: Folders that hold the unpacked skeleton and label files at any depth; other files are ignored.
        root: Folder of the stores; the store becomes ROOT/pku-mmd-PART.
        part: Part of the data set, also called phase.
        cut: Frames that a label row START,END means. half_open: START to END - 1 of frames counted from 0, as most
            codes do. one_based_inclusive: START to END of frames counted from 1, as AimCLR and its family do.
            zero_based_inclusive: START to END of frames counted from 0.
        bodies: Order of the two bodies. stored: as in the file. energy: the one whose coordinates spread more first.
        overwrite: Replace a store that was made from other files or with other options.
        strict: Stop at the first video that cannot be read.
        max_failed: Share of the videos that may fail; above it no store is written.
        jobs: Processes that read; by default all processors when there are many videos.

    Raises:
        StoreError: The files cannot be used, or the target holds something else.
    """
    if not raw:
        raise StoreError(f"--raw is missing: skelcl data prepare pku-mmd --part {part} --raw DIR --root {root}")
    store = pku_mmd.prepare(
        raw if isinstance(raw, list) else [raw],
        root,
        part,
        cut=cut,
        bodies=bodies,
        overwrite=overwrite,
        strict=strict,
        max_failed=max_failed,
        jobs=jobs,
    )
    _tell(store)


def _tell(store: SkeletonStore) -> None:
    """What a conversion came to, in a few lines."""
    for line in store.report["summary"]:
        print(f"{line['outcome']}: {line['count']} × {line['reason']}")
    counts = store.meta["counts"]
    print(f"{store.path}: {counts['sequences']} sequences, {counts['frames']} frames, details in report.json")


def check(store: str, root: Path = Path("data")) -> int:
    """Verify a store and print what it holds.

    Args:
        store: Folder of a store, or the name of a data set below ROOT.
        root: Folder of the stores.

    Returns:
        Exit code: 0 when whole, 1 when a checksum differs.

    Raises:
        StoreError: The folder is missing, foreign, incomplete or truncated.
    """
    opened = SkeletonStore(store if Path(store).is_dir() else root / store)
    damage = opened.damage()
    rows = statistics(opened)
    rows["checksums"] = "as written" if not damage else "differ"
    width = max(map(len, rows))
    print(opened.path)
    for name, value in rows.items():
        print(f"  {name:<{width}}  {value}")
    for line in damage:
        print(f"{line}: run `skelcl data prepare {data_set(opened.path.name)} --raw <files> --overwrite true` again")
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
            print(error)
            broken = 1
            continue
        counts, size = store.meta["counts"], (folder / "joints.npy").stat().st_size / 1e6
        numbers = (counts["sequences"], counts["frames"], len(store.meta["classes"]), store.skeleton.num_joints)
        lines.append((str(folder), *map(str, numbers), f"{size:.1f}"))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        print(f"{first:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)))
    return broken


def statistics(store: SkeletonStore) -> dict[str, str]:
    """What a store holds, ready to print.

    Args:
        store: An open store.

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
    holes, gaps, jumps, far = _defects(store)
    rows = {
        "sequences": f"{len(store)}, of which {int((flags & Flag.SINGLE_FRAME > 0).sum())} have a single frame",
        "classes": f"{len(used)} of {len(classes)}{spread}",
        "performers, cameras, setups": ", ".join(_distinct(index[name]) for name in ("subject", "camera", "setup")),
        "frames": f"{frames.sum()}; per sequence {lengths}",
        "bodies": people,
        "missing joints": f"{holes} in {int((flags & Flag.REPAIRED > 0).sum())} sequences (interpolated when loaded)",
        "missing frames of a body": f"{gaps} in {int((flags & Flag.GAP > 0).sum())} sequences",
    }
    if store.meta["units"] == "m":
        rows[f"jumps of a joint > {JUMP:g} m"] = f"in {jumps} sequences"
        rows[f"coordinates > {FAR:g} m"] = f"in {far} sequences"
    protocols = nw_ucla.splits(index) if store.meta["dataset"] == nw_ucla.INFO.name else {}
    if store.meta["dataset"] in ntu.PUBLISHED:
        protocols = ntu.splits(store.meta["dataset"], index)
    for part in pku_mmd.PARTS:
        if store.meta["dataset"] == pku_mmd.INFO[part].name:
            protocols = pku_mmd.splits(index, part)
    for name, train in protocols.items():
        content = index["content"]
        repeated = int(train.sum()) - len(np.unique(content[train]))
        rows[name] = (
            f"train {int(train.sum())} / test {int((~train).sum())}; copies: "
            f"{int(leaked(content, train).sum())} of the test part in training, {repeated} within training"
        )
    if not protocols:
        rows["copies"] = str(len(store) - len(np.unique(index["content"])))
    return rows


def _distinct(column: np.ndarray) -> str:
    known = len(np.unique(column[column >= 0]))
    return str(known) if known else "unknown"


def _defects(store: SkeletonStore) -> tuple[int, int, int, int]:
    """Missing joints, missing frames, clips with jumps and with far coordinates; in blocks, so that memory is flat."""
    holes = gaps = jumps = far = 0
    lengths = store.index["n_frames"].astype(np.int64)
    tracks = store.index["n_bodies"].astype(np.int64)
    for start in range(0, len(store), _CLIPS_AT_ONCE):
        chosen = slice(start, start + _CLIPS_AT_ONCE)
        sizes = lengths[chosen] * tracks[chosen]
        row = int(store.index["row"][start])
        joints = store.joints[row : row + int(sizes.sum())]
        clip = np.repeat(np.arange(len(sizes)), sizes)
        # A new body or clip starts where the running frame number returns to zero; no motion is counted across it.
        frame = np.concatenate([np.tile(np.arange(t), m) for t, m in zip(lengths[chosen], tracks[chosen], strict=True)])
        missing = np.isnan(joints[..., 0])
        absent = missing.all(1)
        holes += int(missing[~absent].sum())
        gaps += int(absent.sum())
        step = np.linalg.norm(np.diff(joints, axis=0), axis=-1)
        moved = (np.nan_to_num(step, nan=0.0) > JUMP).any(1) & (frame[1:] > 0)
        jumps += len(np.unique(clip[1:][moved]))
        far += len(np.unique(clip[(np.abs(np.nan_to_num(joints, nan=0.0)) > FAR).any((1, 2))]))
    return holes, gaps, jumps, far


def generate_nw_ucla(
    output: Path = Path("raw/nw-ucla"),
    subjects: int = 10,
    episodes: int = 5,
    seed: int = 0,
) -> None:
    """Articulated people as NW-UCLA's JSON files, to try everything without the data set.

    Args:
        output: Folder to write; it must not hold other files.
        subjects: Number of people, 1 to 99.
        episodes: Times that each of them does each action, 1 to 100; every episode is seen by three cameras.
        seed: Seed; the same arguments give the same bytes.

    Raises:
        InputError: An argument lies outside its range, or the folder holds other files.
    """
    count = synthetic.write_nw_ucla(output, subjects, episodes, seed)
    print(f"{output}: {count} sequences; next: skelcl data prepare nw-ucla --raw {output}")


def generate_ntu60(
    output: Path = Path("raw/ntu60"),
    subjects: int = 8,
    actions: int = 10,
    replications: int = 1,
    setups: int = 2,
    seed: int = 0,
) -> None:
    """Articulated people as the .skeleton files of NTU RGB+D 60, with lost ids, empty frames and bystanders.

    Args:
        output: Folder to write; it must not hold other files.
        subjects: Number of performers, 1 to 40.
        actions: Number of actions, 1 to 15, a third of them of two people.
        replications: Times that each performer does each action, 1 or 2; three cameras see each.
        setups: Number of camera setups, 1 to 15.
        seed: Seed; the same arguments give the same bytes.

    Raises:
        InputError: An argument lies outside its range, or the folder holds other files.
    """
    count = synthetic.write_ntu(output, "ntu60", subjects, actions, replications, setups, seed)
    print(f"{output}: {count} files; next: skelcl data prepare ntu60 --raw {output}")


def generate_ntu120(
    output: Path = Path("raw/ntu120"),
    subjects: int = 8,
    actions: int = 10,
    replications: int = 1,
    setups: int = 2,
    seed: int = 0,
) -> None:
    """Articulated people as the .skeleton files of NTU RGB+D 120, with lost ids, empty frames and bystanders.

    Args:
        output: Folder to write; it must not hold other files.
        subjects: Number of performers, 1 to 40.
        actions: Number of actions of each half of the data set, 1 to 15, a third of them of two people.
        replications: Times that each performer does each action, 1 or 2; three cameras see each.
        setups: Number of camera setups of each half, 1 to 15.
        seed: Seed; the same arguments give the same bytes.

    Raises:
        InputError: An argument lies outside its range, or the folder holds other files.
    """
    count = synthetic.write_ntu(output, "ntu120", subjects, actions, replications, setups, seed)
    print(f"{output}: {count} files; next: skelcl data prepare ntu120 --raw {output}")


def generate_mediapipe(
    output: Path = Path("raw/mediapipe"),
    subjects: int = 6,
    episodes: int = 1,
    seed: int = 0,
) -> None:
    """Articulated people as MediaPipe reports them: a JSON file per clip in a folder per class, and labels.csv.

    Args:
        output: Folder to write; it must be empty or absent.
        subjects: Number of people, 1 to 99.
        episodes: Times that each of them does each of six actions, 1 to 99.
        seed: Seed; the same arguments give the same bytes.

    Raises:
        InputError: An argument lies outside its range, or the folder holds other files.
    """
    count = synthetic_poses.write_mediapipe(output, subjects, episodes, seed)
    told = f"--format mediapipe --input {output} --name my-data"
    print(f"{output}: {count} clips; next: skelcl data import poses {told}")


def generate_pku_mmd(
    output: Path | None = None,
    part: Literal[1, 2] = 1,
    recordings: int = 12,
    actions: int = 8,
    seed: int = 0,
) -> None:
    """Articulated people as the text files of PKU-MMD: long videos with pauses, passers-by and lost people.

    Args:
        output: Folder to write, by default raw/pku-mmd-PART; it must not hold other files.
        part: Part of the data set; part 2 has short pauses, overlapping labels and no actions of two people.
        recordings: Number of recordings, 3 to 99, a third of them in the cross-subject test part; three views each.
        actions: Actions in each recording, 1 to 99.
        seed: Seed; the same arguments give the same bytes.

    Raises:
        InputError: An argument lies outside its range, or the folder holds other files.
    """
    output = output or Path(f"raw/pku-mmd-{part}")
    count = synthetic.write_pku_mmd(output, part, recordings, actions, seed)
    print(f"{output}: {count} videos; next: skelcl data prepare pku-mmd --part {part} --raw {output}")


COMMANDS: Commands = {
    "prepare": {
        "_help": "Convert raw files to a store.",
        "nw-ucla": prepare_nw_ucla,
        "ntu60": prepare_ntu60,
        "ntu120": prepare_ntu120,
        "pku-mmd": prepare_pku_mmd,
    },
    "import": {
        "_help": "Convert your own data, or data that others processed, to a store.",
        "poses": import_poses,
    },
    "check": check,
    "list": list_stores,
    "generate": {
        "_help": "Write generated people in a data set's own raw format.",
        "nw-ucla": generate_nw_ucla,
        "mediapipe": generate_mediapipe,
        "ntu60": generate_ntu60,
        "ntu120": generate_ntu120,
        "pku-mmd": generate_pku_mmd,
    },
}
"""Verb → function, or verb → data set → function."""
