"""The table of a benchmark as Markdown and LaTeX, and its cells as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from ..words import count

__all__ = ["as_latex", "as_markdown", "difference_columns", "in_words", "shown"]

_SAID = ("access", "modalities", "normalisation", "sampling", "selection", "version")
_BEFORE = {"selection": "selection: ", "version": "domainemo "}


def difference_columns(prefix: str = "") -> list[str]:
    """Return the columns of a difference: its mean, its interval and its p-value.

    Parameters
    ----------
    prefix : str
        Empty for the difference to source only, ``linear_`` for that to logistic
        regression, ``reference_`` for that to what the benchmark's file names.
    """
    names = ("difference", "difference_low", "difference_high", "p")
    return [f"{prefix}{name}" for name in names]


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
        **_difference(row, "", "source only", "p"),
        **_difference(row, "linear_", "logistic regression", "p of that"),
        **_difference(row, "reference_", row["reference"], "p of this"),
        "parameters": _number(row["parameters"], ",d"),
        "seconds": _number(row["seconds"], ".1f"),
    }


def _difference(
    row: Mapping[Any, Any], prefix: str, other: str, p: str
) -> dict[str, str]:
    """Return a difference and its p-value; nothing where there is no other."""
    if not other:
        return {}
    value, *rest = difference_columns(prefix)
    low, high, probability = rest
    return {
        f"less {other}": shown(row, value, low, high, sign="+"),
        p: _number(row[probability], ".2g"),
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


def as_markdown(table: pd.DataFrame) -> str:
    """Return the table as Markdown: a part for each data set under each protocol.

    Above each part stand what a prediction is about, subjects, seeds and how networks
    were trained; below it the methods that have no number, and why.

    Parameters
    ----------
    table : DataFrame
        `Findings.table`, or what :func:`~domainemo.benchmarks.findings.read_findings`
        returns.
    """
    groups = table.groupby(["dataset", "protocol"], sort=False)
    return "\n\n".join(
        "\n".join(_part(f"{dataset}, {protocol}", rows))
        for (dataset, protocol), rows in groups
    )


def _part(name: str, rows: pd.DataFrame) -> Iterator[str]:
    """Yield the lines on one data set under one protocol."""
    done = rows[rows["why"] == ""]
    if len(done):
        yield f"**{name}**: {'; '.join(_circumstances(done))}."
        yield ""
        cells = [in_words(row) for row in done.to_dict("records")]
        names = [*cells[0]]
        for place, name in enumerate(names):
            if name.startswith("less ") and all(each[name] == "-" for each in cells):
                for each in cells:  # nothing that it could be less than
                    del each[name], each[names[place + 1]]
        yield _line(cells[0])
        yield _line("---" for _ in cells[0])
        yield from (_line(row.values()) for row in cells)
    else:
        yield f"**{name}**: no number."
    missing = rows[rows["why"] != ""].to_dict("records")
    if missing:
        yield ""
    for row in missing:
        on = f" on {row['backbone']}" if row["backbone"] else ""
        yield f"- No number: {row['method']}{on}. {row['why']}"


def _circumstances(done: pd.DataFrame) -> Iterator[str]:
    """Yield how the numbers were obtained; of the networks, where there are any."""
    first = done.iloc[0]
    subjects = count(int(first["subjects"]), "subject")
    yield f"balanced accuracy per {first['level']}, {subjects}"
    networks = done[done["backbone"] != ""]
    told = networks if len(networks) else done
    seeds = str(told["seeds"].iloc[0])
    yield f"seed{'s' * (',' in seeds)} {seeds}"
    for column in _SAID:
        said = dict.fromkeys(told[column])
        text = " or ".join(map(str, said))
        yield _BEFORE.get(column, "") + text


def _line(cells: Iterable[Any]) -> str:
    # A name may hold what divides the cells.
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"
