"""Poses of your own to a store: labels, ids, layouts and the command."""

import re

import numpy as np
import pytest

from skelcl.commands.data import COMMANDS
from skelcl.commands.parsing import call
from skelcl.data.poses.importing import _classes, find, read_labels
from skelcl.data.poses.reader import fill_unseen
from skelcl.data.store import SkeletonStore, StoreError
from skelcl.data.synthetic.poses import write_mediapipe
from skelcl.errors import InputError
from skelcl.skeleton import COCO17


def poses(bodies=1, joints=3, channels=3, seed=0, frames=4):
    """Coordinates with three decimals, so that every format holds them exactly."""
    values = np.random.default_rng(seed).uniform(1, 9, (bodies, frames, joints, channels))
    return values.round(3).astype(np.float32)


def run(*words):
    return call("skelcl data", COMMANDS, [str(word) for word in words])


def npy_tree(folder, names):
    for n, name in enumerate(names):
        file = folder / f"{name}.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(file, poses(1, 17, 3, seed=n))


def test_numbers_order_the_classes_however_long_a_name_is():
    assert _classes(["10", "9", "9"]) == ("9", "10")
    assert _classes(["2" * 5000, "10"]) == ("10", "2" * 5000), "by name: Python converts no such number"


def test_folders_are_classes(imported, tmp_path):
    npy_tree(tmp_path / "in", ["wave/a", "bow/a", "bow/b", ".cache/c", "bow/.d"])
    (tmp_path / "in" / "notes.txt").write_text("")
    store = imported("npy", layout="coco17")
    assert store.ids.tolist() == ["bow/a", "bow/b", "wave/a"]
    assert store.meta["classes"] == ["bow", "wave"]
    assert store.index["label"].tolist() == [0, 0, 1]
    assert store.report["summary"] == [{"outcome": "skipped", "reason": "other_name", "count": 1}]


@pytest.mark.parametrize("beside", [False, True])
def test_a_table_of_labels_wins_over_folders(imported, tmp_path, beside):
    npy_tree(tmp_path / "in", ["x/a", "x/b", "c", "d"])
    table = tmp_path / "in" / "labels.csv" if beside else tmp_path / "table.csv"
    table.write_text("id,label,subject,camera\nx/a,10,1,3\nb,9,2,\nc,,4,1\nnobody,9,1,1\n")
    store = imported("npy", layout="coco17", labels=None if beside else table)
    assert store.ids.tolist() == ["c", "x/a", "x/b"]
    assert store.meta["classes"] == ["9", "10"], "numbers are ordered as numbers"
    assert store.index["label"].tolist() == [-1, 1, 0]
    assert store.index["subject"].tolist() == [4, 1, 2]
    assert store.index["camera"].tolist() == [1, 3, -1]
    reasons = {(line["reason"], line["id"]) for line in store.report["notices"]}
    assert reasons == {("not_in_labels", "d"), ("no_clip", "nobody")}


def test_a_table_beside_clips_is_no_clip(tmp_path):
    for name in ("a", "labels"):
        (tmp_path / f"{name}.csv").write_text("")
    clips, notices = find(tmp_path, "csv")
    assert ([clip.id for clip in clips], notices) == (["a"], [])


def test_a_table_of_labels_wins_over_files(imported, tmp_path):
    """A file may name a class that the table leaves open, and that no other clip has."""
    for name in "ab":
        np.savez(tmp_path / "in" / f"{name}.npz", keypoints=poses(1, 17, 3), layout="coco17", label=f"own {name}")
    (tmp_path / "in" / "labels.csv").write_text("id,label\na,\nb,wave\n")
    store = imported("npz")
    assert store.meta["classes"] == ["wave"]
    assert store.index["label"].tolist() == [-1, 0]


def test_other_labels_are_another_store(imported, tmp_path):
    npy_tree(tmp_path / "in", ["a"])
    table = tmp_path / "in" / "labels.csv"
    table.write_text("id,label\na,x\n")
    imported("npy", layout="coco17")
    table.write_text("id,label\na,y\n")
    with pytest.raises(StoreError, match="--overwrite true"):
        imported("npy", layout="coco17")
    assert imported("npy", layout="coco17", overwrite=True).meta["classes"] == ["y"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("id,label\n", "holds no rows"),
        ("id,class\na,b\n", "unknown column 'class'"),
        ("label\nb\n", "the column 'id' is missing"),
        ("id\nb\n", "the column 'label' is missing"),
        ("id,label\na,b\na,c\n", "line 3: id 'a' is given twice"),
        ("id,label\n,b\n", "line 2: id '' is empty"),
        ("id,label,subject\na,b,Ann\n", "line 2: subject 'Ann' is no number"),
        ("id,label,camera\na,b,500\n", "line 2: camera 500 is no number"),
        ("id,label\na\n", "1 cells under a header of 2, line 2"),
    ],
)
def test_a_wrong_table_of_labels_is_one_line(tmp_path, text, message):
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_labels(file)
    assert str(caught.value).startswith(str(file))


def test_a_table_that_names_no_clip(imported, tmp_path):
    npy_tree(tmp_path / "in", ["a"])
    (tmp_path / "in" / "labels.csv").write_text("id,label\nz,1\n")
    with pytest.raises(InputError, match="names none of the clips"):
        imported("npy", layout="coco17")


@pytest.mark.parametrize(
    ("format", "options", "message"),
    [
        ("npy", {}, "--layout is missing: the clips have 17 joints"),
        ("csv", {}, "no csv clips"),
        ("npy", {"layout": "coco"}, "no layout 'coco'"),
        ("npy", {"layout": "coco17", "to": "ntu25"}, "coco17 cannot become ntu25"),
        ("npy", {"layout": "coco17", "name": "../x"}, "--name '../x'"),
        ("npy", {"layout": "coco17", "max_bodies": 0}, "--max_bodies must lie between 1 and 16, not 0"),
        ("npy", {"layout": "coco17", "channels": 2}, "column 3 lies in 0…8.978, so it is no confidence"),
        ("npy", {"layout": "coco17", "name": "ntu60"}, "--name ntu60: the splits of this data set need"),
        ("npy", {"layout": "coco17", "fps": 0.0}, "--fps must be positive, not 0"),
        ("openpose", {}, "no openpose clips"),
    ],
)
def test_a_wrong_import_is_one_line(imported, tmp_path, format, options, message):
    npy_tree(tmp_path / "in", ["a"])
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        imported(format, **options)
    assert "\n" not in str(caught.value)


def test_a_joint_that_is_never_shown(imported, tmp_path):
    """Refused by default; on demand it lies on its parent, which may itself be placed."""
    joints = poses(1, 17, 3)
    joints[:, :, [COCO17.joints.index("left knee"), COCO17.joints.index("left ankle")]] = np.nan
    np.save(tmp_path / "in" / "a.npy", joints)
    with pytest.raises(
        StoreError, match="joints 'left knee', 'left ankle' are missing in every frame; --fill_unseen true"
    ):
        imported("npy", layout="coco17")
    store = imported("npy", layout="coco17", fill_unseen=True)
    hip = COCO17.joints.index("left hip")
    for name in ("left knee", "left ankle"):
        np.testing.assert_array_equal(store.recording(0)[:, :, COCO17.joints.index(name)], joints[:, :, hip])
    assert "left knee, left ankle" in store.report["notices"][0]["message"]


def test_filling_leaves_bodies_that_were_never_seen():
    joints = poses(2, 17, 3)
    joints[1] = np.nan
    before = joints.copy()
    assert fill_unseen(joints, COCO17) == []
    np.testing.assert_array_equal(joints, before)


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_verb_tells_what_is_made_up(tmp_path, capsys):
    write_mediapipe(tmp_path / "raw", subjects=1)
    run("import", "poses", "--format", "mediapipe", "--input", tmp_path / "raw", "--name", "me", "--root",
        tmp_path / "data", "--to", "h36m17", "--fps", "30")  # fmt: skip
    printed = capsys.readouterr().out
    assert "mediapipe33 → h36m17" in printed
    assert "synthesised: pelvis = +0.5·left hip +0.5·right hip; spine = " in printed
    assert "left out: nose, left eye inner" in printed
    assert f"{tmp_path / 'data' / 'me'}: 6 sequences" in printed
    store = SkeletonStore(tmp_path / "data" / "me")
    assert store.meta["parameters"]["synthesised"][0].startswith("pelvis = ")
    assert run("check", "me", "--root", tmp_path / "data") == 0
    assert "performers, cameras, setups 1, 3" in " ".join(capsys.readouterr().out.split())


def test_a_flat_store_is_checked_without_metres(imported, tmp_path, capsys):
    np.save(tmp_path / "in" / "a.npy", 1000 * poses(1, 17, 2))
    store = imported("npy", layout="coco17")
    assert run("check", store.path) == 0
    printed = capsys.readouterr().out
    assert "checksums" in printed
    assert " m " not in printed


@pytest.mark.parametrize("missing", ["format", "input", "name"])
def test_the_verb_asks_for_what_is_missing(tmp_path, missing):
    words = {"format": "npy", "input": tmp_path, "name": "x"}
    words.pop(missing)
    with pytest.raises(StoreError, match=f"--{missing} is missing"):
        run("import", "poses", *(text for key, value in words.items() for text in (f"--{key}", value)))


def test_a_damaged_import_names_the_verb_that_mends_it(imported, tmp_path):
    npy_tree(tmp_path / "in", ["a"])
    store = imported("npy", layout="coco17", max_bodies=1)
    (store.path / "joints.npy").write_bytes(b"")
    verb = "skelcl data import poses --format npy --input <files> --name mine .* --max_bodies 1 .* --overwrite true"
    with pytest.raises(StoreError, match=verb):
        SkeletonStore(store.path)


def test_several_processes_make_the_same_store(imported, tmp_path):
    npy_tree(tmp_path / "in", [f"{'ab'[n % 2]}/{n:03d}" for n in range(140)])
    one = imported("npy", "one", layout="coco17", jobs=1)
    two = imported("npy", "two", layout="coco17", jobs=2)
    for file in ("joints.npy", "index.npz", "report.json"):
        assert (one.path / file).read_bytes() == (two.path / file).read_bytes()
