"""Golden losses: a refactoring that changes the arithmetic shows here.

After an intended change, run this file with --pdb or read the new values off the failure, and say why in the commit.
"""

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from skelcl.encoders import LSTM, STGCN, ViT
from skelcl.methods import ASCAL, MAMP, SkeletonCLR
from skelcl.transforms import CropResize, Normalize, ReflectCrop, Resize, Reverse, Shear, Truncate, View

ROOT = Normalize("root")
METHODS = {
    "as_cal": (
        lambda skeleton: ASCAL(
            LSTM(skeleton, hidden=16),
            View(Truncate(20), ROOT, [Reverse(), Shear()]),
            View(Truncate(20), ROOT),
            queue_size=50,
        ),
        [3.517698, 4.106331, 4.152566],
    ),
    "as_cal plus": (
        lambda skeleton: ASCAL(
            LSTM(skeleton, hidden=16, pool="masked_mean"),
            View(CropResize(16, min_frames=8), Normalize("root", "torso"), [Reverse(), Shear()]),
            View(Resize(16), Normalize("root", "torso")),
            queue_size=50,
            normalize=True,
            temperature=0.1,
            mask_same_instance=True,
            momentum=0.99,
        ),
        [2.834110, 4.667951, 4.712159],
    ),
    "skeleton_clr": (
        lambda skeleton: SkeletonCLR(
            STGCN(skeleton, 1, widths=(8, 16), strides=(1, 2)),
            View(ReflectCrop(16), ROOT, [Shear(0.5)]),
            View(Resize(16), ROOT),
            projection=16,
            queue_size=50,
        ),
        [0.839813, 3.051560, 3.732279],
    ),
    "mamp": (
        lambda skeleton: MAMP(
            ViT(skeleton, 1, num_frames=16, dim=16, depth=2, heads=2),
            View(CropResize(16, min_frames=8), ROOT, [Shear(0.5)]),
            View(Resize(16), ROOT),
            decoder_dim=8,
            decoder_depth=1,
        ),
        [0.764597, 0.731250, 0.676560],
    ),
}


@pytest.mark.filterwarnings("ignore:.*the features have collapsed")
@pytest.mark.parametrize("name", METHODS)
def test_loss_of_the_first_epochs(toy, name):
    make, expected = METHODS[name]
    clips = toy(8)
    torch.manual_seed(0)
    method, losses = make(clips.skeleton), []

    class Remember(pl.Callback):
        def on_train_epoch_end(self, trainer, module):
            losses.append(trainer.callback_metrics["train/loss"].item())

    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Remember()],
    )
    trainer.fit(method, DataLoader([clips[i] for i in torch.arange(64).split(24)], batch_size=None))
    assert losses == pytest.approx(expected, rel=1e-4)
