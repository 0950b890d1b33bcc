"""Formulas as MathML, which browsers show by themselves: nothing is fetched or run."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import accents, tex2mathml

__all__ = ["MathError", "mathml"]

_SPACE = "http://www.w3.org/1998/Math/MathML"
_LARGE = re.compile(r"\\([bB]igg?)(?![A-Za-z])")
"""A delimiter's size without its side, which docutils asks for."""

_SHORT = re.compile(r"\\([tdc]?frac) *([0-9])(?=[0-9])")
"""One digit over another, which docutils would take for one number."""

_PRIMED = re.compile("'(?=_)")
"""A prime before an index, which docutils would give the prime and not the letter."""

_DOTS = re.compile(r"\\dots(?![A-Za-z])")


def mathml(formula: str, *, block: bool) -> str:
    """Return a formula as MathML.

    Parameters
    ----------
    formula : str
        LaTeX.
    block : bool
        Whether it stands on a line of its own.

    Raises
    ------
    MathError
        If it has a command that docutils does not know.
    """
    formula = _SHORT.sub(r"\\\1{\2}", _LARGE.sub(r"\\\1l", formula))
    formula = _DOTS.sub(r"\\ldots", _PRIMED.sub(r"^{\\prime}", formula))
    text = str(tex2mathml(formula, as_block=block))
    text = text.replace("&ApplyFunction;", "\N{FUNCTION APPLICATION}")
    tree = ElementTree.fromstring(text)
    for element in [*tree.iter(f"{{{_SPACE}}}munderover")]:
        _mend(element)
    for element in [*tree.iter(f"{{{_SPACE}}}mover")]:
        if (
            element[1].text == "_"
        ):  # a line over several letters, which fonts rarely have
            element.tag = f"{{{_SPACE}}}mrow"
            element.set("class", "overline")
            element.remove(element[1])
    for element in tree.iter(f"{{{_SPACE}}}mo"):
        if element.text == "'":
            element.text = "\N{PRIME}"
    ElementTree.register_namespace("", _SPACE)
    return ElementTree.tostring(tree, encoding="unicode")


def _mend(element: ElementTree.Element) -> None:
    """Set the index of an accented letter beside it, not below as docutils does."""
    letter, _, accent = element
    if accent.text not in accents.values():
        return  # of a sum, say
    element.tag = f"{{{_SPACE}}}msub"
    for each in (letter, accent):
        element.remove(each)
    accented = ElementTree.Element(f"{{{_SPACE}}}mover", accent="true")
    accented.extend([letter, accent])
    element.insert(0, accented)
