"""The parser of runs: model, data and the callbacks that every run has, from YAML and options to one config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from jsonargparse import set_dumper, set_parsing_settings
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

import skelcl.encoders
import skelcl.transforms  # noqa: F401  (imported so that bare class names resolve in YAML)
from skelcl import __version__
from skelcl.data import SkeletonDataModule
from skelcl.data.facts import DataFacts
from skelcl.errors import OneLineErrors
from skelcl.evaluation import FeatureWriter, FrozenEvaluation, OnlineKNN, SupervisedEvaluation
from skelcl.methods import Method
from skelcl.runs.callbacks import FiniteLoss, Interruptions
from skelcl.runs.mixtures import share_root
from skelcl.runs.trainer_options import dump, lightning_silenced, prefer_int_to_float
from skelcl.skeleton import Skeleton
from skelcl.transforms import Stream

# A dataclass would be spelt out field by field on the command line; a link hands the whole object over.
set_parsing_settings(subclasses_enabled=[Skeleton, DataFacts])
set_dumper("yaml", dump)

TRUST = (
    "with --ckpt_path and no --config: --trust MODULE, several times if need be, lets the checkpoint name classes of "
    "that module; without it, a checkpoint names those of skelcl and torch.optim only"
)
"""What the help says at its end."""


class Parser(OneLineErrors, LightningArgumentParser):
    """Lightning's parser with errors of one line."""


class ConfigCLI(LightningCLI):
    """``LightningCLI`` in subclass mode, with the links and callbacks that every run has.

    Args:
        told_by: Option whose object tells the network what its data are: the data module; or ``facts``, a
            :class:`~skelcl.data.facts.DataFacts`, and then there is no data module.
        kwargs: Passed to ``LightningCLI``.
    """

    def __init__(self, told_by: Literal["data", "facts"] = "data", **kwargs: Any) -> None:
        self.told_by = told_by
        super().__init__(
            Method,
            SkeletonDataModule if told_by == "data" else None,
            subclass_mode_model=True,
            subclass_mode_data=True,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            parser_class=Parser,
            parser_kwargs={
                "prog": "skelcl",
                "version": __version__,
                **{verb: {"epilog": TRUST} for verb in self.subcommands()},
            },
            trainer_defaults={
                # Lightning would take all there are, and multiply the batch that the run files were written for.
                "devices": 1,
                "logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "runs", "name": "default"}},
                "callbacks": [FiniteLoss(), Interruptions()],
            },
            **kwargs,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Facts of the data reach the model by links; each callback of every run has a group of its own."""
        prefer_int_to_float(parser)
        source = self.told_by
        if source == "facts":
            parser.add_subclass_arguments(DataFacts, source)
        for name in ("skeleton", "num_persons", "channels"):
            target = f"model.init_args.encoder.init_args.{name}"
            parser.link_arguments(f"{source}.{name}", target, apply_on="instantiate")
        parser.link_arguments(f"{source}.num_classes", "model.init_args.num_classes", apply_on="instantiate")
        parser.add_class_arguments(Stream, "stream")
        for name in ("view", "eval_view"):
            parser.link_arguments("stream", f"model.init_args.{name}.init_args.stream", apply_on="instantiate")
        parser.add_lightning_class_args(OnlineKNN, "knn")
        parser.add_lightning_class_args(FrozenEvaluation, "evaluation")
        parser.add_lightning_class_args(SupervisedEvaluation, "supervised")
        parser.add_lightning_class_args(FeatureWriter, "features")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        # One file, replaced atomically at the end of each epoch: the last epoch is what gets reported and resumed.
        parser.set_defaults(
            {
                "checkpoint.filename": "last",
                "checkpoint.enable_version_counter": False,
                "checkpoint.save_on_train_epoch_end": True,
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, and give the parts of a mixture what they have from it."""
        super().parse_arguments(parser, args)
        if self.told_by == "data":
            verb = self.config.get("subcommand")
            share_root((self.config if verb is None else self.config[verb])["data"])

    def _parse_ckpt_path(self) -> None:
        """What Lightning reads off a checkpoint here, ``hyper_parameters``, may name any class; ours are elsewhere."""


class _Resolver(ConfigCLI):
    """Parses and builds nothing: neither data nor an accelerator is needed."""

    def _set_seed(self) -> None:
        """Nothing is drawn."""

    def instantiate_classes(self) -> None:
        """Nothing is built."""


def resolved_config(args: Sequence[str]) -> str:
    """The config that the options of a run come to, as the text that checkpoints carry.

    Args:
        args: ``--config FILE`` and further options.
    """
    with lightning_silenced():
        cli = _Resolver(save_config_callback=None, run=False, args=list(args))
        return str(cli.parser.dump(cli.config, skip_none=False))
