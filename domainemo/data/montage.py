"""The cap and the bands that the SEED family of data sets shares."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["SEED_BANDS", "SEED_ELECTRODES"]

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
