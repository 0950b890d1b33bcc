"""Which channels of recordings are used: by name, or by whether everybody has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..core import Inputs, Modality, canonical_name, spelling
from ..errors import ConfigurationError, did_you_mean
from ..words import listed, quoted
from .soundness import lost_channels

__all__ = ["LACKING", "choose_channels", "without_the_same"]

LACKING = "lacking"
"""In place of a channel to leave out: those that any subject lacks."""

Channels = dict[str, list[str]]
"""By modality."""


def choose_channels(
    inputs: Inputs,
    wanted: Sequence[str] | None = None,
    unwanted: Sequence[str] = (),
    *,
    modalities: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    beside: Inputs | None = None,
) -> tuple[Inputs, str]:
    """Return recordings with some channels alone, in the recordings' own order.

    A channel is named ``"Cz"``, or ``"eeg/Cz"`` where several modalities have one of
    that name; electrodes in any spelling, also the old names (T3 is T7).

    Parameters
    ----------
    inputs : Inputs
    wanted : sequence of str, optional
        The channels to use. A modality of which none is named keeps all of its own.
    unwanted : sequence of str
        The channels to leave out; ``"lacking"`` stands for those of which a subject
        has no value, while others of the modality are there.
    modalities : sequence of str, optional
        Those that are used; all by default.
    exclude : sequence of str
        Subjects that are left out, and whose lost channels so matter to nobody.
    beside : Inputs, optional
        Other people that are adapted to. Their lost channels count, too, and channels
        that they were never recorded with.

    Returns
    -------
    inputs : Inputs
    words : str
        What is left, or left out, of each modality; empty where all is.

    Raises
    ------
    ConfigurationError
        For a name that no channel has, or several have, or that is of a modality that
        is not used; and if a modality has no channel left.
    """
    used = [n for n in inputs.modalities if modalities is None or n in modalities]
    before = {name: list(inputs.modalities[name].channels) for name in used}
    kept = dict(before)
    if wanted is not None:
        chosen = _resolved(inputs, wanted, "use")
        _check_used(inputs, chosen, used)
        kept |= {n: [c for c in before[n] if c in chosen[n]] for n in chosen}
    names = [each for each in unwanted if not _is_lacking(inputs, each)]
    out = _resolved(inputs, names, "leave out")
    lost: Channels = {}
    if len(names) < len(unwanted):
        lost = _lacking(inputs, kept, exclude, beside)
    for name in used:
        gone = {*out.get(name, ()), *lost.get(name, ())}
        kept[name] = [each for each in kept[name] if each not in gone]
        if not kept[name]:
            raise ConfigurationError(
                f"{inputs.name}: with {', '.join(unwanted)} left out, {name!r} has no "
                f"channel at all; leave the modality out with --modalities."
            )
    return _with_channels(inputs, kept), _told_of_channels(before, kept, lost)


def _is_lacking(inputs: Inputs, entry: str) -> bool:
    """Return whether an entry is the word for lost channels, and no channel's name."""
    return entry == LACKING and not _having(inputs, entry)


def _resolved(inputs: Inputs, entries: Sequence[str], purpose: str) -> Channels:
    """Return the channels that are named, by modality, as the recordings spell them."""
    found: Channels = {}
    for entry in entries:
        places = _having(inputs, entry)
        if not places:
            there = [
                *(f"{n}/{c}" for n, m in inputs.modalities.items() for c in m.channels),
                *(c for m in inputs.modalities.values() for c in m.channels),
            ]
            listing = "; ".join(
                f"{name}: {quoted(each.channels)}"
                for name, each in inputs.modalities.items()
            )
            raise ConfigurationError(
                f"{inputs.name}: there is no channel {entry!r} to {purpose}."
                f"{did_you_mean(entry, there)} Found {listing}."
            )
        if len(places) > 1:
            shown = [f"{name}/{channel}" for name, channel in places]
            raise ConfigurationError(
                f"{inputs.name}: {listed(shown)} are called {entry!r}; say which one "
                f"to {purpose}, such as {shown[0]}."
            )
        ((name, channel),) = places
        found.setdefault(name, []).append(channel)
    return found


def _having(inputs: Inputs, entry: str) -> list[tuple[str, str]]:
    """Return every modality and channel that an entry may mean."""
    found = []
    for name, modality in inputs.modalities.items():
        call = _call(modality)
        bare = entry.removeprefix(f"{name}/")
        for channel in modality.channels:
            if call(channel) in (call(entry), call(bare)):
                found.append((name, channel))
    return found


def _call(modality: Modality) -> Callable[[str], str]:
    """Return what is the same for all spellings of a channel."""
    return canonical_name if modality.kind == "eeg" else spelling


def _check_used(inputs: Inputs, chosen: Channels, used: Sequence[str]) -> None:
    for name in chosen:
        if name not in used:
            raise ConfigurationError(
                f"{inputs.name}: {', '.join(chosen[name])} to use is of {name!r}, "
                f"which is not among the modalities that are used ({', '.join(used)}). "
                f"Name both, or neither (--channels, --modalities)."
            )


def _lacking(
    inputs: Inputs, kept: Channels, exclude: Sequence[str], beside: Inputs | None
) -> Channels:
    """Return the channels that any subject lacks, of those that are there still."""
    lost = _lost(inputs, exclude)
    if beside is not None:
        others = {spelling(name): name for name in beside.modalities}
        gone = _lost(beside, ())
        for name in kept:
            theirs = others.get(spelling(name))
            if theirs is None:
                continue  # the modality itself is left out, as nobody there has it
            call = _call(inputs.modalities[name])
            channels = beside.modalities[theirs].channels
            there = {call(c) for c in channels if c not in gone.get(theirs, ())}
            lost.setdefault(name, []).extend(
                c for c in kept[name] if call(c) not in there
            )
    found = {n: [c for c in kept[n] if c in lost.get(n, ())] for n in kept}
    return {name: channels for name, channels in found.items() if channels}


def _lost(inputs: Inputs, exclude: Sequence[str]) -> Channels:
    """Return the channels of which some subject has no value, by modality."""
    subjects = inputs.windows["subject"].astype(str).to_numpy()
    found: Channels = {}
    for name, array in inputs.signals.items():
        channels = np.array(inputs.modalities[name].channels)
        gone = np.zeros(len(channels), dtype=bool)
        for subject in set(subjects) - set(exclude):
            there = ~np.isnan(array[subjects == subject])
            gone |= lost_channels(there.any(2).sum(0))
        found[name] = channels[gone].tolist()
    return found


def without_the_same(
    inputs: Inputs, before: Mapping[str, Modality], after: Mapping[str, Modality]
) -> Inputs:
    """Return other recordings without the channels that were left out of the first.

    Parameters
    ----------
    inputs : Inputs
        Whatever its modalities and channels are called.
    before, after : mapping of str to Modality
        What the first had, and has.
    """
    ours = {spelling(name): name for name in before}
    kept: Channels = {}
    for name, modality in inputs.modalities.items():
        same = ours.get(spelling(name))
        if same is None:
            continue
        call = _call(before[same])
        out = {*map(call, before[same].channels)} - {*map(call, after[same].channels)}
        left = [each for each in modality.channels if call(each) not in out]
        if left:  # else nothing is in common, which is told where the two are matched
            kept[name] = left
    return _with_channels(inputs, kept)


def _with_channels(inputs: Inputs, kept: Channels) -> Inputs:
    modalities, signals = dict(inputs.modalities), dict(inputs.signals)
    for name, channels in kept.items():
        known = modalities[name].channels
        if len(channels) < len(known):
            modalities[name] = replace(modalities[name], channels=tuple(channels))
            signals[name] = signals[name][:, [known.index(each) for each in channels]]
    if modalities == inputs.modalities:
        return inputs
    return replace(inputs, signals=signals, modalities=modalities)


def _told_of_channels(before: Channels, kept: Channels, lost: Channels) -> str:
    parts = []
    for name, channels in before.items():
        out = [each for each in channels if each not in kept[name]]
        if not out:
            continue
        few = len(kept[name]) <= len(out)
        told = (
            f"{name}: {', '.join(kept[name])} alone"
            if few
            else f"{name} without {', '.join(out)}"
        )
        if name in lost:
            told += f" (somebody lacks {', '.join(lost[name])})"
        parts.append(told)
    return "; ".join(parts)
