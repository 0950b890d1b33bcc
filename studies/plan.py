"""Who chooses and who is tested, laid out before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count, islice
from pathlib import Path

import numpy as np

from ..choices import SELECTED_BY
from ..core import EmotionData, Fold, Inputs
from ..data.channels import LACKING
from ..errors import ConfigurationError, DomainemoError
from ..runs.experiment import Experiment
from ..runs.job import Job
from ..runs.plan import Plan, plan
from ..training.seeds import derive_seed
from ..values import LARGEST_SEED
from ..words import quoted
from .settings import StudySettings
from .space import Space

__all__ = ["StudyPlan", "plan_study"]


@dataclass(frozen=True)
class StudyPlan:
    """A study whose recordings and folds have been checked.

    Attributes
    ----------
    space : Space
    settings : StudySettings
        With the subjects that choose by name, and the final runs' seeds.
    choosing : mapping of str to Plan
        The folds whose validator chooses, by the fold that they choose for; ``""``
        where one choice serves all.
    tested : Plan
        The folds of the final runs, with labels to score them by.
    """

    space: Space
    settings: StudySettings
    choosing: Mapping[str, Plan]
    tested: Plan

    @property
    def experiment(self) -> Experiment:
        """Every choice that is not searched."""
        return self.space.experiment

    @property
    def inputs(self) -> Inputs:
        """The recordings of those that choose, without labels."""
        return next(iter(self.choosing.values())).inputs

    @property
    def calibrated(self) -> bool:
        """Whether labels of a target are given on purpose, for calibration."""
        plans = (*self.choosing.values(), self.tested)
        return any(len(fold.calibration) for each in plans for fold in each.folds)

    def jobs(self, key: str, origin: str = "") -> tuple[Job, ...]:
        """Return what a candidate trains; of target labels, calibration's alone."""
        planned = self.choosing[key]
        return tuple(
            replace(
                planned.job(Path(), fold, seed, self.experiment.adapter), origin=origin
            )
            for seed in self.experiment.seeds
            for fold in planned.folds
        )


def plan_study(data: EmotionData, space: Space, settings: StudySettings) -> StudyPlan:
    """Lay out a study.

    Parameters
    ----------
    data : EmotionData
    space : Space
    settings : StudySettings

    Raises
    ------
    ConfigurationError, DataError
        For anything that would fail later, such as too few subjects.
    """
    experiment = space.experiment
    if experiment.validator is None or experiment.validator.name == "last":
        found = experiment.validator.name if experiment.validator else "oracle"
        raise ConfigurationError(
            f"A study needs a validator that can compare configurations; found "
            f"{found!r}. Choose one that scores without target labels, such as "
            f"--validator {SELECTED_BY}."
        )
    whole = plan(data, experiment)
    again = sorted({*settings.final_seeds} & {*experiment.seeds})
    if again:
        raise ConfigurationError(
            f"study.final_seeds has {', '.join(map(str, again))}, by which candidates "
            f"are trained and chosen; expected seeds that the study does not use. "
            f"Name others with --final-seeds, or none: then three are taken."
        )
    if not settings.final_seeds:
        settings = replace(settings, final_seeds=_fresh(experiment.seeds))
    if settings.select == "per-fold":
        if isinstance(settings.development, tuple) and settings.development:
            raise ConfigurationError(
                f"study.development names {len(settings.development)} subjects, but "
                f"with --select per-fold each fold chooses for itself, and no subjects "
                f"for all; leave one of them out."
            )
        each = {fold.name: replace(whole, folds=[fold]) for fold in whole.folds}
        return StudyPlan(space, settings, each, whole)
    chosen = _development(whole, settings)
    settings = replace(settings, development=chosen)
    others = [s for s in _subjects(whole) if s not in chosen]
    without = replace(experiment, exclude=(*experiment.exclude, *others), folds=())
    if LACKING in experiment.exclude_channels:
        # Those that everybody has, not only who chooses: one network for both.
        there = whole.inputs.modalities.items()
        named = tuple(f"{name}/{each}" for name, m in there for each in m.channels)
        without = replace(without, channels=named, exclude_channels=())
    tested = [fold for fold in whole.folds if not _tests(whole, fold) & set(chosen)]
    if not tested:
        raise ConfigurationError(
            f"{data.inputs.name}: every fold tests one of the {len(chosen)} subjects "
            f"that choose ({', '.join(chosen)}), so none is left to be tested. Give "
            f"fewer with --development, or --select per-fold."
        )
    choosing = {"": _plan_of_few(data, without, chosen)}
    return StudyPlan(space, settings, choosing, replace(whole, folds=tested))


def _plan_of_few(
    data: EmotionData, experiment: Experiment, chosen: Sequence[str]
) -> Plan:
    """Return the plan of those who choose; an error says that they are alone in it."""
    try:
        return plan(data, experiment)
    except DomainemoError as error:
        raise type(error)(
            f"{error} That is among subjects {', '.join(chosen)} alone, who choose "
            f"for all; with --select per-fold, each fold chooses for itself."
        ) from error


def _fresh(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """Return three seeds that the study does not use, the next ones if there are."""
    following = range(max(seeds) + 1, LARGEST_SEED + 1)
    unused = (seed for seed in chain(following, count()) if seed not in seeds)
    return tuple(islice(unused, 3))


def _development(whole: Plan, settings: StudySettings) -> tuple[str, ...]:
    """Return the subjects that choose: those named, or drawn by the study's seed."""
    subjects = _subjects(whole)
    wanted = settings.development
    if not isinstance(wanted, int):
        unknown = [name for name in wanted if name not in subjects]
        if unknown:
            raise ConfigurationError(
                f"study.development names {quoted(unknown)}, but there are the "
                f"subjects {quoted(subjects)}."
            )
        return tuple(name for name in subjects if name in wanted)
    number = wanted or max(len(subjects) // 2, 2)
    if not 2 <= number < len(subjects):
        raise ConfigurationError(
            f"study.development is {number}; expected at least 2 subjects to choose "
            f"and at least one more to be tested, of {len(subjects)}. With so few, "
            f"use --select per-fold."
        )
    generator = np.random.default_rng(derive_seed(settings.seed, "development"))
    drawn = {subjects[place] for place in generator.permutation(len(subjects))[:number]}
    return tuple(name for name in subjects if name in drawn)


def _subjects(planned: Plan) -> list[str]:
    """Return all subjects' names, in order."""
    return list(dict.fromkeys(planned.inputs.windows["subject"].astype(str)))


def _tests(planned: Plan, fold: Fold) -> set[str]:
    """Return the subjects that a fold tests."""
    windows = planned.inputs.windows
    return set(windows["subject"].iloc[fold.test].astype(str))
