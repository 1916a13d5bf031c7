"""The story of AS-CAL: warm-up, queue, twin, schedule, resume, learning."""

from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.nn import functional as F
from torch.optim.lr_scheduler import MultiStepLR, OneCycleLR
from torch.utils.data import DataLoader

from skelcl.encoders import LSTM
from skelcl.evaluation import linear_probe
from skelcl.methods import ASCAL
from skelcl.transforms import Normalize, Reverse, Shear, Truncate, View


def batches(clips, size=32):
    return DataLoader([clips[i] for i in torch.arange(len(clips)).split(size)], batch_size=None)


def as_cal(skeleton, steps=True, hidden=32, encoder=LSTM, **options):
    sample, root = Truncate(20), Normalize("root")
    view = View(sample, root, [Reverse(), Shear()] if steps else [])
    options = {"queue_size": 64, "momentum": 0.99, **options}
    return ASCAL(encoder(skeleton, hidden=hidden), view, View(sample, root), **options)


class Trace(Callback):
    """Remembers the loss and the learning rate of every step and the state after every epoch."""

    def __init__(self):
        self.loss, self.lr, self.states = [], [], []

    def on_train_batch_end(self, trainer, method, outputs, batch, batch_idx):
        self.loss.append(outputs["loss"].item())

    def on_train_batch_start(self, trainer, method, batch, batch_idx):
        self.lr.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer, method):
        self.states.append({name: value.clone() for name, value in method.state_dict().items()})


def fit(method, clips, epochs, size=32, checkpoint=None, **options):
    trace = Trace()
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(max_epochs=epochs, callbacks=[trace], **{"accelerator": "cpu", **quiet, **options})
    trainer.fit(method, batches(clips, size), ckpt_path=checkpoint)
    return trainer, trace


def test_first_epoch_only_fills_the_queue(toy):
    clips = toy(10)
    method = as_cal(clips.skeleton)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    _, trace = fit(method, clips, 2)
    warm, after = trace.states
    for name, value in before.items():
        unchanged = torch.equal(value, warm[name])
        assert unchanged == (not name.startswith("queue.")), name
    assert (warm["queue.keys"] != before["queue.keys"]).all()
    assert warm["queue.pushed"] == 80
    assert not torch.equal(after["encoder.lstm.weight_hh_l0"], warm["encoder.lstm.weight_hh_l0"])
    assert not torch.equal(after["key.module.0.lstm.weight_hh_l0"], warm["key.module.0.lstm.weight_hh_l0"])


def test_logits_see_the_queue_of_the_step_before(toy):
    clips = toy(4)
    method = as_cal(clips.skeleton, steps=False, queue_size=96, warmup_epochs=9)
    initial = method.queue.keys.clone()
    _, trace = fit(method, clips, 2)
    z = method(clips)
    queue = torch.cat([z, initial[32:]])  # batch 1 pushed its 32 keys to the front; weights never moved
    for loss, negatives in zip(trace.loss, (initial, queue), strict=True):
        logits = torch.cat([(z * z).sum(1, keepdim=True), z @ negatives.T], 1) / 0.06
        expected = torch.nn.functional.cross_entropy(logits, torch.zeros(32, dtype=torch.int64))
        assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_one_step_by_hand(toy):
    """Gradient step, then twin, then queue: compared with the same written out in plain PyTorch."""
    clips = toy(4)
    method = as_cal(clips.skeleton, steps=False, warmup_epochs=0)
    encoder = LSTM(clips.skeleton, hidden=32)
    encoder.load_state_dict(method.encoder.state_dict())
    twin = {name: value.clone() for name, value in encoder.state_dict().items()}
    queue = method.queue.keys.clone()
    fit(method, clips, 1)
    z = encoder(method.eval_view(clips))
    logits = torch.cat([(z * z.detach()).sum(1, keepdim=True), z @ queue.T], 1) / 0.06
    torch.nn.functional.cross_entropy(logits, torch.zeros(32, dtype=torch.int64)).backward()
    for name, parameter in encoder.named_parameters():
        stepped = parameter - 0.01 * (parameter.grad + 1e-4 * parameter)
        torch.testing.assert_close(method.encoder.get_parameter(name), stepped, rtol=1e-5, atol=1e-7)
        followed = 0.99 * twin[name] + 0.01 * stepped
        torch.testing.assert_close(method.key.module[0].get_parameter(name), followed, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(method.queue.keys[:32], z.detach(), rtol=1e-5, atol=1e-6)


def test_partial_batches_enqueue_their_true_size(toy):
    clips = toy(5)
    method = as_cal(clips.skeleton, queue_size=64)
    fit(method, clips, 3, size=33)  # 33 + 7 a pass
    assert method.queue.pushed == 120
    assert method.queue.pointer == 120 % 64


def test_a_batch_of_one_trains(toy):
    clips = toy(1)
    _, trace = fit(as_cal(clips.skeleton), clips, 2, size=1)
    assert torch.tensor(trace.loss).isfinite().all()


def test_views_of_query_and_key_are_independent_and_differ_by_epoch(toy):
    clips = toy(4)
    seen = []
    method = as_cal(clips.skeleton)
    method.view.register_forward_hook(lambda *args: seen.append(args[2].clone()))
    fit(method, clips, 2)
    assert len(seen) == 4
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"projector": "mlp"},
        {"normalize": True},
        {"mask_same_instance": True},
        {"loss": "margin"},
        {"loss": "logistic"},
    ],
)
def test_every_trainable_weight_gets_gradient_and_no_other(toy, options):
    clips = toy(4)
    method = as_cal(clips.skeleton, warmup_epochs=0, **options)
    gradients = {}

    def remember(optimizer):
        gradients.update({name: p.grad for name, p in method.named_parameters()})

    method.on_before_optimizer_step = remember
    fit(method, clips, 1)
    for name, gradient in gradients.items():
        if name.startswith("key."):
            assert gradient is None
        else:
            assert gradient.abs().sum() > 0, name


def test_mask_hides_the_clip_from_itself(toy):
    """One clip alone, whose queue holds nothing but its own earlier keys: no negative is left, the loss is zero."""
    clips = toy(1)[torch.tensor([0])]
    method = as_cal(clips.skeleton, queue_size=1, mask_same_instance=True)
    _, trace = fit(method, clips, 3, size=1)
    assert trace.loss[0] > 0
    assert trace.loss[1:] == [0, 0]


def schedule(milestones, gamma, lr, epochs):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler, rates = MultiStepLR(optimizer, milestones, gamma), {}
    for epoch in range(1, epochs + 1):
        rates[epoch] = optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()
    return rates


def test_schedule_of_pretraining(toy):
    clips = toy(1)
    _, trace = fit(as_cal(clips.skeleton, hidden=4), clips, 60)
    assert [trace.lr[epoch - 1] for epoch in (1, 30, 31, 60)] == pytest.approx([0.01, 0.01, 0.001, 0.001])


def test_schedule_of_supervised_training_in_the_paper():
    """The milestones of MultiStepLR mean what the paper's mean: 30 acts from epoch 31 on, counted from 1."""
    rates = schedule([30, 40], 0.5, 0.01, 60)
    assert [rates[epoch] for epoch in (30, 31, 40, 41)] == pytest.approx([0.01, 0.005, 0.005, 0.0025])


@pytest.mark.parametrize("earlier", [None, partial(OneCycleLR, max_lr=0.1, total_steps=9)])
def test_a_resumed_run_may_have_another_schedule(toy, tmp_path, earlier):
    """Its own, as if it had had it from the start: at 0.01 until a milestone that is past."""
    clips = toy(4)
    first, second = as_cal(clips.skeleton), as_cal(clips.skeleton, scheduler=partial(MultiStepLR, milestones=[1, 3]))
    first.make_scheduler = earlier
    trainer, _ = fit(first, clips, 2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    _, trace = fit(second, clips, 5, checkpoint=tmp_path / "half.ckpt")
    assert trace.lr == pytest.approx([1e-3, 1e-4, 1e-4])


def test_a_resumed_run_may_have_no_schedule(toy, tmp_path):
    clips = toy(4)
    first, second = (as_cal(clips.skeleton, scheduler=partial(MultiStepLR, milestones=[1])) for _ in range(2))
    trainer, _ = fit(first, clips, 2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    second.make_scheduler = None
    _, trace = fit(second, clips, 3, checkpoint=tmp_path / "half.ckpt")
    assert trace.lr == [0.01]


class Forgetful(LSTM):
    """An LSTM whose features are dropped out, as those of other encoders are."""

    def forward(self, x):
        return F.dropout(super().forward(x), 0.3, self.training)


@pytest.mark.parametrize("encoder", [LSTM, Forgetful])
def test_resume_is_exact(toy, tmp_path, encoder):
    clips = toy(10)
    torch.manual_seed(3)
    straight = as_cal(clips.skeleton, encoder=encoder)
    torch.manual_seed(3)
    first = as_cal(clips.skeleton, encoder=encoder)
    torch.manual_seed(4)
    second = as_cal(clips.skeleton, encoder=encoder)
    _, whole = fit(straight, clips, 4)
    trainer, start = fit(first, clips, 2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    torch.manual_seed(99)
    _, rest = fit(second, clips, 4, checkpoint=tmp_path / "half.ckpt")
    assert start.loss + rest.loss == whole.loss
    assert start.lr + rest.lr == whole.lr
    for name, value in straight.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.mark.parametrize(
    ("precision", "accelerator"),
    [("bf16-mixed", "cpu"), *(pytest.param(p, "cuda", marks=pytest.mark.gpu) for p in ("bf16-mixed", "16-mixed"))],
)
def test_mixed_precision_follows_float32(toy, precision, accelerator):
    clips = toy(10)
    torch.manual_seed(3)
    _, exact = fit(as_cal(clips.skeleton), clips, 6)
    torch.manual_seed(3)
    method = as_cal(clips.skeleton)
    _, mixed = fit(method, clips, 6, precision=precision, accelerator=accelerator, devices=1)
    assert torch.tensor(mixed.loss).isfinite().all()
    if accelerator == "cpu":  # other devices draw other views
        assert mixed.loss == pytest.approx(exact.loss, rel=0.02)
    assert {value.dtype for value in method.state_dict().values() if value.is_floating_point()} == {torch.float32}


def test_collapse_is_told(toy):
    clips = toy(4)
    method = as_cal(clips.skeleton, steps=False, normalize=True)
    for parameter in method.encoder.parameters():
        torch.nn.init.constant_(parameter, 0.01)
    method.key.module[0].load_state_dict(method.encoder.state_dict())
    with torch.no_grad():
        method.queue.keys.copy_(torch.nn.functional.normalize(method(clips)[:1], dim=1).expand(64, -1))
    with pytest.warns(UserWarning, match="collapsed"):
        fit(method, clips, 1)


@pytest.mark.slow
def test_as_cal_learns_what_a_random_encoder_does_not_know(toy):
    """Three seeds, 1 + 30 epochs: the loss falls clearly below chance and the probe clearly above a random encoder."""
    losses, learned, untrained = [], [], []

    def probe(method, clips, held_out):
        with torch.no_grad():
            features = [(method(part), part.label) for part in (clips, held_out)]
        return linear_probe(*features, num_classes=8).last

    for seed in range(3):
        clips, held_out = toy(64, seed=0, pose=seed), toy(32, seed=1, pose=seed)
        torch.manual_seed(seed)
        method = as_cal(clips.skeleton, scheduler=partial(MultiStepLR, milestones=[1000]))
        untrained.append(probe(method, clips, held_out))
        _, trace = fit(method, clips, 31)
        losses.append(sum(trace.loss[-16:]) / 16)
        learned.append(probe(method, clips, held_out))
    assert sum(losses) / 3 < 4.0
    assert sum(learned) / 3 >= sum(untrained) / 3 + 0.15
