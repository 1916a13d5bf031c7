"""The steps of SCD-Net and SDS-CL as their papers and released programs describe them, one operation after the other.

Tensors carry the names of the reference repositories, so `skelcl.interop` turns the state of a plain network into
ours. Weights are random, and none of those that start at zero is zero, so every path takes part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from plain_encoders import Block, MultiScale, RefinedGraph, residual
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD
from views import crop_resize, linear

from skelcl.clips import Clips
from skelcl.skeleton import Skeleton
from skelcl.transforms import View

# SCD-Net.


class Extractor(nn.Module):
    """The lean CTR-GCN: all frames are kept, nothing is pooled. (N, C, T, V, M) to (N·M, C', T, V)."""

    def __init__(self, skeleton: Skeleton, persons: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.data_bn = nn.BatchNorm1d(persons * skeleton.num_joints * 3)
        self.names = [f"l{i + 1}" for i in range(len(widths))]
        for name, c_in, c_out in zip(self.names, (3, *widths), widths, strict=False):
            units = RefinedGraph(skeleton, c_in, c_out), MultiScale(c_out, c_out, 1)
            self.add_module(name, Block("gcn1", *units, residual(c_in, c_out, 1) if name != "l1" else None))

    def forward(self, x: Tensor) -> Tensor:
        n, c, t, v, m = x.shape
        x = x.permute(0, 4, 3, 1, 2).contiguous().view(n, m * v * c, t)
        x = self.data_bn(x).view(n, m, v, c, t).permute(0, 1, 3, 4, 2).contiguous().view(n * m, c, t, v)
        for name in self.names:
            x = getattr(self, name)(x)
        return x


def mlp(*widths: int) -> nn.Module:
    return nn.Sequential(nn.Linear(*widths[:2]), nn.ReLU(), nn.Linear(*widths[1:]))


class Clues(nn.Module):
    """The temporal and the spatial clue of clips."""

    def __init__(
        self, skeleton: Skeleton, persons: int, frames: int, widths: Sequence[int], dim: int, heads: int
    ) -> None:
        super().__init__()
        for clue, tokens in (("t", persons * skeleton.num_joints), ("s", frames)):
            self.add_module(f"gcn_{clue}", Extractor(skeleton, persons, widths))
            layers = nn.Linear(tokens * widths[-1], dim), nn.LayerNorm(dim), nn.ReLU(), nn.Linear(dim, dim)
            self.add_module(f"channel_{clue}", nn.Sequential(*layers))
            layer = nn.TransformerEncoderLayer(dim, heads, dim, 0.1, batch_first=True)
            self.add_module(f"{clue}_encoder", nn.TransformerEncoder(layer, 1, enable_nested_tensor=False))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        n, _, t, v, m = x.shape
        frames = self.gcn_t(x).view(n, m, -1, t, v).permute(0, 3, 1, 4, 2).reshape(n, t, -1)
        joints = self.gcn_s(x).view(n, m, -1, t, v).permute(0, 1, 4, 3, 2).reshape(n, m * v, -1)
        return self.t_encoder(self.channel_t(frames)).amax(1), self.s_encoder(self.channel_s(joints)).amax(1)


class SCDNetwork(nn.Module):
    """Clues and projections."""

    def __init__(self, clues: Clues, dim: int, projection: int) -> None:
        super().__init__()
        self.encoder = clues
        self.t_proj, self.s_proj = mlp(dim, dim, projection), mlp(dim, dim, projection)
        self.i_proj = mlp(2 * dim, dim, projection)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        t, s = self.encoder(x)
        return t, s, self.t_proj(t), self.s_proj(s), self.i_proj(torch.cat([t, s], 1))


@dataclass
class Draw:
    """The random numbers of one view of one clip; None where the coin fell on the other side."""

    start: int
    length: int
    rotation: np.ndarray | None
    shear: np.ndarray | None
    flipped: bool
    seeds: np.ndarray | None
    ties: np.ndarray
    hidden: np.ndarray | None  # frames


def scd_draws(view: View, clips: Clips, generator: torch.Generator) -> list[list[Draw]]:
    """What `view.pair(clips, generator)` draws for each of the two views, clip by clip."""
    clips = clips[torch.arange(len(clips), device=clips.index.device).repeat(2)]
    n, v = len(clips), clips.skeleton.num_joints
    x = clips.joints.new_empty(n, 3, view.frames, v, 1)
    rotate, shear, flip, joints, frames = view.steps
    start, length = view.sample.draw(clips, generator)
    matrices = [step.draw(x, generator).double().cpu().numpy() for step in (rotate, shear)]
    flipped = flip.draw(x, generator)
    state = generator.get_state()
    masked = joints.draw(x, clips.skeleton, generator).any(1)
    later = generator.get_state()
    generator.set_state(state)
    seeds = torch.randint(v, (n, max(round(v / 5), 1)), device=x.device, generator=generator).cpu().numpy()
    ties = torch.rand(n, v, device=x.device, generator=generator).cpu().numpy() / 2
    generator.set_state(later)
    hidden = frames.draw(x, generator).cpu().numpy()
    draws = []
    for i in range(n):
        rotation, sheared = (None if (each[i] == np.eye(3)).all() else each[i] for each in matrices)
        chosen = seeds[i] if masked[i] else None
        gone = np.flatnonzero(hidden[i]) if hidden[i].any() else None
        draws.append(Draw(int(start[i]), int(length[i]), rotation, sheared, bool(flipped[i]), chosen, ties[i], gone))
    return [draws[: n // 2], draws[n // 2 :]]


def scd_draw(rng: np.random.Generator, length: int, frames: int, skeleton: Skeleton) -> Draw:
    """The random numbers of one view, as a data loader draws them; rotations are built from their angles."""
    size = min(max(int(length * rng.uniform(0.1, 1)), 64), length)
    start = rng.integers(0, length - size + 1)
    rotation = shear = seeds = hidden = None
    if rng.random() < 0.5:
        main = rng.integers(3)
        x, y, z = (np.radians(rng.uniform(0, 30 if axis == main else 1)) for axis in range(3))
        about_x = np.array([[1, 0, 0], [0, np.cos(x), np.sin(x)], [0, -np.sin(x), np.cos(x)]])
        about_y = np.array([[np.cos(y), 0, -np.sin(y)], [0, 1, 0], [np.sin(y), 0, np.cos(y)]])
        about_z = np.array([[np.cos(z), np.sin(z), 0], [-np.sin(z), np.cos(z), 0], [0, 0, 1]])
        rotation = np.dot(about_z, np.dot(about_y, about_x))
    flipped = rng.random() < 0.5
    if rng.random() < 0.5:
        a, b, c, d, e, f = (rng.uniform(-1, 1) for _ in range(6))
        shear = np.array([[1, a, b], [c, 1, d], [e, f, 1]])
    v = skeleton.num_joints
    ties = rng.random(v) / 2
    if rng.random() < 0.5:
        seeds = rng.choice(v, max(round(v / 5), 1))
    if rng.random() < 0.5:
        cubes = rng.choice(frames // 4, round(3 * (frames // 4) / 8), replace=False)
        hidden = (4 * cubes[:, None] + np.arange(4)).flatten()
    return Draw(start, size, rotation, shear, flipped, seeds, ties, hidden)


def hide_joints(x: np.ndarray, seeds: np.ndarray, ties: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    graph = np.eye(skeleton.num_joints)
    for child, parent in skeleton.bones:
        graph[child, parent] = graph[parent, child] = 1
    graph = np.linalg.matrix_power(graph, 2)
    score = ties.astype(np.float64)
    for seed in seeds:
        score = score + graph[seed]
    x = x.copy()
    x[:, :, np.argsort(score)[-round(8 * skeleton.num_joints / 25) :]] = 0
    return x


def hide_frames(x: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[:, hidden] = 0
    return x


def scd_view(store: np.ndarray, draws: list[Draw], skeleton: Skeleton, frames: int) -> Tensor:
    """One clip (C, 300, V, M) after the other, as a data loader makes them; then it collates and casts."""
    order, items = list(skeleton.mirror), []
    for x, drawn in zip(store, draws, strict=True):
        x = crop_resize(np.array(x), drawn.start, drawn.length, frames)
        if drawn.rotation is not None:
            x = linear(x, drawn.rotation)
        if drawn.flipped:
            x = x[:, :, order]
        if drawn.shear is not None:
            x = linear(x, drawn.shear)
        if drawn.seeds is not None:
            x = hide_joints(x, drawn.seeds, drawn.ties, skeleton)
        if drawn.hidden is not None:
            x = hide_frames(x, drawn.hidden)
        items.append(x)
    return torch.from_numpy(np.stack(items)).float()


class SCDNetStep:
    """Momentum contrast across levels. Each method is one part of a step.

    Args:
        network: The query network; the key network is its copy.
        queues: Of t, s and i, unit vectors (K, P).
        momentum: m.
        temperature: τ.
    """

    def __init__(self, network: SCDNetwork, queues: dict[str, Tensor], momentum: float, temperature: float) -> None:
        self.query, self.key = network, deepcopy(network)
        for parameter in self.key.parameters():
            parameter.requires_grad = False
        self.queues = {level: queue.T.clone() for level, queue in queues.items()}
        self.momentum, self.temperature, self.pointer = momentum, temperature, 0
        parameters = [*self.query.parameters(), *self.key.parameters()]
        self.optimizer = SGD(parameters, lr=0.01, momentum=0.9, weight_decay=1e-4)

    def follow(self) -> None:
        for slow, fast in zip(self.key.parameters(), self.query.parameters(), strict=True):
            slow.data = slow.data * self.momentum + fast.data * (1.0 - self.momentum)

    def logits(self, query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
        positive = torch.einsum("nc,nc->n", query, key).unsqueeze(-1)
        negative = torch.einsum("nc,ck->nk", query, queue.clone().detach())
        return torch.cat([positive, negative], 1) / self.temperature

    def loss(self, query: Sequence[Tensor], key: Sequence[Tensor]) -> Tensor:
        """From projections z_t, z_s, z_i of both views; the keys are enqueued."""
        t, s, i = (F.normalize(z, dim=1) for z in query)
        with torch.no_grad():
            key_t, key_s, key_i = (F.normalize(z, dim=1) for z in key)
        logits = [
            self.logits(t, key_i, self.queues["i"]),
            self.logits(s, key_i, self.queues["i"]),
            self.logits(i, key_t, self.queues["t"]),
            self.logits(i, key_s, self.queues["s"]),
        ]
        with torch.no_grad():
            for queue, keys in zip(self.queues.values(), (key_t, key_s, key_i), strict=True):
                rows = (self.pointer + torch.arange(len(keys), device=keys.device)) % queue.shape[1]
                queue[:, rows] = keys.T.to(queue.dtype)
        self.pointer = (self.pointer + len(t)) % self.queues["i"].shape[1]
        target = torch.zeros(len(t), dtype=torch.long, device=t.device)
        return sum(F.cross_entropy(each, target) for each in logits)


# SDS-CL.


def conv_bn(c_in: int, c_out: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, (kernel, 1), (stride, 1), (kernel // 2, 0))
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


class Positions(nn.Module):
    """Encoded joints, stored for every frame."""

    def __init__(self, channels: int, frames: int, joints: int) -> None:
        super().__init__()
        rate = torch.exp(torch.arange(0, channels, 2).float() * (-math.log(10000) / channels))
        angle = rate[:, None] * torch.arange(joints).float()
        pe = torch.stack([angle.sin(), angle.cos()], 1).view(channels, joints)
        self.register_buffer("pe", pe[None, :, None].repeat(1, 1, frames, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pe


class DSTABlock(nn.Module):
    """Attention between joints, a pointwise layer, a convolution over frames."""

    def __init__(self, frames: int, joints: int, c_in: int, c_out: int, inner: int, stride: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.pes = Positions(c_in, frames, joints)
        self.in_nets = nn.Conv2d(c_in, 2 * heads * inner, 1)
        self.alphas = nn.Parameter(torch.ones(1, heads, 1, 1))
        self.attention0s = nn.Parameter(torch.full((1, heads, joints, joints), 1 / joints))
        self.out_nets = conv_bn(heads * c_in, c_out)
        self.ff_nets = conv_bn(c_out, c_out)
        self.out_nett = conv_bn(c_out, c_out, 7, stride)
        kept = c_in == c_out and stride == 1
        self.downs1, self.downs2 = (nn.Identity() if kept else conv_bn(c_in, c_out) for _ in range(2))
        self.downt2 = nn.Identity() if kept else conv_bn(c_out, c_out, 1, stride)
        self.relu = nn.LeakyReLU(0.1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, t, v = x.shape
        q, k = self.in_nets(self.pes(x)).view(n, 2 * self.heads, -1, t, v).chunk(2, 1)
        attention = torch.tanh(torch.einsum("nsctu,nsctv->nsuv", q, k) / (q.shape[2] * t)) * self.alphas
        attention = attention + self.attention0s.repeat(n, 1, 1, 1)
        y = torch.einsum("nctu,nsuv->nsctv", x, attention).contiguous().view(n, self.heads * c, t, v)
        y = self.relu(self.downs1(x) + self.out_nets(y))
        y = self.relu(self.downs2(x) + self.ff_nets(y))
        return self.relu(self.downt2(y) + self.out_nett(y))


class AxisAttention(nn.Module):
    """One way of SIIA: over frames (t) or joints (s), to the own stream or to the other."""

    def __init__(self, channels: int, axis: str, inter: bool, heads: int = 4) -> None:
        super().__init__()
        self.axis, self.heads, self.inter = axis, heads, inter
        if inter:
            self.add_module(f"in_net{axis}_q", nn.Conv2d(channels, channels, 1))
            self.add_module(f"in_net{axis}_kv", nn.Conv2d(channels, 2 * channels, 1))
        else:
            self.add_module(f"in_net{axis}", nn.Conv2d(channels, 3 * channels, 1))
        self.add_module(f"ff_net{axis}", conv_bn(channels, channels))
        self.relu = nn.LeakyReLU(0.1)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        n, c, t, v = x.shape
        shape = (n, -1, c // self.heads, t, v)
        name = f"in_net{self.axis}"
        if self.inter:
            q = getattr(self, f"{name}_q")(x).view(shape)
            k, value = getattr(self, f"{name}_kv")(other).view(shape).chunk(2, 1)
        else:
            q, k, value = getattr(self, name)(x).view(shape).chunk(3, 1)
        if self.axis == "s":
            attention = torch.tanh(torch.einsum("nsctu,nsctv->nsuv", q, k) / (q.shape[2] * t))
            y = torch.einsum("nsuv,nsctv->nsctu", attention, value)
        else:
            attention = torch.tanh(torch.einsum("nsctv,nscrv->nstr", q, k) / (q.shape[2] * v))
            y = torch.einsum("nstr,nscrv->nsctv", attention, value)
        y = getattr(self, f"ff_net{self.axis}")(y.contiguous().view(n, c, t, v))
        return self.relu(x + y)


class SDSCLNetwork(nn.Module):
    """Encoder, attention, heads and classifier: all that the released program computes, in either stage."""

    def __init__(self, skeleton: Skeleton, frames: int, blocks: Sequence[tuple[int, int, int]], classes: int) -> None:
        super().__init__()
        width, channels = blocks[0][0], blocks[-1][0]
        self.input_map = nn.Sequential(*conv_bn(3, width), nn.LeakyReLU(0.1))
        self.graph_layers = nn.ModuleList()
        for c_out, inner, stride in blocks:
            self.graph_layers.append(DSTABlock(frames, skeleton.num_joints, width, c_out, inner, stride, 4))
            width, frames = c_out, -(-frames // stride)
        self.intra_tatt, self.intra_satt = (AxisAttention(channels, axis, False) for axis in "ts")
        self.inter_tatt, self.inter_satt = (AxisAttention(channels, axis, True) for axis in "ts")
        self.mlp, self.mlpg = mlp(channels, channels, channels), mlp(4 * channels, 4 * channels, 4 * channels)
        self.fc = nn.Linear(channels, classes)

    def forward(self, joint: Tensor, motion: Tensor) -> tuple[Tensor, ...]:
        """Twelve tensors: tokens of joints and of frames four times in turns, global means, features; motion last."""
        n, m = len(joint), joint.shape[4]
        x = torch.cat([each.permute(0, 4, 1, 2, 3).contiguous().flatten(0, 1) for each in (joint, motion)])
        x = self.input_map(x)
        for layer in self.graph_layers:
            x = layer(x)
        j, m_ = x.chunk(2)
        maps = [
            (tatt(*pair), satt(*pair))
            for tatt, satt in ((self.intra_tatt, self.intra_satt), (self.inter_tatt, self.inter_satt))
            for pair in ((j, m_), (m_, j))
        ]
        tokens: list[Tensor] = []
        for over_frames, over_joints in maps:
            tokens.append(over_frames.view(n, m, *over_frames.shape[1:]).mean((1, 3)).transpose(1, 2))
            tokens.append(over_joints.view(n, m, *over_joints.shape[1:]).mean((1, 4)).transpose(1, 2))
        clips = [
            torch.cat([*maps[stream], *maps[2 + stream]], 1).view(n, m, -1, *j.shape[2:]).mean((1, 3, 4))
            for stream in range(2)
        ]
        return *tokens, *clips, *(each.view(n, m, *j.shape[1:]).mean((1, 3, 4)) for each in (j, m_))


def pair_loss(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """InfoNCE of two lists of tokens (N, L, D), with labels and masks that are made on the CPU in every call."""
    n, length, _ = a.shape
    z = F.normalize(torch.cat([a, b], 1), dim=2)
    similarity = torch.matmul(z, z.transpose(1, 2))
    labels = torch.cat([torch.arange(length)] * 2)
    labels = (labels[:, None] == labels[None]).float().to(a.device)
    own = torch.eye(2 * length, dtype=torch.bool).to(a.device).expand(n, -1, -1)
    labels = labels.expand(n, -1, -1)[~own].view(n, 2 * length, -1)
    similarity = similarity[~own].view(n, 2 * length, -1)
    positive = similarity[labels.bool()].view(n * 2 * length, -1)
    negative = similarity[~labels.bool()].view(n * 2 * length, -1)
    logits = torch.cat([positive, negative], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long).to(a.device))


def nine_losses(network: SDSCLNetwork, outputs: Sequence[Tensor], temperature: float) -> list[Tensor]:
    """STL, TSL and GL, one call each."""
    *tokens, clip_j, clip_m, _, _ = outputs
    joints = [network.mlp(each) for each in tokens[0::2]]
    frames = [network.mlp(each) for each in tokens[1::2]]
    pairs = ((0, 1), (0, 3), (2, 1), (2, 3))
    losses = [pair_loss(side[a], side[b], temperature) for side in (frames, joints) for a, b in pairs]
    return [*losses, pair_loss(network.mlpg(clip_j)[None], network.mlpg(clip_m)[None], temperature)]


def group_per_tensor(module: nn.Module, **options: float) -> SGD:
    """Nesterov SGD as released."""
    groups = [{"params": [parameter]} for parameter in module.parameters()]
    return SGD(groups, momentum=0.9, nesterov=True, weight_decay=5e-4, **options)
