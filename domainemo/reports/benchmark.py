"""A benchmark's page: tables, ranks, cost, and how every number was obtained."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..benchmarks.findings import Findings, Group
from ..benchmarks.printed import difference_columns, in_words
from ..runs.experiment import SOURCE_ONLY
from ..statistics.effects import FEWEST_TO_SHOW, LEVEL
from ..statistics.intervals import FEWEST
from ..statistics.paired import compare
from ..statistics.several import holm, stouffer
from ..words import count, listed
from . import benchmark_figures as figures
from .comparison_figures import draw_ranks
from .page import Block, Code, Figure, Note, Section, Table, write_report

__all__ = ["write_benchmark_report"]


def write_benchmark_report(path: Path, findings: Findings) -> list[Path]:
    """Write the page of a benchmark, and its figures and tables beside it.

    Parameters
    ----------
    path : Path
        The page, such as ``report.html``.
    findings : Findings

    Returns
    -------
    list of Path
        What was written, the page first.
    """
    scored = [group for group in findings.groups if len(group.scores)]
    sections = [
        *(_group(number, group) for number, group in enumerate(scored, 1)),
        *_together(scored),
        *_without(findings),
        _how(findings),
    ]
    return write_report(
        path,
        title="Benchmark",
        summary=_summary(findings, scored),
        sections=sections,
        data={"table": findings.table, "file": findings.content},
    )


def _summary(findings: Findings, scored: list[Group]) -> list[Block]:
    outcomes = findings.outcomes
    blocks: list[Block] = [_first(group) for group in scored]
    failed = sum(bool(each.why) for each in outcomes)
    if failed:
        blocks.append(
            Note(
                f"{failed} of {count(len(outcomes), 'cell')} have no number; why "
                f"stands under \N{LEFT DOUBLE QUOTATION MARK}What has no number"
                f"\N{RIGHT DOUBLE QUOTATION MARK}."
            )
        )
    if any(each.cell.experiment.validator is None for each in outcomes):
        blocks.append(
            Note(
                "ORACLE: where a method's name says so, the epoch was chosen by the "
                "target's own labels. Such figures say what a perfect choice would "
                "have given, and are no result."
            )
        )
    few = min((len(group.scores) for group in scored), default=FEWEST_TO_SHOW)
    if few < FEWEST_TO_SHOW:
        blocks.append(
            Note(
                f"Of fewer than {FEWEST_TO_SHOW} subjects no test can show a "
                f"difference, however large: all methods are shown as tied."
            )
        )
    return [*blocks, *(note for group in scored for note in _cannot_show(group))]


def _first(group: Group) -> str:
    """Return in a sentence who is first, and with whom."""
    table = group.table
    ahead = table[table["rank"] == 1]
    best = ahead.iloc[0]
    text = (
        f"{group.name}: the highest balanced accuracy per {group.level} is "
        f"{best['balanced_accuracy']:.3f}, of "
        f"{figures.called((best['backbone'], best['method']))}, over "
        f"{count(len(group.scores), 'subject')}"
    )
    tied, others = len(ahead) - 1, len(group.methods) - 1
    if others == 0:
        return f"{text}, the only method."
    if others == 1:
        verb = "cannot be told" if tied else "differs"
        return f"{text}; the other method {verb} from it."
    if not tied:
        return f"{text}; each of the {others} other methods differs from it."
    if tied == others:
        return f"{text}; none of the {others} others can be told from it."
    return f"{text}; {tied} of the {others} others cannot be told from it."


def _cannot_show(group: Group) -> list[Block]:
    """Return which comparisons are too many for so few subjects, if any are.

    The smallest p that a signed-rank test can have is the first that Holm's correction
    multiplies, by the number of them all.
    """
    subjects, others = len(group.scores), len(group.methods) - 1
    least = 2 / 2**subjects
    bases = {"source only": group.base, "logistic regression": group.linear}
    bases |= {group.reference: group.referred} if group.reference else {}
    families = {"with the best method": others} | {
        f"with {name}": sum(of(method) is not None for method in group.methods)
        for name, of in bases.items()
    }
    lost = [
        f"{least * number:.2g} for {count(number, 'comparison')} {name}"
        for name, number in families.items()
        if number * least >= LEVEL
    ]
    if subjects < FEWEST_TO_SHOW or not lost:
        return []
    return [
        Note(
            f"{group.name}: over {count(subjects, 'subject')} Wilcoxon's signed-rank "
            f"test cannot go below p = {least:.2g}, which Holm's correction makes "
            f"{listed(lost)}: there no difference can be shown, however large."
        )
    ]


# --------------------------------------------------------------------- one data set


def _group(number: int, group: Group) -> Section:
    table = group.table
    done = table if "why" not in table else table[table["why"].isna()]
    shown = [_cells(row) for row in _filled(done)]
    blocks: list[Block] = [
        Table(
            pd.DataFrame(shown),
            f"Balanced accuracy per {group.level}: mean over "
            f"{count(len(group.scores), 'subject')} and its 95 % bootstrap interval. "
            f"Methods that share a rank (=) cannot be told apart: Wilcoxon's "
            f"signed-rank test against the best of them, corrected by Holm, at 0.05. "
            f"Differences are to source only on the same backbone, to logistic "
            f"regression{_referred(group)}, subject by subject; p is Wilcoxon's, "
            f"corrected by Holm for all of that column. Seconds are of a training, one "
            f"fold with one seed.",
        )
    ]
    for place, (name, ranks) in enumerate(figures.rankings(group).items(), 1):
        blocks.append(
            Figure(
                f"ranks-{number}-{place}",
                partial(draw_ranks, ranks, name or group.name),
                f"Mean ranks over subjects{f', {name} and the controls' * bool(name)}. "
                f"A bar joins methods that are no further apart than the critical "
                f"difference (Nemenyi, 0.05): they cannot be told apart. Its test "
                f"is of ranks within subjects alone, and may differ from the table's.",
            )
        )
    blocks.append(
        Figure(
            f"cost-{number}",
            partial(figures.draw_cost, group),
            "Balanced accuracy with its 95 % interval, against the seconds of a "
            "training, on a logarithmic scale. The dashed line is the best control.",
        )
    )
    blocks.append(_subjects(group))
    return Section(f"{group.dataset}, {group.protocol}", blocks)


def _referred(group: Group) -> str:
    return f" and to the same with {group.reference}" if group.reference else ""


def _cells(row: Mapping[Any, Any]) -> dict[str, str | None]:
    """Return a row of the table as the page sets it; an interval is never broken."""
    return {
        heading: None
        if text == "-"
        else text.replace(", ", ",\N{NO-BREAK SPACE}").replace(
            "-0.", "\N{MINUS SIGN}0."
        )
        for heading, text in in_words({**row, "why": ""}).items()
    }


def _filled(table: pd.DataFrame) -> list[dict[str, object]]:
    """Return rows with every column that may be missing where nothing has it."""
    kinds = ("", "linear_", "reference_")
    wanted = [name for kind in kinds for name in difference_columns(kind)]
    filled = table.reindex(
        columns=[*{*table.columns, *wanted, "parameters", "reference"}]
    )
    filled["reference"] = filled["reference"].fillna("")
    numbers = filled.astype({"rank": int, "tied": bool, "parameters": "Int64"})
    return [
        {str(key): value for key, value in row.items()}
        for row in numbers.to_dict("records")
    ]


def _subjects(group: Group) -> Table:
    frame = group.scores.copy()
    frame.columns = pd.Index([figures.called(each) for each in group.methods])
    return Table(
        frame.rename_axis("subject"), "Balanced accuracy of each subject, over seeds."
    )


# ------------------------------------------------------------------------- together


def _together(groups: list[Group]) -> list[Section]:
    """Return the section on several data sets under one protocol, if there are any."""
    protocols = dict.fromkeys(group.protocol for group in groups)
    tables: list[Block] = []
    for protocol in protocols:
        own = [
            group
            for group in groups
            if group.protocol == protocol and len(group.scores) >= FEWEST
        ]
        table = _combined(own) if len(own) > 1 else pd.DataFrame()
        if len(table):
            tables.append(
                Table(
                    table,
                    f"{protocol}: {listed([group.dataset for group in own])}. Mean of "
                    f"the data sets' differences to source only; their signed-rank "
                    f"tests combined by Stouffer, weighted by the root of their "
                    f"subjects; p corrected by Holm.",
                )
            )
    if not tables:
        return []
    text = "Data sets must share no subject for this to be right."
    return [Section("All data sets together", [text, *tables])]


def _combined(groups: list[Group]) -> pd.DataFrame:
    """Return what all data sets together say of each method that all have."""
    shared = [
        method
        for method in groups[0].methods
        if all(
            method in group.methods and group.base(method) in group.methods
            for group in groups
        )
    ]
    rows = []
    for method in shared:
        compared = [
            compare(group.of(method), group.of(base))
            for group in groups
            if (base := group.base(method))
        ]
        found = stouffer(compared)
        rows.append(
            {
                "backbone": method[0],
                "method": method[1],
                "mean difference": float(np.mean([e.difference for e in compared])),
                "data sets gained": sum(each.difference > 0 for each in compared),
                "z": found.z,
                "p": found.p,
            }
        )
    table = pd.DataFrame(rows)
    if len(table):
        table["p"] = holm(table["p"].to_list())
        table = table.sort_values("z", ascending=False, kind="stable")
    return table.reset_index(drop=True)


# ------------------------------------------------------------------------------ how


def _without(findings: Findings) -> list[Section]:
    rows = [
        {
            "data set": group.dataset,
            "protocol": group.protocol,
            "backbone": row["backbone"],
            "method": row["method"],
            "why": row["why"],
        }
        for group in findings.groups
        if "why" in group.table
        for row in group.table.dropna(subset="why").to_dict("records")
    ]
    if not rows:
        return []
    return [
        Section(
            "What has no number",
            [Table(pd.DataFrame(rows), "Cells that could not be run, and why.")],
        )
    ]


def _how(findings: Findings) -> Section:
    rows = [
        {
            "data set": each.cell.dataset,
            "protocol": each.cell.protocol,
            "backbone": each.cell.backbone,
            "adapter": SOURCE_ONLY
            if each.cell.adapter == "none"
            else each.cell.adapter,
            "how": each.how,
        }
        for each in findings.outcomes
        if each.how
    ]
    return Section(
        "How the numbers were obtained",
        [
            "Subjects are the unit of analysis: seeds, and the folds that test a "
            "subject, are averaged within it first. Each row of these tables is a run "
            "of its own in the folder cells, of which domainemo report makes a page; "
            "source only was run once for each backbone, controls once for each data "
            "set and protocol.",
            Table(pd.DataFrame(rows), "Each run in a line."),
            "The file of the benchmark:",
            Code(findings.content),
        ],
    )
