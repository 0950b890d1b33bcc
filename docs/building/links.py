"""Pages and files of the repository that do not lie in ``docs/``: where links lead.

On a forge a page's link is a path in the repository, ``../README.md`` from a page of
``docs/`` and ``docs/methods.md`` from the README. Here all such links are turned, in
one place, into what they are on the site: another page, or a file to download.
"""

from __future__ import annotations

import os.path
import re
from collections.abc import Callable, Mapping
from pathlib import Path

__all__ = ["ABOVE", "from_docs", "moved", "to_parts", "toctrees"]

ABOVE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
"""Pages at the repository's top that are pages of the site as well."""

HOME = "_generated/repository"
"""Where these are on the site, relative to ``docs/``."""

# Code, which is left as it is, or a link.
_LINK = re.compile(
    r"`[^`\n]*`|(?P<text>!?\[[^\]]*\])\((?P<target>[^()\s#]+)(?P<anchor>#[^()\s]*)?\)"
)
_BLOCK = re.compile(r"(?ms)(^ *```.*?^ *```$|^ {4}[^\n]*$)")
_NAME = re.compile(r"(?<!\[)`([\w:-]+)`")


def from_docs(text: str) -> str:
    """Return a page of ``docs/`` with the links that leave this folder turned.

    Parameters
    ----------
    text : str
        Markdown.
    """
    return _turned(text, "docs", only="../")


def moved(text: str) -> str:
    """Return a page of the repository's top as it stands among the pages of the site.

    Parameters
    ----------
    text : str
        Markdown.
    """
    return _turned(text, "", only="")


def to_parts(text: str, places: Mapping[str, str]) -> str:
    """Return a page on which the names of parts lead to their pages.

    Parameters
    ----------
    text : str
        Markdown, in which names stand as code.
    places : mapping of str to str
        The page of each name.
    """

    def linked(code: re.Match[str]) -> str:
        place = places.get(code[1])
        return f"[{code[0]}]({place})" if place else code[0]

    return _outside(_BLOCK, text, lambda prose: _NAME.sub(linked, prose))


def toctrees(text: str) -> str:
    """Return a page of lists of links with the tables of contents that these are.

    Each section becomes one under its heading, so that the page reads the same on a
    forge and is written once.

    Parameters
    ----------
    text : str
        Markdown; a link of a table of contents begins an item of a list.
    """
    trees = []
    for section in re.split(r"(?m)^## ", text)[1:]:
        heading = section.partition("\n")[0]
        pages = "\n".join(re.findall(r"(?m)^- \[[^\]]*\]\(([^)]*)\.md\)", section))
        trees.append(f"```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{pages}\n```\n")
    return "\n".join([text, *trees])


def _turned(text: str, folder: str, only: str) -> str:
    """Return Markdown with its links turned; code is left as it is."""

    def turned(prose: str) -> str:
        return _LINK.sub(lambda link: _link(link, folder, only), prose)

    return _outside(_BLOCK, text, turned)


def _outside(code: re.Pattern[str], text: str, change: Callable[[str], str]) -> str:
    """Return a text changed where it is no code."""
    pieces = code.split(text)
    return "".join(
        piece if number % 2 else change(piece) for number, piece in enumerate(pieces)
    )


def _link(link: re.Match[str], folder: str, only: str) -> str:
    """Return a link as the site has it; an address elsewhere is left alone."""
    target = link["target"]
    if not target or "://" in target or not target.startswith(only):
        return link[0]
    path = os.path.normpath(os.path.join(folder, target)).replace(os.sep, "/")
    place = _on_site(path)
    if place is None:  # a folder, which a reader of the site cannot open
        return link["text"][1:-1]
    return f"{link['text']}({place}{link['anchor'] or ''})"


def _on_site(path: str) -> str | None:
    """Return where a path of the repository is, seen from ``docs/`` as ``/``."""
    if path in ABOVE:
        return f"/{HOME}/{path}"
    if path.startswith("docs/"):
        return path.removeprefix("docs")
    repository = Path(__file__).resolve().parents[2]
    return None if (repository / path).is_dir() else f"/../{path}"
