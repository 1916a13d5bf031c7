"""Predictor: a checkpoint that recognises clips of your own, whole, in windows, or frame by frame as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from skelcl.bounds import NonNegativeInt, PositiveFloat, PositiveInt, PositiveShare, bounded
from skelcl.clips import Clips
from skelcl.data import SkeletonDataModule
from skelcl.data.frame_rate import resample
from skelcl.data.plausibility import MAX_COORDINATE
from skelcl.data.poses.contents import Poses
from skelcl.data.poses.in_memory import batch_clips
from skelcl.data.poses.layouts import LayoutMap, find_layout, map_layout
from skelcl.data.poses.reader import PoseReader
from skelcl.errors import InputError, OptionError
from skelcl.evaluation.encode import find_device
from skelcl.evaluation.gallery import Gallery
from skelcl.methods import Supervised
from skelcl.recognition.labeller import Labeller, Labels
from skelcl.recognition.live import LiveFrames, SlidingLSTM, sliding_lstm
from skelcl.recognition.prediction import Prediction, Recognition
from skelcl.recognition.training_clips import TrainingClips
from skelcl.recognition.windows import BATCH, ROWS, OpenRecording, Window
from skelcl.runs.loading import load_method
from skelcl.runs.trust import stored_config
from skelcl.skeleton import Skeleton


@bounded
class Predictor:
    """Recognises what people do in clips of your own, with the encoder, the view and the classes of a run.

    A clip goes the way of the clips of the run's store: missing joints are filled in, normalisation, sampling and
    stream are those of the deterministic view, so a clip of the store gives the features that ``skelcl test`` judges.

    The checkpoint needs neither its data set nor another file. Features of the training clips, wherever they are
    needed, are those in ``<name>.gallery.npz`` beside the checkpoint, which may travel with it; where that is missing,
    or of a changed checkpoint, they are computed once from the store and kept there, with the probe that was trained on
    them and what calibrates its probabilities.

    Args:
        ckpt_path: Checkpoint of the run.
        device: Where the network runs; ``auto`` takes a GPU if there is one.
        labels: How labels are made. ``classifier``: by the run's own, which a self-supervised run has not. ``knn``: by
            a vote of the nearest training clips. ``probe``: by a linear probe trained on the features of the training
            clips, as ``skelcl test`` trains it. ``none``: no labels. ``auto``: classifier if there is one, else knn.
            Probabilities are calibrated, see :attr:`Recognition.calibration
            <skelcl.recognition.prediction.Recognition.calibration>`; neighbours have votes.
        k: Neighbours that vote; by default those of the run's evaluation.
        top_k: Classes that are told of.
        neighbours: Nearest training clips that are told of; 0 for none. By default 3 where gallery or store are there.
        window: Frames of a window of a long recording; None judges recordings whole. Windows of a recording of another
            rate last as long, and each begins at a frame of the recording.
        stride: Frames from one window to the next; by default half a window.
        trust: Modules whose classes the checkpoint may name, beside those of skelcl and torch.optim; a text separates
            them by commas.
        gallery: Features of the training clips, as ``skelcl predict --data.predict_split train --features.path FILE``
            writes them with this checkpoint; by default ``<name>.gallery.npz`` beside it.
        unknown: Tell windows that are like nothing in training, those farther from the nearest training clip than all
            but this share of the training clips, held out in turn, are from the others: so many known clips are lost.
        persons: Tell what each person of a recording does, too, judged by the same network as if alone; where there is
            one, this is what the recording shows, and costs nothing. Not of live frames, in which a body has a place
            and no name.
        slack: Frames by which a window of live frames may be longer than ``window``, where that spares work: an LSTM
            on a CPU then follows fewer windows at once, each of whose frames it reads as they are; other networks are
            exact. A prediction names its frames. Measured with windows of 60 of generated people, AS-CAL after 30
            epochs: slack 2, 5 and 9 move features by a cosine distance of 0.0002, 0.0007 and 0.0015 on average, 0.006,
            0.021 and 0.027 at most; 98.8 %, 97.5 % and 95.7 % of the labels of the nearest training clip stay.
        precision: Of the encoder, in Lightning's words: ``bf16-mixed`` has it multiply in bfloat16, which is faster on
            a GPU, and on a CPU that can for many windows at once. Views, classifiers, similarities, features of the
            training clips and an LSTM that follows live frames stay in float32. Measured on generated people: features
            move by a cosine distance of 3e-6 (AS-CAL), 8e-6 (SCD-Net ``small``) and 3e-4 (CTR-GCN) at most, no label
            changes.

    Attributes:
        facts: What the checkpoint says of its data.
        labeller: Makes the labels; its ``calibration`` is what their probabilities were calibrated with.
        skeleton: Layout of the network's joints.
        class_names: Names of the classes.
        labels_by: How labels are made, in words.
        source: How the clips of the store were read from files, where they are poses of one's own: options of
            ``skelcl data import poses``; else empty.
        note: Why no nearest training clips are told of, where neither gallery nor store are there; else empty.

    Raises:
        InputError: The checkpoint cannot be used, training clips are needed and neither gallery nor store are there, or
            a number lies outside its range.
    """

    def __init__(
        self,
        ckpt_path: str | Path,
        device: str = "auto",
        labels: Labels = "auto",
        k: PositiveInt | None = None,
        top_k: PositiveInt = 5,
        neighbours: NonNegativeInt | None = None,
        window: PositiveInt | None = None,
        stride: PositiveInt | None = None,
        trust: str | Sequence[str] | None = None,
        gallery: str | Path | None = None,
        unknown: PositiveShare | None = None,
        persons: bool = True,
        slack: NonNegativeInt = 0,
        precision: Literal["32-true", "bf16-mixed"] = "32-true",
    ) -> None:
        if (stride is not None or slack) and window is None:
            raise OptionError("a stride is one of windows, as slack is: give a window too")
        self.path, self.precision = Path(ckpt_path), precision
        self.method, self.facts = load_method(self.path, trust=trust)
        self.device = find_device(device)
        self.method.to(self.device)
        self.skeleton: Skeleton = self.facts.skeleton
        self.class_names = list(self.facts.class_names)
        self.window, self.stride, self.persons, self.slack = window, stride, persons, slack
        self.source = self.facts.import_options
        given = None if gallery is None else Path(gallery)
        supervised = isinstance(self.method, Supervised)
        self.training_clips = TrainingClips(self.path, self.facts, self._features, supervised, given, trust)
        evaluation = stored_config(self.path, trust).get("evaluation", {})
        k, probe = k or int(evaluation.get("k", 1)), evaluation.get("probe", "as_cal")
        probe_and_seed = (probe, int(evaluation.get("probe_seed", 0)))
        self.labeller = Labeller(
            self.method, self.training_clips, labels, k, top_k, neighbours, unknown, probe_and_seed
        )
        self.labels_by, self.note = self.labeller.labels_by, self.labeller.note
        self._live: LiveFrames | None = None
        self._live_layout: str | Path | Skeleton | None = None
        self._sliding: SlidingLSTM | None = None

    def reader(self, layout: str | Path | Skeleton | None = None, **options: object) -> PoseReader:
        """How poses of a layout become clips of this network: by the rules of its store, unless chosen otherwise.

        Args:
            layout: Layout of the poses, by name, file or itself; None is the network's own.
            options: Further fields of :class:`~skelcl.data.poses.reader.PoseReader`; None leaves out.

        Raises:
            InputError: The layout is unknown, or a joint of the network can neither be copied nor made of it.
        """
        source = self.skeleton if layout is None else layout if isinstance(layout, Skeleton) else find_layout(layout)
        try:
            change: LayoutMap | None = None if source == self.skeleton else map_layout(source, self.skeleton)
        except InputError as error:
            own = f"{self.path} was trained on the joints of {self.skeleton.name}"
            raise InputError(f"{own}; {error}, as --data.layout of its training") from error
        rules: dict[str, object] = {
            # What was normalised may be at zero, and was so in the store.
            "zero_missing": self.facts.recipe == "none",
            "max_bodies": max(2, self.facts.num_persons),
            "sort": bool(self.source),
        }
        known = ("zero_missing", "max_bodies", "fill_unseen", "min_confidence")
        rules |= {name: self.source[name] for name in known if name in self.source}
        rules |= {name: value for name, value in options.items() if value is not None}
        if options.get("max_bodies") is not None:
            rules.setdefault("max_persons", rules["max_bodies"])
        return PoseReader(source, change, self.facts.channels, **rules)  # type: ignore[arg-type]

    @bounded
    def predict(
        self,
        array: ArrayLike,
        layout: str | Path | Skeleton | None = None,
        confidence: ArrayLike | None = None,
        fps: PositiveFloat | None = None,
    ) -> Recognition:
        """Recognise a recording.

        Args:
            array: Coordinates (T, V, C) or (M, T, V, C) in the units and axes of the run's data, y upwards; NaN, or
                zeros where the run's data says so, for what was not seen.
            layout: Layout of the joints where it is not the network's; what has to be made up is among the warnings.
            confidence: (T, V) or (M, T, V); joints of confidence 0 were not seen.
            fps: Frames per second, where they are known; another rate than that of the run's data is resampled to it.

        Raises:
            InputError: The array does not fit, or is one window in which nobody can be judged; or the rate is out of
                range.
        """
        joints = np.asarray(array, np.float32)
        if joints.ndim not in (3, 4) or not joints.size:
            raise InputError(f"a recording must be (T, V, C) or (M, T, V, C), not {joints.shape}")
        joints = joints.reshape(-1, *joints.shape[-3:])
        sure = None
        if confidence is not None:
            sure = np.asarray(confidence, np.float32)
            if sure.size != joints[..., 0].size:
                raise InputError(f"confidence of shape {sure.shape} does not fit coordinates of shape {joints.shape}")
            sure = sure.reshape(joints.shape[:-1])
        return self.recognise(Poses(joints, sure, fps=fps), self.reader(layout))

    def recognise(self, poses: Poses, reader: PoseReader, name: str = "the recording") -> Recognition:
        """As :meth:`predict`, of poses as a file holds them.

        Args:
            poses: The recording.
            reader: From :meth:`reader`.
            name: What to call the recording in messages.

        Raises:
            InputError: As :meth:`predict`.
        """
        (found,) = self.recognise_all([(poses, reader, name)])
        if isinstance(found, InputError):
            raise found
        return found

    def recognise_all(self, recordings: Iterable[tuple[Poses, PoseReader, str]]) -> Iterator[Recognition | InputError]:
        """Recognise many recordings, whose windows are encoded together, which is faster than one by one.

        Args:
            recordings: Arguments of :meth:`recognise`. They are taken as they are needed, so many that the network has
                a batch of windows, and let go of once they are judged: memory does not grow with their number.

        Yields:
            For each, in their order, what :meth:`recognise` of it gives, or the error that it raises.
        """
        waiting: deque[OpenRecording] = deque()
        batch: list[Window] = []
        rows = 0
        for poses, reader, name in recordings:
            recording = OpenRecording(name)
            waiting.append(recording)
            for window in recording.cut(poses, reader, self.facts, self.window, self.stride, self.persons):
                size = ceil(window.clip.joints.shape[0] * window.clip.joints.shape[1] / recording.step)
                other = batch and batch[0].recording.step != recording.step
                if other or len(batch) == BATCH or rows + size > ROWS:
                    self._encode(batch)
                    batch, rows = [], 0
                batch.append(window)
                rows += size
            while waiting and waiting[0].done:
                yield waiting.popleft().result(self.labels_by, self.labeller.calibration)
        self._encode(batch)
        for recording in waiting:
            yield recording.result(self.labels_by, self.labeller.calibration)

    def push(self, frame: ArrayLike, layout: str | Path | Skeleton | None = None) -> Prediction | None:
        """Take the next frame of a live recording.

        Args:
            frame: Coordinates (V, C) or (M, V, C) as :meth:`predict` takes them, of as many bodies as there are, (0, V,
                C) for none. A body that comes or goes has its place after those that stay, or is NaN where it is not.
            layout: As :meth:`predict`.

        Returns:
            What the last ``window`` frames show, or up to ``slack`` more, as :meth:`predict` of them says, as soon as
            there are so many, and from then on every ``stride`` frames; else None. A joint that is hidden in all of
            them is taken to be where the joint is that it hangs on.

        Raises:
            InputError: The predictor has no window, or the frame does not fit.
        """
        if self.window is None:
            raise OptionError("push needs windows: Predictor(…, window=64, stride=16)")
        try:
            joints = np.array(frame, np.float32)  # a copy: callers fill one buffer again and again
        except (TypeError, ValueError) as error:
            raise InputError(f"a frame must be numbers, (V, C) or (M, V, C): {error}") from error
        joints = joints[None] if joints.ndim == 2 else joints
        before = None if self._live is None else self._live.shape
        if joints.ndim != 3 or before not in (None, joints.shape[1:]):
            expected = "({}, {}) or (M, {}, {})".format(*(before or ("V", "C")) * 2) + " as the frames before" * bool(
                before
            )
            raise InputError(f"a frame must be {expected}, not {joints.shape}")
        stride = self.stride or max(1, self.window // 2)
        size = (self.skeleton, self.facts.num_persons)
        if self._live is None:
            self._live = LiveFrames(self.window, self.reader(layout, fill_unseen=True), *size, self.facts.recipe)
            self._live_layout = layout
            self._sliding = (
                None
                if self.facts.recipe != "none"
                else sliding_lstm(self.method, self.window, stride, self.slack, *size, self.facts.channels)
            )
        elif layout != self._live_layout:
            self._live.reader, self._live_layout = self.reader(layout, fill_unseen=True), layout
        live = self._live
        with torch.inference_mode():
            shown = live.append(joints)
            features = None if self._sliding is None or shown is None else self._sliding.step(shown, live.count)
            if live.count < self.window or (live.count - self.window) % stride:
                return None
            if live.whole:
                length = self.window if self._sliding is None else self._sliding.length(live.count)
                if features is None or live.run < length:
                    features, length = self.features(live.clips), self.window
                if not np.isfinite(features.numpy()).all():
                    raise self._blame(live.clips.joints)
                return self.labeller(features, [(live.count - length, live.count)])[0]
        recording = OpenRecording("the recording")
        self._encode(list(recording.cut(live.poses, live.reader, self.facts)))
        if recording.error is not None:
            raise recording.error
        (found,) = recording.found
        assert found is not None
        return replace(found, start=live.count - self.window, stop=live.count)

    def reset(self) -> None:
        """Forget the frames that were pushed: another recording begins."""
        self._live = None

    def _encode(self, windows: Sequence[Window]) -> None:
        """Say what windows show, whose recordings all have the same rate."""
        if not windows:
            return
        facts, step = self.facts, windows[0].recording.step
        clips = batch_clips([window.clip for window in windows], self.skeleton, facts.num_persons, facts.recipe)
        features = self.features(clips if step == 1 else resample(clips, step))
        good = features.isfinite().all(1)
        for place in (~good).nonzero()[:, 0].tolist():
            windows[place].refuse(self._blame(torch.from_numpy(windows[place].clip.joints)))
        windows = [window for window, finite in zip(windows, good.tolist(), strict=True) if finite]
        spans = [window.recording.spans[window.number] for window in windows]
        for window, found in zip(windows, self.labeller(features[good], spans), strict=True):
            window.found[window.number] = found

    @torch.no_grad()
    def features(self, clips: Clips) -> Tensor:
        """Features (N, D) float32 of clips on the CPU, by the deterministic view."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16-mixed"):
            return self._features(clips)

    @torch.no_grad()
    def _features(self, clips: Clips) -> Tensor:
        """As :meth:`features`, in float32 but under autocast: those of training clips are kept for any precision."""
        return self.method(clips.to(self.device)).float().cpu()

    def _blame(self, joints: Tensor) -> InputError:
        """Why features of clips with these coordinates are not finite."""
        if not all(value.isfinite().all() for value in self.method.state_dict().values()):
            return InputError(f"{self.path}: features are not finite, nor are the weights: the encoder has diverged")
        largest = joints.nan_to_num(0, torch.inf, -torch.inf).abs().max()
        if largest < MAX_COORDINATE:
            return InputError(f"{self.path}: features are not finite: the weights are too large, the encoder diverged")
        return InputError(f"coordinates up to {largest:.1e}, larger than any body: {self.path} cannot take them")

    # --- the training clips -------------------------------------------------------------------------------------------

    @property
    def data(self) -> SkeletonDataModule:
        """The data module of the run.

        Raises:
            InputError: Its store is not there, or one of other joints or classes.
        """
        return self.training_clips.data

    @property
    def gallery(self) -> Gallery:
        """Features of the labelled training clips.

        Raises:
            InputError: Neither the gallery's file nor the store is there, or no training clip has a label.
        """
        return self.training_clips.gallery
