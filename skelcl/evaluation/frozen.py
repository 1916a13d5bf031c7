"""What ``test`` reports of a self-supervised method: kNN and linear probe on frozen features, files and pictures."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import Tensor

from skelcl.bounds import NonNegativeInt, PositiveInt, bounded
from skelcl.encoders.base import Encoder
from skelcl.errors import InputError
from skelcl.evaluation import report
from skelcl.evaluation.features import FeatureBank, StepFeatures, named_clips, run_directory, self_supervised_features
from skelcl.evaluation.knn import knn_predict
from skelcl.evaluation.mixed import LabelSpace, among, label_spaces
from skelcl.evaluation.probe import PRESETS, ProbeName, linear_probe
from skelcl.evaluation.record import write_results
from skelcl.seeding import run_seed

Split = tuple[Tensor, Tensor, Tensor]
"""Features (N, D), labels (N,) and store positions (N,) of a split."""
OTHER_SPACE = 100.0
"""So far below the lowest logit are those of classes that a clip cannot have, because they are another data set's."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Test clips as kNN and the linear probe see them, on the CPU, in the order of the store.

    Args:
        features: (N, D).
        label: Classes, (N,).
        knn: Classes that kNN predicts, (N,).
        logits: Of the probe after its last epoch, (N, K).
        probe_top1: Accuracy (0…1) of the probe after each epoch, (E,).
    """

    features: Tensor
    label: Tensor
    knn: Tensor
    logits: Tensor
    probe_top1: Tensor

    def scores(self, which: Tensor) -> dict[str, float]:
        """Accuracies (0…1) over the clips in ``which``, (N,) bool."""
        label, knn = self.label[which], self.knn[which]
        linear = report.logit_scores(label, self.logits[which])
        return {
            "knn_top1": report.accuracy(knn == label),
            "knn_mean_class": report.mean_class(label, knn),
            **{f"linear_{name}": value for name, value in linear.items()},
        }


@bounded
class FrozenEvaluation(pl.Callback):
    """Judges the frozen encoder on ``test``: loader 0 is the training part with labels, loader 1 the test part.

    Every clip is encoded once. Logs ``test/knn_top1`` (cosine) and ``test/linear_top1`` (last epoch of the probe),
    top-5 and mean-class accuracy, the same for each named subset of the data (``test_clean/…``), and the accuracies of
    the same encoder with random weights (``test/random_…``). Where a :class:`~skelcl.data.Mixture` has several label
    spaces, kNN and a probe of each judge the clips of that space alone. Writes ``results.json``, ``per_class.csv``,
    ``confusion.csv``, pictures and the logits of the probe, ``scores.npz`` for ``skelcl fuse``, to the run's folder.
    Silent for methods that give no features, or logits of their own.

    Args:
        k: Neighbours that vote in kNN; the protocol of the literature is 1.
        probe: Published setting of the linear probe.
        probe_seed: Seed of the probe's first weights and shuffling.
        random_encoder: Also judge a copy of the encoder with redrawn weights: what is owed to training shows beside it.
        paper_compat: Also log ``test/linear_top1_best_on_test``, the best epoch as chosen on the test set, which many
            papers print.
        figures: Also draw the confusion matrix and a map of the features, where matplotlib is installed.
    """

    def __init__(
        self,
        k: PositiveInt = 1,
        probe: ProbeName = "as_cal",
        probe_seed: NonNegativeInt = 0,
        random_encoder: bool = True,
        paper_compat: bool = False,
        figures: bool = True,
    ) -> None:
        self.k = k
        self.probe = probe
        self.probe_seed = probe_seed
        self.random_encoder = random_encoder
        self.paper_compat = paper_compat
        self.figures = figures
        self._banks: dict[str, tuple[FeatureBank, FeatureBank]] = {}
        self._random: pl.LightningModule | None = None

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget an earlier test."""
        self._banks = {}
        self._random = None

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the features of a batch, and those of the random encoder.

        Raises:
            InputError: If there are more test loaders than gallery and queries.
        """
        given = self_supervised_features(outputs)
        if given is None:
            return
        if dataloader_idx > 1:
            raise InputError("FrozenEvaluation wants two test loaders, the training part and the test part, not more")
        self._keep("learned", dataloader_idx, given)
        if self.random_encoder:
            if self._random is None:
                self._random = with_encoder(pl_module, random_twin(cast(Encoder, pl_module.encoder)))
            with trainer.precision_plugin.forward_context():
                features = self._random(batch)
            self._keep("random", dataloader_idx, {**given, "features": features})

    def _keep(self, encoder: str, loader: int, given: StepFeatures) -> None:
        for place, bank in enumerate(self._banks.setdefault(encoder, (FeatureBank(), FeatureBank()))):
            # The other bank gets an empty batch: gathering needs its width even where a process has no clip of it.
            n = len(given["label"]) if place == loader else 0
            bank.update(given["features"][:n], given["label"][:n], given["index"][:n])

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Judge on the first process, log on all.

        Raises:
            InputError: If one of the two loaders gave no clips, or the first process could not judge.
        """
        if not self._banks:
            return
        features = {encoder: (gallery.split(), query.split()) for encoder, (gallery, query) in self._banks.items()}
        if not all(len(label) for _, label, _ in features["learned"]):
            raise InputError("FrozenEvaluation needs clips from two test loaders, the training part and the test part")
        self._banks, self._random = {}, None
        directory = run_directory(trainer)
        metrics: dict[str, float] = {}
        if trainer.is_global_zero:
            try:
                metrics = self._report(trainer, pl_module, features, directory)
            except Exception as error:
                # The other processes would wait for its results.
                trainer.strategy.broadcast(({}, str(error)))
                raise
        metrics, failure = trainer.strategy.broadcast((metrics, None))
        if failure is not None:
            raise InputError(f"evaluation failed on the first process: {failure}")
        pl_module.log_dict(metrics, batch_size=1, sync_dist=True)

    def _report(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        features: dict[str, tuple[Split, Split]],
        directory: Path | None,
    ) -> dict[str, float]:
        (gallery, gallery_label, gallery_index), (query, query_label, query_index) = features["learned"]
        class_names = report.class_names(trainer, int(torch.cat([gallery_label, query_label]).max()) + 1)
        subsets = report.tested_subsets(trainer, query_index)

        names = {"learned": type(pl_module).__name__, "random": "random encoder"}
        judged = {}
        for encoder, (train, test) in features.items():
            pl_module.print(
                f"linear probe {self.probe!r} on the {names[encoder]}'s features: {PRESETS[self.probe].epochs} epochs, "
                f"{len(gallery)} training and {len(query)} test clips …"
            )
            judged[encoder] = self._judge(train, test, len(class_names), label_spaces(named_clips(trainer)))
        learned = judged["learned"]
        scores = {
            (encoder, subset): one.scores(which) for encoder, one in judged.items() for subset, which in subsets.items()
        }
        metrics = {f"{subset}/{key}": value for subset in subsets for key, value in scores["learned", subset].items()}
        if self.paper_compat:
            metrics["test/linear_top1_best_on_test"] = float(learned.probe_top1.max())
        if "random" in judged:
            for subset in subsets:
                for key in ("knn_top1", "linear_top1"):
                    metrics[f"{subset}/random_{key}"] = scores["random", subset][key]

        results = {
            "knn": {"k": self.k, "metric": "cosine"},
            "probe": {"preset": self.probe, "seed": self.probe_seed, **asdict(PRESETS[self.probe])},
            "random_encoder_seed": run_seed() if "random" in judged else None,
            "feature_width": query.shape[1],
            "gallery_clips": len(gallery),
            "query_clips": {subset: int(which.sum()) for subset, which in subsets.items()},
            "classes": len(class_names),
            "metrics": metrics,
        }
        remarks = write_results(directory, trainer, pl_module, results, query_index, gallery_index)
        if directory is not None:
            linear = learned.logits.argmax(1)
            predicted = {"knn_top1": learned.knn, "linear_top1": linear}
            report.write_per_class(directory / "per_class.csv", learned.label, predicted, subsets, class_names)
            confusion = report.write_confusion(directory / "confusion.csv", learned.label, linear, class_names)
            report.write_scores(
                directory / "scores.npz",
                trainer,
                pl_module,
                learned.logits,
                learned.label,
                query_index,
                subsets,
                remarks,
            )
            if self.figures and importlib.util.find_spec("matplotlib") is not None:
                report.save_figures(trainer, directory, learned.features, learned.label, confusion, class_names)
        shown = [encoder for encoder in ("random", "learned") if encoder in judged]
        columns = [f"{kind} {report.subset_suffix(subset)}".strip() for subset in subsets for kind in ("kNN", "linear")]
        keys = ("knn_top1", "linear_top1")
        rows = {names[e]: [scores[e, subset][key] for subset in subsets for key in keys] for e in shown}
        head = f"top-1 in %: {self.k}-NN (cosine) and linear probe {self.probe!r} (last epoch)"
        report.print_report(pl_module, head, report.percent_table(columns, rows), remarks, directory)
        return metrics

    def _judge(self, train: Split, test: Split, num_classes: int, spaces: Sequence[LabelSpace]) -> Judged:
        if len(spaces) > 1:
            return self._judge_apart(train, test, num_classes, spaces)
        predicted = knn_predict(train[0], train[1], test[0], self.k, num_classes)
        probed = linear_probe(train[:2], test[:2], num_classes, PRESETS[self.probe], self.probe_seed).cpu()
        return Judged(test[0].cpu(), test[1].cpu(), predicted.cpu(), probed.logits, probed.test_top1)

    def _judge_apart(self, train: Split, test: Split, num_classes: int, spaces: Sequence[LabelSpace]) -> Judged:
        """Each label space as if it was alone."""
        features, label = test[0].cpu(), test[1].cpu()
        knn, top1 = torch.empty_like(label), torch.zeros(PRESETS[self.probe].epochs)
        logits = torch.full((len(label), num_classes), torch.nan)
        for positions, labels in spaces:
            which = among(test[2], positions)
            if which.any():
                one, other = (
                    (split[0][inside], split[1][inside] - labels.start, split[2][inside])
                    for split, inside in ((train, among(train[2], positions)), (test, which))
                )
                judged = self._judge(one, other, len(labels), ())
                place = which.cpu()
                knn[place] = judged.knn + labels.start
                logits[place, labels.start : labels.stop] = judged.logits
                top1 += judged.probe_top1 * (int(which.sum()) / len(label))
        lowest = float(logits.nan_to_num(torch.inf).min()) - OTHER_SPACE
        return Judged(features, label, knn, logits.nan_to_num(lowest), top1)


def with_encoder(method: pl.LightningModule, encoder: Encoder) -> pl.LightningModule:
    """The same method with another encoder in the place of its own, which it keeps."""
    twin = copy.copy(method)
    twin._modules = {**method._modules, "encoder": encoder}
    return twin


def random_twin(encoder: Encoder) -> Encoder:
    """A frozen copy of an encoder with weights redrawn from the run's seed, the same on every device."""
    with torch.inference_mode(False):
        twin = copy.deepcopy(encoder)
        device = next(iter(twin.parameters())).device
        twin.cpu()
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed: that would reseed the accelerators too, which fork_rng then leaves changed.
            torch.default_generator.manual_seed(run_seed())
            twin.reset_parameters()
        return twin.to(device).eval().requires_grad_(False)
