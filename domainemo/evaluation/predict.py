"""Apply a trained fold to a recording that has no labels."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from .. import files
from ..backbones.regions import canonical_name
from ..core import Inputs, Modality
from ..data.files.limits import parse_json
from ..data.given import expect_inputs
from ..data.normalisation import Scale, normalise
from ..errors import ConfigurationError, DataError, DomainemoWarning
from ..training.batches import Samples, sample
from ..training.fit import predict, reproducible
from ..training.model import Model
from .checks import canonical, check_signals
from .experiment import Experiment
from .folder import read_json
from .initialisation import load_weights
from .job import FACTS, MODEL, MODEL_WEIGHTS

__all__ = [
    "Trained",
    "find_all_trained",
    "find_trained",
    "load_trained",
    "predict_recording",
]


@dataclass(frozen=True)
class Trained:
    """A trained fold.

    Attributes
    ----------
    model : Model
    experiment : Experiment
    modalities : dict of str to Modality
    classes : tuple of str
    scales : dict of str to Scale
        The source's scale, for the normalisation ``source``.
    """

    model: Model
    experiment: Experiment
    modalities: dict[str, Modality]
    classes: tuple[str, ...]
    scales: dict[str, Scale]


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
    """
    fitting = _fitting(run, wanted)
    if len(fitting) == 1:
        return next(iter(fitting))
    names = "; ".join(
        f"--fold '{record['fold']}' --adapter {record['adapter']} "
        f"--seed {record['seed']}"
        for record in [*fitting.values()][:6]
    )
    more = f"; and {len(fitting) - 6} more" if len(fitting) > 6 else ""
    raise ConfigurationError(
        f"{run}: several trained folds fit; choose one of {names}{more}."
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
    """
    return list(_fitting(run, wanted))


def _fitting(
    run: Path, wanted: Mapping[str, str | int | None]
) -> dict[Path, dict[str, Any]]:
    """Return the records of the trained folds that fit, by their folders."""
    records = {
        folder: read_json(folder / FACTS)
        for folder in sorted(run.glob("folds/*/*/*/"))
        if not re.search(r"\.(partial|damaged(-\d+)?)$", folder.name)
        and files.is_expected(folder / MODEL)
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


def load_trained(folder: Path, experiment: Experiment) -> Trained:
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
        If a file is missing or damaged.
    """
    modalities, classes, scales = files.read(folder / MODEL, _parse_model)
    backbone = experiment.build_backbone(modalities)
    model = Model(backbone, modalities, len(classes))
    load_weights(model, folder / MODEL_WEIGHTS)
    return Trained(model.eval(), experiment, modalities, classes, scales)


def _parse_model(
    content: bytes,
) -> tuple[dict[str, Modality], tuple[str, ...], dict[str, Scale]]:
    """Return the modalities, the classes and the scales of ``model.json``."""
    described = parse_json(content)
    modalities = {
        name: Modality(**{**m, **{k: tuple(m[k]) for k in ("channels", "features")}})
        for name, m in described["modalities"].items()
    }
    scales = {
        name: Scale(*(np.asarray(s[k], np.float32) for k in ("mean", "deviation")))
        for name, s in described["scales"].items()
    }
    return modalities, tuple(described["classes"]), scales


def predict_recording(trained: Trained, inputs: Inputs) -> pd.DataFrame:
    """Return a row per sample: provenance, predicted class, probabilities.

    The recording is normalised as in training: by its own windows, or by the scale
    of the source that the model was trained on. Channels and features may come in
    any order, and beside others; modalities may be missing, for some windows, for a
    subject or altogether.

    Raises
    ------
    DataError
        If none of the modalities of training is there, or one is there without some
        of the channels or features of training.

    Warns
    -----
    DomainemoWarning
        Naming the modalities that are missing altogether, and the number of samples
        in which every modality is.
    """
    inputs = expect_inputs(inputs, "the recording")
    aligned = _aligned(trained, inputs)
    _note_missing(aligned, tuple(inputs.modalities))
    inputs = aligned.take(canonical(aligned))
    check_signals(inputs, "Interpolate it, or leave the whole modality out.")
    everything = np.arange(len(inputs))
    normalised, _ = normalise(
        inputs,
        trained.experiment.normalisation,
        source=everything,
        target=everything,
        stored=trained.scales,
    )
    with reproducible(trained.experiment.training.threads):
        sampling = trained.model.backbone.sampling
        samples, members = sample(normalised, everything, sampling, torch.device("cpu"))
        _note_empty(inputs.name, samples)
        probabilities = predict(trained.model, samples)
    table = inputs.windows.iloc[members[:, 0]].reset_index(drop=True)
    columns: dict[str, Any] = {
        "windows": (members >= 0).sum(1),
        "predicted": [trained.classes[index] for index in probabilities.argmax(1)],
    }
    columns |= {f"p_{c}": probabilities[:, i] for i, c in enumerate(trained.classes)}
    return table.assign(**columns)


def _aligned(trained: Trained, inputs: Inputs) -> Inputs:
    """Return the modalities, channels and features of training, in its order.

    They are found by name, electrodes also by their old names and in other capitals;
    what else was recorded is left out. A modality that the recording does not have is
    NaN in all windows.
    """
    if not any(name in inputs.modalities for name in trained.modalities):
        raise DataError(
            f"{inputs.name}: found the modalities {', '.join(inputs.modalities)}; "
            f"expected at least one of those the model was trained on, "
            f"{', '.join(trained.modalities)}. Rename the modalities of the recording "
            f"if they are the same sensors."
        )
    signals = {}
    for name, wanted in trained.modalities.items():
        if name not in inputs.modalities:
            shape = len(inputs), len(wanted.channels), len(wanted.features)
            signals[name] = np.full(shape, np.nan, np.float32)
            continue
        array, found = inputs.signals[name], inputs.modalities[name]
        where = f"{inputs.name}, modality {name!r}"
        called = canonical_name if wanted.kind == "eeg" else str
        channels = _places(
            wanted.channels, found.channels, f"{where}: channels", called
        )
        features = _places(wanted.features, found.features, f"{where}: features")
        signals[name] = array.take(channels, axis=1).take(features, axis=2)
    return replace(inputs, signals=signals, modalities=trained.modalities)


def _places(
    wanted: Sequence[str],
    found: Sequence[str],
    where: str,
    called: Callable[[str], str] = str,
) -> list[int]:
    """Return where each name of training stands in the recording.

    The very name comes before one that is only `called` the same.
    """
    places, missing = [], []
    for name in wanted:
        same = [place for place, each in enumerate(found) if each == name] or [
            place for place, each in enumerate(found) if called(each) == called(name)
        ]
        places += same[:1]
        if len(same) != 1:
            missing.append(name)
    if missing:
        raise DataError(
            f"{where} of training are missing, or there twice: {', '.join(missing)}; "
            f"found {', '.join(found)}. Rename them where they are called otherwise, "
            f"interpolate what was not recorded, or leave out the whole modality."
        )
    return places


def _note_missing(inputs: Inputs, found: tuple[str, ...]) -> None:
    """Warn of modalities without a single value; refuse a recording of no other."""
    lost = [name for name, array in inputs.signals.items() if np.isnan(array).all()]
    there = [name for name in inputs.signals if name not in lost]
    if not there:
        raise DataError(
            f"{inputs.name}: every value of {', '.join(lost)} is missing; expected at "
            f"least one modality of training to be there in some windows."
        )
    if lost:
        warnings.warn(
            f"{inputs.name}: {', '.join(lost)} of the training "
            f"{'is' if len(lost) == 1 else 'are'} missing in all windows (the "
            f"recording has {', '.join(found)}); the predictions rest on "
            f"{', '.join(there)} alone.",
            DomainemoWarning,
            stacklevel=3,
        )


def _note_empty(name: str, samples: Samples) -> None:
    """Warn of samples in which no modality is there."""
    there = torch.stack(list(samples.present.values())).any(0)
    seen = (there[samples.rows.clamp(min=0)] & (samples.rows >= 0)).any(-1)
    empty = int((~seen).sum())
    if empty:
        warnings.warn(
            f"{name}: in {empty} of {len(samples)} samples every modality is missing; "
            f"what is predicted for them says nothing of them.",
            DomainemoWarning,
            stacklevel=3,
        )
