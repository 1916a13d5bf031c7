"""What training clips that are held out tell of others: how far a known one may lie, and how sure a probe may be."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from skelcl.errors import InputError
from skelcl.evaluation.gallery import Gallery
from skelcl.evaluation.knn import nearest
from skelcl.evaluation.probe import PRESETS, ProbeName, linear_probe

FOLDS = 5
"""Parts of the training clips that are held out in turn."""


def folds(gallery: Gallery) -> Tensor:
    """The fold of each clip, (G,) int64.

    Performers are held out whole where they are known, since a new clip is seldom of one who was seen in training; else
    clips are, drawn evenly.
    """
    performer = gallery.subject
    if performer is not None and bool((performer >= 0).all()):
        known, number = np.unique(performer.numpy(), return_inverse=True)
        if len(known) > 1:
            return torch.from_numpy(number % FOLDS)
    fold = torch.empty(len(gallery), dtype=torch.int64)
    fold[torch.randperm(len(gallery), generator=torch.Generator().manual_seed(0))] = torch.arange(len(gallery)) % FOLDS
    return fold


def held_out_distances(gallery: Gallery) -> Tensor:
    """Cosine distance of each training clip to the nearest one of the other folds, ascending, (G,) float32.

    Raises:
        InputError: There is one training clip, or none.
    """
    if len(gallery) < 2:
        raise InputError("unknown clips are told by training clips that are held out: at least two are needed")
    unit, fold = F.normalize(gallery.features, dim=1), folds(gallery)
    distance = torch.empty(len(gallery))
    for number in set(fold.tolist()):
        out = fold == number
        similarity, _ = nearest(unit[~out], gallery.label[~out], unit[out], 1)
        distance[out] = 1 - similarity[:, 0]
    return distance.sort().values


def p_values(distance: Tensor, held_out: Tensor) -> Tensor:
    """How usual a distance is among known clips: the conformal p-value (1 + #{held out ≥ distance}) / (1 + G).

    Of clips that are like those held out, a share of at most p has a p-value of p or less.

    Args:
        distance: Distances of new clips to their nearest training clip, (N,).
        held_out: From :func:`held_out_distances`, (G,).
    """
    below = torch.searchsorted(held_out, distance.contiguous())
    return (1.0 + len(held_out) - below) / (1 + len(held_out))


def held_out_logits(gallery: Gallery, preset: ProbeName, seed: int) -> Tensor:
    """Logits of each of two or more training clips by a probe that was trained on the other folds alone, (G, K)."""
    features, label, fold = gallery.features, gallery.label, folds(gallery)
    logits = torch.empty(len(gallery), gallery.num_classes)
    for number in tqdm(sorted(set(fold.tolist())), desc="probes for calibration", unit="probe", disable=None):
        out = fold == number
        train, test = ((features[some], label[some]) for some in (~out, out))
        logits[out] = linear_probe(train, test, gallery.num_classes, PRESETS[preset], seed).logits
    return logits
