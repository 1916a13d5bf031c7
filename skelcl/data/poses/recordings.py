"""Raw files of NTU RGB+D, NW-UCLA and PKU-MMD as clips of poses: to look at one, or to recognise it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skelcl.data.bodies import select
from skelcl.data.formats import ntu, ntu_skeleton, nw_ucla, pku_text
from skelcl.data.formats.containers import LARGEST, read_bytes
from skelcl.data.poses.contents import Poses, Wanted
from skelcl.data.recording import ReadError


def ntu_skeletons(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads a ``.skeleton`` file, its two bodies chosen as ``skelcl data prepare`` does by default.

    Args:
        files: The file.
        wanted: Not looked at: these poses have 3 coordinates.

    Raises:
        ReadError: The file is damaged, or shows nobody.
    """
    (file,) = files
    joints, _ = select(ntu_skeleton.parse(read_bytes(file, ntu.MAX_BYTES), str(file), False).bodies, "sgn", False)
    if not len(joints):
        raise ReadError("no_skeleton", f"{file}: no frame shows a body")
    return Poses(joints)


def nw_ucla_json(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads a JSON file of NW-UCLA; see :func:`ntu_skeletons`."""
    (file,) = files
    return Poses(nw_ucla.skeletons(read_bytes(file, nw_ucla.MAX_BYTES), str(file))[0])


def pku_mmd_text(files: Sequence[Path], wanted: Wanted) -> Poses:
    """Reads a skeleton file of PKU-MMD, a whole recording of two bodies; see :func:`ntu_skeletons`."""
    (file,) = files
    joints, truncated = pku_text.parse_skeleton(read_bytes(file, LARGEST), str(file))
    told = {} if truncated is None else {"truncated": f"{file}: the last row is cut off and was left out"}
    return Poses(joints, notes=told)
