"""Encoders: clips (N, C, T, V, M) to features (N, dim)."""

from skelcl.encoders.agcn import AGCN
from skelcl.encoders.base import BodyEncoder, Encoder, MapEncoder
from skelcl.encoders.ctr_gcn import CTRGCN
from skelcl.encoders.dsta import DSTA
from skelcl.encoders.hcn import HCN
from skelcl.encoders.hyperformer import Hyperformer
from skelcl.encoders.lstm import LSTM
from skelcl.encoders.scd import SCD
from skelcl.encoders.st_gcn import STGCN
from skelcl.encoders.vit import ViT

__all__ = [
    "AGCN",
    "CTRGCN",
    "DSTA",
    "HCN",
    "LSTM",
    "SCD",
    "STGCN",
    "BodyEncoder",
    "Encoder",
    "Hyperformer",
    "MapEncoder",
    "ViT",
]
