"""Features of whole splits: gathered over processes, each clip once, and written to a file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypedDict, runtime_checkable

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from skelcl.errors import InputError
from skelcl.evaluation.configs import agree, config_of, parsed_config
from skelcl.files import atomic_write
from skelcl.runs.checkpoints import read_checkpoint
from skelcl.runs.trust import CONFIG_KEY


class StepFeatures(TypedDict):
    """What an evaluation step of a self-supervised method returns."""

    features: Tensor
    label: Tensor
    index: Tensor


@runtime_checkable
class NamedClips(Protocol):
    """What evaluation reads off a data module: names of clips, classes and splits, and named parts of the store."""

    @property
    def ids(self) -> Sequence[str] | NDArray[Any]:
        """Names of the clips by position."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes by label."""

    @property
    def subsets(self) -> Mapping[str, NDArray[Any]]:
        """Positions of named parts of the test clips."""

    @property
    def predict_split(self) -> str:
        """Part that ``predict`` encodes."""


class StepScores(StepFeatures):
    """What an evaluation step of a supervised method returns: logits (N, K) as well."""

    logits: Tensor


def step_features(outputs: object) -> StepFeatures | None:
    """Features (N, D), labels (N,) and store positions (N,) of a step; None when the step gives no features."""
    if not isinstance(outputs, Mapping) or "features" not in outputs:
        return None
    return StepFeatures(features=outputs["features"], label=outputs["label"], index=outputs["index"])


def self_supervised_features(outputs: object) -> StepFeatures | None:
    """As :func:`step_features`, but None as well for a supervised step, whose logits are what there is to judge."""
    return None if isinstance(outputs, Mapping) and "logits" in outputs else step_features(outputs)


def step_scores(outputs: object) -> StepScores | None:
    """Features, logits (N, K), labels and store positions of a supervised step; None for any other step."""
    given = step_features(outputs)
    if given is None or not isinstance(outputs, Mapping) or "logits" not in outputs:
        return None
    return StepScores(**given, logits=outputs["logits"])


UNBOUNDED = "the encoder has diverged, or coordinates are larger than any body (skelcl data check tells)"
"""Why numbers may end where there were some."""


def check_features(where: str, features: Tensor, label: Tensor | None = None, num_classes: int = 0) -> None:
    """Raise one clear InputError for features (N, D) that are not finite or labels (N,) outside 0…num_classes − 1."""
    bad = int((~features.isfinite().all(1)).sum())
    if bad:
        raise InputError(f"{bad} of {len(features)} {where} features are not finite: {UNBOUNDED}")
    if label is not None and len(label) and not 0 <= int(label.min()) <= int(label.max()) < num_classes:
        span = f"{int(label.min())}…{int(label.max())}"
        raise InputError(f"{where} labels span {span} but must lie in 0…{num_classes - 1}")


def named_clips(trainer: pl.Trainer) -> NamedClips | None:
    """The data module, where one was given that names its clips; plain loaders are judged without names."""
    data: object = trainer.datamodule  # type: ignore[attr-defined]  # there, but missing from Lightning's annotations
    return data if isinstance(data, NamedClips) else None


def run_directory(trainer: pl.Trainer) -> Path | None:
    """Where the files of this run belong; None without a logger that writes. To be called on all processes."""
    directory = trainer.log_dir if trainer.loggers else None
    return None if directory is None else Path(directory)


class FeatureBank(Metric):
    """Features of a split in the order of the store, each clip once, whatever the processes and their padding.

    :meth:`split` gives it.
    """

    full_state_update = False
    is_differentiable = False

    features: list[Tensor]
    label: list[Tensor]
    index: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for state in ("features", "label", "index"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, features: Tensor, label: Tensor, index: Tensor) -> None:
        """Add features (N, D) with their labels (N,) and store positions (N,)."""
        self.features.append(features.detach().float())
        self.label.append(label.long())
        self.index.append(index.long())

    def compute(self) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`split`, but for torchmetrics, which turns tensors with a single element into scalars."""
        features, label, index = dim_zero_cat(self.features), dim_zero_cat(self.label), dim_zero_cat(self.index)
        order = index.argsort(stable=True)
        index = index[order]
        first = torch.ones_like(index, dtype=torch.bool)
        first[1:] = index[1:] != index[:-1]
        order = order[first]
        return features[order], label[order], index[first]

    def split(self) -> tuple[Tensor, Tensor, Tensor]:
        """Everything added so far: features (N, D) float32, label (N,) and index (N,), sorted by index."""
        features, label, index = self.compute()
        return features if features.ndim == 2 else features.view(1, 1), label.view(-1), index.view(-1)


class FeatureWriter(pl.Callback):
    """Writes the features of a ``predict`` run to one ``.npz`` file, gathered over processes.

    Arrays: ``features`` (N, D) float32, ``label`` (N,), ``index`` (N,) position in the store, ``id`` (N,) and
    ``class_names`` strings, ``subject`` (N,) performers, ``content`` (N,) digests of coordinates, ``split``,
    ``checkpoint`` the path of the weights, empty for none. ``numpy.load`` reads it without pickles. Silent for methods
    that give no features.

    ``store_sha256`` is the digest of the store, ``checkpoint_sha256`` of the checkpoint file, and empty where features
    are of another network or view than it says. With these a file of the split ``train`` is a gallery for
    ``skelcl predict --gallery``.

    Args:
        path: File to write; ``features-<split>.npz`` in the run's folder when None.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._bank = FeatureBank()
        self._target: Path | None = None

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Settle where to write before any work is done.

        Raises:
            InputError: If neither ``path`` nor a logger says where.
        """
        self._bank.reset()
        directory = run_directory(trainer)
        if self.path is None and directory is None:
            raise InputError("FeatureWriter: this trainer has no logger with a folder, so give path=…")
        data = named_clips(trainer)
        name = "features.npz" if data is None else f"features-{data.predict_split}.npz"
        self._target = self.path if self.path is not None or directory is None else directory / name

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the features of a batch."""
        given = step_features(outputs)
        if given is not None:
            self._bank.update(**given)

    def on_predict_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gather on all processes, write on the first."""
        if not self._bank.update_called or self._target is None:
            return
        features, label, index = (tensor.cpu().numpy() for tensor in self._bank.split())
        self._bank.reset()
        if not trainer.is_global_zero:
            return
        data = named_clips(trainer)
        columns = getattr(getattr(data, "store", None), "index", None)
        write_npz(
            self._target,
            features=features,
            label=label,
            index=index,
            id=index.astype(str) if data is None else np.asarray(data.ids, dtype=str)[index],
            class_names=np.asarray([] if data is None else data.class_names, dtype=str),
            **({} if columns is None else {name: np.asarray(columns[name])[index] for name in ("subject", "content")}),
            split=np.asarray("" if data is None else data.predict_split),
            checkpoint=np.asarray(str(trainer.ckpt_path or "")),
            checkpoint_sha256=np.asarray(_checkpoint_digest(trainer)),
            store_sha256=np.asarray(str(getattr(getattr(data, "store", None), "digest", ""))),
        )
        pl_module.print(f"{len(features)} × {features.shape[1]} features: {self._target}")


def file_digest(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checkpoint_digest(trainer: pl.Trainer) -> str:
    """SHA-256 of the checkpoint whose network and views run, as it says them; empty where others run."""
    path = None if trainer.ckpt_path is None else Path(trainer.ckpt_path)
    if path is None or not path.is_file():
        return ""
    stored, now = parsed_config(read_checkpoint(path).get(CONFIG_KEY)), config_of(trainer)
    parts = ("model", "stream")
    same = bool(stored and now) and all(agree(stored.get(part), now.get(part)) for part in parts)
    return file_digest(path) if same else ""


def write_npz(path: Path, **arrays: Any) -> None:
    """Write NumPy arrays to an uncompressed ``.npz`` under exactly this name: the whole file or none of it."""
    with atomic_write(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)
