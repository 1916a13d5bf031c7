#!/usr/bin/env bash
# lightning 2.6.6 with torch 2.13.0: a module that reads `trainer.estimated_stepping_batches` while it makes its optimiser,
# as schedules with a rate for every step do, resumes within an epoch at the epoch's first batch, although its DataLoader
# keeps its place in `state_dict` and the checkpoint holds it. Counting makes the Trainer set its data up before the state
# of the loops is read, and a loader that is there already is not given its state. The step count goes on as if nothing
# were lost, so the batches behind the checkpoint are never seen in that epoch and those before it are seen twice.
#
# Expected: after 7 of 12 batches the resumed epoch shows batches 7 to 11, whoever counted the steps.
# Seen: it does where nobody counted; where the module did, it shows batches 0 to 4.
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
from torch.utils.data import DataLoader


class Placed(DataLoader):
    """Shows 0 to 11 one by one and knows how far it is."""

    def __init__(self):
        super().__init__(torch.arange(12))
        self.place, self.start = 0, 0

    def state_dict(self):
        return {"place": self.place}

    def load_state_dict(self, state):
        self.start = state["place"]

    def __iter__(self):
        begin, self.start = self.start, 0
        for self.place in range(begin + 1, 13):
            yield torch.tensor([self.place - 1])


class Recorder(pl.LightningModule):
    def __init__(self, counts):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.counts, self.seen = counts, []

    def training_step(self, batch, batch_idx):
        self.seen += batch.tolist()
        return self.weight.sum()

    def configure_optimizers(self):
        if self.counts:
            assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), 0.1)


def train(counts, folder, checkpoint=None):
    module = Recorder(counts)
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[ModelCheckpoint(folder, "{step}", every_n_train_steps=7, save_top_k=-1)],
    )
    trainer.fit(module, Placed(), ckpt_path=checkpoint)
    return module.seen


if __name__ == "__main__":
    found = {}
    for counts in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            straight = train(counts, folder)
            found[counts] = train(counts, folder, f"{folder}/step=7.ckpt")
        assert straight == 2 * list(range(12))
        print(f"steps counted early: {counts}; batches after the checkpoint: {found[counts]}")
    sys.exit(found != {False: [*range(7, 12), *range(12)], True: [*range(5), *range(12)]})
PYTHON
"$folder/venv/bin/python" "$folder/show.py" 2>/dev/null
