"""DSTA against loops over every element, numbers worked out by hand, and what it must not notice."""

import math
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from skelcl.data import NWUCLA
from skelcl.encoders import DSTA
from skelcl.encoders.dsta import ClipAttention, DSTABlock, SDSCLNetwork, positional_encoding, presence
from skelcl.errors import InputError
from skelcl.methods import ASCAL
from skelcl.nn import SDSCLHeads
from skelcl.nn.attention import SIIA
from skelcl.skeleton import KINECT20, NTU25
from skelcl.transforms import Normalize, Truncate, View

SMALL = ((4, 2, 1), (8, 4, 2))


def random(*shape):
    return torch.randn(shape, dtype=torch.float64)


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def randomise(module):
    """Weights, scales and statistics like those of a trained network, in double precision."""
    for value in module.double().state_dict().values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5 if value.dim() == 1 else 0.5 * torch.randn_like(value))
    return module


def norm(layer, x):
    """Convolution and batch norm as they are in eval mode, unless there is no layer."""
    if isinstance(layer, nn.Identity):
        return x
    y = F.conv2d(x, layer.conv.weight, layer.conv.bias, layer.conv.stride, layer.conv.padding)
    scale = layer.bn.weight / (layer.bn.running_var + layer.bn.eps).sqrt()
    return (y - layer.bn.running_mean[:, None, None]) * scale[:, None, None] + layer.bn.bias[:, None, None]


def loop_attention(unit, x, heads):
    """The unit on x (N, C, T, V): position p of channel pair i turns by p / 10000^(2i/C); sums over queries."""
    n, channels, frames, joints = x.shape
    placed = x.clone()
    for c in range(channels):
        for v in range(joints):
            angle = v * 10000 ** (-(c - c % 2) / channels)
            placed[:, c, :, v] += math.cos(angle) if c % 2 else math.sin(angle)
    related = torch.einsum("dc,nctv->ndtv", unit.relate.weight[:, :, 0, 0], placed)
    related = related + unit.relate.bias[:, None, None]
    inner = related.shape[1] // (2 * heads)
    out = torch.zeros(n, heads * channels, frames, joints, dtype=x.dtype)
    for a in range(n):
        for s in range(heads):
            q, k = (related[a, start + s * inner : start + (s + 1) * inner] for start in (0, heads * inner))
            for u in range(joints):
                for v in range(joints):
                    products = sum((q[c, t, u] * k[c, t, v]).item() for c in range(inner) for t in range(frames))
                    weight = unit.alpha[s, 0, 0] * math.tanh(products / (inner * frames))
                    if unit.graph is not None:
                        weight = weight + unit.graph[s, u, v]
                    out[a, s * channels : (s + 1) * channels, :, v] += weight * x[a, :, :, u]
    return norm(unit.merge, out)


def twin(block, x, heads):
    """A block in eval mode."""

    def activate(y):
        return torch.where(y > 0, y, 0.1 * y)

    y = activate(norm(block.around_joints, x) + loop_attention(block.joints, x, heads))
    y = activate(norm(block.around_point, x) + norm(block.point, y))
    z = y
    if block.frames is not None:
        z = activate(y + loop_attention(block.frames, y.transpose(2, 3), heads).transpose(2, 3))
    return activate(norm(block.around_temporal, y) + norm(block.temporal, z))


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("temporal_attention", [False, True])
@pytest.mark.parametrize(("width", "stride"), [(4, 1), (4, 2), (6, 1), (6, 2)])
def test_a_block_equals_plain_loops(width, stride, temporal_attention, order):
    block = randomise(DSTABlock(3, 4, width, 2, stride, 2, "tanh", temporal_attention)).eval()
    block.encoding = positional_encoding(3, 4).double()
    x = random(2, 4, 5, 3)
    with torch.no_grad():
        found, expected = block(x.contiguous(memory_format=order)), twin(block, x, 2)
    assert found.shape == (2, width, -(-5 // stride), 3)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)  # positions are in single precision
    kernels = {layer.conv.kernel_size for layer in block.modules() if hasattr(layer, "conv")}
    assert kernels == ({(1, 1)} if temporal_attention else {(1, 1), (7, 1)})


def test_the_order_in_memory_changes_no_gradient():
    block = randomise(DSTABlock(3, 4, 6, 2, 2, 2, "tanh", False))
    x = random(2, 4, 5, 3)
    gradients = []
    for order in (torch.contiguous_format, torch.channels_last):
        given = x.contiguous(memory_format=order).requires_grad_()
        gradients.append(torch.autograd.grad(block(given).square().sum(), [given, *block.parameters()]))
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(two, one)


def test_channels_come_last_in_memory_under_autocast_only():
    encoder, seen = DSTA(KINECT20, blocks=SMALL), []
    for layer in encoder.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _, arguments, result: seen.extend((arguments[0], result)))
    x = torch.randn(2, 3, 16, 20, 2)
    for enabled in (False, True):
        seen.clear()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            encoder(x)
        assert seen
        assert all(y.is_contiguous(memory_format=torch.channels_last) == enabled for y in seen)


def attention_by_hand(x, query, key, **options):
    """One head and channel, two joints: what the attention collects, and its layer."""
    unit = ClipAttention(1, 1, 1, 1, "tanh", 2).eval()
    unit.merge.conv, unit.merge.bn = nn.Identity(), nn.Identity()
    with torch.no_grad():
        for row, (first, second) in enumerate((query, key)):
            unit.relate.weight[row] = (second - first) / (x[1] - x[0])
            unit.relate.bias[row] = first - unit.relate.weight[row, 0, 0, 0] * x[0]
        unit.graph.fill_(options.get("graph", 0.0))
        return unit(torch.tensor(x).view(1, 1, 1, 2), torch.zeros(1, 2)).flatten()


def test_the_sum_runs_over_queries():
    torch.testing.assert_close(attention_by_hand((1.0, 10.0), (1, 2), (3, -1)), torch.tensor([10.994932, -10.401870]))
    found = attention_by_hand((1.0, 10.0), (0, 0), (0, 0), graph=0.5)
    torch.testing.assert_close(found, torch.tensor([5.5, 5.5]))


def test_without_queries_and_keys_the_mean_over_joints_is_left():
    unit = ClipAttention(4, 4, 2, 3, "tanh", 5).eval()
    seen = {}
    unit.merge.conv.register_forward_pre_hook(lambda _, arguments: seen.update(x=arguments[0]))
    nn.init.zeros_(unit.relate.weight)
    nn.init.zeros_(unit.relate.bias)
    x = torch.randn(2, 4, 3, 5)
    unit(x, positional_encoding(5, 4))
    torch.testing.assert_close(seen["x"], x.mean(3, keepdim=True).repeat(1, 3, 1, 5))


def test_softmax_is_over_what_is_summed():
    unit = ClipAttention(4, 4, 2, 3, "softmax", 5).eval()
    unit.merge.conv, unit.merge.bn = nn.Identity(), nn.Identity()
    nn.init.zeros_(unit.graph)
    constant = torch.ones(1, 4, 3, 5)
    torch.testing.assert_close(unit(constant, torch.randn(4, 5)), torch.ones(1, 12, 3, 5))


def test_positions():
    found = positional_encoding(25, 6)
    assert found.shape == (6, 25)
    for c in range(6):
        for p in (0, 1, 24):
            angle = p * 10000 ** (-(c - c % 2) / 6)
            assert found[c, p].item() == pytest.approx(math.cos(angle) if c % 2 else math.sin(angle), abs=1e-5)
    assert not [name for name in DSTA(blocks=SMALL).state_dict() if "encoding" in name]


def test_sizes_of_the_released_configuration():
    encoder = DSTA()
    assert [parameters(block) for block in encoder.blocks] == [
        *(60_552, 60_552, 218_056, 233_288, 859_592, 922_824, 922_824, 922_824)
    ]
    assert parameters(encoder.lift) == 384
    assert parameters(encoder) + parameters(encoder.classifier(60)) == 4_216_316


@pytest.mark.parametrize(("block", "skeleton"), [("dsta", NTU25), ("dsta-small", KINECT20)])
def test_sizes_in_the_headers_of_the_shipped_blocks(block, skeleton):
    text = (Path(__file__).parents[2] / "experiments" / "encoders" / f"{block}.yaml").read_text()
    encoder = DSTA(skeleton, 1, **yaml.safe_load(text)["init_args"])
    with FlopCounterMode(display=False) as counter:
        encoder(torch.randn(1, 3, 50, skeleton.num_joints, 1))
    macs = counter.get_total_flops() / 2
    assert f"{parameters(encoder) / 1e6:.2f} M parameters and {macs / 1e6:.0f} M MACs" in text


@pytest.mark.parametrize(("frames", "tokens"), [(1, 1), (30, 8), (50, 13), (64, 16), (128, 32)])
@pytest.mark.parametrize("persons", [1, 2, 3])
def test_any_number_of_frames_and_persons(frames, tokens, persons):
    blocks = ((4, 1, 1), (4, 1, 1), (8, 2, 2), (8, 2, 1), (8, 2, 2))
    for temporal_attention in (False, True):
        encoder = DSTA(NTU25, persons, blocks=blocks, temporal_attention=temporal_attention)
        assert encoder.feature_map(torch.randn(2, 3, frames, 25, persons)).shape == (2, persons, 8, tokens, 25)


def test_weights_start_as_said():
    encoder = DSTA(blocks=((64, 16, 1), (128, 32, 2)))
    block = encoder.blocks[1]
    for conv, fan in ((block.joints.relate, 256), (block.joints.merge.conv, 128), (block.temporal.conv, 7 * 128)):
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / fan), rel=0.03)
        bound = 1 / math.sqrt(conv.weight[0].numel())
        assert 0.9 * bound < conv.bias.abs().max() <= bound
    assert (block.joints.alpha == 1).all()
    assert (block.joints.graph == 1 / 25).all()
    classifier = DSTA().classifier(300)
    assert classifier.weight.std().item() == pytest.approx(math.sqrt(2 / 556), rel=0.03)
    assert not classifier.bias.any()


def test_the_map_of_joints_ignores_the_order_of_frames():
    unit = randomise(ClipAttention(4, 4, 2, 2, "tanh", 5)).eval()
    x, order = random(2, 4, 3, 5), torch.tensor([2, 0, 1])
    encoding = positional_encoding(5, 4).double()
    torch.testing.assert_close(unit(x[:, :, order], encoding), unit(x, encoding)[:, :, order])
    turned = unit(x[..., [4, 0, 1, 2, 3]], encoding)
    assert not torch.allclose(turned, unit(x, encoding)[..., [4, 0, 1, 2, 3]]), "joints are told apart"


def test_bodies_weigh_the_same_unless_masked():
    encoder = randomise(DSTA(KINECT20, blocks=SMALL)).eval()
    masked = DSTA(KINECT20, blocks=SMALL, person_pool="masked").double().eval()
    masked.load_state_dict(encoder.state_dict())
    x = random(4, 3, 8, 20, 2)
    x[1, ..., 1] = x[2, ..., 0] = x[3] = 0
    single = DSTA(KINECT20, 1, blocks=SMALL).double().eval()
    single.load_state_dict(encoder.state_dict())
    alone = torch.stack([single(x[..., m : m + 1]) for m in range(2)])
    torch.testing.assert_close(encoder(x), alone.mean(0))
    seen = []
    encoder.lift.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), alone.mean(0))
    assert seen == [6], "one absent body stands for all of its slot"
    expected = torch.stack([alone[:, 0].mean(0), alone[0, 1], alone[1, 2], alone[:, 3].mean(0)])
    torch.testing.assert_close(masked(x), expected)
    feature_map, features = masked.with_map(x)
    torch.testing.assert_close(features, expected)
    torch.testing.assert_close(masked.pool(feature_map), encoder(x))
    assert presence(x).tolist() == [[0.5, 0.5], [1, 0], [0, 1], [0.5, 0.5]]


@pytest.mark.parametrize("temporal_attention", [False, True])
def test_reduced_precision_stays_close(temporal_attention):
    encoder = DSTA(KINECT20, blocks=SMALL, temporal_attention=temporal_attention, person_pool="masked")
    x = torch.randn(4, 3, 16, 20, 2)
    with torch.no_grad():
        expected = encoder(x)
        with torch.autocast("cpu", torch.bfloat16):
            found = encoder(x)
    assert (found - expected).norm() < 0.05 * expected.norm()


def test_odd_channels_are_refused():
    with pytest.raises(InputError, match=r"must be even; got \[7, 8\]"):
        DSTA(blocks=((7, 2, 1), (8, 2, 1)))


def network(person_pool="mean", persons=2):
    return randomise(SDSCLNetwork(DSTA(KINECT20, persons, blocks=SMALL), SIIA(8, 2), person_pool)).eval()


def test_what_is_squeezed_out_of_the_maps():
    model, (joint, motion) = network(), random(2, 3, 3, 7, 20, 2)
    joints, frames, clips, features = model(joint, motion)
    assert joints.shape == (2, 2, 3, 20, 8)
    assert frames.shape == (2, 2, 3, 4, 8)
    maps = [model.encoder.feature_map(x) for x in (joint, motion)]
    refined = [model.siia(*bodies) for bodies in zip(*maps, strict=True)]
    for stream, own in enumerate(maps):
        torch.testing.assert_close(features[stream], own.mean((1, 3, 4)))
    for clip, streams in enumerate(refined):  # of each stream: body, way, channel, frame, joint
        for stream in range(2):
            means = streams[stream].mean(0)
            for kind, (temporal, spatial) in enumerate(((0, 1), (2, 3))):
                torch.testing.assert_close(joints[stream, kind, clip], means[temporal].mean(1).T)
                torch.testing.assert_close(frames[stream, kind, clip], means[spatial].mean(2).T)
            torch.testing.assert_close(clips[stream, clip], means.mean((2, 3)).flatten())


def test_persons_and_streams_may_be_exchanged():
    model, (joint, motion) = network(), random(2, 3, 3, 7, 20, 2)
    plain = model(joint, motion)
    for found, expected in zip(model(joint.flip(4), motion.flip(4)), plain, strict=True):
        torch.testing.assert_close(found, expected)
    for found, expected in zip(model(motion, joint), plain, strict=True):
        torch.testing.assert_close(found, expected.flip(0))


def test_nobody_is_left_out_when_masked():
    model, single = network("masked"), network("masked", 1)
    single.load_state_dict(model.state_dict())
    joint, motion = random(2, 3, 3, 7, 20, 2)
    joint[..., 1] = motion[..., 1] = 0
    for found, expected in zip(model(joint, motion), single(joint[..., :1], motion[..., :1]), strict=True):
        torch.testing.assert_close(found, expected)
    model.person_pool = "mean"
    assert not torch.allclose(model(joint, motion).features, found)


def test_the_streams_share_the_statistics_of_the_encoder():
    model = network().train()
    joint, motion = random(2, 3, 3, 7, 20, 2)
    seen = []
    model.encoder.lift.bn.register_forward_hook(lambda *call: seen.append(len(call[1][0])))
    model(joint, motion)
    assert seen == [12]


def test_heads():
    heads = SDSCLHeads(64, 32)
    assert heads.token(torch.randn(5, 64)).shape == (5, 32)
    assert heads.clip(torch.randn(5, 256)).shape == (5, 128)
    assert parameters(SDSCLHeads().token) == 131_584
    assert parameters(SDSCLHeads().clip) == 2_099_200
    for linear in (heads.clip[0], heads.clip[2]):
        assert linear.weight.std().item() == pytest.approx(math.sqrt(2 / sum(linear.weight.shape)), rel=0.05)
        assert not linear.bias.any()
    x = torch.randn(5, 64)
    hidden = (x @ heads.token[0].weight.T).clamp(min=0)
    torch.testing.assert_close(heads.token(x), hidden @ heads.token[2].weight.T)


def test_as_cal_trains_it(ucla):
    data = NWUCLA(ucla, batch_size=20, num_workers=0)
    view = View(Truncate(8), Normalize("root"))
    method = ASCAL(DSTA(data.skeleton, data.num_persons, blocks=SMALL), view, view, queue_size=50, warmup_epochs=0)
    before = {name: p.clone() for name, p in method.encoder.named_parameters()}
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(method, data)
    assert trainer.callback_metrics["train/loss"].isfinite()
    assert all(not torch.equal(p, before[name]) for name, p in method.encoder.named_parameters())
