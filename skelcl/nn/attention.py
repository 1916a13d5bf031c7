"""How joints look at each other. S subsets, V joints; ``v`` and ``w`` (or ``u``) run over joints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from skelcl.bounds import PositiveInt, bounded
from skelcl.errors import InputError
from skelcl.nn.memory import is_channels_last, recompute


def joint_attention(query: Tensor, key: Tensor) -> Tensor:
    """The data-dependent graph of 2s-AGCN (Shi et al. 2019, equation 3): one for a body, over all its frames.

    ``C[v, w] = softmax_v(Σ_{c,t} query[c, t, v] · key[c, t, w] / (C·T))``; the sum has C·T terms, so the scale is
    applied before it, where half precision would overflow.

    Args:
        query: (N, S, C, T, V).
        key: (N, S, C, T, V).

    Returns:
        (N, S, V, V); every column sums to one.
    """
    scale = 1 / (query.shape[2] * query.shape[3])
    return torch.einsum("nsctv,nsctw->nsvw", query * scale, key).softmax(2)


def channel_graph(query: Tensor, key: Tensor, weight: Tensor, graph: Tensor) -> Tensor:
    """The graphs of CTR-GCN (Chen et al. 2021, equations 8 to 10): one for each channel, refined by the clip.

    ``G[s, c, u, v] = graph[s, c, u, v] + Σ_r weight[s, c, r] · tanh(query[s, r, u] − key[s, r, v])``. This is the
    largest tensor of the network, so scales and biases belong into the small arguments.

    Args:
        query: (N, S, R, V), averaged over frames.
        key: (N, S, R, V).
        weight: (S, C, R).
        graph: (S, C, V, V).

    Returns:
        (N, S, C, V, V), under autocast in the lower precision.
    """
    # A product that leaves its result in order; an einsum that shares the weight between clips turns it round.
    difference = torch.tanh(query[..., :, None] - key[..., None, :]).flatten(3)
    return torch.matmul(weight, difference).add_(graph.flatten(2)).view(query.shape[0], *graph.shape)


def channel_aggregate(x: Tensor, graph: Tensor) -> Tensor:
    """Every channel collects along its own graphs: ``y[c, t, u] = Σ_{s,v} graph[s, c, u, v] · x[s, c, t, v]``.

    Args:
        x: (N, S, C, T, V).
        graph: (N, S, C, V, V).

    Returns:
        (N, C, T, V).
    """
    # One product for all subsets would copy both arguments: on a CPU (16 bodies, 64 channels, 64 frames, 25 joints),
    # with the graph, 9 against 15 ms forwards and 33 against 58 ms with gradients.
    first, *others = torch.einsum("nsctv,nscuv->nsctu", x, graph).unbind(1)
    return sum(others, first)


def aggregate(x: Tensor, graph: Tensor) -> Tensor:
    """All channels collect along the same graphs: ``y[s, c, t, w] = Σ_v graph[s, v, w] · x[c, t, v]``.

    Args:
        x: (N, C, T, V).
        graph: (N, S, V, V).

    Returns:
        (N, S·C, T, V), in memory ordered as x.
    """
    if is_channels_last(x):
        # The same product, whose result need not be turned round: it is the largest tensor of these networks.
        y = rearrange(graph, "n s v w -> n 1 (w s) v") @ rearrange(x, "n c t v -> n t v c")
        return rearrange(y, "n t (w s) c -> n (s c) t w", s=graph.shape[1])
    return torch.einsum("nctv,nsvw->nsctw", x, graph).flatten(1, 2)


def hyperedge_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    edges: Tensor,
    *,
    relative: Tensor,
    edge_query: Tensor,
    outer: Tensor,
    alpha: Tensor,
    hops: Tensor,
    hyperedges: Tensor,
) -> Tensor:
    """Attention of Hyperformer between the joints of one frame (Zhou et al. 2022, arXiv 2211.09590, section 4).

    With e_j the feature of the hyperedge that joint j belongs to::

        logit_ij = (q_i·k_j + q_i·e_j + q_i·relative_hops(i,j) + edge_query·e_j) / √C
        y_i = Σ_j (alpha·softmax_j(logit_ij) + outer_ij)·v_j

    Args:
        q: Queries (N, T, V, H, C) of H heads of width C.
        k: Keys, the same shape.
        v: Values, the same shape.
        edges: Features of the E hyperedges (N, T, E, H, C).
        relative: One key for each hop distance (R, H, C).
        edge_query: The query that all joints ask the hyperedges (H, C).
        outer: Attention that does not depend on the input (H, V, V).
        alpha: Weight of the attention that does, a scalar or (1,).
        hops: Hop distances (V, V) int64, less than R.
        hyperedges: Hyperedge of each joint (V,) int64, less than E.

    Returns:
        y, (N, T, V, H, C).
    """
    weights = hyperedge_weights(q, k, edges, relative=relative, edge_query=edge_query, hops=hops, hyperedges=hyperedges)

    def collect(attention: Tensor, values: Tensor) -> Tensor:
        return torch.einsum("nthij,nthjc->ntihc", alpha * attention + outer, values)

    # The copy is the one that the product needs; without it all of q, k and v would be kept for the backward pass.
    return recompute(collect, weights, v.transpose(2, 3).contiguous())


def hyperedge_weights(
    q: Tensor, k: Tensor, edges: Tensor, *, relative: Tensor, edge_query: Tensor, hops: Tensor, hyperedges: Tensor
) -> Tensor:
    """The part of :func:`hyperedge_attention` that depends on the input, (N, T, H, V, V); rows sum to one."""
    # Plain einsums, as the fused kernel needs a float mask as large as the logits and a second product for ``outer``:
    # measured on a CPU (8 bodies, 64 frames, 25 joints), 26 against 38 ms forwards and 84 against 92 ms with gradients.
    q = q * q.shape[-1] ** -0.5
    k = k + edges.index_select(2, hyperedges)
    logits = torch.einsum("ntihc,ntjhc->nthij", q, k)
    by_hop = torch.einsum("ntihc,rhc->nthir", q, relative)
    logits = logits + by_hop.gather(-1, hops.expand_as(logits))
    by_edge = torch.einsum("ntehc,hc->nthe", edges, edge_query * q.shape[-1] ** -0.5)
    logits = logits + by_edge.index_select(-1, hyperedges).unsqueeze(-2)
    # Never in half precision: autocast sees to that on a GPU; on a CPU it does not, and bfloat16 takes three times as
    # long as float32.
    return logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def attention_map(query: Tensor, key: Tensor, activation: Literal["tanh", "softmax"] = "tanh", dim: int = -1) -> Tensor:
    """One map of all pairs of joints for a body, over all its frames (DSTA-Net, Shi et al. 2020, arXiv 2007.03263).

    ``A[s, u, v] = tanh(Σ_{c,t} query[s, c, t, u] · key[s, c, t, v] / (C·T))``: entries may be negative, rows sum to
    anything. ``softmax`` divides by √(C·T) instead and makes the entries along ``dim`` sum to one. The sum has C·T
    terms, so the scale is applied before it, where half precision would overflow. For a map of all pairs of frames,
    hand over query and key with frames and joints exchanged.

    Args:
        query: (N, S, C, T, V).
        key: (N, S, C, T, V).
        activation: What bounds the products.
        dim: For ``softmax``, the axis that the map is summed over when it is applied.

    Returns:
        (N, S, V, V).
    """
    terms = query.shape[2] * query.shape[3]
    scale = 1 / terms if activation == "tanh" else terms**-0.5
    products = torch.einsum("nsctu,nsctv->nsuv", query * scale, key)
    return products.tanh() if activation == "tanh" else products.softmax(dim)


@bounded
class SIIA(nn.Module):
    """Spatiotemporal-decoupling intra-inter attention of SDS-CL (Xu et al. 2023, arXiv 2302.02316).

    Refines the maps of two streams of the same clips, joint coordinates and their motion, in four ways each: attention
    between frames (temporal) or between joints (spatial), to the stream itself (intra) or, with queries of its own, to
    the other stream (inter)::

        A = tanh(qᵀk / terms),  y = LeakyReLU_0.1(x + BatchNorm(Conv(A·v)))

    As in the released code, each way has projections of its own, and the same ones serve both streams, whose batches
    pass the batch norms one after the other: joint, then motion. The twelve projections of a stream are one
    convolution; the four that follow the attention are another, with a group for each.

    Args:
        channels: C of the maps.
        heads: S, divides C.
        activation: ``softmax`` instead of tanh is no part of the paper; its scale is 1/√terms.
        share_query: One query for intra and inter, as in the paper's figure.
        share_streams: Both streams use the same weights; false gives each its own, as in the paper's figure.
        joint_bn: The batch norms see both streams at once.

    Raises:
        InputError: The heads do not divide the channels, or ``joint_bn`` without ``share_streams``.
    """

    def __init__(
        self,
        channels: PositiveInt = 256,
        heads: PositiveInt = 4,
        activation: Literal["tanh", "softmax"] = "tanh",
        share_query: bool = False,
        share_streams: bool = True,
        joint_bn: bool = False,
    ) -> None:
        super().__init__()
        if channels % heads:
            raise InputError(f"SIIA: heads={heads} do not divide channels={channels}")
        if joint_bn and not share_streams:
            raise InputError("SIIA: with share_streams=false there are no common batch norms: leave out joint_bn")
        self.heads = heads
        self.activation: Literal["tanh", "softmax"] = activation
        self.joint_bn = joint_bn
        # Which projections are the query, the key and the value of each way; keys and values of inter attention are
        # those of the other stream.
        inter = ((0, 6, 7), (3, 8, 9)) if share_query else ((6, 7, 8), (9, 10, 11))
        self.ways = ((0, 1, 2), (3, 4, 5), *inter)
        # How many of them are one convolution in the original, whose fan they start with.
        self.pieces = (3, 3, 2, 2) if share_query else (3, 3, 1, 2, 1, 2)
        streams = 1 if share_streams else 2
        self.projections = nn.ModuleList(nn.Conv2d(channels, sum(self.pieces) * channels, 1) for _ in range(streams))
        self.merges = nn.ModuleList(nn.Conv2d(4 * channels, 4 * channels, 1, groups=4) for _ in range(streams))
        self.norms = nn.ModuleList(nn.BatchNorm2d(4 * channels) for _ in range(streams))
        self.activate = nn.LeakyReLU(0.1, inplace=True)  # of a fresh sum
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming-normal weights with the fan-out of the single convolutions, biases as PyTorch draws them."""
        for layer in (*self.projections, *self.merges):
            layer.reset_parameters()
            channels = layer.weight.shape[1]
            pieces = self.pieces if layer.groups == 1 else (1,) * layer.groups
            for weight in layer.weight.split([piece * channels for piece in pieces]):
                nn.init.kaiming_normal_(weight, mode="fan_out")

    def forward(self, joint: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
        """Refined maps of both streams.

        Args:
            joint: (N, C, T, V), bodies count as clips.
            motion: (N, C, T, V).

        Returns:
            Two tensors (N, 4, C, T, V): temporal intra, spatial intra, temporal inter, spatial inter.
        """
        # Unlike the convolutions before it, attention between frames and joints is slower with channels last in memory.
        joint, motion = joint.contiguous(), motion.contiguous()
        # Unbound, because the backward pass of each index would fill a tensor as large as all of them.
        pieces = [
            rearrange(project(x), "n (p s c) t v -> p n s c t v", s=self.heads, c=x.shape[1] // self.heads).unbind()
            for project, x in zip(self._each(self.projections), (joint, motion), strict=True)
        ]
        merged = [
            merge(torch.cat(self._attend(own, other), 1))
            for merge, own, other in zip(self._each(self.merges), pieces, reversed(pieces), strict=True)
        ]
        if self.joint_bn:
            merged = [*self.norms[0](torch.cat(merged)).chunk(2)]
        else:
            merged = [norm(y) for norm, y in zip(self._each(self.norms), merged, strict=True)]
        joint, motion = (
            self.activate(x[:, None] + rearrange(y, "n (w c) t v -> n w c t v", w=4))
            for x, y in zip((joint, motion), merged, strict=True)
        )
        return joint, motion

    def _each(self, layers: nn.ModuleList) -> tuple[nn.Module, nn.Module]:
        """The layer of the joint stream and that of the motion stream."""
        return layers[0], layers[-1]

    def _attend(self, own: Sequence[Tensor], other: Sequence[Tensor]) -> list[Tensor]:
        """What a stream collects in each way, (N, C, T, V), from the P projections (N, S, C/S, T, V) of both."""
        collected = []
        for way, (query, key, value) in enumerate(self.ways):
            source = own if way < 2 else other
            q, k, v = own[query], source[key], source[value]
            if way % 2 == 0:
                attention = attention_map(q.mT, k.mT, self.activation)
                y = torch.einsum("nstr,nscrv->nsctv", attention, v)
            else:
                attention = attention_map(q, k, self.activation)
                y = torch.einsum("nsuv,nsctv->nsctu", attention, v)
            collected.append(rearrange(y, "n s c t v -> n (s c) t v"))
        return collected
