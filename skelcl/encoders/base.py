"""What every encoder promises."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """Maps clips to one feature vector each. Methods and protocols know encoders by this contract alone.

    Attributes:
        dim: Width of the features.
    """

    dim: int

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Features (N, dim) of clips ``x`` (N, C, T, V, M)."""

    def reset_parameters(self) -> None:
        """Redraw every weight, as after construction. An encoder with an initialisation of its own overrides this."""
        for module in self.modules():
            reset = getattr(module, "reset_parameters", None)
            if module is not self and callable(reset):
                reset()
