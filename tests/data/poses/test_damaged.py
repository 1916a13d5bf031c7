"""Files of poses that are wrong: each is read or refused in one line that names it."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skelcl.data.poses.formats import load
from skelcl.data.poses.layouts import find_layout
from skelcl.data.poses.single import guess_format
from skelcl.data.recording import ReadError
from skelcl.data.store import StoreError


def poses(bodies=1, joints=3, channels=3, seed=0, frames=4):
    """Coordinates with three decimals, so that every format holds them exactly."""
    values = np.random.default_rng(seed).uniform(1, 9, (bodies, frames, joints, channels))
    return values.round(3).astype(np.float32)


def sure(joints, confidence=1.0):
    return np.concatenate([joints, np.full((*joints.shape[:-1], 1), confidence, np.float32)], -1)


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
        "nan": '{"keypoints": [[[1, 2, 3]]], "subject": NaN}',
        "lines": '{"keypoints": [[[1, 2, 3]]], "id": "a\\nb"}',
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
        "far": json.dumps([{"image_id": t, "keypoints": [1, 2, 3]} for t in (1, 2, 3, 900000000)]),
        "differ": '[{"image_id": 1, "keypoints": [1, 2, 3]}, {"image_id": 1, "keypoints": [1, 2, 3, 4, 5, 6]}]',
    },
    "alphapose": {
        "clips": json.dumps(
            [{"image_id": f"{c}/{t}.jpg", "keypoints": [1, 2, 3], "idx": 1} for c in (1, 2) for t in range(3)]
        ),
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
        "far": "frame,joint,x,y\n1,hip,2,3\n2,hip,2,3\n3,hip,2,3\n999999999,hip,2,3\n",
        "infinite": "frame,joint,x,y\n1,hip,2,3\ninf,hip,2,3\n",
        "half": "frame,joint,x,y\n1,hip,2,3\n1.5,hip,2,3\n",
        "persons": "person,hip_x,hip_y,left_hand_x,left_hand_y,right_hand_x,right_hand_y\n1,1,1,1,1,1,1\n2" + 6 * ",1",
        "frameless": "joint,x,y\nhip,1,2\n",
        "alike": "frame,joint,x,y,X.\n1,hip,2,3,4\n",
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
def test_a_wrong_file_is_one_line_that_names_it(imported, tmp_path, puppet, format, case):
    suffix = {"csv": ".csv", "npy": ".npy", "npz": ".npz"}.get(format, ".json")
    name = f"c_000_keypoints{suffix}" if format == "openpose" else f"c{suffix}"
    file = tmp_path / "in" / name
    file.write_text(BAD[format][case])
    with pytest.raises(ReadError) as caught:
        load(format, [file], layout=find_layout(puppet))
    assert str(file.parent if "people differ" in str(caught.value) else tmp_path / "in") in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="can be read as") as refused:
        imported(format, layout=str(puppet))
    assert "\n" not in str(refused.value)


def test_a_pickle_is_refused_not_run(imported, tmp_path):
    np.save(tmp_path / "in" / "a.npy", np.array([{"x": 1}], object))
    with pytest.raises(StoreError, match=r"a\.npy: cannot be read"):
        imported("npy", layout="coco17")


@pytest.mark.parametrize("name", ["a.npy", "a.json", "a.csv"])
def test_a_damaged_file_does_not_hide_what_the_others_are(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x93NUMPY \xff nothing")
    with pytest.raises(ReadError, match=re.escape(str(tmp_path / name))):
        guess_format(tmp_path)
    np.save(tmp_path / "b.npy", poses(1, 17, 2))
    assert guess_format(tmp_path) == "npy"


def test_a_csv_error_names_the_line(tmp_path, puppet):
    file = tmp_path / "a.csv"
    file.write_text("frame,joint,x,y\n1,hip,2,3\n\n2,hip,x,3\n")
    with pytest.raises(ReadError, match=r"a\.csv: x holds 'x', which is no number, line 4"):
        load("csv", [file], layout=find_layout(puppet))
    file.write_text(f"frame,joint,x,y\n1,{'1' * 5000},2,3\n")
    with pytest.raises(
        ReadError, match=r"a\.csv: the layout puppet has no joint '111.*; --layout names another, line 2"
    ):
        load("csv", [file], layout=find_layout(puppet))
    file.write_text("hip_x,hip_y\n1,2\n")
    with pytest.raises(
        ReadError, match=r"a\.csv: .*_x' is missing for the layout puppet; --layout names another .*, line 1"
    ):
        load("csv", [file], layout=find_layout(puppet))


def test_one_bad_file_among_many_is_reported_and_the_others_kept(imported, tmp_path):
    for n in range(4):
        np.save(tmp_path / "in" / f"{n}.npy", poses(1, 17, 3, seed=n))
    np.save(tmp_path / "in" / "4.npy", poses(1, 16, 3))
    with pytest.raises(
        StoreError, match=r"1 of 5 files .*4\.npy: holds joints \(16, 3\), not 17 joints of coco17 with 3"
    ):
        imported("npy", layout="coco17")
    store = imported("npy", layout="coco17", max_failed=0.2)
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
    for name, keywords in (("npz", {"keypoints": poses(), "label": "a"}), ("npy", None)):
        if keywords is None:
            np.save(folder / "valid.npy", poses())
        else:
            np.savez(folder / f"valid.{name}", **keywords)
    return folder


@pytest.mark.parametrize("format", [*VALID, "npy", "npz"])
@settings(max_examples=100)
@given(data=st.data())
def test_mutated_files_are_read_or_refused(scratch, puppet, format, data):
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
        found = load(format, [file], layout=find_layout(puppet))
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
