import io
import os
import pickle
import struct
import tracemalloc
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelcl.data.formats.pickles import dump, holds, load, load_npy
from skelcl.data.formats.stored import Span, Stored, described
from skelcl.errors import InputError

BLOCK = np.arange(24, dtype=np.float16).reshape(2, 3, 4)
ARRAYS = {
    "half": BLOCK,
    "large": np.linspace(0, 1, 500, dtype=np.float32).reshape(4, 125),
    "fortran": np.asfortranarray(BLOCK.astype(np.float64)),
    "turned": BLOCK.transpose(1, 0, 2),
    "strided": np.arange(400)[::2],
    "big endian": BLOCK.astype(">i4"),
    "flags": np.array([[True], [False]]),
    "words": np.array(["drink", "größer"]),
    "empty": np.zeros((0, 25, 3)),
    "point": np.array(2.5),
}
PLAIN = {
    "text": "ü\n'\"\\",
    "long text": "x" * 1000,
    "bytes": b"\x00\xff'",
    "no bytes": b"",
    "numbers": [0, 1, -1, 255, 256, 65536, -(2**31), 2**31, 2**80, -(2**80), 1.5, float("inf")],
    "flags": [True, False, None],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
    "set": {1, 2},
    "frozen": frozenset("ab"),
    "ordered": OrderedDict(a=1, b=[2]),
    "default": defaultdict(list, a=[1]),
    "scalars": [np.float32(2.5), np.int64(7), np.bool_(True), np.str_("name")],
    3: {"nested": [{"deep": [[]]}]},
}


def write(folder, data):
    file = folder / "file.pkl"
    file.write_bytes(data)
    return file


def same_arrays(found):
    for name, expected in ARRAYS.items():
        array = np.asarray(found[name])
        assert (array.shape, array.dtype.kind, array.itemsize) == (
            expected.shape,
            expected.dtype.kind,
            expected.itemsize,
        )
        np.testing.assert_array_equal(array, expected, err_msg=name)


# What is read


@pytest.mark.parametrize("protocol", range(6))
def test_containers_and_arrays_of_every_protocol(protocol, tmp_path):
    found = load(write(tmp_path, pickle.dumps([PLAIN, ARRAYS], protocol)))
    assert found[0] == PLAIN
    assert type(found[0]["ordered"]) is dict
    assert [type(value) for value in found[0]["scalars"]] == [float, int, bool, str]
    same_arrays(found[1])


@pytest.mark.parametrize("protocol", range(6))
def test_names_of_numpy_1(protocol, tmp_path):
    data = pickle.dumps({"a": BLOCK, "o": np.array([None, "x"], object), "s": np.float32(3)}, min(protocol, 3))
    assert b"numpy._core" in data
    found = load(write(tmp_path, data.replace(b"numpy._core", b"numpy.core")))
    np.testing.assert_array_equal(np.asarray(found["a"]), BLOCK)
    assert found["o"].data == [None, "x"]
    assert found["s"] == 3.0


PYTHON_2 = (
    b"\x80\x02}q\x00(U\x04nameq\x01U\x06S001\xe9!q\x02U\x05arrayq\x03cnumpy.core.multiarray\n_reconstruct\n"
    b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x64\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
    b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x90\x01\x00\x00"
    + np.arange(100, dtype="<f4").tobytes()
    + b"tbu."
)
PYTHON_2_TEXT = b"(dp0\nS'name'\np1\nS'S001\\xe9\\'!'\np2\nsS'n'\np3\nI7\nsS'l'\nL7L\nsS'b'\nI01\nsS'f'\nF0.5\ns."


def test_python_2(tmp_path):
    expected = pickle.loads(PYTHON_2, encoding="latin1")
    found = load(write(tmp_path, PYTHON_2))
    assert found["name"] == expected["name"] == "S001é!"
    np.testing.assert_array_equal(np.asarray(found["array"]), expected["array"])
    assert load(write(tmp_path, PYTHON_2_TEXT)) == pickle.loads(PYTHON_2_TEXT, encoding="latin1")


def test_large_arrays_stay_in_the_file_until_they_are_asked_for(tmp_path):
    file = write(tmp_path, pickle.dumps(ARRAYS, 4))
    found = load(file)
    assert isinstance(found["large"].data, Span)
    copy = pickle.loads(pickle.dumps(found["large"]))
    np.testing.assert_array_equal(np.asarray(copy, np.float64), ARRAYS["large"])
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(InputError, match=r"file\.pkl: ends within an array"):
        np.asarray(copy)
    file.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        np.asarray(copy)


def test_memory_does_not_grow_with_the_arrays(tmp_path):
    file = write(tmp_path, pickle.dumps([np.zeros(10**6) for _ in range(4)], 4))
    tracemalloc.start()
    load(file)
    assert tracemalloc.get_traced_memory()[1] < 10**5
    tracemalloc.stop()


@pytest.mark.parametrize("value", [{}, [], {"a": 1}, [1]])
@pytest.mark.parametrize("protocol", range(6))
def test_the_first_container_is_known_without_reading(value, protocol, tmp_path):
    assert holds(write(tmp_path, pickle.dumps(value, protocol))) == type(value).__name__
    assert holds(write(tmp_path, b"[1, 2]")) is holds(write(tmp_path, b"")) is holds(tmp_path / "none") is None


# What is refused


class Evil:
    """Runs a command when it is read by the standard library."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.fixture
def trap(tmp_path):
    return tmp_path / "trap"


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", ["alone", "in a dict", "as a label", "in an array", "as a type", "after data"])
def test_nothing_named_is_run(protocol, place, tmp_path, trap):
    evil = Evil(os.mkdir, (str(trap),))
    box = np.empty((), object)
    box[()] = {"skel_body0": evil}
    value = {
        "alone": evil,
        "in a dict": {"annotations": [{"keypoint": evil}]},
        "as a label": (["name"], [0, evil]),
        "in an array": box,
        "as a type": Evil(np.zeros(2).__reduce__()[0], (np.ndarray, (0,), evil)),
        "after data": [ARRAYS["half"], evil],
    }[place]
    data = pickle.dumps(value, protocol)
    with pytest.raises(InputError) as caught:
        load(write(tmp_path, data))
    assert "file.pkl: refused, for it names 'posix.mkdir'" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not trap.exists()
    pickle.loads(data)
    assert trap.exists()  # so the trap was a real one


def test_states_are_not_set(tmp_path, trap, monkeypatch):
    (tmp_path / "stranger.py").write_text(
        "import os\nclass Thing:\n"
        "    def __setstate__(self, state): os.mkdir(state)\n"
        "    def __reduce__(self): return Thing, (), os.environ['TRAP']\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TRAP", str(trap))
    import stranger

    data = pickle.dumps([stranger.Thing()])
    with pytest.raises(InputError, match=r"refused, for it names 'stranger\.Thing'"):
        load(write(tmp_path, data))
    assert not trap.exists()
    pickle.loads(data)
    assert trap.exists()


def test_arrays_of_objects_in_npy_files(tmp_path, trap):
    content = np.array({"keypoint": BLOCK, "evil": Evil(os.mkdir, (str(trap),))}, object)
    np.save(tmp_path / "evil.npy", content, allow_pickle=True)
    with pytest.raises(InputError, match=r"evil\.npy: refused, for it names 'posix\.mkdir'"):
        load_npy(tmp_path / "evil.npy")
    assert not trap.exists()
    np.load(tmp_path / "evil.npy", allow_pickle=True)
    assert trap.exists()


def plain(value):
    """The instructions that put a value on the stack."""
    pickler = pickle.Pickler(stream := io.BytesIO(), 3)
    pickler.fast = True
    pickler.dump(value)
    return stream.getvalue()[2:-1]


def dtype(state):
    return b"cnumpy\ndtype\n" + plain(("f4", False, True)) + b"R" + plain(state) + b"b."


GLOBALS = [
    "os.system",
    "builtins.eval",
    "builtins.getattr",
    "numpy.load",
    "numpy.memmap",
    "functools.partial",
    "nt.system",
]
STRUCTURED = np.zeros(2, [("x", "f4")])


@pytest.mark.parametrize(
    ("data", "named"),
    [
        *[(f"c{name.replace('.', chr(10), 1)}\n.".encode(), name) for name in GLOBALS],
        *[(pickle.dumps(name.rpartition(".")[0])[:-1] + pickle.dumps(name.rpartition(".")[2])[2:-1] + b"\x93.", name)
          for name in GLOBALS],
        (b"(ios\nsystem\n.", "os.system"),
        (b"(icollections\nOrderedDict\n.", "an instance of a class"),
        (b"(ccollections\nOrderedDict\no.", "an instance of a class"),
        (b"ccollections\nOrderedDict\n)\x81.", "an instance of a class"),
        (b"ccollections\nOrderedDict\n)}\x92.", "an instance of a class"),
        (b"Pid\n.", "a persistent id"),
        (b"NQ.", "a persistent id"),
        (b"\x82\x01.", "a registered extension"),
        (b"\x80\x05\x97.", "a buffer outside of the file"),
        (b"}}b.", "the state of a dict"),
        (b"cnumpy\nndarray\n}b.", "the state of a _Name"),
        (pickle.dumps(STRUCTURED, 4), "numpy.dtype(V4)"),
        (pickle.dumps(np.zeros(1, "M8[s]")), "numpy.dtype(M8)"),
        (pickle.dumps(np.zeros(1, complex)), "numpy.dtype(c16)"),
        (pickle.dumps(np.ma.array([1.0]), 4), "numpy.ma.core._mareconstruct"),
        (dtype((3, "<", None, ("x",), {}, -1, -1, 0)), "a structured numpy.dtype f4"),
        (dtype((3, "<", None, None, None, -1, -1, 0, {})), "an unusual numpy.dtype f4"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR.", "_codecs.encode with hex"),
        (pickle.dumps(bytearray(3)), "builtins.bytearray"),
        (pickle.dumps(1j), "builtins.complex"),
        (pickle.dumps(range(3)), "builtins.range"),
    ],
)  # fmt: skip
def test_refused_names(data, named, tmp_path):
    with pytest.raises(InputError, match="refused") as caught:
        load(write(tmp_path, data))
    assert repr(named)[1:-1] in str(caught.value)


def array(shape, kind, order, data):
    """A pickled array with the data of your choice."""
    kind, order = plain((kind, False, True)), plain((3, order, None, None, None, -1, -1, 0))
    start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nNNtR(K\x01" + plain(shape)
    return start + b"cnumpy\ndtype\n" + kind + b"R" + order + b"b\x89" + data + b"tb."


def nested(depth):
    """A tuple that holds itself 2^depth times, in a few bytes."""
    return b")" + b"2\x86" * depth


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x8e" + struct.pack("<Q", 1 << 60) + b"abc.", "1152921504606846976 bytes are announced"),
        (b"\x8d" + struct.pack("<Q", 1 << 60) + b"abc.", "bytes are announced"),
        (b"\x96" + struct.pack("<Q", 1 << 40) + b"abc.", "bytes are announced"),
        (b"B" + struct.pack("<I", (1 << 32) - 1) + b"abc.", "bytes are announced"),
        (b"\x8b" + struct.pack("<I", 1 << 31) + b"abc.", "bytes are announced"),
        (array((1 << 40,), "f4", "<", b"C\x04abcd"), r"an array \(1099511627776,\) <f4 has 4 bytes of data"),
        (array((1 << 61, 1 << 61, 0), "f4", "<", b"C\x04abcd"), "has 4 bytes of data"),
        (array((1,), "U99999", "<", b"C\x04abcd"), "has 4 bytes of data"),
        (array((1,), "O8", "|", b"C\x08abcdefgh"), "of objects holds a bytes"),
        (array((1 << 40,), "O8", "|", b"]"), "of objects holds an empty list"),
        (array((1,), "f4", "<", b"]Na"), "has 0 bytes of data"),
        (array((-1,), "f4", "<", b"C\x04abcd"), "an array whose shape is none"),
        (array((1,) * 33, "f4", "<", b"C\x04abcd"), "an array whose shape is none"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n)NtR.", "no sound array"),
        (b"cnumpy\nndarray\n)R.", "only stands for a type"),
        (b"}" + nested(60) + b"Ns.", "a tuple is used as a key"),
        (b"\x8f(" + nested(60) + b"\x90.", "a tuple is used as a key"),
        (b"}]Ns.", "a list is used as a key"),
        (b"}Na.", "a dict is used as a list"),
        (b"](NNu.", "a list is used as a dict"),
        (b"NR.", "no sound pickle"),
        (b"N)R.", "something that is no function"),
        (b"\x80\x06N.", "a pickle of protocol 6"),
        (b"\xffN.", "no pickle"),
        (b"I" + b"9" * 5000 + b"\n.", "no sound pickle"),
        (b"I7.", "ends within a line"),
        (b"h\x05.", "KeyError"),
        (b".", "no sound pickle"),
        (b"", "the file is empty"),
        (b"PK\x03\x04" + b"0" * 99, "refused"),
    ],
)
def test_what_is_claimed_is_not_believed(data, message, tmp_path):
    file = write(tmp_path, data)
    tracemalloc.start()
    with pytest.raises(InputError, match=message) as caught:
        load(file)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_places_in_memory_cost_nothing(tmp_path):
    tracemalloc.start()
    assert load(write(tmp_path, b"Nr" + struct.pack("<I", (1 << 32) - 1) + b".")) is None
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


SMALL = {"a": BLOCK[:1], "o": np.array([{"x": 1.5}], object), "s": {1}, "t": ("ü", -7, 2**40)}


@pytest.mark.parametrize("protocol", range(6))
def test_every_beginning_of_a_pickle_is_told_from_a_whole_one(protocol, tmp_path):
    data = pickle.dumps(SMALL, protocol)
    file = write(tmp_path, data)
    for size in reversed(range(len(data))):
        os.truncate(file, size)
        with pytest.raises(InputError):
            load(file)


def settled(file):
    """Whether reading ends in a value or in the error that is promised; anything else is raised."""
    try:
        return described(load(file))
    except InputError as error:
        return str(error).startswith(f"{file}: ")


@given(st.sampled_from(range(6)), st.data())
def test_damage_is_an_error_or_a_value(tmp_path_factory, protocol, data):
    content = bytearray(pickle.dumps(SMALL, protocol))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = write(tmp_path_factory.getbasetemp(), bytes(content))
    assert settled(file)


@given(st.binary(max_size=60))
def test_noise_is_an_error_or_a_value(tmp_path_factory, content):
    file = write(tmp_path_factory.getbasetemp(), content)
    assert settled(file)


def test_descriptions_are_short(tmp_path):
    value = load(write(tmp_path, b"}(X\x01\x00\x00\x00a" + nested(60) + b"X\x01\x00\x00\x00bNu."))
    assert described(value) == "a dict of 2 with the keys 'a', 'b'"
    assert described(value["a"]) == "a tuple of 2, first a tuple"
    assert described(10**5000) == "a int"
    assert described(load(write(tmp_path, pickle.dumps(BLOCK)))) == "an array (2, 3, 4) <f2"


# npy files of objects


@pytest.mark.parametrize("objects", [[], {"a": [1], "b": BLOCK}, 3])
def test_npy_files_of_objects(objects, tmp_path):
    box = np.empty((), object)
    box[()] = objects
    np.save(tmp_path / "x.npy", box, allow_pickle=True)
    found = load_npy(tmp_path / "x.npy")
    assert found.shape == ()
    (value,) = found.data
    if isinstance(objects, dict):
        np.testing.assert_array_equal(np.asarray(value.pop("b")), BLOCK)
        objects = {"a": [1]}
    assert value == objects
    with pytest.raises(InputError, match="holds objects, not numbers"):
        np.asarray(found)


def test_other_npy_files(tmp_path):
    file = tmp_path / "x.npy"
    np.save(file, BLOCK)
    with pytest.raises(InputError, match=r"x\.npy: an array \(2, 3, 4\) of numbers instead of objects"):
        load_npy(file)
    for content in (b"", b"PK\x03\x04", b"\x93NUMPY\x09\x00", b"\x93NUMPY\x01\x00\x05\x00{'a'}"):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"x\.npy: no npy file"):
            load_npy(file)
    np.save(file, np.array([None, 1], object), allow_pickle=True)
    start = file.read_bytes().index(b"\n") + 1
    file.write_bytes(file.read_bytes()[:start] + pickle.dumps(np.array([None], object)))
    with pytest.raises(InputError, match=r"promises an array \(2,\) of objects, it holds an array \(1,\)"):
        load_npy(file)
    with pytest.raises(InputError, match="cannot be read"):
        load_npy(tmp_path / "none.npy")


# What is written


def test_written_pickles_are_read_by_everybody(tmp_path):
    plain = {key: value for key, value in PLAIN.items() if key not in ("set", "frozen", "scalars")}
    arrays = {key: value for key, value in ARRAYS.items() if key != "words"}
    stream = io.BytesIO()
    dump({"plain": plain, "arrays": arrays, "scalars": PLAIN["scalars"], "box": np.array([{"x": 1}, None])}, stream)
    assert b"numpy._core" not in stream.getvalue()
    for found in (pickle.loads(stream.getvalue()), load(write(tmp_path, stream.getvalue()))):
        assert found["plain"] == plain
        assert found["scalars"] == PLAIN["scalars"]
        same_arrays({"words": ARRAYS["words"], **found["arrays"]})
        box = found["box"]
        assert (box.data if isinstance(box, Stored) else box.tolist()) == [{"x": 1}, None]


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 2500])
def test_iterators_become_lists(count):
    stream = io.BytesIO()
    dump({"items": iter(range(count))}, stream)
    assert pickle.loads(stream.getvalue()) == {"items": list(range(count))}


@pytest.mark.parametrize("value", [Path("x"), {1, 2}, np.array(["text"]), [object()]])
def test_other_values_are_not_written(value):
    with pytest.raises(TypeError, match="cannot be written"):
        dump(value, io.BytesIO())
