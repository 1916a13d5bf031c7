"""A run rebuilt from its checkpoint: alone, or with its data; and what is said where these are missing."""

import shutil
from pathlib import Path

import pytest
import torch

from skelcl.data.facts import FACTS_KEY, DataFacts
from skelcl.errors import InputError
from skelcl.runs.loading import load, load_method, read_data_facts
from skelcl.skeleton import KINECT20

CTR_GCN = ["supervised/ctr_gcn-ntu.yaml", "--model.encoder.widths=[8, 16]", "--model.encoder.strides=[1, 2]"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, drawn_checkpoint):
    return drawn_checkpoint(tmp_path_factory.mktemp("run") / "run.ckpt", *CTR_GCN)


@pytest.fixture
def alone(run, tmp_path, monkeypatch):
    """The checkpoint in an empty folder, its store out of reach; with other facts if asked for."""
    monkeypatch.chdir(tmp_path)

    def copy(facts=None, **changes):
        content = torch.load(run, weights_only=True)
        content["skelcl_config"] = content["skelcl_config"].replace(str(run.parent), str(tmp_path / "nowhere"))
        content[FACTS_KEY] = facts if facts is not None else content[FACTS_KEY] | changes
        torch.save(content, tmp_path / "alone.ckpt")
        return tmp_path / "alone.ckpt"

    return copy


def test_a_method_is_rebuilt_without_its_store_as_with_it(run, alone):
    method, facts = load_method(alone())
    expected, data = load(run)
    assert facts == data.facts == read_data_facts(run)
    assert type(method) is type(expected)
    assert not method.training
    state = expected.state_dict()
    assert method.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())
    clips = data.store.clips(data.parts["test"], 2)
    torch.testing.assert_close(method(clips), expected(clips), rtol=0, atol=0)
    assert list(alone().parent.iterdir()) == [alone()]  # generated data are not made anew for it


def test_a_checkpoint_without_facts_is_rebuilt_where_its_store_is(run, tmp_path, alone):
    content = torch.load(run, weights_only=True)
    facts = DataFacts.from_plain(content.pop(FACTS_KEY))
    torch.save(content, tmp_path / "old.ckpt")
    assert load_method(tmp_path / "old.ckpt")[1] == facts
    assert read_data_facts(tmp_path / "old.ckpt") is None


def test_what_the_checkpoint_says_of_its_data_wins_over_the_store(run, tmp_path):
    """The store has three classes and Kinect 2's joints; the network was trained on other data."""
    content = torch.load(run, weights_only=True)
    content[FACTS_KEY] |= {"skeleton": KINECT20.to_dict(), "classes": list("abcde"), "num_persons": 1}
    torch.save(content, tmp_path / "other.ckpt")
    method, facts = load_method(tmp_path / "other.ckpt", weights=False)
    assert (facts.skeleton, facts.num_persons, method.num_classes) == (KINECT20, 1, 5)
    assert method.encoder(torch.zeros(2, 3, 64, 20, 1)).shape == (2, 16)


@pytest.mark.parametrize("facts", [[1], "facts", {"dataset": "x"}])
def test_damaged_facts_are_one_line_that_names_the_file(alone, facts):
    with pytest.raises(InputError, match=r"alone\.ckpt: .*damaged.*skelcl_facts") as told:
        load_method(alone(facts))
    assert "\n" not in str(told.value)


# --- what needs clips -------------------------------------------------------------------------------------------------

NEED = {
    "test": ["test"],
    "validate": ["validate"],
    "predict": ["predict", "--features.path=f.npz"],
    "fit": ["fit"],
    "evaluate": ["evaluate", "--protocols=knn"],
    "fine-tune": ["fine-tune", "--trainer.max_epochs=1", "--seeds=0"],
    "views": ["plot", "views"],
}
"""Verbs that look at clips of the data set."""


@pytest.mark.parametrize("verb", NEED)
def test_what_needs_clips_says_which_and_how_to_get_them(verb, published, skelcl, tmp_path, capfd):
    shutil.copy(published, tmp_path / "alone.ckpt")
    facts = read_data_facts(published)
    with pytest.raises(SystemExit) as stop:
        skelcl(*NEED[verb], "--ckpt_path", "alone.ckpt")
    assert stop.value.code == 1
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("skelcl: error: ")]
    assert line == (
        f"skelcl: error: alone.ckpt needs clips of its data nw-ucla (test_view 3; 60 training and 30 test clips; "
        f"sha256 {facts.digest[:6]}), but there is no store at nowhere/nw-ucla: run `skelcl data prepare nw-ucla "
        "--raw <files> --root nowhere`"
    )


@pytest.fixture(scope="module")
def published(ucla, tmp_path_factory):
    """A run of one step on NW-UCLA, whose store has been taken away."""
    from skelcl.cli import run

    experiments = Path(__file__).parents[2] / "experiments"
    folder = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["skelcl"])
        (folder / "nowhere").symlink_to(ucla)
        words = ["--config", experiments / "pretrain" / "as_cal-nw_ucla.yaml", "--data.root=nowhere"]
        words += ["--model.encoder.hidden=4", "--model.queue_size=16", "--data.batch_size=8", "--trainer.max_epochs=1"]
        words += ["--trainer.limit_train_batches=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
        run([str(word) for word in ("fit", *words, "--data.validation=none")])
    (found,) = folder.rglob("last.ckpt")
    return found
