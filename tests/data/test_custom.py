"""Custom: the split rules against their definition, and training from every format through the command line."""

import json
import shutil
from pathlib import Path

import jsonargparse
import numpy as np
import pytest
import torch
import yaml

from skelcl.commands.data import import_poses
from skelcl.data import Custom
from skelcl.data.store import StoreError
from skelcl.data.synthetic.poses import write_mediapipe
from skelcl.encoders import LSTM
from skelcl.errors import InputError
from skelcl.methods import ASCAL
from skelcl.transforms import GaussianNoise, Normalize, Resize, Rotate, Shear, View

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
        ({"test_share": 1.0}, r"test_share must be in \(0, 1\)"),
        ({"test_subjects": [1, 9]}, "mine: no clip is of subject 9; there are 1, 2, 3, 4"),
        ({"test_subjects": [1, 2, 3, 4]}, "the train part is empty"),
        ({"test_subjects": []}, "the test part is empty"),
        ({"name": "other", "test_share": 0.2}, "skelcl data import poses --format FORMAT --input <files> --name other"),
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


def test_the_command_line_trains_on_flat_poses(skelcl, stores, caplog):
    cli = fit(skelcl, stores / "data", "flat")
    assert cli.trainer.callback_metrics["train/loss"].isfinite()
    assert cli.model.encoder.lstm.input_size == 2 * 33
    assert "two coordinates" not in caplog.text, "nothing that AS-CAL does needs depth"
    skelcl("plot", "views", "--ckpt_path", "runs/my-data/version_0/checkpoints/last.ckpt", "--output", "views.gif")
    assert Path("views.gif").stat().st_size > 0


@pytest.mark.parametrize("run", sorted((EXPERIMENTS / "pretrain").glob("*.yaml")), ids=lambda run: run.stem)
def test_the_views_of_every_pre_training_take_flat_poses(stores, run):
    parser = jsonargparse.ArgumentParser()
    parser.add_argument("--view", type=View)
    parser.add_argument("--eval_view", type=View)
    content = yaml.safe_load(run.read_text())["model"]["init_args"]
    words = []
    for name in ("view", "eval_view"):
        own = (
            content[name]
            if isinstance(content[name], dict)
            else yaml.safe_load((run.parent / content[name]).read_text())
        )
        words.append(f"--{name}={json.dumps(own)}")
    views = parser.instantiate_classes(parser.parse_args(words))
    flat = Custom("flat", stores / "data", num_persons=2, test_share=0.5)
    (clips, *_) = flat.train_dataloader()
    for view in (views.view, views.eval_view):
        x = view(clips, torch.Generator().manual_seed(0))
        assert x.shape == (len(clips), 2, view.frames, 33, 2)
        assert x.isfinite().all()


SMALL = sorted((EXPERIMENTS / "pretrain").glob("*-small.yaml"))


@pytest.mark.parametrize("run", SMALL, ids=lambda run: run.stem)
def test_a_small_run_of_each_method_trains_on_flat_poses(skelcl, stores, caplog, run):
    words = [word for word in QUICK if "hidden" not in word]
    data = ["--data", EXPERIMENTS / "data" / "custom.yaml", "--data.name=flat", f"--data.root={stores / 'data'}"]
    cli = skelcl("fit", "--config", run, *data, "--trainer.max_steps=2", *words)
    assert cli.trainer.callback_metrics["train/loss"].isfinite()
    told = [line for line in caplog.messages if line.startswith("two coordinates per joint: ")]
    lost = {
        "scd_net": "recipe agcn turns the trunk upright in the plane, not the shoulders",
        "sds_cl": "recipe sds turns the trunk upright in the plane, not the arm",
        "mamp": "Rotate turns in the plane alone",
    }
    method = run.stem.partition("-")[0]
    assert told == ([f"two coordinates per joint: {lost[method]}"] if method in lost else [])


def test_trying_the_views_in_the_plane_draws_nothing_from_the_caller(stores):
    flat = Custom("flat", stores / "data", num_persons=2, test_share=0.5)
    view = View(Resize(8), Normalize("agcn"), [Rotate(), Shear(), GaussianNoise()])
    method = ASCAL(LSTM(flat.skeleton, 2, channels=2, hidden=4), view, view, queue_size=8)
    state = torch.get_rng_state()
    method._try_planar(flat)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_needs_depth_refuses_flat_poses_before_anything_is_computed(skelcl, stores, tmp_path, capfd):
    (tmp_path / "deep.yaml").write_text("model: {init_args: {view: {class_path: View, init_args: {sample: {class_path: "
        "Resize, init_args: {frames: 20}}, normalize: {class_path: RotateMinMax}}}}}")  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        fit(skelcl, stores / "data", "flat", "--config", "deep.yaml")
    assert stop.value.code == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert "RotateMinMax turns clips about x and y" in line
    assert "ucla_minmax" in line, "the way out"
    assert not Path("runs/my-data/version_0/checkpoints").exists()


def write_clips(format, people, folder):
    """Clips of classes in another format: four joints of people in 3D, or what an estimator finds in an image."""
    size = {"openpose": 25, "coco": 17, "alphapose": 26}.get(format)
    names = [people.skeleton.joints.index(joint) for joint in ("nose", "mouth left", "left wrist", "right wrist")]
    rng = np.random.default_rng(0)
    for position, clip in enumerate(people.ids):
        joints = people.store.recording(position)[0][:, names].astype(float)
        file = folder / f"{clip}.{format if format in ('csv', 'npy', 'npz') else 'json'}"
        file.parent.mkdir(parents=True, exist_ok=True)
        if format == "npy":
            np.save(file, joints)
        elif format == "npz":
            np.savez(file, keypoints=joints, label=clip.split("/")[0])
        elif format == "json":
            file.write_text(json.dumps(joints.tolist()))
        elif format == "csv":
            rows = [f"{t},{v},{x},{y},{z}" for t, frame in enumerate(joints) for v, (x, y, z) in enumerate(frame)]
            file.write_text("\n".join(["frame,joint,x,y,z", *rows]))
        else:
            frames = np.insert(rng.uniform(0, 500, (9, size, 2)), 2, 1.0, axis=-1).reshape(9, -1).tolist()
            if format == "openpose":
                file.with_suffix("").mkdir()
                for t, frame in enumerate(frames):
                    content = {"people": [{"pose_keypoints_2d": frame}]}
                    (file.with_suffix("") / f"x_{t:012d}_keypoints.json").write_text(json.dumps(content))
            else:
                persons = [{"image_id": t, "keypoints": frame, "idx": 1} for t, frame in enumerate(frames)]
                file.write_text(json.dumps(persons))


OWN = ("puppet", 3, ["--layout", "puppet.yaml"])
IMPORTED = {  # layout and coordinates of a store, and what the command must be told
    "csv": OWN,
    "json": OWN,
    "npy": OWN,
    "npz": OWN,
    "mediapipe": ("mediapipe33", 3, []),
    "openpose": ("openpose25", 2, []),
    "coco": ("coco17", 2, []),
    "alphapose": ("halpe26", 2, []),
}


@pytest.mark.parametrize("format", IMPORTED)
def test_two_steps_from_raw_files_with_no_change_but_the_data_block(skelcl, stores, tmp_path, format):
    """From raw files through ``skelcl data import`` and the store."""
    layout, channels, words = IMPORTED[format]
    (tmp_path / "puppet.yaml").write_text(PUPPET)
    if format == "mediapipe":
        shutil.copytree(stores / "raw", tmp_path / "clips")
    else:
        write_clips(format, Custom("mine", stores / "data", test_share=0.5), tmp_path / "clips")
    skelcl("data", "import", "poses", "--format", format, "--input", "clips", "--name", "me", "--root", "data", *words)
    data = ["--data", EXPERIMENTS / "data" / "custom.yaml", "--data.name=me"]
    cli = skelcl("fit", "--config", RUN, *data, *QUICK, "--trainer.max_steps=2")
    assert cli.trainer.global_step == 2
    assert cli.trainer.callback_metrics["train/loss"].isfinite()
    assert (cli.datamodule.skeleton.name, cli.datamodule.channels) == (layout, channels)
    assert cli.model.encoder.lstm.input_size == channels * cli.datamodule.skeleton.num_joints


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
