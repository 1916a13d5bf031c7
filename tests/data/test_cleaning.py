"""What a store makes of missing joints, frames and bodies, against a slow twin."""

import numpy as np
import pytest

from skelcl.data.convert import convert
from skelcl.data.recording import DatasetInfo, Recording, Source
from skelcl.data.schema import Flag
from skelcl.skeleton import KINECT20

V = 20
INFO = DatasetInfo("mini", KINECT20, ("a", "b", "c"), reader=1, axes="y up")


def body(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(*shape, V, 3)).astype(np.float32) + 3


def make(root, recordings, **options):
    """A store of recordings that need no files; each is its own source."""
    sources = [Source(recording.id, [recording], recording.id) for recording in recordings]
    return convert(root, INFO, sources, list, kind="memory", **options)


def missing_twin(joints):
    """Joint by joint and frame by frame: what a store must hold, with its flags; bodies never seen are left out."""
    bodies, repaired, gap = [], False, False
    for track in joints:
        kept, seen = [], False
        holes = gaps = 0
        for frame in track:
            row = [
                [np.nan] * 3 if not all(np.isfinite(p)) or (p[0] == 0 and p[1] == 0 and p[2] == 0) else list(p)
                for p in frame
            ]
            lost = sum(1 for p in row if np.isnan(p[0]))
            if lost > V / 2:
                row, lost = [[np.nan] * 3] * V, 0
                gaps += 1
            else:
                seen = True
            holes += lost
            kept.append(row)
        if seen:
            bodies.append(kept)
            repaired, gap = repaired or holes > 0, gap or gaps > 0
    return np.array(bodies, np.float32), repaired, gap


@pytest.mark.parametrize(
    ("lose", "value"),
    [
        ({(0, 2, 5)}, 0.0),
        ({(0, 2, 5), (0, 0, 1), (1, 6, 19)}, np.nan),
        ({(0, 2, v) for v in range(10)}, 0.0),  # half of a frame may be lost
        ({(0, 2, v) for v in range(11)}, np.inf),
        ({(0, 0, v) for v in range(V)}, 0.0),
        ({(1, t, v) for v in range(V) for t in range(7)}, 0.0),
        ({(0, t, v) for v in range(V) for t in range(7)}, -np.inf),
    ],
)
def test_missing_data_matches_the_slow_twin(tmp_path, lose, value):
    joints = body(2, 7)
    for m, t, v in lose:
        joints[m, t, v] = value
    store = make(tmp_path, [Recording("x", joints)])
    expected, repaired, gap = missing_twin(joints)
    np.testing.assert_array_equal(store.recording(0), expected)
    flags = Flag(int(store.index["flags"][0]))
    assert (Flag.REPAIRED in flags, Flag.GAP in flags) == (repaired, gap)
    assert store.clips([0]).gaps == gap
    assert store.index["first"][0] == int(np.argmin(np.isnan(expected[0]).all((1, 2))))


def test_one_infinite_coordinate_loses_the_joint_not_the_frame(tmp_path):
    joints = body(1, 3)
    joints[0, 1, 4, 2] = np.inf
    stored = make(tmp_path, [Recording("x", joints)]).recording(0)
    assert np.isnan(stored[0, 1, 4]).all()
    assert np.isnan(stored).sum() == 3


def test_a_single_zero_coordinate_is_a_coordinate(tmp_path):
    joints = body(1, 3)
    joints[0, 1, 4, :2] = 0
    np.testing.assert_array_equal(make(tmp_path, [Recording("x", joints)]).recording(0), joints)


def test_bodies_and_files_that_cannot_be_used(tmp_path):
    second = body(2, 4)
    second[1, :, 7] = 0
    never = body(1, 4)
    never[0, :, 7] = np.nan
    made = [Recording("a", second), Recording("b", never), Recording("c", np.zeros((1, 4, V, 3), np.float32))]
    made += [Recording("d", np.zeros((0, 4, V, 3), np.float32)), Recording("e", body(1, 4)[:, :, :19])]
    store = make(tmp_path, made, max_failed=1.0)
    assert store.ids.tolist() == ["a"]
    assert store.index["n_bodies"].tolist() == [1]
    reasons = {notice["id"]: (notice["outcome"], notice["reason"]) for notice in store.report["notices"]}
    assert reasons == {
        "a": ("warning", "body_dropped"),
        "b": ("failed", "joint_never_seen"),
        "c": ("failed", "no_skeleton"),
        "d": ("failed", "no_skeleton"),
        "e": ("failed", "shape"),
    }
    assert store.report["files"] == 5
