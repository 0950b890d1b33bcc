"""Run what was chosen with fresh seeds, beside the defaults; only now with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import tomli_w
from numpy.typing import NDArray

from ..files import write
from ..runs.experiment import SOURCE_ONLY, Experiment
from ..runs.folder import folder_name, origin
from ..runs.job import run_job
from ..runs.metrics import metrics
from ..runs.record import load_record
from ..runs.results import Results, write_results
from ..runs.run import run_plan
from ..runs.scorer import prediction_rows
from .candidate import candidate_folder, candidate_job, source_only
from .choice import chosen_options
from .findings import (
    DEFAULTS,
    FINAL,
    SOURCE_ONLY_CANDIDATE,
    TUNED,
    Choice,
    Findings,
    chosen_file,
)
from .plan import StudyPlan

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from ..runs.execution import OnProgress

__all__ = ["Context", "run_final", "true_accuracies", "write_choice"]


@dataclass(frozen=True)
class Context:
    """Where and how final runs are run.

    Attributes
    ----------
    folder : Path
        The study's.
    places : mapping
        What a configuration says besides the experiment: data set, plug-ins.
    plugins : sequence of str
    executor : Executor, optional
    on_progress : callable, optional
    """

    folder: Path
    places: Mapping[str, Any]
    plugins: Sequence[str] = ()
    executor: Executor | None = None
    on_progress: OnProgress | None = None

    def describe(self, experiment: Experiment) -> dict[str, Any]:
        """Return the configuration of a run of `experiment`."""
        described = experiment.describe()
        options = {**self.places.get("options", {}), **described["options"]}
        return {**self.places, **described, "options": options}


def chosen_experiment(
    planned: StudyPlan, choice: Choice | None, folds: Sequence[str]
) -> Experiment:
    """Return the experiment of the final run of a choice, or of the defaults."""
    experiment = replace(
        planned.experiment,
        seeds=planned.settings.final_seeds,
        baselines=choice is None,
        folds=tuple(folds),
    )
    if choice is None:
        return experiment
    if choice.candidate == SOURCE_ONLY_CANDIDATE:
        return source_only(experiment)
    return experiment.with_options(choice.options)


def write_choice(planned: StudyPlan, choice: Choice, context: Context) -> Path:
    """Write a choice as the configuration of a run; return the file."""
    folds = [choice.fold] if choice.fold is not None else []
    if not folds:
        folds = [fold.name for fold in planned.tested.folds]
    experiment = chosen_experiment(planned, choice, folds)
    path = chosen_file(context.folder, choice.fold)
    write(path, tomli_w.dumps(context.describe(experiment)))
    return path


def run_final(
    planned: StudyPlan, choices: Sequence[Choice], context: Context
) -> Results:
    """Run the choices and the defaults with fresh seeds on the folds that are tested.

    Parameters
    ----------
    planned : StudyPlan
    choices : sequence of Choice
        One for all folds, or one for each.
    context : Context
    """
    names = [fold.name for fold in planned.tested.folds]
    defaults = _run(planned, None, names, context, DEFAULTS)
    tuned = [
        _run(
            planned,
            choice,
            names if choice.fold is None else [choice.fold],
            context,
            TUNED if choice.fold is None else f"{TUNED}-{folder_name(choice.fold)}",
        )
        for choice in choices
    ]
    own = planned.experiment.adapter.name
    ours = SOURCE_ONLY if own == "none" else own
    results = Results(
        table=pd.concat(
            [
                *(each.table.assign(method=TUNED) for each in tuned),
                defaults.table.replace({"method": {ours: DEFAULTS}}),
            ],
            ignore_index=True,
        ),
        predictions=pd.concat(
            [
                *(each.predictions.assign(method=TUNED) for each in tuned),
                defaults.predictions.replace({"method": {ours: DEFAULTS}}),
            ],
            ignore_index=True,
        ),
        description=context.describe(chosen_experiment(planned, None, names)),
        method=TUNED,
    )
    write_results(context.folder / FINAL, results)
    return results


def _run(
    planned: StudyPlan,
    choice: Choice | None,
    folds: Sequence[str],
    context: Context,
    name: str,
) -> Results:
    experiment = chosen_experiment(planned, choice, folds)
    kept = [fold for fold in planned.tested.folds if fold.name in folds]
    return run_plan(
        replace(planned.tested, experiment=experiment, folds=kept),
        context.folder / FINAL / name,
        context.describe(experiment),
        context.executor,
        context.on_progress,
        context.plugins,
    )


def true_accuracies(
    planned: StudyPlan, found: Findings, folder: Path
) -> NDArray[np.float64]:
    """Return the balanced accuracy behind each score, after the fact.

    Parameters
    ----------
    planned : StudyPlan
    found : Findings
        Whose scores are meant.
    folder : Path
        The study's.

    Returns
    -------
    ndarray of shape (rows,)
        Averaged over the fold's subjects; NaN where the predictions are not here, as
        another machine made them, or are of a single class, as in a step of `online`.
    """
    accuracies, begun = [], origin(folder)
    for row in found.scores.to_dict("records"):
        options, experiment = {}, source_only(planned.experiment)
        if row["candidate"] != SOURCE_ONLY_CANDIDATE:
            options = chosen_options(found.studies[row["study"]], row["candidate"])
            experiment = planned.experiment.with_options(options)
        (job,) = (
            candidate_job(each, experiment, candidate_folder(folder, options))
            for each in planned.jobs(row["study"], begun)
            if (each.fold.name, each.seed) == (row["fold"], row["seed"])
        )
        place = Path(job.folder)
        if not place.exists():
            accuracies.append(np.nan)
            continue
        choosing = planned.choosing[row["study"]]
        run_job(choosing.inputs, experiment, job)  # again, where it was damaged since
        rows = prediction_rows(choosing, load_record(place))
        accuracies.append(_balanced_accuracy(rows))
    return np.array(accuracies, dtype=np.float64)


def _balanced_accuracy(rows: pd.DataFrame) -> float:
    """Return the mean over subjects; NaN where each was tested on a single class."""
    columns = [name for name in rows if str(name).startswith("p_")]
    each = [
        metrics(theirs["label"].to_numpy(), theirs[columns].to_numpy())
        for _, theirs in rows.groupby("subject")
    ]
    scores = np.array([found["balanced_accuracy"] for found in each])
    known = scores[~np.isnan(scores)]
    return float(np.mean(known)) if len(known) else np.nan
