"""Write a trained fold as a file of its own: for the command, and from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import ConfigurationError
from ..values import check_value, given_path
from .names import check_run

if TYPE_CHECKING:
    from ..core import EmotionData
    from ..review.reading import Recordings
    from ..runs.experiment import Experiment

__all__ = ["export"]


def export(
    folder: str | Path,
    to: Literal["onnx", "torch"] = "onnx",
    output: str | Path | None = None,
    *,
    fold: str | None = None,
    adapter: str | None = None,
    seed: int | None = None,
    recordings: EmotionData | bool = True,
    data_root: str | Path | None = None,
    cache: bool = True,
    tell: Callable[[str], None] | None = None,
) -> Path:
    """Write one file of a trained fold that is run without this library.

    This is ``domainemo export``. The file takes windows as recorded and gives
    probabilities; the statistics of normalisation, the names of the classes and how it
    came about are in it. A model card (Markdown) is written beside it.

    Parameters
    ----------
    folder : path
        Of a finished run, or of :func:`~domainemo.train`.
    to : {"onnx", "torch"}
        For ONNX runtimes (``.onnx``), or for torch alone (``.pt2``).
    output : path, optional
        The file; by default one named by the fold, in the folder.
    fold, adapter, seed
        Which of several models; the run's own adapter by default.
    recordings : EmotionData or bool
        Those of the run, by which its target is normalised and the file checked; True
        reads them again where the run's configuration names them, and False does
        without: the file then knows the source's statistics alone.
    data_root : path, optional
        Where they are now, if not where the run found them.
    cache : bool
        Keep what was read on disk for the next time.
    tell : callable, optional
        Told in a sentence how near the file is to the run.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ConfigurationError
        If no trained fold fits, or several do; a file is there already; a library is
        missing; or the normalisation or the network cannot be written as such a file.
    DataError
        If these are not the run's recordings, or a file is damaged.
    RunError
        If the file does not predict what the run predicted; nothing is written then.

    Examples
    --------
    >>> export("first-run", "onnx", "model.onnx", fold="subject 1")
    """
    check_value("tell", tell, Callable | None)
    run = given_path("folder", folder)
    check_run(run)
    from ..review.export import export_fold
    from .configuration import stored_experiment

    experiment = stored_experiment(run)
    path, told = export_fold(
        run,
        experiment,
        to,
        None if output is None else given_path("output", output, "a file"),
        recordings=_recordings(run, experiment, recordings, data_root, cache),
        fold=fold,
        adapter=adapter,
        seed=seed,
    )
    if tell is not None:
        tell(told)
    return path


def _recordings(
    run: Path,
    experiment: Experiment,
    given: EmotionData | bool,
    data_root: str | Path | None,
    cache: bool,
) -> Recordings | None:
    """Return a run's recordings; None where they were not asked for, or test nobody."""
    from ..review.reading import match_recordings
    from .options import recordings_of_run

    protocol = experiment.protocol.build()
    if protocol.takes_target or not protocol.scored:
        if data_root is not None or not isinstance(given, bool):
            raise ConfigurationError(
                f"{run}: nobody in its labelled recordings was tested, and no "
                f"recordings are read again; expected none. Leave them out."
            )
        return None
    if given is False:
        return None
    if given is True:
        place = None if data_root is None else str(given_path("data_root", data_root))
        given = recordings_of_run(run, place, cache, "export(FOLDER, recordings=DATA)")
    return match_recordings(run, given, experiment)
