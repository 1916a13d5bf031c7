"""What tests of training parity share: clips that are their index, views that are given, a run that remembers."""

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader

from skelcl.clips import Clips
from skelcl.skeleton import KINECT20


def clips(label, persons=1):
    """Clips of NW-UCLA's skeleton that hold no movement: a given view knows them by their index."""
    index = torch.arange(len(label))
    joints = torch.zeros(len(label), KINECT20.num_joints, 3, dtype=torch.float32)
    return Clips(joints, index, 0 * index + 1, 0 * index + 1, 0 * index, label, index, KINECT20, persons)


class Given(nn.Module):
    """A view that shows what it is given, another time each time.

    Args:
        x: What call after call shows of all S clips, (calls, S, C, T, V, M).
    """

    def __init__(self, x):
        super().__init__()
        self.x, self.calls, self.frames = x, 0, x.shape[3]

    def forward(self, clips, generator=None):
        self.calls += 1
        return self.x[self.calls - 1][clips.index]

    def pair(self, clips, generator=None):
        return self(clips), self(clips)

    def with_motion(self, clips, generator=None, shared=True, masked=True):
        return self.pair(clips)


class Memory(Callback):
    """Remembers the state before each step and after the last, and what each step logs."""

    def __init__(self):
        self.states, self.terms = [], []

    def on_train_batch_start(self, trainer, method, batch, batch_idx):
        self.states.append({name: value.clone() for name, value in method.state_dict().items()})

    def on_train_end(self, trainer, method):
        self.on_train_batch_start(trainer, method, None, 0)


def train(method, batches, epochs, data=None, **options):
    """``epochs`` times all ``batches`` of clips; gives what the run remembers."""
    memory, log = Memory(), method.log_dict
    method.log_dict = lambda values, **words: (memory.terms.append(values), log(values, **words))
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", callbacks=[memory], **dict.fromkeys(quiet, False), **options
    )
    if data is None:
        trainer.fit(method, DataLoader(batches, batch_size=None))
    else:
        trainer.fit(method, datamodule=data)
    return memory


def same(found, expected, name):
    """Equal to 1e-9 of the largest entry; small ones may be rounding, as a bias that a batch norm takes away."""
    found, expected = found.detach(), torch.as_tensor(expected).detach()
    scale = expected.abs().max().item() if expected.numel() else 0.0
    tolerance = {"rtol": 0.0, "atol": 1e-9 * max(scale, 0.01)}
    torch.testing.assert_close(found, expected, **tolerance, msg=lambda why: f"{name}: {why}")
