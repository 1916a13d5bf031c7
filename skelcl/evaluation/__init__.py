"""Protocols on frozen features: nearest neighbours, linear probes, feature files. Independent of any method."""

from skelcl.evaluation.features import FeatureBank, FeatureWriter
from skelcl.evaluation.frozen import FrozenEvaluation
from skelcl.evaluation.knn import KNN, OnlineKNN, knn_predict
from skelcl.evaluation.probe import PRESETS, ProbePreset, ProbeResult, linear_probe

__all__ = [
    "KNN",
    "PRESETS",
    "FeatureBank",
    "FeatureWriter",
    "FrozenEvaluation",
    "OnlineKNN",
    "ProbePreset",
    "ProbeResult",
    "knn_predict",
    "linear_probe",
]
