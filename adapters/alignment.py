"""What alignments share: a distance per branch, its weight, and when it counts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from torch import Tensor

from domainemo.core import Adapter, Source, Target
from domainemo.values import Bounds

from .branches import Branches, Schedule, beginning, levels, schedule_factor

if TYPE_CHECKING:
    import optuna

__all__ = ["Alignment", "Weight"]

Weight = Annotated[float, Bounds(least=0)]


class Alignment(Adapter):
    """A distance between source and target on each of some branches, to be lowered.

    Parameters
    ----------
    weight : float
        Weight of the sum over branches.
    branches : str or sequence of str
        Where to align: ``"all"``, ``"modalities"``, or branches by name, such as
        ``"fusion"``; see `branches.levels`.
    schedule : {"ramp", "delayed", "constant", "released"}
        How the weight develops in training: ``"ramp"`` rises from 0, ``"delayed"``
        does after the first third, ``"constant"`` is 1 throughout, ``"released"`` is
        that of UF-AMA's code; see `branches.schedule_factor`.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        branches: Branches = "all",
        schedule: Schedule = "ramp",
    ) -> None:
        super().__init__()
        self.weight, self.branches, self.schedule = weight, branches, schedule

    @abstractmethod
    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the distance on a branch; zero where it is not defined."""

    def forward(self, source: Source, target: Target) -> dict[str, Tensor]:
        """Return one loss per branch."""
        factor = self.weight * schedule_factor(self.schedule, target.progress)
        counted = levels(source.outputs, self.branches)
        found = self.discrepancies(source, target, tuple(counted)) if counted else {}
        return {
            branch: factor * share * found[branch] for branch, share in counted.items()
        }

    def discrepancies(
        self, source: Source, target: Target, branches: Sequence[str]
    ) -> Mapping[str, Tensor]:
        """Return the distance on every branch; overridden where one call does it."""
        return {branch: self.discrepancy(source, target, branch) for branch in branches}

    @property
    def begins(self) -> float:
        """Where the schedule lets go of zero."""
        return beginning(self.schedule, self)

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight."""
        return {"weight": trial.suggest_float("weight", 0.01, 10, log=True)}
