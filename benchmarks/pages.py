"""Put the tables of benchmarks into the documentation.

    python benchmarks/pages.py [NAME=OUTPUT ...]

Keeps the ``table.csv`` of the benchmark in the folder OUTPUT as
``docs/tables/NAME.csv``. Every table that is kept goes into each page that has lines
``<!-- NAME -->`` and ``<!-- end of NAME -->``, as in the benchmark's ``table.md``.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from domainemo.benchmarks.findings import read_findings
from domainemo.benchmarks.printed import as_markdown

DOCS = Path(__file__).parents[1] / "docs"
TABLES = DOCS / "tables"
OWN = "hollow-numbers"  # which `hollow.py` keeps, and is no table of a benchmark


def placed(text: str, name: str, table: str) -> str:
    """Return a page with a table between its two marks; as it is where it has none."""
    before, mark, rest = text.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->")
    return f"{before}{mark}{table}\n{end}{after}" if mark and end else text


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of cells that are text."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("|  |", "| |")


def write_page(
    name: str,
    tables: Mapping[str, pd.DataFrame],
    read: Callable[[Path], dict[str, pd.DataFrame]],
    rendered: Callable[[dict[str, pd.DataFrame]], Mapping[str, str]],
    drawn: Callable[[dict[str, pd.DataFrame]], Mapping[str, bytes]],
    digits: Mapping[str, str] = {},
) -> None:
    """Keep a study's tables, and put them and its figures into the documentation.

    Parameters
    ----------
    name : str
        Of the page, and of the folder of its tables.
    tables : mapping of str to DataFrame
    read : callable
        Reads the tables that are kept again: these are what the page shows.
    rendered, drawn : callable
        Return tables as Markdown by their mark, and figures by their name.
    digits : mapping of str to str
        How numbers of a table are kept, where not with five digits.
    """
    folder = TABLES / name
    folder.mkdir(exist_ok=True)
    for each, table in tables.items():
        form = digits.get(each, "%.5g")
        table.to_csv(folder / f"{each}.csv", index=False, float_format=form)
    again = read(folder)
    page = DOCS / f"{name}.md"
    text = page.read_text(encoding="utf-8")
    for mark, shown in rendered(again).items():
        text = placed(text, mark, shown)
    page.write_text(text, encoding="utf-8")
    for figure, content in drawn(again).items():
        (DOCS / figure).write_bytes(content)


def main() -> None:
    """Keep the tables that are named, and write all into the pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("tables", nargs="*", metavar="NAME=OUTPUT")
    for each in parser.parse_args().tables:
        name, _, output = each.partition("=")
        shutil.copyfile(Path(output) / "table.csv", TABLES / f"{name}.csv")
    marked = (path for path in sorted(TABLES.glob("*.csv")) if path.stem != OWN)
    tables = {path.stem: as_markdown(read_findings(path)) for path in marked}
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for name, table in tables.items():
            text = placed(text, name, table)
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
