"""Plan a run: what is checked, and laid out, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    OPTIONAL,
    Adapter,
    Backbone,
    EmotionData,
    Fold,
    Inputs,
    Outputs,
    Rows,
    Sampling,
)
from ..data.given import expect_labelled
from ..data.labels import check_trials
from ..data.normalisation import check_enough, check_visible
from ..errors import ConfigurationError, DomainemoError, did_you_mean
from ..parts import Part
from ..places import naming_parts
from ..training.loop import descend
from ..training.model import Network, nothing
from ..training.seeds import reproducible
from ..values import option_types
from ..words import in_order
from .calibration import (
    calibrated,
    check_given,
    check_use,
    trials_per_class,
)
from .checks import (
    canonical,
    check_classes,
    check_modalities,
    check_signals,
    folds_of,
    kept_rows,
    select_modalities,
    unfit_folds,
)
from .controls import control_name, retraining
from .experiment import Experiment, Setup, use_of
from .folder import fingerprint, job_folder
from .initialisation import check_initialisation
from .job import Job
from .leaks import check_leaks
from .seeds import source_seed

__all__ = [
    "Plan",
    "build_network",
    "build_once",
    "check_normalisable",
    "labelled_rows",
    "chosen_folds",
    "fit_folds",
    "missing_share",
    "ordered",
    "plan",
    "prepare",
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
        Why folds are not run that the protocol was told to skip, by their names.
    shown : DataFrame or None
        Where windows come from as tables say it, where `inputs` calls people otherwise.
    target : str
        The name of recordings without labels that are adapted to.
    waived : mapping of str to str
        What was found of each kind of leak that is waived, by its name.
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
        names = self.shown.to_csv(index=False)
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
        source = labelled_rows(self.inputs, self.labels, fold, share, seed)
        return np.concatenate([source, *(fold.parts[name] for name in OPTIONAL)])

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
    rows, folds = prepare(data.inputs, chosen)
    folds = chosen_folds(folds, chosen.folds)
    inputs = select_modalities(data.inputs, chosen.modalities, chosen.exclude)
    data = replace(data, inputs=inputs).take(rows)
    check_trials(data)
    folds, skipped = fit_folds(data, folds, chosen)
    protocol, waive = chosen.protocol.build(), chosen.more["waive"]
    waived = check_leaks(protocol, data.inputs, folds, waive)
    if chosen.init_from is not None:
        check_initialisation(chosen.init_from, chosen.describe(), data.inputs, folds)
    classes = len(data.classes)
    backbone = build_network(data.inputs, classes, chosen)
    made = data.inputs, data.labels, data.classes
    return Plan(*made, chosen, folds, backbone.sampling, skipped, waived=waived)


def fit_folds(
    data: EmotionData, folds: list[Fold], chosen: Experiment
) -> tuple[list[Fold], dict[str, str]]:
    """Give folds their calibration, and return those that can be trained and scored.

    Parameters
    ----------
    data : EmotionData
        In canonical order, with one label a trial.
    folds : list of Fold
        As the protocol made them.
    chosen : Experiment

    Returns
    -------
    folds : list of Fold
    skipped : dict of str to str
        Why others are not run, by their names, where the protocol skips them.

    Raises
    ------
    DataError
        If there are others, and the protocol skips none; or if there are no others.
    """
    unfit = chosen.protocol.build().unfit
    skips = unfit == "skip"
    wanted = trials_per_class(chosen)
    folds, short = calibrated(data, folds, wanted, chosen.seeds[0])
    if not short:
        check_use(chosen, folds)
    if not (skips and folds):
        check_given(short, data.inputs.name)
    skipped = unfit_folds(data, folds) if skips else {}
    if len(skipped) < len(folds):
        folds = [fold for fold in folds if fold.name not in skipped]
    skippable = "unfit" in chosen.protocol.describe()
    check_classes(data, folds, skippable, together=unfit == "keep")
    return folds, short | skipped


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
    rows = ordered(inputs, chosen.exclude)
    inputs = inputs.take(rows)
    check_modalities(inputs)
    check_signals(inputs)
    folds = folds_of(chosen.protocol.build(), inputs)
    check_normalisable(inputs, folds, chosen)
    return rows, folds


def check_normalisable(inputs: Inputs, folds: Sequence[Fold], chosen: Setup) -> None:
    """Refuse folds of which a normalisation would leave nothing.

    Raises
    ------
    DataError
    """
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


def ordered(inputs: Inputs, exclude: Sequence[str] = ()) -> Rows:
    """Return the windows that are used, in canonical order.

    Parameters
    ----------
    inputs : Inputs
    exclude : sequence of str
        Subjects to leave out.
    """
    kept = kept_rows(inputs, exclude)
    bare = replace(inputs, signals={}, modalities={})
    rows: Rows = kept[canonical(bare.take(kept))]
    return rows


def _visible(inputs: Inputs, fold: Fold) -> NDArray[np.bool_]:
    """Return which windows a fold's training may see."""
    visible = np.zeros(len(inputs), dtype=bool)
    visible[fold.source] = visible[fold.seen] = True
    return visible


def chosen_folds(folds: list[Fold], wanted: Sequence[str]) -> list[Fold]:
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


def build_network(inputs: Inputs, classes: int, chosen: Experiment) -> Backbone:
    """Build the network once, and try what adapters do to a trained one.

    Raises
    ------
    ConfigurationError
        If an option does not fit, or an adapter can do nothing to such a network.
    """

    def complete(backbone: Backbone) -> None:
        network = Network(backbone, inputs.modalities, classes)
        for each in chosen.trained:
            adapter = each.build() if each.kind == "adapter" else None
            if adapter is None:
                continue
            _check_branches(adapter, network)
            if adapter.settles:
                adapter.prepare(network.dims, classes, 1)
                adapter.settle(network.eval(), [nothing(inputs.modalities)], descend)

    with reproducible(chosen.training.threads):
        return build_once(inputs, chosen, complete)


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
        with naming_parts():
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


def missing_share(inputs: Inputs) -> dict[str, float]:
    """Return the share of windows that each modality's sensor lost."""
    return {
        name: float(np.isnan(array).all(axis=(1, 2)).mean())
        for name, array in inputs.signals.items()
    }


def subjects_without_fold(planned: Plan) -> list[Any]:
    """Return the subjects that no fold tests."""
    windows = planned.inputs.windows
    tested = {s for fold in planned.folds for s in windows["subject"].iloc[fold.test]}
    return in_order(set(windows["subject"]) - tested)


def labelled_rows(
    inputs: Inputs, known: NDArray[np.int64], fold: Fold, share: float, seed: int
) -> Rows:
    """Return the windows of a fold's source whose labels may be used.

    Whole trials are drawn, of every class that share of its trials and at least one.
    Trials are drawn in one random order, so that a larger share holds the smaller
    one's trials. Nothing but the source's own labels is looked at.

    Parameters
    ----------
    inputs : Inputs
    known : ndarray of int, shape (windows,)
        Their labels.
    fold : Fold
    share : float
        Above 0, up to 1, which takes all.
    seed : int
    """
    if share == 1:
        return fold.source
    windows = inputs.windows.iloc[fold.source]
    trials = windows.groupby(["subject", "session", "trial"], sort=True).ngroup()
    labels = known[fold.source]
    its_own = source_seed(seed, inputs.windows, fold, "labelled")
    generator = np.random.default_rng(its_own)
    kept = np.zeros(len(fold.source), dtype=bool)
    for label in np.unique(labels):
        theirs = np.unique(trials.to_numpy()[labels == label])
        count = max(round(share * len(theirs)), 1)
        drawn = generator.permutation(theirs)[:count]
        kept |= np.isin(trials, drawn) & (labels == label)
    return fold.source[kept]
