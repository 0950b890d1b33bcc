"""Shallow adaptation and strong plain models: against closed forms, loops and POT."""

import warnings

import numpy as np
import ot
import pandas as pd
import pytest
from scipy.linalg import sqrtm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.preprocessing import StandardScaler

import domainemo as de
from domainemo.controls.coral import recolouring
from domainemo.controls.jcpot import complete_domains, joint_proportions
from domainemo.controls.shared import Adapting, drawn, telling
from domainemo.controls.subspace_alignment import aligned_axes
from domainemo.controls.transfer_component_analysis import transfer_components
from domainemo.controls.transport import barycentric, cost_scale, costs
from domainemo.core import Fold
from domainemo.errors import ConfigurationError, DomainemoWarning
from domainemo.protocols.cross_subject import CrossSubject
from domainemo.registry import entries, find
from domainemo.runs.checks import canonical
from domainemo.runs.controls import control_probabilities
from domainemo.runs.folder import folder_name
from domainemo.testing import FirstFold, checks, with_random_target_labels

CONTROLS = {each.name: find("control", each.name) for each in entries("control")}
ADAPTING = sorted(name for name, cls in CONTROLS.items() if cls.adapts)
SHOWN = sorted(name for name, cls in CONTROLS.items() if cls.sees_signals)


def test_these_adapt():
    assert ADAPTING == [
        "jcpot",
        "linear-coral",
        "optimal-transport",
        "subspace-alignment",
        "transfer-component-analysis",
    ]
    assert {"gradient-boosting", "shrinkage-lda"} <= set(SHOWN) - set(ADAPTING)


class Looks(de.Control):
    """Give the share of the target's first value that is positive; it does not say."""

    words = "what it should not have seen"
    sees_signals = True

    def predict(self, windows, source, labels, target, test, values):
        rows = np.setdiff1d(np.arange(len(windows)), np.append(source, test))
        share = np.mean(values[rows, 0] > 0)
        return np.tile([share, 1 - share, 0], (len(test), 1))


def test_values_that_a_control_was_not_handed_are_checked():
    (unseen,) = (each for each in checks(Looks) if each.name == "unseen")
    with pytest.raises(AssertionError, match="values changed that it was not handed"):
        unseen()
    blind = type("Blind", (Looks,), {"adapts": True, "sees_signals": False})
    (options,) = (each for each in checks(blind) if each.name == "options")
    with pytest.raises(AssertionError, match="adapts = True without sees_signals"):
        options()


# ------------------------------------------------------------------------- mathematics


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_recolouring_against_its_formula(rng):
    source = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4)) + 3
    target = rng.normal(size=(40, 4)) @ rng.normal(size=(4, 4)) - 1
    before, matrix, after = recolouring(source, target, 0.5)
    one, other = (np.cov(x.T) + 0.5 * np.eye(4) for x in (source, target))
    np.testing.assert_allclose(matrix, np.linalg.inv(sqrtm(one)) @ sqrtm(other))
    np.testing.assert_allclose(before, source.mean(0))
    np.testing.assert_allclose(after, target.mean(0))


def test_recolouring_gives_the_targets_covariance(rng):
    source, target = rng.normal(size=(2, 60, 3)) @ rng.normal(size=(2, 3, 3))
    before, matrix, after = recolouring(source, target, 1e-12)
    moved = (source - before) @ matrix + after
    np.testing.assert_allclose(np.cov(moved.T), np.cov(target.T), rtol=1e-6)
    same = recolouring(source, source, 1.0)[1]
    np.testing.assert_allclose(same, np.eye(3), atol=1e-12)


def test_axes_against_singular_vectors(rng):
    source = rng.normal(size=(30, 6)) * [9, 7, 5, 1, 1, 1] + 2
    target = rng.normal(size=(20, 6)) * [1, 8, 6, 4, 1, 1]
    of_source, of_target = aligned_axes(source, target, 3)
    first, second = (
        np.linalg.svd(x - x.mean(0), full_matrices=False)[2][:3].T
        for x in (source, target)
    )
    # Signs of axes are free: those of the source do not matter, the target's carry on.
    sign = np.sign((of_target * second).sum(0))
    np.testing.assert_allclose(of_target, second * sign, atol=1e-10)
    expected = first @ first.T @ second * sign
    np.testing.assert_allclose(of_source, expected, atol=1e-10)


def test_there_are_no_more_axes_than_both_span(rng):
    source, target = rng.normal(size=(30, 6)), rng.normal(size=(4, 6))
    assert aligned_axes(source, target, 20)[0].shape == (6, 3)
    assert aligned_axes(source, np.ones((4, 6)), 20)[0].shape == (6, 1)


def test_transfer_components_against_the_papers_equation(rng):
    points, source, penalty = rng.normal(size=(25, 3)), 15, 0.3
    kernel = np.exp(-ot.dist(points, points) / 2)
    sizes = np.where(np.arange(25) < source, 1 / source, -1 / 10)
    measure = np.outer(sizes, sizes)
    centre = np.eye(25) - 1 / 25
    between = kernel @ measure @ kernel + penalty * np.eye(25)
    within = kernel @ centre @ kernel
    values, vectors = np.linalg.eig(np.linalg.solve(between, within))
    order = np.argsort(-values.real)[:4]
    found = transfer_components(kernel, source, 4, penalty)
    for column, expected in zip(found.T, vectors.real[:, order].T, strict=True):
        cosine = column @ expected / np.linalg.norm(column) / np.linalg.norm(expected)
        assert abs(cosine) == pytest.approx(1, abs=1e-8)
    np.testing.assert_allclose(found.T @ within @ found, 25 * np.eye(4), atol=1e-8)
    np.testing.assert_allclose((kernel @ found).std(0), 1)


def test_equal_windows_have_no_components():
    assert not transfer_components(np.ones((6, 6)), 3, 2, 1.0).any()


def test_the_map_of_a_plan_is_that_of_pot(rng):
    source, target = rng.normal(size=(30, 4)), rng.normal(size=(20, 4)) + 1
    theirs = ot.da.SinkhornTransport(reg_e=0.2, norm="median").fit(Xs=source, Xt=target)
    cost = costs(source, target)
    scale = 0.2 * cost_scale(cost)
    _, log = ot.sinkhorn([], [], cost / scale, 1.0, method="sinkhorn_log", log=True)
    moved = barycentric(source, target, log["log_v"], scale)
    np.testing.assert_allclose(moved, theirs.transform(Xs=source), atol=1e-5)
    plan = theirs.coupling_ / theirs.coupling_.sum(1, keepdims=True)
    np.testing.assert_allclose(moved, plan @ target, atol=1e-5)
    far = barycentric(source + 1e4, target, log["log_v"], scale)
    assert np.isfinite(far).all()


def some_domains(rng, shares=(0.5, 0.5, 0.5), target=0.8, count=40):
    """Return costs, labels and windows of domains, and a target of other shares."""
    centres = np.array([[0.0, 0], [4, 0]])

    def windows(share):
        labels = (np.arange(count) >= share * count).astype(int)
        return centres[labels] + rng.normal(size=(count, 2)), labels

    domains = [windows(share) for share in shares]
    theirs, truth = windows(target)
    return domains, theirs, truth


def test_joint_proportions_are_those_of_pot(rng):
    domains, theirs, _ = some_domains(rng, shares=(0.3, 0.6))
    labels = [each for _, each in domains]
    found, potentials = joint_proportions(
        [costs(x, theirs) / 2 for x, _ in domains], labels
    )
    expected, log = ot.bregman.jcpot_barycenter(
        [x for x, _ in domains], labels, theirs, 2, numItermax=1000, log=True
    )
    np.testing.assert_allclose(found, expected, atol=1e-3)
    for (x, _), plan, potential in zip(domains, log["gamma"], potentials, strict=True):
        moved = barycentric(x, theirs, potential, 2)
        expected = plan @ theirs / plan.sum(1, keepdims=True)
        np.testing.assert_allclose(moved, expected, atol=1e-2)


def test_shares_of_another_target_are_found_where_costs_are_huge(rng):
    domains, theirs, _ = some_domains(rng, target=0.8)
    found, potentials = joint_proportions(
        [1e5 * costs(x, theirs) for x, _ in domains], [y for _, y in domains]
    )
    np.testing.assert_allclose(found, [0.8, 0.2], atol=0.06)
    assert np.isfinite(potentials).all()


def test_a_solver_that_does_not_converge_is_told(rng, monkeypatch):
    monkeypatch.setattr("domainemo.controls.jcpot._STEPS", 1)
    domains, theirs, _ = some_domains(rng)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with telling("JCPOT", "So it is."):
            cost = [costs(x, theirs) for x, _ in domains]
            joint_proportions(cost, [labels for _, labels in domains])
            warnings.warn("something else", RuntimeWarning, stacklevel=1)
    assert [each.category for each in told] == [RuntimeWarning, DomainemoWarning]
    assert str(told[1].message).startswith("JCPOT had not converged")


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([[1, 1], [1, 1]], [0, 1]),
        ([[1, 1], [1, 0], [0, 1], [1, 1]], [0, 1, 1, 3]),
        ([[1, 1], [1, 0], [1, 1]], [0, 0, 2]),
        ([[1, 0], [0, 1]], [0, 0]),
    ],
)
def test_domains_are_joined_until_each_has_every_class(there, expected):
    domains, labels = np.nonzero(there)
    found = complete_domains(domains * 5, labels)
    assert found.tolist() == [expected[each] for each in domains]


@pytest.mark.parametrize("column", ["subject", "session"])
def test_domains_are_subjects_and_of_one_subject_its_sessions(column):
    class Tells(Adapting):
        """Write down the domains, and change nothing."""

        def adapt(self, source, target, tested, labels, domains):
            seen.append(domains)
            return source, tested

    seen = []
    table = pd.DataFrame({"subject": 7, "session": 1}, index=range(6))
    table[column] = [3, 3, 5, 5, 9, 9]
    values = np.random.default_rng(0).normal(size=(6, 2))
    rows, labels = np.arange(4), np.array([0, 1, 0, 1])
    Tells().predict(table, rows, labels, np.arange(4, 6), np.arange(4, 6), values)
    assert seen[0].tolist() == [0, 0, 1, 1]


def test_of_every_group_the_same_share_is_drawn(rng):
    groups = np.repeat([0, 1, 2], [3000, 900, 2])
    rows = drawn(groups, 1000)
    np.testing.assert_array_equal(np.bincount(groups[rows]), [769, 231, 1])
    np.testing.assert_array_equal(rows, drawn(groups, 1000))
    np.testing.assert_array_equal(drawn(groups[:5], 5), np.arange(5))


# ----------------------------------------------------------------------- planted shifts


def recordings(change, subjects=4, windows=60, features=4, shares=None):
    """Return people with two classes, the last of whom is changed; and their labels."""
    rng = np.random.default_rng(1)
    subject = np.repeat(np.arange(subjects), windows)
    place = np.tile(np.arange(windows), subjects)
    share = np.full(subjects, 0.5)
    share[-1] = 0.5 if shares is None else shares
    labels = (place >= share[subject] * windows).astype(np.int64)
    values = rng.normal(size=(len(labels), features)) * [4, 2, 1, 0.5][:features]
    values[:, :2] += np.array([2.0, 8.0]) * labels[:, None]
    theirs = subject == subjects - 1
    values[theirs] = change(values[theirs])
    table = pd.DataFrame(
        {"subject": subject, "session": 1, "trial": labels, "stimulus": labels}
    ).assign(start=place.astype(float))
    names = tuple(f"value {number}" for number in range(features))
    inputs = de.core.Inputs(
        {"eeg": values.astype(np.float32)[:, None]},
        table,
        {"eeg": de.core.Modality(("A",), names, "physiology")},
    )
    source, target = np.flatnonzero(~theirs), np.flatnonzero(theirs)
    return inputs, labels, Fold("f", source, target, target)


def accuracy(name, inputs, labels, fold, **options):
    """Return the balanced accuracy on the target."""
    found = control_probabilities(
        CONTROLS[name](**options),
        inputs,
        "none",
        fold,
        fold.source,
        labels[fold.source],
        fold.test[:, None],
        2,
    )
    hit = found.argmax(1) == labels[fold.test]
    return np.mean([hit[labels[fold.test] == each].mean() for each in (0, 1)])


def turned(values):
    """Turn the axis that tells the class towards another one, about the mean."""
    turn = np.eye(values.shape[1])
    turn[1:3, 1:3] = [[np.cos(1.4), np.sin(1.4)], [-np.sin(1.4), np.cos(1.4)]]
    mean = values.mean(0)
    return (values - mean) @ turn + mean


SHIFTS = {
    "offset": lambda values: values + np.array([3, -9, 2, 1]),
    "turn": turned,
    "scale": lambda values: 6 * values,
    "one feature": lambda values: values + np.array([60, 0, 0, 0]),
}
REPAIRS = [
    ("offset", "linear-coral"),
    ("offset", "subspace-alignment"),
    ("offset", "optimal-transport"),
    ("offset", "jcpot"),
    ("turn", "optimal-transport"),
    ("turn", "jcpot"),
    ("scale", "linear-coral"),
    ("scale", "subspace-alignment"),
    ("one feature", "transfer-component-analysis"),
]


@pytest.mark.parametrize(("shift", "name"), REPAIRS)
def test_a_planted_shift_is_repaired(shift, name):
    changed = recordings(SHIFTS[shift])
    options = {"kernel": "linear", "dimensions": 3} if "component" in name else {}
    before = accuracy("logistic-regression", *changed)
    assert accuracy(name, *changed, **options) > max(before + 0.15, 0.88)


def test_other_class_shares_mislead_transport_and_jcpot_less():
    shifted = recordings(lambda values: values, shares=0.9)
    found = {
        name: accuracy(name, *shifted)
        for name in ("logistic-regression", "optimal-transport", "jcpot")
    }
    assert found["logistic-regression"] > found["jcpot"] + 0.05
    assert found["jcpot"] > found["optimal-transport"] + 0.05


# ------------------------------------------------------------------------ plain models


def test_plain_models_are_those_of_scikit_learn():
    inputs, labels, fold = recordings(lambda values: values)
    features = inputs.signals["eeg"].reshape(len(labels), -1).astype(float)
    features[::9] = np.nan
    signals = {"eeg": features.astype(np.float32)[:, None]}
    inputs = de.core.Inputs(signals, inputs.windows, inputs.modalities)
    uneven = np.delete(fold.source, np.flatnonzero(labels[fold.source])[::3])
    fold = Fold("f", uneven, fold.target, fold.test)
    known, asked = features[fold.source], features[fold.test]
    classes = labels[fold.source]

    def found(name):
        members = fold.test[:, None]
        given = inputs, "none", fold, fold.source, classes, members, 2
        return control_probabilities(CONTROLS[name](), *given)

    trees = HistGradientBoostingClassifier(early_stopping=False).fit(known, classes)
    odds = trees.predict_proba(asked) / np.bincount(classes)
    expected = odds / odds.sum(1, keepdims=True)
    np.testing.assert_allclose(found("gradient-boosting"), expected, atol=1e-6)
    scaler = StandardScaler().fit(known)
    one, other = (np.nan_to_num(scaler.transform(x)) for x in (known, asked))
    model = LinearDiscriminantAnalysis("lsqr", shrinkage="auto", priors=[0.5, 0.5])
    expected = model.fit(one, classes).predict_proba(other)
    np.testing.assert_allclose(found("shrinkage-lda"), expected, atol=1e-4)


# ----------------------------------------------------------------------------- extremes


def broken(kind, features):
    """Return values of a kind that solvers trip over."""
    values = np.random.default_rng(3).normal(size=(40, 1, features)).astype(np.float32)
    if kind == "all equal":
        values[:] = 1
    elif kind == "target all equal":
        values[30:] = 1
    elif kind == "all missing of the target":
        values[30:] = np.nan
    elif kind == "a feature missing":
        values[..., 0] = np.nan
    elif kind == "huge":
        values[:30] *= 1e-5
        values[30:] *= 1e36
    return values


@pytest.mark.filterwarnings("ignore:.*had not converged")
@pytest.mark.parametrize("tested", [1, 10])
@pytest.mark.parametrize(
    "kind",
    [
        "all equal",
        "target all equal",
        "all missing of the target",
        "a feature missing",
        "huge",
    ],
)
@pytest.mark.parametrize("name", SHOWN)
def test_what_is_broken_is_predicted_in_finite_numbers(name, kind, tested):
    subject = np.repeat([0, 1, 2, 3], 10)
    labels = np.arange(40) % 3
    table = pd.DataFrame({"subject": subject, "session": 1, "trial": labels})
    table = table.assign(stimulus=labels, start=np.arange(40.0))
    names = tuple("abcde")
    inputs = de.core.Inputs(
        {"eeg": broken(kind, 5)},
        table,
        {"eeg": de.core.Modality(("A",), names, "physiology")},
    )
    rows = np.arange(30, 30 + tested)
    fold = Fold("f", np.arange(30), rows, rows)
    known = fold, fold.source, labels[:30], rows[:, None]
    found = control_probabilities(CONTROLS[name](), inputs, "none", *known, 3)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-4)


def test_a_fold_that_shows_no_target_is_refused():
    inputs, labels, fold = recordings(lambda values: values)
    inductive = Fold("f", fold.source, fold.target[:0], fold.test)
    with pytest.raises(ConfigurationError, match="the fold shows it none"):
        accuracy("linear-coral", inputs, labels, inductive)
    assert accuracy("logistic-regression", inputs, labels, inductive) > 0.9


def test_more_windows_than_a_plan_takes_are_all_moved(monkeypatch):
    """The source's windows that were not drawn train as well, and near the same."""
    inputs, labels, fold = recordings(SHIFTS["offset"])
    for name in ("optimal-transport", "jcpot", "transfer-component-analysis"):
        monkeypatch.undo()
        whole = accuracy(name, inputs, labels, fold)
        monkeypatch.setattr(f"{CONTROLS[name].__module__}.drawn", few)
        assert accuracy(name, inputs, labels, fold) > whole - 0.05


def few(groups):
    return drawn(groups, 30)


# --------------------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def data():
    made = de.Simulated(subjects=3, sessions=1, trials=6, windows=(3, 4)).load()
    return made.take(canonical(made.inputs))


CHOICES = {
    "backbone": "concatenation-mlp",
    "adapter": "none",
    "device": "cpu",
    "controls": SHOWN,
    "options": {"training.epochs": 1},
}


def test_results_say_which_saw_the_target_and_labels_of_it_reach_none(data, tmp_path):
    protocol = FirstFold(CrossSubject())
    noisy = with_random_target_labels(data, protocol)
    for name, each in (("true", data), ("noise", noisy)):
        results = de.run(each, protocol=protocol, output=tmp_path / name, **CHOICES)
    for name in SHOWN:
        method = name.replace("-", " ")
        rows = results.table[results.table["method"] == method]
        seen = "training and normalisation" if name in ADAPTING else "normalisation"
        expected = f"target's windows seen in {seen}, unlabelled"
        assert set(rows["target_seen"]) == {expected}
        assert set(rows["access"]) == {"transductive"}
        true, noise = (
            np.load(
                next((tmp_path / run).glob(f"folds/*/*/{folder_name(method)}/*.npz"))
            )
            for run in ("true", "noise")
        )
        assert all(np.array_equal(true[key], noise[key]) for key in true)


def test_normalised_by_the_source_the_others_have_not_seen_it(data):
    choices = {**CHOICES, "normalisation": "source", "folds": ["subject 1"]}
    results = de.run(data, **choices | {"controls": ["linear-coral", "shrinkage-lda"]})
    told = results.table.groupby("method")[["access", "target_seen"]].first()
    assert told.loc["linear coral"].tolist() == [
        "transductive",
        "target's windows seen in training, unlabelled",
    ]
    assert told.loc["shrinkage lda"].tolist() == ["inductive", "target not seen"]
    assert "windows of the target trained linear coral; domainemo" in results.how()


def test_newcomers_are_adapted_to(data):
    theirs = data.inputs.windows["subject"].to_numpy() == 3
    source, target = (
        data.take(np.flatnonzero(~theirs)),
        data.take(np.flatnonzero(theirs)),
    )
    new = de.adapt(source, target.inputs, **CHOICES)
    known = de.run(data, folds=["subject 3"], **CHOICES)
    for name in SHOWN:
        one, other = (
            table.loc[table["method"] == name.replace("-", " "), columns].to_numpy()
            for table in (new.predictions, known.predictions)
            for columns in [[each for each in table if each.startswith("p_")]]
        )
        np.testing.assert_allclose(one, other, atol=1e-6)
