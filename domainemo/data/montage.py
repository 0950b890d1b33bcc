"""What an electrode is called, and the cap and the bands of the SEED family.

Readers, recordings of one's own and the networks that place electrodes all ask here.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ..core import is_electrode
from ..errors import DomainemoWarning, data_error

__all__ = [
    "FEWEST_ELECTRODES",
    "HEAD_CENTRE",
    "SEED_BANDS",
    "SEED_ELECTRODES",
    "check_electrodes",
    "check_sensors",
    "other_sensor",
    "standard_montage",
]

FEWEST_ELECTRODES = 4
"""Good electrodes from which on another one is interpolated."""

HEAD_CENTRE = (0.0, 0.0, 0.04)
"""In metres, as MNE puts it where it fits no sphere."""

_FRONT = "FP1 FPZ FP2 AF3 AF4 F7 F5 F3 F1 FZ F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCZ FC2 FC4"
_MIDDLE = "FC6 FT8 T7 C5 C3 C1 CZ C2 C4 C6 T8 TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8"
_BACK = "P7 P5 P3 P1 PZ P2 P4 P6 P8 PO7 PO5 PO3 POZ PO4 PO6 PO8 CB1 O1 OZ O2 CB2"

SEED_ELECTRODES: tuple[str, ...] = tuple(f"{_FRONT} {_MIDDLE} {_BACK}".split())
"""The 62 electrodes of the ESI NeuroScan cap, in the order of the files of SEED,
SEED-IV, SEED-V and SEED-VII (``channel-order.xlsx``). CB1 and CB2 are no positions of
the 10-20 system."""

SEED_BANDS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "delta": (1.0, 4.0),
        "theta": (4.0, 8.0),
        "alpha": (8.0, 14.0),
        "beta": (14.0, 31.0),
        "gamma": (31.0, 50.0),
    }
)
"""Lower and upper edge in Hz of each band, in the order of the files, as the
publisher's page gives them."""

# ------------------------------------------------------------------------ electrodes

_SENSORS: Mapping[str, str] = {
    "ecg": "ECG EKG",
    "eog": "EOG HEOG VEOG HEO VEO HEOGL HEOGR VEOGU VEOGL VEOGO LOC ROC",
    "emg": "EMG CHIN ZYGOMATICUS CORRUGATOR",
    "stim": "STATUS STI STIM TRIG TRIGGER TRIGGERS EVENT EVENTS MARKER MARKERS MRK "
    "ANNOTATIONS PHOTIC LABEL LABELS CLASS TARGET",
    "resp": "RESP RESPIRATION BREATH THOR THORAX ABDO ABDOMEN FLOW AIRFLOW",
    "gsr": "GSR EDA SCL SCR",
    "temperature": "TEMP TEMPERATURE",
    "bio": "SPO SAO OSAT PLETH PLETHYSMOGRAPH PPG BVP BLOOD PULSE HR BIP",
    "pupil": "PUPIL",
    "eyegaze": "GAZE",
    "misc": "ACC ACCX ACCY ACCZ GYRO GYROX GYROY GYROZ COUNTER TIME TIMESTAMP BATTERY "
    "BATT AUX DC EXG",
}
"""Words in the names of other sensors, by MNE's type of channel."""

_TYPE_OF = {word: kind for kind, words in _SENSORS.items() for word in words.split()}


def other_sensor(channel: str) -> str | None:
    """Return MNE's type for a channel whose name says that it is no electrode.

    Parameters
    ----------
    channel : str

    Returns
    -------
    str or None
        ``"misc"`` for a difference between two electrodes. None for an electrode, and
        for a name that says nothing.

    Examples
    --------
    >>> other_sensor("ECG ECG"), other_sensor("EEG A2-A1"), other_sensor("E17")
    ('ecg', 'misc', None)
    """
    if is_electrode(channel):
        return None
    name = channel.strip().upper()
    for word in re.findall(r"[A-Z]+", name):
        kind = _TYPE_OF.get(word) or _TYPE_OF.get(word[-3:] if len(word) < 6 else "")
        if kind:
            return kind
    parts = re.split(r"[-/]", name)
    of_two = len(parts) == 2 and all(map(is_electrode, parts))
    return "misc" if of_two else None


def check_electrodes(where: str, channels: Sequence[str], remedy: str = "") -> None:
    """Refuse channels of EEG that are other sensors, all of them at once.

    Parameters
    ----------
    where : str
        What holds the channels.
    channels : sequence of str
    remedy : str
        What to do about other sensors; about a table by default.

    Raises
    ------
    DataError
        If a name is another sensor's, or a difference between two electrodes.

    Warns
    -----
    DomainemoWarning
        Listing the names that are none of the 10-20 system.
    """
    check_sensors(where, channels, remedy)
    unknown = [name for name in channels if not is_electrode(name)]
    if unknown:
        warnings.warn(
            f"{where}: {len(unknown)} of {len(channels)} channels of EEG have no name "
            f"of the 10-20, 10-10 or 10-05 system: {', '.join(map(repr, unknown))}. "
            f"Networks that place electrodes on the head refuse them. Rename them "
            f"where they are such electrodes.",
            DomainemoWarning,
            stacklevel=2,
        )


def check_sensors(where: str, channels: Sequence[str], remedy: str = "") -> None:
    """Refuse other sensors as :func:`check_electrodes` does, without its warning."""
    others = {name: kind for name in channels if (kind := other_sensor(name))}
    if others:
        listed = ", ".join(f"{name!r} ({kind})" for name, kind in others.items())
        raise data_error(
            f"{where}, channels of EEG",
            f"{len(others)} of {len(channels)} that are no electrodes: {listed}",
            "electrodes alone, such as Fp1, Cz or PO7",
            remedy or "Put them into a modality of another kind, or leave them out.",
        )


def standard_montage() -> Any:
    """Return MNE's standard 10-05 montage, an ``mne.channels.DigMontage``."""
    # Importing MNE takes seconds, which importing this file should not.
    import mne

    # The same montage; MNE 1.13 renamed it.
    names = ("colin27_1005", "standard_1005")
    built_in = mne.channels.get_builtin_montages()
    name = next(name for name in names if name in built_in)
    return mne.channels.make_standard_montage(name)
