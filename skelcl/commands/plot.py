"""The functions behind ``skelcl plot``; their signatures and docstrings are the command line.

Each writes one file, whose suffix says the format. What draws is in :mod:`skelcl.plotting`; nothing heavy is imported
before it is needed, so that help is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from skelcl.bounds import PositiveFloat, PositiveInt, bounded
from skelcl.commands.parsing import Commands
from skelcl.errors import InputError, OptionError
from skelcl.files import one_line


@bounded
def plot_skeleton(
    store: Path | None = None,
    clip: list[str] | str | None = None,
    input: Path | None = None,
    layout: str | None = None,
    format: str | None = None,
    axes: str | None = None,
    aspect: str | None = None,
    y_down: bool | None = None,
    max_bodies: PositiveInt = 2,
    fps: PositiveFloat | None = None,
    output: Path = Path("skeleton.gif"),
) -> None:
    """Animate clips of a store, or a file of your own, as they are.

    Args:
        store: Folder of a store.
        clip: Id of the clip in the store, or a list of ids for clips side by side; by default the longest one.
        input: File of poses instead of a store, or the folder of an OpenPose clip.
        layout: Layout of the joints in that file: a name, or a YAML or JSON file; needed where the file does not tell.
        format: What that file is, as for `skelcl data import poses`; by default what it looks like.
        axes: Order of the axes of an array, as for `skelcl data import poses`.
        aspect: Width by height of the picture, where the file holds flat fractions of them.
        y_down: Whether y points down in that file; by default so for pose estimators.
        max_bodies: Bodies to show.
        fps: Frames per second; by default what the store or the file says, else 20.
        output: Animation to write, ``.gif``, ``.mp4`` or ``.html``.

    Raises:
        InputError: There is no such clip, or the file cannot be read or written.
    """
    from skelcl.data.poses.single import read_clip
    from skelcl.data.store import SkeletonStore
    from skelcl.plotting import ANIMATIONS, animate_skeleton, check_target, save_animation

    if (store is None) == (input is None):
        raise OptionError("give either --store or --input: skelcl plot skeleton --store DIR --clip ID --output a.gif")
    if fps is not None and fps > 1000:
        raise OptionError(f"--fps must be at most 1000, not {fps:g}")
    check_target(output, ANIMATIONS)
    if input is not None:
        if clip is not None:
            raise OptionError("--clip names a clip of a store; a file of your own is --input alone")
        found = read_clip(input, format, layout=layout, axes=axes, aspect=aspect, y_down=y_down, max_bodies=max_bodies)
        for note in found.notes:
            print(f"note: {one_line(note, 1000)}")
        clips, skeleton, own, titles = [found.joints], found.skeleton, found.fps, [input.stem]
    elif store is not None:
        content = SkeletonStore(store)
        names = [clip] if isinstance(clip, str) else clip
        positions = [content.position(name) for name in names or ()] or [int(content.index["n_frames"].argmax())]
        clips = [content.recording(position)[:max_bodies] for position in positions]
        titles = [str(content.ids[position]) for position in positions]
        if len(positions) > 1:  # as ids they would not fit side by side, and whoever named them knows them
            classes, labels = content.meta["classes"], content.index["label"][positions]
            titles = [classes[label] if label >= 0 else id for id, label in zip(titles, labels, strict=True)]
        skeleton, own = content.skeleton, content.meta.get("fps")
    save_animation(animate_skeleton(clips, skeleton, titles, fps or own or 20.0), output)
    print(f"wrote {output}")


@bounded
def plot_views(
    ckpt_path: Path | None = None,
    output: Path = Path("views.gif"),
    clip: str | None = None,
    views: PositiveInt = 2,
    trust: str | None = None,
) -> None:
    """Animate one clip as the encoder sees it: the deterministic view, then random ones side by side.

    Args:
        ckpt_path: Checkpoint of the run whose data and views are shown.
        output: Animation to write, ``.gif``, ``.mp4`` or ``.html``.
        clip: Id of the clip; by default the longest one of the training part.
        views: Number of random views.
        trust: Modules, with commas between, whose classes the checkpoint may name beside skelcl's and torch.optim's.

    Raises:
        InputError: The checkpoint cannot be used, has no random view, or there is no such clip.
    """
    from skelcl.plotting import ANIMATIONS, animate_skeleton, check_target, save_animation
    from skelcl.runs.loading import load
    from skelcl.seeding import generator

    if ckpt_path is None:
        raise OptionError("--ckpt_path is missing: skelcl plot views --ckpt_path FILE --output views.gif")
    check_target(output, ANIMATIONS)
    model, data = load(ckpt_path, weights=False, trust=trust)
    view = getattr(model, "view", None)
    if view is None:
        raise InputError(f"{ckpt_path}: {type(model).__name__} trains without random views, there is nothing to show")
    clips = data.store.clips([_chosen(data, clip)], data.num_persons)
    shown = [model.eval_view(clips)] + [view(clips, generator("plot", number)) for number in range(views)]
    bodies = [x[0].permute(3, 1, 2, 0).numpy() for x in shown]
    titles = ["deterministic view", *(f"random view {number + 1}" for number in range(views))]
    save_animation(animate_skeleton(bodies, data.skeleton, titles=titles), output)
    print(f"wrote {output}")


@bounded
def plot_maps(
    ckpt_path: Path | None = None,
    output: Path = Path("maps.png"),
    clip: str | None = None,
    over: Literal["joints", "frames"] = "joints",
    body: PositiveInt = 1,
    layer: str | None = None,
    trust: str | None = None,
) -> None:
    """Draw what joints collect from each other: adaptive and refined graphs, and attention of each head.

    Maps of channels or frames are averaged. The clip is seen through the deterministic view.

    Args:
        ckpt_path: Checkpoint of the run. It needs neither its data set nor another file.
        output: Picture to write, ``.png``, ``.pdf`` or ``.svg``.
        clip: Id of the clip; by default the longest one of the training part, or, where the data set is not there, a
            made-up motion.
        over: Between what: joints, or frames.
        body: Body whose maps are shown, counted from 1; layers that see all bodies at once show them all.
        layer: One layer alone, large, as the picture of all layers names it.
        trust: Modules, with commas between, whose classes the checkpoint may name beside skelcl's and torch.optim's.

    Raises:
        InputError: The checkpoint cannot be used, its encoder has no maps, or there is no such clip, body or layer.
    """
    from skelcl.data.examples import example_clips
    from skelcl.plotting import FIGURES, check_target, mixing_maps, save_figure
    from skelcl.runs.loading import MissingData, load_data, load_method

    if ckpt_path is None:
        raise OptionError("--ckpt_path is missing: skelcl plot maps --ckpt_path FILE --output maps.png")
    check_target(output, FIGURES)
    model, facts = load_method(ckpt_path, trust=trust)
    if not 1 <= body <= facts.num_persons:
        raise OptionError(f"--body {body}: the encoder sees {facts.num_persons} bodies, counted from 1")
    try:
        data = load_data(ckpt_path, facts, trust)
    except MissingData:
        if clip is not None:
            raise
        clips, seen = example_clips(facts, 1), "a made-up motion"
        print(f"there is no store of {one_line(facts.dataset)}: the maps are those of a made-up motion")
    else:
        position = _chosen(data, clip)
        clips, seen = data.store.clips([position], facts.num_persons), str(data.ids[position])
    maps = model.encoder.maps(model.eval_view(clips), over)
    encoder = type(model.encoder).__name__
    if not maps:
        raise InputError(f"{ckpt_path}: {encoder} has no maps between {over}, there is nothing to show")
    if layer is not None and layer not in maps:
        raise OptionError(f"--layer {layer}: the layers with maps of {encoder} are {', '.join(maps)}")
    chosen = {
        name: values[0, min(body, values.shape[1]) - 1].numpy()
        for name, values in maps.items()
        if layer in (None, name)
    }
    several = "" if facts.num_persons == 1 else f", body {body}"
    title = f"{encoder} on {seen}{several}"
    save_figure(mixing_maps(chosen, facts.skeleton if over == "joints" else None, title), output)
    print(f"wrote {output}")


def plot_embedding(
    input: Path | None = None, output: Path = Path("embedding.png"), method: Literal["pca", "tsne"] = "pca"
) -> None:
    """Draw features in the plane, one colour and marker per class.

    Args:
        input: File that ``skelcl predict`` wrote.
        output: Picture to write, ``.png``, ``.pdf`` or ``.svg``.
        method: pca, or tsne, which needs scikit-learn.

    Raises:
        InputError: The file holds no features, or cannot be drawn.
    """
    from skelcl.plotting import FIGURES, check_target, embedding, save_figure
    from skelcl.plotting.run_files import read_features

    if input is None:
        raise OptionError("--input is missing: skelcl plot embedding --input features.npz --output embedding.png")
    check_target(output, FIGURES)
    features, label, names = read_features(input)
    try:
        figure = embedding(features, label, names, method)
    except ValueError as error:
        raise InputError(f"{input}: {error}") from error
    save_figure(figure, output)
    print(f"wrote {output}")


def plot_confusion(input: Path | None = None, output: Path = Path("confusion.png")) -> None:
    """Draw a confusion matrix, each row in percent of its class.

    Args:
        input: The confusion.csv of a test.
        output: Picture to write, ``.png``, ``.pdf`` or ``.svg``.

    Raises:
        InputError: The file is no confusion matrix.
    """
    from skelcl.plotting import FIGURES, check_target, confusion_matrix, save_figure
    from skelcl.plotting.run_files import read_confusion

    if input is None:
        raise OptionError("--input is missing: skelcl plot confusion --input confusion.csv --output confusion.png")
    check_target(output, FIGURES)
    save_figure(confusion_matrix(*read_confusion(input)), output)
    print(f"wrote {output}")


def plot_change(run_a: Path, run_b: Path, output: Path = Path("change.png"), metric: str | None = None) -> None:
    """Draw how the accuracy of each class changes from one tested run to another, as sorted bars.

    Args:
        run_a: Folder of a test, or its per_class.csv.
        run_b: Folder of another test of the same clips.
        output: Picture to write, ``.png``, ``.pdf`` or ``.svg``.
        metric: Column of the accuracy, for example test/knn_top1; by default the last of the whole test part.

    Raises:
        InputError: A file is missing or damaged, or the runs were not tested on the same classes and clips.
    """
    from skelcl.plotting import FIGURES, check_target, class_change, save_figure
    from skelcl.plotting.run_files import read_per_class, run_names

    check_target(output, FIGURES)
    first, second = run_names([run_a, run_b])
    names, clips, before, metric = read_per_class(run_a, metric)
    others, other_clips, after, _ = read_per_class(run_b, metric)
    if names != others:
        raise InputError(f"{run_a} and {run_b}: the classes differ, so there is nothing to compare")
    for name in names:
        if clips[name] != other_clips[name]:
            counts = f"{clips[name]} and {other_clips[name]} clips of {name!r}"
            raise InputError(f"{run_a} and {run_b} were not tested on the same clips: they have {counts}")
    if not any(clips.values()):
        raise InputError(f"{run_a}: no class has clips")
    save_figure(class_change(names, before, after, (f"{metric}: {first}", second)), output)
    print(f"wrote {output}")


def plot_robustness(results: list[Path], output: Path = Path("robustness.png"), judge: str | None = None) -> None:
    """Draw accuracy against the severity of each corruption, a line for each run.

    Args:
        results: Each the results.json, or the folder, of `skelcl evaluate --protocols robustness`.
        output: Picture to write, ``.png``, ``.pdf`` or ``.svg``.
        judge: Who judges the features: knn, linear or own; by default the first in the first file.

    Raises:
        InputError: A file is missing or damaged, or holds no accuracies on damaged clips.
    """
    from skelcl.evaluation.corruptions import UNITS
    from skelcl.plotting import FIGURES, check_target, save_figure, severity_curves
    from skelcl.plotting.run_files import read_robustness, run_names
    from skelcl.plotting.severity import Curve

    check_target(output, FIGURES)
    curves: dict[str, dict[str, Curve]] = {}
    for name, file in zip(run_names(results), results, strict=True):
        found, judge = read_robustness(file, judge)
        for corruption, curve in found.items():
            curves.setdefault(corruption, {})[name] = curve
    save_figure(severity_curves(curves, f"top-1 ({judge})", UNITS), output)
    print(f"wrote {output}")


def plot_early(results: list[Path], output: Path = Path("early.png"), judge: str | None = None) -> None:
    """Draw accuracy against how much of a test clip was seen, a line for each run.

    Args:
        results: Each the results.json, or the folder, of `skelcl evaluate --protocols early`.
        output: Picture to write, ``.png``, ``.pdf`` or ``.svg``.
        judge: Who judges the features: knn, linear or own; by default the first in the first file.

    Raises:
        InputError: A file is missing or damaged, or holds no accuracies on beginnings of clips.
    """
    from skelcl.plotting import FIGURES, check_target, learning_curves, save_figure
    from skelcl.plotting.run_files import read_early, run_names

    check_target(output, FIGURES)
    curves = {}
    for name, file in zip(run_names(results), results, strict=True):
        percent, top1, judge = read_early(file, judge)
        curves[name] = percent, 100 * top1
    save_figure(learning_curves(curves, f"top-1 ({judge}) in %", "% of the clip seen"), output)
    print(f"wrote {output}")


def plot_curves(
    runs: list[Path],
    output: Path = Path("curves.png"),
    metric: str = "train/loss",
    x: Literal["epoch", "step"] = "epoch",
) -> None:
    """Draw a metric of several runs over the course of training.

    Args:
        runs: Each the folder of a run, or its metrics.csv.
        output: Picture to write, ``.png``, ``.pdf`` or ``.svg``.
        metric: Name of the metric.
        x: What the course is counted in.

    Raises:
        InputError: A file is missing or damaged, or does not have the metric.
    """
    from skelcl.plotting import FIGURES, check_target, learning_curves, save_figure
    from skelcl.plotting.run_files import read_metric, run_names

    check_target(output, FIGURES)
    found = {name: read_metric(run, metric, x) for name, run in zip(run_names(runs), runs, strict=True)}
    save_figure(learning_curves(found, metric, x), output)
    print(f"wrote {output}")


def _chosen(data: Any, clip: str | None) -> int:
    """Where the clip is in the store of a data module; the longest one of the training part when it is not named."""
    if clip is not None:
        return int(data.store.position(clip))
    train = data.parts["train"]
    return int(train[data.store.index["n_frames"][train].argmax()])


COMMANDS: Commands = {
    "skeleton": plot_skeleton,
    "views": plot_views,
    "maps": plot_maps,
    "embedding": plot_embedding,
    "confusion": plot_confusion,
    "change": plot_change,
    "robustness": plot_robustness,
    "early": plot_early,
    "curves": plot_curves,
}
"""Picture → function."""
