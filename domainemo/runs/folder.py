"""A run's folder: configuration, environment, tables; written in atomic steps."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from .. import __version__, files
from ..data.files.limits import (
    Refusal,
    parse_json,
    parse_parquet,
    parse_toml,
    read_text,
)
from ..errors import ConfigurationError, DataError, data_error

if TYPE_CHECKING:  # a configuration is read before anything heavy is imported
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from ..core import Inputs

__all__ = [
    "check_job",
    "check_no_link",
    "differences",
    "differing",
    "find_exchange",
    "fingerprint",
    "fingerprints",
    "flat",
    "folder_name",
    "identity",
    "is_finished_name",
    "job_folder",
    "locked",
    "open_folder",
    "origin",
    "read_arrays",
    "read_config",
    "read_csv",
    "read_distances",
    "read_json",
    "read_stored_config",
    "read_table",
    "read_tables",
    "rerun",
    "write_table",
]

CONFIG = "config.toml"
LOCK = ".lock"
ENVIRONMENT = "environment.json"
NO_CODE = "none"
"""What that file says of code from outside this package where there is none."""
JOB_FACTS = "record.json"
DISTANCES = "distances.parquet"
_NOT_KNOWN = (
    "Without it nobody can tell whether this is the same run. Give the very choices "
    "that it was begun with, on the same machine, or a new --output folder."
)
_ITS_RUN = f"{files.REMEDY} To try other choices, edit a copy of it elsewhere."
_PLACES = ("data_root", "target_root", "plugins", "init_from")
_CALLED = {"plugins": "plugins (the code of parts from outside this package)"}
_LIMITS = ("study.candidates", "study.storage", "memory")
_LONGEST_NAME = 200  # of the 255 bytes that a file name may have
_PACKAGES = (
    "domainemo",
    "torch",
    "optuna",
    "numpy",
    "pandas",
    "scikit-learn",
    "scipy",
    "POT",
    "pytorch-adapt",
    "mne",
)


def fingerprint(
    inputs: Inputs,
    labels: NDArray[np.int64] | None = None,
    classes: tuple[str, ...] = (),
) -> str:
    """Return a hash of everything in the recordings: signals, provenance, labels."""
    import numpy as np

    digest = sha256()
    for name in inputs.signals:
        digest.update(f"{name} {inputs.modalities[name]}".encode())
        digest.update(np.ascontiguousarray(inputs.signals[name]).data)
    # With one end of lines on every system.
    text = inputs.windows.to_csv(index=False, lineterminator="\n")
    digest.update(text.encode())
    if labels is not None:
        digest.update(np.ascontiguousarray(labels).data)
        digest.update(repr(classes).encode())
    return digest.hexdigest()


def fingerprints(inputs: Inputs) -> dict[str, str]:
    """Return a hash of each modality with the provenance, as if there were no other."""
    return {
        name: fingerprint(
            replace(inputs, signals={name: array}, modalities={name: described})
        )
        for (name, array), described in zip(
            inputs.signals.items(), inputs.modalities.values(), strict=True
        )
    }


def folder_name(text: str) -> str:
    """Return a file name for `text`, hardly ever the same for two.

    Folds are checked for that beforehand. It is of plain ASCII, and short enough for
    every file system and what is appended.
    """
    plain = re.fullmatch(r"[a-z0-9-]+((, | )[a-z0-9-]+)*", text)
    if plain and len(text) <= _LONGEST_NAME:
        return text.replace(", ", "__").replace(" ", "_")
    short = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower()[:_LONGEST_NAME]
    return f"{short}-{sha256(text.encode()).hexdigest()[:6]}"


def job_folder(run: Path, fold: str, seed: int | str, method: str) -> Path:
    """Return where a finished job stands in a run's folder."""
    return run / "folds" / folder_name(fold) / f"seed-{seed}" / folder_name(method)


def identity(
    recordings: str, plugins: Sequence[str], texts: Sequence[str] = ()
) -> dict[str, str]:
    """Return what must not change between a run's beginning and its resumption.

    Parameters
    ----------
    recordings : str
        Their `fingerprint`.
    plugins : sequence of str
        Files.
    texts : sequence of str
        Of other parts from outside this package.
    """
    code = sha256()
    for plugin in plugins:
        code.update(Path(plugin).read_bytes())
    for text in texts:
        code.update(text.encode())
    return {
        "recordings": recordings,
        "plugins": code.hexdigest() if plugins or texts else NO_CODE,
        "torch": _version("torch"),
    }


def check_no_link(path: Path) -> None:
    """Refuse to write into a run's folder where that leads to another place.

    Raises
    ------
    ConfigurationError
        If there is a link.
    """
    if path.is_symlink():
        raise ConfigurationError(
            f"{path}: found a link to {os.path.realpath(path)}; expected to write into "
            f"the folder itself, and nothing was written. Name a place with --output."
        )


def rerun(config: Path, plugins: Sequence[str], *more: str) -> str:
    """Return the command that runs a configuration, to be pasted.

    Parameters
    ----------
    config : Path
        A run's folder, or a configuration file.
    plugins : sequence of str
        What the configuration needs: only a command can allow it.
    *more : str
        Further options.
    """
    named = (f"--plugin={plugin}" for plugin in plugins)
    return shlex.join(["domainemo", "adapt", "--config", str(config), *more, *named])


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder, so that two processes never write to it at once.

    What a writer that was killed has left there is removed.

    Raises
    ------
    ConfigurationError
        If another process holds it.
    """
    with files.lock(folder / LOCK, wait=False) as held:
        if not held:
            raise ConfigurationError(
                f"{folder}: another process is running this very configuration here. "
                f"Wait for it or stop it, or give another --output folder."
            )
        files.clear_partial(folder)
        yield


def open_folder(
    folder: Path,
    config: Mapping[str, Any],
    identity: Mapping[str, str],
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Make a run's folder, or check that it is this very run's.

    Where plug-ins have changed since the run began, and nothing that they have a part
    in is finished yet, it goes on with them.

    Parameters
    ----------
    folder : Path
    config : mapping
        The full configuration.
    identity : mapping of str to str
        From `identity`: what must be as it was when the run began.
    facts : mapping, optional
        What else is to be written down where the run begins.

    Raises
    ------
    ConfigurationError
        If the folder holds another run or something else, or a plug-in has changed
        since something in it was finished; nothing is changed.
    DataError
        If the recordings have changed since.
    """
    environment = json.dumps(_environment(identity, facts), indent=1)
    described = tomli_w.dumps(dict(config))
    if _is_begun(folder):
        _restore(folder, {CONFIG: described, ENVIRONMENT: environment})
        _check_same(folder, read_config(folder / CONFIG), config)
        changed = _changed(folder, identity)
        _check_unchanged(folder, changed)
        if changed:
            _begin_anew(folder, environment)
        files.write_recorded(folder / CONFIG, described)
        files.record(folder, ENVIRONMENT)
        return
    files.write_recorded(folder / ENVIRONMENT, environment)
    files.write_recorded(folder / CONFIG, described)


def _is_begun(folder: Path) -> bool:
    """Return whether a run has begun in a folder; refuse one that holds other files."""
    if files.is_expected(folder / CONFIG):
        return True
    # A run that was killed here has left nothing but its environment.
    ours = {ENVIRONMENT, files.RECORD, LOCK}
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(
            f"{folder}: this is a file; expected a folder that is new or empty. Name "
            f"another --output."
        )
    there = folder.iterdir() if folder.exists() else ()
    if any(path.name not in ours and not files.is_partial(path) for path in there):
        raise ConfigurationError(
            f"{folder}: found files but no {CONFIG}, so this is no run's folder; "
            f"nothing was written. Give an --output folder that is new or empty."
        )
    return False


def _restore(folder: Path, wanted: Mapping[str, str]) -> None:
    """Write damaged files anew, where it is known that they held what is wanted."""
    try:
        known = files.records(folder)
    except DataError as error:
        files.set_aside(folder / files.RECORD, str(error))
        return
    for name, content in wanted.items() if known is not None else ():
        path = folder / name
        try:
            files.check(path, _NOT_KNOWN)
        except DataError as error:
            if not files.is_recorded(path, content):
                raise
            files.set_aside(path, str(error).removesuffix(_NOT_KNOWN))
            files.write_recorded(path, content)


def _environment(
    identity: Mapping[str, str], facts: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {
        **identity,
        **(facts or {}),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "gpus": _gpus(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    """Return the processor's name, as papers give it; its kind where it has none."""
    names = _told(Path("/proc/cpuinfo"), "model name")
    return names[0] if names else platform.processor() or platform.machine()


def _gpus() -> list[str]:
    """Return the names of the GPUs, as Linux's driver tells them.

    CUDA would have to be started to tell them, and then keeps memory of each.
    """
    places = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return [name for place in places for name in _told(place, "Model")]


def _told(path: Path, key: str) -> list[str]:
    """Return what a file of the system says after a key; nothing where it is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    parts = [line.partition(":") for line in lines]
    return [" ".join(value.split()) for name, _, value in parts if name.strip() == key]


def _changed(folder: Path, identity: Mapping[str, str]) -> list[str]:
    """Return what is not as it was when the run in a folder began."""
    path = folder / ENVIRONMENT
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return [key for key in identity if known[key] != identity[key]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path}: expected what this run was begun with, but the file is missing "
            f"or damaged. Give a new --output folder."
        ) from error


def _check_unchanged(folder: Path, changed: Sequence[str]) -> None:
    """Refuse a run that has changed, unless code that has finished nothing has."""
    there = _left(folder)
    if not changed or (changed == ["plugins"] and not there):
        return
    kind = DataError if changed == ["recordings"] else ConfigurationError
    more = f" and {len(there) - 1} more" if len(there) > 1 else ""
    what = f" ({there[0].relative_to(folder)}{more})" if there else ""
    named = ", ".join(_CALLED.get(each, each) for each in changed)
    raise kind(
        f"{folder}: changed since this run began: {named}. What is there "
        f"now{what} and what would be made would not fit together. Give a new --output "
        f"folder, or restore what has changed."
    )


def _left(folder: Path) -> list[Path]:
    """Return what a run has finished: jobs, and files of whatever follows them."""
    ours = {CONFIG, ENVIRONMENT, files.RECORD, "folds"}
    jobs = [path for path in _jobs(folder) if _is_of_outside(path)]
    others = [
        path
        for path in folder.iterdir()
        if path.name not in ours and not path.name.startswith(".")
    ]
    return sorted(jobs) + sorted(others)


def _jobs(folder: Path) -> list[Path]:
    """Return the folders of all finished jobs."""
    there = folder.glob("folds/*/*/*")
    return [each for each in there if is_finished_name(each.name)]


def is_finished_name(name: str) -> bool:
    """Return whether a job's folder is neither being made nor set aside as damaged."""
    return re.search(r"\.(partial|damaged(-\d+)?)$", name) is None


def _is_of_outside(job: Path) -> bool:
    """Return whether code from outside may have had a part in a finished job."""
    try:
        return bool(read_json(job / JOB_FACTS).get("outside", True))
    except DataError:  # it will be made anew
        return True


def _begin_anew(folder: Path, environment: str) -> None:
    """Note the code that runs now; trainings that other code began are not gone on."""
    with locked(folder):
        for partial in folder.glob("folds/*/*/*.partial"):
            shutil.rmtree(partial)
        files.write_recorded(folder / ENVIRONMENT, environment)
        begun = origin(folder)
        for job in _jobs(folder):  # which no code from outside had a part in
            facts = read_json(job / JOB_FACTS) | {"origin": begun}
            files.write_recorded(job / JOB_FACTS, json.dumps(facts, indent=1))


def origin(run: Path) -> str:
    """Return a hash of what a run was begun with: its choices, recordings and code.

    No label is in it, for every job is handed it.

    Parameters
    ----------
    run : Path
        The folder of a run, a pre-training or a study.
    """
    environment = read_json(run / ENVIRONMENT)
    known = [environment.get(key) for key in ("signals", "plugins", "torch")]
    content = json.dumps([flat(read_stored_config(run)), *known], default=str)
    # The same number may be written as 1 and as 1.0.
    alike = json.dumps(json.loads(content, parse_int=float), sort_keys=True)
    return sha256(alike.encode()).hexdigest()


def check_job(run: Path, place: Path, facts: Mapping[str, Any]) -> None:
    """Refuse a finished job that was put where another one of this run belongs.

    Parameters
    ----------
    run : Path
        A run's folder; where it has no record, nobody can tell.
    place : Path
        The job's.
    facts : mapping
        What the job's own record says.

    Raises
    ------
    DataError
        If it is another fold's, another method's or another run's.
    """
    if files.records(run) is None:
        return
    exchanged = find_exchange(place, facts, origin(run) if facts.get("origin") else "")
    if exchanged is not None:
        raise exchanged


def find_exchange(
    place: Path, facts: Mapping[str, Any], begun: str
) -> DataError | None:
    """Return what is wrong with a finished job that belongs elsewhere; else None.

    Parameters
    ----------
    place : Path
        The job's folder.
    facts : mapping
        What its own record says.
    begun : str
        The run's :func:`origin`; empty where it is not known.
    """
    path = place / JOB_FACTS
    said = [str(facts.get(key)) for key in ("fold", "adapter", "seed")]
    if "adapter" not in facts:
        said[1] = "pretrained"
    meant = job_folder(place.parents[3], said[0], said[2], said[1])
    if meant != place:
        return data_error(
            path,
            f"the record of {', '.join(said[:2])}, seed {said[2]}",
            f"one of what belongs into {'/'.join(place.parts[-3:])}",
            files.REMEDY,
        )
    if begun and facts.get("origin") not in (None, begun):
        expected = "one of this run"
        return data_error(path, "the record of another run", expected, files.REMEDY)
    return None


def read_stored_config(folder: Path) -> dict[str, Any]:
    """Read the configuration that a run, a pre-training or a study was begun with.

    Raises
    ------
    DataError
        If it is damaged.
    ConfigurationError
        If there is none.
    """
    path = folder / CONFIG
    if files.is_expected(path):
        files.check(path)
    return _parsed(path)


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration file; that of a run's folder must be as it was written.

    Raises
    ------
    ConfigurationError
        If it is missing or no TOML.
    DataError
        If it is a run's, and damaged.
    """
    if path.name == CONFIG and (path.parent / files.RECORD).exists():
        files.check(path, _ITS_RUN)
    return _parsed(path)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return parse_toml(read_text(path))
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: there is no such configuration file. Give the path of a TOML "
            f"file, or a name that `domainemo list studies` shows."
        ) from None
    except Refusal as error:
        raise ConfigurationError(
            f"{path}: expected TOML, but found {error.found}; expected "
            f"{error.expected}. Correct the file."
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            f"{path}: expected TOML, but {error}. Correct the file."
        ) from error


def write_table(folder: Path, name: str, table: pd.DataFrame) -> None:
    """Write a table as Parquet and CSV, and record both."""
    files.write_recorded(folder / f"{name}.csv", table.to_csv(index=False))
    content = BytesIO()
    _for_parquet(table).to_parquet(content, index=False)
    files.write_recorded(folder / f"{name}.parquet", content.getvalue())


def read_table(path: Path, *needed: str) -> pd.DataFrame:
    """Read a Parquet file that must be as it was written.

    Parameters
    ----------
    path : Path
    *needed : str
        Columns that must be there, as nobody may have recorded the file.

    Raises
    ------
    DataError
        If it is missing or damaged, or lacks one of these, or every row.
    """
    table = files.read(path, parse_parquet)
    _expect(path, {str(name): name for name in table}, dict.fromkeys(needed, object))
    if needed and table.empty:
        raise data_error(path, "no rows", "at least one", files.REMEDY)
    return table


def read_tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the scores and the predictions of a finished run.

    Those of newcomers, which have distances beside them, hold no label and no metric.

    Raises
    ------
    DataError
        If one is missing or damaged, or is no such table.
    """
    keys = ("method", "fold", "seed", "subject")
    scores: tuple[str, ...] = ("level", "samples", "modalities", "dataset")
    samples: tuple[str, ...] = ("session", "trial", "predicted")
    if files.is_expected(folder / DISTANCES):
        scores += ("confidence", "changed", "target")
        samples += ("start",)
    else:
        scores += ("balanced_accuracy",)
        samples += ("label",)
    return (
        read_table(folder / "results.parquet", *keys, *scores),
        read_table(folder / "predictions.parquet", *keys, *samples),
    )


def read_distances(folder: Path) -> pd.DataFrame | None:
    """Read how far newcomers lie from the source; None of a run that is scored.

    Raises
    ------
    DataError
        If the table is missing or damaged, or is no such table.
    """
    if not files.is_expected(folder / DISTANCES):
        return None
    values = ("recorded", "normalised")
    return read_table(folder / DISTANCES, "subject", "newcomer", "modality", *values)


def read_csv(path: Path, **options: Any) -> pd.DataFrame:
    """Read a CSV file that must be as it was written.

    Parameters
    ----------
    path : Path
    **options
        Of :func:`pandas.read_csv`.

    Raises
    ------
    DataError
        If it is missing or damaged.
    """
    import pandas as pd

    def parse(content: bytes) -> pd.DataFrame:
        table: pd.DataFrame = pd.read_csv(BytesIO(content), **options)
        return table

    return files.read(path, parse)


def read_arrays(path: Path, *needed: str) -> dict[str, NDArray[Any]]:
    """Read the arrays of an NPZ file that must be as it was written.

    Parameters
    ----------
    path : Path
    *needed : str
        Arrays that must be there, as nobody may have recorded the file.

    Raises
    ------
    DataError
        If it is missing or damaged, or lacks one of these.
    """
    from ..data.files import read_npz

    files.check(path)
    arrays = read_npz(path)
    _expect(path, arrays, dict.fromkeys(needed, object))
    return arrays


def read_json(path: Path, **needed: type) -> dict[str, Any]:
    """Read a JSON file that must be as it was written.

    Parameters
    ----------
    path : Path
    **needed : type
        What must be there, and of which type, as nobody may have recorded the file.

    Raises
    ------
    DataError
        If it is missing or damaged, or lacks one of these.
    """

    def parse(content: bytes) -> dict[str, Any]:
        return dict(parse_json(content))

    found = files.read(path, parse)
    _expect(path, found, needed)
    return found


def _expect(path: Path, found: Mapping[str, Any], needed: Mapping[str, type]) -> None:
    """Refuse a file without what is to be read from it."""
    for name, kind in needed.items():
        if name not in found:
            raise data_error(path, f"no {name!r} in it", "one", files.REMEDY)
        if not isinstance(found[name], kind):
            words = f"{name!r} that is {type(found[name]).__name__}"
            raise data_error(path, words, kind.__name__, files.REMEDY)


def _for_parquet(table: pd.DataFrame) -> pd.DataFrame:
    # Parquet has one type a column; a column of names may mix numbers and text.
    table = table.copy()
    for name in table:
        if table[name].dtype == object:
            table[name] = table[name].map(str, na_action="ignore")
    return table


def _check_same(
    folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]
) -> None:
    apart = differences(flat(found), flat(wanted), "now")
    if apart:
        raise ConfigurationError(
            f"{folder}: this folder belongs to a run with another configuration "
            f"({'; '.join(apart)}). Nothing was overwritten. Give another --output "
            f"folder, or the same configuration to resume."
        )


def differences(
    found: Mapping[str, Any], wanted: Mapping[str, Any], when: str
) -> list[str]:
    """Return in words every key in which two configurations differ."""
    return [
        f"{key}: there {found.get(key, 'unset')!r}, {when} {wanted.get(key, 'unset')!r}"
        for key in differing(found, wanted)
    ]


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return every key in which two configurations differ, in order.

    Of a part that is another one altogether, not its options as well, nor those of
    what it is made of.

    Parameters
    ----------
    one, other : mapping
        As :func:`flat` has them.
    """
    keys = [
        key
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    ]
    within = tuple(f"{key}." for key in keys)
    within += tuple(f"space.{key}" for key in within)
    return [key for key in keys if not key.startswith(within)]


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration without places and limits, its tables beside the rest."""
    kept = {key: value for key, value in config.items() if key not in _PLACES}
    kept |= kept.pop("options", {})
    for table in ("study", "space"):
        inner = kept.pop(table, {})
        kept |= {f"{table}.{key}": value for key, value in inner.items()}
    return {key: value for key, value in kept.items() if key not in _LIMITS}


@cache
def _version(package: str) -> str:
    if package == "domainemo":  # an editable copy's metadata is of its installation
        return __version__
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
