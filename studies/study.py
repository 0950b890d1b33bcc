"""Tune an experiment: search, choose, and run what was chosen with fresh seeds."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Unpack

from ..choices import (
    SELECTED_BY,
    RunChoices,
    choices_of,
    choosing,
    complete,
    spelled_out,
)
from ..core import EmotionData
from ..errors import ConfigurationError, DomainemoError, RunError
from ..files import discard_damaged, is_expected, write_recorded
from ..places import naming_parts
from ..processes import process_pool
from ..runs.at_once import Jobs, at_once
from ..runs.execution import Monitor, check_call
from ..runs.experiment import experiment
from ..runs.folder import (
    CONFIG,
    fingerprint,
    identity,
    locked,
    open_folder,
    origin,
    read_json,
    read_stored_config,
    rerun,
)
from ..values import Bounds, check_fields, check_value, given_path
from ..words import count
from .choice import best_candidate, chosen_options
from .final import Context, run_final, true_accuracies, write_choice
from .findings import (
    AFTER_THE_FACT,
    CHOICES,
    STUDY,
    Choice,
    Findings,
    load_findings,
)
from .integrity import check_file, check_studies, digest_of, explained, making, named
from .plan import StudyPlan, plan_study
from .search import (
    Progress,
    create_studies,
    search,
    why_incomplete,
)
from .settings import JOURNAL, SQLITE, StudySettings, TuningChoices
from .space import search_space
from .storage import address_of, is_local, name_of, quiet
from .trying import Task, open_studies

__all__ = ["Effort", "name_in", "run_study", "tune"]


_SOME = Bounds(above=0, words="more than 0")


@dataclass(frozen=True)
class Effort:
    """How much is done, and where: nothing that a result depends on.

    Attributes
    ----------
    storage : str or None
        A database's address, ``"journal"``, or None for SQLite in the folder.
    jobs : int
        Candidates tried at once, each in a process; 1 works in this one.
    minutes : float or None
        No candidate is begun after this time.
    final : bool
        Whether the final runs are run.
    plugins : sequence of str
        Files to import in every process.
    on_search : callable, optional
        Called with the progress of the search.
    on_train : callable, optional
        Called with the progress of the final runs.
    executor : Executor, optional
        Of :func:`domainemo.cluster`, in place of processes of this machine.
    """

    storage: str | None = None
    jobs: Annotated[int, _SOME] = 1
    minutes: Annotated[float | None, _SOME] = None
    final: bool = True
    plugins: Sequence[str] = ()
    on_search: Callable[[Progress], None] | None = None
    on_train: Callable[[Monitor], None] | None = None
    executor: Executor | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@choosing
@naming_parts()
def tune(
    data: EmotionData,
    *,
    study: StudySettings | None = None,
    name: str = "study",
    storage: str | None = None,
    jobs: Jobs = 1,
    minutes: float | None = None,
    final: bool = True,
    executor: Executor | None = None,
    output: str | Path,
    **choices: Unpack[TuningChoices],
) -> Findings:
    """Search an experiment's options without target labels, then test the choice.

    Parameters
    ----------
    data : EmotionData
    **choices
        See `domainemo.studies.settings.TuningChoices`.
    study : StudySettings, optional
        The settings of the study in one value; those given beside it go first.
    name : str
        Of the study in its storage.
    storage, minutes, final
        As of :class:`Effort`.
    jobs : int or "auto"
        Candidates tried at once, each in a process of this machine. A class that the
        script itself defines needs its main part under
        ``if __name__ == "__main__":``; nothing else does.
    executor : Executor, optional
        Of :func:`domainemo.cluster`, whose workers then try candidates.
    output : path
        The study's folder. Where it holds part of this very study, the rest is run.

    Returns
    -------
    Findings

    Raises
    ------
    ConfigurationError, DataError
        Before anything is trained.
    RunError
        If source only, a candidate of each fold that chooses, or a final run could not
        be trained; what is finished is kept.

    Examples
    --------
    >>> found = de.tune(data, adapter="marginal", candidates=20, output="study")
    >>> print(found.best, found.final.summary())
    """
    folder = given_path("output", output)
    complete(TuningChoices, choices)  # refuses what is none
    check_call(executor, None, jobs)
    check_value("name", name, str)
    check_value("study", study, StudySettings | None)
    said: dict[str, Any] = {"validator": SELECTED_BY}
    said |= spelled_out(TuningChoices, choices)
    space, options = said.pop("space", None), said.get("options")
    check_value("space", space, Mapping | None)
    of_run = choices_of(RunChoices).keys() & choices_of(TuningChoices).keys()
    chosen = experiment(**{key: said.pop(key) for key in of_run & said.keys()})
    wanted = StudySettings.of((study or StudySettings()).describe() | said)
    searched = search_space(chosen, wanted.search, space or {}, options or {})
    planned = plan_study(data, searched, wanted)
    places: dict[str, Any] = {"recordings": data.inputs.name}
    if chosen.plugins:
        places["plugins"] = list(chosen.plugins)
    count = at_once(jobs, chosen, wanted.candidates)
    if executor is not None:
        count = getattr(executor, "_max_workers", count)
    known = chosen.plugins
    effort = Effort(storage, count, minutes, final, known, executor=executor)
    return run_study(planned, folder, places, name, effort)


def run_study(
    planned: StudyPlan,
    folder: Path,
    places: Mapping[str, Any],
    name: str,
    effort: Effort,
) -> Findings:
    """Run what is missing of a study in its folder.

    Parameters
    ----------
    planned : StudyPlan
    folder : Path
    places : mapping
        What ``config.toml`` says besides the experiment, the study and its space.
    name : str
        Of the study in its storage.
    effort : Effort
    """
    address = address_of(folder, effort.storage)
    _check_cluster(address, effort.executor)
    context = Context(folder, places, effort.plugins, on_progress=effort.on_train)
    known = identity(
        planned.tested.fingerprint(), effort.plugins, planned.experiment.texts
    )
    _check_storage(folder, address)
    facts = {"signals": fingerprint(planned.tested.inputs)}
    open_folder(folder, _describe(planned, context, name, address), known, facts)
    task = _task(planned, folder, name, address, effort)
    with locked(folder):
        with _searching(planned, task):
            given = effort.on_search, effort.plugins, effort.executor
            search(planned.inputs, task, *given)
        choices = _choose(planned, task, context)
        _require_choices(task, choices)
        if effort.final:
            with _pool(effort) as executor:
                run_final(planned, choices, replace(context, executor=executor))
            _write_after_the_fact(planned, folder, address)
    return load_findings(folder, address)


def name_in(folder: Path) -> str | None:
    """Return what the study in a folder is called; None where none has begun.

    Its candidates are kept under that name, wherever the folder has been moved since.

    Parameters
    ----------
    folder : Path
    """
    if not is_expected(folder / CONFIG):
        return None
    try:
        study = read_stored_config(folder).get("study")
    except DomainemoError:
        return None  # which is told where the study is opened, or mended there
    return str(study["name"]) if isinstance(study, dict) and "name" in study else None


def _check_storage(folder: Path, address: str) -> None:
    """Refuse another storage than the one in which a study's candidates are."""
    if not (is_expected(folder / STUDY) and is_expected(folder / CONFIG)):
        return
    there = str(read_stored_config(folder).get("study", {}).get("storage", ""))
    here = name_of(address)
    if there != here and not {there, here}.isdisjoint({SQLITE, JOURNAL}):
        raise ConfigurationError(
            f"{folder}: the candidates of this study are in {there!r}; found --storage "
            f"{here!r}. Leave --storage as it was, or give another --output folder."
        )


def _describe(
    planned: StudyPlan, context: Context, name: str, address: str
) -> dict[str, Any]:
    """Return the study's ``config.toml``: what runs it again."""
    settings = planned.settings.describe()
    return {
        **context.describe(planned.experiment),
        "study": {"name": name, "storage": name_of(address), **settings},
        "space": planned.space.as_written(),
    }


def _task(
    planned: StudyPlan, folder: Path, name: str, address: str, effort: Effort
) -> Task:
    minutes, begun = effort.minutes, origin(folder)
    return Task(
        space=planned.space,
        settings=planned.settings,
        address=address,
        names={key: f"{name}: {key}" if key else name for key in planned.choosing},
        jobs={key: planned.jobs(key, begun) for key in planned.choosing},
        folder=folder.resolve(),
        workers=effort.jobs,
        deadline=None if minutes is None else time.time() + 60 * minutes,
    )


@contextmanager
def _searching(planned: StudyPlan, task: Task) -> Iterator[None]:
    """Search in this block; note what the storage holds at its end.

    A storage that does not hold what was noted before is refused.
    """
    path = task.folder / STUDY
    facts: dict[str, Any] = {
        "recordings": planned.tested.inputs.name,
        "studies": dict(task.names),
    }
    if planned.calibrated:
        facts["calibration"] = True

    def note() -> None:
        if is_local(task.address):
            with quiet():
                facts["candidates"] = digest_of(open_studies(task))
        write_recorded(path, json.dumps(facts, indent=1))

    with quiet():
        if is_local(task.address) and is_expected(path):
            known = _known(path)
            check_file(task.address)
            with explained(task.address):
                studies = open_studies(task)
            check_studies(task.address, studies, known.get("candidates"))
        else:
            with making(task.address):
                create_studies(task)
    # From here on candidates are added, and there is a storage to be missed.
    write_recorded(path, json.dumps(facts, indent=1))
    try:
        with named(task.address):
            yield
    except BaseException:
        with suppress(Exception):
            note()
        raise
    note()


def _known(path: Path) -> dict[str, Any]:
    """Return what was noted of a study; nothing where that is damaged.

    What the study writes at its end in any case is forgotten where it is damaged.
    """
    for name in (STUDY, CHOICES, AFTER_THE_FACT):
        discard_damaged(path.with_name(name))
    return read_json(path) if path.exists() else {}


@contextmanager
def _pool(effort: Effort) -> Iterator[Executor | None]:
    if effort.executor is not None or effort.jobs == 1:
        yield effort.executor
        return
    with process_pool(effort.jobs) as pool:
        yield pool


def _check_cluster(address: str, executor: Executor | None) -> None:
    """Refuse what cannot try candidates, or a storage that its machines cannot share.

    Raises
    ------
    ConfigurationError
    """
    if executor is None:
        return
    if not hasattr(executor, "here"):
        raise ConfigurationError(
            f"executor is {executor!r}; expected that of domainemo.cluster. For "
            f"processes of this machine, give jobs."
        )
    if not executor.here and name_of(address) == SQLITE:
        raise ConfigurationError(
            "Machines cannot share SQLite, where a study is kept by default: it does "
            "not bear a network drive. Add --storage journal, with --output on a disk "
            "that they share, or give the address of a PostgreSQL database."
        )


def _choose(planned: StudyPlan, task: Task, context: Context) -> list[Choice]:
    """Choose, and write down what was chosen as configurations that run."""
    choices = []
    with quiet():
        studies = open_studies(task)
    chosen = planned.experiment.validator
    validator = None if chosen is None else chosen.build()
    for key, study in studies.items():
        classes = len(planned.choosing[key].classes)
        found = best_candidate(study, classes, validator)
        if found is None:
            continue
        number, value, standing = found
        options = planned.space.searched(chosen_options(study, number))
        finite = {n: each for n, each in standing.items() if math.isfinite(each)}
        choice = Choice(key or None, number, value, options, "", finite)
        path = write_choice(planned, choice, context)
        choices.append(replace(choice, command=rerun(path, context.plugins)))
    content = json.dumps([asdict(each) for each in choices], indent=1)
    write_recorded(context.folder / CHOICES, content)
    return choices


def _require_choices(task: Task, choices: Sequence[Choice]) -> None:
    """Raise where nothing was chosen, for all folds or for some, and say why.

    A final test of the others would leave the hardest folds out.
    """
    chosen = {each.fold or "" for each in choices}
    with quiet():
        studies = open_studies(task)
    none = {k: why_incomplete(each) for k, each in studies.items() if k not in chosen}
    if not none:
        return
    unsound = (
        "every candidate that was completed leaves out a class, or is no better than "
        "chance on held-out source subjects"
    )
    if not chosen and not any(none.values()):
        raise RunError(
            f"{unsound.capitalize()}, so nothing was chosen. Widen the --space, or "
            f"train longer."
        )
    reasons: dict[str, list[str]] = {}
    for key, why in none.items():
        reasons.setdefault(why or unsound, []).append(key)
    shown = "\n".join(f"- {', '.join(keys)}: {why}" for why, keys in reasons.items())
    raise RunError(
        f"{len(none)} of {count(len(studies), 'fold')} chose nothing, so there is no "
        f"final test, which would leave them out. What is finished is kept in "
        f"{task.folder}; the same command goes on, with more --candidates, more "
        f"--minutes or another --space:\n{shown}"
    )


def _write_after_the_fact(planned: StudyPlan, folder: Path, address: str) -> None:
    """Write what every candidate was worth, now that all is chosen."""
    found = load_findings(folder, address)
    scores = found.scores
    scores = scores.assign(true_accuracy=true_accuracies(planned, found, folder))
    columns = ["study", "candidate", "fold", "seed", "true_accuracy"]
    write_recorded(folder / AFTER_THE_FACT, scores[columns].to_csv(index=False))
