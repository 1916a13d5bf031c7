"""The transformer of MAMP: sizes of the paper, initialisation, symmetries, absent bodies."""

import math

import pytest
import torch

from skelcl.encoders import ViT
from skelcl.errors import InputError, OptionError
from skelcl.nn.transformer import DropPath, MaskedDecoder
from skelcl.skeleton import KINECT20, NTU25


def parameters(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def small(skeleton=KINECT20, persons=2, **options):
    return ViT(skeleton, persons, **{"num_frames": 16, "dim": 16, "depth": 3, "heads": 2, "mlp_ratio": 2, **options})


def test_sizes_of_the_paper():
    encoder = ViT()
    assert parameters(encoder) == 6_336_000
    assert parameters(encoder.blocks[0]) == 789_760
    assert parameters(encoder.embed) == 3_328
    assert parameters(encoder.positions) == 14_080
    assert parameters(encoder.norm) == 512
    assert encoder.dim == 256
    assert parameters(encoder.classifier(60)) == 15_420
    assert parameters(encoder, encoder.classifier(60)) == 6_351_420
    joints = ViT(pool="joints")
    assert joints.dim == 6400
    assert parameters(joints, joints.classifier(60)) == 19_572_284
    for depth, expected in ((3, 8_789_004), (5, 10_368_524)):
        assert parameters(encoder, MaskedDecoder(30, 25, 256, 12, depth=depth)) == expected


def test_initialisation_of_the_paper():
    encoder, decoder = ViT(depth=1), MaskedDecoder(30, 25, 256, 12, depth=1)
    block, head = encoder.blocks[0], ViT(depth=1, pool="joints").classifier(60)
    layers = {
        block.attn.qkv: 0.07655,
        block.attn.proj: 0.10825,
        block.mlp[0]: 0.06847,
        block.mlp[2]: 0.06847,
        decoder.predict: 0.14964,
        decoder.blocks[0].attn.qkv: 0.07655,
        head.fc1: math.sqrt(6 / (6400 + 2048)),
        head.fc2: math.sqrt(6 / (2048 + 60)),
    }
    for layer, bound in layers.items():
        assert layer.weight.abs().max().item() == pytest.approx(bound, rel=2e-3)
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
        assert not layer.bias.any()
    for part in (encoder.embed.weight, encoder.embed.bias):
        assert 0.27 < part.abs().max().item() <= 1 / math.sqrt(12)
    for table in (*encoder.positions.parameters(), *decoder.positions.parameters(), decoder.mask_token):
        assert table.std().item() == pytest.approx(0.02, rel=0.12)
    norm, linear = encoder.classifier(600)
    assert linear.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not linear.bias.any()
    assert (norm.affine, norm.eps, norm.momentum) == (False, 1e-6, 0.1)


@torch.no_grad()
def test_without_positions_tokens_are_a_set(double):
    encoder = small().eval()
    tokens, order = torch.randn(2, 80, 16), torch.randperm(80)
    torch.testing.assert_close(encoder.relate(tokens[:, order]), encoder.relate(tokens)[:, order])


@torch.no_grad()
@pytest.mark.parametrize("pool", ["clip", "joints"])
def test_persons_may_change_places_and_clips_do_not_meet(double, pool):
    encoder = small(pool=pool).eval()
    x = torch.randn(3, 3, 16, 20, 2)
    torch.testing.assert_close(encoder(x.flip(-1)), encoder(x))
    torch.testing.assert_close(encoder(x[1:2]), encoder(x)[1:2])
    by_joint = encoder.feature_map(x).mean((1, 3))
    expected = by_joint.mean(2) if pool == "clip" else by_joint.mT.flatten(1)
    torch.testing.assert_close(encoder(x), expected)


@pytest.mark.parametrize("pool", ["clip", "joints"])
def test_who_is_absent_is_one_pass_and_need_not_count(double, pool):
    encoder = small(pool=pool).eval()
    x = torch.randn(5, 3, 16, 20, 2)
    x[:3, ..., 1] = 0
    x[4] = 0
    seen = []
    encoder.norm.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    plain = encoder(x).detach()
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), plain)
    assert seen[0] == 10
    assert sum(seen[1:]) == 7, "five that are there, and one for each slot"
    masked = small(pool=pool, person_pool="masked").eval()
    masked.load_state_dict(encoder.state_dict())
    found = masked(x)
    torch.testing.assert_close(found[:3], masked(x[:3, ..., :1]))
    torch.testing.assert_close(found[3:], plain[3:])


def test_the_map_is_what_is_pooled():
    encoder = small().eval()
    x = torch.randn(2, 3, 16, 20, 2)
    feature_map, features = encoder.with_map(x)
    assert feature_map.shape == (2, 2, 16, 4, 20)
    torch.testing.assert_close(encoder.pool(feature_map), features)


def test_the_fused_product_is_attention(double):
    attention = small().blocks[0].attn
    tokens = torch.randn(2, 7, 16)
    q, k, v = attention.qkv(tokens).chunk(3, -1)
    out = torch.zeros(2, 7, 16)
    for b in range(2):
        for h in range(2):
            part = slice(8 * h, 8 * h + 8)
            weights = (q[b, :, part] @ k[b, :, part].T / math.sqrt(8)).softmax(-1)
            out[b, :, part] = weights @ v[b, :, part]
    torch.testing.assert_close(attention(tokens), attention.proj(out))


def test_paths_are_dropped_for_whole_sequences_at_rates_that_grow():
    encoder = small(depth=4, drop_path=0.3)
    assert [block.drop_path.p for block in encoder.blocks] == pytest.approx([0, 0.1, 0.2, 0.3])
    path, branch = DropPath(0.25), torch.ones(4000, 2, 3)
    dropped = path(branch)
    values = dropped.flatten(1).unique(dim=0)
    assert values.tolist() == [[0.0] * 6, [pytest.approx(4 / 3)] * 6]
    assert dropped.mean().item() == pytest.approx(1, abs=0.04)
    assert torch.equal(path.eval()(branch), branch)


def test_dropout_meets_the_map_in_training_only():
    encoder, x = small(dropout=0.5), torch.randn(2, 3, 16, 20, 2)
    assert not torch.equal(encoder(x), encoder(x))
    encoder.eval()
    assert torch.equal(encoder(x), encoder(x))


@pytest.mark.parametrize(
    ("options", "told"), [({"num_frames": 18}, "no multiple of patch=4"), ({"heads": 3}, "3 heads")]
)
def test_sizes_that_do_not_fit(options, told):
    with pytest.raises(OptionError, match=told):
        small(**options)


@pytest.mark.parametrize("shape", [(2, 16, 20), (3, 12, 20), (3, 16, 25)])
def test_clips_of_other_sizes_are_refused(shape):
    with pytest.raises(InputError, match=r"ViT was made for channels, frames and joints \(3, 16, 20\), the clips have"):
        small()(torch.zeros(1, *shape, 1))


def test_any_number_of_persons():
    assert small(NTU25, 1)(torch.randn(2, 3, 16, 25, 3)).shape == (2, 16)
