"""Files from somebody else: a checkpoint is opened by every verb, and nothing that it names is imported or built."""

import copy
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from skelcl.errors import InputError
from skelcl.recognition.predictor import Predictor
from skelcl.runs.callbacks import CheckpointArtifacts
from skelcl.runs.checkpoints import mismatch, read_checkpoint, read_file
from skelcl.runs.trust import CONFIG_KEY, MAX_VALUES, stored_config

INTRUDER = """
from pathlib import Path
Path("imported").touch()

class Intruder:
    def __init__(self, *args, **kwargs):
        Path("built").touch()

def make(*args, **kwargs):
    Path("built").touch()
"""
NAMED = {"class_path": "intruder.Intruder"}
OPENING = {
    "fit": ["fit", "--ckpt_path", "x.ckpt"],
    "validate": ["validate", "--ckpt_path", "x.ckpt"],
    "test": ["test", "--ckpt_path=x.ckpt"],
    "predict": ["predict", "--ckpt_path", "x.ckpt"],
    "predict a clip": ["predict", "--ckpt_path", "x.ckpt", "--input", "clip.npy"],
    "evaluate": ["evaluate", "--ckpt_path", "x.ckpt"],
    "fine-tune": ["fine-tune", "--ckpt_path", "x.ckpt", "--seeds", "0"],
    "export": ["export", "--ckpt_path", "x.ckpt", "--format", "safetensors", "--output", "x.safetensors"],
    "plot views": ["plot", "views", "--ckpt_path", "x.ckpt"],
    "plot maps": ["plot", "maps", "--ckpt_path", "x.ckpt"],
}


@pytest.fixture(scope="module")
def stored(tmp_path_factory, drawn_checkpoint):
    """Contents of a checkpoint that every verb can use."""
    path = tmp_path_factory.mktemp("stored") / "own.ckpt"
    drawn_checkpoint(path, "pretrain/as_cal-nw_ucla.yaml", "--model.encoder.hidden=8", "--model.queue_size=32")
    return torch.load(path, weights_only=True)


@pytest.fixture
def intruder(tmp_path, monkeypatch):
    """A module in the working folder that leaves a trace when it is imported, and another when it builds something."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("intruder.py").write_text(INTRUDER)
    Path("named.yaml").write_text(yaml.safe_dump(NAMED))
    np.save("clip.npy", np.random.default_rng(0).normal(size=(20, 25, 3)).astype(np.float32))
    yield lambda: sorted(name for name in ("imported", "built") if Path(name).exists())
    sys.modules.pop("intruder", None)


def save(content, change=None, **more):
    """Writes x.ckpt: the contents with another config, and more beside it."""
    config = yaml.safe_load(content[CONFIG_KEY])
    if change is not None:
        change(config)
    torch.save({**content, CONFIG_KEY: yaml.safe_dump(config), **more}, "x.ckpt")


def put(value, *place):
    def change(config):
        for name in place[:-1]:
            config = config[name]
        config[place[-1]] = value

    return change


OPTIONS = ("model", "init_args")
NAMING = {
    "the method": put("intruder.Intruder", "model", "class_path"),
    "the data": put(NAMED, "data"),
    "the encoder": put(NAMED, *OPTIONS, "encoder"),
    "an argument of the encoder": put(NAMED, *OPTIONS, "encoder", "init_args", "hidden"),
    "a step of the view": put([NAMED], *OPTIONS, "view", "init_args", "steps"),
    "the optimiser": put(NAMED, *OPTIONS, "optimizer"),
    "the optimiser, as a text": put("intruder.make", *OPTIONS, "optimizer"),
    "the schedule, in a function": put(
        {"class_path": "torch.optim.lr_scheduler.LambdaLR", "init_args": {"lr_lambda": "intruder.make"}},
        *OPTIONS,
        "scheduler",
    ),
    "a view, as a text": put("intruder.Intruder", *OPTIONS, "view"),
    "a view, as YAML in a text": put(str(NAMED), *OPTIONS, "view"),
    "a view, in a file": put("named.yaml", *OPTIONS, "view"),
    "a view, in a file without a suffix": put("bare", *OPTIONS, "view"),
    "further arguments": put({"x": NAMED}, *OPTIONS, "encoder", "dict_kwargs"),
    "the stream": put(NAMED, "stream", "kind"),
    "the judge": put(NAMED, "evaluation", "probe"),
    "an object that a module of ours imports": put("skelcl.runs.trust.importlib", "model", "class_path"),
    "a function that a module of ours imports": put("skelcl.commands.lightning.yaml.safe_load", *OPTIONS, "optimizer"),
    "a name with a gap": put("skelcl.methods. ASCAL", "model", "class_path"),
    "a number": put(7, *OPTIONS, "encoder", "class_path"),
}


EVERYWHERE = ("the method", "the data", "the optimiser, as a text")
"""What is tried with every verb; the rest with one that looks at a run, one that goes on with it, and Python."""


@pytest.mark.parametrize(
    ("verb", "naming"),
    [(verb, naming) for verb in OPENING for naming in (NAMING if verb in ("fit", "test") else EVERYWHERE)],
)
def test_no_verb_imports_what_a_checkpoint_names(stored, intruder, skelcl, capfd, verb, naming):
    Path("bare").write_text(yaml.safe_dump(NAMED))
    save(stored, NAMING[naming])
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit) as stop:
        skelcl(*OPENING[verb])
    assert stop.value.code == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("skelcl: error: x.ckpt: ")]
    assert re.search("config names|config in it is damaged", line)
    assert intruder() == []
    assert sorted(Path().rglob("*")) == before, "nothing was written"


@pytest.mark.parametrize("naming", NAMING)
def test_nor_does_python(stored, intruder, naming):
    Path("bare").write_text(yaml.safe_dump(NAMED))
    save(stored, NAMING[naming])
    with pytest.raises(InputError, match=r"x\.ckpt: .*config"):
        Predictor("x.ckpt")
    assert intruder() == []


def test_what_is_trusted_is_imported(stored, intruder, skelcl):
    save(stored, NAMING["the encoder"])
    with pytest.raises(
        InputError, match=r"names intruder\.Intruder \(model.*trust that module, add --trust intruder, in"
    ):
        Predictor("x.ckpt")
    for trust in ("intruder", ["intruder"], "other, intruder", "intruder.Intruder"):
        stored_config(Path("x.ckpt"), trust)
        assert intruder() == ["imported"]
    for near in ("intrude", "intruder.Other", "Intruder"):
        with pytest.raises(InputError, match="names intruder"):
            stored_config(Path("x.ckpt"), near)


@pytest.mark.parametrize("verb", OPENING)
def test_every_verb_can_be_told_to_trust(stored, intruder, skelcl, verb):
    """What is built is no encoder, so each ends with the next error."""
    save(stored, NAMING["the encoder"])
    with pytest.raises(SystemExit):
        skelcl(*OPENING[verb], "--trust", "intruder")
    assert "imported" in intruder()


@pytest.mark.parametrize("verb", ["fit", "test"])
def test_what_the_command_line_names_is_trusted(stored, intruder, skelcl, verb):
    save(stored, NAMING["the encoder"])
    with pytest.raises(SystemExit):
        skelcl(*OPENING[verb], "--model.encoder", "intruder.Intruder")
    assert "imported" in intruder()


@pytest.mark.parametrize("verb", [["fit"], ["test"], ["evaluate"], ["export"], ["plot", "maps"], ["fine-tune"]])
def test_help_tells_of_trust(skelcl, capsys, verb):
    with pytest.raises(SystemExit):
        skelcl(*verb, "--help")
    assert "--trust" in capsys.readouterr().out


def test_a_look_takes_nothing_over_but_what_it_looks_at(stored, intruder, skelcl, tmp_path_factory):
    """Callbacks, loggers, profiler and paths in a checkpoint decide nothing, nor does what Lightning keeps in one."""
    far = tmp_path_factory.mktemp("far")

    def change(config):
        logger = {"class_path": "CSVLogger", "init_args": {"save_dir": str(far), "name": "x"}}
        profiler = {"class_path": "AdvancedProfiler", "init_args": {"dirpath": str(far), "filename": "x"}}
        config["trainer"] |= {"callbacks": [NAMED], "logger": [logger, NAMED], "profiler": profiler, "plugins": [NAMED]}
        config["trainer"] |= {"default_root_dir": str(far), "strategy": "intruder.make"}
        config["checkpoint"] |= {"dirpath": str(far)}
        config["features"] = {"path": str(far / "features.npz")}

    save(stored, change, hyper_parameters={"_class_path": "intruder.Intruder", "_instantiator": "intruder.make"})
    skelcl("predict", "--ckpt_path", "x.ckpt")
    skelcl("validate", "--ckpt_path", "x.ckpt", "--data.validation", "held-out")
    assert intruder() == []
    assert not list(far.iterdir())
    assert list(Path("runs/x").rglob("features-*.npz")), "in the working folder"


def a_logger(**options):
    return put([{"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": options}], "trainer", "logger")


A_PROFILER = {"class_path": "lightning.pytorch.profilers.SimpleProfiler", "init_args": {"dirpath": "FAR"}}
WRITING = {
    "the logger": a_logger(save_dir="FAR"),
    "the run's name": a_logger(save_dir=".", name="../x"),
    "an address": a_logger(save_dir="file:///tmp/x"),
    "checkpoints": put("FAR", "checkpoint", "dirpath"),
    "a checkpoint's name": put("../../{epoch}", "checkpoint", "filename"),
    "the profiler": put(A_PROFILER, "trainer", "profiler"),
    "the trainer": put("~/x", "trainer", "default_root_dir"),
    "generated people": put("FAR/data", "data", "init_args", "root"),
    "generated people in a mixture": put(
        {
            "class_path": "skelcl.data.Mixture",
            "init_args": {"parts": {"a": {"class_path": "skelcl.data.Synthetic", "init_args": {"root": "FAR/data"}}}},
        },
        "data",
    ),
    "the root of a mixture": put(
        {
            "class_path": "skelcl.data.Mixture",
            "init_args": {"root": "FAR/data", "parts": {"a": {"class_path": "skelcl.data.Synthetic", "init_args": {}}}},
        },
        "data",
    ),
}


@pytest.mark.parametrize("writing", WRITING)
def test_a_run_that_goes_on_writes_where_it_is_told_by_its_user(
    stored, intruder, skelcl, capfd, tmp_path_factory, writing
):
    far = tmp_path_factory.mktemp("far")
    save(stored, WRITING[writing])
    content = torch.load("x.ckpt", weights_only=True)
    content[CONFIG_KEY] = content[CONFIG_KEY].replace("FAR", str(far))
    torch.save(content, "x.ckpt")
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", "--ckpt_path", "x.ckpt")
    assert stop.value.code == 1
    assert re.search(r"error: x\.ckpt: its config writes to \S+ \(\S+\), outside", capfd.readouterr().err)
    assert not list(far.iterdir())
    assert not Path("runs").exists()


def test_where_a_run_may_write(stored, intruder, tmp_path):
    """In the working folder, in the folder of its own logger, and where the command line says."""
    for place, words in (
        (tmp_path / "runs", ()),
        (tmp_path.parent / "elsewhere", ("--trainer.logger.init_args.save_dir=here",)),
    ):
        logger = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": str(place)}}
        save(stored, put(logger, "trainer", "logger"))
        assert stored_config(Path("x.ckpt"), args=words, training=True)["trainer"]["logger"] == logger
    logger["init_args"]["save_dir"] = str(tmp_path)
    save(stored, put(logger, "trainer", "logger"))
    work = Path("work")
    own = Path("name/version_0/checkpoints/x.ckpt")
    for folder in (work, own.parent):
        folder.mkdir(parents=True)
    Path("x.ckpt").rename(own)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        stored_config(".." / own, training=True)


@pytest.mark.parametrize("verb", ["test", "evaluate"])
def test_data_of_other_joints_are_told_in_our_words(stored, intruder, skelcl, ucla, capfd, verb):
    save(stored)
    Path("ucla.yaml").write_text(f"class_path: NWUCLA\ninit_args: {{root: {ucla}}}\n")
    with pytest.raises(SystemExit) as stop:
        skelcl(*OPENING[verb], "--data", "ucla.yaml", *(["--data.num_persons=1"] if verb == "test" else []))
    assert stop.value.code == 1
    line = next(line for line in capfd.readouterr().err.splitlines() if line.startswith("skelcl: error: "))
    assert "kinect20 cannot become ntu25: it has nothing to make 'left thumb', 'right thumb' of" in line
    assert not re.search("size mismatch|torch.Size|copying a param", line)


DAMAGED = {
    "no text": 7,
    "bytes": b"model: {}",
    "empty": "",
    "a list": "[model, data]",
    "a word": "model",
    "no YAML": "model: {class_path: [",
    "a tag": "model: !!python/object/apply:os.getcwd []",
    "another tag": "model: !unknown {}",
    "an impossible date": "model: 2026-99-99",
    "no model": "data: {class_path: skelcl.data.NWUCLA}",
    "a model that is a list": "model: []\ndata: {class_path: skelcl.data.NWUCLA}",
    "a model without a class": "model: {}\ndata: {class_path: skelcl.data.NWUCLA}",
    "options that are a list": "model: {class_path: skelcl.methods.ASCAL, init_args: []}\ndata: {class_path: x.Y}",
    "no encoder": "model: {class_path: skelcl.methods.ASCAL}\ndata: {class_path: skelcl.data.NWUCLA}",
    "a trainer that is a number": (
        "model: {class_path: skelcl.methods.ASCAL, init_args: {encoder: {class_path: skelcl.encoders.LSTM}}}\n"
        "data: {class_path: skelcl.data.NWUCLA}\ntrainer: 3"
    ),
    "merged": "a: &a {x: 1}\nb: {<<: [*a, *a]}\nmodel: {<<: *a}",
    "deeply nested": "[" * 1200,
}


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_config_is_one_line(stored, intruder, skelcl, capfd, text):
    torch.save({**stored, CONFIG_KEY: DAMAGED[text]}, "x.ckpt")
    for words in (OPENING["test"], OPENING["evaluate"], ["checkpoint", "inspect", "x.ckpt"]):
        with pytest.raises(SystemExit) as stop:
            skelcl(*words)
        assert stop.value.code == 1
        lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("skelcl: error:")]
        assert len(lines) == 1
        assert re.match(r"skelcl: error: x\.ckpt: the config in it is ", lines[0])


def test_a_config_of_another_version_names_the_file(stored, intruder):
    save(stored, put(3, *OPTIONS, "no_such_option"))
    with pytest.raises(InputError, match=r"x\.ckpt: the config in it does not fit: .*no_such_option"):
        Predictor("x.ckpt")


def test_a_config_that_unfolds_without_end_is_refused_at_once(stored, intruder):
    levels = "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 30))
    torch.save({**stored, CONFIG_KEY: f"{stored[CONFIG_KEY]}\na0: &a0 [x, x]\n{levels}\n"}, "x.ckpt")
    with pytest.raises(InputError, match=f"holds more than {MAX_VALUES} values"):
        stored_config(Path("x.ckpt"))


def test_files_that_are_no_checkpoints(intruder, tmp_path):
    good = {"state_dict": {"a": torch.zeros(3)}}
    torch.save(good, "good.ckpt")
    Path("torn.ckpt").write_bytes(Path("good.ckpt").read_bytes()[:-40])
    Path("empty.ckpt").write_bytes(b"")
    Path("text.ckpt").write_text("hello")
    torch.save({**good, "x": Path("x")}, "class.ckpt")
    for name, state in (("list", [1]), ("number", 3), ("numbered", {1: torch.zeros(1)})):
        torch.save({"state_dict": state}, f"{name}.ckpt")
    torch.save(good["state_dict"], "bare.ckpt")
    told = {}
    for path in sorted(Path().glob("*.ckpt")):
        try:
            read_checkpoint(path)
        except InputError as error:
            told[path.stem] = str(error)
    assert told.keys() == {"torn", "empty", "text", "class", "list", "number", "numbered", "bare"}
    for name, line in told.items():
        assert line.startswith(f"{name}.ckpt: ")
        assert "\n" not in line
        assert not re.search("weights_only|torch.load|safe_globals|PytorchStreamReader|unpickl", line), (
            "PyTorch's words"
        )
    assert "pathlib" in told["class"]


def test_values_that_nobody_needs_are_not_built(intruder):
    import argparse

    torch.save(
        {"opt": argparse.Namespace(lr=0.1), "best": np.float64(0.5), "epoch": np.int64(3), "w": torch.ones(2)}, "x.pth"
    )
    content = read_file(Path("x.pth"))
    assert torch.equal(content["w"], torch.ones(2))
    assert {type(content[name]).__name__ for name in ("opt", "best", "epoch")} == {"Unread"}
    torch.save({"x": argparse.ArgumentParser}, "y.pth")
    with pytest.raises(InputError, match=r"argparse\.ArgumentParser"):
        read_file(Path("y.pth"))


def test_mismatch_is_told_in_our_words():
    own = {"a": torch.zeros(2, 3), "b": torch.zeros(1), "c": torch.zeros(1)}
    assert mismatch(own, own) is None
    assert mismatch(own, {"a": torch.zeros(2, 4), "b": own["b"], "d": own["c"]}) == (
        "missing c; unexpected d; a is (2, 4) there and (2, 3) here"
    )
    assert mismatch(own, {**own, "b": 3}) == "b is a int there and no tensor"
    many = {f"x{i}": torch.zeros(1) for i in range(9)}
    assert mismatch({}, many) == "unexpected x0, x1, x2 and 6 more"


def test_the_whole_config_of_a_run_passes(stored, intruder):
    """What is left out of a look is the trainer, and what belongs to fitting."""
    save(stored)
    whole = yaml.safe_load(stored[CONFIG_KEY])
    seen, resumed = stored_config(Path("x.ckpt")), stored_config(Path("x.ckpt"), training=True)
    expected = copy.deepcopy(whole)
    for key in ("config", "features"):
        expected.pop(key, None)
    for consent in ("accept_seen", "accept_changed"):  # holds for one command
        del expected["data"]["init_args"][consent]
    assert resumed == expected
    assert seen.keys() == resumed.keys() - {"checkpoint"}
    assert {name: seen[name] for name in seen if name != "trainer"} == {
        name: expected[name] for name in seen if name != "trainer"
    }
    assert seen["trainer"]["accelerator"] == "cpu"
    assert "logger" not in seen["trainer"]


LOOKS = ["validate", "predict", "fit"]
KEPT = [
    "pytorch-lightning_version",
    *("loops", "callbacks", "optimizer_states", "lr_schedulers", "skelcl_run", "skelcl_recipes", "skelcl_data"),
]


@pytest.mark.parametrize("name", KEPT)
@pytest.mark.parametrize("verb", LOOKS)
@pytest.mark.parametrize("value", [3, (1,)], ids=["number", "tuple"])
def test_parts_of_another_kind_are_one_line(stored, intruder, skelcl, capfd, name, verb, value):
    save(stored, **{name: value})
    with pytest.raises(SystemExit) as stop:
        skelcl(verb, "--ckpt_path", "x.ckpt")
    assert stop.value.code == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert re.match(r"skelcl: error: x\.ckpt: .*damaged", line)


def test_a_run_goes_on_whose_callback_was_elsewhere(stored, intruder):
    """Class paths of data, methods, encoders and transforms are those of their rooms, which stay."""
    names = ["skelcl.artifacts.CheckpointArtifacts", "skelcl.runs.callbacks.CheckpointArtifacts"]
    save(stored, lambda config: config["trainer"].update(callbacks=[{"class_path": name} for name in names]))
    callbacks = stored_config(Path("x.ckpt"), training=True)["trainer"]["callbacks"]
    assert [one["class_path"] for one in callbacks] == [f"{CheckpointArtifacts.__module__}.CheckpointArtifacts"] * 2


@pytest.mark.parametrize("name", ["loops", "optimizer_states", "lr_schedulers", "fit_loop"])
def test_a_run_goes_on_from_all_of_it(stored, intruder, skelcl, capfd, name):
    content = {"loops": {"fit_loop": {}}, "optimizer_states": [], "lr_schedulers": [], **stored}
    content = {**content, "loops": {}} if name == "fit_loop" else {k: v for k, v in content.items() if k != name}
    torch.save(content, "x.ckpt")
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", "--ckpt_path", "x.ckpt")
    assert stop.value.code == 1
    assert "x.ckpt: holds weights alone, no run that could be continued; use test" in capfd.readouterr().err


@pytest.mark.parametrize("version", [None, "", "x"])
def test_lightning_told_which_it_was(stored, intruder, skelcl, capfd, version):
    content = {key: value for key, value in stored.items() if key != "pytorch-lightning_version"}
    torch.save(content if version is None else {**content, "pytorch-lightning_version": version}, "x.ckpt")
    with pytest.raises(SystemExit) as stop:
        skelcl("validate", "--ckpt_path", "x.ckpt")
    assert stop.value.code == 1
    assert "x.ckpt: not a checkpoint of Lightning's: it has no pytorch-lightning_version" in capfd.readouterr().err
