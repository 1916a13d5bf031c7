import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from skelcl.commands.data import COMMANDS, prepare_nw_ucla
from skelcl.commands.parsing import call
from skelcl.data.convert import convert
from skelcl.data.inspection import check, list_stores, statistics
from skelcl.data.recording import DatasetInfo, Recording, Source
from skelcl.data.store import SkeletonStore, StoreError
from skelcl.skeleton import KINECT20


def run(*words):
    return call("skelcl data", COMMANDS, [str(word) for word in words])


def squeezed(text):
    return [re.sub(r" {2,}", " | ", line.strip()) for line in text.splitlines()]


def test_prepare_reports_what_it_did(raw_folder, tmp_path, capsys):
    raw = shutil.copytree(raw_folder, tmp_path / "raw")
    (raw / "a01_s01_e00_v01.json").write_text("")
    run("prepare", "nw-ucla", "--raw", raw, "--root", tmp_path / "data", "--max_failed", "0.1")
    printed = capsys.readouterr().out
    assert "failed: 1 × empty; the first: a01_s01_e00_v01: " in printed
    assert f"{tmp_path / 'data' / 'nw-ucla'}: 74 sequences" in printed
    assert SkeletonStore(tmp_path / "data" / "nw-ucla").report["notices"][0]["id"] == "a01_s01_e00_v01"


@pytest.mark.parametrize("words", [["--raw", "part0", "part1"], ["--raw", "part0", "--raw", "part1"]])
def test_prepare_takes_several_places(raw_folder, tmp_path, words):
    for n, file in enumerate(sorted(raw_folder.iterdir())):
        (tmp_path / f"part{n % 2}").mkdir(exist_ok=True)
        shutil.copy(file, tmp_path / f"part{n % 2}")
    places = [tmp_path / word if word[0] != "-" else word for word in words]
    run("prepare", "nw-ucla", *places, "--root", tmp_path / "data")
    assert len(SkeletonStore(tmp_path / "data" / "nw-ucla")) == 75


def test_more_failures_than_accepted_leave_no_store(raw_folder, tmp_path):
    raw = shutil.copytree(raw_folder, tmp_path / "raw")
    (raw / "a01_s01_e00_v01.json").write_text("[")
    with pytest.raises(StoreError, match=r"1 of 75 files .*a01_s01_e00_v01\.json: not valid JSON .*--max_failed"):
        prepare_nw_ucla(raw, tmp_path / "data")
    assert sorted(set(os.listdir(tmp_path / "data")) - {".nw-ucla.lock"}) == [".nw-ucla.partial"]
    (raw / "a01_s01_e00_v01.json").write_bytes((raw_folder / "a01_s01_e00_v01.json").read_bytes())
    prepare_nw_ucla(raw, tmp_path / "data")
    assert sorted(set(os.listdir(tmp_path / "data")) - {".nw-ucla.lock"}) == ["nw-ucla"]


def test_raw_must_be_named():
    with pytest.raises(StoreError, match="--raw is missing"):
        run("prepare", "nw-ucla")


@pytest.mark.parametrize(
    "words",
    [("prepare", "ntu"), ("prepare", "nw-ucla", "--rwa", "x"), ("check",), ("prepare", "nw-ucla", "--jobs", "a")],
)
def test_a_wrong_command_line_is_one_line_and_code_2(words, capsys):
    with pytest.raises(SystemExit) as caught:
        run(*words)
    assert caught.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_check_counts_the_miniature(root, recordings, capsys):
    assert run("check", "nw-ucla", "--root", root) == 0
    by_name = capsys.readouterr().out
    assert run("check", root / "nw-ucla") == 0
    assert capsys.readouterr().out == by_name
    frames = [recording.joints.shape[1] for recording in recordings.values()]
    jumps = sum(
        bool((np.linalg.norm(np.diff(recording.joints[0].astype(float), axis=0), axis=-1) > 0.5).any())
        for recording in recordings.values()
    )
    bones = [np.linalg.norm(r.joints - r.joints[..., list(KINECT20.parents), :], axis=-1) for r in recordings.values()]
    longs = [name for name, lengths in zip(recordings, bones, strict=True) if (lengths > 2).any()]
    long, first = len(longs), longs[0]
    tall = [np.ptp(recording.joints[0, ..., 1].astype(float), axis=1) for recording in recordings.values()]
    height = np.median([sorted(each)[(len(each) - 1) // 2] for each in tall])
    assert squeezed(by_name) == [
        str(root / "nw-ucla"),
        "coordinates | 3; units m; axes Kinect v1 camera: y up, z away from the camera; recipe none",
        "rate | unknown",
        f"typical height | {height:.3g} m along y",
        "sequences | 75, of which 0 have a single frame",
        "classes | 5 of 10, 15 to 15 sequences each",
        "performers, cameras, setups | 5, 3, unknown",
        f"frames | {sum(frames)}; per sequence min {min(frames)} / median {np.median(frames):g} / max {max(frames)}",
        "bodies | 75 with 1",
        "missing joints | 0, 0.0%, in 0 sequences (interpolated when loaded)",
        "missing frames of a body | 0 in 0 sequences",
        f"jumps of a joint > 0.5 m | in {jumps} sequences, the first is a01_s01_e00_v01",
        "coordinates > 10 m | in 0 sequences",
        f"bones > 2 m | in {long} sequences, the first is {first}",
        "bodies 20 times larger or smaller than most | in 0 sequences",
        "bodies that swap between two frames | in 0 sequences",
        "joints that never move | in 0 sequences",
        "test_view 1 | train 50 / test 25; copies: 0 of the test part in training, 5 within training",
        "test_view 2 | train 50 / test 25; copies: 5 of the test part in training, 0 within training",
        "test_view 3 | train 50 / test 25; copies: 5 of the test part in training, 0 within training",
        "checksums | as written",
    ]


def test_statistics_find_defects_within_tracks_only(tmp_path, monkeypatch):
    monkeypatch.setattr("skelcl.data.inspection._CLIPS_AT_ONCE", 2)
    still = np.ones((2, 4, 20, 3), np.float32)
    still[1] = 3  # far from the first body, but no joint moves
    jump = np.ones((1, 3, 20, 3), np.float32)
    jump[0, 2, 7, 1] = 1.6
    slow = np.ones((1, 3, 20, 3), np.float32)
    slow[0, 2, 7, 1] = 1.4
    lost = np.ones((1, 5, 20, 3), np.float32)
    lost[0, 1] = 0
    lost[0, 3, 2] = lost[0, 4, 2] = lost[0, 4, 3] = 0
    far = np.full((1, 1, 20, 3), -11, np.float32)
    far[0, 0, 7, 2] = -8.9  # a hand 2.1 m from its wrist
    clips = {"a": still, "b": jump, "c": slow, "d": lost, "e": far, "f": far}
    sources = [Source(name, [Recording(name, joints, label=0)], name) for name, joints in clips.items()]
    info = DatasetInfo("other", KINECT20, ("x", "y"), reader=1, axes="y up")
    rows = statistics(convert(tmp_path, info, sources, list, kind="memory"))
    assert rows["sequences"] == "6, of which 2 have a single frame"
    assert rows["classes"] == "1 of 2, 6 to 6 sequences each"
    assert rows["bodies"] == "5 with 1, 1 with 2"
    assert rows["missing joints"].startswith("3, 0.8%, in 1 sequences")
    assert rows["missing frames of a body"] == "1 in 1 sequences"
    assert rows["jumps of a joint > 0.5 m"] == "in 1 sequences, the first is b"
    assert rows["coordinates > 10 m"] == "in 2 sequences, the first is e"
    assert rows["bones > 2 m"] == "in 2 sequences, the first is e"
    assert rows["copies"] == "1"


def test_check_finds_a_flipped_bit(own_root, capsys):
    file = own_root / "nw-ucla" / "joints.npy"
    data = bytearray(file.read_bytes())
    data[5000] ^= 1
    file.write_bytes(data)
    assert check("nw-ucla", own_root) == 1
    printed = capsys.readouterr().out
    assert "checksums | differ" in squeezed(printed)
    advice = f"run `skelcl data prepare nw-ucla --raw <files> --root {own_root} --overwrite true`"
    assert f"{file}: the checksum differs from the one in meta.json: {advice}" in printed


def test_check_looks_below_the_root_first(own_root, tmp_path, monkeypatch, capsys):
    """A folder of the same name may lie where the command runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nw-ucla").mkdir()
    for store, root in (("nw-ucla", own_root), (f"{own_root.name}/nw-ucla", Path("data")), (own_root / "nw-ucla", "x")):
        assert check(store, Path(root)) == 0
        assert capsys.readouterr().out.splitlines()[0].endswith(f"{own_root.name}/nw-ucla")


def test_check_refuses_what_is_no_store(own_root):
    (own_root / "nw-ucla" / "meta.json").unlink()
    with pytest.raises(StoreError, match=r"no meta\.json"):
        check("nw-ucla", own_root)
    with pytest.raises(StoreError, match=r"no store at .* run `skelcl data prepare pku-mmd --part 2 --raw"):
        check("pku-mmd-2", own_root)
    with pytest.raises(StoreError, match=r"no store at .* run `skelcl data import poses .* --name mine"):
        check("mine", own_root)


def test_list_shows_stores_and_damage(own_root, tmp_path, capsys):
    assert run("list", "--root", own_root) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["store", "sequences", "frames", "classes", "joints", "MB"]
    assert line.split()[:2] == [str(own_root / "nw-ucla"), "75"]
    with (own_root / "nw-ucla" / "joints.npy").open("ab") as stream:
        stream.write(b"?")
    assert list_stores(own_root) == 1
    assert "bytes instead of" in capsys.readouterr().out
    assert list_stores(tmp_path / "nothing") == 0
    assert "no stores in" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["skeleton", "classes", "counts", "index", "no array"])
def test_list_shows_the_good_stores_beside_a_damaged_one(own_root, damage, capsys):
    for name in ("a", "z"):
        shutil.copytree(own_root / "nw-ucla", own_root / name)
    if damage == "index":
        np.savez(own_root / "a" / "index.npz", id=np.zeros(75))
    elif damage == "no array":
        (own_root / "a" / "joints.npy").unlink()
    else:
        meta = json.loads((own_root / "a" / "meta.json").read_text())
        (own_root / "a" / "meta.json").write_text(json.dumps({**meta, damage: {"joints": 3}}))
    assert run("list", "--root", own_root) == 1
    told, header, *lines = capsys.readouterr().out.splitlines()
    assert told.startswith(str(own_root / "a"))
    assert [line.split()[0] for line in (header, *lines)] == ["store", str(own_root / "nw-ucla"), str(own_root / "z")]


def test_names_that_would_steer_a_terminal_are_shown_as_text(tmp_path, capsys):
    joints = np.zeros((1, 9, 20, 3), np.float32)
    joints[0, 5] = 99
    sources = [Source("a", [Recording("a\x1b[2J\nb", joints, label=0)], "a")]
    convert(tmp_path, DatasetInfo("mine\x1b[31m", KINECT20, ("x",), 1, axes="y up"), sources, list, kind="memory")
    assert check(tmp_path / "mine\x1b[31m") == 0
    assert list_stores(tmp_path) == 0
    (tmp_path / "mine\x1b[31m" / "joints.npy").unlink()
    assert list_stores(tmp_path) == 1
    out = capsys.readouterr().out
    assert "the first is a [2J b" in out
    assert not [one for one in out if not one.isprintable() and one != "\n"]
