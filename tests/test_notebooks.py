"""Every notebook runs from top to bottom, here with small constants, and is stored without outputs."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "experiments" / "notebooks").glob("*.ipynb"))
SMALL = {"EPOCHS": 1, "SUBJECTS": 3}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_notebook(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            source = "".join(cell["source"])
            for name, value in SMALL.items():
                source = re.sub(rf"^{name} = \d+$", f"{name} = {value}", source, flags=re.MULTILINE)
            exec(compile(source, path.name, "exec"), names)
    assert 0 <= names["results"]["test/knn_top1"] <= 1
