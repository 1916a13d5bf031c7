from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, top_k_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from skelcl.errors import InputError
from skelcl.evaluation import PRESETS, FrozenEvaluation, SupervisedEvaluation, linear_probe
from skelcl.evaluation.frozen import random_twin
from skelcl.evaluation.fusion import read_scores

FOLDER = Path("lightning_logs", "version_0")


@pytest.fixture
def expected(method, data, encode):
    """Predicted classes of kNN, logits of the probe and true classes of the test part, without Lightning."""

    def build(probe: str = "as_cal", seed: int = 0):
        gallery, label, _ = encode(method, data, data.train)
        query, truth, index = encode(method, data, data.test)
        model = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(gallery.numpy(), label.numpy())
        result = linear_probe((gallery, label), (query, truth), 6, PRESETS[probe], seed)
        return model.predict(query.numpy()), result, truth.numpy(), index.numpy()

    return build


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_metrics_equal_scikit_learn_on_the_whole_test_part_and_on_subsets(method, data, trainer, expected) -> None:
    run = trainer(callbacks=[FrozenEvaluation(random_encoder=False)])
    metrics, again = run.test(method, data, verbose=False)
    assert metrics == again
    knn, result, truth, index = expected()
    logits = result.logits.numpy()
    linear = logits.argmax(1)
    wanted = {}
    for name, which in {"test": index >= 0, "test_clean": np.isin(index, data.subsets["test_clean"])}.items():
        wanted |= {
            f"{name}/knn_top1": (knn == truth)[which].mean(),
            f"{name}/knn_mean_class": balanced_accuracy_score(truth[which], knn[which]),
            f"{name}/linear_top1": (linear == truth)[which].mean(),
            f"{name}/linear_top5": top_k_accuracy_score(truth[which], logits[which], k=5, labels=range(6)),
            f"{name}/linear_mean_class": balanced_accuracy_score(truth[which], linear[which]),
        }
    assert metrics == pytest.approx(wanted, abs=1e-6)  # and test_none, of which no clip is tested, is left out
    assert 0.3 < wanted["test/knn_top1"] < 1
    assert wanted["test/linear_top5"] > wanted["test/linear_top1"]
    assert wanted["test/knn_top1"] != wanted["test_clean/knn_top1"]


def test_random_encoder_stands_beside_the_learned_one(method, data, trainer, encode) -> None:
    weight = method.encoder.linear.weight.clone()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fresh = type(method.encoder)()
    state = torch.get_rng_state()
    twin = random_twin(method.encoder)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(twin.linear.weight, fresh.linear.weight)
    assert not twin.training
    assert not any(p.requires_grad for p in twin.parameters())

    metrics = trainer(callbacks=[FrozenEvaluation()]).test(method, data, verbose=False)[0]
    assert torch.equal(method.encoder.linear.weight, weight)
    method.encoder = twin
    (train, label, _), (test, truth, index) = (encode(method, data, part) for part in (data.train, data.test))
    linear = linear_probe((train, label), (test, truth), 6, PRESETS["as_cal"]).logits.argmax(1).numpy()
    knn = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(train, label).predict(test)
    clean = np.isin(index, data.subsets["test_clean"])
    assert {name: value for name, value in metrics.items() if "random" in name} == pytest.approx(
        {
            "test/random_knn_top1": (knn == truth.numpy()).mean(),
            "test/random_linear_top1": (linear == truth.numpy()).mean(),
            "test_clean/random_knn_top1": (knn == truth.numpy())[clean].mean(),
            "test_clean/random_linear_top1": (linear == truth.numpy())[clean].mean(),
        },
        abs=1e-6,
    )


def test_files_and_table(method, data, trainer, expected, tmp_path, capsys) -> None:
    callback = FrozenEvaluation(probe="torchlight", probe_seed=5, paper_compat=True)
    run = trainer(callbacks=[callback], logger=CSVLogger(tmp_path))
    metrics = run.test(method, data, verbose=False)[0]
    knn, result, truth, index = expected("torchlight", 5)
    linear = result.logits.argmax(1).numpy()
    assert metrics["test/linear_top1_best_on_test"] == pytest.approx(result.best_on_test, abs=1e-6)

    results = json.loads((tmp_path / FOLDER / "results.json").read_text())
    assert results.pop("metrics") == pytest.approx(metrics, abs=1e-6)
    assert results.pop("run")["encoder"] == "TinyEncoder"
    assert results.pop("probe").items() >= {"preset": "torchlight", "seed": 5, "lr": 3.0, "epochs": 100}.items()
    assert results == {
        "method": "TinyMethod",
        "checkpoint": None,
        "selection": "not known",
        "knn": {"k": 1, "metric": "cosine"},
        "random_encoder_seed": 0,
        "feature_width": 5,
        "gallery_clips": 61,
        "query_clips": {"test": 37, "test_clean": 20},
        "classes": 6,
    }

    header, *confusion = rows(tmp_path / FOLDER / "confusion.csv")
    assert header[1:] == [row[0] for row in confusion] == data.class_names
    counts = np.array([row[1:] for row in confusion], dtype=int)
    np.testing.assert_array_equal(counts, confusion_matrix(truth, linear, labels=range(6)))

    header, *table = rows(tmp_path / FOLDER / "per_class.csv")
    columns = ("support", "knn_top1", "linear_top1")
    assert header == ["class", *(f"{s}/{c}" for s in ("test", "test_clean") for c in columns)]
    clean = np.isin(index, data.subsets["test_clean"])
    for c, row in enumerate(table):
        assert row[0] == data.class_names[c]
        for first, which in ((1, truth == c), (4, (truth == c) & clean)):
            assert int(row[first]) == which.sum()
            for text, predicted in zip(row[first + 1 : first + 3], (knn, linear), strict=True):
                assert text == (f"{(predicted[which] == c).mean():.4f}" if which.any() else "")
    assert table[-1][1:] == ["0", "", "", "0", "", ""]

    scores = read_scores(tmp_path / FOLDER)
    torch.testing.assert_close(torch.from_numpy(scores.logits), result.logits, rtol=1e-3, atol=1e-3)  # other batches
    assert scores.id.tolist() == [data.ids[i] for i in index]
    assert scores.stream == "joint"
    assert {
        f"{name.split('/')[0]}/linear_{name.split('/')[1]}": value for name, value in scores.accuracies().items()
    } == (pytest.approx({name: value for name, value in metrics.items() if "/linear" in name and "best" not in name}))

    out = capsys.readouterr().out
    assert "linear probe 'torchlight' on the TinyMethod's features: 100 epochs" in out
    printed = out[out.index("top-1 in %") :].splitlines()
    assert printed[1].split() == ["kNN", "linear", "kNN", "clean", "linear", "clean"]
    names = [f"{subset}/{key}" for subset in ("test", "test_clean") for key in ("knn_top1", "linear_top1")]
    assert printed[2].split() == ["random", "encoder"] + [
        f"{100 * metrics[name.replace('/', '/random_')]:.1f}" for name in names
    ]
    assert printed[3].split() == ["TinyMethod"] + [f"{100 * metrics[name]:.1f}" for name in names]
    assert len({len(line) for line in printed[1:4]}) == 1
    for picture in ("confusion.png", "embedding.png"):
        assert (tmp_path / FOLDER / picture).read_bytes().startswith(b"\x89PNG")


def test_figures_can_be_left_out_and_the_checkpoint_is_named(method, data, trainer, tmp_path) -> None:
    run = trainer(callbacks=[FrozenEvaluation(figures=False, random_encoder=False)], logger=CSVLogger(tmp_path))
    run.strategy.connect(method)
    run.save_checkpoint(tmp_path / "weights.ckpt", weights_only=True)
    run.test(method, data, ckpt_path=tmp_path / "weights.ckpt", weights_only=True, verbose=False)
    assert sorted(file.name for file in (tmp_path / FOLDER).glob("*.[jp]*")) == ["results.json"]
    results = json.loads((tmp_path / FOLDER / "results.json").read_text())
    assert results["checkpoint"] == str(tmp_path / "weights.ckpt")
    assert results["random_encoder_seed"] is None


def test_global_randomness_is_left_alone(method, data, trainer) -> None:
    states = []
    for callbacks in ([], [FrozenEvaluation()]):
        torch.manual_seed(0)  # the loaders themselves draw from it
        trainer(callbacks=callbacks).test(method, data, verbose=False)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


@pytest.mark.linux("ddp_fork is reported to fail elsewhere")
@pytest.mark.filterwarnings("ignore:Using `DistributedSampler` with the dataloaders")
def test_two_devices_equal_one(data, method, trainer, tmp_path) -> None:
    """37 test clips on two processes: Lightning's sampler pads, and the padding is not counted."""
    one = trainer(callbacks=[FrozenEvaluation()]).test(method, data, verbose=False)[0]
    run = trainer(devices=2, strategy="ddp_fork", callbacks=[FrozenEvaluation()], logger=CSVLogger(tmp_path))
    run.test(method, data, verbose=False)
    two = {name: value.item() for name, value in run.callback_metrics.items()}
    assert two == pytest.approx(one, abs=1e-6)
    assert json.loads((tmp_path / FOLDER / "results.json").read_text())["metrics"] == pytest.approx(one, abs=1e-6)


@pytest.mark.linux("ddp_fork is reported to fail elsewhere")
def test_uneven_processes_equal_one(uneven, method, trainer) -> None:
    one = trainer(callbacks=[FrozenEvaluation()]).test(method, uneven, verbose=False)[0]
    run = trainer(devices=2, strategy="ddp_fork", use_distributed_sampler=False, callbacks=[FrozenEvaluation()])
    run.test(method, uneven, verbose=False)
    assert {name: value.item() for name, value in run.callback_metrics.items()} == pytest.approx(one, abs=1e-6)


def test_mixed_precision_encodes_in_bfloat16_and_judges_in_float32(method, data, trainer, encode) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (train, label, _), (test, truth, _) = (encode(method, data, part) for part in (data.train, data.test))
    assert train.dtype == torch.bfloat16
    model = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(train.float(), label)
    linear = linear_probe((train, label), (test, truth), 6).last
    metrics = trainer(callbacks=[FrozenEvaluation()], precision="bf16-mixed").test(method, data, verbose=False)[0]
    assert metrics["test/knn_top1"] == pytest.approx(model.score(test.float(), truth), abs=1e-6)
    assert metrics["test/linear_top1"] == pytest.approx(linear, abs=1e-6)
    assert metrics["test/random_knn_top1"] > 0.2


def test_a_second_test_starts_afresh(method, data, trainer) -> None:
    run = trainer(callbacks=[FrozenEvaluation()])
    first = run.test(method, data, verbose=False)
    assert run.test(method, data, verbose=False) == first


def test_without_logger_nothing_is_written(method, data, trainer, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    trainer(callbacks=[FrozenEvaluation()]).test(method, data, verbose=False)
    assert list(tmp_path.iterdir()) == []


def test_silent_without_features_and_outside_test(method, supervised, data, trainer, tmp_path) -> None:
    run = trainer(callbacks=[FrozenEvaluation()], logger=CSVLogger(tmp_path), max_epochs=1)
    assert run.test(supervised, data, verbose=False) == [{}, {}]
    run.fit(method, data)
    assert not any("top1" in name for name in run.callback_metrics)
    assert not list(tmp_path.rglob("results.json"))


def test_plain_loaders_are_judged_without_names(method, data, trainer, tmp_path) -> None:
    run = trainer(callbacks=[FrozenEvaluation()], logger=CSVLogger(tmp_path))
    metrics = run.test(method, data.test_dataloader(), verbose=False)[0]
    assert {name.partition("/")[0] for name in metrics} == {"test"}
    assert rows(tmp_path / FOLDER / "confusion.csv")[0][1:] == ["0", "1", "2", "3", "4"]


def test_one_loader_is_an_error(method, data, trainer) -> None:
    with pytest.raises(ValueError, match="needs clips from two test loaders"):
        trainer(callbacks=[FrozenEvaluation()]).test(method, data.predict_dataloader(), verbose=False)


class Elsewhere(torch.Tensor):
    """A tensor of another device, as far as NumPy is concerned."""

    def numpy(self, **options):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


@pytest.mark.parametrize("callback", [FrozenEvaluation, SupervisedEvaluation])
def test_what_is_elsewhere_reaches_the_files(method, data, trainer, monkeypatch, tmp_path, callback) -> None:
    step, places = method.test_step, {"here": torch.Tensor, "elsewhere": Elsewhere}
    with pytest.raises(TypeError, match="numpy"):
        np.asarray(torch.zeros(3).as_subclass(Elsewhere) + 1)
    for name, place in places.items():

        def placed(*words, place=place):
            given = step(*words)
            logits = {"logits": given["features"] @ torch.eye(5, 6)} if callback is SupervisedEvaluation else {}
            return {key: value.as_subclass(place) for key, value in (given | logits).items()}

        monkeypatch.setattr(method, "test_step", placed)
        run = trainer(callbacks=[callback()], logger=CSVLogger(tmp_path, name, version=0))
        run.test(method, data, verbose=False)
    here, there = (tmp_path / name / "version_0" for name in places)
    assert (there / "confusion.png").is_file()
    assert np.array_equal(read_scores(here / "scores.npz").logits, read_scores(there / "scores.npz").logits)
    first, second = (json.loads((folder / "results.json").read_text())["metrics"] for folder in (here, there))
    assert second == first


def test_processes_do_not_wait_for_a_first_one_that_failed(method, data, trainer, monkeypatch) -> None:
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(FrozenEvaluation, "_report", full)
    run, told = trainer(callbacks=[FrozenEvaluation(random_encoder=False)]), []
    broadcast = run.strategy.broadcast
    monkeypatch.setattr(run.strategy, "broadcast", lambda given, *rest: told.append(given) or broadcast(given, *rest))
    with pytest.raises(OSError, match="no space left"):
        run.test(method, data, verbose=False)
    assert told[-1] == ({}, "no space left on device")

    run = trainer(callbacks=[FrozenEvaluation(random_encoder=False)])
    monkeypatch.setattr(type(run), "is_global_zero", False)
    monkeypatch.setattr(run.strategy, "broadcast", lambda given, *_: told[-1] if isinstance(given, tuple) else given)
    with pytest.raises(InputError, match="failed on the first process: no space left on device"):
        run.test(method, data, verbose=False)
