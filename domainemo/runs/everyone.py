"""Train on everybody: one final model, for whoever comes."""

from __future__ import annotations

from ..adapters.composite import on_source_alone
from ..core import EmotionData
from ..data.given import expect_labelled
from ..errors import ConfigurationError
from ..training.model import Network
from ..training.seeds import reproducible
from .checks import select_modalities
from .experiment import Experiment
from .newcomers import check_source
from .plan import Plan, build_once, ordered

__all__ = ["plan_everyone"]


def plan_everyone(data: EmotionData, chosen: Experiment) -> Plan:
    """Check recordings against an experiment that trains on all of them.

    Parameters
    ----------
    data : EmotionData
    chosen : Experiment
        With the protocol `everyone`.

    Raises
    ------
    ConfigurationError, DataError
        For anything that would fail later, such as an adapter that needs a target.
    """
    data = expect_labelled(data, "the recordings")
    inputs = select_modalities(data.inputs, chosen.modalities, chosen.exclude)
    rows = ordered(inputs, chosen.exclude)
    data = EmotionData(inputs, data.labels, data.classes).take(rows)
    check_source(data, chosen)
    on_source_alone(chosen.adapter.build())
    validator = None if chosen.validator is None else chosen.validator.build()
    if validator is None or validator.sees_target:
        raise ConfigurationError(
            f"The epoch is to be chosen by {chosen.selection!r}, which looks at a "
            f"target, and here is none; expected one that does not, such as "
            f"--validator last or source."
        )
    folds = list(chosen.protocol.build().split(data.inputs.windows.copy()))
    classes = len(data.classes)
    with reproducible(chosen.training.threads):
        backbone = build_once(
            data.inputs, chosen, lambda b: Network(b, data.inputs.modalities, classes)
        )
    made = data.inputs, data.labels, data.classes
    return Plan(*made, chosen, folds, backbone.sampling)
