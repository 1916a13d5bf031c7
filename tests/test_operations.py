"""The floating-point operations that headers of run files tell are those that training takes."""

import itertools
import re

import lightning.pytorch as pl
import pytest
import yaml
from torch.utils.flop_counter import FlopCounterMode

from skelcl.runs.shipped import EXPERIMENTS

TOLD = {
    run: float(found[1].replace(",", "")) * 1e15
    for folder in ("pretrain", "supervised")
    for run in sorted((EXPERIMENTS / folder).glob("*.yaml"))
    if (found := re.search(r"^#.*\babout ([\d.,]+) PFLOP", run.read_text(), re.MULTILINE))
}
"""Of the whole training, by run file."""
# AS-CAL's LSTM is one operation to PyTorch, whose counter does not look into it; STD-CL's banks add next to nothing.
COUNTED = [run for run in TOLD if re.fullmatch(r"(?!as_cal|std_cl).*-(ntu60|ntu|nw_ucla)", run.stem)]


def clips_shown(run, sizes):
    """Training clips of all epochs, of the complete data set."""
    config = yaml.safe_load(run.read_text())
    data = config["data"]
    if isinstance(data, str):
        data = yaml.safe_load((run.parent / data).read_text())
    options = data["init_args"]
    return sizes[data["class_path"], options.get("split")] * options.get("repeat", 1) * config["trainer"]["max_epochs"]


def test_data_sets_differ_by_their_clips_alone(by_hand):
    """A clip takes as many operations wherever it has 25 joints and two bodies; headers have two digits at most."""
    sizes = by_hand("cost").TRAINING_CLIPS
    # As published, MAMP decodes with three blocks on NTU RGB+D 60 and with five elsewhere.
    others = [run for run in TOLD if "nw_ucla" not in run.stem and run.stem != "mamp-ntu60"]
    per_clip = {run: TOLD[run] / clips_shown(run, sizes) for run in others}
    by_method = {run: run.stem.rpartition("-")[0].removesuffix("-ntu60").removeprefix("std_cl-") for run in per_clip}
    grouped = itertools.groupby(sorted(per_clip, key=by_method.get), by_method.get)
    groups = {method: [per_clip[run] for run in runs] for method, runs in grouped}
    assert set(groups) == {"as_cal", "scd_net", "sds_cl", "agcn", "ctr_gcn", "hcn", "hyperformer", "mamp"}
    for method, found in groups.items():
        assert len(found) >= (2 if method == "mamp" else 3), method
        assert max(found) < 1.1 * min(found), method
    for run in TOLD:
        assert TOLD[run] == TOLD[run.with_name(run.name.removeprefix("std_cl-"))]


class Counter(pl.Callback):
    """Operations of each training step: views, forward, backward, twin."""

    def on_train_batch_start(self, trainer, method, *batch):
        self.counting = FlopCounterMode(display=False).__enter__()

    def on_train_batch_end(self, trainer, method, *batch):
        self.counting.__exit__(None, None, None)
        self.flop = self.counting.get_total_flops()


@pytest.mark.slow
@pytest.mark.parametrize("run", COUNTED, ids=lambda run: run.stem)
def test_operations_are_counted(by_hand, skelcl, run):
    from skelcl.commands.lightning import SkelCLI

    batch, ucla = 4, "nw_ucla" in run.stem
    people = {"subjects": 2, "replications": 1, "actions": ["walk around", "handshake"], "validation": "none"}
    people |= {"layout": "kinect20" if ucla else "ntu25", "num_persons": 1 if ucla else 2, "batch_size": batch}
    words = ["--config", str(run), "--data", yaml.safe_dump({"class_path": "Synthetic", "init_args": people})]
    words += [
        "--trainer.logger=false",
        "--trainer.accelerator=cpu",
        "--trainer.max_steps=1",
        "--trainer.precision=32-true",
    ]
    words += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    cli = SkelCLI(save_config_callback=None, run=False, args=words)
    counter = Counter()
    cli.trainer.callbacks = [counter]
    cli.trainer.fit(cli.model, cli.datamodule)
    counted = counter.flop / batch * clips_shown(run, by_hand("cost").TRAINING_CLIPS)
    assert TOLD[run] == pytest.approx(counted, rel=0.1), f"{counted / 1e15:.3g} PFLOP"
