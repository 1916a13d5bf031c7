"""Augmentations: random per clip, never shared by the batch, split into drawing parameters and using them."""

from __future__ import annotations

from abc import abstractmethod
from functools import lru_cache
from typing import Generic, Literal, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from skelcl.bounds import NonNegativeFloat, NonNegativeInt, PositiveFloat, Share, bounded
from skelcl.errors import InputError
from skelcl.skeleton import Skeleton
from skelcl.transforms.normalize import transform
from skelcl.transforms.resample import present
from skelcl.transforms.step import Mask, Step, joint_index

P = TypeVar("P")


class Augmentation(Step, Generic[P]):
    """A step that draws parameters for every clip and then uses them."""

    @abstractmethod
    def draw(self, x: Tensor, generator: Generator | None = None) -> P:
        """Independent parameters for each of the N clips of x (N, C, T, V, M)."""

    @abstractmethod
    def augment(self, x: Tensor, params: P) -> Tensor:
        """The augmented x (N, C, T, V, M): a pure function of its arguments."""

    def forward(self, x: Tensor, skeleton: Skeleton, generator: Generator | None = None) -> Tensor:
        """Draws parameters and uses them."""
        return self.augment(x, self.draw(x, generator))


@bounded
class Reverse(Augmentation[Tensor]):
    """Plays clips backwards.

    Args:
        probability: Share of the clips that are reversed.
        valid_only: Reverse up to the last frame with anybody in it, so that padding stays behind. False reverses the
            whole window as published, which moves the zeros to the front.

    Raises:
        ValueError: If ``probability`` is not in [0, 1].
    """

    def __init__(self, probability: Share = 0.5, valid_only: bool = False) -> None:
        super().__init__()
        self.probability = probability
        self.valid_only = valid_only

    def draw(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """The source frame of every frame, (N, T) int64."""
        n, _, frames = x.shape[:3]
        frame = torch.arange(frames, device=x.device)
        length = torch.full((n,), frames, device=x.device)
        if self.valid_only:
            length = (present(x).any(2) * (frame + 1)).amax(1)
        backwards = torch.rand(n, device=x.device, generator=generator) < self.probability
        swap = backwards[:, None] & (frame < length[:, None])
        return torch.where(swap, length[:, None] - 1 - frame, frame)

    def augment(self, x: Tensor, params: Tensor) -> Tensor:
        """The frames of x in the order ``params`` (N, T)."""
        rows, blocks = _rows(x)
        start = torch.arange(0, len(rows), x.shape[2], device=x.device).view(len(x), blocks, 1)
        return _unrows(rows.index_select(0, (start + params[:, None]).flatten()), x)


@bounded
class MatrixAugmentation(Augmentation[Tensor]):
    """Multiplies every joint of a clip by one random matrix; a view folds consecutive matrices into their product.

    Args:
        probability: Share of the clips that are changed.

    Raises:
        ValueError: If ``probability`` is not in [0, 1].
    """

    def __init__(self, probability: Share = 1.0) -> None:
        super().__init__()
        self.probability = probability

    @abstractmethod
    def matrices(self, n: int, channels: int, device: torch.device, generator: Generator | None = None) -> Tensor:
        """A matrix for each of ``n`` clips of C = ``channels``, (N, C, C), whatever the probability."""

    def draw(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """One matrix per clip, (N, C, C); the identity where the clip is not changed."""
        matrix = self.matrices(len(x), x.shape[1], x.device, generator)
        if self.probability == 1.0:
            return matrix
        changed = torch.rand(len(x), 1, 1, device=x.device, generator=generator) < self.probability
        return torch.where(changed, matrix, torch.eye(x.shape[1], device=x.device))

    def augment(self, x: Tensor, params: Tensor) -> Tensor:
        """Every joint of x multiplied by the matrix (N, C, C) of its clip."""
        return transform(x, params)


@bounded
class Shear(MatrixAugmentation):
    """Multiplies every joint by a matrix with ones on the diagonal and random entries off it.

    Args:
        amplitude: The entries are uniform in ±amplitude. AS-CAL and SCD-Net take 1, AimCLR 0.5.
        probability: Share of the clips that are sheared; SCD-Net takes 0.5.

    Raises:
        ValueError: If ``amplitude`` is negative, or ``probability`` is not in [0, 1].
    """

    def __init__(self, amplitude: NonNegativeFloat = 1.0, probability: Share = 1.0) -> None:
        super().__init__(probability)
        self.amplitude = amplitude

    def matrices(self, n: int, channels: int, device: torch.device, generator: Generator | None = None) -> Tensor:
        """A shear for each of ``n`` clips, (N, C, C)."""
        matrix = (2 * torch.rand(n, channels, channels, device=device, generator=generator) - 1) * self.amplitude
        matrix.diagonal(dim1=1, dim2=2).fill_(1.0)
        return matrix


@bounded
class Rotate(MatrixAugmentation):
    """Turns clips about the axes of the coordinate system.

    A main axis is chosen uniformly; its angle is uniform in [0, max_degrees], one-sided as AS-CAL published it, and
    those of the two other axes in [0, minor_max_degrees]. The rotations are composed as R_z·R_y·R_x. Equal bounds and
    ``symmetric`` give the rotation of CTR-GCN: three independent angles, ±17.2° each. Clips of two coordinates are
    turned in their plane, by the angle of a main axis.

    Args:
        max_degrees: Largest angle about the main axis.
        minor_max_degrees: Largest angle about the other axes; AimCLR and SCD-Net take 1.
        symmetric: Draw from [−max, max] instead of [0, max].
        probability: Share of the clips that are turned; SCD-Net takes 0.5.

    Raises:
        ValueError: If an angle is negative, or ``probability`` is not in [0, 1].
    """

    planar = "turns in the plane alone"

    def __init__(
        self,
        max_degrees: NonNegativeFloat = 30.0,
        minor_max_degrees: NonNegativeFloat = 0.0,
        symmetric: bool = False,
        probability: Share = 1.0,
    ) -> None:
        super().__init__(probability)
        self.max_degrees = max_degrees
        self.minor_max_degrees = minor_max_degrees
        self.symmetric = symmetric

    def matrices(self, n: int, channels: int, device: torch.device, generator: Generator | None = None) -> Tensor:
        """A rotation for each of ``n`` clips, (N, C, C)."""
        if channels == 2:
            share = torch.rand(n, device=device, generator=generator)
            share = 2 * share - 1 if self.symmetric else share
            angle = (share * self.max_degrees).deg2rad()
            return rotation(F.pad(angle[:, None], (2, 0)))[:, :2, :2]
        main = torch.randint(3, (n, 1), device=device, generator=generator)
        largest = torch.where(main == torch.arange(3, device=device), self.max_degrees, self.minor_max_degrees)
        share = torch.rand(n, 3, device=device, generator=generator)
        return rotation((2 * share - 1 if self.symmetric else share) * largest.deg2rad())


@bounded
class Flip(Step):
    """Exchanges left and right joints, by the pairs of the skeleton.

    Args:
        probability: Share of the clips that are flipped.
        mirror_axis: Coordinate that changes its sign too, which makes the flip a mirror image. None leaves coordinates
            as they are, as SCD-Net does: right joints then carry the names of left ones, at their own place.

    Raises:
        ValueError: If ``probability`` is not in [0, 1].
        InputError: If the data lack the ``mirror_axis``.
    """

    def __init__(self, probability: Share = 0.5, mirror_axis: Literal["x", "y", "z"] | None = None) -> None:
        super().__init__()
        self.probability = probability
        if mirror_axis not in (None, "x", "y", "z"):
            raise ValueError(f"Flip: mirror_axis must be x, y, z or None, got {mirror_axis!r}")
        self.mirror_axis = mirror_axis

    def draw(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """Which of the N clips are flipped, (N,) bool."""
        return torch.rand(len(x), device=x.device, generator=generator) < self.probability

    def augment(self, x: Tensor, params: Tensor, skeleton: Skeleton) -> Tensor:
        """The clips ``params`` (N,) of x flipped."""
        swapped = joint_index(skeleton.mirror, x.device)
        order = torch.where(params[:, None], swapped, torch.arange(len(swapped), device=x.device))
        # In the order of memory, which the view keeps planar.
        flat = x.permute(0, 4, 1, 2, 3)
        flipped = flat.gather(4, order[:, None, None, None].expand_as(flat)).permute(0, 2, 3, 4, 1)
        if self.mirror_axis is None:
            return flipped
        axis = "xyz".index(self.mirror_axis)
        if axis >= x.shape[1]:
            raise InputError(f"Flip: the data have {x.shape[1]} channels, and thus no axis {self.mirror_axis}")
        sign = torch.ones(len(x), x.shape[1], dtype=x.dtype, device=x.device)
        sign[:, axis] = torch.where(params, -1.0, 1.0)
        return flipped * sign[:, :, None, None, None]

    def forward(self, x: Tensor, skeleton: Skeleton, generator: Generator | None = None) -> Tensor:
        """Draws clips and flips them."""
        return self.augment(x, self.draw(x, generator), skeleton)


@bounded
class GaussianNoise(Augmentation[Tensor]):
    """Adds independent normal noise to every coordinate.

    Args:
        std: Standard deviation in the unit of x.
        on_missing: Add noise to absent bodies and missing frames too, as AS-CAL's release does.

    Raises:
        ValueError: If ``std`` is negative.
    """

    def __init__(self, std: NonNegativeFloat = 0.05, on_missing: bool = False) -> None:
        super().__init__()
        self.std = std
        self.on_missing = on_missing

    def draw(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """The noise, in the shape of x."""
        n, channels, frames, joints, bodies = x.shape
        # Drawn in the order of memory: torch fills a permuted tensor one number at a time, eight times slower.
        noise = torch.randn(n, bodies, channels, frames, joints, dtype=x.dtype, device=x.device, generator=generator)
        return noise.mul_(self.std).permute(0, 2, 3, 4, 1)

    def augment(self, x: Tensor, params: Tensor) -> Tensor:
        """Adds the noise ``params`` (N, C, T, V, M) where a body is seen."""
        if self.on_missing:
            return x + params
        return torch.addcmul(x, params, present(x)[:, None, :, None].to(x.dtype))


@bounded
class GaussianBlur(Augmentation[Tensor]):
    """Smooths the motion of clips with a Gaussian of 15 frames; beyond the window lie zeros.

    Args:
        max_sigma: Largest standard deviation in frames; it is uniform in [min_sigma, max_sigma].
        min_sigma: Smallest standard deviation in frames.
        probability: Share of the clips that are blurred.
        normalize_kernel: Divide the kernel by its sum. AS-CAL's release does not, which scales motion up to fivefold.
        on_missing: Let motion leak into missing frames, as AS-CAL's release does.

    Raises:
        ValueError: If not 0 < min_sigma ≤ max_sigma, or ``probability`` is not in [0, 1].
    """

    radius = 7

    def __init__(
        self,
        max_sigma: PositiveFloat = 2.0,
        min_sigma: PositiveFloat = 0.1,
        probability: Share = 0.5,
        normalize_kernel: bool = True,
        on_missing: bool = False,
    ) -> None:
        super().__init__()
        if min_sigma > max_sigma:
            raise InputError(f"GaussianBlur: min_sigma must not exceed max_sigma, got {min_sigma} and {max_sigma}")
        self.max_sigma = max_sigma
        self.min_sigma = min_sigma
        self.probability = probability
        self.normalize_kernel = normalize_kernel
        self.on_missing = on_missing

    def draw(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """The standard deviation of every clip in frames, zero for no blur, (N,)."""
        share, coin = torch.rand(2, len(x), device=x.device, generator=generator).unbind()
        sigma = self.min_sigma + (self.max_sigma - self.min_sigma) * share
        return torch.where(coin < self.probability, sigma, 0.0)

    def augment(self, x: Tensor, params: Tensor) -> Tensor:
        """Blurs x over time with the standard deviations ``params`` (N,)."""
        offset = torch.arange(-self.radius, self.radius + 1, device=x.device)
        # A width far below one frame leaves the middle weight alone: no blur needs no branch.
        kernel = torch.exp(-offset.square() / (2 * params[:, None].clamp(min=1e-3).square()))
        if self.normalize_kernel:
            kernel = kernel / kernel.sum(1, keepdim=True)
        rows, blocks = _rows(x)
        frames = x.shape[2]
        source = torch.arange(frames, device=x.device)[:, None] + offset
        inside = (source >= 0) & (source < frames)
        start = torch.arange(0, len(rows), frames, device=x.device)[:, None, None]
        index = (start + source.clamp(0, frames - 1)).view(-1, len(offset))
        weight = (kernel[:, None, None] * inside).expand(-1, blocks, -1, -1).reshape(-1, len(offset))
        # A bag of 15 weighted rows is a convolution with a kernel per clip, without unfolding the coordinates.
        blurred = _unrows(F.embedding_bag(index, rows, mode="sum", per_sample_weights=weight.to(x.dtype)), x)
        return blurred if self.on_missing else blurred * present(x)[:, None, :, None].to(x.dtype)


class Masked(NamedTuple):
    """Joints (N, V) and frames (N, T), bool, that a joint mask hides together."""

    joints: Tensor
    frames: Tensor


@bounded
class JointMask(Augmentation[Masked], Mask):
    """Zeroes a random set of joints in a random set of frames, the same joints in each of them.

    Both sets have exactly the drawn size; sizes larger than the clip are cut to it.

    Args:
        joints: Fewest and most joints, drawn uniformly.
        frames: Fewest and most frames, drawn uniformly. None: 50 to 100 when T ≥ 100, else 20 to 50, as AS-CAL.

    Raises:
        ValueError: If a range is not 0 ≤ fewest ≤ most.
    """

    def __init__(
        self,
        joints: tuple[NonNegativeInt, NonNegativeInt] = (5, 15),
        frames: tuple[NonNegativeInt, NonNegativeInt] | None = None,
    ) -> None:
        super().__init__()
        for name, span in (("joints", joints), ("frames", frames or (0, 0))):
            if span[0] > span[1]:
                raise InputError(f"JointMask: {name} must satisfy fewest <= most, got {span[0]} and {span[1]}")
        self.joints = joints
        self.frames = frames

    def draw(self, x: Tensor, generator: Generator | None = None) -> Masked:
        """The hidden joints and frames of every clip."""
        n, _, frames, joints = x.shape[:4]
        span = self.frames or ((50, 100) if frames >= 100 else (20, 50))
        return Masked(
            _subset(n, joints, self.joints, x.device, generator), _subset(n, frames, span, x.device, generator)
        )

    def augment(self, x: Tensor, params: Masked) -> Tensor:
        """Zeroes the joints of ``params`` in its frames."""
        hidden = params.joints[:, None, None, :, None] & params.frames[:, None, :, None, None]
        return x * (~hidden).to(x.dtype)


class ChannelMask(Augmentation[Tensor]):
    """Zeroes one randomly chosen coordinate axis of every clip."""

    def draw(self, x: Tensor, generator: Generator | None = None) -> Tensor:
        """The hidden axis of every clip, (N,) int64."""
        return torch.randint(x.shape[1], (len(x),), device=x.device, generator=generator)

    def augment(self, x: Tensor, params: Tensor) -> Tensor:
        """Zeroes the axis ``params`` (N,)."""
        kept = torch.arange(x.shape[1], device=x.device) != params[:, None]
        return x * kept[:, :, None, None, None].to(x.dtype)


def rotation(angles: Tensor) -> Tensor:
    """R_z·R_y·R_x for angles (N, 3) in rad about x, y and z, each R the transpose of the usual right-handed one."""
    still, across, turned = _axes(angles.dtype, angles.device)
    cos, sin = (each[..., None, None] for each in (angles.cos(), angles.sin()))
    about_x, about_y, about_z = (still + cos * across + sin * turned).unbind(1)
    return about_z @ about_y @ about_x


@lru_cache(maxsize=32)
def _axes(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """What stays, what shrinks by the cosine and what moves by the sine under a turn about x, y and z, (3, 3, 3)."""
    eye = torch.eye(3, dtype=dtype)
    still = torch.diag_embed(eye)
    turned = torch.linalg.cross(eye.expand(3, 3, 3), eye[:, None].expand(3, 3, 3)).mT
    return still.to(device), (eye - still).to(device), turned.to(device)


def _subset(n: int, size: int, span: tuple[int, int], device: torch.device, generator: Generator | None) -> Tensor:
    """A random subset of ``size`` things per clip, with a random number of members in ``span``, (N, size) bool."""
    count = torch.randint(span[0], span[1] + 1, (n, 1), device=device, generator=generator)
    rank = torch.rand(n, size, device=device, generator=generator).argsort(1).argsort(1)
    return rank < count


def _rows(x: Tensor) -> tuple[Tensor, int]:
    """Views x (N, C, T, V, M) as rows of V joints (N·M·C·T, V), and the M·C blocks of T rows that a clip has."""
    _, channels, _, joints, bodies = x.shape
    return x.permute(0, 4, 1, 2, 3).reshape(-1, joints), bodies * channels


def _unrows(rows: Tensor, x: Tensor) -> Tensor:
    """The inverse of :func:`_rows`, in the shape of x."""
    n, channels, frames, joints, bodies = x.shape
    return rows.view(n, bodies, channels, frames, joints).permute(0, 2, 3, 4, 1)
