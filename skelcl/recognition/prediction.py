"""What a network says of a recording: windows, labels, the nearest training clips, and a timeline."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from skelcl.evaluation.temperature import Calibration


class Neighbour(NamedTuple):
    """A training clip that resembles what was seen."""

    id: str
    label: str
    similarity: float


class Candidate(NamedTuple):
    """A class that a window may show.

    Args:
        label: Its name.
        probability: How sure the classifier is, see :attr:`Recognition.calibration`; None where neighbours vote.
        votes: Of the nearest training clips; None where these do not vote, or only one does.
    """

    label: str
    probability: float | None = None
    votes: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; without votes where there are none."""
        return _plain(self)


class Segment(NamedTuple):
    """A stretch of frames, ``start`` to ``stop`` − 1, under one label; None where there is nobody to judge.

    Probability and votes are means over its windows, and None as those of :class:`Candidate`.
    """

    start: int
    stop: int
    label: str | None
    probability: float | None = None
    votes: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; without votes where there are none."""
        return _plain(self)


@dataclass(frozen=True, eq=False)
class Prediction:
    """What is seen in one window.

    Args:
        start: First frame.
        stop: Frame after the last one.
        top: The likeliest classes, the best first; empty without labels.
        features: What the encoder makes of it, (D,) float32; empty where there is a ``problem``.
        neighbours: The nearest training clips, the most similar first.
        problem: Why the window cannot be judged; empty when it can.
        p_value: How usual its distance to the nearest training clip is: the share of training clips that, held out,
            are as far or farther; None unless asked for unknown clips.
        unknown: Whether that is less than known clips may be lost; None as above.
    """

    start: int
    stop: int
    top: tuple[Candidate, ...]
    features: NDArray[np.float32]
    neighbours: tuple[Neighbour, ...] = ()
    problem: str = ""
    p_value: float | None = None
    unknown: bool | None = None

    @property
    def label(self) -> str | None:
        """The likeliest class; None where there is none."""
        return self.top[0].label if self.top else None

    def to_dict(self, features: bool = True) -> dict[str, Any]:
        """Plain values, for JSON; without ``features`` unless wanted."""
        return {
            "start": self.start,
            "stop": self.stop,
            "top": [candidate.to_dict() for candidate in self.top],
            "neighbours": [neighbour._asdict() for neighbour in self.neighbours],
            **({"features": self.features.tolist()} if features else {}),
            **({} if self.unknown is None else {"unknown": self.unknown, "p_value": self.p_value}),
            **({"problem": self.problem} if self.problem else {}),
        }


class _Timeline:
    """What windows in time say together."""

    windows: tuple[Prediction, ...]

    @property
    def label(self) -> str | None:
        """The label of most frames; None when no window has one."""
        frames: Counter[str] = Counter()
        for segment in self.segments:
            if segment.label is not None:
                frames[segment.label] += segment.stop - segment.start
        return frames.most_common(1)[0][0] if frames else None

    @property
    def unknown(self) -> bool | None:
        """Whether most windows are like nothing in training; None unless asked."""
        told = [window.unknown for window in self.windows if window.unknown is not None]
        return 2 * sum(told) > len(told) if told else None

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The timeline: every frame belongs to the window whose middle is nearest, equal labels are one segment."""
        return timeline(self.windows)


@dataclass(frozen=True, eq=False)
class Person(_Timeline):
    """What one of the people in a recording does, judged as if nobody else was there.

    Args:
        track: Who it is: as the file, or who followed people through it, calls them; else the number of the body.
        frames: In how many it is seen.
        windows: Those of the recording's, from the first to the last in which it is seen.
    """

    track: str
    frames: int
    windows: tuple[Prediction, ...]

    def to_dict(self, fps: float | None = None) -> dict[str, Any]:
        """Plain values, for JSON: of the windows, the classes alone; seconds, too, at ``fps`` frames per second."""
        windows = [_timed(window.to_dict(features=False), fps) for window in self.windows]
        return {
            "track": self.track,
            "frames": self.frames,
            "label": self.label,
            **({} if self.unknown is None else {"unknown": self.unknown}),
            "segments": [_timed(segment.to_dict(), fps) for segment in self.segments],
            "windows": [{name: one[name] for name in one if name != "neighbours"} for one in windows],
        }


@dataclass(frozen=True, eq=False)
class Recognition(_Timeline):
    """What is seen in a recording.

    Args:
        labels_by: How the labels were made.
        windows: The windows in time; one, the whole, without a window length.
        warnings: What was made up, repaired, left out or odd.
        calibration: What the probabilities were calibrated with; None where neighbours vote, or no training clip is at
            hand that the classifier did not learn from: its probabilities are then those of its softmax, mostly too
            sure.
        fps: Its frames per second, where they are known.
        persons: Each of its people by themselves, those that are seen longest first; empty unless wanted.
    """

    labels_by: str
    windows: tuple[Prediction, ...]
    warnings: tuple[str, ...] = ()
    calibration: Calibration | None = None
    fps: float | None = None
    persons: tuple[Person, ...] = ()

    def to_dict(self, features: bool = True) -> dict[str, Any]:
        """Plain values, for JSON: frames in seconds, too, where :attr:`fps` is known; features unless left out."""
        return {
            "label": self.label,
            "labels_by": self.labels_by,
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            **({} if self.unknown is None else {"unknown": self.unknown}),
            "segments": [_timed(segment.to_dict(), self.fps) for segment in self.segments],
            "windows": [_timed(window.to_dict(features), self.fps) for window in self.windows],
            "persons": [person.to_dict(self.fps) for person in self.persons],
            "warnings": list(self.warnings),
        }


def _timed(content: dict[str, Any], fps: float | None) -> dict[str, Any]:
    """``start`` and ``stop`` in seconds beside them."""
    if fps is None:
        return content
    start, stop = content.pop("start"), content.pop("stop")
    return {"start": start, "stop": stop, "seconds": [start / fps, stop / fps], **content}


def cut(frames: int, window: int | None, stride: int | None) -> list[tuple[int, int]]:
    """Where windows lie in a recording: at every ``stride``, and one more at the end if frames are left.

    Args:
        frames: Length of the recording.
        window: Length of a window; None, or more than there is, takes the whole.
        stride: Frames between the starts of windows; half a window when None.

    Returns:
        First frame of each window and the frame after its last one.
    """
    if window is None or frames <= window:
        return [(0, frames)]
    starts = list(range(0, frames - window + 1, stride or max(1, window // 2)))
    if starts[-1] + window < frames:
        starts.append(frames - window)
    return [(start, start + window) for start in starts]


def timeline(windows: Sequence[Prediction]) -> tuple[Segment, ...]:
    """Segments of a recording from its windows in time, see :attr:`Recognition.segments`."""
    edges = [(a.start + a.stop + b.start + b.stop) // 4 for a, b in itertools.pairwise(windows)]
    starts = [windows[0].start, *edges] if windows else []
    stops = [*edges, windows[-1].stop] if windows else []
    shown = list(zip(starts, stops, windows, strict=True))
    alike = itertools.groupby(shown, key=lambda one: one[2].label)
    return tuple(_segment(label, list(some)) for label, some in alike)


def _segment(label: str | None, shown: Sequence[tuple[int, int, Prediction]]) -> Segment:
    best = [window.top[0] for _, _, window in shown if window.top]
    means = []
    for numbers in ([one.probability for one in best], [one.votes for one in best]):
        known = [number for number in numbers if number is not None]
        means.append(float(np.mean(known)) if known else None)
    return Segment(shown[0][0], shown[-1][1], label, *means)


def _plain(one: Candidate | Segment) -> dict[str, Any]:
    return {name: value for name, value in one._asdict().items() if name != "votes" or value is not None}
