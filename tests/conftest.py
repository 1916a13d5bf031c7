"""What all tests share: one thread, no network, no global state left behind."""

import importlib
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
import torch
from einops import rearrange, reduce
from hypothesis import settings
from torch import nn

from skelcl.clips import Clips
from skelcl.encoders.base import MapEncoder
from skelcl.skeleton import Skeleton

settings.register_profile("tests", derandomize=True, deadline=None, max_examples=25)
settings.load_profile("tests")
torch.set_num_threads(1)


SYSTEMS = {"linux": sys.platform == "linux", "posix": os.name == "posix"}
"""Markers of tests that one kind of system can run, and whether this one is of the kind."""


def pytest_collection_modifyitems(items):
    """Elsewhere they are skipped, with the reason that the marker gives."""
    for item in items:
        for system, here in SYSTEMS.items():
            marker = item.get_closest_marker(system)
            if marker is not None and not here:
                item.add_marker(pytest.mark.skip(reason=f"needs {system}: {marker.args[0]}"))


@pytest.fixture(autouse=True)
def _clean_process(monkeypatch, tmp_path):
    """A fixed command line and seed for each test; no process group survives it."""
    monkeypatch.setattr("sys.argv", ["skelcl"])
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    torch.manual_seed(0)
    yield
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.fixture
def double():
    """All that is made in this test is float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def by_hand(monkeypatch):
    """Imports a module in which training is written out plainly: of tests/methods, or of the benchmarks."""
    tests = Path(__file__).parent
    for folder in (tests / "methods", tests.parent / "experiments" / "benchmarks"):
        monkeypatch.syspath_prepend(folder)
    return importlib.import_module


@pytest.fixture
def toy():
    """The eight-class toy problem on which the paper's claims can be checked in a second a run.

    Class y moves joint 2 + (y mod 3) along axis y // 3; amplitude, phase and base pose are nuisance.
    """
    return toy_clips


def toy_clips(clips_per_class, seed=0, pose=0):
    """Clips of 20 frames, 5 joints, 1 person, in a random order; ``pose`` seeds the base pose of all of them."""
    pose = torch.randn(5, 3, generator=torch.Generator().manual_seed(pose)) * 0.3
    random = torch.Generator().manual_seed(seed)
    n = 8 * clips_per_class
    label = torch.arange(8).repeat_interleave(clips_per_class)[torch.randperm(n, generator=random)]
    amplitude = 0.4 + 0.2 * torch.rand(n, 1, generator=random)
    phase = 0.6 * torch.pi * torch.rand(n, 1, generator=random)
    t = torch.linspace(0, 2 * torch.pi, 21)[:-1]
    x = pose.expand(n, 20, 5, 3).clone() + 0.05 * torch.randn(n, 1, 5, 3, generator=random)
    movement = amplitude * torch.sin((1 + label % 2)[:, None] * t + phase)
    x[torch.arange(n)[:, None], torch.arange(20), (2 + label % 3)[:, None], (label // 3)[:, None]] += movement
    index = torch.arange(n)
    frames = torch.full((n,), 20)
    return Clips(x.flatten(0, 1), 20 * index, frames, 0 * index + 1, 0 * index, label, index, TOY)


TOY = Skeleton(
    "toy5", ("base", "spine", "a", "b", "c"), (1, 1, 1, 1, 1), (), {"all": (0, 1, 2, 3, 4)}, 1, 1, (0, 1), (2, 3)
)


@pytest.fixture
def map_encoder():
    """Class of a tiny encoder with a feature map; it takes ``channels``, ``dim`` and ``dropout``."""
    return MapOfPairs


class MapOfPairs(MapEncoder):
    """Joints embedded one by one, pairs of frames averaged, the map averaged: no batch statistics, no constants."""

    def __init__(self, channels=3, dim=8, dropout=0.0):
        super().__init__()
        self.dim = dim
        self.embed, self.dropout = nn.Linear(channels, dim), nn.Dropout(dropout)

    def feature_map(self, x):
        embedded = torch.tanh(self.embed(rearrange(x, "n c t v m -> n m t v c")))
        return reduce(self.dropout(embedded), "n m (t s) v c -> n m c t v", "mean", s=2)

    def pool(self, feature_map):
        return reduce(feature_map, "n m c t v -> n c", "mean")


@pytest.fixture(scope="session")
def ucla(tmp_path_factory):
    """Folder of stores with a miniature NW-UCLA, made from raw files: 10 actions, 3 performers, 3 views."""
    from skelcl.data.formats.nw_ucla import prepare, sequence_id, write_json
    from skelcl.data.recording import Recording

    folder = tmp_path_factory.mktemp("ucla")
    raw, root = folder / "raw", folder / "stores"
    raw.mkdir()
    random = np.random.default_rng(0)
    pose = random.normal(size=(20, 3))
    for label in range(10):
        for subject in range(1, 4):
            for view in (1, 2, 3):
                t = np.linspace(0, 2 * np.pi, 6 + (label + 2 * subject + view) % 5)[:, None, None]
                joints = pose + 0.5 * np.sin((1 + label % 3) * t + label) * random.normal(size=(20, 3))
                name = sequence_id(label, subject, 0, view)
                joints = (joints + np.array([0, 0, 3])).astype(np.float32)[None]
                write_json(raw, Recording(name, joints, label, subject, camera=view, replication=0))
    prepare([raw], root)
    return root


@pytest.fixture(scope="session")
def mixed_parts(ucla, tmp_path_factory):
    """``mixed_parts(only, **options)``: NW-UCLA, generated people of 20 joints, MediaPipe poses without labels."""
    from skelcl.commands.data import import_poses
    from skelcl.data import NWUCLA, Custom, Synthetic
    from skelcl.data.synthetic.poses import write_mediapipe

    folder = tmp_path_factory.mktemp("mixed")
    write_mediapipe(folder / "raw", subjects=4)
    rows = (folder / "raw" / "labels.csv").read_text().splitlines()
    cells = [row.split(",") for row in rows[1:]]
    table = [rows[0], *(",".join([name, "", *rest]) for name, _, *rest in cells)]
    (folder / "labels.csv").write_text("\n".join(table) + "\n")
    import_poses("mediapipe", folder / "raw", "film", folder, labels=folder / "labels.csv")
    people = {"root": folder, "subjects": 4, "replications": 1, "actions": ["walk around", "throw"]}

    def parts(only=("ucla", "people", "film"), **options):
        make = {
            "ucla": partial(NWUCLA, ucla, **options),
            "people": partial(Synthetic, **people, **{"layout": "kinect20", "num_persons": 1, **options}),
            "film": partial(Custom, "film", folder, test_subjects=[4], **options),
        }
        return {name: make[name]() for name in only}

    return parts


@pytest.fixture
def skelcl(monkeypatch, tmp_path):
    """Runs a ``skelcl`` command in this process, in an empty folder."""
    from skelcl.cli import run

    monkeypatch.chdir(tmp_path)
    return lambda *words: run([str(word) for word in words])


@pytest.fixture(scope="session")
def drawn_checkpoint():
    """``drawn_checkpoint(path, file, *words)`` saves what a run would save whose weights are drawn, none of them zero.

    The data are generated people who come one or two at a time, below the folder of ``path``.
    """
    return draw_checkpoint


def draw_checkpoint(path, file, *words):
    import lightning

    from skelcl.data.facts import FACTS_KEY
    from skelcl.methods.base import RECIPES_KEY
    from skelcl.runs.config import resolved_config
    from skelcl.runs.loading import load
    from skelcl.runs.trust import CONFIG_KEY
    from skelcl.transforms.normalize import versions

    experiments = Path(__file__).parents[1] / "experiments"
    people = ["--data", experiments / "data" / "synthetic.yaml", "--data.subjects=4", "--data.replications=1"]
    people += ["--data.actions=['walk around', 'throw', 'handshake']", "--data.num_persons=2", "--data.validation=none"]
    quiet = [f"--trainer.{name}=false" for name in ("enable_progress_bar", "enable_model_summary")]
    words = ["--config", experiments / file, *people, f"--data.root={path.parent}", *quiet, *words]
    content = {CONFIG_KEY: resolved_config([str(word) for word in (*words, "--trainer.accelerator=cpu")])}
    content |= {"epoch": 0, "global_step": 0, "pytorch-lightning_version": lightning.__version__}
    content[RECIPES_KEY] = versions()
    torch.save(content | {"state_dict": {}}, path)
    method, data = load(path, weights=False)
    content[FACTS_KEY] = data.facts.to_plain()
    random = torch.Generator().manual_seed(0)
    for parameter in method.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=random)
    torch.save(content | {"state_dict": method.state_dict()}, path)
    return path


def driver_and_browser():
    """chromedriver and the browser of its version, or why there are none."""

    def version(program):
        told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60).stdout
        return re.search(r"(\d+)\.\d+\.\d+", told)[1]

    driver = shutil.which("chromedriver")
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if driver is None or not found:
        pytest.skip("needs chromedriver and Chromium or Chrome (Debian: apt-get install chromium chromium-driver)")
    fitting = [path for path in found if version(path) == version(driver)]
    if not fitting:
        pytest.skip(f"{driver} is of another version than {', '.join(found)}")
    return driver, fitting[0]


@pytest.fixture(scope="session")
def chromium():
    """A window of a headless Chromium."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    driver, browser = driver_and_browser()
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    window = webdriver.Chrome(options=options, service=Service(executable_path=driver))
    yield window
    window.quit()
