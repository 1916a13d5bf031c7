"""A checkpoint of every method, alone in an empty folder, with no store on the machine: what needs no clips works."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from skelcl import Predictor
from skelcl.cli import run
from skelcl.data.facts import FACTS_KEY, DataFacts
from skelcl.data.store import SkeletonStore
from skelcl.errors import InputError
from skelcl.skeleton import KINECT20, NTU25

SMALL_GCN = ["--model.encoder.widths=[8, 16]", "--model.encoder.strides=[1, 2]"]
METHODS = {
    "as_cal": ["pretrain/as_cal-nw_ucla.yaml", "--model.encoder.hidden=8", "--model.queue_size=32"],
    "sds_cl": ["pretrain/sds_cl-nw_ucla-small.yaml", "--model.encoder.blocks=[[8, 4, 1], [16, 4, 2]]"],
    "std_cl": ["supervised/std_cl-ctr_gcn-nw_ucla.yaml", *SMALL_GCN],
    "scd_net": ["pretrain/scd_net-nw_ucla-small.yaml", "--model.encoder.dim=16", "--model.queue_size=32"],
    "skeleton_clr": [
        "pretrain/skeleton_clr-nw_ucla-small.yaml",
        "--model.encoder.widths=[8, 8]",
        "--model.encoder.strides=[2, 2]",
        "--model.queue_size=32",
    ],
    "mamp": ["pretrain/mamp-nw_ucla-small.yaml", "--model.encoder.dim=16", "--model.encoder.depth=1"],
    "supervised": ["supervised/ctr_gcn-ntu.yaml", *SMALL_GCN],
    "fine_tune": [
        "supervised/ctr_gcn-ntu.yaml",
        "--model=FineTune",
        "--model.checkpoint=where/it/was.ckpt",
        "--model.method=SkeletonCLR",
        *SMALL_GCN,
    ],
}
"""Run files, and options that make them small."""
OTHERS = [name for name in METHODS if name not in ("as_cal", "supervised")]
WITHOUT_MAPS = {"as_cal": "LSTM", "skeleton_clr": "STGCN", "mamp": "ViT"}
"""Methods whose encoders have no maps between joints."""
CLASSES = ["walk around", "throw", "handshake"]
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]


@pytest.fixture(scope="module")
def home(tmp_path_factory, drawn_checkpoint):
    """``home(method)``: a folder with a checkpoint and its gallery, a clip, and what a ``Predictor`` there said of it.

    The store was deleted then.
    """
    made = {}

    def make(method):
        if method not in made:
            folder = tmp_path_factory.mktemp(method)
            predictor = Predictor(drawn_checkpoint(folder / "net.ckpt", *METHODS[method]))
            data = predictor.data
            clip = np.array(data.store.recording(data.parts["test"][3]))
            found = predictor.predict(clip)  # which encodes the training clips itself
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                words = ["--ckpt_path=net.ckpt", "--data.predict_split=train", "--features.path=net.gallery.npz"]
                run(["predict", *words, *QUIET])
            shutil.rmtree(data.store.path)
            made[method] = folder, clip, found
        return made[method]

    return make


@pytest.fixture
def alone(home, skelcl, tmp_path, monkeypatch):
    """``alone(method)``: checkpoint and gallery in an empty folder, where to open or make a store is an error."""

    def copy(method, gallery=True):
        folder, clip, found = home(method)
        shutil.copy(folder / "net.ckpt", tmp_path)
        if gallery:
            shutil.copy(folder / "net.gallery.npz", tmp_path)
        np.save("clip.npy", clip)
        monkeypatch.setattr(SkeletonStore, "__init__", lambda *words: pytest.fail("a store was opened"))
        monkeypatch.setattr("skelcl.data.synthetic.datamodule.generate", lambda *words: pytest.fail("a store was made"))
        return clip, found

    return copy


def same(found, expected):
    """Two recognitions agree."""
    assert found.label == expected.label is not None
    assert found.labels_by == expected.labels_by
    (one,), (two,) = found.windows, expected.windows
    np.testing.assert_allclose(one.features, two.features, rtol=1e-4, atol=1e-5)
    assert [near.id for near in one.neighbours] == [near.id for near in two.neighbours]
    assert [near.label for near in one.neighbours] == [near.label for near in two.neighbours]
    assert [some.label for some in one.top] == [some.label for some in two.top]


@pytest.mark.parametrize("method", METHODS)
def test_a_predictor_says_what_it_says_where_the_data_are(method, alone):
    clip, expected = alone(method)
    predictor = Predictor("net.ckpt")
    assert predictor.class_names == CLASSES
    assert predictor.skeleton == NTU25
    assert predictor.note == ""
    found = predictor.predict(clip)
    same(found, expected)
    assert len(found.windows[0].neighbours) == 3
    logits = predictor.training_clips.head("as_cal", 0)(torch.from_numpy(found.windows[0].features)[None])
    assert logits.shape == (1, 3)


@pytest.mark.parametrize(
    "method",
    ["as_cal", "supervised", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)],
)
def test_verbs_that_need_no_clips(method, alone, skelcl, tmp_path, capfd):
    _, expected = alone(method)
    skelcl("predict", "--ckpt_path=net.ckpt", "--input=clip.npy", "--output=out.json")
    written = json.loads(Path("out.json").read_text())
    assert written["clips"][0]["label"] == expected.label
    assert [near["id"] for near in written["clips"][0]["windows"][0]["neighbours"]] == [
        near.id for near in expected.windows[0].neighbours
    ]
    skelcl("export", "--ckpt_path=net.ckpt", "--format=safetensors", "--output=net.safetensors")
    state = {
        name.removeprefix("encoder."): value
        for name, value in torch.load("net.ckpt", weights_only=True)["state_dict"].items()
        if name.startswith("encoder.")
    }
    exported = load_file("net.safetensors")
    prefix = "encoder." if any(name.startswith("encoder.") for name in exported) else ""
    assert all(torch.equal(value, exported[f"{prefix}{name}"]) for name, value in state.items())
    capfd.readouterr()
    if method in WITHOUT_MAPS:
        with pytest.raises(SystemExit):
            skelcl("plot", "maps", "--ckpt_path=net.ckpt", "--output=maps.png")
        assert f"net.ckpt: {WITHOUT_MAPS[method]} has no maps between joints" in capfd.readouterr().err
    else:
        skelcl("plot", "maps", "--ckpt_path=net.ckpt", "--output=maps.png")
        assert Path("maps.png").stat().st_size > 10_000
        assert "the maps are those of a made-up motion" in capfd.readouterr().out
    skelcl("checkpoint", "inspect", "net.ckpt")
    told = capfd.readouterr().out
    facts = DataFacts.from_plain(torch.load("net.ckpt", weights_only=True)[FACTS_KEY])
    for words in (
        f"{facts.dataset}, sha256 {facts.digest}",
        "ntu25: 25 joints, spine base, mid spine",
        "left leg: left hip, left knee, left ankle, left foot",
        "3, in m, camera: y up, z away from the camera, recipe none, 30 frames per second",
        "bodies       2",
        "3: walk around, throw, handshake",
        "split xsub, num_persons 2, train 18, train_all 18, test 18",
    ):
        assert words in told


@pytest.mark.slow
@pytest.mark.parametrize("form", ["torch-export", "onnx"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_exported_for_other_programs(method, form, alone, skelcl, capfd):
    alone(method)
    skelcl("export", "--ckpt_path=net.ckpt", f"--format={form}", "--output=net.out")
    assert "checked against the network on 5 clips" in capfd.readouterr().out
    assert Path("net.out").stat().st_size > 1000


# --- the gallery ------------------------------------------------------------------------------------------------------


def test_a_classifier_needs_no_gallery_and_says_what_is_left_out(alone, skelcl, capfd):
    clip, expected = alone("supervised", gallery=False)
    predictor = Predictor("net.ckpt")
    found = predictor.predict(clip)
    assert found.label == expected.label
    assert found.windows[0].neighbours == ()
    note = "no nearest training clips: net.gallery.npz or the data set are needed; neighbours 3 says how"
    assert predictor.note == note
    assert not Path("net.gallery.npz").exists()
    skelcl("predict", "--ckpt_path=net.ckpt", "--input=clip.npy")
    assert f"note: {note}" in capfd.readouterr().out.splitlines()
    with pytest.raises(SystemExit) as stop:
        skelcl("predict", "--ckpt_path=net.ckpt", "--input=clip.npy", "--layout=me")
    assert stop.value.code == 2
    assert "no layout 'me': there are ntu25" in capfd.readouterr().err
    with pytest.raises(InputError, match=r"net\.ckpt needs clips of its data .*, but there is no store at .* writes"):
        Predictor("net.ckpt", neighbours=3)


def test_a_frozen_encoder_says_what_it_needs(alone):
    clip, expected = alone("as_cal", gallery=False)
    with pytest.raises(InputError) as stop:
        Predictor("net.ckpt")
    told = str(stop.value)
    assert "\n" not in told
    assert "net.ckpt needs clips of its data synthetic-ntu25-" in told
    assert "18 training and 18 test clips" in told
    assert (
        "`skelcl predict --ckpt_path net.ckpt --data.predict_split train --features.path net.gallery.npz` writes them"
        in told
    )
    features = Predictor("net.ckpt", labels="none", neighbours=0).predict(clip).windows[0].features
    np.testing.assert_allclose(features, expected.windows[0].features, rtol=1e-4, atol=1e-5)


def test_a_gallery_has_any_name_and_is_never_changed(alone, skelcl, capfd):
    clip, expected = alone("as_cal")
    Path("net.gallery.npz").rename("mine.npz")
    before = Path("mine.npz").read_bytes()
    same(Predictor("net.ckpt", gallery="mine.npz").predict(clip), expected)
    assert Predictor("net.ckpt", gallery="mine.npz", labels="probe").predict(clip).label in CLASSES
    skelcl("predict", "--ckpt_path=net.ckpt", "--input=clip.npy", "--gallery=mine.npz")
    assert f"near {expected.windows[0].neighbours[0].id}" in capfd.readouterr().out
    assert Path("mine.npz").read_bytes() == before
    assert not Path("net.gallery.npz").exists()


def changed(**changes):
    """The gallery with other arrays."""
    with np.load("net.gallery.npz") as content:
        arrays = dict(content) | changes
    np.savez("net.gallery.npz", **arrays)


MISFITS = {
    "split": (lambda: changed(split=np.asarray("test")), "holds clips of the split test, not the training clips"),
    "weights": (lambda: changed(checkpoint_sha256=np.asarray("0" * 64)), "was made with another checkpoint"),
    "data": (lambda: changed(store_sha256=np.asarray("0" * 64)), "was made of other data"),
    "classes": (lambda: changed(class_names=np.array(["a", "b", "c"])), "has other classes"),
    "labels": (lambda: changed(label=np.full(18, -1)), "holds no clip with a label"),
    "cut": (lambda: Path("net.gallery.npz").write_bytes(b"half"), "no gallery, which skelcl predict"),
    "numbers": (lambda: changed(features=np.full((18, 8), np.nan)), "no gallery, which skelcl predict"),
}


@pytest.mark.parametrize("what", MISFITS)
@pytest.mark.parametrize("given", [None, "net.gallery.npz"])
def test_a_gallery_of_something_else_is_refused(what, given, alone):
    alone("as_cal")
    spoil, problem = MISFITS[what]
    spoil()
    with pytest.raises(InputError) as stop:
        Predictor("net.ckpt", gallery=given)
    assert f"net.gallery.npz{':' * (given is not None and 'no gallery' in problem)} {problem}" in str(stop.value)
    assert "\n" not in str(stop.value)


def test_features_of_another_view_are_no_gallery(tmp_path, monkeypatch, drawn_checkpoint):
    monkeypatch.chdir(tmp_path)
    drawn_checkpoint(tmp_path / "net.ckpt", *METHODS["as_cal"])
    words = ["--ckpt_path=net.ckpt", "--data.predict_split=train", *QUIET]
    for name, changes in {"own": [], "bone": ["--stream.kind=bone"]}.items():
        run(["predict", *words, f"--features.path={name}.npz", *changes])
    assert Predictor("net.ckpt", gallery="own.npz").gallery.features.shape == (18, 8)
    with pytest.raises(InputError, match=r"bone\.npz was made with another checkpoint, or another view of it"):
        Predictor("net.ckpt", gallery="bone.npz")


def test_there_is_no_such_gallery(alone):
    alone("as_cal")
    with pytest.raises(InputError, match=r"x\.npz: no such gallery"):
        Predictor("net.ckpt", gallery="x.npz")


def test_a_picture_of_neighbours_needs_their_clips(alone, skelcl, capfd):
    alone("as_cal")
    with pytest.raises(SystemExit):
        skelcl("predict", "--ckpt_path=net.ckpt", "--input=clip.npy", "--neighbours_picture=near.gif")
    assert "net.ckpt needs clips of its data" in capfd.readouterr().err


# --- weights that others published ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "words", "names"),
    [
        (10, [], ["pick up with one hand", "carry"]),
        (7, [], ["class 0", "class 6"]),
        (41, ["--run=experiments/supervised/ctr_gcn-ntu.yaml", "--skeleton=kinect20"], ["class 0", "class 40"]),
    ],
)
def test_published_weights_stand_alone(classes, words, names, skelcl, tmp_path, capfd):
    from skelcl.interop.reference import NETWORKS

    random = torch.Generator().manual_seed(1)
    module, layout = NETWORKS["ctr-gcn"](KINECT20, classes, 32, 1)
    state = {name: 0.1 * torch.randn(shape, generator=random) for name, shape in layout.shapes(module).items()}
    state |= {name: value.abs() + 1 for name, value in state.items() if name.endswith("running_var")}
    state |= {name: torch.tensor(7) for name in state if name.endswith("num_batches_tracked")}
    torch.save(state, "published.pt")
    (tmp_path / "experiments").symlink_to(Path(__file__).parents[1] / "experiments")
    skelcl("checkpoint", "import", "--input=published.pt", "--output=net.ckpt", *words)
    assert (f"its {classes} classes are numbered" in capfd.readouterr().out) == (classes != 10)
    predictor = Predictor("net.ckpt")
    assert (predictor.skeleton, len(predictor.class_names)) == (KINECT20, classes)
    assert (predictor.class_names[0], predictor.class_names[-1]) == tuple(names)
    clip = np.random.default_rng(0).normal(size=(20, 20, 3))
    assert predictor.predict(clip).label in predictor.class_names
    skelcl("export", "--ckpt_path=net.ckpt", "--format=safetensors", "--output=net.safetensors")
    skelcl("plot", "maps", "--ckpt_path=net.ckpt", "--output=maps.png")
    skelcl("checkpoint", "inspect", "net.ckpt")
    told = capfd.readouterr().out
    assert "kinect20: 20 joints, hip center" in told
    assert ("nw-ucla, as published" in told) == (not words)
