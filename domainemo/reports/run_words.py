"""What a run found, in plain words."""

from __future__ import annotations

import math

import pandas as pd

from ..errors import ConfigurationError
from ..review.chance import chance_of, chances
from ..review.histories import histories, loss_terms
from ..review.reading import baseline, networks
from ..review.sides import sides
from ..runs.experiment import experiment_of
from ..runs.results import Results
from ..statistics.effects import FEWEST_TO_SHOW
from ..statistics.paired import Comparison, compare
from ..statistics.ties import gap_between, tied
from ..words import count, p_value, signed

__all__ = [
    "beside_the_best_control",
    "cautions",
    "collapsed",
    "difference",
    "gains",
    "idle",
    "leaks",
    "length_alone",
    "mean_accuracies",
    "too_few",
    "what_was_reached",
    "who_gained",
    "why_not_compared",
]


def mean_accuracies(results: Results) -> dict[str, float]:
    """Return every method's balanced accuracy, the mean over subjects."""
    means = results.summary()["mean"]
    return {str(name): float(value) for name, value in means.items()}


def what_was_reached(results: Results) -> str:
    """Return the result, its interval, and beside it the best control and chance."""
    own = results.summary().T[results.method]
    number = int(own["subjects"])
    subjects = "one subject" if number == 1 else count(number, "subject")
    interval = "too few for an interval"
    if not math.isnan(own["low"]):
        interval = f"95 % interval {own['low']:.3f} to {own['high']:.3f}"
    first = results.table.iloc[0]
    onto = f", tested on {first['target']}" if first.get("target") else ""
    return (
        f"{first['dataset']}{onto}: {results.method} reached a balanced "
        f"accuracy of {own['mean']:.3f} per {results.level}, the mean over {subjects} "
        f"({interval}), {beside_the_best_control(results)}; whole trials reached "
        f"{own['trial']:.3f}, and chance is {chance_of(results, results.method):.3f}."
    )


def beside_the_best_control(results: Results) -> str:
    """Return how the result stands to the best of what knows next to nothing.

    The best is known after the fact, which is to its advantage.
    """
    wide, means = results.per_subject(), tied(pd.Series(mean_accuracies(results)))
    names = [each for each in _rivals(results) if not math.isnan(means[each])]
    if not names or math.isnan(means[results.method]):
        return "with no control beside it that would say whether that is much"
    best = max(names, key=means.__getitem__)
    gap = means[results.method] - means[best]
    where = "above" if gap > 0 else "below" if gap < 0 else "the same as"
    of = f", the best of {len(names)} controls" if len(names) > 1 else ""
    both = wide[[results.method, best]].dropna().to_numpy(dtype=float)
    found = compare(both[:, 0], both[:, 1])
    sure = ""
    if not math.isnan(found.low):
        sure = f" [{_points(found.low, '')}, {_points(found.high, '')}]"
        if found.low <= 0 <= found.high and gap:
            sure += ", which may be nothing"
    return f"{where} the {means[best]:.3f} of {best}{of} ({_points(gap)}{sure})"


def _rivals(results: Results) -> list[str]:
    """Return the controls that know next to nothing, not those that train anew."""
    return [each for each in results.controls if each not in results.retrainings]


def why_not_compared(results: Results) -> str:
    """Return why there is no source only to compare with."""
    if results.description["adapter"] == "none":
        return "This is source only: nothing was adapted."
    return (
        "Source only was not run beside it, so this run cannot tell what the adapter "
        "adds. Leave out --no-baselines for that."
    )


def difference(results: Results, found: Comparison) -> str:
    """Return the difference from source only, its test, and what they allow to say."""
    other = mean_accuracies(results)[str(baseline(results))]
    text = (
        f"Source only reached {other:.3f}, so that the difference is "
        f"{_points(found.difference)}"
    )
    if math.isnan(found.low):
        return f"{text}."
    text += (
        f" (95 % interval {_points(found.low, '')} to {_points(found.high)}; paired "
        f"Wilcoxon signed-rank test over {count(found.subjects, 'subject')}, "
        f"{p_value(found.p)})."
    )
    if found.subjects < FEWEST_TO_SHOW:
        return text
    said = sides(found)
    if said.shown:
        return f"{text} The adapter was {said.shown} on these subjects."
    if said.silent:
        return f"{text} That is no difference that these subjects can show."
    return f"{text} {said.disagreement('the adapter')}"


def gains(results: Results) -> pd.Series[float]:
    """Return each subject's difference from source only, the largest gain first."""
    wide = results.per_subject()
    gap = gap_between(wide[results.method], wide[baseline(results)])
    return gap.sort_values(ascending=False, kind="stable")


def who_gained(results: Results) -> str:
    """Return how many subjects gained, lost and did not change, and who most."""
    gap = gains(results)
    groups = {
        "gained": gap[gap > 0],
        "lost": gap[gap < 0][::-1],
        "did not change": gap[gap == 0],
    }
    parts = []
    for words, part in groups.items():
        if not len(part):
            continue
        text = f"{len(part)} of {count(len(gap), 'subject')} {words}"
        if part.iloc[0]:
            text += f" (most: subject {part.index[0]}, {_points(part.iloc[0])})"
        parts.append(text)
    return "; ".join(parts) + "."


def too_few(subjects: int) -> str:
    """Return what so few subjects can show, and what they cannot."""
    if subjects == 1:
        return (
            "One subject says nothing about others: no interval and no test is given, "
            "and the difference is as it is."
        )
    return (
        f"With {subjects} subjects a two-sided signed-rank test cannot go below p = "
        f"{2 / 2**subjects:.3g}, even where every one of them gains: no difference "
        f"can be shown here. What can be read is how large each subject's difference "
        f"is and which way it goes, not whether other subjects would go the same way."
    )


def cautions(results: Results) -> list[str]:
    """Return what the baselines and controls say against the result."""
    means = mean_accuracies(results)
    own, found = means[results.method], []
    better = [
        f"{name} {means[name]:.3f}" for name in _rivals(results) if means[name] >= own
    ]
    if better:
        found.append(
            f"Caution: something far simpler does as well or better on the same folds "
            f"({', '.join(better)})."
        )
    return [
        *found,
        *length_alone(results),
        *idle(results),
        *collapsed(results),
        *leaks(results),
    ]


def length_alone(results: Results) -> list[str]:
    """Return how far trials' length goes by itself, where the network is shown it."""
    name = "clip duration only"
    whole = str(results.table["sampling"].iloc[0]) == "trials"
    if not whole or name not in results.methods:
        return []
    reached = mean_accuracies(results)[name]
    if not reached > chance_of(results, name) + 0.1:
        return []
    return [
        f"Caution: whole trials show the network their length, and length alone "
        f"reaches {reached:.3f}. Use --sampling sequences, or a crop."
    ]


def idle(results: Results) -> list[str]:
    """Return that an adapter had nothing to teach, where that is so.

    Some networks are from an epoch before it began, or in all of them its losses were
    zero in every epoch, as those of pairs of modalities are where there is one; or it
    was to begin later than training ended. Known of a run that is kept in a folder.
    """
    if results.folder is None:
        return []
    if early := _chosen_early(results):
        return early
    trained = networks(results.folder, results)
    history = histories([each for each in trained if each.method == results.method])
    terms = loss_terms(results, history)
    columns = [
        column
        for term, by_branch in terms.items()
        if term not in ("classification", "total")
        for column in by_branch.values()
    ]
    if history[columns].to_numpy().any() or not (columns or _begins(results)):
        return []
    zero = f"all its losses ({', '.join(columns)}) were zero in every epoch"
    why = zero if columns else "training ended before it was to begin"
    return [
        f"Caution: {results.method} adapted nothing in any training, as {why}: this is "
        f"source only. Look for what it lacks: a second modality, trials of several "
        f"samples, more epochs (--epochs), or a weight above 0."
    ]


def _chosen_early(results: Results) -> list[str]:
    """Return how many networks are from an epoch before the adapter began."""
    own = results.table[results.table["method"] == results.method]
    kept = own.drop_duplicates(["fold", "seed"])["epoch"].dropna().astype(int)
    epochs, begins = results.description["options"]["training.epochs"], _begins(results)
    early = int((kept <= begins * epochs).sum())
    if not early:
        return []
    networks = f"{early} of {count(len(kept), 'network')}"
    return [
        f"Caution: {networks} of {results.method} had not begun to adapt in the epoch "
        f"that was chosen by {own['selection'].iloc[0]}: these are source only. It "
        f"begins after {begins:.0%} of the {epochs} epochs; --validator last keeps the "
        f"last one."
    ]


def _begins(results: Results) -> float:
    """Return the progress of training at which the adapter begins; 0 if not known."""
    try:
        chosen = experiment_of(results.description)
        adapter = chosen.build_adapter(chosen.adapter)
    except ConfigurationError:  # made in Python, or of a plug-in that is not here
        return 0.0
    late = adapter.needs_target and not adapter.settles
    return adapter.begins if late else 0.0


def collapsed(results: Results) -> list[str]:
    """Return which networks answer with one class alone, in how many trainings."""
    found, every = [], results.predictions
    for name in dict.fromkeys([results.method, baseline(results)]):
        if name not in set(every.get("method", ())):
            continue
        own = every[every["method"] == name]
        kinds = own.groupby(["fold", "seed"])[["label", "predicted"]].nunique()
        several = kinds[kinds["label"] > 1]
        alone = int((several["predicted"] == 1).sum())
        if alone:
            found.append(
                f"Caution: {name} predicts a single class in {alone} of "
                f"{count(len(several), 'training')}: it has not begun to learn, or has "
                f"collapsed. Train for more steps (--epochs), or set another "
                f"training.learning_rate or weight."
            )
    return found


def leaks(results: Results) -> list[str]:
    """Return what a training on shuffled labels says of the evaluation, if anything."""
    summary, blind = results.summary(), chances(results).mean()
    return [
        f"Caution: trained on shuffled labels, which tell nothing, the network still "
        f"reaches {summary['mean'][name]:.3f}, at least {summary['low'][name]:.3f} in "
        f"95 % of resamplings, where chance is {blind[name]:.3f}: the evaluation leaks."
        for name in results.retrainings
        if name.startswith("labels shuffled") and summary["low"][name] > blind[name]
    ]


def _points(gap: float, unit: str = " points") -> str:
    """Return a difference of accuracies in hundredths."""
    return f"{signed(100 * gap)}{unit}".replace("-", "\N{MINUS SIGN}")
