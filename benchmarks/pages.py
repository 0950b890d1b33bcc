"""Put the tables of benchmarks into the documentation.

    python benchmarks/pages.py [NAME=OUTPUT ...]

Keeps the ``table.csv`` of the benchmark in the folder OUTPUT as
``docs/tables/NAME.csv``. Every table that is kept goes into each page that has lines
``<!-- NAME -->`` and ``<!-- end of NAME -->``, as in the benchmark's ``table.md``.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

from domainemo.benchmarks.findings import read_findings
from domainemo.benchmarks.printed import as_markdown

DOCS = Path(__file__).parents[1] / "docs"
TABLES = DOCS / "tables"


def filled(text: str) -> str:
    """Return a page with the tables that it names as they are kept."""
    for path in sorted(TABLES.glob("*.csv")):
        if f"<!-- {path.stem} -->" not in text:
            continue
        table = as_markdown(read_findings(path))
        place = re.compile(
            f"(?<=<!-- {path.stem} -->\n).*?(?=<!-- end of {path.stem})", re.S
        )
        text = place.sub(lambda _, table=table: f"{table}\n", text)
    return text


def main() -> None:
    """Keep the tables that are named, and write all into the pages."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("tables", nargs="*", metavar="NAME=OUTPUT")
    for each in parser.parse_args().tables:
        name, _, output = each.partition("=")
        shutil.copyfile(Path(output) / "table.csv", TABLES / f"{name}.csv")
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        page.write_text(filled(text), encoding="utf-8")


if __name__ == "__main__":
    main()
