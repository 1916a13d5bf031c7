from __future__ import annotations

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

import skelcl.transforms as transforms
from skelcl.seeding import generator
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
