"""One label per tracked person: what each gives alone, whatever their order, under the ids of the file, over time."""

import json

import numpy as np
import pytest
import torch

from skelcl import Predictor
from skelcl.data.poses.contents import Poses
from skelcl.data.poses.formats import load as load_poses
from skelcl.skeleton import NTU25


@pytest.fixture(scope="module")
def path(tmp_path_factory, drawn_checkpoint):
    words = ["--model.encoder.hidden=8", "--model.queue_size=32"]
    return drawn_checkpoint(tmp_path_factory.mktemp("persons") / "net.ckpt", "pretrain/as_cal-nw_ucla.yaml", *words)


@pytest.fixture(scope="module")
def people(path):
    """Two people of 60 frames, (2, 60, 25, 3), who do different things, as the network sees them."""
    predictor = Predictor(path, persons=False)
    found = {}
    for position in predictor.data.parts["train"].tolist():
        joints = np.array(predictor.data.store.recording(position)[0], np.float32)
        joints = joints[np.linspace(0, len(joints) - 1, 60).astype(int)]
        if np.isfinite(joints).all():
            found.setdefault(predictor.predict(joints).label, joints)
    one, two, *_ = found.values()
    return np.stack([one, two + np.float32([1, 0, 0.5])])


def same(person, alone):
    """What a person of several does is what is seen where there is nobody else."""
    assert person.label == alone.label
    assert person.segments == alone.segments
    assert [(one.start, one.stop) for one in person.windows] == [(one.start, one.stop) for one in alone.windows]
    for one, two in zip(person.windows, alone.windows, strict=True):
        np.testing.assert_allclose(one.features, two.features, rtol=1e-4, atol=1e-5)
        assert one.top == two.top
        assert [near.id for near in one.neighbours] == [near.id for near in two.neighbours]


@pytest.mark.parametrize(("window", "fps"), [(None, None), (20, None), (20, 45)])
def test_people_side_by_side_do_what_each_does_alone(path, people, window, fps):
    predictor = Predictor(path, window=window)
    alone = [predictor.predict(one[None], fps=fps) for one in people]
    if window is None:
        assert alone[0].label != alone[1].label
    for order in ([0, 1], [1, 0]):
        found = predictor.predict(people[order], fps=fps)
        assert [(person.track, person.frames) for person in found.persons] == [("0", 60), ("1", 60)]
        for person, n in zip(found.persons, order, strict=True):
            same(person, alone[n])
    # The clip's label is that of both together, as it is without.
    without = Predictor(path, window=window, persons=False).predict(people, fps=fps)
    assert without.persons == ()
    expected = predictor.predict(people, fps=fps)
    assert without.label == expected.label
    np.testing.assert_allclose(without.windows[-1].features, expected.windows[-1].features, rtol=1e-4, atol=1e-5)


def test_one_person_does_what_the_clip_shows_and_is_not_encoded_again(path, people, monkeypatch):
    predictor = Predictor(path, window=20, stride=20)
    encoded = []
    features = Predictor.features
    monkeypatch.setattr(Predictor, "features", lambda self, clips: encoded.append(len(clips)) or features(self, clips))
    absent = np.full_like(people[:1], np.nan)
    found = predictor.predict(np.concatenate([absent, people[1:]]))
    assert encoded == [3]
    (person,) = found.persons
    assert person.windows == found.windows
    assert (person.track, person.label, person.segments) == ("1", found.label, found.segments)
    encoded.clear()
    predictor.predict(people)
    assert encoded == [9]  # in one batch with the others


def test_everybody_gets_a_label_whatever_the_network_sees_at_once(path, people):
    predictor = Predictor(path)
    assert predictor.facts.num_persons == 2
    crowd = np.concatenate([people, people + 1, people + 2])
    crowd[4, 50:] = np.nan
    crowd[0, 40:] = np.nan
    found = predictor.predict(crowd)
    assert "6 bodies; the 2 that are seen longest are kept" in found.warnings
    assert [(person.track, person.frames) for person in found.persons] == [
        *((track, 60) for track in "1235"),
        ("4", 50),
        ("0", 40),
    ]
    for person in found.persons:
        same(person, predictor.predict(crowd[int(person.track), None]))
    few = predictor.recognise(Poses(crowd), predictor.reader(max_bodies=3))
    assert [person.track for person in few.persons] == ["1", "2", "3"]


def test_a_person_who_comes_and_goes_has_the_windows_between(path, people):
    predictor = Predictor(path, window=10, stride=10)
    joints = people.copy()
    joints[1, :12] = joints[1, 28:41] = joints[1, 45:] = np.nan
    found = predictor.predict(joints)
    assert [(one.start, one.stop) for one in found.windows] == [(n, n + 10) for n in range(0, 60, 10)]
    one, two = found.persons
    assert one.windows[0].start == 0
    assert one.windows[-1].stop == 60
    assert [(each.start, each.label is None) for each in two.windows] == [
        (10, False), (20, False), (30, True), (40, False),
    ]  # fmt: skip
    assert "person 1: no frame shows a body" in two.windows[2].problem
    assert two.frames == 20
    assert (two.segments[0].start, two.segments[-1].stop) == (10, 50)
    assert [segment.label for segment in two.segments].count(None) == 1


def test_a_body_that_is_none_spoils_its_own_label_alone(path, people):
    huge = np.random.default_rng(0).normal(size=people[:1].shape).clip(-1, 1).astype(np.float32) * np.float32(3e38)
    joints = np.concatenate([people, huge])
    joints[2, 30:] = np.nan  # seen less often than the others
    found = Predictor(path).predict(joints)
    assert [person.label is None for person in found.persons] == [False, False, True]
    assert "larger than any body" in found.persons[2].windows[0].problem
    assert found.label is not None


# --- who is who -------------------------------------------------------------------------------------------------------


JOINTS = {"openpose": 18, "alphapose": 17, "coco": 17, "azure-kinect": 32}


def write_frames(folder, form, joints, numbers):
    """Files of two people, (2, T, V, 3), the one who is listed first being listed last in every other frame."""
    frames = [
        [(number, joints[n, t]) for n, number in enumerate(numbers)][:: (-1) ** t] for t in range(joints.shape[1])
    ]
    if form == "openpose":
        for t, listed in enumerate(frames):
            people = [{"person_id": [number], "pose_keypoints_2d": one.ravel().tolist()} for number, one in listed]
            (folder / f"clip_{t:03}_keypoints.json").write_text(json.dumps({"people": people}))
    elif form == "azure-kinect":
        content = [
            {"bodies": [{"body_id": number, "joint_positions": one.tolist()} for number, one in listed]}
            for listed in frames
        ]
        (folder / "clip.json").write_text(json.dumps({"frames": content}))
    else:
        key = {"alphapose": "idx", "coco": "track_id"}[form]
        content = [
            {"image_id": f"{t}.jpg", "keypoints": one.ravel().tolist(), key: number}
            for t, listed in enumerate(frames)
            for number, one in listed
        ]
        (folder / "clip.json").write_text(json.dumps(content))
    return sorted(folder.glob("*.json"))


@pytest.mark.parametrize("ids", [True, False])
@pytest.mark.parametrize("form", JOINTS)
def test_ids_of_a_file_are_kept_whoever_is_listed_first(form, ids, tmp_path):
    random = np.random.default_rng(0)
    joints = random.uniform(size=(2, 1, JOINTS[form], 3)) * [80, 80, 0] + [[[[0, 0, 1]]], [[[300, 0, 1]]]]
    files = write_frames(tmp_path, form, joints.repeat(6, 1), (7, 3) if ids else (-1, -1))
    poses = load_poses(form, files, 3 if form == "azure-kinect" else 2)
    assert poses.tracks == (("3", "7") if ids else ("0", "1"))
    places = poses.joints[:, :, :, 0] - poses.joints[:, :1, :1, 0]
    expected = joints[[1, 0] if ids else [0, 1], :, :, 0] - joints[[1, 0] if ids else [0, 1], :, :1, 0]
    scale = places[0, 0, 1] / expected[0, 0, 1]  # units and axes are another matter
    np.testing.assert_allclose(places, scale * expected.repeat(6, 1), rtol=1e-4, atol=1e-4)


def test_the_command_tells_each_person_by_the_name_in_the_file(path, people, skelcl, tmp_path, capfd):
    rows = ["frame,person,joint,x,y,z"]
    for t in range(60):
        for n, name in [(0, "anna"), (1, "ben")][:: (-1) ** t]:
            for joint, values in zip(NTU25.joints, people[n, t], strict=True):
                rows.append(f"{t},{name},{joint},{','.join(map(str, values))}")
    (tmp_path / "clip.csv").write_text("\n".join(rows))
    predictor = Predictor(path)
    alone = {"anna": predictor.predict(people[:1]), "ben": predictor.predict(people[1:])}
    words = ["predict", "--ckpt_path", path, "--input", "clip.csv", "--layout", "ntu25", "--fps", 30]
    skelcl(*words, "--output", "out.json")
    told = capfd.readouterr().out.splitlines()
    (clip,) = json.loads((tmp_path / "out.json").read_text())["clips"]
    assert [person["track"] for person in clip["persons"]] == ["ben", "anna"]  # as readers sort names
    for person in clip["persons"]:
        expected = alone[person["track"]]
        assert person["label"] == expected.label
        assert person["frames"] == 60
        assert person["windows"][0]["top"] == [one.to_dict() for one in expected.windows[0].top]
        assert not {"features", "neighbours"} & person["windows"][0].keys()
        assert [one["label"] for one in person["segments"]] == [expected.label]
        assert f"  person {person['track']}: {expected.label}, frames 0 to 59" in told
    skelcl(*words, "--output", "off.json", "--persons", "false")
    assert "person" not in capfd.readouterr().out
    (clip,) = json.loads((tmp_path / "off.json").read_text())["clips"]
    assert clip["persons"] == []


def test_what_is_unknown_is_told_of_each_person(path, people, skelcl, tmp_path, capfd):
    found = Predictor(path, unknown=1.0).predict(people)
    assert [person.unknown for person in found.persons] == [True, True]
    alone = Predictor(path, unknown=1.0).predict(people[1:])
    assert found.persons[1].windows[0].p_value == pytest.approx(alone.windows[0].p_value)
    assert all(person.unknown is None for person in Predictor(path).predict(people).persons)
    np.save(tmp_path / "clip.npy", people)
    skelcl("predict", "--ckpt_path", path, "--input", "clip.npy", "--unknown", 1, "--output", "out.json")
    assert f"  person 1: like nothing in training; nearest: {alone.label}, " in capfd.readouterr().out
    (clip,) = json.loads((tmp_path / "out.json").read_text())["clips"]
    assert [person["unknown"] for person in clip["persons"]] == [True, True]


def test_live_frames_are_judged_as_a_whole(path, people):
    predictor = Predictor(path, window=20, stride=20)
    for t in range(20):
        live = predictor.push(people[:, t])
    (window,) = predictor.predict(people[:, :20]).windows
    torch.testing.assert_close(torch.from_numpy(live.features), torch.from_numpy(window.features))
    assert not hasattr(live, "persons")
