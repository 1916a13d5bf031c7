"""Which way bodies look that went through the recipe ``agcn``: coordinates tell what no file says."""

from __future__ import annotations

import numpy as np

from skelcl.skeleton import Skeleton

REVERSED = (
    "most bodies have their left shoulder towards +x, where the recipe 'agcn' turns the right one, as in arrays that "
    "skelcl exported under version 1 of it"
)
"""What is wrong with such data."""
_ALIGNED = 0.99


def is_reversed(bodies: np.ndarray, skeleton: Skeleton) -> bool:
    """Whether the recipe ``agcn`` was applied the wrong way round: left minus right shoulder lies along +x.

    Args:
        bodies: Body 0 of some clips in the first frame that shows it, which the recipe turns, (N, V, 3).
        skeleton: Layout of the joints.

    Returns:
        Whether that holds for more of them than the right way round; others have no say.
    """
    right, left = skeleton.across
    shoulders = bodies[:, right] - bodies[:, left]
    x = shoulders[:, 0] / np.maximum(np.linalg.norm(shoulders, axis=1), 1e-6)
    return bool((x < -_ALIGNED).sum() > (x > _ALIGNED).sum())
