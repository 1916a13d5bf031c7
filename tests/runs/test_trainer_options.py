"""Every option of Lightning's Trainer and each of its callbacks: it does what it says, or is refused in one line."""

import csv
import importlib.util
import math
import re
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import yaml
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from skelcl.evaluation.record import CONFIG_KEY

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
STEPS, EPOCHS = 4, 2
BASE = [
    "--config",
    EXPERIMENTS / "pretrain" / "as_cal-nw_ucla.yaml",
    "--model.encoder.hidden=8",
    "--model.queue_size=32",
    "--model.warmup_epochs=0",
    "--data.batch_size=16",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.log_every_n_steps=1",
    f"--trainer.max_epochs={EPOCHS}",
]
# Options warn of themselves: anomaly detection of its cost, a limit of what it leaves out.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def _leave_no_options():
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
    torch.autograd.set_detect_anomaly(False)


@pytest.fixture
def fit(skelcl, ucla):
    return lambda *words: skelcl("fit", *BASE, f"--data.root={ucla}", *words)


@pytest.fixture(scope="module")
def plain(ucla, tmp_path_factory):
    """The weights of a run without an option."""
    from skelcl.cli import run

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("plain"))
        return run([str(word) for word in ("fit", *BASE, f"--data.root={ucla}")]).model.state_dict()


def trainer(text):
    """``a=1 b=2`` as options of the trainer."""
    return [f"--trainer.{word}" for word in text.split()]


def callback(name, **options):
    return [f"--trainer.callbacks={name}", *(f"--trainer.callbacks.{key}={value}" for key, value in options.items())]


def checkpoint():
    (path,) = Path("runs").rglob("last.ckpt")
    return torch.load(path, weights_only=True)


def logged(name):
    """The values of a metric in metrics.csv."""
    (path,) = Path("runs").rglob("metrics.csv")
    with path.open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


# What must change nothing

NEUTRAL = {
    "detect_anomaly": trainer("detect_anomaly=true"),
    "no inference_mode": trainer("inference_mode=false"),
    "simple profiler": trainer("profiler=simple"),
    "reload": trainer("reload_dataloaders_every_n_epochs=1"),
    "no sanity check": trainer("num_sanity_val_steps=0"),
    "whole sanity check": trainer("num_sanity_val_steps=-1"),
    "DeviceStatsMonitor": callback("DeviceStatsMonitor"),
    "LearningRateMonitor": callback("LearningRateMonitor"),
    "Timer": callback("Timer", duration="00:01:00:00"),
}
NEUTRAL_TOO = {
    "advanced profiler": trainer("profiler=advanced"),
    "sync_batchnorm": trainer("sync_batchnorm=true"),
    "benchmark": trainer("benchmark=true"),
    "deterministic": trainer("deterministic=true"),
    "deterministic, warned of": trainer("deterministic=warn"),
    "own samplers": trainer("use_distributed_sampler=false"),
    "progress bar": trainer("enable_progress_bar=true"),
    "model summary": trainer("enable_model_summary=true"),
    "no autolog": trainer("enable_autolog_hparams=false"),
    "registry": trainer("model_registry=x"),
    "folder": trainer("default_root_dir=x"),
    "rare logs": trainer("log_every_n_steps=50"),
    "no logger": trainer("logger=false"),
    "no validation": trainer("limit_val_batches=0"),
    "few test batches": trainer("limit_test_batches=1 limit_predict_batches=1"),
    "validation within the epoch": trainer("val_check_interval=0.5"),
    "validation by steps": trainer("val_check_interval=3 check_val_every_n_epoch=null"),
    "rare validation": trainer("check_val_every_n_epoch=100"),
    "much time": trainer("max_time=00:01:00:00"),
    "min_epochs": trainer("min_epochs=2 min_steps=8"),
    "wide clip": trainer("gradient_clip_val=1e9"),
    "single device": trainer("strategy=single_device"),
    "one node": trainer("num_nodes=1 devices=1"),
    "LightningEnvironment": trainer("plugins=LightningEnvironment"),
    "AsyncCheckpointIO": trainer("plugins=AsyncCheckpointIO"),
    "ModelSummary": callback("ModelSummary"),
    "LambdaCallback": callback("LambdaCallback"),
    "OnExceptionCheckpoint": callback("OnExceptionCheckpoint", dirpath="x"),
    "GradientAccumulationScheduler of 1": callback("GradientAccumulationScheduler", scheduling="{0: 1}"),
    "TQDMProgressBar": [*trainer("enable_progress_bar=true"), *callback("TQDMProgressBar")],
    "SpikeDetection": callback("SpikeDetection"),
}


@pytest.mark.parametrize(
    "words",
    [
        *(pytest.param(words, id=name) for name, words in NEUTRAL.items()),
        *(pytest.param(words, id=name, marks=pytest.mark.slow) for name, words in NEUTRAL_TOO.items()),
    ],
)
def test_a_run_comes_to_the_same(fit, plain, words):
    cli = fit(*words)
    assert cli.trainer.global_step == EPOCHS * STEPS
    for name, value in cli.model.state_dict().items():
        assert torch.equal(value, plain[name]), name
    if "--trainer.logger=false" not in words:
        assert checkpoint()["global_step"] == EPOCHS * STEPS


@pytest.mark.slow
def test_the_profiler_of_pytorch_writes_traces(ucla, tmp_path, plain):
    """In a process of its own: once it has run, PyTorch may crash where Python collects garbage."""
    words = [sys.executable, "-m", "skelcl", "fit", *BASE, f"--data.root={ucla}", "--trainer.profiler=pytorch"]
    subprocess.run([str(word) for word in words], cwd=tmp_path, timeout=200, check=True)
    (run,) = tmp_path.glob("runs/*/version_0")
    assert {path.name.split(".")[1] for path in run.glob("fit-*.json")} == {"training_step", "validation_step"}
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in state.items():
        assert torch.equal(value, plain[name]), name


# How far a run goes, and how often it is checked

LENGTHS = {
    "overfit_batches=2": (4, 2),
    "overfit_batches=0.5": (4, 2),
    "overfit_batches=1": (2, 2),
    "limit_train_batches=1": (2, 2),
    "limit_train_batches=1.0": (8, 2),
    "val_check_interval=1": (8, 8),
    "limit_train_batches=2": (4, 2),
    "limit_train_batches=0.5": (4, 2),
    "max_steps=3": (3, 0),
    "accumulate_grad_batches=2": (4, 2),
    "accumulate_grad_batches=3": (4, 2),
    "val_check_interval=2": (8, 4),
    "check_val_every_n_epoch=2": (8, 1),
    "max_epochs=0": (0, 0),
    "max_steps=0": (0, 0),
    "max_time=00:00:00:00": (0, 0),
}


@pytest.mark.parametrize("option", LENGTHS)
def test_a_run_is_as_long_as_it_was_told(fit, option):
    """Steps, and checks of the nearest neighbours."""
    steps, checks = LENGTHS[option]
    words = trainer(option)
    if option == "overfit_batches=0.5":
        words.append("--data.validation=none")  # there is no half of a single batch of queries
        checks = 0
    cli = fit(*words)
    assert cli.trainer.global_step == steps
    assert (len(logged("val/knn_top1")) if steps else 0) == checks


@pytest.mark.parametrize(("option", "steps"), [("true", 1), ("2", 2)])
def test_a_fast_development_run_leaves_nothing(fit, option, steps):
    assert fit(f"--trainer.fast_dev_run={option}").trainer.global_step == steps
    assert not [path for path in Path().rglob("*") if path.is_file()]


def test_without_checkpoints_there_is_none(fit, plain):
    cli = fit("--trainer.enable_checkpointing=false")
    assert torch.equal(cli.model.encoder.state_dict()["lstm.weight_hh_l0"], plain["encoder.lstm.weight_hh_l0"])
    assert not list(Path("runs").rglob("*.ckpt"))


@pytest.mark.parametrize("precision", ["bf16-mixed", pytest.param("16-mixed", marks=pytest.mark.slow)])
def test_mixed_precision_trains_weights_in_float32(fit, plain, precision):
    cli = fit(f"--trainer.precision={precision}")
    state = cli.model.state_dict()
    assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}
    assert not torch.equal(state["encoder.lstm.weight_hh_l0"], plain["encoder.lstm.weight_hh_l0"])
    torch.testing.assert_close(
        state["encoder.lstm.weight_hh_l0"], plain["encoder.lstm.weight_hh_l0"], rtol=0.1, atol=0.01
    )


def test_gradients_are_clipped(fit):
    """One step of SGD at rate 1 moves a weight by its gradient, and a little by decay."""
    words = ["--model.optimizer=SGD", "--model.optimizer.lr=1.0"]
    clipping = trainer("gradient_clip_val=1e-3 gradient_clip_algorithm=value")
    states = [fit(*words, *more).model.encoder.state_dict() for more in (
        trainer("max_steps=0"), trainer("max_steps=1"), [*clipping, *trainer("max_steps=1")]
    )]  # fmt: skip
    start, free, clipped = ([value.clone() for value in state.values()] for state in states)
    moved = [max((a - b).abs().max().item() for a, b in zip(start, end, strict=True)) for end in (free, clipped)]
    assert moved[0] > 0.01 > 0.0012 > moved[1] > 0.0005


# Callbacks


def test_a_timer_stands_in_the_config_and_ends_a_run(fit, skelcl):
    fit(*callback("Timer", duration="00:01:00:00"))
    (timer,) = yaml.safe_load(checkpoint()[CONFIG_KEY])["trainer"]["callbacks"]
    assert timer["init_args"] == {"duration": "00:01:00:00", "interval": "step", "verbose": True}
    (path,) = Path("runs").rglob("last.ckpt")
    again = skelcl("fit", "--ckpt_path", path, "--trainer.max_epochs=3")
    assert again.trainer.global_step == 3 * STEPS
    (timer,) = [one for one in again.trainer.callbacks if isinstance(one, pl.callbacks.Timer)]
    assert timer.time_elapsed("train") > 0


CALLBACKS = {
    "GradientAccumulationScheduler": (callback("GradientAccumulationScheduler", scheduling="{1: 2}"), 4 + 2),
    "EarlyStopping": (callback("EarlyStopping", monitor="train/loss", stopping_threshold=100), 4),
}
CALLBACKS_TOO = {
    "BatchSizeFinder": (callback("BatchSizeFinder", max_trials=1), None),
    "WeightAveraging": (callback("WeightAveraging"), 8),
    "EMAWeightAveraging": (callback("EMAWeightAveraging"), 8),
    "ModelCheckpoint": (callback("ModelCheckpoint", monitor="val/knn_top1", mode="max"), 8),
}


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        *(pytest.param(*case, id=name) for name, case in CALLBACKS.items()),
        *(pytest.param(*case, id=name, marks=pytest.mark.slow) for name, case in CALLBACKS_TOO.items()),
    ],
)
def test_callbacks_do_what_they_say(fit, words, steps):
    cli = fit(*words)
    assert cli.trainer.global_step == (steps or cli.trainer.num_training_batches * EPOCHS)
    assert math.isfinite(cli.trainer.callback_metrics["train/loss"])
    assert all(value.isfinite().all() for value in checkpoint()["state_dict"].values())


@pytest.mark.parametrize("name", ["WeightAveraging", "EMAWeightAveraging"])
def test_the_last_checkpoint_holds_the_averages(fit, name):
    fit(*callback(name))
    content = checkpoint()
    assert set(content["current_model_state"]) == set(content["state_dict"])
    key = "encoder.lstm.weight_hh_l0"
    assert not torch.equal(content["current_model_state"][key], content["state_dict"][key])


@pytest.mark.slow
def test_so_it_does_of_batch_norms_that_are_averaged_at_the_end(skelcl, ucla):
    words = [*METHODS["skeleton_clr"], f"--data.root={ucla}", *trainer("accelerator=cpu max_epochs=3")]
    words += trainer("enable_progress_bar=false enable_model_summary=false limit_train_batches=2")
    cli = skelcl("fit", *words, *callback("StochasticWeightAveraging", swa_lrs=0.01))
    (swa,) = [one for one in cli.trainer.callbacks if isinstance(one, pl.callbacks.StochasticWeightAveraging)]
    saved = checkpoint()["state_dict"]
    for name, value in swa._average_model.encoder.named_parameters():
        assert torch.equal(value, saved[f"encoder.{name}"]), name


METHODS = {
    "as_cal": BASE,
    "scd_net": [
        *("--config", EXPERIMENTS / "pretrain" / "scd_net-nw_ucla-small.yaml"),
        *("--data.batch_size=16", "--model.queue_size=32"),
    ],
    "skeleton_clr": [
        *("--config", EXPERIMENTS / "pretrain" / "skeleton_clr-nw_ucla-small.yaml"),
        *("--data.batch_size=16", "--model.queue_size=32"),
    ],
    "sds_cl": ["--config", EXPERIMENTS / "pretrain" / "sds_cl-nw_ucla-small.yaml", "--data.batch_size=16"],
    "std_cl": [
        *("--config", EXPERIMENTS / "supervised" / "std_cl-hcn-nw_ucla.yaml", "--data.validation=held-out"),
        *("--model.positives=2", "--model.negatives=8", "--data.repeat=1"),
    ],
    "supervised": ["--config", EXPERIMENTS / "supervised" / "hcn-nw_ucla.yaml", "--data.validation=held-out"],
}


@pytest.mark.parametrize(
    "method", ["as_cal", *(pytest.param(name, marks=pytest.mark.slow) for name in METHODS if name != "as_cal")]
)
def test_every_logged_name_can_be_monitored(skelcl, ucla, method):
    words = [*METHODS[method], f"--data.root={ucla}", *trainer("accelerator=cpu enable_progress_bar=false")]
    words += trainer("enable_model_summary=false limit_train_batches=2 max_epochs=2 log_every_n_steps=1")
    words += [*trainer("check_val_every_n_epoch=1"), "--knn.every_n_epochs=1"]
    names = set(skelcl("fit", *words).trainer.callback_metrics)
    assert "train/loss" in names
    assert names & {"val/knn_top1", "val/top1"}
    monitors = []
    for name in sorted(names):
        options = {"filename": f"best-{name.replace('/', '-')}", "monitor": name, "save_on_train_epoch_end": True}
        monitors.append({"class_path": "ModelCheckpoint", "init_args": options})
        monitors.append({"class_path": "EarlyStopping", "init_args": {"monitor": name, "patience": 99}})
    Path("monitors.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": monitors}}))
    cli = skelcl("fit", *words[:2], "--config", "monitors.yaml", *words[2:])
    assert cli.trainer.current_epoch == 2
    saved = {path.stem for path in Path(cli.trainer.log_dir).rglob("best-*.ckpt")}
    assert saved == {f"best-{name.replace('/', '-')}" for name in names}


def test_a_bank_is_filled_by_the_batches_that_are_overfitted(skelcl, ucla):
    """STD-CL's bank has slots for clips of the training part alone."""
    words = [*METHODS["std_cl"], f"--data.root={ucla}", *trainer("accelerator=cpu enable_progress_bar=false")]
    words += trainer("enable_model_summary=false overfit_batches=2 max_epochs=2")
    words += ["--data.batch_size=8", "--data.validation=none"]
    cli = skelcl("fit", *words)
    filled = cli.model.banks["temporal"].filled
    assert filled.tolist() == [True] * 16 + [False] * (len(filled) - 16)


# What is refused

REFUSED = {
    "barebones": (trainer("barebones=true"), "barebones"),
    "bf16-true": (trainer("precision=bf16-true"), "precision bf16-true: clips .* stay in float32, use one of 32-true"),
    "accelerator gpu": (trainer("accelerator=gpu"), "No supported gpu backend found"),
    "devices 0": (trainer("devices=0"), r"devices='0'.* is not a valid input"),
    "monitored by a checkpoint": (["--checkpoint.monitor=x"], "could not find the monitored key .*'val/knn_top1'"),
    "monitored by EarlyStopping": (callback("EarlyStopping", monitor="x"), "`x` which is not available.*`train/loss`"),
    "too small a limit": (trainer("limit_train_batches=0.1"), "0.1 leaves none of the 4 batches .*batch_size 16"),
    "no limit": (trainer("limit_train_batches=0"), "0 leaves none of the 4 batches .*: 60 training clips"),
    "no batch": (
        ["--data.drop_last=true", "--data.batch_size=61", "--model.queue_size=60"],
        "60 training clips fill no batch of batch_size 61",
    ),
    "val_check_interval": (
        trainer("val_check_interval=100"),
        "must be less than or equal to the number of the training",
    ),
    "no interval": (trainer("val_check_interval=0"), "val_check_interval 0 must be more than 0"),
    "hpc": (["--ckpt_path=hpc"], "no HPC checkpoint was found"),
    "best": (["--ckpt_path=best"], "is not configured to save the best model"),
    "averages of no batch norms": (
        callback("StochasticWeightAveraging", swa_lrs=0.01),
        "nothing holds them: use WeightAveraging",
    ),
    "no duration": (callback("Timer", duration="x"), "not a valid duration"),
}
REFUSED_TOO = {
    **{name: (trainer(f"precision={name}"), f"precision {name}: clips") for name in ("16-true", "64-true")},
    "plugin": (trainer("plugins=HalfPrecision"), "precision 16-true: clips"),
    "accelerator tpu": (trainer("accelerator=tpu"), "torch_xla"),
    "accelerator mps": (trainer("accelerator=mps"), "not available"),
    "accelerator x": (trainer("accelerator=x"), "invalid accelerator name"),
    "devices -1": (trainer("devices=-1"), "should be an int > 0"),
    "devices x": (trainer("devices=x"), "should be an int > 0"),
    "num_nodes 0": (trainer("num_nodes=0"), "must be a positive integer"),
    "limit 1.5": (trainer("limit_train_batches=1.5"), "invalid value 1.5 for limit_train_batches"),
    "limit -1": (trainer("limit_train_batches=-1"), "invalid value -1"),
    "interval 1.5": (trainer("val_check_interval=1.5"), "invalid value 1.5"),
    "overfit": (["--data.validation=none", *trainer("overfit_batches=0.1")], "overfit_batches 0.1 leaves none"),
    "no validation epoch": (trainer("check_val_every_n_epoch=0"), "check_val_every_n_epoch 0 must be more than 0"),
    "no accumulation": (trainer("accumulate_grad_batches=0"), "accumulate_grad_batches 0 must be more than 0"),
    "reload": (trainer("reload_dataloaders_every_n_epochs=-1"), "should be an int >= 0"),
    "fast_dev_run": (trainer("fast_dev_run=-1"), "should be >= 0"),
    "max_epochs": (trainer("max_epochs=-2"), "must be a non-negative integer"),
    "max_steps": (trainer("max_steps=-5"), "must be a non-negative integer"),
    "max_time": (trainer("max_time=x"), "not a valid duration"),
    "clipping": (trainer("gradient_clip_algorithm=x"), "gradient_clip_algorithm"),
    "profiler": (trainer("profiler=x"), "it can only be one of"),
    "profiler xla": (trainer("profiler=xla"), "profiler xla needs a TPU and torch_xla"),
    "strategy x": (trainer("strategy=x"), "invalid strategy name"),
    "strategy fsdp": (trainer("strategy=fsdp"), "requires a GPU accelerator"),
    "strategy xla": (trainer("strategy=xla"), "torch_xla"),
    "strategy single_xla": (trainer("strategy=single_xla"), "required positional argument: 'device'"),
    "environment": (trainer("plugins=LSFEnvironment"), "LSB_DJOB_RANKFILE"),
    "no checkpoints": (
        [*trainer("enable_checkpointing=false"), *callback("ModelCheckpoint")],
        "enable_checkpointing=False` but found `ModelCheckpoint`",
    ),
    "two bars": (callback("TQDMProgressBar"), "enable_progress_bar=False` but found `TQDMProgressBar`"),
    "LearningRateFinder": (callback("LearningRateFinder"), "learning rate finder"),
    "BackboneFinetuning": (callback("BackboneFinetuning"), "BackboneFinetuning: .* no attribute 'backbone'"),
    "BaseFinetuning": (callback("BaseFinetuning"), "BaseFinetuning: NotImplementedError"),
    "ModelPruning": (callback("ModelPruning", pruning_fn="l1_unstructured", amount=0.5), "ModelPruning: "),
}
MISSING = {
    "rich": (callback("RichProgressBar"), "pip install -U rich"),
    "deepspeed": (trainer("strategy=deepspeed"), "pip install -U deepspeed"),
    "mlflow": (trainer("logger=MLFlowLogger"), "mlflow"),
    "comet_ml": (trainer("logger=CometLogger"), "comet-ml"),
}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        *(pytest.param(*case, id=name) for name, case in REFUSED.items()),
        *(pytest.param(*case, id=name, marks=pytest.mark.slow) for name, case in REFUSED_TOO.items()),
        *(
            pytest.param(*case, id=name, marks=pytest.mark.slow)
            for name, case in MISSING.items()
            if importlib.util.find_spec(name) is None
        ),
    ],
)
def test_what_cannot_be_is_told_in_one_line(fit, capfd, monkeypatch, words, told):
    monkeypatch.delenv("SKELCL_DEBUG", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SystemExit) as stop:
        fit(*words)
    error = capfd.readouterr().err
    assert stop.value.code == 2
    (line,) = [line for line in error.splitlines() if line.startswith("skelcl: error: ")]
    assert re.search(told, line), line
    assert "Traceback" not in error
    assert not list(Path().rglob("*.ckpt"))
    for folder in Path("runs").glob("*/*"):
        assert (folder / "metrics.csv").is_file(), "a run that never began has no folder"


def test_batch_norms_are_not_synchronised_on_cpus(skelcl, ucla, capfd):
    words = [*METHODS["sds_cl"], f"--data.root={ucla}", *trainer("accelerator=cpu devices=2 strategy=ddp")]
    with pytest.raises(SystemExit) as stop:
        skelcl("fit", *words)
    assert stop.value.code == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("skelcl: error: ")]
    assert "sync_batchnorm true: PyTorch does so on GPUs only" in line


@pytest.mark.parametrize("word", ["best", "last", "hpc"])
def test_what_is_tested_is_a_file(skelcl, ucla, capfd, word):
    """Lightning would test an untrained network where it finds no last checkpoint."""
    with pytest.raises(SystemExit) as stop:
        skelcl("test", *BASE, f"--data.root={ucla}", "--ckpt_path", word)
    assert stop.value.code == 2
    assert f"--ckpt_path {word}: test wants a file" in capfd.readouterr().err


class Wrong(pl.Callback):
    """Code that is no option: it fails by itself, by a call of PyTorch, or by one of Lightning."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def on_train_batch_start(self, trainer, method, batch, batch_idx):
        if self.kind == "own":
            raise ValueError("own")
        if self.kind == "torch":
            torch.zeros(2) @ torch.zeros(3)
        method.log("x", "no number")


@pytest.mark.parametrize(
    ("kind", "error"), [("own", ValueError), ("torch", RuntimeError), ("lightning", (ValueError, TypeError))]
)
def test_a_bug_stays_one(fit, kind, error):
    with pytest.raises(error):
        fit(*callback(f"{__name__}.Wrong", kind=kind))


def test_so_does_one_of_a_method(fit, monkeypatch):
    def training_step(self, clips, batch_idx):
        raise MisconfigurationException("by hand")

    monkeypatch.setattr("skelcl.methods.ASCAL.training_step", training_step)
    with pytest.raises(MisconfigurationException, match="by hand"):
        fit()
