"""The functions behind ``skelcl data``; their signatures and docstrings are the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from skelcl.bounds import PositiveFloat, PositiveInt, Share, bounded
from skelcl.commands.parsing import Commands
from skelcl.data.export_arrays import Target, export
from skelcl.data.formats import bandai_namco, ntu, ntu_release, nw_ucla, pku_mmd
from skelcl.data.import_arrays import convert_arrays
from skelcl.data.inspection import check, list_stores
from skelcl.data.poses.contents import Axis, Unit
from skelcl.data.poses.formats import Format
from skelcl.data.poses.importing import convert_poses
from skelcl.data.store import SkeletonStore, StoreError
from skelcl.data.synthetic.generate import (
    generate_mediapipe,
    generate_ntu60,
    generate_ntu120,
    generate_nw_ucla,
    generate_pku_mmd,
)
from skelcl.files import one_line


@bounded
def prepare_nw_ucla(
    raw: Path | list[Path] | None = None,
    root: Path = Path("data"),
    overwrite: bool = False,
    strict: bool = False,
    max_failed: Share = 0.01,
    jobs: PositiveInt | None = None,
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
    _print_summary(store)


@bounded
def prepare_ntu60(
    raw: Path | list[Path] | None = None,
    root: Path = Path("data"),
    bodies: Literal["sgn", "agcn", "first-two"] = "sgn",
    compact_gaps: bool = False,
    missing: str = "default",
    salvage: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    max_failed: Share = 0.01,
    jobs: PositiveInt | None = None,
) -> None:
    """NTU RGB+D 60: .skeleton files to a store. A run that was interrupted continues where it stopped.

    Args:
        raw: Folders that hold the unpacked files at any depth, setups 1 to 17; other files are ignored.
        root: Folder of the stores; the store becomes ROOT/ntu60.
        bodies: Which two bodies of a clip are kept. sgn: by track, without short and wide ones, ids that changed joined
            again. agcn: the two places of the frame records whose coordinates spread most. first-two: the first two
            places.
        compact_gaps: Close gaps in time as the published code does. sgn: frames without a body are cut out, and a body
            that was lost for a while is shifted. agcn: a body that appears late is moved to the front, one that ends
            early is repeated from its start. By default every frame stays in its place.
        missing: Names to leave out: default for the 302 names that the data set's authors list as missing skeletons,
            none, or a text file with a name per line.
        salvage: Keep the complete frames of files that end too early.
        overwrite: Replace a store that was made from other files or with other options.
        strict: Stop at the first file that cannot be read.
        max_failed: Share of the files that may fail, listed ones not counted; above it no store is written.
        jobs: Processes that read; by default one, and up to 16 when there are many files.

    Raises:
        StoreError: The files cannot be used, or the target holds something else.
    """
    _prepare_ntu("ntu60", raw, root, bodies, compact_gaps, missing, salvage, overwrite, strict, max_failed, jobs)


@bounded
def prepare_ntu120(
    raw: Path | list[Path] | None = None,
    root: Path = Path("data"),
    bodies: Literal["sgn", "agcn", "first-two"] = "sgn",
    compact_gaps: bool = False,
    missing: str = "default",
    salvage: bool = False,
    overwrite: bool = False,
    strict: bool = False,
    max_failed: Share = 0.01,
    jobs: PositiveInt | None = None,
) -> None:
    """NTU RGB+D 120: .skeleton files to a store. A run that was interrupted continues where it stopped.

    Args:
        raw: Folders that hold the unpacked files at any depth, setups 1 to 32.
        root: Folder of the stores; the store becomes ROOT/ntu120.
        bodies: Which two bodies of a clip are kept. sgn: by track, without short and wide ones, ids that changed joined
            again. agcn: the two places of the frame records whose coordinates spread most. first-two: the first two
            places.
        compact_gaps: Close gaps in time as the published code does. sgn: frames without a body are cut out, and a body
            that was lost for a while is shifted. agcn: a body that appears late is moved to the front, one that ends
            early is repeated from its start. By default every frame stays in its place.
        missing: Names to leave out: default for the 535 names that the data set's authors list as missing skeletons,
            none, or a text file with a name per line.
        salvage: Keep the complete frames of files that end too early.
        overwrite: Replace a store that was made from other files or with other options.
        strict: Stop at the first file that cannot be read.
        max_failed: Share of the files that may fail, listed ones not counted; above it no store is written.
        jobs: Processes that read; by default one, and up to 16 when there are many files.

    Raises:
        StoreError: The files cannot be used, or the target holds something else.
    """
    _prepare_ntu("ntu120", raw, root, bodies, compact_gaps, missing, salvage, overwrite, strict, max_failed, jobs)


def _prepare_ntu(
    release: ntu_release.Release,
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
    _print_summary(store)


@bounded
def import_poses(
    format: Format | None = None,
    input: Path | None = None,
    name: str | None = None,
    root: Path = Path("data"),
    layout: str | None = None,
    to: str | None = None,
    labels: Path | None = None,
    fps: PositiveFloat | None = None,
    channels: Literal[2, 3] | None = None,
    axes: str | None = None,
    aspect: str | None = None,
    min_confidence: Share | Literal["ignore"] | None = None,
    max_bodies: PositiveInt = 2,
    y_down: bool | None = None,
    fill_unseen: bool = False,
    zero_missing: bool = True,
    unit: Unit | None = None,
    up: Axis | None = None,
    overwrite: bool = False,
    strict: bool = False,
    max_failed: Share = 0.01,
    jobs: PositiveInt | None = None,
) -> None:
    """Poses of your own to a store: tables, arrays, motion capture, or what a pose estimator wrote.

    Args:
        format: What the files are; ``skelcl/data/poses/formats.py`` describes each format.
        input: A clip, or a folder of clips at any depth; the folder that holds a clip is its class.
        name: Name of the store; it becomes ROOT/NAME.
        root: Folder of the stores.
        layout: Layout of the joints: ntu25, kinect20, coco17, halpe26, openpose18, openpose25, mediapipe33, h36m17,
            kinect32, hand21, hand22, bandai21, or a YAML or JSON file. Needed where neither the format nor
            the files tell.
        to: Layout of the store, by default the same; joints that have to be made up are listed.
        labels: CSV table with the columns id, label and, where known, subject and camera; by default labels.csv in the
            input folder, if there is one.
        fps: Frames per second; by default what the first clip says.
        channels: Coordinates per joint; by default 3 where the first clip has them. Arrays may hold the confidence in
            one column more.
        axes: Order of the axes of arrays, a letter each: M bodies, T frames, V joints, C coordinates, for example TMVC;
            by default as their sizes and numbers tell.
        aspect: Width by height of the picture, 16/9 or 1920x1080, where flat coordinates are fractions of them, as
            MediaPipe's are; by default what the files say.
        min_confidence: Joints of a smaller confidence are missing, and so are those of confidence 0; ignore: all are
            taken. By default 0, and ignore for msr-action3d, where 0 marks joints that were inferred.
        max_bodies: Bodies to keep of each clip: those that are seen in most frames.
        y_down: Whether y points down, as in images; by default so for pose estimators. Stores have it upwards.
        fill_unseen: Place a joint that a clip never shows on the joint that it hangs on, or, without hips, on the
            nearest that is seen; else such a clip fails.
        zero_missing: Whether a joint at exactly zero was not seen, where there is no confidence; false where
            coordinates are relative to a joint.
        unit: Unit of motion capture, of which metres are made; cmu: inches times 0.45, as in files of CMU's database.
            By default what the first clip says, or what its size tells, which is printed.
        up: Axis of motion capture that points up; by default the one along which the trunk of the first clip stands.
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
        axes=axes,
        aspect=aspect,
        min_confidence=min_confidence,
        max_bodies=max_bodies,
        y_down=y_down,
        fill_unseen=fill_unseen,
        zero_missing=zero_missing,
        unit=unit,
        up=up,
        jobs=jobs,
        overwrite=overwrite,
        strict=strict,
        max_failed=max_failed,
    )
    _print_summary(store)


@bounded
def import_arrays(
    input: Path | None = None,
    name: str | None = None,
    root: Path = Path("data"),
    names: Path | None = None,
    split: str | None = None,
    layout: str | None = None,
    overwrite: bool = False,
    strict: bool = False,
    max_failed: Share = 0.01,
    jobs: PositiveInt | None = None,
) -> None:
    """A data set that others processed to a store; its format is recognised by what the files hold.

    Args:
        input: The npz of CTR-GCN or MAMP, the folder with the npy arrays of 2s-AGCN, ST-GCN, HCN or AimCLR (or one of
            the arrays), the pickle of PYSKL or MMAction2, SGN's folder or its raw_skes_data.pkl, or the folder with the
            npy files of NTU RGB+D's python tool.
        name: Name of the store; it becomes ROOT/NAME. With ntu60 and ntu120 the data modules of these data sets split
            it; clips without names of NTU RGB+D need another one, and Custom.
        root: Folder of the stores.
        names: Text file with the name of a clip per line, the training part first, for an npz or npy without names.
        split: Split of a pickle of PYSKL after which clips are called train/… and test/…; those of NTU RGB+D need none.
        layout: Layout of the joints of a pickle of PYSKL or MMAction2, by name or file; by default what their number
            tells.
        overwrite: Replace a store that was made from other files.
        strict: Stop at the first clip that cannot be read.
        max_failed: Share of the clips that may fail; above it no store is written.
        jobs: Processes that read; chosen by the number of clips when not given.

    Raises:
        StoreError: Too many clips cannot be used, or the target holds something else.
        InputError: The files are unknown, damaged, or contradict themselves or their names.
    """
    if input is None or name is None:
        lacking = "input" if input is None else "name"
        example = f"skelcl data import arrays --input NTU60_CS.npz --name ntu60 --root {root}"
        raise StoreError(f"--{lacking} is missing: {example}")
    _print_summary(
        convert_arrays(
            input,
            name,
            root,
            names=names,
            split=split,
            layout=layout,
            jobs=jobs,
            overwrite=overwrite,
            strict=strict,
            max_failed=max_failed,
        )
    )


def export_store(
    store: Path | None = None,
    format: Target | None = None,
    output: Path | None = None,
    split: list[str] | str | None = None,
) -> None:
    """Write a store in the format of another code base, normalised as that format promises.

    Args:
        store: Folder of the store.
        format: ctr-gcn: npz (N, 300, 150) of CTR-GCN and MAMP. agcn: npy (N, 3, 300, 25, 2) of 2s-AGCN and its forks.
            aimclr: npy (N, 3, 50, 25, 2) of AimCLR, CrosSCLR and PSTL. pyskl: pickle of PYSKL. sgn: raw_skes_data.pkl
            of SGN. ntu-npy: a file per clip as NTU RGB+D's python tool writes them.
        output: Folder to write; absent or empty.
        split: Protocol to write, for example xsub, or several: [xsub, xview]; by default all of the data set.

    Raises:
        StoreError: There is no usable store.
        InputError: The store does not fit the format, there is no such protocol, or the folder holds something.
    """
    if store is None or format is None or output is None:
        lacking = "store" if store is None else "format" if format is None else "output"
        example = "skelcl data export --store data/ntu60 --format ctr-gcn --output DIR"
        raise StoreError(f"--{lacking} is missing: {example}")
    for line in export(SkeletonStore(store), format, output, [split] if isinstance(split, str) else split):
        print(line)


@bounded
def prepare_pku_mmd(
    raw: Path | list[Path] | None = None,
    root: Path = Path("data"),
    part: Literal[1, 2] = 1,
    cut: Literal["half_open", "one_based_inclusive", "zero_based_inclusive"] = "half_open",
    bodies: Literal["stored", "energy"] = "stored",
    overwrite: bool = False,
    strict: bool = False,
    max_failed: Share = 0.01,
    jobs: PositiveInt | None = None,
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
        max_failed: Failures that are accepted, as a share of the videos; a clip that cannot be used is one. Above it no
            store is written.
        jobs: Processes that read; by default one, and up to 16 when there are many videos.

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
    _print_summary(store)


@bounded
def prepare_bandai_namco(
    raw: Path | list[Path] | None = None,
    root: Path = Path("data"),
    part: Literal[1, 2] = 2,
    overwrite: bool = False,
    strict: bool = False,
    max_failed: Share = 0.01,
    jobs: PositiveInt | None = None,
) -> None:
    """Bandai-Namco motion capture: BVH files to a store. A run that was interrupted continues where it stopped.

    Args:
        raw: Zip archives of the repository, or folders that hold them or their unpacked files at any depth.
        root: Folder of the stores; the store becomes ROOT/bandai-namco-PART.
        part: Part of the data set; files of the other one are ignored.
        overwrite: Replace a store that was made from other files.
        strict: Stop at the first file that cannot be read.
        max_failed: Share of the files that may fail; above it no store is written.
        jobs: Processes that read; chosen by the size of the data set when not given.

    Raises:
        StoreError: The files cannot be used, or the target holds something else.
    """
    if not raw:
        raise StoreError(f"--raw is missing: skelcl data prepare bandai-namco --part {part} --raw ZIP --root {root}")
    files = raw if isinstance(raw, list) else [raw]
    _print_summary(bandai_namco.prepare(files, root, part, overwrite=overwrite, strict=strict, max_failed=max_failed,
                                        jobs=jobs))  # fmt: skip


def _print_summary(store: SkeletonStore) -> None:
    """What a conversion came to, in a few lines, each with the first clip of its kind."""
    for line in store.report["summary"]:
        kind = line["outcome"], line["reason"]
        first = next(one for one in store.report["notices"] if (one["outcome"], one["reason"]) == kind)
        name, message = first["id"], first["message"]
        message = one_line(message if message.startswith(name) else f"{name}: {message}")
        print(f"{line['outcome']}: {line['count']} × {line['reason']}; the first: {message}")
    counts = store.meta["counts"]
    print(f"{store.path}: {counts['sequences']} sequences, {counts['frames']} frames, details in report.json")


COMMANDS: Commands = {
    "prepare": {
        "_help": "Convert raw files to a store.",
        "nw-ucla": prepare_nw_ucla,
        "ntu60": prepare_ntu60,
        "ntu120": prepare_ntu120,
        "pku-mmd": prepare_pku_mmd,
        "bandai-namco": prepare_bandai_namco,
    },
    "import": {
        "_help": "Convert your own data, or data that others processed, to a store.",
        "poses": import_poses,
        "arrays": import_arrays,
    },
    "export": export_store,
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
