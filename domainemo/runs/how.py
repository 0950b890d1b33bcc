"""How a number was obtained: the words that stand beside every one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import isinf
from typing import Any

import pandas as pd

from .. import __version__
from ..core import OPTIONAL, TRIAL, Fold, Sampling
from ..parts import describe_object
from ..words import count
from .calibration import per_class
from .experiment import Experiment, use_of
from .job import Job, holds_out
from .leaks import waived_words
from .plan import Plan
from .record import Record

__all__ = ["called", "how_control", "how_trained", "told_of_target", "told_of_task"]

_PURPOSE = {
    "training": "",
    "selection": " (to choose by, not to train on)",
    "both": " (to train on and to choose by)",
}


def called(job: Job, chosen: Experiment) -> str:
    """Return what a job is called in tables; an oracle's name says so."""
    chose_by_labels = chosen.validator is None and job.adapter is not None
    return f"{job.method} [ORACLE]" if chose_by_labels else job.method


def how_trained(planned: Plan, job: Job, record: Record) -> dict[str, Any]:
    """Return the words beside the numbers of a job."""
    chosen, fold = planned.experiment, job.fold
    seen, normalisation = [], job.normalisation(chosen)
    network = job.adapter is not None
    adapter = None if job.adapter is None else chosen.build_adapter(job.adapter)
    if adapter is not None and (adapter.needs_target or adapter.settles):
        seen.append("training")
    control = None if job.control is None else job.control.build()
    blind = not network and control is not None and not control.sees_signals
    if control is not None and control.adapts:
        seen.append("training")
    if normalisation.by in ("session", "subject") and not blind:
        seen.append("normalisation")
    if network and chosen.validator and chosen.validator.build().sees_target:
        seen.append("selection")
    target_seen = _unseen(fold)
    if seen:
        trials = adapter is not None and adapter.sees_trials
        windows = f"windows{', and which share a trial,' if trials else ''}"
        target_seen = f"target's {windows} seen in {' and '.join(seen)}, unlabelled"
    target_seen += _calibrated(planned, fold)
    if network and chosen.validator is None:
        target_seen += "; ORACLE: the epoch was chosen by the target's labels"
    return {
        "method": called(job, chosen),
        "fold": fold.name,
        "seed": job.seed,
        **_common(planned, fold),
        "initialisation": _start(chosen) if network else "",
        "access": fold.access if seen else "inductive",
        "target_seen": target_seen,
        "normalisation": "" if blind else normalisation.words,
        "backbone": chosen.backbone.name if network else "",
        "selection": chosen.selection if network else "",
        "epoch": record.facts.get("epoch"),
        "parameters": record.facts.get("parameters"),
        "seconds": record.facts["seconds"],
        **_scaled(chosen, record),
    }


def _scaled(chosen: Experiment, record: Record) -> dict[str, Any]:
    """Return the temperature of a training, where the run's are scaled by one."""
    if chosen.training.temperature == "none":
        return {}
    return {"temperature": record.facts.get("temperature")}


def how_control(planned: Plan, fold: Fold, name: str) -> dict[str, Any]:
    """Return the words beside the numbers of a control that ran as no job."""
    return {
        "method": name,
        "fold": fold.name,
        "seed": planned.experiment.seeds[0],
        **_common(planned, fold),
        "access": "inductive",
        "target_seen": _unseen(fold) + _calibrated(planned, fold),
    }


def _unseen(fold: Fold) -> str:
    if len(fold.calibration):
        return "no unlabelled window of the target seen"
    return "target not seen"


def _calibrated(planned: Plan, fold: Fold) -> str:
    if not len(fold.calibration):
        return ""
    purpose = {
        "training": "calibration",
        "selection": "selection",
        "both": "calibration and selection",
    }[use_of(planned.experiment)]
    return f"; some of its labels given for {purpose}"


def _apart(planned: Plan, fold: Fold) -> dict[str, str]:
    """Return how much calibration and validation a fold has, if any fold has some."""
    found = {}
    for name in OPTIONAL:
        if not any(len(each.parts[name]) for each in planned.folds):
            continue
        rows = fold.parts[name]
        windows = planned.inputs.windows.iloc[rows]
        again = windows.duplicated(TRIAL).to_numpy()
        labels = planned.labels[rows[~again]]
        trials, number = count(len(labels), "trial"), count(len(windows), "window")
        subjects = count(windows["subject"].nunique(), "subject")
        found[name] = {
            "calibration": f"{trials} ({per_class(labels, planned.classes)}), {number}"
            f"{_PURPOSE[use_of(planned.experiment)]}",
            "validation": f"{subjects}, {trials}, {number} kept out of training"
            f"{_left(planned)}",
        }[name]
    return found


def _left(planned: Plan) -> str:
    """Say so where a fold has a validation part, and nothing looks at it."""
    chosen = planned.experiment
    validator = None if chosen.validator is None else chosen.validator.build()
    adapter = chosen.build_adapter(chosen.adapter)
    if holds_out(chosen.training, validator, adapter):
        return ""
    return " and not used, as no epoch was chosen by it"


def _common(planned: Plan, fold: Fold) -> dict[str, Any]:
    chosen = planned.experiment
    sampling = describe_object(planned.sampling)
    options = ", ".join(f"{k} {v}" for k, v in sampling.items() if k != "class")
    protocol = chosen.protocol.describe()
    if protocol.get("unfit") == "refuse":
        del protocol["unfit"]  # there is no such fold
    said = {key: _said(value) for key, value in protocol.items() if value is not None}
    detail = ", ".join(f"{key} {value}" for key, value in said.items())
    return {
        "dataset": planned.inputs.name,
        **({"target": planned.target} if planned.target else {}),
        "modalities": ", ".join(planned.inputs.modalities),
        **planned.task,
        **_made_of(planned),
        "excluded": ", ".join(chosen.exclude),
        "skipped": "; ".join(f"{name}: {why}" for name, why in planned.skipped.items()),
        **({"waived": waived_words(planned.waived)} if planned.waived else {}),
        "version": __version__,
        "protocol": f"{chosen.protocol.name}{f' ({detail})' if detail else ''}",
        "label_share": chosen.training.label_share,
        **_apart(planned, fold),
        "sampling": f"{_called(planned.sampling)}{f' ({options})' if options else ''}",
    }


def told_of_task(said: Mapping[Any, Any]) -> str:
    """Return the channels and classes that were chosen, for a sentence; or nothing.

    Parameters
    ----------
    said : mapping
        The words beside a number, or :func:`~domainemo.runs.checks.choose`'s.
    """
    parts = [f"{key}: {said[key]}; " for key in ("channels", "classes") if key in said]
    return "".join(parts)


def told_of_target(rows: pd.DataFrame) -> str:
    """Return the access to the target, and what was seen of it, for a sentence.

    Parameters
    ----------
    rows : DataFrame
        Those of one method, of all folds: a protocol may make folds of several kinds.
    """
    folds = rows.drop_duplicates("fold")
    kinds = zip(folds["access"], folds["target_seen"], strict=True)
    told = Counter(f"{access} ({seen})" for access, seen in kinds)
    if len(told) == 1:
        return next(iter(told))
    return ", ".join(f"{count(number, 'fold')} {each}" for each, number in told.items())


def _said(value: Any) -> str:
    """Return an option's value; of a list, the names alone."""
    return " and ".join(map(str, value)) if isinstance(value, list) else str(value)


def _made_of(planned: Plan) -> dict[str, str]:
    """Return the seconds that windows are made of, where any modality tells them."""
    told = [
        f"{name} of {'the whole trial' if isinf(each.span) else f'{each.span:g} s'}"
        for name, each in planned.inputs.modalities.items()
        if each.span is not None
    ]
    return {"made_of": ", ".join(told)} if told else {}


def _called(sampling: Sampling) -> str:
    """Return a sampling's name; an object's of a class without one, its class's."""
    cls = type(sampling)
    return str(vars(cls).get("registered_name", cls.__qualname__.lower()))


def _start(chosen: Experiment) -> str:
    return chosen.init_from.words if chosen.init_from else "random initialisation"
