"""SSVEP exoskeleton: which flicker was looked at, in windows of features."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core import Modality
from ...registry import register
from ...values import given_path
from .shared.windows_file import Stored, Windows, WindowsReader

__all__ = ["SSVEPExo"]

CLASSES = ("rest", "13Hz", "21Hz", "17Hz")
"""Class names, in the order of their numbers in the file."""

STIMULI = (4, 1, 3, 2)
"""What stands for the stimulus of each class: a number, in the order of their names, as
the name itself would be shown where no label may be."""

ELECTRODES = ("Oz", "O1", "O2", "PO3", "POz", "PO7", "PO8", "PO4")
"""The eight electrodes over the visual cortex."""

FEATURES = (
    *("logP_13Hz", "logP_17Hz", "logP_21Hz", "logP_26Hz", "logP_34Hz", "logP_42Hz"),
    *("DE_4-8Hz", "DE_8-12Hz", "DE_14-31Hz", "DE_31-45Hz"),
)
"""Power at the flickers' frequencies and their doubles; entropy of four bands."""

_SUBJECTS = range(1, 13)


@register(name="ssvep-exo")
class SSVEPExo(WindowsReader):
    """Which flicker was looked at, or none; 8-channel EEG of 12 subjects.

    What is read is not the publisher's recordings but windows of features made from
    them: ``ssvep_exo/features.npz``. The publisher offers the recordings (256 Hz) at
    https://github.com/sylvchev/dataset-ssvep-exoskeleton (licence: CC0 1.0). Changes
    made: of each trial three windows of 2 s, which overlap, starting 1, 2 and 3 s
    after the cue; of each the logarithm of the power within 0.5 Hz of six frequencies
    and the differential entropy of four bands. Left out: two recordings of subject 12,
    and one of subject 7 whose samples are those of a recording of subject 3. Cite
    Kalunga EK, Chevallier S et al., dataset-ssvep-exoskeleton, at that address.

    Sessions and trials are counted from 0 as in the file, trials on and on through all
    subjects. A session is one recording of 32 trials; several recordings of a subject
    may be of one day, minutes apart, though the publisher speaks of different days.

    Parameters
    ----------
    root : str or Path
        The folder of ``features.npz``, or the data root above it, in which it lies in
        ``ssvep_exo``.
    include_excluded : bool
        Whether to read the five recordings, too, that the authors left out of their
        own analysis.

    Raises
    ------
    ConfigurationError
        If `include_excluded` is neither True nor False.
    """

    home = "https://github.com/sylvchev/dataset-ssvep-exoskeleton"
    place = ("ssvep_exo", "features.npz")
    keys = (
        *("subject", "session", "trial", "window_start", "y", "X"),
        *("excluded_by_authors", "class_names", "channels", "feature_names"),
    )
    classes = CLASSES

    def __init__(
        self, root: str | Path | None, *, include_excluded: bool = False
    ) -> None:
        self.root = None if root is None else given_path("root", root)
        self.include_excluded = include_excluded

    def windows(self, stored: Stored) -> Windows:
        """Return the windows; those the authors left out only where asked for."""
        # The file numbers its classes by its own list of names.
        here = np.argsort(stored.places("class_names", CLASSES))
        label = here[stored.whole_numbers("y", range(len(CLASSES)))]
        excluded = stored.rows("excluded_by_authors", "b", "True or False")
        windows = Windows(
            subject=stored.whole_numbers("subject"),
            session=stored.whole_numbers("session"),
            trial=stored.whole_numbers("trial"),
            label=label,
            stimulus=np.array(STIMULI)[label],
            start=stored.whole_numbers("window_start"),
            signals={
                "eeg": stored.signal(
                    "X",
                    stored.places("channels", ELECTRODES),
                    stored.places("feature_names", FEATURES),
                )
            },
            noted={"left out by the authors": excluded},
        )
        return windows if self.include_excluded else windows.take(~excluded)

    def modalities(self) -> dict[str, Modality]:
        """Describe ``eeg``."""
        return {"eeg": Modality(ELECTRODES, FEATURES, "eeg", span=2.0)}

    def title(self) -> str:
        """Name the data set, the window and whether all recordings are read."""
        which = "all recordings" if self.include_excluded else "the authors' selection"
        return f"ssvep-exo (SSVEP exoskeleton, 2 s windows, {which})"

    def release(self) -> str:
        """Say of how many subjects the file holds windows."""
        return (
            f"2 s windows made from dataset-ssvep-exoskeleton, "
            f"{len(_SUBJECTS) - len(self.missing())} of {len(_SUBJECTS)} subjects"
        )

    def missing(self) -> list[str]:
        """List the subjects who are not in the file."""
        present = {recording.subject for recording in self.recordings()}
        return [f"subject {each}" for each in _SUBJECTS if each not in present]
