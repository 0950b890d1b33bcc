"""What a check is, and what checks of several kinds require alike."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core import Modality
from ..registry import parameters
from ..training.seeds import seed_torch

__all__ = [
    "Check",
    "Files",
    "Sensors",
    "Suite",
    "drawn_options",
    "require",
    "require_equal",
    "require_options",
]

Sensors = Mapping[str, Modality]
Files = str | Path | Callable[[Path], object]
"""A folder of a few files, or what writes them into the folder that it is handed."""


@dataclass(frozen=True)
class Check:
    """One check of one class; call it to run it.

    Attributes
    ----------
    name : str
    part : type
        The class that is checked.
    function : callable
        What is run; the first line of its docstring says what it requires.
    options : mapping of str to value
        Options for its constructor.
    sensors : sequence of mappings of str to Modality
        For backbones: what to build them for.
    files : path or callable, optional
        For data sets: what they read.
    """

    name: str
    part: type
    function: Callable[[Check], None]
    options: Mapping[str, Any] = field(default_factory=dict)
    sensors: Sequence[Sensors] = ()
    files: Files | None = None

    @property
    def __name__(self) -> str:
        """The name, where a test runner looks for it."""
        return self.name

    def build(self, *arguments: Any, seed: int = 0) -> Any:
        """Return a new object of the class, its weights drawn from `seed`."""
        with torch.random.fork_rng(devices=()):
            seed_torch(seed)
            return self.part(*arguments, **self.options)

    def __call__(self) -> None:
        """Run the check.

        Raises
        ------
        AssertionError
            Naming the class, the check, what was found and what was expected.
        """
        summary = (inspect.getdoc(self.function) or "").partition("\n")[0]
        expected = summary.removeprefix("Require ").removesuffix(".")
        try:
            with torch.random.fork_rng(devices=()):
                seed_torch(0)
                self.function(self)
        except AssertionError as failure:
            found = str(failure)
        except Exception as error:
            message = textwrap.shorten(str(error), 400).removesuffix(".")
            found = f"{type(error).__name__}: {message}"
            raise AssertionError(self._sentence(found, expected)) from error
        else:
            return
        raise AssertionError(self._sentence(found, expected))

    def _sentence(self, found: str, expected: str) -> str:
        return (
            f"{self.part.__name__} fails the check {self.name!r}: found {found}; "
            f"expected {expected}."
        )


Suite = Mapping[str, Callable[[Check], None]]
"""The checks of a kind of part, by name."""


def require(holds: bool, found: str) -> None:
    """Raise AssertionError with what was found, unless it holds."""
    if not holds:
        raise AssertionError(found)


def require_options(part: type, required: int) -> None:
    """Refuse constructor parameters that no configuration could set."""
    if part.__init__ is nn.Module.__init__:  # type: ignore[misc]
        return
    signature = list(inspect.signature(part).parameters.values())
    for parameter in signature[required:]:
        require(
            parameter.kind is inspect.Parameter.KEYWORD_ONLY,
            f"the parameter {parameter.name!r}, which is not keyword-only",
        )
        require(
            parameter.default is not inspect.Parameter.empty,
            f"the option {parameter.name!r} without a default",
        )


def require_equal(
    expected: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    *,
    tolerance: float,
    where: str,
    absolute: float | None = None,
) -> None:
    """Refuse tensors that differ by more than a share of themselves, or absolutely."""
    absolute = tolerance / 10 if absolute is None else absolute
    require(
        set(expected) == set(found),
        f"{', '.join(found) or 'nothing'} {where}, {', '.join(expected)} before",
    )
    for name, value in expected.items():
        first, second = value.detach(), found[name].detach()
        require(
            torch.equal(first, second)
            or torch.allclose(first, second, rtol=tolerance, atol=absolute),
            f"{name!r} off by {(first - second).abs().max().item():.3g} {where}",
        )


def drawn_options(check: Check) -> Iterator[dict[str, Any]]:
    """Yield options from the search space, all of them known to the constructor."""
    import optuna

    known = parameters(check.part)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for _ in range(5):
            options = check.part.space(study.ask())  # type: ignore[attr-defined]
            unknown = sorted(set(options) - set(known))
            require(not unknown, f"unknown options {', '.join(unknown)}")
            yield options
    finally:
        optuna.logging.set_verbosity(verbosity)
