"""One self-contained HTML page from sections of text, figures and tables."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .. import files
from ..errors import printable
from .style import render

if TYPE_CHECKING:
    import matplotlib.figure

__all__ = [
    "Block",
    "Code",
    "Figure",
    "Note",
    "Section",
    "Table",
    "is_report",
    "write_report",
]

_MISSING = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_LONG = 24  # letters: a cell that may be broken into lines
_NAME = re.compile(r"[a-z0-9]+([_-][a-z0-9]+)*")
_PIXELS = 96 / 72  # of the screen, in a point


@dataclass(frozen=True)
class Figure:
    """One picture.

    Attributes
    ----------
    name : str
        The stem of its files' names and its place on the page: "learning-curves".
    draw : callable
        Returns a matplotlib figure that is no part of pyplot; called once.
    caption : str
        One or two plain sentences: what one sees, and the selection rule where it
        matters.
    alt : str
        For those who cannot see it; the caption where empty.
    """

    name: str
    draw: Callable[[], matplotlib.figure.Figure]
    caption: str
    alt: str = ""


@dataclass(frozen=True)
class Table:
    """Rows and columns.

    Attributes
    ----------
    frame : DataFrame
        Its index is shown as the first columns unless it merely counts rows.
    caption : str
    digits : int
        Of floating-point numbers, after the point.
    name : str
        The stem of its file's name: "recall-by-class"; where empty it is the
        section's, with a number from the second on.
    """

    frame: pd.DataFrame
    caption: str = ""
    digits: int = 3
    name: str = ""


@dataclass(frozen=True)
class Code:
    """A command to copy."""

    text: str


@dataclass(frozen=True)
class Note:
    """A paragraph set off: a caution, or what was computed after the fact."""

    text: str


Block = str | Figure | Table | Code | Note
"""What a section is made of; a `str` is a paragraph of plain text."""


@dataclass(frozen=True)
class Section:
    """A heading, and what stands under it."""

    title: str
    blocks: Sequence[Block]


_OURS = b'<script type="application/json" id="data">'
"""What every page holds, and hardly another one."""


def is_report(path: Path) -> bool:
    """Return whether a file is a page that `write_report` wrote."""
    return _OURS in path.read_bytes()


def write_report(
    path: Path,
    *,
    title: str,
    summary: Sequence[Block],
    sections: Sequence[Section],
    data: Mapping[str, Any],
) -> list[Path]:
    """Write a page, and in a folder beside it every figure and every table.

    The page asks the network for nothing, needs no script, and holds `data` as JSON.
    Under each figure and table stand links to its files.
    Nothing is written before everything has been drawn; then every file is replaced
    in one step, the page last. The same input gives the same bytes.

    Parameters
    ----------
    path : Path
        The page, ``report.html``; its figures (SVG and PDF) and tables (CSV, numbers
        in full) go to the folder ``report``. Existing files are replaced.
    title : str
    summary : sequence of Block
        What stands between the title and the contents.
    sections : sequence of Section
    data : mapping
        Text, numbers, dates, paths, arrays, data frames, and mappings and sequences
        of these. What is no finite number becomes null.

    Returns
    -------
    list of Path
        What was written, the page first.

    Raises
    ------
    ValueError
        If `path` does not end in ``.html``, if a figure's or a table's name is no plain
        file name, or if two figures have the same.
    TypeError
        If `data` holds what is no data.
    """
    if path.suffix.lower() != ".html":
        raise ValueError(f"{path}: expected a file name that ends in .html")
    page = _Page(quote(path.stem))
    content = {
        "title": title,
        "summary": page.blocks("summary", summary),
        "sections": page.sections(sections),
        "data": _json(data),
    }
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    ).get_template("page.html")
    html = printable(template.render(content), keep="\n").encode()

    folder = path.with_suffix("")
    written = [path]
    for name, file in page.files.items():
        written.append(folder / name)
        files.write(folder / name, file)
    files.write(path, html)
    return written


@dataclass
class _Page:
    """What the template shows, numbered as it comes, and the files beside the page.

    Their folder is given as a link names it.
    """

    folder: str
    files: dict[str, bytes] = field(default_factory=dict)
    _places: set[str] = field(default_factory=lambda: {"contents", "data", "summary"})
    _figures: int = 0
    _tables: int = 0

    def sections(self, sections: Sequence[Section]) -> list[dict[str, Any]]:
        """Return sections, each with a place that a link can name."""
        names = [f"section-{_slug(section.title)}" for section in sections]
        for number, name in enumerate(names):
            if name in names[:number]:
                names[number] = f"{name}-{number + 1}"
        return [
            {
                "title": section.title,
                "place": self._take(name),
                "blocks": self.blocks(name.removeprefix("section-"), section.blocks),
            }
            for section, name in zip(sections, names, strict=True)
        ]

    def blocks(self, name: str, blocks: Sequence[Block]) -> list[dict[str, Any]]:
        """Return what the template needs of each block of a section of this name."""
        return [self._block(name, block) for block in blocks]

    def _block(self, name: str, block: Block) -> dict[str, Any]:
        match block:
            case str():
                return {"kind": "paragraph", "text": block}
            case Note(text):
                return {"kind": "note", "text": text}
            case Code(text):
                # A line is broken between words only, never behind an option's dash.
                return {"kind": "code", "parts": re.split(r"(\s+)", text)}
            case Figure():
                return self._figure(block)
            case Table():
                return self._table(name, block)
        raise TypeError(f"found {block!r}; expected a block of a report")

    def _figure(self, figure: Figure) -> dict[str, Any]:
        _check_name("figure", figure.name)
        place = self._take(figure.name)
        svg, pdf = render(figure.draw, ".svg", ".pdf")
        self.files[f"{place}.svg"] = svg
        self.files[f"{place}.pdf"] = pdf
        self._figures += 1
        drawing, width = _inline(svg, place, figure.alt or figure.caption)
        return {
            "kind": "figure",
            "place": place,
            "number": self._figures,
            "caption": figure.caption,
            "svg": drawing,
            "width": width,
            "files": self._links(f"{place}.svg", f"{place}.pdf"),
        }

    def _table(self, name: str, table: Table) -> dict[str, Any]:
        frame = table.frame
        counted = isinstance(frame.index, pd.RangeIndex)
        if table.name:
            _check_name("table", table.name)
        stem = table.name or name
        number, file = 1, f"{stem}.csv"
        while file in self.files:
            number, file = number + 1, f"{stem}-{number + 1}.csv"
        text = frame.to_csv(index=not counted, lineterminator="\n")
        self.files[file] = text.encode()
        self._tables += 1
        heads = [] if counted else _index_columns(frame.index)
        columns = [*heads, *((key, frame.iloc[:, i]) for i, key in enumerate(frame))]
        cells = [_cells(values, table.digits) for _, values in columns]
        return {
            "kind": "table",
            "number": self._tables,
            "caption": table.caption,
            "columns": [
                {"name": _words(key), "head": i < len(heads), "kind": _kind(*column)}
                for i, ((key, _), column) in enumerate(zip(columns, cells, strict=True))
            ],
            "rows": list(zip(*(texts for texts, _ in cells), strict=True)),
            "files": self._links(file),
        }

    def _links(self, *names: str) -> list[dict[str, str]]:
        return [{"name": name, "href": f"{self.folder}/{name}"} for name in names]

    def _take(self, place: str) -> str:
        if place in self._places:
            raise ValueError(f"{place!r} names two things on the page; expected one.")
        self._places.add(place)
        return place


def _check_name(kind: str, name: str) -> None:
    """Refuse what can name no file."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{kind} name {name!r}: expected small letters, digits and single dashes, "
            f"for it names a file and a place on the page."
        )


def _slug(title: str) -> str:
    """Return a heading as a name for links and files."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "untitled"


# --------------------------------------------------------------------------- tables


def _index_columns(index: pd.Index[Any]) -> list[tuple[Any, pd.Series[Any]]]:
    return [
        ("" if name is None else name, pd.Series(index.get_level_values(level)))
        for level, name in enumerate(index.names)
    ]


def _words(key: Any) -> str:
    """Return a column's name as a heading."""
    parts = key if isinstance(key, tuple) else (key,)
    return " ".join(str(part) for part in parts if str(part))


def _cells(values: pd.Series[Any], digits: int) -> tuple[list[str], bool]:
    """Return a column's cells as text, and whether it is a column of numbers."""
    # A column of objects may hold numpy's numbers.
    cells = [
        cell.item() if isinstance(cell, np.generic) else cell
        for cell in values.tolist()
    ]
    known = [cell for cell in cells if not _is_missing(cell)]
    numeric = bool(known) and all(
        isinstance(cell, (int, float)) and not isinstance(cell, bool) for cell in known
    )
    return [_cell(cell, digits) for cell in cells], numeric


def _kind(texts: Sequence[str], numeric: bool) -> str:
    """Return how the page sets a column."""
    if numeric:
        return "number-cell"
    return "long" if max(map(len, texts), default=0) > _LONG else ""


def _is_missing(cell: Any) -> bool:
    return bool(pd.api.types.is_scalar(cell) and pd.isna(cell))


def _cell(cell: Any, digits: int) -> str:
    """Return one cell as text; no number but nought is shown as nought."""
    if _is_missing(cell):
        return _MISSING
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        text = f"{cell:.{digits}f}"
        if cell == 0:
            text = text.lstrip("-")
        elif float(text) == 0:
            leading, _, power = f"{cell:.1e}".partition("e")
            text = f"{leading}e{int(power)}"
        return text.replace("inf", "\N{INFINITY}").replace("-", _MINUS)
    if isinstance(cell, int):
        return str(cell).replace("-", _MINUS)
    if isinstance(cell, pd.Timestamp):
        return cell.isoformat(" ", "seconds")
    return str(cell)


# -------------------------------------------------------------------------- figures


def _inline(svg: bytes, place: str, alt: str) -> tuple[Markup, int]:
    """Return a drawing to stand inside a page, and its natural width in pixels.

    What is named inside is named after the figure, since clip paths, markers and
    patterns of two drawings would else be taken for each other.
    """
    root = ElementTree.fromstring(svg)
    width = float(root.attrib["viewBox"].split()[2]) * _PIXELS
    for element in root.iter():
        # HTML knows these elements without namespaces.
        element.tag = element.tag.rpartition("}")[2]
        attributes = {
            key.rpartition("}")[2]: _renamed(key.rpartition("}")[2], value, place)
            for key, value in element.attrib.items()
        }
        element.attrib.clear()
        element.attrib.update(attributes)
    for parent in list(root.iter()):
        for child in list(parent):
            # A style inside a drawing would hold for the page; the template has it.
            if child.tag in ("metadata", "style"):
                parent.remove(child)
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.attrib.update({"role": "img", "aria-label": alt})
    return Markup(ElementTree.tostring(root, encoding="unicode")), round(width)


def _renamed(attribute: str, value: str, place: str) -> str:
    """Return an attribute's value with what it names, or refers to, renamed."""
    if attribute == "id":
        return f"{place}.{value}"
    if attribute == "href" and value.startswith("#"):
        return f"#{place}.{value[1:]}"
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{place}.\1)", value)


# ----------------------------------------------------------------------------- data


def _json(data: Mapping[str, Any]) -> Markup:
    """Return data as JSON that can end neither the element it is in nor its page."""
    text = json.dumps(_plain(data), allow_nan=False, separators=(",", ":"))
    for character in "<>&\x7f":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _plain(value: Any) -> Any:
    """Return a value as what JSON knows."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if np.isfinite(value) else None
        case Mapping():
            return {str(key): _plain(each) for key, each in value.items()}
        case pd.DataFrame():
            return {str(key): _plain(value[key].tolist()) for key in value}
        case list() | tuple():
            return [_plain(each) for each in value]
        case np.ndarray() | np.generic():
            return _plain(value.tolist())
        case date() if not pd.isna(value):
            return value.isoformat()
        case Path():
            return value.as_posix()
    if _is_missing(value):
        return None
    raise TypeError(f"a report's data: found {value!r}; expected text or numbers")
