from __future__ import annotations

import csv

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from sklearn.neighbors import KNeighborsClassifier

from skelcl.evaluation import KNN, OnlineKNN, knn, knn_predict


def clusters(n: int, seed: int = 0, classes: int = 7, dim: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    centre = np.random.default_rng(99).normal(size=(classes, dim))
    label = random.integers(0, classes, n)
    return torch.from_numpy(centre[label] + 1.2 * random.normal(size=(n, dim))).float(), torch.from_numpy(label)


def sklearn_knn(gallery: torch.Tensor, label: torch.Tensor, k: int) -> KNeighborsClassifier:
    model = KNeighborsClassifier(n_neighbors=k, metric="cosine", algorithm="brute")
    return model.fit(gallery.double().numpy(), label.numpy())


@pytest.mark.parametrize("gallery_chunk", [65536, 64])
@pytest.mark.parametrize("k", [1, 5])
def test_knn_equals_scikit_learn(k: int, gallery_chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "GALLERY_CHUNK", gallery_chunk)
    (gallery, label), (query, truth) = clusters(301), clusters(203, seed=1)
    oracle = sklearn_knn(gallery, label, k)
    predicted = knn_predict(gallery, label, query, k, chunk=50).numpy()
    votes = np.sort(oracle.predict_proba(query.double().numpy()), axis=1)
    clear = votes[:, -1] > votes[:, -2]
    assert clear.sum() >= 130
    np.testing.assert_array_equal(predicted[clear], oracle.predict(query.double().numpy())[clear])
    assert 0.4 < (predicted == truth.numpy()).mean() < 0.99


def test_ties_go_to_similarity_then_to_the_smallest_class() -> None:
    gallery = torch.tensor([[1.0, 0.1], [1.0, -0.2], [1.0, -0.1], [-1.0, 0.0]])
    query = torch.tensor([[2.0, 0.0]])
    assert knn_predict(gallery, torch.tensor([4, 2, 2, 0]), query, k=3).item() == 2  # two votes beat one
    assert knn_predict(gallery[:2], torch.tensor([4, 2]), query, k=2).item() == 4  # one vote each, 4 is nearer
    mirrored = gallery[[0, 2]]  # equally near
    assert knn_predict(mirrored, torch.tensor([4, 2]), query, k=2).item() == 2
    assert knn_predict(mirrored, torch.tensor([2, 4]), query, k=2).item() == 2


def test_half_precision_autocast_changes_nothing() -> None:
    angle = torch.linspace(0, 0.02, 40)  # cosines that bfloat16 cannot tell apart
    gallery = torch.stack([angle.cos(), angle.sin()], 1)
    label = torch.arange(40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ((gallery @ gallery.T).argmax(1) != label).any()
        assert torch.equal(knn_predict(gallery, label, gallery * 3), label)


def test_bad_input_is_one_clear_line() -> None:
    x, y = clusters(4)
    with pytest.raises(ValueError, match="k=5 nearest neighbours need 1 ≤ k ≤ 4"):
        knn_predict(x, y, x, k=5)
    with pytest.raises(ValueError, match="1 of 4 query features are not finite"):
        knn_predict(x, y, x.clone().index_fill_(0, torch.tensor([2]), torch.nan))
    with pytest.raises(ValueError, match="gallery labels span -1…3 but must lie in 0…3"):
        knn_predict(x, torch.tensor([0, 1, -1, 3]), x)
    with pytest.raises(ValueError, match="at least 1"):
        OnlineKNN(k=0)


@pytest.mark.parametrize("k", [1, 3])
def test_metric_over_batches_equals_scikit_learn(k: int) -> None:
    (gallery, label), (query, truth) = clusters(120), clusters(77, seed=2)
    metric = KNN(k)
    for some in torch.arange(120).split(50):
        metric.update(gallery[some], label[some], gallery=True)
    for some in torch.arange(77).split(50):
        metric.update(query[some], truth[some], gallery=False)
    if k == 1:
        expected = sklearn_knn(gallery, label, k).score(query.double().numpy(), truth.numpy())
    else:
        expected = (knn_predict(gallery, label, query, k) == truth).double().mean().item()
    assert metric.compute().item() == pytest.approx(expected, abs=1e-6)


def score_on_rank(rank: int, store: str, answers: torch.Tensor) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    (gallery, label), (query, truth) = clusters(120), clusters(77, seed=2)
    metric = KNN()
    mine = slice(0, 85) if rank == 0 else slice(85, None)
    metric.update(gallery[mine], label[mine], gallery=True)
    if rank == 1:  # rank 0 never sees a query
        metric.update(query[:30], truth[:30], gallery=False)
        metric.update(query[30:], truth[30:], gallery=False)
    answers[rank] = metric.compute()
    dist.destroy_process_group()


@pytest.mark.posix("processes are forked")
def test_two_processes_with_uneven_shards_equal_one(tmp_path) -> None:
    answers = torch.zeros(2).share_memory_()
    torch.multiprocessing.start_processes(
        score_on_rank, args=(str(tmp_path / "store"), answers), nprocs=2, start_method="fork"
    )
    (gallery, label), (query, truth) = clusters(120), clusters(77, seed=2)
    expected = sklearn_knn(gallery, label, 1).score(query.double().numpy(), truth.numpy())
    assert answers.tolist() == pytest.approx([expected] * 2, abs=1e-6)


def logged_values(run: pl.Trainer) -> dict[int, float]:
    with open(run.logger.experiment.metrics_file_path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/knn_top1"]]
    return {int(row["epoch"]): float(row["val/knn_top1"]) for row in rows}


class Expected(pl.Callback):
    """scikit-learn's value after each validation of the fit."""

    def __init__(self, encode, data) -> None:
        self.encode, self.data, self.values = encode, data, []

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            gallery, label, _ = self.encode(pl_module, self.data, self.data.train)
            query, truth, _ = self.encode(pl_module, self.data, self.data.test)
            self.values.append(sklearn_knn(gallery, label, 1).score(query.double().numpy(), truth.numpy()))


def test_fit_logs_every_epoch_afresh_and_a_checkpoint_can_monitor_it(method, data, trainer, encode, tmp_path) -> None:
    expected = Expected(encode, data)
    checkpoint = ModelCheckpoint(tmp_path / "best", monitor="val/knn_top1", mode="max")
    run = trainer(
        max_epochs=4,
        num_sanity_val_steps=1,
        callbacks=[checkpoint, OnlineKNN(), expected],
        logger=CSVLogger(tmp_path),
        enable_checkpointing=True,
    )
    run.fit(method, data)
    logged = logged_values(run)
    assert list(logged.values()) == pytest.approx(expected.values, abs=1e-6)
    assert len(set(expected.values)) > 1
    assert checkpoint.best_model_score.item() == pytest.approx(max(expected.values), abs=1e-6)


def test_every_n_epochs(method, data, trainer, tmp_path) -> None:
    run = trainer(max_epochs=4, callbacks=[OnlineKNN(every_n_epochs=2)], logger=CSVLogger(tmp_path))
    run.fit(method, data)
    assert list(logged_values(run)) == [1, 3]


@pytest.mark.linux("ddp_fork is reported to fail elsewhere")
def test_two_devices_with_uneven_loaders_equal_one(method, uneven, trainer, encode) -> None:
    gallery, label, _ = encode(method, uneven, uneven.train)
    query, truth, _ = encode(method, uneven, uneven.test)
    expected = sklearn_knn(gallery, label, 1).score(query.double().numpy(), truth.numpy())
    run = trainer(devices=2, strategy="ddp_fork", use_distributed_sampler=False, callbacks=[OnlineKNN()])
    run.validate(method, uneven, verbose=False)
    assert run.callback_metrics["val/knn_top1"].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero")
def test_silent_without_features_or_loaders(method, supervised, data, trainer) -> None:
    for module, part in ((supervised, data), (method, data.without_validation())):
        run = trainer(max_epochs=1, callbacks=[OnlineKNN()])
        run.fit(module, part)
        assert "val/knn_top1" not in run.callback_metrics
