import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import CSVLogger

from skelcl.clips import Clips
from skelcl.data import NWUCLA, SkeletonDataModule, StoreError
from skelcl.data.batches import FirstBatches, OrderedBatches, ShuffledBatches
from skelcl.data.subsets import LabelSubset, digest, read_labels, validation_queries
from skelcl.errors import InputError, OptionError
from skelcl.skeleton import KINECT20


def collect(loader):
    return [batch.index.tolist() for batch in loader]


def flat(batches):
    return [int(n) for batch in batches for n in batch]


# Samplers

sizes = {
    "count": st.integers(1, 40),
    "batch": st.integers(1, 9),
    "ranks": st.integers(1, 4),
    "epoch": st.integers(0, 3),
}


def shuffled(count, batch, ranks, epoch, drop_last=False):
    """Batches of each rank."""
    result = []
    for rank in range(ranks):
        sampler = ShuffledBatches(np.arange(count) + 100, batch, ranks, rank, drop_last)
        sampler.set_epoch(epoch)
        result.append([part.tolist() for part in sampler])
        assert len(sampler) == len(result[-1])
    return result


@given(**sizes)
def test_ranks_with_smaller_batches_see_what_one_process_sees(count, batch, ranks, epoch):
    (whole,) = shuffled(count, batch * ranks, 1, epoch)
    parts = shuffled(count, batch, ranks, epoch)
    assert sorted(flat(whole)) == list(range(100, 100 + count))
    for n, expected in enumerate(whole):
        together = [position for part in parts for position in part[n]]
        assert len({len(part[n]) for part in parts}) == 1
        assert together[: len(expected)] == expected
        padding = -len(expected) % ranks
        order = flat(whole)
        assert together[len(expected) :] == [order[i % count] for i in range(padding)]


@given(**sizes)
def test_drop_last_leaves_out_the_partial_batch_only(count, batch, ranks, epoch):
    kept = shuffled(count, batch, ranks, epoch, drop_last=True)
    everything = shuffled(count, batch, ranks, epoch)
    for rank in range(ranks):
        assert kept[rank] == everything[rank][: count // (batch * ranks)]
        assert all(len(part) == batch for part in kept[rank])


@given(**{name: sizes[name] for name in ("count", "batch", "ranks")})
def test_ordered_batches_cover_each_clip_once_in_order(count, batch, ranks):
    samplers = [OrderedBatches(np.arange(count) * 2, batch, ranks, rank) for rank in range(ranks)]
    parts = [list(sampler) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(part) for part in parts]
    assert [n for part in parts for n in flat(part)] == [2 * n for n in range(count)]
    assert all(len(b) == batch for part in parts for b in part[:-1])
    assert all(0 < len(b) <= batch for part in parts for b in part)
    lengths = [len(flat(part)) for part in parts]
    assert max(lengths) - min(lengths) <= 1


def test_the_order_depends_on_seed_and_epoch_alone(monkeypatch):
    first = shuffled(40, 8, 1, 0)
    torch.manual_seed(99)
    assert shuffled(40, 8, 1, 0) == first
    assert shuffled(40, 8, 1, 1) != first
    monkeypatch.setenv("PL_GLOBAL_SEED", "7")
    assert shuffled(40, 8, 1, 0) != first


# Splits


def test_facts_are_there_after_construction(root):
    data = NWUCLA(root)
    assert isinstance(data, SkeletonDataModule)
    assert data.skeleton == KINECT20
    assert (data.num_classes, data.num_persons, len(data.class_names)) == (10, 1, 10)
    assert data.class_names[7] == "doffing"
    assert data.ids[0] == "a01_s01_e00_v01"


@pytest.mark.parametrize("test_view", [1, 2, 3])
def test_the_split_holds_out_one_view(root, test_view):
    data = NWUCLA(root, test_view=test_view)
    test = {name for name in data.ids.tolist() if name.endswith(f"v0{test_view}")}
    assert {str(data.ids[n]) for n in data.parts["test"]} == test
    assert {str(data.ids[n]) for n in data.parts["train"]} == set(data.ids.tolist()) - test
    # Action 1 was recorded once for views 2 and 3: a leak when one of them is the test part.
    leak = {name for name in test if name.startswith("a02") and test_view != 1}
    clean = data.subsets["test_clean"]
    assert {str(data.ids[n]) for n in clean} == test - leak
    assert clean.dtype == np.int64


def test_clean_subset_appears_only_where_it_says_something(root):
    class Quiet(NWUCLA):
        always_clean = False

    assert set(NWUCLA(root, test_view=1).subsets) == {"test_clean"}
    assert Quiet(root, test_view=1).subsets == {}
    assert set(Quiet(root, test_view=3).subsets) == {"test_clean"}


@pytest.mark.parametrize("validation", ["seen", "held-out"])
@pytest.mark.parametrize(("share", "performers"), [(0.2, 1), (0.4, 2), (0.99, 4), (0.01, 1)])
def test_validation_asks_with_whole_performers(root, validation, share, performers):
    data = NWUCLA(root, validation=validation, validation_share=share)
    subject = data.store.index["subject"]
    gallery, query = (set(data.parts[name].tolist()) for name in ("gallery", "query"))
    assert gallery | query == set(data.parts["train_all"].tolist())
    assert not gallery & query
    assert len(set(subject[list(query)])) == performers
    assert not set(subject[list(query)]) & set(subject[list(gallery)])
    assert set(data.parts["train"].tolist()) == (gallery | query if validation == "seen" else gallery)
    loaders = data.val_dataloader()
    assert [sorted(flat(collect(loader))) for loader in loaders] == [sorted(gallery), sorted(query)]
    assert sorted(flat(collect(data.test_dataloader()[0]))) == sorted(gallery | query)


def test_validation_queries_ignore_seed_and_order(root, monkeypatch):
    chosen = set(NWUCLA(root, validation="seen").parts["query"].tolist())
    monkeypatch.setenv("PL_GLOBAL_SEED", "12")
    data = NWUCLA(root, validation="seen")
    assert set(data.parts["query"].tolist()) == chosen
    backwards = data.parts["train_all"][::-1]
    assert set(backwards[validation_queries(data.store.index, backwards, 0.2)].tolist()) == chosen


def test_few_performers_are_split_by_class():
    labels = np.repeat([0, 1, 2], [10, 5, 1])
    index = {
        "id": np.array([f"x{n:02d}" for n in range(16)]),
        "label": labels,
        "subject": np.repeat([1, 2], 8),
    }
    query = validation_queries(index, np.arange(16), 0.3)
    assert [int(query[labels == label].sum()) for label in range(3)] == [3, 2, 0]  # one clip of a class stays


def test_setups_stand_in_for_unknown_performers():
    setups = np.repeat(np.arange(8), 2)
    index = {"id": np.arange(16).astype(str), "label": np.zeros(16), "subject": np.full(16, -1), "setup": setups}
    query = validation_queries(index, np.arange(16), 0.25)
    assert [int(query[setups == setup].sum()) for setup in range(8)].count(2) == 2
    assert query.sum() == 4


# Label subsets


def part_ids(data, part):
    return {str(data.ids[n]) for n in data.parts[part]}


@pytest.mark.parametrize(
    "choice",
    [
        {"fraction": 0.2},
        {"per_class": 2, "subset_seed": 3},
        {"subset": "uniform", "fraction": 0.3},
        {"subset": "shared-ranks", "per_class": 4},
        {"subset": "first", "fraction": 0.5, "test_view": 1},
    ],
)
def test_labels_are_those_that_the_rule_draws(root, choice):
    data = NWUCLA(root, **choice)
    rule = LabelSubset(
        choice.get("subset", "stratified"),
        choice.get("fraction"),
        choice.get("per_class"),
        choice.get("subset_seed", 0),
    )
    whole = NWUCLA(root, test_view=data.test_view)
    train = whole.parts["train"]
    chosen = train[rule.draw(whole.ids[train], whole.store.index["label"][train])]
    assert 0 < len(chosen) < len(train)
    assert data.parts["train"].tolist() == data.parts["train_all"].tolist() == chosen.tolist()
    assert sorted(flat(collect(data.train_dataloader()))) == chosen.tolist()
    gallery, queries = data.test_dataloader()
    assert flat(collect(gallery)) == chosen.tolist()
    assert flat(collect(queries)) == whole.parts["test"].tolist()
    assert data.subsets["test_clean"].tolist() == whole.subsets["test_clean"].tolist()


@pytest.mark.parametrize("validation", ["seen", "held-out"])
@pytest.mark.parametrize("choice", [{"fraction": 0.5}, {"per_class": 8}, {"fraction": 1.0}])
def test_labels_leave_the_validation_queries_alone(root, validation, choice):
    options = {"validation": validation, "validation_share": 0.2}
    data, whole = NWUCLA(root, **options, **choice), NWUCLA(root, **options)
    queries, labelled = part_ids(data, "query"), part_ids(data, "train")
    assert queries == part_ids(whole, "query")
    assert labelled <= part_ids(whole, "train")
    assert part_ids(data, "gallery") == labelled - queries
    if validation == "held-out":
        assert not queries & labelled  # 8 of each class are left, all of which the larger choices take
        assert len(labelled) == (20 if choice == {"fraction": 0.5} else 40)


def test_a_listed_query_is_refused(root, tmp_path):
    query = min(part_ids(NWUCLA(root, validation="held-out"), "query"))
    (tmp_path / "labels.txt").write_text(f"{query}\n")
    NWUCLA(root, subset=tmp_path / "labels.txt")
    with pytest.raises(InputError, match=rf"labels.txt: clip '{query}' cannot be labelled"):
        NWUCLA(root, subset=tmp_path / "labels.txt", validation="held-out")
    with pytest.raises(StoreError, match="every labelled clip is a validation query"):
        NWUCLA(root, subset=tmp_path / "labels.txt", validation="seen")


def test_a_choice_without_an_amount_is_refused(root):
    with pytest.raises(InputError, match="either fraction or per_class"):
        NWUCLA(root, subset="first")


# Loaders


def test_batches_are_the_stored_clips(root, recordings):
    data = NWUCLA(root, batch_size=7)
    for loader, part in zip(data.test_dataloader(), ("train_all", "test"), strict=True):
        seen = []
        for clips in loader:
            seen += clips.index.tolist()
            for n in range(len(clips)):
                recording = recordings[str(data.ids[clips.index[n]])]
                shown = clips[torch.tensor([n])].at(torch.arange(int(clips.frames[n]))[None])[0, 0]
                np.testing.assert_array_equal(shown.numpy(), recording.joints[0])
                assert clips.label[n] == recording.label
        assert seen == data.parts[part].tolist()


@pytest.mark.parametrize("preload", ["none", "memory", "device"])
def test_preloading_changes_no_batch(root, preload):
    plain, other = NWUCLA(root, batch_size=7), NWUCLA(root, batch_size=7, preload=preload)
    frame = torch.zeros(7, 2, dtype=torch.int64)
    for expected, batch in zip(plain.train_dataloader(), other.train_dataloader(), strict=True):
        assert isinstance(batch, torch.Tensor) == (preload == "device")
        clips = other.on_after_batch_transfer(batch, 0)
        assert isinstance(clips, Clips)
        for name in ("index", "label", "frames", "bodies", "first", "reference"):
            torch.testing.assert_close(getattr(clips, name), getattr(expected, name), rtol=0, atol=0)
        rows = frame[: len(clips)]
        torch.testing.assert_close(clips.at(rows), expected.at(rows), rtol=0, atol=0)


def test_workers_change_no_batch(root):
    batches = [collect(NWUCLA(root, batch_size=20, num_workers=n).train_dataloader()) for n in (0, 2)]
    assert batches[0] == batches[1]
    assert [len(batch) for batch in batches[0]] == [20, 20, 10]


@pytest.mark.parametrize(("split", "count"), [("train", 50), ("test", 25), ("all", 75)])
def test_predict_encodes_the_named_part(root, split, count):
    seen = flat(collect(NWUCLA(root, predict_split=split).predict_dataloader()))
    assert len(seen) == count
    assert seen == sorted(seen)


class Watcher(pl.LightningModule):
    """Notes what arrives."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = {}

    def note(self, name, clips):
        assert isinstance(clips, Clips)
        self.seen.setdefault(name, []).append(clips.index.tolist())

    def training_step(self, clips, batch_idx):
        self.note(f"train{self.current_epoch}", clips)
        return self.weight * 0

    def validation_step(self, clips, batch_idx, dataloader_idx=0):
        self.note(f"val{dataloader_idx}", clips)

    def test_step(self, clips, batch_idx, dataloader_idx=0):
        self.note(f"test{dataloader_idx}", clips)

    def predict_step(self, clips, batch_idx):
        self.note("predict", clips)
        return clips.label

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(tmp_path, **options):
    settings = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    settings |= {"enable_model_summary": False, "num_sanity_val_steps": 0}
    return pl.Trainer(default_root_dir=tmp_path, **(settings | options))


@pytest.mark.parametrize("preload", ["none", "device"])
def test_trainer_keeps_the_samplers_and_tells_them_the_epoch(root, tmp_path, preload):
    data = NWUCLA(root, batch_size=16, preload=preload, validation="seen")
    model = Watcher()
    runs = trainer(tmp_path, max_epochs=2)
    runs.fit(model, data)
    runs.test(model, data)
    runs.predict(model, data, return_predictions=False)
    for epoch in (0, 1):
        (expected,) = shuffled(50, 16, 1, epoch)
        order = [[int(data.parts["train"][n - 100]) for n in batch] for batch in expected]
        assert model.seen[f"train{epoch}"] == order
    for name, part in {"test0": "train_all", "test1": "test", "predict": "test"}.items():
        assert flat(model.seen[name]) == data.parts[part].tolist()
    assert flat(model.seen["val0"]) == 2 * data.parts["gallery"].tolist()
    assert flat(model.seen["val1"]) == 2 * data.parts["query"].tolist()


def test_resuming_continues_the_order(root, tmp_path):
    whole, first, second = Watcher(), Watcher(), Watcher()
    trainer(tmp_path, max_epochs=2).fit(whole, NWUCLA(root, batch_size=16))
    run = trainer(tmp_path, max_epochs=1)
    run.fit(first, NWUCLA(root, batch_size=16))
    run.save_checkpoint(tmp_path / "last.ckpt")
    trainer(tmp_path, max_epochs=2).fit(second, NWUCLA(root, batch_size=16), ckpt_path=tmp_path / "last.ckpt")
    assert second.seen == {"train1": whole.seen["train1"]}


# A part of an epoch


@pytest.mark.parametrize(("amount", "share"), [(2, 0.2), (0.5, 0.5), (100, 1)])
def test_overfitting_shows_the_first_batches_of_the_training_part_alone(root, tmp_path, recwarn, amount, share):
    """Shuffled in no epoch, with the run's batches; so do the queries and the gallery of validation."""
    data = NWUCLA(root, batch_size=5, validation="seen")
    model = Watcher()
    trainer(tmp_path, max_epochs=2, overfit_batches=amount).fit(model, data)
    train = data.parts["train"].tolist()
    expected = [train[first : first + 5] for first in range(0, int(share * 50), 5)]
    assert model.seen["train0"] == model.seen["train1"] == expected
    for loader, part in enumerate(("gallery", "query")):
        clips = data.parts[part].tolist()
        limit = 5 * amount if isinstance(amount, int) else int(share * len(clips))
        assert flat(model.seen[f"val{loader}"]) == 2 * clips[:limit]
    assert not [warning for warning in recwarn if "overfit" in str(warning.message)]


@given(**sizes)
def test_processes_that_overfit_see_what_one_does(count, batch, ranks, epoch):
    positions = np.arange(count) + 100
    samplers = [FirstBatches(positions, batch, ranks, rank) for rank in range(ranks)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    together = [np.concatenate(parts).tolist() for parts in zip(*samplers, strict=True)]
    assert flat(together)[:count] == positions.tolist()
    assert [part.tolist() for part in FirstBatches(positions, batch * ranks)] == [
        some[: len(some) if n + 1 < len(together) else count - n * batch * ranks] for n, some in enumerate(together)
    ]


@pytest.mark.parametrize(
    ("options", "choice", "told"),
    [
        ({}, {"drop_last": True, "batch_size": 51}, "50 training clips fill no batch of batch_size 51, and drop_last"),
        ({}, {"drop_last": True, "batch_size": 101, "repeat": 2}, "100 training clips fill no batch of batch_size 101"),
        (
            {"limit_train_batches": 0.2},
            {"batch_size": 16},
            "limit_train_batches 0.2 leaves none of the 4 batches of an",
        ),
        (
            {"limit_train_batches": 0},
            {},
            "limit_train_batches 0 leaves none of the 1 .*: 50 training clips, batch_size 64",
        ),
        ({"overfit_batches": 0.1}, {"batch_size": 16}, "overfit_batches 0.1 leaves none of the 4 batches of an epoch"),
    ],
)
def test_an_epoch_without_a_batch_is_refused(root, tmp_path, options, choice, told):
    with pytest.raises(OptionError, match=told):
        trainer(tmp_path, max_epochs=1, **options).fit(Watcher(), NWUCLA(root, **choice))


def test_a_batch_that_is_just_full_is_kept(root, tmp_path):
    model = Watcher()
    trainer(tmp_path, max_epochs=1).fit(model, NWUCLA(root, drop_last=True, batch_size=50))
    assert [len(batch) for batch in model.seen["train0"]] == [50]


# Repeats


@pytest.mark.parametrize("preload", ["none", "device"])
@pytest.mark.parametrize("epoch", [0, 1])
def test_repeats_are_shuffled_together(root, preload, epoch):
    data = NWUCLA(root, batch_size=16, preload=preload, repeat=5)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    batches = [data.on_after_batch_transfer(batch, 0) for batch in loader]
    assert len(loader) == len(batches) == -(-5 * 50 // 16)
    seen = [(r, n) for clips in batches for r, n in zip(clips.repeat.tolist(), clips.index.tolist(), strict=True)]
    (order,) = shuffled(250, 16, 1, epoch)
    assert seen == [((n - 100) // 50, int(data.parts["train"][(n - 100) % 50])) for n in flat(order)]
    assert len({r for r, _ in seen[:16]}) > 1
    assert set(seen) == {(r, n) for r in range(5) for n in data.parts["train"].tolist()}
    for clips in batches[:2]:
        plain = data.store.clips(clips.index.numpy(), 1)
        for name in ("label", "frames", "bodies", "first", "reference"):
            torch.testing.assert_close(getattr(clips, name), getattr(plain, name), rtol=0, atol=0)
    for part in data.test_dataloader():
        assert not any(data.on_after_batch_transfer(batch, 0).repeat.any() for batch in part)


@pytest.mark.parametrize("validation", ["none", "held-out"])
def test_every_showing_has_a_slot_of_its_own(root, validation):
    data = NWUCLA(root, batch_size=7, repeat=3, validation=validation)
    train, slots, labels = data.parts["train"].tolist(), [], data.slot_labels()
    for clips in data.train_dataloader():
        mine = data.slots(clips)
        showings = zip(clips.repeat.tolist(), clips.index.tolist(), strict=True)
        expected = [r * len(train) + train.index(n) for r, n in showings]
        assert mine.tolist() == expected
        assert torch.equal(labels[mine], clips.label)
        slots += mine.tolist()
    assert sorted(slots) == list(range(data.num_slots)) == list(range(len(labels)))
    test = next(iter(data.test_dataloader()[1]))
    assert set(data.slots(test).tolist()) == {-1}


class Shares(Watcher):
    """Writes what each rank got."""

    def on_test_end(self):
        torch.save(self.seen, f"{self.trainer.default_root_dir}/{self.trainer.state.fn.value}{self.global_rank}.pt")

    on_fit_end = on_test_end


@pytest.mark.linux("ddp_fork is reported to fail elsewhere")
def test_two_processes_share_the_clips(root, tmp_path):
    data = NWUCLA(root, batch_size=8)
    runs = trainer(tmp_path, max_epochs=1, devices=2, strategy="ddp_fork")
    runs.fit(Shares(), data)
    runs.test(Shares(), data)
    seen = [torch.load(tmp_path / f"fit{rank}.pt")["train0"] for rank in (0, 1)]
    (expected,) = shuffled(50, 16, 1, 0)
    assert [[*a, *b] for a, b in zip(*seen, strict=True)] == [
        [int(data.parts["train"][n - 100]) for n in batch] for batch in expected
    ]
    tested = [torch.load(tmp_path / f"test{rank}.pt") for rank in (0, 1)]
    assert [n for part in tested for n in flat(part["test1"])] == data.parts["test"].tolist()
    assert [n for part in tested for n in flat(part["test0"])] == data.parts["train_all"].tolist()


@pytest.mark.linux("ddp_fork is reported to fail elsewhere")
def test_two_processes_share_the_repeats_and_write_one_list(root, tmp_path):
    data = NWUCLA(root, batch_size=8, repeat=3, fraction=0.5)
    train = data.parts["train"].tolist()
    logger = CSVLogger(tmp_path, name="run")
    trainer(tmp_path, logger=logger, max_epochs=1, devices=2, strategy="ddp_fork").fit(Shares(), data)
    seen = [torch.load(tmp_path / f"fit{rank}.pt")["train0"] for rank in (0, 1)]
    (expected,) = shuffled(3 * len(train), 16, 1, 0)
    together = [[*a, *b] for a, b in zip(*seen, strict=True)]
    assert together[:-1] == [[train[(n - 100) % len(train)] for n in batch] for batch in expected[:-1]]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["version_0"]
    assert sorted(read_labels(tmp_path / "run" / "version_0" / "labels.txt")) == sorted(part_ids(data, "train"))


# What a run notes


def test_a_run_notes_its_labels_and_another_one_takes_them(root, tmp_path):
    data = NWUCLA(root, fraction=0.2, subset_seed=1)
    model = Watcher()
    trainer(tmp_path, logger=CSVLogger(tmp_path, name="a"), max_epochs=1).fit(model, data)
    trainer(tmp_path, logger=CSVLogger(tmp_path, name="b")).test(model, data)
    trainer(tmp_path, logger=CSVLogger(tmp_path, name="c")).predict(model, data, return_predictions=False)
    files = [tmp_path / run / "version_0" / "labels.txt" for run in "abc"]
    assert [file.exists() for file in files] == [True, True, False]
    assert files[0].read_bytes() == files[1].read_bytes()
    first, second = files[0].read_text().splitlines()[:2]
    assert first == "# nw-ucla, 20 % stratified, seed 1: 10 of 50 clips"
    assert second.endswith(digest(part_ids(data, "train")))
    again = NWUCLA(root, subset=files[0])
    assert again.parts["train"].tolist() == data.parts["train"].tolist()


@pytest.mark.parametrize(("options", "choice"), [({}, {"fraction": 0.2}), ({"fast_dev_run": True}, {"fraction": 0.2})])
def test_without_a_log_folder_nothing_is_written(root, tmp_path, monkeypatch, options, choice):
    monkeypatch.chdir(tmp_path)
    trainer(tmp_path, max_epochs=1, **options).fit(Watcher(), NWUCLA(root, **choice))
    assert not list(tmp_path.rglob("labels.txt"))


def test_all_labels_need_no_list(root, tmp_path):
    trainer(tmp_path, logger=CSVLogger(tmp_path), max_epochs=1).fit(Watcher(), NWUCLA(root))
    assert not list(tmp_path.rglob("labels.txt"))


def test_setup_tells_repeats_and_labels(root, caplog):
    data = NWUCLA(root, fraction=0.2, repeat=5)
    with caplog.at_level("INFO"):
        data.setup("fit")
    (line,) = [record.message for record in caplog.records if "nw-ucla" in record.message]
    assert line == (
        "nw-ucla: train 10, test 25, test_clean 20 clips, 10 classes; an epoch shows the training part 5 times; "
        f"labels: 20 % stratified, seed 0: 10 of 50 clips, sha {digest(part_ids(data, 'train'))[:6]}"
    )


def test_setup_tells_the_sizes_once(root, caplog):
    data = NWUCLA(root, validation="held-out")
    with caplog.at_level("INFO"):
        data.setup("fit")
        data.setup("test")
    lines = [record.message for record in caplog.records if "nw-ucla" in record.message]
    assert lines == [
        "nw-ucla: train 40, test 25, test_clean 20, validation gallery 40, validation query 10 clips, 10 classes"
    ]


# Bad input and the command line


def test_a_missing_store_names_the_command(tmp_path):
    with pytest.raises(StoreError, match=f"skelcl data prepare nw-ucla --raw <files> --root {tmp_path}"):
        NWUCLA(tmp_path)


@pytest.mark.parametrize(
    "arguments", [{"batch_size": 0}, {"num_workers": -1}, {"num_persons": 0}, {"validation_share": 1.0}, {"repeat": 0}]
)
def test_arguments_out_of_range(root, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        NWUCLA(root, **arguments)


def test_an_empty_part_is_an_error(root):
    class Nothing(NWUCLA):
        def train_mask(self, index):
            return np.zeros(len(index["id"]), bool)

    with pytest.raises(StoreError, match="train part is empty"):
        Nothing(root)


def test_every_option_is_on_the_command_line(root):
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(SkeletonDataModule, "data", subclass_mode=True)
    config = parser.parse_args(["--data=NWUCLA", f"--data.root={root}", "--data.test_view=2", "--data.preload=device"])
    options = set(config.data.init_args.as_dict())
    assert options == {
        "root", "test_view", "batch_size", "num_workers", "preload", "num_persons", "validation", "validation_share",
        "drop_last", "predict_split", "repeat", "subset", "fraction", "per_class", "subset_seed",
        "classes", "sampling", "accept_changed", "accept_seen", "layout", "fps",
    }  # fmt: skip
    assert parser.instantiate_classes(config).data.test_view == 2


def test_labels_are_chosen_on_the_command_line(root, tmp_path):
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(SkeletonDataModule, "data", subclass_mode=True)

    def built(*words):
        config = parser.parse_args(["--data=NWUCLA", f"--data.root={root}", *words])
        config = parser.parse_string(parser.dump(config))  # as it travels in a checkpoint
        return parser.instantiate_classes(config).data

    assert built("--data.fraction=0.4").parts["train"].tolist() == NWUCLA(root, fraction=0.4).parts["train"].tolist()
    five = built("--data.per_class=5", "--data.subset_seed=1", "--data.subset=shared-ranks")
    assert five.parts["train"].tolist() == NWUCLA(
        root, subset="shared-ranks", per_class=5, subset_seed=1
    ).parts["train"].tolist()  # fmt: skip
    (tmp_path / "labels.txt").write_text("".join(f"{name}\n" for name in part_ids(five, "train")))
    assert built(f"--data.subset={tmp_path}/labels.txt").parts["train"].tolist() == five.parts["train"].tolist()
    with pytest.raises(InputError, match="subset stratifed: no such file; a rule is one of stratified"):
        NWUCLA(root, subset="stratifed")


def test_the_shipped_block_is_this_class(root, request):
    file = request.config.rootpath / "experiments" / "data" / "nw_ucla.yaml"
    parser = LightningArgumentParser()
    parser.add_lightning_class_args(SkeletonDataModule, "data", subclass_mode=True)
    config = parser.parse_args([f"--data={file}", f"--data.init_args.root={root}"])
    data = parser.instantiate_classes(config).data
    assert (type(data), data.test_view, data.batch_size) == (NWUCLA, 3, 64)
