"""The optimiser is torch's, to the last bit, and loads no compiler."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from domainemo.training.optimiser import Adam, AdamW


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
@pytest.mark.parametrize("kind", [AdamW, Adam])
def test_it_takes_the_steps_of_torch_s_to_the_last_bit(kind, resumed):
    ours, values, labels = problem()
    theirs, *_ = problem()
    made = kind([p for p in ours.parameters() if p.requires_grad], 0.01)
    torchs = getattr(torch.optim, kind.__name__)(
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
            made = kind(made.weights, 0.01)
            made.load_state_dict(state)
        made.forget_gradients()
        lose(ours, values, labels, part).backward()
        made.step(rate)
        for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(mine, its)


def test_the_penalty_is_added_to_the_gradient():
    """Three steps by the equations of Adam, one number at a time."""
    weights, decay, rate = [0.5, -2.0], 0.1, 0.01
    parameter = nn.Parameter(torch.tensor(weights, dtype=torch.float64))
    made = Adam([parameter], decay)
    gradients = [[0.3, -0.1], [0.2, 0.4], [-0.5, 0.0]]
    means, squares = [0.0, 0.0], [0.0, 0.0]
    for step, each in enumerate(gradients, 1):
        parameter.grad = torch.tensor(each, dtype=torch.float64)
        made.step(rate)
        for n, gradient in enumerate(each):
            whole = gradient + decay * weights[n]
            means[n] = 0.9 * means[n] + 0.1 * whole
            squares[n] = 0.999 * squares[n] + 0.001 * whole**2
            mean, square = means[n] / (1 - 0.9**step), squares[n] / (1 - 0.999**step)
            weights[n] -= rate * mean / (square**0.5 + 1e-8)
        assert parameter.tolist() == pytest.approx(weights, rel=1e-12)


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
