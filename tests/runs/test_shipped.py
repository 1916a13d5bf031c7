"""Run files are found by name where no path of that name exists, by every verb that takes one."""

from pathlib import Path

import pytest
import yaml

from skelcl.errors import InputError, OptionError
from skelcl.runs.shipped import EXPERIMENTS, run_file, run_files, with_run_files

AS_CAL = "pretrain/as_cal-nw_ucla.yaml"
SHIPPED = str(EXPERIMENTS / AS_CAL)


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_file_is_found_by_its_name_with_and_without_the_folder_of_all():
    assert len(run_files()) > 80
    for name in run_files():
        for path in (name, f"experiments/{name}", f"./{name}", EXPERIMENTS / name, Path(name)):
            assert run_file(path) == EXPERIMENTS / name


def test_a_path_that_exists_wins():
    for name in (AS_CAL, f"experiments/{AS_CAL}"):
        Path(name).parent.mkdir(parents=True)
        Path(name).touch()
        assert run_file(name) == Path(name)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("pretrain/as_cal-nwucla.yaml", "did you mean pretrain/as_cal-nw_ucla.yaml?"),
        ("experiments/data/syntetic.yaml", "did you mean data/synthetic.yaml?"),
        ("as_cal-nw_ucla.yaml", "did you mean pretrain/as_cal-nw_ucla.yaml?"),
        ("../pyproject.toml", "lists none of that name"),
        ("pretrain/../data/synthetic.yaml", "did you mean"),
        (str(Path("/nowhere") / AS_CAL), "no such file"),
    ],
)
def test_what_is_nowhere(path, told):
    with pytest.raises(InputError) as error:
        run_file(path)
    assert str(error.value).startswith(f"{path}: no such file; ")
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([f"--config={AS_CAL}"], [f"--config={SHIPPED}"]),
        (["-c", AS_CAL], ["-c", SHIPPED]),
        (["--run", AS_CAL], ["--run", SHIPPED]),
        (["--data", AS_CAL], ["--data", SHIPPED]),
        ([f"--model.encoder={AS_CAL}"], [f"--model.encoder={SHIPPED}"]),
        ([f"--model.init_args.view={AS_CAL}"], [f"--model.init_args.view={SHIPPED}"]),
        ([f"--trainer.logger+={AS_CAL}"], [f"--trainer.logger+={SHIPPED}"]),
        (["--output", AS_CAL], ["--output", AS_CAL]),
        ([f"--data.root={AS_CAL}"], [f"--data.root={AS_CAL}"]),
        (["--data", "Synthetic"], ["--data", "Synthetic"]),
        (["--config", "{trainer: {}}"], ["--config", "{trainer: {}}"]),
        (["--config", "trainer:\n  logger: x.yaml"], ["--config", "trainer:\n  logger: x.yaml"]),
        (["--config"], ["--config"]),
        (["--config", ""], ["--config", ""]),
    ],
)
def test_names_on_a_command_line(words, found):
    assert with_run_files(["fit", *words]) == ["fit", *found]


def test_a_config_that_is_nowhere_is_an_option_a_block_a_file():
    with pytest.raises(OptionError, match=r"--config pretrain/as_cal-nw_ucla: no such file; did you mean pretrain/"):
        with_run_files(["--config", "pretrain/as_cal-nw_ucla"])
    with pytest.raises(InputError, match=r"--data data/ntu.yaml: no such file") as error:
        with_run_files(["--data", "data/ntu.yaml"])
    assert not isinstance(error.value, OptionError)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["fit", "--config", "pretrain/x.yaml"], 2),
        (["fit", "--config", AS_CAL, "--data", "data/x.yaml"], 1),
        (["fit", "--config", AS_CAL, "--model.view=views/x.yaml"], 1),
        (["evaluate", "--config", "evaluate/x.yaml", "--ckpt_path", "x.ckpt"], 2),
        (["fine-tune", "--config", "evaluate/x.yaml", "--ckpt_path", "x.ckpt"], 2),
        (["fuse", "--config", "evaluate/x.yaml", "run"], 2),
        (["sweep", "sweeps/x.yaml"], 1),
        (["checkpoint", "import", "--run", "pretrain/x.yaml"], 1),
    ],
)
def test_through_every_verb_what_is_nowhere_is_one_line(skelcl, capsys, words, code):
    with pytest.raises(SystemExit) as stop:
        skelcl(*words)
    assert stop.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert "/x.yaml: no such file; " in line


def test_blocks_on_the_command_line_are_found_and_those_beside_a_run_file_too(skelcl, capsys):
    words = ["--config", AS_CAL, "--config", "overlays/debug.yaml", "--data", "experiments/data/ntu60-xview.yaml"]
    words += ["--model.encoder", "encoders/st_gcn.yaml", "--model.view", "views/sgn64-train.yaml"]
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", *words, "--print_config")
    assert stop.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["trainer"]["limit_train_batches"] == 2
    assert config["data"]["init_args"]["split"] == "xview"
    model = config["model"]["init_args"]
    assert model["encoder"]["class_path"] == "skelcl.encoders.STGCN"
    assert model["view"]["init_args"]["sample"]["init_args"]["frames"] == 64


def test_a_sweep_is_found_and_its_command_finds_run_files(skelcl, capsys):
    skelcl("sweep", "sweeps/as_cal-temperature.yaml")
    told = capsys.readouterr().out
    assert f"wandb sweep --project skelcl {EXPERIMENTS / 'sweeps' / 'as_cal-temperature.yaml'}" in told
    Path("sweep.yaml").write_text(
        (EXPERIMENTS / "sweeps" / "as_cal-temperature.yaml").read_text().replace("-nw", "-nv")
    )
    with pytest.raises(SystemExit) as stop:
        skelcl("sweep", "sweep.yaml")
    assert stop.value.code == 1
    line = (
        "sweep.yaml: command: --config experiments/pretrain/as_cal-nv_ucla.yaml: no such file; did you mean pretrain/"
    )
    assert line in capsys.readouterr().err


def listed(skelcl, capsys, *words):
    skelcl("experiments", *words)
    *lines, place = capsys.readouterr().out.splitlines()
    assert place == f"in {EXPERIMENTS}"
    return {line.split()[0]: line for line in lines}


def test_the_list_has_each_file_with_its_header(skelcl, capsys):
    lines = listed(skelcl, capsys)
    assert list(lines) == run_files()
    for name, line in lines.items():
        assert len(line) < 150
        first = (EXPERIMENTS / name).read_text().splitlines()[0]
        assert line.removeprefix(name).split()[:3] == first.removeprefix("#").split()[:3]
    assert lines[AS_CAL].endswith("preset `plus`: Rao et al. 2021, arXiv 2008.00188, with the options that a small …")


@pytest.mark.parametrize("word", ["overlays", "overlays/"])
def test_a_folder_is_listed_alone(skelcl, capsys, word):
    assert set(listed(skelcl, capsys, word)) == {name for name in run_files() if name.startswith("overlays/")}


def test_a_word_is_looked_for_in_names_and_headers(skelcl, capsys):
    assert set(listed(skelcl, capsys, "as_cal-nw_ucla-")) == {
        "pretrain/as_cal-nw_ucla-default.yaml",
        "pretrain/as_cal-nw_ucla-release.yaml",
    }
    assert set(listed(skelcl, capsys, "bayesian")) == {"sweeps/scd_net-temperature.yaml"}


def test_a_word_that_is_nowhere(skelcl, capsys):
    with pytest.raises(SystemExit) as stop:
        skelcl("experiments", "pretrian")
    assert stop.value.code == 2
    assert "no run file has 'pretrian' in name or header; did you mean pretrain?" in capsys.readouterr().err
