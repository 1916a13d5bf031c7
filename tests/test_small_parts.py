"""Test parts of one, two and three clips, as somebody has with his first recordings: every verb from fit to fuse."""

import json
from pathlib import Path

import numpy as np
import pytest

from skelcl.cli import run
from skelcl.data.convert import convert
from skelcl.data.recording import DatasetInfo, Recording, Source
from skelcl.skeleton import KINECT20

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
QUIET = [
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
]
DATA = ["--data=Custom", "--data.name=mini", "--data.root=data", "--data.test_prefix=test/", "--data.num_persons=1"]
RUNS = {
    "ssl": ["pretrain/as_cal-nw_ucla.yaml", "--model.encoder.hidden=8", "--model.queue_size=16"],
    "own": ["supervised/hcn-nw_ucla.yaml", "--model.encoder.hidden=8", "--model.encoder.points=16"],
}
TRAIN = {1: 4, 2: 9, 3: 9}
"""Clips of the training part, by those of the test part."""


@pytest.fixture(scope="module", params=[1, 2, 3])
def place(request, tmp_path_factory):
    """Number of test clips, in a folder with a run of each kind, tested and encoded."""
    folder, count = tmp_path_factory.mktemp("small"), request.param
    random = np.random.default_rng(0)
    clips = [
        Recording(
            f"{part}/{n}", (random.normal(size=(1, 8, 20, 3)) * 0.3 + [0, 0, 3]).astype(np.float32), n % 3, subject=n
        )
        for part, size in (("train", TRAIN[count]), ("test", count))
        for n in range(size)
    ]
    info = DatasetInfo("mini", KINECT20, ("a", "b", "c"), reader=1, axes="y up")
    convert(folder / "data", info, [Source(one.id, [one], one.id) for one in clips], list, kind="memory")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, (file, *options) in RUNS.items():
            logger = ["--trainer.logger.save_dir=runs", f"--trainer.logger.name={name}"]
            short = ["--trainer.max_epochs=1", "--data.batch_size=4", "--trainer.precision=32-true"]
            words = ["fit", "--config", EXPERIMENTS / file, *DATA, "--data.validation=none", *QUIET, *options, *logger]
            run([str(word) for word in (*words, *short)])
            run(["test", "--ckpt_path", checkpoint(name), *QUIET])
            run(["predict", "--ckpt_path", checkpoint(name), *QUIET, f"--features.path={name}.npz"])
    return folder, count


@pytest.fixture(autouse=True)
def count(place, monkeypatch):
    monkeypatch.chdir(place[0])
    return place[1]


def checkpoint(name):
    return f"runs/{name}/version_0/checkpoints/last.ckpt"


@pytest.mark.parametrize("name", RUNS)
def test_a_test_writes_all_its_files(name, count):
    folder = Path(f"runs/{name}/version_1")
    content = json.loads((folder / "results.json").read_text())
    assert content["query_clips"] == {"test": count}
    assert all(0 <= value <= 1 for value in content["metrics"].values())
    assert {"scores.npz", "per_class.csv", "confusion.csv", "confusion.png", "embedding.png"} <= {
        path.name for path in folder.iterdir()
    }


@pytest.mark.parametrize("name", RUNS)
def test_predict_writes_a_row_for_each_clip(name, count):
    with np.load(f"{name}.npz") as file:
        assert file["features"].shape == (count, 8)
        assert [file[key].shape for key in ("label", "index", "id")] == [(count,)] * 3
        assert file["id"].tolist() == [f"test/{n}" for n in range(count)]


@pytest.mark.parametrize("name", RUNS)
def test_features_and_scores_are_drawn_and_fused(name, count, capfd):
    run(["plot", "embedding", "--input", f"{name}.npz", "--output", "map.png"])
    run(["plot", "confusion", "--input", f"runs/{name}/version_1/confusion.csv", "--output", "confusion.png"])
    run(["fuse", f"runs/{name}", f"runs/{name}"])
    assert f"accuracies in %, {count} clips" in capfd.readouterr().out
    run(["results", f"runs/{name}"])


@pytest.mark.parametrize("name", RUNS)
def test_queries_of_validation_may_be_one(name, count):
    cli = run(["validate", "--ckpt_path", checkpoint(name), *QUIET, *QUERIES, "--data.accept_seen=true"])
    assert 0 <= cli.trainer.callback_metrics["val/knn_top1" if name == "ssl" else "val/top1"] <= 1


QUERIES = ["--data.validation=held-out", "--data.validation_share=0.1"]


@pytest.mark.parametrize("name", RUNS)
def test_protocols_judge_or_say_why_not(name, count):
    protocols = "--protocols=linear,knn,retrieval,clustering,collapse,early,robustness"
    words = ["--linear.presets=[as_cal,torchlight]", "--seeds=0,1", "--robustness.corruptions=[{name: jitter}]"]
    run(["evaluate", "--ckpt_path", checkpoint(name), protocols, *words[:2], f"--output=found-{name}"])
    content = json.loads(Path(f"found-{name}/results.json").read_text())
    kinds = {key.split("/")[1] for key in content["metrics"]}
    assert {"linear_as_cal_top1", "knn_top1", "retrieval_map", "clustering_acc"} <= kinds
    assert ("collapse_rank" in kinds) != any(note.startswith("collapse") for note in content["left_out"])
    assert ("knn5_top1" in kinds) == (TRAIN[count] >= 5)
    assert f"knn: 20 neighbours, there are {TRAIN[count]} training clips" in content["left_out"]
    assert "all test clips" in Path(f"found-{name}/report.html").read_text()


def test_fine_tuning_ends_in_a_table(count):
    words = ["fine-tune", "--config", EXPERIMENTS / "evaluate" / "semi.yaml", "--ckpt_path", checkpoint("ssl"), *QUIET]
    words += ["--seeds=0", "--trainer.max_epochs=1", "--data.fraction=1.0", "--data.batch_size=4"]
    run([str(word) for word in (*words, "--trainer.logger.save_dir=tuned")])
    (table,) = Path("tuned").rglob("table.json")
    assert set(json.loads(table.read_text())["summary"]) == {"pretrained", "scratch", "gain"}
