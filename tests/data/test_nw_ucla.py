import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skelcl.data import NWUCLA, SkeletonStore, StoreError
from skelcl.data.formats.nw_ucla import ACTIONS, INFO, find, parse, prepare, read, sequence_id, write_json
from skelcl.data.recording import ReadError, Recording
from skelcl.data.schema import Flag
from skelcl.transforms import Normalize, Truncate

STEM = "a08_s03_e01_v02"  # label 7 in the file, 6 for us


def document(frames=3, **changes):
    # A body of 19 m: values that tests find in the text, which preparation remarks upon.
    joints = [[[0.1 * t + v, -0.2, 2.5] for v in range(20)] for t in range(frames)]
    return {"file_name": STEM, "skeletons": joints, "label": 7} | changes


def encoded(**changes):
    return json.dumps(document(**changes)).encode()


def replaced(old, new):
    text = encoded().replace(old, new, 1)
    assert text != encoded()
    return text


# Reading


def test_every_recording_comes_back_from_its_file(recordings, raw_folder):
    for recording in recordings.values():
        (again,) = read((raw_folder / f"{recording.id}.json", 0, ""))
        np.testing.assert_array_equal(again.joints, recording.joints)
        assert {**vars(again), "joints": 0} == {**vars(recording), "joints": 0}


def test_class_names_follow_the_labels_and_skip_actions_7_and_10():
    assert list(ACTIONS) == [1, 2, 3, 4, 5, 6, 8, 9, 11, 12]
    assert INFO.classes[6:] == ("donning", "doffing", "throw", "carry")
    assert [sequence_id(label, 1, 0, 3) for label in (0, 5, 6, 8, 9)] == [
        f"a{action}_s01_e00_v03" for action in ("01", "06", "08", "11", "12")
    ]


@given(
    st.integers(0, 9), st.integers(1, 10), st.integers(0, 10), st.integers(1, 3), st.integers(1, 6), st.integers(0, 999)
)
def test_written_files_hold_six_digits(tmp_path_factory, label, subject, episode, view, frames, seed):
    joints = np.random.default_rng(seed).normal(size=(1, frames, 20, 3)) * 10.0 ** (seed % 7 - 3)
    name = sequence_id(label, subject, episode, view)
    made = Recording(name, joints, label, subject, camera=view, replication=episode)
    (again,) = read((write_json(tmp_path_factory.getbasetemp(), made), 0, ""))
    np.testing.assert_allclose(again.joints, joints, rtol=6e-6)
    assert (again.label, again.subject, again.replication, again.camera) == (label, subject, episode, view)


def test_missing_joints_are_written_as_zeros_and_read_as_missing(tmp_path):
    joints = np.ones((1, 2, 20, 3), np.float32)
    joints[0, 1, 4] = np.nan
    file = write_json(tmp_path, Recording(STEM, joints, 6, 3, camera=2, replication=1))
    assert json.loads(file.read_text())["skeletons"][1][4] == [0, 0, 0]
    store = prepare([tmp_path], tmp_path / "stores")
    assert np.isnan(store.recording(0)[0, 1, 4]).all()
    assert store.index["flags"][0] == Flag.REPAIRED


@pytest.mark.parametrize(
    "recording",
    [
        Recording("a01_s01_e00_v01", np.ones((1, 2, 20, 3)), 1, 1, camera=1, replication=0),
        Recording(STEM, np.ones((2, 2, 20, 3)), 6, 3, camera=2, replication=1),
        Recording(STEM, np.ones((1, 2, 25, 3)), 6, 3, camera=2, replication=1),
    ],
)
def test_what_the_format_cannot_hold_is_not_written(tmp_path, recording):
    with pytest.raises(ValueError, match=recording.id):
        write_json(tmp_path, recording)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + encoded(),
        encoded().replace(b", ", b",\r\n\t "),
        encoded() + b"  \r\n\n",
        json.dumps(dict(reversed(document().items()))).encode(),
    ],
    ids=["BOM", "CRLF and tabs", "trailing blanks", "other order"],
)
def test_harmless_spellings_are_accepted(data):
    recording = parse(data, STEM, "x")
    np.testing.assert_array_equal(recording.joints[0], np.array(document()["skeletons"], np.float32))
    assert recording.warnings == []


@pytest.mark.parametrize(
    "spelling",
    ["NaN", "Infinity", "-Infinity", "nan", "-nan", "inf", "-inf", "-nan(ind)", "1.#QNAN", "-1.#IND", "-1.#INF",
     "1.#INF", "1.#QNAN0", "-1.#IND00", "1e400", "1e39"],
)  # fmt: skip
def test_numbers_that_are_none_are_missing_joints(tmp_path, spelling):
    (tmp_path / f"{STEM}.json").write_bytes(replaced(b"[5.1, -0.2, 2.5]", b"[5.1, %s, 2.5]" % spelling.encode()))
    store = prepare([tmp_path], tmp_path / "stores")
    stored = store.recording(0)[0]
    assert np.argwhere(np.isnan(stored)).tolist() == [[1, 5, 0], [1, 5, 1], [1, 5, 2]]
    loaded = store.clips([0]).joints.numpy()
    np.testing.assert_allclose(loaded[1, 5], (loaded[0, 5] + loaded[2, 5]) / 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        (b"", "empty", "empty"),
        (b" \r\n\t", "empty", "empty"),
        (encoded()[:200], "json", "column"),
        (encoded() + b"}", "json", "Extra data"),
        (replaced(b"2.5]", b"2,5]"), "coordinates", r"frame 0 joint 0 is \[0.0, -0.2, 2, 5\]"),
        (replaced(b"-0.2", b"-0,02"), "json", "column"),
        (replaced(b"-0.2", b"1.#HUGE"), "json", "column"),
        (b"[" * 10**6, "json", "JSON"),
        (b"\xff\xfe" + encoded(), "encoding", "UTF-8"),
        (b"[]", "keys", "list"),
        (json.dumps({"skeletons": [], "label": 7}).encode(), "keys", "expected the keys"),
        (encoded(extra=1), "keys", "extra"),
        (encoded(skeletons=[]), "no_skeleton", "no frames"),
        (encoded(skeletons="x"), "skeletons", "str"),
        (encoded(skeletons=[[[0, 0, 1]] * 20, 5]), "joints", "frame 1 has a int"),
        (encoded(skeletons=[[[0, 0, 1]] * 20, [[0, 0, 1]] * 19]), "joints", "frame 1 has 19 instead of 20"),
        (encoded(skeletons=[[[0, 0, 1]] * 25]), "joints", "25"),
        (encoded(skeletons=[[[0, 0, 1]] * 19 + [[0, 1]]]), "coordinates", "frame 0 joint 19"),
        (encoded(skeletons=[[[0, 0, 1]] * 19 + [7]]), "coordinates", "frame 0 joint 19"),
        (encoded(skeletons=[[[0, 0, 1]] * 19 + [[0, 1, None]]]), "coordinates", "joint 19 holds None"),
        (encoded(skeletons=[[[0, 0, 1]] * 19 + [[0, 1, "2.5"]]]), "coordinates", "joint 19 holds '2.5'"),
        (encoded(skeletons=[[[0, 0, 1]] * 19 + [[0, 1, True]]]), "coordinates", "joint 19 holds True"),
        (encoded(skeletons=[[[0, 0, 10**400]] * 20]), "coordinates", "beyond float64"),
        (encoded(label=8), "label", "label is 8, but action a08 has 7"),
        (encoded(label="7"), "label", "'7'"),
        (encoded(label=7.0), "label", "7.0"),
    ],
)
def test_a_malformed_file_is_refused_with_its_name_and_reason(data, reason, message):
    with pytest.raises(ReadError, match=message) as caught:
        parse(data, STEM, "folder/x.json")
    assert caught.value.reason == reason
    assert str(caught.value).startswith("folder/x.json: ")
    assert "\n" not in str(caught.value)


def test_json_errors_name_line_and_column_even_behind_odd_numbers():
    text = b'{"file_name": "x",\n "skeletons": [[[1.#QNAN, 1, ?'
    with pytest.raises(ReadError, match=r"column 30, line 2$") as caught:
        parse(text, STEM, "x")
    assert caught.value.line == 2
    assert text.splitlines()[1][29:30] == b"?"


@pytest.mark.parametrize("stem", ["a07_s01_e00_v01", "a10_s01_e00_v01", "a13_s01_e00_v01", "a01_s01_e00_v04"])
def test_actions_and_views_that_do_not_exist_are_refused(stem):
    with pytest.raises(ReadError, match="no action"):
        parse(encoded(), stem, "x")


def test_a_wrong_file_name_key_is_a_warning_and_the_path_wins(tmp_path):
    (tmp_path / f"{STEM}.json").write_bytes(encoded(file_name="a01_s01_e00_v01"))
    store = prepare([tmp_path], tmp_path / "stores")
    assert store.ids.tolist() == [STEM]
    assert (store.index["label"][0], store.index["subject"][0], store.index["camera"][0]) == (6, 3, 2)
    (notice,) = (one for one in store.report["notices"] if one["reason"] != "coordinates")
    assert (notice["outcome"], notice["id"]) == ("warning", STEM)
    assert "a01_s01_e00_v01" in notice["message"]


def test_identical_frames_and_single_frames_are_kept(tmp_path):
    frame = document()["skeletons"][0]
    (tmp_path / f"{STEM}.json").write_bytes(encoded(skeletons=[frame]))
    other = "a08_s03_e01_v01"
    (tmp_path / f"{other}.json").write_bytes(encoded(skeletons=[frame] * 3, file_name=other))
    store = prepare([tmp_path], tmp_path / "stores")
    assert store.index["n_frames"].tolist() == [3, 1]
    assert store.index["flags"].tolist() == [0, Flag.SINGLE_FRAME]
    assert {one["reason"] for one in store.report["notices"]} == {"coordinates"}


# Finding


def test_zip_and_folder_give_the_same_store(root, raw_zip, tmp_path):
    store = prepare([raw_zip], tmp_path)
    for name in ("joints.npy", "index.npz", "report.json"):
        assert (store.path / name).read_bytes() == (root / "nw-ucla" / name).read_bytes()
    assert store.meta["source"] == "zip"
    assert store.meta["sources"] == SkeletonStore(root / "nw-ucla").meta["sources"]


def test_folders_are_searched_at_any_depth_and_other_names_ignored(raw_folder, raw_zip, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(raw_folder, raw / "S017C001P001" / "all_sqe")
    shutil.copy(raw_zip, raw)  # the same files once more
    for name in ("notes.txt", "a1_s1_e0_v1.json", "a01_s01_e00_v01.json.bak", "._a01_s01_e00_v01.json"):
        (raw / name).write_text("?")
    store = prepare([raw], tmp_path / "stores")
    assert len(store) == 75
    assert store.meta["source"] == "folder+zip"
    summary = {line["reason"]: line["count"] for line in store.report["summary"]}
    assert summary == {"copy": 75, "other_name": 1}
    assert "4 files" in next(n["message"] for n in store.report["notices"] if n["reason"] == "other_name")


def test_two_files_of_one_name_must_be_identical(raw_folder, tmp_path):
    shutil.copytree(raw_folder, tmp_path / "copy")
    (tmp_path / "copy" / "a01_s01_e00_v01.json").write_bytes(encoded())
    with pytest.raises(StoreError, match="a01_s01_e00_v01 occurs twice with different content") as caught:
        find([raw_folder, tmp_path / "copy"])
    assert str(raw_folder) in str(caught.value)
    assert str(tmp_path / "copy") in str(caught.value)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("gone.zip", None, "does not exist"),
        ("no.zip", b"hello", "cannot be read as a zip archive"),
        ("cut.zip", "cut", "cannot be read as a zip archive"),
        ("empty", "folder", "no NW-UCLA sequences"),
        ("notes.json", b"{}", "no NW-UCLA sequences"),
    ],
)
def test_unusable_paths_are_refused_in_one_line(raw_zip, tmp_path, name, data, message):
    path = tmp_path / name
    if data == "folder":
        path.mkdir()
    elif data is not None:
        path.write_bytes(raw_zip.read_bytes()[:5000] if data == "cut" else data)
    with pytest.raises(StoreError, match=message) as caught:
        prepare([path], tmp_path / "stores")
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "stores").exists()


def test_a_damaged_member_of_an_archive_is_a_failure_of_that_file(raw_zip, tmp_path):
    file = tmp_path / "all_sqe.zip"
    shutil.copy(raw_zip, file)
    with zipfile.ZipFile(file) as archive:
        info = archive.infolist()[7]
    with file.open("r+b") as stream:
        stream.seek(info.header_offset + 200)
        stream.write(bytes(20))
    store = prepare([file], tmp_path / "stores", max_failed=0.02)
    assert len(store) == 74
    (notice,) = store.report["notices"]
    assert (notice["reason"], notice["id"]) == ("damaged", Path(info.filename).stem)


def test_a_partial_copy_works_with_a_warning(raw_folder, tmp_path, capsys):
    prepare([raw_folder], tmp_path)
    printed = capsys.readouterr().out.splitlines()
    assert printed[2].startswith("test_view 3: train 50 / test 25; 5 test sequences are copies")
    assert printed[2].endswith("(test_clean: 20)")
    assert printed[3].startswith("warning: not the complete published data set")
    assert "25 of 516 in view 1, 25 of 504 in view 2, 25 of 464 in view 3" in printed[3]
    prepare([raw_folder], tmp_path)
    assert "was already made from these files" in capsys.readouterr().out


def test_preparing_imports_neither_lightning_nor_pictures():
    heavy = ("lightning", "matplotlib", "wandb", "sklearn")
    code = f"import sys, skelcl.commands.data; print([name for name in {heavy} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


# The real data set


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    path = os.environ.get("SKELCL_NW_UCLA")
    if not path:
        pytest.skip("set SKELCL_NW_UCLA to NW-UCLA's all_sqe.zip, or to the folder that holds it")
    root = tmp_path_factory.mktemp("real")
    code = (
        "import re, sys; from skelcl.commands.data import prepare_nw_ucla; from pathlib import Path;"
        "prepare_nw_ucla(Path(sys.argv[1]), Path(sys.argv[2]));"
        # ru_maxrss would start from the memory of pytest itself
        "print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, path, root], capture_output=True, text=True, check=True)
    return root, done.stdout


@pytest.mark.real
def test_real_counts_and_memory(real):
    _, printed = real
    lines = printed.splitlines()
    assert "test_view 3: train 1020 / test 464, as published; 95 test sequences are copies" in printed
    assert "test_view 1: train 968 / test 516, as published; 0 test sequences are copies" in printed
    assert "test_view 2: train 980 / test 504, as published" in printed
    assert "warning" not in printed
    assert int(lines[-1]) < 500 * 1024  # kilobytes


@pytest.mark.real
def test_real_statistics_are_the_published_ones(real):
    store = SkeletonStore(real[0] / "nw-ucla")
    frames, labels = store.index["n_frames"], store.index["label"]
    train = store.index["camera"] != 3
    assert (len(store), frames.sum(), frames.min(), np.median(frames), frames.max()) == (1484, 58534, 1, 31, 201)
    assert frames[train].sum() == 44144
    assert np.bincount(labels[train]).tolist() == [102, 102, 96, 124, 101, 102, 99, 99, 98, 97]
    assert np.bincount(labels[~train]).tolist() == [48, 50, 45, 49, 47, 47, 43, 43, 47, 45]
    assert np.bincount(store.index["subject"])[1:].tolist() == [160, 154, 159, 162, 119, 138, 147, 158, 139, 148]
    assert store.ids[store.index["flags"] & Flag.SINGLE_FRAME > 0].tolist() == ["a02_s09_e04_v02", "a02_s09_e04_v03"]
    repaired = np.flatnonzero(store.index["flags"] & Flag.REPAIRED)
    assert store.ids[repaired].tolist() == ["a04_s01_e01_v01", "a04_s04_e02_v01"]
    holes = [np.argwhere(np.isnan(store.recording(n)[0, :, :, 0])) for n in repaired]
    assert (holes[0] + [0, 1]).tolist() == [[34, v] for v in (1, 2, 3, 5, 13, 17)]
    assert (holes[1] + [0, 1]).tolist() == [[45, v] for v in (1, 2, 13, 14, 17, 18)]
    assert not np.isnan(store.preload().joints.numpy()).any()


@pytest.mark.real
def test_real_copies_are_all_of_actions_two_and_three(real):
    data = NWUCLA(real[0])
    clean = set(data.subsets["test_clean"])
    assert len(clean) == 369
    copies = [str(data.ids[n]) for n in data.parts["test"] if n not in clean]
    assert len(copies) == 95
    assert {name[:3] for name in copies} == {"a02", "a03"}
    assert not any(str(data.ids[n])[:3] in ("a02", "a03") for n in clean)
    position = {str(name): n for n, name in enumerate(data.ids)}
    for name in copies:
        twin = name.replace("_v03", "_v02")
        np.testing.assert_array_equal(data.store.recording(position[name]), data.store.recording(position[twin]))


@pytest.mark.real
def test_real_people_are_turned_by_little_and_stay_upright_under_agcn(real):
    store = SkeletonStore(real[0] / "nw-ucla")
    clips = store.preload()
    clips = replace(clips, joints=clips.joints.double())
    y = Normalize("agcn")(Truncate(1)(clips), clips)[:, :, 0, :, 0].permute(0, 2, 1)
    body = clips.reference - clips.reference[:, 1:2]
    whole = torch.linalg.lstsq(body, y).solution.mT
    # Its first step stands the trunk up: about trunk × z, by the angle between them. The second turns the shoulders.
    z = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64).expand(len(body), 3)
    trunk = torch.nn.functional.normalize(body[:, 1] - body[:, 0], dim=1)
    axis = torch.nn.functional.normalize(torch.linalg.cross(trunk, z), dim=1)
    first = torch.linalg.matrix_exp(
        torch.linalg.cross(torch.eye(3, dtype=torch.float64).expand(len(body), 3, 3), axis[:, None].expand(-1, 3, -1))
        .mT.neg() * (trunk * z).sum(1).acos()[:, None, None]
    )  # fmt: skip
    torch.testing.assert_close(first @ trunk[..., None], z[..., None], rtol=0, atol=1e-9)
    turn = (whole @ first.mT).diagonal(dim1=1, dim2=2).sum(1)
    degrees = ((turn - 1) / 2).clamp(-1, 1).acos().rad2deg()
    assert len(degrees) == 1484
    assert not (degrees > 150).any()
    assert degrees.median() < 45
    shoulders = torch.nn.functional.normalize(clips.reference[:, 8] - clips.reference[:, 4], dim=1)
    upside_down = y[:, 3, 2] < y[:, 0, 2]  # the head below the base of the spine
    assert store.ids[upside_down.numpy()].tolist() == ["a09_s03_e02_v01"]
    assert ((shoulders * trunk).sum(1)[upside_down] < -0.6).all()  # its shoulders slope by 40°
