"""Brain regions: which electrodes of a 10-20 montage lie over which part of the brain.

The partitions divide the 62 electrodes of the ESI NeuroScan cap that the SEED family
was recorded with. An electrode outside those 62 takes the region of its nearest
neighbour among them, so that the partitions serve every montage with 10-20 names.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType

import numpy as np

from ..core import canonical_name
from ..data.montage import standard_montage
from ..errors import ConfigurationError, DataError

__all__ = ["ELECTRODES", "PARTITIONS", "regions", "standard_places"]


def _partition(members: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
    return MappingProxyType({name: tuple(m.split()) for name, m in members.items()})


_LOBES = _partition(
    {
        "frontal": "FP1 FPZ FP2 AF3 AF4 F7 F5 F3 F1 FZ F2 F4 F6 F8",
        "left temporal": "FT7 T7 TP7",
        "central": "FC5 FC3 FC1 FCZ FC2 FC4 FC6 C5 C3 C1 CZ C2 C4 C6",
        "right temporal": "FT8 T8 TP8",
        "parietal": "CP5 CP3 CP1 CPZ CP2 CP4 CP6 P7 P5 P3 P1 PZ P2 P4 P6 P8",
        "occipital": "PO7 PO5 PO3 POZ PO4 PO6 PO8 CB1 O1 OZ O2 CB2",
    }
)

ELECTRODES: tuple[str, ...] = tuple(
    electrode for members in _LOBES.values() for electrode in members
)
"""The 62 electrodes that every partition divides, in capitals."""

PARTITIONS: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "16": _partition(
            {
                "prefrontal": "AF3 FP1 FPZ FP2 AF4",
                "medial frontal": "F3 F1 FZ F2 F4",
                "left frontal": "F7 F5",
                "right frontal": "F8 F6",
                "left temporal": "FT7 FC5 T7 C5 TP7 CP5",
                "right temporal": "FT8 FC6 T8 C6 TP8 CP6",
                "frontocentral": "FC3 FC1 FCZ FC2 FC4",
                "central": "C3 C1 CZ C2 C4",
                "centroparietal": "CP3 CP1 CPZ CP2 CP4",
                "left parietal": "P7 P5",
                "right parietal": "P8 P6",
                "medial parietal": "P3 P1 PZ P2 P4",
                "left parieto-occipital": "PO7 PO5 CB1",
                "right parieto-occipital": "PO8 PO6 CB2",
                "medial parieto-occipital": "PO3 POZ PO4",
                "occipital": "O1 OZ O2",
            }
        ),
        "20": _partition(
            {
                "prefrontal": "AF3 FP1 FPZ FP2 AF4",
                "left frontal": "F7 F5 F3",
                "medial frontal": "F1 FZ F2",
                "right frontal": "F4 F6 F8",
                "left frontocentral": "FT7 FC5 FC3",
                "medial frontocentral": "FC1 FCZ FC2",
                "right frontocentral": "FC4 FC6 FT8",
                "left central": "T7 C5 C3",
                "medial central": "C1 CZ C2",
                "right central": "C4 C6 T8",
                "left centroparietal": "TP7 CP5 CP3",
                "medial centroparietal": "CP1 CPZ CP2",
                "right centroparietal": "CP4 CP6 TP8",
                "left parietal": "P7 P5 P3",
                "medial parietal": "P1 PZ P2",
                "right parietal": "P4 P6 P8",
                "left parieto-occipital": "PO7 PO5 CB1",
                "medial parieto-occipital": "PO3 POZ PO4",
                "right parieto-occipital": "PO6 PO8 CB2",
                "occipital": "O1 OZ O2",
            }
        ),
        "6": _LOBES,
        "1": _partition({"scalp": " ".join(ELECTRODES)}),
    }
)
"""Electrodes of each region, by partition.

``"16"`` is the partition of the public re-implementation of R2G-STNN (Li et al., 2019)
and separates both hemispheres laterally; ``"20"`` divides every row of the cap into
left, medial and right; ``"6"`` are the lobes, as in the code of RSM-CoDG; ``"1"`` is
the whole scalp.
"""


def regions(
    channels: Sequence[str], partition: str = "16"
) -> dict[str, tuple[int, ...]]:
    """Return the channel numbers that lie in each brain region.

    Parameters
    ----------
    channels : sequence of str
        Electrode names of the 10-20, 10-10 or 10-05 system in any case; the old names
        T3, T4, T5 and T6 stand for T7, T8, P7 and P8.
    partition : {"16", "20", "6", "1"}
        Which partition, see `PARTITIONS`.

    Returns
    -------
    dict of str to tuple of int
        Region name to positions in `channels`. Every channel is in exactly one
        region; regions without a channel are left out. Regions come in the
        partition's order and channels in the order of their names, so that the result
        does not depend on how the recording orders its channels.

    Raises
    ------
    ConfigurationError
        If there is no such partition.
    DataError
        If a channel has no known place on the scalp, or two channels are the same
        electrode.
    """
    if partition not in PARTITIONS:
        raise ConfigurationError(
            f"There is no partition {partition!r} of the brain. Known: "
            f"{', '.join(map(repr, PARTITIONS))} (the number of regions)."
        )
    names = [canonical_name(channel) for channel in channels]
    _require_distinct(channels, names)
    _require_places(channels, names)
    region_of = {
        electrode: region
        for region, members in PARTITIONS[partition].items()
        for electrode in members
    }
    found: dict[str, list[int]] = {region: [] for region in PARTITIONS[partition]}
    for position in sorted(range(len(names)), key=names.__getitem__):
        name = names[position]
        electrode = name if name in region_of else _neighbour(name)
        found[region_of[electrode]].append(position)
    return {region: tuple(members) for region, members in found.items() if members}


def _require_distinct(channels: Sequence[str], names: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for channel, name in zip(channels, names, strict=True):
        if name in seen:
            raise DataError(
                f"Channels {seen[name]!r} and {channel!r} are the same electrode "
                f"({name}); expected each electrode once. Drop or rename one of them."
            )
        seen[name] = channel


def _require_places(channels: Sequence[str], names: Sequence[str]) -> None:
    """Refuse the channels without a known place, all of them at once."""
    if set(names) <= set(ELECTRODES):
        return  # without MNE, which takes seconds to import
    places = standard_places()
    known = dict.fromkeys([*ELECTRODES, *places])
    lost = [
        (channel, name)
        for channel, name in zip(channels, names, strict=True)
        if name not in known
    ]
    if not lost:
        return
    # Names near to the first of them; a list for each would be long.
    near = difflib.get_close_matches(lost[0][1], known, n=3, cutoff=0.5)
    hint = f" Nearest names: {', '.join(near)}." if near else ""
    listed = ", ".join(repr(channel) for channel, _ in lost)
    raise DataError(
        f"Channel{'s' * (len(lost) > 1)} {listed} {'have' if len(lost) > 1 else 'has'} "
        f"no known place on the scalp: expected names of the 10-20, 10-10 or 10-05 "
        f"system such as Fp1, Cz or PO7 (MNE's standard 10-05 montage).{hint} Rename "
        f"the channel, or drop it if it is no EEG electrode."
    )


def _neighbour(name: str) -> str:
    """Return the nearest of the 62 electrodes to another of a known place."""
    places = standard_places()
    candidates = [electrode for electrode in ELECTRODES if electrode in places]
    distances = [
        float(np.linalg.norm(places[electrode] - places[name]))
        for electrode in candidates
    ]
    return candidates[int(np.argmin(distances))]


@cache
def standard_places() -> Mapping[str, np.ndarray]:
    """Return where MNE's standard 10-05 montage has its electrodes.

    Returns
    -------
    mapping of str to ndarray of shape (3,)
        Metres to the right, to the front and upwards, by name in capitals.
    """
    positions = standard_montage().get_positions()["ch_pos"]
    places = {name.upper(): np.asarray(place) for name, place in positions.items()}
    return MappingProxyType(places)
