"""Facts of data: what a data module tells, as plain values and back, and what is refused of somebody else's values."""

import io
import re

import pytest
import torch

from skelcl.data import NWUCLA
from skelcl.data.facts import DataFacts
from skelcl.skeleton import KINECT20


@pytest.fixture(scope="module")
def data(ucla):
    return NWUCLA(ucla, test_view=2, validation="held-out", num_persons=2)


def test_a_data_module_tells_what_its_store_and_its_split_are(data):
    facts = data.facts
    assert (facts.dataset, facts.split) == ("nw-ucla", "test_view 2")
    assert (facts.skeleton, facts.channels, facts.num_persons) == (KINECT20, 3, 2)
    assert facts.class_names == tuple(data.store.meta["classes"])
    assert facts.num_classes == 10
    assert (facts.recipe, facts.units, facts.fps) == ("none", "m", data.store.meta["fps"])
    assert facts.digest == data.store.digest
    assert facts.counts == {name: len(part) for name, part in (data.parts | data.subsets).items()}
    assert facts.counts["train"] + facts.counts["query"] == facts.counts["train_all"] == 60
    told = f"nw-ucla (test_view 2; {facts.counts['train']} training and 30 test clips; sha256 {facts.digest[:6]})"
    assert str(facts) == told


def test_chosen_classes_are_the_classes(ucla):
    chosen = NWUCLA(ucla, classes=["throw", "carry"]).facts
    assert chosen.class_names == ("throw", "carry")
    assert "classes ['throw', 'carry']" in chosen.split
    assert chosen.counts["train"] == 12


def test_facts_come_back_as_they_went_and_are_a_few_kilobytes_of_plain_values(data):
    file = io.BytesIO()
    torch.save(data.facts.to_plain(), file)
    assert len(file.getvalue()) < 8192
    file.seek(0)
    assert DataFacts.from_plain(torch.load(file, weights_only=True)) == data.facts


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("dataset", None, "dataset is missing"),
        ("dataset", 3, "dataset is not a name"),
        ("split", ["xsub"], "split is not a text"),
        ("skeleton", [], "skeleton is not a layout"),
        ("skeleton", {"joints": ["a"] * 2000}, "skeleton has no list of 1 to 1000 joints"),
        ("skeleton", {"joints": ["a"]}, "skeleton: name is missing"),
        ("channels", 4, "channels is not 2 or 3"),
        ("channels", True, "channels is not 2 or 3"),
        ("num_persons", 0, "num_persons is not a number of 1 to 1000"),
        ("num_persons", 10**9, "num_persons is not a number of 1 to 1000"),
        ("classes", "abc", "classes is not a list of at most 32767 names"),
        ("classes", ["a", 1], "classes is not a list of at most 32767 names"),
        ("recipe", 1, "recipe is not a name"),
        ("fps", -30.0, "fps is not null or a positive number"),
        ("fps", float("nan"), "fps is not null or a positive number"),
        ("counts", {"train": -1}, "counts is not numbers of clips by part"),
        ("digest", "abc", "digest is not a checksum or empty"),
        ("parameters", {"a": {1: "b"}}, "parameters is not options by name"),
        ("parameters", {"a": [[[[[[[[[[[[1]]]]]]]]]]]]}, "parameters is not options by name"),
    ],
)
def test_what_are_no_facts_is_told_by_entry(data, key, value, problem):
    values = data.facts.to_plain() | {key: value}
    if value is None:
        del values[key]
    with pytest.raises(ValueError, match=f"^{re.escape(problem)}$"):
        DataFacts.from_plain(values)


def test_facts_are_entries_by_name():
    with pytest.raises(ValueError, match="no entries by name"):
        DataFacts.from_plain([1])
