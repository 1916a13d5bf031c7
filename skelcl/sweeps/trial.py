"""One trial of a sweep: a run folder, a process, and the values of the objective that it has logged."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from skelcl.runs.versions import LAST_CHECKPOINT, newest_file, versions

PROGRAM = (sys.executable, "-m", "skelcl.sweeps.child")
"""What a trial starts; the tests start something that trains nothing."""


class TrialRun:
    """The process of ``skelcl fit`` with the options of one trial; it ends when this process does.

    A folder that holds ``last.ckpt`` already is trained on from there.

    Args:
        folder: Of the trial; gets ``version_k`` and ``log.txt``.
        words: Command line after ``skelcl``.
    """

    def __init__(self, folder: Path, words: Sequence[str]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        logger = {"class_path": "CSVLogger", "init_args": {"save_dir": str(folder.parent), "name": folder.name}}
        command = [
            words[0],
            "--trainer.enable_progress_bar=false",
            *words[1:],
            f"--trainer.logger={json.dumps(logger)}",
        ]
        last = newest_file(folder, LAST_CHECKPOINT)
        if last is not None:
            command.append(f"--ckpt_path={last}")
        with (folder / "log.txt").open("ab") as log:
            self._earlier = log.tell()
            self._process = subprocess.Popen(
                [*PROGRAM, *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    @property
    def code(self) -> int | None:
        """Exit code; None while it runs."""
        return self._process.poll()

    def complaint(self) -> str:
        """The line of the log that says why it failed, not why an earlier attempt did."""
        log = (self.folder / "log.txt").read_bytes()[self._earlier :].decode("utf-8", "replace")
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        told = [line for line in lines if line.startswith("skelcl: error: ")]
        return (told or lines or ["it said nothing"])[-1].removeprefix("skelcl: error: ")

    def stop(self) -> None:
        """End the process and its children now, if they have not ended by themselves."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def objective(folder: Path, metric: str) -> list[float]:
    """What a trial has logged of the objective, over all parts of an interrupted run, in the order of the epochs."""
    values: dict[int, float] = {}
    for version in versions(folder):
        path = version / "metrics.csv"
        if path.is_file():
            # The run may be writing: a last line without its end is not there yet.
            text, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
            for row in csv.DictReader(text.splitlines()):
                if row.get(metric) and row.get("epoch"):
                    values[int(row["epoch"])] = float(row[metric])
    return [values[epoch] for epoch in sorted(values)]


def logged(folder: Path) -> list[str]:
    """Names of all that a trial has logged."""
    names: Mapping[str, None] = {}
    for version in versions(folder):
        path = version / "metrics.csv"
        if path.is_file():
            names = dict.fromkeys([*names, *path.read_text(encoding="utf-8").partition("\n")[0].strip().split(",")])
    return [name for name in names if "/" in name]
