"""Training written out in float64: optimisers, momentum twins, queues, banks and losses, one sample after the other.

From the papers and the released programs. Nothing of skelcl's encoders, heads, memories and losses is in here.
"""

import math

import torch
from torch import nn


class SGD:
    """v ← μ·v + g + λ·θ, θ ← θ − η·v; with Nesterov's momentum θ ← θ − η·(g + λ·θ + μ·v). No gradient, no step."""

    def __init__(self, parameters, momentum, decay, nesterov=False):
        self.parameters, self.momentum, self.decay, self.nesterov = list(parameters), momentum, decay, nesterov
        self.velocity = {}

    @torch.no_grad()
    def step(self, lr):
        for i, parameter in enumerate(self.parameters):
            if parameter.grad is None:
                continue
            gradient = parameter.grad + self.decay * parameter
            self.velocity[i] = self.momentum * self.velocity[i] + gradient if i in self.velocity else gradient
            along = gradient + self.momentum * self.velocity[i] if self.nesterov else self.velocity[i]
            parameter -= lr * along
            parameter.grad = None


class Adam:
    """Adam with L2: g + λ·θ goes into both moments."""

    def __init__(self, parameters, decay, betas=(0.9, 0.999), eps=1e-8):
        self.parameters, self.decay, self.betas, self.eps = list(parameters), decay, betas, eps
        self.first, self.second, self.steps = {}, {}, 0

    @torch.no_grad()
    def step(self, lr):
        self.steps += 1
        one, two = self.betas
        for i, parameter in enumerate(self.parameters):
            gradient = parameter.grad + self.decay * parameter
            self.first[i] = one * self.first.get(i, 0.0) + (1 - one) * gradient
            self.second[i] = two * self.second.get(i, 0.0) + (1 - two) * gradient**2
            mean, square = self.first[i] / (1 - one**self.steps), self.second[i] / (1 - two**self.steps)
            parameter -= lr * mean / (square.sqrt() + self.eps)
            parameter.grad = None


def clip(parameters, most):
    """Scales all gradients so that their common norm is at most ``most``; gives the norm before."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = math.sqrt(sum(gradient.pow(2).sum().item() for gradient in gradients))
    for gradient in gradients:
        gradient *= min(1.0, most / (norm + 1e-6))
    return norm


@torch.no_grad()
def follow(slow, fast, momentum):
    """θ_slow ← m·θ_slow + (1 − m)·θ_fast for pairs of parameters."""
    for theirs, ours in zip(slow, fast, strict=True):
        theirs.copy_(momentum * theirs + (1 - momentum) * ours)


def undropped(network):
    """``network`` without dropout."""
    for part in network.modules():
        if isinstance(part, (nn.Dropout, nn.Dropout2d)):
            part.p = 0.0
        elif isinstance(part, nn.MultiheadAttention):
            part.dropout = 0.0
    return network


class Fifo:
    """Keys in rows; the oldest is overwritten first."""

    def __init__(self, keys):
        self.keys, self.pointer = list(keys.clone()), 0

    def push(self, keys):
        for key in keys:
            self.keys[self.pointer] = key.detach()
            self.pointer = (self.pointer + 1) % len(self.keys)


def info_nce(queries, keys, queue, temperature):
    """−log softmax of a query's own key among itself and the queue, one query after the other, averaged."""
    total = 0.0
    for query, key in zip(queries, keys, strict=True):
        logits = torch.stack([query @ key, *(query @ other for other in queue.keys)]) / temperature
        total = total + torch.log(torch.exp(logits - logits.max()).sum()) + logits.max() - logits[0]
    return total / len(queries)


def lstm(weights, x):
    """Mean state of one layer over the frames of x (N, C, T, V, M), gate by gate."""
    means = []
    for clip in x:
        state = cell = torch.zeros(weights["weight_hh_l0"].shape[1])
        states = []
        for frame in clip.unbind(1):
            gates = weights["weight_ih_l0"] @ frame.reshape(-1) + weights["bias_ih_l0"]
            gates = gates + weights["weight_hh_l0"] @ state + weights["bias_hh_l0"]
            enter, forget, new, leave = gates.chunk(4)
            cell = torch.sigmoid(forget) * cell + torch.sigmoid(enter) * torch.tanh(new)
            state = torch.sigmoid(leave) * torch.tanh(cell)
            states.append(state)
        means.append(torch.stack(states).mean(0))
    return torch.stack(means)


def half(weights, maps, keep):
    """STD-CL's head: maps (N, M, C, T, V), averaged over persons and over what is not kept, reduced, projected."""
    pooled = maps.mean(1).mean(2 if keep == "spatial" else 3)
    vectors = []
    for x in pooled:
        reduced = weights["reduce.weight"][:, :, 0] @ x + weights["reduce.bias"][:, None]
        vectors.append(weights["project.weight"] @ reduced.reshape(-1) + weights["project.bias"])
    return torch.stack(vectors)


class BankContrast:
    """STD-CL's contrast with a bank of one slot for each clip, anchor after anchor.

    The random negatives of a step are read from one shuffle of the filled slots, each anchor's from a place of its own
    on and round: K slots of other classes.
    """

    def __init__(self, label, positives, negatives, temperature):
        self.label, self.positives, self.negatives, self.temperature = label, positives, negatives, temperature
        self.slots = [None] * len(label)

    def write(self, vectors, slots):
        for vector, slot in zip(vectors, slots.tolist(), strict=True):
            self.slots[slot] = (vector / vector.norm()).detach()

    def loss(self, vectors, label, order, start):
        """Mean over valid anchors, None if there is none; and the share of valid ones."""
        filled = [slot for slot in order.tolist() if self.slots[slot] is not None]
        rows = []
        for vector, mine, place in zip(vectors, label.tolist(), start.tolist(), strict=True):
            unit = vector / vector.norm()
            first = math.floor(place * len(filled))
            drawn = [slot for slot in filled[first:] + filled[:first] if self.label[slot] != mine]
            alike = sorted(
                (unit @ self.slots[slot] for slot in filled if self.label[slot] == mine), key=torch.Tensor.item
            )
            unlike = sorted((unit @ self.slots[slot] for slot in drawn), key=torch.Tensor.item, reverse=True)
            if len(alike) < self.positives or len(unlike) < self.negatives:
                continue
            row = 0.0
            for negatives in (unlike[: self.negatives], [unit @ self.slots[slot] for slot in drawn[: self.negatives]]):
                others = sum(torch.exp(similarity / self.temperature) for similarity in negatives)
                for similarity in alike[: self.positives]:
                    own = torch.exp(similarity / self.temperature)
                    row = row - torch.log(own / (own + others)) / (2 * self.positives)
            rows.append(row)
        return (sum(rows) / len(rows) if rows else None), len(rows) / len(vectors)
