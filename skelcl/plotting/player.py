"""A page that plays skeletons and needs nothing but itself."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def page(
    clips: Sequence[NDArray[np.floating[Any]]],
    bones: Sequence[tuple[int, int]],
    colours: Sequence[str],
    titles: Sequence[str],
    fps: float,
    yaw: float,
) -> str:
    """A whole HTML document with a canvas for each clip.

    Args:
        clips: Coordinates of each clip, (M, T, V, C), NaN where nothing was seen; rounded to a ten-thousandth of the
            clip's extent.
        bones: (child, parent) of each bone.
        colours: Of each joint, and of the bone that hangs on its parent.
        titles: One line for each clip.
        fps: Frames per second.
        yaw: Where the camera stands at first, in radians.
    """
    content = {
        "fps": fps,
        "yaw": yaw,
        "bones": bones,
        "colours": colours,
        "clips": [
            {"title": title, "shape": clip.shape, "joints": _numbers(clip)}
            for title, clip in zip(titles, clips, strict=True)
        ],
    }
    # "<" could end the script, whatever a title says.
    data = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    text = Path(__file__).with_name("player.html").read_text("utf-8")
    from skelcl.evaluation.page import resource  # its room takes Lightning along, which no other picture needs

    return text.replace("/*PLAYER*/", resource("player.js")).replace("/*DATA*/", data)


def _numbers(clip: NDArray[np.floating[Any]]) -> list[float | None]:
    flat = clip.reshape(-1)
    finite = flat[np.isfinite(flat)]
    extent = float(np.ptp(finite)) if len(finite) else 0.0
    digits = 4 - math.floor(math.log10(extent)) if extent > 0 else 4
    return [round(float(x), digits) if math.isfinite(x) else None for x in flat]
