"""The store: its rows and columns, batches of it, and damaged ones refused."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from skelcl.data.cleaning import content_digest
from skelcl.data.convert import convert
from skelcl.data.datamodule import ClipDataset
from skelcl.data.formats import nw_ucla
from skelcl.data.recording import DatasetInfo, Recording, Source
from skelcl.data.store import SkeletonStore, StoreError, fill_joints, leaked
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


@pytest.mark.parametrize("start", ["fork", "spawn"])
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
    assert leaked(content, train).tolist() == [False, False, True, False, False, False]
