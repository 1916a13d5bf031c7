"""The story of SCD-Net: four contrasts across levels, three queues, the twin, resume, several processes."""

import math
import zlib
from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.nn import functional as F
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils.data import DataLoader

from skelcl import losses
from skelcl.data import NWUCLA
from skelcl.encoders import SCD
from skelcl.interop import scd_net as interop
from skelcl.methods import SCDNet
from skelcl.methods.scd_net import LEVELS, TERMS
from skelcl.nn import gather
from skelcl.skeleton import NTU25
from skelcl.transforms import CropResize, CubeMask, Flip, Normalize, Rotate, Shear, StructureMask, Truncate, View

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def steps():
    return [Rotate(30.0, 1.0, probability=0.5), Shear(probability=0.5), Flip(), StructureMask(), CubeMask()]


def batches(clips, size=32):
    return DataLoader([clips[i] for i in torch.arange(len(clips)).split(size)], batch_size=None)


@pytest.fixture
def build(map_encoder):
    """Builds a method on an encoder without batch norm; keyword arguments as those of the class."""

    def make(skeleton, seed=3, random=True, dropout=0.0, frames=20, extractor=None, **options):
        torch.manual_seed(seed)
        sample = CropResize(frames, (0.5, 1.0), 4) if random else Truncate(frames)
        view = View(sample, Normalize("root"), steps() if random else [])
        extractor = extractor or (lambda skeleton, persons, channels: map_encoder(channels))
        encoder = SCD(skeleton, 1, 3, frames, extractor, dim=8, heads=2, dropout=dropout)
        options = {"queue_size": 48, "momentum": 0.9, "projection": 6, **options}
        return SCDNet(encoder, view, View(Truncate(frames), Normalize("root")), **options)

    return make


class Trace(Callback):
    """Remembers the loss and the learning rate of every step, and the gradients of the last one."""

    def __init__(self):
        self.loss, self.lr, self.gradient = [], [], {}

    def on_train_batch_start(self, trainer, method, batch, batch_idx):
        self.lr.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_before_optimizer_step(self, trainer, method, optimizer):
        self.gradient = {name: p.grad if p.grad is None else p.grad.clone() for name, p in method.named_parameters()}

    def on_train_batch_end(self, trainer, method, outputs, batch, batch_idx):
        self.loss.append(outputs["loss"].item())


def fit(method, clips, epochs, size=32, checkpoint=None, **options):
    trace = Trace()
    trainer = pl.Trainer(max_epochs=epochs, callbacks=[trace], **{**QUIET, **options})
    trainer.fit(method, batches(clips, size), ckpt_path=checkpoint)
    return trainer, trace


def unit(x):
    return F.normalize(x, dim=1)


def slow_loss(query, key, queues, temperature):
    """The four terms in float64, pair after pair, softmax written out. Arguments: levels t, s, i."""
    terms = []
    for asks, answers in ((0, 2), (1, 2), (2, 0), (2, 1)):
        total = 0.0
        for q, k in zip(query[asks].double(), key[answers].double(), strict=True):
            positive = math.exp(float(q @ k) / temperature)
            total -= math.log(
                positive / (positive + sum(math.exp(float(q @ n) / temperature) for n in queues[answers]))
            )
        terms.append(total / len(query[0]))
    return terms


def test_numbers_of_the_published_network(build):
    """The four terms, their logits and the queue after a step in float64, from weights that follow from their names."""

    def phase(name):
        return 2 * math.pi * (zlib.crc32(name.encode()) % 1000) / 1000

    def weight(key, shape):
        n = math.prod(shape)
        s = torch.sin(0.7 * torch.arange(n, dtype=torch.float64) + phase(key)).reshape(shape)
        if key.endswith("num_batches_tracked"):
            return torch.zeros(shape, dtype=torch.int64)
        if key.endswith(("running_var", "running_mean")):
            return 0.1 * s + key.endswith("running_var")
        if key.endswith("alpha"):
            return torch.full_like(s, 0.5)
        if len(shape) == 1:
            return key.endswith("weight") + 0.1 * s
        return s * math.sqrt(2 * shape[0] / n)

    encoder = SCD(NTU25, num_frames=64, dim=16, heads=2, dropout=0.0)
    view = View(Truncate(64))
    method = SCDNet(encoder, view, view, projection=4, queue_size=8).double()
    _, layout = interop.build(NTU25, 60, 64, 2, dim=16, heads=2, projection=4)
    weights = {key: weight(key, shape) for key, shape in layout.shapes(method.query).items()}
    # The published network keeps its graphs in single precision, where the twin's first step, of equal weights, rounds.
    graphs = {key: value.float() for key, value in weights.items() if key.endswith("PA")}
    layout.load(method.query, weights | {key: graph.double() for key, graph in graphs.items()})
    rounded = {key: (graph * 0.999 + graph * (1 - 0.999)).double() for key, graph in graphs.items()}
    layout.load(method.key.module, weights | rounded)
    for level, name in zip(LEVELS, ("t_queue", "s_queue", "i_queue"), strict=True):
        columns = torch.sin(0.3 * torch.arange(32, dtype=torch.float64) + phase(name)).view(4, 8)
        method.queue(level).keys.copy_(unit(columns.T))
    j = torch.arange(2 * 3 * 64 * 25 * 2, dtype=torch.float64)
    x = torch.sin(0.01 * j).view(2, 3, 64, 25, 2), torch.cos(0.013 * j).view(2, 3, 64, 25, 2)
    query, key = method.levels(method.query(x[0])), method.levels(method.key(x[1]))
    logits = method.contrast(query, key, torch.arange(2))
    positive, negative = logits["temporal_anchor"]
    expected = [0.9496117201, 0.4288492976, -0.1206619171, -0.6663156194]
    expected += [-1.1714469509, -1.5898397040, -1.8688301247, -1.9647885967]
    assert positive[0].item() == pytest.approx(4.6260986136, abs=1e-8)
    assert negative[0].tolist() == pytest.approx(expected, abs=1e-8)
    terms = [losses.info_nce(*logits[name]).item() for name in TERMS]
    assert terms == pytest.approx(
        [0.3047490473789751, 3.769793679364938, 0.12240867561372942, 4.728743591599077], abs=1e-8
    )
    assert sum(terms) == pytest.approx(8.92569499395672, abs=1e-8)
    method.enqueue(key, torch.arange(2))
    queue = method.queue("temporal")
    assert queue.pointer == 2
    column = [-0.2650081349049484, -0.6221216914, -0.1532538820, 0.7205890210]
    assert queue.keys[0].tolist() == pytest.approx(column, abs=1e-8)


@pytest.mark.parametrize(
    ("positive", "term"), [(0.0, math.log(8193)), (1.0, math.log1p(8192 * math.exp(-5)))], ids=["equal", "found"]
)
def test_closed_forms(build, toy, positive, term):
    """All similarities 0 is chance, 9.01103541; positives 1 and negatives 0 give 4.02886803."""
    method = build(toy(1).skeleton, queue_size=8192)
    for level in LEVELS:
        method.queue(level).keys.copy_(torch.eye(6)[[0]].expand(8192, -1))
    query = dict.fromkeys(LEVELS, torch.eye(6)[[1, 2, 3]])
    key = dict.fromkeys(LEVELS, torch.eye(6)[[1, 2, 3] if positive else [4, 4, 4]])
    terms = [losses.info_nce(*logits).item() for logits in method.contrast(query, key, torch.arange(3)).values()]
    assert terms == pytest.approx([term] * 4, rel=1e-6)
    assert term == pytest.approx(4.02886803 if positive else 9.01103541, abs=1e-8)


def test_terms_equal_their_slow_twin_whatever_the_order_of_the_queue(build, toy):
    method = build(toy(1).skeleton)
    query, key = ({level: unit(torch.randn(5, 6)) for level in LEVELS} for _ in range(2))
    queues = [method.queue(level).keys.clone() for level in LEVELS]

    def terms():
        return [losses.info_nce(*logits).item() for logits in method.contrast(query, key, torch.arange(5)).values()]

    slow = slow_loss(list(query.values()), list(key.values()), [queue.double() for queue in queues], 0.2)
    assert terms() == pytest.approx(slow, rel=1e-5)
    for level, queue in zip(LEVELS, queues, strict=True):
        method.queue(level).keys.copy_(queue[torch.randperm(48)])
    assert terms() == pytest.approx(slow, rel=1e-5)


def test_negatives_of_the_batch_equal_their_slow_twin(build, toy):
    """Every query against the keys of other clips in its batch, pair after pair; the third and the fifth are of one."""
    method = build(toy(1).skeleton, negatives="batch")
    index = torch.tensor([7, 3, 5, 9, 5])
    query, key = ({level: unit(torch.randn(5, 6)) for level in LEVELS} for _ in range(2))
    logits = method.contrast(query, key, index)
    for name, (asks, answers) in TERMS.items():
        q, k = query[asks].double(), key[answers].double()
        slow = []
        for i in range(5):
            others = [float(q[i] @ k[j]) / 0.2 for j in range(5) if index[j] != index[i]]
            own = float(q[i] @ k[i]) / 0.2
            slow.append(math.log(math.exp(own) + sum(math.exp(other) for other in others)) - own)
        assert losses.info_nce(*logits[name]).item() == pytest.approx(sum(slow) / 5, rel=1e-5)
    assert not len(method.queues)


def test_negatives_of_the_batch_take_one_step_by_hand(build, toy):
    """The gradient is that of the cross-entropy of similarities against the position in the batch, keys held fixed."""
    clips = toy(4)
    method = build(clips.skeleton, random=False, negatives="batch")
    network = build(clips.skeleton, random=False).query
    network.load_state_dict(method.query.state_dict())
    levels = [unit(z) for z in network(method.eval_view(clips))[2:]]
    trainer, trace = fit(method, clips, 1)
    loss = sum(
        F.cross_entropy(levels[asks] @ levels[answers].detach().T / 0.2, torch.arange(32))
        for asks, answers in ((0, 2), (1, 2), (2, 0), (2, 1))
    )
    assert trace.loss == [pytest.approx(loss.item(), rel=1e-5)]
    assert "train/queue_filled" not in trainer.callback_metrics
    loss.backward()
    for name, parameter in network.named_parameters():
        stepped = parameter - 0.01 * (parameter.grad + 1e-4 * parameter)
        torch.testing.assert_close(method.query.get_parameter(name), stepped, rtol=1e-4, atol=1e-6)


def test_one_step_by_hand(build, toy):
    """Loss, gradient step, twin and queues, compared with the same written out in plain PyTorch."""
    clips = toy(4)
    method = build(clips.skeleton, random=False, weights=(1.0, 2.0, 0.5, 3.0))
    network = build(clips.skeleton, random=False).query
    network.load_state_dict(method.query.state_dict())
    before = {name: value.clone() for name, value in network.named_parameters()}
    queues = [method.queue(level).keys.clone() for level in LEVELS]
    assert all(queue.norm(dim=1).tolist() == pytest.approx([1] * 48) for queue in queues)
    x = method.eval_view(clips)
    trainer, trace = fit(method, clips, 1)
    levels = [unit(z) for z in network(x)[2:]]
    expected = 0.0
    for weight, (asks, answers) in zip((1.0, 2.0, 0.5, 3.0), ((0, 2), (1, 2), (2, 0), (2, 1)), strict=True):
        q, k = levels[asks], levels[answers].detach()
        logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queues[answers].T], 1) / 0.2
        term = F.cross_entropy(logits, torch.zeros(32, dtype=torch.int64))
        name = f"{LEVELS[asks]}_{LEVELS[answers]}"
        assert trainer.callback_metrics[f"train/{name}"].item() == pytest.approx(term.item(), rel=1e-5)
        top1 = (logits.argmax(1) == 0).float().mean().item()
        assert trainer.callback_metrics[f"train/{name}_top1"].item() == pytest.approx(top1)
        expected = expected + weight * term
    assert trace.loss == [pytest.approx(expected.item(), rel=1e-5)]
    assert trainer.callback_metrics["train/loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()
    for name, parameter in network.named_parameters():
        stepped = parameter - 0.01 * (parameter.grad + 1e-4 * parameter)
        torch.testing.assert_close(method.query.get_parameter(name), stepped, rtol=1e-4, atol=1e-6)
        followed = 0.9 * before[name] + 0.1 * stepped
        torch.testing.assert_close(method.key.module.get_parameter(name), followed, rtol=1e-4, atol=1e-6)
    for level, keys, queue in zip(LEVELS, levels, queues, strict=True):
        torch.testing.assert_close(method.queue(level).keys[:32], keys.detach(), rtol=1e-5, atol=1e-6)
        assert torch.equal(method.queue(level).keys[32:], queue[32:])
        assert method.queue(level).pointer == 32


def test_only_the_query_network_gets_gradients(build, toy):
    clips = toy(4)
    method = build(clips.skeleton)
    _, trace = fit(method, clips, 1)
    assert {name.split(".")[0] for name in trace.gradient} == {"encoder", "heads", "key"}
    for name, gradient in trace.gradient.items():
        if name.startswith("key."):
            assert gradient is None, name
        else:
            assert gradient.abs().sum() > 0, name
    trained = {id(p) for group in method.trainer.optimizers[0].param_groups for p in group["params"]}
    assert trained == {id(p) for p in method.query.parameters()}


def test_views_are_two_and_independent(build, toy):
    clips, seen = toy(4), []
    method = build(clips.skeleton)
    method.view.register_forward_hook(lambda *args: seen.extend(args[2].clone().chunk(2)))
    fit(method, clips, 2)
    assert len(seen) == 4
    assert all(not torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


def test_a_batch_need_not_divide_the_queue(build, toy):
    clips = toy(5)
    method = build(clips.skeleton, queue_size=48)
    fit(method, clips, 3, size=33)  # 33 + 7 a pass
    assert all(method.queue(level).pushed == 120 for level in LEVELS)


def test_the_pointer_is_back_after_as_many_batches_as_the_queue_holds(build, toy):
    clips = toy(1)
    method = build(clips.skeleton, queue_size=64)
    queue = method.queue("anchor")
    fit(method, clips, 7, size=8)
    assert queue.pointer == 56
    fit(method, clips, 1, size=8)
    assert queue.pointer == 0


def test_the_twin_after_a_thousand_steps(build, toy):
    """θ_k = 0, θ_q = 1, m = 0.999: 1 − 0.999^n."""
    method = build(toy(1).skeleton, momentum=0.999).double()
    with torch.no_grad():
        for parameter in method.key.parameters():
            parameter.zero_()
        for parameter in method.query.parameters():
            parameter.fill_(1.0)
    for _ in range(1000):
        method.key.update(method.query)
    for parameter in method.key.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, 1 - 0.999**1000))


def test_schedule_and_optimiser_are_the_published_ones(build, toy):
    """Rate 0.01 up to epoch 350, counted from 0, and 0.001 from 351 on."""
    clips = toy(1)
    method = build(clips.skeleton)
    optimizer = method.configure_optimizers()
    group = optimizer["optimizer"].param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.01, 0.9, 1e-4, False)
    rates = []
    for _ in range(451):
        rates.append(group["lr"])
        optimizer["optimizer"].step()
        optimizer["lr_scheduler"].step()
    assert [rates[epoch] for epoch in (0, 350, 351, 450)] == pytest.approx([0.01, 0.01, 0.001, 0.001])
    assert isinstance(optimizer["lr_scheduler"], MultiStepLR)


def test_defaults_are_the_published_ones():
    view = View(Truncate(4))
    method = SCDNet(SCD(NTU25, 1, 3, 4, dim=16, heads=2, widths=(4,)), view, view)
    assert (len(method.queue("spatial")), method.temperature, method.key.momentum) == (8192, 0.2, 0.999)
    assert method.queue("spatial").keys.shape == (8192, 128)
    assert list(method.weights.values()) == [1.0] * 4


def test_the_first_loss_is_that_of_random_keys(build, toy):
    """E exp(cos/τ) ≈ exp(1/(2 P τ²)) for random directions in P dimensions, less the mean positive logit."""
    clips = toy(8)
    method = build(clips.skeleton, random=False, queue_size=8192, projection=128)
    x = method.eval_view(clips)
    query = method.levels(method.query(x))
    logits = method.contrast(query, query, clips.index)
    expected = 4 * math.log(8192 * math.exp(1 / (2 * 128 * 0.04)))
    loss = sum(losses.info_nce(*pair) for pair in logits.values())
    positive = sum(positive.mean() for positive, _ in logits.values())
    assert (loss + positive).item() == pytest.approx(expected, abs=0.3)


def test_a_fixed_batch_is_learned_within_twenty_steps(build, toy):
    clips = toy(2)
    method = build(clips.skeleton, random=False, optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9))
    _, trace = fit(method, clips, 20)
    assert trace.loss[-1] < trace.loss[0]


def test_features_are_both_clues(build, toy):
    clips = toy(1)
    method = build(clips.skeleton).eval()
    v_t, v_s, *_ = method.query(method.eval_view(clips))
    assert torch.equal(method(clips), torch.cat([v_t, v_s], 1))


def test_own_keys_are_no_negatives(build, toy):
    """One clip alone, whose queue holds nothing but its own earlier keys: no negative is left, the loss is zero."""
    clips = toy(1)[torch.tensor([0])]
    _, trace = fit(build(clips.skeleton, queue_size=1, mask_same_instance=True), clips, 3, size=1)
    assert trace.loss[0] > 0
    assert trace.loss[1:] == [0, 0]


def test_dropout_of_the_twin_can_be_switched_off(build, toy):
    clips = toy(1)
    for dropout in (True, False):
        method = build(clips.skeleton, dropout=0.5, key_dropout=dropout).train()
        x = method.eval_view(clips)
        with torch.no_grad():
            same = torch.equal(method.key(x)[4], method.key(x)[4])
            assert same != dropout
            assert not torch.equal(method.query(x)[4], method.query(x)[4])
        assert method.key.module.encoder.training


@pytest.mark.parametrize(("dropout", "negatives"), [(0.0, "queue"), (0.3, "queue"), (0.3, "batch")])
def test_resume_is_exact(build, toy, tmp_path, dropout, negatives):
    """Bit by bit, random views and dropout included."""
    clips = toy(10)
    straight, first, second = (
        build(clips.skeleton, seed=seed, dropout=dropout, negatives=negatives) for seed in (3, 3, 4)
    )
    _, whole = fit(straight, clips, 4)
    trainer, start = fit(first, clips, 2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    torch.manual_seed(99)
    _, rest = fit(second, clips, 4, checkpoint=tmp_path / "half.ckpt")
    assert start.loss + rest.loss == whole.loss
    state = second.state_dict()
    assert "key.module.heads.anchor.0.weight" in state
    assert ({"queues.temporal.keys", "queues.anchor.pushed"} <= set(state)) == (negatives == "queue")
    for name, value in straight.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_seeded_dropout_leaves_global_randomness_alone(build, toy):
    clips = toy(1)
    method = build(clips.skeleton, dropout=0.5)
    states = []
    method.on_train_batch_start = lambda *_: states.append(torch.get_rng_state())
    method.on_after_backward = lambda: states.append(torch.get_rng_state())
    fit(method, clips, 1)
    assert torch.equal(*states)


@pytest.mark.parametrize(
    ("precision", "accelerator"), [("bf16-mixed", "cpu"), pytest.param("bf16-mixed", "cuda", marks=pytest.mark.gpu)]
)
def test_mixed_precision_follows_float32(build, toy, precision, accelerator):
    clips = toy(10)
    _, exact = fit(build(clips.skeleton), clips, 4)
    method = build(clips.skeleton)
    _, mixed = fit(method, clips, 4, precision=precision, accelerator=accelerator, devices=1)
    assert torch.tensor(mixed.loss).isfinite().all()
    if accelerator == "cpu":  # other devices draw other views
        assert mixed.loss == pytest.approx(exact.loss, rel=0.02)
    assert {value.dtype for value in method.state_dict().values() if value.is_floating_point()} == {torch.float32}
    assert torch.allclose(method.queue("spatial").keys.norm(dim=1), torch.ones(48, device=method.device))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_five_hundred_steps_stay_finite(build, toy, precision):
    clips = toy(10)
    method = build(clips.skeleton, frames=12, dropout=0.1)
    _, trace = fit(method, clips, 167, precision=precision)
    assert len(trace.loss) == 501
    assert torch.tensor(trace.loss).isfinite().all()
    assert sum(trace.loss[-20:]) < sum(trace.loss[:20])


class Watch(Callback):
    """Checks in every process that all ranks hold the same state; rank 0 writes down what came of it."""

    def __init__(self, path):
        self.path, self.loss, self.gradient = path, [], {}

    def on_before_optimizer_step(self, trainer, method, optimizer):
        self.gradient = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}

    def on_train_batch_end(self, trainer, method, outputs, batch, batch_idx):
        self.loss.append(gather(outputs["loss"].reshape(1)).mean().item())
        for name, value in method.state_dict().items():
            mine, *others = gather(value.reshape(1, -1).double())
            assert all(torch.equal(mine, other) for other in others), name

    def on_train_end(self, trainer, method):
        if trainer.is_global_zero:
            torch.save((method.state_dict(), self.gradient, self.loss), self.path)


def run(method, root, devices, batch_size, path, **options):
    trainer = pl.Trainer(
        max_epochs=2,
        devices=devices,
        strategy="ddp_fork" if devices > 1 else "auto",
        callbacks=[Watch(path)],
        **{**QUIET, **options},
    )
    trainer.fit(method, NWUCLA(root, batch_size=batch_size, num_workers=0))
    return torch.load(path, weights_only=True)


linux = pytest.mark.linux("ddp_fork is reported to fail elsewhere")


@linux
@pytest.mark.parametrize(
    "options",
    [{}, {"shuffle_bn": True, "mask_same_instance": True, "weights": (1.0, 2.0, 0, 1.0)}, {"negatives": "batch"}],
)
def test_two_processes_equal_one(build, ucla, tmp_path, options):
    skeleton = NWUCLA(ucla).skeleton
    results = []
    for devices in (1, 2):
        method, views = build(skeleton, random=False, frames=8, **options), []
        method.view.register_forward_hook(lambda *args, views=views: views.append(args[2].chunk(2)[1]))
        moved = devices > 1 and method.shuffle_bn

        def twin_sees(module, args, views=views, moved=moved):
            assert torch.equal(args[0], views[-1]) != moved

        method.key.register_forward_pre_hook(twin_sees)
        results.append(run(method, ucla, devices, 20 // devices, tmp_path / f"{devices}.pt"))
    (one, gradient_one, loss_one), (two, gradient_two, loss_two) = results
    assert len(loss_one) == 6
    assert loss_two == pytest.approx(loss_one, rel=1e-5)
    for level in method.queues:
        assert torch.equal(one[f"queues.{level}.index"], two[f"queues.{level}.index"])
        assert two[f"queues.{level}.pushed"] == 120
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5, msg=name)
    assert set(gradient_one) == set(gradient_two)
    for name, value in gradient_one.items():
        torch.testing.assert_close(gradient_two[name], value, rtol=1e-3, atol=1e-5, msg=name)
