"""Conversion: nothing half-written, nothing lost, the same bytes however it got there."""

import hashlib
import json
import os
import shutil
import zipfile

import numpy as np
import pytest

from skelcl.data import convert as convert_module
from skelcl.data.convert import convert
from skelcl.data.formats import nw_ucla
from skelcl.data.recording import DatasetInfo, ReadError, Recording, Source
from skelcl.data.store import StoreError
from skelcl.data.synthetic.nw_ucla import write_nw_ucla
from skelcl.errors import OptionError
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


def test_bytes_depend_on_the_content_alone(tmp_path):
    made = [Recording(str(n), body(1, 2 + n, seed=n)) for n in range(5)]
    first = make(tmp_path / "a", made)
    second = make(tmp_path / "b", made[::-1])
    assert content(first.path) == content(second.path)
    with zipfile.ZipFile(first.path / "index.npz") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    np.save(tmp_path / "numpy.npy", np.load(first.path / "joints.npy"))
    assert (tmp_path / "numpy.npy").read_bytes() == (first.path / "joints.npy").read_bytes()
    assert sorted(os.listdir(tmp_path / "a")) == [".mini.lock", "mini"]


def test_stores_of_3d_data_keep_their_bytes(tmp_path):
    """Byte for byte what they were before there were flat ones."""
    write_nw_ucla(tmp_path / "raw", 2, 1)
    store = nw_ucla.prepare([tmp_path / "raw"], tmp_path / "data")
    assert "channels" not in store.meta
    assert store.meta["sha256"]["joints.npy"] == "1edb89a31f929644a9d460c2fcdfb9ec6290a714a468f9e198e2800d9adc6d02"
    assert store.meta["sources"] == "5131bba9e15115bc631e050877ab53771ae7d3222321854076aae474edbaeec6"


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


@pytest.mark.posix("processes are forked")
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
            (root / "mini" / "joints.npy").write_bytes(b"")
        if not killed_at(step, lambda root=root: make(root, made, overwrite=True), monkeypatch):
            break
        killed += 1
        if earlier == "an older store":  # one of the two is whole at any moment
            whole = [path for path in (root / "mini", root / ".mini.old") if (path / "meta.json").exists()]
            assert any(content(path) in (old, expected) for path in whole)
        make(root, made, overwrite=True)
        assert content(root / "mini") == expected
        assert sorted(os.listdir(root)) == [".mini.lock", "mini"]
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
    assert sorted(os.listdir(tmp_path)) == [".mini.lock", "mini"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_failed": 5.0}, r"max_failed must be in \[0, 1\], got 5"),
        ({"max_failed": -1.0}, "got -1"),
        ({"max_failed": float("nan")}, "got nan"),
        ({"jobs": 0}, "jobs must be at least 1, got 0"),
        ({"jobs": -2}, "got -2"),
        ({"files_per_shard": 0}, "files_per_shard must be at least 1, got 0"),
    ],
)
def test_options_out_of_range(tmp_path, options, message):
    with pytest.raises(OptionError, match=message):
        convert(tmp_path, INFO, *failing(0), kind="memory", **options)
    assert not list(tmp_path.iterdir())


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
