"""CTR-GCN as its authors save it (Chen et al. 2021)."""

from __future__ import annotations

from torch import nn

from skelcl.encoders import CTRGCN
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
    """CTR-GCN with its linear layer and the layout of both; clips of any ``num_frames`` pass through it."""
    encoder = CTRGCN(skeleton, num_persons)
    module = Classifier(encoder, encoder.classifier(num_classes))
    return module, KeyMapping({**encoder_pieces(encoder, "encoder.", ""), **weight_and_bias("head", "fc")})


def encoder_pieces(encoder: CTRGCN, ours: str, theirs: str) -> dict[str, Pieces]:
    """Mapping of the encoder alone.

    Args:
        encoder: Its depth and widths are those of the reference.
        ours: Prefix of the encoder's names in our state, up to and with the dot.
        theirs: Prefix of its names in the reference's state, likewise.
    """
    pieces = batch_norm(f"{ours}data_bn", f"{theirs}data_bn")
    for i, block in enumerate(encoder.blocks):
        mine, its = f"{ours}blocks.{i}", f"{theirs}l{i + 1}"
        _, channels, relation = block.get_parameter("spatial.lift_weight").shape
        subsets = [f"{its}.gcn1.convs.{s}" for s in range(3)]
        lift = tuple(f"{subset}.conv4" for subset in subsets)
        pieces |= {
            f"{mine}.spatial.graph": Pieces((f"{its}.gcn1.PA",)),
            f"{mine}.spatial.alpha": Pieces((f"{its}.gcn1.alpha",), (1,)),
            f"{mine}.spatial.lift_weight": Pieces(tuple(f"{n}.weight" for n in lift), (3 * channels, relation, 1, 1)),
            f"{mine}.spatial.lift_bias": Pieces(tuple(f"{n}.bias" for n in lift), (3 * channels,)),
            **weight_and_bias(
                f"{mine}.spatial.relate", *(f"{s}.conv1" for s in subsets), *(f"{s}.conv2" for s in subsets)
            ),
            **weight_and_bias(f"{mine}.spatial.value", *(f"{s}.conv3" for s in subsets)),
            **batch_norm(f"{mine}.spatial.bn", f"{its}.gcn1.bn"),
            **temporal_conv(f"{mine}.spatial.shortcut", f"{its}.gcn1.down.0", f"{its}.gcn1.down.1"),
            **multi_scale_temporal(f"{mine}.temporal", f"{its}.tcn1"),
            **temporal_conv(f"{mine}.residual", f"{its}.residual.conv", f"{its}.residual.bn"),
        }
    return pieces
