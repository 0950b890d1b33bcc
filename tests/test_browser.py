"""The browser's checks find what is wrong with pages made bad on purpose."""

import shutil

import browser
import pytest
from browser import DESKTOP, PHONE, open_page

PAGE = """<!DOCTYPE html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>page</title><link rel="icon" href="data:,">
<style>{style}</style><body><p>Some words.</p>{body}</body></html>"""

SHUT = "http://127.0.0.1:65000"  # where nobody listens
DRAWING = '<svg viewBox="0 0 100 50" width="200"><text x="{}" y="20">word</text></svg>'


@pytest.fixture
def look(tmp_path):
    def call(body="", style="", width=DESKTOP, dark=False):
        path = tmp_path / "page.html"
        path.write_text(PAGE.format(body=body, style=style), encoding="utf-8")
        return open_page(path, width, dark)

    return call


TABLE = "<table><tr><td>a number of words</table>"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_a_good_page_has_no_fault(look, width, dark):
    wide = f'<div style="overflow: auto"><div style="width: 3000px">{TABLE}</div></div>'
    page = look(f"{TABLE}{wide}{DRAWING.format(10)}", width=width, dark=dark)
    assert page.faults == []
    assert page.shown == {"table": 2, "svg": 1, "text": 1, "words": 3}


@pytest.mark.parametrize(
    "body",
    [
        f'<img src="{SHUT}/a" alt="">',
        f'<link rel="stylesheet" href="{SHUT}/a">',
        f'<script src="{SHUT}/a"></script>',
        f'<script>fetch("{SHUT}/a").catch(() => 0)</script>',
        f'<iframe src="{SHUT}/a"></iframe>',
        f'<div style="background: url({SHUT}/a)">words</div>',
        f"<style>@font-face {{ font-family: f; src: url({SHUT}/a) }}</style>"
        '<b style="font-family: f">words</b>',
        f'<svg width="50" height="50"><image href="{SHUT}/a" width="9"/></svg>',
        '<script>new WebSocket("ws://127.0.0.1:65000/a")</script>',
    ],
)
def test_what_asks_the_network_is_found(look, body):
    requests = look(body).requests
    assert requests in ([f"request: {SHUT}/a"], ["request: ws://127.0.0.1:65000/a"])


def test_a_file_beside_the_page_is_no_part_of_it(look, tmp_path):
    (tmp_path / "other.css").write_text("")
    (request,) = look('<link rel="stylesheet" href="other.css">').requests
    assert request.endswith("other.css")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("console.error('trouble')", "trouble"),
        ("console.warn('trouble')", "trouble"),
        ("throw new Error('trouble')", "trouble"),
        ("const = 3", "SyntaxError"),
        ("Promise.reject(new Error('trouble'))", "trouble"),
    ],
)
def test_an_error_in_the_console_is_found(look, code, message):
    (found,) = look(f"<script>{code}</script>").console
    assert message in found
    assert look("<script>console.log('fine')</script>").console == []


HIDDEN = [
    f'<div style="display: none">{TABLE}</div>',
    f'<div style="visibility: hidden">{TABLE}</div>',
    f'<div style="opacity: 0">{TABLE}</div>',
    f"<details><summary>more</summary>{TABLE}</details>",
    '<svg width="0" height="0"></svg>',
    "<figure></figure>",
]


@pytest.mark.parametrize("body", HIDDEN)
def test_what_cannot_be_seen_is_found(look, body):
    assert any("not visible" in each for each in look(body).layout)


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_what_reaches_beyond_the_page_is_found(look, width):
    figure = '<figure style="width: 2000px">words</figure>'
    found = " ".join(look(figure, width=width).layout)
    assert "beyond the page: figure" in found
    assert f"pixels wide in a window of {width}" in found
    found = " ".join(look(f'<div style="overflow: hidden">{figure}</div>').layout)
    assert "cut off: figure" in found
    left = '<figure style="margin-left: -100px">words</figure>'
    assert "beyond the page: figure" in " ".join(look(left).layout)


def test_letters_that_are_cut_off_or_too_small_are_found(look):
    (found,) = look(DRAWING.format(90)).layout
    assert "letters cut off" in found
    small = DRAWING.format(10).replace("<text", '<text font-size="3"')
    (found,) = look(small).layout
    assert "letters of 6.0 pixels" in found  # 3, drawn at twice its size


@pytest.mark.parametrize(
    ("style", "ratio"),
    [
        ("color: #777; background: #fff", 4.48),  # known: just too pale
        ("color: #808080; background: #000", 5.32),
        ("color: #f00; background: #fff", 4.00),
        ("color: rgb(0 0 0 / 50%); background: #fff", 3.98),  # as grey 127.5
        ("color: #000; background: #fff; opacity: 0.5", 3.98),
    ],
)
def test_pale_text_is_found(look, style, ratio):
    found = look(f'<div style="background: #fff"><b style="{style}">words</b></div>')
    if ratio >= browser.CONTRAST:
        assert found.contrast == []
    else:
        (text,) = found.contrast
        assert float(text.split()[1].strip(":")) == pytest.approx(ratio, abs=0.02)


def test_text_that_is_pale_in_the_dark_only_is_found(look):
    assert look('<b style="color: #222">words</b>').faults == []
    (found,) = look('<b style="color: #222">words</b>', dark=True).contrast
    assert "b in" in found
    style = "@media (prefers-color-scheme: dark) { p { color: #333 } }"
    assert look(style=style).faults == []
    assert len(look(style=style, dark=True).contrast) == 1


@pytest.mark.parametrize(
    ("value", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)]
)
def test_without_a_browser_tests_are_skipped_but_not_where_all_must_run(
    monkeypatch, value, outcome
):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("CI_RUN", value)
    with pytest.raises(outcome, match="chromium is not installed"):
        browser._browser.__wrapped__()
