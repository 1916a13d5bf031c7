"""What the names of the files of a data set tell of its clips."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from skelcl.data.formats import nw_ucla


@dataclass(frozen=True)
class FileNames:
    """How a data set calls its files.

    Args:
        pattern: Found in the path of a clip below the input folder, without its ending; its groups ``label``,
            ``subject`` and ``camera`` tell these.
        classes: Label in a name → name of the class; labels that it lacks are class names.
    """

    pattern: re.Pattern[str]
    classes: Mapping[str, str] = field(default_factory=dict)

    def told(self, clip: str) -> dict[str, str]:
        """Label, subject and camera of a clip; nothing when it has another name."""
        found = self.pattern.search(clip)
        told = {} if found is None else {key: text for key, text in found.groupdict().items() if text is not None}
        if (label := told.get("label")) is not None:
            told["label"] = self.classes.get(label.lstrip("0") or label, label)
        return told


def _numbered(*names: str) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names, 1)}


MSR_ACTION3D = FileNames(
    re.compile(r"(?:^|/)a(?P<label>\d\d)_s(?P<subject>\d\d)_e\d\d"),
    _numbered(
        "high arm wave", "horizontal arm wave", "hammer", "hand catch", "forward punch", "high throw", "draw x",
        "draw tick", "draw circle", "hand clap", "two hand wave", "side boxing", "bend", "forward kick", "side kick",
        "jogging", "tennis swing", "tennis serve", "golf swing", "pick up and throw",
    ),
)  # fmt: skip
UTD_MHAD = FileNames(
    re.compile(r"(?:^|/)a(?P<label>\d+)_s(?P<subject>\d+)_t\d+"),
    _numbered(
        "swipe left", "swipe right", "wave", "clap", "throw", "arm cross", "basketball shoot", "draw x",
        "draw circle clockwise", "draw circle counter clockwise", "draw triangle", "bowling", "boxing",
        "baseball swing", "tennis swing", "arm curl", "tennis serve", "push", "knock", "catch", "pick up and throw",
        "jog", "walk", "sit to stand", "stand to sit", "lunge", "squat",
    ),
)  # fmt: skip
UTKINECT = FileNames(re.compile(r"(?:^|/)joints_s(?P<subject>\d+)_e\d+"))
MSRC12 = FileNames(
    re.compile(r"(?:^|/)P\d+_\d+_(?P<label>\d+)A?_p(?P<subject>\d+)$", re.IGNORECASE),
    _numbered(
        "start system", "duck", "push right", "goggles", "wind it up", "shoot", "bow", "throw", "had enough",
        "change weapon", "beat both", "kick",
    ),
)  # fmt: skip
HANDS = FileNames(
    re.compile(r"gesture_(?P<label>\d+)/finger_\d+/subject_(?P<subject>\d+)/essai_\d+"),
    _numbered(
        "grab", "tap", "expand", "pinch", "rotation clockwise", "rotation counter clockwise", "swipe right",
        "swipe left", "swipe up", "swipe down", "swipe x", "swipe +", "swipe v", "shake",
    ),
)  # fmt: skip
NTU = FileNames(re.compile(r"(?:^|/)S\d{3}C(?P<camera>\d{3})P(?P<subject>\d{3})R\d{3}A(?P<label>\d{3})"))
NW_UCLA = FileNames(
    re.compile(r"(?:^|/)a(?P<label>\d\d)_s(?P<subject>\d\d)_e\d\d_v(?P<camera>\d\d)"),
    {str(action): name for action, name in nw_ucla.ACTIONS.items()},
)
PERSON_AND_ACTION = FileNames(re.compile(r"(?:^|/)(?:\w*?_)?(?P<subject>\d+)/(?P<label>[^/]+)/[^/]+$"))
"""Folders ``PERSON/ACTION``, the person by a number."""
