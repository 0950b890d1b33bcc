"""What was made in Python is made again of its run's configuration, or refused."""

import tomllib

import pandas as pd
import pytest
import tomli_w

import domainemo as de
from domainemo.adapters.marginal import Marginal
from domainemo.choices import flatten
from domainemo.core import Adapter
from domainemo.errors import ConfigurationError
from domainemo.parts import describe_object
from domainemo.registry import entries, find
from domainemo.runs.made_again import made_again

KINDS = ("adapter", "protocol", "validator", "sampling", "normalisation", "control")
EVERY = [(kind, each.name) for kind in KINDS for each in entries(kind)]


def stored(made):
    """What a file holds of an object once it was read again."""
    return flatten(tomllib.loads(tomli_w.dumps(flatten(describe_object(made)))))


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_registered_part_is_made_again(kind, name):
    described = stored(find(kind, name)())
    assert "class" in described
    again = find(kind, name)(**made_again(kind, name, described))
    assert stored(again) == described


def test_a_run_with_objects_predicts_as_one_by_names(tmp_path):
    data = de.Simulated(subjects=3, sessions=1, trials=6, windows=(2, 3)).load()
    common = {
        "backbone": "concatenation-mlp",
        "training": de.Training(epochs=1),
        "baselines": False,
    }
    network = {
        "backbone.hidden": (4,),
        "backbone.width": 4,
        "backbone.fusion_width": 4,
    }
    options = {"sampling.length": 2, "adapter.weight": 0.3}
    de.run(
        data,
        adapter=Marginal(weight=0.3),
        sampling=de.Sequences(length=2),
        options=network,
        output=tmp_path / "objects",
        **common,
    )
    de.run(
        data,
        adapter="marginal",
        sampling="sequences",
        options=network | options,
        output=tmp_path / "names",
        **common,
    )
    first, second = (
        de.predict(tmp_path / each, data, fold="subject 1")
        for each in ("objects", "names")
    )
    pd.testing.assert_frame_equal(first, second)


class Forgets(Adapter):
    """Does not keep an option under its name."""

    def __init__(self, *, strength=1.0):
        super().__init__()
        self.doubled = 2 * strength

    def forward(self, source, target):
        return {}


def test_an_object_that_its_options_do_not_tell_is_refused(monkeypatch):
    for place in ("parts", "runs.made_again"):
        monkeypatch.setattr(f"domainemo.{place}.find", lambda kind, name: Forgets)
    described = stored(Forgets(strength=3.0))
    with pytest.raises(ConfigurationError, match=r"not tell whole \(doubled\)"):
        made_again("adapter", "marginal", described)
