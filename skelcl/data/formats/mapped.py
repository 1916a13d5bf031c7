"""Arrays in npy files and npz members, opened without being read: rows of 11 GB cost no more than rows of 1 MB."""

from __future__ import annotations

import io
import math
import os
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
from tqdm import tqdm

from skelcl.data.formats.folders import crc32
from skelcl.errors import InputError

NPY = b"\x93NUMPY"
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_BLOCK = 1 << 22
_SMALL = 1 << 28


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
    with file.open("rb") as stream:
        shape, fortran, dtype = _header(stream, str(file))
        offset = stream.tell()
    _check_size(shape, dtype, file.stat().st_size - offset, str(file))
    return Array(str(file), offset, shape, dtype.str, fortran, str(file), crc32(file) if fingerprint else "")


class Archive:
    """The arrays of an npz archive.

    Args:
        file: The archive.

    Raises:
        InputError: It is damaged, or holds something else than arrays.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            with zipfile.ZipFile(file) as archive:
                self._members = {info.filename: info for info in archive.infolist() if not info.is_dir()}
        except (zipfile.BadZipFile, OSError, NotImplementedError) as error:  # the last: zipfile, of a newer zip
            raise InputError(f"{file}: a damaged or truncated zip archive ({error})") from error
        self.names = [name.removesuffix(".npy") for name in self._members]

    def describe(self) -> str:
        """Names, shapes and types of the members, for people."""
        told = []
        for name in self.names[:8]:
            if f"{name}.npy" in self._members:
                shape, _, dtype = self._peek(name)
                told.append(f"{name} {shape} {dtype}")
            else:
                told.append(name)
        return ", ".join(told) + (", …" if len(self.names) > 8 else "")

    def read(self, name: str) -> np.ndarray:
        """A small member as a whole.

        Raises:
            InputError: It is damaged, or too large to be what it should be.
        """
        shape, _, dtype = self._peek(name)
        info = self._members[f"{name}.npy"]
        if info.file_size > _SMALL * 4:
            raise InputError(f"{self.file}: {name} {shape} {dtype} is far too large for labels")
        try:
            with zipfile.ZipFile(self.file) as archive:
                data = archive.read(info)
            array: np.ndarray = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
        except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError) as error:
            raise InputError(f"{self.file}: {name} is damaged ({error})") from error
        return array

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
        shape, fortran, dtype = self._peek(name)
        mark, place = f"{info.file_size}:{info.CRC:08x}", f"{self.file}: {name}"
        if info.compress_type != zipfile.ZIP_STORED:
            unpacked = self._unpack(info, scratch / f"{name}-{info.file_size}-{info.CRC:08x}.npy")
            found = open_npy(unpacked, fingerprint=False)
            return Array(found.file, found.offset, shape, dtype.str, fortran, place, mark)
        with self.file.open("rb") as stream:
            stream.seek(info.header_offset)
            local = stream.read(30)
            if len(local) < 30 or local[:4] != ZIP[0]:
                raise InputError(f"{place} is not where the archive's directory says: the file is damaged")
            # The local header repeats the name and has extra fields of its own length.
            start = info.header_offset + 30 + int.from_bytes(local[26:28], "little")
            start += int.from_bytes(local[28:30], "little")
            stream.seek(start)
            _header(stream, place)
            offset = stream.tell()
        _check_size(shape, dtype, info.file_size - (offset - start), place)
        _check_size(shape, dtype, min(info.file_size - (offset - start), self.file.stat().st_size - offset), place)
        return Array(str(self.file), offset, shape, dtype.str, fortran, place, mark)

    def _peek(self, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
        try:
            with zipfile.ZipFile(self.file) as archive, archive.open(f"{name}.npy") as stream:
                return _header(stream, f"{self.file}: {name}")
        except (zipfile.BadZipFile, zlib.error, OSError, NotImplementedError, RuntimeError, KeyError) as error:
            raise InputError(f"{self.file}: {name} cannot be read ({error})") from error

    def _unpack(self, info: zipfile.ZipInfo, target: Path) -> Path:
        if target.is_file() and target.stat().st_size == info.file_size:
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(".tmp")
        try:
            with (
                zipfile.ZipFile(self.file) as archive,
                archive.open(info) as source,
                temporary.open("wb") as out,
                tqdm(desc=f"unpacking {info.filename}", total=info.file_size, unit="B", unit_scale=True,
                     disable=None if info.file_size > _SMALL else True) as bar,
            ):  # fmt: skip
                while block := source.read(_BLOCK):
                    out.write(block)
                    bar.update(len(block))
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            temporary.unlink(missing_ok=True)
            raise InputError(f"{self.file}: {info.filename} is damaged ({error})") from error
        os.replace(temporary, target)
        return target


def is_object(file: Path) -> bool:
    """Whether an npy file holds one Python object instead of an array."""
    with file.open("rb") as stream:
        shape, _, dtype = _any_header(stream, str(file))
    return shape == () and dtype.hasobject


def _header(stream: IO[bytes], place: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Reads the header of an array of numbers; the stream stands at them afterwards."""
    shape, fortran, dtype = _any_header(stream, place)
    if dtype.hasobject:
        raise InputError(f"{place}: {shape} {dtype}: holds Python objects, not numbers")
    return shape, fortran, dtype


def _any_header(stream: IO[bytes], place: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except ValueError as error:
        raise InputError(f"{place}: not an array of numpy ({' '.join(str(error).split())})") from error
    return tuple(shape), fortran, dtype


def _check_size(shape: tuple[int, ...], dtype: np.dtype, actual: int, place: str) -> None:
    expected = math.prod(shape) * dtype.itemsize
    if actual != expected:
        raise InputError(f"{place}: truncated or damaged: {actual} bytes of numbers instead of {expected} for {shape}")
