"""Learning of windows what is said of whole trials, and who may ask for trials."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import domainemo as de
from domainemo import (
    ConfigurationError,
    DomainemoWarning,
    Table,
    from_arrays,
    write_table,
)
from domainemo.adapters.distillation import Distillation
from domainemo.adapters.self_training.whole_trials import (
    WholeTrials,
    margins,
    sharpened,
)
from domainemo.core import FUSION, Adapter, Outputs, Source, Target
from domainemo.data import cache
from domainemo.registry import entries
from domainemo.runs.beside import _side_by_side
from domainemo.screens.confidence import Screening
from domainemo.training import loop
from domainemo.training.whole_trials import of_whole_trials

BRANCHES = ("eeg", "eye", FUSION)


def outputs(samples, classes=3, seed=0, lost=()):
    """A network's outputs; of the eyes, the samples `lost` are missing."""
    generator = torch.Generator().manual_seed(seed)
    there = torch.tensor([n not in lost for n in range(samples)])
    logits = {
        name: torch.randn(samples, classes, generator=generator) for name in BRANCHES
    }
    return Outputs({}, logits, {"eye": there})


def places(trials):
    """The place of the first sample of each one's trial."""
    return torch.tensor([trials.index(each) for each in trials], dtype=torch.long)


# ------------------------------------------------------------------- the mean opinion


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_the_mean_of_a_trial_against_a_loop(trials, seed):
    samples = outputs(len(trials), seed=seed, lost=range(0, len(trials), 3))
    found = of_whole_trials(samples, places(trials))
    for branch in BRANCHES:
        probabilities = samples.logits[branch].softmax(-1)
        there = samples.weight(branch)
        for place, trial in enumerate(trials):
            own = [
                probabilities[n]
                for n, other in enumerate(trials)
                if other == trial and there[n]
            ]
            alone = torch.zeros(3)
            expected = torch.stack(own).mean(0) if len(own) > 1 else alone
            torch.testing.assert_close(found[branch][place], expected)


def test_of_no_samples_nothing_is_made():
    found = of_whole_trials(outputs(0), places([]))
    assert all(each.shape == (0, 3) for each in found.values())


# --------------------------------------------------------------------------- the loss


@pytest.mark.parametrize("trust", ["margin", "all"])
@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_loss_against_a_loop(trust, temperature, classes):
    here = outputs(7, classes, lost=(1, 4))
    whole = of_whole_trials(outputs(7, classes, seed=1), places([0, 0, 1, 1, 1, 2, 0]))
    adapter = WholeTrials(weight=2.0, trust=trust, temperature=temperature)
    target = Target(here, 0.7, whole_trials=whole)
    losses = adapter(source(classes), target)
    shares = {"eeg": 0.25, "eye": 0.25, FUSION: 0.5}
    for branch in BRANCHES:
        errors = []
        for place in range(7):
            if branch == "eye" and place in (1, 4):
                continue
            mean = whole[FUSION][place].tolist()
            if place == 5:  # a trial of its own
                errors.append(0.0)
                continue
            margin = (classes * max(mean) - 1) / (classes - 1)
            log = here.logits[branch][place].log_softmax(-1).tolist()
            if temperature:
                powers = [each ** (1 / temperature) for each in mean]
                taught = [each / sum(powers) for each in powers]
            else:
                taught = [
                    float(place == mean.index(max(mean))) for place in range(classes)
                ]
            error = -sum(a * b for a, b in zip(taught, log, strict=True))
            errors.append(error * (margin if trust == "margin" else 1.0))
        expected = 2.0 * shares[branch] * sum(errors) / len(errors)
        assert float(losses[branch]) == pytest.approx(expected, rel=1e-5)


def source(classes=3):
    labels = torch.zeros(4, dtype=torch.long)
    return Source(outputs(4, classes), labels, labels)


def test_before_there_is_a_judge_nothing_is_learned():
    there = outputs(5)
    leaves = {name: each.requires_grad_() for name, each in there.logits.items()}
    losses = WholeTrials()(source(), Target(replace(there, logits=leaves), 0.1))
    assert set(losses) == set(BRANCHES)
    sum(losses.values()).backward()
    for name, leaf in leaves.items():
        assert losses[name] == 0 and not leaf.grad.any()


def test_a_trial_that_tells_nothing_teaches_nothing():
    assert margins(torch.full((2, 4), 0.25)).tolist() == [0.0, 0.0]
    sure = torch.tensor([[0.0, 1.0], [0.75, 0.25]])
    assert margins(sure).tolist() == [1.0, 0.5]


def test_a_temperature_keeps_the_order_and_what_is_certain():
    shares = torch.tensor([[0.6, 0.3, 0.1], [1.0, 0.0, 0.0], [0.4, 0.4, 0.2]])
    assert torch.equal(sharpened(shares, 1e-6)[1], shares[1])
    torch.testing.assert_close(sharpened(shares, 1.0), shares)
    torch.testing.assert_close(
        sharpened(shares, 0.5)[0], torch.tensor([0.36, 0.09, 0.01]) / 0.46
    )
    # Of two that are alike one is taken, as the prediction would be.
    assert sharpened(shares, 0.0).tolist() == [[1, 0, 0], [1, 0, 0], [1, 0, 0]]


# ---------------------------------------------------------------------- what it is told


class Watching(Adapter):
    """Writes down what it is told of trials."""

    needs_whole_trials = True

    def __init__(self, *, judged_from=0.5, momentum=None):
        super().__init__()
        self.judged_from, self.judge_momentum = judged_from, momentum
        self.told, self.known = [], []

    def forward(self, source, target):
        if target.whole_trials is not None:
            self.told.append((target.judge, target.whole_trials, target.trials))
        self.known.append((target.progress, target.whole_trials is not None))
        return {"nothing": target.outputs.logits[FUSION].sum() * 0}


def recordings(**changes):
    chosen = {"subjects": 3, "sessions": 1, "trials": 6, "windows": (2, 4), **changes}
    return de.Simulated(**chosen).load()


def trained(data, adapter, **choices):
    options = {
        "backbone": "concatenation-mlp",
        "training": de.Training(epochs=4, batch_size=8),
        "baselines": False,
        "device": "cpu",
        **choices,
    }
    return de.run(data, adapter=adapter, **options)


def test_the_trainer_tells_what_the_judge_makes_of_all_samples_of_a_trial(monkeypatch):
    """Found again by hand: all of the target through the judge, trial by trial."""
    from domainemo.training.fit import Fitting

    adapter, fittings = Watching(), []
    monkeypatch.setattr(
        "domainemo.runs.experiment.Experiment.build_adapter", lambda *_: adapter
    )
    shown = Fitting.show

    def watch(self, here, there, progress):
        fittings.append((self, there))
        return shown(self, here, there, progress)

    monkeypatch.setattr(Fitting, "show", watch)
    data = recordings()
    subject = str(data.inputs.windows["subject"].iloc[0])
    trained(data, "whole-trials", folds=[f"subject {subject}"])
    steps = len(adapter.known)
    assert [told for _, told in adapter.known] == [
        progress >= 0.5 for progress, _ in adapter.known
    ]
    assert 0 < len(adapter.told) < steps
    late = fittings[-len(adapter.told) :]
    for (judge, whole, trials), (fitting, there) in zip(
        adapter.told, late, strict=True
    ):
        assert judge is not None and trials is None
        target, model = fitting.target, fitting.judge.model
        with torch.no_grad():
            every = model(*target.batch(torch.arange(len(target))))
        number = target.trials[target.rows[:, 0]].tolist()
        by_trial = defaultdict(list)
        for place, each in enumerate(number):
            by_trial[each].append(every.logits[FUSION][place].softmax(-1))
        for place, sample in enumerate(there.tolist()):
            expected = torch.stack(by_trial[number[sample]]).mean(0)
            torch.testing.assert_close(whole[FUSION][place], expected)


def test_without_a_judge_nobody_can_be_asked(monkeypatch):
    monkeypatch.setattr(
        "domainemo.runs.experiment.Experiment.build_adapter",
        lambda *_: Watching(judged_from=None),
    )
    with pytest.raises(Exception, match="Watching says needs_whole_trials"):
        trained(recordings(), "whole-trials")


def test_a_judge_that_moves_is_asked_again_after_every_epoch(monkeypatch):
    """Found again by hand at the end of each epoch, and never what it was before."""
    from domainemo.training.fit import Fitting

    adapter, asked = Watching(judged_from=0.25, momentum=0.5), []
    monkeypatch.setattr(
        "domainemo.runs.experiment.Experiment.build_adapter", lambda *_: adapter
    )
    ended = Fitting.after_epoch

    def watch(self, epoch):
        found = ended(self, epoch)
        if self.judge.model is not None:
            with torch.no_grad():
                every = self.judge.model(
                    *self.target.batch(torch.arange(len(self.target)))
                )
            shares = every.logits[FUSION].softmax(-1)
            number = self.target.trials[self.target.rows[:, 0]]
            expected = [shares[number == each].mean(0) for each in number]
            whole = self.whole_trials[FUSION]
            torch.testing.assert_close(whole, torch.stack(expected))
            asked.append(tuple(whole.flatten().tolist()))
        return found

    monkeypatch.setattr(Fitting, "after_epoch", watch)
    data = recordings()
    subject = str(data.inputs.windows["subject"].iloc[0])
    trained(data, "whole-trials", folds=[f"subject {subject}"])
    assert len(asked) == len(set(asked)) == 3


def test_a_training_that_was_killed_ends_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    data = recordings()
    longer = {"training": de.Training(epochs=6, batch_size=8)}
    whole = trained(data, "whole-trials", output=tmp_path / "whole", **longer)

    def kill(monitor):
        # After half of training, from when a judge says what is taught.
        if any(state.epoch == 5 and not state.finished for state in monitor.jobs):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(
            data,
            "whole-trials",
            output=tmp_path / "killed",
            on_progress=kill,
            **longer,
        )
    assert list((tmp_path / "killed").rglob("checkpoint.pt"))
    resumed = trained(data, "whole-trials", output=tmp_path / "killed", **longer)
    np.testing.assert_array_equal(
        resumed.predictions.filter(like="p_"), whole.predictions.filter(like="p_")
    )


def test_it_helps_where_errors_in_windows_cancel_over_a_trial():
    """Windows that tell little, of trials that tell much: the planted case."""
    data = recordings(subjects=6, trials=12, windows=(8, 10))
    found = trained(
        data, "whole-trials", baselines=True, training=de.Training(epochs=12)
    )
    rows = found.table[found.table["level"] == found.level]
    scores = rows.set_index(["method", "subject"])["balanced_accuracy"]
    gains = scores["whole-trials"] - scores["source only"]
    assert gains.mean() > 0.03 and gains.min() > -0.05


def test_a_sample_that_is_a_trial_is_taught_nothing_and_that_is_told(tmp_path):
    data = recordings()
    with pytest.warns(DomainemoWarning, match="Choose samples of one window.*or anoth"):
        found = trained(data, "whole-trials", sampling="trials", output=tmp_path / "a")
    with pytest.warns(
        DomainemoWarning, match="trials. Choose another adapter, such as"
    ):
        trained(recordings(windows=(1, 1)), "whole-trials", sampling="windows")
    plain = trained(data, "none", sampling="trials", output=tmp_path / "b")
    for path in (tmp_path / "a").rglob("history.csv"):
        losses = pd.read_csv(path).filter(regex="^(fusion|eeg|eye)$")
        assert losses.shape[1] == 3 and not losses.to_numpy().any()
    assert len(found.predictions) == len(plain.predictions)


@pytest.mark.parametrize("backbone", [each.name for each in entries("backbone")])
def test_every_network_learns_of_trials_with_one_modality(backbone, tmp_path):
    data = recordings(subjects=2, trials=3, windows=(3, 3))
    trained(
        data,
        "whole-trials",
        backbone=backbone,
        modalities=["eeg"],
        sampling="windows",
        training=de.Training(epochs=2, batch_size=9),
        folds=["subject 1"],
        output=tmp_path,
    )
    (path,) = tmp_path.rglob("history.csv")
    losses = pd.read_csv(path)
    # In the first half nothing, and then something.
    assert losses["fusion"].iloc[0] == 0 and losses["fusion"].iloc[1] > 0


def test_results_say_that_trials_were_seen():
    found = trained(recordings(), "whole-trials")
    (words,) = found.table["target_seen"].unique()
    assert "which share a trial, seen in training" in words


# ------------------------------------------------ trials that labels have divided


def divided(seed=0, of_ann=6):
    """Four people, each with a long trial whose label changes: split where it does."""
    labels = np.tile(np.repeat(["calm", "tense"], 6), 4)
    labels[:12] = np.where(np.arange(12) < of_ann, "calm", "tense")
    return from_arrays(
        {"eye": np.random.default_rng(seed).normal(size=(48, 4))},
        labels,
        subject=np.repeat(["ann", "bob", "eve", "tom"], 12),
        trial=1,
        label="split",
    )


def asking():
    """Adapters that ask for trials: by name, joined, and by a screen that does."""
    screen = Screening(neighbours=0.5)
    return ["whole-trials", "deep-coral+whole-trials", Distillation(screen=screen)]


@pytest.mark.parametrize("adapter", asking(), ids=["alone", "joined", "screen"])
def test_an_adapter_may_not_ask_for_trials_that_labels_divided(adapter):
    data, others = divided(), divided(seed=1)
    chosen = {"backbone": "concatenation-mlp", "device": "cpu", "adapter": adapter}
    for told in ("trials of own recordings.*divided", "=majority.*--adapter uf-ama"):
        with pytest.raises(ConfigurationError, match=told):
            de.run(data, **chosen)
        with pytest.raises(ConfigurationError, match=told):
            de.adapt(data, others, protocol="cross-dataset", **chosen)


def test_not_even_where_its_plan_has_not_seen_that_it_asks(monkeypatch):
    """As in a study, which draws options when all is planned."""
    monkeypatch.setattr("domainemo.runs.plan.check_asked_trials", lambda *_: None)
    with pytest.raises(de.DomainemoError, match="divided by their labels"):
        trained(divided(), "whole-trials")


@pytest.mark.parametrize("sampling", ["sequences", "trials"])
def test_no_sample_of_a_target_ends_where_its_label_changes(sampling, monkeypatch):
    """Neither as it is planned nor, as in a study, as it is trained; the source may."""
    data, chosen = divided(), {"sampling": sampling}
    short = chosen | {"training": de.Training(epochs=1), "device": "cpu"}
    model = de.train(data, backbone="concatenation-mlp", **short)
    for told in ("several windows of one trial", "--sampling windows", "majority"):
        with pytest.raises(ConfigurationError, match=told):
            trained(data, "deep-coral", **chosen)
        with pytest.raises(ConfigurationError, match=told):
            model.predict(data.inputs)
    monkeypatch.setattr("domainemo.runs.plan.check_divided_samples", lambda *_: None)
    with pytest.raises(de.DomainemoError, match="several windows of one trial"):
        trained(data, "deep-coral", **chosen)


def test_of_single_windows_where_a_trial_ends_leaves_no_trace():
    """The label of the one who is tested changes elsewhere: not a bit differs."""
    found = [
        trained(
            divided(of_ann=place),
            "deep-coral",
            folds=["subject ann"],
            validator="source-and-information",
        ).predictions["p_calm"]
        for place in (6, 3)
    ]
    assert found[0].tolist() == found[1].tolist()


def test_others_may_train_with_them_and_those_of_the_source_do_no_harm():
    data = divided()
    short = {"training": de.Training(epochs=1, batch_size=4)}
    assert len(trained(data, "deep-coral", **short).predictions)
    target = replace(data.inputs, labelled_trials=False)
    joined, _ = _side_by_side(data.inputs, target)
    assert not joined.labelled_trials
    joined, _ = _side_by_side(target, data.inputs)
    assert joined.labelled_trials


def test_recordings_keep_that_labels_divided_their_trials(tmp_path):
    data = divided()
    assert data.inputs.labelled_trials
    assert data.take(np.arange(5)).inputs.labelled_trials
    folder = write_table(data, tmp_path / "table")
    assert Table(folder).load().inputs.labelled_trials
    assert Table(folder).load_inputs().labelled_trials
    cache.write_entry(tmp_path / "cache" / "entry", data)
    assert cache.read_entry(tmp_path / "cache" / "entry").inputs.labelled_trials
    whole = recordings()
    assert not whole.inputs.labelled_trials
    plain = write_table(whole, tmp_path / "plain")
    assert "labelled_trials" not in (plain / "dataset.toml").read_text()
    assert not Table(plain).load().inputs.labelled_trials


def test_a_table_says_so_in_one_way(tmp_path):
    folder = write_table(divided(), tmp_path / "table")
    path = folder / "dataset.toml"
    text = path.read_text()
    path.write_text(text.replace("labelled_trials = true", 'labelled_trials = "yes"'))
    with pytest.raises(de.DataError, match=r"'labelled_trials'.*true or false"):
        Table(folder).load()
