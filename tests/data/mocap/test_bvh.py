"""BVH: what files say, where joints are, what layout, unit and axis are taken."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from skelcl.data.mocap import bvh
from skelcl.data.mocap.kinematics import forward_kinematics
from skelcl.data.mocap.naming import segment_joints
from skelcl.data.mocap.space import METRES
from skelcl.data.poses.contents import Wanted
from skelcl.data.poses.formats import load
from skelcl.data.poses.layouts import find_layout, map_layout
from skelcl.data.poses.reader import PoseReader, guess_layout
from skelcl.data.poses.single import guess_format, read_clip
from skelcl.data.recording import ReadError
from skelcl.data.store import StoreError
from skelcl.errors import InputError, OptionError
from skelcl.skeleton import BANDAI21, KINECT20, NTU25

BANDAI = Path(os.environ.get("SKELCL_BANDAI_NAMCO", ""))
real = pytest.mark.skipif(
    "SKELCL_BANDAI_NAMCO" not in os.environ, reason="SKELCL_BANDAI_NAMCO names no folder of Bandai-Namco's archives"
)


def parsed(body, **written):
    return bvh.parse(body.text(**written).encode(), "x.bvh")


def joints_of(content):
    return [joint for joint, end in enumerate(content.hierarchy.ends) if not end]


# --- forward kinematics -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["ZXY", "XYZ", "ZYX", "YXZ", "Z", ""])
@pytest.mark.parametrize("positions", ["all", "root", "added"])
def test_places_are_those_of_products_joint_by_joint(captured, order, positions):
    body = captured(frames=4, order=order, positions=positions, bend=180)
    content = parsed(body)
    way = "add" if positions == "added" else "replace"
    found = forward_kinematics(content.hierarchy, content.values, way)[:, joints_of(content)]
    np.testing.assert_allclose(found, body.places(way), atol=2e-4)
    assert bvh.guess_positions(content) == way


def test_more_frames_than_are_computed_at_once(captured, monkeypatch):
    monkeypatch.setattr("skelcl.data.mocap.kinematics._FRAMES_AT_ONCE", 4)
    body = captured(frames=10)
    content = parsed(body)
    found = forward_kinematics(content.hierarchy, content.values)
    np.testing.assert_allclose(found[:, joints_of(content)], body.places(), atol=1e-4)


def test_a_root_that_travels_takes_the_body_along(captured):
    still, moved = captured(), captured(root=(300, 0, -50))
    found = [forward_kinematics(parsed(body).hierarchy, parsed(body).values) for body in (still, moved)]
    np.testing.assert_allclose(found[1] - found[0], np.broadcast_to([300, 0, -50], found[0].shape), atol=1e-3)


@pytest.mark.parametrize("positions", ["all", "root"])
@pytest.mark.parametrize("order", ["ZXY", "XYZ"])
def test_bvhio_finds_the_same_places(captured, tmp_path, order, positions):
    bvhio = pytest.importorskip("bvhio", reason="bvhio, the oracle of BVH, is not installed: pip install bvhio")
    body = captured(frames=3, order=order, positions=positions)
    (tmp_path / "x.bvh").write_text(body.text())
    root = bvhio.readAsHierarchy(str(tmp_path / "x.bvh"))
    names = [name for name, _ in body.joints]
    expected = np.empty((3, len(names), 3))
    for t in range(3):
        root.loadPose(t)
        for joint, _, _ in root.layout():
            if joint.Name in names:
                expected[t, names.index(joint.Name)] = joint.PositionWorld
    content = parsed(body)
    found = forward_kinematics(content.hierarchy, content.values)[:, joints_of(content)]
    np.testing.assert_allclose(found, expected, atol=2e-4)


GOLDEN = {
    "dataset-2_raise-up-both-hands_active_001": (
        38, 71363.60592883, (0.0304963, 127.0168430, -4.6329869), (16.5679018, 84.4292090, 0.6206678), 174.00381678
    ),
    "dataset-1_bow_active_001": (
        128, 212355.26734778, (0.4563796, 141.0089596, -10.0591668), (17.3877587, 85.7713545, 5.8172939), 104.98750236
    ),
}  # fmt: skip
"""Clip → frames, sum of all numbers, head of the first frame, left hand of the last, highest right hand."""


@real
@pytest.mark.parametrize("name", GOLDEN)
def test_golden_places_of_real_files(name):
    for path in BANDAI.glob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                if member.endswith(f"{name}.bvh"):
                    content = bvh.parse(archive.read(member), name)
    names = content.hierarchy.joints
    found = forward_kinematics(content.hierarchy, content.values).astype(float)
    frames, total, head, hand, highest = GOLDEN[name]
    assert (len(found), content.fps) == (frames, 30.0)
    assert found[:, joints_of(content)].sum() == pytest.approx(total, abs=0.01)
    np.testing.assert_allclose(found[0, names.index("Head")], head, atol=2e-5)
    np.testing.assert_allclose(found[-1, names.index("Hand_L")], hand, atol=2e-5)
    assert found[:, names.index("Hand_R"), 1].max() == pytest.approx(highest, abs=2e-5)


# --- from files to stores ---------------------------------------------------------------------------------------------


def write(folder, body, name="a.bvh", **written):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(body.text(**written), newline="")
    return folder / name


def test_an_import_has_metres_and_the_layout_of_the_names(imported, captured, tmp_path):
    body = captured(frames=5)
    write(tmp_path / "in" / "bow", body)
    store = imported("bvh")
    np.testing.assert_allclose(store.recording(0)[0], body.places()[:, 1:] / 100, atol=1e-5)
    assert (store.skeleton, store.meta["units"], store.meta["axes"], store.meta["fps"]) == (BANDAI21, "m", "y up", 30.0)
    assert store.meta["classes"] == ["bow"]
    assert (store.meta["parameters"]["unit"], store.meta["parameters"]["up"]) == ("cm", "y")
    told = [notice["message"] for notice in store.report["notices"] if notice["reason"] == "space"]
    assert len(told) == 1
    assert "y points up; a body is " in told[0]
    assert "so the unit is cm, unless --unit" in told[0]


@pytest.mark.parametrize("unit", METRES)
@pytest.mark.parametrize("up", ["x", "y", "z", "-x", "-y", "-z"])
def test_unit_and_axis_are_told_by_the_body(captured, tmp_path, unit, up):
    """The same person, written in other units and lying along other axes, is read as the same."""
    body = captured(frames=4, positions="root", scale=0.01 / METRES[unit], bend=20)
    places = body.places()[:, 1:] * METRES[unit]
    # A root above everything turns the person.
    angles = {"x": (2, -90), "y": (1, 0), "z": (0, 90), "-x": (2, 90), "-y": (0, 180), "-z": (0, -90)}[up]
    body.joints = [("world", -1), *((name, parent + 1) for name, parent in body.joints)]
    body.offsets, body.channels = [(0, 0, 0), *body.offsets], [["XYZ"[angles[0]] + "rotation"], *body.channels]
    body.values = np.insert(body.values, 0, angles[1], axis=1)
    poses = bvh.read([write(tmp_path, body)], Wanted())
    assert (poses.unit, poses.up) == (unit, up)
    joints = poses.joints[0].astype(float)
    # A turn about the vertical may remain; distances and heights say the rest.
    np.testing.assert_allclose(joints[..., 1], places[..., 1], atol=1e-3)
    spread = [np.linalg.norm(one[:, :, None] - one[:, None], axis=-1) for one in (joints, places)]
    np.testing.assert_allclose(*spread, atol=1e-3)
    handed = [np.linalg.det(one[:, [6, 10, 4]] - one[:, [0]]) for one in (joints, places)]
    np.testing.assert_allclose(*handed, atol=1e-3)


def test_unit_and_axis_that_are_said_win(imported, captured, tmp_path):
    write(tmp_path / "in", captured())
    store = imported("bvh", unit="mm", up="z")
    assert store.meta["parameters"] | {"unit": "mm", "up": "z"} == store.meta["parameters"]
    assert "--unit mm --up z" in store.rebuild_hint
    np.save(tmp_path / "in" / "a.npy", np.ones((2, 21, 3)))
    with pytest.raises(OptionError, match=r"--unit is of motion capture \(bvh"):
        imported("npy", unit="mm")


def test_a_size_that_no_unit_explains_is_refused(captured, tmp_path):
    with pytest.raises(ReadError, match=r"a body that is \S+ high has no unit that is known: say --unit"):
        bvh.read([write(tmp_path, captured(scale=0.05))], Wanted())


def test_the_clips_of_an_import_are_turned_alike(imported, captured, tmp_path):
    """The second lies on its back: the first tells what points up."""
    standing, lying = captured(bend=0), captured(bend=0)
    lying.values[:, [3, 4]] = (0, -90)
    write(tmp_path / "in", standing, "a.bvh")
    write(tmp_path / "in", lying, "b.bvh")
    store = imported("bvh")
    np.testing.assert_allclose(store.recording(1)[0], lying.places()[:, 1:] / 100, atol=1e-5)


def test_displacements_are_added_and_told(captured, tmp_path):
    body = captured(positions="added")
    poses = bvh.read([write(tmp_path, body)], Wanted())
    np.testing.assert_allclose(poses.joints[0], body.places("add")[:, 1:] / 100, atol=1e-5)
    assert "added to OFFSET" in poses.notes["positions"]


MIXAMO = [
    ("mixamorig:Hips", -1), ("mixamorig:Spine", 0), ("mixamorig:Spine1", 1), ("mixamorig:Neck", 2),
    ("mixamorig:Head", 3), ("mixamorig:LeftShoulder", 2), ("mixamorig:LeftArm", 5), ("mixamorig:LeftForeArm", 6),
    ("mixamorig:LeftHand", 7), ("mixamorig:RightShoulder", 2), ("mixamorig:RightArm", 9),
    ("mixamorig:RightForeArm", 10), ("mixamorig:RightHand", 11), ("mixamorig:LeftUpLeg", 0), ("mixamorig:LeftLeg", 13),
    ("mixamorig:LeftFoot", 14), ("mixamorig:LeftToeBase", 15), ("mixamorig:RightUpLeg", 0),
    ("mixamorig:RightLeg", 17), ("mixamorig:RightFoot", 18), ("mixamorig:RightToeBase", 19),
]  # fmt: skip


def test_another_hierarchy_has_a_layout_of_its_own(imported, captured, tmp_path):
    body = captured(frames=3)
    mixamo = captured(frames=3)
    mixamo.joints = [("Armature", -1), *((name, parent + 1) for name, parent in MIXAMO)]
    write(tmp_path / "in", mixamo)
    store = imported("bvh")
    layout = store.skeleton
    assert layout.joints[:6] == ("hips", "spine", "spine 1", "neck", "head", "left clavicle")
    assert layout.parents == BANDAI21.parents
    assert (layout.pairs, layout.center, layout.origin) == (BANDAI21.pairs, 2, 1)
    assert dict(layout.parts) == dict(BANDAI21.parts)
    assert (layout.up, layout.across) == (BANDAI21.up, BANDAI21.across)
    np.testing.assert_allclose(store.recording(0)[0], body.places()[:, 1:] / 100, atol=1e-5)
    # It becomes a Kinect's, and that of Bandai-Namco's names is the same then.
    write(tmp_path / "other", body)
    poses = load("bvh", [tmp_path / "other" / "a.bvh"])
    mapped = map_layout(layout, KINECT20)(store.recording(0))
    np.testing.assert_allclose(mapped, map_layout(BANDAI21, KINECT20)(poses.joints), atol=1e-5)


@pytest.mark.parametrize(
    ("names", "joints"),
    [
        ("LeftShoulder LeftArm LeftForeArm LeftHand", "clavicle shoulder elbow wrist"),
        ("LeftCollar LeftShoulder LeftElbow LeftWrist", "clavicle shoulder elbow wrist"),
        ("lCollar lShldr lForeArm lHand", "clavicle shoulder elbow wrist"),
        ("Shoulder_L UpperArm_L LowerArm_L Hand_L", "clavicle shoulder elbow wrist"),
        ("LeftHip LeftKnee LeftAnkle LeftFoot", "hip knee ankle foot"),
        ("LeftUpLeg LeftLeg LeftFoot LeftToeBase", "hip knee ankle toes"),
        ("lThigh lShin lFoot lToe", "hip knee ankle toes"),
    ],
)
def test_segments_and_joints_are_told_apart(names, joints):
    assert segment_joints(names.split()) == [f"left {joint}" for joint in joints.split()]
    other = names.replace("Left", "Right").replace("_L", "_R")
    other = " ".join("r" + word[1:] if word[0] == "l" else word for word in other.split())
    assert segment_joints(other.split()) == [f"right {joint}" for joint in joints.split()]


def test_names_that_cannot_be_told_want_a_layout_file(imported, captured, tmp_path):
    body = captured()
    body.joints = [(f"b{n}", parent) for n, (_, parent) in enumerate(body.joints)]
    write(tmp_path / "in", body)
    with pytest.raises(StoreError, match=r"none of its joints is the left hip \(b0, b1, .*--layout file"):
        imported("bvh")
    (tmp_path / "own.yaml").write_text("{joints: [B1, b3, b7, b11], parents: [0, 0, 1, 1], up: [0, 1], across: [3, 2]}")
    store = imported("bvh", layout=str(tmp_path / "own.yaml"))
    np.testing.assert_allclose(store.recording(0)[0], body.places()[:, [1, 3, 7, 11]] / 100, atol=1e-5)


def test_clips_of_another_hierarchy_are_refused_by_name(imported, captured, tmp_path):
    write(tmp_path / "in", captured(), "a.bvh")
    other = captured()
    other.joints = [(name.replace("Toes_L", "Tail_L"), parent) for name, parent in other.joints]
    write(tmp_path / "in", other, "b.bvh")
    with pytest.raises(StoreError, match=r"b\.bvh: its joints are not those of bandai21: it has no 'left toes'"):
        imported("bvh")


def test_each_root_with_all_joints_is_a_body(captured, tmp_path):
    body = captured(frames=3)
    second = captured(frames=3, seed=1)
    count = len(body.joints)
    body.joints += [(name, parent if parent < 0 else parent + count) for name, parent in second.joints]
    body.joints += [("sword", -1), ("blade", 2 * count)]
    body.offsets += [*second.offsets, (0, 0, 0), (0, 9, 0)]
    body.channels += [*second.channels, ["Xposition"], ["Xrotation"]]
    body.values = np.concatenate([body.values, second.values, np.zeros((3, 2))], 1)
    poses = bvh.read([write(tmp_path, body)], Wanted())
    expected = [body.places()[:, 1:count], second.places()[:, 1:]]
    np.testing.assert_allclose(poses.joints, np.stack(expected) / 100, atol=1e-5)
    assert "1 of 3 roots have other joints" in poses.notes["roots"]


@pytest.mark.parametrize(
    "written",
    [{"newline": "\r\n"}, {"indent": "  "}, {"number": "%.9e"}, {"number": "%.6f\t"}, {"frame_time": "3.33333e-02"}],
    ids=str,
)
def test_harmless_spellings(captured, tmp_path, written):
    body = captured()
    poses = bvh.read([write(tmp_path, body, **written)], Wanted())
    np.testing.assert_allclose(poses.joints[0], body.places()[:, 1:] / 100, atol=1e-5)
    assert poses.fps == 30.0
    data = b"\xef\xbb\xbf" + body.text().replace("\n{", " {").replace("MOTION\n", "MOTION  \n").encode() + b"\n \n"
    np.testing.assert_array_equal(bvh.parse(data, "x").values, parsed(body).values)


@pytest.mark.parametrize(("seconds", "fps"), [("0.0333333", 30), ("0.0333667", 29.97), ("0.008333", 120), (".04", 25)])
def test_frames_per_second(captured, seconds, fps):
    assert parsed(captured(), frame_time=seconds).fps == pytest.approx(fps, abs=0.006)


LINES = 22 * 5 + 5 * 4 + 5  # joints, ends, HIERARCHY, MOTION, Frames, Frame Time; then the first frame
BAD = {
    "empty": (lambda text: "", "the hierarchy has no joints", 1),
    "motion": (lambda text: text.partition("MOTION")[0], "has no MOTION", LINES - 3),
    "counts": (lambda text: text.replace("Frames:\t3\n", ""), "not followed by 'Frames: N'", LINES - 2),
    "no time": (lambda text: text.replace("0.0333333", "0"), "Frame Time is '0'", LINES - 1),
    "no frames": (lambda text: text.replace("Frames:\t3", "Frames: 0"), "has no frames", LINES - 1),
    "fewer": (lambda text: text.replace("Frames:\t3", "Frames: 4"), "4 frames are announced, and 3 follow", LINES - 2),
    "more": (lambda text: text.replace("Frames:\t3", "Frames: 2"), "2 frames are announced, and 3 follow", LINES - 2),
    "short": (lambda text: text[:-40], "a frame has 12. numbers for 132 channels", LINES + 2),
    "comma": (lambda text: text[::-1].replace(".", ",", 1)[::-1], "write a point, not a comma", LINES + 2),
    "nan": (lambda text: text.rpartition(" ")[0] + " nan\n", "'nan' is no number", LINES + 2),
    "twice": (lambda text: text + text, "'HIERARCHY' is several motions in one file", LINES + 3),
    "brace": (lambda text: text.replace("}\nMOTION", "MOTION"), "a closing brace is missing", LINES - 5),
    "channel": (lambda text: text.replace("Zrotation", "Wrotation", 1), "'Wrotation' is no channel", 5),
    "count": (lambda text: text.replace("CHANNELS 6", "CHANNELS 5", 1), "CHANNELS is not followed", 5),
    "offset": (lambda text: text.replace("OFFSET 0 ", "OFFSET x ", 1), "OFFSET holds 'x 0.0 0.0'", 4),
    "word": (lambda text: text.replace("OFFSET", "OFSET", 1), "'OFSET' is no word of BVH", 4),
    "huge": (lambda text: text.replace("Frames:\t3", "Frames: 999999999"), "bytes in memory", None),
    "deep": (lambda text: "HIERARCHY\nROOT a\n{\n" + "JOINT b\n{\n" * 1000, "more than 1000 joints", 2002),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_damage_is_one_line_with_its_place(captured, tmp_path, name):
    change, message, line = BAD[name]
    file = tmp_path / "x.bvh"
    file.write_text(change(captured().text().replace("OFFSET 0.0 ", "OFFSET 0 ")))
    with pytest.raises(ReadError, match=message) as caught:
        load("bvh", [file])
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    assert caught.value.line == line


# --- predict, plot, maps ----------------------------------------------------------------------------------------------


def test_a_clip_is_recognised_and_read_without_a_store(captured, tmp_path):
    body = captured()
    file = write(tmp_path, body)
    assert guess_format(file) == "bvh"
    clip = read_clip(file)
    np.testing.assert_allclose(clip.joints[0], body.places()[:, 1:] / 100, atol=1e-5)
    assert (clip.skeleton, clip.fps) == (BANDAI21, 30.0)
    assert "the unit is cm" in clip.notes[0]


@pytest.mark.parametrize(("target", "made"), [(KINECT20, 3), (NTU25, 7)], ids=["kinect20", "ntu25"])
def test_maps_to_kinects(captured, target, made):
    places = captured().places()[None, :, 1:].astype(np.float32) / 100
    change = map_layout(BANDAI21, target)
    found = dict(zip(target.joints, np.moveaxis(change(places), 2, 0), strict=True))
    source = dict(zip(BANDAI21.joints, np.moveaxis(places, 2, 0), strict=True))
    assert len(change.synthesised) == made
    assert change.unused == ("chest", "left clavicle", "right clavicle")
    skull = source["head"] + 1.5 * (source["head"] - source["neck"])
    expected = {"head": skull, "left foot": source["left toes"], "left knee": source["left knee"]}
    for side in ("left", "right"):
        along = source[f"{side} wrist"] - source[f"{side} elbow"]
        along = along / np.linalg.norm(along, axis=-1, keepdims=True)
        expected[f"{side} hand"] = source[f"{side} wrist"] + 0.08 * along
        if target is NTU25:
            expected[f"{side} hand tip"] = source[f"{side} wrist"] + 0.16 * along
            expected[f"{side} thumb"] = expected[f"{side} hand"]
    if target is NTU25:
        expected |= {"spine base": source["hips"], "mid spine": source["spine"], "neck": source["head"],
                     "spine shoulder": source["neck"]}  # fmt: skip
    else:
        expected |= {"hip center": source["hips"], "spine": source["spine"], "shoulder center": source["neck"]}
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-4, err_msg=name)


def test_a_network_of_other_joints_gets_them_made_of_the_files_own(captured, tmp_path):
    """As predict reads a clip: by the joints of the network where the file has them, else by its own."""
    body = captured()
    poses = load("bvh", [write(tmp_path, body)], 3, KINECT20)
    layout = guess_layout(poses, "bvh")
    assert layout == BANDAI21
    joints, _ = PoseReader(layout, map_layout(layout, KINECT20), 3)(poses, tmp_path)
    expected = map_layout(BANDAI21, KINECT20)(body.places()[None, :, 1:].astype(np.float32) / 100)
    np.testing.assert_allclose(joints, expected, atol=1e-5)


def test_only_motion_capture_gets_hands_on_its_forearms():
    with pytest.raises(InputError, match="'left hand'"):
        map_layout(find_layout("coco17"), NTU25)
