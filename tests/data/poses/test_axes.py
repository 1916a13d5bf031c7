"""What an array says of itself by its sizes and numbers: axes, confidences, fractions of a picture."""

import json
import re

import numpy as np
import pytest

from skelcl.data.poses.aspect import aspect_of, parse_aspect
from skelcl.data.poses.axes import check_axes
from skelcl.data.poses.formats import load
from skelcl.data.poses.layouts import find_layout
from skelcl.data.recording import ReadError
from skelcl.data.store import StoreError
from skelcl.errors import OptionError
from skelcl.skeleton import COCO17


def walk(bodies=2, frames=12, joints=17, channels=2, scale=1.0, seed=0):
    """People far apart who move a little, (M, T, V, C)."""
    rng = np.random.default_rng(seed)
    way = (
        np.cumsum(rng.normal(0, 0.01, (bodies, frames, 1, channels)), 1) + 2.0 * np.arange(bodies)[:, None, None, None]
    )
    return (scale * (way + rng.uniform(1, 2, (bodies, 1, joints, channels)))).astype(np.float32)


@pytest.fixture
def saved(tmp_path):
    def make(values, **others):
        if others:
            np.savez(tmp_path / "a.npz", keypoints=values, **others)
            return "npz", [tmp_path / "a.npz"]
        np.save(tmp_path / "a.npy", values)
        return "npy", [tmp_path / "a.npy"]

    return make


def permuted(values, axes, letters="MTVC"):
    return np.ascontiguousarray(values.transpose([letters.index(axis) for axis in axes]))


@pytest.mark.parametrize(
    ("axes", "bodies", "frames"),
    [("TMVC", 2, 40), ("TMVC", 1, 5), ("TMVC", 2, 10), ("MTVC", 5, 4), ("MTVC", 2, 40), ("MTCV", 5, 40),
     ("CTVM", 5, 40), ("TVCM", 5, 40), ("MCVT", 1, 40)],
)  # fmt: skip
@pytest.mark.parametrize("known", ["layout", "own"])
def test_bodies_frames_joints_and_coordinates_are_told_apart(saved, axes, bodies, frames, known):
    """Where two orders fit the sizes, people walk and do not jump to one another."""
    values = walk(bodies, frames, channels=3 if axes[-1] != "C" else 2)
    sure = np.random.default_rng(1).uniform(0.1, 1, values.shape[:3]).astype(np.float32)
    others = {"confidence": permuted(sure, axes.replace("C", ""), "MTV")} | (
        {"layout": "coco17"} if known == "own" else {}
    )
    found = load(*saved(permuted(values, axes), **others), layout=COCO17 if known == "layout" else None)
    np.testing.assert_array_equal(found.joints, values)
    np.testing.assert_array_equal(found.confidence, sure)
    assert found.axes == (None if axes == "MTVC" and bodies <= frames else axes if axes != "MTVC" else None)
    assert ("axes" in found.notes) == (found.axes is not None)


@pytest.mark.parametrize("axes", ["TVC", "VTC", "TCV", "CTV", "VCT"])
def test_one_body_in_any_order(saved, axes):
    values = walk(1, 40, channels=3)
    found = load(*saved(permuted(values[0], axes, "TVC")), layout=COCO17)
    np.testing.assert_array_equal(found.joints, values)
    found = load(*saved(permuted(values[0], axes, "TVC")), axes=axes)
    np.testing.assert_array_equal(found.joints, values)


def test_what_can_be_several_is_asked(saved):
    jumping = np.random.default_rng(0).uniform(1, 9, (6, 4, 17, 2)).astype(np.float32)
    with pytest.raises(ReadError, match=r"\(6, 4, 17, 2\): .*TMVC\? --axes \w+ says which"):
        load(*saved(jumping), layout=COCO17)
    for axes, expected in (("TMVC", jumping.swapaxes(0, 1)), ("MTVC", jumping)):
        np.testing.assert_array_equal(load(*saved(jumping), layout=COCO17, axes=axes).joints, expected)
    either = np.zeros((40, 17, 3, 2)) + np.arange(3)[:, None]  # two bodies in space, or three in the plane
    with pytest.raises(ReadError, match=r"TVMC or TVCM\?|TVCM or TVMC\?"):
        load(*saved(either), layout=COCO17)
    with pytest.raises(ReadError, match=r"which --axes TVC does not describe"):
        load(*saved(either), layout=COCO17, axes="TVC")


@pytest.mark.parametrize("axes", ["", "TMV", "TTVC", "TMVCX", "N,T,V,C"])
def test_axes_that_are_none(axes):
    with pytest.raises(OptionError, match=r"--axes .*: must name each axis once"):
        check_axes(axes)
    assert check_axes("t m v c") == "TMVC"
    assert check_axes(None) is None


def test_the_first_clip_tells_the_axes_of_all(imported, tmp_path):
    """Of the second, both orders would fit."""
    values = walk(2, 30)
    np.save(tmp_path / "in" / "a.npy", permuted(values, "TMVC"))
    np.save(tmp_path / "in" / "b.npy", permuted(values[:, :3], "TMVC"))
    store = imported("npy", layout="coco17")
    assert store.index["n_frames"].tolist() == [30, 3]
    assert store.meta["parameters"]["axes"] == "TMVC"
    told = [one["message"] for one in store.report["notices"] if one["reason"] == "axes"]
    assert len(told) == 1
    assert "taken as TMVC" in told[0]


# --- the last column --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sure", [1.0, None])
def test_pixels_and_scores_are_no_coordinates_in_space(imported, tmp_path, sure):
    values = walk(1, 8, 17, 2, 200.0)
    score = np.full(values.shape[:3], 1.0) if sure else np.random.default_rng(0).uniform(0.2, 1.03, values.shape[:3])
    np.save(tmp_path / "in" / "a.npy", np.concatenate([values, score[..., None]], -1)[0])
    store = imported("npy", layout="h36m17")
    np.testing.assert_array_equal(store.recording(0), values)
    assert [one["reason"] for one in store.report["notices"]] == ["confidence"]
    assert "looks like pixels and a confidence; --channels 3" in store.report["notices"][0]["message"]
    chosen = load("npy", [tmp_path / "in" / "a.npy"], 3)
    assert chosen.joints.shape[-1] == 3
    assert "looks like pixels" in chosen.notes["confidence"]


@pytest.mark.parametrize("case", ["metres", "hips at zero", "flat", "millimetres"])
def test_coordinates_in_space_stay_so(saved, case):
    values = walk(1, 8, 17, 3)
    values[..., 2] = values[..., 2] % 1
    if case == "hips at zero":
        values -= values[:, :, :1]
    elif case == "flat":
        values = 300 * values * np.array([1, 1, 0], np.float32)
    elif case == "millimetres":
        values *= 1000
    found = load(*saved(values))
    np.testing.assert_array_equal(found.joints, values)
    assert found.confidence is None
    assert not found.notes


def test_fractions_with_a_third_column_are_asked(saved):
    values = (walk(1, 8, 17, 3) - 0.5) / 3
    with pytest.raises(ReadError, match=r"all lie in 0…1: --channels 3 if that is z, --channels 2 if it is the"):
        load(*saved(values))
    assert load(*saved(values), 3).joints.shape[-1] == 3
    assert load(*saved(values), 2).confidence is not None


@pytest.mark.parametrize("channels", [2, 3])
def test_a_column_that_is_no_confidence_is_none(saved, channels):
    values = walk(1, 8, 17, channels + 1) * np.float32(3)
    with pytest.raises(ReadError, match=rf"column {channels + 1} lies in .*, so it is no confidence"):
        load(*saved(values), channels)


# --- fractions of a picture -------------------------------------------------------------------------------------------

SIZES = {"wide": (1920, 1080), "square": (700, 700), "tall": (540, 960)}


def pictured(size, seed=0):
    """Landmarks in the image and in space of one person in a picture of some size, and the person in heights."""
    person = walk(1, 6, 33, 3, seed=seed)[0] - 1.5
    flat = 0.2 * person[..., :2]
    image = np.concatenate([flat * [size[1] / size[0], 1] + 0.5, person[..., 2:]], -1)
    frames = []
    for near, world in zip(image, person, strict=True):
        frames.append(
            {
                key: [dict(zip("xyz", map(float, joint), strict=True), visibility=0.9) for joint in marks]
                for key, marks in (("pose_landmarks", near), ("pose_world_landmarks", world))
            }
        )
    return frames, flat + 0.5 * np.array([size[0] / size[1], 1])


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("told", ["option", "file", "frame", "both"])
def test_a_person_has_the_same_proportions_in_pictures_of_any_shape(tmp_path, shape, told):
    width, height = SIZES[shape]
    frames, expected = pictured(SIZES[shape])
    content = frames
    if told in ("file", "both"):
        content = {"image_width": 2 * width if told == "both" else width, "image_height": height, "frames": frames}
    elif told == "frame":
        content = [{"imageSize": [width, height], **frame} for frame in frames]
    (tmp_path / "a.json").write_text(json.dumps(content))
    aspect = width / height if told in ("option", "both") else None
    found = load("mediapipe", [tmp_path / "a.json"], 2, aspect=aspect)
    np.testing.assert_allclose(found.joints[0], expected, rtol=1e-5)
    assert list(found.notes) == (["aspect_differs"] if told == "both" else [])
    space = load("mediapipe", [tmp_path / "a.json"])
    assert not space.notes


@pytest.mark.parametrize("shape", SIZES)
def test_an_unknown_shape_is_told(tmp_path, shape):
    frames, _ = pictured(SIZES[shape])
    (tmp_path / "a.json").write_text(json.dumps(frames))
    found = load("mediapipe", [tmp_path / "a.json"], 2)
    (note,) = found.notes.values()
    assert list(found.notes) == [f"aspect_{shape}"]
    guess = float(re.search(r"about ([\d.]+)\)", note)[1])
    assert guess == pytest.approx(SIZES[shape][0] / SIZES[shape][1], rel=0.05)
    for frame in frames:
        del frame["pose_world_landmarks"]
    (tmp_path / "a.json").write_text(json.dumps(frames))
    assert list(load("mediapipe", [tmp_path / "a.json"], 2).notes) == ["aspect"]


def test_sets_of_several_shapes_are_warned_of(imported, tmp_path, capsys):
    for name, size in SIZES.items():
        (tmp_path / "in" / f"{name}.json").write_text(json.dumps(pictured(size)[0]))
    imported("mediapipe", channels=2)
    assert "pictures differ in shape, 1 square, 1 tall, 1 wide" in capsys.readouterr().out
    (tmp_path / "in" / "tall.json").unlink()
    content = {"frames": pictured(SIZES["square"])[0], "width": 700, "height": 700}
    (tmp_path / "in" / "square.json").write_text(json.dumps(content))
    imported("mediapipe", "other", channels=2)
    assert "pictures differ in shape, 1 wide, 1 of known shape" in capsys.readouterr().out
    imported("mediapipe", "third", channels=2, aspect="16/9")
    assert "shape" not in capsys.readouterr().out


def test_fractions_in_other_formats(tmp_path, saved):
    """YOLO and OpenPose can write them, too."""
    values = (walk(1, 8, 17, 2) - 0.5) / 3
    assert list(load(*saved(values)).notes) == ["aspect"]
    np.testing.assert_allclose(load(*saved(values), aspect=2.0).joints, values * [2, 1], rtol=1e-6)
    found = load(*saved(values, aspect=2.0))
    np.testing.assert_allclose(found.joints, values * [2, 1], rtol=1e-6)
    assert not found.notes
    with pytest.raises(ReadError, match=r"--aspect is for flat fractions of width and height, which these are not"):
        load(*saved(values * 300), aspect=2.0)


@pytest.mark.parametrize(
    ("text", "aspect"), [("16/9", 16 / 9), ("1920x1080", 16 / 9), ("4:3", 4 / 3), ("1.78", 1.78), (" 2 / 1 ", 2.0)]
)
def test_spellings_of_a_shape(text, aspect):
    assert parse_aspect(text) == pytest.approx(aspect)
    assert parse_aspect(None) is None


@pytest.mark.parametrize("text", ["", "0", "16/0", "wide", "-2", "1e9", "nan", "1/2/3", "10000"])
def test_what_is_no_shape(text):
    with pytest.raises(OptionError, match=r"--aspect .*: must be width by height"):
        parse_aspect(text)


@pytest.mark.parametrize(
    ("content", "aspect"),
    [({"width": 640, "height": 480}, 4 / 3), ({"videoWidth": 640, "videoHeight": 480}, 4 / 3),
     ({"resolution": [640, 480]}, 4 / 3), ({"aspect_ratio": 1.5}, 1.5), ({"width": 640}, None), ({}, None),
     ({"width": "640", "height": 480}, None), ({"width": 640, "height": 0}, None), ({"aspect": float("nan")}, None)],
)  # fmt: skip
def test_shapes_in_files(content, aspect):
    assert aspect_of(content) == (None if aspect is None else pytest.approx(aspect))


def test_an_import_that_asks_says_so_in_one_line(imported, tmp_path):
    np.save(tmp_path / "in" / "a.npy", np.random.default_rng(0).uniform(1, 9, (6, 4, 17, 2)))
    with pytest.raises(StoreError, match=r"can be read as npy, the first: .*--axes") as refused:
        imported("npy", layout="coco17")
    assert "\n" not in str(refused.value)
    store = imported("npy", layout="coco17", axes="tmvc")
    assert (store.index["n_frames"][0], store.skeleton) == (4 + 2, find_layout("coco17"))
