"""The four encoders of skelcl against a plain reading of their papers, same weights, in one process and one run.

    python experiments/benchmarks/encoders.py [--batch_size 16] [--devices '[cpu]'] [--modes '[fp32,bf16]'] [--repeat 9]

The plain networks (plain_encoders.py) do what the papers write, in their order: a loop over three subsets, projections
that are averaged afterwards, seven batch norms, a one-hot matrix in every call, one body of HCN after the other. Their
state, under the names of the reference repositories, is loaded into ours, and outputs and gradients of both must agree
in float64 before anything is timed.

How to read the tables:

- `forward` is in eval mode without gradients, `step` forward and backward in train mode. Both forms take turns; numbers
  are medians. Ratios are to the plain form in float32 without compilation, whatever the mode.
- `saved MB` is what a clip's forward leaves for the backward pass, parameters not counted, a storage counted once;
  `peak MB` what PyTorch holds at most during a step beyond what it held before. A dash: not to be measured here.
- `ceiling` is the share of the machine's fastest matrix product in that precision that our step reaches, counting the
  products and convolutions of our forward and backward pass.
- `absent body` evaluates clips of one person in the first of two body slots.
- `bank loss` is STD-CL's contrast, forward and backward, random draws included, against one anchor after the other.

The last lines name the targets that were missed. With one thread processor time is measured, which other programs on
the core do not lengthen; otherwise elapsed time. Both forms keep freed memory.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
import warnings
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from jsonargparse import auto_cli
from plain_encoders import NETWORKS
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode
from views import keep_freed_memory

from skelcl.interop import load_reference
from skelcl.losses import bank_contrast
from skelcl.nn import Bank
from skelcl.skeleton import KINECT20, NTU25, Skeleton

Mode = Literal["fp32", "bf16", "fp32 compiled", "bf16 compiled"]

BF16 = {"ctr-gcn": 1.4, "2s-agcn": 1.6, "hyperformer": 1.8}
SAME, SAVED, ABSENT, BANK = 0.95, 0.8, 2.0, 20.0
TEMPERATURE = 0.8


@dataclass
class Machine:
    """Where and how it is measured."""

    device: torch.device
    repeat: int
    size: int  # of the matrices whose product is the ceiling

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, function: Callable[[], object]) -> float:
        clock = time.process_time if self.device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
        self.wait()
        start = clock()
        function()
        self.wait()
        return clock() - start

    def medians(self, *functions: Callable[[], object]) -> list[float]:
        """Seconds of each function; they take turns, after one turn that does not count."""
        turns = [[self.seconds(function) for function in functions] for _ in range(self.repeat + 1)]
        return [median(column) for column in zip(*turns[1:], strict=True)]

    def ceiling(self, dtype: torch.dtype) -> float:
        """FLOP per second of the fastest matrix product, as one and as a pointwise convolution (other libraries)."""
        n, best = self.size, 0.0
        a, b = (torch.randn(n, n, device=self.device, dtype=dtype) for _ in range(2))
        image, kernel = a.view(1, n, n // 8, 8), b.view(n, n, 1, 1)
        with torch.no_grad():
            for product in (lambda: a @ b, lambda: F.conv2d(image, kernel)):
                best = max(best, 2 * n**3 / min(self.seconds(product) for _ in range(self.repeat + 2)))
        return best

    def peak(self, function: Callable[[], object]) -> float:
        """Bytes that PyTorch holds at most during a call, beyond what it held before.

        What a process holds in all depends on the C library's heap, which keeps holes.
        """
        if self.device.type == "cuda":
            self.wait()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            function()
            self.wait()
            return torch.cuda.max_memory_allocated() - before
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            function()  # of what was there before, the profiler does not see the end
            with record_function("measured call"):
                function()
        with TemporaryDirectory() as folder:
            trace = Path(folder) / "trace.json"
            recorded.export_chrome_trace(str(trace))
            events = json.loads(trace.read_text())["traceEvents"]
        (start,) = [event["ts"] for event in events if event["name"] == "measured call" and event["ph"] == "X"]
        counted = [event for event in events if event["name"] == "[memory]"]
        held = sorted((event["ts"], event["args"]["Total Allocated"]) for event in counted)
        before = [size for when, size in held if when < start][-1]
        return max(size for when, size in held if when >= start) - before


def set_up(threads: int | None) -> None:
    """What all comparisons of networks share; ``threads`` of torch, None for its own choice."""
    if threads is not None:
        torch.set_num_threads(threads)
    keep_freed_memory()
    torch.backends.cudnn.allow_tf32 = False  # float32 is meant, for both forms and for the ceiling
    torch.backends.cudnn.benchmark = True
    warnings.filterwarnings("ignore", module="lightning|torch")


def resident() -> int:
    """The highest resident size of this process, in bytes."""
    return int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


def cast(device: torch.device, mode: Mode) -> contextlib.AbstractContextManager[object]:
    return torch.autocast(device.type, torch.bfloat16) if mode.startswith("bf16") else contextlib.nullcontext()


def evaluate(network: nn.Module, x: Tensor, mode: Mode) -> Tensor:
    with torch.no_grad(), cast(x.device, mode):
        return network(x)


def step(network: nn.Module, x: Tensor, label: Tensor, mode: Mode) -> None:
    with cast(x.device, mode):
        logits = network(x)
    F.cross_entropy(logits.float(), label).backward()
    for parameter in network.parameters():
        parameter.grad = None


def saved_bytes(network: nn.Module, x: Tensor, mode: Mode) -> int:
    """What one forward pass keeps for the backward pass, without parameters and input."""
    known = {tensor.untyped_storage().data_ptr() for tensor in (x, *network.parameters(), *network.buffers())}
    kept: dict[int, Tensor] = {}  # alive until the end, so that no address is given twice

    def keep(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), cast(x.device, mode):
        network(x)
    return sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in known)


def flops(network: nn.Module, x: Tensor) -> int:
    """Of products and convolutions, forwards and backwards."""
    with FlopCounterMode(display=False) as counter:
        network(x).sum().backward()
    return counter.get_total_flops()


def agree(name: str, plain: nn.Module, ours: nn.Module, x: Tensor) -> None:
    """Logits in both modes and the gradient of the clips, in float64 and without dropout.

    Raises:
        SystemExit: If they differ.
    """
    found = []
    for network in (deepcopy(plain), deepcopy(ours)):
        network.double().eval()
        given = x.double().requires_grad_()
        with torch.no_grad():
            logits = [network(given)]
        network.train()
        for module in network.modules():
            if isinstance(module, nn.Dropout | nn.Dropout2d):
                module.p = 0.0
        logits.append(network(given))
        logits[1].logsumexp(1).sum().backward()
        found.append([*logits, given.grad])
    for what, expected, value in zip(("eval logits", "train logits", "gradients"), *found, strict=True):
        if (value - expected).abs().max() > 1e-6 * expected.abs().max():
            raise SystemExit(f"{name}: the two forms disagree about {what}")


def megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f}"


def compare(name: str, x: Tensor, modes: Iterable[Mode], machine: Machine, ceilings: dict[str, float]) -> list[str]:
    """Print the rows of one network; give the targets that it misses."""
    skeleton = next(each for each in (NTU25, KINECT20) if each.num_joints == x.shape[3])
    persons, frames = x.shape[4], x.shape[2]
    torch.manual_seed(0)
    plain = NETWORKS[name](skeleton, persons, 60, frames)
    ours = load_reference(name, plain.state_dict(), num_frames=frames, skeleton=skeleton, num_persons=persons)
    agree(name, plain, ours, x[:2].cpu())
    plain, ours = plain.to(x.device), ours.to(x.device)
    label = torch.arange(len(x), device=x.device) % 60
    work, missed, base = flops(ours.train(), x), [], None
    for mode in modes:
        forms = [plain, ours]
        if mode.endswith("compiled"):
            torch.compiler.reset()
            forms = [torch.compile(form) for form in forms]
        for form in forms:
            form.eval()
        forward = machine.medians(*(partial(evaluate, form, x, mode) for form in forms))
        for form in forms:
            form.train()
        steps = [partial(step, form, x, label, mode) for form in forms]
        both = machine.medians(*steps)
        saved = [None, None] if mode.endswith("compiled") else [saved_bytes(form, x, mode) / len(x) for form in forms]
        peaks = [machine.peak(one) for one in steps]
        base = base or (forward[0], both[0])
        ratios = [reference / took[1] for reference, took in zip(base, (forward, both), strict=True)]
        share = work / both[1] / ceilings[mode[:4]]
        print(
            f"{name:<12}{mode:<14}"
            f"{len(x) / forward[0]:>9,.1f}{len(x) / forward[1]:>9,.1f}{ratios[0]:>7.2f}x"
            f"{len(x) / both[0]:>9,.1f}{len(x) / both[1]:>9,.1f}{ratios[1]:>7.2f}x"
            f"{'–' if saved[0] is None else f'{saved[0] / 1e6:.1f}':>9}"
            f"{'–' if saved[1] is None else f'{saved[1] / 1e6:.1f}':>8}"
            f"{megabytes(peaks[0]):>9}{megabytes(peaks[1]):>8}{share:>9.0%}",
            flush=True,
        )
        if mode == "fp32":
            missed += [
                f"{name} {what} {ratio:.2f}x of plain, wanted {SAME}"
                for what, ratio in zip(("forward", "step"), ratios, strict=True)
                if ratio < SAME
            ]
            if saved[1] > SAVED * saved[0]:
                missed.append(f"{name} saves {saved[1] / saved[0]:.0%} of plain, wanted {SAVED:.0%}")
        elif mode == "bf16" and ratios[1] < BF16.get(name, 0):
            missed.append(f"{name} step in bf16 {ratios[1]:.2f}x, wanted {BF16[name]}x")
    if persons > 1 and name in BF16:
        alone = torch.cat([x[..., :1], torch.zeros_like(x[..., 1:])], -1)
        slow, full, fast = machine.medians(
            lambda: evaluate(plain.eval(), alone, "fp32"),
            lambda: evaluate(ours.eval(), x, "fp32"),
            lambda: evaluate(ours.eval(), alone, "fp32"),
        )
        told = f"{len(x) / slow:>9,.1f}{len(x) / fast:>9,.1f}{slow / fast:>7.2f}x"
        print(f"{name:<12}{'absent body':<14}{told}   ({full / fast:.2f}x of ours with both bodies)", flush=True)
        if slow / fast < ABSENT:
            missed.append(f"{name} with an absent body {slow / fast:.2f}x, wanted {ABSENT:.0f}x")
    return missed


def one_by_one(
    anchor: Tensor, label: Tensor, bank: Bank, positives: int, negatives: int, candidates: Tensor | None = None
) -> Tensor:
    """The contrast as it is described: for each anchor, find the pairs, then classify each positive.

    The random negatives are a draw of its own, or the first among the candidates (N, W).
    """
    losses = []
    for i in range(len(anchor)):
        similarity = bank.features @ F.normalize(anchor[i], dim=0)
        alike, unlike = similarity[bank.label == label[i]], similarity[bank.label != label[i]]
        if len(alike) < positives or len(unlike) < negatives:
            continue
        near = alike.topk(positives, largest=False).values
        if candidates is None:
            drawn = unlike[torch.randperm(len(unlike), device=unlike.device)[:negatives]]
        else:
            drawn = similarity[candidates[i][bank.label[candidates[i]] != label[i]][:negatives]]
        for others in (unlike.topk(negatives).values, drawn):
            logits = torch.cat([near[:, None], others.expand(positives, -1)], 1) / TEMPERATURE
            losses.append(F.cross_entropy(logits, torch.zeros(positives, dtype=torch.int64, device=logits.device)))
    return torch.stack(losses).mean()


def compare_bank(machine: Machine, anchors: int, slots: int, positives: int, negatives: int, classes: int) -> list[str]:
    """Print the row of the bank loss; give the target if it is missed."""
    device = machine.device
    torch.manual_seed(0)
    label, slot = (torch.arange(count, device=device) % classes for count in (anchors, slots))
    bank = Bank(slot, 256).to(device)
    bank.features, bank.filled = F.normalize(torch.randn_like(bank.features), dim=1), torch.ones_like(bank.filled)
    anchor = torch.randn(anchors, 256, device=device, requires_grad=True)

    def draw() -> Tensor:
        order, start = torch.randperm(slots, device=device), torch.rand(anchors, device=device)
        return bank.candidates(order, start, negatives)

    def plain(candidates: Tensor | None = None) -> Tensor:
        return one_by_one(anchor, label, bank, positives, negatives, candidates)

    def ours(candidates: Tensor | None = None) -> Tensor:
        candidates = draw() if candidates is None else candidates
        given = anchor, label, bank.features, bank.members, bank.filled, candidates
        return bank_contrast(*given, positives, negatives, TEMPERATURE)[0].mean()

    same = draw()
    values = [form(same) for form in (plain, ours)]
    gradients = [torch.autograd.grad(value, anchor)[0] for value in values]
    if not torch.allclose(*values) or not torch.allclose(*gradients, rtol=1e-3, atol=1e-7):
        raise SystemExit("bank loss: the two forms disagree")
    slow, fast = machine.medians(*(lambda form=form: torch.autograd.grad(form(), anchor) for form in (plain, ours)))
    print(
        f"bank loss, {anchors} anchors, {slots:,} slots, {positives} positives, {negatives} negatives: "
        f"{slow * 1e3:,.2f} ms one by one, {fast * 1e3:,.2f} ms ours, {slow / fast:.1f}x"
    )
    return [f"bank loss {slow / fast:.1f}x, wanted {BANK:.0f}x"] if slow / fast < BANK else []


def main(
    batch_size: int = 16,
    networks: list[str] | None = None,
    layout: Literal["ntu25", "kinect20"] = "ntu25",
    frames: int = 64,
    persons: int = 2,
    devices: list[str] | None = None,
    modes: list[Mode] | None = None,
    repeat: int = 9,
    threads: int | None = None,
    quick: bool = False,
) -> None:
    """Print the tables.

    Args:
        batch_size: Clips per step.
        networks: Those to measure; all four by default.
        layout: Joints of the clips.
        frames: Frames of the clips, at least 16.
        persons: Bodies of the clips.
        devices: cpu, cuda or both; by default what there is.
        modes: fp32, bf16, 'fp32 compiled', 'bf16 compiled'; by default the first two on a CPU, where compilation takes
            minutes, and all on a GPU.
        repeat: Turns of each form.
        threads: Threads of torch on a CPU; by default its own choice.
        quick: Only see that everything runs, with the smallest sizes.
    """
    if quick:
        batch_size, frames, repeat = 2, 16, 1
    set_up(threads)
    skeleton: Skeleton = {each.name: each for each in (NTU25, KINECT20)}[layout]
    missed = []
    for device in devices or (["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]):
        gpu = device.startswith("cuda")
        machine = Machine(torch.device(device), repeat, 64 if quick else 8192 if gpu else 2048)
        chosen = modes or (["fp32", "bf16"] + ["fp32 compiled", "bf16 compiled"] * (gpu and not quick))
        ceilings = {"fp32": machine.ceiling(torch.float32), "bf16": machine.ceiling(torch.bfloat16)}
        where = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads"
        print(
            f"\n{where}, torch {torch.__version__}, batch {batch_size}, {frames} frames, {skeleton.num_joints} joints, "
            f"{persons} bodies; fastest product {ceilings['fp32'] / 1e9:,.0f} GFLOP/s in float32, "
            f"{ceilings['bf16'] / 1e9:,.0f} in bfloat16\n"
            f"{'':<26}{'forward, clips/s':^26}{'step, clips/s':^26}{'saved MB/clip':>17}{'peak MB':>17}\n"
            f"{'':<26}{'plain':>9}{'skelcl':>9}{'ratio':>8}{'plain':>9}{'skelcl':>9}{'ratio':>8}"
            f"{'plain':>9}{'skelcl':>8}{'plain':>9}{'skelcl':>8}{'ceiling':>9}"
        )
        torch.manual_seed(1)
        x = torch.randn(batch_size, 3, frames, skeleton.num_joints, persons).to(device)
        for name in networks or NETWORKS:
            missed += compare(name, x, chosen, machine, ceilings)
        sizes = (4, 600, 8, 16, 10) if quick else (64, 40_091, 128, 512, 60)
        missed += compare_bank(machine, *sizes)
    print("\n".join(["targets missed:", *missed]) if missed else "all targets met")


if __name__ == "__main__":
    auto_cli(main)
