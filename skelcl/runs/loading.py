"""A run rebuilt from its checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentError
from lightning.pytorch.cli import ArgsType, LightningArgumentParser
from torch import nn

from skelcl.data import SkeletonDataModule
from skelcl.data.facts import FACTS_KEY, DataFacts
from skelcl.data.store import MissingStore
from skelcl.errors import InputError, OptionError, reason
from skelcl.methods import Method
from skelcl.runs.checkpoints import load_weights, read_checkpoint
from skelcl.runs.config import ConfigCLI
from skelcl.runs.trainer_options import lightning_silenced
from skelcl.runs.trust import stored_config
from skelcl.seeding import untouched, use_seed


class MissingData(InputError):
    """The store of a checkpoint's data is not there; the message says which data these are, and how to get them."""


class _Viewer(ConfigCLI):
    """Builds model and data of a checkpoint and no trainer; its config is told by the file that it comes from.

    Args:
        path: The checkpoint.
        config: Its config; or, with ``facts`` in the place of its data, that of the model alone.
        changed: Options were laid over it, which are to blame when it does not fit.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], changed: bool = False) -> None:
        self.path = path
        self.changed = changed
        told_by: Literal["data", "facts"] = "facts" if "facts" in config else "data"
        super().__init__(told_by, save_config_callback=None, run=False, args=config)

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

    def _dump_config(self) -> None:
        """What a model that saves its hyperparameters is told: the config, but for the facts."""
        whole, self.config = self.config, self.config.clone()
        self.config.pop("facts", None)
        super()._dump_config()
        self.config = whole

    def instantiate_trainer(self, **kwargs: Any) -> None:  # type: ignore[override]  # looking at a run needs none
        """Make no trainer: its machine may be another one, and its loggers would write."""


def load_method(
    path: str | Path, weights: bool = True, trust: str | Sequence[str] | None = None
) -> tuple[Method, DataFacts]:
    """Rebuild the method of a run from its checkpoint alone. What is global in the process stays as it is.

    The data need not be there: their facts are in the checkpoint. Only one that was written before checkpoints carried
    them asks its store.

    Args:
        path: Checkpoint written by ``skelcl fit`` or ``skelcl checkpoint import``.
        weights: Load the weights too; False leaves the model as it was initialised.
        trust: As :func:`load`.

    Returns:
        The method in eval mode, and the facts of the data that it was trained on.

    Raises:
        InputError: As :func:`load`.
    """
    path = Path(path)
    facts = read_data_facts(path)
    if facts is None:
        method, data = load(path, weights, trust=trust)
        return method, data.facts
    config = {**stored_config(path, trust), "facts": facts, "trainer": {}}
    del config["data"]
    with untouched(), lightning_silenced():
        method = _Viewer(path, config).model
        if weights:
            _load(method, path, facts.recipe)
        return method.eval(), facts


def load(
    path: str | Path,
    weights: bool = True,
    changes: Mapping[str, Any] | None = None,
    encoder_only: bool = False,
    trust: str | Sequence[str] | None = None,
) -> tuple[Method, SkeletonDataModule]:
    """Rebuild a run, its data with it, from its checkpoint. What is global in the process stays as it is.

    Args:
        path: Checkpoint written by ``skelcl fit``. Its data set must be there; :func:`load_method` needs none.
        weights: Load the weights too; False leaves the model as it was initialised.
        changes: Parts of its config that are replaced, ``{"data": …}`` for another data set.
        encoder_only: Load the weights of the encoder and no others, which may belong to other classes or clips.
        trust: Modules whose classes its config may name, beside those of skelcl and torch.optim; a text separates them
            by commas.

    Returns:
        The method in eval mode, and its data module, set up.

    Raises:
        InputError: If the file is no checkpoint, holds no config, one that names classes which are not trusted, or its
            weights do not fit model and data; or the data are not there.
        OptionError: If its config does not fit with ``changes``.
    """
    path = Path(path)
    config = {**stored_config(path, trust), **(changes or {}), "trainer": {}}
    with untouched(), lightning_silenced(), needed_data(path):
        cli = _Viewer(path, config, bool(changes))
        if weights:
            # Other data say nothing of what the clips that the weights know went through.
            _load(cli.model, path, "none" if encoder_only else cli.datamodule.store.recipe, encoder_only)
        cli.datamodule.setup("predict")
        return cli.model.eval(), cli.datamodule


def load_data(path: Path, facts: DataFacts, trust: str | Sequence[str] | None = None) -> SkeletonDataModule:
    """The data module of a run, where its store is there and fits the network. Generated data are not made anew.

    Args:
        path: Checkpoint of the run.
        facts: What it says of its data.
        trust: As :func:`load`.

    Raises:
        MissingData: The store is not there.
        InputError: It has other joints or classes.
    """
    options = stored_config(path, trust)["data"]["init_args"]
    parts = [part["init_args"] for part in (options.get("parts") or {}).values()]
    for one, name in zip(parts or [options], facts.datasets if parts else [facts.dataset], strict=False):
        root = one.get("root")
        if root is not None and not (store := Path(root) / name).is_dir():
            raise MissingData(_lacking(path, facts, store))
    _, data = load(path, weights=False, trust=trust)
    for name in ("skeleton", "channels", "class_names"):
        if getattr(data.facts, name) != getattr(facts, name):
            raise InputError(f"{data.store.path}: not the data of {path}: its {name} is another")
    return data


def _load(method: Method, path: Path, past: str, encoder_only: bool = False) -> None:
    """Load the weights of a checkpoint; ``past`` is the recipe that its clips went through before."""
    content = read_checkpoint(path)
    method.check_recipes(content, path, past)
    state: Mapping[str, Any] = content["state_dict"]
    module: nn.Module = method.encoder if encoder_only else method
    if encoder_only:
        state = {key.removeprefix("encoder."): one for key, one in state.items() if key.startswith("encoder.")}
    load_weights(module, state, path)


def read_data_facts(path: Path, content: Mapping[str, Any] | None = None) -> DataFacts | None:
    """The facts of its data that a checkpoint carries; None for one that carries none.

    Args:
        path: The file.
        content: What is in it, where that has been read.

    Raises:
        InputError: It is no checkpoint, or the facts are damaged.
    """
    values = (read_checkpoint(path) if content is None else content).get(FACTS_KEY)
    try:
        return None if values is None else DataFacts.from_plain(values)
    except ValueError as error:
        raise InputError(f"{path}: damaged: what it says of its data ({FACTS_KEY}): {error}") from error


@contextmanager
def needed_data(path: Path | None) -> Iterator[None]:
    """A block that opens the store of a checkpoint's data: if it is missing, the error says what is in it.

    Args:
        path: The checkpoint; None for none.

    Raises:
        MissingData: In the place of :class:`~skelcl.data.store.MissingStore`.
    """
    try:
        yield
    except ValueError as error:
        missing: BaseException | None = error
        while missing is not None and not isinstance(missing, MissingStore):
            missing = missing.__cause__  # which the parser wraps
        facts = None if missing is None or path is None or not path.is_file() else read_data_facts(path)
        if path is None or missing is None or facts is None or missing.path.name not in facts.datasets:
            raise
        raise MissingData(_lacking(path, facts, missing.path)) from error


def _lacking(path: Path, facts: DataFacts, store: Path) -> str:
    how = facts.how_to_make(store)
    return f"{path} needs clips of its data {facts}, but there is no store at {store}: {how}"
