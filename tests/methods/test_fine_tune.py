"""Fine-tuning: what is loaded, what is trained at which rate, and whose features they are."""

import copy
import pickle
from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from skelcl.data import NWUCLA
from skelcl.encoders import LSTM, ViT
from skelcl.encoders.base import Encoder
from skelcl.errors import InputError
from skelcl.methods import ASCAL, FineTune, Method, WarmupMultiStepLR
from skelcl.transforms import Normalize, Shear, Truncate, View

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
SGD = partial(torch.optim.SGD, lr=0.5)


def view():
    return View(Truncate(12), Normalize("root"))


def fine_tune(encoder, num_classes=8, views=None, **options):
    seen, judged = views or (view(), view())
    return FineTune(encoder, seen, judged, num_classes, **{"optimizer": SGD, **options})


class Normed(Encoder):
    """Moments of the coordinates, a batch norm and dropout."""

    def __init__(self, dim=6, dropout=0.0):
        super().__init__()
        self.dim = dim
        self.lift, self.bn, self.dropout = nn.Linear(30, dim), nn.BatchNorm1d(dim), nn.Dropout(dropout)

    def forward(self, x):
        moments = torch.cat([x.mean((2, 4)).flatten(1), x.std((2, 4)).flatten(1)], 1)
        return self.dropout(self.bn(self.lift(moments)).tanh())


def fit(method, batches, epochs=1, **options):
    trainer = pl.Trainer(max_epochs=epochs, **{**QUIET, **options})
    trainer.fit(
        method, batches if isinstance(batches, pl.LightningDataModule) else DataLoader(batches, batch_size=None)
    )
    return trainer


@pytest.fixture
def pretrained(toy, tmp_path):
    """Checkpoint of an AS-CAL run of one epoch, and its encoder."""
    clips = toy(2)
    method = ASCAL(LSTM(clips.skeleton, hidden=6), view(), view(), queue_size=8)
    trainer = pl.Trainer(max_epochs=1, **QUIET)
    trainer.fit(method, DataLoader([clips], batch_size=None))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt", method.encoder


def test_each_part_is_trained_at_its_own_rate(toy):
    """One step by hand in the first epoch of a warm-up of two."""
    clips = toy(4)
    schedule = partial(WarmupMultiStepLR, milestones=[5], warmup_epochs=2)
    method = fine_tune(LSTM(clips.skeleton, hidden=6), encoder_lr=0.02, scheduler=schedule)
    encoder, classifier = copy.deepcopy(method.encoder), copy.deepcopy(method.classifier)
    trainer = fit(method, [clips])
    loss = F.cross_entropy(classifier(encoder(view()(clips))), clips.label)
    loss.backward()
    for ours, mine, rate in ((method.encoder, encoder, 0.01), (method.classifier, classifier, 0.25)):
        for name, parameter in mine.named_parameters():
            torch.testing.assert_close(ours.get_parameter(name), parameter - rate * parameter.grad, msg=name)
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == pytest.approx([0.02, 0.5])


def test_the_groups_of_mamp():
    """Rates and numbers of parameters that its released code has for fine-tuning, on 60 classes."""
    optimizer = partial(torch.optim.AdamW, lr=3e-4, weight_decay=0.05)
    options = {"optimizer": optimizer, "layer_decay": 0.8, "decay_all": False, "num_classes": 60}
    method = FineTune(ViT(pool="joints"), view(), view(), **options)
    groups = method.configure_optimizers()["optimizer"].param_groups
    scale = [0.134218, 0.167772, 0.209715, 0.262144, 0.32768, 0.4096, 0.512, 0.64, 0.8, 1.0]
    assert [g["initial_lr"] / 3e-4 for g in groups] == pytest.approx([s for s in scale for _ in range(2)], rel=1e-5)
    assert [g["weight_decay"] for g in groups] == [0.05, 0.0] * 10
    sizes = [sum(p.numel() for p in g["params"]) for g in groups]
    assert sizes == [17_152, 256, *[786_432, 3_328] * 8, 13_230_080, 6_716]


def test_layers_of_an_encoder_without_blocks_and_a_rate_of_its_own(toy):
    options = {"encoder_lr": 0.02, "layer_decay": 0.5}
    method = fine_tune(LSTM(toy(1).skeleton, hidden=6), **options)
    groups = method.configure_optimizers()["optimizer"].param_groups
    assert [g["initial_lr"] for g in groups] == [0.01, 0.5]
    vit = ViT(toy(1).skeleton, 1, num_frames=16, dim=8, depth=1, heads=1)
    assert vit.layer_numbers()["norm.weight"] == 2
    groups = fine_tune(vit, **options).configure_optimizers()["optimizer"].param_groups
    assert [g["initial_lr"] for g in groups] == [0.005, 0.01, 0.02, 0.5]


def test_one_rate_unless_told_otherwise(toy):
    method = fine_tune(
        LSTM(toy(1).skeleton, hidden=6), scheduler=partial(WarmupMultiStepLR, milestones=[], warmup_epochs=0)
    )
    groups = method.configure_optimizers()["optimizer"].param_groups
    assert [group["lr"] for group in groups] == [0.5, 0.5]
    assert sum(len(group["params"]) for group in groups) == len(list(method.parameters()))


@pytest.mark.filterwarnings("ignore:Checkpoint directory", "ignore:Be aware that when using `ckpt_path`")
def test_training_starts_from_the_checkpoint_and_goes_on_from_its_own(toy, pretrained, tmp_path):
    path, encoder = pretrained
    clips = toy(2)
    method = fine_tune(LSTM(clips.skeleton, hidden=6), checkpoint=path, encoder_lr=1e-30)
    fit(method, [clips])
    for name, value in encoder.state_dict().items():
        assert torch.equal(method.encoder.state_dict()[name], value), "the encoder is that of the checkpoint"

    method = fine_tune(LSTM(clips.skeleton, hidden=6), checkpoint=path)
    keep = ModelCheckpoint(tmp_path, "own", save_on_train_epoch_end=True)
    fit(method, [clips], 2, enable_checkpointing=True, callbacks=[keep])
    assert set(method.state_dict()) == {f"encoder.{name}" for name in encoder.state_dict()} | {
        "classifier.weight",
        "classifier.bias",
    }
    path.unlink()  # whoever resumes or tests needs it no more
    again = fine_tune(LSTM(clips.skeleton, hidden=6), checkpoint=path)
    trainer = pl.Trainer(max_epochs=2, **QUIET)
    trainer.fit(again, DataLoader([clips], batch_size=None), ckpt_path=tmp_path / "own.ckpt")
    pl.Trainer(**QUIET).test(again, DataLoader([clips], batch_size=None), verbose=False)
    for name, value in method.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_another_encoder_is_refused_in_one_line(toy, pretrained, tmp_path):
    path, _ = pretrained
    clips = toy(2)
    with pytest.raises(
        InputError, match=r"last\.ckpt: its LSTM was trained on other skeletons, persons, channels or classes.*24"
    ):
        fit(fine_tune(LSTM(clips.skeleton, num_persons=2, hidden=6), checkpoint=path), [clips])
    with pytest.raises(InputError, match=r"something else than the weights of this Normed: missing lift\.weight, "):
        fit(fine_tune(Normed(), checkpoint=path), [clips])
    (tmp_path / "text.ckpt").write_text("nothing")
    with pytest.raises(InputError, match=r"text\.ckpt: not a checkpoint"):
        fit(fine_tune(Normed(), checkpoint=tmp_path / "text.ckpt"), [clips])


@pytest.mark.parametrize("bn", ["train", "frozen"])
@pytest.mark.filterwarnings("ignore:Found 1 module.s. in eval mode")  # which is what was asked for
def test_frozen_batch_norms_keep_their_statistics_and_nothing_else(toy, bn):
    clips = toy(4)
    method = fine_tune(Normed(), bn=bn)
    method.encoder.bn.running_mean.copy_(torch.linspace(-1, 1, 6))
    before = copy.deepcopy(method.encoder)
    reference = copy.deepcopy(method.encoder).train(bn == "train")
    expected = F.cross_entropy(method.classifier(reference(view()(clips))), clips.label)
    trainer = fit(method, [clips])
    # The first epoch of CTR-GCN's schedule, the default, is a fifth of the rate, but the loss is from before the step.
    assert trainer.callback_metrics["train/loss"] == pytest.approx(expected.item(), rel=1e-5)
    after = method.encoder
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        same = torch.equal(getattr(after.bn, name), getattr(before.bn, name))
        assert same == (bn == "frozen"), name
    assert not torch.equal(after.bn.weight, before.bn.weight)
    method.eval().train()
    assert after.bn.training == (bn == "train")
    assert after.dropout.training


class TwoStreams(Method):
    """Features are those of the view and of its negative; the classifier adds up the logits of both."""

    def __init__(self, encoder, view, eval_view, scale=1.0):
        super().__init__(encoder, eval_view, SGD)
        self.view, self.scale, self.queue = view, scale, nn.Linear(3, 3)

    def encode(self, clips, view, random=None):
        x = view(clips, random)
        return torch.cat([self.encoder(x), self.encoder(-self.scale * x)], 1)

    def head(self, num_classes):
        return Shared(nn.Linear(self.encoder.dim, num_classes))


class Shared(nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, features):
        return sum(self.linear(half) for half in features.chunk(2, 1))


def test_a_method_brings_its_own_features_and_classifier(toy):
    clips = toy(4)
    method = fine_tune(LSTM(clips.skeleton, hidden=6), method=partial(TwoStreams, scale=2.0))
    assert set(method.state_dict()) == {
        *(f"encoder.{name}" for name in method.encoder.state_dict()),
        "classifier.linear.weight",
        "classifier.linear.bias",
    }
    for one in (method, copy.deepcopy(method), pickle.loads(pickle.dumps(method))):
        encoder, linear = copy.deepcopy(one.encoder), copy.deepcopy(one.classifier.linear)
        x = view()(clips)
        features = torch.cat([encoder(x), encoder(-2 * x)], 1)
        logits = linear(features[:, :6]) + linear(features[:, 6:])
        F.cross_entropy(logits, clips.label).backward()
        given = one.eval().predict_step(clips, 0)
        torch.testing.assert_close(given["features"], features)
        torch.testing.assert_close(given["logits"], logits)
        one.scheduler = None
        fit(one.train(), [clips])
        for ours, mine in ((one.encoder, encoder), (one.classifier.linear, linear)):
            for name, parameter in mine.named_parameters():
                torch.testing.assert_close(ours.get_parameter(name), parameter - 0.1 * parameter.grad, msg=name)


def test_augmentation_is_a_switch(toy):
    clips = toy(2)
    views = View(Truncate(12), Normalize("root"), [Shear()]), view()
    first = fine_tune(LSTM(clips.skeleton, hidden=6), views=views)
    plain = fine_tune(copy.deepcopy(first.encoder), views=views, augment=False)
    plain.classifier.load_state_dict(first.classifier.state_dict())
    with torch.no_grad():
        expected = F.cross_entropy(first.classifier(first.encoder(view()(clips))), clips.label).item()
    losses = [fit(one, [clips]).callback_metrics["train/loss"].item() for one in (plain, first)]
    assert losses[0] == pytest.approx(expected, rel=1e-6)
    assert losses[1] != pytest.approx(expected, rel=1e-5)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_dropout_of_a_resumed_run_is_that_of_an_uninterrupted_one(toy, tmp_path):
    clips = toy(2)
    whole = fine_tune(Normed(dropout=0.5))
    broken = copy.deepcopy(whole)
    fit(whole, [clips], 2)
    keep = ModelCheckpoint(tmp_path, "half", save_on_train_epoch_end=True)
    fit(broken, [clips], 1, enable_checkpointing=True, callbacks=[keep])
    torch.rand(7)
    pl.Trainer(max_epochs=2, **QUIET).fit(
        broken, DataLoader([clips], batch_size=None), ckpt_path=tmp_path / "half.ckpt"
    )
    for name, value in whole.state_dict().items():
        assert torch.equal(broken.state_dict()[name], value), name


@pytest.mark.parametrize("fraction", [0.3, 0.7])
def test_few_labels_make_as_many_steps(ucla, fraction):
    """20 or 40 labelled clips in batches of 8: 3 or 5 steps an epoch, 6 or 10 in two; 15 are asked for."""
    data = NWUCLA(ucla, batch_size=8, fraction=fraction)
    once = NWUCLA(ucla, batch_size=8, fraction=fraction)
    clips = {0.3: 20, 0.7: 40}[fraction]
    assert len(data.parts["train"]) == clips
    method = fine_tune(LSTM(data.skeleton, hidden=4), 10, min_steps=15)
    trainer = fit(method, data, 2)
    times = next(times for times in range(1, 9) if 2 * -(-times * clips // 8) >= 15)
    assert data.repeat == times > 1
    assert trainer.global_step == 2 * -(-times * clips // 8)
    assert fit(fine_tune(LSTM(data.skeleton, hidden=4), 10), once, 2).global_step == 2 * -(-clips // 8)


def test_an_epoch_without_a_batch_is_no_training(ucla):
    data = NWUCLA(ucla, batch_size=32, drop_last=True, per_class=1)
    with pytest.raises(InputError, match=r"10 labelled clips fill no batch.*--model\.min_steps"):
        fit(fine_tune(LSTM(data.skeleton, hidden=4), 10), data)
    fit(fine_tune(LSTM(data.skeleton, hidden=4), 10, min_steps=1), data)
    assert data.repeat == 4


@pytest.mark.parametrize("options", [{"encoder_lr": 0.0}, {"encoder_lr": -1.0}, {"min_steps": -1}])
def test_rates_and_steps_lie_in_their_range(toy, options):
    (name,) = options
    with pytest.raises(InputError, match=name):
        fine_tune(LSTM(toy(1).skeleton, hidden=4), **options)
