from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from skelcl.clips import Clips
from skelcl.skeleton import NTU25
from skelcl.transforms import CropResize, Resize, Sampler, Truncate, planar, present


def body_rows(clips: Clips, n: int, m: int) -> np.ndarray | None:
    """One stored body, (T, V, C) float64."""
    frames = int(clips.frames[n])
    if m >= int(clips.bodies[n]):
        return None
    start = int(clips.offsets[n]) + m * frames
    return clips.joints[start : start + frames].double().numpy()


def slow_resize(clips: Clips, starts: list[int], lengths: list[int], frames: int) -> np.ndarray:
    """One output frame after the other, float64."""
    x = np.zeros((len(clips), clips.joints.shape[2], frames, clips.joints.shape[1], clips.num_persons))
    for n in range(len(clips)):
        for m in range(clips.num_persons):
            body = body_rows(clips, n, m)
            if body is None:
                continue
            body = body[starts[n] : starts[n] + lengths[n]]
            seen = ~np.isnan(body).any(axis=(1, 2))
            for i in range(frames):
                u = min(max((i + 0.5) * lengths[n] / frames - 0.5, 0.0), lengths[n] - 1.0)
                low = int(np.floor(u))
                high = min(low + 1, lengths[n] - 1)
                parts = [(low, 1 - (u - low)), (high, u - low)]
                if not seen[int(np.ceil(u - 0.5))]:
                    continue
                parts = [(frame, weight) for frame, weight in parts if seen[frame]]
                total = sum(weight for _, weight in parts)
                value = sum(weight * body[frame] for frame, weight in parts if weight) / total
                x[n, :, i, :, m] = value.T
    return x


def ramp(length: int) -> Clips:
    """One clip whose coordinates are the frame number."""
    joints = torch.arange(float(length))[:, None, None].expand(-1, 25, 3).contiguous()
    zero = torch.zeros(1, dtype=torch.int64)
    return Clips(joints, zero, torch.tensor([length]), torch.ones_like(zero), zero, zero, zero, NTU25)


def test_truncate_takes_the_first_frames_and_pads_with_zeros(make_clips):
    clips = make_clips()
    x = Truncate(40)(clips)
    expected = np.zeros((5, 3, 40, 25, 2), np.float32)
    for n in range(5):
        for m in range(2):
            body = body_rows(clips, n, m)
            if body is not None:
                expected[n, :, : len(body), :, m] = body[:40].transpose(2, 0, 1)
    assert np.array_equal(x.numpy(), expected)


def test_truncate_leaves_missing_frames_zero(make_clips):
    clips = make_clips(gaps=True)
    x = Truncate(90)(clips)
    for n in range(5):
        for m in range(2):
            body = body_rows(clips, n, m)
            if body is not None:
                np.testing.assert_array_equal(x[n, :, : len(body), :, m], np.nan_to_num(body).transpose(2, 0, 1))


def test_half_pixel_golden_values():
    assert Resize(4)(ramp(2))[0, 0, :, 0, 0].tolist() == [0.0, 0.25, 0.75, 1.0]
    assert Resize(2)(ramp(4))[0, 0, :, 0, 0].tolist() == [0.5, 2.5]
    assert Resize(3)(ramp(5))[0, 0, :, 0, 0].tolist() == pytest.approx([1 / 3, 2.0, 11 / 3])
    assert Resize(3)(ramp(1))[0, 0, :, 0, 0].tolist() == [0.0, 0.0, 0.0]


@given(length=st.integers(1, 200), frames=st.integers(1, 130))
def test_resize_equals_interpolate(length, frames):
    clips = ramp(length)
    clips.joints.copy_(torch.rand(clips.joints.shape, generator=torch.Generator().manual_seed(length)))
    expected = F.interpolate(clips.joints.double().flatten(1).T[None], frames, mode="linear", align_corners=False)
    x = Resize(frames)(clips)[0, ..., 0].permute(2, 0, 1).flatten(0, 1)
    torch.testing.assert_close(x.double(), expected.view(25, 3, frames).flatten(0, 1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("persons", [1, 2, 4])
def test_resize_equals_slow_twin(make_clips, gaps, persons):
    clips = make_clips(gaps=gaps, num_persons=persons)
    lengths = clips.frames.tolist()
    for frames in (1, 13, 64):
        x = Resize(frames)(clips)
        np.testing.assert_allclose(x.numpy(), slow_resize(clips, [0] * 5, lengths, frames), atol=1e-5)


def test_centred_crop_cuts_the_published_slice(make_clips):
    clips = make_clips()
    cuts = [int((1 - 0.95) * length / 2) for length in clips.frames.tolist()]
    assert cuts == [0, 0, 0, 1, 2]
    lengths = [length - 2 * cut for length, cut in zip(clips.frames.tolist(), cuts, strict=True)]
    x = Resize(30, crop=0.95)(clips)
    np.testing.assert_allclose(x.numpy(), slow_resize(clips, cuts, lengths, 30), atol=1e-5)


@pytest.mark.parametrize("gaps", [False, True])
def test_crop_resize_equals_slow_twin(make_clips, gaps):
    clips = make_clips(gaps=gaps)
    sampler = CropResize(24, crop=(0.3, 0.9), min_frames=5)
    start, length = sampler.draw(clips, torch.Generator().manual_seed(1))
    x = sampler(clips, torch.Generator().manual_seed(1))
    np.testing.assert_allclose(x.numpy(), slow_resize(clips, start.tolist(), length.tolist(), 24), atol=1e-5)


def test_crop_lengths_and_starts_cover_their_range():
    clips = ramp(100)[torch.zeros(20_000, dtype=torch.int64)]
    start, length = CropResize(64, crop=(0.5, 1.0), min_frames=64).draw(clips, torch.Generator().manual_seed(0))
    assert (start >= 0).all()
    assert (start + length <= 100).all()
    # p < 0.65 is a share of 0.3 and lands on the minimum of 64; the others are uniform.
    assert length.min() == 64
    assert length.max() == 99
    assert (length == 64).float().mean().item() == pytest.approx(0.30, abs=0.015)
    at_minimum = start[length == 64]
    assert torch.bincount(at_minimum, minlength=37).min() > 0.6 * len(at_minimum) / 37
    assert at_minimum.max() == 36


def test_clips_shorter_than_the_minimum_are_taken_whole(make_clips):
    clips = make_clips()
    start, length = CropResize(64, crop=(0.1, 0.5), min_frames=200).draw(clips)
    assert start.tolist() == [0] * 5
    assert torch.equal(length, clips.frames)


def test_the_whole_crop_equals_resize(make_clips):
    clips = make_clips(gaps=True)
    assert torch.equal(CropResize(64, crop=(1.0, 1.0))(clips), Resize(64)(clips))


def test_crops_are_independent_per_sample_and_repeat_with_the_generator(make_clips):
    clips = make_clips()[torch.full((64,), 4)]
    sampler = CropResize(16, min_frames=1)
    x = sampler(clips, torch.Generator().manual_seed(3))
    assert torch.equal(x, sampler(clips, torch.Generator().manual_seed(3)))
    assert not torch.equal(x, sampler(clips, torch.Generator().manual_seed(4)))
    assert len(torch.unique(x.flatten(1), dim=0)) > 50


@pytest.mark.parametrize("sampler", [Truncate(20), CropResize(20, min_frames=1), Resize(20)])
def test_absent_bodies_are_exact_zeros_and_gaps_give_no_nan(make_clips, sampler: Sampler):
    clips = make_clips(gaps=True, num_persons=3)
    x = sampler(clips)
    assert x.shape == (5, 3, 20, 25, 3)
    assert x.isfinite().all()
    seen = present(x)
    for n, bodies in enumerate(clips.bodies.tolist()):
        assert not seen[n, :, bodies:].any()


def test_gap_of_a_late_first_frame_stays_a_gap(still_life):
    x = Truncate(8)(still_life)
    assert present(x)[1, :, 0].tolist() == [False, False] + [True] * 6
    assert x.isfinite().all()


def test_any_number_of_channels(make_clips):
    assert Resize(5)(make_clips(channels=2)).shape == (5, 2, 5, 25, 2)


def test_planar_keeps_values(make_clips):
    x = Resize(6)(make_clips())
    y = planar(x)
    assert torch.equal(x, y)
    assert y.permute(0, 4, 1, 2, 3).is_contiguous()


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: Truncate(0), "Truncate: frames"),
        (lambda: CropResize(64, crop=(0.0, 1.0)), "CropResize: crop"),
        (lambda: CropResize(64, crop=(0.9, 0.5)), "CropResize: crop"),
        (lambda: CropResize(64, min_frames=0), "CropResize: min_frames"),
        (lambda: Resize(64, crop=1.5), "Resize: crop"),
        (lambda: Resize(64, crop=float("nan")), "Resize: crop"),
    ],
)
def test_bad_arguments_are_named(build, match):
    with pytest.raises(ValueError, match=match):
        build()
