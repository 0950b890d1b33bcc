"""Which checks a class has, and all of them at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..core import (
    Adapter,
    Backbone,
    Control,
    Dataset,
    Normalisation,
    Protocol,
    Retraining,
    Sampling,
    Screen,
    Validator,
)
from ..data.loading import takes_root
from ..errors import ConfigurationError
from .adapter import ADAPTER
from .backbone import BACKBONE, SENSORS
from .control import CONTROL
from .dataset import suite_of_dataset
from .normalisation import NORMALISATION
from .protocol import PROTOCOL
from .requirements import Check, Files, Sensors, Suite
from .retraining import RETRAINING
from .sampling import SAMPLING
from .screen import SCREEN
from .validator import VALIDATOR

__all__ = ["check", "checks"]


def checks(
    part: type,
    *,
    options: Mapping[str, Any] | None = None,
    skip: Collection[str] = (),
    sensors: Sequence[Sensors] | None = None,
    files: Files | None = None,
) -> list[Check]:
    """Return the checks of a part of any kind.

    Parameters
    ----------
    part : type
        The class; it need not be registered.
    options : mapping of str to value, optional
        Options for its constructor; its defaults otherwise.
    skip : collection of str
        Names of checks that do not apply.
    sensors : sequence of mappings of str to Modality, optional
        For backbones that need particular sensors: what to build them for. Otherwise
        several sets of EEG with and without companions, of which those that the
        constructor refuses are left out.
    files : path or callable, optional
        For data sets that read files: a folder of a few small ones, or a function that
        writes them into the folder that it is handed. Checks work on copies.

    Raises
    ------
    ConfigurationError
        If the class is of another kind, a name to skip is unknown, or a data set is
        given no files to read.
    """
    suite = _suite(part)
    unknown = sorted(set(skip) - set(suite))
    if unknown:
        raise ConfigurationError(
            f"There is no check called {', '.join(map(repr, unknown))} to skip; "
            f"{part.__name__} has {', '.join(suite)}."
        )
    _check_files(part, files)
    wanted = tuple(sensors) if sensors is not None else SENSORS
    return [
        Check(name, part, function, dict(options or {}), wanted, files)
        for name, function in suite.items()
        if name not in skip
    ]


def check(
    part: type,
    *,
    options: Mapping[str, Any] | None = None,
    skip: Collection[str] = (),
    sensors: Sequence[Sensors] | None = None,
    files: Files | None = None,
) -> None:
    """Run all checks of a class.

    Parameters
    ----------
    part, options, skip, sensors, files
        See :func:`checks`.

    Raises
    ------
    AssertionError
        With a sentence for every check that fails.
    """
    failures = []
    found = checks(part, options=options, skip=skip, sensors=sensors, files=files)
    for each in found:
        try:
            each()
        except AssertionError as failure:
            failures.append(str(failure))
    if failures:
        raise AssertionError("\n".join(failures))


def _check_files(part: type, files: Files | None) -> None:
    """Refuse a data set of files without any, and files for what reads none."""
    reads = issubclass(part, Dataset) and takes_root(part)
    if reads and files is None:
        raise ConfigurationError(
            f"{part.__name__} reads files, and none were given to check it with. Give "
            f"files=, a folder of a few small ones or a function that writes them into "
            f"the folder that it is handed."
        )
    if files is not None and not reads:
        raise ConfigurationError(
            f"{part.__name__} reads no files, and files= was given to check it with. "
            f"Leave it out; what reads files is a data set with a parameter 'root'."
        )


def _suite(part: type) -> Suite:
    suites = {
        Sampling: SAMPLING,
        Normalisation: NORMALISATION,
        Retraining: RETRAINING,
        Control: CONTROL,
        Screen: SCREEN,
        Protocol: PROTOCOL,
        Backbone: BACKBONE,
        Adapter: ADAPTER,
        Validator: VALIDATOR,
    }
    if isinstance(part, type) and issubclass(part, Dataset):
        return suite_of_dataset(part)
    for base, suite in suites.items():
        if isinstance(part, type) and issubclass(part, base):
            return suite
    raise ConfigurationError(
        f"{part!r} cannot be checked; expected a subclass of "
        f"{', '.join(base.__name__ for base in (Dataset, *suites))}."
    )
