"""Features in the plane, for pictures and pages."""

from __future__ import annotations

import importlib.util
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from skelcl.errors import InputError


def require_tsne(clips: int = 4) -> None:
    """Refuse early what cannot be drawn.

    Args:
        clips: Number of clips, where it is known.

    Raises:
        InputError: If scikit-learn is missing, or there are fewer than four clips.
    """
    if clips < 4:
        raise InputError(f"t-SNE needs at least 4 clips, and there are {clips}: take pca")
    if importlib.util.find_spec("sklearn") is None:
        raise InputError("t-SNE needs scikit-learn: pip install 'skelcl[evaluate]', or take pca")


def project(features: Tensor, method: Literal["pca", "tsne"] = "pca") -> tuple[NDArray[np.floating], tuple[str, str]]:
    """Places of feature vectors, scaled to length 1, in the plane.

    Args:
        features: (N, D).
        method: ``pca``, or ``tsne``, which needs scikit-learn.

    Returns:
        Places (N, 2), and what the two axes are.

    Raises:
        InputError: If t-SNE is asked for, and scikit-learn is missing or there are fewer than four clips.
    """
    unit = F.normalize(features.detach().cpu().float(), dim=1)
    if method == "tsne":
        require_tsne(len(unit))
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(unit) - 1) / 3)
        placed = TSNE(perplexity=perplexity, init="pca", random_state=0).fit_transform(unit.numpy())
        return placed, ("t-SNE 1", "t-SNE 2")
    left, strength, right = torch.linalg.svd(unit - unit.mean(0), full_matrices=False)
    missing = max(0, 2 - len(strength))
    # A sign that does not depend on the solver.
    sign = torch.where(F.pad(right[:2].sum(1), (0, missing)) < 0, -1.0, 1.0)
    place = F.pad((left * strength)[:, :2], (0, missing)) * sign
    share = F.pad(strength.square() / strength.square().sum().clamp(min=1e-12), (0, missing))[:2].tolist()
    return place.numpy(), (f"component 1 ({share[0]:.0%} of variance)", f"component 2 ({share[1]:.0%})")
