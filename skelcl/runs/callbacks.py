"""What watches over every run: losses that are finite, signals that are answered, checkpoints that are whole."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher, _SubprocessScriptLauncher
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from skelcl.clips import Clips
from skelcl.data import SkeletonDataModule
from skelcl.errors import InputError, OptionError
from skelcl.files import atomic_write
from skelcl.nn import gather
from skelcl.runs.interruption import PROGRAM, SIGNALS

MAX_COORDINATE = 1e6
"""No body has such coordinates, in whatever unit."""
RUNNING = ("running_mean", "running_var")
"""What batch norms remember for evaluation: a loss of training does without."""
CLIPS_AT_ONCE = 256
"""So many clips are read at once to find one that has them."""
MIN_TEMPERATURE = 1e-3
"""Below such a temperature logits overflow or are all but infinite."""
MAX_NAMES = 3
"""So many clips are named, and the others counted."""


class StepLoss(NamedTuple):
    """The loss of a training step that was not checked yet."""

    epoch: int
    batch: int
    step: int
    loss: Tensor
    positions: Tensor | None
    clips: Clips | None


class FiniteLoss(pl.Callback):
    """Ends a run at the first loss that is not finite, in one line that names step, batch, clips and likely cause.

    One process on the CPU looks after every step. An accelerator is not waited for, nor are other processes: the losses
    of ``every`` steps are looked at together while the next ones run. Before a checkpoint is written and at the end of
    each epoch all of them have been, and the weights too, so the last checkpoint of a run is a good one. A gradient
    that ``GradScaler`` finds to be infinite, and leaves out, is none of a loss.

    Args:
        every: Steps between two looks.

    Raises:
        InputError: From the hooks, on the first process; the others end without a word.
    """

    def __init__(self, every: int = 50) -> None:
        self.every = every
        self._pending: list[StepLoss] = []
        self._in_flight: tuple[list[StepLoss], Tensor, torch.cuda.Event | None] | None = None
        self._checked = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget what another run left."""
        self._pending, self._in_flight, self._checked = [], None, True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the loss of a step."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if not isinstance(loss, Tensor):
            return
        at_once = needs_no_sync(loss, trainer)
        clips = batch if isinstance(batch, Clips) else None
        positions = None if clips is None else clips.index
        epoch, step = trainer.current_epoch, trainer.global_step
        # Of a batch on an accelerator only the numbers of its clips are kept: many batches take much memory.
        self._pending.append(
            StepLoss(epoch, batch_idx, step, loss.detach().reshape(()), positions, clips if at_once else None)
        )
        self._checked = False
        if at_once or len(self._pending) >= self.every:
            self._finish_check(trainer, pl_module)
            self._start_check()
            if at_once:
                self._finish_check(trainer, pl_module)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look before anything is judged."""
        self._check(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look before anything is saved."""
        self._check(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Look before a good checkpoint is replaced, in the middle of an epoch, too."""
        self._check(trainer, pl_module)

    def _check(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Look at all losses so far, and at the weights."""
        if self._checked:
            return
        self._finish_check(trainer, module)
        self._start_check()
        self._finish_check(trainer, module)
        self._checked = True
        running = [buffer for name, buffer in module.named_buffers() if name.rpartition(".")[2] in RUNNING]
        finite = [weights.detach().isfinite().all() for weights in (*module.parameters(), *running)]
        # Batch norms of one process alone may be spoilt, and all have to end.
        if finite and gather(~torch.stack(finite).all()[None]).any():
            cause = _cause(trainer, module, None, ())
            _abort(
                trainer, f"the weights are not finite after step {trainer.global_step}, though all losses were: {cause}"
            )

    def _start_check(self) -> None:
        """Start to find out which of the noted losses are not finite, on all processes."""
        if not self._pending:
            return
        bad = gather(~torch.stack([one.loss for one in self._pending]).isfinite())
        event = None
        if bad.device.type == "cuda":
            bad = bad.to("cpu", non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # not annotated
            event.record()
        self._pending, self._in_flight = [], (self._pending, bad, event)

    def _finish_check(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Take what was asked for, and end the run where a loss was not finite."""
        if self._in_flight is None:
            return
        (seen, bad, event), self._in_flight = self._in_flight, None
        if event is not None:
            event.synchronize()
        bad = bad.cpu().view(-1, len(seen))
        if not bad.any():
            return
        step = int(bad.any(0).nonzero()[0])
        rank = int(bad[:, step].nonzero()[0])
        # Gradients are averaged, so this step spoilt the weights of all processes; one of them knows its clips.
        message = _diagnosis(trainer, module, seen[step]) if trainer.global_rank == rank else ""
        _abort(trainer, trainer.strategy.broadcast(message, src=rank))


def needs_no_sync(loss: Tensor, trainer: pl.Trainer) -> bool:
    """Whether a loss can be read without waiting for an accelerator or for other processes."""
    return loss.device.type == "cpu" and trainer.world_size == 1


def _abort(trainer: pl.Trainer, message: str) -> None:
    """End a run on all processes at once, with one line."""
    PROGRAM.end_ranks()
    if not trainer.is_global_zero and not isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise SystemExit(1)  # the line of a forked process is told by the one that forked it, whichever ended first
    kept = newest_checkpoint(trainer)
    raise InputError(f"{message}; " + ("there is no checkpoint yet" if kept is None else f"kept as it was: {kept}"))


def _diagnosis(trainer: pl.Trainer, module: pl.LightningModule, seen: StepLoss) -> str:
    data: Any = getattr(trainer, "datamodule", None)
    clips, names = seen.clips, []
    if seen.positions is not None:
        index = seen.positions.cpu()
        names = [f"number {n}" for n in index.tolist()]
        if isinstance(data, SkeletonDataModule):
            clips, names = data.store.clips(index.numpy(), data.num_persons), [str(data.ids[n]) for n in index]
    cause = _cause(trainer, module, clips, names)
    of = f" of clips {_join_names(names)}" if names else ""
    where = f"epoch {seen.epoch}, batch {seen.batch}{of}"
    return f"the loss is {seen.loss.item():g} at step {seen.step} ({where}); likely cause: {cause}"


def _cause(trainer: pl.Trainer, module: pl.LightningModule, clips: Clips | None, names: Any) -> str:
    """The first suspect of coordinates, precision, temperature and learning rate."""
    # A clip may have spoilt the weights in a step before, or the clips that it is contrasted with in other processes.
    for some, called in chain([] if clips is None else [(clips, names)], _training_clips(trainer)):
        sizes = _max_abs(some)
        if wrong := [name for name, size in zip(called, sizes, strict=True) if not size < MAX_COORDINATE]:
            return f"coordinates up to {max(sizes):.3g} in {_join_names(wrong)}, which no body has; leave them out"
    if str(trainer.precision).startswith("16"):
        return f"{trainer.precision}, which ends at 65504; take --trainer.precision bf16-mixed or 32-true"
    for name, value in vars(module).items():
        if "temperature" in name and isinstance(value, float) and not value >= MIN_TEMPERATURE:
            return f"{name} {value:g} is too small"
    rate = max(group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups)
    return f"the learning rate {rate:g} is too large"


def _training_clips(trainer: pl.Trainer) -> Iterator[tuple[Clips, list[str]]]:
    """The training part of a data module of ours, some clips at a time, with their names."""
    data: Any = getattr(trainer, "datamodule", None)
    if isinstance(data, SkeletonDataModule):
        train = data.parts["train"]
        for first in range(0, len(train), CLIPS_AT_ONCE):
            some = train[first : first + CLIPS_AT_ONCE]
            yield data.store.clips(some, data.num_persons), [str(name) for name in data.ids[some]]


def _max_abs(clips: Clips) -> list[float]:
    """The largest absolute coordinate of each clip, but for bodies that were not seen."""
    sizes = []
    for start, rows in zip(clips.offsets.tolist(), (clips.frames * clips.bodies).tolist(), strict=True):
        sizes.append(clips.joints[start : start + rows].abs().nan_to_num(0.0, torch.inf).max().item())
    return sizes


def _join_names(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def newest_checkpoint(trainer: pl.Trainer) -> Path | None:
    """The checkpoint that a run wrote last, or else that it went on from; None when there is none."""
    callbacks = [one for one in trainer.checkpoint_callbacks if isinstance(one, ModelCheckpoint)]
    # A run that goes on with another has the names of that one's checkpoints, too.
    saved = [one.best_model_path for one in callbacks if Path(one.best_model_path).parent == Path(one.dirpath or "")]
    for path in (*saved, trainer.ckpt_path):
        if path and Path(path).is_file():
            found, here = Path(path), Path.cwd()
            return found.relative_to(here) if found.is_relative_to(here) else found
    return None


class Interruptions(pl.Callback):
    """Lets a run of the command line answer to SIGINT and SIGTERM as its program does, in any process of it.

    Lightning's own handler of SIGTERM waits for the end of the batch, leaves with exit code 0, and under several
    processes with a broadcast that hangs when only one of them got the signal. What it does on SLURM's signal stays.
    """

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Replace Lightning's handlers: the other processes are started by now, and its handlers are not set yet."""
        launcher = trainer.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher) and launcher.procs:
            PROGRAM.ranks = launcher.procs
        trainer._signal_connector = _Signals(trainer)


class _Signals(_SignalConnector):
    def register_signal_handlers(self) -> None:
        super().register_signal_handlers()
        if isinstance(self.trainer.strategy.launcher, _MultiProcessingLauncher):
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the process that forked this one waits for it
        PROGRAM.take_signals()


@contextmanager
def forked_processes() -> Iterator[None]:
    """What ended a forked process of a run ends this one: a signal, or an error that the user can mend.

    Raises:
        InputError: In the place of the error of a process.
    """
    try:
        yield
    except ProcessExitedException as error:
        for one in SIGNALS:
            if error.signal_name == one.name:
                signal.raise_signal(one)
        raise
    except ProcessRaisedException as error:
        kind, _, message = str(error).strip().splitlines()[-1].partition(": ")
        if not kind.startswith("skelcl.") or not kind.endswith("Error"):
            raise
        raise (OptionError if kind.endswith(".OptionError") else InputError)(message) from error


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it: what carries the name is whole, after a kill or a full disk.

    Lightning writes in the folder for temporary files, and where that is another file system it then copies over the
    good file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Save a checkpoint; one on a remote file system as Lightning does."""
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with atomic_write(Path(path)) as part, part.open("wb") as file:
            torch.save(checkpoint, file)


class CheckpointArtifacts(pl.Callback):
    """Hands the checkpoints of a run to its W&B logger when training ends, as versions of the artefact ``model-ID``.

    The last epoch's has the alias ``last``, that of a ``ModelCheckpoint`` with a monitor ``best``. The logger's own
    ``log_model`` would call both of them best.
    """

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what was saved."""
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                run = logger.experiment
                for callback in trainer.checkpoint_callbacks:
                    if isinstance(callback, ModelCheckpoint) and Path(callback.best_model_path).is_file():
                        alias = "last" if callback.monitor is None else "best"
                        run.log_artifact(callback.best_model_path, f"model-{run.id}", "model", aliases=[alias])
