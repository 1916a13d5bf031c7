"""Hyperformer as its authors save it (Zhou et al. 2022, arXiv 2211.09590)."""

from __future__ import annotations

from torch import nn

from skelcl.encoders import Hyperformer
from skelcl.interop.key_mapping import (
    KeyMapping,
    Pieces,
    batch_norm,
    multi_scale_temporal,
    temporal_conv,
    weight_and_bias,
)
from skelcl.nn.heads import Classifier
from skelcl.skeleton import Skeleton


def build(skeleton: Skeleton, num_classes: int, num_frames: int, num_persons: int) -> tuple[nn.Module, KeyMapping]:
    """Hyperformer with its linear layer, freshly initialised, and its layout in the authors' checkpoints.

    ``num_frames`` plays no role: the network takes clips of any length. The hyperedges, which are no part of a
    checkpoint, are those of the joint streams.
    """
    encoder = Hyperformer(skeleton, num_persons=num_persons)
    pieces = {**weight_and_bias("head", "fc"), **batch_norm("encoder.data_bn", "data_bn")}
    for i, block in enumerate(encoder.blocks):
        mine, its = f"encoder.blocks.{i}", f"l{i + 1}"
        wide, narrow = block.get_parameter("spatial.edges.weight").shape
        pieces |= _spatial(f"{mine}.spatial", f"{its}.vit1", wide, narrow, len(block.get_parameter("spatial.relative")))
        pieces |= multi_scale_temporal(f"{mine}.temporal", f"{its}.tcn1")
        pieces |= temporal_conv(f"{mine}.residual", f"{its}.residual.conv", f"{its}.residual.bn")
    return Classifier(encoder, encoder.classifier(num_classes)), KeyMapping(pieces)


def _spatial(ours: str, theirs: str, wide: int, narrow: int, distances: int) -> dict[str, Pieces]:
    """Mapping of the attention unit from ``narrow`` to ``wide`` channels, with relative keys for so many hop distances.

    Pointwise convolutions there are linear layers here; q and (k, v) are one of them.
    """
    attention, pointwise = f"{theirs}.attn", (wide, narrow, 1, 1)
    qkv = (f"{attention}.q.weight", f"{attention}.kv.weight")
    return {
        **weight_and_bias(f"{ours}.norm", f"{theirs}.norm1"),
        f"{ours}.qkv.weight": Pieces(qkv, (3 * wide, narrow, 1, 1), sizes=(wide, 2 * wide)),
        f"{ours}.edges.weight": Pieces((f"{theirs}.pe_proj.weight",), pointwise),
        f"{ours}.skip.weight": Pieces((f"{theirs}.skip_proj.weight",), pointwise),
        f"{ours}.relative": Pieces((f"{attention}.rpe",), (distances, wide)),
        f"{ours}.edge_query": Pieces((f"{attention}.w1",)),
        f"{ours}.outer": Pieces((f"{attention}.outer",)),
        f"{ours}.alpha": Pieces((f"{attention}.alpha",)),
        **weight_and_bias(f"{ours}.projection", f"{attention}.proj"),
    }
