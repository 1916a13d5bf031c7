from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from skelcl.clips import Clips
from skelcl.skeleton import NTU25
from skelcl.transforms import (
    CropResize,
    EvenFrames,
    RandomFrames,
    ReflectCrop,
    Resize,
    Sampler,
    Truncate,
    planar,
    present,
)


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


def test_published_lengths_of_the_test_crop():
    for length, kept in {20: 20, 39: 39, 40: 38, 64: 62, 100: 96, 300: 286}.items():
        first, *_, last = Resize(kept, crop=0.95)(ramp(length))[0, 0, :, 0, 0].tolist()
        assert (first, last) == ((length - kept) // 2, (length - kept) // 2 + kept - 1)


def test_published_lengths_of_the_training_crop():
    """min(max(⌊p·L⌋, 64), L) for the p that the sampler drew, and a start that leaves the crop inside the clip."""
    lengths = [1, 63, 64, 65, 100, 127, 128, 200, 300] * 200
    clips = ramp(300)[torch.zeros(len(lengths), dtype=torch.int64)]
    clips.frames.copy_(torch.tensor(lengths))
    start, kept = CropResize(64).draw(clips, torch.Generator().manual_seed(0))
    share = torch.rand(2, len(lengths), generator=torch.Generator().manual_seed(0))[0]
    for length, p, first, count in zip(lengths, share.tolist(), start.tolist(), kept.tolist(), strict=True):
        assert count == min(max(int((0.5 + 0.5 * p) * length), 64), length)
        assert 0 <= first <= length - count


def slow_pick(clips: Clips, source: np.ndarray) -> np.ndarray:
    """The frames ``source`` (N, T), one after the other."""
    x = np.zeros((len(clips), 3, source.shape[1], 25, clips.num_persons), np.float32)
    for n in range(len(clips)):
        for m in range(clips.num_persons):
            body = body_rows(clips, n, m)
            if body is not None:
                for t, frame in enumerate(source[n]):
                    x[n, :, t, :, m] = np.nan_to_num(body[frame]).T
    return x


@pytest.mark.parametrize("gaps", [False, True])
def test_even_frames_equal_slow_twin(make_clips, gaps):
    clips = make_clips(gaps=gaps)
    for frames in (1, 2, 52):
        source = np.stack(
            [np.floor(np.linspace(0, length - 1, frames)).astype(int) for length in clips.frames.tolist()]
        )
        assert np.array_equal(EvenFrames(frames)(clips).numpy(), slow_pick(clips, source))


@given(length=st.integers(1, 400), frames=st.integers(1, 130))
def test_even_frames_round_as_numpy_does(length, frames):
    expected = np.floor(np.linspace(0, length - 1, frames)).tolist()
    assert EvenFrames(frames)(ramp(length))[0, 0, :, 0, 0].tolist() == expected


@pytest.mark.parametrize("gaps", [False, True])
def test_random_frames_show_what_they_drew(make_clips, gaps):
    clips = make_clips(gaps=gaps)
    sampler = RandomFrames(52)
    source = sampler.draw(clips, torch.Generator().manual_seed(4)).numpy()
    assert np.array_equal(sampler(clips, torch.Generator().manual_seed(4)).numpy(), slow_pick(clips, source))
    assert (np.diff(source, axis=1) >= 0).all()
    assert (source >= 0).all()
    assert (source < clips.frames.numpy()[:, None]).all()


def test_random_frames_are_drawn_without_replacement():
    """No frame more often than it has copies; all copies of all frames when that many are asked for."""
    clips = ramp(3)[torch.zeros(5, dtype=torch.int64)]
    counts = [torch.bincount(row, minlength=3) for row in RandomFrames(4, copies=4).draw(clips)]
    assert max(int(count.max()) for count in counts) <= 4
    one = RandomFrames(100).draw(ramp(1))
    assert torch.equal(one, torch.zeros(1, 100, dtype=torch.int64))


def test_random_frames_are_distributed_as_a_sorted_choice_without_replacement():
    """All ways to take 2 of 2 copies of 3 frames, against their number among the 15 subsets of 6."""
    drawn = RandomFrames(2, copies=2).draw(ramp(3)[torch.zeros(30_000, dtype=torch.int64)], seed(0))
    share = torch.bincount(drawn[:, 0] * 3 + drawn[:, 1], minlength=9) / len(drawn)
    expected = torch.tensor([1, 4, 4, 0, 1, 4, 0, 0, 1]) / 15
    torch.testing.assert_close(share, expected, rtol=0, atol=0.01)
    assert torch.equal(share == 0, expected == 0)


def test_random_frames_count_like_a_hypergeometric_variable():
    """52 of 100 copies of 20 frames: mean 2.6 and variance 2.6·0.95·(1948/1999) of how often a frame comes."""
    drawn = RandomFrames(52).draw(ramp(20)[torch.zeros(4000, dtype=torch.int64)], seed(1))
    for frame in (0, 7, 19):
        count = (drawn == frame).sum(1).double()
        assert count.mean().item() == pytest.approx(2.6, abs=0.1)
        assert count.var().item() == pytest.approx(2.6 * 0.95 * 1948 / 1999, abs=0.2)


def test_stretches_of_equal_length_begin_where_integers_say():
    """The products are whole numbers divided: in floating point frame 25 of 58 → 50 would be 28."""
    published = {(7, 5): [0, 1, 2, 4, 5], (3, 5): [0, 0, 1, 1, 2], (75, 50): [0, 1, 3, 4, 6, 7], (1, 4): [0] * 4}
    for (length, frames), expected in published.items():
        drawn = EvenFrames(frames, endpoint=False).draw(ramp(length))[0].tolist()
        assert drawn[: len(expected)] == expected
        assert EvenFrames(frames, endpoint=False)(ramp(length))[0, 0, :, 0, 0].tolist() == drawn
    assert EvenFrames(50, endpoint=False).draw(ramp(58))[0, 25] == 29
    for length in range(1, 301):
        expected = [i * length // 50 for i in range(50)]
        assert EvenFrames(50, endpoint=False).draw(ramp(length))[0].tolist() == expected


@given(length=st.integers(1, 120), frames=st.integers(1, 60), number=st.integers(0, 1000))
def test_as_few_copies_as_will_do(length, frames, number):
    """As many draws as the published pool of ⌈T/L⌉ of each frame has room for, in order."""
    clips = ramp(length)
    drawn = RandomFrames(frames, copies=None).draw(clips, seed(number))[0]
    assert drawn.shape == (frames,)
    assert (drawn.diff() >= 0).all()
    assert 0 <= drawn.min() <= drawn.max() < length
    count = torch.bincount(drawn, minlength=length)
    assert count.max() <= -(-frames // length)
    if length == frames:
        assert drawn.tolist() == list(range(length))
    assert RandomFrames(frames, copies=None)(clips, seed(number))[0, 0, :, 0, 0].tolist() == drawn.tolist()


def test_all_draws_from_few_copies_are_equally_likely():
    """Of 3 frames, 5 are drawn from 2 copies of each: one frame comes once, each as often; of 4 frames, any 2."""
    drawn = RandomFrames(5, copies=None).draw(ramp(3)[torch.zeros(6000, dtype=torch.int64)], seed(1))
    count = torch.stack([(drawn == frame).sum(1) for frame in range(3)], 1)
    assert (count.sort(1).values == torch.tensor([1, 2, 2])).all()
    assert ((count == 1).float().mean(0) - 1 / 3).abs().max() < 0.02
    pairs = RandomFrames(2, copies=None).draw(ramp(4)[torch.zeros(6000, dtype=torch.int64)], seed(2))
    number = torch.bincount(4 * pairs[:, 0] + pairs[:, 1], minlength=16).view(4, 4) / 6000
    expected = torch.ones(4, 4).triu(1) / 6
    torch.testing.assert_close(number, expected, rtol=0, atol=0.02)


def test_clips_of_any_length_are_drawn_from_at_once(make_clips):
    clips = make_clips(frames=(1, 3, 20, 50, 90))
    drawn = RandomFrames(20, copies=None).draw(clips, seed(0))
    assert drawn[2].tolist() == list(range(20))
    assert drawn[0].tolist() == [0] * 20
    assert torch.bincount(drawn[1]).sort().values.tolist() == [6, 7, 7]
    assert all(len(set(row.tolist())) == 20 for row in drawn[2:])


def seed(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


@pytest.mark.parametrize(
    "sampler",
    [
        Truncate(20),
        CropResize(20, min_frames=1),
        Resize(20),
        EvenFrames(20),
        EvenFrames(20, endpoint=False),
        RandomFrames(20),
        RandomFrames(20, copies=None),
    ],
)
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


def test_who_is_present_does_not_depend_on_the_order_in_memory(make_clips):
    x = Resize(20)(make_clips(gaps=True, num_persons=3))
    expected = (x != 0).any(3).any(1)
    assert expected.any()
    assert not expected.all()
    assert torch.equal(present(x), expected)
    assert torch.equal(present(planar(x)), expected)


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
        (lambda: RandomFrames(52, copies=51), "RandomFrames: copies"),
        (lambda: EvenFrames(0), "EvenFrames: frames"),
        (lambda: Resize(64, crop=1.5), "Resize: crop"),
        (lambda: Resize(64, crop=float("nan")), "Resize: crop"),
    ],
)
def test_bad_arguments_are_named(build, match):
    with pytest.raises(ValueError, match=match):
        build()


@pytest.mark.parametrize(("frames", "ratio"), [(50, 6), (12, 4), (5, 1), (5, 6)])
def test_reflect_crop_is_a_window_of_the_padded_clip(make_clips, frames, ratio):
    """The published code pads by mirroring, edges included, and cuts T frames out."""
    clips = make_clips(gaps=True)
    sampler = ReflectCrop(frames, ratio)
    padding = frames // ratio
    shift = sampler.draw(clips, torch.Generator().manual_seed(3))
    x = sampler(clips, torch.Generator().manual_seed(3))
    padded = np.pad(Resize(frames)(clips).numpy(), ((0, 0), (0, 0), (padding, padding), (0, 0), (0, 0)), "symmetric")
    for n, start in enumerate((padding + shift).tolist()):
        np.testing.assert_array_equal(x[n], padded[n, :, start : start + frames])


def test_reflect_crop_draws_every_shift_alike(make_clips):
    clips = make_clips()[torch.zeros(8000, dtype=torch.int64)]
    shift = ReflectCrop(12, 4).draw(clips, torch.Generator().manual_seed(0))
    counts = torch.bincount(shift + 3, minlength=7)
    assert counts.shape == (7,)
    assert ((counts - 8000 / 7).abs() < 5 * (8000 / 7) ** 0.5).all()
    with pytest.raises(ValueError, match="ratio must be at least 1"):
        ReflectCrop(12, 0)
