"""The run's own training, without the target's statistics: what these are worth."""

from __future__ import annotations

from copy import copy

from ..core import Normalisation, Retraining
from ..errors import ConfigurationError
from ..registry import register

__all__ = ["TargetStatisticsWithheld"]


@register
class TargetStatisticsWithheld(Retraining):
    """The run's network and adapter, everybody normalised by the source alone.

    The run's own normalisation, learned from all of the source at once in place of each
    session or subject. What the result is above it comes of statistics of the target's
    windows, most of them later ones than the first that is predicted: nobody has them
    as a session begins.
    """

    words = "the run's own training, normalised by what the source alone shows"

    def renormalise(self, chosen: Normalisation) -> Normalisation:
        """Return the same normalisation, learned from the source."""
        if chosen.by not in ("session", "subject"):
            raise ConfigurationError(
                f"The control 'target-statistics-withheld' would be the run itself, "
                f"whose values are {chosen.words}: nothing of the target is in its "
                f"normalisation. Leave the control out (--controls), or normalise by "
                f"session or subject (--normalisation)."
            )
        found = copy(chosen)
        found.by = "source"
        found.words = f"{chosen.words}; withheld: learned from the source alone"
        return found
