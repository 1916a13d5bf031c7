"""The ``skelcl`` command: Lightning's verbs, and plain functions for data and pictures.

Nothing heavy is imported before it is known to be needed, so that help is instant.
"""

from __future__ import annotations

import difflib
import importlib
import itertools
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skelcl.errors import InputError, OptionError, fail
from skelcl.runs.interruption import PROGRAM
from skelcl.runs.shipped import with_run_files

if TYPE_CHECKING:
    from skelcl.commands.lightning import SkelCLI

LIGHTNING_VERBS = ("fit", "validate", "test", "predict")
PROGRAMS = {
    "fine-tune": "skelcl.commands.fine_tune:main",
    "sweep": "skelcl.commands.sweep:main",
    "evaluate": "skelcl.commands.evaluate:main",
    "experiments": "skelcl.commands.experiments:main",
}
"""Verbs that parse their own words."""
LISTS = {
    "fuse": ("skelcl.commands.fuse:fuse", "RUN_OR_FILE"),
    "results": ("skelcl.commands.results:results", "FOLDER_OR_RECORD"),
}
"""Verbs that take any number of words of one kind, and options: a typed function, and what its words are."""
COMMANDS = {
    "data": "skelcl.commands.data:COMMANDS",
    "checkpoint": "skelcl.commands.checkpoint:COMMANDS",
    "export": "skelcl.commands.export:export_checkpoint",
    "plot": "skelcl.commands.plot:COMMANDS",
}
"""Verbs that are a typed function, or a dictionary of them by sub-command."""
OWN_CLIP = "skelcl.commands.predict:predict_clips"
"""What ``predict`` is when there is an ``--input``."""

HELP = """\
usage: skelcl VERB [options]

experiments: all but sweep take --config FILE (several are laid over each other) and every key of it as a flag
  fit              train; with --ckpt_path last.ckpt, resume
  validate         evaluate on the validation part of the training data
  test             evaluate on the test part; `skelcl test --ckpt_path X` needs nothing else
  predict          write features, labels and ids of a split to one file; with --input, recognise a clip of your own:
                   skelcl predict --ckpt_path X --input clip.json --output out.json
  fine-tune        from a checkpoint, several seeds beside the same from scratch, mean ± sd; semi-supervised, transfer:
                   skelcl fine-tune --config experiments/evaluate/semi.yaml --ckpt_path X --data.fraction 0.05
  evaluate         protocols on frozen features: linear, knn, retrieval, clustering, collapse, few_shot, early
                   (only the beginning of a clip is seen) and robustness; of any method, beside random weights:
                   skelcl evaluate --ckpt_path X --protocols linear,knn
  sweep            search options as a W&B sweep file says, here or with W&B:
                   skelcl sweep experiments/sweeps/as_cal-augmentations.yaml --local --jobs 2
  fuse             add up the scores of several streams: skelcl fuse RUN RUN … --weights ctr-gcn
  experiments      the run files that come with skelcl: skelcl experiments nw_ucla; every verb finds them by name:
                   skelcl fit --config pretrain/as_cal-nw_ucla.yaml
  results          tested runs in one table, seeds as mean ± sd: skelcl results runs --output results.md

data
  data prepare     raw files to a store: skelcl data prepare nw-ucla --raw all_sqe.zip --root data
  data import      your own poses to a store: skelcl data import poses --format mediapipe --input DIR --name NAME;
                   what others processed: skelcl data import arrays --input NTU60_CS.npz --name ntu60
  data export      a store to the files of other codes: skelcl data export --store DIR --format ctr-gcn --output DIR
  data check       integrity and statistics of stores
  data list        the stores under a folder
  data generate    articulated people as raw files in a data set's own format

checkpoints
  checkpoint import   weights that others published, as a checkpoint:
                   skelcl checkpoint import --reference ctr-gcn --input FILE.pt --output FILE.ckpt
  checkpoint inspect  what a file with weights is, and what to do with it
  export              the network of a run for other programs, checked:
                      skelcl export --ckpt_path X --format onnx --output FILE.onnx

pictures
  plot skeleton    a clip of a store, or a file of your own, animated: .gif, .mp4 or .html
  plot views       a clip before and after augmentation, animated
  plot maps        adaptive graphs and attention of the encoder: skelcl plot maps --ckpt_path X --output maps.png
  plot embedding   features of `predict` in the plane
  plot confusion   a confusion matrix
  plot change      what each class gains from one run to another: skelcl plot change RUN RUN
  plot robustness  accuracy against the severity of corruptions: skelcl plot robustness RUN RUN …
  plot early       accuracy against how much of a clip was seen: skelcl plot early RUN RUN …
  plot curves      learning curves of several runs: skelcl plot curves RUN RUN … --metric train/loss

`skelcl VERB --help` lists the options of a verb; `skelcl --version` prints the version.
"""


def main() -> None:
    """The ``skelcl`` command, which SIGINT and SIGTERM end with one line and code 130 or 143."""
    PROGRAM.run(lambda: run(sys.argv[1:]))


def run(args: Sequence[str]) -> SkelCLI | None:
    """Run one ``skelcl`` command, from a notebook for example.

    Args:
        args: The words after ``skelcl``.

    Returns:
        The finished CLI object of Lightning's verbs (model, data and trainer hang on it), None for other verbs.

    Raises:
        SystemExit: With code 2 for a command or config that makes no sense, 1 for files that cannot be used. One line
            on stderr says what is wrong; SKELCL_DEBUG=1 adds the traceback.
    """
    argv = list(args)
    verb = argv[0] if argv else "--help"
    if verb in ("-h", "--help"):
        print(HELP, end="")
        return None
    if verb == "--version":
        from skelcl import __version__

        print(f"skelcl {__version__}")
        return None
    try:
        argv = with_run_files(argv)
        _check_yaml(argv)
        return _dispatch(verb, argv)
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        PROGRAM.leave_with_first()  # which met the same error
        if os.environ.get("SKELCL_DEBUG"):
            traceback.print_exc()
        fail(message, _code(error))


def _check_yaml(argv: Sequence[str]) -> None:
    """Looks at the YAML files among the words: the parser tells neither the file nor the line of what is wrong.

    Raises:
        OptionError: A config is no YAML, or without options.
        InputError: Another of them is no YAML.
    """
    for before, word in itertools.pairwise(argv):
        name, equals, value = word.partition("=") if word.startswith("--") else (before, "=", word)
        config = name in ("--config", "-c")
        if not equals or not (config or value.endswith((".yaml", ".yml"))) or not os.path.isfile(value):
            continue
        from skelcl.data.formats.containers import read_yaml

        try:
            content = read_yaml(Path(value))
        except InputError as error:
            if config:
                raise OptionError(str(error)) from error
            raise
        if config and not isinstance(content, dict):
            raise OptionError(f"{value}: holds no options")


def user_message(error: Exception) -> str | None:
    """What an error that the user can mend says, also where the parser wrapped it; None for a bug."""
    if isinstance(error, (InputError, OSError)):
        text = str(error)
        # torch gives what a worker met with the worker's traceback, whose last line says it.
        return text if "in DataLoader worker process" not in text else text.splitlines()[-1].partition(": ")[2]
    if isinstance(error, ValueError) and str(error).startswith("Does not validate against"):
        from skelcl.errors import reason

        return reason(str(error))
    return None


def _code(error: BaseException | None) -> int:
    """2 for an option, also one whose value the parser could not build; 1 for a file."""
    wrapped = error
    while wrapped is not None:
        if isinstance(wrapped, (InputError, OSError)):
            return 2 if isinstance(wrapped, OptionError) else 1
        wrapped = wrapped.__cause__
    return 2


def _dispatch(verb: str, argv: list[str]) -> SkelCLI | None:
    if verb == "predict" and any(word.partition("=")[0] == "--input" for word in argv):
        from skelcl.commands.parsing import call

        call("skelcl predict", _load(OWN_CLIP), argv[1:])
    elif verb in LIGHTNING_VERBS:
        if verb == "predict" and {"-h", "--help"} & set(argv):
            print("for a clip of your own, `skelcl predict --input CLIP --help` lists the options; for a split:\n")
        from skelcl.commands.lightning import run_lightning

        return run_lightning(argv)
    elif verb in PROGRAMS:
        _load(PROGRAMS[verb])(argv[1:])
    elif verb in LISTS:
        from skelcl.commands.parsing import call_on

        function, name = LISTS[verb]
        call_on(f"skelcl {verb}", _load(function), name, argv[1:])
    elif verb in COMMANDS:
        from skelcl.commands.parsing import call

        code = call(f"skelcl {verb}", _load(COMMANDS[verb]), argv[1:])
        if code:
            sys.exit(code)
    else:
        known = [*LIGHTNING_VERBS, *PROGRAMS, *LISTS, *COMMANDS]
        close = difflib.get_close_matches(verb, known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"it must be one of {', '.join(known)}"
        fail(f"unknown command {verb!r}: {hint}", 2)
    return None


def _load(place: str) -> Any:
    """What ``module:name`` names."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)
