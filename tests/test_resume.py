"""A resumed run sees and makes what an uninterrupted one does: workers, processes, and where an epoch was left."""

import multiprocessing
from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch.optim.lr_scheduler import MultiStepLR

from skelcl.data import NWUCLA
from skelcl.encoders import LSTM
from skelcl.methods import ASCAL
from skelcl.transforms import CropResize, Normalize, View

# A run here goes on without the callback that wrote its checkpoint.
pytestmark = pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create")
CLIPS, BATCH = 60, 16
STEPS = -(-CLIPS // BATCH)
EPOCHS = 3
PLACES = {"middle": 6, "last batch": 8, "end": 8}
"""Steps after which a run of three epochs of four is left: within the second, or behind it."""


class Watch(Callback):
    """Notes what each process sees, and what the first has learned in the end."""

    def __init__(self, path):
        self.path, self.seen, self.rates, self.losses = path, [], [], []

    def on_train_batch_start(self, trainer, method, batch, batch_idx):
        self.seen.append((trainer.current_epoch, batch_idx, batch.index.tolist()))
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer, method):
        self.losses.append(trainer.callback_metrics["train/loss"].item())

    def on_train_end(self, trainer, method):
        state = {"model": method.state_dict(), "optimizer": trainer.optimizers[0].state_dict()}
        torch.save(
            state | {"steps": trainer.global_step, "seen": self.seen, "rates": self.rates, "losses": self.losses},
            self.path.with_suffix(f".{trainer.global_rank}"),
        )


class SaveInTheEnd(Callback):
    """A checkpoint behind the last hook of an epoch, as ``trainer.save_checkpoint`` writes it after ``fit``."""

    def __init__(self, path):
        self.path = path

    def on_train_end(self, trainer, method):
        trainer.save_checkpoint(self.path)


def fit(root, path, workers=0, devices=1, checkpoint=None, ckpt_path=None, **options):
    """What the processes saw of a run, and its weights, queue and momenta."""
    torch.manual_seed(7)
    data = NWUCLA(root, batch_size=BATCH // devices, num_workers=workers)
    view = View(CropResize(8), Normalize("root"))
    method = ASCAL(
        LSTM(data.skeleton, hidden=8),
        view,
        view,
        scheduler=partial(MultiStepLR, milestones=[1, 2], gamma=0.5),
        queue_size=50,
        momentum=0.9,
        warmup_epochs=0,
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp_fork" if devices > 1 else "auto",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Watch(path), *([checkpoint] if checkpoint else [])],
        enable_checkpointing=isinstance(checkpoint, ModelCheckpoint),
        **({"max_epochs": EPOCHS} | options),
    )
    trainer.fit(method, data, ckpt_path=ckpt_path)
    return [torch.load(path.with_suffix(f".{rank}"), weights_only=True) for rank in range(devices)]


def assert_same(found, expected):
    torch.testing.assert_close(found["model"], expected["model"], rtol=0, atol=0)
    for name in ("state", "param_groups"):
        torch.testing.assert_close(found["optimizer"][name], expected["optimizer"][name], rtol=0, atol=0)


def resume(root, tmp_path, place, workers=0, devices=1, batches=None, **options):
    """Leave a run at a place and go on; both against a run of its own that nothing interrupts.

    ``place`` is one of ``PLACES`` or a number of steps, which are made in so many batches.
    """
    steps = PLACES.get(place, place)
    every = {"every_n_epochs": 2} if place == "end" else {"every_n_train_steps": steps}
    folder, name = tmp_path / "runs", "left-{step}"
    checkpoint = ModelCheckpoint(folder, name, save_top_k=-1, save_on_train_epoch_end=place == "end", **every)
    whole = fit(root, tmp_path / "whole", **options)
    split = fit(root, tmp_path / "split", workers, devices, checkpoint, **options)
    left = folder / f"left-step={steps}.ckpt"
    resumed = fit(root, tmp_path / "resumed", workers, devices, ckpt_path=left, **options)
    for before, after in zip(split, resumed, strict=True):
        assert after["seen"] == before["seen"][batches or steps :]
        assert after["rates"] == before["rates"][batches or steps :]
        assert_same(after, before)
    if devices == 1:
        assert split[0]["seen"] == whole[0]["seen"]
        assert_same(resumed[0], whole[0])
    return whole[0]


@pytest.mark.parametrize("place", PLACES)
def test_what_is_resumed_repeats_the_rest_of_a_run(ucla, tmp_path, place):
    whole = resume(ucla, tmp_path, place)
    resumed = torch.load(tmp_path / "resumed.0", weights_only=True)
    assert resumed["losses"][-1] == whole["losses"][-1]
    if place == "middle":  # the mean of the epoch is that of its rest
        assert resumed["losses"][-2] != whole["losses"][-2]
    batches = [(epoch, batch) for epoch in range(EPOCHS) for batch in range(STEPS)]
    assert [(epoch, batch) for epoch, batch, _ in whole["seen"]] == batches
    assert whole["rates"] == [0.01 * 0.5**epoch for epoch, _ in batches]


# Accumulated gradients, limits, and an end within an epoch


@pytest.mark.parametrize(
    ("options", "steps", "batches", "total"),
    [
        ({"accumulate_grad_batches": 2}, 3, 6, 6),
        ({"accumulate_grad_batches": 3}, 3, 7, 6),  # the last batch of an epoch makes a step of its own
        ({"limit_train_batches": 3}, 5, 5, 9),
        ({"limit_train_batches": 0.5}, 3, 3, 6),
        ({"max_epochs": -1, "max_steps": 10}, 6, 6, 10),
    ],
)
def test_options_that_change_an_epoch_change_nothing_of_that(ucla, tmp_path, options, steps, batches, total):
    whole = resume(ucla, tmp_path, steps, batches=batches, **options)
    seen = len(whole["seen"])
    per_epoch = options.get("limit_train_batches", 1.0)
    per_epoch = per_epoch if isinstance(per_epoch, int) else int(per_epoch * STEPS)
    assert whole["rates"] == [0.01 * 0.5 ** min(n // per_epoch, 2) for n in range(seen)]
    assert whole["model"]["queue.pushed"] == sum(len(clips) for _, _, clips in whole["seen"])
    assert whole["steps"] == total


@pytest.mark.parametrize(("first", "second"), [(4, 6), (4, 8), (3, 8), (6, 10)])
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_run_may_be_left_again(ucla, tmp_path, first, second):
    """Behind the last batch of an epoch or within one, and then at either place of the resumed run."""
    whole = fit(ucla, tmp_path / "whole")
    left, seen = None, []
    for name, stop in (("one", first), ("two", second), ("three", None)):
        every = {"every_n_train_steps": 1, "save_top_k": -1, "save_on_train_epoch_end": False}
        checkpoint = ModelCheckpoint(tmp_path / "runs", f"{name}-{{step}}", **every)
        (run,) = fit(ucla, tmp_path / f"{name}.pt", checkpoint=checkpoint, ckpt_path=left)
        seen += run["seen"][: stop and stop - len(seen)]
        left = tmp_path / "runs" / f"{name}-step={stop}.ckpt"
    assert seen == whole[0]["seen"]
    assert_same(run, whole[0])


@pytest.mark.parametrize("place", ["middle", "end"])
def test_workers_know_where_a_run_was_left(ucla, tmp_path, place):
    resume(ucla, tmp_path, place, workers=1)


@pytest.mark.slow
@pytest.mark.linux("ddp_fork is reported to fail elsewhere")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_each_kind_know_it(ucla, tmp_path, monkeypatch, place, devices, workers, method):
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(method, force=True)
    try:
        resume(ucla, tmp_path, place, workers, devices)
    finally:
        multiprocessing.set_start_method(before, force=True)


@pytest.mark.slow
@pytest.mark.linux("ddp_fork is reported to fail elsewhere")
@pytest.mark.parametrize("place", PLACES)
def test_two_processes_know_it_without_workers(ucla, tmp_path, place):
    resume(ucla, tmp_path, place, devices=2)


@pytest.mark.parametrize("how", ["max_steps", "max_epochs"])
@pytest.mark.parametrize("saved", ["at the end of the epoch", "after the run"])
@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}])
def test_a_run_that_ended_within_an_epoch_goes_on_there(ucla, tmp_path, how, saved, options):
    """Behind the second batch of the second epoch, for the rest of it and one more."""
    accumulated = options.get("accumulate_grad_batches", 1)
    length = {"max_epochs": -1, "max_steps": 12 // accumulated} if how == "max_steps" else {"max_epochs": EPOCHS}
    last = ModelCheckpoint(tmp_path / "runs", "last", save_on_train_epoch_end=True)
    checkpoint = last if saved == "at the end of the epoch" else SaveInTheEnd(tmp_path / "runs" / "last.ckpt")
    whole = fit(ucla, tmp_path / "whole", **length, **options)
    first = fit(ucla, tmp_path / "first", checkpoint=checkpoint, max_epochs=-1, max_steps=6 // accumulated, **options)
    rest = fit(ucla, tmp_path / "rest", ckpt_path=tmp_path / "runs" / "last.ckpt", **length, **options)
    for name in ("seen", "rates"):
        assert first[0][name] + rest[0][name] == whole[0][name]
    assert_same(rest[0], whole[0])
