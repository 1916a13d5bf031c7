from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from skelcl.evaluation import PRESETS, ProbePreset, ProbeResult, linear_probe
from skelcl.evaluation.probe import LinearHead
from skelcl.nn import TwoStreamHead


def clusters(n: int, seed: int, spread: float, classes: int = 5, dim: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    centre = np.random.default_rng(42).normal(size=(classes, dim))
    label = random.integers(0, classes, n)
    return torch.from_numpy(centre[label] + spread * random.normal(size=(n, dim))).float(), torch.from_numpy(label)


def test_learning_rates_of_the_presets() -> None:
    def rates(name: str, *epochs: int) -> list[float]:
        return [PRESETS[name].rate(epoch) for epoch in epochs]

    expected = [1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625]
    assert rates("as_cal", 15, 16, 35, 36, 60, 61, 75, 76, 90) == expected
    assert rates("moco_linear", 1, 50, 51, 70, 71, 80) == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert rates("scd", 50, 51, 71) == pytest.approx([2, 0.2, 0.02])
    assert rates("torchlight", 80, 81) == pytest.approx([3, 0.3])
    assert rates("pstl", 1, 76, 151) == pytest.approx([0.01, 0.005, 0])
    assert rates("sds_cl", 80, 81, 100) == pytest.approx([0.1, 0.01, 0.01])
    half = 0.05 * (1 + math.cos(math.pi * 0.305))
    assert PRESETS["mae_no_augmentation"].rate(31, 0.5) == pytest.approx(half)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_one_clip_teaches_its_own_class(preset: ProbePreset) -> None:
    """Also through a batch norm, for which one clip has no variance."""
    x = torch.ones(1, 8) * (1 + torch.arange(8))
    found = linear_probe((x, torch.tensor([2])), (x, torch.tensor([2])), 3, preset)
    assert found.logits.isfinite().all()
    assert found.logits.argmax(1).tolist() == [2]


def test_one_nesterov_step_in_closed_form() -> None:
    """From (W₀, 0) one batch with gradient G leads to W₀ − lr (1 + m) G, with G = (softmax(W₀x) − onehot) xᵀ / N."""
    (x, y), (x_test, y_test) = clusters(12, 0, 1.0), clusters(7, 1, 1.0)
    preset = ProbePreset(lr=0.5, batch_size=12, epochs=1, momentum=0.8, nesterov=True)
    result = linear_probe((x, y), (x_test, y_test), 5, preset, seed=9)

    weight = 0.01 * torch.randn(5, 8, generator=torch.Generator().manual_seed(9)).double()
    x, x_test = x.double(), x_test.double()
    error = (x @ weight.T).softmax(1) - torch.eye(5, dtype=torch.float64)[y]
    loss = -(x @ weight.T).log_softmax(1)[torch.arange(12), y].mean()
    weight = weight - 0.5 * 1.8 * error.T @ x / 12
    bias = -0.5 * 1.8 * error.mean(0)
    torch.testing.assert_close(result.logits.double(), x_test @ weight.T + bias, rtol=1e-5, atol=1e-5)
    assert result.train_loss.item() == pytest.approx(loss.item(), rel=1e-6)


@pytest.mark.parametrize(
    "preset",
    [
        replace(PRESETS["as_cal"], epochs=5, batch_size=16, milestones=(2, 4)),
        replace(PRESETS["moco_linear"], epochs=4, l2_normalise=True),
        replace(PRESETS["pstl"], epochs=3, batch_size=20),
        replace(PRESETS["mae_no_augmentation"], epochs=4, batch_size=16),
        replace(PRESETS["sds_cl"], epochs=4, batch_size=16),
    ],
    ids=["sgd", "l2", "adam", "batch norm", "streams"],
)
def test_equals_autograd_with_modules_and_a_torch_optimiser(preset: ProbePreset) -> None:
    (x, y), (x_test, y_test) = clusters(50, 0, 1.0), clusters(30, 1, 1.0)
    result = linear_probe((x, y), (x_test, y_test), 5, preset, seed=4)

    random = torch.Generator().manual_seed(4)
    linear = nn.Linear(8 // preset.streams, 5).double()
    with torch.no_grad():
        linear.weight.copy_(0.01 * torch.randn(linear.weight.shape, generator=random))
        linear.bias.zero_()
    norm = nn.BatchNorm1d(8, affine=False, eps=1e-6).double() if preset.head_bn else nn.Identity()
    model = nn.Sequential(norm, linear if preset.streams == 1 else TwoStreamHead(linear))
    if preset.optimiser == "adam":
        optimiser = torch.optim.Adam(model.parameters())
    else:
        optimiser = torch.optim.SGD(model.parameters(), 1, momentum=preset.momentum, nesterov=preset.nesterov)
    x, x_test = x.double(), x_test.double()
    if preset.l2_normalise:
        x, x_test = x / x.norm(dim=1, keepdim=True), x_test / x_test.norm(dim=1, keepdim=True)
    for epoch in range(preset.epochs):
        order = torch.randperm(50, generator=random)
        batches = [order[first : first + preset.batch_size] for first in range(0, 50, preset.batch_size)]
        if preset.head_bn:
            batches = [batch for batch in batches if len(batch) == preset.batch_size]
        model.train()
        losses = []
        for step, batch in enumerate(batches):
            optimiser.param_groups[0]["lr"] = preset.rate(epoch + 1, step / len(batches))
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses += [loss.item()] * len(batch)
        model.eval()
        right = (model(x_test).argmax(1) == y_test).double().mean().item()
        assert result.train_loss[epoch].item() == pytest.approx(np.mean(losses), rel=1e-4)
        assert result.test_top1[epoch].item() == pytest.approx(right, abs=1e-6)
    torch.testing.assert_close(result.logits.double(), model(x_test).detach(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", PRESETS)
def test_separable_clusters_are_learned_like_logistic_regression(name: str) -> None:
    train, test = clusters(400, 0, 0.25), clusters(150, 1, 0.25)
    result = linear_probe(train, test, 5, PRESETS[name])
    oracle = LogisticRegression(max_iter=1000).fit(*(tensor.numpy() for tensor in train))
    predicted = oracle.predict(test[0].numpy())
    assert (predicted == test[1].numpy()).mean() > 0.98
    assert result.last > 0.98
    assert (result.logits.argmax(1).numpy() == predicted).mean() > 0.98
    assert result.logits.shape == (150, 5)
    assert result.train_loss.shape == result.test_top1.shape == (PRESETS[name].epochs,)


def test_headline_is_the_last_epoch_and_the_best_has_another_name() -> None:
    measured = torch.zeros(1, 2), torch.zeros(3), torch.tensor([0.25, 0.75, 0.5])
    result = ProbeResult(*measured, LinearHead(torch.zeros(2, 3), PRESETS["as_cal"]))
    assert (result.last, result.best_on_test) == (0.5, 0.75)


def test_own_randomness_only_and_inference_mode() -> None:
    train, test = clusters(60, 0, 1.0), clusters(40, 1, 1.0)
    preset = replace(PRESETS["as_cal"], epochs=2)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = linear_probe(train, test, 5, preset, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        inference = tuple(tensor.clone() for tensor in train)
        again = linear_probe(inference, test, 5, preset, seed=3)
    assert torch.equal(first.logits, again.logits)
    assert torch.equal(first.logits, linear_probe(inference, test, 5, preset, seed=3).logits)
    assert not torch.equal(first.logits, linear_probe(train, test, 5, preset, seed=4).logits)


def test_bad_input_is_one_clear_line() -> None:
    x, y = clusters(10, 0, 1.0)
    with pytest.raises(ValueError, match="10 for training, 0 for testing"):
        linear_probe((x, y), (x[:0], y[:0]), 5)
    with pytest.raises(ValueError, match="training labels span 0…4 but must lie in 0…2"):
        linear_probe((x, torch.arange(10) % 5), (x, y), 3)
    with pytest.raises(ValueError, match="2 streams needs their features side by side, equally many of each, not 7"):
        linear_probe(clusters(10, 0, 1.0, dim=7), clusters(10, 1, 1.0, dim=7), 5, PRESETS["sds_cl"])
    with pytest.raises(ValueError, match="10 of 10 test features are not finite"):
        linear_probe((x, y), (x / 0, y), 5)
