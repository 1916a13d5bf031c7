"""Hyperformer against the four terms of its attention, in plain loops, and the facts of its paper's code."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skelcl.encoders.hyperformer import Hyperformer, HyperSelfAttention, partition, tree
from skelcl.errors import InputError
from skelcl.skeleton import COCO17, KINECT20, NTU25

SMALL = {"width": 12, "heads": 3}


def parameters(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def twin(unit, x, groups, heads):
    """The spatial unit on x (N, C, T, V): a loop over clips, frames, heads and pairs of joints."""
    n, c, t, v = x.shape
    width = unit.qkv.weight.shape[0] // 3
    size = width // heads
    rows = []
    for a in range(n):
        for f in range(t):
            joints = x[a, :, f].T
            q, k, value = (F.layer_norm(joints, (c,), unit.norm.weight, unit.norm.bias) @ unit.qkv.weight.T).split(
                width, 1
            )
            e = torch.stack([joints[[u for u in range(v) if groups[u] == groups[j]]].mean(0) for j in range(v)])
            e = e @ unit.edges.weight.T
            y = []
            for h in range(heads):
                own = slice(h * size, (h + 1) * size)
                collected = []
                for i in range(v):
                    logits = torch.stack(
                        [
                            q[i, own] @ k[j, own]
                            + q[i, own] @ e[j, own]
                            + q[i, own] @ unit.relative[unit.hops[i, j], h]
                            + unit.edge_query[h] @ e[j, own]
                            for j in range(v)
                        ]
                    )
                    weights = unit.alpha * torch.softmax(logits / math.sqrt(size), 0) + unit.outer[h, i]
                    collected.append(sum(weights[j] * value[j, own] for j in range(v)))
                y.append(torch.stack(collected))
            y = torch.cat(y, 1)
            mixed = []
            for g in range(6):
                own = slice(g * width // 6, (g + 1) * width // 6)
                mixed.append(y[:, own] @ unit.projection.weight[own, :, 0, 0].T + unit.projection.bias[own])
            skip = joints if c == width else joints @ unit.skip.weight.T
            rows.append((torch.cat(mixed, 1) + skip).T)
    return torch.stack(rows).unflatten(0, (n, t)).transpose(1, 2)


@pytest.mark.parametrize("channels", [3, 12])
@pytest.mark.parametrize("groups", [(0, 1, 0, 2, 1), (0, 0, 0, 0, 0), (4, 3, 2, 1, 0)])
def test_the_unit_and_its_gradients_equal_plain_loops(channels, groups):
    hops = torch.tensor([[abs(i - j) for j in range(5)] for i in range(5)])
    unit = HyperSelfAttention(channels, 12, 3, groups, hops).double()
    for parameter in unit.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, channels, 2, 5, dtype=torch.double, requires_grad=True)
    weight = torch.randn(2, 12, 2, 5, dtype=torch.double)
    ours, theirs = unit(x), twin(unit, x, groups, 3)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    inputs = [x, *unit.parameters()]
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), inputs),
        torch.autograd.grad((theirs * weight).sum(), inputs),
        strict=True,
    ):
        assert b.abs().max() > 0
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    single = unit.float()(x.detach().float())
    assert (single - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_hops_of_the_hyperformer_skeleton():
    hops = tree(NTU25).hops()
    assert (hops == hops.T).all()
    assert hops.flatten().bincount().tolist() == [25, 48, 58, 60, 66, 72, 80, 72, 56, 40, 32, 16]
    assert (hops[3, 15], hops[21, 22], hops[21, 23]) == (8, 2, 10)
    assert NTU25.hops()[21, 23] == 12, "the bones themselves chain hand tips and thumbs"
    assert tree(KINECT20) == KINECT20
    assert tree(KINECT20).hops().max() == 10
    arm = ["left shoulder", "left elbow", "left wrist", "left hand", "left hand tip", "left thumb"]
    arm = NTU25.subset(arm, up=("left wrist", "left elbow"), across=("left elbow", "left shoulder"))
    assert tree(arm).parents == (0, 0, 1, 2, 3, 3)


def test_published_partitions():
    def sets(skeleton, name):
        groups = partition(skeleton, name)
        return {frozenset(j + 1 for j, g in enumerate(groups) if g == edge) for edge in set(groups)}

    ntu = {
        frozenset({1, 22, 24}),
        frozenset({7, 8, 11, 12, 21, 23, 25}),
        frozenset({3, 4, 5, 6, 9, 10, 13, 17}),
        frozenset({14, 15, 16, 18, 19, 20}),
        frozenset({2}),
    }
    assert sets(NTU25, "joint") == sets(NTU25, "bone") == ntu
    assert sets(KINECT20, "joint") == {frozenset(range(1, 5)), frozenset(range(5, 13)), frozenset(range(13, 21))}
    assert sets(KINECT20, "bone") == {
        frozenset({1, 2, 3, 4, 5, 9, 13, 17}),
        frozenset({6, 7, 8, 10, 11, 12}),
        frozenset({14, 15, 16, 18, 19, 20}),
    }


def test_other_partitions():
    def sets(groups):
        return {frozenset(j for j, g in enumerate(groups) if g == edge) for edge in groups}

    for skeleton, name in ((COCO17, "joint"), (COCO17, "bone"), (NTU25, "parts")):
        assert sets(partition(skeleton, name)) == {frozenset(part) for part in skeleton.parts.values()}
    assert partition(KINECT20, [0] * 19 + [1]) == (0,) * 19 + (1,)
    with pytest.raises(InputError, match="each of the 20 joints of kinect20"):
        Hyperformer(KINECT20, hyperedges=[0] * 19)
    with pytest.raises(InputError, match="numbered from 0 without gaps"):
        Hyperformer(KINECT20, hyperedges=[0] * 19 + [2])
    with pytest.raises(InputError, match="joint, bone, parts or a list; got 'bones'"):
        Hyperformer(KINECT20, hyperedges="bones")


@pytest.mark.parametrize(
    ("skeleton", "persons", "classes", "expected"),
    [
        (NTU25, 2, 60, 2_729_194),
        (NTU25, 2, 120, 2_742_214),
        (NTU25, 2, 51, 2_727_241),
        (KINECT20, 1, 10, 2_695_754),
    ],
)
def test_sizes_of_the_paper(skeleton, persons, classes, expected):
    encoder = Hyperformer(skeleton, num_persons=persons)
    assert parameters(encoder, encoder.classifier(classes)) == expected


@pytest.mark.parametrize(("frames", "left"), [(64, 16), (52, 13), (300, 75), (7, 2), (1, 1)])
def test_shape_of_the_map(frames, left):
    encoder = Hyperformer(COCO17, channels=2, num_persons=3, **SMALL)
    x = torch.randn(2, 2, frames, 17, 3)
    feature_map, features = encoder.with_map(x)
    assert feature_map.shape == (2, 3, 12, left, 17)
    torch.testing.assert_close(features, feature_map.mean((1, 3, 4)))


def test_a_fresh_unit_lets_each_joint_see_itself_alone():
    unit = HyperSelfAttention(12, 12, 3, (0, 0, 1, 1, 2), torch.zeros(5, 5, dtype=torch.long))
    x = torch.randn(2, 12, 4, 5)
    y = unit(x)
    normalised = F.layer_norm(x.transpose(1, 3), (12,))
    values = (normalised @ unit.qkv.weight[24:].T).transpose(1, 3)
    torch.testing.assert_close(y, x + F.conv2d(values, unit.projection.weight, unit.projection.bias, groups=6))
    order = [3, 1, 4, 0, 2]
    torch.testing.assert_close(unit(x[..., order]), y[..., order])


def test_first_gradients():
    encoder = Hyperformer(KINECT20, num_persons=1, **SMALL)
    encoder(torch.randn(3, 3, 8, 20, 1)).pow(2).sum().backward()
    for block in encoder.blocks:
        unit = block.get_submodule("spatial")
        queries_and_keys, values = unit.qkv.weight.grad.split([24, 12])
        for gradient in (unit.relative.grad, unit.edge_query.grad, unit.edges.weight.grad, queries_and_keys):
            assert (gradient == 0).all()
        for gradient in (unit.alpha.grad, unit.outer.grad, values):
            assert (gradient != 0).any()


def test_fresh_weights():
    encoder = Hyperformer(NTU25)
    assert [block.temporal.stride for block in encoder.blocks] == [1, 1, 1, 1, 2, 1, 1, 2, 1, 1]
    plain = [isinstance(block.residual, torch.nn.Identity) for block in encoder.blocks]
    assert plain == [False, True, True, True, False, True, True, False, True, True]
    for unit in (block.spatial for block in encoder.blocks):
        assert not any(p.any() for p in (unit.relative, unit.edge_query, unit.alpha))
        assert (unit.outer == torch.eye(25)).all()
        for weight, fan in ((unit.qkv.weight, unit.norm.weight.numel()), (unit.projection.weight, 36)):
            assert 0.95 / math.sqrt(fan) < weight.abs().max() <= 1 / math.sqrt(fan)
    weight = encoder.classifier(60).weight
    assert weight.std().item() == pytest.approx(math.sqrt(2 / 60), rel=0.05)


def test_fresh_network_does_not_tell_bodies_apart():
    encoder = Hyperformer(KINECT20, num_persons=2, **SMALL).eval()
    x = torch.randn(2, 3, 8, 20, 2)
    torch.testing.assert_close(encoder(x.flip(-1)), encoder(x))


def test_half_precision_attention_is_close():
    unit = HyperSelfAttention(12, 12, 3, (0, 0, 1, 1, 2), torch.zeros(5, 5, dtype=torch.long))
    for parameter in unit.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(2, 12, 4, 5)
    with torch.autocast("cpu", torch.bfloat16):
        y = unit(x)
    assert (y.float() - unit(x)).norm() < 0.03 * unit(x).norm()


@pytest.mark.parametrize("enabled", [False, True])
def test_channels_come_last_in_memory_under_autocast_only(enabled):
    encoder, seen = Hyperformer(KINECT20, strides=(1, 2), **SMALL), []
    for layer in encoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.register_forward_hook(lambda _, arguments, result: seen.extend((arguments[0], result)))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
        encoder(torch.randn(2, 3, 16, 20, 2))
    assert seen
    assert all(y.is_contiguous(memory_format=torch.channels_last) == enabled for y in seen)


def test_the_order_in_memory_changes_no_value():
    unit = HyperSelfAttention(12, 24, 3, (0, 0, 1, 1, 2), torch.zeros(5, 5, dtype=torch.long)).double()
    for parameter in unit.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x, found = torch.randn(2, 12, 4, 5, dtype=torch.float64), []
    for order in (torch.contiguous_format, torch.channels_last):
        given = x.contiguous(memory_format=order).requires_grad_()
        y = unit(given)
        assert y.is_contiguous(memory_format=order)
        found.append((y, *torch.autograd.grad(y.square().sum(), [given, *unit.parameters()])))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(two, one)


def test_widths_that_do_not_fit_are_told():
    with pytest.raises(InputError, match="multiple of heads=9 and of 6"):
        Hyperformer(NTU25, width=36 * 6 + 12)
    with pytest.raises(InputError, match="multiple of heads=5"):
        Hyperformer(NTU25, width=24, heads=5)
    with pytest.raises(InputError, match="multiple of 4"):
        Hyperformer(NTU25, width=18, heads=3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, in its own compiler
def test_compiled_equals_eager():
    encoder = Hyperformer(KINECT20, strides=(1, 2), **SMALL).eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 3, 8, 20, 2)
    torch.testing.assert_close(torch.compile(encoder, fullgraph=True)(x), encoder(x), rtol=1e-4, atol=1e-4)
