"""Arrays in npy files and npz members, opened without being read: rows of 11 GB cost no more than rows of 1 MB."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
from tqdm import tqdm

from skelcl.data.formats.containers import (
    LARGEST,
    ZIP,
    Header,
    bounded,
    members,
    npy_header,
    open_zip,
    read_npy,
    reading,
)
from skelcl.data.formats.folders import crc32
from skelcl.errors import InputError
from skelcl.files import atomic_write

_BLOCK = 1 << 22
_EXPANSION = 100
"""How often the bytes of a large member may come out of its packed ones: padded clips are about a tenth."""


@dataclass(frozen=True)
class Array:
    """An array on disk: where it begins and what it is. Picklable; every process maps it for itself.

    Args:
        file: The npy file, or the npz archive around an uncompressed member.
        offset: Byte of ``file`` at which the numbers begin.
        shape: Its shape.
        dtype: Its type as numpy spells it, for example ``<f4``.
        fortran: Whether the first axis varies fastest.
        place: What to call it in messages.
        fingerprint: Size and checksum.
    """

    file: str
    offset: int
    shape: tuple[int, ...]
    dtype: str
    fortran: bool
    place: str
    fingerprint: str

    @property
    def values(self) -> np.ndarray:
        """The numbers, mapped and read-only."""
        return _map(self)

    @property
    def described(self) -> str:
        """Shape and type, for people."""
        return f"{self.shape} {np.dtype(self.dtype)}"


@lru_cache(maxsize=8)
def _map(array: Array) -> np.ndarray:
    order = "F" if array.fortran else "C"
    if 0 in array.shape:
        return np.empty(array.shape, array.dtype)
    with reading(array.place):
        mapped = np.memmap(array.file, array.dtype, "r", array.offset, array.shape, order)  # type: ignore[call-overload]
    plain: np.ndarray = mapped.view(np.ndarray)  # slicing an np.memmap costs several times a plain view
    return plain


def starts_with(file: Path, *magic: bytes) -> bool:
    """Whether a file begins with one of some byte strings."""
    with file.open("rb") as stream:
        return stream.read(max(map(len, magic))).startswith(magic)


def open_npy(file: Path, fingerprint: bool = True) -> Array:
    """Opens an npy file.

    Args:
        file: The file.
        fingerprint: Whether to read it once for its checksum.

    Raises:
        InputError: It is no npy file, holds objects or is truncated.
    """
    with reading(file), file.open("rb") as stream:
        header = _header(stream, str(file))
        offset = stream.tell()
        _check_size(header, file.stat().st_size - offset, str(file))
        mark = crc32(file) if fingerprint else ""
    return Array(str(file), offset, header.shape, header.dtype.str, header.fortran, str(file), mark)


class Archive:
    """The arrays of an npz archive.

    Args:
        file: The archive.

    Raises:
        InputError: It is damaged, or holds something else than arrays.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        with open_zip(file) as archive:
            self._members = members(archive)
        self.names = [name.removesuffix(".npy") for name in self._members if name.endswith(".npy")]

    def describe(self) -> str:
        """Names, shapes and types of the members, for people."""
        members = []
        for name in list(self._members)[:8]:
            array = name.removesuffix(".npy")
            if array == name:
                members.append(name)
            else:
                header = self._peek(array)
                members.append(f"{array} {header.shape} {header.dtype}")
        return ", ".join(members) + (", …" if len(self._members) > 8 else "")

    def read(self, name: str) -> np.ndarray:
        """A small member as a whole.

        Raises:
            InputError: It is damaged, or too large to be what it should be.
        """
        place = f"{self.file}: {name}"
        with open_zip(self.file) as archive, reading(place), archive.open(f"{name}.npy") as stream:
            return read_npy(stream, place)

    def open(self, name: str, scratch: Path) -> Array:
        """A member of any size.

        Members stored as they are, are mapped inside the archive. Compressed ones are unpacked once, in a stream.

        Args:
            name: Its name.
            scratch: Folder for what has to be unpacked.

        Raises:
            InputError: It is damaged.
        """
        info = self._members[f"{name}.npy"]
        header = self._peek(name)
        mark, place = f"{info.file_size}:{info.CRC:08x}", f"{self.file}: {name}"
        if info.compress_type != zipfile.ZIP_STORED:
            bounded(info.file_size, place, max(LARGEST, _EXPANSION * info.compress_size))
            unpacked = self._unpack(info, scratch / f"{name}-{info.file_size}-{info.CRC:08x}.npy")
            found = open_npy(unpacked, fingerprint=False)
            return Array(found.file, found.offset, found.shape, found.dtype, found.fortran, place, mark)
        with reading(place), self.file.open("rb") as stream:
            stream.seek(info.header_offset)
            local = stream.read(30)
            if len(local) < 30 or local[:4] != ZIP[0]:
                raise InputError(f"{place} is not where the archive's directory says: the file is damaged")
            # The local header repeats the name and has extra fields of its own length.
            start = info.header_offset + 30 + int.from_bytes(local[26:28], "little")
            start += int.from_bytes(local[28:30], "little")
            stream.seek(start)
            header = _header(stream, place)
            offset = stream.tell()
            _check_size(header, info.file_size - (offset - start), place)
            _check_size(header, min(info.file_size - (offset - start), self.file.stat().st_size - offset), place)
        return Array(str(self.file), offset, header.shape, header.dtype.str, header.fortran, place, mark)

    def _peek(self, name: str) -> Header:
        place = f"{self.file}: {name}"
        with open_zip(self.file) as archive, reading(place), archive.open(f"{name}.npy") as stream:
            return _header(stream, place)

    def _unpack(self, info: zipfile.ZipInfo, target: Path) -> Path:
        if target.is_file() and target.stat().st_size == info.file_size:
            return target
        place = f"{self.file}: {info.filename}"
        with (
            atomic_write(target) as part,
            part.open("wb") as out,
            open_zip(self.file) as archive,
            tqdm(desc=f"unpacking {info.filename}", total=info.file_size, unit="B", unit_scale=True,
                 disable=None if info.file_size > LARGEST else True) as bar,
        ):  # fmt: skip
            with reading(place):
                source = archive.open(info)
            with source:
                while True:
                    with reading(place):  # what cannot be written is no fault of the archive
                        block = source.read(_BLOCK)
                    if not block:
                        break
                    out.write(block)
                    bar.update(len(block))
        return target


def is_object(file: Path) -> bool:
    """Whether an npy file holds one Python object instead of an array."""
    with reading(file), file.open("rb") as stream:
        header = npy_header(stream, file)
    return header.shape == () and header.dtype.hasobject


def _header(stream: IO[bytes], place: str) -> Header:
    """Reads the header of an array of numbers; the stream stands at them afterwards."""
    header = npy_header(stream, place)
    if header.dtype.hasobject:
        raise InputError(f"{place}: {header.shape} {header.dtype}: holds Python objects, not numbers")
    return header


def _check_size(header: Header, actual: int, place: str) -> None:
    if actual != header.size:
        raise InputError(
            f"{place}: truncated or damaged: {actual} bytes of numbers instead of {header.size} for {header.shape}"
        )
