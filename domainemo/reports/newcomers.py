"""The report of a run on people whose labels nobody knows: no figure needs one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ..review.reading import class_names
from ..review.tables import agreement, along_recording
from ..runs.distance import distance_sentences, farther_than
from ..words import in_order
from . import newcomers_figures as figures
from .newcomers_words import (
    UNKNOWN,
    how_methods_agree,
    how_much_changed,
    what_was_predicted,
    who_has_one_class,
    who_is_far,
)
from .page import Block, Figure, Note, Section, Table, write_report
from .run_sections import Run, how, left_out, losses, numbers, screening, selection

__all__ = ["write_newcomers_report"]

_EACH_TOLD = 3  # people, whose distances the summary tells one by one
_TRIALS_SHOWN = 500


def write_newcomers_report(run: Run, path: Path) -> list[Path]:
    """Write the report of a finished run on people whose labels nobody knows.

    Parameters
    ----------
    run : Run
        From :func:`~domainemo.reports.run_sections.read_run`.
    path : Path
        The page.

    Returns
    -------
    list of Path
        What was written, the page first.
    """
    sections = [
        _people(run),
        _recording(run),
        _agreement(run),
        _distances(run),
        _validators(run),
        losses(run),
        selection(run),
        screening(run),
        how(run),
        _left_out(run),
    ]
    return write_report(
        path,
        title=f"{run.method} on {run.results.description['backbone']}, for people "
        f"without labels",
        summary=_summary(run),
        sections=[section for section in sections if section is not None],
        data=_data(run),
    )


def _summary(run: Run) -> list[Block]:
    results = run.results
    alike = who_has_one_class(results)
    return [
        Note(UNKNOWN),
        what_was_predicted(results),
        how_much_changed(results),
        *([Note(alike)] if alike else []),
        *_who_is_far(_distances_of(run)),
        f"How it was obtained: {results.how()}",
    ]


def _who_is_far(distances: pd.DataFrame) -> list[str]:
    """Return the distance of each newcomer, or where they are many, who is far."""
    sentences = distance_sentences(distances)
    return sentences if len(sentences) <= _EACH_TOLD else [who_is_far(distances)]


def _distances_of(run: Run) -> pd.DataFrame:
    assert run.results.distances is not None  # these are what tells such a run
    return run.results.distances


# --------------------------------------------------------------------------- people


def _people(run: Run) -> Section:
    results, people = run.results, run.results.people()
    blocks: list[Block] = [
        Figure(
            "shares",
            partial(figures.draw_shares, results, run.compared),
            f"Which share of each person's {results.level}s is predicted as which "
            f"class. Ends at the dashed lines would be equal shares of all classes, "
            f"as of a blind guess.",
        ),
        _people_table(people, f"What is predicted per {results.level}."),
    ]
    if results.level != "trial":
        trials = results.people("trial")
        caption = "What is predicted of whole trials, by their mean probabilities."
        blocks.append(_people_table(trials, caption))
    return Section("Person by person", blocks)


def _people_table(people: pd.DataFrame, caption: str) -> Table:
    shares = [name for name in map(str, people) if name.startswith("share_")]
    names = {name: name.replace("_", " ", 1) for name in shares}
    names |= {"confidence": "mean confidence", "changed": "other than source only"}
    explained = (
        "Confidence is the probability of the predicted class, and no chance of being "
        "right; last, the share that source only predicts otherwise."
    )
    return Table(people.rename(columns=names), f"{caption} {explained}")


def _recording(run: Run) -> Section:
    results = run.results
    people = in_order(results.predictions["subject"])
    shown = people[: figures.PEOPLE]
    trials = results.level != "trial" and _longest(run) > figures.SAMPLES
    table = along_recording(results, run.method, trials=trials)
    marks = ""
    if run.other is not None:
        plain = along_recording(results, run.other, trials=trials)
        table["changed"] = table["predicted"].to_numpy() != plain["predicted"]
        marks = " Marks above are where source only predicts another class."
    level = "trial" if trials else results.level
    lines = "Dark lines part sessions" + (
        "" if level == "trial" else ", pale ones trials"
    )
    some = f" The first {len(shown)} of {len(people)} people."
    blocks: list[Block] = [
        Figure(
            "recording",
            partial(figures.draw_recording, table, shown, class_names(results), level),
            f"Probability of every class by {run.method}, {level} after {level} in the "
            f"order of sessions, trials and time{_over_seeds(run)}. {lines}.{marks}"
            f"{some if len(shown) < len(people) else ''}",
        ),
        *_trials(run),
    ]
    return Section("Along the recording", blocks)


def _longest(run: Run) -> int:
    """Return the largest number of a person's samples."""
    rows = run.results.table[run.results.table["level"] == run.results.level]
    return int(rows["samples"].max())


def _over_seeds(run: Run) -> str:
    seeds = len(run.results.description["seeds"])
    return f", the mean of {seeds} seeds" if seeds > 1 else ""


def _trials(run: Run) -> list[Block]:
    """Return the table of whole trials, of those that a page bears."""
    table = along_recording(run.results, run.method, trials=True)
    classes = class_names(run.results)
    names = {f"p_{name}": f"probability of {name}" for name in classes}
    caption = f"Every trial by {run.method}{_over_seeds(run)}."
    if len(table) > _TRIALS_SHOWN:
        caption = (
            f"The first {_TRIALS_SHOWN} of {len(table)} trials by {run.method}"
            f"{_over_seeds(run)}; the rest is in the run's trials.csv."
        )
    return [Table(table[:_TRIALS_SHOWN].rename(columns=names), caption)]


# ------------------------------------------------------------------------ comparisons


def _agreement(run: Run) -> Section | None:
    if len(run.results.methods) < 2:
        run.left_out.append("agreement of methods, as a single one was run")
        return None
    table = agreement(run.results.predictions)
    return Section(
        "Agreement of methods",
        [
            how_methods_agree(run.results, table),
            Table(
                table,
                f"Share of {run.results.level}s of which two methods predict the same "
                f"class, all people together.",
                digits=2,
            ),
        ],
    )


def _distances(run: Run) -> Section:
    distances = _distances_of(run)
    ranks = farther_than(distances)
    table = ranks[["subject", "modality"]].copy()
    for name, words in figures.SEEN.items():
        table[words] = ranks[name]
        exceeds, among = ranks[f"{name}_exceeds"], ranks[f"{name}_of"]
        texts = exceeds.astype(str) + " of " + among.astype(str)
        table[f"farther {words} than"] = texts.where(among > 0)
    return Section(
        "Distance to the sources",
        [
            "How far each person's values lie from those of the source people, in "
            "standard deviations of a typical source person's own values; the scale is "
            "how far each source person lies from the others. Who lies far is unlike "
            "those the networks learnt from. Who lies near may still feel otherwise "
            "than it shows in them: a distance says nothing of the labels.",
            Figure(
                "distances",
                partial(figures.draw_distances, distances),
                "Each newcomer beside the source people, per modality: left the values "
                "as recorded, right as the networks see them.",
            ),
            Table(
                table,
                "The distance of every newcomer, and of how many source people it is "
                "farther than theirs.",
            ),
        ],
    )


def _validators(run: Run) -> Section | None:
    results = run.results
    table = results.validators()
    if not len(table):
        run.left_out.append("scores of validators, as no network has one")
        return None
    blocks: list[Block] = [
        "A validator scores a finished network without any label of the newcomers, "
        "each on a scale of its own: compare along a row, never down a column. It "
        "would choose the method of its highest score. Whether that is the best one, "
        "nobody can tell here: no score is a share of right predictions.",
        Table(
            table.rename_axis("validator").rename(columns={"chooses": "would choose"}),
            "What every validator says of every method, mean over folds and seeds.",
            digits=4,
        ),
    ]
    choices = _choices(run)
    if len(choices) > 1:
        caption = "The method that every validator would choose, fold by fold."
        blocks.append(Table(choices, caption))
    return Section("What validators say", blocks)


def _choices(run: Run) -> pd.DataFrame:
    """Return a row per fold: the method of every validator's highest score there."""
    rows = run.results.table[run.results.table["level"] == run.results.level]
    columns = [name for name in map(str, rows) if name.startswith("score_")]
    means = rows.groupby(["fold", "method"], sort=False)[columns].mean()
    means = means.dropna(how="all").dropna(axis=1, how="all")
    chosen = {
        name.removeprefix("score_"): means[name].unstack(sort=False).idxmax(axis=1)
        for name in map(str, means)
    }
    table = pd.DataFrame(chosen)
    return table.loc[in_order(table.index)].rename_axis("fold")


# ------------------------------------------------------------------------------- rest


def _left_out(run: Run) -> Section | None:
    run.left_out.append(
        "embeddings and attention to brain regions, which need the recordings of "
        "both source and newcomers; they are not read again for this report"
    )
    return left_out(run)


def _data(run: Run) -> dict[str, Any]:
    """Return the numbers that the page holds for programs."""
    results = run.results
    return {
        **numbers(run),
        "people": results.people().reset_index(),
        "agreement": agreement(results.predictions),
        "validators": results.validators().reset_index(names="validator"),
        "distances": _distances_of(run),
    }
