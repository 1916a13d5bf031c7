"""The training view of NW-UCLA against its published steps, one clip after the other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from skelcl.clips import Clips
from skelcl.errors import InputError
from skelcl.skeleton import KINECT20
from skelcl.transforms import EvenFrames, Normalize, RandomFrames, RotateMinMax, Stream, View, present


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def degrees(matrix: np.ndarray) -> np.ndarray:
    """The angles about x and y, (N, 2), that make matrices (N, 3, 3) of (R_y·R_x)ᵀ."""
    sine, cosine = matrix[:, [2, 0], [1, 2]], matrix[:, [1, 0], [1, 0]]
    return np.degrees(np.arctan2(sine, cosine))


def slow(clip: np.ndarray, about_x: float, about_y: float, scale: float, source: np.ndarray) -> np.ndarray:
    """(L, V, 3) as the loader of CTR-GCN makes it: centre, turn and scale, stretch, sample; float64 (3, T, V)."""
    a, b = np.radians(about_x), np.radians(about_y)
    rx = np.array([[1, 0, 0], [0, np.cos(a), np.sin(a)], [0, -np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])
    turned = (clip - clip[0, 1]).reshape(-1, 3) @ (ry @ (rx * scale))
    low, high = turned.min(0), turned.max(0)
    stretched = ((turned - low) / (high - low) * 2 - 1).reshape(clip.shape)
    return stretched[source].transpose(2, 0, 1)


@pytest.fixture
def clips(make_clips) -> Clips:
    return make_clips(frames=(2, 7, 40, 90), bodies=(1, 1, 1, 1), num_persons=1, skeleton=KINECT20)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_the_training_view_equals_the_published_loader(clips, scale):
    view = View(RandomFrames(52), RotateMinMax(60))
    x = view(clips, seeded(3))
    g = seeded(3)
    source = RandomFrames(52).draw(clips, g).numpy()
    angles = degrees(RotateMinMax(60).draw(clips, g).double().numpy()).round()
    for n in range(len(clips)):
        start, length = int(clips.offsets[n]), int(clips.frames[n])
        clip = clips.joints[start : start + length].double().numpy()
        expected = slow(clip, *angles[n], scale, source[n])
        np.testing.assert_allclose(x[n, ..., 0].numpy(), expected, atol=1e-5)


def test_the_test_view_equals_the_published_loader(clips):
    x = View(EvenFrames(52), Normalize("ucla_minmax"))(clips)
    for n in range(len(clips)):
        start, length = int(clips.offsets[n]), int(clips.frames[n])
        clip = clips.joints[start : start + length].double().numpy()
        source = np.floor(np.linspace(0, length - 1, 52)).astype(int)
        np.testing.assert_allclose(x[n, ..., 0].numpy(), slow(clip, 0, 0, 1, source), atol=1e-5)


def test_angles_are_whole_degrees_about_x_and_y_over_the_whole_range(make_clips):
    clips = make_clips()[torch.zeros(20_000, dtype=torch.int64)]
    matrix = RotateMinMax(60).draw(clips, seeded()).double()
    angles = degrees(matrix.numpy())
    np.testing.assert_allclose(angles, angles.round(), atol=1e-3)
    for axis in (0, 1):
        assert set(angles[:, axis].round().astype(int)) == set(range(-60, 61))
        assert abs(angles[:, axis].mean()) < 1
        assert angles[:, axis].std() == pytest.approx(np.sqrt((121**2 - 1) / 12), rel=0.02)
    assert abs(np.corrcoef(angles.T)[0, 1]) < 0.03
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).double().expand_as(matrix), rtol=0, atol=1e-6)
    assert torch.equal(matrix[:, 0, 1], torch.zeros(20_000).double()), "no turn about z"


def test_extremes_are_those_of_all_frames_and_shown_bodies(make_clips):
    clips = make_clips(frames=(31, 8), bodies=(2, 3), num_persons=2)
    everything = View(EvenFrames(31), RotateMinMax())(clips, seeded())
    for n in range(2):
        shown = everything[n]
        torch.testing.assert_close(shown.amin((1, 2, 3)), torch.full((3,), -1.0), rtol=0, atol=1e-5)
        torch.testing.assert_close(shown.amax((1, 2, 3)), torch.full((3,), 1.0), rtol=0, atol=1e-5)
        few = View(EvenFrames(2), RotateMinMax())(clips, seeded())[n]
        torch.testing.assert_close(few, shown[:, [0, 30]], rtol=0, atol=1e-5)


def test_zero_degrees_is_the_plain_stretch_and_missing_frames_stay_missing(make_clips):
    clips = make_clips(gaps=True, num_persons=3)
    x = EvenFrames(20)(clips)
    torch.testing.assert_close(
        RotateMinMax(0)(x, clips, seeded()), Normalize("ucla_minmax")(x, clips), rtol=1e-6, atol=1e-6
    )
    y = RotateMinMax()(x, clips, seeded())
    assert y.isfinite().all()
    assert torch.equal(present(y), present(x))
    assert y.permute(0, 4, 1, 2, 3).is_contiguous()


def test_a_shift_changes_nothing_and_other_recipes_are_refused(clips):
    view = View(EvenFrames(9), RotateMinMax(), stream=Stream("bone"))
    moved = replace(clips, joints=clips.joints + torch.tensor([0.5, -1.0, 2.0]), recipe="sgn")
    torch.testing.assert_close(view(moved, seeded()), view(clips, seeded()), rtol=0, atol=1e-5)
    with pytest.raises(InputError, match=r"RotateMinMax: .* recipe 'ucla_minmax'.*raw files"):
        view(replace(clips, recipe="ucla_minmax"))


def test_bad_arguments_are_named(make_clips):
    with pytest.raises(ValueError, match="RotateMinMax: max_degrees"):
        RotateMinMax(-1)
    clips = make_clips(channels=2)
    with pytest.raises(InputError, match=r"RotateMinMax turns clips about x and y, .* step Rotate"):
        View(EvenFrames(3), RotateMinMax())(clips)
