"""Fractions of a picture's width and height, which are no lengths until its shape is known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from skelcl.data.poses.contents import Poses
from skelcl.data.recording import ReadError
from skelcl.errors import OptionError

REASON = "aspect"
"""What notes on unknown shapes are about; ``aspect_wide`` and the like where there is a guess."""


def parse_aspect(text: str | None) -> float | None:
    """Width by height of ``--aspect``: ``16/9``, ``1920x1080`` or ``1.78``.

    Raises:
        OptionError: It is none of them.
    """
    if text is None:
        return None
    parts = re.fullmatch(r"\s*(\d{1,6}(?:\.\d{1,9})?)(?:\s*[/:x]\s*(\d{1,6}(?:\.\d{1,9})?))?\s*", text)
    width, height = (float(parts[1]), float(parts[2] or 1)) if parts else (0.0, 0.0)
    if not height or not 0.05 <= width / height <= 20:
        raise OptionError(f"--aspect {text}: must be width by height of the picture, for example 16/9 or 1920x1080")
    return width / height


def aspect_of(content: Mapping[str, Any]) -> float | None:
    """Width by height of the picture where a file tells them, under whatever usual name."""
    plain = {re.sub(r"[\s_]|^(image|frame|video)", "", key.lower()): value for key, value in content.items()}
    size = next((plain[key] for key in ("resolution", "size", "imagesize") if key in plain), None)
    pair = size if isinstance(size, list) and len(size) == 2 else [plain.get("width"), plain.get("height")]
    for width, height in (pair, (plain.get("aspect"), 1), (plain.get("aspectratio"), 1)):
        if (
            isinstance(width, int | float)
            and isinstance(height, int | float)
            and 0 < height < width * 20 < 400 * height
        ):
            return float(width / height)
    return None


def are_fractions(joints: np.ndarray) -> bool:
    """Whether flat coordinates (…, 2) are fractions of a picture, of which people may reach a little out."""
    seen = joints[np.isfinite(joints).all(-1) & (joints != 0).any(-1)]
    return bool(len(seen)) and bool(np.abs(seen).max() < 5 and ((seen > 0) & (seen < 1)).mean() > 0.9)


def in_heights(poses: Poses, given: float | None, place: Path) -> Poses:
    """Makes fractions of width and height lengths: both in heights of the picture.

    Args:
        poses: Flat poses; others are left as they are.
        given: Width by height, which wins over what the file says.
        place: What to name in a message.

    Raises:
        ReadError: ``given`` stands beside coordinates that are no fractions.
    """
    if poses.joints.shape[-1] != 2 or not are_fractions(poses.joints):
        if given is not None:
            raise ReadError(REASON, f"{place}: --aspect is for flat fractions of width and height, which these are not")
        return poses
    notes = dict(poses.notes)
    aspect = given or poses.aspect
    if given and poses.aspect and abs(given / poses.aspect - 1) > 0.01:
        notes["aspect_differs"] = f"{place}: says a picture of {poses.aspect:.4g}, --aspect {given:.4g}"
    if aspect is None:
        shape, hint = "", ""
        if poses.looks is not None:
            shape = "_wide" if poses.looks > 1.25 else "_tall" if poses.looks < 0.8 else "_square"
            hint = f" (its world landmarks look like about {poses.looks:.2g})"
        unknown = f"x and y are fractions of a picture of unknown shape{hint}, taken as square"
        notes[REASON + shape] = f"{place}: {unknown}; --aspect WIDTH/HEIGHT keeps proportions"
        return replace(poses, notes=notes)
    joints = poses.joints.copy()
    joints[..., 0] *= aspect
    return replace(poses, joints=joints, notes=notes)
