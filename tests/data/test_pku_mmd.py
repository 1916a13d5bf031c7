"""PKU-MMD: its text files against hand-made rows, its splits against the distributed lists, the whole chain."""

import hashlib
import json
import random
import shutil
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skelcl.data import PKUMMD, SkeletonStore, StoreError
from skelcl.data.commands import COMMANDS
from skelcl.data.convert import ReadError, Recording
from skelcl.data.formats import pku_mmd
from skelcl.data.formats.pku_mmd import (
    ACTIONS,
    PRESENT,
    Interval,
    find,
    frames_of,
    is_test,
    parse_labels,
    parse_name,
    parse_skeleton,
    parse_split,
    prepare,
    read,
    videos,
    write_labels,
    write_skeleton,
    write_split,
)
from skelcl.data.formats.synthetic import PKU_MMD_ACTIONS, write_pku_mmd
from skelcl.data.inspection import check
from skelcl.data.store import Flag
from skelcl.errors import InputError
from skelcl.parsing import call

ABSENT = (12, 14, 16, 18, 21, 24, 26, 27, 29, 38)  # labels that part 2 does not have


def coordinates(frames, bodies=2, seed=0):
    """Two bodies with six decimals, so that a file holds them exactly."""
    joints = np.random.default_rng(seed).normal(size=(2, frames, 25, 3)) * 0.3 + [0, 0.2, 2.7]
    joints[bodies:] = 0
    return np.array([float(f"{value:.6f}") for value in joints.ravel()], np.float32).reshape(joints.shape)


def text(joints):
    """The format, spelt out number by number."""
    rows = []
    for t in range(joints.shape[1]):
        numbers = [f"{joints[m, t, v, c]:.6f}" for m in range(2) for v in range(25) for c in range(3)]
        rows.append((" " if t else "") + " ".join(numbers))
    return ("\n".join(rows) + "\n").encode()


def video(folder, name="0002-L", joints=None, labels="8,0,3,1\n", suffixes=(".txt", ".txt")):
    """One pair of files; (skeleton, label)."""
    paths = []
    joints = coordinates(10) if joints is None else joints
    for kind, suffix, data in zip(("s", "l"), suffixes, (text(joints), labels.encode()), strict=True):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        paths.append(folder / kind / f"{name}{suffix}")
        paths[-1].write_bytes(data)
    return tuple(paths)


def clips(where, part=1, **options):
    """Recordings by row and notices by (row or video, reason)."""
    items = list(read(where, part, **options))
    recordings = {item.id: item for item in items if isinstance(item, Recording)}
    return recordings, {(item["id"], item["reason"]): item for item in items if not isinstance(item, Recording)}


# --- names, classes and splits


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
    train = pku_mmd.splits({"video": names}, 1)
    assert train["xsub"].tolist() == [False, True, False, False, True, True]
    assert train["xview"].tolist() == [False, True, False, True, False, True]
    names = np.array(["A01N02-R", "A26N13-L", "A01N01-M"])
    train = pku_mmd.splits({"video": names}, 2)
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
    assert [len(pku_mmd.INFO[part].classes) for part in (1, 2)] == [51, 41]
    assert "handshaking" not in pku_mmd.INFO[2].classes


SPLIT = b"Training videos: \n0003-L, 0003-M, \nValidataion videos:\n0002-L, 0291-R,\n"


@pytest.mark.parametrize(
    "data",
    [
        SPLIT,
        SPLIT.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + SPLIT + b"\n\n",
        SPLIT.replace(b"Validataion", b"Validation").replace(b",", b" ,"),
        SPLIT.replace(b", ", b"\n"),
        b"Validataion videos: \n0002-L,0291-R\nTraining videos:\n0003-L,0003-M",
    ],
    ids=["as distributed", "CRLF", "BOM", "spelt well", "a name per line", "other order"],
)
def test_split_files(data):
    assert parse_split(data, "x") == {"train": ["0003-L", "0003-M"], "test": ["0002-L", "0291-R"]}


@pytest.mark.parametrize(
    ("data", "message", "line"),
    [
        (b"", "expected names", None),
        (SPLIT.splitlines()[0] + b"\n0003-L", "expected names", None),
        (b"Training videos:\nValidation videos:\n0002-L", "expected names", None),
        (b"0002-L, 0003-L", "expected the heading", 1),
        (SPLIT.replace(b"0291-R", b"0291R"), "'0291R' is no name", 4),
        (SPLIT + SPLIT, "second heading", 5),
        (b"\x00\xff", "expected the heading", 1),
    ],
)
def test_other_split_files_are_refused(data, message, line):
    with pytest.raises(ReadError, match=message) as caught:
        parse_split(data, "x.txt")
    assert caught.value.line == line


def test_written_split_files_come_back(tmp_path):
    names = {"train": ["A01N01-L", "A01N01-M"], "test": ["A01N02-R"]}
    write_split(tmp_path / "x", names["train"], names["test"])
    assert parse_split((tmp_path / "x").read_bytes(), "x") == names
    assert (tmp_path / "x").read_text().splitlines()[2] == "Validataion videos:"


# --- skeleton files


def test_a_row_is_two_bodies_joint_by_joint():
    row = " ".join(f"{n + 1}" for n in range(150))
    joints, truncated = parse_skeleton(f"{row}\n {row}\n".encode(), "x")
    assert joints.shape == (2, 2, 25, 3)
    assert joints.dtype == np.float32
    assert truncated is None
    assert joints[0, 1, 0].tolist() == [1, 2, 3]
    assert joints[0, 0, 24].tolist() == [73, 74, 75]
    assert joints[1, 0, 0].tolist() == [76, 77, 78]
    assert joints[1, 1, 24].tolist() == [148, 149, 150]


@given(st.integers(1, 6), st.integers(0, 2), st.integers(0, 999))
def test_written_skeletons_come_back(tmp_path_factory, frames, bodies, seed):
    joints = coordinates(frames, bodies, seed)
    file = tmp_path_factory.getbasetemp() / "x.txt"
    write_skeleton(file, joints[:bodies])
    assert file.read_bytes() == text(joints).replace(b"-0.000000", b"0.000000")
    again, truncated = parse_skeleton(file.read_bytes(), "x")
    np.testing.assert_array_equal(again, joints)
    assert truncated is None


@pytest.mark.parametrize("shape", [(3, 2, 25, 3), (2, 0, 25, 3), (2, 2, 20, 3), (2, 25, 3)])
def test_what_the_format_cannot_hold_is_not_written(tmp_path, shape):
    with pytest.raises(ValueError, match=r"not \(at most 2"):
        write_skeleton(tmp_path / "x", np.ones(shape))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b" \t\n") + b" \n\r\n\n",
        lambda data: data.replace(b" ", b"  \t"),
        lambda data: data[:-1],
        lambda data: b"  " + data,
    ],
    ids=["CRLF", "BOM", "trailing blanks", "tabs", "no final newline", "leading blanks"],
)
def test_harmless_spellings_are_accepted(change):
    joints = coordinates(3)
    again, truncated = parse_skeleton(change(text(joints)), "x")
    np.testing.assert_array_equal(again, joints)
    assert truncated is None


@pytest.mark.parametrize(
    "spelling",
    ["NaN", "nan", "-nan", "inf", "-inf", "Infinity", "-nan(ind)", "nan(snan)", "1.#QNAN", "-1.#IND", "-1.#INF",
     "1.#INF00", "1.#QNAN0", "1e39", "1e400"],
)  # fmt: skip
def test_numbers_that_are_none_are_missing_joints(tmp_path, spelling):
    joints = coordinates(3)
    words = [line.split() for line in text(joints).splitlines()]
    words[1][7] = spelling.encode()  # body 1, joint 2, y
    again, truncated = parse_skeleton(b"\n".join(b" ".join(row) for row in words), "x")
    assert truncated is None
    assert np.argwhere(~np.isfinite(again)).tolist() == [[0, 1, 2, 1]]
    again[0, 1, 2, 1] = joints[0, 1, 2, 1]
    np.testing.assert_array_equal(again, joints)
    where = video(tmp_path)
    where[0].write_bytes(b"\n".join(b" ".join(row) for row in words))
    store = prepare([tmp_path], tmp_path / "stores")
    assert store.index["flags"][0] == Flag.REPAIRED
    loaded = store.clips([0], 2).joints.numpy()
    np.testing.assert_allclose(loaded[1, 2], (joints[0, 0, 2] + joints[0, 2, 2]) / 2, rtol=1e-6)


GOOD = text(coordinates(4)).splitlines()


@pytest.mark.parametrize(
    ("lines", "reason", "message"),
    [
        ([], "empty", "the file is empty"),
        ([b" ", b"\t", b""], "empty", "the file is empty"),
        ([GOOD[0], GOOD[1] + b" 0.5", GOOD[2]], "columns", "row 2 has 151 instead of 150"),
        ([GOOD[0], GOOD[1], GOOD[2] + b" 0.5"], "columns", "row 3 has 151 instead of 150"),
        ([GOOD[0], GOOD[1][:200], GOOD[2]], "columns", r"row 2 has \d\d instead of 150"),
        ([GOOD[0], b"", GOOD[2]], "columns", "row 2 has 0 instead of 150"),
        ([b"", GOOD[0]], "columns", "row 1 has 0 instead of 150"),
        ([GOOD[0][:200]], "columns", "row 1 has"),
        ([GOOD[0], GOOD[1].replace(b".", b",", 1)], "number", r"row 2, column 1: '-?\d,\d+' is no number"),
        ([GOOD[0].replace(b".", b",")] * 2, "number", "row 1, column 1"),
        ([b"1_0 " + GOOD[0].split(b" ", 1)[1]] * 2, "number", "row 1, column 1: '1_0' is no number"),
        ([GOOD[0].rsplit(b" ", 1)[0] + b" 1.#HUGE", GOOD[1]], "number", "row 1, column 150: '1.#HUGE'"),
        ([b"nan 1_0 " + GOOD[0].split(b" ", 2)[2]] * 2, "number", "row 1, column 2: '1_0'"),
        ([b"\xef\xbc\x91 " + GOOD[0].split(b" ", 1)[1]] * 2, "number", "row 1, column 1"),
        ([b"\x00" * 500], "columns", "row 1 has 1 instead of 150"),
        ([b"8,0,3,1"], "columns", "row 1 has 1 instead of 150"),
    ],
)
def test_a_malformed_skeleton_file_is_refused_with_its_row(lines, reason, message):
    with pytest.raises(ReadError, match=message) as caught:
        parse_skeleton(b"\n".join(lines) + b"\n", "folder/x.txt")
    assert caught.value.reason == reason
    assert str(caught.value).startswith("folder/x.txt: ")
    assert caught.value.line is None or f"row {caught.value.line}" in caught.value.message


@pytest.mark.parametrize("end", [GOOD[3][:600], GOOD[3][:3], GOOD[3].rsplit(b" ", 1)[0] + b" -", GOOD[3][:600] + b"\n"])
def test_a_last_row_that_is_cut_off_is_left_out_with_a_warning(tmp_path, end):
    data = b"\n".join([*GOOD[:3], end])
    joints, truncated = parse_skeleton(data, "x")
    np.testing.assert_array_equal(joints, coordinates(4)[:, :3])
    assert truncated == 4
    where = video(tmp_path)
    where[0].write_bytes(data)
    recordings, notices = clips(where)
    assert list(recordings) == ["0002-L_000"]
    assert notices["0002-L", "truncated_row"]["outcome"] == "warning"
    assert notices["0002-L", "truncated_row"]["line"] == 4


# --- label files


@pytest.mark.parametrize(
    "data",
    [
        b"8,0,30,1\n51,20,40,2\n",
        b"\xef\xbb\xbf8,0,30,1\r\n51,20,40,2\r\n",
        b"\n 8 , 0,30, 1\n\n51,20,40,2,\n \n",
        b"8,0,30\n51,20,40",
    ],
    ids=["as distributed", "BOM and CRLF", "blanks and commas", "no confidence"],
)
def test_labels_and_their_harmless_spellings(data):
    rows = parse_labels(data, "x", 1)
    assert [(row.label, row.start, row.end) for row in rows] == [(7, 0, 30), (50, 20, 40)]
    lines = [number for number, line in enumerate(data.splitlines(), start=1) if line.strip()]
    assert [row.line for row in rows] == lines


def test_a_single_row_is_one_interval():
    assert parse_labels(b"8,0,30,1", "x", 1) == [Interval(7, 0, 30, 1)]


@pytest.mark.parametrize(
    ("data", "reason", "message", "line"),
    [
        (b"", "empty", "empty", None),
        (b" \r\n\n", "empty", "empty", None),
        (b"8,0,3,1\n0,0,3,1", "label", "label 0 is outside 1…51", 2),
        (b"8,0,3,1\n\n52,0,3,1", "label", "label 52 is outside 1…51", 3),
        (b"-1,0,3,1", "label", "label -1 is outside", 1),
        (b"8,0", "label_row", "found '8,0'", 1),
        (b"8,0,3,1,2", "label_row", "expected 'label,start,end,confidence'", 1),
        (b"8 0 3 1", "label_row", "found '8 0 3 1'", 1),
        (b"8,0.5,3,1", "label_row", "whole numbers", 1),
        (b"8,,3,1", "label_row", "whole numbers", 1),
        (b"8,0,3,x", "label_row", "whole numbers", 1),
        (b"8,0,3_0,1", "label_row", "whole numbers", 1),
        (b"8,0," + b"9" * 5000, "label_row", "whole numbers", 1),
        (b"8,0,3,1\n" * 1000, "label_row", "more than 999 rows", 1000),
        (b"\xff\x00", "label_row", "whole numbers", 1),
    ],
)
def test_a_malformed_label_file_is_refused_with_its_line(data, reason, message, line):
    with pytest.raises(ReadError, match=message) as caught:
        parse_labels(data, "folder/x.txt", 1)
    assert (caught.value.reason, caught.value.line) == (reason, line)
    assert str(caught.value).startswith("folder/x.txt: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_part_2_has_no_label_of_two_people():
    for label in range(1, 52):
        data = f"{label},0,3,1".encode()
        if label in ABSENT:
            with pytest.raises(ReadError, match=f"part 2 has no label {label} "):
                parse_labels(data, "x", 2)
        else:
            assert parse_labels(data, "x", 2)[0].label == label - 1


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9999), st.integers(0, 9999)), min_size=1, max_size=9))
def test_written_labels_come_back(tmp_path_factory, rows):
    file = tmp_path_factory.getbasetemp() / "labels"
    made = [Interval(*row, line) for line, row in enumerate(rows, start=1)]
    write_labels(file, made)
    assert parse_labels(file.read_bytes(), "x", 1) == made


# --- cutting


@pytest.mark.parametrize(
    ("start", "end", "half_open", "one_based", "zero_based"),
    [
        (2, 5, [2, 3, 4], [1, 2, 3, 4], [2, 3, 4, 5]),
        (0, 2, [0, 1], [0, 1], [0, 1, 2]),  # the one-based reading of a start of 0 is 1
        (1, 2, [1], [0, 1], [1, 2]),
        (4, 4, [], [3], [4]),
        (0, 0, [], [], [0]),
        (7, 10, [7, 8, 9], [6, 7, 8, 9], [7, 8, 9]),
        (7, 9, [7, 8], [6, 7, 8], [7, 8, 9]),
        (5, 2, [2, 3, 4], [1, 2, 3, 4], [2, 3, 4, 5]),  # swapped
        (8, 99, [8, 9], [7, 8, 9], [8, 9]),  # clamped
        (-3, 2, [0, 1], [0, 1], [0, 1, 2]),
        (10, 20, [], [9], []),
        (11, 20, [], [], []),
    ],
)
def test_conventions_by_hand(tmp_path, start, end, half_open, one_based, zero_based):
    joints = coordinates(10)
    where = video(tmp_path, joints=joints, labels=f"8,{start},{end},1\n")
    for cut, rows in zip(
        ("half_open", "one_based_inclusive", "zero_based_inclusive"), (half_open, one_based, zero_based), strict=True
    ):
        recordings, notices = clips(where, cut=cut)
        assert ((("0002-L_000", "swapped")) in notices) == (start > end)
        if not rows:
            assert not recordings
            assert notices["0002-L_000", "empty_interval"]["outcome"] == "skipped"
            assert notices["0002-L_000", "empty_interval"]["line"] == 1
            continue
        (clip,) = recordings.values()
        np.testing.assert_array_equal(clip.joints, joints[:, rows])
        assert (clip.start, clip.end) == (rows[0], rows[-1] + 1)
        outside = start < 0 or end > {"half_open": 10, "one_based_inclusive": 10, "zero_based_inclusive": 9}[cut]
        assert (("0002-L_000", "clamped") in notices) == outside
    assert frames_of(3, 5, "half_open") == (3, 5)


def test_a_video_becomes_a_recording_per_row(tmp_path):
    joints = coordinates(10)
    where = video(tmp_path, "A03N07-M", joints, "51,6,9,2\n\n13,0,3,1\n1,2,8,1\n")  # unsorted, overlapping
    recordings, notices = clips(where, part=2)
    assert not notices
    assert list(recordings) == ["A03N07-M_000", "A03N07-M_001", "A03N07-M_002"]
    assert [clip.label_original for clip in recordings.values()] == [50, 12, 0]
    assert [clip.label for clip in recordings.values()] == [40, 11, 0]  # 13 follows 11 in part 2
    for clip, (start, end) in zip(recordings.values(), ((6, 9), (0, 3), (2, 8)), strict=True):
        np.testing.assert_array_equal(clip.joints, joints[:, start:end])
        assert (clip.subject, clip.camera, clip.setup, clip.video) == (7, 2, 3, "A03N07-M")
        assert (clip.start, clip.end) == (start, end)


def test_dense_labels_skip_what_part_2_lacks(tmp_path):
    present = [label for label in range(1, 52) if label not in ABSENT]
    where = video(tmp_path, "A01N01-L", labels="".join(f"{label},0,3,1\n" for label in present))
    recordings, _ = clips(where, part=2)
    assert [clip.label for clip in recordings.values()] == list(range(41))
    assert [clip.label_original for clip in recordings.values()] == [label - 1 for label in present]
    where = video(tmp_path, labels="".join(f"{label},0,3,1\n" for label in range(1, 52)))
    assert all(clip.label == clip.label_original for clip in clips(where)[0].values())


def test_bodies_that_are_never_seen_are_absent(tmp_path):
    joints = coordinates(12)
    joints[1, :3] = 0  # rows 0: body 1 alone
    joints[0, 3:6] = 0  # row 1: body 2 alone
    joints[:, 6:9] = 0  # row 2: nobody
    joints[1, 10] = 0  # row 3: both, the second one lost for a frame
    where = video(tmp_path, joints=joints, labels="1,0,3,1\n2,3,6,1\n3,6,9,1\n4,9,12,1\n")
    recordings, notices = clips(where)
    assert list(recordings) == ["0002-L_000", "0002-L_001", "0002-L_003"]
    np.testing.assert_array_equal(recordings["0002-L_000"].joints, joints[:1, :3])
    np.testing.assert_array_equal(recordings["0002-L_001"].joints, joints[1:, 3:6])
    np.testing.assert_array_equal(recordings["0002-L_003"].joints, joints[:, 9:])
    assert {key: notice["outcome"] for key, notice in notices.items()} == {
        ("0002-L_001", "body_moved"): "repaired",
        ("0002-L_002", "no_skeleton"): "skipped",
    }
    store = prepare([tmp_path], tmp_path / "stores", max_failed=0.0)  # nobody in an interval is no failure
    assert store.index["n_bodies"].tolist() == [1, 1, 2]
    assert store.index["flags"].tolist() == [0, 0, Flag.GAP]
    assert np.isnan(store.recording(2)[1, 1]).all()
    summary = {line["reason"]: (line["outcome"], line["count"]) for line in store.report["summary"]}
    assert summary == {
        "body_moved": ("repaired", 1),
        "missing_frame": ("warning", 1),
        "no_skeleton": ("skipped", 1),
    }


def test_bodies_by_energy(tmp_path):
    joints = coordinates(10)
    joints[1] *= 2
    joints[1, 4] = 0  # an empty frame must not count as motion, nor a missing joint
    joints[0, 5, 7] = np.nan
    joints = np.nan_to_num(joints)
    spread = [body[(body != 0).any(-1)].astype(float).std(0).sum() for body in joints]
    assert spread[1] > spread[0]
    where = video(tmp_path, joints=joints, labels="8,0,10,1\n")
    np.testing.assert_array_equal(clips(where, bodies="energy")[0]["0002-L_000"].joints, joints[::-1])
    np.testing.assert_array_equal(clips(where)[0]["0002-L_000"].joints, joints)
    where = video(tmp_path, joints=joints[::-1], labels="8,0,10,1\n")
    np.testing.assert_array_equal(clips(where, bodies="energy")[0]["0002-L_000"].joints, joints[::-1])


def test_clips_keep_their_true_length(tmp_path):
    joints = coordinates(700, 1)
    video(tmp_path, joints=joints, labels="8,0,700,1\n8,5,6,1\n")
    store = prepare([tmp_path], tmp_path / "stores")
    assert store.index["n_frames"].tolist() == [700, 1]
    np.testing.assert_array_equal(store.recording(0), joints[:1])


def test_one_clip_that_cannot_be_used_leaves_the_others(tmp_path):
    joints = coordinates(10, 1)
    joints[0, :4, 6] = 0
    video(tmp_path, joints=joints, labels="8,0,4,1\n8,4,10,1\n")
    store = prepare([tmp_path], tmp_path / "stores", max_failed=1.0)
    assert store.ids.tolist() == ["0002-L_001"]
    (notice,) = store.report["notices"]
    assert (notice["id"], notice["outcome"], notice["reason"]) == ("0002-L_000", "failed", "joint_never_seen")


# --- finding


def reasons(notices):
    return sorted((notice["id"], notice["outcome"], notice["reason"]) for notice in notices)


@pytest.mark.parametrize(
    "suffixes", [(".txt", ".txt"), (".skeleton", ".label"), (".txt", ".label"), (".skeleton", ".txt")]
)
def test_the_halves_of_a_pair_are_told_apart_by_content_or_suffix(tmp_path, suffixes):
    for name in ("0002-L", "0003-M"):
        video(tmp_path / "deep" / "er", name, suffixes=suffixes)
    sources, notices, size = find([tmp_path], 1)
    assert [source.name for source in sources] == ["0002-L", "0003-M"]
    for source in sources:
        assert [path.parent.name for path in source.where] == ["s", "l"]
    assert not notices
    assert size == 2 * len(text(coordinates(10)))


def test_both_parts_may_lie_together(tmp_path):
    video(tmp_path, "0002-L")
    video(tmp_path, "A01N01-L")
    for part, name in ((1, "0002-L"), (2, "A01N01-L")):
        sources, notices, _ = find([tmp_path], part)
        assert [source.name for source in sources] == [name]
        assert reasons(notices) == [("", "skipped", "other_name")]
        assert "2 files" in notices[0]["message"]


def test_halves_copies_and_other_files_are_reported(tmp_path):
    where = video(tmp_path / "a", "0002-L")
    video(tmp_path / "a", "0003-L")[0].unlink()
    video(tmp_path / "a", "0004-L")[1].unlink()
    shutil.copytree(where[1].parent, tmp_path / "b")
    (tmp_path / "a" / "0002-L.avi").write_bytes(b"?")
    (tmp_path / "a" / "._0002-L.txt").write_bytes(b"?")
    (tmp_path / "a" / "cross-subject.txt").write_bytes(SPLIT.replace(b"0002-L, ", b""))
    (tmp_path / "a" / "cross_view_v2.txt").write_bytes(b"Training videos:\nA01N01-M\nValidation videos:\nA01N01-L\n")
    store = prepare([tmp_path / "a", tmp_path / "b"], tmp_path / "stores")
    assert store.ids.tolist() == ["0002-L_000"]
    assert reasons(store.report["notices"]) == [
        ("", "skipped", "other_name"),
        ("0002-L", "skipped", "copy"),
        ("0003-L", "skipped", "copy"),
        ("0003-L", "skipped", "no_skeleton_file"),
        ("0004-L", "skipped", "no_label_file"),
    ]


def test_a_split_file_that_contradicts_the_rules_is_reported(tmp_path):
    video(tmp_path)
    (tmp_path / "cross-subject.txt").write_bytes(SPLIT)  # 0002-L is a training video
    (tmp_path / "cross-view.txt").write_bytes(b"hello")
    _, notices, _ = find([tmp_path], 1)
    assert reasons(notices) == [("", "warning", "split_file")] * 2
    assert "1 videos, for example 0002-L" in notices[0]["message"]
    assert "expected the heading" in notices[1]["message"]


def test_two_files_of_one_name_must_be_identical(tmp_path):
    video(tmp_path / "a")
    video(tmp_path / "b", labels="9,0,3,1\n")
    with pytest.raises(StoreError, match="0002-L occurs twice with different content") as caught:
        find([tmp_path / "a", tmp_path / "b"], 1)
    assert str(tmp_path / "a") in str(caught.value)
    assert str(tmp_path / "b") in str(caught.value)


@pytest.mark.parametrize("kind", ["skeleton", "label", "both"])
@pytest.mark.parametrize("data", [b"", b" \n\n"])
def test_an_empty_file_is_a_failure_of_its_video(tmp_path, kind, data):
    video(tmp_path, "0003-L")
    for half, path in zip(("skeleton", "label"), video(tmp_path), strict=True):
        if kind in (half, "both"):
            path.write_bytes(data)
    store = prepare([tmp_path], tmp_path / "stores", max_failed=0.5)
    assert store.ids.tolist() == ["0003-L_000"]
    failed = [notice for notice in store.report["notices"] if notice["outcome"] == "failed"]
    assert [(notice["id"], notice["reason"]) for notice in failed] == [("0002-L", "empty")]
    with pytest.raises(StoreError, match=r"1 of 2 files could not be used.*empty"):
        prepare([tmp_path], tmp_path / "others")
    with pytest.raises(StoreError, match="empty"):
        prepare([tmp_path], tmp_path / "strict", max_failed=0.5, strict=True)


def test_what_is_no_raw_data_is_refused_in_one_line(tmp_path):
    video(tmp_path / "two", "A01N01-L")
    video(tmp_path / "half")[1].unlink()
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "Skeleton.7z").write_bytes(b"7z")
    (tmp_path / "none").mkdir()
    for name, message in {
        "gone": "does not exist",
        "two": "pass --part 2",
        "half": "only halves of pairs",
        "packed": r"unpack .*Skeleton\.7z first",
        "none": "name the folders",
    }.items():
        with pytest.raises(StoreError, match=message) as caught:
            prepare([tmp_path / name], tmp_path / "stores")
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "stores").exists()


# --- the whole chain


def run(*words):
    return call("skelcl data", COMMANDS, [str(word) for word in words])


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Raw files of both parts and the stores made from them through the command line; never to be written to."""
    folder = tmp_path_factory.mktemp("pku-mmd")
    for part in (1, 2):
        raw = folder / f"raw-{part}"
        run("generate", "pku-mmd", "--part", part, "--output", raw, "--recordings", 6, "--actions", 5)
        run("prepare", "pku-mmd", "--part", part, "--raw", *sorted(raw.iterdir()), "--root", folder / "data")
    return folder


@pytest.mark.parametrize("part", [1, 2])
def test_generated_files_are_what_the_data_set_distributes(generated, part):
    raw = generated / f"raw-{part}"
    sources, notices, _ = find([raw], part)
    assert len(sources) == 18
    assert {source.name for source in sources} <= set(videos(part))
    assert reasons(notices) == []  # the split files agree with the rules
    assert [len([s for s in sources if is_test(s.name, part, split)]) for split in ("xsub", "xview")] == [6, 6]
    overlaps = 0
    for source in sources:
        joints, truncated = parse_skeleton(source.where[0].read_bytes(), "x")
        rows = parse_labels(source.where[1].read_bytes(), "x", part)
        assert truncated is None
        assert len(rows) == 5
        assert all(0 <= row.start < row.end <= joints.shape[1] for row in rows)
        assert np.abs(joints).max() < 10
        spans = sorted((row.start, row.end) for row in rows)
        overlaps += sum(after[0] < before[1] for before, after in pairwise(spans))
    assert (overlaps > 0) == (part == 2)


def test_generation_repeats_itself_and_leaves_other_folders_alone(generated, tmp_path):
    write_pku_mmd(tmp_path / "a", 1, recordings=3, actions=2, seed=4)
    before = {file: file.read_bytes() for file in (tmp_path / "a").rglob("*.txt")}
    assert len(before) == 2 * 9 + 2
    assert write_pku_mmd(tmp_path / "a", 1, recordings=3, actions=2, seed=4) == 9
    assert {file: file.read_bytes() for file in (tmp_path / "a").rglob("*.txt")} == before
    with pytest.raises(InputError, match="holds other files"):
        write_pku_mmd(tmp_path / "a", 1, recordings=3, actions=2, seed=5)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="holds other files"):
        write_pku_mmd(tmp_path / "b", 1, recordings=3, actions=2)
    assert [file.name for file in (tmp_path / "b").iterdir()] == ["mine.txt"]
    for options in ({"recordings": 2}, {"recordings": 100}, {"actions": 0}, {"seed": -1}):
        with pytest.raises(InputError, match="must lie in"):
            write_pku_mmd(tmp_path / "c", 1, **options)


@pytest.mark.parametrize("part", [1, 2])
def test_the_store_holds_the_labelled_frames(generated, part):
    store = SkeletonStore(generated / "data" / f"pku-mmd-{part}")
    assert store.meta["parameters"] == {"cut": "half_open", "bodies": "stored"}
    classes = {ACTIONS[label] for label in np.unique(store.index["label_original"])}
    assert classes <= set(PKU_MMD_ACTIONS)
    assert [store.meta["classes"][n] for n in store.index["label"]] == [
        ACTIONS[n] for n in store.index["label_original"]
    ]
    dropped = {notice["id"] for notice in store.report["notices"] if notice["reason"] == "no_skeleton"}
    assert len(store) + len(dropped) == 18 * 5
    skeletons, labels = {1: ("PKU_Skeleton_Renew", "Train_Label_PKU_final"), 2: ("skeleton", "label")}[part]
    for n, name in enumerate(store.ids.tolist()):
        file, row = name.split("_")
        raw = generated / f"raw-{part}"
        label, start, end, _ = (raw / labels / f"{file}.txt").read_text().splitlines()[int(row)].split(",")
        frames = np.loadtxt(raw / skeletons / f"{file}.txt")[int(start) : int(end)].reshape(-1, 2, 25, 3)
        bodies = [body for body in frames.swapaxes(0, 1) if body.any()]
        np.testing.assert_array_equal(np.nan_to_num(store.recording(n)), np.array(bodies, np.float32))
        assert store.index["label_original"][n] == int(label) - 1
        assert (store.index["start"][n], store.index["end"][n]) == (int(start), int(end))
        assert store.index["video"][n] == file


@pytest.mark.parametrize(("part", "split"), [(1, "xsub"), (1, "xview"), (2, "xsub"), (2, "xview")])
def test_a_data_module_yields_batches_of_the_official_split(generated, part, split):
    data = PKUMMD(generated / "data", part=part, split=split, batch_size=7)
    names = {key: {data.ids[n].split("_")[0] for n in data.parts[key]} for key in ("train", "test")}
    assert not any(is_test(name, part, split) for name in names["train"])
    assert all(is_test(name, part, split) for name in names["test"])
    assert len(names["train"]) + len(names["test"]) == 18
    batch = next(iter(data.train_dataloader()))
    assert len(batch) == 7
    frames = torch.zeros(7, 1, dtype=torch.int64)
    assert batch.at(frames).shape == (7, 2, 1, 25, 3)
    assert data.num_classes == len(data.class_names) == {1: 51, 2: 41}[part]


def test_labels_dense_and_original(generated):
    dense = PKUMMD(generated / "data", part=2, batch_size=99)
    original = PKUMMD(generated / "data", part=2, labels="original", batch_size=99)
    assert (dense.num_classes, original.num_classes) == (41, 51)
    for key in ("train", "test"):
        np.testing.assert_array_equal(dense.parts[key], original.parts[key])
    one, other = (next(iter(data.test_dataloader()[1])).label.tolist() for data in (dense, original))
    assert one != other
    assert [dense.class_names[n] for n in one] == [original.class_names[n] for n in other]
    assert max(one) < 41
    here = PKUMMD(generated / "data", part=1)
    there = PKUMMD(generated / "data", part=1, labels="original")
    np.testing.assert_array_equal(here.store.index["label"], there.store.index["label"])
    assert here.class_names == there.class_names == list(ACTIONS)


def test_relabelled_batches_survive_workers_and_the_device(generated):
    data = PKUMMD(generated / "data", part=2, labels="original", batch_size=8)
    expected = data.store.index["label_original"][data.parts["train_all"][:8]].tolist()
    for options in ({"num_workers": 1}, {"preload": "memory"}, {"preload": "device"}):
        other = PKUMMD(generated / "data", part=2, labels="original", batch_size=8, **options)
        batch = next(iter(other.test_dataloader()[0]))
        assert other.on_after_batch_transfer(batch, 0).label.tolist() == expected


def test_validation_asks_with_whole_recordings_or_performers(generated):
    for part, column in ((1, "setup"), (2, "subject")):
        data = PKUMMD(generated / "data", part=part, split="xview", validation="held-out")
        asks = set(data.store.index[column][data.parts["query"]].tolist())
        assert asks
        assert asks.isdisjoint(data.store.index[column][data.parts["gallery"]].tolist())


def test_prepare_prints_splits_and_what_is_missing(generated, tmp_path, capsys):
    run(
        "prepare",
        "pku-mmd",
        "--part",
        2,
        "--raw",
        generated / "raw-2",
        "--root",
        tmp_path,
        "--cut",
        "zero_based_inclusive",
    )
    lines = capsys.readouterr().out.splitlines()
    index = SkeletonStore(tmp_path / "pku-mmd-2").index
    held = np.isin(index["subject"], [2, 3, 7])
    assert lines[0] == (
        f"xsub: train {(~held).sum()} / test {held.sum()} clips of 12 / 6 videos (published: 5332 / 1613 clips)"
    )
    left = index["camera"] == 1
    assert lines[1] == f"xview: train {(~left).sum()} / test {left.sum()} clips of 12 / 6 videos"
    assert lines[2].startswith("warning: not the complete data set, 18 of 1009 videos have clips here; 991 are missing")
    before = SkeletonStore(generated / "data" / "pku-mmd-2").index
    lengths = dict(zip(before["id"].tolist(), before["n_frames"].tolist(), strict=True))
    report = json.loads((tmp_path / "pku-mmd-2" / "report.json").read_text())["notices"]
    clamped = {notice["id"] for notice in report if notice["reason"] == "clamped"}
    assert clamped
    for name, frames in zip(index["id"].tolist(), index["n_frames"].tolist(), strict=True):
        if name in lengths:  # not if its only frame with a body is the one more
            assert frames == lengths[name] + (name not in clamped)
    assert check("pku-mmd-2", tmp_path) == 0
    assert "xview" in capsys.readouterr().out


def test_a_complete_copy_is_not_warned_about_and_unknown_videos_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pku_mmd, "videos", lambda part: ["0002-L", "0291-M"])
    for name in ("0002-L", "0291-M"):
        video(tmp_path, name)
    prepare([tmp_path], tmp_path / "a")
    assert "warning" not in capsys.readouterr().out
    video(tmp_path, "0999-R")
    prepare([tmp_path], tmp_path / "b")
    assert "warning: 1 videos are not part of the data set, for example 0999-R" in capsys.readouterr().out


def test_other_options_need_another_store(generated, tmp_path):
    raw = generated / "raw-1"
    first = prepare([raw], tmp_path).meta["sources"]
    with pytest.raises(StoreError, match="--overwrite true"):
        prepare([raw], tmp_path, cut="one_based_inclusive")
    assert prepare([raw], tmp_path, cut="one_based_inclusive", overwrite=True).meta["sources"] != first


def test_processes_do_not_change_a_byte(generated, tmp_path):
    prepare([generated / "raw-1"], tmp_path, jobs=2)
    for name in ("joints.npy", "index.npz", "report.json", "meta.json"):
        made = (tmp_path / "pku-mmd-1" / name).read_bytes()
        assert made == (generated / "data" / "pku-mmd-1" / name).read_bytes()


def test_missing_stores_and_arguments_name_the_command(tmp_path):
    with pytest.raises(StoreError, match="skelcl data prepare pku-mmd --part 2 --raw <files> --root"):
        PKUMMD(tmp_path, part=2)
    with pytest.raises(StoreError, match="skelcl data prepare pku-mmd --part 2 --raw DIR"):
        run("prepare", "pku-mmd", "--part", 2)
    with pytest.raises(SystemExit):
        run("prepare", "pku-mmd", "--part", 3)


# --- garbage


def mutated(data, rng):
    """A few random damages of the kinds that disks, editors and people do."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(data) + 1), rng.choice([1, 1, 2, 9, 200])
        kind = rng.randrange(6)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = bytes(rng.randrange(256) for _ in range(length))
        elif kind == 3:
            data[at:at] = data[at : at + length]
        elif kind == 4:
            data[at:at] = rng.choice(
                [b"\n", b" ", b",", b"-", b"_", b"nan", b"1e999", b"\x00", b"9" * 400, b"\r", b"."]
            )
        elif at < len(data):
            data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def test_damaged_files_give_clips_of_the_right_shape_or_one_clean_error(tmp_path):
    rng = random.Random(0)
    skeleton, label = video(tmp_path, joints=coordinates(6), labels="8,0,3,1\n51,2,6,2\n13,1,5,1\n")
    whole = skeleton.read_bytes(), label.read_bytes()
    outcomes = {"clips": 0, "errors": 0}
    stop = time.monotonic() + 3
    while time.monotonic() < stop and sum(outcomes.values()) < 1500:
        which = rng.randrange(3)
        skeleton.write_bytes(mutated(whole[0], rng) if which != 1 else whole[0])
        label.write_bytes(mutated(whole[1], rng) if which != 0 else whole[1])
        try:
            items, lines = list(read((skeleton, label), 1)), [""]
        except ReadError as error:
            items, lines = [], str(error).splitlines()
        assert len(lines) == 1
        outcomes["clips" if items else "errors"] += 1
        for item in items:
            if isinstance(item, Recording):
                assert item.joints.dtype == np.float32
                assert item.joints.shape[1:] == (item.end - item.start, 25, 3)
                assert 1 <= item.joints.shape[0] <= 2
                assert 0 <= item.label < 51
                assert 0 <= item.start < item.end
    assert min(outcomes.values()) > 20


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(data):
    for parse in (parse_skeleton, lambda d, p: parse_labels(d, p, 2), parse_split):
        message = ""
        try:
            parse(data, "x")
        except ReadError as error:
            message = str(error)
        assert "\n" not in message


def test_short_lines_reserve_no_memory_for_rows():
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(ReadError, match="row 1 has 1"):
        parse_skeleton(b"0\n" * 200_000, "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6  # rows of 150 numbers would be 240 MB
