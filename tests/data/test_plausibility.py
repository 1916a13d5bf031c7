"""Coordinates that no body has: each defect is found, in metres and relative to the body, and nothing else is."""

import numpy as np
import pytest

from skelcl.data.convert import convert
from skelcl.data.inspection import check, statistics
from skelcl.data.plausibility import BODIES, MAX_COORDINATE, MAX_SIZE_RATIO, METRES, are_far, find_defects, limits
from skelcl.data.recording import DatasetInfo, Recording, Source
from skelcl.data.synthetic.datamodule import Synthetic
from skelcl.skeleton import NTU25

PARENTS = NTU25.parents


def people(bodies=2, frames=12, seed=0):
    """Bodies of 1.7 m that walk slowly, 1.5 m apart, (M, T, 25, 3)."""
    rng = np.random.default_rng(seed)
    pose = np.zeros((25, 3))
    for joint in sorted(range(25), key=lambda j: len(path(j))):
        if PARENTS[joint] != joint:
            way = rng.normal(size=3)
            pose[joint] = pose[PARENTS[joint]] + 0.25 * way / np.linalg.norm(way)
    time = np.linspace(0, 0.3, frames)[None, :, None, None]
    return (pose + [0, 0, 3] + 1.5 * np.arange(bodies)[:, None, None, None] * [1, 0, 0] + time).astype(np.float32)


def path(joint):
    return [joint] if PARENTS[joint] == joint else [joint, *path(PARENTS[joint])]


def twin(joints, limit):
    """Loops over everything; (M, T, V, C)."""
    sizes = []
    for body in joints:
        boxes = [np.linalg.norm(np.nanmax(f, 0) - np.nanmin(f, 0)) for f in body if not np.isnan(f).all()]
        sizes.append(sorted(boxes)[(len(boxes) - 1) // 2] or np.nan)
    jumps = far = long = swaps = False
    for body, size in zip(joints, sizes, strict=True):
        unit = 1.0 if limit is METRES else size
        for t, frame in enumerate(body):
            seen = [v for v in range(len(frame)) if not np.isnan(frame[v, 0])]
            middle = frame[seen].mean(0) if seen else None
            for v in seen:
                if t and not np.isnan(body[t - 1, v, 0]):
                    jumps |= bool(np.linalg.norm(frame[v] - body[t - 1, v]) > limit.jump * unit)
                if PARENTS[v] in seen:
                    long |= bool(np.linalg.norm(frame[v] - frame[PARENTS[v]]) > limit.long * unit)
                if limit is METRES:
                    far |= bool(np.abs(frame[v]).max() > limit.far)
                else:
                    far |= bool(
                        np.linalg.norm(frame[v] - middle) > limit.far * unit or np.abs(frame[v]).max() > MAX_COORDINATE
                    )
    for a in range(len(joints)):
        for b in range(a):
            for t in range(1, joints.shape[1]):
                ways = {(i, j): way(joints[i, t - 1], joints[j, t]) for i in (a, b) for j in (a, b)}
                stay, cross = ways[a, a] + ways[b, b], ways[a, b] + ways[b, a]
                swaps |= bool(stay > 0.1 * (sizes[a] + sizes[b]) and cross < 0.5 * stay)
    return jumps, far, long, swaps


def way(before, after):
    apart = np.linalg.norm(after - before, axis=-1)
    return np.nan if np.isnan(apart).all() else np.nanmean(apart)


def found(joints, limit):
    rows = joints.reshape(-1, *joints.shape[2:])
    each = find_defects(rows, np.array([joints.shape[1]]), np.array([len(joints)]), NTU25, limit)
    return tuple(bool(getattr(each, name)[0]) for name in ("jumps", "far", "long", "swaps"))


def jump(joints):
    joints[1, 5:, 7, 1] += 0.9


def far(joints):
    joints[0, 3, 3] += 11


def long(joints):
    joints[0, 8:, 15, 1] -= 2.4


def swap(joints):
    joints[:, 6:] = joints[::-1, 6:].copy()


def gap(joints):
    joints[0, 4] = np.nan
    joints[1, 2, 9] = np.nan


DEFECTS = {"sound": lambda joints: None, "jump": jump, "far": far, "long": long, "swap": swap, "gap": gap}
EXPECTED = {
    "sound": (False, False, False, False),
    "jump": (True, False, False, False),
    "far": (True, True, True, False),
    "long": (True, False, True, False),
    "swap": (True, False, False, True),
    "gap": (False, False, False, False),
}


@pytest.mark.parametrize("scale", [1.0, 400.0, 1e-3])
@pytest.mark.parametrize("name", DEFECTS)
def test_each_defect_is_found_whatever_the_unit(name, scale):
    joints = people()
    DEFECTS[name](joints)
    joints *= np.float32(scale)
    assert twin(joints, BODIES) == found(joints, BODIES) == EXPECTED[name]
    if scale == 1:
        assert twin(joints, METRES) == found(joints, METRES) == EXPECTED[name]


@pytest.mark.parametrize("seed", range(20))
def test_random_clips_as_a_loop_finds_them(seed):
    rng = np.random.default_rng(seed)
    joints = people(1 + seed % 3, 8, seed)
    joints += rng.normal(0, rng.choice([0.01, 0.1, 0.3]), joints.shape).astype(np.float32)
    joints[rng.random(joints.shape[:3]) < 0.1] = np.nan
    for limit in (BODIES, METRES):
        assert found(joints, limit) == twin(joints, limit)


@pytest.mark.parametrize("value", [1e7, 1e30, np.finfo(np.float32).max])
def test_coordinates_up_to_the_largest_are_told(value):
    for joint in (slice(None), 4):
        joints = people()
        joints[0, :, joint] = value
        for limit in (BODIES, METRES):
            assert found(joints, limit)[1]
            assert are_far(joints, limit)
    assert not are_far(people(), BODIES)
    assert not are_far(people(), METRES)


def made(root, clips, units):
    info = DatasetInfo("mine", NTU25, ("a",), reader=1, axes="as given", units=units)
    sources = [Source(name, [Recording(name, joints, 0)], name) for name, joints in clips.items()]
    return convert(root, info, sources, list, kind="memory")


@pytest.mark.parametrize("units", ["m", "as given", "px"])
def test_check_names_the_first_clip_of_each_defect(units, tmp_path, capsys):
    scale = np.float32(1 if units == "m" else 300)
    clips = {name: people(seed=n) for n, name in enumerate(DEFECTS)}
    for name, joints in clips.items():
        DEFECTS[name](joints)
        joints *= scale
    clips |= {"tiny": people() * scale / 1000, "huge": people() * np.float32(1e30)}
    store = made(tmp_path, clips, units)
    rows = list(statistics(store).items())
    limit = limits(units)
    where = "10 m" if units == "m" else "3 body sizes from their body"
    assert rows[10:15] == [
        (f"jumps of a joint > {limit.jump:g} {limit.unit}",
         f"in {5 if units == 'm' else 4} sequences, the first is far"),
        (f"coordinates > {where}", "in 2 sequences, the first is far"),
        (f"bones > {limit.long:g} {limit.unit}",
         f"in {3 if units == 'm' else 2} sequences, the first is far"),
        (f"bodies {MAX_SIZE_RATIO:g} times larger or smaller than most", "in 2 sequences, the first is huge"),
        ("bodies that swap between two frames", "in 1 sequences, the first is swap"),
    ]  # fmt: skip
    assert check("mine", tmp_path) == 0
    assert "in 1 sequences, the first is swap" in capsys.readouterr().out
    told = {notice["id"]: notice["message"] for notice in store.report["notices"] if notice["reason"] == "coordinates"}
    assert set(told) == {"far", "huge"}
    assert told["huge"].startswith("coordinates where no body is, the largest ")


def shrink(joints):
    joints /= 1000


def grow(joints):
    joints *= 1000


def turn(joints):
    joints[..., 1] *= -1


def press(joints):
    joints[..., 2] = 0


def hold(joints):
    joints[:, :, [7, 21]] = joints[:1, :1, [7, 21]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda joints: None, []),
        (shrink, ["a typical height of 0.00"]),
        (grow, ["a typical height of 962: people have 0.1 to 3 m"]),
        (turn, ["the mid spine lies below the spine base in 3 of 3 sequences", "--y_down true"]),
        (press, ["z is zero throughout in 3 of 3 sequences", "--channels 2"]),
        (hold, ["never moving in most sequences: left hand, left hand tip;"]),
    ],
    ids=["sound", "shrunk", "grown", "y down", "flat", "frozen"],
)
def test_check_warns_of_a_store_that_looks_wrong(change, words, tmp_path, capsys):
    clips = {}
    for n in range(3):
        joints = people(1, seed=n)
        spine = [NTU25.joints.index(name) for name in ("spine base", "mid spine")]
        joints[:, :, spine, 1] = [0.0, 0.5]
        change(joints)
        clips[f"clip {n}"] = joints
    made(tmp_path, clips, "as given")
    assert check("mine", tmp_path) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: ")]
    assert len(told) == bool(words)
    for word in words:
        assert word in told[0]


def test_heights_are_medians_along_y_and_a_joint_at_rest_is_named(tmp_path):
    """A loop over clips, frames and joints finds the same, of ragged clips with gaps."""
    rng = np.random.default_rng(3)
    clips, frames, bodies = [], np.array([12, 4, 15]), np.array([2, 1, 3])
    for n, (length, count) in enumerate(zip(frames, bodies, strict=True)):
        joints = people(count, length, n)
        joints[rng.random(joints.shape[:3]) < 0.1] = np.nan
        joints[0, :, 5 + n] = [1, 1, 3]
        clips.append(joints)
    clips[2][..., 2] = 0
    rows = np.concatenate([joints.reshape(-1, 25, 3) for joints in clips])
    found = find_defects(rows, frames, bodies, NTU25, BODIES)
    lower, upper = NTU25.up
    for n, joints in enumerate(clips):
        tall = sorted(np.nanmax(frame[:, 1]) - np.nanmin(frame[:, 1]) for frame in joints[0])
        assert found.height[n] == pytest.approx(tall[(len(tall) - 1) // 2])
        trunk = sorted(value for value in joints[0, :, upper, 1] - joints[0, :, lower, 1] if not np.isnan(value))
        assert found.upright[n] == pytest.approx(trunk[(len(trunk) - 1) // 2])
        assert bool(found.flat[n]) == (n == 2)
        assert found.frozen[n].nonzero()[0].tolist() == ([] if n == 1 else [5 + n])  # four frames tell nothing


def test_people_who_move_have_none_of_this(tmp_path):
    data = Synthetic(tmp_path, subjects=2, replications=1)
    data.prepare_data()
    data.setup("fit")
    store = data.store
    lengths, bodies = store.index["n_frames"].astype(int), store.index["n_bodies"].astype(int)
    for limit in (METRES, BODIES):
        each = find_defects(np.asarray(store.joints), lengths, bodies, NTU25, limit)
        for name in ("far", "long", "swaps"):
            assert not getattr(each, name).any(), (name, limit.unit)
