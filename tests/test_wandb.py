"""Runs with a W&B logger, in processes of their own: W&B keeps the mode of the first run of a process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from jsonargparse import Namespace

from skelcl.commands.lightning import _prepare_wandb
from skelcl.evaluation.record import RUN_KEY

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
OVERLAYS = EXPERIMENTS / "overlays"
RUN = EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml"
LAST = "runs/as_cal-nw_ucla/version_0/checkpoints/last.ckpt"
SMALL = [
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
    "--model.encoder.hidden=8",
    "--model.queue_size=32",
    "--data.batch_size=16",
]
BOTH = """
import os, sys, wandb
from skelcl.cli import run
run(sys.argv[1:])
wandb.finish()
offline = "false" if "WANDB_MODE" in os.environ else "true"
logger = "--trainer.logger+={class_path: WandbLogger, init_args: {offline: %s}}" % offline
run(["test", "--ckpt_path", "runs/as_cal-nw_ucla/version_0/checkpoints/last.ckpt", logger])
"""


def in_a_process(ucla, folder, mode, *overlays):
    """Train two epochs and test, with overlays."""
    words = ["fit", "--config", RUN, f"--data.root={ucla}", *SMALL, "--trainer.max_epochs=2"]
    for overlay in overlays:
        words += ["--config", OVERLAYS / overlay]
    environment = {**os.environ, "WANDB_DIR": str(folder), "WANDB_SILENT": "true", "WANDB_MODE": mode}
    if not mode:
        del environment["WANDB_MODE"]
    done = subprocess.run(
        [sys.executable, "-c", BOTH, *map(str, words)], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def records(log):
    """The records of W&B's file of an offline run (a LevelDB log: blocks of 32 KiB, of pieces with 7 bytes ahead)."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, whole = log.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        size, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        whole += data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # whole, or the last piece
            record = Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def test_offline_everything_is_logged(ucla, tmp_path):
    """Config, curves, artefacts of both checkpoints; after the test its numbers and pictures."""
    in_a_process(ucla, tmp_path, "", "wandb-offline.yaml", "wandb-checkpoints.yaml")
    trained, tested = sorted((tmp_path / "wandb").glob("offline-run-*"))  # by time
    assert trained.name.rpartition("-")[2] == tested.name.rpartition("-")[2], "a test adds to the run of its training"
    fitted = list(records(next(trained.glob("*.wandb"))))
    config = {item.key: item.value_json for record in fitted for item in record.config.update}
    assert '"skelcl.methods.ASCAL"' in config["model"]
    assert '"queue_size":32' in config["model"].replace(" ", "")
    curves = [{"/".join(item.nested_key) or item.key for item in record.history.item} for record in fitted]
    for key in ("train/loss", "val/knn_top1"):
        assert sum(key in names for names in curves) == 2, f"{key}: a value for each epoch"
    artefacts = [record.artifact for record in fitted if record.WhichOneof("record_type") == "artifact"]
    files = {tuple(set(one.aliases) - {"latest"}): [e.path for e in one.manifest.contents] for one in artefacts}
    assert files == {("last",): ["last.ckpt"], ("best",): ["best.ckpt"]}
    summary = b"".join(record.SerializeToString() for record in records(next(tested.glob("*.wandb"))))
    for text in (b"test/knn_top1", b"test_clean/linear_top1", b"images/separated"):
        assert text in summary
    pictures = {path.name.partition("_")[0] for path in tested.glob("files/media/images/test/*.png")}
    assert pictures == {"confusion", "embedding"}
    runs = tmp_path / "runs" / "as_cal-nw_ucla"
    assert (tmp_path / LAST).is_file(), "the CSV logger keeps the run folder"
    assert (runs / "version_1" / "confusion.png").is_file()


@pytest.mark.slow
def test_disabled_nothing_is_written(ucla, tmp_path):
    in_a_process(ucla, tmp_path, "disabled", "wandb.yaml", "wandb-checkpoints.yaml")
    assert not (tmp_path / "wandb").exists()
    assert (tmp_path / LAST).is_file()


RESUMED = """
import sys, wandb
from skelcl.cli import run
last = "runs/as_cal-nw_ucla/version_0/checkpoints/last.ckpt"
run(sys.argv[1:])
wandb.finish()
run(["fit", "--ckpt_path", last, "--trainer.max_epochs=2"])
wandb.finish()
run(["fit", "--ckpt_path", last, "--trainer.max_epochs=2", "--trainer.logger.init_args.id=another"])
"""


@pytest.mark.slow
def test_a_resumed_run_goes_on_in_wandb_unless_it_has_an_id(ucla, tmp_path):
    words = ["fit", "--config", RUN, f"--data.root={ucla}", *SMALL, "--trainer.max_epochs=1"]
    words += ["--config", OVERLAYS / "wandb-offline.yaml"]
    environment = {**os.environ, "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}
    done = subprocess.run(
        [sys.executable, "-c", RESUMED, *map(str, words)],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second, third = sorted((tmp_path / "wandb").glob("offline-run-*"), key=lambda path: path.stat().st_ctime)
    run_id = first.name.rpartition("-")[2]
    assert second.name.rpartition("-")[2] == run_id
    assert third.name.rpartition("-")[2] == "another"
    assert f"W&B: going on with run {run_id}" in done.stdout
    epochs = []
    for folder in (first, second):
        (log,) = folder.glob("*.wandb")
        found = {("/".join(item.nested_key) or item.key): item.value_json for record in records(log)
                 for item in record.history.item}  # fmt: skip
        epochs.append(int(found["epoch"]))
    assert epochs == [0, 1]


@pytest.mark.parametrize(
    ("facts", "environment", "expected"),
    [
        ({"wandb": "abc"}, {}, "abc"),
        ({"wandb": "abc"}, {"WANDB_RUN_ID": "other"}, None),
        ({"wandb": "../abc"}, {}, None),
        ({"wandb": ["abc"]}, {}, None),
        ({"wandb": torch.ones(1)}, {}, None),
        ({}, {}, None),
    ],
)
def test_the_run_of_a_checkpoint_is_taken_only_where_it_is_one_and_no_other_was_named(
    tmp_path, monkeypatch, facts, environment, expected
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    torch.save({"state_dict": {}, RUN_KEY: facts}, tmp_path / "last.ckpt")
    logger = Namespace(class_path="WandbLogger", init_args={})
    _prepare_wandb({"trainer": {"logger": [logger]}, "ckpt_path": str(tmp_path / "last.ckpt")})
    assert logger.init_args.get("id") == expected


@pytest.mark.parametrize(
    ("given", "environment", "project", "folder"),
    [
        ({}, {}, "skelcl", "."),
        ({}, {"WANDB_PROJECT": "mine", "WANDB_DIR": "logs"}, "mine", "logs"),
        ({"project": "own", "save_dir": "here"}, {"WANDB_PROJECT": "mine", "WANDB_DIR": "logs"}, "own", "here"),
    ],
    ids=["nothing", "environment", "options"],
)
def test_project_and_folder_are_those_of_options_then_environment(monkeypatch, given, environment, project, folder):
    for name in ("WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    logger = Namespace(class_path="WandbLogger", init_args=Namespace(**given))
    _prepare_wandb({"trainer": {"logger": [logger]}})
    assert (logger.init_args["project"], logger.init_args["save_dir"]) == (project, folder)


def test_nobody_logged_in_is_one_line(ucla, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    environment |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "WANDB_SILENT": "true"}
    words = ["fit", "--config", RUN, "--config", OVERLAYS / "wandb.yaml", f"--data.root={ucla}", *SMALL]
    done = subprocess.run(
        [sys.executable, "-m", "skelcl", *map(str, words)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert line.startswith("skelcl: error: W&B: ")
    assert "wandb login" in line
    assert "WANDB_MODE=offline" in line
    assert "Traceback" not in done.stderr


def test_each_training_of_fine_tune_is_a_run_of_one_group(ucla, tmp_path):
    code = """
import sys
from skelcl.cli import run
run(sys.argv[1:sys.argv.index("--")])
run(sys.argv[sys.argv.index("--") + 1:])
"""
    small = [word for word in SMALL if not word.startswith("--model")]
    words = ["fit", "--config", RUN, f"--data.root={ucla}", *SMALL, "--trainer.max_epochs=1", "--", "fine-tune"]
    for config in (EXPERIMENTS / "evaluate" / "semi.yaml", OVERLAYS / "wandb-offline.yaml"):
        words += ["--config", config]
    words += [f"--ckpt_path={LAST}", "--seeds=0", "--trainer.max_epochs=1", "--data.fraction=0.5", *small]
    environment = {**os.environ, "WANDB_DIR": str(tmp_path / "logs"), "WANDB_SILENT": "true"}
    (tmp_path / "logs").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    runs = {}
    for file in (tmp_path / "logs" / "wandb").glob("offline-run-*/*.wandb"):
        found = list(records(file))
        (run,) = [record.run for record in found if record.WhichOneof("record_type") == "run"]
        logged = {"/".join(item.nested_key) or item.key for one in found for item in one.history.item}
        runs[run.job_type] = (run.run_group, run.display_name, "train/loss" in logged, "test/top1" in logged)
    assert runs == {
        job: ("semi/version_0", f"semi/version_0/{job}-seed_0", True, True) for job in ("pretrained", "scratch")
    }
