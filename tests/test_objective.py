"""A step's losses: what passes the network at once, and from when on."""

from dataclasses import replace

import pytest
import torch

from domainemo.adapters.marginal import Marginal
from domainemo.adapters.pairwise import PairwiseSimilarity
from domainemo.adapters.uf_ama import UFAMA
from domainemo.backbones.concatenation import Concatenation
from domainemo.core import Modality, Source, Target
from domainemo.training.model import Network
from domainemo.training.objective import Objective, Shown, _cross_entropies

MODALITIES = {
    "eeg": Modality(("FZ", "CZ", "PZ"), ("alpha", "beta"), "eeg"),
    "eye": Modality(("pupil",), ("mean", "deviation"), "eye"),
}
CLASSES = 3


class Recorded(Marginal):
    """Remembers what it is shown."""

    def forward(self, source, target):
        self.source, self.target = source, target
        return super().forward(source, target)


def batch(size, seed):
    generator = torch.Generator().manual_seed(seed)
    signals = {
        name: torch.randn(
            size, 1, len(each.channels), len(each.features), generator=generator
        )
        for name, each in MODALITIES.items()
    }
    masks = {name: torch.rand(size, 1, generator=generator) < 0.9 for name in signals}
    return signals, {**masks, "eeg": torch.ones(size, 1, dtype=torch.bool)}


def shown(target=True):
    there = batch(5, 1) if target else ({}, {})
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0])
    trials = torch.arange(5 if target else 0)
    domains = torch.zeros(7, dtype=torch.long)
    return Shown(batch(7, 0), labels, domains, there, there, trials, {})


def objective(adapter, **options):
    torch.manual_seed(0)
    network = Network(
        Concatenation(MODALITIES, dropout=0.0, **options), MODALITIES, CLASSES
    )
    for head in network.heads.values():  # their dropout draws by place in the batch
        for layer in head.modules():
            if isinstance(layer, torch.nn.Dropout):
                layer.p = 0.0
    return Objective(network, adapter, 0.0, 0.5)


def losses(made, given, progress=0.9):
    return made(given, torch.ones(CLASSES), progress, None)


@pytest.mark.parametrize("smoothing", [0.3, torch.tensor(0.3)])
def test_smoothed_labels_against_a_loop(smoothing):
    """Of what a label is worth, 0.3 goes to all three classes alike."""
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, 3, generator=generator), [0, 1, 2, 0, 1, 2]
    expected = [
        -(0.7 * row[label] + 0.1 * row.sum())
        for row, label in zip(logits.log_softmax(-1), labels, strict=True)
    ]
    found = _cross_entropies(logits, torch.tensor(labels), smoothing)
    torch.testing.assert_close(found, torch.stack(expected))


def test_the_classification_against_a_loop_over_branches_and_samples():
    """Weighted by class, and by what was recorded; each branch by its share."""
    made, given = objective(Recorded()), shown()
    made.label_smoothing, made.branch_share = 0.3, 0.4
    lost = {**given.source[1], "eye": torch.tensor([[True]] * 4 + [[False]] * 3)}
    given = given._replace(source=(given.source[0], lost))
    of_class = torch.tensor([0.3, 2.0, 1.1])
    found = made(given, of_class, 0.9, None)["classification"]
    outputs, expected = made.adapter.source.outputs, 0.0
    for branch, share in {"eeg": 0.2, "eye": 0.2, "fusion": 0.6}.items():
        errors, weights = [], []
        for place, label in enumerate(given.labels.tolist()):
            if branch == "eye" and place >= 4:
                continue
            row = outputs.logits[branch][place].detach().log_softmax(-1)
            weights.append(float(of_class[label]))
            errors.append(-float(0.7 * row[label] + 0.1 * row.sum()) * weights[-1])
        expected += share * sum(errors) / sum(weights)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("asked", [False, True])
def test_who_shares_a_trial_is_told_to_those_who_ask(asked):
    adapter = Recorded()
    adapter.needs_trials = asked
    made, given = objective(adapter), shown()
    losses(made, given)
    told = adapter.target.trials
    assert torch.equal(told, given.trials) if asked else told is None


def test_one_pass_gives_what_two_give():
    adapter = Recorded()
    made, given = objective(adapter), shown()
    losses(made, given)
    for outputs, part in (
        (adapter.source.outputs, given.source),
        (adapter.target.outputs, given.student),
    ):
        alone = made.model(*part)
        for name in ("embeddings", "logits", "present"):
            for branch, values in getattr(alone, name).items():
                torch.testing.assert_close(getattr(outputs, name)[branch], values)


def test_a_target_that_is_longer_is_passed_by_itself():
    """As whole trials are, each domain's padded to its own longest."""
    adapter = Recorded()
    made, given = objective(adapter), shown()
    longer = tuple(
        {name: torch.cat([each, each, each], 1) for name, each in part.items()}
        for part in given.student
    )
    losses(made, given._replace(target=longer, student=longer))
    for outputs, part in (
        (adapter.source.outputs, given.source),
        (adapter.target.outputs, longer),
    ):
        alone = made.model(*part)
        for branch, values in alone.embeddings.items():
            torch.testing.assert_close(outputs.embeddings[branch], values)


@pytest.mark.parametrize(("normalisation", "alike"), [("none", False), ("batch", True)])
def test_statistics_of_a_batch_are_of_one_domain(normalisation, alike):
    """With batch normalisation, the target does not move what the source gives."""
    adapter = Recorded()
    made, found = objective(adapter, normalisation=normalisation), []
    passes = []
    made.model.register_forward_hook(lambda *_: passes.append(1))
    for scale in (1.0, 100.0):
        given = shown()
        signals = {name: scale * each for name, each in given.student[0].items()}
        losses(made, given._replace(student=(signals, given.student[1])))
        found.append(adapter.source.outputs.embeddings["fusion"])
    torch.testing.assert_close(*found)
    assert len(passes) == (4 if alike else 2)


def test_before_an_adapter_begins_only_its_source_s_part_counts():
    made = objective(UFAMA(pairwise=0.3))
    found = losses(made, shown(target=False), progress=0.1)
    names = ["pairwise.eeg", "pairwise.eye", "pairwise.fusion"]
    assert sorted(found) == ["classification", *names]
    # What it would have been, had the target been shown: all else is zero.
    full = losses(made, shown(), progress=0.1)
    for name, loss in full.items():
        torch.testing.assert_close(loss, found.get(name, torch.zeros(())))


def test_kernels_are_computed_once_for_all_that_align_the_same(monkeypatch):
    from domainemo.adapters import kernels

    counted = []
    distances = kernels.squared_distances
    monkeypatch.setattr(
        kernels, "squared_distances", lambda p: counted.append(1) or distances(p)
    )
    made = objective(UFAMA())
    losses(made, shown())
    assert len(counted) == 3  # a branch each, for marginal and conditional alike


def test_kernels_of_other_samples_are_others():
    made = objective(PairwiseSimilarity())
    source, target = (made.model(*batch(6, seed)) for seed in (0, 1))
    source = Source(source, torch.zeros(6, dtype=torch.long), torch.zeros(6))
    seen, term = Target(target, 0.9), Marginal()
    before = term(source, seen)
    lost = {**target.present, "eye": torch.zeros(6, dtype=torch.bool)}
    after = term(source, replace(seen, outputs=replace(target, present=lost)))
    again = term(source, seen)
    assert before["eye"] > 0 and after["eye"] == 0
    assert all(torch.equal(again[name], loss) for name, loss in before.items())
