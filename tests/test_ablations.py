"""Every shipped ablation runs; what a system's page names is there."""

import importlib
import json
import re
import tomllib
from pathlib import Path

import pytest

from domainemo.benchmarks.running import run_cells
from domainemo.choices import flatten
from domainemo.cli.grid import grid_of, read_grid
from domainemo.cli.named import benchmarks, studies

TINY = {
    "data.subjects": 2,
    "data.sessions": 1,
    "data.trials": 3,
    "data.windows": [3, 4],
    "training.epochs": 2,
    "training.batch_size": 8,
}


def tiny(name):
    """Return an ablation with a single seed, few recordings and few steps."""
    given = tomllib.loads(benchmarks()[name].read_text(encoding="utf-8"))
    options = flatten(given.get("options", {})) | TINY
    for axis in ("datasets", "backbones"):
        for keys in given[axis].values() if isinstance(given.get(axis), dict) else ():
            own = flatten(keys.get("options", {}))
            keys["options"] = {k: v for k, v in own.items() if k not in TINY}
            if "pretraining" in keys:  # which pairs people of the source
                first = keys["pretraining"]
                own = flatten(first.get("options", {}))
                first["options"] = own | {"training.epochs": 1}
                options["data.subjects"] = 3
    return {**given, "seeds": [0], "controls": ["majority-class"], "options": options}


def test_an_ablation_is_found_by_its_name_and_by_its_path():
    for name, path in benchmarks().items():
        by_name, by_path = (read_grid(str(each), {}) for each in (name, path))
        assert by_name.content == by_path.content
        seeds = {cell.experiment.seeds for cell in by_name.cells()}
        assert seeds == {(0, 1, 2, 3, 4)}
    assert "uf-ama-ablation" in benchmarks() and not benchmarks().keys() & studies()


@pytest.mark.parametrize("name", benchmarks())
def test_every_ablation_runs_two_folds_of_every_entry(name, tmp_path):
    given = tiny(name)
    grid = grid_of(given, {})
    cells = grid.cells()
    told = {
        json.dumps([cell.description, cell.first_stage], sort_keys=True)
        for cell in cells
    }
    assert len(told) == len(cells)  # each entry changes something
    outcomes = run_cells(
        cells, lambda name: grid.datasets[name].dataset.build().load(), tmp_path
    )
    assert [outcome.why for outcome in outcomes] == [""] * len(cells)
    for cell in cells:
        folder = tmp_path.joinpath("cells", *cell.key)
        folds = given["options"]["data.subjects"]
        assert len(list(folder.glob("folds/*"))) == folds, cell.name


DOCS = Path(__file__).parents[1] / "docs"
EQUATIONS = "## The equations, and where they are"
PAGES = [p for p in DOCS.glob("*.md") if EQUATIONS in p.read_text(encoding="utf-8")]
PLACE = r"`((?:domainemo|adapters|protocols|studies)/[\w/]+\.py)`((?:, `[\w.]+`)+)"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_place_that_a_system_s_page_names_is_there(page):
    """Written as `adapters/kernels.py`, `signed_discrepancy`, `Class.method`."""
    places = re.findall(PLACE, page.read_text(encoding="utf-8"))
    assert len(places) > 5
    for path, names in places:
        module = path.removesuffix(".py").replace("/", ".")
        if not module.startswith("domainemo."):
            module = f"domainemo.{module}"
        found = importlib.import_module(module)
        for name in re.findall(r"`([\w.]+)`", names):
            place = found
            for part in name.split("."):
                assert hasattr(place, part), f"{page.name}: {path} has no {name}"
                place = getattr(place, part)
