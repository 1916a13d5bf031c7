"""Damage of raw clips against slow loops over clips, bodies and frames, and against what views make of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skelcl.clips import Clips
from skelcl.errors import InputError
from skelcl.evaluation.corruptions import corrupt, uniform
from skelcl.skeleton import NTU25
from skelcl.transforms import Normalize, Resize, View

FRAMES, BODIES = (9, 4, 1, 12, 7), (1, 2, 1, 2, 1)
IDS = [f"clip{n}" for n in range(5)]
NAN = float("nan")
GOLDEN = [0.5739135075963522, 0.9771340055649186, 0.27072175479909033]


@pytest.fixture
def clips() -> Clips:
    """Five clips inside a larger array, of one or two bodies; in two of them a body is not seen for a while."""
    random = torch.Generator().manual_seed(0)
    frames, bodies = torch.tensor(FRAMES), torch.tensor(BODIES)
    sizes = frames * bodies
    offsets = sizes.cumsum(0) - sizes + 3
    joints = torch.randn(int(sizes.sum()) + 5, 25, 3, generator=random) + torch.tensor([0.0, 0.0, 3.0])
    joints[offsets[0] : offsets[0] + 2] = NAN  # body 0 comes late
    joints[offsets[3] + 12 + 4 : offsets[3] + 12 + 6] = NAN  # body 1 goes and returns
    first = torch.tensor([2, 0, 0, 0, 0])
    return Clips(joints, offsets, frames, bodies, first, torch.arange(5), torch.arange(5), NTU25, 2, gaps=True)


def bodies_of(clips: Clips, n: int) -> np.ndarray:
    """(M, T, V, C) of a clip."""
    start, m, t = int(clips.offsets[n]), int(clips.bodies[n]), int(clips.frames[n])
    return clips.joints[start : start + m * t].view(m, t, 25, 3).numpy()


def missing(x: np.ndarray) -> np.ndarray:
    return np.isnan(x).all((2, 3))


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.array_equal(a, b, equal_nan=True))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("fill", ["root", "zero", "interpolate"])
def test_lost_parts_are_whole_and_stay_lost(clips: Clips, count: int, fill: str) -> None:
    damaged = corrupt(clips, IDS, "spatial_part", count, fill)
    chosen = []
    for n in range(5):
        before, after = bodies_of(clips, n), bodies_of(damaged, n)
        seen = ~missing(before)
        assert (missing(after) == ~seen).all()
        wanted = np.zeros_like(before) if fill == "zero" else np.repeat(before[:, :, NTU25.origin, None], 25, 2)
        changed = (before != after)[seen].any((0, 2))
        lost = [name for name, joints in NTU25.parts.items() if changed[[j for j in joints if j != NTU25.origin]].all()]
        assert len(lost) == count
        joints = [j for name in lost for j in NTU25.parts[name]]
        assert (after[:, :, joints][seen] == wanted[:, :, joints][seen]).all()
        rest = np.setdiff1d(range(25), joints)
        assert same(after[:, :, rest], before[:, :, rest])
        chosen.append(tuple(lost))
    assert len(set(chosen)) > 1, "clips lose parts of their own"


def test_lost_joints_are_as_many_as_asked_for(clips: Clips) -> None:
    damaged = corrupt(clips, IDS, "spatial_joint", 5, "zero")
    for n in range(5):
        after = bodies_of(damaged, n)
        seen = after[~missing(after)]
        assert ((seen == 0).all((0, 2))).sum() == 5


def kept(clips: Clips, corruption: str, share: float) -> list[np.ndarray]:
    """Which frames of body 0 a temporal corruption leaves."""
    damaged = corrupt(clips, IDS, corruption, share)
    left = []
    for n in range(5):
        before, after = bodies_of(clips, n), bodies_of(damaged, n)
        gone = missing(after) & ~missing(before)
        frames = gone.any(0)
        assert (missing(after) == (missing(before) | frames)).all(), "all bodies lose the same frames"
        assert same(after[:, ~frames], before[:, ~frames])
        assert not missing(after)[0].all()
        assert damaged.first[n] == np.flatnonzero(~missing(after)[0])[0]
        left.append(~missing(after)[0])
    assert damaged.gaps
    return left


def test_a_block_of_frames_is_lost() -> None:
    frames, one = torch.full((200,), 20), torch.ones(200, dtype=torch.int64)
    place = torch.arange(200)
    clips = Clips(torch.randn(4000, 25, 3), 20 * place, frames, one, 0 * one, 0 * one, place, NTU25)
    damaged = corrupt(clips, [f"x{n}" for n in range(200)], "temporal_block", 0.3)
    lost = missing(damaged.joints.view(200, 20, 25, 3).numpy())
    assert (lost.sum(1) == 6).all()
    starts = lost.argmax(1)
    assert all(row[start : start + 6].all() for row, start in zip(lost, starts, strict=True))
    assert sorted(set(starts.tolist())) == list(range(15)), "anywhere in the clip"


@pytest.mark.parametrize(("corruption", "share"), [("temporal_block", 0.5), ("temporal_drop", 0.5)])
def test_frames_are_lost_for_everybody_and_one_stays(clips: Clips, corruption: str, share: float) -> None:
    left = kept(clips, corruption, share)
    assert left[2].all(), "the only frame of a clip stays"


def test_all_frames_dropped_leaves_the_reference(clips: Clips) -> None:
    left = kept(clips, "temporal_drop", 1.0)
    assert [np.flatnonzero(one).tolist() for one in left] == [[2], [0], [0], [0], [0]]


def test_dropped_frames_are_those_of_the_hash(clips: Clips) -> None:
    damaged = corrupt(clips, IDS, "temporal_drop", 0.4, seed=7)
    lost = uniform("clip3|temporal_drop|0.4|7", 12) < 0.4
    assert lost.any()
    assert (missing(bodies_of(damaged, 3))[0] == lost).all()


@pytest.mark.parametrize("fill", ["hold_last", "interpolate"])
@pytest.mark.parametrize("corruption", ["temporal_block", "temporal_drop"])
def test_fills_take_from_neighbouring_frames_of_the_body(clips: Clips, fill: str, corruption: str) -> None:
    plain, filled = (corrupt(clips, IDS, corruption, 0.5, rule) for rule in ("root", fill))
    for n in range(5):
        before, gone, after = (bodies_of(one, n) for one in (clips, plain, filled))
        for m in range(len(before)):
            known = np.flatnonzero(~missing(gone)[m])
            for t in range(len(before[m])):
                lost = missing(gone)[m, t] and not missing(before)[m, t]
                if not lost:
                    assert same(after[m, t], before[m, t])
                    continue
                past, future = known[known < t], known[known > t]
                if not len(past):
                    wanted = before[m, future[0]]
                elif fill == "hold_last" or not len(future):
                    wanted = before[m, past[-1]]
                else:
                    low, high = past[-1], future[0]
                    weight = (t - low) / (high - low)
                    wanted = (1 - weight) * before[m, low] + weight * before[m, high]
                np.testing.assert_allclose(after[m, t], wanted, atol=1e-5)


def test_noise_has_the_deviation_asked_for() -> None:
    one = torch.ones(40, dtype=torch.int64)
    place = torch.arange(40)
    clips = Clips(torch.zeros(400, 25, 3), 10 * place, 10 * one, one, 0 * one, 0 * one, place, NTU25)
    noise = corrupt(clips, [str(n) for n in range(40)], "jitter", 2).joints.numpy()
    assert noise.std() == pytest.approx(0.02, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.0005)
    assert np.mean(np.abs(noise) < 0.02) == pytest.approx(0.6827, abs=0.01), "normal"
    pairs = noise.reshape(40, -1)
    assert abs(np.corrcoef(pairs)[np.triu_indices(40, 1)]).max() < 0.2, "clips have noise of their own"


def test_a_turned_clip_keeps_heights_distances_and_its_place(clips: Clips) -> None:
    damaged = corrupt(clips, IDS, "view", 30)
    sides = []
    for n in range(5):
        before, after = bodies_of(clips, n), bodies_of(damaged, n)
        np.testing.assert_allclose(after[..., 1], before[..., 1], atol=1e-5)
        centre = before[0, int(clips.first[n]), NTU25.origin]
        np.testing.assert_allclose(after[0, int(clips.first[n]), NTU25.origin], centre, atol=1e-5)
        a, b = (np.asarray(x - centre)[..., [2, 0]] @ [1, 1j] for x in (before, after))
        turn = (b * a.conj())[~np.isnan(a.real)]
        turn = turn[np.abs(turn) > 0.1]
        angle = np.angle(turn, deg=True)
        assert np.abs(angle).min() == pytest.approx(30, abs=0.01)
        assert np.ptp(angle) < 0.02
        sides.append(np.sign(angle[0]))
    assert set(sides) == {-1.0, 1.0}


def test_only_people_who_are_there_are_lost_or_confused(clips: Clips) -> None:
    alone, confused = (corrupt(clips, IDS, what, 1) for what in ("person_drop", "id_switch"))
    assert alone.bodies.tolist() == [1] * 5
    for n in range(5):
        before, switched = bodies_of(clips, n), bodies_of(confused, n)
        assert same(bodies_of(alone, n)[0], before[0])
        half = FRAMES[n] // 2 if BODIES[n] == 2 else FRAMES[n]
        assert same(switched[:, :half], before[:, :half])
        assert same(switched[:, half:], before[::-1, half:])


@pytest.mark.parametrize(
    ("corruption", "severity"),
    [("spatial_part", 2), ("spatial_joint", 4), ("temporal_drop", 0.5), ("jitter", 2), ("view", 60)],
)
def test_damage_depends_on_name_and_seed_and_not_on_the_batch(clips: Clips, corruption: str, severity: float) -> None:
    together = corrupt(clips, IDS, corruption, severity)
    order = torch.tensor([3, 0])
    few = corrupt(clips[order], [IDS[3], IDS[0]], corruption, severity)
    for place, n in enumerate([3, 0]):
        assert same(bodies_of(few, place), bodies_of(together, n))
    other = corrupt(clips, IDS, corruption, severity, seed=1)
    assert not all(same(bodies_of(other, n), bodies_of(together, n)) for n in range(5))
    renamed = corrupt(clips, [name + "'" for name in IDS], corruption, severity)
    assert not all(same(bodies_of(renamed, n), bodies_of(together, n)) for n in range(5))


def test_the_numbers_of_a_name_are_what_they_always_were() -> None:
    assert uniform("a|jitter|1|0", 3).tolist() == GOLDEN


@pytest.mark.parametrize("recipe", ["none", "root", "sgn", "agcn", "ucla_minmax", "sds"])
@pytest.mark.parametrize(
    ("corruption", "severity", "fill"),
    [
        ("spatial_part", 3, "root"),
        ("spatial_joint", 12, "zero"),
        ("temporal_block", 0.5, "root"),
        ("temporal_drop", 0.9, "interpolate"),
        ("id_switch", 1, "root"),
        ("person_drop", 1, "root"),
    ],
)
def test_every_view_can_show_what_is_left(
    clips: Clips, recipe: str, corruption: str, severity: float, fill: str
) -> None:
    x = View(Resize(8), Normalize(recipe))(corrupt(clips, IDS, corruption, severity, fill))
    assert x.isfinite().all()
    assert x.abs().amax((1, 2, 3))[:, 0].gt(0).all(), "somebody is always seen"


def test_lost_frames_are_missing_frames_to_a_view(clips: Clips) -> None:
    """What the sensor lost and what a corruption loses are the same."""
    by_hand = corrupt(clips, IDS, "jitter", 1e-9)
    lost = missing(bodies_of(corrupt(clips, IDS, "temporal_drop", 0.5), 3))[0]
    joints = by_hand.joints.clone()
    start = int(by_hand.offsets[3])
    for m in (0, 1):
        joints[start + 12 * m : start + 12 * m + 12][lost] = NAN
    first = by_hand.first.clone()
    first[3] = int(np.flatnonzero(~lost)[0])
    wanted = Clips(
        joints, by_hand.offsets, by_hand.frames, by_hand.bodies, first, by_hand.label, by_hand.index, NTU25, 2, True
    )
    view = View(Resize(8), Normalize("root"))
    found = view(corrupt(clips, IDS, "temporal_drop", 0.5))
    torch.testing.assert_close(found[3], view(wanted)[3], atol=1e-6, rtol=0)


def test_flat_poses_cannot_be_turned_and_severities_have_bounds(clips: Clips) -> None:
    flat = Clips(
        clips.joints[..., :2], clips.offsets, clips.frames, clips.bodies, clips.first, clips.label, clips.index, NTU25
    )
    with pytest.raises(InputError, match="'view' turns 3D clips"):
        corrupt(flat, IDS, "view", 30)
    for corruption, severity in (("spatial_part", 5), ("spatial_joint", 2.5), ("temporal_block", 1.5), ("jitter", 0)):
        with pytest.raises(InputError, match=f"{corruption} {severity:g}: its severity must lie above 0"):
            corrupt(clips, IDS, corruption, severity)
    with pytest.raises(InputError, match="corruptions are spatial_part"):
        corrupt(clips, IDS, "smoke", 1)
    with pytest.raises(InputError, match="need as many names, not 4"):
        corrupt(clips, IDS[:4], "jitter", 1)
