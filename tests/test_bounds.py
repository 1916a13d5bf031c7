"""Numbers of signatures: their limits hold on the command line, in YAML and in Python, and the help tells them."""

import importlib
import inspect
import re
from functools import partial
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import MultiStepLR, OneCycleLR

from skelcl import bounds, losses
from skelcl.bounds import SMALLEST_TEMPERATURE, bounded
from skelcl.data import NWUCLA
from skelcl.data.subsets import LabelSubset
from skelcl.encoders import HCN, LSTM, SCD
from skelcl.errors import InputError
from skelcl.evaluation import FrozenEvaluation, OnlineKNN
from skelcl.evaluation.few_shot import FewShotOptions
from skelcl.evaluation.knn import KNNOptions
from skelcl.evaluation.robustness import RobustnessOptions
from skelcl.methods import ASCAL, SCDNet, Supervised
from skelcl.methods.schedules import WarmupMultiStepLR
from skelcl.nn import Ema, Queue
from skelcl.skeleton import KINECT20
from skelcl.transforms import CropResize, Flip, GaussianBlur, JointMask, Resize, View

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
AS_CAL = EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml"
SCD_NET = EXPERIMENTS / "pretrain" / "scd_net-nw_ucla-small.yaml"
HCN_RUN = EXPERIMENTS / "supervised" / "hcn-nw_ucla.yaml"


def view():
    return View(CropResize(20))


def as_cal(**options):
    return ASCAL(LSTM(KINECT20, hidden=4), view(), view(), **({"queue_size": 8} | options))


def scd_net(**options):
    encoder = SCD(KINECT20, num_frames=16, widths=(8, 8, 8), dim=16, heads=2)
    return SCDNet(encoder, view(), view(), **({"queue_size": 8, "projection": 4} | options))


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: as_cal(temperature=0), "ASCAL: temperature must be at least 1e-06, got 0"),
        (lambda: as_cal(temperature=1e-40), "temperature must be at least 1e-06"),
        (lambda: as_cal(temperature=float("nan")), "temperature must be at least 1e-06, got nan"),
        (lambda: as_cal(temperature=float("inf")), "temperature must be at least 1e-06, got inf"),
        (lambda: as_cal(momentum=1.1), r"momentum must be in \[0, 1\], got 1.1"),
        (lambda: as_cal(momentum=-0.1), "momentum"),
        (lambda: as_cal(queue_size=0), "queue_size must be at least 1, got 0"),
        (lambda: as_cal(queue_size=2.5), "queue_size must be a whole number at least 1, got 2.5"),
        (lambda: as_cal(warmup_epochs=-1), "warmup_epochs must be at least 0, got -1"),
        (lambda: as_cal(optimizer=partial(SGD, lr=0.0)), "optimizer: lr must be above 0, got 0.0"),
        (lambda: as_cal(optimizer=partial(Adam, lr=-1.0)), "optimizer: Invalid learning rate: -1.0"),
        (lambda: as_cal(optimizer=partial(SGD, lr=float("nan"))), "optimizer: "),
        (lambda: as_cal(optimizer=partial(SGD, lr=0.1, momentum=1.5)), r"optimizer: momentum must be in \[0, 1\)"),
        (
            lambda: as_cal(scheduler=partial(MultiStepLR, milestones=[1], gamma=-0.1)),
            "scheduler: gamma must be above 0",
        ),
        (lambda: as_cal(scheduler=partial(OneCycleLR, max_lr=1.0, total_steps=0)), "scheduler: .* total_steps"),
        (lambda: scd_net(weights=(1, 1, 1, -1)), "weights must be at least 0, got -1"),
        (lambda: scd_net(weights=(0, 0, 0, 0)), "all weights are zero"),
        (lambda: Supervised(HCN(KINECT20), view(), view(), 4, label_smoothing=1), r"in \[0, 1\), got 1"),
        (lambda: LSTM(KINECT20, hidden=0), "LSTM: hidden must be at least 1, got 0"),
        (lambda: HCN(KINECT20, dropout=1.0), r"HCN: dropout must be in \[0, 1\), got 1.0"),
        (lambda: Ema(torch.nn.Linear(1, 1), 2.0), "Ema: momentum"),
        (lambda: Queue(0, 4), "Queue: size must be at least 1, got 0"),
        (lambda: WarmupMultiStepLR(SGD([torch.zeros(1)], 0.1), [1], gamma=0), "gamma must be above 0, got 0"),
        (lambda: RobustnessOptions({"jitter": (0.0,)}), "RobustnessOptions: corruptions must be above 0, got 0"),
        (lambda: Resize(0), "Resize: frames must be at least 1, got 0"),
        (lambda: Resize(8, crop=0.0), r"Resize: crop must be in \(0, 1\], got 0.0"),
        (lambda: CropResize(8, (0.0, 1.0)), r"CropResize: crop must be in \(0, 1\], got 0.0"),
        (lambda: CropResize(8, (0.9, 0.5)), "low <= high"),
        (lambda: Flip(1.5), r"Flip: probability must be in \[0, 1\], got 1.5"),
        (lambda: GaussianBlur(0.1, 0.5), "min_sigma must not exceed max_sigma"),
        (lambda: JointMask((5, -1)), "JointMask: joints must be at least 0, got -1"),
        (lambda: OnlineKNN(every_n_epochs=0), "OnlineKNN: every_n_epochs must be at least 1, got 0"),
        (lambda: FrozenEvaluation(k=True), "FrozenEvaluation: k must be a whole number at least 1, got True"),
        (lambda: KNNOptions((1, 0)), "KNNOptions: k must be at least 1, got 0"),
        (lambda: FewShotOptions(ways=0), "ways must be at least 1, got 0"),
        (lambda: LabelSubset(fraction=1.5), r"fraction must be in \(0, 1\], got 1.5"),
        (lambda: NWUCLA("nowhere", batch_size=0), "NWUCLA: batch_size must be at least 1, got 0"),
        (lambda: NWUCLA("nowhere", validation_share=1.0), r"validation_share must be in \(0, 1\), got 1.0"),
    ],
)
def test_python_refuses_what_cannot_work(build, told):
    with pytest.raises(InputError, match=told) as caught:
        build()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("run", "option", "told"),
    [
        (AS_CAL, "--model.temperature=0", "temperature: must be at least 1e-06, got 0"),
        (AS_CAL, "--model.temperature=1e-40", "temperature: must be at least 1e-06, got 1e-40"),
        (AS_CAL, "--model.momentum=1.5", "momentum: must be in [0, 1], got 1.5"),
        (AS_CAL, "--model.queue_size=0", "queue_size: must be at least 1, got 0"),
        (AS_CAL, "--data.batch_size=-4", "batch_size: must be at least 1, got -4"),
        (AS_CAL, "--data.validation_share=0", "validation_share: must be in (0, 1), got 0"),
        (AS_CAL, "--data.fraction=0", "fraction: must be in (0, 1], got 0"),
        (AS_CAL, "--model.encoder.hidden=0", "hidden: must be at least 1, got 0"),
        (AS_CAL, "--knn.k=0", "knn.k: must be at least 1, got 0"),
        (HCN_RUN, "--model.label_smoothing=1.5", "label_smoothing: must be in [0, 1), got 1.5"),
    ],
)
def test_the_command_line_refuses_it_before_anything_is_loaded(skelcl, capsys, run, option, told):
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", "--config", run, "--data.root=nowhere", option)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line
    assert not list(Path().rglob("*.csv"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("evaluate", "--ckpt_path", "x", "--batch_size=0"), "batch_size: must be at least 1, got 0"),
        (("evaluate", "--ckpt_path", "x", "--knn.k=[0]"), "k: must be at least 1, got 0"),
        (("predict", "--input", "x", "--ckpt_path", "x", "--top_k=0"), "top_k: must be at least 1, got 0"),
        (("data", "import", "poses", "--max_failed=2"), "max_failed: must be in [0, 1], got 2"),
        (("plot", "skeleton", "--fps=0"), "fps: must be above 0, got 0"),
    ],
)
def test_so_do_the_other_verbs(skelcl, capsys, words, told):
    with pytest.raises(SystemExit) as stop:
        skelcl(*words)
    assert stop.value.code == 2
    assert told in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("run", "options", "told"),
    [
        (AS_CAL, ["--model.queue_size=7", "--data.batch_size=8"], "queue_size 7 is smaller than the batch of 8 clips"),
        (AS_CAL, ["--model.optimizer.lr=0"], "optimizer: lr must be above 0, got 0"),
        (AS_CAL, ["--model.scheduler.gamma=0"], "scheduler: gamma must be above 0, got 0"),
        (AS_CAL, ["--model.optimizer.lr=-1"], "optimizer: Invalid learning rate: -1"),
        (SCD_NET, ["--model.negatives=batch", "--data.batch_size=1"], "its loss would be zero for ever"),
    ],
)
def test_what_two_options_make_impossible_ends_before_training(skelcl, capfd, ucla, run, options, told):
    quiet = ["--trainer.accelerator=cpu", "--trainer.precision=32-true", "--trainer.max_epochs=1"]
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", "--config", run, f"--data.root={ucla}", *quiet, *options)
    assert stop.value.code == 2
    assert told in capfd.readouterr().err.strip().splitlines()[-1]
    assert not list(Path().rglob("*.ckpt"))


def test_a_queue_may_be_shorter_than_a_batch_that_the_clips_cannot_fill(skelcl, ucla):
    quiet = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"]
    cli = skelcl("fit", "--config", AS_CAL, f"--data.root={ucla}", *quiet, "--data.batch_size=900",
                 "--model.queue_size=60", "--model.encoder.hidden=4")  # fmt: skip
    assert cli.trainer.callback_metrics["train/loss"].isfinite()


def test_the_help_tells_the_bounds(skelcl, capsys):
    with pytest.raises(SystemExit):
        skelcl("fit", "--model.help", "skelcl.methods.ASCAL")
    told = " ".join(capsys.readouterr().out.split())
    assert "--model.temperature TEMPERATURE τ of InfoNCE. (type: float at least 1e-06, default: 0.06)" in told
    assert re.search(r"--model.momentum MOMENTUM .*?\(type: float in \[0, 1\], default: 0.999\)", told)
    assert re.search(r"--model.queue_size QUEUE_SIZE .*?\(type: int at least 1, default: 16384\)", told)


@pytest.mark.parametrize("temperature", [SMALLEST_TEMPERATURE, 1e-40])
def test_the_smallest_temperature_keeps_loss_and_gradient_finite(temperature):
    """Of cosines as far apart as can be; 1e-40 shows what the bound is for."""
    found = []
    for loss in (losses.info_nce, losses.logistic):
        query = torch.eye(4)[:2].requires_grad_()
        positive, negative = losses.contrast(query, -query.detach(), torch.eye(4), temperature)
        value = loss(positive, negative)
        value.backward()
        found += [value.item(), *query.grad.flatten().tolist()]
    tokens = torch.eye(4).view(1, 1, 4, 4).repeat(1, 2, 1, 1).requires_grad_()
    value = losses.token_contrast(tokens, -tokens.detach(), temperature)[0].sum()
    value.backward()
    found += [value.item(), *tokens.grad.flatten().tolist()]
    assert bool(np.isfinite(found).all()) == (temperature == SMALLEST_TEMPERATURE)


def test_a_unit_of_the_last_place_of_a_cosine_is_little_beside_the_smallest_temperature():
    spacing = 1 - np.nextafter(np.float32(1), np.float32(0))
    assert spacing / SMALLEST_TEMPERATURE < 0.1


def test_values_arrive_as_plain_numbers():
    method = as_cal(queue_size=np.int64(16), temperature="0.5")
    assert type(method.temperature) is float
    assert method.temperature == 0.5
    assert len(method.queue) == 16
    assert KNNOptions([1, 5]).k == [1, 5]


@bounded
def halves(share: bounds.Share | None = None, parts: tuple[bounds.PositiveInt, bounds.Share] = (1, 1.0)) -> object:
    return share, parts


def test_alternatives_and_tuples_are_looked_into():
    assert halves() == (None, (1, 1.0))
    assert halves(None, (2.0, 0)) == (None, (2, 0.0))
    for wrong in ({"share": 2}, {"parts": (0, 0.5)}, {"parts": (1, 1.5)}, {"parts": (1,)}):
        with pytest.raises(InputError, match="halves: "):
            halves(**wrong)
    with pytest.raises(TypeError, match="unexpected keyword"):
        halves(shared=1)


ANY = {"last_epoch", "hyperedges", "extractor", "layout"}
"""−1 says that a schedule starts anew; groups are checked against the joints, extractor and layouts by themselves."""

UNNAMED = {"BodyEncoder", "Judge", "Recording"}
"""A base, and what other code fills in."""


def with_numbers():
    """Classes that a YAML or a notebook names, with arguments of their own."""
    for room in ("methods", "encoders", "transforms", "evaluation", "data", "nn"):
        for name, found in vars(importlib.import_module(f"skelcl.{room}")).items():
            if (
                inspect.isclass(found)
                and name not in UNNAMED
                and found.__module__.startswith("skelcl.")
                and "__init__" in vars(found)
            ):
                yield pytest.param(found, id=name)
    for module in ("clustering", "collapse", "early", "few_shot", "knn", "retrieval", "robustness"):
        for name, found in vars(importlib.import_module(f"skelcl.evaluation.{module}")).items():
            if name.endswith("Options"):
                yield pytest.param(found, id=name)


@pytest.mark.parametrize("kind", list(with_numbers()))
def test_every_number_that_a_run_file_can_set_has_bounds(kind):
    own = vars(kind)["__init__"]
    hints = get_type_hints(kind if "__dataclass_fields__" in vars(kind) else own)
    leaves = {name: _leaves(hint) for name, hint in hints.items() if name in inspect.signature(kind).parameters}
    loose = [name for name, found in leaves.items() if (int in found or float in found) and name not in ANY]
    assert not loose, f"{kind.__name__} takes any number as {loose[0]}"
    if any(hasattr(leaf, "_bounds_text") for found in leaves.values() for leaf in found):
        assert hasattr(own, "__wrapped__"), f"{kind.__name__} is not @bounded"


def _leaves(hint):
    parts = hint if isinstance(hint, list) else get_args(hint)
    return [leaf for part in parts for leaf in _leaves(part)] or [hint]
