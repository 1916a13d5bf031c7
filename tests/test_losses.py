"""Closed forms and a slow twin for each loss."""

import math

import pytest
import torch
from torch.nn import functional as F

from skelcl import losses

QUEUE = torch.tensor([[1.0, 0], [0, 1], [-1, 0]])


def slow_info_nce(query, key, negatives, temperature):
    """Sample after sample, in float64, with the softmax written out."""
    total = 0.0
    for q, k in zip(query.double(), key.double(), strict=True):
        logits = [float(q @ k) / temperature, *(float(q @ n) / temperature for n in negatives.double())]
        top = max(logits)
        total += top + math.log(sum(math.exp(x - top) for x in logits)) - logits[0]
    return total / len(query)


@pytest.mark.parametrize(("temperature", "expected"), [(0.5, 0.767164), (0.06, math.log(2))])
def test_info_nce_of_one_query(temperature, expected):
    q = torch.tensor([[1.0, 0]])
    assert losses.info_nce(*losses.contrast(q, q, QUEUE, temperature)).item() == pytest.approx(expected, abs=1e-6)


def test_info_nce_of_a_batch():
    query, key = torch.tensor([[1.0, 0], [0, 2]]), torch.tensor([[1.0, 0], [1, 1]])
    single = losses.info_nce(*losses.contrast(query[1:], key[1:], QUEUE, 0.5)).item()
    assert single == pytest.approx(0.711297, abs=1e-6)
    assert losses.info_nce(*losses.contrast(query, key, QUEUE, 0.5)).item() == pytest.approx(0.739231, abs=1e-6)


@pytest.mark.parametrize(("size", "chance"), [(16384, 9.704122), (500, 6.216606), (200, 5.303305)])
def test_info_nce_of_equal_similarities_is_chance(size, chance):
    ones = torch.ones(4, 8)
    loss = losses.info_nce(*losses.contrast(ones, ones, torch.ones(size, 8), 0.06))
    assert loss.item() == pytest.approx(chance, abs=1e-4)


def test_info_nce_gradient_reaches_only_the_query():
    query = torch.zeros(1, 2, requires_grad=True)
    loss = losses.info_nce(*losses.contrast(query, torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 1]]), 1.0))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert query.grad.tolist() == [[-0.5, 0.5]]


@pytest.mark.parametrize("temperature", [0.06, 0.2, 1.0])
def test_info_nce_equals_its_slow_twin_and_cross_entropy(temperature):
    query, key, negatives = torch.randn(6, 16), torch.randn(6, 16), torch.randn(40, 16)
    positive, negative = losses.contrast(query, key, negatives, temperature)
    loss = losses.info_nce(positive, negative).item()
    assert loss == pytest.approx(slow_info_nce(query, key, negatives, temperature), rel=1e-5)
    logits = torch.cat([positive[:, None], negative], 1)
    assert loss == pytest.approx(F.cross_entropy(logits, torch.zeros(6, dtype=torch.int64)).item(), rel=1e-5)


def test_a_masked_negative_does_not_exist():
    query, key, negatives = torch.randn(3, 8), torch.randn(3, 8), torch.randn(10, 8)
    same = torch.zeros(3, 10, dtype=torch.bool)
    same[:, 4] = True
    masked = losses.info_nce(*losses.contrast(query, key, negatives, 0.1, same))
    without = losses.info_nce(*losses.contrast(query, key, torch.cat([negatives[:4], negatives[5:]]), 0.1))
    assert masked.item() == pytest.approx(without.item(), rel=1e-6)


def test_ablation_losses():
    positive, negative = torch.tensor([0.5]), torch.tensor([[0.2, -0.4]])
    assert losses.margin(positive, negative).item() == pytest.approx(0.4)
    assert losses.logistic(positive, negative).item() == pytest.approx(0.595077, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_similarities_stay_float32_under_autocast(dtype):
    query, key, negatives = torch.randn(4, 16), torch.randn(4, 16), torch.randn(32, 16)
    expected = losses.contrast(query, key, negatives, 0.06)
    with torch.autocast("cpu", dtype):
        found = losses.contrast(query, key, negatives, 0.06)
    for a, b in zip(expected, found, strict=True):
        assert b.dtype == torch.float32
        assert torch.equal(a, b)


def test_similarities_of_float64_stay_float64():
    query, key, negatives = (torch.randn(n, 16, dtype=torch.float64) for n in (4, 4, 32))
    positive, negative = losses.contrast(query, key, negatives, 0.5)
    assert positive.dtype == negative.dtype == torch.float64
    expected = slow_info_nce(query, key, negatives, 0.5)
    assert losses.info_nce(positive, negative).item() == pytest.approx(expected, rel=1e-13)
