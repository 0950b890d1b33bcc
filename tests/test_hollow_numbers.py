"""Hollow numbers: the page is what was run, and shows what it says it shows."""

from pathlib import Path

import pandas as pd
import pytest
from scripts import script

ROOT = Path(__file__).parents[1]
CELLS = ROOT / "docs" / "tables" / "hollow-numbers.csv"
CHANCE = 1 / 3


@pytest.fixture(scope="module")
def hollow():
    return script("hollow")


@pytest.fixture(scope="module")
def mean():
    """Return a function: the mean over seeds, by what a row says."""
    cells = pd.read_csv(CELLS, dtype={"recordings": str})
    keys = ["part", "recordings", "how", "method"]
    means = cells.groupby(keys)["accuracy"].mean()
    return lambda *key: means.loc[key]


def test_every_cell_is_there(hollow):
    cells = pd.read_csv(CELLS, dtype={"recordings": str})
    found = cells[hollow.COLUMNS[:4]].drop_duplicates().itertuples(index=False)
    assert {tuple(each) for each in found} == {*hollow.cells()}
    assert cells["seed"].nunique() == 5


def test_the_tables_of_the_page_are_what_was_run(hollow):
    page = (ROOT / "docs" / "hollow-numbers.md").read_text(encoding="utf-8")
    for name, table in hollow.tables(hollow._read(CELLS)).items():
        shown = page.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- end of {name} -->")[
            0
        ]
        assert shown == table


def test_lengths_inflate_whole_trials_alone_and_the_control_tells(mean):
    inflated = mean("lengths", "own", "trials", "source only")
    others = [
        mean("lengths", "own", "sequences", "source only"),
        mean("lengths", "drawn", "trials", "source only"),
        mean("lengths", "drawn", "sequences", "source only"),
    ]
    assert inflated > CHANCE + 0.1
    assert all(abs(each - CHANCE) < 0.06 for each in others)
    for how in ("trials", "sequences"):
        assert mean("lengths", "own", how, "clip duration only") > 0.7
        assert mean("lengths", "drawn", how, "clip duration only") < 0.45


@pytest.mark.parametrize("mark", ["1.0", "2.0"])
def test_clip_identity_predicts_what_unseen_clips_take_away(mean, mark):
    lost = {
        method: mean("clips", mark, "cross-subject", method)
        - mean("clips", mark, "leave-stimuli-out", method)
        for method in ("source only", "clip identity")
    }
    assert lost["source only"] > 0.3
    assert abs(lost["source only"] - lost["clip identity"]) < 0.15
