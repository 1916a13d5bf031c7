"""Hyperformer gives what the authors' network gives with the same weights."""

import pytest
import torch

from skelcl.interop import hyperformer, load_reference
from skelcl.skeleton import KINECT20, NTU25

FILES = {
    "hyperformer-ntu": {"skeleton": "ntu25", "num_classes": 60, "num_frames": 64, "num_persons": 2},
    "hyperformer-ucla": {"skeleton": "kinect20", "num_classes": 10, "num_frames": 52, "num_persons": 1},
}


def rounded_weights(reference):
    """The reference's weights, each rounded to single precision once."""
    return {key: value.float().to(value.dtype) for key, value in reference.weights.items()}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_golden(golden, agrees, name, mode):
    reference = golden(name)
    network = load_reference("hyperformer", reference.weights, **FILES[name]).train(mode == "train")
    with torch.no_grad():
        agrees(network(reference.x), getattr(reference, mode)[0], 1e-6)


@pytest.mark.parametrize("name", FILES)
def test_golden_in_single_precision(golden, agrees, name):
    reference = golden(name)
    network = load_reference("hyperformer", reference.weights, **FILES[name]).float().eval()
    with torch.no_grad():
        agrees(network(reference.x.float()), reference.eval[0], 1e-4)


@pytest.mark.parametrize("name", FILES)
def test_training_in_single_precision_is_as_good_as_its_weights(golden, name):
    # With these weights the first batch norms meet channels whose mean is a hundred times their deviation. Weights in
    # single precision alone, all else in double, move the logits by 2e-4 (NW-UCLA): no network of that precision can
    # do better, ours rounds some ten operations in a row.
    reference = golden(name)
    networks = [
        load_reference("hyperformer", weights, **FILES[name]).train()
        for weights in (reference.weights, rounded_weights(reference), reference.weights)
    ]
    networks[2].float()
    with torch.no_grad():
        exact, rounded, single = (
            network(reference.x.to(next(network.parameters()).dtype)).double() for network in networks
        )
    assert (single - exact).abs().max() < 10 * (rounded - exact).abs().max()
    assert (single - exact).abs().max() < 2e-3 * exact.abs().max()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, in its own compiler
@pytest.mark.parametrize("name", FILES)
def test_golden_compiled(golden, agrees, name):
    reference = golden(name)
    network = load_reference("hyperformer", reference.weights, **FILES[name]).float().eval()
    torch.compiler.reset()
    with torch.no_grad():
        agrees(torch.compile(network, fullgraph=True)(reference.x.float()), reference.eval[0], 1e-4)


@pytest.mark.parametrize(("name", "skeleton"), [("hyperformer-ntu", NTU25), ("hyperformer-ucla", KINECT20)])
def test_layout_is_that_of_the_reference(golden, name, skeleton):
    reference, arguments = golden(name), FILES[name]
    sizes = (arguments[key] for key in ("num_classes", "num_frames", "num_persons"))
    module, layout = hyperformer.build(skeleton, *sizes)
    assert {key: list(shape) for key, shape in layout.shapes(module).items()} == reference.state_dict
    assert sum(p.numel() for p in module.parameters()) == reference.n_params
    layout.load(module, reference.weights)
    saved = layout.dump(module)
    assert saved.keys() == reference.weights.keys()
    assert all(torch.equal(saved[key], value) for key, value in reference.weights.items())
