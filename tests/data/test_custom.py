"""Custom: the split rules against their definition, and training from every format through the command line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from skelcl.data import Custom
from skelcl.data.commands import import_poses
from skelcl.data.formats.synthetic_poses import write_mediapipe
from skelcl.data.store import StoreError
from skelcl.errors import InputError

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RUN = EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml"
QUICK = [
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=2",
    "--trainer.limit_train_batches=2",
    "--trainer.num_sanity_val_steps=0",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
    "--model.encoder.hidden=8",
    "--data.batch_size=8",
]
FLAT = """
model:
  init_args:
    view:
      class_path: View
      init_args:
        sample: {class_path: CropResize, init_args: {frames: 20, min_frames: 8}}
        normalize: {class_path: Normalize, init_args: {recipe: root, scale: torso}}
        steps: [{class_path: Reverse}, {class_path: GaussianBlur}]
"""
PUPPET = """
joints: [nose, chest, left wrist, right wrist]
parents: [chest, chest, chest, chest]
up: [chest, nose]
across: [right wrist, left wrist]
"""


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The same people as raw files and as stores ``mine`` (3D), ``flat`` (2D), without performers: ``nameless``."""
    folder = tmp_path_factory.mktemp("custom")
    raw, root = folder / "raw", folder / "data"
    write_mediapipe(raw, subjects=4)
    import_poses("mediapipe", raw, "mine", root)
    import_poses("mediapipe", raw, "flat", root, channels=2)
    (raw / "labels.csv").rename(folder / "labels.csv")
    import_poses("mediapipe", raw, "nameless", root)
    return folder


def test_subjects_and_cameras_are_held_out(stores):
    data = Custom("mine", stores / "data", test_subjects=[2, 3])
    subjects = data.store.index["subject"]
    assert set(subjects[data.parts["test"]]) == {2, 3}
    assert set(subjects[data.parts["train"]]) == {1, 4}
    data = Custom("mine", stores / "data", test_cameras=[3])
    assert set(data.store.index["camera"][data.parts["test"]]) == {3}
    assert 3 not in data.store.index["camera"][data.parts["train"]]
    assert len(data.parts["train"]) + len(data.parts["test"]) == 24


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_share_holds_out_whole_performers(stores, share):
    data = Custom("mine", stores / "data", test_share=share)
    subjects = data.store.index["subject"]
    held = set(subjects[data.parts["test"]])
    assert len(held) == round(4 * share)
    assert not held & set(subjects[data.parts["train"]])


def test_without_performers_a_share_of_each_class(stores):
    data = Custom("nameless", stores / "data", test_share=0.25)
    assert (data.store.index["subject"] == -1).all()
    assert np.bincount(data.store.index["label"][data.parts["test"]]).tolist() == [1] * 6
    assert data.class_names == ["carry", "drop-trash", "sit-down", "stand-up", "throw", "walk-around"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of test_subjects, test_cameras, test_share and test_prefix"),
        ({"test_share": 0.2, "test_cameras": [1]}, "exactly one of"),
        ({"test_share": 1.0}, "test_share must lie between 0 and 1"),
        ({"test_subjects": [1, 9]}, "mine: no clip is of subject 9; there are 1, 2, 3, 4"),
        ({"test_subjects": [1, 2, 3, 4]}, "the train part is empty"),
        ({"test_subjects": []}, "the test part is empty"),
        ({"name": "other", "test_share": 0.2}, "skelcl data import poses --format FORMAT --input FOLDER --name other"),
        ({"name": "nameless", "test_subjects": [1]}, "none: import with a table of labels that has a subject"),
    ],
)
def test_a_wrong_choice_is_one_line(stores, options, message):
    with pytest.raises(InputError, match=message) as caught:
        Custom(**{"name": "mine", "root": stores / "data"} | options)
    assert "\n" not in str(caught.value)


def test_facts_of_the_store_reach_the_data_module(stores):
    flat, deep = (Custom(name, stores / "data", test_share=0.5) for name in ("flat", "mine"))
    assert (flat.channels, deep.channels) == (2, 3)
    assert flat.skeleton == deep.skeleton
    (clips, *_) = flat.train_dataloader()
    assert clips.joints.shape[1:] == (33, 2)


def fit(skelcl, root, name, *words):
    overlay = EXPERIMENTS / "overlays" / "custom.yaml"
    store = [f"--data.root={root}", f"--data.name={name}"]
    return skelcl("fit", "--config", RUN, "--config", overlay, *words, *store, *QUICK)


def test_the_command_line_trains_on_flat_poses(skelcl, stores, tmp_path):
    (tmp_path / "flat.yaml").write_text(FLAT)
    cli = fit(skelcl, stores / "data", "flat", "--config", "flat.yaml")
    assert cli.trainer.callback_metrics["train/loss"].isfinite()
    assert cli.model.encoder.lstm.input_size == 2 * 33
    skelcl("plot", "views", "--ckpt_path", "runs/my-data/version_0/checkpoints/last.ckpt", "--output", "views.gif")
    assert Path("views.gif").stat().st_size > 0


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ("{class_path: Shear}", "Shear"),
        ("{class_path: Rotate}", "Rotate"),
        ("{class_path: Reverse}\n        normalize: {class_path: Normalize, init_args: {recipe: agcn}}", "Normalize"),
    ],
    ids=["shear", "rotate", "agcn"],
)
def test_3d_transforms_refuse_flat_poses_by_name(skelcl, stores, tmp_path, capfd, step, name):
    text = FLAT.split("        normalize")[0] + f"        steps:\n          - {step}\n"
    (tmp_path / "flat.yaml").write_text(text)
    with pytest.raises(SystemExit) as stop:
        fit(skelcl, stores / "data", "flat", "--config", "flat.yaml")
    assert stop.value.code == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert line.startswith(f"skelcl: error: {name}")
    assert line.endswith("needs 3D coordinates (C = 3), got C = 2")


def as_format(format, stores, folder):
    """The same clips in another format, (T, 4, 3)."""
    data = Custom("mine", stores / "data", test_share=0.5)
    names = [data.skeleton.joints.index(joint) for joint in ("nose", "mouth left", "left wrist", "right wrist")]
    for position, clip in enumerate(data.ids):
        joints = data.store.recording(position)[0][:, names].astype(float)
        file = folder / f"{clip}.{format}"
        file.parent.mkdir(parents=True, exist_ok=True)
        if format == "npy":
            np.save(file, joints)
        elif format == "npz":
            np.savez(file, keypoints=joints, label=clip.split("/")[0])
        elif format == "json":
            file.write_text(json.dumps(joints.tolist()))
        else:
            rows = [f"{t},{v},{x},{y},{z}" for t, frame in enumerate(joints) for v, (x, y, z) in enumerate(frame)]
            file.write_text("\n".join(["frame,joint,x,y,z", *rows]))


@pytest.mark.parametrize("format", ["csv", "json", "npy", "npz"])
def test_the_command_line_trains_on_every_format_and_a_layout_of_your_own(skelcl, stores, tmp_path, format):
    (tmp_path / "puppet.yaml").write_text(PUPPET)
    as_format(format, stores, tmp_path / "clips")
    skelcl("data", "import", "poses", "--format", format, "--input", "clips", "--name", "me", "--layout", "puppet.yaml")
    cli = fit(skelcl, "data", "me")
    assert cli.trainer.callback_metrics["train/loss"].isfinite()
    assert cli.model.encoder.lstm.input_size == 3 * 4
    assert cli.datamodule.skeleton.name == "puppet"


@pytest.mark.parametrize("format", ["openpose", "coco", "alphapose"])
def test_the_command_line_trains_on_every_estimator(skelcl, stores, tmp_path, format):
    joints = {"openpose": 25, "coco": 17, "alphapose": 26}[format]
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        for clip in range(4):
            frames = np.concatenate([rng.uniform(0, 500, (9, joints, 2)), np.ones((9, joints, 1))], -1).reshape(9, -1)
            folder = tmp_path / "clips" / label
            folder.mkdir(parents=True, exist_ok=True)
            if format == "openpose":
                (folder / str(clip)).mkdir()
                for t, frame in enumerate(frames):
                    content = {"people": [{"pose_keypoints_2d": frame.tolist()}]}
                    (folder / str(clip) / f"x_{t:012d}_keypoints.json").write_text(json.dumps(content))
            else:
                persons = [{"image_id": t, "keypoints": f.tolist(), "idx": 1} for t, f in enumerate(frames)]
                (folder / f"{clip}.json").write_text(json.dumps(persons))
    skelcl("data", "import", "poses", "--format", format, "--input", "clips", "--name", "me")
    (tmp_path / "flat.yaml").write_text(FLAT)
    cli = fit(skelcl, "data", "me", "--config", "flat.yaml")
    assert cli.trainer.callback_metrics["train/loss"].isfinite()
    assert cli.model.encoder.lstm.input_size == 2 * joints


def test_a_missing_store_is_one_line_on_the_command_line(skelcl, stores, tmp_path, capfd):
    with pytest.raises(SystemExit) as stop:
        fit(skelcl, tmp_path, "nowhere")
    assert stop.value.code == 1
    assert "skelcl data import poses" in capfd.readouterr().err


def test_a_damaged_store_is_no_missing_one(stores, tmp_path):
    copy = shutil.copytree(stores / "data", tmp_path / "data")
    (copy / "mine" / "joints.npy").unlink()
    with pytest.raises(StoreError, match=r"joints\.npy is missing"):
        Custom("mine", copy, test_share=0.5)
