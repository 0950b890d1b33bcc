"""Whether a study without target labels finds weights that are known to be the best.

Run `python benchmarks/tuning.py OUTPUT`. It makes recordings of which it is known how
far `marginal` alignment should go, tunes its weight, its distance and the learning rate
by validators that see no target label, and looks up afterwards what each candidate was
worth on the targets. Two kinds of recordings: subjects who differ by an offset alone,
which alignment takes away, and subjects who differ by their class shares alone, where
there is nothing to align. Each seed makes its own recordings and seeds its own study.
Tables and the figure are in OUTPUT, and with ``--page`` in the documentation; a second
call reads the studies that are there.
"""

from __future__ import annotations

import argparse
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pages import DOCS, TABLES, placed

import domainemo as de
from domainemo.adapters.kernels import maximum_mean_discrepancy
from domainemo.choices import SELECTED_BY
from domainemo.processes import cores, process_pool
from domainemo.registry import find
from domainemo.reports.style import COLOURS, LINES, MARKERS, WIDTH, save
from domainemo.studies.findings import SCORES, SOURCE_ONLY_SCORES, Findings
from domainemo.training.seeds import reproducible
from domainemo.validators.comparing import comparison

CHOOSING = ("1", "2", "3", "4", "5")
TESTED = ("6", "7", "8")
COMMON: Mapping[str, Any] = {
    "backbone": "concatenation-mlp",
    "modalities": ("eeg",),
    # Scaled by the source alone: what sets a target apart stays in its recordings.
    "normalisation": "source",
    "device": "cpu",
}
EPOCHS = 6
SPACE = {
    "adapter.weight": {"low": 0.001, "high": 10.0, "log": True},
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
}
WEIGHTS = tuple(10 ** (k / 2) for k in range(-6, 3))
DISTANCES = ("mmd", "coral")
LEARNING_RATE = 0.005  # of the sweep over weights
KNOWN = {"adapter.weight": 0.1, "adapter.distance": "mmd"}  # the middle of its plateau
FRESH = 1  # seed of training that no study used
FEWER = 3  # recordings for all but the main comparison

OTHERS = ("information-maximisation", "source-and-information", "source")
PLAIN = "source only"
KEPT = TABLES / "tuning" / "final.csv"
ORACLES = OTHERS[0]  # chooses the epoch in the sweeps, where nothing else is chosen


class Study(NamedTuple):
    """What is tuned: which recordings, by which validator, with which sampler."""

    kind: str
    validator: str
    sampler: str
    seed: int

    @property
    def name(self) -> str:
        """Its folder."""
        return "-".join(map(str, self))


def main() -> None:
    """Run the studies and the sweeps, print the tables and draw the figure."""
    chosen = arguments()
    began = time.monotonic()
    studies = planned(chosen.seeds)
    places = [chosen.output] * len(studies)
    sweeps = [(kind, seed) for kind in RECORDINGS for seed in chosen.seeds[:FEWER]]
    several = chosen.jobs > 1
    pool = process_pool(chosen.jobs, script=True) if several else nullcontext()
    with pool as executor:
        each = executor.map if executor else map
        swept = list(each(sweep, sweeps, places))
        tuned = list(each(tune, studies, places, [chosen.candidates] * len(studies)))
    sweep_table = pd.concat(swept, ignore_index=True)
    candidates = pd.concat([found for found, _ in tuned], ignore_index=True)
    known = pd.DataFrame([known_best(seed) for seed in chosen.seeds])
    final = pd.concat([tested for _, tested in tuned] + [known], ignore_index=True)
    candidates = with_regret(candidates, sweep_table)
    for name, table in (
        ("sweep", sweep_table),
        ("candidates", candidates),
        ("final", final),
    ):
        table.to_csv(chosen.output / f"{name}.csv", index=False)
    figure = chosen.output / "tuning.svg"
    figure.unlink(missing_ok=True)
    save(lambda: draw(sweep_table, candidates), figure)
    if chosen.page:
        shutil.copyfile(figure, DOCS / "tuning.svg")
        into_page(final)
    show(sweep_table, candidates, final)
    print(f"\n{time.monotonic() - began:.0f} s")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[2, 3, 4, 5, 6])
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=cores())
    parser.add_argument("--page", action="store_true", help="Into the docs, too.")
    return parser.parse_args()


def planned(seeds: Sequence[int]) -> list[Study]:
    """Return the studies: by the default validator, then by others, fewer, by TPE."""
    main = [("offsets", SELECTED_BY, sampler) for sampler in ("tpe", "random")]
    main += [("shares", SELECTED_BY, "tpe")]
    others = [(kind, each, "tpe") for kind in RECORDINGS for each in OTHERS]
    return [Study(*each, seed) for seed in seeds for each in main] + [
        Study(*each, seed) for seed in seeds[:FEWER] for each in others
    ]


# -------------------------------------------------------------------------- recordings


def offsets(seed: int, strength: float = 2 / 3) -> de.EmotionData:
    """Make subjects who differ by an offset of every electrode and band, and no more.

    Emotions act alike on all of them, and classes are equally frequent. The offset is
    the simulator's own, `strength` times its usual size; 0 leaves it out.
    """
    plain = simulated(seed, trials=15)
    if not strength:
        return plain
    nothing = {"effect": 0, "stimulus_effect": 0, "noise": 0}
    moved, resting = (
        simulated(seed, trials=15, subject_shift=shift, **nothing).inputs.signals["eeg"]
        for shift in (strength, 0)
    )
    signals = dict(plain.inputs.signals)
    signals["eeg"] = signals["eeg"] + (moved - resting)
    name = f"{plain.inputs.name}, with the offsets of subject_shift={strength:.2f}"
    return replace(plain, inputs=replace(plain.inputs, signals=signals, name=name))


def shares(seed: int, strength: float = 1) -> de.EmotionData:
    """Make subjects who differ by how often they saw each class, and no more.

    Of 30 clips each subject keeps 10 of one class and 2 of each other one; a
    `strength` of 0 keeps 5 of each.
    """
    whole = simulated(seed, trials=30)
    windows = whole.inputs.windows.assign(label=whole.labels)
    kept = []
    for subject, theirs in windows.groupby("subject"):
        for label, each in theirs.groupby("label"):
            frequent = label == subject % len(whole.classes)
            count = (10 if frequent else 2) if strength else 5
            trials = np.sort(each["trial"].unique())[:count]
            kept.append(each.index[each["trial"].isin(trials)].to_numpy())
    found = whole.take(np.sort(np.concatenate(kept)))
    name = f"{whole.inputs.name}, {'unequal' if strength else 'equal'} class shares"
    return replace(found, inputs=replace(found.inputs, name=name))


def simulated(seed: int, *, trials: int, **options: Any) -> de.EmotionData:
    """Make recordings of which nothing sets the subjects apart, unless asked for."""
    chosen = {"effect": 1.5, "subject_shift": 0, **options}
    return de.Simulated(
        subjects=len(CHOOSING + TESTED),
        sessions=1,
        trials=trials,
        windows=(8, 8),
        session_shift=0,
        strength_spread=0,
        poor=0,
        missing=0,
        seed=seed,
        **chosen,
    ).load()


RECORDINGS = {"offsets": offsets, "shares": shares}


def difference_in_shares(data: de.EmotionData) -> float:
    """Return how far a target's class shares are from its source's; mean over folds.

    Half the sum of the differences. Predictions that are distributed alike in source
    and target have error rates of at least this, added up over the two.
    """
    subjects = data.inputs.windows["subject"].astype(str)
    frequent = pd.get_dummies(data.labels)[subjects.isin(CHOOSING).to_numpy()]
    subjects = subjects[subjects.isin(CHOOSING)].to_numpy()
    found = [
        (frequent[subjects == one].mean() - frequent[subjects != one].mean()).abs()
        for one in CHOOSING
    ]
    return float(np.mean([each.sum() / 2 for each in found]))


def collapsing_weight(samples: int = 32, classes: int = 3) -> float:
    """Return the weight of MMD from which a constant embedding has the lowest loss.

    Two batches of one distribution still have a discrepancy above zero. It is taken
    from equally frequent classes, each of them a single point, all at one distance. A
    constant embedding has none, and a cross-entropy of log(classes).
    """
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(classes, (2, 2000, samples), generator=generator)
    source, target = torch.eye(classes)[drawn]
    ones = torch.ones(2000, samples)
    with reproducible(1):
        discrepancy = maximum_mean_discrepancy(source, target, ones, ones).mean()
    return math.log(classes) / float(discrepancy)


# ------------------------------------------------------------------ studies and sweeps


def tune(
    study: Study, output: Path, candidates: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Run a study; return its candidates and the scores of the final runs.

    What a candidate was worth is read after the study is over; it had no part in it.
    """
    found = de.tune(
        RECORDINGS[study.kind](study.seed),
        adapter="marginal",
        validator=study.validator,
        training=de.Training(epochs=EPOCHS),
        space=SPACE,
        candidates=candidates,
        sampler=study.sampler,
        pruner="none",
        select="global-source",
        development=CHOOSING,
        seed=study.seed,
        final_seeds=(FRESH,),
        output=output / study.name,
        **COMMON,
    )
    worth = found.scores.groupby("candidate")["true_accuracy"].mean()
    score = found.scores.groupby("candidate")["score"].mean()
    table = found.candidates.set_index("candidate")[["default", *SEARCHED]]
    table = table.reindex([-1, *table.index]).assign(value=score, accuracy=worth)
    [choice] = found.choices
    table["chosen"] = table.index == choice.candidate
    table["incumbent"] = incumbents(table["value"], study.validator, found)
    # The last one of the curve is what the study really chose.
    assert table["incumbent"].iloc[-1] == choice.candidate
    table["so_far"] = table["accuracy"][table["incumbent"]].to_numpy()
    final = found.final.summary()["mean"].rename("accuracy").rename_axis("method")
    return (
        table.reset_index().assign(**study._asdict()),
        final.reset_index().assign(**study._asdict()),
    )


def known_best(seed: int) -> dict[str, Any]:
    """Return what the known weights are worth, on those and with what the studies are.

    The weights come from a sweep by the targets' labels over subjects who choose; here
    they are trained for the subjects who do not, with the studies' fresh seed.
    """
    results = de.run(
        RECORDINGS["offsets"](seed),
        adapter="marginal",
        validator=SELECTED_BY,
        training=de.Training(epochs=EPOCHS, learning_rate=LEARNING_RATE),
        options=KNOWN,
        folds=[f"subject {name}" for name in TESTED],
        seeds=(FRESH,),
        baselines=False,
        **COMMON,
    )
    return {
        "method": "known best weights",
        "accuracy": float(results.summary()["mean"].iloc[0]),
        "kind": "offsets",
        "validator": SELECTED_BY,
        "sampler": "none",
        "seed": seed,
    }


SEARCHED = ("adapter.weight", "adapter.distance", "training.learning_rate")


def incumbents(values: pd.Series, validator: str, found: Findings) -> list[int]:
    """Return which candidate was ahead after each; source only is -1.

    Where two are equal the earlier one stays, and source only before all.
    """
    judge = find("validator", validator)()
    if not judge.compares:
        return [int(values.iloc[: n + 1].idxmax()) for n in range(len(values))]
    [study] = found.studies.values()
    scores = {each.number: each.user_attrs[SCORES] for each in study.get_trials()}
    scores[-1] = study.user_attrs[SOURCE_ONLY_SCORES]
    folds = list(
        zip(*([s["evidence"] for s in scores[c]] for c in values.index), strict=True)
    )
    ahead = []
    for count in range(1, len(values) + 1):
        ranks = np.mean([comparison(judge, each[:count]) for each in folds], axis=0)
        ahead.append(int(values.index[ranks.argmax()]))
    return ahead


def sweep(which: tuple[str, int], output: Path) -> pd.DataFrame:
    """Return the accuracy on the targets by weight and distance (an oracle's view).

    Beside them are source only on the same recordings, and the same network on the
    recordings without what sets the subjects apart.
    """
    kind, seed = which
    data, alike = RECORDINGS[kind](seed), RECORDINGS[kind](seed, 0)
    rows = [
        {"reference": name, "accuracy": accuracy(one, "none", {}, output / path)}
        for name, one, path in (
            ("source only", data, f"sweep-{kind}-{seed}/source-only"),
            ("no difference", alike, f"sweep-{kind}-{seed}/no-difference"),
        )
    ]
    for distance in DISTANCES:
        for weight in WEIGHTS:
            options = {"adapter.weight": weight, "adapter.distance": distance}
            place = output / f"sweep-{kind}-{seed}" / f"{distance}-{weight:.4f}"
            found = accuracy(data, "marginal", options, place)
            rows.append({"distance": distance, "weight": weight, "accuracy": found})
    return pd.DataFrame(rows).assign(
        kind=kind, seed=seed, difference=difference_in_shares(data)
    )


def accuracy(
    data: de.EmotionData, adapter: str, options: Mapping[str, Any], output: Path
) -> float:
    """Train as a study does with fixed options; score with the targets' labels."""
    results = de.run(
        data,
        adapter=adapter,
        validator=ORACLES,
        exclude=TESTED,
        training=de.Training(epochs=EPOCHS, learning_rate=LEARNING_RATE),
        baselines=False,
        options=options,
        output=output,
        **COMMON,
    )
    return float(results.per_fold().mean().iloc[0])


def with_regret(candidates: pd.DataFrame, swept: pd.DataFrame) -> pd.DataFrame:
    """Add how far each choice was from the best of all that was ever trained.

    The best is the highest accuracy on these recordings, in any study or sweep, by the
    targets' labels; in points.
    """
    trained = pd.concat([candidates, swept[swept["weight"].notna()]])
    best = trained.groupby(["kind", "seed"])["accuracy"].max().rename("best")
    found = candidates.merge(best.reset_index(), on=["kind", "seed"])
    return found.assign(regret=100 * (found["best"] - found["so_far"]))


# ------------------------------------------------------------------------------- tables


def show(swept: pd.DataFrame, candidates: pd.DataFrame, final: pd.DataFrame) -> None:
    """Print what the page shows, as Markdown."""
    print(f"MMD collapses from a weight of about {collapsing_weight():.1f}")
    for kind, found in swept.groupby("kind"):
        print(f"\n{kind}: class shares differ by {found['difference'].mean():.2f}")
        for name, each in found.groupby("reference"):
            print(f"- {name}: {spread(each['accuracy'])}")
        for distance, each in found.groupby("distance"):
            line = ", ".join(
                f"{weight:.3g}: {values.mean():.3f}"
                for weight, values in each.groupby("weight")["accuracy"]
            )
            print(f"- {distance}: {line}")
    print("\n| Recordings | Validator | Sampler | Chosen | Accuracy | Best | Regret |")
    print("|---|---|---|---|---|---|---|")
    last = candidates["candidate"].max()
    ended = candidates[candidates["candidate"] == last]
    keys = ["kind", "validator", "sampler"]
    for key, each in ended.groupby(keys, sort=False):
        these = (candidates[keys] == list(key)).all(axis=1)
        picked = candidates[these & candidates["chosen"]]
        weights = ", ".join(map(configuration, picked.to_dict("records")))
        print(
            f"| {' | '.join(key)} | {weights} | {spread(each['so_far'])} | "
            f"{spread(each['best'])} | {spread(each['regret'], 1)} |"
        )
    for label, wanted in (("source only", -1), ("defaults", 0)):
        each = candidates[(candidates["candidate"] == wanted)]
        each = each[each["validator"] == SELECTED_BY].drop_duplicates(["kind", "seed"])
        for kind, these in each.groupby("kind"):
            lost = 100 * (these["best"] - these["accuracy"])
            print(
                f"| {kind} | {SELECTED_BY} | {label} | | {spread(these['accuracy'])} | "
                f"{spread(these['best'])} | {spread(lost, 1)} |"
            )
    print("\nSubjects who did not choose, fresh seed:")
    means = final.groupby([*keys, "method"], sort=False)["accuracy"]
    print(means.agg(["median", "min", "max"]).round(3).to_string())


def into_page(final: pd.DataFrame) -> None:
    """Keep what was found with the documentation, and put it into its page."""
    KEPT.parent.mkdir(exist_ok=True)
    final.round(5).to_csv(KEPT, index=False)
    page = DOCS / "tuning-evidence.md"
    text = page.read_text(encoding="utf-8")
    for kind in RECORDINGS:
        text = placed(text, f"tuning-{kind}", by_seed(final, kind))
    page.write_text(placed(text, "tuning-others", by_validator(final)), "utf-8")


def by_seed(final: pd.DataFrame, kind: str) -> str:
    """Return a row for each of a kind's recordings, by the default validator."""
    of_kind = final[(final["kind"] == kind) & (final["validator"] == SELECTED_BY)]
    columns = {
        "known best": ("none", "known best weights"),
        "tuned, TPE": ("tpe", "tuned"),
        "tuned, random search": ("random", "tuned"),
        "defaults": ("tpe", "defaults"),
        "source only": ("tpe", "source only"),
        "logistic regression": ("tpe", "logistic regression"),
    }
    keys = of_kind.set_index(["sampler", "method", "seed"])["accuracy"].sort_index()
    known = {name: keys[key] for name, key in columns.items() if key in keys.index}
    table = pd.DataFrame(known)
    lines = [f"| seed | {' | '.join(table)} |", "|---" * (len(table.columns) + 1) + "|"]
    for seed, row in [*table.iterrows(), ("mean", table.mean())]:
        lines.append(f"| {seed} | {' | '.join(f'{each:.3f}' for each in row)} |")
    return "\n".join(lines)


def by_validator(final: pd.DataFrame) -> str:
    """Return what every validator's studies by TPE come to, on both kinds."""
    columns = [f"{kind}, {each}" for kind in RECORDINGS for each in ("tuned", PLAIN)]
    lines = [f"| validator | {' | '.join(columns)} |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    seeds = sorted(final["seed"].unique())[:FEWER]  # that all validators had
    found = final[(final["sampler"] == "tpe") & final["seed"].isin(seeds)]
    means = found.groupby(["validator", "kind", "method"])["accuracy"].mean()
    for name in (SELECTED_BY, *OTHERS):
        cells = [means[name, kind, m] for kind in RECORDINGS for m in ("tuned", PLAIN)]
        lines.append(f"| {name} | {' | '.join(f'{each:.3f}' for each in cells)} |")
    return "\n".join(lines)


def spread(values: pd.Series, digits: int = 3) -> str:
    """Return median and range."""
    low, middle, high = (
        f"{value:.{digits}f}" for value in (values.min(), values.median(), values.max())
    )
    return f"{middle} ({low} to {high})"


def configuration(row: Mapping[str, Any]) -> str:
    """Return what was chosen, in words."""
    if row["candidate"] == -1:
        return "source only"
    weight, distance, rate = (row[name] for name in SEARCHED)
    return f"{distance} {weight:.2g} (rate {rate:.2g})"


# ------------------------------------------------------------------------------- figure


def draw(swept: pd.DataFrame, candidates: pd.DataFrame) -> Figure:
    """Draw what weights are worth, and how near a study comes to the best."""
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_sweep(left, swept[swept["kind"] == "offsets"])
    found = candidates[candidates["kind"] == "offsets"]
    draw_regret(right, found[found["validator"] == SELECTED_BY])
    return figure


def draw_sweep(axes: Axes, swept: pd.DataFrame) -> None:
    """Draw the accuracy on the targets against the weight."""
    for place, distance in enumerate(DISTANCES):
        each = swept[swept["distance"] == distance].groupby("weight")["accuracy"]
        colour = COLOURS[place]
        axes.fill_between(
            WEIGHTS, each.min(), each.max(), color=colour, alpha=0.2, linewidth=0
        )
        axes.plot(
            WEIGHTS,
            each.median(),
            color=colour,
            marker=MARKERS[place],
            linestyle=LINES[place],
            label=distance.upper(),
        )
    for name, style, words, start in (
        ("no difference", "--", "without the offsets", WEIGHTS[0]),
        ("source only", ":", "source only", 2 * WEIGHTS[1]),
    ):
        value = swept.loc[swept["reference"] == name, "accuracy"].median()
        axes.axhline(value, color="0.35", linestyle=style, linewidth=1)
        axes.annotate(words, (start, value), (0, 3), textcoords="offset points")
    limit = collapsing_weight()
    axes.axvline(limit, color="0.35", linestyle="-.", linewidth=1)
    axes.annotate(
        "MMD must collapse",
        (limit, 0.6),
        (3, 0),
        textcoords="offset points",
        rotation=90,
        va="center",
    )
    axes.axhline(1 / 3, color="0.7", linewidth=1)
    axes.annotate("chance", (WEIGHTS[0], 1 / 3), (0, 3), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xlim(WEIGHTS[0] / 1.3, WEIGHTS[-1] * 1.5)
    axes.set_ylim(0.3, 0.95)
    axes.set_xlabel(f"Weight of alignment (learning rate {LEARNING_RATE:g})")
    axes.set_ylabel("Balanced accuracy on the targets")
    axes.set_title("What weights are worth (oracle)")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 0.08))


def draw_regret(axes: Axes, found: pd.DataFrame) -> None:
    """Draw how far the choice is from the best, after each candidate."""
    for place, sampler in enumerate(("tpe", "random")):
        each = found[(found["sampler"] == sampler) & (found["candidate"] >= 0)]
        regret = each.groupby("candidate")["regret"]
        count = np.arange(1, len(regret) + 1)
        colour = COLOURS[place + 4]
        axes.fill_between(
            count,
            regret.min(),
            regret.max(),
            step="post",
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
        axes.step(
            count,
            regret.median(),
            where="post",
            color=colour,
            linestyle=LINES[place],
            label={"tpe": "TPE", "random": "random search"}[sampler],
        )
    tuned = found[found["sampler"] == "tpe"]
    for candidate, style, words in (
        (0, "-.", "defaults"),
        (-1, ":", "source only"),
    ):
        each = tuned[tuned["candidate"] == candidate]
        lost = 100 * (each["best"] - each["accuracy"]).median()
        axes.axhline(lost, color="0.35", linestyle=style, linewidth=1)
        axes.annotate(
            words,
            (1, lost),
            (-2, 3),
            textcoords="offset points",
            xycoords=axes.get_yaxis_transform(),
            ha="right",
        )
    axes.axhline(2, color="0.35", linestyle="--", linewidth=1)
    axes.annotate("2 points", (1, 2), (0, 3), textcoords="offset points")
    axes.set_yscale("symlog", linthresh=2, linscale=0.8)
    ticks = [0, 1, 2, 5, 10, 20, 50]
    axes.set_yticks(ticks, [f"{tick}" for tick in ticks])
    axes.set_ylim(-0.1, 80)
    axes.set_xlabel("Candidates")
    axes.set_ylabel("Accuracy below the best (points)")
    axes.set_title("What a study without target labels chooses")
    axes.legend(loc="lower left")


if __name__ == "__main__":
    main()
