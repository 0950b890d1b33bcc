"""The page on studies where the best weights are known says what its table says."""

from pathlib import Path

import pandas as pd
import pytest
from scripts import script as importing

from domainemo.choices import SELECTED_BY

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "tuning-evidence.md"


@pytest.fixture(scope="module")
def script():
    return importing("tuning")


@pytest.fixture(scope="module")
def final(script):
    return pd.read_csv(script.KEPT)


def shown(name):
    page = PAGE.read_text(encoding="utf-8")
    return page.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- end of {name} -->")[0]


def test_the_page_shows_what_the_script_makes_of_the_table(script, final):
    for kind in script.RECORDINGS:
        assert shown(f"tuning-{kind}") == script.by_seed(final, kind)
    assert shown("tuning-others") == script.by_validator(final)


def test_the_default_finds_weights_as_good_as_the_known_and_does_no_harm(final):
    """What its page claims: 2 points of the known, and no worse than source only."""
    means = final[final["validator"] == SELECTED_BY].groupby(
        ["kind", "sampler", "method"]
    )["accuracy"]
    means = means.mean()
    for sampler in ("tpe", "random"):
        known = means["offsets", "none", "known best weights"]
        assert means["offsets", sampler, "tuned"] > known - 0.02
    assert means["shares", "tpe", "tuned"] >= means["shares", "tpe", "source only"]
    assert final["seed"].min() > 1  # on 0 and 1 the default was chosen
