"""Formulas as MathML, which browsers show by themselves: nothing is fetched or run."""

from __future__ import annotations

import re

from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml

__all__ = ["MathError", "mathml"]

_ACCENTED = re.compile(
    r"\\(?:hat|bar|tilde|overline|widehat|widetilde) *(?:\{[^{}]*\}|\\[A-Za-z]+|\w)"
    r"(?= *[_^])"
)
"""With an index, which docutils would set below the letter and not beside it."""

_LARGE = re.compile(r"\\([bB]igg?)(?![A-Za-z])")
"""A delimiter's size without its side, which docutils asks for."""

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
    formula = _ACCENTED.sub(r"{\g<0>}", formula)
    formula = _LARGE.sub(r"\\\1l", formula)
    formula = _DOTS.sub(r"\\ldots", formula)
    found = str(tex2mathml(formula, as_block=block))
    return found.replace("<mo>'</mo>", "<mo>\N{PRIME}</mo>")
