"""One stream of 2s-AGCN as its authors save it (Shi et al. 2019)."""

from __future__ import annotations

from torch import nn

from skelcl.encoders import AGCN
from skelcl.interop.key_mapping import KeyMapping, Pieces, batch_norm, temporal_conv, weight_and_bias
from skelcl.nn.heads import Classifier
from skelcl.skeleton import Skeleton


def build(skeleton: Skeleton, num_classes: int, num_frames: int, num_persons: int) -> tuple[nn.Module, KeyMapping]:
    """AGCN with its linear layer and the layout of both; clips of any ``num_frames`` pass through it."""
    encoder = AGCN(skeleton, num_persons)
    module = Classifier(encoder, encoder.classifier(num_classes))
    pieces = {**batch_norm("encoder.data_bn", "data_bn"), **weight_and_bias("head", "fc")}
    for i, block in enumerate(encoder.blocks):
        mine, its = f"encoder.blocks.{i}", f"l{i + 1}"
        embed, value = [
            [f"{its}.gcn1.conv_{letter}.{s}" for letter in letters for s in range(3)] for letters in ("ab", "d")
        ]
        biases = block.get_parameter("spatial.value_bias").numel()
        pieces |= {
            f"{mine}.spatial.graph": Pieces((f"{its}.gcn1.PA",)),
            f"{mine}.spatial.value.weight": Pieces(tuple(f"{name}.weight" for name in value), dim=1),
            f"{mine}.spatial.value_bias": Pieces(tuple(f"{name}.bias" for name in value), (biases,)),
            **weight_and_bias(f"{mine}.spatial.embed", *embed),
            **batch_norm(f"{mine}.spatial.bn", f"{its}.gcn1.bn"),
            **temporal_conv(f"{mine}.spatial.shortcut", f"{its}.gcn1.down.0", f"{its}.gcn1.down.1"),
            **temporal_conv(f"{mine}.temporal", f"{its}.tcn1.conv", f"{its}.tcn1.bn"),
            **temporal_conv(f"{mine}.residual", f"{its}.residual.conv", f"{its}.residual.bn"),
        }
    return module, KeyMapping(pieces)
