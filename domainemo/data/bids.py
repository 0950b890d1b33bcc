"""Recordings in the Brain Imaging Data Structure, read by mne-bids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core import Dataset, EmotionData
from ..errors import ConfigurationError, data_error
from ..registry import register
from ..values import given_path
from ..words import natural
from .clips import Bads, Bands, Cut, Feature, bands_of
from .raw import Clipping, Duration
from .recorded import Sitting, of_sittings
from .signals.features import BANDS

__all__ = ["BIDS", "from_bids"]

_EXTENSIONS = [".edf", ".bdf", ".vhdr", ".set", ".fif"]


def from_bids(
    root: str | Path,
    labels: str | None = None,
    *,
    task: str | None = None,
    stimulus: str | None = None,
    events: Sequence[str] | Mapping[str, str] | None = None,
    duration: Duration = None,
    feature: Feature = "de",
    bands: Bands = BANDS,
    window: float = 4.0,
    step: float | None = None,
    resample: float | None = None,
    bads: Bads = "interpolate",
    classes: Sequence[str] | None = None,
    name: str | None = None,
) -> EmotionData:
    """Make recordings out of the EEG of a BIDS folder.

    Subjects and sessions are BIDS' own; the runs of a session are one sitting, whose
    trials count on. Events come from ``events.tsv``, types of channels and bad ones
    from ``channels.tsv``. One file is in memory at a time. It needs mne-bids, which the
    extra ``bids`` installs.

    Parameters
    ----------
    root : path
        The folder that holds ``sub-*``.
    labels : str, optional
        The column of ``events.tsv`` that holds the label. The events' names
        (``trial_type``), or what `events` makes of them, where it is not given. Clips
        of which it says ``n/a`` are left out, and the name of the recordings says so.
    task : str, optional
        Of several tasks, the one to read.
    stimulus : str, optional
        The column of ``events.tsv`` that says what was shown.
    events, duration, feature, bands, window, step, resample, bads, classes
        As for :func:`domainemo.from_raw`.
    name : str, optional
        What the recordings are; the folder's name by default.

    Returns
    -------
    EmotionData

    Raises
    ------
    ConfigurationError
        If mne-bids is not installed, or an option does not fit.
    DataError
        If there is no EEG, several tasks and none is named, or a file cannot be read or
        does not fit the others.

    Examples
    --------
    >>> data = from_bids("ds002721", "emotion", task="film", stimulus="stim_file")
    """
    root = given_path("root", root)
    return of_sittings(
        _sittings(root, task),
        None if labels == "trial_type" else labels,  # which is the description
        stimulus,
        Cut(feature, bands_of(bands, name or "from_bids"), window, step, bads),
        Clipping(events, duration, resample),
        classes,
        name or root.resolve().name or "BIDS recordings",
    )


def _sittings(root: Path, task: str | None) -> list[Sitting]:
    """Return the recordings of EEG, in order of subject, session and run."""
    library = _library()
    if not root.is_dir():
        raise data_error(root, "no such folder", "a BIDS folder", "Correct it.")
    try:
        paths = library.find_matching_paths(
            root, datatypes="eeg", suffixes="eeg", extensions=_EXTENSIONS
        )
    except Exception as error:  # of a name that is none of BIDS
        detail = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise data_error(
            root,
            f"a folder that mne-bids cannot read ({detail.rstrip('.')})",
            "names as BIDS has them",
            "Look at it with the BIDS validator.",
        ) from error
    paths = [path for path in paths if path.split in (None, "01")]
    tasks = sorted({str(path.task) for path in paths})
    chosen = [path for path in paths if task is None or path.task == task]
    if not chosen:
        raise data_error(
            root,
            f"EEG of the tasks {', '.join(tasks)}" if tasks else "no EEG",
            f"some of the task {task!r}" if tasks else "sub-*/eeg/*_eeg.* in it",
            "Name another task." if tasks else "Name the folder that holds sub-*.",
        )
    if len({str(path.task) for path in chosen}) > 1:
        raise data_error(
            root,
            f"EEG of {len(tasks)} tasks: {', '.join(tasks)}",
            "one of them",
            "Name it with task.",
        )
    chosen.sort(
        key=lambda path: [
            natural(each or "") for each in (path.subject, path.session, path.run)
        ]
    )
    return [
        Sitting(path.subject, path.session or "1", Path(path.fpath), _reader(path))
        for path in chosen
    ]


def _library() -> Any:
    try:
        import mne_bids
    except ImportError as error:
        raise ConfigurationError(
            f"BIDS folders are read by mne-bids, which cannot be imported: {error}. "
            f"Install it with pip install 'domainemo[bids]'."
        ) from error
    return mne_bids


def _reader(path: Any) -> Any:
    def read() -> tuple[Any, list[str]]:
        raw = _library().read_raw_bids(path, verbose="error")
        return raw.load_data(verbose="error"), []

    return read


@register(name="bids")
class BIDS(Dataset):
    """The EEG of a BIDS folder, read by mne-bids, an extra; see `from_bids`.

    Parameters
    ----------
    root : path
        The folder that holds ``sub-*``.
    labels : str, optional
        The column of ``events.tsv`` that holds the label; ``trial_type`` by default.
    task : str, optional
        Of several tasks, the one to read.
    stimulus : str, optional
        The column of ``events.tsv`` that says what was shown.
    events : sequence of str or mapping of str to str, optional
        The events that are clips; all by default.
    duration : float or "next", optional
        Of a clip, where events are markers.
    feature : {"de", "psd", "raw"}
        Differential entropy, power spectral density, or samples.
    bands : tuple of str
        Names of :data:`~domainemo.data.signals.features.BANDS`.
    window : float
        Length of a window in seconds.
    step : float, optional
        Seconds from one window to the next; by default they follow one another.
    resample : float, optional
        Sampling rate in Hz to resample to.
    bads : {"interpolate", "nan", "drop"}
        What becomes of channels that are marked as bad.

    Raises
    ------
    ConfigurationError
        If no folder is given, or an option does not fit.
    """

    def __init__(
        self,
        root: str | Path | None,
        *,
        labels: str | None = None,
        task: str | None = None,
        stimulus: str | None = None,
        events: Sequence[str] | Mapping[str, str] | None = None,
        duration: Duration = None,
        feature: Feature = "de",
        bands: tuple[str, ...] = tuple(BANDS),
        window: float = 4.0,
        step: float | None = None,
        resample: float | None = None,
        bads: Bads = "interpolate",
    ) -> None:
        if root is None:
            raise ConfigurationError(
                "The dataset 'bids' needs the folder to read; found none. Give it with "
                "--data-root FOLDER, or root= in Python."
            )
        self.root = given_path("root", root)
        self.labels, self.task = labels, task
        self.stimulus, self.events, self.duration = stimulus, events, duration
        self.feature, self.bands, self.bads = feature, tuple(bands), bads
        self.window, self.step, self.resample = window, step, resample
        bands_of(self.bands, "The dataset 'bids'")

    def load(self) -> EmotionData:
        """Read every file, and make features of its clips.

        Returns
        -------
        EmotionData

        Raises
        ------
        ConfigurationError, DataError
            As :func:`from_bids`.
        """
        return from_bids(
            self.root,
            self.labels,
            task=self.task,
            stimulus=self.stimulus,
            events=self.events,
            duration=self.duration,
            feature=self.feature,
            bands=bands_of(self.bands, "The dataset 'bids'"),
            window=self.window,
            step=self.step,
            resample=self.resample,
            bads=self.bads,
        )
