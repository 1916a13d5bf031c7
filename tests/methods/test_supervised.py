"""Supervised training: one step by hand, what it refuses, and a run from the command line to a file of scores."""

import csv
import json
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from torch.nn import functional as F
from torch.utils.data import DataLoader

from skelcl.data import NWUCLA
from skelcl.encoders import LSTM
from skelcl.errors import InputError
from skelcl.evaluation import SupervisedEvaluation
from skelcl.methods import Supervised
from skelcl.transforms import Normalize, Truncate, View

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def view(frames=8):
    return View(Truncate(frames), Normalize("root"))


def supervised(encoder, num_classes=8, **options):
    options = {"optimizer": partial(torch.optim.SGD, lr=0.5), "scheduler": None, **options}
    return Supervised(encoder, view(), view(), num_classes, **options)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_one_step_by_hand(toy, smoothing):
    clips = toy(4)
    method = supervised(LSTM(clips.skeleton, hidden=6), label_smoothing=smoothing)
    encoder, classifier = LSTM(clips.skeleton, hidden=6), torch.nn.Linear(6, 8)
    encoder.load_state_dict(method.encoder.state_dict())
    classifier.load_state_dict(method.classifier.state_dict())
    pl.Trainer(max_epochs=1, **QUIET).fit(method, DataLoader([clips], batch_size=None))
    logits = classifier(encoder(view()(clips)))
    target = F.one_hot(clips.label, 8) * (1 - smoothing) + smoothing / 8
    loss = -(target * logits.log_softmax(1)).sum(1).mean()
    loss.backward()
    assert method.trainer.callback_metrics["train/loss"] == pytest.approx(loss.item(), rel=1e-6)
    right = (logits.argmax(1) == clips.label).float().mean()
    assert method.trainer.callback_metrics["train/top1"] == pytest.approx(right.item())
    for ours, mine in ((method.encoder, encoder), (method.classifier, classifier)):
        for name, parameter in mine.named_parameters():
            # The schedule is CTR-GCN's by default: the first epoch runs at a fifth of the rate.
            torch.testing.assert_close(ours.get_parameter(name), parameter - 0.1 * parameter.grad, msg=name)


def test_features_and_logits_of_the_deterministic_view(toy):
    clips = toy(2)
    method = supervised(LSTM(clips.skeleton, hidden=6)).eval()
    with torch.no_grad():
        given = method.predict_step(clips, 0)
        assert torch.equal(given["features"], method.encoder(method.eval_view(clips)))
        assert torch.equal(given["features"], method(clips))
        assert torch.equal(given["logits"], method.classifier(given["features"]))
    assert torch.equal(given["index"], clips.index)
    assert torch.equal(given["label"], clips.label)


def test_what_was_learned_does_not_validate(ucla):
    data = NWUCLA(ucla, validation="seen")
    with pytest.raises(InputError, match=r"--data\.validation held-out"):
        pl.Trainer(max_epochs=1, **QUIET).fit(supervised(LSTM(data.skeleton, hidden=4), 10), data)


def test_a_class_too_many_is_refused(ucla):
    data = NWUCLA(ucla, repeat=2)
    with pytest.raises(InputError, match=r"6 training clips have no label in 0…8"):
        pl.Trainer(max_epochs=1, **QUIET).fit(supervised(LSTM(data.skeleton, hidden=4), 9), data)


class Count(LSTM):
    """Counts the clips that it has encoded."""

    seen = 0

    def forward(self, x):
        self.seen += len(x)
        return super().forward(x)


def test_the_gallery_is_never_encoded(ucla):
    data = NWUCLA(ucla, validation="held-out", batch_size=7)
    method = supervised(Count(data.skeleton, hidden=4), 10)
    trainer = pl.Trainer(**QUIET)
    trainer.test(method, data, verbose=False)
    assert method.encoder.seen == len(data.parts["test"]) == 30
    trainer.validate(method, data, verbose=False)
    assert method.encoder.seen == 30 + len(data.parts["query"])
    trainer.test(method, data.predict_dataloader(), verbose=False)  # the only loader is no gallery
    assert method.encoder.seen == 60 + len(data.parts["query"])


@pytest.fixture
def config(ucla, tmp_path):
    """A run file of a supervised LSTM on the miniature NW-UCLA, and the options of a short run."""
    sample = {"class_path": "Truncate", "init_args": {"frames": 8}}
    steps = [{"class_path": "Stream", "init_args": {"kind": "bone"}}]
    seen = {"class_path": "View", "init_args": {"sample": sample, "steps": steps}}
    model = {
        "encoder": {"class_path": "LSTM", "init_args": {"hidden": 6}},
        "view": seen,
        "eval_view": seen,
        "scheduler": {"class_path": "WarmupMultiStepLR", "init_args": {"milestones": [2], "warmup_epochs": 1}},
    }
    content = {
        "data": {"class_path": "NWUCLA", "init_args": {"root": str(ucla), "validation": "held-out"}},
        "model": {"class_path": "Supervised", "init_args": model},
        "trainer": {
            "max_epochs": 2,
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "log_every_n_steps": 1,
        },
    }
    path = tmp_path / "supervised.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_from_the_command_line_to_a_file_of_scores(skelcl, config, capfd):
    fitted = skelcl("fit", "--config", config)
    assert fitted.model.classifier.out_features == 10, "the number of classes of the data reached the method"
    assert {"train/loss", "train/top1", "val/top1"} <= set(fitted.trainer.callback_metrics)
    assert "val/knn_top1" not in fitted.trainer.callback_metrics
    run = Path(fitted.trainer.log_dir)
    cli = skelcl("test", "--ckpt_path", run / "checkpoints" / "last.ckpt")
    found = {name: value.item() for name, value in cli.trainer.callback_metrics.items()}
    folder = Path(cli.trainer.log_dir)

    data = cli.datamodule
    clips = data.store.clips(data.parts["test"], 1)
    with torch.no_grad():
        logits = fitted.model.eval().predict_step(clips, 0)["logits"].numpy()
    expected = {}
    for part, positions in (("test", data.parts["test"]), ("test_clean", data.subsets["test_clean"])):
        which = np.isin(data.parts["test"], positions)
        truth, scores = clips.label.numpy()[which], logits[which]
        expected |= {
            f"{part}/top1": (scores.argmax(1) == truth).mean(),
            f"{part}/top5": top_k_accuracy_score(truth, scores, k=5, labels=range(10)),
            f"{part}/mean_class": balanced_accuracy_score(truth, scores.argmax(1)),
        }
    assert found == pytest.approx(expected, abs=1e-6)  # and nothing of kNN or of a probe

    with np.load(folder / "scores.npz", allow_pickle=False) as file:
        content = dict(file)
    assert content["id"].tolist() == data.ids[data.parts["test"]].tolist()
    assert content["logits"].dtype == np.float32
    np.testing.assert_allclose(content["logits"], logits, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(content["label"], clips.label)
    np.testing.assert_array_equal(content["test_clean"], np.isin(data.parts["test"], data.subsets["test_clean"]))
    assert content["stream"].item() == "bone"
    assert content["class_names"].tolist() == data.class_names
    assert content["checkpoint"].item().endswith("last.ckpt")

    results = json.loads((folder / "results.json").read_text())
    assert results["metrics"] == pytest.approx(expected, abs=1e-6)
    assert (results["method"], results["stream"], results["classes"]) == ("Supervised", "bone", 10)
    with (folder / "per_class.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    predicted = logits.argmax(1)
    for c, row in enumerate(table):
        mine = clips.label.numpy() == c
        assert int(row["test/support"]) == mine.sum()
        assert float(row["test/top1"]) == pytest.approx((predicted[mine] == c).mean(), abs=1e-4)
    assert (folder / "confusion.csv").is_file()
    for picture in ("confusion.png", "embedding.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    printed = capfd.readouterr().out
    assert "mean class clean" in printed
    assert "linear" not in printed

    cli = skelcl("validate", "--ckpt_path", run / "checkpoints" / "last.ckpt")
    with np.load(Path(cli.trainer.log_dir) / "scores-val.npz") as file:
        assert file["id"].tolist() == data.ids[data.parts["query"]].tolist()


@pytest.mark.linux("ddp_fork is reported to fail elsewhere")
def test_two_processes_judge_as_one(ucla, tmp_path):
    method = supervised(LSTM(NWUCLA(ucla).skeleton, hidden=6), 10)
    found, files = [], []
    for devices, strategy in ((1, "auto"), (2, "ddp_fork")):
        options = {**QUIET, "logger": CSVLogger(tmp_path, str(devices)), "devices": devices, "strategy": strategy}
        trainer = pl.Trainer(callbacks=[SupervisedEvaluation(figures=False)], **options)
        trainer.test(method, NWUCLA(ucla, batch_size=4), verbose=False)
        found.append({name: value.item() for name, value in trainer.callback_metrics.items()})
        with np.load(tmp_path / str(devices) / "version_0" / "scores.npz") as file:
            files.append(dict(file))
    assert found[0] == pytest.approx(found[1], abs=1e-7)
    assert len(found[0]) == 6
    assert files[0]["id"].tolist() == files[1]["id"].tolist()
    np.testing.assert_allclose(files[0]["logits"], files[1]["logits"], rtol=1e-5, atol=1e-6)
