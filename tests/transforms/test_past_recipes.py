"""Clips that were normalised before they were imported are not normalised twice."""

from dataclasses import replace

import pytest
import torch

from skelcl.errors import InputError
from skelcl.transforms.normalize import Normalize
from skelcl.transforms.resample import Resize, Truncate


def gone_through(clips, recipe):
    """The same clips as a store of already normalised coordinates holds them; all of one length and body count."""
    x = Normalize(recipe)(Truncate(int(clips.frames.max()))(clips), clips)
    rows = x.permute(0, 4, 2, 3, 1).flatten(0, 2)
    sizes = clips.frames * clips.bodies
    return replace(clips, joints=rows, offsets=sizes.cumsum(0) - sizes, recipe=recipe)


@pytest.fixture
def clips(make_clips):
    return make_clips(frames=(12, 12, 12), bodies=(2, 2, 2))


@pytest.mark.parametrize("recipe", ["root", "agcn", "stgcn50", "ucla_minmax"])
def test_every_recipe_is_blind_to_the_shift_of_sgn(clips, recipe):
    ours = gone_through(clips, "sgn")
    once, twice = (Normalize(recipe)(Resize(9)(c), c) for c in (clips, ours))
    torch.testing.assert_close(twice, once, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recipe", ["root", "sgn", "agcn", "stgcn50", "ucla_minmax"])
@pytest.mark.parametrize("asked", ["none", "same"])
def test_the_same_recipe_and_none_change_nothing(clips, recipe, asked):
    ours = gone_through(clips, recipe)
    x = Resize(9)(ours)
    assert torch.equal(Normalize(recipe if asked == "same" else "none")(x, ours), x)


@pytest.mark.parametrize(
    ("past", "asked"),
    [("agcn", "sgn"), ("agcn", "root"), ("stgcn50", "agcn"), ("root", "sgn"), ("sgn", "hcn"), ("ucla_minmax", "root")],
)
def test_a_recipe_that_needs_what_is_lost_is_refused(clips, past, asked):
    ours = gone_through(clips, past)
    with pytest.raises(InputError, match=f"{past!r}.*{asked!r}.*prepare a store from raw files"):
        Normalize(asked)(Resize(9)(ours), ours)
