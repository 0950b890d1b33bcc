"""``domainemo report``: a finished run, or a study, as one page that people read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ConfigurationError, DomainemoError
from ..files import doubted
from . import options as use
from .stopping import interruptible
from .terminal import echo

if TYPE_CHECKING:
    from ..review.reading import Recordings

__all__ = ["report"]


def report(
    folder: Annotated[
        Path, typer.Argument(help="Folder of a finished `adapt`, or of a `tune`.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="The page to write; by default report.html in the folder."),
    ] = None,
    data_root: Annotated[
        str | None,
        typer.Option(help="Folder of the recordings, where it has been moved."),
    ] = None,
    recordings: Annotated[
        bool,
        typer.Option(help="Read a run's recordings again, for what needs them."),
    ] = True,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Where a study is kept, if not in its folder; it is only read."
        ),
    ] = None,
    plugin: use.Plugin = None,
    cache: use.Cache = True,
) -> None:
    """Write a report: one self-contained HTML file, and its figures and tables.

    Figures (SVG and PDF) and tables (CSV) go to a folder beside the page, of the same
    name. Nothing is trained. Without its recordings, a run's report lacks embeddings
    and attention, and says so. That of people whose labels nobody knows never reads
    any, and has no figure that would need a label.
    """
    from ..runs.folder import check_no_link

    path = output or folder / "report.html"
    if path.suffix.lower() != ".html":
        raise ConfigurationError(
            f"{path}: found the ending {path.suffix!r}; expected a page's, .html."
        )
    if output is None:
        check_no_link(path.with_suffix(""))
    with interruptible(), doubted(folder):
        use.import_plugins(plugin)
        if _is_study(folder):
            from ..reports.study import write_study_report

            written = write_study_report(folder, path, storage)
        else:
            written = _write_run_report(folder, path, data_root, recordings, cache)
    echo(
        f"{written[0]} is the report; its figures and tables are in "
        f"{path.with_suffix('')}."
    )


def _is_study(folder: Path) -> bool:
    """Return whether a folder is a study's; raise where it is no run's either."""
    from ..files import is_expected
    from ..runs.folder import CONFIG, read_stored_config

    path = folder / CONFIG
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


def _write_run_report(
    folder: Path, path: Path, data_root: str | None, wanted: bool, cache: bool
) -> list[Path]:
    from ..reports.run import write_run_report
    from ..review.reading import read_results

    scored = read_results(folder).scored  # before anything large is read
    if data_root is not None and not scored:
        raise ConfigurationError(
            f"--data-root {data_root}: this run is of people whose labels nobody "
            f"knows, and their report reads no recordings again. Leave it out."
        )
    found, missing = None, "they were left out by --no-recordings"
    if wanted and scored:
        try:
            found = _recordings(folder, data_root, cache)
        except DomainemoError as error:
            if data_root is not None:
                raise
            missing = f"they could not be had: {str(error).rstrip('.')}"
            echo(
                f"Note: the recordings of this run could not be had, so its report "
                f"lacks what needs them. {error}",
                err=True,
                lines=True,
            )
    return write_run_report(
        folder,
        path,
        recordings=found,
        missing=missing,
        on_network=lambda name: echo(name, err=True),
    )


def _recordings(folder: Path, data_root: str | None, cache: bool) -> Recordings:
    from ..review.reading import match_recordings
    from .configuration import stored_experiment

    experiment = stored_experiment(folder)
    return match_recordings(
        folder,
        use.recordings_of_run(folder, data_root, cache, "reports.run.write_run_report"),
        experiment,
    )
