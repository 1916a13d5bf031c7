"""The learning rates that the papers print, epoch by epoch."""

import math

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR

from skelcl.errors import OptionError
from skelcl.methods import WarmupCosineLR, WarmupMultiStepLR


def rates(lr, epochs, make):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler, found = make(optimizer), []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_ctr_gcn():
    found = rates(0.1, 65, lambda optimizer: WarmupMultiStepLR(optimizer, [35, 55]))
    assert found == pytest.approx([0.02, 0.04, 0.06, 0.08] + [0.1] * 31 + [0.01] * 20 + [0.001] * 10)


def test_hyperformer():
    found = rates(0.025, 140, lambda optimizer: WarmupMultiStepLR(optimizer, [110, 120]))
    assert found == pytest.approx([0.005, 0.01, 0.015, 0.02] + [0.025] * 106 + [0.0025] * 10 + [0.00025] * 20)


def test_hcn_needs_no_class_of_ours():
    found = rates(1e-3, 101, lambda optimizer: ExponentialLR(optimizer, 0.99))
    assert found[100] == pytest.approx(3.660e-4, rel=1e-4)
    assert found == pytest.approx([1e-3 * 0.99**epoch for epoch in range(101)])


def test_without_warm_up_it_is_torchs_own():
    steps = rates(1.0, 12, lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 3, 7], 0.5))
    assert rates(1.0, 12, lambda optimizer: WarmupMultiStepLR(optimizer, [3, 3, 7], 0.5, 0)) == pytest.approx(steps)


def test_it_goes_on_where_it_stopped():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = WarmupMultiStepLR(optimizer, [6])
    whole = rates(0.1, 9, lambda optimizer: WarmupMultiStepLR(optimizer, [6]))
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    states = optimizer.state_dict(), scheduler.state_dict()
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = WarmupMultiStepLR(optimizer, [6])
    optimizer.load_state_dict(states[0])
    scheduler.load_state_dict(states[1])
    rest = []
    for _ in range(6):
        rest.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rest == whole[3:]


@pytest.mark.parametrize(
    ("lr", "options", "values"),
    [
        (
            1e-3,
            {"epochs": 400, "warmup_epochs": 20, "min_lr": 5e-4},
            {0: 0, 10: 5e-4, 20: 1e-3, 115: 9.26777e-4, 210: 7.5e-4, 305: 5.73223e-4},
        ),
        (
            3e-4,
            {"epochs": 100, "warmup_epochs": 5, "min_lr": 1e-5},
            {2.5: 1.5e-4, 52.5: 1.55e-4, 99: 1.00793e-5, 120: 1e-5},
        ),
        (0.1, {"epochs": 100}, {0: 0.1, 50: 0.05, 99: 2.46720e-5}),
    ],
)
def test_mamp_step_by_step(lr, options, values):
    """Two steps in an epoch; a second group has a quarter of the rate."""
    groups = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": groups[:1]}, {"params": groups[1:], "lr": lr / 4}], lr=lr)
    scheduler = WarmupCosineLR(optimizer, **options)
    scheduler.steps_per_epoch = 2
    found = {}
    for step in range(2 * max(map(math.ceil, values)) + 1):
        found[step / 2] = [group["lr"] for group in optimizer.param_groups]
        optimizer.step()
        scheduler.step()
    for epoch, value in values.items():
        assert found[epoch] == pytest.approx([value, value / 4], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"epochs": 5, "warmup_epochs": 5}, "warmup_epochs=5 leave nothing of epochs=5"),
        ({"epochs": 5, "min_lr": 0.2}, "min_lr=0.2 is above the optimizer's lr=0.1"),
    ],
)
def test_a_cosine_that_cannot_be(options, told):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(OptionError, match=told):
        WarmupCosineLR(optimizer, **options)
