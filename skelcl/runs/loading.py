"""A run rebuilt from its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError
from lightning.pytorch.cli import ArgsType, LightningArgumentParser
from torch import nn

from skelcl.data import SkeletonDataModule
from skelcl.errors import InputError, OptionError, reason
from skelcl.methods import Method
from skelcl.runs.checkpoints import load_weights, read_checkpoint
from skelcl.runs.config import ConfigCLI
from skelcl.runs.trainer_options import hushed
from skelcl.runs.trust import stored_config
from skelcl.seeding import untouched, use_seed


class _Viewer(ConfigCLI):
    """Builds model and data of a checkpoint and no trainer; its config is told by the file that it comes from.

    Args:
        path: The checkpoint.
        config: Its config.
        changed: Options were laid over it, which are to blame when it does not fit.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], changed: bool = False) -> None:
        self.path = path
        self.changed = changed
        super().__init__(save_config_callback=None, run=False, args=config)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the config.

        Raises:
            InputError: It is of no run of this version.
            OptionError: It does not fit, with options laid over it.
        """
        parser.exit_on_error = False
        try:
            super().parse_arguments(parser, args)
        except (ArgumentError, TypeError, ValueError, KeyError, AttributeError) as error:
            if self.changed:
                raise OptionError(reason(str(error))) from error
            raise InputError(f"{self.path}: the config in it does not fit: {reason(str(error))}") from error

    def _set_seed(self) -> None:
        seed = self.config.get("seed_everything")
        use_seed(seed if isinstance(seed, int) else 0)

    def instantiate_trainer(self, **kwargs: Any) -> None:  # type: ignore[override]  # looking at a run needs none
        """None is made: the machine that it was trained on may be another, and its loggers would write."""


def load(
    path: str | Path,
    weights: bool = True,
    changes: Mapping[str, Any] | None = None,
    encoder_only: bool = False,
    trust: str | Sequence[str] | None = None,
) -> tuple[Method, SkeletonDataModule]:
    """Rebuild a run from its checkpoint, for notebooks and pictures. What is global in the process stays as it is.

    Args:
        path: Checkpoint written by ``skelcl fit``.
        weights: Load the weights too; False leaves the model as it was initialised.
        changes: Parts of its config that are replaced, ``{"data": …}`` for another data set.
        encoder_only: Load the weights of the encoder and no others, which may belong to other classes or clips.
        trust: Modules whose classes its config may name, beside those of skelcl and torch.optim; a text separates them
            by commas.

    Returns:
        The method in eval mode, and its data module, set up.

    Raises:
        InputError: If the file is no checkpoint, holds no config, one that names classes which are not trusted, or its
            weights do not fit model and data.
        OptionError: If its config does not fit with ``changes``.
    """
    path = Path(path)
    config = {**stored_config(path, trust), **(changes or {}), "trainer": {}}
    with untouched(), hushed():
        cli = _Viewer(path, config, bool(changes))
        if weights:
            content = read_checkpoint(path)
            # Other data say nothing of what the clips that the weights know went through.
            cli.model.check_recipes(content, path, "none" if encoder_only else cli.datamodule.store.recipe)
            state: Mapping[str, Any] = content["state_dict"]
            module: nn.Module = cli.model.encoder if encoder_only else cli.model
            if encoder_only:
                state = {key.removeprefix("encoder."): one for key, one in state.items() if key.startswith("encoder.")}
            load_weights(module, state, path)
        cli.datamodule.setup("predict")
        return cli.model.eval(), cli.datamodule
