"""What `make demo` calls, word for word, on miniature data: four methods, one table."""

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.posix("a shell script")

TOP = Path(__file__).parents[1]
METHODS = {"as_cal": "ASCAL", "sds_cl": "SDSCL", "scd_net": "SCDNet", "std_cl": "STDCL"}
QUICK = [
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]


@pytest.fixture
def calls(tmp_path):
    """Runs the script with a program that only notes what it is called with: all calls, and what the script says."""
    (tmp_path / "experiments").symlink_to(TOP / "experiments")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "skelcl"
    program.write_text("#!/bin/sh\nprintf '%s\\037' \"$@\" >> calls\necho >> calls\n")
    program.chmod(0o755)
    stale = tmp_path / "demo" / "runs" / "as_cal" / "version_0" / "results.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("{")
    done = subprocess.run(
        ["sh", "experiments/demo.sh"], cwd=tmp_path, env=os.environ | {"BIN": "bin"}, check=True, capture_output=True
    )
    assert not stale.exists(), "a demo that was killed starts clean"
    lines = (tmp_path / "calls").read_text().splitlines()
    return [line.split("\037")[:-1] for line in lines], done.stdout.decode()


def test_the_order_of_the_demo_and_where_its_files_lie(calls):
    commands, said = calls
    assert [words[0] for words in commands] == ["data", "data", *["fit", "test"] * 4, "plot", "evaluate", "results"]
    for fit, test, name in zip(commands[2:10:2], commands[3:10:2], METHODS, strict=True):
        assert fit[fit.index("--trainer.logger.init_args.name") + 1] == name
        assert all(Path(TOP, word).is_file() for word in fit if word.endswith(".yaml"))
        assert test == ["test", "--ckpt_path", f"demo/runs/{name}/version_0/checkpoints/last.ckpt"]
    for words in commands[-3:]:
        assert f"  {words[words.index('--output') + 1]} " in said, "the last words tell of every file"


@pytest.mark.slow
def test_every_command_of_the_demo_works(calls, skelcl, ucla, capsys):
    """Training is cut to two batches, and the banks of STD-CL to what few clips fill."""
    commands, _ = calls
    rows = {}
    for words in commands[2:]:
        if words[0] == "fit":
            words[words.index("--data.root") + 1] = ucla
            words += QUICK
            if "--model.positives" in words:
                words += ["--model.positives=1", "--model.negatives=2"]
        elif words[0] == "test":
            words += ["--evaluation.figures=false", "--supervised.figures=false"]
        elif words[0] == "plot":
            assert Path(words[words.index("--ckpt_path") + 1]).is_file()
            continue
        capsys.readouterr()
        cli = skelcl(*words)
        if words[0] == "fit":
            name = words[words.index("--trainer.logger.init_args.name") + 1]
            assert type(cli.model).__name__ == METHODS[name]
            rows[name] = cli.trainer.log_dir
    assert list(rows) == list(METHODS)
    assert rows == {name: f"demo/runs/{name}/version_0" for name in METHODS}
    out = capsys.readouterr().out
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in out.splitlines() if line[:1] == "|"]
    learned = {row[0]: dict(zip(table[0], row, strict=True)) for row in table[2:] if row[1] != "random weights"}
    assert {name: row["method"] for name, row in learned.items()} == METHODS
    for name, row in learned.items():
        probed = [row[title] != "" for title in ("kNN clean", "linear clean", "top-1 clean", "kNN", "linear", "top-1")]
        assert probed == [name != "std_cl", name != "std_cl", name == "std_cl"] * 2
    assert {row[0] for row in table[2:] if row[1] == "random weights"} == set(METHODS) - {"std_cl"}
    assert "letter" not in table[0], "all rows are of the same clips and labels"
    assert "Different columns are different protocols" in out
    assert Path("demo/results.md").is_file()
