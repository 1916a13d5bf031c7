"""What watches over a run: no loss that is not finite, no torn checkpoint, no folder of another run."""

import csv
import errno
import math
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import nn
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from skelcl.data import NWUCLA
from skelcl.data.datamodule import ShuffledBatches
from skelcl.encoders import HCN, STGCN
from skelcl.errors import InputError, OptionError
from skelcl.methods import ASCAL, SkeletonCLR, Supervised
from skelcl.runs import callbacks
from skelcl.runs.callbacks import AtomicCheckpointIO, FiniteLoss, forked_processes
from skelcl.transforms import Normalize, Resize, Truncate, View

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RUN = EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml"
LAST = Path("runs/as_cal-nw_ucla/version_0/checkpoints/last.ckpt")
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
SMALL = [
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--model.encoder.hidden=8",
    "--model.queue_size=32",
    "--data.batch_size=16",
]
VIEW = View(Truncate(8), Normalize("root"))


@pytest.fixture
def huge(ucla, tmp_path):
    """A copy of the miniature NW-UCLA in which the joints of a training clip lie at ± a given size."""

    def make(size):
        root = tmp_path / "stores"
        shutil.copytree(ucla, root)
        with np.load(root / "nw-ucla" / "index.npz") as index:
            row, names = int(index["row"][0]), index["id"].tolist()
        joints = np.load(root / "nw-ucla" / "joints.npy", mmap_mode="r+")
        joints[row : row + 6, ::2], joints[row : row + 6, 1::2] = size, -size
        joints.flush()
        return root, names[0]

    return make


METHODS = {
    "as_cal": lambda encoder: ASCAL(encoder, VIEW, VIEW, queue_size=32),
    "skeleton_clr": lambda encoder: SkeletonCLR(encoder, VIEW, VIEW, projection=4, queue_size=32),
    "supervised": lambda encoder: Supervised(encoder, VIEW, VIEW, 10),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [2e38, float(np.finfo(np.float32).max)])
def test_a_clip_of_a_coordinate_that_no_body_has_ends_the_run(huge, method, size):
    root, name = huge(size)
    data = NWUCLA(root, batch_size=20)
    trainer = pl.Trainer(**QUIET, max_epochs=4, enable_checkpointing=False, callbacks=[FiniteLoss()])
    with pytest.raises(InputError) as stop:
        trainer.fit(METHODS[method](STGCN(data.skeleton, 1, widths=(4, 4), strides=(1, 2))), data)
    told = str(stop.value)
    assert f"likely cause: coordinates up to {size:.3g} in {name}, which no body has" in told
    assert re.match(
        r"the loss is (nan|inf) at step [123] \(epoch 0, batch [012] of clips \S+, \S+, \S+ and 17 more\)", told
    )
    assert "\n" not in told


@pytest.mark.parametrize(
    ("encoder", "told"),
    [
        (lambda skeleton: STGCN(skeleton, 1, widths=(4, 4), strides=(1, 2)), "the weights are not finite after step 3"),
        (lambda skeleton: HCN(skeleton, hidden=8), "the loss is nan at step "),
    ],
    ids=["a batch norm remembers it", "a step before"],
)
def test_a_clip_that_spoils_the_weights_and_not_its_own_loss_is_named(huge, encoder, told):
    """1e30 squared is no float32: what a batch norm divides by is infinite, and the loss is finite."""
    root, name = huge(1e30)
    data = NWUCLA(root, batch_size=20)
    view = View(Resize(64), Normalize("root", scale="none"))
    trainer = pl.Trainer(**QUIET, max_epochs=2, enable_checkpointing=False, callbacks=[FiniteLoss()])
    with pytest.raises(InputError) as stop:
        trainer.fit(Supervised(encoder(data.skeleton), view, view, 10), data)
    assert str(stop.value).startswith(told)
    assert f"coordinates up to 1e+30 in {name}, which no body has" in str(stop.value)


class Line(pl.LightningModule):
    """Its loss is finite until a step of an epoch; the weight follows the loss."""

    def __init__(self, bad=math.inf, spoilt=math.inf, value=math.nan):
        super().__init__()
        self.weight, self.bad, self.spoilt, self.value = nn.Parameter(torch.ones(())), bad, spoilt, value
        self.temperature = 0.1

    def training_step(self, x, batch_idx):
        step = self.current_epoch * 10 + batch_idx
        if step >= self.spoilt:  # a loss that is finite and a gradient that is not
            return (self.weight - self.weight.detach()).abs().sqrt() + 1
        return self.weight * (self.value if step >= self.bad else 1.0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(module, folder, *callbacks, **options):
    saved = ModelCheckpoint(folder, "last", enable_version_counter=False, save_on_train_epoch_end=True)
    options = {"max_epochs": 5, **QUIET, **options}
    trainer = pl.Trainer(**options, callbacks=[saved, *callbacks], plugins=[AtomicCheckpointIO()])
    trainer.fit(module, torch.utils.data.DataLoader(torch.zeros(10, 1), batch_size=1))
    return trainer


IGNORED = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*smaller than the logging interval", "ignore:.*not empty"
)


@IGNORED
@pytest.mark.parametrize("accumulate", [1, 5])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_such_loss_ends_the_run_and_the_last_good_checkpoint_stays(tmp_path, value, accumulate):
    with pytest.raises(InputError) as stop:
        fit(Line(bad=24, value=value), tmp_path, FiniteLoss(), accumulate_grad_batches=accumulate)
    step = {1: 25, 5: 5}[accumulate]
    assert str(stop.value).startswith(f"the loss is {value:g} at step {step} (epoch 2, batch 4); likely cause: ")
    assert str(stop.value).endswith(f"the learning rate 0.01 is too large; kept as it was: {tmp_path}/last.ckpt")
    content = torch.load(tmp_path / "last.ckpt")
    assert (content["epoch"], content["global_step"]) == (1, 20 // accumulate)


@IGNORED
@pytest.mark.parametrize("weights_only", [False, True])
def test_weights_that_an_epoch_spoilt_are_not_saved_though_each_loss_was_finite(tmp_path, weights_only):
    saved = ModelCheckpoint(tmp_path / "each", save_top_k=-1, every_n_train_steps=5, save_weights_only=weights_only)
    with pytest.raises(InputError, match="the weights are not finite after step 30, though all losses were"):
        fit(Line(spoilt=29), tmp_path, saved, FiniteLoss())
    assert torch.load(tmp_path / "last.ckpt")["global_step"] == 20
    with pytest.raises(InputError, match=r"the weights are not finite after step 25"):
        fit(Line(spoilt=24), tmp_path, ModelCheckpoint(tmp_path / "some", every_n_train_steps=5), FiniteLoss())


class Device:
    """What is on a device that the tests do not have: a look at it is a wait, and is counted."""

    def __init__(self, monkeypatch):
        self.looks = 0
        monkeypatch.setattr(FiniteLoss, "_finish_check", self.counted(FiniteLoss._finish_check))

    def counted(self, answer):
        def count(guard, *rest):
            self.looks += guard._in_flight is not None
            return answer(guard, *rest)

        return count


@IGNORED
def test_other_processes_and_accelerators_are_asked_now_and_then_and_before_anything_is_saved(tmp_path, monkeypatch):
    """In place of an accelerator: the losses lie on a device whose name is another."""
    looks = Device(monkeypatch)
    monkeypatch.setattr("skelcl.runs.callbacks.needs_no_sync", lambda loss, trainer: False)
    trainer = fit(Line(), tmp_path, FiniteLoss(every=4))
    assert trainer.global_step == 50
    assert looks.looks == 5 * 3  # after 4 and 8 of 10 steps, and at the end of each epoch
    with pytest.raises(InputError, match=r"at step 25 \(epoch 2, batch 4\)"):
        fit(Line(bad=24), tmp_path, FiniteLoss(every=4))
    assert torch.load(tmp_path / "last.ckpt")["global_step"] == 20
    saved = ModelCheckpoint(tmp_path / "each", save_top_k=-1, every_n_train_steps=1)
    with pytest.raises(InputError, match=r"at step 22 \(epoch 2, batch 1\)"):
        fit(Line(bad=21), tmp_path, saved, FiniteLoss(every=100))
    assert len(list((tmp_path / "each").iterdir())) == 21


@IGNORED
def test_a_gradient_that_a_scaler_leaves_out_is_no_loss(tmp_path):
    """As GradScaler does on a GPU: the loss is finite, the gradient is not, the step is left out."""

    class Scaled(Line):
        def on_before_optimizer_step(self, optimizer):
            if not self.weight.grad.isfinite():
                self.weight.grad = None

    trainer = fit(Scaled(spoilt=24), tmp_path, FiniteLoss())
    assert trainer.global_step == 50


def cause(loss="nan", precision="32-true", temperature=0.1, **attributes):
    """What is suspected of a run that has nothing but these."""
    module = Line()
    module.temperature = temperature
    for name, value in attributes.items():
        setattr(module, name, value)
    trainer = SimpleNamespace(precision=precision, optimizers=[torch.optim.SGD(module.parameters(), lr=0.5)])
    return callbacks._cause(trainer, module, None, ())


def test_each_suspect_is_named():
    assert cause() == "the learning rate 0.5 is too large"
    assert cause(temperature=1e-40) == "temperature 1e-40 is too small"
    assert cause(key_temperature=0.0) == "key_temperature 0 is too small"
    assert cause(precision="16-mixed", temperature=0.0).startswith("16-mixed, which ends at 65504")


def test_through_the_command_line_it_is_one_line_and_code_1(skelcl, ucla, capfd):
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", "--config", RUN, f"--data.root={ucla}", *SMALL, "--model.optimizer.init_args.lr=1e30")
    assert stop.value.code == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("skelcl: error")]
    assert re.fullmatch(
        r"skelcl: error: the loss is nan at step \d+ \(epoch 1, batch \d of clips \S+, \S+, \S+ and 13 more\); "
        rf"likely cause: the learning rate 1e\+30 is too large; kept as it was: {LAST}",
        line,
    )
    assert torch.load(LAST)["epoch"] == 0


@pytest.mark.slow
def test_two_processes_end_together(ucla, tmp_path):
    words = ["fit", "--config", str(RUN), f"--data.root={ucla}", *SMALL, "--model.optimizer.init_args.lr=1e30"]
    words += ["--trainer.devices=2", "--trainer.strategy=ddp"]
    done = subprocess.run(
        [sys.executable, "-m", "skelcl", *words], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert "not finite" in line or "the loss is nan" in line
    assert torch.load(tmp_path / LAST)["epoch"] == 0


class Spoilt(Callback):
    """On the second process alone a step gives NaN."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_rank == 1 and trainer.global_step == 5:
            outputs["loss"].fill_(math.nan)


@pytest.mark.linux("ddp_fork is reported to fail elsewhere")
@pytest.mark.filterwarnings("ignore:.*the features have collapsed")
def test_a_loss_of_one_process_ends_all_and_the_clips_are_its_own(ucla, tmp_path, monkeypatch):
    def end(trainer, told):
        (tmp_path / str(trainer.global_rank)).write_text(told)
        raise SystemExit(1)

    monkeypatch.setattr("skelcl.runs.callbacks._abort", end)
    data = NWUCLA(ucla, batch_size=10)
    method = ASCAL(STGCN(data.skeleton, 1, widths=(4, 4), strides=(1, 2)), VIEW, VIEW, queue_size=32)
    options = {**QUIET, "max_epochs": 4, "enable_checkpointing": False, "devices": 2, "strategy": "ddp_fork"}
    with pytest.raises(ProcessExitedException):
        pl.Trainer(**options, callbacks=[Spoilt(), FiniteLoss()]).fit(method, data)
    told = [(tmp_path / str(rank)).read_text() for rank in (0, 1)]
    assert told[0] == told[1]
    order = ShuffledBatches(data.parts["train"], 10, 2, 1)
    order.set_epoch(1)
    names = ", ".join(data.ids[n] for n in list(order)[1][:3])
    assert told[0].startswith(f"the loss is nan at step 5 (epoch 1, batch 1 of clips {names} and 7 more); ")


class SpoiltByOne(Callback):
    """As a loss that contrasts the clips of all processes: NaN on all of them in the step in which one has a clip."""

    def __init__(self, when):
        self.when = when

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.when:
            outputs["loss"].fill_(math.nan)


@pytest.mark.linux("ddp_fork is reported to fail elsewhere")
@pytest.mark.filterwarnings("ignore:.*the features have collapsed")
def test_the_clip_that_spoils_the_losses_of_all_processes_is_named(huge):
    root, name = huge(1e8)
    data = NWUCLA(root, batch_size=10)
    position = data.ids.tolist().index(name)
    order = ShuffledBatches(data.parts["train"], 10, 2, 1)
    for epoch in range(9):
        order.set_epoch(epoch)
        if batches := [batch for batch, positions in enumerate(order) if position in positions]:
            break
    method = ASCAL(STGCN(data.skeleton, 1, widths=(4, 4), strides=(1, 2)), VIEW, VIEW, queue_size=32)
    options = {**QUIET, "max_epochs": 9, "enable_checkpointing": False, "devices": 2, "strategy": "ddp_fork"}
    spoilt = SpoiltByOne((epoch, batches[0]))
    with (
        pytest.raises(InputError, match=rf"cause: coordinates up to 1e\+08 in {name}, which no body has"),
        forked_processes(),
    ):
        pl.Trainer(**options, callbacks=[spoilt, FiniteLoss()]).fit(method, data)


def test_what_ended_a_forked_process_ends_the_run():
    traces = "\n\n-- Process 1 terminated with the following error:\nTraceback (most recent call last):\n  …\n"
    for kind, error in ((OptionError, "skelcl.errors.OptionError"), (InputError, "skelcl.data.store.StoreError")):
        with pytest.raises(InputError) as stop, forked_processes():
            raise ProcessRaisedException(f"{traces}{error}: a line: and more", 1, 2)
        assert (type(stop.value), str(stop.value)) == (kind, "a line: and more")
    with pytest.raises(ProcessRaisedException), forked_processes():
        raise ProcessRaisedException(f"{traces}ValueError: a bug", 1, 2)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    try:
        with pytest.raises(KeyboardInterrupt), forked_processes():
            raise ProcessExitedException("", 1, 2, exit_code=-2, signal_name="SIGINT")
    finally:
        signal.signal(signal.SIGINT, before)
    with pytest.raises(ProcessExitedException), forked_processes():
        raise ProcessExitedException("", 1, 2, exit_code=-9, signal_name="SIGKILL")


def test_a_checkpoint_takes_its_place_whole_and_nothing_lies_elsewhere(skelcl, ucla, monkeypatch, tmp_path):
    """The folder for temporary files may be another file system, full, or not there."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    words = ["fit", "--config", RUN, f"--data.root={ucla}", *SMALL]
    skelcl(*words, "--trainer.max_epochs=1")
    before = LAST.read_bytes()
    assert torch.load(LAST)["epoch"] == 0
    save = torch.save

    def half(content, file):
        save(content, file)
        file.truncate(file.tell() // 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        AtomicCheckpointIO().save_checkpoint({}, LAST)
    assert LAST.read_bytes() == before
    assert [path.name for path in LAST.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.filterwarnings("ignore:.*exists and is not empty")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_a_full_disk_is_told_with_the_file_and_leaves_the_good_one(skelcl, ucla, capfd):
    words = ["fit", "--config", RUN, f"--data.root={ucla}", *SMALL, "--trainer.max_epochs=1"]
    skelcl(*words)
    before = LAST.read_bytes()
    capfd.readouterr()
    LAST.with_name("last.part.ckpt").symlink_to("/dev/full")
    with pytest.raises(SystemExit) as stop:
        skelcl(*words, f"--checkpoint.dirpath={LAST.parent}")
    assert stop.value.code == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("skelcl: error")]
    assert "No space left on device" in line
    assert str(LAST) in line
    assert LAST.read_bytes() == before
    assert [path.name for path in LAST.parent.iterdir()] == ["last.ckpt"]


def test_a_disk_without_space_for_metrics_is_told_with_the_folder_of_the_run(skelcl, ucla, capfd, monkeypatch):
    def save(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lightning.pytorch.loggers.csv_logs.ExperimentWriter.save", save)
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", "--config", RUN, f"--data.root={ucla}", *SMALL, "--trainer.max_epochs=1")
    assert stop.value.code == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("skelcl: error")]
    assert line.endswith("No space left on device: 'runs/as_cal-nw_ucla/version_0'")


@pytest.mark.parametrize(("version", "later"), [("final", ["version_0", "final_1"]), ("4", ["version_5", "version_6"])])
def test_a_run_never_writes_into_the_folder_of_another(skelcl, ucla, capfd, version, later):
    words = ["--trainer.max_epochs=1", f"--trainer.logger.version={version}"]
    first = Path(f"runs/as_cal-nw_ucla/{version if version == 'final' else f'version_{version}'}")
    skelcl("fit", "--config", RUN, f"--data.root={ucla}", *SMALL, *words)
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    assert first / "metrics.csv" in before
    skelcl("validate", "--ckpt_path", first / "checkpoints" / "last.ckpt")
    skelcl("fit", "--ckpt_path", first / "checkpoints" / "last.ckpt", "--trainer.max_epochs=2")
    told = capfd.readouterr().out
    assert f"{first} belongs to another run; this one has {first.with_name(later[1])}\n" in told
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == before
    assert {path.name for path in first.parent.iterdir()} == {first.name, *later}
    with (first.with_name(later[1]) / "metrics.csv").open() as file:
        assert {row["epoch"] for row in csv.DictReader(file) if row["train/loss"]} == {"1"}
