import copyreg
import io
import os
import pickle
import pickletools
import struct
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory import memory_below

from skelcl.data.formats.pickles import described, dump, holds, load, load_npy
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
        array = found[name]
        assert isinstance(array, np.ndarray)
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
    np.testing.assert_array_equal(found["a"], BLOCK)
    assert found["o"].tolist() == [None, "x"]
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
    np.testing.assert_array_equal(found["array"], expected["array"])
    assert load(write(tmp_path, PYTHON_2_TEXT)) == pickle.loads(PYTHON_2_TEXT, encoding="latin1")


def test_arrays_are_read_only_and_travel_as_plain_ones(tmp_path):
    found = load(write(tmp_path, pickle.dumps(ARRAYS, 4)))
    assert not any(array.flags.writeable for array in found.values())
    for protocol in range(6):
        copy = pickle.loads(pickle.dumps(found, protocol))
        assert {type(array) for array in copy.values()} == {np.ndarray}
        same_arrays(copy)


def test_files_are_in_memory_once(tmp_path):
    file = write(tmp_path, pickle.dumps([np.zeros(10**6) for _ in range(4)], 4))
    with memory_below(1.01 * file.stat().st_size):
        load(file)


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
    "operator.attrgetter",
    "numpy.ndarray.tofile",
    "numpy.core.multiarray.array",
    "skelcl.data.formats.pickles.load",
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
        (b"(S'true'\nios\nsystem\n.", "os.system"),
        (b"(cos\nsystem\nS'true'\no.", "os.system"),
        (b"cposix\nDirEntry\n)\x81.", "posix.DirEntry"),
        (b"cposix\nDirEntry\n)}\x92.", "posix.DirEntry"),
        (b"\x82\x01.", "a registered extension"),
        (b"\x83\x01\x01.", "a registered extension"),
        (b"\x84\x01\x01\x01\x01.", "a registered extension"),
        (b"}}b.", "the state of a dict"),
        (b"cnumpy\nndarray\n}b.", "the state of a NoneType"),
        (pickle.dumps(STRUCTURED, 4), "numpy.dtype(V4)"),
        (pickle.dumps(np.zeros(1, "M8[s]")), "numpy.dtype(M8)"),
        (pickle.dumps(np.zeros(1, complex)), "numpy.dtype(c16)"),
        (pickle.dumps(np.ma.array([1.0]), 4), "numpy.ma.core._mareconstruct"),
        (dtype((3, "<", None, ("x",), {}, -1, -1, 0)), "a structured or unusual numpy.dtype f4"),
        (dtype((3, "<", None, None, None, -1, -1, 0, {})), "a structured or unusual numpy.dtype f4"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR.", "_codecs.encode with another encoding"),
        (pickle.dumps(bytearray(3)), "builtins.bytearray"),
        (pickle.dumps(1j), "builtins.complex"),
        (pickle.dumps(range(3)), "builtins.range"),
    ],
)  # fmt: skip
def test_refused_names(data, named, tmp_path):
    with pytest.raises(InputError, match="refused") as caught:
        load(write(tmp_path, data))
    assert repr(named)[1:-1] in str(caught.value)


@pytest.mark.parametrize("state", ["S'__defaults__'\n)s", "S'__kwdefaults__'\n}s", "S'make'\nNs"])
@pytest.mark.parametrize("name", ["numpy\ndtype", "collections\nOrderedDict", "numpy.core.multiarray\nscalar"])
@pytest.mark.parametrize("kind", ["}%s", "N}%s\x86"])  # as __dict__, and attribute by attribute
def test_stand_ins_cannot_be_changed(kind, name, state, tmp_path):
    data = f"c{name}\n{kind % state}b.".encode("latin-1")
    with pytest.raises(InputError, match="refused, for it names 'the state of a function'"):
        load(write(tmp_path, data))
    same_arrays(load(write(tmp_path, pickle.dumps(ARRAYS, 2))))


def test_extensions_that_were_met_before_are_refused(tmp_path, trap):
    copyreg.add_extension("posix", "mkdir", 240)
    try:
        data = pickle.dumps(Evil(os.mkdir, (str(trap),)), 2)
        assert b"\x82\xf0" in data
        pickle.loads(data)
        trap.rmdir()
        with pytest.raises(InputError, match="a registered extension"):
            load(write(tmp_path, data))
        assert not trap.exists()
    finally:
        copyreg.remove_extension("posix", "mkdir", 240)


@pytest.mark.parametrize("make", [b"(icollections\nOrderedDict\n", b"(ccollections\nOrderedDict\no"])
def test_instances_of_what_is_known_are_made_by_the_stand_ins(make, tmp_path):
    assert type(load(write(tmp_path, make + b"."))) is dict


def array(shape, kind, order, data):
    """A pickled array with the data of your choice."""
    kind, order = plain((kind, False, True)), plain((3, order, None, None, None, -1, -1, 0))
    start = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nNNtR(K\x01" + plain(shape)
    return start + b"cnumpy\ndtype\n" + kind + b"R" + order + b"b\x89" + data + b"tb."


def nested(depth):
    """A tuple that holds the empty one 2^depth times, in a few bytes."""
    return b")" + b"2\x86" * depth


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x8e" + struct.pack("<Q", 1 << 60) + b"abc.", "it ends too early"),
        (b"\x8d" + struct.pack("<Q", 1 << 60) + b"abc.", "it ends too early"),
        (b"\x96" + struct.pack("<Q", 1 << 40) + b"abc.", "it ends too early"),
        (b"\x95" + struct.pack("<Q", 1 << 40) + b"abc.", "damaged pickle"),
        (b"B" + struct.pack("<I", (1 << 32) - 1) + b"abc.", "it ends too early"),
        (b"\x8b" + struct.pack("<I", 1 << 30) + b"abc.", "it ends too early"),
        (array((1 << 40,), "f4", "<", b"C\x04abcd"), r"an array \(1099511627776,\) of float32 holds 4 bytes"),
        (array((1 << 61, 1 << 61, 0), "f4", "<", b"C\x04abcd"), "of float32 holds 4 bytes"),
        (array((3,), "f4", "<", b"C\x08abcdefgh"), r"\(3,\) of float32 holds 8 bytes"),
        (array((1,), "U99999", "<", b"C\x04abcd"), "holds 4 bytes"),
        (array((1,), "O8", "|", b"C\x08abcdefgh"), "of object holds a bytes"),
        (array((1 << 40,), "O8", "|", b"]"), "of object holds 0 objects"),
        (array((1,), "O8", "|", b"](NNe"), "of object holds 2 objects"),
        (array((1,), "f4", "<", b"]Na"), "of float32 holds a list of 1"),
        (array((-1,), "f4", "<", b"C\x04abcd"), "an array whose shape is none"),
        (array((1,) * 33, "f4", "<", b"C\x04abcd"), "an array whose shape is none"),
        (array((1.0,), "f4", "<", b"C\x04abcd"), "an array whose shape is none"),
        (array((1,), "f4", "<", b"C\x04abcd")[:-1] + b"K\x00" + nested(60) + b"s.", "read-only"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(NNNtRK\x00" + nested(60) + b"s.", "read-only"),
        (b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O8'\ntR](NetR.", "cannot create an OBJECT array"),
        (
            b"cnumpy.core.numeric\n_frombuffer\n(](Necnumpy\ndtype\n(S'O8'\ntR(K\x01tS'C'\ntR.",
            "TypeError",
        ),
        (b"cnumpy\nndarray\n)R.", "TypeError"),
        (b"ccollections\nOrderedDict\n)\x81.", "TypeError"),
        (b"ccollections\nOrderedDict\n)}\x92.", "TypeError"),
        (b"Pid\n.", "persistent id"),
        (b"NQ.", "persistent id"),
        (b"\x80\x05\x97.", "out-of-band"),
        (b"}" + nested(60) + b"Ns.", "a nested tuple is used as a key"),
        (b"}(" + nested(60) + b"Nu.", "a nested tuple is used as a key"),
        (b"(" + nested(60) + b"Nd.", "a nested tuple is used as a key"),
        (b"\x8f(" + nested(60) + b"\x90.", "a nested tuple is used as a key"),
        (b"(" + nested(60) + b"\x91.", "a nested tuple is used as a key"),
        (b"cbuiltins\nset\n](" + nested(60) + b"e\x85R.", "a nested tuple is used as a key"),
        (b"cbuiltins\nfrozenset\n](" + nested(60) + b"e\x85R.", "a nested tuple is used as a key"),
        (b"ccollections\nOrderedDict\n](" + nested(60) + b"N\x86e\x85R.", "a nested tuple is used as a key"),
        (b"}]Ns.", "unhashable"),
        (b"}Na.", "no attribute 'append'"),
        (b"](NNu.", "damaged pickle"),
        (b"NR.", "damaged pickle"),
        (b"N)R.", "not callable"),
        (b"\x80\x06N.", "unsupported pickle protocol: 6"),
        (b"\xffN.", "damaged pickle"),
        (b"I" + b"9" * 5000 + b"\n.", "damaged pickle"),
        (b"I7.", "damaged pickle"),
        (b"h\x05.", "damaged pickle"),
        (b".", "damaged pickle"),
        (b"", "the file is empty"),
        (b"PK\x03\x04" + b"0" * 99, "persistent id"),
    ],
)
def test_what_is_claimed_is_not_believed(data, message, tmp_path):
    file = write(tmp_path, data)
    with memory_below(10**6), pytest.raises(InputError, match=message) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_containers_that_hold_themselves(tmp_path):
    found = load(write(tmp_path, b"]q\x00h\x00a."))
    assert found[0] is found
    assert described(found) == "a list of 1, first a list"
    start, end = array((1,), "O8", "|", b"](h\x05e").split(b"R(K\x01", 1)
    found = load(write(tmp_path, start + b"Rq\x05(K\x01" + end))
    assert found[0] is found
    assert described(found) == "an array (1,) object"


def test_places_in_memory_cost_nothing(tmp_path):
    file = write(tmp_path, b"Nr" + struct.pack("<I", (1 << 32) - 1) + b".")
    with memory_below(10**6):
        assert load(file) is None


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
    assert described(load(write(tmp_path, pickle.dumps(BLOCK)))) == "an array (2, 3, 4) float16"


# npy files of objects


@pytest.mark.parametrize("objects", [[], {"a": [1], "b": BLOCK}, 3])
def test_npy_files_of_objects(objects, tmp_path):
    box = np.empty((), object)
    box[()] = objects
    np.save(tmp_path / "x.npy", box, allow_pickle=True)
    found = load_npy(tmp_path / "x.npy")
    assert found.shape == ()
    value = found.item()
    if isinstance(objects, dict):
        np.testing.assert_array_equal(value.pop("b"), BLOCK)
        objects = {"a": [1]}
    assert value == objects


def test_other_npy_files(tmp_path):
    file = tmp_path / "x.npy"
    np.save(file, BLOCK)
    with pytest.raises(InputError, match=r"x\.npy: an array \(2, 3, 4\) of numbers instead of objects"):
        load_npy(file)
    for content in (b"", b"PK\x03\x04", b"\x93NUMPY\x09\x00", b"\x93NUMPY\x01\x00\x05\x00{'a'}"):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"x\.npy: cannot be read as an array of numpy"):
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
    content = {"plain": PLAIN, "arrays": ARRAYS, "box": np.array([{"x": 1}, None])}
    stream = io.BytesIO()
    dump(content, stream)
    data = stream.getvalue()
    named = {arg for operation, arg, _ in pickletools.genops(data) if operation.name == "GLOBAL"}
    # The names of numpy 1, which numpy 2 reads too; 1.26 was the first to know those of numpy 2.
    assert {name for name in named if name.startswith("numpy")} == {
        "numpy.core.multiarray _reconstruct",
        "numpy.core.multiarray scalar",
        "numpy ndarray",
        "numpy dtype",
    }
    assert data[:2] == b"\x80\x03"
    for found in (pickle.loads(data), load(write(tmp_path, data))):
        assert found["plain"] == PLAIN
        same_arrays(found["arrays"])
        assert found["box"].tolist() == [{"x": 1}, None]
