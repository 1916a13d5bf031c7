"""ST-GCN: the partition of the neighbourhood, sizes, the unit, and how it starts."""

import pytest
import torch

from skelcl.encoders import STGCN
from skelcl.encoders.st_gcn import PartitionConv, partitioned_graph
from skelcl.skeleton import COCO17, KINECT20, NTU25, OPENPOSE18

FULL = (64, 64, 64, 64, 128, 128, 128, 256, 256, 256)
QUARTER = (16, 16, 16, 16, 32, 32, 32, 64, 64, 256)


@pytest.mark.parametrize("skeleton", [NTU25, KINECT20, COCO17, OPENPOSE18], ids=lambda s: s.name)
def test_the_partition_is_that_of_the_paper_pair_by_pair(skeleton):
    hops = skeleton.hops()
    expected = torch.zeros(3, skeleton.num_joints, skeleton.num_joints)
    for w in range(skeleton.num_joints):
        near = [v for v in range(skeleton.num_joints) if hops[v, w] <= 1]
        for v in near:
            from_center, own = hops[v, skeleton.center], hops[w, skeleton.center]
            part = 0 if from_center == own else 1 if from_center > own else 2
            expected[part, v, w] = 1 / len(near)
    assert torch.equal(partitioned_graph(skeleton), expected)


def test_the_partition_of_ntu_by_its_facts():
    itself, outside, inside = partitioned_graph(NTU25)
    torch.testing.assert_close((itself + outside + inside).sum(0), torch.ones(25))
    assert outside[:, 20].nonzero().flatten().tolist() == [1, 2, 4, 8]
    assert not inside[:, 20].any(), "nothing is nearer to the centre than the centre"
    assert itself[20, 20] == torch.tensor(1 / 5)
    assert inside.count_nonzero() == outside.count_nonzero() == 24
    assert torch.equal(itself.count_nonzero(0), torch.ones(25, dtype=torch.int64))


def size(joints, channels, widths, strides):
    """Parameters, counted by hand."""
    total = 2 * channels * joints
    for number, (before, after, stride) in enumerate(zip((channels, *widths), widths, strides, strict=False)):
        total += 3 * joints**2 + (before + 1) * 3 * after + 2 * after + (9 * after + 1) * after + 2 * after
        if number and (before != after or stride > 1):
            total += (before + 1) * after + 2 * after
    return total


@pytest.mark.parametrize(("widths", "expected"), [(FULL, 3_083_412), (QUARTER, 821_380)])
@pytest.mark.parametrize("skeleton", [NTU25, KINECT20], ids=lambda s: s.name)
def test_size_of_the_paper(skeleton, widths, expected):
    """3.10 million with the classifier of NTU RGB+D 60; 0.84 in a quarter of the width."""
    encoder = STGCN(skeleton, widths=widths)
    counted = sum(p.numel() for p in encoder.parameters())
    assert counted == size(skeleton.num_joints, 3, widths, (1, 1, 1, 1, 2, 1, 1, 2, 1, 1))
    assert counted == expected or skeleton is KINECT20
    assert encoder.dim == 256


def test_unit_is_the_published_loop_over_parts():
    conv = PartitionConv(KINECT20, 5, 7).double().eval()
    for parameter in conv.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(3, 5, 4, 20, dtype=torch.float64)
    y = 0
    for s in range(3):
        rows = slice(7 * s, 7 * s + 7)
        value = torch.einsum("nctv,oc->notv", x, conv.value.weight[rows, :, 0, 0])
        value = value + conv.value.bias[rows, None, None]
        for v in range(20):
            for w in range(20):
                weight = partitioned_graph(KINECT20)[s, v, w].double() * conv.importance[s, v, w]
                y = y + torch.nn.functional.one_hot(torch.tensor(w), 20) * (value[..., v, None] * weight)
    y = y / (1 + conv.bn.eps) ** 0.5 * conv.bn.weight[:, None, None] + conv.bn.bias[:, None, None]
    torch.testing.assert_close(conv(x), y.relu())


def test_block_is_the_published_one():
    encoder = STGCN(KINECT20, 1, widths=(4, 6), strides=(1, 2)).double().eval()
    x = torch.randn(2, 3, 6, 20, dtype=torch.float64)
    first, second = encoder.blocks
    y = first.temporal(first.spatial(x)).relu()
    conv, residual = second.temporal[0], second.residual
    z = torch.nn.functional.conv2d(second.spatial(y), conv.conv.weight, conv.conv.bias, (2, 1), (4, 0))
    shortcut = torch.nn.functional.conv2d(y, residual.conv.weight, residual.conv.bias, (2, 1))
    torch.testing.assert_close(encoder.body_map(x), (conv.bn(z) + residual.bn(shortcut)).relu())


def test_dropout_is_in_all_blocks_but_the_first():
    encoder = STGCN(widths=(4, 4, 4), strides=(1, 1, 1), dropout=0.3)
    found = [[m.p for m in block.modules() if isinstance(m, torch.nn.Dropout)] for block in encoder.blocks]
    assert found == [[0.0], [0.3], [0.3]]


def test_all_bodies_share_one_batch_norm():
    encoder = STGCN(KINECT20, 2, widths=(8, 12), strides=(1, 2), dropout=0.0)
    assert encoder.data_bn.num_features == 60
    x = torch.randn(3, 3, 8, 20, 2)
    torch.testing.assert_close(encoder(x), encoder(x.flip(-1)))
    bodies = x.permute(0, 4, 3, 1, 2).reshape(6, 60, 8)
    expected = torch.nn.functional.batch_norm(bodies, None, None, encoder.data_bn.weight, training=True)
    seen = []
    encoder.blocks.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    encoder(x)
    torch.testing.assert_close(seen[0], expected.view(6, 20, 3, 8).permute(0, 2, 3, 1))


def test_one_absent_body_stands_for_all():
    encoder = STGCN(KINECT20, 2, widths=(8, 12), strides=(1, 2)).double().eval()
    x = torch.randn(4, 3, 6, 20, 2, dtype=torch.float64)
    x[1:, ..., 1] = 0
    expected = encoder(x)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), expected)


def test_any_skeleton_channels_and_persons():
    encoder = STGCN(OPENPOSE18, 3, channels=2, widths=(8, 12), strides=(2, 1))
    feature_map, features = encoder.with_map(torch.randn(2, 2, 5, 18, 3))
    assert feature_map.shape == (2, 3, 12, 3, 18)
    torch.testing.assert_close(features, feature_map.mean((1, 3, 4)))


def test_start_of_the_release():
    encoder = STGCN()
    conv, head = encoder.blocks[9].temporal[0].conv, encoder.classifier(600)
    for weight in (conv.weight, head.weight):
        assert weight.std().item() == pytest.approx(0.02, rel=0.01)
    assert not conv.bias.any()
    assert not head.bias.any()
    scales = torch.cat([m.weight for m in encoder.modules() if "BatchNorm" in type(m).__name__])
    assert scales.mean().item() == pytest.approx(1, abs=0.002)
    assert scales.std().item() == pytest.approx(0.02, rel=0.05)
    assert all((block.spatial.importance == 1).all() for block in encoder.blocks)
