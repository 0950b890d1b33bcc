"""Epochs chosen by comparing them with each other."""

from __future__ import annotations

import json

import pandas as pd
import pytest

import domainemo as de
from domainemo.core import Validator
from domainemo.errors import ConfigurationError
from domainemo.registry import find
from domainemo.testing import FirstFold
from domainemo.validators.comparing import comparison
from domainemo.validators.rank_average import average_ranks


def run(output, validator, **options):
    data = de.Simulated(subjects=4, sessions=1, trials=6, windows=(3, 5)).load()
    de.run(
        data,
        protocol=FirstFold(find("protocol", "cross-subject")()),
        adapter="marginal",
        training=de.Training(epochs=6, batch_size=8, learning_rate=5e-3),
        options={"backbone.width": 8, "backbone.heads": 2} | options,
        validator=validator,
        baselines=False,
        device="cpu",
        output=output,
    )
    (path,) = output.rglob("record.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    return record, pd.read_csv(path.with_name("history.csv"))


def test_the_epoch_of_the_best_mean_rank_is_kept_with_its_weights(tmp_path):
    parts = {"validator.validators": ("source", "entropy")}
    record, history = run(tmp_path, "rank-average", **parts)
    # The score is the mean of both, of which one is told by itself.
    source = history["held_out"].to_numpy()
    pairs = list(zip(source, 2 * history["score"].to_numpy() - source, strict=True))
    ranks = average_ranks(pairs)
    best = max(range(6), key=lambda place: (ranks[place], place))
    assert record["epoch"] == best + 1
    assert record["validator"]["evidence"] == pytest.approx(list(pairs[best]))
    assert record["score"] == pytest.approx(history["score"][best])
    # Of the weights that were kept, when training was over.
    kept = record["scores"]["rank-average"]["evidence"]
    assert kept == record["validator"]["evidence"]
    assert record["scores"]["source"]["score"] == pytest.approx(source[best])


def test_every_score_that_could_be_told_stands_in_the_record_with_its_time(tmp_path):
    record, _ = run(tmp_path, "mixval")
    assert record["validator"]["seconds"] > 0
    told = {name: each["score"] for name, each in record["scores"].items()}
    names = {each.name for each in de.registry.entries("validator")} - {"last"}
    assert set(told) == names
    # Nobody was held out, so that some cannot tell.
    assert {name for name, score in told.items() if score is None} == {
        name for name in names if find("validator", name)().held_out
    }
    assert told["mixval"] == pytest.approx(record["score"])
    assert all(each["seconds"] >= 0 for each in record["scores"].values())


class Odd(Validator):
    """Compares, and forgets one."""

    def __call__(self, training, held_out, target):
        return 1.0

    def compare(self, found):
        return [1.0] * (len(found) - 1)


def test_a_validator_that_forgets_one_is_named():
    with pytest.raises(ConfigurationError, match=r"compare.*3 numbers, one of each"):
        comparison(Odd(), [[1.0], None, [2.0], [3.0]])


def test_equal_accuracies_share_a_rank_in_whatever_order_they_were_added_up():
    one, other = ((a + b + c) / 3 for a, b, c in ((0.1, 0.2, 0.3), (0.3, 0.2, 0.1)))
    assert one != other
    assert average_ranks([[one, 1e9], [other, 1e9]]) == [0.75, 0.75]
