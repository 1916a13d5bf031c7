"""PKU-MMD from generated raw files through the command line and the store to batches."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch

from skelcl.commands.data import COMMANDS
from skelcl.commands.parsing import call
from skelcl.data import PKUMMD, SkeletonStore, StoreError
from skelcl.data.formats.pku_mmd import find, prepare
from skelcl.data.formats.pku_release import ACTIONS, is_test, videos
from skelcl.data.formats.pku_text import parse_labels, parse_skeleton
from skelcl.data.inspection import check
from skelcl.data.synthetic.pku_mmd import PKU_MMD_ACTIONS, write_pku_mmd
from skelcl.errors import InputError


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
    assert notices == []  # the split files agree with the rules
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


def test_generation_repeats_itself_and_leaves_other_folders_alone(tmp_path):
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
