"""Hyperformer gives what the authors' network gives with the same weights."""

import pytest
import torch

from skelcl.interop import hyperformer, load_reference
from skelcl.skeleton import KINECT20, NTU25

FILES = {
    "hyperformer-ntu": {"skeleton": "ntu25", "num_classes": 60, "num_frames": 64, "num_persons": 2},
    "hyperformer-ucla": {"skeleton": "kinect20", "num_classes": 10, "num_frames": 52, "num_persons": 1},
}
# The batch norms of the first block meet channels whose mean is a hundred times their deviation: rounding the inputs
# of the batch norms alone to single precision moves the output by 4e-4.
SINGLE = {"eval": 1e-4, "train": 5e-3}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_golden(golden, agrees, name, mode):
    reference = golden(name)
    network = load_reference("hyperformer", reference.weights, **FILES[name]).train(mode == "train")
    with torch.no_grad():
        agrees(network(reference.x), getattr(reference, mode)[0], 1e-6)
        agrees(network.float()(reference.x.float()), getattr(reference, mode)[0], SINGLE[mode])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, in its own compiler
def test_golden_compiled(golden, agrees):
    reference = golden("hyperformer-ucla")
    network = load_reference("hyperformer", reference.weights, **FILES["hyperformer-ucla"]).float().eval()
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
