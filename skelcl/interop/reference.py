"""Checkpoints of the published networks, loaded into ours."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from skelcl.errors import OptionError
from skelcl.interop import agcn, as_cal, ctr_gcn, hcn, hyperformer, mamp, scd_net, sds_cl, std_cl
from skelcl.interop.detection import transformer_sizes
from skelcl.interop.key_mapping import KeyMapping
from skelcl.seeding import untouched
from skelcl.skeleton import LAYOUTS, Skeleton

NETWORKS: dict[str, Callable[..., tuple[nn.Module, KeyMapping]]] = {
    "ctr-gcn": ctr_gcn.build,
    "2s-agcn": agcn.build,
    "hyperformer": hyperformer.build,
    "hcn": hcn.build,
    "scd-net": scd_net.build,
    "sds-cl": sds_cl.build,
    "as-cal": as_cal.build,
    "mamp": mamp.build,
}
"""Our module and its layout in the reference's checkpoints, from (skeleton, num_classes, num_frames, num_persons).

Further arguments of a builder are sizes that only its network has.
"""

FIND_NETWORK: dict[str, Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]] = {
    **dict.fromkeys(("ctr-gcn", "2s-agcn", "hyperformer", "hcn"), std_cl.network),
    "scd-net": scd_net.query_network,
    "as-cal": as_cal.lstm_state,
}
"""Where a checkpoint may hold more than the network: what finds the network in it."""

READ_SIZES: dict[str, Callable[[Mapping[str, Tensor]], Mapping[str, Any]]] = {
    "as-cal": as_cal.sizes,
    "mamp": transformer_sizes,
}
"""What reads sizes off the tensors that nobody has to give."""


@untouched()
def load_reference(
    name: str,
    state_dict: Mapping[str, Tensor],
    *,
    num_classes: int = 60,
    num_frames: int = 64,
    skeleton: str | Skeleton = "ntu25",
    num_persons: int = 2,
    dim: int | None = None,
    heads: int | None = None,
    projection: int | None = None,
) -> nn.Module:
    """Our network with the weights of a published one, clips (N, C, T, V, M) to logits (N, classes).

    Three give something else. ``scd-net``: its clues and projections (v_t, v_s, z_t, z_s, z_i); of a whole pre-training
    checkpoint of it, the query network is taken. ``sds-cl``, from clips of joints and of their motion: twelve tensors,
    see :class:`skelcl.interop.sds_cl.SDSCLCheckpoint`. ``as-cal``: its encoding (N, H), of the one LSTM that there is,
    whatever its names start with.

    Args:
        name: The network: ``ctr-gcn``, ``2s-agcn``, ``hyperformer``, ``hcn``, ``scd-net``, ``sds-cl``, ``as-cal`` or
            ``mamp``, with the head of its fine-tuning or of its linear evaluation, whichever the weights have.
        state_dict: Weights under the names of the reference repository; the module takes their precision.
        num_classes: Classes of the linear layer.
        num_frames: T of the clips, where the network's size depends on it.
        skeleton: Layout of the V joints, or its name.
        num_persons: M, the bodies per clip.
        dim: Of ``scd-net``, width of a clue; None for the published one, like the next two.
        heads: Of ``scd-net`` and ``mamp``, attention heads, which no tensor tells.
        projection: Of ``scd-net``, width of a projection.

    Raises:
        InputError: The network or skeleton is unknown, the network has no such size, or names or shapes in
            ``state_dict`` are not exactly those of the reference network; the message lists them.
    """
    if name not in NETWORKS:
        raise OptionError(f"there is no reference network {name!r}; known are {', '.join(NETWORKS)}")
    skeleton = find_skeleton(skeleton)
    build = NETWORKS[name]
    sizes = {"dim": dim, "heads": heads, "projection": projection}
    chosen: dict[str, Any] = {size: value for size, value in sizes.items() if value is not None}
    if strange := chosen.keys() - inspect.signature(build).parameters.keys():
        raise OptionError(f"{name} is always of the published size: leave out {', '.join(sorted(strange))}")
    state = FIND_NETWORK[name](state_dict) if name in FIND_NETWORK else state_dict
    chosen |= READ_SIZES[name](state) if name in READ_SIZES else {}
    module, layout = build(skeleton, num_classes, num_frames, num_persons, **chosen)
    layout.load(module, state)
    return module


def find_skeleton(skeleton: str | Skeleton) -> Skeleton:
    """The layout of a name, or the layout itself.

    Raises:
        InputError: There is none of this name.
    """
    if not isinstance(skeleton, str):
        return skeleton
    if skeleton not in LAYOUTS:
        raise OptionError(f"there is no skeleton {skeleton!r}; known are {', '.join(LAYOUTS)}")
    return LAYOUTS[skeleton]
