"""Two processes with half the batch are one process with the whole: loss, gradient, queue, twin."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from skelcl.data import NWUCLA
from skelcl.encoders import LSTM
from skelcl.methods import ASCAL, STDCL
from skelcl.nn import gather
from skelcl.transforms import Normalize, Truncate, View

pytestmark = [
    pytest.mark.linux("ddp_fork is reported to fail elsewhere"),
    pytest.mark.filterwarnings("ignore:.*the features have collapsed"),  # eight fresh units hardly differ
]
EXPERIMENTS = Path(__file__).parents[1] / "experiments"


class Watch(Callback):
    """Checks in every process that all ranks hold the same state; rank 0 writes down what came of it."""

    def __init__(self, path):
        self.path, self.loss = path, []

    def on_train_batch_end(self, trainer, method, outputs, batch, batch_idx):
        losses = gather(outputs["loss"].reshape(1))
        self.loss.append(losses.mean().item())
        for name, value in method.state_dict().items():
            mine, *others = gather(value.reshape(1, -1).double())
            assert all(torch.equal(mine, other) for other in others), name

    def on_train_end(self, trainer, method):
        if trainer.is_global_zero:
            torch.save((method.state_dict(), self.loss), self.path)


def fit(root, devices, batch_size, path, layout=None, **options):
    torch.manual_seed(7)
    data = NWUCLA(root, batch_size=batch_size, num_workers=0, layout=layout)
    view = View(Truncate(8), Normalize("root"))
    method = ASCAL(LSTM(data.skeleton, hidden=8), view, view, queue_size=50, momentum=0.9, **options)
    strategy = "ddp_fork" if devices > 1 else "auto"
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy=strategy,
        max_epochs=4,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Watch(path)],
    )
    trainer.fit(method, data)
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mask_same_instance": True, "normalize": True, "projector": "linear"},
        {"layout": "h36m17"},
    ],
    ids=["default", "normalized", "adapted"],
)
def test_two_processes_equal_one(ucla, tmp_path, options):
    one, loss_one = fit(ucla, 1, 20, tmp_path / "one.pt", **options)
    two, loss_two = fit(ucla, 2, 10, tmp_path / "two.pt", **options)
    assert len(loss_one) == 12
    assert loss_two == pytest.approx(loss_one, rel=1e-5)
    assert torch.equal(one["queue.pushed"], two["queue.pushed"])
    assert torch.equal(one["queue.index"], two["queue.index"])
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-6, msg=name)


class WatchGradients(Watch):
    """The same for gradients as well, which are those of the whole batch on every rank."""

    def __init__(self, path):
        super().__init__(path)
        self.gradients, self.valid = [], []

    def on_train_epoch_end(self, trainer, method):
        self.valid.append(trainer.callback_metrics["train/temporal_valid"].item())

    def on_before_optimizer_step(self, trainer, method, optimizer):
        self.gradients.append({name: p.grad.clone() for name, p in method.named_parameters()})

    def on_train_end(self, trainer, method):
        if trainer.is_global_zero:
            torch.save((method.state_dict(), self.loss, self.gradients, self.valid), self.path)


@pytest.mark.parametrize("options", [{}, {"exclude_self": True, "w_spa": 0.0, "contrast_start_epoch": 1}])
def test_two_processes_with_banks_equal_one(ucla, tmp_path, map_encoder, options):
    """While the banks fill, the ranks hold different numbers of valid anchors."""
    found = []
    for devices, batch_size in ((1, 20), (2, 10)):
        torch.manual_seed(7)
        view = View(Truncate(8), Normalize("root"))
        options = {"dim": 6, "reduction": 4, "positives": 3, "negatives": 15, **options}
        method = STDCL(map_encoder(), view, view, 10, optimizer=partial(torch.optim.SGD, lr=0.5), **options)
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=devices,
            strategy="ddp_fork" if devices > 1 else "auto",
            max_epochs=3,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[WatchGradients(tmp_path / f"{devices}.pt")],
        )
        trainer.fit(method, NWUCLA(ucla, batch_size=batch_size))
        found.append(torch.load(tmp_path / f"{devices}.pt", weights_only=True))
    (one, loss_one, gradients_one, valid_one), (two, loss_two, gradients_two, valid_two) = found
    assert len(loss_one) == 9
    assert 0 < valid_one[0] < valid_one[2] == 1
    assert valid_two == pytest.approx(valid_one, rel=1e-6)
    assert loss_two == pytest.approx(loss_one, rel=1e-5)
    for a, b in zip(gradients_one, gradients_two, strict=True):
        for name, gradient in a.items():
            torch.testing.assert_close(b[name], gradient, rtol=1e-4, atol=1e-7, msg=name)
    assert one["banks.temporal.filled"].all()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.slow
def test_ddp_through_the_command_line(ucla, tmp_path):
    words = [
        "fit",
        "--config",
        EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml",
        f"--data.root={ucla}",
        "--trainer.max_epochs=2",
        "--trainer.strategy=ddp",
        "--trainer.devices=2",
        "--trainer.accelerator=cpu",
        "--model.encoder.hidden=8",
    ]
    subprocess.run([sys.executable, "-m", "skelcl", *words], check=True, cwd=tmp_path, env=os.environ, timeout=200)
    last = tmp_path / "runs/as_cal-nw_ucla/version_0/checkpoints/last.ckpt"
    content = torch.load(last, weights_only=True)
    assert content["state_dict"]["queue.pushed"] == 2 * 60
    subprocess.run([sys.executable, "-m", "skelcl", "test", "--ckpt_path", last], check=True, cwd=tmp_path, timeout=200)
