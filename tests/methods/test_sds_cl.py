"""The story of SDS-CL: nine contrasts of joints and motion, features without attention, resume, several processes."""

import math
from dataclasses import replace
from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from skelcl.clips import Clips
from skelcl.data import NWUCLA
from skelcl.encoders import DSTA
from skelcl.encoders.dsta import Squeezed
from skelcl.evaluation.frozen import random_twin, with_encoder
from skelcl.methods import SDSCL, FineTune
from skelcl.methods.sds_cl import PAIRS
from skelcl.nn import gather
from skelcl.skeleton import NTU25
from skelcl.transforms import EvenFrames, Normalize, RandomFrames, View

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
TERMS = [f"{loss}_{pair}" for loss in ("stl", "tsl") for pair in PAIRS] + ["gl"]
NARROW = ((16, 4, 1), (32, 4, 2), (32, 4, 2))


def batches(clips, size=32):
    return DataLoader([clips[i] for i in torch.arange(len(clips)).split(size)], batch_size=None)


@pytest.fixture
def build(map_encoder):
    """Builds a method on an encoder without batch norm; keyword arguments as those of the class."""

    def make(seed=3, random=True, frames=10, dropout=0.0, encoder=None, **options):
        torch.manual_seed(seed)
        sample = RandomFrames(frames, copies=None) if random else EvenFrames(frames, endpoint=False)
        eval_view = View(EvenFrames(frames, endpoint=False), Normalize("root"))
        encoder = encoder or map_encoder(dropout=dropout)
        return SDSCL(encoder, View(sample, Normalize("root")), eval_view, **options)

    return make


def people(n=4, frames=60, bodies=2, seed=0):
    """Clips of NTU's skeleton that swing smoothly, each its own way; body 1 is there where ``bodies`` is 2."""
    random = torch.Generator().manual_seed(seed)
    pose, swing, phase = torch.randn(3, n, bodies, 1, 25, 3, generator=random)
    t = torch.linspace(0, 6, frames)[:, None, None]
    joints = (pose + 0.3 * swing * torch.sin(t + phase)).flatten(0, 2)
    number = torch.arange(n)
    return Clips(joints, frames * bodies * number, 0 * number + frames, 0 * number + bodies, 0 * number, number, number,
                 NTU25, 2)  # fmt: skip


class Trace(Callback):
    """Remembers the loss of every step, and the gradients of the last one."""

    def __init__(self):
        self.loss, self.gradient = [], {}

    def on_before_optimizer_step(self, trainer, method, optimizer):
        self.gradient = {name: p.grad if p.grad is None else p.grad.clone() for name, p in method.named_parameters()}

    def on_train_batch_end(self, trainer, method, outputs, batch, batch_idx):
        self.loss.append(outputs["loss"].item())


def fit(method, clips, epochs, size=32, checkpoint=None, **options):
    trace = Trace()
    trainer = pl.Trainer(max_epochs=epochs, callbacks=[trace], **{**QUIET, **options})
    trainer.fit(method, batches(clips, size), ckpt_path=checkpoint)
    return trainer, trace


def slow_pair(a, b, temperature=0.07):
    """InfoNCE of two token lists (L, D), masks and targets written out."""
    z = F.normalize(torch.cat([a, b]), dim=1)
    logits = (z @ z.T / temperature).masked_fill(torch.eye(len(z), dtype=torch.bool), -math.inf)
    target = torch.arange(len(z)).roll(len(a))
    return F.cross_entropy(logits, target), (logits.argmax(1) == target).double().mean()


def slow_terms(squeezed, heads):
    """The nine terms, clip after clip."""
    terms, hits = {}, {"stl": [], "tsl": []}
    for loss, tokens in (("stl", squeezed.frames), ("tsl", squeezed.joints)):
        for i, mine in enumerate(("intra", "inter")):
            for j, other in enumerate(("intra", "inter")):
                pairs = [
                    slow_pair(heads.token(a), heads.token(b)) for a, b in zip(tokens[0, i], tokens[1, j], strict=True)
                ]
                terms[f"{loss}_{mine}_{other}"] = sum(value for value, _ in pairs) / len(pairs)
                hits[loss] += [hit for _, hit in pairs]
    terms["gl"], top1 = slow_pair(heads.clip(squeezed.clips[0]), heads.clip(squeezed.clips[1]))
    return terms, {**{loss: sum(some) / len(some) for loss, some in hits.items()}, "gl": top1}


def tokens(n=3, frames=6, joints=5, dim=8, requires_grad=False):
    shapes = (2, 2, n, joints, dim), (2, 2, n, frames, dim), (2, n, 4 * dim), (2, n, dim)
    return Squeezed(*(torch.randn(shape).requires_grad_(requires_grad) for shape in shapes))


def test_one_step_by_hand(build, toy):
    """Terms, loss, what is logged and the gradient step, compared with the same written out in plain PyTorch."""
    clips = toy(2)
    method, twin = (build(random=False, weights=(1.0, 2.0, 0.5)) for _ in range(2))
    twin.load_state_dict(method.state_dict())
    joint, motion = method.view.with_motion(clips)
    trainer, trace = fit(method, clips, 1)
    terms, top1 = slow_terms(twin.train().network(joint, motion), twin.heads)
    assert list(terms) == TERMS
    weight = {"stl": 1.0, "tsl": 2.0, "gl": 0.5}
    loss = sum(weight[name.split("_")[0]] * term for name, term in terms.items())
    metrics = trainer.callback_metrics
    for name, term in terms.items():
        assert metrics[f"train/{name}"].item() == pytest.approx(term.item(), rel=1e-5)
    for name, value in top1.items():
        assert metrics[f"train/{name}_top1"].item() == pytest.approx(value.item(), abs=1e-6)
    assert trace.loss == [pytest.approx(loss.item(), rel=1e-5)]
    assert metrics["train/loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    loss.backward()
    for name, parameter in twin.named_parameters():
        decay = 5e-4 * (name.endswith("weight") and "norms" not in name)
        # Nesterov's first step is 1 + m gradients long; the first epoch of warm-up runs at a fifth of the rate.
        stepped = parameter - 2e-4 * 1.9 * (parameter.grad + decay * parameter)
        torch.testing.assert_close(method.get_parameter(name), stepped, rtol=1e-5, atol=2e-7, msg=name)


def test_terms_equal_their_slow_twin(build):
    method, squeezed = build(), tokens()
    nn.init.normal_(method.heads.token[2].bias)  # no token is zero, which would be as near to one as to another
    slow, slow_top1 = slow_terms(squeezed, method.heads)
    terms, top1 = method.contrast(squeezed)
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {name: term.item() for name, term in slow.items()}, rel=1e-5
    )
    assert {name: value.item() for name, value in top1.items()} == pytest.approx(
        {name: value.item() for name, value in slow_top1.items()}, abs=1e-6
    )


def test_a_collapsed_network_and_one_that_codes_slots(build):
    """4 ln 49 + 4 ln 25 + ln 31; and the shortcut that leaves nothing but the loss of whole clips, ln 31."""
    method = build()
    method.heads.token, method.heads.clip = nn.Identity(), nn.Identity()
    joints, frames = torch.ones(2, 2, 16, 25, 32), torch.ones(2, 2, 16, 13, 32)
    flat = Squeezed(joints, frames, torch.ones(2, 16, 32), torch.ones(2, 16, 8))
    total = sum(term.item() for term in method.contrast(flat)[0].values())
    assert total == pytest.approx(31.876772, abs=1e-4)
    slots = flat._replace(joints=torch.eye(25, 32).expand_as(joints), frames=torch.eye(13, 32).expand_as(frames))
    terms, top1 = method.contrast(slots)
    assert sum(term.item() for term in terms.values()) == pytest.approx(3.434167, abs=1e-4)
    assert (top1["stl"], top1["tsl"]) == (1, 1)


def test_the_first_loss_of_the_network_lies_where_it_should(build):
    """Between the collapsed 31.9 less some luck, and what spread similarities over a small temperature give."""
    method = build(encoder=DSTA(blocks=NARROW), frames=50)
    _, trace = fit(method, people(), 1)
    assert 25 < trace.loss[0] < 80


def test_terms_without_other_clips_are_means_over_clips(build):
    method, squeezed = build(), tokens(4)
    whole, _ = method.contrast(squeezed)
    alone = []
    for n in range(4):
        joints, frames, clips, features = squeezed
        one = Squeezed(joints[:, :, [n]], frames[:, :, [n]], clips[:, [n]], features[:, [n]])
        alone.append(method.contrast(one)[0])
    for name in TERMS[:-1]:
        assert whole[name].item() == pytest.approx(sum(terms[name].item() for terms in alone) / 4, rel=1e-5)
    assert [terms["gl"].item() for terms in alone] == [0] * 4
    assert whole["gl"] > 0.1


def test_other_clips_are_negatives_where_asked(build):
    squeezed = tokens(3)
    within, batch = (build(negatives=negatives).contrast(squeezed)[0] for negatives in ("within", "within+batch"))
    everything = build(negatives="within+batch")
    for loss, list_of_tokens in (("stl", squeezed.frames), ("tsl", squeezed.joints)):
        a, b = everything.heads.token(list_of_tokens[:, 1])
        expected, _ = slow_pair(a.flatten(0, 1), b.flatten(0, 1))
        assert everything.contrast(squeezed)[0][f"{loss}_inter_inter"].item() == pytest.approx(
            expected.item(), rel=1e-5
        )
        assert all(batch[f"{loss}_{pair}"] > within[f"{loss}_{pair}"] for pair in PAIRS)
    assert batch["gl"] == within["gl"]


@pytest.mark.parametrize("options", [{}, {"share_query": True, "siia_joint_bn": True}, {"activation": "softmax"}])
def test_swapping_the_streams_leaves_the_loss_alone(build, toy, options):
    method, clips = build(**options), toy(2)
    joint, motion = method.view.with_motion(clips)
    with torch.no_grad():
        one, two = (method.contrast(method.network(*pair))[0] for pair in ((joint, motion), (motion, joint)))
    assert sum(two.values()).item() == pytest.approx(sum(one.values()).item(), rel=1e-5)
    assert two["stl_intra_inter"].item() == pytest.approx(one["stl_inter_intra"].item(), rel=1e-5)
    assert two["stl_intra_inter"].item() != pytest.approx(one["stl_intra_inter"].item(), rel=1e-4)


def test_every_part_gets_gradients(build, toy):
    _, trace = fit(build(), toy(2), 1)
    assert {name.split(".")[0] for name in trace.gradient} == {"encoder", "siia", "heads"}
    for name, gradient in trace.gradient.items():
        # Biases in front of a batch norm get none but rounding.
        assert gradient is not None, name
        assert gradient.abs().sum() > 0 or name == "siia.merges.0.bias", name


@pytest.mark.parametrize(
    ("weights", "reached"),
    [
        ((1, 1, 1), {"joints", "frames", "clips", "token", "clip"}),
        ((1, 0, 1), {"frames", "clips", "token", "clip"}),
        ((0, 1, 0), {"joints", "token"}),
        ((0, 0, 1), {"clips", "clip"}),
    ],
)
def test_each_loss_reaches_its_own_tokens_and_projection(build, toy, weights, reached):
    """The gradient of what a weight of zero switches off is zero rather than missing, which several processes need."""
    method, squeezed = build(weights=weights), tokens(requires_grad=True)
    method.contrast = lambda _: SDSCL.contrast(method, squeezed)
    method.log = method.log_dict = lambda *_, **__: None
    method._trainer = pl.Trainer(**QUIET)
    method.training_step(toy(1), 0)["loss"].backward()
    gradients = {name: getattr(squeezed, name).grad for name in ("joints", "frames", "clips")}
    gradients.update({name: getattr(method.heads, name)[0].weight.grad for name in ("token", "clip")})
    assert {name for name, gradient in gradients.items() if gradient.abs().sum() > 0} == reached
    assert squeezed.features.grad is None


def test_features_are_the_encoder_s_of_both_streams_and_take_no_attention(build, toy):
    clips, method = toy(1), build().eval()
    for part in (method.siia, method.heads.token, method.heads.clip):
        part.register_forward_pre_hook(lambda *_: pytest.fail("attention and projections serve training alone"))
    joint, motion = method.eval_view.with_motion(clips)
    features = method(clips)
    expected = torch.cat([method.encoder(joint), method.encoder(motion)], 1)
    torch.testing.assert_close(features, expected)
    assert features.shape == (8, 2 * method.encoder.dim)
    assert torch.equal(features, method.validation_step(clips, 0)["features"])


def test_the_random_encoder_is_judged_on_both_streams_too(build, toy):
    clips = toy(1)
    method = build(encoder=DSTA(clips.skeleton, 1, blocks=NARROW)).eval()
    twin = random_twin(method.encoder)
    joint, motion = method.eval_view.with_motion(clips)
    expected = torch.cat([twin(joint), twin(motion)], 1)
    torch.testing.assert_close(with_encoder(method, twin)(clips), expected, rtol=1e-3, atol=1e-4)
    assert method.encoder is not twin
    assert not torch.allclose(method(clips), expected, rtol=0.1)


def test_masked_bodies_are_as_if_they_had_no_place(build):
    """Someone alone, shown with an empty second place: only the plain mean knows that it was there."""
    clips = people(bodies=1)
    shown_alone = replace(clips, num_persons=1)
    for pool in ("mean", "masked"):
        torch.manual_seed(1)
        two, one = (build(encoder=DSTA(NTU25, m, blocks=NARROW), person_pool=pool).eval() for m in (2, 1))
        with torch.no_grad():
            # Statistics first: layers that normalise nothing would let this network explode.
            two.train().network(*two.view.with_motion(people(seed=1)))
            one.load_state_dict(two.eval().state_dict())
            pairs = [(two(clips), one(shown_alone))]
            parts = (
                method.network(*method.eval_view.with_motion(some))
                for method, some in ((two, clips), (one, shown_alone))
            )
            pairs += zip(*parts, strict=True)
        for both, alone in pairs:
            assert torch.allclose(both, alone, rtol=1e-4, atol=1e-5) == (pool == "masked")


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_views_are_made_as_asked(build, toy, monkeypatch, shared, masked):
    asked, original = [], View.with_motion

    def spy(view, clips, generator=None, *options):
        asked.append((view, *options))
        return original(view, clips, generator, *options)

    monkeypatch.setattr(View, "with_motion", spy)
    method = build(shared_time_indices=shared, masked_motion=masked)
    fit(method, toy(1), 1)
    method(toy(1))
    assert asked == [(method.view, shared, masked), (method.eval_view, shared, masked)]


def test_only_weights_of_layers_decay_unless_all_shall(build):
    method = build(encoder=DSTA(blocks=NARROW))
    decaying, others = method.configure_optimizers()["optimizer"].param_groups
    assert (decaying["weight_decay"], others["weight_decay"]) == (5e-4, 0.0)
    for group in (decaying, others):
        assert (group["momentum"], group["nesterov"]) == (0.9, True)
    names = {id(parameter): name for name, parameter in method.named_parameters()}
    spared = {names[id(parameter)] for parameter in others["params"]}
    assert {"encoder.blocks.0.joints.alpha", "encoder.blocks.0.joints.graph", "siia.norms.0.weight"} <= spared
    assert all(p.ndim in (2, 4) for p in decaying["params"])
    assert len(spared) + len(decaying["params"]) == len(names)
    assert {name for name in names.values() if name.startswith("heads") and name.endswith("weight")} & spared == set()
    (group,) = build(encoder=DSTA(blocks=NARROW), decay_all=True).configure_optimizers()["optimizer"].param_groups
    assert group["weight_decay"] == 5e-4
    assert len(group["params"]) == len(names)


def test_the_schedule_is_the_published_one(build):
    """Base 1e-3: epochs 0 to 4 warm up, 5 to 59 at the full rate, 60 to 69 at a tenth."""
    made = build().configure_optimizers()
    rates = []
    for _ in range(70):
        rates += made["lr_scheduler"].get_last_lr()[:1]
        made["optimizer"].step()
        made["lr_scheduler"].step()
    assert rates == pytest.approx([2e-4, 4e-4, 6e-4, 8e-4] + [1e-3] * 56 + [1e-4] * 10)


def test_defaults_are_the_published_ones(build):
    """Sizes as the authors' network: attention, projection of tokens and of clips."""
    view = View(EvenFrames(50))
    method = SDSCL(DSTA(), view, view)
    assert (method.temperature, method.weights, method.person_pool) == (0.07, {"stl": 1, "tsl": 1, "gl": 1}, "mean")
    assert sum(p.numel() for p in method.parameters()) == 7_486_400


def test_a_fixed_batch_is_learned_within_forty_steps(build, toy):
    optimizer = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
    _, trace = fit(build(random=False, optimizer=optimizer), toy(2), 40)
    assert trace.loss[-1] < 0.8 * trace.loss[0]


@pytest.mark.parametrize(("dropout", "shared"), [(0.0, True), (0.3, False)])
def test_resume_is_exact(build, toy, tmp_path, dropout, shared):
    """Bit by bit, random frames and dropout included."""
    clips = toy(5)
    straight, first, second = (build(seed, dropout=dropout, shared_time_indices=shared) for seed in (3, 3, 4))
    _, whole = fit(straight, clips, 4, size=20)
    trainer, start = fit(first, clips, 2, size=20)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    torch.manual_seed(99)
    _, rest = fit(second, clips, 4, size=20, checkpoint=tmp_path / "half.ckpt")
    assert start.loss + rest.loss == whole.loss
    state = second.state_dict()
    for name, value in straight.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize(
    ("precision", "accelerator"), [("bf16-mixed", "cpu"), pytest.param("bf16-mixed", "cuda", marks=pytest.mark.gpu)]
)
def test_mixed_precision_follows_float32(build, toy, precision, accelerator):
    clips = toy(4)
    _, exact = fit(build(), clips, 3)
    _, mixed = fit(build(), clips, 3, precision=precision, accelerator=accelerator, devices=1)
    assert torch.tensor(mixed.loss).isfinite().all()
    if accelerator == "cpu":  # other devices draw other frames
        assert mixed.loss == pytest.approx(exact.loss, rel=0.03)


def test_the_head_adds_the_logits_of_both_streams(build):
    method = build()
    head = method.head(7)
    nn.init.normal_(head.linear.bias)
    y = torch.randn(4, 2 * method.encoder.dim)
    joint, motion = y.chunk(2, 1)
    torch.testing.assert_close(head(torch.zeros_like(y)), 2 * head.linear.bias.expand(4, 7))
    torch.testing.assert_close(head(y), F.linear(joint + motion, head.linear.weight) + 2 * head.linear.bias)
    torch.testing.assert_close(head(torch.cat([motion, joint], 1)), head(y))
    assert sum(p.numel() for p in DSTA(NTU25).classifier(60).parameters()) == 15_420


def test_fine_tuning_classifies_both_streams_and_keeps_no_attention(build, toy):
    clips, method = toy(4), build(random=False)
    tuned = FineTune(method.encoder, method.view, method.eval_view, 8, method=SDSCL, optimizer=torch.optim.SGD)
    assert {name.split(".")[0] for name in tuned.state_dict()} == {"encoder", "classifier"}
    assert torch.equal(tuned(clips), method(clips))
    trainer, trace = fit(tuned, clips, 1)
    assert trainer.callback_metrics["train/loss"].isfinite()
    assert all(gradient.abs().sum() > 0 for gradient in trace.gradient.values())


class Watch(Callback):
    """Checks in every process that all ranks hold the same weights; rank 0 writes down what came of it."""

    def __init__(self, path):
        self.path, self.loss, self.gradient, self.terms = path, [], [], {}

    def on_before_optimizer_step(self, trainer, method, optimizer):
        self.gradient.append({name: p.grad.clone() for name, p in method.named_parameters()})

    def on_train_batch_end(self, trainer, method, outputs, batch, batch_idx):
        self.loss.append(gather(outputs["loss"].reshape(1)).mean().item())
        for name, value in method.state_dict().items():
            mine, *others = gather(value.reshape(1, -1).double())
            assert all(torch.equal(mine, other) for other in others), name

    def on_train_epoch_end(self, trainer, method):
        self.terms = {name: value.item() for name, value in trainer.callback_metrics.items() if "train/" in name}

    def on_train_end(self, trainer, method):
        if trainer.is_global_zero:
            torch.save((method.state_dict(), self.gradient, self.loss, self.terms), self.path)


@pytest.mark.linux("ddp_fork is reported to fail elsewhere")
@pytest.mark.parametrize("options", [{}, {"negatives": "within+batch", "share_streams": False}])
def test_two_processes_equal_one(build, ucla, tmp_path, options):
    """Loss, terms and gradients; the batch norms of the attention share statistics on accelerators only."""
    results = []
    for devices in (1, 2):
        method = build(random=False, frames=8, optimizer=partial(torch.optim.SGD, lr=0.05), **options)
        method.siia.norms = nn.ModuleList(nn.Identity() for _ in method.siia.norms)
        path = tmp_path / f"{devices}.pt"
        strategy = "ddp_fork" if devices > 1 else "auto"
        trainer = pl.Trainer(max_epochs=2, devices=devices, strategy=strategy, callbacks=[Watch(path)], **QUIET)
        trainer.fit(method, NWUCLA(ucla, batch_size=20 // devices, num_workers=0))
        results.append(torch.load(path, weights_only=True))
    (one, gradient_one, loss_one, terms_one), (two, gradient_two, loss_two, terms_two) = results
    assert len(loss_one) == 6
    assert loss_two == pytest.approx(loss_one, rel=1e-5)
    assert terms_two == pytest.approx(terms_one, rel=1e-4)
    assert set(terms_one) >= {f"train/{name}" for name in (*TERMS, "loss", "gl_top1", "stl_top1", "tsl_top1")}
    for a, b in zip(gradient_one, gradient_two, strict=True):
        for name, value in a.items():
            torch.testing.assert_close(b[name], value, rtol=1e-3, atol=1e-5, msg=name)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5, msg=name)
