"""Mean and standard deviation over seeds, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mean_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation of the sample (divided by n - 1).

    Args:
        values: One for each seed, at least one.

    Returns:
        Both; the standard deviation is None for a single value.
    """
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def plus_minus(mean: float, spread: float | None, scale: float = 100, digits: int = 1, signed: bool = False) -> str:
    """``mean ± spread`` for people.

    Args:
        mean: Of the values.
        spread: Standard deviation, or half-width of an interval; None leaves it out.
        scale: Factor of both: 100 writes shares as percentages.
        digits: Behind the point.
        signed: Write the sign of a positive mean as well, of differences for example.
    """
    text = f"{scale * mean:{'+' if signed else ''}.{digits}f}"
    return text if spread is None else f"{text} ± {scale * spread:.{digits}f}"
