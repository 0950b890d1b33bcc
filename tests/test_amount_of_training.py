"""What an epoch is, and how much of the classification's loss each branch gets."""

import numpy as np
import pytest
import torch
from fitted import fit
from torch.nn import functional

import domainemo as de
from domainemo.backbones.concatenation import Concatenation
from domainemo.cli.configuration import configure
from domainemo.core import FUSION, Modality, Outputs, Source
from domainemo.registry import find
from domainemo.training import loop
from domainemo.training.batches import LabelledSamples, epoch_batches, sample
from domainemo.training.checkpoint import Checkpoint
from domainemo.training.model import Network
from domainemo.training.objective import Objective
from domainemo.training.settings import Training

torch.set_num_threads(1)
SMALL = {"backbone.hidden": [4], "backbone.width": 4, "backbone.fusion_width": 4}


@pytest.fixture(scope="module")
def data():
    """Three people of 12 windows."""
    return de.Simulated(subjects=3, sessions=1, trials=3, windows=(4, 4)).load()


def run(data, output=None, **options):
    chosen = {"training.epochs": 2, "training.batch_size": 8} | SMALL | options
    return de.run(
        data,
        backbone="concatenation-mlp",
        adapter="marginal",
        device="cpu",
        controls="none",
        baselines=False,
        folds=["subject 1"],
        options=chosen,
        output=output,
    )


# ----------------------------------------------------------------------------- epochs

# Windows of 4 s in a session, and how many people there are.
SEED, SEED_IV = ((842,), 12), ((851, 832, 822), 15)


@pytest.mark.parametrize(
    ("windows", "people", "of_target", "of_source"),
    [(*SEED, [26], [289]), (*SEED_IV, [26, 26, 25], [372, 364, 359])],
)
def test_an_epoch_of_the_released_code_passes_the_target(
    windows, people, of_target, of_source
):
    for epoch, steps in (("target", of_target), ("source", of_source)):
        for count, expected in zip(windows, steps, strict=True):
            sizes = count * (people - 1), count
            generator = torch.Generator().manual_seed(0)
            drawn = list(epoch_batches(*sizes, 32, generator, None, epoch))
            assert len(drawn) == expected
            for number in (0, 1) if epoch == "target" else (0,):
                seen = torch.cat([pair[number] for pair in drawn])
                assert len(seen) == 32 * expected == len(seen.unique())


@pytest.mark.parametrize("epoch", ["source", "target", 3, 11])
def test_both_domains_are_passed_as_often_as_it_takes(epoch):
    generator = torch.Generator().manual_seed(1)
    drawn = list(epoch_batches(20, 9, 4, generator, None, epoch))
    assert len(drawn) == {"source": 5, "target": 2}.get(epoch, epoch)
    for number, size in enumerate((20, 9)):
        counts = torch.cat([pair[number] for pair in drawn]).bincount(minlength=size)
        assert counts.max() - counts.min() <= 1 and counts.sum() == 4 * len(drawn)


def test_a_target_smaller_than_a_batch_is_one_step():
    generator = torch.Generator().manual_seed(1)
    ((here, there),) = epoch_batches(20, 3, 8, generator, None, "target")
    assert len(here) == len(there) == 8 and set(there.tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("epoch", "steps", "words"),
    [
        ("source", 3, "last of 2 epochs; "),
        ("target", 1, "last of 2 epochs (each a pass over the target); "),
        (5, 5, "last of 2 epochs (each of 5 steps); "),
    ],
)
def test_a_run_takes_and_tells_the_steps(
    data, tmp_path, monkeypatch, epoch, steps, words
):
    taken, take = [], loop.Loop.take

    def counting(self, step, passed):
        taken.append(passed)
        return take(self, step, passed)

    monkeypatch.setattr(loop.Loop, "take", counting)
    run(data, tmp_path / "run", **{"training.epoch": epoch})
    # All of training is passed evenly, whatever an epoch is.
    np.testing.assert_allclose(taken, np.arange(2 * steps) / steps)
    assert words in (tmp_path / "run" / "how.txt").read_text()
    told = f'"training.epoch" = {epoch!r}'.replace("'", '"')
    assert told in (tmp_path / "run" / "config.toml").read_text()


@pytest.mark.parametrize(
    ("epoch", "sentence"),
    [
        (0, "training.epoch is 0; expected 'source', 'target' or at least 1 step"),
        ("pass", "training.epoch is 'pass'.*one of 'source', 'target' or int"),
        (2.5, r"training.epoch is 2.5"),
        (True, r"training.epoch is True"),
    ],
)
def test_what_is_no_epoch_is_refused(epoch, sentence):
    with pytest.raises(de.ConfigurationError, match=sentence):
        Training(epoch=epoch)


def test_the_command_line_reads_what_python_takes():
    for text, value in (("target", "target"), ("26", 26), ("source", "source")):
        read = configure({}, [f"training.epoch={text}"], None).experiment
        assert read.training == Training(epoch=value)


def test_without_a_target_there_is_no_pass_over_it(data, tmp_path):
    with pytest.raises(de.ConfigurationError, match="no target to pass; expected"):
        de.train(
            data,
            backbone="concatenation-mlp",
            device="cpu",
            options=SMALL | {"training.epoch": "target"},
            output=tmp_path / "model",
        )


class Killed(Exception):
    """In place of a power cut."""


@pytest.mark.parametrize("epoch", ["target", 3])
def test_a_resumed_training_ends_with_the_same_bits(data, tmp_path, monkeypatch, epoch):
    monkeypatch.setattr(loop, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    sampling, inputs = find("sampling", "windows")(), data.inputs
    rows = np.arange(len(inputs))
    samples, _ = sample(inputs, rows, sampling, torch.device("cpu"))
    labels = torch.from_numpy(data.labels)
    source = LabelledSamples(samples, labels, torch.zeros_like(labels))

    def train(checkpoint=None, kill_after=None):
        def report(row):
            if row["epoch"] == kill_after:
                raise Killed

        torch.manual_seed(0)
        network = Concatenation(inputs.modalities, hidden=(4,), width=4)
        model = Network(network, inputs.modalities, 3)
        chosen = Training(epochs=3, batch_size=8, epoch=epoch)
        fitted = fit(
            model,
            find("adapter", "marginal")(),
            source,
            samples,
            validator=find("validator", "last")(),
            held_out=None,
            training=chosen,
            seed=5,
            checkpoint=checkpoint and Checkpoint(checkpoint),
            report=report,
        )
        return model.state_dict(), fitted.history

    whole, history = train()
    with pytest.raises(Killed):
        train(tmp_path / "checkpoint.pt", kill_after=2)
    found, again = train(tmp_path / "checkpoint.pt")
    assert history == again
    assert all(torch.equal(found[name], value) for name, value in whole.items())


# ------------------------------------------------------------------- shares of branches

PAIR = {
    "eeg": Modality(("Cz", "Oz"), ("alpha",), "eeg"),
    "eye": Modality(("pupil",), ("mm",), "eye"),
}


def classifying(share):
    """Return an objective, outputs that carry gradients, and its classification loss."""
    torch.manual_seed(0)
    model = Network(Concatenation(PAIR, hidden=(4,), width=4), PAIR, 3)
    objective = Objective(model, find("adapter", "none")(), 0.0, share)
    logits = {
        branch: torch.randn(6, 3, requires_grad=True) for branch in (*PAIR, FUSION)
    }
    labels = torch.tensor([0, 1, 2, 0, 1, 1])
    source = Source(Outputs({}, logits), labels, torch.zeros_like(labels))
    return objective._classification(source, torch.ones(3)), logits, labels


@pytest.mark.parametrize("share", [0.5, 0.3, 0.0])
def test_branches_get_their_shares(share):
    loss, logits, labels = classifying(share)
    each = {b: functional.cross_entropy(z, labels) for b, z in logits.items()}
    expected = share / 2 * (each["eeg"] + each["eye"]) + (1 - share) * each[FUSION]
    torch.testing.assert_close(loss, expected)


def test_without_a_share_nothing_is_computed_of_a_branch(monkeypatch):
    calls, computed = [], functional.cross_entropy

    def counting(*arguments, **options):
        calls.append(arguments[0])
        return computed(*arguments, **options)

    monkeypatch.setattr(functional, "cross_entropy", counting)
    loss, logits, _ = classifying(0.0)
    loss.backward()
    assert len(calls) == 1 and calls[0] is logits[FUSION]
    assert [branch for branch in logits if logits[branch].grad is not None] == [FUSION]


def test_classifiers_without_a_share_stay_as_they_were_drawn(data):
    torch.manual_seed(0)
    inputs = data.inputs
    samples, _ = sample(
        inputs, np.arange(len(inputs)), find("sampling", "windows")(), torch.device("cpu")
    )
    labels = torch.from_numpy(data.labels)
    source = LabelledSamples(samples, labels, torch.zeros_like(labels))
    network = Concatenation(inputs.modalities, hidden=(4,), width=4)
    model = Network(network, inputs.modalities, 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fit(
        model,
        find("adapter", "none")(),
        source,
        samples,
        validator=find("validator", "last")(),
        held_out=None,
        training=Training(epochs=1, batch_size=8, branch_share=0.0),
        seed=0,
    )
    changed = {n for n, value in model.state_dict().items() if not value.equal(before[n])}
    heads = {name.split(".")[1] for name in changed if name.startswith("heads.")}
    assert heads == {FUSION} and any(name.startswith("backbone") for name in changed)


def test_a_screen_that_asks_untrained_classifiers_is_refused(data):
    with pytest.raises(
        de.ConfigurationError, match="branch_share is 0.*'uf-ama' has a screen, Screen"
    ):
        de.run(
            data,
            backbone="concatenation-mlp",
            adapter="uf-ama",
            device="cpu",
            controls="none",
            options=SMALL | {"training.branch_share": 0.0},
        )


def test_published_systems_have_the_classifiers_that_they_have():
    shares = {
        name: configure({}, [], name).experiment.training.branch_share
        for name in ("uf-ama", "uf-ama-released", "physiosync", "mmstg-net")
    }
    trials = configure({}, [], "r2gfanet-trials").experiment
    assert shares == {
        "uf-ama": 0.5,
        "uf-ama-released": 0.5,
        "physiosync": 0.0,
        "mmstg-net": 0.0,
    }
    assert trials.training.branch_share == 0.0 and Training().branch_share == 0.5
