"""Values of a pickle that stay in the file until they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from skelcl.errors import InputError


class Span(NamedTuple):
    """Bytes that were left in the file: place and number."""

    start: int
    size: int


@dataclass(eq=False, slots=True)
class Stored:
    """An array whose coordinates are still in the file; ``np.asarray`` reads it. It may be sent to other processes.

    Args:
        file: The pickle.
        dtype: numpy's name of the type, for example ``<f4``.
        shape: Lengths of the axes.
        axes: Order of the axes in which the data were written, when it is not that of the array.
        data: The bytes, or where they are; the items of an array of objects; None before they are known.
    """

    file: Path
    dtype: str = ""
    shape: tuple[int, ...] = ()
    axes: tuple[int, ...] | None = None
    data: bytes | Span | list[Any] | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """The array.

        Raises:
            InputError: The file changed since it was opened, or the array holds objects.
        """
        data = self.data
        if isinstance(data, Span):
            try:
                with self.file.open("rb") as stream:
                    stream.seek(data.start)
                    raw = stream.read(data.size)
            except OSError as error:
                raise InputError(f"{self.file}: cannot be read ({error.strerror})") from error
            if len(raw) != data.size:
                raise InputError(f"{self.file}: ends within an array")
        elif isinstance(data, bytes):
            raw = data
        else:
            raise InputError(f"{self.file}: an array holds objects, not numbers")
        axes = self.axes or tuple(range(len(self.shape)))
        written = sorted(range(len(axes)), key=axes.__getitem__)
        array = np.frombuffer(raw, self.dtype).reshape([self.shape[axis] for axis in written]).transpose(axes)
        return array if dtype is None else array.astype(dtype)

    def __len__(self) -> int:
        return self.shape[0]


def described(value: Any) -> str:
    """A value of :func:`load` in a few words, for messages."""
    if isinstance(value, Stored):
        return f"an array {value.shape} {value.dtype}"
    if isinstance(value, dict):
        keys = ", ".join(f"{key[:30]!r}" if isinstance(key, str) else type(key).__name__ for key in list(value)[:8])
        return f"a dict of {len(value)} with the keys {keys}" if value else "an empty dict"
    if isinstance(value, list | tuple):
        kind = type(value).__name__
        return f"a {kind} of {len(value)}, first a {type(value[0]).__name__}" if value else f"an empty {kind}"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, int | float) and abs(value) < 1e15:  # long numbers take long to print
        return f"{value}"
    return "nothing" if value is None else f"a {type(value).__name__}"
