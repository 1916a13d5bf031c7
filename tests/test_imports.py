"""Who may import whom, and what must not be loaded before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import skelcl

PACKAGE = Path(skelcl.__file__).parent
EVERYWHERE = {"bounds", "text"}
"""What any signature may name, and how names are shown."""
ALLOWED = {
    "skeleton": set(),
    "losses": set(),
    "seeding": set(),
    "errors": set(),
    "files": set(),
    "interruption": set(),
    "bounds": {"errors"},
    "text": set(),
    "stored": {"errors"},
    "clips": {"skeleton"},
    "nn": {"skeleton", "errors"},
    "transforms": {"skeleton", "clips", "nn", "errors"},
    "encoders": {"skeleton", "clips", "nn", "errors"},
    "interop": {"encoders", "nn", "skeleton", "errors", "files", "seeding"},
    "data": {"clips", "errors", "files", "interruption", "parsing", "seeding", "skeleton", "transforms"},
    "methods": {"encoders", "transforms", "nn", "losses", "skeleton", "clips", "seeding", "errors", "stored"},
    "evaluation": {
        "encoders",
        "transforms",
        "skeleton",
        "clips",
        "seeding",
        "errors",
        "files",
        "plane",
        "plotting",
        "stored",
    },
    "callbacks": {"clips", "data", "errors", "files", "interruption", "nn"},
    "plane": {"errors"},
    "plotting": {"skeleton", "errors", "files", "plane"},
    "parsing": {"errors"},
    "lightning_cli": {
        "__init__",
        "callbacks",
        "data",
        "encoders",
        "errors",
        "evaluation",
        "interop",
        "interruption",
        "methods",
        "parsing",
        "seeding",
        "skeleton",
        "stored",
        "trainer_options",
        "transforms",
    },
    "trainer_options": {"errors"},
    "checkpoint": {
        "errors",
        "evaluation",
        "files",
        "interop",
        "lightning_cli",
        "methods",
        "parsing",
        "skeleton",
        "stored",
        "transforms",
    },
    "export": {"data", "errors", "interop", "lightning_cli", "methods", "stored", "__init__"},
    "predict": {"data", "errors", "files", "plotting", "predictor", "recognition", "skeleton"},
    "predictor": {
        "clips",
        "data",
        "errors",
        "evaluation",
        "lightning_cli",
        "methods",
        "recognition",
        "skeleton",
        "stored",
        "__init__",
    },
    "recognition": set(),
    "fine_tune": {
        "data",
        "errors",
        "evaluation",
        "files",
        "interruption",
        "lightning_cli",
        "methods",
        "parsing",
        "stored",
    },
    "plot_commands": {"data", "errors", "lightning_cli", "parsing", "plotting", "seeding"},
    "artifacts": set(),
    "sweeps": {"data", "errors", "files", "interruption", "lightning_cli", "parsing", "plotting"},
    "evaluate": {
        "clips",
        "data",
        "errors",
        "evaluation",
        "files",
        "lightning_cli",
        "methods",
        "parsing",
        "plane",
        "seeding",
        "stored",
    },
    "cli": {"__init__", "data", "errors", "interruption", "lightning_cli", "parsing"},
    "__init__": {"predictor"},
    "__main__": {"cli"},
}


def room(path):
    """The part of the package that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


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
                yield rest[0] if inside else "__init__"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_layers(path):
    own = room(path)
    wrong = set(imported(path)) - ALLOWED[own] - EVERYWHERE - {own}
    assert not wrong, f"{own} must not import {', '.join(sorted(wrong))}"


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


def test_runs_load_neither_wandb_nor_scikit_learn():
    script = "import sys, skelcl.lightning_cli\nprint(sorted({'wandb', 'sklearn'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"
