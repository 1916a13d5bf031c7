from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.preprocessing import normalize

from skelcl.plotting import animate_skeleton, confusion_matrix, embedding, save_animation
from skelcl.skeleton import KINECT20, NTU25


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


def walk(frames: int, bodies: int = 1, skeleton=NTU25) -> np.ndarray:
    random = np.random.default_rng(2)
    pose = random.normal(size=(bodies, 1, skeleton.num_joints, 3))
    return pose + 0.1 * np.arange(frames)[None, :, None, None]


def test_gif_has_every_frame_at_its_speed(tmp_path) -> None:
    animation = animate_skeleton([walk(9), walk(6, 2)[0]], NTU25, ["before", "after"], fps=10)
    save_animation(animation, tmp_path / "deep" / "clip.gif")
    with Image.open(tmp_path / "deep" / "clip.gif") as picture:
        assert picture.n_frames == 9
        assert picture.info["duration"] == 100
        assert picture.size[0] > picture.size[1]


def drawn(animation, frame: int) -> list[list[np.ndarray]]:
    """Finite bone segments of each body in each panel after moving to a frame."""
    animation._func(frame)
    panels = []
    for axes in animation._fig.axes:
        lines = [c for c in axes.collections if isinstance(c, LineCollection)]
        panels.append([np.array([s for s in c.get_segments() if len(s) == 2]) for c in lines])
    return panels


def test_bones_follow_the_joints_and_axes_stay(tmp_path) -> None:
    clip, short = walk(5, 2, KINECT20), walk(3, 1, KINECT20)
    clip[1, :2] = 0  # the second body comes later
    clip[0, 3, 7] = np.nan  # one joint was not seen
    animation = animate_skeleton([clip, short], KINECT20, fps=20)
    limits = [(axes.get_xlim(), axes.get_ylim()) for axes in animation._fig.axes]
    bones = np.asarray(KINECT20.bones)
    turn = np.deg2rad(20)

    def seen(pose: np.ndarray) -> np.ndarray:
        flat = np.stack([np.cos(turn) * pose[:, 0] + np.sin(turn) * pose[:, 2], pose[:, 1]], axis=1)
        return flat[bones]

    (one, two), (other,) = drawn(animation, 1)
    np.testing.assert_allclose(one, seen(clip[0, 1]))
    assert len(two) == 0
    np.testing.assert_allclose(other, seen(short[0, 1]))
    (one, two), (other,) = drawn(animation, 3)
    touched = (bones == 7).any(1)
    np.testing.assert_allclose(one, seen(clip[0, 3])[~touched])
    np.testing.assert_allclose(two, seen(clip[1, 3]))
    np.testing.assert_allclose(other, seen(short[0, 2]))  # waits in its last frame
    assert limits == [(axes.get_xlim(), axes.get_ylim()) for axes in animation._fig.axes]
    assert all(axes.get_aspect() == 1 for axes in animation._fig.axes)
    save_animation(animation, tmp_path / "clip.gif")


def test_flat_clips_and_bad_shapes(tmp_path) -> None:
    flat = walk(3)[0, :, :, :2]
    animation = animate_skeleton([flat], NTU25)
    np.testing.assert_allclose(drawn(animation, 2)[0][0], flat[2][np.asarray(NTU25.bones)])
    save_animation(animation, tmp_path / "flat.gif")
    with pytest.raises(ValueError, match=r"a clip must be \(T, 25, C\)"):
        animate_skeleton([walk(3, 1, KINECT20)], NTU25)
    with pytest.raises(ValueError, match="1 clips and 2 titles"):
        animate_skeleton([walk(3)], NTU25, ["a", "b"])


def test_pyplot_stays_unloaded() -> None:
    code = "import sys, skelcl.plotting; assert 'sklearn' not in sys.modules; print('matplotlib.pyplot' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
