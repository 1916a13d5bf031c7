"""SDS-CL gives what the authors' network gives with the same weights."""

import pytest
import torch

from skelcl.encoders import DSTA
from skelcl.errors import InputError
from skelcl.interop import load_reference, sds_cl
from skelcl.interop.key_mapping import KeyMapping
from skelcl.nn import SDSCLHeads
from skelcl.nn.attention import SIIA
from skelcl.skeleton import KINECT20, NTU25, OPENPOSE18

ARGUMENTS = {"skeleton": "ntu25", "num_classes": 60, "num_frames": 50, "num_persons": 2}


@pytest.fixture(scope="module")
def reference(golden):
    found = golden("sdscl-ntu")
    found.motion = torch.cos(0.013 * torch.arange(found.x.numel(), dtype=torch.float64)).reshape(found.x.shape)
    return found


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_golden(reference, agrees, mode):
    network = load_reference("sds-cl", reference.weights, **ARGUMENTS).train(mode == "train")
    expected = getattr(reference, mode)
    assert len(expected) == 12
    with torch.no_grad():
        for found, wanted in zip(network(reference.x, reference.motion), expected, strict=True):
            agrees(found, wanted, 1e-6)
        single = network.float()(reference.x.float(), reference.motion.float())
        for found, wanted in zip(single, expected, strict=True):
            agrees(found, wanted, 1e-4)


def test_layout_is_that_of_the_reference(reference):
    module, layout = sds_cl.build(NTU25, 60, 50, 2)
    shapes = {key: list(shape) for key, shape in layout.shapes(module).items()}
    assert layout.constants == set(reference.unfilled)
    assert shapes == {key: shape for key, shape in reference.state_dict.items() if key not in reference.unfilled}
    assert sum(p.numel() for p in module.parameters()) == reference.n_params == 7_501_820
    layout.load(module, reference.weights)
    saved = layout.dump(module)
    assert all(torch.equal(saved[key], reference.weights[key]) for key in shapes)


@pytest.mark.parametrize(("skeleton", "expected"), [(KINECT20, 7_494_620), (OPENPOSE18, 7_492_188)])
def test_sizes_on_other_skeletons(skeleton, expected):
    module, _ = sds_cl.build(skeleton, 60, 50, 1)
    assert sum(p.numel() for p in module.parameters()) == expected


def test_sizes_of_the_parts():
    module, _ = sds_cl.build(NTU25, 60, 50, 2)

    def size(part):
        return sum(p.numel() for p in part.parameters())

    assert size(module) - size(module.classifier) == 7_486_400
    assert size(module.network.encoder) + size(module.classifier) == 4_216_316
    assert size(module.network.siia) == 1_054_720
    assert (size(module.heads.token), size(module.heads.clip)) == (131_584, 2_099_200)


def test_the_parts_of_a_checkpoint_load_alone(reference):
    """As a method takes them up: each under its own names, from the rows of the checkpoint that are its own."""
    whole = load_reference("sds-cl", reference.weights, **ARGUMENTS)
    for part, pieces, loaded in (
        (DSTA(NTU25), lambda module: sds_cl.encoder_pieces(module, "", ""), whole.network.encoder),
        (SIIA(), lambda module: sds_cl.siia_pieces(module, "", ""), whole.network.siia),
        (SDSCLHeads(), lambda _: sds_cl.head_pieces("", ""), whole.heads),
    ):
        layout = KeyMapping(pieces(part))
        layout.load(part, {key: reference.weights[key] for key in layout.shapes(part)})
        for key, value in part.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[key]), key


def test_missing_and_surplus_names_are_listed(reference):
    state = dict(reference.weights) | {"fc2.bias": torch.zeros(1)}
    del state["inter_tatt.in_nett_kv.bias"]
    with pytest.raises(InputError, match=r"inter_tatt\.in_nett_kv\.bias is missing; fc2\.bias is unexpected"):
        load_reference("sds-cl", state, **ARGUMENTS)


def test_other_class_and_joint_counts_are_refused(reference):
    with pytest.raises(InputError, match=r"fc\.weight has shape \(60, 256\) instead of \(10, 256\)"):
        load_reference("sds-cl", reference.weights, **ARGUMENTS | {"num_classes": 10})
    with pytest.raises(InputError, match=r"graph_layers\.0\.attention0s has shape \(1, 4, 25, 25\) instead"):
        load_reference("sds-cl", reference.weights, **ARGUMENTS | {"skeleton": "kinect20"})
