"""Adapted networks as a scikit-learn classifier, beside skada's estimators.

Examples
--------
>>> from domainemo.sklearn import AdaptedClassifier
>>> model = AdaptedClassifier(adapter="dann", epochs=10)
>>> model.fit(X, y, sample_domain=sample_domain)  # y is -1 where the domain is negative
>>> model.predict(X_target)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    assert_all_finite,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from .core import TRIAL, EmotionData, Inputs, Modality
from .data.table import from_arrays
from .errors import ConfigurationError, DataError
from .runs.everyone import train
from .runs.experiment import experiment
from .runs.model import Model, load_trained
from .runs.run import check_output, described, trained
from .runs.target import plan_target

__all__ = ["AdaptedClassifier"]

Domains = NDArray[np.int64]
Mask = NDArray[np.bool_]

_UNNAMED = "signal"
"""What the modality of an array is called that nobody has named."""

_MASKS = ("-1", "-1.0")
"""In place of a label that is not known, among numbers or texts; or NaN, or None."""


class _Refused(DataError, ValueError):
    """As this package and scikit-learn's own checks expect it."""


class AdaptedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A network that is adapted to windows without labels, for scikit-learn.

    It is trained by what trains every fold of :func:`domainemo.run`, and `model_` is
    the :class:`domainemo.Model` of it. As in skada, a negative `sample_domain` says
    that a window is the target's, and there the label is masked.

    Parameters
    ----------
    backbone, adapter, validator, normalisation : str, class or object
        As for :func:`domainemo.run`; a backbone is no object. All windows of the target
        are adapted to at once. With the adapter ``"none"``, or another one that needs
        no target, there may be none.
    sampling : str, class or object, optional
        What a sample is made of; the backbone's own by default.
    modalities : mapping of str to Modality or sequence of str, optional
        What each array holds, see :func:`domainemo.from_arrays`. Where `X` is a single
        array of shape (windows, values), they share its columns in this order, the
        features of a channel beside one another.
    epochs, batch_size : int
        How long it is trained, and on how many windows of the source at once.
    random_state : int, RandomState or None
        The seed, or what it is drawn from.
    device : str
        Where it is trained: ``"auto"``, ``"cpu"``, ``"cuda"``.
    options : mapping of str to value, optional
        Of any part and of the training, such as ``{"backbone.width": 8,
        "adapter.weight": 0.3, "training.learning_rate": 0.01}``.

    Attributes
    ----------
    classes_ : ndarray of shape (classes,)
    model_ : Model
    n_features_in_ : int
        Where `X` was an array; ``feature_names_in_`` where it was a table.

    Examples
    --------
    >>> model = AdaptedClassifier(adapter="none").fit(X, y)
    >>> model.predict_proba(X)
    """

    # Also where scikit-learn routes metadata, as skada has it do.
    __metadata_request__fit = {"sample_domain": True}  # noqa: RUF012
    __metadata_request__predict = {"sample_domain": True}  # noqa: RUF012
    __metadata_request__predict_proba = {"sample_domain": True}  # noqa: RUF012
    __metadata_request__score = {"sample_domain": True}  # noqa: RUF012

    def __init__(
        self,
        backbone: Any = "concatenation-mlp",
        adapter: Any = "deep-coral",
        validator: Any = "last",
        *,
        normalisation: Any = "session",
        sampling: Any = None,
        modalities: Mapping[str, Modality | Sequence[str]] | None = None,
        epochs: int = 20,
        batch_size: int = 32,
        random_state: int | np.random.RandomState | None = 0,
        device: str = "auto",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.backbone = backbone
        self.adapter = adapter
        self.validator = validator
        self.normalisation = normalisation
        self.sampling = sampling
        self.modalities = modalities
        self.epochs = epochs
        self.batch_size = batch_size
        self.random_state = random_state
        self.device = device
        self.options = options

    def fit(
        self,
        X: ArrayLike | Mapping[str, ArrayLike] | Inputs,
        y: ArrayLike,
        sample_domain: ArrayLike | None = None,
    ) -> Self:
        """Train on the source's windows and adapt to the target's.

        Parameters
        ----------
        X : array of shape (windows, values) or (windows, channels, features), mapping \
of str to array, or Inputs
            Of a mapping, one array per modality. NaN where a sensor lost a value. Of
            arrays, every window is a trial of its own, and a domain is one person;
            `Inputs` know their people, sessions and trials themselves.
        y : array of shape (windows,)
            Classes. Of the target's windows -1, or else NaN or None: labels of a target
            are refused.
        sample_domain : array of int, shape (windows,), optional
            From which domain each window is: from 0 on of the source, below 0 of the
            target. Without it, all windows are of one source domain.

        Returns
        -------
        AdaptedClassifier
            Itself.

        Raises
        ------
        ConfigurationError
            For a choice that does not fit, such as an adapter to a target where there
            is no target.
        DataError
            If a target's label is there, or a source's is not, and for recordings that
            nothing can be learnt from.
        """
        inputs, domains = self._recordings(X, sample_domain, reset=True)
        source = domains >= 0
        labels = _source_labels(y, source)
        _check_apart(inputs, source)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise _Refused(
                f"The source has 1 class, {self.classes_[0]}; expected at least two "
                f"classes to tell apart. Give windows of others, too."
            )
        names = tuple(map(str, self.classes_))
        known = EmotionData(inputs.take(np.flatnonzero(source)), codes, names)
        choices = self._choices()
        if source.all():
            _check_needs_no_target(choices)
            self.model_ = train(known, **choices)
        else:
            target = inputs.take(np.flatnonzero(~source))
            self.model_ = _adapted(known, target, choices)
        self._remember(inputs, domains)
        return self

    def predict_proba(
        self,
        X: ArrayLike | Mapping[str, ArrayLike] | Inputs,
        sample_domain: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """Return the probabilities of the classes.

        Where values are scaled by their own domain, as they are by default, those of a
        domain that `fit` saw are scaled as they were there, each window by itself;
        those of other domains by the windows that are handed over together.

        Parameters
        ----------
        X : array, mapping of str to array, or Inputs
            As for `fit`.
        sample_domain : array of int, shape (windows,), optional
            From which domain each window of arrays is, as in `fit`; the sign does not
            matter unless `fit` had both. Without it, the target, or else the source,
            if `fit` saw one domain of it; otherwise somebody whom it did not see.

        Returns
        -------
        ndarray of float, shape (windows, classes)
            In the order of `classes_`.

        Raises
        ------
        DataError
            If the windows do not fit those that it was trained on, or one window alone
            of a domain that `fit` did not see cannot be scaled.
        """
        check_is_fitted(self)
        inputs, _ = self._recordings(X, sample_domain, reset=False)
        by = self.model_.experiment.build_normalisation().by
        found = np.zeros((len(inputs), len(self.classes_)))
        if self._seen is None:
            return self._filled(found, inputs, np.arange(len(inputs)), None)
        inputs = _by_group(inputs, by)
        groups = inputs.windows["subject"]
        seen = groups.isin(set(self._seen.windows["subject"])).to_numpy()
        _check_scalable(groups[~seen])
        for rows, scaled_by in ((seen, self._seen), (~seen, "own")):
            if rows.any():
                self._filled(found, inputs, np.flatnonzero(rows), scaled_by)
        return found

    def predict(
        self,
        X: ArrayLike | Mapping[str, ArrayLike] | Inputs,
        sample_domain: ArrayLike | None = None,
    ) -> NDArray[Any]:
        """Return the most probable class of every window.

        Parameters
        ----------
        X, sample_domain
            As for `predict_proba`.

        Returns
        -------
        ndarray of shape (windows,)
        """
        probabilities = self.predict_proba(X, sample_domain)
        classes: NDArray[Any] = self.classes_[probabilities.argmax(1)]
        return classes

    def score(
        self,
        X: ArrayLike | Mapping[str, ArrayLike] | Inputs,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        sample_domain: ArrayLike | None = None,
    ) -> float:
        """Return the accuracy.

        Parameters
        ----------
        X, sample_domain
            As for `predict_proba`.
        y : array of shape (windows,)
            The classes; a test has all of them.
        sample_weight : array of shape (windows,), optional

        Returns
        -------
        float

        Raises
        ------
        DataError
            If labels are masked.
        """
        predicted = self.predict(X, sample_domain)
        truth = column_or_1d(y, warn=True)
        masked = _is_masked(truth) & ~np.isin(
            truth.astype(str), self.classes_.astype(str)
        )
        if masked.any():
            raise _Refused(
                f"y has {masked.sum()} masked labels among {len(truth)}, which nothing "
                f"can be scored by; expected a class for every window. Leave those "
                f"windows out."
            )
        return float(accuracy_score(truth, predicted, sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Tags:
        """Tell scikit-learn what may be given."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.three_d_array = True
        tags.input_tags.dict = True
        return tags

    def _choices(self) -> dict[str, Any]:
        """Return what is chosen, as `domainemo.run` takes it."""
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(np.iinfo(np.int32).max)
        return {
            "backbone": self.backbone,
            "adapter": self.adapter,
            "validator": self.validator,
            "normalisation": self.normalisation,
            "sampling": self.sampling,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "seeds": (int(seed),),
            "device": self.device,
            "options": self.options,
        }

    def _recordings(
        self, X: Any, sample_domain: ArrayLike | None, *, reset: bool
    ) -> tuple[Inputs, Domains]:
        """Return windows as recordings, and which domain each is from."""
        if isinstance(X, EmotionData):
            raise _Refused(
                "X is an EmotionData, which holds labels; expected its `inputs`, with "
                "the labels as y: fit(data.inputs, data.labels)."
            )
        if isinstance(X, Inputs):
            return X, _checked_domains(sample_domain, len(X), 0)
        signals = X
        if not isinstance(X, Mapping) or issparse(X):
            finite = {"ensure_all_finite": "allow-nan", "allow_nd": True}
            signals = self._divided(validate_data(self, X, reset=reset, **finite))
        number = len(np.atleast_1d(next(iter(signals.values()), ())))
        default = 0 if reset else self._default
        domains = _checked_domains(sample_domain, number, default)
        inputs = from_arrays(
            signals,
            None,
            subject=domains if reset else self._as_seen(domains),
            trial=np.arange(number),
            modalities=self.modalities,
            name="X",
        )
        return inputs, domains

    def _divided(self, array: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return an array's columns by the modality that they are of."""
        described = self.modalities or {}
        if array.ndim > 2 or not described:
            return {next(iter(described), _UNNAMED): array}
        shapes = {name: _shape(each) for name, each in described.items()}
        ends = np.cumsum([np.prod(shape) for shape in shapes.values()])
        if ends[-1] != array.shape[1]:
            wanted = ", ".join(
                f"{name}: {channels} x {features}"
                for name, (channels, features) in shapes.items()
            )
            raise _Refused(
                f"X has {array.shape[1]} columns, and its modalities have {ends[-1]} "
                f"({wanted}); expected a column for every feature of every channel. "
                f"Give X as a mapping of modalities, or correct `modalities`."
            )
        parts = np.split(array, ends[:-1], axis=1)
        return {
            name: part.reshape(len(array), *shape)
            for (name, shape), part in zip(shapes.items(), parts, strict=True)
        }

    def _remember(self, inputs: Inputs, domains: Domains) -> None:
        """Keep what later windows are scaled by, and whose they are by default."""
        of_target, everything = np.unique(domains[domains < 0]), np.unique(domains)
        only = of_target if len(of_target) else everything
        self._known = everything
        # Of several, a window without a domain is nobody's that was seen.
        new = int(everything.max()) + 1
        self._default = int(only[0]) if len(only) == 1 else new
        by = self.model_.experiment.build_normalisation().by
        self._seen = None
        if by in ("session", "subject"):
            grouped = _by_group(inputs, by)
            groups = grouped.windows["subject"]
            # What is in both was scaled by the target's own, and that is predicted.
            target = domains < 0
            kept = target | ~groups.isin(set(groups[target])).to_numpy()
            self._seen = grouped.take(np.flatnonzero(kept))

    def _as_seen(self, domains: Domains) -> Domains:
        """Return domains with the sign under which they were seen."""
        other = ~np.isin(domains, self._known) & np.isin(-domains, self._known)
        return np.where(other, -domains, domains)

    def _filled(
        self,
        found: NDArray[np.float64],
        inputs: Inputs,
        rows: NDArray[np.int64],
        normalise_by: str | Inputs | None,
    ) -> NDArray[np.float64]:
        """Fill in the probabilities of some windows: the mean over their samples."""
        members, each = self.model_.probabilities(inputs.take(rows), normalise_by)
        there = members >= 0
        total = np.zeros((len(rows), each.shape[1]))
        np.add.at(total, members[there], np.repeat(each, there.sum(1), axis=0))
        left_out = len(rows) - len(np.unique(members[there]))
        if left_out:
            raise _Refused(
                f"{left_out} of {len(rows)} windows are in no sample, so that nothing "
                f"is predicted for them; expected a sampling that takes every window, "
                f"such as sampling='windows'."
            )
        found[rows] = total / total.sum(1, keepdims=True)
        return found


def _adapted(source: EmotionData, target: Inputs, choices: dict[str, Any]) -> Model:
    """Return the model of a source that is adapted to a target, all at once."""
    chosen = experiment(
        **choices | {"options": {**_options(choices), "protocol.together": True}},
        protocol="newcomers",
        baselines=False,
    )
    planned = plan_target(source, target, chosen)
    description = described(f"{source.inputs.name}; {planned.target}", chosen)
    with (
        check_output(None) as folder,
        trained(planned, Path(folder), description, plugins=chosen.plugins) as jobs,
    ):
        (job,) = jobs
        return load_trained(Path(job.folder), planned.experiment)


def _options(choices: Mapping[str, Any]) -> dict[str, Any]:
    return dict(choices["options"] or {})


def _check_needs_no_target(choices: dict[str, Any]) -> None:
    """Refuse an adapter to windows that are not there."""
    chosen = experiment(**choices, baselines=False).adapter
    adapter = chosen.build()
    if adapter.needs_target or adapter.settles:
        raise ConfigurationError(
            f"The adapter {chosen.name!r} adapts to a target, and `fit` was given "
            f"none; expected windows of a negative sample_domain, their labels masked "
            f"by -1. Give them, or train with adapter='none'. What `predict` is handed "
            f"later changes no network."
        )


def _checked_domains(
    sample_domain: ArrayLike | None, number: int, default: int
) -> Domains:
    """Return the domain of every window."""
    if sample_domain is None:
        return np.full(number, default)
    found = np.asarray(sample_domain)
    if found.ndim == 0:
        found = np.full(number, found)
    if found.dtype.kind not in "iu" or found.shape != (number,):
        raise _Refused(
            f"sample_domain has the type {found.dtype} and the shape {found.shape}; "
            f"expected whole numbers, one for each of {number} windows: from 0 on for "
            f"the source, below 0 for the target."
        )
    return found.astype(np.int64)


def _source_labels(y: ArrayLike, source: Mask) -> NDArray[Any]:
    """Return the source's labels; refuse any of the target's."""
    if y is None:
        raise _Refused(
            "AdaptedClassifier requires y to be passed, but the target y is None."
        )
    labels = column_or_1d(y, warn=True)
    check_consistent_length(source, labels)
    if not source.any():
        raise _Refused(
            "All windows are of the target, as every sample_domain is below 0; "
            "expected some of the source, from 0 on, whose labels are known."
        )
    if not source.all():
        _check_masks(_is_masked(labels), source)
    known: NDArray[Any] = labels[source]
    if known.dtype == object and all(isinstance(each, bool) for each in known):
        known = known.astype(bool)  # which None among them had made objects
    if known.dtype.kind == "f":
        assert_all_finite(known, input_name="y")
    check_classification_targets(known)
    return known


def _check_masks(masked: Mask, source: Mask) -> None:
    """Refuse labels of the target, and windows of the source without any."""
    told, lost = int((~masked & ~source).sum()), int((masked & source).sum())
    if told:
        raise _Refused(
            f"{told} of {(~source).sum()} windows of the target (sample_domain below "
            f"0) have a label in y; expected -1 in its place, or NaN or None, as no "
            f"label of a target may reach the training. Mask it in a copy: "
            f"y[sample_domain < 0] = -1."
        )
    if lost:
        raise _Refused(
            f"{lost} of {source.sum()} windows of the source (sample_domain from 0 on) "
            f"have no label in y, but -1 or NaN; expected the class of each. Leave "
            f"these windows out, or call their classes otherwise."
        )


def _is_masked(labels: NDArray[Any]) -> Mask:
    found: Mask = pd.isna(labels) | np.isin(labels.astype(str), _MASKS)
    return found


def _check_apart(inputs: Inputs, source: Mask) -> None:
    """Refuse a trial of which a part trains: its label would be the other part's."""
    trials = inputs.windows.groupby(TRIAL).ngroup().to_numpy()
    if np.isin(trials[source], trials[~source]).any():
        raise _Refused(
            f"{inputs.name}: some windows of a trial are the source's and others the "
            f"target's, as sample_domain says; expected whole trials, as the label of "
            f"a window is its trial's."
        )


def _by_group(inputs: Inputs, by: str) -> Inputs:
    """Return recordings in which whoever is scaled together is one subject."""
    windows = inputs.windows
    groups = windows["subject"].astype(str)
    if by == "session":
        groups += ", session " + windows["session"].astype(str)
    grouped = windows.assign(subject=groups)
    return replace(inputs, windows=grouped)


def _check_scalable(groups: pd.Series[Any]) -> None:
    """Refuse a single window of somebody new, who is scaled by nothing else."""
    alone = ~groups.duplicated(keep=False)
    if alone.any():
        raise _Refused(
            f"A single window was given of {alone.sum()} that `fit` did not see "
            f"(subject {groups[alone].iloc[0]}), and scaled by itself nothing is left "
            f"of it; expected several windows of the same. Give them together, name "
            f"the domain that `fit` saw with sample_domain, or fit with "
            f"normalisation='source'."
        )


def _shape(described: Modality | Sequence[str]) -> tuple[int, int]:
    """Return how many channels and features a modality has."""
    if isinstance(described, Modality):
        return len(described.channels), len(described.features)
    return len(described), 1
