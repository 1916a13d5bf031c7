"""Data sets of a mixture are judged apart: a query is compared with clips whose labels mean the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class MixedPart(Protocol):
    """What is read off a part of a mixture."""

    @property
    def dataset(self) -> str:
        """Name of its data set."""

    @property
    def ids(self) -> NDArray[Any]:
        """Names of its clips there, (N,)."""

    @property
    def positions(self) -> NDArray[Any]:
        """Positions of its clips in the store of the mixture, (N,), ascending."""

    @property
    def labels(self) -> range:
        """Labels that its classes have; empty where nothing is labelled. Parts with the same ones share them."""


class LabelSpace(NamedTuple):
    """Clips whose labels mean the same: their positions in the store, (N,), and the labels."""

    positions: NDArray[Any]
    labels: range


@runtime_checkable
class MixedClips(Protocol):
    """A data module of several data sets."""

    @property
    def mixed(self) -> Mapping[str, MixedPart]:
        """The data sets by the names of their parts."""


def mixed_parts(data: object) -> Mapping[str, MixedPart]:
    """The parts of a mixture; none of any other data module."""
    return data.mixed if isinstance(data, MixedClips) else {}


def label_spaces(data: object) -> list[LabelSpace]:
    """The label spaces of a mixture, in the order of their labels; none of an ordinary data module."""
    parts = mixed_parts(data).values()
    ranges = sorted({part.labels for part in parts if part.labels}, key=lambda labels: labels.start)
    return [
        LabelSpace(np.concatenate([part.positions for part in parts if part.labels == labels]), labels)
        for labels in ranges
    ]


def among(index: Tensor, positions: NDArray[Any]) -> Tensor:
    """Which store positions (N,) are among some, (N,) bool on their device."""
    return torch.isin(index, torch.as_tensor(positions, device=index.device))
