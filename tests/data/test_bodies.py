"""Selections of bodies against twins that go through points one by one."""

import math

import numpy as np
import pytest

from skelcl.data.bodies import BodyFrames, agcn, first_two, select, sgn

V = 4


def recording(tracks, num_frames):
    """Rows in file order from tracks {frame: (V, 3)}; numbers of tracks follow their first appearance."""
    rows, order = [], {}
    for t in range(num_frames):
        there = [n for n, track in enumerate(tracks) if t in track]
        for slot, n in enumerate(there):
            rows.append((tracks[n][t], t, slot, order.setdefault(n, len(order))))
    joints = np.array([row[0] for row in rows], np.float32).reshape(-1, V, 3)
    frame, slot, track = (np.array([row[k] for row in rows], np.int64) for k in (1, 2, 3))
    return BodyFrames(joints, frame, slot, track, num_frames)


def body(rng, frames, size=1.0, wide=0.0):
    """Upright points; in a share of the frames a heap that is wider than high."""
    out = {}
    for t in frames:
        points = rng.uniform(-1, 1, (V, 3)) * [0.3, 0.9, 0.2] * size + [rng.uniform(-1, 1), 0, 3]
        if rng.random() < wide:
            points[:, 0] *= 9
        out[t] = points.astype(np.float32)
    return out


def random_recording(seed):
    rng = np.random.default_rng(seed)
    num_frames = int(rng.integers(1, 60))
    tracks = []
    for _ in range(int(rng.integers(1, 6))):
        first = int(rng.integers(0, num_frames))
        last = int(rng.integers(first, num_frames)) + 1
        frames = [t for t in range(first, last) if rng.random() < rng.choice([0.7, 1.0])] or [first]
        tracks.append(body(rng, frames, rng.uniform(0.5, 2), rng.choice([0.0, 0.3, 0.7, 1.0])))
    return recording(tracks, num_frames)


# Twins


def variance(points):
    total = 0.0
    for axis in range(3):
        values = [float(point[axis]) for point in points]
        mean = math.fsum(values) / len(values)
        total += math.fsum((value - mean) ** 2 for value in values) / len(values)
    return total


def sgn_twin(bodies, compact):
    tracks = {}
    for joints, t, number in zip(bodies.joints, bodies.frame.tolist(), bodies.track.tolist(), strict=True):
        tracks.setdefault(number, []).append((t, joints))
    length = bodies.num_frames
    if compact:
        nonempty = sorted(set(bodies.frame.tolist()))
        length = len(nonempty)
        for number, rows in tracks.items():
            start = nonempty.index(rows[0][0])
            tracks[number] = [(start + n, joints) for n, (_, joints) in enumerate(rows)]
    everybody = dict(tracks)
    motion = dict.fromkeys(tracks, 0.0)
    if len(tracks) > 1:
        long = {number: rows for number, rows in tracks.items() if len(rows) > 11}
        if not long:
            best = max(len(rows) for rows in tracks.values())
            number = next(number for number, rows in tracks.items() if len(rows) == best)
            long = {number: tracks[number]}
        tracks = long
        motion = {number: variance([p for _, joints in rows for p in joints]) for number, rows in tracks.items()}
        for number in list(tracks):
            if len(tracks) == 1:
                break
            clean = []
            for _, joints in tracks[number]:
                xs, ys = [float(p[0]) for p in joints], [float(p[1]) for p in joints]
                if not max(xs) - min(xs) > 0.8 * (max(ys) - min(ys)):
                    clean.append(joints)
            noisy = 1 - len(clean) / len(tracks[number])
            if noisy >= 0.69754:
                del tracks[number]
            elif noisy > 0:
                motion[number] = min(motion[number], variance([p for joints in clean for p in joints]))
        if len(tracks) == 1 and compact:
            (number,) = tracks
            tracks[number] = [(n, joints) for n, (_, joints) in enumerate(tracks[number])]
            length = len(tracks[number])
    slots = [[None] * length, [None] * length]
    intervals = None
    for number in sorted(tracks, key=lambda number: -motion[number]):
        start, end = tracks[number][0][0], tracks[number][-1][0]
        if intervals is None:
            intervals, slot = [[start, end], [0, 0]], 0
        else:
            for slot in (0, 1):
                if min(intervals[slot][1], end) - max(intervals[slot][0], start) <= 0:
                    break
            else:
                continue
            intervals[slot] = [min(intervals[slot][0], start), max(intervals[slot][1], end)]
        for t, joints in tracks[number]:
            slots[slot][t] = joints
    if compact:
        kept = [t for t in range(length) if slots[0][t] is not None or slots[1][t] is not None]
        slots = [[slot[t] for t in kept] for slot in slots]
    nothing = np.full((V, 3), np.nan, np.float32)
    shown = [slot for slot in slots if any(joints is not None for joints in slot)]
    assert len(everybody) >= len(tracks)
    return np.array([[nothing if joints is None else joints for joints in slot] for slot in shown])


def agcn_twin(bodies):
    nothing = np.full((V, 3), np.nan, np.float32)
    slots = [[nothing] * bodies.num_frames for _ in range(4)]
    for joints, t, slot in zip(bodies.joints, bodies.frame.tolist(), bodies.slot.tolist(), strict=True):
        if slot < 4:
            slots[slot][t] = joints
    energy = []
    for slot in slots:
        points = [point for joints in slot for point in joints if not math.isnan(point[0])]
        total = 0.0
        for axis in range(3):
            values = [float(point[axis]) for point in points]
            mean = math.fsum(values) / max(len(values), 1)
            total += math.sqrt(math.fsum((value - mean) ** 2 for value in values) / max(len(values), 1))
        energy.append(total)
    order = sorted(range(4), key=lambda n: -energy[n])[:2]
    return np.array([slots[n] for n in order if energy[n] > 0])


@pytest.mark.parametrize("compact", [True, False])
def test_sgn_equals_its_twin(compact):
    bodies_kept = []
    for seed in range(250):
        bodies = random_recording(seed)
        chosen, _ = sgn(bodies, compact)
        np.testing.assert_array_equal(chosen, sgn_twin(bodies, compact), err_msg=f"seed {seed}")
        bodies_kept.append(len(chosen))
    assert set(bodies_kept) == {1, 2}, "both outcomes were met"


def test_agcn_equals_its_twin_and_first_two_is_the_first_two():
    for seed in range(100):
        bodies = random_recording(seed)
        np.testing.assert_array_equal(agcn(bodies), agcn_twin(bodies), err_msg=f"seed {seed}")
        rows = zip(bodies.joints, bodies.frame, bodies.slot, strict=True)
        expected = np.full((2, bodies.num_frames, V, 3), np.nan, np.float32)
        for joints, t, slot in rows:
            if slot < 2:
                expected[slot, t] = joints
        np.testing.assert_array_equal(first_two(bodies), expected[: 1 + (bodies.slot == 1).any()])


# Cases


def test_a_person_under_two_ids_becomes_one_body_again():
    rng = np.random.default_rng(0)
    one, two = body(rng, range(20)), body(rng, range(20, 45))
    for compact in (True, False):
        chosen, remarks = select(recording([one, two], 45), "sgn", compact)
        np.testing.assert_array_equal(chosen, [[*one.values(), *two.values()]])
        assert remarks == []


def test_gaps_are_kept_or_closed():
    rng = np.random.default_rng(0)
    track = body(rng, [1, 2, 5, 6])
    bodies = recording([track], 8)
    kept, _ = select(bodies, "sgn")
    assert kept.shape == (1, 8, V, 3)
    assert np.flatnonzero(~np.isnan(kept[0, :, 0, 0])).tolist() == [1, 2, 5, 6]
    closed, _ = select(bodies, "sgn", compact_gaps=True)
    np.testing.assert_array_equal(closed, [[*track.values()]])


def test_a_track_slides_over_its_gap_when_gaps_are_closed():
    rng = np.random.default_rng(1)
    long, broken = body(rng, range(40), size=2), body(rng, [*range(10), *range(20, 30)])
    bodies = recording([long, broken], 40)
    closed, _ = select(bodies, "sgn", compact_gaps=True)
    np.testing.assert_array_equal(closed[1, :20], [*broken.values()])
    assert np.isnan(closed[1, 20:]).all()
    kept, _ = select(bodies, "sgn")
    assert np.isnan(kept[1, 10:20]).all()
    np.testing.assert_array_equal(kept[1, 20:30], [broken[t] for t in range(20, 30)])


def test_passers_by_and_chairs_go_and_are_told():
    rng = np.random.default_rng(2)
    person, passer, chair = body(rng, range(30)), body(rng, range(5, 16), size=3), body(rng, range(30), 2, wide=1.0)
    chosen, remarks = select(recording([chair, passer, person], 30), "sgn")
    np.testing.assert_array_equal(chosen, [[*person.values()]])
    assert remarks == ["2 of 3 body tracks were left out (sgn)"]


def test_when_all_tracks_are_short_the_longest_stays():
    rng = np.random.default_rng(3)
    tracks = [body(rng, range(0, 4)), body(rng, range(4, 11)), body(rng, range(11, 18))]
    chosen, remarks = select(recording(tracks, 20), "sgn")
    assert np.flatnonzero(~np.isnan(chosen[0, :, 0, 0])).tolist() == list(range(4, 11))
    assert remarks[0].startswith("no body is seen in 12 frames")


def test_a_fifth_place_is_never_looked_at_by_agcn():
    rng = np.random.default_rng(4)
    tracks = [body(rng, range(5), size) for size in (1, 2, 3, 4, 9)]
    chosen, remarks = select(recording(tracks, 5), "agcn")
    np.testing.assert_array_equal(chosen, [[*tracks[3].values()], [*tracks[2].values()]])
    assert remarks == ["15 of 25 bodies in single frames were left out (agcn)"]


def continuous_twin(chosen, length=300):
    """As released, on dense zeros, person after person: cut what is empty at the start, loop what ends early."""
    dense = np.zeros((len(chosen), length, V, 3), np.float32)
    dense[:, : chosen.shape[1]] = np.nan_to_num(chosen)
    for person in dense:
        if person[0].sum() == 0:
            content = [frame.copy() for frame in person if frame.sum() != 0]
            person[:] = 0
            person[: len(content)] = content
        for t, frame in enumerate(person):
            if frame.sum() == 0 and person[t:].sum() == 0:
                for place in range(t, length):
                    person[place] = person[(place - t) % t]
                break
    return dense[:, : chosen.shape[1]]


@pytest.mark.parametrize("seed", range(20))
def test_bodies_of_agcn_are_there_from_the_first_frame_to_the_last_when_gaps_are_closed(seed):
    bodies = random_recording(seed)
    kept, remarks = select(bodies, "agcn")
    closed, told = select(bodies, "agcn", compact_gaps=True)
    assert told == remarks
    np.testing.assert_array_equal(np.nan_to_num(closed), continuous_twin(kept))


def test_a_body_that_comes_late_is_moved_to_the_front_and_repeated():
    rng = np.random.default_rng(6)
    there, late = body(rng, range(8), size=2), body(rng, [3, 4, 6])
    closed, _ = select(recording([there, late], 8), "agcn", compact_gaps=True)
    np.testing.assert_array_equal(closed[0], [*there.values()])
    np.testing.assert_array_equal(closed[1], [late[t] for t in (3, 4, 6, 3, 4, 6, 3, 4)])


@pytest.mark.parametrize("selection", ["sgn", "agcn", "first-two"])
def test_nobody_is_no_body(selection):
    zeros = BodyFrames(np.zeros((2, V, 3), np.float32), np.arange(2), np.zeros(2, int), np.zeros(2, int), 2)
    nothing = BodyFrames(np.zeros((0, V, 3), np.float32), *[np.zeros(0, int)] * 3, 3)
    for bodies in (zeros, nothing):
        assert len(select(bodies, selection)[0]) == 0
        assert len(select(bodies, selection, compact_gaps=True)[0]) == 0


@pytest.mark.parametrize("selection", ["sgn", "agcn", "first-two"])
def test_missing_joints_neither_count_nor_disappear(selection):
    rng = np.random.default_rng(5)
    track = body(rng, range(20))
    clean, _ = select(recording([track], 20), selection)
    hurt = {t: points.copy() for t, points in track.items()}
    hurt[3][1] = 0.0
    hurt[4][2, 1] = np.inf
    hurt[5][:3] = np.nan
    chosen, _ = select(recording([hurt], 20), selection)
    missing = np.isnan(chosen[0]).all(-1)
    assert np.argwhere(missing).tolist() == [[3, 1], [4, 2], [5, 0], [5, 1], [5, 2], [5, 3]]
    np.testing.assert_array_equal(chosen[0][~missing], clean[0][~missing])
