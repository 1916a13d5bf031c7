"""Genuine files of the published programs: whole, with all that they hold beside the weights."""

import argparse
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from skelcl.interop import load_reference
from skelcl.interop.detection import count_parameters, recognise
from skelcl.interop.reference import NETWORKS
from skelcl.interop.std_cl import HEADS
from skelcl.runs.loading import load
from skelcl.skeleton import KINECT20, NTU25

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture
def command(skelcl, tmp_path):
    """Runs a command in an empty folder that has the experiments."""
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    return skelcl


def lstm_state(width, hidden, layers=1, seed=0):
    torch.manual_seed(seed)
    return {f"bi_lstm.{name}": value for name, value in nn.LSTM(width, hidden, layers).state_dict().items()}


def as_cal_file(width=60, hidden=12, layers=1, keys=40):
    """What AS-CAL's pre-training saves, and its two networks."""
    query, key = (lstm_state(width, hidden, layers, seed) for seed in (0, 1))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.01, momentum=0.9)
    content = {
        "opt": argparse.Namespace(nce_k=keys, betas=(0.5, 0.9), dataset="NUCLA", lr_decay_epochs=[30]),
        "model": query,
        "contrast": {"memory": torch.randn(keys, hidden), "params": torch.tensor([-1])},
        "optimizer": optimizer.state_dict(),
        "epoch": 60,
        "model_ema": key,
    }
    return content, query, key


def on(ucla):
    return {"data": {"class_path": "NWUCLA", "init_args": {"root": str(ucla)}}}


@pytest.mark.parametrize(("layers", "parallel"), [(1, False), (2, True)])
def test_pre_training_of_as_cal_is_imported_whole(command, ucla, capsys, layers, parallel):
    content, query, key = as_cal_file(layers=layers)
    if parallel:
        content |= {part: {f"module.{n}": v for n, v in content[part].items()} for part in ("model", "model_ema")}
    torch.save(content, "current.pth", _use_new_zipfile_serialization=not parallel)
    command("checkpoint", "inspect", "current.pth")
    assert "weights of as-cal, joints 20, persons 1" in capsys.readouterr().out
    command("checkpoint", "import", "--input", "current.pth", "--output", "as_cal.ckpt")
    method, data = load("as_cal.ckpt", changes=on(ucla))
    assert type(method).__name__ == "ASCAL"
    clips = data.store.clips(data.parts["test"][:4], 1)
    with torch.no_grad():
        x = method.eval_view(clips)
        for network, weights in ((method.encoder, query), (method.key, key)):
            reference = load_reference("as-cal", weights, skeleton="kinect20", num_persons=1)
            torch.testing.assert_close(network(x), reference(x))
        torch.testing.assert_close(
            method(clips), load_reference("as-cal", query, skeleton="kinect20", num_persons=1)(x)
        )
    assert x.shape == (4, 3, 60, 20, 1)
    assert torch.equal(method.queue.keys, content["contrast"]["memory"])
    assert method.queue.pushed == 40


def test_the_run_is_judged(command, ucla):
    torch.save(as_cal_file()[0], "current.pth")
    command("checkpoint", "import", "--input", "current.pth", "--output", "as_cal.ckpt")
    quick = ["--trainer.accelerator=cpu", "--evaluation.figures=false", "--evaluation.random_encoder=false"]
    cli = command("test", "--ckpt_path", "as_cal.ckpt", f"--data.root={ucla}", *quick)
    assert 0 <= cli.trainer.callback_metrics["test/knn_top1"] <= 1


def test_the_encoder_of_as_cal_alone_is_a_run_with_an_empty_queue(command, ucla):
    torch.save({"model": lstm_state(60, 12)}, "model.pth")
    command("checkpoint", "import", "--input", "model.pth", "--output", "as_cal.ckpt")
    method, _ = load("as_cal.ckpt", changes=on(ucla))
    assert method.queue.pushed == 0
    for one, other in zip(method.encoder.parameters(), method.key.parameters(), strict=True):
        assert torch.equal(one, other)


def test_as_cal_trained_with_labels_is_judged_by_its_classifier(command, ucla):
    weight, bias = torch.randn(10, 12), torch.arange(10.0)
    state = {**lstm_state(60, 12), "classifier.weight": weight, "classifier.bias": bias}
    torch.save({"opt": argparse.Namespace(), "model": state, "best_acc1": torch.tensor([50.0])}, "supervised.pth")
    command("checkpoint", "import", "--input", "supervised.pth", "--output", "as_cal.ckpt")
    method, data = load("as_cal.ckpt", changes=on(ucla))
    clips = data.store.clips(data.parts["test"][:4], 1)
    with torch.no_grad():
        encoding = load_reference("as-cal", lstm_state(60, 12), skeleton="kinect20", num_persons=1)(
            method.eval_view(clips)
        )
        torch.testing.assert_close(method.classify(method(clips)), encoding @ weight.T + bias)


@pytest.mark.parametrize(
    ("width", "joints", "persons"), [(60, 20, 1), (75, 25, 1), (150, 25, 2), (90, 15, 2), (45, None, None)]
)
def test_the_width_of_the_input_tells_joints_and_bodies(width, joints, persons):
    found = recognise(lstm_state(width, 4))
    assert (found.name, found.num_joints, found.num_persons, found.dim) == ("as-cal", joints, persons, 4)


REFUSED = {
    "a classifier alone": (
        {"opt": argparse.Namespace(), "classifier": {"weight": torch.zeros(10, 12), "bias": torch.zeros(10)}},
        "one linear layer alone, as AS-CAL's linear evaluation saves",
    ),
    "another layer beside the network": (
        {"model": {**lstm_state(60, 12), "head.0.weight": torch.zeros(2, 2)}},
        r"no state dict of AS-CAL: head\.0\.weight",
    ),
    "a tensor less": (
        {"model": {name: value for name, value in lstm_state(60, 12).items() if "bias_hh" not in name}},
        "bias_hh_l0 is missing",
    ),
    "SBU's joints": ({"model": lstm_state(90, 12)}, "its joints are of no layout that is known for as-cal"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_run_of_as_cal_is_refused(command, capfd, case):
    content, message = REFUSED[case]
    torch.save(content, "x.pth")
    with pytest.raises(SystemExit) as stop:
        command("checkpoint", "import", "--input", "x.pth", "--output", "x.ckpt")
    assert stop.value.code == 1
    assert re.search(rf"error: x\.pth: .*{message}", capfd.readouterr().err)
    assert not Path("x.ckpt").exists()


def published_state(name, num_classes=10, num_frames=32):
    random = torch.Generator().manual_seed(1)
    module, layout = NETWORKS[name](KINECT20, num_classes, num_frames, 1)
    drawn = {key: 0.1 * torch.randn(shape, generator=random) for key, shape in layout.shapes(module).items()}
    state = {key: value.abs() + 1 if key.endswith("running_var") else value for key, value in drawn.items()}
    return {key: torch.tensor(7) if key.endswith("num_batches_tracked") else value for key, value in state.items()}


@pytest.mark.parametrize("new_format", [True, False])
def test_hcn_with_its_numbers_of_numpy(command, capsys, new_format):
    """Its program keeps the best accuracy, an epoch and a learning rate of NumPy's types beside the weights."""
    content = {
        "epoch": np.int64(399),
        "state_dict": published_state("hcn"),
        "optimizer": {"state": {}, "param_groups": [{"lr": np.float64(1e-3), "params": [0]}]},
        "test_acc": {"best": np.float32(0.9), "names": ["a"], "which": np.bool_(True)},
    }
    torch.save(content, "hcn.pth", _use_new_zipfile_serialization=new_format)
    command("checkpoint", "inspect", "hcn.pth")
    assert "weights of hcn, classes 10, joints 20, frames 32" in capsys.readouterr().out
    command("checkpoint", "import", "--input", "hcn.pth", "--output", "hcn.ckpt")
    assert Path("hcn.ckpt").exists()


def heads_of_std_cl():
    return {name: torch.ones(3) for name in HEADS}


@pytest.mark.parametrize("name", ["ctr-gcn", "2s-agcn", "hyperformer", "hcn"])
def test_heads_of_std_cl_have_no_part_in_the_network(command, name):
    state = published_state(name)
    assert len(HEADS) == 8
    torch.save({f"module.{key}": value for key, value in (state | heads_of_std_cl()).items()}, "std.pt")
    torch.save(state, "plain.pt")
    for file in ("std", "plain"):
        command("checkpoint", "import", "--input", f"{file}.pt", "--output", f"{file}.ckpt")
    found, expected = (torch.load(f"{file}.ckpt", weights_only=True)["state_dict"] for file in ("std", "plain"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_seven_heads_of_std_cl_are_none(command, capfd):
    torch.save(published_state("ctr-gcn") | {name: torch.ones(3) for name in HEADS[1:]}, "std.pt")
    with pytest.raises(SystemExit):
        command("checkpoint", "import", "--input", "std.pt", "--output", "std.ckpt")
    assert "std.convt.bias is unexpected" in capfd.readouterr().err


def test_parameters_of_sds_cl_are_those_that_were_learned():
    """7,501,820 by the shapes of the published network; its file holds positions and constant maps, too."""
    module, layout = NETWORKS["sds-cl"](NTU25, 60, 0, 2)
    state = {name: torch.zeros(shape) for name, shape in layout.shapes(module).items()}
    assert count_parameters(state) == 7_501_820
    constants = {name: torch.zeros(1, 256, 50, 25) for name in layout.constants}
    assert len(constants) == 16
    assert count_parameters(state | constants) == 7_501_820
