"""The graphs of the literature, by the facts that are known about them."""

import pytest
import torch
from torch import nn

from skelcl.errors import InputError
from skelcl.nn.graph import GraphBlock, directed_graph, graph_blocks
from skelcl.nn.temporal import TemporalConv
from skelcl.skeleton import COCO17, KINECT20, NTU25


def test_inward_and_outward_bones_of_ntu():
    itself, inward, outward = directed_graph(NTU25)
    assert torch.equal(itself, torch.eye(25))
    assert inward.count_nonzero() == inward.sum() == 24
    assert inward.sum(0).tolist() == [float(joint != 20) for joint in range(25)]
    assert outward.sum() == 20
    assert [joint for joint in range(25) if outward[:, joint].sum() == 0] == [3, 15, 19, 21, 23]
    assert outward.sum(0).count_nonzero() == 20
    assert torch.equal(outward[:, 20], torch.zeros(25).index_fill(0, torch.tensor([1, 2, 4, 8]), 0.25))
    assert torch.equal(outward[:, 0], torch.zeros(25).index_fill(0, torch.tensor([12, 16]), 0.5))
    assert inward[20].nonzero().flatten().tolist() == [1, 2, 4, 8]


def test_inward_and_outward_bones_of_nw_ucla():
    _, inward, outward = directed_graph(KINECT20)
    assert inward.sum() == 19
    assert outward.sum() == 15
    assert [joint for joint in range(20) if outward[:, joint].sum() == 0] == [3, 7, 11, 15, 19]
    assert torch.equal(outward[:, 2], torch.zeros(20).index_fill(0, torch.tensor([1, 3, 4, 8]), 0.25))


@pytest.mark.parametrize("skeleton", [NTU25, KINECT20, COCO17], ids=lambda s: s.name)
def test_every_bone_is_in_both_directions(skeleton):
    _, inward, outward = directed_graph(skeleton)
    children = [skeleton.parents.count(joint) - (joint == skeleton.root) for joint in range(skeleton.num_joints)]
    for i in range(skeleton.num_joints):
        for j in range(skeleton.num_joints):
            bone = i != j and skeleton.parents[j] == i
            assert inward[i, j] == float(bone)
            assert outward[j, i] == (torch.tensor(1 / children[i]) if bone else 0)


def test_block():
    x = torch.randn(2, 3, 4, 5)
    double, triple = nn.Identity(), nn.Identity()
    double.forward, triple.forward = lambda x: 2 * x, lambda x: 3 * x
    torch.testing.assert_close(GraphBlock(double, triple, None)(x), (6 * x).relu())
    torch.testing.assert_close(GraphBlock(double, triple, nn.Identity())(x), (7 * x).relu())


def test_blocks_have_the_residuals_of_the_papers():
    widths, strides = (4, 4, 8, 8), (1, 1, 1, 2)
    blocks = graph_blocks(3, widths, strides, lambda before, after: nn.Conv2d(before, after, 1), TemporalConv)
    kinds = [type(block.residual) for block in blocks]
    assert kinds == [type(None), nn.Identity, TemporalConv, TemporalConv]
    assert blocks(torch.randn(2, 3, 5, 6)).shape == (2, 8, 3, 6)


@pytest.mark.parametrize(("widths", "strides"), [((), ()), ((4, 4), (1,)), ((4,), (1, 2))])
def test_blocks_need_a_width_and_a_stride_each(widths, strides):
    message = f"{len(widths)} widths and {len(strides)} strides"
    with pytest.raises(InputError, match=message):
        graph_blocks(3, widths, strides, nn.Identity, TemporalConv)
