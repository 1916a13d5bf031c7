"""Notebooks are stored without outputs and run from top to bottom: small in this process, as they are in a kernel."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "experiments" / "notebooks").glob("*.ipynb"))
QUICK = ("01_data_and_layouts", "02_views_and_augmentations")
SMALL = {"EPOCHS": 1, "FRAMES": 4, "SEEDS": 2, "SUBJECTS": 2}
NAMED = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
SLOW = [pytest.param(path, marks=[] if path.stem in QUICK else pytest.mark.slow, id=path.stem) for path in NOTEBOOKS]


def sources(path, kind="code"):
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


@NAMED
def test_a_notebook_is_valid_and_stored_without_outputs(path):
    import nbformat

    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
        assert set(cell.metadata) == set()
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


@NAMED
def test_a_notebook_says_what_to_see_what_to_change_and_where_to_go(path):
    first = sources(path, "markdown")[0]
    for word in ("You will see", "Change", "Go on"):
        assert f"**{word}**" in first
    linked = re.findall(r"\]\(([^)]+\.ipynb)\)", "\n".join(sources(path, "markdown")))
    assert all((path.parent / link).is_file() for link in linked)


@pytest.mark.parametrize("path", SLOW)
def test_a_notebook_runs_with_small_numbers(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for source in sources(path):
        for name, value in SMALL.items():
            source = re.sub(rf"^{name} = \d+$", f"{name} = {value}", source, flags=re.MULTILINE)
        # A magic belongs to the kernel, which runs it in the test below.
        exec(compile(re.sub(r"^%.*$", "", source, flags=re.MULTILINE), path.name, "exec"), names)


FIGURES = {
    "01_data_and_layouts": 3,
    "02_views_and_augmentations": 7,
    "03_pretrain_and_watch": 4,
    "04_protocols_and_results": 2,
    "05_ablation": 2,
    "06_your_own_skeletons": 2,
}
"""Pictures and animations that a reader gets to see."""
CLAIMS = {
    "01_data_and_layouts": "assert chosen[0.1] < chosen[0.25] < chosen[0.5] and other != chosen[0.1]",
    "02_views_and_augmentations": "assert torch.equal(first, again) and not torch.equal(first, other)",
    "03_pretrain_and_watch": "assert metrics['val/knn_top1'].iloc[-1] > before['val/knn_top1']",
    "04_protocols_and_results": "for one in found: assert one.metrics['test/linear_moco_linear_top1'] > "
    "one.metrics['test/random_linear_moco_linear_top1']",
    "05_ablation": "assert (table['count'] == SEEDS).all() and (runs['knn'] > 100 / data.num_classes).mean() > 0.9",
    "06_your_own_skeletons": """
told = {clip["id"]: clip for clip in json.loads(Path("new.json").read_text())["clips"]}
for action, seen in found.items():
    assert told[action]["label"] == seen.label
    np.testing.assert_allclose(told[action]["windows"][0]["features"], seen.features, rtol=1e-3, atol=1e-5)
""",
}
"""What the text of a notebook says of its numbers."""


@pytest.mark.slow
@pytest.mark.timeout(900)
@NAMED
def test_a_notebook_shows_what_it_promises_in_a_kernel(path, tmp_path, monkeypatch):
    """As it is; pictures arrive as pictures, warnings do not arrive."""
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(CLAIMS[path.stem]))
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    told = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stderr")
    assert "Warning" not in told
    shown = [output.data for output in outputs if output.output_type in ("display_data", "execute_result")]
    pictures = [data for data in shown if "image/png" in data or "<iframe" in data.get("text/html", "")]
    assert len(pictures) == FIGURES[path.stem]
