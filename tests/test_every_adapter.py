"""Every registered adapter, found by walking the registry: two people, each in turn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import domainemo
from domainemo.data.simulator import Simulated
from domainemo.registry import entries, find
from domainemo.testing.firewall import SMALL_NETWORK
from domainemo.training.settings import Training

torch.set_num_threads(1)
NAMES = [entry.name for entry in entries("adapter")]
TINY = {"backbone.hidden": (8,), "backbone.width": 4, "backbone.fusion_width": 8}


@pytest.fixture(scope="module")
def data():
    return Simulated(subjects=2, sessions=1, trials=6, windows=(4, 4)).load()


@pytest.mark.parametrize("name", NAMES)
def test_two_folds(data, name):
    network = {"backbone": "concatenation-mlp", "options": TINY}
    if find("adapter", name)().settles:  # by layers that not every network has
        network = {"backbone": SMALL_NETWORK}
    results = domainemo.run(
        data,
        adapter=name,
        training=Training(epochs=2, batch_size=16),
        baselines=False,
        device="cpu",
        **network,
    )
    found = results.predictions
    assert sorted(found["fold"].unique()) == ["subject 1", "subject 2"]
    # Each person's windows once, by a network that was trained without them.
    assert len(found) == len(data)
    shares = found[[column for column in found if column.startswith("p_")]].to_numpy()
    assert np.isfinite(shares).all() and shares.shape[1] == len(data.classes)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)
    # The predicted class is the most probable one; the network is no constant.
    assert (found["predicted"].to_numpy() == shares.argmax(1)).all()
    assert shares.std(0).max() > 0
