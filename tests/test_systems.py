"""Other systems than Linux: what cannot run there says so, and CI runs the rest of the core."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

TOP = Path(__file__).parents[1]
TESTS = TOP / "tests"
WORKFLOW = yaml.safe_load((TOP / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
PROCESSES = r"ddp_fork|[\"']/proc/"
NEEDS = {
    PROCESSES: {"linux"},
    r"get_context\([\"']fork|start_method=[\"']fork|\bos\.(fork|kill|killpg|mkfifo|sysconf|getuid|geteuid)\(": {
        "linux",
        "posix",
    },
    r"\bresource\.(get|set)rlimit|\bsetitimer\(|\[[\"'](sh|bash|make)[\"']": {"linux", "posix"},
}
"""What a test does that some systems lack, and the markers one of which says so."""
LATE = ("resource", "fcntl", "pty", "pwd")
"""Modules that Windows lacks."""
OTHER = WORKFLOW["jobs"]["other-systems"]


def marks(node):
    """Names of the pytest markers that decorate a function, or are assigned to ``pytestmark``."""
    return set(re.findall(r"pytest\.mark\.(\w+)", ast.unparse(node)))


def lacking(path):
    """Tests of a file that do what some systems lack, themselves or through what the file defines, without a word."""
    tree = ast.parse(path.read_text("utf-8"))
    named = {
        node.targets[0].id: node for node in tree.body if isinstance(node, ast.Assign) if hasattr(node.targets[0], "id")
    }
    everywhere = marks(named["pytestmark"]) if "pytestmark" in named else set()
    defined = {node.name: node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    defined |= {name: node for name, node in named.items() if name not in ("pytestmark", *defined)}

    def reached(name, seen):
        if name in seen or name not in defined:
            return ""
        seen.add(name)
        node = defined[name]
        words = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        words |= {part.arg for part in ast.walk(node) if isinstance(part, ast.arg)}  # fixtures
        return "\n".join([ast.unparse(node), *(reached(word, seen) for word in words)])

    for name, node in defined.items():
        if not name.startswith("test_") or not isinstance(node, ast.FunctionDef):
            continue
        text, own = reached(name, set()), everywhere.union(*map(marks, node.decorator_list))
        for word in {part.id for one in node.decorator_list for part in ast.walk(one) if isinstance(part, ast.Name)}:
            own |= marks(named[word]) if word in named else set()
        for pattern, markers in NEEDS.items():
            # What several tests share starts processes only for some of them.
            where = ast.unparse(node) if pattern == PROCESSES else text
            if re.search(pattern, where) and not own & markers:
                yield f"{name} ({pattern})"


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: path.relative_to(TESTS).as_posix())
def test_whatever_needs_a_system_is_marked(path):
    if path != Path(__file__):
        assert not list(lacking(path))
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            assert not {alias.name for alias in node.names} & set(LATE), (
                "imported where it is needed, or nothing is collected"
            )


def test_elsewhere_such_tests_skip_and_say_why(tmp_path):
    """The mechanism itself, on a system that is none of the known ones."""
    import subprocess

    source = (TESTS / "conftest.py").read_text("utf-8")
    start = source.index("SYSTEMS = {")
    end = source.index("@pytest.fixture", start)
    hook = source[start:end].replace('sys.platform == "linux"', "False").replace('os.name == "posix"', "False")
    (tmp_path / "conftest.py").write_text(f"import os, sys\nimport pytest\n\n{hook}")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    linux\n    posix\n")
    (tmp_path / "test_one.py").write_text(
        "import pytest\n\n\n@pytest.mark.linux('forks')\ndef test_a():\n    assert False\n\n\ndef test_b():\n    pass\n"
    )
    words = [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", "-c", "pytest.ini", "."]
    told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "1 passed, 1 skipped" in told
    assert "needs linux: forks" in told


def test_every_job_of_ci_has_what_it_needs():
    assert set(WORKFLOW["jobs"]) >= {"lint", "test", "other-systems", "core-only"}
    makefile = (TOP / "Makefile").read_text("utf-8")
    extras = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for name, job in WORKFLOW["jobs"].items():
        assert 0 < job["timeout-minutes"] <= 60, name
        uses = [step["uses"] for step in job["steps"] if "uses" in step]
        assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", one) for one in uses), "actions are named by their commits"
        commands = "\n".join(step.get("run", "") for step in job["steps"])
        for target in re.findall(r"\bmake ([\w-]+)", commands):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        for extra in re.findall(r"'\.\[(\w+)\]'", commands):
            assert extra in extras
        for file in re.findall(r"\bexperiments/[\w./-]+\.yaml", commands):
            assert (TOP / file).is_file(), file


def test_other_systems_run_the_core():
    """The list of the core stands in the workflow alone."""
    assert OTHER["strategy"]["matrix"]["os"] == ["macos-latest", "windows-latest"]
    core = OTHER["env"]["CORE"].split()
    assert all((TOP / path).exists() for path in core)
    assert len(set(core)) == len(core)
    assert {"tests/nn", "tests/methods", "tests/encoders", "tests/transforms", "tests/test_losses.py"} <= set(core)
    (step,) = [step["run"] for step in OTHER["steps"] if "pytest" in step.get("run", "")]
    assert "$CORE" in step


def test_the_readme_says_where_tests_were_seen_to_pass():
    text = re.sub(r"\s+", " ", (TOP / "README.md").read_text("utf-8"))
    assert "Seen to pass so far: Linux, on a CPU." in text
    assert "macOS and Windows" in text
