"""Reports: what the file holds against NumPy, and what a real browser makes of it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from skelcl.errors import InputError
from skelcl.evaluation.page import WORST, Confusion, Curves, Map, Page, Table, write_page
from skelcl.plotting.animation import _project
from skelcl.skeleton import KINECT20, NTU25

NASTY = "</script><script>window.hacked=1</script> <!-- & \"quotes\" 'apostrophes' {{data}} \u2028 \ud800 動作 é"
SHOWN = NASTY.replace("\u2028 \ud800 ", "")
"""On one line, without what is no sign."""


class Content(HTMLParser):
    """Tags, the text of each script, style and title, and the JSON of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self.attributes, self.inside = [], {}, [], None
        self.feed(path.read_text(encoding="utf-8"))
        self.data = json.loads(self.text["script"][0])

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append(dict(attrs))
        self.text.setdefault(tag, []).append("")
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside:
            self.text[self.inside][-1] += data


def unpack(clip):
    """Coordinates (M, T, V, C) of a packed clip, NaN where a joint was not seen."""
    steps = np.frombuffer(base64.b64decode(clip["joints"]), "<i2").reshape(clip["shape"])
    x = np.asarray(clip["centre"]) + clip["unit"] * steps
    return np.where(steps == -(2**15), np.nan, x)


def walk(seed, frames=12, bodies=1, skeleton=KINECT20, channels=3):
    random = np.random.default_rng(seed)
    pose = random.normal(size=(bodies, 1, skeleton.num_joints, channels))
    swing = random.normal(size=(bodies, 1, skeleton.num_joints, channels))
    return pose + swing * np.sin(np.linspace(0, 5, frames))[:, None, None]


def chart(n=7, skeleton=KINECT20, **changes):
    random = np.random.default_rng(0)
    fields = {
        "title": "Clips",
        "place": random.normal(size=(n, 2)),
        "label": np.arange(n) % 3,
        "predicted": (np.arange(n) // 2) % 3,
        "ids": [f"clip{i}" for i in range(n)],
        "class_names": ["sit", "stand", "throw"],
        "clips": [walk(i, skeleton=skeleton) for i in range(n)],
        "skeleton": skeleton,
    }
    return Map(**(fields | changes))


def written(tmp_path, *parts, title="Report", facts=None):
    path = tmp_path / "report.html"
    write_page(Page(title, facts or {}, parts), path)
    return path


def test_clips_come_back_within_their_steps(tmp_path):
    pair = walk(1, bodies=3, skeleton=NTU25)
    pair[1] = 0  # never seen
    pair[2, :5] = np.nan  # comes later
    pair[0, 3, 7, 1] = np.nan  # one joint was not seen
    pair[0, 4, 2] = 0  # one joint in the origin was
    nobody, flat = np.zeros((2, 6, 25, 3)), walk(2, channels=2, skeleton=NTU25)
    still = np.full((1, 4, 25, 3), 2.5, dtype=np.float32)
    data = chart(4, NTU25, clips=[pair, nobody, flat, still])
    part = Content(written(tmp_path, data)).data["parts"][0]
    expected = pair[[0, 2]]
    expected[0, 3, 7] = np.nan
    for clip, wanted in zip(part["clips"], [expected, nobody[:0], flat, still], strict=True):
        got = unpack(clip)
        assert got.shape == wanted.shape
        np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
        np.testing.assert_allclose(got, wanted, atol=0.51 * clip["unit"] + 1e-6)
        assert clip["unit"] <= np.ptp(np.nan_to_num(wanted)) / 60000 + 1e-9 if wanted.size else True
    np.testing.assert_allclose(part["place"], data.place, rtol=1e-6)
    assert part["label"] == data.label.tolist()
    assert part["predicted"] == data.predicted.tolist()
    assert part["ids"] == data.ids
    assert [tuple(bone) for bone in part["bones"]] == list(NTU25.bones)
    parts = {name: tuple(np.flatnonzero(np.array(part["parts"]) == p)) for p, name in enumerate(part["part_names"])}
    assert {name: tuple(sorted(joints)) for name, joints in NTU25.parts.items()} == parts


def test_500_clips_stay_small(tmp_path):
    clip = walk(0, frames=32)
    path = written(tmp_path, chart(500, clips=[clip] * 500))
    assert 500 * 32 * 20 * 3 * 2 < path.stat().st_size < 3e6


def test_tables_and_curves_come_back(tmp_path):
    rows = [["a", 0.1 + 0.2, "81.2 ± 0.3"], ["b", np.float32(0.7), np.int64(3)], ["c", float("nan"), "–"]]
    x, y = np.linspace(0, 1, 50), np.sin(np.arange(50.0))
    y[[3, 9]] = np.nan, np.inf
    curves = Curves("Loss", "epoch", "loss (nats)", {"one": (x, y), "two": ([1, 2], [3, 4])}, "note")
    data = Content(written(tmp_path, Table("T", ["x", "y", "z"], rows, "below"), curves, facts={"k": "v"})).data
    assert data["facts"] == [["k", "v"]]
    assert data["parts"][0] == {
        "kind": "table",
        "title": "T",
        "columns": ["x", "y", "z"],
        "rows": [["a", 0.3, "81.2 ± 0.3"], ["b", 0.7, 3], ["c", None, "–"]],
        "note": "below",
    }
    one, two = data["parts"][1]["series"]
    np.testing.assert_allclose(one["x"], x, rtol=1e-6)
    np.testing.assert_allclose(np.array(one["y"], float), np.where(np.isfinite(y), y, np.nan), rtol=1e-6)
    assert two == {"name": "two", "x": [1, 2], "y": [3, 4]}


def test_worst_confusions_equal_a_slow_search(tmp_path):
    random = np.random.default_rng(4)
    matrix = random.integers(0, 4, (9, 9)) * random.integers(0, 2, (9, 9)) + 30 * np.eye(9, dtype=int)
    matrix[5] = 0
    part = Content(written(tmp_path, Confusion("C", matrix, list("abcdefghi")))).data["parts"][0]
    assert part["matrix"] == matrix.tolist()
    cells = []
    for r, c in np.argwhere(matrix).tolist():
        if r != c:
            cells.append((-matrix[r, c], -matrix[r, c] / matrix[r].sum(), r, c))
    assert len(cells) > WORST
    assert part["worst"] == [[r, c] for _, _, r, c in sorted(cells)[:WORST]]


def nasty_page():
    table = Table(NASTY, [NASTY, "b"], [[NASTY, 1.0]], NASTY)
    curves = Curves(NASTY, NASTY, NASTY, {NASTY: ([0, 1], [1, 2])}, NASTY)
    confusion = Confusion(NASTY, np.array([[2, 1], [0, 3]]), [NASTY, "other"], NASTY)
    chart_ = chart(3, title=NASTY, ids=[f"{i} {NASTY}" for i in range(3)], class_names=[NASTY, "b", "c"], note=NASTY)
    return Page(NASTY, {NASTY: NASTY}, [table, curves, confusion, chart_])


def test_no_string_becomes_markup(tmp_path):
    path = tmp_path / "report.html"
    write_page(nasty_page(), path)
    content = Content(path)
    assert content.tags.count("script") == 2
    assert "<!--" not in path.read_text(encoding="utf-8")
    assert content.text["title"] == content.text["h1"] == [SHOWN]
    assert content.data["facts"] == [[NASTY, SHOWN]]
    assert content.data["parts"][3]["ids"][2] == f"2 {SHOWN}"
    plain = tmp_path / "plain.html"
    write_page(Page("plain", {}, []), plain)
    assert content.tags == Content(plain).tags


def test_the_page_allows_its_own_script_and_nothing_else(tmp_path):
    content = Content(written(tmp_path, chart(2)))
    (policy,) = [a["content"] for a in content.attributes if a.get("http-equiv") == "Content-Security-Policy"]
    for tag in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(content.text[tag][-1].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert not [a for a in content.attributes if a.get("src") or a.get("href", "data:")[:5] != "data:"]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Table("T", ["a", "b"], [["x", 1], ["y"]]), "table 'T': row 1 has 1 values for 2 columns"),
        (Curves("C", "x", "y", {"s": ([1, 2], [1])}), "curves 'C': 's' has 2 x and 1 y"),
        (Curves("C", "x", "y", {"s": ([1, np.nan], [1, 2])}), "an x of 's' is not finite"),
        (Confusion("C", np.eye(3), ["a", "b"]), r"2 class names need a \(2, 2\) matrix, not \(3, 3\)"),
        (Confusion("C", np.eye(2) / 2, ["a", "b"]), "the matrix must hold counts"),
        (Confusion("C", -np.eye(2), ["a", "b"]), "the matrix must hold counts"),
        (chart(4, place=np.zeros((3, 2))), r"4 ids need \(4, 2\) places and 4 clips, not \(3, 2\) and 4"),
        (chart(4, clips=[walk(0)] * 3), r"not \(4, 2\) and 3"),
        (chart(4, place=np.full((4, 2), np.nan)), "a place is not finite"),
        (chart(4, label=np.array([0, 1, 2, 3])), "label must be a class in 0…2 for each of the 4 clips"),
        (chart(4, predicted=np.array([0, 1, 2])), "predicted must be a class in 0…2"),
        (chart(2, clips=[walk(0), walk(0)[0]]), r"clip 'clip1' must be \(M, T, 20, C\) with C of 2 or 3"),
        (chart(2, clips=[walk(0), walk(0, skeleton=NTU25)]), r"clip 'clip1' must be \(M, T, 20, C\)"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_old_file_stays(tmp_path, part, message):
    path = written(tmp_path)
    old = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        write_page(Page("new", {}, [part]), path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="is a folder"):
        write_page(Page("x", {}, []), tmp_path)
    path = tmp_path / "deep" / "report.html"
    write_page(Page("x", {}, [chart(2)]), path)
    old = path.read_bytes()
    write_page(Page("x", {}, [chart(2)]), path)
    assert path.read_bytes() == old
    monkeypatch.setattr("os.replace", lambda *_: pytest.fail("the disk is full"))
    with pytest.raises(pytest.fail.Exception):
        write_page(Page("y", {}, []), path)
    assert path.read_bytes() == old


# In a real browser.


@pytest.fixture
def see(chromium, tmp_path):
    """Opens a page of some parts; afterwards the console must be empty and nothing loaded from elsewhere."""

    def see(page, width=1200, scheme="light"):
        write_page(page, tmp_path / "report.html")
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        chromium.get((tmp_path / "report.html").as_uri())
        return chromium

    yield see
    assert chromium.get_log("browser") == []
    assert chromium.execute_script("return performance.getEntriesByType('resource').map(one => one.name)") == []


def one(window, selector):
    return window.find_element("css selector", selector)


def texts(window, selector):
    """What is to be read in all elements of a kind, in one round trip."""
    script = "return [...document.querySelectorAll(arguments[0])].map(one => one.innerText.trim())"
    return window.execute_script(script, selector)


def hover(window, element, x, y):
    """Moves the mouse to a place of an element, in pixels from its upper left corner."""
    from selenium.webdriver import ActionChains

    window.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    size = element.size
    dx, dy = round(x - size["width"] / 2), round(y - size["height"] / 2)
    ActionChains(window, duration=0).move_to_element_with_offset(element, dx, dy).perform()


def press(element, *keys):
    from selenium.webdriver.common.keys import Keys

    element.send_keys(*(getattr(Keys, key, key) for key in keys))


def where(chart_, canvas):
    """Where the clips of a map should lie on its canvas: y upwards, 24 pixels from the edges."""
    low, span = chart_.place.min(0), np.ptp(chart_.place, axis=0)
    share = (chart_.place - low) / span
    width, height = canvas.size["width"], canvas.size["height"]
    return np.stack([24 + share[:, 0] * (width - 48), height - 24 - share[:, 1] * (height - 48)], axis=1)


def pixels(window, canvas):
    """RGBA of a canvas, (height, width, 4)."""
    url = window.execute_script("return arguments[0].toDataURL()", canvas)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))))


def info(window):
    return dict(zip(texts(window, ".info dt"), texts(window, ".info dd"), strict=False))


@pytest.mark.browser
def test_tables_sort(see):
    values = [0.5, float("nan"), 12.25, -3.0, 7.125]
    names = ["e", "d", "c", "b", "a"]
    mixed = ["10.0 ± 0.1", "–", "9.5 ± 2.0", "100.0 ± 1.0", "2.0 ± 0.3"]
    window = see(
        Page("T", {"data": "toy"}, [Table("T", ["x", "y", "z"], list(zip(names, values, mixed, strict=True)))])
    )
    assert texts(window, "td:nth-child(2)") == ["0.50", "–", "12.25", "−3.00", "7.13"]
    assert {cell.value_of_css_property("text-align") for cell in window.find_elements("css selector", "td")} == {
        "right"
    }
    heads = window.find_elements("css selector", "thead button")
    for head, click, order, state in [
        (1, 1, "caebd", "descending"),
        (1, 2, "beacd", "ascending"),
        (1, 3, "edcba", None),
        (2, 1, "becad", "descending"),
        (0, 1, "abcde", "ascending"),
    ]:
        heads[head].click()
        assert texts(window, "tbody th") == list(order), (head, click)
        assert window.find_elements("css selector", "thead th")[head].get_attribute("aria-sort") == state


@pytest.mark.browser
def test_the_clip_that_is_pointed_at_moves(see):
    data = chart(
        6, clips=[walk(0), walk(1), np.repeat(walk(2)[:, :1], 12, 1), np.zeros((1, 5, 20, 3)), *map(walk, (4, 5))]
    )
    window = see(Page("T", {}, [data]))
    canvas, stage = one(window, "canvas.map"), one(window, "canvas.stage")
    places = where(data, canvas)

    def pictures():
        """How many different pictures are seen in three frames; frame and picture are read at once."""
        script = "return [arguments[0].dataset.frame, arguments[0].toDataURL()]"
        seen, deadline = {}, time.monotonic() + 30
        while len(seen) < 3 and time.monotonic() < deadline:
            frame, picture = window.execute_script(script, stage)
            seen[frame] = picture
        assert len(seen) == 3, "the clip does not play"
        return len(set(seen.values()))

    for i in (4, 0):
        hover(window, canvas, *places[i])
        names = [data.class_names[c] for c in (data.label[i], data.predicted[i])]
        assert info(window) == {"clip": f"clip{i}", "true": names[0], "predicted": names[1]}
        assert texts(window, ".verdict") == ["✓ right" if names[0] == names[1] else "✗ wrong"]
        assert texts(window, "#tip div, #tip strong") == [f"clip{i}", f"true {names[0]}", f"predicted {names[1]}"]
        assert pictures() == 3
    hover(window, canvas, *places[2])
    assert info(window)["clip"] == "clip2"
    assert pictures() == 1, "a clip that stands still is drawn still"
    hover(window, canvas, *places[3])
    assert one(window, "canvas.stage").get_attribute("aria-label") == "Skeleton of clip3"
    one(window, ".controls button").click()
    hover(window, canvas, *places[0])
    assert stage.get_attribute("data-frame") == "0"
    before = pixels(window, stage)
    time.sleep(0.3)
    np.testing.assert_array_equal(pixels(window, stage), before, "paused")
    press(one(window, ".controls input"), "END")
    assert stage.get_attribute("data-frame") == "11"
    assert not np.array_equal(pixels(window, stage), before)


@pytest.mark.browser
@pytest.mark.parametrize("channels", [2, 3])
def test_the_skeleton_is_the_projection_of_the_plots(see, channels):
    clip = walk(3, frames=4, channels=channels)
    clip[0, 0, 19] = np.nan
    window = see(Page("T", {}, [chart(1, clips=[clip])]))
    one(window, ".controls button").click()
    press(one(window, ".controls input"), "HOME")
    stage = one(window, "canvas.stage")
    image = pixels(window, stage)
    seen = _project(clip)
    low, high = np.nanmin(seen, axis=(0, 1, 2)), np.nanmax(seen, axis=(0, 1, 2))
    size = np.array(image.shape[1::-1])
    scale = ((size - 52) / (high - low)).min()
    spots = np.rint(size / 2 + scale * (seen[0, 0] - (low + high) / 2) * [1, -1])
    for joint, (x, y) in enumerate(spots):
        if joint != 19:
            assert image[int(y), int(x), 3] == 255, f"joint {joint}"
    ink = np.argwhere(image[..., 3] == 255)
    reach = np.nanmin(spots, axis=0) - 6, np.nanmax(spots, axis=0) + 6
    assert (ink[:, ::-1] >= reach[0]).all()
    assert (ink[:, ::-1] <= reach[1]).all()


@pytest.mark.browser
def test_the_map_by_keyboard_search_and_legend(see):
    place = np.array([[0, 0], [1, 0], [2, 0], [1, 1], [0, 2]])
    data = chart(5, place=place, ids=["a_1", "b_1", "c_2", "d_2", "e_3"])
    window = see(Page("T", {}, [data]))
    one(window, ".controls button").click()  # Pause
    canvas = one(window, "canvas.map")
    hover(window, canvas, *where(data, canvas)[0])
    canvas.click()  # the middle: clip d
    path = [info(window)["clip"].split()[0]]
    for key in ("ARROW_DOWN", "ARROW_RIGHT", "ARROW_LEFT", "ARROW_LEFT", "ARROW_UP"):
        press(canvas, key)
        path.append(info(window)["clip"].split()[0])
    assert path == ["d_2", "b_1", "c_2", "b_1", "a_1", "e_3"]
    plain = pixels(window, canvas)
    search = one(window, "input[type=search]")
    press(search, "_2")
    assert one(window, ".found").text == "2 clips found"
    assert info(window)["clip"].startswith("c_2")
    press(search, "ENTER")
    assert info(window)["clip"].startswith("d_2")
    press(search, "BACKSPACE", "BACKSPACE")
    sit = one(window, ".classes button")
    assert sit.text.split() == ["sit", "1", "/", "2"]  # labels 0 1 2 0 1, predictions 0 0 1 1 2
    sit.click()
    assert sit.get_attribute("aria-pressed") == "true"
    for i in (0, 1):  # the second is of another class: it cannot be chosen
        hover(window, canvas, *where(data, canvas)[i])
        assert info(window)["clip"] == "a_1"
    assert not np.array_equal(pixels(window, canvas), plain)


@pytest.mark.browser
def test_confusions_and_curves_tell_their_values(see):
    random = np.random.default_rng(1)
    matrix = random.integers(0, 5, (120, 120)) + 90 * np.eye(120, dtype=int)
    names = [f"class {k}" for k in range(120)]
    curves = Curves("L", "epoch", "loss (nats)", {"train": ([1, 2, 3], [3.5, 2.25, 1.125]), "test": ([1, 3], [4, 2])})
    window = see(Page("T", {}, [Confusion("C", matrix, names), curves]))
    canvas = one(window, ".heat canvas")
    side = (canvas.size["width"] - 32) / 120
    for r, c in [(0, 0), (7, 93), (119, 118)]:
        hover(window, canvas, 30 + (c + 0.5) * side, 24 + (r + 0.5) * side)
        share = f"{matrix[r, c]} of {matrix[r].sum()} clips ({100 * matrix[r, c] / matrix[r].sum():.1f} %)"
        assert texts(window, "#tip > div") == [f"true class {r}", f"predicted class {c}", share]
    press(canvas, "ARROW_LEFT")
    assert texts(window, "#tip > div")[1] == "predicted class 117"
    off = np.where(np.eye(120, dtype=bool), -1, matrix)
    shares = (off / matrix.sum(1, keepdims=True))[off == off.max()]
    assert texts(window, ".worst td")[:2] == [str(off.max()), f"{100 * shares.max():.1f} %"]
    svg = one(window, "svg.chart")
    hover(window, svg, svg.size["width"] - 20, 100)
    assert texts(window, "#tip > *") == ["epoch: 3", "train: 1.125", "test: 2"]
    one(window, ".legend button").click()
    press(svg, "ARROW_LEFT")
    press(svg, "ARROW_LEFT")
    assert texts(window, "#tip > *") == ["epoch: 1", "test: 4"]
    assert len(window.find_elements("css selector", "svg.chart path")) == 1


@pytest.mark.browser
def test_hostile_names_are_shown_as_they_are(see):
    window = see(nasty_page())
    assert window.execute_script("return window.hacked") is None
    shown = window.execute_script(
        "return [...document.querySelectorAll('h2')].map(title => title.textContent.toWellFormed())"
    )
    assert shown == [NASTY.replace("\ud800", "\ufffd")] * 4
    assert window.execute_script("return document.querySelectorAll('script').length") == 2


LONG, ARABIC, BROKEN = "x" * 10_000, "\u0645\u0634\u064a", "two\nlines\u202e"
NAMES = ["walk", "=1+1", LONG, ARABIC, BROKEN]


@pytest.mark.browser
def test_names_of_any_length_and_direction_are_cut_and_sorted(see):
    matrix = np.eye(5, dtype=int) * 3 + np.eye(5, k=1, dtype=int)
    ids = [f"{name}/{n}" for n, name in enumerate(NAMES)]
    rows = [[name, float(n)] for n, name in enumerate(NAMES)]
    parts = [Table("names", ["name", "number"], rows), Confusion("confusion", matrix, NAMES)]
    window = see(Page(LONG, {"path": LONG}, [*parts, chart(5, ids=ids, class_names=NAMES)]), width=360)
    assert window.execute_script("return document.documentElement.scrollWidth") == 360
    cut = f"{'x' * 60}…{'x' * 59}"
    shown = ["walk", "=1+1", cut, ARABIC, "two lines"]
    assert texts(window, "#part-1 tbody th") == shown
    one(window, "#part-1 thead button").click()
    assert texts(window, "#part-1 tbody th") == ["=1+1", "two lines", "walk", cut, ARABIC]
    worst = texts(window, ".worst tbody th")
    assert worst == [
        "walk → =1+1",
        f"=1+1 → {cut}",
        f"{cut} → \u2068{ARABIC}\u2069",
        f"\u2068{ARABIC}\u2069 → two lines",
    ]
    # The arrow of the last row points from the name that is read first, on its left, to the other.
    places = window.execute_script(
        "const text = [...document.querySelectorAll('.worst tbody th')].at(-1).firstChild;"
        "return [0, text.length - 3].map((at) => { const range = document.createRange();"
        "range.setStart(text, at + 1); range.setEnd(text, at + 2); return range.getBoundingClientRect().left; })"
    )
    assert places[0] < places[1]


@pytest.mark.browser
def test_phone_dark_and_paper(see):
    from selenium.webdriver.support.ui import WebDriverWait

    matrix, long = np.eye(3, dtype=int), "a very long name " * 6
    table = Table("T", [f"column {i}" for i in range(12)], [[long, *range(11)]])
    page = Page("A report", {"checkpoint": "runs/" * 30}, [table, Confusion("C", matrix, [long, "b", "c"]), chart(3)])
    window = see(page, width=360)
    assert window.execute_script("return document.documentElement.scrollWidth") == 360
    light = window.execute_script("return getComputedStyle(document.body).backgroundColor")
    before = pixels(window, one(window, ".heat canvas"))
    window.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    assert window.execute_script("return getComputedStyle(document.body).backgroundColor") != light
    # The page hears of it in its own time, and draws again.
    WebDriverWait(window, 20).until(lambda _: not np.array_equal(pixels(window, one(window, ".heat canvas")), before))
    assert base64.b64decode(window.execute_cdp_cmd("Page.printToPDF", {})["data"]).startswith(b"%PDF")
    np.testing.assert_array_equal(
        window.execute_script("return [...document.querySelectorAll('section')].map(one => one.className)"),
        ["table", "confusion", "map"],
    )
