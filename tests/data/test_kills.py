"""Whoever kills ``skelcl data prepare`` at any moment gets the same bytes from the next run."""

import hashlib
import random
import subprocess
import sys
import time

import pytest

from skelcl.data.synthetic import ntu as synthetic_ntu
from skelcl.data.synthetic import nw_ucla as synthetic_nw_ucla
from skelcl.data.synthetic import pku_mmd as synthetic_pku_mmd

KILLS = 10
RAW = {
    "nw-ucla": (lambda folder: synthetic_nw_ucla.write_nw_ucla(folder, subjects=10, episodes=5, seed=0), []),
    "ntu60": (lambda folder: synthetic_ntu.write_ntu(folder, "ntu60", 8, 10, 1, 2, 0), []),
    "ntu120": (lambda folder: synthetic_ntu.write_ntu(folder, "ntu120", 8, 10, 1, 1, 0), []),
    "pku-mmd-1": (lambda folder: synthetic_pku_mmd.write_pku_mmd(folder, 1, 12, 8, 0), ["--part", "1"]),
    "pku-mmd-2": (lambda folder: synthetic_pku_mmd.write_pku_mmd(folder, 2, 12, 8, 0), ["--part", "2"]),
}


def content(store):
    """Digest of every file of a store."""
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(store.iterdir())}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", RAW)
def test_killed_at_ten_random_moments(tmp_path, name):
    write, options = RAW[name]
    raw = tmp_path / "raw"
    write(raw)
    verb = "pku-mmd" if name.startswith("pku") else name
    command = [sys.executable, "-m", "skelcl", "data", "prepare", verb, "--raw", str(raw), *options, "--root"]
    for root in ("first", "whole"):  # the second run finds everything in the page cache, as those to be killed do
        start = time.monotonic()
        subprocess.run([*command, str(tmp_path / root)], check=True, capture_output=True)
        took = time.monotonic() - start
    expected = content(tmp_path / "whole" / name)
    clock = random.Random(name)
    killed = 0
    for n in range(KILLS):
        root = tmp_path / f"root{n % 2}"  # the second kills of a root hit a run that resumes
        anew = [*command, str(root), "--overwrite", "true"]
        process = subprocess.Popen(anew, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(clock.uniform(0.2, 0.9) * took)
        except subprocess.TimeoutExpired:
            process.kill()
            killed += 1
        process.wait()
        if (root / name).exists():
            assert content(root / name) == expected, "what carries the final name is whole"
    assert killed >= KILLS // 2
    for n in range(2):
        subprocess.run([*command, str(tmp_path / f"root{n}")], check=True, capture_output=True)
        assert content(tmp_path / f"root{n}" / name) == expected
        assert {p.name for p in (tmp_path / f"root{n}").iterdir()} == {name, f".{name}.lock"}, "no leftovers"
