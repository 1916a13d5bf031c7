"""``skelcl checkpoint``: what others saved becomes what ``skelcl test`` judges, and nothing in a file is ever run."""

import json
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from skelcl.interop import load_reference
from skelcl.interop.detection import find_state, recognise
from skelcl.interop.reference import NETWORKS
from skelcl.runs.checkpoints import read_file
from skelcl.skeleton import KINECT20

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
REFERENCES = {"ctr-gcn": "ctr_gcn", "2s-agcn": "agcn", "hyperformer": "hyperformer", "hcn": "hcn"}
QUICK = ["--data.batch_size=2", "--trainer.limit_test_batches=2", "--trainer.accelerator=cpu"]
QUICK += ["--trainer.enable_progress_bar=false", "--supervised.figures=false"]


def fake(name, num_classes=10, num_frames=32):
    """A state dict of NW-UCLA's size as the reference would save it, with random values."""
    random = torch.Generator().manual_seed(1)
    module, layout = NETWORKS[name](KINECT20, num_classes, num_frames, 1)
    state = {}
    for key, shape in layout.shapes(module).items():
        value = 0.1 * torch.randn(shape, generator=random)
        state[key] = value.abs() + 1 if key.endswith("running_var") else value
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(7)
    return state


@pytest.fixture
def command(skelcl, tmp_path):
    """Runs a command in an empty folder that has the experiments."""
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    return skelcl


@pytest.fixture
def published(command):
    """Writes the file of a network, CTR-GCN by default, wrapped as training code does it."""

    def save(name="ctr-gcn", changes=None, without=(), **options):
        state = fake(name) | (changes or {})
        state = {f"module.{key}": value for key, value in state.items() if key not in without}
        torch.save({"epoch": 3, "model_state_dict": state}, "published.pt", **options)
        return state

    return save


def import_(command, *words):
    command("checkpoint", "import", "--input", "published.pt", "--output", "published.ckpt", *words)


def refusal(capfd, run, *words, code=1):
    """The one line with which a command ends."""
    with pytest.raises(SystemExit) as stop:
        run(*words)
    assert stop.value.code == code
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("skelcl: error: ")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("name", REFERENCES)
def test_an_imported_checkpoint_is_tested_to_the_logits_of_the_reference(command, published, ucla, name):
    published(name)
    import_(command, "--reference", name)
    cli = command("test", "--ckpt_path", "published.ckpt", f"--data.root={ucla}", *QUICK)
    with np.load(next(Path(cli.trainer.log_dir).glob("scores.npz"))) as file:
        logits, ids = file["logits"], list(file["id"])
    data = cli.datamodule
    clips = data.store.clips([list(data.ids).index(one) for one in ids], 1)
    network = load_reference(name, fake(name), num_classes=10, num_frames=32, skeleton="kinect20", num_persons=1)
    frames = 32 if name == "hcn" else 52
    with torch.no_grad():
        x = cli.model.eval_view(clips)
        expected = network.eval()(x).numpy()
    assert x.shape == (4, 3, frames, 20, 1)
    assert np.ptp(expected, axis=0).max() > 0
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def scd_net_file(evaluated):
    """What SCD-Net's training code saves, with a narrow clue, and the two networks in it."""
    random = torch.Generator().manual_seed(1)
    networks = []
    for _ in range(2):
        module, layout = NETWORKS["scd-net"](KINECT20, 10, 32, 1, dim=16, projection=4)
        for value in module.state_dict().values():
            if value.is_floating_point():
                value.copy_(0.1 * torch.rand(value.shape, generator=random) + 0.05)
        networks.append((module, layout.dump(module)))
    (query, q), (key, k) = networks
    if evaluated:
        state = {name: value for name, value in q.items() if name.startswith("encoder.")}
        weight = torch.randn(10, 32, generator=random)
        return state | {"fc.weight": weight, "fc.bias": torch.arange(10.0)}, query, key
    state = {f"encoder_q.{name}": value for name, value in q.items()}
    state |= {f"encoder_k.{name}": value for name, value in k.items()}
    for place, clue in enumerate("tsi"):
        state |= {f"{clue}_queue": torch.randn(4, 24, generator=random), f"{clue}_queue_ptr": torch.tensor([8 + place])}
    return state, query, key


SELF_SUPERVISED = ["--knn.k=1", "--evaluation.figures=false", "--evaluation.random_encoder=false"]


def test_pre_training_of_scd_net_is_imported_whole(command, ucla):
    state, query, key = scd_net_file(evaluated=False)
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, "published.pt")
    import_(command, "--reference", "scd-net")
    cli = command("test", "--ckpt_path", "published.ckpt", f"--data.root={ucla}", *QUICK, *SELF_SUPERVISED)
    method, data = cli.model.eval(), cli.datamodule
    assert type(method).__name__ == "SCDNet"
    clips = data.store.clips(data.parts["test"][:4], 1)
    with torch.no_grad():
        x = method.eval_view(clips)
        assert x.shape == (4, 3, 32, 20, 1)
        torch.testing.assert_close(method(clips), torch.cat(query.eval()(x)[:2], 1))
        for mine, its in zip(method.key.module.eval()(x), key.eval()(x), strict=True):
            torch.testing.assert_close(mine, its)
    for level, clue, place in (("temporal", "t", 8), ("spatial", "s", 9), ("anchor", "i", 10)):
        assert torch.equal(method.queue(level).keys, state[f"{clue}_queue"].T)
        assert method.queue(level).pointer == place
    assert next(Path(cli.trainer.log_dir).glob("scores.npz"))


def test_linear_evaluation_of_scd_net_is_imported_with_its_classifier(command, ucla, capfd):
    state, query, _ = scd_net_file(evaluated=True)
    torch.save({"state_dict": state}, "published.pt")
    command("checkpoint", "inspect", "published.pt")
    told = capfd.readouterr().out
    assert "weights of scd-net, classes 10, joints 20, persons 1, frames 32" in told
    (use,) = re.findall(r"skelcl (checkpoint import .*)", told)
    command(*use.split())
    cli = command("test", "--ckpt_path", "published.ckpt", f"--data.root={ucla}", *QUICK)
    with np.load(next(Path(cli.trainer.log_dir).glob("scores.npz"))) as file:
        logits, ids = file["logits"], list(file["id"])
    clips = cli.datamodule.store.clips([list(cli.datamodule.ids).index(one) for one in ids], 1)
    with torch.no_grad():
        clues = torch.cat(query.eval()(cli.model.eval_view(clips))[:2], 1)
    expected = (clues @ state["fc.weight"].T + state["fc.bias"]).numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    results = json.loads((Path(cli.trainer.log_dir) / "results.json").read_text())
    assert results["selection"] == "not known", "whoever published the weights chose the epoch"


def test_inspect_never_proposes_to_write_over_the_file(command, published, capfd):
    published("hcn")
    Path("published.pt").rename("it's.ckpt")
    command("checkpoint", "inspect", "it's.ckpt")
    (use,) = re.findall(r"skelcl (checkpoint import .*)", capfd.readouterr().out)
    command(*shlex.split(use))
    assert Path("it's-skelcl.ckpt").exists()


def test_one_network_of_scd_net_is_no_run(command, capfd):
    _, query, _ = scd_net_file(evaluated=False)
    _, layout = NETWORKS["scd-net"](KINECT20, 10, 32, 1, dim=16, projection=4)
    torch.save(layout.dump(query), "published.pt")
    assert "neither a run of pre-training nor one of linear evaluation" in refusal(capfd, import_, command)
    whole, *_ = scd_net_file(evaluated=False)
    torch.save({name: one for name, one in whole.items() if "channel_s.0" not in name}, "published.pt")
    assert "its encoder is incomplete" in refusal(capfd, import_, command)


def test_sds_cl_is_imported_with_its_attention(command, ucla):
    state = fake("sds-cl")
    torch.save(state, "published.pt")
    import_(command)
    cli = command("test", "--ckpt_path", "published.ckpt", f"--data.root={ucla}", *QUICK, *SELF_SUPERVISED)
    method, data = cli.model.eval(), cli.datamodule
    assert (type(method).__name__, method.person_pool, method.masked_motion) == ("SDSCL", "mean", False)
    clips = data.store.clips(data.parts["test"][:2], 1)
    network = load_reference("sds-cl", state, num_classes=10, skeleton="kinect20", num_persons=1).eval()
    with torch.no_grad():
        joint, motion = method.eval_view.with_motion(clips, None, False, False)
        outputs = network(joint, motion)
        torch.testing.assert_close(method(clips), torch.cat(outputs[-2:], 1), rtol=1e-4, atol=1e-5)
        squeezed = method.network(joint, motion)
    for mine, its in zip(squeezed.clips, outputs[-4:-2], strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", REFERENCES)
def test_inspect_knows_the_network_and_its_sizes(command, published, capfd, name):
    state = published(name)
    command("checkpoint", "inspect", "published.pt")
    told = capfd.readouterr().out
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    learned = sum(value.numel() for key, value in state.items() if not key.endswith(statistics))
    assert re.search(
        rf"weights of {name}, classes 10, joints 20, {'frames 32' if name == 'hcn' else 'persons 1'}", told
    )
    assert f"{len(state)}, {learned:,} parameters" in told
    (use,) = re.findall(r"skelcl (checkpoint import .*)", told)
    command(*use.split())
    assert Path("published.ckpt").exists()


@pytest.mark.parametrize(
    ("name", "file", "sizes"),
    [
        ("ctr-gcn", "ctrgcn-ntu", (60, 25, 2, None)),
        ("ctr-gcn", "ctrgcn-ucla", (10, 20, 1, None)),
        ("2s-agcn", "agcn-ntu", (60, 25, 2, None)),
        ("hyperformer", "hyperformer-ntu", (60, 25, 2, None)),
        ("hyperformer", "hyperformer-ucla", (10, 20, 1, None)),
        ("hcn", "hcn-32", (60, 25, None, 32)),
        ("hcn", "hcn-64", (60, 25, None, 64)),
        ("scd-net", "scdnet", (None, 25, 2, 64)),
        ("sds-cl", "sdscl-ntu", (60, 25, None, None)),
    ],
)
def test_names_and_sizes_of_the_published_networks(golden, name, file, sizes):
    found = recognise(golden(file).weights)
    assert (found.name, found.num_classes, found.num_joints, found.num_persons, found.num_frames) == (name, *sizes)


def test_inspect_knows_our_own(command, published, capfd):
    published()
    import_(command)
    capfd.readouterr()
    command("checkpoint", "inspect", "published.ckpt")
    told = capfd.readouterr().out
    for words in ("Supervised with CTRGCN", "NWUCLA: root data", "imported as ctr-gcn", "--ckpt_path published.ckpt"):
        assert words in told
    assert re.search(r"trained on +not known", told)


def test_inspect_tells_how_far_a_run_came(command, ucla, capfd):
    words = ["--model.encoder.hidden=4", "--model.queue_size=32", f"--data.root={ucla}", "--trainer.max_epochs=2"]
    words += ["--trainer.limit_train_batches=2", "--data.batch_size=8", "--trainer.accelerator=cpu"]
    words += ["--trainer.limit_val_batches=0", "--trainer.enable_progress_bar=false"]
    command("fit", "--config", "experiments/pretrain/as_cal-nw_ucla.yaml", *words)
    command("checkpoint", "inspect", "runs/as_cal-nw_ucla/version_0/checkpoints/last.ckpt")
    told = capfd.readouterr().out
    assert "ASCAL with LSTM" in told
    assert "up to epoch 1 (counted from 0), step 4" in told
    assert re.search(r"trained on +60 clips of nw-ucla, test_view 3, no labels", told)


def test_a_file_of_something_else(command, capfd):
    torch.save({"layer.weight": torch.zeros(2, 2)}, "other.pt")
    command("checkpoint", "inspect", "other.pt")
    assert "weights of no known network; they are named layer.weight" in capfd.readouterr().out
    words = ["checkpoint", "import", "--input", "other.pt", "--output", "other.ckpt"]
    assert "of no known network (ctr-gcn, 2s-agcn, hyperformer, hcn, scd-net, sds-cl, as-cal, mamp)" in refusal(
        capfd, command, *words
    )
    torch.save({"lr": 0.1, "steps": [1, 2]}, "other.pt")
    assert "holds no state dict: 'lr' is no tensor" in refusal(capfd, command, *words)
    torch.save([1, 2], "other.pt")
    assert "holds no weights: it is a list" in refusal(capfd, command, *words)


@pytest.mark.parametrize("verb", [["inspect"], ["import", "--output", "x.ckpt", "--input"]])
@pytest.mark.parametrize("new_format", [True, False])
def test_a_file_that_would_run_code_is_refused(command, capfd, tmp_path, verb, new_format):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    content = {"state_dict": fake("ctr-gcn"), "x": Bomb()}
    torch.save(content, "bad.pt", _use_new_zipfile_serialization=new_format)
    line = refusal(capfd, command, "checkpoint", *verb, "bad.pt")
    assert "bad.pt: refused, and nothing in it was run" in line
    assert "mkdir" in line
    assert not (tmp_path / "exploded").exists()
    assert not Path("x.ckpt").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", b"PK\x03\x04 half a zip", b"\x80\x02}q\x00."])
def test_a_damaged_file(command, capfd, content):
    Path("bad.pt").write_bytes(content)
    assert "bad.pt: not a checkpoint" in refusal(capfd, command, "checkpoint", "inspect", "bad.pt")


def test_a_missing_file(command, capfd):
    assert "nowhere.pt: no such file" in refusal(capfd, command, "checkpoint", "inspect", "nowhere.pt")


def test_files_of_old_versions_and_all_wrappers_are_read(published, tmp_path):
    """PyTorch before 1.6 wrote no zip, as the checkpoints of 2s-AGCN and HCN."""
    state = published("hcn", _use_new_zipfile_serialization=False)
    found = find_state(read_file(Path("published.pt")))
    assert found.keys() == fake("hcn").keys()
    assert all(torch.equal(found[key.removeprefix("module.")], value) for key, value in state.items())
    bare = fake("hcn")
    for wrapped in (bare, {"state_dict": bare}, {"model": {"state_dict": bare}}, {"net": bare, "acc": 0.8}):
        assert find_state(wrapped).keys() == bare.keys()


def test_missing_and_unexpected_tensors_are_listed(command, published, capfd):
    published(
        changes={"std.conv1.weight": torch.zeros(1), "l2.gcn1.PA": torch.zeros(3, 25, 25)},
        without=["l3.gcn1.alpha", "l4.tcn1.branches.0.0.bias"],
    )
    problems = (
        "l3.gcn1.alpha is missing",
        "l4.tcn1.branches.0.0.bias is missing",
        "std.conv1.weight is unexpected",
        "l2.gcn1.PA has shape (3, 25, 25) instead of (3, 20, 20)",
    )
    line = refusal(capfd, import_, command)
    command("checkpoint", "inspect", "published.pt")
    told = capfd.readouterr().out
    for problem in problems:
        assert problem in line
        assert problem in told
    assert not Path("published.ckpt").exists()


def test_another_network_than_said(command, published, capfd):
    published("2s-agcn")
    line = refusal(capfd, import_, command, "--reference", "ctr-gcn")
    assert "the names in it are those of 2s-agcn, not of ctr-gcn" in line


def test_another_number_of_classes_than_said(command, published, capfd):
    published("hcn")
    line = refusal(capfd, import_, command, "--num_classes", "12")
    assert "fc8.weight has shape (10, 512) instead of (12, 512)" in line


def test_heads_of_a_network_that_has_none(command, published, capfd):
    published("hcn")
    assert "--heads is for scd-net and mamp, not for hcn" in refusal(capfd, import_, command, "--heads", "4", code=2)


def test_a_checkpoint_is_replaced_only_when_asked_and_never_half(command, published, capfd, monkeypatch):
    published("hcn")
    Path("published.ckpt").write_text("precious")
    assert "published.ckpt exists; --overwrite true replaces it" in refusal(capfd, import_, command)
    onto = ["--output", "published.pt", "--overwrite", "true"]
    assert "published.pt is the input itself" in refusal(capfd, import_, command, *onto)

    def full(content, file):
        Path(file).write_text("half")
        raise OSError("No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(torch, "save", full)
        assert "No space left on device" in refusal(capfd, import_, command, "--overwrite", "true")
    assert Path("published.ckpt").read_text() == "precious"
    import_(command, "--overwrite", "true")
    assert sorted(path.name for path in Path().glob("published.*")) == ["published.ckpt", "published.pt"]
    assert torch.load("published.ckpt", weights_only=True)["skelcl_reference"] == "hcn"


def test_the_stream_and_the_frames_of_the_training(command, published):
    published("hyperformer")
    import_(command, "--stream", "bone_motion", "--num_frames", "40")
    config = yaml.safe_load(torch.load("published.ckpt", weights_only=True)["skelcl_config"])
    model = config["model"]["init_args"]
    assert config["stream"]["kind"] == "bone_motion"
    assert config["stream"]["masked_motion"] is False, "the published programs let motion jump"
    assert model["encoder"]["init_args"]["hyperedges"] == "bone"
    assert [model[view]["init_args"]["sample"]["init_args"]["frames"] for view in ("view", "eval_view")] == [40, 40]
    assert config["trainer"]["precision"] == "32-true"


def test_the_run_file_must_fit(command, published, capfd):
    published("hcn")
    run = "experiments/supervised/{}-nw_ucla.yaml"
    line = refusal(capfd, import_, command, "--run", run.format("std_cl-hcn"))
    assert "a run of STDCL with HCN; these weights take one of Supervised with HCN" in line
    line = refusal(capfd, import_, command, "--run", "supervised/hcn-nwucla.yaml")
    assert "--run supervised/hcn-nwucla.yaml: no such file; did you mean supervised/hcn-nw_ucla.yaml?" in line
    Path("experiments").unlink()
    import_(command)


def test_imported_weights_cannot_be_trained_on(command, published, ucla, capfd):
    published("hcn")
    import_(command)
    line = refusal(capfd, command, "fit", "--ckpt_path", "published.ckpt", f"--data.root={ucla}", *QUICK)
    assert "published.ckpt: holds weights alone" in line


@pytest.mark.parametrize("lacking", ["input", "output"])
def test_an_option_that_is_missing(command, capfd, lacking):
    words = {"input": ["--output", "y.ckpt"], "output": ["--input", "x.pt"]}[lacking]
    line = refusal(capfd, command, "checkpoint", "import", *words, code=2)
    assert f"--{lacking} is missing: skelcl checkpoint import --reference" in line
