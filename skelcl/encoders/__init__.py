"""Encoders: clips (N, C, T, V, M) to features (N, dim)."""

from skelcl.encoders.base import Encoder
from skelcl.encoders.lstm import LSTM

__all__ = ["LSTM", "Encoder"]
