"""Scripts for many devices: what they call, how they are interrupted, and that two processes are one."""

import csv
import importlib
import io
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from skelcl.commands.parsing import call_on

TOP = Path(__file__).parents[1]
SCALE = TOP / "experiments" / "scale"
RUN = "experiments/pretrain/as_cal-nw_ucla.yaml"
GUIDE = (TOP / "experiments" / "guides" / "scale.md").read_text()
pytestmark = pytest.mark.posix("shell scripts")


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder in front of the path, whose programs note their words and do what they are given to do."""
    (tmp_path / "experiments").symlink_to(TOP / "experiments")
    (tmp_path / "bin").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")

    def make(name, action=""):
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\nprintf '%s\\037' {name} \"$@\" >> calls\necho >> calls\n{action}\n")
        program.chmod(0o755)

    return make


def calls():
    return [line.split("\x1f")[:-1] for line in Path("calls").read_text().splitlines()]


def slurm(*words, code=0, **variables):
    environment = {**os.environ, "SLURM_JOB_ID": "77", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "4"}
    environment |= variables
    done = subprocess.run(["bash", SCALE / "slurm.sh", *words], env=environment, timeout=60, capture_output=True)
    assert done.returncode == code, done.stderr
    return calls()[-1]


@pytest.mark.parametrize("script", sorted(SCALE.glob("*.sh")), ids=lambda path: path.name)
def test_scripts_parse_and_name_runs_that_exist(script):
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    for path in re.findall(r"experiments/[\w./-]+\.(?:yaml|sh)", text):
        assert (TOP / path).exists(), path
    assert all(len(line) <= 125 for line in text.splitlines())


def test_what_slurm_starts_is_a_run(programs, skelcl, capsys):
    programs("srun")
    words = slurm(RUN, "--data.batch_size", "8")
    assert words[:4] == ["srun", "--kill-on-bad-exit=1", "skelcl", "fit"]
    with pytest.raises(SystemExit) as stop:
        skelcl(*words[3:], "--print_config")
    assert stop.value.code == 0
    config = capsys.readouterr().out
    for line in ("num_nodes: 2", "devices: '4'", "strategy: ddp", "batch_size: 8", "name: as_cal-nw_ucla-77"):
        assert line in config


@pytest.fixture
def saved(programs):
    """Checkpoints of a job, the oldest first, of given bytes; the program ``skelcl`` opens what is a zip archive."""
    programs("srun")
    programs("skelcl", f'exec {sys.executable} -m zipfile -l "$3"')

    def save(*contents):
        for number, content in enumerate(contents):
            last = Path(f"runs/as_cal-nw_ucla-77/version_{number}/checkpoints/last.ckpt")
            last.parent.mkdir(parents=True)
            last.write_bytes(content)
            os.utime(last, (number, number))

    return save


def checkpoint():
    file = io.BytesIO()
    torch.save({"state_dict": {}}, file)
    return file.getvalue()


def test_an_interrupted_job_goes_on_with_its_newest_checkpoint(saved):
    saved(checkpoint(), checkpoint())
    words = slurm(RUN, "--data.batch_size", "8")
    newest = "runs/as_cal-nw_ucla-77/version_1/checkpoints/last.ckpt"
    assert words[:6] == ["srun", "--kill-on-bad-exit=1", "skelcl", "fit", "--ckpt_path", newest]
    assert calls()[0] == ["skelcl", "checkpoint", "inspect", newest]
    assert "--config" not in words
    assert words[-2:] == ["--data.batch_size", "8"]


def test_a_job_skips_checkpoints_that_cannot_be_opened(saved):
    saved(checkpoint(), checkpoint()[:-50], b"")
    assert slurm(RUN)[4:6] == ["--ckpt_path", "runs/as_cal-nw_ucla-77/version_0/checkpoints/last.ckpt"]
    Path("runs/as_cal-nw_ucla-77/version_0/checkpoints/last.ckpt").write_bytes(b"")
    assert slurm(RUN)[4:6] == ["--config", RUN]


@pytest.mark.parametrize("content", [b"", checkpoint()[:-50], b"torn"])
def test_the_command_that_a_job_asks_knows_what_can_be_opened(skelcl, tmp_path, content):
    file = tmp_path / "last.ckpt"
    file.write_bytes(content)
    with pytest.raises(SystemExit) as stop:
        skelcl("checkpoint", "inspect", file)
    assert stop.value.code == 1


def test_a_job_of_an_array_has_its_number_as_seed(programs):
    programs("srun")
    assert "--seed_everything" not in slurm(RUN)
    assert slurm(RUN, "--data.batch_size", "8", SLURM_ARRAY_TASK_ID="2")[-4:-2] == ["--seed_everything", "2"]


def test_a_failed_run_fails_the_job(programs):
    programs("srun", "exit 3")
    slurm(RUN, code=3)


def test_time_that_is_up_queues_the_job_again(programs):
    programs("srun", "exec sleep 2")
    programs("scontrol")
    environment = {**os.environ, "SLURM_JOB_ID": "77", "SLURM_JOB_NUM_NODES": "1", "SLURM_NTASKS_PER_NODE": "1"}
    job = subprocess.Popen(["bash", SCALE / "slurm.sh", RUN], env=environment)
    while not Path("calls").exists():
        time.sleep(0.05)
    time.sleep(0.2)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=60) == 0, "training goes on until SLURM ends it"
    assert [words[0] for words in calls()] == ["srun", "scontrol"]
    assert calls()[1] == ["scontrol", "requeue", "77"]


def test_what_torchrun_starts_is_a_run(programs, skelcl, capsys, monkeypatch):
    programs("python3")
    monkeypatch.setenv("PYTHON", "python3")
    for name, value in (("NODES", "2"), ("DEVICES", "8"), ("HEAD", "node-0:29500")):
        monkeypatch.setenv(name, value)
    subprocess.run(["sh", SCALE / "torchrun.sh", RUN, "--seed_everything", "3"], check=True, timeout=60)
    (words,) = calls()
    start = words.index("fit") - 1
    assert words[1:start] == [
        "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "8",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", "node-0:29500", "--rdzv-id", "skelcl", "-m",
    ]  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        skelcl(*words[start + 1 :], "--print_config")
    assert stop.value.code == 0
    config = capsys.readouterr().out
    for line in ("num_nodes: 2", "devices: '8'", "strategy: ddp", "seed_everything: 3"):
        assert line in config
    subprocess.run(["sh", SCALE / "torchrun.sh", "--ckpt_path", "last.ckpt"], check=True, timeout=60)
    assert calls()[1][start + 1 : start + 4] == ["fit", "--ckpt_path", "last.ckpt"]
    assert subprocess.run(["sh", SCALE / "torchrun.sh"], capture_output=True, timeout=60).returncode


def test_the_guide_names_what_exists():
    for path in re.findall(r"(?:experiments|tests)/[\w./-]+\w", GUIDE):
        assert (TOP / path).exists(), path


def test_the_commands_of_the_guide_are_commands(programs, skelcl, capsys, monkeypatch):
    """Runs are resolved; what starts processes or a job starts a program that only notes its words."""
    programs("python3")
    programs("sbatch")
    monkeypatch.setenv("PYTHON", "python3")
    monkeypatch.syspath_prepend(TOP / "experiments" / "benchmarks")
    cost = importlib.import_module("cost")
    monkeypatch.setattr(cost, "measure_apart", lambda *args: cost.Measured(1.0, 1e9))
    seen = []
    for line in "".join(re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)).splitlines():
        words = shlex.split(line)
        seen.append(next(word for word in words if "=" not in word))
        if seen[-1] == "skelcl":
            with pytest.raises(SystemExit) as stop:
                skelcl(*words[1:], "--print_config")
            assert stop.value.code == 0
        elif seen[-1] == "python":
            call_on("cost.py", cost.main, "RUN", words[2:])
            assert "| `as_cal-nw_ucla` | 32 | 60 |" in capsys.readouterr().out
        else:
            subprocess.run(line, shell=True, check=True, timeout=60)
    assert seen == ["skelcl", "sh", "sbatch", "sh", "python"]
    assert [words[0] for words in calls()] == ["python3", "sbatch", "python3"]


def metrics(folder):
    (run,) = folder.iterdir()
    assert run.name == "version_0"
    with open(run / "metrics.csv") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


@pytest.mark.slow
@pytest.mark.linux("gloo between processes of one machine")
def test_two_processes_of_torchrun_make_one_run_that_equals_a_single_one(ucla, tmp_path):
    """Views are deterministic, since random ones are drawn for each process."""
    words = [RUN, "--config", "experiments/overlays/debug.yaml", "--config", "experiments/overlays/cpu.yaml"]
    words += ["--model.view", "experiments/views/ucla52-test.yaml", f"--data.root={ucla}", "--model.encoder.hidden=8"]
    words += [
        "--model.view.steps=[]",
        "--model.warmup_epochs=0",
        "--trainer.enable_progress_bar=false",
        "--data.validation=none",
    ]
    found = []
    for devices in (1, 2):
        folder = tmp_path / str(devices)
        folder.mkdir()
        (folder / "experiments").symlink_to(TOP / "experiments")
        environment = {
            **os.environ,
            "PYTHON": sys.executable,
            "DEVICES": str(devices),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(TOP),
        }
        command = ["sh", SCALE / "torchrun.sh", *words, f"--data.batch_size={20 // devices}"]
        subprocess.run(command, check=True, cwd=folder, env=environment, timeout=200)
        run = folder / "runs" / "as_cal-nw_ucla"
        state = torch.load(run / "version_0" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        found.append((metrics(run), state))
    (one, state_one), (two, state_two) = found
    assert len(one) == 2
    assert two == pytest.approx(one, rel=1e-4)
    assert state_one["queue.pushed"] == state_two["queue.pushed"] == 80
    for name, value in state_one.items():
        torch.testing.assert_close(state_two[name], value, rtol=1e-3, atol=1e-5, msg=name)
