"""Runs that are interrupted: never success, one line on how to go on, everybody ends, nothing is lost."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import allow, session, wait_for

from skelcl.encoders import LSTM
from skelcl.runs.interruption import PROGRAM

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
RUN = EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml"
SEMI = EXPERIMENTS / "evaluate" / "semi-nw_ucla-small.yaml"
LAST = Path("runs/as_cal-nw_ucla/version_0/checkpoints/last.ckpt")
QUIET = [
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]
SMALL = [*QUIET, "--model.encoder.hidden=8", "--model.queue_size=32", "--data.batch_size=16"]
GO_ON = "go on with skelcl fit --ckpt_path"
RESUME = f"{GO_ON} {LAST}"
RERUN_HINT, ON = "the same command does it anew", "the same command goes on from here"
pytestmark = pytest.mark.linux("POSIX signals, and /proc to see who is left")
BOTH = pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])


@pytest.fixture
def main(monkeypatch, tmp_path):
    """Runs the program ``skelcl`` in this process, in an empty folder; it answers to signals."""
    from skelcl.cli import main

    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SKELCL_FIRST_PROCESS", "")

    def call(*words):
        PROGRAM.__init__()
        monkeypatch.setattr(sys, "argv", ["skelcl", *map(str, words)])
        try:
            main()
        finally:
            PROGRAM.close()

    yield call
    PROGRAM.__init__()
    signal.signal(signal.SIGINT, old)


@pytest.fixture
def interrupt(monkeypatch):
    """``interrupt(kind, calls)`` sends a signal to this process once an LSTM has been called so often."""

    def prepare(kind, calls):
        left, forward = [calls], LSTM.forward

        def count(self, x):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), kind)
            return forward(self, x)

        monkeypatch.setattr(LSTM, "forward", count)

    return prepare


def told(capfd, kind, how, stop):
    """The program must have left with 128 + signal and one line."""
    assert stop.value.code == 128 + kind
    lines = [line for line in capfd.readouterr().err.splitlines() if "INFO" not in line and "vailable" not in line]
    assert [line for line in lines if "rror" in line or "Traceback" in line] == [
        f"skelcl: error: interrupted by {signal.Signals(kind).name}: {how}"
    ]


VERBS = {
    "fit": (["fit", "--config", RUN, *SMALL], 3, RERUN_HINT),
    "fit, one epoch later": (["fit", "--config", RUN, *SMALL], 30, RESUME),
    "fit, resumed": (["fit", "--ckpt_path", "X.ckpt", "--trainer.max_epochs=9"], 3, f"{GO_ON} X.ckpt"),
    "validate": (["validate", "--ckpt_path", "X.ckpt"], 2, RERUN_HINT),
    "test": (["test", "--ckpt_path", "X.ckpt"], 4, RERUN_HINT),
    "predict": (["predict", "--ckpt_path", "X.ckpt", "--features.path=features.npz"], 2, RERUN_HINT),
    "evaluate": (["evaluate", "--ckpt_path", "X.ckpt", "--protocols=knn"], 2, RERUN_HINT),
    "fine-tune": (["fine-tune", "--config", SEMI, "--ckpt_path=X.ckpt", *QUIET, "--trainer.max_epochs=9"], 20, ON),
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(ucla, tmp_path_factory):
    """A checkpoint of two epochs."""
    folder = tmp_path_factory.mktemp("trained")
    words = ["fit", "--config", RUN, f"--data.root={ucla}", *SMALL, "--trainer.max_epochs=2"]
    words += [f"--trainer.logger.save_dir={folder}"]
    from skelcl.cli import run

    run([str(word) for word in words])
    return folder / "as_cal-nw_ucla/version_0/checkpoints/last.ckpt"


@BOTH
@pytest.mark.parametrize("verb", VERBS)
def test_whatever_is_interrupted_does_not_say_success(main, interrupt, trained, ucla, capfd, kind, verb):
    words, calls, how = VERBS[verb]
    if "X.ckpt" in str(words):
        Path("X.ckpt").symlink_to(trained)
    else:
        words = [*words, f"--data.root={ucla}"]
    interrupt(kind, calls)
    with pytest.raises(SystemExit) as stop:
        main(*words)
    told(capfd, kind, how, stop)
    assert not list(Path.cwd().rglob("results.json"))
    assert not list(Path.cwd().rglob("*.part*"))
    assert not Path("features.npz").exists()
    for path in Path.cwd().rglob("last.ckpt"):
        torch.load(path)


@pytest.fixture
def start(tmp_path):
    """Starts the program ``skelcl`` in a session of its own."""
    started = []

    def make(*words, **variables):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXPERIMENTS.parent), **variables}
        with (tmp_path / "err").open("w") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "skelcl", *map(str, words)], cwd=tmp_path, env=environment,
                preexec_fn=allow, start_new_session=True, stdout=subprocess.DEVNULL, stderr=err,
            )  # fmt: skip
        started.append(process)
        return process

    yield make
    for process in started:
        for pid in session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()


def ended(process, kind, folder, how):
    """The process must end within ten seconds, with its line, and all of its session with it."""
    assert process.wait(10) == 128 + kind
    lines = [line for line in (folder / "err").read_text().splitlines() if "rror" in line or "Traceback" in line]
    assert lines == [f"skelcl: error: interrupted by {signal.Signals(kind).name}: {how}"]
    wait_for(lambda: not session(process.pid), 5)


def losses(folder):
    """The last logged loss of each epoch, over all parts of a run."""
    found = {}
    for path in sorted(folder.glob("version_*/metrics.csv")):
        with path.open() as file:
            found |= {row["epoch"]: row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]}
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
@BOTH
@pytest.mark.parametrize("whom", ["one", "first of two", "second of two", "both"])
def test_all_processes_of_a_run_end_and_the_resumed_one_repeats_it(start, ucla, tmp_path, skelcl, kind, whom):
    words = ["--config", RUN, f"--data.root={ucla}", *SMALL, "--trainer.log_every_n_steps=1"]
    if whom != "one":
        words += ["--trainer.devices=2", "--trainer.strategy=ddp"]
    process = start("fit", *words, "--trainer.max_epochs=4000")
    wait_for((tmp_path / LAST).is_file)
    others = [pid for pid in session(process.pid) if pid != process.pid]
    assert len(others) == (whom != "one")
    for pid in {"second of two": others, "both": [process.pid, *others]}.get(whom, [process.pid]):
        os.kill(pid, kind)
    ended(process, kind, tmp_path, RESUME)
    if whom == "one":
        epochs = torch.load(tmp_path / LAST)["epoch"] + 3
        skelcl("fit", "--ckpt_path", LAST, f"--trainer.max_epochs={epochs}")
        skelcl("fit", *words, f"--trainer.max_epochs={epochs}", "--trainer.logger.name=whole")
        assert losses(Path("runs/as_cal-nw_ucla")) == losses(Path("runs/whole"))
        states = [torch.load(path)["state_dict"] for path in sorted(Path("runs").rglob("version_*/checkpoints/*.ckpt"))]
        assert all(torch.equal(states[1][name], value) for name, value in states[2].items())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_forked_process_that_is_ended_ends_the_run(start, ucla, tmp_path):
    words = ["--config", RUN, f"--data.root={ucla}", *SMALL, "--trainer.devices=2", "--trainer.strategy=ddp_fork"]
    process = start("fit", *words, "--trainer.max_epochs=4000")
    wait_for((tmp_path / LAST).is_file)
    os.kill(max(pid for pid in session(process.pid) if pid != process.pid), signal.SIGTERM)
    ended(process, signal.SIGTERM, tmp_path, RERUN_HINT)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "ddp_fork"])
def test_what_all_processes_refuse_is_told_once_and_leaves_nothing(start, ucla, tmp_path, strategy):
    words = ["--config", RUN, f"--data.root={ucla}", *SMALL, "--trainer.devices=2", f"--trainer.strategy={strategy}"]
    process = start("fit", *words, "--model.queue_size=4")
    assert process.wait(100) == 2
    lines = [line for line in (tmp_path / "err").read_text().splitlines() if "rror" in line or "Traceback" in line]
    assert len(lines) == 1
    assert lines[0].startswith("skelcl: error: ASCAL: queue_size 4 is smaller than the batch of 32 clips")
    assert not list(tmp_path.glob("runs/*/*"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGKILL])
def test_before_the_processes_have_met(start, ucla, tmp_path, kind):
    """The first waits for the second, which is still being imported."""
    words = ["--config", RUN, f"--data.root={ucla}", *SMALL, "--trainer.devices=2", "--trainer.strategy=ddp"]
    process = start("fit", *words)
    wait_for(lambda: len(session(process.pid)) == 2)
    process.send_signal(kind)
    if kind == signal.SIGTERM:
        ended(process, kind, tmp_path, RERUN_HINT)
    wait_for(lambda: not session(process.pid), 10)


@pytest.mark.slow
def test_slurm_s_own_signal_still_saves_and_queues_the_job_again(start, ucla, tmp_path):
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "scontrol"
    program.write_text('#!/bin/sh\necho "$@" >> called\n')
    program.chmod(0o755)
    job = {
        "SLURM_JOB_ID": "77",
        "SLURM_NTASKS": "1",
        "SLURM_JOB_NAME": "job",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
    }
    job |= {"SLURM_NODEID": "0", "SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS_PER_NODE": "1"}
    job["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    words = ["--config", RUN, f"--data.root={ucla}", *SMALL, "--trainer.max_epochs=4000"]
    process = start("fit", *words, f"--trainer.default_root_dir={tmp_path}", **job)
    wait_for((tmp_path / LAST).is_file)
    process.send_signal(signal.SIGUSR1)
    wait_for((tmp_path / "called").is_file)
    assert (tmp_path / "called").read_text() == "requeue 77\n"
    assert torch.load(tmp_path / "hpc_ckpt_1.ckpt")["epoch"] >= 0
    process.send_signal(signal.SIGTERM)
    ended(process, signal.SIGTERM, tmp_path, RESUME)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_trial_that_was_ended_is_not_complete_and_goes_on(start, ucla, tmp_path, skelcl):
    sweep = {
        "method": "grid",
        "metric": {"name": "val/knn_top1", "goal": "maximize"},
        "parameters": {"model.temperature": {"values": [0.1]}},
        "command": ["${env}", "skelcl", "fit", "--config", str(RUN), f"--data.root={ucla}", *SMALL],
    }
    sweep["command"] += ["--trainer.max_epochs=40", "${args}"]
    (tmp_path / "sweep.yaml").write_text(json.dumps(sweep))
    words = ["sweep", "sweep.yaml", "--local", "--folder=out"]
    process = start(*words)
    trial = tmp_path / "out" / "trial_000"
    wait_for((trial / "version_0" / "checkpoints" / "last.ckpt").is_file)
    (child,) = (
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if b"skelcl.sweeps.child" in path.read_bytes()
        and Path(f"/proc/{path.parent.name}/cwd").resolve() == tmp_path
    )  # fmt: skip
    os.kill(child, signal.SIGTERM)
    assert process.wait(30) == 1
    assert "trial 0: failed" not in (tmp_path / "err").read_text()
    assert "no trial came to its end: interrupted by SIGTERM" in (tmp_path / "err").read_text()
    with (tmp_path / "out" / "table.csv").open() as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["failed"]
    skelcl(*words)
    with (tmp_path / "out" / "table.csv").open() as file:
        assert [(row["state"], row["measured"]) for row in csv.DictReader(file)] == [("complete", "40")]


READER = """
import time
from pathlib import Path
from skelcl.data.recording import DatasetInfo, Recording, Source
from skelcl.skeleton import KINECT20
import numpy as np

INFO = DatasetInfo("mini", KINECT20, ("a", "b"), 1, axes="y up")

def read(where):
    Path(f"read-{where}").touch()
    time.sleep(SECONDS)
    return [Recording(str(where), np.ones((1, 4, 20, 3), np.float32), 0)]
"""
PREPARE = """
from skelcl.data.convert import convert
from skelcl.runs.interruption import PROGRAM
import reader

sources = [reader.Source(str(n), n, "1") for n in range(8)]
if __name__ == "__main__":
    PROGRAM.run(lambda: convert(".", reader.INFO, sources, reader.read, kind="memory", jobs=2, files_per_shard=2))
"""


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_workers_of_prepare_end_with_it(tmp_path, kind):
    """Also the process that multiprocessing starts beside them."""
    (tmp_path / "reader.py").write_text(READER.replace("SECONDS", "60"))
    (tmp_path / "prepare.py").write_text(PREPARE)
    environment = {**os.environ, "PYTHONPATH": f"{EXPERIMENTS.parent}{os.pathsep}{tmp_path}"}
    command = [sys.executable, "prepare.py"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=allow,
    )  # fmt: skip
    wait_for(lambda: len(list(tmp_path.glob("read-*"))) == 2)
    assert len(session(process.pid)) == 4
    if kind == signal.SIGINT:
        os.killpg(process.pid, kind)  # as a terminal does
    else:
        process.send_signal(kind)
    _, err = process.communicate(timeout=10)
    assert process.returncode == (-kind if kind == signal.SIGKILL else 128 + kind)
    wait_for(lambda: not session(process.pid), 10)
    if kind != signal.SIGKILL:
        lines = [line for line in err.splitlines() if line and "file/s" not in line]
        assert lines == [f"skelcl: error: interrupted by {signal.Signals(kind).name}: {ON}"]
    (tmp_path / "reader.py").write_text(READER.replace("SECONDS", "0"))
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "mini" / "meta.json").is_file()
