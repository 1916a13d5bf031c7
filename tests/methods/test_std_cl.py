"""The story of STD-CL: heads, banks, what a step adds to cross-entropy, and that nothing of it is left at test."""

from functools import partial
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from torch.nn import functional as F
from torch.utils.data import DataLoader

from skelcl.data import NWUCLA
from skelcl.encoders import AGCN, CTRGCN, HCN, Hyperformer
from skelcl.errors import InputError
from skelcl.losses import bank_contrast
from skelcl.methods import STDCL, Supervised
from skelcl.methods.std_cl import Decoupling
from skelcl.nn.heads import Classifier
from skelcl.runs.loading import load
from skelcl.seeding import generator
from skelcl.skeleton import KINECT20, NTU25
from skelcl.transforms import CropResize, Normalize, Truncate, View

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Trace(Callback):
    """Remembers the loss of every step."""

    def __init__(self):
        self.loss = []

    def on_train_batch_end(self, trainer, method, outputs, batch, batch_idx):
        self.loss.append(outputs["loss"].item())


def fit(method, root, epochs=2, checkpoint=None, data=None, **options):
    trace = Trace()
    trainer = pl.Trainer(max_epochs=epochs, callbacks=[trace], **{**QUIET, **options})
    trainer.fit(method, NWUCLA(root, **{"batch_size": 20, **(data or {})}), ckpt_path=checkpoint)
    return trainer, trace.loss


@pytest.fixture
def build(map_encoder):
    """Builds a method on a tiny encoder; keyword arguments as those of the class."""

    def make(kind=STDCL, random=True, dropout=0.0, seed=3, **options):
        torch.manual_seed(seed)
        sample = CropResize(8, (0.5, 1.0), 4) if random else Truncate(8)
        views = View(sample, Normalize("root")), View(Truncate(8), Normalize("root"))
        options = {"optimizer": partial(torch.optim.SGD, lr=0.5, momentum=0.9), **options}
        if kind is STDCL:
            options = {"dim": 6, "reduction": 4, "positives": 3, "negatives": 10, **options}
        return kind(map_encoder(dropout=dropout), *views, 10, **options)

    return make


@pytest.mark.parametrize(
    ("channels", "joints", "frames", "expected"),
    [(256, 25, 16, 352832), (256, 20, 13, 287296), (216, 25, 16, 295622), (216, 20, 13, 240326), (256, 4, 4, 82496)],
)
def test_parameters_of_the_heads(channels, joints, frames, expected):
    heads = Decoupling("spatial", channels, joints), Decoupling("temporal", channels, frames)
    assert sum(p.numel() for head in heads for p in head.parameters()) == expected


@pytest.mark.parametrize(
    ("encoder", "skeleton", "frames", "expected"),
    [
        (CTRGCN, NTU25, 64, 352832),
        (AGCN, KINECT20, 52, 287296),
        (Hyperformer, NTU25, 64, 295622),
        (Hyperformer, KINECT20, 52, 240326),
        (HCN, NTU25, 64, 82496),
    ],
)
def test_heads_measure_the_map_of_the_encoder(monkeypatch, encoder, skeleton, frames, expected):
    """No length is written down anywhere, and measuring leaves neither weights, statistics nor randomness changed."""
    window = {"num_frames": frames} if encoder is HCN else {}
    view = View(Truncate(frames))
    method = STDCL(encoder(skeleton, num_persons=2, **window), view, view, 10)
    data = NorthwesternSizes(repeat=5, skeleton=skeleton, num_persons=2)
    monkeypatch.setattr(STDCL, "data", data)
    before, random = {name: value.clone() for name, value in method.state_dict().items()}, torch.get_rng_state()
    method.setup("fit")
    assert sum(parameter.numel() for parameter in method.heads.parameters()) == expected
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(method.state_dict()[name], value) for name, value in before.items())
    assert all(module.training for module in method.modules())


def test_heads_start_as_the_released_code_starts_them():
    head = Decoupling("spatial", 256, 25)
    assert head.project.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    assert head.project.bias.eq(0).all()
    for value in (head.reduce.weight, head.reduce.bias):
        assert value.abs().max() <= 1 / 16
        assert value.std().item() == pytest.approx(1 / 16 / 3**0.5, rel=0.2)


@pytest.fixture(params=["mean", "attn"])
def heads(request):
    """Both heads for a map of 12 channels, 4 frames and 5 joints, with every weight away from its start."""
    both = Decoupling("spatial", 12, 5, 7, 4, request.param), Decoupling("temporal", 12, 4, 7, 4, request.param)
    for head in both:
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter)
    return both


def test_heads_are_blind_to_the_order_of_what_they_pool(heads):
    spatial, temporal = heads
    x = torch.randn(3, 2, 12, 4, 5)
    frames, joints = x[:, :, :, [2, 0, 3, 1]], x[..., [4, 2, 0, 1, 3]]
    torch.testing.assert_close(spatial(frames), spatial(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(temporal(joints), temporal(x), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(spatial(joints), spatial(x), atol=1e-2)
    assert not torch.allclose(temporal(frames), temporal(x), atol=1e-2)


@pytest.mark.parametrize("heads", ["mean"], indirect=True)
def test_a_field_without_mean_is_not_seen(heads):
    x, field = torch.randn(3, 2, 12, 4, 5), torch.randn(3, 2, 12, 4, 5)
    for head, axis in zip(heads, (3, 4), strict=True):
        added = x + field - field.mean(axis, keepdim=True)
        torch.testing.assert_close(head(added), head(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("heads", ["mean"], indirect=True)
def test_heads_equal_the_layers_written_out_person_by_person(heads):
    """Convolution and linear layer of each person, channel-major, then the mean over persons."""
    x = torch.randn(3, 2, 12, 4, 5)
    for head, axis in zip(heads, (2, 3), strict=True):
        persons = []
        for m in range(2):
            reduced = torch.einsum("ncp,rc->nrp", x[:, m].mean(axis), head.reduce.weight[..., 0])
            flat = (reduced + head.reduce.bias[:, None]).flatten(1)
            persons.append(flat @ head.project.weight.T + head.project.bias)
        torch.testing.assert_close(head(x), sum(persons) / 2, rtol=1e-5, atol=1e-5)


def test_attention_starts_as_the_mean_and_then_weighs():
    x = torch.randn(3, 1, 12, 4, 5)
    attention, plain = Decoupling("spatial", 12, 5, 7, 4, "attn"), Decoupling("spatial", 12, 5, 7, 4)
    attention.load_state_dict(plain.state_dict() | {"score": torch.zeros(12)})
    torch.testing.assert_close(attention(x), plain(x))
    with torch.no_grad():
        attention.score[0] = 1e4
    one = x[torch.arange(3), 0, :, x[:, 0, 0].mean(-1).argmax(1)]  # channel 0 decides which frame is all that counts
    torch.testing.assert_close(attention(x), plain(one[:, None, :, None]))


def test_the_first_step_by_hand(build, ucla):
    """Written out: cross-entropy, and each half of the map contrasted with the batch itself, which the bank holds."""
    options = {"random": False, "positives": 1, "negatives": 5, "w_spa": 0.3, "w_tem": 0.7}
    method, twin = build(**options), build(**options)
    batches = []
    method.view.register_forward_pre_hook(lambda module, args: batches.append(args[0]))
    start = {}
    method.on_fit_start = lambda: start.update({name: value.clone() for name, value in method.state_dict().items()})
    trainer, (loss,) = fit(method, ucla, 1, limit_train_batches=1)

    clips = batches[0]
    data = NWUCLA(ucla)
    for name in ("spatial", "temporal"):
        twin.heads[name] = Decoupling(name, 8, 20 if name == "spatial" else 4, 6, 4)
    assert not twin.load_state_dict(start).missing_keys
    feature_map = twin.encoder.feature_map(twin.view(clips))
    logits = twin.classifier(feature_map.mean((1, 3, 4)))
    expected = F.cross_entropy(logits, clips.label)
    slots = torch.searchsorted(torch.from_numpy(data.parts["train"]), clips.index)
    bank_label = torch.from_numpy(data.store.index["label"][data.parts["train"]]).long()
    random = generator("negatives", 0, 0)
    for name, weight in (("spatial", 0.3), ("temporal", 0.7)):
        half = twin.heads[name](feature_map)
        bank = torch.zeros(60, 6)
        bank[slots] = F.normalize(half.detach(), dim=1)
        filled = torch.isin(torch.arange(60), slots)
        # Round the filled slots, from a place of each clip's own; all of them, and not only as many as are needed.
        order = torch.randperm(60, generator=random)
        order = order[filled[order]]
        turns = [order.roll(-int(place * len(order))) for place in torch.rand(20, generator=random)]
        members = torch.nn.utils.rnn.pad_sequence(
            [(bank_label == label).nonzero().flatten() for label in range(10)], batch_first=True, padding_value=-1
        )
        rows, valid = bank_contrast(half, clips.label, bank, members, filled, torch.stack(turns), 1, 5, 0.8)
        assert valid.all()
        expected = expected + weight * rows.mean()
        torch.testing.assert_close(method.banks[name].features, bank)
        assert torch.equal(method.banks[name].filled, filled)
        assert trainer.callback_metrics[f"train/{name}"].item() == pytest.approx(rows.mean().item(), rel=1e-5)
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    expected.backward()
    for name, parameter in twin.named_parameters():
        # The schedule's first epoch runs at a fifth of the rate.
        torch.testing.assert_close(method.get_parameter(name), parameter - 0.1 * parameter.grad, msg=name)
        assert parameter.grad.abs().max() > 0, name


def test_a_clip_may_be_no_positive_of_itself(build, ucla):
    """In the first batch only clips of a class that occurs twice then have a positive at all."""
    method = build(random=False, positives=1, negatives=5, exclude_self=True)
    batches = []
    method.view.register_forward_pre_hook(lambda module, args: batches.append(args[0].label))
    trainer, _ = fit(method, ucla, 1, limit_train_batches=1, data={"batch_size": 13})
    twice = batches[0].bincount()[batches[0]] > 1
    assert 0 < twice.sum() < 13
    assert trainer.callback_metrics["train/spatial_valid"].item() == pytest.approx(twice.float().mean().item())


def test_without_weights_it_is_supervised_training(build, ucla):
    """The same bits, dropout and random views included; so also while the contrast waits for its epoch."""
    plain = build(Supervised, dropout=0.3)
    _, expected = fit(plain, ucla)
    off = build(dropout=0.3, w_spa=0, w_tem=0)
    assert fit(off, ucla)[1] == expected
    waiting = build(dropout=0.3, contrast_start_epoch=2)
    assert fit(waiting, ucla)[1] == expected
    assert not len(off.heads)
    assert waiting.banks["spatial"].filled.all()
    for method in (off, waiting):
        for name, value in plain.state_dict().items():
            assert torch.equal(method.state_dict()[name], value), name
    late = build(dropout=0.3, contrast_start_epoch=1)
    _, loss = fit(late, ucla)
    assert loss[:3] == expected[:3]
    assert loss[3] > expected[3]


class Heads(Callback):
    """Remembers the weights of the heads before each batch and after the last."""

    def __init__(self):
        self.weights = []

    def on_train_batch_start(self, trainer, method, batch, batch_idx):
        self.weights.append([p.clone() for p in method.heads.parameters()])

    def on_train_end(self, trainer, method):
        self.on_train_batch_start(trainer, method, None, 0)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("options", [{"positives": 5}, {"positives": 1, "negatives": 1, "contrast_start_epoch": 1}])
def test_heads_rest_until_an_anchor_counts(build, ucla, monkeypatch, options, accumulate):
    """Without momentum and weight decay: the released heads have no gradient then."""
    decay = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.5)
    method, heads, valid = build(random=False, optimizer=decay, **options), Heads(), []
    monkeypatch.setattr(method, "log_dict", lambda terms, **_: valid.append(terms["train/spatial_valid"].item()))
    trainer = pl.Trainer(max_epochs=3, callbacks=[heads], accumulate_grad_batches=accumulate, **QUIET)
    trainer.fit(method, NWUCLA(ucla, batch_size=10))
    counts = [share > 0 and step // 6 >= options.get("contrast_start_epoch", 0) for step, share in enumerate(valid)]
    expected = [(step + 1) % accumulate == 0 and any(counts[step + 1 - accumulate : step + 1]) for step in range(18)]
    moved = [not all(map(torch.equal, a, b)) for a, b in zip(heads.weights, heads.weights[1:], strict=False)]
    assert moved == expected
    assert not any(moved[:accumulate])
    assert moved[-1]
    assert method._banks_serve


def test_one_term_alone_needs_one_head_and_one_bank(build, ucla):
    method = build(w_spa=0)
    trainer, _ = fit(method, ucla, 1)
    assert list(method.heads) == list(method.banks) == ["temporal"]
    assert "train/temporal" in trainer.callback_metrics
    assert "train/spatial" not in trainer.callback_metrics


def test_every_repeat_of_a_clip_has_its_own_slot(build, ucla):
    method = build(random=False, positives=7, optimizer=partial(torch.optim.SGD, lr=1e-30))  # no weight moves
    fit(method, ucla, 1, data={"repeat": 2})
    data = NWUCLA(ucla)
    clips = data.store.clips(data.parts["train"])
    with torch.no_grad():
        feature_map = method.encoder.feature_map(method.view(clips))
        for name, bank in method.banks.items():
            assert bank.filled.all()
            half = F.normalize(method.heads[name](feature_map), dim=1)
            torch.testing.assert_close(bank.features, torch.cat([half, half]))
            assert torch.equal(bank.label, clips.label.repeat(2))


def test_a_class_with_too_few_slots_is_refused(build, ucla):
    with pytest.raises(InputError, match=r"6 possible positives .*--data\.repeat 5 or --model\.shrink_positives true"):
        fit(build(positives=7), ucla)
    with pytest.raises(InputError, match="5 possible positives"):
        fit(build(positives=6, exclude_self=True), ucla)
    with pytest.raises(InputError, match=r"54 possible negatives .*--model\.negatives 54"):
        fit(build(negatives=55), ucla)
    shrunk = build(positives=7, shrink_positives=True)
    trainer, _ = fit(shrunk, ucla)
    assert shrunk.num_positives == 6
    assert trainer.callback_metrics["train/spatial_valid"] > 0


class NorthwesternSizes(SimpleNamespace):
    """As many training clips of each class as NW-UCLA has, from 96 to 124."""

    validation, channels, num_persons, skeleton = "none", 3, 1, KINECT20
    class_names = tuple(f"a{label}" for label in range(10))

    def slot_labels(self):
        clips = torch.tensor([107, 96, 99, 106, 124, 107, 96, 96, 97, 96])
        return torch.arange(10).repeat_interleave(clips).repeat(self.repeat)

    def slots(self, clips):
        raise AssertionError("nothing is trained")


@pytest.mark.parametrize(("repeat", "shrink", "positives"), [(1, False, None), (5, False, 128), (1, True, 96)])
def test_the_paper_on_northwestern_ucla_needs_its_repeats(build, monkeypatch, repeat, shrink, positives):
    """P = 128 and classes of 96: without the fivefold epoch the loss of the paper would be zero."""
    method = build(positives=128, negatives=512, shrink_positives=shrink)
    monkeypatch.setattr(STDCL, "data", NorthwesternSizes(repeat=repeat))
    if positives is None:
        with pytest.raises(InputError, match=r"class 'a1' has 96 possible positives .*P = 128.*--data\.repeat 5"):
            method.setup("fit")
    else:
        method.setup("fit")
        assert method.num_positives == positives
        assert len(method.banks["temporal"]) == 1024 * repeat


def test_plain_loaders_are_refused(build, toy):
    clips = toy(2)
    with pytest.raises(InputError, match="SkeletonDataModule"):
        pl.Trainer(max_epochs=1, **QUIET).fit(build(), DataLoader([clips], batch_size=None))


@pytest.mark.parametrize(("kind", "dropout"), [(STDCL, 0.0), (STDCL, 0.3), (Supervised, 0.3)])
def test_resume_is_exact(build, ucla, tmp_path, kind, dropout):
    straight, first, second = (build(kind, dropout=dropout, seed=seed) for seed in (3, 3, 4))
    _, whole = fit(straight, ucla, 4)
    trainer, start = fit(first, ucla, 2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    torch.manual_seed(99)
    _, rest = fit(second, ucla, 4, tmp_path / "half.ckpt")
    assert start + rest == whole
    state = second.state_dict()
    only_training = {"banks.spatial.features", "banks.temporal.filled", "heads.spatial.project.weight"}
    assert (only_training <= set(state)) == (kind is STDCL)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_nothing_of_it_is_left_at_test(build, ucla, tmp_path):
    """A checkpoint is tested without head and bank, and fits the plain classifier once they are left out."""
    method = build()
    trainer, _ = fit(method, ucla)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    bare = build(seed=5)
    trainer.test(bare, NWUCLA(ucla), ckpt_path=tmp_path / "last.ckpt", weights_only=True, verbose=False)
    assert not len(bare.heads)
    assert not len(bare.banks)

    exported = {name: value for name, value in content.items() if not name.startswith(("heads.", "banks."))}
    assert len(exported) < len(content)
    plain = build(Supervised, seed=6)
    plain.load_state_dict(exported, strict=True)
    network = Classifier(plain.encoder, plain.classifier).eval()
    data = NWUCLA(ucla)
    clips = data.store.clips(data.parts["test"])
    with torch.no_grad():
        expected = network(method.eval_view(clips))
        for one in (method, bare, plain):
            assert torch.equal(one.eval().predict_step(clips, 0)["logits"], expected)
    with pytest.raises(RuntimeError, match=r"heads\.spatial"):
        build(Supervised).load_state_dict(content)


def test_a_second_fit_goes_on(build, ucla):
    method = build(optimizer=partial(torch.optim.SGD, lr=1e-30))
    fit(method, ucla, 1)
    head, bank = method.heads["spatial"], method.banks["spatial"]
    fit(method, ucla, 1)
    assert method.heads["spatial"] is head
    assert method.banks["spatial"] is bank
    fit(method, ucla, 1, data={"repeat": 2})
    assert len(method.banks["spatial"]) == 120


def test_mixed_precision_follows_float32(build, ucla):
    _, exact = fit(build(), ucla, 3)
    method = build()
    _, mixed = fit(method, ucla, 3, precision="bf16-mixed")
    assert mixed == pytest.approx(exact, rel=0.02)
    assert {value.dtype for value in method.state_dict().values() if value.is_floating_point()} == {torch.float32}


def test_from_the_command_line_to_scores_without_heads(skelcl, ucla, tmp_path):
    """Everything that the data know reaches encoder and method, and the checkpoint alone is enough to test."""
    view = {"class_path": "View", "init_args": {"sample": {"class_path": "Resize", "init_args": {"frames": 16}}}}
    encoder = {"class_path": "HCN", "init_args": {"num_frames": 16, "hidden": 8}}
    method = {"encoder": encoder, "view": view, "eval_view": view, "positives": 8, "negatives": 9, "dim": 6}
    config = {
        "data": {"class_path": "NWUCLA", "init_args": {"root": str(ucla), "repeat": 2}},
        "model": {"class_path": "STDCL", "init_args": method},
        "trainer": {**QUIET, "max_epochs": 1, "enable_checkpointing": True},
        "supervised": {"figures": False},
    }
    config["trainer"]["logger"] = {"class_path": "CSVLogger", "init_args": {"save_dir": "runs", "name": "std_cl"}}
    path = tmp_path / "std_cl.yaml"
    path.write_text(yaml.safe_dump(config))
    words = ["--trainer.log_every_n_steps=1", "--data.batch_size=30"]
    fitted = skelcl("fit", "--config", path, *words)
    assert len(fitted.model.banks["spatial"]) == 120
    assert {"train/spatial", "train/temporal", "train/cross_entropy"} <= set(fitted.trainer.callback_metrics)
    last = "runs/std_cl/version_0/checkpoints/last.ckpt"
    cli = skelcl("test", "--ckpt_path", last)
    assert not len(cli.model.heads)
    assert set(cli.trainer.callback_metrics) == {
        f"{part}/{key}" for part in ("test", "test_clean") for key in ("top1", "top5", "mean_class")
    }
    method, data = load(last)
    with np.load("runs/std_cl/version_1/scores.npz") as file, torch.no_grad():
        logits = method.predict_step(data.store.clips(data.parts["test"]), 0)["logits"]
        np.testing.assert_allclose(file["logits"], logits, rtol=1e-4, atol=1e-5)
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", "--config", path, "--model.positives=20")
    assert stop.value.code == 1
