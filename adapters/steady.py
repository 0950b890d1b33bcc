"""Alignment first, then whole trials: what is meant to help and to harm nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from domainemo.core import Adapter
from domainemo.registry import register
from domainemo.values import Bounds

from .alignment import Weight
from .branches import Branches, Schedule
from .composite import Composite
from .conditional import Conditional
from .marginal import Distance, Marginal
from .self_training.whole_trials import Trust, WholeTrials

if TYPE_CHECKING:
    import optuna

__all__ = ["Steady"]


@register(name="steady")
class Steady(Composite):
    r"""UF-AMA's alignment, and then what the aligned network says of whole trials.

    .. math:: L = L_{cls} + r(p) \, w_a (L_{mmd} + L_{cmmd}) + w_t \, [p \ge p_j] \,
              L_{trials}

    with training's progress :math:`p`: for a third of it the network learns the source
    alone; then its branches are aligned with the target, as a whole and class by class
    (`Marginal`, `Conditional`; schedule :math:`r`); and from :math:`p_j` on it learns
    of each of the target's windows what it had come to say of the window's whole trial,
    as far as that is clear (`WholeTrials`).

    The parts are UF-AMA's without its pseudo-labels of single windows, and without its
    pairwise term. Those labels are a network's opinion of a window, taught to the same
    window: right or wrong, it confirms itself (``docs/harm.md``). A trial's mean
    opinion knows more than the window's, and is the only thing that is taught here.
    ``docs/whole-trials.md`` has what it is worth, and what did not work.

    Parameters
    ----------
    alignment, trials : float
        Weights :math:`w_a` and :math:`w_t`; 0 leaves the terms out.
    branches : str or sequence of str
        Where to align, and which branches learn of trials; see `Alignment`.
    distance : {"mmd", "mmd-linear", "coral", "transport"}
        Of the marginal term, which does not vectorise with ``"transport"``.
    schedule : {"delayed", "ramp", "constant", "released"}
        How the weight of alignment develops, see `branches.schedule_factor`.
    judged_from : float
        The progress :math:`p_j` at which trials are judged, once.
    trust : {"margin", "all"}
        See `WholeTrials`.
    """

    def __init__(
        self,
        *,
        alignment: Weight = 1.0,
        trials: Weight = 2.0,
        branches: Branches = "all",
        distance: Distance = "mmd",
        schedule: Schedule = "delayed",
        judged_from: Annotated[float, Bounds(0, 1)] = 0.5,
        trust: Trust = "margin",
    ) -> None:
        terms: dict[str, Adapter] = {}
        if alignment:
            aligned: dict[str, Any] = {
                "weight": alignment,
                "branches": branches,
                "schedule": schedule,
            }
            terms["marginal"] = Marginal(distance=distance, **aligned)
            terms["conditional"] = Conditional(**aligned)
        if trials:
            terms["trials"] = WholeTrials(
                weight=trials, branches=branches, judged_from=judged_from, trust=trust
            )
        super().__init__(terms=terms)

    @classmethod
    def space(cls, trial: optuna.Trial) -> dict[str, Any]:
        """Draw both weights."""
        return {
            "alignment": trial.suggest_float("alignment", 0.01, 10, log=True),
            "trials": trial.suggest_float("trials", 0.1, 10, log=True),
        }
