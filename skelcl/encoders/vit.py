"""A plain transformer over tokens of one joint in a few frames: the encoder of MAMP."""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from skelcl.bounds import PartialShare, PositiveInt, bounded
from skelcl.encoders.base import MapEncoder, map_bodies
from skelcl.encoders.dsta import PersonPool, pool_bodies, presence
from skelcl.errors import InputError, OptionError
from skelcl.nn.heads import JointClassifier
from skelcl.nn.transformer import Block, Positions, xavier_linear
from skelcl.skeleton import NTU25, Skeleton


@bounded
class ViT(MapEncoder):
    """The vision transformer of MAMP (Mao et al., ICCV 2023, arXiv 2308.07092) for one body at a time.

    A token is one joint in ``patch`` frames, T' = T / ``patch`` of them for each joint. Learned positions of frames and
    joints are added, pre-norm blocks relate all T'·V tokens of a body, a layer norm ends. There is no class token and
    no batch norm, so what becomes of a body depends on nothing else; one that is zero throughout the clip (nobody
    there) passes like any other. In eval mode without gradients one such body stands for all.

    Linear layers start Xavier-uniform with biases 0, positions as N(0, 0.02²), the embedding as PyTorch draws it.

    Options that depart from the reference, off by default: ``person_pool``.

    Args:
        skeleton: Layout of the V joints.
        num_persons: M, the bodies per clip; nothing depends on it, clips of any M are encoded.
        channels: C, the coordinates per joint.
        num_frames: T, the frames of every clip, a multiple of ``patch``.
        patch: Frames in a token.
        dim: D, width of a token, a multiple of the heads.
        depth: Number of blocks.
        heads: H, the attention heads.
        mlp_ratio: Hidden width of the MLPs, in D.
        drop_path: Probability with which the last block leaves out each of its branches in training; it grows evenly
            from 0 in the first. The paper fine-tunes at 0.3.
        dropout: Probability of dropout in the map before it is pooled. The paper fine-tunes at 0.3.
        pool: ``clip`` is the mean over bodies, frames and joints, dim = D; its classifier is a linear layer behind a
            batch norm without weights, as for the paper's linear evaluation. ``joints`` keeps the joints apart,
            dim = V·D; its classifier is the MLP that the paper fine-tunes.
        hidden: Width inside that MLP.
        person_pool: ``masked`` leaves bodies that are zero throughout the clip out of the features; in clips of one
            person they make a constant of half of each.

    Raises:
        OptionError: ``patch`` does not divide the frames, or ``heads`` the width.
    """

    def __init__(
        self,
        skeleton: Skeleton = NTU25,
        num_persons: PositiveInt = 2,
        channels: PositiveInt = 3,
        num_frames: PositiveInt = 120,
        patch: PositiveInt = 4,
        dim: PositiveInt = 256,
        depth: PositiveInt = 8,
        heads: PositiveInt = 8,
        mlp_ratio: PositiveInt = 4,
        drop_path: PartialShare = 0.0,
        dropout: PartialShare = 0.0,
        pool: Literal["clip", "joints"] = "clip",
        hidden: PositiveInt = 2048,
        person_pool: PersonPool = "mean",
    ) -> None:
        super().__init__()
        if num_frames % patch:
            raise OptionError(f"ViT: num_frames={num_frames} is no multiple of patch={patch}")
        self.shape = (channels, num_frames, skeleton.num_joints)
        self.patch = patch
        self.grid = (num_frames // patch, skeleton.num_joints)
        self.width = dim
        self.heads = heads
        self.mlp_ratio = mlp_ratio
        self.joints = skeleton.num_joints if pool == "joints" else None
        self.hidden = hidden
        self.person_pool: PersonPool = person_pool
        self.dim = dim * (self.joints or 1)
        self.embed = nn.Conv2d(channels, dim, (patch, 1), (patch, 1))
        self.positions = Positions(*self.grid, dim)
        rates = torch.linspace(0, drop_path, depth).tolist()
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_ratio, rate) for rate in rates)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        xavier_linear(self)

    def reset_parameters(self) -> None:
        """Redraw every weight, as after construction."""
        super().reset_parameters()
        xavier_linear(self)

    def classifier(self, num_classes: int) -> nn.Module:
        """The head of the paper's linear evaluation, or of its fine-tuning where ``pool`` is ``joints``."""
        if self.joints:
            return JointClassifier(self.dim, num_classes, self.hidden)
        layer = nn.Linear(self.dim, num_classes)
        nn.init.trunc_normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
        return nn.Sequential(nn.BatchNorm1d(self.dim, eps=1e-6, affine=False), layer)

    def tokens(self, bodies: Tensor) -> Tensor:
        """Tokens (B, T'·V, D) of bodies (B, C, T, V), with their positions; ordered by frames, then joints.

        Raises:
            InputError: C, T or V are not those that the encoder was made for.
        """
        if bodies.shape[1:] != self.shape:
            raise InputError(
                f"ViT was made for channels, frames and joints {self.shape}, the clips have "
                f"{tuple(bodies.shape[1:])}: set channels, num_frames and skeleton accordingly"
            )
        return self.positions(rearrange(self.embed(bodies), "b d t v -> b (t v) d"))

    def relate(self, tokens: Tensor) -> Tensor:
        """What the blocks and the last norm make of tokens (B, K, D), which may be some of those of a body."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def feature_map(self, x: Tensor) -> Tensor:
        """Map (N, M, D, T', V) of clips ``x`` (N, C, T, V, M)."""

        def body_map(bodies: Tensor) -> Tensor:
            related = self.relate(self.tokens(bodies))
            return rearrange(related, "b (t v) d -> b d t v", t=self.grid[0])

        bodies = rearrange(x, "n c t v m -> (n m) c t v")
        return map_bodies(body_map, bodies, x, self.training)

    def pool(self, feature_map: Tensor, weights: Tensor | None = None) -> Tensor:
        """Features (N, dim) of a map (N, M, D, T', V), with weights (N, M) of the bodies, by default equal ones."""
        kept = self.dropout(feature_map)
        if self.joints:
            return pool_bodies(rearrange(kept.mean(3), "n m d v -> n m (v d)"), weights)
        return pool_bodies(kept.mean((3, 4)), weights)

    def with_map(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, M, D, T', V) and features (N, dim) of clips ``x`` (N, C, T, V, M), in one pass."""
        feature_map = self.feature_map(x)
        return feature_map, self.pool(feature_map, presence(x) if self.person_pool == "masked" else None)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, dim) of clips ``x`` (N, C, T, V, M)."""
        return self.with_map(x)[1]
