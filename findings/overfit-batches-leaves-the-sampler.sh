#!/usr/bin/env bash
# lightning 2.6.6 with torch 2.13.0: `overfit_batches` trains on samples that the loader's own sampler never gives.
# The Trainer puts a SequentialSampler over the whole data set in the place of any sampler that is not sequential, so
# a SubsetRandomSampler that holds the training part of a data set is lost, and the first samples of the data set are
# trained on, whichever part they belong to.
#
# Expected: two batches of four out of the samples 8 to 15, which are all that the sampler gives.
# Seen: the samples 0 to 7.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 lightning==2.6.6 numpy==2.4.6
cat >"$folder/show.py" <<'PYTHON'
import sys

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Dataset, SubsetRandomSampler


class Numbers(Dataset):
    def __len__(self):
        return 16

    def __getitem__(self, position):
        return position


class Recorder(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, batch_idx):
        self.seen.extend(batch.tolist())
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def train(**options):
    module = Recorder()
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **options,
    )
    trainer.fit(module, DataLoader(Numbers(), batch_size=4, sampler=SubsetRandomSampler(range(8, 16))))
    return sorted(module.seen)


plain, overfit = train(), train(overfit_batches=2)
print(f"without overfit_batches: {plain}")
print(f"overfit_batches=2:       {overfit}")
sys.exit((plain, overfit) != (list(range(8, 16)), list(range(8))))
PYTHON
"$folder/venv/bin/python" "$folder/show.py" 2>/dev/null
