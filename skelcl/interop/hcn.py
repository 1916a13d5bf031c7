"""HCN as its widely used PyTorch port saves it (Li et al. 2018, arXiv 1804.06055)."""

from __future__ import annotations

from torch import nn

from skelcl.encoders import HCN
from skelcl.interop.key_mapping import KeyMapping, weight_and_bias
from skelcl.nn.heads import Classifier
from skelcl.skeleton import Skeleton


def build(skeleton: Skeleton, num_classes: int, num_frames: int, num_persons: int) -> tuple[nn.Module, KeyMapping]:
    """HCN with its layer fc8, freshly initialised, and its layout in the port's checkpoints.

    ``num_frames`` is the window of the port, which is also its number of point features.
    """
    encoder = HCN(skeleton, num_persons=num_persons, num_frames=num_frames)
    pieces = weight_and_bias("head", "fc8")
    for name in ("conv5", "conv6", "fc7"):
        pieces |= weight_and_bias(f"encoder.{name}", f"{name}.0")
    for branch, suffix in (("position", ""), ("motion", "m")):
        for name, within in (("conv1", ".0"), ("conv2", ""), ("conv3", ".0"), ("conv4", ".0")):
            pieces |= weight_and_bias(f"encoder.{branch}.{name}", f"{name}{suffix}{within}")
    return Classifier(encoder, encoder.classifier(num_classes)), KeyMapping(pieces)
