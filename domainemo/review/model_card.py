"""The model card: in Markdown, how an exported network and its numbers came about."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .. import files
from ..errors import data_error, printable
from ..runs.experiment import method_name
from ..runs.folder import ENVIRONMENT, read_json
from ..runs.results import Results
from ..statistics.intervals import FEWEST

__all__ = ["model_card"]

_RUN_BY = {
    ".onnx": "any ONNX runtime, without domainemo and without torch",
    ".pt2": "torch alone (`torch.export.load`), without domainemo",
}


def model_card(
    run: Path, path: Path, about: Mapping[str, Any], facts: Mapping[str, Any], told: str
) -> str:
    """Return the model card of an exported network.

    Parameters
    ----------
    run : Path
        The run's folder.
    path : Path
        The file that was written.
    about : mapping
        What the file says of itself.
    facts : mapping
        The record of the training.
    told : str
        How near the file is to the run.

    Raises
    ------
    ConfigurationError
        If the run is not finished.
    DataError
        If its table is damaged.
    """
    method = method_name(about["adapter"])
    results, how = None, run / "how.txt"
    if files.is_expected(run / _RESULTS) or not files.is_expected(how):
        results = Results.load(run)  # which says so of a run that is not finished
    lines = (
        [_line(files.read(how, bytes.decode))]
        if results is None
        else _of_row(_row(run / _RESULTS, results, about, method), about, method)
    )
    parts = [
        f"# {_line(method)} on {about['backbone']}: {_line(about['fold'])}, "
        f"seed {about['seed']}",
        f"`{_line(path.name)}` is one trained network. It takes the features of windows"
        f" as they were recorded and gives the probabilities of "
        f"{', '.join(map(_line, about['classes']))}. It is run by "
        f"{_RUN_BY[path.suffix]}.",
        "## How the number was obtained",
        _listed(lines),
        "## Scores",
        *_scores(results, about, method),
        "## What it takes and gives",
        *_interface(about, path),
        "## Whether it is the same network",
        f"{told} It was trained on {facts.get('device', 'cpu')} and checked on the "
        "CPU.",
        "## Versions",
        _listed(_versions(run, about)),
    ]
    return "\n\n".join(parts) + "\n"


_RESULTS = "results.parquet"


def _line(text: Any) -> str:
    """Return text as one line of Markdown."""
    return printable(" ".join(str(text).split()))


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = ([_line(each).replace("|", "\\|") for each in row] for row in lines)
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _rows(results: Results, about: Mapping[str, Any]) -> pd.DataFrame:
    """Return the table's rows of this fold and seed, of what a sample is."""
    table = results.table
    here = (table["fold"].astype(str) == str(about["fold"])) & (
        table["level"] == results.level
    )
    same = table["seed"].astype(str) == str(about["seed"])
    bare = table["backbone"].isna() | (table["backbone"] == "")
    return table[here & (same | bare)]


def _row(
    path: Path, results: Results, about: Mapping[str, Any], method: str
) -> dict[str, Any]:
    rows = _rows(results, about)
    names = (method, f"{method} [ORACLE]")
    found: list[dict[Any, Any]] = rows[rows["method"].isin(names)].to_dict("records")
    if not found:
        raise data_error(
            path,
            f"no row of {method}, {about['fold']}, seed {about['seed']}",
            "one, as that was trained",
            files.REMEDY,
        )
    return {str(key): value for key, value in found[0].items()}


def _of_row(
    row: Mapping[str, Any], about: Mapping[str, Any], method: str
) -> Iterator[str]:
    """Yield how the number came about, as the run's table says it."""
    onto = f", adapted to {row['target']}" if row.get("target") else ""
    yield f"Data set: {_line(row['dataset'])}{_line(onto)}; {_line(row['modalities'])}."
    for name in ("channels", "classes"):
        if row.get(name):
            yield f"Chosen {name}: {_line(row[name])}."
    yield f"Protocol: {_line(row['protocol'])}, {row['access']}."
    yield f"Fold: {_line(about['fold'])}. Seed: {about['seed']}."
    yield f"Method: {_line(method)} on {about['backbone']}, {row['initialisation']}."
    rule, epoch = str(row["selection"]), int(row["epoch"])
    chosen = "the last epoch" if rule == "last" else f"{_line(rule)}, which kept epoch"
    yield f"Selection rule: {chosen}, {epoch}."
    yield f"Normalisation: {row['normalisation']}. Samples: {row['sampling']}."
    share = float(row["label_share"])
    trials = "" if share == 1 else f", of {share:.3g} of its trials,"
    yield f"Labels: those of the source{trials} trained it."
    yield f"Of the target: {_line(row['target_seen'])}."
    for name in ("calibration", "validation", "waived", "skipped"):
        if row.get(name):
            yield f"{name.capitalize()}: {_line(row[name])}."
    if "balanced_accuracy" in row and "ORACLE" not in row["method"]:
        given = "" if not row.get("calibration") else ", but for those named above"
        told = f"{row.get('classes', '')} {row.get('target', '')}"
        if re.search(r"left out(: [\d,]+ windows? of| by their labels)", told):
            given += ", but to leave out windows, as said above"
        yield (
            f"The labels of who was tested are used for the scores below and for "
            f"nothing else{given}."
        )
    if "ORACLE" in row["method"]:
        yield (
            "ORACLE: the run's scores chose the epoch by the target's labels. This "
            "network is the last epoch's, of which they say nothing."
        )
    if row["access"] == "transductive":
        yield (
            f"It has seen whom it was tested on, without labels, and is fit for "
            f"{_line(about['fold'])}. The mean below says what training in this way "
            f"gives, not what this network gives for others; for these, `domainemo "
            f"train` makes one."
        )


def _scores(
    results: Results | None, about: Mapping[str, Any], method: str
) -> Iterator[str]:
    """Yield the scores of the method and all that stands beside it."""
    if results is None:
        yield "Nobody was tested with this model: no score is known of it."
        return
    if not results.scored:
        yield (
            "Nobody knows a label of those it was adapted to: no score is known of it."
        )
        return
    rows, summary = _rows(results, about), results.summary()
    own = rows.groupby("method", sort=False)["balanced_accuracy"].mean()
    names = sorted(summary.index, key=lambda name: not name.startswith(method))
    yield _table(
        ["balanced accuracy", "this fold", "mean", "95 % interval", "people"],
        (
            [
                name,
                _number(own.get(name)),
                _number(found["mean"]),
                _interval(found["low"], found["high"]),
                int(found["subjects"]),
            ]
            for name, found in ((each, summary.loc[each]) for each in names)
        ),
    )
    yield (
        f"Per {results.level}. Mean and bootstrap interval are over the people of all "
        f"folds, averaged over seeds; with fewer than {FEWEST} people there is no "
        f"interval. This fold's number is of this very network."
    )


def _number(value: Any) -> str:
    return "" if value is None or pd.isna(value) else f"{float(value):.3f}"


def _interval(low: Any, high: Any) -> str:
    return f"{_number(low)} to {_number(high)}" if _number(low) else "none"


def _interface(about: Mapping[str, Any], path: Path) -> Iterator[str]:
    """Yield inputs, output, groups, and what to do with what is missing."""
    rows: list[Sequence[Any]] = []
    for name, each in about["modalities"].items():
        sizes = about["windows"], len(each["channels"]), len(each["features"])
        shape = ", ".join(map(str, ("batch", *sizes)))
        unit = f" ({each['unit']})" if each["unit"] else ""
        rows.append([name, "float32", f"({shape})", f"{each['kind']}{unit}, as it is"])
    chooses = len(about["groups"]) > 1
    if chooses:
        rows.append(["group", "int64", "(batch)", "by whom to normalise, below"])
    classes = ", ".join(map(str, about["classes"]))
    shape = f"(batch, {len(about['classes'])})"
    rows.append(["*gives* probabilities", "float32", shape, classes])
    yield _table(["name", "type", "shape", "what"], rows)
    if path.suffix == ".pt2":
        told = ", group" if chooses else ""
        yield f"The program takes a dictionary of the modalities{told}, in this order."
    step = "" if about["step"] is None else f", {about['step']:g} s apart"
    yield (
        f"Shapes are (batch, windows, channels, features); a sample is "
        f"{about['windows']} window(s) of one trial{step}. NaN stands for what is "
        f"missing: a value, a window of one sensor, a whole modality, and the windows "
        f"at the end of a sample that has fewer. The order of channels and features:"
    )
    yield _table(
        ["modality", "channels", "features"],
        (
            [name, ", ".join(each["channels"]), ", ".join(each["features"])]
            for name, each in about["modalities"].items()
        ),
    )
    yield from _grouping(about)


def _grouping(about: Mapping[str, Any]) -> Iterator[str]:
    """Yield by whose mean and deviation values are normalised."""
    groups = about["groups"]
    if not groups:
        yield "Values are not normalised."
        return
    yield f"In training, values were {about['normalisation']}. The file holds"
    meanings = {
        "source": "mean and deviation of the people it was trained on, as recorded",
        "already normalised": "values stay as they are: for a person of whom the file "
        "knows nothing, take less its mean, over its deviation, per channel and "
        "feature, over that person's own windows (of a session, where it was so in "
        "training), then this",
    }
    own = "mean and deviation of these windows, as in the run"
    yield _table(
        ["group", "name", "what"],
        ([n, name, meanings.get(name, own)] for n, name in enumerate(groups)),
    )


def _versions(run: Path, about: Mapping[str, Any]) -> Iterator[str]:
    """Yield the versions that trained, and those that wrote the file."""
    environment = read_json(run / ENVIRONMENT)
    packages = environment.get("packages", {})
    told = ", ".join(f"{name} {number}" for name, number in packages.items())
    yield f"Trained with {told}; Python {environment.get('python')}."
    yield f"Written with domainemo {about['domainemo']}, torch {about['torch']}."
    if environment.get("recordings"):
        yield f"Fingerprint of the recordings: {environment['recordings']}."
