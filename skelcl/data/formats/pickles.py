"""Pickles of strangers, read without running anything of them, and written piece by piece.

A pickle is a program for a small stack machine, and that of the standard library calls whatever the program names. The
machine here (``pickle_machine.py``) knows values, containers and numpy arrays; a name stands for one of a dozen known
constructors or ends the reading. Large arrays stay in the file until they are asked for, so a file of gigabytes takes
little memory.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from skelcl.data.formats.pickle_machine import interpret
from skelcl.data.formats.stored import Stored, described
from skelcl.errors import InputError

_BATCH = 1000


def load(file: str | Path, start: int = 0) -> Any:
    """Reads a pickle of any protocol, of Python 2 or 3 and numpy 1 or 2.

    Args:
        file: The file.
        start: Place of the pickle in the file.

    Returns:
        Dictionaries, lists, tuples, sets, texts, bytes, numbers and None. Arrays are ``Stored``, and bytes that belong
        to none are ``Span`` when they are more than a few. Ordered and default dictionaries become plain ones, numpy
        scalars become numbers, strings of Python 2 become text as in Latin-1.

    Raises:
        InputError: The file is no pickle, is damaged, or names anything else; nothing it names was run.
    """
    file = Path(file)
    try:
        with file.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size <= start:
                raise InputError(f"{file}: the file is empty")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return interpret(file, data, start)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error


def load_npy(file: str | Path) -> Stored:
    """Reads an npy file of objects, which numpy keeps as a pickle behind its header.

    Returns:
        The array; its ``data`` are the objects in C order, as :func:`load` returns them.

    Raises:
        InputError: It is no such file, is damaged, or names what :func:`load` refuses.
    """
    file = Path(file)
    shape, kind, start = npy_header(file)
    if kind != "O":
        raise InputError(f"{file}: an array {shape} of numbers instead of objects")
    value = load(file, start)
    if not isinstance(value, Stored) or not isinstance(value.data, list) or value.shape != shape:
        raise InputError(f"{file}: its header promises an array {shape} of objects, it holds {described(value)}")
    return value


def npy_header(file: Path) -> tuple[tuple[int, ...], str, int]:
    """Shape, kind of the type (``O``: objects) and length of the header of an npy file.

    Raises:
        InputError: It is none.
    """
    try:
        with file.open("rb") as stream:
            shape, _, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
            return shape, dtype.kind, stream.tell()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    except Exception as error:  # whatever a damaged header makes numpy raise
        why = " ".join(str(error).split())[:80]
        raise InputError(f"{file}: no npy file that numpy knows ({why})") from error


_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def holds(file: Path) -> str | None:
    """The first container of a pickle, ``dict`` or ``list``, by a few bytes; None when the file cannot be a pickle."""
    try:
        with file.open("rb") as stream:
            head = stream.read(24)
    except OSError:
        return None
    match = re.match(rb"(?:\x80[\x02-\x05])?(?:\x95.{8})?(\(d|\}|\(l|\])", head, re.DOTALL)
    return None if match is None else "dict" if match[1] in (b"(d", b"}") else "list"


def dump(value: Any, stream: IO[bytes]) -> None:
    """Writes a pickle that every Python 3 and numpy reads (protocol 3, numpy 1's names of modules).

    Args:
        value: None, truth values, numbers, texts, tuples, lists, dictionaries and arrays, nested. Iterators
            become lists whose items are written as they come.
        stream: Where to write.

    Raises:
        TypeError: Something else is to be written.
    """
    stream.write(b"\x80\x03")
    _dump(value, stream.write)
    stream.write(b".")


def _dump(value: Any, write: Any) -> None:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        write(b"N")
    elif isinstance(value, bool):
        write(b"\x88" if value else b"\x89")
    elif isinstance(value, int):
        small = -(1 << 31) <= value < 1 << 31
        long = b"" if small else value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        write(struct.pack("<ci", b"J", value) if small else struct.pack("<cB", b"\x8a", len(long)) + long)
    elif isinstance(value, float):
        write(struct.pack(">cd", b"G", value))
    elif isinstance(value, str):
        text = value.encode()
        write(struct.pack("<cI", b"X", len(text)) + text)
    elif isinstance(value, bytes):
        write(struct.pack("<cI", b"B", len(value)) + value)
    elif isinstance(value, tuple):
        write(b"(")
        for item in value:
            _dump(item, write)
        write(b"t")
    elif isinstance(value, dict):
        write(b"}(")
        for key, item in value.items():
            _dump(key, write)
            _dump(item, write)
        write(b"u")
    elif isinstance(value, np.ndarray):
        _dump_array(value, write)
    elif isinstance(value, list | Iterator):
        write(b"]")
        items = iter(value)
        while batch := list(islice(items, _BATCH)):
            write(b"(")
            for item in batch:
                _dump(item, write)
            write(b"e")
    else:
        raise TypeError(f"a {type(value).__name__} cannot be written")


def _dump_array(array: np.ndarray, write: Any) -> None:
    kind = array.dtype
    if kind.kind not in "biufO":
        raise TypeError(f"an array of {kind} cannot be written")
    objects = kind.kind == "O"
    write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n")
    _dump((0,), write)
    _dump(b"b", write)
    write(b"\x87R(")
    _dump(1, write)
    _dump(array.shape, write)
    write(b"cnumpy\ndtype\n")
    _dump((kind.str[1:], False, True), write)
    write(b"R")
    _dump((3, kind.str[0], None, None, None, -1, -1, 63 if objects else 0), write)
    write(b"b")
    _dump(False, write)
    _dump(list(array.ravel()) if objects else array.tobytes(), write)
    write(b"tb")
