from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from skelcl.evaluation import FeatureBank, FeatureWriter


def test_bank_sorts_by_index_and_keeps_each_clip_once() -> None:
    bank = FeatureBank()
    for some in ([7, 2, 9], [4, 2], [0, 9]):  # 2 and 9 come twice, as padded shards give them
        index = torch.tensor(some)
        bank.update(index[:, None].half() * torch.tensor([1.0, -2.0]), index % 3, index)
    features, label, index = bank.compute()
    assert index.tolist() == [0, 2, 4, 7, 9]
    assert label.tolist() == [0, 2, 1, 1, 0]
    assert features.dtype == torch.float32
    assert features.tolist() == [[i, -2 * i] for i in (0, 2, 4, 7, 9)]


def check_file(path, method, data, encode, checkpoint: str = "") -> None:
    features, label, index = encode(method, data, data.test)
    with np.load(path, allow_pickle=False) as file:
        told = {"checkpoint", "checkpoint_sha256", "store_sha256", "split", "class_names"}
        assert set(file) == {"features", "id", "index", "label"} | told
        assert str(file["split"]) == data.predict_split
        assert str(file["checkpoint_sha256"]) == "", "no config says by which view"
        assert file["features"].dtype == np.float32
        np.testing.assert_allclose(file["features"], features, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(file["label"], label)
        np.testing.assert_array_equal(file["index"], index)
        assert file["id"].tolist() == [f"clip{i:03d}" for i in sorted(data.test)]
        assert file["class_names"].tolist() == list(data.class_names)
        assert file["checkpoint"].item() == checkpoint


def test_predict_writes_one_file_into_the_run_folder(method, data, trainer, encode, tmp_path, capsys) -> None:
    run = trainer(logger=CSVLogger(tmp_path), callbacks=[FeatureWriter()])
    run.strategy.connect(method)
    run.save_checkpoint(tmp_path / "weights.ckpt")
    run.predict(method, data, ckpt_path=tmp_path / "weights.ckpt", weights_only=True)
    path = tmp_path / "lightning_logs" / "version_0" / "features-test.npz"
    assert f"37 × 5 features: {path}" in capsys.readouterr().out
    check_file(path, method, data, encode, checkpoint=str(tmp_path / "weights.ckpt"))
    assert not list(path.parent.glob("*.part*"))


@pytest.mark.linux("ddp_fork is reported to fail elsewhere")
def test_two_devices_write_the_same_file(method, data, trainer, encode, tmp_path) -> None:
    path = tmp_path / "new" / "folder" / "two.npz"  # 37 clips: Lightning pads the last shard
    run = trainer(devices=2, strategy="ddp_fork", callbacks=[FeatureWriter(path)])
    run.predict(method, data, return_predictions=False)
    check_file(path, method, data, encode)


def test_plain_loaders_have_no_names(method, data, trainer, tmp_path) -> None:
    run = trainer(callbacks=[FeatureWriter(tmp_path / "plain.npz")])
    run.predict(method, data.predict_dataloader())
    with np.load(tmp_path / "plain.npz", allow_pickle=False) as file:
        assert file["id"].tolist() == [str(i) for i in sorted(data.test)]
        assert file["class_names"].tolist() == []


def test_silent_without_features(supervised, data, trainer, tmp_path) -> None:
    trainer(callbacks=[FeatureWriter(tmp_path / "none.npz")]).predict(supervised, data)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_told_before_any_work(method, data, trainer) -> None:
    with pytest.raises(ValueError, match="no logger with a folder, so give path"):
        trainer(callbacks=[FeatureWriter()]).predict(method, data)


# Not sys.modules: torchmetrics itself loads matplotlib where it is installed.
SPY = """
import builtins
real = builtins.__import__
def spy(name, globals=None, *rest):
    if (globals or {}).get("__name__", "").startswith("skelcl"):
        print(name)
    return real(name, globals, *rest)
builtins.__import__ = spy
import skelcl.evaluation
"""


def test_import_is_light() -> None:
    run = subprocess.run([sys.executable, "-c", SPY], capture_output=True, text=True, check=True)
    ours = set(run.stdout.split())
    assert {"torch", "torchmetrics", "skelcl.evaluation.frozen"} <= ours
    heavy = {"matplotlib", "sklearn", "wandb", "PIL", "plotting"}
    assert not heavy & {part for name in ours for part in name.split(".")}
