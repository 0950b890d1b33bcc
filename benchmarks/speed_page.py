"""Tables and figures of docs/speed.md, made of the tables that are kept.

    python benchmarks/speed.py OUTPUT --all
    python benchmarks/growth.py OUTPUT
    python benchmarks/peak.py OUTPUT
    python benchmarks/released.py OUTPUT
    python benchmarks/speed_page.py OUTPUT

Keeps the tables of OUTPUT in docs/tables/speed, and writes page and figures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pages import TABLES, markdown, write_page

from domainemo.reports.style import COLOURS, LINES, MARKERS, WIDTH, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["NAME", "drawn", "kept", "per_doubling", "ratios", "rendered", "shares"]

NAME = "speed"
MEASURED = ("speed", "growth", "peak", "released")
RELEASED = "uf-ama-released-seed-iv"
_LABELLED_ABOVE = "mmstg-net"
_LABELLED_LEFT = ("physiosync", "r2gfanet", "released losses, here")


def measured(output: Path) -> dict[str, pd.DataFrame]:
    """Return what the benchmarks left in a folder, and on what machine."""
    text = (output / "environment.json").read_text(encoding="utf-8")
    noted = json.loads(text)
    machine = {each: noted[each] for each in ("processor", "cores", "python", "torch")}
    found = {name: pd.read_csv(output / f"{name}.csv") for name in MEASURED}
    return {**found, "machine": pd.DataFrame([machine])}


def kept(folder: Path = TABLES / NAME) -> dict[str, pd.DataFrame]:
    """Return the tables that are kept, by name."""
    return {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}


def rendered(tables: Mapping[str, pd.DataFrame]) -> dict[str, str]:
    """Return what stands in the page, as Markdown, by its mark."""
    return {
        "speed-machine": _machine(tables["machine"]),
        "speed-released": _released(tables["released"]),
        "speed-peak": _peak(tables["peak"]),
        "speed-folds": _folds(tables["speed"]),
        "speed-populations": _populations(tables["speed"]),
        "speed-growth": _growth(tables["growth"]),
    }


def short(value: float) -> str:
    """Return a number with three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}".rstrip(".")


def _machine(table: pd.DataFrame) -> str:
    (own,) = table.to_dict("records")
    return (
        f"{own['processor']}, {own['cores']} cores, Python {own['python']}, torch "
        f"{own['torch']}."
    )


def ratios(table: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Return the seconds that are compared, as released and here, by what they are."""
    found = {
        row["what"]: (row["released, s"], row["here, s"]) for _, row in table.iterrows()
    }
    alone, together = found["epoch, one thread"], found["epoch, all cores"]
    return {**found, "epoch, one thread against all cores": (alone[0], together[1])}


def _released(table: pd.DataFrame) -> str:
    rows = [
        [f"{what}, s", short(released), short(here), f"{released / here:.2f}"]
        for what, (released, here) in ratios(table).items()
    ]
    return markdown(["", "as released", "here", "times as fast"], rows)


def shares(table: pd.DataFrame) -> pd.Series:
    """Return the achieved share of the peak, from 0 to 1."""
    return table["GFLOP/s"] / table["peak, GFLOP/s"]


def _peak(table: pd.DataFrame) -> str:
    columns = ["GFLOP", "moved, MB", "step, ms", "GFLOP/s"]
    rows = [
        [
            _label(each),
            *(short(each[name]) for name in columns),
            f"{100 * share:.0f}",
        ]
        for (_, each), share in zip(table.iterrows(), shares(table), strict=True)
    ]
    return markdown(["", *columns, "of the peak, %"], rows)


def _label(row: pd.Series) -> str:
    """Return what a row of the table of the peak is called."""
    if row["adapter"] != RELEASED:
        return str(row["backbone"])
    where = "as released" if row["backbone"] == "as released" else "here"
    return f"released losses, {where}"


def _folds(table: pd.DataFrame) -> str:
    alone = table[table["members"] == 1]
    shapes = list(dict.fromkeys(alone["shape"]))
    wide = alone.set_index(["backbone", "adapter", "shape"]).sort_index()
    rows = []
    for name, adapter in dict.fromkeys(zip(alone["backbone"], alone["adapter"])):  # noqa: B905
        own = wide.loc[(name, adapter)]
        weights = f"{own.loc[shapes[0], 'parameters']:,}"
        cells = [
            f"{short(own.loc[each, 'step, ms'])}, {short(own.loc[each, 'fold, min'])}"
            for each in shapes
        ]
        rows.append([name, adapter, weights, *cells])
    return markdown(["network", "adapter", f"weights, {shapes[0]}", *shapes], rows)


def _populations(table: pd.DataFrame) -> str:
    counts = sorted(set(table["members"]))
    wide = table.pivot_table(
        "step, ms", ["backbone", "adapter", "shape"], "members", sort=False
    ).dropna(subset=counts[1])
    keys = ["backbone", "adapter", "shape", "members"]
    keeps = table.set_index(keys).sort_index()["kept, MB"]
    rows = []
    for key, own in wide.iterrows():
        cells = [
            "-"
            if np.isnan(own[n])
            else short(own[n]) + ("" if n == 1 else f" ({own[1] / own[n]:.2f})")
            for n in counts
        ]
        rows.append([*key, f"{keeps.loc[(*key, 1)]:.1f}", *cells])
    heads = ["network", "adapter", "shape", "kept, MB", "alone, ms"]
    return markdown([*heads, *(f"of {n}, ms" for n in counts[1:])], rows)


def per_doubling(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Return by how much the time grows where the last size is twice as large."""
    steepness = np.log(seconds[-1] / seconds[-2]) / np.log(sizes[-1] / sizes[-2])
    return float(2**steepness)


def _growth(table: pd.DataFrame) -> str:
    rows = []
    names = list(dict.fromkeys(table["backbone"]))
    for what, own in table.groupby("what", sort=False):
        cells = []
        for name in names:
            each = own[own["backbone"] == name]
            took = each["seconds"].to_list()
            factor = per_doubling(each["size"].to_list(), took)
            cells.append(f"{short(took[0])} to {short(took[-1])} ({factor:.2f})")
        sizes = sorted(set(own["size"]))
        rows.append([str(what), ", ".join(map(str, sizes)), *cells])
    return markdown(["", "sizes", *names], rows)


def drawn(tables: Mapping[str, pd.DataFrame]) -> dict[str, bytes]:
    """Return the figures by their names."""
    growth, peak = tables["growth"], tables["peak"]
    return {
        f"{NAME}-growth.svg": render(lambda: _draw_growth(growth), ".svg")[0],
        f"{NAME}-peak.svg": render(lambda: _draw_peak(peak), ".svg")[0],
    }


def _draw_growth(table: pd.DataFrame) -> Figure:
    """Draw the seconds of a training by what grows, a panel each."""
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(table["what"]))
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    several = figure.subplots(1, len(kinds), sharey=True)
    for axes, what in zip(several, kinds, strict=True):
        own = table[table["what"] == what]
        _draw_sizes(axes, own)
        axes.set_xlabel(what)
    several[0].set_ylabel("CPU seconds of an epoch")
    handles, names = several[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names))
    return figure


def _draw_sizes(axes: Axes, table: pd.DataFrame) -> None:
    for place, name in enumerate(dict.fromkeys(table["backbone"])):
        own = table[table["backbone"] == name]
        sizes, took = own["size"].to_numpy(), own["seconds"].to_numpy()
        axes.plot(
            sizes,
            took,
            color=COLOURS[place],
            marker=MARKERS[place],
            linestyle=LINES[place],
            label=name,
        )
        # Of what grows in proportion.
        axes.plot(sizes, took[0] * sizes / sizes[0], color="0.75", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(each) for each in sizes])
    axes.minorticks_off()
    axes.grid(visible=True)


def _draw_peak(table: pd.DataFrame) -> Figure:
    """Draw what is achieved by how much is computed for each byte: a roofline."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    intensity = table["GFLOP"] * 1e9 / (table["moved, MB"] * 2**20)
    peak = float(table["peak, GFLOP/s"].median())
    bandwidth = float(table["bandwidth, GB/s"].median())
    along = np.geomspace(intensity.min() / 1.6, intensity.max() * 2.2, 50)
    axes.plot(along, np.minimum(peak, bandwidth * along), color="0.35")
    axes.text(along[-1], peak * 1.06, f"peak {peak:.0f} GFLOP/s", ha="right", size=7.5)
    axes.text(along[0], bandwidth * along[0] * 1.5, f"{bandwidth:.0f} GB/s", size=7.5)
    for at, (_, row) in zip(intensity, table.iterrows(), strict=True):
        label, released = _label(row), row["adapter"] == RELEASED
        place = int(released)
        axes.plot(at, row["GFLOP/s"], MARKERS[place], color=COLOURS[place])
        left, above = label in _LABELLED_LEFT, label == _LABELLED_ABOVE
        axes.annotate(
            label,
            (at, row["GFLOP/s"]),
            (-6 if left else 0 if above else 6, 4 if above else 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="bottom" if above else "center",
            size=7.5,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("operations of matrix products for each byte that is moved")
    axes.set_ylabel("GFLOP/s")
    axes.grid(visible=True)
    return figure


def main() -> None:
    """Keep the tables, and write page and figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    write_page(NAME, measured(parser.parse_args().output), kept, rendered, drawn)


if __name__ == "__main__":
    main()
