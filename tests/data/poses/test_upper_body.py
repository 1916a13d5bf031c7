"""People of whom a camera never shows everything: seated, or in front of a webcam."""

import json

import numpy as np
import pytest

from skelcl.data.cleaning import absent_frames
from skelcl.data.poses.reader import fill_unseen
from skelcl.data.store import StoreError
from skelcl.skeleton import MEDIAPIPE33, OPENPOSE25

HIPS = [8, 9, 12]
"""Places of the hips; of OpenPose-25 the root is between them."""
UPPER = [0, 1, 2, 3, 4, 5, 6, 7, 15, 16, 17, 18]
T = 6


def seated(seen=UPPER, frames=T):
    """(T, 25, 3) of somebody of whom only some joints are found."""
    joints = np.zeros((frames, 25, 3), np.float32)
    joints[:, seen, :2] = np.random.default_rng(0).uniform(100, 300, (frames, len(seen), 2)).round(2)
    joints[:, seen, 2] = 0.8
    return joints


def write(folder, people):
    folder.mkdir(parents=True, exist_ok=True)
    for t in range(len(people[0])):
        content = [{"pose_keypoints_2d": person[t].ravel().tolist()} for person in people]
        (folder / f"{t:012d}_keypoints.json").write_text(json.dumps({"people": content}))


def test_the_first_refusal_names_both_ways_out(imported, tmp_path):
    write(tmp_path / "in" / "c", [seated()])
    with pytest.raises(StoreError) as refused:
        imported("openpose")
    told = str(refused.value)
    assert "joints 'mid hip', 'right hip', 'right knee' and 10 more are missing in every frame" in told
    assert "--fill_unseen true places them" in told
    assert "a layout file with base and keep as --to leaves them out" in told
    assert "\n" not in told


def test_a_body_without_hips_with_made_up_joints(imported, tmp_path):
    person = seated()
    person[2, UPPER[3:]] = 0  # three of twelve joints: nobody was seen
    person[3, 4] = 0  # a wrist alone
    write(tmp_path / "in" / "c", [person])
    store = imported("openpose", fill_unseen=True)
    expected = -person[..., :2]
    expected[:, [j for j in range(25) if j not in UPPER]] = expected[:, [1]]  # the neck, one bone from the hips
    expected[2] = np.nan
    expected[3, 4] = np.nan
    np.testing.assert_array_equal(store.recording(0)[0], expected)
    assert (~np.isnan(store.recording(0)[0, [0, 1, 4, 5]])).all()


@pytest.mark.parametrize("kept", [UPPER, UPPER + HIPS])
def test_a_layout_of_what_is_seen(imported, tmp_path, kept):
    write(tmp_path / "in" / "c", [seated(sorted(kept))])
    names = [OPENPOSE25.joints[joint] for joint in sorted(kept)]
    layout = tmp_path / "upper.yaml"
    layout.write_text(
        json.dumps({"base": "openpose25", "keep": names, "center": "neck", "origin": "neck", "up": ["neck", "nose"]})
    )
    store = imported("openpose", to=str(layout))
    assert store.skeleton.joints == tuple(names)
    np.testing.assert_array_equal(store.recording(0)[0], -seated(sorted(kept))[:, sorted(kept), :2])
    assert store.index["flags"].tolist() == [0]


def test_of_a_webcam_most_joints_are_never_seen(imported, tmp_path):
    """Fewer than half of them, in every frame: a face and shoulders."""
    kept = [0, 1, 2, 5, 15, 16]
    write(tmp_path / "in" / "c", [seated(kept)])
    store = imported("openpose", fill_unseen=True)
    assert store.index["n_frames"].tolist() == [T]
    np.testing.assert_array_equal(store.recording(0)[0][:, kept], -seated(kept)[:, kept, :2])
    assert not np.isnan(store.joints).any()


def test_somebody_who_is_barely_seen_beside_a_whole_body_is_nobody(imported, tmp_path):
    whole, ghost = seated(range(25)), seated([0, 15])
    ghost[..., :2] += 1000 * (ghost[..., :2] > 0)
    write(tmp_path / "in" / "c", [whole, ghost])
    store = imported("openpose", fill_unseen=True)
    np.testing.assert_array_equal(store.recording(0), -whole[None, ..., :2])


def test_a_hip_that_comes_and_goes_takes_no_leg_away(imported, tmp_path):
    """The legs hang on it, and are not seen anyway."""
    person = seated([*UPPER, 9])
    person[[1, 2], 9] = 0
    person[0, 4:8] = 0  # eight of thirteen: still somebody
    write(tmp_path / "in" / "c", [person])
    found = imported("openpose", fill_unseen=True).recording(0)[0]
    hip = -person[:, 9, :2]
    hip[1], hip[2] = (2 * hip[0] + hip[3]) / 3, (hip[0] + 2 * hip[3]) / 3
    np.testing.assert_allclose(found[:, OPENPOSE25.joints.index("right ankle")], hip, rtol=1e-6)
    assert np.isnan(found[[1, 2], 9]).all()
    assert not np.isnan(found[[0, 3], 9]).any()


def test_a_joint_that_no_frame_shows_does_not_count():
    missing = np.zeros((2, 4, 10), bool)
    missing[..., 6:] = True
    missing[0, 1, :3] = True  # half of six
    missing[0, 2, :4] = True
    missing[1, 3] = True
    expected = np.zeros((2, 4), bool)
    expected[0, 2] = expected[1, 3] = True
    np.testing.assert_array_equal(absent_frames(missing), expected)
    assert absent_frames(np.ones((1, 2, 3), bool)).all()
    whole = np.random.default_rng(0).random((2, 9, 25)) < 0.5
    whole[0, 0] = False
    np.testing.assert_array_equal(absent_frames(whole), 2 * whole.sum(-1) > 25)


@pytest.mark.parametrize("layout", [OPENPOSE25, MEDIAPIPE33], ids=lambda layout: layout.name)
@pytest.mark.parametrize("seed", range(4))
def test_joints_are_placed_on_what_they_hang_on(layout, seed):
    """Up the tree, a bone at a time; past the root, to the nearest."""
    rng = np.random.default_rng(seed)
    joints = rng.normal(size=(2, 3, layout.num_joints, 2)).astype(np.float32)
    lost = rng.random((2, layout.num_joints)) < 0.5
    lost[:, rng.integers(layout.num_joints)] = False
    joints[np.broadcast_to(lost[:, None], joints.shape[:3])] = np.nan
    before = joints.copy()
    names = fill_unseen(joints, layout)
    assert set(names) == {layout.joints[joint] for joint in np.flatnonzero(lost.any(0))}
    bones = layout.hops()
    for body in range(2):
        for joint in range(layout.num_joints):
            source = joint
            while lost[body, source] and layout.parents[source] != source:
                source = layout.parents[source]
            if lost[body, source]:
                source = min(np.flatnonzero(~lost[body]), key=lambda other: (bones[joint, other], other))
            np.testing.assert_array_equal(joints[body, :, joint], before[body, :, source])
