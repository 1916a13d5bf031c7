"""Checkpoints as artefacts of Weights & Biases."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only


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
