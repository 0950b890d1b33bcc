"""What an electrode is called, against MNE's montage and the names of recorders."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domainemo.backbones.regions import regions, standard_places
from domainemo.core import canonical_name, electrode_name
from domainemo.data.montage import SEED_ELECTRODES, check_electrodes, other_sensor
from domainemo.errors import DataError, DomainemoWarning
from domainemo.registry import entries, find

quick = settings(max_examples=60, deadline=None, database=None)


def test_every_place_of_the_standard_montage_is_an_electrode():
    for name in (*standard_places(), *SEED_ELECTRODES, "Nz"):
        assert electrode_name(name) == name
        assert other_sensor(name) is None
    check_electrodes("all", list(standard_places()))


@quick
@given(
    st.sampled_from([name for name in SEED_ELECTRODES if name[0] != "A"]),
    st.sampled_from(["", "EEG ", "EEG-", "eeg:", " "]),
    st.sampled_from(
        ["", "-REF", "-Ref", "-LE", "-A2", "-M1", " - AVG", ".", "..", " "]
    ),
)
def test_what_recorders_write_around_an_electrode_is_stripped(name, before, after):
    for spelled in (name, name.capitalize()):
        assert electrode_name(f"{before}{spelled}{after}") == spelled
        assert canonical_name(f"{before}{spelled}{after}") == canonical_name(name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ECG ECG", "ecg"),
        ("HEOGL", "eog"),
        ("VEO", "eog"),
        ("EXG1", "misc"),
        ("BIP1", "bio"),
        ("corrugator", "emg"),
        ("pupil", "pupil"),
        ("label", "stim"),
        ("EEG EKG1-REF", "ecg"),
        ("EMG submental", "emg"),
        ("zEMG", "emg"),
        ("EOG horizontal", "eog"),
        ("VEOG", "eog"),
        ("EOG2", "eog"),
        ("Status", "stim"),
        ("STI 014", "stim"),
        ("Trigger", "stim"),
        ("Event marker", "stim"),
        ("Resp oro-nasal", "resp"),
        ("GSR1", "gsr"),
        ("Temp rectal", "temperature"),
        ("SpO2", "bio"),
        ("EEG A2-A1", "misc"),
        ("Fpz-Cz", "misc"),
        ("EEG Pz-Oz", "misc"),
        ("Fp1-F7", "misc"),
        ("E17", None),
        ("EEG 001", None),
        ("heart", None),
        ("", None),
    ],
)
def test_other_sensors_are_told_by_their_names(name, kind):
    assert other_sensor(name) == kind
    assert electrode_name(name) == name


def test_all_that_is_wrong_is_listed_at_once():
    with pytest.raises(
        DataError, match=r"here.*: found 2 of 4.*'ECG' .*'O1-O2' .*kind"
    ):
        check_electrodes("here", ["Fp1", "ECG", "E9", "O1-O2"])
    with pytest.warns(DomainemoWarning, match=r"here: 2 of 3 .*'E9', 'X'\. Networks"):
        check_electrodes("here", ["E9", "EEG Cz-REF", "X"])
    # The networks that place electrodes list all of them, too.
    with pytest.raises(DataError, match="Channels 'E9', 'X' have no known place"):
        regions(["E9", "Cz", "X"])
    assert regions(["EEG Cz-REF", "T3"]) == regions(["CZ", "T7"])


def test_the_readers_of_this_package_call_electrodes_so(tmp_path):
    for entry in entries("dataset"):
        reader = find("dataset", entry.name)
        if not hasattr(reader, "modalities"):
            continue
        for modality in reader(tmp_path).modalities().values():
            if modality.kind == "eeg":
                check_electrodes(entry.name, modality.channels)
