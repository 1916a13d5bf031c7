from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from skelcl.skeleton import NTU25
from skelcl.transforms import (
    Augmentation,
    ChannelMask,
    GaussianBlur,
    GaussianNoise,
    JointMask,
    Masked,
    Normalize,
    Resize,
    Reverse,
    Rotate,
    Shear,
    Truncate,
    present,
    rotation,
)

stats = pytest.importorskip("scipy.stats")

ALL = [
    Reverse(),
    Reverse(valid_only=True),
    Shear(),
    Rotate(),
    Rotate(17.0, 17.0, symmetric=True),
    GaussianNoise(),
    GaussianBlur(probability=1.0),
    GaussianBlur(normalize_kernel=False),
    JointMask(),
    ChannelMask(),
]
NAMES = [f"{type(step).__name__}{number}" for number, step in enumerate(ALL)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def wide(count: int, *shape: int) -> Tensor:
    """Many clips of ones, (count, C, T, V, M), without the memory."""
    return torch.ones(1, *shape).expand(count, *shape)


def matrix_twin(x: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    out = np.zeros_like(x)
    for t, v, m in np.ndindex(x.shape[1:]):
        for i in range(3):
            out[i, t, v, m] = sum(matrix[i, j] * x[j, t, v, m] for j in range(3))
    return out


def blur_twin(x: np.ndarray, sigma: float, normalize: bool) -> np.ndarray:
    if sigma == 0:
        return x
    weight = {i: math.exp(-(i**2) / (2 * sigma**2)) for i in range(-7, 8)}
    total = sum(weight.values()) if normalize else 1.0
    out = np.zeros_like(x)
    for t in range(x.shape[1]):
        for i, w in weight.items():
            if 0 <= t + i < x.shape[1]:
                out[:, t] += w / total * x[:, t + i]
    return out * (x != 0).any(axis=(0, 2), keepdims=True)


def slow(step: Augmentation, x: np.ndarray, params: object) -> np.ndarray:
    """One clip, (C, T, V, M) float64, with its own parameters."""
    if isinstance(step, Reverse):
        return np.stack([x[:, int(t)] for t in params], axis=1)
    if isinstance(step, Shear | Rotate):
        return matrix_twin(x, params)
    if isinstance(step, GaussianNoise):
        return x + params * (x != 0).any(axis=(0, 2), keepdims=True)
    if isinstance(step, GaussianBlur):
        return blur_twin(x, float(params), step.normalize_kernel)
    out = x.copy()
    if isinstance(step, JointMask):
        for t in np.flatnonzero(params.frames):
            out[:, t, params.joints] = 0
    else:
        out[int(params)] = 0
    return out


@pytest.mark.parametrize("step", ALL, ids=NAMES)
@pytest.mark.parametrize("frames", [1, 24])
def test_batched_equals_looped(make_clips, step, frames):
    x = Truncate(frames)(make_clips(gaps=True))
    params = step.draw(x, seeded())
    y = step.augment(x, params).numpy()
    for n in range(len(x)):
        own = type(params)(*(p[n].numpy() for p in params)) if isinstance(params, tuple) else params[n].double().numpy()
        np.testing.assert_allclose(y[n], slow(step, x[n].double().numpy(), own), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("step", ALL, ids=NAMES)
def test_every_memory_layout_gives_the_same(make_clips, step):
    x = Resize(12)(make_clips())
    params = step.draw(x, seeded())
    assert torch.equal(step.augment(x.contiguous(), params), step.augment(x, params))


@pytest.mark.parametrize("step", ALL, ids=NAMES)
def test_what_is_missing_stays_missing(make_clips, step):
    for sampler in (Truncate(60), Resize(20)):
        x = sampler(make_clips(gaps=True, num_persons=3))
        params = step.draw(x, seeded())
        y = step.augment(x, params)
        gone = ~present(x)
        if isinstance(step, Reverse):
            gone = gone.gather(1, params[:, :, None].expand_as(gone))
        assert gone.any()
        assert not y.permute(0, 2, 4, 1, 3)[gone].any()


@pytest.mark.parametrize("step", ALL, ids=NAMES)
def test_generator_decides_and_clips_are_independent(make_clips, step):
    clips = make_clips()
    x = Resize(30)(clips[torch.full((48,), 4)])
    y = step(x, NTU25, seeded(1))
    assert torch.equal(y, step(x, NTU25, seeded(1)))
    assert not torch.equal(y, step(x, NTU25, seeded(2)))
    distinct = len(torch.unique(y.flatten(1), dim=0))
    coins = {Reverse: 2, ChannelMask: 3}
    assert distinct == coins[type(step)] if type(step) in coins else distinct > 15


@pytest.mark.parametrize(
    "step",
    [Reverse(0.0), Shear(0.0), Rotate(0.0), GaussianNoise(0.0), GaussianBlur(probability=0.0), JointMask((0, 0))],
    ids=lambda step: type(step).__name__,
)
def test_zero_strength_is_the_identity(make_clips, step):
    x = Resize(20)(make_clips(gaps=True))
    assert torch.equal(step(x, NTU25, seeded()), x)


def test_shear_golden_values():
    matrix = torch.tensor([[[1, 0.5, -1], [-0.25, 1, 0.5], [1, -0.5, 1]]])
    x = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1, 1)
    assert Shear().augment(x, matrix).flatten().tolist() == [-1.0, 3.25, 3.0]


def test_shear_moments():
    matrix = Shear().draw(wide(200_000, 3, 1, 1, 1), seeded())
    off = matrix[:, ~torch.eye(3, dtype=torch.bool)]
    assert off.mean().item() == pytest.approx(0.0, abs=2e-3)
    assert off.var().item() == pytest.approx(1 / 3, abs=2e-3)
    assert torch.equal(matrix.diagonal(dim1=1, dim2=2), torch.ones(200_000, 3))
    stretched = (matrix @ torch.randn(200_000, 3, 1, generator=seeded(1))).square().sum((1, 2))
    assert (stretched / 3).mean().item() == pytest.approx(5 / 3, abs=0.03)
    assert (torch.linalg.det(matrix) < 0).float().mean().item() == pytest.approx(0.048, abs=0.002)


@pytest.mark.parametrize(
    ("axis", "degrees", "expected"),
    [
        (0, 90, (1, 3, -2)),
        (1, 90, (-3, 2, 1)),
        (2, 90, (2, -1, 3)),
        (0, 30, (1, 3.232051, 1.598076)),
        (1, 30, (-0.633975, 2, 3.098076)),
        (2, 30, (1.866025, 1.232051, 3)),
    ],
)
def test_rotation_golden_values(axis, degrees, expected):
    angles = torch.zeros(1, 3)
    angles[0, axis] = math.radians(degrees)
    x = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1, 1)
    torch.testing.assert_close(Rotate().augment(x, rotation(angles)).flatten(), torch.tensor(expected).float())


@given(angles=st.tuples(*[st.floats(-math.pi, math.pi)] * 3))
def test_rotations_compose_as_zyx_and_keep_lengths(angles):
    matrix = rotation(torch.tensor([angles]))[0]
    single = [rotation(torch.diag(torch.tensor(angles))[i : i + 1])[0] for i in range(3)]
    torch.testing.assert_close(matrix, single[2] @ single[1] @ single[0])
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(3), rtol=0, atol=1e-5)
    assert torch.linalg.det(matrix).item() == pytest.approx(1.0, abs=1e-5)


def test_rotation_draws_one_axis_and_a_one_sided_angle():
    matrix = Rotate(30.0).draw(wide(30_000, 3, 1, 1, 1), seeded())
    axis = (matrix.diagonal(dim1=1, dim2=2) == 1).int().argmax(1)
    assert torch.bincount(axis, minlength=3).div(30_000).tolist() == pytest.approx([1 / 3] * 3, abs=0.01)
    about_x = matrix[axis == 0]
    angle = torch.rad2deg(torch.atan2(about_x[:, 1, 2], about_x[:, 1, 1]))
    assert stats.kstest(angle.numpy(), stats.uniform(0, 30).cdf).pvalue > 0.01


def test_rotation_with_minor_axes():
    matrix = Rotate(0.0, 1.0).draw(wide(1000, 3, 1, 1, 1), seeded())
    angle = torch.rad2deg(torch.linalg.vector_norm(matrix - torch.eye(3), dim=(1, 2)) / math.sqrt(2))
    assert 1.0 < angle.max() < math.sqrt(2) + 1e-3
    symmetric = Rotate(10.0, 10.0, symmetric=True).draw(wide(10_000, 3, 1, 1, 1), seeded())
    about_y = torch.rad2deg(torch.asin(symmetric[:, 2, 0]))
    assert stats.kstest(about_y.numpy(), stats.uniform(-10, 20).cdf).pvalue > 0.01


def test_reverse_moves_padding_to_the_front_and_is_an_involution():
    x = torch.zeros(1, 3, 4, 25, 2)
    x[:, :, 0], x[:, :, 1] = 1.0, 2.0
    y = Reverse(1.0)(x, NTU25)
    assert y[0, 0, :, 0, 0].tolist() == [0.0, 0.0, 2.0, 1.0]
    assert torch.equal(Reverse(1.0)(y, NTU25), x)
    valid = Reverse(1.0, valid_only=True)(x, NTU25)
    assert valid[0, 0, :, 0, 0].tolist() == [2.0, 1.0, 0.0, 0.0]
    assert torch.equal(Reverse(1.0, valid_only=True)(valid, NTU25), x)


def test_reverse_rate():
    order = Reverse(0.5).draw(wide(20_000, 3, 2, 1, 1), seeded())
    assert (order[:, 0] == 1).float().mean().item() == pytest.approx(0.5, abs=0.01)


def test_centring_reverse_and_shear_commute(make_clips):
    clips = make_clips()
    x = Truncate(20)(clips)
    root, reverse, shear = Normalize("root"), Reverse(), Shear()
    order, matrix = reverse.draw(x, seeded()), shear.draw(x, seeded())
    first = shear.augment(reverse.augment(root(x, clips), order), matrix)
    last = root(reverse.augment(shear.augment(x, matrix), order), clips)
    torch.testing.assert_close(first, last, rtol=1e-5, atol=1e-5)


def test_noise_has_its_width_and_reaches_missing_bodies_only_when_asked(make_clips):
    x = Resize(64)(make_clips(frames=(9,), bodies=(1,)))
    noise = GaussianNoise(0.05)(x, NTU25, seeded()) - x
    assert stats.kstest(noise[..., 0].flatten().numpy(), stats.norm(0, 0.05).cdf).pvalue > 0.01
    assert not noise[..., 1].any()
    assert GaussianNoise(0.05, on_missing=True)(x, NTU25, seeded())[..., 1].std().item() == pytest.approx(0.05, rel=0.1)


def test_blur_golden_values():
    x, sigma = torch.ones(1, 3, 40, 5, 1), torch.ones(1)
    legacy = GaussianBlur(normalize_kernel=False).augment(x, sigma)
    assert legacy[0, 0, 20, 0, 0].item() == pytest.approx(2.506628, abs=1e-5)
    assert legacy[0, 0, 0, 0, 0].item() == pytest.approx(1.753314, abs=1e-5)
    assert GaussianBlur().augment(x, sigma)[0, 0, 7:-7].flatten().tolist() == pytest.approx([1.0] * 130, abs=1e-6)


@pytest.mark.parametrize(("sigma", "total"), [(0.1, 1.0), (0.5, 1.271), (1.0, 2.507), (2.0, 5.012)])
def test_blur_kernel_sums(sigma, total):
    x = torch.ones(1, 1, 31, 1, 1)
    y = GaussianBlur(normalize_kernel=False).augment(x, torch.tensor([sigma]))
    assert y[0, 0, 15, 0, 0].item() == pytest.approx(total, abs=1e-3)


def test_blur_leaks_into_missing_frames_only_when_asked():
    x = torch.zeros(1, 3, 30, 25, 1)
    x[:, :, :10] = 1.0
    sigma = torch.tensor([2.0])
    assert not GaussianBlur().augment(x, sigma)[:, :, 10:].any()
    leaked = GaussianBlur(on_missing=True).augment(x, sigma)
    assert leaked[:, :, :17].all()
    assert not leaked[:, :, 17:].any()


def test_blur_draws():
    sigma = GaussianBlur().draw(wide(20_000, 3, 1, 1, 1), seeded())
    assert (sigma > 0).float().mean().item() == pytest.approx(0.5, abs=0.01)
    assert stats.kstest(sigma[sigma > 0].numpy(), stats.uniform(0.1, 1.9).cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("joints", "frames", "bodies", "few", "many"),
    [(25, 150, 2, 50, 100), (25, 100, 1, 50, 100), (25, 99, 2, 20, 50), (15, 40, 2, 20, 40), (4, 10, 1, 10, 10)],
)
def test_joint_mask_hides_exactly_the_drawn_numbers(joints, frames, bodies, few, many):
    x = torch.ones(40, 3, frames, joints, bodies)
    params = JointMask().draw(x, seeded())
    y = JointMask().augment(x, params)
    hidden, moments = params.joints.sum(1), params.frames.sum(1)
    assert torch.equal((y == 0).flatten(1).sum(1), hidden * moments * 3 * bodies)
    assert hidden.min() >= min(5, joints)
    assert hidden.max() <= min(15, joints)
    assert moments.min() >= few
    assert moments.max() <= many


def test_joint_mask_sizes_and_members_are_uniform():
    params = JointMask().draw(wide(22_000, 3, 150, 25, 1), seeded())
    sizes = torch.bincount(params.joints.sum(1))[5:]
    assert len(sizes) == 11
    assert stats.chisquare(sizes.numpy()).pvalue > 0.01
    assert params.frames.sum(1).unique().tolist() == list(range(50, 101))
    assert params.joints.float().mean(0).numpy() == pytest.approx(np.full(25, 10 / 25), abs=0.02)
    fixed = JointMask((2, 2), (3, 3)).draw(wide(5, 3, 150, 25, 1), seeded())
    assert isinstance(fixed, Masked)
    assert fixed.joints.sum(1).tolist() == [2] * 5
    assert fixed.frames.sum(1).tolist() == [3] * 5


def test_channel_mask_hides_one_axis():
    x = torch.ones(3000, 3, 4, 5, 2)
    y = ChannelMask()(x, NTU25, seeded())
    hidden = (y == 0).all((2, 3, 4))
    assert torch.equal((y == 0).flatten(1).sum(1), torch.full((3000,), 4 * 5 * 2))
    assert stats.chisquare(hidden.sum(0).numpy()).pvalue > 0.01


@pytest.mark.parametrize("symmetric", [False, True])
def test_flat_clips_are_turned_in_their_plane(symmetric):
    x = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1, 1).repeat(4000, 1, 2, 3, 2)
    y = Rotate(30, 5, symmetric)(x, NTU25, seeded())
    torch.testing.assert_close(y.norm(dim=1), torch.ones(4000, 2, 3, 2))
    angle = torch.atan2(-y[:, 1], y[:, 0]).rad2deg()  # as published, the transpose of the right-handed matrix
    assert torch.equal(angle, angle[:, :1, :1, :1].expand_as(angle))  # one turn for a clip
    least = -30 if symmetric else 0
    assert stats.kstest(angle[:, 0, 0, 0].numpy(), stats.uniform(least, 30 - least).cdf).pvalue > 0.01


def test_flat_clips_are_sheared_in_their_plane():
    x = torch.eye(2).T[None, :, None, :, None].repeat(3000, 1, 1, 1, 1)  # joint v is the unit vector of axis v
    y = Shear(0.5)(x, NTU25, seeded())[:, :, 0, :, 0]
    assert torch.equal(y.diagonal(dim1=1, dim2=2), torch.ones(3000, 2))
    for entry in (y[:, 0, 1], y[:, 1, 0]):
        assert stats.kstest(entry.numpy(), stats.uniform(-0.5, 1).cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: Reverse(1.5), "Reverse: probability"),
        (lambda: Shear(-1.0), "Shear: amplitude"),
        (lambda: Rotate(-1.0), "Rotate: max_degrees"),
        (lambda: GaussianNoise(-1.0), "GaussianNoise: std"),
        (lambda: GaussianBlur(max_sigma=1.0, min_sigma=2.0), "GaussianBlur: min_sigma must not exceed"),
        (lambda: GaussianBlur(probability=-0.1), "GaussianBlur: probability"),
        (lambda: JointMask((6, 5)), "JointMask: joints"),
        (lambda: JointMask(frames=(-1, 5)), "JointMask: frames"),
    ],
)
def test_bad_arguments_are_named(build, match):
    with pytest.raises(ValueError, match=match):
        build()
