"""All protocols on the frozen features of one encoder, for the whole test part and each named subset of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from skelcl.errors import InputError
from skelcl.evaluation import report
from skelcl.evaluation.clustering import ClusteringOptions, cluster, clustering_scores
from skelcl.evaluation.collapse import CollapseOptions, alignment, collapse_scores
from skelcl.evaluation.encode import Encoded
from skelcl.evaluation.few_shot import (
    FewShotOptions,
    draw_episodes,
    episode_accuracies,
    interval,
    novel_predict,
    one_shot,
)
from skelcl.evaluation.knn import KNNOptions, knn_predict
from skelcl.evaluation.probe import PRESETS, ProbeName, ProbeResult, linear_probe
from skelcl.evaluation.retrieval import RetrievalOptions, retrieve
from skelcl.evaluation.spread import mean_sd


@dataclass(frozen=True, eq=False)
class Scores:
    """What protocols found, by ``<subset>/<kind>``.

    Args:
        values: One number for each seed, or a single one where no seed has a say.
        interval: Half-width of the 95 % interval over episodes, where there are any.
        notes: What was left out, in words.
    """

    values: dict[str, list[float]] = field(default_factory=dict)
    interval: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, subset: str, scores: Mapping[str, float]) -> None:
        """Take in numbers of one seed."""
        for kind, value in scores.items():
            self.values.setdefault(f"{subset}/{kind}", []).append(value)

    def mean(self) -> dict[str, float]:
        """Mean over the seeds."""
        return {name: float(np.mean(values)) for name, values in self.values.items()}

    def sd(self) -> dict[str, float]:
        """Standard deviation (of the sample) where there are several seeds."""
        spreads = {name: mean_sd(values)[1] for name, values in self.values.items()}
        return {name: sd for name, sd in spreads.items() if sd is not None}


class Judge:
    """Runs protocols on one encoder's features; probes are trained once and kept.

    Args:
        train: Features of the training part, whose labels are known.
        test: Features of the test part.
        subsets: ``test`` and named subsets: which test clips belong to them, (N,) bool on the CPU.
        num_classes: K.
        seeds: Of the linear probe and of k-means: first weights, shuffling, first centres. Not of trainings.
    """

    def __init__(
        self,
        train: Encoded,
        test: Encoded,
        subsets: Mapping[str, Tensor],
        num_classes: int,
        seeds: Sequence[int] = (0,),
    ) -> None:
        self.train = train
        self.test = test
        self.subsets = subsets
        self.num_classes = num_classes
        self.seeds = tuple(seeds)
        self.scores = Scores()
        self._label = test.label.cpu()
        self._probes: dict[tuple[ProbeName, int], ProbeResult] = {}

    def probe(self, preset: ProbeName, seed: int) -> ProbeResult:
        """The linear probe of a setting and a seed."""
        if (preset, seed) not in self._probes:
            self._probes[preset, seed] = linear_probe(
                self.train.pair, self.test.pair, self.num_classes, PRESETS[preset], seed
            )
        return self._probes[preset, seed]

    def linear(self, presets: Sequence[ProbeName]) -> None:
        """``linear_<preset>_top1``, ``_top5``, ``_mean_class`` after the last epoch of the probe."""
        for preset in presets:
            for seed in self.seeds:
                logits = self.probe(preset, seed).logits.cpu()
                self._add_logits(logits, f"linear_{preset}_")

    def own(self, logits: Tensor) -> None:
        """``top1``, ``top5`` and ``mean_class`` of the network's own logits, (N, K)."""
        self._add_logits(logits.cpu(), "")

    def knn(self, options: KNNOptions) -> None:
        """``knn_top1`` for k = 1, ``knn5_top1`` for k = 5 and so on, and ``_mean_class``, where there are k clips."""
        for k in options.k:
            if k > len(self.train):
                self.scores.notes.append(f"knn: {k} neighbours, there are {len(self.train)} training clips")
                continue
            predicted = self.neighbours(self.test, k)
            for subset, which in self.subsets.items():
                label = self._label[which]
                name = "knn" if k == 1 else f"knn{k}"
                scores = {
                    f"{name}_top1": report.accuracy(predicted[which] == label),
                    f"{name}_mean_class": report.mean_class(label, predicted[which]),
                }
                self.scores.add(subset, scores)

    def neighbours(self, clips: Encoded, k: int = 1) -> Tensor:
        """Class of each clip by its k nearest training clips, (N,) on the CPU."""
        return knn_predict(*self.train.pair, clips.features, k, self.num_classes).cpu()

    def retrieval(self, options: RetrievalOptions) -> None:
        """``retrieval_map`` and ``retrieval_recall<k>``."""
        found = retrieve(*self.train.pair, *self.test.pair)
        for subset, which in self.subsets.items():
            self.scores.add(subset, found.scores(which.to(found.best_rank.device), options))

    def clustering(self, options: ClusteringOptions) -> None:
        """``clustering_acc``, ``_nmi`` and ``_ari``; every subset is clustered by itself."""
        for subset, which in self.subsets.items():
            label = self._label[which].numpy()
            features = self.test.features[which.to(self.test.features.device)]
            clusters = options.clusters or len(np.unique(label))
            if clusters > len(label):
                self.scores.notes.append(f"clustering of {subset}: {clusters} clusters of {len(label)} clips")
                continue
            for seed in self.seeds:
                found = cluster(features, clusters, options.restarts, seed)
                self.scores.add(subset, clustering_scores(label, found))

    def collapse(self, options: CollapseOptions, views: tuple[Encoded, Encoded] | None = None) -> None:
        """Diagnostics of test features; alignment of two random ``views`` of the test clips where there are any."""
        for subset, which in self.subsets.items():
            if int(which.sum()) < 2:
                self.scores.notes.append(f"collapse of {subset}: one clip makes no pair")
                continue
            mine = which.to(self.test.features.device)
            self.scores.add(subset, collapse_scores(self.test.features[mine], options))
            if views is not None:
                first, second = (view.features[mine].cpu() for view in views)
                self.scores.add(subset, {"collapse_alignment": alignment(first, second)})

    def few_shot(self, options: FewShotOptions, exemplars: bool = False) -> None:
        """``few_shot_<K>shot``, with intervals; ``one_shot_top1`` where the training clips are exemplars.

        With ``novel_from`` also ``novel_knn<k>_top1``. A subset with too few clips for episodes is left out; the whole
        test part must have enough, unless it is judged by exemplars.
        """
        for subset, which in self.subsets.items():
            features = self.test.features[which.to(self.test.features.device)]
            for shots in options.shots:
                try:
                    episodes = draw_episodes(
                        self._label[which].numpy(), options.ways, shots, options.queries, options.episodes, options.seed
                    )
                except InputError as error:
                    if subset == "test" and not exemplars:
                        raise
                    self.scores.notes.append(f"{subset}: {error}")
                    continue
                mean, half = interval(episode_accuracies(features, episodes))
                self.scores.add(subset, {f"few_shot_{shots}shot": mean})
                self.scores.interval[f"{subset}/few_shot_{shots}shot"] = half
        if exemplars:
            right = one_shot(*self.train.pair, self.test.features).cpu() == self._label
            for subset, which in self.subsets.items():
                self.scores.add(subset, {"one_shot_top1": report.accuracy(right[which])})
        if options.novel_from is not None:
            for k in options.neighbours:
                asked, predicted = novel_predict(*self.train.pair, *self.test.pair, options.novel_from, k)
                asked = asked.cpu()
                right = torch.zeros(len(asked), dtype=torch.bool)
                right[asked] = predicted.cpu() == self._label[asked]
                for subset, which in self.subsets.items():
                    if (which & asked).any():
                        self.scores.add(subset, {f"novel_knn{k}_top1": report.accuracy(right[which & asked])})

    def _add_logits(self, logits: Tensor, prefix: str) -> None:
        for subset, which in self.subsets.items():
            scores = report.logit_scores(self._label[which], logits[which])
            self.scores.add(subset, {f"{prefix}{name}": value for name, value in scores.items()})
