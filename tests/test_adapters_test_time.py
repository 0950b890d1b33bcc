"""What changes a finished network by the target alone: SHOT, T3A and T-TIME."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import domainemo as de
from domainemo.adapters.composite import Composite
from domainemo.adapters.marginal import Marginal
from domainemo.adapters.pytorch_adapt.library import load
from domainemo.adapters.test_time.shot import (
    Shot,
    information_loss,
    labels_by_centroids,
)
from domainemo.adapters.test_time.source_free import SourceFree
from domainemo.adapters.test_time.t3a import T3A, templates
from domainemo.adapters.test_time.t_time import (
    TTime,
    adaptive_information_loss,
    confident_counts,
)
from domainemo.adapters.test_time.tent import Tent
from domainemo.core import FUSION, Outputs
from domainemo.errors import DomainemoWarning
from domainemo.training.batches import Samples
from domainemo.training.fit import settle
from domainemo.training.loop import descend

NAMES = ("shot", "t3a", "t-time")
CHOICES = {
    "backbone": "concatenation-mlp",
    "options": {"training.epochs": 2},
    "device": "cpu",
}


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def entropy(shares):
    return -sum(p * math.log(p) for p in shares if p > 0)


# -------------------------------------------------------------------------- the losses


WEIGHTS = torch.tensor([1, 0, 1, 1, 0.5, 0, 1], dtype=torch.float64)


def slow_terms(logits, weights):
    """Return the mean entropy and the mean prediction, sample by sample."""
    total = float(weights.sum())
    doubt, mean = 0.0, [0.0] * logits.shape[1]
    for row, weight in zip(logits.tolist(), weights.tolist(), strict=True):
        shares = [math.exp(value) for value in row]
        shares = [share / sum(shares) for share in shares]
        doubt += weight / total * entropy(shares)
        mean = [m + weight / total * p for m, p in zip(mean, shares, strict=True)]
    return doubt, mean


@pytest.mark.parametrize("seed", range(3))
def test_information_equals_a_loop(seed):
    logits = 3 * random(7, 4, seed=seed)
    doubt, mean = slow_terms(logits, WEIGHTS)
    assert information_loss(logits, WEIGHTS).item() == pytest.approx(
        doubt - entropy(mean)
    )


def test_information_is_that_of_pytorch_adapt():
    layers = load("layers")
    logits = 3 * random(9, 4)
    theirs = layers.EntropyLoss()(logits) + layers.DiversityLoss()(logits)
    torch.testing.assert_close(information_loss(logits, torch.ones(9).double()), theirs)


@pytest.mark.parametrize("seed", range(3))
def test_adaptive_information_equals_a_loop(seed):
    logits, counts = (
        3 * random(7, 3, seed=seed),
        torch.tensor([5.0, 0.0, 11.0]).double(),
    )
    doubt, mean = slow_terms(logits, WEIGHTS)
    relative = [p / (4 + z) for p, z in zip(mean, counts.tolist(), strict=True)]
    relative = [q / sum(relative) for q in relative]
    found = adaptive_information_loss(logits, counts, WEIGHTS)
    assert found.item() == pytest.approx(doubt - entropy(relative))


def test_adaptive_information_with_equal_counts_is_information():
    logits = 2 * random(7, 3)
    for count in (0.0, 9.0):
        found = adaptive_information_loss(logits, torch.full((3,), count), WEIGHTS)
        torch.testing.assert_close(found, information_loss(logits, WEIGHTS))


def test_adaptive_information_lets_a_frequent_class_be_frequent():
    """It is lowest where the mean prediction is as frequent as the counts say."""
    counts = torch.tensor([26.0, 6.0])  # and four each: three to one

    def loss(first):
        shares = torch.tensor([[first, 1 - first]]).log()
        return float(adaptive_information_loss(shares, counts, torch.ones(1)))

    def diversity(first):
        return loss(first) - entropy([first, 1 - first])

    lowest = min((step / 100 for step in range(1, 100)), key=diversity)
    assert lowest == pytest.approx(0.75, abs=0.01)


def test_what_is_confident_is_counted():
    shares = torch.tensor([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9], [0.95, 0.05]])
    there = torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert confident_counts(shares.log(), there, 0.7).tolist() == [1.0, 1.0]
    assert confident_counts(shares.log(), there, 0.5).tolist() == [2.0, 1.0]


@pytest.mark.parametrize(
    "loss",
    [
        information_loss,
        lambda logits, weights: adaptive_information_loss(
            logits, torch.zeros(logits.shape[-1]), weights
        ),
    ],
)
def test_losses_are_finite_where_there_is_nothing_or_all_is_certain(loss):
    empty = random(5, 3).requires_grad_()
    found = loss(empty, torch.zeros(5).double())
    found.backward()
    assert found == 0 and not empty.grad.any()
    certain = (120.0 * torch.eye(3)[[0, 0, 1]]).requires_grad_()
    for logits in (certain, certain[:1], torch.zeros(4, 3, requires_grad=True)):
        logits = logits.detach().requires_grad_()
        found = loss(logits, torch.ones(len(logits)))
        found.backward()
        assert bool(found.isfinite()) and bool(logits.grad.isfinite().all())
    stacked, weights = random(4, 7, 3), WEIGHTS.expand(4, 7)
    one_by_one = [loss(each, WEIGHTS) for each in stacked]
    torch.testing.assert_close(
        torch.func.vmap(loss)(stacked, weights), torch.stack(one_by_one)
    )


# ----------------------------------------------------------------------- pseudo-labels


def released_labels(features, probabilities):
    """The paper's rule by NumPy and SciPy, as its authors' code computes it."""
    from scipy.spatial.distance import cdist

    features = np.concatenate([features, np.ones((len(features), 1))], 1)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    told, shares = probabilities.argmax(1), probabilities
    for _ in range(2):
        centroids = shares.T @ features / (1e-8 + shares.sum(0)[:, None])
        there = np.flatnonzero(np.bincount(told, minlength=probabilities.shape[1]))
        told = there[cdist(features, centroids[there], "cosine").argmin(1)]
        shares = np.eye(probabilities.shape[1])[told]
    return told


@pytest.mark.parametrize("seed", range(5))
def test_pseudo_labels_equal_the_rule(seed):
    features, logits = random(30, 6, seed=seed), 2 * random(30, 4, seed=seed + 9)
    logits[:, 2] -= 20 * (seed == 0)  # a class that nothing is predicted as
    found = labels_by_centroids(features, logits, torch.ones(30).double())
    expected = released_labels(features.numpy(), logits.softmax(1).numpy())
    assert found.tolist() == expected.tolist()
    # What is not there has no part in any centroid.
    junk = torch.cat([features, 1e3 * random(5, 6)])
    more = torch.cat([logits, 50 * random(5, 4)])
    there = torch.cat([torch.ones(30), torch.zeros(5)]).double()
    assert labels_by_centroids(junk, more, there)[:30].tolist() == expected.tolist()
    assert not labels_by_centroids(features, logits, torch.zeros(30)).any()


def test_pseudo_labels_correct_what_lies_among_others():
    """Two clusters, and one point of each predicted as of the other."""
    truth = torch.arange(40) % 2
    centres = torch.tensor([[4.0, 0.0], [0.0, 4.0]]).double()
    features = centres[truth] + 0.3 * random(40, 2)
    logits = 3 * torch.nn.functional.one_hot(truth, 2).double()
    logits[:2] = logits[:2].flip(1)
    assert labels_by_centroids(features, logits, torch.ones(40)).equal(truth)


# --------------------------------------------------------------------------- templates


def slow_templates(points, logits, labels, weights, support):
    found = []
    for number in range(logits.shape[1]):
        members = [
            (entropy(logits[i].softmax(0).tolist()), i)
            for i in range(len(points))
            if int(labels[i]) == number and weights[i] > 0
        ]
        kept = [points[i] / points[i].norm() for _, i in sorted(members)[:support]]
        mean = torch.stack(kept).mean(0) if kept else torch.zeros_like(points[0])
        found.append(mean / mean.norm() if kept else mean)
    return torch.stack(found)


@pytest.mark.parametrize("support", [1, 3, 100])
@pytest.mark.parametrize("seed", range(2))
def test_templates_equal_a_loop(support, seed):
    points, logits = random(25, 6, seed=seed), 2 * random(25, 4, seed=seed + 1)
    labels = logits.argmax(1).clamp(max=2)  # nothing is of the last class
    weights = (random(25, seed=7) > -0.5).double()
    found = templates(points, logits, labels, weights, support)
    expected = slow_templates(points, logits, labels, weights, support)
    torch.testing.assert_close(found, expected)


# --------------------------------------------------------------------- a small network


class Small(nn.Module):
    """A network of one modality, its fusion head with a hidden layer."""

    def __init__(self, head=None):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU())
        head = head or nn.Sequential(
            nn.Linear(6, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3)
        )
        self.heads = nn.ModuleDict({FUSION: head})

    def forward(self, signals, masks):
        hidden = self.backbone(signals["eeg"][:, 0, 0])
        present = {FUSION: masks["eeg"].any(-1)}
        return Outputs({FUSION: hidden}, {FUSION: self.heads[FUSION](hidden)}, present)


def network(head=None):
    torch.manual_seed(0)
    return Small(head).eval()


def batches(sizes=(6, 7), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            {"eeg": 1 + 2 * torch.randn(size, 1, 1, 3, generator=generator)},
            {"eeg": torch.ones(size, 1, dtype=torch.bool)},
        )
        for size in sizes
    ]


def changed_by(adapter, given=None):
    """Return the names of what an adapter changes in a small network."""
    small = network()
    before = {name: value.clone() for name, value in small.state_dict().items()}
    adapter.settle(small, given or batches(), descend)
    assert not any(module.training for module in small.modules())
    assert all(value.grad is None for value in small.parameters())
    after = small.state_dict()
    return {name for name in before if not torch.equal(before[name], after[name])}


STATISTICS = {
    f"backbone.1.{name}"
    for name in ("running_mean", "running_var", "num_batches_tracked")
}
WITHIN = {f"backbone.{k}.{name}" for k in (0, 1) for name in ("weight", "bias")}
HEAD = {f"heads.fusion.{k}.{name}" for k in (0, 3) for name in ("weight", "bias")}


def test_shot_leaves_the_heads_alone_and_t_time_nothing():
    assert changed_by(Shot()) == WITHIN | STATISTICS
    assert changed_by(TTime()) == WITHIN | STATISTICS | HEAD
    assert changed_by(T3A()) == {"heads.fusion.3.weight", "heads.fusion.3.bias"}


@pytest.mark.parametrize("adapter", [Shot(), TTime(), T3A()])
@pytest.mark.parametrize("lost", [False, True])
def test_a_single_sample_and_what_is_not_there_leave_it_finite(adapter, lost):
    for sizes in ([1], [4, 5]):
        given, small = batches(sizes), network()
        for _, masks in given:
            masks["eeg"] &= not lost
        adapter.settle(small, given, descend)
        assert all(bool(v.isfinite().all()) for v in small.state_dict().values())


def test_shot_tells_its_labels_anew_before_every_pass(monkeypatch):
    from domainemo.adapters.test_time import shot

    told = []

    def watched(*given):
        assert not any(module.training for module in small.modules())
        told.append(labels_by_centroids(*given))
        return told[-1]

    monkeypatch.setattr(shot, "labels_by_centroids", watched)
    small = network()
    Shot(epochs=3, learning_rate=0.3).settle(small, batches(), descend)
    assert len(told) == 3 and {len(labels) for labels in told} == {13}
    assert any(not told[0].equal(later) for later in told[1:])


def test_shot_without_labels_lowers_information():
    small, given = network(), batches((40,))
    small.backbone[1] = nn.Identity()  # the same function in steps and after them

    @torch.no_grad()
    def loss():
        outputs = small(*given[0])
        return float(information_loss(outputs.logits[FUSION], torch.ones(40)))

    before = loss()
    Shot(pseudo_weight=0, epochs=40, learning_rate=0.05).settle(small, given, descend)
    assert loss() < before - 0.05


def test_t_time_counts_earlier_batches_and_each_pass_anew(monkeypatch):
    from domainemo.adapters.test_time import t_time

    seen = []

    def watched(logits, counts, weights):
        seen.append((counts, confident_counts(logits.detach(), weights, 0.4)))
        return adaptive_information_loss(logits, counts, weights)

    monkeypatch.setattr(t_time, "adaptive_information_loss", watched)
    adapter = TTime(confidence=0.4, epochs=2, temperature=1.0)
    adapter.settle(network(), batches((6, 7, 5)), descend)
    assert len(seen) == 6 and any(own.any() for _, own in seen)
    for first in (0, 3):
        expected = torch.zeros(3)
        for counts, own in seen[first : first + 3]:
            assert torch.equal(counts, expected)
            expected = expected + own


def test_t3a_predicts_by_templates_of_what_the_last_layer_is_handed():
    small, given = network(), batches((9, 8))
    given[1][1]["eeg"][2:4] = False  # these are not there
    head, layer = small.heads[FUSION], small.heads[FUSION][3]
    with torch.no_grad():
        outputs = [small(*batch) for batch in given]
        handed = torch.cat([head[1](head[0](o.embeddings[FUSION])) for o in outputs])
        logits = torch.cat([o.logits[FUSION] for o in outputs])
        there = torch.cat([o.weight(FUSION) for o in outputs])
        found = slow_templates(
            torch.cat([layer.weight, handed]),
            torch.cat([layer.weight @ layer.weight.T + layer.bias, logits]),
            torch.cat([torch.arange(3), logits.argmax(1)]),
            torch.cat([torch.ones(3), there]),
            2,
        )
    T3A(support=2).settle(small, given, descend)
    torch.testing.assert_close(small(*given[0]).logits[FUSION], handed[:9] @ found.T)


def test_t3a_is_refused_where_no_linear_layer_makes_the_logits():
    linear = nn.Linear(6, 3)
    fine = network(linear)
    T3A().settle(fine, batches(), descend)
    scaled = nn.Sequential(nn.Linear(6, 3), nn.Softplus())
    for head in (scaled, nn.Identity()):
        with pytest.raises(de.ConfigurationError, match="does not end in a linear"):
            T3A().settle(network(head), batches(), descend)


# -------------------------------------------------- what they do to a shift, options


def shifted(seed, size=90, shift=1.5):
    """Three classes in the plane; the target's are moved."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(size) % 3
    angle = 2 * math.pi * labels / 3
    points = 2.5 * torch.stack([angle.cos(), angle.sin(), 0 * angle], 1)
    points += 0.7 * torch.randn(size, 3, generator=generator)
    return points, labels, points + torch.tensor([shift, 0.3 * shift, 0.0])


@pytest.mark.parametrize(
    "adapter",
    [Shot(learning_rate=1e-2, epochs=10), TTime(learning_rate=1e-2, epochs=10)],
    ids=["shot", "t-time"],
)
def test_a_planted_shift_is_repaired(adapter):
    gained = []
    for seed in range(3):
        points, labels, target = shifted(seed)
        torch.manual_seed(seed)
        small = Small().eval()
        small.backbone[1] = nn.Identity()
        optimiser = torch.optim.Adam(small.parameters(), 1e-2)
        mask = {"eeg": torch.ones(len(points), 1, dtype=torch.bool)}

        def told(values, small=small, mask=mask):
            return small({"eeg": values[:, None, None]}, mask).logits[FUSION]

        for _ in range(100):
            optimiser.zero_grad()
            nn.functional.cross_entropy(told(points), labels).backward()
            optimiser.step()
        before = float((told(target).argmax(1) == labels).float().mean())
        small.zero_grad(set_to_none=True)
        adapter.settle(small, [({"eeg": target[:, None, None]}, mask)], descend)
        after = float((told(target).argmax(1) == labels).float().mean())
        gained.append(after - before)
    assert np.mean(gained) > 0.03 and min(gained) > -0.02


@pytest.mark.parametrize("seed", range(3))
def test_t3a_turns_a_crooked_last_layer_to_the_classes(seed):
    points, labels, _ = shifted(seed, size=300)
    torch.manual_seed(seed)
    small = Small(nn.Linear(3, 3)).eval()
    small.backbone = nn.Identity()
    angle = 2 * math.pi * torch.arange(3) / 3 + 0.7  # of 1.05 to the next class
    with torch.no_grad():
        turned = torch.stack([angle.cos(), angle.sin(), 0 * angle], 1)
        small.heads[FUSION].weight.copy_(2 * turned)
        small.heads[FUSION].bias.zero_()
    batch = {"eeg": points[:, None, None]}, {"eeg": torch.ones(300, 1).bool()}

    def right():
        told = small(*batch).logits[FUSION].argmax(1)
        return float((told == labels).float().mean())

    before = right()
    T3A(support=50).settle(small, [batch], descend)
    assert right() > before + 0.03


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_samples_is_drawn_from_the_seed(name):
    samples = Samples(
        {"eeg": batches([13])[0][0]["eeg"][:, 0]},
        {"eeg": torch.ones(13, dtype=torch.bool)},
        torch.arange(13)[:, None],
        torch.arange(13),
    )
    adapter = de.registry.find("adapter", name)()

    def state(seed):
        small = network()
        settle(small, adapter, samples, training=de.Training(batch_size=4), seed=seed)
        return torch.cat([v.flatten().double() for v in small.state_dict().values()])

    assert torch.equal(state(0), state(0))
    assert torch.equal(state(0), state(1)) == (name == "t3a")


class Drawing(SourceFree):
    """Remembers the samples that it is handed, and draws a number."""

    def settle(self, network, batches, descend):
        self.handed = [signals["eeg"][:, 0, 0, 0].tolist() for signals, _ in batches]
        self.drawn = float(torch.rand(()))


def test_whatever_is_drawn_while_a_network_settles_is_drawn_by_the_seed():
    """All samples once, in batches, of which none is a single one."""
    signals = torch.arange(9.0)[:, None, None].expand(9, 4, 5)
    there, rows = torch.ones(9, dtype=torch.bool), torch.arange(9)[:, None]
    samples = Samples({"eeg": signals}, {"eeg": there}, rows, torch.arange(9))
    found = []
    for before, seed in ((0, 1), (5, 1), (0, 2)):
        torch.manual_seed(before)
        adapter = Drawing()
        training = de.Training(batch_size=4)
        settle(network(), adapter, samples, training=training, seed=seed)
        assert [len(each) for each in adapter.handed] == [4, 5]
        assert {each for batch in adapter.handed for each in batch} == set(range(9))
        found.append((adapter.handed, adapter.drawn))
    assert found[0] == found[1]
    assert found[0][0] != found[2][0] and found[0][1] != found[2][1]


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("shot", "learning_rate"),
        ("shot", "epochs"),
        ("t-time", "temperature"),
        ("t-time", "epochs"),
        ("t3a", "support"),
    ],
)
def test_options_have_bounds(data, name, option):
    options = {f"adapter.{option}": 0}
    with pytest.raises(de.ConfigurationError, match=option):
        de.run(data, adapter=name, **{**CHOICES, "options": options})


# ------------------------------------------------------------------- runs, and finished


@pytest.fixture(scope="module")
def data():
    return de.load("simulated", subjects=3, sessions=1, trials=6, windows=[3, 4])


def probabilities(table):
    return table.filter(like="p_").to_numpy()


@pytest.mark.parametrize("name", NAMES)
def test_a_fold_is_adapted_and_kept_with_the_same_bits(data, name, tmp_path):
    de.run(
        data,
        adapter=name,
        folds=["subject 2"],
        normalisation="session",
        output=tmp_path,
        baselines=False,
        **CHOICES,
    )
    (stored,) = tmp_path.glob(f"folds/*/*/{name}/predictions.npz")
    model = de.Model.load(tmp_path)
    theirs = data.take(np.flatnonzero(data.inputs.windows["subject"] == 2)).inputs
    with np.load(stored) as file:
        kept = next(v for k, v in file.items() if v.dtype.kind == "f" and v.ndim == 2)
    np.testing.assert_allclose(
        np.sort(probabilities(model.predict(theirs)), 0), np.sort(kept, 0), atol=1e-6
    )


@pytest.fixture(scope="module")
def divided(data):
    new = data.inputs.windows["subject"].to_numpy() == 2
    return data.take(np.flatnonzero(~new)), data.take(np.flatnonzero(new)).inputs


@pytest.fixture(scope="module")
def model(divided):
    return de.train(divided[0], **CHOICES)


@pytest.mark.parametrize("name", NAMES)
def test_a_finished_model_is_adapted_and_stays_as_it_is(divided, model, name):
    before = model.predict(divided[1])
    adapted = model.predict(divided[1], adapt=name)
    assert not np.array_equal(probabilities(adapted), probabilities(before))
    pd.testing.assert_frame_equal(model.predict(divided[1], adapt=name), adapted)
    pd.testing.assert_frame_equal(model.predict(divided[1]), before)


class Nearest(SourceFree):
    """Predicts by the mean of the target, which it keeps in a buffer."""

    def prepare(self, dims, classes, domains):
        self.register_buffer("mean", torch.zeros(dims[FUSION]))
        self.classes = classes

    def settle(self, network, batches, descend):
        found = torch.cat([network(*b).embeddings[FUSION] for b in batches])
        self.mean.copy_(found.detach().mean(0))

    def predict(self, outputs):
        distance = (outputs.embeddings[FUSION] - self.mean).norm(dim=-1)
        return distance[:, None] * torch.arange(self.classes)


class Shaping(de.Adapter):
    """Predicts in its own way, and does nothing without a source."""

    def forward(self, source, target):
        return {}

    def predict(self, outputs):
        return -outputs.logits[FUSION]


def test_what_settles_and_predicts_does_so_in_a_run_and_on_a_finished_model(
    data, divided, model, tmp_path
):
    de.register(Nearest)
    adapted = probabilities(model.predict(divided[1], adapt="nearest"))
    assert (adapted.argmax(1) == 2).all()  # never nearer than nought
    de.run(
        data,
        adapter="nearest",
        folds=["subject 2"],
        output=tmp_path,
        baselines=False,
        **CHOICES,
    )
    again = de.Model.load(tmp_path, fold="subject 2")
    assert bool(again.adapter.mean.any())
    assert (probabilities(again.predict(divided[1])).argmax(1) == 2).all()


def test_no_term_of_an_adapter_is_left_out_in_silence(divided, model):
    both = Composite(terms={"t-time": TTime(), "t3a": T3A()})
    assert len(model.predict(divided[1], adapt=both))
    for other in (Marginal(), Shaping()):
        mixed = Composite(terms={"tent": Tent(), "other": other})
        with pytest.raises(de.ConfigurationError, match="needs the source"):
            model.predict(divided[1], adapt=mixed)


def test_what_changes_nothing_that_is_predicted_says_so(data, divided):
    """Mixup predicts by a classifier of its own, which templates do not reach."""
    mixed = de.train(divided[0], adapter="mixup", **CHOICES)
    with pytest.warns(DomainemoWarning, match=r"T3A changed nothing.*Mixup"):
        told = mixed.predict(divided[1], adapt="t3a")
    pd.testing.assert_frame_equal(told, mixed.predict(divided[1]))
    with pytest.warns(DomainemoWarning, match=r"Composite changed nothing"):
        de.run(
            data,
            adapter="mixup+t3a",
            folds=["subject 2"],
            baselines=False,
            **CHOICES,
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error", DomainemoWarning)
        mixed.predict(divided[1], adapt="shot+t3a")
