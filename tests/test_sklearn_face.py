"""The scikit-learn face: its checks, its tools, skada beside it, and no label leaks."""

import re
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, LeaveOneGroupOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import domainemo as de
from domainemo.errors import DomainemoWarning
from domainemo.sklearn import AdaptedClassifier

pytestmark = pytest.mark.filterwarnings("ignore::domainemo.errors.DomainemoWarning")

SMALL = {
    "backbone.hidden": [16],
    "backbone.width": 16,
    "backbone.dropout": 0.0,
    "training.learning_rate": 0.02,
}
PLAIN = AdaptedClassifier(adapter="none", epochs=5, options=SMALL, device="cpu")
ADAPTED = clone(PLAIN).set_params(adapter="deep-coral", epochs=4, batch_size=8)

EXPECTED: dict[str, str] = {}
"""Checks that may fail, and why: none does."""


@parametrize_with_checks(
    [PLAIN], expected_failed_checks=lambda _: EXPECTED, xfail_strict=True
)
def test_it_keeps_scikit_learns_rules(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def toy():
    """Two people with labels and one without, each with another offset and scale."""
    random = np.random.default_rng(0)
    domain, y = np.repeat([1, 2, -3], 16), np.tile([0, 1], 24)
    X = random.normal(size=(48, 3))
    X[:, 0] += 3 * y
    X = X * np.abs(domain)[:, None] + 5 * domain[:, None]
    return SimpleNamespace(X=X, y=y, domain=domain, new=domain < 0)


def adapt_to(toy, masked=None, **changed):
    y = np.where(toy.new, -1, toy.y) if masked is None else masked
    return clone(ADAPTED).set_params(**changed).fit(toy.X, y, sample_domain=toy.domain)


@pytest.fixture(scope="module")
def adapted(toy):
    before = sklearn.get_config()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DomainemoWarning)
        model = adapt_to(toy)
    assert sklearn.get_config() == before and not before["enable_metadata_routing"]
    return model


# ------------------------------------------------------------------------ one engine


def of_toy(toy, rows, labels):
    rows = np.flatnonzero(rows)
    return de.from_arrays(
        {"signal": toy.X[rows]}, labels, subject=toy.domain[rows], trial=rows
    )


def test_it_is_what_adapt_trains(toy, adapted):
    """The same probabilities as the library's own of one target, to rounding."""
    source = of_toy(toy, ~toy.new, toy.y[~toy.new].astype(str))
    found = de.adapt(
        source,
        of_toy(toy, toy.new, None),
        backbone="concatenation-mlp",
        adapter="deep-coral",
        options={**SMALL, "protocol.together": True},
        epochs=4,
        batch_size=8,
        baselines=False,
        device="cpu",
    ).predictions
    expected = found[["p_0", "p_1"]].to_numpy()
    assert found["trial"].tolist() == np.flatnonzero(toy.new).tolist()
    np.testing.assert_allclose(adapted.predict_proba(toy.X[toy.new]), expected, 1e-5)


def test_source_only_is_what_train_trains():
    """Of recordings that know their people, sessions and trials, by name of class."""
    data = de.load("simulated", subjects=2, sessions=2, trials=3, windows=[3, 4])
    order = np.random.default_rng(0).permutation(len(data))
    data, names = data.take(order), np.array(data.classes)[data.labels[order]]
    small = {"sampling": "trials", "epochs": 2}
    model = clone(PLAIN).set_params(**small).fit(data.inputs, names)
    trained = de.train(data, backbone=PLAIN.backbone, options=SMALL, **small)
    table = trained.predict(data)
    place = ["subject", "session", "trial"]
    each = data.inputs.windows[place].merge(table, "left", place)
    expected = each[[f"p_{name}" for name in model.classes_]].to_numpy()
    np.testing.assert_allclose(model.predict_proba(data.inputs), expected, 1e-4)
    assert model.model_.classes == tuple(model.classes_)


# ----------------------------------------------------------------------- the firewall

MASKS = {
    "-1": lambda y, new: np.where(new, -1, y),
    "NaN": lambda y, new: np.where(new, np.nan, y),
    "None": lambda y, new: np.where(new, None, np.array(["a", "b"], object)[y]),
    "text": lambda y, new: np.where(new, "-1", np.array(["a", "b"])[y]),
}


@pytest.mark.parametrize("mask", MASKS)
def test_a_label_of_the_target_is_refused(toy, mask, monkeypatch):
    """One alone among masked ones, too; nothing is begun."""
    monkeypatch.setattr("domainemo.sklearn._adapted", None)
    everything = MASKS[mask](toy.y, np.zeros(48, bool))
    y = MASKS[mask](toy.y, toy.new)
    y[-1] = everything[-1]
    for labels, told in ((everything, "16 of 16"), (y, "1 of 16")):
        with pytest.raises(de.DataError, match=f"{told} windows of the target .* Mask"):
            adapt_to(toy, labels)
        with pytest.raises(ValueError, match="have a label in y"):
            adapt_to(toy, labels)


@pytest.mark.parametrize("mask", MASKS)
def test_bits_are_the_same_whatever_the_labels_would_be(toy, adapted, mask):
    noise = np.random.default_rng(1).permutation(toy.y)
    y = MASKS[mask](np.where(toy.new, noise, toy.y), toy.new)
    found = adapt_to(toy, y)
    for one, other in zip(
        found.model_.network.state_dict().values(),
        adapted.model_.network.state_dict().values(),
        strict=True,
    ):
        assert one.equal(other)
    expected = adapted.predict_proba(toy.X)
    assert np.ptp(expected[:, 0]) > 0.3  # it has learned something
    np.testing.assert_array_equal(found.predict_proba(toy.X), expected)


def test_training_is_handed_a_target_without_labels(toy, monkeypatch):
    handed = []

    def look(*given):
        handed.append(given)
        raise KeyboardInterrupt

    monkeypatch.setattr("domainemo.sklearn.plan_target", look)
    with pytest.raises(KeyboardInterrupt):
        adapt_to(toy)
    ((source, target, chosen),) = handed
    assert isinstance(target, de.Inputs) and len(target) == 16
    np.testing.assert_array_equal(source.labels, toy.y[~toy.new])
    assert chosen.validator.name == "last"


def test_what_is_masked_scores_nothing_and_trains_nothing(toy, adapted):
    y = np.where(toy.new, -1, toy.y)
    with pytest.raises(de.DataError, match="16 masked labels among 48"):
        adapted.score(toy.X, y)
    y[0] = -1
    with pytest.raises(de.DataError, match="1 of 32 windows of the source"):
        adapt_to(toy, y)


def test_an_adapter_needs_its_target(toy):
    with pytest.raises(de.ConfigurationError, match="negative sample_domain"):
        clone(ADAPTED).fit(toy.X, toy.y)
    with pytest.raises(de.ConfigurationError, match="negative sample_domain"):
        clone(ADAPTED).set_params(adapter="tent").fit(toy.X, toy.y)


def test_a_trial_is_of_one_side(toy):
    inputs = de.from_arrays({"signal": toy.X}, None, subject=1, trial=1)
    y = np.where(toy.new, -1, toy.y)
    with pytest.raises(de.DataError, match="expected whole trials"):
        clone(ADAPTED).fit(inputs, y, sample_domain=toy.domain)


def test_what_does_not_fit_is_told(toy):
    y = np.where(toy.new, -1, toy.y)
    for wrong in (toy.domain[:-1], toy.domain + 0.5, toy.domain.astype(str)):
        with pytest.raises(ValueError, match="whole numbers, one for each of 48"):
            clone(ADAPTED).fit(toy.X, y, sample_domain=wrong)
    with pytest.raises(ValueError, match="All windows are of the target"):
        clone(ADAPTED).fit(toy.X, y, sample_domain=-2)
    with pytest.raises(ValueError, match=r"fit\(data.inputs, data.labels\)"):
        clone(PLAIN).fit(of_toy(toy, toy.y >= 0, toy.y), toy.y)
    with pytest.raises(ValueError, match=r"3 columns, .* have 4 \(a: 2 x 2\)"):
        named = {"a": de.Modality(("u", "v"), ("w", "x"), "eye")}
        clone(PLAIN).set_params(modalities=named).fit(toy.X, toy.y)


# ----------------------------------------------------------------------------- scales


def test_a_window_of_somebody_known_is_scaled_as_in_fit(toy, adapted):
    """So that it depends on no other; by default, the target is meant."""
    theirs = toy.X[toy.new]
    whole = adapted.predict_proba(theirs)
    some = adapted.predict_proba(theirs[3:5])
    np.testing.assert_allclose(some, whole[3:5], 1e-5)
    for same in (-3, 3, np.full(16, -3)):
        found = adapted.predict_proba(theirs, sample_domain=same)
        np.testing.assert_array_equal(found, whole)
    everybody = adapted.predict_proba(toy.X, sample_domain=toy.domain)
    np.testing.assert_allclose(everybody[toy.new], whole, 1e-5)
    first = adapted.predict_proba(toy.X[:16], sample_domain=1)
    np.testing.assert_allclose(everybody[:16], first, 1e-5)
    assert np.abs(adapted.predict_proba(toy.X[:16]) - first).max() > 0.01


def test_somebody_new_is_scaled_by_their_own_windows(toy, adapted):
    """So that no offset and no unit of theirs counts."""
    theirs = toy.X[toy.new]
    found = adapted.predict_proba(2 * theirs - 3, sample_domain=9)
    np.testing.assert_allclose(found, adapted.predict_proba(theirs), 1e-4)
    both = np.concatenate([theirs, 2 * theirs - 3]), np.repeat([-3, 9], 16)
    found = adapted.predict_proba(both[0], sample_domain=both[1])
    np.testing.assert_allclose(found[:16], found[16:], 1e-4)
    with pytest.raises(
        de.DataError, match=r"A single window .* normalisation='source'"
    ):
        adapted.predict(theirs[:1], sample_domain=9)


def test_windows_without_a_domain_are_somebody_new_where_several_were_seen(toy):
    model = clone(PLAIN).set_params(epochs=1)
    X, y = toy.X[~toy.new], toy.y[~toy.new]
    model.fit(X, y, sample_domain=toy.domain[~toy.new])
    found = model.predict_proba(X[:16])
    np.testing.assert_array_equal(found, model.predict_proba(X[:16], sample_domain=7))
    model.set_params(normalisation="source").fit(X, y, sample_domain=1)
    assert model.predict(X[:1], sample_domain=7) == model.predict(X[:16])[0]


# ----------------------------------------------------------------- scikit-learn's tools


@pytest.fixture(scope="module")
def recordings():
    return de.load("simulated", subjects=3, sessions=1, trials=3, windows=[3, 4])


def test_columns_are_the_mapping_of_modalities(recordings):
    signals, named = recordings.inputs.signals, recordings.inputs.modalities
    model = clone(PLAIN).set_params(modalities=named, epochs=1)
    arrays = [array.reshape(len(array), -1) for array in signals.values()]
    found = [
        clone(model).fit(X, recordings.labels).predict_proba(X)
        for X in (np.hstack(arrays), dict(signals))
    ]
    np.testing.assert_array_equal(*found)
    assert found[0].shape == (len(recordings), 3)


def test_leave_one_group_out_is_the_loop(toy):
    """In a pipeline: trained on the others, scaled per person, scored on one."""
    y, groups = toy.y, np.abs(toy.domain)
    model = make_pipeline(StandardScaler(), clone(PLAIN).set_params(epochs=2))
    found = cross_val_score(
        model,
        toy.X,
        y,
        groups=groups,
        cv=LeaveOneGroupOut(),
        params={"adaptedclassifier__sample_domain": groups},
    )
    expected = []
    for out in (1, 2, 3):
        rest, own = groups != out, clone(model[-1])
        scaler = StandardScaler().fit(toy.X[rest])
        own.fit(scaler.transform(toy.X[rest]), y[rest], sample_domain=groups[rest])
        said = own.predict(scaler.transform(toy.X[~rest]), sample_domain=out)
        expected.append(accuracy_score(y[~rest], said))
    np.testing.assert_allclose(found, expected)


def test_a_grid_is_searched(toy):
    """What trains too little to learn anything is not chosen."""
    idle = {**SMALL, "training.learning_rate": 1e-9}
    grid = {"options": [idle, SMALL]}
    model = clone(PLAIN).set_params(batch_size=8)
    search = GridSearchCV(model, grid, cv=LeaveOneGroupOut())
    groups = np.abs(toy.domain)
    search.fit(toy.X, toy.y, groups=groups, sample_domain=groups)
    assert search.best_params_ == {"options": SMALL}
    assert search.best_score_ > 0.85


def test_a_grid_may_be_of_numbers_of_numpy(toy):
    grid = {"epochs": np.arange(1, 3), "batch_size": 2 ** np.arange(3, 5)}
    grid["options"] = [{"backbone.width": np.int64(8)}]
    search = GridSearchCV(
        clone(PLAIN), grid, cv=LeaveOneGroupOut(), error_score="raise"
    )
    groups = np.abs(toy.domain)
    search.fit(toy.X, toy.y, groups=groups, sample_domain=groups)
    training = search.best_estimator_.model_.experiment.training
    assert (type(training.epochs), type(training.batch_size)) == (int, int)


# ------------------------------------------------------------------------ beside skada


@pytest.fixture
def skada(monkeypatch):
    """As it is without torchvision, which may be built for another torch."""
    with sklearn.config_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with monkeypatch.context() as importing:
            importing.setitem(sys.modules, "torchvision", None)
            module = pytest.importorskip("skada")
            pytest.importorskip("skada.datasets")
        sklearn.set_config(enable_metadata_routing=True)  # also if imported before
        yield module


def test_it_stands_in_skadas_pipelines_and_cross_validation(skada):
    """Which mask a target's labels: the same bits as `fit` with them masked."""
    from skada.datasets import make_shifted_datasets
    from skada.metrics import PredictionEntropyScorer
    from skada.model_selection import SourceTargetShuffleSplit

    X, y, domain = make_shifted_datasets(4, 4, shift="covariate_shift", random_state=0)
    new = domain < 0
    alone = clone(ADAPTED).fit(X, np.where(new, -1, y), sample_domain=domain)
    with pytest.raises(de.DataError, match="have a label in y"):
        clone(ADAPTED).fit(X, y, sample_domain=domain)
    joined = skada.make_da_pipeline(clone(ADAPTED))
    joined.fit(X, y.copy(), sample_domain=domain)
    found = joined.predict_proba(X[new], sample_domain=domain[new])
    np.testing.assert_array_equal(found, alone.predict_proba(X[new]))
    assert joined.score(X[new], y[new], sample_domain=domain[new]) == np.mean(
        alone.predict(X[new]) == y[new]
    )
    cv = SourceTargetShuffleSplit(n_splits=1, test_size=0.5, random_state=0)
    by_coral = skada.make_da_pipeline(skada.CORALAdapter(), LogisticRegression())
    for each in (by_coral, joined):
        scores = cross_val_score(
            each,
            X,
            y.copy(),
            params={"sample_domain": domain},
            cv=cv,
            scoring=PredictionEntropyScorer(),
            error_score="raise",
        )
        assert np.isfinite(scores).all()


def test_the_page_runs_as_it_stands(skada, capsys):
    page = Path(__file__).parents[1] / "docs" / "scikit-learn.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    space: dict = {}
    with sklearn.config_context(enable_metadata_routing=False):
        for number, block in enumerate(blocks):
            exec(compile(block, f"block {number}", "exec"), space)
    assert len(blocks) == 4 and "epochs" in capsys.readouterr().out
    assert set(space["predicted"]) <= {0, 1, 2}
