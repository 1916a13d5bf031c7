"""Fine-tuning: what a method has learned, trained further under a new classifier, with few labels or all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from skelcl.bounds import NonNegativeInt, PartialShare, PositiveFloat, PositiveShare, bounded
from skelcl.clips import Clips
from skelcl.encoders import Encoder
from skelcl.errors import InputError
from skelcl.methods.base import Method, decay_groups
from skelcl.methods.supervised import Supervised, TrainingData
from skelcl.runs.checkpoints import load_weights, read_checkpoint
from skelcl.transforms import View


class RepeatedData(TrainingData, Protocol):
    """Training data whose epochs can be made longer."""

    @property
    def batches_per_epoch(self) -> int:
        """Training batches of an epoch on each process."""


@bounded
class FineTune(Supervised):
    """Cross-entropy on the encoder of a method and a new classifier, both trained.

    On some labels this is the semi-supervised protocol, on all of them fine-tuning, on another data set transfer.

    Whatever method the encoder comes from, its features are taken and classified as that method wants it, so this is
    the protocol of all of them. Of the run of the method nothing but the encoder's weights is kept. The same without
    ``checkpoint``, from scratch, is the comparison that tells what pre-training gained; ``skelcl fine-tune`` runs both.

    Options that depart from the published protocols, off by default: ``encoder_lr``, ``min_steps``,
    ``class_weights``.

    Args:
        encoder: Encoder of the method.
        view: Random view of the method, or another one.
        eval_view: Deterministic view that is judged.
        num_classes: K; the command line takes it from the data.
        checkpoint: Run whose encoder weights are loaded when training starts; None trains the encoder as it is given.
        method: Makes, from encoder and views, the method whose ``encode`` and ``head`` are to be used; None is for all
            methods that do not define them: features are ``encoder(x)``, the classifier is the encoder's.
        augment: Train on ``view``; False on ``eval_view``, as AS-CAL does.
        encoder_lr: Learning rate of the encoder; None is that of the classifier, which is the optimiser's.
        layer_decay: Factor between the rates of neighbouring layers of the encoder; the classifier, and what is behind
            the encoder's last block, have the full rate (MAE and MAMP: 0.8).
        decay_all: Weight decay is for all parameters; False, as in MAE and MAMP, for those of more than one axis.
        bn: ``frozen`` leaves the statistics of the encoder's batch norms as they were pre-trained (AimCLR); their
            scales and shifts are trained either way.
        min_steps: Fewest optimiser steps of the whole training. Where the labelled clips make fewer, an epoch shows
            them several times, so that amounts of labels can be compared under one schedule.
        optimizer: As ``Supervised``.
        scheduler: As ``Supervised``.
        label_smoothing: As ``Supervised``.
        class_weights: As ``Supervised``.

    Raises:
        InputError: If a learning rate or a number of steps lies outside its range.
    """

    def __init__(
        self,
        encoder: Encoder,
        view: View,
        eval_view: View,
        num_classes: NonNegativeInt,
        checkpoint: Path | None = None,
        method: Callable[[Encoder, View, View], Method] | None = None,
        augment: bool = True,
        encoder_lr: PositiveFloat | None = None,
        layer_decay: PositiveShare = 1.0,
        decay_all: bool = True,
        bn: Literal["train", "frozen"] = "train",
        min_steps: NonNegativeInt = 0,
        optimizer: OptimizerCallable | None = None,
        scheduler: LRSchedulerCallable | None = None,
        label_smoothing: PartialShare = 0.0,
        class_weights: Literal["none", "balanced"] = "none",
    ) -> None:
        seen = view if augment else eval_view
        super().__init__(encoder, seen, eval_view, num_classes, optimizer, scheduler, label_smoothing, class_weights)
        made = None if method is None else method(encoder, view, eval_view)
        # Its way to features, but no part of it: what else it has is neither trained nor saved.
        self._encode = None if made is None else made.encode
        if made is not None:
            self.classifier = made.head(num_classes)
        self.checkpoint = checkpoint
        self.encoder_lr = encoder_lr
        self.layer_decay = layer_decay
        self.decay_all = decay_all
        self.bn = bn
        self.min_steps = min_steps
        self._started = False
        self.train()

    def encode(self, clips: Clips, view: View, random: torch.Generator | None = None) -> Tensor:
        """Features as the method takes them."""
        return super().encode(clips, view, random) if self._encode is None else self._encode(clips, view, random)

    def train(self, mode: bool = True) -> FineTune:
        """Training mode, in which frozen batch norms stay as in evaluation."""
        super().train(mode)
        if self.bn == "frozen":
            for module in self.encoder.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def setup(self, stage: str) -> None:
        """Make epochs long enough for ``min_steps``.

        Raises:
            InputError: If training would mean nothing (see ``Supervised``) or an epoch has no batch.
        """
        super().setup(stage)
        if stage == "fit" and self.data is not None:
            self._lengthen(cast(RepeatedData, self.data))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A run that goes on has the weights that it needs."""
        super().on_load_checkpoint(checkpoint)
        self._started = True

    def on_fit_start(self) -> None:
        """Load the encoder, unless this run goes on with what it has.

        Raises:
            InputError: If the weights are not those of this encoder on this data, or of another version of the views.
        """
        if self.checkpoint is not None and not self._started:
            load_encoder(self, self.checkpoint)
        self._started = True

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Encoder and classifier, or a group for each layer, from the input on; of each, first what decays."""
        rate = float(self.make_optimizer([nn.Parameter(torch.zeros(1))]).param_groups[0]["lr"])
        numbers, top = self.encoder.layer_numbers(), len(getattr(self.encoder, "blocks", ())) + 1
        if self.layer_decay == 1:
            numbers, top = dict.fromkeys(numbers, 0), 1
        # Of each parameter of the encoder, its layer and its rate; all others are the classifier's.
        own = {
            id(self.encoder.get_parameter(name)): (layer, (self.encoder_lr or rate) * self.layer_decay ** (top - layer))
            for name, layer in numbers.items()
        }
        trained = [p for p in self.parameters() if p.requires_grad]
        groups: dict[tuple[int, float, int], dict[str, Any]] = {}
        for kind, group in enumerate([{"params": trained}] if self.decay_all else decay_groups(self, tables=True)):
            for parameter in group["params"]:
                layer, lr = own.get(id(parameter), (top, rate))
                groups.setdefault((layer, lr, kind), {**group, "params": [], "lr": lr})["params"].append(parameter)
        return [groups[key] for key in sorted(groups)]

    def _lengthen(self, data: RepeatedData) -> None:
        """Show the clips as often in an epoch as ``min_steps`` asks."""
        epochs = self.trainer.max_epochs
        shown = data.repeat
        while epochs is not None and epochs > 0 and self._steps(data) * epochs < self.min_steps:
            data.repeat += 1
        if not self._steps(data):
            raise InputError(
                f"{len(data.slot_labels())} labelled clips fill no batch, and incomplete ones are dropped: "
                "use --data.drop_last false, or --model.min_steps"
            )
        if data.repeat > shown:
            rank_zero_info(
                f"FineTune: an epoch shows every labelled clip {data.repeat} times: {self._steps(data)} steps, "
                f"{self._steps(data) * (epochs or 0)} in all"
            )

    def _steps(self, data: RepeatedData) -> int:
        """Optimiser steps of an epoch."""
        return -(-data.batches_per_epoch // self.trainer.accumulate_grad_batches)


def load_encoder(method: Method, path: Path) -> None:
    """Load the encoder's weights out of the checkpoint of a run, whatever method wrote it; nothing in it is run.

    Args:
        method: With an encoder of the same class and options, and its views.
        path: Checkpoint of ``skelcl fit``.

    Raises:
        InputError: If the file holds no encoder, or another one, or was trained under another version of the views.
    """
    content = read_checkpoint(path)
    method.check_recipes(content, path)
    own = {key: value for key, value in content["state_dict"].items() if key.startswith("encoder.")}
    state = {key.removeprefix("encoder."): value for key, value in own.items()}
    if not state:
        raise InputError(f"{path}: holds no encoder")
    load_weights(method.encoder, state, path)
