"""What a paper says of a run: how it was done, in a paragraph, and whom it cites."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..registry import UnknownPart, kind_of, leaves
from ..review.reading import class_names
from ..runs.how import told_of_target
from ..words import count, duration, listed
from .page import Block, Code, Section
from .references import Reference, bibtex, references
from .run_sections import Run, machine, tested, training_seconds

__all__ = ["cited", "for_a_paper", "methods_paragraph"]


_TRAINED = {
    "training.batch_size": "batches of {}",
    "training.optimiser": "optimiser {}",
    "training.learning_rate": "learning rate {:g}",
    "training.weight_decay": "weight decay {:g}",
}
"""What is said of a training; a run of an earlier version has fewer."""


def for_a_paper(run: Run) -> Section:
    """Return the section on how a paper would describe the run, and what it cites."""
    blocks = [methods_paragraph(run), *cited(run.results.description)]
    return Section("For a paper", blocks)


def cited(described: Mapping[str, Any]) -> list[Block]:
    """Return in BibTeX what data set, network and adapter name; and which name none.

    Parameters
    ----------
    described : mapping
        The configuration of a run or a study.
    """
    named, silent = _papers(described)
    blocks: list[Block] = []
    if named:
        blocks += [
            "The papers that the parts' own descriptions name, with no more than "
            "stands there: complete the entries before you print them.",
            Code(bibtex(named)),
        ]
    if silent:
        blocks.append(f"No paper is named by {listed(silent)}.")
    return blocks


def methods_paragraph(run: Run) -> str:
    """Return how a run was done, in sentences for a paper's section on methods."""
    results, options = run.results, run.results.description["options"]
    own = results.table[results.table["method"] == run.method]
    first = own.iloc[0]
    adapter = results.description["adapter"]
    adapted = "without adaptation" if adapter == "none" else f"with {adapter}"
    parameters = count(int(first["parameters"]), "parameter")
    folds = count(results.table["fold"].nunique(), "fold")
    seeds = count(len(results.description["seeds"]), "seed")
    epochs = count(options["training.epochs"], "epoch")
    settings = [
        words.format(options[key]) for key, words in _TRAINED.items() if key in options
    ]
    chosen = first["selection"]
    epoch = (
        "the network of the last one was kept"
        if chosen == "last"
        else f"the epoch was chosen by {chosen}"
    )
    sentences = [
        f"On {first['dataset']}, the network {first['backbone']} ({parameters}) was "
        f"trained {adapted} on {listed(str(first['modalities']).split(', '))}, to tell "
        f"{listed(class_names(results))} apart",
        f"The protocol was {first['protocol']}, with {folds} and {seeds}, "
        f"{told_of_target(own)}",
        f"Signals were {first['normalisation']}; samples were {first['sampling']}",
        f"Each training took {epochs} ({', '.join(settings)}); {epoch}",
        f"Tested were {tested(results)}",
        "Scores were averaged over seeds and folds within each subject, and then over "
        "subjects; intervals are 95 % bootstrap intervals over subjects",
    ]
    if results.comparison() is not None:
        sentences.append(
            "Differences from source only are paired by subject, with a two-sided "
            "Wilcoxon signed-rank test"
        )
    if results.controls:
        sentences.append(f"Controls on the same folds were {listed(results.controls)}")
    packages = run.environment.get("packages", {})
    versions = [f"domainemo {first['version']}"]
    versions += [f"torch {packages['torch']}"] if "torch" in packages else []
    sentences.append(
        f"Training took {duration(training_seconds(results))} in all, by "
        f"{listed(versions)} on "
        f"{machine(run.environment, results.description['device'])}"
    )
    return " ".join(f"{each.rstrip('.')}." for each in sentences)


def _papers(
    described: Mapping[str, Any],
) -> tuple[list[tuple[str, Reference]], list[str]]:
    """Return the papers by the parts that name them, and the parts that name none."""
    parts = [("dataset", described.get("dataset"))]
    parts.append(("backbone", described["backbone"]))
    adapter = described["adapter"]
    parts += [(kind_of("adapter", each), each) for each in leaves(adapter)]
    named, silent = [], []
    for kind, name in parts:
        if name in (None, "none"):
            continue
        try:
            found = references(kind, str(name))
        except UnknownPart:  # a plug-in's, which a report does not load
            found = []
        named += [(str(name), each) for each in found]
        if not found:
            silent.append(f"the {kind} {name}")
    return named, silent
