"""Diagnostics of collapse against closed forms and slow loops over pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from skelcl.errors import InputError
from skelcl.evaluation.collapse import CollapseOptions, alignment, collapse_scores, effective_rank, uniformity


def test_effective_rank_counts_equal_directions() -> None:
    basis = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64))[0]
    for rank in (1, 3, 12):
        assert effective_rank(torch.cat([basis[:rank], -basis[:rank]])) == pytest.approx(rank, rel=1e-5)


@pytest.mark.parametrize("shape", [(40, 7), (7, 40)])
def test_effective_rank_is_the_entropy_of_singular_values(shape: tuple[int, int]) -> None:
    x = torch.randn(shape, dtype=torch.float64) * torch.linspace(0.1, 2, shape[1])
    share = np.linalg.svd(x.numpy(), compute_uv=False)
    share = share / share.sum()
    assert effective_rank(x) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-9)


def test_uniformity_is_the_mean_over_all_pairs() -> None:
    x = torch.randn(23, 4)
    unit = (x / x.norm(dim=1, keepdim=True)).double().numpy()
    kernel = [np.exp(-2 * ((a - b) ** 2).sum()) for i, a in enumerate(unit) for j, b in enumerate(unit) if i != j]
    assert uniformity(x, chunk=5) == pytest.approx(np.log(np.mean(kernel)), rel=1e-6)
    assert uniformity(x[:1].expand(9, 4)) == pytest.approx(0, abs=1e-6)


def test_alignment_is_the_mean_squared_distance_of_unit_features() -> None:
    x = torch.tensor([[3.0, 0.0], [0.0, 2.0]])
    y = torch.tensor([[1.0, 0.0], [0.0, -5.0]])
    assert alignment(x, y) == pytest.approx((0 + 4) / 2)
    assert alignment(x, torch.tensor([[0.0, 1.0], [1.0, 0.0]])) == pytest.approx(2)


def test_spread_and_dead_dimensions() -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 16, generator=random)
    even = collapse_scores(x)
    assert even["collapse_std"] == pytest.approx(1, abs=0.02)
    assert even["collapse_dead"] == 0
    x[:, :4] = 5.0
    x[:, 4] *= 1e-6
    assert collapse_scores(x)["collapse_dead"] == 5 / 16
    assert collapse_scores(x, CollapseOptions(dead=1e-9))["collapse_dead"] == 4 / 16
    point = collapse_scores(torch.ones(50, 16))
    assert point["collapse_std"] == pytest.approx(0, abs=1e-9)
    assert (point["collapse_dead"], point["collapse_rank"]) == (1, pytest.approx(1, abs=1e-4))
    with pytest.raises(InputError, match="not finite"):
        collapse_scores(torch.full((3, 2), math.nan))
