#!/usr/bin/env bash
# lightning 2.6.6 with torch 2.13.0: a resumed run whose DataLoader has workers shows its first epoch in the order of
# epoch 0. The Trainer makes the iterator of the first epoch before it calls `set_epoch` on the DistributedSampler;
# without workers the sampler is asked later, with workers their prefetching asks it at once. A run that is not
# interrupted is right, since epoch 0 is what a sampler starts with.
#
# Expected: epoch 2 of a run resumed after two epochs equals epoch 2 of the run that went on.
# Seen: with num_workers=0 it does; with num_workers=1 it equals epoch 0, and epoch 3 is right again.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 lightning==2.6.6 numpy==2.4.6
cat >"$folder/show.py" <<'PYTHON'
import sys
import tempfile

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, Dataset, DistributedSampler


class Numbers(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, position):
        return position


class Recorder(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.order = {}

    def training_step(self, batch, batch_idx):
        self.order.setdefault(self.current_epoch, []).extend(batch.tolist())
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def train(epochs, workers, folder, checkpoint=None):
    numbers = Numbers()
    sampler = DistributedSampler(numbers, num_replicas=1, rank=0, seed=0)
    module = Recorder()
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[ModelCheckpoint(folder, save_last=True)], use_distributed_sampler=False,
    )
    trainer.fit(module, DataLoader(numbers, batch_size=4, sampler=sampler, num_workers=workers), ckpt_path=checkpoint)
    return module.order


if __name__ == "__main__":
    seen = {}
    for workers in (0, 1):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            straight = train(4, workers, one)
            train(2, workers, other)
            resumed = train(4, workers, other, f"{other}/last.ckpt")
        seen[workers] = [
            next((epoch for epoch in straight if straight[epoch] == resumed[later]), None) for later in (2, 3)
        ]
        print(f"workers {workers}: resumed epochs 2 and 3 have the order of epochs {seen[workers]}")
    sys.exit(seen != {0: [2, 3], 1: [0, 3]})
PYTHON
"$folder/venv/bin/python" "$folder/show.py" 2>/dev/null
