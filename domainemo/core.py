"""The whole contract: what data, networks, adapters, protocols and validators share.

Shapes are ``(batch, time, channels, features)`` throughout: a window of EEG band
features has time 1, channels 62 and features 5; a trial is a run of windows, padded,
with a mask. Everything else in the library is built on the types of this file alone.

Target labels have no place here but in :class:`EmotionData`. An adapter or a validator
is handed :class:`Target`, which has no field a label could be read from.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor, nn

from .errors import DataError

if TYPE_CHECKING:
    import optuna

__all__ = [
    "FUSION",
    "PROVENANCE",
    "Adapter",
    "Backbone",
    "Dataset",
    "EmotionData",
    "Fold",
    "Inputs",
    "Modality",
    "Outputs",
    "Protocol",
    "Pseudo",
    "Sampling",
    "Screen",
    "Source",
    "Target",
    "Validator",
]

Rows = NDArray[np.int64]

PROVENANCE = ("subject", "session", "trial", "stimulus", "start")
"""Columns of a windows table, in the order in which windows are sorted."""

FUSION = "fusion"
"""Name of the branch that sees every modality; its head makes the prediction."""


# --------------------------------------------------------------------------- data


@dataclass(frozen=True)
class Modality:
    """What one sensor's array holds.

    Attributes
    ----------
    channels : tuple of str
        Electrode names, or one name per measure where there is no electrode.
    features : tuple of str
        Names along the last axis, such as the frequency bands.
    kind : str
        ``"eeg"`` where the channels are 10-20 electrodes, else ``"eye"``,
        ``"physiology"`` or whatever describes the sensor.
    unit : str
        Physical unit of the values, empty where they have none.
    """

    channels: tuple[str, ...]
    features: tuple[str, ...]
    kind: str
    unit: str = ""


@dataclass(frozen=True)
class Inputs:
    """What may be seen of every domain: signals and their provenance, no labels.

    Attributes
    ----------
    signals : mapping of str to ndarray of shape (windows, channels, features)
        One float32 array per modality; NaN where the sensor lost the window.
    windows : DataFrame
        One row per window with the columns ``subject``, ``session``, ``trial``,
        ``stimulus`` and ``start`` (seconds from the trial's onset).
    modalities : mapping of str to Modality
        Description of each array in `signals`.
    name : str
        What the recordings are; printed beside every number made from them.

    Raises
    ------
    DataError
        If lengths, names or axes do not agree.
    """

    signals: Mapping[str, NDArray[np.float32]]
    windows: pd.DataFrame
    modalities: Mapping[str, Modality]
    name: str = "unnamed recordings"

    def __post_init__(self) -> None:
        missing = [c for c in PROVENANCE if c not in self.windows.columns]
        extra = [c for c in self.windows.columns if c not in PROVENANCE]
        if missing or extra:
            raise DataError(
                f"{self.name}: the windows table must have exactly the columns "
                f"{', '.join(PROVENANCE)}; missing: {missing or 'none'}, "
                f"not allowed: {extra or 'none'}."
            )
        if set(self.signals) != set(self.modalities):
            raise DataError(
                f"{self.name}: signals for {sorted(self.signals)} but descriptions "
                f"for {sorted(self.modalities)}; give one Modality per array."
            )
        for name, array in self.signals.items():
            _check_modality_name(self.name, name)
            modality = self.modalities[name]
            expected = (
                len(self.windows),
                len(modality.channels),
                len(modality.features),
            )
            if array.shape != expected:
                raise DataError(
                    f"{self.name}, modality {name!r}: found an array of shape "
                    f"{array.shape}, expected (windows, channels, features) = "
                    f"{expected} from the windows table and the modality's names."
                )

    def __len__(self) -> int:
        return len(self.windows)

    def __repr__(self) -> str:
        """Say what there is and how much, in a line."""
        return f"Inputs({self._in_words()})"

    def _in_words(self) -> str:
        place, counts = [], [f"windows: {len(self)}"]
        for column in ("subject", "session", "trial"):
            place.append(column)
            wanted = place if column == "trial" else [column]
            number = len(self.windows[wanted].drop_duplicates())
            counts.append(f"{column}s: {number}")
        shapes = ", ".join(f"{k} {array.shape}" for k, array in self.signals.items())
        return f"{self.name}; {', '.join(counts)}; modalities: {shapes}"

    def take(self, rows: Rows) -> Inputs:
        """Return the windows at `rows`, in that order."""
        if np.array_equal(rows, np.arange(len(self))):
            return self  # arrays that are mapped from disk stay so
        signals = {name: array[rows] for name, array in self.signals.items()}
        windows = self.windows.iloc[rows].reset_index(drop=True)
        return replace(self, signals=signals, windows=windows)


@dataclass(frozen=True)
class EmotionData:
    """Inputs *and* labels: composition, so that one is never passed for the other.

    Attributes
    ----------
    inputs : Inputs
        Signals and provenance.
    labels : ndarray of int, shape (windows,)
        Class number of each window, an index into `classes`.
    classes : tuple of str
        Class names.

    Raises
    ------
    DataError
        If the labels do not fit the windows or the classes.
    """

    inputs: Inputs
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.labels.shape != (len(self.inputs),):
            raise DataError(
                f"{self.inputs.name}: found {self.labels.shape} labels for "
                f"{len(self.inputs)} windows; expected one label per window."
            )
        if not np.issubdtype(self.labels.dtype, np.integer):
            raise DataError(
                f"{self.inputs.name}: the labels are {self.labels.dtype}; expected "
                f"whole numbers, indices into the classes."
            )
        if len(set(self.classes)) < len(self.classes):
            raise DataError(
                f"{self.inputs.name}: two classes have the same name among "
                f"{', '.join(self.classes)}; expected distinct names."
            )
        if len(self.labels) == 0:
            raise DataError(f"{self.inputs.name}: there are no windows at all.")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.classes):
            raise DataError(
                f"{self.inputs.name}: labels run from {low} to {high}, but there are "
                f"{len(self.classes)} classes ({', '.join(self.classes)}); expected "
                f"whole numbers from 0 to {len(self.classes) - 1}."
            )

    def __len__(self) -> int:
        return len(self.inputs)

    def __repr__(self) -> str:
        """Say what there is and how much, in a line."""
        classes = ", ".join(self.classes)
        return f"EmotionData({self.inputs._in_words()}; classes: {classes})"

    def take(self, rows: Rows) -> EmotionData:
        """Return the windows at `rows`, in that order."""
        return replace(self, inputs=self.inputs.take(rows), labels=self.labels[rows])


def _check_modality_name(recordings: str, name: str) -> None:
    """Refuse what cannot name a branch of a network, or a file."""
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name)
    if not plain or name == FUSION or hasattr(nn.ModuleDict, name):
        raise DataError(
            f"{recordings}: a modality is called {name!r}; expected letters, digits, "
            f"'-' and '_', and none of the words that networks use themselves, such "
            f"as 'fusion' or 'type'. Rename it."
        )


class Dataset(ABC):
    """A reader: knows the files of one data set, or makes recordings up.

    Constructors take ``root`` (the data root, or None) first where there are files,
    and keyword-only options after it.
    """

    @abstractmethod
    def load(self) -> EmotionData:
        """Read everything; raise :class:`DataError` where the files do not fit."""

    def load_inputs(self) -> Inputs:
        """Read what needs no labels, for prediction on new recordings."""
        return self.load().inputs


class Sampling(ABC):
    """How windows become the samples a network sees."""

    level: ClassVar[str]
    """What one sample is: ``"window"``, ``"sequence"`` or ``"trial"``."""

    @abstractmethod
    def rows(self, windows: pd.DataFrame) -> Rows:
        """Return window numbers of shape (samples, time), -1 where padded.

        A sample never crosses a trial.
        """


# ----------------------------------------------------------------------- networks


@dataclass(frozen=True)
class Outputs:
    """What a model makes of a batch, per branch: each modality, and ``"fusion"``.

    Attributes
    ----------
    embeddings : mapping of str to Tensor of shape (batch, dim)
    logits : mapping of str to Tensor of shape (batch, classes)
    present : mapping of str to bool Tensor of shape (batch,)
        False where the branch's sensor lost the whole sample. A branch that is not
        named is always present.
    """

    embeddings: Mapping[str, Tensor]
    logits: Mapping[str, Tensor]
    present: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The branches that see a single modality, in order."""
        return tuple(branch for branch in self.logits if branch != FUSION)

    def weight(self, branch: str) -> Tensor:
        """Return 1 where `branch` saw its sensor, else 0; shape (batch,)."""
        logits = self.logits[branch]
        present = self.present.get(branch)
        if present is None:
            return logits.new_ones(logits.shape[:-1])
        return present.to(logits.dtype)


class Backbone(nn.Module, ABC):
    """Any fusion network. The library adds one classifier head per branch.

    The constructor takes the modalities first, then keyword-only options, all
    with defaults.
    """

    sampling: Sampling

    by_position: ClassVar[bool] = False
    """Whether weights belong to a channel's place rather than to its name."""

    @abstractmethod
    def forward(
        self, signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Embed a batch.

        Parameters
        ----------
        signals : mapping of str to Tensor of shape (batch, time, channels, features)
            Zero where there is no signal.
        masks : mapping of str to bool Tensor of shape (batch, time)
            False where a window is padding or the sensor lost it.

        Returns
        -------
        mapping of str to Tensor of shape (batch, dim)
            One embedding per modality, and ``"fusion"``.
        """

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw constructor options from an Optuna trial; optional."""
        return {}

    def views(
        self, signals: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Embed a batch as pre-training compares it, before anything is fused.

        By default a view is a modality's embedding. A network that looks at a modality
        in several ways overrides this and names the views ``"MODALITY/WAY"``.

        Parameters
        ----------
        signals, masks
            As for `forward`.

        Returns
        -------
        mapping of str to Tensor of shape (batch, dim)
        """
        embeddings = self(signals, masks)
        return {name: value for name, value in embeddings.items() if name != FUSION}

    def head(self, branch: str, dim: int, classes: int) -> nn.Module:
        """Return the classifier that the library puts on `branch`."""
        hidden = max(dim // 2, 8)
        return nn.Sequential(
            nn.Linear(dim, hidden),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(hidden, classes),
        )


# ----------------------------------------------------------------------- adapters


@dataclass(frozen=True)
class Source:
    """A labelled batch from the source.

    Attributes
    ----------
    outputs : Outputs
    labels : Tensor of int, shape (batch,)
    domains : Tensor of int, shape (batch,)
        Which source subject, or session, each sample comes from.
    """

    outputs: Outputs
    labels: Tensor
    domains: Tensor


@dataclass(frozen=True)
class Pseudo:
    """What screening believes of a target batch.

    Attributes
    ----------
    labels : Tensor of int, shape (batch,)
    weights : mapping of str to Tensor of shape (batch,)
        How far each branch should learn from the label, in [0, 1].
    """

    labels: Tensor
    weights: Mapping[str, Tensor]


@dataclass(frozen=True)
class Target:
    """An unlabelled batch from the target: no field to read a label from.

    Attributes
    ----------
    outputs : Outputs
    progress : float
        0 at the first step of training, 1 at the last.
    teacher : Outputs, optional
        The same batch without dropout and without gradient, for adapters that ask
        for it by ``needs_teacher``.
    pseudo : Pseudo, optional
        What the surrounding composite's screen believes of this batch.
    """

    outputs: Outputs
    progress: float
    teacher: Outputs | None = None
    pseudo: Pseudo | None = None


class Adapter(nn.Module, ABC):
    """A loss between source and target. It owns no optimiser, loader or epoch.

    Constructors take keyword-only options, all with defaults.
    """

    needs_target: bool = True
    """Whether the trainer must run the target through the network at all."""

    needs_teacher: bool = False
    """Whether the trainer must fill in :attr:`Target.teacher`."""

    @abstractmethod
    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return named scalar losses; the trainer adds them up."""

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw constructor options from an Optuna trial; optional."""
        return {}


class Screen(nn.Module, ABC):
    """Decides which target samples to believe, and which branch learns from them."""

    needs_teacher: bool = False
    """Whether the trainer must fill in :attr:`Target.teacher`."""

    @abstractmethod
    def forward(self, target: Target) -> Pseudo:
        """Return pseudo-labels and how far each branch should learn from them."""


# ---------------------------------------------------------------------- protocols


@dataclass(frozen=True)
class Fold:
    """One train and test arrangement, as row numbers of the windows table.

    Attributes
    ----------
    name : str
    source : ndarray of int
        Windows whose signals and labels train.
    target : ndarray of int
        Windows whose signals alone may be seen in training.
    test : ndarray of int
        Windows to predict. Equal to `target` when transductive, disjoint from it
        when inductive.
    """

    name: str
    source: Rows
    target: Rows
    test: Rows

    def __repr__(self) -> str:
        """Say how many windows have which part."""
        parts = {
            name: len(getattr(self, name)) for name in ("source", "target", "test")
        }
        counts = ", ".join(f"{name}: {number}" for name, number in parts.items())
        return f"Fold({self.name!r}, windows of {counts}, {self.access})"

    @property
    def access(self) -> str:
        """``"transductive"`` where test windows are seen unlabelled in training."""
        seen = np.isin(self.test, self.target).any()
        return "transductive" if seen else "inductive"


class Protocol(ABC):
    """Splits recordings into folds. It sees provenance only, never a label."""

    domain: ClassVar[str]
    """The column that tells one source domain from another."""

    @abstractmethod
    def split(self, windows: pd.DataFrame) -> Iterator[Fold]:
        """Yield folds; raise :class:`DataError` where the recordings allow none."""


class Validator(ABC):
    """Scores a model without target labels; higher is better."""

    held_out: ClassVar[bool] = False
    """Whether some source domains are kept out of training to be scored here."""

    sees_target: ClassVar[bool] = True
    """Whether the score depends on the target's signals; results say so."""

    @abstractmethod
    def __call__(self, source: Source | None, target: Target) -> float:
        """Return the score.

        Parameters
        ----------
        source : Source or None
            The held-out source domains, where `held_out` is set.
        target : Target
            Everything the target shows, unlabelled.
        """
