"""Exported networks compute what the networks compute, whatever the batch, with nobody in the second place too."""

import json

import pytest
import torch
from torch import nn

from skelcl import encoders
from skelcl.encoders import AGCN, CTRGCN, DSTA, HCN, LSTM, SCD, STGCN, Encoder, Hyperformer, ViT
from skelcl.errors import InputError
from skelcl.interop.deployment import FeaturesAndLogits, export
from skelcl.nn.heads import Classifier
from skelcl.skeleton import KINECT20

SMALL = {"widths": (8, 16), "strides": (1, 2)}
ENCODERS = {
    "lstm": lambda m: LSTM(KINECT20, m, hidden=8, layers=2, pool="masked_mean"),
    "hcn": lambda m: HCN(KINECT20, m, num_frames=16),
    "agcn": lambda m: AGCN(KINECT20, m, **SMALL),
    "ctr_gcn": lambda m: CTRGCN(KINECT20, m, **SMALL),
    "hyperformer": lambda m: Hyperformer(KINECT20, m, width=24, heads=2, strides=(1, 2)),
    "dsta": lambda m: DSTA(KINECT20, m, blocks=((8, 4, 1), (16, 4, 2)), person_pool="masked"),
    "dsta-frames": lambda m: DSTA(KINECT20, m, blocks=((8, 4, 1),), temporal_attention=True, activation="softmax"),
    "st_gcn": lambda m: STGCN(KINECT20, m, **SMALL),
    "scd": lambda m: SCD(KINECT20, m, num_frames=16, widths=(8, 8), dim=8, heads=2, mask_absent=m > 1),
    "vit": lambda m: ViT(
        KINECT20, m, num_frames=16, dim=16, depth=2, heads=2, person_pool="masked" if m > 1 else "mean"
    ),
}
FAST = ("lstm", "agcn")
FORMATS = ("torch-export", "onnx")
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


def network(name, persons=2, classes=0):
    """A tiny encoder none of whose paths is closed, with a classifier or without one."""
    encoder = ENCODERS[name](persons)
    for parameter in encoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return (FeaturesAndLogits(encoder, encoder.classifier(classes)) if classes else encoder).eval()


def clips(n, persons=2, seed=0):
    """Clips of 16 frames; in each but the first the second body is absent."""
    x = torch.randn(n, 3, 16, 20, persons, generator=torch.Generator().manual_seed(seed))
    x[1:, ..., 1:] = 0
    return x


def run(file, format, x):
    """Outputs of an exported file, read with the other program alone."""
    if format == "torch-export":
        found = torch.export.load(file).module()(x)
        return [found] if isinstance(found, torch.Tensor) else list(found)
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(y) for y in session.run(None, {"x": x.numpy()})]


def test_every_encoder_is_exported_here():
    made = {type(make(2)) for make in ENCODERS.values()}
    known = {one for name in encoders.__all__ if issubclass(one := getattr(encoders, name), Encoder)}
    assert made == {one for one in known if not one.__abstractmethods__}


@pytest.mark.parametrize(
    ("name", "format"),
    [
        pytest.param(name, format, marks=() if name in FAST else pytest.mark.slow)
        for name in ENCODERS
        for format in FORMATS
    ],
)
@pytest.mark.parametrize("persons", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_a_program_computes_what_the_network_computes(name, format, persons, tmp_path):
    net, file = network(name, persons, classes=4), tmp_path / "net.pt2"
    export(net, clips(3, persons), format, file, {})
    for n in (1, 2, 5):
        x = clips(n, persons, seed=n)
        with torch.no_grad():
            expected = net(x)
        features, logits = run(file, format, x)
        scale = max(1.0, float(expected[0].abs().max()))
        torch.testing.assert_close(features / scale, expected[0] / scale, **TOLERANCE)
        torch.testing.assert_close(logits / scale, expected[1] / scale, **TOLERANCE)
        # Not a constant: another clip, another answer.
        assert (expected[0] - net(clips(n, persons, seed=n + 1))[0]).abs().max() > 1e-3


@pytest.mark.parametrize("name", ENCODERS)
def test_safetensors_load_strictly_into_plain_networks(name, tmp_path):
    from safetensors.torch import load_file

    encoder = network(name)
    export(encoder, clips(2), "safetensors", tmp_path / "a.safetensors", {})
    plain = ENCODERS[name](2).eval()
    plain.load_state_dict(load_file(tmp_path / "a.safetensors"), strict=True)
    assert torch.equal(plain(clips(3)), encoder(clips(3)))

    both = network(name, classes=4)
    export(both, clips(2), "safetensors", tmp_path / "b.safetensors", {})
    plain = ENCODERS[name](2)
    classifier = Classifier(plain, plain.classifier(4)).eval()
    classifier.load_state_dict(load_file(tmp_path / "b.safetensors"), strict=True)
    assert torch.equal(classifier(clips(3)), both(clips(3))[1])


class Forgetful(nn.Module):
    """A tiny network that a trace may be unable to follow."""

    def __init__(self, forgets=True):
        super().__init__()
        self.forgets = forgets
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        y = self.linear(x.mean((2, 3, 4)))
        return 1.01 * y if self.forgets and not torch.compiler.is_exporting() else y


@pytest.mark.parametrize("format", ["torch-export", "onnx", "safetensors"])
def test_metadata_is_where_other_programs_find_it(format, tmp_path):
    file = tmp_path / "net"
    export(Forgetful(forgets=False).eval(), clips(2), format, file, {"classes": ["walk", "jämför"]})
    if format == "torch-export":
        extra = {"skelcl.json": ""}
        torch.export.load(file, extra_files=extra)
        text = extra["skelcl.json"]
    elif format == "onnx":
        import onnx

        model = onnx.load(file)
        onnx.checker.check_model(model, full_check=True)
        text = {entry.key: entry.value for entry in model.metadata_props}["skelcl"]
        assert [given.name for given in model.graph.input] == ["x"]
        assert [given.name for given in model.graph.output] == ["features"]
    else:
        from safetensors import safe_open

        with safe_open(file, "pt") as opened:
            text = opened.metadata()["skelcl"]
    assert json.loads(text) == {"classes": ["walk", "jämför"]}
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


@pytest.mark.parametrize("format", ["torch-export", "onnx"])
def test_a_file_that_disagrees_is_not_kept(format, tmp_path):
    old = tmp_path / "net"
    old.write_text("the last export")
    with pytest.raises(InputError, match=r"not written, because the .* file computes something else"):
        export(Forgetful().eval(), 100 * clips(3), format, old, {})
    assert [path.name for path in tmp_path.iterdir()] == ["net"]
    assert old.read_text() == "the last export"


def test_a_network_that_gives_no_numbers_is_not_written(tmp_path):
    net = Forgetful(forgets=False).eval()
    net.linear.weight.data[0, 0] = torch.nan
    with pytest.raises(InputError, match="numbers that are not finite"):
        export(net, clips(3), "safetensors", tmp_path / "net", {})


def test_the_check_is_relative_to_large_outputs_only(tmp_path):
    net = Forgetful().eval()
    net.linear.bias.data.fill_(1e-6)  # 1 % of it is nothing beside the largest output, at least 1
    assert 0 < export(net, 0 * clips(3), "torch-export", tmp_path / "net", {}) < 1e-6
