"""Supervised training: an encoder and a linear classifier under cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal, Protocol, runtime_checkable

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from skelcl.bounds import NonNegativeInt, PartialShare, bounded
from skelcl.clips import Clips
from skelcl.encoders import Encoder
from skelcl.errors import InputError
from skelcl.losses import at_least_float32
from skelcl.methods.base import Features, Method
from skelcl.methods.schedules import WarmupMultiStepLR
from skelcl.skeleton import Skeleton
from skelcl.transforms import View


@runtime_checkable
class TrainingData(Protocol):
    """What supervised methods read off a data module before training."""

    validation: str
    class_names: Sequence[str]
    skeleton: Skeleton
    channels: int
    num_persons: int
    repeat: int

    def slot_labels(self) -> Tensor:
        """Class of every training clip, for each showing of an epoch anew, (S,) int64; −1 when unknown."""

    def slots(self, clips: Clips) -> Tensor:
        """Which of the S showings the clips of a batch are, (N,) int64 on their device."""


class Scores(Features):
    """What a supervised method gives for evaluation: logits (N, K) beside the features."""

    logits: Tensor


@bounded
class Supervised(Method):
    """Cross-entropy on one random view of each clip: the baseline of every supervised encoder.

    ``forward`` gives features, as with every method; :meth:`classify` turns them into logits.

    Deviation of the run files: an epoch ends with a batch of what is left, so that every clip is seen and even a small
    set is trained on; the programs of the four encoders leave it out (``--data.drop_last true``).

    Options that depart from the reference, off by default: ``label_smoothing``, ``class_weights``.

    Args:
        encoder: Maps views to features.
        view: Random view that training sees.
        eval_view: Deterministic view that is judged.
        num_classes: K; the command line takes it from the data.
        optimizer: Defaults to CTR-GCN's SGD: lr 0.1, Nesterov momentum 0.9, weight decay 4e-4.
        scheduler: Defaults to CTR-GCN's: five epochs of warm-up, factor 0.1 from epochs 35 and 55 on.
        label_smoothing: Share of the target that is spread evenly over all classes.
        class_weights: ``balanced`` weighs the loss of each clip by N/(K·n), where its class has n of the N training
            clips and K classes occur: every class counts alike, and the mean weight of an epoch is one.

    Raises:
        InputError: If there are no classes.
    """

    needs_labels = True

    def __init__(
        self,
        encoder: Encoder,
        view: View,
        eval_view: View,
        num_classes: NonNegativeInt,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        label_smoothing: PartialShare = 0.0,
        class_weights: Literal["none", "balanced"] = "none",
    ) -> None:
        if num_classes < 1:
            raise InputError(f"{type(self).__name__}: no training clip has a label, so there are no classes")
        super().__init__(
            encoder,
            eval_view,
            optimizer or partial(SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=4e-4),
            scheduler or partial(WarmupMultiStepLR, milestones=[35, 55]),
        )
        self.view = view
        self.num_classes = num_classes
        self.classifier: nn.Module = encoder.classifier(num_classes)
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights
        self.weight: Tensor | None = None

    @property
    def data(self) -> TrainingData | None:
        """The data module of the run; None where there is none or it does not tell what it holds."""
        data: object = self.trainer.datamodule  # type: ignore[attr-defined]  # there, but missing from its annotations
        return data if isinstance(data, TrainingData) else None

    def setup(self, stage: str) -> None:
        """Refuse data on which training or its validation would mean nothing.

        Raises:
            InputError: If a training clip has no label among the K, or the validation clips are trained on.
        """
        super().setup(stage)
        if stage != "fit" or self.data is None:
            return
        if self.data.validation == "seen":
            raise InputError(
                f"{type(self).__name__} would be validated on clips whose labels it learns: "
                "use --data.validation held-out, or none"
            )
        label = self.data.slot_labels()
        if self.class_weights == "balanced":
            count = label[label >= 0].bincount(minlength=self.num_classes)
            self.weight = len(label) / ((count > 0).sum() * count.clamp(min=1))
        wrong = int(((label < 0) | (label >= self.num_classes)).sum())
        if wrong:
            raise InputError(f"{wrong // self.data.repeat} training clips have no label in 0…{self.num_classes - 1}")

    def classify(self, features: Tensor) -> Tensor:
        """Logits (N, K) of features (N, dim)."""
        logits: Tensor = self.classifier(features)
        return logits

    def cross_entropy(self, logits: Tensor, label: Tensor) -> Tensor:
        """Mean cross-entropy of logits (N, K) with labels (N,), in float32 or, of such logits, in float64."""
        if self.weight is None:
            return F.cross_entropy(at_least_float32(logits), label, label_smoothing=self.label_smoothing)
        if self.weight.device != label.device:
            self.weight = self.weight.to(label.device)
        # The mean over the clips, not over their weights as torch takes it: ranks and batches add up to the whole.
        each = F.cross_entropy(at_least_float32(logits), label, reduction="none", label_smoothing=self.label_smoothing)
        return (self.weight.to(each.dtype)[label] * each).mean()

    def training_step(self, clips: Clips, batch_idx: int) -> dict[str, Tensor]:
        """Classify one random view of each clip."""
        with self.step_dropout(batch_idx):
            logits = self.classify(self.encode(clips, self.view, self.step_generator(batch_idx)))
        loss = self.cross_entropy(logits, clips.label)
        self._log(loss, logits, clips.label)
        return {"loss": loss}

    def validation_step(  # type: ignore[override]  # None, where there is nothing to judge
        self, clips: Clips, batch_idx: int, dataloader_idx: int = 0
    ) -> Scores | None:
        """Logits and features. The gallery of a pair of loaders, of use to kNN alone, is not encoded."""
        loaders = self.trainer.test_dataloaders if self.trainer.testing else self.trainer.val_dataloaders
        if dataloader_idx == 0 and isinstance(loaders, Sequence) and len(loaders) > 1:
            return None
        return self.predict_step(clips, batch_idx)

    test_step = validation_step  # type: ignore[assignment]

    def predict_step(self, clips: Clips, batch_idx: int, dataloader_idx: int = 0) -> Scores:
        """Logits and features of whatever part is asked for."""
        features = self(clips)
        return {"features": features, "label": clips.label, "index": clips.index, "logits": self.classify(features)}

    @torch.no_grad()
    def _log(self, loss: Tensor, logits: Tensor, label: Tensor, terms: Mapping[str, Tensor] | None = None) -> None:
        top1 = (logits.argmax(1) == label).float().mean()
        self.log("loss", loss, on_step=True, on_epoch=False, prog_bar=True, logger=False)
        all_terms = {"train/loss": loss, "train/top1": top1, **(terms or {})}
        self.log_dict(all_terms, on_step=False, on_epoch=True, batch_size=len(label), sync_dist=True)
