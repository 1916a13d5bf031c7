"""Every command and every Python block of the README does what it says, on miniature data."""

import contextlib
import re
import shlex
import subprocess
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from skelcl.cli import HELP

TOP = Path(__file__).parents[1]
README = (TOP / "README.md").read_text("utf-8")
GUIDES = [path.read_text("utf-8") for path in sorted((TOP / "experiments" / "guides").glob("*.md"))]
QUICK = [
    "--trainer.accelerator=cpu",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands(program):
    """Lines of the shell blocks that call a program, as words, without their comments."""
    lines = [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()]
    return [words[1:] for words in lines if words and words[0] == program]


@pytest.fixture
def checkout(skelcl, ucla, tmp_path):
    """A working folder in which the README's paths exist: experiments and the raw zip."""
    (tmp_path / "experiments").symlink_to(TOP / "experiments")
    raw = ucla.parent / "raw"
    with zipfile.ZipFile("all_sqe.zip", "w") as archive:
        for file in sorted(raw.iterdir()):
            archive.write(file, f"all_sqe/{file.name}")
    return skelcl


def test_all_commands_in_order(checkout, capsys):
    """As a reader would type them; training is cut to two epochs of two batches."""
    seen = set()
    for words in commands("skelcl"):
        seen.add(words[0])
        verb = words[0]
        if verb == "fit" and "--model.help" not in words:
            epochs = 4 if "--ckpt_path" in words else 2
            words = [*words, *QUICK, f"--trainer.max_epochs={epochs}"]
            if "ddp" in words or any("wandb" in word or "synthetic" in word for word in words):
                words.append("--print_config")  # run by tests of their own
        elif verb in ("test", "validate") or (verb == "predict" and "--input" not in words):
            words = [*words, *QUICK]
        ends = pytest.raises(SystemExit, check=lambda stop: stop.code == 0)
        with ends if words[-1] in ("--print_config", "ASCAL") else contextlib.nullcontext():
            checkout(*words)
    assert {"data", "fit", "test", "predict", "results", "plot", "export"} <= seen
    assert Path("views.gif").exists()
    assert Path("features.npz").exists()
    run = Path("runs/as_cal-nw_ucla/version_0")
    assert {path.name for path in run.iterdir()} == {"config.yaml", "metrics.csv", "checkpoints"}
    assert Path("new.json").exists()
    assert Path("encoder.onnx").exists()


def test_python_blocks_run(checkout, tmp_path):
    checkout("data", "prepare", "nw-ucla", "--raw", "all_sqe.zip", "--root", "data")
    (block,) = blocks("python")
    assert "pl.Trainer(max_epochs=2," in block
    quick = "pl.Trainer(max_epochs=1, limit_train_batches=2, enable_progress_bar=False,"
    names = {}
    exec(block.replace("pl.Trainer(max_epochs=2,", quick), names)
    assert 0 <= names["trainer"].callback_metrics["test/knn_top1"] <= 1


def test_make_targets_and_extras_exist():
    makefile = (TOP / "Makefile").read_text()
    for words in commands("make"):
        assert re.search(rf"^{words[0]}:", makefile, re.MULTILINE), words
    extras = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for words in commands("pip"):
        for extra in re.findall(r"\[(\w+)\]", " ".join(words)):
            assert extra in extras


CLAIMS = {
    "Two epochs equal one epoch, a resume and another epoch, bit for bit": [
        "test_cli.py::test_resume_is_exact",
        "test_signals.py::test_all_processes_of_a_run_end_and_the_resumed_one_repeats_it",
    ],
    "Two processes with half the batch equal one with the whole": [
        "test_distributed.py::test_two_processes_equal_one",
        "test_distributed.py::test_two_processes_with_banks_equal_one",
    ],
    "an unknown key or a wrong value is one line and exit code 2": [
        "test_cli.py::test_a_wrong_option_is_one_line_and_code_2"
    ],
    "A file that cannot be used is one line and exit code 1": [
        "test_cli.py::test_a_missing_checkpoint",
        "test_cli.py::test_a_file_that_is_no_checkpoint",
        "test_cli.py::test_a_missing_store_names_the_command_that_makes_it",
    ],
    "`SKELCL_DEBUG=1` adds the traceback": ["test_cli.py::test_debugging_adds_the_traceback_to_the_line"],
    "A loss that is not finite ends a run with code 1": [
        "runs/test_callbacks.py::test_through_the_command_line_it_is_one_line_and_code_1",
        "runs/test_callbacks.py::test_the_first_such_loss_ends_the_run_and_the_last_good_checkpoint_stays",
    ],
    "a signal any command with 130 or 143": [
        "test_signals.py::test_whatever_is_interrupted_does_not_say_success",
        "test_signals.py::test_the_workers_of_prepare_end_with_it",
        "sweeps/test_local.py::test_a_killed_sweep_goes_on_to_the_same_end",
    ],
    "the chosen clips are the same on every machine, smaller choices are part of larger ones": [
        "data/test_subsets.py::test_the_choice_is_pinned",
        "data/test_subsets.py::test_smaller_subsets_are_part_of_larger_ones",
    ],
    "resumed after a kill": ["sweeps/test_local.py::test_a_killed_sweep_goes_on_to_the_same_end"],
    "a metric of the test part is refused": ["sweeps/test_definition.py::test_what_is_refused"],
    "Called again after an interruption, or with more seeds, it repeats nothing that is finished": [
        "commands/test_fine_tune.py::test_called_again_after_a_kill_it_ends_in_the_same_table"
    ],
    "nothing in a file is ever run": ["test_cli.py::test_a_checkpoint_that_would_run_code_is_refused"],
    "another split whose test clips are among them is refused": [
        "evaluation/test_provenance.py::test_clips_of_the_training_do_not_judge",
        "evaluation/test_provenance.py::test_clips_of_the_training_judge_when_asked_for_and_are_marked_everywhere",
    ],
    "are found by content and reported apart": [
        "data/test_store.py::test_leaked_compares_content_across_the_split_only",
        "data/test_datamodule.py::test_clean_subset_appears_only_where_it_says_something",
    ],
}
"""What the README and the guides promise, and the tests that hold it."""


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_promise_is_a_test(claim):
    assert any(claim in re.sub(r"\s+", " ", text) for text in (README, *GUIDES))
    for test in CLAIMS[claim]:
        file, _, name = test.partition("::")
        assert f"\ndef {name}(" in (TOP / "tests" / file).read_text(), test


def test_readme_is_short_and_help_knows_every_verb():
    assert len(README.splitlines()) < 220
    for words in commands("skelcl"):
        verb = " ".join(words[:2]) if words[0] in ("data", "checkpoint", "plot") else words[0]
        assert verb.startswith("--") or f"  {verb} " in HELP


def test_first_screen_moves_and_has_real_results():
    """Whom it is for, a moving skeleton and one table before anything has to be typed."""
    top = README.partition("\n## ")[0]
    assert len(top.splitlines()) <= 30
    (picture,) = re.findall(r"!\[[^]]+\]\(([\w./-]+)\)", top)
    assert (TOP / picture).stat().st_size < 400_000
    with Image.open(TOP / picture) as moving:
        assert moving.n_frames > 20
    (table,) = re.findall(r"^<!-- results: .+ -->\n((?:\|.*\n)+)\nAll rows: .+\n<!-- /results -->$", top, re.MULTILINE)
    for run in ("as_cal-nw_ucla", "scd_net-nw_ucla-small", "sds_cl-nw_ucla-small"):
        assert run in table
        assert (TOP / "experiments" / "pretrain" / f"{run}.yaml").is_file()
    assert "random" in table


@pytest.mark.slow
def test_the_picture_is_what_its_commands_make(skelcl):
    folder = TOP / "experiments" / "pictures"
    for line in (folder / "skeletons.sh").read_text("utf-8").splitlines():
        if line.startswith("skelcl "):
            skelcl(*shlex.split(line)[1:])
    with Image.open("skeletons.gif") as made, Image.open(folder / "skeletons.gif") as kept:
        assert (made.n_frames, made.size) == (kept.n_frames, kept.size)
        for frame in range(0, made.n_frames, 5):
            made.seek(frame)
            kept.seek(frame)
            off = np.abs(np.asarray(made.convert("RGB"), int) - np.asarray(kept.convert("RGB"), int))
            assert off.mean() < 2


ASKED = {
    "SCD-Net's loss": ("skelcl/methods/scd_net.py", "def training_step"),
    "what `skelcl predict` does": ("skelcl/commands/predict.py", "def predict_clips"),
    "how another format of recordings would join": ("skelcl/data/poses/formats.py", "Format = Literal["),
    "where ties of neighbours are decided": ("skelcl/evaluation/knn.py", "A tie goes to"),
}
"""What a newcomer looks for, and the file and line of it."""


def test_every_room_and_what_newcomers_ask_for_is_on_the_map():
    places = set(re.findall(r"`(skelcl/[\w/.]*)`", README.partition("## Where things are")[2]))
    for room in (path for path in (TOP / "skelcl").iterdir() if (path / "__init__.py").is_file()):
        assert f"skelcl/{room.name}/" in places
    for file, line in ASKED.values():
        assert file in places
        assert line in (TOP / file).read_text("utf-8")


@pytest.mark.posix("a shell script")
def test_demo_script_uses_what_exists():
    script = (TOP / "experiments" / "demo.sh").read_text()
    for path in re.findall(r"experiments/[\w./-]+\.yaml", script):
        assert (TOP / path).exists()
    subprocess.run(["sh", "-n", TOP / "experiments" / "demo.sh"], check=True)
