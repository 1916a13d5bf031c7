"""The masks of SCD-Net: closed forms of their scores, published probabilities, and a slow twin."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from skelcl.errors import InputError
from skelcl.skeleton import KINECT20, NTU25, OPENPOSE25
from skelcl.transforms import (
    ChannelMask,
    CubeMask,
    JointMask,
    Normalize,
    Resize,
    Reverse,
    Shear,
    StructureMask,
    View,
)
from skelcl.transforms.masking import _walks

stats = pytest.importorskip("scipy.stats")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def wide(count: int, *shape: int) -> Tensor:
    return torch.ones(1, *shape).expand(count, *shape)


def test_walks_of_two_steps_on_the_body():
    walks = _walks(NTU25, 2, torch.device("cpu"))
    assert walks.sum() == 223
    assert torch.equal(walks, walks.T)
    diagonal = [4, 3, 3, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2, 3, 3, 3, 2, 5, 2, 3, 2, 3]
    assert walks.diagonal().tolist() == diagonal
    spine, hand = walks[20], walks[21]
    assert [spine[j].item() for j in (20, 1, 2, 4, 8, 0, 3, 5, 9)] == [5, 2, 2, 2, 2, 1, 1, 1, 1]
    assert (hand[21], hand[22], hand[7]) == (2, 2, 1)
    assert spine.count_nonzero() == 9
    assert hand.count_nonzero() == 3


@pytest.mark.parametrize("skeleton", [NTU25, KINECT20, OPENPOSE25], ids=lambda skeleton: skeleton.name)
@pytest.mark.parametrize("hops", [1, 2, 3])
def test_walks_reach_as_far_as_their_steps(skeleton, hops):
    assert torch.equal(_walks(skeleton, hops, torch.device("cpu")) > 0, skeleton.hops() <= hops)


def test_seeds_at_the_spine_hide_it_and_its_neighbours(monkeypatch):
    monkeypatch.setattr(torch, "randint", lambda high, size, **_: torch.full(size, 20))
    hidden = StructureMask(probability=1.0).draw(wide(2000, 3, 1, 25, 1), NTU25, seeded())
    assert hidden[:, [20, 1, 2, 4, 8]].all()
    tied = hidden[:, [0, 3, 5, 9]]
    assert (tied.sum(1) == 3).all()
    assert (hidden.sum(1) == 8).all()
    assert stats.chisquare((~tied).sum(0).numpy()).pvalue > 0.01, "ties are broken by chance"


def test_hidden_joints_are_the_best_of_the_drawn_seeds(monkeypatch):
    """Slow twin: walks by matrix product in NumPy, scores summed seed by seed, every hidden joint at least ties."""
    seeds = torch.randint(25, (400, 5), generator=seeded(3))
    monkeypatch.setattr(torch, "randint", lambda *_, **__: seeds)
    hidden = StructureMask(probability=1.0).draw(wide(400, 3, 1, 25, 1), NTU25, seeded()).numpy()
    step = np.eye(25)
    for child, parent in NTU25.bones:
        step[child, parent] = step[parent, child] = 1
    walks = step @ step
    for own, chosen in zip(seeds.tolist(), hidden, strict=True):
        score = np.zeros(25)
        for seed in own:
            score += walks[seed]
        assert chosen.sum() == 8
        assert score[chosen].min() >= score[~chosen].max()


def test_published_probability_of_every_joint():
    """From 2·10⁵ independent draws with an uncertainty of 0.002, left and right joints alike."""
    published = [
        0.456, 0.440, 0.365, 0.141, 0.394, 0.322, 0.327, 0.333, 0.395, 0.325, 0.332, 0.336, 0.361,
        0.331, 0.310, 0.153, 0.362, 0.332, 0.312, 0.155, 0.593, 0.152, 0.311, 0.153, 0.312,
    ]  # fmt: skip
    draws = 100_000
    share = StructureMask(probability=1.0).draw(wide(draws, 3, 1, 25, 1), NTU25, seeded()).float().mean(0)
    # Three standard deviations of either estimate.
    assert share.tolist() == pytest.approx(published, abs=3 * np.hypot(0.5 / draws**0.5, 0.5 / 200_000**0.5))
    for left, right in NTU25.pairs:
        assert share[left].item() == pytest.approx(share[right].item(), abs=3 * 2**0.5 * 0.5 / draws**0.5)


def test_ones_keep_what_is_not_masked():
    x = torch.ones(50, 3, 64, 25, 2)
    joints = StructureMask(probability=1.0)(x, NTU25, seeded())
    assert (joints.sum((1, 2, 3, 4)) == 17 * 3 * 64 * 2).all()
    assert torch.equal(joints, joints[:, :1, :1, :, :1].expand_as(x)), "the same joints everywhere in a clip"
    frames = CubeMask(probability=1.0)(x, NTU25, seeded())
    assert (frames.sum((1, 2, 3, 4)) == 40 * 3 * 25 * 2).all()
    kept = frames[:, 0, :, 0, 0].view(50, 16, 4)
    assert torch.equal(kept, kept[..., :1].expand_as(kept)), "stretches of four frames"
    assert len(kept[..., 0].unique(dim=0)) > 40


def test_stretches_are_equally_likely_and_drawn_without_replacement():
    hidden = CubeMask(probability=1.0).draw(wide(20_000, 3, 64, 1, 1), seeded())[:, ::4]
    assert (hidden.sum(1) == 6).all()
    assert stats.chisquare(hidden.sum(0).numpy()).pvalue > 0.01
    both = (hidden[:, 0] & hidden[:, 1]).float().mean().item()
    assert both == pytest.approx(6 / 16 * 5 / 15, abs=0.01)


@pytest.mark.parametrize("mask", [StructureMask(), CubeMask()], ids=lambda mask: type(mask).__name__)
def test_half_of_the_clips_are_masked_each_for_itself(mask):
    y = mask(torch.ones(4000, 1, 16, 25, 1), NTU25, seeded())
    masked = (y == 0).flatten(1).any(1)
    assert masked.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert len(y[masked].flatten(1).unique(dim=0)) >= 6, "two of four stretches at least"
    assert torch.equal(mask(torch.ones(4000, 1, 16, 25, 1), NTU25, seeded()), y)


@pytest.mark.parametrize("mask", [StructureMask(probability=1.0), CubeMask(probability=1.0)], ids=["joints", "frames"])
def test_batched_equals_looped_and_zeros_stay(make_clips, mask):
    x = Resize(20)(make_clips(gaps=True, num_persons=3))
    joints = isinstance(mask, StructureMask)
    params = mask.draw(x, NTU25, seeded()) if joints else mask.draw(x, seeded())
    y = mask.augment(x, params).numpy()
    for n in range(len(x)):
        own = x[n].numpy().copy()
        for place in np.flatnonzero(params[n].numpy()):
            if joints:
                own[:, :, place] = 0
            else:
                own[:, place] = 0
        np.testing.assert_array_equal(y[n], own)
    assert y.shape == tuple(x.shape)


@pytest.mark.parametrize(("skeleton", "hidden"), [(NTU25, 8), (KINECT20, 6)], ids=["25", "20"])
def test_defaults_scale_with_the_skeleton(skeleton, hidden):
    x = wide(20, 3, 30, skeleton.num_joints, 1)
    assert (StructureMask(probability=1.0).draw(x, skeleton, seeded()).sum(1) == hidden).all()
    assert (StructureMask(joints=3, probability=1.0).draw(x, skeleton, seeded()).sum(1) == 3).all()


@pytest.mark.parametrize(("frames", "shares"), [(64, {24}), (32, {12}), (30, {10, 12}), (3, {0})])
def test_cubes_scale_with_the_frames(frames, shares):
    hidden = CubeMask(probability=1.0).draw(wide(200, 3, frames, 1, 1), seeded())
    assert hidden.shape == (200, frames)
    assert set(hidden.sum(1).tolist()) == shares


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: StructureMask(seeds=0), "StructureMask: seeds"),
        (lambda: StructureMask(hops=0), "StructureMask: hops"),
        (lambda: StructureMask(joints=-1), "StructureMask: joints"),
        (lambda: StructureMask(probability=2.0), "StructureMask: probability"),
        (lambda: CubeMask(cubes=-1), "CubeMask: cubes"),
        (lambda: CubeMask(size=0), "CubeMask: size"),
        (lambda: CubeMask(probability=-0.5), "CubeMask: probability"),
    ],
)
def test_bad_arguments_are_named(build, match):
    with pytest.raises(ValueError, match=match):
        build()


def test_more_than_there_is_cannot_be_hidden():
    with pytest.raises(InputError, match="cannot hide 21 of 20 joints"):
        StructureMask(joints=21)(wide(1, 3, 4, 20, 1), KINECT20)
    with pytest.raises(InputError, match="cannot hide 6 of the 4 stretches that 16 frames have"):
        CubeMask(cubes=6)(wide(1, 3, 16, 20, 1), KINECT20)


def test_a_view_lays_masks_on_each_other_and_changes_nothing_by_it(make_clips):
    clips = make_clips(gaps=True, num_persons=3)
    steps = [Shear(), JointMask(frames=(5, 10)), StructureMask(), CubeMask(), Reverse(), CubeMask(), ChannelMask()]
    view = View(Resize(20), Normalize("root"), steps)
    generator = seeded(3)
    x = Normalize("root")(Resize(20)(clips), clips)
    for step in steps:
        x = step(x, clips.skeleton, generator)
    assert (x == 0).any(), "something is hidden"
    assert torch.equal(view(clips, seeded(3)), x)
