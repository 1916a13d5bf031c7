"""The wheel, installed into an environment of its own and used from an empty folder: run files travel with it."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from skelcl.runs.shipped import EXPERIMENTS, run_files

TOP = Path(__file__).parents[1]
STEPS = ["--trainer.accelerator=cpu", "--trainer.max_steps=2", "--trainer.enable_model_summary=false"]
STEPS += ["--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1", "--trainer.limit_val_batches=0"]
PEOPLE = ["--data.subjects=4", "--data.replications=1", "--data.actions=['walk around', 'handshake']"]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder]
    subprocess.run(build, cwd=TOP, check=True, capture_output=True)
    (file,) = folder.glob("skelcl-*.whl")
    return file


@pytest.fixture(scope="session")
def installed(wheel, tmp_path_factory):
    """``installed(program, *words)`` runs a program of an environment that holds the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("environment")
    builder = venv.EnvBuilder()
    builder.create(folder)
    place = builder.ensure_directories(folder)
    schemes = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "venv", schemes))
    # Of the folder that a line names, Python reads no further .pth: the editable skelcl of these tests stays out.
    (site / "dependencies.pth").write_text("\n".join({sysconfig.get_path(name) for name in ("purelib", "platlib")}))
    pip = [sys.executable, "-m", "pip", "--python", place.env_exe, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, wheel], check=True, capture_output=True)
    around = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PIP"))}

    def run(program, *words):
        command = [Path(place.bin_path) / program, *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, env=around | {"PYTHONUTF8": "1"}, timeout=240)

    return run


def test_the_wheel_holds_what_verbs_and_readers_use_and_no_more(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    shipped = {name.removeprefix("skelcl/experiments/") for name in held if name.startswith("skelcl/experiments/")}
    assert shipped >= set(run_files())
    others = {(Path(name).parent.name, Path(name).suffix) for name in shipped - set(run_files())}
    assert others == {("", ".md"), ("guides", ".md"), ("notebooks", ".ipynb"), ("scale", ".sh")}
    kinds = "py", "typed", "json", "js", "css", "html"
    package = {path.relative_to(TOP).as_posix() for kind in kinds for path in (TOP / "skelcl").rglob(f"*.{kind}")}
    assert held - {f"skelcl/experiments/{name}" for name in shipped} == package


def test_run_files_are_listed(installed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = installed("skelcl", "experiments")
    *lines, place = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == run_files()
    folder = Path(place.removeprefix("in "))
    assert folder != EXPERIMENTS
    assert (folder / "pretrain" / "as_cal-nw_ucla.yaml").is_file()


def test_a_run_file_is_found_by_name(installed, tmp_path, monkeypatch):
    """With the block that it names beside itself, the block of the command line, and the overlay over both."""
    monkeypatch.chdir(tmp_path)
    words = ["--config", "pretrain/as_cal-nw_ucla.yaml", "--config", "experiments/overlays/cpu.yaml"]
    done = installed("skelcl", "fit", *words, "--data", "data/synthetic.yaml", *PEOPLE, *STEPS)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"data", "runs"}
    config = yaml.safe_load(Path("runs/as_cal-nw_ucla/version_0/config.yaml").read_text())
    assert config["model"]["init_args"]["encoder"]["class_path"] == "skelcl.encoders.LSTM"
    assert config["data"]["class_path"] == "skelcl.data.Synthetic"
    assert Path("runs/as_cal-nw_ucla/version_0/checkpoints/last.ckpt").is_file()


NOTEBOOK = """
from skelcl.cli import run
try:
    run(["fit", "--config", "pretrain/as_cal-nw_ucla.yaml", "--print_config"])
except SystemExit as stop:
    assert stop.code == 0
print("--- notebook")
"""


def test_a_config_is_that_of_the_checkout_and_a_notebook_runs(installed, skelcl, capsys, tmp_path):
    """The notebook that brings its own data, to the end of its training; imports cost more than either."""
    with pytest.raises(SystemExit):
        skelcl("fit", "--config", EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml", "--print_config")
    here = capsys.readouterr().out
    (path,) = EXPERIMENTS.glob("notebooks/06_*.ipynb")
    cells = [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    code = ["".join(cell["source"]) for cell in cells]
    last = next(number for number, text in enumerate(code) if text.startswith('words = "--config pretrain/'))
    script = re.sub(r"^%.*$", "", "\n".join([NOTEBOOK, *code[: last + 1]]), flags=re.MULTILINE)
    for name, value in {"EPOCHS": 1, "SUBJECTS": 2}.items():
        script = re.sub(rf"^{name} = \d+$", f"{name} = {value}", script, flags=re.MULTILINE)
    Path("notebook.py").write_text(script, encoding="utf-8")
    done = installed("python", "notebook.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.partition("--- notebook\n")[0] == here
    assert Path("runs/my-data/version_0/checkpoints/last.ckpt").is_file()
