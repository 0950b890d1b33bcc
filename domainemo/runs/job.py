"""One fold, one adapter, one seed: it is handed the source's labels and no others."""

from __future__ import annotations

import functools
import json
import os
import shutil
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from .. import files
from ..choices import CalibrationUse
from ..core import (
    TRIAL,
    Adapter,
    Fold,
    Inputs,
    Normalisation,
    Rows,
    Sampling,
    Validator,
)
from ..data.matching import step_of
from ..data.normalisation import learned_of, normalise, scales_of
from ..errors import (
    DataError,
    DomainemoError,
    DomainemoWarning,
)
from ..parts import Part
from ..places import foreseen, naming_parts
from ..processes import can_fork, pack, run_alone, unpack
from ..registry import entries, find, load_plugin
from ..training.batches import sample, sample_labelled, samples_of
from ..training.checkpoint import Checkpoint
from ..training.fit import (
    Fitted,
    Fitting,
    Verdict,
    predict,
    scores,
    settle,
    temperature_of,
)
from ..training.loop import Loop, Report
from ..training.model import Network
from ..training.screened import learning_screens
from ..training.seeds import derive_seed, reproducible, seed_torch
from ..training.settings import Training
from .calibration import that_train, trials_of
from .checks import check_asked_trials, check_divided_samples
from .controls import control_name, control_probabilities, relabelled, retraining
from .experiment import Experiment, Setup, is_population, method_name
from .folder import (
    check_no_link,
    find_exchange,
    fingerprint,
    flat,
    folder_name,
    read_json,
)
from .initialisation import start_from
from .kept import check_kept
from .record import (
    FACTS,
    HISTORY,
    write_file,
    write_model,
    write_predictions,
    write_screening,
)
from .seeds import source_seed

if TYPE_CHECKING:
    from ..training.population import Member

__all__ = [
    "Failed",
    "HOLD_NOTHING_OUT",
    "Job",
    "Work",
    "begin_folder",
    "folder_name",
    "give_away",
    "holds_out",
    "is_finished",
    "lone_class",
    "receive",
    "run_job",
    "run_jobs",
]

CHECKPOINT = "checkpoint.pt"
PROGRESS = "progress.json"
_PROGRESS_SECONDS = 0.3

HOLD_NOTHING_OUT = (
    "Choose a validator that holds nothing out (--validator last, or class-ami for a "
    "study) and no temperature, or have a longer source."
)
"""What to do where none can be held out."""

Chosen = TypeVar("Chosen", bound=Setup)

Failed = Sequence[tuple[int, Exception]]
"""Which of some jobs failed, by their places, and why."""


Planned = tuple[Any, Any, "Report | None"]
"""What was chosen for a job, the job, and what is told of its epochs."""


@dataclass(frozen=True)
class Work(ABC, Generic[Chosen]):
    """One fold and one seed of something that is trained.

    Attributes
    ----------
    fold : Fold
        Training is given the windows that it names, and no others.
    seed : int
    folder : str
        Where the finished job is put, as one atomic step.
    origin : str
        What the run was begun with, so that no job of another one counts as finished;
        empty where that is not known.
    """

    fold: Fold
    seed: int
    folder: str
    origin: str = field(default="", kw_only=True)

    @property
    @abstractmethod
    def method(self) -> str:
        """What is trained, as named in every table."""

    @property
    def name(self) -> str:
        """Fold, method and seed, for people."""
        return f"{self.fold.name}, {self.method}, seed {self.seed}"

    @abstractmethod
    def train(
        self, inputs: Inputs, chosen: Chosen, folder: Path, used: Rows, report: Report
    ) -> None:
        """Train and write what is to be kept.

        Parameters
        ----------
        inputs : Inputs
            The fold's windows only, which `fold` counts here.
        chosen : Setup
        folder : Path
        used : ndarray of int
            The number of each window among all.
        report : callable
            To be called after every epoch.
        """

    def renumbered(self, used: Rows) -> Self:
        """Return the same job, for the windows `used` only."""
        return replace(self, fold=self.fold.renumbered(used))

    def checkpoint(self, inputs: Inputs, chosen: Chosen, folder: Path) -> Checkpoint:
        """Return where this training, and no other one, is kept until it is finished.

        Parameters
        ----------
        inputs : Inputs
            The fold's windows only.
        chosen : Setup
        folder : Path
        """

        def owner() -> str:
            choices = (self.method, self.seed, self.fold.name, flat(chosen.describe()))
            digest = sha256(repr((*choices, fingerprint(inputs))).encode())
            fold = self.fold
            for rows in (fold.source, fold.seen, *self.known()):
                digest.update(rows.tobytes())
            return digest.hexdigest()

        return Checkpoint(folder / CHECKPOINT, owner)

    def known(self) -> tuple[NDArray[np.int64], ...]:
        """Return what else the training knows."""
        return ()

    def why_alone(self, chosen: Chosen) -> str | None:
        """Return why it cannot train as one program with others; None where it can.

        A phrase; empty where no network is trained that others are alike.
        """
        return ""


@dataclass(frozen=True)
class Job(Work[Experiment]):
    """What training one fold takes: source labels travel, target labels do not.

    Those of the fold's calibration, which are given on purpose, count as the source's,
    and so do those of its validation, which never train.

    Attributes
    ----------
    labelled : ndarray of int
        The windows of the source whose labels may be used, all or a share, and the
        calibration and the validation.
    source_labels : ndarray of int, shape (len(labelled),)
    classes : tuple of str
    adapter : Part or None
        None runs a control in place of the network.
    start : str or None
        The file of the pre-trained weights that the backbone starts from.
    keeps_model : bool
        Whether the trained network is kept beside what it predicts.
    control : Part or None
        With an adapter, what is changed of its training.
    calibration_use : {"training", "selection", "both"}
        What the fold's calibration is for.
    """

    labelled: Rows
    source_labels: NDArray[np.int64]
    classes: tuple[str, ...]
    adapter: Part | None
    start: str | None = None
    keeps_model: bool = True
    control: Part | None = None
    calibration_use: CalibrationUse = "training"

    def train(
        self,
        inputs: Inputs,
        chosen: Experiment,
        folder: Path,
        used: Rows,
        report: Report,
    ) -> None:
        """Train the network, or run the control, and predict."""
        if self.adapter is not None:
            training = _Training(inputs, chosen, self, folder, used, report)
            training.loop.run()
            training.finish()
        elif self.control is not None:
            _run_control(inputs, chosen, self, self.control, folder, used)

    def renumbered(self, used: Rows) -> Self:
        """Return the same job, for the windows `used` only."""
        labelled = np.searchsorted(used, self.labelled).astype(np.int64)
        return replace(super().renumbered(used), labelled=labelled)

    @property
    def trains(self) -> NDArray[np.bool_]:
        """Which of `labelled` may train: not the fold's validation, for one."""
        return that_train(self.labelled, self.fold, self.calibration_use)

    def known(self) -> tuple[NDArray[np.int64], ...]:
        """Return the labels that the training knows, and whose they are."""
        return self.labelled, self.source_labels

    @property
    def method(self) -> str:
        """What is trained, as named in every table."""
        if self.control is not None:
            return control_name(self.control)
        assert self.adapter is not None
        return method_name(self.adapter.name)

    def why_alone(self, chosen: Experiment) -> str | None:
        """Return why it cannot train as one program with others; None where it can."""
        if self.adapter is None:
            return ""
        outside = [part.name for part in (*chosen.used, self.adapter) if part.outside]
        if outside:
            return f"{outside[0]} comes from outside and trains in a process of its own"
        if not chosen.build_adapter(self.adapter).vectorises:
            return f"the adapter {self.adapter.name} does not vectorise"
        return None

    def normalisation(self, chosen: Experiment) -> Normalisation:
        """Return the run's normalisation, or what a control makes of it."""
        made, control = chosen.build_normalisation(), retraining(self.control)
        return made if control is None else control.renormalise(made)

    def as_trained(self, windows: pd.DataFrame) -> Self:
        """Return the same job with the labels that it trains with.

        Parameters
        ----------
        windows : DataFrame
            Provenance of all windows that the fold counts.
        """
        control = retraining(self.control)
        if control is None:
            return self
        labels = relabelled(
            control,
            windows.iloc[self.labelled].reset_index(drop=True),
            self.source_labels,
            len(self.classes),
            source_seed(self.seed, windows, self.fold, self.method),
        )
        return replace(self, source_labels=labels)


def run_jobs(inputs: Inputs, several: Sequence[Planned]) -> Failed:
    """Run jobs that belong together; return which failed, and why.

    Parameters
    ----------
    inputs : Inputs
        All recordings, without labels.
    several : sequence of tuple of Setup, Work, and callable or None
        As :func:`run_job` takes them: one, or several trainings that run as one
        program. What these were told is the same, or apart only in numbers that the
        training and the adapter's losses have.
    """
    chosen, job, report = several[0]
    if is_population(chosen) and job.why_alone(chosen) is None:
        return _run_together(inputs, several)
    run_job(inputs, chosen, job, report)
    return []


def run_job(
    inputs: Inputs,
    experiment: Chosen,
    job: Work[Chosen],
    report: Report | None = None,
) -> None:
    """Train one fold and leave its folder; do nothing where it is there already.

    Code from outside this package trains in a process of its own: what it keeps on a
    class, in a module or anywhere else must not reach the next fold, whose target's
    labels may be among the source's labels of this one.

    Parameters
    ----------
    inputs : Inputs
        All recordings, without labels.
    experiment : Setup
    job : Work
    report : callable, optional
        Called after every epoch; by default a file in the folder tells the progress.

    Raises
    ------
    RunError, ConfigurationError, DataError
        Naming the job.
    """
    if is_finished(job):
        return
    partial = begin_folder(job)
    # Nothing but the fold's windows goes on; `used` tells their numbers among all.
    used = job.fold.used
    inputs, job = inputs.take(used), job.renumbered(used)
    report = report or _progress_file(partial / PROGRESS)
    train = functools.partial(_train_job, inputs, experiment, job, partial, used)
    with _naming(job):
        if not experiment.outside:
            train(report)
        elif can_fork(experiment.training.threads):
            # Every training imports these, for seconds: once here, not in each copy.
            for name in ("sklearn.cluster", "scipy.stats"):
                import_module(name)
            run_alone(train, report, forked=True)
        else:
            call = functools.partial(_train_sent, experiment.plugins, pack(train))
            run_alone(call, report, forked=False)
    _finish(job, partial)


def _run_together(
    inputs: Inputs, several: Sequence[Planned]
) -> list[tuple[int, DomainemoError]]:
    """Train several folds as one program; what is there already is left alone.

    Each ends as it would alone, but for rounding, see
    :mod:`domainemo.training.population`.

    Parameters
    ----------
    inputs : Inputs
        All recordings, without labels.
    several : sequence of tuple of Experiment, Job, and callable or None
        Trainings of one adapter, without a part from outside this package.

    Returns
    -------
    list of tuple of int and DomainemoError
        Which jobs failed, and why. The others are finished.

    Warns
    -----
    DomainemoWarning
        If they cannot be trained as one program. Then those of each experiment are, or
        all are trained one by one.
    """
    from ..training.population import Member

    failures: list[tuple[int, DomainemoError]] = []
    begun: dict[int, _Training] = {}

    def attempt(place: int, act: Callable[[int, Job], None]) -> None:
        try:
            act(place, several[place][1])
        except Exception as error:  # whatever it is, the others are kept
            failures.append((place, foreseen(error)))

    def begin(place: int, job: Job) -> None:
        experiment, _, report = several[place]
        begun[place] = _begun(inputs, experiment, job, report)

    def finish(place: int, job: Job) -> None:
        with _naming(job):
            if (failure := members[place].failure) is not None:
                raise failure
            begun[place].finish(len(begun))
            _finish(job, partial_folder(job))

    def alone(place: int, job: Job) -> None:
        experiment, _, report = several[place]
        run_job(inputs, experiment, job, report)

    experiments = [experiment for experiment, *_ in several]
    with _settings_of(experiments[0]):
        for place, (_, job, _) in enumerate(several):
            if not is_finished(job):
                attempt(place, begin)
        members = {place: Member(each.loop) for place, each in begun.items()}
        groups: dict[int, list[int]] = {}
        for place in begun:
            groups.setdefault(id(experiments[place]), []).append(place)
        if _train_as_one([*members.values()], *several[0][:2], len(groups)):
            for place in begun:
                attempt(place, finish)
            return failures
        if len(groups) == 1:
            for place in begun:
                attempt(place, alone)
            return failures
    for group in groups.values():
        found = _run_together(inputs, [several[place] for place in group])
        failures += [(group[at], error) for at, error in found]
    return failures


def _begun(
    inputs: Inputs, experiment: Experiment, job: Job, report: Report | None
) -> _Training:
    """Return a job's training, of which nothing but the fold's windows is known."""
    with _naming(job):
        partial, used = begin_folder(job), job.fold.used
        own = inputs.take(used), experiment, job.renumbered(used)
        report = report or _progress_file(partial / PROGRESS)
        return _Training(*own, partial, used, report)


def _train_as_one(
    members: Sequence[Member], experiment: Experiment, first: Job, candidates: int
) -> bool:
    """Return whether members could be trained as one program; say why not.

    What is said names neither fold nor seed, nor a method where the network is why, so
    that of whatever is alike the same is said, which is shown once.
    """
    from ..training.population import NotStackable, train_together

    try:
        train_together(members)
    except NotStackable as reason:
        part = first.method if reason.of_adapter else experiment.backbone.name
        who = f"Trainings {'with' if reason.of_adapter else 'of'} {part}"
        if candidates > 1:
            who = f"Several candidates with {first.method}"
        told = f"{who} cannot be one program ({reason}), and are"
        warnings.warn(f"{told} run one by one.", DomainemoWarning, stacklevel=3)
        return False
    return True


@contextmanager
def _naming(job: Work[Any]) -> Iterator[None]:
    """Have whatever stops a block begin with the name of the job."""
    try:
        yield
    except DomainemoError as error:
        raise type(error)(f"{job.name}: {error}") from error


@contextmanager
def _settings_of(chosen: Setup) -> Iterator[None]:
    """Train in a block: repeatable, on so many threads, and errors name parts."""
    threads = chosen.training.threads
    limits = threadpool_limits(threads, user_api="blas")
    with naming_parts(), reproducible(threads), limits:
        yield


def begin_folder(job: Work[Any]) -> Path:
    """Make the folder in which a job keeps what is not finished."""
    partial = partial_folder(job)
    check_no_link(partial)
    with files.explained(partial):
        partial.mkdir(parents=True, exist_ok=True)
    return partial


def _finish(job: Work[Any], partial: Path) -> None:
    """Put what a job has written where finished ones are, in one atomic step."""
    for leftover in (*partial.glob(f"{CHECKPOINT}*"), partial / PROGRESS):
        leftover.unlink(missing_ok=True)
    files.clear_partial(partial)
    files.record(partial)
    files.publish(partial, Path(job.folder))


def give_away(job: Work[Any]) -> dict[str, bytes]:
    """Return the files of a finished job for another machine; keep none of them."""
    folder = Path(job.folder)
    content = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    return content


def receive(job: Work[Any], content: Mapping[str, bytes]) -> None:
    """Put the files of a job that another machine has finished where they belong."""
    partial = begin_folder(job)
    for name, each in content.items():
        write_file(partial / name, each)
    (partial / PROGRESS).unlink(missing_ok=True)
    files.publish(partial, Path(job.folder))


def is_finished(job: Work[Any]) -> bool:
    """Return whether a job's folder is there and whole; any other is set aside."""
    folder = Path(job.folder)
    if not os.path.lexists(folder):
        return False
    damage = files.find_damage(folder) or _find_exchange(job)
    if damage is not None:
        files.set_aside(folder, str(damage))
    return damage is None


def _find_exchange(job: Work[Any]) -> DataError | None:
    """Return what is wrong with a finished folder that is not this job's; else None."""
    place = Path(job.folder)
    try:
        return find_exchange(place, read_json(place / FACTS), job.origin)
    except DataError as error:
        return error


def _train_job(
    inputs: Inputs,
    experiment: Chosen,
    job: Work[Chosen],
    folder: Path,
    used: Rows,
    report: Report,
) -> None:
    with _settings_of(experiment):
        job.train(inputs, experiment, folder, used, report)


def _train_sent(plugins: tuple[str, ...], packed: bytes, report: Report) -> None:
    """Train what another process has packed, in one that knows no plug-in yet."""
    for plugin in plugins:
        load_plugin(plugin)
    unpack(packed)(report)


class _Training:
    """A network and all that it is trained and tested on.

    Parameters
    ----------
    inputs : Inputs
        The fold's windows only.
    experiment : Experiment
    job : Job
        With an adapter; its rows counted among these windows.
    folder : Path
        Where what is to be kept is written.
    used : ndarray of int
        The number of each window among all.
    report : callable
        To be called after every epoch.

    Attributes
    ----------
    loop : Loop
        Of the training, not begun.
    """

    def __init__(
        self,
        inputs: Inputs,
        experiment: Experiment,
        job: Job,
        folder: Path,
        used: Rows,
        report: Report,
    ) -> None:
        self.began = time.monotonic()
        self.inputs, self.experiment = inputs, experiment
        self.folder, self.used = folder, used
        self.device = device = torch.device(experiment.device)
        self.job = job = job.as_trained(inputs.windows)
        checkpoint = job.checkpoint(inputs, experiment, folder)
        fold, method = job.fold, job.normalisation(experiment)
        normalised, self.scales = normalise(
            inputs, method, source=fold.source, target=fold.seen
        )
        if job.keeps_model:  # what a later prediction needs
            self.raw_scales = scales_of(inputs, fold.source)
            self.learned = learned_of(inputs, method, fold.source)
        self.seed = source_seed(job.seed, inputs.windows, fold)
        seed_torch(self.seed)
        backbone = experiment.build_backbone(inputs.modalities)
        if job.start is not None:
            start_from(backbone, Path(job.start), inputs.modalities)
        # The heads are drawn alike, whatever the backbone started from.
        model = Network(backbone, inputs.modalities, len(job.classes)).to(device)
        validator = experiment.validator.build() if experiment.validator else None
        assert job.adapter is not None
        adapter = experiment.build_adapter(job.adapter)
        # Again here: a study draws options that its plan has not seen.
        check_asked_trials(adapter, job.adapter.name, inputs)
        check_divided_samples(backbone.sampling, inputs)
        train_rows, held_rows = job.labelled[job.trains], None
        if holds_out(experiment.training, validator, adapter):
            train_rows, held_rows = _hold_out(inputs.windows, experiment, job)
        keys = inputs.windows[experiment.protocol.build().domain]
        codes, self.domains = _domain_codes(keys, fold, train_rows)
        labels = np.full(len(inputs), -1, dtype=np.int64)
        labels[job.labelled] = job.source_labels
        adapter.prepare(model.dims, model.classes, self.domains)
        adapter.to(device)

        drawn = backbone.sampling, device
        self.target, self.seen = sample(normalised, fold.target, *drawn)
        self.test, self.members = sample(normalised, fold.test, *drawn)
        self.trained = sample_labelled(normalised, train_rows, labels, codes, *drawn)
        self.held_out = None
        if held_rows is not None:
            known = held_rows, labels, codes
            self.held_out = sample_labelled(normalised, *known, *drawn)
        task = Fitting(
            model,
            adapter,
            self.trained,
            self.target,
            validator=validator or Part("validator", "last").build(),
            held_out=self.held_out,
            training=experiment.training,
            traced=self.test if validator is None else None,
        )
        self.loop = Loop(task, seed=self.seed, checkpoint=checkpoint, report=report)
        self.task = task

    @property
    def scaled(self) -> bool:
        """Whether probabilities are scaled by a temperature."""
        return self.experiment.training.temperature == "held-out"

    def finish(self, together: int = 1) -> None:
        """Take the chosen epoch's weights, predict, and write what is to be kept.

        Parameters
        ----------
        together : int
            How many trainings took the time since it was made.
        """
        fitted = self.task.conclude(self.loop)
        job, experiment = self.job, self.experiment
        model, adapter, fold = self.task.model, self.task.adapter, job.fold
        seed = derive_seed(self.seed, "settle")
        settle(model, adapter, self.target, training=experiment.training, seed=seed)
        sampling, took = model.backbone.sampling, time.monotonic() - self.began
        facts = {
            **_facts(self.inputs.windows, job, experiment, sampling, took / together),
            "epoch": fitted.epoch,
            "score": fitted.score,
            "held_out": fitted.history[fitted.epoch - 1].get("held_out"),
            "validator": _of_validator(fitted),
            "parameters": sum(
                p.numel() for part in (model, adapter) for p in part.parameters()
            ),
            "device": str(self.device),
        }
        scale = 1.0
        if self.scaled and self.held_out is not None:
            scale = facts["temperature"] = temperature_of(model, adapter, self.held_out)
        members = _among_all(self.members, self.used)
        write_file(
            self.folder / HISTORY, pd.DataFrame(fitted.history).to_csv(index=False)
        )
        probabilities = predict(model, adapter, self.test, scale)
        seen = probabilities[self.test.recorded.cpu().numpy()]
        facts["predicted"] = np.unique(seen.argmax(1)).tolist()
        assert job.adapter is not None
        again = functools.partial(predict, samples=self.test, temperature=scale)
        kept = self.task, self.inputs.modalities, self.domains
        check_kept(experiment, job.adapter, *kept, again)
        if job.keeps_model and len(fold.target):
            # What can be said of it without labels: it may be chosen by that.
            known = self.trained, self.held_out, self.target
            told = scores(model, adapter, *known, _telling(experiment))
            facts["scores"] = {name: _said(each) for name, each in told.items()}
        write_predictions(self.folder, members, probabilities, fitted.trace, facts)
        write_screening(self.folder, _among_all(self.seen, self.used), fitted)
        if job.keeps_model:
            self._write_model({"temperature": scale} if self.scaled else {})

    def _write_model(self, more: Mapping[str, Any]) -> None:
        """Write the weights, and what a later prediction needs beside them."""
        inputs, source = self.inputs, self.job.fold.source
        kept = self.task.model, self.task.adapter, self.domains
        known = self.scales, self.raw_scales, self.learned
        beside = {"step": step_of(inputs.windows.iloc[source]), **more}
        classes = self.job.classes
        write_model(self.folder, *kept, inputs.modalities, classes, *known, beside)


def _telling(chosen: Experiment) -> dict[str, Validator]:
    """Return all validators whose score depends on what a network says.

    Those that ship, and for people without labels every other; the run's own with its
    options.
    """
    scored = chosen.protocol.build().scored
    names = [
        each.name
        for each in entries("validator")
        if not scored or each.origin.startswith("domainemo.")
    ]
    found = {name: find("validator", name)() for name in names}
    if chosen.validator is not None:
        found[chosen.validator.name] = chosen.validator.build()
    return {
        name: validator
        for name, validator in found.items()
        if name != "last"
        and (validator.sees_target or validator.held_out or validator.needs_training)
    }


def _of_validator(fitted: Fitted) -> dict[str, Any]:
    """Return what choosing the epoch took, and by what several are compared."""
    found: dict[str, Any] = {"seconds": round(fitted.seconds, 3)}
    if fitted.evidence:
        found["evidence"] = fitted.evidence
    return found


def _said(verdict: Verdict) -> dict[str, Any]:
    """Return what a record says of a validator's verdict."""
    found: dict[str, Any] = {"score": verdict.score}
    if verdict.evidence is not None:
        found["evidence"] = verdict.evidence
    return found | {"seconds": round(verdict.seconds, 3)}


def _run_control(
    inputs: Inputs,
    experiment: Experiment,
    job: Job,
    control: Part,
    folder: Path,
    used: Rows,
) -> None:
    began = time.monotonic()
    fold = job.fold
    sampling = experiment.build_backbone(inputs.modalities).sampling
    windows = inputs.windows.iloc[fold.test].reset_index(drop=True)
    members = _among_all(samples_of(sampling, windows), fold.test)
    probabilities = control_probabilities(
        control.build(),
        inputs,
        experiment.build_normalisation(),
        fold,
        job.labelled[job.trains],
        job.source_labels[job.trains],
        members,
        len(job.classes),
    )
    took = time.monotonic() - began
    facts = _facts(inputs.windows, job, experiment, sampling, took)
    write_predictions(folder, _among_all(members, used), probabilities, [], facts)


def _facts(
    windows: pd.DataFrame,
    job: Job,
    experiment: Experiment,
    sampling: Sampling,
    took: float,
) -> dict[str, Any]:
    """Return what every record says of its job."""
    own = (job.adapter, job.control)
    network = job.adapter if job.control is None else None
    given = trials_of(windows, job.fold.calibration)
    return {
        "fold": job.fold.name,
        "adapter": job.method if network is None else network.name,
        "seed": job.seed,
        "origin": job.origin,
        "seconds": round(took, 2),
        "level": sampling.level,
        **({"calibration": given} if given else {}),
        **({"engine": why} if (why := experiment.more.get("engine_why")) else {}),
        "outside": any(part.outside for part in (*experiment.shared, *own) if part),
    }


def _among_all(members: Rows, used: Rows) -> Rows:
    return np.where(members >= 0, used[members], -1)


def holds_out(
    training: Training, validator: Validator | None, adapter: Adapter
) -> bool:
    """Return whether anything looks at labelled samples that do not train.

    Parameters
    ----------
    training : Training
        Of which a temperature does.
    validator : Validator or None
    adapter : Adapter
        Of which a screen may.
    """
    return (
        training.temperature == "held-out"
        or (validator is not None and validator.held_out)
        or bool(learning_screens(adapter, held_out=True))
    )


def lone_class(windows: pd.DataFrame, experiment: Experiment, job: Job) -> str | None:
    """Return why no part of the source can be held out, where none can.

    Parameters
    ----------
    windows : DataFrame
        Provenance of the windows among which the job's rows count.
    experiment : Experiment
    job : Job
        Of which something is held out, see :func:`holds_out`.
    """
    fold, own = job.fold, experiment.protocol.build().domain
    if len(fold.validation) or (
        len(fold.calibration) and job.calibration_use != "training"
    ):
        return None
    _, source, labels = _source_of(job)
    of_source = windows.iloc[source]
    if of_source[own].nunique() > 1:
        return None
    trials = of_source.groupby(TRIAL).ngroup()
    lone = [each for each in np.unique(labels) if trials[labels == each].nunique() < 2]
    if not lone:
        return None
    return (
        f"the source is of one {own}, with a single trial of class "
        f"{job.classes[lone[0]]!r}, so that none can be held out to choose the epoch "
        f"by, or for a temperature"
    )


def _source_of(job: Job) -> tuple[NDArray[np.bool_], Rows, NDArray[np.int64]]:
    """Return which labelled windows are calibration's; the others, and their labels."""
    given = np.isin(job.labelled, job.fold.calibration)
    return given, job.labelled[~given], job.source_labels[~given]


def _hold_out(
    windows: pd.DataFrame, experiment: Experiment, job: Job
) -> tuple[Rows, Rows]:
    """Divide the source by whole domains, or by whole trials of a single one.

    What was given for calibration is always trained on, unless it is for selection:
    then that is what is held out, and nothing else. Else where the fold has a
    validation part, that is.
    """
    if len(job.fold.calibration) and job.calibration_use != "training":
        return job.labelled[job.trains], job.fold.calibration
    if len(job.fold.validation):
        return job.labelled[job.trains], job.fold.validation
    lone = lone_class(windows, experiment, job)
    if lone is not None:
        raise DataError(f"{lone}. {HOLD_NOTHING_OUT}")
    given, source, labels = _source_of(job)
    of_source = windows.iloc[source]
    keys = of_source[experiment.protocol.build().domain].to_numpy()
    share = experiment.training.validation_share
    seed = source_seed(job.seed, windows, job.fold, "held out")
    generator = np.random.default_rng(seed)
    if len(np.unique(keys)) > 1:
        held = np.isin(keys, _draw(np.unique(keys), share, generator))
        return np.append(source[~held], job.labelled[given]), source[held]
    # Of a single domain, some trials of every class; it may be a session of several.
    trials = of_source.groupby(TRIAL).ngroup().to_numpy()
    held = np.zeros(len(source), dtype=bool)
    for label in np.unique(labels):
        theirs = np.unique(trials[labels == label])
        held |= np.isin(trials, _draw(theirs, share, generator))
    return np.append(source[~held], job.labelled[given]), source[held]


def _draw(
    names: NDArray[Any], share: float, generator: np.random.Generator
) -> NDArray[Any]:
    count = min(max(round(share * len(names)), 1), len(names) - 1)
    return names[generator.permutation(len(names))[:count]]


def _domain_codes(
    keys: pd.Series, fold: Fold, trained: Rows
) -> tuple[NDArray[np.int64], int]:
    """Return the number of every window's domain, and how many of them train.

    These count from 0, and calibration is a domain of its own after the source's.
    """
    codes = pd.factorize(keys, sort=True)[0].astype(np.int64)
    codes[fold.calibration] += codes.max() + 1
    first = np.unique(codes[trained])
    order = np.concatenate([first, np.setdiff1d(codes, first)])
    return np.argsort(order)[np.searchsorted(np.sort(order), codes)], len(first)


def _progress_file(path: Path) -> Report:
    last = [0.0]

    def report(row: Mapping[str, float]) -> None:
        if time.monotonic() - last[0] >= _PROGRESS_SECONDS:
            last[0] = time.monotonic()
            content = {"epoch": row["epoch"], "loss": row["total"]}
            write_file(path, json.dumps(content))

    return report


def partial_folder(job: Work[Any]) -> Path:
    """Return where an unfinished job keeps its checkpoint and progress."""
    final = Path(job.folder)
    return final.with_name(final.name + ".partial")
