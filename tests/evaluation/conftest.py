"""A tiny self-supervised method and its data: clips of one frame whose class shows in their coordinates."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from skelcl.clips import Clips
from skelcl.encoders.base import Encoder
from skelcl.skeleton import NTU25

NAMES = ("nod", "wave", "clap", "jump", "bow", "kick")
TRAIN, TEST = 61, 37


class TinyEncoder(Encoder):
    def __init__(self) -> None:
        super().__init__()
        self.dim = 5
        self.linear = nn.Linear(75, self.dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1))


class FirstFrame(nn.Module):
    def forward(self, clips: Clips) -> Tensor:
        return clips.at(torch.zeros(len(clips), 1, dtype=torch.int64)).permute(0, 4, 2, 3, 1)


class TinyMethod(pl.LightningModule):
    def __init__(self, supervised: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.encoder = TinyEncoder()
        self.eval_view = FirstFrame()
        self.supervised = supervised

    def forward(self, clips: Clips) -> Tensor:
        return self.encoder(self.eval_view(clips))

    def training_step(self, clips: Clips, batch_idx: int) -> Tensor:
        return -self(clips)[:, 0].square().mean()

    def validation_step(self, clips: Clips, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        if self.supervised:
            return {"logits": self(clips), "label": clips.label}
        return {"features": self(clips), "label": clips.label, "index": clips.index}

    test_step = predict_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.004)


class TinyData(pl.LightningDataModule):
    """98 clips; the training part and the test part are interleaved in the store."""

    def __init__(self, validation: bool = True) -> None:
        super().__init__()
        random = np.random.default_rng(5)
        n = TRAIN + TEST
        centre = random.normal(size=(len(NAMES), 25, 3))
        self.label = torch.from_numpy(random.integers(0, len(NAMES) - 1, n))  # the last class never occurs
        joints = centre[self.label] + 1.6 * random.normal(size=(n, 25, 3))
        self.joints = torch.from_numpy(joints).float()
        self.train, self.test = np.split(random.permutation(n), [TRAIN])
        self.ids = np.array([f"clip{position:03d}" for position in range(n)])
        self.class_names = list(NAMES)
        self.predict_split = "test"
        self.subsets = {"test_clean": np.sort(self.test)[:20], "test_none": np.sort(self.train)[:3]}
        self.validation = validation

    def without_validation(self) -> TinyData:
        return TinyData(validation=False)

    def clips(self, positions: list[int] | np.ndarray) -> Clips:
        index = torch.as_tensor(np.asarray(positions))
        one = torch.ones_like(index)
        return Clips(self.joints, index, one, one, 0 * one, self.label[index], index, NTU25)

    def loader(self, positions: np.ndarray) -> DataLoader[Clips]:
        return DataLoader(positions.tolist(), batch_size=8, collate_fn=self.clips)

    def train_dataloader(self) -> DataLoader[Clips]:
        return self.loader(self.train)

    def val_dataloader(self) -> list[DataLoader[Clips]]:
        return self.test_dataloader() if self.validation else []

    def test_dataloader(self) -> list[DataLoader[Clips]]:
        return [self.loader(self.train), self.loader(self.test)]

    def predict_dataloader(self) -> DataLoader[Clips]:
        return self.loader(self.test)


class UnevenData(TinyData):
    """Ranks own parts of different sizes, without padding."""

    def loader(self, positions: np.ndarray) -> DataLoader[Clips]:
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        cut = len(positions) * 3 // 4
        return super().loader(positions if world == 1 else np.split(positions, [cut])[rank])


@pytest.fixture
def method() -> TinyMethod:
    return TinyMethod()


@pytest.fixture
def supervised() -> TinyMethod:
    return TinyMethod(supervised=True)


@pytest.fixture
def data() -> TinyData:
    return TinyData()


@pytest.fixture
def uneven() -> UnevenData:
    return UnevenData()


@pytest.fixture
def trainer(tmp_path: Path):
    """Build a quiet CPU trainer; keyword arguments as those of ``Trainer``."""

    def build(**options: object) -> pl.Trainer:
        quiet = {
            "accelerator": "cpu",
            "devices": 1,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "default_root_dir": tmp_path,
        }
        return pl.Trainer(**(quiet | options))

    return build


@pytest.fixture
def encode():
    """Features, labels and positions of some clips, sorted by position, without Lightning."""

    def build(module: TinyMethod, data: TinyData, positions: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        clips = data.clips(np.sort(positions))
        with torch.no_grad():
            return module(clips), clips.label, clips.index

    return build
