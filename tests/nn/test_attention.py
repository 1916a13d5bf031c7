"""Attention and graphs of joints against loops over every element, written from the formulas."""

import math

import pytest
import torch

from skelcl.nn.attention import aggregate, channel_aggregate, channel_graph, joint_attention


def loop_joint_attention(query, key):
    n, subsets, channels, frames, joints = query.shape
    out = torch.zeros(n, subsets, joints, joints, dtype=query.dtype)
    for i in range(n):
        for s in range(subsets):
            for w in range(joints):
                column = []
                for v in range(joints):
                    dot = sum(
                        query[i, s, c, t, v].item() * key[i, s, c, t, w].item()
                        for c in range(channels)
                        for t in range(frames)
                    )
                    column.append(math.exp(dot / (channels * frames)))
                for v in range(joints):
                    out[i, s, v, w] = column[v] / sum(column)
    return out


def loop_channel_graph(query, key, weight, graph):
    (n, subsets, width, joints), channels = query.shape, weight.shape[1]
    out = torch.zeros(n, subsets, channels, joints, joints, dtype=query.dtype)
    for i in range(n):
        for s in range(subsets):
            for c in range(channels):
                for u in range(joints):
                    for v in range(joints):
                        value = graph[s, c, u, v].item()
                        for r in range(width):
                            gap = query[i, s, r, u].item() - key[i, s, r, v].item()
                            value += weight[s, c, r].item() * math.tanh(gap)
                        out[i, s, c, u, v] = value
    return out


def loop_channel_aggregate(x, graph):
    n, subsets, channels, frames, joints = x.shape
    out = torch.zeros(n, channels, frames, joints, dtype=x.dtype)
    for i in range(n):
        for c in range(channels):
            for t in range(frames):
                for u in range(joints):
                    out[i, c, t, u] = sum(
                        graph[i, s, c, u, v].item() * x[i, s, c, t, v].item()
                        for s in range(subsets)
                        for v in range(joints)
                    )
    return out


def random(*shape):
    return torch.randn(shape, dtype=torch.float64)


def test_joint_attention():
    query, key = random(2, 3, 2, 3, 4), random(2, 3, 2, 3, 4)
    torch.testing.assert_close(joint_attention(query, key), loop_joint_attention(query, key))


def test_joint_attention_is_scaled_before_the_sum_overflows_half_precision():
    query = torch.full((1, 1, 64, 32, 3), 8.0, dtype=torch.float16)
    attention = joint_attention(query, query)
    torch.testing.assert_close(attention, torch.full_like(attention, 1 / 3))


def test_channel_graph():
    arguments = random(2, 3, 2, 4), random(2, 3, 2, 4), random(3, 5, 2), random(3, 5, 4, 4)
    torch.testing.assert_close(channel_graph(*arguments), loop_channel_graph(*arguments))


def test_channel_graph_takes_the_lower_precision_of_autocast():
    query, graph = torch.randn(2, 3, 2, 4), torch.randn(3, 5, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert channel_graph(query, query, torch.randn(3, 5, 2), graph).dtype == torch.bfloat16


def test_channel_aggregate():
    x, graph = random(2, 3, 2, 3, 4), random(2, 3, 2, 4, 4)
    torch.testing.assert_close(channel_aggregate(x, graph), loop_channel_aggregate(x, graph))


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_one_graph_for_all_channels_against_loops(order):
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64).contiguous(memory_format=order)
    graph = torch.randn(2, 2, 3, 3, dtype=torch.float64)
    y = aggregate(x, graph)
    assert y.is_contiguous(memory_format=order)
    for n in range(2):
        for s in range(2):
            for c in range(4):
                torch.testing.assert_close(y[n, 4 * s + c], x[n, c] @ graph[n, s])
