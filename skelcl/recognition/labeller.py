"""What features show: classes with their probabilities or votes, the nearest training clips, whether it is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from skelcl.errors import InputError, OptionError
from skelcl.evaluation.gallery import Gallery
from skelcl.evaluation.knn import rank_classes
from skelcl.evaluation.probe import ProbeName
from skelcl.evaluation.temperature import Calibration, calibrate
from skelcl.methods import Method, Supervised
from skelcl.recognition.calibration import held_out_distances, p_values
from skelcl.recognition.prediction import Candidate, Neighbour, Prediction
from skelcl.recognition.training_clips import TrainingClips

Labels = Literal["auto", "classifier", "knn", "probe", "none"]


class Labeller:
    """Labels the features of windows.

    Args:
        method: Network of the run, whose classifier may be asked.
        training_clips: Those of its checkpoint.
        labels: As :class:`~skelcl.recognition.predictor.Predictor`, as the next four.
        k: Neighbours that vote.
        top_k: Classes that are told of.
        neighbours: Nearest training clips that are told of; None is 3 where they are at hand.
        unknown: Share of known clips that may be lost where unknown ones are told; None tells none.
        probe: Settings and seed of the probe.

    Attributes:
        labels_by: How labels are made, in words.
        note: Why no nearest training clips are told of, where that was not chosen; else empty.

    Raises:
        InputError: The run has no classifier, or training clips are needed and not at hand.
    """

    def __init__(
        self,
        method: Method,
        training_clips: TrainingClips,
        labels: Labels,
        k: int,
        top_k: int,
        neighbours: int | None,
        unknown: float | None,
        probe: tuple[ProbeName, int],
    ) -> None:
        self.method, self.training_clips = method, training_clips
        self.class_names = training_clips.facts.class_names
        self.k, self.top_k, self.unknown = k, top_k, unknown
        self._probe = probe
        trained = isinstance(method, Supervised)
        self.labels = ("classifier" if trained else "knn") if labels == "auto" else labels
        if self.labels == "classifier" and not trained:
            raise InputError(
                f"{training_clips.path}: {type(method).__name__} has no classifier: use labels knn or probe, or "
                "fine-tune"
            )
        told = {
            "classifier": f"the classifier of {type(method).__name__}",
            "knn": f"a vote of the {k} nearest training clips" if k > 1 else "the nearest training clip",
            "probe": f"a linear probe ({probe[0]}) on the features of the training clips",
            "none": "nobody: features alone",
        }
        self.labels_by = told[self.labels]
        self.neighbours, self.note = 3 if neighbours is None else neighbours, ""
        needed = self.labels in ("knn", "probe") or unknown is not None or training_clips.given
        if self.neighbours or needed:
            try:
                training_clips.find()
            except InputError:
                if neighbours is not None or needed:
                    raise
                place = training_clips.file
                self.neighbours = 0
                self.note = f"no nearest training clips: {place} or the data set are needed; neighbours 3 says how"
        self._uses_gallery = bool(self.neighbours or needed)

    @property
    def gallery(self) -> Gallery:
        """Features of the labelled training clips."""
        return self.training_clips.gallery

    @cached_property
    def calibration(self) -> Calibration | None:
        """What makes the probabilities of classifier or probe right as often as they say.

        None where neighbours vote or nobody does, where no training clip at hand is known to be one whose label was not
        learned, and where none are at hand. The order of the classes stays as it is.
        """
        if self.labels == "probe":
            return self.training_clips.probe_calibration(*self._probe)
        if self.labels != "classifier" or not (self._uses_gallery or self.training_clips.read()):
            return None
        held_out = self.training_clips.unread
        if not held_out.any():
            return None
        return calibrate(self._logits(self.gallery.features[held_out]), self.gallery.label[held_out])

    @torch.no_grad()
    def __call__(self, features: Tensor, spans: Sequence[tuple[int, int]]) -> list[Prediction]:
        """What finite features (N, D) of N windows, which begin and end at ``spans``, show."""
        voters = self.k if self.labels == "knn" else 0
        if most := max(voters, self.neighbours, self.unknown is not None):
            similarity, place = self.gallery.nearest(features, most)
            label = self.gallery.label[place]
        if voters:
            if voters > len(self.gallery):
                raise OptionError(f"k={voters} nearest neighbours of {len(self.gallery)} training clips")
            number, order = rank_classes(similarity[:, :voters], label[:, :voters], self.gallery.num_classes)
        elif self.labels != "none":
            number, order = self._classify(features)
        tops: list[tuple[Candidate, ...]] = [()] * len(spans)
        if self.labels != "none":
            order = order[:, : self.top_k]
            ranked = (order.tolist(), number.gather(1, order).tolist())
            tops = [
                tuple(self._candidate(c, n) for c, n in zip(classes, numbers, strict=True) if n > 0)
                for classes, numbers in zip(*ranked, strict=True)
            ]
        near: list[tuple[Neighbour, ...]] = [()] * len(spans)
        if self.neighbours:
            close = [tensor[:, : self.neighbours].tolist() for tensor in (place, label, similarity)]
            near = [
                tuple(Neighbour(str(self.gallery.ids[j]), self.class_names[c], s) for j, c, s in zip(*one, strict=True))
                for one in zip(*close, strict=True)
            ]
        told: list[tuple[float, bool] | tuple[None, None]] = [(None, None)] * len(spans)
        if self.unknown is not None:
            usual = p_values(1 - similarity[:, 0], self._held_out).tolist()
            told = [(value, value <= self.unknown) for value in usual]
        return [
            Prediction(start, stop, top, values, nearby, "", *odd)
            for (start, stop), top, values, nearby, odd in zip(spans, tops, features.numpy(), near, told, strict=True)
        ]

    @cached_property
    def _held_out(self) -> Tensor:
        return held_out_distances(self.gallery)

    def _candidate(self, label: int, number: float) -> Candidate:
        """A class with its probability, or its votes where several vote."""
        name = self.class_names[label]
        if self.labels != "knn":
            return Candidate(name, number)
        return Candidate(name, votes=int(number) if self.k > 1 else None)

    def _classify(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (N, K) and the classes in the order of preference, (N, K)."""
        logits = self._logits(features)
        temperature = 1.0 if self.calibration is None else self.calibration.temperature
        return (logits / temperature).softmax(1), logits.argsort(dim=1, descending=True, stable=True)

    def _logits(self, features: Tensor) -> Tensor:
        """Of the run's classifier or of the probe, (N, K)."""
        if self.labels == "probe":
            return self.training_clips.head(*self._probe)(features)
        assert isinstance(self.method, Supervised)
        return self.method.classify(features.to(self.method.device)).float().cpu()
