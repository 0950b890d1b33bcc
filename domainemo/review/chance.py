"""What each method's answers would reach by chance: what its score is set against."""

from __future__ import annotations

import pandas as pd

from ..runs.metrics import by_chance
from ..runs.results import Results
from .reading import class_names

__all__ = ["chance_of", "chances"]


def chances(results: Results) -> pd.DataFrame:
    """Return the balanced accuracy by chance: a row per subject, a column per method.

    See :func:`domainemo.runs.metrics.by_chance`. As scores are, it is averaged over
    seeds and the folds that test a subject.

    Parameters
    ----------
    results : Results
        With scores.
    """
    keys = ["method", "subject", "fold", "seed"]
    answers = results.predictions.reindex(columns=[*keys, "label", "predicted"])
    rows = [
        (*key[:2], by_chance(own["label"].to_numpy(), own["predicted"].to_numpy()))
        for key, own in answers.groupby(keys, sort=False)
    ]
    found = pd.DataFrame(rows, columns=[*keys[:2], "chance"])
    wide = found.pivot_table("chance", index="subject", columns="method")
    # Of whom a single class was tested there is no score to be set against it.
    known = wide.reindex(results.per_subject().index, columns=results.methods)
    return known.fillna(1 / len(class_names(results)))


def chance_of(results: Results, method: str) -> float:
    """Return what a method's answers would reach by chance, the mean over subjects.

    Parameters
    ----------
    results : Results
        With scores.
    method : str
    """
    return float(chances(results)[method].mean())
