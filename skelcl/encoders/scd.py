"""SCD-Net's encoder: one transformer over the frames of a clip, another one over its joints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from skelcl.bounds import PartialShare, PositiveInt, bounded
from skelcl.encoders.base import Encoder, MapEncoder
from skelcl.encoders.ctr_gcn import CTRGCN
from skelcl.errors import InputError
from skelcl.nn.heads import SCDHeads
from skelcl.skeleton import NTU25, Skeleton

Extractor = Callable[[Skeleton, int, int], MapEncoder]
"""Makes an encoder with a feature map from skeleton, M and C. In YAML: the name of its class, or that and arguments."""


@bounded
class SCD(Encoder):
    """Two clues of a clip, a temporal and a spatial one (Wu et al., AAAI 2024, arXiv 2309.05834).

    Two paths of equal form and separate weights. Each has a feature extractor, by default a lean CTR-GCN that keeps
    all frames. The temporal path makes a token of every frame of the map (bodies, joints and channels in one vector),
    the spatial path of every joint of every body (frames and channels in one vector). An MLP embeds the tokens, a
    post-norm transformer relates them, the clue is their maximum. There is no positional embedding: the order of
    tokens is known to the extractor only. A body that is absent gives tokens like any other.

    The numbers T' of frames, V' of joints, M' of bodies and C' of channels of the map decide how wide the tokens are.
    They are found by one pass of an empty clip through the extractor, so any encoder with a feature map will do; what
    it has behind its map (HCN's last layer) goes unused. The features are both clues, the temporal one first.

    Options that depart from the reference, off by default: ``extractor``, ``mask_absent``.

    Args:
        skeleton: Layout of the V joints.
        num_persons: M, the bodies per clip.
        channels: C, the coordinates per joint.
        num_frames: T, the frames of every clip.
        extractor: Makes the extractor, once for each path; None for the lean CTR-GCN. On the command line
            ``--model.encoder.init_args.extractor=AGCN`` swaps it. Of HCN the last layer stays unused, which several
            devices want to be told: ``--trainer.strategy ddp_find_unused_parameters_true``.
        widths: Channels of each block of the lean CTR-GCN, multiples of 4; another extractor has its own.
        dim: D, width of the tokens and of each clue, a multiple of the heads; the features have 2·D.
        heads: H, the attention heads.
        layers: Transformer layers of each path.
        feedforward: Hidden width of the transformer layers; None for D.
        dropout: Probability of dropout in the transformer layers, attention included.
        mask_absent: Leave the joints of bodies that are zero throughout the clip out of attention and maximum; those of
            an absent second person are half of the spatial tokens and say nothing.

    Raises:
        InputError: ``dim`` is no multiple of ``heads``, or the extractor merges the bodies that ``mask_absent`` needs.
    """

    def __init__(
        self,
        skeleton: Skeleton = NTU25,
        num_persons: PositiveInt = 2,
        channels: PositiveInt = 3,
        num_frames: PositiveInt = 64,
        extractor: Extractor | None = None,
        widths: Sequence[PositiveInt] = (64, 256, 64),
        dim: PositiveInt = 2048,
        heads: PositiveInt = 8,
        layers: PositiveInt = 1,
        feedforward: PositiveInt | None = None,
        dropout: PartialShare = 0.1,
        mask_absent: bool = False,
    ) -> None:
        super().__init__()
        if dim % heads:
            raise InputError(f"SCD: dim must be a multiple of heads={heads}, which share it; got {dim}")
        self.num_frames = num_frames
        self.mask_absent = mask_absent
        self.dim = 2 * dim
        self.gcn_t, self.gcn_s = (
            CTRGCN(skeleton, num_persons, channels, widths, [1] * len(widths))
            if extractor is None
            else extractor(skeleton, num_persons, channels)
            for _ in range(2)
        )
        bodies, width, frames, joints = _map_shape(
            self.gcn_t, torch.zeros(1, channels, num_frames, skeleton.num_joints, num_persons)
        )
        if mask_absent and bodies != num_persons:
            raise InputError(
                f"SCD: {type(self.gcn_t).__name__} merges {num_persons} bodies into {bodies}, so that no tokens belong "
                "to an absent one: set mask_absent to false or take another extractor"
            )
        self.joints = joints
        feedforward = feedforward or dim
        self.tokens_t = TokenMaximum(bodies * joints * width, dim, heads, layers, feedforward, dropout, "frames")
        self.tokens_s = TokenMaximum(frames * width, dim, heads, layers, feedforward, dropout, "joints")

    def classifier(self, num_classes: int) -> nn.Linear:
        """The head of the linear evaluation: weights N(0, 0.01²), bias zero."""
        layer = nn.Linear(self.dim, num_classes)
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
        return layer

    def clues(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Temporal and spatial clue, (N, D) each, of clips ``x`` (N, C, T, V, M).

        Raises:
            InputError: The clips have not ``num_frames`` frames.
        """
        if x.shape[2] != self.num_frames:
            raise InputError(f"SCD: made for num_frames={self.num_frames}, but the clips have {x.shape[2]} frames")
        frames = rearrange(self.gcn_t.feature_map(x), "n m c t v -> n t (m v c)")
        joints = rearrange(self.gcn_s.feature_map(x), "n m c t v -> n (m v) (t c)")
        return self.tokens_t(frames), self.tokens_s(joints, self._absent(x) if self.mask_absent else None)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, 2·D) of clips ``x`` (N, C, T, V, M)."""
        return torch.cat(self.clues(x), 1)

    def _absent(self, x: Tensor) -> Tensor:
        """Which spatial tokens belong to nobody, (N, M·V') bool; none of them in a clip without anybody."""
        absent = ~x.flatten(1, 3).any(1)
        absent = absent & ~absent.all(1, keepdim=True)
        return repeat(absent, "n m -> n (m v)", v=self.joints)


class TokenMaximum(nn.Module):
    """Embeds tokens, relates them in a transformer and takes their maximum; a tie shares the gradient.

    All matrices start Xavier-uniform, the packed projection to queries, keys and values as a single one; biases of the
    attention start at zero, the others as PyTorch draws them.

    Args:
        in_dim: W, width of a token.
        dim: D, width behind the embedding.
        heads: H, divides D.
        layers: Of the transformer.
        feedforward: Hidden width of its layers.
        dropout: Probability of dropout in its layers.
        mixes: What the tokens are.
    """

    def __init__(
        self,
        in_dim: int,
        dim: int,
        heads: int,
        layers: int,
        feedforward: int,
        dropout: float,
        mixes: Literal["joints", "frames"] = "joints",
    ) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(in_dim, dim), nn.LayerNorm(dim), nn.ReLU(), nn.Linear(dim, dim))
        self.layers = nn.ModuleList(TokenLayer(mixes, dim, heads, feedforward, dropout) for _ in range(layers))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Redraw the matrices and set the biases of the attention to zero; other layers have their own."""
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, nn.MultiheadAttention):
                nn.init.zeros_(module.in_proj_bias)
                nn.init.zeros_(module.out_proj.bias)

    def forward(self, tokens: Tensor, absent: Tensor | None = None) -> Tensor:
        """Tokens (N, L, W), of which those that are ``absent`` (N, L) count for nothing, to (N, D)."""
        # Tokens first: what PyTorch's batch_first hands to its projection is not contiguous, and without gradients a
        # linear layer then copies its weight for every token: in bfloat16 on a CPU three times the work of a step.
        y = self.embed(tokens).transpose(0, 1).contiguous()
        for layer in self.layers:
            y = layer(y, src_key_padding_mask=absent)
        if absent is not None:
            y = y.masked_fill(absent.T[..., None], -torch.inf)
        return y.amax(0)


class TokenLayer(nn.TransformerEncoderLayer):
    """PyTorch's transformer encoder layer, which also gives its attention weights.

    Args:
        mixes: What the tokens are.
        arguments: Those of ``nn.TransformerEncoderLayer``.
        options: As well.
    """

    def __init__(self, mixes: Literal["joints", "frames"], *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.mixes = mixes

    def mixing(self, tokens: Tensor, src_key_padding_mask: Tensor | None = None) -> Tensor:
        """Attention of each head, (N, H, L, L), to tokens (L, N, D)."""
        weights = self.self_attn(
            tokens, tokens, tokens, key_padding_mask=src_key_padding_mask, average_attn_weights=False
        )[1]
        return weights


class SCDNetwork(nn.Module):
    """The encoder with its projection heads: what SCD-Net trains.

    Args:
        encoder: Clips to two clues.
        heads: Clues to projections.
    """

    def __init__(self, encoder: SCD, heads: SCDHeads) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = heads

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Clues (v_t, v_s), (N, D) each, and projections (z_t, z_s, z_i), (N, P) each, of clips (N, C, T, V, M)."""
        v_t, v_s = self.encoder.clues(x)
        return v_t, v_s, *self.heads(v_t, v_s)


@torch.no_grad()
def _map_shape(extractor: MapEncoder, clip: Tensor) -> tuple[int, int, int, int]:
    """(M', C', T', V') of the map of one clip; statistics of the extractor stay as they are."""
    training = extractor.training
    _, bodies, width, frames, joints = extractor.eval().feature_map(clip).shape
    extractor.train(training)
    return bodies, width, frames, joints
