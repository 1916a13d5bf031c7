"""The shapes in which people keep MediaPipe's landmarks, against one clip that is written in each of them."""

import json

import numpy as np
import pytest

from skelcl.data.poses.single import guess_format, read_clip
from skelcl.data.store import StoreError
from skelcl.errors import InputError
from skelcl.skeleton import MEDIAPIPE33

T, PIXELS = 4, 1000.0


def world(seed=0, frames=T):
    """Landmarks with the origin between the hips and a visibility, (T, 33, 4)."""
    values = np.random.default_rng(seed).uniform(0.1, 0.9, (frames, 33, 4)).round(3)
    values[..., :3] -= values[:, 23:25, :3].mean(1, keepdims=True)
    return values


def dicts(frame):
    return [dict(zip(("x", "y", "z", "visibility"), map(float, one), strict=True)) for one in frame]


def plain(frame):
    return [list(map(float, one)) for one in frame]


NAMES = [name.upper().replace(" ", "_") for name in MEDIAPIPE33.joints]
SPELT = [name.replace(" inner", " (inner)").replace(" outer", " (outer)") for name in MEDIAPIPE33.joints]
JSON = {
    "lists of objects": lambda x: [dicts(f) for f in x],
    "lists of lists": lambda x: [plain(f) for f in x],
    "persons": lambda x: [[dicts(f)] for f in x],
    "rows": lambda x: [list(map(float, f.ravel())) for f in x],
    "names": lambda x: [dict(zip(NAMES, plain(f), strict=True)) for f in x],
    "names with brackets": lambda x: {"header": {"a": 1}, "data": [dict(zip(SPELT, dicts(f), strict=True)) for f in x]},
    "places": lambda x: [{str(n): one for n, one in enumerate(dicts(f))} for f in x],
    "frames by number": lambda x: {str(9 + t): dicts(f) for t, f in enumerate(x)},
    "keypoints": lambda x: [{"timestamp": t, "keypoints": dicts(f)} for t, f in enumerate(x)],
    "keypoints3D": lambda x: [[{"score": 1.0, "keypoints3D": dicts(f)}] for f in x],
    "camel case": lambda x: [{"poseWorldLandmarks": dicts(f)} for f in x],
    "protobuf": lambda x: [{"pose_world_landmarks": {"landmark": dicts(f)}} for f in x],
    "under results": lambda x: {"results": [{"world_landmarks": [dicts(f)]} for f in x]},
}


TOLD = ("keypoints3D", "camel case", "protobuf", "under results")
"""Shapes whose keys say that landmarks lie in space."""


@pytest.mark.parametrize(("shape", "image"), [*((s, False) for s in JSON), *((s, True) for s in JSON if s not in TOLD)])
def test_json_in_every_shape_is_the_same_clip(tmp_path, shape, image):
    told = shape in TOLD
    values = world()
    if image:
        values[..., :3] = values[..., :3] * 100 + PIXELS
    (tmp_path / "clip.json").write_text(json.dumps(JSON[shape](values)))
    assert guess_format(tmp_path / "clip.json") == "mediapipe"
    found = read_clip(tmp_path / "clip.json")
    channels = 2 if image else 3
    np.testing.assert_allclose(found.joints[0], values[..., :channels] * [-1, -1, 1][:channels], rtol=1e-6)
    assert any("does not say what its landmarks are" in note for note in found.notes) is not told


def holistic(values, face=468):
    hands = np.arange(126.0) + np.arange(T)[:, None]
    return np.concatenate([values.reshape(T, 132), np.zeros((T, 3 * face)), hands], -1), hands.reshape(T, 2, 21, 3)


ARRAYS = {
    "(T, 33, 4)": lambda x: x,
    "(T, 33, 3)": lambda x: x[..., :3],
    "(T, 132)": lambda x: x.reshape(T, 132),
    "(T, 99)": lambda x: x[..., :3].reshape(T, 99),
    "(T, 1662)": lambda x: holistic(x)[0],
    "(T, 258)": lambda x: holistic(x, 0)[0],
}


@pytest.mark.parametrize("frames", [False, True], ids=["a clip", "a file per frame"])
@pytest.mark.parametrize("shape", ARRAYS)
def test_arrays_in_every_shape_are_the_same_clip(imported, tmp_path, shape, frames):
    values = world()
    array = ARRAYS[shape](values)
    folder = tmp_path / "in" / "hello"
    for clip in ("7", "8"):
        (folder / clip).mkdir(parents=True)
        for t, frame in enumerate(array if frames else ()):
            np.save(folder / clip / f"{t + 8}.npy", frame)  # 10 comes before 9 by name
        if not frames:
            np.save(folder / f"{clip}.npy", array)
    assert guess_format(folder) == "mediapipe"
    store = imported("mediapipe")
    assert store.meta["classes"] == ["hello"]
    assert store.ids.tolist() == ["hello/7", "hello/8"]
    np.testing.assert_allclose(store.recording(0)[0], values[..., :3] * [-1, -1, 1], rtol=1e-6)


def test_frames_of_a_folder_without_anybody_are_gaps(tmp_path):
    values = world()
    values[1] = 0
    for t in (0, 1, 3):
        np.save(tmp_path / f"{t}.npy", values[t].ravel())
    found = read_clip(tmp_path)
    assert np.isnan(found.joints[0]).all((1, 2)).tolist() == [False, True, True, False]


def write_wide(file, values, header):
    rows = [",".join(["up", *map(str, row)]) for row in values.reshape(T, -1)]
    file.write_text("\n".join([",".join(["class", *header]), *rows]))


def write_long(file, values, names, header="Frame,Landmark_Name,X,Y,Z,Visibility"):
    rows = [",".join(map(str, [t, names[v], *values[t, v]])) for t in range(T) for v in range(33)]
    file.write_text("\n".join([header, *rows]))


def write_side_by_side(file, values):
    rows = [",".join(map(str, [t, *(x for v in range(33) for x in (v, *values[t, v]))])) for t in range(T)]
    file.write_text("\n".join(["Frame,Landmark,X,Y,Z,Visibility", *rows]))


TABLES = {
    "x1": lambda f, x: write_wide(f, x, [f"{a}{v}" for v in range(1, 34) for a in "xyzv"]),
    "x0": lambda f, x: write_wide(f, x, [f"{a}{v}" for v in range(33) for a in "xyzv"]),
    "names": lambda f, x: write_wide(f, x, [f"{n}_{a}" for n in NAMES for a in ("x", "y", "z", "visibility")]),
    "Landmark_Name": lambda f, x: write_long(f, x, NAMES),
    "LandmarkID": lambda f, x: write_long(f, x, range(33), "Frame,LandmarkID,X,Y,Z,Visibility"),
    "Landmark_X": lambda f, x: write_long(f, x, range(33), "Frame,Landmark_ID,Landmark_X,Landmark_Y,Landmark_Z,v"),
    "side by side": write_side_by_side,
}


@pytest.mark.parametrize("shape", TABLES)
def test_tables_in_every_shape_are_the_same_clip(tmp_path, shape):
    values = world()
    TABLES[shape](tmp_path / "clip.csv", values)
    assert guess_format(tmp_path / "clip.csv") == "mediapipe"
    found = read_clip(tmp_path / "clip.csv")
    np.testing.assert_allclose(found.joints[0], values[..., :3] * [-1, -1, 1], rtol=1e-5)


def test_tables_of_other_joints_stay_tables(tmp_path):
    (tmp_path / "clip.csv").write_text("frame,hip_x,hip_y,nose_x,nose_y\n0,1,2,3,4\n")
    assert guess_format(tmp_path / "clip.csv") == "csv"
    np.save(tmp_path / "clip.npy", np.ones((4, 17, 3)))
    assert guess_format(tmp_path / "clip.npy") == "npy"


def test_a_table_beside_json_is_no_clip(imported, tmp_path):
    (tmp_path / "in" / "a.json").write_text(json.dumps(JSON["camel case"](world())))
    (tmp_path / "in" / "notes.csv").write_text("who,when\n1,2\n")
    assert imported("mediapipe").ids.tolist() == ["a"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            [{"pose": [1, 2], "time": 3}],
            "(its keys are 'pose', 'time'; looked for world_landmarks, landmarks, keypoints",
        ),
        ([{"landmarks": {"elbow": 1, "b": 2}}], "its keys are 'elbow', 'b', no names or places of landmarks"),
        ([[1, 2, 3, 4, 5, 6, 7]], "a row of 7 numbers is not 33 landmarks"),
        ([{"landmarks": 3}], "landmarks is 3, no list"),
        ("text", "holds no list of frames"),
    ],
)
def test_a_refusal_says_what_was_found_and_what_was_looked_for(tmp_path, content, message):
    (tmp_path / "clip.json").write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        read_clip(tmp_path / "clip.json", "mediapipe")
    assert message in str(caught.value)


@pytest.mark.parametrize("shape", [(4, 31, 3), (4, 33, 7), (4,)])
def test_arrays_of_other_shapes_are_refused_by_their_shape(tmp_path, shape):
    np.save(tmp_path / "clip.npy", np.ones(shape))
    with pytest.raises(InputError, match=r"landmarks are \(.*4.*not \(T, 33, 3 or 4\)"):
        read_clip(tmp_path / "clip.npy", "mediapipe")


def test_arrays_in_the_image_are_not_taken_as_3d(imported, tmp_path):
    np.save(tmp_path / "in" / "a.npy", world() + 1)
    with pytest.raises(StoreError, match=r"landmarks in the image.*--channels 2"):
        imported("mediapipe", channels=3)


# --- hands ------------------------------------------------------------------------------------------------------------


def hand(seed):
    return np.random.default_rng(seed).uniform(10, 90, (T, 21, 3)).round(3)


def test_hands_of_openpose_are_bodies_left_and_right(imported, tmp_path):
    left, right = hand(0), hand(1)
    left[..., 2] = right[..., 2] = 0.9
    for t in range(T):
        person = {"pose_keypoints_2d": [1.0] * 75, "hand_left_keypoints_2d": left[t].ravel().tolist()}
        person |= {"hand_right_keypoints_2d": right[t].ravel().tolist()} if t else {}
        (tmp_path / "in" / f"clip_{t:03d}_keypoints.json").write_text(json.dumps({"people": [person]}))
    store = imported("openpose", layout="hand21")
    np.testing.assert_allclose(store.recording(0)[0], -left[..., :2])
    np.testing.assert_allclose(store.recording(0)[1][1:], -right[1:, :, :2])


@pytest.mark.parametrize("kind", ["sides", "multi", "holistic"])
def test_hands_of_mediapipe_are_bodies(tmp_path, kind):
    left, right = hand(0), hand(1) + 500
    if kind == "holistic":
        array, hands = holistic(world())
        np.save(tmp_path / "clip.npy", array)
        found = read_clip(tmp_path / "clip.npy", "mediapipe", layout="hand21")
        np.testing.assert_allclose(found.joints, -hands.transpose(1, 0, 2, 3)[..., :2])
        return
    frames = []
    for t in range(T):
        both = [[dict(zip("xyz", one, strict=True)) for one in side[t].tolist()] for side in (left, right)]
        frames.append({"multi_hand_landmarks": both} if kind == "multi" else
                      {"left_hand_landmarks": both[0], "right_hand_landmarks": both[1]})  # fmt: skip
    (tmp_path / "clip.json").write_text(json.dumps(frames))
    found = read_clip(tmp_path / "clip.json", "mediapipe", layout="hand21")
    np.testing.assert_allclose(found.joints, -np.stack([left, right])[..., :2], rtol=1e-6)
