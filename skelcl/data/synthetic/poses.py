"""Synthetic people as a pose estimator reports them."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skelcl.data.synthetic.actions import ACTIONS
from skelcl.data.synthetic.performance import record
from skelcl.errors import InputError
from skelcl.skeleton import MEDIAPIPE33, NTU25

POSED = ("sit down", "stand up", "throw", "walk around", "drop trash", "carry")
"""The actions that are written."""
_HEAD = {
    "nose": (0.0, 0.0, 0.11),
    "left eye inner": (0.02, 0.04, 0.10),
    "left eye": (0.03, 0.04, 0.10),
    "left eye outer": (0.045, 0.04, 0.09),
    "left ear": (0.07, 0.01, 0.0),
    "mouth left": (0.02, -0.05, 0.09),
}
"""Where the left half of a face lies from the middle of the head, metres to the left, up and forward."""
_OTHER = {"left pinky": "left hand", "left index": "left hand tip", "left foot index": "left foot"}
_FOCAL, _ASPECT = 0.9, 16 / 9  # focal length in heights of the image


def landmarks(joints: NDArray[np.float32]) -> NDArray[np.float64]:
    """MediaPipe's 33 joints of bodies in Kinect's camera space.

    Args:
        joints: Coordinates, (T, 25, 3) metres.

    Returns:
        (T, 33, 3) metres, in the same axes.
    """
    at = {name: joints[:, joint].astype(np.float64) for joint, name in enumerate(NTU25.joints)}
    left, up = at["left shoulder"] - at["right shoulder"], at["head"] - at["neck"]
    left, up = (vector / np.linalg.norm(vector, axis=1, keepdims=True) for vector in (left, up))
    forward = np.cross(left, up)
    out = np.empty((len(joints), MEDIAPIPE33.num_joints, 3))
    for place, name in enumerate(MEDIAPIPE33.joints):
        twin, side = name.replace("right", "left"), "right" if "right" in name else "left"
        if twin in _HEAD:
            aside, above, ahead = _HEAD[twin]
            out[:, place] = at["head"] + (-aside if side == "right" else aside) * left + above * up + ahead * forward
        elif twin == "left heel":
            out[:, place] = at[f"{side} ankle"] - 0.3 * (at[f"{side} foot"] - at[f"{side} ankle"])
        else:
            out[:, place] = at[_OTHER.get(twin, twin).replace("left", side)]
    return out


def write_mediapipe(output: str | Path, subjects: int = 6, episodes: int = 1, seed: int = 0) -> int:
    """Writes ``<class>/<clip>.json``, lists of frames with ``landmarks`` and ``world_landmarks``, and ``labels.csv``.

    Args:
        output: Folder to write; it must be empty or absent.
        subjects: Number of people, 1–99.
        episodes: Times that each of them does each action, 1–99.
        seed: Seed; equal arguments give equal bytes.

    Returns:
        Number of clips.

    Raises:
        InputError: An argument lies outside its range, or the folder holds something else.
    """
    output = Path(output)
    if not 1 <= subjects <= 99 or not 1 <= episodes <= 99 or seed < 0:
        raise InputError("subjects and episodes must lie in 1–99 and seed must not be negative")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output} holds files already: move them away or choose another --output")
    work = output.parent / f".{output.name}.partial"
    shutil.rmtree(work, ignore_errors=True)
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["id", "label", "subject", "camera"])
    for action, person, episode in product(POSED, range(1, subjects + 1), range(1, episodes + 1)):
        folder = work / action.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        views = record(action, person, skeleton=NTU25, seed=seed, setup=1, replication=episode)
        camera = 1 + (person + episode + ACTIONS.index(action)) % len(views)
        stem = f"p{person:02d}-{episode:02d}"
        (folder / f"{stem}.json").write_text(
            json.dumps([_frame(body) for body in landmarks(views[camera][0])]), "utf-8"
        )
        rows.writerow([f"{folder.name}/{stem}", folder.name, person, camera])
    (work / "labels.csv").write_text(table.getvalue(), "utf-8")
    if output.exists():
        output.rmdir()
    os.rename(work, output)
    return len(POSED) * subjects * episodes


def _frame(body: NDArray[np.float64]) -> dict[str, list[dict[str, float]]]:
    """One body (33, 3) in Kinect's camera space as MediaPipe tells it: y down, world landmarks from mid hip."""
    if np.isnan(body).any():
        return {"landmarks": [], "world_landmarks": []}
    world = (body - body[23:25].mean(0)) * [-1, -1, 1]
    image = np.stack(
        [
            0.5 - _FOCAL / _ASPECT * body[:, 0] / body[:, 2],
            0.5 - _FOCAL * body[:, 1] / body[:, 2],
            world[:, 2] / body[23:25, 2].mean(),
        ],
        axis=1,
    )
    result = {}
    for name, points in (("landmarks", image), ("world_landmarks", world)):
        result[name] = [
            {"x": round(float(x), 4), "y": round(float(y), 4), "z": round(float(z), 4), "visibility": 0.99}
            for x, y, z in points
        ]
    return result
