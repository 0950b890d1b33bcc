"""Predict new recordings with a trained model, in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from .. import files
from ..core import EmotionData, Inputs
from ..errors import ConfigurationError
from ..values import given_path
from .model import Model

__all__ = ["check_free", "predict"]


def predict(
    model: str | Path | Model,
    recordings: EmotionData | Inputs,
    *,
    fold: str | None = None,
    adapter: str | None = None,
    seed: int | None = None,
    normalise_by: str | Inputs | None = None,
    adapt: Any = None,
    output: str | Path | None = None,
) -> pd.DataFrame:
    """Apply a model, of `train` or a fold of a run, to recordings without labels.

    This is ``domainemo predict``: the model's own channels and classes, whatever else
    the recordings have.

    Parameters
    ----------
    model : path or Model
        The folder of `train` or of a finished run; or a model.
    recordings : EmotionData or Inputs
        Labels are not looked at.
    fold, adapter, seed
        Which of the several models of a run, see :meth:`Model.load`.
    normalise_by, adapt
        See :meth:`Model.predict`.
    output : path, optional
        A file to write as well, ``.csv``; it must not be there yet.

    Returns
    -------
    DataFrame
        A row per sample: provenance, predicted class, probabilities.

    Raises
    ------
    ConfigurationError, DataError
        See :class:`Model`; and if `output` is there already, or of another kind.

    Examples
    --------
    >>> table = predict("model", unlabelled)
    """
    if output is not None:
        check_free(output)
    which = {"fold": fold, "adapter": adapter, "seed": seed}
    if not isinstance(model, Model):
        place = given_path("model", model)
        model = Model.load(place, fold=fold, adapter=adapter, seed=seed)
    elif any(value is not None for value in which.values()):
        raise ConfigurationError(
            "fold, adapter and seed say which model of a run's folder is meant, and a "
            "model was given. Leave them out."
        )
    table = model.predict(recordings, normalise_by, adapt)
    if output is not None:
        files.write(Path(output), table.to_csv(index=False))
    return table


def check_free(output: str | Path) -> None:
    """Refuse a file of predictions that is there already, or is no CSV by its name.

    Parameters
    ----------
    output : path

    Raises
    ------
    ConfigurationError
    """
    path = given_path("output", output, "a file")
    if path.suffix.lower() != ".csv":
        raise ConfigurationError(
            f"{path}: found the ending {path.suffix!r}; expected .csv, which is what "
            f"predictions are written as. Name such a file; pandas.read_csv makes a "
            f"table of it that can be written as any other kind."
        )
    if path.exists():
        raise ConfigurationError(
            f"{path}: this file exists and was not overwritten; name another one."
        )
