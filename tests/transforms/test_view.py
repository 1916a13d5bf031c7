from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

import skelcl.transforms as transforms
from skelcl.errors import InputError
from skelcl.seeding import generator
from skelcl.skeleton import NTU25
from skelcl.transforms import (
    ChannelMask,
    CropResize,
    GaussianBlur,
    GaussianNoise,
    JointMask,
    Normalize,
    Resize,
    Reverse,
    Rotate,
    Shear,
    Stream,
    Truncate,
    View,
    present,
)

RANDOM = [Reverse(), Shear(), Rotate(), GaussianNoise(), GaussianBlur(), JointMask(), ChannelMask()]


def test_a_view_is_the_composition_of_its_parts(make_clips):
    clips = make_clips(gaps=True)
    view = View(CropResize(20), Normalize("sgn"), [Rotate(), Stream("bone"), GaussianNoise()])
    g = generator("views", 1, 2)
    x = Normalize("sgn")(CropResize(20)(clips, g), clips)
    for step in (Rotate(), Stream("bone"), GaussianNoise()):
        x = step(x, clips.skeleton, g)
    assert torch.equal(view(clips, generator("views", 1, 2)), x)
    assert view.frames == 20


def test_a_pair_is_one_view_of_every_clip_listed_twice(make_clips):
    """The oracle holds every clip twice, coordinates and all."""
    clips = make_clips(gaps=True)
    many, rows = len(clips), len(clips.joints)
    double = {
        name: getattr(clips, name).repeat(2) for name in ("frames", "bodies", "first", "label", "index", "repeat")
    }
    offsets = torch.cat([clips.offsets, clips.offsets + rows])
    listed = replace(clips, joints=clips.joints.repeat(2, 1, 1), offsets=offsets, **double)
    view = View(CropResize(20), Normalize("agcn", "torso"), RANDOM)
    pair = view.pair(clips, generator("views", 1))
    assert [len(x) for x in pair] == [many, many]
    assert torch.equal(torch.cat(pair), view(listed, generator("views", 1)))
    assert not torch.isclose(pair[0], pair[1]).all(4).all(3).all(2).all(1).any()
    still = View(Resize(20, 0.9), Normalize("agcn"))
    assert all(torch.equal(x, still(clips)) for x in still.pair(clips))


@pytest.mark.parametrize("kind", ["joint", "bone", "motion", "bone_motion"])
def test_the_stream_of_a_view_comes_last(make_clips, kind):
    clips = make_clips(gaps=True)
    x = View(CropResize(20), Normalize("sgn"), [GaussianNoise()])(clips, generator("views", 1))
    y = View(CropResize(20), Normalize("sgn"), [GaussianNoise()], Stream(kind))(clips, generator("views", 1))
    assert torch.equal(y, Stream(kind)(x, clips.skeleton))


def test_the_view_of_sgn64_equals_its_published_steps(make_clips):
    """Crop, resize, shift of the clip, one rotation R_z·R_y·R_x of ±0.3 rad about each axis, bones, their motion."""
    clips = make_clips(frames=(20, 90, 70), bodies=(1, 2, 2))
    degrees = 0.3 * 180 / torch.pi
    rotate = Rotate(degrees, degrees, symmetric=True)
    view = View(CropResize(64), Normalize("sgn"), [rotate], Stream("bone_motion"))
    y = view(clips, generator("views", 3))
    g = generator("views", 3)
    crop = CropResize(64).draw(clips, g)
    matrices = rotate.draw(y, g).double().numpy()
    for n, (start, length) in enumerate(zip(*(part.tolist() for part in crop), strict=True)):
        for m in range(int(clips.bodies[n])):
            first = int(clips.offsets[n])
            origin = clips.joints[first, 1].double().numpy()
            body = clips.joints[first + m * int(clips.frames[n]) :][start : start + length].double().numpy()
            u = np.clip((np.arange(64) + 0.5) * length / 64 - 0.5, 0, length - 1)
            low = np.floor(u).astype(int)
            weight = (u - low)[:, None, None]
            x = (1 - weight) * body[low] + weight * body[np.minimum(low + 1, length - 1)] - origin
            x = np.einsum("ij,tvj->itv", matrices[n], x)
            x = x - x[:, :, list(NTU25.parents)]
            x[:, :-1] = x[:, 1:] - x[:, :-1]
            x[:, -1] = 0
            np.testing.assert_allclose(y[n, ..., m].numpy(), x, atol=2e-5)
    assert np.abs(degrees * torch.pi / 180 - 0.3) < 1e-9
    assert not y[0, ..., 1].any()


def test_the_only_body_is_shown_twice_on_request(make_clips):
    clips = make_clips(gaps=True, num_persons=3)
    for normalize in (None, Normalize("sgn"), Normalize("ucla_minmax")):
        x = View(Resize(20), normalize)(clips)
        y = View(Resize(20), normalize, dup_body=True)(clips)
        for n, bodies in enumerate(clips.bodies.tolist()):
            expected = x[n].clone()
            if bodies == 1:
                expected[..., 1] = expected[..., 0]
            assert torch.equal(y[n], expected)
    with pytest.raises(InputError, match="dup_body needs num_persons"):
        View(Resize(20), dup_body=True)(make_clips(num_persons=1))


@pytest.mark.parametrize("normalize", [None, "none", "root", "sgn", "agcn", "stgcn50", "ucla_minmax"])
@pytest.mark.parametrize("sample", [Truncate(30), Resize(30), CropResize(30, min_frames=3)])
def test_shape_layout_and_absent_bodies(make_clips, sample, normalize):
    clips = make_clips(gaps=True, num_persons=3)
    view = View(sample, normalize and Normalize(normalize), RANDOM)
    x = view(clips, generator("views", 0))
    assert x.shape == (5, 3, 30, 25, 3)
    assert x.dtype == torch.float32
    assert x.permute(0, 4, 1, 2, 3).is_contiguous()
    assert x.isfinite().all()
    seen = present(x).any(1)
    for n, bodies in enumerate(clips.bodies.tolist()):
        assert not seen[n, bodies:].any()


def test_views_repeat_with_the_generator_and_differ_between_calls(make_clips):
    clips = make_clips()
    view = View(Truncate(40), Normalize("root"), RANDOM)
    g = generator("views", 7)
    first, second = view(clips, g), view(clips, g)
    assert not torch.equal(first, second)
    g = generator("views", 7)
    assert torch.equal(view(clips, g), first)
    assert torch.equal(view(clips, g), second)


def test_a_clip_does_not_depend_on_its_neighbours_in_a_deterministic_view(make_clips):
    clips = make_clips(gaps=True)
    for recipe in ("root", "sgn", "agcn", "stgcn50", "ucla_minmax"):
        view = View(Resize(16, crop=0.95), Normalize(recipe, "torso"), [Stream("bone_motion")])
        whole = view(clips)
        for n in range(len(clips)):
            torch.testing.assert_close(view(clips[torch.tensor([n])])[0], whole[n], rtol=1e-5, atol=1e-6)


def test_autocast_does_not_touch_coordinates(make_clips):
    clips = make_clips()
    view = View(Resize(16), Normalize("agcn"), [Rotate()])
    expected = view(clips, generator("views", 0))
    with torch.autocast("cpu", torch.bfloat16):
        x = view(clips, generator("views", 0))
    assert x.dtype == torch.float32
    assert torch.equal(x, expected)


def test_modules_initialise_through_a_parent_that_owns_a_view():
    parent = torch.nn.Sequential(View(Truncate(2), Normalize("root"), RANDOM))
    visited = []
    parent.apply(visited.append)
    assert {type(module) for module in visited} >= {View, Truncate, Normalize, Reverse, Shear}


YAML = """
view:
  sample:
    class_path: skelcl.transforms.CropResize
    init_args: {frames: 64, crop: [0.5, 1.0]}
  normalize:
    recipe: agcn
    scale: torso
  steps:
    - class_path: skelcl.transforms.Stream
      init_args: {kind: bone}
    - skelcl.transforms.Reverse
    - class_path: skelcl.transforms.JointMask
      init_args: {joints: [5, 15]}
"""


def test_a_view_is_built_from_yaml(make_clips):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(View, "view")
    view = parser.instantiate_classes(parser.parse_object(yaml.safe_load(YAML))).view
    assert [type(step) for step in view.steps] == [Stream, Reverse, JointMask]
    assert isinstance(view.sample, CropResize)
    assert view.normalize.recipe == "agcn"
    assert view(make_clips()).shape == (5, 3, 64, 25, 2)


def test_public_names_are_sorted_and_exist():
    assert transforms.__all__ == sorted(transforms.__all__)
    assert all(hasattr(transforms, name) for name in transforms.__all__)
