"""How our networks are laid out in the checkpoints of their references."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skelcl.errors import InputError


@dataclass(frozen=True)
class Pieces:
    """Where one of our tensors is found in a reference checkpoint.

    The named tensors, concatenated along ``dim``, hold our values in row-major order; whatever differs beyond that
    (trailing axes of a pointwise convolution, stacked subsets) is a reshape. Scalars that we keep once, such as the
    counters of fused batch norms, are equal in all pieces and read from the first.

    Args:
        names: Reference names, in the order of concatenation.
        shape: Shape of the concatenation; None where it is the shape of our tensor.
        dim: The axis of ``shape`` along which the pieces lie.
        sizes: Extent of each piece along ``dim``; None where all are equal.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...] | None = None
    dim: int = 0
    sizes: tuple[int, ...] | None = None

    def shapes(self, ours: Tensor) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of every piece of our tensor."""
        whole = tuple(ours.shape) if self.shape is None else self.shape
        for place, name in enumerate(self.names):
            if not whole:
                yield name, ()
                continue
            size = whole[self.dim] // len(self.names) if self.sizes is None else self.sizes[place]
            yield name, (*whole[: self.dim], size, *whole[self.dim + 1 :])

    def join(self, reference: Mapping[str, Tensor], ours: Tensor) -> Tensor:
        """Our tensor, from the reference's."""
        pieces = [reference[name] for name in self.names]
        return (torch.cat(pieces, self.dim) if pieces[0].dim() else pieces[0]).reshape(ours.shape)

    def split(self, ours: Tensor) -> dict[str, Tensor]:
        """The reference's tensors, from ours."""
        shapes = dict(self.shapes(ours))
        whole = ours if self.shape is None else ours.reshape(self.shape)
        if not whole.dim():
            return {name: whole.clone() for name in shapes}
        pieces = whole.split_with_sizes([shape[self.dim] for shape in shapes.values()], self.dim)
        return {name: piece.clone() for name, piece in zip(shapes, pieces, strict=True)}


@dataclass(frozen=True)
class KeyMapping:
    """How the state of one of our networks is laid out in the checkpoints of its reference.

    Args:
        pieces: Our names and where their values are found; every tensor of ours has an entry.
        constants: Reference names of what is not learned and may be present; it is not read.
    """

    pieces: Mapping[str, Pieces]
    constants: frozenset[str] = frozenset()

    def shapes(self, module: nn.Module) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the reference's tensors, without the constants, in the order of our state."""
        return {
            name: shape for key, ours in module.state_dict().items() for name, shape in self.pieces[key].shapes(ours)
        }

    def load(self, module: nn.Module, reference: Mapping[str, Tensor]) -> None:
        """Fill ``module``, in place, with the values of a reference checkpoint, in the checkpoint's precision.

        Raises:
            InputError: The names or shapes are not exactly those of the reference; it lists them.
        """
        expected = self.shapes(module)
        missing = [f"{name} is missing" for name in expected if name not in reference]
        unexpected = [
            f"{name} is unexpected" for name in reference if name not in expected and name not in self.constants
        ]
        wrong = [
            f"{name} has shape {tuple(reference[name].shape)} instead of {shape}"
            for name, shape in expected.items()
            if name in reference and tuple(reference[name].shape) != shape
        ]
        if problems := missing + unexpected + wrong:
            raise InputError(f"the state dict is not that of the reference network: {'; '.join(problems)}")
        values = {key: self.pieces[key].join(reference, ours) for key, ours in module.state_dict().items()}
        floating = [value.dtype for value in values.values() if value.is_floating_point()]
        module.to(floating[0]).load_state_dict(values)

    def dump(self, module: nn.Module) -> dict[str, Tensor]:
        """The inverse of :meth:`load`: the state of ``module`` under the reference's names, without the constants."""
        state = module.state_dict()
        return {name: value for key, ours in state.items() for name, value in self.pieces[key].split(ours).items()}


def weight_and_bias(ours: str, *theirs: str) -> dict[str, Pieces]:
    """Mapping of the weight and the bias of a layer that is one or several in the reference, stacked by output."""
    return {f"{ours}.{name}": Pieces(tuple(f"{their}.{name}" for their in theirs)) for name in ("weight", "bias")}


def batch_norm(ours: str, *theirs: str) -> dict[str, Pieces]:
    """Mapping of a batch norm that is one or several in the reference, stacked along the channels."""
    names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {f"{ours}.{name}": Pieces(tuple(f"{their}.{name}" for their in theirs)) for name in names}


def temporal_conv(ours: str, conv: str, bn: str) -> dict[str, Pieces]:
    """Mapping of :class:`skelcl.nn.temporal.TemporalConv`, from the reference's names of its two layers."""
    return {**weight_and_bias(f"{ours}.conv", conv), **batch_norm(f"{ours}.bn", bn)}


def multi_scale_temporal(ours: str, theirs: str) -> dict[str, Pieces]:
    """Mapping of :class:`skelcl.nn.temporal.MultiScaleTemporal`, whose seven batch norms are two of ours."""
    branch = [f"{theirs}.branches.{i}" for i in range(4)]
    return {
        **weight_and_bias(f"{ours}.reduce", *(f"{b}.0" for b in branch[:3])),
        **batch_norm(f"{ours}.reduce_bn", *(f"{b}.1" for b in branch[:3])),
        **weight_and_bias(f"{ours}.near", f"{branch[0]}.3.conv"),
        **weight_and_bias(f"{ours}.far", f"{branch[1]}.3.conv"),
        **weight_and_bias(f"{ours}.point", f"{branch[3]}.0"),
        **batch_norm(f"{ours}.bn", f"{branch[0]}.3.bn", f"{branch[1]}.3.bn", f"{branch[2]}.4", f"{branch[3]}.1"),
    }
