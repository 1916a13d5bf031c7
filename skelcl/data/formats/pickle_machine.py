"""The stack machine of pickles, without the parts that reach out of the file."""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from skelcl.data.formats.stored import Span, Stored, described
from skelcl.errors import InputError

_INLINE = 64  # bytes; larger values stay in the file
_TEXT = 256  # bytes; longer strings of Python 2 are data of arrays
_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|O[48]?|[US]\d{1,5}")


def interpret(file: Path, data: mmap.mmap, start: int) -> Any:
    """Runs a pickle's instructions; see :func:`skelcl.data.formats.pickles.load`.

    Args:
        file: The file, for messages and for arrays that stay in it.
        data: Its content.
        start: Place of the first instruction.

    Raises:
        InputError: It is no sound pickle, or names what is not known here.
    """
    return _Machine(file, data, start).run()


class _Name(NamedTuple):
    """A global of the pickle; it is never looked up."""

    text: str


@dataclass(eq=False, slots=True)
class _Dtype:
    code: str
    order: str | None = None

    @property
    def name(self) -> str:
        if self.order is None and self.code not in ("b1", "i1", "u1") and self.code[0] != "O":
            raise ValueError("a type without a byte order")
        return (self.order or "|").replace("=", "<") + self.code


class _Damaged(Exception):
    pass


class _Machine:
    """The stack machine of pickles, without the parts that reach out of the file."""

    def __init__(self, file: Path, data: mmap.mmap, start: int) -> None:
        self.file, self.data, self.at = file, data, start
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        data, steps, stack, begin = self.data, _STEPS, self.stack, self.at
        try:
            while (code := data[self.at]) != _STOP:
                self.at += 1
                begin = self.at - 1
                steps[code](self)
            return stack.pop()
        except InputError:
            raise
        except _Damaged as error:
            raise InputError(f"{self.file}: {error}, at byte {begin}") from error
        except IndexError as error:  # of the file, or of the stack
            what = "the pickle ends too early" if self.at >= len(data) else "no sound pickle"
            raise InputError(f"{self.file}: {what}, at byte {begin}") from error
        except (KeyError, ValueError, TypeError, OverflowError, MemoryError, struct.error) as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())[:120]
            raise InputError(f"{self.file}: no sound pickle, at byte {begin} ({why})") from error

    def refuse(self, name: str) -> NoReturn:
        raise InputError(
            f"{self.file}: refused, for it names {name[:80]!r}, which is neither a plain container nor a numpy array; "
            "nothing of it was run"
        )

    # Reading

    def take(self, size: int) -> bytes:
        self.at += size
        if self.at > len(self.data):
            raise _Damaged(f"the pickle ends too early: {size} bytes are announced")
        return self.data[self.at - size : self.at]

    def number(self, pattern: struct.Struct) -> Any:
        (value,) = pattern.unpack_from(self.data, self.at)
        self.at += pattern.size
        return value

    def line(self) -> bytes:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise _Damaged("the pickle ends within a line")
        text = self.data[self.at : end]
        self.at = end + 1
        return text

    def large(self, size: int) -> bytes | Span:
        if size <= _INLINE:
            return self.take(size)
        self.at += size
        if self.at > len(self.data):
            raise _Damaged(f"the pickle ends too early: {size} bytes are announced")
        return Span(self.at - size, size)

    def long(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little", signed=True)

    def text2(self, size: int) -> str | bytes | Span:
        """A string of Python 2, which is text or data."""
        return self.take(size).decode("latin-1") if size <= _TEXT else self.large(size)

    # Stack

    def marked(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def together(self, count: int) -> None:
        items = self.stack[-count:]
        if len(items) != count:
            raise _Damaged("no sound pickle")
        self.stack[-count:] = [tuple(items)]

    def target(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise _Damaged(f"no sound pickle: a {type(self.stack[-1]).__name__} is used as a {kind.__name__}")
        return self.stack[-1]

    def push_name(self, module: str, name: str) -> None:
        known = f"{module}.{name}"
        for old, new in (("__builtin__.", "builtins."), ("numpy._core.", "numpy.core.")):
            known = known.replace(old, new, 1) if known.startswith(old) else known
        if known not in _CALLS:
            self.refuse(f"{module}.{name}")
        self.stack.append(_Name(known))

    def named(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise _Damaged("no sound pickle: a name is no text")
        self.push_name(module, name)

    def call(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if type(function) is not _Name or type(args) is not tuple:
            raise _Damaged("no sound pickle: something that is no function is called")
        self.stack.append(_CALLS[function.text](self, *args))

    def build(self) -> None:
        state = self.stack.pop()
        value = self.stack[-1]
        if type(value) not in (_Dtype, Stored) or type(state) is not tuple:
            self.refuse(f"the state of a {type(value).__name__}")
        if type(value) is _Dtype:
            # Fields, parts or dates have their descriptions in places 2 to 4 and behind place 7.
            if len(state) != 8 or state[0] not in (3, 4) or state[1] not in ("<", ">", "|", "="):
                self.refuse(f"an unusual numpy.dtype {value.code}")
            if state[2:5] != (None, None, None) or value.order is not None:
                self.refuse(f"a structured numpy.dtype {value.code}")
            value.order = state[1]
        else:
            _, shape, dtype, fortran, data = state
            self.fill(value, shape, dtype, data)
            value.axes = _reversed(shape) if fortran else None

    def fill(self, array: Stored, shape: Any, dtype: Any, data: Any) -> Stored:
        if type(dtype) is not _Dtype or type(shape) is not tuple or array.data is not None:
            raise _Damaged("no sound array")
        if len(shape) > 32 or not all(type(size) is int and 0 <= size < 1 << 62 for size in shape):
            raise _Damaged("an array whose shape is none")  # not shown: nested tuples print without end
        count = math.prod(shape)
        if dtype.code[0] == "O":
            if type(data) is not list or len(data) != count:
                raise _Damaged(f"an array {shape} of objects holds {described(data)}")
        else:
            data = data.encode("latin-1") if type(data) is str else data
            size = data.size if type(data) is Span else len(data) if type(data) is bytes else -1
            if size != count * np.dtype(dtype.name).itemsize:
                raise _Damaged(f"an array {shape} {dtype.name} has {max(size, 0)} bytes of data")
        array.dtype, array.shape, array.data = dtype.name, shape, data
        return array


def _reversed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(range(len(shape)))[::-1]


# --- what may be called -----------------------------------------------------------------------------------------------


def _array(machine: _Machine, kind: Any, shape: Any, code: Any) -> Stored:
    if kind != _Name("numpy.ndarray"):
        raise _Damaged("no sound array")
    return Stored(machine.file)  # shape and type follow with the data


def _from_buffer(machine: _Machine, data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> Stored:
    array = machine.fill(Stored(machine.file), shape, dtype, data)
    if order == "F":
        array.axes = _reversed(shape)
    elif order == "K" and type(axes) is tuple and {type(axis) for axis in axes} == {int}:
        if sorted(axes) != list(range(len(shape))):
            raise _Damaged("an array of other axes than its own")
        array.axes, array.shape = axes, tuple(shape[axis] for axis in axes)
    elif order != "C":
        raise _Damaged("an array of an unknown order")
    return array


def _dtype(machine: _Machine, code: Any, align: Any = False, copy: Any = False) -> _Dtype:
    if type(code) is not str or not _DTYPE.fullmatch(code):
        machine.refuse(f"numpy.dtype({code[:20] if type(code) is str else type(code).__name__})")
    return _Dtype(code)


def _scalar(machine: _Machine, dtype: Any, data: Any) -> Any:
    array = machine.fill(Stored(machine.file), (), dtype, data)
    return np.asarray(array).item()


def _encode(machine: _Machine, text: Any, encoding: Any) -> bytes:
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        machine.refuse(f"_codecs.encode with {str(encoding)[:20]}")
    return text.encode("latin-1")


def _keys(keys: Iterable[Any]) -> Iterator[Any]:
    """Keys that are cheap to hash; nested tuples need not be."""
    for key in keys:
        if type(key) not in _KEYS and not (type(key) is tuple and all(type(part) in _KEYS for part in key)):
            raise _Damaged(f"a {type(key).__name__} is used as a key")
        yield key


_KEYS = (str, int, float, bool, bytes, type(None))


def _dict(machine: _Machine, pairs: Any = ()) -> dict[Any, Any]:
    out: dict[Any, Any] = {}
    for pair in pairs:
        key, value = pair
        out[next(_keys([key]))] = value
    return out


def _sequence(kind: Callable[[Iterable[Any]], Any]) -> Callable[..., Any]:
    def make(machine: _Machine, items: Any = ()) -> Any:
        if type(items) not in (list, tuple):
            raise _Damaged(f"a {type(items).__name__} is no list of items")
        return kind(items)

    return make


def _never(machine: _Machine, *args: Any) -> NoReturn:
    raise _Damaged("no sound pickle: a type is called that only stands for a type")


_CALLS: dict[str, Callable[..., Any]] = {
    "numpy.core.multiarray._reconstruct": _array,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy.ndarray": _never,
    "numpy.dtype": _dtype,
    "_codecs.encode": _encode,
    "collections.OrderedDict": _dict,
    "collections.defaultdict": lambda machine, factory=None, pairs=(): _dict(machine, pairs),
    "builtins.dict": _dict,
    "builtins.list": _sequence(list),
    "builtins.tuple": _sequence(tuple),
    "builtins.set": _sequence(lambda items: set(_keys(items))),
    "builtins.frozenset": _sequence(lambda items: frozenset(_keys(items))),
    "builtins.bytes": lambda machine: b"",
    # What a default dictionary would make.
    **dict.fromkeys(("builtins.int", "builtins.float", "builtins.str", "builtins.bool"), _never),
}
"""Everything that a pickle may name, and what stands in for it."""


# --- the instructions -------------------------------------------------------------------------------------------------

_Step = Callable[[_Machine], Any]
_STOP = ord(".")
_U1, _U2, _U4, _U8 = (struct.Struct(f"<{code}") for code in "BHIQ")
_I4, _F8 = struct.Struct("<i"), struct.Struct(">d")


def _constant(value: Any) -> _Step:
    return lambda machine: machine.stack.append(value)


def _value(read: Callable[[_Machine], Any]) -> _Step:
    return lambda machine: machine.stack.append(read(machine))


def _sized(read: Callable[[_Machine, int], Any], pattern: struct.Struct) -> _Step:
    return lambda machine: machine.stack.append(read(machine, machine.number(pattern)))


def _int(machine: _Machine) -> int | bool:
    text = machine.line()
    return text == b"01" if text in (b"00", b"01") else int(text)


def _put(machine: _Machine, place: int) -> None:
    machine.memo[place] = machine.stack[-1]


def _memoize(machine: _Machine) -> None:
    machine.memo[len(machine.memo)] = machine.stack[-1]


def _update(machine: _Machine, items: list[Any]) -> None:
    target = machine.target(dict)
    for key, value in zip(_keys(items[::2]), items[1::2], strict=True):
        target[key] = value


def _mapping(machine: _Machine) -> None:
    items = machine.marked()
    machine.stack.append({})
    _update(machine, items)


def _extend(machine: _Machine, items: list[Any]) -> None:
    machine.target(list).extend(items)


def _add(machine: _Machine) -> None:
    items = machine.marked()
    machine.target(set).update(_keys(items))


def _pair(machine: _Machine) -> None:
    items = [machine.stack.pop(), machine.stack.pop()]
    _update(machine, items[::-1])


def _protocol(machine: _Machine) -> None:
    if (version := machine.number(_U1)) > 5:
        raise _Damaged(f"a pickle of protocol {version}")


def _decoded(machine: _Machine, size: int) -> str:
    return machine.take(size).decode("utf-8", "surrogatepass")


def _global(machine: _Machine) -> None:
    module, name = machine.line().decode("utf-8"), machine.line().decode("utf-8")
    machine.push_name(module, name)


def _instance(machine: _Machine) -> None:
    _global(machine)  # names what is refused
    machine.refuse("an instance of a class")


def _refused(what: str) -> _Step:
    return lambda machine: machine.refuse(what)


def _unknown(machine: _Machine) -> None:
    raise _Damaged("no pickle" if machine.at <= 2 else "no sound pickle: unknown instruction")


_KNOWN: dict[bytes, _Step] = {
    b"\x80": _protocol,
    b"\x95": lambda machine: machine.take(8) and None,  # frames only help buffered readers
    b"(": lambda machine: machine.marks.append(len(machine.stack)),
    b"0": lambda machine: machine.stack.pop(),
    b"1": lambda machine: machine.marked(),
    b"2": lambda machine: machine.stack.append(machine.stack[-1]),
    b"N": _constant(None),
    b"\x88": _constant(True),
    b"\x89": _constant(False),
    b"I": _value(_int),
    b"J": _value(lambda machine: machine.number(_I4)),
    b"K": _value(lambda machine: machine.number(_U1)),
    b"M": _value(lambda machine: machine.number(_U2)),
    b"L": _value(lambda machine: int(machine.line().removesuffix(b"L"))),
    b"\x8a": _sized(_Machine.long, _U1),
    b"\x8b": _sized(_Machine.long, _U4),
    b"F": _value(lambda machine: float(machine.line())),
    b"G": _value(lambda machine: machine.number(_F8)),
    b"S": _value(lambda machine: machine.line().strip()[1:-1].decode("unicode_escape")),
    b"T": _sized(_Machine.text2, _U4),
    b"U": _sized(_Machine.text2, _U1),
    b"V": _value(lambda machine: machine.line().decode("raw-unicode-escape")),
    b"X": _sized(_decoded, _U4),
    b"\x8c": _sized(_decoded, _U1),
    b"\x8d": _sized(_decoded, _U8),
    b"B": _sized(_Machine.large, _U4),
    b"C": _sized(_Machine.large, _U1),
    b"\x8e": _sized(_Machine.large, _U8),
    b"\x96": _sized(_Machine.large, _U8),
    b")": _constant(()),
    b"\x85": lambda machine: machine.together(1),
    b"\x86": lambda machine: machine.together(2),
    b"\x87": lambda machine: machine.together(3),
    b"t": _value(lambda machine: tuple(machine.marked())),
    b"]": _value(lambda machine: []),
    b"l": _value(_Machine.marked),
    b"a": lambda machine: _extend(machine, [machine.stack.pop()]),
    b"e": lambda machine: _extend(machine, machine.marked()),
    b"}": _value(lambda machine: {}),
    b"d": _mapping,
    b"s": _pair,
    b"u": lambda machine: _update(machine, machine.marked()),
    b"\x8f": _value(lambda machine: set()),
    b"\x90": _add,
    b"\x91": _value(lambda machine: frozenset(_keys(machine.marked()))),
    b"g": _value(lambda machine: machine.memo[int(machine.line())]),
    b"h": _value(lambda machine: machine.memo[machine.number(_U1)]),
    b"j": _value(lambda machine: machine.memo[machine.number(_U4)]),
    b"p": lambda machine: _put(machine, int(machine.line())),
    b"q": lambda machine: _put(machine, machine.number(_U1)),
    b"r": lambda machine: _put(machine, machine.number(_U4)),
    b"\x94": _memoize,
    b"c": _global,
    b"\x93": _Machine.named,
    b"R": _Machine.call,
    b"b": _Machine.build,
    **dict.fromkeys((b"o", b"\x81", b"\x92"), _refused("an instance of a class")),
    b"i": _instance,
    **dict.fromkeys((b"P", b"Q"), _refused("a persistent id")),
    **dict.fromkeys((b"\x82", b"\x83", b"\x84"), _refused("a registered extension")),
    **dict.fromkeys((b"\x97", b"\x98"), _refused("a buffer outside of the file")),
}
_STEPS: list[_Step] = [_KNOWN.get(bytes([code]), _unknown) for code in range(256)]
