from functools import cache

import numpy as np
import pytest

from skelcl.data.formats.ntu_release import (
    NOVEL_ACTIONS,
    PUBLISHED,
    TRAIN_PERFORMERS,
    belongs,
    difference,
    fields,
    info,
    missing_skeletons,
    official_ids,
    one_shot,
    splits,
)

SIZES = {  # training and test part of all files, and of those that are not listed as missing
    ("ntu60", False): {"xsub": (40320, 16560), "xview": (37920, 18960)},
    ("ntu60", True): {"xsub": (40091, 16487), "xview": (37646, 18932)},
    ("ntu120", False): {"xsub": (63360, 51120), "xset": (54720, 59760)},
    ("ntu120", True): {"xsub": (63026, 50919), "xset": (54468, 59477)},
}
TWO_PERSONS = [*range(50, 61), *range(106, 121)]


@cache
def columns(release, usable=True):
    """Index columns of the published clips, from their names alone."""
    names = official_ids(release, usable)
    numbers = np.array([fields(name) for name in names])
    return {
        "id": np.array(names),
        "setup": numbers[:, 0],
        "camera": numbers[:, 1],
        "subject": numbers[:, 2],
        "replication": numbers[:, 3],
        "label": numbers[:, 4] - 1,
    }


def part(index, kept):
    return {name: column[kept] for name, column in index.items()}


@pytest.mark.parametrize(("release", "usable"), SIZES)
def test_official_ids_split_into_the_published_sizes(release, usable):
    found = splits(release, columns(release, usable))
    assert {name: (train.sum(), (~train).sum()) for name, train in found.items()} == SIZES[release, usable]


def test_the_sizes_that_stores_are_compared_with_are_the_published_ones():
    for release, sizes in PUBLISHED.items():
        assert sizes == SIZES[release, True]


@pytest.mark.parametrize(
    ("release", "pairs", "total", "usable"), [("ntu60", 158, 56880, 56578), ("ntu120", 318, 114480, 113945)]
)
def test_every_performer_of_a_setup_did_its_sixty_actions_twice_before_three_cameras(release, pairs, total, usable):
    names, missing = official_ids(release, usable=False), missing_skeletons()
    assert names == sorted(set(names))
    assert len(names) == total
    assert all(belongs(name, release) for name in names)
    numbers = np.array([fields(name) for name in names])
    recorded, count = np.unique(numbers[:, [0, 2]], axis=0, return_counts=True)
    assert len(recorded) == pairs
    assert (count == 60 * 2 * 3).all()
    assert set(numbers[:, 2]) == set(range(1, 41 if release == "ntu60" else 107))
    assert official_ids(release) == [name for name in names if name not in missing]
    assert len(official_ids(release)) == usable
    assert sum(name in missing for name in names) == total - usable, "what is listed was recorded"


@pytest.mark.parametrize(("release", "largest", "two_persons"), [("ntu60", 948, 10347), ("ntu120", 960, 24732)])
def test_usable_clips_of_the_classes(release, largest, two_persons):
    count = np.bincount(columns(release)["label"])
    assert (count.min(), count.max()) == (906, largest)
    assert (np.flatnonzero(count == 906) + 1).tolist() == [55]
    assert np.isin(columns(release)["label"] + 1, TWO_PERSONS).sum() == two_persons


def test_the_first_half_is_ntu60():
    names = official_ids("ntu120")
    assert names[: len(official_ids("ntu60"))] == official_ids("ntu60")
    assert not any(belongs(name, "ntu60") for name in names[len(official_ids("ntu60")) :])


def test_the_lists_of_missing_skeletons_have_their_sizes():
    missing = missing_skeletons()
    assert len(missing) == 535
    assert sum(belongs(name, "ntu60") for name in missing) == 302
    assert {f"S028C00{camera}P087R001A061" for camera in (1, 2, 3)} <= missing


@pytest.mark.parametrize("release", ["ntu60", "ntu120"])
def test_the_rules_look_at_nothing_but_performer_camera_or_setup(release):
    index = columns(release)
    rules = {
        "xsub": ("subject", set(TRAIN_PERFORMERS), 1 / 2),
        "xview": ("camera", {2, 3}, 2 / 3),
        "xset": ("setup", set(range(2, 33, 2)), 1 / 2),
    }
    for name, train in splits(release, index).items():
        column, expected, share = rules[name]
        trained, tested = (set(index[column][kept].tolist()) for kept in (train, ~train))
        assert trained == expected & (trained | tested)
        assert not trained & tested
        assert len(trained) == share * len(trained | tested), "half of the performers and setups, two cameras of three"


@pytest.mark.parametrize("release", ["ntu60", "ntu120"])
def test_the_complete_data_set_is_recognised(release):
    assert difference(release, columns(release)) == ""


def test_missing_clips_are_told_with_the_splits_that_lack_them():
    index = columns("ntu60")
    kept = index["id"] != "S001C002P003R002A013"  # a test clip of xsub, a training clip of xview
    assert difference("ntu60", part(index, kept)) == (
        "xsub train 40091 of 40091, test 16486 of 16487; xview train 37645 of 37646, test 18932 of 18932; "
        "clips missing: 1, the first is S001C002P003R002A013"
    )


def test_clips_with_damaged_skeletons_are_told_as_beyond_the_published_ones():
    message = difference("ntu120", columns("ntu120", usable=False))
    assert message.endswith(f"clips beyond it: 535, the first is {min(missing_skeletons())}")
    assert "missing" not in message


def test_another_clip_in_the_place_of_a_missing_one_is_noticed_although_all_sizes_agree():
    index = {name: column.copy() for name, column in columns("ntu60").items()}
    index["id"][0] = "S001C001P001R001A061"
    assert difference("ntu60", index) == (
        "clips missing: 1, the first is S001C001P001R001A001; clips beyond it: 1, the first is S001C001P001R001A061"
    )


@pytest.mark.parametrize(
    ("name", "sixty", "hundred_twenty"),
    [
        ("S001C001P001R001A001", True, True),
        ("S017C003P040R002A060", True, True),
        ("S018C001P001R001A061", False, True),
        ("S032C003P106R002A120", False, True),
        ("S017C001P001R001A061", False, False),
        ("S018C001P001R001A060", False, False),
        ("S001C001P041R001A001", False, False),
        ("S033C001P001R001A061", False, False),
        ("S018C001P107R001A061", False, False),
        ("S000C001P001R001A001", False, False),
        ("S001C004P001R001A001", False, False),
        ("S001C001P000R001A001", False, False),
        ("S001C001P001R003A001", False, False),
        ("S001C001P001R001A000", False, False),
        ("S1C1P1R1A1", False, False),
        ("S001C001P001R001A001 ", False, False),
        ("xS001C001P001R001A001", False, False),
    ],
)
def test_what_belongs_to_a_release(name, sixty, hundred_twenty):
    assert (belongs(name, "ntu60"), belongs(name, "ntu120")) == (sixty, hundred_twenty)


def test_class_names():
    assert len(info("ntu60").classes) == 60
    assert len(info("ntu120").classes) == len(set(info("ntu120").classes)) == 120
    assert info("ntu60").classes == info("ntu120").classes[:60]
    assert info("ntu120").classes[0] == "drink water"
    assert info("ntu120").classes[57] == "handshaking"
    assert info("ntu120").classes[119].startswith("finger-guessing game")


def test_one_shot_names_twenty_novel_actions_with_one_exemplar_each():
    assert NOVEL_ACTIONS == (1, 7, 13, 19, 25, 31, 37, 43, 49, 55, 61, 67, 73, 79, 85, 91, 97, 103, 109, 115)
    index = columns("ntu120")
    novel, exemplar = one_shot(index)
    assert set(index["label"][novel] + 1) == set(NOVEL_ACTIONS)
    assert len(set(index["label"][~novel])) == 100
    assert index["id"][exemplar].tolist() == [
        f"S{1 if action <= 55 else 18:03d}C003P008R001A{action:03d}" for action in NOVEL_ACTIONS
    ]
    listed = sum(fields(name)[4] in NOVEL_ACTIONS for name in missing_skeletons())
    assert novel.sum() == 6 * (10 * 158 + 10 * 160) - listed
    assert (~novel).sum() == 6 * (50 * 158 + 50 * 160) - (535 - listed)
