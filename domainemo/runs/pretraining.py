"""Pre-training per fold: every fold's source alone, without a label, in a folder."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Unpack

import numpy as np
import pandas as pd
import torch

from .. import __version__, files
from ..choices import PretrainingChoices, choices_of, choosing, complete
from ..core import EmotionData, Fold, Inputs, Rows, Sampling
from ..data.normalisation import normalise
from ..data.telling import stimulus_is_label
from ..errors import ConfigurationError, DataError, DomainemoWarning
from ..parts import Part
from ..places import naming_parts
from ..training.batches import sample, samples_of
from ..training.loop import Report
from ..training.pairs import Random, Synchronous
from ..training.pretrain import USED_SETTINGS, fit_pairs, view_widths
from ..training.seeds import reproducible, seed_torch
from ..training.synchrony import SynchronyContrast
from ..values import check_value, given_path
from ..words import count
from .at_once import Jobs, running
from .checks import choose_inputs, prepare
from .execution import Monitor, check_call, execute
from .experiment import Setup, grouped, setup_choices
from .folder import (
    fingerprint,
    fingerprints,
    identity,
    job_folder,
    locked,
    open_folder,
    origin,
    read_json,
    write_table,
)
from .folds import lay_out_folds
from .how import told_of_task
from .initialisation import PRETRAINED, WEIGHTS, rows_digest, weights_of
from .job import Work
from .leaks import check_leaks
from .plan import build_once
from .record import FACTS, HISTORY, write_file
from .seeds import source_seed

__all__ = [
    "Pretraining",
    "PretrainingJob",
    "PretrainingPlan",
    "plan_pretraining",
    "pretrain",
    "pretraining",
    "run_pretraining",
]

_GROUPS = (*Setup.parts, "pairs", "contrast", "training")
_NOTHING: Rows = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Pretraining(Setup):
    """Every choice of a pre-training but the recordings.

    Attributes
    ----------
    pairs : Part
        How two groups of people become a pair.
    contrast : Part
        The objective.
    """

    pairs: Part
    contrast: Part

    choices: ClassVar[type] = PretrainingChoices
    parts: ClassVar[tuple[str, ...]] = (*Setup.parts, "pairs", "contrast")
    settings: ClassVar[tuple[str, ...]] = USED_SETTINGS

    def pairing(self, inputs: Inputs, members: Rows) -> Synchronous:
        """Return what draws pairs of samples, given the windows of each."""
        made: Synchronous = self.pairs.build(inputs.windows.iloc[members[:, 0]])
        return made


@choosing
def pretraining(**choices: Unpack[PretrainingChoices]) -> Pretraining:
    """Make a pre-training of names and classes.

    Parameters
    ----------
    **choices
        See `domainemo.choices.PretrainingChoices`.

    Raises
    ------
    ConfigurationError
        For a name, an option or a value that does not fit.
    """
    given = complete(PretrainingChoices, choices)
    pairs = given["pairs"]
    check_value("pairs", pairs, choices_of(PretrainingChoices)["pairs"].annotation)
    options = grouped(given["options"], _GROUPS)
    made = Pretraining(
        **setup_choices(given, options, Pretraining),
        pairs=Part(
            "pairs",
            pairs,
            options["pairs"],
            cls=Random if pairs == "random" else Synchronous,
        ),
        contrast=Part(
            "contrast", "synchrony", options["contrast"], cls=SynchronyContrast
        ),
    )
    # Parts whose options clash are refused here, before any recording is read.
    made.protocol.build()
    made.build_normalisation()
    made.build_sampling()
    return made


@dataclass(frozen=True)
class PretrainingJob(Work[Pretraining]):
    """The pre-training of one fold. It knows the fold's source, and nothing else."""

    @property
    def method(self) -> str:
        """What is trained, as named in every table."""
        return PRETRAINED

    def train(
        self,
        inputs: Inputs,
        chosen: Pretraining,
        folder: Path,
        used: Rows,
        report: Report,
    ) -> None:
        """Pre-train the backbone and write its weights."""
        began = time.monotonic()
        device, source = torch.device(chosen.device), self.fold.source
        normalised, _ = normalise(
            inputs, chosen.build_normalisation(), source=source, target=_NOTHING
        )
        seed = source_seed(self.seed, inputs.windows, self.fold, PRETRAINED)
        seed_torch(seed)
        backbone = chosen.build_backbone(inputs.modalities)
        contrast = chosen.contrast.build(view_widths(backbone, inputs.modalities))
        samples, members = sample(normalised, source, backbone.sampling, device)
        pairing = chosen.pairing(inputs, members)
        history = fit_pairs(
            backbone.to(device),
            contrast.to(device),
            samples,
            pairing,
            training=chosen.training,
            seed=seed,
            checkpoint=self.checkpoint(inputs, chosen, folder),
            report=report,
        )
        write_file(folder / WEIGHTS, weights_of(backbone.state_dict()))
        write_file(folder / HISTORY, pd.DataFrame(history).to_csv(index=False))
        facts = {
            "fold": self.fold.name,
            "seed": self.seed,
            "origin": self.origin,
            "source": rows_digest(used[source]),
            "subjects": inputs.windows["subject"].nunique(),
            "windows": len(inputs),
            "samples": len(samples),
            "modalities": list(inputs.modalities),
            "level": backbone.sampling.level,
            "moments": pairing.moments,
            "first_loss": history[0]["total"],
            "last_loss": history[-1]["total"],
            "parameters": sum(p.numel() for p in backbone.parameters()),
            "seconds": round(time.monotonic() - began, 2),
            "device": str(device),
        }
        write_file(folder / FACTS, json.dumps(facts, indent=1))


@dataclass(frozen=True)
class PretrainingPlan:
    """Recordings and folds that have been checked, and how they will be pre-trained.

    Attributes
    ----------
    inputs : Inputs
        In canonical order, with the chosen modalities only.
    chosen : Pretraining
    folds : list of Fold
        With their sources alone.
    sampling : Sampling
    task : mapping of str to str
        What is said of the channels and classes that were chosen.
    """

    inputs: Inputs
    chosen: Pretraining
    folds: list[Fold]
    sampling: Sampling
    task: Mapping[str, str] = field(default_factory=dict)

    def jobs(self, folder: Path) -> list[PretrainingJob]:
        """Return the training jobs: fold x seed."""
        return [
            PretrainingJob(
                fold, seed, str(job_folder(folder, fold.name, seed, PRETRAINED))
            )
            for seed in self.chosen.seeds
            for fold in self.folds
        ]

    def moments(self, fold: Fold) -> int:
        """Return how many moments of a fold can be paired; raise where none can."""
        part = self.inputs.take(fold.source)
        try:
            return self.chosen.pairing(
                part, samples_of(self.sampling, part.windows)
            ).moments
        except DataError as error:
            raise DataError(
                f"{self.inputs.name}, fold {fold.name!r}: {error}"
            ) from error


def plan_pretraining(
    recordings: EmotionData | Inputs, chosen: Pretraining
) -> PretrainingPlan:
    """Check recordings against a pre-training and lay out its folds.

    Raises
    ------
    ConfigurationError, DataError
        For anything that would fail later, such as a source without common stimuli.
    """
    if isinstance(recordings, EmotionData) and stimulus_is_label(recordings):
        warnings.warn(
            f"{recordings.inputs.name}: each class has one stimulus of its own, so "
            f"that pairs of the same stimulus are pairs of the same class, and what is "
            f"learnt from them is not free of labels. Give recordings with several "
            f"stimuli of each class, or do not call the result unsupervised.",
            DomainemoWarning,
            stacklevel=2,
        )
    _check_protocol(chosen)
    # Here labels are left behind: nothing below is handed any.
    inputs, task = choose_inputs(recordings, chosen)
    inputs, _ = prepare(inputs, chosen)
    folds = lay_out_folds(inputs, chosen)
    check_leaks(chosen.protocol.build(), inputs, folds, chosen.more["waive"])

    def complete(backbone: Any) -> None:
        chosen.contrast.build(view_widths(backbone, inputs.modalities))

    with reproducible(chosen.training.threads):
        sampling = build_once(inputs.modalities, chosen, complete).sampling
    sources = [Fold(fold.name, fold.source, _NOTHING, _NOTHING) for fold in folds]
    planned = PretrainingPlan(inputs, chosen, sources, sampling, task)
    for fold in sources:
        planned.moments(fold)
    return planned


def _check_protocol(chosen: Pretraining) -> None:
    """Refuse a protocol that has no folds that a run could start from."""
    protocol = chosen.protocol.build()
    if protocol.takes_target or not protocol.scored:
        raise ConfigurationError(
            f"The protocol is {chosen.protocol.name!r}, which tests nobody in these "
            f"recordings; expected one that does, such as 'cross-subject', as a "
            f"pre-training belongs to the folds of the run that starts from it. Name "
            f"that run's (--protocol); `domainemo list protocols` shows all."
        )


@choosing
@naming_parts()
def pretrain(
    recordings: EmotionData | Inputs,
    *,
    output: str | Path,
    jobs: Jobs = 1,
    executor: Executor | None = None,
    on_progress: Callable[[Monitor], None] | None = None,
    **choices: Unpack[PretrainingChoices],
) -> pd.DataFrame:
    """Pre-train a backbone for every fold of a protocol, on the fold's source alone.

    No label is used, but for the windows that are left out where classes are chosen;
    and of the fold's target neither label nor signal. What different
    people show at the same moment of the same stimulus is drawn together (PhysioSync,
    IEEE TCSS 2025).

    Parameters
    ----------
    recordings : EmotionData or Inputs
        Labels, where there are any, are left aside.
    output : path
        The folder, to be named to :func:`~domainemo.runs.run.run` as
        ``init_from``. Where it holds part of this very pre-training, the rest is run.
    **choices
        See `domainemo.choices.PretrainingChoices`.
    jobs, executor, on_progress
        As for :func:`~domainemo.runs.run.run`.

    Returns
    -------
    DataFrame
        A row per fold and seed.

    Raises
    ------
    ConfigurationError, DataError
        Before anything is trained.
    RunError
        If a fold fails; the finished ones are kept in `output`.
    """
    chosen = pretraining(**choices)
    folder = given_path("output", output)
    check_call(executor, on_progress, jobs)
    planned = plan_pretraining(recordings, chosen)
    description = {"recordings": planned.inputs.name, **chosen.describe()}
    if chosen.plugins:
        description["plugins"] = list(chosen.plugins)
    most = len(planned.jobs(Path()))
    with running(executor, jobs, chosen, most) as pool:
        return run_pretraining(
            planned, folder, description, pool, on_progress, chosen.plugins
        )


def run_pretraining(
    planned: PretrainingPlan,
    folder: Path,
    description: Mapping[str, Any],
    executor: Executor | None = None,
    on_progress: Callable[[Monitor], None] | None = None,
    plugins: Sequence[str] = (),
) -> pd.DataFrame:
    """Run what is missing of a plan in its folder; write the table.

    Parameters
    ----------
    planned : PretrainingPlan
    folder : Path
    description : mapping
        The full configuration, written as ``config.toml``.
    executor, on_progress
        See :func:`pretrain`.
    plugins : sequence of str
        Files to import in every process.
    """
    known = identity(fingerprint(planned.inputs), plugins, planned.chosen.texts)
    facts = {
        "modalities": list(planned.inputs.modalities),
        "signals": known["recordings"],
        "signals_of": fingerprints(planned.inputs),
    }
    open_folder(folder, description, known, facts)
    begun = origin(folder)
    jobs = [replace(job, origin=begun) for job in planned.jobs(folder)]
    with locked(folder):
        execute(
            planned.inputs,
            planned.chosen,
            jobs,
            folder=folder,
            executor=executor,
            on_progress=on_progress,
            plugins=plugins,
        )
        table = pd.DataFrame([read_json(Path(job.folder) / FACTS) for job in jobs])
        told_elsewhere = ["source", "origin", "modalities"]
        table = table.drop(columns=told_elsewhere, errors="ignore")
        write_table(folder, "pretraining", table)
        files.write_recorded(folder / "how.txt", how(planned, table) + "\n")
    return table


def how(planned: PretrainingPlan, table: pd.DataFrame) -> str:
    """Return one line that says how the weights were obtained."""
    chosen = planned.chosen
    seeds = ", ".join(map(str, chosen.seeds))
    pairs = chosen.pairs.describe()
    copies = ", each as six copies" if pairs["augment"] else ""
    return (
        f"{planned.inputs.name}, {', '.join(planned.inputs.modalities)}; "
        f"{told_of_task(planned.task)}{chosen.backbone.name} pre-trained on "
        f"{chosen.pairs.name} pairs of groups of {pairs['members']}{copies}; "
        f"{chosen.protocol.name}, "
        f"{count(len(planned.folds), 'fold')}, each on its "
        f"source alone, without labels ({table['moments'].min()} to "
        f"{table['moments'].max()} moments); {chosen.build_normalisation().words}; "
        f"last of {count(chosen.training.epochs, 'epoch')}; seed {seeds}; domainemo "
        f"{__version__}."
    )
