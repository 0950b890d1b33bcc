"""Write the report of a run or a study: for the command, and from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, DomainemoError
from ..values import check_value, given_path

if TYPE_CHECKING:
    from ..core import EmotionData
    from ..review.reading import Recordings

__all__ = ["report"]


def report(
    folder: str | Path,
    output: str | Path | None = None,
    *,
    recordings: EmotionData | bool = True,
    data_root: str | Path | None = None,
    storage: str | None = None,
    cache: bool = True,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Write a report: one self-contained HTML file, and its figures and tables.

    This is ``domainemo report``. Figures (SVG and PDF) and tables (CSV) go to a folder
    beside the page, of the same name. Nothing is trained.

    Parameters
    ----------
    folder : path
        Of a finished run, or of a study.
    output : path, optional
        The page; by default ``report.html`` in the folder.
    recordings : EmotionData or bool
        Those of the run, which embeddings and attention need; True reads them again
        where the run's configuration names them, and False does without.
    data_root : path, optional
        Where they are now, if not where the run found them.
    storage : str, optional
        Where a study is kept, if not in its folder; it is only read.
    cache : bool
        Keep what was read on disk for the next time.
    tell : callable, optional
        Told in a sentence what the report lacks, and whose network it looks at.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ConfigurationError
        If the folder is none of these, or the page is no .html, or another file.
    """
    from ..runs.folder import check_no_link

    check_value("tell", tell, Callable | None)
    folder = given_path("folder", folder)
    path = folder / "report.html"
    if output is not None:
        path = given_path("output", output, "a file")
    if path.suffix.lower() != ".html":
        raise ConfigurationError(
            f"{path}: found the ending {path.suffix!r}; expected a page's, .html."
        )
    if output is None:
        check_no_link(path.with_suffix(""))
    else:
        _check_free(path)
    if _is_study(folder):
        from ..reports.study import write_study_report

        return write_study_report(folder, path, storage)[0]
    place = None if data_root is None else str(given_path("data_root", data_root))
    return _of_run(folder, path, place, recordings, cache, tell or (lambda text: None))


def _check_free(path: Path) -> None:
    """Refuse a page that would replace what no report wrote, itself or beside it."""
    from ..reports.page import is_report

    beside = path.with_suffix("")
    if path.is_file():
        if not is_report(path):
            raise ConfigurationError(
                f"{path}: this file exists, is no report, and was not overwritten; "
                f"name another one."
            )
    elif beside.exists() and not (beside.is_dir() and not any(beside.iterdir())):
        raise ConfigurationError(
            f"{beside}: the figures and tables of {path.name} would go there, and "
            f"other files are there already; nothing was overwritten. Name another "
            f"page, such as {beside.name}-report.html."
        )


def _is_study(folder: Path) -> bool:
    """Return whether a folder is a study's; raise where it is no run's either."""
    from ..files import is_expected
    from ..runs.folder import CONFIG, read_stored_config

    path, page = folder / CONFIG, folder / "report.html"
    if (folder / "benchmark.toml").is_file():
        there = f", whose page is {page}" if page.is_file() else ""
        raise ConfigurationError(
            f"{folder}: this is the folder of a benchmark{there}; expected that of an "
            f"`adapt` or a `tune`, such as one of its cells below {folder / 'cells'}."
        )
    if not is_expected(path):
        raise ConfigurationError(
            f"{folder}: found no {CONFIG}; expected the folder of a finished "
            f"`domainemo adapt`, or of a `domainemo tune`."
        )
    config = read_stored_config(folder)
    if "pairs" in config:
        raise ConfigurationError(
            f"{folder}: this is the folder of a pre-training, which predicts nothing "
            f"to report; give that of an `adapt` or a `tune`."
        )
    return "study" in config


def _of_run(
    folder: Path,
    path: Path,
    data_root: str | None,
    given: EmotionData | bool,
    cache: bool,
    tell: Callable[[str], None],
) -> Path:
    from ..reports.run import write_run_report
    from ..runs.results import Results

    scored = Results.load(folder).scored  # before anything large is read
    if data_root is not None and not scored:
        raise ConfigurationError(
            f"--data-root {data_root}: this run is of people whose labels nobody "
            f"knows, and their report reads no recordings again. Leave it out."
        )
    found, missing = None, "they were left out by --no-recordings"
    if given is not False and scored:
        try:
            found = _recordings(folder, data_root, given, cache)
        except DomainemoError as error:
            if data_root is not None or given is not True:
                raise
            missing = f"they could not be had: {str(error).rstrip('.')}"
            tell(
                f"Note: the recordings of this run could not be had, so its report "
                f"lacks what needs them. {error}"
            )
    return write_run_report(
        folder, path, recordings=found, missing=missing, on_network=tell
    )[0]


def _recordings(
    folder: Path, data_root: str | None, given: EmotionData | bool, cache: bool
) -> Recordings:
    from ..review.reading import match_recordings
    from .configuration import stored_experiment
    from .options import recordings_of_run

    experiment = stored_experiment(folder)
    if isinstance(given, bool):
        given = recordings_of_run(
            folder, data_root, cache, "report(FOLDER, recordings=DATA)"
        )
    return match_recordings(folder, given, experiment)
