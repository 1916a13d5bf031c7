"""The views of SCD-Net as a whole: crops, the chain of augmentations, and streams on either side of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skelcl.clips import Clips
from skelcl.errors import InputError
from skelcl.skeleton import COCO17, KINECT20, NTU25
from skelcl.transforms import (
    CropResize,
    CubeMask,
    Flip,
    GaussianNoise,
    Normalize,
    Resize,
    Rotate,
    Shear,
    Stream,
    StructureMask,
    View,
    rotation,
    transform,
)

CROP = CropResize(64, (0.1, 1.0), 64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def chain(probability: float = 0.5) -> list[torch.nn.Module]:
    return [
        Rotate(30.0, 1.0, probability=probability),
        Shear(1.0, probability=probability),
        Flip(probability),
        StructureMask(probability=probability),
        CubeMask(probability=probability),
    ]


def ramps(*frames: int) -> Clips:
    """Clips whose every coordinate is the number of its frame."""
    length = torch.tensor(frames)
    joints = torch.cat([torch.arange(float(n)) for n in frames])[:, None, None].expand(-1, 25, 3).contiguous()
    number = torch.arange(len(frames))
    return Clips(joints, length.cumsum(0) - length, length, 0 * number + 1, 0 * number, number, number, NTU25)


@pytest.mark.parametrize(
    ("frames", "start", "length"),
    [(20, 0, 20), (40, 1, 38), (60, 1, 58), (64, 1, 62), (100, 2, 96), (128, 3, 122), (300, 7, 286)],
)
def test_the_middle_of_a_clip(frames, start, length):
    """The published float64 rounding: ⌊(1 − 0.95)·n/2⌋ frames go at either end."""
    x = Resize(64, 0.95)(ramps(frames))[0, 0, :, 0, 0].double().numpy()
    u = np.clip((np.arange(64) + 0.5) * length / 64 - 0.5, 0, length - 1)
    np.testing.assert_allclose(x, start + u, atol=1e-4)


def test_the_middle_of_a_clip_by_numbers():
    long, short = Resize(64, 0.95)(ramps(100, 60))[:, 0, :, 0, 0]
    assert [*long[:4].tolist(), *long[-2:].tolist()] == [2.25, 3.75, 5.25, 6.75, 95.25, 96.75]
    assert short[[0, 1, 2, 3, -2, -1]].tolist() == [1, 1.859375, 2.765625, 3.671875, 57.140625, 58]


@pytest.mark.parametrize(
    ("frames", "head", "tail"),
    [
        (128, [0.5, 2.5, 4.5], 126.5),
        (96, [0.25, 1.75, 3.25], 94.75),
        (64, [0, 1, 2], 63),
        (32, [0, 0.25, 0.75, 1.25], 31),
    ],
)
def test_interpolation_of_a_ramp(frames, head, tail):
    x = Resize(64)(ramps(frames))[0, 0, :, 0, 0]
    assert x[: len(head)].tolist() == head
    assert x[-1] == tail
    assert (Resize(64)(ramps(1)) == 0).all()


def test_lengths_of_random_crops():
    clips = ramps(50, 64, 100, 300)[torch.arange(4).repeat_interleave(20_000)]
    start, length = (value.view(4, -1) for value in CROP.draw(clips, seeded()))
    assert length[0].unique().tolist() == [50]
    assert length[1].unique().tolist() == [64]
    assert (length[2].min(), length[2].max()) == (64, 99)  # 100 has probability zero
    assert (length[2] == 64).float().mean().item() == pytest.approx(0.55 / 0.9, abs=0.011)
    assert (length[3].min(), length[3].max()) == (64, 299)
    # ⌊300 s⌋ ≥ 150 where s ≥ 0.5.
    assert (length[3] >= 150).float().mean().item() == pytest.approx(0.5 / 0.9, abs=0.011)
    assert (start >= 0).all()
    assert (start + length <= torch.tensor([50, 64, 100, 300])[:, None]).all()


@pytest.mark.parametrize(
    ("axis", "joint", "expected"),
    [(2, (1, 0, 0), (0.8660254, -0.5, 0)), (0, (0, 1, 0), (0, 0.8660254, -0.5)), (1, (0, 0, 1), (-0.5, 0, 0.8660254))],
)
def test_rotation_by_thirty_degrees(axis, joint, expected):
    angles = torch.zeros(1, 3)
    angles[0, axis] = torch.pi / 6
    matrix = rotation(angles)[0]
    assert (matrix @ torch.tensor(joint, dtype=torch.float32)).tolist() == pytest.approx(expected, abs=1e-7)
    assert torch.linalg.det(matrix).item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("symmetric", [False, True])
def test_angles_have_one_main_axis(symmetric):
    matrix = Rotate(30.0, 1.0, symmetric).draw(torch.ones(1, 3, 1, 1, 1).expand(30_000, 3, 1, 1, 1), seeded()).double()
    # R_z·R_y·R_x taken apart.
    angles = torch.stack(
        (
            torch.atan2(-matrix[:, 2, 1], matrix[:, 2, 2]),
            torch.asin(matrix[:, 2, 0]),
            torch.atan2(-matrix[:, 1, 0], matrix[:, 0, 0]),
        ),
        1,
    ).rad2deg()
    large = (angles.abs() > 1.001).sum(1)
    assert large.max() == 1
    assert (large == 1).float().mean().item() == pytest.approx(29 / 30, abs=0.005)
    assert angles.max().item() == pytest.approx(30, abs=0.1)
    assert angles.min().item() == pytest.approx(-30 if symmetric else 0, abs=0.1)


@pytest.mark.parametrize("skeleton", [NTU25, KINECT20, COCO17], ids=lambda skeleton: skeleton.name)
def test_a_flip_is_an_involution_and_keeps_the_bones(skeleton):
    x = torch.randn(6, 3, 4, skeleton.num_joints, 2)
    flip = Flip(1.0)
    once = flip(x, skeleton)
    assert not torch.equal(once, x)
    assert torch.equal(flip(once, skeleton), x)
    order = list(skeleton.mirror)
    assert torch.equal(once, x[:, :, :, order])
    if skeleton is not COCO17:
        adjacency = skeleton.adjacency()
        assert torch.equal(adjacency[order][:, order], adjacency)


def test_the_flip_of_the_kinect_is_the_published_one():
    published = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22]
    x = torch.arange(25.0)[None, None, None, :, None].expand(1, 3, 2, 25, 2)
    assert Flip(1.0)(x, NTU25)[0, 0, 0, :, 0].tolist() == published


@pytest.mark.parametrize(("axis", "number"), [("x", 0), ("z", 2)])
def test_a_mirror_image_changes_one_sign_too(axis, number):
    x = torch.randn(40, 3, 4, 25, 2)
    coins = Flip().draw(x, seeded())
    y = Flip(mirror_axis=axis).augment(x, coins, NTU25)
    sign = torch.ones(3)
    sign[number] = -1
    mirrored = x[:, :, :, list(NTU25.mirror)] * sign[:, None, None, None]
    assert torch.equal(y[coins], mirrored[coins])
    assert torch.equal(y[~coins], x[~coins])
    assert 5 < coins.sum() < 35
    with pytest.raises(InputError, match="no axis z"):
        Flip(mirror_axis="z")(x[:, :2], NTU25)


def test_flips_refuse_nonsense():
    with pytest.raises(ValueError, match="Flip: probability"):
        Flip(1.1)
    with pytest.raises(ValueError, match="Flip: mirror_axis"):
        Flip(mirror_axis="up")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Shear: probability"):
        Shear(probability=-0.1)


@pytest.mark.parametrize("step", [Rotate(30.0, 1.0, probability=0.5), Shear(probability=0.5)], ids=["rotate", "shear"])
def test_half_of_the_clips_get_a_matrix(step):
    matrix = step.draw(torch.ones(1, 3, 1, 1, 1).expand(20_000, 3, 1, 1, 1), seeded())
    same = (matrix == torch.eye(3)).all((1, 2))
    assert same.float().mean().item() == pytest.approx(0.5, abs=0.012)
    assert len(matrix[~same].unique(dim=0)) > 9_000


def test_the_view_equals_its_slow_twin(make_clips):
    """Clip by clip in float64: crop, resize, normalise, R_z·R_y·R_x, swap, shear in the published order, then masks."""
    clips = make_clips(frames=(20, 64, 150, 90, 300, 33), bodies=(1, 2, 2, 1, 2, 1))
    steps = chain()
    view = View(CROP, Normalize("agcn"), steps)
    y = view(clips, seeded(5))
    g = seeded(5)
    crop = CROP.draw(clips, g)
    rotate, shear, flip, structure, cube = steps
    turned = rotate.draw(y, g).double().numpy()
    sheared = shear.draw(y, g).double().numpy()
    flipped = flip.draw(y, g)
    joints = structure.draw(y, NTU25, g)
    frames = cube.draw(y, g)
    assert any(flipped)
    assert joints.any()
    assert frames.any()
    for n, (start, length) in enumerate(zip(*(part.tolist() for part in crop), strict=True)):
        one = clips[torch.tensor([n])]
        raw = Normalize("agcn")(one.at(torch.arange(int(clips.frames[n]))[None]).permute(0, 4, 2, 3, 1), one)
        x = raw[0].double().numpy()[:, start : start + length]
        u = np.maximum((np.arange(64) + 0.5) * length / 64 - 0.5, 0)
        low = np.floor(u).astype(int)
        high = np.minimum(low + 1, length - 1)
        out = np.zeros((3, 64, 25, 2))
        for t in range(64):
            out[:, t] = (1 - (u[t] - low[t])) * x[:, low[t]] + (u[t] - low[t]) * x[:, high[t]]
        for t, v, m in np.ndindex(64, 25, 2):
            out[:, t, v, m] = turned[n] @ out[:, t, v, m]
        if flipped[n]:
            out = out[:, :, list(NTU25.mirror)]
        for t, v, m in np.ndindex(64, 25, 2):
            out[:, t, v, m] = 0 if joints[n, v] or frames[n, t] else sheared[n] @ out[:, t, v, m]
        np.testing.assert_allclose(y[n].numpy(), out, rtol=1e-4, atol=2e-5)


def test_matrices_meet_in_one_product(make_clips, monkeypatch):
    clips = make_clips()
    x = Resize(8)(clips)
    steps = [Rotate(30.0, 1.0), Shear(), Flip(1.0), Rotate(), Rotate(), Shear()]
    expected, g = x, seeded(1)
    for step in steps:
        expected = step(expected, NTU25, g)
    calls = []
    monkeypatch.setattr("skelcl.transforms.view.transform", lambda *args: calls.append(1) or transform(*args))
    y = View(Resize(8), steps=steps)(clips, seeded(1))
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)
    assert len(calls) == 2


@pytest.mark.parametrize("kind", ["bone", "motion", "bone_motion"])
def test_a_stream_may_come_first(make_clips, kind):
    """Linear augmentations do not care, masks do."""
    clips = make_clips(gaps=True)
    linear = chain()[:3]
    first, last = (View(CROP, Normalize("agcn"), linear, Stream(kind), stream_first=first) for first in (True, False))
    torch.testing.assert_close(first(clips, seeded(2)), last(clips, seeded(2)), rtol=1e-4, atol=1e-4)
    masked = View(CROP, Normalize("agcn"), chain(1.0), Stream(kind), stream_first=True)
    assert ((masked(clips, seeded(2)) == 0).all((1, 2, 4)).sum(1) >= 8).all(), "what is masked is zero in the stream"
    noise = View(CROP, None, [GaussianNoise()], Stream("bone"), stream_first=True)
    assert noise(clips, seeded())[0, ..., 0].select(2, NTU25.root).any(), "the noise came after the bones"
