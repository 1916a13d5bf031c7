"""Names that others chose: one line, cut, and no formula."""

import csv
import io
import warnings

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from skelcl import plotting
from skelcl.evaluation.report import write_confusion, write_per_class
from skelcl.files import cell, from_cell, markdown_table, one_line
from skelcl.plotting import style
from skelcl.plotting.run_files import read_confusion, read_per_class

NAMES = [
    "=cmd()",
    "+1",
    "-1",
    "@x",
    "'=1",
    "'plain",
    "two\nlines",
    "$x^2$ and $",
    "\u52a8\u4f5c",
    "\u0645\u0634\u064a",
    "x" * 10_000,
]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("two\nlines\tand\x00a\u2028b", "two lines and a b"),
        ("\u202egnp.exe", "gnp.exe"),
        (
            "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        ),
        ("a\ud800b", "a b"),
        ("0123456789abcdef", "0123…cdef"),
    ],
)
def test_a_name_is_one_line(text, line):
    assert one_line(text, 9 if text.startswith("0") else 120) == line


@pytest.mark.parametrize("width", [9, 10, 60])
def test_a_long_name_keeps_its_ends(width):
    line = one_line("a" * 5000 + "z" * 5000, width)
    assert len(line) == width
    assert (line[0], line[-1], line.count("…")) == ("a", "z", 1)


@pytest.mark.parametrize("text", NAMES)
def test_a_cell_is_never_a_formula_and_comes_back(text):
    assert cell(text)[0] not in "=+-@\t\r"
    assert from_cell(cell(text)) == text


def test_tables_of_a_test_hold_no_formula_and_are_read_again(tmp_path):
    label = torch.arange(len(NAMES))
    which = {"test": torch.ones(len(NAMES), dtype=torch.bool)}
    counts = write_confusion(tmp_path / "confusion.csv", label, label.flip(0), NAMES)
    write_per_class(tmp_path / "per_class.csv", label, {"top1": label}, which, NAMES)
    for file in ("confusion.csv", "per_class.csv"):
        with (tmp_path / file).open(newline="", encoding="utf-8") as stream:
            cells = [one for row in csv.reader(stream) for one in row]
        assert not [one for one in cells if one[:1] in tuple("=+-@")]
    read, names = read_confusion(tmp_path / "confusion.csv")
    assert names == NAMES
    np.testing.assert_array_equal(read, counts.numpy())
    assert read_per_class(tmp_path / "per_class.csv")[0] == NAMES


def test_a_row_of_markdown_stays_one_and_holds_no_tag():
    lines = markdown_table([["run", "n"], ["a\nb|c", "1"], ["x" * 10_000, "2"], ["<b>\\|", "3"]])
    assert [len(line) for line in lines] == [len(lines[0])] * 5
    assert lines[1] == f"|{'-' * 122}|-----|"
    assert lines[2].split() == ["|", "a", r"b\|c", "|", "1", "|"]
    assert lines[4].split() == ["|", r"\<b>\\\|", "|", "3", "|"]


def drawn(figure: Figure) -> list[str]:
    """Draws a figure, in which every sign must have a shape; what its texts are in the end."""
    from matplotlib.text import Text

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO(), dpi=20)
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


@pytest.fixture
def bare(monkeypatch):
    """A machine with no font but matplotlib's own."""
    monkeypatch.setattr(style, "OTHER_SCRIPTS", ())
    for cached in (style._families, style._glyphs):
        cached.cache_clear()
    yield
    for cached in (style._families, style._glyphs):
        cached.cache_clear()


@pytest.mark.parametrize("chart", ["confusion", "embedding", "change", "curves"])
def test_pictures_show_any_name_as_text(bare, chart):
    k, rng = len(NAMES), np.random.default_rng(0)
    figure = {
        "confusion": lambda: plotting.confusion_matrix(np.eye(k), NAMES),
        "embedding": lambda: plotting.embedding(rng.normal(size=(k, 4)), np.arange(k), NAMES),
        "change": lambda: plotting.class_change(NAMES, np.zeros(k), np.ones(k), (NAMES[7], NAMES[8])),
        "curves": lambda: plotting.learning_curves({name: (np.arange(2), np.ones(2)) for name in NAMES}, NAMES[7]),
    }[chart]()
    texts = drawn(figure)
    assert any(text.startswith(r"\$x^2\$ and \$") for text in texts)
    assert r"\u52a8\u4f5c" in " ".join(texts)
    assert "two lines" in texts
    assert max(map(len, texts)) <= 130
    fonts = {text.get_fontname() for text in figure.findobj(lambda one: hasattr(one, "get_fontname"))}
    assert fonts == {"DejaVu Sans"}


def test_a_dollar_is_drawn_as_a_dollar():
    from matplotlib.cbook import is_math_text

    assert not is_math_text(style.label_text("$x^2$"))
    one, two = (plotting.confusion_matrix(np.eye(1), [name]) for name in ("$x^2$", "x^2"))
    pictures = [io.BytesIO(), io.BytesIO()]
    for figure, file in zip((one, two), pictures, strict=True):
        figure.savefig(file, dpi=40)
    assert pictures[0].getvalue() != pictures[1].getvalue()


def test_another_font_is_asked_for_what_the_first_lacks(monkeypatch):
    """Of matplotlib's own fonts, STIX has signs that DejaVu has not."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    signs = [
        set(get_font(findfont(FontProperties(family=[name]))).get_charmap()) for name in ("DejaVu Sans", "STIXGeneral")
    ]
    only = chr(min(code for code in signs[1] - signs[0] if chr(code).isprintable()))
    monkeypatch.setattr(style, "OTHER_SCRIPTS", ("No Such Font", "STIXGeneral"))
    for cached in (style._families, style._glyphs):
        cached.cache_clear()
    try:
        assert style.label_text(only) == only
        assert only in drawn(plotting.confusion_matrix(np.eye(1), [only]))
    finally:
        for cached in (style._families, style._glyphs):
            cached.cache_clear()
