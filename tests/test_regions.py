import subprocess
import sys
from itertools import chain

import pytest

from domainemo.backbones.regions import (
    ELECTRODES,
    PARTITIONS,
    regions,
    standard_places,
)
from domainemo.errors import ConfigurationError, DataError

CAP = [
    *["FP1", "FPZ", "FP2", "AF3", "AF4"],
    *["F7", "F5", "F3", "F1", "FZ", "F2", "F4", "F6", "F8"],
    *["FT7", "FC5", "FC3", "FC1", "FCZ", "FC2", "FC4", "FC6", "FT8"],
    *["T7", "C5", "C3", "C1", "CZ", "C2", "C4", "C6", "T8"],
    *["TP7", "CP5", "CP3", "CP1", "CPZ", "CP2", "CP4", "CP6", "TP8"],
    *["P7", "P5", "P3", "P1", "PZ", "P2", "P4", "P6", "P8"],
    *["PO7", "PO5", "PO3", "POZ", "PO4", "PO6", "PO8"],
    *["CB1", "O1", "OZ", "O2", "CB2"],
]
EEGMAT = [
    *["Fp1", "Fp2", "F3", "F4", "F7", "F8", "T3", "T4", "C3", "C4"],
    *["T5", "T6", "P3", "P4", "O1", "O2", "Fz", "Cz", "Pz"],
]

PUBLISHED = {
    "16": [
        *[[3, 0, 1, 2, 4], [7, 8, 9, 10, 11], [5, 6], [13, 12]],
        *[[14, 15, 23, 24, 32, 33], [22, 21, 31, 30, 40, 39], [*range(16, 21)]],
        *[[*range(25, 30)], [*range(34, 39)], [41, 42], [49, 48], [*range(43, 48)]],
        *[[50, 51, 57], [56, 55, 61], [52, 53, 54], [58, 59, 60]],
    ],
    "20": [
        *[[3, 0, 1, 2, 4], [5, 6, 7], [8, 9, 10], [11, 12, 13], [14, 15, 16]],
        *[[17, 18, 19], [20, 21, 22], [23, 24, 25], [26, 27, 28], [29, 30, 31]],
        *[[32, 33, 34], [35, 36, 37], [38, 39, 40], [41, 42, 43], [44, 45, 46]],
        *[[47, 48, 49], [50, 51, 57], [52, 53, 54], [55, 56, 61], [58, 59, 60]],
    ],
    "6": [
        *[[*range(14)], [14, 23, 32], [*range(15, 22), *range(24, 31)]],
        *[[22, 31, 40], [*range(33, 40), *range(41, 50)], [*range(50, 62)]],
    ],
    "1": [[*range(62)]],
}


@pytest.mark.parametrize("partition", PARTITIONS)
def test_partition_is_the_published_one_and_covers_every_electrode_once(partition):
    found = regions(CAP, partition)
    assert len(found) == int(partition)
    assert sorted(chain(*found.values())) == list(range(62))
    expected = {frozenset(members) for members in PUBLISHED[partition]}
    assert {frozenset(members) for members in found.values()} == expected
    assert set(ELECTRODES) == set(CAP)


def test_hemispheres_are_named_as_they_lie():
    for partition in PARTITIONS:
        for region, members in PARTITIONS[partition].items():
            numbers = [int(e[-1]) for e in members if e[-1].isdigit()]
            if region.startswith("left"):
                assert numbers and all(number % 2 == 1 for number in numbers)
            elif region.startswith("right"):
                assert numbers and all(number % 2 == 0 for number in numbers)
            else:
                assert {number % 2 for number in numbers} == {0, 1}


def test_old_names_and_any_case():
    found = regions(EEGMAT)
    assert sorted(chain(*found.values())) == list(range(19))
    place = {EEGMAT[i]: region for region, own in found.items() for i in own}
    assert place["T3"] == "left temporal" and place["T4"] == "right temporal"
    assert place["T5"] == "left parietal" and place["T6"] == "right parietal"
    assert place["Fp1"] == place["Fp2"] == "prefrontal"
    assert "frontocentral" not in found


def test_emotiv():
    assert regions(["AF3", "T7", "Pz", "T8", "AF4"]) == {
        "prefrontal": (0, 4),
        "left temporal": (1,),
        "right temporal": (3,),
        "medial parietal": (2,),
    }


def test_other_electrodes_go_where_their_nearest_neighbour_is():
    found = regions(["AFz", "FT9", "TP10", "Iz", "PO9", "FFC1h", "Cz"])
    place = {channel: region for region, own in found.items() for channel in own}
    assert place == {
        0: "prefrontal",
        1: "left temporal",
        2: "right temporal",
        3: "occipital",
        4: "left parieto-occipital",
        5: place[5],
        6: "central",
    }
    assert place[5] in ("medial frontal", "frontocentral")


def test_every_name_of_the_10_05_system_has_one_region():
    old = ("T3", "T4", "T5", "T6")
    channels = [name for name in standard_places() if name not in old]
    assert len(channels) > 330
    for partition in PARTITIONS:
        found = regions(channels, partition)
        assert sorted(chain(*found.values())) == list(range(len(channels)))


def test_result_does_not_depend_on_the_order_of_channels():
    turned = CAP[::-1]
    names = {r: [CAP[i] for i in own] for r, own in regions(CAP).items()}
    assert names == {r: [turned[i] for i in own] for r, own in regions(turned).items()}
    assert list(names) == list(regions(turned))


def test_unknown_channel_is_explained():
    with pytest.raises(DataError, match=r"'FP11'.*10-20.*Nearest names: .*FP1.*Rename"):
        regions(["Cz", "FP11"])
    with pytest.raises(DataError, match=r"'heart rate'.*drop it"):
        regions(["heart rate"])


def test_one_electrode_twice_is_explained():
    with pytest.raises(DataError, match=r"'T3' and 'T7' are the same electrode"):
        regions(["T3", "T7"])


def test_unknown_partition_is_explained():
    with pytest.raises(ConfigurationError, match=r"'17'.*'16', '20', '6'"):
        regions(CAP, "17")


def test_mne_is_not_imported_for_known_names():
    code = (
        "import sys; from domainemo.backbones.regions import regions, ELECTRODES;"
        "regions(ELECTRODES); sys.exit('mne' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
