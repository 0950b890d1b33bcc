"""A network that is trained to the end, as a run trains it."""

from domainemo.training.fit import Fitting
from domainemo.training.loop import Loop

__all__ = ["fit"]


def fit(model, adapter, source, target, *, seed, checkpoint=None, report=None, **given):
    """Train `model` in place, and return what training left behind."""
    task = Fitting(model, adapter, source, target, **{"traced": None, **given})
    loop = Loop(task, seed=seed, checkpoint=checkpoint, report=report)
    loop.run()
    return task.conclude(loop)
