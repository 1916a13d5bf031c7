"""Files are there whole, as they were before, or not at all."""

import errno
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from skelcl.data.formats.mapped import Archive
from skelcl.data.subsets import write_labels
from skelcl.evaluation.report import write_confusion, write_per_class
from skelcl.files import atomic_write


def test_a_file_takes_its_name_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "table.csv"
    with atomic_write(path) as part:
        part.write_text("half")
        assert part.suffix == ".csv"
        assert not path.exists()
        part.write_text("all")
    assert path.read_text() == "all"

    def fail():
        with atomic_write(path) as part:
            part.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "all"
    assert list(path.parent.iterdir()) == [path]


@contextmanager
def no_file_above(size):
    """No file grows beyond so many bytes, as on a disk that is full."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


LABEL, WHICH = torch.arange(600) % 300, {"test": torch.ones(600, dtype=torch.bool)}
NAMES = [f"class {c}" for c in range(300)]


@pytest.mark.posix("the system limits the size of files")
@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_confusion(path, LABEL, LABEL, NAMES),
        lambda path: write_per_class(path, LABEL, {"top1": LABEL}, WHICH, NAMES),
        lambda path: write_labels(path, NAMES * 9, "all"),
    ],
)
def test_what_cannot_be_written_is_named_and_leaves_the_file_as_it_was(tmp_path, write):
    path = tmp_path / "some.csv"
    path.write_text("before")
    with no_file_above(2000), pytest.raises(OSError, match="File too large") as told:
        write(path)
    assert (told.value.errno, told.value.filename) == (errno.EFBIG, str(path))
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.posix("the system limits the size of files")
def test_conversion_without_space_names_the_file_that_it_writes(tmp_path, ucla, capsys):
    from skelcl.cli import run

    with no_file_above(20_000), pytest.raises(SystemExit) as stop:
        run(["data", "prepare", "nw-ucla", "--raw", str(ucla.parent / "raw"), "--root", str(tmp_path / "data")])
    assert stop.value.code == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skelcl: error")]
    assert "File too large" in line
    assert ".npz'" in line


@pytest.mark.posix("the system limits the size of files")
def test_an_archive_is_not_blamed_for_what_cannot_be_unpacked(tmp_path):
    file, scratch = tmp_path / "a.npz", tmp_path / "scratch"
    np.savez_compressed(file, x=np.arange(60_000, dtype=np.int64) % 251)
    with no_file_above(20_000), pytest.raises(OSError, match="File too large") as told:
        Archive(file).open("x", scratch)
    assert told.value.errno == errno.EFBIG
    assert Path(told.value.filename).is_relative_to(scratch)
    assert not [path for path in scratch.rglob("*") if path.is_file()]
    assert zipfile.ZipFile(file).testzip() is None
