"""What is handed over in place of recordings, told at once in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core import Dataset, EmotionData, Inputs
from ..errors import ConfigurationError, DataError
from ..places import called

__all__ = ["expect_inputs", "expect_labelled"]


def expect_labelled(given: Any, where: str) -> EmotionData:
    """Return recordings with their labels, as they are.

    Parameters
    ----------
    given : EmotionData
        Or whatever was given in its place.
    where : str
        What they were given as.

    Raises
    ------
    DataError
        If they have no labels.
    ConfigurationError
        If these are no recordings; the message says how to get at some.
    """
    if isinstance(given, EmotionData):
        return given
    if isinstance(given, Inputs):
        raise DataError(
            f"{where}: found {given.name} without labels (Inputs); expected recordings "
            f"with a label for every window (EmotionData), as nothing can be trained "
            f"or scored without. Give from_arrays the labels, read a table with load() "
            f"and not load_inputs(); `domainemo predict` and `domainemo.pretrain` need "
            f"none."
        )
    raise _no_recordings(given, where)


def expect_inputs(given: Any, where: str) -> Inputs:
    """Return recordings without their labels, if they have any.

    Parameters
    ----------
    given : EmotionData or Inputs
        Or whatever was given in its place.
    where : str
        What they were given as.

    Raises
    ------
    ConfigurationError
        If these are no recordings; the message says how to get at some.
    """
    if isinstance(given, EmotionData):
        return given.inputs
    if isinstance(given, Inputs):
        return given
    raise _no_recordings(given, where)


def _no_recordings(given: Any, where: str) -> ConfigurationError:
    found, remedy = called(given), "domainemo.from_arrays makes them of arrays."
    if isinstance(given, Dataset):
        found = f"the data set {type(given).__name__} itself"
        remedy = "Read it first: give data_set.load() in its place."
    elif isinstance(given, type) and issubclass(given, Dataset):
        found = f"the class {given.__name__}"
        remedy = f"Read it first: domainemo.load({given.__name__}, ...)."
    elif isinstance(given, str | Path):
        found = f"the text {str(given)!r}" if isinstance(given, str) else str(given)
        remedy = (
            f"Read it first: domainemo.load({str(given)!r}, ...), or for the folder of "
            f"a table domainemo.load('table', {str(given)!r})."
        )
    elif isinstance(given, np.ndarray | pd.DataFrame | pd.Series | dict):
        remedy = "Make recordings of it with domainemo.from_arrays."
    elif isinstance(given, list | tuple):
        remedy = "Put several recordings together with domainemo.join."
    return ConfigurationError(
        f"{where}: found {found}; expected recordings in memory, as domainemo.load, "
        f"from_arrays and from_epochs give. {remedy}"
    )
