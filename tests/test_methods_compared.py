"""The page that compares all methods says what its table says."""

import csv
from collections import defaultdict
from pathlib import Path

import pytest
from scripts import script

from domainemo.benchmarks.findings import read_findings

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "tables" / "methods.csv"
PAGE = ROOT / "docs" / "methods-compared.md"


@pytest.fixture(scope="module")
def methods():
    return script("methods")


@pytest.fixture(scope="module")
def rows():
    with TABLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_adapter_and_plain_model_is_there(rows):
    """On each network and data set, with a number or the reason why there is none."""
    found = defaultdict(set)
    for row in rows:
        found[row["dataset"], row["backbone"]].add(row["method"])
        assert bool(row["balanced_accuracy"]) != bool(row["why"])
    datasets = {dataset for dataset, _ in found}
    assert datasets == {"eegmat", "esports", "ssvep-exo"}
    networks = {"concatenation-mlp", "r2gfanet", "uf-ama"}
    assert {backbone for _, backbone in found} == {"", *networks}
    ((plain, *others), (adapters, *rest)) = (
        [methods for (_, backbone), methods in found.items() if bool(backbone) == of]
        for of in (False, True)
    )
    assert all(each == plain for each in others)
    assert all(each == adapters for each in rest)
    assert {"dann", "uf-ama", "pytorch-adapt:MCD", "source only"} <= adapters
    assert {"logistic regression", "jcpot"} <= plain


def test_the_digest_is_the_table(methods, rows):
    lines = {
        cells[1]: cells[2:-1]
        for line in methods.digest(read_findings(TABLE)).splitlines()
        if (cells := [each.strip() for each in line.split("|")])
    }
    places = [tuple(head.split(", ")) for head in lines["adapter"][:9]]
    by = {(r["dataset"], r["backbone"], r["method"]): r for r in rows if not r["why"]}
    adapters = {r["method"] for r in rows if r["backbone"]} - {"source only"}
    assert adapters == {*lines} - {
        "adapter",
        "---",
        "*source only*",
        "*logistic regression*",
    }
    means = []
    for name in (each for each in lines if each in adapters):
        own = [by.get((*place, name)) for place in places]
        gains = [100 * float(row["difference"]) for row in own if row]
        for cell, row in zip(lines[name], own, strict=False):
            if row is None:
                assert cell == "-"
                continue
            assert cell.endswith("*") == (float(row["p"]) < 0.05)
            assert float(cell.rstrip("*")) == pytest.approx(
                100 * float(row["difference"]), abs=0.051
            )
        if gains:
            means.append(sum(gains) / len(gains))
            assert float(lines[name][9]) == pytest.approx(means[-1], abs=0.051)
        for cell, gain, p in (
            (lines[name][10], "difference", "p"),
            (lines[name][11], "linear_difference", "linear_p"),
        ):
            sure = [float(row[gain]) > 0 for row in own if row and float(row[p]) < 0.05]
            assert cell == f"{sum(sure)} up, {len(sure) - sum(sure)} down"
    assert means == sorted(means, reverse=True)


@pytest.mark.parametrize("name", ["digest", "plain"])
def test_the_page_shows_what_the_script_makes(methods, name):
    page = PAGE.read_text(encoding="utf-8")
    start, end = f"<!-- methods-{name} -->\n", f"\n<!-- end of methods-{name} -->"
    shown = page.split(start)[1].split(end)[0]
    make = {"digest": methods.digest, "plain": methods.plain_models}[name]
    assert shown == make(read_findings(TABLE))
