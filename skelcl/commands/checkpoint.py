"""The functions behind ``skelcl checkpoint``; their signatures and docstrings are the command line."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import lightning
import torch
import yaml
from torch import Tensor

from skelcl.bounds import PositiveInt, bounded
from skelcl.commands.parsing import Commands
from skelcl.data import SkeletonDataModule
from skelcl.data.facts import FACTS_KEY, DataFacts
from skelcl.errors import InputError, OptionError, printable
from skelcl.evaluation import summary
from skelcl.evaluation.provenance import read_facts, without_tensors
from skelcl.evaluation.record import REFERENCE_KEY
from skelcl.files import atomic_write, one_line
from skelcl.interop import as_cal, load_reference, mamp, scd_net, sds_cl
from skelcl.interop.detection import Origin, count_parameters, find_state, recognise
from skelcl.interop.reference import find_skeleton
from skelcl.methods.base import RECIPES_KEY
from skelcl.runs.checkpoints import read_file
from skelcl.runs.config import resolved_config
from skelcl.runs.loading import read_data_facts
from skelcl.runs.shipped import run_file
from skelcl.runs.trust import CONFIG_KEY, parsed
from skelcl.skeleton import KINECT20, NTU25, Skeleton
from skelcl.transforms.normalize import versions

Reference = Literal["ctr-gcn", "2s-agcn", "hyperformer", "hcn", "scd-net", "sds-cl", "as-cal", "mamp"]


def _classifier_state(state_dict: Mapping[str, Tensor], origin: Origin, skeleton: Skeleton) -> dict[str, Tensor]:
    """State of ``Supervised``, which calls the head of a classifier by another name."""
    sizes = {"num_classes": origin.num_classes, "num_frames": origin.num_frames, "num_persons": origin.num_persons}
    known = {name: value for name, value in sizes.items() if value is not None}
    state = load_reference(origin.name, state_dict, skeleton=skeleton, **known).state_dict()
    return {name.replace("head.", "classifier.", 1): value for name, value in state.items()}


def _no_options(origin: Origin, stream: str) -> dict[str, object]:
    return {}


@dataclass(frozen=True)
class Target:
    """What a reference network is here.

    Args:
        method: Class of the method that judges it.
        encoder: Class of its encoder.
        run: How the names of its run files start, from experiments on.
        ntu: How that for NTU RGB+D ends.
        ucla: How that for NW-UCLA ends.
        state: State of the method, from the file, its sizes and the skeleton.
        options: Of the model, away from its run file, from the sizes and the stream.
    """

    method: str
    encoder: str
    run: str
    ntu: str = "ntu"
    ucla: str = "nw_ucla"
    state: Callable[[Mapping[str, Tensor], Origin, Skeleton], dict[str, Tensor]] = _classifier_state
    options: Callable[[Origin, str], dict[str, object]] = _no_options


def _hyperformer_options(origin: Origin, stream: str) -> dict[str, object]:
    return {"encoder.hyperedges": "bone" if stream.startswith("bone") else "joint"}


def _hcn_options(origin: Origin, stream: str) -> dict[str, object]:
    return {"encoder.num_frames": origin.num_frames}


def _scd_net_options(origin: Origin, stream: str) -> dict[str, object]:
    sizes = {f"encoder.{name}": getattr(origin, name) for name in ("num_frames", "dim", "heads")}
    return sizes | {"projection": origin.projection, "queue_size": origin.queue_size}


def _sds_cl_options(origin: Origin, stream: str) -> dict[str, object]:
    return {"person_pool": "mean", "masked_motion": "false", "shared_time_indices": "false"}  # as released


def _as_cal_options(origin: Origin, stream: str) -> dict[str, object]:
    sizes: dict[str, object] = {"encoder.hidden": origin.dim, "encoder.layers": origin.layers}
    return sizes if origin.num_classes else {**sizes, "queue_size": origin.queue_size or as_cal.QUEUE}


def _mamp_options(origin: Origin, stream: str) -> dict[str, object]:
    return {**origin.options, "encoder.num_frames": origin.num_frames, "encoder.heads": origin.heads}


TARGETS: dict[str, Target] = {
    "ctr-gcn": Target("Supervised", "CTRGCN", "supervised/ctr_gcn"),
    "2s-agcn": Target("Supervised", "AGCN", "supervised/agcn"),
    "hyperformer": Target("Supervised", "Hyperformer", "supervised/hyperformer", options=_hyperformer_options),
    "hcn": Target("Supervised", "HCN", "supervised/hcn", options=_hcn_options),
    "scd-net": Target(
        "SCDNet", "SCD", "pretrain/scd_net", "ntu60", state=scd_net.method_state, options=_scd_net_options
    ),
    "sds-cl": Target("SDSCL", "DSTA", "pretrain/sds_cl", "ntu60", state=sds_cl.method_state, options=_sds_cl_options),
    "as-cal": Target(
        "ASCAL", "LSTM", "pretrain/as_cal", "ntu60", "nw_ucla-default", as_cal.method_state, _as_cal_options
    ),
    "mamp": Target("MAMP", "ViT", "pretrain/mamp", "ntu60", state=mamp.method_state, options=_mamp_options),
}
"""By the name of the reference network."""


@bounded
def import_reference(
    reference: Reference | None = None,
    input: Path | None = None,
    output: Path | None = None,
    run: Path | None = None,
    stream: Literal["joint", "bone", "motion", "bone_motion"] = "joint",
    num_classes: PositiveInt | None = None,
    num_frames: PositiveInt | None = None,
    skeleton: str | None = None,
    num_persons: PositiveInt | None = None,
    heads: PositiveInt | None = None,
    overwrite: bool = False,
) -> None:
    """Weights of a published network to a checkpoint that ``skelcl test --ckpt_path OUTPUT`` judges.

    A supervised network is judged by its own classifier, and so is a file of SCD-Net's or MAMP's linear evaluation, of
    MAMP's fine-tuning or of AS-CAL's training with labels. The frozen encoders of SCD-Net's, AS-CAL's and MAMP's
    pre-training and of SDS-CL are judged by nearest neighbours and a linear probe. Heads that STD-CL trained beside a
    network are left out.

    Args:
        reference: The network; by default the one that the names in the file belong to.
        input: File that the network's own training code saved.
        output: Checkpoint to write.
        run: Run file whose data and views the checkpoint carries; by default that of the network in
            experiments/supervised or experiments/pretrain, for NW-UCLA with 20 joints, else for NTU RGB+D.
        stream: What the network was trained on.
        num_classes: Classes of the linear layer; by default what the file tells, like the next three.
        num_frames: Frames of a view. The file tells those of HCN, SCD-Net and MAMP; else they are the run file's.
        skeleton: Name of the layout of the joints.
        num_persons: Bodies of a view. The file does not tell those of HCN, SDS-CL and MAMP: 1 with 20 joints, else 2.
        heads: Attention heads of SCD-Net and MAMP, which no file tells; by default those of the run file, 8.
        overwrite: Replace OUTPUT.

    Raises:
        InputError: A file cannot be used, its tensors are not exactly those of the network, or the run is one of
            something else.
    """
    if input is None or output is None:
        lacking = "input" if input is None else "output"
        example = "skelcl checkpoint import --reference ctr-gcn --input FILE.pt --output FILE.ckpt"
        raise OptionError(f"--{lacking} is missing: {example}")
    if output.exists() and output.samefile(input):
        raise InputError(f"{output} is the input itself: give another --output")
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists; --overwrite true replaces it")
    state = _weights(input, read_file(input))
    chosen = {"num_classes": num_classes, "num_persons": num_persons, "num_frames": num_frames, "heads": heads}
    origin, layout = _complete(input, state, reference, skeleton, chosen)
    state = _converted(input, origin, layout, state)
    target = TARGETS[origin.name]
    run = run_file(run or f"{target.run}-{target.ucla if layout == KINECT20.name else target.ntu}.yaml")
    config = _config(run, origin, stream, judged=any(name.startswith("classifier.") for name in state))
    facts = _data_facts(config, origin, layout)
    _save(output, origin, state, config, facts)
    print(f"{input}: {_describe(origin)}")
    print(f"wrote {output}, with data and views of {run}")
    print(f"judge it: skelcl test --ckpt_path {output}, on other data with --data FILE")


def inspect_file(file: Path) -> None:
    """Tell what a file with weights is, and what to do with it. Nothing in it is run.

    Args:
        file: A checkpoint of skelcl, or what the training code of a published network saved.

    Raises:
        InputError: The file cannot be read, or holds no weights.
    """
    content = read_file(file)
    state = _weights(file, content)
    rows = _ours(file, content) if CONFIG_KEY in content else _theirs(file, state)
    rows = {"what": rows.pop("what"), "tensors": f"{len(state)}, {count_parameters(state):,} parameters", **rows}
    print(file)
    for name, value in rows.items():
        print(f"  {name:<{max(map(len, rows))}}  {printable(value)}")


def _weights(path: Path, content: Any) -> dict[str, Tensor]:
    try:
        return find_state(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _complete(
    path: Path, state: Mapping[str, Tensor], reference: str | None, skeleton: str | None, chosen: Mapping[str, Any]
) -> tuple[Origin, str]:
    """The network and the name of its layout, with the sizes that were chosen, else told by the file."""
    origin = recognise(state)
    if reference is not None and origin is not None and origin.name != reference:
        raise InputError(f"{path}: the names in it are those of {origin.name}, not of {reference}")
    if origin is None and set(state) == {"weight", "bias"}:
        raise InputError(
            f"{path}: one linear layer alone, as AS-CAL's linear evaluation saves; import the file of its pre-training"
        )
    if origin is None and reference is None:
        raise InputError(f"{path}: of no known network ({', '.join(TARGETS)}); it holds {next(iter(state))} and so on")
    origin = origin or Origin(str(reference))
    layout = skeleton or {each.num_joints: each.name for each in (NTU25, KINECT20)}.get(origin.num_joints or 0)
    if layout is None:
        raise InputError(f"{path}: its joints are of no layout that is known for {origin.name}; choose with --skeleton")
    sizes = {name: value for name, value in chosen.items() if value is not None}
    if "heads" in sizes and origin.name not in ("scd-net", "mamp"):
        raise OptionError(f"--heads is for scd-net and mamp, not for {origin.name}")
    origin = dataclasses.replace(origin, **sizes)
    persons = origin.num_persons or (1 if layout == KINECT20.name else 2)
    return dataclasses.replace(origin, num_persons=persons), layout


def _converted(path: Path, origin: Origin, layout: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State of the method that judges the network."""
    try:
        return TARGETS[origin.name].state(state, origin, find_skeleton(layout))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _config(run: Path, origin: Origin, stream: str, judged: bool) -> str:
    """Resolved config of a run file, fitted to the network; of ``Supervised`` where it is judged by a classifier."""
    target = TARGETS[origin.name]
    options = target.options(origin, stream)
    options |= {f"{view}.sample.frames": origin.num_frames for view in ("view", "eval_view")}
    # In float32 the outputs are those of the reference, whatever precision the run trains in.
    args = [f"--data.num_persons={origin.num_persons}", f"--stream.kind={stream}", "--trainer.precision=32-true"]
    args += ["--stream.masked_motion=false"] * stream.endswith("motion")  # as released
    args += [f"--model.{name}={value}" for name, value in options.items() if value is not None]
    text = resolved_config(["--config", str(run), *args])
    config = yaml.safe_load(text)
    model = config["model"]
    found, wanted = [_short(model), _short(model["init_args"]["encoder"])], [target.method, target.encoder]
    if found != wanted:
        raise InputError(f"{run}: a run of {' with '.join(found)}; these weights take one of {' with '.join(wanted)}")
    if not judged or target.method == "Supervised":
        return text
    parts = {name: model["init_args"][name] for name in ("encoder", "view", "eval_view")}
    supervised = {name: config[name] for name in ("seed_everything", "data", "stream", "trainer")}
    supervised["model"] = {"class_path": "skelcl.methods.Supervised", "init_args": parts}
    return resolved_config(["--config", yaml.safe_dump(supervised)])


def _data_facts(config: str, origin: Origin, layout: str) -> DataFacts | None:
    """What is known of the data that the network was trained on; None where the run file's data are nobody's."""
    chosen = yaml.safe_load(config)["data"]
    module, _, name = chosen["class_path"].rpartition(".")
    kind: type[SkeletonDataModule] = getattr(importlib.import_module(module), name)
    arguments = chosen["init_args"]
    info = kind.published(arguments)
    if info is None:
        return None
    classes = tuple(arguments.get("classes") or info.classes)
    if origin.num_classes not in (None, len(classes)):
        lacking = f"{info.name} has {len(classes)}; with --run FILE of a run on its data, they have names"
        print(f"its {origin.num_classes} classes are numbered, since {lacking}")
        classes = tuple(f"class {number}" for number in range(origin.num_classes))
    return DataFacts(
        dataset=info.name,
        split=kind.describe_split(arguments),
        skeleton=find_skeleton(layout),
        channels=info.channels,
        num_persons=arguments["num_persons"],
        class_names=classes,
        recipe=info.recipe,
        units=info.units,
        axes=info.axes,
        fps=info.fps,
        counts={},
        digest="",
        source="",
        parameters={},
    )


def _save(path: Path, origin: Origin, state: dict[str, Tensor], config: str, facts: DataFacts | None) -> None:
    """Write what Lightning restores for a test: the whole file or none of it."""
    content = {
        "state_dict": state,
        CONFIG_KEY: config,
        **({} if facts is None else {FACTS_KEY: facts.to_plain()}),
        REFERENCE_KEY: origin.name,
        RECIPES_KEY: versions(),  # which compute what the published programs do
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": lightning.__version__,
    }
    with atomic_write(path) as part:
        torch.save(content, part)


def _ours(path: Path, content: Mapping[str, Any]) -> dict[str, str]:
    """What there is to tell about a checkpoint of skelcl."""
    config = parsed(path, content[CONFIG_KEY])
    model, data = config["model"], config["data"]
    trained = f"up to epoch {content.get('epoch')} (counted from 0), step {content.get('global_step')}"
    if REFERENCE_KEY in content:
        trained = f"elsewhere, imported as {content[REFERENCE_KEY]}"
    return {
        "what": f"checkpoint of skelcl: {_short(model)} with {_short(model['init_args']['encoder'])}",
        **_data_told(data),
        **_facts_told(read_data_facts(path, content)),
        "stream": config.get("stream", {}).get("kind", "joint"),
        "trained": trained,
        "trained on": summary.trained_on(without_tensors(read_facts(path, content))),
        "use": f"skelcl test --ckpt_path {path}",
    }


def _data_told(block: Mapping[str, Any]) -> dict[str, str]:
    """The data module that a config names, and each part of a mixture in a row of its own."""

    def told(one: Mapping[str, Any]) -> str:
        options = {name: value for name, value in (one.get("init_args") or {}).items() if value is not None}
        options.pop("parts", None)
        if isinstance(layout := options.get("layout"), Mapping):
            options["layout"] = layout.get("name", "of a file")
        return ": ".join(filter(None, [_short(one), ", ".join(f"{name} {value}" for name, value in options.items())]))

    parts = (block.get("init_args") or {}).get("parts")
    named = parts.items() if isinstance(parts, Mapping) else ()
    return {"data": told(block), **{f"part {name}": told(one) for name, one in named if "class_path" in (one or ())}}


def _facts_told(facts: DataFacts | None) -> dict[str, str]:
    """What a checkpoint says of its data."""
    if facts is None:
        return {"store": "not told; it is asked wherever the checkpoint is used"}
    skeleton = facts.skeleton
    rate = "" if facts.fps is None else f", {facts.fps:g} frames per second"
    parts = {part: ", ".join(skeleton.joints[joint] for joint in joints) for part, joints in skeleton.parts.items()}
    rows = {
        "split": ", ".join([facts.split, *(f"{part} {count:,}" for part, count in facts.counts.items())]),
        "store": f"{facts.dataset}, sha256 {facts.digest}" if facts.digest else f"{facts.dataset}, as published",
        "layout": f"{skeleton.name}: {skeleton.num_joints} joints, {', '.join(skeleton.joints)}",
        "parts": "; ".join(f"{part}: {joints}" for part, joints in parts.items()),
        "coordinates": f"{facts.channels}, in {facts.units}, {facts.axes}, recipe {facts.recipe}{rate}",
        "bodies": str(facts.num_persons),
        "classes": f"{facts.num_classes}: {', '.join(facts.class_names)}",
        "made with": ", ".join(f"{name} {value}" for name, value in facts.parameters.items()),
    }
    return {name: one_line(text, 10_000) for name, text in rows.items() if text}


def _theirs(path: Path, state: Mapping[str, Tensor]) -> dict[str, str]:
    """What there is to tell about weights of others."""
    origin = recognise(state)
    if origin is None:
        names = list(state)[:3]
        return {"what": f"weights of no known network; they are named {', '.join(names)} and so on"}
    rows = {"what": f"weights of {_describe(origin)}"}
    output = path.with_name(f"{path.stem}-skelcl.ckpt" if path.suffix == ".ckpt" else f"{path.stem}.ckpt")
    use = f"skelcl checkpoint import --reference {origin.name} --input {quote(str(path))} --output {quote(str(output))}"
    try:
        _converted(path, *_complete(path, state, None, None, {}), state)
    except InputError as error:
        return rows | {"problem": str(error).removeprefix(f"{path}: ")}
    return rows | {"use": use}


def _describe(origin: Origin) -> str:
    sizes = {
        "classes": origin.num_classes,
        "joints": origin.num_joints,
        "persons": origin.num_persons,
        "frames": origin.num_frames,
    }
    return ", ".join([origin.name, *(f"{name} {size}" for name, size in sizes.items() if size is not None)])


def _short(chosen: Mapping[str, Any]) -> str:
    return str(chosen["class_path"]).rpartition(".")[2]


COMMANDS: Commands = {"import": import_reference, "inspect": inspect_file}
"""Verb → function."""
