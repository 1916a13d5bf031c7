"""MAMP: the motion of most joints is hidden and predicted from the few that are seen."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from einops import rearrange
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torch.optim import AdamW

from skelcl.bounds import NonNegativeFloat, PositiveInt, PositiveShare, ProperShare, bounded
from skelcl.clips import Clips
from skelcl.encoders.dsta import presence
from skelcl.encoders.vit import ViT
from skelcl.errors import OptionError
from skelcl.losses import at_least_float32
from skelcl.methods.base import Method, decay_groups
from skelcl.methods.schedules import WarmupCosineLR
from skelcl.nn import gather
from skelcl.nn.transformer import MaskedDecoder, at
from skelcl.transforms import View


@bounded
class MAMP(Method):
    """MAMP (Mao et al., ICCV 2023, arXiv 2308.07092): masked motion prediction.

    One random view of a clip, each of its bodies a sequence of its own. Most tokens are hidden, those that move much
    rather than those that do not; the encoder sees the rest, and a decoder predicts for the hidden ones how their joint
    moves from frame to frame, with mean and variance of each token taken out. The loss is the mean squared error over
    all hidden tokens of the batch. Features are those of the encoder, which then sees all tokens. The defaults are
    those of the released code on NTU RGB+D 60.

    Because 1e-6 is added to the variance, the unit of the coordinates matters: the paper's are metres.

    As released: of 750 tokens 74 are seen, not 75, since 750·(1 − 0.9) is rounded down in floating point; a body that
    is not there is a sequence like any other, whose target is zero; the last frames have no motion, which is a stop
    that nobody made; moving is told over ``patch`` frames, what is predicted over ``motion_stride``.

    Options that depart from the reference, off by default: ``skip_absent``, ``skip_last``, ``intensity_quantile``.

    Args:
        encoder: The transformer.
        view: Random view that training sees.
        eval_view: Deterministic view under which features are taken.
        optimizer: Defaults to the released AdamW: lr 1e-3, betas (0.9, 0.95), weight decay 0.05, none of it for biases
            and norms.
        scheduler: Defaults to the released 20 epochs of warm-up, then half a cosine down to 5e-4 in epoch 400.
        decoder_dim: Width of the decoder, a multiple of the encoder's heads.
        decoder_depth: Its blocks; 5 on NTU RGB+D 120 and PKU-MMD.
        mask_ratio: Share of the tokens that are hidden.
        motion_stride: Frames between the two whose difference is predicted.
        tau: τ; the most moving token is hidden before a still one at odds of exp(1/τ). 0 draws all alike.
        target: ``joints`` predicts coordinates instead, the masked autoencoder of the paper's comparison.
        normalize_target: Take mean and variance out of the target of each token.
        skip_absent: Leave bodies that are zero throughout the clip out of the training; it is then faster, too.
        skip_last: Leave tokens whose motion runs over the end of the clip out of the loss.
        intensity_quantile: What moves as much as this share of the tokens at most counts as most moving; at 1 a single
            joint that jitters makes all others look still.

    Raises:
        OptionError: All tokens would be hidden or none, or the views are too short for the motion.
    """

    encoder: ViT

    def __init__(
        self,
        encoder: ViT,
        view: View,
        eval_view: View,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        decoder_dim: PositiveInt = 256,
        decoder_depth: PositiveInt = 3,
        mask_ratio: ProperShare = 0.9,
        motion_stride: PositiveInt = 1,
        tau: NonNegativeFloat = 0.8,
        target: Literal["motion", "joints"] = "motion",
        normalize_target: bool = True,
        skip_absent: bool = False,
        skip_last: bool = False,
        intensity_quantile: PositiveShare = 1.0,
    ) -> None:
        super().__init__(
            encoder,
            eval_view,
            optimizer or partial(AdamW, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05),
            scheduler or partial(WarmupCosineLR, epochs=400, warmup_epochs=20, min_lr=5e-4),
        )
        channels, frames, joints = encoder.shape
        tokens = encoder.grid[0] * joints
        self.visible = int(tokens * (1 - mask_ratio))
        if not 0 < self.visible < tokens:
            raise OptionError(f"MAMP: mask_ratio={mask_ratio:g} hides {tokens - self.visible} of {tokens} tokens")
        if motion_stride >= frames or (tau and encoder.grid[0] < 2):
            raise OptionError(
                f"MAMP: views of {frames} frames in patches of {encoder.patch} are too short for "
                f"motion_stride={motion_stride} and tau={tau:g}"
            )
        self.view = view
        self.decoder = MaskedDecoder(
            encoder.grid[0],
            joints,
            encoder.width,
            channels * encoder.patch,
            decoder_dim,
            decoder_depth,
            encoder.heads,
            encoder.mlp_ratio,
        )
        self.motion_stride = motion_stride
        self.tau = tau
        self.target = target
        self.normalize_target = normalize_target
        self.skip_absent = skip_absent
        self.skip_last = skip_last
        self.intensity_quantile = intensity_quantile

    def training_step(self, clips: Clips, batch_idx: int) -> dict[str, Any]:
        """Predict what is hidden of one random view of each clip."""
        random = self.step_generator(batch_idx)
        x = self.view(clips, random)
        with self.step_dropout(batch_idx):
            loss = self.masked_loss(x, self.order(x, random))
        self.log("loss", loss.detach(), on_step=True, on_epoch=False, prog_bar=True, logger=False)
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(clips), sync_dist=True)
        return {"loss": loss}

    def order(self, x: Tensor, random: torch.Generator | None = None) -> Tensor:
        """Tokens of each body in a random order, of which the first are seen: a draw without replacement.

        Args:
            x: Views (N, C, T, V, M).
            random: Source of randomness on their device.

        Returns:
            (N·M, T'·V) int64, bodies of a clip one after the other.
        """
        moving = intensity(self.patches(x), self.encoder.grid)
        uniform = torch.rand(moving.shape, dtype=moving.dtype, device=x.device, generator=random)
        return hiding_order(moving, uniform, self.tau, self.intensity_quantile)

    def masked_loss(self, x: Tensor, order: Tensor) -> Tensor:
        """Mean squared error over all hidden tokens of all ranks.

        Args:
            x: Views (N, C, T, V, M).
            order: See :meth:`order`.
        """
        bodies = rearrange(x, "n c t v m -> (n m) c t v")
        target = self.targets(x)
        if self.skip_absent:
            present = presence(x).flatten() > 0  # waits once for the data on an accelerator
            bodies, target, order = bodies[present], target[present], order[present]
        seen = order[:, : self.visible]
        error = (at_least_float32(self.predict(bodies, seen)) - target).square().mean(-1)
        counted = torch.ones_like(error).scatter(1, seen, 0)
        if self.skip_last and self.target == "motion":
            frames = self.encoder.shape[1] - self.motion_stride
            counted[:, frames // self.encoder.patch * self.encoder.shape[2] :] = 0
        # The gradients of ranks are averaged, so each has its share of the sum over all their hidden tokens.
        totals = gather(counted.sum().reshape(1))
        return (error * counted).sum() * (len(totals) / totals.sum())

    def predict(self, bodies: Tensor, seen: Tensor) -> Tensor:
        """Predictions (B, T'·V, patch·C) for bodies (B, C, T, V), of which the tokens ``seen`` (B, K) are encoded."""
        tokens = self.encoder.tokens(bodies)
        prediction: Tensor = self.decoder(self.encoder.relate(tokens.gather(1, at(seen, tokens))), seen)
        return prediction

    def targets(self, x: Tensor) -> Tensor:
        """What is to be predicted of each token of views ``x`` (N, C, T, V, M): (N·M, T'·V, patch·C)."""
        target = self.patches(motion(x, self.motion_stride) if self.target == "motion" else x)
        if not self.normalize_target:
            return target
        return (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()

    def patches(self, x: Tensor) -> Tensor:
        """Numbers of each token of views ``x`` (N, C, T, V, M), frame by frame: (N·M, T'·V, patch·C)."""
        return rearrange(x, "n c (t u) v m -> (n m) (t v) (u c)", u=self.encoder.patch)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group with weight decay, positions and the mask token in it, and one without."""
        return decay_groups(self, tables=True)


def motion(x: Tensor, stride: int) -> Tensor:
    """Differences of ``x`` (N, C, T, V, M) to ``stride`` frames later; zero in the last ones, which have none."""
    moved = torch.zeros_like(x)
    moved[:, :, :-stride] = x[:, :, stride:] - x[:, :, :-stride]
    return moved


def intensity(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """How much each token moved: mean difference to the same joint one patch earlier.

    Args:
        patches: (B, T'·V, P).
        grid: T' and V.

    Returns:
        (B, T'·V); tokens of the first patch have what those of the second have, and zero if there is none.
    """
    by_frame = rearrange(patches, "b (t v) p -> b t v p", t=grid[0])
    moved = by_frame.diff(dim=1).abs().mean(-1)
    first = moved[:, :1] if grid[0] > 1 else by_frame.new_zeros(by_frame.shape[:-1])
    return torch.cat([first, moved], 1).flatten(1)


def hiding_order(moving: Tensor, uniform: Tensor, tau: float, quantile: float = 1.0) -> Tensor:
    """Tokens from the one that is seen first to the one that is hidden first: Gumbel noise over a softmax of motion.

    Args:
        moving: Intensity of each token (B, L).
        uniform: Numbers in [0, 1), independent, (B, L).
        tau: τ; 0 orders by the numbers alone.
        quantile: The share of tokens whose intensity is not above the one that counts as largest.

    Returns:
        (B, L) int64.
    """
    if not tau:
        return uniform.argsort(1)
    gumbel = -(-(uniform + 1e-10).log() + 1e-10).log()
    return (hiding_probability(moving, tau, quantile).log() + gumbel).argsort(1)


def hiding_probability(moving: Tensor, tau: float, quantile: float = 1.0) -> Tensor:
    """Probability (B, L) that a token is the first to be hidden; see :func:`hiding_order`."""
    largest = moving.amax(1, keepdim=True) if quantile == 1 else moving.quantile(quantile, 1, keepdim=True)
    return (moving.minimum(largest) / (tau * largest + 1e-10)).softmax(1)
