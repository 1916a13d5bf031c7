"""Synthetic people against what must hold of people: rigid bones, two hands, one world before three cameras."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from skelcl.data.formats import nw_ucla
from skelcl.data.store import SkeletonStore, StoreError
from skelcl.data.synthetic import motion, performance
from skelcl.data.synthetic.actions import ACTIONS, DUO, SOLO
from skelcl.data.synthetic.datamodule import Synthetic
from skelcl.data.synthetic.motion import ANGLES, AT, JOINTS, Camera, Draw
from skelcl.data.synthetic.nw_ucla import nw_ucla_recordings, write_nw_ucla
from skelcl.data.synthetic.performance import cameras, film, perform, record
from skelcl.errors import InputError
from skelcl.skeleton import KINECT20, NTU25

JOINT = {name: j for j, name in enumerate(JOINTS)}


def layout(points, skeleton):
    """World points of a performance in the order of a skeleton."""
    return points[:, :, [JOINT[performance._NAMES.get(name, name)] for name in skeleton.joints]]


# --- body and kinematics


@pytest.mark.parametrize("skeleton", [NTU25, KINECT20], ids=lambda s: s.name)
@pytest.mark.parametrize("action", ACTIONS)
def test_bones_are_rigid_and_belong_to_the_subject(action, skeleton):
    child, parent = np.array(skeleton.bones).T
    lengths = []
    for replication in (1, 2):
        points = layout(perform(action, 3, replication=replication), skeleton)[:1]
        bones = np.linalg.norm(points[:, :, child] - points[:, :, parent], axis=-1)
        assert (bones > 0.02).all()
        assert np.ptp(bones, axis=1).max() < 1e-12
        lengths.append(bones[0, 0])
    np.testing.assert_allclose(lengths[0], lengths[1], atol=1e-12)


def test_subjects_differ_in_size_and_hand():
    people = [motion.subject(0, n) for n in range(40)]
    legs = [np.linalg.norm(person.bones[JOINT["left knee"]]) for person in people]
    assert max(legs) / min(legs) > 1.2
    assert 2 <= sum(person.left_handed for person in people) <= 16


def test_forward_kinematics_equals_rotation_matrices():
    """An arm by explicit 3×3 matrices in float64, for random angles."""

    def matrix(axis, degrees):
        a = np.radians(degrees)
        c, s = np.cos(a), np.sin(a)
        j, k = (axis + 1) % 3, (axis + 2) % 3
        out = np.eye(3)
        out[j, j] = out[k, k] = c
        out[j, k], out[k, j] = -s, s
        return out

    person = motion.subject(0, 5)
    angles = np.random.default_rng(0).uniform(-170, 170, (6, len(ANGLES)))
    points = motion.forward_kinematics(person.bones, angles)
    for side, sign in (("left", 1), ("right", -1)):
        for t, row in enumerate(angles):
            a = {name: row[AT[name]] for name in ANGLES}
            half = matrix(1, a["twist"] / 2) @ matrix(0, a["bow"] / 2) @ matrix(2, -a["side"] / 2)
            chest = matrix(1, a["turn"]) @ half @ half
            plane, roll = sign * a[f"{side} plane"], sign * a[f"{side} roll"]
            upper = chest @ matrix(1, plane) @ matrix(0, -a[f"{side} raise"]) @ matrix(1, -plane - roll)
            lower = upper @ matrix(0, -a[f"{side} elbow"])
            shoulder = points[t, JOINT[f"{side} shoulder"]]
            elbow = shoulder + upper @ person.bones[JOINT[f"{side} elbow"]]
            wrist = elbow + lower @ person.bones[JOINT[f"{side} wrist"]]
            np.testing.assert_allclose(points[t, JOINT[f"{side} elbow"]], elbow, atol=1e-12)
            np.testing.assert_allclose(points[t, JOINT[f"{side} wrist"]], wrist, atol=1e-12)


def test_sine_and_cosine():
    degrees = np.linspace(-1000, 1000, 4001)
    sin, cos = motion._sin_cos(degrees)
    np.testing.assert_allclose(sin, np.sin(np.radians(degrees)), atol=3e-14)
    np.testing.assert_allclose(cos, np.cos(np.radians(degrees)), atol=3e-14)


def test_interpolation_meets_its_keys_without_overshoot():
    times, values = np.array([0.0, 0.5, 1.5, 2.0]), np.array([[0.0], [3.0], [3.0], [-1.0]])
    np.testing.assert_allclose(motion.interpolate(times, values, times), values, atol=1e-12)
    curve = motion.interpolate(times, values, np.linspace(-1, 3, 400))
    assert curve.min() > -1 - 1e-12
    assert curve.max() < 3 + 1e-12
    np.testing.assert_allclose(motion.interpolate(times, values, np.linspace(0.5, 1.5, 9)), 3.0)


def test_left_handed_people_are_mirror_images():
    angles = np.random.default_rng(1).uniform(-60, 60, (20, len(ANGLES)))
    bones = motion.subject(0, 1).bones
    mirror = [JOINT[_other_side(name)] for name in JOINTS]
    left = motion.forward_kinematics(bones, motion.mirrored(angles))
    right = motion.forward_kinematics(bones, angles)
    np.testing.assert_allclose(left, right[:, mirror] * [-1.0, 1.0, 1.0], atol=1e-9)


def _other_side(name):
    side, _, rest = name.partition(" ")
    return f"{ {'left': 'right', 'right': 'left'}[side] } {rest}" if side in ("left", "right") else name


def test_the_hand_that_acts_is_the_subjects():
    """Over many takes the hand that is lifted higher is the one that the subject prefers."""
    right_handed = next(n for n in range(1, 40) if not motion.subject(0, n).left_handed)
    left_handed = next(n for n in range(1, 40) if motion.subject(0, n).left_handed)
    for number, own, other in ((right_handed, "right", "left"), (left_handed, "left", "right")):
        takes = [perform("wave", number, replication=r)[0] for r in range(20)]
        higher = [p[:, JOINT[f"{own} wrist"], 1].max() > p[:, JOINT[f"{other} wrist"], 1].max() for p in takes]
        assert np.mean(higher) >= 0.7


def test_people_stand_on_the_floor_and_walk_forwards():
    for action in SOLO:
        feet = perform(action, 2)[0][:, [JOINT["left ankle"], JOINT["right ankle"]], 1]
        np.testing.assert_allclose(feet.min(1), 0.08, atol=1e-9)
    for replication in range(6):
        walk = perform("walk around", 2, replication=replication)[0]
        hips = walk[:, JOINT["left hip"]] - walk[:, JOINT["right hip"]]
        ahead = np.stack([-hips[:, 2], hips[:, 0]], -1)  # left is +x, so ahead is +z: (x, z) → (−z, x)
        step = np.diff(walk[:, 0, [0, 2]], axis=0)
        assert np.linalg.norm(np.diff(walk[:, 0], axis=0), axis=-1).sum() > 0.6
        assert (step * ahead[1:]).sum() > 0


# --- actions


def test_two_person_actions_have_two_bodies_that_meet():
    assert len(ACTIONS) >= 12
    assert len(DUO) >= 3
    for action in ACTIONS:
        points = perform(action, 4)
        assert len(points) == (2 if action in DUO else 1)
        assert 22 <= points.shape[1] <= 120
        assert np.isfinite(points).all()
        if action in DUO:
            distance = np.linalg.norm(points[0, :, 0, ::2] - points[1, :, 0, ::2], axis=-1)
            assert 0.25 < distance.min() < 1.6


def test_every_action_differs():
    """Even when chance is the same for all, key poses or their times differ."""
    scripts = [repr([(s, p.tolist()) for s, p in script(Draw(0))]) for script in SOLO.values()]
    scripts += [repr([(s, p.tolist()) for part in script(Draw(0))[:2] for s, p in part]) for script in DUO.values()]
    assert len(set(scripts)) == len(ACTIONS)


def test_sitting_down_ends_low_and_standing_up_ends_high():
    for replication in range(5):
        down, up = (perform(a, 6, replication=replication)[0, :, 0, 1] for a in ("sit down", "stand up"))
        assert down[-1] < 0.8 * down[0]
        assert up[0] < 0.8 * up[-1]


# --- cameras and sensor


def test_views_of_a_performance_are_rigid_transforms_of_each_other():
    points = perform("throw", 1)[0]
    seen = [camera(points).reshape(-1, 3) for camera in cameras(0, 1).values()]
    for one, two in pairwise(seen):
        a, b = one - one.mean(0), two - two.mean(0)
        u, _, v = np.linalg.svd(a.T @ b)
        assert np.linalg.det(u @ v) == pytest.approx(1.0)
        np.testing.assert_allclose(a @ u @ v, b, atol=1e-9)
        assert np.linalg.norm(a - b, axis=1).mean() > 0.05


def test_camera_looks_at_people_in_front_of_it():
    camera = Camera(azimuth=0.0, distance=3.0, height=1.0, pitch=0.0)
    np.testing.assert_allclose(camera(np.array([0.2, 1.0, -0.5])), [0.2, 0.0, 2.5], atol=1e-12)
    for camera in cameras(0, 2).values():
        seen = camera(perform("drink", 3)[0])
        assert (seen[..., 2] > 1.0).all()
        assert (seen[..., 2] < 5.5).all()
        assert np.abs(seen[..., :2]).max() < 2.5
        assert (seen[:, JOINT["head"], 1] > seen[:, JOINT["left ankle"], 1]).all()
    # A person who faces camera 2 (−z) has the right hand at growing x, as Kinect reports it.
    facing = motion.turned(motion.forward_kinematics(motion.subject(0, 1).bones, np.zeros((1, len(ANGLES)))), 180.0)
    seen = Camera(0.0, 3.0, 1.0, 0.0)(facing)[0]
    assert seen[JOINT["right shoulder"], 0] > seen[JOINT["left shoulder"], 0]


def test_the_sensor_errs_by_centimetres_and_loses_frames_and_people():
    camera = Camera(0.0, 3.0, 1.0, 0.0)
    points = perform("hug", 1)
    bodies, lost, partly, errors = [], 0, 0, []
    for n in range(150):
        seen = film(points, camera, NTU25, Draw(9, n))
        assert seen.dtype == np.float32
        assert 15 <= seen.shape[1] <= points.shape[1]
        missing = np.isnan(seen).all((2, 3))
        bodies.append(len(seen))
        lost += missing.all(0).any()
        partly += len(seen) == 2 and (missing[0] != missing[1]).any()
    assert 3 < bodies.count(1) < 35
    assert 5 < lost < 40
    assert 5 < partly < 45
    still = np.broadcast_to(perform("drink", 1)[:, :1], (1, 200, 25, 3))
    for n in range(20):
        seen = film(still, camera, NTU25, Draw(8, n))[0]
        truth = layout(camera(still[:, :1]), NTU25)[0]
        errors.append(np.nanmedian(np.abs(seen - truth)))
    assert 0.003 < np.mean(errors) < 0.03


# --- determinism


def test_clips_are_the_same_in_any_company():
    alone = record("wave", 2, skeleton=NTU25, seed=7, replication=2)
    for other in ("walk around", "hug", "wave"):
        record(other, 1, skeleton=KINECT20, seed=3)
    again = record("wave", 2, skeleton=NTU25, seed=7, replication=2)
    for camera, joints in alone.items():
        assert joints.tobytes() == again[camera].tobytes()
    changed = record("wave", 2, skeleton=NTU25, seed=8, replication=2)
    assert alone[1].tobytes() != changed[1].tobytes()


def test_bits_are_pinned():
    """The same on every processor and library version; a deliberate change of the world changes this number."""
    digest = hashlib.sha256()
    for action in ACTIONS:
        for joints in record(action, 1, skeleton=NTU25).values():
            digest.update(str(joints.shape).encode() + np.where(np.isnan(joints), 0, joints).astype("<f4").tobytes())
    assert digest.hexdigest()[:16] == "ee668e9afe19081c"


# --- raw files


def test_nw_ucla_files_round_trip_and_repeat(tmp_path):
    assert write_nw_ucla(tmp_path / "a", subjects=2, episodes=1) == 60
    write_nw_ucla(tmp_path / "b", subjects=2, episodes=2)
    files = sorted((tmp_path / "a").iterdir())
    assert len(files) == 60
    assert files[0].name == "a01_s01_e00_v01.json"
    for file in files:  # a larger set holds the same files
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    for written in nw_ucla_recordings(2, 1, 0):
        (read,) = nw_ucla.read((tmp_path / "a" / f"{written.id}.json", 0, ""))
        assert (read.label, read.subject, read.camera) == (written.label, written.subject, written.camera)
        assert read.joints.shape == written.joints.shape
        assert not read.warnings
        np.testing.assert_allclose(read.joints, np.nan_to_num(written.joints), rtol=1e-5, atol=1e-6)
    store = nw_ucla.prepare([tmp_path / "a"], tmp_path / "root")
    assert len(store) == 60
    assert store.meta["classes"] == list(nw_ucla.ACTIONS.values())
    assert (np.bincount(store.index["camera"])[1:] == 20).all()


def test_nw_ucla_writer_finishes_what_was_stopped_and_spares_other_folders(tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    write_nw_ucla(whole, subjects=1, episodes=1)
    count, write = 0, nw_ucla.write_json

    def stop(folder, recording):
        nonlocal count
        if (count := count + 1) > 7:
            raise KeyboardInterrupt
        return write(folder, recording)

    target = tmp_path / "raw"
    monkeypatch.setattr(nw_ucla, "write_json", stop)
    with pytest.raises(KeyboardInterrupt):
        write_nw_ucla(target, subjects=1, episodes=1)
    assert not target.exists()
    monkeypatch.undo()
    write_nw_ucla(target, subjects=1, episodes=1)
    write_nw_ucla(target, subjects=1, episodes=1)  # again: nothing changes
    assert {f.name: f.read_bytes() for f in target.iterdir()} == {f.name: f.read_bytes() for f in whole.iterdir()}
    assert sorted(f.name for f in tmp_path.iterdir()) == ["raw", "whole"]
    for seed, subjects in ((1, 1), (0, 2)):
        with pytest.raises(InputError, match="holds other files"):
            write_nw_ucla(target, subjects=subjects, episodes=1, seed=seed)
    (target / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="holds other files"):
        write_nw_ucla(target, subjects=1, episodes=1)
    with pytest.raises(InputError, match="subjects"):
        write_nw_ucla(tmp_path / "none", subjects=0)


# --- the data module


def test_splits_are_disjoint_complete_and_follow_their_rule(tmp_path):
    sizes = {"subjects": 4, "replications": 2, "actions": ["wave", "drink", "hug"]}
    rules = {
        "xsub": lambda index: index["subject"] % 2 == 1,
        "xview": lambda index: index["camera"] != 1,
        "xset": lambda index: index["setup"] % 2 == 0,
    }
    for split, rule in rules.items():
        data = Synthetic(root=tmp_path, split=split, **sizes)
        assert len(data.store) == 4 * 2 * 3 * 3
        assert data.class_names == sizes["actions"]
        train, test = set(data.parts["train"].tolist()), set(data.parts["test"].tolist())
        assert train
        assert test
        assert not train & test
        assert len(train | test) == len(data.store)
        assert train == set(np.flatnonzero(rule(data.store.index)).tolist())
    assert len(list(tmp_path.iterdir())) == 1  # one world, three splits
    hug = data.store.index["label"] == 2
    assert set(data.store.index["n_bodies"][~hug]) == {1}
    assert 2 in data.store.index["n_bodies"][hug]
    clips = next(iter(data.train_dataloader()))
    assert clips.num_persons == 2
    assert torch.isfinite(clips.reference).all()


def test_store_repeats_and_follows_its_arguments(tmp_path):
    sizes = {"subjects": 2, "replications": 1, "actions": ["clap", "push"]}
    first = Synthetic(root=tmp_path / "a", **sizes)
    second = Synthetic(root=tmp_path / "b", **sizes)
    for file in first.store.path.iterdir():
        assert file.read_bytes() == (second.store.path / file.name).read_bytes()
    reordered = Synthetic(root=tmp_path / "a", subjects=2, replications=1, actions=["push", "clap"])
    assert reordered.store.path != first.store.path
    assert set(reordered.store.index["content"]) == set(first.store.index["content"])
    other = Synthetic(root=tmp_path / "a", layout="kinect20", **sizes)
    assert other.skeleton == KINECT20
    assert first.skeleton == NTU25
    joints = first.store.path / "joints.npy"
    whole = joints.read_bytes()
    joints.write_bytes(whole[:-100])  # a damaged store is made anew
    with pytest.raises(StoreError, match="the next run with Synthetic makes it anew"):
        SkeletonStore(first.store.path)
    Synthetic(root=tmp_path / "a", **sizes)
    assert joints.read_bytes() == whole


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subjects": 0}, "subjects must be at least 1"),
        ({"actions": ["wave", "juggle"]}, "unknown action 'juggle'"),
        ({"actions": ["wave", "wave"]}, "twice"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        Synthetic(root=tmp_path, **arguments)
    assert not list(Path(tmp_path).iterdir())


# --- difficulty


def test_raw_coordinates_neither_suffice_nor_are_void():
    """Cross-view nearest class mean of 16 resampled, root-centred frames: above chance (10 %), far below 100 %."""
    features, label, view = [], [], []
    for recording in nw_ucla_recordings(6, 2, 0):
        joints = np.nan_to_num(recording.joints[0].astype(np.float64))
        joints = joints[np.linspace(0, len(joints) - 1, 16).round().astype(int)]
        features.append((joints - joints[:, 1:2]).ravel())
        label.append(recording.label)
        view.append(recording.camera)
    x, y, test = np.array(features), np.array(label), np.array(view) == 3
    means = np.stack([x[~test & (y == c)].mean(0) for c in range(10)])
    guess = ((x[test, None] - means) ** 2).sum(-1).argmin(1)
    assert 0.2 < (guess == y[test]).mean() < 0.75
