"""JSON, YAML, npy, npz and zip from anybody: one line that names the file, and no more memory than a file deserves."""

import io
import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from memory import memory_below

from skelcl.data.formats import nw_ucla
from skelcl.data.formats.containers import LARGEST
from skelcl.data.import_arrays import open_arrays
from skelcl.data.poses.formats import load
from skelcl.data.poses.layouts import find_layout
from skelcl.data.poses.single import guess_format
from skelcl.data.recording import ReadError
from skelcl.data.store import SkeletonStore
from skelcl.errors import InputError

LONG = "7" * 5000  # more digits than Python converts
NAME = "S001C002P003R002A013"


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def zipped(name="a01_s01_e00_v01.json", data=b"{}", way=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", way) as archive:
        archive.writestr(name, data)
    return stream.getvalue()


def read_nw_ucla(file):
    for source in nw_ucla.find([file])[0]:
        nw_ucla.read(source.where)


def read_store(file):
    SkeletonStore(file.parent)


def read_arrays(file):
    opened = open_arrays(file, file.parent / "scratch")
    for source in opened.sources:
        opened.read(source.where)


def refused(read, file, match):
    with pytest.raises(InputError, match=match) as caught:
        read(file)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


# --- JSON -------------------------------------------------------------------------------------------------------------

JSON = {
    "nw-ucla": ("a01_s01_e00_v01.json", f'{{"file_name": "a", "label": {LONG}, "skeletons": []}}', read_nw_ucla),
    "pose": ("x.json", f'{{"keypoints": [[[{LONG}, 1]]]}}', lambda file: load("json", [file])),
    "mediapipe": ("x.json", f'[{{"landmarks": [{{"x": {LONG}, "y": 1}}]}}]', lambda file: load("mediapipe", [file])),
    "coco": ("x.json", f'[{{"image_id": {LONG}, "keypoints": [1, 2, 1]}}]', lambda file: load("coco", [file])),
    "alphapose": ("x.json", f'[{{"idx": {LONG}, "image_id": 1, "keypoints": []}}]', lambda f: load("alphapose", [f])),
    "openpose": ("x_1_keypoints.json", f'{{"people": [{LONG}]}}', lambda file: load("openpose", [file])),
    "guess": ("x.json", f"[{LONG}]", guess_format),
    "layout": ("x.json", f'{{"joints": {LONG}}}', find_layout),
    "store": ("meta.json", f'{{"schema": {LONG}}}', read_store),
}


@pytest.mark.parametrize("name", JSON)
def test_integers_of_thousands_of_digits(name, tmp_path):
    file, text, read = JSON[name]
    (tmp_path / file).write_text(text)
    refused(read, tmp_path / file, rf"{file}.*(thousands of digits|not UTF-8)")


@pytest.mark.parametrize("name", JSON)
@pytest.mark.parametrize(
    "data", [b"\xff{}", b"[" * 100_000, b"{", b'{"a": 1, "b"}'], ids=["text", "depth", "cut", "comma"]
)
def test_what_is_no_json(name, data, tmp_path):
    file, _, read = JSON[name]
    (tmp_path / file).write_bytes(data)
    refused(read, tmp_path / file, rf"{file}.*(not UTF-8 text|not valid JSON)")


# --- zip and npz ------------------------------------------------------------------------------------------------------


def patched(data, mark, offset, value):
    """An archive with other bytes in all headers of a kind; offsets count from their mark."""
    data, at = bytearray(data), -1
    while (at := data.find(mark, at + 1)) >= 0:
        data[at + offset : at + offset + len(value)] = value
    return bytes(data)


LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"
HEADERS = {
    "newer version": lambda data: patched(data, CENTRAL, 6, struct.pack("<H", 99)),
    "unknown packing": lambda data: patched(patched(data, CENTRAL, 10, b"\x63\x00"), LOCAL, 8, b"\x63\x00"),
    "encrypted": lambda data: patched(patched(data, CENTRAL, 8, b"\x01\x00"), LOCAL, 6, b"\x01\x00"),
    "name of another encoding": lambda data: patched(
        patched(data, CENTRAL, 8, struct.pack("<H", 0x800)), CENTRAL, 46, b"\xff"
    ),
    "checksum": lambda data: patched(patched(data, CENTRAL, 16, b"\x00" * 4), LOCAL, 14, b"\x00" * 4),
    "cut": lambda data: data[:-30],
    "offset": lambda data: patched(data, CENTRAL, 42, b"\x07\x00\x00\x00"),
}
ARCHIVES = {
    "nw-ucla": ("all.zip", zipped(), read_nw_ucla),
    "ctr-gcn": (
        "x.npz",
        npz(x_train=np.ones((2, 3, 150), "f4"), y_train=np.array([0, 1])),
        read_arrays,
    ),
    "poses": ("x.npz", npz(keypoints=np.ones((2, 17, 3))), lambda file: load("npz", [file])),
}


@pytest.mark.parametrize("name", ARCHIVES)
@pytest.mark.parametrize("header", HEADERS)
def test_archives_that_zipfile_cannot_read(name, header, tmp_path):
    file, data, read = ARCHIVES[name]
    (tmp_path / file).write_bytes(HEADERS[header](data))
    refused(read, tmp_path / file, rf"{file}.*(cannot be read|damaged|holds nothing)|no NW-UCLA sequences")


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_member_without_a_name_is_none(name, tmp_path):
    file, data, read = ARCHIVES[name]
    member = next(info for info in zipfile.ZipFile(io.BytesIO(data)).infolist())
    hidden = patched(data, CENTRAL, 46, b"\x00" * len(member.filename))  # zipfile ends a name at its first zero
    (tmp_path / file).write_bytes(hidden)
    refused(read, tmp_path / file, file)


@pytest.mark.parametrize("header", HEADERS)
def test_the_index_of_a_store_in_such_an_archive(header, own_root):
    file = own_root / "nw-ucla" / "index.npz"
    file.write_bytes(HEADERS[header](file.read_bytes()))
    refused(read_store, file, r"index\.npz is missing or damaged|index\.npz has no column")


# --- npy --------------------------------------------------------------------------------------------------------------


def header(text, version=b"\x01\x00"):
    body = text.encode("latin-1")
    return b"\x93NUMPY" + version + struct.pack("<H", len(body)) + body


NPY = {
    "no version": b"\x93NUMPY\x07\x00",
    "no python": header("{'descr': '<f4', 'shape': ((((("),
    "no end": header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 25"),
    "no text": header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 25, 3), '\x00\xff': 1}"),
    "no type": header("{'descr': 'hello', 'fortran_order': False, 'shape': (3, 25, 3)}"),
    "a type of parts": header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}") + bytes(4),
    "a negative shape": header("{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 25, 3)}") + bytes(900),
    "no shape": header("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 25, 3)}") + bytes(300),
    "nothing": b"",
    "no data": header("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 25, 3)}"),
    "terabytes": header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000, 3)}") + bytes(99),
}
READERS = {
    "poses": ("x.npy", lambda file: load("npy", [file])),
    "agcn": ("train_data.npy", read_arrays),
    "ntu-npy": (f"{NAME}.skeleton.npy", read_arrays),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("damage", NPY)
def test_headers_that_numpy_cannot_read(name, damage, tmp_path):
    file, read = READERS[name]
    (tmp_path / file).write_bytes(NPY[damage])
    with memory_below(1 << 24):
        refused(read, tmp_path / file, file.replace(".", r"\."))


@pytest.mark.parametrize("shape", [(2, 3, 4, 25, 0), (2, 3, 0, 25, 2), (0, 3, 4, 25, 2), (2, 3, 4, 25, 3)])
def test_arrays_of_no_bodies_frames_or_clips(shape, tmp_path):
    np.save(tmp_path / "train_data.npy", np.zeros(shape, np.float32))
    np.save(tmp_path / "train_label.npy", np.zeros(shape[0], int))
    refused(read_arrays, tmp_path / "train_data.npy", r"train_data\.npy: ")


def test_archives_of_no_frames(tmp_path):
    (tmp_path / "x.npz").write_bytes(npz(x_train=np.zeros((2, 0, 150), "f4"), y_train=np.array([0, 1])))
    refused(read_arrays, tmp_path / "x.npz", "holds no frames")


# --- small files, large memory ----------------------------------------------------------------------------------------


def test_a_pose_archive_of_zeros(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("keypoints.npy", "w") as member:
        member.write(header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 25, 3)}"))
        for _ in range(300):
            member.write(bytes(1_000_000))
    (tmp_path / "x.npz").write_bytes(stream.getvalue())
    assert len(stream.getvalue()) < 1 << 19
    with memory_below(1 << 24):
        refused(lambda file: load("npz", [file]), tmp_path / "x.npz", "comes to 300,000,000 bytes in memory, of which")


def test_an_nw_ucla_archive_of_blanks(tmp_path):
    (tmp_path / "all.zip").write_bytes(zipped(data=b"[" + b" " * nw_ucla.MAX_BYTES + b"]"))
    assert (tmp_path / "all.zip").stat().st_size < 1 << 15
    with memory_below(1 << 23):
        refused(read_nw_ucla, tmp_path / "all.zip", "comes to 16,777,218 bytes in memory, of which 16,777,216 are")


def test_a_packed_array_is_not_unpacked_to_any_size(tmp_path, monkeypatch):
    monkeypatch.setattr("skelcl.data.formats.mapped.LARGEST", 1 << 16)
    np.savez_compressed(tmp_path / "x.npz", x_train=np.zeros((20, 300, 150), "f4"), y_train=np.zeros(20, int))
    refused(read_arrays, tmp_path / "x.npz", r"x_train: comes to 3,600,128 bytes")
    assert not (tmp_path / "scratch").exists()


BODY = {"joints": np.ones((50_000 * 25, 3), np.float32), "interval": list(range(50_000))}


def test_a_body_that_many_keys_share(tmp_path):
    content = [{"name": NAME, "num_frames": 50_000, "data": dict.fromkeys(map(str, range(1000)), BODY)}]
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    with memory_below(1 << 27):
        refused(read_arrays, tmp_path / "x.pkl", "its clips share arrays: 15,000,000,000 bytes of numbers")


def test_a_clip_that_many_annotations_share(tmp_path):
    joints = np.ones((1, 1000, 25, 3), np.float32)
    clips = [{"frame_dir": str(n), "label": 0, "total_frames": 1000, "keypoint": joints} for n in range(3000)]
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"split": {}, "annotations": clips}))
    refused(read_arrays, tmp_path / "x.pkl", "its clips share arrays: 900,000,000 bytes of numbers")


def test_many_bodies_of_one_frame_in_a_long_clip(tmp_path):
    bodies = {str(n): {"joints": np.ones((25, 3), np.float32), "interval": [0]} for n in range(100)}
    content = [{"name": NAME, "num_frames": 100_000, "data": bodies, "selected": True}]
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    with memory_below(1 << 24):
        refused(read_arrays, tmp_path / "x.pkl", "comes to 3,000,000,000 bytes in memory")


@pytest.mark.parametrize("interval", [[1 << 70], [-1], [0, 0], [3], [0, 1 << 64]])
def test_intervals_outside_of_the_clip(interval, tmp_path):
    body = {"joints": np.ones((25 * len(interval), 3), np.float32), "interval": interval}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([{"name": NAME, "num_frames": 3, "data": {"7": body}}]))
    refused(read_arrays, tmp_path / "x.pkl", "interval must ascend within 3 frames")


def test_persons_in_few_of_many_frames(tmp_path):
    """Each frame that a list of persons skips is a frame of every body: 16 bodies of 10^6 frames from 300 kB."""
    persons = [{"image_id": 300 * n, "idx": n % 16, "keypoints": [1.0, 2.0, 1.0] * 133} for n in range(4)]
    persons += [{"image_id": 9 * n, "idx": n % 16, "keypoints": [1.0, 2.0, 1.0] * 133} for n in range(1, 20_000)]
    (tmp_path / "x.json").write_text(json.dumps(persons).replace(" ", ""))
    refused(lambda file: load("alphapose", [file]), tmp_path / "x.json", "bytes in memory, of which")


def test_a_crowd_in_one_frame(tmp_path):
    persons = [{"image_id": t, "keypoints": [1.0, 2.0, 1.0]} for t in (0, 1) for _ in range(2000)]
    (tmp_path / "x.json").write_text(json.dumps(persons))
    refused(lambda file: load("coco", [file]), tmp_path / "x.json", "a frame has 2000 persons, of which 256 are")


# --- YAML -------------------------------------------------------------------------------------------------------------

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)
MERGED = "k0: &k0 {b: 1}\n" + "".join(
    f"k{n}: &k{n} {{a: 1, <<: [{', '.join([f'*k{n - 1}'] * 9)}]}}\n" for n in range(1, 9)
)
YAML = {
    "nested anchors": (f"{LAUGHS}joints: *a8\nparents: *a8\nup: *a8\nacross: *a8\n", "its anchors expand to"),
    "merged anchors": (MERGED, "its anchors expand to"),
    "an anchor in itself": ("joints: &a [*a]\n", "its anchors hold themselves|not YAML"),
    "a python object": ("joints: !!python/object/apply:os.getcwd []\n", "not YAML"),
    "a date that is none": ("joints: 2024-13-45\n", "not YAML"),
    "long digits": (f"joints: {LONG}\n", "not YAML"),
    "no time": ("joints: !!timestamp x\n", "not YAML"),
    "two documents": ("a: 1\n---\nb: 2\n", "not YAML"),
    "depth": ("[" * 1000, "not YAML"),
    "too long": ("a: " + "x" * (1 << 20), "bytes in memory, of which 1,048,576"),
    "nothing": ("", "must hold keys"),
    "too many joints": (f"joints: {[f'j{n}' for n in range(2000)]}\nparents: []\nup: [0, 1]\nacross: [0, 1]\n",
                        "joints has 2000 entries"),
    "unprintable": ('joints: ["\\u2028", b]\nparents: [0, 0]\nup: [0, 1]\nacross: [0, 1]\n', "no name"),
}  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", YAML)
def test_yaml_that_nobody_writes(name, tmp_path):
    text, message = YAML[name]
    (tmp_path / "x.yaml").write_text(text, "utf-8")
    with memory_below(1 << 26):
        refused(find_layout, tmp_path / "x.yaml", rf"x\.yaml: .*({message})")


def test_anchors_that_people_use_are_read(tmp_path):
    text = "joints: [hip, a, b]\nparents: [hip, hip, hip]\nup: &pair [hip, a]\nacross: *pair\n"
    (tmp_path / "x.yaml").write_text(text)
    assert find_layout(tmp_path / "x.yaml").across == (0, 1)


def test_reading_says_what_a_library_raised(tmp_path):
    assert LARGEST == 1 << 28
    with pytest.raises(ReadError, match=r"gone\.json: cannot be read \(No such file or directory\)"):
        load("json", [tmp_path / "gone.json"])


@pytest.mark.parametrize("name", [b"a\nb.npy", b"\xff.npy", b"\x1b[2J.npy"])
def test_names_of_clips_that_no_list_could_hold(name, imported, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 17, 3)))
    (tmp_path / "x.npy").rename(tmp_path / "in" / os.fsdecode(name))
    with pytest.raises(InputError, match="its name is not one line of UTF-8 text") as caught:
        imported("npy", layout="coco17")
    assert str(caught.value).isprintable()


def test_a_table_of_numbers_beyond_float32_warns_nobody(tmp_path):
    rows = "".join(f"{t},{v},1e{300 if v else 0},2\n" for t in range(2) for v in range(17))
    (tmp_path / "x.csv").write_text(f"frame,joint,x,y\n{rows}")
    joints = load("csv", [tmp_path / "x.csv"], layout=find_layout("coco17")).joints
    assert np.isinf(joints[0, :, 1:, 0]).all()
    assert (joints[0, :, 0, 0] == 1).all()
