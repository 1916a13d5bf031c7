import random
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelcl.data.bodies import BodyFrames, select
from skelcl.data.formats.ntu_skeleton import decimals, parse, write_skeleton
from skelcl.data.recording import ReadError

IDS = [72057594037944738, 72057594037944734]  # one and the same as float64


def frames_of(lists, ids=IDS, seed=0):
    """A recording from the tracks that each frame lists, coordinates as a sensor gives them."""
    rng = np.random.default_rng(seed)
    rows = [(t, slot, track) for t, tracks in enumerate(lists) for slot, track in enumerate(tracks)]
    joints = (rng.uniform(-1, 1, (len(rows), 25, 3)) + np.array([0, 0, 3])).astype(np.float32)
    frame, slot, track = (np.array([row[k] for row in rows], np.int64) for k in range(3))
    return BodyFrames(joints, frame, slot, track, len(lists))


def text_of(bodies, folder, ids=IDS, newline="\n"):
    return write_skeleton(folder / "text", bodies, ids, newline).read_bytes()


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """Three frames with 2, 0 and 1 bodies, as lines: 1 + (1 + 54) + 1 + (1 + 27) = 85."""
    made = text_of(frames_of([[0, 1], [], [1]]), tmp_path_factory.mktemp("lines")).split(b"\n")[:-1]
    assert len(made) == 85
    return made


def joined(lines, changes=()):
    lines = list(lines)
    for number, line in dict(changes).items():
        lines[number - 1] = line
    return b"\n".join(line for line in lines if line is not None) + b"\n"


def same(one, other):
    for name in ("joints", "frame", "slot", "track", "num_frames"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@given(st.data())
def test_written_tracks_come_back_bit_by_bit(tmp_path_factory, data):
    count = data.draw(st.integers(0, 4))
    lists = data.draw(st.lists(st.lists(st.integers(0, max(count - 1, 0)), max_size=count, unique=True), max_size=6))
    order = {}
    lists = [[order.setdefault(track, len(order)) for track in tracks] for tracks in lists]
    bodies = frames_of(lists, seed=data.draw(st.integers(0, 99)))
    scale = data.draw(st.sampled_from([1e-6, 1.0, 1e4]))
    bodies = BodyFrames(bodies.joints * np.float32(scale), bodies.frame, bodies.slot, bodies.track, bodies.num_frames)
    ids = [IDS[0] + 2 * n for n in range(len(order))]
    newline = data.draw(st.sampled_from(["\n", "\r\n"]))
    content = parse(text_of(bodies, tmp_path_factory.getbasetemp(), ids, newline), "x")
    same(content.bodies, bodies)
    assert content.ids == tuple(ids)
    assert content.n_frames_declared == len(lists)
    assert content.warnings == []


def test_ids_that_are_one_float_stay_two_people(lines):
    assert float(IDS[0]) == float(IDS[1])
    content = parse(joined(lines), "x")
    assert content.ids == tuple(IDS)
    assert content.bodies.track.tolist() == [0, 1, 1]
    assert content.bodies.frame.tolist() == [0, 0, 2]


@given(st.lists(st.from_regex(r"-?\d{0,12}\.?\d{0,12}([eE][-+]?\d{1,2})?", fullmatch=True), min_size=1, max_size=9))
def test_decimals_are_those_of_float(words):
    text = np.frombuffer(" ".join(words).encode() + b" ", np.uint8)
    end = np.flatnonzero(text == 32)
    start = np.concatenate([[0], end[:-1] + 1])
    values, exact = decimals(text, start, end)
    for word, value, is_exact in zip(words, values.tolist(), exact.tolist(), strict=True):
        if is_exact:
            assert value == float(word)
            assert np.signbit(value) == np.signbit(float(word))


def test_ordinary_numbers_take_the_fast_way():
    words = [b"0.2181153", b"-1.5", b"3", b"-0", b".5", b"2.", b"12345678.12345678"]
    text = np.frombuffer(b" ".join(words) + b" ", np.uint8)
    end = np.flatnonzero(text == 32)
    values, exact = decimals(text, np.concatenate([[0], end[:-1] + 1]), end)
    assert exact.all()
    assert values.tolist() == [float(word) for word in words]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b" ", b"\t"),
        lambda text: text.replace(b" ", b"  "),
        lambda text: text.replace(b"\n", b" \t\n"),
        lambda text: b" " + text.replace(b"\n", b"\n "),
        lambda text: text + b"\r\n\n  \n",
        lambda text: text[:-1],
    ],
    ids=["BOM", "CRLF", "tabs", "double blanks", "trailing blanks", "leading blanks", "blank end", "no last newline"],
)
def test_harmless_spellings_are_accepted(lines, change):
    text = joined(lines)
    content = parse(change(text), "x")
    same(content.bodies, parse(text, "x").bodies)
    assert content.warnings == []


@pytest.mark.parametrize(
    "spelling", ["NaN", "nan", "-nan(ind)", "inf", "-inf", "Infinity", "1.#QNAN", "-1.#IND", "1.#INF", "-1.#INF",
                 "1.#QNAN0", "-1.#IND00", "1e400", "1e39"],
)  # fmt: skip
def test_numbers_that_are_none_are_missing_in_xyz_and_ignored_in_pixels(lines, spelling):
    plain = parse(joined(lines), "x").bodies.joints
    words = lines[4].split()
    for place, missing in ((1, 1), (5, 0)):
        changed = list(words)
        changed[place] = spelling.encode()
        joints = parse(joined(lines, {5: b" ".join(changed)}), "x").bodies.joints
        assert np.isnan(joints).sum() == missing
        kept = ~np.isnan(joints)
        np.testing.assert_array_equal(joints[kept], plain[kept])


def test_exponents_are_numbers(lines):
    joints = parse(joined(lines, {5: b"1.5E-05 -2e1 3e0 " + lines[4].split(b" ", 3)[3]}), "x").bodies.joints
    assert joints[0, 0].tolist() == [np.float32(1.5e-5), -20, 3]


@pytest.mark.parametrize(
    ("changes", "reason", "line", "message"),
    [
        ({1: b"2"}, "leftover", 58, "'1' follows the last of 2 frames"),
        ({2: b"1"}, "count", 30, "not a number of bodies"),
        ({57: b"1"}, "header", 58, "not an NTU file, '1' is not a body header"),
        ({1: b"4"}, "truncated", 85, "ends too early"),
        ({1: b"-3"}, "count", 1, "'-3' is not a number of frames"),
        ({1: b"3.0"}, "count", 1, "'3.0'"),
        ({1: b"100001"}, "count", 1, "0 to 100000"),
        ({1: b"9" * 5000}, "count", 1, "not a number of frames"),
        ({2: b"nan"}, "count", 2, "'nan' is not a number of bodies"),
        ({2: b"99999"}, "header", 57, "body header"),
        ({3: b"72057594037944738"}, "header", 3, "not an NTU file"),
        ({3: b"7.2057594e+16 0 1 1 1 1 0 0.01 -0.2 2"}, "header", 3, "not a whole number"),
        ({3: b"7 0 1 1 1 1 0 0.01 -0.2 2 2"}, "header", 3, "10 values"),
        ({4: b"26"}, "joint_count", 4, "26 joints instead of 25"),
        ({9: b"1 2 3"}, "joint", 9, "not an NTU file, '1 2 3' is not a joint of 12 values"),
        ({9: None}, "joint", 29, "12 values"),
        ({9: b""}, "joint", 9, "12 values"),
        ({9: b"1 2 3 4 5 6 7 8 9 10 11 12 13"}, "joint", 9, "12 values"),
        ({9: b"0,5 2 3 4 5 6 7 8 9 10 11 12"}, "number", 9, "'0,5' has a decimal comma"),
        ({9: b"1 2 3 4 5 6 7 8 9 10 11 0,5"}, "number", 9, "decimal comma"),
        ({9: b"1-2 2 3 4 5 6 7 8 9 10 11 12"}, "number", 9, "'1-2' is no number"),
        ({9: b"- 2 3 4 5 6 7 8 9 10 11 12"}, "number", 9, "'-' is no number"),
        ({9: b". 2 3 4 5 6 7 8 9 10 11 12"}, "number", 9, "'.' is no number"),
        ({9: b"1_0 2 3 4 5 6 7 8 9 10 11 12"}, "number", 9, "'1_0' is no number"),
        ({9: b"x 2 3 4 5 6 7 8 9 10 11 12"}, "number", 9, "'x' is no number"),
        ({9: b"1.#HUGE 2 3 4 5 6 7 8 9 10 11 12"}, "number", 9, "is no number"),
        ({9: "½ 2 3 4 5 6 7 8 9 10 11 12".encode()}, "number", 9, "is no number"),
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused_with_its_line(lines, changes, reason, line, message):
    with pytest.raises(ReadError) as caught:
        parse(joined(lines, changes), "folder/x.skeleton")
    assert (caught.value.reason, caught.value.line) == (reason, line)
    assert message in str(caught.value)
    assert str(caught.value).startswith("folder/x.skeleton: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", [b"", b" \r\n\t", b"\xef\xbb\xbf\n"])
def test_empty_files(text):
    with pytest.raises(ReadError) as caught:
        parse(text, "x")
    assert caught.value.reason == "empty"


def test_hand_tracking_files_of_the_same_name_are_refused():
    text = b"1\n1\n0\n26\n" + b"0.1 0.2 0.3\n" * 26
    with pytest.raises(ReadError, match="not an NTU file"):
        parse(text, "x")


def test_a_cut_file_names_its_end_and_can_be_salvaged(lines):
    whole = parse(joined(lines), "x").bodies
    for count in range(1, len(lines)):
        complete = 0 if count < 56 else 1 if count < 57 else 2
        for cut in (joined(lines[:count]), joined(lines[:count]) + lines[count][: len(lines[count]) // 2]):
            with pytest.raises(ReadError, match="the file ends") as caught:
                parse(cut, "x")
            assert caught.value.reason == "truncated"
            assert caught.value.line == len(cut.splitlines())
            if complete == 0:
                with pytest.raises(ReadError, match="the file ends"):
                    parse(cut, "x", salvage=True)
                continue
            content = parse(cut, "x", salvage=True)
            assert (content.bodies.num_frames, content.n_frames_declared) == (complete, 3)
            np.testing.assert_array_equal(content.bodies.joints, whole.joints[whole.frame < complete])
            (warning,) = content.warnings
            assert warning == f"the file ends in line {len(cut.splitlines())}: {complete} of 3 frames were kept"


def test_an_id_that_a_frame_names_twice_becomes_two_tracks(tmp_path):
    bodies = frames_of([[0, 1], [0], [0, 1]])
    content = parse(text_of(bodies, tmp_path, [7, 7]), "x")
    same(content.bodies, bodies)
    assert content.ids == (7, 7)
    assert content.warnings == ["body id 7 occurs several times in one frame: they became tracks of their own"]


def test_time_grows_with_the_size_of_a_file_alone(tmp_path):
    """20,000 bodies under one id in one frame: whatever compares each with each takes minutes."""
    row = b" ".join([b"1"] * 12)
    body = b"\n".join([b"7 0 1 1 1 1 0 0 0 2", b"25", *[row] * 25])
    start = time.process_time()
    content = parse(b"\n".join([b"1", b"20000", *[body] * 20000]), "x")
    select(content.bodies, "sgn")
    assert len(content.ids) == 20000
    assert time.process_time() - start < 10


def test_many_bodies_are_all_read(tmp_path):
    bodies = frames_of([list(range(6))] * 2)
    same(parse(text_of(bodies, tmp_path, range(6)), "x").bodies, bodies)


def attempt(text, salvage):
    try:
        return parse(text, "x", salvage)
    except ReadError as error:
        return error


def test_mutated_files_give_errors_or_bodies(lines):
    """Seeded and bounded in time: no other exception, no hang, no wrong shape."""
    rng = random.Random(0)
    original = joined(lines)
    pieces = [
        b"\n",
        b" ",
        b"0",
        b"25\n",
        b"nan",
        b"-",
        b"1e9",
        b"99999\n",
        b"\x00",
        b"\xff",
        b",",
        b"\r",
        b"1.#IND",
        b"\t",
    ]
    start, tried, good = time.perf_counter(), 0, 0
    while tried < 3000 and time.perf_counter() - start < 4:
        text = bytearray(original)
        for _ in range(rng.choice([1, 1, 2, 8])):
            at, length = rng.randrange(len(text)), rng.choice([0, 1, 1, 3, 40, 300])
            kind = rng.randrange(4)
            if kind == 0:
                del text[at : at + length]
            elif kind == 1:
                text[at:at] = rng.choice(pieces)
            elif kind == 2:
                text[at : at + 1] = bytes([rng.randrange(256)])
            else:
                there = rng.randrange(len(text))
                text[at : at + length] = text[there : there + length]
            if not text:
                break
        tried += 1
        content = attempt(bytes(text), salvage=tried % 2 == 0)
        if isinstance(content, ReadError):
            assert "\n" not in str(content)
            continue
        good += 1
        bodies = content.bodies
        assert bodies.joints.shape == (len(bodies.frame), 25, 3)
        assert bodies.joints.dtype == np.float32
        assert (bodies.frame < bodies.num_frames).all()
        assert len(set(zip(bodies.frame.tolist(), bodies.track.tolist(), strict=True))) == len(bodies.frame)
        for selection in ("sgn", "agcn", "first-two"):
            chosen, _ = select(bodies, selection)
            assert len(chosen) <= 2
            assert chosen.shape[1:] == (bodies.num_frames, 25, 3)
    assert tried >= 500
    assert 0 < good < tried
