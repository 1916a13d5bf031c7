#!/usr/bin/env bash
# lightning 2.6.6 with jsonargparse 4.53.0 on Python 3.11: LightningCLI reads `--trainer.limit_train_batches 1`, one
# batch, as 1.0, all batches of the epoch. The Trainer takes `Optional[Union[int, float]]`, where the integer counts
# batches and the float is a share, and jsonargparse tries the types of a union in their order. But typing keeps unions
# that are equal under one entry, so the Trainer is handed `Union[float, int, None]` when another module wrote it that
# way first, as one does while Lightning is imported. The Trainer built in Python with the same 1 trains one batch.
#
# Expected: one batch, as from `Trainer(limit_train_batches=1)`.
# Seen: the config holds 1.0 and the run trains all six batches; 2 and 0.5 do what they should.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  torch==2.13.0 lightning==2.6.6 'jsonargparse[signatures]==4.53.0' numpy==2.4.6
cat >"$folder/show.py" <<'PYTHON'
import sys

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LightningCLI
from torch.utils.data import DataLoader


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch, batch_idx):
        return self.weight.sum()

    def train_dataloader(self):
        return DataLoader(torch.zeros(6, 1), batch_size=1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


quiet = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_checkpointing": False,
         "enable_progress_bar": False, "enable_model_summary": False}


def command(limit):
    cli = LightningCLI(
        Model, run=False, save_config_callback=None, seed_everything_default=False, trainer_defaults=quiet,
        args=[f"--trainer.limit_train_batches={limit}"],
    )
    cli.trainer.fit(cli.model)
    return cli.trainer.global_step


trainer = pl.Trainer(limit_train_batches=1, **quiet)
trainer.fit(Model())
seen = [trainer.global_step, command("1"), command("2"), command("0.5")]
print("Trainer(limit_train_batches=1): {} batch; on the command line 1: {}, 2: {}, 0.5: {}".format(*seen))
sys.exit(seen != [1, 6, 2, 3])
PYTHON
"$folder/venv/bin/python" "$folder/show.py" 2>/dev/null
