"""Generated people as raw files, behind ``skelcl data generate``."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Literal

from skelcl.bounds import NonNegativeInt, PositiveInt, bounded
from skelcl.data.synthetic import ntu, nw_ucla, pku_mmd, poses


@bounded
def generate_nw_ucla(
    output: Path = Path("raw/nw-ucla"),
    subjects: PositiveInt = 10,
    episodes: PositiveInt = 5,
    seed: NonNegativeInt = 0,
) -> None:
    """Articulated people as NW-UCLA's JSON files, to try everything without the data set.

    Args:
        output: Folder to write; it must not hold other files.
        subjects: Number of people, 1 to 99.
        episodes: Times that each of them does each action, 1 to 100; every episode is seen by three cameras.
        seed: Seed; the same arguments give the same bytes.

    Raises:
        InputError: An argument lies outside its range, or the folder holds other files.
    """
    count = nw_ucla.write_nw_ucla(output, subjects, episodes, seed)
    print(f"{output}: {count} sequences; next: skelcl data prepare nw-ucla --raw {quote(str(output))}")


@bounded
def generate_ntu60(
    output: Path = Path("raw/ntu60"),
    subjects: PositiveInt = 8,
    actions: PositiveInt = 10,
    replications: PositiveInt = 1,
    setups: PositiveInt = 2,
    seed: NonNegativeInt = 0,
) -> None:
    """Articulated people as the .skeleton files of NTU RGB+D 60, with lost ids, empty frames and bystanders.

    Args:
        output: Folder to write; it must not hold other files.
        subjects: Number of performers, 1 to 40.
        actions: Number of actions, 1 to 15, a third of them of two people.
        replications: Times that each performer does each action, 1 or 2; three cameras see each.
        setups: Number of camera setups, 1 to 15.
        seed: Seed; the same arguments give the same bytes.

    Raises:
        InputError: An argument lies outside its range, or the folder holds other files.
    """
    count = ntu.write_ntu(output, "ntu60", subjects, actions, replications, setups, seed)
    print(f"{output}: {count} files; next: skelcl data prepare ntu60 --raw {quote(str(output))}")


@bounded
def generate_ntu120(
    output: Path = Path("raw/ntu120"),
    subjects: PositiveInt = 8,
    actions: PositiveInt = 10,
    replications: PositiveInt = 1,
    setups: PositiveInt = 2,
    seed: NonNegativeInt = 0,
) -> None:
    """Articulated people as the .skeleton files of NTU RGB+D 120, with lost ids, empty frames and bystanders.

    Args:
        output: Folder to write; it must not hold other files.
        subjects: Number of performers, 1 to 40.
        actions: Number of actions of each half of the data set, 1 to 15, a third of them of two people.
        replications: Times that each performer does each action, 1 or 2; three cameras see each.
        setups: Number of camera setups of each half, 1 to 15.
        seed: Seed; the same arguments give the same bytes.

    Raises:
        InputError: An argument lies outside its range, or the folder holds other files.
    """
    count = ntu.write_ntu(output, "ntu120", subjects, actions, replications, setups, seed)
    print(f"{output}: {count} files; next: skelcl data prepare ntu120 --raw {quote(str(output))}")


@bounded
def generate_mediapipe(
    output: Path = Path("raw/mediapipe"),
    subjects: PositiveInt = 6,
    episodes: PositiveInt = 1,
    seed: NonNegativeInt = 0,
) -> None:
    """Articulated people as MediaPipe reports them: a JSON file per clip in a folder per class, and labels.csv.

    Args:
        output: Folder to write; it must be empty or absent.
        subjects: Number of people, 1 to 99.
        episodes: Times that each of them does each of six actions, 1 to 99.
        seed: Seed; the same arguments give the same bytes.

    Raises:
        InputError: An argument lies outside its range, or the folder holds other files.
    """
    count = poses.write_mediapipe(output, subjects, episodes, seed)
    options = f"--format mediapipe --input {quote(str(output))} --name my-data"
    print(f"{output}: {count} clips; next: skelcl data import poses {options}")


@bounded
def generate_pku_mmd(
    output: Path | None = None,
    part: Literal[1, 2] = 1,
    recordings: PositiveInt = 12,
    actions: PositiveInt = 8,
    seed: NonNegativeInt = 0,
) -> None:
    """Articulated people as the text files of PKU-MMD: long videos with pauses, passers-by and lost people.

    Args:
        output: Folder to write, by default raw/pku-mmd-PART; it must not hold other files.
        part: Part of the data set; part 2 has short pauses, overlapping labels and no actions of two people.
        recordings: Number of recordings, 3 to 99, a third of them in the cross-subject test part; three views each.
        actions: Actions in each recording, 1 to 99.
        seed: Seed; the same arguments give the same bytes.

    Raises:
        InputError: An argument lies outside its range, or the folder holds other files.
    """
    output = output or Path(f"raw/pku-mmd-{part}")
    count = pku_mmd.write_pku_mmd(output, part, recordings, actions, seed)
    print(f"{output}: {count} videos; next: skelcl data prepare pku-mmd --part {part} --raw {quote(str(output))}")
