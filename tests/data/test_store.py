"""The store: its rows and columns, batches of it, and damaged ones refused."""

import errno
import json
import multiprocessing
import pickle
import shutil
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from skelcl.cli import user_message
from skelcl.data.cleaning import content_digest
from skelcl.data.convert import convert
from skelcl.data.datamodule import ClipDataset
from skelcl.data.formats import nw_ucla
from skelcl.data.recording import DatasetInfo, Recording, Source
from skelcl.data.store import SkeletonStore, StoreError, fill_joints, train_duplicates
from skelcl.skeleton import KINECT20

V = 20
INFO = DatasetInfo("mini", KINECT20, ("a", "b", "c"), reader=1, axes="y up")


def body(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(*shape, V, 3)).astype(np.float32) + 3


def make(root, recordings, **options):
    """A store of recordings that need no files; each is its own source."""
    sources = [Source(recording.id, [recording], recording.id) for recording in recordings]
    return convert(root, INFO, sources, list, kind="memory", **options)


def content(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_rows_are_sorted_by_id_then_body_then_frame(tmp_path):
    clips = {"c": body(1, 4, seed=1), "a": body(2, 3, seed=2), "b": body(3, 1, seed=3)}
    store = make(tmp_path, [Recording(name, joints, label=n) for n, (name, joints) in enumerate(clips.items())])
    rows = np.concatenate([clips[name].reshape(-1, V, 3) for name in "abc"])
    np.testing.assert_array_equal(np.load(store.path / "joints.npy"), rows)
    assert store.ids.tolist() == ["a", "b", "c"]
    assert store.index["row"].tolist() == [0, 6, 9]
    assert store.index["n_bodies"].tolist() == [2, 3, 1]
    assert store.index["n_frames"].tolist() == [3, 1, 4]
    assert store.index["label"].tolist() == [1, 2, 0]
    assert store.meta["counts"] == {"sequences": 3, "rows": 13, "frames": 8, "files": 3}
    for position, name in enumerate("abc"):
        np.testing.assert_array_equal(store.recording(position), clips[name])


def test_columns_have_the_documented_types_and_values(tmp_path):
    recording = Recording(
        "x", body(1, 5), label=2, subject=7, camera=3, setup=17, replication=2, label_original=40, video="0001-L",
        start=10, end=15, n_frames_declared=6,
    )  # fmt: skip
    index = make(tmp_path, [recording]).index
    expected = {
        "id": "x", "row": 0, "n_bodies": 1, "n_frames": 5, "n_frames_declared": 6, "first": 0, "label": 2,
        "label_original": 40, "subject": 7, "camera": 3, "setup": 17, "replication": 2, "video": "0001-L", "start": 10,
        "end": 15, "flags": 0, "content": content_digest(body(1, 5)),
    }  # fmt: skip
    assert {name: column.tolist()[0] for name, column in index.items()} == expected
    kinds = {name: column.dtype.str[1:] for name, column in index.items() if column.dtype.kind == "i"}
    assert kinds == {
        "row": "i8", "n_bodies": "i1", "n_frames": "i4", "n_frames_declared": "i4", "first": "i4", "label": "i2",
        "label_original": "i2", "subject": "i2", "camera": "i1", "setup": "i2", "replication": "i1", "start": "i4",
        "end": "i4", "flags": "i4",
    }  # fmt: skip


def interpolation_twin(joints):
    """np.interp over the seen frames of each body, joint and axis; frames without any joint stay NaN."""
    filled = joints.astype(np.float64).copy()
    for m in range(joints.shape[0]):
        frames = np.flatnonzero(~np.isnan(joints[m, :, :, 0]).all(1))
        for v in range(joints.shape[2]):
            known = np.flatnonzero(~np.isnan(joints[m, :, v, 0]))
            for c in range(3):
                filled[m, frames, v, c] = np.interp(frames, known, joints[m, known, v, c])
    return filled


@given(st.integers(1, 3), st.integers(2, 12), st.integers(0, 10**6))
def test_fill_joints_matches_numpy_interp(bodies, frames, seed):
    rng = np.random.default_rng(seed)
    joints = body(bodies, frames, seed=seed)
    joints[rng.random(joints.shape[:3]) < 0.3] = np.nan
    joints[rng.random(joints.shape[:2]) < 0.2] = np.nan
    joints[:, rng.integers(frames)] = body(bodies, seed=seed + 1)  # every joint is seen once
    expected = interpolation_twin(joints)
    fill_joints(joints)
    np.testing.assert_allclose(joints, expected, rtol=1e-5)


def test_clips_fill_joints_within_their_own_track(tmp_path):
    joints = body(2, 5)
    joints[0, 4, 3] = 0
    joints[1, 0, 3] = 0
    joints[0, 2] = 0
    others = [Recording("w", body(1, 4, seed=1)), Recording("y", body(1, 4, seed=2))]
    store = make(tmp_path, [*others, Recording("x", joints)])
    clips = store.clips([0, 1, 2], num_persons=2)
    rows = clips.joints[clips.offsets[1] :][:10].view(2, 5, V, 3).numpy()
    np.testing.assert_array_equal(rows[0, 4, 3], joints[0, 3, 3])
    np.testing.assert_array_equal(rows[1, 0, 3], joints[1, 1, 3])
    assert np.isnan(rows[0, 2]).all()
    assert np.isnan(rows).sum() == V * 3
    np.testing.assert_array_equal(store.clips([1]).joints.numpy(), rows[0])  # chosen body, same repair


# Batches


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(1, 3))
@settings(max_examples=20)
def test_clips_hold_the_recordings_in_the_order_asked(tmp_path_factory, positions, num_persons):
    made = [Recording(str(n), body(1 + n % 3, 2 + n, seed=n), label=n % 3) for n in range(6)]
    root = tmp_path_factory.getbasetemp() / "clips"
    store = SkeletonStore(root / "mini") if root.exists() else make(root, made)
    clips = store.clips(positions, num_persons)
    assert clips.index.tolist() == positions
    assert clips.label.tolist() == [made[n].label for n in positions]
    assert clips.num_persons == num_persons
    assert not clips.gaps
    for n, position in enumerate(positions):
        expected = made[position].joints[:num_persons]
        frame = torch.arange(expected.shape[1])[None]
        shown = clips[torch.tensor([n])].at(frame)[0]
        np.testing.assert_array_equal(shown[: len(expected)].numpy(), expected)
        assert not shown[len(expected) :].any()


def test_preload_is_the_whole_store(tmp_path):
    store = make(tmp_path, [Recording(str(n), body(1, 2 + n, seed=n)) for n in range(4)])
    np.testing.assert_array_equal(store.preload().joints.numpy(), np.load(store.path / "joints.npy"))
    memory = SkeletonStore(store.path, in_memory=True)
    assert not isinstance(memory.joints.base, np.memmap)
    np.testing.assert_array_equal(memory.clips([2, 1]).joints, store.clips([2, 1]).joints)


def test_changing_a_batch_leaves_the_store_alone(tmp_path):
    store = make(tmp_path, [Recording("x", body(1, 3))])
    store.clips([0]).joints.zero_()
    np.testing.assert_array_equal(store.recording(0), body(1, 3))
    with pytest.raises(ValueError, match="read-only"):
        store.joints[0] = 0


@pytest.mark.parametrize("start", [pytest.param("fork", marks=pytest.mark.posix("processes are forked")), "spawn"])
def test_workers_open_the_map_themselves(root, start):
    store = SkeletonStore(root / "nw-ucla")
    expected = store.clips([0, 3, 5])  # opens the map in this process first
    assert store._joints is not None
    loader = DataLoader(
        ClipDataset(store, 1), sampler=[[0, 3, 5]], batch_size=None, num_workers=1, multiprocessing_context=start
    )
    (batch,) = loader
    torch.testing.assert_close(batch.joints, expected.joints, rtol=0, atol=0)
    assert batch.index.tolist() == [0, 3, 5]


def test_a_pickled_store_carries_no_coordinates(root):
    store = SkeletonStore(root / "nw-ucla")
    store.clips([0])
    again = pickle.loads(pickle.dumps(store))
    assert again._joints is None
    torch.testing.assert_close(again.clips([1]).joints, store.clips([1]).joints)
    assert store._joints is not None


@pytest.mark.gpu
def test_clips_pin_and_move(root):
    clips = SkeletonStore(root / "nw-ucla").clips([0, 1]).pin_memory()
    assert clips.joints.is_pinned()
    assert clips.to("cuda", non_blocking=True).label.device.type == "cuda"


# Refusals


def damage_truncate(folder):
    with (folder / "joints.npy").open("r+b") as stream:
        stream.truncate((folder / "joints.npy").stat().st_size - 1)


def damage_type(folder):
    joints = np.load(folder / "joints.npy")
    np.save(folder / "joints.npy", joints.view(np.int32))


def edit_meta(change):
    def damage(folder):
        meta = json.loads((folder / "meta.json").read_text())
        change(meta)
        (folder / "meta.json").write_text(json.dumps(meta))

    return damage


def edit_index(change):
    def damage(folder):
        with np.load(folder / "index.npz") as columns:
            index = dict(columns)
        change(index)
        np.savez(folder / "index.npz", **index)

    return damage


DAMAGES = {
    "gone": (shutil.rmtree, "no store at"),
    "no meta": (lambda folder: (folder / "meta.json").unlink(), "no meta.json"),
    "no joints": (lambda folder: (folder / "joints.npy").unlink(), "joints.npy is missing"),
    "no index": (lambda folder: (folder / "index.npz").unlink(), "index.npz is missing or damaged"),
    "truncated": (damage_truncate, "bytes instead of"),
    "other type": (damage_type, "not the array"),
    "foreign meta": (lambda folder: (folder / "meta.json").write_text('{"schema": 1}'), "not the description"),
    "list meta": (lambda folder: (folder / "meta.json").write_text("[1]"), "not the description"),
    "torn meta": (lambda folder: (folder / "meta.json").write_text('{"schema": 1,'), "not the description"),
    "newer": (edit_meta(lambda meta: meta.update(schema=99)), "format 99"),
    "torn index": (lambda folder: (folder / "index.npz").write_bytes(b"PK\x03\x04" + bytes(99)), "damaged"),
    "short index": (
        edit_index(lambda index: index.update({k: v[:-1] for k, v in index.items()})),
        "disagree on the number",
    ),
    "shifted index": (edit_index(lambda index: index.update(row=index["row"] + 1)), "does not describe"),
    "lengths": (edit_index(lambda index: index.update(n_frames=index["n_frames"] + 1)), "does not describe"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_or_foreign_folder_is_refused_in_one_line(own_root, name):
    damage, message = DAMAGES[name]
    folder = own_root / "nw-ucla"
    damage(folder)
    with pytest.raises(StoreError, match=message) as caught:
        SkeletonStore(folder)
    assert "\n" not in str(caught.value)
    assert f"skelcl data prepare nw-ucla --raw <files> --root {own_root}" in str(caught.value)


@pytest.mark.parametrize("name", DAMAGES)
def test_preparing_again_mends_any_damage(own_root, raw_folder, name):
    before = content(own_root / "nw-ucla")
    DAMAGES[name][0](own_root / "nw-ucla")
    nw_ucla.prepare([raw_folder], own_root)
    assert content(own_root / "nw-ucla") == before


# A store from somebody else: each is accepted by a check of keys and lengths alone.

_FOREIGN_META = {
    "dataset": [None, 3, ["nw-ucla"]],
    "reader": [-1, 1.5, "1", True],
    "skeleton": [None, {}, [], "kinect20"],
    "classes": ["abc", [1, 2], {"a": 1}, None, ["x"] * 32_768],
    "units": [None, 1],
    "axes": [None, ["y"]],
    "fps": ["30", 0, -1, True, [30]],
    "recipe": [None, 4],
    "parameters": [None, [], "x"],
    "source": [None, {}],
    "sources": [None, []],
    "channels": [4, "3", True, None],
    "counts": [None, {}, {"sequences": 75}, {"sequences": "75", "rows": 1, "frames": 1, "files": 1}],
    "sha256": [None, {}, {"joints.npy": 1}, {"../../secret": "0" * 64}],
    "schema": [None, "1", True, [1]],
}
_FOREIGN_SKELETON = {
    "name": [None, 3],
    "joints": [None, 20, ["a"] * 20, [1] * 20, []],
    "parents": [None, "x", [0.0] * 20, [99] * 20, [-1] * 20, [True] * 20],
    "pairs": [None, [[1]], [[1, 2, 3]], [["a", "b"]], 7],
    "parts": [None, [], {"body": 3}, {"body": ["a"]}, {"body": [0]}],
    "center": [None, "hip", 99, 1.0, -1],
    "origin": [[], 20],
    "up": [None, [1], [1, 2, 3], "ab"],
    "across": [{}, [1, None]],
}
_FOREIGN_INDEX = {
    "id": lambda column: column[::-1],
    "id ": lambda column: np.where(column == column[1], column[0], column),
    "id  ": lambda column: np.arange(len(column)),
    "id   ": lambda column: np.where(column == column[0], "", column),
    "id    ": lambda column: np.char.replace(column, "a", chr(0xD800)),
    "video": lambda column: column.astype("S4"),
    "content": lambda column: np.zeros(len(column)),
    "row": lambda column: column.astype(np.float64),
    "n_bodies": lambda column: column.astype(np.int64),
    "n_frames": lambda column: column.astype(np.uint32),
    "n_frames_declared": lambda column: column - 1_000,
    "first": lambda column: column + 1_000,
    "first ": lambda column: column - 1,
    "label": lambda column: column + np.int16(6),
    "label ": lambda column: column - np.int16(2),
    "label  ": lambda column: np.array(["a"] * len(column)),
    "label_original": lambda column: column - np.int16(99),
    "subject": lambda column: column - np.int16(99),
    "camera": lambda column: column.astype("S1"),
    "setup": lambda column: column - np.int16(1),
    "replication": lambda column: column.astype(bool),
    "start": lambda column: column + 5,
    "end": lambda column: column - 5,
    "flags": lambda column: column + 8,
    "flags ": lambda column: column | 4,
    "flags  ": lambda column: column.reshape(1, -1),
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, bad in _FOREIGN_META.items() for value in bad])
def test_every_entry_of_meta_is_checked(own_root, key, value):
    edit_meta(lambda meta: meta.update({key: value}))(own_root / "nw-ucla")
    with pytest.raises(StoreError, match=rf"meta\.json is not .*{'format' if key == 'schema' else key}") as caught:
        SkeletonStore(own_root / "nw-ucla")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, bad in _FOREIGN_SKELETON.items() for value in bad])
def test_every_entry_of_the_skeleton_is_checked(own_root, key, value):
    edit_meta(lambda meta: meta["skeleton"].update({key: value}))(own_root / "nw-ucla")
    with pytest.raises(StoreError, match=r"meta\.json is not .*skeleton"):
        SkeletonStore(own_root / "nw-ucla")


@pytest.mark.parametrize("key", ["dataset", "units", "axes", "fps", "recipe", "parameters", "source", "classes"])
def test_every_entry_of_meta_is_needed(own_root, key):
    edit_meta(lambda meta: meta.pop(key))(own_root / "nw-ucla")
    with pytest.raises(StoreError, match=rf"meta\.json is not .*{key} is missing"):
        SkeletonStore(own_root / "nw-ucla")


@pytest.mark.parametrize("name", _FOREIGN_INDEX)
def test_every_column_of_the_index_is_checked(own_root, name):
    edit_index(lambda index: index.update({name.strip(): _FOREIGN_INDEX[name](index[name.strip()])}))(
        own_root / "nw-ucla"
    )
    with pytest.raises(StoreError, match=rf"index\.npz .*\b{name.strip()}") as caught:
        SkeletonStore(own_root / "nw-ucla")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[1, 2]", "{", "1" * 5000, "\xff"])
def test_a_damaged_report_is_told(own_root, content):
    store = SkeletonStore(own_root / "nw-ucla")
    (store.path / "report.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(StoreError, match=r"report\.json"):
        store.report  # noqa: B018


def test_an_index_that_unpacks_to_far_more_than_it_has_is_refused(own_root, monkeypatch):
    monkeypatch.setattr("skelcl.data.store._LARGEST_COLUMN", 1 << 16)
    file = own_root / "nw-ucla" / "index.npz"
    with np.load(file) as columns:
        index = dict(columns)
    np.savez_compressed(file, **{**index, "video": np.array([""] * 74 + ["x" * 10_000])})
    assert file.stat().st_size < 1 << 16
    with pytest.raises(StoreError, match=r"index\.npz: video: comes to 3,000,000 bytes in memory, of which 65,536"):
        SkeletonStore(own_root / "nw-ucla")


def test_the_advice_of_a_foreign_store_is_one_harmless_command(own_root):
    folder = own_root / "mine"
    (own_root / "nw-ucla").rename(folder)
    edit_meta(lambda meta: meta.update(parameters={"format": "x; touch marker\n", "max_bodies": "$(touch marker)"}))(
        folder
    )
    again = SkeletonStore(folder).rebuild_hint
    assert "--format 'x; touch marker' " in again
    assert "--max_bodies '$(touch marker)'" in again


def test_checksums_find_a_flipped_bit(own_root):
    store = SkeletonStore(own_root / "nw-ucla")
    assert store.damage() == []
    with (store.path / "joints.npy").open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"\xff")
    assert [line.split(":")[0] for line in SkeletonStore(store.path).damage()] == [str(store.path / "joints.npy")]


def test_leaked_compares_content_across_the_split_only():
    content = np.array(["a", "b", "a", "c", "c", "b"])
    train = np.array([True, True, False, False, False, True])
    assert train_duplicates(content, train).tolist() == [False, False, True, False, False, False]


def replaced(path, seed):
    """Puts another store of the same clips and sizes in the place of one."""
    other = make(path.parent / "other", [Recording(name, body(1, 4, seed=seed + n)) for n, name in enumerate("abc")])
    path.rename(path.with_name(f"old {seed}"))
    other.path.rename(path)


def test_a_store_that_changes_while_it_is_open_is_never_mixed_with_the_other(tmp_path):
    first = make(tmp_path, [Recording(name, body(1, 4, seed=n)) for n, name in enumerate("abc")])
    mapped, lazy, sent = SkeletonStore(first.path), SkeletonStore(first.path), pickle.dumps(first)
    before = mapped.joints.copy()
    replaced(first.path, 10)
    np.testing.assert_array_equal(mapped.joints, before)
    for opened in (lazy, pickle.loads(sent), pickle.loads(pickle.dumps(mapped))):
        with pytest.raises(StoreError, match=r"mini has changed since it was opened: start again$"):
            opened.clips([0])
    with pytest.raises(StoreError, match="has changed since it was opened"):
        mapped.check_unchanged()
    again = SkeletonStore(first.path)
    assert again.digest != first.digest
    assert not np.array_equal(again.joints, before)
    shutil.rmtree(first.path)
    with pytest.raises(StoreError, match="has changed since it was opened"):
        again.check_unchanged()


def test_a_store_that_changes_while_it_is_being_opened_is_refused(tmp_path, monkeypatch):
    first = make(tmp_path, [Recording(name, body(1, 4, seed=n)) for n, name in enumerate("abc")])
    read = SkeletonStore._read_index

    def slow(self):
        monkeypatch.undo()
        replaced(first.path, 10)
        return read(self)

    monkeypatch.setattr(SkeletonStore, "_read_index", slow)
    with pytest.raises(StoreError, match="has changed since it was opened"):
        SkeletonStore(first.path)


def test_the_digest_is_that_of_the_clips_and_not_of_the_report(tmp_path):
    clips = [Recording(name, body(1, 4, seed=n)) for n, name in enumerate("abc")]
    first = make(tmp_path / "a", clips)
    unread = {"id": "d", "outcome": "skipped", "reason": "empty", "message": "d is empty", "line": None}
    second = make(tmp_path / "b", clips, notices=[unread])
    assert first.meta["sha256"]["report.json"] != second.meta["sha256"]["report.json"]
    assert first.digest == second.digest
    assert make(tmp_path / "c", clips[:2]).digest != first.digest


def prepare_slowly(root, number, entered):
    """Makes the store in a process of its own; says when it reads the first file."""

    def read(where):
        with entered.get_lock():
            entered.value += 1
        time.sleep(0.3)
        return where

    clips = [Recording(name, body(1, 4, seed=n)) for n, name in enumerate("abc")]
    sources = [Source(one.id, [one], one.id) for one in clips]
    convert(root, INFO, sources, read, kind="memory", files_per_shard=1, jobs=1)


@pytest.mark.posix("processes are forked")
def test_two_that_make_one_store_take_turns(tmp_path, capfd):
    """The second waits, says so, and finds the store made: every file is read once."""
    fork = multiprocessing.get_context("fork")
    entered = fork.Value("i", 0)
    processes = [fork.Process(target=prepare_slowly, args=(tmp_path, n, entered)) for n in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert entered.value == 3
    out = capfd.readouterr().out
    assert f"{tmp_path / 'mini'} is being made by another process: waiting for it" in out
    assert f"{tmp_path / 'mini'} was already made from these files" in out
    assert SkeletonStore(tmp_path / "mini").damage() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mini.lock", "mini"]


@pytest.mark.posix("processes are forked")
def test_a_killed_maker_leaves_no_lock(tmp_path):
    fork = multiprocessing.get_context("fork")
    entered = fork.Value("i", 0)
    killed = fork.Process(target=prepare_slowly, args=(tmp_path, 0, entered))
    killed.start()
    while not entered.value and killed.is_alive():
        time.sleep(0.02)
    killed.kill()
    killed.join(60)
    began = time.monotonic()
    prepare_slowly(tmp_path, 1, entered)
    assert time.monotonic() - began < 10
    assert len(SkeletonStore(tmp_path / "mini")) == 3


def test_a_store_in_a_folder_that_cannot_be_written_is_still_found(tmp_path, monkeypatch):
    clips = [Recording(name, body(1, 4, seed=n)) for n, name in enumerate("abc")]
    made = make(tmp_path, clips)

    def refuse(self, *args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("skelcl.data.convert.FileLock.acquire", refuse)
    assert make(tmp_path, clips).digest == made.digest


def test_what_a_worker_meets_is_told_in_one_line(tmp_path):
    store = make(tmp_path, [Recording(name, body(1, 4, seed=n)) for n, name in enumerate("abc")])
    loader = DataLoader(ClipDataset(store, 1), batch_size=None, num_workers=1)
    replaced(store.path, 10)
    with pytest.raises(StoreError) as error:
        next(iter(loader))
    assert "Traceback" in str(error.value)
    assert user_message(error.value) == f"{store.path} has changed since it was opened: start again"
