"""2s-AGCN gives what the authors' network gives with the same weights."""

import pytest
import torch

from skelcl.interop import agcn, load_reference
from skelcl.skeleton import NTU25

FILES = {
    "agcn-ntu": {"skeleton": "ntu25", "num_classes": 60, "num_frames": 64, "num_persons": 2},
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_golden(golden, agrees, name, mode):
    reference = golden(name)
    network = load_reference("2s-agcn", reference.weights, **FILES[name]).train(mode == "train")
    agrees(network(reference.x), getattr(reference, mode)[0], 1e-6)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_golden_in_single_precision(golden, agrees, name, mode):
    reference = golden(name)
    network = load_reference("2s-agcn", reference.weights, **FILES[name]).float().train(mode == "train")
    agrees(network(reference.x.float()), getattr(reference, mode)[0], 1e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_golden_compiled(golden, agrees, name, mode):
    reference = golden(name)
    network = load_reference("2s-agcn", reference.weights, **FILES[name]).float().train(mode == "train")
    torch.compiler.reset()
    with torch.no_grad():
        agrees(torch.compile(network, fullgraph=True)(reference.x.float()), getattr(reference, mode)[0], 1e-4)


@pytest.mark.parametrize(("name", "skeleton"), [("agcn-ntu", NTU25)])
def test_layout_is_that_of_the_reference(golden, name, skeleton):
    reference = golden(name)
    arguments = FILES[name]
    module, layout = agcn.build(skeleton, *(arguments[key] for key in ("num_classes", "num_frames", "num_persons")))
    assert {key: list(shape) for key, shape in layout.shapes(module).items()} == reference.state_dict
    assert sum(p.numel() for p in module.parameters()) == reference.n_params
    layout.load(module, reference.weights)
    saved = layout.dump(module)
    assert saved.keys() == reference.weights.keys()
    assert all(torch.equal(saved[key], value) for key, value in reference.weights.items())
