"""eSports Sensors: matches against bots or humans, in windows of features."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ...core import Modality
from ...registry import register
from ...values import given_path
from .shared.windows_file import Stored, Windows, WindowsReader

__all__ = ["Esports"]

ELECTRODES = ("AF3", "T7", "Pz", "T8", "AF4")
"""The five electrodes of the Emotiv Insight headset."""

_STATISTICS = ("logP_mean", "logP_std")
_BANDS = ("theta", "alpha", "betaL", "betaH", "gamma")

FEATURES = tuple(f"{statistic}_{band}" for statistic in _STATISTICS for band in _BANDS)
"""Mean and standard deviation of each band's logarithmic power over the window."""

_COLUMNS = tuple(
    f"{statistic}:{electrode}/{band}"
    for electrode in ELECTRODES
    for statistic in _STATISTICS
    for band in _BANDS
)

EYE = ("log_gaze_mean", "log_gaze_std", "pupil_mean", "pupil_std", "pupil_slope")
"""Movement of the gaze, and the pupil's size."""

PHYSIOLOGY = (
    *("gsr_log_mean", "gsr_log_std", "gsr_log_slope", "hr_mean", "hr_std", "hr_slope"),
    *("emgR_mean", "emgR_std", "emgL_mean", "emgL_std", "spo2_mean", "facetemp_mean"),
)
"""Skin conductance, heart rate, both arms' EMG, oxygen saturation, face temperature."""

BEHAVIOUR = ("log_mouse_mean", "log_mouse_std", "clicks_mean", "keys_mean")
"""Mouse and keyboard."""

_TARGETS = {"opponents": ("bots", "humans"), "load": ("1", "2", "3", "4", "5")}
_TITLES = {
    "opponents": "opponents",
    "load": "reported mental load, matches without a report left out",
}
_PLAYERS = range(10)


@register(name="esports")
class Esports(WindowsReader):
    """Bots or humans as opponents; EEG, eyes, physiology and behaviour of 10 players.

    What is read is not the publisher's recordings but windows of features made from
    them: ``esports_mm/windows_10s.npz``, 10-s windows that do not overlap. The
    publisher offers the recordings at
    https://github.com/smerdov/eSports_Sensors_Dataset (League of Legends; licence:
    Creative Commons Attribution 4.0). Changes made: resampled to 1 s, cut into
    windows, mean, deviation and slope of each, logarithms taken. Cite Smerdov A, Zhou
    B, Lukowicz P, Somov A (2020). Collection and Validation of Psychophysiological
    Data from Professional and Amateur Players: a Multimodal eSports Dataset.
    arXiv:2011.00958.

    ``eeg`` holds mean and standard deviation of the logarithmic band power (the
    publisher gives no raw EEG), ``eye`` gaze and pupil, ``physiology`` skin
    conductance, heart rate, EMG, oxygen saturation and face temperature,
    ``behaviour`` mouse and keyboard; NaN where there is none. A match is trial and
    stimulus at once, a recording day is a session; all are counted from 0, as in the
    file. Subjects 0 to 4 are amateurs, 5 to 9 professionals.

    Two things to know before believing a figure:

    - The class is constant within a match, so that windows of one match on both sides
      of a split tell it. Five players share each match.
    - EEG is there in 34 of 110 times that a player played a match. Mouse and keyboard
      are part of the game itself, which bots play differently.

    Parameters
    ----------
    root : str or Path
        The folder of ``windows_10s.npz``, or the data root above it, in which it lies
        in ``esports_mm``.
    target : {"opponents", "load"}
        What the classes are: bots or humans as opponents, or the mental load, 1 to 5,
        that the player reported after the match. A match that a player did not report
        on is left out.

    Raises
    ------
    ConfigurationError
        If `target` is neither.
    """

    home = "https://github.com/smerdov/eSports_Sensors_Dataset"
    place = ("esports_mm", "windows_10s.npz")
    keys = (
        *("subject", "match", "day", "t0", "y_opponents", "mental_load"),
        *("eeg", "eye", "phys", "beh"),
        *("eeg_names", "eye_names", "phys_names", "beh_names"),
    )

    def __init__(
        self,
        root: str | Path | None,
        *,
        target: Literal["opponents", "load"] = "opponents",
    ) -> None:
        self.root = None if root is None else given_path("root", root)
        self.target = target
        self.classes = _TARGETS[target]

    def windows(self, stored: Stored) -> Windows:
        """Return the windows; for mental load, those of matches with a report."""
        match = stored.whole_numbers("match")
        opponents = stored.whole_numbers("y_opponents", (0, 1))
        load = stored.whole_numbers("mental_load", (-1, 1, 2, 3, 4, 5))
        eeg = stored.signal("eeg", stored.places("eeg_names", _COLUMNS))
        eye = stored.signal("eye", stored.places("eye_names", EYE))
        other = stored.signal("phys", stored.places("phys_names", PHYSIOLOGY))
        behaviour = stored.signal("beh", stored.places("beh_names", BEHAVIOUR))
        windows = Windows(
            subject=stored.whole_numbers("subject"),
            session=stored.whole_numbers("day"),
            trial=match,
            label=opponents if self.target == "opponents" else load - 1,
            stimulus=match,
            start=stored.whole_numbers("t0"),
            signals={
                "eeg": eeg.reshape(len(eeg), len(ELECTRODES), len(FEATURES)),
                "eye": eye[:, :, None],
                "physiology": other[:, :, None],
                "behaviour": behaviour[:, :, None],
            },
            noted={},
        )
        return windows if self.target == "opponents" else windows.take(load >= 1)

    def modalities(self) -> dict[str, Modality]:
        """Describe ``eeg``, ``eye``, ``physiology`` and ``behaviour``."""
        return {
            "eeg": Modality(ELECTRODES, FEATURES, "eeg"),
            "eye": Modality(EYE, ("value",), "eye"),
            "physiology": Modality(PHYSIOLOGY, ("value",), "physiology"),
            "behaviour": Modality(BEHAVIOUR, ("value",), "behaviour"),
        }

    def title(self) -> str:
        """Name the data set, the window and the target."""
        return f"esports (eSports Sensors, 10 s windows, {_TITLES[self.target]})"

    def release(self) -> str:
        """Say of how many players the file holds windows."""
        return (
            f"10 s windows made from the eSports Sensors Dataset, "
            f"{len(_PLAYERS) - len(self.missing())} of {len(_PLAYERS)} players"
        )

    def missing(self) -> list[str]:
        """List the players who are not in the file."""
        present = {recording.subject for recording in self.recordings()}
        return [f"subject {each}" for each in _PLAYERS if each not in present]
