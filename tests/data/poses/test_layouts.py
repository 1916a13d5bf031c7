"""Layouts from files, and the way from one layout to another."""

import json
from contextlib import suppress

import numpy as np
import pytest
import yaml

from skelcl.data.poses.layouts import find_layout, map_layout
from skelcl.errors import InputError
from skelcl.skeleton import COCO17, H36M17, HALPE26, KINECT20, LAYOUTS, MEDIAPIPE33, NTU25, OPENPOSE18, OPENPOSE25

PUPPET = {
    "joints": ["hip", "chest", "left hand", "right hand"],
    "parents": ["hip", "hip", "chest", "chest"],
    "up": ["hip", "chest"],
    "across": ["right hand", "left hand"],
}


@pytest.fixture
def written(tmp_path):
    def write(values, name="puppet.yaml"):
        file = tmp_path / name
        file.write_text(json.dumps(values) if name.endswith(".json") else yaml.safe_dump(values))
        return file

    return write


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_are_found_by_name(name):
    assert find_layout(name) is LAYOUTS[name]


@pytest.mark.parametrize("name", ["puppet.yaml", "puppet.json"])
@pytest.mark.parametrize(
    "parents",
    [
        ["hip", "hip", "chest", "chest"],
        [0, 0, 1, 1],
        [None, "hip", 1, "chest"],
        {"chest": "hip", "left hand": "chest", "right hand": "chest"},
    ],
)
def test_a_layout_of_your_own(written, name, parents):
    layout = find_layout(written(PUPPET | {"parents": parents}, name))
    assert layout.name == "puppet"
    assert layout.parents == (0, 0, 1, 1)
    assert layout.pairs == ((2, 3),)
    assert layout.parts == {"body": (0, 1, 2, 3)}
    assert (layout.center, layout.origin, layout.up, layout.across) == (0, 0, (0, 1), (3, 2))


def test_every_key_of_a_layout_file(written):
    own = {"name": "doll", "pairs": [], "parts": {"a": ["hip", 1], "b": [2, 3]}, "center": "chest", "origin": 1}
    layout = find_layout(written(PUPPET | own))
    assert (layout.name, layout.pairs, layout.center, layout.origin) == ("doll", (), 1, 1)
    assert layout.parts == {"a": (0, 1), "b": (2, 3)}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda s: s.name)
def test_a_known_layout_written_out_is_that_layout(written, layout):
    values = json.loads(json.dumps(layout.to_dict()))
    assert find_layout(written(values)) == layout


def test_a_subset_in_a_file(written):
    keep = ["nose", "left shoulder", "right shoulder", "left hip"]
    layout = find_layout(written({"base": "mediapipe33", "keep": keep, "origin": "nose"}, "upper.yaml"))
    assert layout == MEDIAPIPE33.subset(keep, "upper", origin="nose")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joint": []}, "unknown key 'joint': did you mean 'joints'"),
        ({"parents": None}, "the key 'parents' is missing"),
        ({"parents": ["hip"]}, "parents has 1 entries for 4 joints"),
        ({"parents": ["hip", "hip", "chest", "breast"]}, "parents names 'breast', which is no joint"),
        ({"parents": ["hip", "hip", "chest", "chst"]}, "did you mean 'chest'"),
        ({"parents": ["chest", "hip", "chest", "chest"]}, "exactly one joint must be its own parent"),
        ({"parents": {"hand": "hip"}}, "parents names 'hand'"),
        ({"joints": ["hip", "chest", "a", "a"], "across": ["a", "hip"]}, "joint names must be unique"),
        ({"joints": "hip"}, "joints must be a list, not a str"),
        ({"joints": ["hip", 3, "a", "b"]}, "joints holds 3, which is no name"),
        ({"up": ["hip"]}, r"up holds \['hip'\], not two joints"),
        ({"across": ["hip", 9]}, "across names 9"),
        ({"center": -1}, "center names -1"),
        ({"center": True}, "center names True"),
        ({"pairs": [["left hand", "right hand", "hip"]]}, "pairs holds"),
        ({"pairs": [["left hand", "right hand"], ["left hand", "hip"]]}, "pairs uses 'left hand' twice"),
        ({"parts": {"a": ["hip"]}}, "every joint exactly once"),
        ({"parts": ["hip"]}, "parts must be names with lists of joints"),
        ({"base": "ntu"}, "unknown key 'joints'"),
    ],
)
def test_a_wrong_layout_file_is_one_line_with_file_and_key(written, change, message):
    file = written({key: value for key, value in (PUPPET | change).items() if value is not None})
    with pytest.raises(InputError, match=message) as caught:
        find_layout(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"base": "ntu"}, "the key 'keep' is missing"),
        ({"base": "ntu", "keep": ["head"]}, "base names 'ntu', but the layouts are ntu25"),
        ({"base": "ntu25", "keep": ["haed"]}, "keep names 'haed', which is no joint: did you mean 'head'"),
        ({"base": "ntu25", "keep": ["head"]}, "up lost its joint 'spine base'"),
        ([1, 2], "must hold keys"),
    ],
)
def test_a_wrong_subset_file(written, values, message):
    file = written(values)
    with pytest.raises(InputError, match=message) as caught:
        find_layout(file)
    assert str(file) in str(caught.value)


def test_files_that_are_no_layouts(tmp_path):
    (tmp_path / "x.json").write_text("{")
    (tmp_path / "x.yaml").write_text("a: [")
    for name, message in (
        ("x.json", "not valid JSON"),
        ("x.yaml", "not YAML"),
        ("y.yaml", "no such"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            find_layout(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no layout 'coco': there are ntu25"):
        find_layout("coco")


# --- maps -------------------------------------------------------------------------------------------------------------


def points(layout, seed=0):
    """Random coordinates (2, 3, V, 3) and the same by name."""
    joints = np.random.default_rng(seed).normal(size=(2, 3, layout.num_joints, 3)).astype(np.float32)
    return joints, {name: joints[:, :, joint] for joint, name in enumerate(layout.joints)}


def test_mediapipe_to_ntu_by_hand():
    joints, p = points(MEDIAPIPE33)
    change = map_layout(MEDIAPIPE33, NTU25)
    q = {name: change(joints)[:, :, joint] for joint, name in enumerate(NTU25.joints)}
    base, pelvis = (p["left shoulder"] + p["right shoulder"]) / 2, (p["left hip"] + p["right hip"]) / 2
    head = (p["left ear"] + p["right ear"]) / 2
    expected = {
        "spine base": pelvis,
        "mid spine": (base + pelvis) / 2,
        "spine shoulder": base,
        "neck": base + (head - base) / 3,
        "head": head,
        "left hand": (p["left index"] + p["left pinky"]) / 2,
        "right hand tip": p["right index"] + p["right pinky"] - p["right wrist"],
        "left foot": p["left foot index"],
        "right thumb": p["right thumb"],
        "left knee": p["left knee"],
    }
    for name, value in expected.items():
        np.testing.assert_allclose(q[name], value, atol=1e-6, err_msg=name)
    made = {text.split(" = ")[0] for text in change.synthesised}
    assert made == {
        "spine base", "mid spine", "spine shoulder", "neck", "head", "left hand", "right hand", "left hand tip",
        "right hand tip",
    }  # fmt: skip
    assert {"nose", "mouth left", "left heel"} <= set(change.unused)


@pytest.mark.parametrize(
    ("source", "target", "same"),
    [
        (NTU25, KINECT20, {"spine base": "hip center", "spine shoulder": "shoulder center", "mid spine": "spine"}),
        (NTU25, H36M17, {"spine base": "pelvis", "spine shoulder": "thorax", "neck": "neck", "head": "head"}),
        (HALPE26, OPENPOSE25, {"neck": "neck", "hip": "mid hip", "left big toe": "left big toe"}),
        (H36M17, H36M17, {name: name for name in H36M17.joints}),
        (HALPE26, COCO17, {name: name for name in COCO17.joints}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_joints_that_are_only_called_otherwise_are_copied(source, target, same):
    joints, p = points(source)
    change = map_layout(source, target)
    assert change.synthesised == ()
    for own, other in same.items():
        np.testing.assert_array_equal(change(joints)[:, :, target.joints.index(other)], p[own])


def test_a_neck_between_the_shoulders_is_no_neck_above_them():
    joints, p = points(OPENPOSE18)
    change = map_layout(OPENPOSE18, H36M17)
    out = change(joints)
    np.testing.assert_array_equal(out[:, :, H36M17.joints.index("thorax")], p["neck"])
    head = (p["left ear"] + p["right ear"]) / 2
    expected = p["neck"] + (head - p["neck"]) / 3
    np.testing.assert_allclose(out[:, :, H36M17.joints.index("neck")], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("source", "target", "joint"),
    [(COCO17, NTU25, "'left hand'"), (NTU25, COCO17, "'nose'"), (MEDIAPIPE33, OPENPOSE25, "'left small toe'")],
)
def test_a_joint_that_nothing_is_known_of_is_refused(source, target, joint):
    with pytest.raises(InputError, match=f"{source.name} cannot become {target.name}: .*{joint}"):
        map_layout(source, target)


def test_what_is_made_of_a_missing_joint_is_missing_and_nothing_else_is():
    joints, _ = points(COCO17)
    joints[0, 1, COCO17.joints.index("left hip")] = np.nan
    change = map_layout(COCO17, H36M17)
    missing = np.isnan(change(joints)).all(-1)
    lost = {(0, 1, H36M17.joints.index(name)) for name in ("pelvis", "spine", "left hip")}
    assert set(zip(*map(np.ndarray.tolist, np.nonzero(missing)), strict=True)) == lost


def test_every_possible_map_commutes_with_shifts_and_the_mirror():
    """Weights sum to one, and a map of the mirror image is the mirror image of the map."""
    for source in LAYOUTS.values():
        joints, _ = points(source)
        for target in LAYOUTS.values():
            try:
                change = map_layout(source, target)
            except InputError:
                continue
            np.testing.assert_allclose(change(joints + 2), change(joints) + 2, atol=1e-5)
            mirrored = change(joints[:, :, list(source.mirror)])
            np.testing.assert_allclose(mirrored, change(joints)[:, :, list(target.mirror)], atol=1e-6)


def test_all_joints_at_once_are_the_weighted_sums_one_after_the_other():
    for source in LAYOUTS.values():
        joints, _ = points(source)
        joints[0, 1, ::5] = np.nan
        for target in LAYOUTS.values():
            try:
                change = map_layout(source, target)
            except InputError:
                continue
            found = change(joints)
            assert found.dtype == np.float32
            for joint, terms in enumerate(change.weights):
                expected = sum(np.float32(weight) * joints[:, :, place] for place, weight in terms)
                np.testing.assert_array_equal(found[:, :, joint], expected, err_msg=f"{source.name} {target.name}")


def test_maps_compose_where_nothing_is_lost():
    """A → B → C is A → C for every joint of C whose joints of A are all in B as they are."""
    compared, differ = 0, set()
    for a in LAYOUTS.values():
        joints, _ = points(a)
        for b in LAYOUTS.values():
            for c in LAYOUTS.values():
                try:
                    first, second, whole = map_layout(a, b), map_layout(b, c), map_layout(a, c)
                except InputError:
                    continue
                kept = {terms[0][0] for terms in first.weights if terms[0][1] == 1}
                found, expected = second(first(joints)), whole(joints)
                for joint, terms in enumerate(whole.weights):
                    if {place for place, _ in terms} <= kept:
                        np.testing.assert_allclose(found[..., joint, :], expected[..., joint, :], atol=1e-5)
                        compared += 1
                    elif not np.allclose(found[..., joint, :], expected[..., joint, :], atol=1e-5):
                        differ.add((a.name, b.name, c.joints[joint]))
    assert compared > 1000
    assert ("ntu25", "kinect20", "neck") in differ  # which Kinect v1 has not: h36m17 gets one that is made up


def test_every_chain_of_two_maps_is_a_map():
    possible = set()
    for a in LAYOUTS.values():
        for b in LAYOUTS.values():
            with suppress(InputError):
                map_layout(a, b)
                possible.add((a.name, b.name))
    assert {(a, d) for a, b in possible for c, d in possible if b == c} == possible


def test_the_content_of_a_file_is_a_layout_too():
    values = {"base": "kinect20", "keep": [*KINECT20.joints[:7], "right shoulder"], "name": "upper"}
    assert find_layout(values) == KINECT20.subset(values["keep"], "upper")
    assert find_layout(KINECT20.to_dict()) == KINECT20
    with pytest.raises(InputError, match="layout: base names 'kinect', but the layouts are ntu25"):
        find_layout({"base": "kinect", "keep": []})
