"""Every format of poses against hand-made miniature files, and against files that are wrong."""

import csv
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skelcl.data.commands import COMMANDS
from skelcl.data.convert import ReadError
from skelcl.data.formats.nw_ucla import prepare
from skelcl.data.formats.poses import load, track
from skelcl.data.formats.synthetic import write_nw_ucla
from skelcl.data.formats.synthetic_poses import landmarks, write_mediapipe
from skelcl.data.import_poses import convert_poses, fill_unseen, read_labels
from skelcl.data.layouts import find_layout, map_layout
from skelcl.data.store import Flag, SkeletonStore, StoreError
from skelcl.errors import InputError
from skelcl.parsing import call
from skelcl.skeleton import COCO17, H36M17, MEDIAPIPE33, NTU25, OPENPOSE25

T = 4
PUPPET = "{joints: [hip, left hand, right hand], parents: [hip, hip, hip], up: [hip, left hand], across: [2, 1]}"


def poses(bodies=1, joints=3, channels=3, seed=0, frames=T):
    """Coordinates with three decimals, so that every format holds them exactly."""
    values = np.random.default_rng(seed).uniform(1, 9, (bodies, frames, joints, channels))
    return values.round(3).astype(np.float32)


def run(*words):
    return call("skelcl data", COMMANDS, [str(word) for word in words])


@pytest.fixture
def layout(tmp_path):
    file = tmp_path / "puppet.yaml"
    file.write_text(PUPPET)
    return file


@pytest.fixture
def made(tmp_path):
    """Imports ``tmp_path / 'in'``."""

    def make(format, name="mine", **options):
        return convert_poses(tmp_path / "in", name, tmp_path / "data", format, **options)

    (tmp_path / "in").mkdir()
    return make


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
def test_csv(made, layout, tmp_path, kind, channels):
    joints = poses(2 if kind == "long" else 1, 3, channels)
    write = write_long if kind == "long" else write_wide
    write(tmp_path / "in" / "a.csv", joints, ["hip", "left hand", "right hand"])
    store = made("csv", layout=str(layout))
    assert (store.channels, store.meta.get("channels", 3)) == (channels, channels)
    np.testing.assert_array_equal(store.recording(0), joints)


def test_csv_joints_by_place_lost_rows_and_confidence(made, layout, tmp_path):
    lines = ["frame,joint,x,y,confidence"]
    lines += [f"{t},{v},{t + 1},{v + 1},{0.2 if (t, v) == (2, 1) else 0.9}" for t in (0, 1, 2, 4) for v in range(3)]
    (tmp_path / "in" / "a.csv").write_text("\n".join(line for line in lines if line != "1,2,2,3,0.9"))
    store = made("csv", layout=str(layout), min_confidence=0.5)
    expected = np.array([[[t + 1, v + 1] for v in range(3)] for t in range(5)], np.float32)[None]
    expected[0, 2, 1] = expected[0, 1, 2] = expected[0, 3] = np.nan
    np.testing.assert_array_equal(store.recording(0), expected)
    assert store.index["flags"][0] == Flag.REPAIRED | Flag.GAP


@pytest.mark.parametrize("format", ["npy", "npz", "json"])
@pytest.mark.parametrize("channels", [2, 3])
@pytest.mark.parametrize("bodies", [1, 2])
def test_arrays(made, tmp_path, format, channels, bodies):
    joints = poses(bodies, 17, channels)
    values = joints[0] if bodies == 1 else joints
    file = tmp_path / "in" / f"a.{format}"
    if format == "npy":
        np.save(file, values)
    elif format == "npz":
        np.savez(file, keypoints=values)
    else:
        file.write_text(json.dumps(values.tolist()))
    store = made(format, layout="coco17")
    np.testing.assert_array_equal(store.recording(0), joints)
    assert store.skeleton == COCO17


def test_the_container_says_everything_itself(made, tmp_path):
    confidence = np.ones((1, T, 17), np.float32)
    confidence[0, 1, 3] = 0
    facts = {"label": "wave", "id": "first", "fps": 25.0, "layout": "coco17", "subject": 7, "camera": 2}
    joints = poses(1, 17, 2)
    np.savez(tmp_path / "in" / "x.npz", keypoints=joints, confidence=confidence, **facts)
    (tmp_path / "in" / "sub").mkdir()
    np.savez(tmp_path / "in" / "sub" / "y.npz", keypoints=joints + 1, **facts | {"id": "second", "label": "bow"})
    store = made("npz")
    assert store.ids.tolist() == ["first", "second"]
    assert store.meta["classes"] == ["bow", "wave"]
    assert store.index["label"].tolist() == [1, 0]
    assert store.index["subject"].tolist() == [7, 7]
    assert store.index["camera"].tolist() == [2, 2]
    assert (store.meta["fps"], store.skeleton) == (25.0, COCO17)
    expected = joints.copy()
    expected[0, 1, 3] = np.nan
    np.testing.assert_array_equal(store.recording(0), expected)


def test_json_holds_the_same_as_the_container(made, tmp_path):
    joints = poses(1, 17, 3)
    content = {"keypoints": joints.tolist(), "confidence": np.ones((1, T, 17)).tolist(), "layout": "h36m17", "label": 3}
    content["keypoints"][0][2][5] = [None, None, None]
    (tmp_path / "in" / "a.json").write_text(json.dumps(content))
    store = made("json")
    joints[0, 2, 5] = np.nan
    np.testing.assert_array_equal(store.recording(0), joints)
    assert (store.skeleton, store.meta["classes"]) == (H36M17, ["3"])


def test_a_column_more_is_the_confidence(made, tmp_path):
    joints = poses(1, 17, 2)
    scored = sure(joints)
    scored[0, 0, 4, 2] = 0.1
    np.save(tmp_path / "in" / "a.npy", scored)
    store = made("npy", layout="coco17", channels=2, min_confidence=0.3)
    joints[0, 0, 4] = np.nan
    np.testing.assert_array_equal(store.recording(0), joints)


@pytest.mark.parametrize("zero_missing", [True, False])
def test_what_zeros_mean_is_asked(made, tmp_path, zero_missing):
    joints = poses(1, 17, 3)
    joints[:, :, 3] -= joints[:, :, 3]
    joints[0, 2] = 0
    np.save(tmp_path / "in" / "a.npy", joints)
    if zero_missing:
        with pytest.raises(StoreError, match=r"joint 'right ankle' is missing in every frame"):
            made("npy", layout="h36m17")
        return
    store = made("npy", layout="h36m17", zero_missing=False)
    joints[0, 2] = np.nan
    np.testing.assert_array_equal(store.recording(0), joints)


@pytest.mark.parametrize("wrapped", ["plain", "frames", "persons", "prefixed"])
def test_mediapipe(made, tmp_path, wrapped):
    joints = poses(1, 33, 3)
    frames = mediapipe_frames(joints)
    if wrapped == "persons":
        frames = [{"world_landmarks": [frame["world_landmarks"]]} for frame in frames]
    elif wrapped == "prefixed":
        frames = [{"pose_world_landmarks": frame["world_landmarks"]} for frame in frames]
    frames[1:1] = [None, {"world_landmarks": []}]
    content = {"frames": frames} if wrapped == "frames" else frames
    (tmp_path / "in" / "a.json").write_text(json.dumps(content))
    store = made("mediapipe")
    expected = np.insert(turned(joints), [1, 1], np.nan, axis=1)
    np.testing.assert_array_equal(store.recording(0), expected)
    assert (store.skeleton, store.meta["units"]) == (MEDIAPIPE33, "m")


def test_mediapipe_in_the_image(made, tmp_path):
    joints = poses(1, 33, 3)
    frames = mediapipe_frames(joints, "landmarks")
    frames[0]["landmarks"][5]["visibility"] = 0.1
    (tmp_path / "in" / "a.json").write_text(json.dumps(frames))
    store = made("mediapipe", min_confidence=0.5)
    expected = turned(joints[..., :2])
    expected[0, 0, 5] = np.nan
    np.testing.assert_array_equal(store.recording(0), expected)


def test_world_landmarks_between_the_hips_are_no_missing_joint(made, tmp_path):
    """MediaPipe's origin lies there, so a synthesised hip centre is zero in every frame."""
    joints = poses(1, 33, 3)
    joints -= joints[:, :, 23:25].mean(2, keepdims=True)
    joints[:, :, 24] = -joints[:, :, 23]
    (tmp_path / "in" / "a.json").write_text(json.dumps(mediapipe_frames(joints)))
    store = made("mediapipe", to="ntu25")
    assert (store.recording(0)[:, :, 0] == 0).all()
    assert store.index["flags"].tolist() == [0]
    np.testing.assert_allclose(store.recording(0), map_layout(MEDIAPIPE33, NTU25)(turned(joints)), atol=1e-6)


@pytest.mark.parametrize(("joints_per_body", "name"), [(25, "openpose25"), (18, "openpose18")])
def test_openpose(made, tmp_path, joints_per_body, name):
    joints = poses(1, joints_per_body, 2)
    scored = sure(joints, 0.8)
    scored[0, 1, 2] = 0  # what OpenPose writes for a joint that it did not find
    write_openpose(tmp_path / "in" / "wave" / "c1", {7 + t: [scored[0, t]] for t in range(T)} | {7 + T: []})
    store = made("openpose")
    expected = np.concatenate([turned(joints), np.full((1, 1, joints_per_body, 2), np.nan, np.float32)], 1)
    expected[0, 1, 2] = np.nan
    np.testing.assert_array_equal(store.recording(0), expected)
    assert (store.skeleton.name, store.ids.tolist(), store.meta["classes"]) == (name, ["wave/c1"], ["wave"])


def test_openpose_in_3d(made, tmp_path):
    joints = poses(1, 25, 3)
    write_openpose(tmp_path / "in" / "c", {t: [sure(joints)[0, t]] for t in range(T)}, "pose_keypoints_3d")
    store = made("openpose")
    np.testing.assert_array_equal(store.recording(0), turned(joints))
    assert store.skeleton == OPENPOSE25


@pytest.mark.parametrize("named", [False, True])
def test_two_people_in_changing_order_are_followed(made, tmp_path, named):
    one, two = poses(1, 25, 2)[0], poses(1, 25, 2, seed=1)[0] + 100
    one, two = (np.repeat(body[:1], T, 0) + np.arange(T)[:, None, None].astype(np.float32) for body in (one, two))
    frames = {t: [sure(one)[t], sure(two)[t]][:: 1 if t % 2 else -1] for t in range(T)}
    frames[2] = frames[2][:1]  # two alone
    ids = {t: [4, 9][:: 1 if t % 2 else -1] for t in range(T)} if named else None
    write_openpose(tmp_path / "in" / "c", frames, ids=ids)
    store = made("openpose")
    first, second = store.recording(0)
    np.testing.assert_array_equal(first, turned(two))  # seen longest
    np.testing.assert_array_equal(second[[0, 1, 3]], turned(one)[[0, 1, 3]])
    assert np.isnan(second[2]).all()


def test_max_bodies_are_those_seen_longest(made, tmp_path):
    bodies = [poses(1, 25, 2, seed=n)[0] + 100 * n for n in range(3)]
    frames = {t: [sure(body)[t] for n, body in enumerate(bodies) if n == 2 or t > n] for t in range(T)}
    write_openpose(tmp_path / "in" / "c", frames, ids={t: [n for n in range(3) if n == 2 or t > n] for t in range(T)})
    store = made("openpose", max_bodies=1)
    np.testing.assert_array_equal(store.recording(0), turned(bodies[2])[None])
    assert "3 bodies; the 1 that are seen longest" in store.report["notices"][0]["message"]


@pytest.mark.parametrize("image_id", [lambda t: 100 + t, lambda t: f"frame_{t:04d}.jpg"], ids=["number", "file"])
def test_coco(made, tmp_path, image_id):
    joints = poses(1, 17, 2)
    persons = [
        {"image_id": image_id(t), "category_id": 1, "keypoints": sure(joints)[0, t].ravel().tolist(), "score": 0.9}
        for t in (3, 0, 1)
    ]
    (tmp_path / "in" / "a.json").write_text(json.dumps(persons, default=float))
    store = made("coco")
    expected = turned(joints)
    expected[0, 2] = np.nan
    np.testing.assert_array_equal(store.recording(0), expected)
    assert store.skeleton == COCO17


@pytest.mark.parametrize(("size", "name"), [(17, "coco17"), (26, "halpe26")])
def test_alphapose(made, tmp_path, size, name):
    joints = poses(2, size, 2)
    persons = [
        {"image_id": f"{t}.jpg", "keypoints": sure(joints)[m, t].ravel().tolist(), "idx": [[m + 1.0]], "score": 2.9}
        for t in range(T)
        for m in (1, 0)
    ]
    (tmp_path / "in" / "a.json").write_text(json.dumps(persons, default=float))
    store = made("alphapose")
    np.testing.assert_array_equal(store.recording(0), turned(joints))
    assert store.skeleton.name == name


# --- files that are wrong ---------------------------------------------------------------------------------------------

JOINT = {"x": 1, "y": 2, "z": 3}
BAD = {
    "json": {
        "empty": "",
        "cut": '{"keypoints": [[[1, 2, 3]',
        "keys": '{"label": 1}',
        "unknown": '{"keypoint": [[[1, 2, 3]]]}',
        "text": '{"keypoints": [[["a", 1, 2]]]}',
        "ragged": '{"keypoints": [[[1, 2, 3], [1, 2]]]}',
        "flat": '{"keypoints": [1, 2, 3]}',
        "none": '{"keypoints": []}',
        "wide": '{"keypoints": [[[1, 2, 3, 4, 5]]]}',
        "confidence": '{"keypoints": [[[1, 2, 3]]], "confidence": [[1, 1]]}',
        "label": '{"keypoints": [[[1, 2, 3]]], "label": [1]}',
        "subject": '{"keypoints": [[[1, 2, 3]]], "subject": 1.5}',
        "number": "7",
    },
    "mediapipe": {
        "object": "{}",
        "nobody": "[null, {}]",
        "frame": "[3]",
        "landmarks": '[{"world_landmarks": 3}]',
        "landmark": '[{"world_landmarks": [{"x": 1}]}]',
        "text": json.dumps([{"world_landmarks": [JOINT | {"x": "left"}]}]),
        "changes": json.dumps([{"world_landmarks": [JOINT]}, {"world_landmarks": [JOINT, JOINT]}]),
    },
    "coco": {
        "object": "{}",
        "empty": "[]",
        "entry": "[3]",
        "image": '[{"keypoints": [1, 2, 3]}]',
        "three": '[{"image_id": 1, "keypoints": [1, 2, 3, 4]}]',
        "missing": '[{"image_id": 1}]',
        "null": '[{"image_id": 1, "keypoints": [1, 2, {}]}]',
        "far": '[{"image_id": 1, "keypoints": [1, 2, 3]}, {"image_id": 900000000, "keypoints": [1, 2, 3]}]',
        "differ": '[{"image_id": 1, "keypoints": [1, 2, 3]}, {"image_id": 1, "keypoints": [1, 2, 3, 4, 5, 6]}]',
    },
    "alphapose": {
        "twice": json.dumps(2 * [{"image_id": 1, "keypoints": [1, 2, 3], "idx": 1}]),
    },
    "csv": {
        "empty": "",
        "header": "frame,joint,x,y\n",
        "column": "frame,joint,x\n1,hip,2\n",
        "cells": "frame,joint,x,y\n1,hip,2\n",
        "joint": "frame,joint,x,y\n1,tail,2,3\n",
        "number": "frame,joint,x,y\n1,hip,2,three\n",
        "frame": "frame,joint,x,y\nfirst,hip,2,3\n",
        "twice": "frame,joint,x,y\n1,hip,2,3\n1,0,2,3\n",
        "names": "frame,joint,x,x\n1,hip,2,3\n",
        "wide": "frame,hip_x,hip_y\n1,2,3\n",
        "far": "frame,joint,x,y\n1,hip,2,3\n999999999,hip,2,3\n",
    },
    "npy": {"empty": "", "text": "not an array"},
    "npz": {"empty": "", "text": "PK not a zip"},
    "openpose": {
        "empty": "",
        "keys": "{}",
        "people": '{"people": [3]}',
        "flat": '{"people": [{"pose_keypoints_2d": [1, 2]}]}',
    },
}  # fmt: skip


@pytest.mark.parametrize(("format", "case"), [(format, case) for format, cases in BAD.items() for case in cases])
def test_a_wrong_file_is_one_line_that_names_it(made, tmp_path, layout, format, case):
    suffix = {"csv": ".csv", "npy": ".npy", "npz": ".npz"}.get(format, ".json")
    name = f"c_000_keypoints{suffix}" if format == "openpose" else f"c{suffix}"
    file = tmp_path / "in" / name
    file.write_text(BAD[format][case])
    with pytest.raises(ReadError) as caught:
        load(format, [file], layout=find_layout(layout))
    assert str(file.parent if "people differ" in str(caught.value) else tmp_path / "in") in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="can be read as") as refused:
        made(format, layout=str(layout))
    assert "\n" not in str(refused.value)


def test_a_pickle_is_refused_not_run(made, tmp_path):
    np.save(tmp_path / "in" / "a.npy", np.array([{"x": 1}], object))
    with pytest.raises(StoreError, match=r"a\.npy: cannot be read"):
        made("npy", layout="coco17")


def test_a_csv_error_names_the_line(tmp_path, layout):
    file = tmp_path / "a.csv"
    file.write_text("frame,joint,x,y\n1,hip,2,3\n\n2,hip,x,3\n")
    with pytest.raises(ReadError, match=r"a\.csv: x holds 'x', which is no number, line 4"):
        load("csv", [file], layout=find_layout(layout))


def test_one_bad_file_among_many_is_reported_and_the_others_kept(made, tmp_path):
    for n in range(4):
        np.save(tmp_path / "in" / f"{n}.npy", poses(1, 17, 3, seed=n))
    np.save(tmp_path / "in" / "4.npy", poses(1, 16, 3))
    with pytest.raises(
        StoreError, match=r"1 of 5 files .*4\.npy: holds joints \(16, 3\), not 17 joints of coco17 with 3"
    ):
        made("npy", layout="coco17")
    store = made("npy", layout="coco17", max_failed=0.2)
    assert store.ids.tolist() == ["0", "1", "2", "3"]
    assert store.report["summary"] == [{"outcome": "failed", "reason": "joints", "count": 1}]


VALID = {
    "csv": b"frame,person,joint,x,y,z,confidence\n" + b"".join(
        b"%d,%d,%d,1.5,2.5,3.5,0.9\n" % (t, m, v) for t in range(3) for m in range(2) for v in range(3)
    ),
    "json": json.dumps({"keypoints": [[[1.5, 2.5, 3.5]] * 3] * 4, "label": "a", "fps": 30}).encode(),
    "mediapipe": json.dumps([{"world_landmarks": [JOINT | {"visibility": 0.5}] * 3}] * 4).encode(),
    "openpose": json.dumps({"people": [{"person_id": [-1], "pose_keypoints_2d": [1.5, 2.5, 0.9] * 3}]}).encode(),
    "coco": json.dumps([{"image_id": t, "keypoints": [1.5, 2.5, 0.9] * 3} for t in range(4)]).encode(),
    "alphapose": json.dumps(
        [{"image_id": f"{t}.jpg", "keypoints": [1.5, 2.5, 0.9] * 3, "idx": t % 2} for t in range(4)]
    ).encode(),
}  # fmt: skip
TOKENS = [
    b"",
    b"null",
    b"-1",
    b"1e999",
    b"NaN",
    b"[]",
    b"{}",
    b'"',
    b",",
    b"\n",
    b"999999999",
    b"\x00",
    b"\xff",
    b"[[" * 50,
]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mutated")
    (folder / "puppet.yaml").write_text(PUPPET)
    for name, keywords in (("npz", {"keypoints": poses(), "label": "a"}), ("npy", None)):
        if keywords is None:
            np.save(folder / "valid.npy", poses())
        else:
            np.savez(folder / f"valid.{name}", **keywords)
    return folder


@pytest.mark.parametrize("format", [*VALID, "npy", "npz"])
@settings(max_examples=100)
@given(data=st.data())
def test_mutated_files_are_read_or_refused(scratch, format, data):
    """Only clean errors, and never a shape that is no clip's."""
    content = VALID[format] if format in VALID else (scratch / f"valid.{format}").read_bytes()
    for _ in range(data.draw(st.integers(1, 3))):
        first = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 12))
        content = (
            content[:first] + data.draw(st.sampled_from(TOKENS) | st.binary(max_size=3)) + content[first + length :]
        )
    suffix = "." + (format if format in ("csv", "npy", "npz") else "json")
    file = scratch / ("x_000_keypoints.json" if format == "openpose" else f"x{suffix}")
    file.write_bytes(content)
    try:
        found = load(format, [file], layout=find_layout(scratch / "puppet.yaml"))
    except ReadError as error:
        told = str(error)
        assert str(file.parent) in told, told
        assert "\n" not in told
        return
    bodies, frames, joints, channels = found.joints.shape
    assert 1 <= bodies <= 16
    assert 1 <= frames * joints < 10_000
    assert channels in (2, 3)
    assert found.joints.dtype == np.float32
    assert found.confidence is None or found.confidence.shape == (bodies, frames, joints)


def test_an_estimator_that_loses_track_does_not_fill_the_memory(tmp_path):
    """1,000 persons of one frame each: the 16 that come first are kept, the others counted."""
    rng = np.random.default_rng(0)
    persons = [
        {"image_id": t, "keypoints": sure(rng.uniform(0, 1, (17, 2)) + 100 * t).ravel().tolist()} for t in range(1000)
    ]
    (tmp_path / "a.json").write_text(json.dumps(persons))
    found = load("coco", [tmp_path / "a.json"])
    assert found.joints.shape == (16, 1000, 17, 2)
    assert found.others == 1000 - 16


# --- labels, ids, layouts ---------------------------------------------------------------------------------------------


def npy_tree(folder, names):
    for n, name in enumerate(names):
        file = folder / f"{name}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, poses(1, 17, 3, seed=n))


def test_folders_are_classes(made, tmp_path):
    npy_tree(tmp_path / "in", ["wave/a", "bow/a", "bow/b"])
    (tmp_path / "in" / "notes.txt").write_text("")
    store = made("npy", layout="coco17")
    assert store.ids.tolist() == ["bow/a", "bow/b", "wave/a"]
    assert store.meta["classes"] == ["bow", "wave"]
    assert store.index["label"].tolist() == [0, 0, 1]
    assert store.report["summary"] == [{"outcome": "skipped", "reason": "other_name", "count": 1}]


@pytest.mark.parametrize("beside", [False, True])
def test_a_table_of_labels_wins_over_folders(made, tmp_path, beside):
    npy_tree(tmp_path / "in", ["x/a", "x/b", "c", "d"])
    table = tmp_path / "in" / "labels.csv" if beside else tmp_path / "table.csv"
    table.write_text("id,label,subject,camera\nx/a,10,1,3\nb,9,2,\nc,,4,1\nnobody,9,1,1\n")
    store = made("npy", layout="coco17", labels=None if beside else table)
    assert store.ids.tolist() == ["c", "x/a", "x/b"]
    assert store.meta["classes"] == ["9", "10"], "numbers are ordered as numbers"
    assert store.index["label"].tolist() == [-1, 1, 0]
    assert store.index["subject"].tolist() == [4, 1, 2]
    assert store.index["camera"].tolist() == [1, 3, -1]
    reasons = {(line["reason"], line["id"]) for line in store.report["notices"]}
    assert reasons == {("not_in_labels", "d"), ("no_clip", "nobody")}


def test_other_labels_are_another_store(made, tmp_path):
    npy_tree(tmp_path / "in", ["a"])
    table = tmp_path / "in" / "labels.csv"
    table.write_text("id,label\na,x\n")
    made("npy", layout="coco17")
    table.write_text("id,label\na,y\n")
    with pytest.raises(StoreError, match="--overwrite true"):
        made("npy", layout="coco17")
    assert made("npy", layout="coco17", overwrite=True).meta["classes"] == ["y"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("id,label\n", "holds no rows"),
        ("id,class\na,b\n", "unknown column 'class'"),
        ("label\nb\n", "the column 'id' is missing"),
        ("id\nb\n", "the column 'label' is missing"),
        ("id,label\na,b\na,c\n", "line 3: id 'a' is given twice"),
        ("id,label\n,b\n", "line 2: id '' is empty"),
        ("id,label,subject\na,b,Ann\n", "line 2: subject 'Ann' is no number"),
        ("id,label,camera\na,b,500\n", "line 2: camera 500 is no number"),
        ("id,label\na\n", "1 cells under a header of 2, line 2"),
    ],
)
def test_a_wrong_table_of_labels_is_one_line(tmp_path, text, message):
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_labels(file)
    assert str(caught.value).startswith(str(file))


def test_a_table_that_names_no_clip(made, tmp_path):
    npy_tree(tmp_path / "in", ["a"])
    (tmp_path / "in" / "labels.csv").write_text("id,label\nz,1\n")
    with pytest.raises(InputError, match="names none of the clips"):
        made("npy", layout="coco17")


@pytest.mark.parametrize(
    ("format", "options", "message"),
    [
        ("npy", {}, "--layout is missing: the clips have 17 joints"),
        ("csv", {}, "no csv clips"),
        ("npy", {"layout": "coco"}, "no layout 'coco'"),
        ("npy", {"layout": "coco17", "to": "ntu25"}, "coco17 cannot become ntu25"),
        ("npy", {"layout": "coco17", "name": "../x"}, "--name '../x'"),
        ("npy", {"layout": "coco17", "max_bodies": 0}, "--max_bodies must lie between 1 and 16, not 0"),
        ("npy", {"layout": "coco17", "channels": 2, "min_confidence": 100.0}, "no frame shows a body"),
        ("openpose", {}, "no openpose clips"),
    ],
)
def test_a_wrong_import_is_one_line(made, tmp_path, format, options, message):
    npy_tree(tmp_path / "in", ["a"])
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        made(format, **options)
    assert "\n" not in str(caught.value)


def test_a_joint_that_is_never_shown(made, tmp_path):
    """Refused by default; on demand it lies on its parent, which may itself be placed."""
    joints = poses(1, 17, 3)
    joints[:, :, [COCO17.joints.index("left knee"), COCO17.joints.index("left ankle")]] = np.nan
    np.save(tmp_path / "in" / "a.npy", joints)
    with pytest.raises(StoreError, match="'left knee' is missing in every frame"):
        made("npy", layout="coco17")
    store = made("npy", layout="coco17", fill_unseen=True)
    hip = COCO17.joints.index("left hip")
    for name in ("left knee", "left ankle"):
        np.testing.assert_array_equal(store.recording(0)[:, :, COCO17.joints.index(name)], joints[:, :, hip])
    assert "left knee, left ankle" in store.report["notices"][0]["message"]


def test_filling_leaves_bodies_that_were_never_seen():
    joints = poses(2, 17, 3)
    joints[1] = np.nan
    before = joints.copy()
    assert fill_unseen(joints, COCO17) == []
    np.testing.assert_array_equal(joints, before)


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


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_verb_tells_what_is_made_up(tmp_path, capsys):
    write_mediapipe(tmp_path / "raw", subjects=1)
    run("import", "poses", "--format", "mediapipe", "--input", tmp_path / "raw", "--name", "me", "--root",
        tmp_path / "data", "--to", "h36m17", "--fps", "30")  # fmt: skip
    printed = capsys.readouterr().out
    assert "mediapipe33 → h36m17" in printed
    assert "synthesised: pelvis = +0.5·left hip +0.5·right hip; spine = " in printed
    assert "left out: nose, left eye inner" in printed
    assert f"{tmp_path / 'data' / 'me'}: 6 sequences" in printed
    store = SkeletonStore(tmp_path / "data" / "me")
    assert store.meta["parameters"]["synthesised"][0].startswith("pelvis = ")
    assert run("check", "me", "--root", tmp_path / "data") == 0
    assert "performers, cameras, setups  1, 3" in capsys.readouterr().out


def test_a_flat_store_is_checked_without_metres(made, tmp_path, capsys):
    np.save(tmp_path / "in" / "a.npy", 1000 * poses(1, 17, 2))
    store = made("npy", layout="coco17")
    assert run("check", store.path) == 0
    printed = capsys.readouterr().out
    assert "checksums" in printed
    assert " m " not in printed


@pytest.mark.parametrize("missing", ["format", "input", "name"])
def test_the_verb_asks_for_what_is_missing(tmp_path, missing):
    words = {"format": "npy", "input": tmp_path, "name": "x"}
    words.pop(missing)
    with pytest.raises(StoreError, match=f"--{missing} is missing"):
        run("import", "poses", *(text for key, value in words.items() for text in (f"--{key}", value)))


def test_a_damaged_import_names_the_verb_that_mends_it(made, tmp_path):
    npy_tree(tmp_path / "in", ["a"])
    store = made("npy", layout="coco17")
    (store.path / "joints.npy").write_bytes(b"")
    with pytest.raises(StoreError, match="skelcl data import poses --format npy --input <files> --name mine"):
        SkeletonStore(store.path)


def test_several_processes_make_the_same_store(made, tmp_path):
    npy_tree(tmp_path / "in", [f"{'ab'[n % 2]}/{n:03d}" for n in range(140)])
    one = made("npy", "one", layout="coco17", jobs=1)
    two = made("npy", "two", layout="coco17", jobs=2)
    for file in ("joints.npy", "index.npz", "report.json"):
        assert (one.path / file).read_bytes() == (two.path / file).read_bytes()


# --- generated MediaPipe ----------------------------------------------------------------------------------------------


def test_generated_people_are_the_same_every_time_and_only_once(tmp_path):
    assert write_mediapipe(tmp_path / "a", 2, 1) == write_mediapipe(tmp_path / "b", 2, 1) == 12
    for file in sorted((tmp_path / "a").rglob("*.*")):
        assert file.read_bytes() == (tmp_path / "b" / file.relative_to(tmp_path / "a")).read_bytes()
    with pytest.raises(InputError, match="holds files already"):
        write_mediapipe(tmp_path / "a", 2, 1)
    with pytest.raises(InputError, match="1–99"):
        write_mediapipe(tmp_path / "c", 0, 1)


def test_generated_landmarks_are_those_of_a_body(tmp_path):
    """Mapped back, the joints that both layouts have are where the body had them; left stays left."""
    rng = np.random.default_rng(0)
    joints = rng.normal(size=(3, 25, 3)).astype(np.float32)
    made = landmarks(joints)
    for joint, name in enumerate(MEDIAPIPE33.joints):
        if name in NTU25.joints:
            np.testing.assert_allclose(made[:, joint], joints[:, NTU25.joints.index(name)], atol=1e-6)
    at = MEDIAPIPE33.joints.index
    side = joints[:, NTU25.joints.index("left shoulder")] - joints[:, NTU25.joints.index("right shoulder")]
    assert (((made[:, at("left ear")] - made[:, at("right ear")]) * side).sum(-1) > 0).all()


def test_stores_of_3d_data_keep_their_bytes(tmp_path):
    """Byte for byte what they were before there were flat ones."""
    write_nw_ucla(tmp_path / "raw", 2, 1)
    store = prepare([tmp_path / "raw"], tmp_path / "data")
    assert "channels" not in store.meta
    assert store.meta["sha256"]["joints.npy"] == "1edb89a31f929644a9d460c2fcdfb9ec6290a714a468f9e198e2800d9adc6d02"
    assert store.meta["sources"] == "5131bba9e15115bc631e050877ab53771ae7d3222321854076aae474edbaeec6"
