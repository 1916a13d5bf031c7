"""Every guide does what it says: its files are written and its commands run, in order, in an empty folder."""

import os
import re
import runpy
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

from skelcl import Predictor
from skelcl.data import Synthetic
from skelcl.data.poses.layouts import find_layout

TOP = Path(__file__).parents[1]
GUIDES = TOP / "experiments" / "guides"
QUICK = [
    "--trainer.accelerator=cpu",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
]
TRAINING = {
    "fit": QUICK,
    "test": [*QUICK, "--evaluation.figures=false"],
    "fine-tune": [*QUICK, "--supervised.figures=false"],
}


def blocks(guide):
    """(language, text) of the code blocks of a guide."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", (GUIDES / f"{guide}.md").read_text(), re.DOTALL | re.MULTILINE)


def file_name(text):
    """Name of the file that a block is, None if it is none."""
    named = re.match(r"# ([\w.-]+\.(?:py|yaml))\n", text)
    return named and named[1]


@pytest.fixture
def follow(skelcl, tmp_path, monkeypatch):
    """Does what a guide says; skelcl runs in this process, training is cut short."""
    (tmp_path / "experiments").symlink_to(TOP / "experiments")
    modules = set(sys.modules)

    def command(line):
        words = shlex.split(os.path.expandvars(line.replace("$PWD", str(tmp_path))), comments=True)
        program, *rest = words
        if program == "export":
            name, _, value = rest[0].partition("=")
            monkeypatch.setenv(name, value)
            if name == "PYTHONPATH":
                monkeypatch.syspath_prepend(value)
        elif program == "skelcl":
            asks = any(word.endswith("help") for word in rest)
            quick = [] if asks else TRAINING.get(rest[0], [])
            ends = pytest.raises(SystemExit, check=lambda stop: stop.code in (0, None)) if asks else nullcontext()
            with ends:
                skelcl(*rest, *quick)
        elif program == "python" and rest[0] == "-c":
            exec(rest[1], {})
        elif program == "python":
            runpy.run_path(rest[0])
        else:
            assert program == "cat", line
            print(Path(rest[0]).read_text())

    def guide(name):
        commands = []
        for language, text in blocks(name):
            if file := file_name(text):
                Path(file).write_text(text)
            else:
                assert language == "sh", f"a block of {name}.md is neither a named file nor shell commands"
                commands += [line for line in text.splitlines() if line]
        for line in commands:
            command(line)

    yield guide
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_a_method(follow, capsys):
    follow("add-a-method")
    assert "--model.temperature" in capsys.readouterr().out
    assert list(Path("runs/simclr").rglob("results.json"))
    config = Path("runs/simclr/version_0/config.yaml").read_text()
    assert "simclr.SimCLR" in config
    assert "temperature: 0.2" in config


def test_an_encoder(follow):
    follow("add-an-encoder")
    assert "joint_mixer.JointMixer" in Path("runs/as_cal-nw_ucla/version_0/config.yaml").read_text()
    names = {}
    exec(Path("test_joint_mixer.py").read_text(), names)
    names["test_contract"]()


def test_a_data_set(follow, capsys):
    follow("add-a-data-set")
    assert "gestures" in capsys.readouterr().out
    assert "gestures.Gestures" in Path("runs/as_cal-nw_ucla/version_0/config.yaml").read_text()


@pytest.mark.slow
def test_a_protocol(follow, capsys):
    follow("add-a-protocol")
    out = capsys.readouterr().out
    assert " ± " in Path("runs/three-shot/version_0/table.txt").read_text()
    (n,) = re.findall(r"mean cosine of (\d+) clips: [01]\.\d{3}", out)
    data = Synthetic("data", subjects=6, replications=1, actions=["walk around", "handshake"])
    assert int(n) == len(data.parts["test"])


def test_your_data(follow, capsys):
    follow("your-data")
    assert Path("data/sgn/ntu60/meta.json").is_file()
    assert find_layout(Path("layout.yaml")).num_joints == 5
    chosen, weighted = (yaml.safe_load(Path(f"runs/hcn-ntu/version_{n}/config.yaml").read_text()) for n in (0, 1))
    assert chosen["data"]["init_args"]["classes"] == ["drink water", "brushing teeth"]
    assert chosen["data"]["init_args"]["sampling"] == "balanced"
    assert weighted["model"]["init_args"]["class_weights"] == "balanced"
    out = capsys.readouterr().out
    assert "| k = 1, top-1 " in out
    assert "* clips: 4 training, " in out
    assert "ntu25: 25 joints, spine base" in out
    assert len(Predictor("runs/hcn-ntu/version_1/checkpoints/last.ckpt").gallery) > 0
    assert "mediapipe33 mapped to ntu25, 9 joints made of others, 11 left out" in out


def test_mixtures(follow, capsys):
    follow("mixtures")
    metrics = Path("runs/as_cal-nw_ucla/version_0/metrics.csv").read_text()
    assert "val/knn_top1/film" in metrics.splitlines()[0]
    out = capsys.readouterr().out
    assert "| k = 1, top-1 " in out
    assert "film" in out


def test_protocols(follow, capsys):
    follow("protocols")
    evaluation = Path("runs/as_cal-nw_ucla/version_0/evaluation")
    assert {"results.json", "report.html"} <= {path.name for path in evaluation.iterdir()}
    assert " ± " in Path("runs/semi/version_0/table.txt").read_text()
    assert "retrieval" in capsys.readouterr().out


def test_streams(follow, capsys):
    follow("streams")
    assert "kind: bone" in Path("runs/bone/version_0/config.yaml").read_text()
    assert "top-1" in capsys.readouterr().out.lower()


@pytest.mark.slow
def test_sweeps(follow, capsys):
    follow("sweeps")
    table = Path("runs/sweeps/temperature/table.md").read_text()
    assert all(value in table for value in ("0.1", "0.2"))
    assert "wandb sweep" in capsys.readouterr().out


def test_published_weights(follow, capsys):
    follow("published-weights")
    assert Path("published.ckpt").is_file()
    assert "ctr-gcn" in capsys.readouterr().out.lower()


@pytest.mark.parametrize("guide", sorted(GUIDES.glob("*.md")), ids=lambda path: path.stem)
def test_a_guide_is_short_and_names_what_exists(guide):
    text = guide.read_text()
    read = [line for line in text.splitlines() if line and not line.startswith(("|", "<!--"))]  # tables are looked up
    assert len(read) <= 100
    for path in re.findall(r"\b((?:skelcl|experiments|tests)/[\w./-]+\w|experiments/[\w./-]+/)", text):
        assert (TOP / path).exists(), path
