"""Interpret the trained networks of a run in one call, from Python."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..values import given_path
from .names import check_run

if TYPE_CHECKING:
    from ..core import EmotionData, Inputs
    from ..review.interpretation import Interpretation

__all__ = ["interpret"]


def interpret(
    folder: str | Path,
    recordings: EmotionData | Inputs | None = None,
    *,
    fold: str | None = None,
    adapter: str | None = None,
    seed: int | None = None,
) -> Interpretation:
    """Return what trained folds attend to on their test windows, or are joined by.

    This is ``domainemo interpret`` without its files. No label is used.

    Parameters
    ----------
    folder : path
        Of a finished run.
    recordings : EmotionData or Inputs, optional
        Those of the run; by default they are read again where its configuration names
        them, which that of a run made from Python does not.
    fold : str, optional
        All by default.
    adapter : str, optional
        Whose networks: the run's own adapter by default; ``"none"`` is source only.
    seed : int, optional
        All by default.

    Returns
    -------
    Interpretation
        Its tables; :meth:`~domainemo.review.interpretation.Interpretation.plot` draws
        the regions on the scalp.

    Raises
    ------
    ConfigurationError
        If the folder is no run's, or its backbone offers neither attention over regions
        nor edges between them.
    DataError
        If these are not the recordings that the folds were tested on.

    Examples
    --------
    >>> made = interpret("run", data, adapter="none")
    >>> made.regions
    """
    from ..review import interpretation as evaluated
    from .configuration import stored_experiment
    from .options import recordings_of_run

    run = given_path("folder", folder)
    check_run(run)
    experiment = stored_experiment(run)
    found = evaluated.find_folds(run, experiment, fold=fold, adapter=adapter, seed=seed)
    if recordings is None:
        # With labels, by which the run may have chosen classes; no other use is made.
        instead = "interpret(FOLDER, recordings=DATA)"
        recordings = recordings_of_run(run, None, True, instead)
    return evaluated.interpret(found, experiment, recordings)
