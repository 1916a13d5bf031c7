"""What texts point to exists: links, files and modules, wherever they are named; the changelog knows the version."""

import importlib
import re
import subprocess
from pathlib import Path

import pytest

import skelcl

TOP = Path(__file__).parents[1]
PAGES = sorted(path for path in (TOP, *(TOP / "experiments").rglob("*")) if path.is_dir() for path in path.glob("*.md"))
TEXTS = [
    *PAGES,
    TOP / "Makefile",
    TOP / "pyproject.toml",
    TOP / ".github" / "workflows" / "ci.yml",
    *(
        path
        for folder in ("skelcl", "experiments", "findings")
        for path in sorted((TOP / folder).rglob("*"))
        if path.suffix in (".py", ".yaml", ".sh", ".ipynb", ".js", ".html") and ".ipynb_checkpoints" not in path.parts
    ),
]
FILE = re.compile(r"(?<![\w./-])((?:skelcl|experiments|tests|findings)/[\w./-]*\.(?:py|yaml|md|sh|ipynb|json|js))\b")
NAME = re.compile(r"(?<![\w./@-])skelcl(?:\.[A-Za-z_]\w*)+")
NOT_HERE = {"skelcl.json", "skelcl.artifacts.CheckpointArtifacts", "skelcl.lightning_cli"}
"""A file within an exported model, what checkpoints name that still resume, a module of a build to compare with."""


def relative(path):
    return path.relative_to(TOP).as_posix()


def anchors(page):
    """Those that GitHub gives the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        place = page.parent / path if path else page
        assert place.exists(), target
        assert not anchor or anchor in anchors(place), target


def exists(name):
    """Whether a dotted name is a module, or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize("path", TEXTS, ids=relative)
def test_files_and_modules_that_a_text_names_exist(path):
    text = path.read_text("utf-8")
    if path.name == "CHANGELOG.md":
        text = re.sub(r"^\| .*? \|", "", text, flags=re.MULTILINE)  # what a row says was
    gone = {name for name in FILE.findall(text) if Path(name).stem != "X" and not (TOP / name).exists()}
    gone |= {name for name in NAME.findall(text) if not exists(name)}
    assert gone <= NOT_HERE


def test_the_changelog_has_the_present_version_first():
    text = (TOP / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^## \[([\w.]+)\] - (\d{4}-\d\d-\d\d|unreleased)$", text, re.MULTILINE)
    assert versions[0][0] == skelcl.__version__
    assert len(versions) == len(re.findall(r"^## ", text, re.MULTILINE))
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds


@pytest.mark.posix("a shell script")
def test_contributing_names_targets_that_exist_and_is_short():
    text = (TOP / "CONTRIBUTING.md").read_text("utf-8")
    makefile = (TOP / "Makefile").read_text("utf-8")
    targets = re.findall(r"\bmake ([a-z-]+)", text)
    assert {"install", "test", "lint"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    assert len(text.splitlines()) < 80
    subprocess.run(["bash", "-n", TOP / ".ci" / "run"], check=True)
