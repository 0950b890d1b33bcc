"""What a study found, in plain words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..review.sides import sides
from ..runs.experiment import SOURCE_ONLY
from ..runs.results import Results
from ..statistics.effects import FEWEST_TO_SHOW
from ..statistics.paired import Comparison, compare
from ..statistics.ties import gap_between, tied
from ..studies.findings import (
    DEFAULTS,
    SOURCE_ONLY_CANDIDATE,
    TUNED,
    Choice,
    Findings,
    compared,
)
from ..words import (
    are,
    but_for_calibration,
    count,
    in_order,
    listed,
    p_value,
    signed,
    were,
)
from .study_numbers import (
    Agreement,
    Importances,
    by_standing,
    complete,
    could_be_chosen,
    source_only_scores,
)

__all__ = [
    "by_comparison",
    "how_far_off",
    "kind_of",
    "paired",
    "per_fold",
    "value_words",
    "what_is_open",
    "what_it_gained",
    "what_mattered",
    "what_ran",
    "what_was_chosen",
    "who_chose",
    "who_was_tested",
]

_ENOUGH = 50
"""Complete candidates below which importances are shown with a caution."""

_AFTER = "After the fact, with the targets' labels, by which nothing was chosen: "

_TUNED_AGAINST = {DEFAULTS: "the defaults", SOURCE_ONLY: "source only"}


def what_ran(findings: Findings) -> str:
    """Return what was searched, on what, and how far that has come."""
    described, table = findings.description, findings.candidates
    counts = table["state"].value_counts()
    states = [
        f"{counts[state]} {state}"
        for state in ("complete", "pruned", "failed", "running", "waiting")
        if state in counts
    ]
    searched = described.get("space", {})
    folds = findings.scores["fold"].nunique()
    where = (
        f"on each of {count(len(findings.studies), 'fold')} by itself"
        if per_fold(findings)
        else f"averaged over {count(folds, 'fold')}"
        if folds
        else "averaged over folds, none of which is finished yet"
    )
    return (
        f"{count(len(searched), 'option')} {were(len(searched))} searched, for "
        f"{described.get('adapter', 'an adapter')} on "
        f"{described.get('backbone', 'a backbone')} and {findings.recordings}. "
        f"{count(len(table), 'candidate')}: {', '.join(states) or 'none has begun'}. "
        f"Candidates are compared by the validator {_validator(findings)!r}, which "
        f"sees no target label{but_for_calibration(findings.calibrated)}, {where}."
    )


def what_is_open(findings: Findings) -> str:
    """Return what is still to be done; empty where the study is finished."""
    states = findings.candidates["state"]
    open_ = int(states.isin(["running", "waiting"]).sum())
    parts = []
    if open_:
        parts.append(
            f"{count(open_, 'candidate')} {were(open_)} running or waiting when this "
            f"page was written, so that what it says may still change"
        )
    if findings.choices and findings.final is None:
        parts.append(
            "the final runs are not done: until then nothing is known of accuracy, "
            "only of the validator's score"
        )
    if not parts:
        return ""
    text = "; ".join(parts)
    return (
        f"This study is not finished: {text}. The same `domainemo tune` command "
        f"carries on where it stopped."
    )


def what_was_chosen(findings: Findings) -> str:
    """Return what won: a candidate, the defaults or source only."""
    choices = findings.choices
    if not choices:
        done = len(complete(findings))
        return (
            f"Nothing has been chosen: {count(done, 'candidate')} {are(done)} complete."
        )
    if not per_fold(findings):
        return _one_choice(choices[0], findings) + by_comparison(findings)
    kinds = [kind_of(choice, findings) for choice in choices]
    source, defaults = kinds.count("source only"), kinds.count("defaults")
    return (
        f"Every fold chose for itself. In {len(kinds) - source - defaults} of "
        f"{count(len(kinds), 'fold')} a tuned candidate won, in {defaults} the "
        f"defaults, and in {source} source only, which does not adapt at all."
        f"{_without_choice(findings)}{by_comparison(findings)}"
    )


def by_comparison(findings: Findings) -> str:
    """Say so where the highest score need not win; empty where it does."""
    if not compared(findings.studies):
        return ""
    return (
        " Scores are of each candidate by itself; what won was found by comparing all "
        "of them with one another, fold by fold."
    )


def _without_choice(findings: Findings) -> str:
    """Name the folds that chose nothing; empty where each has a choice."""
    chosen = {choice.fold for choice in findings.choices}
    missing = [name for name in findings.studies if name not in chosen]
    if not missing:
        return ""
    return (
        f" {listed(missing)} chose nothing, as no candidate there was completed and "
        f"sound, so that every comparison on this page is without "
        f"{'it' if len(missing) == 1 else 'them'}."
    )


def _one_choice(choice: Choice, findings: Findings) -> str:
    others = []
    reference = source_only_scores(findings).get("")
    default = _default_value(findings, "")
    kind = kind_of(choice, findings)
    if kind != "source only" and reference is not None and not math.isnan(reference):
        others.append(f"source only {reference:.3f}")
    if kind != "defaults" and default is not None:
        others.append(f"the defaults {default:.3f}")
    scores = f"{choice.value:.3f}" + (f" ({', '.join(others)})" if others else "")
    if kind == "source only":
        best = could_be_chosen(findings)["value"].max()
        beaten = f"the highest score of a candidate that could be chosen is {best:.3f}"
        if math.isnan(best):
            beaten = "no candidate could be chosen, as all have collapsed"
        return (
            f"Source only won, with a validator score of {scores}: {beaten}, so the "
            f"chosen configuration does not adapt."
        )
    if kind == "defaults":
        return (
            f"The defaults themselves won (candidate {choice.candidate}), with a "
            f"validator score of {scores}: the search found nothing better that could "
            f"be chosen."
        )
    return (
        f"Candidate {choice.candidate} was chosen, with a validator score of {scores}."
    )


def kind_of(choice: Choice, findings: Findings) -> str:
    """Return what won: ``"source only"``, ``"defaults"`` or ``"tuned"``."""
    if choice.candidate == SOURCE_ONLY_CANDIDATE:
        return "source only"
    row = _candidate(findings, choice)
    return "defaults" if len(row) and bool(row["default"].iloc[0]) else "tuned"


def what_it_gained(findings: Findings) -> list[str]:
    """Return what tuning gained on the final runs, against each reference."""
    results = findings.final
    if results is None or TUNED not in results.methods:
        return []
    paragraphs = []
    for method, words in _TUNED_AGAINST.items():
        wide = paired(results, method)
        if wide is None:
            continue
        found = compare(wide[TUNED].to_numpy(), wide[method].to_numpy())
        means = f"{wide[TUNED].mean():.3f} against {wide[method].mean():.3f}"
        if (wide[TUNED] == wide[method]).all():
            paragraphs.append(
                f"On the final runs, tuned and {method} have the same balanced "
                f"accuracy in every subject, {wide[TUNED].mean():.3f} on average."
            )
            continue
        lead = (
            f"On the final runs, with fresh seeds, the tuned configuration reached a "
            f"balanced accuracy of {means} of {words}"
            if method == DEFAULTS
            else f"Against {words} the tuned configuration reached {means}"
        )
        paragraphs.append(f"{lead}: {_difference(found, wide, method)}")
    return [*paragraphs, *_what_did_better(results)]


def _what_did_better(results: Results) -> list[str]:
    """Name the controls with a higher mean than what was tuned."""
    means = results.per_subject().mean()
    controls = means.drop([TUNED, *_TUNED_AGAINST], errors="ignore")
    higher = controls[tied(controls - means[TUNED]) > 0].sort_values(ascending=False)
    if not len(higher):
        return []
    named = [f"{name} ({mean:.3f})" for name, mean in higher.items()]
    return [f"Yet a higher mean than the tuned configuration's has {listed(named)}."]


def paired(results: Results, method: str) -> pd.DataFrame | None:
    """Return subjects' accuracy, tuned and by another method; None without any."""
    wide = results.per_subject()
    if method not in wide:
        return None
    both = wide[[TUNED, method]].dropna().astype(float)
    return both if len(both) else None


def _difference(found: Comparison, wide: pd.DataFrame, method: str) -> str:
    """Return a paired difference in words, and what may be concluded from it."""
    gap = gap_between(wide[TUNED], wide[method])
    shares = (
        f"{count(int((gap > 0).sum()), 'subject')} gained, {int((gap < 0).sum())} "
        f"lost, {int((gap == 0).sum())} stayed the same"
    )
    points = f"{signed(100 * found.difference)} points"
    if math.isnan(found.low):
        return (
            f"{points} ({shares}). {count(found.subjects, 'subject')} "
            f"{are(found.subjects)} too few for an interval or a test."
        )
    return (
        f"{points} (95 % interval {signed(100 * found.low)} to "
        f"{signed(100 * found.high)}, {count(found.subjects, 'subject')}; Wilcoxon "
        f"signed-rank test, {p_value(found.p)}; {shares}). {_conclusion(found)}"
    )


def _conclusion(found: Comparison) -> str:
    if found.subjects < FEWEST_TO_SHOW:
        least = 2 / 2**found.subjects
        return (
            f"With {count(found.subjects, 'subject')} this test cannot go below p = "
            f"{least:.3f}, so that no difference could be shown."
        )
    said = sides(found)
    if said.shown:
        return f"The tuned configuration was {said.shown}."
    if said.silent:
        return "That is no difference that these subjects can show."
    return said.disagreement("the tuned configuration")


def what_mattered(found: Importances | str) -> str:
    """Return which options mattered, as far as that can be told."""
    if isinstance(found, str):
        return found
    if math.isnan(found.explained):
        several = found.shares.shape[1]
        each = f" in {several} studies" if several > 1 else ""
        return (
            f"{count(found.candidates, 'complete candidate')}{each} are too few to say "
            f"which options mattered."
        )
    if not found.tell:
        return (
            "Which options mattered cannot be told: a forest grown on the options "
            "predicts the score of candidates it has not seen hardly better than their "
            f"mean does (R squared {found.explained:.2f})."
        )
    named: list[str] = []
    total = 0.0
    for name, share in found.mean.items():
        if total >= 0.75 or len(named) == 3:
            break
        named.append(f"{name} ({100 * share:.0f} %)")
        total += float(share)
    text = (
        f"Of what the options explain, most goes to {listed(named)}. They explain "
        f"{100 * found.explained:.0f} % of how candidates differ (out of bag)."
    )
    if found.candidates < _ENOUGH:
        text += (
            f" With {found.candidates} complete candidates these shares are rough, and "
            f"small ones mean nothing."
        )
    return text


def how_far_off(found: Agreement, findings: Findings) -> str:
    """Return how far the validator was from the truth, as a diagnosis."""
    several = found.table["study"].nunique() > 1
    mean = "over folds, on average, " if several else ""
    number = len(found.candidates)
    sound = by_standing(findings)
    which = count(number, "complete candidate") + " that could be chosen" * sound
    correlation = (
        f"{which} {are(number)} too few, or too much alike, for a rank correlation "
        f"between the validator and the true balanced accuracy"
        if math.isnan(found.correlation)
        else f"{mean}the validator and the true balanced accuracy of {which} have a "
        f"rank correlation of {signed(found.correlation, 2)}"
    )
    sentences = [f"{_AFTER}{correlation}."]
    if math.isnan(found.regret):
        return sentences[0]
    accuracy = found.accuracies.mean()
    chosen = found.table[found.table["chosen"]]
    by = "standing" if sound else "validator score"
    sentences.append(
        f"What was chosen had a {by} of {chosen['value'].mean():.3f} and a true "
        f"balanced accuracy of {accuracy['chosen']:.3f} on the same folds; the "
        f"best in hindsight had {accuracy['best in hindsight']:.3f}, a selection gap "
        f"of {100 * found.regret:.1f} points. (Hindsight flatters: the best was picked "
        f"by these very labels.)"
    )
    sentences += _optimism(chosen, findings)
    return " ".join(sentences)


def _optimism(chosen: pd.DataFrame, findings: Findings) -> list[str]:
    """Say how far the accuracy on held-out source subjects was from the target's."""
    name = _validator(findings)
    known = chosen["value"] if name == "source" else chosen["source_accuracy"]
    both = known.notna() & chosen["true_accuracy"].notna()
    sentences = []
    if both.any():
        held = float(known[both].mean())
        gap = signed(100 * (held - float(chosen.loc[both, "true_accuracy"].mean())))
        sides = {"+": "points above the truth", "-": "points below the truth"}
        side = "the same as the truth"
        if gap[0] in sides:
            side = f"{gap[1:]} {sides[gap[0]]}"
        sentences.append(
            f"On source subjects that were held out of training its balanced accuracy "
            f"was {held:.3f}, {side}."
        )
    if name != "source":
        sentences.append(
            f"The score of {name!r} is no accuracy: compare it with one by rank, not "
            f"by size."
        )
    return sentences


def who_was_tested(findings: Findings, results: Results) -> str:
    """Return who chose and who was tested, and whether anybody did both."""
    tested = in_order(map(str, results.table["subject"].unique()))
    if per_fold(findings):
        return (
            f"Every fold was tested on its own target, whose labels neither trained "
            f"nor chose anything{but_for_calibration(findings.calibrated)}: "
            f"{count(len(tested), 'subject')} in all."
        )
    chose = in_order(str(name) for name in _development(findings))
    number = count(len(tested), "subject")
    if not chose:
        return f"{number} {were(len(tested))} tested: {', '.join(tested)}."
    shared = [name for name in tested if name in chose]
    apart = (
        "None of them took part in choosing."
        if not shared
        else f"Of these, {', '.join(shared)} took part in choosing as well."
    )
    return (
        f"{count(len(chose), 'subject')} chose ({', '.join(chose)}); "
        f"{number} {were(len(tested))} tested ({', '.join(tested)}). {apart}"
    )


def who_chose(findings: Findings) -> str:
    """Return by whose recordings the configuration was chosen."""
    but = but_for_calibration(findings.calibrated)
    if per_fold(findings):
        return (
            f"each fold for itself, by its source's labels and its target's signals "
            f"without labels{but}; no other fold has a say"
        )
    chose = in_order(str(name) for name in _development(findings))
    if not chose:
        return "once for all folds, on source subjects only"
    return (
        f"once for all folds, on source subjects only ({', '.join(chose)}), each in "
        f"turn playing the target, without its labels{but}"
    )


# --------------------------------------------------------------------- single words


def per_fold(findings: Findings) -> bool:
    """Return whether every fold chose for itself."""
    return any(findings.studies)


def _candidate(findings: Findings, choice: Choice) -> pd.DataFrame:
    table = findings.candidates
    here = table["study"] == (choice.fold or "")
    return table.loc[here & (table["candidate"] == choice.candidate)]


def _default_value(findings: Findings, study: str) -> float | None:
    table = complete(findings)
    found = table.loc[
        table["default"].astype(bool) & (table["study"] == study), "value"
    ]
    return float(found.iloc[0]) if len(found) else None


def _development(findings: Findings) -> Sequence[Any]:
    study: Mapping[str, Any] = findings.description.get("study", {})
    names = study.get("development", ())
    return names if isinstance(names, Sequence) and not isinstance(names, str) else ()


def _validator(findings: Findings) -> str:
    return str(findings.description.get("validator", "unknown"))


def value_words(value: Any) -> str:
    """Return an option's value as people read it."""
    match value:
        case None:
            return "\N{EN DASH}"
        case bool():
            return "true" if value else "false"
        case float():
            return "\N{EN DASH}" if math.isnan(value) else f"{value:.4g}"
        case Mapping():
            return ", ".join(
                f"{key} {value_words(each)}" for key, each in value.items()
            )
        case list() | tuple():
            return ", ".join(value_words(each) for each in value)
    return str(value)
