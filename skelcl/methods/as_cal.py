"""AS-CAL: augmented skeleton based contrastive action learning with a momentum LSTM."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from skelcl import losses
from skelcl.bounds import NonNegativeInt, PositiveInt, Share, Temperature, bounded
from skelcl.clips import Clips
from skelcl.encoders import Encoder
from skelcl.methods.base import Method
from skelcl.nn import Ema, Projector, Queue
from skelcl.transforms import View


@bounded
class ASCAL(Method):
    """AS-CAL (Rao et al., Information Sciences 2021, arXiv 2008.00188).

    Two random views of a clip; a query encoder sees one, its momentum twin the other; InfoNCE picks the query's own
    key among a queue of older ones. The first epoch only fills the queue. As in the released code, features are not
    normalised and no head is used.

    Options that depart from the reference, off by default: ``normalize``, ``projector``, ``mask_same_instance``.

    Args:
        encoder: Query encoder; the paper's is ``LSTM``.
        view: Random view, drawn twice and independently for each clip.
        eval_view: Deterministic view under which features are taken.
        optimizer: Defaults to the paper's SGD: lr 0.01, momentum 0.9, weight decay 1e-4.
        scheduler: Defaults to the paper's factor 0.1 after 30 epochs.
        queue_size: K; 16,384 for NTU, 500 for NW-UCLA.
        temperature: τ of InfoNCE.
        momentum: m of the momentum twin; its half-life is ln 2 / (1 − m) steps, so small sets want a smaller one.
        warmup_epochs: Epochs that fill the queue and change no weight.
        loss: ``info_nce``, or the reference's ablations ``logistic`` and ``margin`` on the same logits.
        normalize: Contrast unit vectors: the raw dot product can fall by growing norms alone, but the normalised loss
            may collapse.
        projector: Head on top of the encoder during pre-training, whose output is contrasted.
        mask_same_instance: Never contrast a clip with its own earlier keys, of which a queue of K keys over N clips
            holds one with probability ½(K/N)²: nearly every other time on small sets.
    """

    def __init__(
        self,
        encoder: Encoder,
        view: View,
        eval_view: View,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        queue_size: PositiveInt = 16384,
        temperature: Temperature = 0.06,
        momentum: Share = 0.999,
        warmup_epochs: NonNegativeInt = 1,
        loss: Literal["info_nce", "logistic", "margin"] = "info_nce",
        normalize: bool = False,
        projector: Literal["none", "linear", "mlp"] = "none",
        mask_same_instance: bool = False,
    ) -> None:
        super().__init__(
            encoder,
            eval_view,
            optimizer or partial(SGD, lr=0.01, momentum=0.9, weight_decay=1e-4),
            scheduler or partial(MultiStepLR, milestones=[30], gamma=0.1),
        )
        self.view = view
        self.projector = Projector(encoder.dim, projector)
        self.key = Ema(self.query, momentum)
        self.queue = Queue(queue_size, self.projector.dim)
        self.temperature = temperature
        self.warmup_epochs = warmup_epochs
        self.loss = {"info_nce": losses.info_nce, "logistic": losses.logistic, "margin": losses.margin}[loss]
        self.normalize = normalize
        self.mask_same_instance = mask_same_instance

    @property
    def query(self) -> nn.Sequential:
        """The encoder and its head, without a second name for their weights."""
        return nn.Sequential(self.encoder, self.projector)

    def training_step(self, clips: Clips, batch_idx: int) -> dict[str, Tensor]:
        """Contrast two views of each clip; the keys join the queue once the backward pass is done."""
        random = self.step_generator(batch_idx)
        with self.step_dropout(batch_idx):
            query = self.query(self.view(clips, random))
            key = self.key(self.view(clips, random))
        if self.normalize:
            query, key = F.normalize(query.float(), dim=1), F.normalize(key.float(), dim=1)
        same = clips.index[:, None] == self.queue.index if self.mask_same_instance else None
        positive, negative = losses.contrast(query, key, self.queue.keys, self.temperature, same)
        loss = self.loss(positive, negative)
        self._log(loss, positive, negative, query)
        self._fresh = key, clips.index
        return {"loss": loss}

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step; in warm-up epochs the weights of query and key encoder stay as they are."""
        if epoch >= self.warmup_epochs:
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
            return
        if optimizer_closure is not None:
            optimizer_closure()
        inner = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        # Without gradients SGD and Adam leave the weights alone, and the schedule knows that a step was made.
        inner.zero_grad()
        inner.step()

    def on_after_optimizer_step(self) -> None:
        """Update the key encoder: θ_k ← m·θ_k + (1 − m)·θ_q."""
        self.key.update(self.query)

    def on_after_backward(self) -> None:
        """Enqueue after the backward pass, which still needed the rows that are overwritten now.

        By then no callback has had the batch: a checkpoint that one saves at its end holds its keys.
        """
        self.queue.push(*self._fresh)

    def on_train_epoch_end(self) -> None:
        """Warn when all features point the same way and the loss is that of guessing."""
        metrics = self.trainer.callback_metrics
        chance = math.log(len(self.queue) + 1)
        loss, cosine = metrics["train/loss"], metrics["train/cosine"]
        if cosine > 0.999 and abs(loss - chance) < 0.01 * chance:
            rank_zero_warn(
                f"epoch {self.current_epoch}: the features have collapsed (mean cosine {cosine:.4f}, loss {loss:.3f} ≈ "
                f"ln(K + 1)); try a smaller learning rate or normalize=False"
            )

    @torch.no_grad()
    def _log(self, loss: Tensor, positive: Tensor, negative: Tensor, query: Tensor) -> None:
        n = len(query)
        unit = F.normalize(query.float(), dim=1)
        cosine = (unit.sum(0).square().sum() - n) / max(n * (n - 1), 1)
        terms = {
            "train/loss": loss,
            "train/positive": positive.mean(),
            "train/negative": negative.masked_fill(negative.isinf(), 0).mean(),
            "train/contrast_top1": (positive > negative.amax(1)).float().mean(),
            "train/norm": query.float().norm(dim=1).mean(),
            "train/cosine": cosine,
            "train/queue_filled": (self.queue.pushed / len(self.queue)).clamp(max=1),
        }
        self.log("loss", loss, on_step=True, on_epoch=False, prog_bar=True, logger=False)
        self.log_dict(terms, on_step=False, on_epoch=True, batch_size=n, sync_dist=True)
