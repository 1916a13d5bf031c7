import pickle
from dataclasses import replace

import pytest
import torch

from skelcl.clips import Clips
from skelcl.skeleton import KINECT20

SHAPES = [(5, 1), (3, 2), (1, 1), (4, 3)]  # frames, bodies


def ragged(num_persons):
    """Clips whose every coordinate tells its clip, body and frame."""
    rows, offsets = [], []
    for clip, (frames, bodies) in enumerate(SHAPES):
        offsets.append(len(rows))
        rows += [
            torch.full((20, 3), 1 + 100.0 * clip + 10 * body + frame)
            for body in range(bodies)
            for frame in range(frames)
        ]
    frames, bodies = torch.tensor(SHAPES).T
    n = torch.arange(len(SHAPES))
    return Clips(torch.stack(rows), torch.tensor(offsets), frames, bodies, 0 * n, n % 2, n, KINECT20, num_persons)


@pytest.mark.parametrize("num_persons", [1, 2, 3])
def test_at_finds_body_and_frame(num_persons):
    clips = ragged(num_persons)
    frame = torch.stack([torch.arange(4) % frames for frames, _ in SHAPES])
    x = clips.at(frame)
    assert x.shape == (4, num_persons, 4, 20, 3)
    for n, (_, bodies) in enumerate(SHAPES):
        for body in range(num_persons):
            for t in range(4):
                expected = 1 + 100.0 * n + 10 * body + frame[n, t] if body < bodies else 0.0
                assert (x[n, body, t] == expected).all()


def test_choosing_clips_shares_coordinates():
    clips = ragged(2)
    chosen = clips[torch.tensor([3, 0])]
    assert len(chosen) == 2
    assert chosen.joints is clips.joints
    assert chosen.index.tolist() == [3, 0]
    assert torch.equal(
        chosen.at(torch.zeros(2, 1, dtype=torch.int64)), clips.at(torch.zeros(4, 1, dtype=torch.int64))[[3, 0]]
    )


def test_each_clip_tells_which_repeat_it_is():
    clips = ragged(2)
    assert (clips.repeat.tolist(), clips.repeat.dtype) == ([0, 0, 0, 0], torch.int64)
    assert replace(clips, repeat=torch.tensor(2)).repeat.tolist() == [2, 2, 2, 2]
    several = replace(clips, repeat=torch.tensor([3, 0, 1, 2]))
    assert several[torch.tensor([3, 0])].repeat.tolist() == [2, 3]
    assert several[torch.tensor([False, True, True, False])].repeat.tolist() == [0, 1]
    assert several.to("cpu").repeat.tolist() == [3, 0, 1, 2]
    assert clips[torch.tensor([], dtype=torch.int64)].repeat.shape == (0,)


def test_reference_is_the_first_seen_frame():
    clips = ragged(1)
    assert clips.reference[:, 0, 0].tolist() == [1, 101, 201, 301]


def test_moves_like_a_tensor():
    clips = ragged(2).to("meta")
    for tensor in (clips.joints, clips.label, clips.first, clips.repeat):
        assert tensor.device.type == "meta"
    assert (clips.skeleton, clips.num_persons) == (KINECT20, 2)


def test_survives_pickling_between_processes():
    clips = pickle.loads(pickle.dumps(ragged(2)))
    assert torch.equal(clips.joints, ragged(2).joints)
    assert torch.equal(clips.repeat, ragged(2).repeat)


@pytest.mark.gpu
def test_pins_like_a_tensor():
    clips = ragged(2).pin_memory()
    assert clips.joints.is_pinned()
    assert clips.repeat.is_pinned()
    assert clips.to("cuda", non_blocking=True).offsets.is_cuda
