"""Docstrings of methods and encoders: every option is told, and those of no paper are listed apart."""

import inspect
import re

import pytest

from skelcl import encoders, methods
from skelcl.methods import ASCAL, MAMP, SDSCL, STDCL, FineTune, SCDNet, SkeletonCLR, Supervised

KINDS = [
    *(kind for kind in vars(methods).values() if isinstance(kind, type) and kind.__module__ != "skelcl.methods.base"),
    *(kind for kind in vars(encoders).values() if isinstance(kind, type) and kind.__module__ != "skelcl.encoders.base"),
]
DEPARTURES = {
    ASCAL: {"normalize", "projector", "mask_same_instance"},
    SDSCL: {
        "weights", "negatives", "activation", "share_query", "share_streams", "siia_joint_bn", "projection",
        "person_pool",
    },
    STDCL: {
        "label_smoothing", "pool", "exclude_self", "shrink_positives", "contrast_start_epoch", "class_weights",
    },
    SCDNet: {"weights", "key_dropout", "shuffle_bn", "mask_same_instance", "negatives"},
    SkeletonCLR: {"mask_same_instance"},
    MAMP: {"skip_absent", "skip_last", "intensity_quantile"},
    Supervised: {"label_smoothing", "class_weights"},
    FineTune: {"encoder_lr", "min_steps", "class_weights"},
    encoders.DSTA: {"activation", "temporal_attention", "person_pool"},
    encoders.SCD: {"extractor", "mask_absent"},
    encoders.LSTM: {"pool"},
    encoders.ViT: {"person_pool"},
    encoders.Hyperformer: {"hyperedges"},
}  # fmt: skip
LONGEST = 45
"""Lines of a docstring; a reason stands at the line that it explains."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_option_is_told_and_those_of_no_paper_are_listed_apart(kind):
    text = inspect.getdoc(kind)
    assert len(text.splitlines()) <= LONGEST
    prose, _, rest = text.partition("\nArgs:\n")
    entries = re.findall(r"^    (\w+): \S", rest.partition("\n\n")[0], re.MULTILINE)
    assert entries == list(inspect.signature(kind).parameters)
    listed = re.search(r"^Options that depart from the \w+(?: protocols)?, off by default: ([^.]*)\.", prose, re.M)
    names = set(re.findall(r"\w+", listed[1])) & set(entries) if listed else set()
    assert names == DEPARTURES.get(kind, set())
