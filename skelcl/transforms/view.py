"""Views: what a method makes of a batch of clips before it encodes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from skelcl.clips import Clips
from skelcl.errors import InputError
from skelcl.transforms.augment import MatrixAugmentation
from skelcl.transforms.normalize import Normalize, transform
from skelcl.transforms.resample import Sampler, blend, planar, present
from skelcl.transforms.step import Mask, Step
from skelcl.transforms.streams import Stream


class View(nn.Module):
    """Sample in time, normalise, apply the steps in order, derive the stream: batched, on the device of the clips.

    Linear interpolation and the recipes that are linear per frame commute, so normalising comes after sampling and
    touches T frames only.

    Args:
        sample: Chooses the T frames of every clip.
        normalize: Makes bodies comparable; None leaves camera space.
        steps: Streams and augmentations in the order of application.
        stream: Last step, unless it changes nothing. On the command line, the options ``--stream.kind`` and
            ``--stream.trajectory`` set it for every view of a run.
        stream_first: Make the stream the first step instead. Rotation, shear and a flip without mirror commute with
            bones and motion; noise, masks and everything else do not.
        dup_body: Show the only body of a clip as its second one too, as the published NTU RGB+D 120 arrays of SGN and
            CTR-GCN do; False shows zeros.

    Raises:
        InputError: If ``dup_body`` is asked of clips that are shown with one person.
    """

    def __init__(
        self,
        sample: Sampler,
        normalize: Normalize | None = None,
        steps: list[Step] | None = None,
        stream: Stream | None = None,
        dup_body: bool = False,
        stream_first: bool = False,
    ) -> None:
        super().__init__()
        self.sample = sample
        self.normalize = normalize
        self.steps = nn.ModuleList(steps or [])
        if stream is not None and (stream.kind != "joint" or stream.trajectory):
            self.steps.insert(0 if stream_first else len(self.steps), stream)
        self.dup_body = dup_body

    @property
    def frames(self) -> int:
        """T, the length of the view."""
        return self.sample.frames

    @property
    def planar(self) -> list[str]:
        """What parts of the view do to clips of two coordinates that is less than they do to those of three."""
        parts = [] if self.normalize is None else [(f"recipe {self.normalize.recipe}", self.normalize.planar)]
        parts += [(type(step).__name__, step.planar) for step in self.steps if isinstance(step, Step)]
        return [f"{name} {told}" for name, told in parts if told]

    def forward(self, clips: Clips, generator: Generator | None = None) -> Tensor:
        """One view of every clip.

        Args:
            clips: N clips.
            generator: Source of randomness on the device of the clips; None is torch's own.

        Returns:
            x (N, C, T, V, M) float32; in memory (N, M, C, T, V).
        """
        # Coordinates are data: half precision would move joints by millimetres.
        with torch.autocast(clips.joints.device.type, enabled=False):
            x: Tensor = self.sample(clips, generator)
            x, matrix = (planar(x), None) if self.normalize is None else self.normalize.move(x, clips, generator)
            if self.dup_body:
                _duplicate(x, clips)
            return self._process(x, clips, generator, matrix)

    def pair(self, clips: Clips, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Two views of every clip, drawn independently, in one pass: half as many operations, of twice the size.

        Worth it where a view is many small operations, as SCD-Net's; on a CPU, AS-CAL's long ones leave the cache.

        Args:
            clips: N clips.
            generator: Source of randomness on the device of the clips; None is torch's own.

        Returns:
            Two x (N, C, T, V, M) as :meth:`forward` gives one.
        """
        first, second = self(clips[torch.arange(len(clips), device=clips.index.device).repeat(2)], generator).chunk(2)
        return first, second

    def with_motion(
        self, clips: Clips, generator: Generator | None = None, shared: bool = True, masked: bool = True
    ) -> tuple[Tensor, Tensor]:
        """One view of every clip, and the motion in it: x[t + 1] − x[t] of neighbours in the clip, not in the view.

        Unlike :class:`Stream`, which has only the sampled frames, this takes the next frame of the clip itself, so the
        motion is per frame of the recording whatever is sampled; behind the last frame nothing moves. Both frames go
        through the same normalisation and the same steps, with the same draws.

        Args:
            clips: N clips.
            generator: Source of randomness on the device of the clips; None is torch's own.
            shared: Motion and coordinates are of the same frames; False samples anew for the motion.
            masked: Motion is zero where a body is missing in either frame; False lets it jump from zero and back.

        Returns:
            Coordinates and motion, x (N, C, T, V, M) float32 each.
        """
        with torch.autocast(clips.joints.device.type, enabled=False):
            plan = self.sample.plan(clips, generator)
            source, weight = plan if shared else self.sample.plan(clips, generator)
            later = (source + 1).minimum(clips.frames[:, None, None] - 1)
            parts = [] if shared else [blend(clips, *plan)]
            parts += [blend(clips, source, weight), blend(clips, later, weight)]
            x = torch.cat(parts, 2)
            if self.dup_body:
                _duplicate(x, clips)
            seen = present(x).chunk(len(parts), 1)
            x = x if self.normalize is None else self.normalize(x, clips, generator)
            parts = self._process_alike([planar(part) for part in x.chunk(len(parts), 2)], clips, generator)
            motion = parts[-1] - parts[-2]
            return parts[0], motion * (seen[-1] & seen[-2])[:, None, :, None] if masked else motion

    def _process_alike(self, parts: Sequence[Tensor], clips: Clips, generator: Generator | None) -> list[Tensor]:
        """All steps on each of some x (N, C, T, V, M), every time with the same draws."""
        if not self.steps:
            return list(parts)
        if generator is None:
            device = clips.joints.device
            generator = torch.Generator(device).manual_seed(int(torch.randint(2**62, ())))
        state = generator.get_state()
        return [self._process(x, clips, generator.set_state(state)) for x in parts]

    def _process(self, x: Tensor, clips: Clips, generator: Generator | None, matrix: Tensor | None = None) -> Tensor:
        """``matrix`` and all steps on x (N, C, T, V, M), which may be overwritten.

        Consecutive matrices meet before they touch any coordinate, and so do consecutive masks.
        """
        kept: Tensor | None = None
        for step in self.steps:
            if kept is not None and not isinstance(step, Mask):
                x, kept = x.mul_(kept), None
            if isinstance(step, MatrixAugmentation):
                later = step.draw(x, generator)
                matrix = later if matrix is None else later @ matrix
                continue
            if matrix is not None:
                x, matrix = transform(x, matrix), None
            if isinstance(step, Mask):
                if kept is None:
                    kept = x.new_ones(()).expand(len(x), 1, *x.shape[2:4], 1)
                kept = step(kept, clips.skeleton, generator)
                continue
            x = step(x, clips.skeleton, generator)
        if matrix is not None:
            x = transform(x, matrix)
        return x if kept is None else x.mul_(kept)


def _duplicate(x: Tensor, clips: Clips) -> None:
    """Writes body 0 of x (N, C, T, V, M) over body 1 where the clip has one body."""
    if clips.num_persons < 2:
        raise InputError("View: dup_body needs num_persons of at least 2, the place where the copy is shown")
    single = (clips.bodies == 1)[:, None, None, None]
    x[..., 1] = torch.where(single, x[..., 0], x[..., 1])
