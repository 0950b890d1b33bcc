"""Interpretation: attention finds planted regions; tables, figures, the command."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

import domainemo as de
from domainemo.backbones.explanation import Explainable
from domainemo.backbones.regions import PARTITIONS, regions
from domainemo.cli import main
from domainemo.data.normalisation import normalise
from domainemo.errors import ConfigurationError, DataError
from domainemo.reports.attention import (
    _flat_places,
    class_means,
    draw_regions,
    figures,
)
from domainemo.reports.connectivity import _matrix, connection_means
from domainemo.reports.style import save
from domainemo.review.interpretation import (
    Interpretation,
    _Temporal,
    find_folds,
    interpret,
)
from domainemo.runs.experiment import experiment
from domainemo.runs.model import load_trained
from domainemo.training.batches import sample

PLANTED = ("left temporal", "right frontal", "occipital")
SMALL = {"backbone.width": 16, "backbone.heads": 2, "backbone.feedforward": 32}
CHOICES = {
    "backbone": "r2gfanet",
    "adapter": "none",
    "baselines": False,
    "device": "cpu",
    "training": de.Training(epochs=24),
    "options": SMALL,
}
CHANNELS = de.Simulated(subjects=1, trials=3).load().inputs.modalities["eeg"].channels


def recordings(size: float) -> de.EmotionData:
    """Return recordings in which nothing but three regions tells the classes."""
    data = de.Simulated(
        subjects=4, sessions=1, trials=12, classes=2, effect=0, stimulus_effect=0
    ).load()
    parts = regions(CHANNELS)
    eeg = data.inputs.signals["eeg"].copy()
    sign = np.where(data.labels == 1, 0.2 * size, -0.2 * size)
    for electrode in (each for name in PLANTED for each in parts[name]):
        eeg[:, electrode, 2:4] += sign[:, None]
    inputs = replace(data.inputs, signals={**data.inputs.signals, "eeg": eeg})
    return replace(data, inputs=inputs)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted") / "run"
    data = recordings(1.5)
    de.run(data, **CHOICES, output=folder)
    return folder, data


@pytest.fixture(scope="module")
def made(planted):
    folder, data = planted
    chosen = experiment(**CHOICES)
    return interpret(find_folds(folder, chosen), chosen, data.inputs)


# --------------------------------------------------------------------- known truth


def by_fold(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return the mean over a fold's samples; a row per fold, a column per region."""
    total = (table[column] * table["samples"]).groupby([table["fold"], table["region"]])
    samples = table.groupby(["fold", "region"])["samples"]
    return (total.sum() / samples.sum()).unstack("region")


def chance(values: pd.DataFrame) -> float:
    """Return how likely such ranks of the planted regions are by chance, exactly.

    The rank sum of three out of 16 is enumerated; folds are convolved.
    """
    ranks = values.rank(axis=1, ascending=False)[list(PLANTED)].sum(axis=1)
    sums = [sum(each) for each in combinations(range(1, 17), 3)]
    single = np.bincount(sums) / len(sums)
    total = np.ones(1)
    for _ in ranks:
        total = np.convolve(total, single)
    return float(total[: int(ranks.sum()) + 1].sum())


@pytest.mark.parametrize("column", ["attention", "occlusion"])
def test_the_regions_that_carry_the_classes_are_found(made, column):
    values = by_fold(made.regions, column)
    assert values.shape == (4, 16)
    assert chance(values) < 1e-4
    best = values.mean().nlargest(3).index
    assert set(best) == set(PLANTED)


def test_the_rank_test_is_exact():
    """Against shuffled ranks."""
    generator = np.random.default_rng(0)
    names = list(PARTITIONS["16"])
    drawn = [
        chance(pd.DataFrame(generator.random((2, 16)), columns=names))
        for _ in range(400)
    ]
    assert np.mean(np.array(drawn) < 0.05) == pytest.approx(0.05, abs=0.035)
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.05)


# -------------------------------------------------------------------------- tables


def test_attention_sums_to_one_and_samples_are_the_test_samples(planted, made):
    table = made.regions
    keys = ["fold", "subject", "predicted"]
    assert np.allclose(table.groupby(keys)["attention"].sum(), 1, atol=1e-5)
    predictions = pd.read_csv(planted[0] / "predictions.csv")
    predictions["predicted"] = np.array(["negative", "positive"])[
        predictions["predicted"]
    ]
    counts = predictions.groupby(["subject", "predicted"]).size()
    found = table.groupby(["subject", "predicted"])["samples"].first()
    pd.testing.assert_series_equal(found, counts, check_names=False)


def test_tables_agree_with_a_slow_computation(planted, made):
    """One fold, sample by sample: attention, occlusion and cross-modal attention."""
    folder, data = planted
    trained, inputs, rows = one_fold(folder, data)
    network, channels = trained.network, inputs.modalities["eeg"].channels
    means = np.nanmean(inputs.signals["eeg"], axis=0)
    electrodes = regions(channels)["occipital"]
    attention, falls, heard = [], [], []
    for row in rows:
        signals, masks = batch(inputs, row)
        full = probabilities(network, signals, masks)
        other = {name: value.clone() for name, value in signals.items()}
        for step in np.flatnonzero(masks["eeg"][0].numpy()):
            for each in electrodes:
                other["eeg"][0, step, each] = torch.from_numpy(means[each])
        label = int(full.argmax())
        lost = full[label] - probabilities(network, other, masks)[label]
        explained = network.backbone.explain(signals, masks)
        attention.append((label, float(explained.spatial[0][-1])))
        falls.append((label, float(lost)))
        if masks["eeg"][0, 1] and masks["eye"][0, 4]:
            # EEG window 2 listens to eye window 5.
            heard.append(float(explained.temporal["eye"][0, :, :, 1, 4].mean()))
    table = made.regions.query("fold == 'subject 2' and region == 'occipital'")
    for column, slow in (("attention", attention), ("occlusion", falls)):
        expected = pd.DataFrame(slow).groupby(0)[1].mean()
        found = table.set_index("predicted")[column]
        for label, value in expected.items():
            name = trained.classes[label]
            assert found[name] == pytest.approx(value, abs=1e-5)
    cell = made.moments.query(
        "fold == 'subject 2' and eeg_window == 2 and companion_window == 5"
    )
    assert cell["pairs"].item() == len(heard)
    assert cell["attention"].item() == pytest.approx(np.mean(heard), abs=1e-6)


def one_fold(folder: Path, data: de.EmotionData):
    """Return the trained fold that tested subject 2, its test windows and samples."""
    chosen = experiment(**CHOICES)
    trained = load_trained(find_folds(folder, chosen, fold="subject 2")[0], chosen)
    everything = np.arange(len(data))
    normalised, _ = normalise(
        data.inputs, "session", source=everything, target=everything
    )
    subjects = normalised.windows["subject"].to_numpy()
    inputs = normalised.take(np.flatnonzero(subjects == 2))
    sampling = trained.network.backbone.sampling
    _, members = sample(inputs, np.arange(len(inputs)), sampling, torch.device("cpu"))
    return trained, inputs, members


def batch(inputs: de.Inputs, row: np.ndarray):
    signals, masks = {}, {}
    for name, array in inputs.signals.items():
        values = np.where((row >= 0)[:, None, None], array[row], np.nan)
        masks[name] = torch.from_numpy(np.isfinite(values).all((1, 2)))[None]
        signals[name] = torch.from_numpy(np.nan_to_num(values))[None]
    return signals, masks


def probabilities(network, signals, masks) -> np.ndarray:
    with torch.no_grad():
        return network(signals, masks).logits["fusion"][0].softmax(-1).numpy()


def test_lags_and_windows_count_what_was_recorded():
    """Attention to the window before, only: lag -1 holds it all."""
    weights = np.zeros((1, 2, 3, 3))
    weights[0, :, 1, 0] = weights[0, :, 2, 1] = 1.0
    total = _Temporal(2, 3)
    eeg = np.array([[True, True, True]])
    companion = np.array([[True, True, False]])
    total.add(weights, eeg, companion)
    moments = total.moments(1, "eye")
    assert len(moments) == 6 and set(moments["companion_window"]) == {1, 2}
    heard = moments[moments["attention"] > 0]
    assert list(zip(heard["eeg_window"], heard["companion_window"], strict=True)) == [
        (2, 1),
        (3, 2),
    ]
    assert (heard["ratio"] == 2).all()  # of two windows, one is heard
    lags = total.lags(1, "eye", ("front", "back"))
    assert set(lags["region"]) == {"front", "back"}
    back = lags[lags["region"] == "back"].set_index("lag")
    assert back["pairs"].to_dict() == {-2: 1, -1: 2, 0: 2, 1: 1}
    assert back["attention"].to_dict() == {-2: 0, -1: 1, 0: 0, 1: 0}


def test_without_a_companion_there_is_no_cross_modal_table(tmp_path):
    data = de.Simulated(subjects=2, sessions=1, trials=3, windows=(3, 4)).load()
    choices = {**CHOICES, "modalities": ["eeg"], "training": de.Training(epochs=1)}
    de.run(data, **choices, output=tmp_path / "run")
    chosen = experiment(**choices)
    found = interpret(find_folds(tmp_path / "run", chosen), chosen, data.inputs)
    assert len(found.regions) and not len(found.moments) and not len(found.lags)
    assert set(figures(found)) == {"attention", "occlusion"}


# ------------------------------------------------------------------------- refusals


def test_other_recordings_are_refused(planted):
    folder, data = planted
    chosen = experiment(**CHOICES)
    found = find_folds(folder, chosen, fold="subject 1")
    with pytest.raises(DataError, match="not the recordings"):
        interpret(found, chosen, recordings(0.0).inputs)
    few = data.take(np.flatnonzero(data.inputs.windows["subject"].to_numpy() != 1))
    with pytest.raises(DataError, match="not the recordings"):
        interpret(found, chosen, few.inputs)


def test_what_is_not_there_is_said(planted, tmp_path):
    chosen = experiment(**CHOICES)
    with pytest.raises(ConfigurationError, match=r"fold subject 9.*subject 1, subj"):
        find_folds(planted[0], chosen, fold="subject 9")
    with pytest.raises(ConfigurationError, match="no trained fold"):
        find_folds(tmp_path, chosen)


def test_a_backbone_without_attention_is_refused(tmp_path):
    data = de.Simulated(subjects=2, sessions=1, trials=3, windows=(3, 4)).load()
    choices = {
        **CHOICES,
        "backbone": "uf-ama",
        "options": {},
        "training": de.Training(epochs=1),
    }
    de.run(data, **choices, output=tmp_path / "run")
    with pytest.raises(ConfigurationError, match=r"'uf-ama' offers no attention.*r2gf"):
        find_folds(tmp_path / "run", experiment(**choices))


def test_r2gfanet_names_the_electrodes_of_its_regions():
    modalities = de.Simulated(subjects=1, trials=3).load().inputs.modalities
    network = experiment(**CHOICES).build_backbone(modalities)
    assert isinstance(network, Explainable)
    for name, members in network.electrodes.items():
        assert set(members) == set(PARTITIONS["16"][name])


# --------------------------------------------------------------------- connectivity


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    """A trained network of graphs, and its interpretation."""
    folder = tmp_path_factory.mktemp("joined") / "run"
    data = de.Simulated(
        subjects=2, sessions=1, trials=6, classes=2, windows=(5, 8), missing=0.1
    ).load()
    small = {"width": 8, "scale_width": 4, "block_widths": (8,), "partition": "6"}
    choices = {
        **CHOICES,
        "backbone": "mmstg-net",
        "training": de.Training(epochs=2),
        "options": {f"backbone.{name}": value for name, value in small.items()},
    }
    de.run(data, **choices, output=folder)
    chosen = experiment(**choices)
    found = find_folds(folder, chosen)
    return chosen, found, data, interpret(found, chosen, data.inputs)


def test_edges_and_what_is_lost_without_them_agree_with_a_slow_computation(joined):
    """Every pair of regions and sample by itself, edges cut in the graphs' weights."""
    chosen, folders, data, made = joined
    trained = load_trained(folders[1], chosen)
    network, backbone = trained.network, trained.network.backbone
    everything = np.arange(len(data))
    normalised, _ = normalise(
        data.inputs, "session", source=everything, target=everything
    )
    own = np.flatnonzero(normalised.windows["subject"].to_numpy() == 2)
    inputs = normalised.take(own)
    _, rows = sample(
        inputs, np.arange(len(own)), backbone.sampling, torch.device("cpu")
    )
    samples = [batch(inputs, row) for row in rows]
    names = list(backbone.electrodes)
    found = made.connections.query("fold == 'subject 2'")
    for one, other in (("frontal", "occipital"), ("central", "central")):
        falls = []
        for signals, masks in samples:
            whole = probabilities(network, signals, masks)
            pieces = []
            for graph, places in (
                (backbone.electrode_graph, [backbone.electrodes[n] for n in names]),
                (backbone.region_graph, [(n,) for n in names]),
            ):
                owner = [
                    n for n, group in zip(names, places, strict=True) for _ in group
                ]
                kept = [[{a, b} != {one, other} for b in owner] for a in owner]
                pieces.append((graph, torch.tensor(kept).float()))
            for graph, kept in pieces:
                edges = graph.adjacency() * kept
                graph.adjacency = lambda edges=edges: edges
            without = probabilities(network, signals, masks)
            for graph, _ in pieces:
                del graph.adjacency
            label = int(whole.argmax())
            falls.append((label, float(whole[label] - without[label])))
        expected = pd.DataFrame(falls).groupby(0)[1].mean()
        pair = found.query("region == @one and other == @other").set_index("predicted")
        assert len(pair) == len(expected) and pair["samples"].sum() == len(rows)
        for label, value in expected.items():
            told = pair["occlusion"][trained.classes[label]]
            assert told == pytest.approx(value, abs=1e-6)
    edges = made.connectivity.query("fold == 'subject 2' and graph == 'regions'")
    assert len(edges) == 6 * 7 / 2
    weight = edges.set_index(["region", "other"])["weight"]["frontal", "occipital"]
    numbers = names.index("frontal"), names.index("occipital")
    expected = backbone.region_graph.adjacency().detach()[numbers]
    assert weight == pytest.approx(float(expected))


def test_what_was_learnt_is_less_what_was_drawn(tmp_path):
    """Training that hardly moves learns nothing; one begun elsewhere is not told."""
    data = de.Simulated(
        subjects=3, sessions=1, trials=3, classes=2, windows=(3, 4)
    ).load()
    still = de.Training(epochs=1, learning_rate=1e-9, weight_decay=0.0)
    choices = {**CHOICES, "backbone": "mmstg-net", "options": {}, "training": still}
    de.run(data, **choices, output=tmp_path / "run")
    chosen = experiment(**choices)
    found = find_folds(tmp_path / "run", chosen, fold="subject 1")
    edges = interpret(found, chosen, data.inputs).connectivity
    assert edges["learned"].abs().max() < 1e-5 < 0.02 < edges["weight"].max()
    started = {"backbone": "mmstg-net", "output": tmp_path / "before"}
    de.pretrain(data, **started, training=de.Training(epochs=1))
    started = {**choices, "init_from": tmp_path / "before"}
    de.run(data, **started, output=tmp_path / "after")
    found = find_folds(tmp_path / "after", chosen, fold="subject 1")
    edges = interpret(found, chosen, data.inputs).connectivity
    assert edges["learned"].isna().all() and edges["weight"].notna().all()


def test_a_network_of_graphs_has_no_attention_and_says_what_regions_it_needs(joined):
    made = joined[-1]
    assert "attention" not in made.regions and not len(made.moments)
    assert np.isfinite(made.regions["occlusion"]).all()
    assert set(figures(made)) == {"occlusion", "connectivity", "connections"}


def test_the_matrices_of_regions_show_each_pair_on_both_sides(joined, tmp_path):
    made = joined[-1]
    save(figures(made)["connections"], tmp_path / "cuts.svg")
    for phrase in ("predicted negative", "occipital", "without the edges"):
        assert phrase in (tmp_path / "cuts.svg").read_text()
    means = connection_means(made.connections).iloc[0]
    matrix = _matrix(means, made)
    assert list(matrix.index) == list(matrix.columns) == list(made.electrodes)
    assert (matrix.to_numpy() == matrix.to_numpy().T).all()
    assert matrix.loc["occipital", "frontal"] == means["frontal", "occipital"]


# -------------------------------------------------------------------------- figures


def test_means_over_subjects_weigh_subjects_alike():
    table = pd.DataFrame(
        {
            "subject": [1, 1, 2, 1, 1, 2],
            "predicted": "happy",
            "region": ["front"] * 3 + ["back"] * 3,
            "attention": [0.2, 0.8, 0.9, 0.8, 0.2, 0.1],
            "samples": [3, 1, 1, 3, 1, 1],
        }
    )
    means = class_means(table)
    assert list(means.columns) == ["front", "back"]
    assert means.loc["happy", "front"] == pytest.approx((0.35 + 0.9) / 2)


def test_maps_show_the_ratio_to_even_attention_and_of_how_many_samples(monkeypatch):
    electrodes = {"front": ("FPZ",), "middle": ("CZ", "FC1"), "back": ("OZ",)}
    even = {"front": 1 / 3, "middle": 1 / 3, "back": 1 / 3}
    table = pd.DataFrame(
        [
            (subject, f"fold {subject}", predicted, region, share, 10 * subject)
            for subject in (1, 2)
            for predicted, shares in (
                ("sad", even),
                ("happy", {"front": 0.5, "middle": 0.3, "back": 0.2}),
            )
            for region, share in shares.items()
        ],
        columns=["subject", "fold", "predicted", "region", "attention", "samples"],
    ).assign(adapter="none", seed=0)
    none = pd.DataFrame()
    made = Interpretation(table, none, none, none, none, electrodes, "made up", "net")
    drawn = []
    monkeypatch.setattr(
        "domainemo.reports.attention._topomap",
        lambda axes, values, places, colours, limits: (
            drawn.append((values, limits))
            or axes.scatter([0], [0], c=[1.0], cmap=colours)
        ),
    )
    figure = draw_regions(made)
    (happy, limits), (sad, _) = drawn[:2]
    np.testing.assert_allclose(happy, [1.5, 0.9, 0.9, 0.6])
    np.testing.assert_allclose(sad, 1)  # regions of few electrodes do not glow
    np.testing.assert_allclose(limits, [0.5, 1.5])
    assert "n = 30, 2 networks, 2 subjects" in figure.axes[0].get_title()


def test_electrodes_lie_on_the_head_where_they_belong():
    places = dict(zip(CHANNELS, _flat_places(CHANNELS), strict=True))
    assert np.abs(places["CZ"]).max() < 0.15
    assert places["FPZ"][1] > 0.75 and abs(places["FPZ"][0]) < 0.05
    assert places["T7"][0] < -0.75 and places["T8"][0] > 0.75
    assert places["CB1"][0] < 0 and places["CB1"][1] < places["PO7"][1]
    assert all(np.hypot(*place) <= 1 for place in places.values())
    few = _flat_places(("Fp1", "T7"))  # the same places, whatever else is there
    assert np.allclose(few, [places["FP1"], places["T7"]])


@pytest.mark.parametrize(
    ("name", "ending"), [("attention", ".svg"), ("cross_modal", ".png")]
)
def test_figures_are_the_same_bytes_each_time(made, name, ending, tmp_path):
    first, again = tmp_path / f"1{ending}", tmp_path / f"2{ending}"
    for path in (first, again):
        save(figures(made)[name], path)
    assert first.read_bytes() == again.read_bytes()
    if ending == ".svg":
        for phrase in ("predicted negative", "predicted positive", "occipital"):
            assert phrase in first.read_text()
    with pytest.raises(ConfigurationError, match="not overwritten"):
        save(figures(made)[name], first)


# -------------------------------------------------------------------------- command


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Return a function that runs the command here: exit code, all that it said."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["domainemo", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), " ".join((said.out + said.err).split())

    return run


TINY = [
    "--set=data.subjects=2",
    "--set=data.classes=2",
    "--set=data.sessions=1",
    "--set=data.trials=3",
    "--set=data.windows=[3, 4]",
    "--set=backbone.width=8",
    "--set=backbone.heads=2",
    "--adapter=marginal",
    "--no-baselines",
    "--epochs=1",
    "--jobs=1",
]


def test_the_command_writes_tables_and_figures(call, tmp_path):
    assert call("adapt", *TINY, "--output", "run")[0] == 0
    code, said = call("interpret", "run")
    assert code == 0 and "classes as predicted" in said
    folder = tmp_path / "run" / "interpretation-marginal"
    names = {"attention", "occlusion", "cross_modal"}
    expected = {f"{name}{ending}" for name in names for ending in (".svg", ".png")}
    expected |= {"attention.csv", "cross_modal.csv", "cross_modal_lags.csv"}
    assert {path.name for path in folder.iterdir()} == expected
    table = pd.read_csv(folder / "attention.csv")
    assert set(table["fold"]) == {"subject 1", "subject 2"}
    assert set(table["adapter"]) == {"marginal"} and "label" not in table
    code, said = call("interpret", "run")
    assert code == 2 and "nothing was overwritten" in said
    assert call("interpret", "run", "--fold=subject 2", "--output=x")[0] == 0
    assert set(pd.read_csv(tmp_path / "x/attention.csv")["fold"]) == {"subject 2"}
    code, said = call("interpret", "run", "--adapter=none", "--output=y")
    assert code == 2 and "adapters marginal" in said
    # The run resumes as if nothing had happened.
    assert call("adapt", *TINY, "--output", "run")[0] == 0


def test_the_command_draws_what_a_network_of_graphs_has_learnt(call, tmp_path):
    other = [each for each in TINY if "heads" not in each and "adapter" not in each]
    small = [
        "--backbone=mmstg-net",
        "--adapter=mmstg-net",
        "--set=backbone.partition=6",
    ]
    assert call("adapt", *other, *small, "--output", "run")[0] == 0
    code, said = call("interpret", "run")
    assert code == 0 and "probability lost without the edges between" in said
    folder = tmp_path / "run" / "interpretation-mmstg-net"
    names = {"occlusion", "connectivity", "connections"}
    endings = (".csv", ".svg", ".png")
    expected = {f"{name}{ending}" for name in names for ending in endings}
    assert {path.name for path in folder.iterdir()} == expected


def test_the_command_says_where_recordings_are_unknown(call, planted):
    code, said = call("interpret", planted[0], "--output", "x")
    assert code == 2 and "made from Python" in said
    assert "domainemo.interpret(FOLDER, recordings=DATA)" in " ".join(said.split())


def test_one_call_from_python_makes_what_the_parts_make(planted, made):
    folder, data = planted
    found = de.interpret(str(folder), data, fold="subject 2")
    expected = made.regions.query("fold == 'subject 2'").reset_index(drop=True)
    pd.testing.assert_frame_equal(found.regions, expected)
    with pytest.raises(ConfigurationError, match="recordings=DATA"):
        de.interpret(folder)
    with pytest.raises(ConfigurationError, match=r"no config\.toml"):
        de.interpret(folder / "folds", data)


def test_what_is_drawn_is_the_figure_of_the_command(made, tmp_path):
    """Whatever matplotlib's settings are where it is called."""
    save(figures(made)["attention"], tmp_path / "theirs.svg")
    save(made.plot, tmp_path / "ours.svg")
    theirs, ours = (tmp_path / f"{name}.svg" for name in ("theirs", "ours"))
    assert theirs.read_bytes() == ours.read_bytes()
    sizes = {text.get_fontsize() for text in made.plot().axes[0].texts}
    with plt.rc_context({"font.size": 30}):
        again = made.plot().axes[0]
    assert {text.get_fontsize() for text in again.texts} == sizes
    assert again.title.get_fontsize() < 30
    bare = replace(made, regions=made.regions.drop(columns="attention"))
    assert "Occlusion" in bare.plot().texts[0].get_text()
