"""How joints look at each other. S subsets, V joints; ``v`` and ``w`` (or ``u``) run over joints."""

from __future__ import annotations

import torch
from torch import Tensor


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
    difference = torch.tanh(query[..., :, None] - key[..., None, :])
    refinement = torch.einsum("nsruv,scr->nscuv", difference, weight)
    return refinement + graph.to(refinement.dtype)


def channel_aggregate(x: Tensor, graph: Tensor) -> Tensor:
    """Every channel collects along its own graphs: ``y[c, t, u] = Σ_{s,v} graph[s, c, u, v] · x[s, c, t, v]``.

    Args:
        x: (N, S, C, T, V).
        graph: (N, S, C, V, V).

    Returns:
        (N, C, T, V).
    """
    return torch.einsum("nscuv,nsctv->nctu", graph, x)


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
    # Plain einsums, as the fused kernel needs a float mask as large as the logits and a second product for ``outer``:
    # measured on a CPU (8 bodies, 64 frames, 25 joints), 26 against 38 ms forwards and 84 against 92 ms with gradients.
    q = q * q.shape[-1] ** -0.5
    k = k + edges.index_select(2, hyperedges)
    logits = torch.einsum("ntihc,ntjhc->nthij", q, k)
    by_hop = torch.einsum("ntihc,rhc->nthir", q, relative)
    logits = logits + by_hop.gather(-1, hops.expand_as(logits))
    by_edge = torch.einsum("ntehc,hc->nthe", edges, edge_query * q.shape[-1] ** -0.5)
    logits = logits + by_edge.index_select(-1, hyperedges).unsqueeze(-2)
    return torch.einsum("nthij,ntjhc->ntihc", alpha * logits.softmax(-1) + outer, v)
