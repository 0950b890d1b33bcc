"""What stands in for Optuna's trial where a part says what it would draw."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, cast

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

__all__ = ["Drawing", "Probe", "contains", "in_words"]


class Drawing(ABC):
    """Draws as an Optuna trial does; what a draw gives is for others to say."""

    def suggest_float(
        self,
        name: str,
        low: float,
        high: float,
        *,
        step: float | None = None,
        log: bool = False,
    ) -> float:
        """Draw a number."""
        return float(self.draw(name, FloatDistribution(low, high, log=log, step=step)))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Draw a whole number."""
        return int(self.draw(name, IntDistribution(low, high, log=log, step=step)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Draw one of some values."""
        return self.draw(name, CategoricalDistribution(list(choices)))

    @abstractmethod
    def draw(self, name: str, distribution: BaseDistribution) -> Any:
        """Return a value."""


class Probe(Drawing):
    """Notes every range, and draws what the study begins with."""

    def __init__(self, start: Mapping[str, Any]) -> None:
        self.start = start
        self.found: dict[str, BaseDistribution] = {}

    def draw(self, name: str, distribution: BaseDistribution) -> Any:
        """Return the experiment's own value, or the first where it is out of range."""
        self.found[name] = distribution
        if contains(distribution, self.start.get(name)):
            return self.start[name]
        if isinstance(distribution, CategoricalDistribution):
            return distribution.choices[0]
        return cast("FloatDistribution", distribution).low


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Return whether a value lies in a range."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    if type(value) not in (int, float):
        return False
    number = cast("FloatDistribution | IntDistribution", distribution)
    if isinstance(number, IntDistribution) and value != int(value):
        return False
    return bool(number.low <= value <= number.high)


def in_words(distribution: BaseDistribution) -> str:
    """Return a range as people read it."""
    match distribution:
        case CategoricalDistribution():
            return ", ".join(map(str, distribution.choices))
        case FloatDistribution() | IntDistribution():
            text = f"{distribution.low:g} to {distribution.high:g}"
            if distribution.step and distribution.step != 1:
                text += f" in steps of {distribution.step:g}"
            return f"{text}, logarithmic" if distribution.log else text
    return str(distribution)
