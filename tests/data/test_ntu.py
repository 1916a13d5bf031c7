import json
import os
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from skelcl.commands.data import COMMANDS
from skelcl.commands.parsing import call
from skelcl.data import NTU60, NTU120, SkeletonStore, StoreError
from skelcl.data.bodies import BodyFrames
from skelcl.data.formats.ntu import MAX_BYTES, find, prepare, read
from skelcl.data.formats.ntu_release import NOVEL_ACTIONS, fields, missing_skeletons
from skelcl.data.formats.ntu_skeleton import parse, write_skeleton
from skelcl.data.inspection import statistics
from skelcl.data.recording import ReadError
from skelcl.data.schema import Flag
from skelcl.data.synthetic import ntu as synthetic_ntu

NAME = "S001C002P003R002A013"


def one_body(frames):
    """One person whom the sensor saw in some frames, the last of which ends the recording."""
    joints = np.random.default_rng(0).uniform(1, 2, (len(frames), 25, 3)).astype(np.float32)
    first = np.zeros(len(frames), np.int64)
    return BodyFrames(joints, np.array(frames), first, first, frames[-1] + 1)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw") / "ntu120"
    assert synthetic_ntu.write_ntu(folder, "ntu120", subjects=8, actions=3, setups=2) == 8 * 6 * 3
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
    synthetic_ntu.write_ntu(tmp_path / "again", "ntu120", subjects=8, actions=3, setups=2)
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


def test_a_damaged_store_is_made_again_with_its_own_options(raw, tmp_path):
    listed = tmp_path / "missing.txt"
    listed.write_text(f"{NAME}\n")
    for options, told in (
        ({"bodies": "agcn"}, "--bodies agcn --missing default"),
        ({"missing": str(listed), "compact_gaps": True}, "--bodies sgn --compact_gaps true --missing <list>"),
    ):
        store = prepare([raw], tmp_path / "my data", "ntu120", overwrite=True, **options)
        (store.path / "joints.npy").unlink()
        again = f"skelcl data prepare ntu120 {told} --raw <files> --root '{tmp_path}/my data' --overwrite true"
        with pytest.raises(StoreError, match=re.escape(again)):
            SkeletonStore(store.path)


def test_the_next_command_can_be_copied(tmp_path, capsys):
    run("generate", "ntu60", "--output", tmp_path / "my data", "--subjects", "1", "--actions", "1", "--setups", "1")
    assert f"--raw '{tmp_path}/my data'" in capsys.readouterr().out


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
    synthetic_ntu.write_ntu(tmp_path / "raw", "ntu60", subjects=1, actions=1, setups=1)
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
    bodies = one_body([0, 2, 3, 4])
    bodies.joints[1] = 0.0  # frame 2: a body of zeros
    bodies.joints[2, :13] = np.nan  # frame 3: more than half of the joints
    bodies.joints[3, 7] = np.nan  # frame 4
    write_skeleton(tmp_path / f"{NAME}.skeleton", bodies, [7])
    store = prepare([tmp_path], tmp_path / "stores", "ntu60")
    clip = store.recording(0)
    assert np.isnan(clip).all((0, 2, 3)).tolist() == [False, True, True, True, False]
    assert store.index["flags"][0] == Flag.REPAIRED | Flag.GAP
    assert np.argwhere(np.isnan(clip[0, 4]).all(-1)).tolist() == [[7]]


def test_one_frame_is_enough(tmp_path):
    write_skeleton(tmp_path / f"{NAME}.skeleton", one_body([0]), [7])
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
        synthetic_ntu.write_ntu(tmp_path / "x", **wrong)
    assert not (tmp_path / "x").exists()


def test_files_that_are_far_too_large_are_refused_unread(tmp_path):
    file = tmp_path / f"{NAME}.skeleton"
    with file.open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(ReadError, match=r"67,108,865 bytes in memory, of which 67,108,864"):
        read(str(file))
    with pytest.raises(ReadError, match="cannot be read"):
        read(str(Path(file.parent, "gone", file.name)))
