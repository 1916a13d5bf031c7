"""Skeletons in files of MATLAB: UTD-MHAD."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skelcl.data.formats.containers import bounded, read_bytes, reading
from skelcl.data.poses.contents import Poses, Wanted, as_numbers
from skelcl.data.recording import ReadError

_MHAD = (3, 2, 1, 0, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)
"""Joints of Kinect v1 in UTD-MHAD, which counts from the head down."""


def utd_mhad(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads UTD-MHAD: ``d_skel`` (20, 3, T); joints are put in the order of Kinect v1.

    Args:
        files: ``aA_sS_tT_skeleton.mat``.
        wanted: Not looked at.

    Raises:
        ReadError: It is no such file, or scipy is missing.
    """
    (file,) = files
    try:
        from scipy.io import loadmat, whosmat
    except ImportError:
        raise ReadError("scipy", f"{file}: needs scipy: pip install 'skelcl[evaluate]'") from None
    read_bytes(file)  # its size is bounded before anything is unpacked
    with reading(file, "a file of MATLAB"):
        shapes = {name: shape for name, shape, _ in whosmat(file)}
    shape = shapes.get("d_skel")
    if shape is None:
        raise ReadError("keys", f"{file}: the variable 'd_skel' is missing; it has {', '.join(shapes) or 'none'}")
    if len(shape) != 3 or shape[:2] != (20, 3) or not shape[2]:
        raise ReadError("shape", f"{file}: d_skel is {shape}, not (20, 3, frames)")
    bounded(8 * 60 * shape[2], file)
    with reading(file, "a file of MATLAB"):
        values = loadmat(file, variable_names=["d_skel"])["d_skel"]
    return Poses(as_numbers(values, file, "d_skel").transpose(2, 0, 1)[None, :, _MHAD])
