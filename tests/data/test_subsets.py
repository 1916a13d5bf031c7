import itertools

import numpy as np
import pytest

from skelcl.data.subsets import first_per_class, stratified
from skelcl.errors import InputError


def clips(n, classes):
    return np.array([f"clip {i:06d}" for i in range(n)]), np.arange(n) % classes


@pytest.mark.parametrize(
    ("n", "classes", "totals"),
    [
        (40091, 60, (360, 3960, 20040)),
        (37646, 60, (360, 3720, 18780)),
        (63026, 120, (600, 6240, 31440)),
        (54468, 120, (480, 5400, 27120)),
    ],
    ids=["xsub60", "xview60", "xsub120", "xset120"],
)
def test_sizes_of_the_semi_supervised_subsets_of_as_cal(n, classes, totals):
    ids, label = clips(n, classes)
    for fraction, total in zip((0.01, 0.1, 0.5), totals, strict=True):
        chosen = first_per_class(ids, label, fraction)
        assert chosen.sum() == total
        assert set(np.bincount(label[chosen])) == {total // classes}


def test_first_per_class_takes_the_first_names_whatever_their_order():
    ids, label = clips(50, 5)
    chosen = first_per_class(ids, label, 0.2)
    assert ids[chosen].tolist() == ids[:10].tolist()
    order = np.random.default_rng(0).permutation(50)
    assert set(ids[order][first_per_class(ids[order], label[order], 0.2)]) == set(ids[chosen])


def test_stratified_sizes_nesting_and_independence_of_order():
    ids, label = clips(1000, 7)
    sets = [set(ids[stratified(ids, label, fraction)]) for fraction in (0.001, 0.02, 0.1, 0.5, 1.0)]
    assert all(small < large for small, large in itertools.pairwise(sets))
    assert len(sets[0]) == 7
    for value in range(7):
        n = int((label == value).sum())
        assert int((stratified(ids, label, 0.1) & (label == value)).sum()) == round(0.1 * n)
    order = np.random.default_rng(0).permutation(1000)
    assert set(ids[order][stratified(ids[order], label[order], 0.1)]) == sets[2]
    assert set(ids[stratified(ids, label, 0.1, seed=1)]) != sets[2]


def test_the_choice_is_pinned():
    ids, label = clips(20, 2)
    chosen = ids[stratified(ids, label, 0.2)]
    assert chosen.tolist() == ["clip 000001", "clip 000006", "clip 000014", "clip 000017"]


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(InputError, match="fraction"):
        stratified(*clips(10, 2), fraction)


def test_too_small_a_fraction_for_every_class_is_refused():
    with pytest.raises(InputError, match="less than one"):
        first_per_class(*clips(50, 10), 0.01)
