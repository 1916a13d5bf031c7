"""Folders of runs: ``NAME/version_k`` for each part of a run, numbered as Lightning's loggers do."""

from __future__ import annotations

import re
from pathlib import Path

LAST_CHECKPOINT = "checkpoints/last.ckpt"
"""Of a version: the checkpoint of the last epoch that it got to."""


def versions(run: Path) -> list[Path]:
    """The versions of a run by their number, the oldest first; none where there is no such folder."""
    return sorted((path for path in run.glob("version_*") if _number(path) is not None and path.is_dir()), key=natural)


def next_version(run: Path) -> Path:
    """The folder of the version that comes next; it is not made."""
    taken = versions(run)
    return run / f"version_{(_number(taken[-1]) or 0) + 1 if taken else 0}"


def newest_file(run: Path, name: str) -> Path | None:
    """A file of the last version of a run that has it.

    Args:
        run: Folder of the run.
        name: Path of the file in a version.
    """
    found = (version / name for version in reversed(versions(run)))
    return next((file for file in found if file.is_file()), None)


def natural(path: Path) -> list[tuple[int, str]]:
    """Key that sorts paths with their numbers as numbers: ``version_2`` before ``version_10``."""
    # Every second part is digits; ASCII ones, since int() does not read all that str.isdigit() takes.
    return [(int(part) if i % 2 else 0, part) for i, part in enumerate(re.split(r"([0-9]+)", str(path)))]


def _number(version: Path) -> int | None:
    match = re.fullmatch(r"version_([0-9]+)", version.name)
    return int(match[1]) if match else None
