"""``skelcl predict --input``: clips of your own to labels; the signature and docstring are the command line."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from skelcl.bounds import NonNegativeInt, PositiveFloat, PositiveInt, PositiveShare, Share, bounded
from skelcl.data import SkeletonDataModule
from skelcl.data.poses.aspect import parse_aspect
from skelcl.data.poses.axes import check_axes
from skelcl.data.poses.contents import Poses
from skelcl.data.poses.formats import FORMATS, Format
from skelcl.data.poses.formats import load as load_poses
from skelcl.data.poses.importing import Clip, find
from skelcl.data.poses.layouts import find_layout
from skelcl.data.poses.reader import PoseReader, guess_layout
from skelcl.data.poses.single import guess_format
from skelcl.data.store import StoreError
from skelcl.errors import InputError, OptionError, printable
from skelcl.files import one_line
from skelcl.recognition.prediction import Candidate, Prediction, Recognition, Segment
from skelcl.recognition.predictor import Predictor
from skelcl.recognition.result_file import check_result_file, result_file
from skelcl.skeleton import HAND21, Skeleton

NOT_CALIBRATED = "not calibrated: no training clip is at hand that the classifier did not learn from"
"""Of the probabilities of a softmax, mostly too sure; ``--data.validation held-out`` of a training keeps clips back."""


@bounded
def predict_clips(
    ckpt_path: Path | None = None,
    input: Path | None = None,
    output: Path | None = None,
    format: Format | None = None,
    layout: str | None = None,
    fps: PositiveFloat | None = None,
    axes: str | None = None,
    aspect: str | None = None,
    labels: Literal["auto", "classifier", "knn", "probe", "none"] = "auto",
    k: PositiveInt | None = None,
    top_k: PositiveInt = 5,
    neighbours: NonNegativeInt | None = None,
    gallery: Path | None = None,
    window: PositiveInt | None = None,
    stride: PositiveInt | None = None,
    unknown: PositiveShare | None = None,
    features: bool = True,
    max_failed: Share = 0.5,
    persons: bool = True,
    neighbours_picture: Path | None = None,
    min_confidence: Share | Literal["ignore"] | None = None,
    max_bodies: PositiveInt | None = None,
    y_down: bool | None = None,
    fill_unseen: bool | None = None,
    zero_missing: bool | None = None,
    device: str = "auto",
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    overwrite: bool = False,
    trust: str | None = None,
) -> None:
    """Recognise clips of your own with the network of a run. Without --input, predict writes features of a split.

    A clip goes the way of the clips of the run's store, so it should come in their units and axes. Options that say how
    files are read default to those that the store was imported with, where it was.

    Args:
        ckpt_path: Checkpoint of the run. It needs neither its data set nor another file.
        input: A clip, or a folder of clips at any depth.
        output: File to write: for each clip its label, windows (classes with probabilities or votes, nearest training
            clips, features), segments and warnings; how the probabilities were calibrated, and which clips failed. A
            .json has a line for each clip, a .jsonl nothing but such lines. It appears when all clips are done.
        format: What the files are, as for `skelcl data import poses`; by default what they look like.
        layout: Layout of their joints, by name or file; needed where neither format nor files tell and it is not that
            of the run. Joints that the run has and the files have not are made up where possible, and listed.
        fps: Frames per second of the files; by default what they say. A clip of another rate than the run's data is
            resampled to it.
        axes: Order of the axes of arrays, as for `skelcl data import poses`.
        aspect: Width by height of the picture, where flat coordinates are fractions of them; by default what the files
            say.
        labels: How labels are made. classifier: by the run's own. knn: by a vote of the nearest training clips. probe:
            by a linear probe on their features. none: no labels. auto: classifier if the run has one, else knn.
            Probabilities of classifier and probe are calibrated on training clips that they did not learn from (a
            classifier keeps some back under --data.validation held-out); neighbours have votes.
        k: Training clips that vote; by default as in the run's evaluation.
        top_k: Classes to tell of.
        neighbours: Nearest training clips to tell of; by default 3 where a gallery or the data set are there. 0: none,
            which spares encoding the training clips once.
        gallery: Features of the training clips, for labels by knn or probe and for nearest training clips where the
            data set is not: what `skelcl predict --ckpt_path X.ckpt --data.predict_split train --features.path FILE`
            wrote; by default X.gallery.npz beside the checkpoint.
        window: Frames of a window, for long recordings; by default a clip is judged whole. Windows of a clip of another
            rate last as long, and each begins at a frame of the clip.
        stride: Frames from one window to the next; by default half a window.
        unknown: Tell clips that are like nothing in training, at the cost of this share of known clips, say 0.05:
            those farther from the nearest training clip than all but so many training clips, held out, are.
        features: Whether the output holds the features of each window.
        max_failed: Share of the clips that may fail; above it no output is written.
        persons: Where a clip shows several people, tell what each of them does, too, judged as if alone: their ids are
            those of the file, or of who followed them.
        neighbours_picture: The first clip beside its nearest training clips, animated: .gif, .mp4 or .html.
        min_confidence: Joints of a smaller confidence are missing; ignore: none are.
        max_bodies: Bodies to keep of each clip: those that are seen in most frames. By default as many as the
            network sees, or two; all people are told of.
        y_down: Whether y points down, as in images; by default so for pose estimators.
        fill_unseen: Place a joint that a clip never shows on the joint that it hangs on, or, without hips, on the
            nearest that is seen; else such a clip fails.
        zero_missing: Whether a joint at exactly zero was not seen, where there is no confidence.
        device: cpu, cuda or another device of PyTorch; auto takes a GPU if there is one.
        precision: Of the encoder: bf16-mixed has it multiply in bfloat16, which is faster on a GPU and on a CPU that
            can, and moves features by a cosine distance of 1e-6 to 3e-4.
        overwrite: Replace OUTPUT and the picture.
        trust: Modules, with commas between, whose classes the checkpoint may name beside skelcl's and torch.optim's.

    Raises:
        InputError: The checkpoint, the gallery or too many of the clips cannot be used.
    """
    if ckpt_path is None or input is None:
        lacking = "ckpt_path" if ckpt_path is None else "input"
        raise OptionError(
            f"--{lacking} is missing: skelcl predict --ckpt_path FILE.ckpt --input CLIP --output OUT.json"
        )
    for file in (output, neighbours_picture):
        if file is not None and file.exists() and not overwrite:
            raise InputError(f"{file} exists; --overwrite true replaces it")
    if output is not None:
        check_result_file(output)
    if neighbours_picture is not None:
        from skelcl.plotting import ANIMATIONS, check_target

        check_target(neighbours_picture, ANIMATIONS)
        if neighbours == 0:
            raise OptionError("--neighbours_picture needs --neighbours of at least 1")
    order, shape = check_axes(axes), parse_aspect(aspect)
    format = format or guess_format(input)
    clips, notices = find(input, format, own_names=False)
    for notice in notices:
        print(printable(notice["message"]))
    predictor = Predictor(
        ckpt_path,
        device,
        labels,
        k,
        top_k,
        neighbours,
        window,
        stride,
        trust,
        gallery,
        unknown,
        persons,
        precision=precision,
    )
    print(f"labels by {predictor.labels_by}")
    if predictor.note:
        print(f"note: {one_line(predictor.note, 1000)}")
    if predictor.labeller.labels in ("classifier", "probe"):
        print(f"probabilities: {predictor.labeller.calibration or NOT_CALIBRATED}")
    shown = None if neighbours_picture is None else predictor.data  # told before anything is computed
    flat = predictor.source.get("y_down") if predictor.source.get("format") == format else FORMATS[format].y_down
    if min_confidence is None and predictor.source.get("format") != format:
        min_confidence = FORMATS[format].min_confidence or None
    options = {
        "min_confidence": min_confidence,
        "max_bodies": max_bodies,
        "y_down": flat if y_down is None else y_down,
        "fill_unseen": fill_unseen,
        "zero_missing": zero_missing,
        "sort": True if FORMATS[format].y_down else None,  # estimators list people in any order
    }
    given = None if layout is None else find_layout(layout)
    calibration = predictor.labeller.calibration
    axes = order or predictor.source.get("axes")
    recordings = _Recordings(predictor, clips, format, given, axes, shape, fps, options, max_failed)
    with recordings.bar, ExitStack() as stack:
        writer = None if output is None else stack.enter_context(result_file(output))
        for clip, poses, reader, found in recordings.recognised():
            made_up = () if reader.change is None else reader.change.synthesised  # told of all clips before
            with tqdm.external_write_mode():
                _print_summary(clip.id, found, found.warnings[bool(made_up) :])
            if writer is not None:
                if not recordings.done:
                    about = {
                        "checkpoint": str(ckpt_path),
                        "labels_by": predictor.labels_by,
                        "precision": predictor.precision,
                        "calibration": calibration and calibration.to_dict(),
                        "layout": reader.layout.name,
                        "synthesised": made_up,
                        "classes": predictor.class_names,
                    }
                    writer.begin(about)
                writer.add({"id": clip.id, "file": str(clip.place), **found.to_dict(features)})
            if neighbours_picture is not None and shown is not None and not recordings.done:
                _draw(predictor, shown, reader, poses, found, neighbours_picture)
                print(f"wrote {neighbours_picture}")
        if writer is not None:
            writer.end(recordings.failed)
    if recordings.failed:
        print(f"{len(recordings.failed)} of {len(clips)} clips failed")
    if output is not None:
        print(f"wrote {output}")


class _Recordings:
    """The clips of a folder, each read when it is needed; those that fail are told, and counted."""

    def __init__(
        self,
        predictor: Predictor,
        clips: Sequence[Clip],
        format: Format,
        layout: Skeleton | None,
        axes: str | None,
        aspect: float | None,
        fps: float | None,
        options: dict[str, object],
        max_failed: float,
    ) -> None:
        self.predictor, self.clips, self.format, self.layout = predictor, clips, format, layout
        self.axes, self.aspect = axes, aspect
        self.fps, self.options, self.max_failed = fps, options, max_failed
        self.failed: list[dict[str, str]] = []
        self.done = 0
        self.bar = tqdm(total=len(clips), desc="clips", unit="clip", disable=None if len(clips) > 1 else True)
        self._under_way: deque[tuple[Clip, Poses, PoseReader]] = deque()

    def recognised(self) -> Iterator[tuple[Clip, Poses, PoseReader, Recognition]]:
        """Each clip that does not fail, with what was read and seen."""
        for found in self.predictor.recognise_all(self._read()):
            clip, poses, reader = self._under_way.popleft()
            if isinstance(found, InputError):
                self._fail(clip, found)
                continue
            yield clip, poses, reader, found
            self.done += 1
            self.bar.update()
        if not self.done:
            raise InputError(f"none of the {len(self.clips)} clips can be used, the first: {self.failed[0]['error']}")

    def _read(self) -> Iterator[tuple[Poses, PoseReader, str]]:
        reader: PoseReader | None = None
        own = self.predictor.skeleton
        for clip in self.clips:
            try:
                # Only a table is of the network's joints for certain: it has them by name; of hands, hands are read.
                layout = self.layout or (own if self.format == "csv" or own == HAND21 else None)
                channels = self.predictor.facts.channels
                poses = load_poses(self.format, clip.files, channels, layout, self.axes, self.aspect, span=clip.span)
                poses = poses if self.fps is None else replace(poses, fps=self.fps)
                if reader is None:
                    layout = self.layout or _layout(poses, self.format, own)
                    reader = self.predictor.reader(layout, **self.options)
                    if reader.change is not None:
                        with tqdm.external_write_mode():
                            print(reader.change.summary)
            except InputError as error:
                self._fail(clip, error)
                continue
            self._under_way.append((replace(clip, id=poses.id or clip.id), poses, reader))
            yield poses, reader, str(clip.place)

    def _fail(self, clip: Clip, error: InputError) -> None:
        if len(self.clips) == 1:
            raise error
        self.failed.append({"id": clip.id, "file": str(clip.place), "error": str(error)})
        with tqdm.external_write_mode():
            print(f"{one_line(clip.id)}: failed: {one_line(str(error), 1000)}")
        self.bar.update()
        if len(self.failed) > self.max_failed * len(self.clips):
            raise InputError(
                f"more than {self.max_failed:.3g} of the {len(self.clips)} clips failed, the first: "
                f"{self.failed[0]['error']}; nothing was written (--max_failed sets the share that is accepted)"
            )


def _layout(poses: Poses, format: Format, own: Skeleton) -> Skeleton:
    """The layout that a clip tells, else that of the network where the number of joints fits."""
    if poses.layout == own.name:
        return own
    try:
        return guess_layout(poses, format)
    except StoreError:
        if poses.layout is None and poses.joints.shape[2] == own.num_joints:
            return own
        raise


def _print_summary(name: str, found: Recognition, notes: Sequence[str]) -> None:
    def listed(window: Prediction) -> str:
        top = ", ".join(map(_told, window.top))
        odd = f"like nothing in training (p = {window.p_value:.3f}); nearest: " if window.unknown else ""
        return odd + (top or window.problem)

    name = one_line(name)
    if len(found.windows) == 1:
        print(f"{name}: {listed(found.windows[0]) or 'features alone'}")
        for near in found.windows[0].neighbours:
            print(f"  near {one_line(near.id)} ({one_line(near.label)}), cosine {near.similarity:.3f}")
    else:
        print(f"{name}: {len(found.windows)} windows, most frames: {one_line(str(found.label))}")
        for segment in found.segments:
            print(f"  frames {segment.start} to {segment.stop - 1}: {_told(segment)}")
    for person in found.persons if len(found.persons) > 1 else ():
        odd = "like nothing in training; nearest: " * bool(person.unknown)
        told = [f"{_told(one)}, frames {one.start} to {one.stop - 1}" for one in person.segments]
        print(f"  person {one_line(person.track)}: {odd}{'; '.join(told)}")
    for warning in notes:
        print(f"  note: {one_line(warning, 1000)}")


def _told(one: Candidate | Segment) -> str:
    sure = ""
    if one.probability is not None:
        sure = f" {one.probability:.2f}"
    elif one.votes is not None:
        sure = f" ({one.votes:.3g} vote{'s' * (one.votes != 1)})"
    return one_line(one.label or "nobody") + sure


def _draw(
    predictor: Predictor, data: SkeletonDataModule, reader: PoseReader, poses: Poses, found: Recognition, path: Path
) -> None:
    """The window with the surest label and the training clips next to it, side by side."""
    from skelcl.plotting import animate_skeleton, save_animation

    window = max(found.windows, key=lambda window: (*_sureness(window), len(window.neighbours)))
    joints, _ = reader(poses.window(window.start, window.stop), path)
    place = {str(name): position for position, name in enumerate(data.ids)}
    near = [data.store.recording(place[neighbour.id]) for neighbour in window.neighbours]
    titles = ["this clip" if window.label is None else f"this clip: {window.label}"]
    titles += [f"{neighbour.label} {neighbour.similarity:.2f}" for neighbour in window.neighbours]
    bodies = [clip[: data.num_persons] for clip in (joints, *near)]
    animation = animate_skeleton(bodies, predictor.skeleton, titles, float(predictor.facts.fps or 20))
    save_animation(animation, path)


def _sureness(window: Prediction) -> tuple[float, float]:
    return (window.top[0].probability or 0.0, window.top[0].votes or 0.0) if window.top else (0.0, 0.0)
