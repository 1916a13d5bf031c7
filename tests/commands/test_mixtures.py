"""Commands on checkpoints of a mixture: parts judged alone, stores in another folder, and what is told of them."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from skelcl.cli import run
from skelcl.commands.evaluate import evaluate
from skelcl.data import Mixture
from skelcl.errors import InputError, OptionError

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
JUDGED = ["--protocols=linear,knn", "--seeds=0", "--device=cpu"]
PEOPLE = {"subjects": 4, "replications": 1, "actions": ["walk around", "throw"], "num_persons": 1}
PARTS = {
    "ucla": {"class_path": "NWUCLA", "init_args": {}},
    "people": {"class_path": "Synthetic", "init_args": {**PEOPLE, "layout": "kinect20"}},
    "film": {"class_path": "Custom", "init_args": {"name": "film", "test_subjects": [4]}},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory, mixed_parts):
    """A folder with stores in ``data``, and AS-CAL of a mixture that says once where they are."""
    folder = tmp_path_factory.mktemp("mixture")
    for part in mixed_parts().values():
        shutil.copytree(part.store.path, folder / "data" / part.dataset)
    block = {"class_path": "Mixture", "init_args": {"parts": PARTS, "layout": "kinect20", "root": "data"}}
    (folder / "mixture.yaml").write_text(yaml.safe_dump(block, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small = ["--model.encoder.hidden=8", "--model.queue_size=32", "--trainer.max_epochs=1", "--data.batch_size=16"]
        logger = "--trainer.logger=[{class_path: CSVLogger, init_args: {save_dir: runs, name: mixed}}]"
        config = ["--config=pretrain/as_cal-nw_ucla.yaml", "--data=mixture.yaml", "--data.validation=none"]
        run(["fit", *config, *QUIET, *small, logger])
    return folder


@pytest.fixture(autouse=True)
def _here(monkeypatch, place):
    monkeypatch.chdir(place)
    monkeypatch.setattr("sys.argv", ["skelcl"])


CHECKPOINT = Path("runs/mixed/version_0/checkpoints/last.ckpt")


def test_each_part_with_labels_is_judged_under_its_own_name(capfd):
    """As on the data of that part alone."""
    run(["evaluate", f"--ckpt_path={CHECKPOINT}", *JUDGED])
    told = capfd.readouterr().out
    for name in ("ucla", "people"):
        folder = CHECKPOINT.parents[1] / "evaluation" / name
        assert f"files: {folder}" in told
        found = json.loads((folder / "results.json").read_text())
        block = {**PARTS[name], "init_args": {**PARTS[name]["init_args"], "root": "data"}}
        alone = evaluate(CHECKPOINT, ["linear", "knn"], "0", Path("alone"), block, device="cpu")
        assert found["metrics"] == alone.metrics
        assert found["run"]["data"] == json.loads(Path("alone/results.json").read_text())["run"]["data"]
    assert not (CHECKPOINT.parents[1] / "evaluation" / "film").exists()


def test_python_and_a_wrong_part_are_one_line():
    with pytest.raises(InputError, match=r"has several label spaces, .*: choose a part, ucla or people$"):
        evaluate(CHECKPOINT, ["knn"], "0", Path("refused"), device="cpu")
    with pytest.raises(OptionError, match="--part hall: the parts are ucla, people, film"):
        evaluate(CHECKPOINT, ["knn"], "0", Path("refused"), part="hall", device="cpu")
    with pytest.raises(InputError, match=r"film: no training clip has a label"):
        evaluate(CHECKPOINT, ["knn"], "0", Path("refused"), part="film", device="cpu")
    block = {"class_path": "NWUCLA", "init_args": {"root": "data"}}
    with pytest.raises(OptionError, match="--part ucla: the data are no mixture"):
        evaluate(CHECKPOINT, ["knn"], "0", Path("refused"), block, part="ucla", device="cpu")
    assert not Path("refused").exists()


def test_a_root_is_that_of_all_parts(place, capfd):
    """Wherever it is said: to the verbs of runs, to evaluate, and of the data that a predictor looks for."""
    Path("data").rename("moved")
    try:
        for verb in (["test"], ["predict", "--features.path=features.npz"]):
            with pytest.raises(SystemExit):
                run([verb[0], f"--ckpt_path={CHECKPOINT}", *QUIET, *verb[1:]])
            assert "there is no store at data/" in capfd.readouterr().err
            run([verb[0], f"--ckpt_path={CHECKPOINT}", "--data.root=moved", *QUIET, *verb[1:]])
            told = capfd.readouterr().out
            assert "data.init_args.root: data in the checkpoint, moved on the command line" in told
        for options in ({"root": Path("moved")}, {"data": {"root": "moved"}}):
            evaluate(CHECKPOINT, ["knn"], "0", Path("found"), part="people", device="cpu", **options)
    finally:
        Path("moved").rename("data")


def test_parts_that_were_made_before_have_the_root(mixed_parts):
    parts = mixed_parts(["people", "film"])
    root = parts["people"].store.path.parent
    assert Mixture(parts, layout="kinect20", root=str(root)).num_classes == 2
    with pytest.raises(OptionError, match=f"root: the part people is open already, from {root}, not from elsewhere"):
        Mixture(parts, layout="kinect20", root="elsewhere")


def test_each_part_has_a_line_of_its_own(capfd):
    run(["checkpoint", "inspect", str(CHECKPOINT)])
    lines = dict(line.strip().split("  ", 1) for line in capfd.readouterr().out.splitlines()[1:])
    rows = {name.strip(): value.strip() for name, value in lines.items()}
    assert rows["data"].startswith("Mixture: layout kinect20, ")
    assert "{" not in rows["data"]
    assert rows["part ucla"].startswith("NWUCLA: root data")
    assert "actions ['walk around', 'throw']" in rows["part people"]
    assert rows["part film"].startswith("Custom: name film, root data")
