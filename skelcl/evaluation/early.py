"""Early recognition: encoder and judges as they are after training on whole clips, of test clips only the beginning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from skelcl.bounds import Percent, bounded
from skelcl.clips import Clips
from skelcl.errors import OptionError
from skelcl.evaluation.probe import ProbeName


@bounded
@dataclass(frozen=True)
class EarlyOptions:
    """Options of early recognition.

    Args:
        percents: How much of a test clip is seen, in whole percent of its frames, rounded up to frames.
        probe: Preset of the linear probe; None is that of the checkpoint's run.

    Raises:
        OptionError: If there is no share, or one is there twice.
    """

    percents: tuple[Percent, ...] = (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
    probe: ProbeName | None = None

    def __post_init__(self) -> None:
        if not self.percents or len(set(self.percents)) < len(self.percents):
            raise OptionError(f"early: percents are different shares, like [10,50,100], not {list(self.percents)}")


def beginning(clips: Clips, percent: int) -> Clips:
    """The first ⌈percent / 100 · T⌉ of the T frames of every clip, before sampling and normalisation.

    A clip in which body 0 appears later begins to be recognised there: it is seen up to that frame at least.

    Args:
        clips: N clips, of any length and number of bodies.
        percent: 1…100.

    Returns:
        New clips; every frame of theirs is a frame of the old ones.
    """
    frames = torch.maximum((clips.frames * percent + 99) // 100, clips.first + 1)
    sizes = frames * clips.bodies
    offsets = sizes.cumsum(0) - sizes
    clip = torch.repeat_interleave(sizes)
    place = torch.arange(len(clip), device=clip.device) - offsets[clip]
    body, frame = place // frames[clip], place % frames[clip]
    rows = clips.offsets[clip] + body * clips.frames[clip] + frame
    return replace(clips, joints=clips.joints[rows], offsets=offsets, frames=frames)


def early_name(judge: str, percent: int | None = None) -> str:
    """Name of an accuracy: of ``knn``, ``linear`` or ``own``, for one share, or with None the mean over all."""
    name = "early_top1" if judge == "own" else f"early_{judge}_top1"
    return name if percent is None else f"{name}_{percent}"


def early_curve(metrics: Mapping[str, float], judge: str, subset: str = "test", prefix: str = "") -> dict[int, float]:
    """Accuracies (0…1) of a judge by percent seen, in that order; ``random_`` is the prefix of the random encoder."""
    start = f"{subset}/{prefix}{early_name(judge)}_"
    found = {int(name.removeprefix(start)): top1 for name, top1 in metrics.items() if name.startswith(start)}
    return dict(sorted(found.items()))
