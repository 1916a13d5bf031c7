"""Files with weights that others saved: read without running anything in them, and told apart by what they hold."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from skelcl.errors import InputError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "classifier")
"""Under which keys training code files the weights."""

PREFIXES = ("module.", "model.", "_orig_mod.")
"""What data parallelism, Lightning and the compiler put before every name."""

CONSTANT = ("running_mean", "running_var", "num_batches_tracked", "pes.pe", ".atts")
"""How names end of what is not learned: statistics of batch norms, and SDS-CL's positions and maps."""

SIGNATURES = {
    "ctr-gcn": r"l\d+\.gcn1\.convs\.",
    "2s-agcn": r"l\d+\.gcn1\.conv_[abd]\.",
    "hyperformer": r"l\d+\.vit1\.",
    "hcn": r"conv\dm\.",
    "scd-net": r"(encoder_[qk]\.)?encoder\.gcn_[ts]\.",
    "sds-cl": r"graph_layers\.\d+\.attention0s",
    "as-cal": r"bi_lstm\.weight_ih_l0",
    "mamp": r"joints_embed\.proj\.",
}
"""How names of a reference network start that no other network has."""


INPUTS: dict[int | None, tuple[int, int]] = {60: (20, 1), 75: (25, 1), 90: (15, 2), 120: (20, 2), 150: (25, 2)}
"""Joints and bodies that the width of AS-CAL's input tells."""


@dataclass(frozen=True)
class Origin:
    """A reference network, with the sizes that its tensors tell; None where they do not.

    Args:
        name: As :func:`skelcl.interop.load_reference` takes it.
        num_classes: Rows of the linear layer.
        num_joints: V.
        num_persons: M, bodies per clip; HCN, SDS-CL and MAMP share their weights among them.
        num_frames: T; of these networks only HCN, SCD-Net and MAMP have a fixed one.
        dim: Of SCD-Net, width of a clue; of AS-CAL, of its state.
        projection: Of SCD-Net's pre-training, width of a projection.
        queue_size: Of SCD-Net's and AS-CAL's pre-training, keys in each queue.
        heads: Of SCD-Net and MAMP, attention heads, which no tensor tells.
        layers: Of AS-CAL, stacked layers.
        options: Of MAMP, further options of its method and of its encoder.
    """

    name: str
    num_classes: int | None = None
    num_joints: int | None = None
    num_persons: int | None = None
    num_frames: int | None = None
    dim: int | None = None
    projection: int | None = None
    queue_size: int | None = None
    heads: int | None = None
    layers: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def find_state(content: Any) -> dict[str, Tensor]:
    """The state dict in the contents of a file, out of whatever wraps it, without a prefix that all names share.

    Raises:
        InputError: There is none; the message says what there is.
    """
    if isinstance(content, Mapping) and "model_ema" in content and "contrast" in content:
        # AS-CAL's pre-training: network, twin and queue lie side by side.
        parts = {"": content.get("model"), "model_ema.": content["model_ema"], "contrast.": content["contrast"]}
        if all(isinstance(part, Mapping) for part in parts.values()):
            content = {
                f"{prefix}{name}": value for prefix, part in parts.items() for name, value in _bare(part).items()
            }
    state = content
    while isinstance(state, Mapping) and (found := [key for key in WRAPPERS if isinstance(state.get(key), Mapping)]):
        state = state[found[0]]
    if not isinstance(state, Mapping) or not state:
        raise InputError(f"holds no weights: {_describe(content)}")
    if strange := [key for key, value in state.items() if not isinstance(key, str) or not isinstance(value, Tensor)]:
        raise InputError(f"holds no state dict: {str(strange[0])[:40]!r} is no tensor; {_describe(content)}")
    return _bare(state)


def _bare(state: Mapping[Any, Any]) -> dict[str, Any]:
    """A state without a prefix that all its names share."""
    names = [str(name) for name in state]
    while names and (prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in names)), None)):
        names = [name.removeprefix(prefix) for name in names]
    return dict(zip(names, state.values(), strict=True))


def recognise(state: Mapping[str, Tensor]) -> Origin | None:
    """Which reference network a state dict belongs to; None if to none that is known.

    One characteristic name is enough, so that what is missing can be told afterwards.
    """
    for name, signature in SIGNATURES.items():
        if any(re.match(signature, key) for key in state):
            return _sized(name, state)
    return None


def count_parameters(state: Mapping[str, Tensor]) -> int:
    """Number of values that were learned, twins and queues of pre-training among them."""
    return sum(value.numel() for name, value in state.items() if not name.endswith(CONSTANT))


def _sized(name: str, state: Mapping[str, Tensor]) -> Origin:
    def size(key: str, axis: int) -> int | None:
        shape = state[key].shape if key in state else ()
        return int(shape[axis]) if axis < len(shape) else None

    if name == "hcn":
        return Origin(name, size("fc8.weight", 0), size("conv3.0.weight", 1), None, size("conv2.weight", 0))
    if name == "sds-cl":
        return Origin(name, size("fc.weight", 0), size("graph_layers.0.attention0s", 2))
    if name == "as-cal":
        width = size("bi_lstm.weight_ih_l0", 1)
        joints, persons = INPUTS.get(width, (None, None))
        return Origin(
            name,
            size("classifier.weight", 0),
            joints,
            persons,
            dim=size("bi_lstm.weight_hh_l0", 1),
            queue_size=size("contrast.memory", 0),
            layers=sum(key.startswith("bi_lstm.weight_ih_l") for key in state),
        )
    if name == "mamp":
        sizes = transformer_sizes(state)
        options = {f"encoder.{option}": value for option, value in sizes.items()}
        options |= {f"decoder_{option}": value for option, value in (decoder_sizes(state) or {}).items()}
        classes = size("head.fc2.weight", 0) or size("head.fc.1.weight", 0)
        frames = size("temp_embed", 1)
        frames = frames * sizes["patch"] if frames and "patch" in sizes else None
        return Origin(name, classes, size("pos_embed", 2), None, frames, options=options)
    if name == "scd-net":
        prefix = "encoder_q." if any(key.startswith("encoder_q.") for key in state) else ""
        joints = size(f"{prefix}encoder.gcn_t.l1.gcn1.PA", 1)
        width = size(f"{prefix}encoder.gcn_t.l3.gcn1.bn.weight", 0)
        by_frame, by_joint = (size(f"{prefix}encoder.channel_{clue}.0.weight", 1) for clue in "ts")
        return Origin(
            name,
            size("fc.weight", 0),
            joints,
            by_frame // (joints * width) if by_frame and joints and width else None,
            by_joint // width if by_joint and width else None,
            size(f"{prefix}encoder.channel_t.0.weight", 0),
            size(f"{prefix}t_proj.2.weight", 0),
            size("t_queue", 1),
        )
    joints = size("l1.vit1.attn.outer" if name == "hyperformer" else "l1.gcn1.PA", 1)
    places = size("data_bn.weight", 0)
    persons = places // (3 * joints) if joints and places else None
    return Origin(name, size("fc.weight", 0), joints, persons)


def transformer_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options of MAMP's encoder that the tensors of a file tell, under their names here; those that are missing not."""
    found: dict[str, Any] = {"pool": "joints" if "head.fc1.weight" in state else "clip"}
    if depth := [int(match[1]) for name in state if (match := re.match(r"blocks\.(\d+)\.", name))]:
        found["depth"] = max(depth) + 1
    embedding, mlp, head = (
        state[name].shape if name in state else ()
        for name in ("joints_embed.proj.weight", "blocks.0.mlp.fc1.weight", "head.fc1.weight")
    )
    if len(embedding) == 4:
        found |= {"dim": embedding[0], "patch": embedding[2]}
    if len(mlp) == 2:
        found["mlp_ratio"] = mlp[0] // mlp[1]
    return found | ({"hidden": head[0]} if head else {})


def decoder_sizes(state: Mapping[str, Tensor]) -> dict[str, int] | None:
    """Width and depth of the decoder that MAMP's pre-training saves; None if there is none."""
    depth = {name.split(".")[1] for name in state if name.startswith("decoder_blocks.")}
    if "mask_token" not in state or not depth:
        return None
    return {"dim": state["mask_token"].shape[-1], "depth": len(depth)}


def _describe(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"it is a {type(content).__name__}"
    keys = [" ".join(str(key)[:40].split()) for key in content]  # anybody may have chosen them
    return f"its keys are {', '.join(keys[:6])}{', …' if len(keys) > 6 else ''}" if keys else "it is empty"
