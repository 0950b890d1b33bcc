"""Pairs for pre-training: what different people show at the same moment of a clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import DataError
from ..values import Bounds
from .copies import COPIES

__all__ = ["PairBatch", "Random", "Synchronous"]


@dataclass(frozen=True)
class PairBatch:
    """The pairs of one step.

    Attributes
    ----------
    samples : ndarray of int, shape (pairs, 2, members)
        Sample numbers of the two groups of each pair.
    same : ndarray of bool, shape (pairs, pairs), or None
        Which pairs are no opposites of each other; None where all are.
    copies : ndarray of int, shape (pairs, 2, members), or None
        As which of the copies of :func:`~domainemo.training.copies.copied` each sample
        is shown; None where all are shown as they are.
    """

    samples: NDArray[np.int64]
    same: NDArray[np.bool_] | None = None
    copies: NDArray[np.int64] | None = None


class Synchronous:
    """Draws pairs of groups of subjects who are at the same moment of a stimulus.

    A moment is a stimulus and a sample's start within it, to the millisecond. An epoch
    passes every moment once: its subjects are partitioned at random into groups of
    `members`, without replacement, and the groups into pairs, so that any two subjects
    can meet. (PhysioSync's released code draws from two fixed halves, in which pairs
    within a half never meet.) A subject who was at a moment several times, as where
    sessions repeat a stimulus, takes part with one of these samples, drawn at random.
    No step holds a moment twice, as its pairs would count as each other's opposites.

    With `augment` an epoch passes every moment six times, each time with other groups
    and as another of the copies of :func:`~domainemo.training.copies.copied`, both
    groups as the same one. As released, two copies of a moment may meet in a step, as
    opposites.

    Parameters
    ----------
    moments : DataFrame
        A row per sample: ``subject``, ``stimulus`` and ``start`` of its first window.
    members : int
        Subjects in a group; the published method takes 2.
    exclude_same_stimulus : bool
        Do not count other moments of a pair's stimulus as its opposites.
    augment : bool
        Show each moment as six copies: scaled, and with noise.

    Raises
    ------
    DataError
        If fewer than two moments have enough subjects.
    """

    def __init__(
        self,
        moments: pd.DataFrame,
        *,
        members: Annotated[int, Bounds(1, words="at least 1 member")] = 1,
        exclude_same_stimulus: bool = False,
        augment: bool = False,
    ) -> None:
        self.members, self.exclude_same_stimulus = members, exclude_same_stimulus
        self.augment, self.copies = augment, COPIES if augment else 1
        self.samples = len(moments)
        subjects = pd.factorize(moments["subject"], sort=True)[0]
        stimuli = pd.factorize(moments["stimulus"], sort=True)[0]
        milliseconds = np.rint(moments["start"].to_numpy(dtype=float) * 1000)
        table = pd.DataFrame(
            {"subject": subjects, "stimulus": stimuli, "time": milliseconds}
        )
        place = table.groupby(["stimulus", "time"], sort=True)
        enough = place["subject"].transform("nunique") >= 2 * members
        # A stimulus without a name (-1) cannot be known to be the same.
        used = (enough & (table["stimulus"] >= 0)).to_numpy()
        self._numbers = np.flatnonzero(used).astype(np.int64)
        self._moments = place.ngroup().to_numpy(dtype=np.int64)[used]
        self._subjects = subjects[used].astype(np.int64)
        self._stimuli = stimuli[used].astype(np.int64)
        if self.moments < 2:
            raise DataError(
                f"found {self.moments} moments (a stimulus and a time in it) that at "
                f"least {2 * members} subjects share; expected two or more, as pairs "
                f"are made of different subjects at the same moment. Use a protocol "
                f"whose source holds several subjects who saw the same stimuli, a "
                f"sampling with a shorter stride, or fewer members."
            )

    @property
    def moments(self) -> int:
        """How many moments enough subjects share."""
        return len(np.unique(self._moments))

    def epoch(
        self, batch_size: int, generator: np.random.Generator
    ) -> Sequence[PairBatch]:
        """Return one epoch of pairs in random order.

        Parameters
        ----------
        batch_size : int
            Most pairs of a step.
        generator : numpy.random.Generator
        """
        parts = [self._partition(generator) for _ in range(self.copies)]
        groups, rounds, stimuli = (
            np.concatenate(part) for part in zip(*parts, strict=True)
        )
        copies = np.repeat(np.arange(self.copies), [len(part[0]) for part in parts])
        batches = []
        for number in range(rounds.max() + 1):
            members = generator.permutation(np.flatnonzero(rounds == number))
            steps = -(-len(members) // batch_size)
            batches += np.array_split(members, steps)
        order = generator.permutation(len(batches))
        # A single pair has nothing to be told from.
        batches = [batches[step] for step in order if len(batches[step]) > 1]
        return [
            PairBatch(
                groups[batch],
                stimuli[batch][:, None] == stimuli[batch]
                if self.exclude_same_stimulus
                else None,
                np.broadcast_to(copies[batch][:, None, None], groups[batch].shape)
                if self.augment
                else None,
            )
            for batch in batches
        ]

    def _partition(
        self, generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the pairs, how many of its moment came before each, its stimulus."""
        # One sample of each subject at each moment: the first in a random order.
        luck = generator.random(len(self._numbers))
        order = np.lexsort((luck, self._subjects, self._moments))
        keys = np.stack([self._moments[order], self._subjects[order]])
        order = order[np.r_[True, (np.diff(keys) != 0).any(0)]]
        # The subjects of each moment in a random order, those left over left out.
        luck = generator.random(len(order))
        order = order[np.lexsort((luck, self._moments[order]))]
        moments = self._moments[order]
        _, first, count = np.unique(moments, return_index=True, return_counts=True)
        rank = np.arange(len(order)) - np.repeat(first, count)
        size = 2 * self.members
        kept = rank < np.repeat(count // size * size, count)
        order, rank = order[kept], rank[kept]
        groups = self._numbers[order].reshape(-1, 2, self.members)
        return groups, rank[::size] // size, self._stimuli[order][::size]


class Random(Synchronous):
    """The control: as many pairs in steps of the same sizes, of samples by chance.

    Samples are drawn from all of the source, whatever the subject, the stimulus, the
    time or, with `augment`, the copy, which is what PhysioSync's released cross-subject
    code computes.

    Parameters
    ----------
    moments, members, exclude_same_stimulus, augment
        As for :class:`Synchronous`; `exclude_same_stimulus` has no meaning here.
    """

    def epoch(
        self, batch_size: int, generator: np.random.Generator
    ) -> Sequence[PairBatch]:
        """Return one epoch of pairs in random order."""
        sizes = [len(b.samples) for b in super().epoch(batch_size, generator)]
        wanted = sum(sizes) * 2 * self.members
        everything = self.samples * self.copies
        passes = -(-wanted // everything)
        drawn = [generator.permutation(everything) for _ in range(passes)]
        chosen = np.concatenate(drawn)[:wanted].astype(np.int64)
        chosen = chosen.reshape(-1, 2, self.members)
        return [
            PairBatch(
                batch % self.samples,
                copies=batch // self.samples if self.augment else None,
            )
            for batch in np.split(chosen, np.cumsum(sizes)[:-1])
        ]
