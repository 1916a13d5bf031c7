import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skelcl.skeleton import (
    COCO17,
    H36M17,
    HALPE26,
    KINECT20,
    LAYOUTS,
    MEDIAPIPE33,
    NTU25,
    OPENPOSE18,
    OPENPOSE25,
    Skeleton,
)

# (child, parent), 1-based, as the papers list them.
NTU_BONES = [
    (1, 2), (2, 21), (3, 21), (4, 3), (5, 21), (6, 5), (7, 6), (8, 7), (9, 21), (10, 9), (11, 10), (12, 11), (13, 1),
    (14, 13), (15, 14), (16, 15), (17, 1), (18, 17), (19, 18), (20, 19), (22, 23), (23, 8), (24, 25), (25, 12),
]  # fmt: skip
UCLA_BONES = [
    (1, 2), (2, 3), (4, 3), (5, 3), (6, 5), (7, 6), (8, 7), (9, 3), (10, 9), (11, 10), (12, 11), (13, 1), (14, 13),
    (15, 14), (16, 15), (17, 1), (18, 17), (19, 18), (20, 19),
]  # fmt: skip


@pytest.mark.parametrize(("skeleton", "bones"), [(NTU25, NTU_BONES), (KINECT20, UCLA_BONES)], ids=["ntu25", "kinect20"])
def test_bones_are_those_of_the_literature(skeleton, bones):
    assert {(child + 1, parent + 1) for child, parent in skeleton.bones} == set(bones)


def test_mirror_of_ntu_is_the_published_permutation():
    swapped = [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 20, 23, 24, 21, 22]
    assert list(NTU25.mirror) == swapped


@pytest.mark.parametrize("skeleton", LAYOUTS.values(), ids=lambda s: s.name)
def test_mirror_keeps_names_apart_from_the_side(skeleton):
    for joint, image in enumerate(skeleton.mirror):
        name, other = skeleton.joints[joint], skeleton.joints[image]
        assert other == name.replace("left", "?").replace("right", "left").replace("?", "right")
        assert skeleton.mirror[image] == joint


@pytest.mark.parametrize("skeleton", LAYOUTS.values(), ids=lambda s: s.name)
def test_hops_equal_powers_of_the_adjacency(skeleton):
    reach, hops = torch.eye(skeleton.num_joints), skeleton.hops()
    for distance in range(skeleton.num_joints):
        assert torch.equal(reach > 0, hops <= distance)
        reach = reach @ (skeleton.adjacency() + torch.eye(skeleton.num_joints)).clamp(max=1)


def test_the_centre_of_kinect_is_its_root():
    assert (NTU25.center, KINECT20.center) == (NTU25.root, KINECT20.root)


@pytest.mark.parametrize("skeleton", LAYOUTS.values(), ids=lambda s: s.name)
def test_the_tree_is_the_same_in_the_mirror(skeleton):
    for child, parent in enumerate(skeleton.parents):
        assert skeleton.mirror[parent] == skeleton.parents[skeleton.mirror[child]]
    assert skeleton.mirror[skeleton.root] == skeleton.root


@pytest.mark.parametrize("skeleton", [s for s in LAYOUTS.values() if s.pairs], ids=lambda s: s.name)  # hands have none
def test_every_side_has_its_partner_and_its_part(skeleton):
    sided = {joint for joint, name in enumerate(skeleton.joints) if "left" in name or "right" in name}
    assert sided == {joint for pair in skeleton.pairs for joint in pair}
    assert all("left" in skeleton.joints[left] for left, _ in skeleton.pairs)
    for part, joints in skeleton.parts.items():
        if "left" in part or "right" in part:
            assert all(part.split()[0] in skeleton.joints[joint] for joint in joints)
    right, left = skeleton.across
    assert (skeleton.joints[right], skeleton.joints[left]) == ("right shoulder", "left shoulder")
    assert skeleton.center != skeleton.origin, "their distance is the torso that scales are taken from"
    assert skeleton.up[0] != skeleton.up[1]


def test_numbers_of_joints_and_names_of_layouts():
    sizes = {name: layout.num_joints for name, layout in LAYOUTS.items()}
    assert sizes == {
        "ntu25": 25,
        "kinect20": 20,
        "coco17": 17,
        "halpe26": 26,
        "openpose18": 18,
        "openpose25": 25,
        "mediapipe33": 33,
        "h36m17": 17,
        "bandai21": 21,
        "kinect32": 32,
        "hand21": 21,
        "hand22": 22,
    }


@pytest.mark.parametrize(
    ("skeleton", "places"),
    [
        (COCO17, {0: "nose", 4: "right ear", 5: "left shoulder", 10: "right wrist", 11: "left hip", 16: "right ankle"}),
        (HALPE26, {16: "right ankle", 17: "head", 18: "neck", 19: "hip", 20: "left big toe", 25: "right heel"}),
        (OPENPOSE18, {1: "neck", 2: "right shoulder", 8: "right hip", 13: "left ankle", 14: "right eye"}),
        (OPENPOSE25, {4: "right wrist", 8: "mid hip", 9: "right hip", 15: "right eye", 19: "left big toe"}),
        (MEDIAPIPE33, {7: "left ear", 11: "left shoulder", 19: "left index", 23: "left hip", 31: "left foot index"}),
        (H36M17, {0: "pelvis", 1: "right hip", 4: "left hip", 8: "thorax", 10: "head", 11: "left shoulder"}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)  # fmt: skip
def test_joints_have_their_official_places(skeleton, places):
    assert {place: skeleton.joints[place] for place in places} == places


def test_openpose18_has_the_bones_of_st_gcn():
    bones = {
        (4, 3), (3, 2), (7, 6), (6, 5), (13, 12), (12, 11), (10, 9), (9, 8), (11, 5), (8, 2), (5, 1), (2, 1), (0, 1),
        (15, 0), (14, 0), (17, 15), (16, 14),
    }  # fmt: skip
    assert set(OPENPOSE18.bones) == bones


@pytest.mark.parametrize("skeleton", LAYOUTS.values(), ids=lambda s: s.name)
def test_a_subset_of_all_joints_is_the_layout(skeleton):
    assert skeleton.subset(skeleton.joints, skeleton.name) == skeleton


@pytest.mark.parametrize("skeleton", LAYOUTS.values(), ids=lambda s: s.name)
@given(seed=st.integers(0, 10**6))
def test_a_random_subset_keeps_the_order_of_ancestors(skeleton, seed):
    """Against the definition: the parent is the first kept joint on the way to the old root."""
    random = np.random.default_rng(seed)
    kept = {*skeleton.up, *skeleton.across, *random.choice(skeleton.num_joints, 5).tolist()}
    names = [skeleton.joints[joint] for joint in random.permutation(sorted(kept))]
    small = skeleton.subset(names)
    assert small.joints == tuple(names)
    for child, parent in small.bones:
        ancestors = path_to_root(skeleton, skeleton.joints.index(names[child]))[1:]
        found = [joint for joint in ancestors if joint in kept]
        expected = skeleton.joints[found[0]] if found else names[small.root]
        assert names[parent] == expected
    pairs = {(skeleton.joints[a], skeleton.joints[b]) for a, b in skeleton.pairs if {a, b} <= kept}
    assert {(names[a], names[b]) for a, b in small.pairs} == pairs
    assert {names[joint] for joint in small.up} == {skeleton.joints[joint] for joint in skeleton.up}
    for name, joints in small.parts.items():
        assert joints
        assert {names[joint] for joint in joints} <= {skeleton.joints[joint] for joint in skeleton.parts[name]}


def path_to_root(skeleton, joint):
    path = [joint]
    while skeleton.parents[path[-1]] != path[-1]:
        path.append(skeleton.parents[path[-1]])
    return path


def test_the_upper_body_of_kinect():
    names = [name for name in NTU25.joints if not any(word in name for word in ("hip", "knee", "ankle", "foot"))]
    upper = NTU25.subset(names, "upper")
    assert (upper.name, upper.num_joints, set(upper.parts)) == ("upper", 17, {"trunk", "left arm", "right arm"})
    assert upper.joints[upper.origin] == "mid spine"
    assert [upper.joints[joint] for joint in upper.up] == ["spine base", "mid spine"]


def test_roles_move_to_the_nearest_kept_ancestor():
    arms = NTU25.subset(
        ["left hand", "left shoulder", "right shoulder", "neck"], up=("left shoulder", "neck"), center="left hand"
    )
    # spine shoulder, the root, is gone: the first of its children that are left takes its place
    assert arms.joints[arms.root] == arms.joints[arms.origin] == "left shoulder"
    assert arms.parents == (1, 1, 1, 1)
    assert arms.center == 0


@pytest.mark.parametrize(
    ("names", "roles", "message"),
    [
        (["head", "tail"], {}, "no joint 'tail'"),
        (["head", "head"], {}, "each once"),
        ([], {}, "each once"),
        (["head", "spine base", "mid spine", "left shoulder"], {}, "across lost its joint 'right shoulder'"),
        (["head", "left shoulder", "right shoulder"], {}, "up lost its joint 'spine base'"),
        (["head", "left shoulder", "right shoulder"], {"up": ("neck", "head")}, "up names 'neck', which is not among"),
    ],
)
def test_a_subset_that_cannot_be_is_refused(names, roles, message):
    with pytest.raises(ValueError, match=message):
        NTU25.subset(names, **roles)


@pytest.mark.parametrize("skeleton", LAYOUTS.values(), ids=lambda s: s.name)
def test_json_round_trip(skeleton):
    assert Skeleton.from_dict(json.loads(json.dumps(skeleton.to_dict()))) == skeleton


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parents": (1, 0, *KINECT20.parents[2:])}, "cycle"),
        ({"parents": KINECT20.parents[:-1]}, "20 joints but 19 parents"),
        ({"center": 20}, "outside 0…19"),
        ({"parts": {"all": tuple(range(19))}}, "every joint exactly once"),
        ({"joints": ("spine",) * 20}, "unique"),
        ({"parents": (0, *KINECT20.parents[1:])}, "exactly one joint"),
    ],
)
def test_a_broken_layout_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(KINECT20, **change)


def test_what_was_derived_is_no_argument_of_the_layout():
    assert (len(NTU25.bones), len(NTU25.mirror), NTU25.root) == (24, 25, 20)
    assert set(vars(NTU25)) == {field.name for field in dataclasses.fields(Skeleton)}
