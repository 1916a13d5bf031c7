"""Miniature raw files in NW-UCLA's own format and the store made from them; imports of poses."""

import shutil
import zipfile

import numpy as np
import pytest

from skelcl.data.formats.nw_ucla import prepare, sequence_id, write_json
from skelcl.data.poses.importing import convert_poses
from skelcl.data.recording import Recording


def _recording(label, subject, view, frames, seed):
    """Coordinates with six significant digits, so that a file holds them exactly."""
    rng = np.random.default_rng(seed)
    joints = rng.normal(size=(1, frames, 20, 3)) * 0.3 + [0.0, 0.2, 2.7]
    joints = np.array([float(f"{value:.6g}") for value in joints.ravel()], np.float32).reshape(joints.shape)
    name = sequence_id(label, subject, 0, view)
    return Recording(name, joints, label, subject, view, replication=0, label_original=int(name[1:3]) - 1)


@pytest.fixture(scope="session")
def recordings():
    """5 actions × 5 performers × 3 views by id; action 1 in view 3 is a copy of view 2."""
    made = {}
    for label in range(5):
        for subject in range(1, 6):
            for view in (1, 2, 3):
                source_view = 2 if (label, view) == (1, 3) else view
                seed = 100 * label + 10 * subject + source_view
                recording = _recording(label, subject, view, 3 + seed % 9, seed)
                made[recording.id] = recording
    return dict(sorted(made.items()))


@pytest.fixture(scope="session")
def raw_folder(recordings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw") / "all_sqe"
    folder.mkdir()
    for recording in recordings.values():
        write_json(folder, recording)
    return folder


@pytest.fixture(scope="session")
def raw_zip(raw_folder, tmp_path_factory):
    file = tmp_path_factory.mktemp("zip") / "all_sqe.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(raw_folder.iterdir()):
            archive.write(path, f"all_sqe/{path.name}")
    return file


@pytest.fixture(scope="session")
def root(raw_folder, tmp_path_factory):
    """Folder of stores that holds the miniature one; never to be written to."""
    root = tmp_path_factory.mktemp("stores")
    prepare([raw_folder], root)
    return root


@pytest.fixture
def own_root(root, tmp_path):
    """A copy of it that a test may damage."""
    return shutil.copytree(root, tmp_path / "stores")


@pytest.fixture(scope="session")
def puppet(tmp_path_factory):
    """File that describes a layout of three joints."""
    file = tmp_path_factory.mktemp("layouts") / "puppet.yaml"
    file.write_text(
        "{joints: [hip, left hand, right hand], parents: [hip, hip, hip], up: [hip, left hand], across: [2, 1]}"
    )
    return file


@pytest.fixture
def imported(tmp_path):
    """Imports the clips in the folder ``in``, which is empty at first."""

    def make(format, name="mine", **options):
        return convert_poses(tmp_path / "in", name, tmp_path / "data", format, **options)

    (tmp_path / "in").mkdir()
    return make
