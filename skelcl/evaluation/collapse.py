"""Diagnostics of collapse: how many dimensions frozen features use, and how evenly they cover the sphere."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from skelcl.bounds import Share, bounded
from skelcl.evaluation.features import check_features


@bounded
@dataclass(frozen=True)
class CollapseOptions:
    """Options of the diagnostics of collapse.

    Args:
        dead: A dimension is dead when its standard deviation is at most this share of the largest one.
    """

    dead: Share = 1e-4


def effective_rank(features: Tensor) -> float:
    """RankMe of features (N, D): exp of the entropy of their singular values, in 1…min(N, D).

    Source: Garrido et al., ICML 2023.
    """
    x = features.detach().cpu().double()
    gram = x.T @ x if len(x) > x.shape[1] else x @ x.T
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    share = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return float(torch.special.entr(share).sum().exp())


def alignment(first: Tensor, second: Tensor) -> float:
    """Mean squared distance of the unit features of two views of the same clips, two (N, D); 0…4, small is invariant.

    Source: Wang and Isola, ICML 2020.
    """
    apart = F.normalize(first.double(), dim=1) - F.normalize(second.double(), dim=1)
    return float(apart.square().sum(1).mean())


def uniformity(features: Tensor, chunk: int = 1024) -> float:
    """Log of the mean of exp(−2·d²) over all pairs of N ≥ 2 unit features (N, D); at most 0, a single point.

    Source: Wang and Isola, ICML 2020.
    """
    unit = F.normalize(features.float(), dim=1)
    total, n = 0.0, len(unit)
    for some in torch.split(unit, chunk):
        total += float((4 * (some @ unit.T - 1)).exp().double().sum())
    own = float((4 * (unit.double().square().sum(1) - 1)).exp().sum())
    return math.log((total - own) / (n * (n - 1)))


def collapse_scores(features: Tensor, options: CollapseOptions | None = None) -> dict[str, float]:
    """Diagnostics of features (N, D) of one view.

    Returns:
        ``collapse_rank``: :func:`effective_rank`; ``collapse_uniformity``: :func:`uniformity`; ``collapse_std``: mean
        over the dimensions of the standard deviation of unit features, times √D, so that 1 is even and 0 a single
        point; ``collapse_dead``: share of dead dimensions.

    Raises:
        InputError: If a feature is not finite.
    """
    check_features("test", features)
    options = options or CollapseOptions()
    uniform = uniformity(features)
    features = features.detach().cpu().double()
    spread = features.std(0, correction=0)
    unit = F.normalize(features, dim=1)
    return {
        "collapse_rank": effective_rank(features),
        "collapse_uniformity": uniform,
        "collapse_std": float(unit.std(0, correction=0).mean() * features.shape[1] ** 0.5),
        "collapse_dead": float((spread <= options.dead * spread.max()).double().mean()),
    }
