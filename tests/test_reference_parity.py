"""The loss terms and the screening equal the released UF-AMA code's values.

Another file of the same layout is read from ``DOMAINEMO_REFERENCE_CASES`` when set.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from domainemo.adapters.conditional import conditional_discrepancy
from domainemo.adapters.consistency import Consistency
from domainemo.adapters.distillation import Distillation
from domainemo.adapters.kernels import maximum_mean_discrepancy
from domainemo.adapters.marginal import Marginal
from domainemo.adapters.pairwise import PairwiseSimilarity, pairwise_similarity
from domainemo.core import Outputs, Source, Target
from domainemo.screens.confidence import Screening

FILE = os.environ.get(
    "DOMAINEMO_REFERENCE_CASES",
    str(Path(__file__).parent / "data" / "uf_ama_reference_cases.npz"),
)
BRANCHES = ("eeg", "eye", "fusion")
SHARES = {"eeg": 0.25, "eye": 0.25, "fusion": 0.5}
TOLERANCE = {"rtol": 0, "atol": 1e-5}


def cases():
    with np.load(FILE) as file:
        arrays = dict(file)
    found = {}
    for key, value in arrays.items():
        case, quantity = key.split("/")
        found.setdefault(case, {})[quantity] = torch.as_tensor(value)
    return [pytest.param(value, id=f"case {case}") for case, value in found.items()]


def ones(n):
    return torch.ones(n)


def batch(case):
    def outputs(domain):
        return Outputs(
            embeddings={b: case[f"{domain}_{b}"] for b in BRANCHES},
            logits={b: case[f"{domain}_logits_{b}"] for b in BRANCHES},
        )

    labels = case["labels"].long()
    source = Source(outputs("source"), labels, torch.zeros_like(labels))
    return source, Target(outputs("target"), progress=0.0)


@pytest.mark.parametrize("case", cases())
@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("linear", [True, False])
def test_marginal(case, branch, linear):
    source, target = case[f"source_{branch}"], case[f"target_{branch}"]
    value = maximum_mean_discrepancy(
        source, target, ones(len(source)), ones(len(target)), linear=linear
    )
    expected = case[f"mmd_{'linear' if linear else 'full'}_{branch}"]
    torch.testing.assert_close(value, expected, **TOLERANCE)
    distance = "mmd-linear" if linear else "mmd"
    losses = Marginal(distance=distance, schedule="constant")(*batch(case))
    torch.testing.assert_close(losses[branch], SHARES[branch] * expected, **TOLERANCE)


@pytest.mark.parametrize("case", cases())
@pytest.mark.parametrize("branch", BRANCHES)
def test_pairwise(case, branch):
    logits, labels = case[f"source_logits_{branch}"], case["labels"].long()
    value = pairwise_similarity(logits, labels, ones(len(labels)))
    torch.testing.assert_close(value, case[f"pair_{branch}"], **TOLERANCE)
    losses = PairwiseSimilarity()(*batch(case))
    expected = SHARES[branch] * case[f"pair_{branch}"]
    torch.testing.assert_close(losses[branch], expected, **TOLERANCE)


@pytest.mark.parametrize("case", cases())
def test_screening_masks(case):
    _, target = batch(case)
    pseudo = Screening(judge="released", teachers=1, own_opinion=0)(target)
    assert torch.equal(pseudo.weights["fusion"].bool(), case["consistent"])
    assert torch.equal(pseudo.weights["eye"].bool(), case["eeg_teaches"])
    assert torch.equal(pseudo.weights["eeg"].bool(), case["eye_teaches"])
    teacher = {"eye_teaches": "eye", "eeg_teaches": "eeg", "consistent": "eeg"}
    for mask, branch in teacher.items():
        labels = case[f"target_logits_{branch}"].argmax(-1)
        assert torch.equal(pseudo.labels[case[mask]], labels[case[mask]])


@pytest.mark.parametrize("case", cases())
def test_consistency(case):
    adapter = Consistency(
        schedule="constant",
        screen=Screening(judge="released", teachers=1, own_opinion=0),
    )
    loss = adapter(*batch(case))["fusion"]
    torch.testing.assert_close(loss, case["consistency"], **TOLERANCE)


@pytest.mark.parametrize("case", cases())
def test_distillation(case):
    screen = Screening(judge="released", teachers=1, own_opinion=0, teaching_floor=0.9)
    adapter = Distillation(minimum=3, schedule="constant", screen=screen)
    losses = adapter(*batch(case))
    for taught, name in (("eye", "eeg_to_eye"), ("eeg", "eye_to_eeg")):
        expected = case[f"distill_{name}"] / 2
        torch.testing.assert_close(losses[taught], expected, **TOLERANCE)


@pytest.mark.parametrize("case", cases())
def test_conditional_of_one_class_is_the_marginal(case):
    """The released code has no conditional term; of a single class it is the MMD."""
    source, target = case["source_fusion"], case["target_fusion"]
    n = len(source)
    value = conditional_discrepancy(
        source, target, torch.zeros(n).long(), torch.ones(n, 1), ones(n), ones(n)
    )
    torch.testing.assert_close(value.squeeze(), case["mmd_full_fusion"], **TOLERANCE)
