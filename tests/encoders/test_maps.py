"""Maps of encoders are those that the forward pass uses: a layer's output is computed again from its map."""

import pytest
import torch
from einops import rearrange

from skelcl.encoders import AGCN, CTRGCN, DSTA, HCN, LSTM, SCD, Hyperformer
from skelcl.skeleton import KINECT20

N, M, T, V = 2, 2, 16, 20


@pytest.fixture
def clips():
    x = torch.randn(N, 3, T, V, M, dtype=torch.float64)
    x[1, ..., 1] = 0  # nobody there
    return x


def opened(encoder):
    """In double precision, with every path open that is closed when training starts."""
    for parameter in encoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return encoder.double().eval()


def inputs(encoder, place, clips):
    """What a layer sees in an ordinary pass over all bodies, and what it makes of it."""
    seen = []
    layer = encoder.get_submodule(place)
    hook = layer.register_forward_hook(lambda _, words, result: seen.append((words[0], result)))
    with torch.enable_grad():
        encoder(clips)
    hook.remove()
    ((x, y),) = seen
    return layer, x.detach(), y.detach()


def agcn(layer, graphs, x):
    mixed = torch.einsum("nswv,nctv->nsctw", graphs, x).flatten(1, 2)
    y = torch.einsum("nktw,ok->notw", mixed, layer.value.weight[:, :, 0, 0]) + layer.value_bias.sum(0)[:, None, None]
    return (layer.bn(y) + layer.shortcut(x)).relu()


def ctr_gcn(layer, graphs, x):
    value = layer.value(x).unflatten(1, (3, -1))
    return (layer.bn(torch.einsum("nscuv,nsctv->nctu", graphs, value)) + layer.shortcut(x)).relu()


def hyperformer(layer, graphs, x):
    x = rearrange(x, "n c t v -> n t v c")
    *_, v = rearrange(layer.qkv(layer.norm(x)), "n t v (three h c) -> three n t v h c", three=3, h=graphs.shape[1])
    y = torch.einsum("nhtij,ntjhc->ntihc", graphs, v)
    return layer.projection(rearrange(y, "n t v h c -> n (h c) t v")) + layer.skip(x).permute(0, 3, 1, 2)


def dsta(layer, graphs, x):
    return layer.merge(rearrange(torch.einsum("nsvu,nctu->nsctv", graphs, x), "n s c t v -> n (s c) t v"))


def scd(layer, graphs, x):
    value = torch.nn.functional.linear(x, *(part.chunk(3)[2] for part in layer.self_attn.parameters_of_values))
    value = rearrange(value, "l n (h c) -> n h l c", h=graphs.shape[1])
    heads = rearrange(torch.einsum("nhij,nhjc->nhic", graphs, value), "n h l c -> l n (h c)")
    y = layer.norm1(x + layer.self_attn.out_proj(heads))
    return layer.norm2(y + layer.linear2(layer.linear1(y).relu()))


def make_scd(**options):
    encoder = SCD(KINECT20, M, num_frames=T, widths=(8,), dim=16, heads=2, layers=2, **options)
    for module in encoder.modules():
        if isinstance(module, torch.nn.MultiheadAttention):
            module.parameters_of_values = (module.in_proj_weight, module.in_proj_bias)
    return encoder


CASES = {
    "agcn": (lambda: AGCN(KINECT20, M, widths=(8, 16), strides=(1, 2)), "joints", "blocks.1.spatial", agcn),
    "ctr_gcn": (lambda: CTRGCN(KINECT20, M, widths=(8, 16), strides=(1, 2)), "joints", "blocks.1.spatial", ctr_gcn),
    "hyperformer": (
        lambda: Hyperformer(KINECT20, M, width=12, heads=3, strides=(1, 2)), "joints", "blocks.1.spatial", hyperformer,
    ),
    "dsta": (lambda: DSTA(KINECT20, M, blocks=((8, 4, 1), (16, 4, 2))), "joints", "blocks.1.joints", dsta),
    "dsta-frames": (
        lambda: DSTA(KINECT20, M, blocks=((8, 4, 1), (16, 4, 2)), temporal_attention=True), "frames",
        "blocks.1.frames", dsta,
    ),
    "scd-joints": (make_scd, "joints", "tokens_s.layers.1", scd),
    "scd-frames": (make_scd, "frames", "tokens_t.layers.1", scd),
}  # fmt: skip


@pytest.mark.parametrize(("make", "over", "place", "again"), CASES.values(), ids=CASES)
def test_a_layer_from_its_map(make, over, place, again, clips):
    encoder = opened(make())
    before = encoder(clips).detach()
    with torch.no_grad():
        maps = encoder.maps(clips, over)
    layer, x, y = inputs(encoder, place, clips)
    size = {"joints": (V, V), "frames": (T, T)}[over]
    if place.startswith("tokens_s"):
        size = (M * V, M * V)
    assert maps[place].shape[0] == N
    assert maps[place].shape[1] == (1 if place.startswith("tokens") else M)
    assert maps[place].shape[-2:] == size
    torch.testing.assert_close(again(layer, maps[place].flatten(0, 1), x), y)
    assert not maps[place].requires_grad
    torch.testing.assert_close(encoder(clips).detach(), before, rtol=0, atol=0)  # no hook stays behind
    assert not any(module._forward_pre_hooks for module in encoder.modules())


def test_names_in_the_order_of_the_pass():
    encoder = opened(make_scd())
    x = torch.randn(1, 3, T, V, M, dtype=torch.float64)
    spatial = ["gcn_t.blocks.0.spatial", "gcn_s.blocks.0.spatial", "tokens_s.layers.0", "tokens_s.layers.1"]
    assert list(encoder.maps(x)) == spatial
    assert list(encoder.maps(x, "frames")) == ["tokens_t.layers.0", "tokens_t.layers.1"]


def test_ctr_gcn_without_refinement_shows_its_learned_graphs(clips):
    encoder = opened(CTRGCN(KINECT20, M, widths=(8, 16), strides=(1, 2)))
    for block in encoder.blocks:
        torch.nn.init.zeros_(block.spatial.alpha)
    for block, map in zip(encoder.blocks, encoder.maps(clips).values(), strict=True):
        assert torch.equal(map, block.spatial.graph[:, None].expand_as(map))


def test_agcn_adds_a_softmax_to_its_graphs(clips):
    encoder = opened(AGCN(KINECT20, M, widths=(8,), strides=(1,)))
    (map,) = encoder.maps(clips).values()
    layer = encoder.blocks[0].spatial
    attended = map - (layer.skeleton_graph + layer.graph).mT
    assert (attended > 0).all()
    torch.testing.assert_close(attended.sum(-1), torch.ones(N, M, 3, V, dtype=torch.float64))
    assert (attended[0, 0] - attended[0, 1]).abs().max() > 1e-6, "each body has a graph of its own"


def test_rows_of_attention_sum_to_one(clips):
    encoder = opened(Hyperformer(KINECT20, M, width=12, heads=3, strides=(1, 2)))
    for block in encoder.blocks:
        torch.nn.init.zeros_(block.spatial.outer)
        torch.nn.init.ones_(block.spatial.alpha)
    shapes = [tuple(map.shape) for map in encoder.maps(clips).values()]
    assert shapes == [(N, M, 3, T, V, V), (N, M, 3, T, V, V)]  # a block strides behind its attention
    for map in (*encoder.maps(clips).values(), *opened(make_scd()).maps(clips, "frames").values()):
        torch.testing.assert_close(map.sum(-1), torch.ones_like(map[..., 0]))


def test_absent_bodies_are_no_token_that_anybody_looks_at(clips):
    maps = opened(make_scd(mask_absent=True)).maps(clips)["tokens_s.layers.0"]
    assert maps[1, 0, :, :, V:].abs().max() == 0
    assert maps[0, 0, :, :, V:].abs().min() > 0


@pytest.mark.parametrize("make", [lambda: LSTM(KINECT20, M, hidden=4), lambda: HCN(KINECT20, M, num_frames=T)])
def test_encoders_without_maps_have_none(make, clips):
    assert make().double().eval().maps(clips) == {}
