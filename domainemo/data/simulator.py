"""Simulated recordings: EEG band features and eye measures with a known ground truth.

Emotions act through a few components (frontal alpha asymmetry, temporal gamma, pupil
size and so on), each with a place on the scalp, a band and a set of eye measures.
Subjects, sessions, clips, artefacts and lost windows come on top, each behind a knob
of its own. ``docs/simulator.md`` has the equations.

All random numbers come from a stream that belongs to one subject, session or clip
list, and are scaled afterwards. The strength of a knob therefore never reshuffles
another draw, and more subjects leave the first ones as they were.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..core import PROVENANCE, Dataset, EmotionData, Inputs, Modality
from ..errors import ConfigurationError
from ..registry import parameters, register
from ..values import SEEDS, Bounds
from ..words import count
from .montage import SEED_BANDS, SEED_ELECTRODES
from .peripherals import PERIPHERALS, misleading, reaction, uninformative

__all__ = ["BANDS", "CHANNELS", "EYE_MEASURES", "POSITIONS", "Simulated"]

Array = NDArray[np.float64]

# ------------------------------------------------------------------------- montage

CHANNELS, BANDS = SEED_ELECTRODES, tuple(SEED_BANDS)

# Degrees from the vertex to a row's midline, front positive; 18 is a tenth of the way
# from nasion to inion.
_ROWS = {"FP": 72, "AF": 54, "F": 36, "FC": 18, "C": 0, "CP": -18, "P": -36}
_ROWS |= {"PO": -54, "O": -72, "FT": 18, "T": 0, "TP": -18}
_RING = math.radians(72)


def _position(channel: str) -> tuple[float, float]:
    """Return (right, front) of a site by the rules of the 10-10 system."""
    if channel in ("CB1", "CB2"):  # below the ring, outside the 10-10 system
        return (-0.62 if channel == "CB1" else 0.62), -1.08
    row = channel.rstrip("Z0123456789")
    number = channel.removeprefix(row)
    midline, around = math.radians(_ROWS[row]), math.radians(90 - _ROWS[row])
    site = np.array([0.0, math.sin(midline), math.cos(midline)])
    if number != "Z":
        side = 1 if int(number) % 2 == 0 else -1
        end = np.array([side * math.sin(around), math.cos(around), 1 / math.tan(_RING)])
        end *= math.sin(_RING)
        # FP1 and O1 are on the ring themselves; elsewhere 1, 3, 5, 7 are quarters.
        steps = 1.0 if row in ("FP", "O") else (int(number) + 1) // 2 / 4
        angle = math.acos(float(site @ end))
        site = math.sin((1 - steps) * angle) * site + math.sin(steps * angle) * end
        site /= math.sin(angle)
    radius = math.acos(min(1.0, float(site[2]))) / _RING
    across = math.hypot(site[0], site[1]) or 1.0
    return radius * site[0] / across, radius * site[1] / across


POSITIONS: Array = np.array([_position(channel) for channel in CHANNELS])
"""Electrodes seen from above as (right, front), shape (62, 2).

The projection keeps the angle from the vertex; the ring through FPZ, T7 and OZ has
radius 1.
"""

# --------------------------------------------------------------------- eye measures

# Name, typical value, spread of a window (in the value's unit for the entropies, else
# as a share of it), group.
_EYE: tuple[tuple[str, float, float, str], ...] = (
    *(
        (f"pupil_{side}_de_{band}Hz", value, 0.4, "pupil power")
        for side in ("left", "right")
        for band, value in (
            ("0.05-0.2", -1.2),
            ("0.2-0.4", -1.9),
            ("0.4-0.6", -2.4),
            ("0.6-1", -2.7),
        )
    ),
    ("pupil_left_mean", 3.5, 0.05, "pupil size"),
    ("pupil_left_std", 0.15, 0.3, "pupil power"),
    ("pupil_right_mean", 3.5, 0.05, "pupil size"),
    ("pupil_right_std", 0.15, 0.3, "pupil power"),
    ("fixation_duration_mean", 280.0, 0.2, "fixation"),
    ("fixation_duration_std", 160.0, 0.3, "fixation"),
    ("dispersion_x_mean", 60.0, 0.3, "dispersion"),
    ("dispersion_y_mean", 45.0, 0.3, "dispersion"),
    ("dispersion_x_std", 35.0, 0.35, "dispersion"),
    ("dispersion_y_std", 28.0, 0.35, "dispersion"),
    ("saccade_duration_mean", 42.0, 0.15, "saccade"),
    ("saccade_duration_std", 18.0, 0.25, "saccade"),
    ("saccade_amplitude_mean", 180.0, 0.25, "saccade"),
    ("saccade_amplitude_std", 110.0, 0.3, "saccade"),
    ("blink_duration_mean", 180.0, 0.25, "blink"),
    ("blink_duration_std", 60.0, 0.35, "blink"),
    ("blink_frequency", 0.3, 0.35, "blink"),
    ("fixation_frequency", 2.6, 0.15, "rate"),
    ("fixation_duration_max", 900.0, 0.25, "fixation"),
    ("fixation_dispersion_max", 160.0, 0.3, "dispersion"),
    ("fixation_dispersion_total", 4000.0, 0.25, "dispersion"),
    ("saccade_frequency", 2.4, 0.15, "rate"),
    ("saccade_duration_average", 42.0, 0.12, "saccade"),
    ("saccade_amplitude_average", 180.0, 0.2, "saccade"),
    ("saccade_latency_average", 210.0, 0.15, "rate"),
)

EYE_MEASURES: tuple[str, ...] = tuple(row[0] for row in _EYE)
"""The 33 eye measures in the order of SEED-VII."""

# ------------------------------------------------------------------ what emotions do

_SPOT = 0.45  # radius of a cortical source's footprint, in head radii

# Component -> (electrode at the centre, radius in spots, {band: peak}).
_SCALP: Mapping[str, tuple[tuple[str, float, Mapping[str, float]], ...]] = {
    # Approach: the left frontal cortex is the busier one, so alpha falls there.
    "approach": (("F3", 1.0, {"alpha": -1.0}), ("F4", 1.0, {"alpha": 1.0})),
    "joy": (
        ("T7", 1.0, {"beta": 0.8, "gamma": 1.0}),
        ("T8", 1.0, {"beta": 0.8, "gamma": 1.0}),
    ),
    "calm": (("POZ", 1.4, {"alpha": 1.0}),),
    "aversion": (("PZ", 1.2, {"delta": 0.7}), ("FPZ", 1.0, {"gamma": 0.8})),
    "engagement": (("FZ", 1.0, {"theta": 1.0}),),
    "orienting": (("CPZ", 1.0, {"delta": 0.6, "theta": 0.8}),),
    "disgust": (("F7", 0.9, {"beta": 0.9}),),
    "vigilance": (("P8", 1.0, {"gamma": 0.8, "beta": 0.5}),),
}
_COMPONENTS = tuple(_SCALP)

# Component -> {eye measure or group of measures: weight}.
_GAZE: Mapping[str, Mapping[str, float]] = {
    "approach": {"saccade_amplitude_mean": 0.6, "saccade_amplitude_average": 0.6},
    "joy": {"pupil power": 0.6, "blink_frequency": -0.6},
    "calm": {"pupil size": -1.0, "fixation": 0.7, "saccade_frequency": -0.6},
    "aversion": {"fixation": -0.6, "blink_frequency": 0.8},
    "engagement": {"pupil size": 0.8, "blink_duration_mean": -0.6},
    "orienting": {"pupil power": 0.7, "saccade_latency_average": -0.9},
    "disgust": {"blink_duration_mean": 0.8, "fixation_dispersion_total": 0.8},
    "vigilance": {"saccade_frequency": 0.9, "fixation_frequency": 0.7},
}

_GAZE_SIZE = 0.33  # the eyes follow an emotion less closely than the scalp

# Emotion -> strength of each component, in the order of _COMPONENTS.
_EMOTIONS: Mapping[str, tuple[float, ...]] = {
    "negative": (-0.8, 0.0, 0.0, 1.0, 0.5, 0.0, 0.0, 0.4),
    "neutral": (0.0, 0.0, 1.0, 0.0, -0.5, 0.0, 0.0, 0.0),
    "positive": (0.8, 1.0, 0.0, 0.0, 0.6, 0.3, 0.0, 0.0),
    "happy": (0.8, 1.0, 0.0, 0.0, 0.6, 0.3, 0.0, 0.0),
    "sad": (-0.6, 0.0, 0.4, 0.8, -0.4, 0.0, 0.0, 0.0),
    "fear": (-0.7, 0.0, -0.2, 0.6, 0.6, 0.3, 0.0, 1.0),
    "disgust": (-0.5, 0.0, 0.0, 0.7, 0.3, 0.0, 1.0, 0.2),
    "anger": (0.7, -0.4, -0.4, 0.6, 0.8, 0.0, 0.2, 0.5),
    "surprise": (0.1, 0.3, -0.4, 0.0, 0.5, 1.0, 0.0, 0.3),
}

# The names and codes of SEED (3), SEED-IV (4), SEED-V (5) and SEED-VII (7).
_CLASSES: Mapping[int, tuple[str, ...]] = {
    2: ("negative", "positive"),
    3: ("negative", "neutral", "positive"),
    4: ("neutral", "sad", "fear", "happy"),
    5: ("disgust", "fear", "sad", "neutral", "happy"),
    6: ("disgust", "fear", "sad", "neutral", "happy", "anger"),
    7: ("disgust", "fear", "sad", "neutral", "happy", "anger", "surprise"),
}

# -------------------------------------------------------------------------- sensors


class _Sensor(ABC):
    """One sensor in standard units: 1 is the spread of a typical window.

    Attributes
    ----------
    modality : Modality
    space, across : ndarray
        Cholesky factors of the correlation between channels and between features.
    artefact : ndarray of shape (channels, features)
        How much a disturbance adds to each value, between -1 and 1.
    variations : int
        Standard normals that make the patterns those of one subject.
    """

    modality: Modality
    space: Array
    across: Array
    artefact: Array
    variations: int

    @property
    def shape(self) -> tuple[int, int]:
        """Channels and features."""
        return len(self.modality.channels), len(self.modality.features)

    def smooth(self, normals: Array) -> Array:
        """Correlate independent standard normals of shape (..., channels, features)."""
        correlated: Array = self.space @ normals @ self.across.T
        return correlated

    @abstractmethod
    def patterns(self, variation: Array) -> Array:
        """Return what each component does; shape (components, channels, features).

        Zeros for `variation` give the patterns that all subjects share.
        """

    @abstractmethod
    def physical(self, values: Array) -> Array:
        """Return standard units as the sensor reports them."""


class _EEG(_Sensor):
    """Differential entropy at 62 electrodes in 5 bands."""

    modality = Modality(channels=CHANNELS, features=BANDS, kind="eeg", unit="nat")
    variations = 3  # rotation, shift to the right, shift to the front

    _UNIT = 0.2  # nat; four seconds of a narrow band vary by about this much
    _LEVEL: Mapping[str, float] = {
        "delta": 3.9,
        "theta": 3.2,
        "alpha": 3.2,
        "beta": 2.7,
        "gamma": 2.2,
    }

    def __init__(self) -> None:
        right, front = POSITIONS.T
        distance = np.linalg.norm(POSITIONS[:, None] - POSITIONS, axis=-1)
        near = 0.75 * np.exp(-((distance / 0.5) ** 2)) + 0.25 * np.eye(len(CHANNELS))
        self.space = np.linalg.cholesky(near)
        self.across = _autoregression(0.4, len(BANDS))
        # Muscles of the scalp sit at its rim, and are fast.
        rim = np.clip(np.hypot(right, front) - 0.4, 0, 0.6) / 0.6
        self.artefact = rim[:, None] * np.array([0.1, 0.1, 0.3, 0.8, 1.0])
        typical = np.tile(list(self._LEVEL.values()), (len(CHANNELS), 1))
        typical[:, 0] += 0.3 * np.clip(front, 0, 1)  # eye movements
        typical[:, 2] += 0.4 * np.clip(-front, 0, 1)  # the posterior rhythm
        typical[:, 4] += 0.3 * np.abs(right)  # muscles
        self._typical = typical

    def patterns(self, variation: Array) -> Array:
        """Move the electrodes over the sources by a rotation and a shift."""
        angle = 0.15 * variation[0]
        turn = np.array(
            [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        )
        places = POSITIONS @ turn.T + 0.1 * variation[1:]
        found = np.zeros((len(_COMPONENTS), *self.shape))
        for pattern, sources in zip(found, _SCALP.values(), strict=True):
            for electrode, radius, bands in sources:
                centre = POSITIONS[CHANNELS.index(electrode)]
                distance = np.linalg.norm(places - centre, axis=1) / (radius * _SPOT)
                spot = np.clip(1 - distance**2, 0, None) ** 2
                for band, peak in bands.items():
                    pattern[:, BANDS.index(band)] += peak * spot
        return found

    def physical(self, values: Array) -> Array:
        """Return nats."""
        return self._typical + self._UNIT * values


class _Eye(_Sensor):
    """The 33 eye measures, each in its own unit."""

    modality = Modality(
        channels=EYE_MEASURES,
        features=("value",),
        kind="eye",
        unit="mm, px, ms, Hz or nat by measure",
    )
    variations = len(EYE_MEASURES)

    def __init__(self) -> None:
        groups = np.array([row[3] for row in _EYE])
        alike = groups[:, None] == groups
        self.space = np.linalg.cholesky(0.5 * alike + 0.5 * np.eye(len(groups)))
        self.across = np.eye(1)
        # A lost pupil looks like a blink: smaller, more blinks, wild gaze.
        lost = {"pupil size": -1.0, "blink": 1.0, "dispersion": 0.7, "pupil power": 0.5}
        self.artefact = np.array([[lost.get(group, 0.0)] for group in groups])

    def patterns(self, variation: Array) -> Array:
        """Let each measure respond more, less or the other way round."""
        found = np.zeros((len(_COMPONENTS), *self.shape))
        for pattern, weights in zip(found, _GAZE.values(), strict=True):
            for row, (name, _, _, group) in enumerate(_EYE):
                pattern[row] = weights.get(name, weights.get(group, 0.0))
        return _GAZE_SIZE * found * (1 + 0.5 * variation[:, None])

    def physical(self, values: Array) -> Array:
        """Return entropies as they are, everything else log-normal and positive.

        Values level off at 5 units, so that no window holds a longer fixation or more
        blinks than fit in its seconds.
        """
        values = 5 * np.tanh(values / 5)
        found = np.empty_like(values)
        for row, (name, typical, spread, _) in enumerate(_EYE):
            deviation = spread * values[..., row, :]
            found[..., row, :] = (
                typical + deviation if "_de_" in name else typical * np.exp(deviation)
            )
        return found


@cache
def _sensors() -> Mapping[str, _Sensor]:
    return {"eeg": _EEG(), "eye": _Eye()}


def _autoregression(coefficient: float, length: int) -> Array:
    """Return the Cholesky factor of a stationary AR(1) process of unit variance."""
    lags = np.abs(np.subtract.outer(np.arange(length), np.arange(length)))
    return np.linalg.cholesky(np.power(coefficient, lags))


# -------------------------------------------------------------------------- dataset

# What owns a stream of random numbers; the numbers are part of the recordings.
_CLIPS, _SUBJECT, _SESSION, _LENGTHS, _QUALITY, _NOISE, _PERIPHERALS = range(7)

_SECONDS = 4.0  # of a window, as in SEED-IV, -V and -VII
_COURSE = 0.8  # autocorrelation of the course that a clip gives its emotion
_RUN = 0.8  # autocorrelation of a sensor's condition: poor windows come in runs

# Usual sizes, in standard units, or as the spread of a logarithm for gains.
_SUBJECT_OFFSET = {"eeg": 3.0, "eye": 1.5}
_SUBJECT_GAIN, _OWN_LOADS = 0.2, 1.5
_SESSION_OFFSET, _SESSION_GAIN = 1.0, 0.1
_FIELD = 0.3  # a clip's effect on a sensor, beside that on the components

_SIZES = ("seed", "subjects", "sessions", "trials", "classes")
_MOST_WINDOWS = 2_000_000
"""More are gigabytes."""

_Count = Annotated[int, Bounds(1, words="a whole number from 1 up")]
_Strength = Annotated[float, Bounds(0, words="a number from 0 up")]
_Share = Annotated[float, Bounds(0, 0.5, words="a share between 0 and 0.5")]


@dataclass(frozen=True)
class _Person:
    """What stays with a subject, for one sensor."""

    patterns: Array  # components, channels, features
    loads: Array  # classes, components
    strength: float  # of what emotions do
    offset: Array  # channels, features
    log_gain: Array  # channels, features


@register(name="simulated")
class Simulated(Dataset):
    """Simulated EEG and eye recordings with a known truth; nothing in them is real.

    Sizes are in standard units: 1 is the spread of a typical window about its trial's
    mean, which is 0.2 nat of EEG differential entropy or an eye measure's own spread.
    At 0 a strength turns its effect off; the two shifts have their usual size at 1.

    Parameters
    ----------
    subjects : int
        How many people.
    sessions : int
        How many sessions of each person.
    trials : int
        Clips watched in a session; at least one of each class.
    windows : pair of int
        Shortest and longest trial, in windows of 4 s.
    classes : int
        How many emotions, 2 to 7. The names are those of SEED (3), SEED-IV (4),
        SEED-V (5) and SEED-VII (7).
    effect : float
        Size of what emotions do to the EEG where they do most, in standard units; the
        eyes show a third of it.
    strength_spread : float
        How much subjects differ in the size of that effect; standard deviation of
        its logarithm.
    stimulus_effect : float
        What a clip does beside its emotion, to everyone who sees it; standard
        deviation of each component in standard units. It makes unseen clips harder
        than unseen subjects.
    synchrony : float
        How much a clip makes its emotion wax and wane, at the same moments in everyone
        who sees it; standard deviation of each component's slow course, as a share of
        the component. It leaves the mean over time as it is.
    subject_shift : float
        Strength of what sets subjects apart: offset, gain, where the sources project
        and which components an emotion moves.
    session_shift : float
        Strength of what sets a subject's sessions apart: offset and gain, smaller.
    noise : float
        Standard deviation of the windows about their trial's mean, in standard units.
    autocorrelation : float
        Correlation of the noise of successive windows, 0 to below 1.
    poor : float
        Share of windows, per modality, in which an artefact replaces all that the
        emotion and the clip do; they come in runs. 0 to 0.5, as never both are poor.
    artefact : float
        Size of the artefact in poor windows, in standard units.
    missing : float
        Share of windows, per modality, that the sensor lost (NaN). 0 to 0.5, as
        never both are lost.
    length_reveals_class : bool
        Give each clip a length of its own, the same for everyone, as in the real data
        sets. By default, trial lengths tell nothing of the clip.
    repeat_stimuli : bool
        Show the same clips in each session, as SEED does; else new ones, as SEED-IV,
        -V and -VII do.
    peripherals : bool
        Add two sensors of eight measures each: ``uninformative``, whose drift tells
        trials apart and nothing of emotions, and ``misleading``, which follows the
        emotion in most people and shows another in the `misled`.
    misled : float
        Probability of each subject to be misled, 0 to 1; without `peripherals` it
        changes nothing.
    seed : int
        The same seed gives the same recordings, bit for bit.

    Raises
    ------
    ConfigurationError
        If an option is out of its range.

    Examples
    --------
    >>> data = Simulated(subjects=4, classes=5, trials=15).load()
    >>> data.inputs.signals["eeg"].shape[1:]
    (62, 5)
    """

    def __init__(
        self,
        *,
        subjects: _Count = 8,
        sessions: _Count = 2,
        trials: _Count = 12,
        windows: tuple[_Count, _Count] = (8, 14),
        classes: Annotated[int, Bounds(2, 7, words="2 to 7 emotions")] = 3,
        effect: _Strength = 2.2,
        strength_spread: _Strength = 0.2,
        stimulus_effect: _Strength = 0.3,
        synchrony: _Strength = 0.0,
        subject_shift: _Strength = 1.0,
        session_shift: _Strength = 1.0,
        noise: _Strength = 1.0,
        autocorrelation: Annotated[
            float, Bounds(0, below=1, words="a correlation from 0 to below 1")
        ] = 0.6,
        poor: _Share = 0.15,
        artefact: _Strength = 2.0,
        missing: _Share = 0.02,
        length_reveals_class: bool = False,
        repeat_stimuli: bool = True,
        peripherals: bool = False,
        misled: Annotated[
            float, Bounds(0, 1, words="a probability between 0 and 1")
        ] = 0.4,
        seed: Annotated[int, SEEDS] = 0,
    ) -> None:
        self.subjects, self.sessions, self.trials = subjects, sessions, trials
        self.windows, self.classes = windows, classes
        self.effect, self.strength_spread = effect, strength_spread
        self.stimulus_effect, self.synchrony = stimulus_effect, synchrony
        self.subject_shift, self.session_shift = subject_shift, session_shift
        self.noise, self.autocorrelation = noise, autocorrelation
        self.poor, self.artefact, self.missing = poor, artefact, missing
        self.length_reveals_class = length_reveals_class
        self.repeat_stimuli, self.seed = repeat_stimuli, seed
        self.peripherals, self.misled = peripherals, misled
        self._check()

    def load(self) -> EmotionData:
        """Make the recordings up."""
        blocks = [
            self._block(people, subject, session)
            for subject, people in enumerate(map(self._people, range(self.subjects)))
            for session in range(self.sessions)
        ]
        tables, labels, signals = zip(*blocks, strict=True)
        modalities = {name: s.modality for name, s in _sensors().items()}
        if self.peripherals:
            modalities |= PERIPHERALS
        inputs = Inputs(
            signals={
                name: np.concatenate([block[name] for block in signals])
                for name in modalities
            },
            windows=pd.concat(tables, ignore_index=True),
            modalities=modalities,
            name=self._title(),
        )
        return EmotionData(inputs, np.concatenate(labels), _CLASSES[self.classes])

    def truth(self) -> dict[str, Array]:
        """Return what each emotion does to each value, in standard units.

        Returns
        -------
        dict of str to ndarray of shape (classes, channels, features)
            For each modality the effect that subjects share, as a difference from
            the mean over classes. It is exactly 0 where no emotion acts; single
            subjects scale it, move it and add to it at the same places. Of
            `peripherals`, it is what the sensors show in those who are not misled.
        """
        found = {
            name: np.einsum("kp,pcf->kcf", self.effect * self._loads(), patterns)
            for name, sensor in _sensors().items()
            for patterns in [sensor.patterns(np.zeros(sensor.variations))]
        }
        if self.peripherals:
            shared = self._reaction()
            found |= {"uninformative": 0 * shared, "misleading": shared}
        return found

    # ---- one session of one subject

    def _block(
        self, people: Mapping[str, _Person], subject: int, session: int
    ) -> tuple[pd.DataFrame, NDArray[np.int64], dict[str, NDArray[np.float32]]]:
        """Return the windows, their labels and the signals of one session."""
        trial, window = np.nonzero(self._kept(subject, session))
        poor, lost = self._conditions(subject, session)
        signals = {}
        for name, person in people.items():
            values = self._record(name, person, poor[name], subject, session)
            values[lost[name]] = np.nan
            signals[name] = values[trial, window].astype(np.float32)
        if self.peripherals:
            for name, values in self._further(subject, session).items():
                signals[name] = values[trial, window].astype(np.float32)
        first = 0 if self.repeat_stimuli else session * self.trials
        table = {
            "subject": np.full(len(trial), subject + 1),
            "session": np.full(len(trial), session + 1),
            "trial": trial + 1,
            "stimulus": first + trial + 1,
            "start": _SECONDS * window,
        }
        windows = pd.DataFrame(table)[list(PROVENANCE)]
        return windows, self._labels(session)[trial], signals

    def _record(
        self,
        name: str,
        person: _Person,
        poor: NDArray[np.bool_],
        subject: int,
        session: int,
    ) -> Array:
        """Return one sensor's values; shape (trials, windows, channels, features)."""
        sensor, noise = _sensors()[name], self._stream(_NOISE, name, subject, session)
        clips, fields = self._clips(name, session)
        loads = person.loads[self._labels(session)] + self.stimulus_effect * clips
        evoked = np.einsum("kp,pcf->kcf", loads, person.patterns)
        evoked += self.stimulus_effect * _FIELD * fields
        moments = evoked[:, None]
        if self.synchrony:
            together = person.strength * self._loads()[self._labels(session)]
            waves = self.synchrony * together[:, None] * self._courses(session)
            moments = moments + np.einsum("ktp,pcf->ktcf", waves, person.patterns)

        shape = (self.trials, self.windows[1], *sensor.shape)
        course = _autoregression(self.autocorrelation, self.windows[1])
        background = np.einsum("tu,kucf->ktcf", course, noise.standard_normal(shape))
        disturbance = sensor.smooth(noise.standard_normal(shape))
        bursts = np.abs(noise.standard_normal((*shape[:2], 1, 1)))
        disturbance += sensor.artefact * bursts

        values = np.where(poor[:, :, None, None], self.artefact * disturbance, moments)
        values += self.noise * sensor.smooth(background)
        drift = self._stream(_SESSION, name, subject, session)
        offset, log_gain = self.session_shift * self._fields(sensor, drift, 2)
        gain = np.exp(person.log_gain + _SESSION_GAIN * log_gain)
        return sensor.physical(gain * values + person.offset + _SESSION_OFFSET * offset)

    def _further(self, subject: int, session: int) -> dict[str, Array]:
        """Return the peripherals, of shape (trials, windows, measures, 1)."""
        stream = self._stream(_PERIPHERALS, None, 1, subject, session)
        person = self._stream(_PERIPHERALS, None, 2, subject)
        misled = bool(person.random() < self.misled)
        longest = self.windows[1]
        return {
            "uninformative": uninformative(self.trials, longest, stream),
            "misleading": misleading(
                self._reaction(),
                self._labels(session),
                longest,
                misled=misled,
                person=person,
                stream=stream,
            ),
        }

    def _reaction(self) -> Array:
        """Return what classes do to the misleading sensor, in those it serves well."""
        return reaction(self.classes, self._stream(_PERIPHERALS, None, 0))

    def _conditions(
        self, subject: int, session: int
    ) -> tuple[dict[str, NDArray[np.bool_]], dict[str, NDArray[np.bool_]]]:
        """Return where each sensor is poor and lost, of shape (trials, windows)."""
        stream = self._stream(_QUALITY, None, subject, session)
        shape = (self.trials, self.windows[1])
        state = stream.standard_normal(shape) @ _autoregression(_RUN, shape[1]).T
        luck = stream.random(shape)
        low = NormalDist().inv_cdf(self.poor) if self.poor else -math.inf
        # Opposite tails, so that one modality at a time is poor or lost.
        poor = {"eeg": state < low, "eye": state > -low}
        lost = {"eeg": luck < self.missing, "eye": luck >= 1 - self.missing}
        return poor, lost

    def _kept(self, subject: int, session: int) -> NDArray[np.bool_]:
        """Return which windows there are; shape (trials, longest)."""
        if self.length_reveals_class:
            stream = self._stream(_LENGTHS, None, self._list(session))
        else:
            stream = self._stream(_LENGTHS, None, subject, session)
        shortest, longest = self.windows
        share = stream.random(self.trials)
        lengths = shortest + np.floor(share * (longest - shortest + 1))
        kept: NDArray[np.bool_] = np.arange(longest) < lengths[:, None]
        return kept

    # ---- clips

    def _list(self, session: int) -> int:
        """Return which list of clips a session shows."""
        return 0 if self.repeat_stimuli else session

    def _labels(self, session: int) -> NDArray[np.int64]:
        """Return the class of each clip of a session."""
        stream = self._stream(_CLIPS, None, self._list(session))
        return stream.permutation(np.arange(self.trials) % self.classes)

    def _clips(self, name: str, session: int) -> tuple[Array, Array]:
        """Return what clips do beside their emotion: to components, and to a sensor."""
        sensor, shown = _sensors()[name], self._list(session)
        stream = self._stream(_CLIPS, None, shown, 1)
        loads = stream.standard_normal((self.trials, len(_COMPONENTS)))
        return loads, self._fields(
            sensor, self._stream(_CLIPS, name, shown), self.trials
        )

    def _courses(self, session: int) -> Array:
        """Return how components wax and wane; shape (trials, longest, components)."""
        stream = self._stream(_CLIPS, None, self._list(session), 2)
        shape = (self.trials, self.windows[1], len(_COMPONENTS))
        slow = _autoregression(_COURSE, self.windows[1])
        courses: Array = slow @ stream.standard_normal(shape)
        return courses

    def _loads(self) -> Array:
        """Return each class's components, less their mean; (classes, components)."""
        loads = np.array([_EMOTIONS[name] for name in _CLASSES[self.classes]])
        centred: Array = loads - loads.mean(axis=0)
        return centred

    # ---- subjects

    def _people(self, subject: int) -> dict[str, _Person]:
        """Return what is a subject's own, per sensor."""
        mood = self._stream(_SUBJECT, None, subject).standard_normal()
        strength = self.effect * math.exp(self.strength_spread * mood)
        people = {}
        for name, sensor in _sensors().items():
            stream = self._stream(_SUBJECT, name, subject)
            loads = self._loads()
            own = stream.standard_normal(loads.shape) * loads.std(axis=0)
            variation = stream.standard_normal(sensor.variations)
            offset, log_gain = self.subject_shift * self._fields(sensor, stream, 2)
            people[name] = _Person(
                patterns=sensor.patterns(self.subject_shift * variation),
                loads=strength * (loads + self.subject_shift * _OWN_LOADS * own),
                strength=strength,
                offset=_SUBJECT_OFFSET[name] * offset,
                log_gain=_SUBJECT_GAIN * log_gain,
            )
        return people

    # ---- random numbers

    def _stream(self, owner: int, name: str | None, *key: int) -> np.random.Generator:
        """Return the random numbers of one owner, and of one sensor if it is named."""
        sensor = 0 if name is None else 1 + list(_sensors()).index(name)
        sequence = np.random.SeedSequence(self.seed, spawn_key=(owner, sensor, *key))
        return np.random.default_rng(sequence)

    @staticmethod
    def _fields(sensor: _Sensor, stream: np.random.Generator, count: int) -> Array:
        """Return smooth random fields over the sensor's channels and features."""
        return sensor.smooth(stream.standard_normal((count, *sensor.shape)))

    # ---- options

    def _title(self) -> str:
        """Return what was simulated: seed, sizes and each knob that was turned."""
        found = {k: getattr(self, k) for k in parameters(type(self)) if k not in _SIZES}
        found["windows"] = tuple(self.windows)  # a list, where it comes from a file
        turned = [
            f"{knob}={value}"
            for knob, value in found.items()
            if value != parameters(type(self))[knob].default
        ]
        return (
            f"simulated (seed {self.seed}: "
            f"{count(self.subjects, 'subject')} x {count(self.sessions, 'session')} x "
            f"{count(self.trials, 'trial')}, {count(self.classes, 'class')}"
            f"{''.join(f', {knob}' for knob in turned)})"
        )

    def _check(self) -> None:
        """Raise where two options do not go together."""
        if self.trials < self.classes:
            raise ConfigurationError(
                f"simulated: found trials={self.trials}; expected a whole number from "
                f"{self.classes} up, as there are {self.classes} classes."
            )
        shortest, longest = self.windows
        if shortest > longest:
            raise ConfigurationError(
                f"simulated: found windows={self.windows!r}; expected the shortest and "
                f"the longest trial in windows, such as (8, 14)."
            )
        if self.length_reveals_class and shortest == longest:
            raise ConfigurationError(
                f"simulated: found length_reveals_class=True with "
                f"windows={self.windows!r}, where all trials are of one length; "
                f"expected a range of lengths."
            )
        whole = self.subjects * self.sessions * self.trials * longest
        if whole > _MOST_WINDOWS:
            raise ConfigurationError(
                f"simulated: found subjects={self.subjects}, sessions={self.sessions}, "
                f"trials={self.trials} and windows={self.windows!r}, up to {whole} "
                f"windows in all; expected at most {_MOST_WINDOWS}."
            )
