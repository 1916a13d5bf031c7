"""Randomness that a resumed run repeats: generators derived from (seed, rank, step), never from global state."""

from __future__ import annotations

import os

import numpy as np
import torch


def run_seed() -> int:
    """The seed of this run: what ``seed_everything`` was given, else 0. Equal on all ranks."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


def generator(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that depends on the run's seed and on ``key`` alone, for example (rank, epoch, batch)."""
    state = np.random.SeedSequence([run_seed(), *key]).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed((int(state[0]) << 31) ^ int(state[1]))
