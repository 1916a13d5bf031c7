"""SDS-CL in skelcl against a plain reading of the released program, same weights, in one process and one run.

    python experiments/benchmarks/sds_cl.py [--batch_size 8] [--device cpu] [--modes '[fp32,bf16]'] [--repeat 3]

The plain form (plain_methods.py) has projections of its own for each way of attention, nine calls of a loss that makes
its labels and masks on the CPU, and an optimiser group for every tensor; in fine-tuning it computes all of the
attention and throws it away. It is given its views, which ours makes while the clock runs. Ours is the library's own
code, called as Lightning calls it. Before anything is timed, both forms train and must agree in losses and weights.

How to read the output: ratios are to the plain form in float32. Our parts are timed in a second loop that cuts the
backward pass in two behind the attention, so their sum may miss the whole by a few percent. `saved MB` is what a
forward pass of the network leaves for the backward pass, for the batch, parameters not counted; `peak MB` what PyTorch
holds at most during a step beyond what it held before. `ceiling` is the share of the machine's fastest matrix product
in that precision that our step reaches.

The last lines name the targets that were missed. With one thread processor time is measured, which other programs on
the core do not lengthen; otherwise elapsed time. Both forms keep freed memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial

import torch
from encoders import Machine, cast, set_up
from jsonargparse import auto_cli
from plain_methods import SDSCLNetwork, group_per_tensor, nine_losses
from steps import Mode, Ours, Plain, compare_steps
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD
from torch.optim.lr_scheduler import MultiStepLR
from views import random_clips

from skelcl.encoders import DSTA
from skelcl.encoders.dsta import BLOCKS
from skelcl.interop.key_mapping import KeyMapping, weight_and_bias
from skelcl.interop.sds_cl import encoder_pieces, head_pieces, siia_pieces
from skelcl.methods import SDSCL, FineTune
from skelcl.transforms import EvenFrames, Normalize, RandomFrames, View

TEMPERATURE, BATCHES, CLASSES = 0.07, 4, 60
STEP: dict[Mode, float] = {"fp32": 1.15, "bf16": 2.0}
MEMORY = 0.8


class Both(nn.Module):
    """A network of two streams as one of both in a row."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> object:
        return self.network(*x.chunk(2))


class Pretraining(Ours):
    """The library's step of the method, in parts."""

    def __init__(self, method: SDSCL, batches: list) -> None:
        super().__init__(method, batches)
        self.network = Both(method.network)

    def parts(self, batch_idx: int) -> Iterator[str]:
        method, clips = self.method, self.clips(batch_idx)
        joint, motion = method.view.with_motion(clips, method.step_generator(batch_idx), True, True)
        yield "views"
        with cast(method.device, self.mode):
            squeezed = method.network(joint, motion)
        self.optimizer.zero_grad()
        yield "encoder and attention"
        cut = type(squeezed)(*(each.detach().requires_grad_() for each in squeezed))
        with cast(method.device, self.mode):
            terms, top1 = method.contrast(cut)
            loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        yield "heads and losses"
        method._log(loss, terms, top1, len(clips))
        yield "metrics"
        ends = [(each, part.grad) for each, part in zip(squeezed, cut, strict=True) if part.grad is not None]
        torch.autograd.backward(*zip(*ends, strict=True))
        yield "encoder and attention"
        self.optimizer.step()
        yield "optimiser"


class Released(Plain):
    """The released step of either stage, on views that ours draws."""

    def __init__(self, ours: Ours, network: SDSCLNetwork, lr: float, fine_tuning: bool) -> None:
        self.form, self.network, self.fine_tuning = network, Both(network), fine_tuning
        self.optimizer = group_per_tensor(network, lr=lr)
        self.device = ours.method.device
        self.label = [clips.label for clips in ours.batches]
        self.views = [
            ours.method.view.with_motion(clips, ours.method.step_generator(i), True, True)
            for i, clips in enumerate(ours.batches)
        ]

    def parts(self, batch_idx: int) -> Iterator[str]:
        with cast(self.device, self.mode):
            outputs = self.form(*self.views[batch_idx % BATCHES])
        self.optimizer.zero_grad()
        yield "encoder and attention"
        cut = [each.detach().requires_grad_() for each in outputs]
        with cast(self.device, self.mode):
            if self.fine_tuning:
                logits = self.form.fc(cut[-2]) + self.form.fc(cut[-1])
                loss = F.cross_entropy(logits, self.label[batch_idx % BATCHES])
            else:
                loss = sum(nine_losses(self.form, cut, TEMPERATURE))
        loss.backward()
        yield "heads and losses"
        self.loss = loss.detach()
        loss.item()
        yield "metrics"
        ends = [(each, part.grad) for each, part in zip(outputs, cut, strict=True) if part.grad is not None]
        torch.autograd.backward(*zip(*ends, strict=True))
        yield "encoder and attention"
        self.optimizer.step()
        yield "optimiser"


def agree(plain: Released, ours: Ours, layout: KeyMapping, trained: nn.Module) -> None:
    """Two losses, and all weights in between, so that gradients and optimiser take part in the comparison.

    Later steps would compare roundings: three steps change the loss by a quarter.

    Raises:
        SystemExit: If a loss or a weight differs.
    """
    for batch_idx in range(2):
        expected, loss = plain.step(batch_idx).item(), ours.step(batch_idx).item()
        if abs(loss - expected) > 1e-3 * abs(expected):
            raise SystemExit(f"the two forms disagree in step {batch_idx}: loss {loss} and {expected}")
        if batch_idx:
            return
        theirs = plain.form.state_dict()
        for name, value in layout.dump(trained).items():
            wanted = theirs[name]
            if (value - wanted).abs().max() > 1e-3 * wanted.abs().max().clamp(min=0.01):
                raise SystemExit(f"the two forms disagree about {name} after a step")


def main(
    batch_size: int = 8,
    frames: int = 50,
    blocks: tuple[tuple[int, int, int], ...] = BLOCKS,
    device: str | None = None,
    modes: list[Mode] | None = None,
    repeat: int = 3,
    threads: int | None = None,
    quick: bool = False,
) -> None:
    """Print the tables.

    Args:
        batch_size: Clips per step; the published one is 16.
        frames: Frames of a view.
        blocks: Of the encoder, as DSTA takes them.
        device: cpu or cuda; by default the GPU where there is one.
        modes: fp32, bf16; by default both.
        repeat: Turns of each form.
        threads: Threads of torch on a CPU; by default its own choice.
        quick: Only see that everything runs, with the smallest sizes.
    """
    if quick:
        batch_size, frames, blocks, repeat = 4, 12, ((16, 4, 1), (16, 4, 1), (32, 8, 2)), 1
    set_up(threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    machine = Machine(where, repeat, 64 if quick else 8192 if where.type == "cuda" else 2048)
    clips = random_clips(BATCHES * batch_size)
    clips = type(clips)(**{**vars(clips), "label": torch.arange(len(clips)) % CLASSES})
    batches = [clips[torch.arange(batch_size) + i * batch_size].to(where) for i in range(BATCHES)]
    view = View(RandomFrames(frames, copies=None), Normalize("sds"))
    eval_view = View(EvenFrames(frames, endpoint=False), Normalize("sds"))
    name = torch.cuda.get_device_name() if where.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, {frames} frames, {clips.skeleton.num_joints} joints")
    missed = []
    for fine_tuning in (False, True):
        torch.manual_seed(0)
        network = SDSCLNetwork(clips.skeleton, frames, blocks, CLASSES)
        encoder = DSTA(clips.skeleton, clips.num_persons, blocks=blocks)
        pieces = encoder_pieces(encoder, "encoder.", "")
        lr = 0.001
        # Neither form warms up.
        sgd = partial(SGD, lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
        train = {"optimizer": sgd, "scheduler": partial(MultiStepLR, milestones=[60])}
        method = SDSCL(encoder, view, eval_view, **train, temperature=TEMPERATURE, decay_all=True)
        if fine_tuning:
            method = FineTune(encoder, view, eval_view, CLASSES, method=SDSCL, **train)
            pieces |= weight_and_bias("classifier.linear", "fc")
        else:
            pieces |= {**siia_pieces(method.siia, "siia.", ""), **head_pieces("heads.", "")}
        known = {name for piece in pieces.values() for name in piece.names}
        layout = KeyMapping(pieces, frozenset(network.state_dict().keys() - known))
        layout.load(method, network.state_dict())
        method = method.to(where).train()
        ours = Ours(method, batches) if fine_tuning else Pretraining(method, batches)
        if fine_tuning:
            ours.network = encoder
        plain = Released(ours, network.to(where), lr, fine_tuning)
        agree(plain, ours, layout, method)
        title = "fine-tuning" if fine_tuning else "pre-training"
        given = torch.cat(plain.views[0])
        missed += compare_steps(title, (plain, ours), given, machine, modes or ["fp32", "bf16"], STEP, MEMORY)
    print("\n".join(["targets missed:", *missed]) if missed else "all targets met")


if __name__ == "__main__":
    auto_cli(main)
