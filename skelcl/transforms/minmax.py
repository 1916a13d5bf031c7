"""The training view of NW-UCLA: a random point of view before the min–max stretch."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from skelcl.bounds import NonNegativeInt, bounded
from skelcl.clips import Clips
from skelcl.errors import InputError
from skelcl.transforms.augment import rotation
from skelcl.transforms.normalize import Moved, Normalize, extent, stretch, transform


@bounded
class RotateMinMax(Normalize):
    """Turns every clip about x and y at random, then stretches every axis of it to [−1, 1] (CTR-GCN on NW-UCLA).

    The angles are whole degrees, uniform in ±max_degrees. The extremes are those of all frames of the turned clip, not
    of the sampled ones. In evaluation nothing is turned: ``Normalize(recipe="ucla_minmax")``. The published random
    scale and centring are left out, for the stretch undoes them.

    Args:
        max_degrees: Largest angle about either axis.

    Raises:
        ValueError: If ``max_degrees`` is negative, or the data are not 3D.
    """

    def __init__(self, max_degrees: NonNegativeInt = 60) -> None:
        super().__init__("ucla_minmax")
        self.max_degrees = max_degrees

    def draw(self, clips: Clips, generator: Generator | None = None) -> Tensor:
        """One rotation matrix per clip, (N, 3, 3)."""
        device, most = clips.frames.device, self.max_degrees
        degrees = torch.randint(-most, most + 1, (len(clips), 3), device=device, generator=generator)
        degrees[:, 2] = 0
        # Published for rows of points, X·(R_y·R_x); a column is multiplied by the transpose.
        return rotation(degrees.to(clips.joints.dtype).deg2rad()).mT

    def move(self, x: Tensor, clips: Clips, generator: Generator | None = None) -> Moved:
        """Draws a rotation for every clip of x (N, 3, T, V, M), turns and stretches it.

        Raises:
            InputError: If the clips went through a recipe that is more than a shift.
        """
        if x.shape[1] != 3:
            raise InputError(
                "RotateMinMax turns clips about x and y, which takes three coordinates, these have two: give the view "
                "Normalize(recipe='ucla_minmax') and, for turns in the plane, the step Rotate"
            )
        if clips.recipe not in ("none", "sgn"):
            raise InputError(
                f"RotateMinMax: the store holds clips that already went through the recipe {clips.recipe!r}, after "
                f"which they cannot be turned as published: prepare a store from raw files"
            )
        matrix = self.draw(clips, generator)
        return stretch(transform(x, matrix), *extent(clips, matrix)), None
