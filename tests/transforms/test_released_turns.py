"""Which way the recipes turn people: the released arithmetic, step by step, and people whose turn is known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skelcl.clips import Clips
from skelcl.skeleton import LAYOUTS, NTU25, Skeleton
from skelcl.transforms import Normalize, Truncate

PEOPLE = [layout for layout in LAYOUTS.values() if "right shoulder" in layout.joints]
"""Layouts of whole people; hands have no shoulders that a recipe could turn."""


def clip(bodies: np.ndarray, skeleton: Skeleton) -> Clips:
    """One clip of the bodies (M, T, V, 3), as a store has it."""
    joints = torch.from_numpy(bodies.reshape(-1, *bodies.shape[2:]))
    zero = torch.zeros(1, dtype=torch.int64)
    return Clips(joints, zero, zero + bodies.shape[1], zero + len(bodies), zero, zero, zero, skeleton, len(bodies))


def angle_between(v: np.ndarray, target: np.ndarray) -> float:
    if np.abs(v).sum() < 1e-6:
        return 0.0
    return float(np.arccos(np.clip(v / np.linalg.norm(v) @ target, -1.0, 1.0)))


def rotation_matrix(axis: np.ndarray, theta: float) -> np.ndarray:
    """Counter-clockwise about the axis by theta, from the four numbers of Euler and Rodrigues."""
    if np.abs(axis).sum() < 1e-6 or abs(theta) < 1e-6:
        return np.eye(3)
    a = np.cos(theta / 2)
    b, c, d = axis / np.linalg.norm(axis) * np.sin(theta / 2)
    return np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )


def released(bodies: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """The recipe of 2s-AGCN: body 0's origin is subtracted frame by frame, its trunk turned to z, its shoulders to x.

    The joints are called by their names, and the vector of the shoulders is that of joint 8 minus joint 4 of NTU.
    """
    right, left = (skeleton.joints.index(f"{side} shoulder") for side in ("right", "left"))
    out = bodies - bodies[:1, :, skeleton.origin : skeleton.origin + 1]
    trunk = out[0, 0, skeleton.up[1]] - out[0, 0, skeleton.up[0]]
    z, x = np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0])
    out = out @ rotation_matrix(np.cross(trunk, z), angle_between(trunk, z)).T
    shoulders = out[0, 0, right] - out[0, 0, left]
    return out @ rotation_matrix(np.cross(shoulders, x), angle_between(shoulders, x)).T


def person(yaw: float, lean: float, tilt: float, skeleton: Skeleton) -> np.ndarray:
    """One frame of a body in camera space, (1, 1, V, 3): y up, z away; at yaw 0 it faces the camera.

    It stands straight, then leans back, then tilts to its right, then turns to its left, by angles in radians.
    """
    rng = np.random.default_rng(0)
    joints = rng.normal(0, 0.1, (skeleton.num_joints, 3))
    lower, upper = skeleton.up
    right, left = (skeleton.joints.index(f"{side} shoulder") for side in ("right", "left"))
    joints[lower], joints[upper] = (0.0, 0.9, 0.0), (0.0, 1.2, 0.0)
    joints[right], joints[left] = (0.2, 1.5, 0.0), (-0.2, 1.5, 0.0)
    if upper in (right, left):  # a layout without a trunk has a shoulder for its end
        joints[lower] = joints[upper] - (0.0, 0.5, 0.0)
    x, y, z = np.eye(3)
    matrix = rotation_matrix(y, yaw) @ rotation_matrix(z, -tilt) @ rotation_matrix(x, lean)
    return (joints @ matrix.T + (0.3, 0.0, 3.0))[None, None]


@pytest.mark.parametrize("skeleton", PEOPLE, ids=lambda s: s.name)
@pytest.mark.parametrize("seed", range(3))
def test_agcn_is_the_released_arithmetic_in_every_layout(skeleton, seed):
    rng = np.random.default_rng(seed)
    bodies = rng.normal(size=(2, 5, skeleton.num_joints, 3))
    clips = clip(bodies, skeleton)
    ours = Normalize("agcn")(Truncate(5)(clips), clips)[0].permute(3, 1, 2, 0).numpy()
    np.testing.assert_allclose(ours, released(bodies, skeleton), rtol=0, atol=1e-10)


def test_agcn_of_a_person_who_faces_the_camera_by_hand():
    body = np.zeros((1, 1, 25, 3))
    body[..., 2] = 3.0
    body[0, 0, 0], body[0, 0, 1], body[0, 0, 3] = (0.0, 0.9, 3.0), (0.0, 1.2, 3.0), (0.0, 1.7, 2.9)
    body[0, 0, 8], body[0, 0, 4] = (0.2, 1.5, 3.0), (-0.2, 1.5, 3.0)
    clips = clip(body, NTU25)
    y = Normalize("agcn")(Truncate(1)(clips), clips)[0, :, 0, :, 0].T.numpy()
    # A quarter turn about x takes (x, y, z) to (x, −z, y); the shoulders then lie along x already.
    np.testing.assert_allclose(y[8], (0.2, 0.0, 0.3), atol=1e-12)
    np.testing.assert_allclose(y[4], (-0.2, 0.0, 0.3), atol=1e-12)
    np.testing.assert_allclose(y[0], (0.0, 0.0, -0.3), atol=1e-12)
    np.testing.assert_allclose(y[3], (0.0, 0.1, 0.5), atol=1e-12)  # the head is ahead of the trunk: +y is ahead


def test_agcn_of_a_person_seen_from_its_right_by_hand():
    body = np.zeros((1, 1, 25, 3))
    body[0, 0, :, 2] = 3.0
    body[0, 0, 0], body[0, 0, 1] = (0.0, 0.9, 3.0), (0.0, 1.2, 3.0)
    body[0, 0, 8], body[0, 0, 4] = (0.0, 1.5, 2.8), (0.0, 1.5, 3.2)
    body[0, 0, 12] = (0.5, 0.2, 2.9)
    clips = clip(body, NTU25)
    y = Normalize("agcn")(Truncate(1)(clips), clips)[0, :, 0, :, 0].T.numpy()
    # The quarter turn puts the right shoulder at (0, 0.2, 0.3); another one about −z takes (x, y) to (y, −x).
    np.testing.assert_allclose(y[8], (0.2, 0.0, 0.3), atol=1e-12)
    np.testing.assert_allclose(y[4], (-0.2, 0.0, 0.3), atol=1e-12)
    np.testing.assert_allclose(y[12], (0.1, -0.5, -1.0), atol=1e-12)


ANGLE = st.floats(-0.35, 0.35)


@given(yaw=st.floats(-1.2, 1.2), lean=ANGLE, tilt=ANGLE)
@pytest.mark.parametrize("skeleton", PEOPLE, ids=lambda s: s.name)
def test_who_faces_the_camera_is_turned_less_than_a_quarter_and_stays_upright(skeleton, yaw, lean, tilt):
    body = person(yaw, lean, tilt, skeleton)
    clips = clip(body, skeleton)
    y = Normalize("agcn")(Truncate(1)(clips), clips)[0, :, 0, :, 0].T.numpy()
    # What turned the body is found from where its joints came to lie, without its first step, which is c of the recipe.
    joints = body[0, 0] - body[0, 0, skeleton.origin]
    whole = np.linalg.lstsq(joints, y, rcond=None)[0].T
    trunk = joints[skeleton.up[1]] - joints[skeleton.up[0]]
    z = np.array([0.0, 0.0, 1.0])
    second = whole @ rotation_matrix(np.cross(trunk, z), angle_between(trunk, z)).T
    assert np.degrees(np.arccos(np.clip((np.trace(second) - 1) / 2, -1, 1))) < 90
    assert (y[skeleton.up[1]] - y[skeleton.up[0]])[2] > 0.5 * np.linalg.norm(trunk)


@pytest.mark.parametrize("skeleton", PEOPLE, ids=lambda s: s.name)
@pytest.mark.parametrize("yaw", [-2.8, -1.0, 0.0, 1.0, 2.8])
def test_stgcn50_turns_the_right_shoulder_to_x(skeleton, yaw):
    clips = clip(person(yaw, 0.1, 0.1, skeleton), skeleton)
    y = Normalize("stgcn50")(Truncate(1)(clips), clips)[0, :, 0, :, 0].T.numpy()
    right, left = (skeleton.joints.index(f"{side} shoulder") for side in ("right", "left"))
    ahead, _, aside = y[right] - y[left]
    assert ahead > 0.3
    assert abs(aside) < 0.03  # the published 1e-4 in the length leaves a small angle
