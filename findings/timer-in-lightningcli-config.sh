#!/usr/bin/env bash
# lightning 2.6.6 with jsonargparse 4.53.0: LightningCLI refuses a config that names the built-in callback `Timer`.
# `Timer(interval: str = Interval.step)` is annotated as text while its default is a member of an enum; jsonargparse
# fills the default in as it is, and YAML has no form for it. The message speaks of a callback that is no callback. It
# is taken as soon as the interval is spelt out, as the same text that the enum stands for.
#
# Expected: the config is read, and can be dumped, as with `EarlyStopping`, or with `Timer` and `interval: step`.
# Seen: "cannot represent an object, <Interval.step: 'step'>" for `Timer` with its default interval, and no other.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  torch==2.13.0 lightning==2.6.6 'jsonargparse[signatures]==4.53.0' numpy==2.4.6
cat >"$folder/show.py" <<'PYTHON'
import sys

import lightning.pytorch as pl
from lightning.pytorch.cli import LightningCLI


class Empty(pl.LightningModule):
    def __init__(self):
        super().__init__()


def dump(callback, **arguments):
    chosen = {"class_path": f"lightning.pytorch.callbacks.{callback}", "init_args": arguments}
    try:
        cli = LightningCLI(
            Empty, run=False, save_config_callback=None, seed_everything_default=False,
            parser_kwargs={"exit_on_error": False},
            args={"trainer": {"callbacks": [chosen], "accelerator": "cpu", "logger": False}},
        )
        return "written" if callback in cli.parser.dump(cli.config) else "lost"
    except Exception as error:
        return "refused" if "represent" in str(error) and "Interval.step" in str(error) else repr(error)


seen = [
    dump("EarlyStopping", monitor="loss"),
    dump("Timer", duration="00:01:00:00", interval="step"),
    dump("Timer", duration="00:01:00:00"),
]
print("EarlyStopping: {}; Timer with its interval spelt out: {}; Timer: {}".format(*seen))
sys.exit(seen != ["written", "written", "refused"])
PYTHON
"$folder/venv/bin/python" "$folder/show.py" 2>/dev/null
