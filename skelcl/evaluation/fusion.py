"""Fusion of streams: a weighted sum of the scores that several runs gave the same clips."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from skelcl.errors import InputError
from skelcl.evaluation.features import UNBOUNDED, write_npz
from skelcl.evaluation.report import logit_scores
from skelcl.evaluation.tested_runs import Result, read_result
from skelcl.files import one_line
from skelcl.runs.versions import newest_file

Space = Literal["logits", "softmax", "log_softmax"]

WEIGHTS: dict[str, dict[str, float]] = {
    "ctr-gcn": {"joint": 0.6, "bone": 0.6, "motion": 0.4, "bone_motion": 0.4},
    "hyperformer-ntu": {"joint": 0.4, "bone": 0.6, "motion": 0.2, "bone_motion": 0.2},
    "hyperformer-ucla": {"joint": 0.4, "bone": 0.4, "motion": 0.3, "bone_motion": 0.2},
    "agcn": {"joint": 1.0, "bone": 1.0},
    "pyskl": {"joint": 2.0, "bone": 2.0, "motion": 1.0, "bone_motion": 1.0},
    "csre-ntu": {"joint": 0.6, "bone": 0.7, "motion": 0.35, "bone_motion": 0.2},
    "csre-ucla": {"joint": 0.7, "bone": 0.5, "motion": 0.6, "bone_motion": 0.2},
    "aimclr": {"joint": 0.6, "bone": 0.6, "motion": 0.4},
}
"""Weights by stream, as the code of each paper fixes them; any of its streams may be left out. CSRE's are constants
that its code holds and does not use: it searches for weights on the test part."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What one run, or a fusion of runs, gave each clip of a test part.

    Args:
        source: Where they come from, for messages and tables.
        id: Names of the clips, (N,).
        label: Their classes, (N,) int64.
        logits: (N, K) float32.
        stream: What the run looked at: ``joint``, ``bone``, ``motion``, ``bone_motion``, or several joined by ``+``.
        class_names: Names of the K classes; empty when unknown.
        checkpoint: Weights that gave the scores.
        subsets: Named parts of the clips that are judged separately, ``test_clean`` for example, (N,) bool each.
        remarks: What a table of them must say, that some clips were trained on for example.
    """

    source: str
    id: NDArray[np.str_]
    label: NDArray[np.int64]
    logits: NDArray[np.float32]
    stream: str
    class_names: tuple[str, ...]
    checkpoint: str
    subsets: Mapping[str, NDArray[np.bool_]]
    remarks: tuple[str, ...] = ()

    def __getitem__(self, order: NDArray[np.int64]) -> Scores:
        """The clips at the positions ``order``."""
        subsets = {name: mask[order] for name, mask in self.subsets.items()}
        return replace(self, id=self.id[order], label=self.label[order], logits=self.logits[order], subsets=subsets)

    def accuracies(self) -> dict[str, float]:
        """Top-1, top-5 and mean-class accuracy (0…1) of all clips, ``test/…``, and of each subset, ``test_clean/…``."""
        label, logits = torch.from_numpy(self.label), torch.from_numpy(self.logits)
        parts = {"test": torch.ones(len(label), dtype=torch.bool)}
        parts |= {name: torch.from_numpy(mask) for name, mask in self.subsets.items() if mask.any()}
        return {
            f"{part}/{key}": value
            for part, which in parts.items()
            for key, value in logit_scores(label[which], logits[which]).items()
        }

    def write(self, path: Path) -> None:
        """Write the file that :func:`read_scores` reads."""
        write_npz(
            path,
            id=self.id,
            label=self.label,
            logits=self.logits,
            class_names=np.asarray(self.class_names, dtype=str),
            stream=np.asarray(self.stream),
            checkpoint=np.asarray(self.checkpoint),
            remarks=np.asarray(self.remarks, dtype=str),
            **self.subsets,
        )


def read_scores(path: Path) -> Scores:
    """Scores of a ``.npz`` file that ``skelcl test`` wrote, or of the last tested version in the folder of a run.

    Raises:
        InputError: If there is no such file, or it is none of scores.
    """
    file = _scores_file(path)
    try:
        # numpy leaves a file open when it cannot read it, hence the stream of our own
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except Exception as error:  # zipfile and numpy raise some twenty kinds for a damaged file
        raise InputError(f"{file}: not a .npz file of scores, or a damaged one") from error
    missing = [name for name in ("id", "label", "logits", "stream") if name not in arrays]
    if missing:
        raise InputError(f"{file}: not a file of scores of `skelcl test`: it has no {', '.join(missing)}")
    n, logits = len(arrays["id"]), arrays["logits"]
    if logits.dtype.kind not in "fiu" or arrays["label"].dtype.kind not in "iu":
        raise InputError(f"{file}: not a file of scores of `skelcl test`: logits or labels are no numbers")
    if logits.ndim != 2 or arrays["label"].shape != (n,) or len(logits) != n or n == 0:
        shapes = f"id {arrays['id'].shape}, label {arrays['label'].shape}, logits {logits.shape}"
        raise InputError(f"{file}: the arrays do not belong together: {shapes}")
    names = arrays.get("class_names", np.asarray([], dtype=str))
    scores = Scores(
        str(file),
        arrays["id"].astype(str),
        arrays["label"].astype(np.int64),
        logits.astype(np.float32),
        one_line(str(arrays["stream"])),
        tuple(names.tolist()),
        str(arrays.get("checkpoint", "")),
        {name: array for name, array in arrays.items() if array.dtype == np.bool_ and array.shape == (n,)},
        tuple(one_line(str(one), 1000) for one in np.atleast_1d(arrays.get("remarks", np.asarray([], dtype=str)))),
    )
    if not np.isfinite(scores.logits).all():
        raise InputError(f"{file}: some logits are not finite: {UNBOUNDED}")
    if not 0 <= scores.label.min() <= scores.label.max() < logits.shape[1]:
        raise InputError(f"{file}: labels must lie in 0…{logits.shape[1] - 1}, the classes of the logits")
    unique, count = np.unique(scores.id, return_counts=True)
    if len(unique) < n:
        raise InputError(f"{file}: clip {str(unique[count > 1][0])!r} occurs more than once")
    return scores


def fuse_scores(scores: Sequence[Scores], weights: Sequence[float], space: Space = "logits") -> Scores:
    """The weighted sum of scores, clip by clip, joined by the names of the clips in the order of the first.

    Args:
        scores: One for each stream.
        weights: One number for each of them.
        space: What is summed: logits as they are, which is what the published codes do, or their softmax or
            log-softmax, which makes streams of different scale comparable.

    Returns:
        The fused scores, whose logits are the sum.

    Raises:
        InputError: If the scores are not of the same clips with the same labels, classes and subsets, or a weight is
            missing, negative or not finite, or all are zero.
    """
    if not scores or len(weights) != len(scores):
        raise InputError(f"fusion needs one weight for each file: {len(scores)} files, {len(weights)} weights")
    if not np.isfinite(weights).all() or min(weights) < 0 or max(weights) == 0:
        raise InputError(f"weights must not be negative, and one at least not zero, got {_listed(weights)}")
    first = scores[0]
    total = np.zeros(first.logits.shape)
    for one, weight in zip(scores, weights, strict=True):
        total += weight * _in_space(_matched(first, one).logits, space)
    return replace(
        first,
        source="fused",
        logits=total.astype(np.float32),
        stream="+".join(one.stream for one in scores),
        checkpoint=", ".join(one.checkpoint for one in scores),
        remarks=tuple(dict.fromkeys(remark for one in scores for remark in one.remarks)),
    )


def fused_result(name: str, scores: Sequence[Scores], fused: Scores, weights: Sequence[float], space: Space) -> Result:
    """The result of a fusion, as `skelcl results` puts it beside those of its streams.

    Args:
        name: Of its row.
        scores: Its sources, each with the ``results.json`` of its test beside the file.
        fused: Their sum.
        weights: One number for each source.
        space: What was summed.

    Returns:
        What the results of the sources share, its own accuracies under the names of theirs, and how they were summed.

    Raises:
        InputError: If a file of results is missing or damaged, or they differ in data or in the choice of the epoch.
    """
    files = [Path(one.source).with_name("results.json") for one in scores]
    for file in files:
        if not file.is_file():
            raise InputError(f"{file}: not there, and a record of a fusion needs the results of each of its sources")
    contents: list[Any] = [read_result(file, file.parent).content for file in files]
    first = contents[0]
    for file, content in zip(files, contents, strict=True):
        for what, found, wanted in (
            ("data, or clips of the training among them", content["run"]["data"], first["run"]["data"]),
            ("choice of the epoch", content["selection"], first["selection"]),
            ("judge of its scores", "probe" in content, "probe" in first),
        ):
            if found != wanted:
                raise InputError(f"{file}: not a stream of {files[0]}: another {what}")
    own = "linear_" if "probe" in first else ""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(str(content["run"]["config_sha256"]).encode())
    options = {"version": 1, "weights": _listed(weights), "space": space}
    digest.update(json.dumps(options).encode())
    shared = _shared(contents)
    shared.pop("knn", None)
    run = shared["run"] | {
        "tested": max(content["run"]["tested"] for content in contents),
        "stream": fused.stream,
        "config_sha256": digest.hexdigest(),
    }
    return Result(
        name,
        shared
        | {
            "method": f"fusion of {shared['method']}",
            "protocols": {"fusion": options},
            "metrics": {metric.replace("/", f"/{own}"): value for metric, value in fused.accuracies().items()},
            "run": run,
        },
    )


def chosen_weights(choice: str, scores: Sequence[Scores]) -> list[float]:
    """The weights that a user asked for.

    Args:
        choice: ``equal``, a name in :data:`WEIGHTS`, or numbers with commas between them, in the order of the files.
        scores: One for each stream; named weights go by it.

    Raises:
        InputError: If the choice is none of these or does not fit the streams.
    """
    if choice == "equal":
        return [1.0] * len(scores)
    if choice not in WEIGHTS:
        try:
            return [float(word) for word in choice.split(",")]
        except ValueError:
            known = ", ".join(["equal", *WEIGHTS])
            raise InputError(f"--weights must be one of {known}, or numbers like 0.6,0.4, got {choice!r}") from None
    weights, seen = WEIGHTS[choice], dict[str, str]()
    for one in scores:
        if one.stream not in weights:
            raise InputError(
                f"{one.source}: the weights {choice!r} are for {', '.join(weights)}, not for {one.stream!r}"
            )
        if one.stream in seen:
            raise InputError(
                f"the weights {choice!r} go by stream: {seen[one.stream]} and {one.source} are both "
                f"{one.stream}; give numbers instead"
            )
        seen[one.stream] = one.source
    return [weights[one.stream] for one in scores]


def _scores_file(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise InputError(f"{path}: no such run or file")
    own = path / "scores.npz"
    file = own if own.is_file() else newest_file(path, own.name)
    if file is None:
        raise InputError(f"{path}: holds no scores.npz; `skelcl test --ckpt_path …` writes it")
    return file


def _matched(first: Scores, other: Scores) -> Scores:
    """The other scores in the order of the first, after all that must agree does."""
    both = f"{first.source} and {other.source}"
    order = np.argsort(other.id)
    place = np.searchsorted(other.id, first.id, sorter=order).clip(max=len(order) - 1)
    missing = first.id[other.id[order[place]] != first.id]
    if not len(missing):
        missing = np.setdiff1d(other.id, first.id)
    if len(missing):
        raise InputError(f"{both} are not of the same clips: only one of them holds {str(missing[0])!r}")
    if first.class_names != other.class_names or first.logits.shape[1] != other.logits.shape[1]:
        counts = f"{first.logits.shape[1]} and {other.logits.shape[1]}"
        raise InputError(f"{both} are not of the same classes ({counts} of them)")
    other = other[order[place]]
    wrong = first.label != other.label
    if wrong.any():
        at = int(wrong.argmax())
        labels = f"{first.label[at]} and {other.label[at]}"
        raise InputError(f"{both} differ in the label of clip {str(first.id[at])!r}: {labels}")
    for name in first.subsets.keys() & other.subsets.keys():
        apart = first.subsets[name] != other.subsets[name]
        if apart.any():
            clip = str(first.id[int(apart.argmax())])
            raise InputError(f"{both} differ in whether clip {clip!r} belongs to {name}")
    return other


def _shared(values: Sequence[Any]) -> Any:
    """What several results say of something: the same, by parts; of different texts all of them, of numbers none."""
    first = values[0]
    if all(value == first for value in values):
        return first
    if all(isinstance(value, dict) for value in values):
        return {key: _shared([value.get(key) for value in values]) for key in first}
    return " | ".join(dict.fromkeys(values)) if all(isinstance(value, str) for value in values) else None


def _in_space(logits: NDArray[np.float32], space: Space) -> NDArray[np.float64]:
    scores = logits.astype(np.float64)
    if space == "logits":
        return scores
    scores -= scores.max(1, keepdims=True)
    scores -= np.log(np.exp(scores).sum(1, keepdims=True))
    return np.exp(scores) if space == "softmax" else scores


def _listed(weights: Sequence[float]) -> str:
    return ", ".join(f"{weight:g}" for weight in weights)
