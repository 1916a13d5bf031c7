"""SCD-Net gives what the authors' network gives with the same weights, and its files are told apart."""

import math
from functools import partial

import pytest
import torch

from skelcl.encoders import AGCN, SCD
from skelcl.errors import InputError
from skelcl.interop import load_reference, scd_net
from skelcl.interop.key_mapping import KeyMapping
from skelcl.skeleton import NTU25

PARTS = ("v_t", "v_s", "z_t", "z_s", "z_i")
SIZES = {"dim": 16, "heads": 2, "projection": 4}


def network(weights, mode="eval"):
    """The network of a reference as the reference ran: without dropout, its graphs in single precision."""
    weights = {name: value.float().double() if name.endswith("PA") else value for name, value in weights.items()}
    module = load_reference("scd-net", weights, skeleton="ntu25", num_frames=64, num_persons=2, **SIZES)
    for layer in module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0
        elif isinstance(layer, torch.nn.MultiheadAttention):
            layer.dropout = 0
    return module.train(mode == "train")


def pretraining(reference):
    """A complete file of pre-training: query and key encoder, queues and their pointers."""
    file = {f"encoder_{role}.{name}": value for role in "qk" for name, value in reference.weights.items()}
    return file | {name: torch.zeros(shape) for name, shape in reference.queues.items()}


def linear_evaluation(reference):
    """A complete file of the linear evaluation: the encoder and the classifier."""
    encoder = {name: value for name, value in reference.weights.items() if name.startswith("encoder.")}
    return encoder | {"fc.weight": torch.randn(10, 32), "fc.bias": torch.randn(10)}


@pytest.mark.parametrize("gradients", [False, True])
def test_golden(golden, gradients):
    """Without gradients the transformer takes another path in PyTorch."""
    reference = golden("scdnet")
    with torch.set_grad_enabled(gradients):
        found = dict(zip(PARTS, network(reference.weights)(reference.x), strict=True))
    assert [found[name].shape for name in PARTS] == [(2, 16)] * 2 + [(2, 4)] * 3
    for name, expected in reference.eval.items():
        assert found[name].flatten()[: len(expected)].tolist() == pytest.approx(expected, rel=0, abs=1e-9)
    for name, total in reference.sums.items():
        assert found[name].sum().item() == pytest.approx(total, rel=0, abs=1e-9)


def test_golden_with_the_statistics_of_the_batch(golden):
    reference = golden("scdnet")
    found = dict(zip(PARTS, network(reference.weights, "train")(reference.x), strict=True))
    for name, expected in reference.train.items():
        assert found[name][0].tolist() == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_golden_in_single_precision(golden, mode):
    reference = golden("scdnet")
    found = dict(zip(PARTS, network(reference.weights, mode).float()(reference.x.float()), strict=True))
    for name, expected in getattr(reference, mode).items():
        scale = max(map(abs, expected))
        assert found[name].flatten()[: len(expected)].tolist() == pytest.approx(expected, rel=0, abs=1e-4 * scale)


def test_golden_maps(golden):
    reference = golden("scdnet")
    encoder = network(reference.weights).encoder
    for name, (mean, std, *first) in reference.maps.items():
        feature_map = getattr(encoder, name).feature_map(reference.x)
        assert feature_map.mean().item() == pytest.approx(mean, abs=1e-9)
        assert feature_map.std(correction=0).item() == pytest.approx(std, abs=1e-9)
        assert feature_map[0, 0, 0, 0, : len(first)].tolist() == pytest.approx(first, abs=1e-9)


def test_layout_is_that_of_the_reference(golden):
    reference = golden("scdnet")
    module, layout = scd_net.build(NTU25, 60, 64, 2, **SIZES)
    shapes = layout.shapes(module)
    assert {name: list(shape) for name, shape in shapes.items()} == reference.state_dict
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    learned = sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(statistics))
    assert sum(p.numel() for p in module.parameters()) == learned
    layout.load(module, reference.weights)
    saved = layout.dump(module)
    assert saved.keys() == reference.weights.keys()
    assert all(torch.equal(saved[name], value) for name, value in reference.weights.items())


def test_entries_are_as_many_as_in_the_files_of_the_authors(golden):
    reference = golden("scdnet")
    assert len(pretraining(reference)) == 1198
    assert len(reference.weights) == 596
    module, layout = scd_net.build(NTU25, 60, 64, 2, **SIZES)
    names = list(layout.shapes(module))
    for extractor in ("gcn_t", "gcn_s"):
        assert sum(name.startswith(f"encoder.{extractor}.") for name in names) == 274


def test_a_pretraining_file_is_split(golden):
    reference = golden("scdnet")
    file = pretraining(reference)
    found = scd_net.split_checkpoint(file)
    for role, part in (("encoder_q.", found.query), ("encoder_k.", found.key)):
        assert part.keys() == reference.weights.keys()
        assert all(value is file[role + name] for name, value in part.items())
    assert found.queues.keys() == reference.queues.keys()
    assert found.classifier == {}


def test_of_a_pretraining_file_the_query_network_is_loaded(golden):
    reference = golden("scdnet")
    file = pretraining(reference)
    file |= {name: -value for name, value in file.items() if name.startswith("encoder_k.")}
    whole, alone = network(file).state_dict(), network(reference.weights).state_dict()
    assert all(torch.equal(value, alone[name]) for name, value in whole.items())


def test_a_linear_evaluation_is_split_and_its_encoder_loads(golden):
    file = linear_evaluation(golden("scdnet"))
    found = scd_net.split_checkpoint(file)
    assert found.classifier == {"weight": file["fc.weight"], "bias": file["fc.bias"]}
    assert (found.key, found.queues) == ({}, {})
    encoder = SCD(NTU25, dim=16, heads=2)
    layout = KeyMapping(scd_net.encoder_pieces(encoder, "", "encoder."))
    layout.load(encoder, found.query)
    assert layout.dump(encoder).keys() == file.keys() - {"fc.weight", "fc.bias"}
    assert torch.equal(encoder.gcn_s.blocks[1].spatial.graph, file["encoder.gcn_s.l2.gcn1.PA"])


@pytest.mark.parametrize(
    ("file", "gone", "found"),
    [
        (pretraining, "t_queue_ptr", "t_queue_ptr is missing$"),
        (pretraining, "encoder_k.t_proj.0.bias", r"encoder_k\.t_proj\.0\.bias is missing$"),
        (pretraining, "encoder_q.encoder.gcn_t.l1.gcn1.PA", r"encoder_q\.encoder\.gcn_t\.l1\.gcn1\.PA is missing$"),
        (linear_evaluation, "fc.bias", r"fc\.bias is missing$"),
    ],
)
def test_a_gap_in_a_file_is_named(golden, file, gone, found):
    state = file(golden("scdnet"))
    del state[gone]
    with pytest.raises(InputError, match=found):
        scd_net.split_checkpoint(state)


@pytest.mark.parametrize(
    ("file", "surplus"),
    [
        (pretraining, "fc.weight"),
        (pretraining, "queue"),
        (linear_evaluation, "t_proj.0.bias"),
        (linear_evaluation, "x"),
    ],
)
def test_what_does_not_belong_into_a_file_is_named(golden, file, surplus):
    state = file(golden("scdnet")) | {surplus: torch.zeros(1)}
    with pytest.raises(InputError, match=f"{surplus} is unexpected$"):
        scd_net.split_checkpoint(state)


def test_a_gap_in_the_network_is_named(golden):
    state = dict(golden("scdnet").weights)
    del state["i_proj.2.bias"]
    with pytest.raises(InputError, match=r"i_proj\.2\.bias is missing"):
        network(state)


def test_other_files_are_refused(golden):
    with pytest.raises(InputError, match=r"no name starts with .*state_dict"):
        scd_net.split_checkpoint({"epoch": torch.tensor(1), "state_dict": torch.zeros(1)})
    with pytest.raises(InputError, match="no name starts with"):
        load_reference("scd-net", golden("agcn-ntu").weights)


def test_sizes_are_those_of_scd_net_only(golden):
    with pytest.raises(InputError, match="hcn is always of the published size: leave out dim, heads"):
        load_reference("hcn", golden("hcn-32").weights, num_frames=32, heads=2, dim=16)


def test_only_the_extractor_of_the_reference_has_a_layout():
    agcn = partial(AGCN, widths=(8,), strides=(1,))
    encoder = SCD(NTU25, num_frames=4, extractor=agcn, dim=8, heads=2)
    with pytest.raises(InputError, match="with CTR-GCN, not with AGCN"):
        scd_net.encoder_pieces(encoder, "", "")
