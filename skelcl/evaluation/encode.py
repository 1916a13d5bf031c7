"""Frozen features of chosen clips outside of a Trainer: several encoders see each clip in one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from skelcl.clips import Clips
from skelcl.errors import OptionError
from skelcl.evaluation.features import check_features


@dataclass(frozen=True, eq=False)
class Encoded:
    """Frozen features of N clips.

    Args:
        features: (N, D) float32.
        label: Their classes, (N,) int64.
        index: Their positions in the store, (N,) int64.
    """

    features: Tensor
    label: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.label)

    @property
    def pair(self) -> tuple[Tensor, Tensor]:
        """Features and labels."""
        return self.features, self.label


def encode(
    encoders: Mapping[str, Callable[[Clips], Tensor]],
    read: Callable[[NDArray[np.int64]], Clips],
    positions: NDArray[np.int64],
    device: torch.device | str = "cpu",
    batch_size: int = 128,
    change: Callable[[Clips], Clips] | None = None,
    title: str | None = None,
) -> dict[str, Encoded]:
    """Features of clips under one or more encoders; each clip is read once.

    Args:
        encoders: From N clips to features (N, D), by name: a method in eval mode, for example.
        read: The clips at some positions of a store, ``data.store.clips`` for example.
        positions: Which clips, (N,).
        device: Where the encoders are; features stay there.
        batch_size: Clips that are encoded at once.
        change: What happens to clips before anybody sees them.
        title: Of the progress bar; none when None.

    Raises:
        InputError: If a feature is not finite.
    """
    features: dict[str, list[Tensor]] = {name: [] for name in encoders}
    label, index = [], []
    batches = [positions[start : start + batch_size] for start in range(0, len(positions), batch_size)]
    with torch.inference_mode():
        for batch in tqdm(batches, desc=title, unit="batch", leave=False, disable=title is None):
            clips = read(batch)
            clips = (clips if change is None else change(clips)).to(device)
            for name, encoder in encoders.items():
                features[name].append(encoder(clips).float())
            label.append(clips.label)
            index.append(clips.index)
    encoded = {name: Encoded(torch.cat(parts), torch.cat(label), torch.cat(index)) for name, parts in features.items()}
    for name, one in encoded.items():
        check_features(f"{name} encoder's", one.features)
    return encoded


def find_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is a GPU where there is one, else the CPU.

    Raises:
        InputError: There is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        number = torch.zeros(1, device=name)
        number.item()  # a meta device has no values
        return number.device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise OptionError(f"--device {name}: there is none here; use auto, cpu, cuda or cuda:1") from error
