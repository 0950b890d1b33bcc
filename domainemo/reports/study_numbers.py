"""What a study's tables say in numbers: what mattered, agreement, cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..statistics.ties import tied
from ..studies.findings import SOURCE_ONLY_CANDIDATE, Findings, compared
from ..studies.storage import quiet

__all__ = [
    "FEW",
    "Agreement",
    "Cost",
    "Importances",
    "Option",
    "agreement",
    "best_so_far",
    "by_standing",
    "comparable",
    "complete",
    "cost",
    "could_be_chosen",
    "importances",
    "lower_is_better",
    "objectives",
    "projected",
    "searched_options",
    "smooth",
    "source_only_scores",
]

Array = NDArray[np.floating[Any]]

FEW = 10
"""Fewer complete candidates than this say nothing about what mattered."""

_NOISE = 0.1
"""Out-of-bag R squared that noise alone reaches in one study of twenty."""

_FEWEST = 5
"""Of fewer candidates no rank correlation is given."""


@dataclass(frozen=True)
class Option:
    """One searched option and the range it was drawn from.

    Attributes
    ----------
    name : str
    low, high : float
        Ends of the range, widened to the values tried; NaN for choices.
    log : bool
        Whether it was drawn on a logarithmic scale.
    choices : tuple
        Empty where the option is a number.
    """

    name: str
    low: float
    high: float
    log: bool
    choices: tuple[Any, ...] = ()

    @property
    def numeric(self) -> bool:
        """Whether the option is a number."""
        return not self.choices

    def place(self, values: pd.Series[Any]) -> Array:
        """Return where values lie along the range, 0 to 1; NaN where not drawn.

        Choices lie evenly in their order. What cannot lie on a logarithmic scale, such
        as a weight of 0, lies at its lower end.
        """
        if not self.numeric:
            last = max(len(self.choices) - 1, 1)
            known = {choice: k / last for k, choice in enumerate(self.choices)}
            return np.array([known.get(v, math.nan) for v in values], dtype=np.float64)
        numbers = pd.to_numeric(values).to_numpy(dtype=np.float64, na_value=np.nan)
        low, high = self.low, self.high
        if self.log:
            low, high = math.log(low), math.log(high)
            numbers = np.log(np.where(numbers <= 0, self.low, numbers))
        return np.asarray((numbers - low) / (high - low), dtype=np.float64)

    def value(self, place: float) -> float:
        """Return the number at a place along the range."""
        if self.log:
            return float(self.low * (self.high / self.low) ** place)
        return self.low + place * (self.high - self.low)


def searched_options(findings: Findings) -> list[Option]:
    """Return the options that candidates drew and that could take several values."""
    from optuna.distributions import CategoricalDistribution

    distributions: dict[str, Any] = {}
    for study in findings.studies.values():
        for candidate in study.get_trials(deepcopy=False):
            for name, distribution in candidate.distributions.items():
                distributions.setdefault(name, distribution)
    made = []
    for name, found in distributions.items():
        if name not in findings.candidates or found.single():
            continue
        if isinstance(found, CategoricalDistribution):
            made.append(Option(name, math.nan, math.nan, False, tuple(found.choices)))
            continue
        tried = pd.to_numeric(findings.candidates[name]).dropna()
        tried = tried[tried > 0] if found.log else tried
        low = min(float(found.low), tried.min() if len(tried) else math.inf)
        high = max(float(found.high), tried.max() if len(tried) else -math.inf)
        made.append(Option(name, low, high, found.log))
    return made


# ------------------------------------------------------------------------- candidates


def complete(findings: Findings) -> pd.DataFrame:
    """Return the complete candidates that have a finite score."""
    table = findings.candidates
    finite = np.isfinite(table["value"].to_numpy(dtype=np.float64))
    kept: pd.DataFrame = table.loc[(table["state"] == "complete") & finite]
    return kept


def could_be_chosen(findings: Findings) -> pd.DataFrame:
    """Return the complete candidates but for those that have collapsed.

    Of a study that noted no standing, all of them.
    """
    table, noted = complete(findings), _standing(findings)
    studies = {study for study, _ in noted}
    keys = zip(table["study"], table["candidate"], strict=True)
    open_ = [key in noted or key[0] not in studies for key in keys]
    kept: pd.DataFrame = table.loc[open_]
    return kept


def _standing(findings: Findings) -> dict[tuple[str, int], float]:
    """Return what was chosen by, of each candidate that could be, as it was noted."""
    return {
        (choice.fold or "", number): value
        for choice in findings.choices
        for number, value in choice.standing.items()
    }


def comparable(findings: Findings) -> pd.Series[float]:
    """Return complete candidates' scores, comparable with one another.

    Of several studies, one a fold, the score less the median of the fold's complete
    candidates: folds are hard or easy, whatever a candidate does.
    """
    table = complete(findings)
    values = table["value"].astype(float)
    if len(findings.studies) < 2:
        return values
    return values - values.groupby(table["study"]).transform("median")


def best_so_far(table: pd.DataFrame) -> pd.Series[float]:
    """Return the best score up to each candidate of one study, in their order.

    NaN up to the first complete candidate.
    """
    ordered = table.sort_values("candidate")
    values = ordered["value"].astype(float).where(ordered["state"] == "complete")
    return values.set_axis(ordered["candidate"]).cummax().ffill()


def lower_is_better(findings: Findings, objective: str) -> bool:
    """Return whether an objective, other than the first, is to be small."""
    names = findings.description["study"]["objectives"]
    study = next(iter(findings.studies.values()))
    return bool(study.directions[names.index(objective)].name == "MINIMIZE")


def projected(table: pd.DataFrame, scores: pd.DataFrame) -> pd.Series[float]:
    """Return where the folds that each candidate finished put it among complete ones.

    The complete candidates' median score, plus how far the candidate is on average
    from their median in the folds it finished: some folds are easier than others.

    Parameters
    ----------
    table, scores : DataFrame
        One study's candidates and scores. Nothing is returned where none is complete.
    """
    numbers = table.loc[table["state"] == "complete", "candidate"]
    by_fold = scores.groupby(["candidate", "fold"])["score"].mean().unstack("fold")
    medians = by_fold[by_fold.index.isin(numbers)].median()
    gaps: pd.Series[float] = (by_fold - medians).mean(axis=1).dropna()
    return gaps + float(medians.mean())


def objectives(findings: Findings) -> pd.DataFrame:
    """Return what complete candidates reached: a row each, a column per objective.

    The first is called ``value``; ``front`` tells whether no other candidate of the
    study is better in one objective and at least as good in all.
    """
    study: Mapping[str, Any] = findings.description.get("study", {})
    names = ["value", *study.get("objectives", ["value"])[1:]]
    rows = []
    for name, each in findings.studies.items():
        front = {found.number for found in each.best_trials}
        rows += [
            {"study": name, "candidate": found.number, "front": found.number in front}
            | dict(zip(names, found.values, strict=False))
            for found in each.get_trials(deepcopy=False)
            if found.state.name == "COMPLETE"
        ]
    return pd.DataFrame(rows, columns=["study", "candidate", "front", *names])


def source_only_scores(findings: Findings) -> pd.Series[float]:
    """Return source only's validator score by study, averaged over folds."""
    scores = findings.scores
    reference = scores[scores["candidate"] == SOURCE_ONLY_CANDIDATE]
    return _over_folds(reference, "score").droplevel("candidate")


def _over_folds(scores: pd.DataFrame, column: str) -> pd.Series[float]:
    """Return the mean over seeds, then over folds, by study and candidate."""
    by_fold = scores.groupby(["study", "candidate", "fold"])[column].mean()
    return by_fold.groupby(["study", "candidate"]).mean()


# ------------------------------------------------------------------- what mattered


@dataclass(frozen=True)
class Importances:
    """How much of the candidates' scores each option explains.

    Attributes
    ----------
    shares : DataFrame
        A row per option, the most important first, a column per study; a column
        adds up to 1.
    candidates : int
        Complete candidates that went in.
    explained : float
        Share of the variance of candidates left out of a forest that it predicts
        (out-of-bag R squared; mean over studies). Up to a tenth, the shares mean
        nothing: so much noise explains in one study of twenty. NaN with fewer than
        ten candidates.
    left_out : tuple of str
        Options that not every complete candidate drew.
    skipped : int
        Studies, of several, with too few candidates.
    """

    shares: pd.DataFrame
    candidates: int
    explained: float
    left_out: tuple[str, ...]
    skipped: int

    @property
    def tell(self) -> bool:
        """Whether the shares mean anything: the forest knows more than noise would."""
        return self.explained > _NOISE  # NaN is not

    @property
    def mean(self) -> pd.Series[float]:
        """The shares, averaged over studies."""
        return self.shares.mean(axis=1)


def importances(findings: Findings) -> Importances | str:
    """Return the importance of each searched option, or why there is none.

    Optuna's fANOVA, on the scale on which each option was drawn: a weight drawn between
    0.01 and 10 by its logarithm is integrated over its logarithm. (Optuna integrates
    over the weight itself, nine tenths of which lie above 1.)

    References
    ----------
    Hutter F, Hoos H, Leyton-Brown K (2014), An efficient approach for assessing
    hyperparameter importance, ICML, https://proceedings.mlr.press/v32/hutter14.html.
    """
    options = searched_options(findings)
    table = complete(findings)
    drawn = [option for option in options if table[option.name].notna().all()]
    if not drawn or len(table) < 2:
        return (
            "The importance of options cannot be computed: it takes at least two "
            f"complete candidates and an option that all of them drew. Complete "
            f"candidates: {len(table)}; such options: {len(drawn)}."
        )
    shares, explained = {}, []
    for study, theirs in table.groupby("study", sort=False):
        values = theirs["value"].to_numpy(dtype=np.float64)
        if len(values) < 2 or np.ptp(values) == 0:
            continue
        places = {option.name: option.place(theirs[option.name]) for option in drawn}
        shares[study] = _fanova(places, drawn, values)
        explained.append(_explained(np.stack(list(places.values()), 1), drawn, values))
    if not shares:
        return (
            "The importance of options cannot be computed: the complete candidates all "
            "have the same score, or there are fewer than two of them in every study."
        )
    frame = pd.DataFrame(shares)
    order = frame.mean(axis=1).sort_values(ascending=False, kind="stable").index
    known = [value for value in explained if not math.isnan(value)]
    return Importances(
        shares=frame.loc[order],
        candidates=int(table["study"].isin(list(shares)).sum()),
        explained=float(np.mean(known)) if known else math.nan,
        left_out=tuple(each.name for each in options if each not in drawn),
        skipped=len(findings.studies) - len(shares),
    )


def _fanova(
    places: Mapping[str, Array], options: list[Option], values: Array
) -> dict[str, float]:
    """Return shares that add up to 1, of candidates placed along their ranges."""
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
    )

    distributions: dict[str, BaseDistribution] = {
        option.name: FloatDistribution(0, 1)
        if option.numeric
        else CategoricalDistribution(list(range(len(option.choices))))
        for option in options
    }
    last = {option.name: max(len(option.choices) - 1, 0) for option in options}

    def parameters(row: int) -> dict[str, Any]:
        return {
            option.name: float(np.clip(places[option.name][row], 0, 1))
            if option.numeric
            else round(places[option.name][row] * last[option.name])
            for option in options
        }

    with quiet():
        copy = optuna.create_study(direction="maximize")
        for row, value in enumerate(values):
            copy.add_trial(
                optuna.trial.create_trial(
                    params=parameters(row),
                    distributions=distributions,
                    value=float(value),
                )
            )
        return optuna.importance.get_param_importances(
            copy, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0)
        )


def _explained(places: Array, options: list[Option], values: Array) -> float:
    """Return how well a forest like fANOVA's predicts candidates left out of a tree."""
    if len(values) < FEW:
        return math.nan
    from sklearn.ensemble import RandomForestRegressor

    columns = []
    for column, option in zip(places.T, options, strict=True):
        if option.numeric:
            columns.append(column[:, None])
        else:
            last = max(len(option.choices) - 1, 1)
            columns.append(np.eye(last + 1)[np.round(column * last).astype(int)])
    forest = RandomForestRegressor(n_estimators=128, oob_score=True, random_state=0)
    return float(forest.fit(np.hstack(columns), values).oob_score_)


def smooth(places: Array, values: Array, at: Array, width: float = 0.12) -> Array:
    """Return the mean of the candidates near each place, by a Gaussian's weight.

    Parameters
    ----------
    places : ndarray of shape (candidates, options)
        Along their ranges, 0 to 1.
    values : ndarray of shape (candidates,)
    at : ndarray of shape (points, options)
    width : float
        The Gaussian's standard deviation.

    Returns
    -------
    ndarray of shape (points,)
        NaN farther than two widths from every candidate.

    References
    ----------
    Nadaraya E (1964), On estimating regression, Theory Probab. Appl. 9, 141-142.
    """
    distances = ((at[:, None] - places[None]) ** 2).sum(-1)
    weights = np.exp(-distances / (2 * width**2))
    means = weights @ values / weights.sum(1).clip(1e-300)
    return np.where(distances.min(1) <= (2 * width) ** 2, means, np.nan)


# ------------------------------------------------------- the validator and the truth


@dataclass(frozen=True)
class Agreement:
    """How far the validator agreed with the truth: a diagnosis, after the fact.

    Attributes
    ----------
    table : DataFrame
        A row per complete candidate, and source only as candidate -1: ``study``,
        ``candidate``, ``value`` (validator's score; where it compares, how each stands
        among those that could be chosen), ``true_accuracy`` (balanced accuracy on the
        same folds' targets), ``source_accuracy``, ``default``, ``chosen`` and ``sound``
        (whether it could be chosen: it has not collapsed).
    correlation : float
        Spearman's between validator and truth over the complete candidates; of
        several studies, the mean of theirs. NaN where nothing varies, and with fewer
        than five candidates.
    """

    table: pd.DataFrame
    correlation: float

    @property
    def candidates(self) -> pd.DataFrame:
        """The table without source only."""
        return self.table[self.table["candidate"] != SOURCE_ONLY_CANDIDATE]

    @property
    def best(self) -> pd.DataFrame:
        """The row of the best in hindsight of each study.

        It is looked for among everything that could have been chosen.
        """
        open_ = self.table[self.table["sound"]]
        return open_.loc[open_.groupby("study")["true_accuracy"].idxmax()]

    @property
    def accuracies(self) -> pd.DataFrame:
        """True accuracy by study of the chosen, the best in hindsight and others."""
        table, candidates = self.table, self.candidates
        by_study = {
            "best in hindsight": self.best.set_index("study")["true_accuracy"],
            "chosen": _mean_true(table[table["chosen"]]),
            "defaults": _mean_true(candidates[candidates["default"]]),
            "mean of all candidates": _mean_true(candidates),
            "source only": _mean_true(
                table[table["candidate"] == SOURCE_ONLY_CANDIDATE]
            ),
        }
        return pd.DataFrame(by_study)

    @property
    def regret(self) -> float:
        """Best in hindsight less chosen, averaged over studies; NaN without choice."""
        found = self.accuracies
        return float((found["best in hindsight"] - found["chosen"]).mean())


def _mean_true(table: pd.DataFrame) -> pd.Series[float]:
    return table.groupby("study")["true_accuracy"].mean()


def by_standing(findings: Findings) -> bool:
    """Return whether candidates were compared, and how each stood is known."""
    noted = any(choice.standing for choice in findings.choices)
    return noted and compared(findings.studies)


def agreement(findings: Findings) -> Agreement | None:
    """Return how far the validator agreed with the truth; None where that is unknown.

    It is unknown until the final runs are done: nothing that a label of a target went
    into is shown to somebody who may still choose. Only complete candidates are
    compared: all of them were trained on the same folds.
    """
    scores = findings.scores
    if findings.final is None or scores["true_accuracy"].isna().all():
        return None
    columns = {
        column: _over_folds(scores, column)
        for column in ("score", "true_accuracy", "source_accuracy")
    }
    found = pd.DataFrame(columns).reset_index()
    known = complete(findings).set_index(["study", "candidate"])
    keys = pd.MultiIndex.from_frame(found[["study", "candidate"]])
    reference = found["candidate"] == SOURCE_ONLY_CANDIDATE
    found["value"] = known["value"].reindex(keys).to_numpy(dtype=float)
    found.loc[reference, "value"] = found.loc[reference, "score"]
    if by_standing(findings):
        standing = _standing(findings)
        found["value"] = [standing.get(key, math.nan) for key in keys]
    default = known["default"].astype(bool).reindex(keys, fill_value=False)
    found["default"] = default.to_numpy()
    found["chosen"] = keys.isin(_chosen(findings))
    sound = could_be_chosen(findings).set_index(["study", "candidate"]).index
    found["sound"] = reference.to_numpy() | keys.isin(sound)
    found = found[found["value"].notna() & found["true_accuracy"].notna()]
    table = found.drop(columns="score").reset_index(drop=True)
    if not (table["candidate"] != SOURCE_ONLY_CANDIDATE).any():
        return None
    return Agreement(
        table, _correlation(table[table["candidate"] != SOURCE_ONLY_CANDIDATE])
    )


def _chosen(findings: Findings) -> list[tuple[str, int]]:
    return [(choice.fold or "", choice.candidate) for choice in findings.choices]


def _correlation(table: pd.DataFrame) -> float:
    from scipy.stats import spearmanr

    found = [
        float(spearmanr(theirs["value"], tied(theirs["true_accuracy"])).statistic)
        for _, theirs in table.groupby("study")
        if len(theirs) >= _FEWEST
        and theirs["value"].nunique() > 1
        and theirs["true_accuracy"].nunique() > 1
    ]
    return float(np.mean(found)) if found else math.nan


# ------------------------------------------------------------------------------- cost


@dataclass(frozen=True)
class Cost:
    """What candidates took.

    Attributes
    ----------
    total : float
        Seconds of all candidates together.
    elapsed : float
        Seconds from the first candidate's beginning to the last one's end; NaN
        where unknown.
    typical : float
        Median of the complete ones, in seconds; NaN without any.
    saved : float
        Seconds that pruning saved: what pruned candidates took less than the mean
        complete candidate of their study. NaN where no study has both.
    workers : DataFrame
        A row per worker: ``candidates``, ``complete``, ``seconds``.
    """

    total: float
    elapsed: float
    typical: float
    saved: float
    workers: pd.DataFrame


def cost(findings: Findings) -> Cost | None:
    """Return what candidates took; None where none has been timed."""
    table = findings.candidates
    timed = table[table["seconds"].notna()].astype({"seconds": float})
    if not len(timed):
        return None
    done = timed[timed["state"] == "complete"]
    means = done.groupby("study")["seconds"].mean()
    pruned = timed[timed["state"] == "pruned"]
    spared = pruned["study"].map(means).astype(float) - pruned["seconds"]
    began = pd.to_datetime(timed["began"])
    ends = began + pd.to_timedelta(timed["seconds"], unit="s")
    whole = (ends.max() - began.min()).total_seconds()
    workers = timed.assign(complete=timed["state"] == "complete").groupby("worker")
    return Cost(
        total=float(timed["seconds"].sum()),
        elapsed=float(whole),
        typical=float(done["seconds"].median()),
        saved=float(spared.clip(lower=0).sum()) if spared.notna().any() else math.nan,
        workers=workers.agg(
            candidates=("candidate", "size"),
            complete=("complete", "sum"),
            seconds=("seconds", "sum"),
        ),
    )
