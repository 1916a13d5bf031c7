"""Versions of a run: sorted by their number, whatever else lies beside them."""

import re
from pathlib import Path

import pytest

import skelcl
from skelcl.runs.versions import natural, newest_file, next_version, versions

PACKAGE = Path(skelcl.__file__).parent


@pytest.fixture
def run(tmp_path):
    for name in ("version_10", "version_2", "version_0", "version_x", "version_", "version_2b", "version_²", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "version_11").write_text("no folder")
    return tmp_path


def test_versions_are_sorted_by_their_number(run):
    assert [path.name for path in versions(run)] == ["version_0", "version_2", "version_10"]


def test_the_next_version_follows_the_largest_number(run, tmp_path):
    assert next_version(run / "other") == run / "other" / "version_0"
    assert next_version(tmp_path / "missing") == tmp_path / "missing" / "version_0"
    (run / "version_11").unlink()
    assert next_version(run).name == "version_11"
    assert not next_version(run).exists()


def test_a_file_is_that_of_the_last_version_that_has_it(run):
    assert newest_file(run, "a/last.ckpt") is None
    for version in ("version_0", "version_2"):
        (run / version / "a").mkdir()
        (run / version / "a" / "last.ckpt").touch()
    (run / "version_10" / "a" / "last.ckpt").mkdir(parents=True)
    assert newest_file(run, "a/last.ckpt") == run / "version_2" / "a" / "last.ckpt"


def test_natural_order():
    paths = [Path(text) for text in ("b/2", "a/version_10/x", "a/version_9/x", "a/version_10", "10", "9", "a²/1")]
    expected = ["9", "10", "a/version_9/x", "a/version_10", "a/version_10/x", "a²/1", "b/2"]
    assert [path.as_posix() for path in sorted(paths, key=natural)] == expected


def test_nobody_else_looks_for_versions():
    looking = re.compile(r"""glob\(["']version_""")
    assert [path.name for path in PACKAGE.rglob("*.py") if looking.search(path.read_text("utf-8"))] == ["versions.py"]
