"""SCD-Net as its authors save it (Wu et al., AAAI 2024, arXiv 2309.05834)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from skelcl.encoders import CTRGCN, SCD
from skelcl.encoders.scd import SCDNetwork
from skelcl.errors import InputError
from skelcl.interop import ctr_gcn
from skelcl.interop.detection import Origin
from skelcl.interop.key_mapping import KeyMapping, Pieces, weight_and_bias
from skelcl.nn.heads import SCDHeads
from skelcl.skeleton import Skeleton

NETWORK = ("encoder.", "t_proj.", "s_proj.", "i_proj.")
"""How the names within a network start; the linear evaluation keeps the first."""

HEADS, PROJECTION = 8, 128
"""As published: attention heads, width of a projection."""

QUEUES = tuple(f"{clue}_queue{suffix}" for clue in "tsi" for suffix in ("", "_ptr"))
"""What a file of pre-training holds beside two networks."""


def build(
    skeleton: Skeleton,
    num_classes: int,
    num_frames: int,
    num_persons: int,
    dim: int = 2048,
    heads: int = HEADS,
    projection: int = PROJECTION,
) -> tuple[nn.Module, KeyMapping]:
    """Encoder and projection heads, freshly initialised, and the layout of both.

    Args:
        skeleton: Layout of the V joints.
        num_classes: Plays no role: the network has no linear layer.
        num_frames: T of the clips.
        num_persons: M, the bodies per clip.
        dim: D, width of a clue (``hidden_size``).
        heads: Attention heads.
        projection: P, width of a projection.
    """
    encoder = SCD(skeleton, num_persons, num_frames=num_frames, dim=dim, heads=heads)
    module = SCDNetwork(encoder, SCDHeads(dim, projection))
    return module, KeyMapping({**encoder_pieces(encoder, "encoder.", "encoder."), **head_pieces("heads.", "")})


def encoder_pieces(encoder: SCD, ours: str, theirs: str) -> dict[str, Pieces]:
    """Mapping of the encoder alone.

    Args:
        encoder: With the lean CTR-GCN as extractor, like the reference.
        ours: Prefix of the encoder's names in our state, up to and with the dot.
        theirs: Prefix of its names in the reference's state, likewise.

    Raises:
        InputError: The encoder has another extractor.
    """
    pieces: dict[str, Pieces] = {}
    for clue, extractor, tokens in (("t", encoder.gcn_t, encoder.tokens_t), ("s", encoder.gcn_s, encoder.tokens_s)):
        if not isinstance(extractor, CTRGCN):
            raise InputError(f"SCD-Net extracts features with CTR-GCN, not with {type(extractor).__name__}")
        pieces |= ctr_gcn.encoder_pieces(extractor, f"{ours}gcn_{clue}.", f"{theirs}gcn_{clue}.")
        for name in tokens.state_dict():
            part, rest = name.split(".", 1)
            its = f"channel_{clue}.{rest}" if part == "embed" else f"{clue}_encoder.{name}"
            pieces[f"{ours}tokens_{clue}.{name}"] = Pieces((f"{theirs}{its}",))
    return pieces


def head_pieces(ours: str, theirs: str) -> dict[str, Pieces]:
    """Mapping of the projection heads, from the prefixes of their names here and there."""
    pieces: dict[str, Pieces] = {}
    for mine, its in (("temporal", "t_proj"), ("spatial", "s_proj"), ("anchor", "i_proj")):
        for layer in (0, 2):
            pieces |= weight_and_bias(f"{ours}{mine}.{layer}", f"{theirs}{its}.{layer}")
    return pieces


@dataclass(frozen=True)
class Checkpoint:
    """The parts of a state dict of the reference, each under its names without the prefix of the part.

    Args:
        query: The trained network: ``encoder.*`` and, unless it comes from the linear evaluation, ``{t,s,i}_proj.*``.
        key: Its slow twin, under the same names; empty outside of pre-training.
        queues: ``{t,s,i}_queue``, float (P, K) with unit columns, and ``{t,s,i}_queue_ptr``, int64 (1,), the column
            that the next key overwrites; empty outside of pre-training.
        classifier: ``weight`` (classes, 2·D) and ``bias`` of the linear evaluation; empty elsewhere.
    """

    query: dict[str, Tensor]
    key: dict[str, Tensor] = field(default_factory=dict)
    queues: dict[str, Tensor] = field(default_factory=dict)
    classifier: dict[str, Tensor] = field(default_factory=dict)


def split_checkpoint(state_dict: Mapping[str, Tensor]) -> Checkpoint:
    """Tell apart the parts of a state dict: of pre-training, of the linear evaluation, or of one network alone.

    Names and shapes within a network are for its :class:`~skelcl.interop.key_mapping.KeyMapping` to check.

    Raises:
        InputError: It is none of the three, a part is missing or incomplete, or there are others; they are listed.
    """
    parts_of: dict[str, dict[str, Tensor]] = {"encoder_q.": {}, "encoder_k.": {}, "fc.": {}, "": {}}
    for name, value in state_dict.items():
        prefix = next(prefix for prefix in parts_of if name.startswith(prefix))
        parts_of[prefix][name.removeprefix(prefix)] = value
    query, key, classifier, rest = parts_of.values()
    if query or key:
        names = query.keys() | key.keys()
        _check(state_dict, {*(f"encoder_q.{n}" for n in names), *(f"encoder_k.{n}" for n in names), *QUEUES})
        return Checkpoint(query, key, queues=rest)
    network = {name for name in rest if name.startswith(NETWORK[0] if classifier else NETWORK)}
    if not network:
        raise InputError(
            "this is no state dict of SCD-Net: no name starts with encoder_q. (pre-training) or encoder. (a network); "
            "of a whole checkpoint pass what it holds under 'state_dict'"
        )
    _check(state_dict, network | ({"fc.weight", "fc.bias"} if classifier else set()))
    return Checkpoint(rest, classifier=classifier)


def query_network(state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The trained network of a state dict, be it of pre-training as a whole or of the network alone."""
    return split_checkpoint(state_dict).query


def method_state(state_dict: Mapping[str, Tensor], origin: Origin, skeleton: Skeleton) -> dict[str, Tensor]:
    """A file of the authors as the state of the method that it is a run of.

    Args:
        state_dict: Of pre-training, for :class:`~skelcl.methods.SCDNet`, or of the linear evaluation, for
            :class:`~skelcl.methods.Supervised`.
        origin: Its sizes.
        skeleton: Layout of the V joints.

    Raises:
        InputError: Names or shapes are not exactly those of one of the two.
    """
    found = split_checkpoint(state_dict)
    frames, persons, dim = origin.num_frames, origin.num_persons, origin.dim
    if frames is None or persons is None or dim is None:
        raise InputError("its encoder is incomplete: encoder.channel_t.0 or encoder.channel_s.0 is missing")
    if found.classifier:
        encoder = SCD(skeleton, persons, num_frames=frames, dim=dim, heads=origin.heads or HEADS)
        KeyMapping(encoder_pieces(encoder, "", "encoder.")).load(encoder, found.query)
        state = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
        return state | {f"classifier.{name}": value for name, value in found.classifier.items()}
    if not found.key:
        raise InputError(
            "it holds one network of SCD-Net, which is neither a run of pre-training nor one of linear evaluation: "
            "use skelcl.interop.load_reference"
        )
    state = {}
    for prefix, weights in (("", found.query), ("key.module.", found.key)):
        sizes = {"dim": dim, "heads": origin.heads or HEADS, "projection": origin.projection or PROJECTION}
        network, layout = build(skeleton, 0, frames, persons, **sizes)
        layout.load(network, weights)
        state |= {f"{prefix}{name}": value for name, value in network.state_dict().items()}
    for level, clue in (("temporal", "t"), ("spatial", "s"), ("anchor", "i")):
        keys, place = found.queues[f"{clue}_queue"].T.contiguous(), found.queues[f"{clue}_queue_ptr"]
        # Which clips the keys show is not saved; the pointer goes round, so a queue counts as filled once.
        state[f"queues.{level}.keys"] = keys
        state[f"queues.{level}.index"] = torch.full((len(keys),), -1)
        state[f"queues.{level}.pushed"] = len(keys) + place.reshape(())
    return state


def _check(names: Iterable[str], expected: set[str]) -> None:
    """Refuse names that are not exactly the expected ones."""
    found = set(names)
    missing = [f"{name} is missing" for name in sorted(expected - found)]
    unexpected = [f"{name} is unexpected" for name in sorted(found - expected)]
    if problems := missing + unexpected:
        raise InputError(f"this is no state dict of SCD-Net: {'; '.join(problems)}")
