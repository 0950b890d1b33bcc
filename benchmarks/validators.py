"""What each validator's choices are worth: the tables and the figure of its page.

    python benchmarks/validators.py OUTPUT [--data DATA] [--jobs 2] [--only NAME ...]
    python benchmarks/validators.py OUTPUT --data DATA --report --page

Networks are trained on everybody but one, in every configuration: two networks, two
learning rates, and five ways to adapt or not to, one with two weights. After every
second epoch all validators judge them, without a label of the person left out; then
it is looked up what each choice was worth there. Recordings: eegmat, esports and
ssvep-exo below DATA, and simulated people whose class shares are alike, or differ.
Three seeds.

Three choices: a configuration, of all; a method, of those with the first network and
learning rate; an epoch, against the last one. Each cell is kept in OUTPUT/cells, and a
second call goes on from there; tables and the figure are made of all that is there,
and go into ``docs/validator-study.md`` with ``--page``. Intervals are BCa over people,
each averaged over seeds; over all recordings, which weigh alike, people are drawn
within each.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import nullcontext
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import open_recordings
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pages import DOCS, TABLES, placed
from scipy.stats import bootstrap, spearmanr

import domainemo as de
from domainemo.core import FUSION, Source, Target, Validator
from domainemo.errors import DomainemoWarning
from domainemo.files import write
from domainemo.processes import process_pool
from domainemo.registry import entries, find
from domainemo.reports.style import COLOURS, WIDTH, save
from domainemo.runs.metrics import metrics
from domainemo.statistics.intervals import bootstrap_interval
from domainemo.statistics.ties import tied
from domainemo.validators.comparing import comparison
from domainemo.validators.guarded import Guarded
from domainemo.validators.joined import as_asked
from domainemo.validators.rank_average import RankAverage

SEEDS = (0, 1, 2)
EPOCHS = 10
EVERY = 2  # epochs that validators judge
NETWORKS = {"plain": "none", "normalised": "batch"}
LEARNING_RATES = (4e-3, 1e-3)
METHODS: Sequence[tuple[str, float]] = (
    ("none", 0.0),
    ("deep-coral", 0.1),
    ("deep-coral", 3.0),
    ("dan", 1.0),
    ("dann", 0.3),
    ("mcc", 1.0),
)
VALIDATORS = [each.name for each in entries("validator")]
# Ranked together, besides what `rank-average` ranks by default.
RANKED = (
    ("source", "bnm", "class-ami"),
    ("source", "class-ami"),
    ("source", "reverse-validation"),
    ("reverse-validation", "bnm"),
    ("reverse-validation", "class-ami"),
    ("bnm", "class-ami"),
    ("source", "reverse-validation", "bnm"),
    ("source", "reverse-validation", "class-ami"),
    ("reverse-validation", "bnm", "class-ami"),
    ("source", "reverse-validation", "bnm", "class-ami"),
)
# Behind a guard, besides what `guarded` has there by default.
BEHIND = ("bnm", "source-and-information", "source")
JUDGES: Mapping[str, Validator] = {
    **{name: find("validator", name)() for name in VALIDATORS},
    **{", ".join(each): RankAverage(validators=each) for each in RANKED},
    **{f"guarded: {each}": Guarded(validator=each) for each in BEHIND},
}
ORACLE, RANDOM, PLAIN = "target labels", "at random", "source only"
ALL = "all"
HARM = 0.05  # accuracy lost against source only that counts as harm
KEPT = TABLES / "validators"


class Configuration(NamedTuple):
    """What is trained."""

    network: str
    learning_rate: float
    adapter: str
    weight: float

    @property
    def name(self) -> str:
        """A name for files."""
        return f"{self.network}-{self.learning_rate:g}-{self.adapter}-{self.weight:g}"


# Source only of the first network and learning rate comes first: it is untuned.
CONFIGURATIONS = [
    Configuration(network, rate, *method)
    for network, rate, method in product(NETWORKS, LEARNING_RATES, METHODS)
]
UNTUNED = CONFIGURATIONS[0].name


# ------------------------------------------------------------------------- recordings


def simulated(_: Path | None) -> de.EmotionData:
    """Return people who differ as people do, with even class shares."""
    return de.Simulated(subjects=8, sessions=1, trials=12, windows=(6, 8)).load()


def shifted(_: Path | None) -> de.EmotionData:
    """Return the same people, each of whom saw most clips of one class."""
    data = simulated(None)
    windows = data.inputs.windows
    people = {name: n for n, name in enumerate(pd.unique(windows["subject"]))}
    rows = np.zeros(len(data), dtype=bool)
    for name, number in people.items():
        own = (windows["subject"] == name).to_numpy()
        for label in range(len(data.classes)):
            trials = pd.unique(windows["trial"][own & (data.labels == label)])
            often = label == number % len(data.classes)
            kept = trials if often else trials[:1]
            rows |= own & (data.labels == label) & windows["trial"].isin(kept)
    return data.take(np.flatnonzero(rows))


def eegmat(data: Path | None) -> de.EmotionData:
    """Return 36 people at rest and at mental arithmetic."""
    assert data is not None
    with np.load(data / "eegmat" / "features_4s.npz", allow_pickle=False) as stored:
        return open_recordings.eegmat(dict(stored))


def esports(data: Path | None) -> de.EmotionData:
    """Return every sixth window of ten players against bots or humans."""
    found = de.load("esports", data)
    return found.take(np.arange(0, len(found), 6))


def ssvep(data: Path | None) -> de.EmotionData:
    """Return twelve people who look at a light that blinks."""
    return de.load("ssvep-exo", data)


RECORDINGS: Mapping[str, Callable[[Path | None], de.EmotionData]] = {
    "simulated": simulated,
    "simulated, label shift": shifted,
    "eegmat": eegmat,
    "esports": esports,
    "ssvep-exo": ssvep,
}
MODALITIES = {"esports": ("eye", "physiology")}


@cache
def recordings(name: str, data: Path | None) -> de.EmotionData:
    """Return recordings, read once in each process."""
    return RECORDINGS[name](data)


# ----------------------------------------------------------------------------- a cell


class Recorder(Validator):
    """Takes the last epoch, and writes down what all validators make of some.

    Parameters
    ----------
    path : str
        Of a file that receives a line of JSON for each of them.
    """

    held_out = True
    needs_training = True
    mixes = 0.55

    def __init__(self, *, path: str = "") -> None:
        self.path = path

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return how far training has come."""
        if round(target.progress * EPOCHS) % EVERY:
            return target.progress
        line: dict[str, Any] = {"evidence": {}, "seconds": {}}
        for name in VALIDATORS:
            validator = find("validator", name)()
            asked = as_asked(validator, training, held_out, target)
            began = time.perf_counter()
            line["evidence"][name] = [
                float(each) for each in validator.evidence(*asked)
            ]
            line["seconds"][name] = time.perf_counter() - began
        line["predicted"] = target.outputs.logits[FUSION].argmax(1).tolist()
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return target.progress


def cell(
    name: str, place: Path | None, chosen: Configuration, seed: int, fold: str
) -> dict[str, Any]:
    """Train once, and return what is known of every epoch that was judged."""
    data = recordings(name, place)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "epochs.jsonl"
        results = _trained(data, name, chosen, seed, fold, path)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
    epochs = lines[: EPOCHS // EVERY]  # it is asked once more when training is over
    evidence = [each["evidence"] for each in epochs]
    labels = results.predictions["label"].to_numpy()
    # Targets are shown in this order.
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    truth = []
    for each in epochs:
        predicted = np.empty(len(labels), dtype=np.int64)
        predicted[order.numpy()] = each["predicted"]
        sure = np.eye(int(labels.max()) + 1)[np.minimum(predicted, labels.max())]
        truth.append(metrics(labels, sure)["balanced_accuracy"])
    table = results.table[results.table["level"] == results.level]
    assert math.isclose(truth[-1], table["balanced_accuracy"].iloc[0], abs_tol=1e-9)
    return {
        "truth": truth,
        "evidence": {name: [each[name] for each in evidence] for name in VALIDATORS},
        "seconds": {
            name: float(np.mean([each["seconds"][name] for each in epochs]))
            for name in VALIDATORS
        },
    }


def _trained(
    data: de.EmotionData,
    name: str,
    chosen: Configuration,
    seed: int,
    fold: str,
    path: Path,
) -> de.Results:
    options: dict[str, Any] = {
        "backbone.hidden": (32,),
        "backbone.width": 16,
        "backbone.fusion_width": 32,
        "backbone.normalisation": NETWORKS[chosen.network],
    }
    if chosen.adapter != "none":
        options["adapter.weight"] = chosen.weight
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DomainemoWarning)
        return de.run(
            data,
            backbone="concatenation-mlp",
            adapter=chosen.adapter,
            modalities=MODALITIES.get(name),
            validator=Recorder(path=str(path)),
            options=options,
            training=de.Training(
                epochs=EPOCHS,
                # Some 16 to 20 steps an epoch everywhere.
                batch_size=32 if len(data) < 1000 else 128,
                learning_rate=chosen.learning_rate,
            ),
            seeds=[seed],
            folds=[fold],
            baselines=False,
            device="cpu",
        )


# -------------------------------------------------------------------------- all cells


class Place(NamedTuple):
    """Whom a cell is about."""

    dataset: str
    seed: int
    fold: str
    configuration: Configuration

    def path(self, output: Path) -> Path:
        """Return the file of the cell."""
        words = (self.dataset, f"seed-{self.seed}", self.fold, self.configuration.name)
        parts = [word.replace(",", "").replace(" ", "_") for word in words]
        return (output / "cells").joinpath(*parts[:-1]) / f"{parts[-1]}.json"


def places(chosen: argparse.Namespace) -> list[Place]:
    """Return all cells that are wanted."""
    found = []
    for name in chosen.only:
        subjects = recordings(name, chosen.data).inputs.windows["subject"]
        folds = [f"subject {each}" for each in pd.unique(subjects)][: chosen.people]
        found += [
            Place(name, seed, fold, each)
            for seed, fold, each in product(
                chosen.seeds, folds, CONFIGURATIONS[: chosen.configurations]
            )
        ]
    return found


def fill(left: Sequence[Place], chosen: argparse.Namespace) -> None:
    """Train what is missing, and keep each cell as it is done."""
    several = chosen.jobs > 1
    pool = process_pool(chosen.jobs, script=True) if several else nullcontext()
    with pool as executor:
        for number, (place, found) in enumerate(_cells(left, chosen, executor), 1):
            write(place.path(chosen.output), json.dumps(found))
            print(
                f"[{number}/{len(left)}] {place}: {found['truth'][-1]:.3f}", flush=True
            )


def _cells(
    left: Sequence[Place], chosen: argparse.Namespace, executor: Any
) -> Iterator[tuple[Place, dict[str, Any]]]:
    def asked(each: Place) -> tuple[Any, ...]:
        return each.dataset, chosen.data, each.configuration, each.seed, each.fold

    if executor is None:
        for each in left:
            yield each, cell(*asked(each))
        return
    futures = {executor.submit(cell, *asked(each)): each for each in left}
    for future in as_completed(futures):
        yield futures[future], future.result()


# ---------------------------------------------------------------------------- choices


Cells = Mapping[str, Mapping[str, Any]]
"""The cells of one person and seed, by the configuration's name."""


def chosen_of(cells: Cells) -> Iterator[dict[str, Any]]:
    """Yield what every validator's choice of a configuration is worth."""
    names = [each.name for each in CONFIGURATIONS if each.name in cells]
    truth = np.array([cells[name]["truth"][-1] for name in names])
    plain = cells[UNTUNED]["truth"][-1]

    def row(validator: str, value: float, rank: float) -> dict[str, Any]:
        regret = truth.max() - value
        worse = value < plain
        return {"validator": validator, "accuracy": value, "regret": regret} | {
            "rank": rank,
            "worse": worse,
            "harmed": plain - value > HARM,
        }

    yield row(ORACLE, truth.max(), 1.0)
    drawn = {"worse": (truth < plain).mean(), "harmed": (plain - truth > HARM).mean()}
    yield row(RANDOM, truth.mean(), math.nan) | drawn
    yield row(PLAIN, plain, math.nan)
    for name, judge in JUDGES.items():
        if name == "last":
            continue
        found = [evidence(name, judge, cells[each], -1) for each in names]
        scores = np.array(comparison(judge, found))
        yield row(name, truth[int(scores.argmax())], _rank(scores, truth))


def evidence(
    name: str, judge: Validator, found: Mapping[str, Any], epoch: int
) -> list[float]:
    """Return what a validator makes of a judged epoch; a joined one, of its members."""
    known = found["evidence"]
    if isinstance(judge, RankAverage):
        return [known[each][epoch][0] for each in judge.validators]
    if isinstance(judge, Guarded):
        behind = evidence(judge.validator, judge.members[0], found, epoch)
        return [known["guarded"][epoch][0], *behind]
    return list(known[name][epoch])


def _rank(scores: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Return the rank correlation of scores and truth; NaN where either is constant."""
    known = np.isfinite(scores)
    if len(set(scores[known])) < 2 or len(set(truth[known])) < 2:
        return math.nan
    return float(spearmanr(scores[known], tied(truth[known])).statistic)


def epochs_of(cells: Cells) -> Iterator[dict[str, Any]]:
    """Yield what every validator's epoch is worth, against the last; mean over all."""
    for name, judge in JUDGES.items():
        gains = [
            each["truth"][_epoch(name, judge, each)] - each["truth"][-1]
            for each in cells.values()
        ]
        yield {"validator": name, "gain": float(np.mean(gains))}
    best = [max(each["truth"]) - each["truth"][-1] for each in cells.values()]
    yield {"validator": ORACLE, "gain": float(np.mean(best))}


def _epoch(name: str, judge: Validator, found: Mapping[str, Any]) -> int:
    """Return which of the judged epochs a validator keeps, counted from 0."""
    epochs = range(len(found["truth"]))
    scores = comparison(judge, [evidence(name, judge, found, each) for each in epochs])
    return max(epochs, key=lambda place: (scores[place], place))


def methods(cells: Cells) -> Cells:
    """Return the cells of the first network and learning rate."""
    first = CONFIGURATIONS[0]
    wanted = [
        each.name
        for each in CONFIGURATIONS
        if (each.network, each.learning_rate) == (first.network, first.learning_rate)
    ]
    return {name: cells[name] for name in wanted if name in cells}


def choices(
    known: Sequence[Place], output: Path
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return a row per person, seed and validator: configurations, methods, epochs."""
    groups: dict[tuple[str, int, str], dict[str, Any]] = {}
    for place in known:
        found = json.loads(place.path(output).read_text(encoding="utf-8"))
        person = (place.dataset, place.seed, place.fold)
        groups.setdefault(person, {})[place.configuration.name] = found
    number = max(map(len, groups.values()))
    tables: tuple[list[Any], list[Any], list[Any]] = ([], [], [])
    for (dataset, seed, fold), cells in groups.items():
        if len(cells) < number:  # not all of this person is there yet
            continue
        about = {"dataset": dataset, "seed": seed, "fold": fold}
        told = (chosen_of(cells), chosen_of(methods(cells)), epochs_of(cells))
        for rows, each in zip(tables, told, strict=True):
            rows += [about | row for row in each]
    one, two, three = map(pd.DataFrame, tables)
    return one, two, three


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per data set and validator, over people, the best first.

    Over all data sets these weigh alike, however many people they have.
    """
    rows = []
    for name, each in table.groupby("validator", sort=False):
        own = [_row(group) | {"dataset": d} for d, group in _datasets(each)]
        whole: dict[str, Any] = dict(pd.DataFrame(own).mean(numeric_only=True))
        whole |= dict(zip(("low", "high"), overall(each, "regret"), strict=True))
        whole |= {"worst": each["regret"].max(), "targets": len(each)}
        rows += [row | {"validator": name} for row in [*own, whole | {"dataset": ALL}]]
    found = pd.DataFrame(rows)[["dataset", "validator", *_row(table)]]
    return found.sort_values(["dataset", "regret"], kind="stable", ignore_index=True)


def _datasets(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield from table.groupby("dataset", sort=False)  # type: ignore[misc]


def _row(table: pd.DataFrame) -> dict[str, Any]:
    """Return what a validator's choices on one data set come to."""
    people = table.groupby("fold")["regret"].mean().to_numpy()
    low, high = bootstrap_interval(people)
    return {
        "accuracy": table["accuracy"].mean(),
        "regret": people.mean(),
        "low": low,
        "high": high,
        "worst": table["regret"].max(),
        "rank": table["rank"].mean(),
        "worse": table["worse"].astype(float).mean(),
        "harmed": table["harmed"].astype(float).mean(),
        "targets": len(table),
    }


def overall(table: pd.DataFrame, value: str) -> tuple[float, float]:
    """Return the interval of the mean over data sets, people drawn within each."""
    people = [
        group.groupby("fold")[value].mean().to_numpy() for _, group in _datasets(table)
    ]
    if not any(map(np.ptp, people)):
        return math.nan, math.nan
    found = bootstrap(
        people,
        lambda *drawn, axis=-1: sum(each.mean(axis) for each in drawn) / len(drawn),
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def epochs_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per data set and validator: accuracy gained over the last epoch."""
    rows = []
    for name, each in table.groupby("validator", sort=False):
        own: list[dict[str, Any]] = []
        for dataset, group in _datasets(each):
            people = group.groupby("fold")["gain"].mean().to_numpy()
            low, high = bootstrap_interval(people)
            own.append({"dataset": dataset, "gain": people.mean()})
            own[-1] |= {"low": low, "high": high}
        low, high = overall(each, "gain")
        gain = float(np.mean([row["gain"] for row in own]))
        own.append({"dataset": ALL, "gain": gain, "low": low, "high": high})
        rows += [row | {"validator": name} for row in own]
    found = pd.DataFrame(rows)[["dataset", "validator", "gain", "low", "high"]]
    return found.sort_values(
        ["dataset", "gain"], ascending=[True, False], kind="stable", ignore_index=True
    )


# ----------------------------------------------------------------------------- tables


def digest(found: pd.DataFrame, epochs: bool = False) -> str:
    """Return a row for each validator, as Markdown: points on every data set.

    Parameters
    ----------
    found : DataFrame
        What `summary`, or `epochs_summary`, returns.
    epochs : bool
        Which of them.
    """
    value = "gain" if epochs else "regret"
    datasets = [name for name in RECORDINGS if name in set(found["dataset"])]
    more = ["worst", "rank correlation", "worse than source only", "by 5 points"]
    more = [] if epochs else more
    heads = [f"{value}, mean", *datasets, *more]
    lines = [f"| validator | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    rows = found.set_index(["dataset", "validator"])
    for name in found["validator"][found["dataset"] == ALL]:
        whole = rows.loc[ALL, name]
        cells = [
            f"{_points(whole[value])} [{_points(whole.low)}, {_points(whole.high)}]"
        ]
        cells += [_points(rows.loc[(dataset, name), value]) for dataset in datasets]
        if more:
            rank = "" if math.isnan(whole["rank"]) else f"{whole['rank']:.2f}"
            shares = (f"{100 * each:.0f} %" for each in (whole.worse, whole.harmed))
            cells += [_points(whole.worst), rank, *shares]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _points(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.1f}"


def figure(found: pd.DataFrame) -> Figure:
    """Draw the regret of every validator, a column of dots for each data set."""
    datasets = [name for name in RECORDINGS if name in set(found["dataset"])]
    whole = found[found["dataset"] == ALL].set_index("validator")["regret"]
    names = [name for name in whole.sort_values().index if name != ORACLE][::-1]
    drawn = Figure(figsize=(WIDTH, 0.9 + 0.17 * len(names)), layout="constrained")
    axes = drawn.subplots(1, len(datasets), sharey=True, squeeze=False)[0]
    for axis, dataset in zip(axes, datasets, strict=True):
        rows = found[found["dataset"] == dataset].set_index("validator").reindex(names)
        middle = 100 * rows["regret"].to_numpy()
        for height, (low, high) in enumerate(100 * rows[["low", "high"]].to_numpy()):
            axis.plot([low, high], [height, height], color=COLOURS[0], linewidth=1)
        axis.plot(middle, range(len(names)), "o", color=COLOURS[0], markersize=3)
        plain = middle[names.index(PLAIN)]
        axis.axvline(plain, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
        axis.set_title(dataset.replace(", ", ",\n"), fontsize=7)
        axis.set_yticks(range(len(names)), names, fontsize=6)
        axis.tick_params(axis="x", labelsize=6)
        axis.set_xlim(left=0)
        axis.set_ylim(-0.7, len(names) - 0.3)
    drawn.supxlabel(
        "points of accuracy below the best configuration (scales differ); "
        "dotted: source only",
        fontsize=7,
    )
    return drawn


def costs(known: Sequence[Place], output: Path) -> pd.DataFrame:
    """Return what each validator takes after an epoch, in milliseconds, on average."""
    rows = [
        {"dataset": place.dataset}
        | json.loads(place.path(output).read_text(encoding="utf-8"))["seconds"]
        for place in known
    ]
    means = 1000 * pd.DataFrame(rows).groupby("dataset", sort=False).mean().T
    return means.rename_axis("validator")


def report(known: Sequence[Place], output: Path) -> None:
    """Write and print the tables, and draw the figure."""
    configurations, some, epochs = choices(known, output)
    if not len(configurations):
        print("No person has all configurations yet.")
        return
    tables = {
        "configurations": summary(configurations),
        "methods": summary(some),
        "epochs": epochs_summary(epochs),
    }
    for name, table in tables.items():
        write(output / f"{name}.csv", table.to_csv(index=False, float_format="%.5f"))
        print(f"\nChoosing {name}\n\n{digest(table, name == 'epochs')}")
    write(output / "milliseconds.csv", costs(known, output).round(2).to_csv())
    drawn = output / "validator-study.svg"
    drawn.unlink(missing_ok=True)
    save(lambda: figure(tables["configurations"]), drawn)


def into_page(output: Path) -> None:
    """Put the tables and the figure into the page of the documentation."""
    page = DOCS / "validator-study.md"
    text = page.read_text(encoding="utf-8")
    for name in ("configurations", "methods", "epochs", "milliseconds"):
        kept = KEPT / f"{name}.csv"
        kept.parent.mkdir(exist_ok=True)
        shutil.copyfile(output / f"{name}.csv", kept)
        text = placed(text, f"validators-{name}", printed(kept))
    write(page, text)
    shutil.copyfile(output / "validator-study.svg", DOCS / "validator-study.svg")


def printed(kept: Path) -> str:
    """Return a table that the documentation keeps, as Markdown."""
    table = pd.read_csv(kept)
    if kept.stem != "milliseconds":
        return digest(table, kept.stem == "epochs")
    lines = [f"| {' | '.join(table)} |", "|---" * len(table.columns) + "|"]
    for name, *cells in table.itertuples(index=False):
        lines.append(f"| {name} | {' | '.join(f'{each:.0f}' for each in cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Fill in what is missing, and tell what there is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", nargs="+", choices=RECORDINGS, default=None)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--people", type=int, help="The first few of each only.")
    parser.add_argument("--configurations", type=int, help="The first few only.")
    parser.add_argument("--report", action="store_true", help="Train nothing.")
    parser.add_argument("--page", action="store_true", help="Into the docs, too.")
    chosen = parser.parse_args()
    real = [name for name in RECORDINGS if not name.startswith("simulated")]
    if chosen.only is None:
        chosen.only = [n for n in RECORDINGS if chosen.data or n not in real]
    if chosen.data is None and set(chosen.only) & set(real):
        parser.error("--data is needed for recordings that are not simulated.")
    torch.set_num_threads(1)
    every = places(chosen)
    missing = [each for each in every if not each.path(chosen.output).is_file()]
    if not chosen.report:
        fill(missing, chosen)
    report([e for e in every if e.path(chosen.output).is_file()], chosen.output)
    if chosen.page:
        into_page(chosen.output)


if __name__ == "__main__":
    main()
