"""SCD-Net in skelcl against a plain reading of the released program, same weights, in one process and one run.

    python experiments/benchmarks/scd_net.py [--batch_size 8] [--device cpu] [--modes '[fp32,bf16]'] [--parts '[step]']

The plain form (plain_methods.py) makes views of one clip after the other in NumPy, loops over the three subsets of
CTR-GCN and its seven batch norms, clones queues, concatenates logits and moves the key network parameter by parameter.
Its clips were normalised beforehand, which favours it. Ours is the library's own code: `training_step`,
`optimizer_step` and `on_after_backward` called as Lightning calls them. Before anything is timed, both forms train for
three steps without dropout, on the same random numbers, and must agree in views, losses and queues.

How to read the output:

- `views` is one core: two views of each clip, ratio in clips per second. `compiled` is the same under torch.compile,
  with random numbers of its own.
- The step tables give both forms in float32 and bfloat16; ratios are to the plain form in float32. `without views` is
  what remains of a step when worker processes on other cores hide all augmentation. Our parts are timed in a second
  loop that cuts the backward pass in two at the projections, so their sum may miss the whole by a few percent.
- `saved MB` is what a forward pass of the query network leaves for the backward pass, for the batch, parameters not
  counted; `peak MB` what PyTorch holds at most during a step beyond what it held before.
- `ceiling` is the share of the machine's fastest matrix product in that precision that our step reaches.
- `features` are those of clips with one person, in eval mode.
- `linear evaluation` trains a classifier on features that are encoded once against encoding in every epoch, with a
  small encoder; the weights must be equal.

The last lines name the targets that were missed. With one thread processor time is measured, which other programs on
the core do not lengthen; otherwise elapsed time. Both forms keep freed memory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, get_args

import lightning.pytorch as pl
import numpy as np
import torch
from encoders import Machine, cast, set_up
from jsonargparse import auto_cli
from plain_methods import Clues, Draw, SCDNetStep, SCDNetwork, scd_draw, scd_draws, scd_view
from steps import Mode, Ours, Plain, compare_steps
from torch import Tensor, nn
from torch.nn import functional as F
from views import padded, random_clips

from skelcl import losses
from skelcl.clips import Clips
from skelcl.encoders import SCD
from skelcl.evaluation.probe import PRESETS, linear_probe
from skelcl.interop.key_mapping import KeyMapping
from skelcl.interop.scd_net import encoder_pieces, head_pieces
from skelcl.methods import SCDNet
from skelcl.methods.scd_net import LEVELS
from skelcl.transforms import CropResize, CubeMask, Flip, Normalize, Resize, Rotate, Shear, StructureMask, View

TEMPERATURE, MOMENTUM, BATCHES = 0.2, 0.999, 4
VIEWS, COMPILED, EXTRACTION, PROBE, MEMORY = 5.0, 8.0, 2.5, 30.0, 0.7
Part = Literal["views", "step", "features", "probe"]
STEP: dict[Mode, float] = {"fp32": 1.1, "bf16": 2.3}


def training_view(frames: int) -> View:
    steps = [
        Rotate(30.0, 1.0, probability=0.5),
        Shear(1.0, probability=0.5),
        Flip(0.5),
        StructureMask(probability=0.5),
        CubeMask(probability=0.5),
    ]
    return View(CropResize(frames, (0.1, 1.0), 64), Normalize("agcn"), steps, stream_first=True)


def eval_view(frames: int) -> View:
    return View(Resize(frames, 0.95), Normalize("agcn"))


def normalised(clips: Clips) -> np.ndarray:
    """The clips as the release stores them, (N, C, 300, V, M)."""
    return Normalize("agcn")(torch.from_numpy(padded(clips)), clips).contiguous().numpy()


@contextmanager
def without_dropout(*modules: nn.Module) -> Iterator[None]:
    """A block in which no unit is dropped."""
    dropped = [(part, "p") for module in modules for part in module.modules() if isinstance(part, nn.Dropout)]
    dropped += [
        (part, "dropout") for module in modules for part in module.modules() if isinstance(part, nn.MultiheadAttention)
    ]
    before = [getattr(*place) for place in dropped]
    for place in dropped:
        setattr(*place, 0.0)
    yield
    for place, value in zip(dropped, before, strict=True):
        setattr(*place, value)


class Pretraining(Ours):
    """The library's step, in parts."""

    def __init__(self, method: SCDNet, batches: Sequence[Clips]) -> None:
        super().__init__(method, batches)
        self.network = method.query

    def parts(self, batch_idx: int) -> Iterator[str]:
        method, clips = self.method, self.clips(batch_idx)
        random = method.step_generator(batch_idx)
        views = method.view.pair(clips, random)
        yield "views"
        with cast(method.device, self.mode):
            answers = method.key(views[1])
            outputs = method.query(views[0])[2:]
        self.optimizer.zero_grad()
        yield "forward and backward"
        z = [output.detach().requires_grad_() for output in outputs]
        with cast(method.device, self.mode):
            query, key = method.levels(tuple(z)), method.levels(answers)
            logits = method.contrast(query, key, clips.index)
            terms = {name: losses.info_nce(*pair) for name, pair in logits.items()}
            loss = torch.stack([method.weights[name] * term for name, term in terms.items()]).sum()
        loss.backward()
        method.enqueue(key, clips.index)
        yield "loss and queues"
        method._log(loss, terms, logits)
        yield "metrics"
        torch.autograd.backward(outputs, [each.grad for each in z])
        yield "forward and backward"
        self.optimizer.step()
        yield "optimiser"
        method.key.update(method.query)
        yield "momentum"


class Released(Plain):
    """The released step.

    Args:
        form: Networks, queues and optimiser.
        ours: What it is compared with; batch after batch it is first given the random numbers that ours draws.
        frames: T of a view.
    """

    def __init__(self, form: SCDNetStep, ours: Ours, frames: int) -> None:
        self.form, self.network, self.frames = form, form.query, frames
        self.device, self.skeleton = ours.method.device, ours.clips(0).skeleton
        self.stores, self.lengths, self.rng = [], [], np.random.default_rng(0)
        for clips in ours.batches:
            self.stores.append(normalised(clips.to("cpu")))
            self.lengths.append(clips.frames.tolist())
        self.given: dict[int, list[list[Draw]]] = {}
        for batch_idx, clips in enumerate(ours.batches):
            random = ours.method.step_generator(batch_idx)
            self.given[batch_idx] = scd_draws(ours.method.view, clips, random)

    def views(self, batch_idx: int) -> list[Tensor]:
        batch = batch_idx % len(self.stores)
        draws = self.given.get(batch_idx) or [
            [scd_draw(self.rng, length, self.frames, self.skeleton) for length in self.lengths[batch]] for _ in range(2)
        ]
        return [scd_view(self.stores[batch], each, self.skeleton, self.frames).to(self.device) for each in draws]

    def parts(self, batch_idx: int) -> Iterator[str]:
        views = self.views(batch_idx)
        yield "views"
        self.form.follow()
        yield "momentum"
        with cast(self.device, self.mode):
            outputs = self.form.query(views[0])[2:]
            with torch.no_grad():
                answers = self.form.key(views[1])[2:]
        self.form.optimizer.zero_grad()
        yield "forward and backward"
        z = [output.detach().requires_grad_() for output in outputs]
        with cast(self.device, self.mode):
            loss = self.form.loss(z, answers)
        loss.backward()
        yield "loss and queues"
        self.loss = loss.detach()
        loss.item()
        yield "metrics"
        torch.autograd.backward(outputs, [each.grad for each in z])
        yield "forward and backward"
        self.form.optimizer.step()
        yield "optimiser"


def agree(plain: Released, ours: Ours) -> None:
    """Three steps, so that gradients, optimiser, twin and queues take part in the comparison.

    Raises:
        SystemExit: If a view, a loss or a queue differs.
    """
    for batch_idx in range(3):
        random = ours.method.step_generator(batch_idx)
        pair = ours.method.view.pair(ours.batches[batch_idx], random)
        for view, mine in zip(plain.views(batch_idx), pair, strict=True):
            if not torch.allclose(mine, view, rtol=1e-4, atol=1e-4):
                raise SystemExit(f"the two forms disagree about a view in step {batch_idx}")
        expected, loss = plain.step(batch_idx).item(), ours.step(batch_idx).item()
        if abs(loss - expected) > 1e-4 * abs(expected):
            raise SystemExit(f"the two forms disagree in step {batch_idx}: loss {loss} and {expected}")
    # A key in the wrong row would hardly show in a loss.
    for level, name in zip(LEVELS, "tsi", strict=True):
        if not torch.allclose(ours.method.queue(level).keys, plain.form.queues[name].T, atol=1e-3):
            raise SystemExit(f"the two forms disagree about the queue of {level} keys")
    plain.given = {}  # from now on it draws for itself


def compare_views(view: View, clips: Clips, machine: Machine, compiled: bool) -> list[str]:
    """Two views of a batch, on one core."""
    store, lengths = normalised(clips), clips.frames.tolist()
    random, numbers = torch.Generator().manual_seed(0), np.random.default_rng(0)

    def one_by_one() -> None:
        for _ in range(2):
            draws = [scd_draw(numbers, length, view.frames, clips.skeleton) for length in lengths]
            scd_view(store, draws, clips.skeleton, view.frames)

    def batched() -> None:
        view.pair(clips, random)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    core = Machine(torch.device("cpu"), 3 * machine.repeat, machine.size)
    slow, fast = core.medians(one_by_one, batched)
    forms = {"views": (fast, VIEWS)}
    if compiled:
        quick = torch.compile(view.pair)
        forms["compiled views"] = core.medians(lambda: quick(clips))[0], COMPILED
    torch.set_num_threads(threads)
    missed = []
    print(f"\ntwo views of {len(clips)} clips, one core: {len(clips) / slow:,.0f} clips/s plain")
    for name, (took, wanted) in forms.items():
        print(f"{name:<24}{len(clips) / took:>11,.0f} clips/s{slow / took:>8.1f}x", flush=True)
        if slow / took < wanted:
            missed.append(f"{name} {slow / took:.1f}x, wanted {wanted:.0f}x")
    return missed


def compare_features(plain: Released, ours: Ours, machine: Machine) -> list[str]:
    """Features of clips with one person in the first of two slots; all batches as one, as nothing has to be kept."""
    clips = random_clips(sum(len(batch) for batch in ours.batches), seed=3).to(ours.method.device)
    clips = replace(clips, bodies=torch.ones_like(clips.bodies))
    theirs, mine = plain.form.query.encoder.eval(), ours.method.encoder.eval()
    with torch.no_grad():
        # Their weights have drifted apart by three roundings and dropout since they were compared.
        theirs.load_state_dict(KeyMapping(encoder_pieces(mine, "", "")).dump(mine))
        x = ours.method.eval_view(clips)
        if not torch.allclose(torch.cat(theirs(x), 1), mine(x), rtol=1e-3, atol=1e-3):
            raise SystemExit("the two forms disagree about features")
        slow, fast = machine.medians(lambda: theirs(x), lambda: mine(x))
    print(
        f"\nfeatures, one person, batch {len(x)}: {len(x) / slow:.1f} clips/s plain, "
        f"{len(x) / fast:.1f} ours, {slow / fast:.2f}x"
    )
    return [f"features {slow / fast:.2f}x, wanted {EXTRACTION}x"] if slow / fast < EXTRACTION else []


def compare_probe(machine: Machine, frames: int, epochs: int, count: int) -> list[str]:
    """The linear evaluation of a small encoder, with features kept and without."""
    torch.manual_seed(0)
    classes, dim = 10, 32
    encoder = SCD(num_frames=frames, widths=(16, 16, 16), dim=dim, heads=4).eval()
    clips = random_clips(count + count // 2, seed=2)
    x = eval_view(frames)(clips)
    label = torch.arange(len(x)) % classes
    test = torch.arange(len(x)) >= count
    preset = replace(PRESETS["scd"], lr=0.02, batch_size=16, epochs=epochs, milestones=(epochs // 2,))

    def plain() -> tuple[nn.Linear, Tensor]:
        random = torch.Generator().manual_seed(0)
        head = nn.Linear(2 * dim, classes)
        nn.init.zeros_(head.bias)
        head.weight.data = 0.01 * torch.randn(classes, 2 * dim, generator=random)
        optimizer = torch.optim.SGD(head.parameters(), lr=preset.lr, momentum=preset.momentum)
        scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(preset.milestones), preset.gamma)
        for _ in range(epochs):
            for some in torch.randperm(count, generator=random).split(preset.batch_size):
                with torch.no_grad():
                    features = encoder(x[some])
                loss = F.cross_entropy(head(features), label[some])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            scheduler.step()
            with torch.no_grad():
                logits = torch.cat([head(encoder(some)) for some in x[test].split(preset.batch_size)])
        return head, logits

    def ours(judged: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            features = torch.cat([encoder(some) for some in x.split(preset.batch_size)])
        judge = (features[test], label[test]) if judged is None else (judged, label.new_zeros(len(judged)))
        return linear_probe((features[~test], label[~test]), judge, classes, preset).logits

    head, logits = plain()
    # What the probe says of unit vectors and of zero are its weights.
    told = ours(F.pad(torch.eye(2 * dim), (0, 0, 0, 1)))
    weight = (told[:-1] - told[-1:]).T
    if not torch.allclose(weight, head.weight, rtol=0, atol=1e-5) or not torch.allclose(ours(), logits, atol=1e-4):
        raise SystemExit("the two forms of the linear evaluation disagree")
    slow, fast = (min(machine.seconds(form) for _ in range(2)) for form in (plain, ours))
    print(
        f"linear evaluation, {epochs} epochs: {slow:.2f} s encoding every time, {fast:.3f} s encoding once, "
        f"{slow / fast:.0f}x, largest difference of weights {(weight - head.weight).abs().max():.0e}"
    )
    return [f"linear evaluation {slow / fast:.0f}x, wanted {PROBE:.0f}x"] if slow / fast < PROBE else []


def main(
    batch_size: int = 8,
    frames: int = 64,
    dim: int = 2048,
    heads: int = 8,
    widths: tuple[int, ...] = (64, 256, 64),
    queue_size: int = 8192,
    device: str | None = None,
    modes: list[Mode] | None = None,
    repeat: int = 3,
    threads: int | None = None,
    view_clips: int = 64,
    compiled: bool = False,
    epochs: int = 80,
    parts: list[Part] | None = None,
    quick: bool = False,
) -> None:
    """Print the tables.

    Args:
        batch_size: Clips per step; the published 64 take 11 GB in the plain form.
        frames: Frames of a view, a multiple of 4.
        dim: Width of a clue.
        heads: Attention heads.
        widths: Of the lean CTR-GCN.
        queue_size: Keys in each queue.
        device: cpu or cuda; by default the GPU where there is one.
        modes: fp32, bf16; by default both.
        repeat: Turns of each form.
        threads: Threads of torch on a CPU; by default its own choice.
        view_clips: Clips per batch where views alone are measured.
        compiled: Measure views under torch.compile, too, which takes minutes.
        epochs: Of the linear evaluation.
        parts: views, step, features, probe; by default all. The plain form of each takes minutes on a CPU.
        quick: Only see that everything runs, with the smallest sizes.
    """
    if quick:
        batch_size, frames, dim, heads, widths, queue_size = 4, 16, 16, 2, (16, 16, 16), 32
        repeat, view_clips, epochs = 1, 8, 4
    set_up(threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    machine = Machine(where, repeat, 64 if quick else 8192 if where.type == "cuda" else 2048)
    clips = random_clips(BATCHES * batch_size)
    torch.manual_seed(0)
    network = SCDNetwork(Clues(clips.skeleton, clips.num_persons, frames, widths, dim, heads), dim, 128)
    encoder = SCD(clips.skeleton, clips.num_persons, num_frames=frames, widths=widths, dim=dim, heads=heads)
    method = SCDNet(encoder, training_view(frames), eval_view(frames), queue_size=queue_size)
    pieces = {**encoder_pieces(encoder, "encoder.", "encoder."), **head_pieces("heads.", "")}
    for twin in (method.query, method.key.module):
        KeyMapping(pieces).load(twin, network.state_dict())
    method.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    method = method.to(where).train()
    ours = Pretraining(method, [clips[torch.arange(batch_size) + i * batch_size].to(where) for i in range(BATCHES)])
    queues = {name: method.queue(level).keys for level, name in zip(LEVELS, "tsi", strict=True)}
    plain = Released(SCDNetStep(network.to(where), queues, MOMENTUM, TEMPERATURE), ours, frames)
    name = torch.cuda.get_device_name() if where.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, {frames} frames, width {dim}, K = {queue_size}")
    with without_dropout(network, plain.form.key, method):
        agree(plain, ours)
    missed = []
    parts = parts or list(get_args(Part))
    if "views" in parts:
        missed += compare_views(training_view(frames), random_clips(view_clips, seed=1), machine, compiled)
    if "step" in parts:
        x = plain.views(0)[0]
        missed += compare_steps("step", (plain, ours), x, machine, modes or ["fp32", "bf16"], STEP, MEMORY)
    if "features" in parts:
        missed += compare_features(plain, ours, machine)
    if "probe" in parts:
        missed += compare_probe(Machine(torch.device("cpu"), repeat, 64), frames, epochs, 16 if quick else 64)
    print("\n".join(["targets missed:", *missed]) if missed else "all targets met")


if __name__ == "__main__":
    auto_cli(main)
