"""Convert the openly licensed development recordings into table folders.

Usage: ``python benchmarks/open_recordings.py DATA OUTPUT``, where DATA holds
``eegmat/features_4s.npz``, ``esports_mm/windows_10s.npz`` and
``ssvep_exo/features.npz``. OUTPUT receives one folder per data set, which
``domainemo adapt --dataset table --data-root OUTPUT/esports`` reads.

None of them carries film-induced emotion labels; they are real people, real sensors
and a real shift between subjects and days.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainemo import EmotionData, Modality, from_arrays, write_table

Arrays = Mapping[str, NDArray[Any]]

NOTES = {
    "eegmat-features": {
        "licence": "ODC-BY-1.0",
        "citation": (
            "Zyma, I. et al. (2019). Electroencephalograms during Mental Arithmetic "
            "Task Performance. Data 4(1):14. PhysioNet, version 1.0.0."
        ),
        "description": (
            "36 subjects, rest (about 182 s) and then mental arithmetic (about 62 s), "
            "each a recording of its own, in 4-s windows. Rest always comes first and "
            "is longer: order and duration tell the class. EEG: differential entropy, "
            "common average reference; delta 1-4, theta 4-8, alpha 8-14, beta 14-31, "
            "gamma 31-45 Hz. ECG: heart rate, SDNN and RMSSD over the 16 s around the "
            "window, logarithm of the 5-25 Hz standard deviation."
        ),
    },
    "esports": {
        "licence": "CC-BY-4.0",
        "citation": (
            "Smerdov, A., Zhou, B., Lukowicz, P. and Somov, A. (2020). Collection and "
            "Validation of Psychophysiological Data from Professional and Amateur "
            "Players: a Multimodal eSports Dataset. arXiv:2011.00958."
        ),
        "description": (
            "10 players, 22 matches of five players each on 3 days, against bots or "
            "humans, in 10-s windows. Changes made: resampled to 1 s, windowed, "
            "log-transformed. The class is constant within a match. Subjects 0 to 4 "
            "are amateurs, 5 to 9 professionals."
        ),
    },
    "ssvep-exo": {
        "licence": "CC0-1.0",
        "citation": (
            "Kalunga, E. K., Chevallier, S. et al. dataset-ssvep-exoskeleton, "
            "github.com/sylvchev/dataset-ssvep-exoskeleton."
        ),
        "description": (
            "12 subjects, steady-state visual responses to 13, 17 and 21 Hz or rest, "
            "three overlapping 2-s windows per trial. Recordings that the authors "
            "left out are left out. logP: logarithm of the power within 0.5 Hz; DE: "
            "differential entropy."
        ),
    },
}


def eegmat(arrays: Arrays) -> EmotionData:
    """Rest against mental arithmetic: EEG and ECG of 36 subjects.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        What ``eegmat/features_4s.npz`` holds.

    Returns
    -------
    EmotionData
        A subject's two recordings are trials 0 (rest) and 1 (task).
    """
    classes = _names(arrays["class_names"])
    return from_arrays(
        {"eeg": arrays["eeg"], "ecg": arrays["ecg"]},
        arrays["y"],
        subject=arrays["subject"],
        trial=arrays["y"],
        stimulus=np.array(classes)[arrays["y"]],
        # `window` counts from 0 within each recording.
        start=4.0 * arrays["window"],
        classes=classes,
        modalities={
            "eeg": Modality(
                _names(arrays["channels"]), _names(arrays["bands"]), "eeg", "nat"
            ),
            "ecg": Modality(_names(arrays["ecg_names"]), ("value",), "physiology"),
        },
        name="eegmat (36 subjects, 4-s features)",
    )


def esports(arrays: Arrays) -> EmotionData:
    """Bots or humans as opponents: EEG, eyes, physiology and behaviour of 10 players.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        What ``esports_mm/windows_10s.npz`` holds.

    Returns
    -------
    EmotionData
        A match is both trial and stimulus; a recording day is a session.
    """
    eeg, described = _esports_eeg(arrays)
    other = {"eye": "eye", "physiology": "phys", "behaviour": "beh"}
    return from_arrays(
        {"eeg": eeg, **{name: arrays[key] for name, key in other.items()}},
        arrays["y_opponents"],
        subject=arrays["subject"],
        session=arrays["day"],
        trial=arrays["match"],
        start=arrays["t0"],
        classes=("bots", "humans"),
        modalities={
            "eeg": described,
            **{name: _names(arrays[f"{key}_names"]) for name, key in other.items()},
        },
        name="eSports Sensors (10 players, 10-s features)",
    )


def ssvep_exo(arrays: Arrays) -> EmotionData:
    """Which flicker was looked at: 8-channel EEG of 12 subjects, several recordings.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        What ``ssvep_exo/features.npz`` holds.

    Returns
    -------
    EmotionData
        Without the recordings that the authors left out.
    """
    kept = ~arrays["excluded_by_authors"]
    classes = _names(arrays["class_names"])
    return from_arrays(
        {"eeg": arrays["X"][kept]},
        arrays["y"][kept],
        subject=arrays["subject"][kept],
        session=arrays["session"][kept],
        trial=arrays["trial"][kept],
        stimulus=np.array(classes)[arrays["y"][kept]],
        start=arrays["window_start"][kept],
        classes=classes,
        modalities={
            "eeg": Modality(
                _names(arrays["channels"]), _names(arrays["feature_names"]), "eeg"
            )
        },
        name="SSVEP exoskeleton (12 subjects, 2-s features)",
    )


RECORDINGS: dict[str, tuple[str, Callable[[Arrays], EmotionData]]] = {
    "eegmat-features": ("eegmat/features_4s.npz", eegmat),
    "esports": ("esports_mm/windows_10s.npz", esports),
    "ssvep-exo": ("ssvep_exo/features.npz", ssvep_exo),
}
"""Folder to write: file to read below DATA, and how."""


def convert(data: Path, output: Path) -> list[Path]:
    """Write every data set as a table folder.

    Parameters
    ----------
    data : Path
        Where the development recordings are.
    output : Path
        Where the folders go.

    Returns
    -------
    list of Path
        The folders written.

    Raises
    ------
    ConfigurationError
        If one of the folders exists already.
    """
    folders = []
    for name, (file, make) in RECORDINGS.items():
        with np.load(data / file, allow_pickle=False) as stored:
            recordings = make(dict(stored))
        folders.append(write_table(recordings, output / name, **NOTES[name]))
    return folders


def main() -> None:
    """Read the command line and convert."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("data", type=Path, help="folder of the development recordings")
    parser.add_argument("output", type=Path, help="folder to write the tables into")
    options = parser.parse_args()
    for folder in convert(options.data, options.output):
        print(folder)


def _esports_eeg(arrays: Arrays) -> tuple[NDArray[Any], Modality]:
    """Sort the columns, named "logP_mean:AF3/theta", by electrode and feature."""
    parsed = []
    for name in _names(arrays["eeg_names"]):
        statistic, place = name.split(":")
        channel, band = place.split("/")
        parsed.append((channel, f"{statistic}_{band}"))
    channels = tuple(dict.fromkeys(channel for channel, _ in parsed))
    features = tuple(dict.fromkeys(feature for _, feature in parsed))
    column = {place: number for number, place in enumerate(parsed)}
    order = [[column[channel, feature] for feature in features] for channel in channels]
    return arrays["eeg"][:, order], Modality(channels, features, "eeg")


def _names(array: NDArray[Any]) -> tuple[str, ...]:
    return tuple(map(str, array.tolist()))


if __name__ == "__main__":
    main()
