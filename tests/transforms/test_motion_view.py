"""Views of coordinates and of motion at the clips' own frame rate, of the same frames or of others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from skelcl.clips import Clips
from skelcl.skeleton import NTU25
from skelcl.transforms import (
    CropResize,
    EvenFrames,
    GaussianNoise,
    JointMask,
    Normalize,
    RandomFrames,
    Resize,
    Rotate,
    Stream,
    Truncate,
    View,
    present,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def whole(clips: Clips, n: int) -> np.ndarray:
    """All frames of a clip as it was stored, (T, V, C, M); zeros where nobody was seen."""
    x = np.zeros((int(clips.frames[n]), NTU25.num_joints, 3, clips.num_persons), np.float32)
    for m in range(min(int(clips.bodies[n]), clips.num_persons)):
        start = int(clips.offsets[n]) + m * len(x)
        x[..., m] = np.nan_to_num(clips.joints[start : start + len(x)].numpy())
    return x


def slow_motion(x: np.ndarray, masked: bool) -> np.ndarray:
    """Frame after frame, body after body, of x (T, V, C, M)."""
    moved = np.zeros_like(x)
    for t in range(len(x) - 1):
        for m in range(x.shape[3]):
            if not masked or (x[t, ..., m].any() and x[t + 1, ..., m].any()):
                moved[t, ..., m] = x[t + 1, ..., m] - x[t, ..., m]
    return moved


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("gaps", [False, True])
def test_motion_is_taken_before_frames_are_chosen(make_clips, gaps, shared, masked):
    clips = make_clips(gaps=gaps)
    sampler = RandomFrames(12, copies=None)
    x, moved = View(sampler).with_motion(clips, seeded(4), shared, masked)
    random = seeded(4)
    drawn = sampler.draw(clips, random)
    again = drawn if shared else sampler.draw(clips, random)
    assert torch.equal(drawn, again) == shared
    for n in range(len(clips)):
        clip = whole(clips, n)
        assert np.array_equal(x[n].permute(1, 2, 0, 3).numpy(), clip[drawn[n]])
        assert np.array_equal(moved[n].permute(1, 2, 0, 3).numpy(), slow_motion(clip, masked)[again[n]])


@pytest.mark.parametrize("sampler", [EvenFrames(12, endpoint=False), Resize(9), Truncate(30), CropResize(9)], ids=repr)
@pytest.mark.parametrize("recipe", ["none", "root", "sds", "agcn"])
def test_every_sampler_takes_the_motion_of_the_whole_normalised_clip(make_clips, sampler, recipe):
    """Clips whose frames are the motion of all frames: sampled, they are what the view gives."""
    clips = make_clips(bodies=(1, 2, 2, 1, 2))
    x, moved = View(sampler, Normalize(recipe)).with_motion(clips, seeded(1))
    assert torch.equal(x, View(sampler, Normalize(recipe))(clips, seeded(1)))
    everything = Normalize(recipe)(Truncate(90)(clips), clips)
    joints = torch.zeros_like(clips.joints)
    for n in range(len(clips)):
        length = int(clips.frames[n])
        full = slow_motion(everything[n, :, :length].permute(1, 2, 0, 3).numpy(), masked=True)
        for m in range(int(clips.bodies[n])):
            start = int(clips.offsets[n]) + m * length
            joints[start : start + length] = torch.from_numpy(full[..., m])
    expected = sampler(replace(clips, joints=joints), seeded(1))
    torch.testing.assert_close(moved, expected, rtol=1e-5, atol=2e-5)


def test_motion_by_hand():
    rows = torch.cat([torch.arange(1.0, 7.0), torch.full((4,), 3.0), torch.tensor([5.0])])
    joints = rows[:, None, None].repeat(1, 25, 3)
    n = torch.arange(3)
    clips = Clips(joints, torch.tensor([0, 6, 10]), torch.tensor([6, 4, 1]), n * 0 + 1, n * 0, n, n, NTU25)
    x, moved = View(EvenFrames(6, endpoint=False)).with_motion(clips)
    assert moved[:, 0, :, 0, 0].tolist() == [[1, 1, 1, 1, 1, 0], [0] * 6, [0] * 6]
    x, moved = View(EvenFrames(3, endpoint=False)).with_motion(clips)
    assert x[0, 0, :, 0, 0].tolist() == [1, 3, 5]
    assert moved[0, 0, :, 0, 0].tolist() == [1, 1, 1]


def test_steps_see_both_frames_alike(make_clips):
    """A rotation turns the motion as it turns the joints, noise is the same in both frames, a mask hides both."""
    clips, sample = make_clips(frames=(30, 40)), EvenFrames(10)
    x, moved = View(sample).with_motion(clips)
    view = View(sample, steps=[Rotate(), Rotate()])
    turned, turning = view.with_motion(clips, seeded(2))
    assert torch.equal(turned, view(clips, seeded(2)))
    assert not torch.allclose(turned, x)
    lengths = torch.linalg.vector_norm(moved, dim=1)
    torch.testing.assert_close(torch.linalg.vector_norm(turning, dim=1), lengths, rtol=1e-4, atol=1e-5)
    noisy, noiseless = View(sample, steps=[GaussianNoise()]).with_motion(clips, seeded(2))
    assert not torch.equal(noisy, x)
    torch.testing.assert_close(noiseless, moved, rtol=0, atol=1e-5)
    masked, masking = View(sample, steps=[JointMask(frames=(10, 10))]).with_motion(clips, seeded(2))
    hidden = masked[0, :, :, :, 0].abs().sum((0, 1)) == 0
    assert 0 < hidden.sum() < 25
    assert not masking[0, :, :, hidden, 0].any()
    assert masking[0, :, :, ~hidden, 0].any()


def test_without_a_generator_draws_are_torch_s_own(make_clips):
    clips = make_clips()
    view = View(RandomFrames(6), steps=[Rotate()])
    torch.manual_seed(1)
    x, moved = view.with_motion(clips, shared=False)
    torch.manual_seed(1)
    again, moved_again = view.with_motion(clips, shared=False)
    assert torch.equal(x, again)
    assert torch.equal(moved, moved_again)
    assert not torch.equal(view.with_motion(clips)[0], x)


def test_motion_of_bones_and_of_a_copied_body(make_clips):
    clips = make_clips()
    view = View(EvenFrames(8), Normalize("sds"), stream=Stream("bone"), dup_body=True)
    x, moved = view.with_motion(clips)
    assert torch.equal(x, view(clips))
    joints, motion = View(EvenFrames(8), Normalize("sds")).with_motion(clips)
    torch.testing.assert_close(
        moved[..., 0], (motion - motion[:, :, :, list(NTU25.parents)])[..., 0], rtol=1e-5, atol=1e-5
    )
    single = clips.bodies == 1
    assert torch.equal(moved[single, ..., 1], moved[single, ..., 0])
    assert moved[3, ..., 1].any()
    assert present(x)[single].all()
    assert not present(joints)[single, :, 1].any()
