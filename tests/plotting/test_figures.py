"""Figures show the numbers that they were given."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from skelcl.errors import InputError
from skelcl.plotting import (
    class_change,
    confusion_matrix,
    embedding,
    learning_curves,
    mixing_maps,
    save_figure,
    severity_curves,
)
from skelcl.plotting.maps import by_part
from skelcl.plotting.style import COLOURS, DISTINCT, GAIN, LOSS, colour_and_marker
from skelcl.skeleton import KINECT20, LAYOUTS, NTU25


def offsets(figure: Figure) -> np.ndarray:
    """All points of a map, in the order of drawing."""
    return np.asarray(max((c.get_offsets() for c in figure.axes[0].collections), key=len))


def test_confusion_matrix_shows_row_percentages() -> None:
    figure = confusion_matrix(np.array([[3, 1, 0], [0, 2, 0], [0, 0, 0]]), ["sit", "stand", "never"])
    axes = figure.axes[0]
    np.testing.assert_allclose(axes.images[0].get_array(), [[75, 25, 0], [0, 100, 0], [0, 0, 0]])
    assert {(*text.get_position(), text.get_text()) for text in axes.texts} == {
        (0, 0, "75"),
        (1, 0, "25"),
        (1, 1, "100"),
    }
    assert [label.get_text() for label in axes.get_yticklabels()] == ["sit", "stand", "never"]
    assert axes.get_title(loc="left") == "top-1 83.3 % of 6 clips"
    with pytest.raises(ValueError, match=r"2 class names need a \(2, 2\) matrix, not \(3, 3\)"):
        confusion_matrix(np.eye(3), ["a", "b"])


def test_pca_equals_scikit_learn_up_to_sign() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(80, 12)) * np.arange(1, 13)
    label = random.integers(0, 3, 80)
    figure = embedding(features, label, ["a", "b", "c"])
    oracle = PCA(2, svd_solver="full").fit(normalize(features))
    wanted = oracle.transform(normalize(features))
    got = offsets(figure)
    order = np.random.default_rng(0).permutation(80)
    np.testing.assert_allclose(np.abs(got), np.abs(wanted[order]), atol=1e-5)
    assert f"{oracle.explained_variance_ratio_[0]:.0%}" in figure.axes[0].get_xlabel()
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["a", "b", "c"]


def test_tsne_keeps_distant_clusters_apart_and_many_classes_are_numbered() -> None:
    label = np.arange(90) % 3
    features = np.eye(8)[label] + 0.01 * np.random.default_rng(1).normal(size=(90, 8))
    figure = embedding(features, label, ["a", "b", "c"], method="tsne")
    place = offsets(figure)[np.argsort(np.random.default_rng(0).permutation(90))]
    middle = np.stack([place[label == c].mean(0) for c in range(3)])
    nearest = np.linalg.norm(place[:, None] - middle, axis=2).argmin(1)
    np.testing.assert_array_equal(nearest, label)
    figure = embedding(features, label, [str(c) for c in range(60)])
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "1", "2"]
    with pytest.raises(ValueError, match="needs a label in 0…1"):
        embedding(features, label, ["a", "b"])


def test_classes_differ_in_colour_or_marker_and_unknown_ones_are_grey() -> None:
    assert len({colour_and_marker(n) for n in range(DISTINCT)}) == DISTINCT
    label = np.arange(60) % 10 - 1
    figure = embedding(np.random.default_rng(0).normal(size=(60, 5)), label, [f"class {c}" for c in range(9)])
    points = [c for c in figure.axes[0].collections if len(c.get_offsets()) > 0]
    colours = [to_hex(colour) for c in points for colour in c.get_facecolors()]
    assert sorted(colours.count(colour) for colour in set(colours)) == [6] * 6 + [12] * 2  # two wear another marker
    assert {len(c.get_offsets()) for c in points} == {48, 12}
    assert len(figure.axes[0].get_legend().get_texts()) == 9
    with pytest.raises(ValueError, match="finite features; 2 of 3 clips have them"):
        embedding(np.array([[0.0, 1], [1, 0], [np.nan, 0]]), np.zeros(3, int), ["a"])


def test_change_is_sorted_and_classes_without_clips_are_left_out() -> None:
    before, after = np.array([0.5, 0.9, np.nan, 0.2]), np.array([0.75, 0.4, 0.3, 0.2])
    figure = class_change(["sit", "stand", "never", "wave"], before, after, ("A", "B"))
    axes = figure.axes[0]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], [-50, 0, 25])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["stand", "wave", "sit"]
    assert [text.get_text() for text in axes.texts] == ["−50.0", "0", "+25.0"]
    assert [to_hex(bar.get_facecolor()) for bar in axes.patches] == [LOSS, GAIN, GAIN]
    assert axes.get_title(loc="left") == "A → B\n−8.3 in the mean; 1 classes gain, 1 lose"
    with pytest.raises(ValueError, match="no class has an accuracy in both"):
        class_change(["a"], np.array([np.nan]), np.array([1.0]))
    with pytest.raises(ValueError, match="2 class names for 1 and 1 accuracies"):
        class_change(["a", "b"], np.array([1.0]), np.array([1.0]))


def test_severity_curves_are_the_accuracies_in_percent() -> None:
    severities = np.array([2.0, 0.0, 1.0])
    curves = {
        "noise": {"A": (severities, np.array([0.3, 0.9, 0.6])), "B": (severities[1:], np.array([0.8, 0.7]))},
        "speed": {"B": (severities[1:], np.array([0.8, 0.1]))},
    }
    figure = severity_curves(curves, "knn_top1")
    noise, speed = figure.axes
    assert [axes.get_title(loc="left") for axes in (noise, speed)] == ["noise", "speed"]
    np.testing.assert_allclose(noise.lines[0].get_xydata(), [[0, 90], [1, 60], [2, 30]])
    np.testing.assert_allclose(noise.lines[1].get_xydata(), [[0, 80], [1, 70]])
    np.testing.assert_allclose(speed.lines[0].get_xydata(), [[0, 80], [1, 10]])
    assert speed.lines[0].get_color() == noise.lines[1].get_color() == COLOURS[1]
    assert noise.get_ylim() == speed.get_ylim()
    assert [axes.get_xlabel() for axes in (noise, speed)] == ["severity", "severity"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["A", "B"]
    with pytest.raises(ValueError, match="at least one"):
        severity_curves({"noise": {}})


def test_no_point_of_any_panel_lies_beyond_the_axes() -> None:
    """The panels share their scale, which the first of them must not settle."""
    names = ["spatial_part", "jitter", "view", "temporal_drop", "id_switch"]
    units = {"jitter": "cm", "view": "degrees"}
    curves = {name: {"A": (np.arange(3.0), np.array([0.9, 0.1, 0.05]) / (5 - n))} for n, name in enumerate(names)}
    figure = severity_curves(curves, units=units)
    figure.canvas.draw()
    panels = [axes for axes in figure.axes if axes.get_visible()]
    for axes in panels:
        (low, high), (left, right) = axes.get_ylim(), axes.get_xlim()
        x, y = axes.lines[0].get_data()
        assert low == 0
        assert low <= y.min() <= y.max() <= high
        assert left <= x.min() <= x.max() <= right
    assert [axes.get_xlabel() for axes in panels] == ["severity", "cm", "degrees", "severity", "severity"]


def test_learning_curves_are_the_values() -> None:
    runs = {"A": (np.arange(3), np.array([3.0, 2, 1])), "B": (np.arange(2), np.array([1.0, 4]))}
    figure = learning_curves(runs, "train/loss")
    (axes,) = figure.axes
    for line, (name, (x, y)) in zip(axes.lines, runs.items(), strict=True):
        assert line.get_label() == name
        np.testing.assert_allclose(line.get_xydata(), np.stack([x, y], 1))
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "train/loss")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["A", "B"]
    with pytest.raises(ValueError, match="at least one run"):
        learning_curves({}, "train/loss")


def panels(figure: Figure) -> list:
    """The axes of maps, without the colour bars."""
    return [axes for axes in figure.axes if axes.images]


def test_maps_are_shown_part_by_part() -> None:
    random = np.random.default_rng(3)
    graphs, attention = random.normal(size=(2, 7, 20, 20)), random.random((3, 40, 40))
    axes = panels(mixing_maps({"a": graphs, "b": attention}, KINECT20, "title"))
    assert len(axes) == 5
    order = by_part(KINECT20)
    names = [name for name, joints in KINECT20.parts.items() for _ in joints]
    assert [next(n for n, js in KINECT20.parts.items() if j in js) for j in order] == names
    two = np.concatenate([order, 20 + order])
    for one, wanted in zip(axes, [*graphs.mean(1)[:, order][:, :, order], *attention[:, two][:, :, two]], strict=True):
        np.testing.assert_allclose(one.images[0].get_array(), wanted)
    signed, positive = axes[0].images[0], axes[-1].images[0]
    assert signed.norm.vmin == -signed.norm.vmax == pytest.approx(-np.abs(graphs.mean(1)).max())
    assert (positive.norm.vmin, positive.norm.vmax) == (0, attention.max())
    assert [label.get_text() for label in axes[0].get_yticklabels()] == list(KINECT20.parts)


def test_few_maps_name_joints_and_frames_stay_in_order() -> None:
    (axes,) = panels(mixing_maps({"a": np.eye(25)[None]}, NTU25))
    assert [label.get_text() for label in axes.get_xticklabels()] == [NTU25.joints[j] for j in by_part(NTU25)]
    frames = np.random.default_rng(4).random((1, 25, 25))  # as many as joints
    (axes,) = panels(mixing_maps({"a": frames}))
    np.testing.assert_allclose(axes.images[0].get_array(), frames[0])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "25"]
    for bad in ({}, {"a": np.eye(3)}, {"a": np.zeros((1, 2, 3))}):
        with pytest.raises(ValueError, match="maps must be"):
            mixing_maps(bad)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=lambda layout: layout.name)
def test_by_part_is_an_order(layout) -> None:
    assert sorted(by_part(layout, 2 * layout.num_joints)) == list(range(2 * layout.num_joints))
    assert by_part(layout, layout.num_joints + 1).tolist() == list(range(layout.num_joints + 1))


@pytest.mark.parametrize(("suffix", "begin"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_figures_as_files(tmp_path, suffix, begin) -> None:
    file = tmp_path / "deep" / f"figure{suffix}"
    save_figure(learning_curves({"A": (np.arange(2), np.arange(2))}, "m"), file)
    assert file.read_bytes().startswith(begin)
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    if suffix == ".png":
        with Image.open(file) as picture:
            assert picture.size == (1110, 660)
    with pytest.raises(InputError, match=r"figure\.jpg: the name must end in \.png, \.pdf or \.svg"):
        save_figure(Figure(), tmp_path / "figure.jpg")


def test_pyplot_stays_unloaded() -> None:
    code = "import sys, skelcl.plotting; assert 'sklearn' not in sys.modules; print('matplotlib.pyplot' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_clips_have_a_map_and_no_t_sne(count) -> None:
    features = np.random.default_rng(count).normal(size=(count, 5))
    (axes,) = embedding(features, np.arange(count), ["a", "b", "c"]).axes
    places = np.concatenate([one.get_offsets() for one in axes.collections if len(one.get_offsets())])
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    between = np.linalg.norm(unit[:, None] - unit, axis=2)
    shown = np.linalg.norm(places[:, None] - places, axis=2)
    np.testing.assert_allclose(np.sort(shown.ravel()), np.sort(between.ravel()), atol=1e-6)  # of ≤ 3 points all is seen
    with pytest.raises(InputError, match=f"t-SNE needs at least 4 clips, and there are {count}: take pca"):
        embedding(features, np.arange(count), ["a", "b", "c"], "tsne")
