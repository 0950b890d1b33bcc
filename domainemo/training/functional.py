"""A training step as a function of the values that weights have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..core import Batch, Outputs
from .objective import Objective, Shown

__all__ = [
    "OF_EVERY_MODULE",
    "PLAIN",
    "REFUSED",
    "Numbers",
    "StepOf",
    "Values",
    "first_line",
    "tied",
]

OF_EVERY_MODULE = vars(nn.Module()).keys()
"""Attributes that every module has."""

PLAIN = (bool, int, float, str, type(None))
"""Types of which a value is all that there is to know."""

REFUSED = (RuntimeError, TypeError, ValueError, NotImplementedError)
"""What torch raises where a step is no function that it can stack or trace."""

Values = dict[str, Tensor]
"""Weights, buffers or losses by name."""

Numbers = dict[tuple[str, str], Tensor]
"""Numbers that modules have in place of their own, by their path and their name."""


class StepOf(NamedTuple):
    """A step of one training, or of several with a leading axis.

    Attributes
    ----------
    objective : Objective
    judge : Module or None
    trained : dict of str to Tensor
        What gradients are taken of, in place of the objective's own.
    given : tuple
        All else that losses depend on: the other values, numbers, what is shown,
        class weights, progress, and the judge's values.
    generators : sequence of torch.Generator
        What each training draws from.
    """

    objective: Objective
    judge: nn.Module | None
    trained: Values
    given: tuple[Values, Numbers, Shown, Tensor, Tensor, Values]
    generators: Sequence[torch.Generator]

    @property
    def device(self) -> torch.device:
        """Where it is computed."""
        return self.given[3].device

    def losses(self, trained: Values, given: tuple[Any, ...]) -> tuple[Values, Values]:
        """Return every loss term of one training, and the buffers as they are then.

        Parameters
        ----------
        trained : dict of str to Tensor
        given : tuple
            Both as the step has them, without a leading axis.
        """
        rest, numbers, shown, class_weights, progress, judging = given
        values = {**trained, **rest}
        with _having(self.objective, numbers):
            seen = _judgement(self.judge, judging, shown.target)
            arguments = (shown, class_weights, progress, seen)
            # What two modules share has one name and is replaced once, see `tied`.
            found = functional_call(
                self.objective, values, arguments, tie_weights=False
            )
        return found, {name: values[name] for name in rest}


def tied(objective: Objective) -> bool:
    """Return whether layers share weights, so that a step is no function of them."""
    names = [n for n, _ in objective.named_parameters(remove_duplicate=False)]
    return len(names) > len(list(objective.named_parameters()))


def first_line(error: Exception) -> str:
    """Return the kind of an error, and how it begins."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


@contextmanager
def _having(objective: Objective, numbers: Numbers) -> Iterator[None]:
    """Have an objective's modules use these numbers in a block."""
    modules = dict(objective.named_modules())
    own = {(path, name): getattr(modules[path], name) for path, name in numbers}
    try:
        for (path, name), value in numbers.items():
            modules[path].__dict__[name] = value
        yield
    finally:
        for (path, name), known in own.items():
            modules[path].__dict__[name] = known


def _judgement(
    judge: nn.Module | None, values: Values, target: Batch
) -> Outputs | None:
    """Return what a judge that has these values makes of a target."""
    if judge is None:
        return None
    with torch.no_grad():
        outputs: Outputs = functional_call(judge, values, target)
    return outputs
