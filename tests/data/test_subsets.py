import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelcl.data.subsets import LabelSubset, digest, read_labels, write_labels
from skelcl.errors import InputError

RULES = ["stratified", "uniform", "shared-ranks", "first"]


def clips(n, classes):
    return np.array([f"clip {i:06d}" for i in range(n)]), np.arange(n) % classes


def drawn(ids, label, *arguments, **options):
    return set(ids[LabelSubset(*arguments, **options).draw(ids, label)].tolist())


def slow(rule, ids, label, fraction, per_class, seed):
    """The rules once more, over plain lists."""
    labelled = sorted((name, c) for name, c in zip(ids.tolist(), label.tolist(), strict=True) if c >= 0)
    classes = sorted({c for _, c in labelled})
    key = lambda name: hashlib.sha256(f"{seed} {name}".encode()).hexdigest()  # noqa: E731
    if rule == "uniform":
        return set(sorted([name for name, _ in labelled], key=key)[: int(fraction * len(labelled))])
    result = set()
    members = {c: [name for name, its in labelled if its == c] for c in classes}
    count = per_class or int(fraction * len(labelled) / len(classes))
    places = sorted(range(min(map(len, members.values()))), key=key)[:count]
    for names in members.values():
        if rule == "first":
            result.update(names[:count])
        elif rule == "shared-ranks":
            result.update(names[place] for place in places)
        else:
            result.update(sorted(names, key=key)[: per_class or max(1, round(fraction * len(names)))])
    return result


@given(
    st.sampled_from(RULES),
    st.lists(st.integers(-1, 2), min_size=24, max_size=40),
    st.sampled_from([0.2, 0.25, 0.5]),
    st.sampled_from([None, 1, 3]),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
def test_rules_equal_slow_twins_whatever_the_order(rule, label, fraction, per_class, seed, random):
    label = np.array([*label, *([0, 1, 2] * 20)])  # every class has enough clips for every amount
    ids = np.array([f"{hashlib.md5(str(n).encode()).hexdigest()[:6]} {n}" for n in range(len(label))])
    amount = {"fraction": fraction} if per_class is None or rule == "uniform" else {"per_class": per_class}
    order = random.sample(range(len(ids)), len(ids))
    expected = slow(rule, ids, label, amount.get("fraction"), amount.get("per_class"), seed)
    assert drawn(ids[order], label[order], rule, **amount, seed=seed) == expected


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
        chosen = LabelSubset("first", fraction).draw(ids, label)
        assert chosen.sum() == total
        assert set(np.bincount(label[chosen])) == {total // classes}


@pytest.mark.parametrize(("n", "total"), [(40091, 400), (37646, 376)], ids=["xsub60", "xview60"])
def test_uniform_is_not_balanced(n, total):
    ids, label = clips(n, 60)
    counts = np.bincount(label[LabelSubset("uniform", 0.01).draw(ids, label)], minlength=60)
    assert counts.sum() == total
    assert counts.min() < total // 60 < counts.max()


@pytest.mark.parametrize("count", [33, 66, 132, 264])
def test_shared_ranks_take_the_same_places_of_every_class(count):
    ids, label = clips(1000, 3)
    chosen = LabelSubset("shared-ranks", per_class=count).draw(ids, label)
    places = [np.flatnonzero(chosen[label == value]).tolist() for value in range(3)]
    assert len(places[0]) == count
    assert places[0] == places[1] == places[2] != list(range(count))


@pytest.mark.parametrize("rule", RULES)
def test_smaller_subsets_are_part_of_larger_ones(rule):
    ids, label = clips(1000, 7)
    sets = [drawn(ids, label, rule, fraction) for fraction in (0.02, 0.1, 0.5, 0.99)]
    if rule != "uniform":
        sets = [*sets, *(drawn(ids, label, rule, per_class=count) for count in (1, 33))]
    sets.sort(key=len)
    assert all(small < large for small, large in itertools.pairwise(sets))
    other = drawn(ids, label, rule, 0.1, seed=1)
    assert (other == drawn(ids, label, rule, 0.1)) == (rule == "first")


def test_every_class_keeps_a_clip_when_stratified():
    ids, label = clips(1000, 7)
    assert len(drawn(ids, label, fraction=0.001)) == 7
    assert drawn(ids, label, fraction=1.0) == set(ids.tolist())


def test_the_choice_is_pinned():
    ids, label = clips(20, 2)
    chosen = ids[LabelSubset(fraction=0.2).draw(ids, label)]
    assert chosen.tolist() == ["clip 000001", "clip 000006", "clip 000014", "clip 000017"]


@pytest.mark.parametrize(
    ("subset", "text"),
    [
        (LabelSubset(fraction=0.05), "5 % stratified, seed 0"),
        (LabelSubset("shared-ranks", per_class=33, seed=1), "33 per class shared-ranks, seed 1"),
        (LabelSubset("first", 0.125, seed=1), "12.5 % first"),
        (LabelSubset("runs/labels.txt"), "from runs/labels.txt"),
    ],
)
def test_a_subset_tells_itself(subset, text):
    assert str(subset) == text


# Lists in files


def test_a_written_list_chooses_the_same_clips(tmp_path):
    ids, label = clips(50, 5)
    chosen = LabelSubset(fraction=0.2).draw(ids, label)
    file = tmp_path / "run" / "labels.txt"
    write_labels(file, ids[chosen][::-1], "as drawn")
    first, second, *lines = file.read_text().splitlines()
    assert first == "# as drawn"
    assert lines == ids[chosen].tolist() == read_labels(file)
    assert second.endswith(hashlib.sha256("".join(f"{name}\n" for name in lines).encode()).hexdigest())
    assert second.endswith(digest(lines[::-1]))
    np.testing.assert_array_equal(LabelSubset(file).draw(ids, np.roll(label, 1)), chosen)


def test_a_list_by_hand_needs_no_comment(tmp_path):
    ids, label = clips(50, 5)
    (tmp_path / "mine.txt").write_text("clip 000003\r\n\nclip 000001")
    assert drawn(ids, label, str(tmp_path / "mine.txt")) == {"clip 000001", "clip 000003"}


@pytest.mark.parametrize("name", ["#1 wave", "# sha256 of the ids: 00", "##", "a\u2028b", "a\x0bb", "a\x85b"])
def test_every_id_survives_a_written_list(tmp_path, name):
    names = ["#0", "0", name, "clip", "winken"]
    write_labels(tmp_path / "labels.txt", names, "some")
    assert read_labels(tmp_path / "labels.txt") == sorted(names)


def test_a_list_by_hand_may_tell_comments_from_ids_by_an_empty_line(tmp_path):
    (tmp_path / "mine.txt").write_text("# a comment\n\n#1 wave\n#2\n")
    assert read_labels(tmp_path / "mine.txt") == ["#1 wave", "#2"]


def test_unusable_lists_name_the_file(tmp_path):
    ids, label = clips(50, 5)
    file = tmp_path / "labels.txt"

    def refused(message, content=None):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(InputError, match=message):
            LabelSubset(file).draw(ids, label)

    refused("labels.txt: no such file; a rule is one of stratified, uniform, shared-ranks, first")
    refused("labels.txt: cannot be read as text", b"\xff\xfe\x00")
    refused("labels.txt: lists no clip", b"# nothing\n\n")
    refused("labels.txt: clip 'clip 999999' cannot be labelled here.*1 of 2 ", b"clip 000001\nclip 999999\n")
    write_labels(file, ids[:3], "three")
    refused("labels.txt: its ids are not those that were written", file.read_bytes() + b"clip 000004\n")


# Bad amounts


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(InputError, match="fraction"):
        LabelSubset(fraction=fraction)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either fraction or per_class"),
        ({"fraction": 0.1, "per_class": 2}, "either fraction or per_class"),
        ({"rule": "uniform", "per_class": 2}, "give fraction instead"),
        ({"rule": "uniform"}, "give either"),
        ({"rule": "labels.txt", "fraction": 0.1}, "labels.txt: a file says which clips by itself"),
        ({"per_class": 0}, "per_class must be at least 1"),
    ],
)
def test_one_amount_belongs_to_a_rule(arguments, message):
    with pytest.raises(InputError, match=message):
        LabelSubset(**arguments)


@pytest.mark.parametrize("rule", ["first", "shared-ranks"])
def test_too_small_a_fraction_for_every_class_is_refused(rule):
    with pytest.raises(InputError, match="less than one for each of 10"):
        LabelSubset(rule, 0.01).draw(*clips(50, 10))


def test_a_fraction_of_less_than_one_clip_is_refused():
    with pytest.raises(InputError, match="1 % uniform, seed 0 of 50 clips is less than one"):
        LabelSubset("uniform", 0.01).draw(*clips(50, 10))


@pytest.mark.parametrize("rule", ["stratified", "first", "shared-ranks"])
def test_a_class_with_too_few_clips_is_named(rule):
    ids, label = clips(50, 5)
    with pytest.raises(InputError, match="label 4 has only 9 clips, not 10"):
        LabelSubset(rule, per_class=10).draw(ids[:49], label[:49])


def test_clips_without_classes_cannot_be_chosen():
    ids, label = clips(10, 2)
    with pytest.raises(InputError, match="no clip has a label"):
        LabelSubset(fraction=0.5).draw(ids, 0 * label - 1)
