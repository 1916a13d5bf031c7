"""``skelcl evaluate``: protocols on the frozen features of a checkpoint, encoded once, beside a random encoder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from skelcl.clips import Clips
from skelcl.data import SkeletonDataModule
from skelcl.errors import InputError
from skelcl.evaluation import summary
from skelcl.evaluation.clustering import ClusteringOptions, require_clustering
from skelcl.evaluation.collapse import CollapseOptions
from skelcl.evaluation.corruptions import corrupt
from skelcl.evaluation.encode import Encoded, encode
from skelcl.evaluation.few_shot import FewShotOptions, draw_episodes
from skelcl.evaluation.frozen import random_twin, with_encoder
from skelcl.evaluation.judge import Judge, Scores
from skelcl.evaluation.knn import KNNOptions
from skelcl.evaluation.page import Curves, Page, Table, write_page
from skelcl.evaluation.probe import PRESETS, LinearOptions, ProbeName
from skelcl.evaluation.record import run_record, save_record
from skelcl.evaluation.retrieval import RetrievalOptions
from skelcl.evaluation.robustness import Reading, RobustnessOptions, robustness_scores, severity_curves, suite
from skelcl.lightning_cli import load, stored_config
from skelcl.methods import Method, Supervised
from skelcl.seeding import generator, run_seed

Protocol = Literal["linear", "knn", "retrieval", "clustering", "collapse", "few_shot", "robustness"]
VERSIONS: dict[str, int] = dict.fromkeys(get_args(Protocol), 1)
"""Raised whenever the numbers of a protocol change under the same options."""
LINEAR, KNN, RETRIEVAL, CLUSTERING = LinearOptions(), KNNOptions(), RetrievalOptions(), ClusteringOptions()
COLLAPSE, FEW_SHOT, ROBUSTNESS = CollapseOptions(), FewShotOptions(), RobustnessOptions()


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one checkpoint was found to be.

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


def command(ckpt_path: Path | list[Path] | None = None, **options: Any) -> None:
    """Judge the frozen encoder of a checkpoint of any method by several protocols, beside one with random weights.

    Every clip is encoded once for all protocols and seeds. Nothing is selected on test data. results.json, table.md and
    report.html are replaced when all is done, so a killed command leaves the old ones, and starts anew.

    Args:
        ckpt_path: Checkpoint, of `skelcl fit` or `skelcl checkpoint import`; several are judged one after the other.
        options: As of :func:`evaluate`.
    """
    if ckpt_path is None:
        raise InputError("--ckpt_path is missing: skelcl evaluate --ckpt_path FILE --protocols linear,knn")
    paths = ckpt_path if isinstance(ckpt_path, list) else [ckpt_path]
    if len(paths) > 1 and options.get("output") is not None:
        raise InputError("--output is for one checkpoint; several are written to the folders of their own runs")
    for path in paths:
        found = evaluate(path, **options)
        print(f"\n{found.table}\nfiles: {found.folder}")


def evaluate(
    ckpt_path: Path,
    protocols: list[Protocol] | str = "all",
    seeds: list[int] | int | str = "0,1,2",
    output: Path | None = None,
    data: Path | None = None,
    root: Path | None = None,
    device: str = "auto",
    batch_size: int = 128,
    map: Literal["pca", "tsne"] = "pca",
    linear: LinearOptions = LINEAR,
    knn: KNNOptions = KNN,
    retrieval: RetrievalOptions = RETRIEVAL,
    clustering: ClusteringOptions = CLUSTERING,
    collapse: CollapseOptions = COLLAPSE,
    few_shot: FewShotOptions = FEW_SHOT,
    robustness: RobustnessOptions = ROBUSTNESS,
) -> Evaluation:
    """Judge the frozen encoder of a checkpoint.

    Args:
        ckpt_path: Checkpoint, which also says what the data and the views are.
        protocols: Some of linear, knn, retrieval, clustering, collapse, few_shot and robustness, or all.
        seeds: Seeds of the linear probes and of k-means, 0,1,2 for example; not of trainings.
        output: Folder for results.json, table.md and report.html; by default ``evaluation`` in the folder of the run.
        data: Data block of another data set of the same joints, experiments/data/ntu60-xview.yaml for example. The
            encoder alone is then judged, never a classifier.
        root: Folder of the stores, where it is not that of the run.
        device: ``auto`` is an accelerator where there is one, else the CPU.
        batch_size: Clips that are encoded at once.
        map: How the page's map of the test features is made; tsne needs scikit-learn.
        linear: Linear evaluation.
        knn: Nearest neighbours.
        retrieval: Retrieval.
        clustering: Clustering.
        collapse: Diagnostics of collapse.
        few_shot: Few-shot episodes; on the split one-shot of NTU-120 also its exemplars.
        robustness: Damaged test clips.

    Raises:
        InputError: If the checkpoint, the data or an option cannot be used.
    """
    ckpt_path = Path(ckpt_path)
    chosen = _protocols(protocols)
    judge_seeds = _seeds(seeds)
    folder = Path(output) if output is not None else default_folder(ckpt_path)
    if "clustering" in chosen:
        require_clustering()
    config = stored_config(ckpt_path)
    changes = _changes(config, data, root)
    model, source = _load(ckpt_path, changes, encoder_only=data is not None)
    own: ProbeName = (config.get("evaluation") or {}).get("probe") or "as_cal"
    presets = linear.presets or tuple(name for name, one in PRESETS.items() if one.streams == 1 or name == own)
    place = _device(device)
    session = _Session(model.to(place), source, place, batch_size, with_logits=data is None)
    exemplars = getattr(source, "split", None) == "one-shot"
    damages, left_out = suite(robustness, source.skeleton, source.num_persons, source.channels)
    if "few_shot" in chosen and not exemplars:
        for shots in few_shot.shots:  # too few clips are told before anything is encoded
            draw_episodes(session.test_labels, few_shot.ways, shots, few_shot.queries, 1)

    train, test = session.encoded("train_all"), session.encoded("test")
    subsets = session.subsets
    judges = {
        name: Judge(train[name], test[name], subsets, source.num_classes, judge_seeds) for name in session.encoders
    }
    for name, judge in judges.items():
        if session.logits is not None and name == "learned":
            judge.own(session.logits(test[name].features))
        if "linear" in chosen:
            judge.linear(presets)
        if "knn" in chosen:
            judge.knn(knn)
        if "retrieval" in chosen:
            judge.retrieval(retrieval)
        if "clustering" in chosen:
            judge.clustering(clustering)
        if "few_shot" in chosen:
            judge.few_shot(few_shot, exemplars)
    if "collapse" in chosen:
        views = session.random_views()
        for name, judge in judges.items():
            judge.collapse(collapse, views.get(name))
    readings: list[Reading] = []
    clean: dict[tuple[str, str, str], float] = {}
    if "robustness" in chosen:
        probe = robustness.probe or own
        clean = {key: value for name, judge in judges.items() for key, value in session.top1(name, judge, probe)}
        for corruption, severity in damages:
            change = partial(session.damaged, corruption, severity, robustness)
            damaged = session.encoded("test", change, f"{corruption} {severity:g}")
            for name, judge in judges.items():
                for key, value in session.top1(name, judge, probe, damaged[name]):
                    readings.append(Reading(corruption, severity, *key, value))
        for scored, value in robustness_scores(readings, clean).items():
            subset, kind = scored.split("/")
            encoder = "random" if kind.startswith("random_") else "learned"
            judges[encoder].scores.add(subset, {kind.removeprefix("random_"): value})

    scores = {name: judge.scores for name, judge in judges.items()}
    flat = {stat: _flat(scores, stat) for stat in ("mean", "sd", "interval")}
    notes = list(dict.fromkeys(note for one in scores.values() for note in one.notes))
    notes += [f"robustness: these data have no room for {', '.join(left_out)}"] * bool(left_out and readings)
    options = {
        "linear": {**asdict(linear), "presets": presets},
        "knn": asdict(knn),
        "retrieval": asdict(retrieval),
        "clustering": asdict(clustering),
        "collapse": asdict(collapse),
        "few_shot": asdict(few_shot),
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
    # Other options are other numbers: they share no row of `skelcl results`.
    digest = json.dumps([run["config_sha256"], settings, judge_seeds], sort_keys=True, default=list)
    run["config_sha256"] = hashlib.sha256(digest.encode()).hexdigest()

    names = {"learned": type(model).__name__, "random": "random encoder"}
    tables = summary.table_parts(scores, list(subsets), names)
    parts: list[Any] = [*tables]
    for preset in presets if "linear" in chosen else ():
        probes = {names[name]: [judge.probe(preset, seed) for seed in judge_seeds] for name, judge in judges.items()}
        parts.append(summary.probe_curves(probes, preset))
    parts += _damage_parts(readings, clean, list(subsets), names)
    parts += summary.learning_curves(run_folder(ckpt_path) / "metrics.csv")
    predicted, judged_by = session.prediction(judges["learned"], own if "linear" in chosen else None)
    parts += session.pictures(test["learned"], predicted, judged_by, map)
    facts = _facts(ckpt_path, run, results, names)
    headline = f"{names['learned']}: {ckpt_path}"
    damage_tables = [part for part in parts if isinstance(part, Table) and part not in tables]
    text = summary.markdown(headline, facts, [*tables, *damage_tables], notes)

    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / "report.html", lambda part: write_page(Page(headline, facts, parts), part))
    _replace(folder / "table.md", lambda part: part.write_text(text, encoding="utf-8"))
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


class _Session:
    """A method, its twin with random weights, and the clips that both see."""

    def __init__(
        self, model: Method, data: SkeletonDataModule, device: torch.device, batch_size: int, with_logits: bool
    ) -> None:
        self.data = data
        self.device = device
        self.batch_size = batch_size
        self.encoders: dict[str, Method] = {"learned": model}
        self.encoders["random"] = with_encoder(model, random_twin(model.encoder)).eval()  # type: ignore[assignment]
        self.logits: Callable[[Tensor], Tensor] | None = None
        if with_logits and isinstance(model, Supervised):
            self.logits = torch.inference_mode()(model.classify)
        positions = self.data.parts["test"]
        self.subsets = {"test": torch.ones(len(positions), dtype=torch.bool)}
        for name, some in data.subsets.items():
            which = torch.from_numpy(np.isin(positions, some))
            if which.any():
                self.subsets[name] = which

    @property
    def test_labels(self) -> NDArray[np.int64]:
        """Classes of the test clips."""
        return self.data.store.index["label"][self.data.parts["test"]].astype(np.int64)

    def encoded(
        self, part: str, change: Callable[[Clips], Clips] | None = None, title: str | None = None
    ) -> dict[str, Encoded]:
        """Features of a part of the data by both encoders."""
        called = title or {"train_all": "training part", "test": "test part"}[part]
        return self._encode(self.encoders, part, change, called)

    def random_views(self) -> dict[str, tuple[Encoded, Encoded]]:
        """Features of two random views of the test clips, the same views for both encoders; nothing without views."""
        if getattr(self.encoders["learned"], "view", None) is None:
            return {}

        def seen(method: Method, number: int) -> Callable[[Clips], Tensor]:
            random = generator("evaluation views", number, device=self.device)
            return lambda clips: method.encode(clips, method.view, random)  # type: ignore[arg-type]  # see above

        encoders = {f"{name} {number}": seen(one, number) for name, one in self.encoders.items() for number in (0, 1)}
        found = self._encode(encoders, "test", None, "random views")
        return {name: (found[f"{name} 0"], found[f"{name} 1"]) for name in self.encoders}

    def damaged(self, corruption: Any, severity: float, options: RobustnessOptions, clips: Clips) -> Clips:
        """Clips under a corruption."""
        ids = self.data.ids[clips.index.numpy()].tolist()
        return corrupt(clips, ids, corruption, severity, options.fill, options.seed)

    def top1(
        self, encoder: str, judge: Judge, probe: ProbeName, clips: Encoded | None = None
    ) -> list[tuple[tuple[str, str, str], float]]:
        """Accuracies of (encoder, judge, subset) on clean or damaged test clips, mean over the seeds of the probe."""
        clips = clips or judge.test
        label = judge.test.label.cpu()
        right = {"knn": [judge.neighbours(clips) == label]}
        right["linear"] = [
            judge.probe(probe, seed).classify(clips.features).argmax(1).cpu() == label for seed in judge.seeds
        ]
        if self.logits is not None and encoder == "learned":
            right["own"] = [self.logits(clips.features).argmax(1).cpu() == label]
        return [
            ((encoder, who, subset), float(np.mean([one[which].double().mean().item() for one in found])))
            for who, found in right.items()
            for subset, which in self.subsets.items()
        ]

    def prediction(self, judge: Judge, probe: ProbeName | None) -> tuple[Tensor, str]:
        """Predicted classes of the test clips, and who predicted."""
        if self.logits is not None:
            return self.logits(judge.test.features).argmax(1).cpu(), "own classifier"
        if probe is not None:
            seed = judge.seeds[0]
            return judge.probe(probe, seed).logits.argmax(1).cpu(), f"linear probe {probe}, seed {seed}"
        return judge.neighbours(judge.test), "1-NN"

    def pictures(self, test: Encoded, predicted: Tensor, judge: str, method: Literal["pca", "tsne"]) -> list[Any]:
        """Confusion matrix of all test clips and a map of some."""
        names, label = self.data.class_names, test.label.cpu()
        count = min(len(test), summary.MAP_CLIPS)
        some = torch.linspace(0, len(test) - 1, count).round().long()
        positions = test.index.cpu()[some].numpy()
        clips = self.data.store.clips(positions, self.data.num_persons)
        features, ids = test.features.cpu()[some], self.data.ids[positions].tolist()
        chosen = features, label[some], predicted[some], clips, ids, names, judge, len(test)
        return [summary.confusion(label, predicted, names, judge), summary.feature_map(*chosen, method)]

    def _encode(
        self,
        encoders: Mapping[str, Callable[[Clips], Tensor]],
        part: str,
        change: Callable[[Clips], Clips] | None,
        title: str,
    ) -> dict[str, Encoded]:
        def read(positions: NDArray[np.int64]) -> Clips:
            return self.data.store.clips(positions, self.data.num_persons)

        return encode(encoders, read, self.data.parts[part], self.device, self.batch_size, change, title)


def _protocols(given: Sequence[str] | str) -> list[str]:
    names = get_args(Protocol)
    asked = [word.strip() for word in given.strip("[]").split(",")] if isinstance(given, str) else list(given)
    if asked == ["all"]:
        return list(names)
    for name in asked:
        if name not in names:
            raise InputError(f"--protocols: no protocol {name!r}, they are {', '.join(names)}, or all")
    return [name for name in names if name in asked]


def _seeds(given: Sequence[int] | int | str) -> tuple[int, ...]:
    try:
        words = given.strip("[]").split(",") if isinstance(given, str) else np.atleast_1d(given).tolist()
        seeds = tuple(int(word) for word in words)
    except ValueError:
        seeds = ()
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise InputError(f"--seeds are different numbers from 0 on, like 0,1,2, not {given}")
    return seeds


def _device(name: str) -> torch.device:
    if name != "auto":
        try:
            return torch.empty(0, device=name).device
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"--device {name}: {str(error).splitlines()[0]}") from error
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _changes(config: Mapping[str, Any], data: Path | None, root: Path | None) -> dict[str, Any]:
    """What is laid over the config of the checkpoint."""
    block = dict(config["data"])
    if data is not None:
        if not Path(data).is_file():
            raise InputError(f"--data {data}: no such file")
        block = yaml.safe_load(Path(data).read_text(encoding="utf-8"))
        if not isinstance(block, dict) or "class_path" not in block:
            raise InputError(f"--data {data}: not a data block like those in experiments/data (it has no class_path)")
        persons = config["data"].get("init_args", {}).get("num_persons")
        told = {} if persons is None else {"num_persons": persons}  # the encoder was made for so many
        block = {**block, "init_args": {**told, **block.get("init_args", {})}}
    if root is not None:
        block = {**block, "init_args": {**block.get("init_args", {}), "root": str(root)}}
    return {"data": block}


def _load(path: Path, changes: Mapping[str, Any], encoder_only: bool) -> tuple[Method, SkeletonDataModule]:
    try:
        return load(path, changes=changes, encoder_only=encoder_only)
    except RuntimeError as error:
        if "Error(s) in loading state_dict" not in str(error):
            raise
        raise InputError(f"{path}: not a checkpoint of this model, or of other joints than the data have") from error


def _flat(scores: Mapping[str, Scores], stat: str) -> dict[str, float]:
    """All numbers of one kind, those of the random encoder as ``<subset>/random_<kind>``."""
    found = {}
    for name, one in scores.items():
        values = one.interval if stat == "interval" else getattr(one, stat)()
        prefix = "" if name == "learned" else f"{name}_"
        found.update({key.replace("/", f"/{prefix}"): value for key, value in values.items()})
    return found


def _damage_parts(
    readings: Sequence[Reading],
    clean: Mapping[tuple[str, str, str], float],
    subsets: Sequence[str],
    names: Mapping[str, str],
) -> list[Any]:
    """Tables and severity curves of all judges."""
    units = {"spatial_part": "lost parts", "spatial_joint": "lost joints", "jitter": "cm", "view": "degrees"}
    parts: list[Any] = []
    for judge in dict.fromkeys(reading.judge for reading in readings):
        parts.append(summary.damage_table(readings, judge, subsets, names))
        for corruption, series in severity_curves(readings, clean, judge):
            shown = {names[name]: (x, [100 * value for value in y]) for name, (x, y) in series.items()}
            if max(len(x) for x, _ in shown.values()) > 2:
                label = units.get(corruption, "share of the frames lost")
                parts.append(Curves(f"{corruption}, {judge}", label, "test top-1 in %", shown))
    return parts


def _facts(path: Path, run: Mapping[str, Any], results: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, str]:
    """What must be known of the numbers, in words."""
    data = run["data"] or {}
    labels = data.get("labels", {})
    clips = ", ".join(f"{count} {subset}" for subset, count in results["query_clips"].items())
    protocols = ", ".join(f"{name} v{one['version']}" for name, one in results["protocols"].items())
    seeds = ", ".join(map(str, results["judge_seeds"]))
    return {
        "checkpoint": str(path),
        "method": f"{names['learned']}, {run['encoder']}, {run['feature_width']} features",
        "data": f"{data.get('name')}, {data.get('split')}",
        "clips": f"{results['gallery_clips']} training, {clips}, {results['classes']} classes",
        "labels": f"{labels.get('rule')}, {str(labels.get('sha256'))[:6]}",
        "input": f"{run['view']}, stream {run['stream']}",
        "pre-training": f"{run['epochs']} epochs, seed {run['seed']}",
        "selection": "last epoch; nothing is chosen on test clips",
        "protocols": protocols,
        "seeds of probes and k-means": f"{seeds}; ± is their standard deviation, not that of trainings",
        "random encoder": f"the same network with weights redrawn from seed {results['random_encoder_seed']}",
        "judged on": str(run["tested_on"]["hardware"]),
    }


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file: the whole or nothing."""
    part = path.with_name(f"{path.name}.part")
    write(part)
    os.replace(part, path)
