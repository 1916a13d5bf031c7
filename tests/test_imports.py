"""Who may import whom, and what must not be loaded before it is needed."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import skelcl

PACKAGE = Path(skelcl.__file__).parent
EVERYWHERE = {"errors", "files", "bounds", "runs.interruption"}
"""How input is refused, what is written, what numbers may be, and how programs end: a matter of every room."""
LIGHT = {"skeleton", "losses", "seeding", "errors", "files", "bounds"}
ALLOWED = {
    **{name: set() for name in LIGHT},
    "clips": {"skeleton"},
    "nn": {"skeleton"},
    "transforms": {"skeleton", "clips", "nn"},
    "encoders": {"skeleton", "clips", "nn"},
    "data": {"clips", "seeding", "skeleton", "transforms"},
    "runs.interruption": set(),
    "runs.versions": set(),
    "runs.shipped": set(),
    "runs.checkpoints": set(),
    "runs.trust": {"runs.checkpoints"},
    "methods": {"encoders", "transforms", "nn", "losses", "skeleton", "clips", "seeding", "runs.checkpoints"},
    "interop": {"encoders", "nn", "skeleton", "seeding"},
    "evaluation": {
        "encoders", "transforms", "skeleton", "clips", "seeding", "plotting", "runs.checkpoints", "runs.versions",
        "runs.trust",
    },
    "plotting": {"skeleton", "evaluation"},
    "runs": {
        "__init__", "clips", "data", "encoders", "evaluation", "methods", "nn", "runs.checkpoints", "runs.versions",
        "runs.shipped", "runs.trust", "seeding", "skeleton", "transforms",
    },
    "recognition": {
        "__init__", "clips", "data", "encoders", "evaluation", "methods", "runs", "runs.checkpoints", "runs.trust",
        "skeleton", "transforms",
    },
    "sweeps": {"data", "plotting", "runs", "runs.versions", "runs.shipped"},
    "__init__": {"recognition"},
    "cli": {"__init__", "commands", "data", "runs.shipped"},
    "__main__": {"cli"},
}  # fmt: skip
"""Room, or file of a room, and what it may import; ``commands`` may import all, and only the front imports it."""


def room(path):
    """The part of the package that a file belongs to: a room, or a file that the table names."""
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name if name in ALLOWED else name.split(".")[0]


def imported(path):
    """The parts of the package that a file imports, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            first, *rest = name.split(".")
            if first == "skelcl":
                inside = bool(rest) and ((PACKAGE / rest[0]).is_dir() or (PACKAGE / f"{rest[0]}.py").exists())
                file = ".".join(rest[:2])
                yield (file if file in ALLOWED else rest[0]) if inside else "__init__"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_layers(path):
    own = room(path)
    if own == "commands":
        return
    wrong = set(imported(path)) - ALLOWED[own] - EVERYWHERE - {own}
    assert not wrong, f"{own} must not import {', '.join(sorted(wrong))}"


def test_the_root_holds_what_every_room_needs():
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert files == LIGHT | {"clips", "cli", "__main__"}


DATA_SETS = {"bandai_namco", "ntu", "nw_ucla", "pku_mmd"}
PUBLISHED = {"agcn", "as_cal", "ctr_gcn", "hcn", "hyperformer", "mamp", "scd_net", "sds_cl", "std_cl"}
SAME_NAME = {
    **dict.fromkeys(DATA_SETS, "a data set's module, its raw files and their generated twins"),
    **dict.fromkeys(PUBLISHED, "what a paper names: its encoder or method, and how its published files are read"),
    "__init__": "Python's",
    "base": "the contract of encoders, and that of methods",
    "datamodule": "what all data modules share, and the one of generated people",
    "fine_tune": "a method, and the verb that trains it",
}
"""Names that files of several rooms have, and why nobody takes one for the other."""


def test_files_of_one_name_are_not_taken_for_each_other():
    count = Counter(path.stem for path in PACKAGE.rglob("*.py"))
    assert {name for name, files in count.items() if files > 1} <= set(SAME_NAME)


def test_evaluation_knows_encoders_by_their_contract_only():
    for path in (PACKAGE / "evaluation").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("skelcl.encoders"):
                assert node.module == "skelcl.encoders.base"


@pytest.mark.parametrize(
    "code",
    [
        "import skelcl",
        "from skelcl.cli import run; run(['--help'])",
        "import skelcl.losses, skelcl.encoders, skelcl.nn",
    ],
)
def test_heavy_packages_wait_until_they_are_needed(code):
    script = f"import sys\n{code}\nprint(sorted({{'wandb', 'matplotlib', 'sklearn', 'lightning'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_the_list_of_run_files_needs_no_torch():
    script = "import sys\nfrom skelcl.cli import run\nrun(['experiments'])\nprint(sorted({'torch'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_runs_load_neither_wandb_nor_scikit_learn():
    script = "import sys, skelcl.commands.lightning\nprint(sorted({'wandb', 'sklearn'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
