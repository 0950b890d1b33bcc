"""Signs from inside the network: by hand, and without a label of the target."""

import importlib
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.covariance import ledoit_wolf
from sklearn.linear_model import LogisticRegression

import domainemo as de
from domainemo.core import FUSION, EmotionData, Outputs, Source
from domainemo.runs.experiment import experiment
from domainemo.runs.plan import plan

ROOT = Path(__file__).parents[1]
CLASSES = 3


@pytest.fixture(scope="module")
def scripts():
    """The scripts, which import what stands beside them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        names = ("inside", "harm_signs", "signs")
        return SimpleNamespace(
            **{name: importlib.import_module(name) for name in names}
        )


def logits(*answers):
    """Return logits of certain answers."""
    return torch.eye(CLASSES)[list(answers)]


def test_modalities_that_are_present_say_what_the_fusion_says(scripts):
    outputs = Outputs(
        {},
        {
            "eeg": logits(0, 1, 2, 1, 0),
            "eye": logits(0, 1, 1, 2, 1),
            FUSION: logits(0, 2, 2, 2, 2),
        },
        {"eye": torch.tensor([1, 1, 0, 1, 0]).bool()},
    )
    # Both; neither; the lost one is not asked; one; the only one there says another.
    found = scripts.inside.branches_agree(outputs).tolist()
    assert found == [True, False, True, False, False]
    lost = replace(outputs, present=dict.fromkeys(outputs.modalities, torch.zeros(5)))
    assert scripts.inside.branches_agree(lost).all()


def some_source():
    """Four subjects, of whom the last has one class only."""
    random = torch.Generator().manual_seed(0)
    domains = torch.arange(48) // 12
    labels = torch.where(domains < 3, torch.arange(48) % CLASSES, 1)
    means = torch.randn(CLASSES, 4, generator=random)
    points = means[labels] * 0.6 + torch.randn(48, 4, generator=random)
    points *= torch.tensor([1.0, 30.0, 0.1, 1.0])
    outputs = Outputs({FUSION: points}, {FUSION: torch.zeros(48, CLASSES)})
    return Source(outputs, labels, domains)


def some_target():
    points = torch.randn(10, 4, generator=torch.Generator().manual_seed(1)) * 1.5
    return points * torch.tensor([1.0, 30.0, 0.1, 1.0])


def test_pairs_of_source_subjects_classifiers_are_counted(scripts):
    source, target = some_source(), some_target()
    points = source.outputs.embeddings[FUSION].double().numpy()
    middle, scale = points.mean(0), points.std(0)
    said = []
    for subject in range(3):
        own = (source.domains == subject).numpy()
        head = LogisticRegression(class_weight="balanced", max_iter=1000)
        head.fit(((points - middle) / scale)[own], source.labels.numpy()[own])
        said.append(head.predict((target.double().numpy() - middle) / scale))
    expected = [
        np.mean([a[window] == b[window] for a, b in combinations(said, 2)])
        for window in range(len(target))
    ]
    assert 0 < np.mean(expected) < 1
    found = scripts.inside.heads_agree(source, target)
    np.testing.assert_allclose(found, expected)
    alone = replace(source, domains=torch.where(source.domains < 3, 0, 1))
    assert (scripts.inside.heads_agree(alone, target) == 1).all()


def test_what_is_farther_than_nearly_all_of_the_source_is_not_typical(scripts):
    source, target = some_source(), some_target()
    points = source.outputs.embeddings[FUSION].double().numpy()
    labels = source.labels.numpy()
    means = np.stack([points[labels == each].mean(0) for each in range(CLASSES)])
    about, _ = ledoit_wolf(points - means[labels], assume_centered=True)

    def distance(point):
        return min(d @ np.linalg.solve(about, d) for d in point - means)

    own = sorted(map(distance, points))
    # Of 48, three are at least as far as the third from the end: 5 % or more.
    expected = [distance(each) <= own[-3] for each in target.double().numpy()]
    assert 0 < np.mean(expected) < 1
    found = scripts.inside.typical(source, target)
    np.testing.assert_array_equal(found, expected)


def test_signs_are_shares_of_a_persons_windows(scripts):
    source, target = some_source(), some_target()
    people = np.array([7, 3] * 5)
    half = Outputs({}, {FUSION: logits(0, 1, 2, 0, 1, 2, 0, 1, 2, 0)})
    last = Outputs(
        {FUSION: target},
        {
            "eeg": logits(*[0] * 10),
            FUSION: logits(0, 1, 2, 1, 1, 0, 0, 1, 1, 0),
        },
    )
    found = scripts.inside.inside(people, source, half, last)
    assert list(found.index) == [3, 7] and list(found.columns) == [
        *scripts.signs.INSIDE
    ]
    each = {
        "heads": scripts.inside.heads_agree(source, target).numpy(),
        "typical": scripts.inside.typical(source, target).numpy(),
    }
    for person in (3, 7):
        for name, values in each.items():
            expected = values[people == person].mean()
            assert found.loc[person, name] == pytest.approx(expected)
    assert found["stays"].to_dict() == {3: 3 / 5, 7: 4 / 5}
    assert found["branches"].to_dict() == {3: 2 / 5, 7: 2 / 5}


CHOICES = {
    "backbone": "concatenation-mlp",
    "adapter": "none",
    "baselines": False,
    "options": {
        "backbone.hidden": (8,),
        "backbone.width": 4,
        "backbone.fusion_width": 8,
        "protocol.leave_out": 2,
    },
    "training": de.Training(epochs=3, batch_size=16),
    "seeds": [0],
    "device": "cpu",
}


@pytest.fixture(scope="module")
def planned():
    """Source only on one fold of four people, of whom two are left out."""
    data = de.Simulated(subjects=4, sessions=1, trials=4, windows=(3, 4)).load()

    def first(given):
        whole = plan(given, experiment(**CHOICES))
        return replace(whole, folds=whole.folds[:1])

    return data, first


def test_no_label_of_the_target_gets_into_a_sign(scripts, planned):
    """Noise in its place: the same signs and predictions."""
    data, first = planned
    signs, predicted = scripts.inside.once(first(data))
    own = data.inputs.windows["subject"].isin(signs.index).to_numpy()
    assert own.sum() == len(predicted) and 0 < own.mean() < 1
    trials = data.inputs.windows.groupby(["subject", "session", "trial"]).ngroup()
    noise = (data.labels + 1 + trials.to_numpy() % 2) % len(data.classes)
    other = EmotionData(data.inputs, np.where(own, noise, data.labels), data.classes)
    again, same = scripts.inside.once(first(other))
    pd.testing.assert_frame_equal(signs, again)
    pd.testing.assert_frame_equal(predicted, same)
    assert not any("label" in name for name in predicted.columns)
    # Labels of the source do: the noise is one that could have been seen.
    third = EmotionData(data.inputs, np.where(own, data.labels, noise), data.classes)
    assert not scripts.inside.once(first(third))[1].equals(predicted)


def test_recording_changes_nothing_that_is_predicted(scripts, planned):
    data, first = planned
    _, predicted = scripts.inside.once(first(data))
    fold = first(data).folds[0].name
    results = de.run(data, validator="last", folds=[fold], **CHOICES)
    kept = results.predictions[predicted.columns].sample(frac=1, random_state=0)
    found = scripts.inside.compared(predicted, kept)
    assert (found == 0).all(axis=None)
    first_class = next(name for name in kept.columns if name.startswith("p_"))
    kept[first_class] += np.where(kept["subject"] == kept["subject"].min(), 2.0, 0.0)
    found = scripts.inside.compared(predicted, kept)
    one, two = (found.loc[each] for each in sorted(found.index))
    answers = predicted[predicted["subject"] == one.name].filter(like="p_")
    assert one["unlike"] == pytest.approx((answers.to_numpy().argmax(1) != 0).mean())
    assert one["apart"] == pytest.approx(2) and (two == 0).all()
    with pytest.raises(SystemExit, match="of other windows"):
        scripts.inside.compared(predicted, kept.iloc[1:])


def test_what_no_sensor_recorded_has_no_say(scripts, planned):
    """A window of a person that every sensor lost, wherever it stands."""
    data, first = planned
    fold = first(data).folds[0]
    lost = fold.target[[0, len(fold.target) // 2]]
    signals = {name: each.copy() for name, each in data.inputs.signals.items()}
    for each in signals.values():
        each[lost] = np.nan
    inputs = replace(data.inputs, signals=signals)
    signs, predicted = scripts.inside.once(first(replace(data, inputs=inputs)))
    assert len(predicted) == len(fold.target) and not signs.isna().any(axis=None)
    there = scripts.inside.recorded(inputs, predicted)
    assert len(there) - there.sum() == 2
    known = data.inputs.windows.iloc[lost][scripts.inside.WINDOW]
    kept = predicted.loc[~there.numpy(), scripts.inside.WINDOW]
    assert set(map(tuple, known.to_numpy())) == set(map(tuple, kept.to_numpy()))


def test_who_is_harmed_is_told_by_pairs(scripts):
    """Against a loop; a sign of everybody is asked for."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame(
        product(["x", "y"], ["n"], scripts.harm_signs.TEN[:3], range(6)),
        columns=["dataset", "backbone", "adapter", "person"],
    ).assign(gain=lambda table: random.normal(0, 0.07, len(table)))
    shown = rows[["dataset", "backbone", "person"]].drop_duplicates()
    names = list(scripts.signs.INSIDE)
    shown[names] = random.integers(4, size=(len(shown), len(names))) / 4
    found = scripts.harm_signs.telling_inside(rows, shown.sample(frac=1))
    assert set(found["view"]) == {"same adapter"}
    few = found[found["group"] == "ten adapters"].set_index("sign")
    both = rows.merge(shown)
    for sign in names:
        areas, helped = [], []
        for _, there in both.groupby("dataset"):
            cases = there.to_dict("records")
            two = [
                (a, b) for a, b in product(cases, cases) if a["adapter"] == b["adapter"]
            ]
            for found_there, way in ((areas, 1), (helped, -1)):
                won = [
                    (a[sign] < b[sign]) + 0.5 * (a[sign] == b[sign])
                    for a, b in two
                    if way * a["gain"] < -0.05 <= way * b["gain"]
                ]
                found_there.append(np.mean(won))
        row = few.loc[sign]
        assert row[["x", "y"]].to_list() == pytest.approx(areas)
        assert row["auroc"] == pytest.approx(np.mean(areas))
        assert row["low"] <= row["auroc"] <= row["high"]
        assert row["low, all signs"] <= row["low"]
        assert row["high, all signs"] >= row["high"]
        assert row["helped"] == pytest.approx(np.mean(helped))
    with pytest.raises(SystemExit, match="for 2 people, such as x, n, 0"):
        scripts.harm_signs.telling_inside(rows, shown.iloc[2:])
