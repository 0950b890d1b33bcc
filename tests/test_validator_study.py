"""The study of validators: its sums by hand, and its page against its tables."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scripts import script

from domainemo.choices import SELECTED_BY
from domainemo.registry import entries, find

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "tables" / "validators"
PAGE = ROOT / "docs" / "validator-study.md"


@pytest.fixture(scope="module")
def study():
    return script("validators")


@pytest.fixture
def few(study, monkeypatch):
    """The study with three validators alone."""
    known = {name: study.JUDGES[name] for name in ("last", "entropy", "bnm")}
    monkeypatch.setattr(study, "JUDGES", known)
    return study


def cell(truth, **scores):
    """What is known of a configuration: an epoch for each accuracy."""
    known = {"last": [[each] for each in range(len(truth))]}
    known |= {name: [[each] for each in of] for name, of in scores.items()}
    return {"truth": truth, "evidence": known}


@pytest.fixture(scope="module")
def cells(study):
    """Three configurations, the first of which is source only."""
    names = [each.name for each in study.CONFIGURATIONS[:3]]
    return dict(
        zip(
            names,
            (
                cell([0.5, 0.6], entropy=[0.9, 0.1], bnm=[0.2, 0.1]),
                cell([0.7, 0.4], entropy=[0.3, 0.8], bnm=[0.3, 0.5]),
                cell([0.6, 0.9], entropy=[0.1, 0.5], bnm=[0.4, 0.9]),
            ),
            strict=True,
        )
    )


def test_what_a_choice_of_a_configuration_is_worth(few, cells):
    """All by the last epoch: the truths are .6, .4 and .9."""
    found = {row["validator"]: row for row in few.chosen_of(cells)}
    assert "last" not in found
    for name, accuracy, regret, worse, rank in (
        ("bnm", 0.9, 0.0, False, 0.5),  # ranks 1, 2, 3 beside 2, 1, 3
        ("entropy", 0.4, 0.5, True, -0.5),
        (few.ORACLE, 0.9, 0.0, False, 1.0),
        (few.PLAIN, 0.6, 0.3, False, math.nan),
    ):
        row = found[name]
        assert row["accuracy"] == pytest.approx(accuracy)
        assert row["regret"] == pytest.approx(regret)
        assert row["worse"] == row["harmed"] == worse
        assert row["rank"] == pytest.approx(rank, nan_ok=True)
    assert found[few.RANDOM]["accuracy"] == pytest.approx((0.6 + 0.4 + 0.9) / 3)
    assert found[few.RANDOM]["worse"] == pytest.approx(1 / 3)


def test_what_a_choice_of_the_epoch_is_worth(few, cells):
    """Against the last: two validators keep the first of the first configuration."""
    found = {row["validator"]: row["gain"] for row in few.epochs_of(cells)}
    assert found["last"] == 0
    assert found["bnm"] == pytest.approx((0.5 - 0.6 + 0 + 0) / 3)
    assert found["entropy"] == pytest.approx((0.5 - 0.6) / 3)
    assert found[few.ORACLE] == pytest.approx((0.7 - 0.4) / 3)


def test_data_sets_weigh_alike_and_people_are_averaged_over_seeds(study):
    few = [("a", seed, str(n), 0.1 * n) for n in range(5) for seed in (0, 1)]
    many = [("b", 0, str(n), 0.5 + 0.01 * n) for n in range(20)]
    columns = ["dataset", "seed", "fold", "regret"]
    table = pd.DataFrame([*few, *many], columns=columns).assign(
        validator="v", accuracy=0.5, rank=math.nan, worse=False, harmed=False
    )
    found = study.summary(table).set_index("dataset")
    mean = (0.2 + 0.595) / 2
    assert found["regret"].to_dict() == pytest.approx(
        {"a": 0.2, "b": 0.595, "all": mean}
    )
    assert found["worst"]["all"] == pytest.approx(0.69)
    assert found["targets"]["all"] == 30
    # As the error of the sum of two means that know nothing of each other.
    error = math.hypot(
        np.std(np.arange(5) / 10) / 5**0.5, np.std(many_of(many)) / 20**0.5
    )
    low, high = found.loc["all", ["low", "high"]]
    assert high - low == pytest.approx(2 * 1.96 * error / 2, rel=0.15)
    assert low < mean < high


def many_of(rows):
    return [row[-1] for row in rows]


@pytest.mark.parametrize(
    "name", ["configurations", "methods", "epochs", "milliseconds"]
)
def test_the_page_shows_the_tables_that_are_kept(study, name):
    page = PAGE.read_text(encoding="utf-8")
    shown = page.split(f"<!-- validators-{name} -->\n")[1]
    shown = shown.split(f"\n<!-- end of validators-{name} -->")[0]
    assert shown == study.printed(KEPT / f"{name}.csv")


def test_every_validator_is_in_the_tables_on_every_data_set(study):
    wanted = {each.name for each in entries("validator")}
    for name in ("configurations", "methods", "epochs"):
        table = pd.read_csv(KEPT / f"{name}.csv")
        assert set(table["dataset"]) == {"all", *study.RECORDINGS}
        for _, rows in table.groupby("dataset"):
            assert wanted - {"last"} <= set(rows["validator"])
        if name == "epochs":
            continue
        people = table[table["validator"] == SELECTED_BY].set_index("dataset")[
            "targets"
        ]
        assert people["eegmat"] == 3 * 36 and people["ssvep-exo"] == 3 * 12
        assert (table["regret"] >= 0).all()


def test_the_default_ranks_what_the_page_says(study):
    """And its row in the tables is that of its members, which stand there, too."""
    members = ", ".join(find("validator", SELECTED_BY)().validators)
    page = PAGE.read_text(encoding="utf-8")
    assert f"The default ranks {members}" in page.replace("`", "").replace("\n", " ")
    for name in ("configurations", "methods", "epochs"):
        table = pd.read_csv(KEPT / f"{name}.csv").set_index(["validator", "dataset"])
        default, spelled = table.loc[SELECTED_BY], table.loc[members]
        pd.testing.assert_frame_equal(default, spelled)
