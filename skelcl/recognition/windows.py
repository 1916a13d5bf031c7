"""A recording on its way to the network and back: cut into windows, each read and cleaned once, judged in any batch."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import ceil
from typing import NamedTuple

import numpy as np

from skelcl.data.facts import DataFacts
from skelcl.data.frame_rate import frame_step
from skelcl.data.poses.contents import Poses
from skelcl.data.poses.in_memory import CleanedClip, clean_clip
from skelcl.data.poses.reader import PoseReader
from skelcl.data.recording import ReadError, Recording
from skelcl.errors import InputError
from skelcl.evaluation.temperature import Calibration
from skelcl.recognition.prediction import Prediction, Recognition, cut

BATCH = 64
"""Windows that are encoded at once."""
ROWS = 1 << 16
"""Bodies times frames of them at most, but for a single window."""


class Window(NamedTuple):
    """What a network has to judge.

    Args:
        recording: Where it comes from.
        number: Which window of it.
        clip: Its frames at the recording's rate.
    """

    recording: OpenRecording
    number: int
    clip: CleanedClip


class OpenRecording:
    """A recording until each of its windows is judged.

    Args:
        name: What to call it in messages.

    Attributes:
        step: Frames of the recording from one frame of the network to the next.
        spans: First frame of each window and the frame after its last one.
        found: What each window shows; None until that is known.
        warnings: What was made up, repaired, left out or odd.
        error: Why it cannot be judged; None when it can.
        fps: Its frames per second, where they are known.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.step = Fraction(1)
        self.spans: list[tuple[int, int]] = []
        self.found: list[Prediction | None] = []
        self.warnings: list[str] = []
        self.error: InputError | None = None
        self.fps: float | None = None

    def cut(
        self, poses: Poses, reader: PoseReader, facts: DataFacts, window: int | None = None, stride: int | None = None
    ) -> Iterator[Window]:
        """The windows that can be judged, one after the other; why others cannot is kept in :attr:`found`.

        Args:
            poses: The recording.
            reader: How it becomes a clip.
            facts: What the network's data are.
            window: Frames of a window, at the network's rate; None takes the whole.
            stride: Frames from one window to the next, at the network's rate; half a window when None.
        """
        self.fps = poses.fps
        try:
            if facts.fps is not None and self.fps is not None and self.fps != facts.fps:
                self.step = frame_step(self.fps, facts.fps)
        except InputError as error:
            self.error = InputError(f"{self.name}: {error}")
            return
        if self.step != 1:  # a window lasts as long as one of the network's frames
            window = None if window is None else ceil((window - 1) * self.step) + 1
            stride = None if stride is None else max(1, round(stride * self.step))
        self._warn(reader, facts)
        self.warnings += poses.notes.values()
        self.spans = cut(poses.joints.shape[1], window, stride)
        self.found = [None] * len(self.spans)
        for number, (start, stop) in enumerate(self.spans):
            place = self.name if len(self.spans) == 1 else f"{self.name}, frames {start} to {stop - 1}"
            try:
                joints, remarks = reader(poses.window(start, stop), place)
            except ReadError as error:  # as of the other windows
                self.error = InputError(str(error))
                return
            recording = Recording(place, joints, zeros=False)
            try:
                clip = clean_clip(recording, facts.skeleton, facts.channels, facts.num_persons)
            except ReadError as error:
                self.found[number] = Prediction(start, stop, (), np.empty(0, np.float32), problem=str(error))
                continue
            self.warnings += remarks
            self.warnings += [f"{notice['id']}: {notice['message']}" for notice in clip.notices]
            yield Window(self, number, clip)

    @property
    def done(self) -> bool:
        """Whether nothing is left to judge, once all windows were taken from :meth:`cut`."""
        return self.error is not None or None not in self.found

    def result(self, labels_by: str, calibration: Calibration | None) -> Recognition | InputError:
        """What is seen, once it is :attr:`done`, or why it cannot be judged.

        Args:
            labels_by: How labels are made, in words.
            calibration: What their probabilities were calibrated with.
        """
        windows = tuple(window for window in self.found if window is not None)
        if self.error is not None:
            return self.error
        if len(windows) == 1 and windows[0].problem:
            return InputError(windows[0].problem)
        return Recognition(labels_by, windows, tuple(dict.fromkeys(self.warnings)), calibration, self.fps)

    def _warn(self, reader: PoseReader, facts: DataFacts) -> None:
        if reader.change is not None and reader.change.synthesised:
            self.warnings.append(f"joints that were made up: {'; '.join(reader.change.synthesised)}")
        if facts.fps is None and self.fps is not None:
            self.warnings.append(
                f"{self.name}: {self.fps:g} frames per second taken as they are: the run's data do not say theirs"
            )
        if self.step != 1:
            self.warnings.append(
                f"{self.name}: {self.fps:g} frames per second resampled to {facts.fps:g}, those of the run's data"
            )
        if facts.recipe != "none":
            self.warnings.append(f"taken to be normalised already, as the run's data: recipe {facts.recipe}")
