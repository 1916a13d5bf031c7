"""Training stays on the device of its clips and never waits for them, whatever the device.

No accelerator is needed: PyTorch's meta device stands for one. Its tensors have shapes and no values, so whatever asks
for a value (a size, a branch, a copy to the CPU) fails, and a fake mode refuses operations between two devices.
"""

import contextlib
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import lightning.pytorch as pl
import pytest
import torch
import yaml
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from skelcl import transforms
from skelcl.clips import Clips
from skelcl.errors import InputError
from skelcl.evaluation.record import environment
from skelcl.runs.config import resolved_config
from skelcl.runs.loading import load
from skelcl.skeleton import NTU25
from skelcl.transforms import (
    ChannelMask,
    CropResize,
    CubeMask,
    EvenFrames,
    Flip,
    GaussianBlur,
    GaussianNoise,
    JointMask,
    Normalize,
    RandomFrames,
    ReflectCrop,
    Resize,
    Reverse,
    Rotate,
    RotateMinMax,
    Sampler,
    Shear,
    Step,
    Stream,
    StructureMask,
    Truncate,
    View,
)
from skelcl.transforms.normalize import Recipe

MODE = FakeTensorMode(allow_non_fake_inputs=True)  # one for all: what is computed once for a device is kept

FEW = ("--model.shrink_positives=true", "--model.negatives=2")
RUNS = {
    "supervised/agcn-ntu.yaml": (),
    "supervised/ctr_gcn-ntu.yaml": (),
    "supervised/hyperformer-ntu.yaml": (),
    "supervised/std_cl-hcn-ntu.yaml": FEW,
    "pretrain/as_cal-nw_ucla.yaml": (),
    "pretrain/scd_net-nw_ucla-small.yaml": (),
    "pretrain/sds_cl-nw_ucla-small.yaml": (),
    "pretrain/skeleton_clr-nw_ucla-small.yaml": (),
    "pretrain/mamp-nw_ucla-small.yaml": (),
}


@pytest.fixture
def device(monkeypatch):
    """The meta device, which these functions of PyTorch do not know."""
    autocast, enabled, generator = torch.autocast, torch.is_autocast_enabled, torch.Generator
    known = {
        "autocast": lambda name, *rest, **more: (
            contextlib.nullcontext() if name == "meta" else autocast(name, *rest, **more)
        ),
        "is_autocast_enabled": lambda name: name != "meta" and enabled(name),
        "Generator": lambda name="cpu": generator("cpu" if str(name) == "meta" else name),
    }
    for name, function in known.items():
        monkeypatch.setattr(torch, name, function)
    return torch.device("meta")


@pytest.mark.parametrize("file", RUNS)
def test_a_training_step_stays_on_its_device_and_never_waits(file, device, drawn_checkpoint, tmp_path, monkeypatch):
    path = drawn_checkpoint(tmp_path / "run.ckpt", file, "--data.batch_size=2", *RUNS[file])
    method, data = load(path)
    options = {"limit_train_batches": 1, "limit_val_batches": 0, "max_epochs": 1, "accelerator": "cpu"}
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    pl.Trainer(**options, **quiet).fit(method.train(), data)
    clips = data.transfer_batch_to_device(next(iter(data.train_dataloader())), device, 0)
    monkeypatch.setattr(method, "log", lambda *_, **__: None)
    monkeypatch.setattr(method, "log_dict", lambda *_, **__: None)
    method.to(device).zero_grad()
    with MODE:
        loss = method.training_step(clips, 0)["loss"]
        loss.backward()
    gradients = [parameter.grad for parameter in method.parameters() if parameter.requires_grad]
    assert loss.device == device
    assert gradients
    assert {gradient.device for gradient in gradients if gradient is not None} == {device}


SAMPLERS = (
    CropResize(16),
    EvenFrames(16),
    RandomFrames(16),
    ReflectCrop(16),
    Resize(16),
    Truncate(16),
)
STEPS = (
    ChannelMask(),
    CubeMask(),
    Flip(0.5, "x"),
    GaussianBlur(),
    GaussianNoise(),
    JointMask(frames=(2, 6)),
    Reverse(valid_only=True),
    Rotate(),
    Shear(),
    StructureMask(),
    Stream("bone_motion"),
)
RECIPES = ("root", "sgn", "agcn", "stgcn50", "hcn", "sds")
WAITING = (Normalize("ucla_minmax"), RotateMinMax())


def test_no_part_of_a_view_is_forgotten():
    parts = [value for value in vars(transforms).values() if isinstance(value, type) and not inspect.isabstract(value)]
    given = {type(part) for part in (*SAMPLERS, *STEPS, *WAITING)}
    assert {part for part in parts if issubclass(part, (Sampler, Step, Normalize))} == given
    assert set(get_args(Recipe)) == {"none", *RECIPES, *(part.recipe for part in WAITING)}


def clips_on(device, gaps):
    """Two clips with a body each, the second with another."""
    frames, bodies = torch.tensor([20, 30]), torch.tensor([1, 2])
    rows, number = frames * bodies, torch.arange(2)
    joints = torch.randn(int(rows.sum()), 25, 3)
    clips = Clips(joints, rows.cumsum(0) - rows, frames, bodies, 0 * number, number, number, NTU25, 2, gaps)
    return clips.to(device)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize(
    "view",
    [
        *(pytest.param(View(sample), id=type(sample).__name__) for sample in SAMPLERS),
        *(pytest.param(View(Resize(16), Normalize(recipe, "torso")), id=recipe) for recipe in RECIPES),
        *(pytest.param(View(Resize(16), Normalize("sgn"), [step]), id=type(step).__name__) for step in STEPS),
    ],
)
def test_a_view_stays_on_its_device_and_never_waits(view, gaps, device):
    clips = clips_on(device, gaps)
    generator = torch.Generator(device)
    with MODE:
        assert view(clips, generator).device == device
        assert {x.device for x in (*view.pair(clips, generator), *view.with_motion(clips, generator))} == {device}


@pytest.mark.parametrize("normalize", WAITING, ids=["ucla_minmax", "RotateMinMax"])
def test_only_the_box_of_a_clip_has_to_wait(normalize, device):
    clips = clips_on(device, gaps=False)
    with MODE, pytest.raises(DynamicOutputShapeException, match="repeat_interleave"):
        View(Resize(16), normalize)(clips, torch.Generator(device))


def test_the_device_notices_the_cpu_and_questions(device):
    x = torch.zeros(3, device=device)
    with MODE:
        with pytest.raises(RuntimeError, match="same device"):
            x + torch.zeros(3)
        with pytest.raises(DataDependentOutputException):
            x.max().item()


def test_only_runs_on_a_gpu_pin_their_batches(drawn_checkpoint, tmp_path, monkeypatch):
    _, data = load(drawn_checkpoint(tmp_path / "run.ckpt", "pretrain/as_cal-nw_ucla.yaml"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for kind in ("cpu", "cuda"):
        data.trainer = SimpleNamespace(
            world_size=1, global_rank=0, strategy=SimpleNamespace(root_device=torch.device(kind))
        )
        assert all(loader.pin_memory == (kind == "cuda") for loader in data.test_dataloader())


def test_a_run_on_a_gpu_tells_how_exact_its_convolutions_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"a card at {device}")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    found = environment(torch.device("cuda:1"))
    assert found["hardware"] == "a card at cuda:1"
    assert found["tf32"] == {"convolutions": True, "products": False}
    assert "tf32" not in environment(torch.device("cpu"))


def test_a_run_takes_one_device_and_a_test_does_whatever_the_run_took(drawn_checkpoint, tmp_path, skelcl, capsys):
    file = Path(__file__).parents[1] / "experiments" / "pretrain" / "as_cal-nw_ucla.yaml"
    assert yaml.safe_load(resolved_config(["--config", str(file)]))["trainer"]["devices"] == 1
    many = ("--trainer.devices=8", "--trainer.num_nodes=2", "--trainer.strategy=ddp")
    path = drawn_checkpoint(tmp_path / "run.ckpt", "pretrain/as_cal-nw_ucla.yaml", *many)
    method, _ = load(path)
    saved = torch.load(path) | {"state_dict": method.state_dict()}
    torch.save(saved, path)
    skelcl("test", "--ckpt_path", path, "--evaluation.probe=moco_linear", "--evaluation.figures=false")
    assert "linear probe" in capsys.readouterr().out


def test_each_process_needs_a_clip_to_evaluate(drawn_checkpoint, tmp_path):
    _, data = load(drawn_checkpoint(tmp_path / "run.ckpt", "pretrain/as_cal-nw_ucla.yaml"))
    device = SimpleNamespace(root_device=torch.device("cpu"))
    data.trainer = SimpleNamespace(world_size=1000, global_rank=0, strategy=device)
    with pytest.raises(InputError, match="18 clips to evaluate on 1000 processes"):
        data.test_dataloader()


def test_processes_of_torchrun_do_not_each_run_it_all(monkeypatch, skelcl, ucla, capsys):
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    file = Path(__file__).parents[1] / "experiments" / "pretrain" / "as_cal-nw_ucla.yaml"
    with pytest.raises(SystemExit) as stopped:
        skelcl("fit", "--config", file, f"--data.root={ucla}")
    assert stopped.value.code == 1
    assert "torchrun started 2 processes, but the run takes 1: add --trainer.devices" in capsys.readouterr().err
    assert not Path("runs").exists()
