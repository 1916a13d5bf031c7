"""A mixture trains what one data set trains: every method, on two processes as on one, and on after an end."""

from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import nn

from skelcl.data import Mixture
from skelcl.encoders import LSTM, SCD
from skelcl.evaluation import FrozenEvaluation, OnlineKNN
from skelcl.methods import ASCAL, SDSCL, SCDNet, SkeletonCLR
from skelcl.nn import gather
from skelcl.transforms import CropResize, EvenFrames, Normalize, RandomFrames, Truncate, View

METHODS = ["as_cal", "sds_cl", "scd_net", "skeleton_clr"]
OTHERS = [pytest.param(name, marks=[] if name == "as_cal" else pytest.mark.slow) for name in METHODS]
EPOCHS, BATCH, STEPS = 2, 18, 5
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
pytestmark = [
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create"),
    pytest.mark.filterwarnings("ignore:.*the features have collapsed"),
]


class Watch(Callback):
    """Losses of all steps, the clips of the first process, and what it has learned in the end."""

    def __init__(self, path):
        self.path, self.loss, self.seen = path, [], []

    def on_train_batch_end(self, trainer, method, outputs, batch, batch_idx):
        self.loss.append(gather(outputs["loss"].reshape(1)).mean().item())
        self.seen.append(gather(batch.index).tolist())
        for name, value in method.state_dict().items():
            mine, *others = gather(value.reshape(1, -1).double())
            assert all(torch.equal(mine, other) for other in others), name

    def on_train_end(self, trainer, method):
        if trainer.is_global_zero:
            torch.save((method.state_dict(), self.loss, self.seen), self.path)


@pytest.fixture
def build(map_encoder):
    """A tiny method by its name, without batch norm, on a skeleton."""

    def make(name, skeleton, random=False):
        torch.manual_seed(7)
        view = View(CropResize(8, min_frames=4) if random else Truncate(8), Normalize("root"))
        steady = View(Truncate(8), Normalize("root"))
        if name == "as_cal":
            return ASCAL(LSTM(skeleton, hidden=8), view, steady, queue_size=50, momentum=0.9)
        if name == "skeleton_clr":
            return SkeletonCLR(map_encoder(), view, steady, queue_size=50, momentum=0.9, projection=6)
        if name == "scd_net":
            encoder = SCD(skeleton, 1, 3, 8, lambda *_: map_encoder(), dim=8, heads=2, dropout=0.0)
            return SCDNet(encoder, view, steady, queue_size=50, momentum=0.9, projection=6)
        frames = RandomFrames(8, copies=None) if random else EvenFrames(8, endpoint=False)
        views = View(frames, Normalize("root")), View(EvenFrames(8, endpoint=False), Normalize("root"))
        method = SDSCL(map_encoder(), *views, optimizer=partial(torch.optim.SGD, lr=1e-3))
        method.siia.norms = nn.ModuleList(nn.Identity() for _ in method.siia.norms)
        return method

    return make


@pytest.fixture
def fit(build, mixed_parts, tmp_path):
    """Trains a method on the mixture: what it has learned, its losses, and the clips that it saw."""

    def train(name, devices=1, random=False, checkpoint=None, ckpt_path=None, **options):
        data = Mixture(mixed_parts(), layout="kinect20", batch_size=BATCH // devices, **options)
        trainer = pl.Trainer(
            max_epochs=EPOCHS,
            devices=devices,
            strategy="ddp_fork" if devices > 1 else "auto",
            callbacks=[Watch(tmp_path / "run.pt"), *([checkpoint] if checkpoint else [])],
            enable_checkpointing=checkpoint is not None,
            **QUIET,
        )
        trainer.fit(build(name, data.skeleton, random), data, ckpt_path=ckpt_path)
        return torch.load(tmp_path / "run.pt", weights_only=True)

    return train


@pytest.mark.parametrize("name", METHODS)
def test_clips_of_all_parts_train_a_method(fit, name):
    _, losses, seen = fit(name, random=True)
    assert torch.tensor(losses).isfinite().all()
    for epoch in (seen[:STEPS], seen[STEPS:]):
        assert len({clip for batch in epoch for clip in batch}) == 90


@pytest.mark.linux("ddp_fork is reported to fail elsewhere")
@pytest.mark.parametrize("weights", [None, pytest.param({"ucla": 1, "people": 2, "film": 1}, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", OTHERS)
def test_two_processes_equal_one(fit, name, weights):
    one, loss_one, seen_one = fit(name, weights=weights)
    two, loss_two, seen_two = fit(name, devices=2, weights=weights)
    assert len(loss_one) == EPOCHS * STEPS
    assert seen_two == seen_one
    assert loss_two == pytest.approx(loss_one, rel=1e-5)
    assert set(one) == set(two)
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-5, msg=key)
        if key.startswith("queue") and key.endswith(("index", "pushed")):
            assert torch.equal(two[key], value), key


@pytest.mark.linux("ddp_fork is reported to fail elsewhere")
def test_labelled_clips_alone_train_on_two_processes_as_on_one(fit, mixed_parts):
    """And those that validation holds out do not."""
    labels = {"fraction": 0.5, "subset_seed": 1, "validation": "held-out"}
    data = Mixture(mixed_parts(), layout="kinect20", **labels)
    _, loss_one, seen_one = fit("as_cal", **labels)
    _, loss_two, seen_two = fit("as_cal", devices=2, **labels)
    assert seen_two == seen_one
    assert loss_two == pytest.approx(loss_one, rel=1e-5)
    seen = {clip for batch in seen_one for clip in batch}
    assert seen == set(data.parts["train"].tolist())
    assert not seen & {*data.parts["query"].tolist(), *data.mixed["film"].positions.tolist()}


@pytest.mark.parametrize("left", [3, 5])
@pytest.mark.parametrize("name", OTHERS)
def test_what_is_resumed_repeats_the_rest_of_a_run(fit, tmp_path, name, left):
    """Within an epoch and behind one."""
    options = {"random": True, "weights": {"ucla": 1, "people": 2, "film": 1}}
    every = {"every_n_train_steps": left} if left < STEPS else {"every_n_epochs": 1}
    checkpoint = ModelCheckpoint(tmp_path, "left-{step}", save_top_k=-1, save_on_train_epoch_end=left == STEPS, **every)
    whole, losses, seen = fit(name, checkpoint=checkpoint, **options)
    resumed, rest, seen_then = fit(name, ckpt_path=tmp_path / f"left-step={left}.ckpt", **options)
    assert seen_then == seen[left:]
    assert rest == losses[left:]
    torch.testing.assert_close(resumed, whole, rtol=0, atol=0)


# What is told of each part


def judged(build, data, verb, **options):
    trainer = pl.Trainer(callbacks=[OnlineKNN(), FrozenEvaluation(figures=False)], **QUIET)
    method = build("as_cal", data.skeleton)
    (metrics,) = [{k: v for one in getattr(trainer, verb)(method, data, verbose=False) for k, v in one.items()}]
    return metrics


def test_validation_of_a_part_is_that_of_the_part_alone(build, mixed_parts):
    metrics = judged(build, Mixture(mixed_parts(), layout="kinect20", validation="seen"), "validate")
    parts = mixed_parts(validation="seen", only=("ucla", "people"))
    alone = {name: judged(build, part, "validate")["val/knn_top1"] for name, part in parts.items()}
    expected = {f"val/knn_top1/{name}": value for name, value in alone.items()}
    expected["val/knn_top1"] = sum(alone.values()) / 2
    assert metrics == pytest.approx(expected)


def test_a_part_that_a_limit_leaves_without_clips_is_left_out(build, mixed_parts):
    data = Mixture(mixed_parts(), layout="kinect20", validation="seen", batch_size=8)
    trainer = pl.Trainer(callbacks=[OnlineKNN()], limit_val_batches=1, **QUIET)
    both = {
        k: v for one in trainer.validate(build("as_cal", data.skeleton), data, verbose=False) for k, v in one.items()
    }
    assert both["val/knn_top1"] == both["val/knn_top1/ucla"]
    assert "val/knn_top1/people" not in both


@pytest.mark.linux("ddp_fork is reported to fail elsewhere")
def test_parts_are_judged_on_two_processes_as_on_one(build, mixed_parts):
    """One of them may hold no clip of a part."""
    found = []
    for devices in (1, 2):
        data = Mixture(mixed_parts(), layout="kinect20", validation="seen", batch_size=BATCH)
        options = {**QUIET, "devices": devices, "strategy": "ddp_fork" if devices > 1 else "auto"}
        trainer = pl.Trainer(callbacks=[OnlineKNN()], **options)
        metrics = trainer.validate(build("as_cal", data.skeleton), data, verbose=False)
        found.append({name: value for one in metrics for name, value in one.items()})
    assert len(found[0]) == 3
    assert found[1] == pytest.approx(found[0])


def test_a_checkpoint_may_watch_a_part(build, mixed_parts, tmp_path):
    data = Mixture(mixed_parts(), layout="kinect20", validation="seen", batch_size=BATCH)
    best = ModelCheckpoint(tmp_path, "best", monitor="val/knn_top1/people", mode="max")
    trainer = pl.Trainer(max_epochs=2, callbacks=[OnlineKNN(), best], **QUIET)
    trainer.fit(build("as_cal", data.skeleton), data)
    assert (tmp_path / "best.ckpt").is_file()
    assert 0 <= best.best_model_score <= 1


@pytest.mark.parametrize(("labelled", "spaces"), [(("ucla", "people"), 2), (("ucla",), 1)])
def test_a_test_of_a_part_is_that_of_the_part_alone(build, mixed_parts, labelled, spaces):
    """By kNN and by a probe, with more than one label space or one; the number of all clips is their mean."""
    data = Mixture(mixed_parts(only=(*labelled, "film")), layout="kinect20")
    assert len({part.labels for part in data.mixed.values() if part.labels}) == spaces
    metrics = judged(build, data, "test")
    total = 0.0
    for name, part in mixed_parts(only=labelled).items():
        alone = judged(build, part, "test")
        for kind in ("knn_top1", "knn_mean_class", "linear_top1", "linear_top5", "linear_mean_class"):
            assert metrics[f"test_{name}/{kind}"] == pytest.approx(alone[f"test/{kind}"]), (name, kind)
        total += len(part.parts["test"]) * alone["test/linear_top1"]
    assert metrics["test/linear_top1"] == pytest.approx(total / len(data.parts["test"]))
    assert "test_film/knn_top1" not in metrics
