"""Convert the feature file of eegmat, made for development, into a table folder.

Usage: ``python benchmarks/open_recordings.py DATA OUTPUT``, where DATA holds
``eegmat/features_4s.npz``. OUTPUT receives the folder ``eegmat-features``, which
``domainemo adapt --dataset table --data-root OUTPUT/eegmat-features`` reads.

It holds all 36 subjects, where only some may have the published files for the reader
``eegmat``. The other development recordings have readers of their own: ``domainemo
data convert esports`` and ``ssvep-exo`` make tables of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainemo import EmotionData, Modality, from_arrays, write_table

Arrays = Mapping[str, NDArray[Any]]

FOLDER = "eegmat-features"
NOTES = {
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


def convert(data: Path, output: Path) -> Path:
    """Write the table folder.

    Parameters
    ----------
    data : Path
        Where the development recordings are.
    output : Path
        Where the folder goes.

    Returns
    -------
    Path
        The folder written.

    Raises
    ------
    ConfigurationError
        If the folder exists already.
    """
    with np.load(data / "eegmat" / "features_4s.npz", allow_pickle=False) as stored:
        recordings = eegmat(dict(stored))
    return write_table(recordings, output / FOLDER, **NOTES)


def main() -> None:
    """Read the command line and convert."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("data", type=Path, help="folder of the development recordings")
    parser.add_argument("output", type=Path, help="folder to write the table into")
    options = parser.parse_args()
    print(convert(options.data, options.output))


def _names(array: NDArray[Any]) -> tuple[str, ...]:
    return tuple(map(str, array.tolist()))


if __name__ == "__main__":
    main()
