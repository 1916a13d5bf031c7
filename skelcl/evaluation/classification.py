"""What a supervised method reports of itself: accuracies of its own logits, tables, pictures and scores for fusion."""

from __future__ import annotations

import importlib.util
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from skelcl.evaluation import report
from skelcl.evaluation.features import FeatureBank, check_features, run_directory, step_scores
from skelcl.evaluation.record import stream_name, write_results


class SupervisedEvaluation(pl.Callback):
    """Judges the logits of a supervised method, each clip once, whatever the processes and their padding.

    Logs ``val/top1``, ``val/top5`` and ``val/mean_class`` after validation; ``test/…``, and the same for each named
    subset of the data (``test_clean/…``), after ``test``, which also writes ``results.json``, ``per_class.csv``,
    ``confusion.csv``, pictures and ``scores.npz`` to the run's folder. The ``validate`` command writes
    ``scores-val.npz``. Silent for methods without logits. It selects nothing.

    Args:
        figures: Also draw the confusion matrix and a map of the features, where matplotlib is installed.
    """

    def __init__(self, figures: bool = True) -> None:
        self.figures = figures
        self._bank = FeatureBank()
        self._num_classes = 0

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget an earlier evaluation."""
        self._bank.reset()

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the logits and features of a batch, if it has any."""
        given = step_scores(outputs)
        if given is not None:
            logits = given["logits"].float()
            self._num_classes = logits.shape[1]
            self._bank.update(torch.cat([logits, given["features"].float()], 1), given["label"], given["index"])

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log accuracies of the validation clips.

        Raises:
            InputError: If a logit is not finite or a label is not among the classes.
        """
        if not self._bank.update_called or trainer.sanity_checking:
            return
        logits, _, label, index = self._gathered()
        scores = report.logit_scores(label, logits)
        metrics = {f"val/{name}": value for name, value in scores.items()}
        pl_module.log_dict(metrics, prog_bar=True, batch_size=1, sync_dist=True)
        directory = run_directory(trainer)
        if trainer.state.fn == TrainerFn.VALIDATING and directory is not None and trainer.is_global_zero:
            report.write_scores(directory / "scores-val.npz", trainer, pl_module, logits, label, index)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report on the first process, log on all.

        Raises:
            InputError: If a logit is not finite or a label is not among the classes.
        """
        if not self._bank.update_called:
            return
        logits, features, label, index = self._gathered()
        subsets = report.tested_subsets(trainer, index)
        scores = {subset: report.logit_scores(label[which], logits[which]) for subset, which in subsets.items()}
        metrics = {f"{subset}/{key}": value for subset in subsets for key, value in scores[subset].items()}
        pl_module.log_dict(metrics, batch_size=1, sync_dist=True)
        directory = run_directory(trainer)
        if not trainer.is_global_zero:
            return
        names = report.class_names(trainer, logits.shape[1])
        results = {
            "stream": stream_name(pl_module),
            "query_clips": {subset: int(which.sum()) for subset, which in subsets.items()},
            "classes": len(names),
            "metrics": metrics,
        }
        remarks = write_results(directory, trainer, pl_module, results, index)
        if directory is not None:
            predicted = logits.argmax(1)
            report.write_per_class(directory / "per_class.csv", label, {"top1": predicted}, subsets, names)
            confusion = report.write_confusion(directory / "confusion.csv", label, predicted, names)
            report.write_scores(directory / "scores.npz", trainer, pl_module, logits, label, index, subsets, remarks)
            if self.figures and importlib.util.find_spec("matplotlib") is not None:
                report.save_figures(trainer, directory, features, label, confusion, names)
        shown = [f"{subset}/{key}" for subset in subsets for key in report.CLASSIFICATION]
        row = [metrics[name] for name in shown]
        table = report.percent_table(report.column_heads(shown), {type(pl_module).__name__: row})
        report.print_report(pl_module, f"accuracies in %, {len(label)} test clips", table, remarks, directory)

    def _gathered(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits (N, K), features (N, D), labels and store positions of all processes, on the CPU, in store order."""
        both, label, index = (tensor.cpu() for tensor in self._bank.split())
        self._bank.reset()
        check_features("logits and", both, label, self._num_classes)
        logits, features = both.tensor_split([self._num_classes], 1)
        return logits, features, label, index
