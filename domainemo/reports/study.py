"""A study's report: one page that says in plain words what was found."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pandas as pd

from ..choices import flatten
from ..files import is_expected
from ..runs.folder import read_json
from ..runs.results import Results
from ..statistics.paired import compare
from ..studies.findings import (
    DEFAULTS,
    REPEATED,
    SOURCE_ONLY_CANDIDATE,
    TUNED,
    Choice,
    Findings,
    load_findings,
    outcomes,
)
from ..studies.storage import address_of
from ..words import but_for_calibration, count, duration, listed, were
from . import study_figures as figures
from .page import Block, Code, Figure, Note, Section, Table, write_report
from .paper import cited
from .run_sections import machine
from .study_numbers import (
    Agreement,
    Cost,
    Importances,
    Option,
    agreement,
    by_standing,
    complete,
    cost,
    importances,
    objectives,
    searched_options,
)
from .study_words import (
    how_far_off,
    kind_of,
    paired,
    per_fold,
    value_words,
    what_is_open,
    what_it_gained,
    what_mattered,
    what_ran,
    what_was_chosen,
    who_chose,
    who_was_tested,
)

__all__ = ["study_sections", "write_study_report"]


def write_study_report(
    folder: Path, output: Path | None = None, storage: str | None = None
) -> list[Path]:
    """Write a study's report as one page, and its figures and tables beside it.

    Parameters
    ----------
    folder : Path
        A study's, finished or running.
    output : Path, optional
        The page; by default ``report.html`` in the study's folder.
    storage : str, optional
        As of :func:`~domainemo.studies.findings.load_findings`.

    Returns
    -------
    list of Path
        What was written, the page first.

    Raises
    ------
    ConfigurationError
        If the folder is no study's, or its storage cannot be opened.
    """
    findings = load_findings(folder, storage)
    path = folder / "environment.json"
    environment = read_json(path) if is_expected(path) else {}
    summary, sections = study_sections(findings, environment)
    return write_report(
        output or folder / "report.html",
        title=f"Study {findings.name}",
        summary=summary,
        sections=sections,
        data=_data(findings),
    )


def study_sections(
    findings: Findings, environment: Mapping[str, Any] | None = None
) -> tuple[list[Block], list[Section]]:
    """Return what the page says at the top, and its sections.

    Parameters
    ----------
    findings : Findings
    environment : mapping, optional
        What ``environment.json`` holds: versions and machine.
    """
    study = _gather(findings)
    sections = [
        Section("What was chosen", _chosen(study)),
        Section("Final runs", _final(findings)),
        Section("How the numbers were obtained", _how(findings, environment or {})),
        Section("The search", _search(study)),
        Section("Which options mattered", _mattered(study)),
        Section("Fold by fold", _folds(findings)),
        Section("Pruned and failed candidates", _stopped(findings)),
        Section("The validator and the truth, after the fact", _truth(study)),
        Section("Cost", _cost(study)),
        Section("Every candidate", _candidates(findings)),
        Section("For a paper", cited(findings.description)),
    ]
    return _summary(study), sections


@dataclass(frozen=True)
class _Study:
    """Findings, and the numbers that several sections speak of."""

    findings: Findings
    importances: Importances | str
    agreement: Agreement | None
    cost: Cost | None

    @property
    def options(self) -> list[Option]:
        """Searched options, the most important first where that can be told."""
        options = searched_options(self.findings)
        if isinstance(self.importances, str) or not self.importances.tell:
            return options
        order = list(self.importances.shares.index)
        rank = {name: place for place, name in enumerate(order)}
        return sorted(options, key=lambda option: rank.get(option.name, len(rank)))


def _gather(findings: Findings) -> _Study:
    return _Study(findings, importances(findings), agreement(findings), cost(findings))


# ------------------------------------------------------------------------ the summary


def _summary(study: _Study) -> list[Block]:
    findings = study.findings
    blocks: list[Block] = [what_ran(findings)]
    unfinished = what_is_open(findings)
    if unfinished:
        blocks.append(Note(unfinished))
    blocks.append(what_was_chosen(findings))
    blocks += what_it_gained(findings)
    blocks.append(what_mattered(study.importances))
    if study.agreement is not None:
        blocks.append(Note(how_far_off(study.agreement, findings)))
    if len(findings.choices) == 1:
        blocks.append(Code(findings.choices[0].command))
    return blocks


# ----------------------------------------------------------------------- the sections


def _chosen(study: _Study) -> list[Block]:
    findings = study.findings
    if not findings.choices:
        return [what_was_chosen(findings)]
    if per_fold(findings):
        rows = [
            {
                "fold": choice.fold,
                "candidate": choice.candidate,
                "won": kind_of(choice, findings),
                "validator's score": choice.value,
                **{name: value_words(value) for name, value in choice.options.items()},
            }
            for choice in findings.choices
        ]
        table = Table(
            pd.DataFrame(rows).set_index("fold"),
            f"What each fold chose for itself, without a label of its target"
            f"{but_for_calibration(findings.calibrated)}. "
            f"Candidate {SOURCE_ONLY_CANDIDATE} stands for source only.",
        )
    else:
        table = _option_table(findings.choices[0], findings)
    commands = Code("\n".join(choice.command for choice in findings.choices))
    ready = "To run what was chosen:"
    return [what_was_chosen(findings), table, ready, commands]


def _option_table(choice: Choice, findings: Findings) -> Table:
    """Return every searched option: as chosen, as it was, and where it was looked for.

    Values are of several types, so they stand as text.
    """
    space: Mapping[str, str] = findings.description.get("space", {})
    start = flatten(findings.description.get("options", {}))
    names = dict.fromkeys([*choice.options, *space])
    frame = pd.DataFrame(
        {
            "chosen": [value_words(choice.options.get(name)) for name in names],
            "default": [value_words(start.get(name)) for name in names],
            "searched": [str(space.get(name, "")) for name in names],
        },
        index=pd.Index(list(names), name="option"),
    )
    caption = f"The chosen configuration, {_name(choice)}."
    return Table(frame, caption, name="chosen-options")


def _final(findings: Findings) -> list[Block]:
    results = findings.final
    if results is None:
        return [
            "The final runs, which train what was chosen, the defaults and the "
            "baselines with fresh seeds, are not done. Until then there is no accuracy "
            "to report."
        ]
    blocks: list[Block] = [
        who_was_tested(findings, results),
        Figure(
            "final-runs",
            partial(figures.draw_final, results),
            "Balanced accuracy of the final runs. Nothing about the configuration was "
            "chosen by these numbers.",
        ),
        Table(results.summary(), "The same in numbers; trial: of whole trials."),
    ]
    comparisons = _comparisons(results)
    if len(comparisons):
        blocks.append(
            Table(
                comparisons,
                "Tuned less another method, paired by subject, in points of balanced "
                "accuracy: 95 % bootstrap interval, Wilcoxon signed-rank test. The "
                "first row is the question that was asked; the others are not "
                "corrected for being asked as well.",
                name="tuned-against-others",
            )
        )
    return blocks


def _comparisons(results: Results) -> pd.DataFrame:
    rows = {}
    for method in [DEFAULTS, *(m for m in results.methods if m != DEFAULTS)]:
        wide = None if method == TUNED else paired(results, method)
        if wide is None:
            continue
        found = compare(wide[TUNED].to_numpy(), wide[method].to_numpy())
        rows[f"tuned - {method}"] = {
            "difference": 100 * found.difference,
            "low": 100 * found.low,
            "high": 100 * found.high,
            "p": found.p,
            "subjects": found.subjects,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _how(findings: Findings, environment: Mapping[str, Any]) -> list[Block]:
    described, study = findings.description, dict(findings.description.get("study", {}))
    if per_fold(findings):
        study.pop("development", None)
    rows = {"recordings": findings.recordings}
    for key in (
        "protocol",
        "backbone",
        "adapter",
        "validator",
        "normalisation",
        "sampling",
        "modalities",
        "channels",
        "exclude_channels",
        "exclude",
        "classes",
        "merge",
        "waive",
        "initialisation",
        "device",
        "seeds",
    ):
        if described.get(key) is not None:
            rows[key] = value_words(described[key])
    rows["who chose"] = who_chose(findings)
    if findings.final is not None:
        final = findings.final.table
        seeds = sorted(final.loc[final["method"] == TUNED, "seed"].unique())
        rows["seeds of the final runs"] = value_words([int(seed) for seed in seeds])
    for key, value in study.items():
        if value not in (None, "", [], {}):
            rows[f"study: {key.replace('_', ' ')}"] = value_words(value)
    began = pd.to_datetime(findings.candidates["began"]).dropna()
    if len(began):
        days = (began.min().date().isoformat(), began.max().date().isoformat())
        rows["candidates began on"] = " to ".join(dict.fromkeys(days))
    if "processor" in environment:
        rows["machine"] = machine(environment, str(described.get("device", "cpu")))
    packages = environment.get("packages", {})
    rows["versions"] = ", ".join(
        f"{name} {number}"
        for name, number in {
            "domainemo": described.get("domainemo", ""),
            "optuna": optuna.__version__,
            **packages,
            "python": environment.get("python", ""),
        }.items()
        if number
    )
    frame = pd.DataFrame({"": pd.Series(rows)}).rename_axis("what")
    blocks: list[Block] = [Table(frame, "How the numbers of this page came about.")]
    if findings.final is not None:
        blocks.append(f"Final runs: {findings.final.how()}")
    return [*blocks, *_dashboard(findings)]


def _dashboard(findings: Findings) -> list[Block]:
    """Return how to open the study's storage, seen from the study's folder."""
    given = findings.description.get("study", {}).get("storage")
    address = address_of(findings.folder, given)
    address = address.replace(f"{findings.folder.resolve()}/", "")
    text = (
        "In the study's folder, the same candidates open in optuna-dashboard, where "
        "Optuna calls a candidate a trial (`pip install optuna-dashboard`):"
    )
    blocks: list[Block] = [text, Code(f"optuna-dashboard {shlex.quote(address)}")]
    if "***" in address:
        blocks.append(Note("Put the storage's password in place of ***."))
    return blocks


def _search(study: _Study) -> list[Block]:
    findings = study.findings
    if not len(findings.candidates):
        return ["No candidate has begun, so there is no history to draw."]
    further = _further_objectives(findings)
    done = len(complete(findings))
    if not done:
        return ["No candidate is complete, so there is no score to draw."]
    shown = min(len(findings.studies), figures.MOST_PANELS)
    panel = ""
    if per_fold(findings):
        panel = " A panel per fold's own study."
        if shown < len(findings.studies):
            panel = f" The first {shown} of {len(findings.studies)} folds' studies."
    if further:
        blocks: list[Block] = [
            Figure(
                f"pareto-front-{number}" if number else "pareto-front",
                partial(figures.draw_pareto, findings, second),
                f"Complete candidates by the validator's score and {second}. "
                "The Pareto front is of all objectives: what no candidate beats in "
                f"every one of them.{panel}",
            )
            for number, second in enumerate(further)
        ]
        return [*blocks, _front_table(findings)]
    return [
        Figure(
            "history",
            partial(figures.draw_history, findings),
            "Every candidate's score by the validator, a mean over folds, and the best "
            "so far. A pruned or failed one stands where the folds it finished put it "
            "against the median of the complete ones, or on the lower edge where it "
            f"finished none.{panel}",
        )
    ]


def _front_table(findings: Findings) -> Table:
    reached = objectives(findings)
    frame = reached[reached["front"]].drop(columns="front")
    if not per_fold(findings):
        frame = frame.drop(columns="study")
    return Table(
        frame.rename(columns={"value": "validator's score"}).reset_index(drop=True),
        "The Pareto front: no candidate is better in one objective and as good in all.",
        name="pareto-front",
    )


def _mattered(study: _Study) -> list[Block]:
    found, options = study.importances, study.options
    blocks: list[Block] = [what_mattered(found)]
    ranked = False
    if isinstance(found, Importances) and found.tell:
        ranked = True
        blocks.append(
            Figure(
                "importances",
                partial(figures.draw_importances, found),
                "How much of the candidates' scores each option explains by itself, by "
                "fANOVA over the scale on which it was drawn. Shares add up to 100 % "
                "whether the options explain much or nothing: here "
                f"{100 * found.explained:.0f} %.",
            )
        )
        blocks += [Note(text) for text in _importance_cautions(found)]
    return [*blocks, *_option_figures(study.findings, options, ranked)]


def _importance_cautions(found: Importances) -> list[str]:
    cautions = []
    if found.left_out:
        cautions.append(
            f"Not every complete candidate drew {listed(list(found.left_out))}, so no "
            f"share can be given."
        )
    if found.skipped:
        cautions.append(
            f"{count(found.skipped, 'fold')} had fewer than two complete candidates "
            f"of different score and {were(found.skipped)} left out."
        )
    return cautions


def _option_figures(
    findings: Findings, options: Sequence[Option], ranked: bool
) -> list[Block]:
    """Return the figures of scores along options, which may be ranked, or why not."""
    done = len(complete(findings))
    if done < 2 or not options:
        return [
            f"Slices, contour and parallel coordinates need at least two complete "
            f"candidates and an option that varies. Complete candidates: {done}; such "
            f"options: {len(options)}."
        ]
    pooled = " Pooled over folds, less the fold's median." if per_fold(findings) else ""
    first = "each option"
    if ranked:
        first += ", the most important first"
    elif len(options) > 6:
        first = "the first six options of the search"
    which = "most important" if ranked else "first"
    blocks: list[Block] = [
        Figure(
            "slices",
            partial(figures.draw_slices, findings, options[:6]),
            f"Complete candidates along {first}; in grey "
            "the mean of candidates nearby, or of a choice. The other options vary as "
            f"well: a slope is no proof of a cause.{pooled}",
        )
    ]
    numeric = [option for option in options if option.numeric]
    if len(numeric) >= 2 and done >= 4:
        blocks.append(
            Figure(
                "contour",
                partial(figures.draw_contour, findings, numeric[0], numeric[1]),
                f"{numeric[0].name} and {numeric[1].name}: dots are complete "
                "candidates, the surface is the mean of those nearby, blank where "
                f"there is none.{pooled}",
            )
        )
    else:
        blocks.append(
            f"A contour needs two numeric options and four complete candidates. Such "
            f"options: {len(numeric)}; complete candidates: {done}."
        )
    if len(options) >= 2:
        blocks.append(
            Figure(
                "parallel-coordinates",
                partial(figures.draw_parallel, findings, options[:8]),
                "Every complete candidate as a line through its options to its score, "
                f"darker where it scored higher.{pooled}"
                + ("" if len(options) <= 8 else f" The eight {which} options."),
            )
        )
    else:
        blocks.append("Parallel coordinates need two options; one was searched.")
    return blocks


def _folds(findings: Findings) -> list[Block]:
    scores = findings.scores
    trained = scores[scores["candidate"] != SOURCE_ONLY_CANDIDATE]
    if trained["score"].notna().sum() == 0:
        return ["No candidate has finished a fold, so there is nothing to compare."]
    each = trained.groupby(["fold", "candidate"], sort=False)["score"].mean()
    medians = each.groupby("fold", sort=False).agg(["median", "min", "max", "count"])
    order = (
        "A number is another configuration in each fold's own study."
        if per_fold(findings)
        else "The highest score stands on top, those not completed at the bottom."
    )
    return [
        Figure(
            "folds",
            partial(figures.draw_folds, findings),
            "The validator's score of each candidate in each fold, less the fold's "
            "median candidate, since folds are hard or easy whatever a candidate does. "
            f"Framed: chosen. Grey: not trained. {order}",
        ),
        Table(medians, "The validator's score over the candidates of each fold."),
    ]


def _stopped(findings: Findings) -> list[Block]:
    table = findings.candidates
    stopped = table[table["state"].isin(["pruned", "failed"])]
    if not len(stopped):
        return ["No candidate was pruned, and none failed."]
    finished = findings.scores.groupby(["study", "candidate"])["fold"].nunique()
    keys = pd.MultiIndex.from_frame(stopped[["study", "candidate"]])
    frame = pd.DataFrame(
        {
            "fold's study": stopped["study"],
            "candidate": stopped["candidate"],
            "state": stopped["state"],
            "reason": stopped["reason"],
            "folds finished": finished.reindex(keys, fill_value=0).to_numpy(),
            "seconds": stopped["seconds"],
            "retry of": stopped["retry_of"],
        }
    )
    if not per_fold(findings):
        frame = frame.drop(columns="fold's study")
    if frame["retry of"].isna().all():
        frame = frame.drop(columns="retry of")
    counts = outcomes(table).value_counts()
    words = " and ".join(
        f"{count(counts[state], 'candidate')} {were(counts[state])} pruned"
        if state == "pruned"
        else f"{count(counts[state], 'candidate')} {state}"
        for state in ("pruned", "failed", REPEATED)
        if state in counts
    )
    again = int(table["retry_of"].notna().sum())
    retried = f" {count(again, 'candidate')} {were(again)} a retry." if again else ""
    return [f"{words}.{retried}", Table(frame.reset_index(drop=True), digits=1)]


def _truth(study: _Study) -> list[Block]:
    found, findings = study.agreement, study.findings
    if found is None and findings.final is not None:
        return ["No candidate could be chosen, so there is nothing to compare."]
    if found is None:
        return [
            "How far the validator was from the truth is computed after the final "
            "runs, for candidates that are complete; there is nothing to compare yet."
        ]
    several = found.table["study"].nunique() > 1
    accuracy = found.accuracies
    if several:
        accuracy.loc["mean over folds"] = accuracy.mean()
        accuracy = accuracy.rename_axis("fold")
    else:
        accuracy.index = pd.Index(["balanced accuracy"])
    by = "how candidates stand" if by_standing(findings) else "validator's score"
    gap = accuracy["best in hindsight"] - accuracy["chosen"]
    accuracy = accuracy.dropna(axis=1, how="all").assign(**{"selection gap": gap})
    return [
        Note(how_far_off(found, findings)),
        Figure(
            "agreement",
            partial(figures.draw_agreement, found, by),
            f"After the fact: {by} and the true balanced accuracy on the same folds' "
            "targets. A validator that chooses well makes the dots rise to the right.",
        ),
        Table(
            accuracy,
            "After the fact: true balanced accuracy of what was chosen and of what "
            "could have been. The best in hindsight needs the targets' labels, and is "
            "flattered by them; it is no result.",
        ),
    ]


def _cost(study: _Study) -> list[Block]:
    found = study.cost
    if found is None:
        return ["No candidate has been timed yet."]
    sentences = [f"All candidates together took {duration(found.total)}."]
    if not math.isnan(found.elapsed):
        sentences.append(
            f"From the first one's beginning to the last one's end it took "
            f"{duration(found.elapsed)}, with {count(len(found.workers), 'worker')}."
        )
    if not math.isnan(found.typical):
        sentences.append(f"A complete one took {duration(found.typical)} (median).")
    if not math.isnan(found.saved):
        sentences.append(
            f"Pruning saved about {duration(found.saved)}: what pruned candidates "
            f"took less than the mean complete one."
        )
    blocks: list[Block] = [
        " ".join(sentences),
        Figure(
            "cost",
            partial(figures.draw_cost, study.findings),
            "What each candidate took, over all of its folds and seeds.",
        ),
    ]
    if len(found.workers):
        blocks.append(Table(found.workers, "What each worker did.", 0, "workers"))
    return blocks


def _candidates(findings: Findings) -> list[Block]:
    if not len(findings.candidates):
        return ["No candidate has begun."]
    options = [name for name in findings.candidates if "." in str(name)]
    standing = ["standing"] if by_standing(findings) else []
    columns: list[Any] = ["candidate", "state", "value", *standing]
    columns += [*_further_objectives(findings), *options]
    if per_fold(findings):
        columns.insert(0, "study")
    frame = findings.candidates[columns].rename(columns={"value": "score"})
    of_standing = (
        " The standing is what it was chosen by: the mean over folds of its place "
        "among the others, by all that the validator compares; a dash where it has "
        "collapsed."
    )
    for name in options:
        frame[name] = frame[name].map(value_words)
    return [
        Table(
            frame.reset_index(drop=True),
            "Every candidate with its options; a dash where one was not drawn."
            + of_standing * bool(standing),
        )
    ]


# ----------------------------------------------------------------------------- wording


def _further_objectives(findings: Findings) -> list[str]:
    """Return the names of every objective but the first."""
    study: Mapping[str, Any] = findings.description.get("study", {})
    return list(study.get("objectives", [])[1:])


def _name(choice: Choice) -> str:
    if choice.candidate == SOURCE_ONLY_CANDIDATE:
        return "source only"
    return f"candidate {choice.candidate}"


# -------------------------------------------------------------------------------- data


def _data(findings: Findings) -> dict[str, Any]:
    """Return what the page holds for programs."""
    return {
        "name": findings.name,
        "recordings": findings.recordings,
        "description": findings.description,
        "candidates": findings.candidates,
        "scores": findings.scores,
        "choices": [vars(choice) for choice in findings.choices],
        "final": None if findings.final is None else findings.final.table,
    }
