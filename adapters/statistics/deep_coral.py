"""Deep CORAL: correlation alignment of source and target embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from domainemo.adapters.alignment import Alignment
from domainemo.adapters.marginal import correlation_distance
from domainemo.core import Source, Target
from domainemo.registry import register

if TYPE_CHECKING:
    import optuna

__all__ = ["DeepCORAL"]


@register(name="deep-coral")
class DeepCORAL(Alignment):
    r"""Correlation alignment: covariances of source and target alike (Deep CORAL).

    .. math:: \frac{1}{4 d^2} \left\| C_s - C_t \right\|_F^2

    with the covariances of the embeddings of size d (Sun and Saenko, ECCV workshops
    2016). It does not see a shift of the mean. As the loss goes with the fourth power
    of the embeddings' scale, the paper sets its weight such that at the end of training
    it is as large as the classification loss.

    Parameters
    ----------
    weight, branches, schedule
        See `Alignment`.
    """

    def discrepancy(self, source: Source, target: Target, branch: str) -> Tensor:
        """Return the squared distance of the covariances; zero of single points."""
        return correlation_distance(
            source.outputs.embeddings[branch],
            target.outputs.embeddings[branch],
            source.outputs.weight(branch),
            target.outputs.weight(branch),
        )

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw the weight."""
        return {"weight": trial.suggest_float("weight", 0.1, 1000, log=True)}
