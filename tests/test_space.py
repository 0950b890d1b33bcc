"""What a study searches: declared spaces, narrowed, extended, switched off."""

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from domainemo.core import Adapter
from domainemo.errors import ConfigurationError
from domainemo.registry import register
from domainemo.runs.experiment import experiment
from domainemo.studies.drawing import in_words
from domainemo.studies.space import range_of, search_space


def space(ranges=None, fixed=None, parts=("adapter",), **choices):
    made = experiment(**{"adapter": "marginal", **choices}, options=fixed or {})
    return search_space(made, parts, ranges or {}, fixed or {})


def drawn(searched, seed):
    sampler = optuna.samplers.RandomSampler(seed=seed)
    return searched.draw(optuna.create_study(sampler=sampler).ask())


class DrawsSometimes(Adapter):
    """Draws one option only for some values of another."""

    def __init__(self, *, kind: str = "plain", weight: float = 1.0) -> None:
        super().__init__()
        self.kind, self.weight = kind, weight

    def forward(self, source, target):
        return {}

    @classmethod
    def space(cls, trial):
        kind = trial.suggest_categorical("kind", ["plain", "weighted"])
        if kind == "plain":
            return {"kind": kind}
        return {"kind": kind, "weight": trial.suggest_float("weight", 2.0, 3.0)}


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def test_options_have_full_names_also_of_joined_adapters():
    assert set(space().distributions()) == {"adapter.weight", "adapter.distance"}
    joined = space(adapter="marginal+conditional").distributions()
    assert {"adapter.marginal.weight", "adapter.conditional.weight"} <= set(joined)
    wide = space(parts=("adapter", "backbone", "training"), backbone="uf-ama")
    assert {"backbone.layers", "training.learning_rate"} <= set(wide.distributions())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000))
def test_what_is_drawn_lies_where_the_configuration_says(seed):
    searched = space(
        {
            "adapter.weight": {"low": 0.5, "high": 0.6},
            "training.label_smoothing": {"choices": [0.0, 0.2]},
            "training.batch_size": {"low": 8, "high": 32, "step": 8},
        }
    )
    options = drawn(searched, seed)
    assert 0.5 <= options["adapter.weight"] <= 0.6
    assert options["adapter.distance"] in ("mmd", "coral")
    assert options["training.label_smoothing"] in (0.0, 0.2)
    assert options["training.batch_size"] in (8, 16, 24, 32)
    made = searched.experiment.with_options(options)
    assert made.training.batch_size == options["training.batch_size"]
    assert made.adapter.build().weight == options["adapter.weight"]


def test_an_option_that_is_set_is_not_searched_unless_named():
    searched = space(fixed={"adapter.weight": 0.25})
    assert set(searched.distributions()) == {"adapter.distance"}
    assert drawn(searched, 0)["adapter.weight"] == 0.25
    named = {"adapter.weight": {"low": 0.1, "high": 1.0}}
    searched = space(named, fixed={"adapter.weight": 0.25})
    assert searched.defaults()["adapter.weight"] == 0.25
    assert drawn(searched, 0)["adapter.weight"] != 0.25


def test_an_option_that_is_off_stays_as_it_is():
    searched = space({"adapter.distance": False})
    assert set(searched.distributions()) == {"adapter.weight"}
    assert {drawn(searched, seed)["adapter.distance"] for seed in range(5)} == {"mmd"}
    assert searched.searched(drawn(searched, 0)).keys() == {"adapter.weight"}


def test_the_study_begins_with_the_experiments_own_values():
    assert space().defaults() == {"adapter.weight": 1.0, "adapter.distance": "mmd"}
    outside = space({"adapter.weight": {"low": 2.0, "high": 3.0}})
    assert "adapter.weight" not in outside.defaults()


def test_a_space_may_depend_on_what_was_drawn():
    searched = space(adapter=register(DrawsSometimes))
    assert set(searched.distributions()) == {"adapter.kind"}
    found = {drawn(searched, seed)["adapter.kind"]: seed for seed in range(10)}
    assert set(found) == {"plain", "weighted"}
    assert 2 <= drawn(searched, found["weighted"])["adapter.weight"] <= 3
    assert "adapter.weight" not in drawn(searched, found["plain"])


@pytest.mark.parametrize(
    ("given", "made", "words"),
    [
        ({"low": 1, "high": 3}, IntDistribution(1, 3), "1 to 3"),
        ({"low": 0.5, "high": 3}, FloatDistribution(0.5, 3), "0.5 to 3"),
        (
            {"low": 0.01, "high": 1.0, "log": True},
            FloatDistribution(0.01, 1.0, log=True),
            "0.01 to 1, logarithmic",
        ),
        ({"choices": ["a", 2]}, CategoricalDistribution(["a", 2]), "a, 2"),
        (
            {"low": 0, "high": 8, "step": 4},
            IntDistribution(0, 8, step=4),
            "0 to 8 in steps of 4",
        ),
    ],
)
def test_a_range_is_read_and_told(given, made, words):
    assert range_of("x", given) == made
    assert in_words(made) == words


def test_a_space_is_written_as_it_is_read():
    searched = space(parts=("adapter", "training"))
    written = searched.as_written()
    again = space(written, parts=("adapter", "training"))
    assert again.distributions() == searched.distributions()


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"adapter.wieght": {"low": 1, "high": 2}}, "has no option 'wieght'"),
        ({"weight": {"low": 1, "high": 2}}, "adapter.weight"),
        ({"adapter.weight": {"low": 2, "high": 1}}, "adapter.weight is"),
        ({"adapter.weight": {"low": 0, "high": 1, "log": True}}, "adapter.weight is"),
        ({"adapter.weight": {"lo": 2, "high": 1}}, "expected {low"),
        ({"adapter.weight": 3}, "expected {low"),
        ({"adapter.weight": {"choices": []}}, "adapter.weight is"),
        ({"adapter.distance": {"choices": [1.5]}}, "distance"),
        ({"adapter.weight": False, "adapter.distance": False}, "nothing to search"),
    ],
)
def test_what_cannot_be_searched_is_explained(ranges, message):
    with pytest.raises(ConfigurationError, match=message):
        space(ranges)


def test_objects_and_unknown_parts_cannot_be_searched():
    with pytest.raises(ConfigurationError, match="given as an object"):
        space(adapter=DrawsSometimes())
    with pytest.raises(ConfigurationError, match=r"study\.search names 'head'"):
        space(parts=("head",))
