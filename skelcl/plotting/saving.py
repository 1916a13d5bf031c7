"""Pictures and animations as files: the suffix says the format, and there is the whole file or none."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.animation import FFMpegWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from skelcl.errors import InputError
from skelcl.files import atomic_write
from skelcl.plotting.animation import SkeletonAnimation

FIGURES = (".png", ".pdf", ".svg")
ANIMATIONS = (".gif", ".mp4", ".html")
PALETTE = 64
"""Colours of a GIF: eight of body parts, at two strengths, and their edges."""


def check_target(path: Path, suffixes: Sequence[str]) -> None:
    """Refuse a file that could not be written, before any work is done.

    Args:
        path: File to write.
        suffixes: Formats that there are.

    Raises:
        InputError: It has another suffix, or is ``.mp4`` where there is no ffmpeg.
    """
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{path}: the name must end in {', '.join(suffixes[:-1])} or {suffixes[-1]}")
    if path.suffix.lower() == ".mp4" and _ffmpeg() is None:
        raise InputError(
            f"{path}: an .mp4 needs ffmpeg, which is not installed: pip install 'skelcl[video]'; "
            ".gif and .html need nothing"
        )


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as ``.png``, ``.pdf`` or ``.svg``.

    Args:
        figure: The figure.
        path: File to write.

    Raises:
        InputError: The suffix is another one.
    """
    path = Path(path)
    check_target(path, FIGURES)
    with atomic_write(path) as part:
        figure.savefig(part, dpi=150)


def save_animation(animation: SkeletonAnimation, path: str | Path) -> None:
    """Write an animation at its own speed as ``.gif``, ``.mp4`` or a page that needs no other file, ``.html``.

    Args:
        animation: What :func:`~skelcl.plotting.animate_skeleton` returned.
        path: File to write. MP4 needs ffmpeg.

    Raises:
        InputError: The suffix is another one, or there is no ffmpeg.
    """
    path = Path(path)
    check_target(path, ANIMATIONS)
    with atomic_write(path) as part:
        if path.suffix.lower() == ".html":
            part.write_text(animation.html(), encoding="utf-8")
            return
        if path.suffix.lower() == ".gif":
            _write_gif(animation, part)
            return
        writer = FFMpegWriter(fps=animation.fps)  # type: ignore[arg-type]  # ffmpeg takes 12.5 frames per second, too
        with (
            matplotlib.rc_context({"animation.ffmpeg_path": _ffmpeg() or "ffmpeg"}),
            writer.saving(animation.figure, str(part), dpi=animation.figure.dpi),
        ):
            for frame in range(animation.frames):
                animation.draw(frame)
                writer.grab_frame()


def _write_gif(animation: SkeletonAnimation, path: Path) -> None:
    """One palette for all frames: what rests costs next to nothing, and files are a quarter to a half smaller."""
    canvas = FigureCanvasAgg(animation.figure)

    def picture(frame: int) -> Image.Image:
        animation.draw(frame)
        canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib annotates no canvas
        pixels = canvas.buffer_rgba()  # type: ignore[no-untyped-call]  # nor this
        return Image.fromarray(np.asarray(pixels)).convert("RGB")

    samples = [np.asarray(picture(frame)) for frame in range(0, animation.frames, -(-animation.frames // 8))]
    palette = Image.fromarray(np.concatenate(samples)).quantize(PALETTE)
    first, *others = [
        picture(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in range(animation.frames)
    ]
    first.save(path, "GIF", save_all=True, append_images=others, duration=int(1000 / animation.fps), loop=0)


def _ffmpeg() -> str | None:
    """The program of the machine, else that of the extra ``video``; None where there is neither."""
    own = shutil.which("ffmpeg")
    if own is not None or importlib.util.find_spec("imageio_ffmpeg") is None:
        return own
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:  # on a platform for which it brings none
        return None
