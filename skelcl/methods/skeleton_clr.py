"""SkeletonCLR: momentum contrast on skeletons, the baseline of CrosSCLR, AimCLR and their kin."""

from __future__ import annotations

from functools import partial

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import MultiStepLR

from skelcl import losses
from skelcl.bounds import PositiveInt, Share, Temperature, bounded
from skelcl.clips import Clips
from skelcl.encoders import Encoder
from skelcl.methods.base import Method
from skelcl.nn import Ema, Queue
from skelcl.transforms import View


@bounded
class SkeletonCLR(Method):
    """SkeletonCLR (Li et al., CVPR 2021, arXiv 2104.14136), which is MoCo v2 (arXiv 2003.04297) on ST-GCN.

    Two random views of a clip; a query network sees one, its momentum twin the other. InfoNCE picks the query's own key
    among a queue of older ones. Features are those of the encoder, without the projection. The defaults are those of
    the released code. With ``--trainer.sync_batchnorm true`` the batch norms of several devices are one.

    Deviations: when training ends, the twin has followed the last step, too; twin and query network start with the same
    weights, where the release draws those of either anew after copying.

    Options that depart from the reference, off by default: ``mask_same_instance``.

    Args:
        encoder: Query encoder; the paper's is ``STGCN``.
        view: Random view, drawn twice and independently for each clip.
        eval_view: Deterministic view under which features are taken.
        optimizer: Defaults to the released SGD: lr 0.1, momentum 0.9, weight decay 1e-4.
        scheduler: Defaults to the released factor 0.1 from epoch 250 on, of 300.
        projection: Width of the contrasted vectors.
        queue_size: K.
        temperature: τ of InfoNCE.
        momentum: m of the momentum twin; its half-life is ln 2 / (1 − m) steps, so small sets want a smaller one.
        mask_same_instance: Never contrast a clip with its own earlier keys, of which a queue of K keys over N clips
            holds one with probability ½(K/N)²: every third time on NTU RGB+D 60.
    """

    def __init__(
        self,
        encoder: Encoder,
        view: View,
        eval_view: View,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        projection: PositiveInt = 128,
        queue_size: PositiveInt = 32768,
        temperature: Temperature = 0.07,
        momentum: Share = 0.999,
        mask_same_instance: bool = False,
    ) -> None:
        super().__init__(
            encoder,
            eval_view,
            optimizer or partial(SGD, lr=0.1, momentum=0.9, weight_decay=1e-4),
            scheduler or partial(MultiStepLR, milestones=[250], gamma=0.1),
        )
        self.view = view
        self.projector = nn.Sequential(
            nn.Linear(encoder.dim, encoder.dim), nn.ReLU(), nn.Linear(encoder.dim, projection)
        )
        for parameter in self.projector.parameters():
            nn.init.normal_(parameter, std=0.02 if parameter.dim() == 2 else 0.0)
        self.key = Ema(self.query, momentum)  # as released, with batch statistics and dropout of its own
        self.queue = Queue(queue_size, projection, unit=True)
        self.temperature = temperature
        self.mask_same_instance = mask_same_instance

    @property
    def query(self) -> nn.Sequential:
        """The encoder and its head, without a second name for their weights."""
        return nn.Sequential(self.encoder, self.projector)

    def training_step(self, clips: Clips, batch_idx: int) -> dict[str, Tensor]:
        """Contrast two views of each clip; the keys join the queue once the backward pass is done."""
        random = self.step_generator(batch_idx)
        views = self.view(clips, random), self.view(clips, random)
        with self.step_dropout(batch_idx):
            query = F.normalize(losses.at_least_float32(self.query(views[0])), dim=1)
            key = F.normalize(losses.at_least_float32(self.key(views[1])), dim=1)
        same = clips.index[:, None] == self.queue.index if self.mask_same_instance else None
        positive, negative = losses.contrast(query, key, self.queue.keys, self.temperature, same)
        loss = losses.info_nce(positive, negative)
        self._log(loss, positive, negative)
        self._fresh = key, clips.index
        return {"loss": loss}

    def on_after_optimizer_step(self) -> None:
        """Update the key encoder: θ_k ← m·θ_k + (1 − m)·θ_q; the release does so within the next step."""
        self.key.update(self.query)

    def on_after_backward(self) -> None:
        """Enqueue after the backward pass, which still needed the rows that are overwritten now.

        By then no callback has had the batch: a checkpoint that one saves at its end holds its keys.
        """
        self.queue.push(*self._fresh)

    @torch.no_grad()
    def _log(self, loss: Tensor, positive: Tensor, negative: Tensor) -> None:
        terms = {
            "train/loss": loss,
            "train/contrast_top1": (positive > negative.amax(1)).float().mean(),
            "train/queue_filled": (self.queue.pushed / len(self.queue)).clamp(max=1),
        }
        self.log("loss", loss, on_step=True, on_epoch=False, prog_bar=True, logger=False)
        self.log_dict(terms, on_step=False, on_epoch=True, batch_size=len(positive), sync_dist=True)
