"""Kinect sensors' texts and JSON against hand-made miniatures: joints, labels, subjects, and what is refused."""

import json

import numpy as np
import pytest

from skelcl.commands.data import COMMANDS
from skelcl.commands.parsing import call
from skelcl.data.poses.layouts import map_layout
from skelcl.data.poses.single import guess_format, read_clip
from skelcl.data.store import SkeletonStore, StoreError
from skelcl.errors import InputError
from skelcl.skeleton import HAND21, HAND22, KINECT20, KINECT32, LAYOUTS, NTU25

T = 4
MSR_ORDER = (
    "left shoulder", "right shoulder", "shoulder center", "spine", "left hip", "right hip", "hip center",
    "left elbow", "right elbow", "left wrist", "right wrist", "left hand", "right hand",
    "left knee", "right knee", "left ankle", "right ankle", "left foot", "right foot", "head",
)  # fmt: skip


def poses(joints=20, frames=T, seed=0):
    """Coordinates of one body, (T, V, 3), with three decimals, so that every text holds them exactly."""
    return np.random.default_rng(seed).uniform(1, 2, (frames, joints, 3)).round(3).astype(np.float32)


def text(rows):
    return "".join(" ".join(f"{value:.3f}" for value in row) + "\n" for row in rows)


def write_msr(folder, joints):
    order = [KINECT20.joints.index(name) for name in MSR_ORDER]
    sure = np.ones((T, 20, 1))
    sure[:, 3:12] = 0  # inferred
    file = folder / "a03_s07_e02_skeleton3D.txt"
    file.write_text(text(np.concatenate([joints[:, order], sure], -1).reshape(-1, 4)))
    return file


def write_utkinect(folder, joints):
    numbers = np.array([10, 12, 16, 18, 20, 22])[:, None]
    frames = np.concatenate([joints[:1] + 5, joints, joints[-1:] + 5]).reshape(6, 60)
    rows = np.concatenate([numbers, frames], -1)
    rows = np.insert(rows, 2, np.concatenate([rows[1, :1], rows[1, 1:] + 0.01]), 0)  # the same person again
    file = folder / "joints_s07_e01.txt"
    file.write_text(text(rows).replace(".000 ", " ", 1) + "23 1 2\n")  # cut off, after the action
    (folder / "actionLabel.txt").write_text("s07_e01\nhammer: 12 20\nwalk: NaN NaN\n\n")
    return file


def write_msrc12(folder, joints):
    file = folder / "P1_2_3A_p07.csv"
    rows = np.concatenate([joints, np.ones((T, 20, 1))], -1).reshape(T, 80)
    file.write_text(text(np.concatenate([np.arange(T)[:, None] * 33000 + 642926216, rows], -1)))
    return file


def write_mhad(folder, joints):
    io = pytest.importorskip("scipy.io", reason="scipy reads and writes files of MATLAB")
    order = [3, 2, 1, 0, *range(4, 20)]
    file = folder / "a3_s7_t1_skeleton.mat"
    io.savemat(file, {"d_skel": joints[:, order].transpose(1, 2, 0).astype(np.float64)})
    return file


def write_hand(folder, joints):
    file = folder / "gesture_3" / "finger_1" / "subject_7" / "essai_2" / "skeletons_world.txt"
    file.parent.mkdir(parents=True)
    file.write_text(text(joints.reshape(T, 66)))
    (file.parent / "general_information.txt").write_text("1 2 3\n")
    return file


def write_lists(folder, joints):
    file = folder / "7" / "hammer" / "12.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps([[{a: f"{x:.3f}" for a, x in zip("xyz", j, strict=True)} for j in f] for f in joints]))
    return file


def write_azure(folder, joints):
    file = folder / "hammer" / "clip.json"
    file.parent.mkdir()
    frames = [
        {
            "frame_id": 3 + t,
            "timestamp_usec": 1_000_000 + 66_667 * t,
            "bodies": [{"body_id": 2, "joint_positions": (frame * [-1000, -1000, 1000]).round().tolist()}],
        }
        for t, frame in enumerate(joints)
    ]
    file.write_text(json.dumps({"k4abt_sdk_version": "1.1", "frames": frames}))
    return file


KINDS = {
    "msr-action3d": (write_msr, 20, "hammer", 7, 15.0),
    "utkinect": (write_utkinect, 20, "hammer", 7, 15.0),
    "msrc-12": (write_msrc12, 20, "push right", 7, 30.0),
    "utd-mhad": (write_mhad, 20, "wave", 7, 30.0),
    "hands": (write_hand, 22, "expand", 7, 30.0),
    "kinect-json": (write_lists, 20, "hammer", 7, 30.0),
    "azure-kinect": (write_azure, 32, "hammer", -1, 15.0),
}
"""Format → its writer, its joints, and what the name of the file tells."""


@pytest.mark.parametrize("format", KINDS)
def test_one_command_takes_joints_labels_and_subjects(tmp_path, format):
    write, count, label, subject, fps = KINDS[format]
    (tmp_path / "in").mkdir()
    joints = poses(count)
    file = write(tmp_path / "in", joints)
    words = ["import", "poses", "--format", format, "--input", tmp_path / "in", "--name", "mine", "--root", tmp_path]
    call("skelcl data", COMMANDS, list(map(str, words)))
    store = SkeletonStore(tmp_path / "mine")
    assert (store.meta["classes"], store.meta["units"], store.meta["fps"]) == ([label], "m", fps)
    assert store.index["subject"].tolist() == [subject]
    shown = ~np.isnan(store.recording(0)[0]).any((1, 2))  # numbers of UTKinect jump
    np.testing.assert_allclose(store.recording(0)[0][shown], joints, atol=1e-5)
    assert guess_format(file) == format
    found = read_clip(file)
    assert found.skeleton.num_joints == count


def test_a_list_of_25_joints_is_of_kinect_v2(imported, tmp_path):
    joints = poses(25)
    write_lists(tmp_path / "in", joints)
    store = imported("kinect-json")
    assert store.skeleton == NTU25
    np.testing.assert_allclose(store.recording(0)[0], joints, atol=1e-5)


@pytest.mark.parametrize(("choice", "missing"), [(None, 0), ("ignore", 0), (0.0, 9), (1.0, 9)])
def test_inferred_joints_are_taken_unless_their_confidence_is_to_count(tmp_path, choice, missing):
    (tmp_path / "in").mkdir()
    write_msr(tmp_path / "in", poses())
    words = ["import", "poses", "--format", "msr-action3d", "--input", tmp_path / "in", "--name", "mine"]
    words += ["--root", tmp_path, "--fill_unseen", "true", *(() if choice is None else ("--min_confidence", choice))]
    call("skelcl data", COMMANDS, list(map(str, words)))
    store = SkeletonStore(tmp_path / "mine")
    lost = sum((abs(frame - truth) > 1e-3).any() for frame, truth in zip(
        store.recording(0)[0].transpose(1, 0, 2), poses().transpose(1, 0, 2), strict=True
    ))  # fmt: skip
    assert lost == missing
    assert store.meta["parameters"]["min_confidence"] == ("ignore" if choice is None else choice)


def test_the_first_two_people_of_a_frame_of_utkinect_are_kept_apart(imported, tmp_path):
    joints = poses()
    file = write_utkinect(tmp_path / "in", joints)
    other = np.concatenate([[[n] for n in (12, 16, 18, 20)], (joints + 3).reshape(T, 60)], -1)
    file.write_text(file.read_text() + text(other))
    store = imported("utkinect")
    assert store.index["n_bodies"].tolist() == [2]


@pytest.mark.parametrize(
    ("format", "name", "content", "message"),
    [
        ("msr-action3d", "a01_s01_e01_skeleton3D.txt", "1 2 3 1\n" * 19, "has 19 rows, not 20 for each frame"),
        ("msr-action3d", "a01_s01_e01_skeleton3D.txt", "1 2 3\n", "a row has 3 numbers, not 4, line 1"),
        ("hands", "skeletons_world.txt", "1 2 x\n", "a row has 3 numbers, not 66, line 1"),
        ("hands", "skeletons_world.txt", "1 " * 65 + "x\n", "'x' is no number, line 1"),
        ("msrc-12", "P1_1_1_p01.csv", "", "holds no rows"),
        ("kinect-json", "a.json", "[]", "holds no frames"),
        ("kinect-json", "a.json", '[[{"x": 1, "y": 2}]]', "no list of frames of joints with x, y, z"),
        ("kinect-json", "a.json", '[[{"x": 1, "y": 2, "z": 3}]]', "a frame has 1 joints, not 20"),
        ("azure-kinect", "a.json", '{"frame": [], "b": 1}', "'frames' is missing or no list of frames; the keys are"),
        ("azure-kinect", "a.json", '{"frames": [{"frame_id": 1}]}', "frame 0: the key 'bodies' is missing"),
        ("utkinect", "joints_s01_e01.txt", "1 2\n", "a row has 2 numbers, not 61"),
    ],
)
def test_a_refusal_says_what_was_found(imported, tmp_path, format, name, content, message):
    (tmp_path / "in" / name).write_text(content)
    with pytest.raises(StoreError) as caught:
        imported(format)
    assert message in str(caught.value)


def test_recordings_of_utkinect_need_their_table_of_actions(imported, tmp_path):
    for name in ("joints_s01_e01.txt", "joints_s01_e02.txt"):
        (tmp_path / "in" / name).write_text("1 2\n")
    with pytest.raises(StoreError, match=r"actionLabel\.txt: is missing"):
        imported("utkinect")


def test_a_file_of_matlab_without_a_skeleton_says_what_it_has(imported, tmp_path):
    io = pytest.importorskip("scipy.io", reason="scipy reads and writes files of MATLAB")
    io.savemat(tmp_path / "in" / "a1_s1_t1_skeleton.mat", {"depth": np.ones(3)})
    with pytest.raises(StoreError, match="'d_skel' is missing; it has depth"):
        imported("utd-mhad")


def test_azure_kinect_becomes_kinect_v2():
    change = map_layout(KINECT32, NTU25)
    assert not {name for name in change.synthesised if "mid spine" in name or "hand tip" in name}
    with pytest.raises(InputError):
        map_layout(HAND22, NTU25)


@pytest.mark.parametrize("hand", [HAND21, HAND22])
def test_fingers_of_a_hand_hang_on_its_palm(hand):
    assert hand.name in LAYOUTS
    for finger in ("thumb", "index", "middle", "ring", "pinky"):
        chain = [hand.joints.index(f"{finger} {part}") for part in ("base", "proximal", "distal", "tip")]
        assert [hand.parents[joint] for joint in chain] == [hand.parents[chain[0]], *chain[:3]]
        assert hand.joints[hand.parents[chain[0]]] == ("wrist" if hand is HAND21 else "palm")
