"""JSON, YAML, npy, npz and zip, opened in one way.

Whatever damage makes a library raise becomes one line that names the file, and nothing unpacks to more than its reader
accepts: a file of a few kilobytes may announce terabytes.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import yaml

from skelcl.data.recording import ReadError
from skelcl.errors import InputError, yaml_problem

NPY = b"\x93NUMPY"
ZIP = (b"PK\x03\x04", b"PK\x05\x06")

LARGEST = 1 << 28
"""Bytes to which the file of one clip may unpack: eight hours of a body of 25 joints at 30 frames per second."""
_LAYOUT_BYTES, _LAYOUT_VALUES = 1 << 20, 100_000
"""Bytes of a YAML text and values in it; no file that people write by hand has more."""


@contextmanager
def reading(place: Path | str, what: str = "") -> Iterator[None]:
    """Turns whatever a library raises for a damaged file into one line.

    Only calls of a library belong into it: a fault of ours would be told as damage.

    Args:
        place: The file, and perhaps the place in it.
        what: What it should be, where that is not plain.

    Raises:
        ReadError: Anything was raised inside.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # json, zipfile and numpy raise some twenty kinds, most of them undocumented
        message = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        kind = f" as {what}" if what else ""
        raise ReadError("damaged", f"{place}: cannot be read{kind} ({' '.join(message.split())[:120]})") from error


def bounded(size: int, place: Path | str, limit: int = LARGEST) -> int:
    """The size itself, in bytes.

    Raises:
        ReadError: It is larger than the limit.
    """
    if size > limit:
        raise ReadError("size", f"{place}: comes to {size:,} bytes in memory, of which {limit:,} are accepted")
    return size


def short_repr(value: Any) -> str:
    """A value out of somebody's file, for a message: short, however large or deep it is."""
    return _SHORT_REPR.repr(value)


_SHORT_REPR = reprlib.Repr()
_SHORT_REPR.maxlevel, _SHORT_REPR.maxstring, _SHORT_REPR.maxlong = 2, 60, 40


def read_bytes(file: Path, limit: int = LARGEST) -> bytes:
    """A file as a whole.

    Raises:
        ReadError: It cannot be read, or is too large.
    """
    with reading(file), open(file, "rb", buffering=0) as stream:
        bounded(os.fstat(stream.fileno()).st_size, file, limit)
        return stream.readall()


def decode(data: bytes, place: Path | str) -> str:
    """Text in UTF-8, a byte order mark left away.

    Raises:
        ReadError: It is none.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ReadError("encoding", f"{place}: cannot be read, not UTF-8 text (byte {error.start})") from error


# --- JSON and YAML ----------------------------------------------------------------------------------------------------


def parse_json(text: str, place: Path | str) -> Any:
    """Content of a JSON text.

    Raises:
        ReadError: It is none; the message names line and column.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        message = f"{place}: not valid JSON ({error.msg}), column {error.colno}"
        raise ReadError("json", message, error.lineno) from error
    except RecursionError as error:
        raise ReadError("json", f"{place}: not valid JSON (nested too deeply)") from error
    except ValueError as error:  # Python refuses to convert more than 4,300 digits
        raise ReadError("json", f"{place}: not valid JSON (a number of thousands of digits)") from error


def read_json(file: Path) -> Any:
    """Content of a JSON file; a byte order mark is allowed.

    Raises:
        ReadError: It cannot be read, is too large or no JSON.
    """
    return parse_json(decode(read_bytes(file), file), file)


def read_yaml(file: Path) -> Any:
    """Content of a YAML file of plain values, such as people write.

    Raises:
        ReadError: It cannot be read or is no YAML, names a Python object, or its anchors expand to too many values.
    """
    text = decode(read_bytes(file, _LAYOUT_BYTES), file)
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            if (size := _values(node, {})) > _LAYOUT_VALUES:
                message = f"expand to {size:,} values" if size < math.inf else "hold themselves"
                raise ReadError("size", f"{file}: its anchors {message}")
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except InputError:
        raise
    except Exception as error:  # of values, PyYAML raises what Python does
        problem, line = yaml_problem(error)
        raise ReadError("yaml", f"{file}: not YAML ({problem})", line) from error


def _values(node: yaml.Node, known: dict[int, float]) -> float:
    """Values below a node once its anchors are expanded; infinite when it holds itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf  # until it is counted, so that a node that holds itself stays so
        items = (part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,)))
        known[id(node)] = 1 + sum(_values(item, known) for item in items)
    return known[id(node)]


# --- npy --------------------------------------------------------------------------------------------------------------


class Header(NamedTuple):
    """What an npy file says of its array."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Bytes of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def npy_header(stream: IO[bytes], place: Path | str) -> Header:
    """Reads the header of an npy file; the stream stands behind it afterwards.

    Raises:
        ReadError: It is none.
    """
    with reading(place, "an array of numpy"):
        version = np.lib.format.read_magic(stream)
        if version not in _HEADERS:
            raise ValueError(f"npy format {version[0]}.{version[1]}")
        shape, fortran, dtype = _HEADERS[version](stream)
        if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 32:
            raise ValueError(f"its header says {short_repr(shape)}, which is no shape")
    return Header(tuple(shape), fortran, dtype)


def read_npy(stream: IO[bytes], place: Path | str, limit: int = LARGEST) -> np.ndarray:
    """Reads an array of plain values from an npy file or the member of an npz archive.

    Raises:
        ReadError: It is none, holds Python objects, is truncated or too large.
    """
    header = npy_header(stream, place)
    with reading(place, "an array of numpy"):
        if header.dtype.kind not in "biufcSU":
            raise ValueError("holds Python objects, not numbers" if header.dtype.hasobject else f"of {header.dtype}")
        data = bytearray(stream.read(bounded(header.size, place, limit)))
        if len(data) != header.size:
            raise ValueError(f"truncated: {len(data)} of {header.size} bytes")
        return np.ndarray(header.shape, header.dtype, data, order="F" if header.fortran else "C")


# --- zip and npz ------------------------------------------------------------------------------------------------------


def open_zip(file: Path) -> zipfile.ZipFile:
    """Opens an archive.

    Raises:
        ReadError: It is none, or damaged.
    """
    with reading(file, "a zip archive"):
        return zipfile.ZipFile(file)


def members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The files of an archive by their names; zipfile itself stumbles over one without a name."""
    return {info.filename: info for info in archive.infolist() if info.filename and not info.is_dir()}


def read_member(archive: zipfile.ZipFile, name: str, place: Path | str, limit: int = LARGEST) -> bytes:
    """A member of an archive as a whole.

    Raises:
        ReadError: It is damaged, encrypted, packed in an unknown way or too large.
    """
    with reading(place):
        member = archive.getinfo(name)
        bounded(member.file_size, place, limit)  # zipfile returns no more than this, whatever the data unpack to
        return archive.read(member)


def read_npz(
    file: Path, limits: dict[str, int], check: Callable[[Iterable[str]], None] | None = None
) -> dict[str, np.ndarray]:
    """Some arrays of an npz archive.

    Args:
        file: The archive.
        limits: Name of an array → bytes to which it may unpack. Those that are not there are left out.
        check: Told the names of all arrays before one is read.

    Raises:
        ReadError: The archive or one of these arrays is damaged or too large.
    """
    out = {}
    with open_zip(file) as archive:
        names = set(archive.namelist())
        if check is not None:
            check(name.removesuffix(".npy") for name in names)
        for name, limit in limits.items():
            if f"{name}.npy" in names:
                place = f"{file}: {name}"
                with reading(place), archive.open(f"{name}.npy") as stream:
                    out[name] = read_npy(stream, place, limit)
    return out


def npz_names(file: Path) -> list[str]:
    """Names of the arrays of an npz archive.

    Raises:
        ReadError: It is none, or damaged.
    """
    with open_zip(file) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]
