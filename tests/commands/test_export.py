"""`skelcl export`: a checkpoint alone becomes a file that other programs run, with all that they have to know."""

import copy
import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from skelcl.cli import run
from skelcl.commands.export import exported
from skelcl.encoders import LSTM
from skelcl.methods import STDCL, FineTune
from skelcl.nn import Bank
from skelcl.nn.heads import Classifier
from skelcl.runs.loading import load
from skelcl.skeleton import NTU25

AS_CAL = ["pretrain/as_cal-nw_ucla.yaml", "--model.encoder.hidden=8", "--model.queue_size=32"]
SDS_CL = ["pretrain/sds_cl-nw_ucla-small.yaml", "--model.encoder.blocks=[[8, 4, 1], [16, 4, 2]]"]


@pytest.fixture(scope="module")
def as_cal(tmp_path_factory, drawn_checkpoint):
    return drawn_checkpoint(tmp_path_factory.mktemp("as_cal") / "as_cal.ckpt", *AS_CAL)


def test_a_self_supervised_run_becomes_its_encoder(as_cal, skelcl, tmp_path, capfd):
    skelcl("export", "--ckpt_path", as_cal, "--format", "safetensors", "--output", "net.safetensors")
    assert "differ by 0.0e+00" in capfd.readouterr().out
    encoder = LSTM(NTU25, num_persons=2, hidden=8)
    encoder.load_state_dict(load_file(tmp_path / "net.safetensors"), strict=True)
    method, data = load(as_cal)
    clips = data.store.clips(data.parts["test"], 2)
    assert torch.equal(encoder(method.eval_view(clips)), method(clips))
    with safe_open(tmp_path / "net.safetensors", "pt") as file:
        facts = json.loads(file.metadata()["skelcl"])
    assert facts["classes"] == ["walk around", "throw", "handshake"]
    assert facts["layout"]["joints"] == list(NTU25.joints)
    assert facts["input"] == {"x": ["N", 3, facts["frames"], 25, 2]}
    assert facts["outputs"] == ["features"]
    assert facts["view"]["class_path"] == "skelcl.transforms.View"
    assert facts["stream"]["kind"] == "joint"
    assert list(tmp_path.iterdir()) == [tmp_path / "net.safetensors"]


@pytest.mark.slow
def test_onnx_of_a_run_gives_the_features_of_the_run(as_cal, skelcl, tmp_path):
    import onnxruntime

    skelcl("export", "--ckpt_path", as_cal, "--format=onnx", "--output=net.onnx")
    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["skelcl"])["persons"] == 2
    method, data = load(as_cal)
    clips = data.store.clips(data.parts["test"], 2)  # of one person and of two
    (features,) = session.run(None, {"x": method.eval_view(clips).numpy()})
    np.testing.assert_allclose(features, method(clips).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_std_cl_leaves_heads_and_banks_behind(as_cal, map_encoder):
    _, data = load(as_cal)
    method, _ = load(as_cal)
    encoder = map_encoder()
    std_cl = STDCL(encoder, method.eval_view, method.eval_view, num_classes=3)
    std_cl.heads["spatial"] = torch.nn.Linear(2, 2)
    std_cl.banks["spatial"] = Bank(torch.zeros(4, dtype=torch.int64), 2)
    network, x, note = exported(std_cl.eval(), data.facts)
    assert note == ""
    plain = Classifier(map_encoder(), torch.nn.Linear(8, 3))
    plain.load_state_dict(network.state_dict(), strict=True)
    features, logits = network(x)
    assert torch.equal(features, encoder(x))
    assert torch.equal(logits, plain(x))


def test_features_of_two_streams_are_told_of(drawn_checkpoint, tmp_path, capfd):
    path = drawn_checkpoint(tmp_path / "sds_cl.ckpt", *SDS_CL)
    run(["export", "--ckpt_path", str(path), "--format=safetensors", f"--output={tmp_path / 'net'}"])
    assert "the encoder alone is exported" in capfd.readouterr().out
    method, data = load(path)
    assert load_file(tmp_path / "net").keys() == method.encoder.state_dict().keys()
    tuned = FineTune(
        copy.deepcopy(method.encoder),
        method.view,
        method.eval_view,
        num_classes=3,
        method=lambda encoder, view, eval_view: type(method)(encoder, view, eval_view),
    )
    network, _, note = exported(tuned.eval(), data.facts)
    assert network is tuned.encoder
    assert note


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--ckpt_path is missing"),
        (["--ckpt_path=x.ckpt"], "--format is missing"),
        (["--ckpt_path=x.ckpt", "--format=onnx"], "--output is missing"),
        (["--ckpt_path=x.ckpt", "--format=onnx", "--output=old"], "old exists; --overwrite true replaces it"),
        (["--ckpt_path=x.ckpt", "--format=onnx", "--output=new"], "x.ckpt: no such checkpoint"),
    ],
)
def test_a_wrong_command_is_one_line(skelcl, tmp_path, capfd, words, message):
    (tmp_path / "old").write_text("")
    with pytest.raises(SystemExit) as stop:
        skelcl("export", *(words or ["--overwrite=true"]))
    assert stop.value.code == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("skelcl: error: ")]
    assert message in line


@pytest.mark.parametrize("kind", ["torch-export", "safetensors"])
def test_a_network_that_diverged_is_not_exported(as_cal, skelcl, tmp_path, capfd, kind):
    content = torch.load(as_cal, weights_only=True)
    content["state_dict"] = {
        name: value * torch.nan if value.is_floating_point() else value for name, value in content["state_dict"].items()
    }
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(SystemExit) as stop:
        skelcl("export", "--ckpt_path", tmp_path / "x.ckpt", "--format", kind, "--output", "net.x")
    told = capfd.readouterr()
    assert stop.value.code == 1
    assert (
        told.err
        == "skelcl: error: net.x: not written: the network gives numbers that are not finite, it has diverged\n"
    )
    assert not told.out
    assert not (tmp_path / "net.x").exists()
