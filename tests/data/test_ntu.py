import json
import os
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelcl.data import NTU60, NTU120, SkeletonStore, StoreError
from skelcl.data.bodies import BodyFrames, select
from skelcl.data.commands import COMMANDS, statistics
from skelcl.data.convert import ReadError
from skelcl.data.formats import synthetic
from skelcl.data.formats.ntu import (
    MAX_BYTES,
    NOVEL_ACTIONS,
    PUBLISHED,
    TRAIN_PERFORMERS,
    belongs,
    decimals,
    difference,
    fields,
    find,
    info,
    missing_skeletons,
    one_shot,
    parse,
    prepare,
    read,
    splits,
    write_skeleton,
)
from skelcl.data.store import Flag
from skelcl.parsing import call

NAME = "S001C002P003R002A013"
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


# Reading


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


# Names, lists and splits


def ids_of(names):
    """Index columns of names alone."""
    numbers = np.array([fields(name) for name in names])
    return {
        "id": np.array(names),
        "setup": numbers[:, 0],
        "camera": numbers[:, 1],
        "subject": numbers[:, 2],
        "replication": numbers[:, 3],
        "label": numbers[:, 4] - 1,
    }


def test_the_lists_of_missing_skeletons_have_their_sizes():
    missing = missing_skeletons()
    assert len(missing) == 535
    assert sum(belongs(name, "ntu60") for name in missing) == 302
    assert all(belongs(name, "ntu120") for name in missing)
    assert {f"S028C00{camera}P087R001A061" for camera in (1, 2, 3)} <= missing


ALL_FILES = {  # without the list of missing skeletons
    "ntu60": {"xsub": (40320, 16560), "xview": (37920, 18960)},
    "ntu120": {"xsub": (63360, 51120), "xset": (54720, 59760)},
}


@pytest.mark.parametrize("release", ["ntu60", "ntu120"])
def test_the_listed_names_fall_into_the_parts_as_the_published_counts_say(release):
    index = ids_of(sorted(name for name in missing_skeletons() if belongs(name, release)))
    for name, train in splits(release, index).items():
        lost = tuple(np.subtract(ALL_FILES[release][name], PUBLISHED[release][name]))
        assert lost == (train.sum(), (~train).sum()), name


def test_published_counts_fit_the_scheme_of_the_names():
    """Every performer in a setup does each of the 60 actions of its half twice before three cameras: 360 files."""
    for release, total in (("ntu60", 56880), ("ntu120", 114480)):
        for name, (train, test) in ALL_FILES[release].items():
            assert train + test == total
            unit = 60 * 2 * 3
            assert test % (unit // 3 if name == "xview" else unit) == 0
        usable = {sum(counts) for counts in PUBLISHED[release].values()}
        assert usable == {total - sum(belongs(name, release) for name in missing_skeletons())}
    train, test = ALL_FILES["ntu60"]["xview"]
    assert train == 2 * test


def test_every_pair_of_performer_and_setup_is_split_whole():
    """Full grids of names: the rules look at nothing but performer, camera and setup."""
    for release, performers, setups in (("ntu60", 40, range(1, 18)), ("ntu120", 106, range(1, 33))):
        names = [
            f"S{setup:03d}C{camera:03d}P{performer:03d}R001A{1 if setup <= 17 else 61:03d}"
            for setup in setups
            for camera in (1, 2, 3)
            for performer in range(1, performers + 1)
            if performer <= 40 or setup > 17
        ]
        assert all(belongs(name, release) for name in names)
        index = ids_of(names)
        for name, train in splits(release, index).items():
            keys = {"xsub": "subject", "xview": "camera", "xset": "setup"}
            trained, tested = (set(index[keys[name]][part].tolist()) for part in (train, ~train))
            assert not trained & tested
            if name == "xsub":
                assert len(trained) == len(tested) == performers // 2
                assert trained == {p for p in TRAIN_PERFORMERS if p <= performers}
            else:
                assert trained == ({2, 3} if name == "xview" else set(range(2, 33, 2)))


@pytest.mark.parametrize("release", ["ntu60", "ntu120"])
def test_the_published_counts_are_recognised(release):
    total = sum(PUBLISHED[release]["xsub"])
    index = {
        "subject": np.where(np.arange(total) < PUBLISHED[release]["xsub"][0], 1, 3),
        "camera": np.where(np.arange(total) < PUBLISHED["ntu60"]["xview"][0], 2, 1),
        "setup": np.where(np.arange(total) < PUBLISHED["ntu120"]["xset"][0], 2, 1),
    }
    assert difference(release, index) == ""
    index["subject"][0] = 3
    assert "xsub train" in difference(release, index)
    assert ";" not in difference(release, index), "the other split is still complete"


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
    names = [f"S{s:03d}C{c:03d}P008R{r:03d}A{a:03d}" for s in (1, 18) for c in (1, 3) for r in (1, 2)
             for a in range(1, 121) if belongs(f"S{s:03d}C{c:03d}P008R{r:03d}A{a:03d}", "ntu120")]  # fmt: skip
    index = ids_of(names)
    novel, exemplar = one_shot(index)
    assert set(index["label"][novel] + 1) == set(NOVEL_ACTIONS)
    assert index["id"][exemplar].tolist() == [
        f"S{1 if action <= 55 else 18:03d}C003P008R001A{action:03d}" for action in NOVEL_ACTIONS
    ]
    assert not set(index["id"][exemplar]) & missing_skeletons()


# From raw files to loaders


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw") / "ntu120"
    assert synthetic.write_ntu(folder, "ntu120", subjects=8, actions=3, setups=2) == 8 * 6 * 3
    return folder


@pytest.fixture(scope="module")
def root(raw, tmp_path_factory):
    root = tmp_path_factory.mktemp("stores")
    prepare([raw], root, "ntu60")
    prepare([raw], root, "ntu120")
    return root


def run(*words):
    return call("skelcl data", COMMANDS, [str(word) for word in words])


def stored(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_generated_files_show_what_real_ones_do(raw):
    contents = [parse(file.read_bytes(), file.name) for file in sorted(raw.iterdir())]
    per_frame = [np.bincount(content.bodies.frame, minlength=content.bodies.num_frames) for content in contents]
    assert any((counts == 0).any() for counts in per_frame), "empty frames"
    assert any((counts == 3).any() for counts in per_frame), "bystanders"
    assert any(len(content.ids) == 2 and counts.max() == 1 for content, counts in zip(contents, per_frame, strict=True))
    assert any(len({float(body) for body in content.ids}) < len(content.ids) for content in contents), "equal floats"
    swapped = [c.bodies.track[np.flatnonzero(c.bodies.slot == 0)] for c in contents if len(c.ids) == 2]
    assert any((np.diff(track) != 0).any() for track in swapped), "swapped order"
    assert all(content.warnings == [] for content in contents)


def test_generating_twice_gives_the_same_bytes(raw, tmp_path):
    synthetic.write_ntu(tmp_path / "again", "ntu120", subjects=8, actions=3, setups=2)
    assert stored(tmp_path / "again") == stored(raw)


def test_commands_make_a_store_from_generated_files(tmp_path, capsys):
    out = tmp_path / "raw"
    run("generate", "ntu60", "--output", out, "--subjects", 3, "--actions", 3, "--setups", 1)
    run("prepare", "ntu60", "--raw", out, "--root", tmp_path / "data")
    printed = capsys.readouterr().out
    assert f"{out}: 27 files; next: skelcl data prepare ntu60 --raw {out}" in printed
    assert "xsub: train 18 / test 9\n" in printed
    assert "xsub train 18 of 40091, test 9 of 16487; xview train 18 of 37646, test 9 of 18932" in printed
    assert run("check", "ntu60", "--root", tmp_path / "data") == 0
    printed = capsys.readouterr().out
    assert "train 18 / test 9; copies" in printed
    assert run("list", "--root", tmp_path / "data") == 0
    assert "ntu60" in capsys.readouterr().out


def test_a_store_holds_what_the_files_show(raw, root):
    store = SkeletonStore(root / "ntu120")
    assert len(store) == 144
    for n, name in enumerate(store.ids.tolist()):
        (recording,) = read(str(raw / f"{name}.skeleton"))
        seen = ~np.isnan(recording.joints)
        np.testing.assert_array_equal(store.recording(n)[seen], recording.joints[seen])
        assert (store.index["setup"][n], store.index["camera"][n], store.index["subject"][n]) == fields(name)[:3]
        assert store.index["label"][n] == fields(name)[4] - 1
    assert store.meta["parameters"] == {
        "bodies": "sgn", "compact_gaps": False, "missing": "default", "salvage": False,
    }  # fmt: skip
    assert len(store.meta["classes"]) == 120
    assert statistics(store)["xset"].startswith("train 72 / test 72")


def test_ntu60_takes_the_first_seventeen_setups(root):
    store = SkeletonStore(root / "ntu60")
    assert len(store) == 72
    assert store.index["setup"].max() <= 17
    (notice,) = (notice for notice in store.report["notices"] if notice["reason"] == "other_release")
    assert notice["message"].startswith("72 files are no part of ntu60")


def test_options_choose_the_bodies(raw, tmp_path):
    kept = prepare([raw], tmp_path / "a", "ntu60", bodies="agcn")
    closed = prepare([raw], tmp_path / "b", "ntu60", compact_gaps=True)
    assert kept.meta["parameters"]["bodies"] == "agcn"
    assert (kept.index["n_frames"] == kept.index["n_frames_declared"]).all()
    assert (closed.index["n_frames"] < closed.index["n_frames_declared"]).any()
    body_0_gaps = [np.isnan(closed.recording(n)).all((0, 2, 3)).any() for n in range(len(closed))]
    assert not any(body_0_gaps)


def test_listed_files_are_expected_to_be_missing(raw, tmp_path, capsys):
    names = sorted(file.stem for file in raw.iterdir())[:5]
    bad = shutil.copytree(raw, tmp_path / "raw")
    for name in names:
        (bad / f"{name}.skeleton").write_bytes(b"0\n")
    listed = tmp_path / "missing.txt"
    listed.write_text("Names of the samples:\r\n(one per line)\r\n\r\n" + "".join(f"{name}\r\n" for name in names))
    store = prepare([bad], tmp_path / "a", "ntu120", missing=str(listed))
    assert len(store) == 139
    notices = [notice for notice in store.report["notices"] if notice["reason"] == "missing_list"]
    assert [notice["id"] for notice in notices] == names
    assert {notice["outcome"] for notice in notices} == {"skipped"}
    assert len(store.meta["parameters"]["missing"]) == 64
    with pytest.raises(StoreError, match="5 of 144 files could not be used"):
        prepare([bad], tmp_path / "b", "ntu120", missing="none")
    report = json.loads((tmp_path / "b" / ".ntu120.partial" / "report.json").read_text())
    assert report["summary"][0] == {"outcome": "failed", "reason": "no_skeleton", "count": 5}


def test_the_authors_list_is_the_default(tmp_path):
    synthetic.write_ntu(tmp_path / "raw", "ntu60", subjects=1, actions=1, setups=1)
    listed = sorted(missing_skeletons())[0]
    (tmp_path / "raw" / f"{listed}.skeleton").write_text("2\n0\n0\n")
    assert len(prepare([tmp_path / "raw"], tmp_path, "ntu60")) == 3
    with pytest.raises(StoreError, match="1 of 4 files"):
        prepare([tmp_path / "raw"], tmp_path / "b", "ntu60", missing="none")


@pytest.mark.parametrize(("text", "message"), [(None, "not a list of names"), ("nothing\n", "holds no name")])
def test_an_unusable_list_is_one_line(raw, tmp_path, text, message):
    if text:
        (tmp_path / "list").write_text(text)
    with pytest.raises(StoreError, match=message):
        prepare([raw], tmp_path, "ntu60", missing=str(tmp_path / "list"))


def test_files_are_found_by_name_below_several_roots(raw, root, tmp_path):
    for n, file in enumerate(sorted(raw.iterdir())):
        folder = tmp_path / f"S{n % 2}" / "P001" / str(n % 3)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder)
        if n < 4:
            shutil.copy(file, tmp_path / "S0")
    (tmp_path / "S1" / "README").write_text("?")
    (tmp_path / "S1" / f"{NAME}.skeleton.npy").write_text("?")
    (tmp_path / "S1" / "P001" / f"._{NAME}.skeleton").write_text("?")
    places = [tmp_path / "S0", tmp_path / "S1", tmp_path / "S0" / "P001"]
    store = prepare(places, tmp_path / "stores", "ntu120")
    assert (store.path / "joints.npy").read_bytes() == (root / "ntu120" / "joints.npy").read_bytes()
    skipped = {line["reason"]: line["count"] for line in store.report["summary"] if line["outcome"] == "skipped"}
    assert skipped == {"other_name": 1, "copy": 4}
    assert any(notice["message"].startswith("3 files of other names") for notice in store.report["notices"])


def test_two_files_of_one_name_must_be_identical(raw, tmp_path):
    name = sorted(file.name for file in raw.iterdir())[3]
    (tmp_path / name).write_bytes(b"0\n")
    with pytest.raises(StoreError, match="occurs twice with different content") as caught:
        find([raw, tmp_path], "ntu120", frozenset())
    assert str(raw / name) in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"), [(None, "does not exist"), ("x.zip", "unpack the archives"), ("x", "no ntu")]
)
def test_unusable_places_are_one_line(tmp_path, make, message):
    place = tmp_path / "place"
    if make:
        place.mkdir()
        (place / make).write_text("?")
    with pytest.raises(StoreError, match=message) as caught:
        prepare([place], tmp_path / "stores", "ntu60")
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="--raw is missing"):
        run("prepare", "ntu60")


def test_damage_is_listed_with_reason_and_line_and_salvaged_on_request(raw, tmp_path):
    bad = shutil.copytree(raw, tmp_path / "raw")
    name = sorted(bad.iterdir())[0].stem
    file = bad / f"{name}.skeleton"
    file.write_bytes(file.read_bytes()[:-200])
    store = prepare([bad], tmp_path / "a", "ntu60", max_failed=0.05)
    (notice,) = (notice for notice in store.report["notices"] if notice["outcome"] == "failed")
    assert (notice["id"], notice["reason"]) == (name, "truncated")
    assert notice["line"] == len(file.read_bytes().splitlines())
    salvaged = prepare([bad], tmp_path / "b", "ntu60", salvage=True)
    assert len(salvaged) == len(store) + 1
    assert salvaged.index["n_frames"][0] == salvaged.index["n_frames_declared"][0] - 1
    assert any("frames were kept" in notice["message"] for notice in salvaged.report["notices"])
    with pytest.raises(StoreError, match="ends within a line"):
        prepare([bad], tmp_path / "c", "ntu60", strict=True)


def test_missing_frames_and_joints_are_marked(tmp_path):
    bodies = frames_of([[0], [], [0], [0], [0]])
    bodies.joints[1] = 0.0  # frame 2: a body of zeros
    bodies.joints[2, :13] = np.nan  # frame 3: more than half of the joints
    bodies.joints[3, 7] = np.nan  # frame 4
    write_skeleton(tmp_path / f"{NAME}.skeleton", bodies, IDS)
    store = prepare([tmp_path], tmp_path / "stores", "ntu60")
    clip = store.recording(0)
    assert np.isnan(clip).all((0, 2, 3)).tolist() == [False, True, True, True, False]
    assert store.index["flags"][0] == Flag.REPAIRED | Flag.GAP
    assert np.argwhere(np.isnan(clip[0, 4]).all(-1)).tolist() == [[7]]


def test_one_frame_is_enough(tmp_path):
    write_skeleton(tmp_path / f"{NAME}.skeleton", frames_of([[0]]), IDS)
    store = prepare([tmp_path], tmp_path / "stores", "ntu60")
    assert store.index["flags"][0] == Flag.SINGLE_FRAME


@pytest.mark.parametrize("seed", range(6))
def test_a_run_stopped_at_any_moment_ends_in_the_same_bytes(raw, root, tmp_path, monkeypatch, seed):
    monkeypatch.setattr("skelcl.data.convert.FILES_PER_SHARD", 9)
    moment = random.Random(seed).randrange(11)
    for name in ("replace", "rename"):
        calls = getattr(os, name)

        def stopping(source, target, calls=calls):
            nonlocal moment
            moment -= 1
            if moment == 0:
                raise KeyboardInterrupt
            calls(source, target)

        monkeypatch.setattr(os, name, stopping)
    for _ in range(2):
        try:
            prepare([raw], tmp_path, "ntu60")
        except KeyboardInterrupt:
            assert not (tmp_path / "ntu60").exists()
    assert stored(tmp_path / "ntu60") == stored(root / "ntu60")


# Data modules


def test_parts_follow_the_protocols(root):
    data = NTU60(root, split="xsub")
    subject, camera = data.store.index["subject"], data.store.index["camera"]
    assert set(subject[data.parts["train"]]) == {1, 2, 4, 5, 8}
    assert set(subject[data.parts["test"]]) == {3, 6, 7}
    data = NTU60(root, split="xview")
    assert set(camera[data.parts["train"]]) == {2, 3}
    assert set(camera[data.parts["test"]]) == {1}
    data = NTU120(root, split="xset")
    assert set(data.store.index["setup"][data.parts["train"]]) == {2, 18}
    assert set(data.store.index["setup"][data.parts["test"]]) == {1, 19}
    assert (data.num_classes, data.num_persons, data.skeleton.num_joints) == (120, 2, 25)
    assert data.class_names[0] == "drink water"
    clips = next(iter(data.train_dataloader()))
    assert clips.joints.shape[1:] == (25, 3)


def test_one_shot_compares_queries_with_one_exemplar_of_each_novel_action(root):
    data = NTU120(root, split="one-shot", validation="held-out")
    label = data.store.index["label"] + 1
    novel = np.isin(label, NOVEL_ACTIONS)
    gallery, query = data.test_dataloader()
    assert [str(data.ids[n]) for batch in gallery for n in batch.index] == [
        "S001C003P008R001A001", "S018C003P008R001A061",
    ]  # fmt: skip
    queries = [int(n) for batch in query for n in batch.index]
    assert set(label[queries]) == {1, 61}
    assert len(queries) + 2 == novel.sum()
    for part in ("train", "gallery", "query"):
        assert not novel[data.parts[part]].any()
    assert len(data.parts["gallery"]) + len(data.parts["query"]) == (~novel).sum()
    assert data.subsets == {}


def test_one_shot_without_an_exemplar_is_refused(raw, tmp_path):
    shutil.copytree(raw, tmp_path / "raw")
    (tmp_path / "raw" / "S018C003P008R001A061.skeleton").unlink()
    prepare([tmp_path / "raw"], tmp_path, "ntu120")
    with pytest.raises(StoreError, match="A061 has none"):
        NTU120(tmp_path, split="one-shot")


def test_a_partial_copy_is_told_once(root, monkeypatch):
    told = []
    monkeypatch.setattr("skelcl.data.ntu.rank_zero_info", told.append)
    data = NTU60(root)
    data.setup("fit")
    data.setup("test")
    assert len(told) == 1
    assert "xsub train 45 of 40091, test 27 of 16487" in told[0]


def test_without_a_store_the_command_is_named(tmp_path):
    with pytest.raises(StoreError, match="skelcl data prepare ntu120 --raw"):
        NTU120(tmp_path)


@pytest.mark.parametrize("wrong", [{"subjects": 0}, {"subjects": 41}, {"actions": 16}, {"setups": 0}, {"seed": -1}])
def test_generating_refuses_what_the_names_cannot_hold(tmp_path, wrong):
    with pytest.raises(ValueError, match="must lie in"):
        synthetic.write_ntu(tmp_path / "x", **wrong)
    assert not (tmp_path / "x").exists()


def test_files_that_are_far_too_large_are_refused_unread(tmp_path):
    file = tmp_path / f"{NAME}.skeleton"
    with file.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(ReadError, match="no NTU file has"):
        read(str(file))
    with pytest.raises(ReadError, match="cannot be read"):
        read(str(Path(file.parent, "gone", file.name)))
