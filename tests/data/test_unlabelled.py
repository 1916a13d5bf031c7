"""Clips without a label: they train what needs none, and are left out and counted wherever one is needed."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from skelcl.commands.data import import_poses
from skelcl.commands.evaluate import evaluate
from skelcl.data import Custom
from skelcl.data.synthetic.poses import write_mediapipe
from skelcl.errors import InputError
from skelcl.evaluation.knn import KNNOptions

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
OVERLAY = EXPERIMENTS / "overlays" / "custom.yaml"
AS_CAL = EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml"
HCN = EXPERIMENTS / "supervised" / "hcn-nw_ucla.yaml"
SMALL = {
    AS_CAL: ["--model.encoder.hidden=8", "--model.queue_size=16"],
    HCN: ["--model.encoder.hidden=8", "--model.encoder.points=16", "--trainer.precision=32-true"],
}
QUICK = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--data.batch_size=8", "--data.test_share=null"]
QUICK += [f"--trainer.{name}=false" for name in ("enable_progress_bar", "enable_model_summary")]
UNKNOWN = {"carry/p01-01", "throw/p02-01", "sit-down/p03-01", "walk-around/p04-01", "carry/p04-01"}
"""Three clips of the training performers 1–3, two of performer 4, who is the test part: 18 and 6 clips in all."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Stores ``some``, in which the labels of UNKNOWN are not known, and ``none``, in which no label is."""
    folder = tmp_path_factory.mktemp("unlabelled")
    write_mediapipe(folder / "raw", subjects=4)
    with (folder / "raw" / "labels.csv").open() as file:
        header, *rows = csv.reader(file)
    for name, unknown in (("some", UNKNOWN), ("none", {row[0] for row in rows})):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            known = [[row[0], "" if row[0] in unknown else row[1], *row[2:]] for row in rows]
            csv.writer(file).writerows([header, *known])
        import_poses("mediapipe", folder / "raw", name, folder / "data", labels=folder / f"{name}.csv")
    return folder / "data"


def names(data, part):
    return {str(name) for name in data.ids[data.parts[part]]}


def batches(data, loader):
    return {str(name) for clips in loader for name in data.ids[clips.index.numpy()]}


def fit(skelcl, root, run, store, *words):
    where = [f"--data.root={root}", f"--data.name={store}", "--data.test_subjects=[4]"]
    return skelcl("fit", "--config", run, "--config", OVERLAY, *SMALL[run], *QUICK, *where, *words)


@pytest.mark.parametrize("validation", ["none", "seen", "held-out"])
def test_a_part_that_is_judged_holds_labelled_clips_alone(root, validation):
    data = Custom("some", root, test_subjects=[4], validation=validation)
    judged = ["train_all", "test"] + ["gallery", "query"] * (validation != "none")
    for part in judged:
        assert len(names(data, part))
        assert not names(data, part) & UNKNOWN
    assert data.unlabelled == {"train": 3, "test": 2}
    assert (len(names(data, "train_all")), len(names(data, "test"))) == (15, 4)
    if validation == "none":
        assert batches(data, data.train_dataloader()) == names(data, "train_all") | {
            name for name in UNKNOWN if "p04" not in name
        }
    pairs = [data.test_dataloader(), data.val_dataloader()]
    for loaders, (gallery, query) in zip(pairs, [("train_all", "test"), ("gallery", "query")], strict=True):
        for loader, part in zip(loaders, (gallery, query), strict=False):
            assert batches(data, loader) == names(data, part)


@pytest.mark.parametrize(("split", "clips"), [("train", 18), ("test", 6), ("all", 24)])
def test_predict_encodes_them_too(root, split, clips):
    data = Custom("some", root, test_subjects=[4], predict_split=split)
    labels = np.concatenate([batch.label.numpy() for batch in data.predict_dataloader()])
    assert len(labels) == clips
    assert (labels < 0).sum() == {"train": 3, "test": 2, "all": 5}[split]


@pytest.mark.parametrize("choice", [{"fraction": 0.5}, {"subset": "uniform", "fraction": 0.4}, {"per_class": 2}])
def test_label_subsets_choose_among_labelled_clips(root, choice):
    data = Custom("some", root, test_subjects=[4], **choice)
    assert names(data, "train") == names(data, "train_all")
    assert not names(data, "train") & UNKNOWN
    assert data._labels.endswith("of 15 clips")


def test_a_list_that_names_one_is_refused(root, tmp_path):
    (tmp_path / "labels.txt").write_text("carry/p01-01\ncarry/p02-01\n")
    with pytest.raises(InputError, match="'carry/p01-01' cannot be labelled here: unknown, of unknown class"):
        Custom("some", root, test_subjects=[4], subset=tmp_path / "labels.txt")


@pytest.mark.parametrize("run", [AS_CAL, HCN], ids=["self-supervised", "supervised"])
def test_a_run_goes_through_every_verb(skelcl, root, caplog, run):
    with caplog.at_level("INFO"):
        cli = fit(skelcl, root, run, "some", "--data.validation=held-out")
    assert "left out where a label is needed, for want of one: 3 train and 2 test clips" in caplog.text
    unknown = int((cli.datamodule.slot_labels() < 0).sum())
    assert unknown == (0 if run == HCN else 2), "one of the three belongs to the performer who asks"
    assert {"val/knn_top1", "val/top1"} & set(cli.trainer.callback_metrics)
    checkpoint = next(Path("runs").rglob("last.ckpt"))
    skelcl("test", "--ckpt_path", checkpoint)
    (record,) = Path("runs").rglob("results.json")
    assert json.loads(record.read_text())["query_clips"]["test"] == 4
    found = evaluate(checkpoint, "knn,collapse", 0, Path("found"), knn=KNNOptions((1,)))
    assert [len(part) for part in found.features["learned"]] == [15, 4]
    left = json.loads(Path("found/results.json").read_text())["left_out"]
    assert "3 train clips without a label" in left
    assert "2 test clips without a label" in left
    skelcl("predict", "--ckpt_path", checkpoint, "--data.predict_split=all", "--features.path=all.npz")
    with np.load("all.npz") as content:
        assert set(content["id"][content["label"] < 0].tolist()) == UNKNOWN


def test_without_any_label_a_self_supervised_method_trains(skelcl, root, capfd):
    cli = fit(skelcl, root, AS_CAL, "none", "--data.validation=none")
    assert cli.trainer.callback_metrics["train/loss"].isfinite()
    checkpoint = next(Path("runs").rglob("last.ckpt"))
    with pytest.raises(InputError, match="no training clip has a label, which is needed here"):
        evaluate(checkpoint, "knn")
    with pytest.raises(SystemExit) as stop:
        skelcl("test", "--ckpt_path", checkpoint)
    assert stop.value.code == 1
    assert "no training clip has a label, which is needed here" in capfd.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("run", "words", "told"),
    [
        (AS_CAL, ["--data.validation=seen"], "no clip of the validation gallery has a label"),
        (HCN, ["--data.validation=none"], "no training clip has a label"),
        (AS_CAL, ["--data.validation=none", "--data.fraction=0.5"], "no clip has a label"),
    ],
)
def test_needed_labels_are_missed_before_anything_is_trained(skelcl, root, capfd, run, words, told):
    with pytest.raises(SystemExit) as stop:
        fit(skelcl, root, run, "none", *words)
    assert stop.value.code == 1
    assert told in capfd.readouterr().err.splitlines()[-1]
    assert not list(Path("runs").rglob("*.ckpt"))
