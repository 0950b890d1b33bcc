"""Trained folds as files: run by onnxruntime and by torch alone, as in the run."""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import domainemo as de
from domainemo.backbones.wrapper import Wrapped
from domainemo.cli import main
from domainemo.cli.configuration import stored_experiment
from domainemo.core import Backbone
from domainemo.errors import ConfigurationError, DataError, RunError
from domainemo.registry import entries, register
from domainemo.review import export as exporting
from domainemo.review.reading import match_recordings
from domainemo.runs.checks import canonical
from domainemo.runs.experiment import experiment

PAGE = (Path(__file__).parents[1] / "docs" / "export.md").read_text("utf-8")
NAMES = [entry.name for entry in entries("backbone")]
TINY = {
    "bilstm-attention": {"width": 4, "attention_width": 4},
    "concatenation-mlp": {"width": 4},
    "deep-cca": {"width": 4},
    "dgcnn": {"width": 4, "filters": 4, "spectrum": "exact"},
    "maet": {"width": 8, "blocks": 1, "heads": 2, "view_count": 2, "mixture_from": 0},
    "mmstg-net": {"width": 4, "block_widths": (4,), "spectrum": "exact"},
    "physiosync": {"short_width": 4, "long_width": 4, "blocks": 1, "length": 2},
    "r2gfanet": {"width": 8, "heads": 2},
    "uf-ama": {"width": 8},
}
LENGTH = 4  # of sequences: more than some trials have
CHOICES = {
    "folds": ["subject 1"],
    "device": "cpu",
    "epochs": 1,
}
PREDICTING = {
    "adapter": "domain-specific-normalisation",
    "baselines": True,
    "controls": "majority-class",
    "options": {"training.temperature": "held-out"},
}


def recordings() -> de.EmotionData:
    """Return recordings with gaps of every kind."""
    data = de.Simulated(subjects=3, sessions=2, trials=3, windows=(3, 5)).load()
    data = data.take(canonical(data.inputs))
    signals = {name: each.copy() for name, each in data.inputs.signals.items()}
    at = data.inputs.windows
    signals["eeg"][1, 2, 3] = np.nan
    signals["eeg"][4] = np.nan
    signals["eye"][2:4] = np.nan
    lost = (at["subject"] == 1) & (at["session"] == 2)
    signals["eye"][lost] = np.nan  # for a whole session
    return replace(data, inputs=replace(data.inputs, signals=signals))


@pytest.fixture(scope="module")
def data():
    return recordings()


def run(data, output, backbone, **choices):
    options = {f"backbone.{k}": v for k, v in TINY.get(backbone, {}).items()}
    if backbone in ("bilstm-attention", "mmstg-net", "r2gfanet"):
        choices["sampling"], options["sampling.length"] = "sequences", LENGTH
    options |= choices.pop("options", {})
    given = {"adapter": "none", "baselines": False, **CHOICES, **choices}
    return de.run(data, backbone=backbone, options=options, output=output, **given)


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory):
    """A run whose adapter predicts, and whose probabilities have a temperature."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    return run(data, folder, "concatenation-mlp", **PREDICTING)


def shown_to(data, results):
    """Return the fold's test samples as recorded, their subject and probabilities."""
    adapter = results.description["adapter"]
    (path,) = results.folder.glob(f"folds/*/*/{adapter}/predictions.npz")
    members = np.load(path)["members"]
    signals = {name: each[members] for name, each in data.inputs.signals.items()}
    for values in signals.values():
        values[members < 0] = np.nan
    rows = results.predictions[results.predictions["method"] == results.method]
    first = data.inputs.windows.iloc[members[:, 0]]
    expected = rows[[f"p_{name}" for name in data.classes]].to_numpy()
    return signals, first["session"].to_numpy(), expected


def opened(path):
    session = onnxruntime.InferenceSession(str(path))
    said = session.get_modelmeta().custom_metadata_map
    return session, {k: json.loads(v) if v[0] in "[{" else v for k, v in said.items()}


# ------------------------------------------------------------------- the same numbers


@pytest.mark.parametrize("backbone", NAMES)
def test_onnx_predicts_what_the_run_did(data, tmp_path, backbone):
    results = run(data, tmp_path / "run", backbone)
    path = de.export(results.folder, "onnx", tmp_path / "m.onnx", recordings=data)
    session, about = opened(path)
    signals, sessions, expected = shown_to(data, results)
    group = np.array(
        [about["groups"].index(f"subject 1, session {s}") for s in sessions]
    )
    (found,) = session.run(None, {**signals, "group": group})
    assert np.abs(found - expected).max() < 1e-5
    assert len(np.unique(expected.argmax(1))) > 1 or np.ptp(expected) > 1e-3
    one = {name: each[3:4] for name, each in {**signals, "group": group}.items()}
    np.testing.assert_allclose(session.run(None, one)[0], found[3:4], atol=1e-6)
    assert about["classes"] == list(data.classes) and about["fold"] == "subject 1"
    described = data.inputs.modalities["eye"]
    assert about["modalities"]["eye"]["channels"] == list(described.channels)
    assert tuple(session.get_inputs()[0].shape) == ("batch", *signals["eeg"].shape[1:])


def test_torch_alone_predicts_what_the_run_did(data, plain, tmp_path):
    told = []
    path = de.export(
        plain.folder, "torch", tmp_path / "m.pt2", recordings=data, tell=told.append
    )
    assert "at most from the run's own probabilities" in told[0]
    files = {"about.json": ""}
    program = torch.export.load(path, extra_files=files).module()
    groups = json.loads(files["about.json"])["groups"]
    signals, sessions, expected = shown_to(data, plain)
    tensors = {name: torch.from_numpy(each) for name, each in signals.items()}
    own = [groups.index(f"subject 1, session {each}") for each in sessions]
    found = program(tensors, torch.tensor(own)).numpy()
    assert np.abs(found - expected).max() < 1e-5
    # By the source's mean and deviation: as the library predicts with it.
    source = torch.full((len(own),), groups.index("source"))
    where = data.inputs.windows["subject"].to_numpy() == 1
    person = data.inputs.take(np.flatnonzero(where))
    model = de.Model.load(plain.folder, adapter=PREDICTING["adapter"])
    by_source = model.predict(person, normalise_by="source")
    columns = [f"p_{name}" for name in data.classes]
    found = program(tensors, source).numpy()
    assert np.abs(found - by_source[columns].to_numpy()).max() < 1e-5
    # As the card tells to do it by hand, of a person whom the file does not know.
    where = data.inputs.windows["subject"].to_numpy() == 2
    person = data.inputs.take(np.flatnonzero(where))
    scores = {}
    for name, array in person.signals.items():
        scores[name] = torch.empty(len(array), 1, *array.shape[1:])
        for session in (1, 2):
            here = person.windows["session"].to_numpy() == session
            part = array[here].astype(np.float64)
            mean, deviation = np.nanmean(part, 0), np.nanstd(part, 0)
            scores[name][here, 0] = torch.tensor((part - mean) / deviation).float()
    stay = torch.full((len(person),), groups.index("already normalised"))
    found = program(scores, stay).numpy()
    library = model.predict(person)
    assert np.abs(found - library[columns].to_numpy()).max() < 1e-4


class Convolving(Wrapped):
    """Somebody's network, unedited."""

    def __init__(self, modalities):
        network = torch.nn.Sequential(
            torch.nn.Conv1d(62, 4, 2), torch.nn.GELU(), torch.nn.Flatten()
        )
        layers = {"eeg": "2", "fusion": "2"}
        super().__init__(modalities, network, branches=layers)


def test_a_network_of_ones_own_is_written_too(data, tmp_path):
    register(name="convolving")(Convolving)
    chosen = {"modalities": ["eeg"], "backbone": Convolving}
    results = run(data, tmp_path / "run", **chosen)
    told = []
    kept = {"recordings": data, "tell": told.append}
    assert de.export(results.folder, "torch", **kept).is_file()
    assert "from the run's own probabilities (" in told[0]


def test_a_model_of_everybody_takes_the_sources_scale(data, tmp_path):
    chosen = {"backbone": "deep-cca", "epochs": 1, "normalisation": "source"}
    model = de.train(data, **chosen, output=tmp_path / "model")
    path = de.export(tmp_path / "model", "torch")
    assert path.parent == tmp_path / "model" and path.suffix == ".pt2"
    program = torch.export.load(path).module()
    signals = {
        name: torch.from_numpy(each[:, None].copy())
        for name, each in data.inputs.signals.items()
    }
    expected = model.predict(data)[[f"p_{name}" for name in data.classes]].to_numpy()
    assert np.abs(program(signals).numpy() - expected).max() < 1e-5
    card = Path(f"{path}.md").read_text("utf-8")
    assert "no score is known" in card and "Nobody was tested." in card
    assert "| group | int64" not in card


# ------------------------------------------------------------------------------- card


def test_the_card_says_how_the_number_was_obtained(data, plain, tmp_path):
    path = de.export(plain.folder, "torch", tmp_path / "m.pt2", recordings=data)
    card = Path(f"{path}.md").read_text("utf-8")
    row = plain.table[plain.table["method"] == plain.method].iloc[0]
    assert f"| {plain.method} | {row['balanced_accuracy']:.3f} |" in card
    assert "| majority class | 0.333 |" in card
    for said in ("dataset", "protocol", "normalisation", "target_seen"):
        assert str(row[said])[1:] in card, said
    for said in ("Seed: 0", "last epoch, 1", "torch 2", "for nothing else", "fit for"):
        assert said in card, said
    groups = re.findall(r"^\| (\d) \| ([^|]+) \|", card, re.MULTILINE)
    assert [name for _, name in groups] == [
        "subject 1, session 1",
        "subject 1, session 2",
        "source",
        "already normalised",
    ]


def test_without_recordings_the_file_says_so(plain, tmp_path):
    told = []
    kept = {"recordings": False, "tell": told.append}
    path = de.export(plain.folder, "torch", tmp_path / "m.pt2", **kept)
    assert "of noise, as no test windows were read" in told[0]
    assert "subject 1, session 1" not in Path(f"{path}.md").read_text("utf-8")


# -------------------------------------------------------------------------- refusals


def test_what_does_not_fit_is_refused(data, plain, tmp_path, monkeypatch):
    def export(to="torch", name="m.pt2", **choices):
        given = {"recordings": data, **choices}
        return de.export(plain.folder, to, tmp_path / name, **given)

    with pytest.raises(ConfigurationError, match="--to is 'tflite'; expected one of"):
        export("tflite")
    with pytest.raises(ConfigurationError, match=r"found the ending '\.pt2'; expected"):
        export("onnx")
    with pytest.raises(ConfigurationError, match="no trained fold of fold subject 9"):
        export(fold="subject 9")
    other = de.Simulated(subjects=3, sessions=2, trials=3, windows=(3, 5), seed=1)
    with pytest.raises(DataError, match="not, to the last value and label"):
        export(recordings=other.load())
    with pytest.raises(ConfigurationError, match="made from Python"):
        export(recordings=True)

    def old(*arguments, **choices):
        raise ModuleNotFoundError("No module named 'onnxscript.values'")

    with monkeypatch.context() as patch:
        patch.setattr(torch.export, "export", old)
        with pytest.raises(ConfigurationError, match="Expected newer packages"):
            export()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'domainemo\[export\]'"):
        export("onnx", "m.onnx")
    (tmp_path / "m.pt2.md").write_text("mine")
    with pytest.raises(ConfigurationError, match="was not overwritten"):
        export()
    assert [each.name for each in tmp_path.iterdir()] == ["m.pt2.md"]


def test_a_normalisation_that_no_file_holds_is_refused_by_name(data, tmp_path):
    scaled = {"normalisation": "euclidean-alignment"}
    results = run(data, tmp_path / "run", "concatenation-mlp", **scaled)
    with pytest.raises(ConfigurationError, match="'euclidean-alignment', which is"):
        de.export(results.folder, "torch", recordings=data)


class Sorting(Backbone):
    """Its shapes depend on values."""

    def __init__(self, modalities):
        super().__init__()
        self.sampling = de.Windows()
        self.layer = torch.nn.LazyLinear(3)
        self.layer(torch.zeros(1, 62 * 5))

    def forward(self, signals, masks):
        there = masks["eeg"].all(-1).nonzero().squeeze(-1)
        hidden = self.layer(signals["eeg"].flatten(1)[there])
        found = hidden.new_zeros(masks["eeg"].shape[0], 3)
        if len(there) > 1:
            found[there] = hidden
        return {"eeg": found, "eye": found, "fusion": found}


def test_a_network_that_is_no_graph_is_refused_by_name(data, tmp_path):
    register(name="sorting")(Sorting)
    chosen = {"backbone": Sorting, "adapter": "none", "baselines": False, **CHOICES}
    de.run(data, **chosen, output=tmp_path / "run")
    with pytest.raises(ConfigurationError, match=r"Sorting, with what .* cannot be w"):
        exporting.export_fold(tmp_path / "run", experiment(**chosen), "torch")


def test_a_file_that_predicts_otherwise_is_not_kept(data, plain, tmp_path, monkeypatch):
    def wrong(module, about):
        return b"", lambda signals, group: module(signals, group).numpy() + 0.1

    chosen = stored_experiment(plain.folder)
    monkeypatch.setattr(exporting, "_KINDS", {"torch": wrong})
    with pytest.raises(RunError, match=r"differ by 0\.1 from the run's own"):
        exporting.export_fold(
            plain.folder,
            chosen,
            "torch",
            tmp_path / "m.pt2",
            recordings=match_recordings(plain.folder, data, chosen),
        )
    assert not [*tmp_path.iterdir()]


# ------------------------------------------------------------------------------- page


def test_the_page_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny = "--set=data.subjects=3 --set=data.sessions=1 --set=data.trials=3 --epochs=1"
    for line in re.findall(r"^    domainemo (.*)$", PAGE, re.MULTILINE):
        words = shlex.split(line)
        if words[0] in ("adapt", "train"):
            words += [*tiny.split(), "--set=backbone.width=4"]
        if words[0] == "adapt":
            words += ["--jobs=1", "--controls=majority-class", "--fold=subject 1"]
        monkeypatch.setattr(sys, "argv", ["domainemo", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, line
    assert (
        "first.pt2 is the network, first.pt2.md its card. Its prob"
        in capsys.readouterr().out
    )
    names = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(code, "page", "exec"), names)
    assert names["probabilities"].shape == (5, 3)


def test_the_card_says_what_tested_labels_left_out(tmp_path):
    made = de.Simulated(subjects=3, sessions=1, trials=6, windows=(2, 3)).load()
    for name, choices in (("all", {}), ("two", {"classes": made.classes[:2]})):
        found = run(made, tmp_path / name, "concatenation-mlp", **choices)
        de.export(found.folder, "torch", tmp_path / f"{name}.pt2", recordings=made)
    cards = [path.read_text(encoding="utf-8") for path in tmp_path.glob("*.md")]
    said = ["for nothing else, but to leave out windows, as said" in c for c in cards]
    assert sorted(said) == [False, True]
    assert all("for nothing else" in card for card in cards)
