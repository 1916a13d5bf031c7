"""Chosen classes, and classes of unequal size: which clips are seen how often, and what each counts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from skelcl.commands.evaluate import evaluate
from skelcl.data import NWUCLA
from skelcl.data.batches import BalancedBatches
from skelcl.data.subsets import choose_classes
from skelcl.encoders import LSTM
from skelcl.errors import InputError
from skelcl.evaluation.knn import KNNOptions
from skelcl.methods import Supervised
from skelcl.skeleton import KINECT20
from skelcl.transforms import Truncate, View

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
QUICK = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--data.batch_size=8"]
QUICK += [f"--trainer.{name}=false" for name in ("enable_progress_bar", "enable_model_summary")]
RUNS = {
    "pretrain/as_cal-nw_ucla": ["--model.encoder.hidden=8", "--model.queue_size=16"],
    "supervised/hcn-nw_ucla": ["--model.encoder.hidden=8", "--model.encoder.points=16", "--trainer.precision=32-true"],
}
CHOSEN = ["doffing", "sit down", "throw"]


def test_labels_are_renumbered_in_the_order_of_the_store():
    names, label = choose_classes(["a", "b", "c", "d"], np.array([0, 1, 2, 3, -1, 3], np.int16), ["d", "b"])
    assert names == ["b", "d"]
    assert label.tolist() == [-1, 0, -1, 1, -1, 1]
    assert label.dtype == np.int16


@pytest.mark.parametrize(
    ("chosen", "told"),
    [(["a", "wabe"], "no class 'wabe': did you mean 'wave'"), (["a", "a"], "different classes"), ([], "at least one")],
)
def test_a_wrong_choice_is_one_line(chosen, told):
    with pytest.raises(InputError, match=told):
        choose_classes(["a", "wave"], np.zeros(2, int), chosen)


@pytest.mark.parametrize("validation", ["none", "seen", "held-out"])
def test_other_classes_are_in_no_part(root, validation):
    whole = NWUCLA(root)
    chosen = [whole.class_names[3], whole.class_names[1]]
    data = NWUCLA(root, classes=chosen, validation=validation, predict_split="all")
    assert (data.class_names, data.num_classes) == (chosen[::-1], 2)
    label = whole.store.index["label"]
    for name, part in data.parts.items():
        assert set(label[part]) == {1, 3}, name
    assert data.parts["train_all"].tolist() == [n for n in whole.parts["train_all"] if label[n] in (1, 3)]
    assert data.parts["test"].tolist() == [n for n in whole.parts["test"] if label[n] in (1, 3)]
    for loader in (data.train_dataloader(), *data.test_dataloader(), data.predict_dataloader()):
        for clips in loader:
            assert clips.label.tolist() == [{1: 0, 3: 1}[one] for one in label[clips.index].tolist()]
    assert data.unlabelled == {"train": 0, "test": 0}
    assert sum(len(clips) for clips in data.predict_dataloader()) == np.isin(label, [1, 3]).sum()
    clean = set(whole.subsets["test_clean"].tolist())
    assert set(data.subsets["test_clean"].tolist()) == clean & set(data.parts["test"].tolist())


@pytest.mark.parametrize("run", RUNS)
def test_a_run_on_chosen_classes_goes_through_every_verb(skelcl, ucla, run, capsys):
    names = [name for name in NWUCLA(ucla).class_names if name in CHOSEN]
    assert len(names) == 3
    given_ = f"--data.classes={json.dumps(CHOSEN)}"
    skelcl("fit", "--config", EXPERIMENTS / f"{run}.yaml", f"--data.root={ucla}", given_, *QUICK, *RUNS[run])
    checkpoint = next(Path("runs").rglob("last.ckpt"))
    skelcl("test", "--ckpt_path", checkpoint)
    (record,) = Path("runs").rglob("results.json")
    content = json.loads(record.read_text())
    assert content["classes"] == content["run"]["data"]["classes"] == 3
    assert content["query_clips"]["test"] == 9
    table = (record.parent / "per_class.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table[1:]] == names
    with np.load(record.parent / "scores.npz") as scores:
        assert scores["logits"].shape == (9, 3)
        assert scores["class_names"].tolist() == names
    found = evaluate(checkpoint, "knn,linear", 0, Path("found"), knn=KNNOptions((1,)))
    assert set(found.features["learned"][1].label.tolist()) == {0, 1, 2}
    others = f"--data.classes={json.dumps(['carry', *names[1:]])}"
    told = f"its classifier was trained on other classes: label 0 is {names[0]!r} there and {names[1]!r} here"
    verbs = [("test",), ("fit", "--trainer.max_epochs=2")]
    if "supervised" not in run:
        skelcl("test", "--ckpt_path", checkpoint, others)  # judged by neighbours, which have the other classes, too
        verbs = []
    for verb, *words in verbs:
        with pytest.raises(SystemExit) as stop:
            skelcl(verb, "--ckpt_path", checkpoint, others, *words)
        assert stop.value.code == 1
        assert told in capsys.readouterr().err.splitlines()[-1]
    if verbs:
        skelcl("test", "--ckpt_path", checkpoint, others, "--data.accept_changed=true")


sizes = st.lists(st.integers(1, 12), min_size=1, max_size=5)


def balanced(counts, batch, ranks, epoch, drop_last=False):
    label = np.repeat(np.arange(len(counts)) * 3, counts)
    parts = []
    for rank in range(ranks):
        sampler = BalancedBatches(np.arange(len(label)) + 100, batch, ranks, rank, drop_last, label=label)
        sampler.set_epoch(epoch)
        parts.append([one.tolist() for one in sampler])
        assert len(sampler) == len(parts[-1])
    return label, parts


@given(counts=sizes, batch=st.integers(1, 9), epoch=st.integers(0, 3))
def test_every_class_is_shown_equally_often_and_its_clips_in_turn(counts, batch, epoch):
    label, (batches,) = balanced(counts, batch, 1, epoch)
    shown = np.concatenate(batches) - 100
    assert len(shown) == len(label)
    per_class = np.array([(label[shown] == one).sum() for one in np.unique(label)])
    assert per_class.max() - per_class.min() <= 1
    times = np.bincount(shown, minlength=len(label))
    for one in np.unique(label):
        assert np.ptp(times[label == one]) <= 1


@given(counts=sizes, batch=st.integers(1, 9), ranks=st.integers(2, 3), epoch=st.integers(0, 3))
def test_ranks_see_together_what_one_process_sees(counts, batch, ranks, epoch):
    _, (whole,) = balanced(counts, batch * ranks, 1, epoch)
    _, parts = balanced(counts, batch, ranks, epoch)
    for n, expected in enumerate(whole):
        assert [clip for part in parts for clip in part[n]][: len(expected)] == expected


def test_the_balanced_order_depends_on_seed_and_epoch_alone_and_goes_on(monkeypatch):
    _, first = balanced([9, 2, 1], 4, 1, 0)
    torch.manual_seed(5)
    assert balanced([9, 2, 1], 4, 1, 0)[1] == first
    assert balanced([9, 2, 1], 4, 1, 1)[1] != first
    label = np.repeat([0, 3, 6], [9, 2, 1])
    sampler = BalancedBatches(np.arange(12) + 100, 4, label=label)
    sampler.seen = lambda: 2
    assert [one.tolist() for one in sampler] == first[0][2:]
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert balanced([9, 2, 1], 4, 1, 0)[1] != first


def test_the_data_module_shows_repeats_of_all_classes(root):
    data = NWUCLA(root, sampling="balanced", repeat=2, batch_size=10)
    seen = [clips for clips in data.train_dataloader()]
    label = torch.cat([clips.label for clips in seen])
    assert set(label.bincount().tolist()) == {20}
    assert set(torch.cat([clips.repeat for clips in seen]).tolist()) == {0, 1}


def weighted(counts, **options):
    method = Supervised(LSTM(KINECT20, hidden=4), View(Truncate(4)), View(Truncate(4)), len(counts), **options)
    label = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))

    class Data:
        validation, class_names, skeleton, channels, num_persons, repeat = "none", "abc", KINECT20, 3, 1, 1

        def slot_labels(self):
            return label

        def slots(self, clips):
            return clips.index

    class Trainer:
        datamodule = Data()

    method._trainer = Trainer()
    method.setup("fit")
    return method, label


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_class_weights_are_those_of_scikit_learn_and_of_a_sum_by_hand(smoothing):
    from sklearn.utils.class_weight import compute_class_weight

    method, label = weighted([6, 3, 1], class_weights="balanced", label_smoothing=smoothing)
    expected = torch.from_numpy(compute_class_weight("balanced", classes=np.arange(3), y=label.numpy()))
    logits = torch.randn(10, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target = F.one_hot(label, 3) * (1 - smoothing) + smoothing / 3
    by_hand = sum(
        expected[c] * -(t * row.log_softmax(0)).sum() for c, t, row in zip(label, target, logits, strict=True)
    )
    torch.testing.assert_close(method.cross_entropy(logits, label), by_hand / 10, rtol=1e-6, atol=0)
    halves = [method.cross_entropy(logits[part], label[part]) for part in (slice(0, 5), slice(5, 10))]
    torch.testing.assert_close(sum(halves) / 2, by_hand / 10, rtol=1e-6, atol=0)


def test_a_class_that_does_not_occur_has_no_say_and_no_weights_are_the_plain_mean():
    method, label = weighted([4, 0, 4], class_weights="balanced")
    logits = torch.randn(8, 3, dtype=torch.float64)
    plain = F.cross_entropy(logits, label)
    torch.testing.assert_close(method.cross_entropy(logits, label), plain, rtol=1e-6, atol=0)
    assert torch.equal(weighted([5, 1, 2])[0].cross_entropy(logits, label), plain)
