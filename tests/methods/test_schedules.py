"""The learning rates that the papers print, epoch by epoch."""

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR

from skelcl.methods import WarmupMultiStepLR


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
