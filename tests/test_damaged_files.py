"""Files that skelcl itself wrote and somebody damaged: one line wherever they are read."""

import io
import re
import zipfile

import numpy as np
import pytest
import torch
import yaml

from skelcl.commands.evaluate import _block
from skelcl.errors import InputError
from skelcl.evaluation.fusion import read_scores
from skelcl.evaluation.gallery import read_gallery
from skelcl.evaluation.tested_runs import read_result
from skelcl.interop.detection import find_state
from skelcl.plotting.run_files import read_features, read_robustness
from skelcl.runs.checkpoints import read_file
from skelcl.sweeps.definition import read_sweep


def damaged(way):
    """An npz archive that zipfile opens and cannot read."""
    stream = io.BytesIO()
    np.savez(stream, key="k", features=np.ones((2, 3)), label=np.zeros(2, int), id=np.array(["a", "b"]), logits=1)
    data = bytearray(stream.getvalue())
    for info in zipfile.ZipFile(io.BytesIO(bytes(data))).infolist():
        central = data.rfind(info.filename.encode()) - 46
        match way:
            case "unknown packing":
                data[central + 10] = data[info.header_offset + 8] = 99
            case "newer version":
                data[central + 6] = 99
            case "encrypted":
                data[central + 8] = data[info.header_offset + 6] = 1
            case "no numbers":
                start = info.header_offset + 30 + len(info.filename)
                data[start : start + 60] = b"\xff" * 60
    return bytes(data)


@pytest.mark.parametrize("way", ["unknown packing", "newer version", "encrypted", "no numbers"])
def test_archives_of_results(way, tmp_path):
    file = tmp_path / "x.npz"
    file.write_bytes(damaged(way))
    for read in (read_scores, read_features, read_gallery):
        with pytest.raises(InputError, match=r"x\.npz: (not |no gallery)") as caught:
            read(file)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 100_000, "7" * 5000, "{", "\ud800"], ids=["depth", "digits", "cut", "no text"])
def test_json_of_results(text, tmp_path):
    (tmp_path / "results.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    for read in (read_robustness, lambda folder: read_result(folder / "results.json", folder)):
        with pytest.raises(InputError, match=r"results\.json: "):
            read(tmp_path)


YAML = {
    "digits": (f"a: {'7' * 5000}", "a date or number that cannot be"),
    "date": ("a: 2024-13-45", "a date or number that cannot be"),
    "no time": ("a: !!timestamp x", "a date or number that cannot be"),
    "depth": ("[" * 1000, "nested too deeply"),
    "cut": ("b: 1\na: [", r".*\), line 2"),
    "tab": ("a:\n\tb: 1", r".*\), line 2"),
    "tag": ("a: !!python/name:os.getcwd", r".*\), line 1"),
}


@pytest.mark.parametrize("name", YAML)
def test_yaml_of_people(name, tmp_path, skelcl, capfd):
    text, told = YAML[name]
    file = tmp_path / "x.yaml"
    file.write_text(text)
    for read in (read_sweep, _block):
        with pytest.raises(InputError, match=rf"x\.yaml: not YAML \({told}") as caught:
            read(file)
        assert not re.search(r"unicode string|\n", str(caught.value))
    for words in (["fit", "--config", file], ["fit", f"--data={file}"], ["evaluate", "--config", file]):
        with pytest.raises(SystemExit) as stop:
            skelcl(*words)
        assert stop.value.code == (2 if "--config" in words else 1)
        (line,) = capfd.readouterr().err.splitlines()
        assert re.match(rf"skelcl: error: \S+x\.yaml: not YAML \({told}", line)


def test_the_config_that_a_sweep_names(tmp_path, skelcl, capfd):
    (tmp_path / "x.yaml").write_text("a: [")
    values = {"method": "grid", "metric": {"name": "val/knn_top1"}, "parameters": {"model.lr": {"values": [1]}}}
    command = ["${env}", "skelcl", "fit", "--config", str(tmp_path / "x.yaml"), "${args}"]
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({**values, "command": command}))
    with pytest.raises(SystemExit) as stop:
        skelcl("sweep", tmp_path / "sweep.yaml")
    assert stop.value.code == 1
    assert re.fullmatch(r"skelcl: error: \S+/x\.yaml: not YAML \(.*\), line 1\n", capfd.readouterr().err)


@pytest.mark.parametrize("text", ["", "- 1", "word", "\xff"])
@pytest.mark.parametrize("name", ["x.yaml", "x"])
def test_a_config_without_options(text, name, tmp_path, skelcl, capfd):
    file = tmp_path / name
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", "--config", file)
    assert stop.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"skelcl: error: {file}: ")


@pytest.mark.parametrize("legacy", [False, True])
def test_checkpoints_that_were_cut_off_anywhere(legacy, tmp_path):
    file = tmp_path / "x.ckpt"
    content = {"state_dict": {"a": torch.zeros(2000)}, "epoch": 1}
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    data = file.read_bytes()
    for length in range(0, len(data) - 1, 211):
        file.write_bytes(data[:length])
        with pytest.raises(InputError, match=r"x\.ckpt: not a checkpoint"):
            read_file(file)


@pytest.mark.parametrize("name", ["a\nb", "x" * 100_000, "\r\x1b[2J"])
def test_names_of_weights_are_told_on_one_short_line(name):
    for content in ({name: 1, "b": torch.zeros(1)}, {"state_dict": {name: 1}}, {name: {}}):
        with pytest.raises(InputError, match="holds no") as caught:
            find_state(content)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
