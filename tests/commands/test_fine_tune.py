"""`skelcl fine-tune` as a user meets it: seeds beside their twins from scratch, killed and called again, one table."""

import csv
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from skelcl.cli import run
from skelcl.data.subsets import read_labels
from skelcl.encoders import LSTM
from skelcl.errors import InputError
from skelcl.evaluation.gain import PRETRAINED
from skelcl.methods import FineTune
from skelcl.runs import study
from skelcl.runs.study import FINISHED, finished, starting_point, study_folder
from skelcl.runs.trust import stored_config

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SEMI = EXPERIMENTS / "evaluate" / "semi.yaml"
FILES = sorted(file for file in (EXPERIMENTS / "evaluate").glob("*.yaml") if "skelcl fine-tune" in file.read_text())
MAMP_RECIPE = EXPERIMENTS / "evaluate" / "fine_tune-mamp.yaml"
PEOPLE = ["--data", EXPERIMENTS / "data" / "synthetic.yaml", "--data.subjects=4", "--data.replications=1"]
PEOPLE += ["--data.actions=['walk around', 'handshake']", "--data.num_persons=1"]
QUIET = [
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
]
SHORT = [*QUIET, "--trainer.max_epochs=2", "--supervised.figures=false", "--data.batch_size=16"]
VARIANTS = ("pretrained", "scratch")


@pytest.fixture(scope="module")
def place(tmp_path_factory, ucla):
    """Folder in which AS-CAL was trained for an epoch, and fine-tuned on 20 % of the labels with two seeds."""
    folder = tmp_path_factory.mktemp("fine_tune")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["skelcl"])
        words = ["fit", "--config", EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml", f"--data.root={ucla}", *QUIET]
        words += ["--model.encoder.hidden=8", "--model.queue_size=32", "--trainer.max_epochs=1"]
        run([str(word) for word in words])
        (folder / "runs" / "as_cal-nw_ucla" / "version_0" / "checkpoints" / "last.ckpt").rename("X.ckpt")
        tune("--seeds=0,1", "--data.fraction=0.2")
    return folder


@pytest.fixture(autouse=True)
def _here(monkeypatch, place):
    monkeypatch.chdir(place)


def tune(*words, config=SEMI):
    run([str(word) for word in ("fine-tune", "--config", config, "--ckpt_path=X.ckpt", *SHORT, *words)])


def version(variant, seed, study="runs/semi/version_0", number=0):
    return Path(study) / f"{variant}-seed_{seed}" / f"version_{number}"


def test_the_table_is_mean_and_deviation_of_what_the_runs_report():
    table = json.loads(Path("runs/semi/version_0/table.json").read_text())
    found = {
        variant: [json.loads((version(variant, seed) / "results.json").read_text()) for seed in (0, 1)]
        for variant in VARIANTS
    }
    values = {
        variant: {name: np.array([one["metrics"][name] for one in runs]) for name in runs[0]["metrics"]}
        for variant, runs in found.items()
    }
    values["gain"] = {name: values["pretrained"][name] - values["scratch"][name] for name in values["scratch"]}
    assert {"test/top1", "test/top5", "test/mean_class", "test_clean/top1"} <= set(values["gain"])
    assert set(table["summary"]) == set(values)
    with Path("runs/semi/version_0/table.csv").open(newline="") as file:
        rows = {(row["variant"], row["seed"]): row for row in csv.DictReader(file)}
    assert len(rows) == 2 * 2 + 3 * 2
    text = Path("runs/semi/version_0/table.txt").read_text()
    for variant, metrics in values.items():
        for name, numbers in metrics.items():
            expected = {"mean": numbers.mean(), "sd": numbers.std(ddof=1)}
            assert table["summary"][variant][name] == pytest.approx(expected)
            for kind, value in expected.items():
                assert float(rows[variant, kind][name]) == pytest.approx(value)
            if variant != "gain":
                assert f"{100 * expected['mean']:.1f} ± {100 * expected['sd']:.1f}" in text
                assert [float(rows[variant, str(seed)][name]) for seed in (0, 1)] == pytest.approx(numbers.tolist())
    assert "mean ± sd of seeds 0, 1, last epoch, 10 labelled clips" in text
    assert table["selection"] == "last epoch"
    assert (table["seeds"], table["checkpoint"]) == ([0, 1], "X.ckpt")


def test_labelled_clips_are_those_of_the_seed_and_of_no_test(ucla):
    labels = {(v, seed): read_labels(version(v, seed) / "labels.txt") for v in VARIANTS for seed in (0, 1)}
    for seed in (0, 1):
        assert labels["pretrained", seed] == labels["scratch", seed]
    assert labels["scratch", 0] != labels["scratch", 1]
    tune("--seeds=0", "--scratch=false", "--data.fraction=0.5", "--trainer.logger.name=more")
    more = read_labels(version("pretrained", 0, "runs/more/version_0") / "labels.txt")
    assert set(labels["scratch", 0]) < set(more)
    assert (len(labels["scratch", 0]), len(more)) == (10, 30)
    with np.load(version("scratch", 0) / "scores.npz") as file:
        tested = set(file["id"].tolist())
    assert len(tested) == 30
    assert not tested & (set(more) | set(labels["scratch", 1]))
    table = json.loads(Path("runs/more/version_0/table.json").read_text())
    assert set(table["summary"]) == {"pretrained"}
    assert table["summary"]["pretrained"]["test/top1"]["sd"] is None


def test_variants_differ_in_the_first_weights_of_the_encoder_alone():
    configs = [yaml.safe_load((version(variant, 1) / "config.yaml").read_text()) for variant in VARIANTS]
    assert [config["seed_everything"] for config in configs] == [1, 1]
    assert [config["model"]["init_args"].pop("checkpoint") for config in configs] == ["X.ckpt", None]
    for config in configs:
        del config["trainer"]["logger"]
    assert configs[0] == configs[1]
    before = stored_config(Path("X.ckpt"))["model"]["init_args"]
    for name in ("encoder", "view", "eval_view"):
        assert configs[0]["model"]["init_args"][name] == before[name]


class Killed(BaseException):
    """Nothing that anybody catches."""


def test_called_again_after_a_kill_it_ends_in_the_same_table(monkeypatch):
    words = ["--seeds=0,1", "--data.fraction=0.2", "--trainer.logger.name=killed"]
    first = FineTune.on_train_epoch_start

    def kill(self):
        if self.current_epoch == 1 and "scratch-seed_0" in self.trainer.log_dir:
            raise Killed
        first(self)

    with monkeypatch.context() as patch:
        patch.setattr(FineTune, "on_train_epoch_start", kill)
        with pytest.raises(Killed):
            tune(*words)
    study = Path("runs/killed/version_0")
    assert not (study / "table.json").exists()
    finished = version("pretrained", 0, study) / "results.json"
    before = finished.stat().st_mtime_ns
    tune(*words)
    assert finished.stat().st_mtime_ns == before
    numbers = {name: len(list((study / name).glob("version_*"))) for name in ("pretrained-seed_0", "scratch-seed_0")}
    assert numbers == {"pretrained-seed_0": 1, "scratch-seed_0": 2}
    with (version("scratch", 0, study, 1) / "metrics.csv").open(newline="") as file:
        assert {row["epoch"] for row in csv.DictReader(file) if row["train/loss"]} == {"1"}
    tables = [json.loads((Path(one) / "table.json").read_text()) for one in ("runs/semi/version_0", study)]
    assert tables[0]["summary"] == tables[1]["summary"]
    for ours, whole in zip(tables[1]["runs"], tables[0]["runs"], strict=True):
        assert {**ours, "folder": ""} == {**whole, "folder": ""}

    (study / "pretrained-seed_1" / "finished").unlink()  # as if it had been killed while it was tested
    (version("pretrained", 0, study) / "results.json").unlink()  # as if somebody wanted it done again
    tune(*words[1:], "--seeds=1,0", "--scratch=false")
    assert sorted(path.name for path in Path("runs/killed").iterdir()) == ["version_0"], "more of the same study"
    again = json.loads((study / "table.json").read_text())
    assert again["summary"] == {"pretrained": tables[0]["summary"]["pretrained"]}
    assert again["runs"][0]["folder"].endswith("pretrained-seed_1/version_1")
    tune("--seeds=0", "--scratch=false", *words[1:], "--trainer.max_epochs=1")
    assert sorted(path.name for path in Path("runs/killed").iterdir()) == ["version_0", "version_1"]


@pytest.mark.slow
def test_two_processes_fine_tune_every_seed():
    words = [*SHORT, "--seeds=0,1", "--data.fraction=0.5", "--trainer.logger.name=two", "--trainer.max_epochs=1"]
    command = [sys.executable, "-m", "skelcl", "fine-tune", "--config", str(SEMI), "--ckpt_path=X.ckpt", *words]
    subprocess.run([*command, "--trainer.devices=2", "--trainer.strategy=ddp"], check=True, timeout=300)
    table = json.loads(Path("runs/two/version_0/table.json").read_text())
    assert [(run["variant"], run["seed"]) for run in table["runs"]] == [(v, s) for s in (0, 1) for v in VARIANTS]


def test_a_run_is_a_run_like_any_other(capsys):
    """Tested again from its checkpoint alone, where the pre-training's is gone; added up with another one."""
    last = version("pretrained", 0) / "checkpoints" / "last.ckpt"
    Path("X.ckpt").rename("Y.ckpt")
    cli = run(["test", f"--ckpt_path={last}"])
    Path("Y.ckpt").rename("X.ckpt")
    expected = json.loads((version("pretrained", 0) / "results.json").read_text())["metrics"]
    assert {name: value.item() for name, value in cli.trainer.callback_metrics.items()} == pytest.approx(expected)
    # Whatever a later test says, the study keeps what its own said.
    later = Path(cli.trainer.log_dir) / "results.json"
    assert later.parent.parent == version("pretrained", 0).parent
    later.write_text(later.read_text().replace(json.dumps(expected["test/top1"]), "9.5"))
    before = Path("runs/semi/version_0/table.json").read_text()
    tune("--seeds=0,1", "--data.fraction=0.2")
    assert Path("runs/semi/version_0/table.json").read_text() == before
    run(["fuse", *(str(version(variant, 1).parent) for variant in VARIANTS)])
    assert "fused" in capsys.readouterr().out


def test_transfer_is_another_data_block(tmp_path):
    """Two classes instead of ten, the whole training part, the same joints."""
    words = [*PEOPLE, f"--data.root={tmp_path}", "--data.layout=kinect20", "--seeds=0"]
    tune(*words, config=EXPERIMENTS / "evaluate" / "transfer.yaml")
    config = yaml.safe_load((version("pretrained", 0, "runs/transfer/version_0") / "config.yaml").read_text())
    assert config["data"]["class_path"].endswith("Synthetic")
    results = json.loads((version("pretrained", 0, "runs/transfer/version_0") / "results.json").read_text())
    assert results["classes"] == 2
    text = Path("runs/transfer/version_0/table.txt").read_text()
    assert "all training clips labelled" in text
    assert " ± " not in text


def only_line(capfd, code, stop):
    assert stop.value.code == code
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("skelcl: error: ")]
    assert len(lines) == 1
    return lines[0]


def test_other_joints_are_one_clear_line(capfd, tmp_path):
    with pytest.raises(SystemExit) as stop:
        tune(*PEOPLE, f"--data.root={tmp_path}", "--data.layout=coco17", "--trainer.logger.name=wrong")
    line = only_line(capfd, 1, stop)
    assert "ntu25 cannot become coco17: it has nothing to make 'nose'" in line
    assert "leave these joints out with a layout file" in line


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--ckpt_path=missing.ckpt"], 1, "missing.ckpt: no such checkpoint"),
        (["--seeds=0,0"], 2, "--seeds"),
        (["--seeds=many"], 2, "--seeds: seeds are different numbers from 0 on, like 0,1,2, not many"),
        (["--trainer.fast_dev_run=true"], 2, "fast_dev_run keeps nothing"),
        (["--model=Supervised"], 1, "this command trains FineTune"),
        (["--model.typo=1"], 2, "typo"),
        (["--trainer.logger=false"], 1, "CSVLogger"),
    ],
)
def test_what_makes_no_sense_is_one_line(capfd, words, code, told):
    with pytest.raises(SystemExit) as stop:
        tune(*words)
    assert told in only_line(capfd, code, stop)


def test_help_and_missing_checkpoint(capfd):
    for words in ([], ["--help"]):
        with pytest.raises(SystemExit) as stop:
            run(["fine-tune", *words])
        assert stop.value.code == 0
        assert "--seeds" in capfd.readouterr().out
    with pytest.raises(SystemExit) as stop:
        run(["fine-tune", "--seeds=1"])
    assert "--ckpt_path" in only_line(capfd, 2, stop)


def test_what_is_taken_over_depends_on_the_method():
    stored = stored_config(Path("X.ckpt"))
    kept = starting_point(stored)["model"]["init_args"]
    assert set(kept) == {"encoder", "view", "eval_view"}
    assert starting_point(stored)["data"]["init_args"].keys().isdisjoint({"validation", "fraction", "repeat"})
    tuned = stored_config(version("pretrained", 0) / "checkpoints" / "last.ckpt")
    assert starting_point(tuned)["model"]["init_args"] == {**kept, "method": None}


OTHERS = {
    "SDSCL": ["--model.encoder=DSTA", "--model.encoder.blocks=[[8,2,2]]", "--model.heads=2"],
    "SCDNet": [
        "--model.encoder=SCD",
        "--model.encoder.num_frames=16",
        "--model.encoder.widths=[4,8,4]",
        "--model.encoder.dim=8",
        "--model.encoder.heads=2",
        "--model.queue_size=20",
    ],
    "STDCL": ["--model.encoder=CTRGCN", "--model.encoder.widths=[8]", "--model.encoder.strides=[2]", "--model.dim=4"],
}


@pytest.mark.parametrize(
    ("method", "recipe"), [("SDSCL", "semi-sds_cl"), ("SCDNet", "semi-as_cal"), ("STDCL", "fine_tune")]
)
def test_every_method_is_fine_tuned_by_the_same_command(ucla, tmp_path, method, recipe):
    views = {"class_path": "View", "init_args": {"sample": {"class_path": "Resize", "init_args": {"frames": 16}}}}
    config = {
        "data": {"class_path": "NWUCLA", "init_args": {"root": str(ucla), "batch_size": 20}},
        "model": {"class_path": method, "init_args": {"view": views, "eval_view": views}},
    }
    (tmp_path / "method.yaml").write_text(yaml.safe_dump(config))
    words = [*OTHERS[method], *["--model.positives=2", "--model.negatives=2"][: 2 * (method == "STDCL")], *QUIET]
    words += ["--trainer.max_epochs=1", f"--trainer.logger.name={method}"]
    fitted = run(["fit", "--config", str(tmp_path / "method.yaml"), *words])
    last = Path(fitted.trainer.log_dir) / "checkpoints" / "last.ckpt"
    before = torch.load(last, weights_only=True)["state_dict"]
    kept = starting_point(stored_config(last))["model"]["init_args"]
    assert ("method" in kept) == (method == "SDSCL"), "where features are more than those of the encoder"
    found = {}

    def watch(self, *_):
        found.update({name: value.clone() for name, value in self.state_dict().items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FineTune, "on_train_epoch_start", watch)
        amount = ["--data.fraction=0.5"] if "semi" in recipe else []
        words = ["--seeds=0", "--scratch=false", "--trainer.max_epochs=1", f"--ckpt_path={last}", *amount]
        tune(*words, config=EXPERIMENTS / "evaluate" / f"{recipe}.yaml")
    encoder = {name: value for name, value in before.items() if name.startswith("encoder.")}
    assert encoder.keys() == {name for name in found if name.startswith("encoder.")}
    for name, value in encoder.items():
        assert torch.equal(found[name], value), name
    assert all(name.startswith(("encoder.", "classifier.")) for name in found)
    assert Path(f"runs/{recipe}/version_0/table.txt").is_file()


RECIPES = {  # optimiser's rate, its decay, Nesterov (None is no SGD), milestones, epochs, batch
    "semi": (0.01, 0.0, False, [50, 70], 80, 64),
    "transfer": (0.01, 0.0, False, [50, 70], 80, 64),
    "semi-as_cal": (0.01, 0.0, True, [8], 15, 32),
    "semi-sds_cl": (0.1, 5e-4, True, [60, 90], 120, 32),
    "semi-nw_ucla-small": (1e-3, 1e-4, None, [7], 10, 16),
    "fine_tune": (0.1, 1e-4, True, [10, 30, 50], 80, 128),
}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_a_run_file_says_what_it_is(file):
    header = "".join(line for line in file.read_text().splitlines(keepends=True) if line.startswith("#"))
    assert re.search(r"arXiv \d{4}\.\d{5}", header)
    assert f"skelcl fine-tune --config experiments/evaluate/{file.name} --ckpt_path X" in header
    for field in ("Train", "Evaluate", "Expect", "Duration"):
        assert re.search(rf"^# {field}\b", header, re.MULTILINE), field


def test_mamp_is_fine_tuned_as_published(ucla):
    """Its recipe changes how the pre-trained encoder pools and what it drops, and trains it, on few labels."""
    file = EXPERIMENTS / "pretrain" / "mamp-nw_ucla-small.yaml"
    words = ["fit", "--config", file, f"--data.root={ucla}", "--data.batch_size=16", "--trainer.max_epochs=1", *QUIET]
    words += ["--model.encoder.dim=16", "--model.encoder.depth=2", "--model.encoder.heads=2", "--model.decoder_dim=8"]
    last = Path(run([str(word) for word in words]).trainer.log_dir) / "checkpoints" / "last.ckpt"
    before = torch.load(last, weights_only=True)["state_dict"]
    found = {}

    def watch(self, *_):
        found.setdefault("state", {name: value.clone() for name, value in self.state_dict().items()})
        found["method"], found["groups"] = self, [dict(group) for group in self.optimizers().param_groups]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FineTune, "on_train_epoch_start", watch)
        words = [
            f"--ckpt_path={last}",
            "--data.fraction=0.5",
            "--seeds=0",
            "--scratch=false",
            "--model.encoder.hidden=32",
        ]
        tune(*words, config=MAMP_RECIPE)
    for name, value in before.items():
        if name.startswith("encoder."):
            assert torch.equal(found["state"][name], value), name
    method, groups = found["method"], found["groups"]
    assert method.encoder.dim == 20 * 16
    assert [block.drop_path.p for block in method.encoder.blocks] == pytest.approx([0, 0.3])
    assert (method.encoder.dropout.p, method.label_smoothing) == (0.3, 0.1)
    assert (method.classifier.fc1.weight.shape, method.classifier.fc2.weight.shape) == ((32, 320), (10, 32))
    scale = [0.8**depth for depth in (3, 3, 2, 2, 1, 1, 0, 0)]
    assert [group["initial_lr"] for group in groups] == pytest.approx([3e-4 * one for one in scale])
    assert [group["weight_decay"] for group in groups] == [0.05, 0.0] * 4
    assert groups[0]["betas"] == (0.9, 0.999)
    recipe = yaml.safe_load(MAMP_RECIPE.read_text())
    assert recipe["model"]["init_args"]["scheduler"]["init_args"] == {"epochs": 100, "warmup_epochs": 5, "min_lr": 1e-5}
    assert (recipe["trainer"]["max_epochs"], recipe["data"]["init_args"]["batch_size"]) == (100, 48)
    assert Path("runs/fine_tune-mamp/version_0/table.txt").is_file()


@pytest.mark.parametrize("file", [file for file in FILES if file != MAMP_RECIPE], ids=lambda path: path.stem)
def test_a_run_file_is_what_its_paper_says_and_lies_over_a_checkpoint(capsys, file):
    with pytest.raises(SystemExit) as stop:
        run(["fine-tune", "--config", str(file), "--ckpt_path=X.ckpt", "--print_config"])
    assert stop.value.code == 0
    resolved = yaml.safe_load(capsys.readouterr().out)
    model = resolved["model"]["init_args"]
    assert resolved["model"]["class_path"].endswith("FineTune")
    rate, decay, nesterov, milestones, epochs, batch = RECIPES[file.stem]
    optimizer = {"lr": rate, "weight_decay": decay}
    if nesterov is not None:
        optimizer |= {"nesterov": nesterov, "momentum": 0.9}
    assert model["optimizer"]["class_path"] == f"torch.optim.{'AdamW' if nesterov is None else 'SGD'}"
    assert model["optimizer"]["init_args"].items() >= optimizer.items()
    assert model["scheduler"]["init_args"]["milestones"] == milestones
    assert (resolved["trainer"]["max_epochs"], resolved["data"]["init_args"]["batch_size"]) == (epochs, batch)
    assert resolved["trainer"]["logger"][0]["init_args"]["name"] == file.stem
    assert model["encoder"]["class_path"].endswith(LSTM.__name__)
    assert model["augment"] == (file.stem != "semi-as_cal")
    source = resolved["data"]["class_path"].rpartition(".")[2]
    assert source == ("PKUMMD" if file.stem == "transfer" else "NWUCLA")


def test_later_processes_wait_for_the_folder_of_the_first(monkeypatch, tmp_path):
    def folder(name):
        logger = {"class_path": "CSVLogger", "init_args": {"save_dir": str(tmp_path), "name": name}}
        config = {"data": {"init_args": {"root": "data"}}, "trainer": {"logger": logger}, "model": {}}
        return study_folder(config, Path("X.ckpt"))

    first = folder("first")
    monkeypatch.setattr(study.rank_zero_only, "rank", 1)
    assert folder("first") == first

    made = tmp_path / "second" / "version_0"
    made.mkdir(parents=True)
    plan = (first / "study.json").read_text()
    threading.Timer(0.5, lambda: (made / "study.json").write_text(plan)).start()
    assert folder("second") == made

    monkeypatch.setattr(study, "PATIENCE", 0.2)
    with pytest.raises(InputError, match="made no folder"):
        folder("third")
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"metrics": {"test/top1": "x"}, "run": {}}', '{"metrics": {}, "run": 3}', "7" * 5000]
)
def test_damaged_results_in_its_own_folder_are_one_line(tmp_path, text):
    (tmp_path / "version_0").mkdir()
    (tmp_path / "version_0" / "results.json").write_text(text)
    mark = tmp_path / FINISHED
    mark.write_text("version_0\n")
    with pytest.raises(InputError, match=rf"results\.json: .*: remove {mark}, and the same command tests"):
        finished(tmp_path, PRETRAINED, 0)
    mark.write_bytes(b"\xff")
    assert finished(tmp_path, PRETRAINED, 0) is None
