"""The four encoders as their papers describe them, one operation after the other, for comparison.

Tensors carry the names of the reference repositories, so `skelcl.interop.load_reference` turns the state of a plain
network into ours. Weights are random, and none of those that start at zero is zero, so every path takes part. Nothing
of skelcl is in them but the layout of the joints, so tests train them beside ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skelcl.skeleton import Skeleton

WIDTHS = (64, 64, 64, 64, 128, 128, 128, 256, 256, 256)
STRIDES = (1, 1, 1, 1, 2, 1, 1, 2, 1, 1)
GROUPS = {
    25: (0, 4, 2, 2, 2, 2, 1, 1, 2, 2, 1, 1, 2, 3, 3, 3, 2, 3, 3, 3, 1, 0, 1, 0, 1),
    20: (0,) * 4 + (1,) * 8 + (2,) * 8,
}
"""Hyperformer's hyperedge of each joint, of NTU RGB+D and of NW-UCLA, for streams of joints."""


def graphs(skeleton: Skeleton) -> Tensor:
    """Self-links, bones inward, bones outward, (3, V, V); their columns sum to one or to zero."""
    graph = torch.zeros(3, skeleton.num_joints, skeleton.num_joints)
    for child, parent in enumerate(skeleton.parents):
        graph[0, child, child] = 1.0
        if child != parent:
            graph[1, parent, child] = 1.0
            graph[2, child, parent] = 1.0
    return graph / graph.sum(1, keepdim=True).clamp(min=1)


def hops(skeleton: Skeleton) -> Tensor:
    """Bones between any two joints, (V, V) int64; Hyperformer hangs the fingers of NTU RGB+D on the hands."""
    parents = list(skeleton.parents)
    if skeleton.num_joints == 25:
        parents[21], parents[23] = 7, 11
    distance = torch.full((len(parents),) * 2, -1)
    for start in range(len(parents)):
        reached, number = {start}, 0
        while reached:
            for joint in reached:
                distance[start, joint] = number
            near = {j for j, p in enumerate(parents) if p in reached} | {parents[j] for j in reached}
            reached, number = {j for j in near if distance[start, j] < 0}, number + 1
    return distance


def randn(*shape: int) -> nn.Parameter:
    return nn.Parameter(0.1 * torch.randn(shape))


class Bodies(nn.Module):
    """Batch norm of the coordinates, blocks over single bodies, the mean, a linear layer."""

    def __init__(self, skeleton: Skeleton, persons: int, classes: int, blocks: Sequence[nn.Module], width: int) -> None:
        super().__init__()
        self.data_bn = nn.BatchNorm1d(persons * skeleton.num_joints * 3)
        self.depth = len(blocks)
        for number, block in enumerate(blocks, 1):
            self.add_module(f"l{number}", block)
        self.fc = nn.Linear(width, classes)

    def maps(self, x: Tensor) -> Tensor:
        """Clips (N, C, T, V, M) to maps of their bodies (N, M, C', T', V)."""
        n, c, t, v, m = x.shape
        x = x.permute(0, 4, 3, 1, 2).contiguous().view(n, m * v * c, t)
        x = self.data_bn(x).view(n, m, v, c, t).permute(0, 1, 3, 4, 2).contiguous().view(n * m, c, t, v)
        for number in range(1, self.depth + 1):
            x = getattr(self, f"l{number}")(x)
        return x.view(n, m, *x.shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.maps(x).flatten(3).mean(3).mean(1))


class Conv(nn.Module):
    """A k×1 convolution and batch norm."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 9, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        pad = (kernel - 1) * dilation // 2
        self.conv = nn.Conv2d(c_in, c_out, (kernel, 1), (stride, 1), (pad, 0), (dilation, 1))
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


def down(c_in: int, c_out: int) -> nn.Module:
    return nn.Identity() if c_in == c_out else nn.Sequential(nn.Conv2d(c_in, c_out, 1), nn.BatchNorm2d(c_out))


class MultiScale(nn.Module):
    """Four branches with their seven batch norms."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        c = c_out // 4
        self.branches = nn.ModuleList()
        for dilation in (1, 2):
            layers = nn.Conv2d(c_in, c, 1), nn.BatchNorm2d(c), nn.ReLU(), Conv(c, c, 5, stride, dilation)
            self.branches.append(nn.Sequential(*layers))
        layers = nn.Conv2d(c_in, c, 1), nn.BatchNorm2d(c), nn.ReLU(), nn.MaxPool2d((3, 1), (stride, 1), (1, 0))
        self.branches.append(nn.Sequential(*layers, nn.BatchNorm2d(c)))
        self.branches.append(nn.Sequential(nn.Conv2d(c_in, c, 1, (stride, 1)), nn.BatchNorm2d(c)))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Block(nn.Module):
    """Spatial unit, temporal unit, residual; the spatial unit goes by the name that its repository gives it."""

    def __init__(self, name: str, spatial: nn.Module, temporal: nn.Module, residual: nn.Module | None) -> None:
        super().__init__()
        self.add_module(name, spatial)
        self.name, self.tcn1, self.residual = name, temporal, residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.tcn1(getattr(self, self.name)(x))
        return F.relu(y if self.residual is None else y + self.residual(x))


def residual(c_in: int, c_out: int, stride: int) -> nn.Module:
    return nn.Identity() if c_in == c_out and stride == 1 else Conv(c_in, c_out, 1, stride)


class Refinement(nn.Module):
    """One subset of CTR-GC: project, then pool over frames."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        relation = 8 if c_in in (3, 9) else c_in // 8
        self.conv1, self.conv2 = nn.Conv2d(c_in, relation, 1), nn.Conv2d(c_in, relation, 1)
        self.conv3, self.conv4 = nn.Conv2d(c_in, c_out, 1), nn.Conv2d(relation, c_out, 1)

    def forward(self, x: Tensor, graph: Tensor, alpha: Tensor) -> Tensor:
        query, key, value = self.conv1(x).mean(2), self.conv2(x).mean(2), self.conv3(x)
        relation = torch.tanh(query.unsqueeze(3) - key.unsqueeze(2))
        topology = self.conv4(relation) * alpha + graph
        return torch.einsum("ncuv,nctv->nctu", topology, value)


class RefinedGraph(nn.Module):
    """CTR-GC over three subsets, one after the other."""

    def __init__(self, skeleton: Skeleton, c_in: int, c_out: int) -> None:
        super().__init__()
        self.PA = nn.Parameter(graphs(skeleton))
        self.alpha = nn.Parameter(torch.full((1,), 0.5))
        self.convs = nn.ModuleList(Refinement(c_in, c_out) for _ in range(3))
        self.bn, self.down = nn.BatchNorm2d(c_out), down(c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convs[0](x, self.PA[0], self.alpha)
        for subset in (1, 2):
            y = y + self.convs[subset](x, self.PA[subset], self.alpha)
        return F.relu(self.bn(y) + self.down(x))


class CTRGCN(Bodies):
    def __init__(
        self,
        skeleton: Skeleton,
        persons: int,
        classes: int,
        frames: int,
        widths: Sequence[int] = WIDTHS,
        strides: Sequence[int] = STRIDES,
    ) -> None:
        blocks = []
        for c_in, c_out, stride in zip((3, *widths), widths, strides, strict=False):
            spatial, temporal = RefinedGraph(skeleton, c_in, c_out), MultiScale(c_out, c_out, stride)
            blocks.append(Block("gcn1", spatial, temporal, residual(c_in, c_out, stride) if blocks else None))
        super().__init__(skeleton, persons, classes, blocks, widths[-1])


class AdaptiveGraph(nn.Module):
    """The graph convolution of 2s-AGCN over three subsets, one after the other."""

    def __init__(self, skeleton: Skeleton, c_in: int, c_out: int) -> None:
        super().__init__()
        c = c_out // 4
        self.PA = randn(3, skeleton.num_joints, skeleton.num_joints)
        self.register_buffer("A", graphs(skeleton), persistent=False)
        self.conv_a, self.conv_b, self.conv_d = (
            nn.ModuleList(nn.Conv2d(c_in, width, 1) for _ in range(3)) for width in (c, c, c_out)
        )
        self.bn, self.down = nn.BatchNorm2d(c_out), down(c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        n, c, t, v = x.shape
        graph, y = self.A + self.PA, None
        for subset in range(3):
            query = self.conv_a[subset](x).permute(0, 3, 1, 2).contiguous().view(n, v, -1)
            key = self.conv_b[subset](x).view(n, -1, v)
            attended = torch.softmax(torch.matmul(query, key) / query.shape[2], 1) + graph[subset]
            z = self.conv_d[subset](torch.matmul(x.view(n, c * t, v), attended).view(n, c, t, v))
            y = z if y is None else y + z
        return F.relu(self.bn(y) + self.down(x))


class AGCN(Bodies):
    def __init__(self, skeleton: Skeleton, persons: int, classes: int, frames: int) -> None:
        blocks = []
        for c_in, c_out, stride in zip((3, *WIDTHS), WIDTHS, STRIDES, strict=False):
            spatial, temporal = AdaptiveGraph(skeleton, c_in, c_out), Conv(c_out, c_out, 9, stride)
            blocks.append(Block("gcn1", spatial, temporal, residual(c_in, c_out, stride) if blocks else None))
        super().__init__(skeleton, persons, classes, blocks, WIDTHS[-1])


class Attention(nn.Module):
    """The four terms of Hyperformer's logits, each on its own."""

    def __init__(self, hops: Tensor, c_in: int, c_out: int, heads: int = 9) -> None:
        super().__init__()
        self.heads = heads
        self.register_buffer("hops", hops, persistent=False)
        self.rpe, self.w1 = randn(int(hops.max()) + 1, c_out), randn(heads, c_out // heads)
        self.outer = nn.Parameter(torch.eye(len(hops)).repeat(heads, 1, 1) + 0.1 * torch.randn(heads, *hops.shape))
        self.alpha = nn.Parameter(torch.full((1,), 0.5))
        self.q, self.kv = nn.Conv2d(c_in, c_out, 1, bias=False), nn.Conv2d(c_in, 2 * c_out, 1, bias=False)
        self.proj = nn.Conv2d(c_out, c_out, 1, groups=6)

    def split(self, x: Tensor) -> Tensor:
        n, c, t, v = x.shape
        return x.view(n, self.heads, c // self.heads, t, v).permute(0, 3, 1, 4, 2)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        n, _, t, v = x.shape
        q, (k, value), e = self.split(self.q(x)), map(self.split, self.kv(x).chunk(2, 1)), self.split(edges)
        relative = self.rpe[self.hops].view(v, v, self.heads, -1)
        logits = torch.matmul(q, k.transpose(-2, -1))
        logits = logits + torch.einsum("nthic,ijhc->nthij", q, relative)
        logits = logits + torch.einsum("nthic,nthjc->nthij", q, e)
        logits = logits + torch.einsum("hc,nthjc->nthj", self.w1, e).unsqueeze(-2)
        weights = self.alpha * torch.softmax(logits * q.shape[-1] ** -0.5, -1) + self.outer
        y = torch.matmul(weights, value).permute(0, 2, 4, 1, 3).reshape(n, -1, t, v)
        return self.proj(y)


class HyperAttention(nn.Module):
    """The spatial unit of Hyperformer; who belongs to which hyperedge is worked out in every call."""

    def __init__(self, skeleton: Skeleton, c_in: int, c_out: int) -> None:
        super().__init__()
        self.groups = list(GROUPS[skeleton.num_joints])
        self.norm1 = nn.LayerNorm(c_in)
        self.attn = Attention(hops(skeleton), c_in, c_out)
        self.pe_proj = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.skip_proj = nn.Identity() if c_in == c_out else nn.Conv2d(c_in, c_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        members = F.one_hot(torch.tensor(self.groups)).to(x)
        edges = self.pe_proj(x @ (members / members.sum(0)))[..., self.groups]
        normal = self.norm1(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.skip_proj(x) + self.attn(normal, edges)


class Hyperformer(Bodies):
    def __init__(self, skeleton: Skeleton, persons: int, classes: int, frames: int, width: int = 216) -> None:
        blocks = []
        for c_in, stride in zip((3, *[width] * 9), STRIDES, strict=True):
            spatial, temporal = HyperAttention(skeleton, c_in, width), MultiScale(width, width, stride)
            blocks.append(Block("vit1", spatial, temporal, residual(c_in, width, stride)))
        super().__init__(skeleton, persons, classes, blocks, width)


class HCN(nn.Module):
    """HCN of the PyTorch port, one body after the other."""

    def __init__(self, skeleton: Skeleton, persons: int, classes: int, frames: int) -> None:
        super().__init__()
        for suffix in ("", "m"):
            self.add_module(f"conv1{suffix}", nn.Sequential(nn.Conv2d(3, 64, 1), nn.ReLU()))
            self.add_module(f"conv2{suffix}", nn.Conv2d(64, frames, (3, 1), padding=(1, 0)))
            conv3 = nn.Conv2d(skeleton.num_joints, 32, 3, padding=1)
            self.add_module(f"conv3{suffix}", nn.Sequential(conv3, nn.MaxPool2d(2)))
            conv4 = nn.Conv2d(32, 64, 3, padding=1)
            self.add_module(f"conv4{suffix}", nn.Sequential(conv4, nn.Dropout2d(0.5), nn.MaxPool2d(2)))
        for name, width in (("conv5", 128), ("conv6", 256)):
            layers = nn.Conv2d(128, width, 3, padding=1), nn.ReLU(), nn.Dropout2d(0.5), nn.MaxPool2d(2)
            self.add_module(name, nn.Sequential(*layers))
        self.fc7 = nn.Sequential(nn.Linear(256 * (frames // 16) ** 2, 512), nn.ReLU(), nn.Dropout(0.5))
        self.fc8 = nn.Linear(512, classes)

    def branch(self, x: Tensor, suffix: str) -> Tensor:
        x = getattr(self, f"conv2{suffix}")(getattr(self, f"conv1{suffix}")(x))
        x = x.permute(0, 3, 2, 1).contiguous()
        return getattr(self, f"conv4{suffix}")(getattr(self, f"conv3{suffix}")(x))

    def forward(self, x: Tensor) -> Tensor:
        t, v = x.shape[2:4]
        motion = x[:, :, 1:] - x[:, :, :-1]
        motion = motion.permute(0, 1, 4, 2, 3).contiguous().view(len(x), -1, t - 1, v)
        motion = F.interpolate(motion, (t, v), mode="bilinear", align_corners=False)
        motion = motion.view(len(x), 3, -1, t, v).permute(0, 1, 3, 4, 2)
        bodies = []
        for body in range(x.shape[4]):
            both = [self.branch(x[..., body], ""), self.branch(motion[..., body], "m")]
            bodies.append(self.conv6(self.conv5(torch.cat(both, 1))))
        y = bodies[0]
        for body in bodies[1:]:
            y = torch.max(y, body)
        return self.fc8(self.fc7(y.flatten(1)))


NETWORKS = {"ctr-gcn": CTRGCN, "2s-agcn": AGCN, "hyperformer": Hyperformer, "hcn": HCN}
"""Name of the reference → the plain network, made of (skeleton, persons, classes, frames)."""
