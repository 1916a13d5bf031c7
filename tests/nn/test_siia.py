"""SIIA against loops over every element, numbers worked out by hand, and what it must not notice."""

import math

import pytest
import torch
import torch.nn.functional as F

from skelcl.errors import InputError
from skelcl.nn.attention import SIIA, attention_map

WAYS = [("temporal", "intra"), ("spatial", "intra"), ("temporal", "inter"), ("spatial", "inter")]
OPTIONS = [
    {},
    {"share_query": True},
    {"share_streams": False},
    {"joint_bn": True},
    {"activation": "softmax"},
    {"share_query": True, "share_streams": False, "activation": "softmax"},
]


def random(*shape):
    return torch.randn(shape, dtype=torch.float64)


def bound(products, terms, activation):
    if activation == "tanh":
        return [math.tanh(p / terms) for p in products]
    weights = [math.exp(p / math.sqrt(terms)) for p in products]
    return [w / sum(weights) for w in weights]


def loop_attention(axis, q, k, value, heads, activation):
    """q, k, value (C, T, V): every query collects values, in each head."""
    if axis == "temporal":
        turned = (x.transpose(1, 2) for x in (q, k, value))
        return loop_attention("spatial", *turned, heads, activation).transpose(1, 2)
    channels, frames, joints = q.shape
    size, out = channels // heads, torch.zeros_like(q)
    for h in range(heads):
        own = range(h * size, (h + 1) * size)
        for u in range(joints):
            products = [
                sum((q[c, t, u] * k[c, t, v]).item() for c in own for t in range(frames)) for v in range(joints)
            ]
            row = bound(products, size * frames, activation)
            for c in own:
                for t in range(frames):
                    out[c, t, u] = sum(row[v] * value[c, t, v] for v in range(joints))
    return out


def twin(siia, joint, motion):
    """The eight maps, one way and stream after the other, from the single convolutions and batch norms."""
    streams = {"joint": joint, "motion": motion}
    channels = joint.shape[1]
    collected = {}
    for number, stream in enumerate(streams):
        own, other = ((siia.projections[i], siia.merges[i], siia.norms[i]) for i in (-number, number - 1))
        ordered = ["query temporal", "key temporal intra", "value temporal intra"]
        ordered += ["query spatial", "key spatial intra", "value spatial intra"]
        if len(siia.projections[0].bias) == 12 * channels:
            ordered += ["query temporal inter", "key temporal inter", "value temporal inter"]
            ordered += ["query spatial inter", "key spatial inter", "value spatial inter"]
        else:
            ordered += ["key temporal inter", "value temporal inter", "key spatial inter", "value spatial inter"]

        def project(layer, name, x, ordered=ordered):
            place = slice(ordered.index(name) * channels, (ordered.index(name) + 1) * channels)
            return torch.einsum("dc,nctv->ndtv", layer.weight[place, :, 0, 0], x) + layer.bias[place, None, None]

        x, y = streams[stream], streams["motion" if stream == "joint" else "joint"]
        for way, (axis, kind) in enumerate(WAYS):
            name = f"query {axis} inter" if kind == "inter" and f"query {axis} inter" in ordered else f"query {axis}"
            q = project(own[0], name, x)
            source = (own[0], x) if kind == "intra" else (other[0], y)
            k, value = (project(source[0], f"{piece} {axis} {kind}", source[1]) for piece in ("key", "value"))
            o = torch.stack(
                [loop_attention(axis, *clip, siia.heads, siia.activation) for clip in zip(q, k, value, strict=True)]
            )
            place = slice(way * channels, (way + 1) * channels)
            o = torch.einsum("dc,nctv->ndtv", own[1].weight[place, :, 0, 0], o) + own[1].bias[place, None, None]
            collected[stream, way] = (o, own[2], place)
    out = {}
    for (stream, way), (o, norm, place) in collected.items():
        seen = torch.cat([collected[s, way][0] for s in streams]) if siia.joint_bn else o
        mean, variance = seen.mean((0, 2, 3)), seen.var((0, 2, 3), correction=0)
        if not norm.training:
            mean, variance = norm.running_mean[place], norm.running_var[place]
        o = (o - mean[:, None, None]) / (variance[:, None, None] + norm.eps).sqrt()
        o = o * norm.weight[place, None, None] + norm.bias[place, None, None]
        out[stream, way] = F.leaky_relu(streams[stream] + o, 0.1)
    return [torch.stack([out[stream, way] for way in range(4)], 1) for stream in streams]


def drawn(**options):
    siia = SIIA(4, 2, **options).double()
    for value in siia.state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.2 if value.dim() == 1 else torch.randn_like(value))
    return siia


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_eight_maps_equal_plain_loops(options, mode):
    siia = drawn(**options).train(mode == "train")
    joint, motion = random(2, 4, 2, 3), random(2, 4, 2, 3)
    with torch.no_grad():
        expected = twin(siia, joint, motion)
        for found, wanted in zip(siia(joint, motion), expected, strict=True):
            assert found.shape == (2, 4, 4, 2, 3)
            torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("together", [False, True])
def test_the_batch_norms_see_joint_then_motion(together):
    siia = drawn(joint_bn=together).train()
    siia.norms[0].reset_running_stats()
    joint, motion = random(2, 4, 2, 3), 5 + random(2, 4, 2, 3)
    seen = []
    siia.merges[0].register_forward_hook(lambda *call: seen.append(call[-1]))
    siia(joint, motion)
    batches = [torch.cat(seen)] if together else seen
    mean = torch.zeros(16, dtype=torch.float64)
    for batch in batches:
        mean = 0.9 * mean + 0.1 * batch.mean((0, 2, 3))
    torch.testing.assert_close(siia.norms[0].running_mean, mean)
    assert siia.norms[0].num_batches_tracked == len(batches)


def test_maps_by_hand():
    query, key = torch.tensor([1.0, 2.0]).view(1, 1, 1, 1, 2), torch.tensor([3.0, -1.0]).view(1, 1, 1, 1, 2)
    attention = attention_map(query, key)[0, 0]
    torch.testing.assert_close(attention, torch.tensor([[0.9950548, -0.7615942], [0.9999877, -0.9640276]]))
    torch.testing.assert_close(attention @ torch.tensor([1.0, 10.0]), torch.tensor([-6.620887, -8.640288]))


def test_equal_queries_and_keys():
    ones = torch.ones(2, 4, 64, 13, 25)
    attention = attention_map(ones, ones)
    torch.testing.assert_close(attention, torch.full((2, 4, 25, 25), 0.761594))
    torch.testing.assert_close(attention.sum(-1), torch.full((2, 4, 25), 19.039854))
    assert attention_map(ones.mT, ones.mT).shape == (2, 4, 13, 13)


@pytest.mark.parametrize("dim", [-1, -2])
def test_softmax_is_scaled_dot_product_attention(dim):
    query, key, value = random(2, 2, 3, 4, 5), random(2, 2, 3, 4, 5), random(2, 2, 5, 6)
    tokens = [x.flatten(2, 3).mT for x in (query, key)]
    attention = attention_map(query, key, "softmax", dim)
    if dim == -2:
        attention, tokens = attention.mT, tokens[::-1]
    torch.testing.assert_close(attention @ value, F.scaled_dot_product_attention(*tokens, value))


def test_products_are_scaled_before_their_sum_overflows_half_precision():
    x = torch.full((1, 1, 64, 25, 3), 16.0, dtype=torch.float16)
    assert (attention_map(x, x) == 1).all()
    x = torch.full((1, 1, 64, 25, 3), 0.5, dtype=torch.float16)
    expected = torch.full((1, 1, 3, 3), math.tanh(0.25))
    torch.testing.assert_close(attention_map(x, x).float(), expected, rtol=1e-3, atol=0)


def test_without_queries_and_keys_the_residual_is_left():
    siia = SIIA(4, 2).double().eval()
    for way, (query, key, _) in enumerate(siia.ways):
        for piece in (query,) if way % 2 else (key,):
            siia.projections[0].weight.data[4 * piece : 4 * piece + 4] = 0
            siia.projections[0].bias.data[4 * piece : 4 * piece + 4] = 0
    joint, motion = random(2, 4, 2, 3), random(2, 4, 2, 3)
    bias = siia.merges[0].bias.view(1, 4, 4, 1, 1) / math.sqrt(1 + siia.norms[0].eps)
    for found, x in zip(siia(joint, motion), (joint, motion), strict=True):
        torch.testing.assert_close(found, F.leaky_relu(x[:, None] + bias, 0.1))
    siia.merges[0].bias.data.zero_()
    torch.testing.assert_close(siia(joint, motion)[1], F.leaky_relu(motion, 0.1)[:, None].expand(2, 4, 4, 2, 3))


def test_joints_and_frames_may_come_in_any_order():
    siia = drawn().eval()
    joint, motion = random(2, 4, 3, 5), random(2, 4, 3, 5)
    plain = siia(joint, motion)[0]
    for order, pick in ((torch.tensor([2, 0, 1]), 2), (torch.tensor([3, 1, 4, 0, 2]), 3)):
        own = siia(joint.index_select(pick, order), motion)[0]
        torch.testing.assert_close(own[:, :2], plain[:, :2].index_select(pick + 1, order))
        other = siia(joint, motion.index_select(pick, order))[0]
        blind = 2 if pick == 2 else 3
        torch.testing.assert_close(other[:, blind], plain[:, blind])
        assert not torch.allclose(other[:, 5 - blind], plain[:, 5 - blind])


def test_streams_may_be_exchanged():
    siia = drawn().eval()
    joint, motion = random(2, 4, 3, 5), random(2, 4, 3, 5)
    torch.testing.assert_close(siia(motion, joint), siia(joint, motion)[::-1])


def parameters(**options):
    return sum(p.numel() for p in SIIA(**options).parameters())


def test_sizes():
    assert parameters() == 4 * 263_680
    assert parameters(share_query=True) == 4 * 263_680 - 2 * (256 + 1) * 256
    assert parameters(share_streams=False) == 8 * 263_680


@pytest.mark.parametrize(
    ("options", "fans"),
    [({}, [3] * 6 + [1, 2, 2, 1, 2, 2]), ({"share_query": True}, [3] * 6 + [2] * 4)],
    ids=["own query", "shared query"],
)
def test_weights_start_with_the_fan_of_the_single_convolutions(options, fans):
    siia = SIIA(128, 4, **options)
    for weight, fan in zip(siia.projections[0].weight.split(128), fans, strict=True):
        assert weight.std().item() == pytest.approx(math.sqrt(2 / (128 * fan)), rel=0.03)
    for weight in siia.merges[0].weight.split(128):
        assert weight.std().item() == pytest.approx(math.sqrt(2 / 128), rel=0.03)
    for layer in (siia.projections[0], siia.merges[0]):
        assert layer.bias.abs().max().item() == pytest.approx(1 / math.sqrt(128), rel=0.02)


def test_options_that_do_not_fit():
    with pytest.raises(InputError, match="heads=3 do not divide channels=256"):
        SIIA(heads=3)
    with pytest.raises(InputError, match="joint_bn"):
        SIIA(share_streams=False, joint_bn=True)
