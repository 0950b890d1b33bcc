"""The papers that parts name in their descriptions, as BibTeX."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..registry import find

__all__ = ["Reference", "bibtex", "references"]

_DOI = re.compile(r"\b(10\.\d{4,}/[^\s;,()]*[^\s;,.()])")
_ARXIV = re.compile(r"\barXiv[: ]\s?(\d{4}\.\d{4,5})")
_YEAR = re.compile(r"\b((?:19|20)\d\d)\b")

_CITED = re.compile(
    r"\bCite (?P<all>.+?(?:doi 10\.|arXiv:)[^\s,;]+"
    r"(?:, and .+?(?:doi 10\.|arXiv:)[^\s,;]+)*)"
)
"""What a data set asks to be cited: one paper, or several joined by "and"."""

_FURTHER = re.compile(r", and (?=[A-Z][\w'-]+ [A-Z][A-Z-]*\b)")
_AUTHORS = re.compile(r"(?P<authors>[A-Z][^()]*?) \((?P<year>\d{4})\)")
_TITLE = re.compile(r"\(\d{4}\)\. (?P<title>.+?)(?:\. |, doi|, [A-Z]{3,} )")
_AUTHOR = re.compile(r"(?P<family>.+) (?P<given>[A-Z][A-Z-]*)")
_AFTER = re.compile(r"\bAfter (?P<name>[^().]{3,40}) \((?P<where>[^()]+)\)")
_BRACKETS = re.compile(r"\((?P<text>[A-Z][^()]*)\)")
_SENTENCE = re.compile(r"(?<=[a-z)][.]) ")


@dataclass(frozen=True)
class Reference:
    """A paper, as far as a part's description names it; unknown fields are empty.

    Attributes
    ----------
    note : str
        The description's own words.
    authors : tuple of str
        Each "Family, Initials".
    title, year, doi, arxiv : str
    """

    note: str = ""
    authors: tuple[str, ...] = ()
    title: str = ""
    year: str = ""
    doi: str = ""
    arxiv: str = ""

    @property
    def identity(self) -> str:
        """What is the same of two descriptions of one paper."""
        return self.doi or self.arxiv or self.note


def references(kind: str, name: str) -> list[Reference]:
    """Return the papers that a part names in its docstring, or in a parent's.

    Nothing is added that does not stand there.

    Parameters
    ----------
    kind, name : str
        Of a registered part.

    Raises
    ------
    UnknownPart
        If there is none.
    """
    for cls in inspect.getmro(find(kind, name)):
        found = list(_named(" ".join((cls.__doc__ or "").split())))
        if found:
            return found
    return []


def _named(text: str) -> Iterator[Reference]:
    """Yield each paper once, in the order in which a description names them."""
    seen: set[str] = set()
    for note, fields in _candidates(text):
        doi, arxiv = _identifiers(note)
        made = replace(fields, note=note, doi=doi, arxiv=arxiv)
        if made.identity not in seen:
            seen.add(made.identity)
            yield made


def _candidates(text: str) -> Iterator[tuple[str, Reference]]:
    """Yield the words on each paper, and what is known of it beside identifiers."""
    cited = _CITED.search(text)
    if cited is not None:
        for note in _FURTHER.split(cited["all"]):
            yield note.rstrip("."), _of_citation(note)
        return
    rest = text
    for after in _AFTER.finditer(text):
        yield after[0].removeprefix("After "), _year(after["where"])
        rest = rest.replace(after[0], "")
    for brackets in _BRACKETS.finditer(rest):
        for note in brackets["text"].split("; "):
            if any(_identifiers(note)) or _year(note).year:
                yield note, _year(note)
    for sentence in _SENTENCE.split(rest):
        bare = _BRACKETS.sub("", sentence)
        if any(_identifiers(bare)):
            yield sentence.rstrip("."), Reference()


def _of_citation(note: str) -> Reference:
    """Return authors, year and title of a citation written out."""
    who, title = _AUTHORS.match(note), _TITLE.search(note)
    found = Reference(title=title["title"] if title else "")
    if who is None:
        return found
    names = [_AUTHOR.fullmatch(each) for each in who["authors"].split(", ")]
    known = tuple(f"{each['family']}, {each['given']}" for each in names if each)
    whole = known if len(known) == len(names) else ()
    return replace(found, authors=whole, year=who["year"])


def _identifiers(text: str) -> tuple[str, str]:
    """Return a paper's DOI and its number at arXiv, "" where there is none."""
    doi, arxiv = _DOI.search(text), _ARXIV.search(text)
    return doi[1] if doi else "", arxiv[1] if arxiv else ""


def _year(text: str) -> Reference:
    years = _YEAR.findall(_DOI.sub("", _ARXIV.sub("", text)))
    return Reference(year=years[-1] if years else "")


def bibtex(named: Sequence[tuple[str, Reference]]) -> str:
    """Return BibTeX entries, each paper once.

    Parameters
    ----------
    named : sequence of (str, Reference)
        The name of the part, which becomes the key, and a paper.
    """
    entries: dict[str, str] = {}
    seen: set[str] = set()
    for name, each in named:
        if each.identity in seen:
            continue
        seen.add(each.identity)
        number, key = 1, name
        while key in entries:
            number, key = number + 1, f"{name}-{number + 1}"
        entries[key] = _entry(key, each)
    return "\n".join(entries.values())


def _entry(key: str, found: Reference) -> str:
    fields = {
        "author": " and ".join(found.authors),
        "title": f"{{{found.title}}}" if found.title else "",
        "year": found.year,
        "doi": found.doi,
        "eprint": found.arxiv,
        "archiveprefix": "arXiv" if found.arxiv else "",
        "note": re.sub(r"([&%_#$])", r"\\\1", found.note),
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([f"@misc{{{key},", *lines, "}"])
