"""From generated raw files to a store, to the files of another code base, back to a store, and into training."""

import pickle
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from skelcl.data import NTU60, Custom, SkeletonStore
from skelcl.data.convert import convert
from skelcl.data.export_arrays import Target, export
from skelcl.data.formats import ctr_gcn, ntu
from skelcl.data.import_arrays import convert_arrays, open_arrays
from skelcl.data.official_splits import official_splits
from skelcl.data.recording import DatasetInfo, Recording, Source
from skelcl.data.synthetic import ntu as synthetic_ntu
from skelcl.errors import InputError
from skelcl.skeleton import KINECT20, NTU25
from skelcl.transforms import Normalize, Resize, Truncate

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RUN = EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml"
QUICK = [
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--trainer.num_sanity_val_steps=0",
    "--trainer.limit_val_batches=0",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
    "--model.encoder.hidden=8",
    "--data.batch_size=8",
]

RECIPES = {"ctr-gcn": "sgn", "agcn": "agcn", "aimclr": "stgcn50", "pyskl": "none", "sgn": "none", "ntu-npy": "none"}
SAMPLERS = {"aimclr": Resize(50)}
FILES = {"ctr-gcn": "NTU60_CS.npz", "agcn": "xsub", "aimclr": "xsub", "pyskl": "ntu60_3danno.pkl",
         "sgn": "raw_skes_data.pkl", "ntu-npy": "."}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Generated people as NTU RGB+D 60: one and two bodies, lost ids, empty frames."""
    folder = tmp_path_factory.mktemp("ntu60")
    synthetic_ntu.write_ntu(folder / "raw", "ntu60", subjects=4, actions=3, replications=1, setups=2, seed=0)
    return ntu.prepare([folder / "raw"], folder / "data", missing="none")


@pytest.fixture(scope="module")
def exported(store, tmp_path_factory):
    """The folder of each format, and what was told."""
    folder = tmp_path_factory.mktemp("exported")
    return {format: (folder / format, export(store, format, folder / format, None)) for format in RECIPES}


@pytest.fixture(scope="module")
def imported(exported, tmp_path_factory):
    """The stores made of the exported files."""
    stores = {}
    for format, (folder, _) in exported.items():
        names = folder / "NTU60_CS_names.txt" if format == "ctr-gcn" else None
        root = tmp_path_factory.mktemp(format)
        stores[format] = convert_arrays(folder / FILES[format], "ntu60", root, names=names)
    return stores


def view(store, positions, sample, recipe):
    clips = store.clips(positions, 2)
    return Normalize(recipe)(sample(clips), clips)


def length(joints):
    """Frames up to the last one that shows somebody."""
    return 1 + int(np.flatnonzero(~np.isnan(joints).all((0, 2, 3)))[-1])


@pytest.mark.parametrize("format", RECIPES)
def test_a_round_trip_keeps_ids_labels_performers_and_views(store, imported, format):
    back = imported[format]
    assert back.meta["source"] == format
    assert back.recipe == RECIPES[format]
    for column in ("id", "label", "subject", "camera", "setup", "replication", "n_bodies"):
        np.testing.assert_array_equal(back.index[column], store.index[column], err_msg=column)
    assert back.meta["classes"] == store.meta["classes"]
    sample = SAMPLERS.get(format, Truncate(300))
    # A pickle of SGN has no empty frames, one of PYSKL has float16.
    positions = np.array([n for n in range(len(store)) if format != "sgn" or not empty_frames(store, n)])
    assert len(positions) > 10
    recipe = RECIPES[format] if format != "pyskl" else "none"
    tolerance = 2e-3 if format == "pyskl" else 1e-5
    expected, found = (view(s, positions, sample, recipe) for s in (store, back))
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("format", ["agcn", "aimclr"])
def test_axes_say_where_the_shoulders_point(imported, format):
    store = imported[format]
    left, right = (NTU25.joints.index(f"{side} shoulder") for side in ("left", "right"))
    first = np.stack([store.recording(n)[0, 0] for n in range(len(store))])
    aside = np.nanmedian(first[:, left, 0] - first[:, right, 0])
    assert abs(aside) > 0.2  # metres
    assert store.meta["axes"].endswith(f"x towards the {'left' if aside > 0 else 'right'} shoulder")


def empty_frames(store, position):
    return np.isnan(store.recording(position)).all((0, 2, 3)).any()


@pytest.mark.parametrize("format", RECIPES)
def test_a_round_trip_keeps_lengths(store, imported, format):
    for n in range(len(store)):
        before, after = store.recording(n), imported[format].recording(n)
        expected = 50 if format == "aimclr" else length(before)
        if format == "sgn":
            expected = int((~np.isnan(before).all((0, 2, 3))).sum())
        assert length(after) == expected, store.ids[n]


def test_generated_people_exercise_what_formats_treat_apart(store):
    assert set(store.index["n_bodies"]) == {1, 2}
    assert any(empty_frames(store, n) for n in range(len(store)))
    assert len(set(store.index["n_frames"])) > 10


def test_the_npz_is_the_published_layout(store, exported):
    folder, told = exported["ctr-gcn"]
    assert sorted(p.name for p in folder.iterdir()) == ["NTU60_CS.npz", "NTU60_CS_names.txt", "NTU60_CV.npz",
                                                       "NTU60_CV_names.txt"]  # fmt: skip
    names = (folder / "NTU60_CV_names.txt").read_text().split()
    with np.load(folder / "NTU60_CV.npz") as file:
        arrays = {name: file[name] for name in file.files}
    train, test = ctr_gcn.replay("ntu60", "xview", store.ids.tolist())
    assert names == train + test
    assert {name: (array.shape, str(array.dtype)) for name, array in arrays.items()} == {
        "x_train": ((len(train), 300, 150), "float32"),
        "y_train": ((len(train), 60), "float64"),
        "x_test": ((len(test), 300, 150), "float32"),
        "y_test": ((len(test), 60), "float64"),
    }
    for part, listed in (("train", train), ("test", test)):
        for row, name in enumerate(listed):
            position = store.ids.tolist().index(name)
            joints = np.nan_to_num(store.recording(position))
            first = store.index["first"][position]
            shown = joints.any((2, 3), keepdims=True)
            slow = np.where(shown, joints - joints[0, first, 1], 0)
            found = arrays[f"x_{part}"][row].reshape(300, 2, 25, 3).swapaxes(0, 1)
            if not np.isnan(store.recording(position)).any(-1).any():  # nothing to interpolate
                np.testing.assert_allclose(found[: len(slow), : slow.shape[1]], slow, atol=1e-5)
            assert not found[:, joints.shape[1] :].any()
            assert not found[len(joints) :].any()
            assert arrays[f"y_{part}"][row].argmax() == int(name[-3:]) - 1
    assert "NTU60_CS.npz: " in told[0]


def test_the_npy_is_the_published_layout(store, exported):
    folder, told = exported["agcn"]
    assert sorted(p.name for p in (folder / "xview").iterdir()) == [
        f"{part}_{what}" for part in ("train", "val") for what in ("data_joint.npy", "label.pkl", "num_frame.npy")
    ]
    names, labels = pickle.loads((folder / "xview" / "val_label.pkl").read_bytes())
    expected = [name for name in store.ids.tolist() if name[4:8] == "C001"]
    assert names == [f"{name}.skeleton" for name in expected]
    assert labels == [int(name[-3:]) - 1 for name in expected]
    array = np.load(folder / "xview" / "val_data_joint.npy", mmap_mode="r")
    lengths = np.load(folder / "xview" / "val_num_frame.npy")
    assert (array.shape, array.dtype, lengths.dtype) == ((len(names), 3, 300, 25, 2), np.float32, np.int64)
    for row, name in enumerate(expected):
        frames = int(store.index["n_frames"][store.ids.tolist().index(name)])
        assert lengths[row] == frames
        for t in range(frames, 300):
            np.testing.assert_array_equal(array[row, :, t], array[row, :, t - frames])
    assert "xsub: 27 train + 9 val clips, recipe agcn" in told


def test_fifty_frames_are_the_published_layout(store, exported):
    folder, told = exported["aimclr"]
    labels = np.load(folder / "xsub" / "val_label.npy")
    array = np.load(folder / "xsub" / "val_position.npy")
    assert array.shape == (len(labels), 3, 50, 25, 2)
    assert labels.shape[1:] == (1,)
    assert labels.dtype == np.int64
    assert not array[:, :, :, 20].any()
    assert "lost: all lengths are 50 frames now" in told


def test_lengths_are_found_without_the_list_of_them(store, exported, tmp_path):
    folder = exported["agcn"][0] / "xsub"
    for file in folder.iterdir():
        if "num_frame" not in file.name:
            (tmp_path / file.name).symlink_to(file)
    back = convert_arrays(tmp_path, "ntu60", tmp_path / "data")
    for n in range(len(store)):
        assert length(back.recording(n)) == length(store.recording(n)), store.ids[n]


def test_export_alone_promises_the_recipe_and_never_twice(imported, tmp_path):
    agcn = imported["agcn"]
    export(agcn, "agcn", tmp_path / "again", ["xsub"])
    again = convert_arrays(tmp_path / "again" / "xsub", "ntu60", tmp_path / "data")
    np.testing.assert_array_equal(again.joints, agcn.joints)
    export(imported["ctr-gcn"], "agcn", tmp_path / "moved", ["xsub"])  # sgn is a shift, which agcn does not see
    moved = convert_arrays(tmp_path / "moved" / "xsub", "ntu60", tmp_path / "moved-data")
    np.testing.assert_allclose(moved.joints, agcn.joints, atol=1e-4)
    for format, message in (
        ("ctr-gcn", "already went through the recipe 'agcn'"),
        ("pyskl", "files hold camera space"),
    ):
        with pytest.raises(InputError, match=message):
            export(agcn, format, tmp_path / "wrong")
    assert not (tmp_path / "wrong").exists()
    assert not (tmp_path / ".wrong.partial").exists()


def made(root, name, clips, skeleton=NTU25):
    info = DatasetInfo(name, skeleton, ("a", "b"), 1, "x")
    sources = [Source(clip.id, clip, "") for clip in clips]
    return convert(root, info, sources, lambda clip: [clip], kind="test")


def random_clip(id, frames=8, bodies=1, label=0, joints=25):
    rng = np.random.default_rng(frames + bodies)
    return Recording(id, rng.normal(size=(bodies, frames, joints, 3)).astype(np.float32), label)


def test_what_arrays_cannot_hold_is_told(tmp_path):
    clips = [random_clip("test/a", 320), random_clip("train/b", bodies=3), random_clip("train/c", 9)]
    clips[2].joints[:, 3] = np.nan
    store = made(tmp_path, "mine", clips)
    assert {name: mask.tolist() for name, mask in official_splits(store).items()} == {"imported": [False, True, True]}
    told = export(store, "agcn", tmp_path / "out")
    assert [line for line in told if line.startswith("lost")] == [
        "lost: 1 clips were cut at 300 frames",
        "lost: 1 clips have more than 2 bodies, of which the first 2 were written",
        "lost: 1 clips have missing frames or joints: frames were written as zeros, joints interpolated",
    ]
    back = convert_arrays(tmp_path / "out" / "imported", "back", tmp_path)
    assert back.ids.tolist() == ["test/a", "train/b", "train/c"]
    assert back.index["n_frames"].tolist() == [300, 8, 9]
    assert back.index["n_bodies"].tolist() == [1, 2, 1]
    export(store, "ctr-gcn", tmp_path / "npz")
    names = tmp_path / "npz" / "mine_imported_names.txt"
    back = convert_arrays(tmp_path / "npz" / "mine_imported.npz", "back2", tmp_path, names=names)
    assert back.ids.tolist() == store.ids.tolist()


@pytest.mark.parametrize("format", ["ctr-gcn", "agcn", "pyskl"])
def test_names_with_blanks_return(tmp_path, format):
    ids = ["train/Ünïcode class/clip ä 1", "test/drink water/clip 2"]
    store = made(tmp_path, "mine", [random_clip(id, label=n) for n, id in enumerate(sorted(ids))])
    export(store, format, tmp_path / "out")
    file = {"ctr-gcn": "mine_imported.npz", "agcn": "imported", "pyskl": "mine_3danno.pkl"}[format]
    names = tmp_path / "out" / "mine_imported_names.txt" if format == "ctr-gcn" else None
    back = convert_arrays(tmp_path / "out" / file, "back", tmp_path, names=names)
    assert back.ids.tolist() == store.ids.tolist()


def test_data_without_a_protocol_are_one_part(tmp_path):
    store = made(tmp_path, "mine", [random_clip("p"), random_clip("q", 9, label=1)])
    assert official_splits(store) == {}
    export(store, "aimclr", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out" / "all").iterdir()} == {
        "train_position.npy", "train_label.npy", "train_label.pkl"
    }  # fmt: skip
    opened = open_arrays(tmp_path / "out" / "all", tmp_path)
    assert [source.name for source in opened.sources] == ["train/p", "train/q"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--store", "nowhere", "--format", "agcn", "--output", "out"], "no store at nowhere"),
        (["--format", "agcn", "--output", "out"], "--store is missing"),
        (["--store", "STORE", "--output", "out"], "--format is missing"),
        (
            ["--store", "STORE", "--format", "agcn", "--output", "out", "--split", "[xsub,xset]"],
            "protocols of .* are xsub, xview",
        ),
        (["--store", "STORE", "--format", "agcn", "--output", "full"], "full exists and is not an empty folder"),
    ],
)
def test_a_wrong_request_is_one_line(skelcl, store, tmp_path, capfd, words, message):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(SystemExit) as stop:
        skelcl("data", "export", *[str(store.path) if word == "STORE" else word for word in words])
    assert stop.value.code == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert not (tmp_path / "out").exists()


def test_other_joints_and_unlabelled_clips_are_refused(tmp_path):
    other = made(tmp_path, "other", [random_clip("p", joints=20)], KINECT20)
    with pytest.raises(InputError, match="25 joints in 3D, the store has 20 joints with 3"):
        export(other, "agcn", tmp_path / "out")
    nameless = made(tmp_path, "nameless", [random_clip("p", label=-1)])
    with pytest.raises(InputError, match="1 clips have no label"):
        export(nameless, "agcn", tmp_path / "out")
    with pytest.raises(InputError, match="alone: 25 joints, names like"):
        export(made(tmp_path, "mine", [random_clip("p")]), "sgn", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("joints", [17, 18])
def test_flat_poses_leave_and_return_by_the_command_line(skelcl, tmp_path, joints):
    """Pickle of PYSKL in 2D → store → pickle → store: the same clips; no other format takes them."""
    rng = np.random.default_rng(joints)
    clips = [
        {
            "frame_dir": f"v_{n}",
            "label": n % 2,
            "total_frames": 6,
            "img_shape": (240, 320),
            "keypoint": rng.integers(1, 240, (2, 6, joints, 2)).astype(np.float16),
            "keypoint_score": (rng.random((2, 6, joints)) < 0.9).astype(np.float16),
        }
        for n in range(4)
    ]
    split = {"train": ["v_0", "v_1"], "val": ["v_2", "v_3"]}
    (tmp_path / "own.pkl").write_bytes(pickle.dumps({"split": split, "annotations": clips}))
    skelcl("data", "import", "arrays", "--input", "own.pkl", "--name", "flat", "--root", "data")
    skelcl("data", "export", "--store", "data/flat", "--format", "pyskl", "--output", "files")
    skelcl("data", "import", "arrays", "--input", "files/flat_2danno.pkl", "--name", "back", "--root", "data")
    store, back = SkeletonStore("data/flat"), SkeletonStore("data/back")
    assert (store.skeleton.num_joints, store.channels, back.channels) == (joints, 2, 2)
    assert back.ids.tolist() == store.ids.tolist() == ["test/v_2", "test/v_3", "train/v_0", "train/v_1"]
    np.testing.assert_array_equal(back.joints, store.joints)
    first = np.where(clips[0]["keypoint_score"][..., None] > 0, -clips[0]["keypoint"].astype(np.float32), np.nan)
    np.testing.assert_array_equal(store.recording(2), first)
    for format in get_args(Target):
        if format != "pyskl":
            with pytest.raises(InputError, match="25 joints"):
                export(store, format, tmp_path / "other")


def test_an_interrupted_export_leaves_no_output(store, tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("skelcl.data.formats.agcn.write_names", stop)
    with pytest.raises(KeyboardInterrupt):
        export(store, "agcn", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", RECIPES)
def test_the_command_line_trains_from_what_was_imported(skelcl, store, tmp_path, format, capsys):
    """Raw files → store → the files of another code base → store → two steps of AS-CAL."""
    split = ["--split", "xsub"] if format in ("ctr-gcn", "agcn", "aimclr") else []
    skelcl("data", "export", "--store", store.path, "--format", format, "--output", "files", *split)
    assert f"recipe {RECIPES[format]}" in capsys.readouterr().out
    names = ["--names", "files/NTU60_CS_names.txt"] if format == "ctr-gcn" else []
    where = f"files/{FILES[format]}"
    skelcl("data", "import", "arrays", "--input", where, "--name", "ntu60", "--root", "data", *names)
    assert f"recipe {RECIPES[format]}" in capsys.readouterr().out
    data = EXPERIMENTS / "data" / "ntu60-xsub.yaml"
    words = (
        [f"--model.view.init_args.normalize.init_args.recipe={RECIPES[format]}"] if format in ("agcn", "aimclr") else []
    )
    cli = skelcl("fit", "--config", RUN, "--data", data, *QUICK, *words)
    assert cli.trainer.callback_metrics["train/loss"].isfinite()
    assert cli.model.encoder.lstm.input_size == 3 * 25 * 2


@pytest.mark.parametrize(
    ("format", "words", "message"),
    [
        ("pyskl", ["--names", "names.txt"], "tells the names of its clips itself"),
        ("pyskl", ["--split", "xset"], "the splits of .* are xsub, xview"),
        ("aimclr", ["--split", "xsub"], "has no list of splits, as PYSKL's pickles do"),
        ("agcn", ["--name", "ntu60", "--names", "names.txt"], "--names: 1 names for 36 clips"),
    ],
)
def test_options_of_another_format_are_one_line(skelcl, exported, tmp_path, capfd, format, words, message):
    (tmp_path / "names.txt").write_text("S001C001P001R001A001")
    place = exported[format][0] / FILES[format]
    with pytest.raises(SystemExit) as stop:
        skelcl("data", "import", "arrays", "--input", place, "--name", "mine", *words)
    assert stop.value.code == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert not (tmp_path / "data").exists()


def test_parts_survive_a_file_without_names(skelcl, store, tmp_path):
    skelcl("data", "export", "--store", store.path, "--format", "ctr-gcn", "--output", "files", "--split", "xview")
    skelcl("data", "import", "arrays", "--input", "files/NTU60_CV.npz", "--name", "mine", "--root", "data")
    data, official = Custom("mine", "data", test_prefix="test/"), NTU60(store.path.parent, split="xview")
    for part in ("train", "test"):
        labels = [module.store.index["label"][module.parts[part]] for module in (data, official)]
        np.testing.assert_array_equal(*map(np.bincount, labels))
    assert SkeletonStore("data/mine").recipe == "sgn"
