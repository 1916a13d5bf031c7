"""``skelcl evaluate``: protocols on the frozen features of a checkpoint, encoded once, beside a random encoder."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from skelcl.bounds import PositiveInt, bounded
from skelcl.commands.parsing import call
from skelcl.data import SkeletonDataModule
from skelcl.data.formats.containers import read_yaml
from skelcl.errors import InputError, OptionError, printable
from skelcl.evaluation import summary
from skelcl.evaluation.clustering import ClusteringOptions, require_clustering
from skelcl.evaluation.collapse import CollapseOptions
from skelcl.evaluation.early import EarlyOptions
from skelcl.evaluation.encode import Encoded, find_device
from skelcl.evaluation.few_shot import FewShotOptions, draw_episodes
from skelcl.evaluation.judge import Judge, Scores
from skelcl.evaluation.knn import KNNOptions
from skelcl.evaluation.mixed import label_spaces, mixed_parts
from skelcl.evaluation.page import Page, Table, write_page
from skelcl.evaluation.probe import PRESETS, LinearOptions, ProbeName
from skelcl.evaluation.projection import require_tsne
from skelcl.evaluation.provenance import read_facts, refuse_changed, refuse_classes, refuse_seen
from skelcl.evaluation.record import run_record, save_record, with_protocols
from skelcl.evaluation.retrieval import RetrievalOptions
from skelcl.evaluation.robustness import Reading, RobustnessOptions, suite
from skelcl.evaluation.session import Session
from skelcl.files import atomic_write
from skelcl.methods import Supervised
from skelcl.runs.loading import load
from skelcl.runs.matching import matching_options
from skelcl.runs.mixtures import part_alone
from skelcl.runs.shipped import run_file
from skelcl.runs.trust import stored_config
from skelcl.seeding import run_seed, untouched, use_seed

Protocol = Literal["linear", "knn", "retrieval", "clustering", "collapse", "few_shot", "early", "robustness"]
VERSIONS: dict[str, int] = dict.fromkeys(get_args(Protocol), 1)
"""Raised whenever the numbers of a protocol change under the same options."""
SAME_CLASSES = set(inspect.signature(SkeletonDataModule).parameters) - {"classes", "num_persons"}
"""Options of all data modules that leave a classifier its classes."""
BLOCK = {"class_path", "init_args", "dict_kwargs"}
"""Keys of a data block."""
LINEAR, KNN, RETRIEVAL, CLUSTERING = LinearOptions(), KNNOptions(), RetrievalOptions(), ClusteringOptions()
COLLAPSE, FEW_SHOT, EARLY, ROBUSTNESS = CollapseOptions(), FewShotOptions(), EarlyOptions(), RobustnessOptions()


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What the evaluation of one checkpoint gave.

    Args:
        folder: With ``results.json``, ``table.md`` and ``report.html``.
        metrics: By ``<subset>/<kind>``, accuracies 0…1, mean over the seeds of the judges; of the random encoder by
            ``<subset>/random_<kind>``.
        sd: Standard deviation over these seeds, where there are several.
        interval: Half-widths of 95 % intervals over episodes.
        readings: Accuracies under every damage.
        features: Frozen features of the training and the test part, by encoder: ``learned`` and ``random``.
        table: What ``table.md`` holds.
    """

    folder: Path
    metrics: Mapping[str, float]
    sd: Mapping[str, float]
    interval: Mapping[str, float]
    readings: Sequence[Reading]
    features: Mapping[str, tuple[Encoded, Encoded]]
    table: str


class SeveralLabelSpaces(InputError):
    """The data are a mixture whose parts have classes of their own, and a protocol takes one label space.

    Args:
        dataset: Name of the data.
        parts: Names of the parts with labels.
    """

    def __init__(self, dataset: str, parts: Sequence[str]) -> None:
        super().__init__(
            f"{dataset} has several label spaces, and a protocol has one: choose a part, {' or '.join(parts)}"
        )
        self.parts = parts


def main(argv: Sequence[str]) -> None:
    """``skelcl evaluate``.

    Args:
        argv: Options of the command. ``--data FILE`` stands for what is in the file, and ``--data.KEY`` goes on top.
    """
    options, files = [], []
    rest = iter(argv)
    for word in rest:
        name, equals, value = word.partition("=")
        if name == "--data":
            file = value if equals else next(rest, "")
            if not file or file.startswith("--"):
                raise OptionError("--data: a file with a data block is wanted, or --data.KEY VALUE")
            files = ["--data", json.dumps(_block(Path(file)))]
        else:
            options.append(word)
    call("skelcl evaluate", command, [*files, *options])


def command(ckpt_path: Path | list[Path] | None = None, **options: Any) -> None:
    """Judge the frozen encoder of a checkpoint of any method by several protocols, beside one with random weights.

    Every clip is encoded once for all protocols and seeds. Nothing is selected on test data. Parts of a mixture with
    several label spaces are judged one after the other, each in a folder of its own.

    Args:
        ckpt_path: Checkpoint, of `skelcl fit` or `skelcl checkpoint import`; several are judged one after the other.
        options: As of :func:`evaluate`.
    """
    if ckpt_path is None:
        raise OptionError("--ckpt_path is missing: skelcl evaluate --ckpt_path FILE --protocols linear,knn")
    paths = ckpt_path if isinstance(ckpt_path, list) else [ckpt_path]
    if len(paths) > 1 and options.get("output") is not None:
        raise OptionError("--output is for one checkpoint; several are written to the folders of their own runs")
    for path in paths:
        try:
            _tell(evaluate(path, **options))
        except SeveralLabelSpaces as error:
            folder = options.pop("output", None) or default_folder(path)
            for part in error.parts:
                _tell(evaluate(path, **{**options, "part": part, "output": folder / part}))


def _tell(found: Evaluation) -> None:
    print(f"\n{found.table}\nfiles: {found.folder}")


@bounded
@untouched()
def evaluate(
    ckpt_path: Path,
    protocols: list[Protocol] | str = "all",
    seeds: list[int] | int | str = "0,1,2",
    output: Path | None = None,
    data: dict[str, Any] | Path | None = None,
    root: Path | None = None,
    part: str | None = None,
    device: str = "auto",
    batch_size: PositiveInt = 128,
    map: Literal["pca", "tsne"] = "pca",
    linear: LinearOptions = LINEAR,
    knn: KNNOptions = KNN,
    retrieval: RetrievalOptions = RETRIEVAL,
    clustering: ClusteringOptions = CLUSTERING,
    collapse: CollapseOptions = COLLAPSE,
    few_shot: FewShotOptions = FEW_SHOT,
    early: EarlyOptions = EARLY,
    robustness: RobustnessOptions = ROBUSTNESS,
    trust: str | None = None,
) -> Evaluation:
    """Judge the frozen encoder of a checkpoint.

    Args:
        ckpt_path: Checkpoint, which also says what the data and the views are.
        protocols: Some of linear, knn, retrieval, clustering, collapse, few_shot, early and robustness, or all.
        seeds: Seeds of the linear probes and of k-means, 0,1,2 for example; not of trainings.
        output: Folder for results.json, table.md and report.html, by default ``evaluation`` in the folder of the run,
            ``evaluation-X`` for a checkpoint X.ckpt other than the last. They are replaced when all is done: a killed
            command leaves the old ones, and starts anew.
        data: File with the data block of another data set, experiments/data/ntu60-xview.yaml for example, whose joints
            and frames per second are made those of the run's; or options that are laid over those of the run's data,
            and over such a block: ``--data.fraction 0.05``, in Python ``{"fraction": 0.05}``. With a block, or options
            of the split or the classes, the encoder alone is judged, never a classifier.
        root: Folder of the stores, where it is not that of the run.
        part: Name of the part of a mixture whose clips judge the encoder, by default all.
        device: ``auto`` is a GPU where there is one, else the CPU.
        batch_size: Clips that are encoded at once.
        map: How the page's map of the test features is made; tsne needs scikit-learn.
        linear: Linear evaluation.
        knn: Nearest neighbours.
        retrieval: Retrieval.
        clustering: Clustering.
        collapse: Diagnostics of collapse.
        few_shot: Few-shot episodes; on the split one-shot of NTU-120 also its exemplars.
        early: Early recognition: beginnings of test clips.
        robustness: Damaged test clips.
        trust: Modules, with commas between, whose classes the checkpoint may name beside skelcl's and torch.optim's.

    Raises:
        InputError: If the checkpoint, the data or an option cannot be used.
    """
    ckpt_path = Path(ckpt_path)
    chosen = _protocols(protocols)
    judge_seeds = _seeds(seeds)
    folder = Path(output) if output is not None else default_folder(ckpt_path)
    # What would stop the command at its end is told at its beginning.
    if "clustering" in chosen:
        require_clustering()
    if map == "tsne":
        require_tsne()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise InputError(f"--output {folder}: {there} is a file, and a folder is wanted")
    config = stored_config(ckpt_path, trust)
    seed = config.get("seed_everything")
    use_seed(seed if isinstance(seed, int) else 0)
    changes = _changes(config, data, root, part) if data or root is not None or part is not None else {}
    if changes:
        laid_over = () if isinstance(data, (str, Path)) else set(data or {}) - BLOCK
        matched, line = matching_options(changes["data"], ckpt_path, laid_over, trust)
        changes["data"]["init_args"] = {**(changes["data"].get("init_args") or {}), **matched}
        if line:
            print(printable(line))
    other = part is not None or (bool(data) and not (isinstance(data, dict) and set(data) <= SAME_CLASSES))
    model, source = load(ckpt_path, changes=changes, encoder_only=other, trust=trust)
    source.require_labels("train_all", "test")
    if len(label_spaces(source)) > 1:
        raise SeveralLabelSpaces(source.dataset, [name for name, one in mixed_parts(source).items() if one.labels])
    if map == "tsne":
        require_tsne(len(source.parts["test"]))
    trained_on = read_facts(ckpt_path)
    refuse_changed(trained_on, source, ckpt_path)
    if not other:
        refuse_classes(trained_on, source, ckpt_path)
    refuse_seen(trained_on, source, ckpt_path)
    own: ProbeName = (config.get("evaluation") or {}).get("probe") or "as_cal"
    presets = linear.presets or tuple(name for name, one in PRESETS.items() if one.streams == 1 or name == own)
    place = find_device(device)
    classify = model.classify if not other and isinstance(model, Supervised) else None
    session = Session(model.to(place), source, place, batch_size, classify)
    exemplars = getattr(source, "split", None) == "one-shot"
    damages, left_out = suite(robustness, source.skeleton, source.num_persons, source.channels)
    notes: list[str] = []
    if "few_shot" in chosen and not exemplars:
        try:
            for shots in few_shot.shots:  # too few clips are told before anything is encoded
                draw_episodes(session.test_labels, few_shot.ways, shots, few_shot.queries, 1)
        except InputError as error:
            if chosen == ["few_shot"]:
                raise
            chosen.remove("few_shot")
            notes.append(str(error))

    train, test = session.encoded("train_all"), session.encoded("test")
    subsets = session.subsets
    judges = {
        name: Judge(train[name], test[name], subsets, source.num_classes, judge_seeds) for name in session.encoders
    }
    for name, judge in judges.items():
        if session.logits is not None and name == "learned":
            judge.own(session.logits(test[name].features))
        runs: dict[str, Callable[[], None]] = {
            "linear": partial(judge.linear, presets),
            "knn": partial(judge.knn, knn),
            "retrieval": partial(judge.retrieval, retrieval),
            "clustering": partial(judge.clustering, clustering),
            "few_shot": partial(judge.few_shot, few_shot, exemplars),
        }
        for protocol in chosen:
            try:
                runs.get(protocol, lambda: None)()
            except InputError as error:
                if len(chosen) == 1:
                    raise
                notes.append(f"{protocol}: {str(error).removeprefix(f'{protocol}: ')}")
    if "collapse" in chosen:
        views = session.random_views()
        for name, judge in judges.items():
            judge.collapse(collapse, views.get(name))
    if "early" in chosen:
        session.early(judges, early, early.probe or own)
    clean: dict[tuple[str, str, str], float] = {}
    readings: list[Reading] = []
    if "robustness" in chosen:
        clean, readings = session.robustness(judges, robustness, robustness.probe or own, damages)

    scores = {name: judge.scores for name, judge in judges.items()}
    flat = {stat: _flat(scores, stat) for stat in ("mean", "sd", "interval")}
    notes = list(dict.fromkeys(notes + [note for one in scores.values() for note in one.notes]))
    notes += [f"{count} {part} clips without a label" for part, count in source.unlabelled.items() if count]
    notes += [f"robustness: these data have no room for {', '.join(left_out)}"] * bool(left_out and readings)
    options = {
        "linear": {**asdict(linear), "presets": presets},
        "knn": asdict(knn),
        "retrieval": asdict(retrieval),
        "clustering": asdict(clustering),
        "collapse": asdict(collapse),
        "few_shot": asdict(few_shot),
        "early": {**asdict(early), "probe": early.probe or own},
        "robustness": {**asdict(robustness), "probe": robustness.probe or own},
    }
    settings = {name: {"version": VERSIONS[name], **options[name]} for name in chosen}
    results = {
        **({"knn": {"k": 1, "metric": "cosine"}} if "knn" in chosen and 1 in knn.k else {}),
        "protocols": settings,
        "judge_seeds": list(judge_seeds),
        "random_encoder_seed": run_seed(),
        "feature_width": train["learned"].features.shape[1],
        "gallery_clips": len(train["learned"]),
        "query_clips": {subset: int(which.sum()) for subset, which in subsets.items()},
        "classes": source.num_classes,
        "metrics": flat["mean"],
        "sd_over_judge_seeds": flat["sd"],
        "interval95_over_episodes": flat["interval"],
        "robustness": [asdict(reading) for reading in readings],
        "robustness_clean": [
            {"encoder": encoder, "judge": judge, "subset": subset, "top1": value}
            for (encoder, judge, subset), value in clean.items()
        ],
        "left_out": notes,
    }
    run = run_record(
        model,
        source,
        str(ckpt_path),
        test["learned"].index.tolist(),
        train["learned"].index.tolist(),
        config={**config, **changes},
    )
    run = with_protocols(run, settings, judge_seeds)

    names = {"learned": type(model).__name__, "random": "random encoder"}
    shown = None if "linear" not in chosen else own if own in presets else presets[0]
    tables = summary.table_parts(scores, list(subsets), names)
    parts: list[Any] = [*tables]
    for preset in presets if "linear" in chosen else ():
        probes = {names[name]: [judge.probe(preset, seed) for seed in judge_seeds] for name, judge in judges.items()}
        parts.append(summary.probe_curves(probes, preset))
    parts += summary.early_curves(scores, list(subsets), names)
    parts += summary.damage_parts(readings, clean, list(subsets), names)
    parts += summary.learning_curves(run_folder(ckpt_path) / "metrics.csv")
    predicted, judged_by = session.prediction(judges["learned"], shown)
    parts += session.pictures(test["learned"], predicted, judged_by, map)
    facts = summary.facts(ckpt_path, run, results, names)
    headline = f"{names['learned']}: {ckpt_path}"
    damage_tables = [part for part in parts if isinstance(part, Table) and part not in tables]
    text = summary.markdown(headline, facts, [*tables, *damage_tables], notes)

    folder.mkdir(parents=True, exist_ok=True)
    write_page(Page(headline, facts, parts), folder / "report.html")
    with atomic_write(folder / "table.md") as file:
        file.write_text(text, encoding="utf-8")
    save_record(folder / "results.json", model, str(ckpt_path), results, run)
    features = {name: (train[name], test[name]) for name in judges}
    return Evaluation(folder, flat["mean"], flat["sd"], flat["interval"], readings, features, text)


def default_folder(ckpt_path: Path) -> Path:
    """Where the evaluation of a checkpoint goes: into the folder of its run, each checkpoint for itself."""
    name = "evaluation" if ckpt_path.stem == "last" else f"evaluation-{ckpt_path.stem}"
    return run_folder(ckpt_path) / name


def run_folder(ckpt_path: Path) -> Path:
    """The folder of the run that a checkpoint belongs to; its own folder for one that lies alone."""
    return ckpt_path.parent.parent if ckpt_path.parent.name == "checkpoints" else ckpt_path.parent


def _protocols(given: Sequence[str] | str) -> list[str]:
    names = get_args(Protocol)
    asked = [word.strip() for word in given.strip("[]").split(",")] if isinstance(given, str) else list(given)
    if asked == ["all"]:
        return list(names)
    for name in asked:
        if name not in names:
            raise OptionError(f"--protocols: no protocol {name!r}, they are {', '.join(names)}, or all")
    return [name for name in names if name in asked]


def _seeds(given: Sequence[int] | int | str) -> tuple[int, ...]:
    try:
        words = given.strip("[]").split(",") if isinstance(given, str) else np.atleast_1d(given).tolist()
        seeds = tuple(int(word) for word in words)
    except ValueError:
        seeds = ()
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise OptionError(f"--seeds are different numbers from 0 on, like 0,1,2, not {given}")
    return seeds


def _block(file: Path) -> dict[str, Any]:
    """The data block in a YAML file."""
    block = read_yaml(run_file(file))
    if not isinstance(block, dict) or "class_path" not in block:
        raise InputError(f"--data {file}: not a data block like those in experiments/data (it has no class_path)")
    return block


def _changes(
    config: Mapping[str, Any], data: dict[str, Any] | Path | None, root: Path | None, part: str | None
) -> dict[str, Any]:
    """What is laid over the config of the checkpoint."""
    block = dict(config["data"])
    given = _block(Path(data)) if isinstance(data, (str, Path)) else dict(data or {})
    options = {key: given.pop(key) for key in list(given) if key not in BLOCK}
    if given:
        block = given
        persons = config["data"].get("init_args", {}).get("num_persons")
        inferred = {} if persons is None else {"num_persons": persons}  # the encoder was made for so many
        block = {**block, "init_args": {**inferred, **(block.get("init_args") or {})}}
    options |= {} if root is None else {"root": str(root)}
    if options:
        block = {**block, "init_args": {**(block.get("init_args") or {}), **options}}
    return {"data": block if part is None else part_alone(block, part)}


def _flat(scores: Mapping[str, Scores], stat: str) -> dict[str, float]:
    """All numbers of one kind, those of the random encoder as ``<subset>/random_<kind>``."""
    found = {}
    for name, one in scores.items():
        values = one.interval if stat == "interval" else getattr(one, stat)()
        prefix = "" if name == "learned" else f"{name}_"
        found.update({key.replace("/", f"/{prefix}"): value for key, value in values.items()})
    return found
