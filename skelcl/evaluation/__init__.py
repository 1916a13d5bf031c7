"""Protocols: probes, neighbours, retrieval, clusters, few-shot and damage on frozen features; a method's own logits."""

from skelcl.evaluation.classification import SupervisedEvaluation
from skelcl.evaluation.clustering import cluster, clustering_scores
from skelcl.evaluation.collapse import alignment, collapse_scores, effective_rank, uniformity
from skelcl.evaluation.corruptions import corrupt
from skelcl.evaluation.encode import Encoded, encode
from skelcl.evaluation.features import FeatureBank, FeatureWriter
from skelcl.evaluation.few_shot import draw_episodes, episode_accuracies, one_shot
from skelcl.evaluation.frozen import FrozenEvaluation
from skelcl.evaluation.judge import Judge
from skelcl.evaluation.knn import KNN, OnlineKNN, knn_predict
from skelcl.evaluation.probe import PRESETS, ProbePreset, ProbeResult, linear_probe
from skelcl.evaluation.retrieval import retrieve

__all__ = [
    "KNN",
    "PRESETS",
    "Encoded",
    "FeatureBank",
    "FeatureWriter",
    "FrozenEvaluation",
    "Judge",
    "OnlineKNN",
    "ProbePreset",
    "ProbeResult",
    "SupervisedEvaluation",
    "alignment",
    "cluster",
    "clustering_scores",
    "collapse_scores",
    "corrupt",
    "draw_episodes",
    "effective_rank",
    "encode",
    "episode_accuracies",
    "knn_predict",
    "linear_probe",
    "one_shot",
    "retrieve",
    "uniformity",
]
