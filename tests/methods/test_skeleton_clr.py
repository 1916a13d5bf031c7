"""The story of SkeletonCLR: two views, the twin, the queue, resume, several processes."""

import inspect
from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.nn import functional as F
from torch.utils.data import DataLoader

from skelcl.data import NWUCLA
from skelcl.encoders import STGCN
from skelcl.methods import SkeletonCLR
from skelcl.nn import gather
from skelcl.transforms import Normalize, ReflectCrop, Resize, Shear, Truncate, View

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
ROOT = Normalize("root")


def make(encoder, random=True, **options):
    """A method; whoever compares two seeds before the encoder is made."""
    view = View(ReflectCrop(12), ROOT, [Shear(0.5)]) if random else View(Truncate(12), ROOT)
    options = {"queue_size": 48, "momentum": 0.9, "projection": 6, **options}
    return SkeletonCLR(encoder, view, View(Resize(12) if random else Truncate(12), ROOT), **options)


class Trace(Callback):
    def __init__(self):
        self.loss = []

    def on_train_batch_end(self, trainer, method, outputs, batch, batch_idx):
        self.loss.append(outputs["loss"].item())


def fit(method, clips, epochs, checkpoint=None, **options):
    trace = Trace()
    batches = DataLoader([clips[i] for i in torch.arange(len(clips)).split(32)], batch_size=None)
    trainer = pl.Trainer(max_epochs=epochs, callbacks=[trace], **QUIET, **options)
    trainer.fit(method, batches, ckpt_path=checkpoint)
    return trainer, trace.loss


def test_defaults_are_the_published_ones(map_encoder):
    defaults = {name: p.default for name, p in inspect.signature(SkeletonCLR).parameters.items()}
    chosen = ("projection", "queue_size", "temperature", "momentum", "mask_same_instance")
    assert [defaults[name] for name in chosen] == [128, 32768, 0.07, 0.999, False]
    method = make(map_encoder())
    made = method.configure_optimizers()
    group, schedule = made["optimizer"].param_groups[0], made["lr_scheduler"]
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.1, 0.9, 1e-4, False)
    assert (dict(schedule.milestones), schedule.gamma) == ({250: 1}, 0.1)


@pytest.mark.parametrize("mask", [False, True])
def test_two_steps_by_hand(map_encoder, toy, mask):
    """Gradient step, then twin, then queue: compared with the same written out in plain PyTorch."""
    clips = toy(8)
    clips = clips[torch.cat([torch.arange(32), torch.arange(32)])]  # the second step meets its own keys
    method, network = (make(map_encoder(), random=False, mask_same_instance=mask) for _ in range(2))
    network.load_state_dict(method.state_dict())
    query, twin, queue = network.query, network.key.module, network.queue.keys.clone()
    torch.testing.assert_close(queue.norm(dim=1), torch.ones(48))
    _, losses = fit(method, clips, 1)
    velocity, owner = {}, torch.full((48,), -1)
    for step, loss in enumerate(losses):
        part = clips[torch.arange(32 * step, 32 * step + 32)]
        q = F.normalize(query(network.eval_view(part)), dim=1)
        with torch.no_grad():
            k = F.normalize(twin(network.eval_view(part)), dim=1)
        negative = q @ queue.T / 0.07
        if mask:
            negative[part.index[:, None] == owner] = -torch.inf
        logits = torch.cat([(q * k).sum(1, keepdim=True) / 0.07, negative], 1)
        expected = F.cross_entropy(logits, torch.zeros(32, dtype=torch.int64))
        assert loss == pytest.approx(expected.item(), rel=1e-5)
        gradients = torch.autograd.grad(expected, list(query.parameters()))
        with torch.no_grad():
            for p, slow, gradient in zip(query.parameters(), twin.parameters(), gradients, strict=True):
                velocity[p] = 0.9 * velocity.get(p, 0) + gradient + 1e-4 * p
                p -= 0.1 * velocity[p]
                slow.copy_(0.9 * slow + 0.1 * p)
        places = torch.arange(32 * step, 32 * step + 32) % 48
        queue[places], owner[places] = k, part.index
    for ours, plain in ((method.query, query), (method.key.module, twin)):
        for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(method.queue.keys, queue, rtol=1e-5, atol=1e-6)
    assert torch.equal(method.queue.index, owner)


def test_head_of_the_release_is_dropped_after_pretraining(map_encoder, toy):
    method = make(map_encoder(dim=64), random=False, projection=32)
    first, _, last = method.projector
    assert (first.weight.shape, last.weight.shape) == ((64, 64), (32, 64))
    assert first.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not first.bias.any()
    clips = toy(1)
    assert torch.equal(method(clips), method.encoder(method.eval_view(clips)))


def test_views_are_two_and_independent(map_encoder, toy):
    seen, method = [], make(map_encoder())
    method.view.register_forward_hook(lambda *args: seen.append(args[2].clone()))
    fit(method, toy(4), 2)
    assert len(seen) == 4
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


def test_resume_is_exact(toy, tmp_path):
    """Bit by bit, random views, dropout and batch statistics included."""
    clips = toy(8)

    def build(seed):
        torch.manual_seed(seed)
        return make(STGCN(clips.skeleton, 1, widths=(4, 8), strides=(1, 2), dropout=0.3))

    straight, first, second = build(3), build(3), build(4)
    _, whole = fit(straight, clips, 4)
    trainer, start = fit(first, clips, 2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    torch.manual_seed(99)
    _, rest = fit(second, clips, 4, checkpoint=tmp_path / "half.ckpt")
    assert start + rest == whole
    for name, value in straight.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_batch_statistics_of_the_twin_are_its_own(toy):
    clips = toy(4)
    method = make(STGCN(clips.skeleton, 1, widths=(4, 8), strides=(1, 2)))
    fit(method, clips, 2)
    ours, twin = method.encoder.data_bn, method.key.module[0].data_bn
    assert ours.num_batches_tracked == twin.num_batches_tracked == 2
    assert not torch.equal(ours.running_mean, twin.running_mean)


def test_a_fixed_batch_is_learned(toy):
    """The first keys are far from random ones; once the queue is full of real ones there is something to learn."""
    clips = toy(4)
    torch.manual_seed(0)
    encoder = STGCN(clips.skeleton, 1, widths=(8, 32), strides=(1, 2), dropout=0.0)
    adam = partial(torch.optim.AdamW, lr=0.003)
    options = {"queue_size": 64, "projection": 32, "optimizer": adam, "mask_same_instance": True}
    _, losses = fit(make(encoder, random=False, **options), clips, 40)
    assert losses[0] < 0.1
    assert max(losses) > 1.5
    assert losses[-1] < 0.5 * max(losses)


def test_mixed_precision_follows_float32(map_encoder, toy):
    clips = toy(8)
    method, other = make(map_encoder()), make(map_encoder())
    other.load_state_dict(method.state_dict())
    _, exact = fit(method, clips, 2)
    _, mixed = fit(other, clips, 2, precision="bf16-mixed")
    assert mixed == pytest.approx(exact, rel=0.02)


class Watch(Callback):
    """Checks in every process that all ranks hold the same state; rank 0 writes down what came of it."""

    def __init__(self, path):
        self.path, self.loss = path, []

    def on_train_batch_end(self, trainer, method, outputs, batch, batch_idx):
        self.loss.append(gather(outputs["loss"].reshape(1)).mean().item())
        for name, value in method.state_dict().items():
            mine, *others = gather(value.reshape(1, -1).double())
            assert all(torch.equal(mine, other) for other in others), name

    def on_train_end(self, trainer, method):
        if trainer.is_global_zero:
            torch.save((method.state_dict(), self.loss), self.path)


@pytest.mark.linux("ddp_fork is reported to fail elsewhere")
@pytest.mark.parametrize("options", [{}, {"mask_same_instance": True}])
def test_two_processes_equal_one(map_encoder, ucla, tmp_path, options):
    found = []
    for devices in (1, 2):
        torch.manual_seed(7)
        method = make(map_encoder(), random=False, **options)
        path = tmp_path / f"{devices}.pt"
        strategy = "ddp_fork" if devices > 1 else "auto"
        trainer = pl.Trainer(max_epochs=3, devices=devices, strategy=strategy, callbacks=[Watch(path)], **QUIET)
        trainer.fit(method, NWUCLA(ucla, batch_size=20 // devices))
        found.append(torch.load(path, weights_only=True))
    (one, loss_one), (two, loss_two) = found
    assert len(loss_one) == 9
    assert loss_two == pytest.approx(loss_one, rel=1e-5)
    assert torch.equal(one["queue.index"], two["queue.index"])
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6, msg=name)
