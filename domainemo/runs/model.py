"""Apply a trained fold to a recording that has no labels."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from .. import files
from ..adapters.composite import Composite
from ..core import Adapter, EmotionData, Inputs, Modality, Rows
from ..data.files.limits import parse_json
from ..data.given import expect_inputs
from ..data.matching import match
from ..data.normalisation import (
    Learned,
    Scale,
    check_enough,
    normalise,
    scales_of,
)
from ..data.units import warn_of_distance
from ..errors import ConfigurationError, DataError, DomainemoWarning, data_error
from ..parts import Part, part
from ..registry import UnknownPart, entries, loading
from ..training.batches import Samples, sample
from ..training.fit import predict, settle
from ..training.model import Network, load_state
from ..training.seeds import derive_seed, reproducible
from ..values import given_path
from ..words import first_few
from .checks import canonical, check_divided_samples, check_signals
from .experiment import Experiment, experiment_of
from .folder import (
    ENVIRONMENT,
    NO_CODE,
    check_job,
    identity,
    is_finished_name,
    read_json,
    read_stored_config,
)
from .initialisation import load_weights
from .record import FACTS, MODEL, MODEL_WEIGHTS, RECORDED

__all__ = [
    "Model",
    "find_all_trained",
    "find_trained",
    "load_trained",
]


@dataclass(frozen=True)
class Model:
    """A trained fold.

    Attributes
    ----------
    network : Network
    adapter : Adapter
        What shapes the network's prediction, or leaves it as it is.
    experiment : Experiment
    modalities : dict of str to Modality
    classes : tuple of str
    scales : dict of str to Scale
        The source's scale as the network saw it, after normalisation per group.
    raw_scales : dict of str to Scale
        The source's scale as it was recorded; empty in folders of earlier versions.
    learned : dict of str to mapping
        What the normalisation learned from the source as it was recorded, likewise.
    step : float or None
        Seconds from a window to the next, where that is known.
    temperature : float
        What the logits are divided by.
    """

    network: Network
    adapter: Adapter
    experiment: Experiment
    modalities: dict[str, Modality]
    classes: tuple[str, ...]
    scales: dict[str, Scale]
    raw_scales: dict[str, Scale] = field(default_factory=dict)
    learned: dict[str, Learned] = field(default_factory=dict)
    step: float | None = None
    temperature: float = 1.0

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        fold: str | None = None,
        adapter: str | None = None,
        seed: int | None = None,
    ) -> Model:
        """Read a model from the folder of a run.

        Parameters
        ----------
        folder : path
            Of `domainemo train`, or of a finished `adapt`.
        fold, adapter, seed
            Which of several models.

        Raises
        ------
        ConfigurationError
            If none fits, or several do, or a part comes from a plug-in that has not
            been imported.
        DataError
            If a file is damaged.
        """
        run = given_path("folder", folder)
        stored = read_stored_config(run)
        try:
            chosen = experiment_of(stored)
        except UnknownPart as error:
            lines = "\n".join(loading(stored.get("plugins", ())))
            if not lines:
                raise
            raise ConfigurationError(
                f"{run}: it needs plug-ins that are not imported. {error} If you trust "
                f"them, import them first:\n{lines}"
            ) from error
        found = find_trained(run, fold=fold, adapter=adapter, seed=seed)
        return load_trained(found, chosen)

    def predict(
        self,
        inputs: EmotionData | Inputs,
        normalise_by: str | Inputs | None = None,
        adapt: Any = None,
    ) -> pd.DataFrame:
        """Return a row per sample: provenance, predicted class, probabilities.

        Rows stand in the order in which the samples' first windows are given.

        Modalities, channels and features may come in any order and spelling, and beside
        others; modalities may be missing, for some windows, for a subject or for all,
        and a few electrodes are interpolated (:func:`domainemo.data.matching.match`).

        Parameters
        ----------
        inputs : Inputs
            Labels in an `EmotionData` are not looked at.
        normalise_by : {"own", "source"} or Inputs, optional
            Whose mean and deviation the recording is normalised by: its own, which
            needs several windows that differ; those of the source that the model was
            trained on; or a baseline's, another recording of the same subjects. By
            default as in training: by its own where that was per session or subject,
            else by the source's.
        adapt : str, Adapter or class, optional
            What first changes the network by these recordings alone, without source or
            labels, such as ``"tent"``; the model itself stays as it is.

        Raises
        ------
        ConfigurationError
            If the model was trained without normalisation and one is asked for, or its
            folder does not hold the source's scale; if it predicts several windows at
            once, and labels divided the recording's trials.
        DataError
            If none of the modalities of training is there, or one is there without
            some of the features of training, or of its channels that are not
            interpolated; if a value is infinite; if windows follow one another at
            another distance; if normalisation leaves nothing of the recording; or if
            the baseline lacks a subject or a modality.

        Warns
        -----
        DomainemoWarning
            Naming the modalities that are missing altogether, electrodes that were
            interpolated, units and kinds that are others than in training, a sensor
            whose values are the same in all windows, the number of samples in which
            every modality is missing, what was normalised by few windows, and values as
            of another unit than those they are normalised by.
        """
        members, probabilities = self.probabilities(inputs, normalise_by, adapt)
        as_given = members[:, 0].argsort(kind="stable")
        members, probabilities = members[as_given], probabilities[as_given]
        windows = expect_inputs(inputs, "the recording").windows
        table = windows.iloc[members[:, 0]].reset_index(drop=True)
        columns: dict[str, Any] = {
            "windows": (members >= 0).sum(1),
            "predicted": [self.classes[index] for index in probabilities.argmax(1)],
        }
        columns |= {f"p_{c}": probabilities[:, i] for i, c in enumerate(self.classes)}
        return table.assign(**columns)

    def probabilities(
        self,
        inputs: EmotionData | Inputs,
        normalise_by: str | Inputs | None = None,
        adapt: Any = None,
    ) -> tuple[Rows, NDArray[np.float32]]:
        """Return which windows every sample is made of, and its probabilities.

        Parameters
        ----------
        inputs, normalise_by, adapt
            As for :meth:`predict`, which has errors and warnings, too.

        Returns
        -------
        members : ndarray of int, shape (samples, time)
            Numbers of windows of `inputs`, -1 where padded.
        probabilities : ndarray of float, shape (samples, classes)
        """
        recording = expect_inputs(inputs, "the recording")
        matched = _matched(self, recording)
        order = canonical(matched)
        recording = matched.take(order)
        check_signals(recording, "Interpolate it, or leave the whole modality out.")
        check_divided_samples(self.network.backbone.sampling, recording)
        normalised = _normalised(self, recording, normalise_by)
        everything = np.arange(len(recording))
        with reproducible(self.experiment.training.threads):
            sampling = self.network.backbone.sampling
            device = torch.device("cpu")
            samples, members = sample(normalised, everything, sampling, device)
            _note_empty(recording.name, samples)
            network, adapter = self.network, self.adapter
            if adapt is not None:
                network, adapter = self._settled(adapt, samples)
            probabilities = predict(network, adapter, samples, self.temperature)
        return np.where(members >= 0, order[members], -1), probabilities

    def _settled(self, adapt: Any, samples: Samples) -> tuple[Network, Adapter]:
        """Return a copy of the network that a recording has changed, and what predicts.

        That is the adapter that changed it, if it shapes the prediction at all.
        """
        chosen = adapt if isinstance(adapt, Part) else part("adapter", adapt, {})
        adapter: Adapter = chosen.build()
        if not _needs_no_source(adapter):
            raise ConfigurationError(
                f"The adapter {chosen.name!r} needs the source beside the recording; "
                f"expected one that changes a finished network by the recording alone: "
                f"{', '.join(_settling())}. `domainemo adapt --target` has all others."
            )
        network = copy.deepcopy(self.network)
        adapter.prepare(network.dims, network.classes, 1)
        training, seed = self.experiment.training, derive_seed(0, "settle")
        predicting = adapter.eval() if adapter.shapes_prediction else self.adapter
        how: dict[str, Any] = {"training": training, "seed": seed}
        settle(network, adapter, samples, **how, predicting=predicting)
        return network, predicting


def _needs_no_source(adapter: Adapter) -> bool:
    """Return whether all of an adapter changes a network by the target alone."""
    if isinstance(adapter, Composite):
        return all(_needs_no_source(cast(Adapter, t)) for t in adapter.terms.values())
    return adapter.settles


def _settling() -> list[str]:
    """Return the adapters that need no source."""
    names = [each.name for each in entries("adapter")]
    return [n for n in names if _needs_no_source(part("adapter", n, {}).build())]


def find_trained(run: Path, **wanted: str | int | None) -> Path:
    """Return the folder of the one trained fold that fits.

    Parameters
    ----------
    run : Path
        A run's folder.
    **wanted
        ``fold``, ``adapter`` and ``seed``; None fits all.

    Raises
    ------
    ConfigurationError
        If none fits, or several do; the message lists them.
    DataError
        If it was put where another one belongs.
    """
    fitting = _fitting(run, wanted)
    if len(fitting) == 1:
        return next(iter(fitting))
    names = [
        f"--fold '{record['fold']}' --adapter {record['adapter']} "
        f"--seed {record['seed']}"
        for record in fitting.values()
    ]
    raise ConfigurationError(
        f"{run}: several trained folds fit; choose one of {first_few(names, 6)}."
    )


def find_all_trained(run: Path, **wanted: str | int | None) -> list[Path]:
    """Return the folders of all trained folds that fit.

    Parameters
    ----------
    run, **wanted
        As for :func:`find_trained`.

    Raises
    ------
    ConfigurationError
        If none fits; the message says what there is.
    DataError
        If one was put where another belongs.
    """
    return list(_fitting(run, wanted))


def _fitting(
    run: Path, wanted: Mapping[str, str | int | None]
) -> dict[Path, dict[str, Any]]:
    """Return the records of the trained folds that fit, by their folders."""
    records = {
        folder: read_json(folder / FACTS, **RECORDED)
        for folder in sorted(run.glob("folds/*/*/*/"))
        if is_finished_name(folder.name) and files.is_expected(folder / MODEL)
    }
    if not records:
        raise ConfigurationError(
            f"{run}: found no trained fold; expected the folder of a finished "
            f"`domainemo adapt`."
        )
    asked = {key: value for key, value in wanted.items() if value is not None}
    fitting = {
        folder: record
        for folder, record in records.items()
        if all(str(record[key]) == str(value) for key, value in asked.items())
    }
    for folder, record in fitting.items():
        check_job(run, folder, record)
    if not fitting:
        there = {
            key: ", ".join(dict.fromkeys(str(each[key]) for each in records.values()))
            for key in ("fold", "adapter", "seed")
        }
        words = ", ".join(f"{key} {value}" for key, value in asked.items())
        raise ConfigurationError(
            f"{run}: found no trained fold of {words}. There are the folds "
            f"{there['fold']}; adapters {there['adapter']}; seeds {there['seed']}."
        )
    return fitting


def load_trained(folder: Path, experiment: Experiment) -> Model:
    """Read a trained fold.

    Parameters
    ----------
    folder : Path
        From `find_trained`.
    experiment : Experiment
        Of the run it belongs to.

    Raises
    ------
    DataError
        If a file is missing or damaged, or lacks an adapter that predicts.

    Warns
    -----
    DomainemoWarning
        If the code of parts from outside this package is not what it was.
    """
    _warn_of_code(folder.parents[3], experiment)
    known, domains = files.read(folder / MODEL, _parse_model)
    with reproducible(experiment.training.threads):
        network, adapter = _read_trained(folder, experiment, known, domains)
    return Model(network.eval(), adapter.eval(), experiment, **known)


def _warn_of_code(run: Path, experiment: Experiment) -> None:
    """Warn where old weights meet new code, which may make something else of them."""
    known = read_json(run / ENVIRONMENT).get("plugins", NO_CODE)
    if known == NO_CODE:
        return
    plugins = read_stored_config(run).get("plugins", ())
    try:
        now = identity("", plugins, experiment.texts)["plugins"]
    except OSError:  # the file has moved: nobody can compare
        return
    if now != known:
        warnings.warn(
            f"{run}: parts of your own were trained with other code than they have "
            f"now, so that the weights may predict otherwise than they did. Bring the "
            f"earlier code back, or run this again into a new folder.",
            DomainemoWarning,
            stacklevel=4,
        )


def _read_trained(
    folder: Path, experiment: Experiment, known: Mapping[str, Any], domains: int | None
) -> tuple[Network, Adapter]:
    """Return the network and the adapter of a trained fold, with their weights."""
    modalities, classes = known["modalities"], known["classes"]
    backbone = experiment.build_backbone(modalities)
    network = Network(backbone, modalities, len(classes))
    name = read_json(folder / FACTS, **RECORDED)["adapter"]
    adapter = _adapter(folder, name, experiment)
    if domains is not None:
        adapter.prepare(network.dims, network.classes, domains)
        load_weights(
            functools.partial(load_state, network, adapter), folder / MODEL_WEIGHTS
        )
    elif adapter.shapes_prediction:
        raise data_error(
            folder / MODEL,
            "a network alone, of an earlier version",
            f"the adapter {name!r} beside it, which predicts in its own way",
            "Run `adapt` again into another folder.",
        )
    else:
        load_weights(network.load_state_dict, folder / MODEL_WEIGHTS)
    return network, adapter


def _adapter(folder: Path, name: str, experiment: Experiment) -> Adapter:
    """Return a new adapter of the kind that a fold was trained with."""
    parts = {each.name: each for each in experiment.trained if each is not None}
    if name not in parts:
        found, expected = f"the adapter {name!r}", f"one of the run's, {list(parts)}"
        raise data_error(folder / FACTS, found, expected, files.REMEDY)
    return experiment.build_adapter(parts[name])


def _parse_model(content: bytes) -> tuple[dict[str, Any], int | None]:
    """Return what ``model.json`` says of a trained fold, as its attributes.

    Beside them the number of domains, where an adapter was prepared for it.
    """
    described = parse_json(content)
    modalities = {
        name: Modality(**{**m, **{k: tuple(m[k]) for k in ("channels", "features")}})
        for name, m in described["modalities"].items()
    }

    def arrays(key: str) -> dict[str, Learned]:
        return {
            name: {k: np.asarray(value, np.float32) for k, value in held.items()}
            for name, held in described[key].items()
        }

    def scales(key: str) -> dict[str, Scale]:
        return {name: Scale(**held) for name, held in arrays(key).items()}

    # Folders of earlier versions lack the scale of what was recorded, or hold nothing
    # else that was learned: all of theirs are z-scores.
    described.setdefault("raw_scales", {})
    described.setdefault("learned", described["raw_scales"])
    known = {
        "modalities": modalities,
        "classes": tuple(described["classes"]),
        "scales": scales("scales"),
        "raw_scales": scales("raw_scales"),
        "learned": arrays("learned"),
        "step": described.get("step"),
        "temperature": float(described.get("temperature", 1.0)),
    }
    # Without an adapter that is kept, the number of domains matters to nobody.
    return known, described.get("domains")


_GIVE_OTHER = (
    "Normalise by the source or by a longer recording of the same person instead: "
    "--normalise-by source or --normalise-by FOLDER (in Python, normalise_by)."
)


def _normalised(
    trained: Model, inputs: Inputs, normalise_by: str | Inputs | None
) -> Inputs:
    """Return the recording normalised by its own, the source's or a baseline's scale.

    Single missing values become the source's mean, as in training.
    """
    method = trained.experiment.build_normalisation()
    grouped = method.by in ("session", "subject")
    if normalise_by is None:
        normalise_by = "own" if grouped else "source"
    elif method.by == "nothing":
        raise ConfigurationError(
            f"The model was trained on values that were {method.words}; expected "
            f"the recording as it is. Leave out --normalise-by."
        )
    everything = np.arange(len(inputs))
    by, stored = method.by, trained.scales
    if isinstance(normalise_by, Inputs):
        return _by_baseline(trained, inputs, normalise_by)
    if normalise_by == "own":
        by, stored = (by, stored) if grouped else ("session", {})
        visible = [np.ones(len(inputs), dtype=bool)]
        check_enough(inputs, by, visible, remedy=_GIVE_OTHER)
    elif normalise_by == "source":
        if grouped:
            by, stored = "source", trained.raw_scales
        if not stored:
            raise ConfigurationError(
                "The model's folder does not hold the source's mean and deviation, "
                "because an earlier version of domainemo made it. Run `adapt` again, "
                "or normalise by a baseline recording."
            )
        warn_of_distance(inputs, trained.raw_scales, "the source's")
    else:
        raise ConfigurationError(
            f"The recording cannot be normalised by {normalise_by!r}; expected 'own', "
            f"'source' or a baseline recording."
        )
    return normalise(
        inputs,
        method,
        source=everything,
        target=everything,
        by=by,
        stored=stored,
        learned=trained.learned or {name: vars(s) for name, s in stored.items()},
    )[0]


def _by_baseline(
    trained: Model,
    inputs: Inputs,
    baseline: Inputs,
) -> Inputs:
    """Return the recording scaled per subject by the windows of the baseline alone."""
    baseline = _matched(trained, baseline)
    names = [each.windows["subject"].astype(str) for each in (inputs, baseline)]
    absent = [name for name in names[0].unique() if name not in set(names[1])]
    if absent:
        raise DataError(
            f"{baseline.name}: found the subjects {', '.join(names[1].unique())}; "
            f"expected a baseline of every subject of {inputs.name}, and of "
            f"{', '.join(absent)} there is none. Give them the same names in both."
        )
    windows = pd.concat([inputs.windows, baseline.windows], ignore_index=True)
    both = replace(
        inputs,
        signals={
            name: np.concatenate([array, baseline.signals[name]])
            for name, array in inputs.signals.items()
        },
        windows=windows.assign(subject=pd.concat(names, ignore_index=True)),
    )
    scales = scales_of(baseline, np.arange(len(baseline)))
    warn_of_distance(inputs, scales, f"the baseline's ({baseline.name})")
    own = np.arange(len(inputs))
    there = np.arange(len(inputs), len(both))
    visible = np.isin(np.arange(len(both)), there)
    check_enough(
        replace(both, name=baseline.name),
        "subject",
        [visible],
        remedy="Give a longer baseline recording.",
    )
    method = trained.experiment.build_normalisation()
    grouped = method.by in ("session", "subject")
    normalised, _ = normalise(
        both,
        method,
        source=there,
        target=there,
        by="subject",
        stored=trained.scales if grouped else None,
    )
    return replace(normalised.take(own), windows=inputs.windows)


def _matched(trained: Model, inputs: Inputs) -> Inputs:
    """Return the recording as the model takes it; what it lacks altogether is NaN."""
    found = match(
        inputs,
        trained.modalities,
        wanted_of="the training",
        step=trained.step,
        keep_missing=True,
    )
    for told in found.warnings:
        warnings.warn(told, DomainemoWarning, stacklevel=4)
    return found.inputs


def _note_empty(name: str, samples: Samples) -> None:
    """Warn of samples in which no modality is there."""
    there = torch.stack(list(samples.present.values())).any(0)
    seen = (there[samples.rows.clamp(min=0)] & (samples.rows >= 0)).any(-1)
    empty = int((~seen).sum())
    if empty:
        warnings.warn(
            f"{name}: in {empty} of {len(samples)} samples every modality is missing; "
            f"what is predicted there rests on nothing.",
            DomainemoWarning,
            stacklevel=4,
        )
