"""Outputs of the published networks, with weights that follow from the names of the tensors."""

import json
import math
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "data" / "golden"


def weight(key, shape):
    """Float64 values of the tensor ``key``: a sine over its elements whose phase is a hash of its name."""
    n = math.prod(shape)
    phase = 2 * math.pi * (zlib.crc32(key.encode()) % 1000) / 1000
    s = torch.sin(0.7 * torch.arange(n, dtype=torch.float64) + phase).reshape(shape)
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if key.endswith("running_var"):
        return 1 + 0.1 * s
    if key.endswith("running_mean"):
        return 0.1 * s
    if key.split(".")[-1] == "alpha":
        return torch.full_like(s, 0.5)
    if len(shape) >= 2:
        return s * math.sqrt(2 * shape[0] / n)
    return 1 + 0.1 * s if key.endswith("weight") else 0.1 * s


def load(name):
    """Clips, state dict and expected outputs of ``tests/data/golden/<name>.json``."""
    golden = json.loads((FOLDER / f"{name}.json").read_text())
    x = torch.sin(0.01 * torch.arange(math.prod(golden["input_shape"]), dtype=torch.float64))
    golden["x"] = x.reshape(golden["input_shape"])
    golden["weights"] = {key: weight(key, shape) for key, shape in golden["state_dict"].items()}
    return SimpleNamespace(**golden)


def check(output, expected, tolerance):
    """``output`` has the shape, moments and sampled values of ``expected``, relative to the largest of them."""
    flat = output.detach().double().flatten()
    scale = max(map(abs, [expected["mean"], expected["std"], *expected["head"], *expected["tail"]]))
    assert list(output.shape) == expected["shape"]
    found = [flat.mean(), flat.std(correction=0), *flat[: len(expected["head"])], *flat[-len(expected["tail"]) :]]
    wanted = [expected["mean"], expected["std"], *expected["head"], *expected["tail"]]
    assert torch.stack(found).tolist() == pytest.approx(wanted, rel=0, abs=tolerance * scale)


@pytest.fixture(scope="session")
def golden():
    """``golden(name)`` has ``x``, ``weights``, ``n_params``, ``state_dict`` (shapes), ``eval`` and ``train``."""
    return load


@pytest.fixture(scope="session")
def agrees():
    """``agrees(output, expected, tolerance)`` asserts that an output is the expected one."""
    return check


@pytest.fixture(scope="session")
def rule():
    """``rule(name, shape)`` are the weights of a tensor of that reference name."""
    return weight
