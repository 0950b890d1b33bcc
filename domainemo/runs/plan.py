"""Plan a run: what is checked, and laid out, before anything is trained."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ..adapters.branches import Branches, levels
from ..core import (
    TRIAL,
    Adapter,
    Backbone,
    EmotionData,
    Fold,
    Inputs,
    Modality,
    Outputs,
    Rows,
    Sampling,
)
from ..data.given import expect_labelled
from ..data.labels import check_trials
from ..errors import ConfigurationError, DataError, DomainemoError
from ..parts import Part
from ..places import naming_parts
from ..training.compiled import check_compiler
from ..training.loop import descend
from ..training.model import Network, nothing
from ..training.seeds import reproducible
from ..values import option_types
from ..words import first_few, in_order
from .calibration import give_labels
from .checks import check_asked_trials, check_divided_samples, choose, prepare
from .controls import control_name, retraining
from .experiment import Experiment, Setup, use_of
from .folder import fingerprint, job_folder
from .folds import chosen_folds, fit_folds, lay_out_folds
from .initialisation import check_initialisation
from .job import HOLD_NOTHING_OUT, Job, holds_out, lone_class
from .leaks import check_leaks
from .seeds import source_seed

__all__ = [
    "Plan",
    "build_network",
    "build_once",
    "held_out",
    "labelled_rows",
    "missing_share",
    "plan",
    "subjects_without_fold",
]


@dataclass(frozen=True)
class Plan:
    """Recordings and folds that have been checked, and what will be run on them.

    Attributes
    ----------
    inputs : Inputs
        In canonical order, with the chosen modalities only.
    labels : ndarray of int, shape (windows,)
    classes : tuple of str
    experiment : Experiment
    folds : list of Fold
    sampling : Sampling
        What was asked for, or else the backbone's own.
    skipped : mapping of str to str
        Why folds are not run that the protocol was told to skip, by their names; and of
        subjects, where nobody was left out on purpose, that have none.
    shown : DataFrame or None
        Where windows come from as tables say it, where `inputs` calls people otherwise.
    target : str
        The name of recordings without labels that are adapted to.
    waived : mapping of str to str
        What was found of each kind of leak that is waived, by its name.
    task : mapping of str to str
        What results say of the channels and classes that were chosen, by column.
    """

    inputs: Inputs
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    experiment: Experiment
    folds: list[Fold]
    sampling: Sampling
    skipped: Mapping[str, str] = field(default_factory=dict)
    shown: pd.DataFrame | None = None
    target: str = ""
    waived: Mapping[str, str] = field(default_factory=dict)
    task: Mapping[str, str] = field(default_factory=dict)

    @property
    def windows(self) -> pd.DataFrame:
        """Where each window comes from, as tables say it."""
        return self.inputs.windows if self.shown is None else self.shown

    @property
    def scored(self) -> bool:
        """Whether the labels of what is tested are known."""
        return bool(self.experiment.protocol.build().scored)

    def fingerprint(self) -> str:
        """Return a hash of the recordings and their labels."""
        found = fingerprint(self.inputs, self.labels, self.classes)
        if self.shown is None:
            return found
        names = self.shown.to_csv(index=False, lineterminator="\n")
        return sha256(f"{found} {names}".encode()).hexdigest()

    def jobs(self, folder: Path) -> list[Job]:
        """Return the training jobs: fold x seed x adapter."""
        return [
            self.job(folder, fold, seed, each)
            for seed in self.experiment.seeds
            for fold in self.folds
            for each in self.experiment.trained
            # What is no network has no random start: one seed says it all.
            if each.kind == "adapter"
            or retraining(each) is not None
            or seed == self.experiment.seeds[0]
        ]

    def labelled(self, fold: Fold, seed: int) -> Rows:
        """Return the windows whose labels may be used.

        Of the source, then all of calibration and of validation.
        """
        share = self.experiment.training.label_share
        source = labelled_rows(self.inputs.windows, self.labels, fold, share, seed)
        return np.append(source, fold.given)

    def job(self, folder: Path, fold: Fold, seed: int, chosen: Part) -> Job:
        """Return the job of an adapter or a control.

        Of target labels, it has calibration's alone.
        """
        labelled, start = self.labelled(fold, seed), self.experiment.init_from
        control = chosen if chosen.kind == "control" else None
        adapter = chosen if control is None else None
        if retraining(control) is not None:
            adapter = self.experiment.adapter
        method = control_name(control) if control else chosen.name
        return Job(
            fold=fold,
            labelled=labelled,
            source_labels=self.labels[labelled],
            classes=self.classes,
            adapter=adapter,
            control=control,
            seed=seed,
            folder=str(job_folder(folder, fold.name, seed, method)),
            start=str(start.weights(fold.name, seed)) if start and adapter else None,
            keeps_model=control is None,
            calibration_use=use_of(self.experiment),
        )


def plan(data: EmotionData, chosen: Experiment) -> Plan:
    """Check recordings against an experiment and lay out its folds.

    Raises
    ------
    ConfigurationError, DataError
        For anything that would fail later.
    """
    data = expect_labelled(data, "the recordings")
    if not chosen.protocol.build().scored:
        raise ConfigurationError(
            f"The protocol {chosen.protocol.name!r} tests nobody whose labels are "
            f"known, so that there is nothing to score. `domainemo adapt --target` "
            f"(domainemo.adapt) adapts to people without labels, `domainemo train` "
            f"(domainemo.train) trains on everybody; `domainemo list protocols` shows "
            f"the others."
        )
    data, task = choose(data, chosen)
    inputs, rows = prepare(data.inputs, chosen)
    laid_out = lay_out_folds(inputs, chosen)
    folds = chosen_folds(laid_out, chosen.folds)
    data = replace(data, inputs=inputs, labels=data.labels[rows])
    check_trials(data)
    folds, short = give_labels(data, folds, chosen)
    folds, unfit = fit_folds(data, folds, chosen)
    protocol, waive = chosen.protocol.build(), chosen.more["waive"]
    waived = check_leaks(protocol, inputs, folds, waive)
    backbone = build_network(inputs, len(data.classes), chosen)
    if chosen.init_from is not None:
        described, weights = chosen.describe(), backbone.state_dict()
        check_initialisation(chosen.init_from, described, inputs, folds, weights)
    made = inputs, data.labels, data.classes, chosen, folds, backbone.sampling
    # Who is only to train was chosen so; of sessions, everybody was to be tested.
    alone = {
        f"subject {name}": "no fold tests it, as it lacks another session"
        for name in untested(inputs, laid_out)
        if protocol.domain == "session"
    }
    skipped = alone | short | unfit
    return held_out(Plan(*made, skipped=skipped, waived=waived, task=task))


def held_out(planned: Plan) -> Plan:
    """Return a plan of the folds whose source can be divided, where it must be.

    Parameters
    ----------
    planned : Plan

    Raises
    ------
    DataError
        If there are others, and the protocol skips none; or if there are no others.
    """
    chosen, windows = planned.experiment, planned.inputs.windows
    validator = None if chosen.validator is None else chosen.validator.build()
    adapters = [each.build() for each in chosen.trained if each.kind == "adapter"]
    if not any(holds_out(chosen.training, validator, each) for each in adapters):
        return planned
    # A share of labels is drawn by the seed; all of them are the same for every one.
    seeds = chosen.seeds[:1] if chosen.training.label_share == 1 else chosen.seeds
    found: dict[str, str] = {}
    for fold, seed in itertools.product(planned.folds, seeds):
        job = planned.job(Path(), fold, seed, chosen.adapter)
        why = lone_class(windows, chosen, job)
        if why is not None:
            found.setdefault(fold.name, why)
    kept = [fold for fold in planned.folds if fold.name not in found]
    if not found or (kept and chosen.protocol.build().unfit == "skip"):
        return replace(planned, folds=kept, skipped={**planned.skipped, **found})
    shown = first_few([f"fold {name!r}: {why}" for name, why in found.items()], 2)
    skippable = kept and "unfit" in chosen.protocol.describe()
    skip = " Or skip such folds (--set protocol.unfit=skip)." if skippable else ""
    raise DataError(f"{planned.inputs.name}: {shown}. {HOLD_NOTHING_OUT}{skip}")


def build_network(inputs: Inputs, classes: int, chosen: Experiment) -> Backbone:
    """Build the network once, and try what adapters do to a trained one.

    Raises
    ------
    ConfigurationError
        If an option does not fit, or an adapter can do nothing to such a network, or
        it or the samples tell of trials that the labels divided; or steps are to be
        compiled where there is no compiler.
    """
    modalities = inputs.modalities

    def complete(backbone: Backbone) -> None:
        check_divided_samples(backbone.sampling, inputs)
        network = Network(backbone, modalities, classes)
        for each in chosen.trained:
            adapter = each.build() if each.kind == "adapter" else None
            if adapter is None:
                continue
            check_asked_trials(adapter, each.name, inputs)
            _check_branches(adapter, network)
            if adapter.settles:
                adapter.prepare(network.dims, classes, 1)
                adapter.settle(network.eval(), [nothing(modalities)], descend)

    if chosen.training.compile:
        check_compiler()
    with reproducible(chosen.training.threads):
        return build_once(modalities, chosen, complete)


def _check_branches(adapter: Adapter, network: Network) -> None:
    """Raise :class:`ConfigurationError` where a loss has no branch to work on."""
    there = Outputs({}, dict.fromkeys(network.dims, torch.empty(0)))
    for term in adapter.modules():
        chosen: Any = getattr(term, "branches", None)
        if chosen is None or option_types(type(term)).get("branches") != Branches:
            continue
        if not levels(there, chosen):
            raise ConfigurationError(
                f"{type(term).__name__} works on the branches {chosen!r}, and "
                f"the network has none of these; expected 'all', or some of "
                f"{', '.join(map(repr, network.dims))}. Choose others with the option "
                f"'branches'."
            )


def build_once(
    modalities: Mapping[str, Modality],
    chosen: Setup,
    complete: Callable[[Backbone], object],
) -> Backbone:
    """Build the network once, so that an option it cannot take is told at once.

    Parameters
    ----------
    modalities : mapping of str to Modality
    chosen : Setup
    complete : callable
        Builds what stands on the backbone.
    """
    try:
        with naming_parts():
            backbone = chosen.build_backbone(modalities)
            complete(backbone)
    except DomainemoError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"The backbone {chosen.backbone.name!r} could not be built for "
            f"{', '.join(modalities)}: {type(error).__name__}: {error}. Check "
            f"its options."
        ) from error
    return backbone


def missing_share(inputs: Inputs) -> dict[str, float]:
    """Return the share of windows that each modality's sensor lost."""
    return {
        name: float(np.isnan(array).all(axis=(1, 2)).mean())
        for name, array in inputs.signals.items()
    }


def subjects_without_fold(planned: Plan) -> list[Any]:
    """Return the subjects that no fold tests, and of whom nothing else is said."""
    found = untested(planned.inputs, planned.folds)
    return [name for name in found if f"subject {name}" not in planned.skipped]


def untested(inputs: Inputs, folds: Iterable[Fold]) -> list[Any]:
    """Return the subjects that no fold tests."""
    subjects = inputs.windows["subject"]
    tested = {name for fold in folds for name in subjects.iloc[fold.test]}
    return in_order(set(subjects) - tested)


def labelled_rows(
    windows: pd.DataFrame,
    known: NDArray[np.int64],
    fold: Fold,
    share: float,
    seed: int,
) -> Rows:
    """Return the windows of a fold's source whose labels may be used.

    Whole trials are drawn, of every class that share of its trials and at least one.
    Trials are drawn in one random order, so that a larger share holds the smaller
    one's trials. Nothing but the source's own labels is looked at.

    Parameters
    ----------
    windows : DataFrame
        Provenance of all windows.
    known : ndarray of int, shape (windows,)
        Their labels.
    fold : Fold
    share : float
        Above 0, up to 1, which takes all.
    seed : int
    """
    if share == 1:
        return fold.source
    sources = windows.iloc[fold.source]
    trials = sources.groupby(TRIAL, sort=True).ngroup()
    labels = known[fold.source]
    its_own = source_seed(seed, windows, fold, "labelled")
    generator = np.random.default_rng(its_own)
    kept = np.zeros(len(fold.source), dtype=bool)
    for label in np.unique(labels):
        theirs = np.unique(trials.to_numpy()[labels == label])
        count = max(round(share * len(theirs)), 1)
        drawn = generator.permutation(theirs)[:count]
        kept |= np.isin(trials, drawn) & (labels == label)
    return fold.source[kept]
