"""SCD-Net: contrast between the clues of a clip, temporal and spatial, and the global anchor that both make up."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, cast

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import MultiStepLR

from skelcl import losses
from skelcl.bounds import NonNegativeFloat, PositiveInt, Share, Temperature, bounded
from skelcl.clips import Clips
from skelcl.encoders.scd import SCD, SCDNetwork
from skelcl.errors import OptionError
from skelcl.methods.base import Method
from skelcl.nn import Ema, Queue, gather
from skelcl.nn.heads import SCDHeads
from skelcl.seeding import generator
from skelcl.transforms import View

LEVELS = ("temporal", "spatial", "anchor")
TERMS = {
    "temporal_anchor": ("temporal", "anchor"),
    "spatial_anchor": ("spatial", "anchor"),
    "anchor_temporal": ("anchor", "temporal"),
    "anchor_spatial": ("anchor", "spatial"),
}
"""Each term of the loss: level of the query, level of its key and of the queue that the key is to be told from."""


@bounded
class SCDNet(Method):
    """SCD-Net (Wu et al., AAAI 2024, arXiv 2309.05834).

    Two random views of a clip; a query network sees one, its momentum twin the other. Both give a temporal and a
    spatial clue and an anchor, a projection of the two clues together. Contrast goes across levels only: each clue has
    to find the anchor of its clip among those of other clips, and the anchor either clue; four InfoNCE terms, summed.
    Each level has a queue of its own. Features are the two clues, without the projections.

    The defaults are those of the released code. Given the same views and no dropout, several processes with
    ``--trainer.sync_batchnorm true`` equal one with the whole batch.

    Deviations: a body that appears late or ends early stays in its frames, where the release moves it to the front and
    repeats it up to frame 300 (as released: ``--compact_gaps true`` when the data are prepared). Which of the joints
    that tie are masked is left to chance, not to an unstable sort (:class:`~skelcl.transforms.StructureMask`). Motion
    does not jump where a body is missing (:class:`~skelcl.transforms.Stream`). When training ends, the twin has
    followed the last step, too.

    Options that depart from the reference, off by default: ``weights``, ``key_dropout``, ``shuffle_bn``,
    ``mask_same_instance``, ``negatives``.

    Args:
        encoder: Gives the two clues.
        view: Random view, drawn twice and independently for each clip.
        eval_view: Deterministic view under which features are taken.
        optimizer: Defaults to the released SGD: lr 0.01, momentum 0.9, weight decay 1e-4.
        scheduler: Defaults to the released factor 0.1 from epoch 351 on, of 451.
        projection: P, width of the contrasted vectors.
        queue_size: K, keys in each of the three queues; none are kept with ``negatives="batch"``.
        temperature: τ of InfoNCE.
        momentum: m of the momentum twin; its half-life is ln 2 / (1 − m) steps, so small sets want a smaller one.
        weights: Of the terms temporal → anchor, spatial → anchor, anchor → temporal, anchor → spatial.
        key_dropout: Let the twin drop out units as the query network does; a slowly moving target need not be noisy.
        shuffle_bn: Exchange clips between the ranks before the twin sees them, and keys back afterwards.
        mask_same_instance: Never contrast a clip with its own earlier keys in the queue, of which a queue of K keys
            over N clips holds one with probability ½(K/N)²: seldom on NTU RGB+D, but often on small sets.
        negatives: Where the negatives of a query come from: the ``queue`` of earlier keys, or the keys of the other
            clips of the same ``batch``, of all ranks (Chen et al. 2021, MoCo v3, arXiv 2104.02057).
    """

    encoder: SCD

    def __init__(
        self,
        encoder: SCD,
        view: View,
        eval_view: View,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        projection: PositiveInt = 128,
        queue_size: PositiveInt = 8192,
        temperature: Temperature = 0.2,
        momentum: Share = 0.999,
        weights: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = (1.0, 1.0, 1.0, 1.0),
        key_dropout: bool = True,
        shuffle_bn: bool = False,
        mask_same_instance: bool = False,
        negatives: Literal["queue", "batch"] = "queue",
    ) -> None:
        super().__init__(
            encoder,
            eval_view,
            optimizer or partial(SGD, lr=0.01, momentum=0.9, weight_decay=1e-4),
            scheduler or partial(MultiStepLR, milestones=[351], gamma=0.1),
        )
        self.view = view
        self.heads = SCDHeads(encoder.dim // 2, projection)
        # As released, dropout is active in the twin, and its batch norms have statistics of their own.
        self.key = Ema(self.query, momentum)
        # With the queues a narrow network on NW-UCLA soon gave all clips of a batch equal keys, and told these from the
        # keys of earlier steps: a direction that all features share, or batch statistics, give a step away. The keys of
        # one batch have both in common.
        kept = LEVELS if negatives == "queue" else ()
        self.queues = nn.ModuleDict({level: Queue(queue_size, projection, unit=True) for level in kept})
        self.temperature = temperature
        if not any(weights):
            raise OptionError("SCDNet: all weights are zero, and so would be the loss")
        self.weights = dict(zip(TERMS, weights, strict=True))
        self.shuffle_bn = shuffle_bn
        self.mask_same_instance = mask_same_instance
        if not key_dropout:
            _without_dropout(self.key)

    @property
    def contrasts_batch(self) -> bool:
        """Whether negatives are the other clips of the batch: without queues."""
        return not self.queues

    @property
    def query(self) -> SCDNetwork:
        """The encoder and its heads, without a second name for their weights."""
        return SCDNetwork(self.encoder, self.heads)

    def queue(self, level: str) -> Queue:
        """The queue of ``temporal``, ``spatial`` or ``anchor`` keys."""
        return cast(Queue, self.queues[level])

    def training_step(self, clips: Clips, batch_idx: int) -> dict[str, Any]:
        """Contrast two views of each clip; the keys join the queues once the backward pass is done."""
        random = self.step_generator(batch_idx)
        views = self.view.pair(clips, random)  # as released, they are not exchanged for a second loss
        with self.step_dropout(batch_idx):
            # The twin first: what it needs for a moment is gone before the query network keeps what its gradients need.
            key = self._keys(views[1], batch_idx)
            query = self.levels(self.query(views[0]))
        logits = self.contrast(query, key, clips.index)
        terms = {name: losses.info_nce(positive, negative) for name, (positive, negative) in logits.items()}
        # Times zero rather than left out: distributed training wants a gradient for every weight.
        loss = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        self._log(loss, terms, logits)
        self._fresh = key, clips.index
        return {"loss": loss}

    def contrast(
        self, query: dict[str, Tensor], key: dict[str, Tensor], index: Tensor
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Logits of the four terms, with the queues as they are, or with the other clips of the batch.

        Args:
            query: Unit vectors (N, P) of each level.
            key: Unit vectors (N, P) of each level, row n from the same clip as row n of ``query``.
            index: Positions of the clips in their store, (N,) int64.

        Returns:
            For each term, positive (N,) and negative logits (N, K); K is the batch of all ranks where there is no
            queue, and logits of a clip's own keys are −inf.
        """
        logits = {}
        for name, (asks, answers) in TERMS.items():
            if self.queues:
                queue = self.queue(answers)
                negatives = queue.keys
                same = index[:, None] == queue.index if self.mask_same_instance else None
            else:
                negatives, same = gather(key[answers]), index[:, None] == gather(index)
            logits[name] = losses.contrast(query[asks], key[answers], negatives, self.temperature, same)
        return logits

    def levels(self, outputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Unit vectors (N, P) of each level from what a network gives: clues first, then the projections."""
        *_, z_t, z_s, z_i = outputs
        return {
            level: F.normalize(losses.at_least_float32(z), dim=1)
            for level, z in zip(LEVELS, (z_t, z_s, z_i), strict=True)
        }

    def _keys(self, view: Tensor, batch_idx: int) -> dict[str, Tensor]:
        """Keys (N, P) of each level of the second view (N, C, T, V, M).

        Spread over the ranks anew, a batch norm without ``sync_batchnorm`` cannot give away which key belongs to which
        query (He et al., arXiv 1911.05722).
        """
        ranks = self.trainer.world_size
        if not self.shuffle_bn or ranks == 1:
            return self.levels(self.key(view))
        everyone = generator("shuffle_bn", self.current_epoch, batch_idx, device=self.device)
        order = torch.randperm(ranks * len(view), generator=everyone, device=self.device)
        mine = self.levels(self.key(gather(view)[order.view(ranks, -1)[self.global_rank]]))
        back = order.argsort().view(ranks, -1)[self.global_rank]
        return {level: gather(keys)[back] for level, keys in mine.items()}

    def on_after_optimizer_step(self) -> None:
        """Update the key encoder: θ_k ← m·θ_k + (1 − m)·θ_q; the release does so within the next step."""
        self.key.update(self.query)

    def enqueue(self, keys: dict[str, Tensor], index: Tensor) -> None:
        """Put the keys (N, P) of each level into its queue, if it has one, with the clips (N,) that they show."""
        for level in self.queues:
            self.queue(level).push(keys[level], index)

    def on_after_backward(self) -> None:
        """Enqueue after the backward pass, which still needed the rows that are overwritten now.

        By then no callback has had the batch: a checkpoint that one saves at its end holds its keys.
        """
        self.enqueue(*self._fresh)

    @torch.no_grad()
    def _log(self, loss: Tensor, terms: dict[str, Tensor], logits: dict[str, tuple[Tensor, Tensor]]) -> None:
        values = {"train/loss": loss, **{f"train/{name}": term for name, term in terms.items()}}
        if self.queues:
            queue = self.queue("anchor")
            values["train/queue_filled"] = (queue.pushed / len(queue)).clamp(max=1)
        for name, (positive, negative) in logits.items():
            values[f"train/{name}_top1"] = (positive > negative.amax(1)).float().mean()
        n = len(next(iter(logits.values()))[0])
        self.log("loss", loss, on_step=True, on_epoch=False, prog_bar=True, logger=False)
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=n, sync_dist=True)


def _without_dropout(module: nn.Module) -> None:
    """Sets every probability of dropout in ``module`` to zero; its training mode still moves batch statistics."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(part, nn.MultiheadAttention):
            part.dropout = 0.0
