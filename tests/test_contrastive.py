"""The cross-modal contrast against loops, and what it does to a network."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from fitted import fit
from torch.nn import functional

from domainemo.adapters.contrastive import CrossModalContrast, contrast
from domainemo.adapters.mmstg_net import MMSTGNetContrast
from domainemo.backbones.mmstg_net import MMSTGNet
from domainemo.core import FUSION, Outputs, Source, Target
from domainemo.data.normalisation import normalise
from domainemo.data.simulator import Simulated
from domainemo.errors import ConfigurationError
from domainemo.registry import find
from domainemo.samplings.sequences import Sequences
from domainemo.testing import checks
from domainemo.training.batches import LabelledSamples, majority_label, sample
from domainemo.training.model import Network
from domainemo.training.settings import Training

torch.set_num_threads(1)
DOUBLE = torch.float64


def draw(seed, *, batch=12, dim=5):
    """Two views, weights with zeros among them, labels."""
    generator = torch.Generator().manual_seed(seed)
    views = torch.randn(2, batch, dim, generator=generator, dtype=DOUBLE)
    weights = (torch.rand(batch, generator=generator) < 0.7).to(DOUBLE)
    labels = torch.randint(3, (batch,), generator=generator)
    return *views, weights, labels


def slow_contrast(first, second, weights, labels, temperature):
    """InfoNCE term by term, both ways."""
    first, second = first.tolist(), second.tolist()
    there = [i for i, weight in enumerate(weights.tolist()) if weight]
    if len(there) < 2:
        return 0.0

    def similar(a, b):
        cosine = sum(x * y for x, y in zip(a, b, strict=True))
        return math.exp(cosine / (math.hypot(*a) * math.hypot(*b)) / temperature)

    total = 0.0
    for anchors, others in ((first, second), (second, first)):
        for i in there:
            mass = 0.0
            for j in there:
                if i == j or labels is None or labels[i] != labels[j]:
                    mass += similar(anchors[i], others[j])
            total -= math.log(similar(anchors[i], others[i]) / mass)
    return total / (2 * len(there))


# ----------------------------------------------------------------------------- loss


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_contrast_equals_a_double_loop(seed, labelled, temperature):
    first, second, weights, labels = draw(seed)
    labels = labels if labelled else None
    found = contrast(first, second, weights, labels, temperature=temperature)
    expected = slow_contrast(first, second, weights, labels, temperature)
    assert expected > 0
    assert float(found) == pytest.approx(expected, rel=1e-10)
    turned = contrast(second, first, weights, labels, temperature=temperature)
    assert float(turned) == pytest.approx(expected, rel=1e-10)


def test_contrast_is_two_cross_entropies():
    first, second, weights, _ = draw(0)
    units = [functional.normalize(each, dim=-1) for each in (first, second)]
    logits, own = units[0] @ units[1].T / 0.1, torch.arange(12)
    expected = (
        functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)
    ) / 2
    torch.testing.assert_close(contrast(first, second, weights * 0 + 1), expected)


def test_contrast_of_aligned_orthogonal_pairs_has_a_closed_form():
    views = torch.eye(6, dtype=DOUBLE)
    found = contrast(3 * views, 5 * views, torch.ones(6, dtype=DOUBLE))
    assert float(found) == pytest.approx(math.log(1 + 5 * math.exp(-10)), rel=1e-9)


def test_what_is_undefined_is_zero_with_zero_gradient():
    first, second, weights, labels = draw(1)
    nothing, alone = weights * 0, weights * 0
    alone[3] = 1
    one_class, every = labels * 0, nothing + 1
    for mask, given in ((nothing, None), (alone, None), (every, one_class)):
        views = [each.clone().requires_grad_() for each in (first, second)]
        loss = contrast(*views, mask, given)
        loss.backward()
        assert not loss.detach().any() and not any(view.grad.any() for view in views)


def test_absent_samples_and_rows_of_zeros_have_no_gradient():
    first, second, _, _ = draw(2)
    weights = torch.ones(12, dtype=DOUBLE)
    weights[2] = 0
    first[4] = 0
    views = [each.clone().requires_grad_() for each in (first, second)]
    contrast(*views, weights).backward()
    assert all(view.grad.isfinite().all() for view in views)
    assert not views[0].grad[2].any() and not views[1].grad[2].any()
    assert not views[0].grad[4].any() and views[0].grad[0].any()


# --------------------------------------------------------------------------- adapter


def outputs(names, seed, dims=5, lost=()):
    generator = torch.Generator().manual_seed(seed)
    branches = (*names, FUSION)
    present = {n: torch.rand(8, generator=generator) < 0.8 for n in names}
    for name in lost:
        present[name] = torch.zeros(8, dtype=torch.bool)
    dims = dims if isinstance(dims, dict) else dict.fromkeys(branches, dims)
    return Outputs(
        {b: torch.randn(8, dims[b], generator=generator) for b in branches},
        {b: torch.randn(8, 3, generator=generator) for b in branches},
        present,
    )


def both(names, **options):
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
    source = Source(outputs(names, 0, **options), labels, labels * 0)
    return source, Target(outputs(names, 1, **options), 0.5)


@pytest.mark.parametrize(
    ("names", "lost"),
    [
        (("eeg", "eye"), ()),
        (("eeg", "eye", "ecg"), ()),
        (("eeg", "eye", "ecg", "gsr"), ("ecg",)),
    ],
)
@pytest.mark.parametrize("exclude", [True, False])
def test_adapter_averages_the_pairs_there_are(names, lost, exclude):
    source, target = both(names, lost=lost)
    adapter = CrossModalContrast(weight=0.5, exclude_same_class=exclude)
    found = adapter(source, target)
    assert adapter.needs_target and set(found) == {"source", "target"}
    labels = source.labels if exclude else None
    for role, seen, known in (
        ("source", source.outputs, labels),
        ("target", target.outputs, None),
    ):
        pairs = [
            slow_contrast(
                seen.embeddings[a],
                seen.embeddings[b],
                seen.weight(a) * seen.weight(b),
                known,
                0.1,
            )
            for a, b in itertools.combinations(names, 2)
            if not {a, b} & set(lost)
        ]
        expected = 0.5 * sum(pairs) / len(pairs)
        assert float(found[role]) == pytest.approx(expected, rel=1e-4)


def test_source_alone():
    source, target = both(("eeg", "eye"))
    adapter = CrossModalContrast(on_target=False)
    found = adapter(source, target)
    assert not adapter.needs_target and set(found) == {"source"}
    assert torch.equal(found["source"], CrossModalContrast()(source, target)["source"])


def test_one_modality_or_none_present_is_zero():
    for names, lost in ((("eeg",), ()), (("eeg", "eye"), ("eye",))):
        found = CrossModalContrast()(*both(names, lost=lost))
        assert [float(loss) for loss in found.values()] == [0.0, 0.0]


def test_unfit_branches_and_options_are_explained():
    unlike = {"eeg": 4, "eye": 5, FUSION: 5}
    with pytest.raises(ConfigurationError, match="eeg has 4, eye has 5"):
        CrossModalContrast()(*both(("eeg", "eye"), dims=unlike))
    same = {"eeg": 4, "eye": 4, FUSION: 9}
    CrossModalContrast()(*both(("eeg", "eye"), dims=same))
    with pytest.raises(ConfigurationError, match=r"temperature is 0"):
        CrossModalContrast(temperature=0)


def test_mmstg_net_s_preset_is_the_contrast_of_the_source_alone():
    source, target = both(("eeg", "eye"))
    preset, whole = MMSTGNetContrast(), CrossModalContrast()
    assert (preset.needs_target, whole.needs_target) == (False, True)
    found, expected = preset(source, target), whole(source, target)
    assert set(found) == {"source"} and set(expected) == {"source", "target"}
    assert torch.equal(found["source"], expected["source"]) and found["source"] > 0
    for kind in ("adapter", "backbone"):  # a network and a loss, by one name
        assert find(kind, "mmstg-net").registered_name == "mmstg-net"


@pytest.mark.parametrize(
    "check", [*checks(CrossModalContrast), *checks(MMSTGNetContrast)]
)
def test_shipped_checks(check):
    check()


# -------------------------------------------------------------------------- training


def alignment(model, samples):
    """Mean cosine of synchronous pairs, less that of all others."""
    model.eval()
    with torch.no_grad():
        found = model(*samples.batch(torch.arange(len(samples)))).embeddings
    units = [functional.normalize(found[name], dim=-1) for name in ("eeg", "eye")]
    cosines, count = units[0] @ units[1].T, len(samples)
    own = cosines.diagonal().sum()
    return float(own / count - (cosines.sum() - own) / (count * (count - 1)))


def recordings():
    """Two source subjects and one target, normalised, as samples of four windows."""
    data = Simulated(subjects=3, sessions=1, trials=9, windows=(6, 9)).load()
    subjects = pd.factorize(data.inputs.windows["subject"])[0]
    here, there = np.flatnonzero(subjects < 2), np.flatnonzero(subjects == 2)
    inputs, _ = normalise(data.inputs, "session", source=here, target=there)
    sampling, device = Sequences(length=4, stride=2), torch.device("cpu")
    source, members = sample(inputs, here, sampling, device)
    target, _ = sample(inputs, there, sampling, device)
    labels = torch.from_numpy(majority_label(members, data.labels))
    domains = torch.from_numpy(subjects[members[:, 0]])
    return data, LabelledSamples(source, labels, domains), target


def test_training_aligns_the_modalities_of_both_domains():
    data, source, target = recordings()
    modalities, found = data.inputs.modalities, {}
    for name in ("none", "cross-modal-contrast"):
        torch.manual_seed(0)
        backbone = MMSTGNet(modalities, block_widths=(8,), width=16, dropout=0.0)
        model = Network(backbone, modalities, len(data.classes))
        before = [alignment(model, each) for each in (source.samples, target)]
        fit(
            model,
            find("adapter", name)(),
            source,
            target,
            validator=find("validator", "last")(),
            held_out=None,
            training=Training(epochs=12, batch_size=16, learning_rate=5e-3),
            seed=0,
        )
        after = [alignment(model, each) for each in (source.samples, target)]
        found[name] = list(zip(before, after, strict=True))
    for (_, without), (before, after) in zip(*found.values(), strict=True):
        assert after > max(before, without) + 0.3
