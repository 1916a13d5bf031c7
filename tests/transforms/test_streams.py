from __future__ import annotations

import numpy as np
import pytest
import torch

from skelcl.skeleton import NTU25
from skelcl.transforms import Resize, Rotate, Stream, Truncate

KINDS = ["joint", "bone", "motion", "bone_motion"]


def slow(kind: str, x: np.ndarray, masked: bool = True) -> np.ndarray:
    """One joint, body and frame after the other."""
    out = x.copy()
    if kind.startswith("bone"):
        for child, parent in enumerate(NTU25.parents):
            out[:, :, :, child] = x[:, :, :, child] - x[:, :, :, parent]
    if not kind.endswith("motion"):
        return out
    moved = np.zeros_like(x)
    for n in range(x.shape[0]):
        for m in range(x.shape[4]):
            for t in range(x.shape[2] - 1):
                if not masked or (x[n, :, t, :, m].any() and x[n, :, t + 1, :, m].any()):
                    moved[n, :, t, :, m] = out[n, :, t + 1, :, m] - out[n, :, t, :, m]
    return moved


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 2, 30])
@pytest.mark.parametrize("masked", [True, False])
def test_streams_equal_slow_twins(make_clips, kind, frames, masked):
    for sampler in (Truncate(frames), Resize(frames)):
        x = sampler(make_clips(gaps=True))
        y = Stream(kind, masked_motion=masked)(x, NTU25)
        np.testing.assert_allclose(y.numpy(), slow(kind, x.double().numpy(), masked), atol=1e-6)


def test_as_released_motion_jumps_where_a_body_comes_and_goes():
    x = torch.zeros(1, 3, 5, 25, 1)
    x[:, :, 1:3] = 2.0
    x[:, :, 2] += 0.5
    jumps = Stream("motion", masked_motion=False)(x, NTU25)
    assert jumps[0, 0, :, 7, 0].tolist() == [2.0, 0.5, -2.5, 0.0, 0.0]
    assert Stream("motion")(x, NTU25)[0, 0, :, 7, 0].tolist() == [0.0, 0.5, 0.0, 0.0, 0.0]


def slow_trajectory(kind: str, x: np.ndarray) -> np.ndarray:
    """Hyperformer's input, one joint after the other: everything relative, but the root where it is."""
    root = NTU25.root
    out = np.zeros_like(x)
    for joint, parent in enumerate(NTU25.parents):
        anchor = parent if kind.startswith("bone") else root
        out[:, :, :, joint] = x[:, :, :, joint] - (0 if joint == root else x[:, :, :, anchor])
    if not kind.endswith("motion"):
        return out
    seen = np.abs(x).sum((1, 3)) > 0
    moved = np.zeros_like(x)
    for t in range(x.shape[2] - 1):
        moved[:, :, t] = (out[:, :, t + 1] - out[:, :, t]) * (seen[:, t] & seen[:, t + 1])[:, None, None]
    return moved


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 30])
def test_streams_with_the_trajectory_equal_slow_twins(make_clips, kind, frames):
    x = Truncate(frames)(make_clips(gaps=True))
    before = x.clone()
    y = Stream(kind, trajectory=True)(x, NTU25)
    np.testing.assert_allclose(y.numpy(), slow_trajectory(kind, x.double().numpy()), atol=1e-6)
    assert torch.equal(x, before), "the input is left alone"


def test_an_offset_changes_the_trajectory_alone(make_clips):
    x = Resize(8)(make_clips(bodies=(2, 2, 2, 2, 2)))
    others = [joint for joint in range(25) if joint != NTU25.root]
    for kind in ("joint", "bone"):
        stream = Stream(kind, trajectory=True)
        y, moved = stream(x, NTU25), stream(x + 1.5, NTU25)
        torch.testing.assert_close(moved[:, :, :, others], y[:, :, :, others], rtol=0, atol=1e-5)
        torch.testing.assert_close(moved[:, :, :, NTU25.root], y[:, :, :, NTU25.root] + 1.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("trajectory", [False, True])
def test_streams_commute_with_rotations(make_clips, kind, trajectory):
    x = Resize(8)(make_clips())
    rotate, stream = Rotate(17.2, 17.2, symmetric=True), Stream(kind, trajectory)
    matrix = rotate.draw(x)
    expected = rotate.augment(stream(x, NTU25), matrix)
    torch.testing.assert_close(stream(rotate.augment(x, matrix), NTU25), expected, rtol=1e-5, atol=1e-5)


def test_motion_sums_to_the_way_made(make_clips):
    x = Resize(8)(make_clips())
    y = Stream("motion")(x, NTU25)
    torch.testing.assert_close(y.sum(2), x[:, :, -1] - x[:, :, 0], rtol=0, atol=1e-5)


def test_motion_stops_before_padding(make_clips):
    y = Stream("motion")(Truncate(10)(make_clips()), NTU25)
    assert y[2, :, :6].all()
    assert not y[2, :, 6:].any()


def test_the_root_has_no_bone(make_clips):
    y = Stream("bone")(Resize(4)(make_clips()), NTU25)
    assert not y[:, :, :, NTU25.root].any()
    assert y[1, :, :, [0, 1, 5]].all()


def test_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind must be one of joint, bone, motion, bone_motion"):
        Stream("velocity")
