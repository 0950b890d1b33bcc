"""The table of a benchmark for a paper, and its cells as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

__all__ = ["as_latex", "in_words", "shown"]


def in_words(row: Mapping[Any, Any]) -> dict[str, str]:
    """Return a row of the table as a reader wants it: intervals joined, ties marked.

    Parameters
    ----------
    row : mapping
        Of `Findings.table`.
    """
    if row["why"]:
        return {
            "rank": "-",
            "backbone": row["backbone"],
            "method": row["method"],
            "balanced accuracy": "no number",
        }
    tied = "=" if row["tied"] else ""
    return {
        "rank": f"{row['rank']}{tied}",
        "backbone": row["backbone"] or "-",
        "method": row["method"],
        "balanced accuracy": shown(row, "balanced_accuracy", "low", "high"),
        "less source only": shown(
            row, "difference", "difference_low", "difference_high", sign="+"
        ),
        "p": _number(row["p"], ".2g"),
        "parameters": _number(row["parameters"], ",d"),
        "seconds": _number(row["seconds"], ".1f"),
    }


def shown(
    row: Mapping[Any, Any], value: str, low: str, high: str, sign: str = ""
) -> str:
    """Return a number and its interval, if there is one."""
    if pd.isna(row[value]):
        return "-"
    number = f"{row[value]:{sign}.3f}"
    if pd.isna(row[low]):
        return number
    return f"{number} [{row[low]:{sign}.3f}, {row[high]:{sign}.3f}]"


def _number(value: Any, form: str) -> str:
    return "-" if pd.isna(value) else format(value, form)


def as_latex(table: pd.DataFrame) -> str:
    """Return the table as LaTeX, with the rules of the package booktabs.

    Parameters
    ----------
    table : DataFrame
        `Findings.table`.
    """
    rows = [
        {"data set": row["dataset"], "protocol": row["protocol"], **in_words(row)}
        for row in table.to_dict("records")
    ]
    text = pd.DataFrame(rows).fillna("-")
    # Parquet and CSV have the reasons; a printed table has no room for them.
    latex: str = text.to_latex(index=False, escape=True)
    return latex
