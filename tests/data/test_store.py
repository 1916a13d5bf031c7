import hashlib
import json
import os
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from skelcl.data import convert as convert_module
from skelcl.data.convert import DatasetInfo, ReadError, Recording, Source, convert
from skelcl.data.datamodule import ClipDataset
from skelcl.data.formats import nw_ucla
from skelcl.data.store import Flag, SkeletonStore, StoreError, fill_joints, leaked
from skelcl.skeleton import KINECT20

V = 20
INFO = DatasetInfo("mini", KINECT20, ("a", "b", "c"), reader=1, axes="y up")


def body(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=(*shape, V, 3)).astype(np.float32) + 3


def make(root, recordings, name="mini", **options):
    """A store of recordings that need no files; each is its own source."""
    sources = [
        Source(recording.id, [recording], hashlib.sha256(np.asarray(recording.joints).tobytes()).hexdigest())
        for recording in recordings
    ]
    info = DatasetInfo(name, KINECT20, INFO.classes, reader=1, axes="y up")
    return convert(root, info, sources, list, kind="memory", **options)


def content(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


# Rows, columns and missing data


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
        "end": 15, "flags": 0, "content": convert_module.content_digest(body(1, 5)),
    }  # fmt: skip
    assert {name: column.tolist()[0] for name, column in index.items()} == expected
    kinds = {name: column.dtype.str[1:] for name, column in index.items() if column.dtype.kind == "i"}
    assert kinds == {
        "row": "i8", "n_bodies": "i1", "n_frames": "i4", "n_frames_declared": "i4", "first": "i4", "label": "i2",
        "label_original": "i2", "subject": "i2", "camera": "i1", "setup": "i2", "replication": "i1", "start": "i4",
        "end": "i4", "flags": "i4",
    }  # fmt: skip


def missing_twin(joints):
    """Joint by joint and frame by frame: what a store must hold, with its flags; bodies never seen are left out."""
    bodies, repaired, gap = [], False, False
    for track in joints:
        kept, seen = [], False
        holes = gaps = 0
        for frame in track:
            row = [
                [np.nan] * 3 if not all(np.isfinite(p)) or (p[0] == 0 and p[1] == 0 and p[2] == 0) else list(p)
                for p in frame
            ]
            lost = sum(1 for p in row if np.isnan(p[0]))
            if lost > V / 2:
                row, lost = [[np.nan] * 3] * V, 0
                gaps += 1
            else:
                seen = True
            holes += lost
            kept.append(row)
        if seen:
            bodies.append(kept)
            repaired, gap = repaired or holes > 0, gap or gaps > 0
    return np.array(bodies, np.float32), repaired, gap


@pytest.mark.parametrize(
    ("lose", "value"),
    [
        ({(0, 2, 5)}, 0.0),
        ({(0, 2, 5), (0, 0, 1), (1, 6, 19)}, np.nan),
        ({(0, 2, v) for v in range(10)}, 0.0),  # half of a frame may be lost
        ({(0, 2, v) for v in range(11)}, np.inf),
        ({(0, 0, v) for v in range(V)}, 0.0),
        ({(1, t, v) for v in range(V) for t in range(7)}, 0.0),
        ({(0, t, v) for v in range(V) for t in range(7)}, -np.inf),
    ],
)
def test_missing_data_matches_the_slow_twin(tmp_path, lose, value):
    joints = body(2, 7)
    for m, t, v in lose:
        joints[m, t, v] = value
    store = make(tmp_path, [Recording("x", joints)])
    expected, repaired, gap = missing_twin(joints)
    np.testing.assert_array_equal(store.recording(0), expected)
    flags = Flag(int(store.index["flags"][0]))
    assert (Flag.REPAIRED in flags, Flag.GAP in flags) == (repaired, gap)
    assert store.clips([0]).gaps == gap
    assert store.index["first"][0] == int(np.argmin(np.isnan(expected[0]).all((1, 2))))


def test_one_infinite_coordinate_loses_the_joint_not_the_frame(tmp_path):
    joints = body(1, 3)
    joints[0, 1, 4, 2] = np.inf
    stored = make(tmp_path, [Recording("x", joints)]).recording(0)
    assert np.isnan(stored[0, 1, 4]).all()
    assert np.isnan(stored).sum() == 3


def test_a_single_zero_coordinate_is_a_coordinate(tmp_path):
    joints = body(1, 3)
    joints[0, 1, 4, :2] = 0
    np.testing.assert_array_equal(make(tmp_path, [Recording("x", joints)]).recording(0), joints)


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


def test_bodies_and_files_that_cannot_be_used(tmp_path):
    second = body(2, 4)
    second[1, :, 7] = 0
    never = body(1, 4)
    never[0, :, 7] = np.nan
    made = [Recording("a", second), Recording("b", never), Recording("c", np.zeros((1, 4, V, 3), np.float32))]
    made += [Recording("d", np.zeros((0, 4, V, 3), np.float32)), Recording("e", body(1, 4)[:, :, :19])]
    store = make(tmp_path, made, max_failed=1.0)
    assert store.ids.tolist() == ["a"]
    assert store.index["n_bodies"].tolist() == [1]
    reasons = {notice["id"]: (notice["outcome"], notice["reason"]) for notice in store.report["notices"]}
    assert reasons == {
        "a": ("warning", "body_dropped"),
        "b": ("failed", "joint_never_seen"),
        "c": ("failed", "no_skeleton"),
        "d": ("failed", "no_skeleton"),
        "e": ("failed", "shape"),
    }
    assert store.report["files"] == 5


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


# Conversion: nothing half-written, nothing lost


def test_bytes_depend_on_the_content_alone(tmp_path):
    made = [Recording(str(n), body(1, 2 + n, seed=n)) for n in range(5)]
    first = make(tmp_path / "a", made)
    second = make(tmp_path / "b", made[::-1])
    assert content(first.path) == content(second.path)
    with zipfile.ZipFile(first.path / "index.npz") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    np.save(tmp_path / "numpy.npy", np.load(first.path / "joints.npy"))
    assert (tmp_path / "numpy.npy").read_bytes() == (first.path / "joints.npy").read_bytes()
    assert os.listdir(tmp_path / "a") == ["mini"]


STEPS = [(os, "replace"), (os, "rename"), (os, "mkdir"), (shutil, "rmtree")]


def killed_at(step, work, monkeypatch):
    """Runs ``work`` in a child that dies at the ``step``-th change of the file system; True if it got there."""
    child = os.fork()
    if child == 0:
        count = 0
        for module, name in STEPS:
            real = getattr(module, name)

            def dying(*args, real=real, **kwargs):
                nonlocal count
                count += 1
                if count == step:
                    os._exit(9)
                return real(*args, **kwargs)

            setattr(module, name, dying)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("earlier", ["nothing", "an older store", "a damaged store"])
def test_killed_anywhere_and_run_again_it_ends_in_the_same_bytes(tmp_path, monkeypatch, earlier):
    monkeypatch.setattr(convert_module, "FILES_PER_SHARD", 2)
    made = [Recording(str(n), body(1, 2 + n, seed=n)) for n in range(5)]
    older = [Recording(str(n), body(1, 2, seed=n)) for n in range(3)]
    expected = content(make(tmp_path / "whole", made).path)
    killed = 0
    for step in range(1, 100):
        root = tmp_path / f"{earlier}{step}"
        if earlier != "nothing":
            old = content(make(root, older).path)
        if earlier == "a damaged store":
            damage_truncate(root / "mini")
        if not killed_at(step, lambda root=root: make(root, made, overwrite=True), monkeypatch):
            break
        killed += 1
        if earlier == "an older store":  # one of the two is whole at any moment
            whole = [path for path in (root / "mini", root / ".mini.old") if (path / "meta.json").exists()]
            assert any(content(path) in (old, expected) for path in whole)
        make(root, made, overwrite=True)
        assert content(root / "mini") == expected
        assert os.listdir(root) == ["mini"]
    assert killed >= 6  # three shards, the staging folder, the last rename, the cleaning


def test_a_second_run_reads_only_what_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(convert_module, "FILES_PER_SHARD", 2)
    made = [Recording(str(n), body(1, 2 + n, seed=n)) for n in range(6)]
    sources = [Source(recording.id, n, "1") for n, recording in enumerate(made)]
    seen = []

    def read(n):
        seen.append(n)
        if n == stop:
            raise KeyboardInterrupt
        return [made[n]]

    stop = 3
    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path, INFO, sources, read, kind="memory")
    assert not (tmp_path / "mini").exists()
    stop = None
    convert(tmp_path, INFO, sources, read, kind="memory")
    assert seen == [0, 1, 2, 3, 2, 3, 4, 5]
    convert(tmp_path, INFO, sources, read, kind="memory")
    assert len(seen) == 8  # complete: nothing to do
    assert content(tmp_path / "mini") == content(make(tmp_path / "b", made).path) | {
        "meta.json": (tmp_path / "mini" / "meta.json").read_bytes()  # names other fingerprints
    }


@pytest.mark.parametrize("change", [{"fingerprint": "2"}, {"reader": 2}, {"parameters": {"a": 1}}, {}])
def test_a_shard_of_other_input_is_not_resumed(tmp_path, monkeypatch, change):
    monkeypatch.setattr(convert_module, "FILES_PER_SHARD", 2)
    seen = []
    stop = 2

    def read(n):
        if n == stop:
            raise KeyboardInterrupt
        seen.append(n)
        return [Recording(str(n), body(1, 2, seed=n))]

    def run(fingerprint="1", reader=1, parameters=None):
        info = DatasetInfo("mini", KINECT20, INFO.classes, reader, axes="y up")
        sources = [Source(str(n), n, fingerprint) for n in range(4)]
        return convert(tmp_path, info, sources, read, kind="memory", parameters=parameters)

    with pytest.raises(KeyboardInterrupt):
        run()
    if not change:  # the same input, but a power cut tore the file
        (shard,) = (tmp_path / ".mini.partial").glob("*.npz")
        shard.write_bytes(shard.read_bytes()[:100])
    stop = None
    run(**change)
    assert seen == [0, 1, 0, 1, 2, 3]


def test_processes_write_the_same_bytes(root, raw_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(convert_module, "FILES_PER_SHARD", 25)
    nw_ucla.prepare([raw_folder], tmp_path, jobs=2)
    assert content(tmp_path / "nw-ucla") == content(root / "nw-ucla")


def test_a_store_of_other_files_is_replaced_only_when_asked(tmp_path):
    old = content(make(tmp_path, [Recording("x", body(1, 3))]).path)
    other = [Recording("x", body(1, 3, seed=1))]
    with pytest.raises(StoreError, match="--overwrite"):
        make(tmp_path, other)
    assert content(tmp_path / "mini") == old
    np.testing.assert_array_equal(make(tmp_path, other, overwrite=True).recording(0), other[0].joints)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_with_other_files_is_never_touched(tmp_path, overwrite):
    (tmp_path / "mini").mkdir()
    (tmp_path / "mini" / "thesis.tex").write_text("years")
    with pytest.raises(StoreError, match=r"thesis\.tex"):
        make(tmp_path, [Recording("x", body(1, 3))], overwrite=overwrite)
    assert (tmp_path / "mini" / "thesis.tex").read_text() == "years"


def failing(count, expected=False):
    def read(n):
        if n < count:
            raise ReadError("broken", f"file {n} is broken", line=n + 1, expected=expected)
        return [Recording(f"{n:03d}", body(1, 2, seed=n))]

    return [Source(f"{n:03d}", n, "1") for n in range(100)], read


def test_few_failures_are_reported(tmp_path):
    store = convert(tmp_path, INFO, *failing(1), kind="memory")
    assert len(store) == 99
    assert store.report["notices"] == [
        {"id": "000", "outcome": "failed", "reason": "broken", "message": "file 0 is broken", "line": 1}
    ]
    assert store.report["summary"] == [{"outcome": "failed", "reason": "broken", "count": 1}]


def test_many_failures_write_no_store_but_a_report(tmp_path):
    with pytest.raises(StoreError, match=r"2 of 100 files .* file 0 is broken, line 1") as caught:
        convert(tmp_path, INFO, *failing(2), kind="memory")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mini").exists()
    report = json.loads((tmp_path / ".mini.partial" / "report.json").read_text())
    assert [notice["id"] for notice in report["notices"]] == ["000", "001"]
    assert len(convert(tmp_path, INFO, *failing(2), kind="memory", max_failed=0.02)) == 98
    assert os.listdir(tmp_path) == ["mini"]


def test_files_that_the_authors_list_do_not_count_as_failures(tmp_path):
    store = convert(tmp_path, INFO, *failing(50, expected=True), kind="memory", strict=True)
    assert store.report["summary"] == [{"outcome": "skipped", "reason": "broken", "count": 50}]


def test_strict_stops_at_the_first_failure(tmp_path):
    with pytest.raises(StoreError, match=r"^file 0 is broken, line 1$"):
        convert(tmp_path, INFO, *failing(1), kind="memory", strict=True)
    assert not (tmp_path / "mini").exists()


def test_nothing_usable_or_an_id_twice_is_an_error(tmp_path):
    with pytest.raises(StoreError, match="no store was written"):
        convert(tmp_path, INFO, *failing(100), kind="memory", max_failed=1.0)
    twice = [Source(name, [Recording("x", body(1, 2))], "1") for name in "ab"]
    with pytest.raises(StoreError, match="called 'x'"):
        convert(tmp_path, INFO, twice, list, kind="memory")
    assert not (tmp_path / "mini").exists()


def test_leaked_compares_content_across_the_split_only():
    content = np.array(["a", "b", "a", "c", "c", "b"])
    train = np.array([True, True, False, False, False, True])
    assert leaked(content, train).tolist() == [False, False, True, False, False, False]
