"""Several validators, added up."""

from __future__ import annotations

from ..core import Source, Target
from ..errors import ConfigurationError
from ..registry import register
from .joined import Joined

__all__ = ["WeightedSum"]


@register(name="weighted-sum")
class WeightedSum(Joined):
    r"""A weighted sum of several validators' scores.

    .. math:: \sum_m w_m s_m

    Each score counts on its own scale: the balanced accuracy runs from 0 to 1,
    information up to log(classes), BNM falls with the number of samples. It assumes
    that the weights make up for that, and for what they cannot know; the default is
    ``"source-and-information"`` but for the division by log(classes).

    Parameters
    ----------
    validators : tuple of str
        Names of validators that score each network by itself.
    weights : tuple of float
        One for each.
    """

    def __init__(
        self,
        *,
        validators: tuple[str, ...] = ("source", "information-maximisation"),
        weights: tuple[float, ...] = (1.0, 0.5),
    ) -> None:
        super().__init__(validators)
        self.refuse_compared()
        if len(weights) != len(validators):
            raise ConfigurationError(
                f"validator.weights has {len(weights)} numbers for {len(validators)} "
                f"validators, {', '.join(validators)}; expected one for each."
            )
        self.validators, self.weights = tuple(validators), tuple(weights)

    def __call__(
        self, training: Source | None, held_out: Source | None, target: Target
    ) -> float:
        """Return the weighted sum."""
        scores = self.of_members(training, held_out, target)
        return sum(w * score for w, score in zip(self.weights, scores, strict=True))
