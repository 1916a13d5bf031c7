from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from skelcl.clips import Clips
from skelcl.errors import InputError
from skelcl.skeleton import NTU25
from skelcl.transforms import Normalize, Resize, Truncate, present
from skelcl.transforms.normalize import Recipe

RECIPES = get_args(Recipe)


def slow_turn(vector: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rotation about v × target by the angle between them, element by element (Rodrigues)."""
    axis = np.cross(vector, target)
    angle = np.arccos(np.clip(vector @ target / np.linalg.norm(vector), -1, 1))
    if np.linalg.norm(axis) < 1e-6 or angle < 1e-6:
        return np.eye(3)
    x, y, z = axis / np.linalg.norm(axis)
    c, s, d = np.cos(angle), np.sin(angle), 1 - np.cos(angle)
    return np.array(
        [
            [c + x * x * d, x * y * d - z * s, x * z * d + y * s],
            [y * x * d + z * s, c + y * y * d, y * z * d - x * s],
            [z * x * d - y * s, z * y * d + x * s, c + z * z * d],
        ]
    )


def slow(recipe: str, x: np.ndarray, clips: Clips) -> np.ndarray:
    """One clip, body, frame and joint after the other, float64 (N, C, T, V, M)."""
    s = clips.skeleton
    out = np.zeros_like(x)
    for n in range(len(x)):
        frames, bodies = int(clips.frames[n]), min(int(clips.bodies[n]), clips.num_persons)
        start = int(clips.offsets[n])
        rows = clips.joints[start : start + frames * bodies].double().numpy()
        reference = clips.joints[start + int(clips.first[n])].double().numpy()
        if recipe == "sds":
            spine = reference[s.center] - reference[s.up[0]]
            matrix = slow_turn(spine, np.array([0.0, 0, 1])) / np.linalg.norm(spine)
            arm = matrix @ (reference[s.joints.index("left elbow")] - reference[s.center])
            rigid = slow_turn(np.array([arm[0], arm[1], 0.0]), np.array([1.0, 0, 0])) @ matrix
        matrix = slow_turn(reference[s.up[1]] - reference[s.up[0]], np.array([0.0, 0, 1]))
        shoulders = matrix @ (reference[s.across[0]] - reference[s.across[1]])
        matrix = slow_turn(shoulders, np.array([1.0, 0, 0])) @ matrix
        low, high = np.nanmin(rows, axis=(0, 1)), np.nanmax(rows, axis=(0, 1))
        for m in range(x.shape[4]):
            sign = 1.0
            if recipe == "stgcn50":
                aside = x[n, 2, :, s.across[0], m] - x[n, 2, :, s.across[1], m]
                sign = -1.0 if aside.sum() >= 0 else 1.0
            for t in range(x.shape[2]):
                if recipe == "hcn":
                    out[n, :, t, :, m] = x[n, :, t, :, m] - x[n, :, t, s.origin, 0][:, None]
                    continue
                if not x[n, :, t, :, m].any():
                    continue
                for v in range(x.shape[3]):
                    p = x[n, :, t, v, m]
                    if recipe == "root":
                        p = p - x[n, :, t, s.origin, m]
                    elif recipe == "sgn":
                        p = p - reference[s.origin]
                    elif recipe == "agcn":
                        p = matrix @ (p - x[n, :, t, s.origin, 0])
                    elif recipe == "sds":
                        p = rigid @ (p - reference[s.up[0]])
                    elif recipe == "stgcn50":
                        p = p - x[n, :, t, s.center, m]
                        vx, _, vz = x[n, :, t, s.across[0], m] - x[n, :, t, s.across[1], m]
                        angle = sign * np.arccos(vx / (np.sqrt(vx**2 + vz**2) + 1e-4))
                        c, i = np.cos(angle), np.sin(angle)
                        p = np.array([c * p[0] - i * p[2], p[1], i * p[0] + c * p[2]])
                    elif recipe == "ucla_minmax":
                        p = 2 * (p - low) / (high - low) - 1
                    out[n, :, t, v, m] = p
    return out


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("gaps", [False, True])
def test_recipes_equal_slow_twins(make_clips, recipe, gaps):
    clips = make_clips(gaps=gaps, num_persons=2)
    x = Resize(9)(clips)
    expected = slow(recipe, x.double().numpy(), clips)
    np.testing.assert_allclose(Normalize(recipe)(x, clips).numpy(), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_reference_of_a_late_body(still_life, recipe):
    x = Truncate(8)(still_life)
    expected = slow(recipe, x.double().numpy(), still_life)
    np.testing.assert_allclose(Normalize(recipe)(x, still_life).numpy(), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe != "hcn"])
@pytest.mark.parametrize("scale", ["none", "torso"])
def test_what_is_missing_stays_missing(make_clips, recipe, scale):
    clips = make_clips(gaps=True, num_persons=3)
    for sampler in (Truncate(50), Resize(20)):
        x = sampler(clips)
        y = Normalize(recipe, scale)(x, clips)
        assert not y.permute(0, 2, 4, 1, 3)[~present(x)].any()
        assert y.isfinite().all()


@pytest.mark.parametrize("recipe", ["none", "root", "sgn", "agcn", "ucla_minmax", "sds"])
def test_normalising_and_resampling_commute(make_clips, recipe):
    clips = make_clips(bodies=(1, 2, 2, 1, 2))
    longest = int(clips.frames.max())
    whole = Normalize(recipe)(Truncate(longest)(clips), clips)
    for n in range(len(clips)):
        length, bodies = int(clips.frames[n]), int(clips.bodies[n])
        rows = whole[n, :, :length, :, :bodies].permute(3, 1, 2, 0).reshape(-1, 25, 3)
        one = torch.zeros(1, dtype=torch.int64)
        normalised = Clips(
            rows, one, torch.tensor([length]), torch.tensor([bodies]), one, one, one, NTU25, clips.num_persons
        )
        late = Normalize(recipe)(Resize(17)(clips), clips)[n]
        torch.testing.assert_close(Resize(17)(normalised)[0], late, rtol=1e-5, atol=1e-5)


def test_root_golden_values():
    skeleton = NTU25
    zero = torch.zeros(1, dtype=torch.int64)
    clips = Clips(torch.zeros(1, 25, 3), zero, zero + 1, zero + 1, zero, zero, zero, skeleton)
    x = torch.arange(36.0).view(3, 2, 3, 2)[None]
    y = Normalize("root")(x, clips)
    assert torch.equal(y, torch.tensor([-2.0, 0.0, 2.0])[:, None].expand(1, 3, 2, 3, 2))
    assert torch.equal(Normalize("root")(y, clips), y)


def test_agcn_lays_the_shoulders_of_the_reference_along_x(make_clips):
    clips = make_clips()
    y = Normalize("agcn")(Truncate(1)(clips), clips)[:, :, 0, :, 0]
    shoulders = torch.nn.functional.normalize(y[:, :, 8] - y[:, :, 4], dim=1)
    torch.testing.assert_close(shoulders, torch.tensor([1.0, 0.0, 0.0]).expand(5, 3), rtol=0, atol=1e-5)
    assert torch.equal(y[:, :, 1], torch.zeros(5, 3))


def test_hcn_puts_the_negative_origin_where_nobody_is(make_clips):
    clips = make_clips(frames=(6, 6), bodies=(1, 2), num_persons=3)
    x = Truncate(6)(clips)
    y = Normalize("hcn")(x, clips)
    origin = x[:, :, :, NTU25.origin, 0]
    assert torch.equal(y[0, ..., 1], -origin[0, :, :, None].expand(-1, -1, 25))
    assert torch.equal(y[..., 2], -origin[..., None].expand(-1, -1, -1, 25))
    assert torch.equal(y[1, ..., 1], x[1, ..., 1] - origin[1, :, :, None])
    assert not y[:, :, :, NTU25.origin, 0].any()


def person() -> Clips:
    """One frame of a body that stands along +y and whose shoulders run along a diagonal of the floor."""
    joints = torch.zeros(1, 25, 3)
    joints[0, 0, 1], joints[0, 1, 1], joints[0, 20, 1] = 0.9, 1.2, 1.5
    joints[0, 4] = torch.tensor([0.1, 1.5, 0.1])
    joints[0, 8] = torch.tensor([-0.1, 1.5, -0.1])
    joints[0, :, 2] += 3.0
    zero = torch.zeros(1, dtype=torch.int64)
    return Clips(joints, zero, zero + 1, zero + 1, zero, zero, zero, NTU25)


def test_agcn_of_a_standing_person_points_the_trunk_up():
    clips = person()
    y = Normalize("agcn")(Truncate(1)(clips), clips)[0, :, 0, :, 0]
    torch.testing.assert_close(y[:, 0], torch.tensor([0.0, 0.0, -0.3]), rtol=0, atol=1e-6)
    torch.testing.assert_close(y[:, 8] - y[:, 4], torch.tensor([0.08**0.5, 0.0, 0.0]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_agcn_leaves_degenerate_references_alone(sign):
    clips = person()
    clips.joints.zero_()
    clips.joints[0, 0, 2] = -sign  # a trunk along ±z: no axis to turn about; shoulders of length zero
    x = Truncate(1)(clips)
    assert torch.equal(Normalize("agcn")(x, clips), x)


def test_agcn_turns_others_where_the_first_body_is_missing(still_life):
    x = Truncate(8)(still_life)
    y = Normalize("agcn")(x, still_life)
    lengths = torch.linalg.vector_norm(x[1, :, :2, :, 1], dim=0)
    assert lengths.min() > 0
    torch.testing.assert_close(torch.linalg.vector_norm(y[1, :, :2, :, 1], dim=0), lengths, rtol=1e-5, atol=1e-5)


def moved(clips: Clips, scale: float, rotation: torch.Tensor, shift: torch.Tensor) -> Clips:
    return replace(clips, joints=scale * clips.joints @ rotation.T + shift)


def test_sds_stands_the_reference_on_the_origin_whatever_the_camera(make_clips):
    clips = make_clips()
    clips = replace(clips, joints=clips.joints.double())
    y = Normalize("sds")(Truncate(7)(clips), clips)
    body = y[:, :, 0, :, 0]
    zero, one = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    torch.testing.assert_close(body[:, :, 0], torch.stack([zero, zero, zero], 1), rtol=0, atol=1e-12)
    torch.testing.assert_close(body[:, :, 20], torch.stack([zero, zero, one], 1), rtol=0, atol=1e-12)
    arm = body[:, :, 5] - body[:, :, 20]
    torch.testing.assert_close(arm[:, 1], zero, rtol=0, atol=1e-12)
    assert (arm[:, 0] > 0).all()
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    elsewhere = moved(clips, 2.7, rotation * torch.linalg.det(rotation), torch.randn(3, dtype=torch.float64))
    again = Normalize("sds")(Truncate(7)(elsewhere), elsewhere)
    torch.testing.assert_close(again, y, rtol=0, atol=1e-11)


def test_sds_leaves_a_body_without_spine_alone_and_wants_an_elbow():
    clips = person()
    clips.joints[0, [0, 20]], clips.joints[0, 5] = 0.0, torch.tensor([0.5, 0.0, 1.0])
    x = Truncate(1)(clips)
    assert torch.equal(Normalize("sds")(x, clips), x)
    names = [name for name in NTU25.joints if name != "left elbow"]
    armless = replace(clips, joints=clips.joints[:, :24], skeleton=NTU25.subset(names, "armless"))
    with pytest.raises(InputError, match="'left elbow', which skeleton 'armless' lacks"):
        Normalize("sds")(Truncate(1)(armless), armless)


def test_stgcn50_lays_the_shoulders_along_x():
    clips = person()
    y = Normalize("stgcn50")(Truncate(1)(clips), clips)[0, :, 0, :, 0]
    across = y[:, 8] - y[:, 4]
    assert across[0] == pytest.approx(0.08**0.5, rel=1e-3)
    assert abs(float(across[2])) < 0.01  # the published 1e-4 in the length leaves an angle of 0.03 rad
    assert float(y[1, 0]) == pytest.approx(-0.6)


def test_minmax_spans_the_cube_over_all_frames_and_a_flat_axis_stays_finite(make_clips):
    clips = make_clips(frames=(31,), bodies=(2,))
    y = Normalize("ucla_minmax")(Truncate(31)(clips), clips)
    torch.testing.assert_close(y.amin((0, 2, 3, 4)), torch.full((3,), -1.0))
    torch.testing.assert_close(y.amax((0, 2, 3, 4)), torch.full((3,), 1.0))
    assert torch.equal(Normalize("ucla_minmax")(Truncate(5)(clips), clips), y[:, :, :5])
    clips.joints[:, :, 2] = 7.0
    flat = Normalize("ucla_minmax")(Truncate(31)(clips), clips)
    assert torch.equal(flat[:, 2], torch.full_like(flat[:, 2], -1.0))


def test_torso_scale_makes_the_torso_one(make_clips):
    clips = make_clips()
    y = Normalize("root", "torso")(Truncate(1)(clips), clips)
    torso = torch.linalg.vector_norm(y[:, :, 0, 20, 0] - y[:, :, 0, 1, 0], dim=1)
    torch.testing.assert_close(torso, torch.ones(5))


def test_torso_of_length_zero_is_not_divided_by():
    clips = person()
    clips.joints[0, 20] = clips.joints[0, 1]
    x = Truncate(1)(clips)
    assert torch.equal(Normalize("none", "torso")(x, clips), x)


def slow_plane(recipe: str, x: np.ndarray, clips: Clips) -> np.ndarray:
    """What is left of the recipes that turn when there is no depth, angle by angle, float64 (N, 2, T, V, M)."""
    s, out = clips.skeleton, np.zeros_like(x)
    for n in range(len(x)):
        reference = clips.joints[int(clips.offsets[n]) + int(clips.first[n])].double().numpy()
        upper = s.center if recipe == "sds" else s.up[1]
        trunk = reference[upper] - reference[s.up[0]]
        angle = np.pi / 2 - np.arctan2(trunk[1], trunk[0])
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for m, t, v in np.ndindex(x.shape[4], x.shape[2], x.shape[3]):
            p = x[n, :, t, v, m]
            if not x[n, :, t, :, m].any():
                continue
            if recipe == "stgcn50":
                out[n, :, t, v, m] = p - x[n, :, t, s.center, m]
            elif recipe == "agcn":
                out[n, :, t, v, m] = turn @ (p - x[n, :, t, s.origin, 0])
            else:
                out[n, :, t, v, m] = turn @ (p - reference[s.up[0]]) / np.linalg.norm(trunk)
    return out


@pytest.mark.parametrize("recipe", ["agcn", "stgcn50", "sds"])
@pytest.mark.parametrize("gaps", [False, True])
def test_what_is_left_of_turns_in_the_plane_equals_slow_twins(make_clips, recipe, gaps):
    clips = make_clips(gaps=gaps, channels=2)
    x = Resize(9)(clips)
    normalize = Normalize(recipe)
    expected = slow_plane(recipe, x.double().numpy(), clips)
    np.testing.assert_allclose(normalize(x, clips).numpy(), expected, rtol=1e-5, atol=2e-5)
    assert normalize.planar


@pytest.mark.parametrize("recipe", ["none", "root", "sgn", "ucla_minmax", "hcn"])
def test_recipes_that_turn_nothing_do_to_each_axis_what_they_do_in_space(make_clips, recipe):
    deep = make_clips()
    flat = replace(deep, joints=deep.joints[..., :2].contiguous())
    normalize = Normalize(recipe)
    assert torch.equal(normalize(Resize(9)(flat), flat), normalize(Resize(9)(deep), deep)[:, :2])
    assert not normalize.planar


@pytest.mark.parametrize("recipe", ["agcn", "sds"])
def test_a_trunk_without_length_is_not_turned_in_the_plane(make_clips, recipe):
    clips = make_clips(channels=2, num_persons=1)
    clips.joints[:] = clips.joints[:, :1]
    x = Resize(9)(clips)
    assert Normalize(recipe)(x, clips).abs().max() < 10
    torch.testing.assert_close(Normalize("agcn")(x, clips), torch.zeros_like(x))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="recipe must be one of none, root"):
        Normalize("mean")
    with pytest.raises(ValueError, match="scale must be one of none, torso"):
        Normalize("root", "std")
