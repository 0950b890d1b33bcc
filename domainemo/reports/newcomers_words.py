"""What can be said, in plain words, of predictions whose labels nobody knows."""

from __future__ import annotations

import pandas as pd

from ..core import TRIAL
from ..review.reading import baseline, class_names
from ..runs.distance import farther_than
from ..runs.results import Results
from ..words import count, listed

__all__ = [
    "UNKNOWN",
    "how_methods_agree",
    "how_much_changed",
    "what_was_predicted",
    "who_has_one_class",
    "who_is_far",
]

UNKNOWN = (
    "Nobody knows the labels of these people, so nothing here says how often a "
    "prediction is right. There is no accuracy, and nothing stands for one: a network "
    "may be confident and wrong, methods may agree and all be wrong, and what a "
    "validator scores is no accuracy. What would help are labels: of a few trials of "
    "each person, of every class. Put them among the labelled recordings and run the "
    "protocol cross-subject, which scores every method on them."
)
"""What cannot be known without labels, and what would help."""


def what_was_predicted(results: Results) -> str:
    """Return how many people there are, and what the adapter predicts of them."""
    rows = results.predictions[results.predictions["method"] == results.method]
    rows = rows[rows["seed"] == rows["seed"].iloc[0]]
    people = rows["subject"].nunique()
    trials = len(rows[TRIAL].drop_duplicates())
    amount = count(trials, "trial")
    if results.level != "trial":
        amount = f"{count(len(rows), results.level)} in {amount}"
    means = _of_adapter(results).mean().to_dict()
    classes = class_names(results)
    shares = [f"{means[f'share_{name}']:.0%} as {name}" for name in classes]
    over = ", means over people" if people > 1 else ""
    return (
        f"{_people(people)}, {amount}. Of all {results.level}s, {results.method} "
        f"predicts {listed(shares)}, with a mean confidence of "
        f"{means['confidence']:.2f} (a blind guess has {1 / len(classes):.2f}){over}."
    )


def how_much_changed(results: Results) -> str:
    """Return how many predictions adapting changed, and of whom most."""
    if results.description["adapter"] == "none":
        return "This is source only: nothing was adapted."
    other = baseline(results)
    if other is None:
        return (
            "Source only was not run beside it, so this run cannot tell what adapting "
            "changed. Leave out --no-baselines for that."
        )
    changed = _of_adapter(results)["changed"]
    text = (
        f"Adapting changed the predicted class of {changed.mean():.0%} of the "
        f"{results.level}s"
    )
    if len(changed) > 1:
        text += (
            f", mean over people (most of subject {changed.idxmax()}, "
            f"{changed.max():.0%}; least of subject {changed.idxmin()}, "
            f"{changed.min():.0%})"
        )
    return f"{text}. Whether for better or worse, nobody can tell."


def who_has_one_class(results: Results) -> str:
    """Return of whom the adapter predicts a single class; nothing where of nobody."""
    people = _of_adapter(results)
    rows = results.table[results.table["level"] == results.level]
    several = rows.groupby("subject")["samples"].max() > 1
    people = people[several[people.index].to_numpy()]
    found = [
        f"{subject} ({name})"
        for name in class_names(results)
        for subject in people.index[people[f"share_{name}"] == 1]
    ]
    if not found:
        return ""
    return (
        f"Caution: {results.method} predicts one and the same class of every "
        f"{results.level} of {len(found)} of {count(len(people), 'newcomer')}: "
        f"{_subjects(found)}. Unless nothing else was felt, it has told nothing apart "
        f"there."
    )


def how_methods_agree(results: Results, table: pd.DataFrame) -> str:
    """Return what agreement means, and that of the adapter and source only."""
    text = (
        "Where methods disagree, at least one is wrong. Where they agree, all may be: "
        "two that mostly predict the same class agree often and know nothing."
    )
    other = baseline(results)
    if other is None:
        return text
    share = table[other].to_dict()[results.method]
    return (
        f"{results.method} and {other} agree on {share:.0%} of all {results.level}s. "
        f"{text}"
    )


def who_is_far(distances: pd.DataFrame) -> str:
    """Return which newcomers lie farther from the source than all of its people do."""
    table = farther_than(distances)
    people = table["subject"].nunique()
    found = {}
    for column in ("recorded", "normalised"):
        among = table[f"{column}_of"]
        beyond = table[(among > 0) & (table[f"{column}_exceeds"] == among)]
        names = [str(name) for name in beyond["subject"].unique()]
        which = f" ({_subjects(names)})" if names else ""
        found[column] = f"{len(names)} of {people} newcomers{which}"
    return (
        f"Farther from the source than every source person is, in at least one "
        f"modality: as recorded {found['recorded']}; normalised {found['normalised']}."
    )


def _of_adapter(results: Results) -> pd.DataFrame:
    """Return a row per person: what the adapter's predictions look like."""
    people = results.people()
    return people[people.index.get_level_values("method") == results.method].droplevel(
        "method"
    )


def _people(number: int) -> str:
    return "One person" if number == 1 else f"{number} people"


def _subjects(names: list[str]) -> str:
    return f"subject{'s' if len(names) > 1 else ''} {listed(_first(names))}"


def _first(names: list[str], most: int = 12) -> list[str]:
    """Return names, or the first of many and how many more there are."""
    if len(names) <= most:
        return names
    return [*names[:most], f"{len(names) - most} more"]
