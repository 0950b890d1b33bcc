"""What learning from whole trials is worth, one person at a time: tables of its page.

    domainemo benchmark benchmarks/whole-trials-one.toml --data-root DATA --output ONE
    domainemo benchmark benchmarks/whole-trials-one-eegmat.toml --output EEGMAT
    domainemo benchmark benchmarks/whole-trials-one-shift.toml --output SHIFT
    python benchmarks/whole_trials_one.py ONE EEGMAT SHIFT [--page]

Nothing is chosen here: on each data set the setting is the one that `whole_trials.py`
has chosen on the others, with many people left out. Reads predictions, and tables in
docs/tables/whole-trials; `--page` keeps these tables there and writes the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from pages import write_page
from predicted import LINEAR, SOURCE
from whole_trials import BETTER, CHOSEN, as_chosen, by_dataset, people, tested
from whole_trials_page import NAME, drawn, kept, rendered


def tables_of(
    rows: pd.DataFrame, names: Mapping[str, str]
) -> Mapping[str, pd.DataFrame]:
    """Return all tables by name.

    Parameters
    ----------
    rows : DataFrame
        See `people` of ``whole_trials.py``.
    names : mapping of str to str
        The setting that is chosen for each data set; others have a fault planted.
    """
    planted = ~rows["dataset"].isin([*names])
    rows, faulty = rows[~planted], rows[planted]
    every = pd.concat([rows, as_chosen(rows, names)], ignore_index=True)
    tests = [tested(every, each, SOURCE) for each in (CHOSEN, "weight-4", LINEAR)]
    tests += [tested(every, each, BETTER) for each in (CHOSEN, "weight-4")]
    tests += [tested(every, each, SOURCE, "error") for each in (CHOSEN, "weight-4")]
    return {
        "one": by_dataset(every),
        "one-planted": by_dataset(faulty),
        "one-tests": pd.concat(tests, ignore_index=True),
    }


def main() -> None:
    """Print the tables; with `--page`, keep them and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("outputs", type=Path, nargs="+", metavar="OUTPUT")
    parser.add_argument("--page", action="store_true")
    given = parser.parse_args()
    rows = pd.concat([people(each) for each in given.outputs], ignore_index=True)
    chosen = kept()["chosen"].set_index("dataset")["chosen"]
    tables = tables_of(rows, chosen.to_dict())
    for name, table in tables.items():
        print(f"\n{name}\n{table.round(3).to_string()}")
    if given.page:
        write_page(NAME, tables, kept, rendered, drawn)


if __name__ == "__main__":
    main()
