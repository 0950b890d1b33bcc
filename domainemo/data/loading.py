"""Recordings by name: read once, in parallel over the files, and mapped afterwards."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

from ..core import Dataset, EmotionData, Inputs
from ..errors import ConfigurationError, DataError, DomainemoWarning
from ..outside import is_plain, text_of
from ..places import called, is_ours, is_outside, naming_parts, where
from ..registry import UnknownPart, find, parameters
from ..values import check_value, given_options, given_path, option_types, plain
from .cache import entry_folder, read_entry, unreadable, write_entry
from .reader import OnRead, Reader

__all__ = ["load", "load_inputs", "named", "takes_root"]


@naming_parts()
def load(
    dataset: str | PathLike[str] | type[Dataset] | Dataset,
    root: str | Path | None = None,
    *,
    cache: bool = True,
    jobs: int | None = None,
    on_read: OnRead | None = None,
    **options: Any,
) -> EmotionData:
    """Load a data set by its name.

    What is read from files is kept on disk and mapped into memory the next time, see
    :mod:`domainemo.data.cache`.

    Parameters
    ----------
    dataset : str, path, type or Dataset
        A registered name, such as ``"seed-iv"``; the path of a table folder, which is
        no text; a class; or an object of one, which has its root and options already.
    root : path, optional
        Where the files lie; else the environment's ``DOMAINEMO_DATA``.
    cache : bool
        False reads the files again, and keeps nothing.
    jobs : int, optional
        Recordings read at once, each in a process; by default one per core, where the
        files are so many or so slow that it pays.
    on_read : callable, optional
        Told after each recording: how many are read, of how many, and which one.
    **options
        The data set's own options, see its docstring.

    Returns
    -------
    EmotionData
        Arrays that were mapped cannot be written to.

    Raises
    ------
    ConfigurationError
        For a name or an option that is not known, or where no root is given.
    DataError
        If a file is missing or does not hold what it should.

    Examples
    --------
    >>> data = load("seed-iv", "recordings", smoothing="moving-average")
    """
    dataset = named(dataset, root, options)
    with _readable(dataset):
        if not isinstance(dataset, Reader):
            return _loaded(dataset)
        folder = _entry(dataset) if cache else None
        kept = read_entry(folder) if folder else None
        if kept is not None:
            return kept
        data = dataset.load(jobs=jobs, on_read=on_read)
    return data if folder is None else _keep(folder, data)


def load_inputs(dataset: Dataset, *, cache: bool = True) -> Inputs:
    """Load recordings without their labels, which nobody looks at.

    Of a table folder, the column of labels is not read at all.

    Parameters
    ----------
    dataset : Dataset
    cache : bool
        See :func:`load`.

    Raises
    ------
    DataError
        If a file is missing or does not hold what it should.
    """
    if isinstance(dataset, Reader):
        return load(dataset, cache=cache).inputs
    with _readable(dataset):
        inputs = dataset.load_inputs()
    if not isinstance(inputs, Inputs):
        raise DataError(
            f"The data set {type(dataset).__name__} loaded {called(inputs)}; expected "
            f"Inputs, as the field `inputs` of EmotionData. Correct "
            f"{where(dataset, 'load_inputs')}."
        )
    return inputs


@contextmanager
def _readable(dataset: Dataset) -> Iterator[None]:
    """Say which file or folder cannot be read, where the system refuses it."""
    try:
        yield
    except OSError as error:
        if error.filename is None or is_outside(type(dataset)):
            raise
        raise unreadable(error.filename, error) from error


def _loaded(dataset: Dataset) -> EmotionData:
    """Return what a data set loads; refuse what is no recordings."""
    data = dataset.load()
    if not isinstance(data, EmotionData):
        raise DataError(
            f"The data set {type(dataset).__name__} loaded {called(data)}; expected "
            f"EmotionData, as domainemo.from_arrays makes it. Correct "
            f"{where(dataset, 'load')}."
        )
    return data


def named(
    dataset: str | PathLike[str] | type[Dataset] | Dataset,
    root: str | Path | None,
    options: Mapping[str, Any],
) -> Dataset:
    """Return the data set of a name, a class or a path, as :func:`load` takes them."""
    if isinstance(dataset, PathLike):
        if root is not None:
            raise ConfigurationError(
                f"The data set was given as the path {str(dataset)!r}, and root is "
                f"{str(root)!r}; expected one of them. Of a table folder it is "
                f'load("table", path).'
            )
        dataset, root = "table", Path(dataset)
    if not isinstance(dataset, Dataset):
        return _make(dataset, root, dict(options))
    if root is not None or options:
        raise ConfigurationError(
            f"The data set was given as an object of {type(dataset).__name__}, which "
            f"has its root and options; give none beside it."
        )
    return dataset


def takes_root(dataset: type[Dataset]) -> bool:
    """Return whether a data set is read from files."""
    return "root" in inspect.signature(dataset).parameters


def _make(
    dataset: str | type[Dataset], root: str | Path | None, options: dict[str, Any]
) -> Dataset:
    made = _class_of(dataset)
    name = getattr(made, "registered_name", made.__name__)
    known = parameters(made)
    types, options = option_types(made), plain(options)
    for option, value in options.items():
        if option in known:
            where, default = f"dataset {name!r}: {option}", known[option].default
            check_value(where, value, types.get(option, Any), default)
        else:
            raise ConfigurationError(
                f"The dataset {name!r} has no option {option!r}; expected one of "
                f"{', '.join(known) or 'none at all'}."
            )
    arguments: list[Path] = []
    if takes_root(made):
        place = root or os.environ.get("DOMAINEMO_DATA")
        if not place:
            raise ConfigurationError(
                f"The dataset {name!r} is read from files, and no place was named. "
                f"Give root=, or set the environment variable DOMAINEMO_DATA."
            )
        arguments = [given_path("root", place)]
    elif root is not None:
        raise ConfigurationError(
            f"The dataset {name!r} has no files, and root={str(root)!r} was given."
        )
    made_object: Dataset = made(*arguments, **options)
    return made_object


def _class_of(dataset: str | type[Dataset]) -> type[Dataset]:
    """Return the class of a name; refuse what is neither a name nor a data set."""
    if isinstance(dataset, str):
        try:
            return find("dataset", dataset)
        except UnknownPart as error:
            if not Path(dataset, "dataset.toml").is_file():
                raise
            raise UnknownPart(
                f"There is no dataset called {dataset!r}, but a table folder, whose "
                f'path that is. Read it with load("table", {dataset!r}).'
            ) from error
    if not (isinstance(dataset, type) and issubclass(dataset, Dataset)):
        raise ConfigurationError(
            f"The data set is {dataset!r:.80} of type {type(dataset).__name__}; "
            f"expected a name, the path of a table folder, a class of data sets, or an "
            f"object of one."
        )
    return dataset


def _entry(reader: Reader) -> Path:
    kind = type(reader)
    # An option may be kept in a private attribute, or in none.
    choices = {
        key: value
        for key, value in vars(reader).items()
        if not key.startswith("_") or is_plain(value) or hasattr(value, "tobytes")
    }
    choices |= given_options(reader)
    root = choices.get("root") or "."
    choices["root"] = str(Path(root).resolve())
    choices["class"] = f"{kind.__module__}.{kind.__qualname__}"
    code = "" if is_ours(kind.__module__) else text_of(kind)
    name = str(getattr(kind, "registered_name", kind.__name__))
    return entry_folder(name, choices, reader.files(), code, Path(root))


def _keep(folder: Path, data: EmotionData) -> EmotionData:
    """Write the entry and map it; without a place to write, say so and go on."""
    try:
        write_entry(folder, data)
    except ConfigurationError as error:
        warnings.warn(
            f"What was read could not be kept, so that it will be read again. {error} "
            f"The environment variable DOMAINEMO_CACHE names another place.",
            DomainemoWarning,
            stacklevel=3,
        )
    return read_entry(folder, warn=False) or data
