"""Every method on every data set under every published protocol has a run file, or is a hole with a reason."""

import re

import pytest
import yaml

from skelcl.runs.config import ConfigCLI
from skelcl.runs.shipped import EXPERIMENTS
from skelcl.runs.trainer_options import lightning_silenced

PROTOCOLS = {
    "ntu60": ["ntu60-xsub", "ntu60-xview"],
    "ntu120": ["ntu120-xsub", "ntu120-xset"],
    "pku_mmd": ["pku_mmd-1-xsub", "pku_mmd-1-xview", "pku_mmd-2-xsub", "pku_mmd-2-xview"],
    "nw_ucla": ["nw_ucla"],
    "bandai_namco": ["bandai_namco-2-style", "bandai_namco-2-content"],
    "synthetic": ["synthetic"],
}
"""Data sets, and the data blocks of their protocols."""
PRETRAINED = {
    "as_cal": "ASCAL",
    "sds_cl": "SDSCL",
    "scd_net": "SCDNet",
    "skeleton_clr": "SkeletonCLR",
    "mamp": "MAMP",
}
ENCODERS = {"agcn": "AGCN", "ctr_gcn": "CTRGCN", "hcn": "HCN", "hyperformer": "Hyperformer"}
SUPERVISED = {
    **{network: ("Supervised", encoder) for network, encoder in ENCODERS.items()},
    **{f"std_cl-{network}": ("STDCL", encoder) for network, encoder in ENCODERS.items()},
}
HOLES = {
    ("skeleton_clr", "nw_ucla"): (
        "nothing was published, and a queue of 32,768 keys is 32 epochs of 1,020 clips",
        "pretrain/skeleton_clr-nw_ucla-small.yaml",
    ),
    ("skeleton_clr", "bandai_namco"): ("as on NW-UCLA, whose runs it has", "pretrain/skeleton_clr-nw_ucla-small.yaml"),
}
"""Run files that there are not: why, and what stands in for them."""


def run_of(method, dataset):
    """The run file of a method on a data set; generated people stand in for NTU RGB+D 60.

    Nothing was published on motion capture, of one body like NW-UCLA: it is trained by the runs of that.
    """
    dataset = {"synthetic": "ntu60", "bandai_namco": "nw_ucla"}.get(dataset, dataset)
    if method in SUPERVISED:
        dataset = "ntu" if dataset in ("ntu60", "ntu120") else dataset  # one recipe for both
        return EXPERIMENTS / "supervised" / f"{method}-{dataset}.yaml"
    return EXPERIMENTS / "pretrain" / f"{method}-{dataset}.yaml"


def header_of(run):
    return "".join(line for line in run.read_text().splitlines(keepends=True) if line.startswith("#"))


class OnlyParser(ConfigCLI):
    """The parser of runs, to be used more than once: making it costs more than parsing."""

    def parse_arguments(self, parser, args):
        self.config = {"seed_everything": False}

    def instantiate_classes(self):
        pass


@pytest.fixture(scope="module")
def parse():
    """``parse(*words)`` gives the resolved config of a run."""
    with lightning_silenced():
        parser = OnlyParser(save_config_callback=None, run=False).parser
        yield lambda *words: parser.parse_args([str(word) for word in words]).as_dict()


METHODS = [*PRETRAINED, *SUPERVISED]
# The last protocol of a data set is the farthest from what its run file says; a parse of each takes too long.
CELLS = [
    pytest.param(
        method,
        dataset,
        protocol,
        id=f"{method}-{protocol}",
        marks=[] if protocol == protocols[-1] else pytest.mark.slow,
    )
    for method in METHODS
    for dataset, protocols in PROTOCOLS.items()
    for protocol in protocols
]


@pytest.mark.parametrize(("method", "dataset", "protocol"), CELLS)
def test_every_method_on_every_data_set_under_every_protocol(parse, method, dataset, protocol):
    run = run_of(method, dataset)
    if (method, dataset) in HOLES:
        assert not run.exists(), "no hole any more"
        run = EXPERIMENTS / HOLES[method, dataset][1]
    own, header = yaml.safe_load(run.read_text())["data"], header_of(run)
    file = EXPERIMENTS / "data" / f"{protocol}.yaml"
    block = yaml.safe_load(file.read_text())
    wanted = dict(block["init_args"])
    if dataset in ("synthetic", "bandai_namco"):
        words = ["--data", file]
    elif isinstance(own, str):
        words = [] if own == f"../data/{file.name}" else ["--data", file]
        assert not words or re.search(rf"\b{protocol}\b", header), "how to get there"
    else:
        # Batches are the method's own; where the split or the part is another, the header says so.
        del wanted["batch_size"]
        options = {key: value for key, value in wanted.items() if own["init_args"].get(key, value) != value}
        assert all(f"--data.{key} {value}" in header for key, value in options.items()), "how to get there"
        words = [f"--data.{key}={value}" for key, value in options.items()]
    config = parse("--config", run, *words)
    data, model = config["data"], config["model"]
    assert data["class_path"].rpartition(".")[2] == block["class_path"]
    assert wanted.items() <= data["init_args"].items()
    kind, encoder = SUPERVISED.get(method) or (PRETRAINED[method], None)
    assert model["class_path"].rpartition(".")[2] == kind
    assert encoder in (None, model["init_args"]["encoder"]["class_path"].rpartition(".")[2])


def test_every_run_file_and_every_data_block_is_in_the_matrix():
    """But for presets and sizes of a run, the user's own data, mixtures, and the split of one-shot recognition."""
    every = {(method, dataset) for method in METHODS for dataset in PROTOCOLS}
    cells = {run_of(*cell) for cell in every - set(HOLES)}
    runs = {run for folder in ("pretrain", "supervised") for run in (EXPERIMENTS / folder).glob("*.yaml")}
    assert all(re.search(r"-(small|default|release)$", run.stem) for run in runs - cells)
    blocks = {file.stem for file in (EXPERIMENTS / "data").glob("*.yaml")}
    assert blocks - {one for protocols in PROTOCOLS.values() for one in protocols} == {
        "custom",
        "mixture",
        "ntu120-one_shot",
    }


PUBLISHED = {"mamp": {"decoder_depth": 5}}
"""Options of a method on PKU-MMD that were published; of no others was anything."""


@pytest.mark.parametrize("method", METHODS)
def test_a_run_on_pku_mmd_is_that_on_ntu(method):
    """But for the data and what was published on how to train there, the settings are those for NTU RGB+D 60."""
    there, here = (yaml.safe_load(run_of(method, dataset).read_text()) for dataset in ("ntu60", "pku_mmd"))
    for config, dataset in ((there, "ntu60"), (here, "pku_mmd")):
        assert config["trainer"].pop("logger")[0]["init_args"]["name"] == run_of(method, dataset).stem
        data = config["data"]
        config["data"] = (
            data.replace("pku_mmd-1", "ntu60")
            if isinstance(data, str)
            else {key: data["init_args"].get(key) for key in ("batch_size", "drop_last", "num_persons", "split")}
        )
    there["model"]["init_args"] |= PUBLISHED.get(method, {})
    assert there == here
