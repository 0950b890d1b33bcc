"""Checking and describing data sets: every fault is found, and all counts are right.

Takes about 15 s.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

import domainemo as de
from domainemo.controls.clip_duration_only import ClipDurationOnly
from domainemo.core import EmotionData, Inputs, Modality
from domainemo.data.inspection.check import check
from domainemo.data.inspection.description import describe
from domainemo.data.inspection.figures import COLOURS, draw, save
from domainemo.data.reader import Reader, Recording, Trial
from domainemo.data.table import Table
from domainemo.errors import ConfigurationError, DataError, data_error

CLASSES = ("calm", "tense", "glad")
MODALITIES = {
    "eeg": Modality(("Fz", "Cz", "Pz"), ("alpha", "beta"), "eeg", "nat"),
    "eye": Modality(("pupil", "blinks"), ("value",), "eye"),
}


class Made(Reader):
    """A data set of files that are made up here."""

    home = "nowhere"

    def __init__(self, root=None, *, content=(), absent=(), sessions=None) -> None:
        self.root, self.content, self.absent = root, content, absent
        self.classes = CLASSES

    def recordings(self):
        if self.root is None:
            raise data_error("here", "no folder", "a folder", "Name it.")
        return [
            Recording(subject, {"eeg": self.root / f"{subject}_{session}.bin"}, session)
            for subject, session in self.content
        ]

    def trials(self, recording):
        for trial in self.content[recording.subject, recording.session]:
            if isinstance(trial, str):  # the rest of the file is lost
                raise data_error(trial, "rubbish", "order", "Tidy up.")
            yield trial

    def modalities(self):
        return MODALITIES

    def title(self):
        return "made"

    def release(self):
        return "the first release"

    def missing(self):
        return list(self.absent)


def sound(subjects=3, sessions=2, trials=6):
    """Trials by subject and session, all different and every class in each."""
    generator = np.random.default_rng(0)
    return {
        (subject, session): [
            Trial(
                session=session,
                trial=number,
                stimulus=number,
                label=number % 3,
                signals={
                    "eeg": generator.normal(size=(2 + number, 3, 2)),
                    "eye": generator.normal(size=(2 + number, 2, 1)),
                },
                start=np.arange(2.0 + number),
            )
            for number in range(1, trials + 1)
        ]
        for subject in range(1, subjects + 1)
        for session in range(1, sessions + 1)
    }


@pytest.fixture
def made(tmp_path):
    """Make a data set with a file of ten bytes per recording."""

    def make(content, **options):
        for subject, session in content:
            (tmp_path / f"{subject}_{session}.bin").write_bytes(b"0123456789")
        return Made(tmp_path, content=content, **options)

    return make


# -------------------------------------------------------------------------- check


def test_a_sound_data_set_is_usable(made):
    told = []
    found = check(made(sound()), on_read=lambda *args: told.append(args))
    assert found.usable
    assert (found.problems, found.warnings, found.corrections) == ((), (), ())
    assert found.verdict == "Usable: 6 recordings of 3 subjects."
    assert (found.files, found.size, found.recordings) == (6, 60, 6)
    assert (found.subjects, found.trials) == (3, 36)
    assert found.windows == 6 * (3 + 4 + 5 + 6 + 7 + 8)
    assert found.release == "the first release"
    assert found.missing == {"eeg": 0, "eye": 0}
    assert told[0] == (1, 6, "subject 1, session 1")
    assert [number for number, _, _ in told] == [1, 2, 3, 4, 5, 6]


def test_one_recording_is_not_called_many(made):
    found = check(made(sound(subjects=1, sessions=1)))
    assert found.verdict == "Usable: 1 recording of 1 subject."


def test_what_is_absent_does_no_harm(made):
    found = check(made(sound(), absent=["subject 4", "the eyes of subject 1"]))
    assert found.absent == ("subject 4", "the eyes of subject 1")
    assert found.verdict == "Usable: 6 recordings of 3 subjects."


def test_every_error_is_reported(made):
    content = sound()
    first, last = content[1, 1], content[3, 2]
    content[1, 1] = [first[0], data_error("a.mat, key 'x'", "1", "2", "A."), *first[2:]]
    content[2, 1] = ["b.mat"]
    content[3, 2] = [*last[:4], data_error("c.mat", "5", "6", "C."), "d.mat"]
    found = check(made(content))
    assert not found.usable
    assert [(each.recording, each.message) for each in found.problems] == [
        ("subject 1, session 1", "a.mat, key 'x': found 1; expected 2. A."),
        ("subject 2, session 1", "b.mat: found rubbish; expected order. Tidy up."),
        ("subject 3, session 2", "c.mat: found 5; expected 6. C."),
        ("subject 3, session 2", "d.mat: found rubbish; expected order. Tidy up."),
    ]
    assert found.verdict == "Not usable: 4 problems."
    assert found.trials == 36 - 1 - 6 - 2


def test_a_missing_folder_is_the_only_problem():
    found = check(Made())
    assert (
        found.problems[0].message
        == "here: found no folder; expected a folder. Name it."
    )
    assert found.verdict == "Not usable: 1 problem."


def wrong_shape(trial):
    return replace(trial, signals={**trial.signals, "eye": np.ones((4, 2, 1))})


def infinite(trial):
    eeg = trial.signals["eeg"].copy()
    eeg[1, 2, 0] = np.inf
    return replace(trial, signals={**trial.signals, "eeg": eeg})


REFUSED = {
    "shape": (wrong_shape, "'eye'.*shape.*4, 2, 1"),
    "infinite": (infinite, "channel Pz, feature alpha: found inf"),
    "label": (lambda trial: replace(trial, label=3), "0 to 2"),
    "negative label": (lambda trial: replace(trial, label=-1), "0 to 2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_loading_refuses_is_a_problem(made, case):
    change, message = REFUSED[case]
    content = sound()
    content[2, 1][4] = change(content[2, 1][4])
    with pytest.raises(DataError):
        made(content).load()
    (problem,) = check(made(content)).problems
    assert problem.recording == "subject 2, session 1"
    assert "trial 5" in problem.message
    assert pd.Series([problem.message]).str.contains(message).all()


def test_a_data_set_without_a_trial_is_not_usable(made):
    reader = made({(1, 1): [], (2, 1): []})
    with pytest.raises(DataError):
        reader.load()
    found = check(reader)
    assert found.verdict == "Not usable: 1 problem."
    assert found.warnings[0].places == ("subject 1, session 1", "subject 2, session 1")


def test_corrections_are_counted(made):
    content = sound()
    for place, numbers in {(1, 1): (0, 3), (1, 2): (), (3, 2): (1,)}.items():
        for number in numbers:
            notes = ("eye cut", "eye cut") if number else ("eye cut", "eeg smoothed")
            content[place][number] = replace(content[place][number], notes=notes)
    cut, smoothed = check(made(content)).corrections
    assert (cut.note, cut.trials) == ("eeg smoothed", 1)
    assert (smoothed.note, smoothed.trials) == ("eye cut", 3)
    assert smoothed.recordings == ("subject 1, session 1", "subject 3, session 2")


def altered(content, places, name, change):
    """Apply `change` to a modality's arrays in some recordings."""
    for place in places:
        for number, trial in enumerate(content[place]):
            array = trial.signals[name].copy()
            change(array)
            signals = {**trial.signals, name: array}
            content[place][number] = replace(trial, signals=signals)


def setting(index, value):
    def change(array):
        array[index] = value

    return change


def constant(content):
    altered(content, [(2, 1), (3, 1)], "eeg", setting(np.s_[:, 1], -7.5))


def lost_channel(content):
    altered(content, [(1, 2)], "eye", setting(np.s_[:, 1], np.nan))


def lost_modality(content):
    altered(content, [(2, 1), (2, 2)], "eye", setting(np.s_[:], np.nan))


def lost_session(content):
    altered(content, [(2, 1)], "eye", setting(np.s_[:], np.nan))


def mostly_lost(content):
    altered(content, [(3, 1)], "eeg", setting(np.s_[1:], np.nan))


def copied(content):
    content[3, 1] = [replace(trial, session=1) for trial in content[1, 2]]


def copied_eyes(content):
    for number, trial in enumerate(content[1, 1]):
        eye = content[2, 2][number].signals["eye"]
        signals = {**trial.signals, "eye": eye}
        content[1, 1][number] = replace(trial, signals=signals)


def without_a_class(content, places):
    for place in places:
        content[place] = [trial for trial in content[place] if trial.label != 2]


def numbered_twice(content):
    content[2, 2][5] = replace(content[2, 2][5], trial=1)


SUSPICIOUS = {
    "constant": (
        constant,
        "eeg: one and the same value throughout in Cz",
        ("subject 2, session 1", "subject 3, session 1"),
    ),
    "lost channel": (
        lost_channel,
        "eye: nothing but NaN throughout in blinks",
        ("subject 1, session 2",),
    ),
    "lost modality": (lost_modality, "eye: not one value", ("subject 2",)),
    "lost session": (
        lost_session,
        "eye: more than 20% of the values are NaN",
        ("subject 2, session 1: 100%",),
    ),
    "mostly lost": (
        mostly_lost,
        "eeg: more than 20% of the values are NaN",
        # Each of six trials keeps one of its 3 to 8 windows.
        (f"subject 3, session 1: {100 - 100 * 6 / 33:.0f}%",),
    ),
    "copied": (
        copied,
        "eeg and eye: the same signals, bit for bit",
        ("subject 1, session 2", "subject 3, session 1"),
    ),
    "copied eyes": (
        copied_eyes,
        "eye: the same signals, bit for bit",
        ("subject 1, session 1", "subject 2, session 2"),
    ),
    "class, one session": (
        lambda content: without_a_class(content, [(1, 2)]),
        "no trial of class 'glad'",
        ("subject 1, session 2",),
    ),
    "class, one subject": (
        lambda content: without_a_class(content, [(2, 1), (2, 2)]),
        "no trial of class 'glad'",
        ("subject 2",),
    ),
    "class, second session": (
        lambda content: without_a_class(content, [(1, 2), (2, 2), (3, 2)]),
        "no trial of class 'glad'",
        ("session 2 of every subject",),
    ),
    "class, nowhere": (
        lambda content: without_a_class(content, list(content)),
        "no trial of class 'glad' at all",
        (),
    ),
    "numbered twice": (
        numbered_twice,
        "a trial number that occurs more than once",
        ("subject 2, session 2, trial 1",),
    ),
}


@pytest.mark.parametrize("case", SUSPICIOUS)
def test_suspicious_content_is_a_warning(made, case):
    """Each change gives its own warning, and no other."""
    change, text, places = SUSPICIOUS[case]
    content = sound()
    change(content)
    found = check(made(content))
    first, *others = [each.text for each in found.warnings]
    assert first.startswith(text)
    # A lost channel is half of the eye's two, and so much missing as well.
    also = (
        ["eye: more than 20% of the values are NaN"] if case == "lost channel" else []
    )
    assert others == also
    assert found.warnings[0].places == places
    # One recording under two people's names is no mere suspicion.
    assert found.usable == (case != "copied")
    if found.usable:
        assert found.verdict.startswith("Usable: 6 recordings of 3 subjects, with ")
    else:
        assert "subject 1, session 2, trial 1" in found.problems[0].message
        assert "subject 3, session 1, trial 1" in found.problems[0].message


def test_the_share_of_missing_values(made):
    content = sound()
    lost_channel(content)
    missing = check(made(content)).missing
    assert missing["eye"] == pytest.approx(1 / 12)  # of 2 channels in 1 of 6 sessions
    assert missing["eeg"] == 0


def test_simulated_recordings_are_checked_as_a_whole():
    found = check(de.Simulated(subjects=3, sessions=2, trials=6))
    assert found.verdict == "Usable: 6 recordings of 3 subjects."
    assert (found.files, found.release, found.trials) == (0, "", 36)


def test_a_table_is_checked_as_a_whole(tmp_path):
    data = de.Simulated(subjects=3, sessions=1, trials=6).load()
    signals = {name: array.copy() for name, array in data.inputs.signals.items()}
    rows = data.inputs.windows["subject"].to_numpy() == 2
    signals["eye"][rows] = np.nan
    inputs = replace(data.inputs, signals=signals)
    de.write_table(replace(data, inputs=inputs), tmp_path / "table")
    found = check(Table(tmp_path / "table"))
    assert [each.places for each in found.warnings] == [("subject 2",)]
    share = np.isnan(signals["eye"]).mean()
    assert found.missing["eye"] == pytest.approx(share)
    (tmp_path / "table" / "eeg.npy").unlink()
    broken = check(Table(tmp_path / "table"))
    assert broken.verdict == "Not usable: 1 problem."
    assert "eeg.npy" in broken.problems[0].message


# ------------------------------------------------------------------------ describe


@pytest.fixture(scope="module")
def data():
    made = de.Simulated(
        subjects=4, sessions=2, trials=7, missing=0.1, length_reveals_class=True
    ).load()
    eye = made.inputs.signals["eye"]
    eye[3, 5] = np.nan
    return made


def test_counts_are_those_of_a_slow_loop(data):
    windows = data.inputs.windows
    trials = defaultdict(list)
    for row, place in enumerate(windows.itertuples(index=False)):
        trials[place.subject, place.session, place.trial].append((place.start, row))
    seconds, counts = defaultdict(list), np.zeros(3, dtype=int)
    for rows in trials.values():
        label = data.labels[rows[0][1]]
        seconds[label].append(max(rows)[0] - min(rows)[0] + 4)
        counts[label] += len(rows)
    found = describe(data)
    assert (found.trials, found.windows, found.step) == (len(trials), len(data), 4)
    assert found.sessions == 8
    for label, each in enumerate(found.classes):
        assert each.name == data.classes[label]
        assert (each.windows, each.trials) == (counts[label], len(seconds[label]))
        assert each.duration.mean == pytest.approx(np.mean(seconds[label]))
        assert each.duration.shortest == min(seconds[label])
        assert each.duration.longest == max(seconds[label])
        assert sorted(found.durations[label]) == sorted(seconds[label])
    for person in found.subjects:
        rows = windows["subject"] == int(person.subject)
        own = [key for key in trials if key[0] == int(person.subject)]
        assert (person.windows, person.trials) == (rows.sum(), len(own))
        assert person.sessions == 2
        assert list(person.classes) == [
            (data.labels[rows] == k).sum() for k in (0, 1, 2)
        ]
        for name, share in zip(("eeg", "eye"), person.missing, strict=True):
            assert share == np.isnan(data.inputs.signals[name][rows]).mean()


def test_lost_windows_and_missing_values_are_told_apart(data):
    eye = data.inputs.signals["eye"]
    found = {each.name: each for each in describe(data).modalities}
    lost = sum(np.isnan(window).all() for window in eye)
    assert found["eye"].lost == pytest.approx(lost / len(eye))
    assert found["eye"].missing == pytest.approx(np.isnan(eye).sum() / eye.size)
    assert found["eye"].missing > found["eye"].lost
    assert (found["eeg"].channels, found["eeg"].features) == (62, 5)


def test_length_alone_is_the_control_across_subjects(data):
    """As the runner's control predicts, over trials."""
    windows, right = data.inputs.windows, defaultdict(list)
    first = windows.groupby(["subject", "session", "trial"]).head(1).index.to_numpy()
    for subject in windows["subject"].unique():
        own = (windows["subject"] == subject).to_numpy()
        source, test = np.flatnonzero(~own), np.intersect1d(np.flatnonzero(own), first)
        nobody = np.empty(0, np.int64)
        known = windows, source, data.labels[source], nobody, test
        guess = ClipDurationOnly().predict(*known, np.empty((0, 0)))
        for row, label in zip(test, guess, strict=True):
            right[data.labels[row]].append(label == data.labels[row])
    expected = np.mean([np.mean(each) for each in right.values()])
    assert describe(data).length_alone == pytest.approx(expected)


def recordings(lengths, labels=(0, 1), step=1.0, subjects=2):
    """Trials of given lengths in windows, the same for every subject."""
    columns = [
        (subject, 1, trial, trial, window * step, labels[trial % len(labels)])
        for subject in range(subjects)
        for trial, length in enumerate(lengths)
        for window in range(length)
    ]
    names = ["subject", "session", "trial", "stimulus", "start", "label"]
    frame = pd.DataFrame(columns, columns=names)
    classes = frame.pop("label").to_numpy()
    eye = np.arange(len(frame), dtype=np.float32)[:, None, None]
    modality = {"eye": Modality(("pupil",), ("value",), "eye")}
    return EmotionData(Inputs({"eye": eye}, frame, modality), classes, ("low", "high"))


def test_lengths_that_tell_the_class_are_remarked_on():
    told = describe(recordings([5, 9, 5, 9]))
    assert told.length_alone == 1
    means, alone = told.remarks
    assert "from 5 to 9 s" in means
    assert "100% (chance: 50%)" in alone
    assert describe(recordings([6, 6, 6, 6])).remarks == ()
    assert describe(recordings([6, 6, 6, 6])).length_alone == pytest.approx(0.5)


def test_equal_means_can_still_tell_the_class():
    """Lengths 4 and 8 against 6 and 6: the same mean, and no clip like another."""
    (alone,) = describe(recordings([4, 6, 8, 6])).remarks
    assert "100%" in alone


def test_one_subject_has_nobody_to_be_compared_with():
    assert describe(recordings([5, 9], subjects=1)).length_alone is None


@pytest.mark.parametrize("step", [0.25, 0.1, 30.0])
def test_windows_of_any_step(step):
    found = describe(recordings([3, 4], step=step))
    assert found.step == pytest.approx(step)
    assert found.classes[1].duration.mean == pytest.approx(4 * step)


def test_trials_of_one_window_have_no_known_length():
    found = describe(recordings([1, 1]))
    assert found.step is None
    assert found.classes[0].duration is None
    assert found.durations == ((), ())


def test_order_of_the_windows_does_not_matter(data):
    order = np.random.default_rng(3).permutation(len(data))
    shuffled, found = describe(data.take(order)), describe(data)
    assert shuffled.classes == found.classes
    assert (shuffled.step, shuffled.length_alone) == (found.step, found.length_alone)


def test_a_class_that_is_not_there_is_counted_as_none():
    found = describe(recordings([3, 3], labels=(1,)))
    assert (found.classes[0].windows, found.classes[0].trials) == (0, 0)
    assert found.classes[0].duration is None


# -------------------------------------------------------------------------- figure


def many(subjects):
    options = {"classes": 7, "sessions": 1, "trials": 14, "seed": 1}
    return describe(de.Simulated(subjects=subjects, **options).load())


def drawn(description):
    """The figure, laid out."""
    figure = draw(description)
    figure.draw_without_rendering()
    return figure


def test_bars_are_as_long_as_the_counts(data):
    description = describe(data)
    bars = drawn(description).axes[0].containers
    widths = [[bar.get_width() for bar in container] for container in bars]
    expected = np.array([person.classes for person in description.subjects]).T
    np.testing.assert_array_equal(widths, expected)
    left = [[bar.get_x() for bar in container] for container in bars]
    np.testing.assert_array_equal(left[2], expected[0] + expected[1])


def test_gaps_are_drawn_where_there_are_any(data):
    figure = drawn(describe(data))
    assert figure.axes[1].get_title() == "Missing values (%)"
    shares = figure.axes[1].collections[0].get_array()
    expected = [person.missing for person in describe(data).subjects]
    np.testing.assert_allclose(np.reshape(shares, (4, 2)), 100 * np.array(expected))
    assert len(drawn(describe(recordings([5, 9]))).axes) == 2


def test_every_length_is_a_dot():
    figure = drawn(describe(recordings([5, 9, 5, 7])))
    low, high = (dots.get_offsets() for dots in figure.axes[1].collections)
    np.testing.assert_array_equal(low, [[5, 0]])
    np.testing.assert_array_equal(high, [[7, 1], [9, 1]])


@pytest.mark.parametrize("subjects", [3, 32])
def test_nothing_overlaps(subjects):
    figure = drawn(many(subjects))
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            texts = [label for label in axis.get_ticklabels() if label.get_text()]
            boxes = [label.get_window_extent() for label in texts]
            assert not any(a.overlaps(b) for a, b in pairwise(boxes))
    whole = [axes.get_tightbbox() for axes in figure.axes]
    whole.append(figure.legends[0].get_window_extent())
    for number, box in enumerate(whole):
        assert not any(box.overlaps(other) for other in whole[:number])
        assert figure.bbox.padded(1).contains(box.x0, box.y0)
        assert figure.bbox.padded(1).contains(box.x1, box.y1)


def test_classes_have_different_colours():
    bars = drawn(many(3)).axes[0].containers
    assert len({bar[0].get_facecolor() for bar in bars}) == 7
    assert len(set(COLOURS)) == 8


@pytest.mark.parametrize("ending", ["svg", "pdf", "png"])
def test_the_same_data_gives_the_same_bytes(data, tmp_path, monkeypatch, ending):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    save(describe(data), tmp_path / f"a.{ending}")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    save(describe(data), tmp_path / f"b.{ending}")
    first = (tmp_path / f"a.{ending}").read_bytes()
    assert first == (tmp_path / f"b.{ending}").read_bytes()
    start = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}[ending]
    assert first.startswith(start)


def test_files_that_cannot_be_drawn_are_refused(data, tmp_path):
    with pytest.raises(ConfigurationError, match=r"figure\.jpg.*\.svg, \.pdf, \.png"):
        save(describe(data), tmp_path / "figure.jpg")
    (tmp_path / "figure.svg").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"figure\.svg.*not overwritten"):
        save(describe(data), tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").read_text() == "mine"
