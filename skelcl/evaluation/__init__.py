"""Protocols: nearest neighbours and linear probes on frozen features, a method's own logits, files of either."""

from skelcl.evaluation.features import FeatureBank, FeatureWriter
from skelcl.evaluation.frozen import FrozenEvaluation
from skelcl.evaluation.knn import KNN, OnlineKNN, knn_predict
from skelcl.evaluation.probe import PRESETS, ProbePreset, ProbeResult, linear_probe
from skelcl.evaluation.supervised import SupervisedEvaluation

__all__ = [
    "KNN",
    "PRESETS",
    "FeatureBank",
    "FeatureWriter",
    "FrozenEvaluation",
    "OnlineKNN",
    "ProbePreset",
    "ProbeResult",
    "SupervisedEvaluation",
    "knn_predict",
    "linear_probe",
]
