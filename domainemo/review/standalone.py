"""A trained fold as one module: from windows as recorded to probabilities."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..backbones.graphs import LearnedGraph
from ..core import PROVENANCE, Fold, Inputs, Normalisation, Rows, Sampling
from ..data.normalisation import Learned, Scale, learned_of
from ..errors import ConfigurationError
from ..registry import find
from ..runs.model import Model

__all__ = ["Groups", "Standalone", "groups_of", "raw_samples", "windows_of"]

SOURCE = "source"
NORMALISED = "already normalised"
"""The groups beside the target's: the source's own, and values that are to stay."""

_Z_SCORES = ("session", "subject", "source")
_COLUMNS = {"session": ["subject", "session"], "subject": ["subject"]}
_MANY = 4096


@dataclass(frozen=True)
class Groups:
    """By whose mean and deviation windows can be normalised.

    Attributes
    ----------
    names : tuple of str
        Each session or subject of the target, the source, and ``"already normalised"``
        for values that are to stay as they are; none where nothing is normalised.
    scales : mapping of str to Scale
        Of each modality; shape (groups, channels, features). NaN where a sensor was
        lost throughout.
    codes : ndarray of int, shape (windows,)
        The group of every window that was tested, -1 of others.
    """

    names: tuple[str, ...]
    scales: Mapping[str, Scale]
    codes: NDArray[np.int64]


def groups_of(model: Model, inputs: Inputs | None, fold: Fold | None) -> Groups:
    """Return what the values of a trained fold are normalised by.

    Parameters
    ----------
    model : Model
    inputs : Inputs or None
        The run's recordings; None leaves the target's groups out.
    fold : Fold or None
        Of these recordings.

    Raises
    ------
    ConfigurationError
        If the normalisation is no z-score, or its scale is not in the folder.
    """
    method = model.experiment.build_normalisation()
    codes = np.full(0 if inputs is None else len(inputs), -1, np.int64)
    if type(method) is find("normalisation", "none"):
        return Groups((), {}, codes)
    _check_z_score(method, model.experiment.normalisation.name)
    grouped = method.by in _COLUMNS
    found: dict[str, Mapping[str, Learned]] = {}
    if grouped and inputs is not None and fold is not None:
        found, codes = _of_target(method, inputs, fold)
    elif inputs is not None:
        codes[:] = 0
    stored = model.raw_scales if grouped else model.scales
    source = model.learned or {name: vars(each) for name, each in stored.items()}
    if source:
        found[SOURCE] = source
    if grouped:
        found[NORMALISED] = {
            name: {"mean": np.zeros(1, np.float32), "deviation": np.ones(1, np.float32)}
            for name in model.modalities
        }
    scales = {
        name: Scale(*(_stacked(model, name, found, key) for key in _PARTS))
        for name in model.modalities
    }
    return Groups(tuple(found), scales, codes)


_PARTS = ("mean", "deviation")


def _stacked(
    model: Model, name: str, found: Mapping[str, Mapping[str, Learned]], key: str
) -> NDArray[np.float32]:
    modality = model.modalities[name]
    shape = len(modality.channels), len(modality.features)
    return np.stack(
        [np.broadcast_to(each[name][key], shape) for each in found.values()]
    ).astype(np.float32)


def _check_z_score(method: Normalisation, name: str) -> None:
    if type(method) not in [find("normalisation", each) for each in _Z_SCORES]:
        raise ConfigurationError(
            f"The run's values were normalised by {name!r}, which is computed by NumPy "
            f"and not by the network's file; a file can hold "
            f"{', '.join(map(repr, _Z_SCORES))} or 'none'. Train with one of these to "
            f"export, or apply this run with `domainemo predict`."
        )


def _of_target(
    method: Normalisation, inputs: Inputs, fold: Fold
) -> tuple[dict[str, Mapping[str, Learned]], NDArray[np.int64]]:
    """Return what was learned of each group that is tested, and windows' groups."""
    columns = _COLUMNS[method.by]
    visible = np.zeros(len(inputs), dtype=bool)
    visible[fold.source] = visible[fold.seen] = True
    keys = inputs.windows[columns].astype(str).agg(tuple, axis=1).to_numpy()
    found: dict[str, Mapping[str, Learned]] = {}
    codes = np.full(len(inputs), -1, np.int64)
    for number, key in enumerate(dict.fromkeys(keys[fold.test])):
        here = np.array([each == key for each in keys])
        seen = np.flatnonzero(here & visible)
        learned = {
            name: {part: np.array(value) for part, value in each.items()}
            for name, each in learned_of(inputs, method, seen).items()
        }
        for name, array in inputs.signals.items():
            if np.isnan(array[seen]).all():
                learned[name]["mean"][:] = np.nan  # nothing can be told of it
        pairs = zip(columns, key, strict=True)
        found[", ".join(f"{column} {value}" for column, value in pairs)] = learned
        codes[here] = number
    return found, codes


class _Known(nn.Module):
    """What a module without inputs returns, computed once."""

    value: Tensor

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        with torch.no_grad():
            self.register_buffer("value", module())

    def forward(self) -> Tensor:
        return self.value


class Standalone(nn.Module):
    """Normalisation, network, adapter and temperature in one.

    Parameters
    ----------
    model : Model
    groups : Groups
    windows : int
        Windows in a sample.
    """

    def __init__(self, model: Model, groups: Groups, windows: int) -> None:
        super().__init__()
        self.modalities, self.windows = dict(model.modalities), windows
        self.groups, self.temperature = groups.names, model.temperature
        self.network = copy.deepcopy(model.network)
        self.adapter = copy.deepcopy(model.adapter)
        # Graphs follow from weights alone; an exact spectrum is no step of a file.
        for parent in [*self.network.modules()]:
            for name, child in [*parent.named_children()]:
                if isinstance(child, LearnedGraph):
                    setattr(parent, name, _Known(child))
        by_source = groups.names == (SOURCE,)
        for name, scale in model.scales.items():
            # A single missing value becomes the mean of the source.
            fill = np.zeros_like(scale.mean) if by_source else scale.mean
            self._keep(f"{name}_fill", np.where(np.isfinite(fill), fill, 0))
        for name, each in groups.scales.items():
            for part in _PARTS:
                self._keep(f"{name}_{part}", getattr(each, part))
        self.eval().requires_grad_(False)

    def _keep(self, name: str, values: NDArray[np.float32]) -> None:
        self.register_buffer(name, torch.tensor(values, dtype=torch.float32))

    @property
    def chooses(self) -> bool:
        """Whether a sample must be told its group."""
        return len(self.groups) > 1

    def forward(
        self, signals: Mapping[str, Tensor], group: Tensor | None = None
    ) -> Tensor:
        """Predict.

        Parameters
        ----------
        signals : mapping of str to Tensor of shape (batch, windows, channels, features)
            As recorded; NaN where a value is missing, and where a sample has fewer
            windows.
        group : Tensor of int, shape (batch,), optional
            Number of the group by which a sample is normalised; the first by default.

        Returns
        -------
        Tensor of shape (batch, classes)
            Probabilities.
        """
        clean, masks = {}, {}
        for name in self.modalities:
            values = signals[name]
            if self.groups:
                mean, deviation = (self.get_buffer(f"{name}_{part}") for part in _PARTS)
                at = 0 if group is None else group
                values = values - mean[at][..., None, :, :]
                values = values / deviation[at][..., None, :, :]
            missing = values.isnan()
            masks[name] = ~missing.flatten(-2).all(-1)
            filled = torch.where(missing, self.get_buffer(f"{name}_fill"), values)
            clean[name] = torch.where(masks[name][..., None, None], filled, 0.0)
        logits = self.adapter.predict(self.network(clean, masks))
        return (logits / self.temperature).softmax(-1)

    def made_up(self, samples: int) -> tuple[dict[str, Tensor], Tensor]:
        """Return samples of noise, some of them with gaps, and groups by turns."""
        generator = torch.Generator().manual_seed(0)
        group = torch.arange(samples) % max(len(self.groups), 1)
        signals = {}
        for number, (name, modality) in enumerate(self.modalities.items()):
            shape = len(modality.channels), len(modality.features)
            noise = torch.randn(samples, self.windows, *shape, generator=generator)
            if self.groups:
                mean, deviation = (
                    self.get_buffer(f"{name}_{part}")[group][:, None] for part in _PARTS
                )
                noise = noise * deviation + mean
            noise[0, 0, 0, 0] = torch.nan
            noise[1 + number :: 1 + len(self.modalities), -1] = torch.nan
            signals[name] = noise
        return signals, group


def windows_of(sampling: Sampling, members: Rows) -> int:
    """Return how many windows a sample has.

    Parameters
    ----------
    sampling : Sampling
    members : ndarray of int, shape (samples, time)
        Of the samples that were tested, if any were.

    Raises
    ------
    ConfigurationError
        If nobody was tested and samples are whole trials.
    """
    if len(members):
        return int(members.shape[1])
    trial = pd.DataFrame(1, index=range(_MANY), columns=list(PROVENANCE))
    length: int = sampling.rows(trial.assign(start=np.arange(float(_MANY)))).shape[1]
    if length == _MANY:
        raise ConfigurationError(
            "This model takes whole trials of any length and nobody was tested with "
            "it, so that the length for its file is not known; expected one. Train it "
            "with sampling.crop, or export a fold of `domainemo adapt`."
        )
    return length


def raw_samples(inputs: Inputs, members: Rows) -> dict[str, Tensor]:
    """Return samples as a file takes them.

    Parameters
    ----------
    inputs : Inputs
        As recorded.
    members : ndarray of int, shape (samples, time)
        Windows of each, -1 where padded.

    Returns
    -------
    dict of str to Tensor of shape (samples, time, channels, features)
        NaN where padded.
    """
    found = {}
    for name, array in inputs.signals.items():
        values = np.asarray(array[members], np.float32)
        values[members < 0] = np.nan
        found[name] = torch.from_numpy(values)
    return found
