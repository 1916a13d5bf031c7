"""HCN gives what the published port gives with the same weights."""

import pytest
import torch

from skelcl.interop import hcn, load_reference
from skelcl.skeleton import NTU25

WINDOWS = {"hcn-32": 32, "hcn-64": 64}


def network(reference, window):
    """The network of a reference without dropout, as the reference ran."""
    module = load_reference("hcn", reference.weights, skeleton="ntu25", num_classes=60, num_frames=window)
    for layer in module.modules():
        if isinstance(layer, torch.nn.Dropout | torch.nn.Dropout2d):
            layer.p = 0
    return module


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_golden(golden, agrees, name, mode):
    reference = golden(name)
    module = network(reference, WINDOWS[name]).train(mode == "train")
    agrees(module(reference.x), getattr(reference, mode)[0], 1e-6)
    agrees(module.float()(reference.x.float()), getattr(reference, mode)[0], 1e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, in its own compiler
@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_golden_compiled(golden, agrees, name, mode):
    reference = golden(name)
    torch.compiler.reset()
    module = torch.compile(network(reference, WINDOWS[name]).float().train(mode == "train"), fullgraph=True)
    agrees(module(reference.x.float()), getattr(reference, mode)[0], 1e-4)


@pytest.mark.parametrize("name", WINDOWS)
def test_layout_is_that_of_the_port(golden, name):
    reference = golden(name)
    module, layout = hcn.build(NTU25, 60, WINDOWS[name], 2)
    assert {key: list(shape) for key, shape in layout.shapes(module).items()} == reference.state_dict
    assert sum(p.numel() for p in module.parameters()) == reference.n_params
    layout.load(module, reference.weights)
    saved = layout.dump(module)
    assert saved.keys() == reference.weights.keys()
    assert all(torch.equal(saved[key], value) for key, value in reference.weights.items())
