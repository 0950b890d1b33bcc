"""Adapting to people without labels: the same bits as where they have some."""

import json
import warnings
from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wasserstein_distance

import domainemo as de
from domainemo.errors import DomainemoWarning
from domainemo.runs.distance import distance_to_others
from domainemo.runs.experiment import experiment
from domainemo.runs.newcomers import plan_newcomers
from domainemo.runs.unscored import trial_predictions

CHOICES = {
    "backbone": "uf-ama",
    "adapter": "uf-ama",
    "options": {"training.epochs": 2, "backbone.width": 8},
    "device": "cpu",
}
PLACE = ["method", "seed", "session", "trial", "start"]


@pytest.fixture(scope="module")
def data():
    return de.load("simulated", subjects=4, sessions=2, trials=3, windows=[3, 4])


def divided(data, subject):
    """Return everybody else with their labels, and one person without."""
    theirs = data.inputs.windows["subject"].to_numpy() == subject
    alone = data.take(np.flatnonzero(theirs))
    return data.take(np.flatnonzero(~theirs)), alone.inputs


def adapted(source, target, **choices):
    return de.adapt(source, target, **{**CHOICES, **choices})


@pytest.fixture(scope="module")
def found(data):
    return adapted(*divided(data, 3))


def probabilities(table, on=PLACE):
    columns = [name for name in table if name.startswith("p_")]
    return table.sort_values(on)[columns].to_numpy()


# --------------------------------------------------------------------- the same bits


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"validator": "source", "seeds": [0, 5]},
        {
            "backbone": "r2gfanet",
            "options": {**CHOICES["options"], "backbone.heads": 2},
        },
        {"normalisation": "source", "adapter": "marginal+pairwise-similarity"},
        {"modalities": ["eye"], "exclude": [2], "adapter": "none"},
    ],
    ids=lambda each: ",".join(each) or "usual",
)
def test_each_person_as_a_newcomer_is_predicted_as_in_its_own_fold(data, choices):
    subjects = [1, 4] if choices else [1, 3, 4]
    choices = {"baselines": not choices, **choices}
    folds = [f"subject {each}" for each in subjects]
    known = de.run(data, **{**CHOICES, **choices, "folds": folds})
    for subject in subjects:
        new = adapted(*divided(data, subject), **choices)
        same = known.predictions[known.predictions["subject"] == subject]
        assert set(new.predictions["fold"]) == {f"subject {subject}"}
        assert new.methods == known.methods
        np.testing.assert_array_equal(
            probabilities(new.predictions), probabilities(same)
        )


def test_everybody_at_once_is_each_alone(data, found):
    both = np.isin(data.inputs.windows["subject"], [3, 4])
    source, target = (data.take(np.flatnonzero(each)) for each in (~both, both))
    new = adapted(source, target.inputs)
    assert list(new.table["fold"].unique()) == ["subject 3", "subject 4"]
    alone = adapted(source, divided(target, 4)[1])
    one = new.predictions[new.predictions["subject"] == 4]
    np.testing.assert_array_equal(probabilities(one), probabilities(alone.predictions))
    short = {"training.epochs": 1, "backbone.width": 8, "protocol.together": True}
    together = adapted(source, target.inputs, options=short, baselines=False)
    assert set(together.table["fold"]) == {"newcomers"}
    assert set(together.table["subject"]) == {3, 4}


def test_order_spelling_and_other_names_do_not_matter(data, found):
    source, target = divided(data, 3)
    generator = np.random.default_rng(0)
    shuffled = target.take(generator.permutation(len(target)))
    eeg, eye = shuffled.modalities["eeg"], shuffled.modalities["eye"]
    turned = generator.permutation(len(eeg.channels))
    channels = tuple(eeg.channels[place].lower() for place in turned)
    other = replace(
        shuffled,
        signals={
            "EYE": shuffled.signals["eye"],
            "eeg": shuffled.signals["eeg"][:, turned],
        },
        modalities={"EYE": eye, "eeg": replace(eeg, channels=channels)},
        windows=shuffled.windows.assign(
            session="day " + shuffled.windows["session"].astype(str),
            trial=100 + shuffled.windows["trial"],
            stimulus="film",
        ),
        name="other",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DomainemoWarning)
        again = adapted(source, other)
    np.testing.assert_array_equal(
        probabilities(again.predictions), probabilities(found.predictions)
    )
    assert set(again.predictions["session"]) == {"day 1", "day 2"}
    renamed = replace(target, windows=target.windows.assign(subject="Ada"))
    named = adapted(source, renamed).predictions
    assert set(named["subject"]) == {"Ada"}
    np.testing.assert_array_equal(
        probabilities(named), probabilities(found.predictions)
    )
    assert set(again.predictions["trial"]) == set(found.predictions["trial"] + 100)


def test_a_name_that_the_source_has_too_is_another_person(data, found):
    """As where both people are number 1: they are told apart, and both keep it."""
    source, target = divided(data, 3)
    called = replace(target, windows=target.windows.assign(subject=1))
    new = adapted(source, called)
    assert set(new.predictions["subject"]) == {1}
    assert set(new.table["fold"]) == {"subject 1"}
    people = new.distances[["subject", "newcomer"]].drop_duplicates()
    assert people.values.tolist() == [[1, False], [2, False], [4, False], [1, True]]
    # The fold's name gives the draws, so that another name is another training; what
    # nothing is drawn for is the same.
    blind = ["logistic regression", "clip duration only", "majority class"]
    one, two = (
        probabilities(table[table["method"].isin(blind)])
        for table in (new.predictions, found.predictions)
    )
    np.testing.assert_array_equal(one, two)


def test_labels_of_a_newcomer_are_left_behind(data, found):
    source, target = divided(data, 3)
    for labels in (np.zeros(len(target), int), np.arange(len(target)) % 3):
        labelled = de.EmotionData(target, labels, data.classes)
        with pytest.warns(DomainemoWarning, match="left behind"):
            new = adapted(source, labelled)
        assert "label" not in new.predictions
        np.testing.assert_array_equal(
            probabilities(new.predictions), probabilities(found.predictions)
        )


# ------------------------------------------------------------------- what can be said


def test_tables_hold_no_figure_that_needs_a_label(found):
    assert not found.scored and "label" not in found.predictions
    metrics = {"accuracy", "balanced_accuracy", "macro_f1", "kappa"}
    assert not metrics & set(found.table)
    assert found.comparison() is None
    assert "No label of the target exists" in found.how()
    assert found.summary().equals(found.people())


def test_shares_confidence_and_change_by_a_slow_loop(found):
    classes = [name[2:] for name in found.predictions if name.startswith("p_")]
    plain = found.predictions.query("method == 'source only'")
    for row in found.table.query("level == 'window'").to_dict("records"):
        own = found.predictions[found.predictions["method"] == row["method"]]
        counts, sure, changed = dict.fromkeys(classes, 0), 0.0, 0
        for (_, one), (_, other) in zip(own.iterrows(), plain.iterrows(), strict=True):
            best = max(classes, key=lambda name: one[f"p_{name}"])
            assert one["predicted"] == best
            counts[best] += 1
            sure += one[f"p_{best}"]
            changed += one["predicted"] != other["predicted"]
        for name, number in counts.items():
            assert row[f"share_{name}"] == pytest.approx(number / len(own))
        assert row["confidence"] == pytest.approx(sure / len(own))
        assert row["changed"] == pytest.approx(changed / len(own))


def test_a_trial_is_the_mean_of_its_windows(found):
    trials = trial_predictions(found.predictions)
    for row in trials.to_dict("records"):
        own = found.predictions
        for key in ("method", "fold", "seed", "subject", "session", "trial"):
            own = own[own[key] == row[key]]
        assert row["samples"] == len(own)
        for name in own.filter(like="p_"):
            assert row[name] == pytest.approx(own[name].mean())


def test_validators_score_the_finished_networks(data):
    """As where they choose the epoch: with one epoch, that epoch's score is theirs."""
    source, target = divided(data, 3)
    one = {"options": {**CHOICES["options"], "training.epochs": 1}}
    for name in ("source-and-information", "information-maximisation"):
        new = adapted(source, target, validator=name, **one)
        table = new.validators()
        assert table.loc[name, "chooses"] in new.methods
        known = {}
        for method in ("uf-ama", "source only"):
            folds = new.table.query("method == @method and level == 'window'")
            known[method] = folds[f"score_{name}"].item()
            assert table.loc[name, method] == known[method]
        assert table.loc[name, "chooses"] == max(known, key=known.get)
        held_out = {"source", "source-and-information"} <= set(table.index)
        assert held_out == (name == "source-and-information")
        assert "last" not in table.index


def test_scores_are_those_that_chose_the_epoch(data, tmp_path):
    source, target = divided(data, 3)
    adapted(
        source,
        target,
        validator="information-maximisation",
        output=tmp_path,
        baselines=False,
    )
    (path,) = tmp_path.glob("folds/*/*/*/record.json")
    facts = json.loads(path.read_text())
    assert facts["scores"]["information-maximisation"]["score"] == pytest.approx(
        facts["score"]
    )


# ------------------------------------------------------------------------- distances


def test_distances_are_wasserstein_distances_to_the_others():
    """Of one feature, in a person's own deviations; against SciPy on equal people."""
    generator = np.random.default_rng(0)
    same = generator.normal(size=(400, 1))
    people = [same, same, same + 1.5, 2 * same]
    found = distance_to_others(people, known=2)
    assert found[:2] == pytest.approx(0)
    assert found[2] == pytest.approx(1.5 / same.std())
    levels = np.linspace(0.05, 0.95, 19)
    cut = [np.quantile(each, levels) for each in (same, 2 * same)]
    assert found[3] == pytest.approx(wasserstein_distance(*cut) / same.std())


def test_distances_leave_a_known_person_out_of_its_own_centre():
    people = [np.full((9, 2), value, float) + np.arange(9)[:, None] for value in (0, 6)]
    spread = np.arange(9).std()
    np.testing.assert_allclose(distance_to_others(people, 2), 6 / spread)
    assert np.isnan(distance_to_others(people[:1], 1)).all()
    lost = [*people, np.full((9, 2), np.nan)]
    assert np.isnan(distance_to_others(lost, 2)[2])


def test_someone_far_is_told_to_be_far(data):
    source, target = divided(data, 3)
    far = {name: array + 20 for name, array in target.signals.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DomainemoWarning)
        new = adapted(source, replace(target, signals=far), adapter="none")
    table = new.distances.set_index(["modality", "newcomer"])["recorded"]
    for name in ("eeg", "eye"):
        assert table[name, True].item() > 2 * table[name, False].max()


# -------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("choices", "fragment"),
    [
        ({"protocol": "cross-subject"}, "expected 'newcomers'"),
        ({"validator": "oracle"}, "chooses by the target's labels"),
        ({"folds": ["subject 1"]}, "There is no fold 'subject 1'"),
    ],
)
def test_choices_that_need_a_label_are_refused(data, choices, fragment):
    with pytest.raises(de.ConfigurationError, match=fragment):
        adapted(*divided(data, 3), **choices)


def test_run_names_the_command_for_protocols_that_score_nobody(data):
    for protocol in ("newcomers", "everyone"):
        with pytest.raises(de.ConfigurationError, match="adapt --target"):
            de.run(data, protocol=protocol, **CHOICES)


def test_recordings_in_the_wrong_place_are_told(data):
    source, target = divided(data, 3)
    with pytest.raises(de.DataError, match="labelled recordings"):
        adapted(target, target)
    with pytest.raises(de.ConfigurationError, match="the newcomers"):
        adapted(source, "here")
    with pytest.raises(de.DataError, match="bit for bit"):
        adapted(data, target)  # is among them


def single(inputs, rows):
    return inputs.take(np.arange(rows))


def changed(inputs, **signals):
    return replace(inputs, signals={**inputs.signals, **signals})


HOSTILE = {
    "one window": lambda it: single(it, 1),
    "one trial": lambda it: it.take(
        np.flatnonzero((it.windows["trial"] == 1) & (it.windows["session"] == 1))
    ),
    "nothing of the eyes": lambda it: changed(
        it, eye=np.full_like(it.signals["eye"], np.nan)
    ),
    "no eyes": lambda it: replace(
        it,
        signals={"eeg": it.signals["eeg"]},
        modalities={"eeg": it.modalities["eeg"]},
    ),
    "constant": lambda it: changed(it, eeg=np.ones_like(it.signals["eeg"])),
    "all zero": lambda it: changed(
        it, **{name: np.zeros_like(array) for name, array in it.signals.items()}
    ),
    "all lost": lambda it: changed(
        it, **{name: np.full_like(a, np.nan) for name, a in it.signals.items()}
    ),
    "infinite": lambda it: changed(it, eeg=it.signals["eeg"] / np.float32(0)),
    "another montage": lambda it: replace(
        it,
        modalities={
            **it.modalities,
            "eeg": replace(
                it.modalities["eeg"],
                channels=tuple(f"Q{n}" for n in range(len(it.signals["eeg"][0]))),
            ),
        },
    ),
    "other bands": lambda it: replace(
        it,
        modalities={
            **it.modalities,
            "eeg": replace(
                it.modalities["eeg"],
                features=tuple(f"f{n}" for n in range(it.signals["eeg"].shape[2])),
            ),
        },
    ),
    "other windows": lambda it: replace(
        it, windows=it.windows.assign(start=it.windows["start"] * 2)
    ),
    "microvolts": lambda it: changed(it, eye=it.signals["eye"] * np.float32(1e6)),
    "nobody": lambda it: it.take(np.arange(0)),
}


@pytest.mark.filterwarnings("ignore::domainemo.errors.DomainemoWarning")
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize("how", HOSTILE)
def test_hostile_newcomers_end_in_a_result_or_a_sentence(data, how):
    source, target = divided(data, 3)
    try:
        new = adapted(
            source,
            HOSTILE[how](target),
            options={"training.epochs": 1, "backbone.width": 8},
        )
    except de.DomainemoError as error:
        assert str(error).count(" ") > 8 and "None" not in str(error)
        return
    columns = new.predictions.filter(like="p_")
    assert np.isfinite(columns.to_numpy()).all()
    np.testing.assert_allclose(columns.sum(axis=1), 1, atol=1e-5)


def test_what_a_newcomer_lacks_is_not_trained_on(data):
    source, target = divided(data, 3)
    alone = adapted(source, target, adapter="none", modalities=["eeg"])
    for how in ("no eyes", "nothing of the eyes"):
        with pytest.warns(DomainemoWarning, match="eye"):
            new = adapted(source, HOSTILE[how](target), adapter="none")
        assert set(new.table["modalities"]) == {"eeg"}
        np.testing.assert_array_equal(
            probabilities(new.predictions), probabilities(alone.predictions)
        )


def test_which_sensors_train_is_decided_for_all_newcomers_together(data):
    """As the page on new people says, which so names the remedy."""
    people = data.inputs.windows["subject"].to_numpy()
    source = data.take(np.flatnonzero(people < 3))
    target = data.inputs.take(np.flatnonzero(people > 2))
    lost = target.signals["eye"].copy()
    lost[target.windows["subject"] == 4] = np.nan
    target = changed(target, eye=lost)
    chosen = experiment(**{**CHOICES, "protocol": "newcomers"})
    for who, modalities in (([4], {"eeg"}), ([3], {"eeg", "eye"})):
        alone = target.take(np.flatnonzero(target.windows["subject"].isin(who)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DomainemoWarning)
            planned = plan_newcomers(source, alone, chosen)
        assert set(planned.inputs.modalities) == modalities
    together = plan_newcomers(source, target, chosen)
    assert set(together.inputs.modalities) == {"eeg", "eye"}


def test_inside_names_are_apart_and_in_order(data):
    """Whatever kinds of names meet: numbers, words, and words that look like ours."""
    source, target = divided(data, 3)
    chosen = experiment(**{**CHOICES, "protocol": "newcomers"})
    words = source.inputs.windows.assign(
        subject="new 1-" + source.inputs.windows["subject"].astype(str)
    )
    named = replace(source, inputs=replace(source.inputs, windows=words))
    spelt = target.windows["trial"].map("t{:02}".format)
    texts = replace(target, windows=target.windows.assign(trial=spelt))
    for left, right in product((source, named), (target, texts)):
        planned = plan_newcomers(left, right, chosen)
        inside = planned.inputs.windows
        new = np.arange(len(inside)) >= len(left)
        for column in ("subject", "session", "trial", "stimulus"):
            known, given = inside[column][~new], inside[column][new]
            assert not set(known) & set(given)
            shown = planned.windows[column][new]
            pairs = pd.DataFrame({"a": given, "b": shown}).drop_duplicates()
            assert pairs["a"].is_unique and pairs["b"].is_unique
            assert pairs.sort_values("a")["b"].is_monotonic_increasing
