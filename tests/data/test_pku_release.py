"""PKU-MMD's names, classes and splits against the distributed lists."""

import hashlib

import numpy as np
import pytest

from skelcl.data.formats.pku_release import ACTIONS, INFO, PRESENT, is_test, parse_name, splits, videos

ABSENT = (12, 14, 16, 18, 21, 24, 26, 27, 29, 38)  # labels that part 2 does not have


@pytest.mark.parametrize(
    ("part", "split", "train", "test", "digests"),
    [  # digests of the distributed lists, names sorted and joined by blanks
        (1, "xsub", 944, 132, ["638b39a29d28dc70", "6aeeeedcbb80dd35"]),
        (1, "xview", 717, 359, ["3aed7bc6f2e202a8", "ce8ba3afbfa18787"]),
        (2, "xsub", 775, 234, ["268798a87d98f8fe", "828b90dbe8a330c8"]),
        (2, "xview", 671, 338, ["ff7fe3a3efd790f8", "b9035ed81152f69b"]),
    ],
)
def test_the_rules_give_the_distributed_lists(part, split, train, test, digests):
    names = videos(part)
    assert len(names) == len(set(names)) == {1: 1076, 2: 1009}[part]
    lists = [[name for name in names if is_test(name, part, split) == held] for held in (False, True)]
    assert [len(part) for part in lists] == [train, test]
    assert [hashlib.sha256(" ".join(sorted(part)).encode()).hexdigest()[:16] for part in lists] == digests


def test_splits_of_an_index_hold_for_each_clip():
    names = np.array(["0291-M", "0002-L", "0291-M", "0334-R", "0335-M", "0002-L"])
    train = splits({"video": names}, 1)
    assert train["xsub"].tolist() == [False, True, False, False, True, True]
    assert train["xview"].tolist() == [False, True, False, True, False, True]
    names = np.array(["A01N02-R", "A26N13-L", "A01N01-M"])
    train = splits({"video": names}, 2)
    assert train["xsub"].tolist() == [False, True, True]
    assert train["xview"].tolist() == [True, False, True]


def test_names_tell_recording_performer_and_camera():
    assert parse_name("0364-R", 1) == (364, -1, 3)
    assert parse_name("A26N13-M", 2) == (26, 13, 2)
    for name, part in (("A01N01-L", 1), ("0002-L", 2), ("0002-X", 1), ("x0002-L", 1), ("0002-L_0", 1)):
        with pytest.raises(ValueError, match="no name of a video"):
            parse_name(name, part)


def test_classes():
    assert len(ACTIONS) == 51
    assert list(ACTIONS) == sorted(ACTIONS)
    assert (ACTIONS[0], ACTIONS[13], ACTIONS[50]) == ("bow", "handshaking", "writing")
    assert PRESENT[1] == tuple(range(51))
    assert len(PRESENT[2]) == 41
    assert [label + 1 for label in range(51) if label not in PRESENT[2]] == list(ABSENT)
    assert [len(INFO[part].classes) for part in (1, 2)] == [51, 41]
    assert "handshaking" not in INFO[2].classes
