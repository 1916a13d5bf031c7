"""The command line as a user meets it: fit, resume, test from a checkpoint alone, predict, and every bad input."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
RUN = EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml"
LAST = Path("runs/as_cal-nw_ucla/version_0/checkpoints/last.ckpt")
SMALL = [
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
    "--model.encoder.hidden=8",
    "--model.queue_size=32",
    "--data.batch_size=16",
]


@pytest.fixture
def fit(skelcl, ucla):
    return lambda *words: skelcl("fit", "--config", RUN, f"--data.root={ucla}", *SMALL, *words)


def metrics(version):
    """Rows of a run's CSV file without empty cells."""
    with Path(f"runs/as_cal-nw_ucla/version_{version}/metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


def only_line(capfd, code, stop):
    """The one line that a command must leave on stderr."""
    assert stop.value.code == code
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("skelcl: error: ")]
    assert len(lines) == 1
    return lines[0]


def test_files_of_a_run(fit):
    fit("--trainer.max_epochs=2")
    run = LAST.parents[1]
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "config.yaml", "metrics.csv"]
    assert [path.name for path in LAST.parent.iterdir()] == ["last.ckpt"]
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["init_args"]["queue_size"] == 32
    columns = set().union(*metrics(0))
    assert {"epoch", "step", "train/loss", "train/contrast_top1", "train/cosine", "val/knn_top1"} <= columns


def test_resume_is_exact(fit):
    """Two epochs at once and one + resume + one: the same bits in weights, queue, optimiser and metrics."""
    whole = fit("--trainer.max_epochs=4")
    fit("--trainer.max_epochs=2")
    resumed = fit("--trainer.max_epochs=4", "--ckpt_path=runs/as_cal-nw_ucla/version_1/checkpoints/last.ckpt")
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    momenta = [cli.trainer.optimizers[0].state_dict() for cli in (whole, resumed)]
    assert momenta[0]["param_groups"] == momenta[1]["param_groups"]
    for a, b in zip(momenta[0]["state"].values(), momenta[1]["state"].values(), strict=True):
        assert set(a) == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert metrics(1) + metrics(2) == metrics(0)


def test_a_resumed_run_takes_schedule_and_rates_of_the_command_line(fit, skelcl):
    """As if they had been given from the start: the same bits; and a milestone that is long past counts, too."""
    steps = ["--model.scheduler.milestones=[2]", "--trainer.max_epochs=4"]
    whole = fit(*steps)
    fit("--trainer.max_epochs=2")
    checkpoint = ["--ckpt_path", "runs/as_cal-nw_ucla/version_1/checkpoints/last.ckpt"]
    for resumed in (skelcl("fit", *checkpoint, *steps), fit(*checkpoint, *steps)):
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, resumed.model.state_dict()[name]), name
    rates = ["--model.optimizer.lr=0.5", "--model.optimizer.weight_decay=0.25", "--model.scheduler.milestones=[1]"]
    (group,) = skelcl("fit", *checkpoint, *rates, "--trainer.max_epochs=3").trainer.optimizers[0].param_groups
    assert group["lr"] == pytest.approx(0.05)
    assert group["weight_decay"] == 0.25


def test_a_run_goes_on_with_its_own_optimiser(fit, skelcl, capfd):
    fit("--trainer.max_epochs=1")
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", "--ckpt_path", LAST, "--trainer.max_epochs=2", "--model.optimizer=SGD")
    line = only_line(capfd, 1, stop)
    assert re.search(r"the checkpoint's optimiser has .*betas.*, which SGD lacks: a run goes on with", line)


def test_a_checkpoint_resumes_without_its_config_file(fit, skelcl, ucla):
    fit("--trainer.max_epochs=1")
    cli = skelcl("fit", "--ckpt_path", LAST, "--trainer.max_epochs=2")
    assert cli.trainer.current_epoch == 2
    assert len(cli.model.queue) == 32


def test_test_needs_only_the_checkpoint(fit, skelcl, capfd):
    fitted = fit("--trainer.max_epochs=2")
    cli = skelcl("test", "--ckpt_path", LAST)
    for name, value in fitted.model.state_dict().items():
        assert torch.equal(value, cli.model.state_dict()[name]), name
    found = {name for name in cli.trainer.callback_metrics}
    for part in ("test", "test_clean"):
        assert {f"{part}/{kind}_top1" for kind in ("knn", "linear", "random_knn", "random_linear")} <= found
    run = Path(cli.trainer.log_dir)
    assert {"results.json", "per_class.csv", "confusion.csv", "config.yaml"} <= {path.name for path in run.iterdir()}
    assert "random encoder" in capfd.readouterr().out


def test_the_record_says_how_the_epoch_was_chosen(fit, skelcl):
    best = ["filename=best", "monitor=val/knn_top1", "mode=max", "save_on_train_epoch_end=true"]
    best = ["--trainer.callbacks=ModelCheckpoint", *(f"--trainer.callbacks.{option}" for option in best)]
    fit("--trainer.max_epochs=2", *best)
    for name, expected in {"best": "best val/knn_top1", "last": "last epoch"}.items():
        cli = skelcl("test", "--ckpt_path", LAST.with_name(f"{name}.ckpt"))
        assert json.loads((Path(cli.trainer.log_dir) / "results.json").read_text())["selection"] == expected


def test_flags_win_over_the_stored_config_and_are_reported(fit, skelcl, capfd):
    fit("--trainer.max_epochs=1")
    cli = skelcl("test", "--ckpt_path", LAST, "--model.init_args.temperature=0.9", "--evaluation.k=3")
    assert cli.model.temperature == 0.9
    told = capfd.readouterr().out
    assert re.search(r"model\.init_args\.temperature: 0\.1 in the checkpoint, 0\.9 on the command line", told)
    assert re.search(r"evaluation\.k: 1 in the checkpoint, 3 on the command line", told)


def test_an_untrained_encoder_can_be_tested(skelcl, ucla):
    cli = skelcl("test", "--config", RUN, f"--data.root={ucla}", *SMALL)
    metrics = cli.trainer.callback_metrics
    assert 0 <= metrics["test/knn_top1"] <= 1


def test_predict_writes_one_file_of_features(fit, skelcl, ucla):
    fit("--trainer.max_epochs=1")
    cli = skelcl("predict", "--ckpt_path", LAST, "--data.predict_split=all", "--features.path=features.npz")
    with np.load("features.npz", allow_pickle=False) as file:
        content = dict(file)
    clips = cli.datamodule.store.clips(np.arange(90), 1)
    assert content["features"].shape == (90, 8)
    with torch.no_grad():
        np.testing.assert_allclose(content["features"], cli.model.eval()(clips).numpy(), rtol=1e-5, atol=1e-6)
    assert content["id"].tolist() == sorted(content["id"].tolist())
    assert content["label"].tolist() == clips.label.tolist()


def test_validate_reports_knn(fit, skelcl):
    fit("--trainer.max_epochs=1")
    cli = skelcl("validate", "--ckpt_path", LAST)
    assert 0 <= cli.trainer.callback_metrics["val/knn_top1"] <= 1


def test_plot_views_animates_a_clip_of_a_run_from_another_machine(fit, skelcl):
    from PIL import Image

    fit("--trainer.max_epochs=1")
    content = torch.load(LAST, weights_only=True)
    content["skelcl_config"] = content["skelcl_config"].replace("accelerator: cpu", "accelerator: tpu")
    torch.save(content, LAST)
    skelcl("plot", "views", "--ckpt_path", LAST, "--output", "views.gif", "--clip", "a01_s01_e00_v01")
    with Image.open("views.gif") as image:
        assert image.n_frames > 1


def test_encoder_facts_come_from_the_data(fit):
    cli = fit("--trainer.max_epochs=1", "--data.num_persons=2")
    assert cli.model.encoder.lstm.input_size == 3 * 20 * 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model.init_args.temperature", "hot"], r"ASCAL: temperature: must be a number at least 1e-06, got hot"),
        (["--model.init_args.temprature", "0.1"], r"ASCAL: Option 'temprature' is not accepted"),
        (["--model", "NoSuchMethod"], r"model: .*NoSuchMethod"),
        (["--trainer.max_epochs", "many"], r"trainer.max_epochs: must be a whole number, got many"),
        (["--no_such_option", "1"], r"no_such_option"),
        (["--config", "missing.yaml"], r"missing.yaml"),
        (["--config", "misspelt.yaml"], r"temprature"),
        (["--config", "unknown_key.yaml"], r"modell"),
        (["--config", "broken.yaml"], r"line 1"),
    ],
)
def test_a_wrong_option_is_one_line_and_code_2(fit, tmp_path, capfd, words, message):
    (tmp_path / "misspelt.yaml").write_text("model: {init_args: {temprature: 0.1}}")
    (tmp_path / "unknown_key.yaml").write_text("modell: {init_args: {temperature: 0.1}}")
    (tmp_path / "broken.yaml").write_text("model: [1, 2")
    with pytest.raises(SystemExit) as stop:
        fit(*words)
    assert re.search(message, only_line(capfd, 2, stop))
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plot", "maps"], "--ckpt_path is missing"),
        (["plot", "skeleton", "--output", "a.gif"], "give either --store or --input"),
        (["predict", "--input", "clip.npy"], "--ckpt_path is missing"),
        (["evaluate", "--protocols", "knn"], "--ckpt_path is missing"),
        (["data", "import", "poses", "--format", "npy", "--input", ".", "--name", "x", "--fps", "-1"], "fps"),
        (["fit", "--data.layout", "me"], "no layout 'me': there are ntu25"),
    ],
)
def test_an_option_that_no_parser_can_know_is_wrong_has_code_2(fit, skelcl, capfd, words, message):
    with pytest.raises(SystemExit) as stop:
        (fit if words[0] == "fit" else skelcl)(*(words[1:] if words[0] == "fit" else words))
    assert message in only_line(capfd, 2, stop)


def test_a_missing_store_names_the_command_that_makes_it(fit, capfd):
    with pytest.raises(SystemExit) as stop:
        fit("--data.root=nowhere")
    assert "skelcl data prepare nw-ucla" in only_line(capfd, 1, stop)


@pytest.mark.parametrize("verb", ["fit", "test"])
def test_a_missing_checkpoint(skelcl, capfd, verb):
    with pytest.raises(SystemExit) as stop:
        skelcl(verb, "--ckpt_path", "nowhere.ckpt")
    assert "nowhere.ckpt: no such checkpoint" in only_line(capfd, 1, stop)


def test_debugging_adds_the_traceback_to_the_line(skelcl, capfd, monkeypatch):
    monkeypatch.setenv("SKELCL_DEBUG", "1")
    with pytest.raises(SystemExit) as stop:
        skelcl("test", "--ckpt_path", "nowhere.ckpt")
    assert stop.value.code == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "skelcl: error: nowhere.ckpt: no such checkpoint"


def test_a_file_that_is_no_checkpoint(skelcl, capfd, tmp_path):
    (tmp_path / "x.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(SystemExit) as stop:
        skelcl("test", "--ckpt_path", "x.ckpt")
    assert "x.ckpt: not a checkpoint" in only_line(capfd, 1, stop)


def test_a_checkpoint_that_would_run_code_is_refused(skelcl, capfd, tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    torch.save({"state_dict": {}, "x": Bomb()}, tmp_path / "x.ckpt")
    with pytest.raises(SystemExit) as stop:
        skelcl("test", "--ckpt_path", "x.ckpt")
    assert "x.ckpt" in only_line(capfd, 1, stop)
    assert not (tmp_path / "exploded").exists()


def test_a_checkpoint_without_config_asks_for_one(skelcl, capfd, tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "x.ckpt")
    with pytest.raises(SystemExit) as stop:
        skelcl("test", "--ckpt_path", "x.ckpt")
    assert "--config" in only_line(capfd, 1, stop)


def test_a_checkpoint_of_another_model(fit, skelcl, ucla, capfd):
    fit("--trainer.max_epochs=1")
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        skelcl("test", "--config", RUN, f"--data.root={ucla}", *SMALL, "--model.encoder.layers=2", "--ckpt_path", LAST)
    line = only_line(capfd, 1, stop)
    assert "last.ckpt: not a checkpoint of this model" in line
    assert "weight_ih_l1" in line


def test_an_unknown_verb_suggests_the_nearest(skelcl, capfd):
    with pytest.raises(SystemExit) as stop:
        skelcl("fti")
    assert "did you mean 'fit'" in only_line(capfd, 2, stop)


@pytest.mark.parametrize(
    "words", [["--help"], ["data", "--help"], ["data", "prepare", "--help"], ["plot", "views", "--help"]]
)
def test_help(words):
    result = subprocess.run([sys.executable, "-m", "skelcl", *words], capture_output=True, text=True, check=True)
    assert "skelcl" in result.stdout
    assert result.stderr == ""


def test_help_of_fit_documents_the_method(skelcl, capfd):
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", "--model.help", "ASCAL")
    assert stop.value.code == 0
    text = capfd.readouterr().out
    assert "--model.temperature" in text
    assert "τ of InfoNCE" in text


def test_version(skelcl, capfd):
    skelcl("--version")
    assert re.fullmatch(r"skelcl \d+\.\d+\.\d+\n", capfd.readouterr().out)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("fit --trainer.max_epochs x", "trainer.max_epochs: must be a whole number, got x"),
        ("fit --trainer.callbacks 3", "trainer.callbacks: must be a list or a class that is known, got 3"),
        ("fit --trainer.callbacks Nothing", "trainer.callbacks: must be a list or a class that is known, got Nothing"),
        ("fit --trainer.callbacks EarlyStopping",
         "trainer.callbacks: EarlyStopping: the following arguments are required: monitor"),
        ("fit --trainer.logger 3", "trainer.logger: must be a class that is known or a list or true or false, got 3"),
        ("fit --trainer.enable_progress_bar maybe", "trainer.enable_progress_bar: must be true or false, got maybe"),
        ("fit --trainer.gradient_clip_val x", "trainer.gradient_clip_val: must be a whole number or a number, got x"),
        ("fit --data NWUCLA --data.validation x",
         "data: NWUCLA: validation: must be one of none, seen, held-out, got x"),
        ("fit --data NWUCLA --data.classes 3", "data: NWUCLA: classes: must be a list, got 3"),
        ("fit --stream.kind x", "stream.kind: must be one of joint, bone, motion, bone_motion, got x"),
        ("export --format agcn", "format: must be one of torch-export, onnx, safetensors, got agcn"),
        ("export --overwrite maybe", "overwrite: must be true or false, got maybe"),
    ],
)  # fmt: skip
def test_kinds_of_values_are_told_in_words(skelcl, capfd, words, told):
    with pytest.raises(SystemExit) as stop:
        skelcl(*words.split())
    assert stop.value.code == 2
    assert capfd.readouterr().err == f"skelcl: error: {told}\n"
