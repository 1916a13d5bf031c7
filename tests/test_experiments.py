"""Everything shipped under experiments/ is parsed, and every run file runs, on miniature data."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint

from skelcl.evaluation.fusion import WEIGHTS
from skelcl.methods import STDCL, SCDNet, Supervised, WarmupMultiStepLR
from skelcl.methods.sds_cl import PAIRS
from skelcl.transforms import Stream, StructureMask

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
RUNS = sorted((EXPERIMENTS / "pretrain").glob("*.yaml"))
AS_CAL = EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml"
AS_CAL_RUNS = [run for run in RUNS if run.stem.startswith("as_cal-")]
SDS_CL_RUNS = [run for run in RUNS if run.stem.startswith("sds_cl-")]
SCD_NET_RUNS = [run for run in RUNS if run.stem.startswith("scd_net-")]
SKELETON_CLR_RUNS = [run for run in RUNS if run.stem.startswith("skeleton_clr-")]
MAMP_RUNS = [run for run in RUNS if run.stem.startswith("mamp-")]
SUPERVISED = sorted((EXPERIMENTS / "supervised").glob("*.yaml"))
BLOCKS = sorted((EXPERIMENTS / "data").glob("*.yaml"))
ENCODERS = sorted((EXPERIMENTS / "encoders").glob("*.yaml"))
OVERLAYS = sorted((EXPERIMENTS / "overlays").glob("*.yaml"))
QUICK = [
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=2",
    "--trainer.limit_train_batches=2",
    "--trainer.limit_val_batches=2",
    "--trainer.num_sanity_val_steps=0",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
]


def name(path):
    return str(path.relative_to(EXPERIMENTS))


@pytest.mark.parametrize("run", AS_CAL_RUNS, ids=name)
def test_a_run_file_trains_two_steps(skelcl, ucla, people, run):
    cli = skelcl("fit", "--config", run, *on_miniature_data(run, ucla, people), *QUICK)
    metrics = cli.trainer.callback_metrics
    assert metrics["train/loss"].isfinite()
    width = 3 * (20 * 1 if "nw_ucla" in run.stem else 25 * 2)
    assert cli.model.encoder.lstm.input_size == width, "the skeleton of the data reached the encoder"
    for callback in cli.trainer.callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.monitor is not None:
            assert callback.monitor in metrics
            assert not callback.monitor.startswith("test"), "nothing is selected on test"


def header_of(run):
    return "".join(line for line in run.read_text().splitlines(keepends=True) if line.startswith("#"))


@pytest.mark.parametrize("run", RUNS + SUPERVISED, ids=name)
def test_a_run_file_says_what_it_is(run):
    header = header_of(run)
    assert re.search(r"arXiv \d{4}\.\d{5}", header)
    assert f"skelcl fit --config experiments/{name(run)}" in header
    for field in ("Data", "Train", "Evaluate", "Expect", "Duration"):
        assert re.search(rf"^# {field}\b", header, re.MULTILINE), field
    logger = yaml.safe_load(run.read_text())["trainer"]["logger"][0]
    assert logger == {"class_path": "CSVLogger", "init_args": {"save_dir": "runs", "name": run.stem}}


def options_of(header):
    """Options of a run, with a value each, that a header offers: name to value."""
    found = re.findall(r"--((?:data|model|stream|trainer)\.[\w.]+) ([\w.-]*\w)", header)
    return {option: yaml.safe_load(value) for option, value in found}


@pytest.mark.parametrize("run", [run for run in RUNS + SUPERVISED if options_of(header_of(run))], ids=name)
def test_options_that_a_header_offers_are_options(skelcl, capsys, run):
    """Each arrives where its name says."""
    options = options_of(header_of(run))
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", "--config", run, *(f"--{option}={value}" for option, value in options.items()), "--print_config")
    assert stop.value.code == 0
    resolved = yaml.safe_load(capsys.readouterr().out)
    for option, value in options.items():
        place = resolved
        for part in option.split("."):
            place = place[part] if part in place else place["init_args"][part]
        assert place == value, option


DEVIATIONS = {
    "--data.drop_last true": SUPERVISED,
    "--stream.masked_motion false": [*SUPERVISED, *(run for run in SCD_NET_RUNS if "small" not in run.stem)],
    "--bodies agcn --compact_gaps true": [run for run in SCD_NET_RUNS if "-ntu" in run.stem],
    "--model.optimizer.lr 0.01 --model.scheduler.gamma 0.025": [
        run for run in SUPERVISED if run.stem.endswith("hyperformer-ntu")
    ],
}


@pytest.mark.parametrize("words", DEVIATIONS)
def test_what_a_run_does_otherwise_than_its_authors_is_named(words):
    """With the options that do it to the letter."""
    assert DEVIATIONS[words]
    for run in DEVIATIONS[words]:
        assert words in header_of(run), run


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (SCDNet, "appears late or ends early"),
        (SCDNet, "unstable sort"),
        (SCDNet, "does not jump"),
        (STDCL, "smaller batch of an epoch"),
        (STDCL, "leaves the heads alone"),
        (Stream, "a deviation: False lets it jump"),
        (StructureMask, "unstable sort"),
        (Supervised, "--data.drop_last true"),
    ],
)
def test_what_a_class_does_otherwise_than_its_authors_is_named(part, words):
    assert words in " ".join(part.__doc__.split())


@pytest.mark.parametrize("overlay", OVERLAYS, ids=name)
def test_an_overlay_lies_over_a_run(skelcl, ucla, capsys, overlay):
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", "--config", AS_CAL, "--config", overlay, f"--data.root={ucla}", "--print_config")
    assert stop.value.code == 0
    resolved = yaml.safe_load(capsys.readouterr().out)
    for key, value in yaml.safe_load(overlay.read_text())["trainer"].items():
        if key == "callbacks+":
            expected = [callback["class_path"].split(".")[-1] for callback in value]
            assert [callback["class_path"].split(".")[-1] for callback in resolved["trainer"]["callbacks"]] == expected
        elif key == "logger+":
            assert [logger["class_path"].split(".")[-1] for logger in resolved["trainer"]["logger"]] == [
                "CSVLogger",
                "WandbLogger",
            ]
        elif key != "logger":
            assert resolved["trainer"][key] == value


@pytest.mark.parametrize("block", BLOCKS, ids=name)
def test_a_data_block_replaces_the_data_of_a_run(skelcl, ucla, capsys, block):
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", "--config", AS_CAL, "--data", block, "--print_config")
    assert stop.value.code == 0
    resolved = yaml.safe_load(capsys.readouterr().out)["data"]
    chosen = yaml.safe_load(block.read_text())
    assert resolved["class_path"].split(".")[-1] == chosen["class_path"].split(".")[-1]
    for option, value in chosen.get("init_args", {}).items():
        if option == "parts":
            for part, one in value.items():
                assert resolved["init_args"]["parts"][part]["class_path"].split(".")[-1] == one["class_path"]
                assert one["init_args"].items() <= resolved["init_args"]["parts"][part]["init_args"].items()
        else:
            assert resolved["init_args"][option] == value


@pytest.fixture
def mixture(skelcl, ucla, mixed_parts):
    """The shipped mixture, with fewer generated people, in a folder with its other stores."""
    Path("data").mkdir()
    Path("data/nw-ucla").symlink_to(ucla / "nw-ucla")
    Path("data/my-data").symlink_to(mixed_parts(["film"])["film"].store.path)
    block = yaml.safe_load((EXPERIMENTS / "data" / "mixture.yaml").read_text())
    block["init_args"]["parts"]["people"]["init_args"] |= {"subjects": 2, "actions": ["throw", "kick"]}
    Path("mixture.yaml").write_text(yaml.safe_dump(block))
    return "mixture.yaml"


def test_the_mixture_trains_and_is_tested(skelcl, mixture, capsys):
    """The checkpoint needs nothing else."""
    words = ["--data", mixture, "--data.batch_size=16", "--data.validation_share=0.5", "--model.encoder.hidden=8"]
    cli = skelcl("fit", "--config", AS_CAL, *words, *QUICK, "--trainer.limit_val_batches=1.0")
    metrics = cli.trainer.callback_metrics
    assert metrics["val/knn_top1"] == (metrics["val/knn_top1/nw_ucla"] + metrics["val/knn_top1/people"]) / 2
    assert "val/knn_top1/film" not in metrics
    last = "runs/as_cal-nw_ucla/version_0/checkpoints/last.ckpt"
    told = ["--evaluation.figures=false", "--evaluation.random_encoder=false", "--trainer.enable_progress_bar=false"]
    cli = skelcl("test", "--ckpt_path", last, *told)
    assert {"test_nw_ucla/knn_top1", "test_people/linear_top1", "test_nw_ucla_clean/knn_top1"} <= set(
        cli.trainer.callback_metrics
    )
    skelcl("checkpoint", "inspect", last)
    assert "equal" in capsys.readouterr().out
    skelcl("evaluate", "--ckpt_path", last, "--protocols", "knn")
    assert {file.parent.name for file in Path("runs").rglob("evaluation/*/results.json")} == {"nw_ucla", "people"}


def test_a_supervised_method_wants_one_label_space(skelcl, mixture, capsys):
    run = EXPERIMENTS / "supervised" / "hcn-nw_ucla.yaml"
    words = ["--data", mixture, *SMALLER["hcn"], *QUICK, "--trainer.precision=32-true"]
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", "--config", run, *words, "--data.validation=none")
    assert stop.value.code == 1
    line = (
        "Supervised learns the classes of one label space, and nw_ucla (10 classes) and people (2 classes) have their"
    )
    assert line in capsys.readouterr().err


@pytest.mark.parametrize("block", ENCODERS, ids=name)
def test_an_encoder_block_replaces_the_encoder_of_a_run(skelcl, ucla, capsys, block):
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", "--config", AS_CAL, f"--data.root={ucla}", f"--model.encoder={block}", "--print_config")
    assert stop.value.code == 0
    resolved = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["encoder"]
    chosen = yaml.safe_load(block.read_text())
    assert resolved["class_path"].split(".")[-1] == chosen["class_path"]
    assert chosen["init_args"].items() <= resolved["init_args"].items()


def encoder_of(run):
    return run.stem.removeprefix("std_cl-").rsplit("-", 1)[0]


SMALLER = {
    "hcn": ["--model.encoder.hidden=8", "--model.encoder.points=16"],
    "agcn": ["--model.encoder.widths=[8, 8]", "--model.encoder.strides=[2, 2]"],
    "ctr_gcn": ["--model.encoder.widths=[8, 8]", "--model.encoder.strides=[2, 2]"],
    "hyperformer": ["--model.encoder.width=36", "--model.encoder.heads=3", "--model.encoder.strides=[2, 2]"],
}
CLASSES = {"hcn": "HCN", "agcn": "AGCN", "ctr_gcn": "CTRGCN", "hyperformer": "Hyperformer"}


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    """Folder for the store of generated people that all runs on NTU's skeleton share."""
    return tmp_path_factory.mktemp("people")


@pytest.mark.parametrize("run", [run for run in SUPERVISED if not run.stem.endswith("-pku_mmd")], ids=name)
def test_a_supervised_run_file_trains_two_steps(skelcl, ucla, people, run):
    """As shipped, but for narrow layers, banks of few clips, and generated people in the place of NTU RGB+D.

    Those on PKU-MMD are those on NTU RGB+D with other data: see test_matrix.py.
    """
    words = [*SMALLER[encoder_of(run)], "--trainer.precision=32-true", *QUICK, "--trainer.max_epochs=1"]
    words += ["--checkpoint.save_top_k=0"]
    if run.stem.endswith("-ntu"):
        words += ["--data", EXPERIMENTS / "data" / "synthetic.yaml", f"--data.root={people}", "--data.num_persons=2"]
        words += ["--data.subjects=4", "--data.replications=2", "--data.actions=['walk around', 'handshake']"]
        words += ["--data.batch_size=8"]
    else:
        words += [f"--data.root={ucla}", "--data.batch_size=8"]
    contrast = run.stem.startswith("std_cl-")
    if contrast:
        words += ["--model.positives=1", "--model.negatives=2"]
    cli = skelcl("fit", "--config", run, *words)
    assert type(cli.model.encoder).__name__ == CLASSES[encoder_of(run)]
    assert isinstance(cli.model, STDCL) == contrast
    assert cli.trainer.callback_metrics["train/loss"].isfinite()
    clips = next(iter(cli.datamodule.train_dataloader()))
    view, eval_view = cli.model.view, cli.model.eval_view
    assert view.frames == eval_view.frames
    trajectory = encoder_of(run) == "hyperformer"
    for one in (view, eval_view):
        assert [step.trajectory for step in one.steps if hasattr(step, "trajectory")] == [True] * trajectory
        assert one(clips).isfinite().all()


def on_miniature_data(run, ucla, people):
    """Arguments that replace the data of a run by generated ones, in the skeleton of its own."""
    if "nw_ucla" in run.stem:
        return [f"--data.root={ucla}", "--data.batch_size=8"]
    words = ["--data", EXPERIMENTS / "data" / "synthetic.yaml", f"--data.root={people}", "--data.num_persons=2"]
    words += ["--data.subjects=4", "--data.replications=2", "--data.actions=['walk around', 'handshake']"]
    return [*words, "--data.batch_size=8"]


@pytest.mark.parametrize("run", SCD_NET_RUNS, ids=name)
def test_a_run_of_scd_net_trains_two_steps(skelcl, ucla, people, run):
    """As shipped, but for narrow layers, short queues if any, and generated people in the place of others."""
    words = ["--model.encoder.widths=[8]", "--model.encoder.dim=16", "--model.encoder.heads=2"]
    words += ["--model.queue_size=16", "--stream.kind=bone", "--checkpoint.save_top_k=0"]
    cli = skelcl("fit", "--config", run, *words, *on_miniature_data(run, ucla, people), *QUICK)
    metrics = cli.trainer.callback_metrics
    terms = ("temporal_anchor", "spatial_anchor", "anchor_temporal", "anchor_spatial")
    total = sum(metrics[f"train/{term}"].item() for term in terms)
    assert metrics["train/loss"].item() == pytest.approx(total, rel=1e-5)
    small = run.stem.endswith("-small")
    steps = ["Reverse", "Shear"] if small else ["Rotate", "Shear", "Flip", "StructureMask", "CubeMask"]
    assert [type(step).__name__ for step in cli.model.view.steps] == ["Stream", *steps]
    assert bool(cli.model.queues) != small
    assert [type(step).__name__ for step in cli.model.eval_view.steps] == ["Stream"]
    clips = next(iter(cli.datamodule.train_dataloader()))
    assert cli.model.eval_view(clips).shape[2:] == (32 if small else 64, clips.skeleton.num_joints, clips.num_persons)


@pytest.mark.parametrize("run", SDS_CL_RUNS, ids=name)
def test_a_run_of_sds_cl_trains_two_steps(skelcl, ucla, people, run):
    """As shipped, but for narrow layers, and generated people in the place of NTU RGB+D and PKU-MMD."""
    words = ["--model.encoder.blocks=[[8, 4, 2], [8, 4, 2]]", *on_miniature_data(run, ucla, people), *QUICK]
    cli = skelcl("fit", "--config", run, *words)
    metrics, method = cli.trainer.callback_metrics, cli.model
    terms = [f"{loss}_{pair}" for loss in ("stl", "tsl") for pair in PAIRS] + ["gl"]
    total = sum(metrics[f"train/{term}"].item() for term in terms)
    assert metrics["train/loss"].item() == pytest.approx(total, rel=1e-5)
    release = run.stem.endswith("-release")
    options = method.person_pool, method.shared_time_indices, method.masked_motion, method.decay_all
    assert options == (("mean", False, False, True) if release else ("masked", True, True, False))
    groups = cli.trainer.optimizers[0].param_groups
    decay = 1e-4 if run.stem.endswith("-small") else 5e-4
    assert [group["weight_decay"] for group in groups] == ([decay] if release else [decay, 0])
    clips = next(iter(cli.datamodule.train_dataloader()))
    shape = (3, 50, clips.skeleton.num_joints, clips.num_persons)
    for view in (method.view, method.eval_view):
        assert [x.shape[1:] for x in view.with_motion(clips)] == [shape, shape]


@pytest.mark.parametrize("run", SKELETON_CLR_RUNS, ids=name)
def test_a_run_of_skeleton_clr_trains_two_steps(skelcl, ucla, people, run):
    """As shipped, but for narrow layers, a short queue, and generated people in the place of NTU RGB+D."""
    words = ["--model.encoder.widths=[4, 8]", "--model.encoder.strides=[2, 2]", "--model.queue_size=16"]
    words += ["--stream.kind=bone", *on_miniature_data(run, ucla, people), *QUICK]
    cli = skelcl("fit", "--config", run, *words)
    assert cli.trainer.callback_metrics["train/loss"].isfinite()
    assert [type(step).__name__ for step in cli.model.view.steps] == ["Shear", "Stream"]
    assert cli.model.view.steps[0].amplitude == 0.5
    assert cli.model.view.frames == cli.model.eval_view.frames
    group = cli.trainer.optimizers[0].param_groups[0]
    if not run.stem.endswith("-small"):
        assert (group["lr"], group["momentum"], group["weight_decay"], group["nesterov"]) == (0.1, 0.9, 1e-4, False)
        config = yaml.safe_load(run.read_text())
        assert config["data"]["init_args"]["batch_size"] == 128
        assert (config["trainer"]["max_epochs"], cli.model.view.frames) == (300, 50)
        model = config["model"]["init_args"]
        assert (model["queue_size"], model["temperature"], model["momentum"]) == (32768, 0.07, 0.999)


@pytest.mark.parametrize("run", MAMP_RUNS, ids=name)
def test_a_run_of_mamp_trains_two_steps(skelcl, ucla, people, run):
    """As shipped, but for narrow and few layers, and generated people in the place of others."""
    words = ["--model.encoder.dim=16", "--model.encoder.depth=2", "--model.encoder.heads=2"]
    words += ["--model.decoder_dim=8", "--model.decoder_depth=1", *on_miniature_data(run, ucla, people), *QUICK]
    cli = skelcl("fit", "--config", run, *words)
    metrics, method, config = cli.trainer.callback_metrics, cli.model, yaml.safe_load(run.read_text())
    assert metrics["train/loss"].isfinite()
    schedule = config["model"]["init_args"]["scheduler"]["init_args"]
    assert schedule["epochs"] == config["trainer"]["max_epochs"]
    steps = len(cli.trainer.train_dataloader) if cli.trainer.limit_train_batches == 1 else 2
    assert cli.trainer.lr_scheduler_configs[0].scheduler.steps_per_epoch == steps
    rate = cli.trainer.optimizers[0].param_groups[0]["lr"]
    assert rate == pytest.approx(1e-3 * 2 / schedule["warmup_epochs"]), "after two epochs of warm-up"
    assert [group["weight_decay"] for group in cli.trainer.optimizers[0].param_groups] == [0.05, 0]
    assert [type(step).__name__ for step in method.view.steps] == ["Rotate"]
    small = run.stem.endswith("-small")
    tokens = (32 if small else 120) // 4 * method.encoder.shape[2]
    assert method.visible == int(tokens * (1 - 0.9))
    if not small:
        published = config["model"]["init_args"]
        options = ("decoder_dim", "mask_ratio", "motion_stride")
        assert [published[option] for option in options] == [256, 0.9, 1]
        depth, tau = {"mamp-ntu120": (5, 0.75), "mamp-pku_mmd": (5, 0.8)}.get(run.stem, (3, 0.8))
        assert (published["decoder_depth"], published["tau"]) == (depth, tau)


def test_a_run_of_sds_cl_is_tested_from_its_checkpoint(skelcl, ucla, capsys):
    """On the features of the encoder, and of a random one, with one head for both streams."""
    run = EXPERIMENTS / "pretrain" / "sds_cl-nw_ucla-small.yaml"
    skelcl("fit", "--config", run, "--model.encoder.blocks=[[8, 4, 2], [8, 4, 2]]", f"--data.root={ucla}", *QUICK)
    cli = skelcl("test", "--ckpt_path", f"runs/{run.stem}/version_0/checkpoints/last.ckpt")
    assert {"test/knn_top1", "test/linear_top1", "test/random_linear_top1"} <= set(cli.trainer.callback_metrics)
    assert "linear probe 'sds_cl' on the SDSCL's features" in capsys.readouterr().out


NTU_RUNS = [run for run in SUPERVISED if run.stem.endswith("-ntu")]


@pytest.mark.parametrize("run", NTU_RUNS, ids=name)
def test_every_stream_is_a_flag_of_a_run_on_ntu(skelcl, capsys, run):
    words = ["--stream.kind=bone_motion", "--model.view.dup_body=true", "--model.eval_view.dup_body=true"]
    if encoder_of(run) == "hyperformer":
        words += ["--model.encoder.hyperedges=bone"]
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", "--config", run, *words, "--print_config")
    assert stop.value.code == 0
    resolved = yaml.safe_load(capsys.readouterr().out)
    trajectory = encoder_of(run) == "hyperformer"
    assert resolved["stream"] == {"kind": "bone_motion", "trajectory": trajectory, "masked_motion": True}
    model = resolved["model"]["init_args"]
    assert model["view"]["init_args"]["dup_body"]
    assert model["eval_view"]["init_args"]["dup_body"]


def test_one_argument_is_the_stream_of_both_views(skelcl, ucla):
    """A view that shows bones is the bones of the view that shows joints."""
    run = EXPERIMENTS / "supervised" / "ctr_gcn-nw_ucla.yaml"
    words = ["fit", "--config", run, f"--data.root={ucla}", *SMALLER["ctr_gcn"], *QUICK, "--trainer.max_epochs=0"]
    joints, bones = skelcl(*words), skelcl(*words, "--stream.kind=bone")
    clips = next(iter(joints.datamodule.train_dataloader()))
    for view in ("view", "eval_view"):
        seeds = [torch.Generator().manual_seed(3) for _ in range(2)]
        x, y = (getattr(c.model, view)(clips, g) for c, g in zip((joints, bones), seeds, strict=True))
        assert torch.equal(y, x - x[:, :, :, list(clips.skeleton.parents)])


WARM = {0: 0.005, 4: 0.025, 109: 0.025, 110: 0.0025, 119: 0.0025, 120: 2.5e-4}
RECIPES = {  # optimiser, its rate and decay, the rates of some epochs counted from 0, number of epochs
    "hcn-ntu": ("Adam", 1e-3, 1e-4, {0: 1e-3, 100: 3.660e-4}, 400),
    "hcn-nw_ucla": ("Adam", 1e-3, 1e-4, {0: 1e-3, 100: 3.660e-4}, 400),
    "agcn-ntu": ("SGD", 0.1, 4e-4, {0: 0.02, 4: 0.1, 34: 0.1, 35: 0.01, 54: 0.01, 55: 1e-3, 64: 1e-3}, 65),
    "agcn-nw_ucla": ("SGD", 0.1, 1e-4, {0: 0.02, 4: 0.1, 49: 0.1, 50: 0.01, 64: 0.01}, 65),
    "ctr_gcn-ntu": ("SGD", 0.1, 4e-4, {0: 0.02, 4: 0.1, 34: 0.1, 35: 0.01, 54: 0.01, 55: 1e-3, 64: 1e-3}, 65),
    "ctr_gcn-nw_ucla": ("SGD", 0.1, 1e-4, {0: 0.02, 4: 0.1, 49: 0.1, 50: 0.01, 64: 0.01}, 65),
    "hyperformer-ntu": (
        "SGD",
        0.025,
        4e-4,
        {0: 0.005, 4: 0.025, 109: 0.025, 110: 0.0025, 119: 0.0025, 120: 2.5e-4},
        140,
    ),
    "hyperformer-nw_ucla": ("SGD", 0.025, 0.0, WARM, 150),
}


@pytest.mark.parametrize("run", SUPERVISED, ids=name)
def test_a_supervised_run_chooses_what_its_paper_chose(run):
    config = yaml.safe_load(run.read_text())
    model = config["model"]["init_args"]
    kind, rate, decay, rates, epochs = RECIPES[run.stem.removeprefix("std_cl-").replace("-pku_mmd", "-ntu")]
    optimizer, scheduler = model["optimizer"], model["scheduler"]
    assert optimizer["class_path"] == f"torch.optim.{kind}"
    assert (optimizer["init_args"]["lr"], optimizer["init_args"]["weight_decay"]) == (rate, decay)
    assert config["trainer"]["max_epochs"] == epochs
    if kind == "SGD":
        assert optimizer["init_args"]["momentum"] == 0.9
        assert optimizer["init_args"]["nesterov"] is True
    else:
        assert config["trainer"]["gradient_clip_val"] == 0.5 * 64
    plain = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    schedules = {"WarmupMultiStepLR": WarmupMultiStepLR}
    schedules["torch.optim.lr_scheduler.ExponentialLR"] = torch.optim.lr_scheduler.ExponentialLR
    schedule = schedules[scheduler["class_path"]](plain, **scheduler["init_args"])
    seen = []
    for _ in range(epochs):
        seen += schedule.get_last_lr()
        plain.step()
        schedule.step()
    np.testing.assert_allclose([seen[epoch] for epoch in rates], list(rates.values()), rtol=1e-4)
    if run.stem.endswith("nw_ucla"):
        batch = 64 if "hcn" in run.stem else 16
        assert config["data"]["init_args"] == {"root": "data", "batch_size": batch, "repeat": 5}
    if run.stem.startswith("std_cl-"):
        contrast = {key: model[key] for key in ("positives", "negatives", "temperature", "w_spa", "w_tem")}
        assert contrast == {"positives": 128, "negatives": 512, "temperature": 0.8, "w_spa": 0.5, "w_tem": 0.5}


@pytest.mark.parametrize("run", [r for r in SUPERVISED if r.stem.startswith("std_cl-")], ids=name)
def test_a_run_of_std_cl_is_its_baseline_with_contrast(run):
    """Whatever a baseline is trained with, STD-CL is trained with too: the comparison is of the method alone."""
    ours = yaml.safe_load(run.read_text())
    baseline = yaml.safe_load(run.with_name(run.name.removeprefix("std_cl-")).read_text())
    for key in ("positives", "negatives", "temperature", "w_spa", "w_tem"):
        del ours["model"]["init_args"][key]
    assert (ours["model"].pop("class_path"), baseline["model"].pop("class_path")) == ("STDCL", "Supervised")
    for config in (ours, baseline):
        del config["trainer"]["logger"]
    assert ours == baseline


@pytest.mark.parametrize("run", SUPERVISED, ids=name)
def test_a_supervised_run_names_weights_of_fusion_that_exist(run):
    named = re.search(r"--weights ([\w-]+)", header_of(run))[1]
    assert named in {"equal", *WEIGHTS}


def test_the_runs_of_the_paper_choose_what_the_paper_chose(skelcl, ucla, capsys):
    """The optimiser's own defaults must not leak into a run; every number that the reference states is pinned here."""
    with pytest.raises(SystemExit):
        skelcl(
            "fit",
            "--config",
            EXPERIMENTS / "pretrain" / "as_cal-nw_ucla-default.yaml",
            f"--data.root={ucla}",
            "--print_config",
        )
    config = yaml.safe_load(capsys.readouterr().out)
    model = config["model"]["init_args"]
    optimizer, scheduler = model["optimizer"], model["scheduler"]
    assert optimizer["class_path"] == "torch.optim.SGD"
    chosen = {key: optimizer["init_args"][key] for key in ("lr", "momentum", "weight_decay", "nesterov", "dampening")}
    assert chosen == {"lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False, "dampening": 0.0}
    assert scheduler["init_args"]["milestones"] == [30]
    assert scheduler["init_args"]["gamma"] == 0.1
    assert (model["queue_size"], model["temperature"], model["momentum"], model["warmup_epochs"]) == (
        500,
        0.06,
        0.999,
        1,
    )
    assert (model["normalize"], model["projector"], model["mask_same_instance"], model["loss"]) == (
        False,
        "none",
        False,
        "info_nce",
    )
    assert config["data"]["init_args"]["batch_size"] == 32
    assert config["trainer"]["max_epochs"] == 60
    assert [step["class_path"].split(".")[-1] for step in model["view"]["init_args"]["steps"]] == ["Reverse", "Shear"]


GENERATED = {
    "ntu60": ["ntu60-xsub", "ntu60-xview"],
    "ntu120": ["ntu120-xsub", "ntu120-xset"],
    "pku-mmd --part 1": ["pku_mmd-1-xsub", "pku_mmd-1-xview"],
    "pku-mmd --part 2": ["pku_mmd-2-xsub", "pku_mmd-2-xview"],
}
SMALL = {
    "ntu60": ["--subjects=4", "--actions=3"],
    "ntu120": ["--subjects=4", "--actions=3"],
    "pku-mmd --part 1": ["--recordings=6", "--actions=3"],
    "pku-mmd --part 2": ["--recordings=6", "--actions=3"],
}


@pytest.mark.parametrize("dataset", GENERATED)
def test_a_run_trains_from_every_data_set_with_no_change_but_the_data_block(skelcl, dataset):
    """From generated raw files, in each format, through the store, to two steps of AS-CAL."""
    skelcl("data", "generate", *dataset.split(), "--output=raw", *SMALL[dataset])
    skelcl("data", "prepare", *dataset.split(), "--raw=raw", "--root=data")
    for block in GENERATED[dataset]:
        cli = skelcl("fit", "--config", AS_CAL, "--data", EXPERIMENTS / "data" / f"{block}.yaml", *QUICK)
        assert cli.trainer.callback_metrics["train/loss"].isfinite()
        assert cli.model.encoder.lstm.input_size == 3 * 25 * 2


def test_a_run_trains_from_generated_people(skelcl):
    words = ["--data.subjects=4", "--data.replications=1", "--data.actions=['walk around', 'handshake']"]
    cli = skelcl("fit", "--config", AS_CAL, "--data", EXPERIMENTS / "data" / "synthetic.yaml", *words, *QUICK)
    assert cli.trainer.callback_metrics["train/loss"].isfinite()
    assert cli.datamodule.num_classes == 2
