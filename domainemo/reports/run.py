"""A run's report: what it found and how, its training, and what its networks see."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from ..backbones.explanation import Explainable
from ..choices import ORACLE
from ..parts import part
from ..registry import entries, find
from ..review.embedding import embed
from ..review.histories import histories, loss_terms
from ..review.interpretation import interpret
from ..review.reading import (
    Recordings,
    TrainedNetwork,
    baseline,
    networks,
    read_results,
)
from ..review.screening import screening
from ..review.tables import typical_fold
from ..runs.controls import control_name
from ..runs.folder import ENVIRONMENT, read_json, rerun
from ..runs.metrics import METRICS
from ..runs.model import load_trained
from ..runs.results import Results
from ..words import but_for_calibration, count
from . import attention
from . import run_figures as figures
from .page import Block, Code, Figure, Note, Section, Table, write_report
from .run_words import (
    ENOUGH,
    cautions,
    difference,
    gains,
    mean_accuracies,
    too_few,
    what_was_reached,
    who_gained,
    why_not_compared,
)

__all__ = ["write_run_report"]

_HOW = {
    "dataset": "recordings",
    "modalities": "modalities",
    "excluded": "left out",
    "skipped": "folds skipped",
    "protocol": "protocol",
    "access": "access to the target",
    "target_seen": "seen of the target",
    "calibration": "labels given of the target",
    "normalisation": "normalisation",
    "backbone": "backbone",
    "initialisation": "initialisation",
    "sampling": "samples",
    "label_share": "share of the source's labels",
    "selection": "epoch chosen by",
    "parameters": "parameters",
    "version": "domainemo",
}
_PLACES = ("data_root", "plugins", "init_from")


def write_run_report(
    folder: Path,
    output: Path | None = None,
    *,
    recordings: Recordings | None = None,
    missing: str = "they were not given",
    on_network: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write the report of a finished run.

    Parameters
    ----------
    folder : Path
        The run's.
    output : Path, optional
        The page; by default ``report.html`` in `folder`.
    recordings : Recordings, optional
        From :func:`~domainemo.review.reading.match_recordings`. Without them the
        report lacks embeddings and attention, and says so.
    missing : str
        Why there are none, as the end of a sentence.
    on_network : callable, optional
        Called with the name of each network before it looks at recordings again.

    Returns
    -------
    list of Path
        What was written, the page first.

    Raises
    ------
    ConfigurationError
        If the folder is no finished run's.
    """
    run = _read(folder, recordings, missing)
    tell = on_network or (lambda name: None)
    sections = [
        _results(run),
        _subjects(run),
        _controls(run),
        _confusion(run),
        _calibration(run),
        _losses(run),
        _selection(run),
        _screening(run),
        _embeddings(run, tell),
        _attention(run, tell),
        _how(run),
        _left_out(run),
    ]
    return write_report(
        output or folder / "report.html",
        title=f"{run.method} on {run.results.description['backbone']}",
        summary=_summary(run),
        sections=[section for section in sections if section is not None],
        data=_data(run),
    )


_LINEAR = "logistic regression"  # the control that pictures show beside networks


@dataclass(frozen=True)
class _Run:
    """A run, and what several sections speak of.

    Attributes
    ----------
    left_out : list of str
        What the report lacks and why; grows while sections are made.
    """

    folder: Path
    results: Results
    trained: list[TrainedNetwork]
    history: pd.DataFrame
    environment: Mapping[str, Any]
    recordings: Recordings | None
    missing: str
    left_out: list[str] = field(default_factory=list)

    @property
    def method(self) -> str:
        return self.results.method

    @property
    def other(self) -> str | None:
        return baseline(self.results)

    @property
    def compared(self) -> list[str]:
        """The methods that pictures show beside each other."""
        names = [self.method, self.other, _LINEAR]
        return [name for name in names if name in self.results.methods]

    @property
    def oracle(self) -> bool:
        return bool(self.results.description["validator"] == ORACLE)

    def networks(self, method: str) -> list[TrainedNetwork]:
        return [each for each in self.trained if each.method == method]


def _read(folder: Path, recordings: Recordings | None, missing: str) -> _Run:
    results = read_results(folder)
    trained = networks(folder, results)
    environment = read_json(folder / ENVIRONMENT)
    history = histories(trained)
    return _Run(folder, results, trained, history, environment, recordings, missing)


# --------------------------------------------------------------------------- summary


def _summary(run: _Run) -> list[Block]:
    results, found = run.results, run.results.comparison()
    blocks: list[Block] = [what_was_reached(results)]
    if found is None:
        blocks.append(why_not_compared(results))
    else:
        blocks += [difference(results, found), who_gained(results)]
        if found.subjects < ENOUGH:
            blocks.append(Note(too_few(found.subjects)))
    if run.oracle:
        blocks.append(
            Note(
                "ORACLE: the epoch was chosen by the target's own labels. These "
                "figures say what a perfect choice would have given, and are no result."
            )
        )
    blocks += [Note(text) for text in cautions(run.results)]
    return [*blocks, f"How it was obtained: {results.how()}"]


# --------------------------------------------------------------------------- results


def _results(run: _Run) -> Section:
    results = run.results
    names = {
        "deviation": "standard deviation",
        "low": "95 % low",
        "high": "95 % high",
        "trial": "whole trials",
    }
    metrics = {
        name.replace("_", " "): results.per_subject(name).mean() for name in METRICS
    }
    blocks: list[Block] = [
        Figure(
            "methods",
            partial(figures.draw_methods, results),
            "Every method on the same folds. Diamonds are means over subjects, lines "
            "their 95 % bootstrap intervals (none with fewer than five subjects), dots "
            "single subjects. " + _choice_of_epoch(run),
        ),
        Table(
            results.summary().rename(columns=names).rename_axis("method"),
            f"Balanced accuracy per {results.level}, over subjects; last, of whole "
            f"trials by the mean of their probabilities.",
        ),
        Table(
            pd.DataFrame(metrics).loc[results.methods].rename_axis("method"),
            f"Every metric per {results.level}, mean over subjects.",
        ),
    ]
    return Section("Results", blocks)


def _choice_of_epoch(run: _Run) -> str:
    rows = run.results.table[run.results.table["method"] == run.method]
    rule = str(rows["selection"].iloc[0])
    if rule == "last":
        return "Networks are those of the last epoch."
    return f"The epoch was chosen by {rule}."


def _subjects(run: _Run) -> Section:
    results = run.results
    blocks: list[Block] = [
        Figure(
            "subjects",
            partial(figures.draw_subjects, results, run.compared),
            "Each subject's balanced accuracy, with the 95 % interval of resampling "
            "that subject's trials (none with fewer than five); right, the mean with "
            "that of resampling subjects. The dashed line is chance. "
            + _choice_of_epoch(run),
        )
    ]
    folds = int(results.table.groupby("subject")["fold"].nunique().max())
    if folds > 1:
        text = (
            f"A subject is tested in up to {folds} folds, averaged before subjects are "
            f"compared: the subject is the unit of analysis."
        )
        if folds < ENOUGH:
            text += (
                f" A test over the {folds} folds of one subject could not go below "
                f"p = {2 / 2**folds:.3g}, so none is made."
            )
        blocks.append(text)
    table = results.per_subject().rename_axis(columns=None)
    caption = "Balanced accuracy by subject."
    if run.other is not None:
        gain = gains(run.results)
        table = table.loc[gain.index]
        table.insert(1, "gain over source only", gain)
        caption = "Balanced accuracy by subject; who gained most stands first."
    return Section("Subject by subject", [*blocks, Table(table, caption)])


def _controls(run: _Run) -> Section | None:
    means = mean_accuracies(run.results)
    names = run.results.controls
    if not names:
        run.left_out.append("controls, which were not run")
        return None
    known = [part("control", each.name) for each in entries("control")]
    kinds = {control_name(each): find("control", each.name) for each in known}
    words = {name: getattr(cls, "words", "") for name, cls in kinds.items()}
    own = means[run.method]
    table = pd.DataFrame(
        {
            "what it does": [words.get(name, "") for name in names],
            "balanced accuracy": [means[name] for name in names],
            f"{run.method} less it": [own - means[name] for name in names],
        },
        index=pd.Index(names, name="control"),
    )
    return Section(
        "Controls",
        [
            "A result that does not beat what knows next to nothing is hollow. All "
            "of these were run on the same folds and scored alike.",
            Table(table, "Means over subjects."),
            *(Note(text) for text in cautions(run.results)),
        ],
    )


def _confusion(run: _Run) -> Section:
    shown = [name for name in run.compared if name != _LINEAR]
    return Section(
        "Confusion of classes",
        [
            Figure(
                "confusion",
                partial(figures.draw_confusion, run.results, shown),
                f"What each true class of the target subjects was predicted as: share "
                f"of the row, and number of {run.results.level}s"
                f"{_over_seeds(run)}. {_choice_of_epoch(run)}",
            )
        ],
    )


def _over_seeds(run: _Run) -> str:
    seeds = len(run.results.description["seeds"])
    return f", {seeds} seeds counted together" if seeds > 1 else ""


def _calibration(run: _Run) -> Section:
    return Section(
        "Calibration",
        [
            Figure(
                "calibration",
                partial(figures.draw_calibration, run.results, run.compared),
                f"How often predictions of each confidence are right, all target "
                f"subjects' {run.results.level}s together{_over_seeds(run)}. A bar "
                f"below the dashed line is overconfident, by the black line between "
                f"them. ECE is the expected calibration error in ten bins.",
            ),
            "The error of all samples together is not the mean of each subject's own, "
            "which stands under Results.",
        ],
    )


# -------------------------------------------------------------------------- training


def _losses(run: _Run) -> Section:
    folds, seeds = run.history["fold"].nunique(), run.history["seed"].nunique()
    return Section(
        "Learning curves",
        [
            Figure(
                "losses",
                partial(figures.draw_losses, run.results, run.history),
                f"Every term of the loss, with its weight, over the epochs: mean over "
                f"{_runs(folds, seeds)}, and their range. They are summed to the "
                f"total.",
            )
        ],
    )


def _runs(folds: int, seeds: int) -> str:
    text = count(folds, "fold")
    return text if seeds == 1 else f"{text} and {count(seeds, 'seed')}"


def _selection(run: _Run) -> Section | None:
    name = run.results.description["validator"]
    if name in ("last", ORACLE):
        return None
    rows = run.results.table[run.results.table["method"] == run.method]
    kept = rows.drop_duplicates(["fold", "seed"])["epoch"].astype(int)
    history = run.history[run.history["method"] == run.method]
    return Section(
        "Choice of the epoch",
        [
            Figure(
                "validator",
                partial(figures.draw_scores, history, kept, str(name)),
                f"The score of the validator, {name}, which saw no label of the "
                f"target{but_for_calibration('calibration' in rows)}: mean over folds, "
                f"and range. Triangles are the epochs kept, each the highest score of "
                f"its own fold.",
            )
        ],
    )


def _screening(run: _Run) -> Section | None:
    table = screening(run.results, run.networks(run.method), run.recordings)
    if not len(table):
        run.left_out.append(
            "screening over time, since no screen of the adapter's left a record"
        )
        return None
    last = table[table["epoch"] == table["epoch"].max()].mean(numeric_only=True)
    blocks: list[Block] = [
        f"In the last epoch screening let the fusion learn from "
        f"{last['consistent']:.0%} of the target's samples, single modalities from "
        f"another {last['taught']:.0%}, and dropped {last['dropped']:.0%} (means over "
        f"folds).",
        Figure(
            "screening",
            partial(figures.draw_screening, table),
            "What screening made of all target samples after each epoch, by the "
            "network without dropout, in batches of training's size. Right: of the "
            "samples let through, the share whose pseudo-label is the true one; mean "
            "over folds that have any, and range. The losses that use them may have no "
            "weight yet in early epochs, see the learning curves.",
        ),
    ]
    precision = _precision(last)
    if precision:
        blocks.append(Note(precision))
    else:
        run.left_out.append(
            "how right the pseudo-labels were: the target's samples were not those "
            f"tested, and the recordings were not read, as {run.missing}"
        )
    return Section("Screening over time", blocks)


def _precision(last: pd.Series[Any]) -> str:
    words = {
        "consistent_precision": "where modalities agreed",
        "taught_precision": "where one taught another",
    }
    parts = [
        f"{last[name]:.0%} {text}"
        for name, text in words.items()
        if not math.isnan(last[name])
    ]
    if not parts:
        return ""
    return (
        f"After the fact: in the last epoch the pseudo-labels were right for "
        f"{' and '.join(parts)}. Neither training nor the choice of anything saw this."
    )


# ------------------------------------------------------------------------- recordings


def _embeddings(run: _Run, tell: Callable[[str], None]) -> Section | None:
    if run.recordings is None:
        run.left_out.append(f"embeddings, which need the recordings, and {run.missing}")
        return None
    fold, seed = typical_fold(run.results), run.results.description["seeds"][0]
    domain = run.recordings.experiment.protocol.build().domain
    headings = {run.method: run.method}
    if run.other is not None:
        headings = {run.other: "before: source only"}
        headings[run.method] = f"after: {run.method}"
    panels = {}
    for method, heading in headings.items():
        for network in run.networks(method):
            if (network.fold, network.seed) == (fold, seed):
                tell(f"{fold}, {method}, seed {seed}: embedding")
                panels[heading] = embed(network, run.recordings)
    median = "gain over source only" if run.other else "balanced accuracy"
    return Section(
        "Embeddings",
        [
            Figure(
                "embeddings",
                partial(figures.draw_embeddings, panels, domain),
                f"Samples in the fusion's embedding, in the plane of its two largest "
                f"principal components: {fold}, seed {seed}. The fold is that of the "
                f"median {median}, chosen after the fact to be typical. Above by true "
                f"class, filled marks the target; below by {domain}, crosses the "
                f"target. At most 600 samples of each are drawn, and ten domains "
                f"named.{_last_epoch(run)}",
            ),
            "A plane shows what varies most, not all that the network knows: classes "
            "that overlap here may be apart in the other components. Each network has "
            "a plane of its own.",
        ],
    )


def _last_epoch(run: _Run) -> str:
    if not run.oracle:
        return ""
    return " The networks kept are the last epoch's, not the oracle's."


def _attention(run: _Run, tell: Callable[[str], None]) -> Section | None:
    if run.recordings is None:
        run.left_out.append(
            f"attention to brain regions, which needs the recordings, and {run.missing}"
        )
        return None
    folders = [each.folder for each in run.networks(run.method)]
    experiment = run.recordings.experiment
    trained = load_trained(folders[0], experiment)
    if not isinstance(trained.network.backbone, Explainable):
        run.left_out.append(
            f"attention to brain regions, which the backbone "
            f"{experiment.backbone.name} does not offer"
        )
        return None
    # Who was left out is gone from these recordings already.
    experiment = replace(experiment, exclude=())
    made = interpret(folders, experiment, run.recordings.data.inputs, tell)
    captions = {
        "attention": "Where the network attends on the scalp, by predicted class; "
        "below, the difference to the mean over classes.",
        "occlusion": "By how much the predicted class's probability falls where a "
        "region's electrodes show only their mean over the session.",
        "cross_modal": "Which windows of the other sensors the EEG listens to.",
    }
    blocks: list[Block] = [
        Figure(
            name.replace("_", "-"),
            draw,
            f"{captions[name]} Mean over target subjects of all folds; no label was "
            f"read.{_last_epoch(run)}",
        )
        for name, draw in attention.figures(made).items()
    ]
    means = attention.class_means(made.regions).T.rename_axis(index="region")
    blocks.append(
        Table(means.rename_axis(columns=None), "Attention by predicted class.")
    )
    return Section("Attention to brain regions", blocks)


# ------------------------------------------------------------------------------- how


def _how(run: _Run) -> Section:
    results = run.results
    first = results.table[results.table["method"] == run.method].iloc[0]
    facts = {
        words: first[name]
        for name, words in _HOW.items()
        if name in first and pd.notna(first[name]) and first[name] != ""
    }
    facts["seeds"] = ", ".join(map(str, results.description["seeds"]))
    facts["device"] = results.description["device"]
    packages = run.environment.get("packages", {})
    facts |= {name: packages[name] for name in ("torch", "numpy") if name in packages}
    facts |= {key: run.environment[key] for key in ("python", "platform")}
    options = pd.Series(results.description["options"], name="value").map(str)
    trained = results.table.drop_duplicates(["method", "fold", "seed"])
    seconds = trained.groupby("method", sort=False)["seconds"].agg(["sum", "mean"])
    again: list[Block] = []
    plugins = results.description.get("plugins", ())
    if "dataset" in results.description:
        again = [
            "The same run again, from its own folder:",
            Code(rerun(run.folder, plugins, "--output", "again")),
        ]
    return Section(
        "How the numbers were obtained",
        [
            results.how(),
            *again,
            Table(_two_columns(facts, "fact"), "What was done."),
            Table(options.rename_axis("option").to_frame(), "Every option."),
            Table(
                seconds.dropna().rename(
                    columns={"sum": "seconds in all", "mean": "per fold and seed"}
                ),
                "Time of training.",
                digits=1,
            ),
        ],
    )


def _two_columns(facts: Mapping[str, Any], heading: str) -> pd.DataFrame:
    values = pd.Series({key: str(value) for key, value in facts.items()}, name="value")
    return values.rename_axis(heading).to_frame()


def _left_out(run: _Run) -> Section | None:
    if not run.left_out:
        return None
    return Section(
        "What this report lacks",
        [f"{text[0].upper()}{text[1:]}." for text in run.left_out],
    )


def _data(run: _Run) -> dict[str, Any]:
    """Return the numbers that the page holds for programs."""
    results, found = run.results, run.results.comparison()
    description = {
        key: value for key, value in results.description.items() if key not in _PLACES
    }
    return {
        "how": results.how(),
        "configuration": description,
        "environment": run.environment,
        "summary": results.summary(),
        "subjects": results.per_subject(),
        "comparison": None if found is None else asdict(found),
        "losses": loss_terms(results, run.history),
        "lacks": run.left_out,
    }
