"""Every format of poses against hand-made miniature files."""

import csv
import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from skelcl.data.poses.contents import Poses
from skelcl.data.poses.formats import FORMATS, Format, table
from skelcl.data.poses.layouts import map_layout
from skelcl.data.poses.tracking import track
from skelcl.data.schema import Flag
from skelcl.data.store import StoreError
from skelcl.skeleton import COCO17, H36M17, MEDIAPIPE33, NTU25, OPENPOSE25

T = 4


def poses(bodies=1, joints=3, channels=3, seed=0, frames=T):
    """Coordinates with three decimals, so that every format holds them exactly."""
    values = np.random.default_rng(seed).uniform(1, 9, (bodies, frames, joints, channels))
    return values.round(3).astype(np.float32)


def turned(joints):
    """What estimators call (x, y) down is stored as (−x, −y) up."""
    return joints * np.array([-1, -1, 1], np.float32)[: joints.shape[-1]]


# --- writers: one per format, independent of the readers --------------------------------------------------------------


def write_long(file, joints, names, confidence=None):
    axes = "xyz"[: joints.shape[-1]]
    with file.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["frame", "person", "joint", *axes, *(["confidence"] if confidence is not None else [])])
        for m, t, v in np.random.default_rng(0).permutation(list(np.ndindex(joints.shape[:3]))):
            sure = [confidence[m, t, v]] if confidence is not None else []
            table.writerow([10 + t, m, names[v], *(f"{value:.3f}" for value in joints[m, t, v]), *sure])


def write_wide(file, joints, names):
    axes = "xyz"[: joints.shape[-1]]
    with file.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["Frame", *(f"{name.replace(' ', '_').title()}_{axis}" for name in names for axis in axes)])
        for t, frame in enumerate(joints[0]):
            table.writerow([t, *(f"{value:.3f}" for value in frame.ravel())])


def mediapipe_frames(joints, key="world_landmarks", visibility=0.9):
    return [
        {key: [dict(zip("xyz", map(float, joint), strict=False), visibility=visibility) for joint in frame]}
        for frame in joints[0]
    ]


def write_openpose(folder, people_of_frames, key="pose_keypoints_2d", stem="clip", ids=None):
    folder.mkdir(parents=True, exist_ok=True)
    for t, people in people_of_frames.items():
        content = {"version": 1.3, "people": []}
        for n, person in enumerate(people):
            number = [-1] if ids is None else [ids[t][n]]
            content["people"].append({"person_id": number, key: np.asarray(person, float).ravel().tolist()})
        (folder / f"{stem}_{t:012d}_keypoints.json").write_text(json.dumps(content))


def sure(joints, confidence=1.0):
    return np.concatenate([joints, np.full((*joints.shape[:-1], 1), confidence, np.float32)], -1)


# --- each format ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("kind", ["long", "wide"])
def test_csv(imported, puppet, tmp_path, kind, channels):
    joints = poses(2 if kind == "long" else 1, 3, channels)
    write = write_long if kind == "long" else write_wide
    write(tmp_path / "in" / "a.csv", joints, ["hip", "left hand", "right hand"])
    store = imported("csv", layout=str(puppet))
    assert (store.channels, store.meta.get("channels", 3)) == (channels, channels)
    np.testing.assert_array_equal(store.recording(0), joints)


def test_csv_joints_by_place_lost_rows_and_confidence(imported, puppet, tmp_path):
    lines = ["frame,joint,x,y,confidence"]
    lines += [f"{t},{v},{t + 1},{v + 1},{0.2 if (t, v) == (2, 1) else 0.9}" for t in (0, 1, 2, 4) for v in range(3)]
    (tmp_path / "in" / "a.csv").write_text("\n".join(line for line in lines if line != "1,2,2,3,0.9"))
    store = imported("csv", layout=str(puppet), min_confidence=0.5)
    expected = np.array([[[t + 1, v + 1] for v in range(3)] for t in range(5)], np.float32)[None]
    expected[0, 2, 1] = expected[0, 1, 2] = expected[0, 3] = np.nan
    np.testing.assert_array_equal(store.recording(0), expected)
    assert store.index["flags"][0] == Flag.REPAIRED | Flag.GAP


@pytest.mark.parametrize("format", ["npy", "npz", "json"])
@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("bodies", [1, 2])
def test_arrays(imported, tmp_path, format, channels, bodies):
    joints = poses(bodies, 17, channels)
    values = joints[0] if bodies == 1 else joints
    file = tmp_path / "in" / f"a.{format}"
    if format == "npy":
        np.save(file, values)
    elif format == "npz":
        np.savez(file, keypoints=values)
    else:
        file.write_text(json.dumps(values.tolist()))
    store = imported(format, layout="coco17")
    np.testing.assert_array_equal(store.recording(0), joints)
    assert store.skeleton == COCO17


def test_the_container_says_everything_itself(imported, tmp_path):
    confidence = np.ones((1, T, 17), np.float32)
    confidence[0, 1, 3] = 0
    facts = {"label": "wave", "id": "first", "fps": 25.0, "layout": "coco17", "subject": 7, "camera": 2}
    joints = poses(1, 17, 2)
    np.savez(tmp_path / "in" / "x.npz", keypoints=joints, confidence=confidence, **facts)
    (tmp_path / "in" / "sub").mkdir()
    np.savez(tmp_path / "in" / "sub" / "y.npz", keypoints=joints + 1, **facts | {"id": "second", "label": "bow"})
    store = imported("npz")
    assert store.ids.tolist() == ["first", "second"]
    assert store.meta["classes"] == ["bow", "wave"]
    assert store.index["label"].tolist() == [1, 0]
    assert store.index["subject"].tolist() == [7, 7]
    assert store.index["camera"].tolist() == [2, 2]
    assert (store.meta["fps"], store.skeleton) == (25.0, COCO17)
    expected = joints.copy()
    expected[0, 1, 3] = np.nan
    np.testing.assert_array_equal(store.recording(0), expected)


def test_json_holds_the_same_as_the_container(imported, tmp_path):
    joints = poses(1, 17, 3)
    content = {"keypoints": joints.tolist(), "confidence": np.ones((1, T, 17)).tolist(), "layout": "h36m17", "label": 3}
    content["keypoints"][0][2][5] = [None, None, None]
    (tmp_path / "in" / "a.json").write_text(json.dumps(content))
    store = imported("json")
    joints[0, 2, 5] = np.nan
    np.testing.assert_array_equal(store.recording(0), joints)
    assert (store.skeleton, store.meta["classes"]) == (H36M17, ["3"])


def test_a_column_more_is_the_confidence(imported, tmp_path):
    joints = poses(1, 17, 2)
    scored = sure(joints)
    scored[0, 0, 4, 2] = 0.1
    np.save(tmp_path / "in" / "a.npy", scored)
    store = imported("npy", layout="coco17", channels=2, min_confidence=0.3)
    joints[0, 0, 4] = np.nan
    np.testing.assert_array_equal(store.recording(0), joints)


@pytest.mark.parametrize("zero_missing", [True, False])
def test_what_zeros_mean_is_asked(imported, tmp_path, zero_missing):
    joints = poses(1, 17, 3)
    joints[:, :, 3] -= joints[:, :, 3]
    joints[0, 2] = 0
    np.save(tmp_path / "in" / "a.npy", joints)
    if zero_missing:
        with pytest.raises(StoreError, match=r"joint 'right ankle' is missing in every frame"):
            imported("npy", layout="h36m17")
        return
    store = imported("npy", layout="h36m17", zero_missing=False)
    joints[0, 2] = np.nan
    np.testing.assert_array_equal(store.recording(0), joints)


@pytest.mark.parametrize("wrapped", ["plain", "frames", "persons", "prefixed"])
def test_mediapipe(imported, tmp_path, wrapped):
    joints = poses(1, 33, 3)
    frames = mediapipe_frames(joints)
    if wrapped == "persons":
        frames = [{"world_landmarks": [frame["world_landmarks"]]} for frame in frames]
    elif wrapped == "prefixed":
        frames = [{"pose_world_landmarks": frame["world_landmarks"]} for frame in frames]
    frames[1:1] = [None, {"world_landmarks": []}]
    content = {"frames": frames} if wrapped == "frames" else frames
    (tmp_path / "in" / "a.json").write_text(json.dumps(content))
    store = imported("mediapipe")
    expected = np.insert(turned(joints), [1, 1], np.nan, axis=1)
    np.testing.assert_array_equal(store.recording(0), expected)
    assert (store.skeleton, store.meta["units"]) == (MEDIAPIPE33, "m")


def test_mediapipe_in_the_image(imported, tmp_path):
    joints = poses(1, 33, 3)
    frames = mediapipe_frames(joints, "landmarks")
    frames[0]["landmarks"][5]["visibility"] = 0.1
    (tmp_path / "in" / "a.json").write_text(json.dumps(frames))
    store = imported("mediapipe", min_confidence=0.5)
    expected = turned(joints[..., :2])
    expected[0, 0, 5] = np.nan
    np.testing.assert_array_equal(store.recording(0), expected)


def test_world_landmarks_between_the_hips_are_no_missing_joint(imported, tmp_path):
    """MediaPipe's origin lies there, so a synthesised hip centre is zero in every frame."""
    joints = poses(1, 33, 3)
    joints -= joints[:, :, 23:25].mean(2, keepdims=True)
    joints[:, :, 24] = -joints[:, :, 23]
    (tmp_path / "in" / "a.json").write_text(json.dumps(mediapipe_frames(joints)))
    store = imported("mediapipe", to="ntu25")
    assert (store.recording(0)[:, :, 0] == 0).all()
    assert store.index["flags"].tolist() == [0]
    np.testing.assert_allclose(store.recording(0), map_layout(MEDIAPIPE33, NTU25)(turned(joints)), atol=1e-6)


@pytest.mark.parametrize(("joints_per_body", "name"), [(25, "openpose25"), (18, "openpose18")])
def test_openpose(imported, tmp_path, joints_per_body, name):
    joints = poses(1, joints_per_body, 2)
    scored = sure(joints, 0.8)
    scored[0, 1, 2] = 0  # what OpenPose writes for a joint that it did not find
    write_openpose(tmp_path / "in" / "wave" / "c1", {7 + t: [scored[0, t]] for t in range(T)} | {7 + T: []})
    store = imported("openpose")
    expected = np.concatenate([turned(joints), np.full((1, 1, joints_per_body, 2), np.nan, np.float32)], 1)
    expected[0, 1, 2] = np.nan
    np.testing.assert_array_equal(store.recording(0), expected)
    assert (store.skeleton.name, store.ids.tolist(), store.meta["classes"]) == (name, ["wave/c1"], ["wave"])


def test_openpose_in_3d(imported, tmp_path):
    joints = poses(1, 25, 3)
    write_openpose(tmp_path / "in" / "c", {t: [sure(joints)[0, t]] for t in range(T)}, "pose_keypoints_3d")
    store = imported("openpose")
    np.testing.assert_array_equal(store.recording(0), turned(joints))
    assert store.skeleton == OPENPOSE25


@pytest.mark.parametrize("named", [False, True])
def test_two_people_in_changing_order_are_followed(imported, tmp_path, named):
    one, two = poses(1, 25, 2)[0], poses(1, 25, 2, seed=1)[0] + 100
    one, two = (np.repeat(body[:1], T, 0) + np.arange(T)[:, None, None].astype(np.float32) for body in (one, two))
    frames = {t: [sure(one)[t], sure(two)[t]][:: 1 if t % 2 else -1] for t in range(T)}
    frames[2] = frames[2][:1]  # two alone
    ids = {t: [4, 9][:: 1 if t % 2 else -1] for t in range(T)} if named else None
    write_openpose(tmp_path / "in" / "c", frames, ids=ids)
    store = imported("openpose")
    first, second = store.recording(0)
    np.testing.assert_array_equal(first, turned(two))  # seen longest
    np.testing.assert_array_equal(second[[0, 1, 3]], turned(one)[[0, 1, 3]])
    assert np.isnan(second[2]).all()


def test_max_bodies_are_those_seen_longest(imported, tmp_path):
    bodies = [poses(1, 25, 2, seed=n)[0] + 100 * n for n in range(3)]
    frames = {t: [sure(body)[t] for n, body in enumerate(bodies) if n == 2 or t > n] for t in range(T)}
    write_openpose(tmp_path / "in" / "c", frames, ids={t: [n for n in range(3) if n == 2 or t > n] for t in range(T)})
    store = imported("openpose", max_bodies=1)
    np.testing.assert_array_equal(store.recording(0), turned(bodies[2])[None])
    assert "3 bodies; the 1 that are seen longest" in store.report["notices"][0]["message"]


def test_tracks_do_not_jump_between_people():
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, 5, (3, 17, 2)) + np.array([[[0, 0]], [[40, 0]], [[0, 40]]])
    walk = np.cumsum(rng.normal(0, 0.3, (30, 3, 1, 2)), 0)
    frames, truth = [], []
    for t in range(30):
        order = [n for n in rng.permutation(3) if rng.random() < 0.8]
        frames.append([sure((starts[n] + walk[t, n]).astype(np.float32)) for n in order])
        truth.append(order)
    found = track(frames)
    names = {}
    for expected, numbers in zip(truth, found, strict=True):
        for n, number in zip(expected, numbers, strict=True):
            assert names.setdefault(number, n) == n
    assert len(names) == 3


@pytest.mark.parametrize("image_id", [lambda t: 100 + t, lambda t: f"frame_{t:04d}.jpg"], ids=["number", "file"])
def test_coco(imported, tmp_path, image_id):
    joints = poses(1, 17, 2)
    persons = [
        {"image_id": image_id(t), "category_id": 1, "keypoints": sure(joints)[0, t].ravel().tolist(), "score": 0.9}
        for t in (3, 0, 1)
    ]
    (tmp_path / "in" / "a.json").write_text(json.dumps(persons, default=float))
    store = imported("coco")
    expected = turned(joints)
    expected[0, 2] = np.nan
    np.testing.assert_array_equal(store.recording(0), expected)
    assert store.skeleton == COCO17


@pytest.mark.parametrize(("size", "name"), [(17, "coco17"), (26, "halpe26")])
def test_alphapose(imported, tmp_path, size, name):
    joints = poses(2, size, 2)
    persons = [
        {"image_id": f"{t}.jpg", "keypoints": sure(joints)[m, t].ravel().tolist(), "idx": [[m + 1.0]], "score": 2.9}
        for t in range(T)
        for m in (1, 0)
    ]
    (tmp_path / "in" / "a.json").write_text(json.dumps(persons, default=float))
    store = imported("alphapose")
    np.testing.assert_array_equal(store.recording(0), turned(joints))
    assert store.skeleton.name == name


def test_a_window_keeps_how_sure_each_joint_is():
    joints, sure = poses(2), np.random.default_rng(0).random((2, T, 3), np.float32)
    part = Poses(joints, sure, label="wave", layout="coco17", others=1).window(2, 4)
    np.testing.assert_array_equal(part.joints, joints[:, 2:4])
    np.testing.assert_array_equal(part.confidence, sure[:, 2:4])
    assert (part.label, part.layout, part.others) == (None, "coco17", 1)
    assert Poses(joints).window(0, 1).confidence is None


def test_every_format_is_listed_once():
    assert get_args(Format) == tuple(name for name in get_args(Format) if name in FORMATS)
    assert len(FORMATS) == len(get_args(Format))


def test_the_guide_lists_every_format():
    """Write what ``skelcl.data.poses.formats.table`` gives between the marks."""
    guide = (Path(__file__).parents[3] / "experiments" / "guides" / "your-data.md").read_text("utf-8")
    found = guide.partition("<!-- formats -->\n")[2].partition("\n<!-- /formats -->")[0]
    assert found == table()
    assert all(
        all(vars(facts)[name] for name in ("tools", "clip", "content", "confidence", "lost"))
        for facts in FORMATS.values()
    )
