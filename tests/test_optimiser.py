"""The optimiser is torch's, to the last bit, and loads no compiler."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from domainemo.training.optimiser import AdamW


def problem():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3), nn.Linear(3, 2)
    )
    for weight in network[3].parameters():
        weight.requires_grad_(False)
    return network, torch.randn(20, 4), torch.randint(0, 2, (20,))


def lose(network, values, labels, part):
    """Return a loss; the first layer has no gradient before the second step."""
    hidden = network[0](values)
    hidden = hidden.detach() if part == 0 else hidden
    return nn.functional.cross_entropy(network[1:](hidden), labels)


@pytest.mark.parametrize("resumed", [False, True])
def test_it_takes_the_steps_of_torch_s_to_the_last_bit(resumed):
    ours, values, labels = problem()
    theirs, *_ = problem()
    made = AdamW([p for p in ours.parameters() if p.requires_grad], 0.01)
    torchs = torch.optim.AdamW(
        [p for p in theirs.parameters() if p.requires_grad],
        weight_decay=0.01,
        fused=True,
    )
    for part in range(5):
        rate = 0.1 / (1 + part)
        torchs.param_groups[0]["lr"] = rate
        torchs.zero_grad()
        lose(theirs, values, labels, part).backward()
        torchs.step()
        if resumed and part == 3:
            state = made.state_dict()
            made = AdamW(made.weights, 0.01)
            made.load_state_dict(state)
        made.forget_gradients()
        lose(ours, values, labels, part).backward()
        made.step(rate)
        for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(mine, its)


def test_a_training_does_not_load_the_compiler(tmp_path):
    """It takes as long to import as all of torch."""
    code = """
import sys
import domainemo as de
data = de.Simulated(subjects=2, sessions=1, trials=6, windows=(2, 2)).load()
de.run(data, backbone="concatenation-mlp", folds=["subject 1"], device="cpu",
       options={"training.epochs": 1}, baselines=False, output=sys.argv[1])
heavy = ("torch._dynamo", "torch._inductor", "pytorch_adapt", "matplotlib", "ot", "mne")
sys.exit(", ".join(name for name in heavy if name in sys.modules) or 0)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-1000:]
