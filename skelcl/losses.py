"""Contrastive losses: pure functions, float32 even under autocast, and float64 for who asks in float64."""

from __future__ import annotations

from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def wide(x: Tensor) -> Tensor:
    """``x`` in float32, unless it is float64 already."""
    return x if x.dtype == torch.float64 else x.float()


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
        Positive logits (N,) and negative logits (N, K), both float32, or float64 if that is what went in.
    """
    with torch.autocast(query.device.type, enabled=False):
        query = wide(query) / temperature
        positive = torch.einsum("nd,nd->n", query, wide(key))
        negative = torch.einsum("nd,kd->nk", query, wide(negatives))
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


def largest(x: Tensor, k: int) -> Tensor:
    """Columns of the k largest values in each row, as ``topk`` finds them, with half of its work for few of many.

    Each of them lies in one of the k groups of columns that have the largest maxima: outside of these groups no value
    is above the k maxima. So only the members of these groups are compared.

    Args:
        x: (N, S).
        k: At most S.

    Returns:
        (N, k) int64, in no order.
    """
    size = 4
    groups = x.shape[1] // size
    if groups < 2 * k:
        return x.topk(k, sorted=False).indices
    # Members of a group lie ``groups`` columns apart, which makes the maximum one of whole vectors.
    best = largest(x[:, : size * groups].reshape(len(x), size, groups).amax(1), k)
    columns = torch.arange(x.shape[1], device=x.device)
    members = (best[:, None] + groups * columns[:size, None]).flatten(1)
    members = torch.cat([members, columns[size * groups :].expand(len(x), -1)], 1)
    return members.gather(1, x.gather(1, members).topk(k, sorted=False).indices)


class ChosenSimilarity(torch.autograd.Function):
    """Some of the dot products of N vectors with a bank; the backward pass reads the chosen slots of the bank alone."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, bank: Tensor, similarity: Tensor, slots: Tensor) -> Tensor:
        """Dot products (N, K) of ``vectors`` (N, D) with ``slots`` (N, K) of ``bank`` (S, D), out of all (N, S)."""
        ctx.save_for_backward(bank, slots)
        return similarity.gather(1, slots)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Gradient of the vectors (N, D): the chosen slots, weighted and summed without being copied."""
        bank, slots = ctx.saved_tensors
        return F.embedding_bag(slots, bank, per_sample_weights=gradient, mode="sum"), None, None, None


def bank_contrast(
    anchor: Tensor,
    label: Tensor,
    bank: Tensor,
    bank_label: Tensor,
    filled: Tensor,
    noise: Tensor,
    positives: int,
    negatives: int,
    temperature: float,
    own: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """InfoNCE of hard positives in a bank of labelled features, against hard and against random negatives.

    Of the filled slots, the P least similar of the anchor's class are its positives, the K most similar of the other
    classes its hard negatives, and K drawn without replacement its random ones. Each positive is contrasted alone with
    either set: softplus(logsumexp(s⁻/τ) − s⁺/τ), averaged over positives and sets (STD-CL, arXiv 2312.15144, as
    released). An anchor with fewer than P positives or K negatives is invalid; its loss and its gradient are exactly 0.

    Args:
        anchor: Features (N, D) of any length; their directions are compared.
        label: Classes of the anchors, (N,).
        bank: Unit vectors (S, D).
        bank_label: Classes of the slots, (S,).
        filled: Which slots were ever written, (S,) bool.
        noise: Uniform in [0, 1), (N, S); the K largest among the negatives are the random ones.
        positives: P.
        negatives: K.
        temperature: τ.
        own: Slots (N,) that are no positives of their anchors; None keeps all.

    Returns:
        Loss of each anchor (N,) float32, ln(K + 1) when all similarities are equal; and which anchors are valid, (N,)
        bool.
    """
    with torch.autocast(anchor.device.type, enabled=False):
        direction, bank = F.normalize(anchor.float(), dim=1), bank.float()
        with torch.no_grad():
            # The long side first, then turned: on a CPU 20 against 26 ms for 64 anchors and 40,091 slots of width 256.
            similarity = torch.einsum("nd,sd->sn", direction, bank).T.contiguous()
            same = label[:, None] == bank_label
            alike, unlike = same & filled, ~same & filled
            if own is not None:
                alike = alike & (torch.arange(len(bank), device=own.device) != own[:, None])
            p, k = min(positives, len(bank)), min(negatives, len(bank))
            # Turned round, not asked for the smallest: NaN counts as the largest and must not hide behind −inf.
            near = largest(torch.where(alike, similarity, torch.inf).neg_(), p)
            hard = largest(torch.where(unlike, similarity, -torch.inf), k)
            drawn = largest(torch.where(unlike, noise, -torch.inf), k)
            valid = (alike.gather(1, near).sum(1) >= positives) & (unlike.gather(1, drawn).sum(1) >= negatives)
        slots = torch.cat([near, hard, drawn], 1)
        chosen: Tensor = ChosenSimilarity.apply(direction, bank, similarity, slots)  # type: ignore[no-untyped-call]
        # Finite before any arithmetic: 0 · inf would turn the zero gradient of invalid anchors into NaN.
        near, hard, drawn = torch.split(chosen.masked_fill(~valid[:, None], 0.0) / temperature, [p, k, k], 1)
        rows = sum(F.softplus(x.logsumexp(1, keepdim=True) - near).mean(1) for x in (hard, drawn)) / 2
        return torch.where(valid, rows, 0.0), valid


def token_contrast(
    a: Tensor, b: Tensor, temperature: float, negatives: Literal["within", "within+batch"] = "within"
) -> tuple[Tensor, Tensor]:
    """InfoNCE between two lists of L tokens: token i of either list looks for token i of the other (SDS-CL).

    With z the 2·L unit vectors of both lists and s = zzᵀ/τ, the mean over tokens of logsumexp_{j≠i}(s_ij) − s_ip, p
    being the partner of i; gradients flow to both sides (Xu et al. 2023, arXiv 2302.02316, as released). The losses of
    a step with lists of equal length are one call, pairs of lists stacked along the first axis; that of whole clips is
    the same with one group, the batch: ``token_contrast(a[None, None], b[None, None], …)``.

    Args:
        a: Tokens (P, N, L, D) of P pairs of lists in N clips, of any length.
        b: The lists that they are paired with, the same shape.
        temperature: τ.
        negatives: The tokens that a token is set apart from: those ``within`` its own clip, or of all clips of the
            batch (``within+batch``), which takes P·(2·N·L)² numbers.

    Returns:
        Loss of each pair (P,), float32 or float64 if that is what went in, ln(2·L − 1) when all similarities are equal;
        and how often the partner is the most similar token (P,).
    """
    with torch.autocast(a.device.type, enabled=False):
        z = torch.stack([wide(a), wide(b)], 2)
        if negatives == "within+batch":
            z = rearrange(z, "p n two l d -> p 1 two (n l) d")
        length = z.shape[3]
        z = F.normalize(rearrange(z, "p n two l d -> p n (two l) d"), dim=-1)
        logits = torch.einsum("pnid,pnjd->pnij", z / temperature, z)
        logits = logits.masked_fill(torch.eye(2 * length, dtype=torch.bool, device=z.device), -torch.inf)
        positive = torch.cat([logits.diagonal(side, 2, 3) for side in (length, -length)], 2)
        partner = torch.arange(2 * length, device=z.device).roll(length)
        hits = (logits.argmax(3) == partner).float()
        return (logits.logsumexp(3) - positive).mean((1, 2)), hits.mean((1, 2))
