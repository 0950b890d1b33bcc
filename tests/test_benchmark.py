"""The benchmark: its file, its cells, its table and page, and what a kill leaves."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import killing
import numpy as np
import pandas as pd
import pytest
from browser import DESKTOP, PHONE, open_page
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import combine_pvalues, rankdata, wilcoxon

import domainemo as de
from domainemo.benchmarks.cells import PLACES, Cell, Outcome
from domainemo.benchmarks.findings import gather, read_findings, tiers
from domainemo.benchmarks.printed import as_markdown, difference_columns
from domainemo.benchmarks.running import run_cells
from domainemo.cli import main
from domainemo.cli.benchmark import _show_table
from domainemo.cli.grid import KEYS, read_grid
from domainemo.registry import entries
from domainemo.reports import page
from domainemo.reports.benchmark import _combined, _summary
from domainemo.runs.metrics import METRICS
from domainemo.runs.results import Results
from domainemo.statistics.intervals import bootstrap_interval

DATA = """
"data.subjects" = 3
"data.sessions" = 1
"data.trials" = 6
"data.windows" = [2, 3]
"training.epochs" = 1
"training.batch_size" = 8
"""
NETWORK = """
"backbone.hidden" = [4]
"backbone.width" = 4
"backbone.fusion_width" = 4
"""
# adabn can do nothing to a network without batch normalisation, and says so.
FILE = f"""
datasets = ["simulated"]
protocols = ["cross-subject"]
adapters = ["marginal", "adabn", "none"]
controls = ["majority-class", "logistic-regression"]
seeds = [0, 1]
device = "cpu"
[options]
{DATA}
[backbones.small]
backbone = "concatenation-mlp"
[backbones.small.options]
{NETWORK}
[backbones.pair]
backbone = "concatenation-mlp"
[backbones.pair.options]
{NETWORK.replace('width" = 4', 'width" = 6')}
"""
REFUSED = "adabn"


def call(*arguments, folder):
    """Run a command in this process; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("DOMAINEMO_DATA", "")
        patch.setattr(sys, "argv", ["domainemo", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
    return ended.value.code or 0


def grid(folder, text, data_root=None):
    path = Path(folder, "bench.toml")
    path.write_text(text, encoding="utf-8")
    return read_grid(str(path), {"data_root": data_root, "plugins": None})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A benchmark that was run once, with its exit code and its table."""
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "bench.toml").write_text(FILE, encoding="utf-8")
    code = call("benchmark", "bench.toml", "--output=made", "--jobs=1", folder=folder)
    return folder / "made", code, pd.read_parquet(folder / "made" / "table.parquet")


# --------------------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ('backbone = "r2gfanet"', "no option 'backbone'. Did you mean 'backbones'"),
        ("adaptres = []", "Did you mean 'adapters'"),
        ("folds = []", "no option 'folds'"),
        ('adapters = ["uf_ama"]', "adapters.uf_ama: .*Did you mean 'uf-ama'"),
        ('backbones = ["r2gfant"]', "backbones.r2gfant: .*'r2gfanet'"),
        ('protocols = ["cross-sesion"]', "'cross-session'"),
        ('datasets = ["SEED-IV"]', "'seed-iv'"),
        ('datasets = ["nowhere/at/all"]', "no such folder"),
        ('reference = "whloe"\n[backbones.whole]\nbackbone = "r2gfanet"', "'whole'"),
        ("adapters = 5", "adapters is 5; expected a list of names, or a table"),
        ("adapters = []", "adapters is .*; expected a list of names"),
        ('adapters = ["dann", "dann"]', "expected each of them once"),
        ('[adapters."source only"]\nadapter = "dann"', "is called as a baseline is"),
        ('[adapters."majority class"]\nadapter = "dann"', "called as a baseline is"),
        ("[adapters.dann]\nseeds = [1]", "adapters.dann has no option 'seeds'"),
        ("[adapters.dann]\noptions = {training.epochs = 1}", "cannot be compared"),
        ("[adapters.dann]\noptions = {adapter.wieght = 1}", "'weight'"),
        ("[datasets.simulated]\nplugins = []", "no option 'plugins'"),
        ("[options]\ntraining.epohcs = 1", "'epochs'"),
        (
            '[backbones.dgcnn]\nadapters = ["whole-trial"]',
            "dgcnn: adapters is .*some of none, whole-trials.*you mean 'whole-trials'",
        ),
        ("[backbones.r2gfanet]\npretraining = 5", "pretraining is 5; expected a table"),
        ("[backbones.r2gfanet]\npretraining = {pair = 1}", "Did you mean 'pairs'"),
        (
            "[backbones.r2gfanet.pretraining]\noptions = {backbone.width = 4}",
            "sets 'backbone.width'; expected pairs.NAME, contrast.NAME, training.NAME",
        ),
        (
            "[backbones.r2gfanet.pretraining]\noptions = {contrast.temperatur = 1}",
            "Did you mean 'temperature'",
        ),
        ("[adapters.dann]\npretraining = {}", "no option 'pretraining'"),
        ('seeds = "0"', "seeds is '0'; expected a list of whole numbers"),
    ],
)
def test_what_is_misspelt_is_told_before_anything_is_read(wrong, sentence, tmp_path):
    with pytest.raises(de.ConfigurationError, match=sentence):
        grid(tmp_path, wrong)


def test_folders_of_one_name_need_names_of_their_own(tmp_path):
    folders = [tmp_path / place / "t" for place in ("x", "y")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "dataset.toml").touch()
    named = json.dumps([str(folder) for folder in folders])
    with pytest.raises(de.ConfigurationError, match="two would be called 't'; expect"):
        grid(tmp_path, f"datasets = {named}\n")


def test_a_file_that_is_not_there(tmp_path):
    (tmp_path / "bench.toml").touch()
    with pytest.raises(de.ConfigurationError, match=r"Did you mean .*bench\.toml"):
        read_grid(str(tmp_path / "bnch.toml"), {})


def test_keys_are_the_choices_and_no_others():
    assert {"datasets", "protocols", "backbones", "adapters"} < {*KEYS}
    assert {"seeds", "validator", "normalisation", "controls", "options"} < {*KEYS}
    assert not {"dataset", "adapter", "folds", "baselines", "target"} & {*KEYS}


def test_every_combination_is_a_cell_and_source_only_stands_once(tmp_path):
    cells = grid(
        tmp_path,
        """
        protocols = ["cross-subject", "cross-session"]
        backbones = ["concatenation-mlp", "dgcnn"]
        adapters = ["dann", "deep-coral"]
        """,
    ).cells()
    expected = {
        ("simulated", protocol, backbone, adapter)
        for protocol in ("cross-subject", "cross-session")
        for backbone in ("concatenation-mlp", "dgcnn")
        for adapter in ("none", "dann", "deep-coral")
    }
    assert len(cells) == 12 and {cell.key for cell in cells} == expected
    for cell in cells:
        trained = [each.name for each in cell.experiment.trained]
        first = cell.backbone == "concatenation-mlp" and cell.adapter == "none"
        assert trained == [cell.adapter, *(["logistic-regression"] if first else [])]


def test_a_network_may_name_the_adapters_that_run_on_it(tmp_path):
    cells = grid(
        tmp_path,
        """
        adapters = ["dann", "deep-coral"]
        [backbones.dgcnn]
        [backbones.plain]
        backbone = "concatenation-mlp"
        adapters = ["dann"]
        """,
    ).cells()
    found = [(cell.backbone, cell.adapter) for cell in cells]
    both = [("dgcnn", each) for each in ("none", "dann", "deep-coral")]
    assert found == [*both, ("plain", "none"), ("plain", "dann")]


FIRST_STAGE = f"""
datasets = ["simulated"]
adapters = ["marginal"]
controls = ["majority-class"]
device = "cpu"
[options]
{DATA}
[backbones.small]
backbone = "concatenation-mlp"
options = {{backbone.hidden = [4], backbone.width = 4, backbone.fusion_width = 4}}
[backbones.small.pretraining]
pairs = "random"
options = {{training.epochs = 2, contrast.projection = [3]}}
[backbones.plain]
backbone = "concatenation-mlp"
options = {{backbone.hidden = [4], backbone.width = 4, backbone.fusion_width = 4}}
"""


def test_a_network_with_a_first_stage_starts_from_it_in_every_cell(tmp_path, capfd):
    bench = grid(tmp_path, FIRST_STAGE)
    cells = {cell.key[2:]: cell for cell in bench.cells()}
    assert cells["plain", "none"].pretraining is None
    one, two = cells["small", "none"], cells["small", "marginal"]
    assert one.first_stage == two.first_stage
    first = one.pretraining
    assert (first.pairs.name, first.training.epochs) == ("random", 2)
    # All else is that of the run.
    assert first.backbone.describe() == one.experiment.backbone.describe()
    assert first.seeds == one.experiment.seeds and first.training.batch_size == 32
    planning = ("benchmark", "bench.toml", "--dry-run", "--output=made")
    assert call(*planning, folder=tmp_path) == 0
    # Three folds: twice two methods, and one first stage.
    assert "15 trainings to run" in " ".join(capfd.readouterr().out.split())

    def run():
        return run_cells(
            list(cells.values()),
            lambda name: bench.datasets[name].dataset.build().load(),
            tmp_path / "made",
        )

    outcomes = {outcome.cell.key[2:]: outcome for outcome in run()}
    assert not any(outcome.why for outcome in outcomes.values())
    for key, outcome in outcomes.items():
        told = "initialised from pre-training (random pairs of eeg, eye, 2 epochs)"
        trained = outcome.table["parameters"].notna()
        starts = outcome.table.loc[trained, "initialisation"]
        assert starts.str.startswith(told).all() == (key[0] == "small")
    (folder,) = tmp_path.glob("made/pretraining/*/*/*")
    assert folder.name == "small"
    weights = {p: p.stat().st_mtime_ns for p in folder.rglob("backbone.safetensors")}
    assert len(weights) == 3
    # The same again trains nothing, and another first stage is refused.
    for before, after in zip(outcomes.values(), run(), strict=True):
        pd.testing.assert_frame_equal(before.table, after.table)
    assert all(p.stat().st_mtime_ns == time for p, time in weights.items())
    other = grid(tmp_path, FIRST_STAGE.replace('"random"', '"synchronous"'))
    with pytest.raises(de.ConfigurationError, match="pairs: there 'random'"):
        run_cells(other.cells(), None, tmp_path / "made")


def test_what_stands_later_goes_before(tmp_path):
    cells = grid(
        tmp_path,
        """
        seeds = [3]
        adapters = ["none"]
        [options]
        training.epochs = 1
        training.batch_size = 4
        [datasets.one]
        dataset = "simulated"
        exclude = [2]
        options = {training.epochs = 2, data.subjects = 4}
        [datasets.simulated]
        [backbones.fast]
        backbone = "concatenation-mlp"
        normalisation = "subject"
        options = {training.epochs = 3}
        [backbones.dgcnn]
        """,
    ).cells()
    said = {cell.key[:3:2]: cell.experiment for cell in cells}
    epochs = {key: each.training.epochs for key, each in said.items()}
    assert epochs == {
        ("one", "fast"): 3,
        ("one", "dgcnn"): 2,
        ("simulated", "fast"): 3,
        ("simulated", "dgcnn"): 1,
    }
    for key, each in said.items():
        assert each.training.batch_size == 4 and each.seeds == (3,)
        assert each.exclude == (("2",) if key[0] == "one" else ())
        assert each.normalisation.name == {"fast": "subject"}.get(key[1], "session")


def test_all_adapters_are_all_there_are(tmp_path):
    cells = grid(tmp_path, 'adapters = "all"').cells()
    assert [cell.adapter for cell in cells] == list(
        dict.fromkeys(
            ["none", *(entry.name for entry in entries("adapter", varieties=True))]
        )
    )


# ---------------------------------------------------------------- the cells, the table


def test_a_cell_that_cannot_be_run_stops_no_other(made):
    folder, code, table = made
    assert code == 1
    failed = table[table["why"] != ""]
    assert list(failed["method"]) == [REFUSED, REFUSED]
    assert failed["balanced_accuracy"].isna().all()
    assert failed["why"].str.contains("batch normalisation").all()
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert failed["why"].iloc[0] in html.replace("&#39;", "'").replace("&#34;", '"')
    assert "no number" in (folder / "table.tex").read_text(encoding="utf-8")


def test_every_number_is_that_of_the_same_run_by_itself(made):
    _, _, table = made
    alone = de.run(
        de.Simulated(subjects=3, sessions=1, trials=6, windows=(2, 3)).load(),
        backbone="concatenation-mlp",
        adapter="marginal",
        controls=["majority-class", "logistic-regression"],
        seeds=[0, 1],
        device="cpu",
        options={
            "training.epochs": 1,
            "training.batch_size": 8,
            "backbone.hidden": [4],
            "backbone.width": 4,
            "backbone.fusion_width": 4,
        },
    )
    own = table[table["backbone"].isin(["", "small"]) & (table["why"] == "")]
    found = own.set_index("method")["balanced_accuracy"]
    assert found.to_dict() == pytest.approx(alone.per_subject().mean().to_dict())
    gap = alone.comparison().difference
    differences = own.set_index("method")["difference"]
    assert differences["marginal"] == pytest.approx(gap)
    assert differences.drop("marginal").isna().all()


def test_nothing_is_trained_twice(made):
    folder, _, _ = made
    trained = sorted(
        (*path.relative_to(folder / "cells").parts[2:4], path.name)
        for path in folder.glob("cells/*/*/*/*/folds/*/seed-0/*")
    )
    folds = 3
    assert trained == sorted(
        [
            ("pair", "marginal", "marginal"),
            ("pair", "none", "none"),
            ("small", "marginal", "marginal"),
            ("small", "none", "logistic_regression"),
            ("small", "none", "none"),
        ]
        * folds
    )


def test_a_cell_is_a_run_that_can_be_reported(made, monkeypatch):
    folder, _, table = made
    cell = folder / "cells" / "simulated" / "cross-subject" / "pair" / "marginal"
    own = table[(table["backbone"] == "pair") & (table["method"] == "marginal")]
    mean = Results.load(cell).per_subject()["marginal"].mean()
    assert own["balanced_accuracy"].item() == pytest.approx(mean)
    monkeypatch.setattr(page, "render", killing.undrawn)
    assert call("report", cell, folder=folder.parent) == 0
    assert (cell / "report.html").is_file()


def test_the_same_again_changes_no_byte(made):
    folder, _, _ = made
    names = ("table.csv", "table.parquet", "table.tex", "report.html")
    before = [(folder / name).read_bytes() for name in names]
    record = next(folder.glob("cells/*/*/*/marginal/folds/*/*/*/record.json"))
    stamp = record.stat().st_mtime_ns
    assert call("benchmark", "bench.toml", "--output=made", folder=folder.parent) == 1
    assert [(folder / name).read_bytes() for name in names] == before
    assert record.stat().st_mtime_ns == stamp


def test_what_is_missing_is_made_anew_and_no_more(made):
    folder, _, table = made
    (lost,) = folder.glob("cells/*/*/pair/marginal/folds/subject_2/seed-1/marginal")
    kept = {
        path: path.stat().st_mtime_ns
        for path in folder.glob("cells/*/*/*/*/folds/*/*/*/record.json")
        if path.parent != lost
    }
    shutil.rmtree(lost)
    (folder / "table.parquet").unlink()
    assert call("benchmark", "bench.toml", "--output=made", folder=folder.parent) == 1
    again = pd.read_parquet(folder / "table.parquet").drop(columns="seconds")
    assert again.to_csv() == table.drop(columns="seconds").to_csv()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_another_configuration_is_refused_before_anything_trains(made, capfd):
    folder, _, _ = made
    path = folder.parent / "other.toml"
    path.write_text(FILE.replace('epochs" = 1', 'epochs" = 2'), encoding="utf-8")
    assert call("benchmark", "other.toml", "--output=made", folder=folder.parent) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert "training.epochs: there 1, now 2" in said


def test_the_dry_run_counts_trainings_and_writes_nothing(made, tmp_path, capfd):
    folder, _, _ = made
    place = folder.parent / "bench.toml"
    assert call("benchmark", place, "--dry-run", "--output=new", folder=tmp_path) == 0
    said = " ".join(capfd.readouterr().out.split())
    # Three folds, two seeds; logistic regression once a fold; adabn cannot be run.
    assert f"6 cells, {4 * 3 * 2 + 3} trainings to run: about" in said
    assert "batch normalisation" in said
    assert not [*tmp_path.iterdir()]
    assert (
        call("benchmark", place, "--dry-run", f"--output={folder}", folder=tmp_path)
        == 0
    )
    assert "6 cells, 0 trainings to run; folder" in " ".join(
        capfd.readouterr().out.split()
    )


@pytest.mark.parametrize(("width", "dark"), [(DESKTOP, False), (PHONE, True)])
def test_the_page_can_be_read(made, width, dark):
    seen = open_page(made[0] / "report.html", width, dark)
    assert seen.faults == []


def test_the_page_holds_the_table(made):
    folder, _, table = made
    html = (folder / "report.html").read_text(encoding="utf-8")
    found = re.search('<script type="application/json" id="data">(.*?)</script>', html)
    held = json.loads(found[1])["table"]
    assert held["method"] == list(table["method"])
    known = [value for value in held["balanced_accuracy"] if value is not None]
    assert known == pytest.approx(table["balanced_accuracy"].dropna().to_list())


# ------------------------------------------------------------------------------- ranks


def slowly(scores):
    """Return the ranks, by what the documentation says and SciPy."""
    left, ranks = list(scores), {}
    while left:
        best = max(left, key=lambda name: scores[name].mean())
        others = [name for name in left if name != best]
        p = {
            name: 1.0
            if (gap := scores[best] - scores[name]).eq(0).all()
            else wilcoxon(gap).pvalue
            for name in others
        }
        below, corrected = [], 0.0
        for number, name in enumerate(sorted(others, key=p.get)):
            corrected = max(corrected, p[name] * (len(others) - number))
            if corrected < 0.05:
                below.append(name)
        rank = len(ranks) + 1
        ranks |= {name: rank for name in left if name not in below}
        left = below
    return ranks


@settings(max_examples=25, deadline=None)
@given(st.integers(5, 20), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_ranks_are_those_of_the_slow_loop(subjects, methods, seed):
    generator = np.random.default_rng(seed)
    means = generator.choice([0.0, 0.05, 0.4], size=methods)
    values = generator.normal(means, 0.1, (subjects, methods))
    scores = pd.DataFrame(values, columns=[f"m{i}" for i in range(methods)])
    assert tiers(scores).to_dict() == slowly(scores)


def test_what_cannot_be_told_apart_is_tied():
    generator = np.random.default_rng(0)
    common = generator.normal(0.5, 0.1, 15)
    scores = pd.DataFrame(
        {
            "worst": common - 0.3,
            "best": common + generator.normal(0, 1e-3, 15),
            "as good": common + generator.normal(0, 1e-3, 15),
        }
    )
    assert tiers(scores).to_dict() == {"worst": 3, "best": 1, "as good": 1}
    assert tiers(scores.head(4)).to_dict() == dict.fromkeys(scores, 1)


def test_the_first_is_the_highest_mean_and_not_the_highest_median():
    """One person does very well by it, and all others a little worse."""
    common = np.linspace(0.4, 0.6, 12)
    outlier = np.where(np.arange(12) == 11, 0.4, -0.01 - np.arange(12) / 1e4)
    scores = pd.DataFrame({"usual": common, "uneven": common + outlier})
    assert scores["uneven"].mean() > scores["usual"].mean()
    assert scores["uneven"].median() < scores["usual"].median()
    assert tiers(scores).to_dict() == slowly(scores) == {"uneven": 1, "usual": 2}


def test_mean_ranks_are_scipys(made):
    _, _, table = made
    done = table[table["why"] == ""]
    folder = made[0] / "report"
    subjects = pd.read_csv(next(folder.glob("simulated-cross-subject-2.csv")))
    ranks = rankdata(-subjects.drop(columns="subject"), axis=1).mean(0)
    assert sorted(done["mean_rank"]) == pytest.approx(sorted(ranks))


# ------------------------------------------------------------ several data sets at once


def outcome(dataset, backbone, adapter, values, level="window"):
    """What came of a cell, as if it had been run: a score for each subject."""
    levels = ("trial",) if level == "trial" else (level, "trial")
    rows = [
        {
            "method": "source only" if adapter == "none" else adapter,
            "backbone": backbone,
            "fold": f"subject {subject}",
            "seed": 0,
            "subject": subject,
            "level": each,
            **dict.fromkeys(METRICS, value + 0.01 * (each == "trial")),
            **dict.fromkeys(("modalities", "access", "target_seen"), "x"),
            **dict.fromkeys(("normalisation", "selection", "sampling"), "x"),
            "version": "0",
            "parameters": 7,
            "seconds": 1.5,
        }
        for subject, value in enumerate(values, 1)
        for each in levels
    ]
    chosen = SimpleNamespace(adapter=SimpleNamespace(name=adapter), validator=object())
    cell = Cell(
        dataset=dataset,
        protocol="cross-subject",
        backbone=backbone,
        adapter=adapter,
        experiment=chosen,
        description={},
    )
    return Outcome(cell, pd.DataFrame(rows), "how")


@pytest.fixture
def two_data_sets():
    generator = np.random.default_rng(1)
    values = {
        (dataset, adapter): generator.normal(mean, 0.1, subjects)
        for dataset, subjects in (("first", 9), ("second", 16))
        for adapter, mean in (("none", 0.5), ("better", 0.6), ("same", 0.5))
    }
    return values, gather(
        [
            outcome(dataset, "network", adapter, each)
            for (dataset, adapter), each in values.items()
        ],
        "",
    )


def test_data_sets_are_combined_as_scipy_does(two_data_sets):
    values, findings = two_data_sets
    table = _combined(findings.groups).set_index("method")
    z = {}
    for adapter in ("better", "same"):
        gaps = [values[d, adapter] - values[d, "none"] for d in ("first", "second")]
        gains = [wilcoxon(gap, alternative="greater").pvalue < 0.5 for gap in gaps]
        halves = [wilcoxon(gap).pvalue / 2 for gap in gaps]
        found = combine_pvalues(
            [p if up else 1 - p for p, up in zip(halves, gains, strict=True)],
            method="stouffer",
            weights=[np.sqrt(len(gap)) for gap in gaps],
        )
        z[adapter] = found.statistic
        mean = np.mean([gap.mean() for gap in gaps])
        assert table.loc[adapter, "mean difference"] == pytest.approx(mean)
    assert table["z"].to_dict() == pytest.approx(z)
    assert list(table.index) == sorted(z, key=z.get, reverse=True)


def test_differences_are_tested_together(two_data_sets):
    values, findings = two_data_sets
    for dataset in ("first", "second"):
        own = findings.table[findings.table["dataset"] == dataset].set_index("method")
        base = values[dataset, "none"]
        raw = {
            adapter: wilcoxon(values[dataset, adapter] - base).pvalue
            for adapter in ("better", "same")
        }
        small, large = sorted(raw, key=raw.get)
        assert own.loc[small, "p"] == pytest.approx(min(1, 2 * raw[small]))
        expected = max(min(1, 2 * raw[small]), raw[large])
        assert own.loc[large, "p"] == pytest.approx(expected)
        assert pd.isna(own.loc["source only", "p"])


def test_all_are_compared_with_logistic_regression_and_corrected_together():
    generator = np.random.default_rng(2)
    means = {"none": 0.5, "better": 0.58, "same": 0.53}
    values = {name: generator.normal(mean, 0.1, 12) for name, mean in means.items()}
    linear = generator.normal(0.5, 0.1, 12)
    outcomes = [outcome("one", "network", *each) for each in values.items()]
    rows = outcomes[0].table
    control = outcome("one", "", "logistic regression", linear).table
    outcomes[0] = replace(outcomes[0], table=pd.concat([rows, control]))
    (group,) = gather(outcomes, "").groups
    found = group.table.set_index("method").rename({"source only": "none"})
    raw = {name: wilcoxon(each - linear).pvalue for name, each in values.items()}
    first, second, third = sorted(raw, key=raw.get)
    expected = {first: min(1, 3 * raw[first])}
    expected[second] = max(expected[first], min(1, 2 * raw[second]))
    expected[third] = max(expected[second], raw[third])
    for name, each in values.items():
        row = found.loc[name]
        assert row["linear_p"] == pytest.approx(expected[name])
        assert row["linear_difference"] == pytest.approx((each - linear).mean())
        low, high = bootstrap_interval(each - linear)
        assert row["linear_difference_low"] == pytest.approx(low)
        assert row["linear_difference_high"] == pytest.approx(high)
    assert pd.isna(found.loc["logistic regression", "linear_difference"])


def test_all_are_compared_with_the_reference_and_corrected_together():
    """A network with the reference under the same adapter, an adapter on its own."""
    generator = np.random.default_rng(3)
    cells = [(b, a) for b in ("whole", "half") for a in ("none", "better", "same")]
    values = {cell: generator.normal(0.5, 0.1, 12) for cell in cells}
    outcomes = [outcome("one", *cell, each) for cell, each in values.items()]
    (plain,) = gather(outcomes, "").groups
    assert plain.table["reference_difference"].isna().all()
    for reference, others in (
        ("whole", {(b, a): ("whole", a) for b, a in cells if b == "half"}),
        ("better", {(b, "same"): (b, "better") for b in ("whole", "half")}),
    ):
        findings = gather(outcomes, "", reference)
        (group,) = findings.groups
        rows = group.table.replace({"method": {"source only": "none"}})
        found = rows.set_index(["backbone", "method"])
        gaps = {each: values[each] - values[to] for each, to in others.items()}
        least = min(gaps, key=lambda each: wilcoxon(gaps[each]).pvalue)
        p = min(1, len(gaps) * wilcoxon(gaps[least]).pvalue)
        assert found.loc[least, "reference_p"] == pytest.approx(p)
        for cell in cells:
            row = found.loc[cell]
            if cell not in gaps:
                assert pd.isna(row["reference_difference"])
                continue
            low, high = bootstrap_interval(gaps[cell])
            assert [row[name] for name in difference_columns("reference_")[:3]] == (
                pytest.approx([gaps[cell].mean(), low, high])
            )
        text = as_markdown(findings.table)
        assert f"| less {reference} | p of this |" in text
        assert "logistic regression" not in text  # which was not run


def findings_of(methods, subjects):
    """Return what methods found that are as far apart as can be, subject by subject."""
    values = 0.02 * np.arange(subjects) + 0.001 * np.arange(subjects) ** 2
    return gather(
        [
            outcome("one", "network", name, values + place * 0.9 / methods)
            for place, name in enumerate(["none", *"abcdefghij"][:methods])
        ],
        "",
    )


@pytest.mark.parametrize(("methods", "subjects"), [(3, 6), (2, 6), (8, 7), (4, 7)])
def test_it_is_said_where_the_correction_leaves_nothing_to_be_shown(methods, subjects):
    """Every subject is ordered alike: no p can be smaller than these are."""
    findings = findings_of(methods, subjects)
    scores = findings.groups[0].scores
    p = wilcoxon(scores.iloc[:, 0] - scores.iloc[:, 1]).pvalue
    shown = len({*tiers(scores)}) > 1
    said = [each.text for each in _summary(findings, findings.groups)[1:]]
    assert bool(said) == (not shown) == (p * (methods - 1) >= 0.05)
    if said:
        assert said == [
            f"one, cross-subject: over {subjects} subjects Wilcoxon's signed-rank test "
            f"cannot go below p = {p:.2g}, which Holm's correction makes "
            f"{p * (methods - 1):.2g} for {methods - 1} comparisons with the best "
            f"method and {p * (methods - 1):.2g} for {methods - 1} comparisons with "
            f"source only: there no difference can be shown, however large."
        ]


@pytest.mark.parametrize(
    ("methods", "subjects", "said"),
    [
        (1, 8, "over 8 subjects, the only method."),
        (2, 5, "over 5 subjects; the other method cannot be told from it."),
        (2, 8, "over 8 subjects; the other method differs from it."),
        (3, 5, "over 5 subjects; none of the 2 others can be told from it."),
        (3, 8, "over 8 subjects; each of the 2 other methods differs from it."),
    ],
)
def test_who_is_first_is_said_of_any_number_of_methods(methods, subjects, said):
    findings = findings_of(methods, subjects)
    assert _summary(findings, findings.groups)[0].endswith(said)


def test_networks_that_predict_windows_and_trials_meet_in_trials():
    values = np.linspace(0.4, 0.6, 8)
    windows = outcome("one", "a", "none", values)
    trials = outcome("one", "b", "none", values, "trial")
    (alone,) = gather([windows], "").groups
    (both,) = gather([windows, trials], "").groups
    assert alone.level == "window" and both.level == "trial"
    assert alone.table["balanced_accuracy"].item() == pytest.approx(0.5)
    assert both.table["balanced_accuracy"].to_list() == pytest.approx([0.51, 0.51])
    sequences = outcome("one", "c", "none", values, "sequence")
    (apart,) = gather([windows, sequences], "").groups
    assert apart.level == "trial"


def test_people_count_alike_and_those_alone_who_have_a_score_under_every_method():
    """One was tested in two folds, and the last under one method only."""
    values = np.linspace(0.4, 0.6, 8)
    whole = outcome("one", "network", "none", values)
    rows = whole.table
    first = rows[(rows["subject"] == 1) & (rows["level"] == "window")]
    again = first.assign(**dict.fromkeys(METRICS, 1.0), fold="again", seconds=10.5)
    whole = replace(whole, table=pd.concat([rows, again], ignore_index=True))
    shorter = outcome("one", "network", "same", values[:7] - 0.1)
    (group,) = gather([whole, shorter], "").groups
    expected = [(values[0] + 1) / 2, *values[1:7]]
    assert group.of(("network", "source only")) == pytest.approx(expected)
    row = group.table.set_index("method").loc["source only"]
    assert row["subjects"] == 7
    for name in METRICS:
        assert row[name] == pytest.approx(np.mean(expected))
    assert row["deviation"] == pytest.approx(np.std(expected, ddof=1))
    # Nine trainings.
    assert row["trainings"] == 9
    assert row["seconds"] == pytest.approx((8 * 1.5 + 10.5) / 9)


def test_a_data_set_is_read_once_and_one_that_cannot_be_read_stops_no_other(tmp_path):
    text = FILE.replace('datasets = ["simulated"]', 'adapters = ["none"]').replace(
        'adapters = ["marginal", "adabn", "none"]\n', ""
    )
    text += "[datasets.broken]\ndataset = 'simulated'\n[datasets.whole]\n"
    text += "dataset = 'simulated'\n"
    cells = grid(tmp_path, text).cells()
    asked = []

    def load(name):
        asked.append(name)
        if name == "broken":
            raise de.DataError("a file is missing")
        return de.Simulated(subjects=3, sessions=1, trials=6, windows=(2, 3)).load()

    outcomes = run_cells(cells, load, tmp_path / "made")
    assert asked == ["broken", "whole"]
    assert [each.why for each in outcomes] == ["a file is missing"] * 2 + [""] * 2
    assert [each.cell for each in outcomes] == cells


def test_a_table_without_a_number_is_of_no_level(tmp_path, capfd):
    cells = grid(tmp_path, FILE).cells()

    def load(name):
        raise de.DataError("a file is missing")

    outcomes = run_cells(cells, load, tmp_path / "made")
    _show_table(gather(outcomes, ""), tmp_path)
    shown = capfd.readouterr().out
    assert "no numbers" in shown
    assert "per trial" not in shown


# ------------------------------------------------------------------- its parts, Python

ONE = FILE.replace("seeds = [0, 1]", "seeds = [0]").replace(
    'datasets = ["simulated"]', ""
)
ONE = re.sub(r"\[backbones.pair\].*", "", ONE, flags=re.DOTALL).replace(
    '"marginal", "adabn", "none"', '"marginal"'
)
PARTS = f"{ONE}[datasets.simulated]\n[datasets.other]\ndataset = 'simulated'\n"
PARTS += "options = {data.seed = 1}\n"


def without_seconds(table):
    return table.drop(columns="seconds").to_csv()


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A benchmark of two data sets by the command: one, the other, and both."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "bench.toml").write_text(PARTS, encoding="utf-8")
    tables = {}
    for part in ("simulated", "other", None):
        chosen = [f"--datasets={part}"] if part else []
        assert not call(
            *("benchmark", "bench.toml", "--output=made", "--jobs=1", *chosen),
            folder=folder,
        )
        tables[part] = read_findings(folder / "made" / "table.csv")
        stamps = {
            path: path.stat().st_mtime_ns
            for path in folder.glob("made/cells/*/*/*/*/folds/*/*/*/record.json")
        }
        tables[part, "stamps"] = stamps
    return folder, tables


def test_parts_add_up_to_the_whole_and_nothing_is_trained_twice(parts):
    _, tables = parts
    for name in ("simulated", "other"):
        assert set(tables[name]["dataset"]) == {name}
    both = pd.concat([tables["simulated"], tables["other"]], ignore_index=True)
    assert tables[None].to_csv() == both.to_csv()
    assert 0 < len(tables["simulated", "stamps"]) < len(tables["other", "stamps"])
    assert tables[None, "stamps"] == tables["other", "stamps"]
    assert tables["simulated", "stamps"].items() <= tables[None, "stamps"].items()


@pytest.mark.parametrize("kind", ["mapping", "path"])
def test_from_python_it_is_the_command(kind, parts, tmp_path, monkeypatch):
    folder, tables = parts
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bench.toml").write_text(PARTS, encoding="utf-8")
    given = tomllib.loads(PARTS) if kind == "mapping" else tmp_path / "bench.toml"
    told = []
    table = de.benchmark(
        given, output="made", datasets=["other"], on_cell=lambda each: told.append(each)
    )
    assert without_seconds(table) == without_seconds(tables["other"])
    assert [each.cell.adapter for each in told] == ["none", "marginal"]
    for name in ("table.csv", "table.md", "table.tex", "table.parquet", "report.html"):
        assert (tmp_path / "made" / name).is_file()
    told = r"made: this is the folder of a benchmark, whose page is made.report\.html;"
    with pytest.raises(de.ConfigurationError, match=told):
        de.report("made")
    config = "cells/other/cross-subject/small/marginal/config.toml"
    theirs, ours = (root / "made" / config for root in (folder, tmp_path))
    assert ours.read_text() == theirs.read_text()


def test_from_python_a_file_names_its_folder_and_a_mapping_needs_one(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    text = ONE.replace('adapters = ["marginal"]', 'adapters = ["none"]')
    Path("mine.toml").write_text(text, encoding="utf-8")
    table = de.benchmark("mine.toml")
    assert Path("runs/benchmark-mine/table.csv").is_file() and len(table) == 3
    with pytest.raises(de.ConfigurationError, match="output=FOLDER"):
        de.benchmark(tomllib.loads(text))


@pytest.mark.parametrize(
    ("given", "said", "sentence"),
    [
        ({"adaptres": []}, {}, "Did you mean 'adapters'"),
        ({"seeds": [None]}, {}, "holds what a TOML file cannot"),
        ({}, {"datasets": ["simulatd"]}, "no data set 'simulatd'.*'simulated'"),
        ({}, {"datasets": []}, "none of its data sets is chosen"),
    ],
)
def test_from_python_what_is_misspelt_is_told_too(given, said, sentence, tmp_path):
    with pytest.raises(de.ConfigurationError, match=sentence):
        de.benchmark(given, output=tmp_path / "made", **said)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("theirs", ["table.tex", "config.toml", *PLACES])
def test_a_folder_that_is_no_benchmarks_is_left_alone(tmp_path, theirs):
    place = tmp_path / theirs
    place.write_text("mine") if "." in theirs else place.mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    if theirs == "config.toml":
        (tmp_path / "cells").mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    if theirs in PLACES:  # of a benchmark that was killed, with a note beside it
        de.benchmark(tomllib.loads(ONE), output=tmp_path)
        return
    with pytest.raises(de.ConfigurationError, match="nothing was written"):
        de.benchmark(tomllib.loads(ONE), output=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_from_python_what_has_no_number_says_why(tmp_path):
    text = ONE.replace('["marginal"]', f'["{REFUSED}"]')
    table = de.benchmark(tomllib.loads(text), output=tmp_path / "made")
    failed = table[table["why"] != ""]
    assert list(failed["method"]) == [REFUSED]
    assert "batch normalisation" in failed["why"].item()


# ------------------------------------------------------------------- tables in the docs

DOCS = Path(__file__).parents[1] / "docs"
KEPT = {
    "example": "benchmark",
    "systems": "systems",
    "eegmat-sequences": "eegmat",
    "eegmat-windows": "eegmat",
    "methods": "methods-table",
    "uf-ama-ablation": "uf-ama",
    "uf-ama-ablation-eegmat": "uf-ama",
    "r2gfanet-ablation": "r2gfanet",
    "mmstg-net-ablation": "mmstg-net",
    "physiosync-ablation": "physiosync",
    "screening": "screening",
    "branch-share": "systems",
}
"""The tables that are kept beside the docs, and the page that shows each."""


def lines_of(row):
    """Return the Markdown of a row of table.csv, by the docs and Python's own csv."""

    def interval(value, low, high, sign=""):
        if not row[value]:
            return "-"
        known = row[low] and row[high]
        ends = [f"{float(row[each]):{sign}.3f}" for each in (low, high) if known]
        return f"{float(row[value]):{sign}.3f}" + (f" [{', '.join(ends)}]" * bool(ends))

    def number(value, form):
        return format(float(row[value]), form) if row[value] else "-"

    differences = ("difference", "difference_low", "difference_high")
    linear = [f"linear_{name}" for name in differences]
    return " | ".join(
        [
            row["rank"] + "=" * (row["tied"] == "True"),
            row["backbone"] or "-",
            row["method"],
            interval("balanced_accuracy", "low", "high"),
            interval(*differences, sign="+"),
            number("p", ".2g"),
            interval(*linear, sign="+"),
            number("linear_p", ".2g"),
            number("parameters", ",.0f"),
            number("seconds", ".1f"),
        ]
    )


def test_the_markdown_is_the_table(made):
    """Every row in its order, whatever has no number below, from memory or the file."""
    folder, _, _ = made
    text = (folder / "table.md").read_text(encoding="utf-8")
    assert text == as_markdown(read_findings(folder / "table.csv")) + "\n"
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    shown = [line.strip("| ") for line in text.splitlines() if line.startswith("| ")]
    assert shown[2:] == [lines_of(row) for row in rows if not row["why"]]
    left = [line for line in text.splitlines() if line.startswith("- No number")]
    assert left == [
        f"- No number: {row['method']} on {row['backbone']}. {row['why']}"
        for row in rows
        if row["why"]
    ]
    first = text.splitlines()[0]
    assert "per window, 3 subjects; seeds 0, 1; transductive; eeg, eye;" in first


@pytest.mark.parametrize("name", KEPT)
def test_a_table_in_the_docs_is_what_a_benchmark_wrote(name):
    page = (DOCS / f"{KEPT[name]}.md").read_text(encoding="utf-8")
    shown = page.split(f"<!-- {name} -->\n")[1].split(f"\n<!-- end of {name} -->")[0]
    path = DOCS / "tables" / f"{name}.csv"
    assert shown == as_markdown(read_findings(path))


def test_a_bar_in_a_name_divides_no_cell(made):
    table = read_findings(made[0] / "table.csv")
    named = table.assign(method=table["method"].str.replace("source", "a | b"))
    rows = [line for line in as_markdown(named).splitlines() if line.startswith("|")]
    cells = {len(re.split(r"(?<!\\)\|", row)) for row in rows}
    assert any(r"a \| b" in row for row in rows) and len(cells) == 1


def test_every_table_that_is_kept_is_shown():
    kept = {path.stem for path in (DOCS / "tables").glob("*.csv")}
    assert kept == {*KEPT, "hollow-numbers"}  # which has a test of its own


def test_the_latex_is_the_table(made):
    """A row for each, as in the Markdown, and what has no number said so."""
    folder, _, _ = made
    text = (folder / "table.tex").read_text(encoding="utf-8")
    rows = [line.split(" \\\\")[0] for line in text.splitlines() if " & " in line][1:]
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    left = ["no number", *"------"]
    expected = [
        ["-", row["backbone"], row["method"], *left]
        if row["why"]
        else lines_of(row).split(" | ")
        for row in found
    ]
    place = ["simulated", "cross-subject"]
    expected = [[*place, *each] for each in expected]
    assert [[each.strip() for each in row.split(" & ")] for row in rows] == expected


# -------------------------------------------------------------------------- the example


def test_the_example_of_the_docs_is_the_file():
    root = Path(__file__).parents[1]
    example = (root / "benchmarks" / "example.toml").read_text(encoding="utf-8")
    page = (root / "docs" / "benchmark.md").read_text(encoding="utf-8")
    assert f"```toml\n{example}```" in page


FOLDER = re.compile(r'datasets? = \[?"([^"]*/[^"]*)"')
SHIPPED = sorted((DOCS.parent / "benchmarks").glob("*.toml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_file_can_be_read(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in dict.fromkeys(re.findall(FOLDER, path.read_text(encoding="utf-8"))):
        data = de.Simulated(subjects=2, sessions=1, trials=3).load()
        de.write_table(data, tmp_path / folder)
    text = path.read_text(encoding="utf-8")
    text = text.replace('\nadapters = "all"', '\nadapters = ["dann"]')
    assert grid(tmp_path, text, "nowhere").cells()


# ------------------------------------------------------------------------------- kills


@pytest.mark.campaign
@pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="needs Linux's /proc"
)
def test_killed_twice_it_ends_with_the_same_table(tmp_path):
    """But for the seconds of what was trained anew."""
    text = FILE.replace("seeds = [0, 1]", "seeds = [0]")
    lines = []
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        (folder / "bench.toml").write_text(text, encoding="utf-8")
    command = ["benchmark", "bench.toml", "--output=made", "--jobs=1"]
    environment = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, killing.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment, "OPENBLAS_NUM_THREADS": "1"},
    )

    def run(folder, kind=None, moment=0.0):
        process.stdin.write(json.dumps([str(folder), command, kind, moment]) + "\n")
        process.stdin.flush()
        lines.append(json.loads(process.stdout.readline()))
        assert "Traceback" not in lines[-1]["said"], lines[-1]["said"]
        return lines[-1]

    worked = run(whole)["worked"]
    for share in (0.4, 0.4):
        assert run(killed, signal.SIGKILL, share * worked)["code"] == -signal.SIGKILL
        assert not (killed / "made" / "table.csv").exists()
    assert run(killed)["code"] == 1  # of the cells that cannot be run
    process.communicate()
    tables = [
        pd.read_csv(folder / "made" / "table.csv", dtype=str).drop(columns="seconds")
        for folder in (whole, killed)
    ]
    assert tables[0].to_csv() == tables[1].to_csv()
