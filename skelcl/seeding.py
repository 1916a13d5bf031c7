"""Randomness that a resumed run repeats: generators derived from (seed, purpose, rank, step), not from global state."""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def run_seed() -> int:
    """The seed of this run: what ``seed_everything`` was given, else 0. Equal on all ranks."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))


def use_seed(seed: int) -> None:
    """Make this the run's seed, and seed what draws from global state on the CPU; for a block of :func:`untouched`.

    ``seed_everything`` would seed accelerators, too, which are then seeded when they come into use, long afterwards.
    """
    os.environ["PL_GLOBAL_SEED"] = str(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (a method of somebody else's may draw from it)
    torch.default_generator.manual_seed(seed)


@contextmanager
def untouched() -> Iterator[None]:
    """A block or function after which the run's seed and all global randomness on the CPU are as they were."""
    before = os.environ.get("PL_GLOBAL_SEED")
    python, tensors = random.getstate(), torch.default_generator.get_state()
    arrays = np.random.get_state()  # noqa: NPY002 (as above)
    try:
        yield
    finally:
        os.environ.pop("PL_GLOBAL_SEED", None)
        if before is not None:
            os.environ["PL_GLOBAL_SEED"] = before
        random.setstate(python)
        np.random.set_state(arrays)  # noqa: NPY002 (as above)
        torch.default_generator.set_state(tensors)


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


@contextmanager
def seeded(purpose: str, *key: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """A block whose global randomness, from which dropout draws, is that of :func:`generator`; then all is as before.

    Args:
        purpose: As of :func:`generator`.
        key: As of :func:`generator`.
        device: A CUDA device whose randomness is meant too.
    """
    place, seed = torch.device(device), generator(purpose, *key).initial_seed()
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        # Not torch.manual_seed, which formats the stack for each backend that is not in use: 0.5 ms in every step.
        torch.default_generator.manual_seed(seed)
        if place.type == "cuda":
            index = torch.cuda.current_device() if place.index is None else place.index
            torch.cuda.default_generators[index].manual_seed(seed)
        yield
