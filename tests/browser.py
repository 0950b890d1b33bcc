"""Open a page in headless Chromium and say what a reader would stumble over."""

import atexit
import base64
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PHONE, DESKTOP = 375, 1280
CONTRAST = 4.5  # of text to what is behind it: WCAG 2, level AA
SMALLEST = 7.0  # pixels: a letter in a figure

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True)
class Page:
    """What was seen of a page, a line for each fault."""

    console: list[str]
    requests: list[str]
    layout: list[str]
    contrast: list[str]
    shown: dict[str, int]  # how many of each kind of element were looked at

    @property
    def faults(self):
        return [*self.console, *self.requests, *self.layout, *self.contrast]


def open_page(path, width, dark, *, media="screen", picture=None):
    """Return what a reader sees of a page at a width in pixels, light or dark.

    `media` is "screen" or "print"; `picture` is a PNG file to write the whole page to.
    Where there is no Chromium, the test that asks is skipped; it fails where CI_RUN
    is 1.
    """
    driver = _browser()
    driver.get("about:blank")
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"media": media, "features": [scheme]}
    )
    for kind in ("browser", "performance"):
        driver.get_log(kind)  # forgets what was before
    address = Path(path).resolve().as_uri()
    driver.get(address)
    driver.execute_async_script(
        "const done = arguments[0];"
        "requestAnimationFrame(() => requestAnimationFrame(() => done()));"
    )
    seen = driver.execute_script(_LOOK, width, CONTRAST, SMALLEST)
    if picture is not None:
        _take_picture(driver, Path(picture), width)
    return Page(
        console=[
            f"console: {entry['message']}"
            for entry in driver.get_log("browser")
            if entry["level"] in ("SEVERE", "WARNING")
        ],
        requests=_requests(driver.get_log("performance"), address),
        **seen,
    )


def script(code):
    """Run JavaScript in the page that is open, and return what it returns."""
    return _browser().execute_script(code)


def _requests(log, address):
    """Return what was asked of anyone but the page's own file."""
    found = []
    for entry in log:
        message = json.loads(entry["message"])["message"]
        parameters = message["params"]
        if message["method"] == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
        elif message["method"] == "Network.webSocketCreated":
            url = parameters["url"]
        else:
            continue
        if url.partition("#")[0] != address and not url.startswith("data:"):
            found.append(f"request: {url}")
    return found


def _take_picture(driver, picture, width):
    height = driver.execute_script("return document.documentElement.scrollHeight")
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    shot = driver.execute_cdp_cmd(
        "Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True}
    )
    picture.write_bytes(base64.b64decode(shot["data"]))


@cache
def _browser():
    """Start Chromium, once for all tests of a process."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    control = shutil.which("chromedriver")
    if program is None or control is None:
        missing = "chromedriver" if program else "chromium"
        reason = f"{missing} is not installed (Debian: chromium, chromium-driver)"
        if os.environ.get("CI_RUN") == "1":
            pytest.fail(reason)
        pytest.skip(reason)

    from selenium import webdriver

    folder = tempfile.mkdtemp(prefix="chromium-")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*_FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability(
        "goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"}
    )
    # Named, so that selenium does not look for one to download.
    service = webdriver.ChromeService(executable_path=control)
    driver = webdriver.Chrome(options=options, service=service)

    def close():
        driver.quit()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(close)
    return driver


_LOOK = r"""
const [width, leastContrast, smallest] = arguments;
const layout = [], contrast = [], shown = {};

function name(element) {
  const place = element.closest("[id]");
  const text = element.textContent.trim().replace(/\s+/g, " ").slice(0, 40);
  return `${element.localName} in #${place ? place.id : "?"} (${text})`;
}
function count(kind) { shown[kind] = (shown[kind] || 0) + 1; }

// ---- layout
const reach = document.documentElement.scrollWidth;
if (reach > width) layout.push(`page: ${reach} pixels wide in a window of ${width}`);

function scrolls(style) { return ["auto", "scroll"].includes(style.overflowX); }
function hides(style) { return ["hidden", "clip"].includes(style.overflowX); }
function checkBox(element) {
  count(element.localName);
  const box = element.getBoundingClientRect();
  const visible = element.checkVisibility({opacityProperty: true,
                                           visibilityProperty: true});
  if (!visible || box.width < 20 || box.height < 10) {
    layout.push(`not visible: ${name(element)}`);
    return;
  }
  let inner = box;
  for (let up = element.parentElement; up; up = up.parentElement) {
    const style = getComputedStyle(up), outer = up.getBoundingClientRect();
    if (scrolls(style) && up !== document.body) inner = outer;
    else if (hides(style) && (inner.right > outer.right + 1
                              || inner.left < outer.left - 1)) {
      layout.push(`cut off: ${name(element)}`);
      return;
    }
  }
  if (inner.left < -1 || inner.right > width + 1)
    layout.push(`beyond the page: ${name(element)}`);
}
for (const element of document.querySelectorAll(
    "figure, table, img, pre, body svg:not(svg svg)")) checkBox(element);

// ---- letters in figures: none cut off, none too small
for (const text of document.querySelectorAll("svg text")) {
  if (!text.textContent.trim()) continue;
  count("text");
  const svg = text.ownerSVGElement.getBoundingClientRect();
  const box = text.getBoundingClientRect();
  if (box.left < svg.left - 1 || box.right > svg.right + 1
      || box.top < svg.top - 1 || box.bottom > svg.bottom + 1)
    layout.push(`letters cut off: ${name(text)}`);
  const matrix = text.getScreenCTM();
  const scale = Math.hypot(matrix.a, matrix.b);
  const size = scale * parseFloat(getComputedStyle(text).fontSize);
  if (size < smallest - 0.05)
    layout.push(`letters of ${size.toFixed(1)} pixels: ${name(text)}`);
}

// ---- contrast of text that is not in a drawing
function colour(text) {
  const found = text.match(/^rgba?\((.*)\)$/);
  if (!found) throw new Error(`a colour that is not understood: ${text}`);
  const [r, g, b, a = 1] = found[1].split(/[ ,\/]+/).map(Number);
  return {r, g, b, a};
}
function over(top, below) {
  const mix = (x, y) => top.a * x + (1 - top.a) * y;
  return {r: mix(top.r, below.r), g: mix(top.g, below.g), b: mix(top.b, below.b), a: 1};
}
function luminance({r, g, b}) {
  const [x, y, z] = [r, g, b].map(each => {
    const share = each / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
}
const probe = document.body.appendChild(document.createElement("i"));
probe.style.background = "Canvas";
const canvas = colour(getComputedStyle(probe).backgroundColor);
probe.remove();
function behind(element) {
  if (!element) return canvas;
  const own = colour(getComputedStyle(element).backgroundColor);
  return own.a === 1 ? own : over(own, behind(element.parentElement));
}
function opacity(element) {
  const own = Number(getComputedStyle(element).opacity);
  return element.parentElement ? own * opacity(element.parentElement) : own;
}
for (const element of document.body.querySelectorAll("*")) {
  if (element.closest("svg, script, style, template")) continue;
  const own = [...element.childNodes].some(
    node => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
  if (!own) continue;
  if (!element.getClientRects().length) { layout.push(`hidden text: ${name(element)}`);
                                          continue; }
  count("words");
  const ground = behind(element), ink = colour(getComputedStyle(element).color);
  ink.a *= opacity(element);
  const [x, y] = [luminance(over(ink, ground)), luminance(ground)];
  const ratio = (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
  if (ratio < leastContrast)
    contrast.push(`contrast ${ratio.toFixed(2)}: ${name(element)}`);
}
return {layout, contrast, shown};
"""
