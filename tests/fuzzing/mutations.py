"""Other bytes, words, values, arrays and headers in sound files, each chosen by the generator that is passed."""

import copy
import io
import json
import pickle
import struct
import warnings
import zipfile

import numpy as np

NAME = "S001C002P003R002A013"

TOKENS = [
    b"", b"0", b"-1", b"1", b"2", b"25", b"1e999", b"-1e38", b"NaN", b"nan", b"inf", b"null", b"true", b"[]", b"{}",
    b"[[]]", b'""', b'"a"', b",", b" ", b"\n", b"\r", b"\t", b"\x00", b"\xff", b"\xef\xbb\xbf", b"99999999999999999999",
    b"2147483648", b"1" * 4400, b"[" * 3000, b"{\"a\":" * 60, b"\xed\xa0\x80", b"\\ud800", b"1.#QNAN", b"_", b"1_0",
    b"&a [*a]", b"*a", b"!!python/name:os.x", b"32768",
]  # fmt: skip
NUMBERS = [
    0, -1, 1, 2, 3, 17, 25, 127, 128, 255, 32767, 32768, 1 << 31, 1 << 63, 1 << 64, -(1 << 63), 10**30, 0.5, -0.0, 1e30,
    1e308, float("nan"), float("inf"), True, False, None,
]  # fmt: skip
TEXTS = [
    "",
    "a",
    "x" * 300,
    "\x00",
    "\n",
    "\ud800",
    "é",
    "nan",
    "12",
    "-1",
    "../a",
    "train/x",
    NAME,
    "ntu25",
    "=1+1",
    "<b>",
]


def mutated_bytes(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        at, length = rng.randrange(len(data) + 1), rng.choice((0, 1, 1, 2, 4, 16, 200))
        match rng.randrange(6):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + length]
            case 2:
                del data[at:]
            case 3:
                data[at : at + length] = rng.choice(TOKENS)
            case 4:
                data[at:at] = data[at : at + length] * rng.choice((1, 1, 2, 50))
            case _:
                data[at : at + length] = rng.randbytes(length)
    return bytes(data)


def swapped_tokens(rng, data):
    """Other words in the places of words."""
    words = data.split(b" ")
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(words))
        words[at] = rng.choice(TOKENS) if rng.random() < 0.7 else rng.choice(words)
    return b" ".join(words)


def places(value, found, key=None, owner=None):
    """Every (container, key) below a value."""
    if owner is not None:
        found.append((owner, key))
    if isinstance(value, dict):
        for name in list(value):
            places(value[name], found, name, value)
    elif isinstance(value, list):
        for place in range(min(len(value), 12)):
            places(value[place], found, place, value)
    return found


def odd(rng, old=None):
    """Some value that does not belong there."""
    match rng.randrange(7):
        case 0 | 1:
            return rng.choice(NUMBERS)
        case 2:
            return rng.choice(TEXTS)
        case 3:
            return rng.choice(
                ([], {}, [[]], [None], {"a": []}, [1, [2]], [0] * 3, ["a", 1], [[1, 2], [3]], {"x": {"y": 1}})
            )
        case 4 if isinstance(old, int | float):
            return old + rng.choice((-1, 1, 0.5, 1000))
        case 4 if isinstance(old, list):
            return old[: rng.randrange(len(old) + 1)] or old * 2
        case 5:
            return [old] if rng.random() < 0.7 else {"a": old}
        case _:
            return str(old)[:40]


def mutated_values(rng, content, strange=odd):
    """Other values somewhere in nested lists and dictionaries."""
    content = [copy.deepcopy(content)]
    for _ in range(rng.choice((1, 1, 2, 4))):
        found = places(content[0], [], 0, content)
        owner, key = rng.choice(found)
        match rng.randrange(5):
            case 0 if isinstance(owner, dict):
                del owner[key]
            case 1 if isinstance(owner, dict):
                owner[rng.choice(TEXTS)] = owner.pop(key)
            case 2:
                there, name = rng.choice(found)
                owner[key] = copy.deepcopy(there[name]) if isinstance(there, list) or name in there else None
            case _:
                owner[key] = strange(rng, owner[key])
    return content[0]


def mutated_json(rng, content):
    text = json.dumps(mutated_values(rng, content)).encode()
    return mutated_bytes(rng, text) if rng.random() < 0.3 else text


def mutated_array(rng, array):
    """An array of another type, shape or with other values."""
    array = np.asarray(array)
    match rng.randrange(8):
        case 0:
            kind = rng.choice(
                ("f2", "f4", "f8", ">f4", "i1", "i2", "i4", "i8", ">i8", "u1", "u8", "b1", "c8", "S3", "U2", "M8[s]")
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    return array.astype(kind)
                except (ValueError, TypeError):
                    return np.zeros(array.shape, kind)
        case 1:
            return array[: rng.randrange(len(array) + 1)] if array.ndim else array[None]
        case 2:
            return array.ravel() if rng.random() < 0.5 else array[None]
        case 3:
            return array.T
        case 4:
            shape = tuple(n if rng.random() < 0.6 else rng.choice((0, 1, 2, n + 1)) for n in array.shape)
            return np.resize(array, shape) if array.size else np.zeros(shape, array.dtype)
        case 5 | 6 if array.size and array.dtype.kind in "iufb":
            array = array.copy()
            values = (-1, 0, 1, 2, 5, 99, 127) if array.dtype.kind in "iub" else (-1, 0, 1e30, 3e38, np.nan, np.inf)
            with np.errstate(all="ignore"):
                array.flat[rng.randrange(array.size)] = np.asarray(rng.choice(values)).astype(array.dtype)
            return array
        case 5 | 6 if array.size and array.dtype.kind == "U":
            array = array.copy()
            array.flat[rng.randrange(array.size)] = rng.choice(("", "a", "\ud800", "\n", str(array.flat[0])))
            return array
        case _:
            return np.full(array.shape, rng.choice((0, -1, 7, np.nan, 3e38)), rng.choice(("f4", "f8")))


def npy(array):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), allow_pickle=True)
    return stream.getvalue()


def npz(arrays, packed=False):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), array if isinstance(array, bytes) else npy(array))
    return stream.getvalue()


def mutated_npz(rng, arrays):
    arrays = dict(arrays)
    for _ in range(rng.choice((1, 1, 2))):
        name = rng.choice(list(arrays))
        match rng.randrange(8):
            case 0:
                del arrays[name]
                if not arrays:
                    break
            case 1:
                arrays[rng.choice((*arrays, "x", "", "a/b"))] = arrays[name]
            case 2:
                arrays[name] = mutated_bytes(rng, npy(arrays[name])) if not isinstance(arrays[name], bytes) else b""
            case _ if not isinstance(arrays[name], bytes):
                arrays[name] = mutated_array(rng, arrays[name])
    return mutated_zip(rng, npz(arrays, rng.random() < 0.3)) if rng.random() < 0.3 else npz(arrays, rng.random() < 0.3)


def mutated_zip(rng, data):
    """Another version, way of packing, flag, size or name in one of the headers; or bytes."""
    if rng.random() < 0.3:
        return mutated_bytes(rng, data)
    data, mark = bytearray(data), rng.choice((b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"))
    starts = [at for at in range(len(data)) if data[at : at + 4] == mark]
    if starts:
        at = rng.choice(starts) + 4 + rng.randrange(44)
        data[at : at + 2] = struct.pack(
            "<H", rng.choice((0, 1, 8, 9, 12, 14, 45, 63, 99, 0x800, 0xFFFF, rng.randrange(1 << 16)))
        )
    return bytes(data)


def odd_in_pickle(rng, old=None):
    if isinstance(old, np.ndarray) and rng.random() < 0.8:
        return mutated_array(rng, old)
    return np.zeros((2, 3)) if rng.random() < 0.1 else odd(rng, None if isinstance(old, np.ndarray) else old)


def mutated_pickle(rng, content):
    try:
        data = pickle.dumps(mutated_values(rng, content, odd_in_pickle), rng.randrange(6))
    except UnicodeEncodeError:
        data = pickle.dumps(content, rng.randrange(6))
    return mutated_bytes(rng, data) if rng.random() < 0.4 else data
