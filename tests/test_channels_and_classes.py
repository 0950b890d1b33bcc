"""Channels and classes that are chosen: what is left, what is said, what is refused."""

from dataclasses import replace

import numpy as np
import pytest

import domainemo as de
from domainemo.cli.configuration import configure
from domainemo.data.task import merges
from domainemo.errors import ConfigurationError, DataError
from domainemo.runs.experiment import experiment
from domainemo.runs.newcomers import plan_newcomers
from domainemo.runs.plan import plan
from domainemo.runs.pretraining import plan_pretraining, pretraining
from domainemo.studies.plan import plan_study
from domainemo.studies.settings import StudySettings
from domainemo.studies.space import search_space

CHOICES = {"backbone": "concatenation-mlp", "device": "cpu"}
MERGED = {"good": ["positive", "neutral"]}


@pytest.fixture(scope="module")
def data():
    """Three people; six trials each, two of negative, neutral and positive."""
    return de.Simulated(subjects=3, sessions=1, trials=6, windows=(3, 5)).load()


def planned(data, **choices):
    return plan(data, experiment(**{**CHOICES, **choices}))


def lost(data, who, *channels):
    """Return recordings in which a person lacks channels of the eye altogether."""
    array = data.inputs.signals["eye"].copy()
    places = [data.inputs.modalities["eye"].channels.index(each) for each in channels]
    rows = np.flatnonzero(data.inputs.windows["subject"] == who)
    array[np.ix_(rows, places)] = np.nan
    signals = {**data.inputs.signals, "eye": array}
    return replace(data, inputs=replace(data.inputs, signals=signals))


def commas(data):
    """Return recordings in which a person, channels and a class have commas."""
    names = {1: "Lee, Ann", 2: 'Bo "B", jr.', 3: "X", 4: "Y", 5: "Z"}
    windows = data.inputs.windows.copy()
    windows["subject"] = windows["subject"].map(names)
    eeg, *rest = data.inputs.modalities["eeg"].channels
    eeg = replace(data.inputs.modalities["eeg"], channels=("left, front", *rest))
    modalities = {**data.inputs.modalities, "eeg": eeg}
    inputs = replace(data.inputs, windows=windows, modalities=modalities)
    return replace(data, inputs=inputs, classes=("so, so", *data.classes[1:]))


# ------------------------------------------------------------------- names with commas


@pytest.mark.parametrize(
    ("option", "name", "text"),
    [
        ("exclude", ["Lee, Ann"], '"Lee, Ann"'),
        ("exclude", ["Lee, Ann", "X"], 'X , "Lee, Ann"'),
        ("exclude", ['Bo "B", jr.'], '"Bo ""B"", jr."'),
        ("classes", ["so, so", "neutral"], 'neutral,"so, so"'),
        ("merge", ["so, so+neutral=none, really"], '"so, so+neutral=none, really"'),
        ("options", {"protocol.test": ["Lee, Ann"]}, {"protocol.test": "Lee, Ann"}),
        ("options", {"protocol.test": ["Lee, Ann"]}, {"protocol.test": '"Lee, Ann"'}),
    ],
)
def test_a_name_with_a_comma_is_named_in_quotes(option, name, text):
    data = commas(de.Simulated(subjects=5, trials=6).load())
    plans = [planned(data, **{option: each}) for each in (name, text)]
    plans.append(planned(data))
    told = [(p.fingerprint(), [fold.name for fold in p.folds]) for p in plans]
    assert told[0] == told[1] != told[2]


def test_a_name_with_a_comma_stands_in_quotes_where_it_may_be_copied(data, capsys):
    data = commas(data)
    chosen = experiment(**CHOICES, adapter="marginal", validator="rank-average")
    space = search_space(chosen, ("adapter",), {}, {})
    there = '"Lee, Ann"'
    for wrong in ("Lee, Ann", '"Lee, An"'):
        with pytest.raises(ConfigurationError) as raised:
            planned(data, exclude=wrong)
        said = str(raised.value)
        assert f"Did you mean '{there}'? Found {there}, " in said, said
        assert planned(data, exclude=there).inputs.windows["subject"].nunique() == 2
    with pytest.raises(ConfigurationError, match=r'jr\.", "Lee, Ann", X\.$'):
        plan_study(data, space, StudySettings(development=("Lee", "Ann")))
    with pytest.raises(ConfigurationError, match='Found "so, so", '):
        planned(data, classes="so, so")
    with pytest.raises(ConfigurationError, match='eeg: "left, front", '):
        planned(data, channels="left, front")
    with pytest.raises(DataError, match=r'Expected some of .*"Lee, Ann"'):
        planned(data, options={"protocol.test": "Lee,Ann"})


# ----------------------------------------------------------------------- channels


def test_channels_are_found_in_any_order_and_spelling(data):
    """Old names of electrodes, too; of a modality of which none is named, all are."""
    made = planned(data, channels=["eeg/p7", "Fz", "EEG T3-REF"]).inputs
    assert made.modalities["eeg"].channels == ("FZ", "T7", "P7")
    assert made.modalities["eye"] == data.inputs.modalities["eye"]
    there = data.inputs.modalities["eeg"].channels
    columns = [there.index(name) for name in ("FZ", "T7", "P7")]
    np.testing.assert_array_equal(
        made.signals["eeg"], data.inputs.signals["eeg"][:, columns]
    )
    turned = planned(data, channels="T7,FZ,P7").fingerprint()
    assert turned == planned(data, channels="P7,T7,FZ").fingerprint()


def test_every_channel_named_is_no_choice(data):
    every = [f"{n}/{c}" for n, m in data.inputs.modalities.items() for c in m.channels]
    made = planned(data, channels=every[::-1])
    assert made.task == {} and made.fingerprint() == planned(data).fingerprint()


def test_what_any_subject_lacks_is_left_out_and_named(data):
    first, second, third = data.inputs.modalities["eye"].channels[:3]
    damaged = lost(lost(data, 1, first), 3, second)
    made = planned(damaged, exclude_channels=["lacking", third])
    assert not {first, second, third} & {*made.inputs.modalities["eye"].channels}
    words = f"eye without {first}, {second}, {third} (somebody lacks {first}, {second})"
    assert made.task == {"channels": words}
    # Nobody misses what a person lacks who is left out.
    made = planned(damaged, exclude_channels="lacking", exclude=[1])
    assert made.inputs.modalities["eye"].channels[0] == first
    assert second not in made.inputs.modalities["eye"].channels
    assert planned(data, exclude_channels="lacking").task == {}


def test_a_newcomer_counts_among_those_who_lack_channels(data):
    first, second = data.inputs.modalities["eye"].channels[:2]
    theirs = data.inputs.windows["subject"].to_numpy() == 3
    source, target = (data.take(np.flatnonzero(each)) for each in (~theirs, theirs))
    chosen = experiment(
        **CHOICES, protocol="newcomers", exclude_channels="lacking", adapter="none"
    )
    target = lost(target, 3, first).inputs
    made = plan_newcomers(lost(source, 2, second), target, chosen)
    assert made.inputs.modalities["eye"].channels[0] not in (first, second)
    assert len(made.inputs.modalities["eye"].channels) == 31


def test_a_study_searches_the_channels_that_it_tests():
    """Also where only people lack some who had no part in the choice."""
    five = de.Simulated(subjects=5, sessions=1, trials=3, windows=(3, 4)).load()
    first = five.inputs.modalities["eye"].channels[0]
    settings = StudySettings(development=3)
    chosen = experiment(
        **CHOICES,
        adapter="marginal",
        validator="source-and-information",
        exclude_channels="lacking",
    )
    space = search_space(chosen, settings.search, {}, {})
    for who in (1, 2, 3, 4, 5):
        made = plan_study(lost(five, who, first), space, settings)
        searched = made.choosing[""].inputs.modalities
        assert searched == made.tested.inputs.modalities
        assert first not in searched["eye"].channels


# ------------------------------------------------------------------------ classes


def test_no_window_of_another_class_is_left(data):
    made = planned(data, classes=["positive", "negative"])
    kept = np.flatnonzero(np.array(data.classes)[data.labels] != "neutral")
    assert made.classes == ("negative", "positive")  # in the recordings' order
    np.testing.assert_array_equal(
        np.array(made.classes)[made.labels], np.array(data.classes)[data.labels[kept]]
    )
    np.testing.assert_array_equal(
        made.inputs.signals["eeg"], data.inputs.signals["eeg"][kept]
    )
    gone = len(data) - len(kept)
    assert made.task["classes"].startswith("negative, positive; left out by their lab")
    assert "of targets too" in made.task["classes"]
    assert f"{gone} windows of neutral" in made.task["classes"]


@pytest.mark.parametrize(
    "form", [MERGED, "positive+neutral=good", ["neutral+Positive=good"]]
)
def test_merged_classes_are_one(data, form):
    made = planned(data, merge=form)
    called = {"positive": "good", "neutral": "good", "negative": "negative"}
    expected = [called[data.classes[label]] for label in data.labels]
    assert made.classes == ("negative", "good")
    assert [made.classes[label] for label in made.labels] == expected
    assert made.task["classes"] == "negative, good (neutral + positive)"


def test_classes_are_chosen_by_their_names_after_merging():
    data = de.Simulated(subjects=2, sessions=1, trials=10, classes=5).load()
    a, b, c, d, e = data.classes
    made = planned(data, merge={a: [a, e], "other": [b, c]}, classes=[a, "other"])
    assert made.classes == (a, "other")
    counts = dict(zip(data.classes, np.bincount(data.labels), strict=True))
    found = np.bincount(made.labels).tolist()
    assert found == [counts[a] + counts[e], counts[b] + counts[c]]
    assert made.task["classes"].endswith(f": {counts[d]} windows of {d}")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"channels": "Fzz"}, "no channel 'Fzz' to use. Did you mean 'FZ'"),
        ({"channels": "eeg/Fz", "modalities": "eye"}, "'eeg', which is not among"),
        ({"channels": []}, "channels is an empty list"),
        ({"exclude_channels": "Fzz"}, "no channel 'Fzz' to leave out"),
        ({"channels": "Fz", "exclude_channels": "Fz"}, "'eeg' has no channel at all"),
        ({"classes": "positiv,negative"}, "'positiv' to use. Did you mean 'positive'"),
        ({"classes": "positive"}, "the only class left is 'positive'"),
        ({"classes": "neutral,good", "merge": MERGED}, "no class 'neutral' to use"),
        ({"classes": "neutral,negative", "merge": ["neutral+sad=x"]}, "'sad' to merge"),
        ({"merge": "positive+negative+neutral=all"}, "the only class left is 'all'"),
        ({"merge": "positive+negative=neutral"}, "is a class of its own"),
        ({"merge": "positive+negative=x,neutral+Positive=y"}, "in a group twice"),
        ({"merge": "positive=x,neutral=x"}, "'x' is to be made of two groups"),
        ({"merge": "positive+negative"}, r"expected OLD\+OLD=NEW"),
        ({"merge": {"a=b": ["positive", "neutral"]}}, r"text without '=\+'"),
    ],
)
def test_what_cannot_be_is_refused(data, given, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        planned(data, **given)


def test_a_channel_that_two_modalities_have_is_named_with_one(data):
    eye = data.inputs.modalities["eye"]
    eye = replace(eye, channels=("Cz", *eye.channels[1:]))
    modalities = {**data.inputs.modalities, "eye": eye}
    both = replace(data, inputs=replace(data.inputs, modalities=modalities))
    with pytest.raises(ConfigurationError, match="eeg/CZ and eye/Cz are called 'cz'"):
        planned(both, exclude_channels="cz")
    made = planned(both, exclude_channels="eye/cz").inputs.modalities
    assert "CZ" in made["eeg"].channels and len(made["eye"].channels) == 32


def test_the_classes_of_a_class_that_has_no_window_left(data):
    kept = np.flatnonzero(np.array(data.classes)[data.labels] == "neutral")
    with pytest.raises(DataError, match="no window of negative, positive"):
        planned(data.take(kept), classes="negative,positive")


# ------------------------------------------------------- files, other commands, runs


def test_a_file_says_it_as_python_does(tmp_path):
    path = tmp_path / "chosen.toml"
    path.write_text(
        'channels = ["Fz", "eye/pupil"]\nexclude_channels = ["lacking"]\n'
        'classes = ["good", "negative"]\nmerge = ["positive+neutral=good"]\n'
    )
    found = configure({}, [], str(path)).experiment
    python = experiment(
        channels="Fz,eye/pupil",
        exclude_channels="lacking",
        classes=["good", "negative"],
        merge=MERGED,
    )
    assert found.describe() == python.describe()
    assert found.describe()["merge"] == merges(MERGED)
    # The command line goes before the file.
    assert configure({"classes": ["a"]}, [], str(path)).experiment.classes == ("a",)


def test_pre_training_needs_labels_to_leave_classes_out(data):
    chosen = pretraining(**CHOICES, classes="positive,negative", channels="Fz,Cz")
    assert plan_pretraining(data, chosen).task.keys() == {"classes", "channels"}
    with pytest.raises(DataError, match=r"of chosen classes.*without labels"):
        plan_pretraining(data.inputs, chosen)


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    place = tmp_path_factory.mktemp("chosen") / "run"
    run(data, place, classes="positive,negative")
    return place


def run(data, place, **choices):
    return de.run(
        data,
        **CHOICES,
        adapter="none",
        controls="majority-class",
        folds=["subject 1"],
        channels="Fz,Cz,Pz",
        training=de.Training(epochs=1),
        output=place,
        **choices,
    )


def test_a_run_says_what_was_chosen_and_is_known_by_it(data, folder):
    again = run(data, folder, classes="positive,negative")
    assert "; channels: eeg: FZ, CZ, PZ alone; classes: negative, positive; left" in (
        again.how()
    )
    said = again.table[["channels", "classes"]].drop_duplicates()
    assert len(said) == 1 and "windows of neutral" in said["classes"].iloc[0]
    with pytest.raises(ConfigurationError, match="classes"):
        run(data, folder, classes="neutral,negative")
    with pytest.raises(ConfigurationError, match="merge"):
        run(data, folder, classes="good,negative", merge="neutral+positive=good")


def test_a_newcomer_is_predicted_with_the_same_channels_and_classes(data, folder):
    """From all channels, or just these; windows of every class are predicted."""
    model = de.Model.load(folder)
    found = model.predict(data)
    assert len(found) == len(data)
    assert [n for n in found if n.startswith("p_")] == ["p_negative", "p_positive"]
    few = planned(data, channels="Pz,Cz,Fz").inputs
    assert few.modalities["eeg"].channels == model.modalities["eeg"].channels
    np.testing.assert_array_equal(
        model.predict(few)[["p_negative"]], found[["p_negative"]]
    )
