"""How a study searches, and who chooses: its settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Literal, get_args

from ..choices import SELECTED_BY, AdapterChoices, Choice
from ..errors import ConfigurationError
from ..parts import unknown_option
from ..values import SEEDS, Bounds, check_fields, check_seeds

__all__ = [
    "JOURNAL",
    "SQLITE",
    "is_kind",
    "Objective",
    "Pruner",
    "Sampler",
    "Select",
    "StudySettings",
    "TuningChoices",
]

Sampler = Literal["tpe", "cma-es", "random", "gaussian-process"]
Pruner = Literal["median", "hyperband", "wilcoxon", "none"]
Objective = Literal["validator", "source_accuracy", "seconds", "parameters"]
Select = Literal["global-source", "per-fold"]

SQLITE, JOURNAL = "sqlite", "journal"


def is_kind(given: object) -> bool:
    """Return whether a storage lies in the study's own folder, whoever named it."""
    return given in (None, SQLITE, JOURNAL)


@dataclass(frozen=True)
class StudySettings:
    """Settings of a study.

    Attributes
    ----------
    candidates : int
        How many configurations are tried, the study's total; Optuna's trials.
    search : tuple of {"adapter", "backbone", "training"}
        Parts whose declared spaces are searched. With the adapter alone, source only
        is the same network trained alike, and the comparison is of adaptation.
    sampler : {"tpe", "cma-es", "random", "gaussian-process"}
    pruner : {"median", "hyperband", "wilcoxon", "none"}
        What ends a candidate early: the median of the others or Hyperband after any
        epoch, or a Wilcoxon test against the best one's folds after a fold.
    objectives : tuple of {"validator", "source_accuracy", "seconds", "parameters"}
        What is optimised, averaged (seconds: added) over folds; the validator comes
        first. With several there is no pruning.
    select : {"global-source", "per-fold"}
        One choice, made on subjects that are not tested afterwards; or one for each
        fold, made with its source's labels and its target's signals.
    development : int or tuple of str
        For ``"global-source"``: how many subjects choose, or which. 0 takes half.
    seed : int
        Of the sampler, and of the draw of the subjects that choose.
    final_seeds : tuple of int
        Seeds of the final runs; empty takes three that the study did not use.
    """

    candidates: Annotated[int, Bounds(1)] = 40
    search: tuple[str, ...] = ("adapter",)
    sampler: Sampler = "tpe"
    pruner: Pruner = "median"
    objectives: tuple[str, ...] = ("validator",)
    select: Select = "global-source"
    development: Annotated[int, Bounds(0)] | tuple[str, ...] = 0
    seed: Annotated[int, SEEDS] = 0
    final_seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self, "study")
        seeds = check_seeds("study.final_seeds", self.final_seeds)
        different = len(set(seeds)) == len(seeds)
        self._require("final_seeds", different, "seeds that are all different")
        self._require("search", bool(self.search), "at least one part")
        known = get_args(Objective)
        self._require(
            "objectives",
            self.objectives[:1] == ("validator",)
            and set(self.objectives) <= set(known)
            and len(set(self.objectives)) == len(self.objectives),
            f"validator, then some of {', '.join(known[1:])}",
        )
        if self.sampler == "cma-es" and len(self.objectives) > 1:
            raise ConfigurationError(
                f"study.sampler is 'cma-es', which follows one objective; found "
                f"{', '.join(self.objectives)}. Use tpe, random or gaussian-process."
            )

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ConfigurationError(
                f"study.{name} is {getattr(self, name)!r}; expected {expected}."
            )

    @property
    def directions(self) -> list[Literal["minimize", "maximize"]]:
        """What Optuna does to each objective."""
        costs = ("seconds", "parameters")
        return ["minimize" if o in costs else "maximize" for o in self.objectives]

    @property
    def prunes(self) -> bool:
        """Whether candidates may end early."""
        return self.pruner != "none" and len(self.objectives) == 1

    def describe(self) -> dict[str, Any]:
        """Return the settings as a configuration file has them."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> StudySettings:
        """Read settings as a configuration file or the command line has them.

        Raises
        ------
        ConfigurationError
            For a setting that there is not, or a value that does not fit.
        """
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise ConfigurationError(unknown_option("study", name, known))
        chosen: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in given.items()
        }
        if isinstance(chosen.get("development"), tuple):
            chosen["development"] = tuple(map(str, chosen["development"]))
        return cls(**chosen)


class TuningChoices(AdapterChoices, total=False):
    """What a study chooses: what a run does, and its own settings."""

    validator: Annotated[
        Any,
        Choice(
            "What compares candidates, without target labels.",
            SELECTED_BY,
            python="Its score, averaged over folds, is what is searched for; it also "
            "chooses the epoch.",
            before="normalisation",
        ),
    ]
    candidates: Annotated[
        int,
        Choice("Configurations to try, the study's total.", StudySettings.candidates),
    ]
    search: Annotated[
        Sequence[str] | None,
        Choice("Whose spaces: adapter, backbone, training.", StudySettings.search),
    ]
    space: Annotated[
        Mapping[str, Any] | None,
        Choice(
            "A range: NAME=LOW:HIGH, NAME=LOW:HIGH:log, NAME=a,b,c, or NAME=off; may "
            "be repeated.",
            python="Ranges in place of those that the parts declare, or beside them: "
            '{"adapter.marginal": {"low": 0.1, "high": 1.0, "log": True}}, '
            '{"adapter.rule": {"choices": ["pooled", "absolute"]}}, or False to leave '
            "an option as it is.",
            repeated=True,
        ),
    ]
    sampler: Annotated[
        Sampler,
        Choice("tpe, cma-es, random or gaussian-process.", StudySettings.sampler),
    ]
    pruner: Annotated[
        Pruner, Choice("median, hyperband, wilcoxon or none.", StudySettings.pruner)
    ]
    objectives: Annotated[
        Sequence[str] | None,
        Choice(
            "validator, then source_accuracy, seconds or parameters.",
            StudySettings.objectives,
        ),
    ]
    select: Annotated[
        Select,
        Choice(
            "global-source: one choice; per-fold: one for each.", StudySettings.select
        ),
    ]
    development: Annotated[
        int | Sequence[str],
        Choice(
            "How many subjects choose (0: half), or which, such as 1,5,9.",
            StudySettings.development,
        ),
    ]
    seed: Annotated[
        int,
        Choice(
            "Seed of the sampler, and of who chooses.",
            StudySettings.seed,
            option="study-seed",
        ),
    ]
    final_seeds: Annotated[
        Sequence[int] | None,
        Choice(
            "Seeds of the final runs; else three fresh ones.",
            StudySettings.final_seeds,
        ),
    ]
