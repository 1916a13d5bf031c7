"""What a checkpoint says of its training, against sets of clips by hand, and what every verb makes of it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from skelcl import Predictor
from skelcl.cli import run
from skelcl.data import NWUCLA, Mixture
from skelcl.data.store import npy_header, sha256
from skelcl.data.subsets import digest
from skelcl.errors import InputError
from skelcl.evaluation.provenance import DATA_KEY, TrainOverlap, read_facts, refuse_seen, train_overlap, training_facts
from skelcl.runs.trust import stored_config

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
QUIET = [
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
]
HCN = ["--model.encoder.hidden=8", "--model.encoder.points=16", "--trainer.precision=32-true", "--data.batch_size=16"]
LSTM = ["--model.encoder.hidden=8", "--model.queue_size=16", "--data.batch_size=16"]
CKPT = {name: f"runs/{name}/version_0/checkpoints/last.ckpt" for name in ("own", "ssl", "zero")}


@pytest.fixture(scope="module")
def place(tmp_path_factory, ucla):
    """Folder with a supervised run on half of the labels, a self-supervised one, and one of no epoch."""
    folder = tmp_path_factory.mktemp("provenance")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["skelcl"])
        shared = [*QUIET, f"--data.root={ucla}", "--trainer.logger.save_dir=runs"]
        own = ["--config", EXPERIMENTS / "supervised" / "hcn-nw_ucla.yaml", *HCN, "--trainer.logger.name=own"]
        ssl = ["--config", EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml", *LSTM, "--trainer.max_epochs=1"]
        for words in (
            [*own, "--data.fraction=0.5", "--trainer.max_epochs=1"],
            [*ssl, "--trainer.logger.name=ssl", "--data.validation=seen"],
            [*own, "--trainer.logger.name=zero", "--trainer.max_epochs=0"],
        ):
            cli = run([str(word) for word in ("fit", *words[:2], *shared, *words[2:])])
        cli.trainer.save_checkpoint(CKPT["zero"])  # a run without an epoch writes none by itself
    return folder


@pytest.fixture
def here(place, monkeypatch, ucla, capfd):
    """Runs a command on a checkpoint in that folder: what it left on stdout, and its new record."""
    monkeypatch.chdir(place)

    def command(verb, name, *words):
        old = set(place.rglob("results.json"))
        plain = [*QUIET, "--supervised.figures=false", "--evaluation.figures=false"]
        root = [f"--root={ucla}"] if verb == "evaluate" else [f"--data.root={ucla}", *plain]
        capfd.readouterr()
        run([str(word) for word in (verb, "--ckpt_path", CKPT[name], *root, *words)])
        new = sorted(set(place.rglob("results.json")) - old)
        return capfd.readouterr().out, json.loads(new[-1].read_text()) if new else None, new[-1].parent if new else None

    return command


def line_of(capfd, stop):
    """The one line that a refusal leaves."""
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("skelcl: error: ")]
    assert (stop.value.code, len(lines)) == (1, 1)
    return lines[0]


def data_module(ids, content, train, test, **changes):
    """What is read off a data module."""
    given = {
        "ids": np.array(list(ids)),
        "class_names": ["a"],
        "subsets": {},
        "predict_split": "test",
        "dataset": "some",
        "split_description": "half",
        "parts": {"train": np.array(train), "test": np.array(test)},
        "label_subset": None,
        "validation": "none",
        "accept_changed": False,
        "accept_seen": False,
        "store": SimpleNamespace(path=Path("some"), digest="d", index={"content": np.array(list(content))}),
    }
    return SimpleNamespace(**given | changes)


def trained(data, supervised, before=(), steps=1):
    return training_facts(data, supervised, before) | {"steps": steps}


def test_clips_are_known_by_name_in_their_data_set_and_by_coordinates_in_any():
    random = np.random.default_rng(0)
    ids = [f"clip {n}" for n in range(40)]
    content = [str(n // 2) for n in range(40)]  # clips are copies in pairs
    for _ in range(20):
        train, test = (np.sort(random.choice(40, 15, replace=False)) for _ in range(2))
        data = data_module(ids, content, train, test)
        copied = {n for n in test if content.count(content[n]) > sum(content[m] == content[n] for m in test)}
        alike = {n for n in test if content[n] in {content[m] for m in train}} - copied
        same_name = len((set(test) & set(train)) | alike)
        assert train_overlap(trained(data, True), data, test) == TrainOverlap(15, same_name, 0, True)
        assert train_overlap(trained(data, False), data, test) == TrainOverlap(15, 0, same_name, True)
        other = data_module([f"other {n}" for n in range(40)], content, train, test, dataset="other")
        assert train_overlap(trained(other, True), data, test).labelled == len(alike)
        assert train_overlap(trained(data, True, steps=0), data, test).labelled == 0, "was built, and not trained"


def test_what_came_before_a_training_counts_and_labels_outweigh():
    first = data_module("abcdef", "abcdef", [0, 1, 2], [3, 4, 5])
    second = data_module("abcdef", "abcdef", [2, 3], [0, 1, 4, 5])
    pretrained = trained(first, False)
    assert train_overlap(trained(second, True, [pretrained]), second, np.arange(6)) == TrainOverlap(6, 2, 2, True)
    unknown = train_overlap(trained(second, True, [{}]), second, np.array([4]))
    assert (unknown, str(unknown)) == (TrainOverlap(1, 0, 0, False), "not known")
    assert str(train_overlap({}, second, np.array([2]))) == "not known"
    assert str(TrainOverlap(9, 2, 3, False)) == "2 with labels, 3 without labels"
    assert str(TrainOverlap(9, 0, 0, True)) == "none"


@pytest.mark.parametrize(
    ("supervised", "validation", "refused"),
    [(True, "held-out", True), (True, "seen", True), (False, "held-out", True), (False, "seen", False)],
)
def test_queries_may_have_been_seen_without_labels_where_that_is_said(supervised, validation, refused):
    data = data_module("abcd", "abcd", [0, 1], [3], validation=validation)
    data.parts["query"] = np.array([1])
    facts = trained(data, supervised)
    if refused:
        with pytest.raises(InputError, match="1 validation queries of some"):
            refuse_seen(facts, data, "X", "query")
    else:
        refuse_seen(facts, data, "X", "query")
    other = data_module("abcd", "abcd", [0], [3])
    refuse_seen(trained(other, True, [trained(data, False)]), data, "X", "query")  # pre-trained on all, as usual


def test_a_checkpoint_says_what_it_was_trained_on(place, ucla):
    data = NWUCLA(root=ucla, fraction=0.5)
    facts = read_facts(place / CKPT["own"])
    train = data.ids[data.parts["train"]].tolist()
    assert facts["labels"] == {"clips": 30, "rule": "50 % stratified", "seed": 0, "sha256": digest(train)}
    assert (facts["name"], facts["split"], facts["clips"], facts["supervised"]) == ("nw-ucla", "test_view 3", 30, True)
    assert (facts["epochs"], facts["steps"], facts["before"]) == (1, 10, [])
    assert facts["store"] == data.store.digest
    assert facts["ids"].shape == facts["content"].shape == (30,)
    assert read_facts(place / CKPT["ssl"])["supervised"] is False
    assert read_facts(place / CKPT["ssl"])["clips"] == 60, "queries that are seen are trained on"


@pytest.mark.parametrize(
    ("verb", "name", "words", "what"),
    [
        ("test", "own", ["--data.test_view=2"], "30 test clips of nw-ucla (14 with labels; its training: nw-ucla"),
        ("test", "ssl", ["--data.test_view=1"], "30 test clips of nw-ucla (30 without labels; its training: nw-ucla"),
        ("validate", "own", ["--data.validation=held-out"], "validation queries of nw-ucla ("),
        ("validate", "ssl", ["--data.validation=held-out"], "20 validation queries of nw-ucla (20 without labels;"),
    ],
)
def test_clips_of_the_training_do_not_judge(here, place, capfd, verb, name, words, what):
    folders = set(place.glob("runs/*/*"))
    with pytest.raises(SystemExit) as stop:
        here(verb, name, *words)
    line = line_of(capfd, stop)
    assert what in line
    assert "--data.accept_seen true" in line
    assert set(place.glob("runs/*/*")) == folders, "what is refused leaves no folder"


def test_clips_of_the_training_judge_when_asked_for_and_are_marked_everywhere(here, place, capfd):
    out, content, folder = here("test", "own", "--data.test_view=2", "--data.accept_seen=true")
    assert "! of the 30 test clips 14 with labels were among those that the network was trained on" in out
    assert content["run"]["data"]["seen"] == {"labelled": 14, "unlabelled": 0, "complete": True}
    here("test", "own")
    run(["results", str(place / "runs" / "own"), "--output", "table.csv"])
    table = capfd.readouterr().out
    assert "**own: of the 30 test clips 14 with labels were among" in table
    assert re.search(r"Rows with different letters are not comparable: they differ in split, test clips", table)
    assert ",14 with labels," in Path("table.csv").read_text()
    run(["fuse", str(folder / "scores.npz"), str(folder / "scores.npz"), "--output", "fused.npz"])
    assert capfd.readouterr().out.count("! of the 30 test clips 14 with labels") == 2
    run(["fuse", "fused.npz"])
    assert "! of the 30 test clips 14 with labels" in capfd.readouterr().out


def test_features_of_random_weights_are_told(place, here, capfd, ucla):
    random = "the weights are random"
    words = ["--data.validation=none", "--features.path=features.npz"]
    assert f"! {CKPT['zero']} was not trained: {random}\n" in here("predict", "zero", *words)[0]
    assert random not in here("predict", "own", *words)[0]
    config = ["--config", EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml", *LSTM, *QUIET, f"--data.root={ucla}"]
    run([str(word) for word in ("predict", *config, *words)])
    assert f"! there is no --ckpt_path: {random}\n" in capfd.readouterr().out


def test_a_record_names_the_classes_that_were_chosen(here):
    words = ["--data.classes=['throw', 'carry']", "--evaluation.random_encoder=false"]
    data = here("test", "ssl", *words)[1]["run"]["data"]
    assert (data["split"], data["classes"]) == ("test_view 3, classes ['throw', 'carry']", 2)


def test_evaluate_compares_too(here, tmp_path, capfd):
    block = tmp_path / "view2.yaml"
    block.write_text("{class_path: NWUCLA, init_args: {test_view: 2}}")
    words = ["--data", block, "--protocols=knn", "--output", tmp_path / "found"]
    with pytest.raises(SystemExit) as stop:
        here("evaluate", "own", *words)
    assert "30 test clips of nw-ucla (14 with labels" in line_of(capfd, stop)
    block.write_text("{class_path: NWUCLA, init_args: {test_view: 2, accept_seen: true}}")
    out, *_ = here("evaluate", "own", *words)
    assert "* mind: of the 30 test clips 14 with labels were among" in out
    words = ["--data.test_view=2", "--data.accept_seen=true", "--protocols=knn", "--output", tmp_path / "again"]
    assert "* test clips trained on: 14 with labels" in here("evaluate", "own", *words)[0]
    assert "* trained on: 30 clips of nw-ucla, test_view 3, labels 50 % stratified" in out
    assert "14 with labels" in (tmp_path / "found" / "report.html").read_text()


def test_labels_in_a_record_are_those_of_the_training_run(here):
    _, content, _ = here("test", "own", "--data.fraction=0.2", "--data.subset_seed=7")
    assert content["run"]["data"]["labels"] == read_facts(CKPT["own"])["labels"]
    _, content, _ = here("test", "ssl", "--data.fraction=0.2", "--data.subset_seed=7")
    labels = content["run"]["data"]["labels"]
    assert (labels["clips"], labels["rule"], labels["seed"]) == (10, "20 % stratified", 7)
    assert content["run"]["training_data"]["labels"]["rule"] == "all"
    _, content, _ = here("test", "own", "--data.fraction=null")
    assert content["run"]["data"]["labels"]["clips"] == 30
    words = ["--data.fraction=0.2", "--protocols=knn", "--output=found"]
    out, content, _ = here("evaluate", "own", *words)
    assert content["run"]["data"]["gallery"]["rule"] == "20 % stratified"
    assert re.search(
        r"\* labels: 50 % stratified, \w+; of the clips that probes learn from: 20 % stratified, \w+\n", out
    )


def test_a_checkpoint_of_no_epoch_is_told(here, capfd, place):
    out, content, _ = here("test", "zero")
    assert content["selection"] == content["run"]["selection"] == "not trained (0 epochs)"
    assert (content["run"]["epochs"], content["run"]["steps"]) == (0, 0)
    assert "! not trained (0 epochs): the weights are random" in out
    run(["results", str(place / "runs" / "zero")])
    assert "**zero: not trained (0 epochs): the weights are random.**" in capfd.readouterr().out


def test_a_test_without_checkpoint_is_told(here, ucla, capfd, place):
    words = ["test", "--config", EXPERIMENTS / "supervised" / "hcn-nw_ucla.yaml", *HCN, *QUIET, f"--data.root={ucla}"]
    run([str(word) for word in (*words, "--trainer.logger.name=raw")])
    content = json.loads((place / "runs" / "raw" / "version_0" / "results.json").read_text())
    assert content["selection"] == "not trained (as initialised)"
    assert "! not trained (as initialised): the weights are random" in capfd.readouterr().out


def test_older_checkpoints_work_and_are_not_known(here, monkeypatch, tmp_path):
    content = torch.load(CKPT["own"], weights_only=True)
    del content[DATA_KEY]
    monkeypatch.setitem(CKPT, "older", str(tmp_path / "older.ckpt"))
    torch.save(content, CKPT["older"])
    out, found, _ = here("test", "older", "--data.test_view=2")
    assert found["run"]["training_data"] is None
    assert found["run"]["data"]["seen"] == {"labelled": 0, "unlabelled": 0, "complete": False}
    assert "trained on" not in out


@pytest.mark.parametrize(
    "damage",
    [lambda f: f.pop("ids"), lambda f: f.update(before=[{"name": 3}]), lambda f: f.update(content=torch.zeros(3))],
)
def test_damaged_facts_are_told(here, monkeypatch, tmp_path, capfd, damage):
    content = torch.load(CKPT["own"], weights_only=True)
    damage(content[DATA_KEY])
    monkeypatch.setitem(CKPT, "bad", str(tmp_path / "bad.ckpt"))
    torch.save(content, CKPT["bad"])
    with pytest.raises(SystemExit) as stop:
        here("test", "bad")
    assert f"{CKPT['bad']}: damaged: what it says of its training" in line_of(capfd, stop)


def test_fine_tuning_carries_what_it_started_from(place, ucla, monkeypatch, capfd, tmp_path):
    monkeypatch.chdir(place)
    tune = ["fine-tune", "--config", EXPERIMENTS / "evaluate" / "semi.yaml", "--ckpt_path", CKPT["ssl"], *QUIET]
    tune += ["--seeds=0", "--scratch=false", "--data.fraction=0.2", "--data.batch_size=16", "--trainer.max_epochs=1"]
    tune += [f"--data.root={ucla}", f"--trainer.logger.save_dir={tmp_path}", "--supervised.figures=false"]
    run([str(word) for word in tune])
    capfd.readouterr()
    (path,) = tmp_path.rglob("last.ckpt")
    facts, start = read_facts(path), read_facts(CKPT["ssl"])
    assert (facts["clips"], facts["supervised"]) == (10, True)
    assert [(one["clips"], one["supervised"]) for one in facts["before"]] == [(60, False)]
    assert torch.equal(facts["before"][0]["ids"], start["ids"])
    with pytest.raises(SystemExit) as stop:
        run([str(word) for word in (*tune, "--data.test_view=2")])
    assert f"{CKPT['ssl']} was trained on clips among the 30 test clips of nw-ucla (30 without" in line_of(capfd, stop)
    run([str(word) for word in (*tune, "--data.test_view=2", "--data.accept_seen=true")])
    assert "! of the 30 test clips 30 without labels were among" in capfd.readouterr().out
    (table,) = [file for file in tmp_path.rglob("table.txt") if "30 without labels" in file.read_text()]
    assert json.loads(table.with_suffix(".json").read_text())["remarks"]


def test_a_run_that_goes_on_elsewhere_has_been_trained_on_both(here, place, ucla, tmp_path, capfd):
    stores = shutil.copytree(ucla, tmp_path / "stores")
    words = ["--trainer.max_epochs=2", f"--trainer.logger.save_dir={tmp_path / 'runs'}", "--data.fraction=null"]
    with pytest.raises(SystemExit) as stop:
        here("fit", "own", *words, "--data.test_view=2")
    assert "own/version_0/checkpoints/last.ckpt was trained on clips among the 30 test clips" in line_of(capfd, stop)
    here("fit", "own", *words)
    (path,) = tmp_path.rglob("last.ckpt")
    facts = read_facts(path)
    assert (facts["clips"], facts["epochs"], [one["clips"] for one in facts["before"]]) == (60, 2, [30])
    resumed = ["--trainer.max_epochs=3", f"--trainer.logger.save_dir={tmp_path / 'again'}", f"--data.root={stores}"]
    run(["fit", "--ckpt_path", str(path), *resumed])
    (path,) = (tmp_path / "again").rglob("last.ckpt")
    assert [one["clips"] for one in read_facts(path)["before"]] == [30], "the same data in another folder"


@pytest.fixture(scope="module")
def changed(ucla, tmp_path_factory):
    """Folder of stores with another store of the same name and ids."""
    root = shutil.copytree(ucla, tmp_path_factory.mktemp("changed") / "stores")
    store = root / "nw-ucla"
    np.save(store / "joints.npy", np.load(store / "joints.npy") * np.float32(1.01))
    header = npy_header(*np.load(store / "joints.npy").shape)
    (store / "joints.npy").write_bytes(header + np.load(store / "joints.npy").tobytes())
    meta = json.loads((store / "meta.json").read_text())
    meta["sha256"]["joints.npy"] = sha256(store / "joints.npy")
    (store / "meta.json").write_text(json.dumps(meta))
    return root


@pytest.mark.parametrize("verb", ["fit", "test", "validate", "evaluate"])
def test_another_store_of_the_same_name_is_refused(here, place, changed, tmp_path, capfd, verb):
    words = {"fit": ["--trainer.max_epochs=3"], "validate": ["--data.validation=seen"], "evaluate": []}.get(verb, [])
    root = "--root" if verb == "evaluate" else "--data.root"
    with pytest.raises(SystemExit) as stop:
        here(verb, "ssl", *words, f"{root}={changed}")
    line = line_of(capfd, stop)
    assert f"{changed / 'nw-ucla'}: not the store that {CKPT['ssl']} was trained on (nw-ucla, sha256 " in line
    assert line.endswith("--data.accept_changed true goes on with it")


def test_another_store_is_accepted_when_asked_for(here, changed, tmp_path):
    accept = [f"--data.root={changed}", "--data.accept_changed=true"]
    out, content, _ = here("test", "ssl", *accept)
    assert content["run"]["data"]["changed"] is True
    assert "! the store nw-ucla is not the one that the network was trained on" in out
    here("fit", "ssl", *accept, "--trainer.max_epochs=2", f"--trainer.logger.save_dir={tmp_path}")
    (path,) = tmp_path.rglob("last.ckpt")
    assert [one["store"] for one in read_facts(path)["before"]] == [read_facts(CKPT["ssl"])["store"]]
    assert "accept_changed" not in stored_config(path)["data"]["init_args"], "each command is asked anew"


# Mixtures


def test_clips_of_every_part_are_known_wherever_they_are_found(ucla, mixed_parts):
    """By the names in their own data set; of coordinates alone, the copies within the data set would be left out."""
    mixture = Mixture(mixed_parts(), layout="kinect20")
    facts = training_facts(mixture, False) | {"steps": 1}
    for name, part in mixed_parts().items():
        everything = np.arange(len(part.store))
        seen = train_overlap(facts, part, everything)
        assert (seen.unlabelled, seen.complete) == (len(part.parts["train"]), True), name
        assert train_overlap(facts, part, part.parts["test"]).unlabelled == 0
        without = {**facts, "content": torch.zeros(0, dtype=torch.int64)}
        assert train_overlap(without, part, everything).unlabelled == len(part.parts["train"]), name
    other = NWUCLA(ucla, test_view=2)
    with pytest.raises(InputError, match="was trained on clips among the 30 test clips of nw-ucla"):
        refuse_seen(facts, other, "X")
    assert set(facts["origins"]) == {part.dataset for part in mixed_parts().values()}


def test_clips_of_one_data_set_are_known_in_a_mixture(ucla, mixed_parts):
    facts = training_facts(NWUCLA(ucla, test_view=2), True) | {"steps": 1, "content": torch.zeros(0, dtype=torch.int64)}
    mixture = Mixture(mixed_parts(), layout="kinect20")
    seen = train_overlap(facts, mixture, mixture.parts["test"])
    assert (seen.labelled, seen.clips) == (30, 30 + 12)
    with pytest.raises(InputError, match="30 with labels"):
        refuse_seen(facts, mixture, "X")


def test_a_store_that_changed_is_another_mixture(mixed_parts):
    one, other = (Mixture(mixed_parts(only), layout="kinect20") for only in (("ucla", "film"), ("film", "ucla")))
    assert training_facts(one, False)["store"] != training_facts(other, False)["store"]


def test_a_run_calibrates_on_no_clip_whose_label_it_read(place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    found = {}
    for name in ("own", "ssl", "zero"):
        (tmp_path / name).mkdir()
        shutil.copy(CKPT[name], tmp_path / name / "net.ckpt")
        predictor = Predictor(tmp_path / name / "net.ckpt", labels="probe" if name == "ssl" else "classifier")
        found[name] = predictor.labeller.calibration, len(predictor.gallery)
    assert found["own"][0] is None
    for name in ("ssl", "zero"):  # one reads no labels, the other learned nothing
        calibration, clips = found[name]
        assert calibration.clips == clips > 0
