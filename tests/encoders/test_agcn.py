"""2s-AGCN, one stream: sizes, graphs, and how it starts."""

import math

import pytest
import torch

from skelcl.encoders import AGCN
from skelcl.encoders.agcn import AdaptiveGraphConv
from skelcl.errors import InputError
from skelcl.nn.graph import directed_graph
from skelcl.skeleton import KINECT20, NTU25, OPENPOSE18


def parameters(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize(
    ("skeleton", "persons", "classes", "expected"),
    [(NTU25, 2, 60, 3_469_510), (NTU25, 2, 120, 3_484_930), (NTU25, 2, 51, 3_467_197), (KINECT20, 1, 10, 3_449_730)],
)
def test_size_of_the_paper(skeleton, persons, classes, expected):
    encoder = AGCN(skeleton, persons)
    assert parameters(encoder, encoder.classifier(classes)) == expected


@pytest.mark.parametrize(("frames", "expected"), [(64, 16), (52, 13), (300, 75), (1, 1)])
def test_frames_of_the_map(frames, expected):
    encoder = AGCN(KINECT20, 1, widths=(8,) * 10).eval()
    assert encoder.feature_map(torch.zeros(1, 3, frames, 20, 1)).shape == (1, 1, 8, expected, 20)


def test_any_skeleton_channels_and_persons():
    encoder = AGCN(OPENPOSE18, 3, channels=2, widths=(8, 12), strides=(2, 1))
    features_map, features = encoder.with_map(torch.randn(2, 2, 5, 18, 3))
    assert features_map.shape == (2, 3, 12, 3, 18)
    torch.testing.assert_close(features, features_map.mean((1, 3, 4)))


def bare(conv):
    """The unit in eval mode without batch norm and shortcut."""
    conv = conv.double().eval()
    conv.bn, conv.shortcut = torch.nn.Identity(), torch.nn.Identity()
    conv.shortcut.forward = lambda x: 0
    return conv


@pytest.mark.parametrize(("subset", "expected"), [(0, {20: 1}), (1, {1: 1, 2: 1, 4: 1, 8: 1}), (2, {})])
def test_impulse_at_the_root_goes_outwards(subset, expected):
    conv = bare(AdaptiveGraphConv(NTU25, 1, 4))
    with torch.no_grad():
        conv.graph.zero_()
        conv.value.weight.zero_()
        conv.value.weight[:, subset] = 1
    x = torch.zeros(1, 1, 2, 25, dtype=torch.float64)
    x[..., 20] = 1
    # Queries and keys of zero attend to all joints alike.
    torch.nn.init.zeros_(conv.embed.weight)
    answer = torch.full((25,), 1 / 25, dtype=torch.float64)
    for joint, value in expected.items():
        answer[joint] += value
    torch.testing.assert_close(conv(x), answer.expand(1, 4, 2, 25))


def test_unit_is_the_published_loop_over_subsets():
    conv = bare(AdaptiveGraphConv(KINECT20, 16, 8))
    for parameter in conv.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(3, 16, 5, 20, dtype=torch.float64)
    (queries, keys), (query_bias, key_bias) = conv.embed.weight[:, :, 0, 0].chunk(2), conv.embed.bias.chunk(2)
    y = 0
    for s in range(3):
        rows = slice(2 * s, 2 * s + 2)
        q = torch.einsum("nctv,rc->nrtv", x, queries[rows]) + query_bias[rows, None, None]
        k = torch.einsum("nctv,rc->nrtv", x, keys[rows]) + key_bias[rows, None, None]
        attention = torch.softmax(torch.einsum("nrtv,nrtw->nvw", q, k) / (2 * 5), dim=1)
        mixed = torch.einsum("nctv,nvw->nctw", x, directed_graph(KINECT20)[s] + conv.graph[s] + attention)
        y = y + torch.einsum("nctv,oc->notv", mixed, conv.value.weight[:, 16 * s : 16 * s + 16, 0, 0])
        y = y + conv.value_bias[s][:, None, None]
    torch.testing.assert_close(conv(x), y.relu())


def test_the_scales_of_a_subset_are_those_of_its_own_convolution():
    conv = AdaptiveGraphConv(NTU25, 128, 256)
    assert conv.embed.weight.std().item() == pytest.approx(math.sqrt(2 / 64), rel=0.03)
    assert conv.value.weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 128 * 3)), rel=0.03)
    torch.testing.assert_close(conv.graph.detach(), torch.full((3, 25, 25), 1e-6))
    assert not conv.value_bias.any()


def test_unit_starts_as_its_shortcut():
    conv = AdaptiveGraphConv(NTU25, 16, 32).eval()
    x = torch.randn(2, 16, 5, 25)
    torch.testing.assert_close(conv(x), conv.shortcut(x).relu(), rtol=0, atol=1e-5)
    assert not torch.equal(conv(x), conv.shortcut(x).relu())


def test_the_skeleton_is_no_part_of_the_state():
    conv = AdaptiveGraphConv(NTU25, 16, 32)
    assert "skeleton_graph" not in conv.state_dict()
    assert "skeleton_graph" in dict(conv.named_buffers())


def test_persons_are_alike_until_training():
    encoder = AGCN(KINECT20, 2, widths=(16, 32), strides=(1, 2)).eval()
    x = torch.randn(3, 3, 8, 20, 2)
    torch.testing.assert_close(encoder(x), encoder(x.flip(-1)))
    encoder.train()(x)
    assert (encoder.eval()(x) - encoder(x.flip(-1))).abs().max() > 1e-4


def test_reset_is_a_new_construction():
    def make():
        return AGCN(KINECT20, 1, widths=(8, 16), strides=(1, 2))

    encoder = make()
    encoder(torch.randn(2, 3, 4, 20, 1))
    torch.manual_seed(3)
    encoder.reset_parameters()
    torch.manual_seed(3)
    expected = make().state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in encoder.state_dict().items())


def test_widths_must_fall_into_four():
    with pytest.raises(InputError, match="10 channels: use a multiple of 4"):
        AGCN(widths=(16, 10), strides=(1, 1))


def test_mixed_precision_stays_close_and_trains():
    encoder = AGCN(KINECT20, 1, widths=(16, 32), strides=(1, 2))
    for parameter in encoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = torch.randn(8, 3, 8, 20, 1)
    expected = encoder(x)
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder(x)
    torch.testing.assert_close(features.float(), expected, rtol=0, atol=0.05 * expected.abs().max().item())
    features.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())
