"""Everything shipped under experiments/ is parsed, and every run file runs, on miniature data."""

import re
from pathlib import Path

import pytest
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint

from skelcl.encoders import LSTM

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
RUNS = sorted((EXPERIMENTS / "pretrain").glob("*.yaml"))
BLOCKS = sorted((EXPERIMENTS / "data").glob("*.yaml"))
ENCODERS = sorted((EXPERIMENTS / "encoders").glob("*.yaml"))
OVERLAYS = sorted((EXPERIMENTS / "overlays").glob("*.yaml"))
QUICK = [
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=2",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=2",
    "--trainer.num_sanity_val_steps=0",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
]


def name(path):
    return str(path.relative_to(EXPERIMENTS))


@pytest.mark.parametrize("run", RUNS, ids=name)
def test_a_run_file_trains_two_steps(skelcl, ucla, run):
    cli = skelcl("fit", "--config", run, f"--data.root={ucla}", *QUICK)
    metrics = cli.trainer.callback_metrics
    assert metrics["train/loss"].isfinite()
    assert cli.model.encoder.lstm.input_size == 3 * 20 * 1, "the skeleton of the data reached the encoder"
    for callback in cli.trainer.callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor is not None:
            assert callback.monitor in metrics
            assert not callback.monitor.startswith("test"), "nothing is selected on test"


@pytest.mark.parametrize("run", RUNS, ids=name)
def test_a_run_file_says_what_it_is(run):
    header = "".join(line for line in run.read_text().splitlines(keepends=True) if line.startswith("#"))
    assert re.search(r"arXiv \d{4}\.\d{5}", header)
    assert f"skelcl fit --config experiments/{name(run)}" in header
    for field in ("Data", "Train", "Evaluate", "Expect", "Duration"):
        assert re.search(rf"^# {field}\b", header, re.MULTILINE), field
    logger = yaml.safe_load(run.read_text())["trainer"]["logger"][0]
    assert logger == {"class_path": "CSVLogger", "init_args": {"save_dir": "runs", "name": run.stem}}


@pytest.mark.parametrize("overlay", OVERLAYS, ids=name)
def test_an_overlay_lies_over_a_run(skelcl, ucla, capsys, overlay):
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", "--config", RUNS[0], "--config", overlay, f"--data.root={ucla}", "--print_config")
    assert stop.value.code == 0
    resolved = yaml.safe_load(capsys.readouterr().out)
    for key, value in yaml.safe_load(overlay.read_text())["trainer"].items():
        if key == "logger+":
            assert [logger["class_path"].split(".")[-1] for logger in resolved["trainer"]["logger"]] == [
                "CSVLogger",
                "WandbLogger",
            ]
        elif key != "logger":
            assert resolved["trainer"][key] == value


@pytest.mark.parametrize("block", BLOCKS, ids=name)
def test_a_data_block_replaces_the_data_of_a_run(skelcl, ucla, capsys, block):
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", "--config", RUNS[0], "--data", block, "--print_config")
    assert stop.value.code == 0
    resolved = yaml.safe_load(capsys.readouterr().out)["data"]
    chosen = yaml.safe_load(block.read_text())
    assert resolved["class_path"].split(".")[-1] == chosen["class_path"].split(".")[-1]
    assert chosen.get("init_args", {}).items() <= resolved["init_args"].items()


@pytest.mark.parametrize("block", ENCODERS, ids=name)
def test_an_encoder_block_replaces_the_encoder_of_a_run(skelcl, ucla, block):
    cli = skelcl("fit", "--config", RUNS[0], f"--data.root={ucla}", f"--model.encoder={block}", *QUICK)
    assert isinstance(cli.model.encoder, LSTM)


def test_the_runs_of_the_paper_choose_what_the_paper_chose(skelcl, ucla, capsys):
    """The optimiser's own defaults must not leak into a run; every number that the reference states is pinned here."""
    with pytest.raises(SystemExit):
        skelcl(
            "fit",
            "--config",
            EXPERIMENTS / "pretrain" / "as_cal-nw_ucla-default.yaml",
            f"--data.root={ucla}",
            "--print_config",
        )
    config = yaml.safe_load(capsys.readouterr().out)
    model = config["model"]["init_args"]
    optimizer, scheduler = model["optimizer"], model["scheduler"]
    assert optimizer["class_path"] == "torch.optim.SGD"
    chosen = {key: optimizer["init_args"][key] for key in ("lr", "momentum", "weight_decay", "nesterov", "dampening")}
    assert chosen == {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False, "dampening": 0.0}
    assert scheduler["init_args"]["milestones"] == [30]
    assert scheduler["init_args"]["gamma"] == 0.1
    assert (model["queue_size"], model["temperature"], model["momentum"], model["warmup_epochs"]) == (
        500,
        0.06,
        0.999,
        1,
    )
    assert (model["normalize"], model["projector"], model["mask_same_instance"], model["loss"]) == (
        False,
        "none",
        False,
        "info_nce",
    )
    assert config["data"]["init_args"]["batch_size"] == 32
    assert config["trainer"]["max_epochs"] == 60
    assert [step["class_path"].split(".")[-1] for step in model["view"]["init_args"]["steps"]] == ["Reverse", "Shear"]


GENERATED = {
    "ntu60": ["ntu60-xsub", "ntu60-xview"],
    "ntu120": ["ntu120-xsub", "ntu120-xset"],
    "pku-mmd --part 1": ["pku_mmd-1-xsub", "pku_mmd-1-xview"],
    "pku-mmd --part 2": ["pku_mmd-2-xsub", "pku_mmd-2-xview"],
}
SMALL = {
    "ntu60": ["--subjects=4", "--actions=3"],
    "ntu120": ["--subjects=4", "--actions=3"],
    "pku-mmd --part 1": ["--recordings=6", "--actions=3"],
    "pku-mmd --part 2": ["--recordings=6", "--actions=3"],
}


@pytest.mark.parametrize("dataset", GENERATED)
def test_a_run_trains_from_every_data_set_with_no_change_but_the_data_block(skelcl, dataset):
    """From generated raw files, in each format, through the store, to two steps of AS-CAL."""
    skelcl("data", "generate", *dataset.split(), "--output=raw", *SMALL[dataset])
    skelcl("data", "prepare", *dataset.split(), "--raw=raw", "--root=data")
    for block in GENERATED[dataset]:
        cli = skelcl("fit", "--config", RUNS[0], "--data", EXPERIMENTS / "data" / f"{block}.yaml", *QUICK)
        assert cli.trainer.callback_metrics["train/loss"].isfinite()
        assert cli.model.encoder.lstm.input_size == 3 * 25 * 2


def test_a_run_trains_from_generated_people(skelcl):
    words = ["--data.subjects=4", "--data.replications=1", "--data.actions=['walk around', 'handshake']"]
    cli = skelcl("fit", "--config", RUNS[0], "--data", EXPERIMENTS / "data" / "synthetic.yaml", *words, *QUICK)
    assert cli.trainer.callback_metrics["train/loss"].isfinite()
    assert cli.datamodule.num_classes == 2
