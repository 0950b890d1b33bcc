"""What all adapters are worth on open recordings: the digest and figure of their table.

    python benchmarks/open_recordings.py DATA runs/tables
    domainemo benchmark benchmarks/methods.toml --data-root DATA --output OUTPUT
    python benchmarks/pages.py methods=OUTPUT
    python benchmarks/methods.py

Reads ``docs/tables/methods.csv`` and writes ``docs/methods-compared.svg`` and, into
``docs/methods-compared.md``, a row for each adapter: what it gains over source only on
each network and data set, and how often that, or the difference to logistic
regression, is more than chance.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from matrix import draw_matrix, families
from pages import DOCS, TABLES, placed

from domainemo.benchmarks.findings import read_findings
from domainemo.benchmarks.printed import shown

NAME = "methods-compared"
BASE, LINEAR = "source only", "logistic regression"
LEVEL = 0.05
PLACES = ["dataset", "backbone"]


def by_place(table: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return a row per adapter and a column per data set and network, in order.

    Parameters
    ----------
    table : DataFrame
        What `read_findings` returns.
    value : str
        A column of it.
    """
    networks = table[table["backbone"] != ""]
    datasets = list(dict.fromkeys(networks["dataset"]))
    places = [
        (dataset, backbone)
        for dataset in datasets
        for backbone in sorted(
            networks["backbone"][networks["dataset"] == dataset].unique()
        )
    ]
    wide = networks.pivot(index="method", columns=PLACES, values=value)
    return wide.reindex(columns=pd.MultiIndex.from_tuples(places, names=PLACES))


def adapters(table: pd.DataFrame) -> pd.DataFrame:
    """Return the gains of every adapter over source only, the highest mean first."""
    gain = by_place(table, "difference").drop(index=BASE)
    means = gain.mean(axis=1)
    return gain.loc[means.sort_values(ascending=False, kind="stable").index]


def digest(table: pd.DataFrame) -> str:
    """Return a line for each adapter, as Markdown; source only and logistic regression.

    Gains are in points; a star marks what Wilcoxon's test, corrected by Holm for all
    methods of the data set, tells from zero.
    """
    gain = adapters(table)
    p = by_place(table, "p").loc[gain.index, gain.columns]
    accuracy = by_place(table, "balanced_accuracy")[gain.columns]
    linear = by_place(table, "linear_difference").loc[gain.index, gain.columns]
    linear_p = by_place(table, "linear_p").loc[gain.index, gain.columns]
    heads = [f"{dataset}, {backbone}" for dataset, backbone in gain.columns]
    last = ["mean", "told from source only", "told from logistic regression"]
    lines = [f"| adapter | {' | '.join([*heads, *last])} |"]
    lines.append("|---" * (len(heads) + len(last) + 1) + "|")
    base = [f"{value:.3f}" for value in accuracy.loc[BASE]]
    plain = [_plain(table, dataset) for dataset, _ in gain.columns]
    for name, values in ((f"*{BASE}*", base), (f"*{LINEAR}*", plain)):
        lines.append(f"| {name} | {' | '.join(values)} | | | |")
    for name in gain.index:
        cells = [_gain(*each) for each in zip(gain.loc[name], p.loc[name], strict=True)]
        mean = f"{100 * gain.loc[name].mean():+.1f}"
        told = [
            _told(gain.loc[name], p.loc[name]),
            _told(linear.loc[name], linear_p.loc[name]),
        ]
        lines.append(f"| {name} | {' | '.join([*cells, mean, *told])} |")
    return "\n".join(lines)


def _gain(value: float, p: float) -> str:
    if np.isnan(value):
        return "-"
    return f"{100 * value:+.1f}{'*' * (p < LEVEL)}"


def _told(gain: pd.Series, p: pd.Series) -> str:
    """Return how often a difference is more than chance, upwards and downwards."""
    sure = p < LEVEL
    return f"{int((sure & (gain > 0)).sum())} up, {int((sure & (gain < 0)).sum())} down"


def _plain(table: pd.DataFrame, dataset: str) -> str:
    own = table[(table["dataset"] == dataset) & (table["method"] == LINEAR)]
    return f"{own['balanced_accuracy'].item():.3f}"


def plain_models(table: pd.DataFrame) -> str:
    """Return the controls, a column for each data set, as Markdown."""
    rows = table[(table["backbone"] == "") & (table["why"] == "")]
    datasets = list(dict.fromkeys(rows["dataset"]))
    lines = [f"| plain model | {' | '.join(datasets)} |"]
    lines.append("|---" * (len(datasets) + 1) + "|")
    means = rows.groupby("method")["balanced_accuracy"].mean()
    for name in means.sort_values(ascending=False, kind="stable").index:
        own = rows[rows["method"] == name].set_index("dataset")
        cells = []
        for dataset in datasets:
            row = own.loc[dataset]
            star = "*" * bool(row["linear_p"] < LEVEL)
            cells.append(shown(row, "balanced_accuracy", "low", "high") + star)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw the gains as a matrix, adapters by their family."""
    family = families()
    gain = adapters(table)
    theirs = "pytorch-adapt"
    of = {
        name: theirs if name.startswith(f"{theirs}:") else family[name]
        for name in gain.index
    }
    order = sorted(gain.index, key=lambda name: of[name])
    p = by_place(table, "p").loc[order, gain.columns]
    base = by_place(table, "balanced_accuracy").loc[BASE, gain.columns]
    broken = {"concatenation-mlp": "concatenation\n-mlp"}
    heads = [
        f"{dataset}\n{broken.get(backbone, backbone)}\n{100 * value:.0f} %"
        for (dataset, backbone), value in base.items()
    ]
    sure = (p < LEVEL).to_numpy()
    draw_matrix(100 * gain.loc[order], sure, heads, of, path, limit=15)


def main() -> None:
    """Write the digest and the figure."""
    argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0]).parse_args()
    table = read_findings(TABLES / "methods.csv")
    page = DOCS / f"{NAME}.md"
    text = page.read_text(encoding="utf-8")
    text = placed(text, "methods-digest", digest(table))
    text = placed(text, "methods-plain", plain_models(table))
    page.write_text(text, encoding="utf-8")
    draw(table, DOCS / f"{NAME}.svg")
    (DOCS / f"{NAME}.png").unlink()  # for looking at it; the page shows the other


if __name__ == "__main__":
    main()
