"""Data sets that others processed, to a store: which format it is, whether its names hold, what it is called."""

from __future__ import annotations

import re
import shutil
from itertools import islice
from pathlib import Path

import numpy as np

from skelcl.data.convert import convert
from skelcl.data.formats import agcn, ctr_gcn, ntu_npy, ntu_release, pickles, pyskl, sgn
from skelcl.data.formats.arrays import TEST, TRAIN, OpenedDataset
from skelcl.data.formats.containers import NPY, ZIP, decode, read_bytes
from skelcl.data.formats.mapped import Archive, open_npy, starts_with
from skelcl.data.official_splits import check_store_name
from skelcl.data.poses.layouts import find_layout
from skelcl.data.recording import DatasetInfo, ReadError
from skelcl.data.store import SkeletonStore, StoreError
from skelcl.errors import InputError, printable
from skelcl.skeleton import Skeleton


def convert_arrays(
    input: Path,
    name: str,
    root: Path,
    *,
    names: Path | None = None,
    split: str | None = None,
    layout: str | None = None,
    jobs: int | None = None,
    overwrite: bool = False,
    strict: bool = False,
    max_failed: float = 0.01,
) -> SkeletonStore:
    """Converts a processed data set to the store ``<root>/<name>``; its format is recognised by what it holds.

    Args:
        input: A file, or the folder of a data set.
        name: Name of the store: ``ntu60`` and ``ntu120`` where the clips have names of NTU RGB+D, so that their splits
            hold, any other else.
        root: Folder of the stores.
        names: Text file with a name per line, for files without names: the training part first.
        split: Split whose parts the ids begin with, of a pickle of PYSKL with names of its own.
        layout: Layout of the joints of such a pickle, by name or file; by default what their number tells.
        jobs: Processes that read.
        overwrite: Replace a store that was made from other files.
        strict: Stop at the first clip that cannot be read.
        max_failed: Share of the clips that may fail; above it no store is written.

    Returns:
        The store.

    Raises:
        StoreError: Too many clips failed, or the target holds something else.
        InputError: The files are unknown, damaged, or contradict themselves or their names.
    """
    check_store_name(name, split_by_ids=tuple(ntu_release.PUBLISHED))
    if not input.exists():
        raise StoreError(f"{input} does not exist: --input takes a file or the folder of a processed data set")
    known = None if layout is None else find_layout(layout)
    scratch = root / f".{name}.unpacked"
    try:
        opened = open_arrays(_only(input), scratch, None if names is None else read_names(names), split, known)
        print(opened.summary)
        for notice in opened.notices:
            print(printable(f"{notice['outcome']}: {notice['message']}"))
        _check_name(name, [source.name for source in opened.sources])
        info = DatasetInfo(
            name=name,
            skeleton=opened.skeleton,
            classes=opened.classes,
            reader=1,
            axes=opened.axes,
            units=opened.units,
            fps=opened.fps,
            channels=opened.channels,
            recipe=opened.recipe,
        )
        store = convert(
            root,
            info,
            opened.sources,
            opened.read,
            kind=opened.kind,
            parameters={"arrays": opened.kind, **opened.parameters},
            notices=opened.notices,
            jobs=jobs,
            overwrite=overwrite,
            strict=strict,
            max_failed=max_failed,
        )
    except InputError:
        shutil.rmtree(scratch, ignore_errors=True)  # whoever stops the command finds it again
        raise
    shutil.rmtree(scratch, ignore_errors=True)
    if name in ntu_release.PUBLISHED:
        print(ntu_release.summary(store))
    else:
        parts = {begin: int(np.char.startswith(store.ids, begin).sum()) for begin in (TRAIN, TEST)}
        if all(parts.values()):
            print(f"ids begin with {TRAIN} ({parts[TRAIN]}) or {TEST} ({parts[TEST]}): Custom splits by test_prefix")
    return store


def open_arrays(
    path: Path,
    scratch: Path,
    names: list[str] | None = None,
    split: str | None = None,
    layout: Skeleton | None = None,
) -> OpenedDataset:
    """Recognises a processed data set by what it holds.

    Args:
        path: The file, or the folder.
        scratch: Folder for what has to be unpacked.
        names: Names of the clips, where the file has none.
        split: Split of a pickle of PYSKL.
        layout: Layout of its joints.

    Raises:
        InputError: It is none, or damaged.
    """
    opened = (
        ctr_gcn.open_ctr_gcn(path, scratch, names)
        or agcn.open_agcn(path, names)
        or ntu_npy.open_ntu_npy(path)
        or pyskl.open_pyskl(path, split, layout)
        or sgn.open_sgn(path)
    )
    if opened is None and (command := _command_for(path)):
        raise InputError(f"{path}: holds {command}")
    if opened is None:
        raise InputError(
            f"{path}: {_describe(path)}, which is no processed data set that is known (CTR-GCN/MAMP npz, 2s-AGCN, "
            "ST-GCN, HCN or AimCLR npy, PYSKL or SGN pickle, npy files of NTU RGB+D's python tool)"
        )
    if names is not None and opened.kind not in ("ctr-gcn", "agcn", "stgcn", "aimclr"):
        raise InputError(f"--names: {path} tells the names of its clips itself")
    if split is not None and opened.kind != "pyskl":
        raise InputError(f"--split: {path} has no list of splits, as PYSKL's pickles do")
    if layout is not None and opened.kind != "pyskl":
        raise InputError(f"--layout: the joints of {path} are those of {opened.skeleton.name}")
    return opened


def read_names(file: Path) -> list[str]:
    """Names of clips from a text file, one per line; blank lines and ``.skeleton`` are left away.

    Raises:
        InputError: There are none.
    """
    try:
        lines = [line.strip() for line in decode(read_bytes(file), file).splitlines()]
    except ReadError as error:
        raise InputError(f"--names {file}: not a text file with a name per line") from error
    names = [line.removesuffix(".skeleton") for line in lines if line]
    if not names:
        raise InputError(f"--names {file}: holds no names")
    return names


def _only(path: Path) -> Path:
    """The one file of a folder that holds nothing else to import, else the path itself."""
    if not path.is_dir():
        return path
    for part in ("raw_data", "."):  # what SGN's scripts leave behind
        if (file := path / part / "raw_skes_data.pkl").is_file():
            return file
    for pattern in ("*.npz", "*.pkl"):
        files = [file for file in sorted(path.glob(pattern)) if not file.stem.endswith("_label")]
        if len(files) > 1:
            listed = ", ".join(file.name for file in files[:6])
            raise InputError(f"{path}: holds several data sets ({listed}): pass one file as --input")
        if files and not any(path.glob("*.npy")):
            return files[0]
    folders = sorted({file.parent.name for file in path.glob("*/*_label.*")})
    if folders and not any(path.glob("*.npy")):
        raise InputError(f"{path}: holds the data sets {', '.join(folders)}: pass one of these folders as --input")
    return path


def _check_name(name: str, ids: list[str]) -> None:
    """Refuses the name of a store whose data module could not split these clips."""
    if name in ntu_release.PUBLISHED:
        foreign = [id for id in ids if not ntu_release.belongs(id, name)]  # type: ignore[arg-type]
        if foreign:
            raise InputError(
                f"--name {name}: {len(foreign)} of {len(ids)} clips have no name of this data set, for example "
                f"{foreign[0]!r}: choose another --name, or pass --names"
            )


_OTHERS = {
    r".*\.skeleton": "raw files of NTU RGB+D: skelcl data prepare ntu60 --raw {} (or ntu120)",
    r"a\d{2}_s\d{2}_e\d{2}_v\d{2}\.json|all_sqe\.zip": "raw files of NW-UCLA: skelcl data prepare nw-ucla --raw {}",
    r"(\d{4}|A\d{2}N\d{2})-[LMR]\.txt": "raw files of PKU-MMD: skelcl data prepare pku-mmd --part 1 --raw {} (or 2)",
    r".*\.(json|csv)": "as poses of your own are kept: skelcl data import poses --format FORMAT --input {}",
}
"""Names of files that are no arrays → what they are, and the command that reads them."""


def _command_for(path: Path) -> str | None:
    """What a path holds, and the command that reads it, where the first names there tell that it is no array."""
    files = [path] if path.is_file() else islice((file for file in path.rglob("*") if file.is_file()), 1000)
    names = [file.name for file in files]
    for pattern, what in _OTHERS.items():
        if found := next((name for name in names if re.fullmatch(pattern, name)), None):
            return f"{found}, {what.format(path)}"
    return None


def _describe(path: Path) -> str:
    """What was found instead, for people."""
    if path.is_dir():
        files = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
        return f"a folder with {len(files)} files" + (f", for example {files[0]}" if files else "")
    if not path.stat().st_size:
        return "an empty file"
    if starts_with(path, *ZIP):
        return f"an archive of {Archive(path).describe() or 'nothing'}"
    if starts_with(path, NPY):
        return f"an array {open_npy(path, fingerprint=False).described}"
    if path.suffix == ".pkl" or pickles.holds(path):
        return f"a pickle of {pickles.described(pickles.load(path))}"
    with path.open("rb") as stream:
        return f"a file that begins with {stream.read(16)!r}"
