"""How the learning rate develops, against its equations."""

import math

import pytest
from torch import nn

from domainemo.training.loop import Loop, Task
from domainemo.training.optimiser import Adam, AdamW
from domainemo.training.settings import Training


class Nothing(Task):
    """Trains no step."""

    name = "Nothing"

    def steps(self, epoch):
        """Return none."""
        return []


def rates(decay, epochs):
    """The rate at the beginning, the middle and the end of each epoch."""
    training = Training(epochs=epochs, learning_rate=0.5, decay=decay)
    loop = Loop(Nothing(nn.Linear(1, 1), nn.Linear(1, 1), training), seed=0)
    return [
        [loop._learning_rate(epoch + part) for part in (0, 0.5, 0.9)]
        for epoch in range(epochs)
    ]


@pytest.mark.parametrize(("epochs", "period"), [(10, 3), (6, 2), (15, 5), (2, 1)])
def test_warm_restarts_begin_anew_every_third_of_the_epochs(epochs, period):
    """The rate is torch's with T_0 = epochs // 3, stepped once an epoch."""
    for epoch, found in enumerate(rates("warm-restarts", epochs)):
        expected = 0.25 * (1 + math.cos(math.pi * (epoch % period) / period))
        assert found == pytest.approx([expected] * 3)


def test_a_cosine_falls_within_an_epoch_and_a_constant_never():
    falling = [rate for epoch in rates("cosine", 4) for rate in epoch]
    assert falling == sorted(falling, reverse=True) and len({*falling}) == 12
    assert {rate for epoch in rates("constant", 4) for rate in epoch} == {0.5}


@pytest.mark.parametrize(("name", "kind"), [("adamw", AdamW), ("adam", Adam)])
def test_the_loop_descends_by_the_optimiser_that_is_named(name, kind):
    training = Training(optimiser=name, weight_decay=0.25)
    loop = Loop(Nothing(nn.Linear(1, 1), nn.Linear(1, 1), training), seed=0)
    assert type(loop.optimiser) is kind and loop.optimiser.weight_decay == 0.25
