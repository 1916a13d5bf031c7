"""What methods share: when the hook after the optimiser's step is called, and which parameters decay."""

from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader

from skelcl import methods
from skelcl.methods.base import Method, decay_groups

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


class Recorder(Method):
    """One weight, whose gradient is 1; remembers what it was whenever the hook is called."""

    def __init__(self):
        super().__init__(nn.Identity(), nn.Identity(), partial(SGD, lr=1.0))
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        return self.weight

    def on_after_optimizer_step(self):
        self.seen.append(self.weight.item())


@pytest.mark.parametrize(
    ("accumulate", "weights"),
    [(1, [-1, -2, -3, -4, -5]), (2, [-1, -2, -2.5]), (3, [-1, -1 - 2 / 3])],
)
def test_the_hook_comes_once_for_each_step_of_the_optimiser_and_after_it(accumulate, weights):
    method = Recorder()
    trainer = pl.Trainer(max_epochs=1, accumulate_grad_batches=accumulate, accelerator="cpu", **QUIET)
    # Five batches leave an accumulation unfilled; Lightning steps on what there is.
    trainer.fit(method, DataLoader(torch.zeros(5), batch_size=1))
    assert method.seen == pytest.approx(weights)


def test_nobody_is_warned_of_the_hook_where_a_schedule_accumulates():
    """Warnings are errors here."""
    method = Recorder()
    schedule = GradientAccumulationScheduler({0: 2, 1: 1})
    trainer = pl.Trainer(max_epochs=2, callbacks=[schedule], accelerator="cpu", **QUIET)
    trainer.fit(method, DataLoader(torch.zeros(4), batch_size=1))
    assert method.seen == [-1, -2, -3, -4, -5, -6]


class Skipping(MixedPrecision):
    """Skips every other step, as the gradient scaler of float16 does where gradients overflow."""

    def __init__(self):
        super().__init__("bf16-mixed", "cpu")
        self.count = 0

    def optimizer_step(self, optimizer, model, closure, **kwargs):
        self.count += 1
        if self.count % 2:
            return super().optimizer_step(optimizer, model, closure, **kwargs)
        return closure()


def test_the_hook_comes_also_where_the_scaler_skips_the_step():
    method = Recorder()
    trainer = pl.Trainer(max_epochs=1, plugins=[Skipping()], accelerator="cpu", **QUIET)
    trainer.fit(method, DataLoader(torch.zeros(4), batch_size=1))
    assert method.seen == [-1, -1, -2, -2]


def test_groups_keep_the_order_of_the_parameters():
    module = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Conv1d(3, 2, 1, bias=False), nn.Embedding(4, 2))
    module.position = nn.Parameter(torch.zeros(2, 2))
    module[0].weight.requires_grad_(False)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    groups = decay_groups(module)
    found = [[names[id(parameter)] for parameter in group["params"]] for group in groups]
    assert found == [["2.weight"], ["position", "0.bias", "1.weight", "1.bias", "3.weight"]]
    assert [group.get("weight_decay") for group in groups] == [None, 0.0]
    found = [[names[id(parameter)] for parameter in group["params"]] for group in decay_groups(module, tables=True)]
    assert found == [["position", "2.weight", "3.weight"], ["0.bias", "1.weight", "1.bias"]]


@pytest.mark.parametrize(("module", "decay"), [(nn.Linear(2, 2, bias=False), 0.5), (nn.LayerNorm(2), 0.0)])
def test_a_group_without_parameters_is_left_out(module, decay):
    optimizer = SGD(decay_groups(module), lr=0.1, weight_decay=0.5)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [decay]


def test_steps_and_optimisers_are_made_in_one_place():
    kinds = [kind for kind in vars(methods).values() if isinstance(kind, type) and issubclass(kind, Method)]
    assert {kind for kind in kinds if "configure_optimizers" in vars(kind)} == {Method}
    assert {kind for kind in kinds if "optimizer_step" in vars(kind)} == {
        Method,
        methods.ASCAL,
    }  # whose warm-up has none
