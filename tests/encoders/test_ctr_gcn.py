"""CTR-GCN: sizes, graphs, and how it starts."""

import pytest
import torch

from skelcl.encoders import CTRGCN
from skelcl.encoders.ctr_gcn import ChannelGraphConv
from skelcl.errors import InputError
from skelcl.nn.heads import Classifier
from skelcl.skeleton import KINECT20, NTU25, OPENPOSE18


def parameters(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize(
    ("skeleton", "persons", "classes", "expected"),
    [(NTU25, 2, 60, 1_446_672), (NTU25, 2, 120, 1_462_092), (NTU25, 2, 51, 1_444_359), (KINECT20, 1, 10, 1_426_892)],
)
def test_size_of_the_paper(skeleton, persons, classes, expected):
    encoder = CTRGCN(skeleton, persons)
    assert parameters(encoder, encoder.classifier(classes)) == expected


def test_size_of_a_lean_extractor():
    encoder = CTRGCN(widths=(64, 256, 64), strides=(1, 1, 1))
    assert [parameters(part) for part in (*encoder.blocks, encoder.data_bn)] == [12_052, 204_420, 147_156, 300]


@pytest.mark.parametrize(("frames", "expected"), [(64, 16), (52, 13), (300, 75), (1, 1)])
def test_frames_of_the_map(frames, expected):
    encoder = CTRGCN(KINECT20, 1, widths=(8,) * 10).eval()
    assert encoder.feature_map(torch.zeros(1, 3, frames, 20, 1)).shape == (1, 1, 8, expected, 20)


def test_any_skeleton_channels_and_persons():
    encoder = CTRGCN(OPENPOSE18, 3, channels=2, widths=(8, 12), strides=(2, 1))
    features_map, features = encoder.with_map(torch.randn(2, 2, 5, 18, 3))
    assert features_map.shape == (2, 3, 12, 3, 18)
    torch.testing.assert_close(features, features_map.mean((1, 3, 4)))


def unit(channels_in=64, channels_out=64, skeleton=NTU25):
    """A unit in eval mode that shows the bare sum: no batch norm, no shortcut."""
    conv = ChannelGraphConv(skeleton, channels_in, channels_out).double().eval()
    conv.bn, conv.shortcut = torch.nn.Identity(), torch.nn.Identity()
    conv.shortcut.forward = lambda x: 0
    return conv


@pytest.mark.parametrize(("subset", "expected"), [(0, {20: 1}), (1, {}), (2, {1: 0.25, 2: 0.25, 4: 0.25, 8: 0.25})])
def test_impulse_at_the_root_goes_outwards(subset, expected):
    conv = unit(1, 1)
    with torch.no_grad():
        conv.value.weight.zero_()
        conv.value.weight[subset] = 1
    x = torch.zeros(1, 1, 2, 25, dtype=torch.float64)
    x[..., 20] = 1
    answer = torch.zeros(25, dtype=torch.float64)
    for joint, value in expected.items():
        answer[joint] = value
    torch.testing.assert_close(conv(x), answer.expand(1, 1, 2, 25))


def test_unit_is_the_published_loop_over_subsets():
    conv = unit(16, 8, KINECT20)
    for parameter in conv.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(3, 16, 5, 20, dtype=torch.float64)
    queries, keys = conv.relate.weight[:, :, 0, 0].chunk(2)
    query_bias, key_bias = conv.relate.bias.chunk(2)
    y = 0
    for s in range(3):
        rows = slice(2 * s, 2 * s + 2)
        q = torch.einsum("nctv,rc->nrtv", x, queries[rows]) + query_bias[rows, None, None]
        k = torch.einsum("nctv,rc->nrtv", x, keys[rows]) + key_bias[rows, None, None]
        gap = torch.tanh(q.mean(2)[:, :, :, None] - k.mean(2)[:, :, None])
        relation = torch.einsum("nruv,cr->ncuv", gap, conv.lift_weight[s]) + conv.lift_bias[s][:, None, None]
        value = torch.einsum("nctv,oc->notv", x, conv.value.weight.chunk(3)[s][:, :, 0, 0])
        value = value + conv.value.bias.chunk(3)[s][:, None, None]
        y = y + torch.einsum("ncuv,nctv->nctu", conv.alpha * relation + conv.graph[s], value)
    torch.testing.assert_close(conv(x), y.relu())


def test_the_scales_of_a_subset_are_those_of_its_own_convolution():
    conv = ChannelGraphConv(NTU25, 256, 256)
    for weight, fan_out in ((conv.relate.weight, 32), (conv.value.weight, 256), (conv.lift_weight, 256)):
        assert weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.03)


def test_first_step_leaves_the_relations_alone():
    encoder = CTRGCN(KINECT20, 2, widths=(16, 32), strides=(1, 2))
    network = Classifier(encoder, encoder.classifier(5))
    loss = torch.nn.functional.cross_entropy(network(torch.randn(4, 3, 8, 20, 2)), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    for block in encoder.blocks:
        conv = block.spatial
        for parameter in (conv.relate.weight, conv.relate.bias, conv.lift_weight, conv.lift_bias):
            assert not parameter.grad.any()
        assert conv.alpha.grad.abs() > 0
        assert conv.graph.grad.abs().sum() > 0


def test_unit_starts_as_its_shortcut():
    conv = ChannelGraphConv(NTU25, 16, 32).eval()
    x = torch.randn(2, 16, 5, 25)
    torch.testing.assert_close(conv(x), conv.shortcut(x).relu(), rtol=0, atol=1e-3)
    assert not torch.equal(conv(x), conv.shortcut(x).relu())


def test_persons_are_alike_until_training():
    encoder = CTRGCN(KINECT20, 2, widths=(16, 32), strides=(1, 2)).eval()
    x = torch.randn(3, 3, 8, 20, 2)
    torch.testing.assert_close(encoder(x), encoder(x.flip(-1)))
    encoder.train()(x)
    assert (encoder.eval()(x) - encoder(x.flip(-1))).abs().max() > 1e-3


def test_reset_is_a_new_construction():
    def make():
        return CTRGCN(KINECT20, 1, widths=(8, 16), strides=(1, 2))

    encoder = make()
    encoder(torch.randn(2, 3, 4, 20, 1))
    torch.manual_seed(3)
    encoder.reset_parameters()
    torch.manual_seed(3)
    expected = make().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in encoder.state_dict().items())


def test_widths_must_fall_into_four():
    with pytest.raises(InputError, match="10 channels: use a multiple of 4"):
        CTRGCN(widths=(16, 10), strides=(1, 1))


def test_mixed_precision_stays_close_and_trains():
    encoder = CTRGCN(KINECT20, 1, widths=(16, 32), strides=(1, 2))
    for parameter in encoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = torch.randn(8, 3, 8, 20, 1)
    expected = encoder(x)
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder(x)
    torch.testing.assert_close(features.float(), expected, rtol=0, atol=0.05 * expected.abs().max().item())
    features.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())
