"""How well clips of classes that training never saw are told from those of known classes, by their p-values.

The run left classes out of training (--data.classes). Known are the test clips of its classes, unknown those of the
others; the clips that both are compared with, and those that the p-values are made of, are training clips of known
classes. Beside it the same encoder with the weights it began with.

    python experiments/evaluate/unknown.py runs/…/last.ckpt runs/…/last.ckpt
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from skelcl.data.store import SkeletonStore
from skelcl.evaluation.encode import encode
from skelcl.evaluation.gallery import Gallery
from skelcl.evaluation.spread import mean_sd, plus_minus
from skelcl.methods import Method
from skelcl.recognition.calibration import held_out_distances, p_values
from skelcl.runs.loading import load
from skelcl.runs.trust import stored_config

SHARE = 0.05


def measure(
    method: Method, store: SkeletonStore, persons: int, parts: dict[str, np.ndarray]
) -> tuple[float, float, float]:
    """AUROC; the known clips that are lost where :data:`SHARE` may be; the unknown clips that are found there."""
    features: dict[str, Tensor] = {}
    for name, positions in parts.items():
        read = lambda some: store.clips(some, persons)  # noqa: E731
        features[name] = encode({"": method}, read, positions)[""].features
    subject = torch.from_numpy(store.index["subject"][parts["train"]].astype(np.int64))
    train = features["train"]
    gallery = Gallery(train, torch.zeros(len(train), dtype=torch.int64), parts["train"].astype(str), 1, subject)
    held_out = held_out_distances(gallery)
    p = {name: p_values(1 - gallery.nearest(features[name], 1)[0][:, 0], held_out) for name in ("known", "unknown")}
    distance = [1 - gallery.nearest(features[name], 1)[0][:, 0] for name in ("known", "unknown")]
    truth = torch.cat([torch.zeros(len(distance[0])), torch.ones(len(distance[1]))]).int()
    area = float(binary_auroc(torch.cat(distance) / 2, truth))
    return area, *(float((p[name] <= SHARE).float().mean()) for name in ("known", "unknown"))


def main(paths: list[Path]) -> None:
    """Print a line for each run and encoder, then means ± standard deviations."""
    rows: dict[str, list[tuple[float, float, float]]] = {"trained": [], "random weights": []}
    for path in paths:
        config = stored_config(path)["data"]
        init = {name: value for name, value in config["init_args"].items() if name != "classes"}
        method, data = load(path)
        _, every = load(path, weights=False, changes={"data": {**config, "init_args": init}}, encoder_only=True)
        left_out = [name for name in every.class_names if name not in data.class_names]
        known, test = data.parts["test"], every.parts["test"]
        parts = {"train": data.parts["train_all"], "known": known, "unknown": np.setdiff1d(test, known)}
        untrained, _ = load(path, weights=False)
        for name, one in (("trained", method), ("random weights", untrained.eval())):
            rows[name].append(measure(one, data.store, data.num_persons, parts))
            print(f"{path}, {name}: AUROC {100 * rows[name][-1][0]:.1f}", flush=True)
        sizes = ", ".join(f"{len(part)} {name}" for name, part in parts.items())
        print(f"left out {', '.join(left_out)}; clips: {sizes}")
    print("| encoder | AUROC | known clips lost | unknown clips found |\n|---|---|---|---|")
    for name, found in rows.items():
        cells = [plus_minus(*mean_sd(values)) for values in zip(*found, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
