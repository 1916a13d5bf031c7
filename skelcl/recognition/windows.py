"""A recording on its way to the network and back: cut into windows, each read and cleaned once, judged in any batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import ceil
from typing import NamedTuple

import numpy as np

from skelcl.data.facts import DataFacts
from skelcl.data.frame_rate import frame_step
from skelcl.data.poses.contents import Poses
from skelcl.data.poses.in_memory import CleanedClip, clean_clip
from skelcl.data.poses.reader import PoseReader, seen
from skelcl.data.recording import ReadError, Recording
from skelcl.errors import InputError
from skelcl.evaluation.temperature import Calibration
from skelcl.recognition.prediction import Person, Prediction, Recognition, cut

BATCH = 64
"""Windows that are encoded at once."""
ROWS = 1 << 16
"""Bodies times frames of them at most, but for a single window."""


class Window(NamedTuple):
    """What a network has to judge.

    Args:
        recording: Where it comes from.
        found: Where to put what it shows: what was found of the recording, or of one of its people.
        number: Which window of the recording.
        clip: Its frames at the recording's rate.
    """

    recording: OpenRecording
    found: list[Prediction | None]
    number: int
    clip: CleanedClip

    def refuse(self, error: InputError) -> None:
        """Say why it cannot be judged: then its recording cannot be, but only one person of it."""
        if self.found is self.recording.found:
            self.recording.error = error
        else:
            self.found[self.number] = _problem(self.recording.spans[self.number], error)


class OpenPerson(NamedTuple):
    """A person of a recording until each of its windows is judged.

    Args:
        track: Who it is.
        body: Its place among the bodies of the recording.
        frames: In how many it is seen.
        first: The first window in which it is seen.
        last: The last one.
        found: What each window of the recording shows of it; None until that is known, or outside of these.
    """

    track: str
    body: int
    frames: int
    first: int
    last: int
    found: list[Prediction | None]

    @property
    def shown(self) -> list[Prediction | None]:
        """What is found from the first to the last window."""
        return self.found[self.first : self.last + 1]


class OpenRecording:
    """A recording until each of its windows is judged.

    Args:
        name: What to call it in messages.

    Attributes:
        step: Frames of the recording from one frame of the network to the next.
        spans: First frame of each window and the frame after its last one.
        found: What each window shows; None until that is known.
        persons: Its people, of whom a single one shares what the windows show; empty where they are not wanted.
        warnings: What was made up, repaired, left out or odd.
        error: Why it cannot be judged; None when it can.
        fps: Its frames per second, where they are known.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.step = Fraction(1)
        self.spans: list[tuple[int, int]] = []
        self.found: list[Prediction | None] = []
        self.persons: list[OpenPerson] = []
        self.warnings: list[str] = []
        self.error: InputError | None = None
        self.fps: float | None = None

    def cut(
        self,
        poses: Poses,
        reader: PoseReader,
        facts: DataFacts,
        window: int | None = None,
        stride: int | None = None,
        persons: bool = False,
    ) -> Iterator[Window]:
        """The windows that can be judged, one after the other; why others cannot is kept with what is found.

        Args:
            poses: The recording.
            reader: How it becomes a clip.
            facts: What the network's data are.
            window: Frames of a window, at the network's rate; None takes the whole.
            stride: Frames from one window to the next, at the network's rate; half a window when None.
            persons: After each window, too, those of its people by themselves, where there are several.
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
        try:
            bodies = reader.bodies(poses, self.name)
        except ReadError as error:
            self.error = InputError(str(error))
            return
        if persons:
            self.persons = self._people(bodies, poses.tracks, reader.max_persons)
        for number, (start, stop) in enumerate(self.spans):
            place = self.name if len(self.spans) == 1 else f"{self.name}, frames {start} to {stop - 1}"
            joints, remarks = reader.keep(bodies[:, start:stop], poses.others)
            if (clip := self._clean(self.found, number, place, joints, facts)) is not None:
                self.warnings += remarks
                self.warnings += [f"{notice['id']}: {notice['message']}" for notice in clip.notices]
                yield Window(self, self.found, number, clip)
            for person in self.persons:
                if person.found is self.found or not person.first <= number <= person.last:
                    continue
                joints, remarks = reader.keep(bodies[person.body, None, start:stop])
                whose = f"{place}, person {person.track}"
                if (clip := self._clean(person.found, number, whose, joints, facts)) is not None:
                    self.warnings += remarks
                    yield Window(self, person.found, number, clip)

    def _clean(
        self, found: list[Prediction | None], number: int, place: str, joints: np.ndarray, facts: DataFacts
    ) -> CleanedClip | None:
        """A window that can be judged; else None, and why it cannot is found."""
        try:
            recording = Recording(place, joints, zeros=False)
            return clean_clip(recording, facts.skeleton, facts.channels, facts.num_persons)
        except ReadError as error:
            found[number] = _problem(self.spans[number], error)
            return None

    def _people(self, bodies: np.ndarray, tracks: Sequence[str], most: int) -> list[OpenPerson]:
        """Bodies (M, T, V, C) that are seen at all, those that are seen longest first."""
        there = seen(bodies)
        shown = np.array([there[:, start:stop].any(1) for start, stop in self.spans])  # (windows, M)
        count = there.sum(1)
        order = [body for body in np.argsort(-count, kind="stable")[:most].tolist() if count[body]]
        alone = np.count_nonzero(count) == 1  # the windows then show that person
        people = []
        for body in order:
            (places,) = np.nonzero(shown[:, body])
            found: list[Prediction | None] = self.found if alone else [None] * len(self.spans)
            track = tracks[body] if tracks else str(body)
            people.append(OpenPerson(track, body, int(count[body]), int(places[0]), int(places[-1]), found))
        return people

    @property
    def done(self) -> bool:
        """Whether nothing is left to judge, once all windows were taken from :meth:`cut`."""
        whole = None not in self.found and all(None not in person.shown for person in self.persons)
        return self.error is not None or whole

    def result(self, labels_by: str, calibration: Calibration | None) -> Recognition | InputError:
        """What is seen, once it is :attr:`done`, or why it cannot be judged.

        Args:
            labels_by: How labels are made, in words.
            calibration: What their probabilities were calibrated with.
        """
        windows = _judged(self.found)
        if self.error is not None:
            return self.error
        if len(windows) == 1 and windows[0].problem:
            return InputError(windows[0].problem)
        persons = tuple(Person(person.track, person.frames, _judged(person.shown)) for person in self.persons)
        return Recognition(labels_by, windows, tuple(dict.fromkeys(self.warnings)), calibration, self.fps, persons)

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


def _problem(span: tuple[int, int], error: InputError) -> Prediction:
    return Prediction(*span, (), np.empty(0, np.float32), problem=str(error))


def _judged(found: Sequence[Prediction | None]) -> tuple[Prediction, ...]:
    return tuple(window for window in found if window is not None)
