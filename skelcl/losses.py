"""Contrastive losses: pure functions, float32 even under autocast."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def contrast(
    query: Tensor, key: Tensor, negatives: Tensor, temperature: float, same: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Logits of each query with its own key and with a set of shared negatives.

    Args:
        query: (N, D).
        key: (N, D), row n belongs to query n.
        negatives: (K, D).
        temperature: Divides all dot products.
        same: (N, K), true where a negative shows the query's own clip; such logits become −inf.

    Returns:
        Positive logits (N,) and negative logits (N, K), both float32.
    """
    with torch.autocast(query.device.type, enabled=False):
        query = query.float() / temperature
        positive = torch.einsum("nd,nd->n", query, key.float())
        negative = torch.einsum("nd,kd->nk", query, negatives.float())
    return positive, negative if same is None else negative.masked_fill(same, -torch.inf)


def info_nce(positive: Tensor, negative: Tensor) -> Tensor:
    """Softmax cross-entropy of the positive against itself and K negatives (van den Oord et al., arXiv 1807.03748).

    Args:
        positive: Logits (N,).
        negative: Logits (N, K).

    Returns:
        Mean over the batch; ln(K + 1) when all similarities are equal.
    """
    return (torch.logaddexp(positive, negative.logsumexp(1)) - positive).mean()


def logistic(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean binary cross-entropy of all N(K + 1) logits, positives towards 1 and negatives towards 0."""
    return F.softplus(torch.cat([-positive[:, None], negative], 1)).mean()


def margin(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean over negatives of max(0, 1 + negative − positive)."""
    return F.relu(1 + negative - positive[:, None]).mean()
