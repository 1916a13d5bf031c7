"""SCD-Net's encoder: sizes, tokens, what it does not see, absent bodies, and other extractors."""

from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from einops import rearrange
from torch.utils.flop_counter import FlopCounterMode

from skelcl.encoders import AGCN, CTRGCN, HCN, SCD, Hyperformer, MapEncoder
from skelcl.encoders.scd import SCDNetwork, TokenMaximum
from skelcl.errors import InputError
from skelcl.nn.heads import SCDHeads
from skelcl.skeleton import KINECT20, NTU25, OPENPOSE18

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RUN = EXPERIMENTS / "pretrain" / "as_cal-nw_ucla-default.yaml"


class Identity(MapEncoder):
    """Its map is the clip."""

    dim = 3

    def __init__(self, skeleton, num_persons, channels):
        super().__init__()

    def feature_map(self, x):
        return rearrange(x, "n c t v m -> n m c t v")

    def pool(self, feature_map):
        return feature_map.mean((1, 3, 4))


def parameters(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def trained(encoder):
    """An encoder in eval mode with the weights and statistics of no particular moment."""
    for parameter in encoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    for name, value in encoder.named_buffers():
        if "running" in name:
            value.uniform_(0.5, 1.5)
    return encoder.double().eval()


def small(skeleton=KINECT20, num_persons=2, **arguments):
    return SCD(skeleton, num_persons, **{"num_frames": 6, "widths": (8, 4), "dim": 16, "heads": 2} | arguments)


def clips(*absent, frames=6, skeleton=KINECT20):
    """Double-precision clips; ``absent`` tells of each clip which bodies are missing."""
    x = torch.randn(len(absent), 3, frames, skeleton.num_joints, len(absent[0]), dtype=torch.float64)
    return x * ~torch.tensor(absent)[:, None, None, None]


def test_sizes_of_the_paper():
    encoder, heads = SCD(), SCDHeads(2048)
    assert [parameters(part) for part in (encoder.gcn_t, encoder.gcn_s)] == [363_928] * 2
    tokens = [encoder.tokens_t, encoder.tokens_s]
    assert [parameters(part.embed) for part in tokens] == [10_756_096, 12_591_104]
    assert [parameters(part.layers) for part in tokens] == [25_186_304] * 2
    assert parameters(encoder) == 74_447_664
    assert parameters(SCDNetwork(encoder, heads)) == 92_017_840
    assert [parameters(head) for head in (heads.temporal, heads.spatial, heads.anchor)] == [4_458_624] * 2 + [8_652_928]
    for classes, total in ((60, 74_693_484), (120, 74_939_304), (51, 74_656_611)):
        assert parameters(encoder, encoder.classifier(classes)) == total


@pytest.mark.parametrize(
    ("skeleton", "persons", "channels", "frames"), [(KINECT20, 1, 3, 32), (OPENPOSE18, 3, 2, 5), (NTU25, 2, 3, 1)]
)
def test_any_skeleton_persons_channels_and_frames(skeleton, persons, channels, frames):
    encoder = SCD(skeleton, persons, channels, frames, widths=(8, 4), dim=16, heads=4, layers=2, feedforward=24)
    assert encoder.tokens_t.embed[0].in_features == persons * skeleton.num_joints * 4
    assert encoder.tokens_s.embed[0].in_features == frames * 4
    assert [len(tokens.layers) for tokens in (encoder.tokens_t, encoder.tokens_s)] == [2, 2]
    assert encoder.tokens_s.layers[1].linear1.weight.shape == (24, 16)
    x = torch.randn(2, channels, frames, skeleton.num_joints, persons)
    v_t, v_s = encoder.eval().clues(x)
    assert v_t.shape == v_s.shape == (2, 16)
    assert torch.equal(encoder(x), torch.cat([v_t, v_s], 1))
    assert encoder.dim == 32


def test_tokens_are_frames_and_joints_with_channels_innermost():
    encoder = small(extractor=Identity)
    seen = {}
    for name in ("tokens_t", "tokens_s"):
        getattr(encoder, name).register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0]}))
    x = torch.randn(2, 3, 6, 20, 2)
    encoder(x)
    frames, joints = torch.empty(2, 6, 120), torch.empty(2, 40, 18)
    for m in range(2):
        for v in range(20):
            for c in range(3):
                frames[:, :, 60 * m + 3 * v + c] = x[:, c, :, v, m]
                joints[:, 20 * m + v, c::3] = x[:, c, :, v, m]
    assert torch.equal(seen["tokens_t"], frames)
    assert torch.equal(seen["tokens_s"], joints)


def test_order_of_tokens_is_not_seen():
    tokens = trained(TokenMaximum(12, 16, 4, 2, 16, 0.1))
    x = torch.randn(3, 7, 12, dtype=torch.float64)
    torch.testing.assert_close(tokens(x), tokens(x[:, torch.randperm(7)]))


def test_transformer_is_that_of_the_textbook():
    """Post-norm attention and feed-forward layers, written out, in training mode without dropout."""
    tokens = trained(TokenMaximum(12, 16, 4, 1, 24, 0.0)).train()
    layer, x = tokens.layers[0], tokens.embed(torch.randn(3, 7, 12, dtype=torch.float64))
    q, k, v = (x @ layer.self_attn.in_proj_weight.T + layer.self_attn.in_proj_bias).chunk(3, 2)
    heads = []
    for h in range(4):
        own = slice(4 * h, 4 * h + 4)
        heads.append((q[..., own] @ k[..., own].mT / 2).softmax(2) @ v[..., own])
    y = layer.norm1(x + layer.self_attn.out_proj(torch.cat(heads, 2)))
    y = layer.norm2(y + layer.linear2(layer.linear1(y).relu()))
    tokens.embed = torch.nn.Identity()
    torch.testing.assert_close(tokens(x), y.max(1).values)


def test_tied_tokens_share_the_gradient():
    tokens = TokenMaximum(12, 16, 4, 0, 16, 0.1)
    x = torch.randn(1, 1, 12).repeat(2, 5, 1).requires_grad_()
    tokens(x).sum().backward()
    one = x.detach()[:, :1].requires_grad_()
    tokens(one).sum().backward()
    torch.testing.assert_close(x.grad, one.grad.expand(2, 5, 12) / 5)


def test_fresh_relations_leave_a_static_graph():
    unit = SCD(KINECT20, 1, num_frames=4, widths=(8,), dim=8, heads=2).gcn_t.blocks[0].spatial.eval()
    x = torch.randn(2, 3, 4, 20)
    static = torch.einsum("suv,nsctv->nctu", unit.graph, unit.value(x).unflatten(1, (3, 8)))
    torch.testing.assert_close(unit(x), (unit.bn(static) + unit.shortcut(x)).relu())


def test_persons_swap_without_a_trace_in_the_spatial_clue():
    encoder = small().double().eval()  # whose batch norms still treat all slots alike
    x = clips([False, False], [False, False])
    (v_t, v_s), (swapped_t, swapped_s) = encoder.clues(x), encoder.clues(x.flip(-1))
    torch.testing.assert_close(swapped_s, v_s)
    assert (swapped_t - v_t).abs().max() > 1e-3
    assert (trained(encoder)(x)[:, 16:] - encoder(x.flip(-1))[:, 16:]).abs().max() > 1e-3


def test_single_person_clips_share_the_absent_body():
    encoder = trained(small())
    x = clips(*[[False, True]] * 5)
    plain, seen = encoder(x), []
    for extractor in (encoder.gcn_t, encoder.gcn_s):
        extractor.blocks.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    with torch.no_grad():
        shared = encoder(x)
    assert seen == [6, 6]
    torch.testing.assert_close(shared, plain.detach())


@pytest.mark.parametrize("gradients", [False, True])
def test_masked_bodies_leave_no_spatial_tokens(gradients):
    encoder = trained(small(mask_absent=True))
    plain = small()
    plain.load_state_dict(encoder.state_dict())
    plain.double().eval()
    x = clips([False, True], [False, False], [True, False], [True, True])
    with torch.set_grad_enabled(gradients):
        v_t, v_s = encoder.clues(x)
        every_t, every_s = plain.clues(x)
        joints = rearrange(plain.gcn_s.feature_map(x), "n m c t v -> n m v (t c)")
        first, second = plain.tokens_s(joints[:1, 0]), plain.tokens_s(joints[2:3, 1])
    torch.testing.assert_close(v_t, every_t)
    torch.testing.assert_close(v_s, torch.cat([first, every_s[1:2], second, every_s[3:]]))
    assert (v_s[0] - every_s[0]).abs().max() > 1e-3


def test_a_mask_needs_a_map_with_bodies():
    hcn = partial(HCN, num_frames=16)
    with pytest.raises(InputError, match="HCN merges 2 bodies into 1"):
        SCD(KINECT20, 2, num_frames=16, extractor=hcn, dim=16, mask_absent=True)


EXTRACTORS = {
    "ctr-gcn": (partial(CTRGCN, widths=(8, 12), strides=(1, 2)), 2 * 20 * 12, 8 * 12),
    "2s-agcn": (partial(AGCN, widths=(8, 12), strides=(2, 2)), 2 * 20 * 12, 4 * 12),
    "hyperformer": (partial(Hyperformer, width=12, heads=3, strides=(1, 2)), 2 * 20 * 12, 8 * 12),
    "hcn": (partial(HCN, num_frames=16, points=32, hidden=8), 1 * 2 * 256, 1 * 256),
}


@pytest.mark.parametrize("name", EXTRACTORS)
def test_any_extractor_with_a_map(name):
    extractor, frame, joint = EXTRACTORS[name]
    encoder = SCD(KINECT20, 2, num_frames=16, extractor=extractor, dim=16, heads=2)
    assert isinstance(encoder.gcn_t, extractor.func)
    assert (encoder.tokens_t.embed[0].in_features, encoder.tokens_s.embed[0].in_features) == (frame, joint)
    for (key, t), s in zip(encoder.gcn_t.named_parameters(), encoder.gcn_s.parameters(), strict=True):
        assert t is not s
        assert t.unique().numel() == 1 or key.endswith(("graph", "outer")) or not torch.equal(t, s), key
    features = encoder(torch.randn(3, 3, 16, 20, 2))
    (features * torch.randn(32)).sum().backward()
    for module in (encoder.gcn_t, encoder.gcn_s, encoder.tokens_t, encoder.tokens_s):
        assert any(p.grad is not None and p.grad.any() for p in module.parameters())


def test_the_extractor_is_swapped_by_one_flag(skelcl, ucla):
    words = ["fit", "--config", RUN, f"--data.root={ucla}", "--trainer.accelerator=cpu", "--trainer.max_epochs=0"]
    words += [f"--trainer.{word}" for word in ("enable_progress_bar=false", "num_sanity_val_steps=0", "logger=false")]
    words += ["--model.encoder=SCD", "--model.encoder.init_args.dim=16", "--model.encoder.init_args.num_frames=8"]
    encoder = skelcl(*words, "--model.encoder.init_args.extractor=AGCN").model.encoder
    for extractor in (encoder.gcn_t, encoder.gcn_s):
        assert isinstance(extractor, AGCN)
        assert extractor.shape == (3, 20, 1), "skeleton and persons of the data"


def test_size_stated_in_the_small_block():
    text = (EXPERIMENTS / "encoders" / "scd-small.yaml").read_text()
    encoder = SCD(KINECT20, 1, **yaml.safe_load(text)["init_args"]).eval()
    with FlopCounterMode(display=False) as counter:
        encoder(torch.randn(1, 3, encoder.num_frames, 20, 1))
    assert f"{parameters(encoder):,} parameters" in text
    assert f"{counter.get_total_flops() / 2e6:.0f} million multiply-adds" in text
    assert f"features are {encoder.dim} wide" in text


def test_looking_for_the_map_leaves_no_trace():
    torch.manual_seed(1)
    encoder = small()
    assert all(module.training for module in encoder.modules())
    assert not any(value.any() for name, value in encoder.state_dict().items() if "num_batches" in name)
    torch.manual_seed(1)
    assert torch.equal(CTRGCN(KINECT20, 2, 3, (8, 4), (1, 1)).blocks[1].temporal.near.weight, near(encoder.gcn_t))


def near(extractor):
    return extractor.blocks[1].temporal.near.weight


def test_initialisation_of_the_reference():
    tokens, heads = TokenMaximum(96, 64, 4, 1, 64, 0.1), SCDHeads(64, 32)
    layer = tokens.layers[0]
    for weight, fans in (
        (layer.self_attn.in_proj_weight, 4 * 64),
        (layer.self_attn.out_proj.weight, 2 * 64),
        (layer.linear1.weight, 2 * 64),
        (tokens.embed[0].weight, 96 + 64),
        (heads.anchor[0].weight, 3 * 64),
        (heads.temporal[2].weight, 64 + 32),
    ):
        bound = (6 / fans) ** 0.5
        assert 0.98 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)
    assert not layer.self_attn.in_proj_bias.any()
    assert not layer.self_attn.out_proj.bias.any()
    for bias, fan_in in ((layer.linear1.bias, 64), (tokens.embed[0].bias, 96), (heads.anchor[0].bias, 128)):
        assert 0.8 * fan_in**-0.5 < bias.abs().max() <= fan_in**-0.5


def test_classifier_of_the_linear_evaluation():
    layer = small(dim=512, num_persons=1).classifier(60)
    assert layer.weight.shape == (60, 1024)
    assert layer.weight.std().item() == pytest.approx(0.01, rel=0.03)
    assert not layer.bias.any()


def test_heads_project_each_clue_and_both():
    heads = SCDHeads(16, 4)
    v_t, v_s = torch.randn(2, 3, 16)
    for z, head, v in zip(heads(v_t, v_s), heads.children(), (v_t, v_s, torch.cat([v_t, v_s], 1)), strict=True):
        hidden = (v @ head[0].weight.T + head[0].bias).clamp(min=0)
        torch.testing.assert_close(z, hidden @ head[2].weight.T + head[2].bias)


def test_wrong_sizes_are_named():
    with pytest.raises(InputError, match=r"dim must be a multiple of heads=8.* got 20"):
        SCD(dim=20)
    with pytest.raises(InputError, match="made for num_frames=6, but the clips have 7 frames"):
        small()(torch.zeros(1, 3, 7, 20, 2))


def test_dropout_is_all_that_is_random():
    encoder, x = small(), torch.randn(4, 3, 6, 20, 2)
    assert not torch.equal(encoder(x), encoder(x))
    encoder = small(dropout=0.0)
    assert torch.equal(encoder(x), encoder(x))


def test_mixed_precision_stays_close_and_trains():
    encoder, x = small(dropout=0.0), torch.randn(8, 3, 6, 20, 2)
    expected = encoder(x)
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder(x)
    torch.testing.assert_close(features.float(), expected, rtol=0, atol=0.05 * expected.abs().max().item())
    features.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_compiled(mode):
    encoder, x = small(dropout=0.0, mask_absent=True).train(mode == "train"), clips([False, True]).float()
    torch.testing.assert_close(torch.compile(encoder, fullgraph=True)(x), encoder(x), rtol=1e-4, atol=1e-4)
