"""What every method shares: an encoder, its deterministic view, optimisation and reproducible randomness."""

from __future__ import annotations

from typing import TypedDict

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from skelcl.clips import Clips
from skelcl.encoders import Encoder
from skelcl.seeding import generator
from skelcl.transforms import View


class Features(TypedDict):
    """What a self-supervised method gives for evaluation: features (N, dim), label (N,), store position (N,)."""

    features: Tensor
    label: Tensor
    index: Tensor


class Method(pl.LightningModule):
    """Base of all methods. A subclass adds its parts in ``__init__`` and tells the paper's story in ``training_step``.

    Args:
        encoder: Maps views to features; the part that is kept after pre-training.
        eval_view: Deterministic view under which features are taken.
        optimizer: From trainable parameters to an optimiser.
        scheduler: From the optimiser to a schedule that steps once an epoch; None keeps the learning rate.
    """

    def __init__(
        self,
        encoder: Encoder,
        eval_view: View,
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.eval_view = eval_view
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler

    def encode(self, clips: Clips, view: View, random: torch.Generator | None = None) -> Tensor:
        """Features of one view of each clip, with gradients.

        A method whose features are more than ``encoder(x)``, two streams for example, overrides this, and :meth:`head`
        with it: fine-tuning trains what they make together. So this uses no weights but the encoder's, and nothing of
        the run, such as the trainer or the method's own training mode.

        Args:
            clips: N clips.
            view: What of them is seen: the deterministic view, or a random one.
            random: Source of the view's randomness.

        Returns:
            (N, dim), or whatever :meth:`head` takes.
        """
        return self.encoder(view(clips, random))

    def head(self, num_classes: int) -> nn.Module:
        """A new classifier from what :meth:`encode` gives to ``num_classes`` logits."""
        return self.encoder.classifier(num_classes)

    def forward(self, clips: Clips) -> Tensor:
        """Features (N, dim) of the deterministic view."""
        return self.encode(clips, self.eval_view)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One optimiser over everything trainable, one epoch-wise schedule."""
        optimizer = self.make_optimizer(p for p in self.parameters() if p.requires_grad)
        if self.make_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.make_scheduler(optimizer)}

    def step_generator(self, batch_idx: int) -> torch.Generator:
        """Randomness of one training step, derived from (seed, rank, epoch, batch): a resumed run draws it again."""
        return generator("views", self.global_rank, self.current_epoch, batch_idx, device=self.device)

    def validation_step(self, clips: Clips, batch_idx: int, dataloader_idx: int = 0) -> Features:
        """Features for whichever evaluation listens."""
        return {"features": self(clips), "label": clips.label, "index": clips.index}

    test_step = validation_step
    predict_step = validation_step
