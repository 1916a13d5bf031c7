"""SDS-CL as its authors save it (Xu et al. 2023, arXiv 2302.02316), after pre-training and fine-tuning alike."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from skelcl.encoders import DSTA
from skelcl.encoders.dsta import SDSCLNetwork
from skelcl.interop.detection import Origin
from skelcl.interop.key_mapping import KeyMapping, Pieces, batch_norm, temporal_conv, weight_and_bias
from skelcl.nn.attention import SIIA
from skelcl.nn.heads import SDSCLHeads
from skelcl.skeleton import Skeleton


class SDSCLCheckpoint(nn.Module):
    """All that a checkpoint of the authors holds. ``forward`` gives theirs, without heads and classifier.

    Args:
        network: Encoder and attention.
        heads: Projections of pre-training.
        classifier: One linear layer for both streams, whose logits are added.
    """

    def __init__(self, network: SDSCLNetwork, heads: SDSCLHeads, classifier: nn.Linear) -> None:
        super().__init__()
        self.network = network
        self.heads = heads
        self.classifier = classifier

    def forward(self, joint: Tensor, motion: Tensor) -> tuple[Tensor, ...]:
        """The twelve outputs of the authors' network for clips (N, C, T, V, M) of joint coordinates and their motion.

        Returns:
            Tokens of joints (N, V, C) and of frames (N, T', C), four times in turns: intra of the joint stream, intra
            of motion, inter of joint, inter of motion; means of all maps (N, 4·C) of joint and of motion; features
            (N, C) of joint and of motion.
        """
        joints, frames, clips, features = self.network(joint, motion)
        tokens = (axis[z, w] for w in range(2) for z in range(2) for axis in (joints, frames))
        return *tokens, *clips, *features


def build(skeleton: Skeleton, num_classes: int, num_frames: int, num_persons: int) -> tuple[nn.Module, KeyMapping]:
    """The network with heads and classifier, freshly initialised, and the layout of all of it.

    ``num_frames`` plays no role: the network takes clips of any length. The positions that the authors save for theirs
    are not read.
    """
    encoder, siia = DSTA(skeleton, num_persons), SIIA()
    module = SDSCLCheckpoint(SDSCLNetwork(encoder, siia), SDSCLHeads(), encoder.classifier(num_classes))
    layers = range(len(encoder.blocks))
    return module, KeyMapping(
        {
            **encoder_pieces(encoder, "network.encoder.", ""),
            **siia_pieces(siia, "network.siia.", ""),
            **head_pieces("heads.", ""),
            **weight_and_bias("classifier", "fc"),
        },
        frozenset(f"graph_layers.{i}.{name}" for i in layers for name in ("pes.pe", "atts")),
    )


def method_state(state_dict: Mapping[str, Tensor], origin: Origin, skeleton: Skeleton) -> dict[str, Tensor]:
    """A file of the authors as the state of :class:`~skelcl.methods.SDSCL`, which has no part in its classifier.

    Args:
        state_dict: The file.
        origin: Its sizes.
        skeleton: Layout of the V joints.

    Raises:
        InputError: Names or shapes are not exactly those of the authors.
    """
    checkpoint, layout = build(skeleton, origin.num_classes or 1, 0, origin.num_persons or 1)
    layout.load(checkpoint, state_dict)
    state = {name.removeprefix("network."): value for name, value in checkpoint.state_dict().items()}
    return {name: value for name, value in state.items() if not name.startswith("classifier.")}


def encoder_pieces(encoder: DSTA, ours: str, theirs: str) -> dict[str, Pieces]:
    """Mapping of the encoder alone.

    Args:
        encoder: Without temporal attention, like the reference.
        ours: Prefix of the encoder's names in our state, up to and with the dot.
        theirs: Prefix of its names in the reference's state, likewise.
    """
    pieces = temporal_conv(f"{ours}lift", f"{theirs}input_map.0", f"{theirs}input_map.1")
    for i, block in enumerate(encoder.blocks):
        mine, its = f"{ours}blocks.{i}", f"{theirs}graph_layers.{i}"
        heads, joints, _ = block.get_parameter("joints.graph").shape
        pieces |= {
            f"{mine}.joints.alpha": Pieces((f"{its}.alphas",), (1, heads, 1, 1)),
            f"{mine}.joints.graph": Pieces((f"{its}.attention0s",), (1, heads, joints, joints)),
            **weight_and_bias(f"{mine}.joints.relate", f"{its}.in_nets"),
        }
        for unit, name in (
            ("joints.merge", "out_nets"),
            ("point", "ff_nets"),
            ("temporal", "out_nett"),
            ("around_joints", "downs1"),
            ("around_point", "downs2"),
            ("around_temporal", "downt2"),
        ):
            pieces |= temporal_conv(f"{mine}.{unit}", f"{its}.{name}.0", f"{its}.{name}.1")
    return pieces


def siia_pieces(siia: SIIA, ours: str, theirs: str) -> dict[str, Pieces]:
    """Mapping of the attention between streams, from the prefixes of its names here and there.

    Args:
        siia: With the options of the released code, which are the defaults.
        ours: Prefix of its names in our state, up to and with the dot.
        theirs: Prefix of its names in the reference's state, likewise.
    """
    channels = siia.merges[0].get_parameter("weight").shape[1]
    projections = [f"{theirs}{name}" for name in ("intra_tatt.in_nett", "intra_satt.in_nets")]
    projections += [f"{theirs}inter_{axis}att.in_net{axis}_{piece}" for axis in "ts" for piece in ("q", "kv")]
    merges = [f"{theirs}{way}_{axis}att.ff_net{axis}" for way in ("intra", "inter") for axis in "ts"]
    sizes = tuple(piece * channels for piece in siia.pieces)
    return {
        f"{ours}projections.0.weight": Pieces(tuple(f"{name}.weight" for name in projections), sizes=sizes),
        f"{ours}projections.0.bias": Pieces(tuple(f"{name}.bias" for name in projections), sizes=sizes),
        **weight_and_bias(f"{ours}merges.0", *(f"{name}.0" for name in merges)),
        **batch_norm(f"{ours}norms.0", *(f"{name}.1" for name in merges)),
    }


def head_pieces(ours: str, theirs: str) -> dict[str, Pieces]:
    """Mapping of the projection heads, from the prefixes of their names here and there."""
    pieces: dict[str, Pieces] = {}
    for mine, its in (("token", "mlp"), ("clip", "mlpg")):
        for layer in (0, 2):
            pieces |= weight_and_bias(f"{ours}{mine}.{layer}", f"{theirs}{its}.{layer}")
    return pieces
