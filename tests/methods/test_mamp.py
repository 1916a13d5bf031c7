"""The story of MAMP: what is hidden, what is predicted, what counts, resume, several processes."""

import inspect
import math
from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from einops import rearrange
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader

from skelcl.data import NWUCLA
from skelcl.encoders import ViT
from skelcl.errors import OptionError
from skelcl.methods import MAMP, WarmupCosineLR
from skelcl.methods.mamp import hiding_order, intensity, motion
from skelcl.nn import gather
from skelcl.skeleton import NTU25
from skelcl.transforms import CropResize, Normalize, Resize, Shear, Truncate, View

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
ROOT = Normalize("root")


def make(skeleton=NTU25, frames=16, kind=MAMP, view=None, persons=2, encoder=None, **options):
    """A narrow one."""
    sizes = {"dim": 16, "depth": 2, "heads": 2, "mlp_ratio": 2, **(encoder or {})}
    network = ViT(skeleton, persons, num_frames=frames, **sizes)
    options = {"decoder_dim": 8, "decoder_depth": 1, "mask_ratio": 0.8, **options}
    return kind(network, view or View(CropResize(frames, min_frames=8)), View(Resize(frames)), **options)


def published(**options):
    """Of the published length, as narrow as can be."""
    return make(frames=120, mask_ratio=0.9, encoder={"dim": 8, "depth": 1}, **options)


def silent(method):
    """The method, predicting zero."""
    nn.init.zeros_(method.decoder.predict.weight)
    nn.init.zeros_(method.decoder.predict.bias)
    return method


def loss_of(method, x, seed=0):
    with torch.no_grad():
        return method.masked_loss(x, method.order(x, torch.Generator().manual_seed(seed))).item()


def test_defaults_are_the_published_ones():
    defaults = {name: p.default for name, p in inspect.signature(MAMP).parameters.items()}
    chosen = ("decoder_dim", "decoder_depth", "mask_ratio", "motion_stride", "tau", "target", "normalize_target")
    assert [defaults[name] for name in chosen] == [256, 3, 0.9, 1, 0.8, "motion", True]
    method = make()
    made = method.configure_optimizers()
    decaying, others = made["optimizer"].param_groups
    assert [(g["initial_lr"], g["betas"], g["weight_decay"]) for g in (decaying, others)] == [
        (1e-3, (0.9, 0.95), 0.05),
        (1e-3, (0.9, 0.95), 0.0),
    ]
    assert all(p.ndim > 1 for p in decaying["params"]), "positions and the mask token decay"
    assert all(p.ndim == 1 for p in others["params"])
    schedule = made["lr_scheduler"]["scheduler"]
    assert isinstance(schedule, WarmupCosineLR)
    assert (schedule.epochs, schedule.warmup_epochs, schedule.smallest) == (400, 20, 0.5)
    assert made["lr_scheduler"]["interval"] == "step"


@pytest.mark.parametrize(
    ("frames", "ratio", "seen"), [(120, 0.9, 74), (120, 0.8, 149), (120, 0.75, 187), (24, 0.8, 29), (96, 0.9, 59)]
)
def test_as_many_are_seen_as_released(frames, ratio, seen):
    method = make(frames=frames, mask_ratio=ratio, encoder={"dim": 2, "depth": 1, "heads": 1})
    assert method.visible == seen
    order = method.order(torch.randn(2, 3, frames, 25, 2))
    assert torch.equal(order.sort(1).values, torch.arange(frames // 4 * 25).expand(4, -1))


class Chance:
    """Shares of two kinds of tokens that are seen, when 74 are drawn."""

    def __init__(self, tau, still, moving):
        ratio = math.exp(1 / tau)
        low, high = 0.0, 10.0
        for _ in range(80):
            t = (low + high) / 2
            low, high = (t, high) if moving * math.exp(-ratio * t) + still * math.exp(-t) > 74 else (low, t)
        self.still, self.moving = math.exp(-t), math.exp(-ratio * t)


@pytest.mark.parametrize(("tau", "still", "moving"), [(0.8, 0.1871, 0.0029), (0.75, 0.1881, 0.0018)])
def test_what_moves_is_hidden(tau, still, moving):
    """12 of 25 joints move alike, all the time."""
    chance = Chance(tau, 390, 360)
    assert (chance.still, chance.moving) == (pytest.approx(still, abs=6e-5), pytest.approx(moving, abs=6e-5))
    intensities = torch.zeros(512, 30, 25)
    intensities[:, :, :12] = 1
    order = hiding_order(intensities.flatten(1), torch.rand(512, 750), tau)
    seen = torch.zeros(512, 750).scatter(1, order[:, :74], 1).view(512, 30, 25)
    assert seen[..., 12:].mean().item() == pytest.approx(still, abs=0.002)
    assert seen[..., :12].mean().item() == pytest.approx(moving, abs=0.001)


@pytest.mark.parametrize(("tau", "x"), [(0.8, 0.0), (0.0, 1.0)])
def test_what_stands_still_is_hidden_like_all_else_and_so_is_all_at_tau_zero(tau, x):
    moving = x * torch.rand(512, 750)
    order = hiding_order(moving, torch.rand(512, 750), tau)
    seen = torch.zeros(512, 750).scatter(1, order[:, :74], 1).mean(0)
    assert seen.std().item() == pytest.approx(0.0132, rel=0.1)
    assert (seen - 74 / 750).abs().max() < 0.06


def test_the_mask_knows_no_place_and_no_scale(double):
    method = published()
    x = torch.randn(2, 3, 120, 25, 2)
    orders = [method.order(y, torch.Generator().manual_seed(3)) for y in (x, x + 5.0, 7 * x)]
    assert all(torch.equal(orders[0], order) for order in orders[1:])


def test_intensity_by_hand():
    x = torch.randn(1, 3, 12, 25, 1)
    method = make(frames=12, persons=1)
    found = intensity(method.patches(x), method.encoder.grid).view(3, 25)
    for t in range(3):
        for v in range(25):
            one = max(t, 1)
            now, before = x[0, :, 4 * one : 4 * one + 4, v, 0], x[0, :, 4 * one - 4 : 4 * one, v, 0]
            assert found[t, v].item() == pytest.approx((now - before).abs().mean().item(), rel=1e-5)


def test_a_joint_that_jitters_alone_need_not_hide_how_the_others_move():
    moving = torch.linspace(0, 1, 100).repeat(4000, 1)
    moving[:, -1] = 1000.0
    uniform = torch.rand(moving.shape)
    share = {}
    for quantile in (1.0, 0.9):
        order = hiding_order(moving, uniform, 0.8, quantile)
        seen = torch.zeros_like(moving).scatter(1, order[:, :20], 1).mean(0)
        share[quantile] = (seen[:20].mean() / seen[60:80].mean()).item()
    assert share[1.0] == pytest.approx(1, abs=0.1)
    assert share[0.9] > 2


def test_targets_by_hand(double):
    method = make(frames=12, persons=1, motion_stride=2)
    x = torch.randn(1, 3, 12, 25, 1)
    targets = method.targets(x).view(3, 25, 4, 3)
    for t in range(3):
        for v in range(25):
            rows = []
            for frame in range(4 * t, 4 * t + 4):
                later = x[0, :, frame + 2, v, 0] - x[0, :, frame, v, 0] if frame + 2 < 12 else torch.zeros(3)
                rows.append(later)
            rows = torch.stack(rows)
            expected = (rows - rows.mean()) / (rows.var() + 1e-6).sqrt()
            torch.testing.assert_close(targets[t, v], expected)


def test_linear_motion_repeats_and_place_and_size_play_no_role(double):
    method = make(persons=1)
    t = torch.arange(16.0)[:, None, None]
    x = (torch.tensor([1.0, 2.0, 4.0])[:, None, None, None] * t).expand(3, 16, 25, 1)[None]
    targets = method.targets(x).view(4, 25, 4, 3)[:3]
    torch.testing.assert_close(targets, targets[:1, :1, :1].expand_as(targets))
    y = torch.randn(1, 3, 16, 25, 1)
    for other in (y + 3.0, 1e4 * y):
        torch.testing.assert_close(method.targets(other), method.targets(y), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_the_loss_of_who_predicts_nothing(spread):
    """11/12 · v/(v + 1e-6) for each token, of motion variance v."""
    method, x = silent(published()), spread * torch.randn(16, 3, 120, 25, 2)
    alone = x.clone()
    alone[..., 1] = 0
    expected = {1.0: 11 / 12, 1e-3: 0.592}[spread]
    # The last of four frames of a 30th of the tokens stands still, which takes nothing off the first.
    assert loss_of(method, x) == pytest.approx(expected, abs=2e-3)
    assert loss_of(method, alone) == pytest.approx(loss_of(method, x) / 2, rel=0.01)
    assert loss_of(method, torch.ones_like(x)) == 0


def test_the_loss_by_hand(double):
    """In loops over sequences and hidden tokens."""
    method, x = make(), torch.randn(2, 3, 16, 25, 2)
    order = method.order(x, torch.Generator().manual_seed(0))
    targets, encoder, decoder = method.targets(x), method.encoder, method.decoder
    errors = []
    for body in range(4):
        one = x[body // 2, ..., body % 2]
        patches = rearrange(one, "c (t u) v -> (t v) (c u)", u=4)
        place = encoder.positions.frame + encoder.positions.joint
        tokens = patches @ encoder.embed.weight.flatten(1).T + encoder.embed.bias + place.flatten(0, 1)
        seen = order[body, : method.visible]
        latent = encoder.norm(encoder.blocks[1](encoder.blocks[0](tokens[seen][None])))[0]
        whole = decoder.mask_token[0].expand(100, -1).clone()
        whole[seen] = decoder.embed(latent)
        whole = whole + (decoder.positions.frame + decoder.positions.joint).flatten(0, 1)
        predicted = decoder.predict(decoder.norm(decoder.blocks[0](whole[None])))[0]
        for token in order[body, method.visible :]:
            errors.append(((predicted[token] - targets[body, token]) ** 2).mean())
    torch.testing.assert_close(method.masked_loss(x, order), torch.stack(errors).mean())


def test_no_gradient_reaches_what_is_hidden():
    method, x = make(), torch.randn(2, 3, 16, 25, 2, requires_grad=True)
    order = method.order(x.detach())
    bodies = rearrange(x, "n c t v m -> (n m) c t v")
    method.predict(bodies, order[:, : method.visible]).sum().backward()
    reached = method.patches(x.grad).abs().sum(-1) > 0
    assert torch.equal(reached, torch.zeros(4, 100).scatter(1, order[:, : method.visible], 1) > 0)


def test_who_is_absent_counts_only_as_released():
    """With skip_absent the loss is that of the bodies that are there, and only these are encoded."""
    x = torch.randn(4, 3, 16, 25, 2)
    x[:2, ..., 1] = 0
    x[3, ..., 0] = 0
    method, other = make(), make(skip_absent=True)
    other.load_state_dict(method.state_dict())
    order = method.order(x, torch.Generator().manual_seed(0))
    present = x.flatten(1, 3).any(1).flatten()
    seen = []
    other.encoder.norm.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    bodies = rearrange(x, "n c t v m -> (n m) 1 c t v 1").squeeze(1)
    expected = method.masked_loss(bodies[present], order[present])
    torch.testing.assert_close(other.masked_loss(x, order), expected)
    assert seen == [5]
    assert abs(method.masked_loss(x, order).item() - expected.item()) > 1e-3
    assert loss_of(other, torch.zeros_like(x)) >= 0, "a clip without anybody is seen whole"


@pytest.mark.parametrize(("stride", "last"), [(1, 25), (4, 25), (5, 50)])
def test_what_runs_over_the_end_can_be_left_out(double, stride, last):
    method, x = make(motion_stride=stride, skip_last=True), torch.randn(2, 3, 16, 25, 2)
    order = method.order(x)
    seen = order[:, : method.visible]
    bodies = rearrange(x, "n c t v m -> (n m) c t v")
    error = (method.predict(bodies, seen) - method.targets(x)).square().mean(-1)
    hidden = torch.ones(4, 100).scatter(1, seen, 0)[:, :-last] > 0
    torch.testing.assert_close(method.masked_loss(x, order), error[:, :-last][hidden].mean())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"mask_ratio": 0.999}, "mask_ratio=0.999 hides 100 of 100 tokens"),
        ({"motion_stride": 16}, "too short for motion_stride=16"),
        ({"frames": 4}, "too short for motion_stride=1 and tau=0.8"),
        ({"decoder_dim": 9}, "width 9 cannot have 2 heads"),
        ({"mask_ratio": 1.0}, "mask_ratio must be in"),
        ({"tau": -1}, "tau must be at least 0"),
    ],
)
def test_what_cannot_work(options, told):
    with pytest.raises(OptionError, match=told.replace("(", r"\(")):
        make(**options)


# --- runs ------------------------------------------------------------------------------------------------------------


class Trace(Callback):
    def __init__(self):
        self.loss, self.rate = [], []

    def on_train_batch_start(self, trainer, method, batch, batch_idx):
        self.rate.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, method, outputs, batch, batch_idx):
        self.loss.append(outputs["loss"].item())


ADAM = partial(torch.optim.AdamW, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05)
LATER = partial(WarmupCosineLR, epochs=6)
SOON = partial(WarmupCosineLR, epochs=6, warmup_epochs=2, min_lr=1e-4)


def fit(method, clips, epochs, checkpoint=None, **options):
    trace = Trace()
    batches = DataLoader([clips[i] for i in torch.arange(len(clips)).split(16)], batch_size=None)
    trainer = pl.Trainer(max_epochs=epochs, callbacks=[trace], **QUIET, **options)
    trainer.fit(method, batches, ckpt_path=checkpoint)
    return trainer, trace


def toy_method(clips, **options):
    view = View(CropResize(16, min_frames=8), ROOT, [Shear(0.5)])
    return make(clips.skeleton, persons=1, view=view, **{"optimizer": ADAM, "scheduler": SOON, **options})


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_rate_follows_every_step(toy, accumulate):
    clips = toy(8)
    _, trace = fit(toy_method(clips), clips, 6, accumulate_grad_batches=accumulate)
    steps = -(-4 // accumulate)
    place = {1: [0, 1, 2, 3], 3: [0, 0, 0, 1]}[accumulate]
    for batch, rate in enumerate(trace.rate):
        e = batch // 4 + place[batch % 4] / steps
        expected = e / 2 if e < 2 else 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (e - 2) / 4))
        assert rate == pytest.approx(1e-3 * expected, rel=1e-6), batch


@pytest.mark.parametrize("skip", [False, True])
def test_resume_is_exact(toy, tmp_path, skip):
    """Bit by bit: views, masks, dropped paths and rates; in the warm-up and behind it."""
    clips = toy(8)

    def build(seed):
        torch.manual_seed(seed)
        return toy_method(clips, skip_absent=skip, encoder={"drop_path": 0.3})

    straight, first, second = build(3), build(3), build(4)
    _, whole = fit(straight, clips, 5)
    trainer, start = fit(first, clips, 3 if skip else 1)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    torch.manual_seed(99)
    _, rest = fit(second, clips, 5, checkpoint=tmp_path / "half.ckpt")
    assert start.loss + rest.loss == whole.loss
    assert start.rate + rest.rate == whole.rate
    for name, value in straight.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_run_that_stopped_within_an_epoch_goes_on_there(ucla, tmp_path):
    """Same clips, same rates: 15 steps in an epoch, stopped after 7."""
    found = []
    for stops in ([12], [7, 12]):
        torch.manual_seed(5)
        path, trace = None, Trace()
        for stop in stops:
            data = NWUCLA(ucla, batch_size=4)
            data.setup("fit")
            view = View(CropResize(16, min_frames=8), ROOT)
            method = make(data.skeleton, persons=1, view=view, optimizer=ADAM, scheduler=SOON)
            trainer = pl.Trainer(max_epochs=6, max_steps=stop, callbacks=[trace], **QUIET)
            trainer.fit(method, data, ckpt_path=path)
            path = tmp_path / f"{stop}.ckpt"
            trainer.save_checkpoint(path)
        found.append((trace.loss, trace.rate, method.state_dict()))
    (loss, rate, one), (loss_two, rate_two, two) = found
    assert rate[1] == pytest.approx(1e-3 / 30)
    assert (loss, rate) == (loss_two, rate_two)
    assert all(torch.equal(two[name], value) for name, value in one.items())


def test_a_fixed_batch_is_learned(toy):
    clips = toy(2)
    flat = partial(torch.optim.AdamW, lr=3e-3)
    constant = partial(torch.optim.lr_scheduler.MultiStepLR, milestones=[1000])
    method = toy_method(clips, optimizer=flat, scheduler=constant, encoder={"dim": 32}, decoder_dim=32)
    method.view = method.eval_view
    _, trace = fit(method, clips, 60)
    assert sum(trace.loss[-5:]) / 5 < 0.6 * trace.loss[0]


@pytest.mark.slow
def test_500_steps_in_bfloat16_are_finite(toy):
    clips = toy(8)
    _, trace = fit(
        toy_method(clips, scheduler=partial(WarmupCosineLR, epochs=125, warmup_epochs=5)),
        clips,
        125,
        precision="bf16-mixed",
    )
    assert len(trace.loss) == 500
    assert torch.tensor(trace.loss).isfinite().all()
    assert sum(trace.loss[-50:]) < sum(trace.loss[:50])


def test_mixed_precision_follows_float32(toy):
    clips = toy(8)
    method, other = toy_method(clips), toy_method(clips)
    other.load_state_dict(method.state_dict())
    _, exact = fit(method, clips, 2)
    _, mixed = fit(other, clips, 2, precision="bf16-mixed")
    assert mixed.loss == pytest.approx(exact.loss, rel=0.02)


class Steady(MAMP):
    """Masks, and in some clips a second person, that a clip has whichever process sees it."""

    def masked_loss(self, x, order):
        both = (1e3 * x.abs().mean((1, 2, 3, 4), keepdim=True)) % 1 > 0.5
        assert both.unique().numel() == 2
        x = torch.cat([x[..., :1], x[..., :1] * both], -1)
        return super().masked_loss(x, order)

    def order(self, x, random=None):
        moving = intensity(self.patches(x), self.encoder.grid)
        return hiding_order(moving, (1e3 * moving) % 1, self.tau)


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
@pytest.mark.parametrize("skip", [False, True])
def test_two_processes_equal_one(ucla, tmp_path, skip):
    """Where absent bodies are left out, ranks count different numbers of tokens."""
    found = []
    for devices in (1, 2):
        data = NWUCLA(ucla, batch_size=20 // devices, num_persons=2)
        data.setup("fit")
        torch.manual_seed(7)
        view = View(Truncate(16), ROOT)
        # Not Adam, which makes a step of the rounding that is all the gradient that biases of keys have.
        options = {"optimizer": partial(torch.optim.SGD, lr=0.1), "scheduler": LATER, "skip_absent": skip}
        method = make(data.skeleton, kind=Steady, view=view, **options)
        path = tmp_path / f"{devices}.pt"
        strategy = "ddp_fork" if devices > 1 else "auto"
        trainer = pl.Trainer(max_epochs=3, devices=devices, strategy=strategy, callbacks=[Watch(path)], **QUIET)
        trainer.fit(method, data)
        found.append(torch.load(path, weights_only=True))
    (one, loss_one), (two, loss_two) = found
    assert len(loss_one) == 9
    assert loss_two == pytest.approx(loss_one, rel=1e-5)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_motion_is_zero_at_the_end():
    x = torch.randn(2, 3, 8, 5, 1)
    moved = motion(x, 3)
    torch.testing.assert_close(moved[:, :, :5], x[:, :, 3:] - x[:, :, :5])
    assert not moved[:, :, 5:].any()
