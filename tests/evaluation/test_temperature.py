"""One temperature for all logits, against closed forms and scipy; the calibration error against a slow loop."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch.nn import functional as F

from skelcl.errors import InputError
from skelcl.evaluation.temperature import BOUNDS, BeforeAfter, Calibration, calibrate, expected_calibration_error


@given(sure=st.floats(0.5, 8), right=st.integers(26, 49), shift=st.floats(-3, 3))
def test_two_classes_that_are_always_as_sure_have_a_closed_form(sure, right, shift):
    """σ(a/T) must be the accuracy q, hence T = a / ln(q / (1 − q))."""
    logits = shift + torch.tensor([[sure, 0.0]]).repeat(50, 1)
    label = (torch.arange(50) >= right).long()
    found = calibrate(logits, label)
    q = right / 50
    assert found.temperature == pytest.approx(sure / math.log(q / (1 - q)), rel=1e-4)
    assert found.ece.after == pytest.approx(0, abs=1e-5)
    assert found.ece.before == pytest.approx(abs(q - 1 / (1 + math.exp(-sure))), abs=1e-5)
    assert found.nll.after == pytest.approx(-q * math.log(q) - (1 - q) * math.log(1 - q), rel=1e-4)
    assert found.clips == 50


@given(seed=st.integers(0, 1000), classes=st.integers(2, 6), size=st.floats(0.5, 20))
def test_the_likelihood_is_greatest(seed, classes, size):
    random = torch.Generator().manual_seed(seed)
    logits = size * torch.randn(60, classes, generator=random)
    noisy = logits / size + torch.randn(60, classes, generator=random)
    label = noisy.argmax(1)

    def nll(log_temperature):
        return float(F.cross_entropy(logits.double() / math.exp(log_temperature), label))

    expected = minimize_scalar(nll, bounds=[math.log(one) for one in BOUNDS], method="bounded")
    found = calibrate(logits, label)
    assert found.nll.after == pytest.approx(expected.fun, abs=1e-8)
    assert math.log(found.temperature) == pytest.approx(expected.x, abs=1e-3)
    assert found.nll == pytest.approx((nll(0), nll(math.log(found.temperature))))
    assert found.nll.after <= found.nll.before + 1e-12


@pytest.mark.parametrize(("wrong", "bound"), [(0, BOUNDS[0]), (1, BOUNDS[1])])
def test_what_has_no_best_temperature_ends_at_a_bound(wrong, bound):
    label = torch.arange(12) % 2
    found = calibrate(3 * F.one_hot((label + wrong) % 2, 2).float(), label)
    assert found.temperature == pytest.approx(bound, rel=1e-6)


@given(seed=st.integers(0, 1000), classes=st.integers(1, 5), bins=st.integers(1, 20))
def test_the_calibration_error_of_a_slow_loop(seed, classes, bins):
    random = torch.Generator().manual_seed(seed)
    probability = (4 * torch.randn(40, classes, generator=random)).softmax(1).double()
    label = torch.randint(classes, (40,), generator=random)
    expected = 0.0
    for n in range(bins):
        inside = [i for i in range(40) if n / bins < float(probability[i].max()) <= (n + 1) / bins]
        if inside:
            accuracy = sum(int(probability[i].argmax()) == int(label[i]) for i in inside) / len(inside)
            sureness = sum(float(probability[i].max()) for i in inside) / len(inside)
            expected += len(inside) / 40 * abs(accuracy - sureness)
    assert expected_calibration_error(probability, label, bins) == pytest.approx(expected, abs=1e-9)


def test_plain_values_and_words():
    found = Calibration(1.834, 120, BeforeAfter(1.5, 0.9), BeforeAfter(0.12, 0.03))
    assert found.to_dict() == {
        "temperature": 1.834,
        "clips": 120,
        "nll": {"before": 1.5, "after": 0.9},
        "ece": {"before": 0.12, "after": 0.03},
    }
    assert str(found) == "temperature 1.83, fitted on 120 training clips held out, calibration error 0.120 → 0.030"
    with pytest.raises(InputError, match="temperature must be above 0"):
        Calibration(0.0, 1, BeforeAfter(0, 0), BeforeAfter(0, 0))
