"""What a study searches: the spaces that parts declare, narrowed or extended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from ..errors import ConfigurationError
from ..parts import Part, having, unknown_option
from ..runs.experiment import Experiment
from ..training.settings import Training
from ..values import check_value
from .drawing import Drawing, Probe, contains, in_words

if TYPE_CHECKING:
    import optuna

    Draws: TypeAlias = "optuna.Trial | Drawing"

__all__ = ["SEARCHED", "Space", "range_of", "search_space"]

_CHOICE = str | float | bool | None
"""What Optuna can store of an option's value."""

SEARCHED = ("adapter", "backbone", "training")
"""The parts that declare a space."""


@dataclass(frozen=True)
class Space:
    """What is searched around an experiment.

    Attributes
    ----------
    experiment : Experiment
        Every choice that is not searched, and the values the study begins with.
    parts : tuple of str
        Whose declared spaces are searched.
    ranges : mapping of str to distribution
        By full name: in place of what a part declares, or beside it.
    fixed : mapping of str to value
        Options that a part would draw, but are set.
    """

    experiment: Experiment
    parts: tuple[str, ...]
    ranges: Mapping[str, BaseDistribution]
    fixed: Mapping[str, Any]

    def draw(self, trial: Draws) -> dict[str, Any]:
        """Return the options of a candidate, by full name."""
        drawn: dict[str, Any] = {}
        for prefix, cls in self._owners():
            seen = _Seen(self, trial, prefix)
            # A part sees what it may draw from, whatever else stands behind it.
            own = cls.space(cast("optuna.Trial", seen))
            drawn |= {prefix + name: value for name, value in own.items()}
        for name, distribution in self.ranges.items():
            if name not in drawn:
                drawn[name] = _suggest(trial, name, distribution)
        return drawn

    def searched(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of a candidate's options that are searched, and not set."""
        return {k: value for k, value in options.items() if k not in self.fixed}

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the range of each option that is searched where all is as it was.

        A part that draws one option only for some values of another shows here what
        it draws for the values that the study begins with.
        """
        probe = Probe(self.start())
        self.draw(probe)
        return probe.found

    def start(self) -> dict[str, Any]:
        """Return the value that every known option has in the experiment."""
        described: dict[str, Any] = self.experiment.describe()["options"]
        return described

    def defaults(self) -> dict[str, Any]:
        """Return the values the study begins with, of the options it searches."""
        start = self.start()
        return {
            name: start[name]
            for name, distribution in self.distributions().items()
            if name in start and contains(distribution, start[name])
        }

    def as_written(self) -> dict[str, dict[str, Any]]:
        """Return each option's range as a configuration file has it."""
        return {name: _written(each) for name, each in self.distributions().items()}

    def describe(self) -> dict[str, str]:
        """Return each option's range in words."""
        return {name: in_words(each) for name, each in self.distributions().items()}

    def _owners(self) -> list[tuple[str, Any]]:
        """Return the classes that declare spaces, with the prefix of their options."""
        owners: list[tuple[str, Any]] = []
        for kind in self.parts:
            if kind == "training":
                owners.append(("training.", Training))
                continue
            part: Part = getattr(self.experiment, kind)
            for name, cls in part.classes.items():
                inner = f"{name}." if len(part.names) > 1 else ""
                if hasattr(cls, "space"):  # a screen among joined adapters has none
                    owners.append((f"{kind}.{inner}", cls))
        return owners


def search_space(
    experiment: Experiment,
    parts: Sequence[str],
    ranges: Mapping[str, Any],
    fixed: Mapping[str, Any],
) -> Space:
    """Join what parts declare with what a configuration says of it.

    Parameters
    ----------
    experiment : Experiment
    parts : sequence of str
        Some of ``"adapter"``, ``"backbone"``, ``"training"``.
    ranges : mapping of str to mapping
        ``{"low": 0.1, "high": 1, "log": True}`` or ``{"choices": [...]}`` by full
        name; or False, which leaves the option as it is.
    fixed : mapping of str to value
        Options that are set, and so are not searched unless `ranges` names them.

    Raises
    ------
    ConfigurationError
        For an unknown part or option, an impossible range, or an empty space.
    """
    for name in parts:
        if name not in SEARCHED:
            raise ConfigurationError(
                f"study.search names {name!r}; expected some of {', '.join(SEARCHED)}."
            )
    if "adapter" in parts and experiment.adapter.made is not None:
        raise ConfigurationError(
            "The adapter was given as an object, whose options cannot be drawn. Give "
            "its name or its class."
        )
    known = experiment.describe()["options"]
    for name in ranges:
        if name not in known and name.partition(".")[0] not in SEARCHED:
            told = unknown_option("The space", name, list(known))
            kind, _, option = name.rpartition(".")
            raise ConfigurationError(told + having(kind, option))
        if name.startswith("control."):
            raise ConfigurationError(
                f"The space names {name}; a control stands beside what is chosen and "
                f"is not searched. Set it with --set {name}=VALUE."
            )
        if name == "training.label_share" and ranges[name] is not False:
            raise ConfigurationError(
                f"The space names {name}; all candidates are trained with the same "
                f"labels, as more of them are always better. Set it with "
                f"--set {name}=SHARE."
            )
    set_back = {name: known.get(name) for name, each in ranges.items() if each is False}
    space = Space(
        experiment=experiment,
        parts=tuple(parts),
        ranges={
            name: _range_for(name, each, known.get(name))
            for name, each in ranges.items()
            if each is not False
        },
        fixed={k: v for k, v in fixed.items() if k not in ranges} | set_back,
    )
    if not space.distributions():
        raise ConfigurationError(
            f"There is nothing to search: adapter {experiment.adapter.name!r} declares "
            f"no space, or all of its options are set. Name an option with "
            f"--space NAME=LOW:HIGH, such as --space training.learning_rate=1e-4:1e-2."
        )
    # An end that does not fit is refused here, and not where a candidate draws it.
    for name, distribution in space.ranges.items():
        for value in _ends(distribution):
            experiment.with_options({name: value})
    # What the experiment cannot be built with is refused here, not in a candidate.
    experiment.with_options(space.draw(Probe(space.start())))
    return space


def range_of(name: str, given: Any) -> BaseDistribution:
    """Read a range as a configuration file has it.

    Raises
    ------
    ConfigurationError
        If it is none.
    """
    if isinstance(given, BaseDistribution):
        return given
    expected = (
        f"The space's {name} is {given!r}; expected {{low = 0.1, high = 1.0, log = "
        f"true}}, {{choices = [...]}} or false."
    )
    if not isinstance(given, Mapping):
        raise ConfigurationError(expected)
    keys = set(given)
    for key in keys & {"low", "high", "step"}:
        check_value(f"The space's {name}: {key}", given[key], float)
    check_value(f"The space's {name}: log", given.get("log", False), bool)
    try:
        if keys == {"choices"}:
            choices = given["choices"]
            check_value(f"The space's {name}: choices", choices, Sequence[_CHOICE])
            return CategoricalDistribution(list(choices))
        if {"low", "high"} <= keys <= {"low", "high", "log", "step"}:
            whole = all(type(given[key]) is int for key in ("low", "high"))
            kind = IntDistribution if whole else FloatDistribution
            return kind(**given)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{expected} {error}") from error
    raise ConfigurationError(expected)


def _range_for(name: str, given: Any, start: Any) -> BaseDistribution:
    """Read a range; whole numbers stay whole where the option's value is one."""
    if type(start) is int and isinstance(given, Mapping):
        given = {
            key: int(each) if isinstance(each, float) and each.is_integer() else each
            for key, each in given.items()
        }
    return range_of(name, given)


def _ends(distribution: BaseDistribution) -> Sequence[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    number = cast("FloatDistribution | IntDistribution", distribution)
    return number.low, number.high


def _written(distribution: BaseDistribution) -> dict[str, Any]:
    if isinstance(distribution, CategoricalDistribution):
        return {"choices": list(distribution.choices)}
    number = cast("FloatDistribution | IntDistribution", distribution)
    written: dict[str, Any] = {"low": number.low, "high": number.high}
    if number.log:
        written["log"] = True
    elif number.step and number.step != 1:
        written["step"] = number.step
    return written


class _Seen(Drawing):
    """What a part's ``space`` draws from: full names, and only what is searched."""

    def __init__(self, space: Space, trial: Draws, prefix: str) -> None:
        self.space, self.trial, self.prefix = space, trial, prefix

    def draw(self, name: str, distribution: BaseDistribution) -> Any:
        """Return what is set, or draw from what the configuration says, or declares."""
        full = self.prefix + name
        if full in self.space.fixed:
            return self.space.fixed[full]
        return _suggest(self.trial, full, self.space.ranges.get(full, distribution))


def _suggest(trial: Draws, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case CategoricalDistribution():
            return trial.suggest_categorical(name, distribution.choices)
        case IntDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_int(name, low, high, step=step, log=log)
        case FloatDistribution(low=low, high=high, step=step, log=log):
            return trial.suggest_float(name, low, high, step=step, log=log)
    raise TypeError(distribution)
