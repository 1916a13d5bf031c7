import dataclasses
import json

import pytest
import torch

from skelcl.skeleton import KINECT20, NTU25, Skeleton

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


@pytest.mark.parametrize("skeleton", [NTU25, KINECT20], ids=lambda s: s.name)
def test_mirror_keeps_names_apart_from_the_side(skeleton):
    for joint, image in enumerate(skeleton.mirror):
        name, other = skeleton.joints[joint], skeleton.joints[image]
        assert other == name.replace("left", "?").replace("right", "left").replace("?", "right")
        assert skeleton.mirror[image] == joint


@pytest.mark.parametrize("skeleton", [NTU25, KINECT20], ids=lambda s: s.name)
def test_hops_equal_powers_of_the_adjacency(skeleton):
    reach, hops = torch.eye(skeleton.num_joints), skeleton.hops()
    for distance in range(skeleton.num_joints):
        assert torch.equal(reach > 0, hops <= distance)
        reach = reach @ (skeleton.adjacency() + torch.eye(skeleton.num_joints)).clamp(max=1)
    assert hops[skeleton.center, skeleton.root] == 0


def test_json_round_trip():
    assert Skeleton.from_dict(json.loads(json.dumps(NTU25.to_dict()))) == NTU25


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
