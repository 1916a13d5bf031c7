"""What lies below a folder: links are followed, nothing is left out silently."""

import os
from functools import partial

import pytest

from skelcl.data.formats import ntu, nw_ucla, pku_mmd
from skelcl.data.formats.folders import files_below, fingerprint
from skelcl.data.poses.importing import convert_poses
from skelcl.data.synthetic import ntu as synthetic_ntu
from skelcl.data.synthetic import nw_ucla as synthetic_nw_ucla
from skelcl.data.synthetic import pku_mmd as synthetic_pku_mmd
from skelcl.data.synthetic.poses import write_mediapipe
from skelcl.errors import InputError


@pytest.mark.posix("makes a pipe")
def test_every_file_is_found_once_through_links_and_circles(tmp_path):
    top, elsewhere = tmp_path / "top", tmp_path / "elsewhere"
    for file in (top / "b" / "1", top / "ä b" / "2", top / "3", elsewhere / "deep" / "4"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (top / "a").symlink_to(top / "b")  # the folder itself keeps its name
    (top / "c").symlink_to(elsewhere)
    (elsewhere / "up").symlink_to(top)
    (top / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(top / "pipe")
    found = [file.relative_to(top).as_posix() for file in files_below(top)]
    assert found == ["3", "b/1", "c/deep/4", "gone", "ä b/2"]
    assert files_below(top / "3") == [top / "3"]


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    listed = os.scandir

    def scandir(folder):
        if os.path.basename(folder) == "locked":
            raise PermissionError(13, "Permission denied", folder)
        return listed(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=r"locked: this folder cannot be read \(Permission denied\)"):
        files_below(tmp_path)


def test_fingerprints_follow_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"123456789")
    assert fingerprint(tmp_path / "a") == "9:cbf43926"  # the check value of CRC-32
    assert fingerprint(tmp_path / "b").startswith("unreadable")


def nw(raw):
    synthetic_nw_ucla.write_nw_ucla(raw, subjects=1, episodes=1, seed=0)


def ntu60(raw):
    synthetic_ntu.write_ntu(raw, "ntu60", 2, 3, 1, 1, 0)


def pku(raw):
    synthetic_pku_mmd.write_pku_mmd(raw, 1, 3, 1, 0)


def poses(raw):
    write_mediapipe(raw, 1, 1, 0)


CASES = {
    "nw-ucla": (nw, lambda raw, root, **rest: nw_ucla.prepare([raw], root, **rest), "a01_s01_e09_v01.json"),
    "ntu60": (ntu60, lambda raw, root, **rest: ntu.prepare([raw], root, **rest), "S001C001P040R002A001.skeleton"),
    "pku-mmd-1": (pku, lambda raw, root, **rest: pku_mmd.prepare([raw], root, **rest), "0100-L.txt"),
    "mine": (poses, lambda raw, root, **rest: convert_poses(raw, "mine", root, "mediapipe", labels=None, **rest),
             "carry/p09-09.json"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_links_are_followed_and_a_broken_one_is_a_file_that_failed(tmp_path, name):
    write, prepare, gone = CASES[name]
    write(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "labels.csv").unlink(missing_ok=True)
    (tmp_path / "raw").mkdir()
    for part in (tmp_path / "elsewhere").iterdir():
        (tmp_path / "raw" / part.name).symlink_to(part)
    (tmp_path / "elsewhere" / gone).symlink_to(tmp_path / "nowhere")
    (tmp_path / "all").symlink_to(tmp_path / "elsewhere")
    make = partial(prepare, tmp_path / "all", tmp_path / "data")
    with pytest.raises(InputError, match=r"1 of .* could not be used"):
        make(max_failed=0)
    store = make(max_failed=1)
    (failed,) = [notice for notice in store.report["notices"] if notice["outcome"] == "failed"]
    assert os.path.basename(gone).split(".")[0] in failed["id"]
    (tmp_path / "elsewhere" / gone).unlink()
    (tmp_path / "all").unlink()
    linked = prepare(tmp_path / "raw", tmp_path / "linked")
    assert linked.ids.tolist() == store.ids.tolist()
