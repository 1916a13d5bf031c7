"""Contrastive losses: pure functions, float32 even under autocast; most are float64 for who asks in float64."""

from __future__ import annotations

from typing import Any, Literal

import torch
from einops import rearrange
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def at_least_float32(x: Tensor) -> Tensor:
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
        query = at_least_float32(query) / temperature
        positive = torch.einsum("nd,nd->n", query, at_least_float32(key))
        negative = torch.einsum("nd,kd->nk", query, at_least_float32(negatives))
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


def largest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values of each column and their rows, as ``topk`` has them, with half of its work for few of many.

    Each of them lies in one of the k groups of rows that have the largest maxima: outside of these groups no value is
    above the k maxima. So only the members of these groups are compared.

    Args:
        x: (S, N), contiguous.
        k: At most S.

    Returns:
        Values (N, k), in no order, and rows (N, k) int64.
    """
    size = 4
    groups = len(x) // size
    if groups < 2 * k:
        values, rows = x.T.contiguous().topk(k, sorted=False)
        return values, rows
    # Members of a group lie ``groups`` rows apart, which makes the maximum one of whole vectors.
    _, best = largest(x[: size * groups].view(size, groups, -1).amax(0), k)
    row = torch.arange(len(x), device=x.device)
    members = (best[:, None] + groups * row[:size, None]).flatten(1)
    members = torch.cat([members, row[size * groups :].expand(len(best), -1)], 1)
    values, places = x.T.gather(1, members).topk(k, sorted=False)
    return values, members.gather(1, places)


class ChosenSimilarity(torch.autograd.Function):
    """Known dot products of N vectors with some slots of a bank; the backward pass reads these slots alone."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, bank: Tensor, slots: Tensor, products: Tensor) -> Tensor:
        """``products`` (N, K) of ``vectors`` (N, D) with ``slots`` (N, K) of ``bank`` (S, D)."""
        ctx.save_for_backward(bank, slots)
        return products.clone()

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
    members: Tensor,
    filled: Tensor,
    candidates: Tensor,
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
        label: Classes of the anchors, (N,), from 0 to C − 1.
        bank: Unit vectors (S, D).
        members: Slots of each class, (C, L) int64, padded with −1 at the end.
        filled: Which slots were ever written, (S,) bool.
        candidates: Different slots in random order, (N, W) int64, with K negatives of each anchor wherever the bank has
            as many; the first K of them are the random ones.
        positives: P.
        negatives: K.
        temperature: τ.
        own: Slots (N,) that are no positives of their anchors; None keeps all.

    Returns:
        Loss of each anchor (N,), float32 or float64 if that is what went in, ln(K + 1) when all similarities are equal;
        and which anchors are valid, (N,) bool.
    """
    with torch.autocast(anchor.device.type, enabled=False):
        direction = F.normalize(at_least_float32(anchor), dim=1)
        bank = bank.to(direction.dtype)
        with torch.no_grad():
            # (S, N), the long side first: on a CPU 20 against 26 ms for 64 anchors and 40,091 slots of width 256.
            similarity = torch.addmm(torch.where(filled, 0.0, -torch.inf).to(bank)[:, None], bank, direction.T)
            p, k = min(positives, members.shape[1]), min(negatives, len(bank))

            mine = members[label]
            alike = mine >= 0
            # Padding repeats a slot of the class, which only has to be struck out below.
            mine = torch.where(alike, mine, mine[:, :1]).clamp(min=0)
            alike &= filled[mine] if own is None else filled[mine] & (mine != own[:, None])
            similar = similarity.T.gather(1, mine)
            # Turned round, not asked for the smallest: NaN counts as the largest and must not hide behind −inf.
            least = torch.where(alike, similar, torch.inf).neg_().topk(p, sorted=False).indices

            # From here on only negatives are above −inf, unless the anchor is NaN.
            similarity.T.scatter_(1, mine, -torch.inf)
            highest, hard = largest(similarity, k)
            some = similarity.T.gather(1, candidates)
            unlike = filled[candidates] & (some != -torch.inf)
            rank = torch.arange(candidates.shape[1], 0, -1, device=candidates.device)
            first = torch.where(unlike, rank, 0).topk(k, sorted=False).indices

            valid = (alike.sum(1) >= positives) & (unlike.sum(1) >= negatives)
            slots = torch.cat([mine.gather(1, least), hard, candidates.gather(1, first)], 1)
            products = torch.cat([similar.gather(1, least), highest, some.gather(1, first)], 1)
        chosen: Tensor = ChosenSimilarity.apply(direction, bank, slots, products)  # type: ignore[no-untyped-call]
        # Finite before any arithmetic: 0 · inf would turn the zero gradient of invalid anchors into NaN.
        near, hardest, drawn = torch.split(chosen.masked_fill(~valid[:, None], 0.0) / temperature, [p, k, k], 1)
        rows = sum(F.softplus(x.logsumexp(1, keepdim=True) - near).mean(1) for x in (hardest, drawn)) / 2
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
        z = torch.stack([at_least_float32(a), at_least_float32(b)], 2)
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
