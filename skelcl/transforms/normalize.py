"""Normalisation recipes of the literature, applied to the sampled frames only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Literal, get_args

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from skelcl.clips import Clips
from skelcl.errors import InputError
from skelcl.transforms.resample import planar, present

Recipe = Literal["none", "root", "sgn", "agcn", "stgcn50", "ucla_minmax", "hcn", "sds"]
Scale = Literal["none", "torso"]
Moved = tuple[Tensor, Tensor | None]
"""x (N, C, T, V, M), and the matrix (N, C, C) that every joint of it is still to be multiplied by, if any."""

HISTORY: dict[str, tuple[str, ...]] = {"agcn": ("turned the left shoulder to +x, not the right one",)}
"""Recipe → what each earlier version of it did otherwise; a recipe that is not here is at its first."""

TINY = 1e-6
"""Below this an axis, an angle (rad) or a length (unit of the store) counts as zero."""


class Normalize(nn.Module):
    """Moves, turns or scales bodies by one of the published recipes.

    Clips that went through a recipe before they were imported (:attr:`Clips.recipe`) are never normalised twice: the
    same recipe and ``none`` leave them as they are, and a recipe that needs what is lost refuses them.

    Args:
        recipe: ``none``: camera space. ``root``: every body minus its own origin joint, frame by frame (AS-CAL).
            ``sgn``: minus the origin joint of body 0 in its first frame, one constant per clip (SGN, CTR-GCN, MAMP).
            ``agcn``: minus the origin joint of body 0 frame by frame, then one rotation per clip that turns the trunk
            of body 0 in its first frame to +z and the way from its left to its right shoulder to +x (2s-AGCN and most
            contrastive methods); where body 0 is missing, other bodies are turned but not moved. ``stgcn50``: every
            body minus its own centre joint, then turned about y frame by frame so that the right shoulder lies towards
            +x, with one sign per view; the published arrays have one per clip, from before it was cropped (CrosSCLR,
            AimCLR). ``ucla_minmax``: every axis stretched to [−1, 1] over all frames and shown bodies of the clip
            (CTR-GCN on NW-UCLA); centring and scale have no effect on it. ``hcn``: minus the origin joint of body 0
            frame by frame, without exception: the places of absent bodies and of missing frames hold the negative
            origin instead of zeros (HCN). ``sds``: minus the base of the spine of body 0 in its first frame, divided by
            the length of its spine there, then one rotation that turns the spine to +z and what is level of the way
            from its upper end to the left elbow to +x: constants of the clip (SDS-CL).
            Clips of two coordinates are moved and scaled alike; what is turned in three dimensions is there turned in
            the plane as far as that goes, see :attr:`planar`.
        scale: ``torso`` divides by the distance of origin and centre joint of body 0 in its first frame.

    Raises:
        ValueError: If ``recipe`` or ``scale`` is unknown.
    """

    def __init__(self, recipe: Recipe = "none", scale: Scale = "none") -> None:
        super().__init__()
        if recipe not in get_args(Recipe):
            raise ValueError(f"Normalize: recipe must be one of {', '.join(get_args(Recipe))}, got {recipe!r}")
        if scale not in get_args(Scale):
            raise ValueError(f"Normalize: scale must be one of {', '.join(get_args(Scale))}, got {scale!r}")
        self.recipe = recipe
        self.scale = scale

    @property
    def planar(self) -> str:
        """What the recipe does to clips of two coordinates where that is less than to those of three; else empty."""
        return _PLANAR.get(self.recipe, "")

    def forward(self, x: Tensor, clips: Clips, generator: Generator | None = None) -> Tensor:
        """The normalised x.

        Args:
            x: Sampled frames of the clips in camera space, (N, C, T, V, M).
            clips: The clips themselves, for what depends on frames that were not sampled.
            generator: Source of randomness on the device of x, for a subclass that draws; None is torch's own.

        Returns:
            x (N, C, T, V, M), in memory (N, M, C, T, V); zeros stay zeros, but under ``hcn``.

        Raises:
            InputError: If the clips went through another recipe that cannot be undone.
        """
        x, matrix = self.move(x, clips, generator)
        return x if matrix is None else transform(x, matrix)

    def move(self, x: Tensor, clips: Clips, generator: Generator | None = None) -> Moved:
        """As :meth:`forward`, short of the last product, which a view folds into those of its augmentations."""
        x, matrix = _RECIPES[_steps_left(self.recipe, clips.recipe)](x, clips)
        if self.scale == "none":
            return x, matrix
        size = _torso(clips)[:, None, None]
        return (x / size[..., None, None], None) if matrix is None else (x, matrix / size)


def _steps_left(recipe: Recipe, past: str) -> Recipe:
    """What is left to do to clips that went through the recipe ``past``."""
    if past in ("none", recipe) or recipe == "none":
        return "none" if past == recipe else recipe
    # A constant shift of the clip, to which every other recipe is blind where it touches present bodies only.
    if past == "sgn" and recipe != "hcn":
        return recipe
    raise InputError(
        f"Normalize: the store holds clips that already went through the recipe {past!r}, which {recipe!r} cannot "
        f"undo: use recipe {past!r} or 'none', or prepare a store from raw files"
    )


def versions() -> dict[str, int]:
    """Version of every recipe, as a checkpoint carries them."""
    return {recipe: 1 + len(HISTORY.get(recipe, ())) for recipe in get_args(Recipe)}


def check_versions(module: nn.Module, known: Mapping[str, int], past: str = "none") -> None:
    """Refuses weights that were learned under another version of a recipe than the views beside them apply.

    The features of such weights would be numbers without a meaning, and nothing in them would tell.

    Args:
        module: What holds the views, a method for example.
        known: What :func:`versions` gave when the weights were saved; a recipe that is missing was at its first.
        past: Recipe that the clips of the weights' own data went through before they were imported. Where it is that
            of the views these do nothing, in any version.

    Raises:
        InputError: The weights are of another version.
    """
    for part in module.modules():
        if not isinstance(part, Normalize) or part.recipe == past:
            continue
        then, now = known.get(part.recipe, 1), versions()[part.recipe]
        if then > now:
            raise InputError(
                f"trained under version {then} of the recipe {part.recipe!r}, which this skelcl does not know yet"
            )
        if then < now:
            raise InputError(
                f"trained under version {then} of the recipe {part.recipe!r}, which {HISTORY[part.recipe][then - 1]}: "
                f"under version {now} the features would mean nothing; train again, or import again what others trained"
            )


def transform(x: Tensor, matrix: Tensor) -> Tensor:
    """One matrix per clip, (N, C, C), applied to every joint of x (N, C, T, V, M) as a column vector."""
    frames, joints = x.shape[2:4]
    flat = x.permute(0, 4, 1, 2, 3).flatten(3)
    return (matrix[:, None] @ flat).view(*flat.shape[:3], frames, joints).permute(0, 2, 3, 4, 1)


def _subtract(x: Tensor, shift: Tensor) -> Tensor:
    # Writing the difference straight into the planar layout saves a pass over the coordinates.
    out = torch.empty_permuted(x.shape, (0, 4, 1, 2, 3), dtype=x.dtype, device=x.device)
    return torch.sub(x, shift, out=out)


def _where_present(constant: Tensor, x: Tensor) -> Tensor:
    """A constant per clip (N, C) where a body is seen, else zero: (N, C, T, 1, M)."""
    return constant[:, :, None, None, None] * present(x)[:, None, :, None]


def _none(x: Tensor, clips: Clips) -> Moved:
    return planar(x), None


def _root(x: Tensor, clips: Clips) -> Moved:
    origin = clips.skeleton.origin
    return _subtract(x, x[:, :, :, origin : origin + 1]), None


def _sgn(x: Tensor, clips: Clips) -> Moved:
    return _subtract(x, _where_present(clips.reference[:, clips.skeleton.origin], x)), None


def _agcn(x: Tensor, clips: Clips) -> Moved:
    origin = clips.skeleton.origin
    shift = x[:, :, :, origin : origin + 1, :1] * present(x).to(x.dtype)[:, None, :, None]
    return _subtract(x, shift), _upright(clips)


def _upright(clips: Clips) -> Tensor:
    """(N, 3, 3): turns the trunk of the reference body to +z and then its right shoulder, seen from the left, to +x.

    In the plane, (N, 2, 2): turns the trunk to +y.
    """
    (lower, upper), (right, left) = clips.skeleton.up, clips.skeleton.across
    body = clips.reference
    trunk = body[:, upper] - body[:, lower]
    if trunk.shape[1] == 2:
        return _turn_in_plane(trunk)
    first = _turn(trunk, 2)
    shoulders = (first @ (body[:, right] - body[:, left])[..., None])[..., 0]
    return _turn(shoulders, 0) @ first


def _turn(vector: Tensor, axis: int) -> Tensor:
    """The smallest rotation that turns ``vector`` (N, 3) to the positive ``axis``, (N, 3, 3); identity if none."""
    crosses, eye = _constants(axis, vector.dtype, vector.device)
    # Rodrigues' formula I + sin·K + (1 − cos)·K², where K is that of the unit normal: all lengths are divided out last.
    cross = (vector @ crosses).view(-1, 3, 3)
    length = torch.linalg.vector_norm(vector, dim=1)
    sine = torch.linalg.vector_norm(cross, dim=(1, 2)) * 0.5**0.5
    turned = cross * ((sine >= TINY) / length.clamp(min=TINY))[:, None, None]
    bend = length * (length - vector[:, axis]) / sine.clamp(min=TINY).square()
    return torch.baddbmm(eye + turned, bend[:, None, None] * turned, turned)


def _turn_in_plane(vector: Tensor) -> Tensor:
    """The rotation that turns ``vector`` (N, 2) to +y, (N, 2, 2); identity for one without length."""
    length = torch.linalg.vector_norm(vector, dim=1)
    still, (x, y) = length < TINY, (vector / length.clamp(min=TINY)[:, None]).unbind(1)
    sine, cosine = torch.where(still, 0.0, x), torch.where(still, 1.0, y)
    return torch.stack([cosine, -sine, sine, cosine], 1).view(-1, 2, 2)


@lru_cache(maxsize=32)
def _constants(axis: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """What makes the matrix of y ↦ (v × axis) × y from a vector v, (3, 9), and the identity (3, 3)."""
    eye = torch.eye(3, dtype=dtype)
    normal = torch.linalg.cross(eye, eye[axis].expand(3, 3))
    crosses = torch.linalg.cross(normal[:, None].expand(3, 3, 3), eye.expand(3, 3, 3)).mT
    return crosses.reshape(3, 9).to(device), eye.to(device)


def _stgcn50(x: Tensor, clips: Clips) -> Moved:
    center, (right, left) = clips.skeleton.center, clips.skeleton.across
    x = _subtract(x, x[:, :, :, center : center + 1])
    if x.shape[1] == 2:
        return x, None
    ahead, _, aside = (x[:, :, :, right] - x[:, :, :, left])[:, :, :, None].unbind(1)
    # The published code adds 1e-4 to the length and decides the sign of the angle once for all frames of a body.
    cos = ahead / (torch.hypot(ahead, aside) + 1e-4)
    sin = (1 - cos.square()).sqrt()
    sin = torch.where(aside.sum(1, keepdim=True) >= 0, -sin, sin)
    across, up, depth = x.unbind(1)
    turned = torch.empty_like(x)
    turned[:, 0] = cos * across - sin * depth
    turned[:, 1] = up
    turned[:, 2] = sin * across + cos * depth
    return turned, None


def _ucla_minmax(x: Tensor, clips: Clips) -> Moved:
    return stretch(x, *extent(clips)), None


def stretch(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Stretches the box from ``low`` to ``high``, two (N, C), to [−1, 1]: x (N, C, T, V, M), planar in memory."""
    span = torch.where(high > low, high - low, 1.0)
    # 2·(x − low)/span − 1, written so that missing coordinates need a mask once.
    middle = low + span / 2
    return _subtract(x, _where_present(middle, x)) * (2 / span)[:, :, None, None, None]


def extent(clips: Clips, matrix: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Smallest and largest coordinate per axis over all frames of the shown bodies, two (N, C).

    How many rows that are depends on the clips: on an accelerator this waits once for the data.

    Args:
        clips: N clips.
        matrix: One matrix per clip, (N, C, C), that is applied to every joint before; None for none.
    """
    count = clips.frames * clips.bodies.clamp(max=clips.num_persons)
    clip = torch.repeat_interleave(count)
    row = torch.arange(len(clip), device=clip.device) + (clips.offsets - count.cumsum(0) + count)[clip]
    joints = clips.joints[row]
    if matrix is not None:
        joints = joints @ matrix.mT[clip]
    low, high = joints.aminmax(dim=1)
    size = (len(clips), low.shape[1])
    where = clip[:, None].expand_as(low)
    return (
        low.new_full(size, torch.inf).scatter_reduce(0, where, low.nan_to_num(torch.inf), "amin"),
        high.new_full(size, -torch.inf).scatter_reduce(0, where, high.nan_to_num(-torch.inf), "amax"),
    )


def _hcn(x: Tensor, clips: Clips) -> Moved:
    origin = clips.skeleton.origin
    return _subtract(x, x[:, :, :, origin : origin + 1, :1]), None


def _sds(x: Tensor, clips: Clips) -> Moved:
    skeleton, body = clips.skeleton, clips.reference
    if "left elbow" not in skeleton.joints:
        raise InputError(f"Normalize: recipe 'sds' needs a joint 'left elbow', which skeleton {skeleton.name!r} lacks")
    base, top = body[:, skeleton.up[0]], body[:, skeleton.center]
    if x.shape[1] == 2:
        turned = _turn_in_plane(top - base)
    else:
        upright = _turn(top - base, 2)
        arm = (upright @ (body[:, skeleton.joints.index("left elbow")] - top)[..., None])[..., 0]
        turned = _turn(F.pad(arm[:, :2], (0, 1)), 0) @ upright
    length = torch.linalg.vector_norm(top - base, dim=1)
    matrix = turned / torch.where(length < TINY, 1.0, length)[:, None, None]
    return _subtract(x, _where_present(base, x)), matrix


def _torso(clips: Clips) -> Tensor:
    """Distance of origin and centre joint of the reference body, (N,); 1 where it is too small to divide by."""
    body = clips.reference
    length = torch.linalg.vector_norm(body[:, clips.skeleton.center] - body[:, clips.skeleton.origin], dim=1)
    return torch.where(length < TINY, 1.0, length)


_PLANAR = {
    "agcn": "turns the trunk upright in the plane, not the shoulders",
    "stgcn50": "moves the centre to the origin and turns nothing",
    "sds": "turns the trunk upright in the plane, not the arm",
}
"""Recipe → what is left of its turns without depth."""

_RECIPES: dict[str, Callable[[Tensor, Clips], Moved]] = {
    "none": _none,
    "root": _root,
    "sgn": _sgn,
    "agcn": _agcn,
    "stgcn50": _stgcn50,
    "ucla_minmax": _ucla_minmax,
    "hcn": _hcn,
    "sds": _sds,
}
