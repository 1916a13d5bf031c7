"""Pre-norm transformer blocks over tokens of joints and frames, and the decoder that fills in what was hidden."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from skelcl.bounds import PartialShare, PositiveInt, bounded
from skelcl.errors import OptionError


@bounded
class DropPath(nn.Module):
    """Leaves out a residual branch for whole sequences (stochastic depth, Huang et al. 2016, arXiv 1603.09382).

    Args:
        p: Probability of leaving out; what stays is divided by 1 − p. In eval mode everything stays.
    """

    def __init__(self, p: PartialShare = 0.0) -> None:
        super().__init__()
        self.p = p

    def forward(self, branch: Tensor) -> Tensor:
        """(B, L, D) to the same shape."""
        if not self.training or not self.p:
            return branch
        kept = branch.new_empty(len(branch), 1, 1).bernoulli_(1 - self.p)
        return branch * (kept / (1 - self.p))


class SelfAttention(nn.Module):
    """Multi-head attention of tokens to each other, by PyTorch's fused product; no attention matrix is kept.

    Args:
        dim: D, width of a token.
        heads: H, divides D.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, D) to the same shape."""
        q, k, v = rearrange(self.qkv(tokens), "b l (p h c) -> p b h l c", p=3, h=self.heads).unbind()
        return self.proj(rearrange(F.scaled_dot_product_attention(q, k, v), "b h l c -> b l (h c)"))


class Block(nn.Module):
    """Attention, then an MLP with GELU, each behind a layer norm and beside a residual path.

    Args:
        dim: D, width of a token.
        heads: H, divides D.
        mlp_ratio: Hidden width of the MLP, in D.
        drop_path: Probability of leaving out each of the two branches.

    Raises:
        OptionError: The heads do not divide the width.
    """

    def __init__(self, dim: int, heads: int, mlp_ratio: int, drop_path: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise OptionError(f"a transformer of width {dim} cannot have {heads} heads, which do not divide it")
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = SelfAttention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_ratio * dim), nn.GELU(), nn.Linear(mlp_ratio * dim, dim))
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, D) to the same shape."""
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens)))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))


class Positions(nn.Module):
    """What is added to a token for its place: a learned vector for its frames and one for its joint.

    Tokens are in the order of frames, then joints. The tables start as N(0, 0.02²).

    Args:
        frames: T', patches of frames.
        joints: V.
        dim: D, width of a token.
    """

    def __init__(self, frames: int, joints: int, dim: int) -> None:
        super().__init__()
        self.frame = nn.Parameter(torch.empty(frames, 1, dim))
        self.joint = nn.Parameter(torch.empty(1, joints, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Redraw both tables."""
        for table in (self.frame, self.joint):
            nn.init.trunc_normal_(table, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T'·V, D) with their positions, in the same shape."""
        return tokens + (self.frame + self.joint).flatten(0, 1)


@bounded
class MaskedDecoder(nn.Module):
    """Predicts what every token of a sequence holds from the few that are visible (MAE, He et al. 2022).

    The visible tokens take their places, a learned token fills the others, all get positions, pass blocks and a layer
    norm, and a linear layer makes the prediction. Linear layers start Xavier-uniform with biases 0.

    Args:
        frames: T', patches of frames.
        joints: V.
        in_dim: D, width of the visible tokens.
        out_dim: Width of a prediction.
        dim: Width of the decoder, a multiple of the heads.
        depth: Number of blocks.
        heads: H.
        mlp_ratio: Hidden width of the MLPs, in ``dim``.
    """

    def __init__(
        self,
        frames: PositiveInt,
        joints: PositiveInt,
        in_dim: PositiveInt,
        out_dim: PositiveInt,
        dim: PositiveInt = 256,
        depth: PositiveInt = 3,
        heads: PositiveInt = 8,
        mlp_ratio: PositiveInt = 4,
    ) -> None:
        super().__init__()
        self.tokens = frames * joints
        self.embed = nn.Linear(in_dim, dim)
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim))
        self.positions = Positions(frames, joints, dim)
        self.blocks = nn.ModuleList(Block(dim, heads, mlp_ratio) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.predict = nn.Linear(dim, out_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Redraw the linear layers and the token that stands for hidden ones."""
        xavier_linear(self)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, visible: Tensor, place: Tensor) -> Tensor:
        """Predictions for all tokens.

        Args:
            visible: Encoded tokens (B, K, D).
            place: Their places in the sequence, (B, K) int64.

        Returns:
            (B, T'·V, out_dim).
        """
        embedded = self.embed(visible)
        tokens = self.mask_token.to(embedded.dtype).expand(len(visible), self.tokens, -1)
        tokens = self.positions(tokens.scatter(1, at(place, embedded), embedded))
        for block in self.blocks:
            tokens = block(tokens)
        return self.predict(self.norm(tokens))


def at(place: Tensor, tokens: Tensor) -> Tensor:
    """Places (B, K) as the index that gathers and scatters whole tokens (…, D): (B, K, D)."""
    return place[..., None].expand(-1, -1, tokens.shape[-1])


def xavier_linear(module: nn.Module) -> None:
    """Redraw all linear layers of a module Xavier-uniform, with biases 0; a packed projection counts as one matrix."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
