"""A method beside its twin with random weights: clips in, features, predictions, damaged and early clips out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Protocol, cast

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelcl.clips import Clips
from skelcl.encoders.base import Encoder
from skelcl.evaluation import summary
from skelcl.evaluation.corruptions import corrupt
from skelcl.evaluation.early import EarlyOptions, beginning, early_name
from skelcl.evaluation.encode import Encoded, encode
from skelcl.evaluation.frozen import random_twin, with_encoder
from skelcl.evaluation.judge import Judge
from skelcl.evaluation.probe import ProbeName
from skelcl.evaluation.report import accuracy
from skelcl.evaluation.robustness import Reading, RobustnessOptions, robustness_scores
from skelcl.seeding import generator


class Store(Protocol):
    """What is read off a store."""

    index: dict[str, NDArray[Any]]

    def clips(self, positions: NDArray[Any], num_persons: int) -> Clips:
        """The clips at some positions, in main memory."""


class StoredClips(Protocol):
    """What is read off a data module: its store, parts of it, and names."""

    @property
    def store(self) -> Store:
        """The open store."""

    parts: dict[str, NDArray[Any]]
    subsets: dict[str, NDArray[Any]]
    ids: NDArray[Any]
    class_names: list[str]
    num_persons: int


class Session:
    """A method, its twin with random weights, and the clips that both see.

    Args:
        model: Method in eval mode, on ``device``.
        data: Its data module.
        device: Where to encode.
        batch_size: Clips that are encoded at once.
        logits: From features to the logits of the network's own classifier, where there is one.
    """

    def __init__(
        self,
        model: pl.LightningModule,
        data: StoredClips,
        device: torch.device,
        batch_size: int = 128,
        logits: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.data = data
        self.device = device
        self.batch_size = batch_size
        twin = with_encoder(model, random_twin(cast(Encoder, model.encoder))).eval()
        self.encoders: dict[str, Any] = {"learned": model, "random": twin}
        self.logits = None if logits is None else torch.inference_mode()(logits)
        positions = self.data.parts["test"]
        self.subsets = {"test": torch.ones(len(positions), dtype=torch.bool)}
        for name, some in data.subsets.items():
            which = torch.from_numpy(np.isin(positions, some))
            if which.any():
                self.subsets[name] = which

    @property
    def test_labels(self) -> NDArray[np.int64]:
        """Classes of the test clips."""
        return self.data.store.index["label"][self.data.parts["test"]].astype(np.int64)

    def encoded(
        self, part: str, change: Callable[[Clips], Clips] | None = None, title: str | None = None
    ) -> dict[str, Encoded]:
        """Features of a part of the data by both encoders."""
        called = title or {"train_all": "training part", "test": "test part"}[part]
        return self._encode(self.encoders, part, change, called)

    def random_views(self) -> dict[str, tuple[Encoded, Encoded]]:
        """Features of two random views of the test clips, the same views for both encoders; nothing without views."""
        if getattr(self.encoders["learned"], "view", None) is None:
            return {}

        def seen(method: Any, number: int) -> Callable[[Clips], Tensor]:
            random = generator("evaluation views", number, device=self.device)
            return lambda clips: method.encode(clips, method.view, random)

        encoders = {f"{name} {number}": seen(one, number) for name, one in self.encoders.items() for number in (0, 1)}
        found = self._encode(encoders, "test", None, "random views")
        return {name: (found[f"{name} 0"], found[f"{name} 1"]) for name in self.encoders}

    def damaged(self, corruption: Any, severity: float, options: RobustnessOptions, clips: Clips) -> Clips:
        """Clips under a corruption."""
        ids = self.data.ids[clips.index.numpy()].tolist()
        return corrupt(clips, ids, corruption, severity, options.fill, options.seed)

    def robustness(
        self,
        judges: Mapping[str, Judge],
        options: RobustnessOptions,
        probe: ProbeName,
        damages: Sequence[tuple[Any, float]],
    ) -> tuple[dict[tuple[str, str, str], float], list[Reading]]:
        """Accuracies on clean clips and under every damage, whose summary goes to the scores of the judges."""
        clean = {key: value for name, judge in judges.items() for key, value in self.top1(name, judge, probe)}
        readings = []
        for corruption, severity in damages:
            change = partial(self.damaged, corruption, severity, options)
            damaged = self.encoded("test", change, f"{corruption} {severity:g}")
            for name, judge in judges.items():
                for key, value in self.top1(name, judge, probe, damaged[name]):
                    readings.append(Reading(corruption, severity, *key, value))
        for scored, value in robustness_scores(readings, clean).items():
            subset, kind = scored.split("/")
            encoder = "random" if kind.startswith("random_") else "learned"
            judges[encoder].scores.add(subset, {kind.removeprefix("random_"): value})
        return clean, readings

    def top1(
        self, encoder: str, judge: Judge, probe: ProbeName, clips: Encoded | None = None
    ) -> list[tuple[tuple[str, str, str], float]]:
        """Accuracies of (encoder, judge, subset) on clean or damaged test clips, mean over the seeds of the probe."""
        return [
            ((encoder, who, subset), float(np.mean([accuracy(one[which]) for one in found])))
            for who, found in self.right(encoder, judge, probe, clips or judge.test).items()
            for subset, which in self.subsets.items()
        ]

    def early(self, judges: Mapping[str, Judge], options: EarlyOptions, probe: ProbeName) -> None:
        """Accuracies on the beginnings of the test clips, and their mean over the shares, to the scores of the judges.

        Whole clips are those that were encoded already.
        """
        whole = {name: judge.test for name, judge in judges.items()}
        top1: dict[tuple[str, str, str], list[list[float]]] = {}  # for each share, for each seed
        for percent in options.percents:
            change = partial(beginning, percent=percent)
            seen = whole if percent == 100 else self.encoded("test", change, f"first {percent} %")
            for name, judge in judges.items():
                for who, found in self.right(name, judge, probe, seen[name]).items():
                    for subset, which in self.subsets.items():
                        top1.setdefault((name, who, subset), []).append([accuracy(one[which]) for one in found])
        for (name, who, subset), shares in top1.items():
            for seed in zip(*shares, strict=True):
                by_percent = zip(options.percents, seed, strict=True)
                scores = {early_name(who, percent): value for percent, value in by_percent}
                judges[name].scores.add(subset, {early_name(who): float(np.mean(seed)), **scores})

    def right(self, encoder: str, judge: Judge, probe: ProbeName, clips: Encoded) -> dict[str, list[Tensor]]:
        """Which test clips each judge takes for what they are, (N,) bool on the CPU, one for each seed that it has."""
        label = judge.test.label.cpu()
        right = {"knn": [judge.neighbours(clips) == label]}
        right["linear"] = [
            judge.probe(probe, seed).head(clips.features).argmax(1).cpu() == label for seed in judge.seeds
        ]
        if self.logits is not None and encoder == "learned":
            right["own"] = [self.logits(clips.features).argmax(1).cpu() == label]
        return right

    def prediction(self, judge: Judge, probe: ProbeName | None) -> tuple[Tensor, str]:
        """Predicted classes of the test clips, and who predicted."""
        if self.logits is not None:
            return self.logits(judge.test.features).argmax(1).cpu(), "own classifier"
        if probe is not None:
            seed = judge.seeds[0]
            return judge.probe(probe, seed).logits.argmax(1).cpu(), f"linear probe {probe}, seed {seed}"
        return judge.neighbours(judge.test), "1-NN"

    def pictures(self, test: Encoded, predicted: Tensor, judge: str, method: Literal["pca", "tsne"]) -> list[Any]:
        """Confusion matrix of all test clips and a map of some."""
        names, label = self.data.class_names, test.label.cpu()
        count = min(len(test), summary.MAP_CLIPS)
        some = torch.linspace(0, len(test) - 1, count).round().long()
        positions = test.index.cpu()[some].numpy()
        clips = self.data.store.clips(positions, self.data.num_persons)
        features, ids = test.features.cpu()[some], self.data.ids[positions].tolist()
        chosen = features, label[some], predicted[some], clips, ids, names, judge, len(test)
        return [summary.confusion(label, predicted, names, judge), summary.feature_map(*chosen, method)]

    def _encode(
        self,
        encoders: Mapping[str, Callable[[Clips], Tensor]],
        part: str,
        change: Callable[[Clips], Clips] | None,
        title: str,
    ) -> dict[str, Encoded]:
        def read(positions: NDArray[np.int64]) -> Clips:
            return self.data.store.clips(positions, self.data.num_persons)

        return encode(encoders, read, self.data.parts[part], self.device, self.batch_size, change, title)
