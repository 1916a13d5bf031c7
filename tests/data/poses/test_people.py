"""Several people in one clip: bodies are people, in whatever order a file lists them."""

import json

import numpy as np
import pytest

from skelcl.data.formats import pickles
from skelcl.data.import_arrays import convert_arrays
from skelcl.data.poses.formats import load
from skelcl.data.poses.people import whole
from skelcl.data.poses.tracking import in_own_places

T = 12
SWAPPED = [5, 6, 9]


def walkers(joints, channels, scale=1.0, seed=0):
    """Two people far apart who move a little, (2, T, V, C)."""
    rng = np.random.default_rng(seed)
    body = rng.uniform(0, 0.3, (2, 1, joints, channels))
    way = np.cumsum(rng.normal(0, 0.004, (2, T, 1, channels)), 1) + np.array([0.1, 0.6])[:, None, None, None]
    return (scale * (body + way)).astype(np.float32)


def listed(people, t):
    """The two people of a frame, the other one first in some frames."""
    return people[::-1, t] if t in SWAPPED else people[:, t]


def marks(person, presence=None, visibility=0.9):
    keys = "xyz"[: person.shape[-1]]
    return [
        dict(zip(keys, map(float, joint), strict=True), visibility=visibility)
        | ({} if presence is None else {"presence": presence})
        for joint in person
    ]


def same_people(found, people):
    """Whether each body is one of the people throughout, to float32."""
    for body in found:
        way = np.abs(body - people).reshape(2, -1).max(1)
        assert way.min() < 1e-5
    assert len(found) == 2


@pytest.mark.parametrize("names", [("pose_landmarks", "pose_world_landmarks"), ("landmarks", "worldLandmarks")])
@pytest.mark.parametrize("channels", [2, 3])
def test_people_of_mediapipe_are_followed_in_the_image(tmp_path, names, channels):
    """Their world landmarks look alike: both stand at the origin and take the pose of the other from time to time."""
    image, world = walkers(33, 3), walkers(33, 3, seed=1)
    world[:, ::2] = world[::-1, ::2]  # would be followed wrongly
    frames = [
        {names[0]: [marks(one) for one in listed(image, t)], names[1]: [marks(one) for one in listed(world, t)]}
        for t in range(T)
    ]
    file = tmp_path / "a.json"
    file.write_text(json.dumps(frames))
    found = load("mediapipe", [file], channels)
    same_people(found.joints, world if channels == 3 else image[..., :2])
    assert "followed from frame to frame by their landmarks in the image" in found.notes["tracking"]


def test_people_without_landmarks_in_the_image_are_followed_by_how_they_hold_themselves(tmp_path):
    world = walkers(33, 3)
    world -= world.mean(2, keepdims=True)
    frames = [{"pose_world_landmarks": [marks(one) for one in listed(world, t)]} for t in range(T)]
    (tmp_path / "a.json").write_text(json.dumps(frames))
    found = load("mediapipe", [tmp_path / "a.json"])
    same_people(found.joints, world)
    assert "world landmarks, which do not tell where anybody stands" in found.notes["tracking"]


def test_one_person_at_a_time_stays_one_body(tmp_path):
    """However far they leap, and however long they are out of sight."""
    world, image = walkers(33, 3)[0], 10 * walkers(33, 3, seed=1)[0]
    image[6:] += 100
    frames = [{"landmarks": marks(image[t]), "world_landmarks": marks(world[t])} for t in range(T)]
    frames[6:6] = [{}] * 40
    (tmp_path / "a.json").write_text(json.dumps(frames))
    for channels in (2, 3):
        found = load("mediapipe", [tmp_path / "a.json"], channels)
        assert found.joints.shape[:2] == (1, T + 40)
        assert not found.notes


@pytest.mark.parametrize("presence", [0.75, None])
def test_landmarks_without_visibility_are_seen(imported, tmp_path, presence):
    world = walkers(33, 3)[0]
    frames = [{"worldLandmarks": [marks(world[t], presence, None)], "landmarks": []} for t in range(T)]
    (tmp_path / "in" / "a.json").write_text(json.dumps(frames))
    found = load("mediapipe", [tmp_path / "in" / "a.json"])
    assert (found.confidence == (1.0 if presence is None else presence)).all()
    assert ("visibility" in found.notes) == (presence is not None)
    assert imported("mediapipe").index["flags"].tolist() == [0]


# --- numbers of persons -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3), (3.0, 3), ([3], 3), ([[3.0]], 3), ([[3.0], [3.0]], 3), ([[3.0], [4.0]], -1), ([], -1), (-1, -1),
     ([-1], -1), (None, -1), ("3", -1), (1.5, -1), (True, -1), (float("inf"), -1)],
)  # fmt: skip
def test_a_number_of_a_person_in_every_spelling(value, number):
    assert whole(value) == number


@pytest.mark.parametrize("format", ["alphapose", "coco", "openpose"])
@pytest.mark.parametrize("ids", ["good", "repeated", "none"])
def test_ids_that_repeat_within_a_frame_are_no_ids(tmp_path, format, ids):
    people = walkers(25 if format == "openpose" else 17, 2, 1000.0)
    given = {"good": [7, 3], "repeated": [0, 0], "none": [None, None]}[ids]
    persons = []
    for t in range(T):
        order = [1, 0] if t in SWAPPED else [0, 1]
        persons.append([])
        for m in order:
            flat = np.concatenate([people[m, t], np.ones((people.shape[2], 1))], -1).ravel().tolist()
            key = {"alphapose": "idx", "coco": "track_id", "openpose": "person_id"}[format]
            keypoints = "pose_keypoints_2d" if format == "openpose" else "keypoints"
            number = given[m] if t or ids != "repeated" else m  # a file may begin well
            persons[-1].append({"image_id": f"{t}.jpg", keypoints: flat, key: [[float(number)]] if number else number})
    files = [tmp_path / "a.json"]
    if format == "openpose":
        files = [tmp_path / f"a_{t:03d}_keypoints.json" for t in range(T)]
        for file, listed_ in zip(files, persons, strict=True):
            file.write_text(json.dumps({"people": listed_}))
    else:
        files[0].write_text(json.dumps([person for frame in persons for person in frame]))
    found = load(format, files)
    same_people(found.joints, people)
    told = {"good": "", "repeated": "repeats an id of a person within frame 1", "none": "has no ids of persons"}[ids]
    assert told in found.notes.get("tracking", "")
    assert bool(told) == ("tracking" in found.notes)
    if ids == "good":
        np.testing.assert_allclose(found.joints, people[::-1])  # in the order of their numbers


# --- people that have places already ----------------------------------------------------------------------------------


def slowly(joints):
    """As in_own_places: the same rule, person by person."""
    joints = joints.copy()
    places = len(joints)
    before = [None] * places

    def way(place, person):
        if person is None:
            return 0.0
        if before[place] is None or not (both := ~np.isnan(before[place] + person).any(-1)).any():
            return np.linalg.norm(np.nanmax(person, 0) - np.nanmin(person, 0))
        return np.linalg.norm(before[place] - person, axis=-1)[both].mean()

    for t in range(joints.shape[1]):
        people = [None if np.isnan(joints[m, t]).all() else joints[m, t].copy() for m in range(places)]
        while True:
            best = (0.0, 0, 0)
            for a in range(places):
                for b in range(a + 1, places):
                    stay = way(a, people[a]) + way(b, people[b])
                    cross = way(a, people[b]) + way(b, people[a])
                    if cross < 0.5 * stay:
                        best = max(best, (stay - cross, -a, -b))
            if not best[0]:
                break
            a, b = -best[1], -best[2]
            people[a], people[b] = people[b], people[a]
        for m, person in enumerate(people):
            joints[m, t] = np.nan if person is None else person
            before[m] = before[m] if person is None else person
    return joints


@pytest.mark.parametrize("seed", range(6))
def test_people_get_places_of_their_own(seed):
    rng = np.random.default_rng(seed)
    people = np.concatenate([walkers(17, 2, seed=seed), walkers(17, 2, seed=seed + 100)[:1] + 1.5])
    people[:, 1:][rng.random((3, T - 1)) < 0.15] = np.nan
    people[rng.random(people.shape[:3]) < 0.05] = np.nan
    mixed = people.copy()
    for t in range(1, T):
        mixed[:, t] = mixed[rng.permutation(3), t]
    found, changed = in_own_places(mixed)
    np.testing.assert_array_equal(found, people)
    np.testing.assert_array_equal(found, slowly(mixed))
    assert changed > 0
    again, changed = in_own_places(people)
    assert changed == 0
    assert again is people


def test_flat_poses_of_a_pickle_are_followed(tmp_path):
    """A person alone stands in the first place, as a detector lists them."""
    people = walkers(17, 2, 1000.0)
    mixed = np.stack([listed(people, t) for t in range(T)], 1)
    mixed[0, 10], mixed[1, 10] = people[1, 10], 0
    score = np.ones(mixed.shape[:3], np.float32)
    score[1, 10] = 0
    clips = [
        {"frame_dir": "a", "label": 0, "keypoint": mixed, "keypoint_score": score, "total_frames": T},
        {"frame_dir": "b", "label": 1, "keypoint": people, "keypoint_score": np.ones_like(score), "total_frames": T},
    ]
    with (tmp_path / "a.pkl").open("wb") as stream:
        pickles.dump({"split": {"train": ["a"], "val": ["b"]}, "annotations": clips}, stream)
    store = convert_arrays(tmp_path / "a.pkl", "mine", tmp_path / "data")
    first, second = (store.recording(store.position(id)) for id in ("train/a", "test/b"))
    expected = -people
    np.testing.assert_array_equal(second, expected)
    expected[0, 10] = np.nan
    np.testing.assert_array_equal(first, expected)
    assert [(one["id"], one["reason"]) for one in store.report["notices"] if one["reason"] == "tracking"] == [
        ("train/a", "tracking")
    ]
