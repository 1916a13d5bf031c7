"""Randomness that a resumed run repeats: generators derived from (seed, purpose, rank, step), not from global state."""

from __future__ import annotations

import os
import zlib

import numpy as np
import torch


def run_seed() -> int:
    """The seed of this run: what ``seed_everything`` was given, else 0. Equal on all ranks."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


def generator(purpose: str, *key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that depends on nothing but the run's seed, what it is for, and ``key``.

    Args:
        purpose: Keeps streams apart that share a key, for example ``"views"`` and ``"shuffle"``.
        key: For example rank, epoch and batch.
        device: Where the random numbers are needed.
    """
    entropy = [zlib.crc32(purpose.encode()), run_seed(), *key]
    state = np.random.SeedSequence(entropy).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed((int(state[0]) << 31) ^ int(state[1]))
