"""STD-CL: supervised training, helped by contrast between the spatial and the temporal half of the feature map."""

from __future__ import annotations

import copy
import math
from typing import Literal, cast

import torch
from einops import rearrange, reduce
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.optim import Optimizer

from skelcl import losses
from skelcl.bounds import NonNegativeFloat, NonNegativeInt, PartialShare, PositiveInt, Temperature, bounded
from skelcl.clips import Clips
from skelcl.encoders import MapEncoder
from skelcl.errors import InputError
from skelcl.methods.supervised import Supervised, TrainingData
from skelcl.nn import Bank, gather
from skelcl.seeding import generator
from skelcl.transforms import View

Half = Literal["spatial", "temporal"]
Pool = Literal["mean", "attn"]


@bounded
class Decoupling(nn.Module):
    """One half of a feature map as a vector: pooled over persons and one axis, projected along the other.

    Both layers are linear, so that averaging persons before them equals averaging after them, as the released code
    does. The projection starts Kaiming-normal (fan-out) with zero bias, the reduction as PyTorch draws a 1×1 Conv1d.

    Args:
        keep: ``spatial`` keeps the joints and pools over frames, ``temporal`` the other way round.
        channels: C', width of the map.
        positions: Length of the axis that is kept.
        dim: D, width of the vector.
        reduction: The map is reduced to ⌊C'/reduction⌋ channels first.
        pool: ``mean``, or ``attn``: a softmax over the pooled axis whose logits are a learned linear map of the
            channels, zero at first and thus a mean.
    """

    def __init__(
        self,
        keep: Half,
        channels: PositiveInt,
        positions: PositiveInt,
        dim: PositiveInt = 256,
        reduction: PositiveInt = 8,
        pool: Pool = "mean",
    ) -> None:
        super().__init__()
        self.layout = "n c t v -> n c v t" if keep == "spatial" else "n c t v -> n c t v"
        self.reduce = nn.Conv1d(channels, channels // reduction, 1)
        self.project = nn.Linear(channels // reduction * positions, dim)
        self.score = nn.Parameter(torch.zeros(channels)) if pool == "attn" else None
        nn.init.kaiming_normal_(self.project.weight, mode="fan_out")
        nn.init.zeros_(self.project.bias)

    def forward(self, feature_map: Tensor) -> Tensor:
        """(N, M, C', T', V') to (N, D)."""
        x = rearrange(reduce(feature_map, "n m c t v -> n c t v", "mean"), self.layout)
        if self.score is None:
            pooled = x.mean(-1)
        else:
            weight = torch.einsum("ncq,c->nq", x.mean(2), self.score).float().softmax(1)
            pooled = torch.einsum("ncpq,nq->ncp", x, weight.to(x.dtype))
        return self.project(rearrange(self.reduce(pooled), "n r p -> n (r p)"))


@bounded
class STDCL(Supervised):
    """STD-CL (Zhang et al., arXiv 2312.15144; its journal version is called CSRE).

    Cross-entropy, and in training only two contrastive terms: a head pools the feature map into a spatial and a
    temporal vector, and each is contrasted with a bank that holds the last such vector of every training clip. The
    gradient reaches the encoder. Head and banks are gone at test: encoder and classifier are those of ``Supervised``.
    The defaults of heads, banks and loss are the released code's, those of optimiser and schedule ``Supervised``'s; the
    journal's text adds the terms in full, ``w_spa = w_tem = 1``. With both weights 0 neither head nor bank exists, and
    every number is that of ``Supervised``.

    Deviations: all anchors of a step read their random negatives from one shuffle of the bank, each from a random place
    on (:meth:`Bank.candidates <skelcl.nn.Bank.candidates>`), where the release draws them anew for each. The last,
    smaller batch of an epoch is trained on, as with ``Supervised``; without it its clips would keep their old slots. As
    there, a step in which no anchor counts leaves the heads alone, weight decay and momentum included.

    Options that depart from the reference, off by default: ``label_smoothing``, ``pool``, ``exclude_self``,
    ``shrink_positives``, ``contrast_start_epoch``, ``class_weights``.

    Args:
        encoder: Encoder with a feature map.
        view: Random view that training sees.
        eval_view: Deterministic view that is judged.
        num_classes: Number of classes; the command line takes it from the data.
        optimizer: As ``Supervised``.
        scheduler: As ``Supervised``.
        label_smoothing: As ``Supervised``.
        dim: D, width of the contrasted vectors.
        reduction: The head first divides the channels of the map by this.
        pool: How the head pools: ``mean``, or ``attn``, learned softmax weights.
        positives: P, hard positives of an anchor.
        negatives: K, hard negatives of an anchor, and as many random ones.
        temperature: τ.
        w_spa: Weight of the spatial term, which is ln(K + 1) before anything is learned, and hardly falls below 5 with
            the default K and τ.
        w_tem: Weight of the temporal term, of which the same is true.
        exclude_self: Never take the anchor's own slot as its positive, which was written a moment ago.
        shrink_positives: Lower P to the size of the smallest class instead of refusing it.
        contrast_start_epoch: First epoch, from 0, whose contrast counts; before it the banks only fill.
        class_weights: As ``Supervised``.
    """

    encoder: MapEncoder

    def __init__(
        self,
        encoder: MapEncoder,
        view: View,
        eval_view: View,
        num_classes: NonNegativeInt,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        label_smoothing: PartialShare = 0.0,
        dim: PositiveInt = 256,
        reduction: PositiveInt = 8,
        pool: Pool = "mean",
        positives: PositiveInt = 128,
        negatives: PositiveInt = 512,
        temperature: Temperature = 0.8,
        w_spa: NonNegativeFloat = 0.5,
        w_tem: NonNegativeFloat = 0.5,
        exclude_self: bool = False,
        shrink_positives: bool = False,
        contrast_start_epoch: NonNegativeInt = 0,
        class_weights: Literal["none", "balanced"] = "none",
    ) -> None:
        super().__init__(encoder, view, eval_view, num_classes, optimizer, scheduler, label_smoothing, class_weights)
        self.dim = dim
        self.reduction = reduction
        self.pool: Pool = pool
        self.positives = positives
        self.negatives = negatives
        self.temperature = temperature
        weights: dict[Half, float] = {"spatial": w_spa, "temporal": w_tem}
        self.weights = {name: weight for name, weight in weights.items() if weight}
        self.exclude_self = exclude_self
        self.shrink_positives = shrink_positives
        self.contrast_start_epoch = contrast_start_epoch
        self.heads = nn.ModuleDict()
        self.banks = nn.ModuleDict()
        self._banks_serve = False
        self._anchors: Tensor | int = 0
        self.register_load_state_dict_pre_hook(  # type: ignore[no-untyped-call]
            _drop_what_only_training_has
        )

    def setup(self, stage: str) -> None:
        """Make head and banks for the data of this run; no other stage than ``fit`` has them.

        Raises:
            InputError: If no data module tells the training clips, or the bank would be too small for P or K.
        """
        super().setup(stage)
        if stage != "fit" or not self.weights:
            return
        if self.data is None:
            raise InputError("STDCL needs a SkeletonDataModule, which names the training clips; plain loaders do not")
        label = self.data.slot_labels()
        self.num_positives = self._num_positives(label, self.data)
        if not len(self.heads):
            self._make_heads(self.data)
        for name in self.weights:
            # A second ``fit`` on the same data goes on with what the banks hold.
            if name not in self.banks or not torch.equal(cast(Bank, self.banks[name]).label.cpu(), label):
                self.banks[name] = Bank(label, self.dim).to(self.device)

    def _num_positives(self, label: Tensor, data: TrainingData) -> int:
        """P, or what ``shrink_positives`` makes of it, after a look at the classes (S,) of all slots."""
        count = label.bincount()
        many, few = int(count.argmax()), int(count.where(count > 0, len(label)).argmin())
        available = int(count[few]) - self.exclude_self
        least = 1 if self.shrink_positives else self.positives
        if available < least:  # a term is zero until the banks hold P positives and K negatives
            repeat = max(5, math.ceil((least + self.exclude_self) * data.repeat / int(count[few])))
            raise InputError(
                f"class {data.class_names[few]!r} has {available} possible positives in the bank "
                f"({count[few] // data.repeat} training clips, repeated {data.repeat} times), fewer than "
                f"P = {self.positives}, so its contrast would silently be zero: "
                f"use --data.repeat {repeat} or --model.shrink_positives true"
            )
        rest = len(label) - int(count[many])
        if rest < self.negatives:
            raise InputError(
                f"class {data.class_names[many]!r} has {rest} possible negatives in the bank, fewer than "
                f"K = {self.negatives}, so its contrast would silently be zero: "
                f"use --model.negatives {rest}, or a larger --data.repeat than {data.repeat}"
            )
        if available < self.positives:
            rank_zero_info(
                f"STDCL: positives shrunk from {self.positives} to {available}, the size of the smallest class"
            )
        return min(available, self.positives)

    def _make_heads(self, data: TrainingData) -> None:
        """Heads for the map that this encoder makes of this data, drawn apart from the randomness of all else."""
        x = torch.zeros(1, data.channels, self.view.frames, data.skeleton.num_joints, data.num_persons)
        with torch.no_grad():
            feature_map, _ = copy.deepcopy(self.encoder).eval().with_map(x.to(self.device))
        _, _, channels, frames, joints = feature_map.shape
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(generator("heads").initial_seed())
            for name in self.weights:
                positions = joints if name == "spatial" else frames
                head = Decoupling(name, channels, positions, self.dim, self.reduction, self.pool)
                self.heads[name] = head.to(self.device)

    def training_step(self, clips: Clips, batch_idx: int) -> dict[str, Tensor]:
        """Classify one random view of each clip, and contrast both halves of its feature map with the banks."""
        if not self.weights:
            return super().training_step(clips, batch_idx)
        with self.step_dropout(batch_idx):
            feature_map, features = self.encoder.with_map(self.view(clips, self.step_generator(batch_idx)))
            logits = self.classify(features)
        loss = self.cross_entropy(logits, clips.label)
        terms, counts = {"train/cross_entropy": loss}, self.current_epoch >= self.contrast_start_epoch
        slots = cast(TrainingData, self.data).slots(clips)
        random = generator("negatives", self.current_epoch, batch_idx, device=self.device)
        for name, weight in self.weights.items():
            term, valid, number = self._contrast(name, self.heads[name](feature_map), clips.label, slots, random)
            # Times zero rather than left out: distributed training wants a gradient for every weight.
            loss = loss + weight * counts * term
            self._anchors = self._anchors + counts * number
            terms |= {f"train/{name}": term, f"train/{name}_valid": valid.float().mean()}
        self._log(loss, logits, clips.label, terms)
        return {"loss": loss}

    def _contrast(
        self, name: str, half: Tensor, label: Tensor, slots: Tensor, random: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Write the vectors (N, D) into their bank, then contrast them with it.

        Returns:
            Loss, scaled so that its mean over ranks is the mean over the valid anchors of all ranks; which anchors
            (N,) are valid; how many of all ranks are.
        """
        bank = cast(Bank, self.banks[name])
        bank.write(half, slots)
        order = torch.randperm(len(bank), generator=random, device=half.device)
        # Drawn for the anchors of all ranks, in rank order: the draw of one process with the whole batch.
        n = len(half)
        start = torch.rand(self.trainer.world_size * n, generator=random, device=half.device)
        rows, valid = losses.bank_contrast(
            half,
            label,
            bank.features,
            bank.members,
            bank.filled,
            bank.candidates(order, start[self.global_rank * n : (self.global_rank + 1) * n], self.negatives),
            self.num_positives,
            self.negatives,
            self.temperature,
            slots if self.exclude_self else None,
        )
        counts = gather(valid.sum().reshape(1))
        return rows.sum() * len(counts) / counts.sum().clamp(min=1), valid, counts.sum()

    def on_train_epoch_start(self) -> None:
        """Once the banks have slots for every anchor, steps need not check the validity of theirs any more."""
        positives = self.num_positives + self.exclude_self if self.banks else 0
        self._banks_serve = self.current_epoch >= self.contrast_start_epoch and all(
            cast(Bank, bank).serves(positives, self.negatives) for bank in self.banks.values()
        )

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Drop the gradient of heads that no anchor used, so that weight decay and momentum do not move them."""
        if not self._banks_serve and not self._anchors:
            for parameter in self.heads.parameters():
                parameter.grad = None
        self._anchors = 0


def _drop_what_only_training_has(module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Leave heads and banks of a checkpoint out where they are not made: outside training."""
    for name in ("heads", "banks"):
        if not len(cast(nn.ModuleDict, module.get_submodule(name))):
            for key in [key for key in state_dict if key.startswith(f"{prefix}{name}.")]:
                del state_dict[key]
