"""DEAP: 32 subjects, 40 music videos; EEG and eight peripheral channels."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...core import Modality
from ...errors import ConfigurationError, DataError, data_error
from ...registry import register
from ...values import given_path
from ...words import count
from ..files import read_pickle
from ..reader import Reader, Recording, Trial, listing
from ..signals.eeg import EEGFeature, EEGFeatures, mean_second_removed
from ..signals.features import baseline_removed
from ..signals.physiology import (
    PULSE_MEASURES,
    RESPIRATION_MEASURES,
    SKIN_MEASURES,
    pulse_measures,
    respiration_measures,
    signal_statistics,
    skin_measures,
)
from .shared.ratings import RatingClasses, Ties, within_scale

__all__ = ["DEAP"]

Array = NDArray[Any]

SUBJECTS = range(1, 33)
TRIALS = 40
SAMPLING_RATE = 128
BASELINE = 3 * SAMPLING_RATE
"""Samples before the video begins."""

SAMPLES = 63 * SAMPLING_RATE
"""Samples of a trial: the baseline and a minute of the video."""

_NAMES = (
    "Fp1 AF3 F3 F7 FC5 FC1 C3 T7 CP5 CP1 P3 P7 PO3 O1 Oz Pz "
    "Fp2 AF4 Fz F4 F8 FC6 FC2 Cz C4 T8 CP6 CP2 P4 P8 PO4 O2"
)
ELECTRODES = tuple(_NAMES.split())
"""Channels 1 to 32 of the files, in the order that Geneva recorded them."""

PERIPHERAL = (
    "hEOG",
    "vEOG",
    "zEMG",
    "tEMG",
    "GSR",
    "respiration",
    "plethysmograph",
    "temperature",
)
"""Channels 33 to 40 of the files: eyes, zygomaticus and trapezius muscle, skin
resistance, breath, pulse and skin temperature."""

SCALES = ("valence", "arousal", "dominance", "liking")
"""Columns of the ratings."""

BANDS = ("theta", "alpha", "beta", "gamma")
"""Bands that the release holds: it was filtered to 4-45 Hz."""

Target = Literal["valence", "arousal", "dominance", "liking", "quadrant"]
_MEASURES: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("hEOG", "vEOG", "zEMG", "tEMG"), ("ln_sd",)),
    "GSR": SKIN_MEASURES,
    "respiration": RESPIRATION_MEASURES,
    "plethysmograph": PULSE_MEASURES,
    "temperature": ("mean", "slope"),
}
_SLOW = ("respiration", "plethysmograph")
"""Channels of which three seconds of baseline tell nothing."""

_AROUND = {"respiration": 20.0, "plethysmograph": 16.0, "GSR": 16.0}
"""Seconds around a window, at least, of which these measures are made."""

_PART = "data_preprocessed_python"
_FOLDERS = ("", _PART, f"DEAP/{_PART}", f"deap/{_PART}", "DEAP", "deap")
_FETCH_AGAIN = f"Fetch the file again: the folder {_PART} of the publisher."


@register(name="deap")
class DEAP(Reader):
    """DEAP: 32 subjects rated 40 music videos; EEG and eight peripheral channels.

    Source: https://www.eecs.qmul.ac.uk/mmv/datasets/deap/, on request; the preprocessed
    release for Python, ``s01.dat`` to ``s32.dat``: 128 Hz, average reference, 4-45 Hz,
    EOG removed from the EEG, a minute of each video after 3 s of baseline. Cite
    Koelstra S, Mühl C, Soleymani M, Lee J-S, Yazdani A, Ebrahimi T, Pun T, Nijholt A,
    Patras I (2012). DEAP: a database for emotion analysis using physiological signals.
    IEEE Transactions on Affective Computing 3(1):18-31, doi 10.1109/T-AFFC.2011.15.

    ``eeg`` holds features of 32 electrodes (windows, 32, bands); ``peripheral`` the
    measures of each chosen channel (windows, measures, 1): the logarithm of the
    deviation of the eyes' and muscles' activity, and what
    :mod:`domainemo.data.signals.physiology` makes of skin, breath (NaN where no rhythm
    is found), pulse (likewise) and temperature. With ``feature="raw"`` both hold the
    samples themselves, (windows, channels, samples); in windows of 1 s the whole data
    set then takes 1.6 GB.

    Things to know before believing a figure:

    - The trials lie in the order of the videos' numbers, the same for all subjects,
      not in the order in which they were shown. The number is trial and stimulus.
    - Ratings are continuous from 1 to 9, and some are exactly 5. These are what `ties`
      is about: ``"high"`` is what torcheeg and PhysioSync do, ``"low"`` what LibEER
      does. Moving them from high to low makes the high class smaller by as much.
    - Skin resistance was recorded at two sites with different devices (subjects 1 to
      22 and 23 to 32), on scales that differ. Normalise per subject, as ``adapt`` does
      by default. A skin response is a fall of resistance, and counted as one.
    - Delta waves are filtered away; so `bands` has no delta.

    Parameters
    ----------
    root : str or Path
        The folder of the files, or one above it with ``data_preprocessed_python/`` or
        ``DEAP/`` in it.
    target : {"valence", "arousal", "dominance", "liking", "quadrant"}
        The rating that becomes low or high; or valence and arousal together, as the
        four classes LVLA, LVHA, HVLA and HVHA.
    threshold : float
        Ratings above it are high, ratings below it low.
    ties : {"high", "low", "drop"}
        What a rating of exactly `threshold` is; with ``"drop"`` its trial is left out.
    feature : {"de", "psd", "raw"}
        Differential entropy (nats, of microvolts), logarithm of the power spectral
        density, or the samples.
    window : float
        Length of a window in seconds, 0.5 to 60; windows do not overlap. What remains
        of the minute after the last full window is dropped.
    bands : tuple of str
        Some of theta, alpha, beta and gamma, see
        :data:`domainemo.data.signals.features.BANDS`. Raw samples have none.
    baseline : {"features", "signal", "none"}
        What the 3 s before the video are for. ``"features"``: their features, in
        windows of 1 s whatever `window` is, are averaged and subtracted from those of
        each window; of the peripheral measures, from those that three seconds can
        give (deviations, and the levels of skin and temperature). ``"signal"``: the
        mean of the three seconds, a waveform of 1 s for each channel, is subtracted
        from each second of the video before features are computed, as PhysioSync and
        LibEER do; peripheral measures stay as they are, since a repeated second looks
        like a pulse. ``"none"``: they are dropped, after serving the filters as
        run-in. Of raw samples a second's features are its samples, so that
        ``"features"`` and ``"signal"`` are the same there, for all 40 channels.
    peripheral : bool
        Whether to read the peripheral channels.
    peripheral_channels : tuple of str
        Which of them: hEOG, vEOG, zEMG, tEMG, GSR, respiration, plethysmograph,
        temperature.

    Raises
    ------
    ConfigurationError
        If an option is not one of these.
    """

    home = "https://www.eecs.qmul.ac.uk/mmv/datasets/deap/"

    def __init__(
        self,
        root: str | Path | None,
        *,
        target: Target = "valence",
        threshold: Annotated[float, within_scale(1, 9)] = 5.0,
        ties: Ties = "high",
        feature: EEGFeature = "de",
        window: float = 1.0,
        bands: tuple[str, ...] = BANDS,
        baseline: Literal["features", "signal", "none"] = "features",
        peripheral: bool = True,
        peripheral_channels: tuple[str, ...] = PERIPHERAL,
    ) -> None:
        self._rule = RatingClasses(target, threshold, ties)
        self._eeg = EEGFeatures(
            "deap", SAMPLING_RATE, feature, tuple(bands), window, BANDS
        )
        chosen = tuple(peripheral_channels)
        if not chosen or not set(chosen) <= set(PERIPHERAL) or _repeats(chosen):
            raise ConfigurationError(
                f"deap: found peripheral_channels={chosen!r}; expected some of "
                f"{', '.join(PERIPHERAL)}, each once. For none of them, set "
                f"peripheral=False."
            )
        self.root = None if root is None else given_path("root", root)
        self.target, self.threshold, self.ties = target, threshold, ties
        self.feature, self.window, self.bands = feature, window, tuple(bands)
        self.baseline, self.peripheral = baseline, peripheral
        self.peripheral_channels = chosen
        self.classes = self._rule.classes

    def recordings(self) -> list[Recording]:
        """Find the subjects' files, in order of their numbers."""
        files = _find_files(self.root)
        return [Recording(number, {"eeg": path}) for number, path in files.items()]

    def trials(self, recording: Recording) -> Iterator[Trial | DataError]:
        """Yield a subject's trials, in order of the videos' numbers."""
        path = recording.files["eeg"]
        data, ratings = _read(path)
        for number, (signals, rated) in enumerate(zip(data, ratings, strict=True), 1):
            where = f"{path}, trial {number}"
            error = _check_ratings(where, rated) or _check_signals(where, signals)
            if error:
                yield error
                continue
            label = self._rule.label(dict(zip(SCALES, rated.tolist(), strict=True)))
            if label is None:
                continue
            found = self._signals(signals.astype(np.float64))
            start = np.arange(len(found["eeg"])) * self._eeg.seconds
            yield Trial(1, number, number, label, found, start)

    def modalities(self) -> dict[str, Modality]:
        """Describe the EEG's features and the peripheral measures or samples."""
        eeg = self._eeg
        described = {"eeg": Modality(ELECTRODES, eeg.names, "eeg", eeg.unit)}
        if not self.peripheral:
            return described
        channels, features, span = self.peripheral_channels, eeg.names, None
        if self.feature != "raw":
            span = max(_AROUND.get(name, eeg.seconds) for name in channels)
            span = max(span, eeg.seconds)
            channels = tuple(
                f"{name}_{each}" for name in channels for each in _MEASURES[name]
            )
            features = ("value",)
        described["peripheral"] = Modality(channels, features, "physiology", span=span)
        return described

    def title(self) -> str:
        """Name the data set and its options."""
        remainder = (SAMPLES - BASELINE) % self._eeg.samples / SAMPLING_RATE
        parts = [
            "DEAP, preprocessed for Python",
            self._rule.describe(),
            self._eeg.describe(),
            self._baseline_words(),
        ]
        if remainder:
            parts.append(f"last {remainder:g} s of each trial dropped")
        if self.peripheral:
            parts.append(f"with {', '.join(self.peripheral_channels)}")
        if self.peripheral and "GSR" in self.peripheral_channels:
            parts.append("GSR on two scales: normalise per subject")
        return f"deap ({'; '.join(parts)})"

    def release(self) -> str:
        """Say that it is the preprocessed release for Python, and how much of it."""
        present = len(self.recordings())
        return f"preprocessed for Python, {present} of {len(SUBJECTS)} subjects"

    def missing(self) -> list[str]:
        """List the subjects that have no file."""
        present = {recording.subject for recording in self.recordings()}
        return [
            f"subject {number} (s{number:02d}.dat)"
            for number in SUBJECTS
            if number not in present
        ]

    # ------------------------------------------------------------------- one trial

    def _signals(self, trial: Array) -> dict[str, Array]:
        """Return every modality of a trial of shape (40, samples)."""
        eeg = trial[: len(ELECTRODES)]
        rows = [len(ELECTRODES) + PERIPHERAL.index(n) for n in self.peripheral_channels]
        found = {"eeg": self._eeg_features(eeg)}
        if self.peripheral and self.feature == "raw":
            samples = self._less_baseline(trial[rows])[:, BASELINE:]
            found["peripheral"] = self._eeg.cut(samples)
        elif self.peripheral:
            pairs = zip(self.peripheral_channels, trial[rows], strict=True)
            measures = [self._measures(name, signal) for name, signal in pairs]
            found["peripheral"] = np.concatenate(measures, axis=1)[:, :, None]
        return found

    def _eeg_features(self, eeg: Array) -> Array:
        features = self._eeg.of(self._less_baseline(eeg), first=BASELINE)
        if self.baseline != "features" or self.feature == "raw":
            return features
        seconds = EEGFeatures("deap", SAMPLING_RATE, self.feature, self.bands, 1.0)
        # What follows the baseline is run-out for the filter; 7 s are plenty.
        before = seconds.of(eeg[:, : BASELINE + 7 * SAMPLING_RATE])[:3]
        return baseline_removed(features, before)

    def _less_baseline(self, signals: Array) -> Array:
        """Return the signals less their baseline's mean second, if so chosen."""
        of_samples = self.baseline == "features" and self.feature == "raw"
        if self.baseline == "signal" or of_samples:
            return mean_second_removed(signals, signals[:, :BASELINE], SAMPLING_RATE)
        return signals

    def _measures(self, name: str, signal: Array) -> Array:
        """Return a peripheral channel's measures, shape (windows, measures)."""
        window = self._eeg.seconds
        measures = _measures(name, signal[BASELINE:], window)
        if self.baseline == "features" and name not in _SLOW:
            before = _measures_without_neighbours(name, signal[:BASELINE])
            measures[:, :1] = baseline_removed(measures[:, :1], before)
        return measures

    def _baseline_words(self) -> str:
        if self.baseline == "none":
            return "baseline not used"
        if self.baseline == "signal" or self.feature == "raw":
            return "less the mean second of the 3 s before the video"
        return "less the mean features of the 3 s before the video"


# ---------------------------------------------------------------- peripheral measures


def _measures(name: str, signal: Array, window: float) -> Array:
    """Return the measures of a channel's minute, shape (windows, measures)."""
    rate, around = SAMPLING_RATE, max(_AROUND.get(name, 0.0), window)
    if name == "respiration":
        return respiration_measures(signal, rate, window, neighbourhood=around)
    if name == "plethysmograph":
        return pulse_measures(signal, rate, window, neighbourhood=around)
    if name == "GSR":
        # Responses are rises of conductance: falls of the resistance in the files.
        measures = skin_measures(-signal, rate, window, neighbourhood=around)
        measures[:, :2] *= -1
        return measures
    mean, deviation, slope = signal_statistics(signal[None], rate, window)[:, 0].T
    if name == "temperature":
        return np.column_stack([mean, slope])
    return _logarithm(deviation)[:, None]


def _measures_without_neighbours(name: str, baseline: Array) -> Array:
    """Return a channel's first measure in each second of a baseline, shape (3, 1)."""
    statistics = signal_statistics(baseline[None], SAMPLING_RATE, 1.0)[:, 0]
    if name in ("GSR", "temperature"):
        return statistics[:, :1]
    return _logarithm(statistics[:, 1:2])


def _logarithm(deviation: Array) -> Array:
    """Return the natural logarithm; NaN where a sensor held one value."""
    logarithm: Array = np.log(np.where(deviation > 0, deviation, np.nan))
    return logarithm


# ------------------------------------------------------------------------------ files


def _find_files(root: Path | None) -> dict[int, Path]:
    """Return the subjects' files by number, in order."""
    expected = f"s01.dat to s32.dat here or in {_PART}/"
    remedy = (
        f"Name the folder of the preprocessed release for Python; it comes from "
        f"{DEAP.home}."
    )
    for folder in [root / name for name in _FOLDERS] if root else []:
        if files := _subject_files(folder):
            return files
    found = listing(root)
    if re.search(r"\bs\d\d\.(mat|bdf)", found):
        found += ", which is another release (for MATLAB, or not preprocessed)"
    raise data_error(root or "deap", found, expected, remedy)


def _subject_files(folder: Path) -> dict[int, Path]:
    files = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        match = re.fullmatch(r"s(\d\d)\.dat", path.name)
        if not match:
            continue
        if int(match[1]) not in SUBJECTS:
            raise data_error(
                path,
                f"subject {int(match[1])} by the file's name",
                "s01.dat to s32.dat",
                "Rename the file, or move it elsewhere.",
            )
        files[int(match[1])] = path
    return files


def _read(path: Path) -> tuple[Array, Array]:
    """Return signals (trials, channels, samples) and ratings (trials, scales)."""
    content = read_pickle(path)
    if not isinstance(content, dict):
        found = f"an object of type {type(content).__name__}"
        expected = "a dictionary with the keys 'data' and 'labels'"
        raise data_error(path, found, expected, _FETCH_AGAIN)
    channels = len(ELECTRODES) + len(PERIPHERAL)
    data = _array(path, content, "data", (TRIALS, channels, SAMPLES))
    ratings = _array(path, content, "labels", (TRIALS, len(SCALES)))
    return data, ratings.astype(np.float64)


def _array(
    path: Path, content: Mapping[Any, Any], key: str, shape: tuple[int, ...]
) -> Array:
    where = f"{path}, key {key!r}"
    if key not in content:
        keys = ", ".join(sorted(map(repr, content))) or "none"
        raise data_error(where, f"only the keys {keys}", "this key", _FETCH_AGAIN)
    array = np.asarray(content[key])
    if array.dtype.kind not in "iuf" or array.shape != shape:
        found = f"an array of shape {array.shape} and type {array.dtype}"
        raise data_error(where, found, f"real numbers of shape {shape}", _FETCH_AGAIN)
    return array


def _check_ratings(where: str, rated: Array) -> DataError | None:
    for scale, rating in zip(SCALES, rated.tolist(), strict=True):
        if not 1 <= rating <= 9:
            where = f"{where}, rating of {scale}"
            return data_error(where, f"{rating:g}", "a number 1 to 9", _FETCH_AGAIN)
    return None


def _check_signals(where: str, signals: Array) -> DataError | None:
    lost = ~np.isfinite(signals).all(axis=1)
    if not lost.any():
        return None
    channel = (*ELECTRODES, *PERIPHERAL)[int(lost.argmax())]
    channels = count(int(lost.sum()), "channel")
    found = f"NaN or infinity in {channels}, the first being {channel}"
    return data_error(where, found, "finite values", _FETCH_AGAIN)


def _repeats(names: tuple[str, ...]) -> bool:
    return len(set(names)) < len(names)
