"""Skeletons in motion: what is drawn is the clip, and files hold every frame at its speed."""

import base64
import io
import json
import os
import re
import stat
import subprocess
import time

import imageio_ffmpeg
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from PIL import Image

from skelcl.errors import InputError
from skelcl.evaluation.page import Page, resource, write_page
from skelcl.plotting import animate_skeleton, save_animation
from skelcl.plotting.animation import _project, part_colours
from skelcl.skeleton import KINECT20, MEDIAPIPE33, NTU25


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
    assert os.listdir(tmp_path / "deep") == ["clip.gif"]


def test_gif_shows_what_the_figure_shows_in_one_palette(tmp_path) -> None:
    clip = walk(20, 2)
    clip[1, :13] = 0  # the second body comes late, with colours of its own
    animation = animate_skeleton([clip], NTU25, fps=10)
    save_animation(animation, tmp_path / "clip.gif")
    with Image.open(tmp_path / "clip.gif") as picture:
        for frame in (0, 12, 13, 19):
            picture.seek(frame)
            off = np.abs(np.asarray(picture.convert("RGB")) - picture_of(animation, frame).astype(int)).max(-1)
            assert off.mean() < 3  # white and the panel's near-white share a colour
            assert np.quantile(off, 0.999) < 40
    whole = [Image.fromarray(picture_of(animation, frame)) for frame in range(20)]
    whole[0].save(tmp_path / "plain.gif", save_all=True, append_images=whole[1:], duration=100)
    assert (tmp_path / "clip.gif").stat().st_size < 0.8 * (tmp_path / "plain.gif").stat().st_size


def picture_of(animation, frame: int) -> np.ndarray:
    animation.draw(frame)
    canvas = FigureCanvasAgg(animation.figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def drawn(animation, frame: int) -> list[list[np.ndarray]]:
    """Finite bone segments of each body in each panel after moving to a frame."""
    animation.draw(frame)
    panels = []
    for axes in animation.figure.axes:
        lines = [c for c in axes.collections if isinstance(c, LineCollection)]
        panels.append([np.array([s for s in c.get_segments() if len(s) == 2]) for c in lines])
    return panels


def test_bones_follow_the_joints_and_axes_stay() -> None:
    clip, short = walk(5, 2, KINECT20), walk(3, 1, KINECT20)
    clip[1, :2] = 0  # the second body comes later
    clip[0, 3, 7] = np.nan  # one joint was not seen
    animation = animate_skeleton([clip, short], KINECT20, fps=20)
    limits = [(axes.get_xlim(), axes.get_ylim()) for axes in animation.figure.axes]
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
    assert limits == [(axes.get_xlim(), axes.get_ylim()) for axes in animation.figure.axes]
    assert all(axes.get_aspect() == 1 for axes in animation.figure.axes)


def test_flat_clips_and_bad_shapes() -> None:
    flat = walk(3)[0, :, :, :2]
    animation = animate_skeleton([flat], NTU25)
    np.testing.assert_allclose(drawn(animation, 2)[0][0], flat[2][np.asarray(NTU25.bones)])
    with pytest.raises(ValueError, match=r"a clip must be \(T, 25, C\)"):
        animate_skeleton([walk(3, 1, KINECT20)], NTU25)
    with pytest.raises(ValueError, match="1 clips and 2 titles"):
        animate_skeleton([walk(3)], NTU25, ["a", "b"])


def test_a_page_holds_the_clips_and_needs_no_other_file(tmp_path) -> None:
    clip, flat = walk(4, 2, MEDIAPIPE33), 500 * walk(2, 1, MEDIAPIPE33)[..., :2]
    clip[1, 0] = 0
    clip[0, 2, 5] = np.nan
    evil = "</script><script>alert(1)</script>"
    animation = animate_skeleton([clip, flat], MEDIAPIPE33, ["two people", evil], fps=12.5)
    save_animation(animation, tmp_path / "clip.html")
    page = (tmp_path / "clip.html").read_text("utf-8")
    assert not re.search(r"https?:|src=|@import|url\(", page)
    assert page.count("</script>") == 2
    data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[1])
    assert data["fps"] == 12.5
    assert data["bones"] == [list(bone) for bone in MEDIAPIPE33.bones]
    assert data["colours"] == part_colours(MEDIAPIPE33)
    assert [told["title"] for told in data["clips"]] == ["two people", evil]
    clip[1, 0] = np.nan
    for told, wanted in zip(data["clips"], (clip, flat), strict=True):
        joints = np.array(told["joints"], dtype=float).reshape(told["shape"])
        np.testing.assert_allclose(joints, wanted, rtol=0, atol=1e-4 * np.ptp(wanted[np.isfinite(wanted)]))
    shown = animation._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert evil not in shown


def test_one_player_moves_the_skeletons_of_both_pages(tmp_path) -> None:
    player = resource("player.js")
    assert player in animate_skeleton([walk(2)], NTU25).html()
    write_page(Page("T", {}, []), tmp_path / "report.html")
    assert player in (tmp_path / "report.html").read_text("utf-8")


@pytest.mark.browser
def test_a_page_plays_stops_and_turns(chromium, tmp_path) -> None:
    from selenium.webdriver import ActionChains, Keys

    clip, short, flat = walk(12), walk(3), walk(5)[0][..., :2]
    clip[0, :, 19] = np.nan
    animation = animate_skeleton([clip, short, flat], NTU25, ["long", "short", "flat"], fps=10)
    save_animation(animation, tmp_path / "clip.html")
    chromium.get((tmp_path / "clip.html").as_uri())
    canvases = chromium.find_elements("css selector", "canvas")
    button, slider = (chromium.find_element("id", name) for name in ("play", "place"))

    def pixels(canvas):
        url = chromium.execute_script("return arguments[0].toDataURL()", canvas)
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))))

    def drag(canvas, across, down):
        ActionChains(chromium).click_and_hold(canvas).move_by_offset(across, down).release().perform()

    seen, end = set(), time.monotonic() + 30
    while len(seen) < 3 and time.monotonic() < end:
        seen.add(canvases[0].get_attribute("data-frame"))
    assert len(seen) == 3, "the clip does not play"
    button.click()
    assert button.text == "Play"
    slider.send_keys(Keys.END)
    assert chromium.find_element("id", "clock").text == "12 / 12"
    last = [pixels(canvas) for canvas in canvases]
    slider.send_keys(Keys.ARROW_LEFT)
    assert canvases[0].get_attribute("data-frame") == "10"
    assert not np.array_equal(pixels(canvases[0]), last[0])
    np.testing.assert_array_equal(pixels(canvases[1]), last[1], "a shorter clip waits in its last frame")

    slider.send_keys(Keys.HOME)
    first = [pixels(canvas) for canvas in canvases]
    low, high = np.nanmin(clip, axis=(0, 1, 2)), np.nanmax(clip, axis=(0, 1, 2))
    span, size = high - low, np.array(first[0].shape[1::-1])
    half = 0.55 * max(np.hypot(span[0], span[2]), span[1])
    spots = np.rint(size / 2 * (1 + _project(clip - (low + high) / 2)[0, 0] / half * [1, -1]))
    for joint, (x, y) in enumerate(spots):
        if joint != 19:
            assert first[0][int(y), int(x), 3] == 255, f"joint {joint}"

    drag(canvases[0], 40, 25)
    turned = [pixels(canvas) for canvas in canvases]
    assert [np.array_equal(a, b) for a, b in zip(turned, first, strict=True)] == [False, False, True]
    drag(canvases[1], -40, -25)
    ActionChains(chromium).double_click(canvases[0]).perform()
    for canvas, before in zip(canvases, first, strict=True):
        np.testing.assert_array_equal(pixels(canvas), before)
    chromium.find_element("css selector", "body").send_keys(Keys.SPACE)
    assert button.text == "Pause"
    assert chromium.get_log("browser") == []


def test_mp4_gets_every_frame(tmp_path, monkeypatch) -> None:
    """In the place of ffmpeg a script that keeps what it is given: raw frames and its words."""
    fake = tmp_path / "bin" / "ffmpeg"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\nfor last; do :; done\necho "$@" > "$0.words"\ncat > "$last"\n')
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    save_animation(animate_skeleton([walk(3)], NTU25, fps=25), tmp_path / "out" / "clip.mp4")
    words = (tmp_path / "bin" / "ffmpeg.words").read_text().split()
    width, height = map(int, words[words.index("-s") + 1].split("x"))
    assert words[words.index("-framerate") + 1] == "25"
    frames = np.fromfile(tmp_path / "out" / "clip.mp4", np.uint8).reshape(-1, height, width, 4)
    assert len(frames) == 3
    assert not np.array_equal(frames[0], frames[1])
    assert os.listdir(tmp_path / "out") == ["clip.mp4"]


def test_mp4_of_the_extra_shows_what_was_drawn(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # the machine's own ffmpeg is out of reach
    animation = animate_skeleton([walk(3)], NTU25, fps=25)
    save_animation(animation, tmp_path / "clip.mp4")
    words = ["-loglevel", "error", "-i", tmp_path / "clip.mp4", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *words], capture_output=True, check=True).stdout
    width, height = (round(inches * animation.figure.dpi) for inches in animation.figure.get_size_inches())
    frames = np.frombuffer(raw, np.uint8).reshape(3, height, width, 3).astype(float)
    for number, frame in enumerate(frames):
        animation.draw(number)
        canvas = FigureCanvasAgg(animation.figure)
        canvas.draw()
        drawn = np.asarray(canvas.buffer_rgba())[:height, :width, :3].astype(float)
        differences = [np.abs(one - drawn).mean() for one in frames]
        assert differences[number] < 5, "of 255; lines of one pixel suffer from compression"
        assert np.argmin(differences) == number
        assert frame.std() > 5


def test_bad_targets_are_one_line_and_leave_nothing(tmp_path, monkeypatch) -> None:
    animation = animate_skeleton([walk(2)], NTU25)
    with pytest.raises(InputError, match=r"clip\.avi: the name must end in \.gif, \.mp4 or \.html"):
        save_animation(animation, tmp_path / "clip.avi")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("skelcl.plotting.saving.importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"an \.mp4 needs ffmpeg.*skelcl\[video\].*\.gif and \.html need nothing"):
        save_animation(animation, tmp_path / "clip.mp4")
    monkeypatch.setattr(animation, "draw", lambda frame: 1 / (1 - frame))
    with pytest.raises(ZeroDivisionError):
        save_animation(animation, tmp_path / "clip.gif")
    assert os.listdir(tmp_path) == []
