from __future__ import annotations

import numpy as np
import pytest

from skelcl.skeleton import NTU25
from skelcl.transforms import Resize, Stream, Truncate


def slow(kind: str, x: np.ndarray) -> np.ndarray:
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
                if x[n, :, t, :, m].any() and x[n, :, t + 1, :, m].any():
                    moved[n, :, t, :, m] = out[n, :, t + 1, :, m] - out[n, :, t, :, m]
    return moved


@pytest.mark.parametrize("kind", ["joint", "bone", "motion", "bone_motion"])
@pytest.mark.parametrize("frames", [1, 2, 30])
def test_streams_equal_slow_twins(make_clips, kind, frames):
    for sampler in (Truncate(frames), Resize(frames)):
        x = sampler(make_clips(gaps=True))
        y = Stream(kind)(x, NTU25)
        np.testing.assert_allclose(y.numpy(), slow(kind, x.double().numpy()), atol=1e-6)


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
