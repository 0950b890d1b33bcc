"""Run an experiment: the only place that holds target labels; jobs are sent none."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .. import __version__
from ..choices import RunChoices, choosing
from ..core import Backbone, EmotionData, Fold, Inputs, Rows, Sampling
from ..data.given import expect_labelled
from ..data.labels import check_trials
from ..data.normalisation import check_enough, check_visible
from ..errors import ConfigurationError, DomainemoError, did_you_mean
from ..parts import Part, describe_object
from ..training.seeds import reproducible
from ..training.model import Model
from ..values import check_value
from ..words import count, in_order
from .checks import (
    canonical,
    check_classes,
    check_folds,
    check_modalities,
    check_signals,
    kept_rows,
    select_modalities,
    unfit_folds,
)
from .controls import control_name, control_probabilities, is_trained
from .execution import Monitor, execute
from .experiment import Experiment, Setup, experiment
from .folder import (
    fingerprint,
    identity,
    job_folder,
    locked,
    open_folder,
    origin,
    write_results,
)
from .initialisation import check_initialisation
from .job import Job, Record, load_record
from .labels import labelled_rows
from .results import Results
from .scorer import oracle_epoch, prediction_rows, score_rows

__all__ = ["Plan", "plan", "prepare", "run", "run_plan"]


@dataclass(frozen=True)
class Plan:
    """Recordings and folds that have been checked, and what will be run on them.

    Attributes
    ----------
    data : EmotionData
        In canonical order, with the chosen modalities only.
    experiment : Experiment
    folds : list of Fold
    sampling : Sampling
        What was asked for, or else the backbone's own.
    skipped : mapping of str to str
        Why folds are not run that the protocol was told to skip, by their names.
    """

    data: EmotionData
    experiment: Experiment
    folds: list[Fold]
    sampling: Sampling
    skipped: Mapping[str, str] = field(default_factory=dict)

    def jobs(self, folder: Path) -> list[Job]:
        """Return the training jobs: fold x seed x adapter."""
        return [
            self.job(folder, fold, seed, each)
            for seed in self.experiment.seeds
            for fold in self.folds
            for each in self.experiment.trained
            # A control has no random start: one seed says it all.
            if each.kind == "adapter" or seed == self.experiment.seeds[0]
        ]

    def labelled(self, fold: Fold, seed: int) -> Rows:
        """Return the windows whose labels may be used, calibration after the source."""
        share = self.experiment.training.label_share
        source = labelled_rows(self.data, fold, share, seed)
        return np.append(source, fold.calibration)

    def job(self, folder: Path, fold: Fold, seed: int, chosen: Part) -> Job:
        """Return the job of an adapter or a control.

        Of target labels, it has calibration's alone.
        """
        labelled, start = self.labelled(fold, seed), self.experiment.init_from
        network = chosen.kind == "adapter"
        method = chosen.name if network else control_name(chosen)
        return Job(
            fold=fold,
            labelled=labelled,
            source_labels=self.data.labels[labelled],
            classes=self.data.classes,
            adapter=chosen if network else None,
            control=None if network else chosen,
            seed=seed,
            folder=str(job_folder(folder, fold.name, seed, method)),
            start=str(start.weights(fold.name, seed)) if start and network else None,
        )


@choosing
def run(
    data: EmotionData,
    *,
    output: str | Path | None = None,
    executor: Executor | None = None,
    on_progress: Callable[[Monitor], None] | None = None,
    **choices: Unpack[RunChoices],
) -> Results:
    """Train and test an adapter on every fold of a protocol.

    Parameters
    ----------
    data : EmotionData
    **choices
        See `domainemo.choices.RunChoices`.
    output : path, optional
        The run's folder. Where it holds part of this very run, the rest is run.
    executor : concurrent.futures.Executor, optional
        Where folds are trained; here and one by one by default.
    on_progress : callable, optional
        Called now and then with the state of all jobs.

    Returns
    -------
    Results

    Raises
    ------
    ConfigurationError, DataError
        Before anything is trained.
    RunError
        If a fold fails; the finished ones are kept in `output`.
    """
    chosen = experiment(**choices)
    if not (output is None or isinstance(output, str | Path)):
        raise ConfigurationError(f"output is {output!r}; expected a folder, or None.")
    check_value("executor", executor, Executor | None)
    if not (on_progress is None or callable(on_progress)):
        raise ConfigurationError(
            f"on_progress is {on_progress!r}; expected a function of one value."
        )
    planned = plan(data, chosen)
    description = {"recordings": data.inputs.name, **chosen.describe()}
    plugins = chosen.plugins
    if plugins:
        description["plugins"] = list(plugins)
    with nullcontext(output) if output else tempfile.TemporaryDirectory() as folder:
        return run_plan(
            planned, Path(folder), description, executor, on_progress, plugins
        )


def plan(data: EmotionData, chosen: Experiment) -> Plan:
    """Check recordings against an experiment and lay out its folds.

    Raises
    ------
    ConfigurationError, DataError
        For anything that would fail later.
    """
    data = expect_labelled(data, "the recordings")
    rows, folds = prepare(data.inputs, chosen)
    folds = _chosen(folds, chosen.folds)
    inputs = select_modalities(data.inputs, chosen.modalities, chosen.exclude)
    data = replace(data, inputs=inputs).take(rows)
    check_trials(data)
    protocol = chosen.protocol.build()
    skipped = unfit_folds(data, folds) if protocol.unfit == "skip" else {}
    if len(skipped) < len(folds):
        folds = [fold for fold in folds if fold.name not in skipped]
    check_classes(data, folds, "unfit" in chosen.protocol.describe())
    if chosen.init_from is not None:
        check_initialisation(chosen.init_from, chosen.describe(), data.inputs, folds)
    classes = len(data.classes)
    with reproducible(chosen.training.threads):
        backbone = trial(
            data.inputs, chosen, lambda b: Model(b, inputs.modalities, classes)
        )
    return Plan(data, chosen, folds, backbone.sampling, skipped)


def prepare(inputs: Inputs, chosen: Setup) -> tuple[Rows, list[Fold]]:
    """Choose the windows to use, put them in canonical order, and lay out the folds.

    Returns
    -------
    rows : ndarray of int
        The windows of `inputs` to take.
    folds : list of Fold
        Counting the windows so taken.

    Raises
    ------
    ConfigurationError, DataError
        For recordings or folds that do not fit.
    """
    inputs = select_modalities(inputs, chosen.modalities, chosen.exclude)
    kept = kept_rows(inputs, chosen.exclude)
    bare = replace(inputs, signals={}, modalities={})
    rows = kept[canonical(bare.take(kept))]
    inputs = inputs.take(rows)
    check_modalities(inputs)
    check_signals(inputs)
    folds = list(chosen.protocol.build().split(inputs.windows))
    check_folds(inputs, folds)
    learns_by = chosen.build_normalisation().by
    for fold in folds:
        used = fold.used
        visible = np.isin(used, np.append(fold.source, fold.seen))
        windows = inputs.windows.iloc[used]
        check_visible(inputs.name, windows, learns_by, visible)
    check_enough(
        inputs,
        learns_by,
        (_visible(inputs, fold) for fold in folds),
        remedy="Leave them out (--exclude), or choose another normalisation "
        "(--normalisation subject or source).",
    )
    return rows, folds


def _visible(inputs: Inputs, fold: Fold) -> NDArray[np.bool_]:
    """Return which windows a fold's training may see."""
    visible = np.zeros(len(inputs), dtype=bool)
    visible[fold.source] = visible[fold.seen] = True
    return visible


def _chosen(folds: list[Fold], wanted: Sequence[str]) -> list[Fold]:
    """Return the folds of these names; all where none is named."""
    there = [fold.name for fold in folds]
    unknown = [name for name in wanted if name not in there]
    if unknown:
        raise ConfigurationError(
            f"There is no fold {', '.join(map(repr, unknown))}."
            f"{_meant(unknown[0], there)} Found {', '.join(map(repr, there))}."
        )
    return [fold for fold in folds if fold.name in wanted or not wanted]


def _meant(name: str, there: Sequence[str]) -> str:
    """Ask after the nearest fold; the subject alone, without the word, names one."""
    alone = [fold for fold in there if name in fold.split(" ")]
    return f" Did you mean {alone[0]!r}?" if alone else did_you_mean(name, there)


def trial(
    inputs: Inputs, chosen: Setup, complete: Callable[[Backbone], object]
) -> Backbone:
    """Build the network once, so that an option it cannot take is told at once.

    Parameters
    ----------
    inputs : Inputs
    chosen : Setup
    complete : callable
        Builds what stands on the backbone.
    """
    try:
        backbone = chosen.build_backbone(inputs.modalities)
        complete(backbone)
    except DomainemoError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"The backbone {chosen.backbone.name!r} could not be built for "
            f"{', '.join(inputs.modalities)}: {type(error).__name__}: {error}. Check "
            f"its options."
        ) from error
    return backbone


def run_plan(
    planned: Plan,
    folder: Path,
    description: Mapping[str, Any],
    executor: Executor | None = None,
    on_progress: Callable[[Monitor], None] | None = None,
    plugins: Sequence[str] = (),
) -> Results:
    """Run what is missing of a plan in its folder; score it and write the tables.

    Parameters
    ----------
    planned : Plan
    folder : Path
    description : mapping
        The full configuration, written as ``config.toml``.
    executor, on_progress
        See :func:`run`.
    plugins : sequence of str
        Files to import in every process.
    """
    start = planned.experiment.init_from
    known = identity(planned.data, plugins)
    known |= {"pre-training": start.content} if start else {}
    signals = fingerprint(planned.data.inputs)
    open_folder(folder, description, known, {"signals": signals})
    begun = origin(folder)
    jobs = [replace(job, origin=begun) for job in planned.jobs(folder)]
    with locked(folder):
        execute(
            planned.data.inputs,
            planned.experiment,
            jobs,
            folder=folder,
            executor=executor,
            on_progress=on_progress,
            plugins=plugins,
        )
        results = _collect(planned, jobs, description)
        write_results(folder, results)
    return results


def _collect(
    planned: Plan, jobs: Sequence[Job], description: Mapping[str, Any]
) -> Results:
    scores: list[dict[str, Any]] = []
    predictions: list[pd.DataFrame] = []
    chosen = planned.experiment
    members: dict[str, Rows] = {}
    level = ""
    for job in jobs:
        record = load_record(Path(job.folder))
        if chosen.validator is None and job.adapter is not None:
            epoch = oracle_epoch(planned.data, record)
            facts = {**record.facts, "epoch": epoch}
            record = replace(record, probabilities=record.trace[epoch - 1], facts=facts)
        members[job.fold.name], level = record.members, record.facts["level"]
        how = _how_trained(planned, job, record)
        _add(planned, how, record, level, scores, predictions)
    for fold in planned.folds:
        for control in chosen.controls:
            if not is_trained(control):
                record = _control_record(planned, fold, control, members[fold.name])
                how = _how_control(planned, fold, control_name(control))
                _add(planned, how, record, level, scores, predictions)
    return Results(
        table=pd.DataFrame(scores).astype({"epoch": "Int64", "parameters": "Int64"}),
        predictions=pd.concat(predictions, ignore_index=True),
        description=description,
        method=_method_name(jobs[0], chosen),
    )


def _control_record(
    planned: Plan, fold: Fold, control: Part, members: Rows
) -> Record:
    """Return what a control says of samples whose provenance alone it is shown."""
    chosen, labelled = planned.experiment, planned.labelled(fold, planned.experiment.seeds[0])
    probabilities = control_probabilities(
        control.build(),
        planned.data.inputs,
        chosen.build_normalisation(),
        fold,
        labelled,
        planned.data.labels[labelled],
        members,
        len(planned.data.classes),
    )
    nothing = np.empty((0, *probabilities.shape), dtype=np.float32)
    return Record(members, probabilities, nothing, {})


def _add(
    planned: Plan,
    how: dict[str, Any],
    record: Record,
    level: str,
    scores: list[dict[str, Any]],
    predictions: list[pd.DataFrame],
) -> None:
    rows = prediction_rows(planned.data, record)
    keys = {key: how[key] for key in ("method", "fold", "seed")}
    predictions.append(rows.assign(**keys))
    classes = len(planned.data.classes)
    for subject, theirs in rows.groupby("subject"):
        for name, samples, values in score_rows(theirs, level, classes):
            scores.append(
                {**keys, "subject": subject, "level": name, "samples": samples}
                | values
                | {key: value for key, value in how.items() if key not in keys}
            )


def _method_name(job: Job, chosen: Experiment) -> str:
    chose_by_labels = chosen.validator is None and job.adapter is not None
    return f"{job.method} [ORACLE]" if chose_by_labels else job.method


def _how_trained(planned: Plan, job: Job, record: Record) -> dict[str, Any]:
    chosen, fold = planned.experiment, job.fold
    seen, normalisation = [], chosen.build_normalisation()
    network = job.adapter is not None
    if job.adapter is not None and job.adapter.build().needs_target:
        seen.append("training")
    blind = job.control is not None and not job.control.build().sees_signals
    if normalisation.by in ("session", "subject") and not blind:
        seen.append("normalisation")
    if network and chosen.validator and chosen.validator.build().sees_target:
        seen.append("selection")
    target_seen = "target not seen"
    if seen:
        target_seen = f"target's windows seen in {' and '.join(seen)}, unlabelled"
    target_seen += _calibrated(fold)
    if network and chosen.validator is None:
        target_seen += "; ORACLE: the epoch was chosen by the target's labels"
    return {
        "method": _method_name(job, chosen),
        "fold": fold.name,
        "seed": job.seed,
        **_how_common(planned, fold),
        "initialisation": _start(chosen) if network else "",
        "access": fold.access if seen else "inductive",
        "target_seen": target_seen,
        "normalisation": "" if blind else normalisation.words,
        "backbone": chosen.backbone.name if network else "",
        "selection": chosen.selection if network else "",
        "epoch": record.facts.get("epoch"),
        "parameters": record.facts.get("parameters"),
        "seconds": record.facts["seconds"],
    }


def _how_control(planned: Plan, fold: Fold, name: str) -> dict[str, Any]:
    return {
        "method": name,
        "fold": fold.name,
        "seed": planned.experiment.seeds[0],
        **_how_common(planned, fold),
        "access": "inductive",
        "target_seen": "target not seen" + _calibrated(fold),
    }


def _calibrated(fold: Fold) -> str:
    return "; some of its labels given for calibration" if len(fold.calibration) else ""


def _calibration(planned: Plan, fold: Fold) -> dict[str, str]:
    """Return how many target labels a fold gives, where any of the run's gives some."""
    if not any(len(each.calibration) for each in planned.folds):
        return {}
    windows = planned.data.inputs.windows.iloc[fold.calibration]
    trials = windows[["subject", "session", "trial"]].drop_duplicates()
    words = f"{count(len(trials), 'trial')}, {count(len(windows), 'window')}"
    return {"calibration": words}


def _how_common(planned: Plan, fold: Fold) -> dict[str, Any]:
    chosen = planned.experiment
    sampling = describe_object(planned.sampling)
    options = ", ".join(f"{k} {v}" for k, v in sampling.items() if k != "class")
    protocol = chosen.protocol.describe()
    if protocol.get("unfit") == "refuse":
        del protocol["unfit"]  # there is no such fold
    detail = ", ".join(f"{key} {value}" for key, value in protocol.items())
    return {
        "dataset": planned.data.inputs.name,
        "modalities": ", ".join(planned.data.inputs.modalities),
        "excluded": ", ".join(chosen.exclude),
        "skipped": "; ".join(f"{name}: {why}" for name, why in planned.skipped.items()),
        "version": __version__,
        "protocol": f"{chosen.protocol.name}{f' ({detail})' if detail else ''}",
        "label_share": chosen.training.label_share,
        **_calibration(planned, fold),
        "sampling": f"{_called(planned.sampling)}{f' ({options})' if options else ''}",
    }


def _called(sampling: Sampling) -> str:
    """Return a sampling's name; an object's of a class without one, its class's."""
    cls = type(sampling)
    return str(vars(cls).get("registered_name", cls.__qualname__.lower()))


def _start(chosen: Experiment) -> str:
    return chosen.init_from.words if chosen.init_from else "random initialisation"


def missing_share(inputs: Inputs) -> dict[str, float]:
    """Return the share of windows that each modality's sensor lost."""
    return {
        name: float(np.isnan(array).all(axis=(1, 2)).mean())
        for name, array in inputs.signals.items()
    }


def subjects_without_fold(planned: Plan) -> list[Any]:
    """Return the subjects that no fold tests."""
    windows = planned.data.inputs.windows
    tested = {s for fold in planned.folds for s in windows["subject"].iloc[fold.test]}
    return in_order(set(windows["subject"]) - tested)
