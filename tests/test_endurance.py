"""What lasts: runs that are killed again and again end in the same bits, live recordings keep their memory."""

import gc
import multiprocessing
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from skelcl import Predictor
from skelcl.cli import run

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
KILLS = 6
RUNS = {
    "pretrain/as_cal-nw_ucla.yaml": [
        "--model.encoder.hidden=8", "--model.queue_size=50", "--checkpoint.every_n_train_steps=3",
        "--checkpoint.save_on_train_epoch_end=false",
    ],
    "pretrain/scd_net-nw_ucla-small.yaml": ["--model.encoder.dim=8", "--model.encoder.widths=[8]"],
    "pretrain/sds_cl-nw_ucla-small.yaml": ["--model.encoder.blocks=[[8, 4, 1], [8, 4, 2]]"],
    "supervised/std_cl-ctr_gcn-nw_ucla.yaml": [
        "--model.encoder.widths=[8, 8]", "--model.encoder.strides=[2, 2]", "--model.positives=3", "--model.negatives=9",
        "--data.repeat=1",
    ],
}  # fmt: skip


def begin(folder, words):
    """A process that runs ``skelcl`` in a folder, told nothing and asking nothing."""

    def work():
        os.chdir(folder)
        with open(folder / "told.txt", "a") as told:
            os.dup2(told.fileno(), 1)
            os.dup2(told.fileno(), 2)
        run(words)

    folder.mkdir(exist_ok=True)
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def checkpoints(folder):
    """Those of all lives of a run, oldest first."""
    return sorted(folder.glob("runs/*/version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime_ns)


def live(process, folder, saves, moment):
    """Kills a process some seconds after it has saved so often, unless it ended before; tells whether it was killed."""
    before, saved = checkpoints(folder), set()
    while process.is_alive() and len(saved) < saves:
        time.sleep(0.01)
        saved |= {path.stat().st_mtime_ns for path in checkpoints(folder) if path not in before}
    process.join(moment)
    killed = process.exitcode is None
    process.kill()
    process.join()
    return killed


def bits(value, name=""):
    """All numbers in what a checkpoint holds of training: name to tensor or number."""
    if isinstance(value, dict):
        return {key: leaf for part, inner in value.items() for key, leaf in bits(inner, f"{name}.{part}").items()}
    if isinstance(value, (list, tuple)):
        return bits(dict(enumerate(value)), name)
    return {name: value}


def trained(path):
    content = torch.load(path, weights_only=True)
    kept = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step")
    return {key: value for name in kept for key, value in bits(content[name], name).items()}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.linux("processes are forked")
@pytest.mark.parametrize("file", RUNS)
def test_a_run_killed_at_random_moments_ends_in_the_same_bits(ucla, tmp_path, file):
    """Each life begins with the newest checkpoint there is, and ends by SIGKILL, be it while one is written."""
    words = ["fit", "--config", str(EXPERIMENTS / file), f"--data.root={ucla}", *RUNS[file], "--data.batch_size=8"]
    words += ["--trainer.accelerator=cpu", "--trainer.max_epochs=20", "--trainer.enable_progress_bar=false"]
    words += ["--trainer.enable_model_summary=false", "--data.validation=none"]
    folder, clock, lives = tmp_path / "killed", random.Random(file), []
    for _ in range(KILLS):
        saved = checkpoints(folder)
        again = ["fit", "--ckpt_path", str(saved[-1]), *words[3:]] if saved else words
        lives.append(live(begin(folder, again), folder, clock.randrange(4), clock.uniform(0, 0.5)))
    assert all(lives)
    for place, last in (
        (folder, ["fit", "--ckpt_path", str(checkpoints(folder)[-1]), *words[3:]]),
        (tmp_path / "whole", words),
    ):
        process = begin(place, last)
        process.join()
        assert process.exitcode == 0, (place / "told.txt").read_text()[-2000:]
    expected, found = trained(checkpoints(tmp_path / "whole")[-1]), trained(checkpoints(folder)[-1])
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        same = torch.equal(found[name], value) if isinstance(value, torch.Tensor) else found[name] == value
        assert same, name


def resident():
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.linux("memory is read off /proc")
def test_a_live_recording_of_a_hundred_thousand_frames_keeps_its_memory(tmp_path, drawn_checkpoint, monkeypatch):
    """As much after 100,000 frames as after 20,000, by the system's count and by that of objects."""
    narrow = ["--model.encoder.widths=[8, 16]", "--model.encoder.strides=[1, 2]"]
    monkeypatch.chdir(tmp_path)
    path = drawn_checkpoint(tmp_path / "run.ckpt", "supervised/ctr_gcn-ntu.yaml", *narrow)
    predictor = Predictor(path, window=20, stride=40)
    frames = np.random.default_rng(0).normal(size=(1000, 2, 25, 3)).astype(np.float32)
    held, objects, answers = [], [], 0
    for part in range(5):
        for n in range(20_000):
            answers += predictor.push(frames[(part + n) % len(frames)]) is not None
        gc.collect()
        held.append(resident())
        objects.append(len(gc.get_objects()))
    assert answers == 1 + (100_000 - 20) // 40
    assert held[-1] - held[0] < 8 * 2**20, held
    assert objects[-1] - objects[0] < 1000, objects
