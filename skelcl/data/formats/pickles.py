"""Pickles of strangers, read without calling anything that they name, and pickles that every numpy reads.

A pickle is a program that calls what it names. The reader hands it functions of our own instead, which check what they
are given, and refuses every other name. It is the standard library's own, in its Python form, whose steps can be
guarded: the one in C sets aside memory for whatever a damaged file announces, and hashes tuples that hold one another
2^60 times. Files are loaded whole, as the tools that wrote them do: a pickle takes about its own size in memory.
"""

from __future__ import annotations

import math
import mmap
import pickle
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from skelcl.data.formats import containers
from skelcl.data.formats.containers import reading
from skelcl.errors import InputError


def load(file: str | Path, start: int = 0) -> Any:
    """Reads a pickle of any protocol, of Python 2 or 3 and numpy 1 or 2.

    Args:
        file: The file.
        start: Place of the pickle in the file.

    Returns:
        Dictionaries, lists, tuples, sets, texts, bytes, numbers, None and arrays, which are read-only. Ordered and
        default dictionaries become plain ones, numpy scalars become numbers, strings of Python 2 become text as in
        Latin-1.

    Raises:
        InputError: The file is no pickle, is damaged, or names anything else; nothing it names was run.
    """
    file = Path(file)
    try:
        with file.open("rb") as stream:
            if file.stat().st_size <= start:
                raise InputError(f"{file}: the file is empty")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                data.seek(start)
                return _Reader(data, encoding="latin1").load()
    except _Refused as error:
        raise InputError(
            f"{file}: refused, for it names {error.args[0][:80]!r}, which is neither a plain container nor a numpy "
            "array; nothing of it was run"
        ) from error
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    except Exception as error:  # whatever damage makes the standard library and numpy raise
        why = "it ends too early" if isinstance(error, EOFError) else f"{type(error).__name__}: {error}"
        why = " ".join(why.split())[:120]
        raise InputError(f"{file}: damaged pickle ({why})") from error


def load_npy(file: str | Path) -> np.ndarray:
    """Reads an npy file of objects, which numpy keeps as a pickle behind its header.

    Returns:
        The array of objects, each as :func:`load` returns them.

    Raises:
        InputError: It is no such file, is damaged, or names what :func:`load` refuses.
    """
    file = Path(file)
    shape, kind, start = npy_header(file)
    if kind != "O":
        raise InputError(f"{file}: an array {shape} of numbers instead of objects")
    value = load(file, start)
    if not isinstance(value, np.ndarray) or value.dtype.kind != "O" or value.shape != shape:
        raise InputError(f"{file}: its header promises an array {shape} of objects, it holds {described(value)}")
    return value


def npy_header(file: Path) -> tuple[tuple[int, ...], str, int]:
    """Shape, kind of the type (``O``: objects) and length of the header of an npy file.

    Raises:
        InputError: It is none.
    """
    with reading(file), file.open("rb") as stream:
        header = containers.npy_header(stream, file)
        return header.shape, header.dtype.kind, stream.tell()


def holds(file: Path) -> str | None:
    """The first container of a pickle, ``dict`` or ``list``, by a few bytes; None when the file cannot be a pickle."""
    try:
        with file.open("rb") as stream:
            head = stream.read(24)
    except OSError:
        return None
    match = re.match(rb"(?:\x80[\x02-\x05])?(?:\x95.{8})?(\(d|\}|\(l|\])", head, re.DOTALL)
    return None if match is None else "dict" if match[1] in (b"(d", b"}") else "list"


def unshared(file: Path, sizes: Iterable[int]) -> None:
    """Checks that no array is told again and again, which a few bytes of a pickle suffice for.

    Args:
        file: The pickle.
        sizes: Bytes of each array that is taken out of it.

    Raises:
        InputError: Together they are larger than the file, which holds every byte of an array once.
    """
    if (total := sum(sizes)) > (size := file.stat().st_size):
        raise InputError(f"{file}: its clips share arrays: {total:,} bytes of numbers out of a file of {size:,}")


def described(value: Any) -> str:
    """A value of :func:`load` in a few words, for messages."""
    if isinstance(value, np.ndarray):
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


def dump(value: Any, stream: IO[bytes]) -> None:
    """Writes a pickle that every Python 3 and numpy reads: protocol 3, and numpy's modules by their names of numpy 1.

    Args:
        value: Containers, numbers, texts and arrays.
        stream: Where to write.
    """
    _Writer(stream, 3).dump(value)


class _Writer(pickle._Pickler):
    def save_global(self, obj: Any, name: str | None = None) -> None:
        module, core, own = str(obj.__module__).partition("numpy._core.")
        if module or not core:
            super().save_global(obj, name)  # type: ignore[misc]  # typeshed does not list it
        else:
            self.write(f"cnumpy.core.{own}\n{obj.__name__}\n".encode())  # type: ignore[attr-defined]
            self.memoize(obj)  # type: ignore[attr-defined]


# --- what pickles get instead of what they name -----------------------------------------------------------------------


class _Refused(Exception):
    pass


@dataclass
class _Dtype:
    code: str
    order: str = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # Fields, parts or dates have their descriptions in places 2 to 4 and behind place 7.
        if len(state) != 8 or state[1] not in ("<", ">", "|", "=") or state[2:5] != (None, None, None):
            raise _Refused(f"a structured or unusual numpy.dtype {self.code}")
        self.order = state[1]


class Array(np.ndarray):
    """Takes no state but a sound one; read-only; travels to other processes as a plain array."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        kind, data = _checked(shape, dtype, data)
        super().__setstate__((1, shape, kind, bool(fortran), data))  # type: ignore[arg-type]  # numpy itself sends bool
        self.flags.writeable = False

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.view(np.ndarray).__reduce_ex__(protocol)


def _checked(shape: Any, dtype: Any, data: Any) -> tuple[np.dtype, bytes | list[Any]]:
    """The type for numpy, and data that fill the shape: bytes, or a list of objects."""
    if type(shape) is not tuple or len(shape) > 32 or not all(type(n) is int and 0 <= n < 1 << 62 for n in shape):
        raise ValueError("an array whose shape is none")  # not shown: nested tuples print without end
    kind = np.dtype("O" if dtype.code[0] == "O" else dtype.order + dtype.code)
    data = data.encode("latin-1") if type(data) is str else data
    if type(data) is not (list if kind.hasobject else bytes):
        raise TypeError(f"an array {shape} of {kind} holds {described(data)}")
    if len(data) != math.prod(shape) * (1 if kind.hasobject else kind.itemsize):
        raise ValueError(f"an array {shape} of {kind} holds {len(data)} {'objects' if kind.hasobject else 'bytes'}")
    return kind, data


def _array(kind: Any, shape: Any, code: Any) -> Array:
    array = np.ndarray.__new__(Array, (0,), np.int8)  # shape and type follow with the data
    array.flags.writeable = False
    return array


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> np.ndarray:
    kind, data = _checked(shape, dtype, data)
    array = np.ndarray.__new__(Array, shape, kind, data, order="F" if order == "F" else "C")
    return array if axes is None else array.transpose(axes)


def _dtype(code: Any, align: Any = False, copy: Any = False) -> _Dtype:
    if type(code) is not str or not re.fullmatch(r"b1|[iu][1248]|f[248]|O[48]?|[US][1-9]\d{0,4}", code):
        raise _Refused(f"numpy.dtype({code[:20] if type(code) is str else type(code).__name__})")
    return _Dtype(code)


def _scalar(dtype: Any, data: Any) -> Any:
    kind, data = _checked((), dtype, data)
    return np.frombuffer(data, kind).item()  # refuses the list of an object


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise _Refused("_codecs.encode with another encoding")
    return text.encode("latin-1")


def _keys(keys: Iterable[Any]) -> list[Any]:
    keys = list(keys)
    if any(type(key) is tuple and any(type(part) is tuple for part in key) for key in keys):
        raise TypeError("a nested tuple is used as a key")  # it may take for ever to hash
    return keys


def _dict(pairs: Any = ()) -> dict[Any, Any]:
    pairs = list(pairs)
    return dict(zip(_keys(key for key, _ in pairs), (value for _, value in pairs), strict=True))


def _default_dict(factory: Any = None, pairs: Any = ()) -> dict[Any, Any]:
    return _dict(pairs)


def _set(items: Any = ()) -> set[Any]:
    return set(_keys(items))


def _frozenset(items: Any = ()) -> frozenset[Any]:
    return frozenset(_keys(items))


def _no_bytes() -> bytes:
    return b""


_STAND_INS: dict[str, Callable[..., Any] | None] = {
    "numpy.core.multiarray._reconstruct": _array,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy.dtype": _dtype,
    "numpy.ndarray": None,
    "_codecs.encode": _encode,
    "collections.OrderedDict": _dict,
    "collections.defaultdict": _default_dict,
    "builtins.set": _set,
    "builtins.frozenset": _frozenset,
    "builtins.bytes": _no_bytes,
    **dict.fromkeys(f"builtins.{name}" for name in ("int", "float", "str", "bool", "list", "dict")),
}
"""Everything that a pickle may name → what it gets. None: only an argument of the others."""


class _Reader(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        known = re.sub(r"^numpy\._core\.", "numpy.core.", re.sub(r"^__builtin__\.", "builtins.", f"{module}.{name}"))
        if known not in _STAND_INS:
            raise _Refused(f"{module}.{name}")
        return _STAND_INS[known]

    def get_extension(self, code: int) -> None:  # else known ones would come from a cache, without find_class
        raise _Refused("a registered extension")


def _guard(code: bytes, check: Callable[[list[Any]], Any]) -> None:
    """Lets a step of the reader see the stack (down to the last mark) before it is done."""
    step = _Reader.dispatch[code[0]]

    def guarded(reader: Any) -> None:
        check(reader.stack)
        step(reader)

    _Reader.dispatch[code[0]] = guarded


def _check_build(stack: list[Any]) -> None:
    if type(stack[-2]) not in (Array, _Dtype):  # functions would keep what is set on them
        raise _Refused(f"the state of a {type(stack[-2]).__name__}")


_guard(pickle.BUILD, _check_build)
_guard(pickle.SETITEM, lambda stack: _keys(stack[-2:-1]))
_guard(pickle.SETITEMS, lambda stack: _keys(stack[::2]))
_guard(pickle.DICT, lambda stack: _keys(stack[::2]))
_guard(pickle.ADDITEMS, _keys)
_guard(pickle.FROZENSET, _keys)
_Reader.dispatch[pickle.BYTEARRAY8[0]] = _Reader.dispatch[pickle.BINBYTES8[0]]  # which believes no length
