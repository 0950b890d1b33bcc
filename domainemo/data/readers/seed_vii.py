"""SEED-VII: seven emotions, EEG and eye movements, from the published MATLAB files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from numpy.typing import NDArray

from ...core import Modality
from ...errors import ConfigurationError, DataError, data_error
from ...registry import register
from ...values import given_path
from ..files import MatFile, open_mat
from ..montage import SEED_BANDS, SEED_ELECTRODES
from ..reader import Reader, Recording, Trial
from ..simulator import EYE_MEASURES
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

__all__ = ["SEEDVII"]

Array = NDArray[Any]

CLASSES = ("disgust", "fear", "sad", "neutral", "happy", "anger", "surprise")
"""Class names; the numbers 0 to 6 extend those of SEED-V."""

SUBJECTS = range(1, 21)
TRIALS_PER_SESSION = 20
TRIALS = range(1, 81)
"""Numbers in the files' keys: session by session."""

LABELS = (
    "4 3 0 2 5 5 2 0 3 4 4 3 0 2 5 5 2 0 3 4",
    "5 2 1 3 6 6 3 1 2 5 5 2 1 3 6 6 3 1 2 5",
    "4 6 0 1 5 5 1 0 6 4 4 6 0 1 5 5 1 0 6 4",
    "0 2 1 6 4 4 6 1 2 0 0 2 1 6 4 4 6 1 2 0",
)
"""Class of each trial, a line for each session."""

CLIP_STATISTICS = EYE_MEASURES[24:]
"""Columns 24 to 32: of the whole clip, repeated in each of its windows."""

SHORTEST, LONGEST = 5, 200
"""Windows of 4 s that a trial may have; they differ by one between subjects."""

_EEG_FOLDERS = {"released": "EEG_features", "computed": "EEG_preprocessed"}
_EYE_FOLDER = "EYE_features"
_FETCH_AGAIN = "Check that the file is the publisher's, and fetch it again."


@register(name="seed-vii")
class SEEDVII(Reader):
    """Seven emotions; EEG and eye movements of 20 subjects, 4 sessions.

    Source: BCMI laboratory, Shanghai Jiao Tong University, on request:
    https://bcmi.sjtu.edu.cn/home/seed/seed-vii.html. Cite Jiang W-B, Liu X-H, Zheng
    W-L, Lu B-L (2025). SEED-VII: a multimodal dataset of six basic emotions with
    continuous labels for emotion recognition. IEEE Transactions on Affective Computing
    16(2):969-985, doi 10.1109/TAFFC.2024.3485057.

    ``eeg`` holds a feature of five bands at 62 electrodes, ``eye`` 33 measures in
    the order of the official extractor (``EYE_MEASURES`` of the simulator has the same;
    ``CLIP_STATISTICS`` are its last nine). Each of the 80 trials has a clip of its own,
    numbered 1 to 80 as the stimulus: sessions share none.

    What to know before believing a figure:

    - There is no official number for an emotion, and three codings are in use. Here
      disgust is 0, fear 1, sad 2, neutral 3, happy 4, anger 5, surprise 6, which
      extends SEED-V's. ``emotion_label_and_stimuli_order.xlsx`` is not read: the
      sequence is published and the same for all, and no other file would need a reader
      of spreadsheets. ``continuous_labels`` are not used.
    - The pupils were corrected for luminance by what all subjects of a clip have in
      common, the test subject among them: transductive by construction.
    - The last nine eye measures are constant inside a clip, and so tell the trial.
    - The publisher wrote 0 where the tracker saw no such event, which cannot be told
      from a measured 0: nothing is NaN that should be.
    - Smoothing by a linear dynamic system uses the windows that follow.
    - The publisher's entropy is ``log2(100 * power)`` of the first 1.28 s of each
      window, on no scale of the other data sets; never mix released and computed ones.

    Parameters
    ----------
    root : str or Path
        The data set's folder, or the data root above it, in which it may be called
        ``SEED-VII``, ``SEED_VII`` or the like.
    feature : {"de", "psd"}
        Differential entropy, or power spectral density.
    smoothing : {"lds", "none"}
        By a linear dynamic system over the windows of a trial, or none. Released power
        spectral density is there without only.
    source : {"released", "computed"}
        Features as released in ``EEG_features``, or computed from ``EEG_preprocessed``
        (microvolts, 200 Hz).
    window : float
        Length of a window in seconds; other than 4 for computed features without eye.
    eye : bool
        False reads the EEG alone.
    clip_statistics : bool
        False leaves out the nine eye measures that are constant inside a clip.

    Raises
    ------
    ConfigurationError
        If an option is not one of these, or two do not go together.
    """

    home = "https://bcmi.sjtu.edu.cn/home/seed/seed-vii.html"

    def __init__(
        self,
        root: str | Path | None,
        *,
        feature: Feature = "de",
        smoothing: Literal["lds", "none"] = "lds",
        source: Source = "released",
        window: Annotated[float, window_up_to(SHORTEST * RELEASED_WINDOW)] = 4.0,
        eye: bool = True,
        clip_statistics: bool = True,
    ) -> None:
        if (feature, smoothing, source) == ("psd", "lds", "released"):
            raise ConfigurationError(
                "seed-vii: found feature='psd' with smoothing='lds'; expected "
                "smoothing='none', because the released power spectral density is not "
                "smoothed. Choose that, or source='computed'."
            )
        check_window("seed-vii", window, source, eye)
        self.root = None if root is None else given_path("root", root)
        self.feature, self.smoothing, self.source = feature, smoothing, source
        self.window, self.eye = float(window), eye
        self.clip_statistics = clip_statistics
        self.classes = CLASSES

    def recordings(self) -> list[Recording]:
        """Find the file, or the two, of each subject.

        Raises
        ------
        DataError
            If there are none, two of a subject, or EEG without eye.
        """
        eyes = self._eye_files() if self.eye else None
        there = self._folder() / _EYE_FOLDER
        return subject_recordings(self._eeg_files(), eyes, there)

    def trials(self, recording: Recording) -> Iterator[Trial | DataError]:
        """Yield the 80 trials of a subject.

        Raises
        ------
        DataError
            If a file cannot be read at all.
        """
        eeg = open_mat(recording.files["eeg"])
        eye = open_mat(recording.files["eye"]) if self.eye else None
        for number in TRIALS:
            try:
                yield self._trial(number, eeg, eye)
            except DataError as error:
                yield error

    def modalities(self) -> dict[str, Modality]:
        """Describe ``eeg`` (62 electrodes, 5 bands) and ``eye`` (33 or 24 measures)."""
        span = span_of(self.smoothing, self.source, self.window)
        modalities = {"eeg": eeg_modality(self.feature, self.source, span)}
        if self.eye:
            modalities["eye"] = eye_modality(self._measures())
        return modalities

    def title(self) -> str:
        """Name the data set, the features, how they are smoothed, the eye measures."""
        eye = "EEG alone"
        if self.eye:
            kept = "with" if self.clip_statistics else "without"
            eye = (
                f"EEG and eye movements {kept} the measures that are constant in a "
                f"clip, pupils corrected for luminance by all subjects of a clip, the "
                f"test subject included (transductive)"
            )
        return (
            f"seed-vii ({feature_words(self.feature, self.source, 'EEG_preprocessed')},"
            f" {smoothing_words(self.smoothing, self.source)}, {self.window:g} s "
            f"windows, {eye})"
        )

    def release(self) -> str:
        """Say which part is read and how many of the released subjects there are."""
        part = _EEG_FOLDERS[self.source] + f" and {_EYE_FOLDER}" * self.eye
        count = len(self._eeg_files())
        return f"SEED-VII, {part}; {count} of the {len(SUBJECTS)} released subjects"

    def missing(self) -> list[str]:
        """List the subjects that are not there, and single files of the others."""
        folders = {_EEG_FOLDERS[self.source]: self._eeg_files()}
        if self.eye:
            there = self._folder() / _EYE_FOLDER
            folders[_EYE_FOLDER] = subject_files(there, "mat", SUBJECTS)
        named = [
            (folder, subject, f"{folder}/{subject}.mat")
            for folder in folders
            for subject in SUBJECTS
        ]
        present = [(s, name) for folder, s, name in named if s in folders[folder]]
        return absent([(subject, name) for _, subject, name in named], present)

    # ------------------------------------------------------------------- folders

    def _folder(self) -> Path:
        folder = _EEG_FOLDERS[self.source]
        return data_set_folder(self.root, "SEED-VII", folder, self.home)

    def _eeg_files(self) -> dict[int, Path]:
        folder = self._folder() / _EEG_FOLDERS[self.source]
        files = subject_files(folder, "mat", SUBJECTS)
        if not files:
            raise data_error(
                folder,
                "no file of a subject",
                "1.mat to 20.mat",
                f"Unpack the publisher's archive here; it comes from {self.home}.",
            )
        return files

    def _eye_files(self) -> dict[int, Path]:
        folder = eye_folder(self._folder(), _EYE_FOLDER)
        return subject_files(folder, "mat", SUBJECTS)

    # --------------------------------------------------------------------- trials

    def _trial(self, number: int, eeg: MatFile, eye: MatFile | None) -> Trial:
        session, place = divmod(number - 1, TRIALS_PER_SESSION)
        features = self._eeg(number, eeg)
        signals: dict[str, Array] = {"eeg": features}
        notes: tuple[str, ...] = ()
        if eye is not None:
            measures = self._eye(number, eye)
            where = f"{eye.path}, key '{number}'"
            signals, notes = on_one_clock(features, measures, where)
        return Trial(
            session=session + 1,
            trial=place + 1,
            stimulus=number,
            label=int(LABELS[session].split()[place]),
            signals=signals,
            start=starts(len(signals["eeg"]), self.window),
            notes=notes,
        )

    def _eeg(self, number: int, eeg: MatFile) -> Array:
        """Return features of shape (windows, electrodes, bands)."""
        if self.source == "released":
            smoothing = "LDS_" if self.smoothing == "lds" else ""
            return _released(eeg, f"{self.feature}_{smoothing}{number}")
        recording, where = eeg.array(str(number)), f"{eeg.path}, key '{number}'"
        longest = (LONGEST + 1) * RELEASED_WINDOW
        check_raw(recording, where, SHORTEST * RELEASED_WINDOW, longest)
        return computed_features(
            recording, where, self.feature, self.smoothing, self.window
        )

    def _measures(self) -> tuple[str, ...]:
        if self.clip_statistics:
            return EYE_MEASURES
        return EYE_MEASURES[: -len(CLIP_STATISTICS)]

    def _eye(self, number: int, eye: MatFile) -> Array:
        """Return measures of shape (windows, 33 or 24, 1)."""
        array = eye.array(str(number))
        if array.ndim != 2 or array.shape[1] != len(EYE_MEASURES):
            raise data_error(
                f"{eye.path}, key '{number}'",
                f"an array of shape {array.shape}",
                f"(windows, {len(EYE_MEASURES)})",
                "Check that it is a file of EYE_features, or fetch it again.",
            )
        measures: Array = array[:, : len(self._measures()), None]
        return measures


def _released(eeg: MatFile, key: str) -> Array:
    """Return features of shape (windows, electrodes, bands); the file has (W, 5, 62).

    No other data set of the family has the bands before the electrodes.
    """
    array = eeg.array(key)
    axes = (len(SEED_BANDS), len(SEED_ELECTRODES))
    if array.ndim != 3 or array.shape[1:] != axes:
        raise data_error(
            f"{eeg.path}, key {key!r}",
            f"an array of shape {array.shape}",
            f"(windows, {axes[0]}, {axes[1]}): bands before electrodes",
            _FETCH_AGAIN,
        )
    if not SHORTEST <= len(array) <= LONGEST:
        raise data_error(
            f"{eeg.path}, key {key!r}",
            f"{len(array)} windows",
            f"{SHORTEST} to {LONGEST} of 4 s, as the clips are long",
            _FETCH_AGAIN,
        )
    features: Array = array.transpose(0, 2, 1)
    return features
