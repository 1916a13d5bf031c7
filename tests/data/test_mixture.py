"""Several data sets at once: what a mixture gives is what its parts give alone."""

import pickle

import numpy as np
import pytest
import torch

from skelcl.data import NWUCLA, Custom, Mixture, Synthetic
from skelcl.data.batches import BalancedBatches
from skelcl.data.union import UnionStore
from skelcl.errors import InputError, OptionError
from skelcl.skeleton import KINECT20

LAYOUT = "kinect20"


@pytest.fixture(scope="module")
def parts(mixed_parts):
    return mixed_parts()


def own_clip(data, position, bodies=1):
    """One clip of a data module, (M, T, V, C)."""
    clips = data.store.clips([position], bodies)
    return clips.at(torch.arange(int(clips.frames[0]))[None])[0].numpy()


def test_clips_are_those_of_the_parts_in_one_layout(mixed_parts):
    """Whatever order they are asked for in, from workers too, mapped as the part maps them alone."""
    mixture = Mixture(mixed_parts(), layout=LAYOUT)
    alone = mixed_parts(layout=LAYOUT)
    order = np.random.default_rng(0).permutation(len(mixture.store))
    clips = pickle.loads(pickle.dumps(mixture.store)).clips(order, 1)
    assert mixture.skeleton == KINECT20
    assert (clips.skeleton, clips.index.tolist()) == (KINECT20, order.tolist())
    for n in range(0, len(order), 7):
        name, _, own = str(mixture.ids[order[n]]).partition("/")
        part = alone[name]
        position = part.store.position(own)
        one = clips[torch.tensor([n])]
        found = one.at(torch.arange(int(one.frames[0]))[None])[0].numpy()
        np.testing.assert_array_equal(found, own_clip(part, position))
        label = part.store.index["label"][position]
        assert int(one.label) == (-1 if label < 0 else mixture.class_names.index(f"{name}/{part.class_names[label]}"))
        np.testing.assert_array_equal(mixture.store.recording(order[n]), part.store.recording(position))


def test_a_device_holds_all_parts(parts):
    mixture = Mixture(parts, layout=LAYOUT, preload="device", batch_size=16)
    plain = Mixture(parts, layout=LAYOUT, preload="memory", batch_size=16)
    for given, expected in zip(mixture.train_dataloader(), plain.train_dataloader(), strict=True):
        clips = mixture.on_after_batch_transfer(given, 0)
        assert torch.equal(clips.reference, expected.reference)
        for name in ("label", "index", "frames", "bodies"):
            assert torch.equal(getattr(clips, name), getattr(expected, name))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"validation": "seen"},
        {"validation": "held-out", "validation_share": 0.4},
        {"fraction": 0.5},
        {"per_class": 1, "subset_seed": 3, "validation": "held-out"},
    ],
)
def test_a_part_is_divided_as_it_is_alone(mixed_parts, options):
    mixture = Mixture(mixed_parts(), layout=LAYOUT, **options)
    for name in mixture.mixed:
        begin = mixture.mixed[name].positions[0]
        if name != "film":
            own = mixed_parts([name], **options)[name].parts
        else:  # no clip has a label
            own = {} if mixture.label_subset else mixed_parts([name])[name].parts
        for kind in mixture.parts:
            mine = np.intersect1d(mixture.parts[kind], mixture.mixed[name].positions) - begin
            assert mine.tolist() == own.get(kind, np.array([], int)).tolist(), (name, kind)
    assert len(mixture.parts["train"]) == mixture.num_slots


def test_slots_are_those_of_the_union(parts):
    mixture = Mixture(parts, layout=LAYOUT, repeat=2, batch_size=16)
    seen = torch.cat([mixture.slots(clips) for clips in mixture.train_dataloader()])
    assert seen.sort().values.tolist() == list(range(mixture.num_slots))
    label = torch.cat([clips.label for clips in mixture.train_dataloader()])
    assert torch.equal(mixture.slot_labels()[seen], label)


def test_labels_listed_in_a_file_are_those_of_all_parts(parts, tmp_path):
    first = Mixture(parts, layout=LAYOUT, fraction=0.5)
    listed = first.ids[first.parts["train"]].tolist()
    (tmp_path / "labels.txt").write_text("\n".join(listed) + "\n")
    again = Mixture(parts, layout=LAYOUT, subset=tmp_path / "labels.txt")
    assert again.parts["train"].tolist() == first.parts["train"].tolist()


def test_label_spaces_are_kept_apart_or_joined(parts):
    apart = Mixture(parts, layout=LAYOUT)
    assert apart.class_names == [f"{name}/{one}" for name in ("ucla", "people") for one in parts[name].class_names]
    assert [len(part.labels) for part in apart.mixed.values()] == [10, 2, 0]
    two = {"one": parts["people"], "other": Synthetic(**generated(parts), actions=["throw", "walk around"])}
    joined = Mixture(two, join_classes=True)
    assert joined.class_names == parts["people"].class_names == ["walk around", "throw"]
    for name, part in two.items():
        mine = joined.mixed[name].positions
        expected = [part.class_names[label] for label in part.store.index["label"]]
        assert [joined.class_names[label] for label in joined.store.index["label"][mine]] == expected
    with pytest.raises(OptionError, match="the parts ucla and people have different classes"):
        Mixture(parts, layout=LAYOUT, join_classes=True)
    single = Mixture({name: parts[name] for name in ("film", "ucla")}, layout=LAYOUT)
    assert single.class_names == parts["ucla"].class_names


def generated(parts):
    return {"root": parts["people"].store.path.parent, "subjects": 4, "replications": 1, "layout": LAYOUT}


# How parts are drawn


@pytest.mark.parametrize("weights", [{"ucla": 1, "people": 2, "film": 1}, {"ucla": 5, "people": 1, "film": 4}, "equal"])
def test_weights_are_shares_of_an_epoch(parts, weights):
    mixture = Mixture(parts, layout=LAYOUT, weights=weights, batch_size=7)
    total = len(mixture.parts["train"])
    shares = np.array([1, 1, 1] if weights == "equal" else list(weights.values())) / (
        3 if weights == "equal" else sum(weights.values())
    )
    orders = []
    for epoch in range(3):
        batches = mixture._training_batches()
        batches.set_epoch(epoch)
        order = np.concatenate(list(batches))
        assert len(order) == total
        place = np.searchsorted(mixture.store.begins, order, "right") - 1
        assert np.all(np.abs(np.bincount(place, minlength=3) - total * shares) < 1)
        for number in range(3):  # none comes twice before all came once
            often = np.bincount(order[place == number], minlength=len(mixture.store))
            mine = np.intersect1d(mixture.parts["train"], list(mixture.mixed.values())[number].positions)
            assert np.ptp(often[mine]) <= 1
        orders.append(order.tolist())
    assert orders[0] != orders[1] != orders[2]


def test_weighted_batches_are_the_same_on_two_processes_and_after_a_resume():
    positions, label = np.arange(50), np.arange(50) % 3
    whole = BalancedBatches(positions, 10, label=label, weights=[1, 2, 5])
    halves = [BalancedBatches(positions, 5, 2, rank, label=label, weights=[1, 2, 5]) for rank in (0, 1)]
    resumed = BalancedBatches(positions, 10, label=label, weights=[1, 2, 5])
    for epoch in range(3):
        for one in (whole, *halves, resumed):
            one.set_epoch(epoch)
        expected = [batch.tolist() for batch in whole]
        assert [np.concatenate(both).tolist() for both in zip(*halves, strict=True)] == expected
        resumed.seen = lambda: 2
        assert [batch.tolist() for batch in resumed] == expected[2:]


def test_equal_weights_are_what_balanced_classes_are():
    positions, label = np.arange(47), np.arange(47) % 5
    for epoch in range(4):
        found = [BalancedBatches(positions, 8, label=label, weights=weights) for weights in (None, [3.0] * 5)]
        for one in found:
            one.set_epoch(epoch)
        assert found[0].order().tolist() == found[1].order().tolist()


# What does not fit together


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda parts: {}, {}, "parts is empty"),
        (lambda parts: {"a/b": parts["ucla"]}, {}, "a name of letters"),
        (lambda parts: {"clean": parts["ucla"]}, {}, "other than clean"),
        (lambda parts: parts, {"layout": None}, "different joints, kinect20 and mediapipe33: .*--data.layout kinect20"),
        (
            lambda parts: parts,
            {"weights": {"ucla": 1.0}},
            "weights: one for each part is wanted, for ucla, people, film",
        ),
        (lambda parts: parts, {"weights": {"ucla": 1.0, "people": -1.0, "film": 1.0}}, "weights"),
        (lambda parts: parts, {"weights": "equal", "sampling": "balanced"}, "take one of the two"),
        (lambda parts: parts, {"fps": 15.0}, "how many frames per second it has is not known"),
        (lambda parts: {"film": parts["film"]}, {"validation": "seen"}, "no part of the mixture has labels"),
    ],
)
def test_what_makes_no_sense_is_one_line(parts, change, options, message):
    with pytest.raises(InputError, match=message) as stop:
        Mixture(change(parts), **{"layout": LAYOUT, **options})
    assert "\n" not in str(stop.value)


@pytest.mark.parametrize(
    "option", [{"batch_size": 8}, {"validation": "seen"}, {"repeat": 2}, {"preload": "memory"}, {"fraction": 0.5}]
)
def test_a_part_says_nothing_that_the_mixture_says(ucla, option):
    with pytest.raises(OptionError, match=f"parts: ucla (sets {next(iter(option))}|chooses labels), which is said of"):
        Mixture({"ucla": NWUCLA(ucla, **option)})


@pytest.mark.parametrize("other", ["channels", "recipe"])
def test_stores_of_other_coordinates_do_not_mix(ucla, other):
    one, two = NWUCLA(ucla), NWUCLA(ucla)
    two.store.meta = one.store.meta | ({"channels": 2} if other == "channels" else {"recipe": "root"})
    message = "3 and 2 coordinates per joint" if other == "channels" else "normalised differently"
    with pytest.raises(InputError, match=f"the parts one and two .*{message}"):
        UnionStore({"one": one.store, "two": two.store})


def test_a_part_keeps_its_classes(ucla):
    chosen = NWUCLA(ucla, classes=["walk around", "throw"])
    mixture = Mixture({"ucla": chosen})
    for name, part in chosen.parts.items():
        assert mixture.parts[name].tolist() == part.tolist()
    assert mixture.class_names == chosen.class_names
    kept = mixture.predict_dataloader()
    assert {int(label) for clips in kept for label in clips.label} == {0, 1}


def test_a_part_keeps_its_own_layout_and_rate_where_the_mixture_has_none(mixed_parts):
    """What the mixture says stands in the place of one of them, and the other remains."""
    own = mixed_parts(["people"], layout="h36m17", fps=10)
    mixtures = [Mixture(own), Mixture(own, layout="kinect20"), Mixture(own, fps=5)]
    for mixture, layout, fps in zip(mixtures, ("h36m17", "kinect20", "h36m17"), (10, 10, 5), strict=True):
        assert (mixture.skeleton.name, mixture.store.meta["fps"]) == (layout, fps)
        expected = mixed_parts(["people"], layout=layout, fps=fps)["people"]
        position = mixture.mixed["people"].positions[4]
        np.testing.assert_array_equal(mixture.store.recording(position), expected.store.recording(4))


def test_facts_name_the_data_sets(parts):
    facts = Mixture(parts, layout=LAYOUT, weights="equal").facts
    assert facts.dataset == " + ".join(part.dataset for part in parts.values())
    assert "ucla: test_view 3" in facts.split
    assert facts.split.endswith("weights 1:1:1")
    assert type(facts).from_plain(facts.to_plain()) == facts
    other = Mixture({name: parts[name] for name in ("people", "ucla")}, layout=LAYOUT).facts
    assert other.digest != facts.digest


def test_sizes_are_told_for_each_part(parts, capsys, caplog):
    Mixture(parts, layout=LAYOUT).setup("fit")
    told = capsys.readouterr().out + capsys.readouterr().err + caplog.text
    assert isinstance(parts["film"], Custom)
    assert "film: film, train 18, test 6 clips, no labels" in told
