"""What every method shares: an encoder, its deterministic view, optimisation and reproducible randomness."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Protocol, TypedDict, runtime_checkable

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from skelcl.clips import Clips
from skelcl.encoders import Encoder
from skelcl.errors import InputError, OptionError
from skelcl.methods.schedules import StepSchedule
from skelcl.nn import Queue
from skelcl.seeding import generator, seeded
from skelcl.skeleton import Skeleton
from skelcl.transforms import View
from skelcl.transforms.normalize import check_versions, versions

SCHEDULE_KEYS = {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum"}
"""What schedules write among the settings of an optimiser."""
RECIPES_KEY = "skelcl_recipes"
"""Where a checkpoint carries the versions of the normalisation recipes that its weights were learned under."""


class Features(TypedDict):
    """What a self-supervised method gives for evaluation: features (N, dim), label (N,), store position (N,)."""

    features: Tensor
    label: Tensor
    index: Tensor


@runtime_checkable
class Batches(Protocol):
    """What is read off a data module of its batches."""

    batch_size: int
    num_slots: int
    channels: int
    skeleton: Skeleton
    num_persons: int


class Method(pl.LightningModule):
    """Base of all methods. A subclass adds its parts in ``__init__`` and computes its loss in ``training_step``.

    Args:
        encoder: Maps views to features; the part that is kept after pre-training.
        eval_view: Deterministic view under which features are taken.
        optimizer: From trainable parameters to an optimiser.
        scheduler: From the optimiser to a schedule that steps once an epoch, or with every step of the optimiser if it
            is a :class:`~skelcl.methods.schedules.StepSchedule`; None keeps the learning rate.

    Raises:
        OptionError: If optimiser or schedule have settings under which they cannot work.

    Attributes:
        needs_labels: Whether training reads the classes of the clips: those without one are then left out.
    """

    needs_labels: ClassVar[bool] = False

    def __init__(
        self,
        encoder: Encoder,
        eval_view: View,
        optimizer: OptimizerCallable,
        scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.eval_view = eval_view
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        _check_rates(optimizer, scheduler)

    def setup(self, stage: str) -> None:
        """Refuse batches that the contrast cannot work with, and views that need depth where the data have none.

        Raises:
            OptionError: If a batch overruns a queue of keys, one clip is all that the method contrasts, or a view takes
                three coordinates per joint and the data have two.
        """
        # Once for each step of the optimiser is when the hook after it is wanted.
        warnings.filterwarnings("ignore", r"When using `Trainer\(accumulate_grad_batches != 1\)` and overriding")
        data: object = getattr(self._trainer, "datamodule", None)
        if stage != "fit" or not isinstance(data, Batches):
            return
        batch = min(data.batch_size * self.trainer.world_size, data.num_slots)
        sizes = [len(part) for part in self.modules() if isinstance(part, Queue)]
        if sizes and min(sizes) < batch:
            raise OptionError(
                f"{type(self).__name__}: queue_size {min(sizes)} is smaller than the batch of {batch} clips, "
                "whose keys it has to keep: use a larger --model.queue_size or a smaller --data.batch_size"
            )
        if self.contrasts_batch and batch < 2:
            raise OptionError(
                f"{type(self).__name__} contrasts the clips of a batch with each other, and a batch has one clip: its "
                "loss would be zero for ever; use a larger --data.batch_size"
            )
        if data.channels == 2:
            self._try_planar(data)

    def _try_planar(self, data: Batches) -> None:
        """Makes every view of a clip in the plane, and tells what its parts do there."""
        random = torch.Generator().manual_seed(0)
        joints = torch.rand(2, data.skeleton.num_joints, 2, generator=random)
        one = torch.zeros(1, dtype=torch.int64)
        clip = Clips(joints, one, one + 2, one + 1, one, one, one, data.skeleton, data.num_persons)
        views = [part for part in self.modules() if isinstance(part, View)]
        for view in views:
            try:
                view(clip, random)
            except InputError as error:
                raise OptionError(f"{type(self).__name__}: {error}") from error
        if told := dict.fromkeys(line for view in views for line in view.planar):
            rank_zero_info(f"two coordinates per joint: {'; '.join(told)}")

    @property
    def contrasts_batch(self) -> bool:
        """Whether negatives are the other clips of the batch."""
        return False

    def encode(self, clips: Clips, view: View, random: torch.Generator | None = None) -> Tensor:
        """Features of one view of each clip, with gradients.

        A method whose features are more than ``encoder(x)``, two streams for example, overrides this, and :meth:`head`
        with it: fine-tuning trains what they make together. So this uses no weights but the encoder's, and nothing of
        the run, such as the trainer or the method's own training mode.

        Args:
            clips: N clips.
            view: What of them is seen: the deterministic view, or a random one.
            random: Source of the view's randomness.

        Returns:
            (N, dim), or whatever :meth:`head` takes.
        """
        return self.encoder(view(clips, random))

    def head(self, num_classes: int) -> nn.Module:
        """A new classifier from what :meth:`encode` gives to ``num_classes`` logits."""
        return self.encoder.classifier(num_classes)

    def forward(self, clips: Clips) -> Tensor:
        """Features (N, dim) of the deterministic view."""
        return self.encode(clips, self.eval_view)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What is trained, as torch's optimisers take it: a group of parameters each, with options of its own."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One optimiser over :meth:`parameter_groups`, one schedule, which steps as often as it says."""
        optimizer = self.make_optimizer(self.parameter_groups())
        if self.make_scheduler is None:
            return optimizer
        schedule = self.make_scheduler(optimizer)
        if not isinstance(schedule, StepSchedule):
            return {"optimizer": optimizer, "lr_scheduler": schedule}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Tell a schedule of steps how many an epoch has.

        Raises:
            OptionError: The data do not tell how long an epoch is.
        """
        # Not earlier: loaders that are made before a checkpoint is restored do not go on within an epoch.
        schedules = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        for schedule in (one for one in schedules if isinstance(one, StepSchedule)):
            batches = self.trainer.num_training_batches
            if not math.isfinite(batches):
                raise OptionError("scheduler: it follows shares of an epoch, and the data do not tell how long that is")
            schedule.count(max(1, -(-int(batches) // self.trainer.accumulate_grad_batches)))

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step, then :meth:`on_after_optimizer_step`."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.on_after_optimizer_step()

    def on_after_optimizer_step(self) -> None:
        """Update what follows the weights, a momentum encoder for example; does nothing by default.

        Called after each step of the optimiser, so once for the batches whose gradients are accumulated, and also
        where the gradient scaler of float16 skips the step.
        """

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the versions of the normalisation recipes that the weights were learned under."""
        checkpoint[RECIPES_KEY] = versions()

    def check_recipes(self, checkpoint: Mapping[str, Any], path: object, past: str | None = None) -> None:
        """Refuses weights that were learned under another version of a recipe than the views apply.

        Args:
            checkpoint: What holds the weights.
            path: Its file, for the message.
            past: Recipe that the clips went through before they were imported; None is that of the trainer's data.

        Raises:
            InputError: If they were.
        """
        store = getattr(getattr(self._trainer, "datamodule", None), "store", None)
        past = getattr(store, "recipe", "none") if past is None else past
        try:
            check_versions(self, checkpoint.get(RECIPES_KEY, {}), past)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A run that goes on has the optimiser's settings and the schedule of its own config, as if from the start.

        PyTorch would take both from the checkpoint, and what the command line says of them would change nothing.

        Raises:
            InputError: If the checkpoint's optimiser has settings that this one does not know, or the weights were
                learned under another version of a recipe of the views.
        """
        self.check_recipes(checkpoint, getattr(self._trainer, "ckpt_path", None) or "the checkpoint")
        if self._trainer is None or not self.trainer.training or not checkpoint.get("optimizer_states"):
            return
        _reopen_epoch(checkpoint["loops"]["fit_loop"])
        made: Any = self.configure_optimizers()
        optimizer, schedule = (made["optimizer"], made.get("lr_scheduler")) if isinstance(made, dict) else (made, None)
        schedule = schedule["scheduler"] if isinstance(schedule, dict) else schedule
        other = not isinstance(optimizer, Optimizer) or not isinstance(schedule, LRScheduler | None)
        if other or isinstance(schedule, ReduceLROnPlateau) or self.trainer.strategy.restore_checkpoint_after_setup:
            return
        saved = checkpoint["optimizer_states"][0]["param_groups"]
        unknown = sorted(saved[0].keys() - optimizer.param_groups[0].keys() - SCHEDULE_KEYS)
        if unknown:
            raise InputError(
                f"the checkpoint's optimiser has {', '.join(unknown)}, which {type(optimizer).__name__} lacks: "
                "a run goes on with the optimiser that it began with"
            )
        if schedule is not None:
            before = (checkpoint["lr_schedulers"] or [{}])[0]
            stepped = isinstance(schedule, StepSchedule)
            done = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
            epochs = before.get("last_epoch", checkpoint["global_step"] if stepped else done)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
                for _ in range(epochs):
                    schedule.step()
            checkpoint["lr_schedulers"] = [schedule.state_dict()]
        for group, own in zip(saved, optimizer.param_groups, strict=False):
            group.update({name: value for name, value in own.items() if name != "params"})

    def step_generator(self, batch_idx: int) -> torch.Generator:
        """Randomness of one training step, derived from (seed, rank, epoch, batch): a resumed run draws it again."""
        return generator("views", self.global_rank, self.current_epoch, batch_idx, device=self.device)

    def step_dropout(self, batch_idx: int) -> AbstractContextManager[None]:
        """A block whose dropout is that of one training step: it draws global numbers, which no checkpoint holds."""
        return seeded("dropout", self.global_rank, self.current_epoch, batch_idx, device=self.device)

    def validation_step(self, clips: Clips, batch_idx: int, dataloader_idx: int = 0) -> Features:
        """Features for whichever evaluation listens."""
        return {"features": self(clips), "label": clips.label, "index": clips.index}

    test_step = validation_step
    predict_step = validation_step


def decay_groups(module: nn.Module, tables: bool = False) -> list[dict[str, Any]]:
    """Parameter groups of which one decays: the weights of linear layers and convolutions.

    Biases, norms, embeddings and whatever else a module has as a parameter of its own do not.

    Args:
        module: Whose trainable parameters they are.
        tables: Whatever has more than one axis decays, as in MAE and its kin: positions and mask tokens, too.

    Returns:
        First the group that decays as the optimiser says, then one whose ``weight_decay`` is 0, each in the order of
        ``module.parameters()``; an empty one is left out.
    """
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    weights = {id(part.weight) for part in module.modules() if isinstance(part, layers)}
    trained = [p for p in module.parameters() if p.requires_grad]
    decays = [id(p) in weights or (tables and p.ndim > 1) for p in trained]
    decaying: dict[str, Any] = {"params": [p for p, yes in zip(trained, decays, strict=True) if yes]}
    others: dict[str, Any] = {
        "params": [p for p, yes in zip(trained, decays, strict=True) if not yes],
        "weight_decay": 0.0,
    }
    return [group for group in (decaying, others) if group["params"]]


def _check_rates(make: OptimizerCallable, schedule: LRSchedulerCallable | None) -> None:
    """Refuses settings that torch refuses, and those that it takes though nothing can be learnt with them."""
    try:
        optimizer = make([nn.Parameter(torch.zeros(1))])
    except ValueError as error:
        raise OptionError(f"optimizer: {error}") from error
    for group in optimizer.param_groups:
        if not 0 < float(group["lr"]) < math.inf:
            raise OptionError(f"optimizer: lr must be above 0, got {group['lr']}")
        if not 0 <= group.get("momentum", 0) < 1:
            raise OptionError(f"optimizer: momentum must be in [0, 1), got {group['momentum']}")
    if schedule is None:
        return
    try:
        gamma = getattr(schedule(optimizer), "gamma", 1.0)
    except ValueError as error:
        raise OptionError(f"scheduler: {error}") from error
    if not 0 < gamma < math.inf:
        raise OptionError(f"scheduler: gamma must be above 0, got {gamma:g}")


def _reopen_epoch(loop: dict[str, Any]) -> None:
    """Let a run go on where it ended: within an epoch, by ``max_steps`` for example, or behind the last batch of one.

    Lightning counts an epoch that ended within as done, and would give its remaining batches the order of the next one.
    Behind a last batch it would go on without counting the next epoch as begun, so that nobody is told of its start and
    a second checkpoint, within it, is taken for one of the epoch before.
    """
    batches, epochs = loop["epoch_loop.batch_progress"], loop["epoch_progress"]
    begun, done = epochs["current"]["started"], epochs["current"]["processed"]
    if not batches["current"]["processed"]:
        return
    if batches["is_last_batch"] and done == begun - 1:
        for count in (epochs["current"], epochs["total"]):
            count["processed"] = count["completed"] = count["started"]
        for count in (batches["current"], batches["total"]):
            count["completed"] = count["processed"]
        loop["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
    elif not batches["is_last_batch"] and done == begun:
        for count in (epochs["current"], epochs["total"]):
            count["processed"] = count["completed"] = count["started"] - 1
