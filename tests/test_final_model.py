"""One model for whoever comes: trained on everybody, kept, applied, adapted."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import domainemo as de
from domainemo.adapters.composite import Composite, on_source_alone
from domainemo.adapters.marginal import Marginal
from domainemo.adapters.none import SourceOnly
from domainemo.adapters.pairwise import PairwiseSimilarity
from domainemo.adapters.test_time.batch_statistics import (
    AdaptiveBatchNormalisation,
    normalise_by_target,
)
from domainemo.adapters.test_time.tent import Tent
from domainemo.core import FUSION, Outputs
from domainemo.runs.experiment import experiment
from domainemo.runs.job import run_job
from domainemo.runs.plan import plan
from domainemo.runs.record import load_record
from domainemo.testing.firewall import SMALL_NETWORK
from domainemo.training.batches import Samples
from domainemo.training.fit import settle
from domainemo.training.loop import descend

CHOICES = {
    "backbone": "uf-ama",
    "options": {"training.epochs": 2, "backbone.width": 8},
    "device": "cpu",
}


@pytest.fixture(scope="module")
def data():
    return de.load("simulated", subjects=4, sessions=1, trials=4, windows=[3, 4])


@pytest.fixture(scope="module")
def divided(data):
    new = data.inputs.windows["subject"].to_numpy() == 3
    return data.take(np.flatnonzero(~new)), data.take(np.flatnonzero(new)).inputs


@pytest.fixture(scope="module")
def model(divided):
    return de.train(divided[0], **CHOICES)


def probabilities(table):
    return table.filter(like="p_").to_numpy()


# ----------------------------------------------------------------------------- train


def test_it_is_read_again_from_its_folder(divided, model, tmp_path):
    source, target = divided
    again = de.train(source, output=tmp_path, **CHOICES)
    for each in (again, de.Model.load(tmp_path), de.Model.load(str(tmp_path), seed=0)):
        pd.testing.assert_frame_equal(each.predict(target), model.predict(target))
    how = (tmp_path / "how.txt").read_text(encoding="utf-8")
    assert "trained on 3 subjects" in how and "Nobody was tested." in how


def test_it_learns_what_source_only_learns(divided):
    """Enough epochs tell classes of people whom it has seen."""
    source, _ = divided
    options = {"training.epochs": 30, "backbone.width": 8}
    trained = de.train(source, **{**CHOICES, "options": options})
    told = trained.predict(source.inputs).sort_values(
        ["subject", "session", "trial", "start"]
    )
    order = source.inputs.windows.sort_values(
        ["subject", "session", "trial", "start"]
    ).index
    truth = np.array(source.classes)[source.labels[order]]
    assert (told["predicted"].to_numpy() == truth).mean() > 0.8


def test_the_order_of_windows_does_not_matter(divided, model):
    source, target = divided
    shuffled = source.take(np.random.default_rng(0).permutation(len(source)))
    again = de.train(shuffled, **CHOICES)
    pd.testing.assert_frame_equal(again.predict(target), model.predict(target))


def test_held_out_people_choose_the_epoch_and_are_no_test(divided, tmp_path):
    de.train(divided[0], validator="source", output=tmp_path, **CHOICES)
    (record,) = tmp_path.glob("folds/*/*/*/record.json")
    facts = json.loads(record.read_text(encoding="utf-8"))
    how = (tmp_path / "how.txt").read_text(encoding="utf-8")
    assert f"{facts['held_out']:.3f} on people held out" in how
    assert "which is no test" in how


@pytest.mark.parametrize(
    ("choices", "fragment"),
    [
        ({"adapter": "marginal"}, "expected one with a term for the source alone"),
        ({"validator": "information-maximisation"}, "looks at a target"),
        ({"validator": "oracle"}, "looks at a target"),
        ({"seeds": [0, 1]}, "expected one"),
    ],
)
def test_what_needs_a_target_or_makes_several_is_refused(divided, choices, fragment):
    with pytest.raises(de.ConfigurationError, match=fragment):
        de.train(divided[0], **CHOICES, **choices)
    with pytest.raises(TypeError, match="protocol"):
        de.train(divided[0], protocol="cross-subject")


def test_recordings_of_one_class_are_refused(data):
    one = data.take(np.flatnonzero(data.labels == 0))
    with pytest.raises(de.DataError, match="single class"):
        de.train(one, **CHOICES)


def test_terms_for_the_source_alone_are_what_is_left_of_an_adapter():
    pairs = PairwiseSimilarity(weight=0.3)
    inner = Composite(terms={"far": Marginal(), "pairs": pairs})
    both = Composite(terms={"near": Marginal(), "inner": inner})
    left = on_source_alone(both)
    assert list(left.terms) == ["inner"] and list(left.terms["inner"].terms) == [
        "pairs"
    ]
    assert left.terms["inner"].terms["pairs"] is pairs and not left.needs_target
    assert on_source_alone(pairs) is pairs
    # An inner one of which nothing is left does not take the others with it.
    lost = Composite(terms={"far": Composite(terms={"a": Marginal()}), "pairs": pairs})
    assert list(on_source_alone(lost).terms) == ["pairs"]
    with pytest.raises(de.ConfigurationError, match="term for the source alone"):
        on_source_alone(Composite(terms={"far": Composite(terms={"a": Marginal()})}))
    none = SourceOnly()
    assert on_source_alone(none) is none


def test_an_adapters_own_terms_train(divided, model):
    with_pairs = de.train(divided[0], adapter="uf-ama", **CHOICES)
    alone = de.train(
        divided[0],
        **{**CHOICES, "adapter": "pairwise-similarity"},
    )
    weights = [each.network.state_dict() for each in (model, with_pairs, alone)]
    assert any(not torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


# -------------------------------------------------------------------------- predict


def test_windows_at_another_distance_are_refused(divided, model):
    target = divided[1]
    slow = replace(
        target, windows=target.windows.assign(start=2 * target.windows["start"])
    )
    with pytest.raises(de.DataError, match=r"every 8 s.*every 4 s"):
        model.predict(slow)


def test_labels_of_the_recording_are_not_looked_at(data, divided, model):
    theirs = np.flatnonzero(data.inputs.windows["subject"].to_numpy() == 3)
    labelled = data.take(theirs)
    pd.testing.assert_frame_equal(model.predict(labelled), model.predict(divided[1]))


def test_several_models_are_told_apart(data, tmp_path):
    de.run(data, output=tmp_path, baselines=False, **CHOICES)
    with pytest.raises(de.ConfigurationError, match="several trained folds"):
        de.Model.load(tmp_path)
    model = de.Model.load(tmp_path, fold="subject 2")
    assert model.classes == data.classes
    with pytest.raises(de.ConfigurationError, match="no such configuration"):
        de.Model.load(tmp_path / "nothing")


# ------------------------------------------------- adapting a finished model to someone


def test_adapting_leaves_the_model_as_it_is(divided, model):
    before = model.predict(divided[1])
    adapted = model.predict(divided[1], adapt="tent")
    assert not np.array_equal(probabilities(adapted), probabilities(before))
    pd.testing.assert_frame_equal(model.predict(divided[1]), before)
    for same in (Tent(), Tent):
        again = model.predict(divided[1], adapt=same)
        pd.testing.assert_frame_equal(again, adapted)


def test_tent_lowers_the_entropy_of_what_is_predicted(divided, model):
    def doubt(table):
        found = probabilities(table)
        return -(found * np.log(found)).sum(1).mean()

    target = divided[1]
    steps = [0.0, 1e-3, 1e-2]
    doubts = [
        doubt(model.predict(target, adapt=Tent(learning_rate=rate, epochs=5)))
        for rate in steps[1:]
    ]
    assert doubt(model.predict(target)) > doubts[0] > doubts[1]


class Named(nn.Module):
    """A network of the two kinds of normalisation, with one that is not one."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 4), nn.LayerNorm(4)
        self.batch, self.head = nn.BatchNorm1d(4), nn.Linear(4, 2)
        self.dropout = nn.Dropout(0.5)

    def forward(self, signals, masks):
        hidden = self.norm(self.batch(self.linear(signals["eeg"][:, 0, 0])))
        logits = self.head(self.dropout(hidden))
        return Outputs({FUSION: hidden}, {FUSION: logits})


def batches(sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            {"eeg": 3 + 2 * torch.randn(size, 1, 1, 3, generator=generator)},
            {"eeg": torch.ones(size, 1, dtype=torch.bool)},
        )
        for size in sizes
    ]


def test_tent_changes_scale_and_shift_of_normalisation_alone():
    torch.manual_seed(0)
    network = Named().eval()
    before = {name: value.clone() for name, value in network.named_parameters()}
    Tent(learning_rate=0.1).settle(network, batches([5, 5]), descend)
    changed = {
        name
        for name, value in network.named_parameters()
        if not torch.equal(value, before[name])
    }
    assert changed == {"norm.weight", "norm.bias", "batch.weight", "batch.bias"}
    assert not any(module.training for module in network.modules())
    assert all(value.grad is None for value in network.parameters())


def test_no_batch_of_one_is_normalised_by_itself():
    """A single one changes no statistics, and a last one joins the others."""
    torch.manual_seed(0)
    network = Named().eval()
    statistics = network.batch.running_mean.clone()
    Tent().settle(network, batches([1]), descend)
    assert torch.equal(network.batch.running_mean, statistics)
    samples = Samples(
        {"eeg": batches([5])[0][0]["eeg"][:, 0]},
        {"eeg": torch.ones(5, dtype=torch.bool)},
        torch.arange(5)[:, None],
        torch.arange(5),
    )
    two = de.Training(batch_size=2)  # and one is left over
    settle(network, AdaptiveBatchNormalisation(), samples, training=two, seed=0)
    assert bool(network.batch.running_var.isfinite().all())


def test_adabn_takes_the_targets_mean_and_variance():
    """Against one batch of everything, and the mean of the batches' own variances."""
    torch.manual_seed(0)
    network = Named().eval()
    weights = {name: value.clone() for name, value in network.named_parameters()}
    given = batches([6, 6, 3])
    normalise_by_target(network, given)
    with torch.no_grad():
        hidden = [network.linear(signals["eeg"][:, 0, 0]) for signals, _ in given]
    torch.testing.assert_close(network.batch.running_mean, torch.cat(hidden).mean(0))
    variances = [6 * hidden[0].var(0), 6 * hidden[1].var(0), 3 * hidden[2].var(0)]
    torch.testing.assert_close(network.batch.running_var, sum(variances) / 15)
    for name, value in network.named_parameters():
        assert torch.equal(value, weights[name])
    assert network.batch.momentum == 0.1 and not network.batch.training


def test_adabn_is_refused_where_there_is_nothing_to_adapt(divided, model):
    with pytest.raises(de.ConfigurationError, match="no layer of batch normalisation"):
        model.predict(divided[1], adapt="adabn")
    with pytest.raises(de.ConfigurationError, match="single sample"):
        normalise_by_target(Named(), batches([1]))
    with pytest.raises(de.ConfigurationError, match="no layer of batch normalisation"):
        de.run(divided[0], adapter="adabn", **CHOICES)  # before anything trains
    with pytest.raises(de.ConfigurationError, match=r"needs the source.*adabn, .*tent"):
        model.predict(divided[1], adapt="uf-ama")


@pytest.mark.parametrize("adapter", ["adabn", "tent"])
def test_the_adapter_that_is_named_in_its_place_adapts_any_network(divided, adapter):
    plain = de.train(divided[0], backbone="concatenation-mlp", epochs=1, device="cpu")
    with pytest.raises(de.ConfigurationError, match="another adapter, such as shot"):
        plain.predict(divided[1], adapt=adapter)
    assert len(plain.predict(divided[1], adapt="shot"))


@pytest.mark.parametrize("adapter", ["adabn", "tent"])
def test_in_a_run_the_network_is_trained_as_without_and_then_changed(
    data, adapter, tmp_path
):
    """The fold's model is source only's, adapted by the fold's target."""
    chosen = experiment(
        adapter=adapter,
        backbone=SMALL_NETWORK,
        device="cpu",
        folds=["subject 2"],
        controls=[],
        options={"training.epochs": 2},
    )
    planned = plan(data, chosen)
    records = {}
    for job in planned.jobs(tmp_path):
        run_job(planned.inputs, chosen, job)
        records[job.method] = load_record(tmp_path / "folds" / job.folder)
    from safetensors.torch import load_file

    states = {
        method: load_file(next(tmp_path.glob(f"folds/*/*/{name}/model.safetensors")))
        for method, name in ((adapter, adapter), ("source only", "none"))
    }
    changed = {
        name
        for name, value in states["source only"].items()
        if not torch.equal(value, states[adapter][name])
    }
    kinds = {name.rsplit(".", 1)[1] for name in changed}
    statistics = {"running_mean", "running_var", "num_batches_tracked"}
    assert changed and all("norm" in n or ".1." in n for n in changed)
    assert statistics & kinds
    assert ("weight" in kinds) == (adapter == "tent")
    found = records[adapter].probabilities, records["source only"].probabilities
    assert not np.array_equal(*found)
