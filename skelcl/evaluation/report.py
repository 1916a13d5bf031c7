"""What the reports of all protocols share: subsets of the test part, accuracies, tables and files."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from skelcl.evaluation.features import named_clips, write_npz
from skelcl.evaluation.record import stream_name
from skelcl.files import atomic_write, cell

CLASSIFICATION = {"top1": "top-1", "top5": "top-5", "mean_class": "mean class"}
"""What :func:`logit_scores` gives, and the heads of its columns."""


def column_heads(names: Sequence[str]) -> list[str]:
    """Heads of columns of accuracies that :func:`logit_scores` gives: ``test_clean/top1`` is ``top-1 clean``."""
    return [
        f"{CLASSIFICATION[kind]} {subset_suffix(part)}".strip() for part, kind in (name.split("/") for name in names)
    ]


def class_names(trainer: pl.Trainer, num_classes: int) -> list[str]:
    """Names of the classes by label; numbers where no data module names them."""
    data = named_clips(trainer)
    return [str(label) for label in range(num_classes)] if data is None else list(data.class_names)


def tested_subsets(trainer: pl.Trainer, index: Tensor) -> dict[str, Tensor]:
    """The whole test part and its named subsets, as far as any of their clips was tested.

    Args:
        trainer: Knows the data module that names them.
        index: Store positions of the tested clips, (N,).

    Returns:
        For ``test`` and each subset which clips belong to it, (N,) bool on the CPU.
    """
    subsets = {"test": torch.ones(len(index), dtype=torch.bool)}
    data = named_clips(trainer)
    for name, positions in ({} if data is None else data.subsets).items():
        which = torch.isin(index.cpu(), torch.as_tensor(positions))
        if which.any():
            subsets[name] = which
    return subsets


def accuracy(right: Tensor) -> float:
    """Share of true values of (N,) bool."""
    return float(right.double().mean())


def logit_scores(label: Tensor, logits: Tensor) -> dict[str, float]:
    """Top-1, top-5 (or top-K of fewer classes) and mean-class accuracy (0…1) of logits (N, K) with labels (N,)."""
    top5 = logits.topk(min(5, logits.shape[1]), dim=1).indices
    return {
        "top1": accuracy(top5[:, 0] == label),
        "top5": accuracy((top5 == label[:, None]).any(1)),
        "mean_class": mean_class(label, top5[:, 0]),
    }


def mean_class(label: Tensor, predicted: Tensor) -> float:
    """Mean accuracy over the classes that occur in ``label`` (N,), for predicted classes (N,)."""
    support = label.bincount()
    right = label[predicted == label].bincount(minlength=len(support))
    return float((right.double() / support)[support > 0].mean())


def write_per_class(
    path: Path, label: Tensor, predicted: Mapping[str, Tensor], subsets: Mapping[str, Tensor], names: Sequence[str]
) -> None:
    """Write support and accuracy of each class, for each subset, as CSV.

    Args:
        path: File to write.
        label: True classes, (N,).
        predicted: Column name and predicted classes (N,) of each judge.
        subsets: Which clips belong to each subset, (N,) bool.
        names: Names of the classes.
    """
    with atomic_write(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        columns = ("support", *predicted)
        table.writerow(["class", *(f"{subset}/{column}" for subset in subsets for column in columns)])
        for c, name in enumerate(names):
            row: list[str | int] = [cell(name)]
            for which in subsets.values():
                mine = which & (label == c)
                row.append(int(mine.sum()))
                row += [f"{accuracy(one[mine] == c):.4f}" if mine.any() else "" for one in predicted.values()]
            table.writerow(row)


def write_confusion(path: Path, label: Tensor, predicted: Tensor, names: Sequence[str]) -> Tensor:
    """Write the confusion matrix of labels (N,) and predictions (N,) as CSV; returns it, (K, K), rows are true."""
    k = len(names)
    confusion = torch.bincount(label * k + predicted, minlength=k * k).view(k, k)
    with atomic_write(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["true \\ predicted", *map(cell, names)])
        table.writerows([cell(name), *row] for name, row in zip(names, confusion.tolist(), strict=True))
    return confusion


def write_scores(
    path: Path,
    trainer: pl.Trainer,
    method: pl.LightningModule,
    logits: Tensor,
    label: Tensor,
    index: Tensor,
    subsets: Mapping[str, Tensor] | None = None,
    remarks: Sequence[str] = (),
) -> None:
    """Write the logits of a run as an ``.npz`` file of scores, which ``skelcl fuse`` adds to those of other streams.

    It holds ``id`` (N,) strings, by which streams are joined, ``label`` (N,), ``logits`` (N, K) float32,
    ``class_names``, ``remarks``, ``stream`` and ``checkpoint`` strings, and each named subset as (N,) bool.

    Args:
        path: File to write.
        trainer: Knows the data module that names clips and classes, and the checkpoint.
        method: Knows its stream.
        logits: (N, K), of its own classifier or of a probe on its frozen features.
        label: True classes, (N,).
        index: Store positions of the clips, (N,).
        subsets: Which clips belong to each subset of the test part, (N,) bool.
        remarks: What a table of these scores must say.
    """
    data = named_clips(trainer)
    logits, label, index = logits.cpu(), label.cpu(), index.cpu()
    named = {name: which.numpy() for name, which in (subsets or {}).items() if name != "test"}
    write_npz(
        path,
        id=index.numpy().astype(str) if data is None else np.asarray(data.ids, dtype=str)[index.numpy()],
        label=label.numpy(),
        logits=logits.numpy(),
        class_names=np.asarray(class_names(trainer, logits.shape[1]), dtype=str),
        stream=np.asarray(stream_name(method)),
        checkpoint=np.asarray(str(trainer.ckpt_path or "")),
        remarks=np.asarray(remarks, dtype=str),
        **named,
    )


def save_figures(
    trainer: pl.Trainer, directory: Path, features: Tensor, label: Tensor, confusion: Tensor, names: Sequence[str]
) -> None:
    """Draw a test into a folder, and for each logger that takes images (W&B).

    Args:
        trainer: Has the loggers.
        directory: Gets ``confusion.png`` and ``embedding.png``.
        features: Of the test clips, (N, D).
        label: Their classes, (N,).
        confusion: Counts, (K, K), rows are true.
        names: Names of the classes.
    """
    from skelcl import plotting

    figures = {
        "confusion": plotting.confusion_matrix(confusion.numpy(), names),
        "embedding": plotting.embedding(features.numpy(), label.numpy(), names),
    }
    for name, figure in figures.items():
        path = directory / f"{name}.png"
        with atomic_write(path) as part:
            figure.savefig(part, dpi=150)
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image(f"test/{name}", [str(path)])


def percent_table(columns: Sequence[str], rows: Mapping[str, Sequence[float]]) -> str:
    """A table of accuracies (0…1) in percent, right-aligned under their columns."""
    width, first = max(map(len, columns)) + 3, max(map(len, rows)) + 2
    lines = [" " * first + "".join(f"{column:>{width}}" for column in columns)]
    for name, values in rows.items():
        lines.append(f"{name:<{first}}" + "".join(f"{100 * value:>{width}.1f}" for value in values))
    return "\n".join(lines)


def print_report(
    pl_module: pl.LightningModule, head: str, table: str, remarks: Sequence[str], directory: Path | None
) -> None:
    """Print the table of a test.

    Args:
        pl_module: Prints on the first process.
        head: What the numbers are.
        table: From :func:`percent_table`.
        remarks: What must be known of them.
        directory: Where the files are, if there are any.
    """
    where = [] if directory is None else [f"files: {directory}"]
    pl_module.print("\n" + "\n".join([head, table, *(f"! {remark}" for remark in remarks), *where]) + "\n")


def subset_suffix(subset: str) -> str:
    """Name of a subset in the title of a column: empty for ``test``, ``clean`` for ``test_clean``."""
    return subset.removeprefix("test").removeprefix("_")
