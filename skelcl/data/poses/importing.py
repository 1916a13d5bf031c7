"""Poses of your own to a store: which clips there are, what is known of them, which joints they get."""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from skelcl.data.cleaning import never_seen
from skelcl.data.convert import convert
from skelcl.data.formats.containers import short_repr
from skelcl.data.formats.folders import files_below, fingerprint
from skelcl.data.official_splits import check_store_name
from skelcl.data.poses.aspect import REASON as ASPECT
from skelcl.data.poses.aspect import parse_aspect
from skelcl.data.poses.axes import check_axes
from skelcl.data.poses.contents import MOST_BODIES, Axis, Part, Poses, Unit
from skelcl.data.poses.file_names import FileNames
from skelcl.data.poses.formats import FORMATS, Format, MinConfidence, load
from skelcl.data.poses.keypoint_arrays import Container, peek
from skelcl.data.poses.layouts import find_layout, map_layout
from skelcl.data.poses.reader import PoseReader, guess_layout
from skelcl.data.poses.tables import table
from skelcl.data.recording import DatasetInfo, Notice, ReadError, Recording, Source
from skelcl.data.store import SkeletonStore, StoreError
from skelcl.errors import InputError, OptionError
from skelcl.skeleton import Skeleton

_UNSEEN = (
    "; --fill_unseen true places them on joints that are seen, a layout file with base and keep as --to leaves them out"
)
_LABEL_COLUMNS = ("id", "label", "subject", "camera")


@dataclass(frozen=True)
class Clip:
    """Where a clip lies and what was said of it outside of its file."""

    files: tuple[Path, ...]
    id: str
    label: str | None = None
    subject: int = -1
    camera: int = -1
    span: tuple[int, int] | None = None

    @property
    def place(self) -> Path:
        """What to name in a message."""
        return self.files[0] if len(self.files) == 1 else self.files[0].parent


@dataclass(frozen=True, eq=False)
class _Reader:
    """Everything that turns a clip into a recording."""

    format: Format
    poses: PoseReader
    axes: str | None
    aspect: float | None
    fps: float | None
    classes: tuple[str, ...]
    unit: Unit | None
    up: Axis | None

    def __call__(self, clip: Clip) -> list[Recording]:
        known = self.axes, self.aspect, self.unit, self.up, clip.span
        poses = load(self.format, clip.files, self.poses.channels, self.poses.layout, *known)
        joints, warnings = self.poses(poses, clip.place)
        never = np.isnan(joints[..., 0]).all(1)
        if not self.poses.fill_unseen and never.any(1).all() and not (some := never.all(1)).all():
            lost = never[~some][0]
            names = self.poses.target.joints
            raise never_seen(clip.id, [name for name, each in zip(names, lost, strict=True) if each], _UNSEEN)
        if None not in (poses.fps, self.fps) and poses.fps != self.fps:
            warnings.append(f"has {poses.fps:g} frames per second, the store {self.fps:g}")
        return [
            Recording(
                clip.id,
                joints,
                -1 if clip.label is None else self.classes.index(clip.label),
                poses.subject if clip.subject < 0 else clip.subject,
                poses.camera if clip.camera < 0 else clip.camera,
                label_original=int(clip.label) if clip.label and re.fullmatch(r"\d{1,4}", clip.label) else None,
                warnings=warnings,
                notes=dict(poses.notes),
                zeros=False,
            )
        ]


def convert_poses(
    input: Path,
    name: str,
    root: Path,
    format: Format,
    *,
    layout: str | None = None,
    to: str | None = None,
    labels: Path | None = None,
    fps: float | None = None,
    channels: Literal[2, 3] | None = None,
    axes: str | None = None,
    aspect: str | None = None,
    min_confidence: MinConfidence | None = None,
    max_bodies: int = 2,
    y_down: bool | None = None,
    fill_unseen: bool = False,
    zero_missing: bool = True,
    unit: Unit | None = None,
    up: Axis | None = None,
    jobs: int | None = None,
    overwrite: bool = False,
    strict: bool = False,
    max_failed: float = 0.01,
) -> SkeletonStore:
    """Converts clips to the store ``<root>/<name>``, and tells which joints it makes up.

    Args:
        input: A clip, or a folder of clips at any depth; without ``labels`` the folder around a clip is its class.
        name: Name of the store.
        root: Folder of the stores.
        format: What the files are.
        layout: Layout of their joints, by name or file; needed where neither format nor file tells.
        to: Layout of the store; by default the same.
        labels: CSV table with the columns ``id``, ``label`` and, where known, ``subject`` and ``camera``; by default
            ``labels.csv`` in the input folder, if there is one.
        fps: Frames per second; by default what the first clip says.
        channels: Coordinates per joint; by default 3 where the first clip has them. Arrays may have one column more:
            the confidence.
        axes: Order of the axes of arrays: a letter each for M bodies, T frames, V joints, C coordinates; by default as
            their sizes and numbers tell.
        aspect: Width by height of the picture (``16/9``, ``1920x1080``), where flat coordinates are fractions of them;
            by default what the files say.
        min_confidence: Joints of a smaller confidence are missing, and so are those of confidence 0; ``"ignore"``: all
            are taken; by default 0, and ``"ignore"`` where 0 marks joints that were inferred.
        max_bodies: Bodies to keep of each clip: those that are seen in most frames.
        y_down: Whether y points down, as in images; by default so for pose estimators. Stores have it upwards.
        fill_unseen: Place a joint that a clip never shows on the joint that it hangs on, or, without hips, on the
            nearest that is seen, instead of failing.
        zero_missing: Whether a joint at exactly zero was not seen, where there is no confidence; False where
            coordinates are relative to a joint. A body that is zero as a whole was never seen.
        unit: Unit of motion capture; by default what the first clip says, or what its size tells.
        up: Axis of motion capture that points up; by default the one along which the trunk of the first clip stands.
        jobs: Processes that read.
        overwrite: Replace a store that was made from other files.
        strict: Stop at the first file that cannot be read.
        max_failed: Share of the clips that may fail; above it no store is written.

    Returns:
        The store.

    Raises:
        StoreError: There are no clips, the layout is unknown or too many clips failed.
        InputError: A layout or the table of labels is wrong, or a joint of the target layout cannot be made.
    """
    check_store_name(name)
    if fps is not None and not 0 < fps < math.inf:
        raise OptionError(f"--fps must be positive, not {fps:g}")
    if not 1 <= max_bodies <= MOST_BODIES:
        raise OptionError(f"--max_bodies must lie between 1 and {MOST_BODIES}, not {max_bodies}")
    if labels is None and (input / "labels.csv").is_file():
        labels = input / "labels.csv"
    clips, notices = find(input, format, labels)
    given = None if layout is None else find_layout(layout)
    if format == "csv" and given is None:
        raise StoreError("--layout is missing: a table has names of joints, but not their order and tree")
    capture = FORMATS[format].motion_capture
    if not capture and (unit is not None or up is not None):
        known = ", ".join(name for name, facts in FORMATS.items() if facts.motion_capture)
        raise OptionError(f"--{'up' if unit is None else 'unit'} is of motion capture ({known}), not of {format}")
    axes, shape = check_axes(axes), parse_aspect(aspect)
    first = _first(clips, format, channels, given, axes, shape, unit, up)
    notices += [  # what the first clip tells of all
        Notice(id="", outcome="warning", reason=about, message=first.notes[about], line=None)
        for about, chosen in (("axes", axes), ("confidence", channels), ("space", None))
        if chosen is None and about in first.notes
    ]
    source = given or guess_layout(first, format)
    change = None if to is None or find_layout(to) == source else map_layout(source, find_layout(to))
    classes = _classes([clip.label for clip in clips if clip.label is not None], FORMATS[format].names)
    y_down = FORMATS[format].y_down if y_down is None else y_down
    min_confidence = FORMATS[format].min_confidence if min_confidence is None else min_confidence
    poses = PoseReader(
        layout=source,
        change=change,
        channels=first.joints.shape[-1],
        min_confidence=min_confidence,
        max_bodies=max_bodies,
        y_down=y_down,
        fill_unseen=fill_unseen,
        zero_missing=zero_missing,
    )
    fps = first.fps if fps is None else fps
    reader = _Reader(format, poses, axes or first.axes, shape, fps, classes, first.unit, first.up)
    flat = "image, turned so that y points up" if y_down else "as given"
    info = DatasetInfo(
        name=name,
        skeleton=poses.target,
        classes=classes,
        reader=2,
        axes="y up, z away from the camera" if y_down and poses.channels == 3 else "y up" if capture else flat,
        units="m" if capture else (FORMATS[format].units if poses.channels == 3 else None) or "as given",
        fps=reader.fps,
        channels=poses.channels,
    )
    if change is not None:
        print(change.summary)
    parameters: dict[str, Any] = {
        "format": format,
        "layout": source.to_dict(),
        "synthesised": list(change.synthesised) if change else [],
        "min_confidence": min_confidence,
        "max_bodies": max_bodies,
        "y_down": y_down,
        "fill_unseen": fill_unseen,
        "zero_missing": zero_missing,
        "axes": axes or first.axes,
        "aspect": shape,
    }
    if capture:
        parameters |= {"unit": first.unit, "up": first.up}
    store = convert(
        root,
        info,
        [Source(clip.id, clip, _fingerprint(clip)) for clip in clips],
        reader,
        kind=format,
        parameters=parameters,
        notices=notices,
        jobs=jobs,
        overwrite=overwrite,
        strict=strict,
        max_failed=max_failed,
    )
    if mixed := _mixed(store):
        print(f"warning: {mixed}")
    unlabelled = int((store.index["label"] < 0).sum())
    if unlabelled:
        print(f"{unlabelled} of {len(store)} clips have no label: put them in folders named by class, or pass --labels")
    return store


def _mixed(store: SkeletonStore) -> str:
    """A warning where clips seem to be fractions of pictures of several shapes, else nothing."""
    shapes = Counter(one["reason"] for one in store.report["notices"] if one["reason"].startswith(ASPECT))
    shapes.pop("aspect_differs", None)
    told = [f"{count} {shape.removeprefix(ASPECT).strip('_') or 'of unknown shape'}" for shape, count in shapes.items()]
    if shapes and (known := len(store) - shapes.total()):
        told.append(f"{known} of known shape")
    if len(told) < 2:
        return ""
    return f"pictures differ in shape, {', '.join(told)}, and so do proportions: import each shape with its --aspect"


def _first(
    clips: Sequence[Clip],
    format: Format,
    channels: int | None,
    layout: Skeleton | None,
    axes: str | None,
    aspect: float | None,
    unit: Unit | None,
    up: Axis | None,
) -> Poses:
    """The first clip that can be read: what the others must look like."""
    problems = []
    for clip in clips[:100]:
        try:
            return load(format, clip.files, channels, layout, axes, aspect, unit, up, clip.span)
        except ReadError as error:
            problems.append(str(error))
    raise StoreError(f"none of the first {len(problems)} clips can be read as {format}, the first: {problems[0]}")


def _classes(labels: Sequence[str], told: FileNames | None = None) -> tuple[str, ...]:
    """Class names in the order of the data set's numbers, of the labels when all of them are numbers, else by name."""
    names = set(labels)
    if told is not None and names <= set(told.classes.values()):
        return tuple(name for name in told.classes.values() if name in names)
    # Python refuses to convert thousands of digits.
    numbers = all(name.isdecimal() and len(name) < 20 for name in names)
    return tuple(sorted(names, key=int) if numbers else sorted(names))


def _fingerprint(clip: Clip) -> str:
    files = " ".join(map(fingerprint, clip.files))
    part = "" if clip.span is None else f":{clip.span}"
    return f"{zlib.crc32(files.encode()):08x}:{clip.label}:{clip.subject}:{clip.camera}{part}"


# --- which clips there are --------------------------------------------------------------------------------------------


def find(
    input: Path, format: Format, labels: Path | None = None, own_names: bool = True
) -> tuple[list[Clip], list[Notice]]:
    """Finds the clips of a folder and what is known of them.

    Args:
        input: File or folder.
        format: What the files are.
        labels: Table of labels.
        own_names: Whether files that hold an id and a label are opened for these.

    Returns:
        The clips in the order of their ids, and notices on what was left out.

    Raises:
        StoreError: There are none.
        InputError: The table of labels is wrong, or names none of them.
    """
    if not input.exists():
        raise StoreError(f"{input} does not exist: --input takes a clip or a folder of clips")
    groups: dict[str, list[Path]] = {}
    others: list[str] = []
    top = input if input.is_dir() else input.parent
    skipped = (labels or top / "labels.csv").resolve()
    facts = FORMATS[format]
    files = [
        file
        for file in files_below(input)
        if not any(part[0] == "." for part in file.relative_to(top).parts) and file.resolve() != skipped
    ]
    # A table beside JSON is no clip: files of one ending are, of the first of them that is there.
    names = [file.name.lower() for file in files]
    ending = next((one for one in facts.endings if any(name.endswith(one) for name in names)), facts.endings[0])
    of_frames: dict[Path, bool] = {}
    for file in files:
        fits = file.name.lower().endswith(ending)
        if fits and facts.frame is not None and file.parent not in of_frames:
            of_frames[file.parent] = facts.frame(file)
        frame = fits and of_frames.get(file.parent, False)
        clip = file.parent if frame else file.with_suffix("")
        if fits and not frame and clip.relative_to(top).as_posix() in groups:
            raise StoreError(f"{file}: there is another clip of this name beside it: rename one of them")
        if fits and re.search(r"[\x00-\x1f\ud800-\udfff]", clip.as_posix()):  # the latter: bytes that are no UTF-8
            raise StoreError(f"{str(file)!r}: its name is not one line of UTF-8 text, as an id must be: rename it")
        if fits:
            groups.setdefault(clip.relative_to(top).as_posix(), []).append(file)
        else:
            others.append(str(file))
    if not groups:
        raise StoreError(f"no {format} clips (*{', *'.join(facts.endings)}) in {input}")
    notices = []
    if others:
        message = f"{len(others)} files of other names were ignored, for example {min(others)}"
        notices.append(Notice(id="", outcome="skipped", reason="other_name", message=message, line=None))
    clips = [
        Clip(tuple(files), top.name if key == "." else key, Path(key).parent.name or None)
        for key, files in groups.items()
    ]
    clips = [_named(clip, format) for clip in clips]
    if parts := FORMATS[format].parts:
        clips = _parts(clips, parts)
    if own_names and format in ("npz", "json"):
        clips = [_peeked(clip, format) for clip in clips]
    if labels is not None:
        clips, news = _labelled(clips, labels)
        notices += news
    return sorted(clips, key=lambda clip: clip.id), notices


def _named(clip: Clip, format: Format) -> Clip:
    """Label, subject and camera as the name of its file tells them."""
    names = FORMATS[format].names
    told = {} if names is None else names.told(clip.id)
    numbers = {key: int(told.get(key, "-1")) for key in ("subject", "camera")}
    return replace(
        clip,
        label=told.get("label", clip.label),
        subject=numbers["subject"] if numbers["subject"] <= 999 else -1,
        camera=numbers["camera"] if numbers["camera"] <= 127 else -1,
    )


def _parts(clips: Sequence[Clip], parts: Callable[[Sequence[Path]], Mapping[Path, Sequence[Part]]]) -> list[Clip]:
    """The clips of files that hold several."""
    try:
        found = parts([clip.files[0] for clip in clips])
    except ReadError as error:
        raise StoreError(str(error)) from error
    out: list[Clip] = []
    for clip in clips:
        known = found.get(clip.files[0])
        cut = (replace(clip, id=f"{clip.id}/{part.name}", label=part.label, span=part.span) for part in known or ())
        out += [clip] if known is None else cut
    if not out:
        raise StoreError(f"none of the {len(clips)} files, such as {clips[0].files[0]}, holds a clip")
    return out


def _peeked(clip: Clip, format: Container) -> Clip:
    """Id and label as the file itself says; a file that cannot be read is told of later."""
    try:
        own, label = peek(clip.files[0], format)
    except ReadError:
        return clip
    return replace(clip, id=own or clip.id, label=label or clip.label)


def _labelled(clips: Sequence[Clip], file: Path) -> tuple[list[Clip], list[Notice]]:
    known = read_labels(file)
    out, notices, found = [], [], set()
    for clip in clips:
        key = next((key for key in (clip.id, Path(clip.id).name) if key in known), None)
        if key is None:
            message = f"{clip.place}: not in {file}"
            notices.append(Notice(id=clip.id, outcome="skipped", reason="not_in_labels", message=message, line=None))
            continue
        found.add(key)
        label, subject, camera = known[key]
        out.append(replace(clip, label=label, subject=subject, camera=camera))
    if not out:
        first = short_repr(next(iter(known)))
        raise InputError(f"{file}: names none of the clips; its ids look like {first}, theirs like {clips[0].id!r}")
    for key in sorted(known.keys() - found):
        message = f"{file}: there is no clip {key!r}"
        notices.append(Notice(id=key, outcome="skipped", reason="no_clip", message=message, line=None))
    return out, notices


def read_labels(file: Path) -> dict[str, tuple[str | None, int, int]]:
    """A table of labels: id → label, subject, camera.

    Raises:
        InputError: It is missing or wrong; the message names file, line and column.
    """
    out: dict[str, tuple[str | None, int, int]] = {}
    try:
        header, lines, cells = table(file)
    except ReadError as error:
        raise InputError(f"{error}") from error
    if wrong := [name for name in header if name not in _LABEL_COLUMNS]:
        raise InputError(f"{file}: unknown column {short_repr(wrong[0])}; the columns are {', '.join(_LABEL_COLUMNS)}")
    if "id" not in header or "label" not in header:
        raise InputError(f"{file}: the column {'id' if 'id' not in header else 'label'!r} is missing")
    for line, values in zip(lines, cells, strict=True):
        row = dict(zip(header, values, strict=True))
        if row["id"] in out or not row["id"]:
            raise InputError(
                f"{file}, line {line}: id {short_repr(row['id'])} is {'given twice' if row['id'] else 'empty'}"
            )
        numbers = []
        for column in ("subject", "camera"):
            text = row.get(column, "")
            if text and not re.fullmatch(r"\d{1,3}", text):
                raise InputError(f"{file}, line {line}: {column} {short_repr(text)} is no number of 0–999")
            numbers.append(int(text) if text else -1)
        if numbers[1] > 127:
            raise InputError(f"{file}, line {line}: camera {numbers[1]} is no number of 0–127")
        out[row["id"]] = (row["label"] or None, numbers[0], numbers[1])
    if not out:
        raise InputError(f"{file}: holds no rows")
    return out
