"""SDS-CL: joints against motion, frame by frame, joint by joint and clip by clip, behind decoupled attention."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from einops import rearrange
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import SGD

from skelcl import losses
from skelcl.bounds import NonNegativeFloat, PositiveInt, Temperature, bounded
from skelcl.clips import Clips
from skelcl.encoders.base import MapEncoder
from skelcl.encoders.dsta import SDSCLNetwork, Squeezed, pool_bodies, presence
from skelcl.errors import OptionError
from skelcl.methods.base import Method, decay_groups
from skelcl.methods.schedules import WarmupMultiStepLR
from skelcl.nn import SDSCLHeads, TwoStreamHead, gather_with_gradient
from skelcl.nn.attention import SIIA
from skelcl.transforms import View

PAIRS = ("intra_intra", "intra_inter", "inter_intra", "inter_inter")
"""Attention of the joint stream and of the motion stream, in each pair that is contrasted."""


@bounded
class SDSCL(Method):
    """SDS-CL (Xu et al., TNNLS 2023, arXiv 2302.02316).

    The two views of a clip are its joint coordinates and their motion from frame to frame; nothing else is random but
    which frames are shown. One encoder sees both in one batch, so they share its batch statistics. Attention between
    joints or between frames, to the own or to the other stream (:class:`~skelcl.nn.attention.SIIA`), refines each map
    in four ways. Maps behind attention between joints are averaged over joints and contrasted frame by frame (STL),
    those behind attention between frames are averaged over frames and contrasted joint by joint (TSL), always a token
    of one stream against the tokens of both streams of the same clip: four pairs each, joint intra or inter with motion
    intra or inter. All of them together, averaged, are contrasted clip by clip within the batch (GL). The loss is the
    sum of the nine InfoNCE terms.

    Features are those of the encoder, joints beside motion; attention and projections serve training alone. With
    ``--trainer.sync_batchnorm true`` several processes equal one.

    The defaults are the released code without three clear defects, which ``shared_time_indices: false``,
    ``masked_motion: false`` and ``decay_all: true`` bring back, as the preset ``release`` of the run files does. The
    preset ``clean`` is the defaults with ``person_pool: masked``.

    Options that depart from the reference, off by default: ``weights``, ``negatives``, ``activation``,
    ``share_query``, ``share_streams``, ``siia_joint_bn``, ``projection``, ``person_pool``.

    Args:
        encoder: Its features are the mean of its map, as those of all but HCN; the paper's is ``DSTA``.
        view: Chooses the frames that training sees; see :meth:`View.with_motion <skelcl.transforms.View.with_motion>`.
        eval_view: Deterministic view under which features are taken.
        optimizer: Defaults to the released SGD: lr 0.001, Nesterov momentum 0.9, weight decay 5e-4.
        scheduler: Defaults to the released one: five epochs of warm-up, factor 0.1 from epoch 60 on, of 70.
        weights: Of STL, TSL and GL.
        temperature: τ of InfoNCE.
        negatives: The tokens that a token of STL or TSL is set apart from: ``within`` its clip, or also those of all
            clips in the batch. Within, a code for each frame and joint slot, whatever the clip, drives both to zero
            while GL stays at ln(2N − 1).
        heads: Heads of the attention SIIA; divide the encoder's channels.
        activation: What bounds that attention, ``softmax`` instead of tanh.
        share_query: One query for intra and inter attention, as in the paper's figure.
        share_streams: Both streams use the same attention weights; in the paper's figure each has its own.
        siia_joint_bn: The batch norms of the attention see both streams at once instead of one after the other.
        projection: Width of a projected token, a quarter of that of a projected clip; None is the encoder's width.
        person_pool: ``mean`` weighs all bodies alike, also those that are not there; ``masked`` leaves these out.
        shared_time_indices: Joints and motion show the same frames of a clip; the release draws those of both anew, so
            that frame i is not the same moment.
        masked_motion: Motion is zero where a body is missing in either frame; in the release it jumps there.
        decay_all: Weight decay pulls at biases, norms and attention maps, too, as in the release, rather than at the
            weights of linear layers and convolutions alone.
    """

    encoder: MapEncoder

    def __init__(
        self,
        encoder: MapEncoder,
        view: View,
        eval_view: View,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        weights: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = (1.0, 1.0, 1.0),
        temperature: Temperature = 0.07,
        negatives: Literal["within", "within+batch"] = "within",
        heads: PositiveInt = 4,
        activation: Literal["tanh", "softmax"] = "tanh",
        share_query: bool = False,
        share_streams: bool = True,
        siia_joint_bn: bool = False,
        projection: PositiveInt | None = None,
        person_pool: Literal["mean", "masked"] = "mean",
        shared_time_indices: bool = True,
        masked_motion: bool = True,
        decay_all: bool = False,
    ) -> None:
        super().__init__(
            encoder,
            eval_view,
            optimizer or partial(SGD, lr=0.001, momentum=0.9, nesterov=True, weight_decay=5e-4),
            scheduler or partial(WarmupMultiStepLR, milestones=[60]),
        )
        self.view = view
        self.siia = SIIA(encoder.dim, heads, activation, share_query, share_streams, siia_joint_bn)
        self.heads = SDSCLHeads(encoder.dim, projection)
        self.weights = dict(zip(("stl", "tsl", "gl"), weights, strict=True))
        self.temperature = temperature
        if not any(weights):
            raise OptionError("SDSCL: all weights are zero, and so would be the loss")
        self.negatives: Literal["within", "within+batch"] = negatives
        self.person_pool: Literal["mean", "masked"] = person_pool
        self.shared_time_indices = shared_time_indices
        self.masked_motion = masked_motion
        self.decay_all = decay_all

    @property
    def contrasts_batch(self) -> bool:
        """Whether the loss between clips counts."""
        return self.weights["gl"] > 0

    @property
    def network(self) -> SDSCLNetwork:
        """The encoder and its attention, without a second name for their weights."""
        return SDSCLNetwork(self.encoder, self.siia, self.person_pool)

    def training_step(self, clips: Clips, batch_idx: int) -> dict[str, Tensor]:
        """Contrast the joints of each clip with their motion."""
        random = self.step_generator(batch_idx)
        joint, motion = self.view.with_motion(clips, random, self.shared_time_indices, self.masked_motion)
        with self.step_dropout(batch_idx):
            squeezed = self.network(joint, motion)
        terms, top1 = self.contrast(squeezed)
        # Times zero rather than left out: distributed training wants a gradient for every weight.
        loss = torch.stack([self.weights[name.split("_")[0]] * term for name, term in terms.items()]).sum()
        self._log(loss, terms, top1, len(clips))
        return {"loss": loss}

    def contrast(self, squeezed: Squeezed) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The nine terms of the loss.

        Args:
            squeezed: Tokens and averages of the clips of this process.

        Returns:
            ``stl_…`` and ``tsl_…`` for each of :data:`PAIRS`, and ``gl``; and how often the positive is the most
            similar, for ``stl``, ``tsl`` and ``gl``. Those without other clips are of this process alone.
        """
        terms, top1 = {}, {}
        for loss, tokens in (("stl", squeezed.frames), ("tsl", squeezed.joints)):
            joint, motion = self.heads.token(tokens)
            a, b = joint.repeat_interleave(2, 0), motion.repeat(2, 1, 1, 1)
            if self.negatives == "within+batch":
                a, b = self._gather(a), self._gather(b)
            values, hits = losses.token_contrast(a, b, self.temperature, self.negatives)
            terms.update({f"{loss}_{pair}": value for pair, value in zip(PAIRS, values, strict=True)})
            top1[loss] = hits.mean()
        # Of the whole batch on all devices; gradients flow back to where the clips are.
        joint, motion = self._gather(self.heads.clip(squeezed.clips))
        (terms["gl"],), (top1["gl"],) = losses.token_contrast(joint[None, None], motion[None, None], self.temperature)
        return terms, top1

    def _gather(self, x: Tensor) -> Tensor:
        """The x (P, N, …) of all processes side by side, in rank order."""
        return gather_with_gradient(losses.at_least_float32(x).transpose(0, 1)).transpose(0, 1)

    def encode(self, clips: Clips, view: View, random: torch.Generator | None = None) -> Tensor:
        """Features (N, 2·dim) of one view of each clip: the encoder's of the joints, then those of the motion."""
        joint, motion = view.with_motion(clips, random, self.shared_time_indices, self.masked_motion)
        maps = self.encoder.feature_map(torch.cat([joint, motion]))
        weights = presence(joint).repeat(2, 1) if self.person_pool == "masked" else None
        return rearrange(pool_bodies(maps.mean((3, 4)), weights), "(z n) c -> n (z c)", z=2)

    def head(self, num_classes: int) -> nn.Module:
        """A new classifier of the features: one linear layer for both streams, whose logits are added."""
        return TwoStreamHead(self.encoder.classifier(num_classes))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group with weight decay and one without; one group alone with ``decay_all``."""
        return super().parameter_groups() if self.decay_all else decay_groups(self)

    @torch.no_grad()
    def _log(self, loss: Tensor, terms: dict[str, Tensor], top1: dict[str, Tensor], n: int) -> None:
        # Each term: STL and TSL may fall to zero, by a code that is the same for every clip, while GL learns nothing.
        values = {"train/loss": loss, **{f"train/{name}": term for name, term in terms.items()}}
        values.update({f"train/{name}_top1": value for name, value in top1.items()})
        self.log("loss", loss, on_step=True, on_epoch=False, prog_bar=True, logger=False)
        self.log_dict(values, on_step=False, on_epoch=True, batch_size=n, sync_dist=True)
