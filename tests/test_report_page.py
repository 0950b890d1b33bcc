"""The page that reports share: one file, safe, the same bytes, readable anywhere."""

import json
import re
import warnings
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import browser
import numpy as np
import pandas as pd
import pytest
from browser import open_page
from matplotlib.figure import Figure as Drawing

from domainemo.errors import ConfigurationError, DomainemoWarning
from domainemo.reports.page import (
    Code,
    Figure,
    Note,
    Section,
    Table,
    is_report,
    write_report,
)
from domainemo.reports.style import COLOURS, HATCHES, WIDTH, render, save

EVIL = """</script><script>alert("1")</script> <b>&amp; 'quoted'</b>"""
COMMAND = "domainemo adapt --config runs/a-b/chosen.toml --seed 1 2 3 --backbone dgcnn"


def draw_bars():
    """Draw what SVG files name and refer to: clip paths, patterns, markers."""
    figure = Drawing(figsize=(WIDTH, 2.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i in range(3):
        left.bar(i, i + 1, color=COLOURS[i], hatch=HATCHES[i], edgecolor="white")
    left.set_ylabel("windows")
    left.set_title(EVIL)
    right.plot([0, 1, 3], marker="o")
    right.pcolormesh(np.arange(6).reshape(2, 3))
    return figure


def draw_dots(count):
    figure = Drawing(figsize=(WIDTH / 2, 2.4), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*np.random.default_rng(0).normal(size=(2, count)), s=4)
    axes.axhline(0)
    return figure


NARROW = pd.DataFrame(
    {"mean": [0.71, np.nan], "difference": [0.0, -0.125]},
    index=pd.Index(["tuned", "source only"], name="method"),
)
WIDE = pd.DataFrame({f"adapter.weight_{i}": np.arange(30) / 7 for i in range(14)})


def write(path, title="Report", summary=(), sections=(), data=None):
    return write_report(
        path, title=title, summary=summary, sections=sections, data=data or {}
    )


def write_full(path):
    return write(
        path,
        title="A report with a title that is rather long",
        summary=["Forty candidates were compared.", Code(COMMAND)],
        sections=[
            Section("Accuracy", ["Words.", Table(NARROW, "By method."), Note("Care!")]),
            Section("Bars", [Figure("bars", draw_bars, "Bars, and a line.")]),
            Section("Dots", [Figure("dots", lambda: draw_dots(3000), "Many dots.")]),
            Section("All", [Table(WIDE.assign(reason="some long text " * 9))]),
        ],
        data={"accuracy": NARROW},
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_full(path)
    return path


class Reader(HTMLParser):
    """The page's elements, in order, each with its attributes and text."""

    def __init__(self, path):
        super().__init__()
        self.elements, self._open = [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.elements.append({"tag": tag, "text": "", **dict(attributes)})
        self._open.append(self.elements[-1])

    def handle_startendtag(self, tag, attributes):
        self.elements.append({"tag": tag, "text": "", **dict(attributes)})

    def handle_endtag(self, tag):
        while self._open and self._open.pop()["tag"] != tag:
            pass

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def all(self, *tags):
        return [element for element in self.elements if element["tag"] in tags]

    def texts(self, *tags):
        return [element["text"].strip() for element in self.all(*tags)]


# -------------------------------------------------------------------------- content


def test_blocks_stand_in_their_order_under_linked_headings(report):
    page = Reader(report)
    assert page.texts("h2") == ["Contents", "Accuracy", "Bars", "Dots", "All"]
    assert page.texts("p") == ["Forty candidates were compared.", "Words.", "Care!"]
    assert page.texts("code") == [COMMAND]
    assert page.texts("figcaption") == [
        "Table 1 By method.",
        "Figure 1 Bars, and a line.",
        "Figure 2 Many dots.",
    ]
    places = [element["id"] for element in page.elements if "id" in element]
    assert len(places) == len(set(places))
    links = [element["href"] for element in page.all("a")]
    inside = [link for link in links if link.startswith("#")]
    assert len(inside) == 2 * 4 + 2
    assert {link.removeprefix("#") for link in inside} <= set(places)
    # The others are the files of figures and tables, every one of them.
    beside = {f"report/{path.name}" for path in report.with_suffix("").iterdir()}
    assert sorted(set(links) - set(inside)) == sorted(beside)
    assert len(links) == len(inside) + len(beside)


def test_text_is_never_taken_for_html(tmp_path):
    frame = pd.DataFrame({EVIL: [EVIL]}, index=pd.Index([EVIL], name=EVIL))
    blocks = [EVIL, Note(EVIL), Code(EVIL), Table(frame, EVIL)]
    blocks.append(Figure("bars", draw_bars, EVIL, alt=EVIL))
    path = tmp_path / "report.html"
    write(path, EVIL, blocks, [Section(EVIL, blocks[:3])], {EVIL: EVIL})
    page = Reader(path)
    assert page.texts("title") == page.texts("h1") == [EVIL]
    assert page.texts("p") == [EVIL] * 4
    assert page.texts("code") == [EVIL] * 2
    assert page.texts("th", "td") == [EVIL] * 4
    (drawing,) = (each for each in page.all("svg") if each.get("role") == "img")
    assert drawing["aria-label"] == EVIL
    assert EVIL in page.texts("text")
    assert not page.all("b")
    (script,) = page.all("script")
    assert script["type"] == "application/json"
    assert json.loads(script["text"]) == {EVIL: EVIL}


def test_a_report_is_told_from_other_pages(tmp_path):
    page = tmp_path / "paper.html"
    page.write_text("<html>mine</html>")
    assert not is_report(page)
    write_report(page, title="one", summary=[], sections=[], data={})
    assert is_report(page)


def test_data_come_back_as_they_were(tmp_path):
    data = {
        "number": 0.1,
        "array": np.arange(3, dtype=np.float32) / 4,
        "whole": np.int64(3),
        "yes": np.bool_(True),
        "nothing": [np.nan, np.inf, None, pd.NA, pd.NaT],
        "place": Path("a/b"),
        "when": datetime(2024, 1, 2, 3, 4),
        "table": pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
        "deep": ({"é<!--": "\u2028"},),
    }
    write(tmp_path / "report.html", data=data)
    (script,) = Reader(tmp_path / "report.html").all("script")
    assert json.loads(script["text"]) == {
        "number": 0.1,
        "array": [0, 0.25, 0.5],
        "whole": 3,
        "yes": True,
        "nothing": [None] * 5,
        "place": "a/b",
        "when": "2024-01-02T03:04:00",
        "table": {"a": [1, 2], "b": ["x", None]},
        "deep": [{"é<!--": "\u2028"}],
    }
    assert "<!--" not in script["text"]
    with pytest.raises(TypeError, match="expected text or numbers"):
        write(tmp_path / "report.html", data={"a": {1}})


# --------------------------------------------------------------------------- tables


def cells(tmp_path, frame, **options):
    write(tmp_path / "report.html", summary=[Table(frame, **options)])
    return Reader(tmp_path / "report.html")


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0.71449, 3, "0.714"),
        (-0.05, 1, "\u22120.1"),
        (-0.0, 2, "0.00"),
        (1e-9, 3, "1.0e\u22129"),
        (-0.0004, 3, "\u22124.0e\u22124"),
        (12.0, 0, "12"),
        (np.float32(0.5), 2, "0.50"),
        (-np.inf, 3, "\u2212\u221e"),
        (np.nan, 3, "\u2013"),
        (None, 3, "\u2013"),
        (pd.NA, 3, "\u2013"),
        (pd.NaT, 3, "\u2013"),
        (-7, 3, "\u22127"),
        (np.int64(12345), 3, "12345"),
        (True, 3, "yes"),
        (np.bool_(False), 3, "no"),
        ("0.5", 3, "0.5"),
        ("", 3, ""),
        (pd.Timestamp(2024, 1, 2, 3, 4, 5, 6), 3, "2024-01-02 03:04:05"),
        ((1, 2), 3, "(1, 2)"),
    ],
)
def test_a_cell_is_written_with_fixed_digits(tmp_path, value, digits, text):
    frame = pd.DataFrame({"a": pd.Series([value], dtype=object)})
    assert cells(tmp_path, frame, digits=digits).texts("td") == [text]


def test_columns_of_numbers_are_told_from_text(tmp_path):
    frame = pd.DataFrame(
        {
            "float": [0.5, np.nan],
            "int": pd.array([1, None], dtype="Int64"),
            "mixed": pd.Series([1, 0.5], dtype=object),
            "bool": [True, False],
            "text": ["1", "2"],
            "either": pd.Series([1, "x"], dtype=object),
            "none": [None, None],
        }
    )
    page = cells(tmp_path, frame)
    kinds = {each["text"]: each.get("class") for each in page.all("th")}
    numbers = {name for name, kind in kinds.items() if kind == "number-cell"}
    assert numbers == {"float", "int", "mixed"}


def test_an_index_is_shown_unless_it_counts_rows(tmp_path):
    page = cells(tmp_path, pd.DataFrame({"a": [1, 2]}))
    assert page.texts("th") == ["a"]
    assert page.texts("td") == ["1", "2"]
    levels = pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["fold", None])
    columns = pd.MultiIndex.from_tuples([("score", "mean"), ("score", "")])
    frame = pd.DataFrame([[3, 4], [5, 6]], index=levels, columns=columns)
    page = cells(tmp_path, frame)
    assert page.texts("th") == ["fold", "", "score mean", "score", "x", "1", "y", "2"]
    assert page.texts("td") == ["3", "4", "5", "6"]
    assert cells(tmp_path, frame.iloc[:0]).texts("td") == []


def test_tables_are_written_in_full(tmp_path):
    other = pd.DataFrame({"a": [1 / 3]})
    last = Table(other, name="by-class")
    sections = [Section("The Numbers: all", [Table(NARROW / 3), Table(other), last])]
    written = write(
        tmp_path / "report.html", summary=[Table(NARROW)], sections=sections
    )
    names = [path.name for path in written[1:]]
    numbered = ["the-numbers-all.csv", "the-numbers-all-2.csv"]
    assert names == ["summary.csv", *numbered, "by-class.csv"]
    read = [pd.read_csv(path) for path in written[2:]]
    exact = {"rtol": 1e-15, "atol": 0}
    pd.testing.assert_frame_equal(read[0].set_index("method"), NARROW / 3, **exact)
    pd.testing.assert_frame_equal(read[1], other, **exact)


# -------------------------------------------------------------------------- figures


def test_two_drawings_share_no_name_and_refer_to_their_own(tmp_path):
    figures = [Figure(name, draw_bars, "Bars.") for name in ("first", "second")]
    write(tmp_path / "report.html", summary=figures)
    page = Reader(tmp_path / "report.html")
    places = [element["id"] for element in page.elements if "id" in element]
    assert len(places) == len(set(places))
    used = {"first": set(), "second": set()}
    inside = None
    for element in page.elements:
        if element["tag"] == "figure":
            inside = element["id"]
        if inside is None or element["tag"] == "a":
            continue
        for key, value in element.items():
            found = re.findall(r"url\(#(.*?)\)", str(value))
            if key.endswith("href") and value.startswith("#"):
                found.append(value[1:])
            used[inside].update(found)
    for name, references in used.items():
        assert len(references) >= 5  # clip paths, patterns and markers
        assert references <= set(places)
        assert all(reference.startswith(f"{name}.") for reference in references)
    rest = [{each.partition(".")[2] for each in found} for found in used.values()]
    assert rest[0] == rest[1]  # they would clash


def test_a_figure_is_drawn_once_and_kept_as_svg_and_pdf(tmp_path):
    calls = []

    def draw():
        calls.append(1)
        return draw_bars()

    path = tmp_path / "report.html"
    written = write(path, summary=[Figure("the_bars-1", draw, "Bars.")])
    assert calls == [1]
    folder = tmp_path / "report"
    assert written == [path, folder / "the_bars-1.svg", folder / "the_bars-1.pdf"]
    assert "windows" in Reader(path).texts("text")
    svg = written[1].read_text()
    assert re.search(r"<text[^>]*>windows</text>", svg)  # letters stay letters
    assert written[2].read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(("count", "images"), [(100, 0), (20_000, 1)])
def test_many_dots_become_one_image(count, images):
    (svg,) = render(lambda: draw_dots(count), ".svg")
    assert svg.count(b"<image") == images
    assert len(svg) < 150_000


def test_no_letter_of_a_figure_is_smaller_than_seven_points():
    (svg,) = render(draw_bars, ".svg")
    found = [float(size) for size in re.findall(rb"font-size: ([0-9.]+)px", svg)]
    assert found
    assert min(found) >= 7


def test_letters_that_no_font_has_are_told_and_stay_letters_in_svg():
    """Once a file, in a sentence; a name of which all letters are there is none."""

    def draw(name):
        figure = Drawing(figsize=(2, 1))
        figure.text(0.1, 0.5, name)
        return figure

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (svg,) = render(lambda: draw("\U00013000"), ".svg")
        render(lambda: draw("Jörg"), ".svg", ".pdf")
    assert "\U00013000" in svg.decode()
    with pytest.warns(DomainemoWarning, match="No font .*PDF; SVG keeps") as told:
        render(lambda: draw("\U00013000"), ".svg", ".pdf")
    assert len(told) == 1


def test_saved_figures_never_replace_a_file(tmp_path):
    first, second = tmp_path / "new" / "a.png", tmp_path / "b.svg"
    save(draw_bars, first, second)
    assert first.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigurationError, match="exists and was not overwritten"):
        save(draw_bars, tmp_path / "c.svg", second)
    assert not (tmp_path / "c.svg").exists()


@pytest.mark.parametrize("name", ["", "Bars", "a/b", "..", "a b", "-a", "a.b"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="expected small letters"):
        write(tmp_path / "report.html", summary=[Figure(name, draw_bars, "Bars.")])


def test_a_link_finds_its_file_whatever_the_page_is_called(tmp_path):
    written = write(tmp_path / "of 50 % #1.html", summary=[Table(NARROW)])
    (link,) = Reader(written[0]).all("a")
    assert tmp_path / unquote(link["href"]) == written[1]
    assert link["text"] == "summary.csv"
    with pytest.raises(ValueError, match="table name"):
        write(tmp_path / "a.html", summary=[Table(NARROW, name="../a")])


def test_two_figures_of_one_name_are_refused(tmp_path):
    figures = [Figure("bars", draw_bars, "Bars.")] * 2
    with pytest.raises(ValueError, match="'bars' names two things"):
        write(tmp_path / "report.html", summary=figures)


# ---------------------------------------------------------------------------- files


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_the_same_input_gives_the_same_bytes(report, tmp_path):
    for _ in range(2):  # the second time over what is there
        written = write_full(tmp_path / "report.html")
        found = contents(tmp_path)
        assert {tmp_path / path for path in found} == set(written)
        assert found == contents(report.parent)


def test_where_a_figure_fails_nothing_has_changed(tmp_path):
    write(tmp_path / "report.html", summary=[Table(NARROW)])
    before = contents(tmp_path)

    def fail():
        raise RuntimeError("no figure")

    blocks = [Figure("bars", lambda: draw_dots(3), ""), Figure("dots", fail, "")]
    with pytest.raises(RuntimeError, match="no figure"):
        write(tmp_path / "report.html", summary=blocks)
    assert contents(tmp_path) == before


def test_the_page_is_html(tmp_path):
    with pytest.raises(ValueError, match="ends in"):
        write(tmp_path / "report")


def test_nothing_on_the_page_names_another_place(report):
    page = Reader(report)
    keys = {"src", "href", "xlink:href", "srcset", "action", "poster", "background"}
    for element in page.elements:
        for key in keys & element.keys():
            beside = element["tag"] == "a" and (report.parent / element[key]).is_file()
            assert beside or element[key].startswith(("#", "data:")), element["tag"]
    style = "".join(page.texts("style"))
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = (each for each in page.all("meta") if "http-equiv" in each)
    assert "default-src 'none'" in policy["content"]


# -------------------------------------------------------------------------- browser


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, browser.PHONE, 768, browser.DESKTOP, 1920])
def test_everything_is_readable_at_every_width(report, width, dark):
    page = open_page(report, width, dark)
    assert page.faults == []
    shown = {kind: page.shown[kind] for kind in ("figure", "svg", "table", "pre")}
    assert shown == {"figure": 4, "svg": 2, "table": 2, "pre": 1}


def test_numbers_stand_under_each_other(report):
    open_page(report, browser.DESKTOP, False)
    edges = browser.script(
        "const range = document.createRange();"
        "return [...document.querySelectorAll('table')[0].rows].map(row => {"
        "  range.selectNodeContents(row.cells[2]);"
        "  return range.getBoundingClientRect().right; })"
    )
    assert len(edges) == 3
    assert np.ptp(edges) < 0.1


def test_a_command_is_copied_as_it_is(report):
    open_page(report, browser.PHONE, False)
    copied = browser.script(
        "getSelection().selectAllChildren(document.querySelector('code'));"
        "return getSelection().toString()"
    )
    assert copied == COMMAND


def test_what_is_drawn_in_the_dark_is_drawn_on_white(report):
    open_page(report, browser.DESKTOP, True)
    grounds = browser.script(
        "return [document.body, ...document.querySelectorAll('figure > div:has(svg)')]"
        ".map(each => getComputedStyle(each).backgroundColor)"
    )
    assert grounds == ["rgb(20, 23, 28)", "rgb(255, 255, 255)", "rgb(255, 255, 255)"]


def test_on_paper_nothing_is_hidden_in_a_box(report):
    open_page(report, browser.DESKTOP, True, media="print")
    hidden = browser.script(
        "return [...document.querySelectorAll('figure > div')].filter(box =>"
        " box.scrollHeight > box.clientHeight + 1 && "
        "getComputedStyle(box).overflowY !== 'visible').length"
    )
    assert hidden == 0
    ground = browser.script("return getComputedStyle(document.body).backgroundColor")
    assert ground == "rgb(255, 255, 255)"
