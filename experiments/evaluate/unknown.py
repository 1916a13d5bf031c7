"""How well clips of classes that training never saw are told from those of known classes, by their p-values.

The runs left classes out of training (--data.classes). Known are the test clips of their classes, unknown those of the
others; the clips that both are compared with, and those that the p-values are made of, are training clips of known
classes. Beside it the same encoder with the weights it began with.

    python experiments/evaluate/unknown.py RECORD.json runs/X-seed_0/version_0/checkpoints/last.ckpt …

The record is one of those that experiments/results/render.py shows. It takes some seconds a run.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from skelcl.commands.evaluate import run_folder
from skelcl.data import SkeletonDataModule
from skelcl.evaluation.comparison import markdown
from skelcl.evaluation.encode import encode
from skelcl.evaluation.families import families
from skelcl.evaluation.gallery import Gallery
from skelcl.evaluation.record import run_record, save_record, with_protocols
from skelcl.evaluation.tested_runs import read_results, record_text
from skelcl.files import atomic_write
from skelcl.methods import Method
from skelcl.recognition.calibration import held_out_distances, p_values
from skelcl.runs.loading import load
from skelcl.runs.trust import stored_config

SHARE = 0.05
"""Known clips that may be lost."""


def features(method: Method, data: SkeletonDataModule, positions: NDArray[np.int64]) -> Tensor:
    """Features (N, D) of the clips at some places of the store."""
    read = lambda some: data.store.clips(some, data.num_persons)  # noqa: E731
    return encode({"": method}, read, positions)[""].features


def measure(
    method: Method, data: SkeletonDataModule, known: NDArray[np.int64], unknown: NDArray[np.int64]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Of known and unknown clips the distance to the nearest training clip, and the p-value, (N,) each."""
    train = data.parts["train_all"]
    subject = torch.from_numpy(data.store.index["subject"][train].astype(np.int64))
    label = torch.zeros(len(train), dtype=torch.int64)
    gallery = Gallery(features(method, data, train), label, train.astype(str), 1, subject)
    held_out = held_out_distances(gallery)
    found = {}
    for name, positions in (("known", known), ("unknown", unknown)):
        distance = 1 - gallery.nearest(features(method, data, positions), 1)[0][:, 0]
        found[name] = distance, p_values(distance, held_out)
    return found


def scores(known: tuple[Tensor, Tensor], unknown: tuple[Tensor, Tensor]) -> dict[str, float]:
    """AUROC of the distance; the known clips that are lost and the unknown ones that are found at :data:`SHARE`."""
    truth = torch.cat([torch.zeros(len(known[0])), torch.ones(len(unknown[0]))]).int()
    area = binary_auroc(torch.cat([known[0], unknown[0]]) / 2, truth)
    told = [float((p <= SHARE).float().mean()) for _, p in (known, unknown)]
    return {"unknown_auroc": float(area), "unknown_lost": told[0], "unknown_found": told[1]}


def judge(path: Path, folder: Path) -> None:
    """Write ``results.json`` of a run below a folder, under the name of the run."""
    config = stored_config(path)
    method, data = load(path)
    whole = {name: value for name, value in config["data"]["init_args"].items() if name != "classes"}
    _, every = load(path, weights=False, changes={"data": {**config["data"], "init_args": whole}}, encoder_only=True)
    known = data.parts["test"]
    unknown = np.setdiff1d(every.parts["test"], known)
    metrics = {}
    for prefix, one in (("", method), ("random_", load(path, weights=False)[0].eval())):
        found = measure(one, data, known, unknown)
        for subset, some in {"test": every.parts["test"], **every.subsets}.items():
            kept = {"known": np.isin(known, some), "unknown": np.isin(unknown, some)}
            parts = [(distance[kept[name]], p[kept[name]]) for name, (distance, p) in found.items()]
            metrics |= {f"{subset}/{prefix}{kind}": value for kind, value in scores(*parts).items()}
    left_out = [name for name in every.class_names if name not in data.class_names]
    settings = {"unknown": {"version": 1, "share": SHARE, "left_out": left_out}}
    tested = np.concatenate([known, unknown])
    run = run_record(method, data, str(path), np.sort(tested).tolist(), data.parts["train_all"].tolist(), config=config)
    results = {"protocols": settings, "judge_seeds": [], "metrics": metrics}
    place = folder / run_folder(path).parent.name / "results.json"
    place.parent.mkdir()
    save_record(place, method, str(path), results, with_protocols(run, settings, []))


def main(output: Path, paths: list[Path]) -> None:
    """Judge the runs, write the record and print its table."""
    with TemporaryDirectory() as folder:
        for path in paths:
            judge(path, Path(folder))
        found = read_results(Path(folder))
    with atomic_write(output) as part:
        part.write_text(record_text(found), encoding="utf-8", newline="")
    print(markdown(families(found)[0]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])
