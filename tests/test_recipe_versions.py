"""What was learned or normalised under an earlier version of a recipe is recognised, and told in one line."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from skelcl.cli import run
from skelcl.data import SkeletonStore
from skelcl.data.export_arrays import export
from skelcl.data.formats import ntu
from skelcl.data.import_arrays import convert_arrays
from skelcl.data.orientation import is_reversed
from skelcl.data.store import StoreError
from skelcl.data.synthetic import ntu as synthetic_ntu
from skelcl.errors import InputError
from skelcl.evaluation.record import REFERENCE_KEY
from skelcl.methods.base import RECIPES_KEY, Method
from skelcl.runs.loading import load
from skelcl.skeleton import KINECT20, NTU25
from skelcl.transforms import Normalize, Resize, View
from skelcl.transforms.normalize import check_versions, versions

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
QUIET = [f"--trainer.{name}=false" for name in ("enable_progress_bar", "enable_model_summary")]
QUIET += ["--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1"]
AGCN = [f"--model.{view}.normalize.recipe=agcn" for view in ("view", "eval_view")]
TOLD = "turned the left shoulder to +x, not the right one: under version 2 the features would mean nothing; train again"


@pytest.fixture(scope="module")
def place(tmp_path_factory, ucla):
    """A folder with ``new.ckpt``, of a run under the recipe agcn, and ``old.ckpt``, of the time before versions."""
    folder = tmp_path_factory.mktemp("versions")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["skelcl"])
        words = ["fit", "--config", EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml", f"--data.root={ucla}", *QUIET]
        words += ["--model.encoder.hidden=8", "--model.queue_size=32", "--trainer.max_epochs=1", *AGCN]
        run([str(word) for word in words])
    (folder / "runs" / "as_cal-nw_ucla" / "version_0" / "checkpoints" / "last.ckpt").rename(folder / "new.ckpt")
    content = torch.load(folder / "new.ckpt", weights_only=True)
    assert content.pop(RECIPES_KEY) == versions()
    torch.save(content, folder / "old.ckpt")
    shutil.rmtree(folder / "runs")
    return folder


@pytest.fixture(autouse=True)
def _here(monkeypatch, place):
    monkeypatch.chdir(place)


FIT = ["--config", EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml", "--model.encoder.hidden=8", *QUIET, *AGCN]
FIT += ["--model.queue_size=32"]
VERBS = {
    "test": ["test", *QUIET],
    "test, config beside it": ["test", *FIT],
    "validate": ["validate", *QUIET],
    "predict": ["predict", *QUIET],
    "fit": ["fit", *QUIET, "--trainer.max_epochs=2"],
    "fit, config beside it": ["fit", *FIT, "--trainer.max_epochs=2"],
    "evaluate": ["evaluate", "--device=cpu"],
    "evaluate, other data": ["evaluate", "--device=cpu", "--data", EXPERIMENTS / "data" / "nw_ucla.yaml"],
    "fine-tune": ["fine-tune", "--config", EXPERIMENTS / "evaluate" / "semi.yaml", "--seeds=0", *QUIET],
    "export": ["export", "--format=safetensors", "--output=net.safetensors"],
}


@pytest.mark.parametrize("words", VERBS.values(), ids=VERBS)
def test_weights_of_an_earlier_recipe_are_refused_in_one_line(capfd, ucla, words):
    root = []
    if words[0] == "evaluate" or ("--config" in words and words[0] != "fine-tune"):  # else the checkpoint tells it
        root = [f"--{'' if words[0] == 'evaluate' else 'data.'}root={ucla}"]
    with pytest.raises(SystemExit) as stop:
        run([str(word) for word in (*words, *root, "--ckpt_path=old.ckpt")])
    assert stop.value.code == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert f"old.ckpt: trained under version 1 of the recipe 'agcn', which {TOLD}" in line
    there = {file.name for file in Path().rglob("*") if file.suffix in (".ckpt", ".npz", ".safetensors")}
    assert there == {"old.ckpt", "new.ckpt"}
    assert not list(Path().rglob("results.json"))
    shutil.rmtree("runs", ignore_errors=True)


def test_weights_of_this_recipe_go_on(capfd):
    run(["test", *QUIET, "--ckpt_path=new.ckpt", "--evaluation.figures=false"])
    (file,) = Path().rglob("results.json")
    record = json.loads(file.read_text())
    assert "Normalize(recipe=agcn, scale=torso, version=2)" in record["run"]["view"]
    run(["fit", *QUIET, "--ckpt_path=new.ckpt", "--trainer.max_epochs=2"])
    (file,) = Path().rglob("last.ckpt")
    assert torch.load(file, weights_only=True)[RECIPES_KEY] == versions()
    shutil.rmtree("runs")


def test_arrays_of_others_were_never_turned_here(monkeypatch):
    with pytest.raises(InputError, match="version 1 of the recipe 'agcn'"):
        load("old.ckpt")
    monkeypatch.setattr(SkeletonStore, "recipe", "agcn")  # such clips pass the views as they are, in any version
    method, _ = load("old.ckpt")
    with pytest.raises(InputError, match="X: trained under version 1"):
        method.check_recipes({}, "X", past="sgn")
    Method.on_load_checkpoint(load("new.ckpt")[0], {RECIPES_KEY: versions()})


def test_a_later_version_is_refused_and_other_recipes_are_at_their_first():
    view = View(Resize(4), Normalize("agcn"))
    check_versions(view, versions())
    with pytest.raises(InputError, match="trained under version 3 of the recipe 'agcn', which this skelcl does not kn"):
        check_versions(view, {"agcn": 3})
    assert {recipe for recipe, version in versions().items() if version > 1} == {"agcn"}
    for recipe in versions():
        if recipe != "agcn":
            check_versions(View(Resize(4), Normalize(recipe)), {})
    assert REFERENCE_KEY != RECIPES_KEY


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Generated people as NTU RGB+D 60."""
    folder = tmp_path_factory.mktemp("ntu60")
    synthetic_ntu.write_ntu(folder / "raw", "ntu60", subjects=4, actions=3, replications=1, setups=2, seed=0)
    return ntu.prepare([folder / "raw"], folder / "data", missing="none")


@pytest.fixture
def normalised(store, tmp_path):
    """The store that is made of the exported arrays of the recipe agcn."""
    export(store, "agcn", tmp_path / "arrays", ["xsub"])
    return convert_arrays(tmp_path / "arrays" / "xsub", "ntu60", tmp_path / "data")


def test_imported_arrays_have_the_right_shoulder_at_x(normalised):
    assert (normalised.recipe, normalised.meta["axes"]) == ("agcn", "z up, x towards the right shoulder")
    body = normalised.clips(np.arange(len(normalised))).reference
    shoulders = torch.nn.functional.normalize(body[:, 8] - body[:, 4], dim=1)
    assert (shoulders[:, 0] > 0.99).all()
    up = body[:, 1] - body[:, 0]
    ahead = torch.linalg.cross(up, shoulders)
    feet = body[:, [15, 19]].mean(1) - body[:, [14, 18]].mean(1)
    assert ((ahead * feet).sum(1) > 0).float().mean() > 0.9


def test_arrays_that_were_exported_under_the_earlier_recipe_are_refused(store, tmp_path):
    old = SkeletonStore(store.path)
    old.skeleton = dataclasses.replace(NTU25, across=(4, 8))  # left − right to +x
    export(old, "agcn", tmp_path / "arrays", ["xsub"])
    with pytest.raises(InputError) as refused:
        convert_arrays(tmp_path / "arrays" / "xsub", "ntu60", tmp_path / "data")
    assert "train_data_joint.npy: most bodies have their left shoulder towards +x" in str(refused.value)
    assert "export them anew (`skelcl data export`) from a store in camera space" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "data" / "ntu60").exists()


def test_a_store_of_such_arrays_is_refused(normalised):
    joints = np.load(normalised.path / "joints.npy", mmap_mode="r+")
    joints[..., :2] *= -1  # half a turn about the upright
    joints.flush()
    with pytest.raises(StoreError) as refused:
        SkeletonStore(normalised.path)
    assert str(refused.value).startswith(f"{normalised.path}: most bodies have their left shoulder towards +x")
    assert "then run `skelcl data import arrays" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("skeleton", [NTU25, KINECT20], ids=lambda s: s.name)
def test_the_larger_number_of_turned_bodies_decides(skeleton):
    right, left = skeleton.across
    bodies = np.random.default_rng(0).normal(size=(9, skeleton.num_joints, 3))
    assert not is_reversed(bodies * 0, skeleton)
    bodies[:5, right], bodies[:5, left] = (0.2, 0, 0), (-0.2, 0, 0.01)
    assert not is_reversed(bodies, skeleton)
    bodies[:, [0, 1]] *= -1
    assert not is_reversed(bodies, skeleton)
    bodies[:5, right], bodies[:5, left] = (-0.2, 0, 0), (0.2, 0, 0.01)
    assert is_reversed(bodies, skeleton)
    bodies[5:, right], bodies[5:, left] = np.nan, np.nan  # has no say
    assert is_reversed(bodies, skeleton)
