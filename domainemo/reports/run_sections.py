"""What the pages of all runs share: what is read, and sections on training and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ..choices import ORACLE
from ..core import TRIAL
from ..review.histories import histories, loss_terms
from ..review.reading import (
    Recordings,
    TrainedNetwork,
    baseline,
    networks,
)
from ..review.screening import pooled
from ..review.screening import screening as believed
from ..runs.folder import ENVIRONMENT, read_json, rerun
from ..runs.record import FACTS
from ..runs.results import Results
from ..words import but_for_calibration, count, duration, in_order, listed
from . import run_figures as figures
from .page import Block, Code, Figure, Note, Section, Table

__all__ = [
    "LINEAR",
    "Run",
    "how",
    "left_out",
    "losses",
    "machine",
    "numbers",
    "read_run",
    "screening",
    "selection",
    "tested",
    "training_seconds",
]

_HOW = {
    "dataset": "recordings",
    "target": "adapted to",
    "modalities": "modalities",
    "channels": "channels",
    "classes": "classes",
    "made_of": "windows made of",
    "excluded": "left out",
    "skipped": "folds skipped",
    "waived": "leak checks waived",
    "protocol": "protocol",
    "access": "access to the target",
    "target_seen": "seen of the target",
    "calibration": "labels given of the target",
    "validation": "set aside to choose the epoch by",
    "normalisation": "normalisation",
    "backbone": "backbone",
    "initialisation": "initialisation",
    "sampling": "samples",
    "label_share": "share of the source's labels",
    "temperature": "temperature of the probabilities",
    "selection": "epoch chosen by",
    "parameters": "parameters",
    "version": "domainemo",
}
_PLACES = ("data_root", "target_root", "plugins", "init_from")

LINEAR = "logistic regression"
"""The control that pictures show beside networks."""


@dataclass(frozen=True)
class Run:
    """A run, and what several sections speak of.

    Attributes
    ----------
    folder : Path
    results : Results
    trained : list of TrainedNetwork
        The adapter's, and source only's.
    history : DataFrame
        Losses and scores of all of them by epoch.
    environment : mapping
    recordings : Recordings or None
    missing : str
        Why there are none, as the end of a sentence.
    left_out : list of str
        What the report lacks and why; grows while sections are made.
    """

    folder: Path
    results: Results
    trained: list[TrainedNetwork]
    history: pd.DataFrame
    environment: Mapping[str, Any]
    recordings: Recordings | None
    missing: str
    left_out: list[str] = field(default_factory=list)

    @property
    def method(self) -> str:
        """The adapter, as tables call it."""
        return self.results.method

    @property
    def other(self) -> str | None:
        """Source only, where it was run beside the adapter."""
        return baseline(self.results)

    @property
    def compared(self) -> list[str]:
        """The methods that pictures show beside each other."""
        names = [self.method, self.other, LINEAR]
        return [name for name in names if name in self.results.methods]

    @property
    def oracle(self) -> bool:
        """Whether labels of the target chose the epoch."""
        return bool(self.results.description["validator"] == ORACLE)

    def networks(self, method: str) -> list[TrainedNetwork]:
        """Return the networks of one method."""
        return [each for each in self.trained if each.method == method]


def read_run(folder: Path, recordings: Recordings | None, missing: str) -> Run:
    """Read what a report is made of, from the folder of a finished run.

    Parameters
    ----------
    folder : Path
    recordings : Recordings or None
    missing : str
        Why there are none.
    """
    results = Results.load(folder)
    trained = networks(folder, results)
    environment = read_json(folder / ENVIRONMENT)
    history = histories(trained)
    return Run(folder, results, trained, history, environment, recordings, missing)


# -------------------------------------------------------------------------- training


def losses(run: Run) -> Section:
    """Return the section on the losses over the epochs."""
    folds, seeds = run.history["fold"].nunique(), run.history["seed"].nunique()
    return Section(
        "Learning curves",
        [
            Figure(
                "losses",
                partial(figures.draw_losses, run.results, run.history),
                f"Every term of the loss, with its weight, over the epochs: mean over "
                f"{_runs(folds, seeds)}, and their range. They are summed to the "
                f"total.",
            )
        ],
    )


def _runs(folds: int, seeds: int) -> str:
    text = count(folds, "fold")
    return text if seeds == 1 else f"{text} and {count(seeds, 'seed')}"


def selection(run: Run) -> Section | None:
    """Return the section on the epochs that a validator kept; None if it was none."""
    name = run.results.description["validator"]
    if name in ("last", ORACLE):
        return None
    rows = run.results.table[run.results.table["method"] == run.method]
    kept = rows.drop_duplicates(["fold", "seed"])["epoch"].astype(int)
    history = run.history[run.history["method"] == run.method]
    return Section(
        "Choice of the epoch",
        [
            Figure(
                "validator",
                partial(figures.draw_scores, history, kept, str(name)),
                f"The score of the validator, {name}, which saw no label of the "
                f"target{but_for_calibration('calibration' in rows)}: mean over folds, "
                f"and range. Triangles are the epochs kept, each the highest score of "
                f"its own fold.",
            )
        ],
    )


def screening(run: Run) -> Section | None:
    """Return the section on what screening believed; None where nothing screened."""
    table = believed(run.results, run.networks(run.method), run.recordings)
    if not len(table):
        run.left_out.append(
            "screening over time, since no screen of the adapter's left a record"
        )
        return None
    ends = table[table["epoch"] == table["epoch"].max()]
    last = ends.mean(numeric_only=True)
    known = table[["consistent_precision", "taught_precision"]].notna().any(axis=None)
    right = (
        "Right: of the samples let through, the share whose pseudo-label is the true "
        "one; mean over folds that have any, and range. "
    )
    blocks: list[Block] = [
        f"In the last epoch screening let the fusion learn from "
        f"{last['consistent']:.0%} of the target's samples, single modalities from "
        f"another {last['taught']:.0%}, and dropped {last['dropped']:.0%} (means over "
        f"folds).",
        Figure(
            "screening",
            partial(figures.draw_screening, table),
            f"What screening made of all target samples after each epoch, by the "
            f"network without dropout, in batches of training's size. "
            f"{right if known else ''}The losses that use them may have no weight yet "
            f"in early epochs, see the learning curves.",
        ),
    ]
    precision = _precision(ends)
    if precision:
        blocks.append(Note(precision))
    elif not run.results.scored:
        run.left_out.append("how right the pseudo-labels were, which nobody knows")
    else:
        run.left_out.append(
            "how right the pseudo-labels were: the target's samples were not those "
            f"tested, and the recordings were not read, as {run.missing}"
        )
    return Section("Screening over time", blocks)


def _precision(ends: pd.DataFrame) -> str:
    """Return how right labels were, over all folds; empty where nobody knows."""
    words = {
        "consistent": "where modalities agreed",
        "taught": "where one taught another",
    }
    found = {name: pooled(ends, name) for name in (*words, "contradicted", "own")}
    parts = [
        f"{found[name][0]:.0%} {text} (n = {found[name][1]})"
        for name, text in words.items()
        if found[name][1]
    ]
    if not parts:
        return ""
    text = (
        f"After the fact: in the last epoch the pseudo-labels were right for "
        f"{' and '.join(parts)}, all folds pooled, after every gate. "
    )
    (right, number), (own, _) = found["contradicted"], found["own"]
    if number:
        text += (
            f"Where the branch that was taught held another opinion (n = {number}) the "
            f"label was right for {right:.0%}, its own opinion for {own:.0%}. "
        )
    return f"{text}Neither training nor the choice of anything saw this."


# ------------------------------------------------------------------------------- how


def _of_folds(own: pd.DataFrame, name: str) -> Any:
    """Return what a method's folds say: both of two, or the ends of more.

    Nothing where they say nothing.
    """
    if name not in own:
        return ""
    told = in_order(each for each in own[name].dropna() if each != "")
    if len(told) < 2:
        return told[0] if told else ""
    words = [f"{each:.3g}" if isinstance(each, float) else str(each) for each in told]
    return "; or ".join(words) if len(told) < 3 else f"{words[0]} to {words[-1]}"


def how(run: Run) -> Section:
    """Return the section on how the numbers came about."""
    results = run.results
    own = results.table[results.table["method"] == run.method]
    facts = {words: _of_folds(own, name) for name, words in _HOW.items()}
    facts = {words: fact for words, fact in facts.items() if fact != ""}
    facts["seeds"] = ", ".join(map(str, results.description["seeds"]))
    facts["device"] = results.description["device"]
    packages = run.environment.get("packages", {})
    facts |= {name: packages[name] for name in ("torch", "numpy") if name in packages}
    facts |= {key: run.environment[key] for key in ("python", "platform")}
    facts |= {
        "machine": machine(run.environment, results.description["device"]),
        "trained (by the dates of its files)": when(run),
        "tested": tested(results),
        "training in all": duration(training_seconds(results)),
    }
    options = pd.Series(results.description["options"], name="value").map(str)
    trained = results.table.drop_duplicates(["method", "fold", "seed"])
    seconds = trained.groupby("method", sort=False)["seconds"].agg(["sum", "mean"])
    again: list[Block] = []
    plugins = results.description.get("plugins", ())
    if "dataset" in results.description:
        again = [
            "The same run again, from its own folder:",
            Code(rerun(run.folder, plugins, "--output", "again")),
        ]
    return Section(
        "How the numbers were obtained",
        [
            results.how(),
            *again,
            Table(_two_columns(facts, "fact"), "What was done.", name="what-was-done"),
            Table(
                options.rename_axis("option").to_frame(),
                "Every option.",
                name="options",
            ),
            Table(
                seconds.dropna().rename(
                    columns={"sum": "seconds in all", "mean": "per fold and seed"}
                ),
                "Time of training.",
                digits=1,
                name="training-time",
            ),
        ],
    )


def training_seconds(results: Results) -> float:
    """Return the seconds that all trainings took together, those of baselines too."""
    once = results.table.drop_duplicates(["method", "fold", "seed"])
    return float(once["seconds"].sum())


def tested(results: Results) -> str:
    """Return how many subjects, sessions, trials and samples were tested, in words.

    What several folds test is counted once.
    """
    rows = results.predictions
    rows = rows[rows["method"] == results.method]
    place: list[str] = []
    counts = []
    for column in (*TRIAL, "start"):
        place.append(column)
        noun = results.level if column == "start" else column
        if column in rows and noun not in place[:-1]:
            counts.append(count(len(rows[place].drop_duplicates()), noun))
    return listed(list(dict.fromkeys(counts)))


def machine(known: Mapping[str, Any], device: str) -> str:
    """Return what trained the networks: the processor and its cores, and the device.

    Parameters
    ----------
    known : mapping
        What ``environment.json`` holds.
    device : str
        Where it was trained.
    """
    words = str(known.get("processor", "an unknown processor"))
    if "cores" in known:
        words += f" with {count(int(known['cores']), 'core')}"
    gpus = known.get("gpus", ())
    if not device.startswith("cuda"):
        return words
    return f"{', '.join(gpus) or device} beside {words}"


def when(run: Run) -> str:
    """Return on which days trainings ended, as the dates of their files have it."""
    days = sorted(
        {
            date.fromtimestamp((each.folder / FACTS).stat().st_mtime).isoformat()
            for each in run.trained
        }
    )
    return " to ".join(dict.fromkeys((days[0], days[-1])))


def _two_columns(facts: Mapping[str, Any], heading: str) -> pd.DataFrame:
    values = pd.Series({key: str(value) for key, value in facts.items()}, name="value")
    return values.rename_axis(heading).to_frame()


def left_out(run: Run) -> Section | None:
    """Return the section on what a report lacks; to be made last."""
    if not run.left_out:
        return None
    return Section(
        "What this report lacks",
        [f"{text[0].upper()}{text[1:]}." for text in run.left_out],
    )


def numbers(run: Run) -> dict[str, Any]:
    """Return what the page of every run holds for programs."""
    described = run.results.description
    return {
        "how": run.results.how(),
        "configuration": {k: v for k, v in described.items() if k not in _PLACES},
        "environment": run.environment,
        "losses": loss_terms(run.results, run.history),
        "lacks": run.left_out,
    }
