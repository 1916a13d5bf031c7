"""A resumed run sees and makes what an uninterrupted one does: workers, processes, and where an epoch was left."""

import multiprocessing
import sys

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

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
        self.path, self.seen = path, []

    def on_train_batch_start(self, trainer, method, batch, batch_idx):
        self.seen.append((trainer.current_epoch, batch_idx, batch.index.tolist()))

    def on_train_end(self, trainer, method):
        state = {"seen": self.seen, "model": method.state_dict(), "optimizer": trainer.optimizers[0].state_dict()}
        torch.save(state, self.path.with_suffix(f".{trainer.global_rank}"))


def fit(root, path, workers=0, devices=1, checkpoint=None, ckpt_path=None, **options):
    """What the processes saw of a run, and its weights, queue and momenta."""
    torch.manual_seed(7)
    data = NWUCLA(root, batch_size=BATCH // devices, num_workers=workers)
    view = View(CropResize(8), Normalize("root"))
    method = ASCAL(LSTM(data.skeleton, hidden=8), view, view, queue_size=50, momentum=0.9, warmup_epochs=0)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp_fork" if devices > 1 else "auto",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Watch(path), *([checkpoint] if checkpoint else [])],
        enable_checkpointing=checkpoint is not None,
        **({"max_epochs": EPOCHS} | options),
    )
    trainer.fit(method, data, ckpt_path=ckpt_path)
    return [torch.load(path.with_suffix(f".{rank}"), weights_only=True) for rank in range(devices)]


def assert_same(found, expected):
    torch.testing.assert_close(found["model"], expected["model"], rtol=0, atol=0)
    for name in ("state", "param_groups"):
        torch.testing.assert_close(found["optimizer"][name], expected["optimizer"][name], rtol=0, atol=0)


def resume(root, tmp_path, place, workers=0, devices=1):
    """Leave a run at a place and go on; both against a run of its own that nothing interrupts."""
    every = {"every_n_epochs": 2} if place == "end" else {"every_n_train_steps": PLACES[place]}
    folder, name = tmp_path / "runs", "left-{step}"
    checkpoint = ModelCheckpoint(folder, name, save_top_k=-1, save_on_train_epoch_end=place == "end", **every)
    left = folder / f"left-step={PLACES[place]}.ckpt"
    whole = fit(root, tmp_path / "whole")
    split = fit(root, tmp_path / "split", workers, devices, checkpoint)
    resumed = fit(root, tmp_path / "resumed", workers, devices, ckpt_path=left)
    assert [(epoch, batch) for epoch, batch, _ in whole[0]["seen"]] == [
        (epoch, batch) for epoch in range(EPOCHS) for batch in range(STEPS)
    ]
    for before, after in zip(split, resumed, strict=True):
        assert after["seen"] == before["seen"][PLACES[place] :]
        assert_same(after, before)
    if devices == 1:
        assert split[0]["seen"] == whole[0]["seen"]
        assert_same(resumed[0], whole[0])


@pytest.mark.parametrize("place", PLACES)
def test_what_is_resumed_repeats_the_rest_of_a_run(ucla, tmp_path, place):
    resume(ucla, tmp_path, place)


@pytest.mark.parametrize("place", ["middle", "end"])
def test_workers_know_where_a_run_was_left(ucla, tmp_path, place):
    resume(ucla, tmp_path, place, workers=1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ddp_fork is reported to fail elsewhere")
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
@pytest.mark.skipif(sys.platform != "linux", reason="ddp_fork is reported to fail elsewhere")
@pytest.mark.parametrize("place", PLACES)
def test_two_processes_know_it_without_workers(ucla, tmp_path, place):
    resume(ucla, tmp_path, place, devices=2)
