"""``skelcl experiments``: the run files that come with skelcl, each with what its header says it is."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from skelcl.commands.parsing import OptionParser
from skelcl.errors import OptionError
from skelcl.runs.shipped import EXPERIMENTS, run_files

EPILOG = """\
Every verb finds such a file by its name, from any folder, where no path of that name exists:
  skelcl fit --config pretrain/as_cal-nw_ucla.yaml --data data/synthetic.yaml

pretrain, supervised   a method on a data set         --config
evaluate               protocols on a checkpoint      --config of skelcl evaluate, fine-tune or fuse
overlays               laid over any run              a further --config
data, encoders, views  blocks of a run                --data, --model.encoder, --model.view and --model.eval_view
sweeps                 searches                       skelcl sweep FILE

Notebooks and guides lie in the folder that the last line names."""


def main(words: Sequence[str]) -> None:
    """``skelcl experiments``.

    Args:
        words: Options of the command.

    Raises:
        OptionError: No file has the word in its name or header.
    """
    parser = OptionParser("skelcl experiments", "List the run files that come with skelcl.", EPILOG)
    parser.add_argument(
        "word", nargs="?", default="", metavar="WORD", help="folder, pretrain for example, or a part of name or header"
    )
    word = parser.parse_args(list(words)).word.strip("/").casefold()
    every = {name: header(EXPERIMENTS / name) for name in run_files()}
    folders = sorted({name.partition("/")[0] for name in every})
    found = {
        name: told
        for name, told in every.items()
        if (name.startswith(f"{word}/") if word in folders else word in f"{name} {told}".casefold())
    }
    if not found:
        close = difflib.get_close_matches(word, [*folders, *every, *(Path(name).stem for name in every)], 1)
        raise OptionError(
            f"no run file has {word!r} in name or header" + (f"; did you mean {close[0]}?" if close else "")
        )
    width = max(map(len, found))
    for name, told in found.items():
        print(f"{name:{width}}  {told}")
    print(f"in {EXPERIMENTS}")


def header(file: Path) -> str:
    """The first sentence of a run file, or as much of it as a line holds."""
    lines = file.read_text(encoding="utf-8").splitlines()
    comment = takewhile(lambda line: line.startswith("# "), lines)
    text = " ".join(line.removeprefix("# ") for line in comment)
    return textwrap.shorten(re.split(r"(?<=[.?]) (?=[A-Z])", text)[0], 100, placeholder=" …")
