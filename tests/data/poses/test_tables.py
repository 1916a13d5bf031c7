"""Columns of tables, however people and tools call them."""

import numpy as np
import pytest

from skelcl.data.poses.formats import load
from skelcl.data.poses.layouts import find_layout
from skelcl.data.recording import ReadError

JOINTS = ("hip", "left hand", "right hand")


@pytest.fixture
def read(tmp_path, puppet):
    def make(*lines, layout=puppet):
        (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
        return load("csv", [tmp_path / "a.csv"], layout=find_layout(layout))

    return make


def wide(axis="{}_{}", axes="xy", sure=None):
    names = [axis.format(joint.replace(" ", "_"), one) for joint in JOINTS for one in axes]
    return names + ([axis.format(joint.replace(" ", "_"), sure) for joint in JOINTS] if sure else [])


@pytest.mark.parametrize("frame", ["frame", "Frame_Idx", "frame_id", "fnum", "Frame Number", "frame.no"])
@pytest.mark.parametrize("person", ["person", "track", "Track_ID", "individuals", "body id"])
@pytest.mark.parametrize("sure", ["likelihood", "score", "Visibility", "confidence", "prob"])
def test_names_that_are_usual(read, frame, person, sure):
    header = ",".join([frame, person, *wide(sure=sure)])
    found = read(header, *(f"{t},{m},{m},{t},1,2,3,4,{m},0.5,0" for t in (3, 5, 4) for m in (0, 1)))
    assert found.joints.shape == (2, 3, 3, 2)
    np.testing.assert_array_equal(found.joints[:, :, 0], [[[m, t] for t in (3, 4, 5)] for m in (0, 1)])
    np.testing.assert_array_equal(found.confidence[1], [[1, 0.5, 0]] * 3)
    assert not found.notes


@pytest.mark.parametrize("axis", ["{}_{}", "{}.{}", "{} {}", "{}-{}"])
def test_joints_with_dots_capitals_and_underscores(read, tmp_path, axis):
    layout = tmp_path / "mine.yaml"
    layout.write_text("{joints: [Hips, l_wrist_end, R.Hand], parents: [0, 0, 0], up: [0, 1], across: [2, 1]}")
    names = [axis.format(joint, one) for joint in ("hips", "L_Wrist_End", "r_hand") for one in "xyz"]
    found = read(",".join(["frame", *names]), "0,1,2,3,4,5,6,7,8,9", layout=layout)
    np.testing.assert_array_equal(found.joints[0, 0], [[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    found = read("frame,joint,x,y,z", "0,HIPS,1,2,3", "0,l wrist.end,4,5,6", "0,R_Hand,7,8,9", layout=layout)
    np.testing.assert_array_equal(found.joints[0, 0], [[1, 2, 3], [4, 5, 6], [7, 8, 9]])


@pytest.mark.parametrize("joint", ["joint", "Landmark", "LandmarkID", "keypoint_name", "bodypart"])
def test_long_tables(read, joint):
    rows = [f"{t},{name if joint != 'LandmarkID' else v},{t},{v}" for t in range(2) for v, name in enumerate(JOINTS)]
    found = read(f"Frame,{joint},Landmark_X,Landmark_Y", *rows)
    np.testing.assert_array_equal(found.joints[0], [[[t, v] for v in range(3)] for t in range(2)])


def test_what_is_not_understood_is_named_once(read):
    others = [f"hip_{word}" for word in ("error", "ncams")] + [f"M_{n}{k}" for n in range(3) for k in range(3)]
    found = read(",".join(["fnum", *wide(axes="xyz", sure="score"), *others]), ",".join(["3"] * (1 + 12 + len(others))))
    assert found.notes.keys() == {"columns"}
    assert "were left out: 'hip_error', 'hip_ncams', 'm_00'" in found.notes["columns"]
    assert found.notes["columns"].endswith("and 3 more")
    assert (found.confidence == 3).all()


def test_a_missing_frame_column_is_told(read):
    found = read(",".join(wide()), "1,1,1,1,1,1", "2,2,2,2,2,2")
    np.testing.assert_array_equal(found.joints[0, :, 0, 0], [1, 2])
    assert "no column tells the frame" in found.notes["frames"]
    found = read(",".join(["Time (ms)", *wide()]), "66.7,2,2,2,2,2,2", "33.3,1,1,1,1,1,1", "98,3,3,3,3,3,3")
    np.testing.assert_array_equal(found.joints[0, :, 0, 0], [1, 2, 3])
    assert "successive frames" in found.notes["frames"]


def test_two_people_without_a_column_of_persons_are_not_one(read):
    with pytest.raises(
        ReadError, match=r"frame 1 has a person twice; no column tells persons apart \(person, .*, line 3"
    ):
        read(",".join(["frame", "who", *wide()]), "1,a,1,1,1,1,1,1", "1,b,2,2,2,2,2,2")
    with pytest.raises(ReadError, match=r"several persons, but no column that tells the frame"):
        read(",".join(["track", *wide()]), "1,1,1,1,1,1,1", "2,2,2,2,2,2,2")


def test_a_table_of_any_order_is_that_of_its_twin(read):
    """Cells one by one, as the slow way to read a long table."""
    rng = np.random.default_rng(0)
    cells = [(t, m, v) for t in range(5) for m in range(3) for v in range(3) if rng.random() < 0.8]
    values = {cell: rng.uniform(1, 9, 3).round(3) for cell in cells}
    rows = [cells[n] for n in rng.permutation(len(cells))]
    found = read(
        "joint,score,x,track,y,frame",
        *(f"{JOINTS[v]},{values[t, m, v][2]},{values[t, m, v][0]},{m},{values[t, m, v][1]},{t}" for t, m, v in rows),
    )
    for t, m, v in np.ndindex(5, 3, 3):
        expected = values.get((t, m, v), np.full(3, np.nan)).astype(np.float32)
        np.testing.assert_array_equal(found.joints[m, t, v], expected[:2])
        np.testing.assert_array_equal(found.confidence[m, t, v], expected[2])
