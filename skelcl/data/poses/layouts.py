"""Layouts by name or from a file, and the way from one layout to another."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from skelcl.data.formats.containers import read_json, read_yaml, short_repr
from skelcl.errors import InputError, OptionError
from skelcl.skeleton import LAYOUTS, Skeleton

_WHOLE = ("joints", "parents", "up", "across")
_OPTIONAL = ("name", "pairs", "parts", "center", "origin")
_MOST_JOINTS = 1000
_SUBSET = ("base", "keep", "name", "center", "origin", "up", "across")

LayoutKeys = dict[
    str, str | int | list[str | int | list[str | int] | None] | dict[str, str | int | list[str | int] | None]
]
"""What a layout file holds."""


def layout_keys(layout: Skeleton) -> LayoutKeys:
    """The inverse of :func:`find_layout`, for YAML and JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(one) for key, one in value.items()}
        return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value

    found: LayoutKeys = plain(layout.to_dict())
    return found


def find_layout(name: str | Path | Mapping[str, Any]) -> Skeleton:
    """A known layout by its name, or one of your own from a YAML or JSON file, or from what such a file would hold.

    A file describes all joints::

        joints: [hip, chest, left hand, right hand]
        parents: [hip, hip, chest, chest]     # by name or place, the root its own; or child: parent
        up: [hip, chest]                      # lower and upper joint of the trunk
        across: [right hand, left hand]       # right and left shoulder, or what comes closest
        pairs: [[left hand, right hand]]      # default: names that differ by left and right
        parts: {trunk: [hip, chest], ...}     # default: one part
        center: chest                         # default: the root; so is origin

    or names some joints of a known layout, with any of ``center``, ``origin``, ``up`` and ``across`` chosen anew::

        base: mediapipe33
        keep: [nose, left shoulder, right shoulder, left hip, right hip]

    Args:
        name: One of :data:`~skelcl.skeleton.LAYOUTS`, a file that ends in ``.yaml``, ``.yml`` or ``.json``, or the
            keys of a file with their values.

    Raises:
        OptionError: The name is unknown.
        InputError: The file is missing or wrong; the message names file and key.
    """
    if isinstance(name, Mapping):
        return _described(name, "layout")
    if str(name) in LAYOUTS:
        return LAYOUTS[str(name)]
    file = Path(name)
    if file.suffix.lower() not in (".yaml", ".yml", ".json"):
        raise OptionError(f"no layout {str(name)!r}: there are {', '.join(LAYOUTS)}, or name a .yaml or .json file")
    if not file.is_file():
        raise InputError(f"{file}: no such layout file")
    values = read_json(file) if file.suffix.lower() == ".json" else read_yaml(file)
    if not isinstance(values, dict):
        raise InputError(f"{file}: must hold keys such as joints and parents, not a {type(values).__name__}")
    return _described(values, file)


def _described(values: Mapping[str, Any], file: Path | str) -> Skeleton:
    allowed = _SUBSET if "base" in values else (*_WHOLE, *_OPTIONAL)
    for key in values:
        if key not in allowed:
            close = difflib.get_close_matches(key[:40] if isinstance(key, str) else "", allowed, 1)
            raise InputError(
                f"{file}: unknown key {short_repr(key)}: {f'did you mean {close[0]!r}' if close else allowed}"
            )
    for key in ("keep",) if "base" in values else _WHOLE:
        if key not in values:
            raise InputError(f"{file}: the key {key!r} is missing")
    try:
        return _subset(values, file) if "base" in values else _layout(values, file)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{file}: {error}") from error


def _layout(values: Mapping[str, Any], file: Path | str) -> Skeleton:
    names = _texts(values["joints"], file, "joints")
    parents = _parents(values["parents"], names, file)
    roots = [joint for joint, parent in enumerate(parents) if joint == parent]
    root = roots[0] if roots else 0
    if "pairs" in values:
        pairs = tuple(_pair(pair, names, file, "pairs") for pair in _as_list(values["pairs"], file, "pairs"))
    else:
        swapped = [name.replace("left", "\0").replace("right", "left").replace("\0", "right") for name in names]
        pairs = tuple(
            (j, names.index(other)) for j, other in enumerate(swapped) if "left" in names[j] and other in names
        )
    parts = values.get("parts", {"body": names})
    if not isinstance(parts, dict):
        raise InputError(f"{file}: parts must be names with lists of joints, not a {type(parts).__name__}")
    for pair in pairs:
        if pair[0] == pair[1] or sum(pair[0] in other or pair[1] in other for other in pairs) > 1:
            raise InputError(f"{file}: pairs uses {names[pair[0]]!r} twice")
    return Skeleton(
        name=_text(values.get("name", Path(file).stem), file, "name"),
        joints=tuple(names),
        parents=parents,
        pairs=pairs,
        parts={
            str(part): tuple(_joint(joint, names, file, f"parts.{part}") for joint in _as_list(listed, file, "parts"))
            for part, listed in parts.items()
        },
        center=_joint(values.get("center", root), names, file, "center"),
        origin=_joint(values.get("origin", root), names, file, "origin"),
        up=_pair(values["up"], names, file, "up"),
        across=_pair(values["across"], names, file, "across"),
    )


def _subset(values: Mapping[str, Any], file: Path | str) -> Skeleton:
    base = LAYOUTS.get(_text(values["base"], file, "base"))
    if base is None:
        raise InputError(f"{file}: base names {short_repr(values['base'])}, but the layouts are {', '.join(LAYOUTS)}")
    joints = list(base.joints)
    keep = [joints[_joint(joint, joints, file, "keep")] for joint in _as_list(values["keep"], file, "keep")]
    single = {key: joints[_joint(values[key], joints, file, key)] for key in ("center", "origin") if key in values}
    double = {key: _pair(values[key], joints, file, key) for key in ("up", "across") if key in values}
    named = {key: (joints[first], joints[second]) for key, (first, second) in double.items()}
    return base.subset(keep, _text(values.get("name", Path(file).stem), file, "name"), **single, **named)  # type: ignore[arg-type]


def _parents(given: Any, names: list[str], file: Path | str) -> tuple[int, ...]:
    if isinstance(given, dict):
        known = {_joint(child, names, file, "parents"): parent for child, parent in given.items()}
        given = [known.get(joint) for joint in range(len(names))]  # a joint without a parent is a root
    listed = _as_list(given, file, "parents")
    if len(listed) != len(names):
        raise InputError(f"{file}: parents has {len(listed)} entries for {len(names)} joints")
    return tuple(j if parent is None else _joint(parent, names, file, "parents") for j, parent in enumerate(listed))


def _joint(given: Any, names: list[str], file: Path | str, key: str) -> int:
    if isinstance(given, str) and given in names:
        return names.index(given)
    if type(given) is int and 0 <= given < len(names):
        return given
    close = difflib.get_close_matches(given[:40] if isinstance(given, str) else "", names, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"joints are names or places 0…{len(names) - 1}"
    raise InputError(f"{file}: {key} names {short_repr(given)}, which is no joint: {hint}")


def _pair(given: Any, names: list[str], file: Path | str, key: str) -> tuple[int, int]:
    if not isinstance(given, (list, tuple)) or len(given) != 2:
        raise InputError(f"{file}: {key} holds {short_repr(given)}, not two joints")
    return _joint(given[0], names, file, key), _joint(given[1], names, file, key)


def _as_list(given: Any, file: Path | str, key: str) -> Sequence[Any]:
    if not isinstance(given, (list, tuple)):
        raise InputError(f"{file}: {key} must be a list, not a {type(given).__name__}")
    if len(given) > _MOST_JOINTS:
        raise InputError(f"{file}: {key} has {len(given)} entries, of which {_MOST_JOINTS} are accepted")
    return given


def _text(given: Any, file: Path | str, key: str) -> str:
    if not isinstance(given, str) or not given or not given.isprintable():
        raise InputError(f"{file}: {key} holds {short_repr(given)}, which is no name")
    return given


def _texts(given: Any, file: Path | str, key: str) -> list[str]:
    return [_text(item, file, key) for item in _as_list(given, file, key)]


# --- from one layout to another ---------------------------------------------------------------------------------------

_SAME = {
    "spine base": "pelvis",
    "hip center": "pelvis",
    "mid hip": "pelvis",
    "hip": "pelvis",
    "hips": "pelvis",
    "spine": "mid spine",
    "spine navel": "mid spine",
    "spine shoulder": "neck base",
    "shoulder center": "neck base",
    "thorax": "neck base",
    "neck": "neck base",
    "left toes": "left foot",
    "right toes": "right foot",
    "left big toe": "left foot",
    "right big toe": "right foot",
    "left foot index": "left foot",
    "right foot index": "right foot",
}
"""Joint name → the name under which layouts are compared, where they differ."""

_RULES: dict[str, dict[str, float]] = {
    "pelvis": {"left hip": 1 / 2, "right hip": 1 / 2},
    "neck base": {"left shoulder": 1 / 2, "right shoulder": 1 / 2},
    "mid spine": {"pelvis": 1 / 2, "neck base": 1 / 2},
    "neck above": {"neck base": 2 / 3, "head": 1 / 3},
    "head": {"left ear": 1 / 2, "right ear": 1 / 2},
    # MediaPipe's finger joints are knuckles; the tip of the hand is about as far again from the wrist.
    "left hand": {"left index": 1 / 2, "left pinky": 1 / 2},
    "right hand": {"right index": 1 / 2, "right pinky": 1 / 2},
    "left hand tip": {"left hand": 2.0, "left wrist": -1.0},
    "right hand tip": {"right hand": 2.0, "right wrist": -1.0},
}
"""Joint → joints and weights of which it can be made."""

_CAPTURED: dict[str, dict[str, float]] = {
    "neck above": {"skull base": 1.0},
    "head": {"skull base": 2.5, "neck base": -1.5},
    **{
        f"{side} {joint}": {f"{side} wrist": 1 + share, f"{side} elbow": -share}
        for side in ("left", "right")
        for joint, share in (("hand", 0.359), ("hand tip", 0.718), ("thumb", 0.359))
    },
}
"""The same for motion capture, whose trees end at the wrists and below the skull. A hand is 8 cm long there, and its
tip as far again, on a forearm of 22.3 cm; thumbs are not known and lie on the hands."""


@dataclass(frozen=True, eq=False)
class LayoutMap:
    """Joints of one layout as weighted sums of the joints of another.

    Args:
        source: Layout that comes in.
        target: Layout that goes out.
        weights: For each joint of the target the (joint, weight) of the source.
        synthesised: What is made up, one text for each joint that the source does not have.
        unused: Joints of the source that the target has no place for.
    """

    source: Skeleton
    target: Skeleton
    weights: tuple[tuple[tuple[int, float], ...], ...]
    synthesised: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def summary(self) -> str:
        """What happens to the joints, in three lines."""
        made = "; ".join(self.synthesised) or "none"
        unused = ", ".join(self.unused) or "none"
        return f"{self.source.name} → {self.target.name}\n  synthesised: {made}\n  left out: {unused}"

    @cached_property
    def _terms(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The first source of each joint, (V',); the P joints that are sums, (P,); theirs (P, K), and weights."""
        sums = [joint for joint, terms in enumerate(self.weights) if terms[1:] or terms[0][1] != 1]
        most = max((len(self.weights[joint]) for joint in sums), default=0)
        # Filled up with its own first source and a weight of nothing: another one may be missing where this is not.
        padded = [
            [*terms, *[(terms[0][0], 0.0)] * (most - len(terms))] for terms in map(self.weights.__getitem__, sums)
        ]
        source = np.array([[joint for joint, _ in terms] for terms in padded], np.int64).reshape(len(sums), most)
        weight = np.array([[share for _, share in terms] for terms in padded], np.float32).reshape(len(sums), most)
        return np.array([terms[0][0] for terms in self.weights]), np.array(sums, np.int64), source, weight

    def __call__(self, joints: np.ndarray) -> np.ndarray:
        """Maps coordinates (…, V, C) to (…, V', C) float32; what is made of a missing joint is missing."""
        first, sums, source, weight = self._terms
        out = np.take(joints, first, -2).astype(np.float32, copy=False)
        if len(sums):
            total = np.take(joints, source[:, 0], -2) * weight[:, :1]
            for k in range(1, source.shape[1]):
                total += np.take(joints, source[:, k], -2) * weight[:, k : k + 1]
            out[..., sums, :] = total
        return out

    def copies(self, source: int, target: int) -> bool:
        """Whether a joint of the target is that joint of the source, and nothing else."""
        return self.weights[target] == ((source, 1.0),)


def map_layout(source: Skeleton, target: Skeleton) -> LayoutMap:
    """Finds each joint of the target in the source, by name, or makes it of others.

    Args:
        source: Layout that comes in.
        target: Layout that goes out.

    Raises:
        InputError: A joint of the target can neither be copied nor made.
    """
    have = {name: joint for joint, name in enumerate(_compared(source))}
    rules = _RULES | _CAPTURED if "skull base" in have else _RULES

    @cache
    def made(name: str) -> dict[int, float] | None:
        if name in have:
            return {have[name]: 1.0}
        total: dict[int, float] = {}
        for part, weight in rules.get(name, {}).items():
            terms = made(part)
            if terms is None:
                return None
            for joint, share in terms.items():
                total[joint] = total.get(joint, 0.0) + weight * share
        return total or None

    same = {both: joint for joint, both in enumerate(zip(source.joints, _compared(source), strict=True))}
    weights, synthesised, impossible = [], [], []
    for own, name in zip(target.joints, _compared(target), strict=True):
        terms = {same[own, name]: 1.0} if (own, name) in same else made(name)
        if terms is None:
            impossible.append(own)
        else:
            weights.append(tuple(sorted(terms.items())))
            if len(terms) > 1:
                parts = " ".join(f"{share:+.3g}·{source.joints[joint]}" for joint, share in sorted(terms.items()))
                synthesised.append(f"{own} = {parts}")
    if impossible:
        raise InputError(
            f"{source.name} cannot become {target.name}: it has nothing to make {', '.join(map(repr, impossible))} of; "
            "leave these joints out with a layout file (base, keep)"
        )
    used = {joint for terms in weights for joint, _ in terms}
    unused = tuple(name for joint, name in enumerate(source.joints) if joint not in used)
    return LayoutMap(source, target, tuple(weights), tuple(synthesised), unused)


def _compared(layout: Skeleton) -> list[str]:
    """The joints under the names by which layouts are compared.

    A "neck" is the point between the shoulders, unless the layout has another joint there: then it lies above. Where
    the pelvis is called "hips", as in motion capture, the "head" is where the skull begins.
    """
    base = any(_SAME.get(name) == "neck base" for name in layout.joints if name != "neck")
    names = [_SAME.get(name, name) for name in layout.joints]
    special = {"neck": "neck above"} if base else {}
    if "hips" in layout.joints:
        special["head"] = "skull base"
    return [special.get(own, name) for own, name in zip(layout.joints, names, strict=True)]
