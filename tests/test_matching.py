"""New recordings beside those of a model: what is found, computed, told and refused."""

import re
from dataclasses import replace

import mne
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domainemo import Inputs, Modality
from domainemo.data.matching import match, step_of
from domainemo.data.normalisation import scales_of
from domainemo.errors import DataError

quick = settings(max_examples=15, deadline=None, database=None)

ELECTRODES = ["Fp1", "Fp2", "F7", "Fz", "F8", "T7", "C3", "C4", "T8", "P7", "P8", "Oz"]
EEG = Modality(tuple(ELECTRODES), ("theta", "alpha", "beta"), "eeg", "uV^2")
EYE = Modality(("pupil_left", "blinks", "7"), ("mean", "sd"), "eye", "")
KNOWN = {"eeg": EEG, "eye": EYE}


def recordings(modalities=KNOWN, windows=12, step=4.0, seed=0):
    """Two people of two trials each, with a window that each sensor lost."""
    rng = np.random.default_rng(seed)
    rows = np.arange(windows)
    table = pd.DataFrame(
        {
            "subject": np.where(rows < windows // 2, "ann", "bob"),
            "session": 1,
            "trial": rows // max(windows // 4, 1),
            "stimulus": 1,
            "start": step * (rows % max(windows // 4, 1)),
        }
    )
    signals = {}
    for name, modality in modalities.items():
        shape = windows, len(modality.channels), len(modality.features)
        signals[name] = np.exp(rng.normal(size=shape)).astype(np.float32)
        if windows > 1:
            signals[name][1] = np.nan
    return Inputs(signals, table, modalities, "new people")


def rearranged(inputs, modality, channels, features):
    """Take channels and features by number."""
    here, array = inputs.modalities[modality], inputs.signals[modality]
    described = replace(
        here,
        channels=tuple(here.channels[number] for number in channels),
        features=tuple(here.features[number] for number in features),
    )
    return replace(
        inputs,
        signals={**inputs.signals, modality: array[:, channels][:, :, features]},
        modalities={**inputs.modalities, modality: described},
    )


def without(inputs, modality, *names):
    channels = inputs.modalities[modality].channels
    kept = [number for number, name in enumerate(channels) if name not in names]
    features = range(len(inputs.modalities[modality].features))
    return rearranged(inputs, modality, kept, list(features))


def only(inputs, *names):
    return replace(
        inputs,
        signals={name: inputs.signals[name] for name in names},
        modalities={name: inputs.modalities[name] for name in names},
    )


def changed(inputs, modality, change):
    array = change(inputs.signals[modality])
    return replace(inputs, signals={**inputs.signals, modality: array})


def matched(inputs, modalities=KNOWN, **more):
    return match(inputs, modalities, wanted_of="the lab", **more)


def assert_same_bits(found, expected):
    assert list(found.signals) == list(expected.signals)
    assert dict(found.modalities) == dict(expected.modalities)
    for name, array in expected.signals.items():
        assert found.signals[name].dtype == array.dtype
        assert found.signals[name].tobytes() == array.tobytes()
        assert found.signals[name].flags.c_contiguous
    pd.testing.assert_frame_equal(found.windows, expected.windows)


# --------------------------------------------------------------------------- by name

OLD = {"T7": "T3", "T8": "T4", "P7": "T5", "P8": "T6"}
PLAIN = [str.upper, str.lower, str.title, lambda name: f" {name}"]
OF_RECORDERS = [lambda name: f"EEG {name}-REF", lambda name: f"{name}-A2", *PLAIN]
OF_SENSORS = [lambda name: name.replace("_", " "), *PLAIN]


@st.composite
def respelled(draw):
    """Return recordings in another order and spelling, and beside others."""
    inputs = recordings()
    for name, modality in KNOWN.items():
        numbers = [
            draw(st.permutations(range(len(part))))
            for part in (modality.channels, modality.features)
        ]
        inputs = rearranged(inputs, name, *numbers)
    signals, modalities = {}, {}
    for name in draw(st.permutations(list(KNOWN))):
        here, array = inputs.modalities[name], inputs.signals[name]
        ways = OF_RECORDERS if name == "eeg" else OF_SENSORS
        channels = [
            draw(st.sampled_from(ways))(
                OLD.get(each, each) if draw(st.booleans()) else each
            )
            for each in here.channels
        ]
        features = [draw(st.sampled_from(PLAIN))(each) for each in here.features]
        if draw(st.booleans()):
            place = draw(st.integers(0, len(channels)))
            channels.insert(place, "CP5" if name == "eeg" else "saccades")
            array = np.insert(array, place, 7.0, axis=1)
        if draw(st.booleans()):
            place = draw(st.integers(0, len(features)))
            features.insert(place, "more")
            array = np.insert(array, place, np.inf, axis=2)
        called = draw(st.sampled_from([str.upper, str.title, str.lower]))(name)
        signals[called] = np.asfortranarray(array)
        modalities[called] = Modality(channels, features, here.kind, here.unit)
    return replace(inputs, signals=signals, modalities=modalities)


@quick
@given(respelled())
def test_order_and_spelling_and_what_else_there_is_change_no_bit(inputs):
    found = matched(inputs)
    assert_same_bits(found.inputs, recordings())
    assert found.missing == found.warnings == ()


def test_what_fits_is_not_copied():
    inputs = recordings()
    found = matched(inputs)
    assert all(found.inputs.signals[name] is inputs.signals[name] for name in KNOWN)
    assert found.notes == ()


def test_the_very_name_comes_before_another_spelling():
    """Of other sensors, two measures may differ in capitals alone."""
    two = {"eye": Modality(("a", "A"), ("value",), "eye")}
    inputs = recordings(two)
    assert_same_bits(matched(inputs, two).inputs, inputs)
    # One that is asked for twice, or offered twice, is nobody's.
    other = {"eye": Modality(("a", "B"), ("value",), "eye")}
    said = r"channels of the lab are missing, or there twice: A; found a, B\."
    with pytest.raises(DataError, match=said):
        matched(recordings(other), two)
    one = {"eye": Modality(("\N{FULLWIDTH LATIN SMALL LETTER A}",), ("value",), "eye")}
    with pytest.raises(DataError, match=r"there twice: \S+; found a, A\."):
        matched(inputs, one)
    # An old name and today's, where nobody said that these are electrodes.
    twice = Modality(("T3", "t7", *ELECTRODES[:5], *ELECTRODES[6:]), EEG.features, "x")
    with pytest.raises(DataError, match=r"there twice: T7 \(.*; found T3, t7,"):
        matched(recordings({"eeg": twice}))


def test_what_is_left_out_or_called_otherwise_is_noted():
    more = replace(EEG, channels=(*ELECTRODES, "CP5"), features=(*EEG.features, "mu"))
    more = replace(more, channels=tuple(OLD.get(c, c.upper()) for c in more.channels))
    inputs = recordings({"eeg": more, "gaze": EYE, "eye": EYE})
    assert matched(inputs).notes == (
        "new people: left out, as the lab has no such modality: gaze.",
        "new people, modality 'eeg': left out, as the lab has no such channel: CP5.",
        "new people, modality 'eeg': left out, as the lab has no such feature: mu.",
        "new people, modality 'eeg': taken by another name: T3 as T7, T4 as T8, "
        "T5 as P7, T6 as P8.",
    )


# ------------------------------------------------------------------------ interpolated


def interpolated_by_mne(inputs, absent):
    """Each feature as a recording of its own, with the absent electrodes as bad."""
    expected = recordings().signals["eeg"].copy()
    for feature in range(expected.shape[2]):
        values = np.nan_to_num(expected[:, :, feature].T.astype(np.float64))
        info = mne.create_info(ELECTRODES, 1.0, "eeg")
        raw = mne.io.RawArray(values, info, verbose="error")
        raw.set_montage("standard_1005", verbose="error")
        raw.info["bads"] = list(absent)
        raw.interpolate_bads(origin=(0.0, 0.0, 0.04), verbose="error")
        expected[:, :, feature] = raw.get_data().T
    expected[np.isnan(inputs.signals["eeg"]).all(axis=(1, 2))] = np.nan
    return expected


@pytest.mark.filterwarnings("ignore:.*standard_1005:FutureWarning")
@settings(quick, max_examples=5)
@given(st.sets(st.sampled_from(ELECTRODES), min_size=1, max_size=3), st.randoms())
def test_absent_electrodes_are_what_mne_makes_of_each_feature(absent, random):
    inputs = without(recordings(), "eeg", *absent)
    found = matched(inputs)
    expected = interpolated_by_mne(inputs, absent)
    array = found.inputs.signals["eeg"]
    np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-6)
    assert found.inputs.modalities["eeg"] == EEG
    there = [n for n, name in enumerate(ELECTRODES) if name not in absent]
    whole = recordings().signals["eeg"]
    np.testing.assert_array_equal(array[:, there], whole[:, there])
    # The order of channels and of windows changes no bit.
    numbers = list(range(len(inputs.modalities["eeg"].channels)))
    random.shuffle(numbers)
    again = matched(rearranged(inputs, "eeg", numbers, [2, 0, 1]))
    assert_same_bits(again.inputs, found.inputs)
    rows = np.array(random.sample(range(12), 12))
    assert_same_bits(matched(inputs.take(rows)).inputs, found.inputs.take(rows))


def test_what_is_interpolated_is_told_with_its_names():
    found = matched(without(recordings(), "eeg", "Oz", "T7"))
    assert found.inputs.name == "new people (T7, Oz interpolated)"
    (said,) = found.warnings
    assert said.startswith(
        "new people, modality 'eeg': T7, Oz of the lab were not recorded and were "
        "interpolated from 10 other electrodes, each feature by itself over the head"
    )


def test_neither_a_sensor_left_out_nor_one_without_a_place_is_interpolated_from():
    known = {"eeg": replace(EEG, channels=(*ELECTRODES, "CB1"))}
    inputs = recordings(known)
    found = matched(without(inputs, "eeg", "Oz"), known).inputs.signals["eeg"]
    plain = without(inputs, "eeg", "CB1", "Oz")
    alone = matched(plain, {"eeg": EEG}).inputs.signals["eeg"]
    np.testing.assert_array_equal(found[:, :-1], alone)
    assert np.isfinite(found[0]).all()
    beside = without(inputs, "eeg", "Oz")
    beside = matched(beside, {"eeg": EEG}).inputs.signals["eeg"]
    np.testing.assert_array_equal(beside, alone)


@pytest.mark.parametrize(
    ("known", "absent", "said"),
    [
        (EEG, ELECTRODES[:4], "4 of 12 electrodes are more than 25%"),
        (
            replace(EEG, channels=(*ELECTRODES, "CB1")),
            ["CB1", "Oz"],
            "Oz, CB1; .* as CB1 has no position in MNE's standard montage",
        ),
        (
            replace(EEG, channels=("Fz", "Cz", "Pz", "Oz")),
            ["Oz"],
            "there are 3 other electrodes with a position, and at least 4 are needed",
        ),
        (EYE, ["blinks"], "twice: blinks; found pupil_left, 7. Rename"),
    ],
)
def test_what_cannot_be_interpolated_is_named_at_once(known, absent, said):
    inputs = without(recordings({"m": known}), "m", *absent)
    with pytest.raises(DataError, match=f"'m': channels of the lab are .*{said}"):
        matched(inputs, {"m": known})


# ------------------------------------------------------------------ refused and told


def test_near_names_stand_beside_those_that_are_missing():
    other = replace(EYE, channels=("pupil left eye", "blink", "7"))
    said = r"pupil_left \(did you mean 'pupil left eye'\?\), blinks \(did you mean 'b"
    with pytest.raises(DataError, match=said):
        matched(recordings({"eye": other}))
    other = replace(EEG, features=("theta", "alpha", "betta"))
    said = r"features of the lab are .*: beta \(did you mean 'betta'\?\); found theta"
    with pytest.raises(DataError, match=said):
        matched(recordings({"eeg": other}))


@pytest.mark.parametrize("lost", ["eeg", "eye"])
def test_a_modality_that_is_missing_or_lost_is_told_and_not_decided_upon(lost):
    (kept,) = KNOWN.keys() - {lost}
    fact = (
        f"new people: {lost} of the lab is missing in all windows (the recording has "
        f"{{}}); the predictions rest on {kept} alone."
    )
    inputs = recordings()
    found = matched(only(inputs, kept))
    assert_same_bits(found.inputs, only(inputs, kept))
    assert found.missing == (lost,) and found.warnings == (fact.format(kept),)
    emptied = changed(inputs, lost, lambda array: np.full_like(array, np.nan))
    whole = matched(only(inputs, kept), keep_missing=True)
    assert_same_bits(whole.inputs, emptied)
    assert whole.missing == (lost,) and whole.warnings == found.warnings
    there = matched(emptied)
    assert_same_bits(there.inputs, emptied)
    assert there.missing == () and there.warnings == (fact.format("eeg, eye"),)


def test_a_modality_of_a_near_name_is_asked_about():
    inputs = recordings({"eeg": EEG, "eyes": EYE})
    (said,) = matched(inputs).warnings
    assert said.endswith("rest on eeg alone. Did you mean 'eyes'?")


def test_recordings_of_which_nothing_is_left_are_refused():
    said = r"found the modalities egg; expected .* lab, eeg, eye. Did you mean 'egg'\?"
    with pytest.raises(DataError, match=said):
        matched(recordings({"egg": EEG}))
    nothing = changed(
        recordings({"eye": EYE}), "eye", lambda a: np.full_like(a, np.nan)
    )
    with pytest.raises(DataError, match="every value of eye, eeg is missing; expected"):
        matched(nothing)
    with pytest.raises(DataError, match="there are no windows at all"):
        matched(recordings().take(np.array([], np.int64)))


def test_infinity_is_refused_where_it_is_wanted_alone():
    def spoilt(array):
        array = array.copy()
        array[8, 1, 0] = -np.inf
        return array

    inputs = changed(recordings(), "eye", spoilt)
    said = "'eye': channel 'blinks' is infinite in a window of subject bob; expected"
    with pytest.raises(DataError, match=said):
        matched(inputs)
    fewer = {**KNOWN, "eye": replace(EYE, channels=("7", "pupil_left"))}
    assert matched(inputs, fewer).warnings == ()


def test_a_sensor_that_was_off_all_along_is_told():
    inputs = changed(recordings(), "eye", np.zeros_like)
    (said,) = matched(inputs).warnings
    assert re.search("'eye': there are only values that are the same in all w", said)
    # Of one window nobody can say so.
    assert matched(recordings(windows=1)).warnings == ()


@pytest.mark.parametrize(
    ("unit", "other", "told"),
    [
        ("uV^2", "\N{MICRO SIGN}V^2", False),
        ("uV^2", "\N{GREEK SMALL LETTER MU}V ^2", False),
        ("uV^2", "", False),
        ("", "uV^2", False),
        ("uV^2", "V^2", True),
        ("mV", "MV", True),
    ],
)
def test_another_unit_in_words(unit, other, told):
    found = matched(
        recordings({"eeg": replace(EEG, unit=other)}),
        {"eeg": replace(EEG, unit=unit)},
    )
    assert found.inputs.modalities["eeg"].unit == unit
    said = f"the unit is {other!r}, and that of the lab {unit!r}; the values are taken"
    assert [said in each for each in found.warnings] == [True] * told


def test_another_kind_is_told():
    inputs = recordings({"eye": replace(EYE, kind="physiology"), "eeg": EEG})
    (said,) = matched(inputs).warnings
    assert "'eye': the kind is 'physiology', and that of the lab 'eye'" in said


@pytest.mark.parametrize("power", [6, -6, 3, -3])
def test_another_scale_in_values(power):
    """Of power, a thousandfold amplitude is a millionfold value."""
    source = recordings(seed=1)
    scales = scales_of(source, np.arange(len(source)))
    new = changed(recordings(), "eeg", lambda a: a * np.float32(10.0 ** (2 * power)))
    (said,) = matched(new, scales=scales).warnings
    values = np.nanmedian(new.signals["eeg"]), np.median(scales["eeg"].mean)
    assert "values lie as far from those of the lab as they do in another unit" in said
    found = re.search(r"typical are (\S+) and (\S+), about a factor of (\S+) sq", said)
    np.testing.assert_allclose([float(found[1]), float(found[2])], values, rtol=0.3)
    assert found[3] == f"1e{abs(power)}"
    assert new.signals["eeg"] is matched(new, scales=scales).inputs.signals["eeg"]
    assert matched(recordings(), scales=scales).warnings == ()


# --------------------------------------------------------------------- windows' lengths


def test_windows_at_another_distance_are_refused_with_both():
    assert matched(recordings(step=4.01), step=4.0).warnings == ()
    said = "found windows that follow one another every 2 s; expected windows every 4 s"
    with pytest.raises(DataError, match=said):
        matched(recordings(step=2.0), step=4.0)
    assert matched(recordings(windows=1), step=4.0).warnings == ()  # none follows
    uneven = recordings(windows=8)
    starts = np.arange(len(uneven)) ** 2 * 1.0
    uneven = replace(uneven, windows=uneven.windows.assign(trial=1, start=starts))
    (told,) = matched(uneven, step=4.0).warnings
    assert "at one distance" in told and "every 4 s" in told


@quick
@given(st.permutations(range(12)), st.sampled_from([0.1, 1.0, 4.0]))
def test_the_distance_of_windows_is_told_by_their_starts(rows, step):
    windows = recordings(step=step).windows
    assert step_of(windows.iloc[rows]) == pytest.approx(step)
    # Between trials there is none, and a gap is not the rule.
    assert step_of(windows.groupby(["subject", "trial"]).head(1)) is None
    assert step_of(windows.drop(index=4)) == pytest.approx(step)


def test_windows_at_no_one_distance_have_none():
    windows = recordings(windows=8).windows.assign(trial=1)
    start = np.cumsum([0.0, 1, 2, 4, 0, 8, 16, 32])
    assert step_of(windows.assign(start=start)) is None
