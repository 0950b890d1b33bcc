"""A run's report: what it found and how, its training, and what its networks see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ..backbones.explanation import Explainable
from ..parts import part
from ..registry import entries, find
from ..review.embedding import embed
from ..review.interpretation import interpret
from ..review.reading import Recordings
from ..review.tables import recall_by_class, typical_fold
from ..runs.controls import control_name
from ..runs.metrics import SHOWN
from ..runs.model import load_trained
from ..statistics.effects import FEWEST_TO_SHOW
from . import attention
from . import run_figures as figures
from .newcomers import write_newcomers_report
from .online import over_time_section
from .page import Block, Figure, Note, Section, Table, write_report
from .paper import for_a_paper
from .run_sections import (
    LINEAR,
    Run,
    how,
    left_out,
    losses,
    numbers,
    read_run,
    screening,
    selection,
)
from .run_words import (
    cautions,
    difference,
    gains,
    mean_accuracies,
    too_few,
    what_was_reached,
    who_gained,
    why_not_compared,
)

__all__ = ["write_run_report"]


def write_run_report(
    folder: Path,
    output: Path | None = None,
    *,
    recordings: Recordings | None = None,
    missing: str = "they were not given",
    on_network: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write the report of a finished run.

    That of people whose labels nobody knows has no figure that would need one.

    Parameters
    ----------
    folder : Path
        The run's.
    output : Path, optional
        The page; by default ``report.html`` in `folder`.
    recordings : Recordings, optional
        From :func:`~domainemo.review.reading.match_recordings`. Without them the
        report lacks embeddings and attention, and says so.
    missing : str
        Why there are none, as the end of a sentence.
    on_network : callable, optional
        Called with the name of each network before it looks at recordings again.

    Returns
    -------
    list of Path
        What was written, the page first.

    Raises
    ------
    ConfigurationError
        If the folder is no finished run's.
    """
    run = read_run(folder, recordings, missing)
    tell = on_network or (lambda name: None)
    path = output or folder / "report.html"
    if not run.results.scored:
        return write_newcomers_report(run, path)
    sections = [
        _results(run),
        _subjects(run),
        over_time_section(run.results),
        _controls(run),
        _confusion(run),
        _calibration(run),
        losses(run),
        selection(run),
        screening(run),
        _embeddings(run, tell),
        _attention(run, tell),
        how(run),
        for_a_paper(run),
        left_out(run),
    ]
    return write_report(
        path,
        title=f"{run.method} on {run.results.description['backbone']}",
        summary=_summary(run),
        sections=[section for section in sections if section is not None],
        data=_data(run),
    )


# --------------------------------------------------------------------------- summary


def _summary(run: Run) -> list[Block]:
    results, found = run.results, run.results.comparison()
    blocks: list[Block] = [what_was_reached(results)]
    if found is None:
        blocks.append(why_not_compared(results))
    else:
        blocks += [difference(results, found), who_gained(results)]
        if found.subjects < FEWEST_TO_SHOW:
            blocks.append(Note(too_few(found.subjects)))
    if run.oracle:
        blocks.append(
            Note(
                "ORACLE: the epoch was chosen by the target's own labels. These "
                "figures say what a perfect choice would have given, and are no result."
            )
        )
    blocks += [Note(text) for text in cautions(run.results)]
    return [*blocks, f"How it was obtained: {results.how()}"]


# --------------------------------------------------------------------------- results


def _results(run: Run) -> Section:
    results = run.results
    names = {
        "deviation": "standard deviation",
        "low": "95 % low",
        "high": "95 % high",
        "trial": "whole trials",
    }
    metrics = {
        name.replace("_", " "): results.per_subject(name).mean()
        for name in SHOWN
        if name in results.table  # a run of an earlier version has fewer
    }
    blocks: list[Block] = [
        Figure(
            "methods",
            partial(figures.draw_methods, results),
            "Every method on the same folds. Diamonds are means over subjects, lines "
            "their 95 % bootstrap intervals (none with fewer than five subjects), dots "
            "single subjects. " + _choice_of_epoch(run),
        ),
        Table(
            results.summary().rename(columns=names).rename_axis("method"),
            f"Balanced accuracy per {results.level}, over subjects; last, of whole "
            f"trials by the mean of their probabilities.",
        ),
        Table(
            pd.DataFrame(metrics).loc[results.methods].rename_axis("method"),
            f"The main metrics per {results.level}, mean over subjects.",
            name="metrics",
        ),
    ]
    return Section("Results", blocks)


def _choice_of_epoch(run: Run) -> str:
    rows = run.results.table[run.results.table["method"] == run.method]
    rule = str(rows["selection"].iloc[0])
    if rule == "last":
        return "Networks are those of the last epoch."
    return f"The epoch was chosen by {rule}."


def _subjects(run: Run) -> Section:
    results = run.results
    blocks: list[Block] = [
        Figure(
            "subjects",
            partial(figures.draw_subjects, results, run.compared),
            "Each subject's balanced accuracy, with the 95 % interval of resampling "
            "that subject's trials (none with fewer than five); right, the mean with "
            "that of resampling subjects. The dashed line is chance. "
            + _choice_of_epoch(run),
        )
    ]
    folds = int(results.table.groupby("subject")["fold"].nunique().max())
    if folds > 1:
        text = (
            f"A subject is tested in up to {folds} folds, averaged before subjects are "
            f"compared: the subject is the unit of analysis."
        )
        if folds < FEWEST_TO_SHOW:
            text += (
                f" A test over the {folds} folds of one subject could not go below "
                f"p = {2 / 2**folds:.3g}, so none is made."
            )
        blocks.append(text)
    table = results.per_subject().rename_axis(columns=None)
    caption = "Balanced accuracy by subject."
    if run.other is not None:
        gain = gains(run.results)
        table = table.loc[gain.index]
        table.insert(1, "gain over source only", gain)
        caption = "Balanced accuracy by subject; who gained most stands first."
    return Section("Subject by subject", [*blocks, Table(table, caption)])


def _controls(run: Run) -> Section | None:
    means = mean_accuracies(run.results)
    names = run.results.controls
    if not names:
        run.left_out.append("controls, which were not run")
        return None
    known = [part("control", each.name) for each in entries("control")]
    kinds = {control_name(each): find("control", each.name) for each in known}
    words = {name: getattr(cls, "words", "") for name, cls in kinds.items()}
    own = means[run.method]
    table = pd.DataFrame(
        {
            "what it does": [
                words.get(name.removesuffix(" [ORACLE]"), "") for name in names
            ],
            "balanced accuracy": [means[name] for name in names],
            f"{run.method} less it": [own - means[name] for name in names],
        },
        index=pd.Index(names, name="control"),
    )
    return Section(
        "Controls",
        [
            "A result that does not beat what knows next to nothing is hollow. All "
            "of these were run on the same folds and scored alike. What is the run's "
            "own training with one thing changed says what that thing is worth.",
            Table(table, "Means over subjects."),
            *(Note(text) for text in cautions(run.results)),
        ],
    )


def _confusion(run: Run) -> Section:
    shown = [name for name in run.compared if name != LINEAR]
    return Section(
        "Confusion of classes",
        [
            Figure(
                "confusion",
                partial(figures.draw_confusion, run.results, shown),
                f"What each true class of the target subjects was predicted as: share "
                f"of the row, and number of {run.results.level}s"
                f"{_over_seeds(run)}. {_choice_of_epoch(run)}",
            ),
            Table(
                recall_by_class(run.results),
                f"Recall of each class: the share of its {run.results.level}s that is "
                f"predicted as it, mean over subjects.",
                name="recall-by-class",
            ),
        ],
    )


def _over_seeds(run: Run) -> str:
    seeds = len(run.results.description["seeds"])
    return f", {seeds} seeds counted together" if seeds > 1 else ""


def _calibration(run: Run) -> Section:
    return Section(
        "Calibration",
        [
            Figure(
                "calibration",
                partial(figures.draw_calibration, run.results, run.compared),
                f"How often predictions of each confidence are right, all target "
                f"subjects' {run.results.level}s together{_over_seeds(run)}. A bar "
                f"below the dashed line is overconfident, by the black line between "
                f"them. ECE is the expected calibration error in ten bins.",
            ),
            "The error of all samples together is not the mean of each subject's own, "
            "which stands under Results.",
        ],
    )


# ------------------------------------------------------------------------- recordings


def _embeddings(run: Run, tell: Callable[[str], None]) -> Section | None:
    if run.recordings is None:
        run.left_out.append(f"embeddings, which need the recordings, and {run.missing}")
        return None
    fold, seed = typical_fold(run.results), run.results.description["seeds"][0]
    domain = run.recordings.experiment.protocol.build().domain
    headings = {run.method: run.method}
    if run.other is not None:
        headings = {run.other: "before: source only"}
        headings[run.method] = f"after: {run.method}"
    panels = {}
    for method, heading in headings.items():
        for network in run.networks(method):
            if (network.fold, network.seed) == (fold, seed):
                tell(f"{fold}, {method}, seed {seed}: embedding")
                panels[heading] = embed(network, run.recordings)
    median = "gain over source only" if run.other else "balanced accuracy"
    return Section(
        "Embeddings",
        [
            Figure(
                "embeddings",
                partial(figures.draw_embeddings, panels, domain),
                f"Samples in the fusion's embedding, in the plane of its two largest "
                f"principal components: {fold}, seed {seed}. The fold is that of the "
                f"median {median}, chosen after the fact to be typical. Above by true "
                f"class, filled marks the target; below by {domain}, crosses the "
                f"target. At most 600 samples of each are drawn, and ten domains "
                f"named.{_last_epoch(run)}",
            ),
            "A plane shows what varies most, not all that the network knows: classes "
            "that overlap here may be apart in the other components. Each network has "
            "a plane of its own.",
        ],
    )


def _last_epoch(run: Run) -> str:
    if not run.oracle:
        return ""
    return " The networks kept are the last epoch's, not the oracle's."


def _attention(run: Run, tell: Callable[[str], None]) -> Section | None:
    if run.recordings is None:
        run.left_out.append(
            f"attention to brain regions, which needs the recordings, and {run.missing}"
        )
        return None
    folders = [each.folder for each in run.networks(run.method)]
    experiment = run.recordings.experiment
    trained = load_trained(folders[0], experiment)
    if not isinstance(trained.network.backbone, Explainable):
        run.left_out.append(
            f"attention to brain regions, which the backbone "
            f"{experiment.backbone.name} does not offer"
        )
        return None
    # Who was left out is gone from these recordings already.
    experiment = replace(experiment, exclude=())
    made = interpret(folders, experiment, run.recordings.data.inputs, tell)
    captions = {
        "attention": "Where the network attends on the scalp, by predicted class, as a "
        "multiple of even attention to all regions, of how many samples (n); below, "
        "the difference to the mean over classes.",
        "occlusion": "By how much the predicted class's probability falls where a "
        "region's electrodes show only their mean over the session.",
        "cross_modal": "Which windows of the other sensors the EEG listens to.",
    }
    blocks: list[Block] = [
        Figure(
            name.replace("_", "-"),
            draw,
            f"{captions[name]} Mean over target subjects of all folds; no label was "
            f"read.{_last_epoch(run)}",
        )
        for name, draw in attention.figures(made).items()
    ]
    means = attention.class_means(made.regions).T.rename_axis(index="region")
    even = len(means) * means
    blocks.append(
        Table(
            even.rename_axis(columns=None),
            "Attention by predicted class, as a multiple of even attention.",
            name="attention-by-class",
        )
    )
    return Section("Attention to brain regions", blocks)


def _data(run: Run) -> dict[str, Any]:
    """Return the numbers that the page holds for programs."""
    results, found = run.results, run.results.comparison()
    return {
        **numbers(run),
        "summary": results.summary(),
        "subjects": results.per_subject(),
        "comparison": None if found is None else asdict(found),
    }
