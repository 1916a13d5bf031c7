"""C3D and TRC: labelled points, some of which are joints."""

import builtins
import struct

import numpy as np
import pytest

from skelcl.data.mocap.space import METRES
from skelcl.data.poses.contents import Wanted
from skelcl.data.poses.formats import FORMATS, load
from skelcl.data.poses.layouts import map_layout
from skelcl.data.poses.single import guess_format, read_clip
from skelcl.data.recording import ReadError
from skelcl.data.store import StoreError
from skelcl.errors import InputError
from skelcl.skeleton import H36M17, HALPE26, OPENPOSE25

POSE2SIM = [
    "Hip", "RHip", "RKnee", "RAnkle", "RBigToe", "RSmallToe", "RHeel", "LHip", "LKnee", "LAnkle", "LBigToe",
    "LSmallToe", "LHeel", "Neck", "Head", "Nose", "RShoulder", "RElbow", "RWrist", "LShoulder", "LElbow", "LWrist",
]  # fmt: skip
"""What Pose2Sim writes of 26 joints."""


def person(labels, frames=4, height=1.7, seed=0):
    """A cloud of points as high as a person, in metres with y upwards: (T, N, 3); the neck is above the hips."""
    rng = np.random.default_rng(seed)
    places = rng.uniform([-0.5, 0.1, -0.5], [0.5, height - 0.1, 0.5], (frames, len(labels), 3))
    heights = {"hip": 0.9, "neck": height, "head": height, "heel": 0.0, "shoulder": 1.4}
    for n, label in enumerate(labels):
        for word in (word for word in heights if word in label.lower()):
            places[:, n, 1] = heights[word]
    return places.round(5)


def write_trc(file, labels, places, unit="m", rate="60.00", newline="\n", trailing="\t"):
    lines = ["PathFileType\t4\t(X/Y/Z)\tx.trc",
             "DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigDataStartFrame\tOrigNumFrames",
             f"{rate}\t{rate}\t{len(places)}\t{len(labels)}\t{unit}\t{rate}\t1\t{len(places)}",
             "Frame#\tTime\t" + "\t\t\t".join(labels) + "\t\t",
             "\t\t" + "\t".join(f"{axis}{n}" for n in range(1, len(labels) + 1) for axis in "XYZ"), ""]  # fmt: skip
    for t, frame in enumerate(places, 1):
        cells = ["" if np.isnan(value) else f"{value:.5f}" for value in frame.ravel()]
        lines.append("\t".join([str(t), f"{t / 60:.4f}", *cells]) + trailing)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(newline.join([*lines, ""]), newline="")
    return file


def write_c3d(file, labels, places, unit="mm", rate=100.0):
    """The plainest C3D: little-endian, floating point, one block of parameters after another, no analog channels."""

    def parameter(group, name, kind, dimensions, data):
        body = struct.pack("<bB", kind, len(dimensions)) + bytes(dimensions) + data + b"\0"
        return struct.pack("<bb", len(name), group) + name.encode() + struct.pack("<h", len(body) + 2) + body

    width = max(map(len, labels))
    packed = struct.pack("<bb", 5, -1) + b"POINT" + struct.pack("<hB", 3, 0)
    packed += parameter(1, "USED", 2, [], struct.pack("<h", len(labels)))
    packed += parameter(1, "LABELS", -1, [width, len(labels)], "".join(f"{one:<{width}}" for one in labels).encode())
    packed += parameter(1, "UNITS", -1, [len(unit)], unit.encode())
    packed += parameter(1, "SCALE", 4, [], struct.pack("<f", -1))
    packed += parameter(1, "RATE", 4, [], struct.pack("<f", rate))
    packed += parameter(1, "FRAMES", 2, [], struct.pack("<h", len(places)))
    blocks = -(-(len(packed) + 5) // 512)
    packed += parameter(1, "DATA_START", 2, [], struct.pack("<h", 2 + blocks))[:-1] + b"\0\0\0"
    packed = (struct.pack("<BBBB", 1, 0x50, blocks, 84) + packed).ljust(512 * blocks, b"\0")
    header = struct.pack("<BBhhhhhfhhf", 2, 0x50, len(labels), 0, 1, len(places), 10, -1.0, 2 + blocks, 0, rate)
    rows = np.zeros((*places.shape[:2], 4), "<f4")
    rows[..., :3] = np.nan_to_num(places)
    rows[..., 3] = np.where(np.isnan(places).any(-1), -1, 0)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(header.ljust(512, b"\0") + packed + rows.tobytes().ljust(512, b"\0"))
    return file


@pytest.fixture(params=["trc", "c3d"])
def write(request):
    """Writes a file of one of the two formats: labels, metres, unit."""
    if request.param == "c3d":
        pytest.importorskip("c3d", reason="c3d is not installed: pip install 'skelcl[mocap]'")

    def made(file, labels, places, unit="mm"):
        writer = write_trc if request.param == "trc" else write_c3d
        return writer(file.with_suffix(f".{request.param}"), labels, places / METRES[unit], unit)

    made.format = request.param
    return made


@pytest.mark.parametrize("unit", ["m", "cm", "mm"])
def test_points_named_as_joints_become_a_store(imported, write, tmp_path, unit):
    places = person(POSE2SIM)
    places[1, 4] = np.nan
    write(tmp_path / "in" / "walk" / "a", POSE2SIM, places, unit)
    store = imported(write.format)
    assert store.meta["units"] == "m"
    assert store.meta["parameters"]["unit"] == unit
    assert store.meta["fps"] == {"trc": 60, "c3d": 100}[write.format]
    assert store.skeleton.joints == tuple(name for name in HALPE26.joints if name in store.skeleton.joints)
    assert store.skeleton.num_joints == 22
    spelled = {label: label for label in ("Hip", "Neck", "Head", "Nose")}
    for n, label in enumerate(POSE2SIM):
        side = {"R": "right ", "L": "left "}.get(label[0], "") if label not in spelled else ""
        words = (label[1:] if side else label).replace("BigToe", "big toe").replace("SmallToe", "small toe").lower()
        found = store.recording(0)[0, :, store.skeleton.joints.index(side + words)]
        np.testing.assert_allclose(found, places[:, n], atol=2e-5)
    map_layout(store.skeleton, H36M17)


@pytest.mark.parametrize("axes", ["y", "z"])
def test_what_points_up_is_found(write, tmp_path, axes):
    places = person(POSE2SIM)
    lying = places if axes == "y" else places[..., [0, 2, 1]] * [1, -1, 1]
    poses = load(write.format, [write(tmp_path / "a", POSE2SIM, lying)])
    assert poses.up == axes
    order = [poses.skeleton.joints.index(name) for name in ("left hip", "right wrist")]
    np.testing.assert_allclose(poses.joints[0][:, order], places[:, [7, 18]], atol=2e-5)


def test_two_people_have_their_names_before_the_labels(write, tmp_path):
    labels = [f"{who}:{label}" for who in ("Ann", "Ben") for label in POSE2SIM] + ["box1", "box2"]
    places = np.concatenate([person(POSE2SIM), person(POSE2SIM, seed=1) + np.array([2, 0, 0]), np.ones((4, 2, 3))], 1)
    poses = load(write.format, [write(tmp_path / "a", labels, places)])
    assert poses.joints.shape == (2, 4, 22, 3)
    place = poses.skeleton.joints.index("left wrist")
    np.testing.assert_allclose(poses.joints[:, :, place], np.stack([places[:, 21], places[:, 43]]), atol=2e-5)
    assert "2 of 46 points are no joints" in poses.notes["points"]


def test_markers_want_a_layout_file(imported, write, tmp_path):
    markers = ["LASI", "CLAV", "LSHO", "RSHO", "LWRA", "LTOE"]
    places = person(markers)
    places[:, 1, 1], places[:, 0, 1], places[:, 5, 1] = 1.4, 0.9, 0.0
    write(tmp_path / "in" / "a", markers, places)
    with pytest.raises(StoreError, match=r"'LASI', 'CLAV', .* are not named as the joints.*markers on the skin are no"):
        imported(write.format)
    (tmp_path / "m.yaml").write_text(
        "{joints: [lasi, clav, lsho, rsho], parents: [0, 0, 1, 1], up: [0, 1], across: [3, 2], pairs: []}"
    )
    store = imported(write.format, layout=str(tmp_path / "m.yaml"))
    np.testing.assert_allclose(store.recording(0)[0], places[:, :4], atol=2e-5)


def test_a_clip_is_recognised_and_read_without_a_store(write, tmp_path):
    file = write(tmp_path / "a", POSE2SIM, person(POSE2SIM))
    assert guess_format(file) == write.format
    assert read_clip(file).joints.shape == (1, 4, 22, 3)


@pytest.mark.parametrize("written", [{"newline": "\r\n"}, {"trailing": ""}, {"trailing": "\t\t\t"}], ids=str)
def test_harmless_spellings_of_trc(tmp_path, written):
    places = person(POSE2SIM)
    places[2, 0] = places[0, -1] = np.nan
    (a, b) = (write_trc(tmp_path / f"{name}.trc", POSE2SIM, places, **options) for name, options in
              (("a", {}), ("b", written)))  # fmt: skip
    np.testing.assert_array_equal(load("trc", [a]).joints, load("trc", [b]).joints)


BAD_TRC = {
    "empty": (lambda text: "", "does not begin with the five lines", 1),
    "names": (lambda text: text.replace("Frame#", "Nr"), "names no points", 4),
    "wide": (lambda text: text[:-2] + "\t7\n", "a row has", 10),
    "number": (lambda text: text.replace("\t1.70000", "\tx1.7", 1), "'x1.7' is no number", 7),
    "frames": (lambda text: text.replace("\t4\t22", "\t5\t22"), "5 frames are announced, and 4 follow", 3),
    "rate": (lambda text: text.replace("60.00\t60.00", "fast\t60.00"), "DataRate is 'fast'", 3),
    "unit": (lambda text: text.replace("\tm\t", "\tfurlong\t"), "the unit 'furlong', which is not known", None),
    "no frames": (lambda text: text.partition("\n1\t")[0] + "\n", "has no frames", 6),
}


@pytest.mark.parametrize("name", BAD_TRC)
def test_damaged_trc(tmp_path, name):
    change, message, line = BAD_TRC[name]
    file = write_trc(tmp_path / "x.trc", POSE2SIM, person(POSE2SIM))
    text = file.read_text()
    file.write_text(change(text))
    assert file.read_text() != text
    with pytest.raises(ReadError, match=message) as caught:
        load("trc", [file])
    assert str(caught.value).startswith(f"{file}: ")
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "is no C3D file"),
        (lambda data: data[:1] + b"Q" + data[2:], "is no C3D file"),
        (lambda data: data[:2000], "9 frames are announced, and 2 follow"),
        (lambda data: data[:6] + b"\1\0\xff\xff" + data[10:], "22 points in 65535 frames are more than it has bytes"),
        (lambda data: data[:512] + bytes(1024) + data[1536:], "cannot be read as a C3D file"),
    ],
)
def test_damaged_c3d(tmp_path, change, message):
    pytest.importorskip("c3d", reason="c3d is not installed: pip install 'skelcl[mocap]'")
    file = write_c3d(tmp_path / "x.c3d", POSE2SIM, 1000 * person(POSE2SIM, frames=9))
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(ReadError, match=message) as caught:
        load("c3d", [file])
    assert "\n" not in str(caught.value)


def test_without_the_package_c3d_tells_what_to_install(monkeypatch, tmp_path):
    real = builtins.__import__

    def lacking(name, *args, **kwargs):
        if name == "c3d":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", lacking)
    (tmp_path / "x.c3d").write_bytes(bytes(1024))
    with pytest.raises(InputError, match=r"x\.c3d: C3D needs the package c3d: pip install 'skelcl\[mocap\]'"):
        FORMATS["c3d"].read([tmp_path / "x.c3d"], Wanted())


def test_openpose_names_are_its_layout(tmp_path):
    labels = [name.title().replace("Left ", "L").replace("Right ", "R").replace(" ", "") for name in OPENPOSE25.joints]
    poses = load("trc", [write_trc(tmp_path / "a.trc", labels, person(labels))])
    assert poses.skeleton == OPENPOSE25
