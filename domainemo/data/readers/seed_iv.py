"""SEED-IV: four emotions, EEG and eye movements, from the published MATLAB files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from numpy.typing import NDArray

from ...core import Modality
from ...errors import ConfigurationError, DataError, data_error
from ...registry import register
from ...values import given_path
from ..files import MatFile, open_mat
from ..montage import SEED_BANDS, SEED_ELECTRODES
from ..reader import Reader, Recording, Trial, listing
from .shared.seed_family import (
    RELEASED_WINDOW,
    Feature,
    Source,
    absent,
    check_raw,
    check_window,
    computed_features,
    data_set_folder,
    eeg_modality,
    eye_folder,
    eye_modality,
    feature_words,
    on_one_clock,
    smoothing_words,
    span_of,
    starts,
    subject_files,
    subject_recordings,
    window_up_to,
)

__all__ = ["SEEDIV"]

Array = NDArray[Any]

CLASSES = ("neutral", "sad", "fear", "happy")
"""Class names in the order of the publisher's numbers, 0 to 3."""

SUBJECTS = range(1, 16)
SESSIONS = range(1, 4)
TRIALS = range(1, 25)

LABELS = {
    1: "1 2 3 0 2 0 0 1 0 1 2 1 1 1 2 3 2 2 3 3 0 3 0 3",
    2: "2 1 3 0 0 2 0 2 3 3 2 3 2 0 1 1 2 1 0 3 0 1 3 1",
    3: "1 2 2 1 3 3 3 1 1 2 1 0 2 3 3 0 2 3 0 0 2 0 1 0",
}
"""Class of each trial by session; published in ``ReadMe.txt`` only."""

WINDOWS = {
    1: "42 23 49 32 22 40 38 52 36 42 12 27 54 42 64 35 17 44 35 12 28 28 43 34",
    2: "55 25 34 36 53 27 34 46 34 20 60 12 36 27 44 15 46 49 45 10 37 44 24 19",
    3: "42 32 23 45 48 26 64 23 26 16 51 41 39 19 28 44 14 17 45 22 39 38 41 39",
}
"""Windows of 4 s in each trial by session, the same for all subjects."""

DATES = {
    1: "20160518 20150915 20150919 20151111 20160406 20150507 20150715 20151103 "
    "20151028 20151014 20150916 20150725 20151115 20151205 20150508",
    2: "20161125 20150920 20151018 20151118 20160413 20150511 20150717 20151110 "
    "20151119 20151021 20150921 20150804 20151125 20151208 20150514",
    3: "20161126 20151012 20151101 20151123 20160420 20150512 20150721 20151117 "
    "20151209 20151023 20151011 20150807 20161130 20151215 20150527",
}
"""Date of each subject in the published file names, by session."""

EYE_MEASURES = (
    "pupil_x_mean",
    "pupil_y_mean",
    "pupil_x_std",
    "pupil_y_std",
    "pupil_x_de_0-0.2Hz",
    "pupil_y_de_0-0.2Hz",
    "pupil_x_de_0.2-0.4Hz",
    "pupil_y_de_0.2-0.4Hz",
    "pupil_x_de_0.4-0.6Hz",
    "pupil_y_de_0.4-0.6Hz",
    "pupil_x_de_0.6-1Hz",
    "pupil_y_de_0.6-1Hz",
    "dispersion_x_mean",
    "dispersion_y_mean",
    "dispersion_x_std",
    "dispersion_y_std",
    "fixation_duration_mean",
    "fixation_duration_std",
    "saccade_duration_mean",
    "saccade_amplitude_mean",
    "saccade_duration_std",
    "saccade_amplitude_std",
    "blink_frequency",
    "fixation_frequency",
    "fixation_duration_max",
    "fixation_dispersion_total",
    "fixation_dispersion_max",
    "saccade_frequency",
    "saccade_duration_average",
    "saccade_amplitude_average",
    "saccade_latency_average",
)
"""Rows of the eye arrays. The publisher names the groups; the order inside 18 to 21,
the saccades, is what others report."""

_KEYS = {"lds": "LDS", "moving-average": "movingAve"}
_EEG_FOLDERS = {"released": "eeg_feature_smooth", "computed": "eeg_raw_data"}
_EYE_FOLDER = "eye_feature_smooth"
_LONGEST = 30  # The shortest trial lasts 10 windows of 4 s.


@register(name="seed-iv")
class SEEDIV(Reader):
    """Neutral, sad, fear, happy; EEG and eye movements of 15 subjects, 3 sessions.

    Source: BCMI laboratory, Shanghai Jiao Tong University, on request:
    https://bcmi.sjtu.edu.cn/home/seed/seed-iv.html. Cite Zheng W-L, Liu W, Lu Y, Lu
    B-L, Cichocki A (2019). EmotionMeter: a multimodal framework for recognizing human
    emotions. IEEE Transactions on Cybernetics 49(3):1110-1122, doi
    10.1109/TCYB.2018.2797176.

    ``eeg`` holds a feature of five bands at 62 electrodes, ``eye`` 31 measures (see
    ``EYE_MEASURES``), NaN where the file has NaN. Each of the 72 trials has a clip of
    its own, numbered 1 to 72 as the stimulus: sessions share none.

    What to know before believing a figure:

    - The files hold no labels; they are those of the publisher's ``ReadMe.txt``. The
      session is the folder's number, whatever dates the file names carry.
    - The last nine eye measures are statistics of events. In SEED-VII they are constant
      inside a clip and so tell the trial; here they may be.
    - Smoothing by a linear dynamic system uses the windows that follow.
    - The scale of the released features is not documented; never mix released and
      computed ones.
    - The last 8 trials of session 1, a usual test set, have no sad clip at all.

    Parameters
    ----------
    root : str or Path
        The data set's folder, or the data root above it, in which it may be called
        ``SEED-IV``, ``SEED_IV`` or the like.
    feature : {"de", "psd"}
        Differential entropy, or power spectral density.
    smoothing : {"lds", "moving-average", "none"}
        Over the windows of a trial, by a linear dynamic system or a moving average.
        ``"none"`` is for computed features: there are no released ones without.
    source : {"released", "computed"}
        Features as released in ``eeg_feature_smooth``, or computed from
        ``eeg_raw_data`` (200 Hz); the moving average then spans 5 windows.
    window : float
        Length of a window in seconds; other than 4 for computed features without eye.
    eye : bool
        False reads the EEG alone.

    Raises
    ------
    ConfigurationError
        If an option is not one of these, or two do not go together.
    """

    home = "https://bcmi.sjtu.edu.cn/home/seed/seed-iv.html"

    def __init__(
        self,
        root: str | Path | None,
        *,
        feature: Feature = "de",
        smoothing: Literal["lds", "moving-average", "none"] = "lds",
        source: Source = "released",
        window: Annotated[float, window_up_to(_LONGEST)] = 4.0,
        eye: bool = True,
    ) -> None:
        if source == "released" and smoothing not in _KEYS:
            raise ConfigurationError(
                f"seed-iv: found smoothing={smoothing!r} with source='released'; "
                f"expected one of {', '.join(map(repr, _KEYS))}, because SEED-IV was "
                f"released smoothed only. Choose one of these, or source='computed'."
            )
        check_window("seed-iv", window, source, eye)
        self.root = None if root is None else given_path("root", root)
        self.feature, self.smoothing, self.source = feature, smoothing, source
        self.window, self.eye = float(window), eye
        self.classes = CLASSES

    def recordings(self) -> list[Recording]:
        """Find the file, or the two, of each subject and session.

        Raises
        ------
        DataError
            If there are none, two of a subject in a folder, or EEG without eye.
        """
        found = []
        for session, files in self._eeg_files().items():
            eyes = self._eye_files(session) if self.eye else None
            there = self._eye_folder(session) if self.eye else self._folder()
            found += subject_recordings(files, eyes, there, session)
        return sorted(found, key=lambda each: (each.subject, each.session))

    def trials(self, recording: Recording) -> Iterator[Trial | DataError]:
        """Yield the 24 trials of a subject's session.

        Raises
        ------
        DataError
            If a file cannot be read at all.
        """
        assert recording.session is not None
        eeg = open_mat(recording.files["eeg"])
        eye = open_mat(recording.files["eye"]) if self.eye else None
        keys = self._keys(eeg)
        for trial in TRIALS:
            try:
                yield self._trial(recording.session, trial, eeg, keys[trial], eye)
            except DataError as error:
                yield error

    def modalities(self) -> dict[str, Modality]:
        """Describe ``eeg`` (62 electrodes, 5 bands) and ``eye`` (31 measures)."""
        span = span_of(self.smoothing, self.source, self.window)
        modalities = {"eeg": eeg_modality(self.feature, self.source, span)}
        if self.eye:
            modalities["eye"] = eye_modality(EYE_MEASURES)
        return modalities

    def title(self) -> str:
        """Name the data set, the features, how they are smoothed and the window."""
        return (
            f"seed-iv ({feature_words(self.feature, self.source, 'eeg_raw_data')}, "
            f"{smoothing_words(self.smoothing, self.source)}, {self.window:g} s "
            f"windows, {'EEG and eye movements' if self.eye else 'EEG alone'})"
        )

    def release(self) -> str:
        """Say which part is read, and whether its files carry the published dates."""
        files = self._eeg_files()
        names = {
            f"{session}/{path.name}": f"{subject}_{_date(session, subject)}.mat"
            for session, paths in files.items()
            for subject, path in paths.items()
        }
        other = [
            name for name, usual in names.items() if not name.endswith(f"/{usual}")
        ]
        part = f"SEED-IV, {_EEG_FOLDERS[self.source]}"
        part += f" and {_EYE_FOLDER}" if self.eye else ""
        if not other:
            return f"{part}; all {len(names)} files are named as published"
        shown = ", ".join(f"{name} (published: {names[name]})" for name in other[:3])
        return (
            f"{part}; {len(other)} of {len(names)} files are not named as published: "
            f"{shown}{' ...' * (len(other) > 3)}; the folder tells the session and the "
            f"first number the subject"
        )

    def missing(self) -> list[str]:
        """List the subjects that are not there, and single files of the others."""
        folders = {_EEG_FOLDERS[self.source]: self._eeg_files()}
        if self.eye:
            there = self._folder() / _EYE_FOLDER
            folders[_EYE_FOLDER] = {
                session: subject_files(there / str(session), "mat", SUBJECTS)
                for session in SESSIONS
            }
        release = [
            (folder, session, subject)
            for folder in folders
            for session in SESSIONS
            for subject in SUBJECTS
        ]
        named = {
            (folder, session, subject): (
                subject,
                f"{folder}/{session}/{subject}_{_date(session, subject)}.mat",
            )
            for folder, session, subject in release
        }
        present = [key for key in release if key[2] in folders[key[0]][key[1]]]
        return absent(named.values(), [named[key] for key in present])

    # ------------------------------------------------------------------- folders

    def _folder(self) -> Path:
        folder = _EEG_FOLDERS[self.source]
        return data_set_folder(self.root, "SEED-IV", folder, self.home)

    def _eeg_files(self) -> dict[int, dict[int, Path]]:
        """Return the EEG file of each subject, by session."""
        folder = self._folder() / _EEG_FOLDERS[self.source]
        files = {
            session: subject_files(folder / str(session), "mat", SUBJECTS)
            for session in SESSIONS
        }
        if not any(files.values()):
            raise data_error(
                folder,
                f"no files of subjects in the folders 1, 2 and 3 ({listing(folder)})",
                "the session folders 1, 2 and 3 with files such as 1_20160518.mat",
                f"Unpack the publisher's archive here; it comes from {self.home}.",
            )
        return files

    def _eye_folder(self, session: int) -> Path:
        return eye_folder(self._folder(), _EYE_FOLDER) / str(session)

    def _eye_files(self, session: int) -> dict[int, Path]:
        return subject_files(self._eye_folder(session), "mat", SUBJECTS)

    # --------------------------------------------------------------------- trials

    def _keys(self, eeg: MatFile) -> Mapping[int, str]:
        """Return the name of each trial's array."""
        if self.source == "computed":
            return _raw_keys(eeg)
        smoothing = _KEYS[self.smoothing]
        return {trial: f"{self.feature}_{smoothing}{trial}" for trial in TRIALS}

    def _trial(
        self, session: int, trial: int, eeg: MatFile, key: str, eye: MatFile | None
    ) -> Trial:
        published = int(WINDOWS[session].split()[trial - 1])
        if self.source == "released":
            features = _released(eeg, key, published)
        else:
            features = self._computed(eeg, key, published)
        signals: dict[str, Array] = {"eeg": features}
        notes: tuple[str, ...] = ()
        if eye is not None:
            measures = _eye(eye, f"eye_{trial}")
            where = f"{eye.path}, key 'eye_{trial}'"
            signals, notes = on_one_clock(features, measures, where)
        return Trial(
            session=session,
            trial=trial,
            stimulus=(session - 1) * len(TRIALS) + trial,
            label=int(LABELS[session].split()[trial - 1]),
            signals=signals,
            start=starts(len(signals["eeg"]), self.window),
            notes=notes,
        )

    def _computed(self, eeg: MatFile, key: str, published: int) -> Array:
        recording, where = eeg.array(key), f"{eeg.path}, key {key!r}"
        seconds = published * RELEASED_WINDOW
        check_raw(recording, where, seconds - 8, seconds + 12)
        return computed_features(
            recording, where, self.feature, self.smoothing, self.window
        )


def _date(session: int, subject: int) -> str:
    return DATES[session].split()[subject - 1]


def _raw_keys(eeg: MatFile) -> dict[int, str]:
    """Return the raw arrays' names; they start with the subject's initials."""
    keys: dict[int, str] = {}
    for name in eeg.names:
        match = re.fullmatch(r".*_eeg0*(\d+)", name)
        if match and int(match[1]) in keys:
            raise data_error(
                eeg.path,
                f"two arrays of trial {match[1]}: {keys[int(match[1])]} and {name}",
                "one, <initials>_eeg1 to <initials>_eeg24",
                "Fetch the file again from the publisher.",
            )
        if match:
            keys[int(match[1])] = name
    if sorted(keys) != list(TRIALS):
        raise data_error(
            eeg.path,
            f"raw arrays of the trials {', '.join(map(str, sorted(keys))) or 'none'}",
            "<initials>_eeg1 to <initials>_eeg24",
            "Fetch the file again from the publisher.",
        )
    return keys


def _released(eeg: MatFile, key: str, published: int) -> Array:
    """Return features (windows, electrodes, bands); the file has (62, W, 5)."""
    array = eeg.array(key)
    expected = (len(SEED_ELECTRODES), published, len(SEED_BANDS))
    if array.shape != expected:
        raise data_error(
            f"{eeg.path}, key {key!r}",
            f"an array of shape {array.shape}",
            f"{expected}: electrodes, the published number of 4-s windows, bands",
            "Check that the file lies in its own session's folder, or fetch it again.",
        )
    features: Array = array.transpose(1, 0, 2)
    return features


def _eye(eye: MatFile, key: str) -> Array:
    """Return measures of shape (windows, 31, 1); the file has (31, W)."""
    array = eye.array(key)
    if array.ndim != 2 or array.shape[0] != len(EYE_MEASURES):
        raise data_error(
            f"{eye.path}, key {key!r}",
            f"an array of shape {array.shape}",
            f"({len(EYE_MEASURES)}, windows)",
            "Check that it is a file of eye_feature_smooth, or fetch it again.",
        )
    measures: Array = array.T[:, :, None]
    return measures
