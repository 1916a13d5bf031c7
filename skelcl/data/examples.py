"""Clips of no meaning in any layout: what a network is run on where there are no data."""

from __future__ import annotations

import numpy as np

from skelcl.clips import Clips
from skelcl.data.facts import DataFacts
from skelcl.data.poses.in_memory import batch_clips, clean_clip
from skelcl.data.recording import Recording

BONE = 0.25
"""Metres, about; so long are the bones of people on the mean."""


def example_clips(facts: DataFacts, count: int = 5) -> Clips:
    """Bodies whose joints swing about those that they hang on, as large as people and as far from a camera.

    The same facts give the same clips. They have different lengths; the first has as many bodies as the
    data, the next one less.

    Args:
        facts: Layout, coordinates and bodies of the clips.
        count: N, their number.

    Returns:
        N clips in main memory.
    """
    recordings = [
        Recording(
            f"example {number}",
            _swinging(facts, 48 + 8 * number, facts.num_persons - number % facts.num_persons, number),
        )
        for number in range(count)
    ]
    cleaned = [clean_clip(one, facts.skeleton, facts.channels, facts.num_persons) for one in recordings]
    return batch_clips(cleaned, facts.skeleton, facts.num_persons, facts.recipe)


def _swinging(facts: DataFacts, frames: int, bodies: int, seed: int) -> np.ndarray:
    """Coordinates, (M, T, V, C) float32."""
    random = np.random.default_rng(seed)
    skeleton = facts.skeleton
    size = (bodies, 1, skeleton.num_joints)
    bone = random.normal(size=(*size, 3))
    bone *= BONE / np.linalg.norm(bone, axis=-1, keepdims=True)
    turn = 2 * np.pi * np.arange(frames)[None, :, None] / frames * random.integers(1, 4, size)
    swing = 0.3 * BONE * np.sin(turn + random.uniform(0, 2 * np.pi, size))[..., None] * random.normal(size=(*size, 3))
    joints = bone + swing
    joints[:, :, skeleton.root] += np.array([0.0, 0.0, 3.0]) + np.arange(bodies)[:, None, None] * [1.0, 0.0, 0.0]
    hops = skeleton.hops()[skeleton.root]
    for joint in hops.argsort(stable=True).tolist():
        if joint != skeleton.root:
            joints[:, :, joint] += joints[:, :, skeleton.parents[joint]]
    return joints[..., : facts.channels].astype(np.float32)
