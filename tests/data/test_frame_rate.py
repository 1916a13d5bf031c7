"""Clips at another number of frames per second."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skelcl.clips import Clips
from skelcl.data.frame_rate import frame_step, num_frames, resample
from skelcl.errors import InputError
from skelcl.skeleton import KINECT20


def ragged(shapes, value, missing=()):
    """Clips of (bodies, frames) whose coordinates are ``value(clip, body, frame)``; ``missing`` are NaN."""
    rows, first = [], []
    for n, (bodies, frames) in enumerate(shapes):
        for body in range(bodies):
            for t in range(frames):
                row = np.broadcast_to(np.asarray(value(n, body, t), np.float32), (20, 3))
                rows.append(row * np.nan if (n, body, t) in missing else row)
        first.append(next((t for t in range(frames) if (n, 0, t) not in missing), 0))
    bodies, frames = torch.tensor(shapes).T
    sizes = bodies * frames
    return Clips(
        joints=torch.from_numpy(np.stack(rows)),
        offsets=sizes.cumsum(0) - sizes,
        frames=frames,
        bodies=bodies,
        first=torch.tensor(first),
        label=torch.arange(len(shapes)),
        index=torch.arange(len(shapes)),
        skeleton=KINECT20,
        num_persons=2,
        gaps=bool(missing),
    )


def slowly(clips, step):
    """One frame after the other, as the docstring says it: (N lists of (M, T', V, C)), the first frame of each."""
    found, first = [], []
    for n in range(len(clips)):
        tracks = clips.joints[clips.offsets[n] : clips.offsets[n] + clips.bodies[n] * clips.frames[n]]
        tracks = tracks.reshape(int(clips.bodies[n]), int(clips.frames[n]), 20, 3).double().numpy()
        count = int(Fraction(tracks.shape[1] - 1) / step) + 1
        out = np.full((len(tracks), count, 20, 3), np.nan)
        for body, track in enumerate(tracks):
            seen = ~np.isnan(track[:, 0, 0])
            for i in range(count):
                low, part = divmod(i * step, 1)
                high, part = min(low + 1, len(track) - 1), float(part)
                if not seen[high if part > 0.5 else low]:
                    continue
                low, high = (low if seen[low] else high), (high if seen[high] else low)
                out[body, i] = (1 - part) * track[low] + part * track[high]
            if np.isnan(out[body]).all():
                earliest = int(np.argmax(seen))
                out[body, min(int(earliest / step + Fraction(1, 2)), count - 1)] = track[earliest]
        found.append(out)
        first.append(int(np.argmin(np.isnan(out[0, :, 0, 0]))))
    return found, first


@pytest.mark.parametrize(
    ("fps", "target", "frames", "expected"),
    [(120, 30, 9, 3), (120, 30, 10, 3), (25, 30, 6, 7), (25, 30, 1, 1), (30, 120, 3, 9), (29.97, 30, 1000, 1001)],
)
def test_the_number_of_frames(fps, target, frames, expected):
    assert int(num_frames(torch.tensor(frames), frame_step(fps, target))) == expected


def test_steps_are_whole_numbers_where_rates_are_decimals():
    assert frame_step(25, 30) == Fraction(5, 6)
    assert frame_step(29.97, 30) == Fraction(999, 1000)
    assert frame_step(0.03, 30) == Fraction(1, 1000)


@pytest.mark.parametrize(("fps", "target"), [(1e-9, 30), (30, 1e9), (1e9, 30), (0.029, 30), (1e-300, 1e300)])
def test_rates_that_are_worlds_apart_are_refused(fps, target):
    with pytest.raises(InputError, match=r"frames per second cannot become .*: one is over 1000 times the other"):
        frame_step(fps, target)


@pytest.mark.parametrize(("fps", "target"), [(120, 30), (25, 30), (30, 25), (7, 30), (29.97, 30)])
def test_what_moves_evenly_is_where_it_must_be(fps, target):
    """Coordinates that are linear in time, in closed form."""
    place = np.random.default_rng(0).normal(size=(20, 3))
    speed = np.random.default_rng(1).normal(size=(20, 3))
    clips = ragged([(1, 40), (2, 17), (1, 1)], lambda n, body, t: place * (1 + body) + n + speed * t / fps)
    found = resample(clips, frame_step(fps, target))
    for n in range(3):
        for body in range(clips.bodies[n]):
            for i in range(found.frames[n]):
                row = found.joints[found.offsets[n] + body * found.frames[n] + i].numpy()
                np.testing.assert_allclose(row, place * (1 + body) + n + speed * i / target, atol=1e-5)
    last = (found.frames - 1) / target
    assert (last <= (clips.frames - 1) / fps + 1e-6).all()
    assert (last + 1 / target > (clips.frames - 1) / fps).all()
    assert torch.equal(found.reference, clips.reference)


@given(
    shapes=st.lists(st.tuples(st.integers(1, 2), st.integers(1, 12)), min_size=1, max_size=4),
    rates=st.tuples(st.sampled_from([7.5, 25, 30, 120]), st.sampled_from([7.5, 25, 30, 120])),
    share=st.sampled_from([0.0, 0.3, 0.8]),
    seed=st.integers(0, 1000),
)
def test_all_clips_at_once_are_as_each_frame_by_itself(shapes, rates, share, seed):
    random = np.random.default_rng(seed)
    missing = {(n, m, t) for n, (bodies, frames) in enumerate(shapes) for m in range(bodies) for t in range(frames)}
    missing = {place for place in sorted(missing) if random.random() < share}
    for n, (bodies, frames) in enumerate(shapes):  # a stored body was seen once at least
        for m in range(bodies):
            missing -= {(n, m, int(random.integers(frames)))}
    values = {}
    clips = ragged(shapes, lambda *place: values.setdefault(place, random.normal(size=(20, 3))), missing)
    step = frame_step(*rates)
    found = resample(clips, step)
    expected, first = slowly(clips, step)
    assert found.frames.tolist() == [one.shape[1] for one in expected]
    np.testing.assert_allclose(found.joints, np.concatenate([one.reshape(-1, 20, 3) for one in expected]), atol=1e-5)
    assert found.first.tolist() == first
    assert found.gaps == bool(found.joints.isnan().any())
    assert not found.reference.isnan().any()


def test_clips_that_share_their_rows_are_resampled_alike():
    clips = ragged([(1, 5), (2, 7)], lambda n, body, t: n + body + t * t)
    chosen = clips[torch.tensor([1, 1, 0])]
    found, apart = resample(chosen, Fraction(1, 2)), resample(clips, Fraction(1, 2))
    assert torch.equal(found.joints, torch.cat([apart.joints[9:], apart.joints[9:], apart.joints[:9]]))
    assert found.label.tolist() == [1, 1, 0]
    assert torch.equal(found.to("cpu").joints, resample(replace(chosen, num_persons=1), Fraction(1, 2)).joints)
