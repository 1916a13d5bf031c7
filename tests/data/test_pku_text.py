"""PKU-MMD's text files against hand-made rows, in any harmless spelling and in none."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skelcl.data.formats.pku_text import (
    Interval,
    parse_labels,
    parse_skeleton,
    parse_split,
    write_labels,
    write_skeleton,
    write_split,
)
from skelcl.data.recording import ReadError

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
def test_numbers_that_are_none_are_missing_joints(spelling):
    joints = coordinates(3)
    words = [line.split() for line in text(joints).splitlines()]
    words[1][7] = spelling.encode()  # body 1, joint 2, y
    again, truncated = parse_skeleton(b"\n".join(b" ".join(row) for row in words), "x")
    assert truncated is None
    assert np.argwhere(~np.isfinite(again)).tolist() == [[0, 1, 2, 1]]
    again[0, 1, 2, 1] = joints[0, 1, 2, 1]
    np.testing.assert_array_equal(again, joints)


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
def test_a_last_row_that_is_cut_off_is_left_out(end):
    data = b"\n".join([*GOOD[:3], end])
    joints, truncated = parse_skeleton(data, "x")
    np.testing.assert_array_equal(joints, coordinates(4)[:, :3])
    assert truncated == 4


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


# --- split files


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


# --- any bytes


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
    tracemalloc.start()
    with pytest.raises(ReadError, match="row 1 has 1"):
        parse_skeleton(b"0\n" * 200_000, "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6  # rows of 150 numbers would be 240 MB
