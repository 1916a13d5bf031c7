"""MAMP as its authors save it (Mao et al. 2023, arXiv 2308.07092): pre-training, fine-tuning and linear evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from skelcl.encoders import ViT
from skelcl.errors import InputError
from skelcl.interop.detection import Origin, decoder_sizes, transformer_sizes
from skelcl.interop.key_mapping import KeyMapping, Pieces, batch_norm, weight_and_bias
from skelcl.nn.heads import Classifier
from skelcl.nn.transformer import MaskedDecoder, Positions
from skelcl.skeleton import Skeleton

HEADS = 8
"""Attention heads of the published networks."""


def build(
    skeleton: Skeleton,
    num_classes: int,
    num_frames: int,
    num_persons: int,
    heads: int = HEADS,
    pool: Literal["clip", "joints"] = "joints",
    **sizes: Any,
) -> tuple[nn.Module, KeyMapping]:
    """The network with a classifier, freshly initialised, and the layout of both.

    Args:
        skeleton: Layout of the V joints.
        num_classes: K.
        num_frames: T of the clips.
        num_persons: Plays no role: bodies share all weights.
        heads: Attention heads.
        pool: ``joints`` for the head of fine-tuning, ``clip`` for that of the linear evaluation.
        sizes: Further options of the encoder.
    """
    encoder = ViT(skeleton, num_persons, num_frames=num_frames, heads=heads, pool=pool, **sizes)
    module = Classifier(encoder, encoder.classifier(num_classes))
    if pool == "joints":
        head = weight_and_bias("head.fc1", "head.fc1") | weight_and_bias("head.fc2", "head.fc2")
        head |= batch_norm("head.bn", "head.bn")
    else:
        head = weight_and_bias("head.1", "head.fc.1")
        statistics = ("running_mean", "running_var", "num_batches_tracked")
        head |= {f"head.0.{name}": Pieces((f"head.fc.0.{name}",)) for name in statistics}
    return module, KeyMapping(encoder_pieces(encoder, "encoder.") | head)


def build_pretraining(
    skeleton: Skeleton, num_frames: int, heads: int, sizes: Mapping[str, Any], decoder: Mapping[str, int]
) -> tuple[nn.Module, KeyMapping]:
    """Encoder and decoder under the names that :class:`~skelcl.methods.MAMP` has for them, and the layout of both."""
    encoder = ViT(skeleton, num_frames=num_frames, heads=heads, **sizes)
    out = encoder.shape[0] * encoder.patch
    made = MaskedDecoder(*encoder.grid, encoder.width, out, decoder["dim"], decoder["depth"], heads, encoder.mlp_ratio)
    pieces = encoder_pieces(encoder, "encoder.") | positions("decoder.positions", made.positions, "decoder_")
    pieces["decoder.mask_token"] = Pieces(("mask_token",))
    for name in ("embed", "norm"):
        pieces |= weight_and_bias(f"decoder.{name}", f"decoder_{name}")
    pieces |= weight_and_bias("decoder.predict", "decoder_pred")
    pieces |= blocks("decoder.blocks", "decoder_blocks", len(made.blocks))
    return nn.ModuleDict({"encoder": encoder, "decoder": made}), KeyMapping(pieces)


def method_state(state_dict: Mapping[str, Tensor], origin: Origin, skeleton: Skeleton) -> dict[str, Tensor]:
    """A file of the authors as the state of the method that it is a run of.

    Args:
        state_dict: Of pre-training, for :class:`~skelcl.methods.MAMP`, or with a classifier, for
            :class:`~skelcl.methods.Supervised`.
        origin: Its sizes.
        skeleton: Layout of the V joints.

    Raises:
        InputError: Names or shapes are not exactly those of one of the three.
    """
    frames, heads, sizes = origin.num_frames, origin.heads or HEADS, transformer_sizes(state_dict)
    if frames is None:
        raise InputError("it is incomplete: temp_embed is missing")
    if any(name.startswith("head.") for name in state_dict):
        module, layout = build(skeleton, origin.num_classes or 1, frames, 1, heads, **sizes)
        layout.load(module, state_dict)
        return {name.replace("head.", "classifier.", 1): value for name, value in module.state_dict().items()}
    decoder = decoder_sizes(state_dict)
    if decoder is None:
        raise InputError("it holds neither a decoder, as pre-training saves, nor a classifier")
    module, layout = build_pretraining(skeleton, frames, heads, sizes, decoder)
    layout.load(module, state_dict)
    return module.state_dict()


def encoder_pieces(encoder: ViT, ours: str) -> dict[str, Pieces]:
    """Mapping of the encoder alone.

    Args:
        encoder: Of any size.
        ours: Prefix of its names in our state, up to and with the dot.
    """
    return {
        **weight_and_bias(f"{ours}embed", "joints_embed.proj"),
        **positions(f"{ours}positions", encoder.positions, ""),
        **blocks(f"{ours}blocks", "blocks", len(encoder.blocks)),
        **weight_and_bias(f"{ours}norm", "norm"),
    }


def positions(ours: str, tables: Positions, theirs: str) -> dict[str, Pieces]:
    """Mapping of the two tables of positions, from the prefix of their names there."""
    return {
        f"{ours}.frame": Pieces((f"{theirs}temp_embed",), (1, *tables.frame.shape), 1),
        f"{ours}.joint": Pieces((f"{theirs}pos_embed",), (1, *tables.joint.shape), 2),
    }


def blocks(ours: str, theirs: str, depth: int) -> dict[str, Pieces]:
    """Mapping of a stack of blocks."""
    names = {name: name for name in ("norm1", "attn.qkv", "attn.proj", "norm2")} | {
        "mlp.0": "mlp.fc1",
        "mlp.2": "mlp.fc2",
    }
    return {
        key: value
        for i in range(depth)
        for mine, its in names.items()
        for key, value in weight_and_bias(f"{ours}.{i}.{mine}", f"{theirs}.{i}.{its}").items()
    }
